//! What an unsafe request makes invalid (RFC 9111 §4.4).
//!
//! Making it so, and what policies and operators add to it, is others' work.

use std::borrow::Cow;

use http::header::{CONTENT_LOCATION, HeaderMap, LOCATION};
use http::{Method, StatusCode};

use crate::message::normal_authority;

/// How many lines of `Location` and `Content-Location` are read. One of each is allowed.
const MOST_REFERENCES: usize = 4;

/// Whether a response to this method invalidates what is stored for its target: a method that is
/// unsafe or unknown, and a 2xx or 3xx, which §4.4 calls a non-error status.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

/// The targets to invalidate, as path and query: the request's own, and those in `Location` and
/// `Content-Location` of the response that are of the same origin. `authority` is as
/// [`authority`](crate::message::authority) gives it.
pub fn invalidated_targets(
    scheme: &str,
    authority: &str,
    path_and_query: &str,
    fields: &HeaderMap,
) -> Vec<String> {
    let mut targets = vec![path_and_query.to_owned()];
    let lines = fields.get_all(LOCATION).iter().chain(fields.get_all(CONTENT_LOCATION));
    for line in lines.take(MOST_REFERENCES) {
        let target = str::from_utf8(line.as_bytes())
            .ok()
            .and_then(|reference| resolve(reference, scheme, authority, path_and_query));
        targets.extend(target.filter(|target| !targets.contains(target)));
    }
    targets
}

/// A path and query, or a path alone, in the form that all equivalent ones have (RFC 9110 §4.2.3,
/// RFC 3986 §6.2.2): what needs no percent-encoding has none, other octets have theirs in upper case,
/// and the path has no dot segments.
pub fn normal_target(target: &str) -> Cow<'_, str> {
    let (path, query) = split_query(target);
    let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if !has_dots && !target.contains('%') {
        return Cow::Borrowed(target);
    }
    let query = query.map(normal_encoding);
    Cow::Owned(join(&without_dot_segments(&normal_encoding(path)), query.as_deref()))
}

fn normal_encoding(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        normal.push_str(before);
        let encoded = behind.get(..2).filter(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit()));
        let octet = encoded.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match octet.map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => normal.push(c),
            Some(_) => {
                normal.push('%');
                normal.extend(encoded.into_iter().map(str::to_ascii_uppercase));
            }
            None => normal.push('%'),
        }
        rest = if octet.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    normal.push_str(rest);
    normal
}

/// The path and query that a reference leads to from a base (RFC 3986 §5.2), none where that is
/// another origin's (RFC 9110 §4.3.1) or no reference at all.
pub(super) fn resolve(
    reference: &str,
    scheme: &str,
    authority: &str,
    base: &str,
) -> Option<String> {
    let reference = before(reference, '#');
    let (base_path, base_query) = split_query(base);

    let rest = match reference.find([':', '/', '?']) {
        Some(colon) if reference.get(colon..)?.starts_with(':') => {
            let (its_scheme, rest) = reference.split_once(':')?;
            // A URI with a scheme but no authority names nothing on a server.
            (its_scheme.eq_ignore_ascii_case(scheme) && rest.starts_with("//")).then_some(rest)?
        }
        _ => reference,
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (its_authority, rest) = rest.split_at_checked(end)?;
        let is_same = normal_authority(scheme, its_authority).is_ok_and(|its| its == authority);
        let (path, query) = split_query(rest);
        return is_same.then(|| join(&without_dot_segments(path), query));
    }
    let (path, query) = split_query(rest);
    if path.is_empty() {
        return Some(join(base_path, query.or(base_query)));
    }
    if path.starts_with('/') {
        return Some(join(&without_dot_segments(path), query));
    }
    // §5.2.3: all but the last segment of the base, then the reference.
    let folder = base_path.rfind('/').and_then(|end| base_path.get(..=end)).unwrap_or("/");
    Some(join(&without_dot_segments(&format!("{folder}{path}")), query))
}

