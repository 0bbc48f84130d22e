//! Answers that begin without hyper and are sent by it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::gateway::Answer;

/// What becomes of an answer that hyper is to send. Clones are of the same connection.
#[derive(Clone, Default)]
pub(in crate::server) struct Begun(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// To a request that hyper is about to read.
    answer: Mutex<Option<Answer>>,
    /// One is waited for without hyper.
    is_awaited: AtomicBool,
    /// The connection ends with it.
    is_last: AtomicBool,
}

impl Begun {
    /// The answer to the request that hyper has read, if it has begun.
    pub(in crate::server) fn take(&self) -> Option<Answer> {
        self.0.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, answer: Answer) {
        *self.0.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// An answer is waited for without hyper, or is not any more.
    pub(super) fn set_awaited(&self, is_awaited: bool) {
        self.0.is_awaited.store(is_awaited, Ordering::Relaxed);
    }

    /// Has hyper send the answer that is waited for, the next time that it looks for a head. False: none is.
    pub(in crate::server) fn hand_over(&self) -> bool {
        let is_awaited = self.0.is_awaited.load(Ordering::Relaxed);
        self.0.is_last.store(is_awaited, Ordering::Relaxed);
        is_awaited
    }

    /// Whether the connection is to end with the answer that hyper was given.
    pub(in crate::server) fn is_last(&self) -> bool {
        self.0.is_last.load(Ordering::Relaxed)
    }
}
