//! L1 and L2: where a response is stored, how it moves, and what an invalidation reaches.

use std::time::Duration;

use larder::stored::Position;
use tokio::task::JoinSet;

use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::redis::Redis;
use crate::support::tiers::Tiers;
use crate::support::{secs, until};

/// How many frames a namespace has in Redis.
fn frames(redis: &Redis, namespace: &str) -> usize {
    let keys = redis.ask(&format!("KEYS {namespace}:r:*")).unwrap();
    let count = keys.strip_prefix('*').and_then(|keys| keys.split("\r\n").next());
    count.unwrap_or_else(|| panic!("{keys}")).parse().unwrap()
}

/// Waits until L2 holds so many frames: it is written in the background.
pub(crate) async fn in_l2(redis: &Redis, count: usize) {
    until("L2 has it", || frames(redis, "larder") == count).await;
}

/// Where the shared log ends. A gateway's own figure may not have got there yet, even if it was this
/// gateway that appended the record.
pub(crate) fn log_end(redis: &Redis) -> Position {
    let last = redis.ask("XREVRANGE larder:log + - COUNT 1").unwrap();
    let id = last.lines().find(|line| line.contains('-'));
    id.unwrap_or_else(|| panic!("the log is empty: {last}")).parse().unwrap()
}

/// Where the log was when an operator's call was applied.
fn position(got: &Got) -> Position {
    let answer: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(answer["shared"], true, "{answer}");
    answer["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn response_is_stored_in_both_tiers_and_moves_up_where_it_is_asked_for() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(600));
    first.get("/a").await.body("1").status("fwd=uri-miss; stored");
    first.get("/a").await.body("1").status("hit");
    assert_eq!((first.figure("l1_hits"), first.figure("l2_hits")), (1, 0));
    in_l2(&redis, 1).await;

    second.get("/a").await.body("1").status("hit");
    assert_eq!((second.figure("l1_misses"), second.figure("l2_hits")), (1, 1));
    second.get("/a").await.body("1").status("hit");
    assert_eq!((second.figure("l1_hits"), second.figure("l2_hits")), (1, 1));
    origin.saw("/a", 1);
}

#[tokio::test]
async fn age_stays_true_on_the_way_up() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    // It was 10 seconds old when it came.
    origin.on("/a").reply(ok("1").max_age(600).field("age", "10"));
    first.get("/a").await.body("1");
    in_l2(&redis, 1).await;

    for (later, age) in [(0, "10"), (30, "40"), (5, "45")] {
        origin.clock().advance(secs(later));
        second.get("/a").await.body("1").status("hit").has("age", age);
    }
    first.get("/a").await.status("hit").has("age", "45");
    assert_eq!((second.figure("l2_hits"), second.figure("l1_hits")), (1, 2));

    // It ends for both at the same moment.
    origin.clock().advance(secs(600 - 45));
    first.get("/a").await.status("fwd=stale; stored");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn gateway_that_starts_again_finds_what_it_stored() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    // The drain waits for what is on its way to Redis.
    gateway.drain().await;

    let gateway = Gateway::of_fleet(&origin, &redis).await;
    gateway.get("/a").await.body("1").status("hit");
    assert_eq!(gateway.figure("l2_hits"), 1);
    origin.saw("/a", 1);
}

#[tokio::test]
async fn l1_keeps_a_response_no_longer_than_its_ttl() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    let setup = || Gateway::setup(&origin).cache("[cache.l1]\nttl = \"5m\"\n");
    for (times, setup) in (1..).zip(tiers.setups(setup, "")) {
        let gateway = setup.start().await.in_step().await;
        origin.on("/a").reply(ok("1").max_age(3600));
        gateway.get("/a").await.status("fwd=uri-miss; stored");
        gateway.settled().await;

        origin.clock().advance(secs(299));
        gateway.get("/a").await.status("hit").has("age", "299");
        assert_eq!((gateway.figure("l1_hits"), gateway.figure("l2_hits")), (1, 0));
        origin.clock().advance(secs(2));
        gateway.get("/a").await.status("hit").has("age", "301");
        assert_eq!((gateway.figure("l1_hits"), gateway.figure("l2_hits")), (1, 1));
        origin.saw("/a", times);
    }
}

