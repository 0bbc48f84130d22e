//! How the program ends: what runs is answered, nothing new is taken, and the exit code tells.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::time::sleep;

use larder::server::Drained;

use crate::support::client::{Ask, Http2};
use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PREFACE, SETTINGS,
    WINDOW_UPDATE, frame, request,
};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, pieces, status};
use crate::support::pki::{Pki, run};
use crate::support::program::Running;
use crate::support::redis::Redis;
use crate::support::wire::Line;
use crate::support::{PATIENCE, secs, until};

const STOPPING: &str = "stopping: no more connections";

async fn larder(origin: &Origin, drain: &str) -> Running {
    with_tables(origin, drain, "").await
}

/// With more tables.
async fn with_tables(origin: &Origin, drain: &str, tables: &str) -> Running {
    Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndrain = \"{drain}\"\nworkers = 2\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n{tables}\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        origin.url()
    ))
    .await
}

async fn asked(origin: &Origin, target: &str) {
    until("the origin is asked", || origin.count(target) > 0).await;
}

#[tokio::test]
async fn what_runs_is_answered_and_nothing_new_is_taken() {
    for signal in ["TERM", "INT"] {
        let origin = Origin::start().await;
        let mut larder = larder(&origin, "30s").await;
        let (reply, content) = pieces();
        origin.on("/body").reply(reply.max_age(60));
        let gate = origin.on("/head").hold(ok("late").max_age(60));
        let write_gate = origin.on("/write").hold(status(204));
        let mut body = Ask::new(larder.address(), "GET", "/body").open().await;
        content.send("one ");
        assert_eq!(body.piece().await.unwrap().unwrap(), "one ");
        let head = tokio::spawn(Ask::new(larder.address(), "GET", "/head").send());
        let write = tokio::spawn(Ask::new(larder.address(), "PUT", "/write").send());
        let client = Http2::to(larder.address()).await;
        let stream = tokio::spawn(client.get("/head"));
        for target in ["/head", "/write"] {
            asked(&origin, target).await;
        }
        // The stream waits for the same response.
        is_counted(&larder, "followers").await;

        larder.signal(signal);
        larder.says(STOPPING).await;
        refuses(&larder).await;
        gate.release();
        write_gate.release();
        content.send("two");
        content.end();
        body.finish().await.unwrap().body("two").status("fwd=uri-miss; stored");
        let head = head.await.unwrap().code(200).body("late");
        head.has("connection", "close");
        stream.await.unwrap().code(200).body("late");
        write.await.unwrap().code(204).status("fwd=method");
        assert_eq!(larder.exit_code().await, Some(0), "{signal}");
    }
}

/// Waits until a figure is not 0.
async fn is_counted(larder: &Running, name: &str) {
    figures(larder, name, |all| all[name].as_u64().unwrap() > 0).await;
}

/// Waits until it holds of what `GET /stats` answers.
async fn figures(larder: &Running, what: &str, holds: impl Fn(&Value) -> bool) {
    let asking = async { while !holds(&larder.stats().await) {} };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no `{what}`"));
}

