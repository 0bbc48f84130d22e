//! How much content of a request a route takes.

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::until;
use crate::support::wire::Line;

#[tokio::test]
async fn content_that_is_said_to_be_too_long_is_refused_unread() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_request_body = \"10B\"").start().await;
    origin.on("/a").reply(ok("1"));
    for method in ["POST", "GET", "QUERY"] {
        for http2 in [false, true] {
            let ask = |length: usize| {
                let ask = gateway.ask(method, "/a").body("x".repeat(length));
                if http2 { ask.http2().send() } else { ask.send() }
            };
            ask(10).await.code(200).body("1");
            assert_eq!(origin.last("/a").body, "xxxxxxxxxx");
            let count = origin.count("/a");
            let got = ask(11).await.code(413).status("fwd=bypass; detail=request-too-large");
            let problem: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
            assert_eq!(problem["detail"], "the request's content is longer than this route takes");
            assert_eq!(origin.count("/a"), count, "{method} {http2}");
        }
    }
    // Nor is the client told to send it, and what it sends is no request.
    let mut client = Line::to(gateway.address()).await;
    let head = "POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 40\r\n\r\n";
    client.send(format!("{head}GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    let got = client.rest().await;
    assert!(got.starts_with("HTTP/1.1 413 ") && got.matches("HTTP/1.1 ").count() == 1, "{got}");
    origin.saw("/hidden", 0);
}

#[tokio::test]
async fn content_of_unsaid_length_is_cut_off() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_request_body = \"10B\"").start().await;
    origin.on("/a").reply(ok("1"));
    for (method, status) in [("POST", "fwd=method"), ("QUERY", "fwd=uri-miss")] {
        for http2 in [false, true] {
            let ask = |length: usize| {
                let ask = gateway.ask(method, "/a").field("content-type", "text/plain");
                let ask = ask.body("x".repeat(length)).unannounced();
                if http2 { ask.http2().send() } else { ask.send() }
            };
            let got = ask(10).await.code(200).body("1");
            assert!(got.cache_status().starts_with(status), "{got:?}");
            assert_eq!(origin.last("/a").body, "xxxxxxxxxx");
            ask(11).await.code(413);
        }
    }
    let asked = origin.asked();
    assert!(asked.iter().all(|asked| asked.is_whole == (asked.body.len() == 10)), "{asked:?}");
    assert_eq!(gateway.figure("upstream_failures"), 0);
}

#[tokio::test]
async fn uploads_below_the_bound_stream() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_request_body = \"10B\"").start().await;
    origin.on("/a").reply(ok("1"));
    let mut client = Line::to(gateway.address()).await;
    let head = "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(format!("{head}5\r\n12345\r\n")).await;
    // It has gone forward before it is whole.
    until("a connection", || gateway.figure("upstream_requests") == 1).await;
    client.send("6\r\n678901\r\n").await;
    let got = client.rest().await;
    assert!(got.starts_with("HTTP/1.1 413 "), "{got}");
    assert!(got.contains("larder; fwd=method; detail=request-too-large"), "{got}");
}
