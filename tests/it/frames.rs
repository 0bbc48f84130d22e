//! What lies in Redis: a value that is not whole, or not ours, is a miss and is counted; how large one
//! may be, and how it is made smaller.

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::redis::Redis;

/// Without L1, so that each look-up goes to Redis.
fn alone(origin: &Origin, redis: &Redis, lines: &str) -> Setup {
    let lines = format!("timeout = \"10s\"\n{lines}");
    Gateway::setup(origin).cache("[cache.l1]\ncapacity = \"0\"").l2(&redis.url(), &lines)
}

/// The keys of all stored responses.
fn keys(redis: &Redis) -> Vec<String> {
    let keys = redis.ask("KEYS larder:r:*").unwrap();
    keys.lines().filter(|line| line.starts_with("larder:")).map(str::to_owned).collect()
}

/// What Redis answers with a number.
fn number(redis: &Redis, command: &str) -> u64 {
    let answer = redis.ask(command).unwrap();
    let number = answer.trim_start_matches("*1\r\n").trim_start_matches(':').trim_end().parse();
    number.unwrap_or_else(|_| panic!("`{command}`: {answer}"))
}

#[tokio::test]
async fn any_octet_that_is_not_as_it_was_makes_a_miss() {
    every_octet("content", "").await;
    every_octet(&"content ".repeat(200), "compression = \"lz4\"").await;
}

async fn every_octet(content: &str, lines: &str) {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = alone(&origin, &redis, lines).start().await.in_step().await;
    origin.on("/a").reply(ok(content.to_owned()).etag("v1").max_age(600));
    gateway.get("/a").await.body(content).status("fwd=uri-miss; stored");
    gateway.settled().await;
    let [key] = &*keys(&redis) else { panic!("{:?}", keys(&redis)) };
    let mut octets = 0;
    while octets < number(&redis, &format!("STRLEN {key}")) {
        gateway.get("/a").await.body(content).status("hit");
        // Another bit of each, so that every one of the eight has its turn.
        let octet = number(&redis, &format!("BITFIELD {key} GET u8 #{octets}"));
        let flipped = octet ^ 1 << (octets % 8);
        redis.ask(&format!("BITFIELD {key} SET u8 #{octets} {flipped}")).unwrap();
        gateway.get("/a").await.body(content).status("fwd=uri-miss; stored");
        gateway.settled().await;
        octets += 1;
        assert_eq!(gateway.l2().damaged_frames, octets);
    }
    // Prefix, head, fields and content are more than this.
    assert!(octets > 150, "{octets}");
    assert_eq!(gateway.figure("l2_hits"), octets);
}

#[tokio::test]
async fn value_that_is_cut_or_goes_on_or_is_of_another_version_makes_a_miss() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = alone(&origin, &redis, "").start().await.in_step().await;
    origin.on("/a").reply(ok("content").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.settled().await;
    let [key] = &*keys(&redis) else { panic!("{:?}", keys(&redis)) };
    let part = |range: &str| {
        let script = format!(
            "return redis.call('SET',KEYS[1],redis.call('GETRANGE',KEYS[1],{range}),'KEEPTTL')"
        );
        format!("EVAL \"{script}\" 1 {key}")
    };
    let newer = number(&redis, &format!("BITFIELD {key} GET u8 #4")) + 1;
    for (what, command) in [
        ("its last octet is missing", part("0,-2")),
        ("its first octet is missing", part("1,-1")),
        ("nothing but its magic is there", part("0,3")),
        ("one octet follows", format!("APPEND {key} x")),
        (
            "it is twice there",
            format!(
                "EVAL \"return redis.call('APPEND',KEYS[1],redis.call('GET',KEYS[1]))\" 1 {key}"
            ),
        ),
        ("of a version to come", format!("BITFIELD {key} SET u8 #4 {newer}")),
        ("empty", format!("SET {key} \"\" KEEPTTL")),
        ("another's", format!("SET {key} garbage KEEPTTL")),
        (
            "zeros",
            format!(
                "EVAL \"return redis.call('SET',KEYS[1],string.rep(string.char(0),4096))\" 1 {key}"
            ),
        ),
    ] {
        let before = gateway.l2().damaged_frames;
        let answer = redis.ask(&command).unwrap();
        assert!(!answer.starts_with('-'), "{what}: {answer}");
        gateway.get("/a").await.body("content").status("fwd=uri-miss; stored");
        assert_eq!(gateway.l2().damaged_frames, before + 1, "{what}");
        gateway.settled().await;
        gateway.get("/a").await.body("content").status("hit");
    }
}

