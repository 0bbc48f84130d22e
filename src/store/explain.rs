//! What lies in the tiers and what has invalidated it, for operators: nothing is moved, kept or judged
//! anew by these looks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use crate::store::Store;
use crate::store::l1::Held;
use crate::store::log::Verdict;
use crate::store::second::{Said, only};
use crate::store::variants::Variants;
use crate::stored::{CacheKey, Mark, Position, StoredResponse};

/// What a tier has under a key.
#[derive(Clone, Debug)]
pub enum Lies {
    /// There is no such tier.
    Off,
    /// It is out of use: nobody asks it.
    OutOfUse,
    /// It did not answer in time.
    NoAnswer,
    /// Nothing.
    Nothing,
    /// A response, for this long at most.
    Response(Found),
    /// Which variants there are, and the one that the request selects.
    Variants {
        /// How many.
        known: usize,
        /// The lists of fields that tell them apart, the newest first.
        vary: Vec<Vec<HeaderName>>,
        /// None: the request selects none of them, or it is gone.
        selected: Option<Found>,
    },
    /// Rules by which responses answer other queries than their own.
    Rules,
}

/// A response in a tier.
#[derive(Clone, Debug)]
pub struct Found {
    /// Itself.
    pub stored: Arc<StoredResponse>,
    /// How long the tier keeps it, if there is room.
    pub left: Duration,
    /// What the invalidation log says of it.
    pub validity: Validity,
}

/// What the invalidation log says of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Nothing covers it.
    Valid,
    /// A soft invalidation does.
    Stale,
    /// A hard one does.
    Gone,
}

/// A record of the invalidation log, as far as it is known here.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place.
    pub place: Position,
    /// What it covers becomes stale; else it is gone.
    pub soft: bool,
    /// What it covers.
    pub covers: Covers,
    /// What that stands for; none if the record is too old to be remembered.
    pub label: Option<Box<str>>,
    /// `write`, `purge`, `change` or `trouble`; none if it is not known.
    pub cause: Option<Box<str>>,
    /// The gateway that appended it.
    pub by: Option<Arc<str>>,
    /// How long ago it was applied here.
    pub ago: Option<Duration>,
}

/// What a record covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Covers {
    /// What bears this mark.
    Mark(Mark),
    /// What has a name that matches.
    Pattern(Box<str>),
    /// Everything.
    Everything,
}

impl Validity {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Stale => "stale",
            Self::Gone => "gone",
        }
    }
}

impl From<Verdict> for Validity {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Valid => Self::Valid,
            Verdict::Stale => Self::Stale,
            Verdict::Gone => Self::Gone,
        }
    }
}

impl Lies {
    /// The response that a request would get of it, valid or not.
    pub fn response(&self) -> Option<&Found> {
        match self {
            Self::Response(found) | Self::Variants { selected: Some(found), .. } => Some(found),
            _ => None,
        }
    }
}

impl Store {
    /// What lies in L1 under a key, for a request with these fields.
    pub fn lies_in_l1(&self, key: &CacheKey, fields: &HeaderMap, now: SystemTime) -> Lies {
        let Some(l1) = &self.l1 else { return Lies::Off };
        let found = |held| match held {
            Some((Held::Response(stored), left)) => {
                let validity = self.log.judge(&stored).into();
                Some(Found { stored, left, validity })
            }
            _ => None,
        };
        match l1.lies(key, now) {
            Some((Held::Variants(list), _)) => {
                let mut selected = list.selected_by(key, fields);
                let selected = selected.find_map(|key| found(l1.lies(&key, now)));
                variants(&list, selected)
            }
            Some((Held::Rules(_), _)) => Lies::Rules,
            held => found(held).map_or(Lies::Nothing, Lies::Response),
        }
    }

    /// The same for L2.
    pub async fn lies_in_l2(
        &self,
        key: &CacheKey,
        fields: &HeaderMap,
        now: SystemTime,
        deadline: Instant,
    ) -> Lies {
        let Some(l2) = self.l2() else {
            return if self.has_l2() { Lies::OutOfUse } else { Lies::Off };
        };
        let found = |said: Said| match said {
            Ok(Some((Held::Response(stored), left))) => {
                let validity = self.log.judge_from_l2(&stored).into();
                Some(Found { stored, left, validity })
            }
            _ => None,
        };
        match only(l2.look(&[*key], now, deadline).await) {
            Err(_) => Lies::NoAnswer,
            Ok(Some((Held::Variants(list), _))) => {
                let selected: Vec<_> = list.selected_by(key, fields).collect();
                let said = l2.look(&selected, now, deadline).await;
                variants(&list, said.into_iter().find_map(found))
            }
            Ok(Some((Held::Rules(_), _))) => Lies::Rules,
            said => found(said).map_or(Lies::Nothing, Lies::Response),
        }
    }

    /// The newest record that covers what has these marks and this name, whenever it was stored.
    pub fn last_invalidation(&self, marks: &[Mark], name: &str) -> Option<Record> {
        self.log.newest_covering(marks, name)
    }

    /// The record that has made a stored response invalid: the newest hard one, else the newest soft one.
    pub fn invalidated_by(&self, stored: &StoredResponse) -> Option<Record> {
        self.log.invalidated_by(stored)
    }
}

fn variants(list: &Variants, selected: Option<Found>) -> Lies {
    let vary = list.lists.iter().map(|names| names.to_vec()).collect();
    Lies::Variants { known: list.known.len(), vary, selected }
}
