//! Sentences of RFC 9111 where clocks, servers and clients send what nobody meant them to.
//! `docs/http-caching.md` lists all of them, and where each has its test.

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::wire::{Line, Wire};
use crate::support::{PATIENCE, secs, until};

const MISS: &str = "fwd=uri-miss; stored";
const VALIDATED: &str = "fwd=stale; fwd-status=304; stored";
const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
const ONE: &str = "Sun, 06 Nov 1994 13:00:00 GMT";

/// A response with these fields.
fn with(fields: &[(&str, &str)]) -> Reply {
    fields.iter().fold(ok("1"), |reply, (name, value)| reply.field(name, value))
}

/// §5.1: "SHOULD use the first member of the field value", and "SHOULD ignore the field" if that is
/// invalid; §4: "replacing any present in the response".
#[tokio::test]
async fn odd_ages() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (number, (lines, age)) in [
        (vec!["30"], 30),
        (vec!["30, 50"], 30),
        (vec!["30", "50"], 30),
        (vec!["007"], 7),
        (vec![" ,, 30"], 30),
        (vec!["x"], 0),
        (vec!["x, 30"], 0),
        (vec!["-30"], 0),
        (vec!["30.5"], 0),
        (vec!["30;50"], 0),
        (vec!["\"30\""], 0),
        (vec![""], 0),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        let reply = lines.iter().fold(ok("1").max_age(60), |reply, line| reply.field("age", line));
        origin.on(&target).reply(reply);
        let first = gateway.get(&target).await.status(MISS);
        // What is forwarded is the upstream's own word.
        assert_eq!(first.headers.get_all("age").iter().count(), lines.len(), "{lines:?}");
        let hit = gateway.get(&target).await.status("hit");
        assert!((age..age + 5).contains(&hit.age()), "{lines:?}: {hit:?}");
        origin.saw(&target, 1);
    }
    // §1.2.2: what overflows is 2^31, and no negative number.
    for (number, line) in
        ["2147483649", "18446744073709551616", "99999999999999999999999"].into_iter().enumerate()
    {
        let target = format!("/large/{number}");
        origin.on(&target).reply(ok("1").max_age(60).field("age", line).etag("1"));
        gateway.get(&target).await.status(MISS);
        let got = gateway.ask("GET", &target).field("cache-control", "max-stale").send().await;
        let age = got.status("hit").age();
        assert!((1 << 31..(1 << 31) + 5).contains(&age), "{line}: {age}");
    }
}

/// §4.2.3: "A cache MUST interpret this value relative to the time the request was initiated, not
/// the time that the response was received."
#[tokio::test]
async fn the_time_that_a_response_took_is_age() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("1").max_age(60).field("age", "20"));
    let slowly = async {
        until("the origin is asked", || origin.count("/a") == 1).await;
        gateway.clock().advance(secs(10));
        held.release();
    };
    let (first, ()) = tokio::join!(gateway.get("/a"), slowly);
    first.status(MISS);
    gateway.clock().advance(secs(5));
    let hit = gateway.get("/a").await.status("hit");
    assert!((35..40).contains(&hit.age()), "{hit:?}");
}

/// §4.2.3: "If the result is negative, the result is replaced by zero"; §4.2.1: a lifetime is a
/// difference of the server's own times, "to reduce clock skew".
#[tokio::test]
async fn a_server_whose_clock_is_wrong_is_cached_all_the_same() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, date, expires) in [
        // A thousand years ahead.
        ("/ahead", "Sun, 02 Nov 2994 12:00:00 GMT", "Sun, 02 Nov 2994 12:01:00 GMT"),
        ("/ahead-in-words", "Sun, 02 Nov 2994 12:00:00 GMT", "sun, 02 nov 2994 12:01:00 gmt"),
    ] {
        origin.on(target).reply(with(&[("date", date), ("expires", expires)]));
        gateway.get(target).await.status(MISS);
        gateway.clock().advance(secs(50));
        let hit = gateway.get(target).await.status("hit").has("date", date);
        assert!((50..55).contains(&hit.age()), "{hit:?}");
        gateway.clock().advance(secs(11));
        gateway.get(target).await.status("fwd=stale; stored");
    }
    // Behind, it makes every response old: that is the price of an honest age.
    origin.on("/behind").reply(with(&[("date", NOON), ("expires", ONE)]));
    for _ in 0..2 {
        gateway.get("/behind").await.status("fwd=uri-miss; detail=no-validator");
    }
}

