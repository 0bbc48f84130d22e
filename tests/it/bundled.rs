//! Policies that ship inside the binary, each before an API as it is made for. `policies` has others.

use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, ok};

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
