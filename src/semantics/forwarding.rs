//! What of a request goes forward on a route that forwards no more than the key was made of, so that
//! nothing that the key does not hold can choose, or be reflected in, what others are answered with.
//!
//! RFC 9111 §2 leaves the key to the cache, and warns of a key that holds too little in §7.1 ("cache
//! poisoning"). Here it is the other way round: the key is what it is, and the rest is left behind.
//!
//! Passed on besides, as none of it can carry a text of the client's choice:
//!
//! - `Authorization`, without which many an API has nothing to say; but the response is not stored
//!   then, unless the key was made of it ([`Authorized`](super::Authorized)).
//! - Of `Cache-Control`, which a proxy "MUST pass … through" (§5.2), the words `no-cache`, `no-store`
//!   and `max-age=0`, put down anew: an end-to-end reload reaches the caches behind.
//! - `Range`, if it is one line of digits, hyphens and commas, where a part is asked for.
//! - `traceparent` by its grammar, and with it `tracestate` of harmless characters (W3C Trace Context).
//! - Of a `QUERY`, the fields that say what its content is; the key holds them, and the content.
//!
//! Left behind, though a proxy passes it on elsewhere: `Via` and `CDN-Loop` of those before us (§7.6.3 of
//! RFC 9110 and §2 of RFC 8586 want them kept; they are free text), and the client's own conditions, which
//! are answered here.

use std::collections::HashMap;

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, COOKIE,
    FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, RANGE, VIA,
};

use super::cache_control::RequestDirectives;
use super::vary::nominated_value;
use crate::message::cookie;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The fields that say what the content of a `QUERY` is.
const OF_CONTENT: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];

/// What the client says of its own copy.
const CONDITIONS: [HeaderName; 3] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE];

/// What may go forward whatever a route says, or is made anew there. A `Vary` that nominates it keeps
/// its meaning.
const OWN: [HeaderName; 9] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    FORWARDED,
    HOST,
    RANGE,
    VIA,
    TRACEPARENT,
    TRACESTATE,
    HeaderName::from_static("x-forwarded-for"),
];

/// Longer ones are no grammar's.
const LONGEST: usize = 512;

/// Which request fields and cookies a route's key is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// In the key by their value, negotiated ones by what they mean. They go forward in the form
    /// that the key holds.
    pub keyed: Vec<HeaderName>,
    /// Shown to the key policy.
    pub fields: Vec<HeaderName>,
    /// Shown to the key policy: the first of each name.
    pub cookies: Vec<String>,
}

/// A part of a key holds a parameter in another form than the request does, or one that it does not
/// have. What the upstream should be asked for cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten;

/// The query to forward of a request for this path and query whose key has these parts: their
/// parameters that the request has, octet by octet, in the order of the parts. Requests with the same
/// parts can differ in this, as a part may be made of something else than the query: it has to be in the
/// key as well.
///
/// A part named `query` holds parameters, separated by `&`; any other one, one of its name. One named
/// `path` that is the path holds none.
///
/// # Errors
/// [`Rewritten`]: a part named `query` has a parameter that the request has not, or another part has
/// the name of parameters of the request and the value of none.
pub fn kept_query<'p>(
    path: &str,
    query: Option<&str>,
    parts: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> Result<Option<String>, Rewritten> {
    let mut left = Left::of(parameters(query.unwrap_or_default()));
    let mut kept: Vec<String> = Vec::new();
    let mut is_path_seen = false;
    for (name, value) in parts {
        if name == "path" && value == path && !is_path_seen {
            is_path_seen = true;
            continue;
        }
        // Where some are taken and not all, the value has a `&`, which no parameter has: an error below.
        if name == "query" && parameters(value).all(|parameter| left.take(parameter)) {
            kept.extend(parameters(value).map(str::to_owned));
            continue;
        }
        let parameter = format!("{name}={value}");
        // `a` and `a=` are one pair; that is how it goes forward.
        if left.take(&parameter) || value.is_empty() && left.take(name) {
            kept.push(parameter);
        } else if name == "query" || has(query, name) && !kept.contains(&parameter) {
            return Err(Rewritten);
        }
    }
    Ok((!kept.is_empty()).then(|| kept.join("&")))
}

