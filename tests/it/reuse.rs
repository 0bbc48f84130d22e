//! Which stored responses are served (RFC 9111 §4).

use crate::support::client::raw;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::secs;

#[tokio::test]
async fn fresh_response_is_a_hit_and_has_its_age() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.code(200).body("1").status("fwd=uri-miss; stored").lacks("age");

    gateway.clock().advance(secs(30));
    let hit = gateway.get("/a").await.code(200).body("1").status("hit").has("age", "30");
    assert!(hit.field("cache-status").unwrap().contains("ttl=30"), "{hit:?}");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn request_that_would_change_to_another_protocol_is_one_like_others() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    for status in ["fwd=uri-miss; stored", "hit"] {
        let ask = gateway.ask("GET", "/a").field("connection", "Upgrade, HTTP2-Settings");
        let ask = ask.field("upgrade", "h2c").field("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA");
        ask.send().await.code(200).body("1").status(status);
    }
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 1);
    for name in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(origin.last("/a").field(name), None, "{name}");
    }
}

#[tokio::test]
async fn stale_response_is_validated_and_freshened() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").etag("v1").max_age(60));
    gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");

    gateway.clock().advance(secs(61));
    origin.on("/a").with("if-none-match", "\"v1\"").reply(status(304).etag("v1").max_age(60));
    gateway.get("/a").await.code(200).body("1").status("fwd=stale; fwd-status=304; stored");
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn age_at_the_upstream_counts() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).field("age", "40"));
    gateway.get("/a").await.status("fwd=uri-miss; stored").has("age", "40");
    gateway.clock().advance(secs(10));
    let hit = gateway.get("/a").await.body("1").status("hit");
    assert!((50..55).contains(&hit.age()), "{hit:?}");
    gateway.clock().advance(secs(10));
    gateway.get("/a").await.status("fwd=stale; stored");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn request_says_how_fresh_it_must_be() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let validated = "fwd=request; fwd-status=304; stored";
    let cases = [
        (vec![("cache-control", "no-cache")], validated),
        (vec![("cache-control", "max-age=0")], validated),
        (vec![("cache-control", "max-age=20")], validated),
        (vec![("cache-control", "max-age=40")], "hit"),
        (vec![("cache-control", "min-fresh=20")], "hit"),
        (vec![("cache-control", "min-fresh=40")], validated),
        (vec![("cache-control", "min-fresh=20, max-age=20")], validated),
        (vec![("cache-control", "no-store")], "hit"),
        (vec![("cache-control", "max-stale")], "hit"),
        (vec![("cache-control", "only-if-cached")], "hit"),
        (vec![("pragma", "no-cache")], validated),
        (vec![("pragma", "no-cache"), ("cache-control", "max-age=40")], "hit"),
        (vec![("cache-control", "no-cache, only-if-cached")], "fwd=request; detail=only-if-cached"),
    ];
    for number in 0..cases.len() {
        let target = format!("/{number}");
        origin.on(&target).reply(ok("1").etag("1").max_age(60));
        gateway.get(&target).await.status("fwd=uri-miss; stored");
        origin.on(&target).with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(60));
    }
    gateway.clock().advance(secs(30));
    for (number, (fields, expected)) in cases.into_iter().enumerate() {
        let target = format!("/{number}");
        let ask = fields
            .iter()
            .fold(gateway.ask("GET", &target), |ask, (name, value)| ask.field(name, value));
        let got = ask.send().await;
        assert_eq!(got.cache_status(), expected, "{fields:?}");
        let code = if expected.ends_with("only-if-cached") { 504 } else { 200 };
        got.code(code);
        origin.saw(&target, if expected == validated { 2 } else { 1 });
    }
}

