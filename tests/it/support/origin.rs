//! An origin that answers as scripted and remembers what it was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use larder::clock::Clock;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{PATIENCE, free_port};

/// A server on a free port. Dropping it closes the port and every connection.
pub struct Origin {
    address: SocketAddr,
    clock: Clock,
    script: Arc<Mutex<Script>>,
    _serving: JoinSet<()>,
}

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The content came to its end.
    pub is_whole: bool,
}

impl Asked {
    /// A field's lines, joined.
    pub fn field(&self, name: &str) -> Option<String> {
        let lines: Vec<_> =
            self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

#[derive(Default)]
struct Script {
    /// By path and query; the last rule that fits answers.
    rules: HashMap<String, Vec<Rule>>,
    asked: Vec<Asked>,
}

#[derive(Clone)]
struct Rule {
    method: Option<Method>,
    fields: Vec<(String, String)>,
    reply: Arc<dyn Fn(&Asked) -> Reply + Send + Sync>,
    gate: Option<watch::Receiver<bool>>,
}

/// A response to give.
#[derive(Clone, Default)]
pub struct Reply {
    status: StatusCode,
    fields: Vec<(String, String)>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Whole(Bytes),
    /// Without a `Content-Length`, piece by piece as the test sends them.
    Pieces(Arc<Mutex<Option<mpsc::UnboundedReceiver<Piece>>>>),
    /// So many octets, made as fast as they are taken.
    Flood {
        octets: usize,
        says_length: bool,
        left: Arc<AtomicUsize>,
    },
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

enum Piece {
    Data(Bytes),
    End,
}

/// 200 with this content.
pub fn ok(body: impl Into<Bytes>) -> Reply {
    status(200).body(body)
}

/// A response without content.
pub fn status(code: u16) -> Reply {
    Reply { status: StatusCode::from_u16(code).unwrap(), ..Reply::default() }
}

/// 200 whose content the test sends piece by piece. It can be given once.
pub fn pieces() -> (Reply, Pieces) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let content = Content::Pieces(Arc::new(Mutex::new(Some(receiver))));
    (Reply { content, ..Reply::default() }, Pieces(sender))
}

/// 200 with so many octets, made only as fast as they are taken; the figure is how many were.
/// `says_length` is whether there is a `Content-Length`.
pub(crate) fn flood(octets: usize, says_length: bool) -> (Reply, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(0));
    let content = Content::Flood { octets, says_length, left: Arc::clone(&left) };
    (Reply { content, ..Reply::default() }, left)
}

/// Whether these are the octets of a [`flood`] from this place on.
pub(crate) fn is_of_flood(mut octets: &[u8], mut place: usize) -> bool {
    while !octets.is_empty() {
        let expected = &FLOOD[place % FLOOD.len()..];
        let count = expected.len().min(octets.len());
        let (piece, rest) = octets.split_at(count);
        if piece != &expected[..count] {
            return false;
        }
        (octets, place) = (rest, place + count);
    }
    true
}

/// A flood repeats it. Its length is odd, so that a piece in the wrong place shows.
static FLOOD: LazyLock<Bytes> = LazyLock::new(|| (0..=250).cycle().take(65_521).collect());

/// The test's end of a content that it sends piece by piece. Dropping it without
/// [`Pieces::end`] breaks the connection off.
pub struct Pieces(mpsc::UnboundedSender<Piece>);

impl Pieces {
    pub fn send(&self, piece: impl Into<Bytes>) {
        let _gone = self.0.send(Piece::Data(piece.into()));
    }

    pub fn end(self) {
        let _gone = self.0.send(Piece::End);
    }

    /// Waits until nobody takes the content any more.
    pub(crate) async fn gone(&self) {
        timeout(PATIENCE, self.0.closed()).await.expect("somebody still takes the content");
    }
}

impl Reply {
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { content: Content::Whole(body.into()), ..self }
    }

    /// Instead of 200.
    pub(crate) fn code(self, code: u16) -> Self {
        Self { status: StatusCode::from_u16(code).unwrap(), ..self }
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn max_age(self, seconds: u64) -> Self {
        self.field("cache-control", &format!("max-age={seconds}"))
    }

    /// Instead of the one that the origin's clock gives.
    pub fn date(self, date: &str) -> Self {
        self.field("date", date)
    }

    pub fn etag(self, tag: &str) -> Self {
        self.field("etag", &format!("\"{tag}\""))
    }
}

/// A rule in the making. See [`Origin::on`].
pub struct On<'a> {
    origin: &'a Origin,
    target: String,
    method: Option<Method>,
    fields: Vec<(String, String)>,
}

impl On<'_> {
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.parse().unwrap());
        self
    }

    /// Only for requests with this value in this field.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Answers so from now on.
    pub fn reply(self, reply: Reply) {
        self.add(move |_| reply.clone(), None);
    }

    /// Answers each request with what this makes of it.
    pub(crate) fn answer(self, make: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        self.add(make, None);
    }

    /// Answers so from now on, but not before the test says [`Held::release`].
    pub fn hold(self, reply: Reply) -> Held {
        let (release, gate) = watch::channel(false);
        self.add(move |_| reply.clone(), Some(gate));
        Held(release)
    }

    fn add(
        self,
        reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        gate: Option<watch::Receiver<bool>>,
    ) {
        let Self { origin, target, method, fields } = self;
        let rule = Rule { method, fields, reply: Arc::new(reply), gate };
        origin.script.lock().unwrap().rules.entry(target).or_default().push(rule);
    }
}

