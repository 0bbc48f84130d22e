//! The logs that Apache and nginx write if nobody says otherwise: common and combined, also with the
//! virtual host before them, and with whatever after them. Of what is after them, `host=` and `scheme=` are
//! read, as Larder's `text` has them.
//!
//! `shop.example:443 192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326 "referer" "agent"`

use std::borrow::Cow;

use http::header::{HOST, REFERER, USER_AGENT};

use super::exchange::{self, Asked, Broken, Exchange, is_there};
use super::time::Times;

/// Reads the lines of one log.
#[derive(Debug, Default)]
pub(super) struct Combined {
    times: Times,
}

impl Combined {
    /// What a line tells.
    pub(super) fn read(&mut self, line: &[u8]) -> Result<Exchange, Broken> {
        const NO_TIME: Broken = Broken("there is no time in brackets");
        const NO_REQUEST: Broken = Broken("there is no request in quotes");

        let (before, rest) = cut(line, b'[').ok_or(NO_TIME)?;
        let (time, rest) = cut(rest, b']').ok_or(NO_TIME)?;
        let at = self.times.common(time).ok_or(Broken("the time cannot be read"))?;
        let (request, rest) = quoted(rest.trim_ascii_start()).ok_or(NO_REQUEST)?;
        let request = text(&request).ok_or(Broken("the request is not UTF-8"))?;
        let mut words = rest.trim_ascii_start().splitn(3, |octet| *octet == b' ');
        let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
        let status = exchange::status(word().unwrap_or_default())?;
        // Apache writes `-` for none.
        let octets = word().and_then(|word| if word == "-" { Some(0) } else { word.parse().ok() });
        let (host, user) = host_and_user(before);
        let (host, scheme) = host.map_or((None, None), host_and_scheme);
        let mut exchange = Asked::of_line(request)?.answered(at, host, status, octets);
        exchange.scheme = exchange.scheme.or(scheme);
        if let Some(user) = user {
            exchange::authorize(&mut exchange.head.headers, user);
        }
        let mut rest = words.next().unwrap_or_default();
        for name in [REFERER, USER_AGENT] {
            let Some((value, after)) = quoted(rest.trim_ascii_start()) else { break };
            exchange::add(&mut exchange.head.headers, name, &value);
            rest = after;
        }
        read_pairs(rest, &mut exchange);
        Ok(exchange)
    }
}

/// What Larder has behind the rest, as `name="value"` or `name=value`: of that what is wanted here and was not
/// told before. It ends where anything else begins, which may be a client's.
fn read_pairs(mut rest: &[u8], exchange: &mut Exchange) {
    while let Some((name, after)) = cut(rest.trim_ascii_start(), b'=') {
        if !name.iter().all(|octet| octet.is_ascii_lowercase() || *octet == b'_') {
            return;
        }
        let end = after.iter().position(|octet| *octet == b' ').unwrap_or(after.len());
        let bare = after.split_at(end);
        let read =
            if after.starts_with(b"\"") { quoted(after) } else { Some((bare.0.into(), bare.1)) };
        let Some((value, following)) = read else { return };
        rest = following;
        let Some(value) = text(&value) else { continue };
        match name {
            b"host" if !exchange.head.headers.contains_key(HOST) => {
                exchange::add(&mut exchange.head.headers, HOST, value.as_bytes());
            }
            b"scheme" => exchange.scheme = exchange.scheme.or(exchange::scheme(value)),
            _ => {}
        }
    }
}

/// The virtual host, if there is one before the client's address, its name and its user; and that user, in
/// whose name servers write spaces as they are.
fn host_and_user(before: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    let (first, rest) = word(before);
    let (second, rest) = word(rest);
    // Hardly any server asks for the client's name, so this stands for it: before it is its address.
    if second == b"-" {
        return (None, Some(rest.trim_ascii()));
    }
    let (third, rest) = word(rest);
    match rest.trim_ascii() {
        b"" => (None, Some(third)),
        user => (Some(first), Some(user)),
    }
}

