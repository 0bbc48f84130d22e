//! The dashboard's files, who may have its figures, and the feed that they come by.

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
async fn its_files_need_no_token_and_may_do_little() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).admin("token = \"secret\"").start().await;
    for (target, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard", "text/html; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let got = gateway.admin("GET", target).send().await.code(200).has("content-type", kind);
        let policy = got.field("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|it| it == part), "`{part}` in {policy}");
        }
        let got =
            got.has("x-content-type-options", "nosniff").has("referrer-policy", "no-referrer");
        got.has("cross-origin-resource-policy", "same-origin").has("cache-control", "no-cache");
    }
    gateway.admin("GET", "/dashboard/none.js").send().await.code(404);
    gateway.admin("POST", "/dashboard").send().await.code(405);
    for target in ["/live", "/stats", "/stored"] {
        gateway.admin("GET", target).send().await.code(401);
        let ask = gateway.admin("GET", target).field("authorization", "Bearer wrong");
        ask.send().await.code(401);
    }
}

#[tokio::test]
async fn without_a_token_a_page_of_its_own_may_call_and_no_other() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let port = gateway.admin_address().port();
    let own = format!("127.0.0.1:{port}");
    let named = format!("localhost:{port}");
    for (host, page, site, code, why) in [
        (&*own, None, None, 200, "no browser"),
        (&*own, None, Some("same-origin"), 200, "its own page"),
        (&*own, None, Some("none"), 200, "typed by the user"),
        (&*own, Some(format!("http://{own}")), Some("same-origin"), 200, "its own page writes"),
        (&*named, Some(format!("http://{named}")), None, 200, "by a name"),
        ("localhost:9999", Some("http://localhost:9999".into()), None, 200, "by a forwarded port"),
        (&*own, Some(format!("http://{named}")), None, 403, "another name is another page"),
        (&*own, Some("http://127.0.0.1:3000".into()), None, 403, "a page of another port"),
        (&*own, Some(format!("https://{own}")), None, 403, "another scheme"),
        (&*own, Some("http://attacker.example".into()), None, 403, "a page from elsewhere"),
        (&*own, Some("null".into()), None, 403, "a page that does not say which"),
        (&*own, None, Some("cross-site"), 403, "a page from elsewhere reads"),
        (&*own, None, Some("same-site"), 403, "a page of another port reads"),
        (
            "attacker.example",
            Some("http://attacker.example".into()),
            Some("same-origin"),
            403,
            "a name of the attacker's for this address",
        ),
    ] {
        for target in ["/stats", "/live"] {
            let mut ask = gateway.admin("GET", target).field("host", host);
            if let Some(page) = &page {
                ask = ask.field("origin", page);
            }
            if let Some(site) = site {
                ask = ask.field("sec-fetch-site", site);
            }
            let head = ask.open().await.head();
            assert_eq!(head.status.as_u16(), code, "{why}: {target}");
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
