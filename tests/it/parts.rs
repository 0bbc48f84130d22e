//! Parts that are stored, combined, completed (RFC 9111 §3.3, §3.4), and never taken for the whole.

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok, pieces, status};
use crate::support::redis::Redis;
use crate::support::secs;
use crate::support::tiers::Tiers;
use crate::support::wire::Wire;

const MISS: &str = "fwd=uri-miss; stored";
const PARTIAL: &str = "fwd=partial; stored";
const COMPLETED: &str = "fwd=partial; fwd-status=206; stored";
const TEXT: &str = "0123456789abcdefghij";

fn get(gateway: &Gateway, range: &str) -> Ask {
    gateway.ask("GET", "/a").field("range", range)
}

/// Takes the whole response and waits until it is stored, as it is only after its last octet.
async fn fetched(gateway: &Gateway, ask: Ask) -> Got {
    let before = gateway.figure("stored");
    let got = ask.send().await;
    gateway.reaches("stored", before + 1).await;
    got
}

/// Answers with what a request asks of this text, as an origin that understands `bytes=A-B` and
/// an entity tag in `If-Range`.
fn serve(text: &'static str, etag: &'static str) -> impl Fn(&Asked) -> Reply {
    move |asked| {
        let fields =
            |reply: Reply| reply.max_age(60).etag(etag).field("content-type", "text/plain");
        let is_meant =
            asked.field("if-range").is_none_or(|condition| condition == format!("\"{etag}\""));
        let range = asked.field("range").filter(|_| is_meant);
        fields(range.map_or_else(|| ok(text), |range| of_range(text, &range)))
    }
}

/// A 206 with what `bytes=A-B` asks for.
fn of_range(text: &'static str, range: &str) -> Reply {
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let reply = status(206).body(&text[first..=last]);
    reply.field("content-range", &format!("bytes {first}-{last}/{}", text.len()))
}

/// A 206 that says so.
fn says(body: &'static str, content_range: &str) -> Reply {
    let reply = status(206).body(body).max_age(60).etag("1");
    reply.field("content-range", content_range)
}

#[tokio::test]
async fn part_answers_requests_for_what_it_has() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    origin.on("/a").answer(serve(TEXT, "1"));
    for gateway in &tiers.gateways(&origin).await {
        let got = fetched(gateway, get(gateway, "bytes=4-9")).await;
        got.code(206).body("456789").status(MISS).has("content-range", "bytes 4-9/20");
        gateway.settled().await;
        let asked = origin.count("/a");
        for (range, body, content_range) in [
            ("bytes=4-9", "456789", "bytes 4-9/20"),
            ("bytes=5-5", "5", "bytes 5-5/20"),
            ("bytes=7-8,5-6", "5678", "bytes 5-8/20"),
        ] {
            let got = get(gateway, range).send().await.code(206).body(body).status("hit");
            let got = got.has("content-range", content_range).has("etag", "\"1\"");
            let length = body.len().to_string();
            let got = got.has("content-length", &length).has("content-type", "text/plain");
            assert!(got.has("cache-control", "max-age=60").age() < 5);
        }
        let got = get(gateway, "bytes=4-5").field("if-range", "\"1\"").send().await;
        got.code(206).body("45").status("hit");
        let got = get(gateway, "bytes=4-5").field("if-none-match", "\"1\"").send().await;
        got.code(304).body("").status("hit");
        origin.saw("/a", asked);
    }
}

#[tokio::test]
async fn part_answers_no_other_request() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    origin.on("/a").with("range", "bytes=20-").reply(status(416));
    origin.on("/a").with("range", "bytes=-1").reply(says("j", "bytes 19-19/20"));
    fetched(&gateway, get(&gateway, "bytes=4-9")).await.status(MISS);

    let head = gateway.ask("HEAD", "/a").send().await.code(200).status("fwd=partial");
    head.lacks("content-range");
    assert_eq!(origin.last("/a").method, "HEAD");
    get(&gateway, "bytes=20-").send().await.code(416).status("fwd=partial; detail=no-freshness");
    let got = get(&gateway, "bytes=4-9").field("cache-control", "only-if-cached").send().await;
    got.code(206).status("hit");
    for ask in [gateway.ask("GET", "/a"), get(&gateway, "bytes=4-10")] {
        let got = ask.field("cache-control", "only-if-cached").send().await;
        got.code(504).status("fwd=partial; detail=only-if-cached");
    }
    // Another representation is asked for: the part says nothing of it.
    let got = get(&gateway, "bytes=4-9").field("if-range", "\"0\"").send().await;
    got.code(200).body(TEXT).status("fwd=partial; stored").lacks("content-range");
}

