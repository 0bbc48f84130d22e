//! The connections to one server: those of HTTP/1.1 that wait for their next exchange, and those of HTTP/2,
//! which many share.
//!
//! A connection that closed before anything of a request left is no failure: another one takes it.
//!
//! Of HTTP/2 another connection is opened when those that are there have as many exchanges as the server
//! takes, or have said that they end (`GOAWAY`, RFC 9113 §6.8). One is opened at a time, and who finds no
//! room waits for it.
//!
//! Each has a task. One of HTTP/1.1 that is driven by whoever has its exchange saves three of the six tasks
//! that run for a request, but none of its instructions (82,049 instead of 82,242) and no time: what is to
//! wake them in turn costs as much.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::{Connector, Opened};
use super::content::Progress;
use super::http2::{Http2, Stream};
use super::{Content, Failure, Outgoing};

/// A connection that nobody uses is closed after so long.
const IDLE: Duration = Duration::from_secs(30);

/// So many of HTTP/1.1 may wait for their next exchange.
const MOST_IDLE: usize = 256;

/// A request may be refused unprocessed by so many streams.
const MOST_REFUSALS: u32 = 2;

/// So long a server may take to ask for content that its client keeps back. Many never do.
const UNASKED: Duration = Duration::from_secs(1);

type Sender = http1::SendRequest<Content>;

/// What has come of opening a connection, once something has.
type Opening = watch::Receiver<Option<Result<(), Failure>>>;

/// The connections to one server. Dropping it closes those that are idle; others close when they become so.
pub(super) struct Connections(ArcSwap<Inner>);

struct Inner {
    connector: Connector,
    kept: Mutex<Kept>,
    /// The last that was opened speaks HTTP/1.1.
    speaks_http1: AtomicBool,
}

#[derive(Default)]
struct Kept {
    /// Since when each waits, the last one that came last.
    idle: Vec<(Sender, Instant)>,
    shared: Vec<Arc<Http2>>,
    opening: Option<Opening>,
    /// Somebody closes those that are idle for too long.
    is_tended: bool,
}

/// A connection for the time of one exchange. Dropping it before the end gives the exchange up.
pub(super) struct Lent {
    home: Weak<Inner>,
    line: Line,
    /// Something was answered on the connection before.
    is_reused: bool,
    /// Of the request's content.
    progress: Option<Arc<Progress>>,
}

enum Line {
    Http1(Sender),
    Http2(Stream),
}

/// Why there is no response.
enum Unanswered {
    /// The connection had closed, and nothing has left.
    Closed(hyper::Error),
    Failed(Failure),
}

/// Where there is room for an exchange.
enum Way {
    Here(Stream),
    /// On a connection that is being opened.
    Opening(Opening),
}

impl Connections {
    /// Opens no connection yet.
    pub(super) fn new(connector: Connector) -> Self {
        Self(ArcSwap::from_pointee(Inner::new(connector)))
    }

    /// Opens them by this from now on. Those that are there are closed as if it was dropped.
    pub(super) fn renew(&self, connector: Connector) {
        self.0.store(Arc::new(Inner::new(connector)));
    }

    /// Sends a request and waits for the response head: as long as `silence`, from the last piece of
    /// content that left. `request` makes the message for one version of HTTP; `now`, it begins.
    pub(super) async fn exchange(
        &self,
        request: impl Fn(Version) -> Request<Content>,
        outgoing: &Outgoing<'_>,
        silence: Duration,
        now: Instant,
    ) -> Result<(Response<Incoming>, Lent), Failure> {
        let content = &outgoing.content;
        let mut refusals = 0;
        loop {
            let mut lent = self.0.load_full().lend(outgoing, now).await?;
            match lent.send(&request, content, silence, now).await {
                Ok(response) => return Ok((response, lent)),
                Err(Unanswered::Closed(_)) if lent.is_reused => {}
                Err(Unanswered::Closed(error)) => return Err(Failure::of(error, content)),
                Err(Unanswered::Failed(failure)) => {
                    // RFC 9113 §8.7: a request that was refused "has not been processed".
                    let may_repeat = failure.is_unprocessed() && content.is_whole();
                    if !may_repeat || refusals == MOST_REFUSALS {
                        return Err(failure);
                    }
                    refusals += 1;
                }
            }
        }
    }
}

