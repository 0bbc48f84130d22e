//! Routes that are chosen by a request's fields: who is asked, what is stored for whom, and what caches
//! before the gateway are told.

use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};

const MISS: &str = "fwd=uri-miss; stored";

/// Everything goes to the first, but what has `X-Beta: 1`, which goes to the second; with more lines for
/// that route.
async fn before(stable: &Origin, beta: &Origin, lines: &str) -> Gateway {
    let upstreams = format!(
        "[upstreams.stable]\nservers = [\"{}\"]\n[upstreams.beta]\nservers = [\"{}\"]\n",
        stable.url(),
        beta.url()
    );
    let routes = format!(
        "[policies.plain]\nplugin = \"bundled:normalise-query\"\nconfig = {{ drop = [\"utm_*\"] }}\n\
         [[routes]]\nname = \"stable\"\npath = \"/{{*rest}}\"\nupstream = \"stable\"\n\
         [[routes]]\nname = \"beta\"\npath = \"/{{*rest}}\"\nupstream = \"beta\"\n\
         headers = {{ X-Beta = \"1\" }}\n{lines}\n\
         [[routes]]\nname = \"fixed\"\npath = \"/fixed\"\nupstream = \"stable\"\n"
    );
    let setup = Gateway::setup_before(&[]).upstreams(&upstreams).routes(&routes);
    setup.clock(stable.clock()).start().await
}

async fn get(gateway: &Gateway, target: &str, beta: Option<&str>) -> Got {
    let ask = gateway.ask("GET", target);
    beta.into_iter().fold(ask, |ask, value| ask.field("x-beta", value)).send().await
}

#[tokio::test]
async fn field_chooses_the_upstream_and_what_is_stored_is_kept_apart() {
    let (stable, beta) = (Origin::start().await, Origin::start().await);
    stable.on("/a").reply(ok("stable").max_age(60).etag("v1"));
    beta.on("/a").reply(ok("beta").max_age(60).field("vary", "accept"));
    let gateway = before(&stable, &beta, "").await;
    for expected in [MISS, "hit"] {
        get(&gateway, "/a", None).await.body("stable").status(expected).has("vary", "x-beta");
        get(&gateway, "/a", Some("2")).await.body("stable").status("hit").has("vary", "x-beta");
        let got = get(&gateway, "/a", Some("1")).await.body("beta").status(expected);
        got.has("vary", "accept, x-beta");
    }
    stable.saw("/a", 1);
    beta.saw("/a", 1);
    // Also where the client has it already, and where there is nothing.
    let got = gateway.ask("GET", "/a").field("if-none-match", "\"v1\"").send().await.code(304);
    got.has("vary", "x-beta");
    stable.on("/none").reply(status(404).max_age(60));
    get(&gateway, "/none", None).await.code(404).has("vary", "x-beta");
    // No field chooses here.
    stable.on("/fixed").reply(ok("fixed").max_age(60));
    get(&gateway, "/fixed", Some("1")).await.body("fixed").lacks("vary");
}

#[tokio::test]
async fn write_invalidates_what_is_stored_for_whatever_field() {
    let (stable, beta) = (Origin::start().await, Origin::start().await);
    for (origin, name) in [(&stable, "stable"), (&beta, "beta")] {
        origin.on("/a").reply(ok(name).max_age(60));
        origin.on("/a").method("PUT").reply(status(204));
    }
    let gateway = before(&stable, &beta, "").await;
    for (writes, field) in [("stable", None), ("beta", Some("1"))] {
        for expected in [MISS, "hit"] {
            get(&gateway, "/a", None).await.body("stable").status(expected);
            get(&gateway, "/a", Some("1")).await.body("beta").status(expected);
        }
        let put = gateway.ask("PUT", "/a").body("x");
        let put = field.into_iter().fold(put, |put, value| put.field("x-beta", value));
        put.send().await.code(204).has("vary", "x-beta");
        let origin = if writes == "stable" { &stable } else { &beta };
        assert_eq!(origin.last("/a").method, "PUT");
    }
    get(&gateway, "/a", None).await.status(MISS);
    get(&gateway, "/a", Some("1")).await.status(MISS);
}

#[tokio::test]
async fn write_invalidates_what_a_key_policy_has_another_route_answer_by() {
    let (stable, beta) = (Origin::start().await, Origin::start().await);
    beta.on("/a?utm_source=x").reply(ok("beta").max_age(60));
    stable.on("/a").method("PUT").reply(status(204));
    let gateway = before(&stable, &beta, "key = \"plain\"").await;
    get(&gateway, "/a?utm_source=x", Some("1")).await.body("beta").status(MISS);
    get(&gateway, "/a?utm_source=y", Some("1")).await.body("beta").status("hit");
    gateway.ask("PUT", "/a").body("x").send().await.code(204);
    beta.on("/a?utm_source=y").reply(ok("newer").max_age(60));
    get(&gateway, "/a?utm_source=y", Some("1")).await.body("newer");
}

#[tokio::test]
async fn route_for_other_values_finds_nothing_of_what_was_stored() {
    let (stable, beta) = (Origin::start().await, Origin::start().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    beta.on("/a").reply(ok("1").max_age(60));
    let routes = "[[routes]]\nname = \"beta\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                  headers = { X-Beta = [\"1\", \"3\"] }\n";
    let setup = Gateway::setup(&beta).server("workers = 1\nwatch = false").routes(routes);
    let text = setup.text();
    let gateway = setup.start_from(&file).await;
    get(&gateway, "/a", Some("1")).await.body("1").status(MISS);
    get(&gateway, "/a", Some("3")).await.body("1").status("hit");
    get(&gateway, "/a", Some("2")).await.code(404).has("vary", "x-beta");
    std::fs::write(&file, text.replace("\"1\"", "\"2\"")).unwrap();
    let got = gateway.admin("POST", "/reload").send().await.code(200);
    let told: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(told["routes_cold"], serde_json::json!(["beta"]), "{told}");
    get(&gateway, "/a", Some("2")).await.body("1").status(MISS);
    drop(stable);
}
