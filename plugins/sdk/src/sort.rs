//! Sorting, in few octets: that of the standard library adds five to seven thousand to a plugin.

use std::cmp::Ordering;

/// Sorts items: those that are equal keep their order. It takes as many steps as a sort must,
/// whatever a client sends.
///
/// ```
/// let names = vec!["b", "a2", "c", "a1"];
/// assert_eq!(larder_policy::sorted(names, |a, b| a[..1].cmp(&b[..1])), ["a2", "a1", "b", "c"]);
/// ```
pub fn sorted<T>(items: Vec<T>, compare: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let is_after = |first: usize, second: usize| {
        let (first, second) = (items.get(first), items.get(second));
        first.zip(second).is_some_and(|(first, second)| compare(first, second).is_gt())
    };
    // What is in order already, or nearly nothing, is left where it is.
    if !(1..items.len()).any(|second| is_after(second - 1, second)) {
        return items;
    }
    let order = order(items.len(), &is_after);
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    order.into_iter().filter_map(|index| items.get_mut(index)?.take()).collect()
}

/// The order of so many items, by merging longer and longer runs. There is one copy of it in a
/// plugin, whatever it sorts.
fn order(count: usize, is_after: &dyn Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut runs: Vec<usize> = (0..count).collect();
    let mut length = 1;
    while length < count {
        let mut merged = Vec::with_capacity(count);
        for pair in runs.chunks(2 * length) {
            let (mut first, mut second) = pair.split_at(length.min(pair.len()));
            while let ([a, after_a @ ..], [b, after_b @ ..]) = (first, second) {
                if is_after(*a, *b) {
                    merged.push(*b);
                    second = after_b;
                } else {
                    merged.push(*a);
                    first = after_a;
                }
            }
            merged.extend_from_slice(first);
            merged.extend_from_slice(second);
        }
        runs = merged;
        length *= 2;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;

    #[test]
    fn it_sorts_as_the_standard_library_does() {
        let mut numbers = Numbers::from(3);
        for count in (0..40).chain([1000]) {
            let items: Vec<_> = (0..count).map(|index| (numbers.below(10), index)).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            assert_eq!(sorted(items, |(a, _), (b, _)| a.cmp(b)), expected);
        }
    }
}
