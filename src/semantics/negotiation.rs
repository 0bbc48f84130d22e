//! The request fields of proactive negotiation, as values (RFC 9110 §12.5): `Accept`,
//! `Accept-Charset`, `Accept-Encoding`, `Accept-Language`.
//!
//! Their canonical form, of which [`vary`](super::vary) makes keys.

use std::borrow::Cow;
use std::cmp::Reverse;

use http::HeaderName;
use http::header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE};

/// `q=1`, in thousandths.
const WHOLE: u16 = 1000;

/// A longer list is not read. Nobody means more.
const MOST_MEMBERS: usize = 64;

/// A member of a list: what it names, in its canonical form, and how much it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// In lower case where the grammar ignores case.
    pub(super) name: Cow<'a, [u8]>,
    /// In thousandths. Zero is "not acceptable".
    pub(super) weight: u16,
}

/// One form for all lists that mean the same: equal exactly where the field's semantics are. `None`
/// if the field is none of the four, or cannot be read, or contradicts itself, or has more than 64
/// members.
///
/// Names are in lower case, weights without what can be left out, members each once and by
/// descending weight. Among equal weights the order means nothing and gives way to that of the
/// names; not so in `Accept-Language`, where "some recipients treat the order in which language
/// tags are listed as an indication of descending priority" (RFC 9110 §12.5.4).
pub(super) fn canonical(name: &HeaderName, list: &[u8]) -> Option<Vec<u8>> {
    let is_ordered = *name == ACCEPT_LANGUAGE;
    let mut members = members(name, list)?;
    if is_ordered {
        members.sort_by_key(|member| Reverse(member.weight));
    } else {
        members.sort_unstable_by(|one, other| {
            (Reverse(one.weight), &one.name).cmp(&(Reverse(other.weight), &other.name))
        });
    }
    let mut out = Vec::with_capacity(list.len());
    for Member { name, weight } in &members {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(name);
        write_weight(*weight, &mut out);
    }
    Some(out)
}

/// The shortest form: nothing for 1, `;q=0.5` for 500 thousandths.
fn write_weight(weight: u16, out: &mut Vec<u8>) {
    if weight >= WHOLE {
        return;
    }
    out.extend_from_slice(b";q=0");
    let mut rest = weight;
    if rest > 0 {
        out.push(b'.');
    }
    while rest > 0 {
        out.extend(u8::try_from(rest / 100).map(|digit| b'0' + digit));
        rest = rest % 100 * 10;
    }
}

/// The members of a list, in its order, each once. `None` as for [`canonical`].
///
/// What is said twice with two weights is a contradiction: which one counts is each server's own
/// business.
pub(super) fn members<'a>(name: &HeaderName, list: &'a [u8]) -> Option<Vec<Member<'a>>> {
    let read = match *name {
        ACCEPT => media_range,
        ACCEPT_CHARSET => charset,
        ACCEPT_ENCODING => coding,
        ACCEPT_LANGUAGE => language_range,
        _ => return None,
    };
    let mut members: Vec<Member<'_>> = Vec::with_capacity(8);
    for member in split(list, b',')? {
        let member = weighted(member, read)?;
        match members.iter().find(|known| known.name == member.name) {
            Some(known) if known.weight == member.weight => {}
            None if members.len() < MOST_MEMBERS => members.push(member),
            _ => return None,
        }
    }
    Some(members)
}

/// `name *( OWS ";" OWS parameter )`, where a parameter `q` is the weight wherever it stands
/// (RFC 9110 §12.4.2, §12.5.1).
fn weighted<'a>(
    member: &'a [u8],
    read: impl Fn(&'a [u8], &[Parameter]) -> Option<Cow<'a, [u8]>>,
) -> Option<Member<'a>> {
    let mut parts = split(member, b';')?;
    let name = parts.next()?;
    // `;q=1` alone: `split` leaves out what is empty, and a name is not.
    if member.starts_with(b";") {
        return None;
    }
    let mut weight = None;
    let mut parameters = Vec::new();
    for part in parts {
        let parameter = Parameter::of(part)?;
        if parameter.name != b"q" {
            parameters.push(parameter);
        } else if weight.replace(thousandths(&parameter.value)?).is_some() {
            return None;
        }
    }
    Some(Member { name: read(name, &parameters)?, weight: weight.unwrap_or(WHOLE) })
}

