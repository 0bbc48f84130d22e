//! Tags: the response fields that name them, and what reaches the responses that bear them
//! (RFC 9875, `Surrogate-Key`, `Cache-Tag`).

use tokio::task::JoinSet;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::redis::Redis;
use crate::support::{secs, until};
use crate::tiers::log_end;

const MISS: &str = "fwd=uri-miss; stored";
const OTHER: &str = "other.test";

/// Stores a response to GET with this field.
async fn store(origin: &Origin, gateway: &Gateway, target: &str, field: (&str, &str)) {
    let reply = ok("1").max_age(60).field(field.0, field.1);
    origin.on(target).method("GET").reply(reply);
    gateway.get(target).await.body("1").status(MISS);
}

/// So many groups.
fn list(count: usize) -> String {
    (0..count).map(|number| format!("\"group-{number}\"")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn write_invalidates_the_groups_that_its_response_names() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let stored = [
        ("/scripts", ("cache-groups", "\"scripts\"")),
        ("/both", ("cache-groups", "\"styles\";x=1, \"scripts\"")),
        ("/styles", ("cache-groups", "\"styles\"")),
        ("/case", ("cache-groups", "\"Scripts\"")),
        ("/token", ("cache-groups", "scripts")),
        ("/key", ("surrogate-key", "scripts")),
        ("/tag", ("cache-tag", "scripts")),
        ("/none", ("x-groups", "\"scripts\"")),
    ];
    for (named, gone) in [
        ("\"scripts\"", &["/scripts", "/both"][..]),
        ("\"styles\", \"scripts\"", &["/scripts", "/both", "/styles"]),
        ("\"scripts\";x=1", &["/scripts", "/both"]),
        ("\"nothing\"", &[]),
        ("scripts", &[]),
        ("\"scripts\",", &[]),
        ("", &[]),
    ] {
        gateway.admin("POST", "/clear").send().await.code(200);
        for (target, field) in stored {
            store(&origin, &gateway, target, field).await;
        }
        let reply = status(204).field("cache-group-invalidation", named);
        origin.on("/write").method("POST").reply(reply);
        // Other caches on the way have groups of their own.
        let got = gateway.ask("POST", "/write").send().await.code(204).status("fwd=method");
        got.has("cache-group-invalidation", named);
        for (target, _) in stored {
            let expected = if gone.contains(&target) { MISS } else { "hit" };
            let got = gateway.get(target).await.body("1");
            assert_eq!(got.cache_status(), expected, "{target} after {named}");
        }
    }
}

#[tokio::test]
async fn safe_methods_and_failures_invalidate_no_group() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    store(&origin, &gateway, "/a", ("cache-groups", "\"g\"")).await;
    for (method, code) in [
        ("GET", 200),
        ("HEAD", 200),
        ("OPTIONS", 204),
        ("QUERY", 200),
        ("POST", 400),
        ("PUT", 412),
        ("DELETE", 500),
    ] {
        let reply = status(code).field("cache-group-invalidation", "\"g\"");
        origin.on("/b").method(method).reply(reply);
        gateway.ask(method, "/b").send().await.code(code);
        gateway.get("/a").await.status("hit");
    }
    for (method, code) in [("POST", 200), ("PATCH", 303), ("FROBNICATE", 204)] {
        let reply = status(code).field("cache-group-invalidation", "\"g\"");
        origin.on("/b").method(method).reply(reply);
        gateway.ask(method, "/b").send().await.code(code);
        gateway.get("/a").await.status(MISS);
    }
}

#[tokio::test]
async fn groups_of_other_origins_stay() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let write = status(204).field("cache-group-invalidation", "\"g\"");
    origin.on("/write").method("POST").reply(write);
    let get = || gateway.ask("GET", "/a").field("host", OTHER).send();
    store(&origin, &gateway, "/a", ("cache-groups", "\"g\"")).await;
    get().await.status(MISS);

    gateway.ask("POST", "/write").send().await.code(204);
    get().await.status("hit");
    gateway.get("/a").await.status(MISS);
    gateway.ask("POST", "/write").field("host", OTHER).send().await.code(204);
    gateway.get("/a").await.status("hit");
    get().await.status(MISS);
}

