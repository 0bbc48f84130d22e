//! Requests, responses and changes of cases.

use http::header::{CONTENT_TYPE, COOKIE};
use http::uri::Uri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Number, Value as Json};
use toml::de::DeValue;

use super::{Change, Operation, Request, Response};
use crate::config::fault::Wrong;
use crate::config::reader::{Table, Value};
use crate::config::{nearest, value};

/// What a request looks like.
pub(super) const REQUEST: &str =
    "write request = \"/users/42\", or request = { url = \"/users/42\", fields = { x = \"1\" } }";

const OPERATIONS: [(&str, Operation); 5] = [
    ("insert", Operation::Insert),
    ("update", Operation::Update),
    ("replace", Operation::Replace),
    ("delete", Operation::Delete),
    ("drop", Operation::Drop),
];

/// A URL, or a table.
pub(super) fn request(value: &Value<'_>) -> Option<Request> {
    if let DeValue::String(_) = value.content {
        return value.read(target);
    }
    let mut table = value.table("request", || REQUEST.to_owned())?;
    let url = table.take("url");
    if url.is_none() {
        table.missing("url", REQUEST);
    }
    let target = url.and_then(|url| url.read(target));
    let request = Request {
        method: table.read("method", Method::GET, value::method),
        captures: pairs(&mut table, "captures"),
        fields: fields(&mut table),
        cookies: pairs(&mut table, "cookies"),
        claims: table.take("claims").and_then(|value| match json(&value)? {
            Json::Object(claims) => Some(claims),
            _ => value.not_a("a table", Some("write claims = { sub = \"42\" }".to_owned())),
        }),
        content: table.take("content").and_then(|value| value.text()).map(String::into_bytes),
        ..target.unwrap_or_else(nothing)
    };
    table.finish();
    Some(request)
}

/// `response`, or a 200 without anything.
pub(super) fn response(table: &mut Table<'_>) -> Option<Response> {
    let none = Response { status: StatusCode::OK, fields: HeaderMap::new(), content: None };
    let hint = || "write response = { status = 200, json = '{\"id\": 42}' }".to_owned();
    let Some(value) = table.take("response") else { return Some(none) };
    let mut table = value.table("response", hint)?;
    let status: u16 = table.count("status", 200, 200..=599);
    let mut fields = fields(&mut table);
    let content = table.take("content").and_then(|value| value.text());
    let json = table
        .take("json")
        .and_then(|value| value.read(|text| parsed(text).map(|_| text.to_owned())));
    if json.is_some() {
        let json = HeaderValue::from_static("application/json");
        fields.entry(CONTENT_TYPE).or_insert(json);
    }
    if json.is_some() && content.is_some() {
        table.report(table.place, "there are `json` and `content`", Some(hint()));
    }
    table.finish();
    let status = StatusCode::from_u16(status).unwrap_or(none.status);
    Some(Response { status, fields, content: json.or(content).map(String::into_bytes) })
}

/// A document's change.
pub(super) fn change(mut table: Table<'_>) -> Change {
    let names = OPERATIONS.map(|(name, _)| name);
    let operation = |text: &str| {
        let found = OPERATIONS.iter().find(|(name, _)| *name == text);
        found.map(|(_, operation)| *operation).ok_or_else(|| Wrong {
            complaint: "is no operation".to_owned(),
            hint: nearest::hint(text, "write one of", names),
        })
    };
    let name = |text: &str| Ok(text.to_owned());
    let mongodb = table.read("mongodb", "db".to_owned(), name);
    let database = table.read("database", "test".to_owned(), name);
    if !table.has("collection") {
        table.missing("collection", "write collection = \"users\"");
    }
    let collection = table.read("collection", String::new(), name);
    if !table.has("operation") {
        table.missing("operation", "write operation = \"update\"");
    }
    let operation = table.read("operation", Operation::Update, operation);
    let id = table.take("id").and_then(|value| json(&value)).map(|id| id.to_string());
    let mut document = |key| table.take(key).and_then(|value| document(&value));
    let (after, before) = (document("after"), document("before"));
    table.finish();
    let id = id.unwrap_or_default();
    Change { mongodb, database, collection, operation, id, after, before }
}

/// An array of strings, which may be empty.
pub(super) fn texts(value: &Value<'_>) -> Option<Vec<String>> {
    let DeValue::Array(elements) = value.content else {
        return value.not_a("an array", Some("write strings in brackets".to_owned()));
    };
    // Every element is read before the first fault counts, so that all are reported.
    let texts: Vec<_> = elements.iter().map(|element| value.element(element).text()).collect();
    texts.into_iter().collect()
}

