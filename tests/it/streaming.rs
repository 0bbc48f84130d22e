//! Content is passed on as it comes, held within bounds, and never looks whole when it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::Open;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, flood, is_of_flood, ok, pieces, status};
use crate::support::raw::{RawOrigin, Step};
use crate::support::until;
use crate::support::wire::Line;

/// More than all the buffers between an origin and a client may hold together: the kernel's of two
/// connections, up to 10 MiB each.
const IN_FLIGHT: usize = 32 << 20;

/// Much more than that.
const LARGE: usize = 64 << 20;

async fn next(open: &mut Open) -> String {
    let piece = open.piece().await.expect("the content ended").expect("the content broke off");
    String::from_utf8(piece.to_vec()).unwrap()
}

#[tokio::test]
async fn the_first_piece_is_seen_while_the_origin_still_sends() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.max_age(60));

    let mut client = gateway.ask("GET", "/a").open().await;
    client.head().code(200).status("fwd=uri-miss; stored").lacks("content-length");
    content.send("one ");
    assert_eq!(next(&mut client).await, "one ");
    assert_eq!(gateway.figure("stored"), 0, "a part is not stored");
    content.send("two");
    assert_eq!(next(&mut client).await, "two");
    content.end();
    assert!(client.piece().await.is_none());

    gateway.get("/a").await.code(200).body("one two").status("hit").has("content-length", "7");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn what_may_not_be_stored_streams_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, method, field, expected) in [
        ("/private", "GET", ("cache-control", "private"), "fwd=uri-miss; detail=private"),
        ("/no-store", "GET", ("cache-control", "no-store"), "fwd=uri-miss; detail=no-store"),
        ("/cookie", "GET", ("set-cookie", "a=b"), "fwd=uri-miss; detail=set-cookie"),
        ("/post", "POST", ("cache-control", "max-age=60"), "fwd=method"),
        ("/change", "GET", ("cache-control", "max-age=60"), "fwd=bypass"),
    ] {
        let (reply, content) = pieces();
        origin.on(target).reply(reply.field(field.0, field.1));
        let mut ask = gateway.ask(method, target);
        if target == "/change" {
            ask = ask.field("if-match", "*");
        }
        let mut client = ask.open().await;
        client.head().code(200).status(expected);
        content.send("one ");
        assert_eq!(next(&mut client).await, "one ", "{target}");
        content.send("two");
        content.end();
        client.finish().await.unwrap().body("two");
        origin.saw(target, 1);
    }
    assert_eq!(gateway.figure("stored"), 0);
}

#[tokio::test]
async fn content_above_the_limit_streams_through_unstored() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"1KiB\"").start().await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.max_age(60));

    let mut client = gateway.ask("GET", "/a").open().await;
    // The head leaves before anyone can know.
    client.head().code(200).status("fwd=uri-miss; stored");
    content.send("a".repeat(1000));
    assert_eq!(next(&mut client).await.len(), 1000);
    content.send("b".repeat(1000));
    assert_eq!(next(&mut client).await, "b".repeat(1000));
    content.end();
    assert!(client.piece().await.is_none());

    origin.on("/a").reply(ok("small").max_age(60));
    gateway.get("/a").await.body("small").status("fwd=uri-miss; stored");
    origin.saw("/a", 2);
    assert_eq!(gateway.figure("stored"), 1);
}

#[tokio::test]
async fn the_limit_is_inclusive_and_a_length_above_it_is_seen_at_once() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"1KiB\"").start().await;
    origin.on("/fits").reply(ok("a".repeat(1024)).max_age(60));
    origin.on("/large").reply(ok("a".repeat(1025)).max_age(60));

    gateway.get("/fits").await.status("fwd=uri-miss; stored");
    gateway.get("/fits").await.body(&"a".repeat(1024)).status("hit");
    for _ in 0..2 {
        let got = gateway.get("/large").await.body(&"a".repeat(1025));
        got.status("fwd=uri-miss; detail=too-large").has("content-length", "1025");
    }
    origin.saw("/fits", 1);
    origin.saw("/large", 2);
}

