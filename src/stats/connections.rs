//! Clients' connections.

use serde::Serialize;

use super::Counter;

/// How many there have been.
#[derive(Debug, Default)]
pub struct Connections {
    /// Those that were accepted.
    pub accepted: Counter,
    /// Those that have ended.
    pub ended: Counter,
}

/// How many there have been, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionFigures {
    /// Those that were accepted.
    pub accepted: u64,
    /// Those that are open.
    pub open: u64,
}

impl Connections {
    pub(super) fn snapshot(&self) -> ConnectionFigures {
        // In this order, so that none ends before it was accepted.
        let ended = self.ended.value();
        let accepted = self.accepted.value();
        ConnectionFigures { accepted, open: accepted.saturating_sub(ended) }
    }
}