/// Waits until nobody listens there any more.
async fn refuses(larder: &Running) {
    let trying = async {
        while TcpStream::connect(larder.address()).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("it still takes connections");
}

/// Each connection of a client has a thread of its own here, and that of the first also drives the only
/// connection to the upstream.
#[tokio::test]
async fn a_thread_that_has_nothing_left_to_do_stays_for_the_others() {
    let origin = Origin::start().await;
    let mut larder = larder(&origin, "30s").await;
    origin.on("/first").reply(status(204));
    let (reply, content) = pieces();
    origin.on("/body").reply(reply);
    let mut first = Line::to(larder.address()).await;
    first.send(b"PUT /first HTTP/1.1\r\nhost: a\r\n\r\n").await;
    first.until("\r\n\r\n").await;
    let mut body = Ask::new(larder.address(), "POST", "/body").open().await;
    content.send("one ");
    assert_eq!(body.piece().await.unwrap().unwrap(), "one ");

    larder.signal("TERM");
    larder.says(STOPPING).await;
    assert_eq!(first.rest().await, "");
    content.send("two");
    content.end();
    body.finish().await.unwrap().body("two");
    assert_eq!(larder.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_ends_first() {
    let origin = Origin::start().await;
    let mut larder = larder(&origin, "30s").await;
    let gate = origin.on("/a").hold(status(204));
    let mut client = Line::to(larder.address()).await;
    client.send(b"DELETE /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    asked(&origin, "/a").await;
    client.leave().await;
    larder.signal("TERM");
    larder.says(STOPPING).await;
    gate.release();
    larder.says("stopped, every request was answered").await;
    assert_eq!(larder.exit_code().await, Some(0));
}

#[tokio::test]
async fn what_takes_longer_than_the_drain_is_broken_off() {
    let origin = Origin::start().await;
    let mut larder = larder(&origin, "300ms").await;
    let (reply, content) = pieces();
    origin.on("/body").reply(reply.max_age(60));
    let _gate = origin.on("/head").hold(ok("never"));
    let mut body = Ask::new(larder.address(), "GET", "/body").open().await;
    content.send("half");
    assert_eq!(body.piece().await.unwrap().unwrap(), "half");
    let head = tokio::spawn(Ask::new(larder.address(), "GET", "/head").attempt());
    asked(&origin, "/head").await;

    larder.signal("TERM");
    assert!(body.finish().await.is_err(), "a part looked whole");
    assert!(head.await.unwrap().is_err());
    larder.says("stopped, requests that were still running were broken off").await;
    assert_eq!(larder.exit_code().await, Some(3));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let origin = Origin::start().await;
        // Longer than the test would wait.
        let mut larder = larder(&origin, "1h").await;
        let _gate = origin.on("/a").hold(ok("never"));
        let client = tokio::spawn(Ask::new(larder.address(), "GET", "/a").attempt());
        asked(&origin, "/a").await;
        larder.signal(first);
        larder.says(STOPPING).await;
        larder.signal(second);
        assert!(client.await.unwrap().is_err());
        assert_eq!(larder.exit_code().await, Some(3));
    }
}

#[tokio::test]
async fn a_redis_that_hangs_does_not_hold_the_drain() {
    for (drain, signals) in [("100ms", &["TERM"][..]), ("1h", &["TERM", "INT"])] {
        let (origin, redis) = (Origin::start().await, Redis::start());
        let l2 = format!("[cache.l2]\nredis = \"{}\"\ntimeout = \"10s\"\n", redis.url());
        let mut larder = with_tables(&origin, drain, &l2).await;
        let is_used = |l2: &Value| l2["up"] == true && l2["log_in_step"] == true;
        figures(&larder, "L2 in use", |all| is_used(&all["store"]["l2"])).await;
        origin.on("/a").reply(ok("1").max_age(60));
        let ask = || Ask::new(larder.address(), "GET", "/a");
        ask().send().await.body("1").status("fwd=uri-miss; stored");
        figures(&larder, "write", |all| all["store"]["l2"]["writing"] == 0).await;

        // It takes a write ten seconds to find out that nobody answers.
        redis.hold();
        let again = ask().field("cache-control", "no-cache").send().await;
        again.body("1").status("fwd=request; stored");
        figures(&larder, "write on its way", |all| all["store"]["l2"]["writing"] == 1).await;
        for signal in signals {
            larder.signal(signal);
        }
        larder.says("stopped, every request was answered").await;
        assert_eq!(larder.exit_code().await, Some(0), "{drain}, {signals:?}");
    }
}

/// Whether a process has something to do on the signals HUP and TERM.
fn catches_signals(process: u32) -> bool {
    const BOTH: u64 = 1 | (1 << 14);

    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & BOTH == BOTH
}

/// As where a file system hangs, or plugins take their time to be compiled.
#[tokio::test]
async fn one_that_is_told_to_stop_while_it_reads_its_file_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody will write what it reads.
    let file = folder.path().join("gateway.toml");
    assert!(Command::new("mkfifo").arg(&file).status().await.unwrap().success());
    let larder = Command::new(env!("CARGO_BIN_EXE_larder"))
        .arg("run")
        .current_dir(folder.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let process = larder.id().unwrap();
    until("it catches signals", || catches_signals(process)).await;
    // The first is to read the file again, and does not end it.
    for signal in ["HUP", "TERM"] {
        let sent = Command::new("kill").args(["-s", signal, &process.to_string()]).status().await;
        assert!(sent.unwrap().success(), "{signal}");
    }
    let ended = tokio::time::timeout(PATIENCE, larder.wait_with_output()).await;
    let ended = ended.expect("it never ends").unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{told}");
    assert!(told.contains("stopped before it began"), "{told}");
}

/// Stands before the C library: a resolver that answers after a minute. It leaves a file when it is asked.
const HANGS: &str = r#"
#include <fcntl.h>
#include <netdb.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    close(open("asked", O_CREAT | O_WRONLY, 0600));
    for (unsigned left = 60; left > 0;)
        left = sleep(left);
    return EAI_AGAIN;
}
"#;

#[tokio::test]
async fn a_look_up_that_hangs_does_not_hold_the_drain() {
    let folder = tempfile::tempdir().unwrap();
    let at = |file: &str| folder.path().join(file).display().to_string();
    let (source, library) = (at("hangs.c"), at("hangs.so"));
    std::fs::write(&source, HANGS).unwrap();
    assert_eq!(run("cc", &["-shared", "-fPIC", "-o", &library, &source]).await, "");
    let toml = "[server]\nlisten = \"127.0.0.1:0\"\ndrain = \"1s\"\n\
         [upstreams.origin]\nservers = [\"http://api.test\"]\nresolve = false\n\
         connect_timeout = \"30s\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n";
    let mut larder = Running::with_variables(toml, &[("LD_PRELOAD", library.as_str())]).await;
    let mut client = Line::to(larder.address()).await;
    client.send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let asked = larder.folder().join("asked");
    until("the name is looked up", || asked.exists()).await;
    larder.signal("TERM");
    larder.says(STOPPING).await;
    let ended = tokio::time::timeout(secs(20), larder.exit_code()).await;
    assert_eq!(ended.expect("it waits for the name"), Some(3));
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_drain() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let larder = larder(&origin, "1h").await;
    let mut used = Line::to(larder.address()).await;
    used.send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    used.until("\r\n\r\n1").await;
    let mut unused = Line::to(larder.address()).await;
    let http2 = Http2::to(larder.address()).await;
    http2.get("/a").await.body("1");
    let mut operator = Line::to(larder.admin()).await;
    operator.send(b"GET /stats HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    operator.until("}").await;

    larder.signal("TERM");
    assert_eq!(used.rest().await, "");
    assert_eq!(unused.rest().await, "");
    http2.ended().await;
    assert_eq!(larder.exit_code().await, Some(0));
}

/// Over TLS it is known that HTTP/2 is spoken before its preface comes.
#[tokio::test]
async fn http2_that_has_not_begun_does_not_hold_the_drain() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("shop", &["shop.example"], "shop");
    let lines = format!("drain = \"1h\"\nheader_timeout = \"1h\"\n{}", pki.tls("shop"));
    let gateway = Gateway::setup(&origin).server(&lines).start().await;
    let _stream = pki.connect(gateway.address(), "shop.example", "h2").await.unwrap();
    let drained = tokio::time::timeout(PATIENCE, gateway.drain()).await;
    assert_eq!(drained.expect("it goes on"), Drained::All);
}

#[tokio::test]
async fn a_client_of_http2_that_is_not_heard_any_more_does_not_hold_the_drain() {
    let origin = Origin::start().await;
    let lines = "workers = 1\ndrain = \"1h\"\nheader_timeout = \"2s\"\nsend_timeout = \"1h\"";
    let gateway = Gateway::setup(&origin).server(lines).start().await;
    origin.on("/a").reply(ok("1"));
    let mut client = Frames::to(gateway.address()).await;
    let get = request("GET", "/a");
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get)).await;
    let (mut has_all, mut answered) = (false, 0);
    // One may have been asked while the response was on its way. By the answer to the other the gateway knows that it
    // was read.
    while answered < 2 {
        let came = client.next().await.expect("it is asked whether it is there");
        has_all |= came.kind == DATA && came.flags & END_STREAM > 0;
        if came.kind == PING {
            client.send(&frame(PING, ACK, 0, &came.content)).await;
            answered += usize::from(has_all);
        }
    }
    let draining = tokio::spawn(gateway.drain());
    // By an answer to this PING it would say that it has read GOAWAY.
    let came = client.ended().await;
    for kind in [GOAWAY, PING] {
        assert!(came.iter().any(|frame| frame.kind == kind), "{came:?}");
    }
    drop(client);
    assert_eq!(draining.await.unwrap(), Drained::All);
}

