//! Equal misses of several gateways share one forward request (`collapse = "fleet"`), and nobody gets
//! what is not theirs, or waits for what does not come.

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::client::{Ask, Got, Http2, answers, sent};
use crate::support::gateway::{FLEET, Gateway, Setup};
use crate::support::origin::{Held, Origin, Reply, ok, pieces, status};
use crate::support::program::Running;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, secs, until};
use crate::tiers::{in_l2, log_end};

const STORED: &str = "fwd=uri-miss; stored";
const COLLAPSED: &str = "fwd=uri-miss; collapsed";

fn setup(origin: &Origin, redis: &Redis) -> Setup {
    Gateway::setup(origin).redis(redis).route("collapse = \"fleet\"")
}

async fn gateways<const COUNT: usize>(origin: &Origin, redis: &Redis) -> [Gateway; COUNT] {
    let mut all = Vec::new();
    for _ in 0..COUNT {
        all.push(setup(origin, redis).start().await.in_step().await);
    }
    all.try_into().unwrap_or_else(|_| unreachable!("there are as many as were started"))
}

async fn asked(origin: &Origin, times: usize) {
    until(&format!("the origin is asked {times} times"), || origin.count("/a") >= times).await;
}

/// The first gateway fetches what is held for `/a`, and each of the others waits for it.
async fn waiting(origin: &Origin, gateways: &[Gateway]) -> (JoinHandle<Got>, Vec<JoinHandle<Got>>) {
    let before = origin.count("/a");
    let leader = tokio::spawn(gateways[0].ask("GET", "/a").send());
    asked(origin, before + 1).await;
    let others = sent(gateways[1..].iter().map(|gateway| gateway.ask("GET", "/a")));
    for gateway in &gateways[1..] {
        gateway.reaches("fleet_waits", 1).await;
    }
    origin.saw("/a", before + 1);
    (leader, others)
}

fn held(origin: &Origin, reply: Reply) -> Held {
    origin.on("/a").method("GET").hold(reply)
}

#[tokio::test]
async fn equal_misses_of_a_fleet_are_one_forward_request() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 3] = gateways(&origin, &redis).await;
    let held = held(&origin, ok("1").max_age(60));
    let (leader, mut others) = waiting(&origin, &gateways).await;
    others.extend(gateways.iter().flat_map(|gateway| sent([gateway.ask("GET", "/a")])));
    for gateway in &gateways {
        gateway.reaches("followers", 1).await;
    }
    held.release();
    leader.await.unwrap().body("1").status(STORED);
    for answer in answers(others).await {
        answer.code(200).body("1").status(COLLAPSED);
    }
    for gateway in &gateways {
        gateway.get("/a").await.body("1").status("hit");
        assert_eq!(gateway.figure("fleet_takeovers"), 0);
    }
    let collapsed = gateways.each_ref().map(|gateway| gateway.figure("collapsed"));
    assert_eq!(collapsed, [1, 2, 2]);
    origin.saw("/a", 1);
}

/// 10,080 requests, all of them there before the origin answers. They come wave by wave: what looks
/// after the gateways, and thousands of look-ups in L2, share one thread here.
#[tokio::test]
async fn crowd_before_a_cold_fleet_is_one_forward_request() {
    const WAVES: u64 = 28;
    const STREAMS: u64 = 120;
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 3] = gateways(&origin, &redis).await;
    let held = held(&origin, ok("1").max_age(60));
    let (mut clients, mut all) = (Vec::new(), Vec::new());
    for wave in 1..=WAVES {
        for gateway in &gateways {
            let client = Http2::to(gateway.address()).await.naming(FLEET);
            all.extend((0..STREAMS).map(|_| tokio::spawn(client.get("/a"))));
            clients.push(client);
        }
        for gateway in &gateways {
            gateway.reaches("followers", wave * STREAMS - 1).await;
        }
    }
    origin.saw("/a", 1);
    held.release();
    for answer in answers(all).await {
        answer.code(200).body("1");
    }
    let takeovers = gateways.each_ref().map(|gateway| gateway.figure("fleet_takeovers"));
    assert_eq!((takeovers, origin.count("/a")), ([0; 3], 1));
}

