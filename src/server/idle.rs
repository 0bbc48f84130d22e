//! A connection of HTTP/1.1 between two requests, without the room that a request takes.
//!
//! hyper keeps two buffers of 8 KiB each for as long as a connection lasts. A connection that has waited a
//! moment for its next request gives them back: hyper's connection is taken apart, and put together again
//! when something comes. What is told here is when that may be done: hyper waits for a head, which nothing
//! has come of, and all that was written has gone.
//!
//! Besides, what hyper cannot know: that a request is being answered without it, and since when the next head is
//! waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;

/// Requests that follow one another in less than this find the connection as it was.
const MOMENT: Duration = Duration::from_secs(1);

/// Whether one connection is idle. Clones are the same connection, which one task drives.
#[derive(Clone)]
pub(super) struct Idle(Arc<Shared>);

struct Shared {
    moment: Duration,
    /// Times are counted from here, in nanoseconds.
    made: Instant,
    /// When the last request was answered that hyper was not told of; 0: none was.
    answered: AtomicU64,
    is_answering: AtomicBool,
    awaits_head: AtomicBool,
    is_quiet: AtomicBool,
    has_waited: AtomicBool,
}

impl Default for Idle {
    fn default() -> Self {
        Self::after(MOMENT)
    }
}

impl Idle {
    /// A new connection. It is idle once it has waited for so long.
    pub(super) fn after(moment: Duration) -> Self {
        Self(Arc::new(Shared {
            moment,
            made: clock::instant(),
            answered: AtomicU64::new(0),
            is_answering: AtomicBool::new(false),
            awaits_head: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
            has_waited: AtomicBool::new(false),
        }))
    }

    /// How long it has waited when it is idle.
    pub(super) fn moment(&self) -> Duration {
        self.0.moment
    }

    /// Whether nothing has come since the last request ended, and nothing waits to be written.
    pub(super) fn set_quiet(&self, is_quiet: bool) {
        self.0.is_quiet.store(is_quiet, Ordering::Relaxed);
    }

    /// Whether hyper is waiting for a head, and has for [`Self::moment`].
    pub(super) fn set_waited(&self, has_waited: bool) {
        self.0.has_waited.store(has_waited, Ordering::Relaxed);
    }

    /// Hyper begins to wait for a head, or has got it.
    pub(super) fn set_awaiting(&self, awaits_head: bool) {
        self.0.awaits_head.store(awaits_head, Ordering::Relaxed);
    }

    /// Whether hyper waits for a head, and for nothing else.
    pub(super) fn awaits_head(&self) -> bool {
        self.0.awaits_head.load(Ordering::Relaxed)
    }

    /// A request is being answered that hyper is not told of, or is not any more. Meanwhile no head is waited for.
    pub(super) fn set_answering(&self, is_answering: bool) {
        self.0.is_answering.store(is_answering, Ordering::Relaxed);
        self.set_waited(false);
    }

    /// Whether one is.
    pub(super) fn is_answering(&self) -> bool {
        self.0.is_answering.load(Ordering::Relaxed)
    }

    /// A request has been answered that hyper was not told of: from then on the next is waited for.
    pub(super) fn answered(&self, at: Instant) {
        let nanoseconds = at.saturating_duration_since(self.0.made).as_nanos();
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        self.0.answered.store(nanoseconds.max(1), Ordering::Relaxed);
        self.set_waited(false);
    }

    /// When the last was.
    pub(super) fn answered_at(&self) -> Option<Instant> {
        let answered = self.0.answered.load(Ordering::Relaxed);
        (answered > 0).then(|| self.0.made + Duration::from_nanos(answered))
    }

    /// Whether hyper needs no room for it.
    pub(super) fn is_idle(&self) -> bool {
        self.0.has_waited.load(Ordering::Relaxed) && self.0.is_quiet.load(Ordering::Relaxed)
    }
}
