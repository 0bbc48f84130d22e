//! What the gateway does to messages that it passes on (RFC 9110 §7, RFC 9113 §8.2).

use bytes::Bytes;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::wire::{Line, Wire};

const MISS: &str = "fwd=uri-miss; stored";

/// An upstream of these servers and one route for everything before it.
fn pool(servers: &[&str]) -> String {
    format!(
        "[upstreams.pool]\nservers = {servers:?}\n\n[[routes]]\nname = \"all\"\n\
         path = \"/{{*rest}}\"\nupstream = \"pool\"\n"
    )
}

#[tokio::test]
async fn fields_of_one_connection_stay_behind() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok("1").max_age(60).field("connection", "x-hop, cache-control").field("x-hop", "1");
    let reply = reply.field("keep-alive", "timeout=5").field("proxy-authenticate", "Basic");
    origin.on("/a").reply(reply.field("upgrade", "h2c").field("x-end", "2"));
    let hops = [
        ("connection", "x-hop, cookie"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "keep-alive"),
        ("te", "deflate"),
    ];
    for (method, expected) in [("POST", "fwd=method"), ("GET", "fwd=bypass")] {
        let ask = hops
            .iter()
            .fold(gateway.ask(method, "/a"), |ask, (name, value)| ask.field(name, value));
        let got = ask.field("cookie", "a=b").field("x-end", "2").send().await.status(expected);
        let got = got.lacks("x-hop").lacks("keep-alive").lacks("proxy-authenticate");
        // What decides about caching no honest sender lists, so it stays.
        got.lacks("connection")
            .lacks("upgrade")
            .has("x-end", "2")
            .has("cache-control", "max-age=60");
        let asked = origin.last("/a");
        for (name, _) in hops {
            assert_eq!(asked.field(name), None, "{name}");
        }
        assert_eq!(asked.field("cookie").as_deref(), Some("a=b"));
        assert_eq!(asked.field("x-end").as_deref(), Some("2"));
    }
    gateway.get("/a").await.status(MISS).lacks("x-hop").has("x-end", "2");
    gateway.get("/a").await.status("hit").lacks("x-hop").has("x-end", "2");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn via_names_the_gateway_both_ways() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).field("via", "1.0 inner"));
    for (method, expected) in [("POST", "fwd=method"), ("GET", MISS), ("GET", "hit")] {
        let got = gateway.ask(method, "/a").field("via", "1.1 outer").send().await;
        got.status(expected).has("via", "1.0 inner, 1.1 larder");
        assert_eq!(origin.last("/a").field("via").as_deref(), Some("1.1 outer, 1.1 larder"));
    }
    gateway.ask("POST", "/a").http2().send().await.has("via", "1.0 inner, 1.1 larder");
    assert_eq!(origin.last("/a").field("via").as_deref(), Some("2 larder"));
}

