//! Clients' connections: used again, shared by many requests, bounded in number and in patience.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::client::Http2;
use crate::support::frames::{
    END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, SETTINGS, WINDOW_UPDATE, frame, request,
};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, pieces, status};
use crate::support::pki::Pki;
use crate::support::program::Running;
use crate::support::until;
use crate::support::wire::Line;

/// A GET on a connection that stays.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("hit").max_age(60));
    origin.on("/b").reply(ok("own").field("cache-control", "no-store"));
    origin.on("/w").reply(status(201));
    let mut client = Line::to(gateway.address()).await;
    for turn in 0..50 {
        client.send(get("/a")).await;
        let answer = client.until("\r\n\r\nhit").await;
        let expected = if turn == 0 { "fwd=uri-miss; stored" } else { "hit; ttl=" };
        assert!(answer.contains(&format!("cache-status: larder; {expected}")), "{answer}");
        client.send(get("/b")).await;
        client.until("\r\n\r\nown").await;
        client.send("POST /w HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nGET ").await;
        let answer = client.until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    }
    origin.saw("/a", 1);
    origin.saw("/b", 50);
    origin.saw("/w", 50);
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/1").hold(ok("one").max_age(60));
    origin.on("/2").reply(ok("two").max_age(60));
    let mut client = Line::to(gateway.address()).await;
    client.send([get("/1"), get("/2"), get("/1"), get("/nothing")].concat()).await;
    until("the origin is asked", || origin.count("/1") == 1).await;
    held.release();
    for content in ["one", "two", "one", "nothing scripted"] {
        let answer = client.until(&format!("\r\n\r\n{content}")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    origin.saw("/1", 1);
    origin.saw("/2", 1);
}

#[tokio::test]
async fn a_client_may_ask_for_the_end_of_its_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    for (request, version) in [
        ("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1"),
        ("GET /a HTTP/1.0\r\nhost: a\r\n\r\n", "HTTP/1.0"),
    ] {
        let mut client = Line::to(gateway.address()).await;
        client.send(request).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(&format!("{version} 200 OK\r\n")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n1"), "{answer}");
    }
    origin.saw("/a", 1);
}

#[tokio::test]
async fn content_that_nobody_reads_never_becomes_the_next_request() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    origin.on("/b").reply(ok("2").max_age(60));
    gateway.ask("GET", "/a").field("host", "a").send().await.status("fwd=uri-miss; stored");

    let hidden = get("/smuggled");
    let length = hidden.len();
    let chunked = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    for head in [
        // With content it is not a request that a cache answers.
        format!("GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{hidden}"),
        format!("GET /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
        // What no route or no gateway takes is answered without reading its content.
        format!(
            "POST /c HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: {length}\r\n\r\n{hidden}"
        ),
        format!(
            "GET /a HTTP/1.1\r\nhost: a\r\ncache-control: only-if-cached\r\n\
             content-length: {length}\r\n\r\n{hidden}"
        ),
    ] {
        let mut client = Line::to(gateway.address()).await;
        client.send(head + "GET /b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let answer = client.rest().await;
        let answers = answer.matches("HTTP/1.1 ").count();
        // The connection ends with the first, or goes on behind its content.
        assert!(answers == 1 || answers == 2 && answer.ends_with("\r\n\r\n2"), "{answer}");
    }
    origin.saw("/smuggled", 0);
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_closes_the_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("header_timeout = \"200ms\"").start().await;
    for begun in ["", "P", "GET", "GET /a HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut client = Line::to(gateway.address()).await;
        client.send(begun).await;
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{begun:?}: {answer}");
    }
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("shop", &["shop.example"], "shop");
    let more = format!("[[server.listeners]]\nlisten = \"127.0.0.1:0\"\n{}", pki.tls("shop"));
    // There is room for one: whoever comes is served when that has been given up.
    let lines = "workers = 1\nmax_connections = 1\nsend_timeout = \"300ms\"";
    let gateway = Gateway::setup(&origin).server(lines).listening(&more).start().await;
    origin.on("/large").reply(ok(vec![7; 30 << 20]).max_age(60));
    origin.on("/a").reply(ok("1").max_age(60));

    let mut slow = Line::to(gateway.address()).await;
    slow.send(get("/large")).await;
    gateway.get("/a").await.code(200).body("1");

    // Windows as large as they can be: of all that is sent nothing is taken.
    let settings = [&[0, 4][..], &((1_u32 << 31) - 1).to_be_bytes()].concat();
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let window = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    let ask = frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/large"));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let sent = [preface, frame(SETTINGS, 0, 0, &settings), window, ask].concat();
    stream.write_all(&sent).await.unwrap();
    gateway.get("/a").await.code(200).body("1");

    let secure = gateway.another(1);
    let mut secure = pki.connect(secure, "shop.example", "http/1.1").await.unwrap();
    secure.write_all(get("/large").as_bytes()).await.unwrap();
    gateway.get("/a").await.code(200).body("1");
}

#[tokio::test]
async fn a_silent_client_of_http2_is_given_up_and_one_that_is_heard_is_not() {
    let origin = Origin::start().await;
    let lines = "workers = 1\nheader_timeout = \"2s\"\nsend_timeout = \"4s\"";
    let gateway = Gateway::setup(&origin).server(lines).start().await;
    // None of them answers a PING.
    let mut heard = Frames::to(gateway.address()).await;
    // A moment later, so that the other would be given up before.
    sleep(Duration::from_millis(500)).await;
    let mut silent = Frames::to(gateway.address()).await;
    let says = async {
        while heard.send(&frame(PING, 0, 0, b"01234567")).await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let came = tokio::select! {
        came = silent.ended() => came,
        () = says => panic!("it was taken for gone"),
    };
    assert!(came.iter().any(|frame| frame.kind == GOAWAY), "{came:?}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_slow_response_is_not_idle() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("header_timeout = \"300ms\"").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let mut idle = Line::to(gateway.address()).await;
    idle.send(get("/a")).await;
    idle.until("\r\n\r\n1").await;

    let (reply, content) = pieces();
    origin.on("/slow").reply(reply.max_age(60));
    let mut slow = Line::to(gateway.address()).await;
    slow.send(get("/slow")).await;
    content.send("one ");
    slow.until("one \r\n").await;
    // By then its limit is over, too.
    assert_eq!(idle.rest().await, "");
    content.send("two");
    content.end();
    slow.until("two\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("max_connections = 2\nworkers = 2").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let mut first = Line::to(gateway.address()).await;
    let mut second = Line::to(gateway.address()).await;
    for client in [&mut first, &mut second] {
        client.send(get("/a")).await;
        client.until("\r\n\r\n1").await;
    }
    let mut third = Line::to(gateway.address()).await;
    third.send(get("/a")).await;
    // The two are served on while the third waits.
    for client in [&mut first, &mut second] {
        client.send(get("/a")).await;
        client.until("\r\n\r\n1").await;
    }
    assert_eq!(gateway.figure("total_requests"), 4);
    first.leave().await;
    third.until("\r\n\r\n1").await;
    assert_eq!(gateway.figure("total_requests"), 5);
}

/// Each connection is an open file, and the default of `max_connections` is more than may be open here.
#[tokio::test]
async fn clients_that_do_nothing_leave_files_for_upstreams() {
    const TOO_FEW: &str = "fewer connections than `max_connections` at once";

    for (limit, asks) in [("ulimit -Sn 96", 149), ("ulimit -n 160", 0)] {
        let origin = Origin::start().await;
        origin.on("/a").reply(ok("1").max_age(60));
        let mut larder = Running::after(limit, &Gateway::setup(&origin).text()).await;
        let mut clients = Vec::new();
        for _ in 0..150 {
            clients.push(Line::to(larder.address()).await);
        }
        let client = &mut clients[asks];
        client.send(get("/a")).await;
        let answer = client.until("\r\n\r\n1").await;
        assert!(answer.contains("fwd=uri-miss; stored"), "{limit}: {answer}");
        // One limit could be raised, the other could not: then further ones wait.
        if asks == 0 {
            assert_eq!(larder.says(TOO_FEW).await["connections"], 28);
        }
    }
}

#[tokio::test]
async fn an_http2_connection_carries_many_requests_at_once() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let client = Http2::to(gateway.address()).await;
    let held: Vec<_> = (0..100)
        .map(|number| {
            let reply = ok(number.to_string()).field("cache-control", "no-store");
            origin.on(&format!("/{number}")).hold(reply)
        })
        .collect();
    let sent: Vec<_> =
        (0..100).map(|number| tokio::spawn(client.get(&format!("/{number}")))).collect();
    // All are under way, and the last is answered first.
    until("the origin is asked for all", || origin.asked().len() == 100).await;
    for (number, (held, sent)) in held.iter().zip(sent).enumerate().rev() {
        held.release();
        let got = sent.await.unwrap().code(200).body(&number.to_string());
        got.status("fwd=uri-miss; detail=no-store");
    }
    origin.on("/a").reply(ok("1").max_age(60));
    client.get("/a").await.status("fwd=uri-miss; stored");
    client.get("/a").await.body("1").status("hit");
}

#[tokio::test]
async fn more_streams_than_are_allowed_wait_their_turn() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").field("cache-control", "no-store"));
    let client = Http2::to(gateway.address()).await;
    client.get("/a").await.body("1");
    let sent: Vec<_> = (0..300).map(|_| tokio::spawn(client.get("/a"))).collect();
    for sent in sent {
        sent.await.unwrap().code(200).body("1");
    }
}

#[tokio::test]
async fn a_broken_stream_leaves_its_connection_to_the_others() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    origin.on("/broken").reply(reply.max_age(60));
    origin.on("/a").reply(ok("1").max_age(60));
    let client = Http2::to(gateway.address()).await;
    let broken = tokio::spawn(client.attempt("/broken"));
    content.send("half");
    until("the origin is asked", || origin.count("/broken") == 1).await;
    drop(content);
    assert!(broken.await.unwrap().is_err(), "a part looked whole");
    client.get("/a").await.body("1").status("fwd=uri-miss; stored");
}
