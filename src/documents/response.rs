//! Responses out of documents.

use blake3::Hasher;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    LAST_MODIFIED,
};
use http::{HeaderMap, Method, Response, StatusCode};
use mongodb::bson::raw::{RawBsonRef, RawDocument};
use mongodb::bson::{Bson, Decimal128, Document, RawBson};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::config;
use crate::message;
use crate::semantics;
use crate::upstream::{Failure, Reply};

use super::filter::{Query, Refused};
use super::{Found, json};

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// In a tag: what a field value has no room for, what separates tags, and what has a meaning here.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'*');

/// No double is a multiple of a higher power of ten: 5 to this power is the last one of 53 bits.
const MOST_ZEROS: usize = 22;

/// How long a tag may be, in octets, and all of them together.
const LONGEST_TAG: usize = 1024;
const LONGEST_TAGS: usize = 48 << 10;

/// The tag of every response that is made of documents.
pub const EVERYTHING: &str = "mongodb:*";

/// The tag of every response of a collection. Tags of its documents begin with it and a colon.
pub fn label(database: &str, collection: &str) -> String {
    format!("{}.{}", database_label(database), utf8_percent_encode(collection, ESCAPED))
}

/// The tag of every response of a database, whose name has no dot.
pub fn database_label(database: &str) -> String {
    format!("mongodb:{}", utf8_percent_encode(database, ESCAPED))
}

/// The response to a query.
pub(super) fn of(
    wanted: &config::Document,
    label: &str,
    query: &Query,
    found: &Found,
    method: &Method,
    asked: &HeaderMap,
) -> Result<Response<Reply>, Failure> {
    let mut fields = HeaderMap::new();
    let tags = tags(wanted, label, &query.filter, found);
    fields.insert(SURROGATE_KEY, HeaderValue::try_from(tags).map_err(Failure::broken)?);
    let Some(content) = content(wanted, found).map_err(Failure::broken)? else {
        let fresh = format!("max-age={}", wanted.missing_ttl.as_secs());
        fields.insert(CACHE_CONTROL, HeaderValue::try_from(fresh).expect("digits are visible"));
        return Ok(problem(StatusCode::NOT_FOUND, "no such document", fields));
    };
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(ETAG, entity_tag(wanted, found, &content));
    if let Some(date) = modified(wanted, found) {
        fields.insert(LAST_MODIFIED, date);
    }
    if semantics::not_modified(asked, StatusCode::OK, &fields) {
        return Ok(response(StatusCode::NOT_MODIFIED, fields, Bytes::new()));
    }
    fields.insert(CONTENT_LENGTH, content.len().into());
    let content = if *method == Method::HEAD { Bytes::new() } else { content };
    Ok(response(StatusCode::OK, fields, content))
}

/// A request that has not what the route wants.
pub(super) fn refused(refused: &Refused) -> Response<Reply> {
    let mut fields = HeaderMap::new();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    problem(StatusCode::BAD_REQUEST, &refused.to_string(), fields)
}

/// Documents are read, and nothing else.
pub(super) fn method_not_allowed() -> Response<Reply> {
    let mut fields = HeaderMap::new();
    fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    problem(StatusCode::METHOD_NOT_ALLOWED, "documents are read with GET and HEAD", fields)
}

fn problem(status: StatusCode, detail: &str, mut fields: HeaderMap) -> Response<Reply> {
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    let content = Bytes::from(message::problem(status, detail));
    fields.insert(CONTENT_LENGTH, content.len().into());
    response(status, fields, content)
}

fn response(status: StatusCode, fields: HeaderMap, content: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(content));
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

/// None if nothing was found where one document was wanted.
fn content(wanted: &config::Document, found: &Found) -> Result<Option<Bytes>, json::Damaged> {
    let (mut out, form) = (String::new(), wanted.json.into());
    let with_id = !wanted.projection.iter().any(|(name, is_shown)| name == "_id" && !is_shown);
    match found {
        Found::One(None) => return Ok(None),
        Found::One(Some(document)) => json::document(&mut out, document, form, with_id)?,
        Found::Many(all) => {
            out.push('[');
            for (place, document) in all.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                json::document(&mut out, document, form, with_id)?;
            }
            out.push(']');
        }
    }
    Ok(Some(out.into()))
}

/// A strong one (RFC 9110 §8.8.1): of which document it is and the version that it says, which has to be another for
/// each state of it; or of what is sent.
fn entity_tag(wanted: &config::Document, found: &Found, content: &[u8]) -> HeaderValue {
    let mut hasher = Hasher::new();
    let version = match (found, &wanted.version) {
        (Found::One(Some(document)), Some(path)) => {
            let value = |path| at(document, path).and_then(|value| Bson::try_from(value).ok());
            value("_id").zip(value(path))
        }
        _ => None,
    };
    match version {
        // Another configuration shows the same version in another form.
        Some(version) => {
            hasher.update(format!("{version:?}{:?}{:?}", wanted.projection, wanted.json).as_bytes())
        }
        None => hasher.update(content),
    };
    let digest = hasher.finalize().to_hex();
    let digest = digest.get(..32).unwrap_or_default();
    HeaderValue::try_from(format!("\"{digest}\"")).expect("digits are visible")
}

