//! Several policies that make the keys of a route together.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::client::{Ask, Got};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Asked, Origin, Reply, ok};
use crate::support::plugin::fixture;
use crate::support::program::larder;
use crate::support::until;

const STORED: &str = "fwd=uri-miss; stored";

/// Tenants and regions by a field, queries without what tracks visitors and in any order.
const POLICIES: &str = "
[policies.tenant]
plugin = \"bundled:tenant\"
time = \"10s\"
config = { field = \"x-tenant\", query = false }
[policies.plain]
plugin = \"bundled:normalise-query\"
time = \"10s\"
[policies.region]
plugin = \"bundled:tenant\"
time = \"10s\"
config = { field = \"x-region\", query = false }
";

/// More policies, and one route with these lines.
fn setup(origin: &Origin, policies: &str, lines: &str) -> Setup {
    let route = format!(
        "[[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{lines}\n"
    );
    Gateway::setup(origin).routes(&format!("{POLICIES}{policies}\n{route}"))
}

async fn start(origin: &Origin, lines: &str) -> Gateway {
    setup(origin, "", lines).start().await
}

/// Says what came.
fn echo(asked: &Asked) -> Reply {
    let told = ["x-tenant", "x-region", "x-a"].map(|name| asked.field(name));
    let told = told.map(Option::unwrap_or_default).join(" ");
    ok(format!("{} {told}", asked.target)).max_age(600)
}

fn of_tenant(gateway: &Gateway, target: &str, tenant: &str) -> Ask {
    gateway.ask("GET", target).field("x-tenant", tenant)
}

/// A policy's calls, answers that were remembered, and failures.
async fn counted(gateway: &Gateway, policy: &str) -> [u64; 3] {
    let stats = gateway.stats().await;
    let figure = |name: &str| stats["policies"][policy][name].as_u64().unwrap();
    ["calls", "remembered", "failures"].map(figure)
}

/// A policy from a plugin that is written as text.
fn written(name: &str, places: &[(&str, &str)], lines: &str) -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&fixture(places)).unwrap();
    let plugin = file.path().display();
    let policy = format!("[policies.{name}]\nplugin = \"{plugin}\"\ntime = \"10s\"\n{lines}\n");
    (file, policy)
}

#[tokio::test]
async fn what_any_of_them_tells_apart_stays_apart() {
    for (keys, name) in [
        ("[\"tenant\", \"plain\"]", "a?tenant=red&x=1&y=2"),
        ("[\"plain\", \"tenant\"]", "a?x=1&y=2&tenant=red"),
    ] {
        let origin = Origin::start().await;
        for target in ["/a?x=1&y=2&utm_source=mail", "/a?y=2&x=1", "/a?x=1", "/a"] {
            origin.on(target).answer(echo);
        }
        let lines = format!("key = {keys}");
        let cache = "[cache]\nstatus_key = true";
        let gateway = setup(&origin, "", &lines).cache(cache).start().await;
        let ask = |target, tenant| of_tenant(&gateway, target, tenant).send();
        let (reds, blues) = ("/a?x=1&y=2&utm_source=mail red  ", "/a?y=2&x=1 blue  ");
        let got = ask("/a?x=1&y=2&utm_source=mail", "red").await.body(reds);
        got.status(&format!("{STORED}; key=\"{name}\""));
        for (tenant, body) in [("blue", blues), ("red", reds), ("blue", blues), ("red", reds)] {
            ask("/a?y=2&x=1", tenant).await.body(body);
        }
        ask("/a?x=1", "red").await.body("/a?x=1 red  ");
        ask("/a", "red").await.body("/a red  ");
        assert_eq!(origin.asked().len(), 4);
        // Each policy is asked about what it sees and has not seen.
        for (policy, expected) in [("tenant", [2, 5, 0]), ("plain", [4, 3, 0])] {
            assert_eq!(counted(&gateway, policy).await, expected, "{keys}, {policy}");
        }

        gateway.admin("DELETE", &format!("/pattern/{}", name.replace('?', "%3F"))).send().await;
        ask("/a?x=1&y=2", "blue").await.body(blues);
        origin.on("/a?x=1&y=2").answer(echo);
        ask("/a?x=1&y=2", "red").await.body("/a?x=1&y=2 red  ");
    }
}

