//! What a request says, as a typed query. Nothing of a request becomes an operator or a field's name:
//! each part of it is one BSON value of the type that the route wants, or the request is refused.

use std::borrow::Cow;
use std::fmt;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, Uuid};
use percent_encoding::percent_decode_str;

use crate::config::{self, From, Kind, MOST_SKIPPED, Operand, Slot};

/// What a request brings.
pub(super) struct Given<'a> {
    /// As they stand in the path.
    pub(super) captures: &'a [(&'a str, &'a str)],
    pub(super) query: &'a str,
}

/// What a server is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    pub(super) filter: Document,
    pub(super) skip: u64,
}

/// A request has not what the route wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Of a part of the path or a parameter.
    pub(super) name: String,
    pub(super) why: Why,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Why {
    Missing,
    Repeated,
    NotUtf8,
    NotA(Kind),
    /// Not so many can be left out.
    NotSkipped,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Missing => "is missing",
            Why::Repeated => "is given more than once",
            Why::NotUtf8 => "is not UTF-8",
            Why::NotA(Kind::Text) => "is no string",
            Why::NotA(Kind::ObjectId) => "is not 24 hexadecimal digits",
            Why::NotA(Kind::Integer) => "is not a whole number of 64 bits",
            Why::NotA(Kind::Number) => "is not a number",
            Why::NotA(Kind::Boolean) => "is neither `true` nor `false`",
            Why::NotA(Kind::Date) => "is not a date of RFC 3339",
            Why::NotA(Kind::Uuid) => "is not a UUID",
            Why::NotSkipped => {
                return write!(f, "`{}` is not from 0 to {MOST_SKIPPED}", self.name);
            }
        };
        write!(f, "`{}` {why}", self.name)
    }
}

/// What to ask a server for, on behalf of a request.
pub(super) fn query(wanted: &config::Document, given: &Given<'_>) -> Result<Query, Refused> {
    let filter = table(&wanted.find, given)?;
    let skip = match &wanted.skip {
        Some(slot) => skip(slot, given)?,
        None => 0,
    };
    Ok(Query { filter, skip })
}

pub(super) fn table(entries: &[(String, Operand)], given: &Given<'_>) -> Result<Document, Refused> {
    entries.iter().map(|(name, operand)| Ok((name.clone(), bson(operand, given)?))).collect()
}

fn bson(operand: &Operand, given: &Given<'_>) -> Result<Bson, Refused> {
    Ok(match operand {
        Operand::Table(entries) => Bson::Document(table(entries, given)?),
        Operand::List(all) => {
            Bson::Array(all.iter().map(|one| bson(one, given)).collect::<Result<_, _>>()?)
        }
        Operand::Text(text) => Bson::String(text.clone()),
        Operand::Integer(number) => Bson::Int64(*number),
        Operand::Number(number) => Bson::Double(*number),
        Operand::Boolean(is_so) => Bson::Boolean(*is_so),
        Operand::Slot(slot) => value(slot, given)?,
    })
}

fn skip(slot: &Slot, given: &Given<'_>) -> Result<u64, Refused> {
    let number = match value(slot, given)? {
        Bson::Int64(number) if number <= MOST_SKIPPED => u64::try_from(number).ok(),
        _ => None,
    };
    number.ok_or_else(|| Refused { name: name(slot).to_owned(), why: Why::NotSkipped })
}

fn name(slot: &Slot) -> &str {
    match &slot.from {
        From::Capture(name) | From::Parameter(name) => name,
    }
}

fn value(slot: &Slot, given: &Given<'_>) -> Result<Bson, Refused> {
    let refused = |why| Refused { name: name(slot).to_owned(), why };
    let text = match &slot.from {
        From::Capture(name) => {
            let found = given.captures.iter().find(|(known, _)| known == name);
            let (_, raw) = found.ok_or_else(|| refused(Why::Missing))?;
            percent_decode_str(raw).decode_utf8().map_err(|_| refused(Why::NotUtf8))?
        }
        From::Parameter(name) => {
            match (parameter(given.query, name).map_err(refused)?, &slot.default) {
                (Some(text), _) => text.into(),
                (None, Some(default)) => Cow::Borrowed(default.as_str()),
                (None, None) => return Err(refused(Why::Missing)),
            }
        }
    };
    typed(slot.kind, &text).ok_or_else(|| refused(Why::NotA(slot.kind)))
}

/// The one parameter of this name, decoded as a form is. Which of several counts would be a guess.
fn parameter(query: &str, name: &str) -> Result<Option<String>, Why> {
    let mut found = None;
    for pair in query.split('&') {
        let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
        if form_decoded(known).as_deref() != Some(name) {
            continue;
        }
        if found.is_some() {
            return Err(Why::Repeated);
        }
        found = Some(form_decoded(value).ok_or(Why::NotUtf8)?);
    }
    Ok(found)
}

fn form_decoded(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

/// A text as a value of a type, if it is one.
fn typed(kind: Kind, text: &str) -> Option<Bson> {
    Some(match kind {
        Kind::Text => Bson::String(text.to_owned()),
        Kind::ObjectId => Bson::ObjectId(ObjectId::parse_str(text).ok()?),
        // `+1` is no other way to say 1.
        Kind::Integer if text.starts_with('+') => return None,
        Kind::Integer => Bson::Int64(text.parse().ok()?),
        Kind::Number => {
            let is_plain = text.bytes().all(|octet| b"0123456789.eE+-".contains(&octet));
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            Bson::Double(number.filter(|_| is_plain)?)
        }
        Kind::Boolean => Bson::Boolean(text.parse().ok()?),
        Kind::Date => Bson::DateTime(DateTime::parse_rfc3339_str(text).ok()?),
        Kind::Uuid => Bson::Binary(Uuid::parse_str(text).ok()?.into()),
    })
}
