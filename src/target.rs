//! What a target must have, and must not.

use http::Uri;

/// Gives a target whose path is empty the one that this means (RFC 9110 §4.2.3): `http://host?query` asks for
/// `/?query`. That is an error where it makes the target too long.
pub fn complete(uri: &mut Uri) -> Result<(), &'static str> {
    let Some(target) = uri.path_and_query().filter(|target| target.as_str().starts_with('?'))
    else {
        return Ok(());
    };
    let target = format!("/{}", target.as_str()).try_into();
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target.map_err(|_| "a target that is too long")?);
    *uri = Uri::from_parts(parts).map_err(|_| "no target")?;
    Ok(())
}

/// Whether a path has a segment `.` or `..`, in whatever way a server might read it: with dots or slashes that are
/// percent-encoded, a slash turned round, or parameters behind the dots.
///
/// A server that leaves such segments out (RFC 3986 §5.2.4) answers for another path than the one that a route was
/// chosen by. Clients do it before they send anything.
pub fn has_dot_segments(path: &str) -> bool {
    may_have_dot_segments(path.as_bytes()) && find_dot_segment(path.as_bytes())
}

/// Of most paths one look tells that there is none.
fn may_have_dot_segments(path: &[u8]) -> bool {
    let mut may_have = false;
    for (octet, next) in path.iter().zip(path.get(1..).unwrap_or_default()) {
        may_have |= *next == b'%';
        may_have |= *next == b'.' && matches!(octet, b'/' | b'\\');
    }
    may_have
}

fn find_dot_segment(path: &[u8]) -> bool {
    let mut rest = path;
    // How many the segment has so far, while it has nothing else.
    let mut dots: Option<usize> = None;
    loop {
        let is_of_dots = matches!(dots, Some(1 | 2));
        let (octet, behind) = match rest {
            [b'%', b'2', b'e' | b'E', behind @ ..] => (b'.', behind),
            [b'%', b'2', b'f' | b'F', behind @ ..] | [b'%', b'5', b'c' | b'C', behind @ ..] => {
                (b'/', behind)
            }
            [b'\\', behind @ ..] => (b'/', behind),
            [octet, behind @ ..] => (*octet, behind),
            [] => return is_of_dots,
        };
        match octet {
            b'/' | b';' if is_of_dots => return true,
            b'/' => dots = Some(0),
            b'.' => dots = dots.map(|dots| dots + 1),
            _ => dots = None,
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_path() {
        for (given, meant) in [
            ("http://shop.example?b=/", "http://shop.example/?b=/"),
            ("http://shop.example?", "http://shop.example/?"),
            ("http://shop.example", "http://shop.example/"),
            ("http://shop.example/?b", "http://shop.example/?b"),
            ("/a?b", "/a?b"),
            ("*", "*"),
            ("shop.example:80", "shop.example:80"),
        ] {
            let mut uri: Uri = given.parse().unwrap();
            complete(&mut uri).unwrap();
            assert_eq!(uri.to_string(), meant);
            let target = uri.path_and_query().map_or("", |target| target.as_str());
            assert!(meant.ends_with(target) && !target.starts_with('?'), "{target}");
        }
        // As it comes in `:path` where there is no `:authority`.
        let mut alone = Uri::from_parts({
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some("?b".try_into().unwrap());
            parts
        })
        .unwrap();
        complete(&mut alone).unwrap();
        assert_eq!(alone.path_and_query().unwrap().as_str(), "/?b");
    }

    #[test]
    fn dot_segments() {
        let found = r"/. /.. /./ /../ /a/. /a/.. /a/./b /a/../b /a/%2e/b /a/%2E./b /a/.%2e /%2e%2E
            /a/..%2fb /a/..%5Cb /a/..\b /a%2f../b /a\.. /a%5c%2e%2e /a/..;b=c/d /a/.; /%c3/.. /..%2f";
        for path in found.split_ascii_whitespace() {
            assert!(has_dot_segments(path), "{path}");
        }
        let none = r"* / // /a /a.b /a./b /a../b /a..b/ /.a /..a /... /..../ /%2e%2e%2e /a/.%20/b
            /.well-known/x /a%2e%2e/b /%252e%252e/ /a/..% /..%2 /;.. /;/a /a;./b /ä./b /%2f%2f /a\.b";
        for path in none.split_ascii_whitespace().chain([""]) {
            assert!(!has_dot_segments(path), "{path}");
        }
    }
}
