//! What hyper gets to read, and what the client has got by then.

use std::future::poll_fn;
use std::time::Duration;

use http::header::DATE;
use http::{HeaderValue, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::oneshot::{self, Receiver, Sender};

use crate::body::Body;
use crate::server::switch::Switch;
use crate::stall::Patient;

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// It may go on in another way when it is answered.
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nContent-Length: 2\r\n\r\nab";

type Ask = Box<dyn FnMut(Request<Arriving>, Instant) -> Option<Answer> + Send>;

type Giver = Sender<Response<Body>>;

/// A connection as hyper has it while it waits for a head, the client at its other end, and what decides each answer.
struct Stage {
    near: Shortcut<DuplexStream, Ask>,
    client: DuplexStream,
    idle: Idle,
    begun: Begun,
}

impl Stage {
    /// The client takes so many octets at once. Requests get these answers.
    fn new(room: usize, answers: Vec<Receiver<Response<Body>>>) -> Self {
        let (client, stream) = duplex(room);
        let (idle, begun) = (Idle::default(), Begun::default());
        idle.set_awaiting(true);
        let (guard, switch) = (Strict::default(), Switch::default());
        let stream = Patient::new(stream, Duration::from_hours(1));
        let stream = Guarded::new(stream, guard, switch, idle.clone());
        let mut answers = answers.into_iter();
        let ask: Ask = Box::new(move |_, _| {
            let answer = answers.next()?;
            Some(Answer::later(async { answer.await.unwrap() }))
        });
        let near = Shortcut::new(stream, ask, idle.clone(), Interims::default(), begun.clone());
        Self { near, client, idle, begun }
    }

    /// What hyper reads when it looks; none: nothing has come.
    async fn look(&mut self) -> Option<io::Result<Vec<u8>>> {
        let mut room = [0; 64];
        let mut buffer = ReadBuf::new(&mut room);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.near).poll_read(cx, &mut buffer)));
        match polled.await {
            Poll::Ready(read) => Some(read.map(|()| buffer.filled().to_vec())),
            Poll::Pending => None,
        }
    }

    /// How many of these hyper gets rid of at once.
    async fn write(&mut self, octets: &[u8]) -> Option<usize> {
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.near).poll_write(cx, octets)));
        match polled.await {
            Poll::Ready(written) => Some(written.unwrap()),
            Poll::Pending => None,
        }
    }

    async fn reads(&mut self, octets: &[u8]) {
        let mut read = Vec::new();
        while read.len() < octets.len() {
            read.extend(self.look().await.expect("something has come").unwrap());
        }
        assert_eq!(String::from_utf8(read).unwrap(), String::from_utf8_lossy(octets));
    }
}

/// As many answers that are still to be given, and who waits for them.
fn answers<const COUNT: usize>() -> ([Giver; COUNT], Vec<Receiver<Response<Body>>>) {
    let (givers, receivers): (Vec<_>, Vec<_>) = (0..COUNT).map(|_| oneshot::channel()).unzip();
    let Ok(givers) = givers.try_into() else { unreachable!("they are as many") };
    (givers, receivers)
}

fn give(answer: Giver, response: Response<Body>) {
    assert!(answer.send(response).is_ok(), "nobody waits for it");
}

fn response(content: Body) -> Response<Body> {
    let mut response = Response::new(content);
    response.headers_mut().insert(DATE, HeaderValue::from_static("now"));
    response
}

fn whole(content: &'static str) -> Response<Body> {
    response(Body::Whole(content.into()))
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: {length}\r\n\r\n")
}

#[tokio::test]
async fn what_is_sent_ahead_is_held_and_comes_in_its_order() {
    let ([first, second], receivers) = answers();
    let mut stage = Stage::new(1024, receivers);
    stage.client.write_all(GET).await.unwrap();
    assert!(stage.look().await.is_none());
    stage.client.write_all(GET).await.unwrap();
    for _ in 0..3 {
        assert!(stage.look().await.is_none());
    }
    stage.client.write_all(POST).await.unwrap();
    give(first, whole("1"));
    assert!(stage.look().await.is_none());
    give(second, whole("2"));
    stage.reads(POST).await;
    let expected = [head(1), "1".to_owned(), head(1), "2".to_owned()].concat();
    let mut got = vec![0; expected.len()];
    stage.client.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), expected);
}

