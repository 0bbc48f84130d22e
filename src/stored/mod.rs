//! The nouns that the rest passes around: what a response is found by, what is stored of it, and
//! where in the invalidation log it was born.
//!
//! Deciding what may be stored is `semantics`' work, keeping it is `store`'s.

mod content;
mod joined;
mod name;
mod original;
mod position;
mod selected;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::AtomicU64;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

pub use joined::joined_name;
pub use name::{CUT, cut_name, default_parts, is_plain_name, left_of, readable_name};
pub use original::Original;
pub use position::{Moment, NotAPosition, Position};

use crate::recent::Recent;
use crate::semantics::{Freshness, Span, Spans, normal_target};

thread_local! {
    /// Packing the parts of a key allocates nothing.
    static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };

    /// To compare the parts is much less work than to hash them.
    static RECENT: RefCell<Recent<CacheKey>> = RefCell::default();
}

/// What a stored response is found by (RFC 9111 §2): 256 bits of BLAKE3 over everything that tells
/// it from others, each part with its length before it, so that different lists of parts never
/// run into the same octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CacheKey(pub [u8; 32]);

impl CacheKey {
    /// The key of a request: what the host owns first, then the parts that the route's key policy
    /// answered (or path and query where there is none).
    pub fn new<'a>(
        namespace: &str,
        route: &str,
        authority: &str,
        parts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        // Hashed in one piece: BLAKE3 is at its best then.
        PACKED.with_borrow_mut(|packed| {
            packed.clear();
            let mut write = |part: &str| {
                packed.extend_from_slice(&(part.len() as u64).to_le_bytes());
                packed.extend_from_slice(part.as_bytes());
            };
            // `HEAD` is answered from what `GET` stored. The method of a request with content comes
            // in with that.
            for own in [namespace, route, authority, "GET"] {
                write(own);
            }
            for (name, value) in parts {
                write(name);
                write(value);
            }
            let hash = |_| Ok::<_, Infallible>(Self(*blake3::hash(packed).as_bytes()));
            let Ok(key) = RECENT.with_borrow_mut(|recent| recent.get_or(packed, hash));
            // One extraordinary request must not hold memory for good.
            packed.shrink_to(4096);
            key
        })
    }

    /// The key of one variant: this key and the nominated request fields' values (RFC 9111 §4.1).
    /// `None` is a field that the request does not have.
    #[must_use]
    pub fn variant<'a>(
        &self,
        nominated: impl IntoIterator<Item = (&'a HeaderName, Option<Bytes>)>,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        for (name, value) in nominated {
            hasher.update(&(name.as_str().len() as u64).to_le_bytes());
            hasher.update(name.as_str().as_bytes());
            match value {
                None => {
                    hasher.update(&u64::MAX.to_le_bytes());
                }
                Some(value) => {
                    hasher.update(&(value.len() as u64).to_le_bytes());
                    hasher.update(&value);
                }
            }
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl CacheKey {
    /// Some of its bits: it is a hash itself.
    pub fn number(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, octet| number << 8 | u64::from(*octet))
    }

    /// The key that reads so, in hexadecimal.
    pub fn parse(text: &str) -> Option<Self> {
        // Of lower case alone: one key has one text.
        let hash = blake3::Hash::from_hex(text).ok()?;
        (*hash.to_hex() == *text).then_some(Self(*hash.as_bytes()))
    }

    /// The key of responses that answer every query with this canonical form under a rule of
    /// `No-Vary-Search`, this being the key of their path. A rule is no field name, so that no
    /// variant has this key.
    #[must_use]
    pub fn search(&self, rule: &str, canonical: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        for part in [rule, canonical] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each look-up in L2 writes one: digit by digit that took half a microsecond.
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({self})")
    }
}

/// Something that many stored responses can have in common and be invalidated by: a tag, a group, a
/// path, a target URI, a route, a key. 128 bits of BLAKE3 over its kind, its scope and its text: equal labels of
/// two upstreams, or a path and a tag of the same text, stay apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark(pub [u8; 16]);

impl Mark {
    /// A tag that a policy or a response of `upstream` named.
    pub fn tag(upstream: &str, label: &str) -> Self {
        Self::new("tag", upstream, label)
    }

    /// A group that a response of this authority put itself in (RFC 9875 §2.1, which scopes groups by
    /// origin; the scheme is no part of this, so an invalidation reaches what either brought).
    pub fn group(authority: &str, label: &str) -> Self {
        Self::new("group", authority, label)
    }

    /// Every response of this authority that is in any group.
    pub fn grouped(authority: &str) -> Self {
        Self::new("grouped", authority, "")
    }