fn nothing() -> Request {
    Request {
        method: Method::GET,
        scheme: "http".to_owned(),
        authority: "localhost".to_owned(),
        path: "/".to_owned(),
        query: None,
        captures: Vec::new(),
        fields: HeaderMap::new(),
        cookies: Vec::new(),
        claims: None,
        content: None,
    }
}

/// A request for this URL, or for this path and query.
fn target(text: &str) -> Result<Request, Wrong> {
    let wrong = |complaint: &str| {
        Wrong::new(complaint).with_hint("write a path such as \"/users?page=2\", or a whole URL")
    };
    let uri: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
    let mut request = nothing();
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if uri.path().starts_with('/') => (),
        (Some(scheme @ ("http" | "https")), Some(authority)) => {
            if authority.as_str().contains('@') {
                return Err(wrong("has a user in it"));
            }
            scheme.clone_into(&mut request.scheme);
            request.authority = authority.as_str().to_ascii_lowercase();
        }
        _ => return Err(wrong("is neither a path nor a URL of `http` or `https`")),
    }
    uri.path().clone_into(&mut request.path);
    request.query = uri.query().map(str::to_owned);
    Ok(request)
}

/// Names and strings, in the order of the file.
fn pairs(table: &mut Table<'_>, key: &'static str) -> Vec<(String, String)> {
    let hint = || format!("write {key} = {{ name = \"value\" }}");
    let inner = table.take(key).and_then(|value| value.table(key, hint));
    let Some(mut inner) = inner else { return Vec::new() };
    let pairs = inner.take_all().into_iter();
    pairs.filter_map(|(name, _, value)| Some((name.to_owned(), value.text()?))).collect()
}

/// Names and strings, or arrays of strings for several lines.
fn fields(table: &mut Table<'_>) -> HeaderMap {
    let hint = || "write fields = { \"accept-language\" = \"de\" }".to_owned();
    let mut fields = HeaderMap::new();
    let inner = table.take("fields").and_then(|value| value.table("fields", hint));
    let Some(mut inner) = inner else { return fields };
    for (name, place, value) in inner.take_all() {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            inner.report(place, "not the name of a field", Some(hint()));
            continue;
        };
        if name == COOKIE {
            let hint = "write cookies = { name = \"value\" } beside `fields`".to_owned();
            inner.report(place, "cookies have a table of their own", Some(hint));
            continue;
        }
        let line = |value: &Value<'_>| {
            value.read(|text| {
                HeaderValue::from_bytes(text.as_bytes())
                    .map_err(|_| Wrong::new("is no value of a field"))
            })
        };
        let lines: Vec<_> = match value.content {
            DeValue::Array(elements) => {
                elements.iter().filter_map(|element| line(&value.element(element))).collect()
            }
            _ => line(&value).into_iter().collect(),
        };
        for line in lines {
            fields.append(name.clone(), line);
        }
    }
    fields
}

/// JSON in a string, or a table.
fn document(value: &Value<'_>) -> Option<Json> {
    match value.content {
        DeValue::String(_) => value.read(parsed),
        _ => json(value),
    }
}

fn parsed(text: &str) -> Result<Json, Wrong> {
    serde_json::from_str(text).map_err(|error| Wrong::new(format!("is no JSON: {error}")))
}

/// A TOML value as JSON.
fn json(value: &Value<'_>) -> Option<Json> {
    let number = |text: &str| text.parse::<Number>().ok().map(Json::Number);
    match value.content {
        DeValue::String(_) => value.text().map(Json::String),
        DeValue::Boolean(held) => Some(Json::Bool(*held)),
        DeValue::Integer(held) => {
            let whole = i64::from_str_radix(held.as_str(), held.radix()).ok();
            whole.map(Json::from).or_else(|| value.not_a("one of 64 bits", None))
        }
        DeValue::Float(held) => number(held.as_str()).or_else(|| value.not_a("one in JSON", None)),
        DeValue::Array(elements) => {
            let held: Vec<_> =
                elements.iter().map(|element| json(&value.element(element))).collect();
            held.into_iter().collect::<Option<Vec<_>>>().map(Json::Array)
        }
        DeValue::Table(_) => {
            let members = value.table("", String::new)?.take_all();
            let held: Vec<_> = members
                .into_iter()
                .map(|(name, _, value)| Some((name.to_owned(), json(&value)?)))
                .collect();
            held.into_iter().collect::<Option<Map<_, _>>>().map(Json::Object)
        }
        DeValue::Datetime(_) => value.not_a("what JSON has", Some("write a string".to_owned())),
    }
}
