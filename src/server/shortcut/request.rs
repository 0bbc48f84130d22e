//! A request, read out of its octets as hyper would read it.

use std::cell::RefCell;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::octets;
use crate::recent::Recent;
use crate::upstream::Arriving;

/// After so many requests whose fields were not found, those of each `SELDOM`th are looked for.
const VAIN: u8 = 16;
const SELDOM: u8 = 8;

/// The fields of a longer head are not kept: they share its octets.
const LONGEST: usize = 4096;

thread_local! {
    /// What requests came with: most clients send the same fields each time.
    static FIELDS: RefCell<Recent<HeaderMap>> = RefCell::default();
}

/// The methods that are read here, and what a request with each begins with.
const METHODS: [(&[u8], Method); 5] = [
    (b"GET ", Method::GET),
    (b"POST ", Method::POST),
    (b"PUT ", Method::PUT),
    (b"PATCH ", Method::PATCH),
    (b"DELETE ", Method::DELETE),
];

/// Whether a client sends the same fields each time. One that does not, as it numbers its requests, has them looked
/// for seldom: that is in vain.
#[derive(Default)]
pub(super) struct Repeats {
    /// So many in a row were not found.
    vain: u8,
    /// So many were not looked for.
    skipped: u8,
}

impl Repeats {
    fn may_be_found(&mut self) -> bool {
        if self.vain < VAIN {
            return true;
        }
        self.skipped = (self.skipped + 1) % SELDOM;
        self.skipped == 0
    }

    fn note(&mut self, is_found: bool) {
        self.vain = if is_found { 0 } else { self.vain.saturating_add(1) };
    }
}

/// A request of HTTP/1.1 that has come whole, and its octets. None: hyper is to read it.
pub(super) fn read(piece: &[u8], repeats: &mut Repeats) -> Option<(Request<Arriving>, Bytes)> {
    let (_, method) = METHODS.iter().find(|(begins, _)| piece.starts_with(begins))?;
    // One memory for all values, for the target and for the content.
    let octets = Bytes::copy_from_slice(piece);
    let (target, fields, length) = head(&octets, repeats)?;
    let mut request = Request::new(Arriving::Whole(octets.slice(length..)));
    *request.method_mut() = method.clone();
    *request.uri_mut() = target;
    *request.headers_mut() = fields;
    Some((request, octets))
}

/// The target, the fields, and how long the head is. Where nothing comes behind that, the fields may be those of a
/// request before, if they are the same octets: to compare these takes much less than to read them.
fn head(octets: &Bytes, repeats: &mut Repeats) -> Option<(Uri, HeaderMap, usize)> {
    if octets.len() > LONGEST || !octets.ends_with(b"\r\n\r\n") || !repeats.may_be_found() {
        return octets::request(octets, is_usual);
    }
    let line = octets.iter().position(|octet| *octet == b'\n')? + 1;
    let (begin, fields) = octets.split_at_checked(line)?;
    let (mut target, mut with_content) = (None, None);
    let found = FIELDS.with_borrow_mut(|recent| {
        recent.get_or(fields, |_| {
            let whole = octets::request(octets, is_usual).ok_or(())?;
            if whole.2 < octets.len() {
                with_content = Some(whole);
                return Err(());
            }
            target = Some(whole.0);
            Ok(whole.1)
        })
    });
    let Ok(fields) = found else { return with_content };
    repeats.note(target.is_none());
    let target = target.or_else(|| octets::request_line(octets, begin))?;
    Some((target, fields, octets.len()))
}

/// Whether hyper need not look at a field.
fn is_usual(name: &HeaderName, _: &HeaderValue) -> bool {
    !matches!(*name, CONNECTION | EXPECT | UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a piece: the method, the target, the fields, and the content.
    fn seen(piece: &str) -> Option<String> {
        let (request, octets) = read(piece.as_bytes(), &mut Repeats::default())?;
        assert_eq!(octets, piece, "hyper may read it again");
        let mut text = format!("{} {}", request.method(), request.uri());
        for (name, value) in request.headers() {
            text.extend([" ", name.as_str(), "=", value.to_str().unwrap()]);
        }
        let Arriving::Whole(content) = request.into_body() else { panic!("it has come") };
        Some(format!("{text} {content:?}"))
    }

    #[test]
    fn a_request_has_its_content() {
        for (piece, expected) in [
            ("GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a?b host=a b\"\""),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "POST / content-length=3 b\"abc\""),
            ("DELETE /a HTTP/1.1\r\n\r\n", "DELETE /a b\"\""),
            ("PATCH * HTTP/1.1\r\n\r\n", "PATCH * b\"\""),
        ] {
            assert_eq!(seen(piece).as_deref(), Some(expected), "{piece}");
        }
    }

    /// It takes fields that come twice to be kept, and once more to be found.
    #[test]
    fn the_same_fields_are_read_alike() {
        let same = "HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 0\r\n\r\n";
        let seen_of = "host=a x-a=1 x-a=2 content-length=0";
        for (begin, expected) in [
            ("GET /1?a", Some("GET /1?a")),
            ("DELETE /2", Some("DELETE /2")),
            ("POST http://a/3", Some("POST http://a/3")),
            ("GET *", Some("GET *")),
            ("GET  /4", None),
            ("GET /5 /6", None),
            ("GET /\x7f", None),
            ("HEAD /7", None),
            ("GET ", None),
        ] {
            for time in 0..4 {
                let expected = expected.map(|begin| format!("{begin} {seen_of} b\"\""));
                assert_eq!(seen(&format!("{begin} {same}")), expected, "{begin}, {time}");
            }
        }
        for _ in 0..4 {
            let older = same.replace("1.1", "1.0");
            assert_eq!(seen(&format!("GET / {older}")), None, "of another version");
        }
    }

    #[test]
    fn fields_that_are_others_each_time_are_seldom_looked_for() {
        let mut repeats = Repeats::default();
        let mut ask = |number: u32| {
            let before = repeats.vain;
            let piece = format!("GET / HTTP/1.1\r\nX-Number: {number}\r\n\r\n");
            let (request, _) = read(piece.as_bytes(), &mut repeats).unwrap();
            assert_eq!(request.headers()["x-number"], number.to_string());
            (before, repeats.vain)
        };
        for number in 0..16 {
            assert_eq!(ask(number).1, u8::try_from(number).unwrap() + 1);
        }
        let looked_for = (16..96).map(&mut ask).filter(|(before, after)| before != after).count();
        assert_eq!(looked_for, 10);
        // Who begins to repeat them is found out.
        let found = (0..64).map(|_| ask(96)).find(|(_, after)| *after == 0);
        assert!(found.is_some());
        assert_eq!((ask(96).1, ask(97).1), (0, 1));
    }

    #[test]
    fn a_content_is_none_of_the_fields() {
        let piece = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
        for _ in 0..4 {
            let expected = "POST / content-length=4 b\"\\r\\n\\r\\n\"";
            assert_eq!(seen(piece).as_deref(), Some(expected));
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(LONGEST));
        for _ in 0..4 {
            let expected = format!("GET /{} host=a b\"\"", "b".repeat(LONGEST));
            assert_eq!(seen(&long), Some(expected));
        }
    }

    #[test]
    fn others_are_left_to_hyper() {
        for piece in [
            "HEAD / HTTP/1.1\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            "post / HTTP/1.1\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
            "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
        ] {
            assert_eq!(seen(piece), None, "{piece}");
        }
    }
}
