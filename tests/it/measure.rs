//! `GET /test/performance` and `GET /test/hit-rate`: what they ask, what they tell, and what they refuse.

use serde_json::{Value, json};

use crate::support::client::sent;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::pki::Pki;
use crate::support::until;

async fn told(gateway: &Gateway, call: &str) -> Value {
    let got = gateway.admin("GET", call).send().await.code(200);
    serde_json::from_slice(&got.body).unwrap()
}

#[tokio::test]
async fn a_url_is_measured_with_the_cache_and_past_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a?b=1").reply(ok("a").max_age(60));
    origin.on("/mine").reply(ok("mine").field("cache-control", "private"));
    let call = "/test/performance?url=http://shop.example/a%3Fb=1&iterations=5";
    let first = told(&gateway, call).await;
    for (name, expected) in [
        ("url", json!("http://shop.example/a?b=1")),
        ("route", json!("all")),
        ("iterations", json!(5)),
        ("validated", json!(false)),
        ("not_hits", json!({})),
    ] {
        assert_eq!(first[name], expected, "{first:#}");
    }
    assert_eq!(
        (&first["with_cache"]["hits"], &first["without_cache"]["hits"]),
        (&json!(5), &json!(0))
    );
    for of in ["with_cache", "without_cache"] {
        let time = |name: &str| first[of][name].as_f64().unwrap();
        assert!(0.0 < time("min") && time("min") <= time("p50") && time("p99") <= time("max"));
    }
    assert!(first["times_faster"].as_f64().unwrap() > 0.0);
    // Once for the cache, and past it each time.
    origin.saw("/a?b=1", 6);
    assert_eq!(origin.last("/a?b=1").field("host").as_deref(), Some("shop.example"));

    let other =
        told(&gateway, "/test/performance?url=https://shop.example/mine&iterations=2").await;
    assert_eq!(other["with_cache"]["hits"], json!(0));
    assert_eq!(other["not_hits"], json!({ "fwd=uri-miss; detail=private": 2 }));
}

#[tokio::test]
async fn what_is_popular_is_asked_for_more_often() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let setup = Gateway::setup(&origin).disk(folder.path(), "").warm("busiest = 10\nwhen = []");
    let gateway = setup.start().await;
    for number in 1..=10 {
        origin.on(&format!("/{number}")).reply(ok("page").max_age(60));
    }
    gateway.admin("GET", "/test/hit-rate").send().await.code(400);
    let call = "/test/hit-rate?requests=50&distinct=10&url=http://shop.example/{n}";
    let first = told(&gateway, call).await;
    let urls = first["urls"].as_u64().unwrap();
    assert_eq!((&first["requests"], &first["stored"]), (&json!(50), &first["urls"]));
    assert_eq!(first["hits"], json!(50 - urls));
    assert_eq!(first["not_hits"], json!({}));
    let second = told(&gateway, call).await;
    assert_eq!((&second["hits"], &second["hit_rate"]), (&json!(50), &json!(1.0)));

    // What clients ask for; the checks themselves are none.
    for _ in 0..3 {
        gateway.get("/7").await.code(200);
    }
    let busiest = told(&gateway, "/test/hit-rate?requests=20").await;
    assert_eq!((&busiest["urls"], &busiest["hits"]), (&json!(1), &json!(20)));
}

#[tokio::test]
async fn checks_are_made_one_at_a_time() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/slow").hold(ok("slow").max_age(60));
    let call = "/test/performance?url=http://shop.example/slow&iterations=1";
    let running = sent([gateway.admin("GET", call)]);
    until("the first is under way", || origin.count("/slow") == 1).await;
    for call in [call, "/test/hit-rate?url=http://shop.example/{n}"] {
        let got = gateway.admin("GET", call).send().await.code(429).has("retry-after", "5");
        assert!(String::from_utf8_lossy(&got.body).contains("one at a time"));
    }
    held.release();
    for done in running {
        done.await.unwrap().code(200);
    }
    told(&gateway, call).await;
}

/// A listener with TLS is asked with it: for what is told by `https`, and for all where there is no other.
#[tokio::test]
async fn a_listener_with_tls_is_asked_with_tls() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("shop", &["shop.example"], "shop");
    let tls = pki.tls("shop");
    let gateway = Gateway::setup(&origin).server(&format!("workers = 1\n{tls}")).start().await;
    for target in ["/a", "/1"] {
        origin.on(target).reply(ok("1").max_age(60));
    }
    let call = "/test/performance?url=https://shop.example/a&iterations=2";
    let measured = told(&gateway, call).await;
    assert_eq!(measured["with_cache"]["hits"], json!(2), "{measured:#}");
    // It is what clients are answered with.
    let asked = ["--write-out", " %header{cache-status}", "--header", "host: shop.example"];
    let got = pki.curl(gateway.address(), "shop.example", "/a", &asked).await;
    assert!(got.starts_with("1 larder; hit"), "{got}");
    let call = "/test/hit-rate?requests=5&distinct=1&url=https://shop.example/{n}";
    let played = told(&gateway, call).await;
    assert_eq!((&played["stored"], &played["hits"]), (&json!(1), &json!(4)), "{played:#}");
}

