//! What clients invalidate, and what of it covers which resource.

use super::super::{mark, on_mark, on_pattern};
use crate::store::log::{Invalidation, Scope, Verdict};

/// The responses that a world knows: the first is `/a`, the second `/b`.
pub(super) const NAMES: [&str; 2] = ["a", "b"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// The mark of one resource.
    Mark(usize),
    /// A pattern that the first resource's name matches.
    Pattern,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Purge {
    pub(super) what: What,
    pub(super) soft: bool,
}

impl Purge {
    pub(super) const EVERYTHING: Self = Self { what: What::All, soft: false };
    pub(super) const STALE: Self = Self { what: What::All, soft: true };

    pub(super) const fn hard(what: What) -> Self {
        Self { what, soft: false }
    }

    pub(super) const fn soft(what: What) -> Self {
        Self { what, soft: true }
    }

    pub(super) fn covers(self, resource: usize) -> bool {
        match self.what {
            What::Mark(of) => of == resource,
            What::Pattern => resource == 0,
            What::All => true,
        }
    }

    /// What it leaves of a response that it covers.
    pub(super) fn leaves(self) -> Verdict {
        if self.soft { Verdict::Stale } else { Verdict::Gone }
    }

    pub(super) fn record(self) -> Invalidation {
        match self.what {
            What::Mark(resource) => on_mark(number(resource), self.soft),
            What::Pattern => on_pattern("a*", self.soft),
            What::All => Invalidation { scope: Scope::All, soft: self.soft },
        }
    }
}

/// The number of a resource's mark.
pub(super) fn number(resource: usize) -> u8 {
    let number = u8::try_from(resource).unwrap();
    debug_assert_eq!(mark(number).0[0], number);
    number
}