#[tokio::test]
async fn response_above_the_limit_stays_out_of_redis() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let lines = "timeout = \"10s\"\nmax_size = \"1KiB\"";
    let gateway = Gateway::setup(&origin).l2(&redis.url(), lines).start().await.in_step().await;
    origin.on("/large").reply(ok("x".repeat(1024)).max_age(600));
    origin.on("/small").reply(ok("x".repeat(512)).max_age(600));
    for target in ["/large", "/small"] {
        gateway.get(target).await.status("fwd=uri-miss; stored");
        gateway.settled().await;
        gateway.get(target).await.status("hit");
    }
    assert_eq!((keys(&redis).len(), gateway.l2().too_large), (1, 1));
    assert_eq!(gateway.figure("l1_hits"), 2);

    // For a gateway that would keep it, the small one is there and the large one is not.
    let other = Gateway::of_fleet(&origin, &redis).await;
    other.get("/small").await.status("hit");
    other.get("/large").await.body(&"x".repeat(1024)).status("fwd=uri-miss; stored");
    other.settled().await;
    assert_eq!((keys(&redis).len(), other.l2().too_large), (2, 0));
}

#[tokio::test]
async fn what_no_tier_takes_is_not_said_to_be_stored() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = alone(&origin, &redis, "max_size = \"1KiB\"").start().await.in_step().await;
    origin.on("/large").reply(ok("x".repeat(1025)).max_age(600));
    origin.on("/small").reply(ok("x".repeat(512)).max_age(600));
    for _ in 0..2 {
        let got = gateway.get("/large").await.body(&"x".repeat(1025));
        got.status("fwd=uri-miss; detail=too-large");
    }
    gateway.get("/small").await.status("fwd=uri-miss; stored");
    assert_eq!((gateway.figure("stored"), gateway.l2().too_large), (1, 0));
}

/// A list as an API answers it.
fn json(lines: usize) -> String {
    let line = |number| format!("{{\"id\":{number},\"name\":\"product {number}\",\"stock\":true}}");
    format!("[{}]", (0..lines).map(line).collect::<Vec<_>>().join(","))
}

/// Octets of which nothing can be saved.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        // The generator that Knuth gives for 64 bits.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test]
async fn content_is_compressed_where_that_saves_something() {
    let origin = Origin::start().await;
    // The second is more than is packed at once.
    for (content, coding, at_most, why) in [
        (json(200).into_bytes(), None, 0.5, "JSON"),
        (json(5000).into_bytes(), None, 0.5, "much JSON"),
        (json(200).into_bytes(), Some("x-of-its-own"), 1.2, "in a coding"),
        (noise(5000), None, 1.2, "an image, say"),
        (b"short".to_vec(), None, 100.0, "short"),
    ] {
        let redis = Redis::start();
        let target = format!("/{}", why.replace(' ', "-"));
        let reply = ok(content.clone()).max_age(600).field("content-type", "application/json");
        let reply = coding.into_iter().fold(reply, |reply, it| reply.field("content-encoding", it));
        origin.on(&target).reply(reply);
        let first = alone(&origin, &redis, "compression = \"lz4\"").start().await.in_step().await;
        let got = first.get(&target).await.code(200).status("fwd=uri-miss; stored");
        assert_eq!(got.body, content, "{why}");
        first.settled().await;
        // With a coding it is one of the variants that are listed beside it.
        let keys = keys(&redis);
        assert_eq!(keys.len(), if coding.is_some() { 2 } else { 1 }, "{why}: {keys:?}");
        let lengths = keys.iter().map(|key| number(&redis, &format!("STRLEN {key}")));
        let there = lengths.max().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let share = there as f64 / content.len() as f64;
        assert!(share <= at_most && (at_most < 1.0 || share >= 1.0), "{why}: {share}");

        // One that does not compress reads it all the same.
        let second = alone(&origin, &redis, "").start().await.in_step().await;
        for gateway in [&first, &second] {
            let got = gateway.get(&target).await.code(200).status("hit");
            assert_eq!(got.body, content, "{why}");
        }
        origin.saw(&target, 1);
    }
}

#[tokio::test]
async fn compressed_content_is_not_unpacked_beyond_the_limit() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let content = json(1000);
    origin.on("/a").reply(ok(content.clone()).max_age(600));
    let large = alone(&origin, &redis, "compression = \"lz4\"").start().await.in_step().await;
    large.get("/a").await.body(&content).status("fwd=uri-miss; stored");
    large.settled().await;

    let small = alone(&origin, &redis, "max_size = \"16KiB\"").start().await.in_step().await;
    small.get("/a").await.code(200).body(&content);
    // It was not unpacked; nor was it gathered then to be written.
    assert_eq!((small.l2().too_large, small.l2().damaged_frames), (1, 0));
    large.get("/a").await.body(&content).status("hit");
    origin.saw("/a", 2);
}