#[tokio::test]
async fn gateway_that_dies_is_taken_over() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let doomed = Running::with(&setup(&origin, &redis).text()).await;
    let gateways: [_; 2] = gateways(&origin, &redis).await;
    let uses_l2 = |stats: Value| {
        let l2 = &stats["store"]["l2"];
        l2["up"] == true && l2["log_in_step"] == true
    };
    let looking = async { while !uses_l2(doomed.stats().await) {} };
    tokio::time::timeout(PATIENCE, looking).await.expect("it uses L2");
    let held = held(&origin, ok("1").max_age(60));
    let lost = Ask::new(doomed.address(), "GET", "/a").field("host", FLEET);
    let lost = tokio::spawn(lost.attempt());
    asked(&origin, 1).await;
    let all = sent(gateways.iter().flat_map(|gateway| (0..5).map(|_| gateway.ask("GET", "/a"))));
    for gateway in &gateways {
        gateway.reaches("fleet_waits", 1).await;
        gateway.reaches("followers", 4).await;
    }
    origin.saw("/a", 1);

    doomed.signal("KILL");
    assert!(lost.await.unwrap().is_err());
    asked(&origin, 2).await;
    held.release();
    for answer in answers(all).await {
        answer.code(200).body("1");
    }
    origin.saw("/a", 2);
    let takeovers: u64 = gateways.iter().map(|gateway| gateway.figure("fleet_takeovers")).sum();
    assert_eq!(takeovers, 1);
}

#[tokio::test]
async fn clients_that_leave_free_nobodys_turn() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 2] = gateways(&origin, &redis).await;
    let held = held(&origin, ok("1").max_age(60));
    let (leader, mut others) = waiting(&origin, &gateways).await;
    let follower = tokio::spawn(gateways[1].ask("GET", "/a").send());
    gateways[1].reaches("followers", 1).await;
    leader.abort();
    others.pop().unwrap().abort();
    held.release();
    follower.await.unwrap().body("1").status(COLLAPSED);
    origin.saw("/a", 1);
}

#[tokio::test]
async fn response_for_one_client_sends_everyone_forward_at_once() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 3] = gateways(&origin, &redis).await;
    let private = |body: &str| ok(body.to_owned()).field("cache-control", "private");
    let first = held(&origin, private("first"));
    let (leader, mut all) = waiting(&origin, &gateways).await;
    all.extend(sent(gateways[1..].iter().map(|gateway| gateway.ask("GET", "/a"))));
    for gateway in &gateways[1..] {
        gateway.reaches("followers", 1).await;
    }
    let others = held(&origin, private("another"));
    first.release();
    leader.await.unwrap().body("first").status("fwd=uri-miss; detail=private");
    // All are there at once, while none has been answered.
    asked(&origin, 5).await;
    others.release();
    for answer in answers(all).await {
        answer.body("another").status("fwd=uri-miss; collapsed=?0; detail=private");
    }
    let takeovers = gateways.each_ref().map(|gateway| gateway.figure("fleet_takeovers"));
    assert_eq!(takeovers, [0; 3]);

    // The fleet knows it by now, and so does one that comes new to it.
    let fourth = setup(&origin, &redis).start().await.in_step().await;
    let all: Vec<_> = gateways.iter().chain([&fourth]).collect();
    let again = held(&origin, private("again"));
    let sent = sent(all.iter().map(|gateway| gateway.ask("GET", "/a")));
    asked(&origin, 9).await;
    again.release();
    for answer in answers(sent).await {
        answer.body("again");
    }
    let waits = all.iter().map(|gateway| gateway.figure("fleet_waits")).collect::<Vec<_>>();
    assert_eq!(waits, [0, 1, 1, 0]);
    origin.saw("/a", 9);
}

