//! L2 is out of use, L1 has no answer, and the route says what then (`on_l2_error`).

use crate::lag::{has_contact, lags};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok, status};
use crate::support::redis::Redis;
use crate::support::{secs, until};

const MISS: &str = "fwd=uri-miss; stored";
const SPARED: &str = "fwd=uri-miss; detail=l2-error";

/// A route for each way.
const ROUTES: &str = r#"
    [[routes]]
    name = "miss"
    path = "/miss/{*rest}"
    upstream = "origin"
    [[routes]]
    name = "stale"
    path = "/stale/{*rest}"
    upstream = "origin"
    on_l2_error = "stale"
    [[routes]]
    name = "fail"
    path = "/fail/{*rest}"
    upstream = "origin"
    on_l2_error = "fail"
"#;

fn setup(origin: &Origin, redis: &Redis, max_lag: &str) -> Setup {
    let cache = format!("[cache]\nmax_lag = \"{max_lag}\"\n[cache.l1]\nttl = \"1h\"");
    let setup = Gateway::setup(origin).cache(&cache);
    setup.l2(&redis.url(), "timeout = \"200ms\"").routes(ROUTES)
}

/// In step, and with this response stored on each route.
async fn with_stored(origin: &Origin, redis: &Redis, max_lag: &str, control: &str) -> Gateway {
    let gateway = setup(origin, redis, max_lag).start().await.in_step().await;
    for target in ["/miss/a", "/stale/a", "/fail/a"] {
        origin.on(target).reply(ok("1").etag("1").field("cache-control", control));
        origin.on(target).with("if-none-match", "\"1\"").reply(status(304).etag("1"));
        gateway.get(target).await.body("1").status(MISS);
    }
    gateway
}

async fn is_down(gateway: &Gateway) {
    until("L2 is out of use", || !gateway.l2().up && !gateway.l2().log_in_step).await;
}

#[tokio::test]
async fn routes_do_as_they_say_while_l2_is_out_of_use() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let gateway = with_stored(&origin, &redis, "1h", "max-age=60").await;
    redis.kill();
    is_down(&gateway).await;
    // What L1 has answers, whatever the route.
    for target in ["/miss/a", "/stale/a", "/fail/a"] {
        gateway.get(target).await.body("1").status("hit");
    }
    for target in ["/miss/new", "/stale/new", "/fail/new"] {
        origin.on(target).reply(ok("new").max_age(60));
    }
    for target in ["/miss/new", "/stale/new"] {
        gateway.get(target).await.code(200).body("new").status(MISS);
    }
    let refused = gateway.get("/fail/new").await.code(503).status(SPARED);
    refused.has("retry-after", "1").has("content-type", "application/problem+json");
    origin.saw("/fail/new", 0);

    gateway.clock().advance(secs(70));
    gateway.get("/miss/a").await.body("1").status("fwd=stale; fwd-status=304; stored");
    let stale = gateway.get("/stale/a").await.code(200).body("1").status("hit; detail=l2-error");
    assert!(stale.field("cache-status").unwrap().contains("ttl=-1"), "{stale:?}");
    assert!(stale.age() >= 70);
    gateway.get("/fail/a").await.code(503).status("fwd=stale; detail=l2-error");
    origin.saw("/stale/a", 1);
    origin.saw("/fail/a", 1);
    // A client's own wish is no work of L2's, and neither is a write.
    let fresh = gateway.ask("GET", "/fail/b").field("cache-control", "only-if-cached");
    fresh.send().await.code(504).status("fwd=uri-miss; detail=only-if-cached");
    origin.on("/fail/a").method("PUT").reply(status(204));
    gateway.ask("PUT", "/fail/a").send().await.code(204).status("fwd=method");

    let figures = gateway.stats().await;
    let of = |route: &str| {
        let figures = &figures["routes"][route];
        ["l2_errors", "l2_errors_stale", "l2_errors_failed"]
            .map(|name| figures[name].as_u64().unwrap())
    };
    assert_eq!(of("miss"), [2, 0, 0]);
    assert_eq!(of("stale"), [2, 1, 0]);
    assert_eq!(of("fail"), [3, 0, 2]);
    assert_eq!(figures["l2_errors"], 7);

    redis.restart();
    gateway.is_in_step().await;
    gateway.get("/fail/new").await.code(200).body("new").status(MISS);
}

