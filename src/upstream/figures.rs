//! What an upstream's requests have come to, counted since it began.

use serde::{Serialize, Serializer};

use crate::stats::{Counter, Latency, Spread, Times};

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) requests: Counter,
    pub(super) passed_over: Counter,
    pub(super) retries: Counter,
    pub(super) retries_denied: Counter,
    pub(super) failures: Counter,
    pub(super) heads: Times,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Requests that were to be sent, each once.
    pub requests: u64,
    /// How often a connection was refused, and the next server got the request.
    pub passed_over: u64,
    /// How often a request was sent again.
    pub retries: u64,
    /// How often it was not, as the budget did not allow it.
    pub retries_denied: u64,
    /// Requests that got no response.
    pub failures: u64,
    /// How long requests waited that had to, as all servers had as many as they may; shown as percentiles.
    #[serde(serialize_with = "percentiles")]
    pub waits: Spread,
    /// How long the head of a response took that came, each time a server was asked; shown as percentiles.
    #[serde(rename = "latency", serialize_with = "percentiles")]
    pub heads: Spread,
}

fn percentiles<S: Serializer>(spread: &Spread, serializer: S) -> Result<S::Ok, S::Error> {
    Latency::of(spread).serialize(serializer)
}

impl Figures {
    pub(super) fn snapshot(&self, waits: &Times) -> Snapshot {
        Snapshot {
            requests: self.requests.value(),
            passed_over: self.passed_over.value(),
            retries: self.retries.value(),
            retries_denied: self.retries_denied.value(),
            failures: self.failures.value(),
            waits: waits.spread(),
            heads: self.heads.spread(),
        }
    }
}