#[tokio::test]
async fn response_that_others_may_not_reuse_sends_each_gateway_forward_with_its_head() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 2] = gateways(&origin, &redis).await;
    let (reply, content) = pieces();
    let first = held(&origin, reply.etag("v1").field("cache-control", "no-cache"));
    let (leader, others) = waiting(&origin, &gateways).await;
    origin.on("/a").reply(ok("second").etag("v2").field("cache-control", "no-cache"));
    first.release();
    for answer in answers(others).await {
        answer.body("second").status("fwd=uri-miss; stored; collapsed=?0");
    }
    content.send("first");
    content.end();
    leader.await.unwrap().body("first");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn content_too_large_for_the_store_is_not_waited_for() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let setup = || setup(&origin, &redis).route("max_body = \"1KiB\"");
    let mut gateways = Vec::new();
    for _ in 0..2 {
        gateways.push(setup().start().await.in_step().await);
    }
    let (reply, content) = pieces();
    let first = held(&origin, reply.max_age(60));
    let (leader, others) = waiting(&origin, &gateways).await;
    origin.on("/a").reply(ok("second").max_age(60));
    first.release();
    content.send(vec![b'x'; 2048]);
    for answer in answers(others).await {
        answer.body("second").status("fwd=uri-miss; stored; collapsed=?0");
    }
    content.end();
    assert_eq!(leader.await.unwrap().body.len(), 2048);
    assert_eq!(gateways[1].figure("fleet_takeovers"), 0);
    origin.saw("/a", 2);
}

#[tokio::test]
async fn response_that_is_kept_out_of_redis_is_fetched_by_each_gateway() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 2] = gateways(&origin, &redis).await;
    let large = |letter: &str| ok(letter.repeat((1 << 20) + 1)).max_age(60);
    let first = held(&origin, large("1"));
    let (leader, others) = waiting(&origin, &gateways).await;
    origin.on("/a").reply(large("2"));
    first.release();
    for answer in answers(others).await {
        let answer = answer.status("fwd=uri-miss; stored; collapsed=?0");
        assert!(answer.body.starts_with(b"22"));
    }
    assert!(leader.await.unwrap().status(STORED).body.starts_with(b"11"));
    for gateway in &gateways {
        gateway.get("/a").await.status("hit");
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn fetch_that_fails_is_repeated_once_by_each_gateway() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 3] = gateways(&origin, &redis).await;
    let first = held(&origin, status(503));
    let (leader, others) = waiting(&origin, &gateways).await;
    let second = held(&origin, ok("2").max_age(60));
    first.release();
    leader.await.unwrap().code(503);
    asked(&origin, 3).await;
    second.release();
    for answer in answers(others).await {
        answer.body("2").status("fwd=uri-miss; stored; collapsed=?0");
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn variants_are_fetched_once_each() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 3] = gateways(&origin, &redis).await;
    let reply =
        |language: &str| ok(language.to_owned()).max_age(60).field("vary", "accept-language");
    let ask = |place: usize, language: &str| {
        gateways[place].ask("GET", "/a").field("accept-language", language)
    };
    let german = origin.on("/a").with("accept-language", "de").hold(reply("de"));
    let english = origin.on("/a").with("accept-language", "en").hold(reply("en"));
    let leader = tokio::spawn(ask(0, "de").send());
    asked(&origin, 1).await;
    let others = sent([ask(1, "en"), ask(2, "en")]);
    for gateway in &gateways[1..] {
        gateway.reaches("fleet_waits", 1).await;
    }
    origin.saw("/a", 1);
    german.release();
    leader.await.unwrap().body("de").status(STORED);
    // One of the two goes forward for both.
    asked(&origin, 2).await;
    english.release();
    let mut statuses = Vec::new();
    for answer in answers(others).await {
        statuses.push(answer.body("en").cache_status());
    }
    statuses.sort();
    assert_eq!(statuses, [COLLAPSED, "fwd=uri-miss; stored; collapsed=?0"]);
    origin.saw("/a", 2);
}

