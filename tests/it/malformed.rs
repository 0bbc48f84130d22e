//! Requests that are none, or that no route takes: answered here, unseen by the origin
//! (RFC 9112 §2.2, §3, §6).

use serde_json::Value;

use crate::support::client::{Got, raw};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::wire::Line;

/// A request that comes behind another one.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: HOST\r\n\r\n";

/// What the gateway answers to these octets until it closes. `HOST` is its own authority.
async fn answer(gateway: &Gateway, octets: &str) -> String {
    raw(gateway.address(), octets.replace("HOST", &gateway.address().to_string()).as_bytes()).await
}

fn is_refused(answer: &str, codes: &[u16]) -> bool {
    let code = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let is_one = answer.matches("HTTP/1.").count() == 1;
    code.is_some_and(|code: u16| codes.contains(&code)) && is_one
}

/// The members of problem details (RFC 9457).
fn problem(got: &Got) -> Value {
    assert_eq!(got.field("content-type").as_deref(), Some("application/problem+json"), "{got:?}");
    let problem: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(problem["status"], got.status.as_u16());
    assert_eq!(problem["title"], got.status.canonical_reason().unwrap());
    assert_eq!(problem["type"], "about:blank");
    problem
}

#[tokio::test]
async fn request_without_one_clear_host_is_400() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET http://HOST/ HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nHost: other.test\r\n",
        "GET / HTTP/1.1\r\nHost: HOST, other.test\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n",
        "GET / HTTP/1.1\r\nHost: user@a.test\r\n",
        "GET / HTTP/1.1\r\nHost: a.test/x\r\n",
        "GET / HTTP/1.1\r\nHost: a.test:x\r\n",
        "GET / HTTP/1.1\r\nHost: a.test:99999\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n",
        "GET / HTTP/1.1\r\nHost: %61.test\r\n",
        "GET http://other.test/ HTTP/1.1\r\nHost: HOST\r\n",
        "POST http://other.test/ HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n",
    ] {
        // What a client sends behind it is not looked at.
        let got = answer(&gateway, &format!("{head}\r\n{NEXT}")).await;
        assert!(is_refused(&got, &[400]), "{head}: {got}");
        assert!(got.contains("application/problem+json"), "{head}: {got}");
    }
    // HTTP/2 may say it twice, but alike.
    let got = gateway.ask("GET", "/").field("host", "other.test").http2().send().await;
    assert_eq!(problem(&got.code(400))["detail"], "Host and target name different hosts");
    assert_eq!(gateway.figure("unrouted_requests"), 17);
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn absolute_form_is_forwarded_in_origin_form() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a?b").reply(ok("1").max_age(60));
    let head = "GET http://HOST/a?b HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n";
    assert!(answer(&gateway, head).await.starts_with("HTTP/1.1 200 OK\r\n"));
    origin.saw("/a?b", 1);
    gateway.get("/a?b").await.status("hit");
}

#[tokio::test]
async fn unclear_framing_is_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for fields in [
        "Content-Length: x",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 1 1",
        "Content-Length: 0x1",
        "Content-Length:",
        "Content-Length: 1, 1",
        "Content-Length: 1, 2",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked;a=b",
    ] {
        for method in ["POST", "GET"] {
            let head = format!("{method} /a HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n\r\n");
            let got = answer(&gateway, &format!("{head}0\r\n\r\n{NEXT}")).await;
            assert!(is_refused(&got, &[400]), "{method} {fields}: {got}");
        }
    }
    let head = "POST /a HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n";
    let got = answer(&gateway, &format!("{head}0\r\n\r\n")).await;
    assert!(is_refused(&got, &[400]), "{got}");
    assert!(origin.asked().is_empty());
}

/// RFC 9112 §6.1 leaves the choice between 400 and this. The parser makes it: it lets
/// `Content-Length` go before the gateway sees the request, and closes behind it.
#[tokio::test]
async fn of_both_framings_chunks_count_and_the_connection_ends() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1"));
    for (times, fields) in [
        (1, "Content-Length: 6\r\nTransfer-Encoding: chunked"),
        (2, "Transfer-Encoding: chunked\r\nContent-Length: 6"),
        (3, "Transfer-Encoding: chunked\r\nContent-Length: x"),
    ] {
        let head = format!("POST /a HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n\r\n");
        let got = answer(&gateway, &format!("{head}1\r\nx\r\n0\r\n\r\n{NEXT}")).await;
        assert!(is_refused(&got, &[200]), "{fields}: {got}");
        let asked = origin.last("/a");
        assert_eq!(asked.body, "x");
        assert_eq!(asked.field("content-length"), None);
        assert_eq!(asked.field("transfer-encoding").as_deref(), Some("chunked"));
        origin.saw("/a", times);
    }
    assert_eq!(origin.asked().len(), 3);
}

#[tokio::test]
async fn equal_lengths_are_one() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(status(204));
    let head = "POST /a HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 1\r\n";
    let got = answer(&gateway, &format!("{head}Connection: close\r\n\r\nx")).await;
    assert!(got.starts_with("HTTP/1.1 204"), "{got}");
    assert_eq!(origin.last("/a").field("content-length").as_deref(), Some("1"));
}