/// §5.3: "A cache recipient MUST interpret invalid date formats, especially the value "0", as
/// representing a time in the past"; §4.2.2: "MUST NOT use heuristics … when an explicit expiration
/// time is present".
#[tokio::test]
async fn an_expires_that_is_no_date_is_past_whatever_else_there_is() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("ttl = \"60s\"").start().await;
    let old = ("last-modified", NOON);
    for (number, expires) in [
        vec!["0"],
        vec!["-1"],
        vec![""],
        vec!["tomorrow"],
        vec!["86400"],
        vec!["Sun, 02 Nov 2994 12:00:00"],
        vec!["Sun, 02 Nov 2994 12:00:00 UTC"],
        vec!["Sun, 02 Nov 2994 12:00:00 EST"],
        vec!["Sun, 02 Nov 2994 12:00:00 +0000"],
        vec!["Sun, 02 Nov 2994 12:00:00 GMT", "Sun, 02 Nov 2994 12:00:00 GMT"],
        vec!["Sun, 02 Nov 2994 12:00:00 GMT, Sun, 02 Nov 2994 12:00:00 GMT"],
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        let reply = expires.iter().fold(with(&[old]), |reply, line| reply.field("expires", line));
        origin.on(&target).reply(reply.clone());
        gateway.get(&target).await.status(MISS);
        let again = gateway.get(&target).await.cache_status();
        assert_eq!(again, "fwd=stale; stored", "{expires:?}");
        // "a recipient MUST ignore the Expires header field" beside a max-age, or an s-maxage.
        for directive in ["max-age=60", "s-maxage=60"] {
            origin.on(&target).reply(reply.clone().field("cache-control", directive));
            gateway.get(&target).await.status("fwd=stale; stored");
            gateway.get(&target).await.status("hit");
            gateway.clock().advance(secs(61));
        }
    }
}

/// §3.1: "Caches MUST include all received response header fields — including unrecognized ones";
/// but of those for one connection, none.
#[tokio::test]
async fn every_field_is_stored_but_those_of_one_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let kept = [
        ("x-unheard-of", "a, \"b\"; c=d"),
        ("X-Unheard-Of", "again"),
        ("warning", "110 - \"stale\""),
        ("pragma", "no-cache"),
        ("content-language", "de"),
        ("accept-ranges", "none"),
        ("server", "old/1.0"),
        ("strict-transport-security", "max-age=60"),
        ("www-authenticate", "Basic"),
    ];
    let gone = [
        ("connection", "x-hop, keep-alive"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x=y"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
    ];
    origin.on("/a").reply(with(&[&kept[..], &gone].concat()).max_age(60));
    for expected in [MISS, "hit"] {
        let got = gateway.get("/a").await.status(expected);
        for (name, _) in kept {
            let lines = kept.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
            let sent: Vec<_> = lines.map(|(_, value)| *value).collect();
            let found: Vec<_> = got.headers.get_all(name).iter().collect();
            assert_eq!(found, sent, "{name} of {got:?}");
        }
        gone.iter().fold(got, |got, (name, _)| got.lacks(name));
    }
    origin.saw("/a", 1);
}

/// §5.2: "A proxy, whether or not it implements a cache, MUST pass cache directives through in
/// forwarded messages, regardless of their significance to that application".
#[tokio::test]
async fn directives_pass_both_ways() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let request = "no-transform, max-stale=5, max-age=600, unheard-of=\"a, b\"";
    let response = "max-age=60, no-transform, Unheard-Of=\"a, b\", stale-if-error=0";
    origin.on("/a").reply(with(&[("cache-control", response), ("cache-control", "x=y")]).etag("1"));
    let ask = |method: &str| {
        let ask = gateway.ask(method, "/a").field("cache-control", request);
        ask.field("pragma", "unheard-of").send()
    };
    let both = format!("{response}, x=y");
    for (method, expected) in
        [("GET", MISS), ("GET", "hit"), ("POST", "fwd=method"), ("GET", MISS), ("HEAD", "hit")]
    {
        ask(method).await.status(expected).has("cache-control", &both);
        let asked = origin.last("/a");
        assert_eq!(asked.field("cache-control").as_deref(), Some(request), "{method}");
        assert_eq!(asked.field("pragma").as_deref(), Some("unheard-of"), "{method}");
    }
    // Also in a validation.
    gateway.clock().advance(secs(66));
    ask("GET").await;
    assert_eq!(origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
    assert_eq!(origin.last("/a").field("cache-control").as_deref(), Some(request));
}

