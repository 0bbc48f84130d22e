//! Parts of responses (RFC 9110 §14), from the store and through it.

use larder::clock::Clock;

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok, pieces, status};
use crate::support::tiers::Tiers;
use crate::support::wire::Wire;
use crate::support::{secs, until};

const MISS: &str = "fwd=uri-miss; stored";
const PASSED: &str = "fwd=uri-miss; detail=partial";
const IN_VAIN: &str = "fwd=uri-miss; stored; collapsed=?0";
const VALIDATED: &str = "fwd=stale; fwd-status=304; stored";
const ELEVEN: &str = "Sun, 06 Nov 1994 11:00:00 GMT";
const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";

/// 10,000 octets, as in the RFC's examples; their number of lines is odd, so that an octet in the
/// wrong place shows.
fn content() -> String {
    (0..10_000_u32).map(|n| char::from(b' ' + u8::try_from(n % 93).unwrap())).collect()
}

fn part(gateway: &Gateway, range: &str) -> Ask {
    gateway.ask("GET", "/a").field("range", range)
}

/// Adds lines to a request.
fn with(ask: Ask, lines: &[(&str, &str)]) -> Ask {
    lines.iter().fold(ask, |ask, (name, value)| ask.field(name, value))
}

/// The octets `first` to `last`, as the response to a request for a part of [`content`].
#[track_caller]
fn is_part(got: Got, first: usize, last: usize) -> Got {
    let got = got.code(206).body(&content()[first..=last]);
    let got = got.has("content-range", &format!("bytes {first}-{last}/10000"));
    got.has("content-length", &(last - first + 1).to_string())
}