#[tokio::test]
async fn content_that_breaks_off_is_not_stored_and_not_whole_for_anyone() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.max_age(60));

    let mut leader = gateway.ask("GET", "/a").open().await;
    let mut follower = gateway.ask("GET", "/a").open().await;
    let mut follower2 = gateway.ask("GET", "/a").http2().open().await;
    follower.head().status("fwd=uri-miss; collapsed");
    follower2.head().status("fwd=uri-miss; collapsed");
    content.send("half");
    for client in [&mut leader, &mut follower, &mut follower2] {
        assert_eq!(next(client).await, "half");
    }
    drop(content);
    for client in [leader, follower, follower2] {
        assert!(client.finish().await.is_err(), "a part looked whole");
    }

    origin.on("/a").reply(ok("whole").max_age(60));
    gateway.get("/a").await.body("whole").status("fwd=uri-miss; stored");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn content_above_the_limit_that_breaks_off_does_not_look_whole_either() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"1KiB\"").start().await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.max_age(60));
    let mut leader = gateway.ask("GET", "/a").open().await;
    let mut follower = gateway.ask("GET", "/a").open().await;
    follower.head().status("fwd=uri-miss; collapsed");
    content.send("a".repeat(2000));
    for client in [&mut leader, &mut follower] {
        assert_eq!(next(client).await.len(), 2000);
    }
    drop(content);
    for client in [leader, follower] {
        assert!(client.finish().await.is_err(), "a part looked whole");
    }
    assert_eq!(gateway.figure("stored"), 0);
    origin.saw("/a", 1);
}

#[tokio::test]
async fn a_connection_that_closes_within_the_content_is_noticed_however_it_is_framed() {
    for (what, answer) in [
        (
            "less than Content-Length",
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncache-control: max-age=60\r\n\r\n01234",
        ),
        (
            "no last chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncache-control: max-age=60\r\n\r\n\
             5\r\n01234\r\n",
        ),
        (
            "within a chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncache-control: max-age=60\r\n\r\n\
             a\r\n01234",
        ),
        (
            "no chunk at all",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncache-control: max-age=60\r\n\r\n\
             xyz",
        ),
        (
            "private, less than Content-Length",
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncache-control: private\r\n\r\n01234",
        ),
        (
            "private, no last chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncache-control: private\r\n\r\n\
             5\r\n01234\r\n",
        ),
    ] {
        let origin = RawOrigin::start(&[Step::Head, Step::Wait, Step::Send(answer)]).await;
        let gateway = Gateway::setup_before(&[origin.url()]).start().await;
        let ask = |http2: bool| {
            let ask = gateway.ask("GET", "/a");
            let ask = if http2 { ask.http2() } else { ask };
            tokio::spawn(ask.attempt())
        };
        let clients = [ask(false), ask(false), ask(true)];
        gateway.reaches("followers", 2).await;
        origin.release();
        for client in clients {
            assert!(client.await.unwrap().is_err(), "{what}: a part looked whole");
        }
        assert_eq!(gateway.figure("stored"), 0, "{what}");
        let asked = origin.heads().len();
        assert!(gateway.ask("GET", "/a").attempt().await.is_err(), "{what}");
        assert_eq!(origin.heads().len(), asked + 1, "{what}: the origin is asked again");
    }
}

#[tokio::test]
async fn silence_within_the_content_breaks_it_off() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).upstream("idle_timeout = \"200ms\"").start().await;
    for (target, cache_control) in [("/shared", "max-age=60"), ("/private", "private")] {
        let (reply, content) = pieces();
        origin.on(target).reply(reply.field("cache-control", cache_control));
        let mut client = gateway.ask("GET", target).open().await;
        content.send("half");
        assert_eq!(next(&mut client).await, "half");
        assert!(client.finish().await.is_err(), "{target}: a part looked whole");
        // The connection to the origin is given up, too.
        content.gone().await;

        origin.on(target).reply(ok("whole").max_age(60));
        gateway.get(target).await.body("whole").status("fwd=uri-miss; stored");
        origin.saw(target, 2);
    }
}

#[tokio::test]
async fn an_origin_is_not_asked_for_more_than_a_client_takes() {
    let origin = Origin::start().await;
    // A client that takes its time is no upstream that has fallen silent.
    let setup = Gateway::setup(&origin).upstream("idle_timeout = \"1s\"");
    let gateway = setup.route("max_body = \"64KiB\"").start().await;
    for (what, made, expected) in [
        ("known to be too large", flood(LARGE, true), "fwd=uri-miss; detail=too-large"),
        ("found to be too large", flood(LARGE, false), "fwd=uri-miss; stored"),
    ] {
        let (reply, left) = made;
        origin.on("/a").reply(reply.max_age(60));
        let client = gateway.ask("GET", "/a").open().await;
        client.head().code(200).status(expected);
        assert!(stands_still(&left).await < IN_FLIGHT, "{what}: nothing held the origin back");
        read_flood(client, Some(&left)).await;
        assert_eq!(left.load(Ordering::Relaxed), LARGE, "{what}");
    }
    origin.on("/a").reply(status(404).field("cache-control", "no-store"));
    gateway.get("/a").await.code(404);
    origin.saw("/a", 3);
}