/// §5.2.1.1: "Unless the max-stale request directive is also present, the client does not wish to
/// receive a stale response"; §5.2.1.2: "by no more than the specified number of seconds".
#[tokio::test]
async fn a_client_may_want_less_than_the_origin_allows() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let lasting = "max-age=60, stale-while-revalidate=600, stale-if-error=600";
    let meanwhile = "hit; detail=stale-while-revalidate";
    let instead = "fwd=stale; fwd-status=503; detail=stale-if-error";
    let refused = "fwd=stale; detail=no-freshness";
    for (number, (request, expected)) in [
        ("x", meanwhile),
        ("max-age=600", refused),
        ("max-age=600, max-stale=40", "hit"),
        ("max-age=600, max-stale", "hit"),
        ("max-stale=10", refused),
        ("max-age=600, stale-if-error=40", instead),
        ("max-age=600, stale-if-error=10", refused),
        ("max-stale=10, stale-if-error=40", instead),
        ("max-stale, min-fresh=1", refused),
        ("max-stale, no-cache", refused),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        origin.on(&target).reply(with(&[("cache-control", lasting)]));
        gateway.get(&target).await.status(MISS);
        gateway.clock().advance(secs(90));
        origin.on(&target).reply(status(503));
        let got = gateway.ask("GET", &target).field("cache-control", request).send().await;
        assert_eq!(got.cache_status(), expected, "{request}");
    }
}

/// §5.2.1.7: "SHOULD … respond with either a stored response consistent with the other constraints
/// of the request or a 504 (Gateway Timeout) status code", whatever the request is.
#[tokio::test]
async fn only_if_cached_never_goes_forward_with_what_only_reads() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    let ask = |method: &str| gateway.ask(method, "/a").field("cache-control", "only-if-cached");
    for (name, value) in [("if-match", "\"1\""), ("connection", "x-a")] {
        let got = ask("GET").field(name, value).field("x-a", "1").send().await;
        got.code(504).status("fwd=bypass; detail=only-if-cached");
    }
    ask("OPTIONS").send().await.code(504).status("fwd=method; detail=only-if-cached");
    ask("HEAD").send().await.code(504).status("fwd=uri-miss; detail=only-if-cached");
    origin.saw("/a", 0);
    // §4: "A cache MUST write through requests with methods that are unsafe".
    ask("POST").send().await.code(200).status("fwd=method");
    origin.saw("/a", 1);

    // A gateway without tiers is no cache.
    let off = "[cache.l1]\ncapacity = \"0\"";
    let gateway = Gateway::setup(&origin).cache(off).start().await;
    let ask = gateway.ask("GET", "/a").field("cache-control", "only-if-cached");
    ask.send().await.code(200).body("1").status("fwd=bypass");
}