#[tokio::test]
async fn origin_is_told_on_whose_behalf_whatever_the_client_says() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1"));
    let claims = [
        ("forwarded", "for=evil"),
        ("x-forwarded-for", "evil"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-user", "evil"),
        ("x-forwarded-prefix", "/evil"),
        ("x-real-ip", "evil"),
        ("x-original-url", "/evil"),
        ("x-rewrite-url", "/evil"),
        ("x-host", "evil"),
    ];
    for method in ["GET", "POST"] {
        let ask = gateway.ask(method, "/a").field("host", "shop.test:81");
        let ask = claims.iter().fold(ask, |ask, (name, value)| ask.field(name, value));
        ask.send().await.code(200);
        let asked = origin.last("/a");
        for (name, expected) in [
            ("forwarded", Some("for=127.0.0.1;host=\"shop.test:81\";proto=http")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-host", Some("shop.test:81")),
            ("x-forwarded-proto", Some("http")),
        ]
        .into_iter()
        .chain(claims[4..].iter().map(|(name, _)| (*name, None)))
        {
            assert_eq!(asked.field(name).as_deref(), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn origin_is_told_which_host_each_request_asked() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1"));
    for host in ["a.test", "b.test", "b.test", "a.test"] {
        gateway.ask("POST", "/a").field("host", host).send().await.code(200);
        let asked = origin.last("/a");
        assert_eq!(asked.field("x-forwarded-host").as_deref(), Some(host));
        assert!(asked.field("forwarded").unwrap().contains(host), "{host}");
    }
}

#[tokio::test]
async fn host_is_the_clients_or_the_servers() {
    let origin = Origin::start().await;
    let server = origin.address().to_string();
    for (lines, expected) in [
        ("", "shop.test"),
        ("preserve_host = true", "shop.test"),
        ("preserve_host = false", &server),
    ] {
        let gateway = Gateway::setup(&origin).upstream(lines).start().await;
        origin.on("/a").reply(ok("1"));
        for method in ["GET", "POST"] {
            gateway.ask(method, "/a").field("host", "shop.test").send().await.code(200);
            assert_eq!(origin.last("/a").field("host").as_deref(), Some(expected), "{lines}");
        }
    }
}

#[tokio::test]
async fn cache_status_comes_behind_that_of_inner_caches() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).field("cache-status", "inner; hit"));
    let post = gateway.ask("POST", "/a").send().await;
    post.has("cache-status", "inner; hit, larder; fwd=method");
    gateway.get("/a").await.has("cache-status", "inner; hit, larder; fwd=uri-miss; stored");
    // RFC 9211 §2: "to allow debugging of the entire chain of caches handling the request".
    let hit = gateway.get("/a").await.status("hit");
    let list = hit.field("cache-status").unwrap();
    assert!(list.starts_with("inner; hit, larder; hit; ttl="), "{hit:?}");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn target_is_forwarded_octet_for_octet() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let mut client = Line::to(gateway.address()).await;
    let mut server = None;
    for target in [
        "/",
        "/a%2Fb",
        "/a%2fb",
        "/%61",
        "//a",
        "/a//b/",
        "/a../.b/.../c",
        "/a;v=1,2",
        "/a:b@c",
        "/a?",
        "/a?b?c=/d",
        "/a?x=%20&y=+&&z",
        "/a?q=[1]{2}|3",
        "/a'(b)*!$~",
        "/\u{e4}?\u{f6}",
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        if server.is_none() {
            server = Some(wire.accept().await);
        }
        let server = server.as_mut().unwrap();
        let asked = server.until("\r\n\r\n").await;
        assert!(asked.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{target}: {asked}");
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend").await;
        let got = client.until("\r\n\r\nend").await;
        assert!(got.contains("larder; fwd=uri-miss; detail=no-freshness"), "{target}: {got}");
    }
}

#[tokio::test]
async fn content_of_a_request_arrives_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(status(201));
    let content: Bytes = (0..1 << 20).map(|n: u32| n.to_le_bytes()[n as usize % 3]).collect();
    for method in ["POST", "PUT", "PATCH", "DELETE", "FROBNICATE"] {
        for http2 in [false, true] {
            for length in [Some("1048576"), None] {
                let ask = gateway.ask(method, "/a").body(content.clone());
                let ask = if http2 { ask.http2() } else { ask };
                let ask = if length.is_none() { ask.unannounced() } else { ask };
                ask.send().await.code(201).status("fwd=method");
                let asked = origin.last("/a");
                assert_eq!(asked.method, method);
                assert!(asked.body == content, "{method} {http2} {length:?}");
                assert_eq!(asked.field("content-length").as_deref(), length);
                let coding = asked.field("transfer-encoding");
                assert_eq!(coding.is_some(), length.is_none(), "{method} {http2} {length:?}");
            }
        }
    }
    gateway.ask("POST", "/a").send().await.code(201);
    assert_eq!(origin.last("/a").body, "");
    origin.saw("/a", 21);
}

#[tokio::test]
async fn content_of_a_request_is_streamed() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send("POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("3\r\none\r\n").await;
    let mut server = wire.accept().await;
    server.until("\r\n\r\n3\r\none\r\n").await;
    client.send("3\r\ntwo\r\n0\r\n\r\n").await;
    server.until("3\r\ntwo\r\n0\r\n\r\n").await;
    server.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend").await;
    let got = client.until("\r\n\r\nend").await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains("larder; fwd=method"), "{got}");
}

