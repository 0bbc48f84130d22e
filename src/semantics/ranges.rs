//! Parts of a content: which ones a request asks for, which one a response holds (RFC 9110 §13.1.5,
//! §14).
//!
//! Where a part comes from, and whether the response may be used at all, is others' work.
//!
//! Section 17.15 wants servers to "ignore, coalesce, or reject egregious range requests, such as
//! requests for more than two overlapping ranges or for many small ranges in a single set". Ranges
//! that overlap or lie near each other are coalesced, so that no octet is ever sent twice. Where
//! more than [`MAX_PARTS`] are left, more than [`MAX_SPECS`] were asked for, or the parts with all
//! that stands between them would be no shorter than the whole, the field is ignored and the whole
//! sent: every client understands that.

use std::fmt;

use http::header::{
    CONTENT_RANGE, DATE, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode};

use super::date;
use super::validation::Validators;

/// How many parts one response has at most.
pub const MAX_PARTS: usize = 16;

/// How many ranges of one request are read.
pub const MAX_SPECS: usize = 64;

/// What stands between two parts of a multipart response, about (§15.3.7.2).
const OVERHEAD: u64 = 80;

/// Digests of the content as it was sent (RFC 9530 §2, RFC 1864): those of the whole are not those
/// of a part.
pub const OF_THE_CONTENT: [HeaderName; 2] =
    [HeaderName::from_static("content-digest"), HeaderName::from_static("content-md5")];

/// A run of octets of a content, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    start: u64,
    /// Where the octets behind it begin.
    end: u64,
}

/// What of a content is to be sent instead of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One part.
    Part(Span),
    /// Several, in the order in which they were asked for. No two of them overlap.
    Parts(Vec<Span>),
    /// None of the ranges has an octet of this content (§15.5.17).
    Unsatisfiable,
}

/// Why the whole is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// The request has no `Range`.
    NotAsked,
    /// The stored response is no 200.
    Status,
    /// Several `Range` lines: the field has one value.
    Repeated,
    /// Another unit than `bytes`.
    Unit,
    /// Not of the grammar, or a range whose end lies before its beginning.
    Malformed,
    /// `If-Range` names another representation, or names this one weakly.
    Changed,
    /// There are no octets, and all of them were asked for.
    Empty,
    /// More ranges than anyone has a use for.
    TooMany,
    /// The parts would not be shorter.
    NoShorter,
}

/// What a response's `Content-Range` says (§14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// The part that it has, and the length of the whole where that is known.
    Part(Span, Option<u64>),
    /// It has none, as none was satisfiable; the length of the whole.
    Unsatisfied(u64),
}

/// A member of a `Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// `first-pos "-" [ last-pos ]`
    Int { first: u64, last: u64 },
    /// `"-" suffix-length`
    Suffix(u64),
}

/// Whether a field of this name is about parts.
pub fn is_range(name: &HeaderName) -> bool {
    matches!(*name, RANGE | IF_RANGE)
}

/// Whether a request asks for parts. §14.2: "A server MUST ignore a Range header field received
/// with a request method that is unrecognized or for which range handling is not defined", and it
/// is defined for `GET` alone.
pub fn asks_for_part(method: &Method, fields: &HeaderMap) -> bool {
    // Few requests do, and to compare the names of a few fields is quicker than a look-up.
    *method == Method::GET && fields.keys().any(|name| *name == RANGE)
}

/// What of a stored response, of this status, these fields and this complete length, a `GET`
/// is to be sent.
///
/// The conditions that a 304 can answer come before this (§13.2.2).
pub fn select(
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    length: u64,
) -> Result<Wanted, Whole> {
    let specs = parse(request)?;
    // §14.2: only "if the result in absence of the Range header field would be a 200 (OK)".
    if status != StatusCode::OK {
        return Err(Whole::Status);
    }
    if !if_range_holds(request, stored) {
        return Err(Whole::Changed);
    }
    // §14.1.2: "When a selected representation has zero length, the only satisfiable form of
    // range-spec in a GET request is a suffix-range with a non-zero suffix-length." No
    // `Content-Range` can tell of that part.
    if length == 0 && specs.iter().any(|spec| matches!(spec, Spec::Suffix(1..))) {
        return Err(Whole::Empty);
    }
    let mut parts = Vec::with_capacity(specs.len());
    for span in specs.iter().filter_map(|spec| spec.within(length)) {
        coalesce(&mut parts, span);
    }
    match *parts {
        [] => Ok(Wanted::Unsatisfiable),
        // §15.3.7.2: multipart "MAY" be used where "only one range remained after coalescing";
        // everybody understands a single part.
        [part] => Ok(Wanted::Part(part)),
        _ if parts.len() > MAX_PARTS => Err(Whole::TooMany),
        _ => {
            // A length is what some field says, up to the largest number there is.
            let add =
                |sum: u64, part: &Span| sum.saturating_add(part.length()).saturating_add(OVERHEAD);
            let octets = parts.iter().fold(0, add);
            if octets < length { Ok(Wanted::Parts(parts)) } else { Err(Whole::NoShorter) }
        }
    }
}