#[tokio::test]
async fn first_bypass_has_the_last_word() {
    let origin = Origin::start().await;
    origin.on("/a").answer(echo);
    let gateway = start(&origin, "key = [\"plain\", \"tenant\", \"region\"]").await;
    for remembered in [0, 1] {
        let got = gateway.get("/a").await.code(200);
        got.status("fwd=bypass; detail=no-tenant");
        // Whoever comes after it is not asked.
        for (policy, expected) in
            [("plain", [1, remembered, 0]), ("tenant", [1, remembered, 0]), ("region", [0, 0, 0])]
        {
            assert_eq!(counted(&gateway, policy).await, expected, "{policy}");
        }
    }
    let ask = |region: &str| of_tenant(&gateway, "/a", "red").field("x-region", region).send();
    ask("north").await.body("/a red north ").status(STORED);
    ask("south").await.body("/a red south ").status(STORED);
    ask("north").await.body("/a red north ").status("hit");
}

#[tokio::test]
async fn each_failure_is_what_its_own_on_error_says() {
    for (on_error, code, status) in [
        ("bypass", 200, "fwd=bypass; detail=policy-failed"),
        ("fail", 502, "fwd=bypass; detail=policy-failed"),
        ("default", 200, STORED),
    ] {
        for keys in ["[\"tenant\", \"broken\"]", "[\"broken\", \"tenant\"]"] {
            let origin = Origin::start().await;
            for target in ["/bad", "/bad?x=1", "/good"] {
                origin.on(target).answer(echo);
            }
            // For paths of four octets.
            let lines = format!("on_error = \"{on_error}\"");
            let (_file, broken) = written("broken", &[("key", "unreachable")], &lines);
            let gateway = setup(&origin, &broken, &format!("key = {keys}")).start().await;
            let ask = |target, tenant| of_tenant(&gateway, target, tenant).send();
            ask("/bad", "red").await.code(code).status(status);
            ask("/good", "red").await.body("/good red  ").status(STORED);
            if on_error == "default" {
                // Path and query are in its place, and what the other tells apart stays apart.
                ask("/bad", "red").await.body("/bad red  ").status("hit");
                ask("/bad", "blue").await.body("/bad blue  ").status(STORED);
                ask("/bad?x=1", "red").await.body("/bad?x=1 red  ").status(STORED);
            }
        }
    }
}

#[tokio::test]
async fn what_any_of_them_looked_at_goes_forward() {
    let origin = Origin::start().await;
    for target in ["/a", "/a?x=1&y=2", "/a?x=1&utm_source=mail"] {
        origin.on(target).answer(echo);
    }
    let gateway = async |keys: &str| {
        let lines = format!("key = {keys}\nforward = \"keyed\"");
        let raw = "[policies.raw]\nplugin = \"bundled:tenant\"\ntime = \"10s\"\n\
                   config = { field = \"x-tenant\" }\n";
        setup(&origin, raw, &lines).start().await
    };
    let ask = |gateway: &Gateway, target: &str| {
        let ask = of_tenant(gateway, target, "red").field("x-region", "north");
        ask.field("x-a", "unseen").send()
    };
    let both = gateway("[\"tenant\", \"plain\", \"region\"]").await;
    ask(&both, "/a?utm_source=mail").await.body("/a red north ").status(STORED);
    ask(&both, "/a").await.body("/a red north ").status("hit");
    ask(&both, "/a?y=2&x=1").await.body("/a?x=1&y=2 red north ").status(STORED);
    ask(&both, "/a?x=1&y=2").await.body("/a?x=1&y=2 red north ").status("hit");
    // What one leaves out goes forward if it is in the key by another; `x-region` is in none.
    let raw = gateway("[\"plain\", \"raw\"]").await;
    let target = "/a?x=1&utm_source=mail";
    ask(&raw, target).await.body("/a?x=1&utm_source=mail red  ").status(STORED);
}

