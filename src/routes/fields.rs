//! What routes ask of a request's fields: whether it has that, which of two routes asks for more, and
//! whether a request could have what both ask for.

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::FieldCondition;

/// Whether all of this is so.
pub(super) fn hold(conditions: &[FieldCondition], fields: &HeaderMap) -> bool {
    conditions.iter().all(|condition| {
        let value = value(fields, &condition.name);
        value.is_some_and(|value| condition.values.iter().any(|it| matches(it.as_bytes(), &value)))
    })
}

/// A field's value: its lines, in one (RFC 9110 §5.3, and RFC 9113 §8.2.3 for cookies).
fn value<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = fields.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = lines.next()?;
    let rest: Vec<_> = lines.collect();
    if rest.is_empty() {
        return Some(first.into());
    }
    let between: &[u8] = if name == COOKIE { b"; " } else { b", " };
    Some([&[first], rest.as_slice()].concat().join(between).into())
}

/// Whether all of `value` matches: `*` stands for any run of octets, also an empty one, and everything
/// else for itself.
fn matches(pattern: &[u8], value: &[u8]) -> bool {
    let mut pieces = pattern.split(|octet| *octet == b'*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut value) = value.strip_prefix(first) else { return false };
    let mut pieces: Vec<_> = pieces.collect();
    let Some(last) = pieces.pop() else { return value.is_empty() };
    for piece in pieces {
        // The earliest match leaves the most for the pieces that follow.
        let mut places = value.windows(piece.len().max(1));
        let found = if piece.is_empty() { Some(0) } else { places.position(|it| it == piece) };
        let Some(place) = found else { return false };
        value = value.get(place + piece.len()..).unwrap_or_default();
    }
    value.ends_with(last)
}

/// How much is asked for, and how much of it exactly: who asks for more is more specific.
pub(super) fn rank(conditions: &[FieldCondition]) -> (usize, usize) {
    let is_exact = |it: &&FieldCondition| !it.values.iter().any(|value| value.contains('*'));
    (conditions.len(), conditions.iter().filter(is_exact).count())
}

/// Whether no request has both, as far as that can be told.
pub(super) fn exclude(these: &[FieldCondition], others: &[FieldCondition]) -> bool {
    let named = |name: &HeaderName| others.iter().find(|other| other.name == *name);
    let pairs = these.iter().filter_map(|it| Some((it, named(&it.name)?)));
    pairs
        .into_iter()
        .any(|(it, other)| it.values.iter().all(|a| other.values.iter().all(|b| differ(a, b))))
}

/// Whether no value matches both, as far as their ends tell.
fn differ(a: &str, b: &str) -> bool {
    match (a.contains('*'), b.contains('*')) {
        (false, false) => a != b,
        (false, true) => !matches(b.as_bytes(), a.as_bytes()),
        (true, false) => !matches(a.as_bytes(), b.as_bytes()),
        (true, true) => {
            let begin = |text: &str| text.split('*').next().unwrap_or_default().to_owned();
            let end = |text: &str| text.rsplit('*').next().unwrap_or_default().to_owned();
            let (a_begins, b_begins, a_ends, b_ends) = (begin(a), begin(b), end(a), end(b));
            let begin_alike = a_begins.starts_with(&b_begins) || b_begins.starts_with(&a_begins);
            let end_alike = a_ends.ends_with(&b_ends) || b_ends.ends_with(&a_ends);
            !begin_alike || !end_alike
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str) -> FieldCondition {
        let (name, values) = text.split_once('=').unwrap();
        let values = values.split('|').map(str::to_owned).collect();
        FieldCondition { name: name.parse().unwrap(), values }
    }

    fn conditions(text: &str) -> Vec<FieldCondition> {
        text.split_whitespace().map(condition).collect()
    }

    #[test]
    fn all_conditions_hold_by_whole_values() {
        for (asked, fields, expected, why) in [
            ("x=1", "x: 1", true, "the value"),
            ("x=1", "x: 12", false, "all of it"),
            ("x=1", "y: 1", false, "another field"),
            ("x=1", "", false, "no field"),
            ("x=1|2", "x: 2", true, "one of several"),
            ("x=A", "x: a", false, "case counts"),
            ("x=1 y=2", "x: 1\ny: 2", true, "both"),
            ("x=1 y=2", "x: 1", false, "one of two"),
            ("x=*", "x: anything", true, "any value"),
            ("x=*", "x:", true, "also an empty one"),
            ("x=*", "", false, "but the field"),
            ("x=v2*", "x: v2.1", true, "how it begins"),
            ("x=*json", "x: text/json", true, "how it ends"),
            ("x=a*b*c", "x: a-b-b-c", true, "what is in it"),
            ("x=a*b*c", "x: a-c-b", false, "in this order"),
            ("x=ab*ba", "x: aba", false, "nothing counts twice"),
            ("x=*aa*aa*", "x: aaa", false, "nothing counts twice"),
            ("x=1", "x: 1\nx: 1", false, "lines are one value"),
            ("x=1,*2", "x: 1\nx: 2", true, "lines are one value"),
            ("cookie=*b=2", "cookie: a=1\ncookie: b=2", true, "crumbs are one cookie"),
        ] {
            let lines = fields.lines().filter_map(|line| line.split_once(':'));
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                map.append(name.parse::<HeaderName>().unwrap(), value.trim().parse().unwrap());
            }
            assert_eq!(hold(&conditions(asked), &map), expected, "{asked} in {fields}: {why}");
        }
    }

    #[test]
    fn conditions_exclude_each_other_by_a_field_of_both() {
        for (these, others, expected) in [
            ("x=1", "x=2", true),
            ("x=1", "x=1|2", false),
            ("x=1|3", "x=2|4", true),
            ("x=1", "y=2", false),
            ("x=1 y=1", "y=2 z=1", true),
            ("x=v1", "x=v*", false),
            ("x=w1", "x=v*", true),
            ("x=v1*", "x=v2*", true),
            ("x=v*", "x=v2*", false),
            ("x=*a", "x=*b", true),
            ("x=*a", "x=b*", false),
            ("x=*", "x=*b", false),
        ] {
            let (these_, others_) = (conditions(these), conditions(others));
            assert_eq!(exclude(&these_, &others_), expected, "{these} and {others}");
            assert_eq!(exclude(&others_, &these_), expected, "{others} and {these}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_differs_has_no_value_in_common(
            a in "[ab*]{0,5}",
            b in "[ab*]{0,5}",
            value in "[ab]{0,6}",
        ) {
            let (a_, b_, value) = (a.as_bytes(), b.as_bytes(), value.as_bytes());
            proptest::prop_assert!(!(differ(&a, &b) && matches(a_, value) && matches(b_, value)));
        }
    }
}