/// The members of `Range`, at least one.
fn parse(request: &HeaderMap) -> Result<Vec<Spec>, Whole> {
    let mut lines = request.get_all(RANGE).iter();
    let line = lines.next().ok_or(Whole::NotAsked)?.as_bytes();
    if lines.next().is_some() {
        return Err(Whole::Repeated);
    }
    let mut halves = line.splitn(2, |&octet| octet == b'=');
    let unit = halves.next().unwrap_or_default();
    let set = halves.next().ok_or(Whole::Malformed)?;
    // §14.1: range units are case-insensitive.
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return Err(Whole::Unit);
    }
    let mut specs = Vec::new();
    // §5.6.1.2: "a recipient MUST parse and ignore a reasonable number of empty list elements".
    let members = set.split(|&octet| octet == b',');
    for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        specs.push(spec(member).ok_or(Whole::Malformed)?);
        if specs.len() > MAX_SPECS {
            return Err(Whole::TooMany);
        }
    }
    if specs.is_empty() { Err(Whole::Malformed) } else { Ok(specs) }
}

/// §14.1.1: "An int-range is invalid if the last-pos value is present and less than the first-pos."
fn spec(member: &[u8]) -> Option<Spec> {
    let hyphen = member.iter().position(|&octet| octet == b'-')?;
    match (member.get(..hyphen)?, member.get(hyphen + 1..)?) {
        ([], length) => Some(Spec::Suffix(number(length)?)),
        (first, []) => Some(Spec::Int { first: number(first)?, last: u64::MAX }),
        (first, last) => {
            let is_invalid = magnitude(last) < magnitude(first);
            let spec = Spec::Int { first: number(first)?, last: number(last)? };
            (!is_invalid).then_some(spec)
        }
    }
}

/// §14.1.2: "recipients MUST anticipate potentially large decimal numerals and prevent parsing
/// errors due to integer conversion overflows": no content is so long that the largest number would
/// mean another part of it than a larger one.
fn number(digits: &[u8]) -> Option<u64> {
    let add = |sum: u64, &octet: &u8| {
        let digit = u64::from(octet.checked_sub(b'0').filter(|digit| *digit < 10)?);
        Some(sum.saturating_mul(10).saturating_add(digit))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// By which digits are compared, however many there are.
fn magnitude(digits: &[u8]) -> (usize, &[u8]) {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let digits = digits.get(zeros..).unwrap_or_default();
    (digits.len(), digits)
}

impl Spec {
    /// What it means of a content of this length (§14.1.2). `None`: nothing.
    fn within(self, length: u64) -> Option<Span> {
        match self {
            Self::Int { first, last } => Span::new(first, last.saturating_add(1).min(length)),
            // "If the selected representation is shorter than the specified suffix-length, the
            // entire representation is used."
            Self::Suffix(count) => Span::new(length.saturating_sub(count), length),
        }
    }
}

/// §15.3.7.2: a server "MAY coalesce any of the ranges that overlap, or that are separated by a gap
/// that is smaller than the overhead of sending multiple parts". What is coalesced stands where the
/// first of it was asked for.
fn coalesce(parts: &mut Vec<Span>, mut span: Span) {
    let mut place = parts.len();
    while let Some(at) = parts.iter().position(|part| part.distance(span) < OVERHEAD) {
        span = parts.remove(at).cover(span);
        place = place.min(at);
    }
    parts.insert(place, span);
}

/// §13.1.5: "A recipient of an If-Range header field MUST ignore the Range header field if the
/// If-Range condition evaluates to false."
fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    let Some(condition) = lines.next() else { return true };
    if lines.next().is_some() {
        return false;
    }
    let etag = Validators::of(stored).etag.filter(is_strong);
    // "MUST use the strong comparison function"; and a date has to match exactly.
    etag.as_ref() == Some(condition) || strong_date(stored).as_ref() == Some(condition)
}

/// Weak ones begin with `W/`; what has no quotes is no entity tag (§8.8.3).
fn is_strong(etag: &HeaderValue) -> bool {
    matches!(etag.as_bytes(), [b'"', .., b'"'])
}

/// A validator that stands for these very octets (§8.8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strong {
    /// An entity tag that is not weak.
    Etag(HeaderValue),
    /// A `Last-Modified`.
    Date(HeaderValue),
}