/// Answers that wait.
pub struct Held(watch::Sender<bool>);

impl Held {
    pub fn release(&self) {
        self.0.send_replace(true);
    }
}

/// Listens, once whoever did so before has gone: the processes that tests start have their sockets for a moment, too.
async fn listener(address: SocketAddr) -> TcpListener {
    let listening = async {
        loop {
            match TcpListener::bind(address).await {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    sleep(Duration::from_millis(5)).await;
                }
                bound => return bound.unwrap(),
            }
        }
    };
    timeout(PATIENCE, listening).await.expect("somebody listens there")
}

impl Origin {
    pub async fn start() -> Self {
        Self::listen(([127, 0, 0, 1], free_port()).into()).await
    }

    /// On an address that was, say, an earlier origin's.
    pub async fn listen(address: SocketAddr) -> Self {
        let listener = listener(address).await;
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let mut serving = JoinSet::new();
        let shared = Arc::clone(&script);
        let clock = Clock::manual();
        let time = clock.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (script, time) = (Arc::clone(&shared), time.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        answer(Arc::clone(&script), time.clone(), request)
                    });
                    // Broken on purpose, often.
                    let _ended = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, clock, script, _serving: serving }
    }

    /// Gives every response its `Date`. Gateways before this origin share it.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What to answer for this path and query.
    pub fn on(&self, target: &str) -> On<'_> {
        On { origin: self, target: target.to_owned(), method: None, fields: Vec::new() }
    }

    /// Everything that was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.script.lock().unwrap().asked.clone()
    }

    /// How often this path and query was asked for.
    pub fn count(&self, target: &str) -> usize {
        self.script.lock().unwrap().asked.iter().filter(|asked| asked.target == target).count()
    }

    /// The last request for this path and query.
    pub fn last(&self, target: &str) -> Asked {
        let asked = self.asked();
        let last = asked.into_iter().rev().find(|asked| asked.target == target);
        last.unwrap_or_else(|| panic!("`{target}` was never asked for"))
    }

    /// The origin was asked for this exactly so often.
    #[track_caller]
    pub fn saw(&self, target: &str, times: usize) {
        assert_eq!(self.count(target), times, "requests for `{target}` at the origin");
    }
}

async fn answer(
    script: Arc<Mutex<Script>>,
    clock: Clock,
    request: Request<Incoming>,
) -> Result<Response<Sent>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    let is_whole = body.is_ok();
    let target = head.uri.path_and_query().unwrap().as_str().to_owned();
    let (rule, asked) = {
        let mut script = script.lock().unwrap();
        let asked = Asked {
            method: head.method.clone(),
            target: target.clone(),
            headers: head.headers.clone(),
            body: body.unwrap_or_default(),
            is_whole,
        };
        script.asked.push(asked.clone());
        let rules = script.rules.get(&target).map(Vec::as_slice).unwrap_or_default();
        let fits = |rule: &&Rule| {
            rule.method.as_ref().is_none_or(|method| *method == head.method)
                && rule
                    .fields
                    .iter()
                    .all(|(name, value)| asked.field(name).as_deref() == Some(value))
        };
        (rules.iter().rev().find(fits).cloned(), asked.clone())
    };
    let Some(Rule { reply, gate, .. }) = rule else {
        let mut response = Response::new(Sent::whole(Bytes::from_static(b"nothing scripted")));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    if let Some(mut gate) = gate {
        let _released = gate.wait_for(|released| *released).await;
    }
    let reply = reply(&asked);
    let mut response = Response::new(match reply.content {
        Content::Whole(body) => Sent::whole(body),
        Content::Flood { octets, says_length, left } => Sent::Flood { octets, says_length, left },
        Content::Pieces(pieces) => Sent::Pieces(pieces.lock().unwrap().take().unwrap()),
    });
    *response.status_mut() = reply.status;
    if !reply.fields.iter().any(|(name, _)| name == "date") {
        // Rounded up: rounded down, a response would be a second old at birth (RFC 9111 §4.2.3)
        // whenever a second ends on its way.
        let now = clock.now() + Duration::from_millis(999);
        let date = HeaderValue::from_str(&httpdate::fmt_http_date(now)).unwrap();
        response.headers_mut().insert("date", date);
    }
    for (name, value) in reply.fields {
        let name: HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    Ok(response)
}

enum Sent {
    Whole(Option<Bytes>),
    Pieces(mpsc::UnboundedReceiver<Piece>),
    Flood { octets: usize, says_length: bool, left: Arc<AtomicUsize> },
}

impl Sent {
    fn whole(body: Bytes) -> Self {
        Self::Whole(Some(body).filter(|body| !body.is_empty()))
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| match piece {
                Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
                Some(Piece::End) => None,
                None => Some(Err(io::Error::other("broken off by the test"))),
            }),
            Self::Flood { octets, left, .. } => {
                let gone = left.load(Ordering::Relaxed);
                let from = gone % FLOOD.len();
                let piece = FLOOD.slice(from..FLOOD.len().min(from + *octets - gone));
                left.fetch_add(piece.len(), Ordering::Relaxed);
                Poll::Ready((!piece.is_empty()).then_some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(body) => {
                http_body::SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Flood { octets, says_length: true, left } => {
                let rest = octets - left.load(Ordering::Relaxed);
                http_body::SizeHint::with_exact(rest as u64)
            }
            Self::Pieces(_) | Self::Flood { .. } => http_body::SizeHint::default(),
        }
    }
}
