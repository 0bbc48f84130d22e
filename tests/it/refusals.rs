//! Redis answers, and refuses: it is full, a replica, holds what is not Larder's, allows too little, or
//! takes its time. What can be read is read, what cannot be written waits, and nothing wrong is served.

use std::time::Duration;

use larder::clock;

use crate::lag::{has_contact, is_in_contact, lags};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok, status};
use crate::support::program::Running;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::tiers::NO_L1;
use crate::support::{PATIENCE, until};
use crate::tiers::log_end;

const MISS: &str = "fwd=uri-miss; stored";

/// With all the time in the world before what is stored counts as unconfirmed.
fn setup(origin: &Origin, url: &str) -> Setup {
    let setup = Gateway::setup(origin).cache("[cache]\nmax_lag = \"1h\"");
    setup.l2(url, "timeout = \"10s\"")
}

/// The same with nothing but L2.
fn only_l2(origin: &Origin, url: &str) -> Setup {
    let cache = format!("[cache]\nmax_lag = \"1h\"\n{NO_L1}");
    Gateway::setup(origin).cache(&cache).l2(url, "timeout = \"10s\"")
}

fn set(redis: &Redis, command: &str) {
    assert_eq!(redis.ask(command).unwrap(), "+OK\r\n", "{command}");
}

async fn purge(gateway: &Gateway, pattern: &str, code: u16) {
    gateway.admin("DELETE", &format!("/pattern/{pattern}")).send().await.code(code);
}

/// Waits until a new response is written.
async fn writes_again(gateway: &Gateway, origin: &Origin, redis: &Redis) {
    origin.on("/new").reply(ok("new").max_age(600));
    let keys = || redis.ask("KEYS larder:r:*").unwrap().matches("larder:r:").count();
    let (before, begun) = (keys(), clock::instant());
    for number in 0.. {
        let target = format!("/new/{number}");
        origin.on(&target).reply(ok("new").max_age(600));
        gateway.get(&target).await.code(200).body("new");
        gateway.settled().await;
        if keys() > before {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is written");
    }
}

#[tokio::test]
async fn full_redis_is_read_and_what_waits_is_shared_when_there_is_room() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = setup(&origin, &redis.url()).start().await.in_step().await;
    let second = only_l2(&origin, &redis.url()).start().await.in_step().await;
    for target in ["/a", "/b"] {
        origin.on(target).reply(ok("1").max_age(600));
        first.get(target).await.body("1").status(MISS);
    }
    first.settled().await;

    set(&redis, "CONFIG SET maxmemory 1");
    second.get("/b").await.body("1").status("hit");
    // Writes rest once one was refused.
    origin.on("/c/0").reply(ok("c").max_age(600));
    first.get("/c/0").await.body("c").status(MISS);
    until("Redis refuses", || first.l2().refused_writes > 0).await;
    for number in 1..20 {
        let target = format!("/c/{number}");
        origin.on(&target).reply(ok("c").max_age(600));
        first.get(&target).await.body("c").status(MISS);
        first.get(&target).await.body("c").status("hit");
    }
    first.settled().await;
    let l2 = first.l2();
    assert_eq!(l2.refused_writes + l2.dropped_writes, 20, "{l2:?}");
    assert!(l2.refused_writes < 20, "{l2:?}");

    // An invalidation holds here, and waits; the log is read all the same.
    origin.on("/a").reply(ok("2").max_age(600));
    purge(&first, "a", 202).await;
    first.get("/a").await.body("2").status(MISS);
    assert_eq!(first.l2().log_waiting, 1);
    has_contact(&first).await;
    assert!(first.l2().log_in_step && first.l2().up && !first.l2().log_lag_passed);
    second.get("/b").await.body("1").status("hit");

    set(&redis, "CONFIG SET maxmemory 0");
    until("it is shared", || first.l2().log_waiting == 0).await;
    second.has_applied(log_end(&redis)).await;
    second.get("/a").await.body("2").status(MISS);
    writes_again(&first, &origin, &redis).await;
}

/// What waits here is unknown to others. What they have stored meanwhile, under a place of the log that
/// they had reached and this gateway had not, says nothing of it.
#[tokio::test]
async fn what_others_stored_does_not_pass_by_an_invalidation_that_waits() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let way = Proxy::before(&redis).await;
    let one = only_l2(&origin, &way.url()).start().await.in_step().await;
    let other = setup(&origin, &redis.url()).start().await.in_step().await;
    for target in ["/a", "/b"] {
        origin.on(target).reply(ok("1").max_age(600));
    }
    one.get("/b").await.body("1").status(MISS);
    one.settled().await;

    way.cut();
    until("it is cut off", || !one.l2().up && !one.l2().log_in_step).await;
    purge(&other, "something", 200).await;
    other.get("/a").await.body("1").status(MISS);
    other.settled().await;
    origin.on("/a").reply(ok("2").max_age(600));
    purge(&one, "a", 202).await;
    set(&redis, "CONFIG SET maxmemory 1");
    way.mend();
    one.is_in_step().await;
    one.has_applied(log_end(&redis)).await;
    assert_eq!(one.l2().log_waiting, 1);
    one.get("/a").await.body("2").status(MISS);
    // From before either.
    one.get("/b").await.body("1").status("hit");

    set(&redis, "CONFIG SET maxmemory 0");
    until("it is shared", || one.l2().log_waiting == 0).await;
    other.has_applied(log_end(&redis)).await;
    other.get("/a").await.body("2").status(MISS);
    other.settled().await;
    one.get("/a").await.body("2").status("hit");
}

