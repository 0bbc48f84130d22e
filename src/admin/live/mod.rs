//! `GET /live`: what happens, once a second, as server-sent events.
//!
//! One task takes the figures, makes the differences and writes each event once, for all who watch: they
//! share its octets. Who begins to watch gets `begin` first, with what was counted in the last ten minutes
//! and the last day; it is written once a second at most, too. Then come
//!
//! | event | when | what |
//! |---|---|---|
//! | `second` | once a second | what was counted in it, how everything is |
//! | `invalidations` | as soon as they were applied here | what they cover |
//! | `receipts` | when there is news | which gateways have applied a purge |
//! | `busiest` | every ten seconds | the URLs that are hit most |
//!
//! Who cannot keep up gets `begin` again. While nobody watches, figures are taken and nothing is written.

mod errands;
mod frames;
mod history;
mod latency;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Context, problem};
use crate::gateway::Current;

use self::frames::Frames;

/// So many may watch at once.
const MOST_VIEWERS: usize = 256;

/// So many events wait for one who is slow.
const MOST_WAITING: usize = 64;

/// Who takes nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked for invalidations, while somebody watches.
const LOOK: Duration = Duration::from_millis(200);

/// Looks of a second.
const LOOKS: u32 = 5;

/// What all who watch have in common.
pub(super) struct Live {
    current: Arc<Current>,
    frames: Mutex<Frames>,
    events: broadcast::Sender<Bytes>,
    seats: Arc<Semaphore>,
    /// The listener ends.
    stop: CancellationToken,
}

impl Live {
    /// Takes figures until `stop`.
    pub(super) fn start(current: Arc<Current>, stop: CancellationToken) -> Arc<Self> {
        let frames = Mutex::new(Frames::new(&current.gateway()));
        let (events, _) = broadcast::channel(MOST_WAITING);
        let seats = Arc::new(Semaphore::new(MOST_VIEWERS));
        let live = Arc::new(Self { current, frames, events, seats, stop });
        let tasks = TaskTracker::new();
        let (looking, errands) = (Arc::clone(&live), Arc::clone(&live));
        tasks.spawn(async move { looking.until_stopped(looking.look()).await });
        tasks.spawn(async move { errands.until_stopped(errands.run_errands()).await });
        live
    }

    async fn until_stopped(&self, work: impl Future<Output = ()>) {
        self.stop.run_until_cancelled(work).await;
    }

    /// Looks at everything.
    async fn look(&self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0;
        loop {
            ticks.tick().await;
            looks = (looks + 1) % LOOKS;
            let gateway = self.current.gateway();
            let is_watched = self.is_watched();
            let mut frames = self.frames();
            if is_watched && let Some(event) = frames.invalidations(&gateway) {
                self.send(event);
            }
            if looks == 0 {
                frames.second(&gateway);
                if is_watched {
                    self.send(frames.written(&self.current));
                }
            }
        }
    }

    fn is_watched(&self) -> bool {
        self.events.receiver_count() > 0
    }

    fn send(&self, event: Bytes) {
        // Nobody may be left who watches.
        drop(self.events.send(event));
    }

    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a viewer gets first, and what comes after exactly that.
    fn begin(&self) -> (Bytes, broadcast::Receiver<Bytes>) {
        let mut frames = self.frames();
        // Those who watch already would miss what this one gets at once.
        if let Some(event) = frames.invalidations(&self.current.gateway()) {
            self.send(event);
        }
        // Nothing is sent while the frames are held.
        (frames.begin(&self.current), self.events.subscribe())
    }

    /// Sends everything to one viewer, until that goes.
    async fn serve(&self, mut viewer: Sender<Bytes, Infallible>, seat: OwnedSemaphorePermit) {
        let (begin, mut events) = self.begin();
        let mut next = begin;
        while let Ok(Ok(())) = timeout(PATIENCE, viewer.send_data(next)).await {
            next = match events.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => {
                    let begin;
                    (begin, events) = self.begin();
                    begin
                }
                Err(RecvError::Closed) => break,
            };
        }
        drop(seat);
    }
}

/// `GET /live`.
pub(super) async fn live(State(context): State<Context>) -> Response {
    let live = Arc::clone(&context.live);
    let Ok(seat) = Arc::clone(&live.seats).try_acquire_owned() else {
        let detail = "256 are watching, and that is all there may be";
        return problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    };
    let (viewer, body) = Channel::new(1);
    let serving = async move { live.until_stopped(live.serve(viewer, seat)).await };
    TaskTracker::new().spawn(serving);
    let fields = [
        (CONTENT_TYPE, "text/event-stream"),
        // Nor may a proxy in between gather what comes.
        (CACHE_CONTROL, "no-store, no-transform"),
    ];
    (fields, Body::new(body)).into_response()
}
