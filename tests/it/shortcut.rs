//! Requests that are answered before hyper has read them, or without it ever doing so: as it would answer them, and on
//! connections that it ends as it would.

use std::time::Duration;

use larder::server::Drained;
use tokio::time::sleep;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::until;
use crate::support::wire::{Line, Wire};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// A GET with these lines.
fn get(target: &str, lines: &[&str]) -> String {
    let lines = lines.iter().flat_map(|line| [*line, "\r\n"]).collect::<String>();
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

/// These lines without `Date`.
fn undated(lines: &str) -> String {
    lines.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

/// What the gateway answers to this, and behind it to a request that closes the connection; without when that was.
async fn answer(gateway: &Gateway, request: &str) -> String {
    let mut client = Line::to(gateway.address()).await;
    client.send(request).await;
    let first = client.until("\r\n\r\n").await;
    client.send(get("/last", &["Connection: close"])).await;
    undated(&(first + &client.rest().await))
}

#[tokio::test]
async fn hits_are_the_same_octets_whoever_reads_their_request() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let large = "abcdefgh".repeat(40 << 10);
    let replies = [
        ("/text", ok("text").field("x-many", "1").field("x-many", "2").field("vary", "Accept")),
        ("/large", ok(large).etag("\"1\"")),
        ("/4k", ok("a".repeat(4096))),
        ("/more", ok("a".repeat(4097))),
        ("/empty", ok("")),
        ("/gone", status(410).body("gone")),
        ("/moved", status(301).field("location", "/text")),
        ("/none", status(204)),
        ("/odd", status(299).body("odd")),
    ];
    origin.on("/last").reply(ok("last").field("cache-control", "no-store"));
    for (target, reply) in replies {
        origin.on(target).reply(reply.max_age(60));
        for lines in [
            &[][..],
            &["Accept: text/plain", "X-Empty:", "X-Spaced: \t a b \t", "X-High: \u{e9}"],
            &["If-None-Match: \"1\""],
            &["Range: bytes=2-5"],
            &["Range: bytes=2-5, 7-9"],
            &["Cache-Control: no-cache"],
            &["Cache-Control: only-if-cached"],
            &["Connection: keep-alive"],
            &["Expect: 100-continue"],
            &["Accept-Encoding: gzip", "TE: trailers"],
        ] {
            let request = get(target, lines);
            answer(&gateway, &request).await;
            let answered = answer(&gateway, &request).await;
            // A line end before it (RFC 9112 §2.2) leaves a request to hyper.
            let by_hyper = answer(&gateway, &format!("\r\n{request}")).await;
            assert_eq!(answered, by_hyper, "{request}");
            let is_hit = answered.contains("\r\ncache-status: larder; hit; ttl=");
            let may_be = !lines.contains(&"Cache-Control: no-cache");
            assert_eq!(is_hit, may_be, "{request}{answered}");
            assert!(answered.ends_with("\r\n\r\nlast"), "{request}{answered}");
        }
    }
}

#[tokio::test]
async fn what_is_passed_on_is_the_same_octets_whoever_reads_its_request() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("compress = [\"gzip\"]").start().await;
    let no_store = |reply: Reply| reply.field("cache-control", "no-store");
    origin.on("/last").reply(no_store(ok("last")));
    for (target, reply) in [
        ("/text", ok("text").field("x-many", "1").field("x-many", "2")),
        ("/coded", ok("text".repeat(500)).field("content-type", "text/plain")),
        ("/large", ok("abcdefgh".repeat(40 << 10))),
        ("/empty", ok("")),
        ("/none", status(204)),
        ("/reset", status(205)),
        ("/same", status(304)),
        ("/wrong", status(500).body("wrong")),
        ("/odd", status(299).body("odd")),
        ("/trailer", ok("1").field("trailer", "x-a")),
    ] {
        origin.on(target).reply(no_store(reply));
        for lines in [
            &[][..],
            &["If-None-Match: \"1\""],
            &["Range: bytes=2-5"],
            &["Connection: keep-alive"],
            &["Accept-Encoding: gzip", "TE: trailers"],
        ] {
            let request = get(target, lines);
            let [by_itself, by_hyper] = [request.clone(), format!("\r\n{request}")]
                .map(async |request| answer(&gateway, &request).await);
            let (by_itself, by_hyper) = (by_itself.await, by_hyper.await);
            // That there is no content, hyper says behind all other fields.
            let lines = [&by_itself, &by_hyper].map(|it| {
                let mut lines: Vec<_> = it.split("\r\n").collect();
                if lines.contains(&"content-length: 0") {
                    lines.sort_unstable();
                }
                lines
            });
            assert_eq!(lines[0], lines[1], "{request}");
            assert!(by_itself.ends_with("\r\n\r\nlast"), "{request}{by_itself}");
        }
    }
}

