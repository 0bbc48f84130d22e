//! The response fields that name tags, by which many stored responses are invalidated at once:
//! `Cache-Groups` and `Cache-Group-Invalidation` (RFC 9875), `Surrogate-Key`, `Cache-Tag`.
//!
//! What a tag is scoped to is `gateway`'s to say: an equal text of another origin is another tag.
//! Tags are compared octet by octet, in all fields. They only ever shorten a stored response's
//! life, so of a field that is partly damaged what can be read counts.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Item, List, ListEntry, Parser};

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// How many tags one response may have, or invalidate. RFC 9875 §2 and §3: "at least 32 groups in a
/// field value"; sites that tag by what a page shows send some hundreds.
const MOST: usize = 1000;

/// How long one may be, in octets. RFC 9875 §2 and §3: "up to at least 32 characters in each member".
const LONGEST: usize = 1024;

/// How long the lines of one field may be together: what a stored field may be.
const LONGEST_FIELD: usize = u16::MAX as usize;

/// The tags that a response names, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Those of `Cache-Groups`, which a `Cache-Group-Invalidation` of the same origin reaches.
    pub groups: Vec<String>,
    /// Those of `Surrogate-Key` and `Cache-Tag`.
    pub others: Vec<String>,
}

/// A field names more tags, or longer ones, than are kept: 1000, of 1024 octets. To leave out any
/// of them would be to miss an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeyondBounds;

impl Tags {
    /// What these response fields name. A response without them costs three look-ups.
    pub fn of(fields: &HeaderMap) -> Result<Self, BeyondBounds> {
        let groups = strings(fields, &CACHE_GROUPS)?;
        let mut others = Vec::new();
        split(fields, &SURROGATE_KEY, u8::is_ascii_whitespace, &mut others)?;
        split(fields, &CACHE_TAG, |octet| *octet == b',', &mut others)?;
        let others = checked(others)?;
        if groups.len() + others.len() > MOST {
            Err(BeyondBounds)
        } else {
            Ok(Self { groups, others })
        }
    }
}

/// The groups that a response to an unsafe method invalidates (RFC 9875 §3), each once. Of a safe
/// method's response the field "MUST be ignored": the caller does.
pub fn invalidated_groups(fields: &HeaderMap) -> Result<Vec<String>, BeyondBounds> {
    strings(fields, &CACHE_GROUP_INVALIDATION)
}

/// Removes what is for the surrogate alone, which this is: `Surrogate-Key` and `Cache-Tag`. The
/// fields of RFC 9875 are for every cache on the way.
pub fn remove_surrogate_tags(fields: &mut HeaderMap) {
    // Hardly ever one is there, and one look at each name is quicker than two look-ups.
    if fields.keys().any(|name| matches!(name.as_str(), "surrogate-key" | "cache-tag")) {
        fields.remove(SURROGATE_KEY);
        fields.remove(CACHE_TAG);
    }
}

/// The members of a List of Strings. RFC 9651 §4.2: a field that does not parse is ignored whole.
/// Members that are no strings are ignored, as are parameters (RFC 9875 §2).
fn strings(fields: &HeaderMap, name: &HeaderName) -> Result<Vec<String>, BeyondBounds> {
    let lines: Vec<_> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if lines.iter().map(|line| line.len()).sum::<usize>() > LONGEST_FIELD {
        return Err(BeyondBounds);
    }
    // RFC 9651 §4.2: several lines are one list.
    let members = Parser::new(&lines.join(&b", "[..])).parse::<List>().unwrap_or_default();
    let strings = members.into_iter().filter_map(|member| match member {
        ListEntry::Item(Item { bare_item: BareItem::String(text), .. }) => Some(text.into()),
        ListEntry::Item(_) | ListEntry::InnerList(_) => None,
    });
    checked(strings.collect())
}