#[tokio::test]
async fn l1_keeps_what_l2_held_no_longer_than_l2_would() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    // The two do not agree on how long L2 keeps a response.
    let setup = Gateway::setup(&origin).l2(&redis.url(), "timeout = \"10s\"\nttl = \"1m\"");
    let first = setup.start().await.in_step().await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(3600));
    first.get("/a").await.status("fwd=uri-miss; stored");
    in_l2(&redis, 1).await;

    second.get("/a").await.status("hit");
    second.get("/a").await.status("hit");
    assert_eq!((second.figure("l2_hits"), second.figure("l1_hits")), (1, 1));
    // Redis goes by its own clock and holds it still.
    origin.clock().advance(secs(61));
    second.get("/a").await.status("hit").has("age", "61");
    assert_eq!((second.figure("l2_hits"), second.figure("l1_hits")), (2, 1));
    origin.saw("/a", 1);
}

#[tokio::test]
async fn l2_keeps_a_response_no_longer_than_its_ttl() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let setup = Gateway::setup(&origin).l2(&redis.url(), "timeout = \"10s\"\nttl = \"2m\"");
    let gateway = setup.start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(3600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    in_l2(&redis, 1).await;
    let keys = redis.ask("KEYS larder:r:*").unwrap();
    let left = redis.ask(&format!("PTTL {}", keys.lines().nth(2).unwrap())).unwrap();
    let left = Duration::from_millis(left[1..].trim().parse().unwrap());
    assert!(left <= secs(120) && left > Duration::ZERO, "{left:?}");
}

#[tokio::test]
async fn namespaces_share_nothing() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let of = |namespace: &str| {
        let cache = format!("[cache]\nnamespace = \"{namespace}\"");
        Gateway::setup(&origin).cache(&cache).redis(&redis).start()
    };
    let (shop, other) = (of("shop").await.in_step().await, of("other").await.in_step().await);
    origin.on("/a").reply(ok("1").max_age(600));
    shop.get("/a").await.status("fwd=uri-miss; stored");
    until("L2 has it", || frames(&redis, "shop") == 1).await;
    other.get("/a").await.body("1").status("fwd=uri-miss; stored");
    until("L2 has it", || frames(&redis, "other") == 1).await;
    origin.saw("/a", 2);

    // Nor does an invalidation cross.
    other.admin("POST", "/clear").send().await.code(200);
    let receipt = shop.admin("DELETE", "/pattern/nothing").send().await.code(200);
    shop.has_applied(position(&receipt)).await;
    shop.get("/a").await.status("hit");
    other.get("/a").await.status("fwd=uri-miss; stored");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn l2_works_alone() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for (target, gateway) in ["/redis", "/disk"].into_iter().zip(tiers.in_l2(&origin).await) {
        origin.on(target).reply(ok("1").max_age(600));
        gateway.get(target).await.body("1").status("fwd=uri-miss; stored");
        gateway.settled().await;
        origin.clock().advance(secs(30));
        gateway.get(target).await.body("1").status("hit").has("age", "30");
        gateway.get(target).await.body("1").status("hit").has("age", "30");
        let l1 = gateway.figure("l1_hits") + gateway.figure("l1_misses");
        assert_eq!((gateway.figure("l2_hits"), gateway.figure("l2_misses"), l1), (2, 1, 0));
        origin.saw(target, 1);

        origin.on(target).method("PUT").reply(status(204));
        gateway.ask("PUT", target).send().await.code(204).status("fwd=method");
        gateway.get(target).await.body("1").status("fwd=uri-miss; stored");
    }
}

#[tokio::test]
async fn l1_works_alone() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.get("/a").await.body("1").status("hit");
    let l2 = gateway.figure("l2_hits") + gateway.figure("l2_misses");
    assert_eq!((gateway.figure("l1_hits"), l2), (1, 0));
    assert!(gateway.stats().await["store"]["l2"].is_null());
    origin.saw("/a", 1);
}