#[tokio::test]
async fn parts_are_combined_to_the_whole() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    origin.on("/a").answer(serve(TEXT, "1"));
    let first = Gateway::of_fleet(&origin, &redis).await;
    fetched(&first, get(&first, "bytes=0-9")).await.code(206).body("0123456789").status(MISS);
    fetched(&first, get(&first, "bytes=12-15")).await.code(206).body("cdef").status(PARTIAL);
    // Of one that lies across a gap, what fills it is fetched.
    let got = fetched(&first, get(&first, "bytes=8-13")).await.code(206).body("89abcd");
    got.status(PARTIAL).has("content-range", "bytes 8-13/20");
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=10-11"));
    get(&first, "bytes=0-15").send().await.code(206).body("0123456789abcdef").status("hit");
    fetched(&first, get(&first, "bytes=16-19")).await.code(206).body("ghij").status(PARTIAL);

    let got = first.get("/a").await.code(200).body(TEXT).status("hit").lacks("content-range");
    got.has("etag", "\"1\"").has("content-length", "20").has("content-type", "text/plain");
    get(&first, "bytes=-20").send().await.code(206).body(TEXT).status("hit");
    first.drain().await;
    // So it lies in L2.
    let second = Gateway::of_fleet(&origin, &redis).await;
    second.get("/a").await.code(200).body(TEXT).status("hit").lacks("content-range");
    origin.saw("/a", 4);
}

#[tokio::test]
async fn part_that_is_all_is_the_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-19")).await.code(206).body(TEXT).status(MISS);
    gateway.get("/a").await.code(200).body(TEXT).status("hit").lacks("content-range");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn part_of_another_representation_replaces_what_is_held() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    origin.on("/a").answer(serve("ABCDEFGHIJKLMNOPQRST", "2"));
    fetched(&gateway, get(&gateway, "bytes=10-19")).await.body("KLMNOPQRST").status(PARTIAL);
    get(&gateway, "bytes=10-19").send().await.body("KLMNOPQRST").status("hit");
    // Nothing of the old one is left.
    let got = fetched(&gateway, gateway.ask("GET", "/a")).await;
    got.code(200).body("ABCDEFGHIJKLMNOPQRST").status(COMPLETED).has("etag", "\"2\"");
    let asked = origin.last("/a");
    assert_eq!(asked.field("range").as_deref(), Some("bytes=0-9"));
    assert_eq!(asked.field("if-range").as_deref(), Some("\"2\""));
}

#[tokio::test]
async fn request_for_the_whole_asks_for_the_gap() {
    let origin = Origin::start().await;
    for (held, gap) in [
        (vec!["bytes=0-9"], "bytes=10-19"),
        (vec!["bytes=5-19"], "bytes=0-4"),
        (vec!["bytes=0-3", "bytes=12-19"], "bytes=4-11"),
    ] {
        let gateway = Gateway::before(&origin).await;
        origin.on("/a").answer(serve(TEXT, "1"));
        for range in &held {
            fetched(&gateway, get(&gateway, range)).await.code(206);
        }
        let ask = gateway.ask("GET", "/a").field("if-none-match", "\"0\"");
        let got = fetched(&gateway, ask).await.code(200).body(TEXT).status(COMPLETED);
        got.lacks("content-range").has("content-length", "20").has("etag", "\"1\"");
        let asked = origin.last("/a");
        assert_eq!(asked.field("range").as_deref(), Some(gap));
        assert_eq!(asked.field("if-range").as_deref(), Some("\"1\""));
        assert_eq!(asked.field("if-none-match"), None);
        gateway.get("/a").await.code(200).body(TEXT).status("hit");
    }
    // Where more than one span is missing, all of it comes.
    let gateway = Gateway::before(&origin).await;
    fetched(&gateway, get(&gateway, "bytes=5-9")).await.code(206);
    let got = fetched(&gateway, gateway.ask("GET", "/a")).await;
    got.code(200).body(TEXT).status("fwd=partial; stored");
    assert_eq!(origin.last("/a").field("range"), None);
}