#[tokio::test]
async fn what_is_written_is_the_same_octets_whoever_reads_its_request() {
    let (wire, origin) = (Wire::start().await, Origin::start().await);
    let last = "[[routes]]\nname = \"last\"\npath = \"/last\"\nupstream = \"origin\"\n";
    let limited = "[[routes]]\nname = \"limited\"\npath = \"/limited\"\nupstream = \"origin\"\n\
                   max_request_body = \"2B\"\n";
    let routes = wire.routes() + last + limited;
    let gateway = Gateway::setup(&origin).routes(&routes).start().await;
    origin.on("/last").reply(ok("last"));
    let long = "a".repeat(5000);
    for (target, method, lines, content) in [
        ("/a", "POST", &["Content-Type: text/plain"][..], "abc"),
        ("/a", "POST", &[], ""),
        ("/a", "PUT", &["Content-Encoding: x", "TE: trailers"], long.as_str()),
        ("/a", "PATCH", &["Content-Range: bytes 0-2/3"], "a\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),
        ("/a", "DELETE", &[], ""),
        ("/a", "DELETE", &["If-Match: \"1\""], "abc"),
        ("/a", "GET", &[], "abc"),
        ("/limited", "POST", &[], "abc"),
    ] {
        let lines = lines.iter().flat_map(|line| [*line, "\r\n"]).collect::<String>();
        let length = content.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {length}\r\n\r\n"
        );
        let goes = target == "/a";
        let [by_itself, by_hyper] = ["", "\r\n"].map(async |before| {
            let mut client = Line::to(gateway.address()).await;
            client.send(format!("{before}{head}{content}")).await;
            let mut sent = String::new();
            if goes {
                let mut line = wire.accept().await;
                sent = line.until("\r\n\r\n").await;
                if !content.is_empty() {
                    sent += &line.until(content).await;
                }
                line.send(format!("{SIX}abcdef")).await;
            }
            client.send(get("/last", &["Connection: close"])).await;
            (sent, undated(&client.rest().await))
        });
        let (by_itself, by_hyper) = (by_itself.await, by_hyper.await);
        // Nobody says of them in which order they come.
        let sorted = |(sent, answered): (String, String)| {
            let (head, content) = sent.split_once("\r\n\r\n").unwrap_or_default();
            let mut lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
            lines.sort_unstable();
            (lines, content.to_owned(), answered)
        };
        let (by_itself, by_hyper) = (sorted(by_itself), sorted(by_hyper));
        assert_eq!(by_itself, by_hyper, "{head}");
        assert_eq!(by_itself.1, if goes { content } else { "" }, "{head}");
    }
}