#[tokio::test]
async fn get_with_content_goes_past_the_cache() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.status(MISS);
    for times in 2..6 {
        let ask = gateway.ask("GET", "/a").body("query");
        let ask = match times {
            2 => ask,
            3 => ask.unannounced().field("transfer-encoding", "chunked"),
            4 => ask.http2(),
            _ => ask.unannounced().http2(),
        };
        ask.send().await.code(200).body("1").status("fwd=bypass");
        assert_eq!(origin.last("/a").body, "query");
        origin.saw("/a", times);
    }
    gateway.ask("GET", "/a").http2().send().await.status("hit");
}

#[tokio::test]
async fn responses_pass_as_they_are() {
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for code in [
        200, 201, 202, 203, 207, 226, 299, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404,
        406, 409, 410, 418, 422, 429, 451, 499, 500, 501, 502, 503, 504, 511, 599,
    ] {
        for method in ["GET", "POST"] {
            let reply = status(code).body("text").date(DATE).field("x-unknown", "a,  b");
            let reply = reply.field("set-cookie", "a=b").field("set-cookie", "c=d");
            origin.on("/a").reply(reply.field("location", "https://other.test/?a=b#c"));
            let got = gateway.ask(method, "/a").send().await.code(code).body("text");
            let got = got.has("x-unknown", "a,  b").has("date", DATE).has("content-length", "4");
            let got = got.has("location", "https://other.test/?a=b#c");
            assert_eq!(got.headers.get_all("set-cookie").iter().count(), 2);
            let detail = "fwd=uri-miss; detail=set-cookie";
            got.status(if method == "GET" { detail } else { "fwd=method" });
        }
    }
}

#[tokio::test]
async fn response_without_content_stays_without() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/204").reply(status(204).max_age(60));
    origin.on("/empty").reply(ok("").max_age(60));
    for http2 in [false, true] {
        for (target, code, length) in [("/204", 204, None), ("/empty", 200, Some("0"))] {
            for (method, expected) in [("POST", "fwd=method"), ("GET", MISS), ("GET", "hit")] {
                let ask = gateway.ask(method, target);
                let got = if http2 { ask.http2().send().await } else { ask.send().await };
                let got = got.code(code).body("").status(expected).lacks("transfer-encoding");
                // HTTP/2 has another way to say that nothing follows.
                if !http2 {
                    assert_eq!(got.field("content-length").as_deref(), length, "{target}");
                }
            }
        }
    }
}

#[tokio::test]
async fn coded_content_is_left_alone() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let coded = b"\x1f\x8b not really \x00 gzip".as_slice();
    let reply = ok(coded).max_age(60).field("content-encoding", "gzip");
    origin.on("/a").reply(reply.field("vary", "accept-encoding"));
    for expected in [MISS, "hit"] {
        let got = gateway.ask("GET", "/a").field("accept-encoding", "gzip").send().await;
        let got = got.status(expected).has("content-encoding", "gzip");
        assert_eq!(got.body, coded);
        assert_eq!(got.field("content-length"), Some(coded.len().to_string()));
    }
    assert_eq!(origin.last("/a").field("accept-encoding").as_deref(), Some("gzip"));
    origin.saw("/a", 1);
}