/// It was not asked whether it has read the response, and never says so.
#[tokio::test]
async fn a_client_of_http2_that_never_says_anything_does_not_take_all_of_the_drain() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 1\ndrain = \"8s\"").start().await;
    origin.on("/a").reply(ok("1"));
    let mut client = Frames::to(gateway.address()).await;
    let get = request("GET", "/a");
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get)).await;
    while client.until(DATA).await.last().unwrap().flags & END_STREAM == 0 {}
    assert_eq!(gateway.drain().await, Drained::All);
    drop(client);
}

/// The gateway's kernel takes it at once, and that of a [`Slow`] little of it.
const LARGE: usize = 200_000;

/// A client of HTTP/2 that opens large windows, and takes what comes by small pieces.
struct Slow {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Slow {
    /// It asks for `/a`.
    async fn asks(gateway: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(gateway).await.unwrap();
        let window = 0x3fff_ffff_u32.to_be_bytes();
        let begin = [
            PREFACE.to_vec(),
            // SETTINGS_INITIAL_WINDOW_SIZE.
            frame(SETTINGS, 0, 0, &[&[0_u8, 4][..], &window].concat()),
            frame(WINDOW_UPDATE, 0, 0, &window),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/a")),
        ];
        stream.write_all(&begin.concat()).await.unwrap();
        Self { stream, came: Vec::new() }
    }

