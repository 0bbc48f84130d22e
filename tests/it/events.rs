//! Server-sent events: each reaches its client before the next is sent, and nothing of them is kept.

use crate::support::client::{Ask, Open};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, pieces};
use crate::support::until;
use crate::support::wire::Line;

fn events(reply: Reply) -> Reply {
    reply.field("content-type", "text/event-stream; charset=utf-8")
}

async fn next(open: &mut Open) -> String {
    let piece = open.piece().await.expect("the content ended").expect("the content broke off");
    String::from_utf8(piece.to_vec()).unwrap()
}

#[tokio::test]
async fn each_event_is_there_before_the_next_is_sent() {
    let origin = Origin::start().await;
    let lines = "ttl = \"5m\"\nmax_body = \"1KiB\"";
    let gateway = Gateway::setup(&origin).route(lines).start().await;
    for (what, method, cache_control, expected) in [
        ("a route that stores", "GET", None, "fwd=uri-miss; detail=event-stream"),
        ("fresh", "GET", Some("max-age=60"), "fwd=uri-miss; detail=event-stream"),
        ("as most say", "GET", Some("no-cache"), "fwd=uri-miss; detail=event-stream"),
        ("not to be stored", "GET", Some("no-store"), "fwd=uri-miss; detail=no-store"),
        ("passed on", "POST", None, "fwd=method"),
    ] {
        for is_http2 in [false, true] {
            let (reply, content) = pieces();
            let reply = events(reply);
            origin.on("/events").reply(match cache_control {
                Some(value) => reply.field("cache-control", value),
                None => reply,
            });
            let ask = gateway.ask(method, "/events");
            let mut client = if is_http2 { ask.http2() } else { ask }.open().await;
            client.head().code(200).status(expected);
            // More than the route would keep, as they never end.
            for turn in 0..200 {
                let event = format!("id: {turn}\ndata: {what}\n\n");
                content.send(event.clone());
                assert_eq!(next(&mut client).await, event);
            }
            // Who goes away is no reason to ask for more.
            drop(client);
            content.gone().await;
        }
    }
    assert_eq!(gateway.figure("stored"), 0);
}

/// Each goes on from another place.
#[tokio::test]
async fn every_client_has_its_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let all: Vec<_> = (0..3).map(|_| pieces()).collect();
    let (replies, contents): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let held: Vec<_> = (0..3)
        .zip(replies)
        .map(|(number, reply)| {
            let on = origin.on("/events").with("last-event-id", &number.to_string());
            on.hold(events(reply.max_age(60)))
        })
        .collect();
    let ask =
        |number: u32| gateway.ask("GET", "/events").field("last-event-id", &number.to_string());
    let sent: Vec<_> = (0..3).map(|number| tokio::spawn(Ask::open(ask(number)))).collect();
    // Whose turn it is may be another's, and that one's is no use to them.
    gateway.reaches("followers", 2).await;
    held.iter().for_each(crate::support::origin::Held::release);
    let mut clients = Vec::new();
    for client in sent {
        clients.push(client.await.unwrap());
    }
    for (number, content) in contents.iter().enumerate() {
        content.send(format!("data: {number}\n\n"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(next(client).await, format!("data: {number}\n\n"));
    }
    origin.saw("/events", 3);
}

/// What is not known to be endless may be.
#[tokio::test]
async fn who_comes_after_the_last_reader_has_left_gets_the_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).upstream("idle_timeout = \"300ms\"").start().await;
    let (reply, content) = pieces();
    origin.on("/lines").reply(reply.max_age(60));
    let mut client = Line::to(gateway.address()).await;
    client.send("GET /lines HTTP/1.1\r\nhost: a\r\n\r\n").await;
    content.send("first\n");
    client.until("first\n\r\n").await;
    client.leave().await;
    until("nobody reads", || gateway.connections().open == 0).await;
    content.send("more\n");
    let next = gateway.ask("GET", "/lines").field("host", "a").send();
    let coming = async {
        until("it has joined", || gateway.figure("followers") == 1).await;
        for _ in 0..16 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            content.send(".");
        }
        content.end();
    };
    let (got, ()) = tokio::join!(next, coming);
    got.body(&format!("first\nmore\n{}", ".".repeat(16)));
}

#[tokio::test]
async fn what_does_not_end_is_not_fetched_on_for_nobody() {
    for compress in ["", "compress = [\"gzip\"]"] {
        not_fetched_on_for_nobody(compress).await;
    }
}

async fn not_fetched_on_for_nobody(compress: &str) {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).upstream("idle_timeout = \"300ms\"");
    let gateway = gateway.route(compress).start().await;
    let (reply, content) = pieces();
    origin.on("/lines").reply(reply.field("content-type", "text/plain").max_age(60));
    let mut client = Line::to(gateway.address()).await;
    client.send("GET /lines HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n").await;
    content.send("first\n");
    client.until(if compress.is_empty() { "first\n\r\n" } else { "\r\n\r\n" }).await;
    client.leave().await;
    // It never falls silent.
    let sending = async {
        loop {
            content.send("more\n");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = sending => {}
        () = content.gone() => {}
    }
    assert_eq!(gateway.figure("stored"), 0);
    origin.on("/lines").reply(ok("whole").max_age(60));
    let again = gateway.ask("GET", "/lines").field("host", "a");
    again.send().await.body("whole").status("fwd=uri-miss; stored");
    until("the origin is asked again", || origin.count("/lines") == 2).await;
}
