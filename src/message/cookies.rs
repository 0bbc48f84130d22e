//! Cookies of requests (RFC 6265): one by its name, and where servers read them in different ways.

use http::header::{COOKIE, HeaderMap, HeaderValue};

/// Makes one line of the several into which HTTP/2 may split `Cookie`. HTTP/1.1 allows one only, in
/// which RFC 9113 §8.2.3 wants them joined in this way.
pub fn join_cookies(fields: &mut HeaderMap) {
    let lines: Vec<_> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        fields.insert(COOKIE, cookie);
    }
}

/// The first cookie of this name (RFC 6265 §4.2), its value as it was sent.
pub fn cookie<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    cookies(fields, name).next()
}

/// Whether each server would choose a value of its own for the cookie of this name: there are several with
/// different ones, or where one ends can be read in two ways.
pub fn is_doubtful_cookie(fields: &HeaderMap, name: &str) -> bool {
    let mut cookies = cookies(fields, name);
    cookies.next().is_some_and(|first| cookies.any(|other| other != first))
        || has_open_quote(fields)
}

/// Whether there is a quoted value with a `;` in it, or without an end. RFC 6265 §4.1.1 knows none, but some servers read
/// on to the quote that ends it, and others take what comes between for cookies.
pub fn has_open_quote(fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    lines.any(|line| line.contains(&b'"') && has_open(line))
}

fn has_open(line: &[u8]) -> bool {
    let mut rest = line;
    // A quote elsewhere is a part of a value.
    let mut may_begin = true;
    while let [octet, behind @ ..] = rest {
        rest = behind;
        if *octet == b'"' && may_begin {
            match end_of_quoted(behind) {
                Some(behind) => rest = behind,
                None => return true,
            }
        }
        may_begin = matches!(octet, b'=' | b';') || may_begin && octet.is_ascii_whitespace();
    }
    false
}

/// What follows a quoted value that has begun. None: it has no end before a `;`.
fn end_of_quoted(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'"', behind @ ..] => return Some(behind),
            [b';', ..] | [] => return None,
            // One that is escaped ends nothing, for those who read escapes.
            [b'\\', b'"', behind @ ..] | [_, behind @ ..] => behind,
        };
    }
}

/// All cookies of this name.
pub fn cookies<'a>(fields: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|octet| *octet == b';'));
    pairs.filter_map(move |pair| {
        let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        rest.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::fields;
    use super::*;

    #[test]
    fn quotes_of_cookies() {
        for (lines, expected) in [
            (vec![], false),
            (vec!["a=1; b=2"], false),
            (vec![r#"a="1"; b="2 3" "#, r#"c="""#], false),
            (vec![r#"a={"b":"1"}; c=1"2; d=1""#], false),
            (vec![r#"a="1; b=2; c=""#], true),
            (vec!["b=2", r#"a= "1"#], true),
            (vec![r#"a=""#], true),
            (vec![r#"a="1\"; b=2; c=""#], true),
            (vec![r#""a; b=2; c""#], true),
            (vec![r#"a=1 d="; b=2; c=x""#], true),
            (vec![r#"a="" d="; b=2; c=x""#], true),
            (vec![r#"a="1\;"; b=2"#], true),
        ] {
            let sent = fields(&lines.iter().map(|line| ("cookie", *line)).collect::<Vec<_>>());
            assert_eq!(has_open_quote(&sent), expected, "{lines:?}");
            assert_eq!(is_doubtful_cookie(&sent, "b"), expected, "{lines:?}");
        }
    }

    #[test]
    fn cookies_are_one_line() {
        for (sent, expected) in [
            (vec![("x-a", "1")], vec![("x-a", "1")]),
            (vec![("cookie", "a=1; b=2")], vec![("cookie", "a=1; b=2")]),
            (
                vec![("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")],
                vec![("cookie", "a=1; b=2; c=3; d=4"), ("x-a", "1")],
            ),
        ] {
            let mut found = fields(&sent);
            join_cookies(&mut found);
            assert_eq!(found, fields(&expected), "{sent:?}");
        }
    }
}
