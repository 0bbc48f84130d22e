//! A content as the original of its coded forms.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::semantics::Coding;

use super::CacheKey;

/// How many contents there have been in this process.
static CONTENTS: AtomicU64 = AtomicU64::new(0);

/// Tells a content from all others that this process has come by, whatever they are stored under: so
/// that a form of one is never taken for a form of what is in its place now. A process's own note, and
/// no part of what L2 keeps. A clone stands for the same content.
#[derive(Debug)]
pub struct Original {
    number: u64,
    /// By which rules it was judged last, and what came of it.
    judged: AtomicU64,
}

impl Default for Original {
    /// Of a content that has just come.
    fn default() -> Self {
        Self { number: CONTENTS.fetch_add(1, Ordering::Relaxed), judged: AtomicU64::new(0) }
    }
}

impl Clone for Original {
    /// It may go with other fields from now on.
    fn clone(&self) -> Self {
        Self { number: self.number, judged: AtomicU64::new(0) }
    }
}

impl Original {
    /// Under which its form in this coding lies, or is made. No response has such a key but by a chance
    /// of one in 2^184: it is no hash.
    pub fn form(&self, coding: Coding) -> CacheKey {
        let mut key = [0; 32];
        let number = self.number.to_le_bytes();
        let parts = number.into_iter().chain([coding as u8 + 1]);
        key.iter_mut().zip(parts).for_each(|(place, octet)| *place = octet);
        CacheKey(key)
    }

    /// What `judge` said of it, by rules that go by this number. It is asked again for other rules.
    pub fn judged(&self, rules: u64, judge: impl FnOnce() -> bool) -> bool {
        // Nothing was judged by rules of the number 0.
        let rules = rules.max(2) & !1;
        let judged = self.judged.load(Ordering::Relaxed);
        if judged & !1 == rules {
            return judged & 1 == 1;
        }
        let verdict = judge();
        self.judged.store(rules | u64::from(verdict), Ordering::Relaxed);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_forms_have_one_key() {
        let (one, other) = (Original::default(), Original::default());
        let codings = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
        let keys: Vec<_> =
            [&one, &other].iter().flat_map(|it| codings.map(|coding| it.form(coding))).collect();
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(key), "{at}");
        }
        assert_eq!(one.clone().form(Coding::Gzip), one.form(Coding::Gzip));
    }

    #[test]
    fn each_rules_are_asked_once() {
        let original = Original::default();
        for rules in [0, 1, 2, 3, u64::MAX] {
            for verdict in [true, false] {
                let original = original.clone();
                assert_eq!(original.judged(rules, || verdict), verdict, "{rules}");
                assert_eq!(original.judged(rules, || panic!("asked again")), verdict, "{rules}");
                assert_eq!(original.judged(100, || !verdict), !verdict, "other rules");
            }
        }
    }
}
