//! What a worker has found or worked out lately, to be had again by comparing octets.
//!
//! For what is asked for often, costs more than a comparison, and never becomes wrong.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::fast::RandomState;

/// How many values are kept.
const SLOTS: usize = 512;

/// Longer octets are not kept, so that those of one map take 2 MiB at most; 100 KiB are usual. Their
/// values come on top of that, each bounded where it is made: a head's fields, a policy's parts or a
/// token's claims can take several times as much as the octets.
const LONGEST: usize = 4096;

/// One for all threads, so that a hash made for one map serves for the next.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// A bounded map from octets to values, for one thread. The octets are compared in full: a hash alone
/// could be made to collide.
#[derive(Debug)]
pub struct Recent<V> {
    hasher: RandomState,
    slots: Vec<Slot<V>>,
}

/// Octets find their slot by their hash.
#[derive(Debug)]
struct Slot<V> {
    /// Which hash was asked for last. Twice in a row earns it the slot, so that a run of octets that
    /// come once leaves the others in place.
    asked: u64,
    kept: Option<(u64, Box<[u8]>, V)>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| Slot { asked: 0, kept: None });
        Self { hasher: HASHER.clone(), slots: slots.collect() }
    }
}

impl<V: Clone> Recent<V> {
    /// The value of these octets: a kept one, or what `find` comes to, which is told their [`hash`].
    ///
    /// # Errors
    /// Those of `find`.
    pub fn get_or<E>(
        &mut self,
        octets: &[u8],
        find: impl FnOnce(u64) -> Result<V, E>,
    ) -> Result<V, E> {
        let hash = self.hasher.hash_one(octets);
        let place = usize::try_from(hash % SLOTS as u64).unwrap_or_default();
        let Some(slot) = self.slots.get_mut(place) else { return find(hash) };
        if let Some((of, same, value)) = &slot.kept
            && *of == hash
            && **same == *octets
        {
            return Ok(value.clone());
        }
        let value = find(hash)?;
        if slot.asked == hash && octets.len() <= LONGEST {
            slot.kept = Some((hash, octets.into(), value.clone()));
        }
        slot.asked = hash;
        Ok(value)
    }
}

/// The hash of octets in all [`Recent`]s of this process.
pub fn hash(octets: &[u8]) -> u64 {
    HASHER.hash_one(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_is_kept() {
        let mut recent = Recent::default();
        let found: Vec<_> = (0..4).map(|n| recent.get_or(b"a", |_| Ok::<_, ()>(n))).collect();
        assert_eq!(found, [Ok(0), Ok(1), Ok(1), Ok(1)]);
    }

    #[test]
    fn each_gets_its_own() {
        let mut recent = Recent::default();
        for round in 0..3 {
            for n in 0..2000_u32 {
                let octets = n.to_le_bytes();
                for _ in 0..3 {
                    assert_eq!(recent.get_or(&octets, |_| Ok::<_, ()>(n)), Ok(n), "{round}");
                }
            }
        }
    }

    #[test]
    fn what_looks_further_is_told_the_hash() {
        let told = Recent::default().get_or(b"a", Ok::<_, ()>);
        assert_eq!(told, Ok(hash(b"a")));
        assert_ne!(hash(b"a"), hash(b"b"));
    }

    #[test]
    fn nothing_is_kept_of_a_failure_or_of_long_octets() {
        let mut recent = Recent::default();
        for _ in 0..3 {
            assert_eq!(recent.get_or(b"a", |_| Err::<u8, _>("none")), Err("none"));
        }
        let long = [0; LONGEST + 1];
        let found: Vec<_> = (0..3).map(|n| recent.get_or(&long, |_| Ok::<_, ()>(n))).collect();
        assert_eq!(found, [Ok(0), Ok(1), Ok(2)]);
    }
}