/// RFC 9110 §12.4.2: `( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, fraction) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digit = |octet: u8| octet.is_ascii_digit().then(|| u16::from(octet - b'0'));
    let places = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(3);
    let fraction = places.map(digit).try_fold(0, |sum, digit| Some(sum * 10 + digit?))?;
    match (whole, fraction) {
        (b'0', fraction) => Some(fraction),
        (b'1', 0) => Some(WHOLE),
        _ => None,
    }
}

/// RFC 9110 §12.5.3: `content-coding / "identity" / "*"`, "all content codings are
/// case-insensitive" (§8.4.1).
fn coding<'a>(name: &'a [u8], parameters: &[Parameter]) -> Option<Cow<'a, [u8]>> {
    (parameters.is_empty() && is_token(name)).then(|| coding_name(name))
}

/// A content coding as it is compared. "A recipient SHOULD consider `x-gzip` to be equivalent to
/// `gzip`", and so with `x-compress` (RFC 9110 §8.4.1.1, §8.4.1.3).
pub(super) fn coding_name(name: &[u8]) -> Cow<'_, [u8]> {
    let name = lower_case(name);
    match &*name {
        b"x-gzip" => Cow::Borrowed(b"gzip"),
        b"x-compress" => Cow::Borrowed(b"compress"),
        _ => name,
    }
}

fn lower_case(name: &[u8]) -> Cow<'_, [u8]> {
    if name.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// RFC 9110 §12.5.2: `token / "*"`; charset names are case-insensitive (§8.3.2).
fn charset<'a>(name: &'a [u8], parameters: &[Parameter]) -> Option<Cow<'a, [u8]>> {
    (parameters.is_empty() && is_token(name)).then(|| lower_case(name))
}

/// RFC 4647 §2.1: `(1*8ALPHA *("-" 1*8alphanum)) / "*"`, compared without regard to case.
fn language_range<'a>(name: &'a [u8], parameters: &[Parameter]) -> Option<Cow<'a, [u8]>> {
    (parameters.is_empty() && (name == b"*" || is_language_tag(name))).then(|| lower_case(name))
}

/// Whether this could be a language tag: subtags of at most eight letters and digits.
pub(super) fn is_language_tag(tag: &[u8]) -> bool {
    let mut subtags = tag.split(|&octet| octet == b'-');
    let primary = subtags.next().unwrap_or_default();
    let is_subtag = |subtag: &[u8]| {
        (1..=8).contains(&subtag.len()) && subtag.iter().all(u8::is_ascii_alphanumeric)
    };
    is_subtag(primary) && primary.iter().all(u8::is_ascii_alphabetic) && subtags.all(is_subtag)
}

/// RFC 9110 §12.5.1: `( "*/*" / ( type "/" "*" ) / ( type "/" subtype ) ) parameters`. "The type
/// and subtype tokens are case-insensitive" (§8.3.1). The order of parameters means nothing
/// (RFC 2045 §5.1); the case of their values may.
fn media_range<'a>(name: &'a [u8], parameters: &[Parameter]) -> Option<Cow<'a, [u8]>> {
    let slash = name.iter().position(|&octet| octet == b'/')?;
    let (kind, subtype) = (name.get(..slash)?, name.get(slash + 1..)?);
    if !is_token(kind) || !is_token(subtype) || kind == b"*" && subtype != b"*" {
        return None;
    }
    if parameters.is_empty() {
        return Some(lower_case(name));
    }
    let mut range = name.to_ascii_lowercase();
    let mut parameters: Vec<_> = parameters.iter().collect();
    // Stable: which of two with one name counts is not for us to say.
    parameters.sort_by_key(|parameter| &parameter.name);
    for parameter in parameters {
        parameter.write_to(&mut range);
    }
    Some(Cow::Owned(range))
}