#[tokio::test]
async fn who_goes_away_is_not_answered() {
    let ([mut pending], receivers) = answers();
    let mut stage = Stage::new(1024, receivers);
    stage.client.write_all(GET).await.unwrap();
    assert!(stage.look().await.is_none());
    assert!(!pending.is_closed());
    stage.client.shutdown().await.unwrap();
    assert!(stage.look().await.expect("it has gone").is_err());
    pending.closed().await;
    // Hyper sends no more either.
    assert!(stage.look().await.expect("it has gone").is_err());
    assert!(stage.near.shutdown().await.is_err());
}

#[tokio::test]
async fn no_head_is_waited_for_before_an_answer_has_gone() {
    let ([answer], receivers) = answers();
    let mut stage = Stage::new(64, receivers);
    stage.client.write_all(GET).await.unwrap();
    assert!(!stage.idle.is_answering());
    assert!(stage.look().await.is_none());
    assert!(stage.idle.is_answering() && stage.idle.answered_at().is_none());
    give(answer, whole("a".repeat(1000).leak()));
    assert!(stage.look().await.is_none());
    assert!(stage.idle.is_answering() && stage.idle.answered_at().is_none());
    let mut got = Vec::new();
    while got.len() < head(1000).len() + 1000 {
        got.push(stage.client.read_u8().await.unwrap());
        assert!(stage.look().await.is_none());
    }
    assert!(!stage.idle.is_answering() && stage.idle.answered_at().is_some());
}

#[tokio::test]
async fn no_answer_overtakes_the_end_of_one_of_hypers() {
    let ([answer], receivers) = answers();
    let mut stage = Stage::new(64, receivers);
    assert_eq!(stage.write(&[b'a'; 100]).await, Some(64));
    assert_eq!(stage.write(&[b'a'; 36]).await, None);
    // By now hyper waits for a head, as the request before has ended.
    stage.client.write_all(GET).await.unwrap();
    stage.reads(GET).await;
    let mut got = [0; 64];
    stage.client.read_exact(&mut got).await.unwrap();
    assert_eq!(stage.write(&[b'a'; 36]).await, Some(36));
    stage.client.read_exact(&mut got[..36]).await.unwrap();
    assert_eq!(got, [b'a'; 64]);
    stage.client.write_all(GET).await.unwrap();
    assert!(stage.look().await.is_none());
    give(answer, whole("1"));
    assert!(stage.look().await.is_none());
    let expected = head(1) + "1";
    let mut got = vec![0; expected.len()];
    stage.client.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), expected);
}

#[tokio::test]
async fn hyper_gets_what_is_to_be_the_last_or_cannot_be_written() {
    for is_last in [false, true] {
        let ([answer], receivers) = answers();
        let mut stage = Stage::new(1024, receivers);
        assert!(!stage.begun.hand_over());
        stage.client.write_all(GET).await.unwrap();
        assert!(stage.look().await.is_none());
        stage.client.write_all(POST).await.unwrap();
        assert!(stage.look().await.is_none());
        let begun = if is_last {
            assert!(stage.begun.hand_over());
            stage.reads(GET).await;
            give(answer, whole("1"));
            stage.begun.take()
        } else {
            // Without `Date`.
            give(answer, Response::new(Body::Whole("1".into())));
            stage.reads(GET).await;
            stage.begun.take()
        };
        assert_eq!(begun.unwrap().await.body().whole().unwrap(), "1");
        assert_eq!(stage.begun.is_last(), is_last);
        assert!(!stage.idle.is_answering() && !stage.begun.hand_over());
        stage.idle.set_awaiting(false);
        stage.reads(POST).await;
    }
}

#[tokio::test]
async fn content_in_pieces_is_whole_or_an_error() {
    let pieces = [(b'a', 1000), (b'b', 0), (b'c', 5000), (b'd', 3), (b'e', 20_000), (b'f', 7)];
    let pieces = pieces.map(|(octet, count)| Bytes::from(vec![octet; count]));
    let length = pieces.concat().len();
    for missing in [0, 1] {
        let ([answer], receivers) = answers();
        let mut stage = Stage::new(64 << 10, receivers);
        stage.client.write_all(GET).await.unwrap();
        assert!(stage.look().await.is_none());
        let (each, left) = (Vec::from(pieces.clone()).into_iter(), (length + missing) as u64);
        give(answer, response(Body::Pieces { pieces: each, left }));
        let looked = stage.look().await;
        assert_eq!(looked.is_some_and(|read| read.is_err()), missing > 0);
        let mut got = Vec::new();
        drop(stage.near);
        stage.client.read_to_end(&mut got).await.unwrap();
        let expected = [head(length + missing).as_bytes(), &pieces.concat()].concat();
        assert!(got == expected, "what has come of it goes out in any case");
    }
}
