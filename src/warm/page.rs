//! A URL to be warmed, and a field to be sent with it, as they are written.

use std::fmt;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, RANGE, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::message;
use crate::octets;
use crate::target::has_dot_segments;

/// Fields that are not for whoever writes a request to choose, and `Range`, for a part of a response is
/// not what is to be warmed.
const REFUSED: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    RANGE,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// A URL that a gateway can be asked for. Two that lead to the same request are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// It has `https`.
    pub(super) is_secure: bool,
    pub(super) host: HeaderValue,
    pub(super) target: PathAndQuery,
}

impl Page {
    /// The error says what the URL is not.
    pub fn of(url: &str) -> Result<Self, &'static str> {
        let (authority, target) = message::of_url(url)?;
        // It would be answered 400.
        let path = target.split('?').next().unwrap_or_default();
        if has_dot_segments(path) {
            return Err("has a segment that is `.` or `..` in its path");
        }
        let is_secure = url.get(..6).is_some_and(|it| it.eq_ignore_ascii_case("https:"));
        let host = HeaderValue::try_from(authority);
        match (host, PathAndQuery::try_from(target)) {
            (Ok(host), Ok(target)) => Ok(Self { is_secure, host, target }),
            // What a URL can be read from is fit for both.
            _ => Err("cannot be asked for"),
        }
    }

    /// The authority that it names.
    pub fn authority(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    /// Its path, as it is sent.
    pub fn path(&self) -> &str {
        self.target.path()
    }
}

/// The URL that it was, what of it does not matter left aside.
impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host.to_str().unwrap_or_default(), self.target)
    }
}

/// A field as it is written in a message: `Accept-Language: de`. The error says what the text is not.
pub fn field(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    const SHAPE: &str = "is not a field such as `Accept-Language: de`";

    let (name, value) = octets::read_field(text).ok_or(SHAPE)?;
    if REFUSED.contains(&name) {
        return Err("names a field that the request does not have or sets itself");
    }
    Ok((name, value))
}

/// Who asks, if no field says it.
pub(super) fn user_agent() -> (HeaderName, HeaderValue) {
    (USER_AGENT, HeaderValue::from_static(concat!("larder-warm/", env!("CARGO_PKG_VERSION"))))
}

/// Whether a request with these fields comes from here, unless it was to have another `User-Agent`.
pub fn has_asked(fields: &HeaderMap) -> bool {
    fields.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"larder-warm/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_lead_to_one_request_are_one_page() {
        for (url, expected) in [
            ("http://shop.example/a", "http://shop.example/a"),
            ("https://Shop.Example:443/a?b=c#d", "https://shop.example/a?b=c"),
            ("http://shop.example:80", "http://shop.example/"),
            ("http://[::1]:8080/%C3%A9", "http://[::1]:8080/%C3%A9"),
            ("http://shop.example/.a/b..?c=/../d", "http://shop.example/.a/b..?c=/../d"),
        ] {
            let page = Page::of(url).unwrap();
            assert_eq!(page.to_string(), expected);
            assert_eq!(Page::of(expected), Ok(page));
        }
        for (url, why) in [
            ("", "is not an absolute URL with http or https"),
            ("/a", "is not an absolute URL with http or https"),
            ("shop.example/a", "is not an absolute URL with http or https"),
            ("ftp://shop.example/", "is not an absolute URL with http or https"),
            (
                "http://shop.example/caf\u{e9}",
                "has characters that must be percent-encoded in a URL",
            ),
            ("http://shop.example/a/../b", "has a segment that is `.` or `..` in its path"),
            ("http://shop.example/%2E?a=b", "has a segment that is `.` or `..` in its path"),
            ("http://user:secret@shop.example/", "names no host that a request could be for"),
        ] {
            assert_eq!(Page::of(url), Err(why), "{url}");
        }
    }

    #[test]
    fn fields_are_read_as_they_are_written() {
        let (name, value) = field("Accept-Language:  de, en;q=0.5 ").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("accept-language", &b"de, en;q=0.5"[..]));
        assert_eq!(field("X-Empty:").unwrap().1, "");
        for bad in
            ["", "a", ": a", "a b: c", "a: \u{1}", "Host: a", "range: bytes=0-", "TE: trailers"]
        {
            assert!(field(bad).is_err(), "{bad}");
        }
    }
}