/// The parts of a multipart content, each with its `Content-Range`.
fn parts_of(got: &Got) -> Vec<(String, String)> {
    let content_type = got.field("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let text = format!("\r\n{}", String::from_utf8(got.body.to_vec()).unwrap());
    let delimiter = format!("\r\n--{boundary}");
    let mut between: Vec<_> = text.split(&delimiter).collect();
    assert_eq!((between.remove(0), between.pop()), ("", Some("--\r\n")), "{text}");
    let parts = between.into_iter().map(|part| {
        let (head, octets) = part.split_once("\r\n\r\n").unwrap();
        let range = head.strip_prefix("\r\nContent-Type: text/plain\r\nContent-Range: ");
        (range.unwrap_or_else(|| panic!("{head}")).to_owned(), octets.to_owned())
    });
    parts.collect()
}

/// Gateways that answer from one tier each, all with [`content`] for `/a`.
async fn from_each_tier(origin: &Origin, tiers: &Tiers) -> [Gateway; 3] {
    let reply = ok(content()).max_age(600).etag("1").field("last-modified", ELEVEN);
    origin.on("/a").reply(reply.field("content-type", "text/plain"));
    let gateways = tiers.gateways(origin).await;
    for gateway in &gateways {
        gateway.get("/a").await.code(200).status(MISS);
        gateway.settled().await;
    }
    gateways
}

#[tokio::test]
async fn stored_response_answers_requests_for_its_parts() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in from_each_tier(&origin, &tiers).await {
        for (range, first, last) in [
            ("bytes=0-499", 0, 499),
            ("bytes=500-999", 500, 999),
            ("bytes=-500", 9500, 9999),
            ("bytes=9500-", 9500, 9999),
            ("bytes=500-600,601-999", 500, 999),
            ("bytes=500-700,601-999", 500, 999),
            ("BYTES=0-0", 0, 0),
            ("bytes=0-", 0, 9999),
            ("bytes=9000-99999999999999999999", 9000, 9999),
        ] {
            let got = is_part(part(&gateway, range).send().await, first, last).status("hit");
            let got = got.has("etag", "\"1\"").has("last-modified", ELEVEN);
            let got = got.has("cache-control", "max-age=600").has("content-type", "text/plain");
            // What the origin does not say of the resource, the gateway does not.
            assert!(got.lacks("accept-ranges").age() < 5);
        }
        let got = gateway.get("/a").await.code(200).body(&content()).status("hit");
        got.lacks("content-range");
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn several_parts_are_one_multipart_content() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in from_each_tier(&origin, &tiers).await {
        for (range, spans) in [
            ("bytes=0-0,-1", vec![(0, 0), (9999, 9999)]),
            ("bytes= 0-999, 4500-5499, -1000", vec![(0, 999), (4500, 5499), (9000, 9999)]),
            ("bytes=7000-7999,500-999,7500-8499", vec![(7000, 8499), (500, 999)]),
        ] {
            let got =
                part(&gateway, range).send().await.code(206).status("hit").has("etag", "\"1\"");
            let expected = spans.iter().map(|&(first, last)| {
                (format!("bytes {first}-{last}/10000"), content()[first..=last].to_owned())
            });
            assert_eq!(parts_of(&got), expected.collect::<Vec<_>>(), "{range}");
            let length = got.body.len().to_string();
            got.has("content-length", &length).lacks("content-range");
        }
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn range_that_no_octet_lies_in_is_refused() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in from_each_tier(&origin, &tiers).await {
        for range in ["bytes=10000-", "bytes=-0", "bytes=10000-10001,20000-"] {
            let got = part(&gateway, range).send().await.code(416).status("hit");
            let got = got.has("content-range", "bytes */10000").lacks("etag");
            got.has("content-type", "application/problem+json");
        }
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn nothing_has_no_parts() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("").max_age(60));
    gateway.get("/a").await.code(200).status(MISS);
    let got = part(&gateway, "bytes=0-").send().await.code(416).status("hit");
    got.has("content-range", "bytes */0");
    // All of nothing can be had, but no `Content-Range` can tell so.
    part(&gateway, "bytes=-5").send().await.code(200).body("").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn range_that_is_none_is_ignored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok(content()).max_age(60).field("content-type", "text/plain");
    origin.on("/a").reply(reply);
    gateway.get("/a").await.status(MISS);
    let many: Vec<_> = (0..17).map(|n| format!("{0}-{0}", n * 500)).collect();
    for ranges in [
        vec!["bytes=1-0"],
        vec!["bytes=0-1,x"],
        vec!["items=0-1"],
        vec!["bytes"],
        vec!["bytes=0-1", "bytes=2-3"],
        vec![&*format!("bytes={}", many.join(","))],
        vec!["bytes=0-5000,5090-"],
    ] {
        let lines: Vec<_> = ranges.iter().map(|line| ("range", *line)).collect();
        let got = with(gateway.ask("GET", "/a"), &lines).send().await;
        let got = got.code(200).body(&content()).status("hit").has("content-length", "10000");
        got.lacks("content-range").has("content-type", "text/plain");
    }
    origin.saw("/a", 1);
}

#[tokio::test]
async fn only_get_asks_for_parts_and_only_of_a_200() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("0123456789").max_age(60));
    gateway.get("/a").await.status(MISS);
    let head = gateway.ask("HEAD", "/a").field("range", "bytes=0-1").send().await;
    head.code(200).status("hit").has("content-length", "10").lacks("content-range");

    origin.on("/none").reply(status(404).body("none at all").max_age(60));
    gateway.get("/none").await.code(404).status(MISS);
    let got = gateway.ask("GET", "/none").field("range", "bytes=0-1").send().await;
    got.code(404).body("none at all").status("hit").lacks("content-range");
    origin.saw("/none", 1);
}

