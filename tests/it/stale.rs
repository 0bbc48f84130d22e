//! Stale responses that are served all the same (RFC 9111 §4.2.4, RFC 5861), and targeted fields
//! (RFC 9213), which say for how long.

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::redis::Redis;
use crate::support::tiers::NO_L1;
use crate::support::{secs, until};
use crate::tiers::in_l2;

const MISS: &str = "fwd=uri-miss; stored";
const MEANWHILE: &str = "hit; detail=stale-while-revalidate";
/// L1 keeps for an hour what is fresh for ten minutes.
const KEEPING: &str = "[cache.l1]\nttl = \"1h\"";
const INSTEAD: &str = "fwd=stale; detail=stale-if-error";

fn lasting(body: &str, cache_control: &str) -> Reply {
    ok(body.to_owned()).field("cache-control", cache_control)
}

/// Stores this for `/a`, and lets a minute and a second pass.
async fn stale_in(setup: Setup, origin: &Origin, reply: Reply) -> Gateway {
    let gateway = setup.start().await;
    origin.on("/a").reply(reply);
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(61));
    gateway
}

/// Nothing says by what to validate it, which then is to fetch it.
#[tokio::test]
async fn a_response_that_is_stale_when_it_comes_may_be_served_as_it_says() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(lasting("1", "max-age=0, stale-while-revalidate=60"));
    gateway.get("/a").await.body("1").status(MISS);
    origin.on("/a").reply(lasting("2", "max-age=0, stale-while-revalidate=60"));
    gateway.get("/a").await.body("1").status(MEANWHILE);
    gateway.reaches("stored", 2).await;
    gateway.get("/a").await.body("2").status(MEANWHILE);

    origin.on("/b").reply(lasting("1", "max-age=0, stale-if-error=60"));
    gateway.get("/b").await.body("1").status(MISS);
    origin.on("/b").reply(lasting("2", "max-age=0, stale-if-error=60"));
    gateway.get("/b").await.body("2").status("fwd=stale; stored");
    origin.on("/b").reply(status(503));
    gateway
        .get("/b")
        .await
        .code(200)
        .body("2")
        .status("fwd=stale; fwd-status=503; detail=stale-if-error");
    assert_eq!(origin.last("/b").field("if-none-match"), None);
}

/// Nor does a mistake of one client stand in for anything.
#[tokio::test]
async fn an_error_that_is_stale_when_it_comes_takes_no_place() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).route("stale_if_error = \"30m\"");
    let gateway = stale_in(setup, &origin, lasting("1", "max-age=60")).await;
    origin.on("/a").reply(status(400).field("cache-control", "max-age=0, stale-if-error=60"));
    gateway.get("/a").await.code(400).status("fwd=stale; detail=no-validator");
    origin.on("/a").reply(status(503));
    gateway.get("/a").await.code(200).body("1");
}

/// RFC 5861 §3, the example: "fresh for 600 seconds, and it may continue to be served stale for up
/// to an additional 30 seconds while an asynchronous validation is attempted".
#[tokio::test]
async fn a_stale_response_is_served_while_it_is_validated() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache(KEEPING).start().await;
    let cache_control = "max-age=600, stale-while-revalidate=30";
    origin.on("/a").reply(lasting("1", cache_control).etag("1"));
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(610));

    let held = origin.on("/a").hold(lasting("2", cache_control).etag("2"));
    for _ in 0..3 {
        let got = gateway.get("/a").await.code(200).body("1").status(MEANWHILE);
        assert!(got.age() >= 610, "{got:?}");
        assert!(got.field("cache-status").unwrap().contains("ttl=-1"), "{got:?}");
    }
    until("the origin is asked", || origin.count("/a") == 2).await;
    held.release();
    gateway.reaches("stored", 2).await;
    gateway.get("/a").await.body("2").status("hit");
    assert_eq!(origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
    origin.saw("/a", 2);

    // Nothing is served after the window.
    gateway.clock().advance(secs(631));
    origin.on("/a").reply(lasting("3", cache_control));
    gateway.get("/a").await.body("3").status("fwd=stale; stored");
}