/// Adds what stands between separators. What is not UTF-8 becomes a text that is: two such tags may
/// become one, and then share their invalidations.
fn split(
    fields: &HeaderMap,
    name: &HeaderName,
    is_separator: impl Fn(&u8) -> bool,
    tags: &mut Vec<String>,
) -> Result<(), BeyondBounds> {
    let mut length = 0;
    for line in fields.get_all(name) {
        length += line.len();
        if length > LONGEST_FIELD {
            return Err(BeyondBounds);
        }
        let members = line.as_bytes().split(&is_separator).map(<[u8]>::trim_ascii);
        let members = members.filter(|member| !member.is_empty());
        tags.extend(members.map(|member| String::from_utf8_lossy(member).into_owned()));
    }
    Ok(())
}

fn checked(mut tags: Vec<String>) -> Result<Vec<String>, BeyondBounds> {
    tags.sort_unstable();
    tags.dedup();
    let holds = tags.len() <= MOST && tags.iter().all(|tag| tag.len() <= LONGEST);
    holds.then_some(tags).ok_or(BeyondBounds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    fn tags(lines: &[(&str, &str)]) -> Result<Tags, BeyondBounds> {
        Tags::of(&fields(lines))
    }

    #[test]
    fn groups_are_a_list_of_strings() {
        for (lines, expected, why) in [
            (vec![], vec![], "no field"),
            (vec![""], vec![], "an empty list"),
            (vec!["\"scripts\""], vec!["scripts"], "\"a List of Strings\""),
            (vec!["\"b\", \"a\""], vec!["a", "b"], "\"The ordering … is not significant\""),
            (vec!["\"a\",\t\"b\" , \"c\""], vec!["a", "b", "c"], "white space around commas"),
            (vec!["\"a\"", "\"b\""], vec!["a", "b"], "several lines are one list"),
            (vec!["\"a\", \"a\""], vec!["a"], "each once"),
            (vec!["\"A\", \"a\""], vec!["A", "a"], "compared \"character by character\""),
            (vec!["\"a b\", \"c,d\""], vec!["a b", "c,d"], "opaque"),
            (vec!["\"a\\\"b\\\\\""], vec!["a\"b\\"], "escapes (RFC 9651 §3.3.3)"),
            (vec!["\"a\";x=1;y, \"b\""], vec!["a", "b"], "unrecognised parameters are ignored"),
            (vec!["a, \"b\", 3, (\"c\"), ?1"], vec!["b"], "members that are no strings"),
            (vec!["\"a\", "], vec![], "no list (RFC 9651 §4.2): ignored"),
            (vec!["\"a\" \"b\""], vec![], "no list: ignored"),
            (vec!["\"a", "b\""], vec!["a, b"], "RFC 9651 §4.2: lines are joined before parsing"),
            (vec!["\"a"], vec![], "unterminated: ignored"),
            (vec!["\"caf\u{e9}\""], vec![], "strings are ASCII: ignored"),
            (vec!["\"a\"", "b c"], vec![], "one line that is no list spoils all"),
        ] {
            let named = |name| lines.iter().map(|line| (name, *line)).collect::<Vec<_>>();
            let found = tags(&named("cache-groups")).unwrap();
            assert_eq!(found.groups, expected, "{lines:?}: {why}");
            assert_eq!(found.others, [""; 0], "{lines:?}");
            let found = invalidated_groups(&fields(&named("cache-group-invalidation")));
            assert_eq!(found.unwrap(), expected, "{lines:?}: {why}");
        }
    }

    #[test]
    fn surrogate_keys_and_cache_tags() {
        for (lines, expected, why) in [
            (vec![("surrogate-key", "a b")], vec!["a", "b"], "separated by spaces"),
            (vec![("surrogate-key", "  a\tb ")], vec!["a", "b"], "any white space"),
            (vec![("surrogate-key", "a,b")], vec!["a,b"], "a comma separates nothing"),
            (vec![("surrogate-key", "")], vec![], "empty"),
            (vec![("cache-tag", "a,b")], vec!["a", "b"], "separated by commas"),
            (vec![("cache-tag", " a b , c,,")], vec!["a b", "c"], "spaces inside, no empty one"),
            (vec![("cache-tag", "A,a")], vec!["A", "a"], "case counts"),
            (
                vec![("cache-tag", "a"), ("cache-tag", "b"), ("surrogate-key", "a c")],
                vec!["a", "b", "c"],
                "all lines of both, each once",
            ),
        ] {
            let found = tags(&lines).unwrap();
            assert_eq!(found.others, expected, "{lines:?}: {why}");
            assert_eq!(found.groups, [""; 0], "{lines:?}");
        }
        let line = HeaderValue::from_bytes(b"caf\xe9 b").unwrap();
        let found = Tags::of(&HeaderMap::from_iter([(SURROGATE_KEY, line)])).unwrap();
        assert_eq!(found.others, ["b", "caf\u{fffd}"], "not UTF-8");
    }

    #[test]
    fn bounds() {
        let list = |count: usize| {
            let members = (0..count).map(|n| format!("\"{n:032}\""));
            members.collect::<Vec<_>>().join(",")
        };
        let keys = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let long = "x".repeat(LONGEST);
        for (lines, holds, why) in [
            (vec![("cache-groups", list(32))], true, "\"MUST support at least 32 groups\""),
            (vec![("cache-groups", list(MOST))], true, "at the bound"),
            (vec![("cache-groups", list(MOST + 1))], false, "one more"),
            (vec![("surrogate-key", keys(MOST))], true, "at the bound"),
            (vec![("surrogate-key", keys(MOST + 1))], false, "one more"),
            (vec![("cache-groups", list(1)), ("cache-tag", "a".into())], true, "of two fields"),
            (
                vec![("cache-groups", list(MOST)), ("cache-tag", "a".into())],
                false,
                "all fields together",
            ),
            (vec![("cache-tag", long.clone())], true, "as long as can be"),
            (vec![("cache-tag", format!("{long}x"))], false, "an octet more"),
            (vec![("cache-groups", format!("\"{long}x\""))], false, "an octet more"),
            (vec![("surrogate-key", "a ".repeat(1 << 15))], false, "too long a field"),
        ] {
            let lines: Vec<_> = lines.iter().map(|(name, line)| (*name, line.as_str())).collect();
            assert_eq!(tags(&lines).is_ok(), holds, "{why}");
        }
        let many = list(MOST + 1);
        let found = invalidated_groups(&fields(&[("cache-group-invalidation", &many)]));
        assert_eq!(found, Err(BeyondBounds));
    }

    #[test]
    fn what_clients_get() {
        let mut found = fields(&[
            ("cache-groups", "\"a\""),
            ("cache-group-invalidation", "\"b\""),
            ("surrogate-key", "c"),
            ("surrogate-key", "d"),
            ("cache-tag", "e"),
            ("etag", "\"1\""),
        ]);
        remove_surrogate_tags(&mut found);
        let expected =
            [("cache-groups", "\"a\""), ("cache-group-invalidation", "\"b\""), ("etag", "\"1\"")];
        assert_eq!(found, fields(&expected));
    }

    proptest! {
        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                for name in [CACHE_GROUPS, SURROGATE_KEY, CACHE_TAG] {
                    let found = Tags::of(&HeaderMap::from_iter([(name, line.clone())])).unwrap();
                    prop_assert!(found.groups.len() + found.others.len() <= octets.len());
                }
            }
        }

        #[test]
        fn every_string_is_found(texts in prop::collection::btree_set("[ -!#-\\[\\]-~]{0,8}", 0..9)) {
            let members: Vec<_> = texts.iter().map(|text| format!("\"{text}\"")).collect();
            let found = tags(&[("cache-groups", &members.join(", "))]).unwrap();
            prop_assert_eq!(found.groups, texts.into_iter().collect::<Vec<_>>());
        }
    }
}
