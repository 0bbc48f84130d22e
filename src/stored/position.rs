//! Where in the invalidation log a stored response was born, and when its fetch began.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A place in the invalidation log: the id of a Redis stream (milliseconds, then a sequence number
/// within them). Without Redis only the sequence number counts up. Ordered as the log is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The server's clock when the record was appended.
    pub millis: u64,
    /// Counts up within a millisecond.
    pub sequence: u64,
}

impl Position {
    /// Before every record.
    pub const ZERO: Self = Self { millis: 0, sequence: 0 };

    /// The place right after this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.sequence.checked_add(1) {
            Some(sequence) => Self { sequence, ..self },
            None => Self { millis: self.millis.saturating_add(1), sequence: 0 },
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// A moment by this process's own steady clock, in milliseconds since its store began. It means nothing
/// elsewhere, so it is no part of what L2 keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Before anything was fetched here.
    pub const BEFORE_ALL: Self = Self(0);
}

/// A text that is not `MILLIS-SEQUENCE`.
#[derive(Debug, thiserror::Error)]
#[error("not a log position: `{0}`")]
pub struct NotAPosition(String);

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let parsed = text.split_once('-').and_then(|(millis, sequence)| {
            Some(Self { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
        });
        parsed.ok_or_else(|| NotAPosition(text.chars().take(64).collect()))
    }
}