/// When the document was changed. Of a list nothing is known that way: a document that was taken out
/// of it leaves no date.
fn modified(wanted: &config::Document, found: &Found) -> Option<HeaderValue> {
    let Found::One(Some(document)) = found else { return None };
    match at(document, wanted.modified.as_ref()?)? {
        RawBsonRef::DateTime(date) => {
            // Years that an HTTP date can write, and no later than the documents' clock can be right.
            let seconds = u64::try_from(date.timestamp_millis()).ok()? / 1000;
            let is_writable = seconds < 253_402_300_800;
            let time = is_writable.then(|| date.to_system_time())?;
            HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
        }
        _ => None,
    }
}

/// A field by its path.
fn at<'a>(document: &'a RawDocument, path: &str) -> Option<RawBsonRef<'a>> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let value = document.get(name).ok()??;
    match rest {
        None => Some(value),
        Some(rest) => at(value.as_document()?, rest),
    }
}

/// The tags of a response: of everything, its database and its collection; of each document by its `_id`, shown or wanted; and,
/// where it depends on which documents there are, that of any change in the collection.
fn tags(wanted: &config::Document, label: &str, filter: &Document, found: &Found) -> String {
    let asked = match filter.get("_id") {
        Some(Bson::Document(_) | Bson::Array(_)) | None => None,
        Some(id) => Some(id_of(id.clone())),
    };
    let depends_on_all = asked.is_none();
    let shown = found.all().iter().map(|document| {
        let id = document.get("_id").ok().flatten();
        id.and_then(|id| Bson::try_from(id).ok()).map(id_of)
    });
    let mut ids: Vec<String> = asked.into_iter().chain(shown.flatten()).collect();
    ids.dedup();
    let mut tags = [EVERYTHING, &database_label(&wanted.database), label].join(" ");
    let mut is_whole = true;
    for id in ids {
        let tag = format!("{label}:{id}");
        if tag.len() > LONGEST_TAG || tags.len() + tag.len() > LONGEST_TAGS {
            is_whole = false;
            break;
        }
        tags.push(' ');
        tags.push_str(&tag);
    }
    if depends_on_all || !is_whole {
        tags.extend([" ", label, ":*"]);
    }
    tags
}

/// As plain JSON has it, but for the quotes around a text.
fn plain(value: &Bson) -> Option<String> {
    let mut text = String::new();
    let value = RawBson::try_from(value.clone()).ok()?;
    json::value(&mut text, value.as_raw_bson_ref(), json::Form::Plain).ok()?;
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Some(inner.map_or_else(|| text.clone(), str::to_owned))
}

/// A whole number without a point, and minus zero as zero, which it is equal to.
fn double(number: f64) -> String {
    match number {
        // As decimals have them.
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ if number.is_nan() => "NaN".to_owned(),
        _ if number.fract() == 0.0 => format!("{:.0}", number + 0.0),
        _ => plain(&Bson::Double(number)).unwrap_or_default(),
    }
}

/// A decimal as an integer or a double that is equal to it: `7` for `7.0`, `1000` for `1E+3`.
fn decimal(number: &Decimal128) -> String {
    let text = number.to_string();
    let (mantissa, power) = text.split_once('E').unwrap_or((text.as_str(), "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |it| ("-", it));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    let shown = digits.trim_end_matches('0');
    // It is `shown` times ten to this power.
    let power = power.parse::<isize>().unwrap_or_default() - fraction.len().cast_signed()
        + (digits.len() - shown.len()).cast_signed();
    match usize::try_from(power) {
        // It may not be a number at all.
        _ if !shown.bytes().all(|it| it.is_ascii_digit()) => text,
        _ if shown.is_empty() => "0".to_owned(),
        Ok(zeros) if zeros <= MOST_ZEROS => format!("{sign}{shown}{}", "0".repeat(zeros)),
        Ok(zeros) => format!("{sign}{shown}E{zeros}"),
        // Also that which no double is, as the nearest one.
        Err(_) => text.parse::<f64>().map_or_else(|_| text, double),
    }
}

/// How an `_id` is written in a tag: as plain JSON has it, without quotes. Two that are equal but for
/// their type share a tag, which is to invalidate too much and never too little.
pub fn id_of(id: Bson) -> String {
    let text = match id {
        Bson::String(text) | Bson::Symbol(text) => text,
        Bson::Double(number) => double(number),
        Bson::Decimal128(number) => decimal(&number),
        other => plain(&other).unwrap_or_else(|| other.to_string()),
    };
    utf8_percent_encode(&text, ESCAPED).to_string()
}
