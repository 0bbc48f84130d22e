//! Heads as octets (RFC 9112 §4, §5): what hyper would write and read, where hyper does not; and a field as people
//! write it.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

/// A head with more fields is not read here.
const MOST_FIELDS: usize = 64;

/// Writes the head of a response with a content of `length` octets, to a request that is no `HEAD`.
///
/// None: it says something of its connection, of another length or of a content that is not sent so, or it has
/// no `Date`. What has been written by then is of no use.
pub fn head(
    octets: &mut Vec<u8>,
    status: StatusCode,
    fields: &HeaderMap,
    length: usize,
) -> Option<()> {
    // hyper has a reason of its own for those that have none.
    status.canonical_reason()?;
    let mut digits = itoa::Buffer::new();
    let length = digits.format(length);
    start(octets, status);
    let (mut has_length, mut has_date) = (false, false);
    for (name, value) in fields {
        match *name {
            CONNECTION | TRANSFER_ENCODING | TRAILER => return None,
            CONTENT_LENGTH if has_length || value != length => return None,
            CONTENT_LENGTH => has_length = true,
            DATE => has_date = true,
            _ => {}
        }
        field(octets, name.as_str(), value);
    }
    // RFC 9110 §8.6, §15.4.5: of these, it would be that of another response.
    let has_none = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !has_date || has_none && (has_length || length != "0") {
        return None;
    }
    if !has_none && !has_length {
        self::length(octets, length);
    }
    end(octets);
    Some(())
}

/// What a request of HTTP/1.1 asks for, its fields, which share its octets, and how long its head is. None: that is not
/// whole, or it has more than [`MOST_FIELDS`] of them, or one that is not usual.
#[inline]
pub fn request(
    octets: &Bytes,
    is_usual: impl FnMut(&HeaderName, &HeaderValue) -> bool,
) -> Option<(Uri, HeaderMap, usize)> {
    let mut room = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(octets, &mut room).ok()?;
    let httparse::Status::Complete(length) = status else { return None };
    let target = target(octets, &parsed)?;
    Some((target, fields(octets, parsed.headers, 0, is_usual)?, length))
}

/// What a request of HTTP/1.1 asks for by the line of its octets that it begins with. None: it is no such line.
#[inline]
pub fn request_line(octets: &Bytes, line: &[u8]) -> Option<Uri> {
    let mut parsed = httparse::Request::new(&mut []);
    // The line alone, behind which fields would come.
    parsed.parse(line).ok()?;
    target(octets, &parsed)
}

#[inline]
fn target(octets: &Bytes, parsed: &httparse::Request<'_, '_>) -> Option<Uri> {
    if parsed.version? != 1 {
        return None;
    }
    Uri::from_maybe_shared(octets.slice_ref(parsed.path?.as_bytes())).ok()
}

/// The status and the fields of a response of HTTP/1.1, these as above and with room for so many `more`, and how
/// long its head is.
#[inline]
pub fn response(
    octets: &Bytes,
    more: usize,
    is_usual: impl FnMut(&HeaderName, &HeaderValue) -> bool,
) -> Option<(StatusCode, HeaderMap, usize)> {
    let mut room = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, octets, &mut room).ok()?;
    let httparse::Status::Complete(length) = status else { return None };
    if parsed.version? != 1 {
        return None;
    }
    let status = StatusCode::from_u16(parsed.code?).ok()?;
    Some((status, fields(octets, parsed.headers, more, is_usual)?, length))
}

#[inline]
fn fields(
    octets: &Bytes,
    parsed: &[httparse::Header<'_>],
    more: usize,
    mut is_usual: impl FnMut(&HeaderName, &HeaderValue) -> bool,
) -> Option<HeaderMap> {
    let mut fields = HeaderMap::with_capacity(parsed.len() + more);
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = value(octets.slice_ref(field.value));
        if !is_usual(&name, &value) {
            return None;
        }
        fields.append(name, value);
    }
    Some(fields)
}

/// A field's value, as it was parsed.
fn value(octets: Bytes) -> HeaderValue {
    // SAFETY: it wants what `HeaderValue::from_bytes` takes: octets from 32 on but 127, and HTAB. `httparse` ends a value
    // at the end of its line, and takes no others for a part of it: the test below gives it each octet. To look at each a
    // second time is a twentieth of what a hit costs. With debug assertions it is looked at here, too.
    #[expect(unsafe_code, reason = "they have been looked at; see above")]
    unsafe {
        HeaderValue::from_maybe_shared_unchecked(octets)
    }
}

/// A field as a message has it: `Accept-Language: de`. None: it is none.
pub fn read_field(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some((name, HeaderValue::from_str(value.trim()).ok()?))
}

/// Writes the line that a response begins with, but not the end of that.
pub fn start(octets: &mut Vec<u8>, status: StatusCode) {
    octets.extend_from_slice(b"HTTP/1.1 ");
    octets.extend_from_slice(status.as_str().as_bytes());
    octets.push(b' ');
    octets.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
}