#[tokio::test]
async fn http2_clients_get_the_same() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok("text").max_age(60).etag("1").field("keep-alive", "timeout=5");
    origin.on("/a?b=%20").reply(reply.field("x-a", "1"));
    for expected in [MISS, "hit"] {
        let got = gateway.ask("GET", "/a?b=%20").field("x-b", "2").http2().send().await;
        let got = got.code(200).body("text").status(expected).has("etag", "\"1\"").has("x-a", "1");
        got.lacks("connection").lacks("keep-alive").lacks("transfer-encoding");
    }
    let asked = origin.last("/a?b=%20");
    assert_eq!(asked.field("host"), Some(gateway.address().to_string()));
    assert_eq!(asked.field("x-b").as_deref(), Some("2"));
    // What one version stored answers the other.
    gateway.get("/a?b=%20").await.body("text").status("hit");
    let ask = gateway.ask("GET", "/a?b=%20").field("if-none-match", "\"1\"").http2();
    ask.send().await.code(304).body("").status("hit");
    origin.saw("/a?b=%20", 1);
}

#[tokio::test]
async fn split_cookies_are_joined() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).field("vary", "cookie"));
    let cookies =
        |ask: crate::support::client::Ask| ask.field("cookie", "a=1").field("cookie", "b=2");
    cookies(gateway.ask("GET", "/a").http2()).send().await.status(MISS);
    let lines = |asked: crate::support::origin::Asked| -> Vec<_> {
        asked.headers.get_all("cookie").iter().cloned().collect()
    };
    assert_eq!(lines(origin.last("/a")), ["a=1; b=2"]);
    // It is the same request in one field, and from an HTTP/1.1 client.
    gateway.ask("GET", "/a").field("cookie", "a=1; b=2").http2().send().await.status("hit");
    gateway.ask("GET", "/a").field("cookie", "a=1; b=2").send().await.status("hit");
    cookies(gateway.ask("POST", "/a").http2()).send().await.status("fwd=method");
    assert_eq!(lines(origin.last("/a")), ["a=1; b=2"]);
    origin.saw("/a", 2);
}

#[tokio::test]
async fn servers_take_turns() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let gateway = Gateway::setup(&one).routes(&pool(&[&one.url(), &two.url()])).start().await;
    one.on("/a").reply(ok("one"));
    two.on("/a").reply(ok("two"));
    for expected in ["one", "two", "one", "two"] {
        gateway.get("/a").await.body(expected).status("fwd=uri-miss; detail=no-freshness");
    }
    one.saw("/a", 2);
    two.saw("/a", 2);
}

#[tokio::test]
async fn server_that_refuses_is_skipped() {
    let origin = Origin::start().await;
    // Of a listener that is gone.
    let refusing = Origin::start().await.url();
    let pool = pool(&[&refusing, &origin.url(), &refusing]);
    let gateway = Gateway::setup(&origin).routes(&pool).start().await;
    origin.on("/a").reply(ok("1"));
    for _ in 0..3 {
        gateway.get("/a").await.body("1").status("fwd=uri-miss; detail=no-freshness");
    }
    for http2 in [false, true, false, true, false, true] {
        let content = vec![b'x'; 1 << 20];
        let ask = gateway.ask("POST", "/a").body(content.clone());
        let got = if http2 { ask.http2().send().await } else { ask.send().await };
        got.code(200).body("1").status("fwd=method");
        assert!(origin.last("/a").body == content);
    }
    origin.saw("/a", 9);
}

#[tokio::test]
async fn no_server_at_all_is_502() {
    let origin = Origin::start().await;
    let refusing = Origin::start().await.url();
    let pool = pool(&[&refusing, &refusing]);
    let gateway = Gateway::setup(&origin).routes(&pool).start().await;
    for (method, why) in [("GET", "uri-miss"), ("HEAD", "uri-miss"), ("POST", "method")] {
        let got = gateway.ask(method, "/a").send().await.code(502);
        let got = got.has("content-type", "application/problem+json");
        got.status(&format!("fwd={why}; detail=upstream-refused"));
    }
}