    async fn takes_a_piece(&mut self) {
        let mut piece = [0; 4096];
        let reading = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await;
        let count = reading.expect("nothing comes").unwrap_or_default();
        assert!(count > 0, "it ended after {} octets", self.came.len());
        self.came.extend_from_slice(&piece[..count]);
    }

    /// To the end of the response. It says so after each piece.
    async fn takes_all(&mut self) {
        let update = frame(WINDOW_UPDATE, 0, 0, &4096_u32.to_be_bytes());
        while self.content(DATA).len() < LARGE {
            self.takes_a_piece().await;
            self.stream.write_all(&update).await.unwrap();
        }
    }

    /// Of the frames of a kind that came.
    fn content(&self, kind: u8) -> Vec<u8> {
        let (mut content, mut left) = (Vec::new(), &self.came[..]);
        while let Some((&[a, b, c, this, ..], rest)) = left.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some((octets, rest)) = rest.split_at_checked(length) else { break };
            if this == kind {
                content.extend_from_slice(octets);
            }
            left = rest;
        }
        content
    }
}

#[tokio::test]
async fn a_drain_leaves_a_client_of_http2_its_time_to_take_what_was_written() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 1\ndrain = \"1h\"").start().await;
    origin.on("/a").reply(ok(vec![b'x'; LARGE]));
    let mut client = Slow::asks(gateway.address()).await;
    while client.content(HEADERS).is_empty() {
        client.takes_a_piece().await;
    }
    let draining = tokio::spawn(gateway.drain());
    // Longer than one has that has read all.
    sleep(Duration::from_secs(3)).await;
    client.takes_all().await;
    drop(client);
    assert_eq!(draining.await.unwrap(), Drained::All);
}

/// It has read GOAWAY, so its connection is closed once the response is written.
#[tokio::test]
async fn a_client_of_http2_takes_what_was_written_before_its_connection_was_closed() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 1\ndrain = \"1h\"").start().await;
    let gate = origin.on("/a").hold(ok(vec![b'x'; LARGE]));
    let mut client = Slow::asks(gateway.address()).await;
    asked(&origin, "/a").await;
    let draining = tokio::spawn(gateway.drain());
    while client.content(PING).is_empty() {
        client.takes_a_piece().await;
    }
    let answer = frame(PING, ACK, 0, &client.content(PING));
    client.stream.write_all(&answer).await.unwrap();
    gate.release();
    sleep(Duration::from_millis(100)).await;
    client.takes_all().await;
    drop(client);
    assert_eq!(draining.await.unwrap(), Drained::All);
}

#[tokio::test]
async fn a_request_that_never_ends_its_head_holds_the_drain_no_longer_than_its_own_limit() {
    let origin = Origin::start().await;
    let larder = Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndrain = \"1h\"\nheader_timeout = \"300ms\"\n\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        origin.url()
    ))
    .await;
    let mut client = Line::to(larder.address()).await;
    client.send(b"GET /a HTTP/1.1\r\nhost").await;
    larder.signal("TERM");
    client.rest().await;
    assert_eq!(larder.exit_code().await, Some(0));
    assert!(origin.asked().is_empty());
}