    /// Every response to a request for this path of this authority, or an equivalent one, whatever
    /// the query.
    pub fn path(authority: &str, path: &str) -> Self {
        Self::new("path", authority, &normal_target(path))
    }

    /// Every response to a request for this path and query, or equivalent ones (RFC 9111 §4.4: the
    /// target URI).
    pub fn target(authority: &str, path_and_query: &str) -> Self {
        Self::new("target", authority, &normal_target(path_and_query))
    }

    /// Every response to a request for this path that says by `No-Vary-Search` that it answers
    /// other queries than its own.
    pub fn search(authority: &str, path: &str) -> Self {
        Self::new("search", authority, &normal_target(path))
    }

    /// Every response to a `POST` to this path that was taken for a read: what is stored of it is none
    /// of the path's `GET`s.
    pub fn asked_by_post(authority: &str, path: &str) -> Self {
        Self::new("post", authority, &normal_target(path))
    }

    /// Every response of a route.
    pub fn route(route: &str) -> Self {
        Self::new("route", "", route)
    }

    /// Every response of this readable name, as [`StoredResponse::name`] has it.
    pub fn named(name: &str) -> Self {
        Self::new("name", "", name)
    }

    /// Every variant under one cache key.
    pub fn key(key: &CacheKey) -> Self {
        Self::new("key", "", &key.to_string())
    }

    fn new(kind: &str, scope: &str, text: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [kind, scope, text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut mark = [0; 16];
        hasher.finalize_xof().fill(&mut mark);
        Self(mark)
    }
}

/// A stored response: what a hit is made of, and all that decides whether it may be one.
#[derive(Debug)]
pub struct StoredResponse {
    /// What operators call it, and match with patterns: `users/42?language=de`.
    pub name: Box<str>,
    /// A final status (RFC 9110 §15).
    pub status: StatusCode,
    /// The fields to send: no hop-by-hop field, no `Age`, no `Cache-Status` of this cache's own.
    pub fields: Fields,
    /// The content, or what there is of it.
    pub body: Bytes,
    /// Which octets of the content `body` has; none if it has them all. An incomplete response
    /// answers requests for parts of what it has, and no others (RFC 9111 §3.3). Its status is that
    /// of the whole.
    pub part: Option<Box<Spans>>,
    /// When it came, how old it was then, how long it is fresh, and what limits its reuse.
    pub freshness: Freshness,
    /// What it can be invalidated by, besides its name.
    pub marks: Box<[Mark]>,
    /// Where the log was before its fetch began. A later record that covers it makes it invalid.
    pub position: Position,
    /// When its fetch began; [`Moment::BEFORE_ALL`] where another gateway fetched it, and where
    /// there is no log to lag behind.
    pub begun: Moment,
    /// How many records the log had when this response was last found valid. A process's own
    /// note: it is not part of what L2 keeps.
    pub checked: AtomicU64,
    /// What its coded forms are found by: a process's own note, too.
    pub original: Original,
}

impl StoredResponse {
    /// What it has in common with all variants under its cache key. Every response has it behind the mark
    /// of its route.
    pub fn key_mark(&self) -> Option<Mark> {
        self.marks.get(1).copied()
    }

    /// The content; `None` if it is not all here.
    pub fn whole(&self) -> Option<&Bytes> {
        self.part.is_none().then_some(&self.body)
    }

    /// How long the whole content is. `None` if it is not all here and nobody has said it.
    pub fn length(&self) -> Option<u64> {
        self.part.as_ref().map_or(Some(self.body.len() as u64), |spans| spans.length())
    }

