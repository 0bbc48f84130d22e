//! Content that breaks off, and of which what came is kept, completed, and never taken for the whole
//! (RFC 9111 §3.3).

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Pieces, Reply, ok, pieces, status};
use crate::support::secs;
use crate::support::tiers::Tiers;

const MISS: &str = "fwd=uri-miss; stored";
const PARTIAL: &str = "fwd=partial; stored";
const COMPLETED: &str = "fwd=partial; fwd-status=206; stored";
const LENGTH: usize = 300_000;
/// The fewest octets that are kept.
const ENOUGH: usize = 64 * 1024;

/// A content whose number of lines is odd, so that an octet in the wrong place shows.
fn content() -> String {
    (0..LENGTH).map(|n| char::from(b' ' + u8::try_from(n % 93).unwrap())).collect()
}

/// A reply of the origin's whose content the test sends, with this entity tag and this length.
fn broken(etag: &str, length: usize) -> (Reply, Pieces) {
    let (reply, pieces) = pieces();
    (reply.max_age(60).etag(etag).field("content-length", &length.to_string()), pieces)
}

/// A 206 that says that it has these octets, the last one among them.
fn broken_part(first: usize, last: usize) -> (Reply, Pieces) {
    let (reply, pieces) = broken("1", last - first + 1);
    (reply.code(206).field("content-range", &format!("bytes {first}-{last}/{LENGTH}")), pieces)
}

/// Answers with what a request asks of [`content`] by `bytes=A-B`, under this entity tag.
fn serve(etag: &'static str) -> impl Fn(&Asked) -> Reply {
    move |asked| {
        let is_meant = asked.field("if-range").is_none_or(|tag| tag == format!("\"{etag}\""));
        let Some(range) = asked.field("range").filter(|_| is_meant) else {
            return ok(content()).max_age(60).etag(etag);
        };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let reply = status(206).max_age(60).etag(etag).body(content()[first..=last].to_owned());
        reply.field("content-range", &format!("bytes {first}-{last}/{LENGTH}"))
    }
}

fn get(gateway: &Gateway) -> Ask {
    gateway.ask("GET", "/a")
}

fn part(gateway: &Gateway, range: &str) -> Ask {
    get(gateway).field("range", range)
}

/// Sends a request whose answer breaks off behind these octets. The client sees them, and that.
async fn breaks(ask: Ask, sending: Pieces, octets: &str) -> Got {
    let mut open = ask.open().await;
    sending.send(octets.to_owned());
    let (head, mut came) = (open.head(), Vec::new());
    while !came.ends_with(octets.as_bytes()) {
        came.extend(open.piece().await.unwrap().unwrap());
    }
    drop(sending);
    assert!(open.finish().await.is_err(), "a part looked whole");
    head
}

/// Takes the whole response and waits until it is stored, as it is only after its last octet.
async fn fetched(gateway: &Gateway, ask: Ask) -> Got {
    let before = gateway.figure("stored");
    let got = ask.send().await;
    gateway.reaches("stored", before + 1).await;
    got
}

#[tokio::test]
async fn what_came_before_the_break_is_kept_and_completed() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in &tiers.gateways(&origin).await {
        let (reply, sending) = broken("1", LENGTH);
        origin.on("/a").reply(reply.field("content-type", "text/plain"));
        breaks(get(gateway), sending, &content()[..100_000]).await.code(200).status(MISS);
        gateway.settled().await;
        origin.on("/a").answer(serve("1"));
        let asked = origin.count("/a");
        let got = part(gateway, "bytes=99990-99999").send().await.code(206);
        let got = got.body(&content()[99_990..100_000]).status("hit").has("etag", "\"1\"");
        got.has("content-range", "bytes 99990-99999/300000").has("content-type", "text/plain");
        let ask = get(gateway).field("cache-control", "only-if-cached");
        ask.send().await.code(504).status("fwd=partial; detail=only-if-cached");
        origin.saw("/a", asked);

        let got = fetched(gateway, get(gateway)).await.code(200).body(&content());
        let got = got.status(COMPLETED).has("content-length", "300000").has("etag", "\"1\"");
        got.lacks("content-range").has("content-type", "text/plain");
        let asked = origin.last("/a");
        assert_eq!(asked.field("range").as_deref(), Some("bytes=100000-299999"));
        assert_eq!(asked.field("if-range").as_deref(), Some("\"1\""));
        gateway.settled().await;
        get(gateway).send().await.code(200).body(&content()).status("hit");
    }
    origin.saw("/a", 6);
}

#[tokio::test]
async fn each_attempt_goes_on_where_the_last_one_broke_off() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, sending) = broken("1", LENGTH);
    origin.on("/a").reply(reply);
    breaks(get(&gateway), sending, &content()[..70_000]).await.status(MISS);
    let (reply, sending) = broken_part(70_000, LENGTH - 1);
    origin.on("/a").reply(reply);
    let head = breaks(get(&gateway), sending, &content()[70_000..140_000]).await;
    head.code(200).status(COMPLETED);
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=70000-299999"));
    part(&gateway, "bytes=0-139999").send().await.code(206).body(&content()[..140_000]);
    origin.on("/a").answer(serve("1"));
    let got = fetched(&gateway, get(&gateway)).await.code(200).body(&content());
    got.status(COMPLETED);
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=140000-299999"));
    origin.saw("/a", 3);
}

