//! Documents as JSON, straight from the octets that a server sent.
//!
//! Plain JSON is what an API would answer with; the two forms of Extended JSON are those of version 2
//! of its specification, which tell types apart. Policies are shown a third one. Fields keep their order.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::raw::{RawArray, RawBinaryRef, RawBsonRef, RawDocument};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{DateTime, Uuid};

use crate::config::Json;

pub(super) use mongodb::bson::error::Error as Damaged;

/// The milliseconds since 1970 of the years 0 to 9999, which RFC 3339 can write.
const WRITABLE: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As [`Json::Plain`].
    Plain,
    /// As [`Json::Relaxed`].
    Relaxed,
    /// As [`Json::Canonical`].
    Canonical,
    /// For policies: relaxed, and a UUID as `$uuid`, which holds a text as `$oid` and `$date` do.
    ForPolicies,
}

impl From<Json> for Form {
    fn from(json: Json) -> Self {
        match json {
            Json::Plain => Self::Plain,
            Json::Relaxed => Self::Relaxed,
            Json::Canonical => Self::Canonical,
        }
    }
}

/// Writes a document as a JSON object, with its `_id` or without.
pub(super) fn document(
    out: &mut String,
    document: &RawDocument,
    form: Form,
    with_id: bool,
) -> Result<(), Damaged> {
    out.push('{');
    let mut is_first = true;
    for element in document {
        let (name, value) = element?;
        if !with_id && name.as_str() == "_id" {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
        string(out, name.as_str());
        out.push(':');
        self::value(out, value, form)?;
    }
    out.push('}');
    Ok(())
}

fn object(out: &mut String, inner: &RawDocument, form: Form) -> Result<(), Damaged> {
    document(out, inner, form, true)
}

fn array(out: &mut String, array: &RawArray, form: Form) -> Result<(), Damaged> {
    out.push('[');
    for (place, element) in array.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        value(out, element?, form)?;
    }
    out.push(']');
    Ok(())
}

pub(super) fn value(out: &mut String, value: RawBsonRef<'_>, form: Form) -> Result<(), Damaged> {
    match value {
        RawBsonRef::Document(document) => object(out, document, form)?,
        RawBsonRef::Array(elements) => array(out, elements, form)?,
        RawBsonRef::String(text) => string(out, text),
        RawBsonRef::Boolean(is_so) => put(out, is_so),
        RawBsonRef::Null => out.push_str("null"),
        RawBsonRef::Int32(number) if form == Form::Canonical => {
            put(out, format_args!("{{\"$numberInt\":\"{number}\"}}"));
        }
        RawBsonRef::Int32(number) => put(out, number),
        RawBsonRef::Int64(number) if form == Form::Canonical => {
            put(out, format_args!("{{\"$numberLong\":\"{number}\"}}"));
        }
        RawBsonRef::Int64(number) => put(out, number),
        RawBsonRef::Double(number) => double(out, number, form),
        _ if form == Form::Plain => plain(out, value),
        _ => extended(out, value, form)?,
    }
    Ok(())
}

/// What JSON has no type for, as an API would show it.
fn plain(out: &mut String, value: RawBsonRef<'_>) {
    match value {
        RawBsonRef::ObjectId(id) => quoted(out, id.to_hex()),
        RawBsonRef::DateTime(date) => match date.try_to_rfc3339_string() {
            Ok(text) if WRITABLE.contains(&date.timestamp_millis()) => quoted(out, text),
            _ => put(out, date.timestamp_millis()),
        },
        RawBsonRef::Decimal128(number) => quoted(out, number),
        RawBsonRef::Binary(binary) => match uuid(binary.subtype, binary.bytes) {
            Some(uuid) => quoted(out, uuid),
            None => quoted(out, STANDARD.encode(binary.bytes)),
        },
        RawBsonRef::Timestamp(stamp) => {
            put(out, format_args!("{{\"t\":{},\"i\":{}}}", stamp.time, stamp.increment));
        }
        RawBsonRef::Symbol(text) => string(out, text),
        RawBsonRef::JavaScriptCode(code) => string(out, code),
        RawBsonRef::JavaScriptCodeWithScope(code) => string(out, code.code),
        RawBsonRef::RegularExpression(regex) => {
            string(out, &format!("/{}/{}", regex.pattern.as_str(), regex.options.as_str()));
        }
        _ => out.push_str("null"),
    }
}

