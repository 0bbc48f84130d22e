//! `No-Vary-Search`: which other queries a response answers (draft-ietf-httpbis-no-vary-search-05).
//!
//! The draft replaces the first requirement of RFC 9111 §4: the target URIs need not match, if they
//! are "equivalent modulo search variance". Scheme, authority and path must be the same; that is for
//! the caller to see to. How a key is made of the query is others' work, too.
//!
//! Two queries are equivalent if and only if their canonical forms are equal.

use std::borrow::Cow;

use http::HeaderName;
use http::header::HeaderMap;
use serde::{Deserialize, Serialize};
use sfv::{BareItem, Dictionary, InnerList, ListEntry, Parser};

use super::vary::joined;

/// The field's name.
pub const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// A rule that names more parameters is not heeded.
const MOST_NAMES: usize = 64;

/// Nor is one that is longer than this, in octets.
const LONGEST: usize = 4096;

/// Which parameters of a query, and which order of them, select another response: the draft's "URL
/// search variance", other than the default one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoVarySearch {
    /// "Vary on key order".
    ordered: bool,
    parameters: Parameters,
}

/// Names are decoded, sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Parameters {
    /// All of them do but these.
    AllBut(Vec<String>),
    /// None of them does but these.
    Only(Vec<String>),
}

impl NoVarySearch {
    /// What a response says. `None` is the default: the queries must be the same, octet for octet.
    /// So it is where the field cannot be read, contradicts itself, or is longer than anyone means.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let value = joined(fields, &NO_VARY_SEARCH).filter(|value| value.len() <= LONGEST)?;
        let members: Dictionary = Parser::new(&value).parse().ok()?;
        let ordered = match members.get("key-order") {
            None => true,
            Some(entry) => !boolean(entry)?,
        };
        let params = members.get("params");
        let except = match members.get("except") {
            None => None,
            // "If value["params"] is not true, then return the default URL search variance."
            Some(_) if params.and_then(boolean) != Some(true) => return None,
            Some(ListEntry::InnerList(list)) => Some(names(list)?),
            Some(ListEntry::Item(_)) => return None,
        };
        let parameters = match params {
            Some(ListEntry::InnerList(list)) => Parameters::AllBut(names(list)?),
            Some(entry) if boolean(entry)? => Parameters::Only(except.unwrap_or_default()),
            Some(_) | None => Parameters::AllBut(Vec::new()),
        };
        let is_default = ordered && parameters == Parameters::AllBut(Vec::new());
        (!is_default).then_some(Self { ordered, parameters })
    }

    /// What of a query counts, in one form: parameters as `application/x-www-form-urlencoded` has
    /// them, those left out that do not select, and in the order of their names if theirs means
    /// nothing. Not to be sent to anyone.
    pub fn canonical(&self, query: Option<&str>) -> String {
        let mut pairs: Vec<_> = parse(query.unwrap_or_default()).collect();
        pairs.retain(|(name, _)| match &self.parameters {
            Parameters::AllBut(names) => !has(names, name),
            Parameters::Only(names) => has(names, name),
        });
        if !self.ordered {
            // Stable: "in ascending order with keyLessThan", which compares names alone.
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        let mut canonical = String::new();
        for (name, value) in &pairs {
            escape(name, &mut canonical);
            canonical.push('=');
            escape(value, &mut canonical);
            canonical.push('&');
        }
        canonical
    }

    /// Whether a response to the one query answers the other, too.
    pub fn equivalent(&self, one: Option<&str>, other: Option<&str>) -> bool {
        self.canonical(one) == self.canonical(other)
    }

    /// The rule in octets, to make keys of: different for different rules.
    pub fn to_text(&self) -> String {
        let (kind, names) = match &self.parameters {
            Parameters::AllBut(names) => ("all-but", names),
            Parameters::Only(names) => ("only", names),
        };
        let mut text = format!("{} {kind}", if self.ordered { "ordered" } else { "any-order" });
        for name in names {
            text.push('&');
            escape(name, &mut text);
        }
        text
    }

    /// How many octets it takes, the struct itself aside.
    pub fn octets(&self) -> usize {
        let (Parameters::AllBut(names) | Parameters::Only(names)) = &self.parameters;
        names.iter().map(|name| size_of::<String>() + name.len()).sum()
    }

    /// Whether it keeps the bounds that rules have which this type has read.
    pub fn is_bounded(&self) -> bool {
        let (Parameters::AllBut(names) | Parameters::Only(names)) = &self.parameters;
        names.len() <= MOST_NAMES
    }
}