#[tokio::test]
async fn group_invalidation_does_not_cascade() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    store(&origin, &gateway, "/a", ("cache-groups", "\"g\", \"h\"")).await;
    store(&origin, &gateway, "/b", ("cache-groups", "\"h\"")).await;
    let reply = status(204).field("cache-group-invalidation", "\"g\"");
    origin.on("/write").method("POST").reply(reply);
    gateway.ask("POST", "/write").send().await.code(204);
    gateway.get("/b").await.status("hit");
    gateway.get("/a").await.status(MISS);
}

#[tokio::test]
async fn response_with_more_tags_than_are_kept_is_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (name, value, expected) in [
        ("cache-groups", list(1000), MISS),
        ("cache-groups", list(1001), "fwd=uri-miss; detail=tags"),
        ("surrogate-key", "k".repeat(1024), MISS),
        ("surrogate-key", "k".repeat(1025), "fwd=uri-miss; detail=tags"),
    ] {
        gateway.admin("POST", "/clear").send().await.code(200);
        origin.on("/a").reply(ok("1").max_age(60).field(name, &value));
        gateway.get("/a").await.body("1").status(expected);
    }
}

#[tokio::test]
async fn write_that_names_more_groups_than_are_told_apart_invalidates_all() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    store(&origin, &gateway, "/a", ("cache-groups", "\"g\"")).await;
    store(&origin, &gateway, "/b", ("surrogate-key", "g")).await;
    let get = || gateway.ask("GET", "/a").field("host", OTHER).send();
    get().await.status(MISS);
    let reply = status(204).field("cache-group-invalidation", &list(1001));
    origin.on("/write").method("POST").reply(reply);
    gateway.ask("POST", "/write").send().await.code(204);
    gateway.get("/b").await.status("hit");
    get().await.status("hit");
    gateway.get("/a").await.status(MISS);
}

#[tokio::test]
async fn group_invalidation_reaches_what_is_being_fetched() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = |body: &str| ok(body.to_owned()).max_age(60).field("cache-groups", "\"g\"");
    let held = origin.on("/a").hold(reply("old"));
    let mut early = JoinSet::new();
    early.spawn(gateway.ask("GET", "/a").send());
    until("the origin is asked", || origin.count("/a") == 1).await;
    let write = status(204).field("cache-group-invalidation", "\"g\"");
    origin.on("/write").method("POST").reply(write);
    gateway.ask("POST", "/write").send().await.code(204);
    held.release();
    early.join_next().await.unwrap().unwrap().body("old");
    origin.on("/a").reply(reply("new"));
    gateway.get("/a").await.body("new").status(MISS);
    gateway.get("/a").await.body("new").status("hit");
}

#[tokio::test]
async fn group_invalidation_reaches_the_fleet_and_l2() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    for (target, groups) in [("/a", "\"g\""), ("/b", "\"h\", \"g\""), ("/c", "\"h\"")] {
        origin.on(target).reply(ok("old").max_age(600).field("cache-groups", groups));
        first.get(target).await.status(MISS);
    }
    let is_written = || redis.ask("KEYS larder:r:*").unwrap().starts_with("*3");
    until("L2 has all", is_written).await;
    second.get("/a").await.status("hit");

    let reply = status(204).field("cache-group-invalidation", "\"g\"");
    origin.on("/write").method("POST").reply(reply);
    first.ask("POST", "/write").send().await.code(204);
    second.has_applied(log_end(&redis)).await;
    for (target, gateway) in [("/a", &second), ("/b", &second)] {
        origin.on(target).reply(ok("new").max_age(600).field("cache-groups", "\"g\""));
        gateway.get(target).await.body("new").status(MISS);
    }
    second.get("/c").await.body("old").status("hit");
    first.get("/b").await.body("new");
    origin.saw("/c", 1);
}

