//! Parts of a content: what a request asks for, how it is sent, and how parts become a whole again,
//! each octet counted one by one.
//!
//! An input is text. The lines before the first empty one are fields, of a request and of a response
//! alike, or one of these; the content is what follows.
//!
//! ```text
//! length 18446744073709551613    a content of which there is only the length
//! part 10 20                     a 206 with these octets, the last one not among them
//! ```

#![no_main]

use bytes::Bytes;
use http::header::{CONTENT_RANGE, DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder::semantics::ranges::{ContentRange, MAX_PARTS, MAX_SPECS, Whole, unsatisfied};
use larder::semantics::spans::MAX_SPANS;
use larder::semantics::{
    Combined, Multipart, Span, Spans, Wanted, asks_for_part, beginning_to_store, combine,
    combined_fields, may_combine, may_replace, multipart, part_to_store, select, whole_to_store,
};
use libfuzzer_sys::fuzz_target;

/// RFC 9110 §15.3.7.2: what stands between two parts is longer than a gap that is worth sending.
const LONGEST_GAP: usize = 79;

fuzz_target!(|text: &[u8]| {
    let input = Input::of(text);
    let length = input.content.len() as u64;
    asked(&input.fields, length);
    if let Some(length) = input.length {
        select(&input.fields, StatusCode::OK, &input.fields, length).ok();
    }
    content_range(&input.fields);
    let whole = Bytes::copy_from_slice(input.content);
    sent(&input.fields, &whole);
    combined(&input.parts, &whole);
    part_to_store(&input.fields).ok();
    combined_fields(&input.fields, &input.fields);
    broken_off(&input);
    // What has no strong validator is for itself, and makes way for its like.
    if !may_combine(&input.fields, &input.fields) {
        assert!(may_replace(&input.fields, false, true, &input.fields));
        assert!(!may_replace(&input.fields, true, true, &input.fields));
    }
});

struct Input<'a> {
    fields: HeaderMap,
    length: Option<u64>,
    parts: Vec<(u64, u64)>,
    content: &'a [u8],
}

impl<'a> Input<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut input =
            Self { fields: HeaderMap::new(), length: None, parts: vec![], content: b"" };
        let mut rest = text;
        while let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if line.is_empty() {
                break;
            }
            input.read(line);
        }
        input.content = rest;
        input
    }

    fn read(&mut self, line: &[u8]) {
        let known = [RANGE, IF_RANGE, CONTENT_RANGE, ETAG, LAST_MODIFIED, DATE];
        if let Some(colon) = line.iter().position(|octet| *octet == b':') {
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
                let name = Some(name).filter(|name| known.contains(name) || self.fields.len() < 16);
                name.map(|name| self.fields.append(name, value));
            }
            return;
        }
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_ascii_whitespace();
        let word = words.next();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        match (word, numbers.as_slice()) {
            (Some("length"), [length]) => self.length = Some(*length),
            (Some("part"), [start, end]) if self.parts.len() < 64 => {
                self.parts.push((*start, *end))
            }
            _ => {}
        }
    }
}

// --- What is asked for -----------------------------------------------------------------------------

/// RFC 9110 §14.1.1 and §14.1.2, octet by octet. `None`: no valid ranges of octets.
struct Ranges(Vec<(Option<u128>, Option<u128>)>);

impl Ranges {
    fn of(fields: &HeaderMap) -> Option<Self> {
        let lines: Vec<_> = fields.get_all(RANGE).iter().collect();
        let [line] = lines.as_slice() else { return None };
        let text = line.to_str().ok()?;
        let (unit, set) = text.split_once('=')?;
        if unit.to_lowercase() != "bytes" {
            return None;
        }
        let mut ranges = Vec::new();
        for member in set.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (first, last) = member.split_once('-')?;
            let (first, last) = (number(first)?, number(last)?);
            match (first, last) {
                (None, None) => return None,
                (Some(first), Some(last)) if last < first => return None,
                _ => ranges.push((first, last)),
            }
        }
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    fn has(&self, octet: usize, length: usize) -> bool {
        let (octet, length) = (octet as u128, length as u128);
        self.0.iter().any(|range| match *range {
            (Some(first), last) => first <= octet && last.is_none_or(|last| octet <= last),
            (None, suffix) => suffix.is_some_and(|suffix| octet.saturating_add(suffix) >= length),
        })
    }
}

/// `Some(None)`: there is none. Beyond any content, numbers are alike.
fn number(digits: &str) -> Option<Option<u128>> {
    if !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let number = || digits.parse().unwrap_or(u128::MAX);
    Some((!digits.is_empty()).then(number))
}

fn spans(wanted: &Wanted) -> Vec<Span> {
    match wanted {
        Wanted::Part(span) => vec![*span],
        Wanted::Parts(spans) => spans.clone(),
        Wanted::Unsatisfiable => vec![],
    }
}