#[tokio::test]
async fn content_that_comes_by_and_by_is_the_same_octets_and_as_whole() {
    let (wire, origin) = (Wire::start().await, Origin::start().await);
    let last = "[[routes]]\nname = \"last\"\npath = \"/last\"\nupstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(&(wire.routes() + last)).start().await;
    origin.on("/last").reply(ok("last"));
    for (is_whole, fields, pieces) in [
        (true, "Content-Length: 6\r\n\r\n", &["abc", "def"][..]),
        (true, "Transfer-Encoding: chunked\r\n\r\n", &["3\r\nabc\r\n", "0\r\n\r\n"]),
        (true, "Transfer-Encoding: chunked\r\nTrailer: a\r\n\r\n", &["0\r\na: 1\r\n\r\n"]),
        (true, "Connection: close\r\n\r\n", &["abc"]),
        (false, "Content-Length: 6\r\n\r\n", &["abc"]),
        (false, "Transfer-Encoding: chunked\r\n\r\n", &["3\r\nabc\r\n"]),
    ] {
        let [by_itself, by_hyper] = ["", "\r\n"].map(async |before| {
            let mut client = Line::to(gateway.address()).await;
            client.send(format!("{before}{}", get("/a", &[]))).await;
            let mut line = wire.accept().await;
            line.until("\r\n\r\n").await;
            let date = "Date: Fri, 27 Nov 2026 17:00:00 GMT";
            let head = format!("HTTP/1.1 200 OK\r\n{date}\r\nCache-Control: no-store\r\n");
            line.send(head + fields).await;
            let mut came = client.until("\r\n\r\n").await;
            for piece in pieces {
                line.send(piece).await;
            }
            if is_whole {
                client.send(get("/last", &["Connection: close"])).await;
            } else {
                // What breaks off takes along what has not gone out.
                came += &client.until("abc").await;
            }
            drop(line);
            undated(&(came + &client.rest().await))
        });
        let (by_itself, by_hyper) = (by_itself.await, by_hyper.await);
        assert_eq!(by_itself, by_hyper, "{fields}{pieces:?}");
        assert_eq!(by_itself.ends_with("\r\n\r\nlast"), is_whole, "{by_itself}");
    }
}

#[tokio::test]
async fn what_has_come_before_an_upstream_breaks_off_goes_out() {
    let (wire, origin) = (Wire::start().await, Origin::start().await);
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let post = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsnippets";
    for (request, end) in [(get("/a", &[]).as_str(), "\r\n\r\n"), (post, "snippets")] {
        let (mut client, mut line) = awaited_to(request, end, &gateway, &wire).await;
        line.send(format!("{SIX}abc")).await;
        drop(line);
        let came = client.rest().await;
        assert!(came.starts_with("HTTP/1.1 200 OK\r\n"), "{came}");
        assert!(came.ends_with("\r\n\r\nabc"), "{came}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_alike() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.ask("GET", "/a").field("host", "a").send().await;
    for request in [
        "GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nX: \u{1}\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.2\r\nHost: a\r\n\r\n",
        "get /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let [by_itself, by_hyper] = ["", "\r\n"].map(async |before| {
            let mut client = Line::to(gateway.address()).await;
            client.send(format!("{before}{request}")).await;
            client.end().await;
            client.rest().await
        });
        let (by_itself, by_hyper) = (by_itself.await, by_hyper.await);
        assert_eq!(by_itself, by_hyper, "{request}");
        assert!(!by_itself.contains("\r\n\r\n1"), "{request}{by_itself}");
    }
}