#[tokio::test]
async fn nobody_waits_for_what_an_invalidation_covers() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 3] = gateways(&origin, &redis).await;
    let before = held(&origin, ok("old").max_age(60));
    let (leader, others) = waiting(&origin, &gateways).await;
    origin.on("/a").method("PUT").reply(status(204));
    let after = held(&origin, ok("new").max_age(60));
    gateways[0].ask("PUT", "/a").send().await.code(204);
    // One of those who wait goes forward, while the one before still waits for the origin.
    asked(&origin, 3).await;
    after.release();
    for answer in answers(others).await {
        answer.body("new");
    }
    gateways[0].get("/a").await.body("new");
    before.release();
    leader.await.unwrap().body("old");
    for gateway in &gateways {
        gateway.get("/a").await.body("new").status("hit");
        assert_eq!(gateway.figure("fleet_takeovers"), 0);
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn nobody_is_given_what_an_invalidation_turns_out_to_cover() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 3] = gateways(&origin, &redis).await;
    let before = held(&origin, ok("old").max_age(60).field("cache-tag", "t"));
    let (leader, others) = waiting(&origin, &gateways).await;
    // Which tags the response has, nobody knows as yet.
    let after = held(&origin, ok("new").max_age(60).field("cache-tag", "t"));
    gateways[1].admin("DELETE", "/tag/t").send().await.code(200);
    for gateway in &gateways {
        gateway.has_applied(log_end(&redis)).await;
    }
    origin.saw("/a", 1);
    before.release();
    leader.await.unwrap().body("old");
    asked(&origin, 2).await;
    after.release();
    for answer in answers(others).await {
        answer.body("new");
    }
    for gateway in &gateways {
        gateway.get("/a").await.body("new").status("hit");
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn validation_is_shared_by_the_fleet() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 3] = gateways(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(60).etag("v1"));
    gateways[0].get("/a").await.status(STORED);
    in_l2(&redis, 1).await;
    gateways[0].clock().advance(secs(61));
    let not_modified = status(304).max_age(60).etag("v1");
    let held = origin.on("/a").with("if-none-match", "\"v1\"").hold(not_modified);
    let (leader, others) = waiting(&origin, &gateways).await;
    held.release();
    leader.await.unwrap().body("1").status("fwd=stale; fwd-status=304; stored");
    for answer in answers(others).await {
        answer.code(200).body("1").status("fwd=stale; collapsed");
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn validation_in_the_background_is_one_for_the_fleet() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 2] = gateways(&origin, &redis).await;
    let lasting =
        |reply: Reply| reply.field("cache-control", "max-age=60, stale-while-revalidate=60");
    origin.on("/a").reply(lasting(ok("1")));
    gateways[0].get("/a").await.status(STORED);
    in_l2(&redis, 1).await;
    gateways[0].clock().advance(secs(61));
    let held = held(&origin, lasting(ok("2")));
    let meanwhile = "hit; detail=stale-while-revalidate";
    gateways[0].get("/a").await.body("1").status(meanwhile);
    asked(&origin, 2).await;
    gateways[1].get("/a").await.body("1").status(meanwhile);
    gateways[1].reaches("fleet_waits", 1).await;
    held.release();
    gateways[0].reaches("stored", 2).await;
    let new = async {
        loop {
            let got = gateways[1].get("/a").await.code(200);
            if got.body == "2" {
                return got.status("hit");
            }
            got.body("1").status(meanwhile);
        }
    };
    tokio::time::timeout(PATIENCE, new).await.expect("the new one comes");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn request_that_wants_its_own_answer_does_not_wait() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 2] = gateways(&origin, &redis).await;
    let first = held(&origin, ok("1").max_age(60));
    let leader = tokio::spawn(gateways[0].ask("GET", "/a").send());
    asked(&origin, 1).await;
    origin.on("/a").reply(ok("2").max_age(60));
    for (name, value) in [("cache-control", "no-store"), ("cache-control", "no-cache")] {
        gateways[1].ask("GET", "/a").field(name, value).send().await.body("2");
    }
    gateways[1].ask("HEAD", "/b").send().await.code(404);
    assert_eq!(gateways[1].figure("fleet_waits"), 0);
    first.release();
    leader.await.unwrap().body("1");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn redis_that_goes_away_is_not_waited_for() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    for (hangs, target) in [(true, "/hang"), (false, "/die")] {
        let start = || {
            let fleet = Gateway::setup(&origin).route("collapse = \"fleet\"");
            fleet.l2(&redis.url(), "timeout = \"500ms\"").start()
        };
        let gateways = [start().await.in_step().await, start().await.in_step().await];
        let held = origin.on(target).hold(ok("1").max_age(60));
        let leader = tokio::spawn(gateways[0].ask("GET", target).send());
        until("the origin is asked", || origin.count(target) == 1).await;
        let other = tokio::spawn(gateways[1].ask("GET", target).send());
        gateways[1].reaches("fleet_waits", 1).await;
        origin.saw(target, 1);
        if hangs {
            redis.hold();
        } else {
            redis.kill();
        }
        until("the other goes forward", || origin.count(target) == 2).await;
        held.release();
        leader.await.unwrap().body("1").status(STORED);
        other.await.unwrap().body("1").status("fwd=uri-miss; stored; collapsed=?0");
        // Nor is it asked for anything while it is out of reach.
        until("they notice", || gateways.iter().all(|it| !it.l2().up)).await;
        origin.on(&format!("{target}/b")).reply(ok("b").max_age(60));
        for gateway in &gateways {
            gateway.get(&format!("{target}/b")).await.body("b").status(STORED);
        }
        assert_eq!(gateways[1].figure("fleet_takeovers"), 0);
        origin.saw(target, 2);
        if hangs {
            redis.release();
        }
    }
}