#[tokio::test]
async fn broken_chunks_are_no_request() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1"));
    for chunks in ["x\r\n", "-1\r\n", "1\r\nxx\r\n", "1\nx\n0\n\n", "fffffffffffffffff\r\n", "\r\n"]
    {
        let head = "POST /a HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n";
        let got = answer(&gateway, &format!("{head}{chunks}")).await;
        assert!(is_refused(&got, &[400]), "{chunks:?}: {got}");
        assert!(got.contains("larder; fwd=method; detail=request-broken"), "{chunks:?}: {got}");
    }
    // The head may have gone on before the content was seen to be none.
    assert!(origin.asked().iter().all(|asked| !asked.is_whole), "{:?}", origin.asked());
    assert_eq!(gateway.figure("upstream_failures"), 0);
}

#[tokio::test]
async fn garbage_is_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for octets in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "garbage\r\n\r\n",
        "GET\r\n\r\n",
        "GET /\r\nHost: HOST\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: HOST\r\n\r\n",
        "GET / http/1.1\r\nHost: HOST\r\n\r\n",
        "GET / / HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : HOST\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: HOST\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nx a: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nx-a: 1\0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nx-a: 1\r2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nno field\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\n: 1\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let got = answer(&gateway, &format!("{octets}{NEXT}")).await;
        assert!(got.is_empty() || is_refused(&got, &[400]), "{octets:?}: {got}");
    }
    assert!(origin.asked().is_empty());
    origin.on("/").reply(ok("1"));
    gateway.get("/").await.body("1");
}

#[tokio::test]
async fn overlong_head_is_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let long = "x".repeat(70_000);
    for head in [
        format!("GET /{long} HTTP/1.1\r\nHost: HOST\r\n"),
        format!("GET / HTTP/1.1\r\nHost: HOST\r\nx-a: {long}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: HOST\r\n{long}: 1\r\n"),
        format!("GET / HTTP/1.1\r\nHost: HOST\r\n{}", "x-a: 1\r\n".repeat(200)),
    ] {
        let mut line = Line::to(gateway.address()).await;
        let head = head.replace("HOST", &gateway.address().to_string());
        line.send(format!("{head}\r\n")).await;
        let got = line.until("\r\n\r\n").await;
        assert!(is_refused(&got, &[414, 431]), "{got}");
    }
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn a_head_has_a_hundred_fields_at_most() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    // The origin has the same limit, and is sent some fields more.
    for (more, is_passed_on) in [(99, true), (100, false)] {
        let mut line = Line::to(gateway.address()).await;
        let fields = "x-a: 1\r\n".repeat(more);
        line.send(format!("GET /a HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).await;
        let got = line.until("\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 431 "), "{more}: {got}");
        assert_eq!(got.contains("\r\nvia: "), is_passed_on, "{more}: {got}");
    }
}

#[tokio::test]
async fn nobodys_request_is_404() {
    let origin = Origin::start().await;
    let tables = "[[routes]]\nname = \"a\"\nhost = \"shop.test\"\npath = \"/a/{id}\"\n\
                  upstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    origin.on("/a/1").reply(ok("1"));
    for (host, target) in
        [("shop.test", "/b"), ("shop.test", "/a"), ("shop.test", "/a/1/2"), ("other.test", "/a/1")]
    {
        let got = gateway.ask("GET", target).field("host", host).send().await.code(404);
        assert_eq!(problem(&got)["detail"], "no route for this host and path");
    }
    assert!(origin.asked().is_empty());
    gateway.ask("GET", "/a/1").field("host", "shop.test").send().await.code(200);
    for request in ["OPTIONS * HTTP/1.1", "CONNECT shop.test:80 HTTP/1.1"] {
        let head = format!("{request}\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
        let got = answer(&gateway, &head).await;
        assert!(is_refused(&got, &[404]), "{got}");
    }
    assert_eq!(gateway.figure("unrouted_requests"), 6);
    origin.saw("/a/1", 1);
}

#[tokio::test]
async fn method_that_no_route_takes_is_405() {
    let origin = Origin::start().await;
    let tables = "[[routes]]\nname = \"a\"\npath = \"/a\"\nmethods = [\"PUT\", \"GET\"]\n\
                  upstream = \"origin\"\n\n[[routes]]\nname = \"b\"\npath = \"/{*rest}\"\n\
                  methods = [\"DELETE\"]\nupstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    for method in ["POST", "get", "OPTIONS"] {
        for http2 in [false, true] {
            let ask = gateway.ask(method, "/a");
            let got = if http2 { ask.http2().send().await } else { ask.send().await };
            let got = got.code(405).has("allow", "DELETE, GET, HEAD, PUT");
            assert_eq!(problem(&got)["detail"], "no route takes this method here");
        }
    }
    for http2 in [false, true] {
        let ask = gateway.ask("HEAD", "/b");
        let got = if http2 { ask.http2().send().await } else { ask.send().await };
        got.code(405).has("allow", "DELETE").body("");
    }
    assert!(origin.asked().is_empty());
    origin.on("/a").reply(ok("1"));
    gateway.get("/a").await.code(200).body("1");
    gateway.ask("HEAD", "/a").send().await.code(200);
}
