//! Policies that ship inside the binary, with all that a route can say beside them: what the examples
//! of their READMEs set up, tried by clients who are not alike.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::grants::by_authorization;
use crate::support::client::Got;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Asked, Origin, Reply, ok};
use crate::support::pki::Pki;
use crate::support::program::larder;
use crate::support::{secs, until};
use crate::tokens::{SECRET, bearer, by_secret, token};

const STORED: &str = "fwd=uri-miss; stored";
const FORWARD: [&str; 2] = ["all", "keyed"];

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The examples of configuration in a document.
fn examples(file: &str) -> Vec<String> {
    let text = read(file);
    let blocks = text.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The first example of a plugin's README, before this origin and on any machine, with more lines for
/// its route.
fn setup(origin: &Origin, plugin: &str, lines: &str) -> Setup {
    let example = examples(&format!("plugins/{plugin}/README.md")).remove(0);
    let example = example
        .replace("upstream     = \"api\"", "upstream = \"origin\"")
        .replace("upstream = \"api\"", "upstream = \"origin\"")
        .replace("\nconfig =", "\ntime = \"10s\"\nconfig =");
    // The lines of the last table, which is the route.
    let jwt = if example.contains("jwt ") { staff() } else { String::new() };
    Gateway::setup(origin)
        .server("workers = 1\nwatch = false")
        .routes(&format!("{jwt}\n{example}{lines}\n"))
}

/// The issuer of the example's tokens.
fn staff() -> String {
    format!("[jwt.staff]\nleeway = \"0s\"\nissuer = \"https://login.test\"\n{}\n", by_secret())
}

// Tenants.

/// A token of the example's issuer.
fn of(tenant: &str, user: u32) -> String {
    bearer(&json!({ "iss": "https://login.test", "tenant": tenant, "sub": user }).to_string())
}

/// Says whose token came.
fn whose(asked: &Asked) -> Reply {
    ok(asked.field("authorization").unwrap_or_default()).max_age(600)
}

async fn with_token(gateway: &Gateway, target: &str, token: &str) -> Got {
    gateway.ask("GET", target).field("authorization", token).send().await.code(200)
}

#[tokio::test]
async fn tenants_by_their_claim_share_within_and_never_across() {
    for forward in FORWARD {
        let origin = Origin::start().await;
        for target in ["/api/users", "/api/users?page=2"] {
            origin.on(target).answer(whose);
        }
        origin
            .on("/api/mine")
            .answer(|asked| whose(asked).field("cache-control", "private, max-age=600"));
        let lines = format!("forward = \"{forward}\"");
        let gateway = setup(&origin, "tenant", &lines).start().await;
        let ask = |target, token| with_token(&gateway, target, token);
        let [[acme, acmes], [bolt, bolts]] =
            ["acme", "bolt"].map(|tenant| [1, 2].map(|user| of(tenant, user)));
        for target in ["/api/users", "/api/users?page=2"] {
            for (first, second) in [(&acme, &acmes), (&bolt, &bolts)] {
                ask(target, first).await.body(first).status(STORED);
                ask(target, second).await.body(first).status("hit");
            }
            ask(target, &acme).await.body(&acme).status("hit");
            origin.saw(target, 2);
        }
        // One user's own is not what `authorization` is about.
        for user in [&acme, &acmes, &acme] {
            let got = ask("/api/mine", user).await.body(user);
            got.status("fwd=uri-miss; detail=private");
        }

        let now = gateway.clock().now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = |issuer: &str, expires: u64| {
            json!({ "iss": issuer, "tenant": "acme", "exp": expires }).to_string()
        };
        let brief = bearer(&claims("https://login.test", now + 60));
        with_token(&gateway, "/api/users", &brief).await.body(&acme).status("hit");
        gateway.clock().advance(secs(61));
        let forged = SECRET.replace('0', "1");
        for wrong in [
            brief,
            bearer(&claims("https://login.else", now + 600)),
            bearer(r#"{"tenant":"acme"}"#),
            format!("Bearer {}", token(&forged, &claims("https://login.test", now + 600))),
            "Basic YWNtZTox".to_owned(),
        ] {
            for _ in 0..2 {
                let got = with_token(&gateway, "/api/users", &wrong).await.body(&wrong);
                got.status("fwd=bypass; detail=no-tenant");
            }
        }
        let nobody = gateway.get("/api/users").await.body("");
        nobody.status("fwd=bypass; detail=no-tenant");
        ask("/api/users", &acmes).await.body(&acme).status("hit");
    }
}

#[tokio::test]
async fn each_of_three_policies_makes_its_part_of_a_key() {
    let origin = Origin::start().await;
    let example = examples("plugins/tenant/README.md").remove(2);
    let example = example
        .replace("upstream = \"shop\"", "upstream = \"origin\"")
        .replace("plugin =", "time = \"10s\"\nplugin =");
    let gateway = Gateway::setup(&origin).server("workers = 1").routes(&example).start().await;
    for (target, tenant, language, expected) in [
        ("/shop/shoes?utm_source=mail&size=42", "acme", "de-AT, en;q=0.5", STORED),
        ("/shop/shoes?size=42", "acme", "de", "hit"),
        ("/shop/shoes?size=42&fbclid=x", "acme", "de;q=0.9, pl", "hit"),
        ("/shop/shoes?size=42", "acme", "pl", STORED),
        ("/shop/shoes?size=42", "bolt", "de", STORED),
        ("/shop/shoes?size=43", "acme", "de", STORED),
        ("/shop/shoes?size=42", "", "de", "fwd=bypass; detail=no-tenant"),
    ] {
        origin.on(target).reply(ok("shoes").max_age(600));
        let ask = gateway.ask("GET", target).field("x-tenant", tenant);
        ask.field("accept-language", language).send().await.code(200).status(expected);
    }
}

#[tokio::test]
async fn grant_that_a_reload_withdraws_is_withdrawn_with_what_it_brought() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("gateway.toml");
    origin.on("/api/users").answer(whose);
    let granted = setup(&origin, "tenant", "").text();
    let withdrawn = granted.replace("grants   = [\"authorization\"]", "");
    assert_ne!(granted, withdrawn);
    let gateway = setup(&origin, "tenant", "").start_from(&file).await;
    let (one, two) = (of("acme", 1), of("acme", 2));
    with_token(&gateway, "/api/users", &one).await.body(&one).status(STORED);
    with_token(&gateway, "/api/users", &two).await.body(&one).status("hit");

    fs::write(&file, &withdrawn).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    for user in [&one, &two, &one] {
        let got = with_token(&gateway, "/api/users", user).await.body(user);
        got.status("fwd=uri-miss; detail=authorization");
    }

    fs::write(&file, &granted).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    // It is the same grant to the same policy, and nothing was invalidated.
    with_token(&gateway, "/api/users", &two).await.body(&one).status("hit");
}

#[tokio::test]
async fn shadow_beside_a_grant_sees_what_its_policy_sees_and_shares_nothing() {
    for forward in FORWARD {
        let origin = Origin::start().await;
        origin.on("/api/users").answer(whose);
        // It would have all tenants share.
        let policy = "\n[policies.plain]\nplugin = \"bundled:normalise-query\"\ntime = \"10s\"";
        let lines = format!("forward = \"{forward}\"\nshadow = \"plain\"\n{policy}");
        let gateway = setup(&origin, "tenant", &lines).start().await;
        let tokens = ["acme", "bolt"].map(|tenant| of(tenant, 1));
        for token in &tokens {
            with_token(&gateway, "/api/users", token).await.body(token).status(STORED);
            with_token(&gateway, "/api/users", token).await.body(token).status("hit");
        }
        until("the shadow has answered", || {
            let gateway = gateway.service().gateway();
            gateway.shadows().next().is_some_and(|(_, it)| json!(it)["requests"] == 4)
        })
        .await;
        let got = gateway.admin("GET", "/shadow").send().await.code(200);
        let told: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
        let told = &told["api"];
        assert_ne!(told["merged"], 0, "{told}");
        assert_eq!(told["disagreements"][0]["contents_differ"], true, "{told}");
        // Nobody's token is among what operators are told.
        assert!(!told.to_string().contains("Bearer"), "{told}");
        origin.saw("/api/users", 2);
    }
}

// GraphQL.

const USERS: &str = r#"{"query": "{ users { __typename id } }"}"#;
const PEOPLE: &str = r#"{"query": "{ people: users { __typename id } }"}"#;
const ONE: &str = r#"{"query": "query Q($id: ID) { user(id: $id) { __typename id } }", "variables": {"id": 1, "at": 2}}"#;
const TWO: &str = r#"{"query": "query Q($id: ID) { user(id: $id) { __typename id } }", "variables": {"id": 2, "at": 2}}"#;
const TEAMS: &str = r#"{"query": "{ teams { __typename id } }"}"#;
const UNTYPED: &str = r#"{"query": "{ teams { id } }"}"#;
const HASHED: &str = r#"{"query": "{ teams { __typename name } }", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}"#;
const READS: [&str; 7] = [USERS, PEOPLE, ONE, TWO, TEAMS, UNTYPED, HASHED];

/// A service with users and teams, which says no lifetime.
fn service(asked: &Asked) -> Reply {
    let content = String::from_utf8_lossy(&asked.body);
    let shown = if content.contains("persistedQuery") && !content.contains("\"query\"") {
        json!({ "one": true })
    } else if content.contains("remove") {
        json!({ "remove": true })
    } else if content.contains("rename") {
        json!({ "rename": { "__typename": "User", "id": 1 } })
    } else if content.contains("createUser") {
        json!({ "createUser": { "id": 3 } })
    } else if content.contains("user") {
        json!({ "user": { "__typename": "User", "asked": content } })
    } else if content.contains("__typename") {
        json!({ "teams": [{ "__typename": "Team", "asked": content }] })
    } else {
        json!({ "teams": [{ "asked": content }] })
    };
    ok(json!({ "data": shown }).to_string()).field("content-type", "application/json")
}

async fn post(gateway: &Gateway, content: &str) -> Got {
    let ask = gateway.ask("POST", "/graphql").field("content-type", "application/json");
    ask.body(content.to_owned()).send().await.code(200)
}

#[tokio::test]
async fn graphql_by_post_is_answered_by_what_it_asks_until_its_types_change() {
    for forward in FORWARD {
        let origin = Origin::start().await;
        origin.on("/graphql").method("POST").answer(service);
        let lines = format!("forward = \"{forward}\"");
        let gateway = setup(&origin, "graphql", &lines).start().await;
        let asks_for = |content: &str, got: &Got| {
            let got: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
            let data = &got["data"];
            let shown = if data["user"].is_null() { &data["teams"][0] } else { &data["user"] };
            assert_eq!(shown["asked"], content);
        };
        for (write, reason, gone) in [
            (r#"{"query": "mutation { rename { __typename id } }"}"#, "mutation", &READS[..4]),
            // The settings say what it touches.
            (r#"{"query": "mutation { createUser { id } }"}"#, "mutation", &READS[..4]),
            (r#"{"query": "mutation { x: createUser { id } }"}"#, "mutation", &READS[..4]),
            (r#"{"query": "mutation { remove }"}"#, "mutation", &READS),
            // Nobody can tell what was done.
            (
                r#"{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "cd"}}}"#,
                "persisted",
                &READS,
            ),
            (r#"[{"query": "mutation { rename { __typename id } }"}]"#, "batch", &READS[..4]),
            (r#"{"query": "subscription { users { id } }"}"#, "subscription", &[]),
        ] {
            gateway.admin("POST", "/clear").send().await.code(200);
            for content in READS {
                asks_for(content, &post(&gateway, content).await.status(STORED));
            }
            for content in READS {
                asks_for(content, &post(&gateway, content).await.status("hit"));
            }
            post(&gateway, write).await.status(&format!("fwd=method; detail={reason}"));
            for content in READS {
                // What no type is known of depends on all.
                let is_gone = gone.contains(&content) || content == UNTYPED && !gone.is_empty();
                let expected = if is_gone { STORED } else { "hit" };
                let got = post(&gateway, content).await;
                assert_eq!(got.cache_status(), expected, "{content} after {write}");
                asks_for(content, &got);
            }
        }
        for (content, written) in [
            (USERS, r#"{"operationName": null, "query": "{users{__typename,id}}#"}"#),
            (
                ONE,
                r#"{"variables": {"at": 2, "id": 1}, "query": "query Q($id:ID){user(id:$id){__typename id}}"}"#,
            ),
        ] {
            asks_for(content, &post(&gateway, written).await.status("hit"));
        }
        gateway.clock().advance(secs(61));
        post(&gateway, USERS).await.status("fwd=stale; stored");
    }
}

#[tokio::test]
async fn graphql_by_get_goes_forward_with_what_it_asks() {
    for forward in FORWARD {
        let origin = Origin::start().await;
        let lines = format!("forward = \"{forward}\"");
        let gateway = setup(&origin, "graphql", &lines).start().await;
        let hash =
            "%7B%22persistedQuery%22%3A%7B%22version%22%3A1%2C%22sha256Hash%22%3A%22ab%22%7D%7D";
        for target in [
            "/graphql?query=%7B%20teams%20%7B%20__typename%20%7D%20%7D".to_owned(),
            "/graphql?query=query+Q($n:Int){teams(first:$n){__typename}}&variables=%7B%22n%22%3A%201%7D"
                .to_owned(),
            "/graphql?operationName=B&v=2&query=query+A{a}+query+B{teams{__typename}}".to_owned(),
            format!("/graphql?extensions={hash}"),
        ] {
            let answer = |_: &Asked| {
                let data = json!({ "data": { "teams": [{ "__typename": "Team" }] } });
                ok(data.to_string()).field("content-type", "application/json")
            };
            origin.on(&target).answer(answer);
            gateway.get(&target).await.code(200).status(STORED);
            gateway.get(&target).await.code(200).status("hit");
            origin.saw(&target, 1);
        }
    }
}

// Examples.

/// The tables of upstreams, deployments, policies and readers of tokens that an example mentions and
/// leaves to others.
fn missing(example: &str, folder: &Path) -> String {
    let tables: toml::Table = toml::from_str(example).unwrap();
    let defines =
        |kind: &str, name: &str| tables.get(kind).is_some_and(|them| them.get(name).is_some());
    let server = "servers = [\"http://127.0.0.1:9\"]\n";
    let mut more = BTreeSet::new();
    for changes in tables.get("changes").and_then(toml::Value::as_array).into_iter().flatten() {
        let name = changes.get("mongodb").and_then(toml::Value::as_str).unwrap();
        if !defines("mongodb", name) {
            more.insert(format!("[mongodb.{name}]\nuri = \"mongodb://127.0.0.1:9\"\n"));
        }
    }
    let Some(routes) = tables.get("routes").and_then(toml::Value::as_array) else {
        let route = "[[routes]]\nname = \"any\"\npath = \"/{*rest}\"\nupstream = \"any\"\n";
        more.insert(format!("[upstreams.any]\n{server}{route}"));
        return more.into_iter().collect();
    };
    let own = format!("plugin = \"{}\"\n", folder.join("own.wasm").display());
    for route in routes {
        for (key, kind, lines) in [
            ("upstream", "upstreams", server),
            ("jwt", "jwt", &by_secret()),
            ("key", "policies", &own),
            ("storing", "policies", &own),
            ("invalidation", "policies", &own),
        ] {
            let name = route.get(key).and_then(toml::Value::as_str);
            if let Some(name) = name.filter(|name| !defines(kind, name)) {
                more.insert(format!("[{kind}.{name}]\n{lines}\n"));
            }
        }
    }
    more.into_iter().collect()
}

/// An author's own plugins, by the names that examples call them.
fn own_plugins(example: &str, folder: &Path) {
    let (plugin, _) = by_authorization();
    fs::copy(plugin.path(), folder.join("own.wasm")).unwrap();
    for line in example.lines().filter(|line| line.starts_with("plugin")) {
        let name = line.split('"').nth(1).unwrap();
        if !name.starts_with("bundled:") {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::copy(plugin.path(), file).unwrap();
        }
    }
    let keys = r#"{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    fs::write(folder.join("shop.jwks.json"), keys).unwrap();
}

#[test]
fn examples_load_as_they_are_pasted() {
    let mut tried = 0;
    let plugins = [
        "content-tags",
        "document-changes",
        "graphql",
        "normalise-query",
        "rest-writes",
        "tenant",
        "variants",
    ];
    let readmes = plugins.map(|plugin| (Some(plugin), format!("plugins/{plugin}/README.md")));
    let others = ["README.md", "docs/policies.md", "docs/mongodb.md", "docs/upstreams.md"];
    let others = others.map(|file| (None, file.to_owned()));
    let pki = Pki::new();
    pki.certify("larder", &[], "larder");
    for (plugin, file) in readmes.into_iter().chain(others) {
        for example in examples(&file) {
            let tables: Vec<String> = if example.starts_with('[') {
                vec![example]
            } else if let Some(plugin) = plugin {
                // Each line is a setting to choose.
                let lines = example.lines().filter(|line| line.starts_with("config ="));
                let table = format!("[policies.it]\nplugin = \"bundled:{plugin}\"\n");
                lines.map(|line| format!("{table}{line}\n")).collect()
            } else {
                continue;
            };
            for example in tables {
                let folder = tempfile::tempdir().unwrap();
                own_plugins(&example, folder.path());
                for file in ["ca.pem", "larder.pem", "larder.key"] {
                    fs::copy(pki.at(file), folder.path().join(file)).unwrap();
                }
                let off = "[server]\ncompiled_cache = \"off\"\n";
                let more = missing(&example, folder.path());
                let text = format!("{off}{example}\n{more}");
                fs::write(folder.path().join("gateway.toml"), &text).unwrap();
                let ran = larder(folder.path(), &["check", "gateway.toml"]);
                assert_eq!(ran.code, Some(0), "{file}: {}\n{text}", ran.err);
                tried += 1;
            }
        }
    }
    assert!(tried > 15, "{tried} examples only");
}
