//! A gateway that has been out of the invalidation log's reach for longer than `max_lag`, and what its
//! routes do then with what they have stored (`on_lag`).

use larder::clock;
use serde_json::json;

use crate::support::client::{Got, Http2, answers, sent};
use crate::support::gateway::{FLEET, Gateway, Setup};
use crate::support::origin::{Origin, ok, status};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, secs, until};

const MISS: &str = "fwd=uri-miss; stored";
/// The upstream said that it is still good.
const VALIDATED: &str = "fwd=stale; fwd-status=304; stored; detail=unconfirmed";
const FETCHED: &str = "fwd=stale; stored; detail=unconfirmed";
/// Another request has fetched it.
const SHARED: &str = "fwd=stale; collapsed; detail=unconfirmed";

/// Three routes, by what they do.
const ROUTES: &str = r#"
    [[routes]]
    name = "serve"
    path = "/serve/{*rest}"
    upstream = "origin"
    on_lag = "serve"
    stale_if_error = "1h"
    [[routes]]
    name = "validate"
    path = "/validate/{*rest}"
    upstream = "origin"
    stale_if_error = "1h"
    [[routes]]
    name = "bypass"
    path = "/bypass/{*rest}"
    upstream = "origin"
    on_lag = "bypass"
    stale_if_error = "1h"
"#;

/// With a short bound, which a busy machine keeps all the same while all is well.
fn setup(origin: &Origin, redis: &str) -> Setup {
    let cache = "[cache]\nmax_lag = \"2s\"\n[cache.l1]\nttl = \"1h\"";
    let setup = Gateway::setup(origin).cache(cache);
    setup.l2(redis, "timeout = \"200ms\"").routes(ROUTES)
}

/// Waits for contact after this moment, so that what was fetched before is confirmed by that alone.
pub(crate) async fn has_contact(gateway: &Gateway) {
    // The first may be from just before.
    for _ in 0..2 {
        let mut lag = 0.0;
        let is_shorter = || {
            let before = std::mem::replace(&mut lag, gateway.l2().log_lag_seconds);
            lag < before
        };
        until("there is contact", is_shorter).await;
    }
}

pub(crate) async fn lags(gateway: &Gateway) {
    until("the bound is passed", || gateway.l2().log_lag_passed).await;
    assert!(gateway.l2().log_lag_seconds >= 2.0);
}

/// Holds Redis still until the bound is passed, and nothing that it said before can be contact any more.
async fn falls_silent(redis: &Redis, gateway: &Gateway) {
    redis.hold();
    until("it is cut off", || !gateway.l2().log_in_step).await;
    lags(gateway).await;
}

pub(crate) async fn is_in_contact(gateway: &Gateway) {
    gateway.is_in_step().await;
    until("there is contact again", || !gateway.l2().log_lag_passed).await;
}

/// Asks until the answer has this status, which it has at some time.
async fn becomes(gateway: &Gateway, target: &str, status: &str) -> Got {
    let begun = clock::instant();
    loop {
        let got = gateway.get(target).await.code(200);
        if got.cache_status() == status {
            return got;
        }
        assert!(begun.elapsed() < PATIENCE, "never `{status}`: {got:?}");
    }
}

#[tokio::test]
async fn routes_do_as_they_say_once_the_log_has_been_out_of_reach_for_too_long() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis.url()).start().await.in_step().await;
    for target in ["/serve/a", "/validate/a", "/bypass/a"] {
        origin.on(target).reply(ok("1").etag("1").max_age(600));
        origin.on(target).with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(600));
        gateway.get(target).await.body("1").status(MISS);
        gateway.get(target).await.body("1").status("hit");
    }
    has_contact(&gateway).await;
    redis.hold();
    lags(&gateway).await;
    gateway.get("/serve/a").await.body("1").status("hit; detail=unconfirmed");
    gateway.get("/validate/a").await.body("1").status(VALIDATED);
    gateway.get("/bypass/a").await.body("1").status(FETCHED);
    assert_eq!(origin.last("/bypass/a").field("if-none-match"), None);
    for (target, times) in [("/serve/a", 1), ("/validate/a", 2), ("/bypass/a", 2)] {
        origin.saw(target, times);
    }
    let figures = gateway.stats().await;
    assert_eq!(figures["unconfirmed"], 3);
    assert_eq!(figures["routes"]["validate"]["unconfirmed"], 1);
    assert_eq!(figures["store"]["l2"]["log_lag_passed"], true);

    redis.release();
    is_in_contact(&gateway).await;
    for target in ["/serve/a", "/validate/a", "/bypass/a"] {
        gateway.get(target).await.body("1").status("hit");
    }
    assert_eq!(gateway.figure("unconfirmed"), 3);
}

