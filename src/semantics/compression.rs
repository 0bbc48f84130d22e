//! Which contents are compressed on their way to a client, in which coding, and what that makes of the
//! fields (RFC 9110 §8.4, §12.5.3).
//!
//! A coded form is another representation of the same resource. So wherever content could have been
//! coded, `Vary` says that `Accept-Encoding` decides, whatever was decided. The entity tag of a coded
//! form is the content's own, made weak: "a strong entity tag for a content-encoded representation has
//! to be distinct from the entity tag of an unencoded representation" (§8.8.3.3), and one for each
//! coding would have to be translated back in every condition, here and in whatever gateway stands
//! before this one. The weak one is compared with the stored tag as it is, and no part is ever combined
//! with another by it (§13.1.5, §15.3.7.3).
//!
//! Parts are parts of the content as it is stored: a request with `Range` is not answered in a coding.
//! [`is_of_any_form`] is for the conditions that could not tell the two apart.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, VARY,
};
use http::{Method, StatusCode};

use super::cache_control;
use super::negotiation;
use super::ranges;
use super::validation::is_weak;
use super::vary::{Vary, joined};

/// What is pushed, event by event. It is coded only where it is named itself, as few of those who
/// write `text/*` mean it.
const EVENT_STREAM: &str = "text/event-stream";

/// Digests of the content as it is sent (RFC 9530 §2, RFC 1864), and of a representation with its coding
/// (RFC 9530 §3, and RFC 3230, which that replaces): in the head, or behind the content.
pub const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// A content coding that contents can be brought into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 9110 §8.4.1.3.
    Gzip,
}

impl Coding {
    /// As it stands in fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// What a route's responses are compressed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// The codings, the one that is liked best first.
    pub codings: Vec<Coding>,
    /// Media types in lower case: `text/html`, `text/*`, `application/*+json`, `*/*`.
    pub types: Vec<Box<str>>,
    /// Shorter contents stay as they are.
    pub min_length: u64,
    /// The fields that may say `no-transform`, besides `Cache-Control`.
    pub targets: Vec<HeaderName>,
}

/// Why a content stays as it is, whatever the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncoded {
    /// A response of this status has no content, or only a part of one.
    Status,
    /// It has a coding.
    Coded,
    /// The response says `no-transform`.
    NoTransform,
    /// Of a type that is not to be compressed, or of none that can be told.
    Type,
    /// It is shorter than what is worth it.
    Small,
}

/// Whether a content may be coded: that of a response of this status, with these fields, and so many
/// octets where that is known. A content of unknown length counts as long.
///
/// # Errors
/// Why not.
pub fn may_code(
    rules: &Compression,
    status: StatusCode,
    fields: &HeaderMap,
    length: Option<u64>,
) -> Result<(), Uncoded> {
    // §15.3.5 to §15.3.7, §15.4.5; and interim ones.
    let has_none = status.is_informational() || matches!(status.as_u16(), 204..=206 | 304);
    if has_none || fields.contains_key(CONTENT_RANGE) {
        return Err(Uncoded::Status);
    }
    if length.is_some_and(|length| length < rules.min_length.max(1)) {
        return Err(Uncoded::Small);
    }
    // §8.4: "identity" is "reserved for its special role in Accept-Encoding"; some write it here.
    let codings = fields.get_all(CONTENT_ENCODING).iter();
    if codings.into_iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Uncoded::Coded);
    }
    if !is_listed(&rules.types, fields) {
        return Err(Uncoded::Type);
    }
    // RFC 9111 §5.2.2.6: "indicates that an intermediary (regardless of whether it implements a
    // cache) MUST NOT transform the content".
    let mut says_so = rules.targets.iter().chain([&CACHE_CONTROL]);
    if says_so.any(|name| forbids_transforming(fields, name)) {
        return Err(Uncoded::NoTransform);
    }
    Ok(())
}

