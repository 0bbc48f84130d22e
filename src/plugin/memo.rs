//! Remembered answers of one policy's `key`.
//!
//! Inputs are compared in full, octet by octet: a hash alone could be made to collide, and would
//! then answer one request with another's response.
//!
//! All workers share the map. Before it each worker has the answers that it has just given, where one
//! is found with half of the work.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::answers::KeyAnswer;
use crate::bounded::Shared;
use crate::recent::{self, Recent};

/// Longer inputs are asked about each time, so that the memory of all answers has a bound.
pub(super) const LONGEST: usize = 4096;

/// An answer of so many octets, with its inputs, counts as one more: clients choose how long inputs are.
const COUNTS: usize = 1024;

thread_local! {
    /// Packing inputs for a look-up allocates nothing.
    static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };

    /// Those of all policies.
    static RECENT: RefCell<Recent<KeyAnswer>> = RefCell::default();
}

/// A bounded map from packed inputs to answers.
pub(super) struct Memo {
    /// Never given twice: it stands before the inputs, as one worker's recent answers are those of
    /// several maps.
    number: u64,
    shared: Shared<Box<[u8]>, KeyAnswer>,
}

impl Memo {
    /// Keeps so many answers of less than [`COUNTS`] octets, and fewer that are longer.
    pub(super) fn new(most: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), shared: Shared::new(most) }
    }

    /// The answer to the inputs that `pack` appends.
    pub(super) fn find(&self, pack: impl FnOnce(&mut Vec<u8>)) -> Option<KeyAnswer> {
        PACKED.with_borrow_mut(|packed| {
            packed.clear();
            self.pack(packed, pack);
            let found = if packed.len() > LONGEST { None } else { self.look(packed) };
            // One extraordinary request must not hold memory for good.
            packed.shrink_to(4 * LONGEST);
            found
        })
    }

    fn look(&self, packed: &[u8]) -> Option<KeyAnswer> {
        let shared = |hash| self.shared.get(hash, packed).ok_or(());
        RECENT.with_borrow_mut(|recent| recent.get_or(packed, shared)).ok()
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, pack: impl FnOnce(&mut Vec<u8>), answer: KeyAnswer) {
        let mut packed = Vec::new();
        self.pack(&mut packed, pack);
        if packed.len() <= LONGEST {
            let hash = recent::hash(&packed);
            let weight = 1 + (packed.len() + answer.octets()) / COUNTS;
            self.shared.insert(hash, packed.into_boxed_slice(), answer, weight as u64);
        }
    }

    fn pack(&self, packed: &mut Vec<u8>, inputs: impl FnOnce(&mut Vec<u8>)) {
        packed.extend(self.number.to_le_bytes());
        inputs(packed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Parts;
    use crate::stored::CacheKey;

    /// How many of ten thousand different inputs of so many octets are found, where ten thousand usual
    /// ones have room.
    fn found(octets: usize, answer: &KeyAnswer) -> usize {
        const MANY: u64 = 10_000;
        let memo = Memo::new(MANY);
        let pack = |number: u64, packed: &mut Vec<u8>| {
            packed.extend(number.to_le_bytes());
            packed.resize(octets, b'a');
        };
        for number in 0..MANY {
            memo.keep(|packed| pack(number, packed), answer.clone());
        }
        let all = 0..MANY;
        all.filter(|number| memo.find(|packed| pack(*number, packed)).is_some()).count()
    }

    #[test]
    fn what_is_long_counts_as_several() {
        let text = "a".repeat(16 << 10);
        let short = KeyAnswer::Bypass("short".into());
        let part: (Box<str>, Box<str>) = ("a".into(), text.as_str().into());
        let parts: Parts = [part].into();
        let name = text.as_str().into();
        let long = KeyAnswer::Key { key: CacheKey([0; 32]), name, parts: Some(parts) };
        for (octets, answer, expected, why) in [
            // Some places are full before others.
            (200, &short, 9_500..=10_000, "usual ones"),
            (LONGEST, &short, 1_500..=2_999, "long inputs"),
            (200, &long, 200..=400, "long answers"),
            (LONGEST + 1, &short, 0..=0, "inputs that are not kept"),
        ] {
            let found = found(octets, answer);
            assert!(expected.contains(&found), "{why}: {found}");
        }
    }
}
