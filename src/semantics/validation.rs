//! Conditional requests, ours and the client's, and what a 304 does to a stored response
//! (RFC 9111 §4.3, RFC 9110 §13).
//!
//! After [`freshen`] the result is judged by [`storable`](super::storable) as any response is: a
//! 304 can say `no-store`, too.

use http::StatusCode;
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, TRAILER,
};

use super::date;
use super::ranges::OF_THE_CONTENT;
use crate::message::remove_hop_by_hop;

/// Digests of the whole representation (RFC 9530 §3, RFC 3230).
const OF_THE_WHOLE: [HeaderName; 2] =
    [HeaderName::from_static("repr-digest"), HeaderName::from_static("digest")];

/// What the origin can be asked by whether a stored response is still right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The entity tag, as the origin wrote it.
    pub etag: Option<HeaderValue>,
    /// An HTTP date, as the origin wrote it.
    pub last_modified: Option<HeaderValue>,
}

impl Validators {
    /// The validators of a response. A repeated field and a `Last-Modified` that is no date are
    /// none. An entity tag without quotes is one: the server that sends it also compares it.
    pub fn of(fields: &HeaderMap) -> Self {
        let only = |name| {
            let mut lines = fields.get_all(name).iter();
            lines.next().filter(|line| lines.next().is_none() && !line.is_empty()).cloned()
        };
        Self {
            etag: only(ETAG),
            last_modified: only(LAST_MODIFIED).filter(|line| date::parse(line).is_some()),
        }
    }

    /// The fields that make our request conditional (§4.3.1): both where there are both, for
    /// origins that know only one. The client's own conditions are to be removed before.
    pub fn conditions(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let etag = self.etag.clone().map(|tag| (IF_NONE_MATCH, tag));
        let date = self.last_modified.clone().map(|date| (IF_MODIFIED_SINCE, date));
        etag.into_iter().chain(date)
    }

    /// Whether the entity tag is this one; if this one is weak, whether it corresponds.
    fn has_tag(&self, tag: &HeaderValue) -> bool {
        self.etag
            .as_ref()
            .is_some_and(|own| if is_weak(tag) { opaque(own) == opaque(tag) } else { own == tag })
    }

    /// Whether the entity tag is a weak one, and this one the same without its weakness: see
    /// [`Candidates::named_by`](super::Candidates::named_by).
    pub(super) fn has_as_weak(&self, tag: &HeaderValue) -> bool {
        let is_it =
            |own: &HeaderValue| is_weak(own) && is_entity_tag(own) && opaque(own) == tag.as_bytes();
        self.etag.as_ref().is_some_and(is_it)
    }

    fn has_date(&self, modified: &HeaderValue) -> bool {
        self.last_modified.as_ref().is_some_and(|own| date::parse(own) == date::parse(modified))
    }