/// §3: "the response status code is final"; §3.3: "a cache MUST NOT store incomplete or
/// partial-content responses if it does not support …"; and what may be stored keeps its shape.
#[tokio::test]
async fn a_stored_response_keeps_its_status_and_has_content_where_it_may() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for code in [200, 203, 204, 226, 299, 300, 301, 302, 307, 308, 404, 410, 418, 451, 499, 599] {
        let target = format!("/{code}");
        origin.on(&target).reply(status(code).max_age(60));
        gateway.get(&target).await.code(code).status(MISS);
        for method in ["GET", "HEAD"] {
            let mut client = Line::to(gateway.address()).await;
            let host = gateway.address();
            client
                .send(format!(
                    "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                ))
                .await;
            let got = client.rest().await.to_ascii_lowercase();
            assert!(got.starts_with(&format!("http/1.1 {code} ")), "{got}");
            assert!(got.contains("larder; hit; ttl="), "{got}");
            // RFC 9110 §8.6: no `Content-Length` in a 204.
            assert_eq!(got.contains("content-length"), code != 204, "{method}: {got}");
        }
        origin.saw(&target, 1);
    }
    for code in [600, 999] {
        let target = format!("/{code}");
        origin.on(&target).reply(status(code).max_age(60));
        for _ in 0..2 {
            gateway.get(&target).await.code(code).status("fwd=uri-miss; detail=status");
        }
    }
}

/// §3.2: "the cache MUST add each header field in the provided response to the stored response …
/// with the following exceptions".
#[tokio::test]
async fn odd_fields_of_a_304() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let stored = [("etag", "\"1\""), ("content-type", "a/b"), ("content-encoding", "gzip")];
    let more = [("x-a", "1"), ("x-a", "2"), ("expires", NOON), ("x-hop", "kept")];
    let digest = [("content-md5", "gnzLDuqKcGxMNKFokfhOew==")];
    origin.on("/a").reply(with(&[&stored[..], &more, &digest].concat()).max_age(60).body("12345"));
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(61));
    let not_modified = [
        ("content-length", "9"),
        ("content-encoding", "br"),
        ("content-range", "bytes 0-1/9"),
        ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("content-digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
        ("content-type", "c/d"),
        ("connection", "x-hop"),
        ("x-hop", "new"),
        ("x-a", "3"),
        ("x-empty", ""),
        ("age", "7"),
        ("cache-control", "max-age=600, no-cache=\"x-once\", private=\"x-own\""),
        ("x-once", "1"),
        ("x-own", "1"),
    ];
    let reply = not_modified
        .iter()
        .fold(status(304).etag("1"), |reply, (name, value)| reply.field(name, value));
    origin.on("/a").with("if-none-match", "\"1\"").reply(reply);
    for expected in [VALIDATED, "hit"] {
        let got = gateway.get("/a").await.code(200).body("12345").status(expected);
        assert!((7..12).contains(&got.age()), "{got:?}");
        let got = got.has("content-length", "5").has("content-encoding", "gzip");
        let got = got.has("content-type", "c/d").has("x-a", "3").has("x-empty", "");
        let got = got.has("x-hop", "kept").has("expires", NOON).lacks("content-range");
        let got = got.has("content-md5", digest[0].1).lacks("content-digest");
        got.lacks("x-once").lacks("x-own").lacks("connection");
    }
    origin.saw("/a", 2);
}

/// §4.3.4: "the new response does not include any form of validator …, and that stored response also
/// lacks a validator".
#[tokio::test]
async fn a_304_that_names_nothing_speaks_of_the_one_stored_response() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, stored) in [("/none", vec![]), ("/etag", vec![("etag", "\"1\"")])] {
        origin.on(target).reply(with(&stored).max_age(60));
        gateway.get(target).await.status(MISS);
        gateway.clock().advance(secs(61));
        origin.on(target).reply(status(304).max_age(60).field("x-new", "1"));
        for expected in [VALIDATED, "hit"] {
            gateway.get(target).await.code(200).body("1").status(expected).has("x-new", "1");
        }
        origin.saw(target, 2);
    }
}

/// §3.5 holds for what a 304 has freshened, too: "A shared cache MUST NOT use a cached response to a
/// request with an Authorization header field … to satisfy any subsequent request unless …".
#[tokio::test]
async fn a_validation_with_credentials_is_not_shared_without_permission() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, directives, expected) in [
        ("/1", "max-age=60", "fwd=stale; fwd-status=304; detail=authorization"),
        ("/2", "max-age=60, public", VALIDATED),
        ("/3", "s-maxage=60", VALIDATED),
    ] {
        let fields = [("cache-control", directives), ("etag", "\"1\"")];
        origin.on(target).reply(with(&fields));
        gateway.get(target).await.status(MISS);
        gateway.clock().advance(secs(61));
        let reply = status(304).etag("1").field("cache-control", directives);
        origin.on(target).with("if-none-match", "\"1\"").reply(reply);
        let ask = gateway.ask("GET", target).field("authorization", "Bearer a");
        ask.send().await.code(200).body("1").status(expected);
        let other = if expected == VALIDATED { "hit" } else { VALIDATED };
        gateway.get(target).await.code(200).body("1").status(other);
    }
}