#[tokio::test]
async fn if_range_asks_for_a_part_of_this_representation_only() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in from_each_tier(&origin, &tiers).await {
        for (lines, holds) in [
            (vec![("if-range", "\"1\"")], true),
            (vec![("if-range", "\"2\"")], false),
            (vec![("if-range", "W/\"1\"")], false),
            (vec![("if-range", ELEVEN)], true),
            (vec![("if-range", NOON)], false),
            (vec![("if-range", "Sunday, 06-Nov-94 11:00:00 GMT")], false),
            (vec![("if-range", "\"1\""), ("if-range", "\"1\"")], false),
        ] {
            let got = with(part(&gateway, "bytes=0-4"), &lines).send().await.status("hit");
            if holds {
                is_part(got, 0, 4);
            } else {
                got.code(200).body(&content()).lacks("content-range");
            }
        }
        let alone = gateway.ask("GET", "/a").field("if-range", "\"1\"").send().await;
        alone.code(200).body(&content()).status("hit");
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn date_of_the_second_in_which_it_was_sent_is_no_condition() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let forever = "max-age=2147483648";
    let reply = ok("0123456789").date(NOON).field("cache-control", forever);
    origin.on("/a").reply(reply.field("last-modified", NOON));
    gateway.get("/a").await.status(MISS);
    let got = part(&gateway, "bytes=0-4").field("if-range", NOON).send().await;
    got.code(200).body("0123456789").status("hit");
    part(&gateway, "bytes=0-4").send().await.code(206).body("01234").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn clients_copy_that_is_good_needs_no_part() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in from_each_tier(&origin, &tiers).await {
        for (lines, code) in [
            (vec![("if-none-match", "\"1\"")], 304),
            (vec![("if-none-match", "\"2\"")], 206),
            (vec![("if-modified-since", ELEVEN)], 304),
            (vec![("if-none-match", "\"1\""), ("if-range", "\"2\"")], 304),
            (vec![("if-none-match", "\"2\""), ("if-range", "\"2\"")], 200),
            (vec![("if-none-match", "\"2\""), ("if-range", "\"1\"")], 206),
        ] {
            let got = with(part(&gateway, "bytes=0-4"), &lines).send().await.status("hit");
            match code {
                304 => drop(got.code(304).body("").lacks("content-range")),
                206 => drop(is_part(got, 0, 4)),
                code => drop(got.code(code).body(&content()).lacks("content-range")),
            }
        }
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn digest_of_the_whole_is_not_sent_with_a_part() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok("0123456789").max_age(60).field("content-digest", "sha-256=:abc=:");
    let reply = reply.field("repr-digest", "sha-256=:abc=:").field("accept-ranges", "bytes");
    origin.on("/a").reply(reply);
    gateway.get("/a").await.status(MISS).has("content-digest", "sha-256=:abc=:");
    let got = part(&gateway, "bytes=0-4").send().await.code(206).body("01234").status("hit");
    let got = got.lacks("content-digest").has("repr-digest", "sha-256=:abc=:");
    got.has("accept-ranges", "bytes");
}

#[tokio::test]
async fn on_a_miss_the_upstream_is_asked_for_the_part() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = status(206).body("01").max_age(60).field("content-range", "bytes 0-1/10");
    origin.on("/a").reply(reply);
    let lines = [("if-range", "\"1\""), ("if-none-match", "\"2\"")];
    let got = with(part(&gateway, "bytes=0-1"), &lines).send().await;
    got.code(206).body("01").status(PASSED).has("content-range", "bytes 0-1/10");
    let asked = origin.last("/a");
    for (name, value) in [("range", "bytes=0-1"), ("if-range", "\"1\""), ("if-none-match", "\"2\"")]
    {
        assert_eq!(asked.field(name).as_deref(), Some(value));
    }
    // Requests for the whole are not told to go alone.
    let held = origin.on("/a").hold(ok("0123456789").max_age(60));
    let release = async {
        gateway.reaches("followers", 1).await;
        held.release();
    };
    let (one, other, ()) = tokio::join!(gateway.get("/a"), gateway.get("/a"), release);
    assert_eq!((&one.body[..], &other.body[..]), (&b"0123456789"[..], &b"0123456789"[..]));
    origin.saw("/a", 2);
}

#[tokio::test]
async fn what_only_a_range_brought_about_is_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (code, detail) in [(416, "range"), (404, "range"), (206, "partial"), (304, "status")] {
        let target = format!("/{code}");
        origin.on(&target).reply(ok("whole").max_age(60));
        origin.on(&target).with("range", "bytes=7-").reply(status(code).max_age(60));
        let got = gateway.ask("GET", &target).field("range", "bytes=7-").send().await;
        got.code(code).status(&format!("fwd=uri-miss; detail={detail}"));
        gateway.get(&target).await.code(200).body("whole").status(MISS);
    }
}

