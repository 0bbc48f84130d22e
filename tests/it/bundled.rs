//! Policies that ship inside the binary, each before an API as it is made for. `policies` has others.

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok, status};

const MISS: &str = "fwd=uri-miss; stored";

/// One route for everything, which asks a bundled policy in each of these roles.
async fn start(origin: &Origin, plugin: &str, config: &str, roles: &[&str]) -> Gateway {
    let roles: Vec<_> = roles.iter().map(|role| format!("{role} = \"asked\"")).collect();
    let tables = format!(
        "[policies.asked]\nplugin = \"bundled:{plugin}\"\ntime = \"10s\"\nconfig = {config}\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{}\n",
        roles.join("\n")
    );
    Gateway::setup(origin).routes(&tables).start().await
}

// Tenants.

#[tokio::test]
async fn tenants_share_nothing_with_each_other() {
    let origin = Origin::start().await;
    let config = "{ field = \"x-tenant\", drop = [\"utm_*\"] }";
    let gateway = start(&origin, "tenant", config, &["key"]).await;
    let ask = async |target: &str, tenant: &str| {
        gateway.ask("GET", target).field("x-tenant", tenant).send().await
    };
    let tenant = |asked: &Asked| {
        let tenant = asked.field("x-tenant").unwrap_or_else(|| "nobody".to_owned());
        ok(tenant).max_age(600)
    };
    for target in ["/users", "/users?page=2", "/users?utm_source=mail"] {
        origin.on(target).answer(tenant);
    }
    for tenant in ["acme", "Acme", "bolt", "\"acme\""] {
        ask("/users", tenant).await.body(tenant).status(MISS);
        ask("/users?page=2", tenant).await.body(tenant).status(MISS);
    }
    for tenant in ["acme", "Acme", "bolt", "\"acme\""] {
        ask("/users", tenant).await.body(tenant).status("hit");
        ask("/users?page=2", tenant).await.body(tenant).status("hit");
        ask("/users?utm_source=mail", tenant).await.body(tenant).status("hit");
    }
    origin.saw("/users", 4);
    origin.saw("/users?utm_source=mail", 0);

    // Nobody's responses, and those of who names several, are nobody else's.
    for times in 1..=2 {
        gateway.get("/users").await.body("nobody").status("fwd=bypass; detail=no-tenant");
        ask("/users", "").await.body("").status("fwd=bypass; detail=no-tenant");
        let several = ask("/users", "acme, bolt").await;
        several.body("acme, bolt").status("fwd=bypass; detail=several-tenants");
        let ask = gateway.ask("GET", "/users").field("x-tenant", "acme");
        let twice = ask.field("x-tenant", "bolt").send().await;
        twice.status("fwd=bypass; detail=several-tenants");
        origin.saw("/users", 4 + 4 * times);
    }
    ask("/users", "acme").await.body("acme").status("hit");
}

// Writes.

#[tokio::test]
async fn writes_to_very_many_resources_leave_what_lies_elsewhere() {
    let origin = Origin::start().await;
    let tables = "[policies.writes]\nplugin = \"bundled:rest-writes\"\ntime = \"10s\"\n\
         config = { below = true }\n\
         [[routes]]\nname = \"users\"\npath = \"/users/{*rest}\"\nupstream = \"origin\"\n\
         invalidation = \"writes\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    let covered = ["/users/7/orders", "/users/299/orders?page=2"];
    let others = ["/other", "/users/300/orders"];
    for target in covered.into_iter().chain(others) {
        origin.on(target).reply(ok(target).max_age(600));
        gateway.get(target).await.body(target).status(MISS);
    }
    for user in 0..300 {
        let target = format!("/users/{user}");
        origin.on(&target).method("PUT").reply(status(204));
        gateway.ask("PUT", &target).send().await.code(204).status("fwd=method");
    }
    // One pattern for what lies below each of them.
    assert_eq!(gateway.store().log_patterns, 300);
    // However long their paths are: what begins alike is covered by one.
    for user in 0..300 {
        let target = format!("/users/{}{user}", "a".repeat(300));
        origin.on(&target).method("PUT").reply(status(204));
        gateway.ask("PUT", &target).send().await.code(204).status("fwd=method");
    }
    assert_eq!(gateway.store().log_patterns, 301);
    for target in others {
        gateway.get(target).await.body(target).status("hit");
        origin.saw(target, 1);
    }
    for target in covered {
        gateway.get(target).await.body(target).status(MISS);
    }
}

// Tags by content.