#[tokio::test]
async fn graphql_is_shared_within_a_tenant() {
    let origin = Origin::start().await;
    let policies = "[policies.graphql]\nplugin = \"bundled:graphql\"\ntime = \"10s\"\n";
    let lines = "key = [\"tenant\", \"graphql\"]\ngrants = [\"post\"]";
    let gateway = setup(&origin, policies, lines).start().await;
    origin.on("/graphql").method("POST").answer(echo);
    let post = async |tenant: &str, content: &'static str| -> Got {
        let ask = gateway.ask("POST", "/graphql").field("x-tenant", tenant);
        ask.field("content-type", "application/json").body(content).send().await
    };
    let (query, same) = (r#"{"query":"{users{name}}"}"#, r#"{"query":"{ users { name } }"}"#);
    for tenant in ["red", "blue"] {
        let body = format!("/graphql {tenant}  ");
        post(tenant, query).await.body(&body).status(STORED);
        post(tenant, same).await.body(&body).status("hit");
    }
    post("red", r#"{"query":"{teams{name}}"}"#).await.status(STORED);
    post("red", r#"{"query":"mutation{a}"}"#).await.status("fwd=method; detail=mutation");
    post("", query).await.status("fwd=method; detail=no-tenant");
}

#[tokio::test]
async fn one_in_a_list_is_that_one() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("gateway.toml");
    origin.on("/a?x=1&y=2").answer(echo);
    let of = |keys: &str| setup(&origin, "", &format!("key = {keys}"));
    let gateway = of("\"plain\"").start_from(&file).await;
    gateway.get("/a?x=1&y=2").await.status(STORED);
    for (keys, is_changed) in [
        ("[\"plain\"]", false),
        ("[\"tenant\", \"plain\"]", true),
        ("[\"plain\", \"tenant\"]", true),
        ("\"plain\"", true),
    ] {
        fs::write(&file, of(keys).text()).unwrap();
        let got = gateway.admin("POST", "/reload").send().await.code(200);
        let told: Value = serde_json::from_slice(&got.body).unwrap();
        let changed = if is_changed { json!(["all"]) } else { json!([]) };
        assert_eq!(told["routes"]["changed"], changed, "{keys}");
        assert_eq!(told["routes_cold"], changed, "{keys}");
        if !keys.contains("tenant") {
            gateway.get("/a?y=2&x=1").await.status("hit");
        }
    }
}

#[tokio::test]
async fn shadow_is_compared_with_the_whole() {
    let origin = Origin::start().await;
    origin.on("/a").answer(echo);
    let gateway = start(&origin, "key = [\"tenant\", \"plain\"]\nshadow = \"plain\"").await;
    for tenant in ["red", "blue"] {
        of_tenant(&gateway, "/a", tenant).send().await.status(STORED);
    }
    until("the shadow has answered", || {
        let answering = gateway.service().gateway();
        let mut shadows = answering.shadows();
        shadows.next().is_some_and(|(_, it)| json!(it)["requests"] == 2)
    })
    .await;
    let got = gateway.admin("GET", "/shadow").send().await.code(200);
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    let all = &told["all"];
    assert_eq!((&all["merged"], &all["split"]), (&json!(1), &json!(0)), "{all}");
    assert_eq!((&all["active"]["keys"], &all["shadow"]["keys"]), (&json!(2), &json!(1)), "{all}");
    assert_eq!(all["disagreements"][0]["active"], "a?tenant=blue", "{all}");
    assert_eq!(all["disagreements"][0]["contents_differ"], true, "{all}");
}

#[test]
fn what_one_of_them_lacks_is_told_at_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let policies = "[policies.writes]\nplugin = \"bundled:rest-writes\"\n\
                    [policies.claims]\nplugin = \"bundled:tenant\"\nconfig = { claim = \"tenant\" }\n";
    let text = format!(
        "[upstreams.origin]\nservers = [\"http://127.0.0.1:1\"]\n{POLICIES}{policies}\
         [[routes]]\nname = \"all\"\npath = \"/all/{{*rest}}\"\nupstream = \"origin\"\n\
         key = [\"plain\", \"writes\", \"claims\"]\n\
         [[routes]]\nname = \"granted\"\npath = \"/granted/{{*rest}}\"\nupstream = \"origin\"\n\
         key = [\"plain\", \"region\"]\n\
         grants = [\"authorization\"]\n"
    );
    fs::write(folder.path().join("gateway.toml"), &text).unwrap();
    let ran = larder(folder.path(), &["check"]);
    let line = |of: &str| 1 + text.lines().position(|line| line.starts_with(of)).unwrap();
    let (keys, grants) = (line("key = [\"plain\", \"writes\""), line("grants"));
    let expected = format!(
        "gateway.toml:{keys}:17: route `all`: the plugin of policy `writes` does not export `key`\n\
         gateway.toml:{keys}:27: route `all`: policy `claims` asks for claims, and the route reads no token\n  \
         hint: write jwt = \"NAME\", and a table `[jwt.NAME]`\n\
         gateway.toml:{grants}:10: route `granted`: grant `authorization` is for a policy that tells apart \
         what it shares, and `plain`, `region` looks at neither a claim nor `authorization`\n  \
         hint: leave the grant out, or name a key policy whose `configure` wants it\n3 faults\n"
    );
    assert_eq!((ran.code, ran.err), (Some(2), expected));
}