    /// These octets of the content; `None` if some of them are not here. Nothing is copied.
    pub fn cut(&self, span: Span) -> Option<Bytes> {
        if let Some(spans) = &self.part {
            return spans.cut(&self.body, span);
        }
        let place = |octets: u64| usize::try_from(octets).ok();
        let (start, end) = (place(span.start())?, place(span.end())?);
        (end <= self.body.len()).then(|| self.body.slice(start..end))
    }
}

/// The field names written as one octet: their place in this list is part of the stored format,
/// so new names go to the end.
const COMMON: &[HeaderName] = {
    use http::header::{
        ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
        ALT_SVC, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
        CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        DATE, ETAG, EXPIRES, LAST_MODIFIED, LINK, LOCATION, PRAGMA, REFERRER_POLICY, RETRY_AFTER,
        SERVER, STRICT_TRANSPORT_SECURITY, VARY, VIA, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        X_XSS_PROTECTION,
    };
    &[
        ACCEPT_RANGES,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
        ALLOW,
        ALT_SVC,
        CACHE_CONTROL,
        CONTENT_DISPOSITION,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        CONTENT_LOCATION,
        CONTENT_RANGE,
        CONTENT_SECURITY_POLICY,
        CONTENT_TYPE,
        DATE,
        ETAG,
        EXPIRES,
        LAST_MODIFIED,
        LINK,
        LOCATION,
        PRAGMA,
        REFERRER_POLICY,
        RETRY_AFTER,
        SERVER,
        STRICT_TRANSPORT_SECURITY,
        VARY,
        VIA,
        X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
        X_XSS_PROTECTION,
    ]
};

/// The name is spelled out: a length and its octets follow.
const SPELLED: u8 = 0xff;

/// Response fields as one run of octets: a quarter of a `HeaderMap`'s memory, the same in L1 and
/// in L2, and free of the connection's read buffer, which values received by hyper would keep alive.
///
/// Each field is a name (one octet for a common one, else 0xff, a length and the name), then the
/// value's length and octets. Lengths are two octets, little-endian. Order and repeated lines stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Bytes);

/// Bounds of the stored form, above all that comes in one head. A `HeaderMap` panics where it is to hold
/// more than 24,576 names.
const MAX_OCTETS: usize = 512 << 10;
const MAX_FIELDS: usize = 16 << 10;

/// Fields too long for the stored form: a name or value has more than 65,535 octets, or all have more than
/// 512 KiB, or there are more than 16,384.
#[derive(Debug, thiserror::Error)]
#[error("a field is longer than 65535 octets, or all are longer than 512 KiB or more than 16384")]
pub struct FieldsTooLong;

impl Fields {
    /// Copies all fields.
    ///
    /// # Errors
    /// A name or value above 65,535 octets, more than 512 KiB of them, or more than 16,384.
    pub fn encode(fields: &HeaderMap) -> Result<Self, FieldsTooLong> {
        let mut out = BytesMut::with_capacity(fields.len() * 40);
        let put = |out: &mut BytesMut, octets: &[u8]| -> Result<(), FieldsTooLong> {
            out.put_u16_le(u16::try_from(octets.len()).map_err(|_| FieldsTooLong)?);
            out.put_slice(octets);
            Ok(())
        };
        for (name, value) in fields {
            let place = COMMON.iter().position(|common| common == name);
            if let Some(place) = place.and_then(|place| u8::try_from(place).ok()) {
                out.put_u8(place);
            } else {
                out.put_u8(SPELLED);
                put(&mut out, name.as_str().as_bytes())?;
            }
            put(&mut out, value.as_bytes())?;
        }
        if fields.len() > MAX_FIELDS || out.len() > MAX_OCTETS {
            return Err(FieldsTooLong);
        }
        // The buffer's spare room would be kept as long as the response.
        Ok(Self(Bytes::copy_from_slice(&out)))
    }

    /// The same in memory of its own.
    #[must_use]
    pub fn copied(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Checks octets that came from elsewhere, to the last one. `None` if they are no fields, or more
    /// than [`Fields::encode`] makes.
    pub fn from_bytes(octets: Bytes) -> Option<Self> {
        let (mut at, mut count) = (0, 0);
        while at < octets.len() {
            (_, _, at) = read(&octets, at)?;
            count += 1;
        }
        (octets.len() <= MAX_OCTETS && count <= MAX_FIELDS).then_some(Self(octets))
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Every field, in the order received. Values share this run's memory.
    pub fn iter(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (name, value, end) = read(&self.0, at)?;
            at = end;
            Some((name, value))
        })
    }

    /// The first value of a field.
    pub fn value(&self, name: &HeaderName) -> Option<HeaderValue> {
        self.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
    }

    /// A `HeaderMap` of all fields, with room for `more` of them.
    pub fn to_map(&self, more: usize) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.0.len() / 24 + more);
        for (name, value) in self.iter() {
            map.append(name, value);
        }
        map
    }
}

/// The field that begins at `at`, and where it ends. `None` at the end, and where no field is.
fn read(octets: &Bytes, at: usize) -> Option<(HeaderName, HeaderValue, usize)> {
    let place = *octets.get(at)?;
    let (name, at) = if place == SPELLED {
        let (start, end) = counted(octets, at + 1)?;
        (HeaderName::from_bytes(octets.get(start..end)?).ok()?, end)
    } else {
        (COMMON.get(usize::from(place))?.clone(), at + 1)
    };
    let (start, end) = counted(octets, at)?;
    let value = HeaderValue::from_maybe_shared(octets.slice(start..end)).ok()?;
    Some((name, value, end))
}

