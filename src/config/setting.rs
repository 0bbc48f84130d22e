//! A policy's `config` table as its plugin gets it: flat, and sorted by name.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::Setting;
use super::reader::{Table, Value};
use super::shown;

/// Tables within tables, and settings in all.
const DEEPEST: usize = 8;
const MOST: usize = 256;

const KINDS: &str = "write a string, a number, a boolean, an array of strings, or a table of these";

/// All settings of a table; none if one of them is wrong.
pub(super) fn flatten(table: Table<'_>) -> Option<Vec<(String, Setting)>> {
    let (place, source, label) = (table.place, table.source, table.label.clone());
    let faults = source.count();
    let mut settings = BTreeMap::new();
    walk(table, "", 0, &mut settings);
    if settings.len() > MOST {
        source.report(place, format!("{label}: config has more than {MOST} settings"), None);
    }
    (source.count() == faults).then(|| settings.into_iter().collect())
}

fn walk(mut table: Table<'_>, prefix: &str, depth: usize, into: &mut BTreeMap<String, Setting>) {
    let label = table.label.clone();
    for (key, place, value) in table.take_all() {
        let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        if let DeValue::Table(_) = value.content {
            if depth == DEEPEST {
                value.report(&format!("config is nested deeper than {DEEPEST} tables"), None);
            } else if let Some(inner) = value.table(&label, || KINDS.to_owned()) {
                walk(inner, &name, depth + 1, into);
            }
            continue;
        }
        let Some(setting) = setting(&value) else { continue };
        // `"a.b" = 1` beside `a = { b = 2 }`.
        if into.insert(name.clone(), setting).is_some() {
            let message = format!("config has `{}` twice", shown::plain(&name));
            table.report(place, &message, Some("leave one of them out".to_owned()));
        }
    }
}

fn setting(value: &Value<'_>) -> Option<Setting> {
    let unfit = || value.not_a("what a plugin can be given", Some(KINDS.to_owned()));
    match value.content {
        DeValue::Boolean(value) => Some(Setting::Boolean(*value)),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(Setting::Integer(number)),
            Err(_) => value.not_a("one of 64 bits", None),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Some(Setting::Number(number)),
            _ => value.not_a("a finite one", None),
        },
        DeValue::String(_) => value.text().map(Setting::Text),
        DeValue::Array(elements) => {
            // Every element is read before the first fault counts, so that all are reported.
            let texts: Vec<Option<String>> = elements
                .iter()
                .map(|element| {
                    let element = value.element(element);
                    match element.content {
                        DeValue::String(_) => element.text(),
                        _ => element.not_a("a string", Some(KINDS.to_owned())),
                    }
                })
                .collect();
            texts.into_iter().collect::<Option<Vec<_>>>().map(Setting::Texts)
        }
        DeValue::Datetime(_) | DeValue::Table(_) => unfit(),
    }
}