#[tokio::test]
async fn variants_are_validated_side_by_side() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = |body: &str| {
        lasting(body, "max-age=60, stale-while-revalidate=60").field("vary", "accept-language")
    };
    let ask = |language: &str| gateway.ask("GET", "/a").field("accept-language", language).send();
    for language in ["de", "en"] {
        origin.on("/a").with("accept-language", language).reply(reply(language));
        ask(language).await.body(language);
    }
    gateway.clock().advance(secs(61));
    let held = origin.on("/a").hold(reply("new"));
    for language in ["de", "en", "de", "en"] {
        ask(language).await.body(language).status(MEANWHILE);
    }
    until("the origin is asked for both", || origin.count("/a") == 4).await;
    held.release();
    gateway.reaches("stored", 4).await;
    for language in ["de", "en"] {
        ask(language).await.body("new").status("hit");
    }
    origin.saw("/a", 4);
}

#[tokio::test]
async fn head_is_answered_while_what_get_stored_is_validated() {
    let origin = Origin::start().await;
    let reply = lasting("1", "max-age=60, stale-while-revalidate=60").etag("1");
    let gateway = stale_in(Gateway::setup(&origin), &origin, reply).await;
    origin.on("/a").reply(status(304).etag("1").max_age(60));
    let got = gateway.ask("HEAD", "/a").send().await.status(MEANWHILE);
    got.body("").has("content-length", "1");
    gateway.reaches("stored", 2).await;
    assert_eq!(origin.last("/a").method, "GET");
    gateway.get("/a").await.body("1").status("hit");
}

#[tokio::test]
async fn nothing_is_served_stale_where_it_is_forbidden() {
    let origin = Origin::start().await;
    for forbidding in ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"] {
        let line =
            format!("max-age=60, stale-while-revalidate=600, stale-if-error=600, {forbidding}");
        let setup = Gateway::setup(&origin).route("stale_if_error = \"1h\"");
        let gateway = stale_in(setup, &origin, lasting("1", &line).etag("1")).await;
        origin.on("/a").reply(status(503));
        gateway.get("/a").await.code(503).status("fwd=stale; detail=no-freshness");
    }
    let line = "max-age=60, stale-while-revalidate=600, stale-if-error=600";
    let gateway = stale_in(Gateway::setup(&origin), &origin, lasting("1", line).etag("1")).await;
    for request in ["no-cache", "max-age=60", "min-fresh=1"] {
        origin.on("/a").reply(status(503));
        let ask = gateway.ask("GET", "/a").field("cache-control", request);
        ask.send().await.code(503).status("fwd=stale; detail=no-freshness");
    }
    gateway.get("/a").await.body("1").status(MEANWHILE);
}

/// RFC 5861 §4, the example: fresh for 600 s, and "may be used if an error is encountered" for 1,200.
#[tokio::test]
async fn a_stale_response_answers_for_an_origin_in_trouble() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache(KEEPING).start().await;
    origin.on("/a").reply(lasting("1", "max-age=600, stale-if-error=1200"));
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(900));
    for code in [500, 502, 503, 504] {
        origin.on("/a").reply(status(code).body("broken"));
        let got = gateway.get("/a").await.code(200).body("1");
        assert!(got.age() >= 900, "{got:?}");
        got.status(&format!("fwd=stale; fwd-status={code}; detail=stale-if-error"));
        // Some give whatever they send a lifetime, or a validator.
        for says in ["max-age=60, stale-if-error=1200", "max-age=0"] {
            let broken = status(code).body("broken").field("cache-control", says).etag("e");
            origin.on("/a").reply(broken);
            let got = gateway.get("/a").await.code(200).body("1");
            got.status(&format!("fwd=stale; fwd-status={code}; detail=stale-if-error"));
            let ask = gateway.ask("GET", "/a").field("cache-control", "stale-if-error=0");
            ask.send().await.code(code).status("fwd=stale; detail=trouble");
        }
    }
    origin.on("/a").reply(status(501));
    gateway.get("/a").await.code(501).status("fwd=stale; detail=no-freshness");
    // 1,801 s old it is stale for 1,201.
    gateway.clock().advance(secs(901));
    origin.on("/a").reply(status(500));
    gateway.get("/a").await.code(500).status("fwd=stale; detail=no-freshness");
    origin.on("/a").reply(status(404));
    gateway.get("/a").await.code(404).status("fwd=stale; detail=no-freshness");
}