/// `name=value`, the name in lower case and the value without its quotes.
struct Parameter {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Parameter {
    /// RFC 9110 §5.6.6: no white space around `=`.
    fn of(part: &[u8]) -> Option<Self> {
        let equals = part.iter().position(|&octet| octet == b'=')?;
        let (name, value) = (part.get(..equals)?, part.get(equals + 1..)?);
        let value = if is_token(value) { value.to_vec() } else { unquoted(value)? };
        is_token(name).then(|| Self { name: name.to_ascii_lowercase(), value })
    }

    /// "The quoted and unquoted values are equivalent" (RFC 9110 §5.6.6): quotes where they must be.
    fn write_to(&self, out: &mut Vec<u8>) {
        out.push(b';');
        out.extend_from_slice(&self.name);
        out.push(b'=');
        if is_token(&self.value) {
            return out.extend_from_slice(&self.value);
        }
        out.push(b'"');
        for &octet in &self.value {
            if matches!(octet, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(octet);
        }
        out.push(b'"');
    }
}

/// What a quoted string says (RFC 9110 §5.6.4). `None` if it is none.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let mut octets = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?.iter().copied();
    let mut out = Vec::with_capacity(value.len());
    while let Some(octet) = octets.next() {
        match octet {
            b'"' => return None,
            b'\\' => out.push(octets.next()?),
            _ => out.push(octet),
        }
    }
    Some(out)
}

/// The parts between separators that are not quoted, without white space around them, and without
/// those that are empty. `None` if a quoted string is not closed, as then nobody knows where parts
/// end.
fn split(octets: &[u8], separator: u8) -> Option<impl Iterator<Item = &[u8]>> {
    let mut quotes = Quotes::default();
    for &octet in octets {
        quotes.holds(octet);
    }
    let is_closed = !quotes.is_open;
    let mut quotes = Quotes::default();
    let parts = octets.split(move |&octet| !quotes.holds(octet) && octet == separator);
    is_closed.then(|| parts.map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()))
}

/// Goes through octets and knows which are in a quoted string (RFC 9110 §5.6.4).
#[derive(Default)]
struct Quotes {
    is_open: bool,
    is_escaped: bool,
}

impl Quotes {
    /// Takes the next octet: whether it is inside.
    fn holds(&mut self, octet: u8) -> bool {
        let was_open = self.is_open;
        let is_quote = octet == b'"' && !self.is_escaped;
        self.is_escaped = was_open && octet == b'\\' && !self.is_escaped;
        self.is_open ^= is_quote;
        was_open
    }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(octets: &[u8]) -> bool {
    let is_tchar = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet);
    !octets.is_empty() && octets.iter().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn canonical_text(name: &HeaderName, list: &str) -> Option<String> {
        canonical(name, list.as_bytes()).map(|octets| String::from_utf8(octets).unwrap())
    }

