//! Content on its way to an upstream: not asked for before it is wanted, and no more of it taken than the
//! upstream takes. And by HTTP/2, no more of a response than its client takes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::server::Drained;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::client::raw;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, flood, status};
use crate::support::pki::run;
use crate::support::raw::{RawOrigin, Step};
use crate::support::until;
use crate::support::wire::{Line, Wire};

/// Much more than the kernel's buffers of two connections may hold, 10 MiB each.
const LARGE: usize = 64 << 20;

const EXPECTS: &str =
    "POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

async fn setup(wire: &Wire) -> Setup {
    Gateway::setup(&Origin::start().await).routes(&wire.routes())
}

/// RFC 9110 §10.1.1: "the client … will wait for … a 100 (Continue) response".
#[tokio::test]
async fn content_is_asked_for_when_the_upstream_asks_for_it() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send(EXPECTS).await;
    let mut origin = wire.accept().await;
    let head = origin.until("\r\n\r\n").await;
    assert!(head.contains("expect: 100-continue\r\n"), "{head}");
    // Nothing has come before this.
    origin.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await;
    let hints = client.until("\r\n\r\n").await;
    assert!(hints.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{hints}");
    origin.send(CONTINUE).await;
    assert_eq!(client.until("\r\n\r\n").await, CONTINUE);
    client.send("hello").await;
    origin.until("hello").await;
    origin.send("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    let answer = client.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    // Both connections go on.
    client.send(EXPECTS).await;
    origin.until("\r\n\r\n").await;
}

/// A request with content that is still to come, over a connection of HTTP/2.
async fn begun(
    gateway: &Gateway,
    fields: &[(&str, &str)],
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    // It ends with its last stream.
    tokio::spawn(connection);
    let request = Request::post(format!("http://{}/a", gateway.address()));
    let add =
        |request: http::request::Builder, field: &(&str, &str)| request.header(field.0, field.1);
    let request = fields.iter().fold(request, add).body(()).unwrap();
    client.send_request(request, false).unwrap()
}

#[tokio::test]
async fn by_http2_content_is_asked_for_when_the_upstream_asks_for_it() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    for length in ["5", ""] {
        let fields = [("expect", "100-continue"), ("content-length", length)];
        let count = if length.is_empty() { 1 } else { 2 };
        let (mut answer, mut content) = begun(&gateway, &fields[..count]).await;
        let mut origin = wire.accept().await;
        let head = origin.until("\r\n\r\n").await;
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        for (sent, code) in
            [("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", 103), (CONTINUE, 100)]
        {
            origin.send(sent).await;
            let interim = poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!(interim.status(), code);
            assert_eq!(interim.headers().contains_key("link"), code == 103);
        }
        content.send_data("hello".into(), true).unwrap();
        origin.until("hello").await;
        origin.send("HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        assert_eq!(answer.await.unwrap().status(), 201);
    }
}

/// What looks whole to the upstream is done.
#[tokio::test]
async fn by_http2_content_that_is_taken_back_is_not_whole() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let (_answer, mut content) = begun(&gateway, &[]).await;
        let mut origin = wire.accept().await;
        content.send_data("hello".into(), false).unwrap();
        origin.until("hello\r\n").await;
        content.send_reset(reason);
        assert_eq!(origin.rest().await, "", "{reason}");
    }
}

#[tokio::test]
async fn an_upstream_may_answer_without_the_content() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    for answer in [
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno!",
        "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let mut client = Line::to(gateway.address()).await;
        client.send(EXPECTS).await;
        let mut origin = wire.accept().await;
        origin.until("\r\n\r\n").await;
        origin.send(answer).await;
        // What would come on either connection might be content, or a request.
        let got = client.rest().await;
        assert!(got.starts_with(answer.split('\r').next().unwrap()), "{got}");
        assert!(!got.contains(" 100 ") && got.contains("no!") == answer.contains("no!"), "{got}");
        assert_eq!(origin.rest().await, "");
    }
}

#[tokio::test]
async fn an_upstream_that_never_asks_gets_it_after_a_while() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send(EXPECTS).await;
    let mut origin = wire.accept().await;
    origin.until("\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, CONTINUE);
    client.send("hello").await;
    origin.until("hello").await;
}

#[tokio::test]
async fn content_that_is_sent_unasked_waits() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send(format!("{EXPECTS}hello")).await;
    let mut origin = wire.accept().await;
    origin.until("\r\n\r\n").await;
    origin.send(CONTINUE).await;
    origin.until("hello").await;
}