fn before(text: &str, end: char) -> &str {
    text.split_once(end).map_or(text, |(before, _)| before)
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

fn join(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// RFC 3986 §5.2.4, for a path that begins with `/` or is empty; the result begins with `/`.
fn without_dot_segments(path: &str) -> String {
    let mut kept = Vec::new();
    let mut ends_in_dots = false;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        ends_in_dots = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    if ends_in_dots {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    #[test]
    fn which_requests_invalidate() {
        for (method, status, expected, why) in [
            ("POST", 200, true, "unsafe, 2xx"),
            ("PUT", 204, true, "unsafe, 2xx"),
            ("DELETE", 303, true, "unsafe, 3xx"),
            ("PATCH", 200, true, "unsafe, 2xx"),
            ("FROBNICATE", 200, true, "a method whose safety is unknown"),
            ("post", 200, true, "methods are case-sensitive: unknown"),
            ("POST", 400, false, "an error"),
            ("POST", 500, false, "an error"),
            ("POST", 101, false, "not final"),
            ("GET", 200, false, "safe"),
            ("HEAD", 200, false, "safe"),
            ("OPTIONS", 200, false, "safe"),
            ("QUERY", 200, false, "safe (RFC 10008)"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidates(&method, status), expected, "{method} {status}: {why}");
        }
    }

    #[test]
    fn targets() {
        for (lines, expected, why) in [
            (vec![], vec![], "the target URI itself"),
            (vec![("location", "/b")], vec!["/b"], "an absolute path"),
            (vec![("content-location", "/b")], vec!["/b"], "also Content-Location"),
            (
                vec![("location", "/b"), ("content-location", "/c")],
                vec!["/b", "/c"],
                "Location and Content-Location",
            ),
            (vec![("location", "/b"), ("content-location", "/b")], vec!["/b"], "once"),
            (vec![("location", "/a/x?q=1")], vec![], "once: the target itself"),
            (vec![("location", "http://api.test/b?c#d")], vec!["/b?c"], "same origin, no fragment"),
            (vec![("location", "HTTP://API.test:80/b")], vec!["/b"], "the same origin, normalised"),
            (vec![("location", "//api.test/b")], vec!["/b"], "a network-path reference"),
            (vec![("location", "http://api.test")], vec!["/"], "an empty path"),
            (vec![("location", "http://api.test?q")], vec!["/?q"], "an empty path"),
            (vec![("location", "https://api.test/b")], vec![], "another scheme"),
            (vec![("location", "http://api.test:81/b")], vec![], "another port"),
            (vec![("location", "http://other.test/b")], vec![], "another host"),
            (vec![("location", "//other.test/b")], vec![], "another host"),
            (vec![("location", "http://api.test@other.test/b")], vec![], "another host"),
            (vec![("location", "http:b")], vec![], "no authority"),
            (vec![("location", "mailto:b")], vec![], "no authority"),
        ] {
            let found = invalidated_targets("http", "api.test", "/a/x?q=1", &fields(&lines));
            let expected = [vec!["/a/x?q=1"], expected].concat();
            assert_eq!(found, expected, "{lines:?}: {why}");
        }
        let many = [
            ("location", "/1"),
            ("location", "/2"),
            ("location", "/3"),
            ("location", "/4"),
            ("location", "/5"),
        ];
        let found = invalidated_targets("http", "api.test", "/", &fields(&many));
        assert_eq!(found.len(), 1 + MOST_REFERENCES, "bounded");
    }

    /// RFC 3986 §5.4, without the rows that lead elsewhere.
    #[test]
    fn reference_resolution() {
        for (reference, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            ("g?y#s", "/b/c/g?y"),
            (";x", "/b/c/;x"),
            ("g;x", "/b/c/g;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("../../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            (".g", "/b/c/.g"),
            ("g..", "/b/c/g.."),
            ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g;x=1/./y", "/b/c/g;x=1/y"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/./x", "/b/c/g?y/./x"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("http://a/x/../y", "/y"),
            ("./a:b", "/b/c/a:b"),
        ] {
            let found = resolve(reference, "http", "a", "/b/c/d;p?q");
            assert_eq!(found.as_deref(), Some(expected), "{reference}");
        }
    }

    #[test]
    fn equivalent_targets() {
        for (target, expected, why) in [
            ("/a/b?c=d", "/a/b?c=d", "nothing to do"),
            ("/%61%2D%2e%5F%7e", "/a-._~", "octets that need no encoding"),
            ("/a%2fb", "/a%2Fb", "a reserved one means something else, in either case"),
            ("/a?b=%63%2b", "/a?b=c%2B", "also in the query"),
            ("/a/./b/../c", "/a/c", "dot segments"),
            ("/a/%2e%2E/c?x=/../y", "/c?x=/../y", "encoded ones, and a query has none"),
            ("/%25%36%31", "/%2561", "once"),
            ("/%", "/%", "no encoding at all"),
            ("/%6", "/%6", "no encoding at all"),
            ("/%g1%61", "/%g1a", "no encoding at all"),
            ("/%\u{e9}1", "/%\u{e9}1", "no encoding at all"),
            ("*", "*", "no path"),
            ("", "", "no path"),
        ] {
            assert_eq!(normal_target(target), expected, "{target}: {why}");
        }
    }

    proptest! {
        #[test]
        fn every_normal_target_is_a_path(target in "/[%./?2fFeE6a\u{e9}]{0,24}") {
            let normal = normal_target(&target);
            prop_assert!(normal.starts_with('/'), "{}", normal);
        }

        #[test]
        fn every_target_is_a_path(reference in "([a-z]{0,4}:)?[/.?#:a-z\u{e9}]{0,20}") {
            if let Some(target) = resolve(&reference, "http", "a", "/b/c?q") {
                prop_assert!(target.starts_with('/'), "{}", target);
            }
        }

        #[test]
        fn no_dot_segment_is_left(path in "(/[.a]{0,3}){0,8}") {
            let found = without_dot_segments(&path);
            prop_assert!(!found.split('/').any(|segment| matches!(segment, "." | "..")), "{}", found);
            prop_assert_eq!(without_dot_segments(&found), found.clone());
        }
    }
}