    #[test]
    fn canonical_codings() {
        for (name, list, expected, why) in [
            (
                ACCEPT_ENCODING,
                "br, GZIP",
                Some("br,gzip"),
                "\"all content codings are case-insensitive\"",
            ),
            (ACCEPT_ENCODING, "gzip, br", Some("br,gzip"), "equal weights have no order"),
            (ACCEPT_ENCODING, "gzip;q=0.5, br", Some("br,gzip;q=0.5"), "by descending weight"),
            (ACCEPT_ENCODING, "gzip;q=1, br;q=1.000", Some("br,gzip"), "\"The default is 1\""),
            (ACCEPT_ENCODING, "gzip;q=0.50", Some("gzip;q=0.5"), "the same number"),
            (ACCEPT_ENCODING, "gzip ;\tQ=0.125", Some("gzip;q=0.125"), "OWS; `q` in any case"),
            (ACCEPT_ENCODING, "gzip;q=0.", Some("gzip;q=0"), "`0*3DIGIT` may be none"),
            (ACCEPT_ENCODING, "gzip;q=0.000", Some("gzip;q=0"), "\"not acceptable\" stays"),
            (
                ACCEPT_ENCODING,
                "x-gzip, gzip",
                Some("gzip"),
                "\"consider x-gzip to be equivalent to gzip\"",
            ),
            (ACCEPT_ENCODING, "X-Compress", Some("compress"), "\"equivalent to compress\""),
            (ACCEPT_ENCODING, ", ,gzip,,", Some("gzip"), "empty members"),
            (ACCEPT_ENCODING, "", Some(""), "an empty list"),
            (ACCEPT_ENCODING, "gzip;q=0.5, gzip", None, "two weights for one coding"),
            (ACCEPT_ENCODING, "gzip;q=1.1", None, "no weight"),
            (ACCEPT_ENCODING, "gzip;q=0.1234", None, "four digits"),
            (ACCEPT_ENCODING, "gzip;q=.5", None, "no digit before the dot"),
            (ACCEPT_ENCODING, "gzip;q=-1", None, "no weight"),
            (ACCEPT_ENCODING, "gzip;q=0.5;q=0.5", None, "two weights"),
            (ACCEPT_ENCODING, "gzip;level=9", None, "codings have no parameters"),
            (ACCEPT_ENCODING, "gzip br", None, "no token"),
            (ACCEPT_ENCODING, ";q=1", None, "a weight of nothing"),
        ] {
            assert_eq!(canonical_text(&name, list).as_deref(), expected, "{list}: {why}");
        }
    }

    #[test]
    fn canonical_charsets_languages_and_types() {
        for (name, list, expected, why) in [
            (
                ACCEPT_CHARSET,
                "UTF-8, iso-8859-1;q=0.2, *;q=0.10",
                Some("utf-8,iso-8859-1;q=0.2,*;q=0.1"),
                "§12.5.2",
            ),
            (ACCEPT_LANGUAGE, "DE-at, en", Some("de-at,en"), "tags are case-insensitive"),
            (ACCEPT_LANGUAGE, "en, de", Some("en,de"), "\"an indication of descending priority\""),
            (ACCEPT_LANGUAGE, "en;q=0.5, de", Some("de,en;q=0.5"), "weight comes first"),
            (ACCEPT_LANGUAGE, "de, en, de", Some("de,en"), "the first of two"),
            (ACCEPT_LANGUAGE, "de, *;q=0.1", Some("de,*;q=0.1"), "the wildcard range"),
            (ACCEPT_LANGUAGE, "de_DE", None, "no range"),
            (ACCEPT_LANGUAGE, "abcdefghi", None, "more than eight letters"),
            (ACCEPT, "Text/HTML, */*;q=0.8", Some("text/html,*/*;q=0.8"), "§8.3.1"),
            (
                ACCEPT,
                "text/html;Level=1;a=B",
                Some("text/html;a=B;level=1"),
                "names ignore case, values do not",
            ),
            (
                ACCEPT,
                "text/html;level=\"1\"",
                Some("text/html;level=1"),
                "\"quoted and unquoted values are equivalent\"",
            ),
            (ACCEPT, "a/b;c=\"d,  \\e\"", Some("a/b;c=\"d,  e\""), "what must be quoted stays so"),
            (ACCEPT, "a/b;c=\"\\\",\", f/g", Some("a/b;c=\"\\\",\",f/g"), "an escaped quote"),
            (ACCEPT, "a/b;q=0.5;c=d", Some("a/b;c=d;q=0.5"), "\"any parameter named q as weight\""),
            (ACCEPT, "a/b;;c=d;", Some("a/b;c=d"), "empty parameters"),
            (ACCEPT, "a/b;c=1, a/b", Some("a/b,a/b;c=1"), "a range with parameters is another"),
            (ACCEPT, "a/b;c=\"d", None, "not closed"),
            (ACCEPT, "a/b;c = d", None, "no white space around `=`"),
            (ACCEPT, "*/html", None, "no media range"),
            (ACCEPT, "html", None, "no media range"),
            (ACCEPT, "a/b, A/B;q=0.5", None, "two weights for one range"),
        ] {
            assert_eq!(canonical_text(&name, list).as_deref(), expected, "{list}: {why}");
        }
    }