#[tokio::test]
async fn part_that_is_partly_held_is_completed() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    origin.on("/a").answer(move |asked| {
        serve(TEXT, "1")(asked).field("x-a", "1").field("content-digest", "sha-256=:abc=:")
    });
    for (held, range, gap, first, last) in [
        (vec!["bytes=0-9"], "bytes=5-14", "bytes=10-14", 5, 14),
        (vec!["bytes=8-15"], "bytes=4-9", "bytes=4-7", 4, 9),
        (vec!["bytes=0-3", "bytes=12-19"], "bytes=2-13", "bytes=4-11", 2, 13),
        (vec!["bytes=8-15"], "bytes=-8", "bytes=16-19", 12, 19),
        (vec!["bytes=8-15"], "bytes=10-", "bytes=16-19", 10, 19),
        (vec!["bytes=8-15"], "bytes=15-99", "bytes=16-19", 15, 19),
        // The whole, as a range.
        (vec!["bytes=0-9"], "bytes=0-", "bytes=10-19", 0, 19),
    ] {
        for gateway in &tiers.gateways(&origin).await {
            gateway.admin("POST", "/clear").send().await.code(200);
            for range in &held {
                fetched(gateway, get(gateway, range)).await.code(206);
                gateway.settled().await;
            }
            let ask = get(gateway, range).field("if-range", "\"1\"");
            let got = fetched(gateway, ask).await.code(206).body(&TEXT[first..=last]);
            let got = got.status(PARTIAL).has("etag", "\"1\"").has("x-a", "1");
            let got = got.has("content-range", &format!("bytes {first}-{last}/20"));
            got.has("content-length", &(last - first + 1).to_string()).lacks("content-digest");
            let asked = origin.last("/a");
            assert_eq!(asked.field("range").as_deref(), Some(gap));
            assert_eq!(asked.field("if-range").as_deref(), Some("\"1\""));
            gateway.settled().await;
            let got = get(gateway, range).send().await.code(206).body(&TEXT[first..=last]);
            got.status("hit");
        }
    }
}

