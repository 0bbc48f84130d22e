//! Redis fails, and requests go on: trouble in L2 is a miss.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::client::Ask;
use crate::support::gateway::{FLEET, Gateway, Setup};
use crate::support::origin::{Origin, ok, status};
use crate::support::program::Running;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, secs, until};
use crate::tiers::log_end;

/// With a timeout for a Redis that does not answer, which short waits do not reach; and with all the
/// time in the world before what is stored counts as unconfirmed.
fn setup(origin: &Origin, redis: &Redis) -> Setup {
    setup_by(origin, &redis.url())
}

fn setup_by(origin: &Origin, url: &str) -> Setup {
    let setup = Gateway::setup(origin).cache("[cache]\nmax_lag = \"1h\"");
    setup.l2(url, "timeout = \"200ms\"")
}

/// Waits until what the gateway stores goes to L2 and another one finds it there.
async fn uses_l2(gateway: &Gateway, origin: &Origin, redis: &Redis, target: &str) {
    gateway.is_in_step().await;
    origin.on(target).reply(ok("kept").max_age(600));
    gateway.get(target).await.body("kept").status("fwd=uri-miss; stored");
    let other = Gateway::of_fleet(origin, redis).await;
    until("it is written", || redis.ask("KEYS larder:r:*").unwrap() != "*0\r\n").await;
    other.get(target).await.body("kept").status("hit");
    assert_eq!(other.figure("l2_hits"), 1);
    origin.saw(target, 1);
}

async fn is_down(gateway: &Gateway) {
    until("the gateway notices", || !gateway.l2().up && !gateway.l2().log_in_step).await;
}

#[tokio::test]
async fn gateway_starts_without_redis_and_uses_it_once_it_is_there() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    redis.kill();
    let gateway = setup(&origin, &redis).start().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.code(200).body("1").status("fwd=uri-miss; stored");
    gateway.get("/a").await.body("1").status("hit");
    assert!(!gateway.l2().up);

    redis.restart();
    uses_l2(&gateway, &origin, &redis, "/b").await;
    // Nobody knows what the fleet invalidated before: it is fetched again.
    gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn killed_redis_costs_nothing_but_its_hits() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis).start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    origin.on("/b").reply(ok("2").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");

    redis.kill();
    gateway.get("/b").await.code(200).body("2").status("fwd=uri-miss; stored");
    is_down(&gateway).await;
    for (target, body) in [("/a", "1"), ("/b", "2")] {
        gateway.get(target).await.body(body).status("hit");
        origin.saw(target, 1);
    }
}

#[tokio::test]
async fn variants_are_told_apart_without_redis() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis).start().await.in_step().await;
    redis.kill();
    is_down(&gateway).await;
    for (language, first) in [("de", "fwd=uri-miss; stored"), ("en", "fwd=vary-miss; stored")] {
        let reply = ok(language).max_age(600).field("vary", "accept-language");
        origin.on("/a").with("accept-language", language).reply(reply);
        for status in [first, "hit"] {
            let ask = gateway.ask("GET", "/a").field("accept-language", language);
            ask.send().await.body(language).status(status);
        }
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn redis_that_lost_everything_takes_l1_along() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis).start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");

    redis.kill();
    is_down(&gateway).await;
    redis.restart();
    uses_l2(&gateway, &origin, &redis, "/b").await;
    // Other gateways' invalidations may have been lost with the log.
    gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");
    origin.saw("/a", 2);
}

/// Its identity stays, and records of a log that an append had made anew would look like all there were.
#[tokio::test]
async fn log_that_redis_lost_alone_takes_along_what_it_may_have_covered() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = setup(&origin, &redis).start().await.in_step().await;
    origin.on("/x").reply(ok("old").max_age(600));
    first.get("/x").await.body("old").status("fwd=uri-miss; stored");
    until("it is written", || redis.ask("KEYS larder:r:*").unwrap() != "*0\r\n").await;
    first.admin("DELETE", "/pattern/x").send().await.code(200);
    origin.on("/x").reply(ok("new").max_age(600));

    assert_eq!(redis.ask("DEL larder:log").unwrap(), ":1\r\n");
    // It waits for a log, unless there is another one already.
    first.admin("DELETE", "/pattern/other").send().await;
    let second = setup(&origin, &redis).start().await.in_step().await;
    second.get("/x").await.body("new").status("fwd=uri-miss; stored");
    until("all is shared", || first.l2().log_in_step && first.l2().log_waiting == 0).await;
    first.get("/x").await.body("new");
}

