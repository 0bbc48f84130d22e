//! A request, read out of its octets as hyper would read it.

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, UPGRADE};
use http::{HeaderName, Method, Request};

use crate::octets;
use crate::upstream::Arriving;

/// The methods that are read here, and what a request with each begins with.
const METHODS: [(&[u8], Method); 5] = [
    (b"GET ", Method::GET),
    (b"POST ", Method::POST),
    (b"PUT ", Method::PUT),
    (b"PATCH ", Method::PATCH),
    (b"DELETE ", Method::DELETE),
];

/// A request of HTTP/1.1 that has come whole, and its octets. None: hyper is to read it.
pub(super) fn read(piece: &[u8]) -> Option<(Request<Arriving>, Bytes)> {
    let (_, method) = METHODS.iter().find(|(begins, _)| piece.starts_with(begins))?;
    // One memory for all values, for the target and for the content.
    let octets = Bytes::copy_from_slice(piece);
    let is_usual = |name: &HeaderName, _: &_| !matches!(*name, CONNECTION | EXPECT | UPGRADE);
    let (target, fields, length) = octets::request(&octets, is_usual)?;
    let mut request = Request::new(Arriving::Whole(octets.slice(length..)));
    *request.method_mut() = method.clone();
    *request.uri_mut() = target;
    *request.headers_mut() = fields;
    Some((request, octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a piece: the method, the target, the fields, and the content.
    fn seen(piece: &str) -> Option<String> {
        let (request, octets) = read(piece.as_bytes())?;
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
