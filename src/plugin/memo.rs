//! Remembered answers of one policy's `key`.
//!
//! Inputs are compared in full, octet by octet: a hash alone could be made to collide, and would
//! then answer one request with another's response.

use std::cell::RefCell;

use foldhash::fast::RandomState;
use moka::sync::Cache;

use super::answers::KeyAnswer;

/// Longer inputs are asked about each time, so that the memory of all answers has a bound.
const LONGEST: usize = 4096;

thread_local! {
    /// Packing inputs for a look-up allocates nothing.
    static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A bounded map from packed inputs to answers.
pub(super) struct Memo(Cache<Box<[u8]>, KeyAnswer, RandomState>);

impl Memo {
    /// Keeps so many answers.
    pub(super) fn new(most: u64) -> Self {
        Self(Cache::builder().max_capacity(most).build_with_hasher(RandomState::default()))
    }

    /// The answer to the inputs that `pack` appends.
    pub(super) fn find(&self, pack: impl FnOnce(&mut Vec<u8>)) -> Option<KeyAnswer> {
        PACKED.with_borrow_mut(|packed| {
            packed.clear();
            pack(packed);
            let found = if packed.len() > LONGEST { None } else { self.0.get(packed.as_slice()) };
            // One extraordinary request must not hold memory for good.
            packed.shrink_to(4 * LONGEST);
            found
        })
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, pack: impl FnOnce(&mut Vec<u8>), answer: KeyAnswer) {
        let mut packed = Vec::new();
        pack(&mut packed);
        if packed.len() <= LONGEST {
            self.0.insert(packed.into_boxed_slice(), answer);
        }
    }
}