fn asked(fields: &HeaderMap, length: u64) {
    assert_eq!(asks_for_part(&Method::GET, fields), fields.contains_key(RANGE));
    let mut request = fields.clone();
    let found = select(&request, StatusCode::OK, fields, length);
    assert!(select(&request, StatusCode::NOT_FOUND, fields, length).is_err(), "a 200 only");
    if found.is_ok() {
        // Without the condition it is no other part.
        request.remove(IF_RANGE);
        assert_eq!(select(&request, StatusCode::OK, fields, length), found);
    }
    // Numbers that even these cannot tell apart.
    let is_beyond =
        |line: &HeaderValue| line.as_bytes().split(|c| !c.is_ascii_digit()).any(|n| n.len() > 38);
    if fields.get_all(RANGE).iter().any(is_beyond) {
        return;
    }
    let ranges = Ranges::of(fields);
    let wanted = match (&ranges, found) {
        (None, found) => return assert!(found.is_err(), "{found:?} for what is no range"),
        (Some(ranges), Err(why)) => {
            let is_excused = match why {
                Whole::Changed => fields.contains_key(IF_RANGE),
                Whole::TooMany => ranges.0.len() > MAX_PARTS,
                Whole::NoShorter => ranges.0.len() > 1,
                Whole::Empty => length == 0,
                _ => false,
            };
            return assert!(is_excused, "{why:?}");
        }
        (Some(_), Ok(wanted)) => wanted,
    };
    let Some(ranges) = ranges else { return };
    assert!(ranges.0.len() <= MAX_SPECS);
    let (spans, count) = (spans(&wanted), usize::try_from(length).unwrap_or(0));
    assert!(spans.len() <= MAX_PARTS && spans.iter().all(|span| span.end() <= length));
    let octets: u64 = spans.iter().map(|span| span.length()).sum();
    assert!(octets <= length, "an octet is sent twice");
    let mut unasked = 0;
    for octet in 0..count {
        let place = octet as u64;
        let sent = spans.iter().filter(|span| span.start() <= place && place < span.end()).count();
        let is_asked = ranges.has(octet, count);
        assert!(sent == usize::from(is_asked) || sent == 1, "octet {octet} is sent {sent} times");
        unasked = if sent == 1 && !is_asked { unasked + 1 } else { 0 };
        assert!(unasked <= LONGEST_GAP, "octet {octet} was not asked for");
    }
}

fn content_range(fields: &HeaderMap) {
    let written = match ContentRange::of(fields) {
        None => return,
        Some(ContentRange::Unsatisfied(length)) => unsatisfied(length),
        Some(ContentRange::Part(span, None)) => span.content_range(None),
        Some(ContentRange::Part(span, Some(length))) => {
            assert!(span.start() < span.end() && span.end() <= length);
            span.content_range(Some(length))
        }
    };
    let again = HeaderMap::from_iter([(CONTENT_RANGE, written)]);
    assert_eq!(ContentRange::of(&again), ContentRange::of(fields), "as it was read");
}

// --- How it is sent --------------------------------------------------------------------------------

fn place(octet: u64) -> usize {
    usize::try_from(octet).unwrap_or(usize::MAX)
}

fn cut(whole: &Bytes, span: Span) -> Bytes {
    whole.slice(place(span.start())..place(span.end()))
}

fn sent(fields: &HeaderMap, whole: &Bytes) {
    let length = whole.len() as u64;
    let Ok(Wanted::Parts(spans)) = select(fields, StatusCode::OK, fields, length) else { return };
    let parts: Vec<_> = spans.iter().map(|span| (*span, cut(whole, *span))).collect();
    let made = multipart(parts.clone(), length, fields.get(ETAG));
    let found = take_apart(&made);
    assert_eq!(found.len(), parts.len());
    for ((head, octets), (span, expected)) in found.iter().zip(&parts) {
        assert_eq!(octets, expected);
        let range = format!("Content-Range: bytes {}-{}/{length}", span.start(), span.end() - 1);
        assert!(head.ends_with(&range), "{head}");
    }
}

/// Naively: a delimiter is whatever looks like one (RFC 2046 §5.1.1).
fn take_apart(parts: &Multipart) -> Vec<(String, Vec<u8>)> {
    let content_type = parts.content_type.to_str().expect("of characters");
    let (_, boundary) = content_type.split_once("boundary=").expect("with a boundary");
    let delimiter = format!("--{boundary}").into_bytes();
    let octets = parts.pieces.concat();
    let mut pieces = vec![Vec::new()];
    let mut at = 0;
    while at < octets.len() {
        if octets[at..].starts_with(&delimiter) {
            pieces.push(Vec::new());
            at += delimiter.len();
        } else {
            pieces.last_mut().expect("one at least").push(octets[at]);
            at += 1;
        }
    }
    assert!(pieces.first().is_some_and(Vec::is_empty), "nothing before the first one");
    assert_eq!(pieces.pop().as_deref(), Some(&b"--\r\n"[..]), "nothing behind the last one");
    let part = |piece: &Vec<u8>| {
        let body = piece.strip_prefix(b"\r\n")?.strip_suffix(b"\r\n")?;
        let end = body.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&body[..end]).into_owned();
        Some((head, body[end + 4..].to_vec()))
    };
    pieces.iter().skip(1).map(|piece| part(piece).expect("a head and a body")).collect()
}

