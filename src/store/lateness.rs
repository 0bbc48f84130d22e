//! When answers come too late too often: a connection that only costs time is given up.
//!
//! A row of them is a server that hangs. A share of the last ones is one that answers some requests in
//! time and lets others wait for nothing, as where small responses are quick and large ones late: those in
//! time end every row.

use std::sync::atomic::{AtomicU32, Ordering};

/// So many of the last 32 are too many.
const MOST: u32 = 8;

/// How late one connection is.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    in_row: AtomicU32,
    /// The last 32, a bit each: whether it was late. The newest is the lowest.
    last: AtomicU32,
}

impl Lateness {
    /// An answer came in time.
    pub(super) fn in_time(&self) {
        self.in_row.store(0, Ordering::Relaxed);
        // As a rule none was late, and nothing is written that other threads read.
        if self.last.load(Ordering::Relaxed) != 0 {
            self.note(0);
        }
    }

    /// One did not. Answers whether that is enough: `most` in a row are.
    pub(super) fn missed(&self, most: u32) -> bool {
        let in_row = self.in_row.fetch_add(1, Ordering::Relaxed) + 1;
        in_row >= most || self.note(1).count_ones() >= MOST
    }

    fn note(&self, late: u32) -> u32 {
        let next = |last| last << 1 | late;
        let noted = |last| Some(next(last));
        match self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, noted) {
            Ok(before) | Err(before) => next(before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_or_a_share_is_enough() {
        for (answers, expected, why) in [
            ("x".repeat(5), Some(5), "five in a row"),
            ("xxxx-".repeat(2), Some(9), "the eighth of a few"),
            ("xxxx-xxx".to_owned(), None, "seven"),
            ("x---".repeat(8), Some(29), "each fourth"),
            ("x----".repeat(40), None, "each fifth"),
            ("-".repeat(100) + "xxxxx", Some(105), "whatever was before"),
        ] {
            let lateness = Lateness::default();
            let is_enough = |answer| {
                if answer == 'x' {
                    return lateness.missed(5);
                }
                lateness.in_time();
                false
            };
            let found = answers.chars().position(is_enough).map(|at| at + 1);
            assert_eq!(found, expected, "{why}");
        }
    }
}