    /// Whether there is nothing to validate by.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// Whether a field of this name is a condition that [`not_modified`] looks at.
pub fn is_condition(name: &HeaderName) -> bool {
    matches!(*name, IF_NONE_MATCH | IF_MODIFIED_SINCE)
}

/// Whether a client's `GET`, `HEAD` or `QUERY` is answered by a 304 instead of the stored response, of this
/// status and these fields, that it may be served (§4.3.2).
///
/// `If-None-Match` is compared weakly, and where it is present `If-Modified-Since` does not count
/// (RFC 9110 §13.2.2). Without `Last-Modified` the latter is compared with `Date`. A request
/// without conditions costs a look at each of its field names.
pub fn not_modified(request: &HeaderMap, status: StatusCode, stored: &HeaderMap) -> bool {
    // §4.3.2 speaks of stored 200 and 206; RFC 9110 §13.2.1: of others conditions are ignored.
    if status != StatusCode::OK {
        return false;
    }
    if !request.keys().any(is_condition) {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let etag = Validators::of(stored).etag;
        let mut lines = request.get_all(IF_NONE_MATCH).iter();
        return lines.any(|line| {
            line == "*" || etag.as_ref().is_some_and(|etag| is_listed(etag, line.as_bytes()))
        });
    }
    let modified = || date::only(stored, LAST_MODIFIED).or_else(|| date::only(stored, DATE));
    date::only(request, IF_MODIFIED_SINCE)
        .is_some_and(|since| modified().is_some_and(|modified| modified <= since))
}

/// Leaves the fields that a 304 to a client carries (RFC 9110 §15.4.5): all but what describes the content that the
/// client has, except what a cache is guided by. `Last-Modified` is that where there is no `ETag`.
///
/// What is for caches (`CDN-Cache-Control`, `Cache-Groups`), for the page that asks (`Access-Control-Allow-Origin`) or
/// about the message (`Age`, a MUST of §4 wherever a stored response is used) is none of the content's.
pub fn keep_in_304(fields: &mut HeaderMap) {
    const DESCRIBING: [HeaderName; 8] = [
        ACCEPT_RANGES,
        CONTENT_DISPOSITION,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        TRAILER,
    ];

    for name in DESCRIBING.iter().chain(&OF_THE_CONTENT).chain(&OF_THE_WHOLE) {
        fields.remove(name);
    }
    if fields.contains_key(ETAG) {
        fields.remove(LAST_MODIFIED);
    }
}

/// Whether a 304 speaks of this stored response (§4.3.4), which our conditions named.
///
/// A strong validator must be the same, a weak one must correspond. A 304 without validators does
/// speak of it: we asked about no other.
pub fn same_representation(stored: &Validators, not_modified: &HeaderMap) -> bool {
    let named = Validators::of(not_modified);
    match (&named.etag, &named.last_modified) {
        (Some(tag), _) => stored.has_tag(tag),
        // It names another, or nobody knows which.
        (None, _) if not_modified.contains_key(ETAG) => false,
        (None, Some(modified)) => stored.has_date(modified),
        (None, None) => true,
    }
}

/// Whether a 200 to `HEAD` with these fields says that the stored response to `GET`, with `content`
/// octets, is still right (§4.3.5): it has "matching values for any received validator fields" and,
/// if the former has `Content-Length`, that of the latter is the same. A response that says none of
/// these agrees; one that says them twice, or unreadably, does not.
pub fn matches_head(
    status: StatusCode,
    stored: &HeaderMap,
    content: u64,
    head: &HeaderMap,
) -> bool {
    let (ours, named) = (Validators::of(stored), Validators::of(head));
    let has_tag = match named.etag {
        Some(tag) => ours.has_tag(&tag),
        None => !head.contains_key(ETAG),
    };
    let has_date = match named.last_modified {
        Some(modified) => ours.has_date(&modified),
        None => !head.contains_key(LAST_MODIFIED),
    };
    let length = |line: &HeaderValue| line.to_str().ok().and_then(|line| line.parse().ok());
    let has_length = head.get_all(CONTENT_LENGTH).iter().all(|line| length(line) == Some(content));
    // A 200 is not about what was, say, not found when it was stored.
    status == StatusCode::OK && has_tag && has_date && has_length
}

/// The fields of a stored response after a 304 (§3.2): those of the 304, all lines of each, in the
/// place of the stored ones.
///
/// Excepted are what was for this connection, `Content-Length`, and what the stored octets depend
/// on: `Content-Encoding`, `Content-Range`, and digests of the content as it was sent, as those in a
/// 304 are of none. A weak entity tag stays weak. A 304 without `Date` was generated when it came, so
/// the stored `Date` goes too. `Age` and `Set-Cookie` of the 304 stay in, for
/// [`storable`](super::storable) to see; [`fields_to_store`](super::fields_to_store) removes them.
pub fn freshen(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let mut update = not_modified.clone();
    remove_hop_by_hop(&mut update);
    for name in OF_THE_CONTENT.iter().chain(&[CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE]) {
        update.remove(name);
    }
    let named = Validators::of(&update).etag;
    if named.is_some_and(|tag| Validators::of(stored).has_as_weak(&tag)) {
        update.remove(ETAG);
    }
    let mut fields = stored.clone();
    for name in update.keys().chain(&[DATE, AGE]) {
        fields.remove(name);
    }
    for (name, value) in &update {
        fields.append(name, value.clone());
    }
    fields
}

/// RFC 9110 §8.8.3: `W/` is case-sensitive.
pub(super) fn is_weak(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"W/")
}

