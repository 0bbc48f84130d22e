//! What lies in Redis: a stored response, which variants there are, or which rules of
//! `No-Vary-Search`, as one frame of octets.
//!
//! ```text
//! magic  version  kind  crc32   head's, fields' and body's lengths  key    head  fields  body
//! 4      1        1     4       3 × 4                               32     …     …       …
//! ```
//!
//! Numbers are little-endian. The sum covers every other octet. The head is postcard; the key is the
//! one that the frame lies under. A body may be packed (`packing`), which its kind says. Redis is not trusted input: whatever is damaged, foreign, written
//! by a newer version, or one octet too long decodes to nothing, and no length is believed before
//! the octets are there.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};

use crate::config::Compression;
use crate::semantics::{Freshness, Spans};
use crate::store::packing::{self, NotUnpacked};
use crate::store::search::SearchRules;
use crate::store::variants::{Known, MAX_LISTS, MAX_NOMINATED, MAX_VARIANTS, Variants};
use crate::stored::{CacheKey, Fields, Mark, Moment, Original, Position, StoredResponse};

const MAGIC: &[u8; 4] = b"LRDR";
const VERSION: u8 = 8;
const RESPONSE: u8 = 1;
const VARIANTS: u8 = 2;
const RULES: u8 = 3;
/// As [`RESPONSE`], with a packed body.
const PACKED: u8 = 4;
/// Where the sum stands.
const SUM: Range<usize> = 6..10;
const PREFIX: usize = SUM.end + 3 * 4 + 32;

/// What a frame held.
#[derive(Debug)]
pub(super) enum Frame {
    /// And when the tier lets go of it, in milliseconds since 1970.
    Response(StoredResponse, u64),
    Variants(Variants),
    Rules(SearchRules),
    /// A response that is larger than asked for.
    TooLarge,
}

#[derive(Serialize, Deserialize)]
struct ResponseHead<'a> {
    name: &'a str,
    status: u16,
    freshness: Freshness,
    /// 16 octets each.
    marks: &'a [u8],
    position: Position,
    part: Option<Part>,
    end: u64,
}

/// Of an incomplete response.
#[derive(Serialize, Deserialize)]
struct Part {
    /// Of the whole content, where it is known.
    length: Option<u64>,
    /// Where each span begins, and where the octets behind it begin.
    spans: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct VariantsHead<'a> {
    /// A list a line, its names separated by commas: neither can be part of a name.
    lists: &'a str,
    known: Cow<'a, [Known]>,
}

/// The frame of a stored response, which lies there until `end`, in milliseconds since 1970; `None` if
/// a length in it has no room.
pub(super) fn encode(
    key: &CacheKey,
    stored: &StoredResponse,
    end: u64,
    compression: Compression,
) -> Option<Bytes> {
    let marks: Vec<u8> = stored.marks.iter().flat_map(|mark| mark.0).collect();
    let head = ResponseHead {
        name: &stored.name,
        status: stored.status.as_u16(),
        freshness: stored.freshness.clone(),
        marks: &marks,
        position: stored.position,
        part: stored
            .part
            .as_ref()
            .map(|spans| Part { length: spans.length(), spans: spans.ends().collect() }),
        end,
    };
    let packed = match compression {
        Compression::None => None,
        Compression::Lz4 => packing::pack(stored),
    };
    let (kind, body) = packed.as_ref().map_or((RESPONSE, &*stored.body), |body| (PACKED, body));
    frame(kind, key, &head, stored.fields.as_bytes(), body)
}

/// The frame that says which variants lie under `key`.
pub(super) fn encode_variants(key: &CacheKey, variants: &Variants) -> Option<Bytes> {
    let lists: Vec<_> = variants
        .lists
        .iter()
        .map(|list| list.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(","))
        .collect();
    let head = VariantsHead { lists: &lists.join("\n"), known: Cow::Borrowed(&variants.known) };
    frame(VARIANTS, key, &head, &[], &[])
}

/// The frame that says which rules of `No-Vary-Search` there are under `key`.
pub(super) fn encode_rules(key: &CacheKey, rules: &SearchRules) -> Option<Bytes> {
    frame(RULES, key, rules, &[], &[])
}

fn frame(
    kind: u8,
    key: &CacheKey,
    head: &impl Serialize,
    fields: &[u8],
    body: &[u8],
) -> Option<Bytes> {
    let head = postcard::to_stdvec(head).ok()?;
    let mut out = Vec::with_capacity(PREFIX + head.len() + fields.len() + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&[0; 4]);
    for part in [&head, fields, body] {
        out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
    }
    out.extend_from_slice(&key.0);
    for part in [&head, fields, body] {
        out.extend_from_slice(part);
    }
    let sum = sum(&out)?;
    out.get_mut(SUM)?.copy_from_slice(&sum.to_le_bytes());
    Some(out.into())
}