/// What JSON has no type for, as Extended JSON has it.
fn extended(out: &mut String, value: RawBsonRef<'_>, form: Form) -> Result<(), Damaged> {
    match value {
        RawBsonRef::ObjectId(id) => put(out, format_args!("{{\"$oid\":\"{id}\"}}")),
        RawBsonRef::DateTime(date) => extended_date(out, date, form),
        RawBsonRef::Decimal128(number) => {
            put(out, format_args!("{{\"$numberDecimal\":\"{number}\"}}"));
        }
        RawBsonRef::Binary(binary) => extended_binary(out, binary, form),
        RawBsonRef::Timestamp(stamp) => put(
            out,
            format_args!("{{\"$timestamp\":{{\"t\":{},\"i\":{}}}}}", stamp.time, stamp.increment),
        ),
        RawBsonRef::Symbol(text) => named(out, "$symbol", text),
        RawBsonRef::JavaScriptCode(code) => named(out, "$code", code),
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            out.push_str("{\"$code\":");
            string(out, code.code);
            out.push_str(",\"$scope\":");
            object(out, code.scope, form)?;
            out.push('}');
        }
        RawBsonRef::RegularExpression(regex) => {
            out.push_str("{\"$regularExpression\":{\"pattern\":");
            string(out, regex.pattern.as_str());
            out.push_str(",\"options\":");
            string(out, regex.options.as_str());
            out.push_str("}}");
        }
        RawBsonRef::Undefined => out.push_str("{\"$undefined\":true}"),
        RawBsonRef::MinKey => out.push_str("{\"$minKey\":1}"),
        RawBsonRef::MaxKey => out.push_str("{\"$maxKey\":1}"),
        _ => out.push_str("null"),
    }
    Ok(())
}

fn extended_date(out: &mut String, date: DateTime, form: Form) {
    // Relaxed dates are texts from 1970 to 9999 only.
    let is_text =
        form != Form::Canonical && (0..=*WRITABLE.end()).contains(&date.timestamp_millis());
    match date.try_to_rfc3339_string() {
        Ok(text) if is_text => put(out, format_args!("{{\"$date\":\"{text}\"}}")),
        _ => {
            let milliseconds = date.timestamp_millis();
            put(out, format_args!("{{\"$date\":{{\"$numberLong\":\"{milliseconds}\"}}}}"));
        }
    }
}

fn extended_binary(out: &mut String, binary: RawBinaryRef<'_>, form: Form) {
    let uuid = uuid(binary.subtype, binary.bytes).filter(|_| form == Form::ForPolicies);
    if let Some(uuid) = uuid {
        return named(out, "$uuid", &uuid);
    }
    let (content, subtype) = (STANDARD.encode(binary.bytes), u8::from(binary.subtype));
    put(
        out,
        format_args!("{{\"$binary\":{{\"base64\":\"{content}\",\"subType\":\"{subtype:02x}\"}}}}"),
    );
}

fn double(out: &mut String, number: f64, form: Form) {
    let name = match number {
        _ if number.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ if form == Form::Canonical => {
            return put(out, format_args!("{{\"$numberDouble\":\"{number:?}\"}}"));
        }
        // `1.0` and not `1`: that it is a double can be seen.
        _ => return put(out, format_args!("{number:?}")),
    };
    if form == Form::Plain {
        out.push_str("null");
    } else {
        named(out, "$numberDouble", name);
    }
}

/// A UUID of RFC 9562; those of older drivers have an order of octets that only they know.
fn uuid(subtype: BinarySubtype, octets: &[u8]) -> Option<String> {
    if subtype != BinarySubtype::Uuid {
        return None;
    }
    Some(Uuid::from_bytes(octets.try_into().ok()?).to_string())
}

fn named(out: &mut String, name: &str, text: &str) {
    put(out, format_args!("{{\"{name}\":"));
    string(out, text);
    out.push('}');
}

/// A text that needs no escapes.
fn quoted(out: &mut String, text: impl std::fmt::Display) {
    put(out, format_args!("\"{text}\""));
}

fn put(out: &mut String, text: impl std::fmt::Display) {
    write!(out, "{text}").expect("a String takes everything");
}

/// A JSON string.
fn string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a text becomes a JSON string"));
}
