//! Floods of frames of HTTP/2: they end their connection, and nobody else notices.

use crate::support::client::Ask;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, request,
};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::program::Running;
use crate::support::until;
use crate::support::wire::Wire;

/// So many times a flood is sent at most.
const MOST: u32 = 200_000;

/// A GET, or the beginning of a POST, on the stream of this turn.
fn begin(turn: u32, method: &str, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags, 2 * turn + 1, &request(method, "/a"))
}

/// What is sent first, and then again and again.
type Flood = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>);

fn floods() -> Vec<Flood> {
    let post = begin(0, "POST", END_HEADERS);
    vec![
        ("rapid reset", Vec::new(), |turn| {
            let get = begin(turn, "GET", END_HEADERS | END_STREAM);
            [get, frame(RST_STREAM, 0, 2 * turn + 1, &[0, 0, 0, 8])].concat()
        }),
        ("continuation", begin(0, "GET", END_STREAM), |_| {
            frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b")
        }),
        ("empty continuation", begin(0, "GET", END_STREAM), |_| frame(CONTINUATION, 0, 1, &[])),
        ("empty data", post.clone(), |_| frame(DATA, 0, 1, &[])),
        ("padded data", post, |_| frame(DATA, 8, 1, &[1, 0])),
        ("settings", Vec::new(), |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("acknowledged settings", Vec::new(), |_| frame(SETTINGS, 1, 0, &[])),
        ("ping", Vec::new(), |_| frame(PING, 0, 0, b"01234567")),
        ("acknowledged ping", Vec::new(), |_| frame(PING, 1, 0, b"01234567")),
        ("priority", Vec::new(), |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        ("window update", Vec::new(), |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", Vec::new(), |_| frame(99, 0, 0, &[])),
    ]
}

#[tokio::test]
async fn a_flood_ends_its_connection_alone_and_takes_no_memory() {
    let origin = Origin::start().await;
    let larder = Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[upstreams.origin]\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        origin.url()
    ))
    .await;
    origin.on("/a").reply(ok("1").field("cache-control", "no-store"));
    origin.on("/b").reply(ok("2").max_age(60));
    let other = || Ask::new(larder.address(), "GET", "/b").http2().send();
    other().await.body("2");
    let before = larder.memory("VmRSS");
    for (what, first, flood) in floods() {
        let mut client = Frames::to(larder.address()).await;
        client.send(&first).await;
        let mut turn = 0;
        while turn < MOST {
            let octets: Vec<u8> = (turn..turn + 100).flat_map(flood).collect();
            turn += 100;
            if !client.send(&octets).await {
                break;
            }
        }
        assert!(turn < MOST, "{what}: all of it was taken");
        let came = client.ended().await;
        // A reset may overtake what was sent before it.
        let is_told = came.iter().any(|frame| frame.kind == GOAWAY);
        assert!(is_told || !came.is_empty(), "{what}: {came:?}");
        other().await.code(200).body("2").status("hit");
    }
    let after = larder.memory("VmRSS");
    assert!(after < before + 32, "{before} MiB became {after}");
}

/// Content in very small pieces, as messages may be, that waits for its upstream within the window.
#[tokio::test]
async fn small_frames_that_nobody_takes_yet_are_no_flood() {
    let wire = Wire::start().await;
    let gateway = Gateway::setup(&Origin::start().await).routes(&wire.routes()).start().await;
    let mut client = Frames::to(gateway.address()).await;
    client.send(&begin(0, "POST", END_HEADERS)).await;
    // It takes what lies in the buffers of the kernel.
    let origin = wire.accept().await;
    let pieces: Vec<u8> = (0..6000).flat_map(|_| frame(DATA, 0, 1, b"a")).collect();
    assert!(client.send(&pieces).await);
    client.send(&frame(PING, 0, 0, b"01234567")).await;
    let came = client.until(PING).await;
    assert!(came.iter().all(|frame| frame.kind != GOAWAY), "{came:?}");
    drop(origin);
}

#[tokio::test]
async fn a_connection_may_take_back_as_many_requests_as_its_operator_allows() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 1\nmax_resets = 3").start().await;
    let gates: Vec<_> = (0..6).map(|n| origin.on(&format!("/{n}")).hold(ok("late"))).collect();
    let mut client = Frames::to(gateway.address()).await;
    for turn in 0..6_u32 {
        let get = request("GET", &format!("/{turn}"));
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * turn + 1, &get)).await;
    }
    until("all are asked for", || origin.asked().len() == 6).await;
    for turn in 0..6_u32 {
        client.send(&frame(RST_STREAM, 0, 2 * turn + 1, &[0, 0, 0, 8])).await;
        client.send(&frame(PING, 0, 0, &u64::from(turn).to_be_bytes())).await;
    }
    // Three are half of six, and three are allowed besides.
    client.send(&frame(RST_STREAM, 0, 11, &[0, 0, 0, 8])).await;
    let came = client.ended().await;
    let pings = came.iter().filter(|frame| frame.kind == PING).count();
    let goaway = came.iter().find(|frame| frame.kind == GOAWAY).expect("it is told");
    assert_eq!((pings, &goaway.content[4..8]), (6, &[0, 0, 0, 1][..]));
    drop(gates);
}

#[tokio::test]
async fn a_drain_tells_its_clients_and_answers_them() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 1\nmax_streams = 5").start().await;
    let gate = origin.on("/a").hold(ok("late"));
    let mut client = Frames::to(gateway.address()).await;
    client.send(&begin(0, "GET", END_HEADERS | END_STREAM)).await;
    until("the origin is asked", || origin.count("/a") == 1).await;
    let draining = tokio::spawn(gateway.drain());
    let mut came = client.until(PING).await;
    assert!(came.iter().any(|frame| frame.kind == GOAWAY), "{came:?}");
    // It has read that: what it sends from now on is not taken.
    let ping = came.last().unwrap().content.clone();
    client.send(&frame(PING, 1, 0, &ping)).await;
    gate.release();
    came.extend(client.ended().await);
    let has = |kind: u8| came.iter().filter(|frame| frame.kind == kind).count();
    assert!(has(GOAWAY) >= 1 && has(HEADERS) == 1, "{came:?}");
    let content = came.iter().filter(|frame| frame.kind == DATA).flat_map(|it| it.content.clone());
    assert_eq!(content.collect::<Vec<_>>(), b"late");
    // SETTINGS_MAX_CONCURRENT_STREAMS.
    let settings = came.iter().find(|frame| frame.kind == SETTINGS).unwrap();
    assert!(settings.content.chunks(6).any(|it| it == [0, 3, 0, 0, 0, 5]), "{settings:?}");
    drop(client);
    draining.await.unwrap();
}
