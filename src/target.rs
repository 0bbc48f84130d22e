//! What a target must not have.

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