/// Whether a field with the syntax of `Cache-Control` has `no-transform`. An argument, or garbage
/// beside it, does not make it mean less.
fn forbids_transforming(fields: &HeaderMap, name: &HeaderName) -> bool {
    cache_control::directives(fields, name)
        .any(|directive| directive.name.eq_ignore_ascii_case(b"no-transform"))
}

/// Whether the type of a content is one of these.
fn is_listed(types: &[Box<str>], fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Ok(line) = line.to_str() else { return false };
    let essence = line.split(';').next().unwrap_or_default().trim_matches([' ', '\t']);
    // §8.3.1: "The type and subtype tokens are case-insensitive."
    let essence = essence.to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    types.iter().any(|listed| {
        if **listed == *essence {
            return true;
        }
        let Some((listed, rest)) = listed.split_once('/') else { return false };
        let Some(suffix) = rest.strip_prefix('*') else { return false };
        let is_kind = listed == "*" || listed == kind;
        is_kind && subtype.ends_with(suffix) && essence != EVENT_STREAM
    })
}

/// The coding in which a client is sent what may be coded; none for a content as it is.
///
/// The one that it wants most; of several the one that comes first in `codings`. "identity" is wanted
/// more than a coding only where its weight is said to be (§12.5.3). A field that cannot be read, and
/// one that is not there, ask for none.
pub fn chosen(codings: &[Coding], method: &Method, request: &HeaderMap) -> Option<Coding> {
    let list = joined(request, &ACCEPT_ENCODING)?;
    let members = negotiation::members(&ACCEPT_ENCODING, &list)?;
    let named = |name: &[u8]| members.iter().find(|it| *it.name == *name).map(|it| it.weight);
    let identity = named(b"identity").unwrap_or(0);
    let weight = |coding: &Coding| {
        let weight = named(coding.as_str().as_bytes()).or_else(|| named(b"*"));
        weight.filter(|weight| *weight > 0 && *weight >= identity)
    };
    let weighted = codings.iter().filter_map(|coding| Some((*coding, weight(coding)?)));
    // `max_by_key` answers the last of several.
    let best = weighted.rev().max_by_key(|(_, weight)| *weight).map(|(coding, _)| coding);
    best.filter(|_| !ranges::asks_for_part(method, request))
}

/// Says that the content was selected by `Accept-Encoding`.
pub fn vary_by_coding(fields: &mut HeaderMap) {
    let says_so = match Vary::of(fields) {
        Vary::Any => true,
        Vary::Fields(names) => names.contains(&ACCEPT_ENCODING),
    };
    if says_so {
        return;
    }
    // In one line where there is one: some clients read no other.
    let all = joined(fields, &VARY).filter(|list| !list.trim_ascii().is_empty());
    let name = ACCEPT_ENCODING.as_str().as_bytes();
    let list = all.map_or_else(|| name.to_vec(), |list| [&list, &b", "[..], name].concat());
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        fields.insert(VARY, list);
    }
}

/// Makes of the fields of a content those of its form in this coding, but for `Vary`.
pub fn code_fields(fields: &mut HeaderMap, coding: Coding) {
    fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    for name in [CONTENT_LENGTH, ACCEPT_RANGES].iter().chain(&DIGESTS) {
        fields.remove(name);
    }
    let mut tags = fields.get_all(ETAG).iter();
    match (tags.next(), tags.next()) {
        (Some(tag), None) => {
            if let Some(weak) = weakened(tag) {
                fields.insert(ETAG, weak);
            }
        }
        // Which of several it is, nobody can say.
        (Some(_), Some(_)) => {
            fields.remove(ETAG);
        }
        (None, _) => {}
    }
}

/// Makes the tag in an upstream's 304 weak where the client has asked about a weak one: what it holds is
/// a coded form. RFC 9111 §4.3.4 on a strong tag that is none of those that a cache has stored: it "MUST
/// NOT use the new response to update any stored responses".
pub fn match_tag_of_304(request: &HeaderMap, fields: &mut HeaderMap) {
    let Some(weak) = fields.get(ETAG).and_then(weakened) else { return };
    let weak_octets = weak.as_bytes();
    let names = |line: &HeaderValue| {
        line.as_bytes().windows(weak_octets.len().max(1)).any(|octets| octets == weak_octets)
    };
    if request.get_all(IF_NONE_MATCH).iter().any(names) {
        fields.insert(ETAG, weak);
    }
}