/// The query to forward of what each of several policies keeps of it: each parameter as often as the one
/// that keeps most of its kind, those of the first policy first. It depends on nothing but the key, which
/// holds what each keeps.
pub fn joined_query<'q>(kept: impl IntoIterator<Item = &'q String>) -> Option<String> {
    let mut all: Vec<&str> = Vec::new();
    for query in kept {
        let mut seen = Left::of(all.iter().copied());
        all.extend(parameters(query).filter(|parameter| !seen.take(parameter)));
    }
    (!all.is_empty()).then(|| all.join("&"))
}

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|parameter| !parameter.is_empty())
}

/// How many of each parameter are left. A query may have tens of thousands: to look for each among all of
/// them would take a second.
struct Left<'q>(HashMap<&'q str, usize>);

impl<'q> Left<'q> {
    fn of(parameters: impl Iterator<Item = &'q str>) -> Self {
        let mut left = Self(HashMap::default());
        for parameter in parameters {
            *left.0.entry(parameter).or_insert(0) += 1;
        }
        left
    }

    /// Takes out one of those that are equal; false if there is none.
    fn take(&mut self, parameter: &str) -> bool {
        let count = self.0.get_mut(parameter).filter(|count| **count > 0);
        let Some(count) = count else { return false };
        *count -= 1;
        true
    }
}

fn has(query: Option<&str>, name: &str) -> bool {
    parameters(query.unwrap_or_default())
        .any(|parameter| parameter.split_once('=').map_or(parameter, |(name, _)| name) == name)
}

/// The end-to-end fields to forward of a request.
pub fn kept_fields(
    request: &HeaderMap,
    directives: &RequestDirectives,
    has_content: bool,
    kept: &Kept,
) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for name in kept.fields.iter().chain([&AUTHORIZATION]) {
        if !CONDITIONS.contains(name) && *name != RANGE && !fields.contains_key(name) {
            for line in request.get_all(name) {
                fields.append(name, line.clone());
            }
        }
    }
    for name in &kept.keyed {
        let value = nominated_value(request, name);
        if let Some(value) = value.and_then(|value| HeaderValue::from_maybe_shared(value).ok()) {
            fields.insert(name, value);
        }
    }
    if !fields.contains_key(COOKIE)
        && let Some(cookies) = kept_cookies(request, &kept.cookies)
    {
        fields.insert(COOKIE, cookies);
    }
    if has_content {
        for name in &OF_CONTENT {
            if let Some(value) = nominated_value(request, name)
                && let Ok(value) = HeaderValue::from_maybe_shared(value)
            {
                fields.insert(name, value);
            }
        }
    }
    if let Some(words) = cache_control(directives) {
        fields.insert(CACHE_CONTROL, words);
    }
    if !CONDITIONS.iter().any(|name| request.contains_key(name))
        && let Some(range) = only(request, &RANGE).filter(|value| is_plain_range(value))
    {
        fields.insert(RANGE, range.clone());
    }
    if let Some(parent) = only(request, &TRACEPARENT).filter(|value| is_traceparent(value)) {
        fields.insert(TRACEPARENT, parent.clone());
        if let Some(state) = only(request, &TRACESTATE).filter(|value| is_tracestate(value)) {
            fields.insert(TRACESTATE, state.clone());
        }
    }
    fields
}

/// The fields that a response depends on, of those that its `Vary` nominates: a field that never goes
/// forward is the same for all, and one in the key needs no second look.
pub fn kept_nominated(nominated: Vec<HeaderName>, kept: &Kept) -> Vec<HeaderName> {
    let goes_forward = |name: &HeaderName| {
        let is_cookie = *name == COOKIE && !kept.cookies.is_empty();
        let is_own = OWN.contains(name) || OF_CONTENT.contains(name);
        kept.fields.contains(name) && !kept.keyed.contains(name) || is_cookie || is_own
    };
    nominated.into_iter().filter(goes_forward).collect()
}