#[tokio::test]
async fn upstream_that_knows_no_ranges_is_asked_once() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (stored, target, range, code, body) in [
        (1, "/part", "bytes=3-5", 206, "345"),
        (2, "/none", "bytes=10-", 416, ""),
        (3, "/several", "bytes=0-0,-1", 206, "0123456789"),
        (4, "/other", "items=1", 200, "0123456789"),
    ] {
        origin.on(target).reply(ok("0123456789").max_age(60).etag("1"));
        let got = gateway.ask("GET", target).field("range", range).send().await;
        let whole = "fwd=uri-miss; fwd-status=200; stored";
        let got = got.code(code).status(if code == 200 { MISS } else { whole });
        if code != 416 {
            got.body(body);
        }
        assert_eq!(origin.last(target).field("range").as_deref(), Some(range));
        // The whole came, and is stored.
        gateway.reaches("stored", stored).await;
        gateway.get(target).await.code(200).body("0123456789").status("hit");
        origin.saw(target, 1);
    }
    // Of what has no length, nobody knows where the part ends: the client gets the whole.
    let (reply, whole) = pieces();
    origin.on("/pieces").reply(reply.max_age(60));
    let open = gateway.ask("GET", "/pieces").field("range", "bytes=3-5").open().await;
    open.head().code(200).status(MISS).lacks("content-range");
    whole.send("01234");
    whole.send("56789");
    whole.end();
    open.finish().await.unwrap().body("0123456789");
}

#[tokio::test]
async fn representation_that_changed_is_sent_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("0123456789").max_age(60).etag("2"));
    let got = part(&gateway, "bytes=3-5").field("if-range", "\"1\"").send().await;
    got.code(200).body("0123456789").status(MISS).has("etag", "\"2\"");
    assert_eq!(origin.last("/a").field("if-range").as_deref(), Some("\"1\""));
    let got = part(&gateway, "bytes=3-5").field("if-range", "\"2\"").send().await;
    got.code(206).body("345").status("hit");
    origin.saw("/a", 1);
}

/// A stale response for `/a`, and what the origin says from now on.
async fn stale(origin: &Origin, stored: Reply, then: Reply) -> (Gateway, Clock) {
    let gateway = Gateway::before(origin).await;
    origin.on("/a").reply(stored);
    gateway.get("/a").await.code(200).status(MISS);
    gateway.clock().advance(secs(61));
    origin.on("/a").reply(then);
    let clock = gateway.clock().clone();
    (gateway, clock)
}

#[tokio::test]
async fn stale_response_is_validated_before_its_parts_are_sent() {
    let origin = Origin::start().await;
    let fresh = || ok("0123456789").max_age(60).etag("1");
    let (gateway, clock) = stale(&origin, fresh(), status(304).max_age(60).etag("1")).await;
    let got = part(&gateway, "bytes=3-5").field("if-range", "\"1\"").send().await;
    got.code(206).body("345").status(VALIDATED).has("content-range", "bytes 3-5/10");
    // About the whole of it, and nothing else.
    let asked = origin.last("/a");
    assert_eq!(asked.field("if-none-match").as_deref(), Some("\"1\""));
    assert_eq!((asked.field("range"), asked.field("if-range")), (None, None));
    part(&gateway, "bytes=-1").send().await.code(206).body("9").status("hit");

    // It has changed: the client's part is cut from the new one, which is stored.
    clock.advance(secs(61));
    origin.on("/a").reply(ok("abcdefghij").max_age(60).etag("2"));
    let got = part(&gateway, "bytes=3-5").send().await.code(206).body("def");
    got.status("fwd=stale; fwd-status=200; stored")
        .has("content-range", "bytes 3-5/10")
        .has("etag", "\"2\"");
    gateway.reaches("stored", 3).await;
    gateway.get("/a").await.code(200).body("abcdefghij").status("hit");

    // The client's own copy is of what has changed.
    clock.advance(secs(61));
    origin.on("/a").reply(ok("ABCDEFGHIJ").max_age(60).etag("3"));
    let got = part(&gateway, "bytes=3-5").field("if-range", "\"2\"").send().await;
    got.code(200).body("ABCDEFGHIJ").status("fwd=stale; stored").lacks("content-range");
    origin.saw("/a", 4);
}

#[tokio::test]
async fn stale_response_that_cannot_be_validated_is_as_good_as_none() {
    let origin = Origin::start().await;
    let reply = status(206).body("DEF").max_age(60).field("content-range", "bytes 3-5/10");
    let (gateway, _) = stale(&origin, ok("0123456789").max_age(60), reply).await;
    let got = part(&gateway, "bytes=3-5").send().await.code(206).body("DEF");
    got.status("fwd=stale; stored");
    assert_eq!(origin.last("/a").field("range").as_deref(), Some("bytes=3-5"));
}