/// The first word, empty if there is none, and what follows it.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    line.split_at(line.iter().position(|octet| *octet == b' ').unwrap_or(line.len()))
}

/// What is written for a virtual host.
fn host_and_scheme(host: &[u8]) -> (Option<&str>, Option<&'static str>) {
    let host = text(host).filter(|host| is_there(host));
    // With `%v:%p`.
    match host.and_then(|host| host.rsplit_once(':')) {
        Some((name, "443")) => (Some(name), Some("https")),
        Some((name, "80")) => (Some(name), Some("http")),
        _ => (host, None),
    }
}

fn text(octets: &(impl AsRef<[u8]> + ?Sized)) -> Option<&str> {
    std::str::from_utf8(octets.as_ref()).ok()
}

fn cut(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = line.iter().position(|octet| *octet == at)?;
    Some((line.get(..place)?, line.get(place + 1..)?))
}

/// What stands in quotes at the beginning, and what follows. Apache escapes by `\"`, nginx by `\x22`.
fn quoted(line: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let line = line.strip_prefix(b"\"")?;
    let end = line.iter().position(|octet| matches!(octet, b'"' | b'\\'))?;
    if line.get(end) == Some(&b'"') {
        return Some((line.get(..end)?.into(), line.get(end + 1..)?));
    }
    let mut value = line.get(..end)?.to_vec();
    let mut rest = line.get(end..)?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some((value.into(), after)),
            [b'\\', b'x', high, low, after @ ..] => {
                let digit = |octet: &u8| char::from(*octet).to_digit(16);
                let octet = digit(high)? * 16 + digit(low)?;
                value.push(u8::try_from(octet).ok()?);
                after
            }
            [b'\\', escaped, after @ ..] => {
                value.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                });
                after
            }
            [octet, after @ ..] => {
                value.push(*octet);
                after
            }
            [] => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "[10/Oct/2000:13:55:36 -0700]";

    #[test]
    fn lines_are_read_as_apache_and_nginx_write_them() {
        for (line, expected) in [
            (r#"1.2.3.4 - - TIME "GET /a?b HTTP/1.1" 200 12"#, "- GET /a?b 200 12 - -"),
            (r#"1.2.3.4 - bob TIME "GET /a HTTP/1.0" 304 -"#, "- GET /a 304 0 - -"),
            (r#"1.2.3.4 - John Doe TIME "GET /a HTTP/1.1" 200 12 "-" "-""#, "- GET /a 200 12 - -"),
            (r#"1.2.3.4 - J. R. Doe TIME "GET /a HTTP/1.1" 200 12"#, "- GET /a 200 12 - -"),
            (
                r#"h:80 1.2.3.4 - John Doe TIME "GET /a HTTP/1.1" 200 12"#,
                "http://h GET /a 200 12 - -",
            ),
            (r#"::1 - - TIME "POST /a HTTP/2.0" 201 0 "-" "c/8""#, "- POST /a 201 0 - c/8"),
            (
                r#"h:443 1.2.3.4 - - TIME "GET / HTTP/1.1" 200 1 "http://r/" "a \"b\" \x22c\\""#,
                "https://h GET / 200 1 http://r/ a \"b\" \"c\\",
            ),
            (r#"h:8080 1.2.3.4 - - TIME "GET / HTTP/1.1" 200 1"#, "h:8080 GET / 200 1 - -"),
            (r#"h 1.2.3.4 - - TIME "GET / HTTP/1.1" 200 1"#, "h GET / 200 1 - -"),
            (
                r#"1.2.3.4 - - TIME "GET / HTTP/1.1" 200 1 "-" "-" "5.6.7.8" 0.005"#,
                "- GET / 200 1 - -",
            ),
            (
                r#"1.2.3.4 - - TIME "GET /a HTTP/1.1" 200 1 "-" "-" scheme="https" host="h\x5C" x="host=i" t=0.1"#,
                "https://h\\ GET /a 200 1 - -",
            ),
            (
                r#"h 1.2.3.4 - - TIME "GET /a HTTP/1.1" 200 1 "-" "-" 0.1 host=i scheme=ftp rt="#,
                "h GET /a 200 1 - -",
            ),
            (
                r#"1.2.3.4 - - TIME "GET / HTTP/1.1" 200 1 "-" "-" "x host=i" host=i"#,
                "- GET / 200 1 - -",
            ),
            (r#"1.2.3.4 - - TIME "GET / HTTP/1.1" 200 1 "-" "-" host="i"#, "- GET / 200 1 - -"),
            (r#"1.2.3.4 - - TIME "GET http://i/a HTTP/1.1" 200 1"#, "http://i GET /a 200 1 - -"),
        ] {
            let line = line.replace("TIME", TIME);
            let exchange = Combined::default().read(line.as_bytes()).unwrap();
            let head = &exchange.head;
            let field = |name| {
                let value = head.headers.get(name);
                value.map_or("-", |value: &http::HeaderValue| value.to_str().unwrap())
            };
            let scheme = exchange.scheme.map(|it| format!("{it}://")).unwrap_or_default();
            let told = format!(
                "{scheme}{} {} {} {} {} {} {}",
                field(HOST),
                head.method,
                head.uri,
                exchange.status.as_u16(),
                exchange.octets.unwrap(),
                field(REFERER),
                field(USER_AGENT)
            );
            assert_eq!(told, expected, "{line}");
            assert_eq!(exchange.at, 971_211_336_000);
        }
    }

    #[test]
    fn a_user_has_credentials() {
        for (before, expected) in [
            ("1.2.3.4 - -", None),
            ("1.2.3.4 - bob", Some("Basic Ym9iOg==")),
            ("h:443 1.2.3.4 - bob", Some("Basic Ym9iOg==")),
            ("h:443 1.2.3.4 - -", None),
            ("1.2.3.4 - John Doe", Some("Basic Sm9obiBEb2U6")),
            ("h:443 1.2.3.4 - John Doe ", Some("Basic Sm9obiBEb2U6")),
            ("1.2.3.4 name bob", Some("Basic Ym9iOg==")),
            ("1.2.3.4 -", None),
            ("1.2.3.4 bob", None),
            ("", None),
        ] {
            let line = format!("{before} {TIME} \"GET / HTTP/1.1\" 200 1");
            let exchange = Combined::default().read(line.as_bytes()).unwrap();
            let value = exchange.head.headers.get("authorization");
            assert_eq!(value.map(|value| value.to_str().unwrap()), expected, "{before}");
        }
    }

    #[test]
    fn broken_lines_are_told_by_their_reason() {
        for (line, expected) in [
            ("", "there is no time in brackets"),
            ("1.2.3.4 - - 10/Oct/2000", "there is no time in brackets"),
            ("1.2.3.4 - - [yesterday] \"GET / HTTP/1.1\" 200 1", "the time cannot be read"),
            ("1.2.3.4 - - TIME GET / 200 1", "there is no request in quotes"),
            ("1.2.3.4 - - TIME \"GET / HTTP/1.1 200 1", "there is no request in quotes"),
            ("1.2.3.4 - - TIME \"GET / HTTP/1.1\\", "there is no request in quotes"),
            ("1.2.3.4 - - TIME \"GET / HTTP/1.1\\xg", "there is no request in quotes"),
            ("1.2.3.4 - - TIME \"\" 400 0", "the request is not `METHOD TARGET VERSION`"),
            (
                "1.2.3.4 - - TIME \"\\x16\\x03\\x01\" 400 0",
                "the request is not `METHOD TARGET VERSION`",
            ),
            ("1.2.3.4 - - TIME \"\\xff\" 400 0", "the request is not UTF-8"),
            ("1.2.3.4 - - TIME \"GET / HTTP/1.1\" - 1", "there is no status"),
            ("1.2.3.4 - - TIME \"GET / HTTP/1.1\"", "there is no status"),
        ] {
            let line = line.replace("TIME", TIME);
            let read = Combined::default().read(line.as_bytes());
            assert_eq!(read.map_err(|Broken(why)| why).unwrap_err(), expected, "{line}");
        }
    }
}