#[tokio::test]
async fn a_request_and_the_route_may_allow_it_too() {
    let origin = Origin::start().await;
    let gateway = stale_in(Gateway::setup(&origin), &origin, lasting("1", "max-age=60")).await;
    origin.on("/a").reply(status(503));
    gateway.get("/a").await.code(503);
    let asking = |seconds: u64| {
        let line = format!("stale-if-error={seconds}");
        gateway.ask("GET", "/a").field("cache-control", &line)
    };
    asking(60).send().await.code(200).status("fwd=stale; fwd-status=503; detail=stale-if-error");
    asking(0).send().await.code(503);

    let setup = Gateway::setup(&origin).route("stale_if_error = \"1m\"");
    let gateway = stale_in(setup, &origin, lasting("1", "max-age=60")).await;
    origin.on("/a").reply(status(503));
    gateway.get("/a").await.code(200).body("1");
    gateway.clock().advance(secs(60));
    gateway.get("/a").await.code(503);
}

/// RFC 9111 §4.2.4: "unless it is disconnected".
#[tokio::test]
async fn a_gateway_cut_off_from_its_origin_serves_what_it_has_for_a_while() {
    let origin = Origin::start().await;
    let line = "max-age=60";
    let gateway = stale_in(Gateway::setup(&origin), &origin, lasting("1", line)).await;
    origin.on("/b").reply(lasting("1", "max-age=60, must-revalidate"));
    gateway.get("/b").await.status("fwd=uri-miss; stored");
    drop(origin);
    gateway.get("/a").await.code(200).body("1").status(INSTEAD);
    gateway.ask("HEAD", "/a").send().await.code(200).status(INSTEAD);
    gateway.clock().advance(secs(100));
    gateway.get("/a").await.code(200).body("1").status(INSTEAD);
    // "It MUST generate an error response" (§5.2.2.2).
    gateway.get("/b").await.code(502).status("fwd=stale; detail=upstream-refused");
    gateway.get("/c").await.code(502).status("fwd=uri-miss; detail=upstream-refused");

    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).route("stale_if_error = \"0s\"");
    let gateway = stale_in(setup, &origin, lasting("1", line)).await;
    drop(origin);
    gateway.get("/a").await.code(502).status("fwd=stale; detail=upstream-refused");
}

