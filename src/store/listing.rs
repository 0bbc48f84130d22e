//! What is stored, for operators: what L1 holds, found by looking through all of it, and one response of
//! either tier.
//!
//! L2 is not listed. Its keys are hashes, and neither Redis nor the disk keeps an index of them, which
//! every write would pay for; to go through all of Redis' keys would hold up everybody else who uses it.
//! What a gateway has answered with of late is in L1 as well.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use crate::store::Store;
use crate::store::explain::{Found, Lies, Validity};
use crate::store::l1::{Held, L1};
use crate::store::log::Verdict;
use crate::store::pattern;
use crate::stored::{CacheKey, Mark, StoredResponse};

/// A stored response that no hard invalidation covers.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it lies under.
    pub key: CacheKey,
    /// The response.
    pub stored: Arc<StoredResponse>,
    /// A soft invalidation covers it.
    pub soft: bool,
    /// Where it was found.
    pub tier: Tier,
}

/// Where a response lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In memory.
    L1,
    /// In Redis, or on the disk.
    L2,
}

/// Which responses are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Of names.
    pub pattern: Option<String>,
    /// They bear each of these marks, or what stands for it: one of a list.
    pub marks: Vec<Vec<Mark>>,
    /// By what they are in order.
    pub order: Order,
    /// From the other end.
    pub reversed: bool,
    /// What the page before ended with.
    pub after: Option<Cursor>,
    /// So many.
    pub most: usize,
}

/// By what responses are in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The readable name.
    #[default]
    Name,
    /// The youngest first.
    Age,
    /// What it takes in memory, the least first.
    Size,
}

/// Responses, as selected.
#[derive(Debug)]
pub struct Page {
    /// In order.
    pub responses: Vec<Listed>,
    /// How many were selected in all.
    pub matched: usize,
    /// How many of L1 are invalidated, selected or not: they are served no more, and take room until their
    /// end.
    pub invalidated: usize,
    /// Where the next page begins, if there is more.
    pub next: Option<Cursor>,
}

/// A place among responses in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    rank: Rank,
    key: CacheKey,
}

/// What a response is in order by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Name(Box<str>),
    Number(u64),
}

/// L2 may have a response that L1 has not, and cannot be asked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("L1 has no such response, and L2 does not answer")]
pub struct Unknown;

/// A text that is no cursor.
#[derive(Debug, thiserror::Error)]
#[error("not a cursor: it is the `next` of the page before")]
pub struct NotACursor;

impl Listed {
    /// What it takes in memory, in octets.
    pub fn octets(&self) -> usize {
        Held::Response(Arc::clone(&self.stored)).weight()
    }

    fn cursor(&self, order: Order) -> Cursor {
        let rank = match order {
            Order::Name => Rank::Name(self.stored.name.clone()),
            Order::Age => Rank::Number(u64::MAX - self.born()),
            Order::Size => Rank::Number(self.octets() as u64),
        };
        Cursor { rank, key: self.key }
    }

    /// When it was generated, in milliseconds since 1970: that does not change as time passes.
    fn born(&self) -> u64 {
        let freshness = &self.stored.freshness;
        let received = freshness.received.duration_since(UNIX_EPOCH).unwrap_or_default();
        let born = received.saturating_sub(freshness.initial_age);
        u64::try_from(born.as_millis()).unwrap_or(u64::MAX)
    }

    /// Without making a cursor of either.
    fn compare(&self, other: &Self, order: Order) -> Ordering {
        let by_order = match order {
            Order::Name => self.stored.name.cmp(&other.stored.name),
            Order::Age => other.born().cmp(&self.born()),
            Order::Size => self.octets().cmp(&other.octets()),
        };
        by_order.then_with(|| self.key.0.cmp(&other.key.0))
    }
}

impl Selection {
    fn selects(&self, stored: &StoredResponse) -> bool {
        let bears = |marks: &Vec<Mark>| marks.iter().any(|mark| stored.marks.contains(mark));
        self.pattern.as_ref().is_none_or(|pattern| pattern::matches(pattern, &stored.name))
            && self.marks.iter().all(bears)
    }

    fn compare(&self, one: &Listed, other: &Listed) -> Ordering {
        let ordering = one.compare(other, self.order);
        if self.reversed { ordering.reverse() } else { ordering }
    }

    fn is_after(&self, listed: &Listed) -> bool {
        let Some(after) = &self.after else { return true };
        let place = listed.cursor(self.order);
        let ordering = place.rank.cmp(&after.rank).then_with(|| place.key.0.cmp(&after.key.0));
        ordering == if self.reversed { Ordering::Less } else { Ordering::Greater }
    }