/// The sum of all octets but its own.
fn sum(frame: &[u8]) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(frame.get(..SUM.start)?);
    hasher.update(frame.get(SUM.end..)?);
    Some(hasher.finalize())
}

/// What lies under `key`. `None` if the octets are no frame of this version, or not this key's.
/// Fields and content share the frame's memory, unless the content was packed; then neither does, and
/// it is no more than `most` octets.
pub(super) fn decode(key: &CacheKey, frame: &Bytes, most: usize) -> Option<Frame> {
    let mut rest = &**frame;
    if take(&mut rest, 4)? != MAGIC || take(&mut rest, 1)? != [VERSION] {
        return None;
    }
    let [kind] = *take(&mut rest, 1)? else { return None };
    if take_u32(&mut rest)? != sum(frame)? {
        return None;
    }
    let lengths = [take_u32(&mut rest)?, take_u32(&mut rest)?, take_u32(&mut rest)?];
    if take(&mut rest, 32)? != key.0 {
        return None;
    }
    let [head, fields, body] = lengths.map(|length| take(&mut rest, usize::try_from(length).ok()?));
    let (head, fields, body) = (head?, frame.slice_ref(fields?), frame.slice_ref(body?));
    match kind {
        _ if !rest.is_empty() => None,
        RESPONSE => decode_response(head, fields, body),
        PACKED => match packing::unpack(&body, most) {
            // The packed content would lie behind them for as long as the response is kept.
            Ok(body) => decode_response(head, Bytes::copy_from_slice(&fields), body.into()),
            Err(NotUnpacked::TooLarge) => Some(Frame::TooLarge),
            Err(NotUnpacked::Damaged) => None,
        },
        VARIANTS if fields.is_empty() && body.is_empty() => {
            decode_variants(head).map(Frame::Variants)
        }
        RULES if fields.is_empty() && body.is_empty() => decode_rules(head).map(Frame::Rules),
        _ => None,
    }
}

fn decode_response(head: &[u8], fields: Bytes, body: Bytes) -> Option<Frame> {
    let (head, []) = postcard::take_from_bytes::<ResponseHead<'_>>(head).ok()? else { return None };
    let (marks, []) = head.marks.as_chunks() else { return None };
    let part = match head.part {
        None => None,
        Some(Part { length, spans }) => {
            let spans = Spans::new(spans, length)?;
            // Nor is anything believed to be here that is not.
            (spans.held() == body.len() as u64).then_some(Some(Box::new(spans)))?
        }
    };
    let stored = StoredResponse {
        name: head.name.into(),
        status: StatusCode::from_u16(head.status).ok().filter(|s| !s.is_informational())?,
        fields: Fields::from_bytes(fields)?,
        body,
        part,
        freshness: head.freshness,
        marks: marks.iter().copied().map(Mark).collect(),
        position: head.position,
        begun: Moment::BEFORE_ALL,
        checked: AtomicU64::new(0),
        original: Original::default(),
    };
    Some(Frame::Response(stored, head.end))
}

fn decode_variants(head: &[u8]) -> Option<Variants> {
    let (head, []) = postcard::take_from_bytes::<VariantsHead<'_>>(head).ok()? else { return None };
    if head.known.len() > MAX_VARIANTS || head.lists.split('\n').count() > MAX_LISTS {
        return None;
    }
    let lists = head.lists.split('\n').map(|list| {
        let names = list.split(',').map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        names.take(MAX_NOMINATED + 1).collect::<Option<Box<[_]>>>()
    });
    let lists: Vec<_> = lists.collect::<Option<_>>()?;
    let known = head.known.into_owned();
    lists.iter().all(|list| list.len() <= MAX_NOMINATED).then_some(Variants { lists, known })
}