/// What was fetched less than `max_lag` ago needs no confirmation: an invalidation that came since then
/// is within the bound.
#[tokio::test]
async fn what_is_fetched_without_contact_is_good_for_max_lag() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    redis.hold();
    let gateway = setup(&origin, &redis.url()).start().await;
    lags(&gateway).await;
    for (target, expected) in [("/validate/a", VALIDATED), ("/bypass/a", FETCHED)] {
        origin.on(target).reply(ok("1").etag("1").max_age(600));
        origin.on(target).with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(600));
        gateway.get(target).await.body("1").status(MISS);
        gateway.get(target).await.body("1").status("hit");
        becomes(&gateway, target, expected).await.body("1");
        gateway.get(target).await.body("1").status("hit");
        origin.saw(target, 2);
    }
}

#[tokio::test]
async fn an_invalidation_holds_within_max_lag_on_a_gateway_that_never_hears_of_it() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let way = Proxy::before(&redis).await;
    let cut_off = setup(&origin, &way.url()).start().await.in_step().await;
    let other = setup(&origin, &redis.url()).start().await.in_step().await;
    origin.on("/validate/a").reply(ok("1").max_age(600));
    cut_off.get("/validate/a").await.body("1").status(MISS);

    has_contact(&cut_off).await;
    way.cut();
    until("it is cut off", || !cut_off.l2().log_in_step).await;
    origin.on("/validate/a").reply(ok("2").max_age(600));
    let purged = other.admin("DELETE", "/pattern/validate/*").send().await.code(200);
    assert!(String::from_utf8_lossy(&purged.body).contains("\"shared\":true"), "{purged:?}");
    other.get("/validate/a").await.body("2").status(MISS);

    lags(&cut_off).await;
    cut_off.get("/validate/a").await.body("2").status(FETCHED);

    // Later it hears of it, and then the other way round.
    way.mend();
    is_in_contact(&cut_off).await;
    cut_off.get("/validate/a").await.body("2");
    cut_off.admin("POST", "/clear").send().await.code(200);
    until("the other hears of it", || other.store().log_position >= cut_off.store().log_position)
        .await;
}

/// `max_lag` is a promise to whoever invalidates. What may be beyond it does not stand in for an
/// upstream in trouble, whatever `stale_if_error` and `stale-while-revalidate` say.
#[tokio::test]
async fn what_may_have_been_invalidated_stands_in_for_nothing() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis.url()).start().await.in_step().await;
    let lasting = "max-age=600, stale-if-error=600, stale-while-revalidate=600";
    for target in ["/serve/a", "/validate/a", "/bypass/a"] {
        origin.on(target).reply(ok("1").etag("1").field("cache-control", lasting));
        gateway.get(target).await.body("1").status(MISS);
        origin.on(target).reply(status(503));
    }
    has_contact(&gateway).await;
    redis.hold();
    lags(&gateway).await;
    gateway.get("/serve/a").await.code(200).body("1").status("hit; detail=unconfirmed");
    for target in ["/validate/a", "/bypass/a"] {
        gateway.get(target).await.code(503);
    }
    gateway.clock().advance(secs(700));
    let got = gateway.get("/serve/a").await.code(200).body("1");
    got.status("hit; detail=stale-while-revalidate");
    gateway.get("/validate/a").await.code(503);

    redis.release();
    is_in_contact(&gateway).await;
    let got = gateway.get("/validate/a").await.code(200).body("1");
    got.status("hit; detail=stale-while-revalidate");
}

/// Where it cannot be served, it keeps no error from being stored: whoever has waited for that would ask the
/// upstream once more, each by itself.
#[tokio::test]
async fn an_error_that_nothing_stands_in_for_is_shared() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis.url()).start().await.in_step().await;
    origin.on("/validate/a").reply(ok("1").etag("1").max_age(600));
    gateway.get("/validate/a").await.body("1").status(MISS);
    has_contact(&gateway).await;
    falls_silent(&redis, &gateway).await;
    let held = origin.on("/validate/a").hold(status(503).max_age(60));
    let sent = sent((0..20).map(|_| gateway.ask("GET", "/validate/a")));
    // A fetch is joined within the same span of `max_lag`, so there may be more than one.
    let asked = || origin.count("/validate/a") as u64;
    let joined = || gateway.figure("followers");
    until("all wait", || asked() + joined() == 1 + 20).await;
    let (leaders, followers) = (asked() - 1, joined());
    held.release();
    let answers = answers(sent).await;
    assert!(answers.iter().all(|got| got.status == 503), "{answers:?}");
    let told = |what: &str| answers.iter().filter(|got| got.cache_status() == what).count() as u64;
    assert_eq!((told(FETCHED), told(SHARED)), (leaders, followers), "{answers:?}");
    assert_eq!((asked() - 1, joined()), (leaders, followers));
}