impl Inner {
    fn new(connector: Connector) -> Self {
        Self { connector, kept: Mutex::default(), speaks_http1: AtomicBool::new(false) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for one exchange.
    async fn lend(
        self: &Arc<Self>,
        outgoing: &Outgoing<'_>,
        now: Instant,
    ) -> Result<Lent, Failure> {
        // RFC 9113 §8.6: in HTTP/2 there is no `Upgrade`.
        let to_http1 = outgoing.upgrade.is_some();
        let lent = |line, is_reused| {
            // Who comes next may speak otherwise than one that was to speak HTTP/1.1.
            let is_other = to_http1 && self.connector.may_speak_http2();
            let home = if is_other { Weak::new() } else { Arc::downgrade(self) };
            Lent { home, line, is_reused, progress: outgoing.content.progress() }
        };
        loop {
            if let Some(sender) = self.idle(now).await {
                return Ok(lent(Line::Http1(sender), true));
            }
            let is_http1 = to_http1 || self.speaks_http1.load(Ordering::Relaxed);
            if is_http1 || !self.connector.may_speak_http2() {
                // Rare, and large: a request has no room for it.
                match Box::pin(self.connector.open(to_http1)).await? {
                    Opened::Http1(sender) => return Ok(lent(Line::Http1(sender), false)),
                    opened @ Opened::Http2(_) => self.learn(opened),
                }
            }
            match self.way() {
                Way::Here(stream) => {
                    let is_reused = stream.is_reused;
                    return Ok(lent(Line::Http2(stream), is_reused));
                }
                Way::Opening(mut opening) => {
                    // Where whoever opens it has ended with its runtime, the next one does.
                    if let Ok(opened) = opening.wait_for(Option::is_some).await {
                        opened.clone().transpose()?;
                    }
                }
            }
        }
    }

    /// One of HTTP/1.1 that waits, the one that has for the shortest time: the others can be closed.
    async fn idle(&self, now: Instant) -> Option<Sender> {
        loop {
            let (mut sender, since) = self.kept().idle.pop()?;
            if now.saturating_duration_since(since) < IDLE && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    /// Where there is room for an exchange of HTTP/2.
    fn way(self: &Arc<Self>) -> Way {
        let mut kept = self.kept();
        kept.shared.retain(|connection| connection.is_open());
        // Those that come first are filled first, so that the others can be closed.
        if let Some(stream) = kept.shared.iter().find_map(Http2::begin) {
            return Way::Here(stream);
        }
        if let Some(opening) = kept.opening.as_ref().filter(|it| it.has_changed().is_ok()) {
            return Way::Opening(opening.clone());
        }
        let (told, opening) = watch::channel(None);
        kept.opening = Some(opening.clone());
        drop(kept);
        let inner = Arc::clone(self);
        TokioExecutor::new().execute(async move {
            let opened = inner.connector.open(false).await.map(|opened| inner.learn(opened));
            inner.kept().opening = None;
            told.send_replace(Some(opened));
        });
        Way::Opening(opening)
    }

    /// As [`Inner::keep`], of one that was opened as whoever comes would.
    fn learn(self: &Arc<Self>, opened: Opened) {
        self.speaks_http1.store(matches!(opened, Opened::Http1(_)), Ordering::Relaxed);
        self.keep(opened, Instant::now());
    }

    /// Keeps a connection for whoever comes, which is used no more since then.
    fn keep(self: &Arc<Self>, opened: Opened, since: Instant) {
        let mut kept = self.kept();
        match opened {
            Opened::Http1(sender) if kept.idle.len() >= MOST_IDLE => drop(sender),
            Opened::Http1(sender) => kept.idle.push((sender, since)),
            Opened::Http2(connection) => kept.shared.push(Arc::new(connection)),
        }
        let is_tended = std::mem::replace(&mut kept.is_tended, true);
        drop(kept);
        if !is_tended {
            TokioExecutor::new().execute(tend(Arc::downgrade(self)));
        }
    }
}

/// Closes connections that are idle for too long, as long as there are any.
async fn tend(connections: Weak<Inner>) {
    loop {
        tokio::time::sleep(IDLE / 3).await;
        let Some(connections) = connections.upgrade() else { return };
        let mut kept = connections.kept();
        kept.idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE);
        kept.shared.retain(|connection| connection.is_open() && !connection.is_idle(IDLE));
        if kept.idle.is_empty() && kept.shared.is_empty() {
            kept.is_tended = false;
            return;
        }
    }
}

impl Lent {
    async fn send(
        &mut self,
        request: impl Fn(Version) -> Request<Content>,
        content: &Content,
        silence: Duration,
        now: Instant,
    ) -> Result<Response<Incoming>, Unanswered> {
        // Others have been waited for.
        let at_once = self.is_reused && matches!(self.line, Line::Http1(_));
        let end = if at_once { now } else { Instant::now() } + silence;
        let result = match &mut self.line {
            Line::Http1(sender) => {
                let response = sender.try_send_request(request(Version::HTTP_11));
                in_time(pin!(response), content, silence, end).await
            }
            Line::Http2(stream) => {
                let mut sender = stream.sender();
                let response = sender.try_send_request(request(Version::HTTP_2));
                in_time(pin!(response), content, silence, end).await
            }
        };
        if matches!(result, Err(Unanswered::Failed(Failure::Timeout))) {
            self.was_silent(silence);
        }
        result
    }

    /// Nothing came for this exchange for so long.
    pub(super) fn was_silent(&self, patience: Duration) {
        if let Line::Http2(stream) = &self.line {
            stream.was_silent(patience);
        }
    }

    /// Of the request's content; none if all of it was at hand.
    pub(super) fn progress(&self) -> Option<&Progress> {
        self.progress.as_deref()
    }

    /// The response has come whole; at this moment, if that is known.
    pub(super) fn end(self, now: Option<Instant>) {
        // Where the request has not ended, the next response could be the answer to the rest of it.
        let is_over = self.progress.is_none_or(|progress| progress.is_over());
        if let (Line::Http1(sender), Some(home), true) = (self.line, self.home.upgrade(), is_over) {
            home.keep(Opened::Http1(sender), now.unwrap_or_else(Instant::now));
        }
    }
}

/// Waits for a response head until `end`; or for so long, from the last piece of content that left.
async fn in_time(
    mut response: Pin<
        &mut impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Content>>>>,
    >,
    content: &Content,
    patience: Duration,
    end: Instant,
) -> Result<Response<Incoming>, Unanswered> {
    let mut silence = pin!(tokio::time::sleep_until(end));
    loop {
        tokio::select! {
            biased;
            result = &mut response => return result.map_err(|mut error| {
                let is_unsent = error.take_message().is_some();
                let error = error.into_error();
                if is_unsent {
                    Unanswered::Closed(error)
                } else {
                    Unanswered::Failed(Failure::of(error, content))
                }
            }),
            () = content.held_too_long(UNASKED.min(patience / 2)) => content.go_on(),
            () = content.moved() => silence.as_mut().reset(Instant::now() + patience),
            () = &mut silence => return Err(Unanswered::Failed(Failure::Timeout)),
        }
    }
}