#[tokio::test]
async fn redis_that_restarts_with_its_data_makes_what_is_stored_stale() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis).start().await.in_step().await;
    origin.on("/a").reply(ok("1").etag("v1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");

    assert_eq!(redis.ask("SAVE").unwrap(), "+OK\r\n");
    redis.kill();
    is_down(&gateway).await;
    redis.restart();
    gateway.is_in_step().await;
    // The newest records may not have been saved: what is stored is validated.
    origin.on("/a").with("if-none-match", "\"v1\"").reply(status(304).etag("v1").max_age(600));
    gateway.get("/a").await.body("1").status("fwd=stale; fwd-status=304; stored");
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn redis_that_hangs_is_waited_for_no_longer_than_its_timeout() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = setup(&origin, &redis).start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");

    redis.hold();
    for number in 0..8 {
        let target = format!("/new/{number}");
        origin.on(&target).reply(ok("new").max_age(600));
        gateway.get(&target).await.code(200).body("new").status("fwd=uri-miss; stored");
        gateway.get(&target).await.body("new").status("hit");
        gateway.get("/a").await.body("1").status("hit");
    }
    assert!(gateway.l2().timeouts > 0);
    // After some timeouts in a row nobody waits any more.
    is_down(&gateway).await;
    let timeouts = gateway.l2().timeouts;
    origin.on("/more").reply(ok("more").max_age(600));
    gateway.get("/more").await.body("more").status("fwd=uri-miss; stored");
    assert_eq!(gateway.l2().timeouts, timeouts);

    redis.release();
    uses_l2(&gateway, &origin, &redis, "/b").await;
    // A mere cut: nothing was lost, and nothing is dropped.
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn redis_that_answers_late_is_waited_for_no_longer_than_its_timeout() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let way = Proxy::before(&redis).await;
    let gateway = setup_by(&origin, &way.url()).start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");

    way.slow(secs(5));
    for number in 0..8 {
        let target = format!("/new/{number}");
        origin.on(&target).reply(ok("new").max_age(600));
        gateway.get(&target).await.code(200).body("new").status("fwd=uri-miss; stored");
        gateway.get(&target).await.body("new").status("hit");
    }
    is_down(&gateway).await;
    // It is asked again and again, and by no request.
    let (timeouts, calls) = (gateway.l2().timeouts, way.calls());
    assert!(timeouts >= 5);
    until("it is tried again", || way.calls() > calls + 2).await;
    origin.on("/more").reply(ok("more").max_age(600));
    gateway.get("/more").await.body("more").status("fwd=uri-miss; stored");
    assert_eq!(gateway.l2().timeouts, timeouts);

    way.mend();
    uses_l2(&gateway, &origin, &redis, "/b").await;
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn redis_that_answers_every_other_time_is_left_alone_in_the_end() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    origin.on("/quick").reply(ok("quick").max_age(600));
    let other = Gateway::of_fleet(&origin, &redis).await;
    other.get("/quick").await.status("fwd=uri-miss; stored");
    until("it is written", || redis.ask("KEYS larder:r:*").unwrap() != "*0\r\n").await;

    let setup =
        Gateway::setup(&origin).cache("[cache]\nmax_lag = \"1h\"\n[cache.l1]\ncapacity = \"0\"");
    let gateway = setup.l2(&redis.url(), "timeout = \"200ms\"").start().await.in_step().await;
    let mut rounds = 0;
    while gateway.l2().up {
        rounds += 1;
        assert!(rounds <= 16, "it is still asked");
        redis.hold();
        // Nothing is written of it.
        let target = format!("/late/{rounds}");
        origin.on(&target).reply(ok("late").field("cache-control", "no-store"));
        gateway.get(&target).await.body("late").status("fwd=uri-miss; detail=no-store");
        redis.release();
        if gateway.l2().up {
            gateway.get("/quick").await.body("quick").status("hit");
        }
    }
}