fn boolean(entry: &ListEntry) -> Option<bool> {
    match entry {
        ListEntry::Item(item) => item.bare_item.as_boolean(),
        ListEntry::InnerList(_) => None,
    }
}

/// "If any item [...] is not a string, then return the default URL search variance."
fn names(list: &InnerList) -> Option<Vec<String>> {
    let name = |item: &BareItem| item.as_string().map(|name| decode(name.as_str()).into_owned());
    let names = list.items.iter().map(|item| name(&item.bare_item));
    let mut names = names.collect::<Option<Vec<_>>>()?;
    names.sort_unstable();
    names.dedup();
    (names.len() <= MOST_NAMES).then_some(names)
}

fn has(names: &[String], name: &str) -> bool {
    names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
}

/// The parameters of a query, as the URL standard's `application/x-www-form-urlencoded` parser
/// finds them: empty ones are none, and a name alone has the empty value.
fn parse(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// `+` as a space, then percent-decoded, then decoded as UTF-8 with U+FFFD for what is none.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, behind)) = rest.split_first() {
        let decoded = match (octet, behind) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match (octet, decoded) {
            (_, Some(decoded)) => octets.push(decoded),
            (b'+', None) => octets.push(b' '),
            (octet, None) => octets.push(octet),
        }
        rest = behind.get(if decoded.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    Cow::Owned(String::from_utf8_lossy(&octets).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Keeps what separates from being mistaken for what is separated.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '%' => out.push_str("%25"),
            '&' => out.push_str("%26"),
            '=' => out.push_str("%3D"),
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    fn rule(value: &str) -> Option<NoVarySearch> {
        NoVarySearch::of(&fields(&[("no-vary-search", value)]))
    }

    #[test]
    fn rules() {
        let all_but = |names: &[&str]| {
            Parameters::AllBut(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let only = |names: &[&str]| {
            Parameters::Only(names.iter().map(|name| (*name).to_owned()).collect())
        };
        for (value, expected, why) in [
            ("params", Some((true, only(&[]))), "no-vary params: wildcard, vary params: empty"),
            ("params=?1", Some((true, only(&[]))), "the same, unconventional"),
            ("params=(\"a\")", Some((true, all_but(&["a"]))), "no-vary params: « a »"),
            ("params, except=(\"x\")", Some((true, only(&["x"]))), "vary params: « x »"),
            ("params, except=()", Some((true, only(&[]))), "an empty list"),
            ("key-order", Some((false, all_but(&[]))), "vary on key order: false"),
            ("key-order=?1", Some((false, all_but(&[]))), "the same, unconventional"),
            (
                "key-order, params=(\"b\" \"a\" \"b\")",
                Some((false, all_but(&["a", "b"]))),
                "sorted",
            ),
            ("params, key-order, except=(\"x\")", Some((false, only(&["x"]))), "in any order"),
            ("params=(\"%C3%A9+%E6%B0%97\")", Some((true, all_but(&["é 気"]))), "\"parse a key\""),
            (
                "params;a=1, other=1, key-order;b",
                Some((false, only(&[]))),
                "\"will ignore such entries\"",
            ),
            ("params, params=(\"a\")", Some((true, all_but(&["a"]))), "the last of two (RFC 9651)"),
            ("", None, "empty"),
            ("params=?0", None, "\"omit the header\""),
            ("params=()", None, "\"omit the header\""),
            ("key-order=?0", None, "\"omit the header\""),
            ("unknown-key", None, "default"),
            ("key-order=\"not a boolean\"", None, "default"),
            ("key-order=(\"a\")", None, "default"),
            ("params=\"not a boolean or inner list\"", None, "default"),
            ("params=(not-a-string)", None, "default"),
            ("params=(\"a\"), except=(\"x\")", None, "default"),
            ("params=(), except=()", None, "default"),
            ("params=?0, except=(\"x\")", None, "default"),
            ("params, except=(not-a-string)", None, "default"),
            ("params, except=\"not an inner list\"", None, "default"),
            ("params, except=?1", None, "default"),
            ("except=(\"x\")", None, "default"),
            ("except=()", None, "default"),
            ("key-order, params=1", None, "one fault spoils all"),
            ("key-order,", None, "no dictionary (RFC 9651)"),
            ("KEY-ORDER", None, "no dictionary (RFC 9651)"),
        ] {
            let expected =
                expected.map(|(ordered, parameters)| NoVarySearch { ordered, parameters });
            assert_eq!(rule(value), expected, "{value}: {why}");
        }
        assert_eq!(NoVarySearch::of(&HeaderMap::new()), None, "absent");
        let lines = fields(&[("no-vary-search", "key-order"), ("no-vary-search", "params")]);
        assert!(NoVarySearch::of(&lines).is_some_and(|rule| !rule.ordered), "lines are joined");
    }

    #[test]
    fn long_rules_are_not_heeded() {
        let list = |count: usize| {
            let names: Vec<_> = (0..count).map(|n| format!("\"{n}\"")).collect();
            format!("params=({})", names.join(" "))
        };
        assert!(rule(&list(MOST_NAMES)).is_some_and(|rule| rule.is_bounded()));
        assert!(rule(&list(MOST_NAMES + 1)).is_none());
        assert!(rule(&format!("params=(\"{}\")", "x".repeat(LONGEST))).is_none());
    }

    /// Rows of: the field, one query, another, whether they are equivalent.
    type Row = (&'static str, Option<&'static str>, Option<&'static str>, bool, &'static str);

    fn check(rows: &[Row]) {
        for (value, one, other, expected, why) in rows {
            let found = rule(value).map_or(one == other, |rule| rule.equivalent(*one, *other));
            assert_eq!(found, *expected, "{value}: {one:?} {other:?}: {why}");
        }
    }

    #[test]
    fn queries_that_are_read_the_same() {
        check(&[
            (
                "key-order",
                None,
                Some(""),
                true,
                "\"A null query is parsed the same as an empty string\"",
            ),
            (
                "key-order",
                Some("a=x"),
                Some("%61=%78"),
                true,
                "\"Parsing performs percent-decoding\"",
            ),
            (
                "key-order",
                Some("a=é"),
                Some("a=%C3%A9"),
                true,
                "\"Parsing performs percent-decoding\"",
            ),
            (
                "key-order",
                Some("a=%f6"),
                Some("a=%ef%bf%bd"),
                true,
                "\"Both values are parsed as U+FFFD\"",
            ),
            ("key-order", Some("a=x&&&&"), Some("a=x"), true, "\"discards empty strings\""),
            ("key-order", Some("a="), Some("a"), true, "\"an empty string value for a\""),
            ("key-order", Some("a=%20"), Some("a=+"), true, "\"both parsed as U+0020 SPACE\""),
            ("key-order", Some("a=%2b"), Some("a=+"), false, "an encoded plus is one"),
            ("key-order", Some("a=%4"), Some("a=%254"), true, "no escape: as it stands"),
            ("key-order", Some("a=1&b=2"), Some("b=2&a=1"), true, "order does not matter"),
            ("key-order", Some("a=1&a=2"), Some("a=2&a=1"), false, "it does among equal names"),
            ("key-order", Some("a=1&b=2&a=3"), Some("b=2&a=1&a=3"), true, "sorted by name"),
            ("key-order", Some("a=1"), Some("a=2"), false, "values matter"),
            ("key-order", Some("a=1"), Some("A=1"), false, "names are case-sensitive"),
            ("key-order", Some("a=1"), Some("a=1&b"), false, "one more"),
        ]);
    }

    #[test]
    fn parameters_that_do_not_matter() {
        check(&[
            ("params", Some("a=1&b=2"), None, true, "no parameter matters"),
            ("params=(\"a\")", Some("a=1&b=2"), Some("b=2&a=3&a=4"), true, "`a` does not matter"),
            ("params=(\"a\")", Some("a=1&b=2"), Some("a=1&b=3"), false, "`b` does"),
            ("params=(\"a\")", Some("b=1&c=2"), Some("c=2&b=1"), false, "order does"),
            (
                "params=(\"é 気\")",
                Some("a=1"),
                Some("a=1&%C3%A9+%E6%B0%97=4"),
                false,
                "no dictionary",
            ),
            (
                "params=(\"%C3%A9+%E6%B0%97\")",
                Some("a=1"),
                Some("a=1&%C3%A9%20気=3"),
                true,
                "\"the same key\"",
            ),
            (
                "params, except=(\"id\")",
                Some("id=1&a=2"),
                Some("b&id=1"),
                true,
                "`id` alone matters",
            ),
            ("params, except=(\"id\")", Some("id=1"), Some("id=2"), false, "`id` matters"),
            ("params, except=(\"id\")", Some("id=1"), None, false, "`id` matters"),
            ("params, except=(\"a\" \"b\")", Some("a&b"), Some("b&a"), false, "order matters"),
            (
                "key-order, params, except=(\"a\" \"b\")",
                Some("a&b"),
                Some("b&c&a"),
                true,
                "order does not",
            ),
            ("key-order", Some("a=b%26c"), Some("a=b&c"), false, "an encoded separator is none"),
            ("key-order", Some("a%3Db"), Some("a=b"), false, "an encoded separator is none"),
        ]);
    }

    /// The draft's steps for "equivalent modulo search variance".
    fn by_definition(rule: &NoVarySearch, one: &str, other: &str) -> bool {
        let list = |query| {
            let mut pairs: Vec<_> = parse(query).collect();
            match &rule.parameters {
                Parameters::AllBut(names) => {
                    pairs.retain(|(name, _)| !names.iter().any(|n| n == name));
                }
                Parameters::Only(names) => {
                    pairs.retain(|(name, _)| names.iter().any(|n| n == name));
                }
            }
            if !rule.ordered {
                pairs.sort_by_key(|(name, _)| name.encode_utf16().collect::<Vec<_>>());
            }
            pairs
        };
        let (one, other) = (list(one), list(other));
        one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| one == other)
    }

    proptest! {
        #[test]
        fn never_panics(value in "\\PC{0,40}|(key-order|params|except)(=[?\"()a-c01 ]{0,8})?,? ?", query in "\\PC{0,40}") {
            if let Some(rule) = http::HeaderValue::try_from(value).ok().and_then(|value| {
                NoVarySearch::of(&HeaderMap::from_iter([(NO_VARY_SEARCH, value)]))
            }) {
                rule.canonical(Some(&query));
                prop_assert!(rule.equivalent(Some(&query), Some(&query)));
            }
        }

        #[test]
        fn canonical_forms_are_equal_where_the_draft_says_equivalent(
            value in prop::sample::select(vec![
                "key-order", "params", "params=(\"a\")", "params, except=(\"a\" \"%2B\")",
                "key-order, params=(\"%26\")", "key-order, params, except=(\"a\" \"b\")",
            ]),
            one in "([ab]|%2[bB56]|%3[dD]|[=&+%]|é){0,8}",
            other in "([ab]|%2[bB56]|%3[dD]|[=&+%]|é){0,8}",
        ) {
            let rule = rule(value).unwrap();
            let found = rule.equivalent(Some(&one), Some(&other));
            prop_assert_eq!(found, by_definition(&rule, &one, &other));
        }
    }
}