/// RFC 5861 §3.1: "If validation is inconclusive, … after 30 seconds the stale-while-revalidate
/// function will cease to operate … (i.e., the next request will block and be handled normally)."
#[tokio::test]
async fn a_validation_in_the_background_that_fails_extends_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let meanwhile = "hit; detail=stale-while-revalidate";
    origin.on("/a").reply(with(&[("cache-control", "max-age=60, stale-while-revalidate=30")]));
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(61));
    origin.on("/a").reply(status(503));
    // Each one that has failed leaves the next to another request.
    let validated_twice = async {
        while origin.count("/a") < 3 {
            gateway.get("/a").await.body("1").status(meanwhile).lacks("warning");
        }
    };
    tokio::time::timeout(PATIENCE, validated_twice).await.expect("it was not validated again");
    gateway.clock().advance(secs(30));
    gateway.get("/a").await.code(503).lacks("age");
}

/// §4.4: "A cache MUST invalidate the target URI", which is the same in all equivalent forms
/// (RFC 9110 §4.2.3).
#[tokio::test]
async fn a_write_invalidates_its_target_in_whatever_form_it_names_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let stored = "/a/b-c?d=e%2Ff";
    for (write, goes) in [
        ("/a/%62-c?d=e%2Ff", true),
        ("/a/b%2Dc?d=e%2ff", true),
        ("/a/b-c?d=%65%2Ff", true),
        ("/a%2Fb-c?d=e%2Ff", false),
        ("/a/B-c?d=e%2Ff", false),
        ("/a/b-c?d=e/f", false),
        ("/a/b-c", false),
    ] {
        origin.on(stored).reply(ok("1").max_age(60));
        gateway.get(stored).await;
        gateway.get(stored).await.status("hit");
        origin.on(write).method("PUT").reply(status(204));
        gateway.ask("PUT", write).send().await.code(204).status("fwd=method");
        assert_eq!(origin.last(write).target, write);
        let got = gateway.get(stored).await.cache_status();
        assert_eq!(got, if goes { MISS } else { "hit" }, "{write}");
    }
    // HTTP/2, and a target in absolute form, name it too.
    let authority = gateway.address().to_string();
    origin.on(stored).method("PUT").reply(status(204));
    gateway.ask("PUT", stored).http2().send().await.code(204);
    gateway.get(stored).await.status(MISS);
    let mut client = Line::to(gateway.address()).await;
    let head = format!("PUT http://{authority}{stored} HTTP/1.1\r\nHost: {authority}\r\n");
    client.send(format!("{head}Content-Length: 0\r\n\r\n")).await;
    client.until("\r\n\r\n").await;
    gateway.get(stored).await.status(MISS);
}

/// §4: "a cache is not allowed to generate a reply to such a request before having forwarded the
/// request and having received a corresponding response".
#[tokio::test]
async fn a_write_is_answered_by_nobody_but_the_origin() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    for method in ["POST", "PUT", "DELETE", "FROBNICATE"] {
        let fresh = "HTTP/1.1 200 OK\r\ncache-control: max-age=60, stale-if-error=600, \
                     stale-while-revalidate=600\r\ncontent-length: 1\r\n\r\n1";
        let serving = async {
            let mut line = wire.accept().await;
            line.until("\r\n\r\n").await;
            line.send(fresh).await;
            line
        };
        let (_, mut line) = tokio::join!(gateway.get("/a"), serving);
        gateway.get("/a").await.status("hit");
        let writing = async {
            line.until(&format!("{method} /a HTTP/1.1\r\n")).await;
            line.until("\r\n\r\n").await;
            // No answer comes.
            drop(line);
        };
        let ask = gateway.ask(method, "/a").field("cache-control", "max-stale");
        let (got, ()) = tokio::join!(ask.send(), writing);
        got.code(502).status("fwd=method; detail=upstream-broken").lacks("age");
    }
}
