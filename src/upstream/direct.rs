//! The short way of an exchange over HTTP/1.1: a request that goes in one piece, and a response whose head comes in
//! one piece and says how long its content is.
//!
//! Most of what a cache fetches is that. hyper has a task for each connection, which is woken for each step,
//! channels to and from it, and states for whatever else may happen: a third of what such an exchange costs.
//! So a connection that waits for its next exchange is but octets, and whoever has the exchange writes and
//! reads them. Whatever comes otherwise, hyper reads: it is given the request, of which what has not gone out goes as
//! it is, and what has come ([`speak`](super::wire::speak)).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::octets;

use super::wire::{Begun, Wire};

/// So many octets of a response are read at first. A longer head is hyper's.
const FIRST: usize = 16 * 1024;
/// So many octets of content are read at a time.
const PIECE: u64 = 64 * 1024;
/// A gateway adds so many fields to those of a response.
const MORE: usize = 4;
/// With less room than this, more is made.
const LEAST: usize = 4096;

thread_local! {
    /// Where responses begin.
    static BEGINNING: RefCell<Box<[u8]>> = RefCell::new(vec![0; FIRST].into());
}

/// The content of a response, and the connection that it comes on.
pub(super) struct Direct {
    /// What has come and is not taken.
    begun: Bytes,
    /// So many octets are to come behind it.
    rest: u64,
    room: BytesMut,
    /// None: the exchange has ended, and somebody else has it.
    wire: Option<Wire>,
    /// Nothing follows on it.
    is_last: bool,
}

/// What came of a request.
pub(super) enum Came {
    Response(Response<Direct>),
    /// This, which hyper is to read.
    Otherwise(Wire, Begun),
}

/// There is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the connection closed before an answer came")]
    Closed,
    #[error("the connection broke before an answer came")]
    Broken(#[from] io::Error),
    #[error("no answer came in time")]
    Silent,
}

/// Whether a connection that waits may have another exchange: the server has not closed it, nor said anything.
pub(super) async fn is_open(wire: &mut Wire) -> bool {
    poll_fn(|cx| Poll::Ready(poll_open(wire, cx))).await
}

/// The same at once, for whoever polls.
pub(super) fn poll_open(wire: &mut Wire, cx: &mut Context<'_>) -> bool {
    wire.octets().poll_read(cx, &mut ReadBuf::new(&mut [0])).is_pending()
}

/// Sends a request and waits until `end` for what comes first. `is_head`: a response has no content.
///
/// # Errors
/// [`Lost`]. Whatever comes is a response, if hyper can read it.
pub(super) async fn exchange(
    mut wire: Wire,
    mut request: &[u8],
    is_head: bool,
    end: Instant,
) -> Result<Came, Lost> {
    let mut is_sent = false;
    let came = poll_fn(|cx| {
        let sent = if is_sent { Poll::Pending } else { poll_send(&mut wire, &mut request, cx) };
        is_sent |= matches!(sent, Poll::Ready(Ok(())));
        // A server may answer before it has read all, and close.
        if let Poll::Ready(came) = poll_first(&mut wire, cx) {
            return Poll::Ready(came.map_err(Lost::Broken));
        }
        if let Poll::Ready(Err(error)) = sent {
            return Poll::Ready(Err(error.into()));
        }
        wire.poll_until(end, cx).map(|()| Err(Lost::Silent))
    });
    let came = came.await?;
    if came.is_empty() {
        return Err(Lost::Closed);
    }
    Ok(match read(&came, is_head) {
        None => {
            let unsent = Bytes::copy_from_slice(request);
            Came::Otherwise(wire, Begun { came, unsent })
        }
        Some(Read { response, begun, rest, is_last }) => {
            Came::Response(response.map(|()| Direct {
                begun,
                rest,
                room: BytesMut::new(),
                wire: Some(wire),
                is_last: is_last || !is_sent,
            }))
        }
    })
}

/// Sends what is left of a request.
fn poll_send(wire: &mut Wire, rest: &mut &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !rest.is_empty() {
        let sent = ready!(wire.octets().poll_write(cx, rest))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *rest = rest.get(sent..).unwrap_or_default();
    }
    // TLS has what it sends go out when it is flushed.
    wire.octets().poll_flush(cx)
}

