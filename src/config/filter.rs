//! What `document` looks for: a filter, and where in a request its values come from. And which
//! changes count, where nothing comes from a request.
//!
//! What a request says only ever becomes a *value*, of the type that is written here. Operators are
//! what the file says, never what a request does; those that take code, patterns or expressions, in
//! which a value could become more than that, are not to be had.

use toml::de::DeValue;

use super::document::field;
use super::fault::Wrong;
use super::reader::{Table, Value};
use super::{Place, nearest, shown};

/// Operators whose operand is a value.
const COMPARISONS: [&str; 7] = ["$eq", "$exists", "$gt", "$gte", "$lt", "$lte", "$ne"];
/// Those that want a list of values.
const OF_LISTS: [&str; 3] = ["$all", "$in", "$nin"];
/// Operators whose operand is a list of filters.
const COMBINATIONS: [&str; 3] = ["$and", "$nor", "$or"];

/// How deep a filter may be.
const DEEPEST: usize = 8;

/// A value in a filter, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// Fields or operators, each with its own.
    Table(Vec<(String, Operand)>),
    /// Several.
    List(Vec<Operand>),
    /// As it is written.
    Text(String),
    /// As it is written.
    Integer(i64),
    /// As it is written.
    Number(f64),
    /// As it is written.
    Boolean(bool),
    /// From the request.
    Slot(Slot),
}

/// Where a value of a request goes: `{id:objectid}`, `{?page:int=1}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Where it comes from.
    pub from: From,
    /// What it has to be.
    pub kind: Kind,
    /// What it is if the request has no such parameter. None: the request is refused then.
    pub default: Option<String>,
}

/// Which part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// What the path captured under this name.
    Capture(String),
    /// The query parameter of this name.
    Parameter(String),
}

/// A type of BSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `string`, the default.
    Text,
    /// `objectid`: 24 hexadecimal digits.
    ObjectId,
    /// `int`: a whole number of 64 bits, which equals one of 32 bits and a double of the same value.
    Integer,
    /// `number`: a double.
    Number,
    /// `bool`.
    Boolean,
    /// `date`: of RFC 3339, as `2026-11-26T10:00:00Z`.
    Date,
    /// `uuid`: of RFC 9562, as binary of subtype 4.
    Uuid,
}

pub(super) fn read(table: &mut Table<'_>, captures: &[String]) -> Option<Vec<(String, Operand)>> {
    let Some(value) = table.take("find") else {
        table.missing("find", "write find = { _id = \"{id}\" }, or find = {} for all documents");
        return None;
    };
    conditions(&value, Some(captures), DEEPEST)
}

/// A filter in which every value is as it is written.
pub(super) fn fixed(value: &Value<'_>) -> Option<Vec<(String, Operand)>> {
    conditions(value, None, DEEPEST)
}

/// The key that a filter stands under.
fn called(captures: Option<&[String]>) -> &'static str {
    if captures.is_some() { "find" } else { "match" }
}

/// A filter: fields and what is wanted of them, or filters combined.
fn conditions(
    value: &Value<'_>,
    captures: Option<&[String]>,
    depth: usize,
) -> Option<Vec<(String, Operand)>> {
    let example = if captures.is_some() { "_id = \"{id}\"" } else { "operationType = \"insert\"" };
    let mut table =
        value.inner_table(|| format!("write {} = {{ {example} }}", called(captures)))?;
    if depth == 0 {
        value.report(&format!("{} is more than {DEEPEST} tables deep", called(captures)), None);
        return None;
    }
    let mut all = Some(Vec::new());
    for (name, place, inner) in table.take_all() {
        let read = if COMBINATIONS.contains(&name) {
            filters(&inner, captures, depth)
        } else if name.starts_with('$') {
            operator(&table, place, (called(captures), name), COMBINATIONS);
            None
        } else if let Err(wrong) = field(name) {
            table.report(
                place,
                &format!("`{}` {}", shown::plain(name), wrong.complaint),
                wrong.hint,
            );
            None
        } else {
            operand(&inner, captures, depth - 1)
        };
        all = all.zip(read).map(|(mut all, operand)| {
            all.push((name.to_owned(), operand));
            all
        });
    }
    all
}

