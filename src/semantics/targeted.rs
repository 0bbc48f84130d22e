//! Which of a response's fields speaks to this cache: the first valid one of the target list
//! (RFC 9213), else `Cache-Control`.
//!
//! Targeted fields are dictionaries of RFC 9651, read as strictly as that asks. Their directives mean
//! what they mean in `Cache-Control`, which reads them once they are found.
//!
//! `Surrogate-Control` may stand in the list for those who migrate. It has the syntax of
//! `Cache-Control`, and a `max-age=60+30` that is fresh for the first time and may be served stale for
//! the second. Content that it wants processed (`content=`) is passed on as it is: this surrogate
//! announces no capabilities.

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::cache_control::{
    Argument, Directive, ResponseDirectives, delta_seconds, directives, lower,
};

/// Read by a syntax of its own wherever it stands in a target list.
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// What a response tells this cache, which listens to the fields of `targets` in their order.
///
/// RFC 9213 §2.2: the first one that is present, valid and not empty decides alone; `Cache-Control`
/// and `Expires` then do not count. Without such a field it is `Cache-Control`.
pub fn response_directives(fields: &HeaderMap, targets: &[HeaderName]) -> ResponseDirectives {
    // Few responses have one, and one look at each name is quicker than to look each of the list up.
    let targets = if fields.keys().any(|name| targets.contains(name)) { targets } else { &[] };
    let targeted = targets.iter().filter(|name| fields.contains_key(*name)).find_map(|name| {
        if *name == SURROGATE_CONTROL { surrogate(fields) } else { dictionary(fields, name) }
    });
    match targeted {
        Some(directives) => ResponseDirectives { targeted: true, ..directives },
        None => ResponseDirectives::of(fields, &CACHE_CONTROL),
    }
}

/// §2.1: a field that is empty or no dictionary counts as absent; a member of the wrong type is
/// left out.
fn dictionary(fields: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    // The directives whose argument is an Integer; a negative one is no time at all.
    const NUMBERS: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];

    let lines: Vec<_> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let members: Dictionary = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
    let mut found = ResponseDirectives::default();
    for (key, entry) in &members {
        let item = match entry {
            ListEntry::Item(item) => Some(&item.bare_item),
            ListEntry::InnerList(_) => None,
        };
        let is_number = NUMBERS.contains(&key.as_str());
        let number = item.and_then(BareItem::as_integer).map(|number| number.to_string());
        let argument = match (item, &number) {
            (_, Some(digits)) => Some(Argument::Token(digits.as_bytes())),
            _ if is_number => continue,
            (Some(BareItem::Boolean(false)), _) => continue,
            (Some(BareItem::Boolean(true)), _) => None,
            (Some(BareItem::String(text)), _) => {
                Some(Argument::Quoted(text.as_str().as_bytes().into()))
            }
            // A restriction counts whatever its value, a permission only without one.
            _ => Some(Argument::Token(b"?")),
        };
        found.add(&Directive { name: key.as_str().as_bytes(), argument, is_sound: true });
    }
    (!members.is_empty()).then_some(found)
}

fn surrogate(fields: &HeaderMap) -> Option<ResponseDirectives> {
    let mut found = ResponseDirectives::default();
    let mut is_empty = true;
    for directive in directives(fields, &SURROGATE_CONTROL) {
        is_empty = false;
        match extended(&directive) {
            Some((fresh, stale)) => {
                lower(&mut found.max_age, fresh);
                lower(&mut found.stale_while_revalidate, stale);
                lower(&mut found.stale_if_error, stale);
            }
            None => found.add(&directive),
        }
    }
    (!is_empty).then_some(found)
}

