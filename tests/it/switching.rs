//! Another protocol than HTTP on its connections: who may begin one, that what follows is passed on both
//! ways as it is, and that nothing of it is ever taken for a request.

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::program::Running;
use crate::support::raw::{RawOrigin, Step};
use crate::support::until;
use crate::support::wire::{Line, Wire};

/// What a client of WebSocket sends, without its end.
const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\n\
                   upgrade: WebSocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: k\r\n";

/// What a server answers that speaks it.
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                     upgrade: websocket\r\nsec-websocket-accept: proof\r\n\r\n";

/// A route with `upgrade`, and more lines for it.
fn setup(origin: &Origin, wire: &Wire, lines: &str) -> Setup {
    let routes = format!("{}upgrade = [\"websocket\"]\n{lines}\n", wire.routes());
    Gateway::setup(origin).routes(&routes)
}

/// A client and the origin, between which another protocol is spoken.
async fn switched(gateway: &Gateway, wire: &Wire) -> (Line, Line) {
    let mut client = Line::to(gateway.address()).await;
    client.send(format!("{ASK}\r\n")).await;
    let mut origin = wire.accept().await;
    origin.until("\r\n\r\n").await;
    origin.send(AGREE).await;
    client.until("\r\n\r\n").await;
    (client, origin)
}

#[tokio::test]
async fn what_follows_is_passed_on_both_ways_as_it_is() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = setup(&origin, &wire, "").start().await;
    let mut client = Line::to(gateway.address()).await;
    // RFC 9110 §7.8 lets a client begin before it has been agreed on; no reader of HTTP would take this.
    client.send(format!("{ASK}\r\n\n\nGET early\n\0")).await;
    let mut origin = wire.accept().await;
    let head = origin.until("\r\n\r\n").await;
    for line in [
        "GET /chat HTTP/1.1\r\n",
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-version: 13\r\n",
        "sec-websocket-key: k\r\n",
        "via: 1.1 larder\r\n",
    ] {
        assert!(head.contains(line), "{line:?} is not in {head}");
    }
    origin.send(format!("{AGREE}at once")).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-accept: proof\r\n",
        "via: 1.1 larder\r\n",
        "cache-status: larder; fwd=bypass; detail=upgrade\r\n",
    ] {
        assert!(head.contains(line), "{line:?} is not in {head}");
    }
    client.until("at once").await;
    assert_eq!(origin.until("early\n\0").await, "\n\nGET early\n\0");

    for turn in 0..10 {
        client.send(format!("GET /{turn} HTTP/1.1\n\r\n")).await;
        origin.until(&format!("GET /{turn} HTTP/1.1\n\r\n")).await;
        origin.send(format!("HTTP/1.1 100 {turn}\n")).await;
        client.until(&format!("HTTP/1.1 100 {turn}\n")).await;
    }
    // Who sends no more may go on reading.
    client.end().await;
    assert_eq!(origin.rest().await, "");
    origin.send("the last").await;
    drop(origin);
    assert_eq!(client.rest().await, "the last");
    assert_eq!(gateway.figure("upgrades"), 1);
    assert_eq!(gateway.figure("total_requests"), 1);
}

#[tokio::test]
async fn the_origin_may_end_first() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = setup(&origin, &wire, "").start().await;
    let (mut client, mut origin) = switched(&gateway, &wire).await;
    origin.end().await;
    assert_eq!(client.rest().await, "");
    client.send("the last").await;
    origin.until("the last").await;
    drop(client);
    assert_eq!(origin.rest().await, "");
}

#[tokio::test]
async fn a_refusal_is_an_answer_like_others() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = setup(&origin, &wire, "").start().await;
    let mut client = Line::to(gateway.address()).await;
    // What follows it is a request then.
    client.send(format!("{ASK}\r\nGET /next HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    let mut origin = wire.accept().await;
    origin.until("\r\n\r\n").await;
    origin.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno!").await;
    let answer = client.until("no!").await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("cache-status: larder; fwd=bypass; detail=upgrade\r\n"), "{answer}");
    // By the same connection.
    assert!(origin.until("\r\n\r\n").await.starts_with("GET /next HTTP/1.1\r\n"));
    origin.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
    let answer = client.until("yes").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(gateway.figure("upgrades"), 0);

    // It is read as strictly as if it had come alone.
    client.send(format!("{ASK}\r\nGET /next HTTP/1.1\nhost: a\r\n\r\n")).await;
    origin.until("\r\n\r\n").await;
    origin.send("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 1\r\n\r\n1").await;
    let answers = client.rest().await;
    assert!(answers.contains("\r\n\r\n1HTTP/1.1 400 Bad Request\r\n"), "{answers}");
    // Nor is it stored.
    assert_eq!(gateway.figure("stored"), 0);
}