/// The operand of `$and`, `$or`, `$nor`.
fn filters(value: &Value<'_>, captures: Option<&[String]>, depth: usize) -> Option<Operand> {
    let elements = value.list(|| "write a list of tables, each a filter".to_owned())?;
    let filters = elements
        .iter()
        .map(|element| conditions(element, captures, depth - 1).map(Operand::Table))
        .collect::<Vec<_>>();
    filters.into_iter().collect::<Option<_>>().map(Operand::List)
}

/// What is wanted of a field: a value that it has to equal, or a table of comparisons.
fn operand(value: &Value<'_>, captures: Option<&[String]>, depth: usize) -> Option<Operand> {
    if !matches!(value.content, DeValue::Table(_)) {
        return scalar(value, captures);
    }
    if depth == 0 {
        value.report(&format!("{} is more than {DEEPEST} tables deep", called(captures)), None);
        return None;
    }
    let mut table = value.inner_table(String::new)?;
    let entries = table.take_all();
    if entries.is_empty() {
        let hint = "write an operator, as in { \"$gt\" = 5 }".to_owned();
        value.report("the table is empty, which no field is", Some(hint));
        return None;
    }
    let mut all = Some(Vec::new());
    for (name, place, inner) in entries {
        let read = match name {
            "$elemMatch" => conditions(&inner, captures, depth - 1).map(Operand::Table),
            "$not" if !matches!(inner.content, DeValue::Table(_)) => {
                inner.not_a("a table", Some("write \"$not\" = { \"$gt\" = 5 }".to_owned()))
            }
            "$not" => operand(&inner, captures, depth - 1),
            _ if OF_LISTS.contains(&name) => {
                inner.list(|| format!("write \"{name}\" = [\"…\"]")).and_then(|elements| {
                    let all: Vec<_> =
                        elements.iter().map(|element| scalar(element, captures)).collect();
                    all.into_iter().collect::<Option<_>>().map(Operand::List)
                })
            }
            _ if COMPARISONS.contains(&name) => scalar(&inner, captures),
            _ => {
                let others = OF_LISTS.into_iter().chain(["$elemMatch", "$not"]);
                operator(
                    &table,
                    place,
                    (called(captures), name),
                    COMPARISONS.into_iter().chain(others),
                );
                None
            }
        };
        all = all.zip(read).map(|(mut all, operand)| {
            all.push((name.to_owned(), operand));
            all
        });
    }
    all.map(Operand::Table)
}

/// Reports a name that is no operator that may stand here.
fn operator(
    table: &Table<'_>,
    place: Place,
    (key, name): (&str, &str),
    known: impl IntoIterator<Item = &'static str> + Clone,
) {
    let hint = if name.starts_with('$') {
        nearest::hint(name, "operators", known)
    } else {
        Some("write the path of a nested field with dots: \"address.city\"".to_owned())
    };
    let message = format!("`{}` is not an operator that {key} takes here", shown::plain(name));
    table.report(place, &message, hint);
}

fn scalar(value: &Value<'_>, captures: Option<&[String]>) -> Option<Operand> {
    match value.content {
        DeValue::Integer(number) => {
            let parsed =
                i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok();
            if parsed.is_none() {
                value.wrong(&number.to_string(), Wrong::new("does not fit in 64 bits"));
            }
            parsed.map(Operand::Integer)
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().replace('_', "").parse().ok();
            let parsed = parsed.filter(|number: &f64| number.is_finite());
            if parsed.is_none() {
                value.wrong(number.as_str(), Wrong::new("is no number that a field has"));
            }
            parsed.map(Operand::Number)
        }
        DeValue::Boolean(is_so) => Some(Operand::Boolean(*is_so)),
        DeValue::String(_) => value.read(|text| text_or_slot(text, captures)),
        _ => value.not_a("a value", Some("write a string, a number or a boolean".to_owned())),
    }
}