/// One line of the cookies that are kept, in the order of their names in the configuration.
fn kept_cookies(request: &HeaderMap, names: &[String]) -> Option<HeaderValue> {
    let mut line = Vec::new();
    for name in names {
        let Some(value) = cookie(request, name) else { continue };
        if !line.is_empty() {
            line.extend_from_slice(b"; ");
        }
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        line.extend_from_slice(value);
    }
    if line.is_empty() { None } else { HeaderValue::from_bytes(&line).ok() }
}

fn cache_control(directives: &RequestDirectives) -> Option<HeaderValue> {
    let is_reload = directives.max_age.is_some_and(|limit| limit.is_zero());
    let words = [
        (directives.no_cache, "no-cache"),
        (directives.no_store, "no-store"),
        (is_reload, "max-age=0"),
    ];
    let words: Vec<_> = words.iter().filter(|(said, _)| *said).map(|(_, word)| *word).collect();
    if words.is_empty() { None } else { HeaderValue::from_str(&words.join(", ")).ok() }
}

/// The value of a field that has one line.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    lines.next().filter(|line| line.len() <= LONGEST && lines.next().is_none())
}

fn is_plain_range(value: &HeaderValue) -> bool {
    let set = value.as_bytes().strip_prefix(b"bytes=");
    set.is_some_and(|set| {
        set.iter().all(|octet| octet.is_ascii_digit() || matches!(octet, b'-' | b',' | b' '))
    })
}

/// W3C Trace Context §3.2.2, version 00: four numbers of fixed length in lower-case hexadecimal.
fn is_traceparent(value: &HeaderValue) -> bool {
    let is_hex = |octet: &u8| octet.is_ascii_digit() || matches!(octet, b'a'..=b'f');
    let mut fields = value.as_bytes().split(|octet| *octet == b'-');
    let are_right = [2, 32, 16, 2].into_iter().all(|length| {
        fields.next().is_some_and(|field| field.len() == length && field.iter().all(is_hex))
    });
    are_right && fields.next().is_none()
}