#[tokio::test]
async fn part_that_broke_off_is_kept_as_well() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, sending) = broken_part(10, 200_009);
    origin.on("/a").reply(reply);
    let ask = part(&gateway, "bytes=10-200009");
    let head = breaks(ask, sending, &content()[10..100_010]).await.code(206).status(MISS);
    head.has("content-range", "bytes 10-200009/300000");
    let got = part(&gateway, "bytes=10-100009").send().await.code(206).status("hit");
    got.body(&content()[10..100_010]).has("content-range", "bytes 10-100009/300000");
    // So is the rest of one.
    let (reply, sending) = broken_part(100_010, 199_999);
    origin.on("/a").reply(reply);
    let ask = part(&gateway, "bytes=99999-199999");
    let head = breaks(ask, sending, &content()[100_010..170_010]).await.code(206).status(PARTIAL);
    head.has("content-range", "bytes 99999-199999/300000").has("content-length", "100001");
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=100010-199999"));
    let got = part(&gateway, "bytes=10-170009").send().await.code(206).status("hit");
    got.body(&content()[10..170_010]);
    origin.saw("/a", 2);
}

#[tokio::test]
async fn silence_breaks_off_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).upstream("idle_timeout = \"200ms\"").start().await;
    let (reply, sending) = broken("1", LENGTH);
    origin.on("/a").reply(reply);
    sending.send(content()[..100_000].to_owned());
    let open = get(&gateway).open().await;
    assert!(open.finish().await.is_err(), "a part looked whole");
    origin.on("/a").answer(serve("1"));
    fetched(&gateway, get(&gateway)).await.code(200).body(&content()).status(COMPLETED);
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=100000-299999"));
}

#[tokio::test]
async fn what_has_changed_since_the_break_comes_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, sending) = broken("1", LENGTH);
    origin.on("/a").reply(reply);
    breaks(get(&gateway), sending, &"x".repeat(100_000)).await.status(MISS);
    origin.on("/a").answer(serve("2"));
    let got = fetched(&gateway, get(&gateway)).await.code(200).body(&content());
    got.status(PARTIAL).has("etag", "\"2\"");
    get(&gateway).send().await.code(200).body(&content()).status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn what_broke_off_is_not_always_kept() {
    let origin = Origin::start().await;
    let (long, enough) = (LENGTH.to_string(), &content()[..ENOUGH]);
    let length = ("content-length", &*long);
    let (etag, fresh) = (("etag", "\"1\""), ("cache-control", "max-age=60"));
    for (code, lines, octets, stored, why) in [
        (200, vec![length, etag, fresh], enough, 1, "it is"),
        (200, vec![length, etag, fresh], &enough[1..], 0, "it is little"),
        (200, vec![etag, fresh], enough, 0, "nobody knows how much is missing"),
        (200, vec![length, fresh], enough, 0, "it has no validator"),
        (200, vec![length, fresh, ("etag", "W/\"1\"")], enough, 0, "it has a weak one"),
        (404, vec![length, etag, fresh], enough, 0, "it is no 200"),
        (200, vec![length, etag, ("cache-control", "private")], enough, 0, "it is for one client"),
        (200, vec![length, etag, fresh, ("vary", "*")], enough, 0, "nobody may have it"),
    ] {
        let gateway = Gateway::before(&origin).await;
        let (reply, sending) = pieces();
        origin.on("/a").reply(lines.iter().fold(reply.code(code), |r, (n, v)| r.field(n, v)));
        breaks(get(&gateway), sending, octets).await.code(code);
        assert_eq!(gateway.figure("stored"), stored, "{why}");
        origin.on("/a").answer(serve("1"));
        fetched(&gateway, get(&gateway)).await.code(200).body(&content());
        assert_eq!(origin.last("/a").field("range").is_some(), stored == 1, "{why}");
    }
}

/// RFC 9111 §3.3: "If the request method is GET".
#[tokio::test]
async fn nothing_is_kept_of_what_another_method_got() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let ask = |method| gateway.ask(method, "/a");
    let (reply, sending) = broken("1", LENGTH);
    origin.on("/a").method("POST").reply(reply.field("content-location", "/a"));
    let head = breaks(ask("POST"), sending, &content()[..100_000]).await;
    head.code(200).status("fwd=method; stored");
    let (reply, sending) = broken("1", LENGTH);
    origin.on("/a").method("QUERY").reply(reply);
    let query = ask("QUERY").field("content-type", "text/plain").body("q");
    breaks(query, sending, &content()[..100_000]).await.code(200).status(MISS);
    assert_eq!(gateway.figure("stored"), 0);
}

#[tokio::test]
async fn what_may_stand_in_is_not_given_up_for_what_broke_off() {
    let origin = Origin::start().await;
    for (more, stands_in) in [("stale-if-error=60", true), ("must-revalidate", false)] {
        let gateway = Gateway::setup(&origin).cache("[cache.l1]\nttl = \"1h\"").start().await;
        origin.on("/a").reply(ok("old").max_age(60).etag("0").field("cache-control", more));
        get(&gateway).send().await.status(MISS);
        gateway.clock().advance(secs(61));
        let (reply, sending) = broken("1", LENGTH);
        origin.on("/a").reply(reply);
        breaks(get(&gateway), sending, &content()[..100_000]).await.status("fwd=stale; stored");
        origin.on("/a").reply(status(503).body("sorry"));
        let got = get(&gateway).send().await;
        if stands_in {
            got.code(200).body("old").status("fwd=stale; fwd-status=503; detail=stale-if-error");
        } else {
            got.code(503).body("sorry").status("fwd=partial; detail=no-freshness");
        }
        origin.on("/a").answer(serve("1"));
        fetched(&gateway, get(&gateway)).await.code(200).body(&content());
        assert_eq!(origin.last("/a").field("range").is_some(), !stands_in);
    }
}