impl Strong {
    /// For `If-Range`.
    pub fn into_value(self) -> HeaderValue {
        match self {
            Self::Etag(value) | Self::Date(value) => value,
        }
    }
}

/// The strong validator of a response; the entity tag if it has both.
pub fn strong_validator(fields: &HeaderMap) -> Option<Strong> {
    let etag = Validators::of(fields).etag;
    match etag {
        Some(etag) if is_strong(&etag) => Some(Strong::Etag(etag)),
        // §13.1.5: a date is for those who "have no entity tag".
        Some(_) => None,
        None => strong_date(fields).map(Strong::Date),
    }
}

/// §8.8.2.2: `Last-Modified` is strong for a cache whose stored response "includes a Date value
/// which is at least one second after the Last-Modified value". Both are the origin's.
fn strong_date(fields: &HeaderMap) -> Option<HeaderValue> {
    let last_modified = Validators::of(fields).last_modified?;
    let age = date::only(fields, DATE)?.duration_since(date::only(fields, LAST_MODIFIED)?).ok()?;
    (age.as_secs() >= 1).then_some(last_modified)
}

impl Span {
    /// The octets from `start` to before `end`; `None` if there are none.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// Where it begins.
    pub fn start(self) -> u64 {
        self.start
    }

    /// Where the octets behind it begin.
    pub fn end(self) -> u64 {
        self.end
    }

    /// In octets.
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// The octets between the two, zero where they touch or overlap.
    fn distance(self, other: Self) -> u64 {
        self.start.max(other.start).saturating_sub(self.end.min(other.end))
    }

    /// The least span that has both.
    fn cover(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// `Range` that asks for this part.
    pub fn range(self) -> HeaderValue {
        of_text(&format!("bytes={self}"))
    }

    /// `Content-Range` of this part of a content of so many octets, where it is known how many.
    pub fn content_range(self, length: Option<u64>) -> HeaderValue {
        of_text(&match length {
            Some(length) => format!("bytes {self}/{length}"),
            None => format!("bytes {self}/*"),
        })
    }
}

/// Both ends included, as `Range` and `Content-Range` have it.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end - 1)
    }
}

/// `Content-Range` of a 416 about a content of so many octets.
pub fn unsatisfied(length: u64) -> HeaderValue {
    of_text(&format!("bytes */{length}"))
}

fn of_text(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("bytes */0"))
}