#[tokio::test]
async fn followers_get_the_stale_response_too() {
    let origin = Origin::start().await;
    let reply = lasting("1", "max-age=60, stale-if-error=600");
    let gateway = stale_in(Gateway::setup(&origin), &origin, reply).await;
    let held = origin.on("/a").hold(status(503));
    let asks: Vec<_> = (0..4).map(|_| tokio::spawn(gateway.ask("GET", "/a").send())).collect();
    gateway.reaches("followers", 3).await;
    held.release();
    for ask in asks {
        ask.await.unwrap().code(200).body("1");
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn what_l2_holds_is_served_stale_as_well() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let setup = || Gateway::setup(&origin).redis(&redis);
    let first = setup().start().await.in_step().await;
    origin.on("/a").reply(lasting("1", "max-age=60, stale-while-revalidate=600").etag("1"));
    first.get("/a").await.status(MISS);
    in_l2(&redis, 1).await;
    let second = setup().start().await.in_step().await;
    second.clock().advance(secs(61));
    origin.on("/a").reply(lasting("2", "max-age=60").etag("2"));
    second.get("/a").await.body("1").status(MEANWHILE);
    second.reaches("stored", 1).await;
    second.get("/a").await.body("2").status("hit");
    origin.saw("/a", 2);
}

/// Longer than to be validated, which is two minutes here.
#[tokio::test]
async fn l2_keeps_a_response_as_long_as_it_may_stand_in() {
    const STALE: &str = "fwd=stale; fwd-status=503; detail=stale-if-error";

    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let setup = Gateway::setup(&origin).cache(NO_L1).disk(folder.path(), "");
    let setup = setup.route("stale_if_error = \"30m\"");
    let gateway = stale_on_disk(setup, &origin).await;
    origin.on("/a").reply(status(503));
    gateway.get("/a").await.code(200).body("1").status(STALE);

    // Nobody says how long.
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let setup = Gateway::setup(&origin).cache(NO_L1).disk(folder.path(), "");
    let gateway = stale_on_disk(setup, &origin).await;
    drop(origin);
    gateway.get("/a").await.code(200).body("1").status(INSTEAD);

    // Redis goes by its own clock.
    let (origin, redis) = (Origin::start().await, Redis::start());
    let setup = Gateway::setup(&origin).route("stale_if_error = \"30m\"").redis(&redis);
    let gateway = setup.start().await.in_step().await;
    origin.on("/a").reply(lasting("1", "max-age=60"));
    gateway.get("/a").await.status(MISS);
    in_l2(&redis, 1).await;
    let keys = redis.ask("KEYS larder:r:*").unwrap();
    let left = redis.ask(&format!("PTTL {}", keys.lines().nth(2).unwrap())).unwrap();
    let left: u64 = left[1..].trim().parse().unwrap();
    assert!((1_500_000..=1_860_000).contains(&left), "{left}");
}

/// Stores a response for `/a` that is fresh for a minute, and lets four pass.
async fn stale_on_disk(setup: Setup, origin: &Origin) -> Gateway {
    let gateway = setup.start().await.in_step().await;
    origin.on("/a").reply(lasting("1", "max-age=60"));
    gateway.get("/a").await.status(MISS);
    gateway.settled().await;
    gateway.clock().advance(secs(240));
    gateway
}

/// RFC 9213 §2.2 and §3.1: the examples, in which a CDN has its own lifetime.
#[tokio::test]
async fn a_targeted_field_may_allow_what_cache_control_forbids() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let cdn = |value: &'static str| ("cdn-cache-control", value);
    for (number, (other, targeted, lifetime, why)) in [
        (
            ("cache-control", "max-age=60, s-maxage=120"),
            cdn("max-age=600"),
            600,
            "CDN caches would consider the response to be fresh for 600 seconds",
        ),
        (("x-none", "1"), cdn("max-age=600"), 600, "it needs no Cache-Control"),
        (("cache-control", "no-store"), cdn("max-age=600"), 600, "MUST ignore Cache-Control"),
        (("cache-control", "private"), cdn("max-age=600"), 600, "MUST ignore Cache-Control"),
        (("expires", "Thu, 01 Jan 1970 00:00:00 GMT"), cdn("max-age=9"), 9, "MUST ignore Expires"),
        (("larder-cache-control", "max-age=7"), cdn("max-age=5"), 7, "it comes first in the list"),
        (("cache-control", "max-age=8"), cdn("max-age=5, &&"), 8, "a parsing error: as if absent"),
        (("cache-control", "max-age=8"), ("surrogate-control", "max-age=5"), 8, "not on the list"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        origin.on(&target).reply(ok("1").field(other.0, other.1).field(targeted.0, targeted.1));
        gateway.get(&target).await.status(MISS);
        let got = gateway.get(&target).await.status("hit");
        let field = got.field("cache-status").unwrap();
        let ttl = |seconds: u64| field.ends_with(&format!("ttl={seconds}"));
        assert!(ttl(lifetime) || ttl(lifetime - 1), "{field}: {why}");
        got.has(other.0, other.1).has(targeted.0, targeted.1);
    }
}

#[tokio::test]
async fn a_targeted_field_may_forbid_what_cache_control_allows() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (value, detail) in
        [("no-store", "no-store"), ("private", "private"), ("none", "no-freshness")]
    {
        origin.on("/a").reply(lasting("1", "max-age=600").field("cdn-cache-control", value));
        gateway.get("/a").await.status(&format!("fwd=uri-miss; detail={detail}"));
    }
}