/// The two spans of `max-age=60+30`.
fn extended(directive: &Directive<'_>) -> Option<(Duration, Duration)> {
    let Argument::Token(token) = directive.argument.as_ref().filter(|_| directive.is_sound)? else {
        return None;
    };
    let plus = token.iter().position(|&octet| octet == b'+')?;
    let is_max_age = directive.name.eq_ignore_ascii_case(b"max-age");
    let (fresh, stale) = token.split_at_checked(plus).filter(|_| is_max_age)?;
    Some((delta_seconds(fresh)?, delta_seconds(stale.strip_prefix(b"+")?)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");
    const OWN: HeaderName = HeaderName::from_static("larder-cache-control");

    fn secs(span: Option<Duration>) -> Option<u64> {
        span.map(|span| span.as_secs())
    }

    fn of(lines: &[(&str, &str)]) -> ResponseDirectives {
        response_directives(&fields(lines), &[OWN, CDN, SURROGATE_CONTROL])
    }

    #[test]
    fn the_first_valid_field_of_the_list_decides_alone() {
        let cache_control = ("cache-control", "max-age=1, no-store");
        for (lines, expected, why) in [
            (vec![], (Some(1), true), "none is present: fall back"),
            (
                vec![("cdn-cache-control", "max-age=2")],
                (Some(2), false),
                "MUST ignore the Cache-Control and Expires header fields in that response",
            ),
            (
                vec![("cdn-cache-control", "max-age=2"), ("larder-cache-control", "max-age=3")],
                (Some(3), false),
                "MUST select the first (in target-list order)",
            ),
            (
                vec![("cdn-cache-control", "max-age=2"), ("larder-cache-control", "")],
                (Some(2), false),
                "with a valid, non-empty value",
            ),
            (
                vec![("cdn-cache-control", "max-age=2"), ("larder-cache-control", "Max-Age=3")],
                (Some(2), false),
                "a parsing error is encountered: MUST be ignored",
            ),
            (vec![("cdn-cache-control", "max-age=2,")], (Some(1), true), "a trailing comma"),
            (vec![("cdn-cache-control", "max-age=\"2")], (Some(1), true), "an open string"),
            (vec![("cdn-cache-control", "max-age=2; no-store")], (Some(2), false), "a parameter"),
            (
                vec![("cdn-cache-control", "max-age=2"), ("cdn-cache-control", "no-store")],
                (Some(2), true),
                "several lines are one dictionary",
            ),
            (
                vec![("other-cache-control", "max-age=2")],
                (Some(1), true),
                "not on a cache's target list: MUST NOT change that cache's behavior",
            ),
            (vec![("cdn-cache-control", "max-age=2, max-age=4")], (Some(4), false), "the last"),
        ] {
            let found = of(&[&lines[..], &[cache_control]].concat());
            assert_eq!((secs(found.max_age), found.no_store), expected, "{lines:?}: {why}");
        }
        assert!(of(&[("cdn-cache-control", "max-age=2")]).targeted, "Expires does not count");
        assert!(!of(&[cache_control]).targeted, "Expires counts");
    }

    /// §2.1: implementations MUST NOT consume values of another type than the directive's.
    #[test]
    fn members_of_the_wrong_type() {
        for (value, max_age, why) in [
            ("max-age=60", Some(60), "an Integer"),
            ("max-age=-1", Some(0), "no time at all"),
            ("max-age=999999999999999", Some(1 << 31), "the largest Integer"),
            ("max-age=60.0", None, "a Decimal"),
            ("max-age=\"60\"", None, "a String"),
            ("max-age=sixty", None, "a Token"),
            ("max-age", None, "a Boolean"),
            ("max-age=(60)", None, "an Inner List"),
            ("max-age=@60", None, "a Date"),
        ] {
            let found = of(&[("cdn-cache-control", value)]).max_age;
            assert_eq!(secs(found), max_age, "{value}: {why}");
        }
    }

    #[test]
    fn restrictions_and_permissions() {
        let of = |value| of(&[("cdn-cache-control", value)]);
        for value in ["no-store", "no-store=1", "no-store=?1", "no-store=(a b)", "no-store=t;a"] {
            assert!(of(value).no_store, "{value}");
        }
        assert!(!of("no-store=?0").no_store, "false is no restriction");
        assert!(of("public").public && !of("public=1").public, "a permission needs no value");
        assert!(of("must-revalidate, no-cache, private, must-understand, immutable").private);
        let named = of("private=\"x-a, x-b\", no-cache=\"x-c\"");
        assert!(!named.private && !named.no_cache);
        assert_eq!(named.private_fields, ["x-a", "x-b"]);
        assert_eq!(named.no_cache_fields, ["x-c"]);
        assert!(of("private=token").private && of("no-cache=(a b)").no_cache, "unqualified");
        assert!(of(r#"private="x\\-a""#).private, "no name has a backslash: unqualified");
        let shared = of("s-maxage=5, stale-while-revalidate=6, stale-if-error=7");
        let spans = [shared.s_maxage, shared.stale_while_revalidate, shared.stale_if_error];
        assert_eq!(spans.map(secs), [Some(5), Some(6), Some(7)]);
    }

    #[test]
    fn surrogate_control() {
        for (value, fresh, stale, why) in [
            ("max-age=60", Some(60), None, "as in Cache-Control"),
            ("Max-Age=60, content=\"ESI/1.0\"", Some(60), None, "as in Cache-Control"),
            ("max-age=60+30", Some(60), Some(30), "fresh for 60, stale for 30"),
            ("max-age=60+30, max-age=60+90", Some(60), Some(30), "duplicates: as in Cache-Control"),
            ("stale-while-revalidate=5, max-age=60+30", Some(60), Some(5), "both are bounds"),
            ("max-age=60+x", Some(0), None, "not a number"),
            ("max-age=60;other", Some(0), None, "meant for another surrogate: damaged here"),
            ("max-age=60, stale-while-revalidate=5", Some(60), Some(5), "as in Cache-Control"),
        ] {
            let found = of(&[("surrogate-control", value), ("cache-control", "no-store")]);
            assert_eq!(secs(found.max_age), fresh, "{value}: {why}");
            assert_eq!(secs(found.stale_while_revalidate), stale, "{value}: {why}");
            assert!(!found.no_store && found.targeted, "{value}");
        }
        assert!(of(&[("surrogate-control", "no-store")]).no_store);
        assert!(of(&[("surrogate-control", ""), ("cache-control", "no-store")]).no_store, "empty");
        let unlisted = fields(&[("surrogate-control", "max-age=60")]);
        assert_eq!(response_directives(&unlisted, &[CDN]).max_age, None);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_loses_a_no_store(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                for name in [CDN, SURROGATE_CONTROL] {
                    let mut fields = HeaderMap::from_iter([(name.clone(), line.clone())]);
                    response_directives(&fields, &[CDN, SURROGATE_CONTROL]);
                    fields.append(name, HeaderValue::from_static("no-store"));
                    fields.append(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                    prop_assert!(response_directives(&fields, &[CDN, SURROGATE_CONTROL]).no_store);
                }
            }
        }
    }
}