#[tokio::test]
async fn what_is_not_ours_under_our_keys_is_a_miss() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let keys = || -> Vec<String> {
        let keys = redis.ask("KEYS larder:r:*").unwrap();
        keys.lines().filter(|line| line.starts_with("larder:")).map(str::to_owned).collect()
    };
    let mut known: Vec<String> = Vec::new();
    for target in ["/a", "/b", "/c"] {
        let gateway = Gateway::of_fleet(&origin, &redis).await;
        origin.on(target).reply(ok(target).max_age(600));
        gateway.get(target).await.status("fwd=uri-miss; stored");
        gateway.drain().await;
        known.extend(keys().into_iter().filter(|key| !known.contains(key)).collect::<Vec<_>>());
    }
    let [a, b, c] = &*known else { panic!("{known:?}") };
    assert_eq!(redis.ask(&format!("SET {a} garbage EX 600")).unwrap(), "+OK\r\n");
    // Whole and unharmed, but under another key.
    assert_eq!(redis.ask(&format!("COPY {c} {b} REPLACE")).unwrap(), ":1\r\n");

    let gateway = Gateway::of_fleet(&origin, &redis).await;
    gateway.get("/a").await.body("/a").status("fwd=uri-miss; stored");
    gateway.get("/b").await.body("/b").status("fwd=uri-miss; stored");
    gateway.get("/c").await.body("/c").status("hit");
    assert_eq!((gateway.l2().damaged_frames, gateway.figure("l2_hits")), (2, 1));
    gateway.drain().await;

    // It is written over, and another type is no more trouble than another value.
    redis.ask(&format!("DEL {c}")).unwrap();
    assert_eq!(redis.ask(&format!("LPUSH {c} garbage")).unwrap(), ":1\r\n");
    let gateway = Gateway::of_fleet(&origin, &redis).await;
    gateway.get("/a").await.body("/a").status("hit");
    gateway.get("/b").await.body("/b").status("hit");
    gateway.get("/c").await.body("/c").status("fwd=uri-miss; stored");
    assert!(gateway.l2().up, "an error as the answer is no lost connection");
    assert!(gateway.l2().errors > 0);
    gateway.drain().await;
    Gateway::of_fleet(&origin, &redis).await.get("/c").await.body("/c").status("hit");
    for (target, times) in [("/a", 2), ("/b", 2), ("/c", 2)] {
        origin.saw(target, times);
    }
}

#[tokio::test]
async fn wrong_password_is_no_redis() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    assert_eq!(redis.ask("CONFIG SET requirepass right").unwrap(), "+OK\r\n");
    origin.on("/a").reply(ok("1").max_age(600));
    let with = |password: &str| {
        let url = format!("{}?pass={password}", redis.url());
        Gateway::setup(&origin).l2(&url, "timeout = \"10s\"").start()
    };
    let right = with("right").await.in_step().await;
    let wrong = with("wrong").await;
    wrong.get("/a").await.code(200).body("1").status("fwd=uri-miss; stored");
    wrong.get("/a").await.body("1").status("hit");
    right.get("/a").await.body("1").status("fwd=uri-miss; stored");
    assert!(!wrong.l2().up && right.l2().up);
    let figures = wrong.stats().await.to_string();
    assert!(!figures.contains("wrong"), "{figures}");
}