#[tokio::test]
async fn the_target_list_is_the_operators() {
    let origin = Origin::start().await;
    let reply = || {
        let reply = lasting("1", "max-age=3").field("surrogate-control", "max-age=60+30");
        reply.field("cdn-cache-control", "max-age=7")
    };
    for (list, after, expected) in [
        ("[\"Surrogate-Control\", \"CDN-Cache-Control\"]", 50, "hit"),
        ("[\"Surrogate-Control\"]", 70, MEANWHILE),
        ("[\"CDN-Cache-Control\"]", 5, "hit"),
        ("[]", 5, "fwd=stale; stored"),
    ] {
        let setup = Gateway::setup(&origin).cache(&format!("[cache]\ntargeted = {list}"));
        let gateway = setup.start().await;
        origin.on("/a").reply(reply());
        gateway.get("/a").await.status(MISS);
        gateway.clock().advance(secs(after));
        gateway.get("/a").await.body("1").status(expected);
    }
}

/// RFC 8246 §2: a proxy "SHOULD skip conditionally revalidating fresh responses containing the
/// immutable extension unless there is a signal from the client that a validation is necessary".
#[tokio::test]
async fn what_is_immutable_is_not_validated_while_it_is_fresh() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(lasting("1", "max-age=60, immutable").etag("1"));
    gateway.get("/a").await.status(MISS);
    let asking = |line: &str| gateway.ask("GET", "/a").field("cache-control", line);
    asking("max-age=0").send().await.status("hit");
    asking("no-cache").send().await.status("fwd=request; stored");
    gateway.clock().advance(secs(61));
    asking("max-age=0").send().await.status("fwd=stale; stored");
}

/// RFC 9111 §5.2.2.3: "If the cache … understands … it SHOULD ignore the no-store directive".
#[tokio::test]
async fn must_understand_excuses_a_no_store() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let line = "must-understand, no-store, max-age=60";
    origin.on("/a").reply(lasting("1", line));
    gateway.get("/a").await.status(MISS);
    gateway.get("/a").await.status("hit");
    origin.on("/b").reply(status(299).field("cache-control", line));
    gateway.get("/b").await.status("fwd=uri-miss; detail=must-understand");
}

/// RFC 5861 §3: a validation is to be attempted, whatever the request would have put up with.
#[tokio::test]
async fn what_a_request_puts_up_with_does_not_go_with_the_validation() {
    let origin = Origin::start().await;
    let reply = lasting("1", "max-age=60, stale-while-revalidate=60").etag("1");
    let gateway = stale_in(Gateway::setup(&origin), &origin, reply).await;
    let ask = gateway.ask("GET", "/a").field("cache-control", "only-if-cached");
    ask.send().await.body("1").status(MEANWHILE);
    until("the origin is asked", || origin.count("/a") == 2).await;
    assert_eq!(origin.last("/a").field("cache-control"), None);
}

/// However fresh it was: or else there would be no end to what stands in for it.
#[tokio::test]
async fn what_a_soft_purge_covers_is_stale_from_then_on() {
    let origin = Origin::start().await;
    let short = "max-age=600, stale-while-revalidate=1, stale-if-error=1";
    let (targets, calls) = (
        [("/a", short), ("/b", "max-age=600, stale-if-error=60")],
        [("DELETE", "/pattern/*?soft=true"), ("POST", "/clear?soft=true")],
    );
    let mut gateways = Vec::new();
    for (target, cache_control) in targets {
        origin.on(target).reply(lasting("1", cache_control));
    }
    for (method, call) in calls {
        let gateway = Gateway::before(&origin).await;
        for (target, _) in targets {
            gateway.get(target).await.body("1").status(MISS);
        }
        gateway.admin(method, call).send().await.code(200);
        gateways.push(gateway);
    }
    // No clock of a test says when something was invalidated.
    tokio::time::sleep(secs(2)).await;
    for (target, _) in targets {
        origin.on(target).reply(status(500).body("sorry"));
    }
    for gateway in &gateways {
        let got = gateway.get("/a").await.code(500).body("sorry");
        got.status("fwd=stale; detail=no-freshness");
        let got = gateway.get("/b").await.code(200).body("1");
        got.status("fwd=stale; fwd-status=500; detail=stale-if-error");
    }
}