#[tokio::test]
async fn gateway_without_tiers_is_a_plain_proxy() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).cache("[cache.l1]\ncapacity = \"0\"");
    let gateway = setup.start().await;
    origin.on("/a").reply(ok("1").etag("v1").max_age(600));
    for _ in 0..2 {
        gateway.get("/a").await.code(200).body("1").status("fwd=bypass").lacks("age");
    }
    origin.saw("/a", 2);
    let figures = ["stored", "l1_hits", "l1_misses", "l2_hits", "l2_misses", "followers"];
    assert_eq!(figures.map(|name| gateway.figure(name)), [0; 6]);
    // The client's own validators go through, and so does the answer.
    origin.on("/a").with("if-none-match", "\"v1\"").reply(status(304).etag("v1"));
    let ask = gateway.ask("GET", "/a").field("if-none-match", "\"v1\"");
    ask.send().await.code(304).status("fwd=bypass");
    origin.on("/a").method("PUT").reply(status(204));
    gateway.ask("PUT", "/a").send().await.code(204).status("fwd=method");
}

#[tokio::test]
async fn variants_are_told_apart_in_l2() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    for language in ["de", "en", "fr"] {
        let reply = ok(language).max_age(600).field("vary", "accept-language");
        origin.on("/a").with("accept-language", language).reply(reply);
    }
    let ask = |gateway: &Gateway, language: &str| {
        gateway.ask("GET", "/a").field("accept-language", language).send()
    };
    ask(&first, "de").await.body("de").status("fwd=uri-miss; stored");
    // The response, and the list of variants, to which the next one is added.
    in_l2(&redis, 2).await;
    ask(&first, "en").await.body("en").status("fwd=vary-miss; stored");
    // The drain waits for what is on its way to Redis.
    first.drain().await;
    assert_eq!(frames(&redis, "larder"), 3);

    ask(&second, "de").await.body("de").status("hit");
    ask(&second, "fr").await.body("fr").status("fwd=vary-miss; stored");
    ask(&second, "en").await.body("en").status("hit");
    ask(&second, "de").await.body("de").status("hit");
    assert_eq!((second.figure("l2_hits"), second.figure("l1_hits")), (2, 1));
    origin.saw("/a", 3);
}

#[tokio::test]
async fn stale_response_that_l2_held_is_validated() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").etag("v1").max_age(60));
    first.get("/a").await.body("1").status("fwd=uri-miss; stored");
    in_l2(&redis, 1).await;

    origin.clock().advance(secs(61));
    origin.on("/a").with("if-none-match", "\"v1\"").reply(status(304).etag("v1").max_age(60));
    second.get("/a").await.code(200).body("1").status("fwd=stale; fwd-status=304; stored");
    second.get("/a").await.body("1").status("hit").has("age", "0");
    assert_eq!(second.figure("l2_misses"), 1);

    // What the 304 freshened has gone to L2, too.
    second.drain().await;
    first.get("/a").await.body("1").status("hit").has("age", "0");
    assert_eq!((first.figure("l1_hits"), first.figure("l2_hits")), (0, 1));
    origin.saw("/a", 2);
}

#[tokio::test]
async fn write_at_one_gateway_is_known_to_the_others() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(600));
    origin.on("/b").reply(ok("b").max_age(600));
    for target in ["/a", "/b"] {
        first.get(target).await.status("fwd=uri-miss; stored");
    }
    in_l2(&redis, 2).await;
    for target in ["/a", "/b", "/a", "/b"] {
        second.get(target).await.status("hit");
    }
    assert_eq!(second.figure("l1_hits"), 2);

    origin.on("/a").method("PUT").reply(status(204));
    first.ask("PUT", "/a").body("2").send().await.code(204).status("fwd=method");
    origin.on("/a").method("GET").reply(ok("2").max_age(600));
    second.has_applied(log_end(&redis)).await;
    // One has the old one in L1, one finds it in L2: neither serves it.
    second.get("/a").await.body("2").status("fwd=uri-miss; stored");
    second.get("/b").await.body("b").status("hit");
    second.drain().await;
    let third = Gateway::of_fleet(&origin, &redis).await;
    third.get("/a").await.body("2").status("hit");
    first.get("/a").await.body("2").status("hit");
    assert_eq!(first.figure("l2_hits"), 1);
    origin.saw("/a", 3);
    origin.saw("/b", 1);
}

