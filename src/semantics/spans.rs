//! Incomplete responses: which octets of a content are at hand, what is missing, and how another
//! part is added (RFC 9111 §3.3, §3.4).
//!
//! Section 3.4: "A cache MAY combine these ranges into a single stored response, and reuse that
//! response to satisfy later requests, if they all share the same strong validator". A 206 may be
//! "stored as if it were an incomplete 200 (OK) response" (§3.3): [`storable`](super::storable) is
//! asked about it as about a 200. One without a strong validator is stored alone. Those of a multipart
//! content are not stored.

use bytes::{Bytes, BytesMut};
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, HeaderMap, TRAILER,
};
use http::{Method, StatusCode};

use super::date;
use super::ranges::{ContentRange, OF_THE_CONTENT, Span, strong_validator};
use super::storing::NotStored;
use super::validation::{Validators, freshen};

/// How many spans of one content are kept.
pub const MAX_SPANS: usize = 16;

/// How many octets must have come of what broke off to be kept. Fewer come again about as fast as the
/// rest alone would, as a connection sends no more in its first two or three round trips; to keep them
/// would give away a simple request for the whole, which any origin answers, for nothing.
pub const WORTH_KEEPING: u64 = 64 * 1024;

/// The octets of a content that an incomplete response has: one span or more, but not all of it, in
/// order, and something missing between any two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    spans: Box<[Span]>,
    /// Of the whole content; none if nobody has said it.
    length: Option<u64>,
}

/// What parts come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Combined {
    /// Nothing is missing.
    Whole(Bytes),
    /// These spans, and their octets behind one another.
    Part(Spans, Bytes),
}

/// Which part a 206 to a `GET` has, and of how long a content, where it says that; or why it is not
/// stored.
pub fn part_to_store(fields: &HeaderMap) -> Result<(Span, Option<u64>), NotStored> {
    let is_multipart = fields.get(CONTENT_TYPE).is_some_and(|value| {
        let prefix = value.as_bytes().get(..b"multipart/byteranges".len());
        prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"multipart/byteranges"))
    });
    if is_multipart || !fields.contains_key(CONTENT_RANGE) {
        return Err(NotStored::Partial);
    }
    let (span, length) = match ContentRange::of(fields) {
        Some(ContentRange::Part(span, length)) => (span, length),
        Some(ContentRange::Unsatisfied(_)) | None => return Err(NotStored::ContentRange),
    };
    let says_otherwise = |said: &http::HeaderValue| *said != *span.length().to_string();
    if fields.get_all(CONTENT_LENGTH).iter().any(says_otherwise) {
        return Err(NotStored::ContentRange);
    }
    if strong_validator(fields).is_none() && is_strong_when_dated(fields) {
        return Err(NotStored::NoStrongValidator);
    }
    Ok((span, length))
}

/// Whether the `Date` that is stored where the origin sends none would make a strong validator of its
/// `Last-Modified`.
fn is_strong_when_dated(fields: &HeaderMap) -> bool {
    let Validators { etag, last_modified } = Validators::of(fields);
    etag.is_none() && last_modified.is_some() && date::only(fields, DATE).is_none()
}

/// Which octets a response would have had if it had not broken off, and how many they are; or why
/// none of them are stored. §3.3: "If the request method is GET, the response status code is 200 (OK),
/// and the entire response header section has been received, a cache MAY store a response that is not
/// complete".
pub fn whole_to_store(
    method: &Method,
    status: StatusCode,
    fields: &HeaderMap,
) -> Result<(Span, u64), NotStored> {
    if *method != Method::GET {
        return Err(NotStored::Method);
    }
    if status != StatusCode::OK {
        return Err(NotStored::Status);
    }
    let mut lines = fields.get_all(CONTENT_LENGTH).iter();
    let said = lines.next().filter(|_| lines.next().is_none());
    let length = said.and_then(|said| said.to_str().ok()?.parse().ok());
    let whole = length.and_then(|length| Some((Span::new(0, length)?, length)));
    // Without it, nobody could ask for the rest, nor tell when it is complete.
    let whole = whole.ok_or(NotStored::Partial)?;
    strong_validator(fields).ok_or(NotStored::NoStrongValidator)?;
    Ok(whole)
}