/// It began longer than `max_lag` before: what was invalidated since then may cover it.
#[tokio::test]
async fn a_fetch_of_an_earlier_silence_is_not_joined() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let setup = setup(&origin, &redis.url()).upstream("timeout = \"10m\"");
    let gateway = setup.start().await.in_step().await;
    // It waits for longer than other clients.
    let client = Http2::to(gateway.address()).await.naming(FLEET);
    falls_silent(&redis, &gateway).await;
    let held = origin.on("/validate/a").hold(ok("1").max_age(600));
    let first = tokio::spawn(client.get("/validate/a"));
    until("the origin is asked", || origin.count("/validate/a") == 1).await;

    let before = gateway.store().log_position;
    redis.release();
    is_in_contact(&gateway).await;
    falls_silent(&redis, &gateway).await;
    // It is not told from a later one by what was invalidated in between.
    assert_eq!(gateway.store().log_position, before);
    origin.on("/validate/a").reply(ok("2").max_age(600));
    gateway.get("/validate/a").await.body("2").status(MISS);
    held.release();
    first.await.unwrap().body("1").status(MISS);
    origin.saw("/validate/a", 2);
    assert_eq!(gateway.figure("followers"), 0);
}

#[tokio::test]
async fn a_request_that_wants_a_stored_response_alone_is_not_given_what_is_unconfirmed() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis.url()).start().await.in_step().await;
    origin.on("/validate/a").reply(ok("1").max_age(600));
    gateway.get("/validate/a").await.status(MISS);
    has_contact(&gateway).await;
    redis.hold();
    lags(&gateway).await;
    for directive in ["only-if-cached", "only-if-cached, max-stale"] {
        let ask = gateway.ask("GET", "/validate/a").field("cache-control", directive);
        ask.send().await.code(504).status("fwd=stale; detail=only-if-cached");
    }
    // Of `HEAD` nothing is stored; what it says of the stored response confirms that.
    origin.on("/validate/a").method("HEAD").reply(ok("").max_age(600).field("content-length", "1"));
    gateway.ask("HEAD", "/validate/a").send().await.code(200).status(FETCHED);
    gateway.get("/validate/a").await.body("1").status("hit");
    origin.saw("/validate/a", 2);
}

/// Whoever stops a gateway does not lose what it could not yet tell the others, if they can be told.
#[tokio::test]
async fn what_waits_is_shared_when_a_gateway_ends() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let way = Proxy::before(&redis).await;
    let ending = setup(&origin, &way.url()).start().await.in_step().await;
    let other = setup(&origin, &redis.url()).start().await.in_step().await;
    origin.on("/serve/a").reply(ok("1").max_age(600));
    other.get("/serve/a").await.status(MISS);
    way.cut();
    until("it is cut off", || !ending.l2().log_in_step).await;
    let calls = way.calls();
    until("it tries again", || way.calls() > calls + 4).await;
    ending.admin("DELETE", "/pattern/serve/*").send().await.code(202);
    assert_eq!(ending.l2().log_waiting, 1);

    way.mend();
    ending.drain().await;
    let log = redis.ask("XRANGE larder:log - +").unwrap();
    assert!(log.contains("serve/*"), "{log}");
    origin.on("/serve/a").reply(ok("2").max_age(600));
    becomes(&other, "/serve/a", MISS).await.body("2");
}

#[tokio::test]
async fn without_redis_there_is_nothing_to_lag_behind() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).cache("[cache]\nmax_lag = \"1s\"").routes(ROUTES);
    let gateway = setup.start().await;
    origin.on("/validate/a").reply(ok("1").max_age(600));
    gateway.get("/validate/a").await.body("1").status(MISS);
    gateway.clock().advance(secs(60));
    gateway.get("/validate/a").await.body("1").status("hit");
    assert_eq!(gateway.stats().await["store"]["l2"], json!(null));
}