/// RFC 9112 §9.3: a response may begin before its request has ended. Neither direction waits for the other.
#[tokio::test]
async fn both_directions_go_on_at_once() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    let mut client = Line::to(gateway.address()).await;
    let mut origin = None;
    for target in ["/first", "/again"] {
        let head =
            format!("POST {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(head).await;
        // The connection is kept from one to the next.
        let origin = match &mut origin {
            Some(origin) => origin,
            none => none.insert(wire.accept().await),
        };
        assert!(origin.until("\r\n\r\n").await.starts_with(&format!("POST {target} ")));
        origin.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        for turn in 10..30 {
            client.send(format!("6\r\nask {turn}\r\n")).await;
            origin.until(&format!("ask {turn}")).await;
            origin.send(format!("9\r\nanswer {turn}\r\n")).await;
            client.until(&format!("answer {turn}")).await;
        }
        // Either may be the first to end.
        if target == "/first" {
            client.send("0\r\n\r\n").await;
            origin.until("0\r\n\r\n").await;
            origin.send("4\r\nlast\r\n0\r\n\r\n").await;
            client.until("last\r\n0\r\n\r\n").await;
        } else {
            origin.send("0\r\n\r\n").await;
            client.until("0\r\n\r\n").await;
            client.send("4\r\nlast\r\n0\r\n\r\n").await;
            origin.until("last\r\n0\r\n\r\n").await;
        }
    }
}

