//! Policies that ship inside the binary, each before an API as it is made for. `policies` has others.

use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok};

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
