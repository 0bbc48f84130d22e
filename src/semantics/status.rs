//! `Cache-Status` (RFC 9211): what was done with a request, and why.
//!
//! The only place that writes its tokens; logs, metrics and tests use the same ones.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};

/// The field's name.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// By which this cache goes in `Cache-Status` and `Via`.
pub const NAME: &str = "larder";

/// A hit, up to the number.
const HIT: &str = "larder; hit; ttl=";

/// How many characters of a detail, or of a key, are shown.
const LONGEST_DETAIL: usize = 128;

/// How many items a worker keeps that it has said before.
const SAID_BEFORE: usize = 32;

thread_local! {
    static SAID: RefCell<[Option<(CacheStatus, HeaderValue)>; SAID_BEFORE]> =
        const { RefCell::new([const { None }; SAID_BEFORE]) };
}

/// Why a request went forward (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was not to handle the request.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing is stored for the target.
    UriMiss,
    /// Something is stored, but not for these nominated fields.
    VaryMiss,
    /// Nothing is stored that could answer, and which of the two it is was not looked at.
    Miss,
    /// A fresh response is stored, but the request's directives did not allow its use.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only parts of what was asked for are stored.
    Partial,
}

impl Forward {
    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// This cache's item in `Cache-Status`. Displayed it is the item itself:
/// `larder; fwd=stale; fwd-status=304; ttl=60; stored`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Answered without going forward. `forward`, `forward_status`, `stored` and `collapsed` are
    /// then left out.
    pub hit: bool,
    /// Why the request went forward.
    pub forward: Option<Forward>,
    /// The status that came back.
    pub forward_status: Option<StatusCode>,
    /// The seconds of freshness left, below zero if stale.
    pub ttl: Option<i64>,
    /// What came back was stored.
    pub stored: bool,
    /// The request waited for another one's response: whether that answered it (RFC 9211 §2.6).
    pub collapsed: Option<bool>,
    /// More, for operators. Its first 128 characters are sent, of which those that are not
    /// printable ASCII become `?`.
    pub detail: Option<Cow<'static, str>>,
}

impl CacheStatus {
    /// Answered from the cache, with so many seconds of freshness left.
    pub fn hit(ttl: i64) -> Self {
        Self { hit: true, ttl: Some(ttl), ..Self::default() }
    }

    /// Gone forward.
    pub fn forward(why: Forward) -> Self {
        Self { forward: Some(why), ..Self::default() }
    }

    /// Whether another request's response answered this one.
    pub fn is_shared(&self) -> bool {
        self.collapsed == Some(true)
    }

    /// Appends the item: caches nearer to the origin stay before it (RFC 9211 §2), also those that
    /// a stored response came through. An empty list gives way to it.
    pub fn write_to(&self, fields: &mut HeaderMap) {
        let Some(item) = self.item() else { return };
        match fields.entry(CACHE_STATUS) {
            Entry::Vacant(none) => drop(none.insert(item)),
            Entry::Occupied(mut lines) if lines.get().is_empty() => *lines.get_mut() = item,
            Entry::Occupied(mut lines) => lines.append(item),
        }
    }

    /// Puts the item in the place of the last one, which is this cache's own.
    pub fn write_over(&self, fields: &mut HeaderMap) {
        if let Entry::Occupied(mut lines) = fields.entry(CACHE_STATUS)
            && let (Some(own), Some(item)) = (lines.iter_mut().next_back(), self.item())
        {
            *own = item;
        }
    }

    /// Adds to the last item, which is this cache's own, by which key the response is found (RFC 9211
    /// §2.7). Its first 128 characters, of which those that are not printable ASCII become `?`.
    pub fn add_key(fields: &mut HeaderMap, key: &str) {
        if let Entry::Occupied(mut lines) = fields.entry(CACHE_STATUS)
            && let Some(own) = lines.iter_mut().next_back()
        {
            let mut item = own.as_bytes().to_vec();
            item.extend_from_slice(format!("; key={}", Quoted(key)).as_bytes());
            if let Ok(item) = HeaderValue::from_maybe_shared(Bytes::from(item)) {
                *own = item;
            }
        }
    }

    /// The item, as a field's value; none if there is none of these characters.
    pub fn item(&self) -> Option<HeaderValue> {
        // What most responses say, without the machinery of formatting.
        if let Self { hit: true, ttl: Some(ttl), detail: None, .. } = *self {
            let mut item = Vec::with_capacity(40);
            write_hit(&mut item, ttl);
            return HeaderValue::from_maybe_shared(Bytes::from(item)).ok();
        }
        match self {
            Self { ttl: None, detail: None | Some(Cow::Borrowed(_)), .. } => self.item_again(),
            _ => self.new_item(),
        }
    }