#[tokio::test]
async fn redis_that_hangs_is_waited_for_once() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let setup = Gateway::setup(&origin).route("collapse = \"fleet\"");
    let gateway = setup.l2(&redis.url(), "timeout = \"200ms\"").start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(60));
    redis.ask("CONFIG RESETSTAT").unwrap();
    redis.hold();
    gateway.get("/a").await.body("1").status(STORED);
    redis.release();
    // It has all been sent by one connection, and the write last.
    let calls = || redis.ask("INFO commandstats").unwrap();
    until("Redis has got the response", || calls().contains("cmdstat_set:")).await;
    assert!(!calls().contains("cmdstat_eval"), "{}", calls());
    // Else it is asked whose turn it is.
    origin.on("/b").reply(ok("2").max_age(60));
    gateway.is_in_step().await;
    gateway.get("/b").await.body("2").status(STORED);
    until("the turn is over", || calls().contains("cmdstat_eval")).await;
}

#[tokio::test]
async fn what_is_not_ours_in_the_place_of_a_turn_is_not_waited_for() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateways: [_; 2] = gateways(&origin, &redis).await;
    for (target, making) in [("/text", "SET thing garbage"), ("/list", "LPUSH thing garbage")] {
        let first = origin.on(target).hold(ok("1").max_age(60));
        let leader = tokio::spawn(gateways[0].ask("GET", target).send());
        until("the origin is asked", || origin.count(target) == 1).await;
        let keys = redis.ask("KEYS larder:turn:*").unwrap();
        redis.ask(making).unwrap();
        for key in keys.lines().filter(|line| line.starts_with("larder:")) {
            assert_eq!(redis.ask(&format!("COPY thing {key} REPLACE")).unwrap(), ":1\r\n");
        }
        redis.ask("DEL thing").unwrap();
        origin.on(target).reply(ok("2").max_age(60));
        gateways[1].get(target).await.body("2").status(STORED);
        first.release();
        leader.await.unwrap().body("1").status(STORED);
        origin.saw(target, 2);
    }
    assert!(gateways.iter().all(|gateway| gateway.l2().up));
    assert_eq!(gateways[1].figure("fleet_waits"), 0);
}