#[tokio::test]
async fn part_is_fetched_as_it_is_asked_for_where_that_is_simpler() {
    let origin = Origin::start().await;
    let (condition, tag) = (("if-none-match", "\"0\""), ("if-range", "\"0\""));
    for (held, range, more, why) in [
        ("bytes=5-9", "bytes=0-14", None, "two spans are missing"),
        ("bytes=0-9", "bytes=10-14", None, "all of it is missing"),
        ("bytes=0-9", "bytes=5-14", Some(condition), "a 304 would be about the part"),
        ("bytes=0-9", "bytes=5-14", Some(tag), "another representation is asked for"),
    ] {
        let gateway = Gateway::before(&origin).await;
        origin.on("/a").answer(serve(TEXT, "1"));
        fetched(&gateway, get(&gateway, held)).await.status(MISS);
        let ask = get(&gateway, range);
        let ask = more.into_iter().fold(ask, |ask, (name, value)| ask.field(name, value));
        let got = fetched(&gateway, ask).await.status(PARTIAL);
        assert_eq!(got.status == 200, more == Some(tag), "{why}");
        let asked = origin.last("/a");
        assert_eq!(asked.field("range").as_deref(), Some(range), "{why}");
        assert_eq!(asked.field("if-range").is_some(), more == Some(tag), "{why}");
    }
    // Several parts of one content are not looked into.
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(says("0123456789", "bytes 0-9/1000"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    origin.on("/a").reply(ok("x".repeat(1000)).max_age(60).etag("1"));
    fetched(&gateway, get(&gateway, "bytes=0-4,900-909")).await.code(200);
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=0-4,900-909"));
}

#[tokio::test]
async fn part_of_what_has_changed_is_not_put_together() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    origin.on("/a").answer(serve("ABCDEFGHIJKLMNOPQRST", "2"));
    let got = fetched(&gateway, get(&gateway, "bytes=5-14")).await.code(206).body("FGHIJKLMNO");
    got.status("fwd=partial; fwd-status=200; stored").has("etag", "\"2\"");
    assert_eq!(origin.last("/a").field("if-range").as_deref(), Some("\"1\""));
    gateway.get("/a").await.code(200).body("ABCDEFGHIJKLMNOPQRST").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn what_is_not_the_rest_of_a_part_is_not_believed() {
    let origin = Origin::start().await;
    for rest in [
        status(416).field("content-range", "bytes */20"),
        status(404),
        status(304).etag("1"),
        says("abcde", "bytes 10-14/20").etag("1"),
        says("abcd", "bytes 10-13/20"),
        says("abcd", "bytes 10-14/20"),
        says("abcde", "bytes 9-13/20"),
        says("56789abcde", "bytes 5-14/20"),
        says("abcde", "bytes 10-14/21"),
        says("abcde", "bytes 10-14/*"),
        says("abcde", "bytes 14-10/20"),
        says("abcde", "bytes 10-14/20").field("content-encoding", "gzip"),
        says("abcde", "bytes 10-14/20").field("cache-control", "no-store"),
        status(206).body("VWXYZ").max_age(60).field("content-range", "bytes 10-14/20").etag("2"),
        status(206).body("abcde").max_age(60).field("content-range", "bytes 10-14/20"),
        status(206).body("abcde").etag("1").max_age(60),
    ] {
        let gateway = Gateway::before(&origin).await;
        origin.on("/a").answer(serve(TEXT, "1"));
        fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
        origin.on("/a").with("range", "bytes=10-14").reply(rest);
        let got = fetched(&gateway, get(&gateway, "bytes=5-14")).await;
        let got = got.code(206).body("56789abcde").status(PARTIAL);
        got.has("content-range", "bytes 5-14/20");
        let asked = origin.last("/a");
        assert_eq!(asked.field("range").as_deref(), Some("bytes=5-14"));
        assert_eq!(asked.field("if-range"), None);
        get(&gateway, "bytes=0-14").send().await.code(206).body("0123456789abcde").status("hit");
    }
    // An origin in trouble is not asked twice.
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    origin.on("/a").reply(status(503).body("sorry"));
    let asked = origin.count("/a");
    let got = get(&gateway, "bytes=5-14").send().await.code(503).body("sorry");
    got.status("fwd=partial; detail=no-freshness");
    origin.saw("/a", asked + 1);
    get(&gateway, "bytes=0-9").send().await.code(206).status("hit");
}

#[tokio::test]
async fn stale_part_is_validated_by_what_completes_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    gateway.clock().advance(secs(61));
    // A part that is held is stale as well.
    let got = fetched(&gateway, get(&gateway, "bytes=2-3")).await.code(206).body("23");
    got.status("fwd=stale; stored");
    get(&gateway, "bytes=0-9").send().await.body("0123456789").status("hit");
    gateway.clock().advance(secs(61));
    let got = fetched(&gateway, gateway.ask("GET", "/a")).await.code(200).body(TEXT);
    got.status("fwd=stale; fwd-status=206; stored");
    gateway.get("/a").await.body(TEXT).status("hit");
    origin.saw("/a", 3);

    let gateway = Gateway::before(&origin).await;
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    gateway.clock().advance(secs(61));
    let got = fetched(&gateway, get(&gateway, "bytes=5-14")).await.code(206).body("56789abcde");
    got.status("fwd=stale; stored");
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=10-14"));
    get(&gateway, "bytes=0-14").send().await.body("0123456789abcde").status("hit");
}

#[tokio::test]
async fn whole_that_comes_instead_of_the_rest_replaces_what_is_held() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    origin.on("/a").answer(serve("new", "2"));
    let got = fetched(&gateway, gateway.ask("GET", "/a")).await.code(200).body("new");
    got.status("fwd=partial; stored").has("etag", "\"2\"");
    gateway.get("/a").await.body("new").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn what_is_not_the_rest_is_not_believed() {
    let origin = Origin::start().await;
    for rest in [
        status(416).field("content-range", "bytes */20"),
        status(404),
        status(304).etag("1"),
        says("abcdefghij", "bytes 10-19/20").etag("1"),
        says("abcdefghi", "bytes 10-18/20"),
        says("abcdefghi", "bytes 10-19/20"),
        says("abcdefghij", "bytes 9-18/20"),
        says("abcdefghij", "bytes 10-19/21"),
        says("abcdefghij", "bytes 10-19/*"),
        says("abcdefghij", "bytes 19-10/20"),
        says("abcdefghij", "bytes 10-19/20").field("content-encoding", "gzip"),
        says("abcdefghij", "bytes 10-19/20").field("cache-control", "no-store"),
        status(206).body("abcdefghij").field("content-range", "bytes 10-19/20").etag("2"),
        status(206).body("abcdefghij").field("content-range", "bytes 10-19/20"),
        status(206).body("abcdefghij").etag("1").max_age(60),
        pieces_of("abcdefghij"),
    ] {
        let gateway = Gateway::before(&origin).await;
        origin.on("/a").answer(serve(TEXT, "1"));
        fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
        origin.on("/a").with("range", "bytes=10-19").reply(rest);
        let got = fetched(&gateway, gateway.ask("GET", "/a")).await;
        got.code(200).body(TEXT).status("fwd=partial; stored").lacks("content-range");
        let asked = origin.last("/a");
        assert_eq!((asked.field("range"), asked.field("if-range")), (None, None));
        gateway.get("/a").await.code(200).body(TEXT).status("hit");
    }
}

/// The rest without a length: nobody could tell its end from one that came too early.
fn pieces_of(text: &'static str) -> Reply {
    let (reply, content) = pieces();
    content.send(text);
    content.end();
    let reply = reply.code(206).max_age(60).etag("1");
    reply.field("content-range", "bytes 10-19/20")
}

#[tokio::test]
async fn origin_in_trouble_is_not_asked_twice_for_the_rest() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    origin.on("/a").reply(status(503).body("sorry"));
    gateway.get("/a").await.code(503).body("sorry").status("fwd=partial; detail=no-freshness");
    origin.saw("/a", 2);
    get(&gateway, "bytes=0-9").send().await.code(206).status("hit");
}

