//! What a gateway says of itself to the fleet: a line in Redis, once a second.

use std::time::Duration;

use crate::stored::Position;

/// A gateway that has said nothing for so long counts as gone.
pub(super) const ALIVE: Duration = Duration::from_secs(5);

/// A gateway's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) reached: Position,
    /// In milliseconds since 1970.
    pub(super) at: u64,
    pub(super) process: String,
}

impl Beat {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let reached = words.next()?.parse().ok()?;
        let (at, process) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        Some(Self { reached, at, process })
    }

    /// Whether its gateway counts as alive at this time of the server's. One whose line is from the
    /// future does: another server's clock may have been ahead, and it will soon write a line of this
    /// one's.
    pub(super) fn is_alive(&self, now: u64) -> bool {
        u128::from(now.saturating_sub(self.at)) <= ALIVE.as_millis()
    }
}
