//! Which responses are stored, for how long, and with which fields (RFC 9111 §3, §4.2.1).

use std::time::Duration;

use http::HeaderMap;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, pieces, status};
use crate::support::secs;
use crate::support::wire::Wire;

const STORED: &str = "fwd=uri-miss; stored";

/// The time at the origin, so much later or earlier, as an HTTP date.
fn date(origin: &Origin, later: i64) -> String {
    let span = Duration::from_secs(later.unsigned_abs());
    let now = origin.clock().now();
    httpdate::fmt_http_date(if later < 0 { now - span } else { now + span })
}

/// Asks twice for what is answered so. The first response must say `first`; the second one is a
/// hit where that was stored, and comes from the origin again where it was not.
async fn twice(origin: &Origin, gateway: &Gateway, target: &str, reply: Reply, first: &str) {
    let code = {
        origin.on(target).reply(reply);
        gateway.get(target).await.status(first).status
    };
    let second = gateway.get(target).await.code(code.as_u16());
    let is_stored = first == STORED;
    second.status(if is_stored { "hit" } else { first });
    origin.saw(target, if is_stored { 1 } else { 2 });
}

#[tokio::test]
async fn cache_control_decides() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (number, (directives, expected)) in [
        ("max-age=60", STORED),
        ("s-maxage=60", STORED),
        ("max-age=0, s-maxage=60", STORED),
        ("public, max-age=60", STORED),
        ("must-revalidate, max-age=60", STORED),
        ("max-age=\"60\"", STORED),
        ("MAX-AGE=60", STORED),
        ("max-age=60, unknown, other=\"a, b\"", STORED),
        ("private=\"x-user\", max-age=60", STORED),
        ("no-cache=\"x-user\", max-age=60", STORED),
        ("max-age=60, s-maxage=0", "fwd=uri-miss; detail=no-validator"),
        ("max-age=0", "fwd=uri-miss; detail=no-validator"),
        ("max-age=x", "fwd=uri-miss; detail=no-validator"),
        ("max-age=60, max-age=0", "fwd=uri-miss; detail=no-validator"),
        ("max-age=60, no-cache", "fwd=uri-miss; detail=no-validator"),
        ("max-age=60, no-store", "fwd=uri-miss; detail=no-store"),
        ("max-age=60; no-store", "fwd=uri-miss; detail=no-store"),
        ("max-age=60, private", "fwd=uri-miss; detail=private"),
        ("public, max-age=60, private", "fwd=uri-miss; detail=private"),
        ("private=x-user, max-age=60", "fwd=uri-miss; detail=private"),
        ("public", "fwd=uri-miss; detail=no-freshness"),
        ("", "fwd=uri-miss; detail=no-freshness"),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = ok(directives).field("cache-control", directives);
        twice(&origin, &gateway, &format!("/{number}"), reply, expected).await;
    }
}

#[tokio::test]
async fn other_fields_decide_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (number, (fields, expected)) in [
        (vec![("set-cookie", "a=b")], "fwd=uri-miss; detail=set-cookie"),
        (vec![("vary", "*")], "fwd=uri-miss; detail=vary-any"),
        (vec![("vary", "accept, *")], "fwd=uri-miss; detail=vary-any"),
        (vec![("cache-control", "private")], "fwd=uri-miss; detail=private"),
        (vec![("age", "60")], "fwd=uri-miss; detail=no-validator"),
        (vec![("age", "60"), ("etag", "\"1\"")], STORED),
        (vec![("pragma", "no-cache")], STORED),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        let reply = fields
            .iter()
            .fold(ok("1").max_age(60), |reply, (name, value)| reply.field(name, value));
        origin.on(&target).reply(reply);
        gateway.get(&target).await.code(200).body("1").status(expected);
        origin.saw(&target, 1);
    }
    // A cookie is the one client's who asked.
    let first = gateway.get("/0").await.has("set-cookie", "a=b");
    first.status("fwd=uri-miss; detail=set-cookie");
    origin.saw("/0", 2);
}