/// Where the octets lie that the length at `at` counts.
fn counted(octets: &Bytes, at: usize) -> Option<(usize, usize)> {
    let start = at + 2;
    let count = octets.get(at..start)?.try_into().ok()?;
    let end = start + usize::from(u16::from_le_bytes(count));
    (end <= octets.len()).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static [u8])| {
            let value = HeaderValue::from_bytes(value).unwrap();
            (HeaderName::from_static(name), value)
        };
        let mut map = HeaderMap::new();
        lines.iter().map(line).for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    #[test]
    fn fields_come_back_as_they_were() {
        let map = fields(&[
            ("content-type", b"text/plain"),
            ("x-of-its-own", b""),
            ("link", b"</a>; rel=a"),
            ("link", b"</b>; rel=b"),
            ("etag", b"\"caf\xe9\""),
        ]);
        let stored = Fields::encode(&map).unwrap();
        assert_eq!(stored.to_map(0), map);
        assert_eq!(Fields::from_bytes(stored.as_bytes().clone()), Some(stored));
    }

    #[test]
    fn fields_cut_anywhere_are_no_fields_or_fewer() {
        let map = fields(&[("etag", b"\"1\""), ("x-of-its-own", b"value")]);
        let stored = Fields::encode(&map).unwrap();
        let whole = stored.as_bytes();
        for end in 0..whole.len() {
            let cut = Fields::from_bytes(whole.slice(..end));
            assert!(cut.is_none_or(|cut| cut.to_map(0).len() < 2), "cut at {end}");
        }
    }

    /// Whatever is taken can be made a map, which panics where there is more.
    #[test]
    fn fields_above_the_bounds_are_no_fields() {
        let run = |count: usize, length: u16| {
            let mut run = Vec::new();
            for number in 0..count {
                let name = format!("x{number:05}");
                run.extend([&[SPELLED, 6, 0], name.as_bytes(), &length.to_le_bytes()].concat());
                run.resize(run.len() + usize::from(length), b'v');
            }
            Fields::from_bytes(run.into())
        };
        for (count, length) in [(MAX_FIELDS, 0), (8, 60_000)] {
            assert_eq!(run(count, length).unwrap().to_map(2).len(), count);
        }
        for (count, length) in [(MAX_FIELDS + 1, 0), (30_000, 0), (10, 60_000)] {
            assert_eq!(run(count, length), None, "{count} of {length} octets");
        }
        let mut map = HeaderMap::with_capacity(0);
        for _ in 0..9 {
            map.append("link", "v".repeat(60_000).parse().unwrap());
        }
        assert!(Fields::encode(&map).is_err());
    }

    #[test]
    fn lists_of_parts_never_run_into_one_another() {
        let key = |parts: &[(&'static str, &'static str)]| {
            CacheKey::new("larder", "all", "example.com", parts.iter().copied())
        };
        let lists: [&[(&str, &str)]; 6] = [
            &[("path", "/a"), ("query", "b")],
            &[("path", "/aquery"), ("", "b")],
            &[("path", "/a"), ("query", ""), ("b", "")],
            &[("path", "/a")],
            &[("path", "/a"), ("query", "")],
            &[],
        ];
        for (at, one) in lists.iter().enumerate() {
            for other in lists.iter().skip(at + 1) {
                assert_ne!(key(one), key(other), "{one:?} and {other:?}");
            }
        }
        let base = key(&[]);
        assert_ne!(
            CacheKey::new("larder", "all", "example.co", [("m", "")]),
            CacheKey::new("larder", "all", "example.com", []),
        );
        let name = HeaderName::from_static("accept");
        assert_ne!(base.variant([(&name, None)]), base.variant([(&name, Some(Bytes::new()))]));
    }

    #[test]
    fn marks_of_different_kinds_and_scopes_stay_apart() {
        let marks = [
            Mark::tag("a", "/x"),
            Mark::tag("b", "/x"),
            Mark::group("a", "/x"),
            Mark::group("b", "/x"),
            Mark::path("a", "/x"),
            Mark::target("a", "/x"),
            Mark::route("/x"),
            Mark::named("/x"),
            Mark::group("a", ""),
            Mark::grouped("a"),
        ];
        for (at, one) in marks.iter().enumerate() {
            assert!(!marks[at + 1..].contains(one));
        }
    }

    #[test]
    fn positions_are_ordered_and_read_back() {
        let position = Position { millis: 5, sequence: u64::MAX };
        assert_eq!(position.next(), Position { millis: 6, sequence: 0 });
        assert!(Position::ZERO < Position::ZERO.next());
        assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        for wrong in ["", "5", "5-", "-5", "5-x", "5-1-1"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