    #[test]
    fn long_lists_are_not_read() {
        let list = |count: usize| (0..count).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
        assert!(canonical_text(&ACCEPT_ENCODING, &list(MOST_MEMBERS)).is_some());
        assert!(canonical_text(&ACCEPT_ENCODING, &list(MOST_MEMBERS + 1)).is_none());
    }

    fn any_field() -> impl Strategy<Value = HeaderName> {
        prop::sample::select(vec![ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE])
    }

    /// A list as it may be sent, and what it means: names and weights.
    fn any_list() -> impl Strategy<Value = (String, BTreeMap<String, u16>)> {
        let name = prop::sample::select(vec!["br", "gzip", "zstd", "identity", "x-gzip"]);
        let member = (name, 0..=10_u16, any::<bool>(), "[ \t]{0,2}", 1..=3_usize);
        prop::collection::vec(member, 0..5).prop_map(|members| {
            let (mut text, mut meaning) = (Vec::new(), BTreeMap::new());
            for (name, tenths, is_loud, space, digits) in members {
                let spelled = if is_loud { name.to_uppercase() } else { name.to_owned() };
                let plain = name.trim_start_matches("x-").to_owned();
                let tenths = *meaning.entry(plain).or_insert(tenths);
                let value = f64::from(tenths) / 10.0;
                let weight = format!("{space};{space}q={value:.digits$}");
                let is_left_out = tenths == 10 && is_loud;
                let weight = if is_left_out { String::new() } else { weight };
                text.push(format!("{space}{spelled}{weight}{space}"));
            }
            (text.join(","), meaning)
        })
    }

    proptest! {
        #[test]
        fn never_panics(name in any_field(), octets in prop::collection::vec(any::<u8>(), 0..64)) {
            canonical(&name, &octets);
        }

        #[test]
        fn twice_is_once(name in any_field(), list in "([a-cA-C*]{1,2}(/[a-c*])?(;[q-r]=(0\\.?[0-9]{0,3}|1|\"[a,\\\\\"]{0,3}\"))?[ ,]{1,2}){0,4}") {
            if let Some(once) = canonical(&name, list.as_bytes()) {
                prop_assert_eq!(canonical(&name, &once), Some(once));
            }
        }

        #[test]
        fn equal_where_the_meaning_is_and_nowhere_else(
            (one, one_means) in any_list(),
            (other, other_means) in any_list(),
        ) {
            let (one, other) = (canonical_text(&ACCEPT_ENCODING, &one), canonical_text(&ACCEPT_ENCODING, &other));
            prop_assert!(one.is_some());
            prop_assert_eq!(one == other, one_means == other_means);
        }

        #[test]
        fn order_among_equal_weights_does_not_matter(
            (members, shuffled) in prop::collection::vec("[a-z]{1,4}", 0..6)
                .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
        ) {
            for name in [ACCEPT_ENCODING, ACCEPT_CHARSET] {
                let (one, other) = (members.join(", "), shuffled.join(","));
                prop_assert_eq!(canonical(&name, one.as_bytes()), canonical(&name, other.as_bytes()));
            }
            let distinct: BTreeSet<_> = members.iter().collect();
            if distinct.len() == members.len() {
                let is_same = members == shuffled;
                let (one, other) = (members.join(","), shuffled.join(","));
                prop_assert_eq!(
                    canonical(&ACCEPT_LANGUAGE, one.as_bytes()) == canonical(&ACCEPT_LANGUAGE, other.as_bytes()),
                    is_same
                );
            }
        }
    }
}