// --- How it becomes whole --------------------------------------------------------------------------

/// What came before a break is less than what was to come.
fn broken_off(input: &Input<'_>) {
    let mut spans: Vec<_> =
        input.parts.iter().filter_map(|(start, end)| Span::new(*start, *end)).collect();
    if let Ok((whole, length)) = whole_to_store(&Method::GET, StatusCode::OK, &input.fields) {
        assert_eq!((whole.start(), whole.end()), (0, length));
        spans.push(whole);
    }
    for span in spans {
        for came in [0, 1 << 16, span.length() - 1, span.length(), u64::MAX] {
            if let Ok(beginning) = beginning_to_store(span, came) {
                assert_eq!((beginning.start(), beginning.length()), (span.start(), came));
                assert!(beginning.end() < span.end(), "all of it came");
            }
        }
    }
}

fn combined(parts: &[(u64, u64)], whole: &Bytes) {
    let length = whole.len() as u64;
    let mut held: Option<(Spans, Bytes)> = None;
    let mut has = vec![false; whole.len()];
    for (start, end) in parts {
        let Some(span) = Span::new(*start, *end) else { continue };
        let inside = span.end() <= length;
        let octets = if inside { cut(whole, span) } else { whole.clone() };
        let before = held.as_ref().map(|(spans, octets)| (spans, octets));
        let Some(found) = combine(before, span, &octets, Some(length)) else {
            assert!(!inside, "a part of the content was refused");
            continue;
        };
        assert!(inside, "a part beyond the content was taken");
        has[place(*start)..place(*end)].fill(true);
        let (spans, octets) = match found {
            Combined::Whole(octets) => {
                assert!(octets == *whole && has.iter().all(|has| *has));
                return;
            }
            Combined::Part(spans, octets) => (spans, octets),
        };
        check(&spans, &octets, whole, &mut has);
        for (start, end) in parts {
            let part = Span::new(*start, *end).filter(|part| part.end() <= length);
            part.map(|part| missing(&spans, &has, part));
        }
        held = Some((spans, octets));
    }
}

/// What is held is what came, and no more; of too many spans some went.
fn check(spans: &Spans, octets: &Bytes, whole: &Bytes, has: &mut [bool]) {
    let mut holds = vec![false; whole.len()];
    for (start, end) in spans.ends() {
        holds[place(start)..place(end)].fill(true);
        let span = Span::new(start, end).expect("never empty");
        assert!(spans.has(span));
        assert_eq!(spans.cut(octets, span), Some(cut(whole, span)));
    }
    let came = has.chunk_by(|one, next| one == next).filter(|run| run[0]).count();
    assert!(spans.ends().len() <= MAX_SPANS);
    if came > MAX_SPANS {
        assert!(holds.iter().zip(&*has).all(|(holds, has)| *has || !*holds));
        has.copy_from_slice(&holds);
    }
    assert_eq!(holds, has);
    assert_eq!(spans.held() as usize, octets.len());
    assert!(holds.contains(&false), "that would be the whole");
    let gaps: Vec<_> = holds.chunk_by(|one, next| one == next).filter(|run| !run[0]).collect();
    let gap = spans.gap();
    assert_eq!(gap.is_some(), gaps.len() == 1);
    if let (Some(gap), [missing]) = (gap, gaps.as_slice()) {
        assert_eq!(place(gap.length()), missing.len());
        assert!(!spans.has(gap) && spans.cut(octets, gap).is_none());
    }
}

/// What is missing of a part, octet by octet.
fn missing(spans: &Spans, holds: &[bool], part: Span) {
    let within = &holds[place(part.start())..place(part.end())];
    let gaps: Vec<_> = within.chunk_by(|one, next| one == next).filter(|run| !run[0]).collect();
    let found = spans.missing(part);
    assert_eq!(found.is_some(), gaps.len() == 1);
    if let (Some(gap), [run]) = (found, gaps.as_slice()) {
        assert_eq!(place(gap.length()), run.len());
        assert!(part.start() <= gap.start() && gap.end() <= part.end());
        assert!(holds[place(gap.start())..place(gap.end())].iter().all(|holds| !holds));
    }
}
