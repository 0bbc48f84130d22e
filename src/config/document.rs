//! `document` of a route: which documents of a MongoDB collection answer it, and how they look.

use std::time::Duration;

use http::Method;

use super::fault::Wrong;
use super::filter::{self, Kind, Operand, Slot};
use super::reader::{Table, Value};
use super::sections::{DAY, MILLISECOND, SECOND};
use super::{amount, nearest, shown, value};

/// How many documents `skip` may leave out: the server reads each of them.
pub const MOST_SKIPPED: i64 = 1_000_000;

/// `document`.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// `mongodb`: its place in [`Config::mongodbs`](super::Config::mongodbs).
    pub mongodb: usize,
    /// `database`.
    pub database: String,
    /// `collection`.
    pub collection: String,
    /// `find`: a condition per field, each an [`Operand`].
    pub find: Vec<(String, Operand)>,
    /// `projection`: fields, and whether they are shown or left out; empty shows all. `_id` may be
    /// left out beside fields that are shown.
    pub projection: Vec<(String, bool)>,
    /// `sort`: fields, and whether the largest comes first.
    pub sort: Vec<(String, bool)>,
    /// `many`, default false: a list of all documents found rather than the first one.
    pub many: bool,
    /// `limit`: how many documents `many` shows, default 100, 1 to 500.
    pub limit: u16,
    /// `skip`: how many it leaves out before them.
    pub skip: Option<Slot>,
    /// `version`: the field whose value is the entity tag. None: a digest of what is sent.
    pub version: Option<String>,
    /// `modified`: the field with the date of the last change.
    pub modified: Option<String>,
    /// `json`, default `plain`.
    pub json: Json,
    /// `max_time` that the server may take, default 5 s, 1 ms to 1 h.
    pub max_time: Duration,
    /// `missing_ttl`: how long it is remembered that nothing was found, default 5 s, 0 to 1 day, in whole
    /// seconds.
    pub missing_ttl: Duration,
}

/// How documents are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Json {
    /// `plain`: an `ObjectId` as its digits, a date as in RFC 3339, numbers as numbers.
    #[default]
    Plain,
    /// `relaxed`: Extended JSON v2, with numbers as numbers.
    Relaxed,
    /// `canonical`: Extended JSON v2, which says the type of everything.
    Canonical,
}

/// All tables `[mongodb.NAME]` by name, and those that are right as well.
pub(super) struct Known<'a> {
    pub(super) names: Vec<String>,
    pub(super) valid: Vec<&'a str>,
}

/// What the table says. `captures` are the names that the route's path has. None if it cannot be said
/// where to look.
pub(super) fn read(
    value: &Value<'_>,
    label: &str,
    captures: &[String],
    known: &Known<'_>,
) -> Option<Document> {
    const SHAPE: &str = "write document = { mongodb = \"NAME\", database = \"…\", collection = \"…\", find = { _id = \"{id}\" } }";

    let mut table = value.table(&format!("{label}, document"), || SHAPE.to_owned())?;
    let mongodb = mongodb(&mut table, known);
    let database = named(&mut table, "database", database);
    let collection = named(&mut table, "collection", collection);
    let find = filter::read(&mut table, captures);
    let many = table.boolean("many", false);
    let limit = table.take("limit");
    let skip = table.take("skip");
    for only_many in [&limit, &skip].into_iter().flatten().filter(|_| !many) {
        let hint = "write many = true, or leave it out".to_owned();
        only_many.report("limit and skip are for a list of documents", Some(hint));
    }
    let [version, modified, missing] =
        ["version", "modified", "missing_ttl"].map(|key| table.take(key));
    for only_one in [&version, &modified, &missing].into_iter().flatten().filter(|_| many) {
        let message = "version, modified and missing_ttl are for a single document";
        only_one.report(message, Some("leave it out, or many = true".to_owned()));
    }
    let projection = projection(&mut table);
    let document = Document {
        mongodb: mongodb.unwrap_or_default(),
        database: database.clone().unwrap_or_default(),
        collection: collection.clone().unwrap_or_default(),
        find: find.clone().unwrap_or_default(),
        sort: signed(&mut table, "sort", "write sort = [\"-created\"] for the newest first"),
        many,
        limit: limit
            .and_then(|value| value.count(1..=500))
            .map_or(100, |limit| u16::try_from(limit).expect("the bound is below")),
        skip: skip.and_then(|value| self::skip(&value, captures)),
        version: version.and_then(|value| shown_field(&value, &projection)),
        modified: modified.and_then(|value| shown_field(&value, &projection)),
        projection,
        json: table.read("json", Json::default(), json),
        max_time: table.duration("max_time", 5 * SECOND, MILLISECOND..=Duration::from_hours(1)),
        missing_ttl: missing.and_then(|value| missing_ttl(&value)).unwrap_or(5 * SECOND),
    };
    table.finish();
    (mongodb.is_some() && database.is_some() && collection.is_some() && find.is_some())
        .then_some(document)
}

