//! Hits that are answered before hyper has read their requests: as it would answer them, and on connections that it
//! ends as it would.

use std::time::Duration;

use larder::server::Drained;
use tokio::time::sleep;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::until;
use crate::support::wire::Line;

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// A GET with these lines.
fn get(target: &str, lines: &[&str]) -> String {
    let lines = lines.iter().flat_map(|line| [*line, "\r\n"]).collect::<String>();
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

/// What the gateway answers to this, and behind it to a request that closes the connection; without when that was.
async fn answer(gateway: &Gateway, request: &str) -> String {
    let mut client = Line::to(gateway.address()).await;
    client.send(request).await;
    let first = client.until("\r\n\r\n").await;
    client.send(get("/last", &["Connection: close"])).await;
    let both = first + &client.rest().await;
    both.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
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