/// Writes the line that a request begins with, but not the end of that.
pub fn start_request(octets: &mut Vec<u8>, method: &Method, target: &PathAndQuery) {
    octets.extend_from_slice(method.as_str().as_bytes());
    octets.push(b' ');
    octets.extend_from_slice(target.as_str().as_bytes());
    octets.extend_from_slice(b" HTTP/1.1");
}

/// Writes the end of the line before, and another, but not the end of that.
pub fn field(octets: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(name.as_bytes());
    octets.extend_from_slice(b": ");
    octets.extend_from_slice(value.as_bytes());
}

/// As [`field`], with a length of the content in digits.
pub fn length(octets: &mut Vec<u8>, digits: &str) {
    octets.extend_from_slice(b"\r\ncontent-length: ");
    octets.extend_from_slice(digits.as_bytes());
}

/// Writes the end of the last line, and that of the head.
pub fn end(octets: &mut Vec<u8>) {
    octets.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        status: u16,
        lines: &[(&'static str, &'static str)],
        length: usize,
    ) -> Option<String> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        let mut octets = Vec::new();
        head(&mut octets, StatusCode::from_u16(status).unwrap(), &fields, length)?;
        Some(String::from_utf8(octets).unwrap())
    }

    const NOW: (&str, &str) = ("date", "now");

    #[test]
    fn a_head_has_a_date_and_a_length() {
        for (status, lines, length, expected) in [
            (200, &[NOW][..], 3, "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 3\r\n\r\n"),
            (
                404,
                &[("content-length", "0"), ("a", "1"), NOW, ("a", "2")],
                0,
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\na: 1\r\na: 2\r\ndate: now\r\n\r\n",
            ),
            (304, &[NOW], 0, "HTTP/1.1 304 Not Modified\r\ndate: now\r\n\r\n"),
            (204, &[NOW], 0, "HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n"),
        ] {
            assert_eq!(written(status, lines, length).as_deref(), Some(expected), "{status}");
        }
    }

    #[test]
    fn what_hyper_has_to_look_at_is_left_to_it() {
        for (status, lines, length) in [
            (200, &[][..], 3),
            (200, &[NOW, ("connection", "close")], 3),
            (200, &[NOW, ("transfer-encoding", "chunked")], 3),
            (200, &[NOW, ("trailer", "a")], 3),
            (200, &[NOW, ("content-length", "4")], 3),
            (200, &[NOW, ("content-length", "3"), ("content-length", "3")], 3),
            (304, &[NOW, ("content-length", "0")], 0),
            (304, &[NOW], 3),
            (103, &[NOW], 3),
            (299, &[NOW], 3),
        ] {
            assert_eq!(written(status, lines, length), None, "{status} {lines:?}");
        }
    }

    #[test]
    fn a_value_that_is_parsed_is_a_value() {
        fn trimmed(text: &[u8]) -> &[u8] {
            match text {
                [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] => rest,
                _ => text,
            }
        }
        let is_usual = |_: &HeaderName, _: &HeaderValue| true;
        for octet in 0..=u8::MAX {
            // At the beginning, at the end, and at each place of what the parser looks at together.
            for (before, behind) in (0..70).map(|count| ("a".repeat(count), "b".repeat(69 - count)))
            {
                let text = [before.as_bytes(), &[octet], behind.as_bytes()].concat();
                let line = [b"a: ", &*text, b"\r\n\r\n"].concat();
                let expected = HeaderValue::from_bytes(trimmed(&text));
                let request = Bytes::from([b"GET / HTTP/1.1\r\n", &*line].concat());
                let response = Bytes::from([b"HTTP/1.1 200 OK\r\n", &*line].concat());
                let asked = super::request(&request, is_usual).map(|(_, fields, _)| fields);
                let answered = super::response(&response, 0, is_usual).map(|(_, fields, _)| fields);
                for parsed in [asked, answered] {
                    let parsed = parsed.map(|fields| fields["a"].clone());
                    let is_value =
                        |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).is_ok();
                    assert!(parsed.as_ref().is_none_or(is_value), "{text:?}");
                    // Elsewhere it is a part of the value, or the end of the line.
                    if !matches!(octet, b'\r' | b'\n') {
                        assert_eq!(parsed.as_ref(), expected.as_ref().ok(), "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_field_is_read_as_it_is_written() {
        for (line, expected) in [
            ("Accept-Language: de", Some(("accept-language", "de"))),
            ("a:b:c", Some(("a", "b:c"))),
            ("a:", Some(("a", ""))),
            ("a", None),
            (": a", None),
            ("a b: c", None),
            ("a: b\nc", None),
        ] {
            let field = read_field(line);
            let read = field.as_ref().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(read, expected, "{line}");
        }
    }
}