#[tokio::test]
async fn what_comes_before_it_does_not_tell_what_follows_it() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = setup(&origin, &wire, "").start().await;
    for (before, end) in [
        ("GET /a HTTP/1.1\r\nhost: a\r\n\r\n", "\r\n\r\n"),
        // This one cannot be followed by another protocol.
        ("POST /a HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\nx", "\r\n\r\nx"),
    ] {
        let mut client = Line::to(gateway.address()).await;
        client.send(format!("{before}{ASK}\r\n\n\nearly")).await;
        let mut origin = wire.accept().await;
        origin.until(end).await;
        origin.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nyes").await;
        client.until("\r\n\r\nyes").await;
        let mut origin = wire.accept().await;
        origin.until("\r\n\r\n").await;
        origin.send(AGREE).await;
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{before}: {head}");
        assert_eq!(origin.until("early").await, "\n\nearly", "{before}");
    }
}

#[tokio::test]
async fn what_no_route_allows_is_not_asked_for() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let allowing = setup(&origin, &wire, "").start().await;
    let plain = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let ask = |upgrade: &str| ASK.replace("WebSocket", upgrade) + "\r\n";
    for (gateway, request) in [
        (&plain, ask("websocket")),
        (&allowing, ask("h2c")),
        (&allowing, ask("websocket").replace("Upgrade\r\n", "x\r\n")),
        (&allowing, ask("websocket").replace("HTTP/1.1", "HTTP/1.0")),
        (&allowing, ask("websocket").replace("GET", "POST")),
        (&allowing, format!("{ASK}content-length: 1\r\n\r\nx")),
    ] {
        let mut client = Line::to(gateway.address()).await;
        client.send(&request).await;
        let mut origin = wire.accept().await;
        let head = origin.until("\r\n\r\n").await.to_lowercase();
        let names = head.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
        assert!(names.into_iter().all(|name| !["connection", "upgrade"].contains(&name)), "{head}");
        // Then nobody may answer so.
        origin.send(AGREE).await;
        let answer = client.until("}").await;
        assert!(answer.contains(" 502 Bad Gateway\r\n"), "{request}\n{answer}");
        assert_eq!(origin.rest().await.trim_start_matches('x'), "");
    }
}

#[tokio::test]
async fn an_origin_that_agrees_to_something_else_is_left() {
    let asked = format!("{ASK}\r\n");
    for agreed in [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket, h2c\r\n\r\n",
    ] {
        let (origin, wire) = (Origin::start().await, Wire::start().await);
        let gateway = setup(&origin, &wire, "").start().await;
        let mut client = Line::to(gateway.address()).await;
        client.send(&asked).await;
        let mut origin = wire.accept().await;
        origin.until("\r\n\r\n").await;
        origin.send(agreed).await;
        let answer = client.until("}").await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
        assert_eq!(origin.rest().await, "");
    }
}

#[tokio::test]
async fn it_is_asked_for_once() {
    let broken = [RawOrigin::start(&[Step::Head]).await, RawOrigin::start(&[Step::Head]).await];
    let urls = broken.each_ref().map(RawOrigin::url);
    let setup = Gateway::setup_before(&urls).upstream("retries = { statuses = \"502\" }");
    let gateway = setup.route("upgrade = [\"websocket\"]").start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send(format!("{ASK}\r\n")).await;
    let answer = client.until("}").await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    assert_eq!(broken.iter().map(|origin| origin.heads().len()).sum::<usize>(), 1);
}

#[tokio::test]
async fn it_is_in_flight_until_it_ends() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let routes = wire.routes().replace("\n\n", "\nmax_requests = 1\nmax_waiting = 0\n\n");
    let routes = format!("{routes}upgrade = [\"websocket\"]\n");
    let gateway = Gateway::setup(&origin).routes(&routes).start().await;
    let (mut client, mut origin) = switched(&gateway, &wire).await;
    gateway.get("/a").await.code(503).status("fwd=uri-miss; detail=upstream-busy");
    client.end().await;
    assert_eq!(origin.rest().await, "");
    // It may still send.
    gateway.get("/a").await.code(503).status("fwd=uri-miss; detail=upstream-busy");
    drop(origin);
    assert_eq!(client.rest().await, "");
    let answer = tokio::spawn(gateway.ask("GET", "/a").send());
    let mut origin = wire.accept().await;
    origin.until("\r\n\r\n").await;
    origin.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    answer.await.unwrap().code(204);
}

