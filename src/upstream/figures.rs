//! What an upstream's requests have come to, counted since it began.

use serde::Serialize;

use crate::stats::Counter;

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) requests: Counter,
    pub(super) passed_over: Counter,
    pub(super) retries: Counter,
    pub(super) retries_denied: Counter,
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Requests that were to be sent, each once.
    pub requests: u64,
    /// How often a connection was refused, and the next server got the request.
    pub passed_over: u64,
    /// How often a request was sent again.
    pub retries: u64,
    /// How often it was not, as the budget did not allow it.
    pub retries_denied: u64,
}

impl Figures {
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            requests: self.requests.value(),
            passed_over: self.passed_over.value(),
            retries: self.retries.value(),
            retries_denied: self.retries_denied.value(),
        }
    }
}