#[tokio::test]
async fn parts_that_lie_are_not_stored() {
    let origin = Origin::start().await;
    for (reply, detail) in [
        (says("45", "bytes 4-6/20"), "content-range"),
        (says("4567", "bytes 4-6/20"), "content-range"),
        (says("456", "bytes 6-4/20"), "content-range"),
        (says("456", "bytes 4-6/6"), "content-range"),
        (says("456", "bytes 4-6/20").field("content-range", "bytes 4-6/20"), "content-range"),
        (says("456", "items 4-6/20"), "content-range"),
        (says("456", "bytes 4-6/99999999"), "too-large"),
        (
            says("456", "bytes 4-6/20").field("content-type", "multipart/byteranges; boundary=a"),
            "partial",
        ),
        (says("456", "bytes 4-6/20").field("cache-control", "no-store"), "no-store"),
        (says("456", "bytes 4-6/20").field("cache-control", "private"), "private"),
        (says("456", "bytes 4-6/20").field("set-cookie", "a=b"), "set-cookie"),
        (says("456", "bytes 4-6/20").field("vary", "*"), "vary-any"),
        (dateless("456", "bytes 4-6/20"), "no-strong-validator"),
    ] {
        let gateway = Gateway::before(&origin).await;
        origin.on("/a").reply(reply);
        let got = get(&gateway, "bytes=4-6").send().await.code(206);
        got.status(&format!("fwd=uri-miss; detail={detail}"));
        get(&gateway, "bytes=4-6").send().await.status(&format!("fwd=uri-miss; detail={detail}"));
        assert_eq!(gateway.figure("stored"), 0);
    }
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(says("456", "bytes 4-6/20"));
    let got = get(&gateway, "bytes=4-6").field("authorization", "Bearer x").send().await;
    got.code(206).status("fwd=uri-miss; detail=authorization");
    // To `If-Range` an origin may leave out fields that other clients need.
    let got = get(&gateway, "bytes=4-6").field("if-range", "\"1\"").send().await;
    got.code(206).status("fwd=uri-miss; detail=partial");
    assert_eq!(gateway.figure("stored"), 0);
}

/// A 206 with a `Last-Modified` of which nobody can tell how long before the response it was.
fn dateless(body: &'static str, content_range: &str) -> Reply {
    let reply = status(206).body(body).max_age(60).field("content-range", content_range);
    reply.date("soon").field("last-modified", "Sun, 06 Nov 1994 11:00:00 GMT")
}

