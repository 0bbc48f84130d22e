//! What the fields of a message say of its content (RFC 9110 §8.3, §8.4): whether it is JSON, and how
//! it is coded.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

/// The coding of JSON that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonCoding {
    /// As it is.
    None,
    /// `gzip` (RFC 9110 §8.4.1.3).
    Gzip,
}

/// How the content is coded, if it is JSON: `application/json`, or a type with the suffix `+json`
/// (RFC 6839 §3.1). None for any other type, for none or several, and for other codings.
pub fn json_coding(fields: &HeaderMap) -> Option<JsonCoding> {
    let mut types = fields.get_all(CONTENT_TYPE).iter();
    let (media_type, None) = (types.next()?, types.next()) else { return None };
    let essence = media_type.to_str().ok()?.split(';').next()?.trim_matches([' ', '\t']);
    let (kind, subtype) = essence.split_once('/')?;
    // RFC 9110 §8.3.1: "The type and subtype tokens are case-insensitive."
    let suffix = subtype.rsplit_once('+').map(|(_, suffix)| suffix);
    let is_plain = kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json");
    if !is_plain && !suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("json")) {
        return None;
    }
    let mut codings = fields.get_all(CONTENT_ENCODING).iter();
    let (coding, None) = (codings.next(), codings.next()) else { return None };
    let Some(coding) = coding else { return Some(JsonCoding::None) };
    match coding.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
        b"identity" => Some(JsonCoding::None),
        // RFC 9110 §8.4.1.3: "A recipient SHOULD consider "x-gzip" to be equivalent to "gzip"."
        b"gzip" | b"x-gzip" => Some(JsonCoding::Gzip),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn json_is_known_by_its_type() {
        let plain = Some(JsonCoding::None);
        for (types, codings, expected, why) in [
            (&["application/json"][..], &[][..], plain, "JSON"),
            (&["Application/JSON ;charset=utf-8"], &[], plain, "\"case-insensitive\""),
            (&["application/hal+json"], &[], plain, "a structured syntax suffix"),
            (&["image/x+y+json"], &[], plain, "the last `+` counts"),
            (&["application/json-seq"], &[], None, "another format"),
            (&["application/jsonlines"], &[], None, "another format"),
            (&["text/json"], &[], None, "not registered"),
            (&["json"], &[], None, "no media type"),
            (&[], &[], None, "unknown"),
            (&["application/json", "application/json"], &[], None, "a field of one value, twice"),
            (&["application/json"], &["gzip"], Some(JsonCoding::Gzip), "a coding"),
            (&["application/json"], &["X-GZIP"], Some(JsonCoding::Gzip), "\"equivalent\""),
            (&["application/json"], &["identity"], plain, "no coding"),
            (&["application/json"], &["br"], None, "another coding"),
            (&["application/json"], &["gzip, gzip"], None, "two codings"),
            (&["application/json"], &["gzip", "gzip"], None, "two codings"),
        ] {
            let line = |name: &HeaderName, value: &&'static str| {
                (name.clone(), HeaderValue::from_static(value))
            };
            let types = types.iter().map(|value| line(&CONTENT_TYPE, value));
            let codings = codings.iter().map(|value| line(&CONTENT_ENCODING, value));
            let fields: HeaderMap = types.chain(codings).collect();
            assert_eq!(json_coding(&fields), expected, "{why}: {fields:?}");
        }
    }
}