#[tokio::test]
async fn expires_counts_from_date() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, fields, expected) in [
        ("/later", vec![("expires", date(&origin, 60))], STORED),
        ("/earlier", vec![("expires", date(&origin, -60))], "fwd=uri-miss; detail=no-validator"),
        ("/zero", vec![("expires", "0".to_owned())], "fwd=uri-miss; detail=no-validator"),
        (
            "/overruled",
            vec![("expires", date(&origin, 60)), ("cache-control", "max-age=0".to_owned())],
            "fwd=uri-miss; detail=no-validator",
        ),
        (
            "/both-in-the-past",
            vec![("date", date(&origin, -600)), ("expires", date(&origin, -60))],
            "fwd=uri-miss; detail=no-validator",
        ),
    ] {
        let reply = fields.iter().fold(ok("1"), |reply, (name, value)| reply.field(name, value));
        twice(&origin, &gateway, target, reply, expected).await;
    }
    gateway.clock().advance(secs(61));
    gateway.get("/later").await.body("1").status("fwd=stale; detail=no-validator");
    origin.saw("/later", 2);
}

#[tokio::test]
async fn old_date_is_age() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).date(&date(&origin, -40)));
    gateway.get("/a").await.status(STORED);
    gateway.clock().advance(secs(10));
    let hit = gateway.get("/a").await.status("hit");
    assert!((50..55).contains(&hit.age()), "{hit:?}");
    gateway.clock().advance(secs(10));
    gateway.get("/a").await.status("fwd=stale; detail=no-validator");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn unreadable_date_is_the_time_of_receipt() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).date("yesterday"));
    gateway.get("/a").await.status(STORED);
    gateway.clock().advance(secs(50));
    let hit = gateway.get("/a").await.status("hit");
    assert!((50..55).contains(&hit.age()), "{hit:?}");
    assert!(httpdate::parse_http_date(&hit.field("date").unwrap()).is_ok(), "{hit:?}");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn missing_date_is_added() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let serving = async {
        let mut line = wire.accept().await;
        line.until("\r\n\r\n").await;
        line.send("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 1\r\n\r\n1")
            .await;
        line
    };
    let (first, _line) = tokio::join!(gateway.get("/a"), serving);
    let hit = gateway.get("/a").await.body("1").status("hit");
    for got in [first.status(STORED), hit] {
        assert!(httpdate::parse_http_date(&got.field("date").unwrap()).is_ok(), "{got:?}");
    }
}

#[tokio::test]
async fn lifetime_is_guessed_from_last_modified() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    // A tenth of a thousand seconds.
    origin.on("/a").reply(ok("1").field("last-modified", &date(&origin, -1000)));
    gateway.get("/a").await.status(STORED);
    gateway.clock().advance(secs(95));
    gateway.get("/a").await.status("hit");
    origin.saw("/a", 1);
    gateway.clock().advance(secs(10));
    gateway.get("/a").await.status("fwd=stale; stored");
    origin.saw("/a", 2);
    assert!(origin.last("/a").field("if-modified-since").is_some());

    let reply = ok("1").field("last-modified", &date(&origin, 1000));
    twice(&origin, &gateway, "/future", reply, "fwd=uri-miss; detail=no-freshness").await;
    let none = "fwd=uri-miss; detail=no-freshness";
    for (code, expected, if_public) in [
        (404, STORED, STORED),
        (405, STORED, STORED),
        (410, STORED, STORED),
        (414, STORED, STORED),
        (501, STORED, STORED),
        (302, none, STORED),
        (400, none, STORED),
        (505, none, STORED),
        (503, none, none),
    ] {
        let reply = || status(code).field("last-modified", &date(&origin, -100_000));
        twice(&origin, &gateway, &format!("/{code}"), reply(), expected).await;
        let public = reply().field("cache-control", "public");
        twice(&origin, &gateway, &format!("/{code}-public"), public, if_public).await;
    }
    // Of errors a minute is guessed at most.
    gateway.clock().advance(secs(55));
    gateway.get("/404").await.code(404).status("hit");
    gateway.clock().advance(secs(10));
    gateway.get("/404").await.code(404).status("fwd=stale; stored");
}