fn text_or_slot(text: &str, captures: Option<&[String]>) -> Result<Operand, Wrong> {
    match captures {
        _ if !text.contains(['{', '}']) => Ok(Operand::Text(text.to_owned())),
        Some(captures) => slot(text, captures).map(Operand::Slot),
        None => Err(Wrong::new("has braces, and there is no request to fill them in from")),
    }
}

/// `{name}`, `{name:kind}`, `{?name}`, `{?name:kind=default}`.
pub(super) fn slot(text: &str, captures: &[String]) -> Result<Slot, Wrong> {
    const SHAPE: &str =
        "write one of {id}, {id:objectid}, {?page:int}, {?page:int=1} as the whole value";

    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let inner = inner.filter(|inner| !inner.contains(['{', '}']));
    let Some(inner) = inner else {
        return Err(Wrong::new("has braces that are not around the whole of it").with_hint(SHAPE));
    };
    let (inner, default) = match inner.split_once('=') {
        Some((inner, default)) => (inner, Some(default.to_owned())),
        None => (inner, None),
    };
    let (name, kind) = match inner.split_once(':') {
        Some((name, kind)) => (name, self::kind(kind)?),
        None => (inner, Kind::Text),
    };
    let from = match name.strip_prefix('?') {
        Some(name) if !name.is_empty() && name.len() <= 256 => From::Parameter(name.to_owned()),
        Some(_) => return Err(Wrong::new("names no query parameter").with_hint(SHAPE)),
        None if default.is_some() => {
            return Err(Wrong::new("has a default, and what a path captures is always there")
                .with_hint(format!("write {{{inner}}}")));
        }
        None if captures.iter().any(|capture| capture == name) => From::Capture(name.to_owned()),
        None => {
            let names = captures.iter().map(String::as_str);
            let hint = nearest::hint(name, "captured", names)
                .unwrap_or_else(|| format!("write {{{name}}} in the path as well"));
            return Err(Wrong::new("is not captured by the path").with_hint(hint));
        }
    };
    if let Some(default) = &default {
        let holds = match kind {
            // Of a request `+1` is not taken, either.
            Kind::Integer => !default.starts_with('+') && default.parse::<i64>().is_ok(),
            Kind::Number => default.parse::<f64>().is_ok_and(f64::is_finite),
            Kind::Boolean => matches!(&**default, "true" | "false"),
            Kind::ObjectId => {
                default.len() == 24 && default.bytes().all(|octet| octet.is_ascii_hexdigit())
            }
            Kind::Text => true,
            // What a request gives is read the same way, where the formats are known.
            Kind::Date | Kind::Uuid => false,
        };
        if !holds {
            return Err(Wrong::new("has a default of another type, or of one that has none"));
        }
    }
    Ok(Slot { from, kind, default })
}

fn kind(text: &str) -> Result<Kind, Wrong> {
    const KINDS: [(&str, Kind); 7] = [
        ("string", Kind::Text),
        ("objectid", Kind::ObjectId),
        ("int", Kind::Integer),
        ("number", Kind::Number),
        ("bool", Kind::Boolean),
        ("date", Kind::Date),
        ("uuid", Kind::Uuid),
    ];
    let found = KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
    found.ok_or_else(|| {
        let names = KINDS.iter().map(|(name, _)| *name);
        let hint = nearest::hint(text, "types", names);
        let wrong = Wrong::new(format!("has `{}`, which is no type", shown::plain(text)));
        match hint {
            Some(hint) => wrong.with_hint(hint),
            None => wrong,
        }
    })
}