/// One of the methods by which documents are read, or purged.
pub(super) fn method(text: &str) -> Result<Method, Wrong> {
    let method = value::method(text)?;
    let is_answered = matches!(method.as_str(), "GET" | "HEAD" | "PURGE" | "SOFTPURGE");
    is_answered.then_some(method).ok_or_else(|| {
        Wrong::new("is none by which documents are read")
            .with_hint("leave it out, or write it for a route with an upstream")
    })
}

pub(super) fn mongodb(table: &mut Table<'_>, known: &Known<'_>) -> Option<usize> {
    let Some(value) = table.take("mongodb") else {
        let example = known.names.first().map_or("NAME", |name| name);
        table.missing("mongodb", format!("write mongodb = \"{example}\""));
        return None;
    };
    let name = value.text()?;
    if !known.names.contains(&name) {
        let names = known.names.iter().map(String::as_str);
        let hint = nearest::hint(&name, "known mongodb", names)
            .unwrap_or_else(|| "add a table `[mongodb.NAME]` with `uri`".to_owned());
        value.report(&format!("unknown mongodb `{}`", shown::plain(&name)), Some(hint));
    }
    known.valid.iter().position(|it| *it == name)
}

fn named(
    table: &mut Table<'_>,
    key: &'static str,
    parse: fn(&str) -> Result<String, Wrong>,
) -> Option<String> {
    let value = table.take(key);
    if value.is_none() {
        table.missing(key, format!("write {key} = \"NAME\""));
    }
    value?.read(parse)
}

/// What MongoDB takes as the name of a database, on every system.
pub(super) fn database(text: &str) -> Result<String, Wrong> {
    let is_name = (1..64).contains(&text.len())
        && !text.contains(['/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?', '\0']);
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        Wrong::new("is not the name of a database")
            .with_hint("write at most 63 octets without any of /\\. \"$*<>:|?")
    })
}

/// What MongoDB takes as the name of a collection.
pub(super) fn collection(text: &str) -> Result<String, Wrong> {
    let is_name = (1..=200).contains(&text.len())
        && !text.contains(['$', '\0'])
        && !text.starts_with("system.");
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        Wrong::new("is not the name of a collection")
            .with_hint("write at most 200 octets without `$`, and not one of `system.`")
    })
}

pub(super) fn field(text: &str) -> Result<String, Wrong> {
    let is_path = text.len() <= 256
        && text.split('.').all(|step| !step.is_empty() && !step.starts_with('$'))
        && !text.contains('\0');
    is_path.then(|| text.to_owned()).ok_or_else(|| {
        Wrong::new("is not a field").with_hint("write a name, or names with dots between them")
    })
}

/// A field that the server sends.
fn shown_field(value: &Value<'_>, projection: &[(String, bool)]) -> Option<String> {
    let name = value.read(field)?;
    if !is_sent(&name, projection) {
        let wrong = Wrong::new("is a field that projection does not show");
        value.wrong(&name, wrong.with_hint("show it, or leave this out"));
    }
    Some(name)
}