#[tokio::test]
async fn what_may_not_be_stored_waits_for_the_client_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).upstream("idle_timeout = \"1s\"").start().await;
    let (reply, left) = flood(LARGE, false);
    origin.on("/a").reply(reply.field("cache-control", "no-store"));
    let client = gateway.ask("GET", "/a").open().await;
    client.head().code(200).status("fwd=uri-miss; detail=no-store");
    assert!(stands_still(&left).await < IN_FLIGHT, "nothing held the origin back");
    read_flood(client, Some(&left)).await;
}

#[tokio::test]
async fn a_fast_follower_is_not_held_up_by_a_slow_leader_while_the_content_fits() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"64MiB\"").start().await;
    let (reply, _) = flood(LARGE, false);
    let held = origin.on("/a").hold(reply.max_age(60));
    let slow = tokio::spawn(gateway.ask("GET", "/a").open());
    until("the origin is asked", || origin.count("/a") == 1).await;
    let fast = tokio::spawn(gateway.ask("GET", "/a").open());
    gateway.reaches("followers", 1).await;
    held.release();

    let (slow, fast) = (slow.await.unwrap(), fast.await.unwrap());
    fast.head().status("fwd=uri-miss; collapsed");
    read_flood(fast, None).await;
    gateway.reaches("stored", 1).await;
    slow.head().status("fwd=uri-miss; stored");
    read_flood(slow, None).await;
    gateway.get("/a").await.status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up_for_those_that_do() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).upstream("idle_timeout = \"200ms\"");
    let gateway = setup.route("max_body = \"64KiB\"").start().await;
    let (reply, left) = flood(LARGE, false);
    let held = origin.on("/a").hold(reply.max_age(60));
    let slow = tokio::spawn(gateway.ask("GET", "/a").open());
    until("the origin is asked", || origin.count("/a") == 1).await;
    let fast = tokio::spawn(gateway.ask("GET", "/a").open());
    gateway.reaches("followers", 1).await;
    held.release();

    let (slow, fast) = (slow.await.unwrap(), fast.await.unwrap());
    // It never stops reading, so it gets everything; and never much more is held than it has read.
    read_flood(fast, Some(&left)).await;
    assert!(slow.finish().await.is_err(), "a part looked whole");
    origin.saw("/a", 1);
    assert_eq!(gateway.figure("stored"), 0);
}

#[tokio::test]
async fn nothing_is_fetched_on_that_nobody_reads_and_that_is_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"1KiB\"").start().await;
    for (target, cache_control) in [("/private", "private"), ("/too-large", "max-age=60")] {
        let (reply, content) = pieces();
        origin.on(target).reply(reply.field("cache-control", cache_control));
        let mut client = Line::to(gateway.address()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await;
        content.send("a".repeat(2000) + "end");
        client.until("end\r\n").await;
        client.leave().await;
        // A shared fetch learns it when it has more to pass on.
        content.send("more");
        content.gone().await;
        origin.saw(target, 1);
    }
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_is_stored_when_it_is_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.max_age(60));
    let mut client = Line::to(gateway.address()).await;
    client.send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    content.send("one ");
    client.until("one \r\n").await;
    client.leave().await;

    content.send("two");
    content.end();
    gateway.reaches("stored", 1).await;
    gateway.ask("GET", "/a").field("host", "a").send().await.body("one two").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn an_older_client_gets_content_of_unknown_length_and_then_the_end_of_the_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.max_age(60));
    let mut client = Line::to(gateway.address()).await;
    client.send(b"GET /a HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n").await;
    content.send("one ");
    let head = client.until("one ").await.to_lowercase();
    assert!(!head.contains("transfer-encoding"), "{head}");
    content.send("two");
    content.end();
    assert_eq!(client.rest().await, "two");
}

/// Waits until a count has stood still for a while, and says at how much.
async fn stands_still(count: &Arc<AtomicUsize>) -> usize {
    let mut last = (usize::MAX, 0);
    until("the count stands still", || {
        let now = count.load(Ordering::Relaxed);
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        // Looks are two milliseconds apart, so this is longer than an `idle_timeout` of a second.
        last.1 == 600
    })
    .await;
    last.0
}

/// Reads a [`flood`] to its end. Every octet is the right one; where `left` counts them, never many
/// more have left the origin than have come.
async fn read_flood(mut client: Open, left: Option<&AtomicUsize>) {
    let mut read = 0;
    while let Some(piece) = client.piece().await {
        let piece = piece.expect("the content broke off");
        assert!(is_of_flood(&piece, read), "not what the origin sent, from {read} on");
        read += piece.len();
        if let Some(left) = left {
            let held = left.load(Ordering::Relaxed) - read;
            assert!(held < IN_FLIGHT, "{held} octets are on their way");
        }
    }
    assert_eq!(read, LARGE);
}
