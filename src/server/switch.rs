//! What comes behind a request for another protocol: more of HTTP, or that protocol.
//!
//! A client may send it at once (RFC 9110 §7.8), and only the response tells what it is. Until then nobody
//! reads it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What comes next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request.
    Http,
    /// What was asked for.
    Other,
}

/// A connection, as far as that goes. Clones are the same connection.
#[derive(Clone, Default)]
pub(super) struct Switch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_open: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: Option<Next>,
    waker: Option<Waker>,
}

impl Switch {
    /// Begins to wait for a response.
    pub(super) fn open(&self) {
        self.state().next = None;
        self.0.is_open.store(true, Ordering::Release);
    }

    /// Whether a response is waited for that tells what comes next.
    pub(super) fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Acquire)
    }

    /// The response is there.
    pub(super) fn settle(&self, next: Next) {
        let mut state = self.state();
        state.next = Some(next);
        self.0.is_open.store(false, Ordering::Release);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// What comes next, once that is known.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.state();
        if let Some(next) = state.next {
            return Poll::Ready(next);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