#[tokio::test]
async fn what_is_answered_here_asks_for_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_request_body = \"4B\"").start().await;
    for (request, code) in [
        (EXPECTS.to_owned(), "413"),
        (EXPECTS.replace("host: a", "host: a\r\nhost: b"), "400"),
        (EXPECTS.replace("host: a", "host: a\r\ncache-control: only-if-cached"), "413"),
        (EXPECTS.replace("host: a", "host: a:1").replace("POST /a", "CONNECT a:1"), "501"),
    ] {
        let answer = raw(gateway.address(), request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request}\n{answer}");
        assert!(!answer.contains(" 100 "), "{answer}");
    }
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn curl_sends_what_is_asked_for_and_nothing_else() {
    let origin = Origin::start().await;
    origin.on("/file").reply(status(201));
    let refusing = RawOrigin::start(&[
        Step::Head,
        Step::Send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![b'x'; 300_000]).unwrap();
    let taking = Gateway::before(&origin).await;
    let small = Gateway::setup(&origin).route("max_request_body = \"1KiB\"").start().await;
    let refused = Gateway::setup_before(&[refusing.url()]).start().await;
    for (gateway, told) in [(&taking, "201 300000"), (&small, "413 0"), (&refused, "403 0")] {
        let url = format!("http://{}/file", gateway.address());
        let said = run(
            "curl",
            &[
                "--silent",
                "--show-error",
                "--output",
                "/dev/null",
                "--header",
                "Expect: 100-continue",
                "--expect100-timeout",
                "60",
                "--write-out",
                "%{http_code} %{size_upload}",
                "--upload-file",
                file.to_str().unwrap(),
                &url,
            ],
        )
        .await;
        assert_eq!(said, told);
    }
    assert_eq!(origin.last("/file").body.len(), 300_000);
    origin.saw("/file", 1);
}

#[tokio::test]
async fn no_more_is_taken_than_the_upstream_takes() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send(format!("PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n")).await;
    let mut origin = wire.accept().await;
    origin.until("\r\n\r\n").await;
    let first = client.flood(LARGE).await;
    assert!(first < LARGE / 2, "{first} octets were taken that nobody reads");
    let (rest, came) = tokio::join!(client.flood(LARGE - first), origin.skim(LARGE));
    assert_eq!((first + rest, came), (LARGE, LARGE));
    origin.send("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    client.until("HTTP/1.1 201 Created\r\n").await;
}

/// A content of so many octets, made only as fast as they are taken.
struct Made {
    octets: usize,
    taken: Arc<AtomicUsize>,
}

impl Body for Made {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 16 << 10] = [b'x'; 16 << 10];

        let count = PIECE.len().min(self.octets - self.taken.load(Ordering::Relaxed));
        self.taken.fetch_add(count, Ordering::Relaxed);
        Poll::Ready((count > 0).then(|| Ok(Frame::data(Bytes::from_static(&PIECE[..count])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.octets - self.taken.load(Ordering::Relaxed)) as u64)
    }
}

/// A PUT with so many octets; how many of them were taken.
fn put(gateway: &Gateway, octets: usize) -> (Request<Made>, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let content = Made { octets, taken: Arc::clone(&taken) };
    let request = Request::put(format!("http://{}/a", gateway.address()));
    (request.body(content).unwrap(), taken)
}

/// Waits until a count does not grow; what it is then.
async fn stands_still(count: &AtomicUsize) -> usize {
    let (mut last, mut looks) = (usize::MAX, 0);
    until("the count stands still", || {
        let now = count.load(Ordering::Relaxed);
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        looks == 200
    })
    .await;
    last
}

#[tokio::test]
async fn by_http2_no_more_is_taken_than_the_upstream_takes() {
    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    let stream = TokioIo::new(TcpStream::connect(gateway.address()).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let running = tokio::spawn(connection);
    let (request, taken) = put(&gateway, LARGE);
    let answer = tokio::spawn(sender.send_request(request));
    let mut origin = wire.accept().await;
    origin.until("\r\n\r\n").await;
    let first = stands_still(&taken).await;
    assert!(first < LARGE / 2, "{first} octets were taken that nobody reads");
    assert_eq!(origin.skim(LARGE).await, LARGE);
    origin.send("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(answer.await.unwrap().unwrap().status(), 201);
    running.abort();
}

#[tokio::test]
async fn by_http2_an_upload_that_nobody_takes_leaves_room_for_others() {
    const SMALL: usize = 100 << 10;

    let wire = Wire::start().await;
    let gateway = setup(&wire).await.start().await;
    let stream = TokioIo::new(TcpStream::connect(gateway.address()).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let running = tokio::spawn(connection);
    let (request, taken) = put(&gateway, LARGE);
    let stuck = tokio::spawn(sender.send_request(request));
    let mut origin = wire.accept().await;
    origin.until("\r\n\r\n").await;
    stands_still(&taken).await;
    let (request, _) = put(&gateway, SMALL);
    let answer = tokio::spawn(sender.send_request(request));
    let mut other = wire.accept().await;
    other.until("\r\n\r\n").await;
    assert_eq!(other.skim(SMALL).await, SMALL);
    other.send("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(answer.await.unwrap().unwrap().status(), 201);
    stuck.abort();
    running.abort();
}

/// A socket that is closed before all that comes was read resets its connection: who is still sending would not see why.
#[tokio::test]
async fn who_is_answered_before_its_content_was_read_is_heard_out() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_request_body = \"4B\"").start().await;
    for framing in ["content-length: 1000000", "content-length: 1\r\ncontent-length: 2"] {
        let mut client = Line::to(gateway.address()).await;
        client.send(format!("PUT /a HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
        // Nothing more is sent to it.
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        for _ in 0..16 {
            client.send(vec![b'x'; 8 << 10]).await;
        }
        client.leave().await;
    }
    origin.saw("/a", 0);
}

/// What a drain has no time for counts from its beginning on.
#[tokio::test]
async fn who_is_answered_before_its_content_was_read_is_heard_out_where_a_drain_takes_no_time() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).server("workers = 1\ndrain = \"0s\"");
    let gateway = setup.route("max_request_body = \"4B\"").start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send("PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
    for _ in 0..10 {
        client.send(vec![b'x'; 4 << 10]).await;
        sleep(Duration::from_millis(50)).await;
    }
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    client.leave().await;
    origin.saw("/a", 0);
}

/// It began before the drain, and would take longer.
#[tokio::test]
async fn who_is_heard_out_already_does_not_outlast_a_drain() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).server("drain = \"1s\"");
    let gateway = setup.route("max_request_body = \"4B\"").start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send("PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
    // Nothing more is sent to it, and it does not close.
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(gateway.drain().await, Drained::All);
    drop(client);
}

#[tokio::test]
async fn by_http2_no_more_of_a_response_is_taken_than_its_client_takes() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"64KiB\"").start().await;
    for (target, cache_control) in [("/passed", "no-store"), ("/shared", "max-age=60")] {
        let (reply, left) = flood(LARGE, false);
        origin.on(target).reply(reply.field("cache-control", cache_control));
        let mut client = gateway.ask("GET", target).http2().open().await;
        let first = stands_still(&left).await;
        assert!(first < LARGE / 2, "{target}: {first} octets were taken that nobody reads");
        let mut came = 0;
        while let Some(piece) = client.piece().await {
            came += piece.unwrap().len();
        }
        assert_eq!(came, LARGE, "{target}");
    }
}