/// Which octets there are of a part, or of the whole, that broke off after so many of them. What broke
/// off behind its last octet was not what it said to be.
pub fn beginning_to_store(part: Span, came: u64) -> Result<Span, NotStored> {
    if came < WORTH_KEEPING {
        return Err(NotStored::TooLittle);
    }
    let end = part.start().saturating_add(came);
    Span::new(part.start(), end).filter(|_| came < part.length()).ok_or(NotStored::ContentRange)
}

/// Whether a part may be combined with a stored response (RFC 9110 §15.3.7.3): they "share the same
/// strong validator". A response that names another coding of its octets contradicts itself.
pub fn may_combine(stored: &HeaderMap, part: &HeaderMap) -> bool {
    let validator = strong_validator(part);
    validator.is_some()
        && validator == strong_validator(stored)
        && part.get(CONTENT_ENCODING) == stored.get(CONTENT_ENCODING)
}

/// Whether a part that cannot be combined with what is stored takes its place. One without a strong
/// validator tells nothing of other parts, nor of the whole: what is still fresh is worth more, unless
/// it is such a part itself.
pub fn may_replace(stored: &HeaderMap, is_whole: bool, is_fresh: bool, part: &HeaderMap) -> bool {
    let is_alone = |fields| strong_validator(fields).is_none();
    !is_alone(part) || !is_fresh || !is_whole && is_alone(stored)
}

/// The fields of a part without what is about the part alone.
pub fn fields_of_part(part: &HeaderMap) -> HeaderMap {
    let mut fields = part.clone();
    for name in OF_THE_CONTENT.iter().chain(&[CONTENT_RANGE, CONTENT_LENGTH, TRAILER]) {
        fields.remove(name);
    }
    fields
}

/// §3.4: "a cache MUST update the stored response header fields using the header fields provided
/// in the new response, as per Section 3.2".
pub fn combined_fields(stored: &HeaderMap, part: &HeaderMap) -> HeaderMap {
    freshen(stored, &fields_of_part(part))
}

impl Spans {
    /// `None` if these are not as the type says.
    pub fn new(spans: impl IntoIterator<Item = (u64, u64)>, length: Option<u64>) -> Option<Self> {
        let spans: Box<[Span]> = spans
            .into_iter()
            .take(MAX_SPANS + 1)
            .map(|(start, end)| Span::new(start, end))
            .collect::<Option<_>>()?;
        let in_order = spans.is_sorted_by(|before, behind| before.end() < behind.start());
        let (first, last) = (spans.first()?, spans.last()?);
        let is_all = first.start() == 0 && Some(last.end()) == length && spans.len() == 1;
        // So that no part up to the end of an unknown content is ever at hand.
        let most = length.unwrap_or(u64::MAX - 1);
        let fits = last.end() <= most && spans.len() <= MAX_SPANS;
        (in_order && fits && !is_all).then_some(Self { spans, length })
    }

    /// Where each begins, and where the octets behind it begin.
    pub fn ends(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.spans.iter().map(|span| (span.start(), span.end()))
    }