#[tokio::test]
async fn route_ttl_is_for_responses_without_a_lifetime() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("ttl = \"60s\"").start().await;
    let none = "fwd=uri-miss; detail=no-freshness";
    for (target, reply, expected) in [
        ("/plain", ok("1"), STORED),
        ("/301", status(301).field("location", "/plain"), STORED),
        ("/short", ok("1").max_age(5), STORED),
        ("/zero", ok("1").max_age(0), "fwd=uri-miss; detail=no-validator"),
        ("/private", ok("1").field("cache-control", "private"), "fwd=uri-miss; detail=private"),
        ("/302", status(302).field("location", "/plain"), none),
        ("/404", status(404), none),
        ("/404-public", status(404).field("cache-control", "public"), STORED),
        ("/400-public", status(400).field("cache-control", "public"), none),
        ("/500-public", status(500).field("cache-control", "public"), none),
    ] {
        twice(&origin, &gateway, target, reply, expected).await;
    }
    gateway.clock().advance(secs(10));
    gateway.get("/short").await.status("fwd=stale; stored");
    gateway.get("/plain").await.status("hit");
    gateway.clock().advance(secs(51));
    gateway.get("/plain").await.status("fwd=stale; stored");
    origin.saw("/plain", 2);
}

#[tokio::test]
async fn errors_are_stored_only_with_a_lifetime_of_their_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for code in [302, 307, 400, 401, 403, 404, 405, 410, 431, 500, 503] {
        let none = "fwd=uri-miss; detail=no-freshness";
        twice(&origin, &gateway, &format!("/{code}"), status(code), none).await;
        let reply = status(code).max_age(60).body("sorry");
        twice(&origin, &gateway, &format!("/{code}-max-age"), reply, STORED).await;
    }
    gateway.get("/404-max-age").await.code(404).body("sorry").status("hit");
}

#[tokio::test]
async fn part_that_nobody_asked_for_is_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let part = status(206).body("ab").max_age(60).etag("1").field("content-range", "bytes 0-1/4");
    twice(&origin, &gateway, "/unasked", part, "fwd=uri-miss; detail=partial").await;
}

#[tokio::test]
async fn authorization_needs_the_origins_permission() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let refused = "fwd=uri-miss; detail=authorization";
    for (number, (directives, expected)) in [
        ("max-age=60", refused),
        ("max-age=60, proxy-revalidate", refused),
        ("max-age=60, s-maxage=x", refused),
        ("max-age=60, public", STORED),
        ("s-maxage=60", STORED),
        ("max-age=60, must-revalidate", STORED),
        ("max-age=60, public, private", "fwd=uri-miss; detail=private"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        origin.on(&target).reply(ok("1").field("cache-control", directives));
        let asked = gateway.ask("GET", &target).field("authorization", "Bearer a").send().await;
        asked.body("1").status(expected);
        assert_eq!(origin.last(&target).field("authorization").as_deref(), Some("Bearer a"));
        let other = gateway.ask("GET", &target).field("authorization", "Bearer b").send().await;
        let is_stored = expected == STORED;
        other.body("1").status(if is_stored { "hit" } else { expected });
        origin.saw(&target, if is_stored { 1 } else { 2 });
    }
}

#[tokio::test]
async fn request_may_forbid_storing() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    let asked = gateway.ask("GET", "/a").field("cache-control", "no-store").send().await;
    asked.body("1").status("fwd=uri-miss; detail=request-no-store");
    origin.saw("/a", 1);

    // That is said of one request only: the next ones share what is fetched for them.
    let held = origin.on("/a").hold(ok("1").max_age(60));
    let release = async {
        gateway.reaches("followers", 1).await;
        held.release();
    };
    let (one, other, ()) = tokio::join!(gateway.get("/a"), gateway.get("/a"), release);
    let mut found = [one.body("1").cache_status(), other.body("1").cache_status()];
    found.sort();
    assert_eq!(found, ["fwd=uri-miss; collapsed", STORED]);
    origin.saw("/a", 2);
}