/// RFC 9111 §4.2.4: not if "prohibited by an explicit in-protocol directive", by either side.
#[tokio::test]
async fn what_may_not_be_stale_is_fetched() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    for control in
        ["max-age=60, must-revalidate", "max-age=60, no-cache", "max-age=60, s-maxage=60"]
    {
        let gateway = with_stored(&origin, &redis, "1h", control).await;
        redis.hold();
        is_down(&gateway).await;
        gateway.clock().advance(secs(70));
        let got = gateway.get("/stale/a").await.code(200).body("1");
        assert!(got.cache_status().starts_with("fwd=stale; fwd-status=304"), "{control}: {got:?}");
        redis.release();
        gateway.drain().await;
        assert_eq!(redis.ask("FLUSHALL").unwrap(), "+OK\r\n");
    }
    let gateway = with_stored(&origin, &redis, "1h", "max-age=60").await;
    redis.hold();
    is_down(&gateway).await;
    gateway.clock().advance(secs(70));
    for directive in ["no-cache", "max-age=5", "min-fresh=5"] {
        let ask = gateway.ask("GET", "/stale/a").field("cache-control", directive);
        let got = ask.send().await.code(200).body("1");
        assert!(!got.cache_status().contains("l2-error"), "{directive}: {got:?}");
        gateway.clock().advance(secs(70));
    }
    // Purged, it is gone.
    let counted = origin.count("/stale/a");
    gateway.admin("DELETE", "/pattern/stale/a").send().await.code(202);
    gateway.get("/stale/a").await.code(200).body("1").status(MISS);
    origin.saw("/stale/a", counted + 1);
    // For five minutes, as for an upstream that gives no response.
    gateway.clock().advance(secs(60 + 298));
    gateway.get("/stale/a").await.code(200).body("1").status("hit; detail=l2-error");
    gateway.clock().advance(secs(4));
    let late = gateway.get("/stale/a").await.code(200).body("1");
    late.status("fwd=stale; fwd-status=304; stored");
}

#[tokio::test]
async fn what_may_have_been_invalidated_is_not_served_stale() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = with_stored(&origin, &redis, "2s", "max-age=60, stale-if-error=600").await;
    has_contact(&gateway).await;
    redis.hold();
    lags(&gateway).await;
    is_down(&gateway).await;
    let got = gateway.get("/stale/a").await.code(200).body("1");
    got.status("fwd=stale; fwd-status=304; stored; detail=unconfirmed");
    gateway.get("/fail/a").await.code(503).status("fwd=stale; detail=l2-error");
}

/// RFC 5861 §4 has what is stated stand in for a 503, and this is one.
#[tokio::test]
async fn what_may_stand_in_for_an_error_does_so_for_the_gateways_own() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = with_stored(&origin, &redis, "1h", "max-age=60, stale-if-error=600").await;
    redis.hold();
    is_down(&gateway).await;
    gateway.clock().advance(secs(70));
    gateway.get("/fail/a").await.code(200).body("1").status("hit; detail=l2-error");
    origin.saw("/fail/a", 1);
    gateway.clock().advance(secs(600));
    gateway.get("/fail/a").await.code(503).status("fwd=stale; detail=l2-error");
}

/// Before the breaker opens each look-up that is not answered counts as well; a miss does not.
#[tokio::test]
async fn upstream_is_spared_from_the_first_look_up_on_that_is_not_answered() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis, "1h").start().await.in_step().await;
    for number in 0..20 {
        origin.on(&format!("/fail/{number}")).reply(ok("1").max_age(60));
    }
    gateway.get("/fail/0").await.body("1").status(MISS);
    gateway.settled().await;
    // Not our type, and so nothing of ours.
    let keys = redis.ask("KEYS larder:r:*").unwrap();
    let key = keys.lines().find(|line| line.starts_with("larder:")).unwrap();
    assert_eq!(redis.ask(&format!("DEL {key}")).unwrap(), ":1\r\n");
    assert_eq!(redis.ask(&format!("LPUSH {key} garbage")).unwrap(), ":1\r\n");
    gateway.clock().advance(secs(70));
    gateway.get("/fail/0").await.code(200).body("1").status("fwd=stale; stored");

    redis.hold();
    for number in 1..20 {
        gateway.get(&format!("/fail/{number}")).await.code(503).status(SPARED);
    }
    assert_eq!(origin.asked().len(), 2);
    is_down(&gateway).await;
}

#[tokio::test]
async fn a_disk_in_use_fails_nothing() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let setup = Gateway::setup(&origin).disk(folder.path(), "").route("on_l2_error = \"fail\"");
    let gateway = setup.start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.code(200).body("1").status(MISS);
    assert_eq!(gateway.figure("l2_errors"), 0);
}