#[tokio::test]
async fn request_may_insist_on_the_origins_word() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("0123456789").max_age(60).etag("1"));
    gateway.get("/a").await.status(MISS);
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).max_age(60).etag("1"));
    let got = part(&gateway, "bytes=3-5").field("cache-control", "no-cache").send().await;
    got.code(206).body("345").status("fwd=request; fwd-status=304; stored");
    let got = gateway.ask("GET", "/b").field("range", "bytes=3-5");
    let got = got.field("cache-control", "only-if-cached").send().await;
    got.code(504).status("fwd=uri-miss; detail=only-if-cached");
    origin.saw("/b", 0);
}

#[tokio::test]
async fn part_is_cut_from_a_whole_that_is_on_its_way() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("0123456789").max_age(60).etag("1"));
    let follower = |range: &'static str| {
        let (origin, gateway) = (&origin, &gateway);
        async move {
            until("the leader is there", || origin.count("/a") == 1).await;
            part(gateway, range).send().await
        }
    };
    let release = async {
        gateway.reaches("followers", 3).await;
        held.release();
    };
    let (leader, first, second, none, ()) = tokio::join!(
        gateway.get("/a"),
        follower("bytes=3-5"),
        follower("bytes=-1"),
        follower("bytes=10-"),
        release,
    );
    leader.code(200).body("0123456789").status(MISS);
    let collapsed = "fwd=uri-miss; fwd-status=200; collapsed";
    let first = first.code(206).body("345").status(collapsed);
    first.has("content-range", "bytes 3-5/10").has("content-length", "3");
    second.code(206).body("9").status(collapsed).has("content-range", "bytes 9-9/10");
    none.code(416).status(collapsed).has("content-range", "bytes */10");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn part_of_a_whole_without_length_is_fetched() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, whole) = pieces();
    origin.on("/a").reply(reply.max_age(60));
    let reply = status(206).body("345").max_age(60).field("content-range", "bytes 3-5/10");
    origin.on("/a").with("range", "bytes=3-5").reply(reply);
    let leader = gateway.ask("GET", "/a").open().await;
    part(&gateway, "bytes=3-5").send().await.code(206).body("345").status(IN_VAIN);
    whole.send("0123456789");
    whole.end();
    leader.finish().await.unwrap().body("0123456789");
    gateway.get("/a").await.code(200).body("0123456789").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn requests_for_parts_do_not_wait_for_one_another() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = |asked: &Asked| {
        let range = asked.field("range").unwrap();
        let octet = range.rsplit('-').next().unwrap().to_owned();
        status(206)
            .max_age(60)
            .field("content-range", &format!("bytes {octet}-{octet}/10"))
            .body(octet)
    };
    origin.on("/a").answer(reply);
    let (one, other) =
        tokio::join!(part(&gateway, "bytes=1-1").send(), part(&gateway, "bytes=2-2").send());
    one.code(206).body("1").status(MISS);
    other.code(206).body("2").status(MISS);
    assert_eq!(gateway.figure("followers"), 0);
    origin.saw("/a", 2);
}

#[tokio::test]
async fn part_of_a_whole_that_breaks_off_breaks_off() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let leading = async {
        let mut line = wire.accept().await;
        line.until("\r\n\r\n").await;
        line.send("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\n")
            .await;
        line
    };
    let (leader, mut line) = tokio::join!(gateway.ask("GET", "/a").open(), leading);
    leader.head().code(200).status(MISS);
    let mut near = part(&gateway, "bytes=1-3").open().await;
    let far = part(&gateway, "bytes=4-8").open().await;
    let collapsed = "fwd=uri-miss; fwd-status=200; collapsed";
    near.head().code(206).has("content-range", "bytes 1-3/10").status(collapsed);
    far.head().code(206).has("content-range", "bytes 4-8/10").status(collapsed);
    line.send("01234").await;
    // What there is of it is all that this client wants.
    assert_eq!(near.piece().await.unwrap().unwrap(), "123");
    assert!(near.piece().await.is_none());
    drop(line);
    assert!(far.finish().await.is_err(), "a part of the part looked whole");
    assert!(leader.finish().await.is_err());
    assert_eq!(gateway.figure("stored"), 0);
}