    /// The item, of which there are few: numbers and texts from elsewhere are not in it.
    fn item_again(&self) -> Option<HeaderValue> {
        let why = self.forward.map_or(0, |forward| forward as usize);
        let place = 5 * why + self.detail.as_ref().map_or(0, |detail| detail.len());
        SAID.with_borrow_mut(|said| {
            let Some(slot) = said.get_mut(place % SAID_BEFORE) else { return self.new_item() };
            if let Some((status, item)) = slot
                && status == self
            {
                return Some(item.clone());
            }
            let item = self.new_item()?;
            *slot = Some((self.clone(), item.clone()));
            Some(item)
        })
    }

    fn new_item(&self) -> Option<HeaderValue> {
        // As long as it is, so that nothing but the value is allocated.
        let mut length = 0;
        self.pieces(|piece| length += piece.len());
        let mut item = Vec::with_capacity(length);
        self.pieces(|piece| item.extend_from_slice(piece.as_bytes()));
        HeaderValue::from_maybe_shared(Bytes::from(item)).ok()
    }

    /// The item, piece by piece: formatting costs most responses more than what they say.
    fn pieces(&self, mut piece: impl FnMut(&str)) {
        piece(NAME);
        if self.hit {
            piece("; hit");
        } else {
            if let Some(forward) = self.forward {
                piece("; fwd=");
                piece(forward.as_str());
            }
            if let Some(status) = self.forward_status {
                piece("; fwd-status=");
                piece(status.as_str());
            }
        }
        if let Some(ttl) = self.ttl {
            piece("; ttl=");
            piece(itoa::Buffer::new().format(limited(ttl)));
        }
        if self.stored && !self.hit {
            piece("; stored");
        }
        match self.collapsed.filter(|_| !self.hit) {
            Some(true) => piece("; collapsed"),
            Some(false) => piece("; collapsed=?0"),
            None => {}
        }
        match self.detail.as_deref() {
            None | Some("") => {}
            Some(detail) => {
                piece("; detail=");
                if is_token(detail) { piece(detail) } else { piece(&Quoted(detail).to_string()) }
            }
        }
    }
}

/// The item of a hit with so many seconds of freshness left, and nothing else.
fn write_hit(octets: &mut Vec<u8>, ttl: i64) {
    octets.extend_from_slice(HIT.as_bytes());
    octets.extend_from_slice(itoa::Buffer::new().format(limited(ttl)).as_bytes());
}

/// An item that has been said, for whoever tells of it. That of most hits takes no memory.
#[derive(Clone, Debug)]
pub enum Said {
    /// That of a hit with so many seconds of freshness left, and nothing else.
    Hit(i64),
    /// What stands in the field.
    Field(HeaderValue),
}

impl Said {
    /// Writes the item as it was said.
    pub fn write(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Hit(ttl) => write_hit(octets, *ttl),
            Self::Field(item) => octets.extend_from_slice(item.as_bytes()),
        }
    }
}

/// RFC 9651 §3.3.1: integers have at most 15 digits.
fn limited(ttl: i64) -> i64 {
    const LARGEST: i64 = 999_999_999_999_999;
    ttl.clamp(-LARGEST, LARGEST)
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = Ok(());
        self.pieces(|piece| written = written.and_then(|()| f.write_str(piece)));
        written
    }
}

/// Whether a detail can be a token (RFC 9651 §3.3.4); else it is a string.
fn is_token(detail: &str) -> bool {
    let is_of_token = |octet: u8| {
        octet.is_ascii_alphanumeric()
            || matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-'..=b'/' | b':')
            || matches!(octet, b'^'..=b'`' | b'|' | b'~')
    };
    detail.len() <= LONGEST_DETAIL
        && detail.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*')
        && detail.bytes().all(is_of_token)
}