/// What comes next, of which there is something unless nothing follows.
fn poll_first(wire: &mut Wire, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    BEGINNING.with_borrow_mut(|beginning| {
        let mut buffer = ReadBuf::new(beginning);
        ready!(wire.octets().poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
    })
}

/// A response as far as it has come.
struct Read {
    response: Response<()>,
    begun: Bytes,
    rest: u64,
    is_last: bool,
}

/// Reads the head of a response and what follows it. None: it is hyper's.
fn read(came: &Bytes, is_head: bool) -> Option<Read> {
    let (mut length, mut is_last) = (None, false);
    let is_usual = |name: &HeaderName, value: &HeaderValue| {
        let is = |option: &str| value.as_bytes().eq_ignore_ascii_case(option.as_bytes());
        match *name {
            CONTENT_LENGTH if length.is_none() => {
                length = number(value.as_bytes());
                length.is_some()
            }
            CONNECTION if is("close") => {
                is_last = true;
                true
            }
            CONNECTION => is("keep-alive"),
            CONTENT_LENGTH | TRANSFER_ENCODING => false,
            _ => true,
        }
    };
    let (status, fields, end) = octets::response(came, MORE, is_usual)?;
    if status.is_informational() {
        return None;
    }
    // RFC 9112 §6.3: these have none, whatever they say.
    let has_none = is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = if has_none { 0 } else { length? };
    let begun = came.slice(end..);
    // What comes behind it is the answer to nothing.
    let rest = length.checked_sub(begun.len() as u64)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    Some(Read { response, begun, rest, is_last })
}

/// RFC 9110 §8.6: a number of octets, in digits alone.
fn number(value: &[u8]) -> Option<u64> {
    let digits =
        std::str::from_utf8(value).ok().filter(|_| value.iter().all(u8::is_ascii_digit))?;
    digits.parse().ok()
}

impl Direct {
    /// The next piece; None behind the last.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.begun))));
        }
        let Some(wire) = self.wire.as_mut().filter(|_| self.rest > 0) else {
            return Poll::Ready(None);
        };
        let most = usize::try_from(self.rest.min(PIECE)).unwrap_or_default();
        if self.room.capacity() < most.min(LEAST) {
            self.room.reserve(most);
        }
        let mut room = (&mut self.room).limit(most);
        let count = ready!(poll_read_buf(wire.octets(), cx, &mut room))?;
        if count == 0 {
            self.wire = None;
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        self.rest -= count as u64;
        Poll::Ready(Some(Ok(self.room.split().freeze())))
    }

    /// So many octets are to be taken.
    pub(super) fn left(&self) -> u64 {
        self.rest + self.begun.len() as u64
    }

    /// All that is to be taken, if all of it has come.
    pub(super) fn whole(&mut self) -> Option<Bytes> {
        (self.rest == 0).then(|| std::mem::take(&mut self.begun))
    }

    /// Whether all has come.
    pub(super) fn has_come(&self) -> bool {
        self.rest == 0
    }

    /// The connection for the next exchange, once all has come.
    pub(super) fn wire(&mut self) -> Option<Wire> {
        self.wire.take().filter(|_| self.rest == 0 && !self.is_last)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use hyper::client::conn::http1::SendRequest;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::timeout;
    use tokio_util::task::TaskTracker;

    use super::super::Content;
    use super::super::wire::speak;
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\n";

    /// What is read of some octets: the status, the fields in order, the content so far, and what is to come.
    fn seen(came: &str, is_head: bool) -> Option<String> {
        let Read { response, begun, rest, is_last } =
            read(&Bytes::copy_from_slice(came.as_bytes()), is_head)?;
        let mut text = response.status().as_str().to_owned();
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes());
            text.extend([" ", name.as_str(), "=", &value]);
        }
        Some(format!("{text} {begun:?}+{rest}{}", if is_last { " last" } else { "" }))
    }

    #[test]
    fn a_response_of_known_length_is_read() {
        for (came, expected) in [
            ("Content-Length: 3\r\n\r\nabc", "200 content-length=3 b\"abc\"+0"),
            ("content-length: 3\r\n\r\na", "200 content-length=3 b\"a\"+2"),
            ("content-length: 0\r\n\r\n", "200 content-length=0 b\"\"+0"),
            ("content-length: 007\r\n\r\n", "200 content-length=007 b\"\"+7"),
            (
                "X: \u{e9}\r\ncontent-length:1\r\nx:\r\n\r\n",
                "200 x=\u{e9} x= content-length=1 b\"\"+1",
            ),
            (
                "connection: Keep-Alive\r\ncontent-length: 1\r\n\r\n",
                "200 connection=Keep-Alive content-length=1 b\"\"+1",
            ),
            (
                "connection: Close\r\ncontent-length: 1\r\n\r\n",
                "200 connection=Close content-length=1 b\"\"+1 last",
            ),
        ] {
            assert_eq!(seen(&format!("{OK}{came}"), false).as_deref(), Some(expected), "{came}");
        }
        for (came, is_head, expected) in [
            ("HTTP/1.1 204 None\r\n\r\n", false, "204 b\"\"+0"),
            ("HTTP/1.1 304 \r\ncontent-length: 3\r\n\r\n", false, "304 content-length=3 b\"\"+0"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", true, "200 content-length=3 b\"\"+0"),
            ("HTTP/1.1 299\r\n\r\n", true, "299 b\"\"+0"),
        ] {
            assert_eq!(seen(came, is_head).as_deref(), Some(expected), "{came}");
        }
    }

    #[test]
    fn whatever_else_comes_is_left_to_hyper() {
        let many = "a: b\r\n".repeat(65);
        let length = "content-length: 3\r\n";
        for (came, is_head) in [
            (OK.to_owned(), false),
            (format!("{OK}{length}"), false),
            (format!("{OK}\r\n"), false),
            (format!("{OK}{length}\r\nabcd"), false),
            (format!("{OK}{length}\r\na"), true),
            (format!("{OK}{length}{length}\r\nabc"), false),
            (format!("{OK}content-length: +3\r\n\r\nabc"), false),
            (format!("{OK}content-length: 3, 3\r\n\r\nabc"), false),
            (format!("{OK}content-length: \r\n\r\n"), false),
            (format!("{OK}content-length: {}0\r\n\r\n", u64::MAX), false),
            (format!("{OK}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"), false),
            (format!("{OK}{length}transfer-encoding: chunked\r\n\r\nabc"), false),
            (format!("{OK}{length}connection: x\r\n\r\nabc"), false),
            (format!("{OK}{length}a : b\r\n\r\nabc"), false),
            (format!("{OK}{length}{many}\r\nabc"), false),
            (format!("HTTP/1.0 200 OK\r\n{length}\r\nabc"), false),
            (format!("HTTP/1.1 103 Hints\r\n\r\n{OK}{length}\r\nabc"), false),
            ("HTTP/1.1 101 Switching\r\n\r\n".to_owned(), false),
            ("HTTP/1.1 204 None\r\n\r\nabc".to_owned(), false),
            ("no response".to_owned(), false),
        ] {
            assert_eq!(seen(&came, is_head), None, "{came}");
        }
    }

    /// A connection, and the server at its other end.
    fn connection() -> (Wire, DuplexStream) {
        let (wire, server) = duplex(64);
        (Wire::new(wire), server)
    }

    /// Long enough for what comes.
    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    async fn pieces(direct: &mut Direct) -> Result<String, io::ErrorKind> {
        let mut text = String::new();
        while let Some(piece) = poll_fn(|cx| direct.poll_piece(cx)).await {
            text += std::str::from_utf8(&piece.map_err(|error| error.kind())?).unwrap();
        }
        Ok(text)
    }

    #[tokio::test]
    async fn content_comes_as_it_is_sent_and_leaves_the_connection() {
        let (mut wire, mut server) = connection();
        let long = "abcdefgh".repeat(20_000);
        for content in ["", "abc", &long] {
            let answer = format!("{OK}content-length: {}\r\n\r\n{content}", content.len());
            let sent = TaskTracker::new().spawn(async move {
                let mut request = [0; 6];
                server.read_exact(&mut request).await.unwrap();
                server.write_all(answer.as_bytes()).await.unwrap();
                (server, request)
            });
            assert!(is_open(&mut wire).await);
            let Ok(Came::Response(response)) = exchange(wire, b"a long", false, soon()).await
            else {
                panic!("a response")
            };
            let mut direct = response.into_body();
            assert_eq!(direct.left(), content.len() as u64);
            assert_eq!(pieces(&mut direct).await.as_deref(), Ok(content));
            wire = direct.wire().unwrap();
            let request;
            (server, request) = sent.await.unwrap();
            assert_eq!(&request, b"a long");
        }
        drop(server);
        assert!(!is_open(&mut wire).await, "nobody is there");
    }

    #[tokio::test]
    async fn a_connection_that_has_more_to_say_or_has_ended_is_not_used_again() {
        for (answer, cut) in [
            ("content-length: 3\r\n\r\nab", Err(io::ErrorKind::UnexpectedEof)),
            ("connection: close\r\ncontent-length: 3\r\n\r\nabc", Ok("abc".to_owned())),
        ] {
            let (wire, mut server) = connection();
            server.write_all(format!("{OK}{answer}").as_bytes()).await.unwrap();
            drop(server);
            let Ok(Came::Response(response)) = exchange(wire, b"", false, soon()).await else {
                panic!("a response")
            };
            let mut direct = response.into_body();
            assert_eq!(pieces(&mut direct).await, cut);
            assert!(direct.wire().is_none(), "{answer}");
        }
        let (wire, mut server) = connection();
        server.write_all(b"HTTP/1.1 431 Long\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let Ok(Came::Response(response)) = exchange(wire, &[b'a'; 100], false, soon()).await else {
            panic!("an answer to what was not read to its end")
        };
        assert!(response.into_body().wire().is_none());
        let (mut wire, mut server) = connection();
        server.write_all(b"HTTP/1.1 408 Timeout\r\n\r\n").await.unwrap();
        assert!(!is_open(&mut wire).await);
    }

    #[tokio::test]
    async fn no_answer_is_told_from_one_that_hyper_is_to_read() {
        let (wire, server) = connection();
        drop(server);
        assert!(matches!(exchange(wire, b"", false, soon()).await, Err(Lost::Closed)));
        let (wire, mut server) = connection();
        server.write_all(b"HTTP/1.1 200").await.unwrap();
        let Ok(Came::Otherwise(_, begun)) = exchange(wire, b"", false, soon()).await else {
            panic!("something")
        };
        assert_eq!(&begun.came[..], b"HTTP/1.1 200");
        assert!(begun.unsent.is_empty());
        let (wire, _server) = connection();
        let silent = exchange(wire, &[0; 1000], false, Instant::now()).await;
        assert!(matches!(silent, Err(Lost::Silent)), "nor does anybody read");
    }

    #[tokio::test]
    async fn what_has_come_hyper_reads_and_what_has_gone_it_does_not_send_again() {
        let (wire, mut server) = connection();
        let came = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2".into();
        let begun = Begun { came, unsent: Bytes::new() };
        let mut sender = speak(wire, Some(begun)).await.unwrap();
        let request =
            |target: &str| http::Request::get(target.to_owned()).body(Content::default()).unwrap();
        let answer = TaskTracker::new().spawn(sender.send_request(request("/first")));
        let rest = "00 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        server.write_all(rest.as_bytes()).await.unwrap();
        let content = answer.await.unwrap().unwrap().into_body().collect().await.unwrap();
        assert_eq!(content.to_bytes(), "abc");
        sender.ready().await.unwrap();
        let answer = TaskTracker::new().spawn(sender.send_request(request("/second")));
        let mut came = String::new();
        while !came.ends_with("\r\n\r\n") {
            came.push(server.read_u8().await.unwrap().into());
        }
        assert_eq!(came, "GET /second HTTP/1.1\r\n\r\n");
        server.write_all(b"HTTP/1.1 204 None\r\n\r\n").await.unwrap();
        assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::NO_CONTENT);
    }

    /// A request that has more octets than a server takes at once, and these.
    fn long() -> (http::Request<Content>, String) {
        let value = "b".repeat(1000);
        let octets = format!("GET / HTTP/1.1\r\na: {value}\r\n\r\n");
        (http::Request::get("/").header("a", value).body(Content::default()).unwrap(), octets)
    }

    /// Sends these until something comes, and has hyper go on.
    async fn interrupted(wire: Wire, octets: &str) -> SendRequest<Content> {
        let came = exchange(wire, octets.as_bytes(), false, soon()).await;
        let Ok(Came::Otherwise(wire, begun)) = came else { panic!("it is hyper's") };
        assert!(!begun.unsent.is_empty());
        speak(wire, Some(begun)).await.unwrap()
    }

    #[tokio::test]
    async fn what_has_not_gone_goes_while_hyper_reads() {
        let ((wire, mut server), (request, octets)) = (connection(), long());
        server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut sender = interrupted(wire, &octets).await;
        let answer = TaskTracker::new().spawn(sender.send_request(request));
        let mut came = vec![0; octets.len()];
        let reading = timeout(Duration::from_secs(10), server.read_exact(&mut came));
        reading.await.expect("the rest of it").unwrap();
        assert_eq!(String::from_utf8(came).unwrap(), octets);
        server.write_all(b"HTTP/1.1 204 None\r\n\r\n").await.unwrap();
        assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::NO_CONTENT);
        drop(sender);
        assert_eq!(server.read_to_end(&mut Vec::new()).await.unwrap(), 0, "none goes twice");
    }

    #[tokio::test]
    async fn an_answer_that_hyper_reads_counts_though_the_server_reads_no_more() {
        for is_closed in [false, true] {
            let ((wire, mut server), (request, octets)) = (connection(), long());
            server.write_all(b"HTTP/1.1 431 Long\r\n\r\nab").await.unwrap();
            let server = if is_closed {
                drop(server);
                None
            } else {
                server.shutdown().await.unwrap();
                Some(server)
            };
            let mut sender = interrupted(wire, &octets).await;
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ab");
            drop(server);
        }
    }
}