/// The same tag, weak. `None`: it is weak, or too long to be made so.
fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    if is_weak(tag) || tag.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()
}

/// Whether a request is for a part of what has the same `Last-Modified`, or the same weak tag, in whatever
/// coding it is held.
///
/// §8.8.1: a validator is weak if it "is shared by two or more representations of a given resource at
/// the same time", and §13.1.5 has the condition fail for a weak one. Then "the recipient of the
/// If-Range header field MUST ignore the Range header field". Some look whether the tag is found in the line
/// alone, and take `W/"1"` for `"1"`.
pub fn is_of_any_form(request: &HeaderMap) -> bool {
    request.get_all(IF_RANGE).iter().any(|line| !line.as_bytes().starts_with(b"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::Coding::{Brotli, Gzip, Zstd};
    use super::*;

    fn rules() -> Compression {
        let types = ["text/*", "application/json", "application/*+json", "image/svg+xml"];
        Compression {
            codings: vec![Zstd, Brotli, Gzip],
            types: types.map(Into::into).into(),
            min_length: 1024,
            targets: vec![HeaderName::from_static("cdn-cache-control")],
        }
    }

    #[test]
    fn what_may_be_coded() {
        let html = ("content-type", "text/html; charset=utf-8");
        let part = ("content-range", "bytes 0-1/9");
        for (status, lines, length, expected, why) in [
            (200, vec![html], Some(1024), Ok(()), "long enough"),
            (200, vec![html], None, Ok(()), "of unknown length"),
            (404, vec![html], None, Ok(()), "an error has content, too"),
            (200, vec![html], Some(1023), Err(Uncoded::Small), "small"),
            (204, vec![html], None, Err(Uncoded::Status), "§15.3.5: no content"),
            (205, vec![html], None, Err(Uncoded::Status), "§15.3.6: no content"),
            (206, vec![html], None, Err(Uncoded::Status), "§15.3.7: a part"),
            (304, vec![html], None, Err(Uncoded::Status), "§15.4.5: no content"),
            (103, vec![html], None, Err(Uncoded::Status), "§15.2: no content"),
            (200, vec![html, part], None, Err(Uncoded::Status), "a part, whatever its status"),
            (200, vec![html, ("content-encoding", "gzip")], None, Err(Uncoded::Coded), "coded"),
            (200, vec![html, ("content-encoding", "x-own")], None, Err(Uncoded::Coded), "coded"),
            (200, vec![html, ("content-encoding", "Identity")], None, Ok(()), "not coded"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_code(&rules(), status, &fields(&lines), length), expected, "{why}");
        }
        let all = Compression { types: vec!["*/*".into()], min_length: 0, ..rules() };
        let image = fields(&[("content-type", "image/png")]);
        assert_eq!(may_code(&all, StatusCode::OK, &image, Some(1)), Ok(()), "any type");
        let empty = may_code(&all, StatusCode::OK, &image, Some(0));
        assert_eq!(empty, Err(Uncoded::Small), "there is nothing to code");
    }

    #[test]
    fn what_must_not_be_transformed() {
        for (name, line, expected, why) in [
            ("cache-control", "max-age=60, No-Transform", false, "\"MUST NOT transform\""),
            ("cache-control", "no-transform=1", false, "an argument does not make it mean less"),
            ("cdn-cache-control", "no-transform", false, "said to this cache"),
            ("other-cache-control", "no-transform", true, "said to another"),
            ("cache-control", "a=\"no-transform\"", true, "an argument, not a directive"),
        ] {
            let fields = fields(&[("content-type", "text/html"), (name, line)]);
            let found = may_code(&rules(), StatusCode::OK, &fields, None);
            assert_eq!(found, expected.then_some(()).ok_or(Uncoded::NoTransform), "{why}");
        }
    }

    #[test]
    fn types() {
        for (types, expected, why) in [
            (&["Text/HTML"][..], true, "\"case-insensitive\""),
            (&["application/json"], true, "named"),
            (&["application/hal+json ; a=b"], true, "by its suffix"),
            (&["image/svg+xml"], true, "named"),
            (&["image/png"], false, "not named"),
            (&["application/json-seq"], false, "another type"),
            (&["text"], false, "no media type"),
            (&[], false, "none"),
            (&["text/html", "text/html"], false, "which of them?"),
            (&[EVENT_STREAM], false, "events: only where they are named themselves"),
        ] {
            let lines: Vec<_> = types.iter().map(|line| ("content-type", *line)).collect();
            let found = may_code(&rules(), StatusCode::OK, &fields(&lines), None);
            assert_eq!(found, expected.then_some(()).ok_or(Uncoded::Type), "{types:?}: {why}");
        }
        let named = Compression { types: vec![EVENT_STREAM.into()], ..rules() };
        let events = fields(&[("content-type", EVENT_STREAM)]);
        assert_eq!(may_code(&named, StatusCode::OK, &events, None), Ok(()), "named themselves");
    }

    #[test]
    fn which_coding_is_chosen() {
        let all = [Zstd, Brotli, Gzip];
        for (codings, accepted, expected, why) in [
            (&all[..], Some("gzip, br, zstd"), Some(Zstd), "equal weights: the server's order"),
            (&[Gzip, Zstd], Some("zstd, gzip"), Some(Gzip), "equal weights: the server's order"),
            (&all, Some("gzip, br;q=0.9"), Some(Gzip), "the highest weight"),
            (&all, Some("GZIP;q=0.001"), Some(Gzip), "names ignore case"),
            (&all, Some("x-gzip"), Some(Gzip), "\"equivalent to gzip\""),
            (&all, Some("*"), Some(Zstd), "\"matches any available content coding\""),
            (&all, Some("*;q=0.5, br"), Some(Brotli), "the highest weight"),
            (&all, Some("*, zstd;q=0"), Some(Brotli), "\"not acceptable\""),
            (&all, Some("gzip;q=0"), None, "\"not acceptable\""),
            (&all, Some("*;q=0"), None, "nothing is"),
            (&all, Some("deflate"), None, "none that is made here"),
            (&all, Some("identity"), None, "nothing else"),
            (&all, Some("identity, gzip;q=0.5"), None, "as it is, rather than coded"),
            (&all, Some("identity;q=0.5, gzip;q=0.5"), Some(Gzip), "as much as coded"),
            (&all, Some("identity;q=0.5, *;q=0.5"), Some(Zstd), "as much as coded"),
            (&all, Some("identity;q=0, gzip"), Some(Gzip), "anything but as it is"),
            (&all, Some(""), None, "\"does not want any content coding\""),
            (&all, Some("gzip;q=2"), None, "cannot be read"),
            (&all, None, None, "nothing is asked for"),
            (&[], Some("gzip"), None, "none is made"),
        ] {
            let request: Vec<_> = accepted.iter().map(|list| ("accept-encoding", *list)).collect();
            let found = chosen(codings, &Method::GET, &fields(&request));
            assert_eq!(found, expected, "{accepted:?}: {why}");
        }
        let part = fields(&[("accept-encoding", "gzip"), ("range", "bytes=0-1")]);
        assert_eq!(chosen(&all, &Method::GET, &part), None, "parts are of the content as it is");
        assert_eq!(chosen(&all, &Method::HEAD, &part), Some(Gzip), "§14.2: for GET alone");
    }

    #[test]
    fn fields_of_a_coded_form() {
        let mut of = fields(&[
            ("etag", "\"1\""),
            ("content-length", "9"),
            ("accept-ranges", "bytes"),
            ("content-md5", "a"),
            ("content-digest", "a"),
            ("repr-digest", "a"),
            ("digest", "a"),
            ("last-modified", "then"),
            ("vary", "Accept-Language"),
            ("content-type", "text/html"),
        ]);
        vary_by_coding(&mut of);
        code_fields(&mut of, Brotli);
        let expected = fields(&[
            ("etag", "W/\"1\""),
            ("last-modified", "then"),
            ("vary", "Accept-Language, accept-encoding"),
            ("content-type", "text/html"),
            ("content-encoding", "br"),
        ]);
        assert_eq!(of, expected);
    }

    #[test]
    fn tags_of_a_coded_form() {
        for (tags, expected, why) in [
            (vec!["\"1\""], Some("W/\"1\""), "made weak"),
            (vec!["W/\"1\""], Some("W/\"1\""), "weak before"),
            (vec!["1"], Some("W/1"), "no entity tag, and not to be taken for a strong one"),
            (vec!["\"1\"", "\"2\""], None, "which of them?"),
            (vec![], None, "none"),
        ] {
            let lines: Vec<_> = tags.iter().map(|tag| ("etag", *tag)).collect();
            let mut of = fields(&lines);
            code_fields(&mut of, Gzip);
            let tag = of.get(ETAG).map(|tag| tag.to_str().unwrap());
            assert_eq!(tag, expected, "{why}");
        }
    }

    #[test]
    fn what_vary_says() {
        for (lines, expected, why) in [
            (vec![], vec!["accept-encoding"], "none before"),
            (vec![""], vec!["accept-encoding"], "an empty list"),
            (vec!["*"], vec!["*"], "it depends on everything"),
            (vec!["ACCEPT-encoding"], vec!["ACCEPT-encoding"], "it says so"),
            (vec!["a", "b"], vec!["a, b, accept-encoding"], "in one line"),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            let mut of = fields(&lines);
            vary_by_coding(&mut of);
            let found: Vec<_> = of.get_all(VARY).iter().map(|it| it.to_str().unwrap()).collect();
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn the_tag_of_a_304_is_the_one_that_was_asked_about() {
        for (asked, tag, expected, why) in [
            ("W/\"1\"", "\"1\"", "W/\"1\"", "a coded form is held"),
            ("\"0\", W/\"1\"", "\"1\"", "W/\"1\"", "one of several"),
            ("\"1\"", "\"1\"", "\"1\"", "the content as it is is held"),
            ("W/\"1\"", "W/\"1\"", "W/\"1\"", "the origin's own"),
            ("W/\"12\"", "\"1\"", "\"1\"", "about another"),
            ("*", "\"1\"", "\"1\"", "about any"),
        ] {
            let mut of = fields(&[("etag", tag)]);
            match_tag_of_304(&fields(&[("if-none-match", asked)]), &mut of);
            assert_eq!(of.get(ETAG).unwrap(), expected, "{why}");
        }
    }

    #[test]
    fn conditions_that_cannot_tell_forms_apart() {
        for (condition, expected, why) in [
            (Some("Sun, 06 Nov 1994 11:00:00 GMT"), true, "all forms have one date"),
            (Some("\"1\""), false, "no coded form has a strong tag"),
            (Some("W/\"1\""), true, "a weak one is of all forms"),
            (None, false, "there is none"),
        ] {
            let lines: Vec<_> = condition.iter().map(|line| ("if-range", *line)).collect();
            assert_eq!(is_of_any_form(&fields(&lines)), expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                let names = [
                    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
                    IF_RANGE, VARY,
                ];
                let any: HeaderMap = names.map(|name| (name, line.clone())).into_iter().collect();
                let mut of = any.clone();
                let verdict = may_code(&rules(), StatusCode::OK, &any, None);
                prop_assert!(verdict.is_err(), "a coding beside a type is never the same");
                chosen(&rules().codings, &Method::GET, &any);
                is_of_any_form(&any);
                vary_by_coding(&mut of);
                match_tag_of_304(&any, &mut of);
                code_fields(&mut of, Zstd);
                prop_assert!(of.get(ETAG).is_none_or(|tag| is_weak(tag) || tag.is_empty()));
            }
        }
    }
}