#[tokio::test]
async fn interim_responses_are_not_the_answer() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let serving = async {
        let mut line = wire.accept().await;
        line.until("\r\n\r\n").await;
        line.send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").await;
        line.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        line.send("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 1\r\n\r\n1")
            .await;
        line
    };
    let (got, _line) = tokio::join!(gateway.get("/a"), serving);
    got.code(200).body("1").status(MISS).lacks("link");
    gateway.get("/a").await.body("1").status("hit");
}

#[tokio::test]
async fn client_is_asked_for_content_that_it_holds_back() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1"));
    let mut client = Line::to(gateway.address()).await;
    client.send("POST /a HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\n").await;
    client.send("Content-Length: 3\r\n\r\n").await;
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("new").await;
    let got = client.until("\r\n\r\n1").await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
    assert_eq!(origin.last("/a").body, "new");
}

/// RFC 9110 §6.5: what follows the content goes on, where whoever asked takes it.
#[tokio::test]
async fn trailers_pass_through_both_ways() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send("POST /a HTTP/1.1\r\nHost: a.test\r\nTrailer: x-sum, set-cookie\r\n").await;
    client.send("Trailer: client-cert, x-forwarded-for, cookie, x_sum\r\n").await;
    client.send("TE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let claims = "client-cert: :AA==:\r\nX-Forwarded-For: 192.0.2.1\r\ncookie: a=b\r\nX_Sum: 2\r\n";
    let trailers = format!("x-sum: 1\r\nset-cookie: a=b\r\nx-other: 1\r\n{claims}");
    client.send(&format!("3\r\nnew\r\n0\r\n{trailers}\r\n")).await;
    let mut server = wire.accept().await;
    let head = server.until("\r\n\r\n").await;
    assert!(head.contains("\r\nte: trailers\r\n") && head.contains("\r\nconnection: te\r\n"));
    assert_eq!(server.until("\r\n\r\n").await, "3\r\nnew\r\n0\r\nx-sum: 1\r\n\r\n");

    let reply = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntrailer: x-sum, set-cookie\r\n\
                 transfer-encoding: chunked\r\n\r\n3\r\nend\r\n0\r\nx-sum: 2\r\n\
                 set-cookie: a=b\r\n\r\n";
    server.send(reply).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.contains("\r\ntrailer: x-sum, set-cookie\r\n"), "{head}");
    assert_eq!(client.until("\r\n\r\n").await, "3\r\nend\r\n0\r\nx-sum: 2\r\n\r\n");

    // Who does not say that they take them gets none; nor does whoever is answered from the cache.
    for (te, expected) in [("TE: trailers\r\nConnection: TE\r\n", "x-sum: 2\r\n"), ("", "")] {
        let mut client = Line::to(gateway.address()).await;
        let target = if te.is_empty() { "/plain" } else { "/stored" };
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{te}\r\n")).await;
        let asked = server.until("\r\n\r\n").await;
        assert_eq!(asked.contains("te: trailers"), !te.is_empty(), "{asked}");
        server.send(reply).await;
        client.until("\r\n\r\n").await;
        let content = client.until("\r\n\r\n").await;
        assert_eq!(content, format!("3\r\nend\r\n0\r\n{expected}\r\n"), "{te}");
    }
    let host = |target| gateway.ask("GET", target).field("host", "a.test").send();
    host("/stored").await.body("end").status("hit").lacks("trailer").lacks("x-sum");
}

#[tokio::test]
async fn older_server_that_ends_content_by_closing_is_understood() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let serving = async {
        let mut line = wire.accept().await;
        line.until("\r\n\r\n").await;
        line.send("HTTP/1.0 200 OK\r\ncache-control: max-age=60\r\n\r\nto the end").await;
    };
    let (first, ()) = tokio::join!(gateway.get("/a"), serving);
    first.body("to the end").status(MISS).has("via", "1.0 larder");
    gateway.get("/a").await.body("to the end").status("hit").has("content-length", "10");
}