/// §3.3.1.3.2 allows nearly all of ASCII in a value. Of it, what means nothing in HTML, a script, a URL's
/// scheme or a shell.
fn is_tracestate(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|octet| {
        octet.is_ascii_alphanumeric()
            || matches!(octet, b'_' | b'-' | b'*' | b'/' | b'@' | b'=' | b',' | b'.' | b'+' | b' ')
    })
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    #[test]
    fn of_several_queries_each_parameter_goes_forward_once() {
        for (queries, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["a=1&b=2"], Some("a=1&b=2")),
            (&["a=1&b=2", "b=2&a=1"], Some("a=1&b=2")),
            (&["b=2", "a=1&b=2"], Some("b=2&a=1")),
            (&["a=1", "a=1&a=1", "a=1"], Some("a=1&a=1")),
            (&["a=1", "a=2"], Some("a=1&a=2")),
            (&["a", "a="], Some("a&a=")),
        ] {
            let queries: Vec<_> = queries.iter().map(|query| (*query).to_owned()).collect();
            assert_eq!(joined_query(&queries).as_deref(), expected, "{queries:?}");
        }
    }

    #[test]
    fn what_is_kept_of_very_many_parameters_is_found_at_once() {
        // One after the other, each past all that are not kept, this would take minutes.
        let (others, wanted) = ("a&".repeat(200_000), "x&".repeat(100_000));
        let wanted = wanted.trim_end_matches('&');
        let all = format!("{others}{wanted}");
        let kept = kept_query("/", Some(&all), [("path", "/"), ("query", wanted)]);
        assert!(kept.is_ok_and(|kept| kept.as_deref() == Some(wanted)));
        let several = [all, wanted.to_owned()];
        assert!(joined_query(&several).as_ref() == several.first());
    }

    #[test]
    fn queries() {
        let (kept, rewritten) = (|query: &str| Ok(Some(query.to_owned())), Err(Rewritten));
        for (query, parts, expected, why) in [
            (None, vec![("path", "/a")], Ok(None), "nothing asked for"),
            (Some(""), vec![("path", "/a"), ("query", "")], Ok(None), "nor here"),
            (Some("a=1&b=2"), vec![("query", "a=1&b=2")], kept("a=1&b=2"), "all of it"),
            (Some("b=2&a=1"), vec![("query", "a=1&b=2")], kept("a=1&b=2"), "as the key has it"),
            (Some("a=1&x=2"), vec![("query", "a=1")], kept("a=1"), "`x` is not in the key"),
            (Some("a=1&a=2"), vec![("query", "a=1")], kept("a=1"), "of two with one name, one"),
            (Some("a=1&a=1"), vec![("a", "1")], kept("a=1"), "once is what the key says"),
            (Some("a=1&a=1"), vec![("query", "a=1&a=1")], kept("a=1&a=1"), "and here twice"),
            (Some("a=1;x=2"), vec![("a", "1")], rewritten.clone(), "`;` separates nothing here"),
            (Some("a=1;x=2"), vec![("a", "1;x=2")], kept("a=1;x=2"), "but is in the key"),
            (Some("u=1;a=2"), vec![("path", "/a")], Ok(None), "what is left out is left out whole"),
            (
                Some("page=2"),
                vec![("page", "2"), ("lang", "de")],
                kept("page=2"),
                "not of the query",
            ),
            (Some("A=1"), vec![("query", "a=1")], rewritten.clone(), "another name"),
            (Some("q=%41"), vec![("q", "A")], rewritten.clone(), "another value"),
            (None, vec![("query", "admin=1")], rewritten.clone(), "never asked for"),
            (Some("lang=fr"), vec![("lang", "de")], rewritten, "which of them?"),
            (Some("a&b="), vec![("a", ""), ("b", "")], kept("a=&b="), "one pair, one form"),
            (Some("a&b"), vec![("query", "a&b")], kept("a&b"), "as it came"),
            (Some("query={x}"), vec![("query", "{x}")], kept("query={x}"), "a parameter `query`"),
            (Some("path=/a"), vec![("path", "/a")], Ok(None), "that part is the path"),
            (
                Some("path=/b"),
                vec![("path", "/a"), ("path", "/b")],
                kept("path=/b"),
                "and that not",
            ),
        ] {
            assert_eq!(kept_query("/a", query, parts), expected, "{query:?}: {why}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn fields_that_go_forward() {
        let kept = Kept {
            keyed: vec![http::header::ACCEPT_ENCODING],
            fields: vec![HeaderName::from_static("x-tenant")],
            cookies: vec!["a".to_owned(), "b".to_owned()],
        };
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (request, expected, why) in [
            (vec![("x-forwarded-host", "evil")], vec![], "unkeyed"),
            (vec![("user-agent", "x"), ("referer", "y"), ("origin", "z")], vec![], "unkeyed"),
            (
                vec![("accept-encoding", "br;q=1.0, GZIP")],
                vec![("accept-encoding", "br,gzip")],
                "as the key has it",
            ),
            (vec![("accept-encoding", "<x>")], vec![("accept-encoding", "<x>")], "in the key, too"),
            (
                vec![("x-tenant", "1"), ("x-tenant", "2")],
                vec![("x-tenant", "1"), ("x-tenant", "2")],
                "declared",
            ),
            (
                vec![("cookie", "c=1; b=2; a=3; b=4")],
                vec![("cookie", "a=3; b=2")],
                "declared ones, the first of each name",
            ),
            (vec![("cookie", "c=1")], vec![], "no other"),
            (vec![("authorization", "Basic x")], vec![("authorization", "Basic x")], "not stored"),
            (
                vec![("cache-control", "no-cache, x=\"<y>\"")],
                vec![("cache-control", "no-cache")],
                "§5.2",
            ),
            (
                vec![("cache-control", "max-age=0, no-store")],
                vec![("cache-control", "no-store, max-age=0")],
                "§5.2",
            ),
            (vec![("cache-control", "max-age=7")], vec![], "answered here"),
            (vec![("range", "bytes=0-1,-5")], vec![("range", "bytes=0-1,-5")], "a part"),
            (vec![("range", "bytes=0-1<x>")], vec![], "no range"),
            (vec![("range", "bytes=0-1"), ("range", "bytes=2-3")], vec![], "no range"),
            (vec![("range", "bytes=0-1"), ("if-range", "\"1\"")], vec![], "answered here"),
            (vec![("if-none-match", "\"<x>\"")], vec![], "answered here"),
            (
                vec![("traceparent", parent), ("tracestate", "a=1,b@c=x")],
                vec![("traceparent", parent), ("tracestate", "a=1,b@c=x")],
                "harmless",
            ),
            (
                vec![("traceparent", parent), ("tracestate", "a=<x>")],
                vec![("traceparent", parent)],
                "not so harmless",
            ),
            (vec![("traceparent", "<x>"), ("tracestate", "a=1")], vec![], "no traceparent"),
            (vec![("via", "1.1 <x>"), ("te", "trailers"), ("expect", "x")], vec![], "for others"),
            (vec![("content-type", "<x>")], vec![], "there is no content"),
        ] {
            let request = fields(&request);
            let directives = RequestDirectives::of(&request);
            let found = kept_fields(&request, &directives, false, &kept);
            assert_eq!(found, fields(&expected), "{request:?}: {why}");
        }
        let query = fields(&[("content-type", "a/b"), ("content-length", "3"), ("x-a", "1")]);
        let found = kept_fields(&query, &RequestDirectives::default(), true, &kept);
        assert_eq!(found, fields(&[("content-type", "a/b")]), "RFC 10008 §2");
    }

    #[test]
    fn nominated_fields_that_count() {
        let kept = Kept {
            keyed: vec![ACCEPT],
            fields: vec![HeaderName::from_static("x-tenant")],
            cookies: Vec::new(),
        };
        let names = ["accept", "authorization", "cookie", "user-agent", "x-tenant"];
        let found = kept_nominated(names.map(HeaderName::from_static).into(), &kept);
        assert_eq!(found, ["authorization", "x-tenant"], "the others never differ");
        let kept = Kept { cookies: vec!["a".to_owned()], ..kept };
        assert_eq!(kept_nominated(vec![COOKIE], &kept), [COOKIE], "a part of it goes forward");
    }

    proptest! {
        #[test]
        fn what_goes_forward_was_asked_for(
            query in "[ab=&;]{0,12}",
            parts in prop::collection::vec(("[ab]|query|path", "[ab=&;]{0,4}"), 0..4),
        ) {
            let of = |(name, value): &(String, String)| (name.clone(), value.clone());
            let parts: Vec<_> = parts.iter().map(of).collect();
            let pairs = parts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            if let Ok(Some(kept)) = kept_query("/", Some(&query), pairs) {
                for parameter in kept.split('&') {
                    let bare = parameter.strip_suffix('=').unwrap_or(parameter);
                    let is_asked = |asked: &str| asked == parameter || asked == bare;
                    prop_assert!(query.split('&').any(is_asked), "`{kept}` of `{query}`");
                }
            }
        }

        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                for name in [COOKIE, RANGE, TRACEPARENT, TRACESTATE, ACCEPT] {
                    let request = HeaderMap::from_iter([(name, line.clone())]);
                    let kept = Kept { keyed: vec![ACCEPT], cookies: vec!["a".to_owned()],
                        ..Kept::default() };
                    kept_fields(&request, &RequestDirectives::default(), false, &kept);
                }
            }
        }
    }
}