#[tokio::test]
async fn operator_purges_by_tag_whatever_field_named_it() {
    let origin = Origin::start().await;
    let other = format!("[upstreams.other]\nservers = [\"{}\"]", origin.url());
    let routes = "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                  [[routes]]\nname = \"other\"\npath = \"/other/{*rest}\"\nupstream = \"other\"\n";
    let gateway = Gateway::setup(&origin).upstream(&other).routes(routes).start().await;
    let stored = [
        ("/group", ("cache-groups", "\"a\", \"b c\"")),
        ("/key", ("surrogate-key", "a 50%25")),
        ("/tag", ("cache-tag", "b c, d/e?f")),
        ("/other/key", ("surrogate-key", "a")),
    ];
    for (call, gone) in [
        ("/tag/a", &["/group", "/key", "/other/key"][..]),
        ("/tag/b%20c", &["/group", "/tag"]),
        ("/tag/d/e?f", &["/tag"]),
        ("/tag/d%2Fe%3Ff", &["/tag"]),
        ("/tag/50%25", &["/key"]),
        ("/tag/A", &[]),
        ("/tag/b", &[]),
    ] {
        gateway.admin("POST", "/clear").send().await.code(200);
        for (target, field) in stored {
            store(&origin, &gateway, target, field).await;
        }
        let told = gateway.admin("DELETE", call).send().await.code(200);
        let told: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(told["shared"], true, "{call}");
        for (target, _) in stored {
            let expected = if gone.contains(&target) { MISS } else { "hit" };
            let got = gateway.get(target).await;
            assert_eq!(got.cache_status(), expected, "{target} after {call}");
        }
    }
    let long = format!("/tag/{}", "a".repeat(1025));
    gateway.admin("DELETE", &long).send().await.code(400);
    gateway.admin("GET", "/tag/a").send().await.code(405).has("allow", "DELETE");
}

#[tokio::test]
async fn policy_reaches_tags_of_its_upstream_whatever_field_named_them() {
    let origin = Origin::start().await;
    let other = format!("[upstreams.other]\nservers = [\"{}\"]", origin.url());
    let routes = "[policies.writes]\nplugin = \"bundled:rest-writes\"\n\
                  config = { parents = 0, tags = [\"a\"] }\n\
                  [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                  invalidation = \"writes\"\n\
                  [[routes]]\nname = \"other\"\npath = \"/other/{*rest}\"\nupstream = \"other\"\n";
    let gateway = Gateway::setup(&origin).upstream(&other).routes(routes).start().await;
    store(&origin, &gateway, "/group", ("cache-groups", "\"a\"")).await;
    store(&origin, &gateway, "/key", ("surrogate-key", "a")).await;
    store(&origin, &gateway, "/b", ("surrogate-key", "b")).await;
    store(&origin, &gateway, "/other/key", ("surrogate-key", "a")).await;
    origin.on("/write").method("POST").reply(status(204));
    gateway.ask("POST", "/write").send().await.code(204);
    gateway.get("/b").await.status("hit");
    gateway.get("/other/key").await.status("hit");
    gateway.get("/group").await.status(MISS);
    gateway.get("/key").await.status(MISS);
}

#[tokio::test]
async fn clients_get_groups_and_no_surrogate_tags() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let tagged = |code: u16| {
        let reply = status(code).body("1").field("cache-groups", "\"a\"");
        reply.field("surrogate-key", "b").field("cache-tag", "c")
    };
    let held = origin.on("/a").hold(tagged(200).max_age(60));
    let mut clients = JoinSet::new();
    for _ in 0..2 {
        clients.spawn(gateway.ask("GET", "/a").send());
    }
    gateway.reaches("followers", 1).await;
    held.release();
    let mut got = clients.join_all().await;
    // From now on its head is at hand.
    for _ in 0..3 {
        got.push(gateway.get("/a").await.status("hit"));
    }
    origin.on("/b").reply(tagged(500));
    got.push(gateway.get("/b").await.code(500));
    origin.on("/c").reply(tagged(200));
    got.push(gateway.ask("POST", "/c").send().await.status("fwd=method"));
    for got in got {
        got.has("cache-groups", "\"a\"").lacks("surrogate-key").lacks("cache-tag");
    }
}

#[tokio::test]
async fn validated_response_keeps_its_tags() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok("1").max_age(60).etag("1");
    let reply = reply.field("cache-groups", "\"g\"").field("surrogate-key", "k");
    origin.on("/a").reply(reply);
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).max_age(60).etag("1"));
    let write = status(204).field("cache-group-invalidation", "\"g\"");
    origin.on("/write").method("POST").reply(write);
    for by_write in [true, false] {
        gateway.get("/a").await.status(MISS);
        gateway.clock().advance(secs(61));
        gateway.get("/a").await.status("fwd=stale; fwd-status=304; stored").lacks("surrogate-key");
        gateway.get("/a").await.status("hit").lacks("surrogate-key");
        if by_write {
            gateway.ask("POST", "/write").send().await.code(204);
        } else {
            gateway.admin("DELETE", "/tag/k").send().await.code(200);
        }
    }
    gateway.get("/a").await.status(MISS);
}
