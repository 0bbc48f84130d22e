//! Proxies before the gateway: on whose behalf a request comes, and whose word is taken for it.

use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, ok, status};

const MISS: &str = "fwd=uri-miss; stored";

/// The fields that tell the origin on whose behalf a request comes.
fn told(asked: &Asked) -> [String; 4] {
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]
        .map(|name| asked.field(name).unwrap_or_default())
}

#[tokio::test]
async fn proxies_that_are_listed_are_believed() {
    let origin = Origin::start().await;
    let server = "workers = 1\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    let gateway = Gateway::setup(&origin).server(server).start().await;
    origin.on("/a").reply(ok("1"));
    for method in ["GET", "POST"] {
        let ask = gateway.ask(method, "/a").field("host", "shop.test");
        let ask = ask.field("x-forwarded-for", "203.0.113.9, 192.0.2.1, 10.1.2.3");
        let ask = ask.field("x-forwarded-proto", "https").field("x-forwarded-host", "evil");
        ask.field("forwarded", "for=203.0.113.9").send().await.code(200);
        assert_eq!(
            told(&origin.last("/a")),
            [
                "for=192.0.2.1;proto=https, for=10.1.2.3, for=127.0.0.1;host=\"shop.test\"",
                "192.0.2.1, 10.1.2.3, 127.0.0.1",
                "shop.test",
                "https",
            ]
        );
    }
    // One that tells nothing.
    gateway.ask("GET", "/a").field("host", "shop.test").send().await.code(200);
    let alone = "for=127.0.0.1;host=\"shop.test\";proto=http";
    assert_eq!(told(&origin.last("/a")), [alone, "127.0.0.1", "shop.test", "http"]);
}

#[tokio::test]
async fn proxies_that_are_not_listed_are_clients() {
    let origin = Origin::start().await;
    let server = "workers = 1\ntrusted_proxies = [\"10.0.0.0/8\"]";
    let gateway = Gateway::setup(&origin).server(server).start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let ask = gateway.ask("GET", "/a").field("host", "shop.test");
    let ask = ask.field("x-forwarded-for", "10.0.0.1").field("x-forwarded-proto", "https");
    ask.send().await.code(200).status(MISS);
    let alone = "for=127.0.0.1;host=\"shop.test\";proto=http";
    assert_eq!(told(&origin.last("/a")), [alone, "127.0.0.1", "shop.test", "http"]);
    gateway.ask("GET", "/a").field("host", "shop.test").send().await.status("hit");
}

#[tokio::test]
async fn the_other_field_is_believed_where_that_is_said() {
    let origin = Origin::start().await;
    let server = "workers = 1\ntrusted_proxies = [\"127.0.0.1\"]\ntrusted_field = \"Forwarded\"";
    let gateway = Gateway::setup(&origin).server(server).start().await;
    origin.on("/a").reply(ok("1"));
    let ask = gateway.ask("GET", "/a").field("host", "shop.test");
    let ask = ask.field("forwarded", "for=\"[2001:db8::1]\";host=evil;proto=https");
    let ask = ask.field("x-forwarded-for", "203.0.113.9").field("x-forwarded-proto", "http");
    ask.send().await.code(200);
    assert_eq!(
        told(&origin.last("/a")),
        [
            "for=\"[2001:db8::1]\";proto=https, for=127.0.0.1;host=\"shop.test\"",
            "2001:db8::1, 127.0.0.1",
            "shop.test",
            "https",
        ]
    );
}

/// An origin that sends clients of `http` to `https` must not send those of `https` in a circle.
#[tokio::test]
async fn a_redirect_to_https_is_not_stored_for_https() {
    let origin = Origin::start().await;
    let server = "workers = 1\ntrusted_proxies = [\"127.0.0.1\"]";
    let gateway = Gateway::setup(&origin).server(server).start().await;
    origin.on("/a").reply(status(301).field("location", "https://shop.test/a").max_age(60));
    origin.on("/a").with("x-forwarded-proto", "https").reply(ok("1").max_age(60));
    let ask = |scheme: &str| {
        let ask = gateway.ask("GET", "/a").field("host", "shop.test");
        ask.field("x-forwarded-proto", scheme).send()
    };
    ask("http").await.code(301).status(MISS);
    ask("https").await.code(200).body("1").status(MISS);
    ask("http").await.code(301).status("hit");
    ask("https").await.code(200).body("1").status("hit");
    // A write makes both wrong.
    let write = gateway.ask("POST", "/a").field("host", "shop.test");
    write.field("x-forwarded-proto", "https").send().await.code(200);
    ask("http").await.code(301).status(MISS);
    ask("https").await.code(200).status(MISS);
}
