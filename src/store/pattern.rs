//! Patterns over the readable names of stored responses: `users/*`.

use crate::stored::left_of;

/// Whether all of `name` matches: `*` stands for any run of characters, also an empty one, and
/// everything else for itself. A name that was cut off matches if what is left of it may be the
/// beginning of one that does: to invalidate too much is never wrong.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    if let Some(left) = left_of(name) {
        let first = pattern.split('*').next().unwrap_or_default();
        return left.starts_with(first) || first.starts_with(left);
    }
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        // The earliest match leaves the most for the pieces that follow.
        let Some((_, after)) = name.split_once(piece) else { return false };
        name = after;
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::stored::cut_name;

    use super::*;

    #[test]
    fn a_star_stands_for_any_run_and_the_rest_for_itself() {
        let longer = format!("users/{}", "4".repeat(600));
        let cut = cut_name(longer.clone());
        for (pattern, name, expected) in [
            ("users/42", "users/42", true),
            ("users/42", "users/421", false),
            ("users/*", "users/42?language=de", true),
            ("users/*", "users/", true),
            ("users/*", "user", false),
            ("*", "", true),
            ("**", "a", true),
            ("*/42", "users/42", true),
            ("*/42", "users/42/orders", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("*aa*aa*", "aaa", false),
            ("a?c", "abc", false),
            ("é*", "été", true),
            ("", "", true),
            ("", "a", false),
            ("users/*?page=2", &cut, true),
            ("offers/*", &cut, false),
            (&longer, &cut, true),
            ("users/*?page=2", "users/42…", false),
            ("users/*", "users/42…", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "`{pattern}` on `{name}`");
        }
    }

    /// The definition itself, in exponential time.
    fn by_definition(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                (0..=name.len()).any(|skipped| by_definition(rest, &name[skipped..]))
            }
            ([p, pattern @ ..], [n, name @ ..]) => p == n && by_definition(pattern, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*é]{0,7}", name in "[abé]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                matches(&pattern, &name),
                by_definition(&chars(&pattern), &chars(&name))
            );
        }
    }
}