/// The first characters of a text as a string (RFC 9651 §3.3.3).
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars().take(LONGEST_DETAIL) {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                ' '..='~' => fmt::Write::write_char(f, character)?,
                _ => f.write_str("?")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_displayed() {
        for status in [
            CacheStatus::hit(60),
            CacheStatus::hit(-1),
            CacheStatus::hit(i64::MAX),
            CacheStatus { detail: Some("why".into()), ..CacheStatus::hit(60) },
            CacheStatus::forward(Forward::Stale),
        ] {
            let mut fields = HeaderMap::new();
            status.write_to(&mut fields);
            assert_eq!(fields[CACHE_STATUS], status.to_string());
        }
    }

    #[test]
    fn what_is_told_of_a_hit_is_what_it_says() {
        for ttl in [60, 0, -1, i64::MIN] {
            let mut told = Vec::new();
            Said::Hit(ttl).write(&mut told);
            assert_eq!(CacheStatus::hit(ttl).item().unwrap(), told.as_slice());
        }
    }

    #[test]
    fn items() {
        let none = CacheStatus::default();
        let detail = |text: &'static str| CacheStatus { detail: Some(text.into()), ..none.clone() };
        for (status, expected) in [
            (none.clone(), "larder"),
            (CacheStatus::hit(30), "larder; hit; ttl=30"),
            (CacheStatus::hit(-5), "larder; hit; ttl=-5"),
            (
                CacheStatus {
                    forward: Some(Forward::Stale),
                    forward_status: Some(StatusCode::NOT_MODIFIED),
                    ttl: Some(60),
                    stored: true,
                    collapsed: Some(true),
                    ..none.clone()
                },
                "larder; fwd=stale; fwd-status=304; ttl=60; stored; collapsed",
            ),
            (
                CacheStatus {
                    detail: Some("no-store".into()),
                    ..CacheStatus::forward(Forward::UriMiss)
                },
                "larder; fwd=uri-miss; detail=no-store",
            ),
            (
                CacheStatus { collapsed: Some(false), ..CacheStatus::forward(Forward::UriMiss) },
                "larder; fwd=uri-miss; collapsed=?0",
            ),
            (CacheStatus { ttl: Some(i64::MIN), ..none.clone() }, "larder; ttl=-999999999999999"),
            (detail(""), "larder"),
            (detail("policy:keys/1"), "larder; detail=policy:keys/1"),
            (detail("5xx"), "larder; detail=\"5xx\""),
            (detail("two words"), "larder; detail=\"two words\""),
            (detail("a\"b\\c"), "larder; detail=\"a\\\"b\\\\c\""),
            (detail("caf\u{e9}\r\nx: y"), "larder; detail=\"caf???x: y\""),
        ] {
            assert_eq!(status.to_string(), expected);
            let mut fields = HeaderMap::new();
            status.write_to(&mut fields);
            assert_eq!(fields.get(CACHE_STATUS).unwrap(), expected);
        }
    }

    #[test]
    fn caches_before_this_one_stay_before_it() {
        let mut fields = HeaderMap::new();
        fields.append(CACHE_STATUS, HeaderValue::from_static("inner; hit"));
        CacheStatus::forward(Forward::Miss).write_to(&mut fields);
        let lines: Vec<_> = fields.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["inner; hit", "larder; fwd=miss"]);
        CacheStatus::hit(5).write_over(&mut fields);
        let lines: Vec<_> = fields.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["inner; hit", "larder; hit; ttl=5"]);
    }

    #[test]
    fn a_key_is_added_to_the_own_item() {
        for (before, key, expected) in [
            (vec!["larder; hit; ttl=1"], "users/42", vec!["larder; hit; ttl=1; key=\"users/42\""]),
            (
                vec!["inner; hit", "larder; fwd=miss"],
                "a?q=\"\u{e9}\"",
                vec!["inner; hit", "larder; fwd=miss; key=\"a?q=\\\"?\\\"\""],
            ),
            (vec![], "a", vec![]),
        ] {
            let mut fields = HeaderMap::new();
            for line in before {
                fields.append(CACHE_STATUS, HeaderValue::from_static(line));
            }
            CacheStatus::add_key(&mut fields, key);
            let lines: Vec<_> = fields.get_all(CACHE_STATUS).iter().collect();
            assert_eq!(lines, expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_detail_it_is_written(
            detail in any::<String>(),
            fill in "[\"\\\\]{0,300}",
            ttl in any::<i64>(),
        ) {
            let status = CacheStatus {
                                forward_status: Some(StatusCode::OK),
                ttl: Some(ttl),
                stored: true,
                collapsed: Some(false),
                detail: Some((detail + &fill).into()),
                ..CacheStatus::forward(Forward::VaryMiss)
            };
            let mut fields = HeaderMap::new();
            status.write_to(&mut fields);
            prop_assert!(fields.contains_key(CACHE_STATUS));
        }
    }
}