    /// Leaves one more than is wanted, which tells that there is more.
    fn cut(&self, best: &mut Vec<Listed>) {
        best.sort_unstable_by(|one, other| self.compare(one, other));
        best.truncate(self.most + 1);
    }
}

impl Store {
    /// Looks through all of L1 for responses. Takes about a tenth of a second for a hundred thousand of
    /// them: not on a thread that serves requests.
    pub fn list(&self, selection: &Selection, now: SystemTime) -> Page {
        let (mut matched, mut invalidated) = (0, 0);
        let mut best = Vec::new();
        for (key, stored) in self.l1.iter().flat_map(|l1| l1.responses(now)) {
            let verdict = self.log.judge(&stored);
            if verdict == Verdict::Gone {
                invalidated += 1;
                continue;
            }
            if !selection.selects(&stored) {
                continue;
            }
            matched += 1;
            let listed = Listed { key, stored, soft: verdict == Verdict::Stale, tier: Tier::L1 };
            if selection.is_after(&listed) {
                best.push(listed);
            }
            // What cannot be among the wanted any more does not gather.
            if best.len() > 2 * selection.most + 64 {
                selection.cut(&mut best);
            }
        }
        selection.cut(&mut best);
        let has_more = best.len() > selection.most;
        best.truncate(selection.most);
        let next = best.last().filter(|_| has_more).map(|last| last.cursor(selection.order));
        Page { responses: best, matched, invalidated, next }
    }

    /// What L1 may hold, in octets; 0 without it.
    pub fn l1_capacity(&self) -> usize {
        self.l1.as_ref().map_or(0, L1::capacity)
    }

    /// What L1 has under this key, or else L2 within its timeout, if nothing has made it invalid. It stays
    /// where it is.
    ///
    /// # Errors
    /// L1 has nothing, and what L2 has is not known.
    pub async fn listed(&self, key: &CacheKey, now: SystemTime) -> Result<Option<Listed>, Unknown> {
        let nothing = HeaderMap::new();
        let listed = |found: Found, tier| {
            let soft = found.validity == Validity::Stale;
            let is_there = found.validity != Validity::Gone;
            is_there.then_some(Listed { key: *key, stored: found.stored, soft, tier })
        };
        if let Lies::Response(found) = self.lies_in_l1(key, &nothing, now)
            && let Some(listed) = listed(found, Tier::L1)
        {
            return Ok(Some(listed));
        }
        match self.lies_in_l2(key, &nothing, now, self.deadline()).await {
            Lies::Response(found) => Ok(listed(found, Tier::L2)),
            Lies::OutOfUse | Lies::NoAnswer => Err(Unknown),
            Lies::Off | Lies::Nothing | Lies::Variants { .. } | Lies::Rules => Ok(None),
        }
    }
}

/// The key, then what it is in order by, all in hexadecimal.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        let mut octets = |octets: &[u8]| octets.iter().try_for_each(|it| write!(f, "{it:02x}"));
        match &self.rank {
            Rank::Name(name) => octets(name.as_bytes())?,
            Rank::Number(number) => octets(&number.to_be_bytes())?,
        }
        f.write_char(if matches!(self.rank, Rank::Name(_)) { 'n' } else { 'o' })
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let parsed = || {
            let (key, rank) = text.split_at_checked(64)?;
            let key = CacheKey::parse(key)?;
            let rank = if let Some(name) = rank.strip_suffix('n') {
                Rank::Name(String::from_utf8(octets(name)?).ok()?.into())
            } else {
                let octets = octets(rank.strip_suffix('o')?)?;
                Rank::Number(u64::from_be_bytes(octets.try_into().ok()?))
            };
            Some(Self { rank, key })
        };
        parsed().ok_or(NotACursor)
    }
}

impl Cursor {
    /// Whether it is of a page in this order.
    pub fn is_of(&self, order: Order) -> bool {
        matches!(self.rank, Rank::Name(_)) == (order == Order::Name)
    }
}

fn octets(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let octet = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(octet).collect::<Option<_>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_back() {
        let key = CacheKey([7; 32]);
        for rank in [Rank::Name("caf\u{e9}".into()), Rank::Name("".into()), Rank::Number(9)] {
            let cursor = Cursor { rank, key };
            assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        }
        let key = key.to_string();
        for wrong in ["", "x", &key, &format!("{key}6"), &format!("{key}6n"), &format!("{key}xyn")]
        {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
        for wrong in ["ffn", "00o", "000000000000000900o", "\u{e9}n"] {
            assert!(format!("{key}{wrong}").parse::<Cursor>().is_err(), "{wrong}");
        }
    }
}