#[tokio::test]
async fn part_without_a_strong_validator_is_stored_alone() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    let gateways = tiers.gateways(&origin).await;
    let (noon, fresh) = ("Sun, 06 Nov 1994 12:00:00 GMT", ("cache-control", "max-age=2147483648"));
    for (target, lines) in [
        ("/none", vec![fresh]),
        ("/weak", vec![fresh, ("etag", "W/\"1\"")]),
        ("/two", vec![fresh, ("etag", "\"1\""), ("etag", "\"2\"")]),
        ("/same-second", vec![fresh, ("last-modified", noon), ("date", noon)]),
    ] {
        origin.on(target).answer(move |asked| {
            let reply = match asked.field("range") {
                None => ok(TEXT),
                Some(range) => of_range(TEXT, &range),
            };
            lines.iter().fold(reply, |reply, (name, value)| reply.field(name, value))
        });
        for gateway in &gateways {
            let ask = |range| gateway.ask("GET", target).field("range", range);
            fetched(gateway, ask("bytes=0-9")).await.body("0123456789").status(MISS);
            gateway.settled().await;
            let got = ask("bytes=2-3").send().await.code(206).body("23").status("hit");
            got.has("content-range", "bytes 2-3/20");
            // Nothing tells that the next one is of the same content: it comes as it is asked for, and
            // replaces it.
            fetched(gateway, ask("bytes=5-14")).await.body("56789abcde").status(PARTIAL);
            assert_eq!(origin.last(target).field("range").as_deref(), Some("bytes=5-14"));
            assert_eq!(origin.last(target).field("if-range"), None);
            gateway.settled().await;
            ask("bytes=5-14").send().await.code(206).body("56789abcde").status("hit");
            fetched(gateway, ask("bytes=4-5")).await.code(206).body("45").status(PARTIAL);
            gateway.settled().await;
            // Nor is it completed.
            let got = fetched(gateway, gateway.ask("GET", target)).await.code(200).body(TEXT);
            got.status(PARTIAL);
            assert_eq!(origin.last(target).field("range"), None);
            gateway.settled().await;
            gateway.ask("GET", target).send().await.code(200).body(TEXT).status("hit");
        }
    }
}

#[tokio::test]
async fn part_of_a_content_of_unknown_length_answers_what_does_not_need_it() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in &tiers.gateways(&origin).await {
        origin.on("/a").reply(says("456789", "bytes 4-9/*"));
        let got = fetched(gateway, get(gateway, "bytes=4-9")).await.code(206).body("456789");
        got.status(MISS).has("content-range", "bytes 4-9/*");
        gateway.settled().await;
        for (range, body, content_range) in
            [("bytes=4-9", "456789", "bytes 4-9/*"), ("bytes=5-5,6-7", "567", "bytes 5-7/*")]
        {
            let got = get(gateway, range).send().await.code(206).body(body).status("hit");
            got.has("content-range", content_range).has("content-length", &body.len().to_string());
        }
        let cached = ("cache-control", "only-if-cached");
        for range in
            ["bytes=4-", "bytes=-1", "bytes=-0", "bytes=4-10", "bytes=4-4,99-99", "bytes=99-"]
        {
            let got = get(gateway, range).field(cached.0, cached.1).send().await.code(504);
            got.status("fwd=partial; detail=only-if-cached");
        }
        // Parts of it are combined, and it is completed when its length is known.
        origin.on("/a").reply(says("0123", "bytes 0-3/*"));
        fetched(gateway, get(gateway, "bytes=0-3")).await.status(PARTIAL);
        gateway.settled().await;
        get(gateway, "bytes=2-5").send().await.code(206).body("2345").status("hit");
        origin.on("/a").answer(serve(TEXT, "1"));
        fetched(gateway, get(gateway, "bytes=10-14")).await.status(PARTIAL);
        gateway.settled().await;
        let got = fetched(gateway, gateway.ask("GET", "/a")).await.code(200).body(TEXT);
        got.status(COMPLETED);
        assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=15-19"));
    }
    let gateway = Gateway::setup(&origin).route("max_body = \"8B\"").start().await;
    origin.on("/a").reply(says("89", "bytes 8-9/*"));
    let got = get(&gateway, "bytes=8-9").send().await.code(206);
    got.status("fwd=uri-miss; detail=too-large");
}

#[tokio::test]
async fn part_without_a_strong_validator_replaces_nothing_better() {
    let origin = Origin::start().await;
    // In pieces, so that its client sees the end only when it is stored, or is not.
    let weak = |content_range| {
        let (reply, content) = pieces();
        content.send("XYZ");
        content.end();
        reply.code(206).max_age(60).field("content-range", content_range)
    };
    // The whole, without a validator by which it could be asked about. Once it is stale, it is of no use.
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok(TEXT).field("cache-control", "max-age=60, must-revalidate"));
    fetched(&gateway, gateway.ask("GET", "/a")).await.status(MISS);
    origin.on("/a").reply(weak("bytes 4-6/20"));
    let ask = get(&gateway, "bytes=4-6").field("cache-control", "no-cache");
    ask.send().await.code(206).body("XYZ").status("fwd=request; stored");
    gateway.get("/a").await.code(200).body(TEXT).status("hit");
    gateway.clock().advance(secs(61));
    origin.on("/a").reply(weak("bytes 4-6/20"));
    fetched(&gateway, get(&gateway, "bytes=4-6")).await.body("XYZ").status("fwd=stale; stored");
    get(&gateway, "bytes=4-6").send().await.code(206).body("XYZ").status("hit");

    // Parts of which more can be had.
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    origin.on("/a").reply(weak("bytes 12-14/20"));
    get(&gateway, "bytes=12-14").send().await.code(206).body("XYZ").status(PARTIAL);
    get(&gateway, "bytes=0-9").send().await.code(206).body("0123456789").status("hit");
}