#[tokio::test]
async fn no_cache_is_stored_and_validated_each_time() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let no_cache = |reply: Reply| reply.field("cache-control", "no-cache").etag("1");
    origin.on("/a").reply(no_cache(ok("1")));
    gateway.get("/a").await.body("1").status(STORED);
    origin.on("/a").with("if-none-match", "\"1\"").reply(no_cache(status(304)));
    for times in 2..4 {
        gateway.get("/a").await.body("1").status("fwd=stale; fwd-status=304; stored");
        origin.saw("/a", times);
    }
}

#[tokio::test]
async fn qualified_directives_withhold_fields_from_others() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, directives) in [
        ("/private", "max-age=60, private=\"x-user, x-mood\""),
        ("/no-cache", "max-age=60, no-cache=\"X-User, X-Mood\""),
    ] {
        let reply = ok("1").field("cache-control", directives).field("x-common", "3");
        let held = origin.on(target).hold(reply.field("x-user", "1").field("x-mood", "2"));
        let followers = gateway.figure("followers");
        let both = async {
            gateway.reaches("followers", followers + 1).await;
            held.release();
        };
        let (one, other, ()) = tokio::join!(gateway.get(target), gateway.get(target), both);
        let (leader, follower) =
            if one.field("x-user").is_some() { (one, other) } else { (other, one) };
        leader.status(STORED).has("x-user", "1").has("x-mood", "2").has("x-common", "3");
        let follower = follower.status("fwd=uri-miss; collapsed");
        for got in [follower, gateway.get(target).await.status("hit")] {
            got.lacks("x-user")
                .lacks("x-mood")
                .has("x-common", "3")
                .has("cache-control", directives);
        }
        origin.saw(target, 1);
    }
}

#[tokio::test]
async fn content_too_large_for_the_route_passes_by() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"10B\"").start().await;
    let large = "fwd=uri-miss; detail=too-large";
    twice(&origin, &gateway, "/10", ok("0123456789").max_age(60), STORED).await;
    twice(&origin, &gateway, "/11", ok("0123456789a").max_age(60), large).await;
    gateway.get("/11").await.body("0123456789a");

    // Without a length it is found out when the head is gone: `stored` has been said by then.
    for times in 1..3 {
        let (reply, content) = pieces();
        origin.on("/unknown").reply(reply.max_age(60));
        let mut got = gateway.ask("GET", "/unknown").open().await;
        assert_eq!(got.head().cache_status(), STORED);
        content.send("012345");
        assert_eq!(got.piece().await.unwrap().unwrap(), "012345");
        content.send("6789a");
        content.end();
        got.finish().await.unwrap().body("6789a");
        origin.saw("/unknown", times);
    }
}

#[tokio::test]
async fn content_of_unknown_length_is_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.max_age(60));
    content.send("one, ");
    content.send("two");
    content.end();
    gateway.get("/a").await.body("one, two").status(STORED).lacks("content-length");
    gateway.get("/a").await.body("one, two").status("hit").has("content-length", "8");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn hit_has_the_fields_of_the_response() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let fields = [
        ("content-type", "text/plain"),
        ("etag", "W/\"1\""),
        ("link", "</a>; rel=next"),
        ("link", "</b>; rel=prev"),
        ("x-empty", ""),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    let reply = ok("1").field("cache-control", "max-age=2147483648");
    origin
        .on("/a")
        .reply(fields.iter().fold(reply, |reply, (name, value)| reply.field(name, value)));
    let first = gateway.get("/a").await.status(STORED);
    let second = gateway.get("/a").await.status("hit");
    let of = |all: &HeaderMap, name: &str| all.get_all(name).iter().cloned().collect::<Vec<_>>();
    for (name, _) in fields {
        assert_eq!(of(&first.headers, name), of(&second.headers, name), "{name}");
        assert!(first.headers.contains_key(name), "{name}");
    }
    second.has("content-length", "1").has("via", "1.1 larder");
    origin.saw("/a", 1);
}