#[tokio::test]
async fn what_l2_still_holds_after_a_write_is_not_served() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(600));
    first.get("/a").await.status("fwd=uri-miss; stored");
    in_l2(&redis, 1).await;
    origin.on("/a").method("PUT").reply(status(204));
    first.ask("PUT", "/a").send().await.code(204);

    // Started afterwards, it knows the write from the log alone.
    let second = Gateway::of_fleet(&origin, &redis).await;
    assert_eq!(frames(&redis, "larder"), 1);
    origin.on("/a").method("GET").reply(ok("2").max_age(600));
    second.get("/a").await.body("2").status("fwd=uri-miss; stored");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn purge_of_everything_reaches_the_fleet_and_l2() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    let targets = ["/a", "/b?x=1"];
    for target in targets {
        origin.on(target).reply(ok("old").max_age(600));
        first.get(target).await.status("fwd=uri-miss; stored");
    }
    in_l2(&redis, 2).await;
    second.get("/a").await.status("hit");

    for target in targets {
        origin.on(target).reply(ok("new").max_age(600));
    }
    let receipt = first.admin("POST", "/clear").send().await.code(200);
    second.has_applied(position(&receipt)).await;
    // `/a` was in the second gateway's L1, `/b` in L2 only.
    for target in targets {
        second.get(target).await.body("new").status("fwd=uri-miss; stored");
        first.get(target).await.body("new");
    }
}

#[tokio::test]
async fn purge_by_pattern_reaches_the_fleet_and_l2() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    let covered = ["/users/1", "/users/2?page=2", "/users/2"];
    for target in covered.into_iter().chain(["/teams/1"]) {
        origin.on(target).reply(ok("old").max_age(600));
        first.get(target).await.status("fwd=uri-miss; stored");
    }
    in_l2(&redis, 4).await;
    second.get("/users/1").await.status("hit");

    let receipt = first.admin("DELETE", "/pattern/users/*").send().await.code(200);
    second.has_applied(position(&receipt)).await;
    for target in covered {
        origin.on(target).reply(ok("new").max_age(600));
        second.get(target).await.body("new").status("fwd=uri-miss; stored");
        first.get(target).await.body("new");
    }
    second.get("/teams/1").await.body("old").status("hit");
    first.get("/teams/1").await.body("old").status("hit");
    origin.saw("/teams/1", 1);
}

#[tokio::test]
async fn response_fetched_before_an_invalidation_is_not_served_after_it() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    let held = origin.on("/a").hold(ok("old").max_age(600));
    let mut slow = JoinSet::new();
    slow.spawn(first.ask("GET", "/a").send());
    until("the origin is asked", || origin.count("/a") == 1).await;

    origin.on("/a").method("PUT").reply(status(204));
    second.ask("PUT", "/a").send().await.code(204);
    first.has_applied(log_end(&redis)).await;
    held.release();
    // Who asked before the write may be told what was there before it.
    slow.join_next().await.unwrap().unwrap().code(200).body("old");
    assert_eq!(first.figure("stored"), 0);
    assert_eq!(frames(&redis, "larder"), 0);

    origin.on("/a").method("GET").reply(ok("new").max_age(600));
    first.get("/a").await.body("new").status("fwd=uri-miss; stored");
    in_l2(&redis, 1).await;
    second.get("/a").await.body("new").status("hit");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn l1_stays_within_its_capacity() {
    const CAPACITY: u64 = 2 << 20;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache("[cache.l1]\ncapacity = \"2MiB\"").start().await;
    for number in 0..40 {
        let target = format!("/{number}");
        origin.on(&target).reply(ok(vec![b'x'; 256 << 10]).max_age(600));
        gateway.get(&target).await.code(200).status("fwd=uri-miss; stored");
        // Also at once, without another request to settle it.
        let octets = gateway.store().l1_octets;
        assert!(octets <= CAPACITY, "{octets} octets after {target}");
    }
    assert!(gateway.store().l1_entries >= 6, "{:?}", gateway.store());
    // What is larger than all of it passes through.
    origin.on("/large").reply(ok(vec![b'x'; 3 << 20]).max_age(600));
    gateway.get("/large").await.code(200);
    gateway.get("/large").await.code(200);
    origin.saw("/large", 2);
}