#[tokio::test]
async fn part_does_not_take_the_place_of_a_whole_that_may_stand_in() {
    let origin = Origin::start().await;
    for wants in ["max-age=30", "no-cache"] {
        let gateway = Gateway::setup(&origin).cache("[cache.l1]\nttl = \"1h\"").start().await;
        // Without a validator by which it could be asked about.
        let lasting = ok(TEXT).field("cache-control", "max-age=60, stale-if-error=600");
        origin.on("/a").reply(lasting);
        fetched(&gateway, gateway.ask("GET", "/a")).await.status(MISS);
        gateway.clock().advance(secs(61));
        // In pieces, so that its client sees the end only when it is stored, or is not.
        let (reply, content) = pieces();
        content.send("XYZ");
        content.end();
        let reply = reply.code(206).max_age(60).etag("1");
        origin.on("/a").reply(reply.field("content-range", "bytes 4-6/20"));
        let ask = get(&gateway, "bytes=4-6").field("cache-control", wants);
        ask.send().await.code(206).body("XYZ").status("fwd=stale; stored");
        origin.on("/a").reply(status(503).body("sorry"));
        let got = gateway.get("/a").await.code(200).body(TEXT);
        got.status("fwd=stale; fwd-status=503; detail=stale-if-error");
    }
}

#[tokio::test]
async fn part_that_is_shorter_than_it_says_is_not_stored() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let head = "HTTP/1.1 206 Partial Content\r\ncache-control: max-age=60\r\netag: \"1\"\r\n\
                content-range: bytes 4-6/20\r\n";
    for content in
        ["transfer-encoding: chunked\r\n\r\n2\r\n45\r\n0\r\n\r\n", "content-length: 3\r\n\r\n45"]
    {
        let upstream = async {
            let mut line = wire.accept().await;
            line.until("\r\n\r\n").await;
            line.send(format!("{head}{content}")).await;
        };
        let (got, ()) = tokio::join!(get(&gateway, "bytes=4-6").attempt(), upstream);
        assert!(got.is_err() || got.unwrap().body == "45");
        assert_eq!(gateway.figure("stored"), 0);
    }
}

#[tokio::test]
async fn rest_that_breaks_off_leaves_what_is_held() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let head = |range: &str, length: usize| {
        format!(
            "HTTP/1.1 206 Partial Content\r\ncache-control: max-age=60\r\netag: \"1\"\r\n\
             connection: close\r\ncontent-range: bytes {range}/20\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let upstream = async {
        let mut line = wire.accept().await;
        line.until("\r\n\r\n").await;
        line.send(head("0-9", 10) + "0123456789").await;
    };
    let (got, ()) = tokio::join!(fetched(&gateway, get(&gateway, "bytes=0-9")), upstream);
    got.code(206).body("0123456789").status(MISS);

    let upstream = async {
        let mut line = wire.accept().await;
        assert!(line.until("\r\n\r\n").await.contains("range: bytes=10-19\r\n"));
        line.send(head("10-19", 10)).await;
        line
    };
    let (mut client, mut line) = tokio::join!(gateway.ask("GET", "/a").open(), upstream);
    client.head().code(200).status(COMPLETED).has("content-length", "20");
    // What is held does not wait for the rest.
    assert_eq!(client.piece().await.unwrap().unwrap(), "0123456789");
    line.send("abc").await;
    drop(line);
    assert!(client.finish().await.is_err(), "a part looked whole");
    get(&gateway, "bytes=0-9").send().await.code(206).body("0123456789").status("hit");
    assert_eq!(gateway.figure("stored"), 1);
}

