//! `headers` of a route: what it asks of a request's fields.

use http::HeaderName;
use toml::de::DeValue;

use super::fault::Wrong;
use super::messages;
use super::reader::{Table, Value};
use super::{Route, shown};

/// So many fields, and values of one.
const MOST: usize = 16;

/// One of `headers`: a request is for the route only if this field has one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldCondition {
    /// Whose value it is; several lines are one value.
    pub name: HeaderName,
    /// At least one. `*` stands for any run of characters.
    pub values: Vec<String>,
}

/// The route with what its table asks of fields; none if that cannot be said.
pub(super) fn read(route: Option<Route>, table: &mut Table<'_>) -> Option<Route> {
    let headers = match table.take("headers") {
        Some(value) => conditions(&value),
        None => Some(Vec::new()),
    };
    Some(Route { headers: headers?, ..route? })
}

fn conditions(value: &Value<'_>) -> Option<Vec<FieldCondition>> {
    const SHAPE: &str = "write headers = { X-Version = \"2\" }, or leave it out";

    let mut table = value.inner_table(|| SHAPE.to_owned())?;
    let entries = table.take_all();
    if entries.is_empty() || entries.len() > MOST {
        let message = if entries.is_empty() {
            "headers is empty".to_owned()
        } else {
            format!("headers names more than {MOST} fields")
        };
        value.report(&message, Some(SHAPE.to_owned()));
        return None;
    }
    let mut all: Vec<FieldCondition> = Vec::new();
    let mut is_right = true;
    for (text, place, value) in entries {
        // It may be a secret.
        let values = values(&value.secret(|_| "[hidden]".to_owned()));
        let name = name(text).and_then(|name| table.source.kept(name)).and_then(|name| {
            let is_twice = all.iter().any(|it| it.name == name);
            if is_twice { Err(Wrong::new("is there already")) } else { Ok(name) }
        });
        match (name, values) {
            (Ok(name), Some(values)) => all.push(FieldCondition { name, values }),
            (Ok(_), None) => is_right = false,
            (Err(Wrong { complaint, hint }), _) => {
                let text = shown::plain(text);
                table.report(place, &format!("headers `{text}` {complaint}"), hint);
                is_right = false;
            }
        }
    }
    // So that the order in which they are written makes no difference.
    all.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    is_right.then_some(all)
}

fn name(text: &str) -> Result<HeaderName, Wrong> {
    if text.eq_ignore_ascii_case("host") {
        return Err(Wrong::new("is not compared here").with_hint("write host = \"shop.example\""));
    }
    messages::name_in_request(text)
}

/// One or several.
fn values(value: &Value<'_>) -> Option<Vec<String>> {
    const SHAPE: &str = "write \"2\", or [\"2\", \"3\"] for one of them";

    if let DeValue::String(_) = value.content {
        return value.read(pattern).map(|value| vec![value]);
    }
    let elements = value.list(|| SHAPE.to_owned())?;
    if elements.len() > MOST {
        value.report(&format!("a field has more than {MOST} values"), None);
        return None;
    }
    let read: Vec<_> = elements.iter().map(|element| element.read(pattern)).collect();
    read.into_iter().collect()
}

fn pattern(text: &str) -> Result<String, Wrong> {
    let is_value = !text.is_empty()
        && text.trim() == text
        && text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
    let hint = "write ASCII characters, without white space at either end; `*` for any of them";
    if is_value {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new("is no value of a field").with_hint(hint))
    }
}
