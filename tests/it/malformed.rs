//! Requests that are none, or that no route takes: answered here, unseen by the origin
//! (RFC 9112 §2.2, §3, §6).

use serde_json::{Value, json};

use crate::support::client::{Got, raw};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
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

/// RFC 9110 §4.2.3: it asks for `/`.
#[tokio::test]
async fn an_empty_path_is_the_root() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/?b").reply(ok("1").max_age(60));
    let head = "GET http://HOST?b HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n";
    assert!(answer(&gateway, head).await.starts_with("HTTP/1.1 200 OK\r\n"));
    origin.saw("/?b", 1);
    gateway.get("/?b").await.status("hit");
    // A write to it makes wrong what is stored.
    let head = "POST http://HOST?b HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\
                Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(answer(&gateway, head).await.starts_with("HTTP/1.1 200 OK\r\n"));
    gateway.get("/?b").await.status("fwd=uri-miss; stored");
    origin.saw("/?b", 3);
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

/// Each of them could be taken for two requests by somebody, or its content for one. RFC 9112 §6.3 and
/// §11.2 call that smuggling.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn what_could_be_read_in_two_ways_is_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let chunks = |chunks: &str| {
        format!("POST /a HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
    };
    let fields = |fields: &str| {
        format!("POST /a HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    };
    for octets in [
        fields("Content-Length: 11\r\nTransfer-Encoding: chunked"),
        fields("Transfer-Encoding: chunked\r\nContent-Length: 11"),
        fields("Transfer-Encoding: chunked\r\nContent-Length: x"),
        fields("transfer-encoding:\tchunked\r\ncontent-length:0"),
        fields("Content-Length: 11\r\nContent-Length: 11"),
        fields("Content-Length: 11, 11"),
        fields("Content-Length: 0\r\nContent-Length: 11"),
        fields("Content-Length: 11\r\n Content-Length: 0"),
        fields("X-A: 1\r\n\tTransfer-Encoding: chunked"),
        fields("Content-Length : 11"),
        fields("Transfer-Encoding : chunked"),
        fields("Transfer-Encoding: \x0bchunked"),
        fields("Transfer-Encoding\0: chunked"),
        fields("X-A: 1\x7f"),
        fields("X-A: 1\x01"),
        // Lines that end in LF alone.
        "GET /a HTTP/1.1\nHost: HOST\n\n".to_owned(),
        "GET /a HTTP/1.1\nHost: HOST\r\n\r\n".to_owned(),
        "GET /a HTTP/1.1\r\nHost: HOST\n\r\n".to_owned(),
        "GET /a HTTP/1.1\r\nHost: HOST\r\n\n".to_owned(),
        "\nGET /a HTTP/1.1\r\nHost: HOST\r\n\r\n".to_owned(),
        fields("X-A: 1\nContent-Length: 11"),
        fields("X-A: 1\rContent-Length: 11"),
        chunks("1\nx\r\n0\r\n\r\n"),
        chunks("1\r\nx\n0\r\n\r\n"),
        chunks("1\r\nx\r\n0\n\r\n"),
        chunks("1\r\nx\r\n0\r\n\n"),
        chunks("1\r\nx\r\n0\r\nX-A: 1\n\r\n"),
        // Extensions by no grammar.
        chunks("1;\r\nx\r\n0\r\n\r\n"),
        chunks("1;a\nx\r\n0\r\n\r\n"),
        chunks("1;a\rb\r\nx\r\n0\r\n\r\n"),
        chunks("1;a=\"\r\nx\r\n0\r\n\r\n"),
        chunks("1;\0\r\nx\r\n0\r\n\r\n"),
        chunks(&format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(2000))),
        chunks("1 \r\nx\r\n0\r\n\r\n"),
        chunks("1\r\nx\r\n0;\r\n\r\n"),
        // Sizes that are none, or too long.
        chunks("00000000000000001\r\nx\r\n0\r\n\r\n"),
        chunks("fffffffffffffffff\r\nx\r\n0\r\n\r\n"),
        chunks("-1\r\nx\r\n0\r\n\r\n"),
        chunks("+1\r\nx\r\n0\r\n\r\n"),
        chunks("0x1\r\nx\r\n0\r\n\r\n"),
        chunks("1\r\nxy\r\n0\r\n\r\n"),
        chunks("2\r\nx\r\n0\r\n\r\n"),
        chunks("\r\n0\r\n\r\n"),
    ] {
        let got = answer(&gateway, &format!("{octets}{NEXT}")).await;
        assert!(is_refused(&got, &[400]), "{octets:?}: {got}");
        // Neither does what comes in pieces become another request, nor what comes later.
        let mut line = Line::to(gateway.address()).await;
        let octets = octets.replace("HOST", &gateway.address().to_string());
        let (first, second) = octets.split_at(octets.len() / 2);
        line.send(first).await;
        line.send(format!("{second}{NEXT}")).await;
        let got = line.rest().await;
        assert!(is_refused(&got, &[400]), "{octets:?}: {got}");
    }
    // The head may have gone on before the content was seen to be none.
    assert!(origin.asked().iter().all(|asked| !asked.is_whole && asked.target == "/a"));
}

#[tokio::test]
async fn requests_before_one_that_is_refused_are_answered() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    origin.on("/b").reply(ok("2"));
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: HOST\r\n");
    let post = "POST /b HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n\
                2;a=b;c=\"\\\"\"\r\n\n\n\r\n0\r\nX-A: 1\r\n\r\n";
    let sound = format!("{}\r\n{}\r\n{post}\r\n", get("/a"), get("/a"));
    let got = answer(&gateway, &format!("{sound}{}\n{NEXT}", get("/c"))).await;
    let codes: Vec<_> =
        got.match_indices("HTTP/1.1 ").map(|(at, _)| &got[at + 9..at + 12]).collect();
    assert_eq!(codes, ["200", "200", "200", "400"], "{got}");
    assert_eq!(origin.last("/b").body, "\n\n");
    origin.saw("/a", 1);
    assert_eq!(origin.asked().len(), 2);
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
    // An alert is about those that fail, and any client can send this.
    let stats = gateway.stats().await;
    let outcomes = &stats["routes"]["all"]["outcomes"];
    assert_eq!(outcomes["failed"], Value::Null, "{outcomes}");
    assert_eq!(outcomes["refused"]["statuses"], json!({ "4xx": 6 }), "{outcomes}");
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
    // RFC 9110 §9.3.7: that is for no route. §9.3.6: what follows a CONNECT would not be for this gateway.
    for (request, code) in [
        ("OPTIONS * HTTP/1.1", 204),
        ("CONNECT shop.test:80 HTTP/1.1", 501),
        ("CONNECT shop.test:80 HTTP/1.0", 501),
    ] {
        let close = if code == 204 { "Connection: close\r\n" } else { "" };
        let got =
            answer(&gateway, &format!("{request}\r\nHost: shop.test:80\r\n{close}\r\n{NEXT}"))
                .await;
        assert!(is_refused(&got, &[code]), "{got}");
    }
    assert_eq!(gateway.figure("unrouted_requests"), 7);
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