#[tokio::test]
async fn replica_is_read_and_confirms_nothing() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let patient = only_l2(&origin, &redis.url()).start().await.in_step().await;
    let cache = "[cache]\nmax_lag = \"2s\"";
    let hurried = Gateway::setup(&origin).cache(cache).redis(&redis).start().await.in_step().await;
    for target in ["/a", "/b"] {
        origin.on(target).reply(ok("1").etag("1").max_age(600));
        origin.on(target).with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(600));
        hurried.get(target).await.body("1").status(MISS);
    }
    hurried.settled().await;
    has_contact(&hurried).await;

    set(&redis, "REPLICAOF 127.0.0.1 1");
    until("it is noticed", || patient.l2().log_of_replica && hurried.l2().log_of_replica).await;
    patient.is_in_step().await;
    patient.get("/a").await.body("1").status("hit");
    origin.on("/c").reply(ok("c").max_age(600));
    patient.get("/c").await.body("c");
    until("it refuses", || patient.l2().refused_writes > 0).await;
    // Nobody knows what the master's log has by now.
    lags(&hurried).await;
    assert!(hurried.l2().log_in_step);
    let validated = "fwd=stale; fwd-status=304; stored; detail=unconfirmed";
    hurried.get("/a").await.body("1").status(validated);
    // One that begins now has never been in contact.
    let late = only_l2(&origin, &redis.url()).start().await;
    until("it is noticed", || late.l2().up && late.l2().log_of_replica).await;
    assert!(!late.l2().log_in_step);
    late.get("/a").await.body("1").status(MISS);
    assert_eq!(late.figure("l2_hits"), 0);
    // Purges hold where they were asked for, and wait.
    origin.on("/b").reply(ok("2").max_age(600));
    purge(&hurried, "b", 202).await;
    hurried.get("/b").await.body("2").status(MISS);
    assert_eq!(hurried.l2().log_waiting, 1);

    set(&redis, "REPLICAOF NO ONE");
    is_in_contact(&hurried).await;
    until("it is shared", || hurried.l2().log_waiting == 0).await;
    assert!(!hurried.l2().log_of_replica);
    // Another master may lack the newest records.
    hurried.get("/a").await.body("1").status("fwd=stale; fwd-status=304; stored");
    late.is_in_step().await;
    late.has_applied(log_end(&redis)).await;
    late.get("/b").await.body("2");
    writes_again(&hurried, &origin, &redis).await;
}

#[tokio::test]
async fn what_is_not_ours_in_the_logs_place_is_told_and_left_alone() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis.url()).start().await.in_step().await;
    let mut program = Running::with(&setup(&origin, &redis.url()).text()).await;
    program.is_in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status(MISS);

    set(&redis, "SET larder:log garbage");
    until("it is noticed", || !gateway.l2().log_in_step).await;
    let told = program.says("cut off from the invalidation log").await;
    assert!(told["hint"].as_str().unwrap().contains("delete it"), "{told}");
    assert!(told["keys"].as_str().unwrap().contains("larder:log"), "{told}");
    // Looked at again and again, and seldom, by what Redis itself counts: each gateway says once a
    // second that it is alive.
    let calls = |name: &str| {
        let figures = redis.ask("INFO commandstats").unwrap();
        let line = figures.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:")));
        let calls = line.and_then(|line| line.strip_prefix("calls=")?.split(',').next());
        calls.map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    let (beats, looks) = (calls("time"), calls("xinfo|stream"));
    until("some seconds pass", || calls("time") >= beats + 6).await;
    let looks = calls("xinfo|stream") - looks;
    assert!((1..30).contains(&looks), "{looks}");

    gateway.get("/a").await.body("1").status("hit");
    origin.on("/a").reply(ok("2").max_age(600));
    purge(&gateway, "a", 202).await;
    gateway.get("/a").await.body("2").status(MISS);
    assert_eq!(redis.ask("GET larder:log").unwrap(), "$7\r\ngarbage\r\n");

    assert_eq!(redis.ask("DEL larder:log").unwrap(), ":1\r\n");
    gateway.is_in_step().await;
    until("it is shared", || gateway.l2().log_waiting == 0).await;
    program.says("read the invalidation log").await;
    gateway.get("/a").await.body("2").status(MISS);
}