/// What has begun with a request is not begun again by who reads it next.
#[tokio::test]
async fn each_request_is_counted_once() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/stored").reply(ok("stored").max_age(60));
    origin.on("/passed").reply(ok("passed").field("cache-control", "no-store"));
    let mut client = Line::to(gateway.address()).await;
    for turn in 1..=40 {
        for content in ["stored", "passed"] {
            client.send(get(&format!("/{content}"), &[])).await;
            client.until(&format!("\r\n\r\n{content}")).await;
        }
        assert_eq!(origin.count("/passed"), turn);
    }
    origin.saw("/stored", 1);
    for (name, value) in [("total_requests", 80), ("l1_hits", 39), ("l1_misses", 41)] {
        assert_eq!(gateway.figure(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_connection_of_hits_waits_for_each_head_as_long_as_for_the_first() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("header_timeout = \"1s\"").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let mut client = Line::to(gateway.address()).await;
    for _ in 0..5 {
        client.send(get("/a", &[])).await;
        client.until("\r\n\r\n1").await;
        sleep(HALF_A_SECOND).await;
    }
    assert_eq!(client.rest().await, "");
    origin.saw("/a", 1);
}

/// A stored response of 16 MiB, more than a connection holds, and a client that has asked for it and taken nothing.
async fn stalled(origin: &Origin, gateway: &Gateway) -> Line {
    origin.on("/large").reply(ok(vec![b'7'; 16 << 20]).max_age(60));
    gateway.ask("GET", "/large").field("host", "a").send().await;
    let hits = gateway.figure("l1_hits");
    let mut client = Line::to(gateway.address()).await;
    client.send(get("/large", &[])).await;
    let hit = || gateway.figure("l1_hits") > hits;
    until("it is answered", hit).await;
    client
}

/// Takes that answer.
async fn takes_all(client: &mut Line) {
    client.until("\r\n\r\n").await;
    assert_eq!(client.skim(16 << 20).await, 16 << 20);
}

#[tokio::test]
async fn a_client_that_takes_its_time_gets_all_of_an_answer() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin);
    let gateway =
        setup.route("max_body = \"32MiB\"").server("header_timeout = \"200ms\"").start().await;
    let mut client = stalled(&origin, &gateway).await;
    sleep(HALF_A_SECOND).await;
    takes_all(&mut client).await;
    client.send(get("/large", &[])).await;
    takes_all(&mut client).await;
    origin.saw("/large", 1);
}

#[tokio::test]
async fn a_drain_sends_all_of_an_answer() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin);
    let gateway = setup.route("max_body = \"32MiB\"").start().await;
    let mut client = stalled(&origin, &gateway).await;
    let (drained, ()) = tokio::join!(gateway.drain(), async {
        sleep(HALF_A_SECOND).await;
        takes_all(&mut client).await;
        assert_eq!(client.rest().await, "");
    });
    assert_eq!(drained, Drained::All);
}

/// A request that has reached the upstream, and no more: the client, and what the upstream has of it.
async fn awaited(gateway: &Gateway, wire: &Wire, lines: &[&str]) -> (Line, Line) {
    awaited_to(&get("/a", lines), "\r\n\r\n", gateway, wire).await
}

/// The same of this request, which ends so.
async fn awaited_to(request: &str, end: &str, gateway: &Gateway, wire: &Wire) -> (Line, Line) {
    let mut client = Line::to(gateway.address()).await;
    client.send(request).await;
    let mut line = wire.accept().await;
    line.until(end).await;
    (client, line)
}