#[tokio::test]
async fn a_gateway_that_cannot_ask_itself_says_so() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).server("workers = 1\nproxy_protocol = true");
    let gateway = setup.start().await;
    for call in ["performance?url=http://h/a", "hit-rate?url=http://h/{n}"] {
        let got = gateway.admin("GET", &format!("/test/{call}")).send().await.code(503);
        assert_eq!(got.field("content-type").as_deref(), Some("application/problem+json"));
        let problem: Value = serde_json::from_slice(&got.body).unwrap();
        let detail = "no listener for clients answers without the PROXY protocol or a certificate of the client";
        assert_eq!(problem["detail"], json!(detail), "{call}");
    }
    assert_eq!(origin.asked().len(), 0);
}

#[tokio::test]
async fn fields_choose_a_route_and_a_response() {
    let origin = Origin::start().await;
    let route = "[[routes]]\nname = \"beta\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                 headers = { X-Beta = \"1\" }\n";
    let gateway = Gateway::setup(&origin).routes(route).start().await;
    for target in ["/a", "/1"] {
        origin.on(target).reply(ok("1").max_age(60).field("vary", "accept-language"));
    }
    let fields = "header=X-Beta:%201&header=Accept-Language:de";
    let call = format!("/test/performance?url=http://shop.example/a&iterations=1&{fields}");
    let measured = told(&gateway, &call).await;
    assert_eq!((&measured["route"], &measured["with_cache"]["hits"]), (&json!("beta"), &json!(1)));
    let asked = origin.last("/a");
    assert_eq!(asked.field("accept-language").as_deref(), Some("de"));
    for (value, status) in [("de", "hit"), ("fr", "fwd=vary-miss; stored")] {
        let ask = gateway.ask("GET", "/a").field("host", "shop.example").field("x-beta", "1");
        ask.field("accept-language", value).send().await.status(status);
    }
    let call =
        format!("/test/hit-rate?requests=3&distinct=1&url=http://shop.example/{{n}}&{fields}");
    let played = told(&gateway, &call).await;
    assert_eq!((&played["stored"], &played["hits"]), (&json!(1), &json!(2)), "{played:#}");

    let many = "&header=A:b".repeat(21);
    for (parameter, detail) in [
        ("", "no route of this gateway takes a GET of `url`"),
        ("&header=X-Beta:2", "no route of this gateway takes a GET of `url`"),
        ("&header=", "a `header` is not a field such as `Accept-Language: de`"),
        ("&header=X-Beta", "a `header` is not a field such as `Accept-Language: de`"),
        ("&header=X-Beta:1%0a1", "a `header` is not a field such as `Accept-Language: de`"),
        (
            "&header=Host:a",
            "a `header` names a field that the request does not have or sets itself",
        ),
        (&many, "the parameter `header` stands more than 20 times"),
    ] {
        for call in ["performance?url=http://h/a", "hit-rate?url=http://h/{n}"] {
            let call = format!("/test/{call}{parameter}");
            let got = gateway.admin("GET", &call).send().await.code(400);
            let problem: Value = serde_json::from_slice(&got.body).unwrap();
            assert_eq!(problem["detail"], json!(detail), "{call}");
        }
    }
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let origin = Origin::start().await;
    let route = "[[routes]]\nname = \"a\"\npath = \"/a/{*rest}\"\nmethods = [\"GET\"]\nupstream = \"origin\"\n\
                 [[routes]]\nname = \"b\"\npath = \"/b\"\nmethods = [\"POST\"]\nupstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(route).start().await;
    for (call, detail) in [
        ("performance", "say by `url` what to ask for: ?url=http://shop.example/books/1"),
        ("performance?url=/a/1", "`url` is not an absolute URL with http or https"),
        ("performance?url=ftp://h/a/1", "`url` is not an absolute URL with http or https"),
        ("performance?url=http://h/c", "no route of this gateway takes a GET of `url`"),
        ("performance?url=http://h/b", "no route of this gateway takes a GET of `url`"),
        ("performance?url=http://h/a/1&iterations=0", "`iterations` is a number from 1 to 1000"),
        ("performance?url=http://h/a/1&iterations=1001", "`iterations` is a number from 1 to 1000"),
        ("performance?url=http://h/a/1&iterations=+1", "`iterations` is a number from 1 to 1000"),
        ("performance?url=http://h/a/1&url=http://h/a/1", "the parameter `url` stands twice"),
        ("performance?url=http://h/a/%ff", "`url` is not UTF-8"),
        (
            "performance?uri=http://h/a/1",
            "there is no parameter `uri` here; there is `url`, `iterations`, `header`",
        ),
        (
            "hit-rate?url=http://h/a/1",
            "`url` has `{n}` where each URL has a number: http://shop.example/books/{n} (curl: `-g`)",
        ),
        ("hit-rate?url=http://h/c/{n}", "no route of this gateway takes a GET of `url`"),
        ("hit-rate?requests=1001", "`requests` is a number from 1 to 1000"),
        ("hit-rate?distinct=1001", "`distinct` is a number from 1 to 1000"),
        (
            "hit-rate",
            "the busiest URLs are not counted: write `busiest = 1000` in `[warm]`; or say by `url` what to \
             ask for: http://shop.example/books/{n}",
        ),
    ] {
        let got = gateway.admin("GET", &format!("/test/{call}")).send().await.code(400);
        assert_eq!(got.field("content-type").as_deref(), Some("application/problem+json"));
        let problem: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(problem["detail"], json!(detail), "{call}");
    }
    gateway.admin("POST", "/test/hit-rate").send().await.code(405);
    assert_eq!(origin.asked().len(), 0);
}