#[tokio::test]
async fn its_connection_counts_until_it_ends() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let setup = setup(&origin, &wire, "").server("workers = 1\nmax_connections = 1");
    let gateway = setup.start().await;
    let (mut client, mut origin) = switched(&gateway, &wire).await;
    let mut waiting = Line::to(gateway.address()).await;
    waiting.send("GET /nowhere HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    client.send("there?").await;
    origin.until("there?").await;
    assert_eq!(gateway.figure("total_requests"), 1);
    drop(origin);
    client.leave().await;
    assert!(waiting.rest().await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn silence_ends_it_for_both() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = setup(&origin, &wire, "upgrade_idle_timeout = \"200ms\"").start().await;
    let (mut client, mut origin) = switched(&gateway, &wire).await;
    for _ in 0..4 {
        // Together they take longer than the limit, and each much less.
        tokio::time::sleep(std::time::Duration::from_millis(80)).await;
        origin.send("x").await;
        client.until("x").await;
    }
    assert_eq!(client.rest().await, "");
    assert_eq!(origin.rest().await, "");
}

#[tokio::test]
async fn who_breaks_off_breaks_it_off_for_the_other() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = setup(&origin, &wire, "").start().await;
    let (client, mut origin) = switched(&gateway, &wire).await;
    client.reset();
    assert_eq!(origin.rest().await, "");
    let (mut client, origin) = switched(&gateway, &wire).await;
    origin.reset();
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn nothing_is_held_beyond_what_the_other_side_takes() {
    /// Much more than the kernel's buffers of two connections may hold, 10 MiB each.
    const LARGE: usize = 64 << 20;

    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = setup(&origin, &wire, "").start().await;
    let (mut client, mut origin) = switched(&gateway, &wire).await;
    let sent = client.flood(LARGE).await;
    assert!(sent < LARGE / 2, "{sent} octets were taken that nobody reads");
    assert_eq!(origin.skim(sent).await, sent);
    let sent = origin.flood(LARGE).await;
    assert!(sent < LARGE / 2, "{sent} octets were taken that nobody reads");
    assert_eq!(client.skim(sent).await, sent);
}

#[tokio::test]
async fn the_drain_waits_for_it_and_then_tells_both() {
    for drain in ["400ms", "1h"] {
        let wire = Wire::start().await;
        let larder = Running::with(&format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndrain = \"{drain}\"\n{}upgrade = [\"websocket\"]\n",
            wire.routes()
        ))
        .await;
        let mut client = Line::to(larder.address()).await;
        client.send(format!("{ASK}\r\n")).await;
        let mut origin = wire.accept().await;
        origin.until("\r\n\r\n").await;
        origin.send(AGREE).await;
        client.until("\r\n\r\n").await;
        larder.signal("TERM");
        client.send("still there?").await;
        origin.until("still there?").await;
        if drain == "1h" {
            drop(origin);
        } else {
            assert_eq!(origin.rest().await, "");
        }
        assert_eq!(client.rest().await, "");
        drop(client);
        assert_eq!(larder.exit_code().await, Some(0), "{drain}");
    }
}

#[tokio::test]
async fn a_connection_that_was_not_switched_is_used_again() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("upgrade = [\"websocket\"]").start().await;
    origin.on("/chat").reply(ok("1").max_age(60));
    origin.on("/a").reply(ok("2").max_age(60));
    let mut client = Line::to(gateway.address()).await;
    for _ in 0..3 {
        client.send(format!("{ASK}\r\n")).await;
        client.until("\r\n\r\n1").await;
        client.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
        client.until("\r\n\r\n2").await;
    }
    origin.saw("/chat", 3);
    origin.saw("/a", 1);
    // A client that goes away while it waits is noticed.
    let gate = origin.on("/chat").hold(ok("late"));
    client.send(format!("{ASK}\r\n")).await;
    until("the origin is asked", || origin.count("/chat") == 4).await;
    client.leave().await;
    gate.release();
}
