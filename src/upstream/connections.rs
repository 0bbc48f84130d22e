//! The connections to one server: those of HTTP/1.1 that wait for their next exchange, and those of HTTP/2,
//! which many share.
//!
//! A connection that closed before anything of a request left is no failure: another one takes it.
//!
//! Of HTTP/2 another connection is opened when those that are there have as many exchanges as the server
//! takes, or have said that they end (`GOAWAY`, RFC 9113 §6.8). One is opened at a time, and who finds no
//! room waits for it.
//!
//! One of HTTP/1.1 is but octets until hyper is to read what comes on it. From then on hyper has it, in a task.
//! Those that wait are of both kinds, and each exchange takes one of its own kind if there is any.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Response;
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::coming::Coming;
use super::connect::{Connector, Opened};
use super::direct;
use super::http2::{Http2, Stream};
use super::lent::{Http1, Lent, Line, Unanswered};
use super::outgoing::Message;
use super::{Failure, Outgoing};

/// A connection that nobody uses is closed after so long.
const IDLE: Duration = Duration::from_secs(30);

/// One that hyper has is ready as soon as its last exchange is over; or never, where the server reads no more.
const READY: Duration = Duration::from_millis(100);

/// So many of HTTP/1.1 may wait for their next exchange.
const MOST_IDLE: usize = 256;

/// A request may be refused unprocessed by so many streams.
const MOST_REFUSALS: u32 = 2;

/// What has come of opening a connection, once something has.
type Opening = watch::Receiver<Option<Result<(), Failure>>>;

/// The connections to one server. Dropping it closes those that are idle; others close when they become so.
pub(super) struct Connections(ArcSwap<Inner>);

/// As they are opened at present.
pub(super) struct Inner {
    connector: Connector,
    kept: Mutex<Kept>,
    /// The last that was opened speaks HTTP/1.1.
    speaks_http1: AtomicBool,
}

#[derive(Default)]
struct Kept {
    /// Since when each waits, the last one that came last.
    idle: Vec<(Http1, Instant)>,
    shared: Vec<Arc<Http2>>,
    opening: Option<Opening>,
    /// Somebody closes those that are idle for too long.
    is_tended: bool,
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
    /// content that left. `now`: it begins.
    pub(super) async fn exchange(
        &self,
        message: Message<'_, '_>,
        silence: Duration,
        now: Instant,
    ) -> Result<(Response<Coming>, Lent), Failure> {
        let content = &message.outgoing.content;
        let mut refusals = 0;
        loop {
            let (line, mut lent) = self.0.load_full().lend(message.outgoing, now).await?;
            match lent.send(line, message, silence, now).await {
                Ok(response) => return Ok((response, lent)),
                Err(Unanswered::Closed(_)) if lent.is_reused => {}
                Err(Unanswered::Closed(cause)) => return Err(Failure::of(cause, content)),
                Err(Unanswered::Failed(failure)) => {
                    lent.stop().await;
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
        outgoing: &Outgoing<'_, '_>,
        now: Instant,
    ) -> Result<(Line, Lent), Failure> {
        // RFC 9113 §8.6: in HTTP/2 there is no `Upgrade`.
        let to_http1 = outgoing.upgrade.is_some();
        let lent = |is_reused| {
            // Who comes next may speak otherwise than one that was to speak HTTP/1.1.
            let is_other = to_http1 && self.connector.may_speak_http2();
            let home = if is_other { Weak::new() } else { Arc::downgrade(self) };
            Lent::new(home, is_reused, outgoing.content.progress())
        };
        loop {
            if let Some(idle) = self.idle(outgoing.is_short(), now).await {
                return Ok((Line::Http1(idle), lent(true)));
            }
            let is_http1 = to_http1 || self.speaks_http1.load(Ordering::Relaxed);
            if is_http1 || !self.connector.may_speak_http2() {
                // Rare, and large: a request has no room for it.
                match Box::pin(self.connector.open(to_http1)).await? {
                    Opened::Http1(wire) => {
                        return Ok((Line::Http1(Http1::Wire(wire)), lent(false)));
                    }
                    opened @ Opened::Http2(_) => self.learn(opened),
                }
            }
            match self.way() {
                Way::Here(stream) => {
                    let is_reused = stream.is_reused;
                    return Ok((Line::Http2(stream), lent(is_reused)));
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

    /// One of HTTP/1.1 that waits, of those that hyper has or of the others, the one that has for the shortest
    /// time: the others can be closed.
    async fn idle(&self, is_short: bool, now: Instant) -> Option<Http1> {
        loop {
            let (mut idle, since) = self.kept().take(is_short)?;
            let is_open = match &mut idle {
                Http1::Wire(wire) => direct::is_open(wire).await,
                Http1::Spoken(sender) => {
                    let ready = timeout(READY, sender.ready()).await;
                    ready.is_ok_and(|ready| ready.is_ok())
                }
            };
            if is_open && now.saturating_duration_since(since) < IDLE {
                return Some(idle);
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
        match opened {
            Opened::Http1(wire) => self.keep(Http1::Wire(wire), Instant::now()),
            Opened::Http2(connection) => self.share(connection),
        }
    }

    /// Keeps a connection for whoever comes, which is used no more since then.
    pub(super) fn keep(self: &Arc<Self>, idle: Http1, since: Instant) {
        let mut kept = self.kept();
        if kept.idle.len() < MOST_IDLE {
            kept.idle.push((idle, since));
        }
        self.tend(kept);
    }

    /// Keeps a connection for all who come.
    fn share(self: &Arc<Self>, connection: Http2) {
        let mut kept = self.kept();
        kept.shared.push(Arc::new(connection));
        self.tend(kept);
    }

    fn tend(self: &Arc<Self>, mut kept: MutexGuard<'_, Kept>) {
        let is_tended = std::mem::replace(&mut kept.is_tended, true);
        drop(kept);
        if !is_tended {
            TokioExecutor::new().execute(tend(Arc::downgrade(self)));
        }
    }
}

impl Kept {
    /// The connection that waits for the shortest time, of this kind if there is one.
    fn take(&mut self, is_short: bool) -> Option<(Http1, Instant)> {
        let is_wanted = |(idle, _): &(Http1, _)| matches!(idle, Http1::Wire(_)) == is_short;
        match self.idle.iter().rposition(is_wanted) {
            Some(place) => Some(self.idle.remove(place)),
            None => self.idle.pop(),
        }
    }
}

/// Closes connections that are idle for too long, as long as there are any.
async fn tend(connections: Weak<Inner>) {
    loop {
        tokio::time::sleep(IDLE / 3).await;
        let Some(connections) = connections.upgrade() else { return };
        let mut kept = connections.kept();
        kept.idle.retain_mut(|(idle, since)| {
            let is_open = match idle {
                // Whoever has its next exchange is woken.
                Http1::Wire(wire) => {
                    direct::poll_open(wire, &mut Context::from_waker(Waker::noop()))
                }
                Http1::Spoken(sender) => !sender.is_closed(),
            };
            is_open && since.elapsed() < IDLE
        });
        kept.shared.retain(|connection| connection.is_open() && !connection.is_idle(IDLE));
        if kept.idle.is_empty() && kept.shared.is_empty() {
            kept.is_tended = false;
            return;
        }
    }
}
