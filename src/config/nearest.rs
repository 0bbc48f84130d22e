//! "Did you mean": the known name that a mistyped one was most likely meant to be.

/// Longer names are no slip of the finger, and comparing them costs the product of their lengths.
const LONGEST: usize = 64;

/// The closest of `known`, if it is close: a third of the name may differ, and at least one
/// character.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let length = name.chars().count();
    if length > LONGEST {
        return None;
    }
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (length.max(candidate.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or the list of what is known, or nothing where nothing is.
pub(super) fn hint<'k>(
    name: &str,
    what: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> Option<String> {
    if let Some(meant) = nearest(name, known.clone()) {
        return Some(format!("did you mean `{meant}`?"));
    }
    let all: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    (!all.is_empty()).then(|| format!("{what}: {}", all.join(", ")))
}

/// How many characters to insert, delete, replace or swap with their neighbour, ASCII case aside.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    let mut previous = None;
    for (i, c) in one.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut next = vec![i + 1];
        for (j, d) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&row, j) + usize::from(c != *d)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = j > 0 && previous == Some(*d) && other.get(j - 1) == Some(&c);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        previous = Some(c);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_found_and_other_words_are_not() {
        let known = ["key", "keys", "invalidation", "upstream", "ttl"];
        for (name, meant) in [
            ("kyes", Some("keys")),
            ("kee", Some("key")),
            ("invaldation", Some("invalidation")),
            ("Upstream", Some("upstream")),
            ("tll", Some("ttl")),
            ("namespace", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
        assert_eq!(nearest(&"k".repeat(100), known), None);
    }

    #[test]
    fn distances() {
        for (one, other, expected) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("ab", "ba", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn far_names_get_the_list() {
        assert_eq!(
            hint("x", "known keys", ["ttl", "redis"]).unwrap(),
            "known keys: `ttl`, `redis`"
        );
        assert_eq!(hint("x", "known keys", []), None);
    }
}