/// A server that is no Redis, and how often it was called.
async fn impostor(answer: &'static [u8], stays: bool) -> (String, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (calls, mut serving) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let counted = Arc::clone(&calls);
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            connections.spawn(async move {
                let mut octets = vec![0; 4096];
                while stays && stream.read(&mut octets).await.is_ok_and(|count| count > 0) {
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, calls, serving)
}

#[tokio::test]
async fn server_that_is_no_redis_is_as_good_as_none() {
    let origin = Origin::start().await;
    for (what, answer, stays) in [
        ("closes at once", &b""[..], false),
        ("never answers", b"", true),
        ("speaks HTTP", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", true),
        ("says yes to everything", b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n", true),
        ("says yes and no", b"+PONG\r\n-ERR no\r\n:7\r\n$-1\r\n*0\r\n", true),
        ("promises too much", b"*1000000000\r\n$1000000000\r\n", true),
    ] {
        let (url, calls, _serving) = impostor(answer, stays).await;
        let target = format!("/{}", what.replace(' ', "-"));
        origin.on(&target).reply(ok(what).max_age(600));
        let gateway = Gateway::setup(&origin).l2(&url, "timeout = \"100ms\"").start().await;
        gateway.get(&target).await.code(200).body(what).status("fwd=uri-miss; stored");
        until(what, || calls.load(Ordering::Relaxed) >= 3).await;
        gateway.get(&target).await.body(what).status("hit");
        gateway.admin("POST", "/clear").send().await.code(202);
        gateway.get(&target).await.body(what).status("fwd=uri-miss; stored");
        assert!(!gateway.l2().log_in_step, "it {what}");
        origin.saw(&target, 2);
    }
}

#[tokio::test]
async fn invalidation_without_redis_holds_here_and_reaches_the_others_later() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = setup(&origin, &redis).start().await.in_step().await;
    let second = setup(&origin, &redis).start().await.in_step().await;
    for target in ["/a", "/b", "/c"] {
        origin.on(target).reply(ok("1").max_age(600));
        first.get(target).await.status("fwd=uri-miss; stored");
        second.get(target).await.body("1");
    }

    redis.hold();
    origin.on("/a").method("PUT").reply(status(204));
    first.ask("PUT", "/a").send().await.code(204).status("fwd=method");
    let purged = first.admin("DELETE", "/pattern/b").send().await.code(202);
    assert!(String::from_utf8_lossy(&purged.body).contains("\"shared\":false"), "{purged:?}");
    for target in ["/a", "/b"] {
        origin.on(target).method("GET").reply(ok("2").max_age(600));
        first.get(target).await.body("2").status("fwd=uri-miss; stored");
        first.get(target).await.body("2").status("hit");
    }
    first.get("/c").await.body("1").status("hit");
    is_down(&first).await;
    // The write has three: one for its target, one for what answers other queries of its path, one for
    // what was asked of it by `POST`.
    assert_eq!(first.l2().log_waiting, 4);

    redis.release();
    until("the records are shared", || first.l2().log_waiting == 0).await;
    first.is_in_step().await;
    second.has_applied(log_end(&redis)).await;
    for target in ["/a", "/b"] {
        second.get(target).await.body("2").status("fwd=uri-miss; stored");
        first.get(target).await.body("2");
    }
    second.get("/c").await.body("1").status("hit");
}

/// Clients of two gateways, one of them without L1. Each client has a target of its own, writes a
/// new version to it now and then, and must read its last version every time.
#[tokio::test]
async fn no_request_fails_and_no_old_version_is_served_while_redis_comes_and_goes() {
    /// Requests in each phase, at each gateway.
    const EACH: u64 = 200;
    let (origin, mut redis) = (Arc::new(Origin::start().await), Redis::start());
    let small = |lines: &str| {
        Gateway::setup(&origin).cache(lines).l2(&redis.url(), "timeout = \"50ms\"").start()
    };
    let gateways = [
        Arc::new(small("[cache.l1]\ncapacity = \"1MiB\"").await.in_step().await),
        Arc::new(small("[cache.l1]\ncapacity = \"0\"").await.in_step().await),
    ];
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let (origin, gateway) = (Arc::clone(&origin), Arc::clone(&gateways[number % 2]));
        clients.spawn(async move {
            let target = format!("/{number}");
            origin.on(&target).method("PUT").reply(status(204));
            for round in 0.. {
                let version = format!("{number}: version {}", round / 6);
                if round % 6 == 0 {
                    let reply = ok(version.clone()).etag(&version.replace(' ', "")).max_age(600);
                    origin.on(&target).method("GET").reply(reply);
                    gateway.ask("PUT", &target).send().await.code(204).status("fwd=method");
                }
                gateway.get(&target).await.code(200).body(&version);
            }
        });
    }
    let mut done = 0;
    let mut more = async || {
        done += EACH;
        for gateway in &gateways {
            gateway.reaches("total_requests", done).await;
        }
    };
    for _ in 0..2 {
        more().await;
        redis.kill();
        more().await;
        redis.restart();
        more().await;
        redis.hold();
        more().await;
        redis.release();
        more().await;
    }
    for gateway in &gateways {
        gateway.is_in_step().await;
    }
    let hits = gateways[1].figure("l2_hits");
    gateways[1].reaches("l2_hits", hits + 20).await;
    // A client that got something wrong has ended.
    if let Some(ended) = clients.try_join_next() {
        panic!("{:?}", ended.unwrap_err());
    }
}

/// The reader's connection lives on meanwhile, so that nothing is checked as it is on a new one.
#[tokio::test]
async fn records_that_were_trimmed_while_the_process_stood_still_are_missed() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let paused = Running::with(&setup(&origin, &redis).text()).await;
    let ask = || Ask::new(paused.address(), "GET", "/a").field("host", FLEET).send();
    paused.is_in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    ask().await.body("1");
    ask().await.body("1").status("hit");

    paused.pause().await;
    // The first wakes the reader, and the second is gone before it can ask for more.
    for pattern in ["b", "a", "b"] {
        redis.ask(&format!("XADD larder:log * k pattern v {pattern} soft 0")).unwrap();
    }
    redis.ask("XTRIM larder:log MAXLEN 1").unwrap();
    let begun = clock::instant();
    until("it has stood still for long", || begun.elapsed() > Duration::from_millis(3200)).await;
    origin.on("/a").reply(ok("2").max_age(600));
    paused.signal("CONT");
    let mut last = None;
    let looking = async {
        while last.insert(ask().await).body != "2" {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    assert!(found.is_ok(), "it finds out that it has missed records; the last answer: {last:?}");
}
