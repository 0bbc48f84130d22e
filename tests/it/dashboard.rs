//! The feed that operators' figures come by.

use bytes::Bytes;
use serde_json::Value;

use crate::support::client::Open;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::redis::Redis;

/// `GET /live`, read event by event.
struct Feed {
    open: Open,
    gathered: String,
}

impl Feed {
    async fn of(gateway: &Gateway) -> Self {
        let open = gateway.admin("GET", "/live").open().await;
        let head = open.head().code(200);
        head.has("content-type", "text/event-stream")
            .has("cache-control", "no-store, no-transform");
        Self { open, gathered: String::new() }
    }

    /// The next event of this name; none if the feed ends before.
    async fn next(&mut self, name: &str) -> Option<Value> {
        loop {
            while let Some(end) = self.gathered.find("\n\n") {
                let event = self.gathered.drain(..end + 2).collect::<String>();
                let (first, second) = event.trim_end().split_once('\n').unwrap();
                if first == format!("event: {name}") {
                    let data = second.strip_prefix("data: ").unwrap();
                    return Some(serde_json::from_str(data).unwrap());
                }
            }
            let piece: Bytes = self.open.piece().await?.ok()?;
            self.gathered.push_str(str::from_utf8(&piece).unwrap());
        }
    }

    /// The first event of this name of which that is true.
    async fn until(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next(name).await.expect("the feed has ended");
            if is_it(&event) {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn the_feed_tells_what_was_counted_in_each_second() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.code(200);
    let mut feed = Feed::of(&gateway).await;
    let begin = feed.next("begin").await.unwrap();
    assert_eq!(begin["routes"], serde_json::json!(["all"]), "{begin}");
    assert_eq!(begin["second"]["total"]["total_requests"], 1, "{begin}");

    gateway.get("/a").await.status("hit");
    gateway.get("/a").await.status("hit");
    // They may fall into two seconds, and the first request into any before.
    let (mut hits, mut last) = (0, begin["second"]["number"].as_u64().unwrap());
    while hits < 2 {
        let second = feed.next("second").await.unwrap();
        let number = second["number"].as_u64().unwrap();
        assert_eq!(number, last + 1, "none is missing, none comes twice");
        last = number;
        let counted = &second["counted"];
        hits += counted["all"]["l1_hits"].as_u64().unwrap();
        assert_eq!(
            counted["all"]["l1_hits"],
            counted["routes"]["all"]["l1_hits"].as_u64().unwrap_or(0)
        );
        assert_eq!(second["health"]["status"], "pass", "{second}");
    }
    assert_eq!(hits, 2);
    // One that comes later has them in its history.
    let begin = Feed::of(&gateway).await.next("begin").await.unwrap();
    let sum = |lists: &Value, name: &str| {
        lists[name].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).sum::<u64>()
    };
    let history = &begin["history"];
    assert_eq!(sum(&history["seconds"], "l1_hits"), 2, "{history}");
    assert_eq!(sum(&history["routes"]["all"]["seconds"], "requests"), 3, "{history}");
}

#[tokio::test]
async fn the_feed_tells_of_invalidations_and_their_receipts() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    let mut feed = Feed::of(&second).await;
    feed.next("begin").await.unwrap();
    let purged = first.admin("DELETE", "/tag/shoes?soft=true").send().await.code(200);
    let purged: Value = serde_json::from_slice(&purged.body).unwrap();
    let is_it = |told: &Value| told["invalidations"][0]["covers"] == "shoes";
    let told = feed.until("invalidations", is_it).await;
    let invalidation = &told["invalidations"][0];
    assert_eq!((&invalidation["soft"], &invalidation["kind"]), (&true.into(), &"mark".into()));
    assert_eq!(invalidation["position"], purged["id"], "{told}");
    let is_complete = |told: &Value| {
        let receipts = told["receipts"].as_array().unwrap().iter();
        receipts.filter(|it| it["id"] == purged["id"]).any(|it| it["complete"] == true)
    };
    let told = feed.until("receipts", is_complete).await;
    assert_eq!(told["receipts"][0]["gateways"].as_array().unwrap().len(), 2, "{told}");
    // One that comes later is told of them at once.
    let begin = Feed::of(&second).await.next("begin").await.unwrap();
    assert!(is_complete(&begin), "{begin}");
    let last = begin["invalidations"].as_array().unwrap().last().unwrap();
    assert_eq!(last["position"], purged["id"], "{begin}");
}

#[tokio::test]
async fn the_feed_says_why_there_are_no_busiest_urls() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let busiest = Feed::of(&gateway).await.next("busiest").await.unwrap();
    let why = busiest["why_not"].as_str().unwrap();
    assert!(why.contains("write `busiest = 1000`"), "{busiest}");
}

#[tokio::test]
async fn there_are_256_viewers_at_most_and_one_that_goes_makes_room() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let mut feeds = Vec::new();
    for _ in 0..256 {
        feeds.push(Feed::of(&gateway).await);
    }
    let refused = gateway.admin("GET", "/live").send().await.code(503);
    refused.has("content-type", "application/problem+json");
    drop(feeds.pop());
    // It is noticed when the next event does not reach it.
    loop {
        let open = gateway.admin("GET", "/live").open().await;
        match open.head().status.as_u16() {
            200 => break,
            code => assert_eq!(code, 503),
        }
        feeds.first_mut().unwrap().next("second").await.unwrap();
    }
}

#[tokio::test]
async fn the_feed_ends_with_the_gateway() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let mut feed = Feed::of(&gateway).await;
    feed.next("begin").await.unwrap();
    gateway.drain().await;
    while feed.next("second").await.is_some() {}
}
