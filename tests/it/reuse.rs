//! Which stored responses are served (RFC 9111 §4).

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::secs;

#[tokio::test]
async fn fresh_response_is_a_hit_and_has_its_age() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.code(200).body("1").status("fwd=uri-miss; stored").lacks("age");

    gateway.clock().advance(secs(30));
    let hit = gateway.get("/a").await.code(200).body("1").status("hit").has("age", "30");
    assert!(hit.field("cache-status").unwrap().contains("ttl=30"), "{hit:?}");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn stale_response_is_validated_and_freshened() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").etag("v1").max_age(60));
    gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");

    gateway.clock().advance(secs(61));
    origin.on("/a").with("if-none-match", "\"v1\"").reply(status(304).etag("v1").max_age(60));
    gateway.get("/a").await.code(200).body("1").status("fwd=stale; fwd-status=304; stored");
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 2);
}