    /// What it takes of memory, in octets.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.spans)
    }

    /// Of the whole content; none if nobody has said it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether a content of this length, where that is known, may be the one that these are of.
    fn may_be_of(&self, length: Option<u64>) -> bool {
        let end = self.spans.last().map_or(0, |last| last.end());
        self.length.is_none_or(|own| Some(own) == length)
            && length.is_none_or(|length| end <= length)
    }

    /// How many octets are at hand.
    pub fn held(&self) -> u64 {
        self.spans.iter().map(|span| span.length()).sum()
    }

    /// Whether all octets of this span are at hand.
    pub fn has(&self, span: Span) -> bool {
        self.spans.iter().any(|held| held.start() <= span.start() && span.end() <= held.end())
    }

    /// What is missing, if that is one span.
    pub fn gap(&self) -> Option<Span> {
        self.missing(Span::new(0, self.length?)?)
    }

    /// What is missing of a part, if that is one span.
    pub fn missing(&self, part: Span) -> Option<Span> {
        let starts = std::iter::once(0).chain(self.spans.iter().map(|span| span.end()));
        let ends =
            self.spans.iter().map(|span| span.start()).chain([self.length.unwrap_or(u64::MAX)]);
        let within = |(start, end)| Span::new(part.start().max(start), part.end().min(end));
        let mut gaps = starts.zip(ends).filter_map(within);
        gaps.next().filter(|_| gaps.next().is_none())
    }

    /// These octets, out of those that are at hand. `None` if some of them are not.
    pub fn cut(&self, held: &Bytes, span: Span) -> Option<Bytes> {
        let mut before = 0;
        for own in &self.spans {
            if own.start() <= span.start() && span.end() <= own.end() {
                let from = usize::try_from(before + span.start() - own.start()).ok()?;
                let count = usize::try_from(span.length()).ok()?;
                return (from + count <= held.len()).then(|| held.slice(from..from + count));
            }
            before += own.length();
        }
        None
    }
}

/// Adds a part to what is held of the same content, in a buffer of its own. Octets that both have are
/// taken from the new one. `None` if the part is not as long as its span, or ends behind the content.
/// What is held of a content of another length is left out; where only one of them tells the length,
/// it is that of both. Of too many spans the shortest go.
pub fn combine(
    held: Option<(&Spans, &Bytes)>,
    span: Span,
    octets: &Bytes,
    length: Option<u64>,
) -> Option<Combined> {
    let length = length.or(held.and_then(|(spans, _)| spans.length));
    if octets.len() as u64 != span.length() || length.is_some_and(|length| span.end() > length) {
        return None;
    }
    let mut pieces = vec![(span, octets.clone())];
    if let Some((spans, content)) = held.filter(|(spans, _)| spans.may_be_of(length)) {
        for own in &spans.spans {
            let before = Span::new(own.start(), own.end().min(span.start()));
            let behind = Span::new(own.start().max(span.end()), own.end());
            for rest in [before, behind].into_iter().flatten() {
                pieces.push((rest, spans.cut(content, rest)?));
            }
        }
    }
    pieces.sort_unstable_by_key(|(span, _)| span.start());
    let mut runs = pieces.chunk_by(|(one, _), (next, _)| one.end() == next.start()).collect();
    drop_shortest(&mut runs);

    let ends = |run: &&[(Span, Bytes)]| Some((run.first()?.0.start(), run.last()?.0.end()));
    let ends: Vec<_> = runs.iter().filter_map(ends).collect();
    let count: u64 = ends.iter().map(|(start, end)| end - start).sum();
    let mut content = BytesMut::with_capacity(usize::try_from(count).ok()?);
    for (_, octets) in runs.into_iter().flatten() {
        content.extend_from_slice(octets);
    }
    let content = content.freeze();
    if Some(count) == length {
        return Some(Combined::Whole(content));
    }
    Some(Combined::Part(Spans::new(ends, length)?, content))
}