/// A response as JSON.
fn json(text: &str) -> Reply {
    ok(text.to_owned()).field("content-type", "application/json").max_age(600)
}

#[tokio::test]
async fn responses_are_purged_by_what_they_show() {
    let origin = Origin::start().await;
    let config = "{ values = { user = \"$..id\" }, fields = { x-kind = \"kind\" }, \
                  static = [\"users\"] }";
    let gateway = start(&origin, "content-tags", config, &["storing"]).await;
    origin.on("/users/1").reply(json("{\"id\": 1}"));
    origin.on("/users/2").reply(json("{\"id\": 2}").field("x-kind", "staff, admin"));
    origin.on("/users").reply(json("[{\"id\": 1}, {\"id\": 2}]"));
    origin.on("/users/ada").reply(json("{\"id\": \"\\u00e4da\"}"));
    let targets = ["/users/1", "/users/2", "/users", "/users/ada"];
    for (tag, gone) in [
        ("user:1", &["/users/1", "/users"][..]),
        ("user:2", &["/users/2", "/users"]),
        ("kind:admin", &["/users/2"]),
        ("user:%C3%A4da", &["/users/ada"]),
        ("user:3", &[]),
        ("users", &targets),
    ] {
        gateway.admin("POST", "/clear").send().await.code(200);
        for target in targets {
            gateway.get(target).await.status(MISS);
            gateway.get(target).await.status("hit");
        }
        gateway.admin("DELETE", &format!("/tag/{tag}")).send().await.code(200);
        for target in targets {
            let expected = if gone.contains(&target) { MISS } else { "hit" };
            assert_eq!(gateway.get(target).await.cache_status(), expected, "{target}, {tag}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_tagged_is_not_stored() {
    let origin = Origin::start().await;
    let config = "{ values = { user = \"$.id\", team = \"$.teams[*]\" } }";
    let gateway = start(&origin, "content-tags", config, &["storing"]).await;
    let teams = |count: usize| {
        let teams: Vec<_> = (0..count).map(|team| team.to_string()).collect();
        format!("{{\"id\": 1, \"teams\": [{}]}}", teams.join(","))
    };
    origin.on("/plain").reply(ok("{\"id\": 1}").max_age(600));
    origin.on("/damaged").reply(json("{\"id\": 1"));
    origin.on("/object").reply(json("{\"id\": {\"value\": 1}}"));
    origin.on("/many").reply(json(&teams(64)));
    origin.on("/all").reply(json(&teams(63)));
    for target in ["/plain", "/damaged", "/object", "/many"] {
        for times in 1..=2 {
            gateway.get(target).await.code(200).status("fwd=uri-miss; detail=policy");
            origin.saw(target, times);
        }
    }
    gateway.get("/all").await.status(MISS);
    gateway.get("/all").await.status("hit");
}

// GraphQL.

const ROLES: [&str; 3] = ["key", "storing", "invalidation"];

/// Answers each GraphQL request with data of these types.
fn answer_with(origin: &Origin, target: &str, data: &'static str) {
    origin.on(target).reply(json(data));
}

fn graphql(gateway: &Gateway, method: &str, target: &str, content: &str) -> Ask {
    let ask = gateway.ask(method, target).body(content.to_owned());
    ask.field("content-type", "application/json")
}

async fn query(gateway: &Gateway, content: &str) -> Got {
    graphql(gateway, "QUERY", "/graphql", content).send().await
}

#[tokio::test]
async fn queries_are_answered_by_what_they_ask() {
    let origin = Origin::start().await;
    let gateway = start(&origin, "graphql", "{}", &ROLES).await;
    let echo = |asked: &Asked| {
        let asked = serde_json::from_slice::<serde_json::Value>(&asked.body).unwrap();
        json(&serde_json::json!({ "data": { "__typename": "Query", "asked": asked } }).to_string())
    };
    origin.on("/graphql").method("QUERY").answer(echo);
    let contents = [
        r#"{"query": "{ users { id } }"}"#,
        r#"{"query": "{ teams { id } }"}"#,
        r#"{"query": "query Q($n: Int) { users(first: $n) { id } }", "variables": {"n": 1}}"#,
        r#"{"query": "query Q($n: Int) { users(first: $n) { id } }", "variables": {"n": 2}}"#,
        r#"{"query": "query A { a } query B { b }", "operationName": "A"}"#,
        r#"{"query": "query A { a } query B { b }", "operationName": "B"}"#,
        r#"{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}"#,
    ];
    for content in contents {
        query(&gateway, content).await.code(200).status(MISS);
    }
    for content in contents {
        let got = query(&gateway, content).await.code(200).status("hit");
        let got: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
        let asked: serde_json::Value = serde_json::from_str(content).unwrap();
        assert_eq!(got["data"]["asked"], asked);
    }
    origin.saw("/graphql", contents.len());

    for (content, why) in [
        (r#"{"query": "mutation { a }"}"#, "mutation"),
        (r#"{"query": "subscription { a }"}"#, "subscription"),
        (r#"[{"query": "{ a }"}]"#, "batch"),
        (r#"{"query": "{ a"}"#, "not-understood"),
        (r#"{"query": "{ a }", "query": "{ b }"}"#, "not-understood"),
        ("{}", "no-operation"),
    ] {
        for _ in 0..2 {
            let status = format!("fwd=bypass; detail={why}");
            query(&gateway, content).await.code(200).status(&status);
        }
    }
}

#[tokio::test]
async fn hashes_alone_are_reads_where_the_settings_say_so() {
    const TYPES: &str = r#"{"query": "{ users { __typename } }"}"#;
    const KNOWN: &str = r#"{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}"#;
    const UNKNOWN: &str =
        r#"{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "cd"}}}"#;
    let forwarded = "fwd=method; detail=persisted";
    for (config, known, unknown, after) in [
        ("{}", [forwarded; 2], forwarded, MISS),
        ("{ persisted = \"queries\" }", [MISS, "hit"], "fwd=uri-miss; detail=policy", "hit"),
    ] {
        let origin = Origin::start().await;
        let tables = format!(
            "[policies.asked]\nplugin = \"bundled:graphql\"\ntime = \"10s\"\nconfig = {config}\n\
             [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
             key = \"asked\"\nstoring = \"asked\"\ninvalidation = \"asked\"\ngrants = [\"post\"]\n"
        );
        let gateway = Gateway::setup(&origin).routes(&tables).start().await;
        origin.on("/graphql").method("POST").answer(|asked| {
            let is_known = asked.body != UNKNOWN;
            json(if is_known {
                r#"{"data": {"users": [{"__typename": "User"}]}}"#
            } else {
                r#"{"errors": [{"message": "PersistedQueryNotFound"}]}"#
            })
        });
        let ask = async |content| graphql(&gateway, "POST", "/graphql", content).send().await;
        ask(TYPES).await.status(MISS);
        for _ in 0..2 {
            // The server did nothing.
            ask(UNKNOWN).await.status(unknown);
            ask(TYPES).await.status("hit");
        }
        for expected in known {
            ask(KNOWN).await.status(expected);
        }
        ask(TYPES).await.status(after);
    }
}

#[tokio::test]
async fn hostile_documents_neither_fail_nor_mix() {
    let origin = Origin::start().await;
    let tables = "[policies.asked]\nplugin = \"bundled:graphql\"\ntime = \"10s\"\non_error = \"fail\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
         key = \"asked\"\nmax_query_body = \"1MiB\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    let echo = |asked: &Asked| ok(asked.body.len().to_string()).max_age(600);
    origin.on("/graphql").method("QUERY").answer(echo);
    let document = |text: String| serde_json::json!({ "query": text }).to_string();
    let variables = |text: &str| format!(r#"{{"query":"{{a}}","variables":{{"a":{text}}}}}"#);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (content, expected) in [
        (document("{a".repeat(6_000) + &"}".repeat(6_000)), MISS),
        (document("{a".repeat(400_000)), "fwd=bypass; detail=not-understood"),
        (document("#".repeat(900_000) + "\n{a}"), MISS),
        (document(format!("{{a(x:\"{}\")}}", "x".repeat(900_000))), MISS),
        (variables(&nested(60)), MISS),
        (variables(&nested(400_000)), "fwd=bypass; detail=not-understood"),
        (variables(&format!("\"{}\"", "x".repeat(900_000))), MISS),
        (variables("\"\\ud800\""), "fwd=bypass; detail=not-understood"),
    ] {
        let length = content.len().to_string();
        query(&gateway, &content).await.code(200).body(&length).status(expected);
    }
}

#[tokio::test]
async fn mutation_invalidates_the_types_it_touched() {
    let origin = Origin::start().await;
    let config = "{ mutations = { ping = [], createTeam = [\"Team\"] } }";
    let gateway = start(&origin, "graphql", config, &ROLES).await;
    let users = "/graphql?query={users{__typename,id}}";
    let teams = "/graphql?query={teams{__typename,id}}";
    let none = "/graphql?query={none:teams{__typename,id}}";
    let untyped = "/graphql?query={teams{id}}";
    answer_with(&origin, users, r#"{"data": {"users": [{"__typename": "User", "id": 1}]}}"#);
    answer_with(&origin, teams, r#"{"data": {"teams": [{"__typename": "Team", "id": 1}]}}"#);
    answer_with(&origin, none, r#"{"data": {"none": []}}"#);
    answer_with(&origin, untyped, r#"{"data": {"teams": [{"id": 1}]}}"#);
    let targets = [users, teams, none, untyped];
    for (document, answer, gone) in [
        (
            "mutation { rename { __typename id } }",
            r#"{"data": {"rename": {"__typename": "User", "id": 1}}}"#,
            &[users, none, untyped][..],
        ),
        (
            "mutation { createTeam { id } }",
            r#"{"data": {"createTeam": {"id": 2}}}"#,
            &[teams, none, untyped],
        ),
        ("mutation { remove }", r#"{"data": {"remove": true}}"#, &targets),
        ("mutation { ping }", r#"{"data": {"ping": true}}"#, &[]),
        ("{ users { id } }", r#"{"data": {"users": []}}"#, &[]),
    ] {
        for target in targets {
            gateway.get(target).await;
            gateway.get(target).await.status("hit");
        }
        // RFC 9111 §4.4 has a write invalidate its own path whole.
        origin.on("/mutate").method("POST").reply(json(answer));
        let content = serde_json::json!({ "query": document }).to_string();
        graphql(&gateway, "POST", "/mutate", &content).send().await.code(200).body(answer);
        for target in targets {
            let expected = if gone.contains(&target) { MISS } else { "hit" };
            assert_eq!(gateway.get(target).await.cache_status(), expected, "{target}, {document}");
        }
    }
}

#[tokio::test]
async fn null_in_a_list_may_be_what_a_mutation_creates() {
    let origin = Origin::start().await;
    let gateway = start(&origin, "graphql", "{}", &ROLES).await;
    let nodes = "/graphql?query={nodes{__typename}}";
    let below = "/graphql?query={org{__typename,nodes{__typename}}}";
    let value = "/graphql?query={org{__typename,name}}";
    let org = r#"{"data": {"org": {"__typename": "Org", "nodes": [{"__typename": "Org"}, null]}}}"#;
    answer_with(&origin, nodes, r#"{"data": {"nodes": [null, {"__typename": "Org"}]}}"#);
    answer_with(&origin, below, org);
    answer_with(&origin, value, r#"{"data": {"org": {"__typename": "Org", "name": null}}}"#);
    for target in [nodes, below, value] {
        gateway.get(target).await.status(MISS);
        gateway.get(target).await.status("hit");
    }
    let answer = r#"{"data": {"createUser": {"__typename": "User"}}}"#;
    origin.on("/mutate").method("POST").reply(json(answer));
    let content = r#"{"query": "mutation { createUser { __typename } }"}"#;
    graphql(&gateway, "POST", "/mutate", content).send().await.code(200).body(answer);
    for (target, expected) in [(nodes, MISS), (below, MISS), (value, "hit")] {
        assert_eq!(gateway.get(target).await.cache_status(), expected, "{target}");
    }
}

#[tokio::test]
async fn errors_of_graphql_are_not_stored() {
    let origin = Origin::start().await;
    let gateway = start(&origin, "graphql", "{}", &ROLES).await;
    let target = "/graphql?query={users{__typename}}";
    answer_with(&origin, target, r#"{"data": null, "errors": [{"message": "no"}]}"#);
    for times in 1..=2 {
        gateway.get(target).await.code(200).status("fwd=uri-miss; detail=policy");
        origin.saw(target, times);
    }
    answer_with(&origin, target, r#"{"data": {"users": [{"__typename": "User"}]}}"#);
    gateway.get(target).await.status(MISS);
    gateway.get(target).await.status("hit");
    gateway.admin("DELETE", "/tag/field:users").send().await.code(200);
    gateway.get(target).await.status(MISS);
}

/// What every gateway carries, maps and compiles. `graphql` reads two languages, GraphQL and JSON, and
/// has three roles: a sixth of its octets are names and descriptions.
#[test]
fn plugins_stay_small() {
    for plugin in larder::plugin::bundled_names() {
        let most = 60 * 1024;
        let file = format!("{}/plugins/bundled/{plugin}.wasm", env!("CARGO_MANIFEST_DIR"));
        let octets = std::fs::metadata(&file).unwrap().len();
        assert!(octets < most, "{plugin} has {octets} octets, and {most} is the most");
    }
}