#[tokio::test]
async fn what_redis_loses_while_it_runs_is_lost_to_all() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let one = setup(&origin, &redis.url()).start().await.in_step().await;
    let other = setup(&origin, &redis.url()).start().await.in_step().await;
    let end = log_end(&redis);
    for gateway in [&one, &other] {
        origin.on("/a").reply(ok("1").max_age(600));
        gateway.get("/a").await.code(200).body("1");
    }
    set(&redis, "FLUSHALL");
    for gateway in [&one, &other] {
        until("it is noticed", || gateway.store().log_position > end).await;
        gateway.is_in_step().await;
    }
    // Once from the origin, and then from L2.
    one.get("/a").await.body("1");
    other.get("/a").await.body("1");
    assert!(origin.count("/a") >= 2);
    origin.on("/a").reply(ok("2").max_age(600));
    purge(&one, "a", 200).await;
    other.has_applied(log_end(&redis)).await;
    other.get("/a").await.body("2").status(MISS);
}

#[tokio::test]
async fn user_who_may_read_the_log_alone_reads_it() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    set(&redis, "ACL SETUSER larder on >secret ~* &* +@all");
    let lines = "timeout = \"10s\"\nusername = \"larder\"\npassword = \"secret\"";
    let setup = || Gateway::setup(&origin).cache("[cache]\nmax_lag = \"1h\"");
    let gateway = setup().l2(&redis.url(), lines).start().await.in_step().await;
    let mut program = Running::with(&setup().l2(&redis.url(), lines).text()).await;
    program.is_in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status(MISS);

    set(&redis, "ACL SETUSER larder -xadd");
    origin.on("/a").reply(ok("2").max_age(600));
    purge(&gateway, "a", 202).await;
    gateway.get("/a").await.body("2").status(MISS);
    has_contact(&gateway).await;
    assert_eq!(gateway.l2().log_waiting, 1);
    set(&redis, "ACL SETUSER larder +xadd");
    until("it is shared", || gateway.l2().log_waiting == 0).await;
    // Nobody can tell that it was fetched after what is in the log now.
    gateway.get("/a").await.body("2").status(MISS);

    set(&redis, "ACL SETUSER larder -xread");
    until("it is cut off", || !gateway.l2().log_in_step).await;
    let told = program.says("cut off from the invalidation log").await;
    assert!(told["hint"].as_str().unwrap().contains("rights"), "{told}");
    gateway.get("/a").await.body("2").status("hit");
    set(&redis, "ACL SETUSER larder +xread");
    gateway.is_in_step().await;
    gateway.get("/a").await.body("2").status("hit");
}

#[tokio::test]
async fn redis_that_is_quick_to_say_pong_and_slow_to_serve_is_left_alone() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let way = Proxy::before(&redis).await;
    let cache = format!("[cache]\nmax_lag = \"1h\"\n{NO_L1}");
    let setup = Gateway::setup(&origin).cache(&cache).l2(&way.url(), "timeout = \"50ms\"");
    let gateway = setup.start().await.in_step().await;

    // Signs of life may take longer than requests wait, and so may writes: each of these is written.
    way.slow(Duration::from_millis(200));
    let mut asked = 0;
    while gateway.l2().up {
        let target = format!("/{asked}");
        origin.on(&target).reply(ok("1").max_age(600));
        gateway.get(&target).await.code(200).body("1");
        asked += 1;
        assert!(asked < 50, "L2 is asked for ever");
    }
    let (timeouts, calls) = (gateway.l2().timeouts, way.calls());
    until("it is tried again", || {
        assert!(!gateway.l2().up, "it is as slow as before");
        way.calls() > calls + 3
    })
    .await;
    origin.on("/more").reply(ok("1").max_age(600));
    gateway.get("/more").await.code(200).body("1");
    assert_eq!(gateway.l2().timeouts, timeouts);

    way.mend();
    gateway.is_in_step().await;
    writes_again(&gateway, &origin, &redis).await;
}

/// As in a fail-over by hand: reads are answered, writes wait.
#[tokio::test]
async fn redis_that_holds_writes_up_holds_nothing_else_up() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let setup = Gateway::setup(&origin).cache("[cache]\nmax_lag = \"1h\"");
    let gateway = setup.l2(&redis.url(), "timeout = \"100ms\"").start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status(MISS);
    set(&redis, "CLIENT PAUSE 600000 WRITE");
    // A connection that waits to write carries no look-ups.
    until("it is left alone", || !gateway.l2().up).await;
    origin.on("/a").reply(ok("2").max_age(600));
    purge(&gateway, "a", 202).await;
    gateway.get("/a").await.body("2").status(MISS);
    has_contact(&gateway).await;
    assert!(gateway.l2().log_in_step && !gateway.l2().up);
    assert_eq!(gateway.l2().log_waiting, 1);

    set(&redis, "CLIENT UNPAUSE");
    until("it is shared", || gateway.l2().log_waiting == 0).await;
    gateway.is_in_step().await;
    writes_again(&gateway, &origin, &redis).await;
}