/// Whether something of a field is sent. `_id` always is, shown or not.
fn is_sent(name: &str, projection: &[(String, bool)]) -> bool {
    let is_within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut fields = projection.iter().filter(|(field, is_shown)| field != "_id" || *is_shown);
    let Some((_, shows)) = fields.clone().next() else { return true };
    if *shows {
        is_within(name, "_id")
            || fields.any(|(field, _)| is_within(name, field) || is_within(field, name))
    } else {
        !fields.any(|(field, _)| is_within(name, field))
    }
}

/// As `max-age` says it: in whole seconds.
fn missing_ttl(value: &Value<'_>) -> Option<Duration> {
    let ttl = value.duration(Duration::ZERO..=DAY)?;
    if ttl.subsec_nanos() > 0 {
        let wrong = Wrong::new("is no whole number of seconds");
        let wrong = wrong.with_hint("write \"1s\", or \"0s\" for none");
        value.wrong(&amount::show_duration(ttl), wrong);
    }
    Some(ttl)
}

fn json(text: &str) -> Result<Json, Wrong> {
    match text {
        "plain" => Ok(Json::Plain),
        "relaxed" => Ok(Json::Relaxed),
        "canonical" => Ok(Json::Canonical),
        _ => Err(Wrong::new("is no form of JSON")
            .with_hint("write \"plain\", \"relaxed\" or \"canonical\"")),
    }
}

fn skip(value: &Value<'_>, captures: &[String]) -> Option<Slot> {
    value.read(|text| {
        let slot = filter::slot(text, captures)?;
        if slot.kind != Kind::Integer {
            return Err(Wrong::new("is not a whole number").with_hint("write \"{?skip:int=0}\""));
        }
        let is_few = |text: &str| {
            text.parse::<i64>().is_ok_and(|number| (0..=MOST_SKIPPED).contains(&number))
        };
        if slot.default.as_deref().is_some_and(|default| !is_few(default)) {
            let wrong = Wrong::new(format!("has a default that is not from 0 to {MOST_SKIPPED}"));
            return Err(wrong.with_hint("write \"{?skip:int=0}\""));
        }
        Ok(slot)
    })
}

/// All to be shown, or all to be left out, `_id` aside.
fn projection(table: &mut Table<'_>) -> Vec<(String, bool)> {
    const HINT: &str =
        "write projection = [\"name\", \"email\"], or [\"-password\"] to leave one out";

    let place = table.place_of("projection");
    let fields = signed(table, "projection", HINT);
    let fields: Vec<_> = fields.into_iter().map(|(name, minus)| (name, !minus)).collect();
    let mut others = fields.iter().filter(|(name, shown)| name != "_id" || *shown);
    let first = others.next().map(|(_, shown)| *shown);
    if let (Some(first), Some(place)) = (first, place)
        && others.any(|(_, shown)| *shown != first)
    {
        let message = "projection both shows fields and leaves some out";
        table.report(place, message, Some("name what is shown, or what is left out".to_owned()));
    }
    fields
}

/// Names of fields, and whether a minus stands before each.
fn signed(table: &mut Table<'_>, key: &'static str, hint: &str) -> Vec<(String, bool)> {
    const MOST: usize = 64;

    let Some(value) = table.take(key) else { return Vec::new() };
    let Some(elements) = value.list(|| hint.to_owned()) else { return Vec::new() };
    if elements.len() > MOST {
        value.report(&format!("{key} names more than {MOST} fields"), None);
    }
    let mut fields: Vec<(String, bool)> = Vec::new();
    for element in &elements {
        let read = element.read(|text| match text.strip_prefix('-') {
            Some(name) => field(name).map(|name| (name, true)),
            None => field(text).map(|name| (name, false)),
        });
        let Some((name, minus)) = read else { continue };
        if fields.iter().any(|(other, _)| *other == name) {
            element.wrong(&name, Wrong::new("is named twice").with_hint("leave one of them out"));
        } else {
            fields.push((name, minus));
        }
    }
    fields
}