#[tokio::test]
async fn client_may_take_a_stale_response_where_the_origin_allows_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let stale = "fwd=stale; stored";
    let cases = [
        ("max-age=60", "max-stale", "hit"),
        ("max-age=60", "max-stale=40", "hit"),
        ("max-age=60", "max-stale=20", stale),
        ("max-age=60", "max-stale=x", stale),
        ("max-age=60", "max-stale, only-if-cached", "hit"),
        ("max-age=60", "", stale),
        ("max-age=60, must-revalidate", "max-stale", stale),
        ("max-age=60, proxy-revalidate", "max-stale", stale),
        ("s-maxage=60", "max-stale", stale),
    ];
    for (number, (response, _, _)) in cases.into_iter().enumerate() {
        let target = format!("/{number}");
        origin.on(&target).reply(ok("1").field("cache-control", response));
        gateway.get(&target).await.status("fwd=uri-miss; stored");
    }
    gateway.clock().advance(secs(90));
    for (number, (response, request, expected)) in cases.into_iter().enumerate() {
        let target = format!("/{number}");
        let got = gateway.ask("GET", &target).field("cache-control", request).send().await;
        assert_eq!(got.cache_status(), expected, "{response} | {request}");
        origin.saw(&target, if expected == "hit" { 1 } else { 2 });
        if expected == "hit" {
            let ttl = got.field("cache-status").unwrap();
            assert!(ttl.contains("ttl=-3"), "{ttl}");
            assert!((90..95).contains(&got.age()), "{got:?}");
        }
    }
}

#[tokio::test]
async fn only_if_cached_without_a_stored_response_is_504() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    let only_if_cached = || gateway.ask("GET", "/a").field("cache-control", "only-if-cached");
    let got = only_if_cached().send().await.code(504);
    got.status("fwd=uri-miss; detail=only-if-cached")
        .has("content-type", "application/problem+json");
    origin.saw("/a", 0);

    gateway.get("/a").await.status("fwd=uri-miss; stored");
    only_if_cached().send().await.code(200).body("1").status("hit");
    gateway.clock().advance(secs(61));
    only_if_cached().send().await.code(504).status("fwd=stale; detail=only-if-cached");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn head_is_answered_from_a_stored_get() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("12345").max_age(60).etag("1"));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    let head = gateway.ask("HEAD", "/a").send().await.code(200).body("").status("hit");
    head.has("content-length", "5").has("etag", "\"1\"");
    let request = "HEAD /a HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n";
    let request = request.replace("HOST", &gateway.address().to_string());
    let octets = raw(gateway.address(), request.as_bytes()).await;
    assert!(octets.ends_with("\r\n\r\n"), "{octets}");
    let head = gateway.ask("HEAD", "/a").http2().send().await.code(200).body("").status("hit");
    head.has("content-length", "5");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn head_that_misses_passes_and_is_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("12345").max_age(60));
    for times in 1..3 {
        let head = gateway.ask("HEAD", "/a").send().await.code(200).body("");
        head.status("fwd=uri-miss").has("content-length", "5");
        origin.saw("/a", times);
        assert_eq!(origin.last("/a").method, "HEAD");
    }
    gateway.get("/a").await.body("12345").status("fwd=uri-miss; stored");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn each_query_is_a_response_of_its_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let targets = ["/a", "/a?", "/a?x=1", "/a?x=2", "/a?x=1&y=2", "/a?y=2&x=1", "/A", "/a/"];
    for target in targets {
        origin.on(target).reply(ok(target).max_age(60));
        gateway.get(target).await.body(target).status("fwd=uri-miss; stored");
    }
    for target in targets {
        gateway.get(target).await.body(target).status("hit");
        origin.saw(target, 1);
    }
}

#[tokio::test]
async fn each_authority_has_responses_of_its_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let get = |host: &'static str| gateway.ask("GET", "/a").field("host", host).send();
    for host in ["a.test", "b.test", "a.test:8080", "a.test.", "[::1]"] {
        origin.on("/a").with("host", host).reply(ok(host).max_age(60));
        get(host).await.body(host).status("fwd=uri-miss; stored");
        get(host).await.body(host).status("hit");
    }
    // The same authority in other words.
    for host in ["A.Test", "a.test:80", "a.test:"] {
        get(host).await.body("a.test").status("hit");
    }
    origin.saw("/a", 5);
}

#[tokio::test]
async fn no_route_is_answered_with_what_another_stored() {
    let origin = Origin::start().await;
    let tables = "[[routes]]\nname = \"heads\"\npath = \"/{*rest}\"\nmethods = [\"HEAD\"]\n\
                  upstream = \"origin\"\n\n[[routes]]\nname = \"rest\"\npath = \"/{*rest}\"\n\
                  upstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.get("/a").await.status("hit");
    // HEAD is the other route's, and nothing is stored there.
    gateway.ask("HEAD", "/a").send().await.code(200).status("fwd=uri-miss");
    origin.saw("/a", 2);
}