impl ContentRange {
    /// Reads `Content-Range`. `None` if it is absent, repeated, of another unit, damaged, or
    /// contradicts itself. §14.4: one "is invalid if it contains a range-resp that has a last-pos
    /// value less than its first-pos value, or a complete-length value less than or equal to its
    /// last-pos value", and "the recipient of an invalid Content-Range MUST NOT attempt to
    /// recombine the received content with a stored representation".
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let mut lines = fields.get_all(CONTENT_RANGE).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?.to_str().ok()?;
        let (unit, range) = line.split_once(' ')?;
        let (span, length) = range.split_once('/')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        // Of a content longer than a number can tell we hold no part.
        let exact = |digits: &str| number(digits.as_bytes()).filter(|number| *number < u64::MAX);
        let length = if length == "*" { None } else { Some(exact(length)?) };
        if span == "*" {
            return length.map(Self::Unsatisfied);
        }
        let (first, last) = span.split_once('-')?;
        let span = Span::new(exact(first)?, exact(last)? + 1)?;
        length.is_none_or(|length| span.end <= length).then_some(Self::Part(span, length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const NOON_AND_A_SECOND: &str = "Sun, 06 Nov 1994 12:00:01 GMT";

    fn ask(range: &str, length: u64) -> Result<Wanted, Whole> {
        select(&fields(&[("range", range)]), StatusCode::OK, &HeaderMap::new(), length)
    }

    /// As `Content-Range` has them.
    fn shown(wanted: Result<Wanted, Whole>) -> Result<Vec<String>, Whole> {
        wanted.map(|wanted| match wanted {
            Wanted::Part(span) => vec![span.to_string()],
            Wanted::Parts(spans) => spans.iter().map(Span::to_string).collect(),
            Wanted::Unsatisfiable => Vec::new(),
        })
    }

    #[test]
    fn ranges_of_a_content_of_10000_octets() {
        for (range, expected, why) in [
            ("bytes=0-499", Ok(vec!["0-499"]), "§14.1.2: the first 500 bytes"),
            ("bytes=500-999", Ok(vec!["500-999"]), "§14.1.2: the second 500 bytes"),
            ("bytes=-500", Ok(vec!["9500-9999"]), "§14.1.2: the final 500 bytes"),
            ("bytes=9500-", Ok(vec!["9500-9999"]), "§14.1.2: the final 500 bytes"),
            ("bytes=0-0,-1", Ok(vec!["0-0", "9999-9999"]), "§14.1.2: the first and last bytes"),
            (
                "bytes= 0-999, 4500-5499, -1000",
                Ok(vec!["0-999", "4500-5499", "9000-9999"]),
                "§14.1.2: the first, middle, and last 1000 bytes",
            ),
            (
                "bytes=500-600,601-999",
                Ok(vec!["500-999"]),
                "§14.1.2: not canonical, the second 500",
            ),
            (
                "bytes=500-700,601-999",
                Ok(vec!["500-999"]),
                "§14.1.2: not canonical, the second 500",
            ),
            ("Bytes=0-499", Ok(vec!["0-499"]), "§14.1: range units are case-insensitive"),
            ("bytes=0-", Ok(vec!["0-9999"]), "all of it is a range, too"),
            ("bytes=9999-20000", Ok(vec!["9999-9999"]), "§14.1.2: the remainder"),
            ("bytes=-20000", Ok(vec!["0-9999"]), "§14.1.2: the entire representation is used"),
            ("bytes=0-18446744073709551615", Ok(vec!["0-9999"]), "§14.1.2: large numerals"),
            ("bytes=5-99999999999999999999999", Ok(vec!["5-9999"]), "§14.1.2: large numerals"),
            ("bytes=-99999999999999999999999", Ok(vec!["0-9999"]), "§14.1.2: large numerals"),
            ("bytes=007-0010", Ok(vec!["7-10"]), "1*DIGIT"),
            ("bytes=,0-1,, ,\t2-3 ,", Ok(vec!["0-3"]), "§5.6.1.2: empty list elements"),
            ("bytes=10000-", Ok(vec![]), "§14.1.2: first-pos is not less than the length"),
            ("bytes=10000-10001, 20000-", Ok(vec![]), "none is satisfiable"),
            ("bytes=99999999999999999999999-", Ok(vec![]), "none is satisfiable"),
            ("bytes=-0", Ok(vec![]), "§14.1.2: a suffix-length that is zero"),
            ("bytes=10000-, 0-0", Ok(vec!["0-0"]), "§14.1.2: one that is satisfiable suffices"),
            (
                "bytes=900-999,0-9,500-599,5-14",
                Ok(vec!["900-999", "0-14", "500-599"]),
                "§15.3.7.2: in the order asked for",
            ),
            ("bytes=0-9,90-99,10-89", Ok(vec!["0-99"]), "what joins two is one with both"),
            ("bytes=0-9,89-99", Ok(vec!["0-99"]), "§15.3.7.2: a gap of 79 octets"),
            ("bytes=0-9,90-99", Ok(vec!["0-9", "90-99"]), "a gap of 80 octets"),
            ("bytes=0-5000,5090-9999", Err(Whole::NoShorter), "§15.3.7.2: less efficient"),
        ] {
            let expected =
                expected.map(|spans| spans.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(shown(ask(range, 10_000)), expected, "{range}: {why}");
        }
    }

    #[test]
    fn what_is_no_range() {
        for (range, expected, why) in [
            ("bytes=1-0", Whole::Malformed, "§14.1.1: last-pos is less than first-pos"),
            ("bytes=0-1,5-4", Whole::Malformed, "one that is invalid spoils the rest"),
            (
                "bytes=0-1,99999999999999999999999-99999999999999999999998",
                Whole::Malformed,
                "§14.1.1, §14.1.2: large numerals",
            ),
            ("bytes=99999999999999999999999-01", Whole::Malformed, "§14.1.2: large numerals"),
            ("bytes=", Whole::Malformed, "1#range-spec"),
            ("bytes=,", Whole::Malformed, "1#range-spec"),
            ("bytes=-", Whole::Malformed, "1*DIGIT"),
            ("bytes=5", Whole::Malformed, "no hyphen"),
            ("bytes=a-b", Whole::Malformed, "no digits"),
            ("bytes=+1-2", Whole::Malformed, "no digits"),
            ("bytes=1-2-3", Whole::Malformed, "two hyphens"),
            ("bytes=--1", Whole::Malformed, "two hyphens"),
            ("bytes=1 -2", Whole::Malformed, "a space within"),
            ("bytes=1.5-2", Whole::Malformed, "no digits"),
            ("bytes=0-1;2-3", Whole::Malformed, "no list"),
            ("bytes 0-1", Whole::Malformed, "no equals sign"),
            ("", Whole::Malformed, "nothing"),
            ("bytes =0-1", Whole::Unit, "a space in the unit"),
            ("items=0-1", Whole::Unit, "§14.2: a range unit it does not understand"),
            ("=0-1", Whole::Unit, "no unit"),
        ] {
            assert_eq!(ask(range, 10_000), Err(expected), "{range}: {why}");
        }
    }

    #[test]
    fn ranges_of_all_the_octets_that_a_number_can_tell() {
        let half = 1_u64 << 63;
        for (range, expected) in [
            (format!("bytes=0-{half},{}-", half + 81), Err(Whole::NoShorter)),
            ("bytes=0-99,200-".to_owned(), Err(Whole::NoShorter)),
            (
                "bytes=0-0,-1".to_owned(),
                Ok(vec!["0-0".to_owned(), format!("{0}-{0}", u64::MAX - 1)]),
            ),
        ] {
            assert_eq!(shown(ask(&range, u64::MAX)), expected, "{range}");
        }
    }

    #[test]
    fn ranges_of_no_octets() {
        for (range, expected) in [
            ("bytes=0-", Ok(Wanted::Unsatisfiable)),
            ("bytes=0-0", Ok(Wanted::Unsatisfiable)),
            ("bytes=-0", Ok(Wanted::Unsatisfiable)),
            ("bytes=-5", Err(Whole::Empty)),
            ("bytes=0-0,-5", Err(Whole::Empty)),
        ] {
            assert_eq!(ask(range, 0), expected, "{range}");
        }
    }

    #[test]
    fn who_is_sent_the_whole() {
        let none = HeaderMap::new();
        let twice = fields(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
        let once = fields(&[("range", "bytes=0-1")]);
        let condition_alone = fields(&[("if-range", "\"1\"")]);
        for (request, status, expected, why) in [
            (&none, 200, Whole::NotAsked, "no Range"),
            (&condition_alone, 200, Whole::NotAsked, "§13.1.5: MUST ignore If-Range without Range"),
            (&twice, 200, Whole::Repeated, "two lines"),
            (&once, 404, Whole::Status, "§14.2: if the result would be a 200"),
            (&once, 206, Whole::Status, "§14.2: if the result would be a 200"),
            (&once, 204, Whole::Status, "§14.2: if the result would be a 200"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(select(request, status, &none, 10), Err(expected), "{why}");
        }
        for (method, expected) in [("GET", true), ("HEAD", false), ("POST", false), ("get", false)]
        {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(asks_for_part(&method, &once), expected, "§14.2: {method}");
            assert!(!asks_for_part(&method, &condition_alone));
        }
    }

    #[test]
    fn egregious_requests_are_ignored() {
        let many = |count: usize, step: usize| {
            let members: Vec<_> = (0..count).map(|n| format!("{0}-{0}", n * step)).collect();
            ask(&format!("bytes={}", members.join(",")), 1_000_000)
        };
        assert!(
            matches!(many(MAX_PARTS, 100), Ok(Wanted::Parts(parts)) if parts.len() == MAX_PARTS)
        );
        assert_eq!(many(MAX_PARTS + 1, 100), Err(Whole::TooMany));
        assert_eq!(shown(many(MAX_SPECS, 2)), Ok(vec!["0-126".to_owned()]), "coalesced");
        assert_eq!(many(MAX_SPECS + 1, 2), Err(Whole::TooMany));
        assert_eq!(shown(ask("bytes=0-,0-,0-,0-,0-", 1000)), Ok(vec!["0-999".to_owned()]));
    }

    #[test]
    fn if_range() {
        let strong = [("etag", "\"1\""), ("last-modified", NOON), ("date", NOON_AND_A_SECOND)];
        for (stored, condition, holds, why) in [
            (&strong[..], vec!["\"1\""], true, "the same entity tag"),
            (&strong, vec!["\"2\""], false, "another entity tag"),
            (&strong, vec!["W/\"1\""], false, "MUST use the strong comparison function"),
            (&strong, vec!["1"], false, "no entity tag"),
            (&strong, vec!["\"1\", \"2\""], false, "not a list"),
            (&strong, vec!["*"], false, "not of the grammar"),
            (&strong, vec![""], false, "nothing"),
            (&strong, vec!["\"1\"", "\"1\""], false, "two lines"),
            (&strong, vec![NOON], true, "exactly matches the Last-Modified field value"),
            (&strong, vec!["Sunday, 06-Nov-94 12:00:00 GMT"], false, "exactly"),
            (&strong, vec![NOON_AND_A_SECOND], false, "a later date is not the same one"),
            (&[("etag", "W/\"1\"")], vec!["W/\"1\""], false, "two weak ones never match"),
            (&[("etag", "W/\"1\"")], vec!["\"1\""], false, "the stored one is weak"),
            (&[("etag", "1")], vec!["1"], false, "neither is an entity tag"),
            (&[], vec!["\"1\""], false, "nothing to compare with"),
            (&[], vec![NOON], false, "nothing to compare with"),
            (
                &[("last-modified", NOON), ("date", NOON)],
                vec![NOON],
                false,
                "§8.8.2.2: Date is not one second after it",
            ),
            (
                &[("last-modified", NOON_AND_A_SECOND), ("date", NOON)],
                vec![NOON_AND_A_SECOND],
                false,
                "§8.8.2.2: Date is before it",
            ),
            (&[("last-modified", NOON)], vec![NOON], false, "§8.8.2.2: no Date"),
            (&[("last-modified", "x"), ("date", NOON)], vec!["x"], false, "no date"),
        ] {
            let mut request = vec![("range", "bytes=0-1")];
            request.extend(condition.iter().map(|line| ("if-range", *line)));
            let found = select(&fields(&request), StatusCode::OK, &fields(stored), 10);
            let expected = if holds { Ok(vec!["0-1".to_owned()]) } else { Err(Whole::Changed) };
            assert_eq!(shown(found), expected, "{condition:?} of {stored:?}: {why}");
        }
    }

    #[test]
    fn content_range() {
        let part = |start, end, length| Some(ContentRange::Part(Span::new(start, end)?, length));
        for (lines, expected, why) in [
            (vec!["bytes 42-1233/1234"], part(42, 1234, Some(1234)), "§14.4"),
            (vec!["bytes 42-1233/*"], part(42, 1234, None), "§14.4"),
            (vec!["bytes */1234"], Some(ContentRange::Unsatisfied(1234)), "§14.4"),
            (vec!["bytes 0-499/1234"], part(0, 500, Some(1234)), "§14.4: the first 500 bytes"),
            (vec!["bytes 500-999/1234"], part(500, 1000, Some(1234)), "§14.4: the second 500"),
            (vec!["bytes 500-1233/1234"], part(500, 1234, Some(1234)), "§14.4: all but the first"),
            (vec!["bytes 734-1233/1234"], part(734, 1234, Some(1234)), "§14.4: the last 500"),
            (vec!["BYTES 0-0/1"], part(0, 1, Some(1)), "§14.1: case-insensitive"),
            (vec!["bytes 5-4/10"], None, "last-pos is less than first-pos"),
            (vec!["bytes 0-10/10"], None, "complete-length is equal to last-pos"),
            (vec!["bytes 0-11/10"], None, "complete-length is less than last-pos"),
            (vec!["bytes */*"], None, "says nothing"),
            (vec!["bytes 0-1"], None, "no length"),
            (vec!["bytes=0-1/2"], None, "an equals sign"),
            (vec!["bytes  0-1/2"], None, "two spaces"),
            (vec!["bytes 0 - 1/2"], None, "spaces"),
            (vec!["bytes -1/2"], None, "no first-pos"),
            (vec!["bytes 0-/2"], None, "no last-pos"),
            (vec!["bytes 0-1/2/3"], None, "two slashes"),
            (vec!["bytes 0-18446744073709551615/*"], None, "more than a number can tell"),
            (vec!["items 0-1/2"], None, "another unit"),
            (vec!["bytes 0-1/2", "bytes 0-1/2"], None, "two lines"),
            (vec![], None, "absent"),
        ] {
            let lines: Vec<_> = lines.into_iter().map(|line| ("content-range", line)).collect();
            assert_eq!(ContentRange::of(&fields(&lines)), expected, "{lines:?}: {why}");
        }
        assert_eq!(unsatisfied(1234), "bytes */1234");
        assert_eq!(Span::new(42, 1234).unwrap().content_range(Some(1234)), "bytes 42-1233/1234");
        assert_eq!(Span::new(42, 1234).unwrap().content_range(None), "bytes 42-1233/*");
    }

    /// Whether a range has this octet, by the words of §14.1.2 and nothing else.
    fn has(range: (Option<u64>, Option<u64>), octet: u64, length: u64) -> bool {
        match range {
            (Some(first), Some(last)) => first <= octet && octet <= last,
            (Some(first), None) => first <= octet,
            (None, Some(suffix)) => octet + suffix >= length,
            (None, None) => false,
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            octets in prop::collection::vec(any::<u8>(), 0..64),
            digits in "[Bb]ytes[ =]([0-9]{0,22}[-/,* ]){0,6}",
            length in any::<u64>(),
        ) {
            for line in [HeaderValue::from_bytes(&octets), HeaderValue::try_from(digits)] {
                let Ok(line) = line else { continue };
                let mut request = HeaderMap::new();
                request.insert(RANGE, line.clone());
                let spans = match select(&request, StatusCode::OK, &HeaderMap::new(), length) {
                    Ok(Wanted::Part(span)) => vec![span],
                    Ok(Wanted::Parts(spans)) => spans,
                    Ok(Wanted::Unsatisfiable) | Err(_) => vec![],
                };
                prop_assert!(spans.iter().all(|span| span.start < span.end && span.end <= length));
                request.insert(IF_RANGE, line.clone());
                prop_assert!(select(&request, StatusCode::OK, &HeaderMap::new(), length).is_err());
                let mut response = HeaderMap::new();
                response.insert(CONTENT_RANGE, line);
                ContentRange::of(&response);
            }
        }

        #[test]
        fn parts_have_what_was_asked_for_and_no_octet_twice(
            ranges in prop::collection::vec(
                (prop::option::of(0_u64..400), prop::option::of(0_u64..400)), 1..8,
            ),
            length in 1_u64..400,
        ) {
            let members = ranges.iter().map(|(first, last)| {
                let shown = |number: &Option<u64>| number.map_or(String::new(), |n| n.to_string());
                format!("{}-{}", shown(first), shown(last))
            });
            let line = format!("bytes={}", members.collect::<Vec<_>>().join(", "));
            let is_valid = ranges.iter().all(|range| match range {
                (Some(first), Some(last)) => first <= last,
                (None, None) => false,
                _ => true,
            });
            let asked = |octet| ranges.iter().any(|range| has(*range, octet, length));
            let found = ask(&line, length);
            prop_assert_eq!(found == Err(Whole::Malformed), !is_valid);
            let spans = match found {
                Err(_) => return Ok(()),
                Ok(Wanted::Unsatisfiable) => vec![],
                Ok(Wanted::Part(span)) => vec![span],
                Ok(Wanted::Parts(spans)) => spans,
            };
            for octet in 0..length {
                let sent = spans.iter().filter(|s| s.start <= octet && octet < s.end).count();
                prop_assert!(sent <= 1, "{}: {} twice", line, octet);
                prop_assert!(sent == 1 || !asked(octet), "{}: {} is missing", line, octet);
                // Sent unasked is only what lies in a small gap.
                let near = octet.saturating_sub(OVERHEAD)..length.min(octet + OVERHEAD);
                prop_assert!(sent == 0 || near.into_iter().any(asked), "{}: {}", line, octet);
            }
        }

        #[test]
        fn content_range_is_read_as_it_is_written(start in 0_u64..1 << 40, count in 1_u64..1 << 40) {
            let span = Span::new(start, start + count).unwrap();
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_RANGE, span.content_range(Some(start + count)));
            let expected = ContentRange::Part(span, Some(start + count));
            prop_assert_eq!(ContentRange::of(&fields), Some(expected));
        }
    }
}