fn decode_rules(head: &[u8]) -> Option<SearchRules> {
    let (rules, []) = postcard::take_from_bytes::<SearchRules>(head).ok()? else { return None };
    rules.is_bounded().then_some(rules)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    rest.split_off(..count)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::store::variants::Variant;

    const KEY: CacheKey = CacheKey([7; 32]);
    const MOST: usize = 1 << 20;
    const END: u64 = 1_795_667_664_119;

    prop_compose! {
        fn any_response()(
            name in "\\PC{0,40}",
            status in 200..600_u16,
            fields in proptest::collection::vec(("[a-z-]{1,20}|etag|content-type", "[ -~]{0,60}"), 0..10),
            body in proptest::collection::vec(any::<u8>(), 0..400),
            times in 1..20_usize,
            moments in (any::<u32>(), 0..1_000_000_000_u32, any::<u32>(), any::<u32>()),
            marks in proptest::collection::vec(any::<[u8; 16]>(), 0..5),
            position in any::<(u64, u64)>(),
            flags in any::<(bool, bool)>(),
            lacks in proptest::option::of((1..100_u64, proptest::option::of(1..100_u64))),
        ) -> StoredResponse {
            let mut map = HeaderMap::new();
            for (name, value) in &fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            // What repeats itself can be packed.
            let body = body.repeat(times);
            let (seconds, nanos, initial_age, lifetime) = moments;
            // Something is missing before the octets that there are, and behind them.
            let part = lacks.and_then(|(before, behind)| {
                let end = before + body.len() as u64;
                Spans::new([(before, end)], behind.map(|behind| end + behind)).map(Box::new)
            });
            StoredResponse {
                name: name.into(),
                status: StatusCode::from_u16(status).unwrap(),
                fields: Fields::encode(&map).unwrap(),
                body: body.into(),
                part,
                freshness: Freshness {
                    received: SystemTime::UNIX_EPOCH + Duration::new(seconds.into(), nanos),
                    initial_age: Duration::from_secs(initial_age.into()),
                    lifetime: Duration::from_secs(lifetime.into()),
                    no_cache: flags.0,
                    must_revalidate: flags.1,
                    stale_while_revalidate: Duration::from_secs(initial_age.into()).into(),
                    stale_if_error: flags.0.then_some(Duration::from_secs(lifetime.into()).into()),
                    immutable: flags.1,
                    open: flags.0,
                },
                marks: marks.into_iter().map(Mark).collect(),
                position: Position { millis: position.0, sequence: position.1 },
                begun: Moment::BEFORE_ALL,
                checked: AtomicU64::new(3),
                original: Original::default(),
            }
        }
    }

    fn some_variants() -> Variants {
        let map = |name, value| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        let mut variants = Variants::default();
        for (names, response) in [
            (&["accept", "x-device"][..], map("content-language", "de")),
            (&["accept-language"], map("etag", "\"1\"")),
        ] {
            let names: Vec<_> = names.iter().map(|name| HeaderName::from_static(name)).collect();
            let response = Fields::encode(&response).unwrap();
            let request = map("accept-language", "de");
            variants.add(Variant::of(&KEY, &names, &request, &response).unwrap(), 8);
        }
        variants
    }

    proptest! {
        #[test]
        fn a_response_comes_back_as_it_was(stored in any_response()) {
            let frame = encode(&KEY, &stored, END, Compression::None).unwrap();
            let Some(Frame::Response(back, END)) = decode(&KEY, &frame, MOST) else {
                panic!("no response")
            };
            prop_assert_eq!(&back.name, &stored.name);
            prop_assert_eq!(back.status, stored.status);
            prop_assert_eq!(&back.fields, &stored.fields);
            prop_assert_eq!(&back.body, &stored.body);
            prop_assert_eq!(&back.part, &stored.part);
            prop_assert_eq!(&back.freshness, &stored.freshness);
            prop_assert_eq!(&back.marks, &stored.marks);
            prop_assert_eq!(back.position, stored.position);
            prop_assert_eq!(back.checked.into_inner(), 0);
        }

        #[test]
        fn one_changed_octet_is_refused(
            stored in any_response(),
            place in any::<proptest::sample::Index>(),
            change in 1..=255_u8,
        ) {
            let mut frame = encode(&KEY, &stored, END, Compression::None).unwrap().to_vec();
            let place = place.index(frame.len());
            frame[place] ^= change;
            prop_assert!(decode(&KEY, &frame.into(), MOST).is_none());
        }

        #[test]
        fn a_frame_cut_or_continued_is_refused(
            stored in any_response(),
            place in any::<proptest::sample::Index>(),
            more in proptest::collection::vec(any::<u8>(), 1..20),
        ) {
            let frame = encode(&KEY, &stored, END, Compression::None).unwrap();
            prop_assert!(decode(&KEY, &frame.slice(..place.index(frame.len())), MOST).is_none());
            prop_assert!(decode(&KEY, &[&frame[..], &more].concat().into(), MOST).is_none());
        }

        #[test]
        fn arbitrary_octets_are_no_frame(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&KEY, &octets.into(), MOST).is_none());
        }

        /// Redis is not trusted: these have a right sum and lengths, and nonsense inside.
        #[test]
        fn nonsense_in_a_sound_frame_does_not_panic(
            kind in 0..5_u8,
            parts in any::<[Vec<u8>; 3]>(),
        ) {
            let [head, fields, body] = &parts;
            drop(decode(&KEY, &sealed(kind, head, fields, body), MOST));
        }
    }

    /// A frame with this in its head's place.
    fn sealed(kind: u8, head: &[u8], fields: &[u8], body: &[u8]) -> Bytes {
        let mut frame = frame(kind, &KEY, &(), fields, body).unwrap().to_vec();
        frame[SUM.end..SUM.end + 4]
            .copy_from_slice(&u32::try_from(head.len()).unwrap().to_le_bytes());
        frame.splice(PREFIX..PREFIX, head.iter().copied());
        let sum = sum(&frame).unwrap();
        frame[SUM].copy_from_slice(&sum.to_le_bytes());
        frame.into()
    }

    #[test]
    fn variants_come_back_as_they_were() {
        let frame = encode_variants(&KEY, &some_variants()).unwrap();
        let Some(Frame::Variants(back)) = decode(&KEY, &frame, MOST) else { panic!("no variants") };
        assert_eq!(back, some_variants());
    }

    #[test]
    fn a_frame_of_another_key_or_version_is_refused() {
        let frame = encode_variants(&KEY, &some_variants()).unwrap();
        assert!(decode(&CacheKey([8; 32]), &frame, MOST).is_none());
        let mut newer = frame.to_vec();
        newer[4] = VERSION + 1;
        let sum = sum(&newer).unwrap();
        newer[SUM].copy_from_slice(&sum.to_le_bytes());
        assert!(decode(&KEY, &newer.into(), MOST).is_none());
    }

    #[test]
    fn no_length_is_believed() {
        // A postcard sequence that claims 2^63 elements.
        let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        for kind in [RESPONSE, VARIANTS] {
            assert!(decode(&KEY, &sealed(kind, &endless, &[], &[]), MOST).is_none());
        }
    }

    #[test]
    fn variants_beyond_their_bounds_are_refused() {
        let mut many = some_variants();
        many.known = vec![many.known[0].clone(); MAX_VARIANTS + 1];
        assert!(decode(&KEY, &encode_variants(&KEY, &many).unwrap(), MOST).is_none());
        let mut many = some_variants();
        many.lists = vec![many.lists[0].clone(); MAX_LISTS + 1];
        assert!(decode(&KEY, &encode_variants(&KEY, &many).unwrap(), MOST).is_none());
        let mut many = some_variants();
        many.lists[0] = vec![many.lists[0][0].clone(); MAX_NOMINATED + 1].into();
        assert!(decode(&KEY, &encode_variants(&KEY, &many).unwrap(), MOST).is_none());
    }

    #[test]
    fn rules_come_back_as_they_were() {
        let rule = |name: &str| {
            let value = HeaderValue::try_from(format!("params=(\"{name}\")")).unwrap();
            let name = crate::semantics::no_vary_search::NO_VARY_SEARCH;
            crate::semantics::NoVarySearch::of(&HeaderMap::from_iter([(name, value)])).unwrap()
        };
        let mut rules = SearchRules::default();
        rules.add(rule("a"));
        rules.add(rule("b"));
        let frame = encode_rules(&KEY, &rules).unwrap();
        let Some(Frame::Rules(back)) = decode(&KEY, &frame, MOST) else { panic!("no rules") };
        assert_eq!(back, rules);
        assert!(decode(&CacheKey([8; 32]), &frame, MOST).is_none());
    }

    #[test]
    fn what_was_packed_does_not_keep_its_frame() {
        let mut stored = any_response_with(b"text ".repeat(1000));
        let fields = [(http::header::ETAG, HeaderValue::from_static("\"1\""))];
        stored.fields = Fields::encode(&HeaderMap::from_iter(fields)).unwrap();
        let frame = encode(&KEY, &stored, END, Compression::Lz4).unwrap();
        assert!(frame.len() < stored.body.len());
        let Some(Frame::Response(back, _)) = decode(&KEY, &frame, MOST) else {
            panic!("no response")
        };
        assert_eq!((&back.fields, &back.body), (&stored.fields, &stored.body));
        assert!(frame.is_unique());
    }

    #[test]
    fn a_part_that_is_not_as_long_as_its_spans_is_refused() {
        let mut stored = any_response_with(b"abc".to_vec());
        for (spans, is_sound) in [([(0, 3)], true), ([(0, 2)], false), ([(0, 4)], false)] {
            stored.part = Spans::new(spans, Some(9)).map(Box::new);
            assert_eq!(
                decode(&KEY, &encode(&KEY, &stored, END, Compression::None).unwrap(), MOST)
                    .is_some(),
                is_sound
            );
        }
    }

    fn any_response_with(body: Vec<u8>) -> StoredResponse {
        StoredResponse {
            name: "a".into(),
            status: StatusCode::OK,
            fields: Fields::default(),
            body: body.into(),
            part: None,
            freshness: Freshness::fresh_for(Duration::ZERO, SystemTime::UNIX_EPOCH),
            marks: Box::default(),
            position: Position::ZERO,
            begun: Moment::BEFORE_ALL,
            checked: AtomicU64::new(0),
            original: Original::default(),
        }
    }
}
