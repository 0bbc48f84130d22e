//! A record of the shared log, as it lies in the Redis stream: an invalidation as fields with
//! texts, so that an operator can read the log with `XRANGE larder:log - +`.
//!
//! `k` is `mark`, `pattern` or `all`; `v` a mark in hexadecimal, or a pattern; `label` what the mark
//! stands for; `soft` 0 or 1. `shared_log` adds `by`, the gateway that appended it, and `cause`, for people:
//! `write`, `purge`, `change` or `trouble`; `purge` to the
//! last record of an operator's purge, for which gateways give a receipt (see `fleet`); and `made` to the last
//! one of changes of documents, which says when that was.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{FromRedisValue, Value};

use crate::store::log::{Invalidation, Scope};
use crate::stored::Mark;

/// A label is cut after so many characters; a mark is told by its value.
pub const MAX_LABEL: usize = 256;

/// Why records are made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    /// Something was written, or nobody asks.
    Write,
    /// An operator wants receipts.
    Purge,
    /// Documents changed, the last one at this time: milliseconds since 1970.
    Change(u64),
    /// Nobody knows what of the log was lost.
    Trouble,
    /// That is not known any more; but whether receipts are wanted.
    Unknown {
        /// They are.
        purge: bool,
    },
}

impl Cause {
    /// What every record says of it, for people. None: it is not known.
    pub(super) fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Write => Some("write"),
            Self::Purge => Some("purge"),
            Self::Change(_) => Some("change"),
            Self::Trouble => Some("trouble"),
            Self::Unknown { .. } => None,
        }
    }

    /// What the last record says of it.
    pub(super) fn field(self) -> Option<(&'static str, u64)> {
        match self {
            Self::Write | Self::Trouble | Self::Unknown { purge: false } => None,
            Self::Purge | Self::Unknown { purge: true } => Some(("purge", 1)),
            Self::Change(made) => Some(("made", made)),
        }
    }
}

/// The fields of the record, without `by`, `purge` and `made`.
pub(super) fn fields(record: &Invalidation) -> Vec<(&'static str, String)> {
    let soft = ("soft", u8::from(record.soft).to_string());
    match &record.scope {
        Scope::Mark { mark, label } => {
            let label = label.chars().take(MAX_LABEL).collect();
            vec![("k", "mark".to_owned()), ("v", hex(mark)), ("label", label), soft]
        }
        Scope::Pattern(pattern) => {
            vec![("k", "pattern".to_owned()), ("v", pattern.clone()), soft]
        }
        Scope::All => vec![("k", "all".to_owned()), soft],
    }
}

/// The invalidation that these fields tell. `None` if they tell none: damaged, or of a newer version.
pub(super) fn parse(fields: &HashMap<String, Value>) -> Option<Invalidation> {
    let soft = match &*text(fields, "soft")? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let scope = match &*text(fields, "k")? {
        "mark" => Scope::Mark {
            mark: unhex(&text(fields, "v")?)?,
            label: text(fields, "label").unwrap_or_default(),
        },
        "pattern" => Scope::Pattern(text(fields, "v")?),
        "all" => Scope::All,
        _ => return None,
    };
    Some(Invalidation { scope, soft })
}

/// Whether gateways give a receipt for the record.
pub(super) fn is_purge(fields: &HashMap<String, Value>) -> bool {
    fields.contains_key("purge")
}

/// When the document changed that the record is about, in milliseconds since 1970.
pub(super) fn made(fields: &HashMap<String, Value>) -> Option<u64> {
    text(fields, "made")?.parse().ok()
}

/// Why there is a record, and which gateway has appended it, for people.
pub(super) fn told(fields: &HashMap<String, Value>) -> (Option<String>, Option<Arc<str>>) {
    (text(fields, "cause"), text(fields, "by").map(Arc::from))
}

/// The record as octets, for a log that is no stream.
pub(super) fn pack(record: &Invalidation) -> Vec<u8> {
    // Texts always have a form; no octets are an unreadable record.
    postcard::to_stdvec(&fields(record)).unwrap_or_default()
}

/// What [`pack`] packed.
pub(super) fn unpack(octets: &[u8]) -> Option<Invalidation> {
    let fields: Vec<(String, String)> = postcard::from_bytes(octets).ok()?;
    let value = |text: String| Value::BulkString(text.into_bytes());
    parse(&fields.into_iter().map(|(name, text)| (name, value(text))).collect())
}

/// The text of one field, if there is such a field and it is text.
pub(super) fn text(fields: &HashMap<String, Value>, name: &str) -> Option<String> {
    String::from_redis_value_ref(fields.get(name)?).ok()
}

fn hex(mark: &Mark) -> String {
    format!("{:032x}", u128::from_be_bytes(mark.0))
}

fn unhex(text: &str) -> Option<Mark> {
    // The length and no sign: one spelling for each mark.
    let is_hex = text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
    Some(Mark(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(fields: &[(&str, &str)]) -> HashMap<String, Value> {
        let value = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        fields.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let label = "tag `caf\u{e9}`".to_owned();
        for scope in [
            Scope::Mark { mark: Mark::tag("catalogue", "prices"), label },
            Scope::Mark { mark: Mark([0; 16]), label: String::new() },
            Scope::Pattern("users/*".to_owned()),
            Scope::All,
        ] {
            for soft in [false, true] {
                let record = Invalidation { scope: scope.clone(), soft };
                let fields = fields(&record);
                let fields: Vec<_> = fields.iter().map(|(name, text)| (*name, &**text)).collect();
                assert_eq!(parse(&received(&fields)).as_ref(), Some(&record));
                assert_eq!(unpack(&pack(&record)), Some(record));
            }
        }
    }

    #[test]
    fn anything_else_is_no_record() {
        for fields in [
            &[][..],
            &[("k", "all")],
            &[("k", "all"), ("soft", "2")],
            &[("k", "glob"), ("v", "a"), ("soft", "0")],
            &[("k", "pattern"), ("soft", "0")],
            &[("k", "mark"), ("v", "12"), ("soft", "0")],
            &[("k", "mark"), ("v", "+0000000000000000000000000000000"), ("soft", "0")],
        ] {
            assert_eq!(parse(&received(fields)), None, "{fields:?}");
        }
    }
}
