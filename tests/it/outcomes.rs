//! What requests came to, as `GET /stats` has it: by how they were answered and with which status, how
//! long that took, and how much went out.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, pieces, status};
use crate::support::redis::Redis;
use crate::support::{nobody, secs, until};
use crate::tiers::in_l2;

/// The requests of a route by outcome and status.
async fn came_to(gateway: &Gateway, route: &str) -> Value {
    let stats = gateway.stats().await;
    let outcomes = stats["routes"][route]["outcomes"].as_object().unwrap().clone();
    outcomes
        .into_iter()
        .map(|(outcome, of)| {
            let sum: u64 =
                of["statuses"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            assert_eq!(of["requests"], sum, "{of}");
            let [half, most] = ["p50_seconds", "p99_9_seconds"].map(|it| of[it].as_f64().unwrap());
            assert!(0.0 < half && half <= most, "{of}");
            (outcome, of["statuses"].clone())
        })
        .collect()
}

#[tokio::test]
async fn each_request_came_to_one_thing() {
    let origin = Origin::start().await;
    let gateway =
        Gateway::setup(&origin).route("stale_if_error = \"1h\"").cache("[cache.l1]\nttl = \"1h\"");
    let gateway = gateway.start().await;
    origin.on("/a").reply(ok("12345").max_age(60).etag("1"));
    origin.on("/varies").reply(ok("1").field("vary", "x").max_age(60));
    origin.on("/none").reply(status(404));
    origin.on("/trouble").reply(ok("1").max_age(60));

    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.get("/a").await.status("hit");
    gateway.ask("GET", "/a").field("if-none-match", "\"1\"").send().await.code(304).status("hit");
    gateway.ask("GET", "/a").field("cache-control", "no-cache").send().await;
    gateway.get("/varies").await;
    gateway.ask("GET", "/varies").field("x", "2").send().await.status("fwd=vary-miss; stored");
    gateway.get("/none").await.code(404);
    gateway.ask("POST", "/none").send().await.status("fwd=method");
    gateway.ask("GET", "/b").field("cache-control", "only-if-cached").send().await.code(504);
    gateway.get("/trouble").await;
    gateway.clock().advance(secs(61));
    origin.on("/trouble").reply(status(500));
    gateway.get("/trouble").await.code(200);
    gateway.get("/a").await.status("fwd=stale; stored");
    assert_eq!(
        came_to(&gateway, "all").await,
        json!({
            "uri-miss": { "2xx": 3, "4xx": 1 },
            "hit-l1": { "2xx": 1, "3xx": 1 },
            "request": { "2xx": 1 },
            "vary-miss": { "2xx": 1 },
            "method": { "4xx": 1 },
            "refused": { "5xx": 1 },
            "served-stale": { "2xx": 1 },
            "stale": { "2xx": 1 },
        })
    );
}

#[tokio::test]
async fn trouble_and_clients_that_go_away_are_told_apart() {
    let origin = Origin::start().await;
    let (_reserved, absent) = nobody();
    let more = format!(
        "[upstreams.absent]\nservers = [\"{absent}\"]\n[[routes]]\nname = \"absent\"\n\
         path = \"/absent\"\nupstream = \"absent\"\n"
    );
    let gateway = Gateway::setup(&origin).route(&more).start().await;
    gateway.get("/absent").await.code(502);
    assert_eq!(came_to(&gateway, "absent").await, json!({ "failed": { "5xx": 1 } }));
    let stats = gateway.stats().await;
    assert_eq!(stats["upstreams"]["absent"]["failures"], 1);
    assert_eq!(stats["upstreams"]["absent"]["latency"]["p50_seconds"], Value::Null);

    // A follower, and a leader whose client goes away before there is a head.
    let held = origin.on("/held").hold(ok("1").max_age(60));
    let left = tokio::spawn(gateway.ask("GET", "/held").send());
    until("the origin is asked", || origin.count("/held") == 1).await;
    let follower = tokio::spawn(gateway.ask("GET", "/held").send());
    gateway.reaches("followers", 1).await;
    left.abort();
    let abandoned = || {
        let stats = gateway.service().gateway().stats().snapshot();
        stats.routes["all"].tally.by.values().any(|it| it.count() > 0)
    };
    until("it has gone", abandoned).await;
    held.release();
    follower.await.unwrap().code(200);
    assert_eq!(
        came_to(&gateway, "all").await,
        json!({ "abandoned": { "none": 1 }, "collapsed": { "2xx": 1 } })
    );
    let latency = &gateway.stats().await["upstreams"]["origin"]["latency"];
    assert!(latency["p50_seconds"].as_f64().unwrap() > 0.0, "{latency}");
}

#[tokio::test]
async fn hits_of_the_two_tiers_are_told_apart() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(60));
    first.get("/a").await;
    first.settled().await;
    in_l2(&redis, 1).await;
    second.get("/a").await.status("hit");
    second.get("/a").await.status("hit");
    let both = json!({ "hit-l1": { "2xx": 1 }, "hit-l2": { "2xx": 1 } });
    assert_eq!(came_to(&second, "all").await, both);
}

#[tokio::test]
async fn octets_of_content_are_counted_as_they_go_out() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let sent = async || gateway.stats().await["routes"]["all"]["sent_octets"].as_u64().unwrap();
    origin.on("/a").reply(ok("12345").max_age(60));
    gateway.get("/a").await.body("12345");
    assert_eq!(sent().await, 5, "as it came");
    gateway.get("/a").await.status("hit");
    assert_eq!(sent().await, 10, "a hit");
    gateway.ask("HEAD", "/a").send().await.status("hit");
    gateway.ask("GET", "/a").field("range", "bytes=0-1").send().await.code(206);
    assert_eq!(sent().await, 12, "`HEAD` has none, and a part is a part");
    let (reply, sender) = pieces();
    origin.on("/slow").reply(reply.field("cache-control", "no-store"));
    let mut open = gateway.ask("GET", "/slow").open().await;
    sender.send("123");
    open.piece().await.unwrap().unwrap();
    assert_eq!(sent().await, 15, "so far");
    sender.end();
    open.finish().await.unwrap();
    assert_eq!(gateway.stats().await["sent_octets"], 15);
}

#[tokio::test]
async fn requests_that_no_route_takes_are_refused() {
    let origin = Origin::start().await;
    let route = "[[routes]]\nname = \"a\"\npath = \"/a\"\nupstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(route).start().await;
    gateway.get("/b").await.code(404);
    let stats = gateway.stats().await;
    assert_eq!(stats["unrouted"]["statuses"], json!({ "4xx": 1 }));
    assert_eq!(stats["outcomes"]["refused"]["requests"], 1);
    assert_eq!(stats["routes"]["a"]["statuses"], json!({}));
}