fn drop_shortest(runs: &mut Vec<&[(Span, Bytes)]>) {
    let octets = |run: &[(Span, Bytes)]| run.iter().map(|(span, _)| span.length()).sum::<u64>();
    while runs.len() > MAX_SPANS {
        let shortest = runs.iter().enumerate().min_by_key(|(_, run)| octets(run));
        let Some((place, _)) = shortest else { return };
        runs.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    #[test]
    fn parts_that_may_be_stored() {
        let etag = ("etag", "\"1\"");
        let range = ("content-range", "bytes 2-4/10");
        let dates = [
            ("last-modified", "Sun, 06 Nov 1994 11:00:00 GMT"),
            ("date", "Sun, 06 Nov 1994 12:00:00 GMT"),
        ];
        let part = Ok((Span::new(2, 5).unwrap(), Some(10)));
        for (lines, expected, why) in [
            (vec![etag, range], part, "§3.3"),
            (vec![etag, range, ("content-length", "3")], part, "§3.3"),
            (vec![dates[0], dates[1], range], part, "RFC 9110 §8.8.2.2: a strong date"),
            (vec![range], part, "alone"),
            (vec![("etag", "W/\"1\""), range], part, "alone"),
            (vec![etag, etag, range], part, "alone"),
            (vec![dates[0], ("date", dates[0].1), range], part, "RFC 9110 §8.8.2.2: alone"),
            (vec![dates[0], ("etag", "W/\"1\""), range], part, "alone, whatever its date"),
            (
                vec![dates[0], range],
                Err(NotStored::NoStrongValidator),
                "nobody could tell it from a strong one later",
            ),
            (vec![etag], Err(NotStored::Partial), "no Content-Range"),
            (
                vec![etag, range, ("content-type", "Multipart/byteranges; boundary=a")],
                Err(NotStored::Partial),
                "several parts",
            ),
            (
                vec![etag, ("content-range", "bytes 2-4/*")],
                Ok((Span::new(2, 5).unwrap(), None)),
                "RFC 9110 §14.4: the complete length is unknown",
            ),
            (
                vec![etag, ("content-range", "bytes 2-4/4")],
                Err(NotStored::ContentRange),
                "RFC 9110 §14.4: MUST NOT attempt to recombine",
            ),
            (
                vec![etag, ("content-range", "bytes */10")],
                Err(NotStored::ContentRange),
                "RFC 9110 §14.4: of a 416",
            ),
            (vec![etag, range, range], Err(NotStored::ContentRange), "two lines"),
            (
                vec![etag, range, ("content-length", "4")],
                Err(NotStored::ContentRange),
                "it has more octets than it says",
            ),
        ] {
            assert_eq!(part_to_store(&fields(&lines)), expected, "{lines:?}: {why}");
        }
    }

    #[test]
    fn responses_that_broke_off() {
        let etag = ("etag", "\"1\"");
        let length = ("content-length", "10");
        let dates = [
            ("last-modified", "Sun, 06 Nov 1994 11:00:00 GMT"),
            ("date", "Sun, 06 Nov 1994 12:00:00 GMT"),
        ];
        let whole = Ok((Span::new(0, 10).unwrap(), 10));
        for (method, status, lines, expected, why) in [
            ("GET", 200, vec![etag, length], whole, "§3.3: the method is GET, the status 200 (OK)"),
            ("GET", 200, vec![dates[0], dates[1], length], whole, "RFC 9110 §8.8.2.2: strong"),
            ("QUERY", 200, vec![etag, length], Err(NotStored::Method), "§3.3: the method is GET"),
            ("POST", 200, vec![etag, length], Err(NotStored::Method), "§3.3: the method is GET"),
            ("GET", 404, vec![etag, length], Err(NotStored::Status), "§3.3: the status is 200"),
            ("GET", 203, vec![etag, length], Err(NotStored::Status), "§3.3: the status is 200"),
            ("GET", 200, vec![etag], Err(NotStored::Partial), "no length"),
            ("GET", 200, vec![etag, length, length], Err(NotStored::Partial), "two lengths"),
            ("GET", 200, vec![etag, ("content-length", "x")], Err(NotStored::Partial), "none"),
            ("GET", 200, vec![etag, ("content-length", "0")], Err(NotStored::Partial), "no octets"),
            ("GET", 200, vec![length], Err(NotStored::NoStrongValidator), "none"),
            (
                "GET",
                200,
                vec![("etag", "W/\"1\""), length],
                Err(NotStored::NoStrongValidator),
                "§3.4: the same strong validator",
            ),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(whole_to_store(&method, status, &fields(&lines)), expected, "{why}");
        }
    }

    #[test]
    fn beginnings_that_are_worth_keeping() {
        let span = |start, end| Span::new(start, end).unwrap();
        let (part, most) = (span(5, 5 + 2 * WORTH_KEEPING), 2 * WORTH_KEEPING);
        for (came, expected, why) in [
            (0, Err(NotStored::TooLittle), "nothing"),
            (WORTH_KEEPING - 1, Err(NotStored::TooLittle), "little"),
            (WORTH_KEEPING, Ok(span(5, 5 + WORTH_KEEPING)), "enough"),
            (most - 1, Ok(span(5, 4 + most)), "all but one"),
            (most, Err(NotStored::ContentRange), "all of it, and yet it broke off"),
            (u64::MAX, Err(NotStored::ContentRange), "more than it said"),
        ] {
            assert_eq!(beginning_to_store(part, came), expected, "{why}");
        }
    }

    #[test]
    fn parts_that_may_be_combined() {
        let dated = [
            ("last-modified", "Sun, 06 Nov 1994 11:00:00 GMT"),
            ("date", "Sun, 06 Nov 1994 12:00:00 GMT"),
        ];
        for (stored, part, expected, why) in [
            (&[("etag", "\"1\"")][..], &[("etag", "\"1\"")][..], true, "the same"),
            (&[("etag", "\"1\"")], &[("etag", "\"2\"")], false, "another"),
            (&[("etag", "W/\"1\"")], &[("etag", "W/\"1\"")], false, "weak"),
            (&[("etag", "\"1\"")], &[("etag", "W/\"1\"")], false, "weak"),
            (&[("etag", "\"1\"")], &[], false, "none"),
            (&[], &[], false, "none"),
            (&dated, &dated, true, "the same strong date"),
            (&dated, &dated[..1], false, "a date alone is weak"),
            (&dated, &[("etag", "\"1\""), dated[0], dated[1]], false, "not the same kind"),
            (
                &[("etag", "\"1\"")],
                &[("etag", "\"1\""), ("content-encoding", "gzip")],
                false,
                "other octets",
            ),
        ] {
            assert_eq!(may_combine(&fields(stored), &fields(part)), expected, "{why}");
        }
    }

    #[test]
    fn parts_that_replace_what_is_stored() {
        let (strong, weak) = (fields(&[("etag", "\"1\"")]), fields(&[("etag", "W/\"1\"")]));
        for (stored, is_whole, is_fresh, part, expected, why) in [
            (&strong, true, true, &strong, true, "the origin has another representation"),
            (&strong, true, true, &weak, false, "the whole is still fresh"),
            (&weak, true, true, &weak, false, "the whole is still fresh"),
            (&weak, true, false, &weak, true, "the whole is stale"),
            (&strong, false, true, &weak, false, "more may be added to what is held"),
            (&strong, false, false, &weak, true, "what is held is stale"),
            (&weak, false, true, &weak, true, "each is as good as the other, and this is newer"),
            (&weak, false, true, &strong, true, "more may be added to it"),
        ] {
            assert_eq!(may_replace(stored, is_whole, is_fresh, part), expected, "{why}");
        }
    }

    #[test]
    fn fields_are_the_newer_ones() {
        let stored = fields(&[("etag", "\"1\""), ("x-a", "old"), ("x-b", "kept")]);
        let part = fields(&[
            ("etag", "\"1\""),
            ("x-a", "new"),
            ("content-range", "bytes 0-1/4"),
            ("content-length", "2"),
            ("content-digest", "sha-256=:abc=:"),
        ]);
        let expected = fields(&[("x-b", "kept"), ("etag", "\"1\""), ("x-a", "new")]);
        assert_eq!(combined_fields(&stored, &part), expected);
    }

    #[test]
    fn what_is_held() {
        for (ends, length, is_sound) in [
            (vec![(0, 2)], 4, true),
            (vec![(0, 2), (3, 4)], 4, true),
            (vec![], 4, false),
            (vec![(0, 4)], 4, false),
            (vec![(2, 2)], 4, false),
            (vec![(3, 2)], 4, false),
            (vec![(0, 2), (2, 3)], 4, false),
            (vec![(2, 3), (0, 1)], 4, false),
            (vec![(2, 5)], 4, false),
            ((0..16).map(|n| (2 * n, 2 * n + 1)).collect(), 40, true),
            ((0..17).map(|n| (2 * n, 2 * n + 1)).collect(), 40, false),
        ] {
            assert_eq!(Spans::new(ends.clone(), Some(length)).is_some(), is_sound, "{ends:?}");
        }
        for (ends, expected) in [
            (vec![(0, 2)], Span::new(2, 9)),
            (vec![(2, 9)], Span::new(0, 2)),
            (vec![(0, 2), (5, 9)], Span::new(2, 5)),
            (vec![(1, 8)], None),
            (vec![(0, 2), (5, 8)], None),
        ] {
            assert_eq!(Spans::new(ends.clone(), Some(9)).unwrap().gap(), expected, "{ends:?}");
        }
        let held = Spans::new([(2, 4), (6, 7)], Some(9)).unwrap();
        for ((start, end), expected, why) in [
            ((2, 4), None, "nothing"),
            ((3, 4), None, "nothing"),
            ((0, 2), Span::new(0, 2), "all of it"),
            ((4, 6), Span::new(4, 6), "all of it"),
            ((8, 9), Span::new(8, 9), "all of it"),
            ((1, 4), Span::new(1, 2), "its beginning"),
            ((2, 6), Span::new(4, 6), "its end"),
            ((3, 7), Span::new(4, 6), "what lies within"),
            ((6, 9), Span::new(7, 9), "its end"),
            ((1, 5), None, "two spans"),
            ((0, 9), None, "three spans"),
        ] {
            assert_eq!(held.missing(Span::new(start, end).unwrap()), expected, "{why}");
        }
    }

    #[test]
    fn lies_are_not_combined() {
        let octets = Bytes::from_static(b"abc");
        let span = |start, end| Span::new(start, end).unwrap();
        assert_eq!(combine(None, span(0, 2), &octets, Some(9)), None, "shorter than it says");
        assert_eq!(combine(None, span(0, 4), &octets, Some(9)), None, "longer than it says");
        assert_eq!(combine(None, span(7, 10), &octets, Some(9)), None, "behind the end");
        // Of another length it cannot be the same content, whatever its validator.
        let spans = Spans::new([(5, 8)], Some(9)).unwrap();
        let expected = Combined::Part(Spans::new([(0, 3)], Some(10)).unwrap(), octets.clone());
        assert_eq!(combine(Some((&spans, &octets)), span(0, 3), &octets, Some(10)), Some(expected));
    }

    #[test]
    fn parts_of_a_content_of_unknown_length() {
        let octets = Bytes::from_static(b"abc");
        let span = |start, end| Span::new(start, end).unwrap();
        let held = |ends, length| Spans::new([ends], length).unwrap();
        let both = Bytes::from_static(b"abcabc");
        for (own, own_length, part, length, expected, why) in [
            ((3, 6), None, (0, 3), None, Some((vec![(0, 6)], None)), "it may go on"),
            ((3, 6), None, (0, 3), Some(9), Some((vec![(0, 6)], Some(9))), "now it is known"),
            ((3, 6), Some(9), (0, 3), None, Some((vec![(0, 6)], Some(9))), "it is known"),
            ((3, 6), None, (0, 3), Some(5), Some((vec![(0, 3)], Some(5))), "it cannot be the same"),
            ((0, 3), Some(4), (3, 6), None, None, "it ends behind the content"),
        ] {
            let spans = held(own, own_length);
            let found = combine(Some((&spans, &octets)), span(part.0, part.1), &octets, length);
            let expected = expected.map(|(ends, length)| {
                let spans = Spans::new(ends, length).unwrap();
                let count = usize::try_from(spans.held()).unwrap();
                Combined::Part(spans, both.slice(..count))
            });
            assert_eq!(found, expected, "{why}");
        }
        let spans = held((3, 6), None);
        let whole = combine(Some((&spans, &octets)), span(0, 3), &octets, Some(6));
        assert_eq!(whole, Some(Combined::Whole(both)), "nothing is missing");
        assert_eq!(spans.gap(), None);
        assert_eq!(spans.missing(span(0, 5)), Some(span(0, 3)));
        assert_eq!(Spans::new([(u64::MAX - 2, u64::MAX)], None), None, "its end would be known");
    }

    #[test]
    fn of_too_many_spans_the_shortest_go() {
        let mut held: Option<(Spans, Bytes)> = None;
        for n in 0..=MAX_SPANS as u64 {
            let count = if n == 3 { 1 } else { 2 };
            let span = Span::new(4 * n, 4 * n + count).unwrap();
            let octets =
                Bytes::from(vec![u8::try_from(n).unwrap(); usize::try_from(count).unwrap()]);
            let before = held.as_ref().map(|(spans, content)| (spans, content));
            let Some(Combined::Part(spans, content)) = combine(before, span, &octets, Some(999))
            else {
                panic!("it is not whole");
            };
            held = Some((spans, content));
        }
        let (spans, content) = held.unwrap();
        assert_eq!(spans.ends().len(), MAX_SPANS);
        assert!(!spans.has(Span::new(12, 13).unwrap()));
        assert_eq!(spans.cut(&content, Span::new(64, 66).unwrap()).unwrap(), [16, 16].as_slice());
    }

    proptest! {
        /// Against an array of octets that are there or not.
        #[test]
        fn combining_is_writing_into_an_array(
            length in 1_usize..60,
            parts in prop::collection::vec((0_usize..60, 1_usize..30), 1..12),
        ) {
            let whole: Vec<u8> = (0..length).map(|n| u8::try_from(n).unwrap()).collect();
            let mut model = vec![None; length];
            let mut held: Option<(Spans, Bytes)> = None;
            for (start, count) in parts {
                let (start, end) = (start.min(length - 1), (start + count).min(length));
                let end = end.max(start + 1);
                model[start..end].copy_from_slice(
                    &whole[start..end].iter().copied().map(Some).collect::<Vec<_>>(),
                );
                let span = Span::new(start as u64, end as u64).unwrap();
                let octets = Bytes::copy_from_slice(&whole[start..end]);
                let before = held.as_ref().map(|(spans, content)| (spans, content));
                match combine(before, span, &octets, Some(length as u64)).unwrap() {
                    Combined::Whole(content) => {
                        prop_assert!(model.iter().all(Option::is_some));
                        prop_assert_eq!(&content[..], &whole[..]);
                        return Ok(());
                    }
                    Combined::Part(spans, content) => held = Some((spans, content)),
                }
                prop_assert!(model.iter().any(Option::is_none));
                let (spans, content) = held.as_ref().unwrap();
                prop_assert_eq!(spans.held(), content.len() as u64);
                prop_assert_eq!(&Spans::new(spans.ends(), spans.length()), &Some(spans.clone()));
                for from in 0..length {
                    for to in from + 1..=length {
                        let span = Span::new(from as u64, to as u64).unwrap();
                        let is_held = model[from..to].iter().all(Option::is_some);
                        prop_assert_eq!(spans.has(span), is_held);
                        let lacks = (from..to).filter(|n| model[*n].is_none());
                        let ends = lacks.clone().min().zip(lacks.clone().max());
                        let gap = ends.filter(|(first, last)| last - first + 1 == lacks.count());
                        let gap = gap.map(|(first, last)| (first as u64, last as u64 + 1));
                        let missing = spans.missing(span).map(|gap| (gap.start(), gap.end()));
                        prop_assert_eq!(missing, gap);
                        let cut = spans.cut(content, span);
                        let expected = is_held.then(|| Bytes::copy_from_slice(&whole[from..to]));
                        prop_assert_eq!(cut, expected);
                    }
                }
                let missing: Vec<_> = (0..length).filter(|n| model[*n].is_none()).collect();
                let (first, last) = (missing[0], missing[missing.len() - 1]);
                let is_one = last - first + 1 == missing.len();
                let expected = is_one.then(|| Span::new(first as u64, last as u64 + 1).unwrap());
                prop_assert_eq!(spans.gap(), expected);
            }
        }
    }
}
