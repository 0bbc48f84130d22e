//! What operators are told of a purge: its id, and which gateways have applied it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::stored::Position;

/// What a purge is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeId {
    /// The place of its last record in the log: a gateway that has gone so far has applied it.
    Placed(Position),
    /// Redis was out of reach, and one gateway alone has applied it, at a place of its own: written
    /// `PLACE@GATEWAY`. That gateway can tell the id that it has got since.
    Waiting {
        /// The place, which means nothing to others.
        place: Position,
        /// The gateway's name.
        by: Arc<str>,
    },
}

/// What became of a purge.
#[derive(Clone, Debug)]
pub struct Purged {
    /// To ask [`Store::receipts`] by.
    ///
    /// [`Store::receipts`]: crate::store::Store::receipts
    pub id: PurgeId,
    /// As in [`Receipt`](crate::store::Receipt).
    pub shared: bool,
}

/// Which gateways have applied a purge.
#[derive(Clone, Debug)]
pub struct Receipts {
    /// As it was asked for; or the one that it has got since, if Redis was out of reach then.
    pub id: PurgeId,
    /// The fleet reads it.
    pub shared: bool,
    /// All that are alive, by name; this one among them.
    pub gateways: Vec<Applied>,
    /// Redis has told of it. If not, this is what was known before.
    pub known: bool,
}

impl Receipts {
    /// All that are alive have applied it.
    pub fn is_complete(&self) -> bool {
        self.known && self.shared && self.gateways.iter().all(|gateway| gateway.is_applied)
    }
}

/// One gateway, and whether it has applied a purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its name.
    pub name: Arc<str>,
    /// It has.
    pub is_applied: bool,
    /// When it did, by the Redis server's clock, if it has said so. One may have applied a record and
    /// not be able to write the receipt.
    pub at: Option<SystemTime>,
}

impl Applied {
    pub(super) fn not_yet(name: &str) -> Self {
        Self { name: name.into(), is_applied: false, at: None }
    }
}

/// Why there are no receipts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReceipts {
    /// The log has no purge of this id, and had none within the time for which receipts are kept.
    #[error("no purge of this id is known; receipts are kept for an hour")]
    Unknown,
    /// Another gateway gave the id, as it could not share the purge then.
    #[error("the gateway named in `{0}` gave this id while it could not share it: ask that one")]
    Of(PurgeId),
}

impl fmt::Display for PurgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed(place) => write!(f, "{place}"),
            Self::Waiting { place, by } => write!(f, "{place}@{by}"),
        }
    }
}

impl FromStr for PurgeId {
    type Err = NotAPurgeId;

    fn from_str(text: &str) -> Result<Self, NotAPurgeId> {
        // `parse` alone would take `+5-1`, and one purge has one id.
        let place = |text: &str| text.parse().ok().filter(|at: &Position| at.to_string() == text);
        let id = match text.split_once('@') {
            None => place(text).map(Self::Placed),
            Some((_, by)) if by.is_empty() || by.len() > 64 => None,
            Some((text, by)) => place(text).map(|place| Self::Waiting { place, by: by.into() }),
        };
        id.ok_or(NotAPurgeId)
    }
}

/// A text that is not `MILLIS-SEQUENCE` or `MILLIS-SEQUENCE@GATEWAY`.
#[derive(Debug, thiserror::Error)]
#[error(
    "not the id of a purge: those are as `1732600000000-0`, and end in `@NAME` where Redis was out of reach"
)]
pub struct NotAPurgeId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back() {
        for id in ["0-0", "1732600000000-12", "5-18446744073709551615", "5-1@shop-1"] {
            assert_eq!(id.parse::<PurgeId>().unwrap().to_string(), id);
        }
        let long = format!("5-1@{}", "a".repeat(65));
        for wrong in
            ["", "5", "5-", "-5", "+5-1", "05-1", "5-1-1", "5-1 ", "5-1@", "@a", "x-1@a", &long]
        {
            assert!(wrong.parse::<PurgeId>().is_err(), "{wrong}");
        }
    }
}
