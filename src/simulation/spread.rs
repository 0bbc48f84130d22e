//! How many distinct values there are, in little memory.

use std::collections::HashSet;

use foldhash::fast::FixedState;

/// So many are counted one by one.
const EXACT: usize = 1024;

/// The places of a sketch, as a power of two: it takes 16 KiB, and is wrong by 0.8 % as a rule.
const PLACES: u32 = 14;

/// Counts distinct hashes: one by one while they are few, then by `HyperLogLog` (Flajolet et al., 2007), which
/// notes for each of its places the longest run of zeroes that a hash had.
#[derive(Clone, Debug)]
pub(super) enum Distinct {
    Exact(HashSet<u64, FixedState>),
    Sketch(Box<[u8]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact(HashSet::with_hasher(FixedState::default()))
    }
}

impl Distinct {
    /// Counts a hash, if it is new. Its bits must be as good as random.
    pub(super) fn add(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > EXACT {
                    let mut places = vec![0; 1 << PLACES].into_boxed_slice();
                    for hash in &*hashes {
                        note(&mut places, *hash);
                    }
                    *self = Self::Sketch(places);
                }
            }
            Self::Sketch(places) => note(places, hash),
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Sketch(places) => estimate(places),
        }
    }

    /// Whether that is known, and not estimated.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }
}

fn note(places: &mut [u8], hash: u64) {
    // The upper bits say where, the lower ones what.
    let place = usize::try_from(hash >> (64 - PLACES)).unwrap_or_default();
    let run =
        u8::try_from((hash << PLACES).leading_zeros().min(64 - PLACES) + 1).unwrap_or(u8::MAX);
    if let Some(longest) = places.get_mut(place) {
        *longest = run.max(*longest);
    }
}

fn estimate(places: &[u8]) -> u64 {
    let count = f64::from(1_u32 << PLACES);
    let sum: f64 = places.iter().map(|run| (-f64::from(*run)).exp2()).sum();
    let mut estimate = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
    let empty: f64 = places.iter().map(|run| f64::from(u8::from(*run == 0))).sum();
    if estimate <= 2.5 * count && empty > 0.0 {
        // While many are empty, their number says more.
        estimate = count * (count / empty).ln();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "neither below zero nor above 2^64 by much"
    )]
    let rounded = estimate.round() as u64;
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_counted_and_many_estimated() {
        for (count, tolerance) in [
            (0, 0),
            (1, 0),
            (1000, 0),
            (1024, 0),
            (5000, 100),
            (100_000, 3000),
            (2_000_000, 60_000),
        ] {
            let mut distinct = Distinct::default();
            for number in 0..count {
                let hash = blake3::hash(&u64::to_le_bytes(number));
                let hash = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
                distinct.add(hash);
                distinct.add(hash);
            }
            assert!(distinct.count().abs_diff(count) <= tolerance, "{count}: {}", distinct.count());
            assert_eq!(distinct.is_exact(), tolerance == 0, "{count}");
        }
    }
}
