//! Why responses were not stored lately, by their keys: what operators ask most. Noted where a response
//! is refused, which no hit ever comes to.

use std::time::SystemTime;

use http::StatusCode;

use crate::bounded::Shared;
use crate::semantics::NotStored;
use crate::store::Put;
use crate::stored::CacheKey;

use super::fetch::Fetch;

/// So many are remembered, some 100 octets each. Of one key it is the newest.
const MOST: u64 = 8192;

/// Why a response was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// RFC 9111, the route or its policy says so.
    NotStored(NotStored),
    /// Something that covers it was invalidated while it was fetched.
    Overtaken,
    /// No tier takes it.
    NoRoom,
    /// Its fields are too long.
    LongFields,
    /// It broke off.
    BrokeOff,
    /// None came.
    NoResponse,
}

impl Reason {
    /// A word for it; what `Cache-Status` says, where that says it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotStored(why) => why.as_str(),
            Self::Overtaken => "invalidated-meanwhile",
            Self::NoRoom => "no-room",
            Self::LongFields => "long-fields",
            Self::BrokeOff => "broke-off",
            Self::NoResponse => "no-response",
        }
    }

    /// The same in a sentence.
    pub(super) fn explained(self) -> &'static str {
        match self {
            Self::NotStored(why) => why.explained(),
            Self::Overtaken => {
                "something that covers it was invalidated while it was fetched: it may be from before"
            }
            Self::NoRoom => {
                "no tier takes it: it is larger than L1, or its `Vary` names more than 16 fields"
            }
            Self::LongFields => "one of its fields has more than 65535 octets",
            Self::BrokeOff => "it broke off before its end",
            Self::NoResponse => "no response came from the upstream",
        }
    }
}

/// That a response was not stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) at: SystemTime,
    /// None: there was no response.
    pub(super) status: Option<StatusCode>,
    pub(super) reason: Reason,
}

/// The last ones.
pub(super) struct Refusals(Shared<CacheKey, Refusal>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Shared::new(MOST))
    }
}

impl Refusals {
    pub(super) fn last(&self, key: &CacheKey) -> Option<Refusal> {
        self.0.get(key.number(), key)
    }

    fn note(&self, key: &CacheKey, refusal: Refusal) {
        self.0.insert(key.number(), *key, refusal, 1);
    }
}

impl Fetch {
    /// Remembers that a response is not stored.
    pub(super) fn not_stored(&self, status: Option<StatusCode>, reason: Reason) {
        self.not_stored_at(self.gateway.clock.now(), status, reason);
    }

    /// The same of one that came at this time.
    pub(super) fn not_stored_at(&self, at: SystemTime, status: Option<StatusCode>, reason: Reason) {
        self.gateway.lasting.refusals.note(&self.key.hash, Refusal { at, status, reason });
    }

    /// The same, if what was put is not kept.
    pub(super) fn not_kept(&self, status: StatusCode, put: &Put) {
        if put.overtaken {
            self.not_stored(Some(status), Reason::Overtaken);
        } else if !put.kept {
            self.not_stored(Some(status), Reason::NoRoom);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_newest_of_a_key_is_remembered_and_all_are_bounded() {
        let refusals = Refusals::default();
        let note = |key: u8, reason| {
            let refusal = Refusal { at: UNIX_EPOCH, status: Some(StatusCode::OK), reason };
            refusals.note(&CacheKey([key; 32]), refusal);
        };
        note(1, Reason::NotStored(NotStored::NoStore));
        note(1, Reason::Overtaken);
        let last = refusals.last(&CacheKey([1; 32])).unwrap();
        assert_eq!(last.reason.as_str(), "invalidated-meanwhile");
        assert!(refusals.last(&CacheKey([2; 32])).is_none());
        let name = |number: u64| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_le_bytes());
            CacheKey(name)
        };
        let refusal = Refusal { at: UNIX_EPOCH, status: None, reason: Reason::NoResponse };
        (0..2 * MOST).for_each(|number| refusals.note(&name(number), refusal));
        let known = (0..2 * MOST).filter(|number| refusals.last(&name(*number)).is_some());
        let known = known.count() as u64;
        assert!((1..=MOST).contains(&known), "{known}");
    }
}