#[tokio::test]
async fn fields_are_those_of_the_newest_part() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin
        .on("/a")
        .reply(says("0123456789", "bytes 0-9/20").field("x-a", "old").field("x-b", "kept"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    let reply = status(206).body("abcdefghij").max_age(90).etag("1");
    let reply = reply.field("content-range", "bytes 10-19/20").field("x-a", "new");
    origin.on("/a").reply(reply.field("content-digest", "sha-256=:abc=:"));
    fetched(&gateway, get(&gateway, "bytes=10-19")).await.status(PARTIAL);
    gateway.clock().advance(secs(80));
    let got = gateway.get("/a").await.code(200).body(TEXT).status("hit").has("x-a", "new");
    let got = got.has("x-b", "kept").has("cache-control", "max-age=90").lacks("content-range");
    got.lacks("content-digest");
}

#[tokio::test]
async fn invalidation_reaches_parts() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    origin.on("/a").method("POST").reply(status(204));
    gateway.ask("POST", "/a").send().await.code(204);
    fetched(&gateway, get(&gateway, "bytes=10-19")).await.body("abcdefghij").status(MISS);
    // What was held before is not part of it.
    get(&gateway, "bytes=0-9").send().await.body("0123456789").status(PARTIAL);
}

#[tokio::test]
async fn parts_of_variants_stay_apart() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (language, text, etag) in [("de", TEXT, "1"), ("en", "ABCDEFGHIJKLMNOPQRST", "2")] {
        let serve = serve(text, etag);
        let on = origin.on("/a").with("accept-language", language);
        on.answer(move |asked| serve(asked).field("vary", "accept-language"));
    }
    let ask = |range, language| get(&gateway, range).field("accept-language", language);
    fetched(&gateway, ask("bytes=0-9", "de")).await.body("0123456789").status(MISS);
    let got = fetched(&gateway, ask("bytes=10-19", "en")).await.body("KLMNOPQRST");
    got.status("fwd=vary-miss; stored");
    ask("bytes=0-9", "de").send().await.body("0123456789").status("hit");
    ask("bytes=10-19", "en").send().await.body("KLMNOPQRST").status("hit");
    let whole = gateway.ask("GET", "/a").field("accept-language", "de");
    fetched(&gateway, whole).await.code(200).body(TEXT).status(COMPLETED);
}

#[tokio::test]
async fn followers_share_what_completes_a_part() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").answer(serve(TEXT, "1"));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    let held = origin.on("/a").with("range", "bytes=10-19");
    let held = held.hold(says("abcdefghij", "bytes 10-19/20"));
    let release = async {
        gateway.reaches("followers", 1).await;
        held.release();
    };
    let (one, other, ()) = tokio::join!(gateway.get("/a"), gateway.get("/a"), release);
    let mut statuses = [one.cache_status(), other.cache_status()];
    statuses.sort();
    assert_eq!(statuses, ["fwd=partial; fwd-status=206; collapsed", COMPLETED]);
    for got in [one, other] {
        got.code(200).body(TEXT).has("content-length", "20").lacks("content-range");
    }
    origin.saw("/a", 2);
}

/// Stores the first half for `/a`, with more in `Cache-Control`, and lets it become stale.
async fn stale(origin: &Origin, more: &'static str) -> Gateway {
    let gateway = Gateway::setup(origin).cache("[cache.l1]\nttl = \"1h\"").start().await;
    let serve = serve(TEXT, "1");
    origin.on("/a").answer(move |asked| serve(asked).field("cache-control", more));
    fetched(&gateway, get(&gateway, "bytes=0-9")).await.status(MISS);
    gateway.clock().advance(secs(61));
    gateway
}

#[tokio::test]
async fn stale_part_is_served_while_it_is_completed() {
    let origin = Origin::start().await;
    let gateway = stale(&origin, "stale-while-revalidate=30").await;
    let got = fetched(&gateway, get(&gateway, "bytes=2-3")).await.code(206).body("23");
    got.status("hit; detail=stale-while-revalidate").has("content-range", "bytes 2-3/20");
    // Whoever might have joined could have wanted all of it.
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=10-19"));
    gateway.get("/a").await.code(200).body(TEXT).status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn stale_part_stands_in_only_for_what_it_has() {
    let origin = Origin::start().await;
    let gateway = stale(&origin, "stale-if-error=30").await;
    origin.on("/a").reply(status(503).body("sorry"));
    let got = get(&gateway, "bytes=2-3").send().await.code(206).body("23");
    got.status("fwd=stale; fwd-status=503; detail=stale-if-error");
    for ask in [get(&gateway, "bytes=2-12"), gateway.ask("GET", "/a"), gateway.ask("HEAD", "/a")] {
        ask.send().await.code(503).lacks("content-range").lacks("etag");
    }
}