/// The head of an answer with six octets. One that has no `Date` hyper gives one.
const SIX: &str = "HTTP/1.1 200 OK\r\nDate: Fri, 27 Nov 2026 17:00:00 GMT\r\nCache-Control: no-store\r\n\
                   Content-Length: 6\r\n\r\n";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn an_answer_may_take_longer_than_a_head_and_the_next_head_its_own_time() {
    let (wire, origin) = (Wire::start().await, Origin::start().await);
    let setup = Gateway::setup(&origin).routes(&wire.routes());
    let gateway = setup.server("header_timeout = \"700ms\"").start().await;
    let (mut client, mut line) = awaited(&gateway, &wire, &[]).await;
    for _ in 0..3 {
        sleep(2 * HALF_A_SECOND).await;
        line.send(SIX).await;
        client.until("\r\n\r\n").await;
        sleep(2 * HALF_A_SECOND).await;
        line.send("abcdef").await;
        client.until("abcdef").await;
        sleep(HALF_A_SECOND).await;
        client.send(get("/a", &[])).await;
        line.until("\r\n\r\n").await;
    }
    line.send(SIX).await;
    line.send("abcdef").await;
    client.until("abcdef").await;
    // And then it is over.
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_exchange() {
    let (wire, origin) = (Wire::start().await, Origin::start().await);
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    // Nobody else may want the answer.
    let own = &["If-Match: *"];
    let (client, mut line) = awaited(&gateway, &wire, own).await;
    client.leave().await;
    assert_eq!(line.rest().await, "");

    let (mut client, mut line) = awaited(&gateway, &wire, own).await;
    line.send(format!("{SIX}abc")).await;
    client.until("abc").await;
    client.leave().await;
    assert_eq!(line.rest().await, "");

    let (client, mut line) = awaited(&gateway, &wire, own).await;
    client.reset();
    assert_eq!(line.rest().await, "");
}

#[tokio::test]
async fn requests_that_are_sent_ahead_are_answered_in_their_order() {
    let (wire, origin) = (Wire::start().await, Origin::start().await);
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let (mut client, mut line) = awaited(&gateway, &wire, &[]).await;
    // More than is held at once, and more than is read at once.
    let large = "x".repeat(60_000);
    let post = format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n{large}");
    client.send(post).await;
    client.send(get("/c", &["Connection: close"])).await;
    line.send(SIX).await;
    client.until("\r\n\r\n").await;
    line.send("abcdef").await;
    client.until("abcdef").await;
    for asked in ["POST /b HTTP/1.1", "GET /c HTTP/1.1"] {
        let head = line.until("\r\n\r\n").await;
        assert!(head.starts_with(asked), "{head}");
        if asked.starts_with("POST") {
            line.until(&large).await;
        }
        line.send(format!("{SIX}ghijkl")).await;
    }
    client.until("ghijkl").await;
    assert!(client.rest().await.ends_with("\r\n\r\nghijkl"));
}

#[tokio::test]
async fn a_drain_waits_for_answers_and_says_that_they_are_the_last() {
    for (reply, content) in [(SIX, "abcdef"), (CHUNKED, "1\r\na\r\n0\r\n\r\n")] {
        let (wire, origin) = (Wire::start().await, Origin::start().await);
        let setup = Gateway::setup(&origin).routes(&wire.routes());
        let gateway = setup.server("workers = 1").start().await;
        let (mut begun, mut of_begun) = awaited(&gateway, &wire, &[]).await;
        of_begun.send(format!("{SIX}abc")).await;
        begun.until("abc").await;
        let (mut client, mut line) = awaited(&gateway, &wire, &[]).await;
        client.send(get("/ahead", &[])).await;
        let mut idle = Line::to(gateway.address()).await;
        idle.send("GET /larder HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        idle.until("\r\n\r\n").await;
        let (drained, ()) = tokio::join!(gateway.drain(), async {
            idle.rest().await;
            line.send(reply).await;
            let head = client.until("\r\n\r\n").await;
            assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
            line.send(content).await;
            assert_eq!(client.rest().await, content);
            of_begun.send("def").await;
            assert_eq!(begun.rest().await, "def");
        });
        assert_eq!(drained, Drained::All);
    }
}

#[tokio::test]
async fn interim_responses_come_before_the_answer() {
    let (wire, origin) = (Wire::start().await, Origin::start().await);
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let post = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsnippets";
    for (reply, request, end) in [
        (SIX, get("/a", &[]).as_str(), "\r\n\r\n"),
        (CHUNKED, &get("/a", &[]), "\r\n\r\n"),
        (SIX, post, "snippets"),
        (CHUNKED, post, "snippets"),
    ] {
        let (mut client, mut line) = awaited_to(request, end, &gateway, &wire).await;
        line.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nvia: 1.1 larder\r\n\r\n";
        assert_eq!(client.until("\r\n\r\n").await, hints);
        line.send(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{reply}")).await;
        assert_eq!(client.until("\r\n\r\n").await, hints);
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let content = if reply == SIX { "abcdef" } else { "0\r\n\r\n" };
        line.send(content).await;
        client.until(content).await;
        // hyper has read the answer, and has not sent the request again.
        client.send(get("/b", &[])).await;
        let next = line.until("\r\n\r\n").await;
        assert!(next.starts_with("GET /b "), "{next}");
        line.send(format!("{SIX}ghijkl")).await;
        client.until("ghijkl").await;
    }
}