/// Whether a value is one entity tag as RFC 9110 §8.8.3 has it.
pub(super) fn is_entity_tag(tag: &HeaderValue) -> bool {
    let octets = tag.as_bytes();
    let is_quoted = without_weakness(octets).starts_with(b"\"") && octets.ends_with(b"\"");
    is_quoted && octets != b"\"" && octets != b"W/\"" && entity_tag_length(octets) == octets.len()
}

/// What is compared weakly: the tag without `W/`.
pub(super) fn opaque(tag: &HeaderValue) -> &[u8] {
    without_weakness(tag.as_bytes())
}

fn without_weakness(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether an entity tag is in a list of them, compared weakly (RFC 9110 §8.8.3.2).
fn is_listed(tag: &HeaderValue, mut list: &[u8]) -> bool {
    let next = || {
        list = list.trim_ascii_start();
        while let Some(behind) = list.strip_prefix(b",") {
            list = behind.trim_ascii_start();
        }
        let (member, behind) = list.split_at_checked(entity_tag_length(list))?;
        list = behind;
        (!member.is_empty()).then_some(member.trim_ascii())
    };
    std::iter::from_fn(next).any(|member| without_weakness(member) == opaque(tag))
}

/// How long the entity tag is that the octets begin with. Between quotes a comma is an octet as
/// any other and a backslash escapes nothing (RFC 9110 §8.8.3). Without quotes it ends at a comma.
fn entity_tag_length(octets: &[u8]) -> usize {
    let unquoted = octets.iter().position(|&octet| octet == b',').unwrap_or(octets.len());
    let start = if octets.starts_with(b"W/\"") { 3 } else { 1 };
    match octets.split_at_checked(start) {
        Some((b"W/\"" | b"\"", quoted)) => {
            let end = quoted.iter().position(|&octet| octet == b'"');
            end.map_or(unquoted, |end| start + end + 1)
        }
        _ => unquoted,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    const ELEVEN: &str = "Sun, 06 Nov 1994 11:00:00 GMT";
    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const ONE: &str = "Sun, 06 Nov 1994 13:00:00 GMT";

    fn validators(etag: &str, last_modified: &str) -> Validators {
        Validators::of(&fields(&[("etag", etag), ("last-modified", last_modified)]))
    }

    #[test]
    fn validators_of_a_response() {
        let value = |text| Some(HeaderValue::from_static(text));
        for (lines, etag, last_modified, why) in [
            (vec![("etag", "\"1\"")], value("\"1\""), None, "strong"),
            (vec![("etag", "W/\"1\"")], value("W/\"1\""), None, "weak"),
            (vec![("etag", "1")], value("1"), None, "not quoted, but what the server compares"),
            (vec![("etag", "")], None, None, "empty"),
            (vec![("etag", "\"1\""), ("etag", "\"2\"")], None, None, "which of them?"),
            (vec![("last-modified", NOON)], None, value(NOON), "a date"),
            (vec![("last-modified", "noon")], None, None, "not a date"),
            (vec![("last-modified", NOON), ("last-modified", ONE)], None, None, "which of them?"),
        ] {
            let found = Validators::of(&fields(&lines));
            assert_eq!(found, Validators { etag, last_modified }, "{why}");
        }
    }

    #[test]
    fn our_conditions() {
        for (etag, last_modified, expected, why) in [
            ("\"1\"", NOON, vec![("if-none-match", "\"1\""), ("if-modified-since", NOON)], "both"),
            ("W/\"1\"", "", vec![("if-none-match", "W/\"1\"")], "§4.3.1: the entity tag"),
            ("", NOON, vec![("if-modified-since", NOON)], "§4.3.1: the date"),
            ("", "", vec![], "no validator, no condition"),
        ] {
            let found = validators(etag, last_modified).conditions().collect::<HeaderMap>();
            assert_eq!(found, fields(&expected), "{why}");
        }
    }

    #[test]
    fn if_none_match() {
        for (stored, lines, expected, why) in [
            ("\"1\"", vec!["\"1\""], true, "the same"),
            ("\"1\"", vec!["W/\"1\""], true, "weak comparison"),
            ("W/\"1\"", vec!["\"1\""], true, "weak comparison"),
            ("W/\"1\"", vec!["W/\"1\""], true, "weak comparison"),
            ("\"1\"", vec!["\"2\""], false, "another"),
            ("\"1\"", vec!["\"2\", \"1\""], true, "a list"),
            ("\"1\"", vec!["\"2\"", "\"1\""], true, "several lines"),
            ("\"1\"", vec![" ,, \"2\"\t,W/\"1\" ,"], true, "white space and empty members"),
            ("\"1,2\"", vec!["\"0\", \"1,2\""], true, "a comma inside of the quotes"),
            ("\"2\"", vec!["\"1,\"2\",3\""], false, "the quotes are elsewhere"),
            ("\"a\\\"", vec!["\"a\\\", \"b\""], true, "a backslash escapes nothing"),
            ("\"\"", vec!["\"\""], true, "an empty tag is a tag"),
            ("\"1\"", vec!["w/\"1\""], false, "`W/` is case-sensitive"),
            ("\"A\"", vec!["\"a\""], false, "tags are case-sensitive"),
            ("\"1\"", vec!["1"], false, "a tag without quotes is another"),
            ("1", vec!["0, 1"], true, "unless the origin writes it so"),
            ("\"1\"", vec!["*"], true, "any current representation"),
            ("", vec!["*"], true, "also one without a tag"),
            ("\"1\"", vec!["*, \"2\""], false, "`*` stands alone"),
            ("", vec!["\"1\""], false, "no tag, no match"),
            ("\"1\"", vec![""], false, "empty"),
            ("\"1\"", vec!["\"1"], false, "unterminated"),
        ] {
            let request = lines.iter().map(|line| ("if-none-match", *line)).collect::<Vec<_>>();
            let stored = fields(&[("etag", stored), ("last-modified", NOON)]);
            let found = not_modified(&fields(&request), StatusCode::OK, &stored);
            assert_eq!(found, expected, "{stored:?} {lines:?}: {why}");
        }
    }

    #[test]
    fn if_modified_since() {
        for (last_modified, request, status, expected, why) in [
            (NOON, vec![("if-modified-since", NOON)], 200, true, "earlier or equal"),
            (NOON, vec![("if-modified-since", ONE)], 200, true, "earlier or equal"),
            (NOON, vec![("if-modified-since", ELEVEN)], 200, false, "modified since"),
            ("", vec![("if-modified-since", NOON)], 200, true, "no Last-Modified: Date"),
            ("", vec![("if-modified-since", ELEVEN)], 200, false, "no Last-Modified: Date"),
            (NOON, vec![("if-modified-since", "noon")], 200, false, "not a date: ignored"),
            (
                NOON,
                vec![("if-modified-since", NOON), ("if-modified-since", NOON)],
                200,
                false,
                "not one date: ignored",
            ),
            (
                NOON,
                vec![("if-modified-since", NOON), ("if-none-match", "\"2\"")],
                200,
                false,
                "ignored where If-None-Match is present",
            ),
            (NOON, vec![("if-modified-since", NOON)], 404, false, "conditions are about a 200"),
            (NOON, vec![("if-none-match", "*")], 301, false, "conditions are about a 200"),
            (NOON, vec![], 200, false, "no condition"),
        ] {
            let lines = [("etag", "\"1\""), ("last-modified", last_modified), ("date", NOON)];
            let status = StatusCode::from_u16(status).unwrap();
            let found = not_modified(&fields(&request), status, &fields(&lines));
            assert_eq!(found, expected, "{last_modified} {request:?}: {why}");
        }
    }

    #[test]
    fn without_any_date_nothing_is_unmodified() {
        let request = fields(&[("if-modified-since", NOON)]);
        assert!(!not_modified(&request, StatusCode::OK, &HeaderMap::new()));
    }

    #[test]
    fn fields_of_a_304() {
        let listed = [
            ("cache-control", "max-age=60"),
            ("content-location", "/a"),
            ("date", NOON),
            ("etag", "\"1\""),
            ("expires", ONE),
            ("vary", "accept"),
            ("vary", "cookie"),
            ("age", "5"),
            ("via", "1.1 larder"),
            ("cache-status", "larder; hit"),
        ];
        let others = [
            ("cdn-cache-control", "max-age=600"),
            ("cache-groups", "\"a\""),
            ("access-control-allow-origin", "*"),
            ("link", "</a>"),
            // What is stored has none: it is this client's.
            ("set-cookie", "a=1"),
        ];
        let listed = [&listed[..], &others].concat();
        let more = [
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("content-digest", "sha-256=:YQ==:"),
            ("repr-digest", "sha-256=:YQ==:"),
            ("accept-ranges", "bytes"),
            ("last-modified", NOON),
        ];
        let mut found = fields(&[&listed[..], &more].concat());
        keep_in_304(&mut found);
        assert_eq!(found, fields(&listed));

        let mut found = fields(&more);
        keep_in_304(&mut found);
        assert_eq!(found, fields(&[("last-modified", NOON)]), "useful where there is no ETag");
    }

    #[test]
    fn which_response_a_304_speaks_of() {
        for (etag, last_modified, not_modified, expected, why) in [
            ("\"1\"", NOON, vec![("etag", "\"1\"")], true, "the same strong validator"),
            ("\"1\"", NOON, vec![("etag", "\"2\"")], false, "another strong validator: MUST NOT"),
            ("W/\"1\"", NOON, vec![("etag", "\"1\"")], false, "the stored one is not strong"),
            ("", NOON, vec![("etag", "\"1\"")], false, "the stored one has none"),
            ("\"1\"", NOON, vec![("etag", "W/\"1\"")], true, "a weak one corresponds"),
            ("W/\"1\"", NOON, vec![("etag", "W/\"1\"")], true, "a weak one corresponds"),
            ("W/\"1\"", NOON, vec![("etag", "W/\"2\"")], false, "a weak one does not"),
            ("\"1\"", NOON, vec![("last-modified", NOON)], true, "a weak one corresponds"),
            ("\"1\"", NOON, vec![("last-modified", ONE)], false, "a weak one does not"),
            (
                "",
                NOON,
                vec![("last-modified", "Sun Nov  6 12:00:00 1994")],
                true,
                "the same date in another form",
            ),
            ("\"1\"", "", vec![("last-modified", NOON)], false, "the stored one has no date"),
            ("\"1\"", NOON, vec![], true, "no validator: we asked about this one only"),
            ("\"1\"", NOON, vec![("etag", "\"2\""), ("etag", "\"3\"")], false, "two of them"),
            ("\"1\"", NOON, vec![("etag", ""), ("last-modified", NOON)], false, "none of them"),
        ] {
            let stored = validators(etag, last_modified);
            let found = same_representation(&stored, &fields(&not_modified));
            assert_eq!(found, expected, "{etag} {last_modified} {not_modified:?}: {why}");
        }
    }

    #[test]
    fn which_response_a_head_speaks_of() {
        let etag = ("etag", "\"1\"");
        let weak = ("etag", "W/\"1\"");
        let modified = ("last-modified", NOON);
        for (status, stored, head, expected, why) in [
            (200, vec![etag], vec![etag], true, "matching values"),
            (200, vec![etag], vec![("etag", "\"2\"")], false, "matching values"),
            (200, vec![weak], vec![weak], true, "a weak one corresponds"),
            (200, vec![weak], vec![etag], false, "the stored one is not strong"),
            (200, vec![], vec![etag], false, "received, and the stored one has none"),
            (200, vec![etag], vec![], true, "only \"received validator fields\" count"),
            (200, vec![modified], vec![modified], true, "matching values"),
            (200, vec![modified], vec![("last-modified", ONE)], false, "matching values"),
            (200, vec![etag, modified], vec![etag, modified], true, "\"any received\""),
            (200, vec![etag, modified], vec![etag, ("last-modified", ONE)], false, "any: both"),
            (200, vec![etag], vec![etag, etag], false, "which of them?"),
            (200, vec![modified], vec![("last-modified", "noon")], false, "not a date"),
            (200, vec![], vec![("content-length", "3")], true, "Content-Length matches"),
            (200, vec![], vec![("content-length", "4")], false, "Content-Length does not"),
            (
                200,
                vec![etag],
                vec![etag, ("content-length", "0")],
                false,
                "Content-Length does not",
            ),
            (200, vec![], vec![("content-length", "x")], false, "no length"),
            (200, vec![], vec![("content-length", "3"), ("content-length", "4")], false, "both"),
            (200, vec![], vec![], true, "nothing received, nothing to differ"),
            (404, vec![], vec![], false, "there is something now"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = matches_head(status, &fields(&stored), 3, &fields(&head));
            assert_eq!(found, expected, "{status} {stored:?} {head:?}: {why}");
        }
    }

    #[test]
    fn freshening() {
        for (stored, not_modified, expected, why) in [
            (vec![("x-a", "1")], vec![("x-a", "2")], vec![("x-a", "2")], "replacing"),
            (vec![("x-a", "1")], vec![("x-b", "2")], vec![("x-a", "1"), ("x-b", "2")], "adding"),
            (
                vec![("link", "</1>"), ("link", "</2>")],
                vec![("link", "</3>"), ("link", "</4>")],
                vec![("link", "</3>"), ("link", "</4>")],
                "all lines by all lines",
            ),
            (
                vec![("link", "</1>"), ("link", "</2>")],
                vec![("x-a", "1")],
                vec![("link", "</1>"), ("link", "</2>"), ("x-a", "1")],
                "other fields keep all their lines",
            ),
            (vec![], vec![("content-length", "0")], vec![], "except Content-Length"),
            (
                vec![("content-encoding", "gzip"), ("content-type", "text/plain")],
                vec![("content-encoding", "br"), ("content-type", "text/html")],
                vec![("content-encoding", "gzip"), ("content-type", "text/html")],
                "except what the stored octets depend on",
            ),
            (
                vec![("content-digest", "sha-256=:YQ==:"), ("repr-digest", "sha-256=:YQ==:")],
                vec![
                    ("content-digest", "sha-256=:YgA=:"),
                    ("content-md5", "YgA="),
                    ("repr-digest", "sha-256=:YgA=:"),
                ],
                vec![("content-digest", "sha-256=:YQ==:"), ("repr-digest", "sha-256=:YgA=:")],
                "a 304 has no content, and its digest would be of that",
            ),
            (
                vec![("keep-alive", "x"), ("x-hop", "1")],
                vec![("connection", "x-hop"), ("x-hop", "2"), ("transfer-encoding", "chunked")],
                vec![("keep-alive", "x"), ("x-hop", "1")],
                "except what was for the connection (§3.1)",
            ),
            (
                vec![("etag", "W/\"1\"")],
                vec![("etag", "\"1\"")],
                vec![("etag", "W/\"1\"")],
                "what is stored is not the strong one's, octet for octet",
            ),
            (
                vec![("etag", "W/\"1\"")],
                vec![("etag", "\"2\"")],
                vec![("etag", "\"2\"")],
                "replacing",
            ),
            (vec![("date", ELEVEN)], vec![("date", NOON)], vec![("date", NOON)], "replacing"),
            (vec![("date", ELEVEN)], vec![], vec![], "no Date: generated when received"),
            (vec![], vec![("age", "5")], vec![("age", "5")], "for `storable` to see"),
        ] {
            let found = freshen(&fields(&stored), &fields(&not_modified));
            assert_eq!(found, fields(&expected), "{stored:?} {not_modified:?}: {why}");
        }
    }

    proptest! {
        #[test]
        fn if_none_match_never_panics(
            octets in prop::collection::vec(any::<u8>(), 0..40),
            tag in "(W/)?\"[!-~&&[^\"]]{0,5}\"",
        ) {
            let tag = HeaderValue::try_from(tag).unwrap();
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                is_listed(&tag, line.as_bytes());
            }
        }

        #[test]
        fn a_listed_tag_is_found(
            tags in prop::collection::vec("(W/)?\"[!-~&&[^\"]]{0,5}\"", 1..6),
            place in any::<prop::sample::Index>(),
        ) {
            let line = HeaderValue::try_from(tags.join(", ")).unwrap();
            let tag = HeaderValue::try_from(place.get(&tags).as_str()).unwrap();
            prop_assert!(is_listed(&tag, line.as_bytes()));
        }
    }
}
