//! The walk through a file of cases.

use std::time::Duration;

use toml::de::DeValue;

use super::message::{self, change, request, response, texts};
use super::{Case, Cases, Cause, Covered, MaxAge, Public, Question, Stored};
use crate::config::fault::Wrong;
use crate::config::reader::{Table, Value};
use crate::config::source::Source;
use crate::config::{Faults, Setting, sections, setting};

/// A file has at most so many cases.
const MOST: usize = 10_000;

/// Reads what one kind of cases has of its own.
type Own = fn(&mut Table<'_>) -> Option<Question>;

/// The kinds of cases.
const KINDS: [(&str, Own); 7] = [
    ("equal", |table| requests(table, 2).map(Question::Equal)),
    ("different", |table| requests(table, 2).map(Question::Different)),
    ("bypass", bypass),
    ("key", key),
    ("storing", storing),
    ("invalidation", invalidation),
    ("refused", refused),
];

/// Reads a text. `file` is what faults call it.
pub(super) fn read(
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Cases, Faults> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(file, text, env);
    let cases = sections::document(text, &source)
        .map(|document| cases(Table::new(&source, "", source.place(0), document.get_ref())));
    let faults = source.into_faults();
    match cases {
        Some(cases) if faults.is_empty() => Ok(cases),
        _ => Err(faults.into()),
    }
}

fn cases(mut root: Table<'_>) -> Cases {
    let none = Cases::none();
    let (config_place, config) = match config(&mut root) {
        None => (root.place, Vec::new()),
        Some((place, config)) => (place, config.unwrap_or_default()),
    };
    let time = root.duration("time", none.time, sections::POLICY_TIME);
    let memory = root.memory("memory", none.memory, sections::POLICY_MEMORY);
    let public = root.table("public", "public").map(public).unwrap_or_default();
    let mut cases = Vec::new();
    for (kind, own) in KINDS {
        let Some(value) = root.take(kind) else { continue };
        let label = format!("[[{kind}]]");
        let hint = || format!("write `{label}`");
        for element in value.list(hint).unwrap_or_default() {
            let table = element.table(&label, hint);
            cases.extend(table.and_then(|table| case(kind, own, table)));
        }
    }
    if cases.len() > MOST {
        root.report(root.place, &format!("there are more than {MOST} cases"), None);
    }
    root.finish();
    cases.sort_by_key(|case: &Case| case.place);
    Cases { config, config_place, time, memory, public, cases }
}

fn case(kind: &'static str, own: Own, mut table: Table<'_>) -> Option<Case> {
    let name = table.take("name").and_then(|value| value.text());
    if let Some(name) = &name {
        table.label = format!("{kind} `{}`", crate::config::shown::plain(name)).into();
    }
    let config = config(&mut table).and_then(|(_, config)| config);
    let question = own(&mut table);
    let place = table.place;
    table.finish();
    Some(Case { place, kind, name: name.unwrap_or_default(), config, question: question? })
}

/// `config`, and where it stands; no settings if one of them is wrong.
#[expect(clippy::type_complexity, reason = "what may be missing may also be wrong")]
fn config(table: &mut Table<'_>) -> Option<(super::Place, Option<Vec<(String, Setting)>>)> {
    let value = table.take("config")?;
    let hint = || "write config = { name = \"value\" }".to_owned();
    Some((value.place, value.table(&table.label, hint).and_then(setting::flatten)))
}

fn public(mut table: Table<'_>) -> Public {
    let mut names = |key| table.take(key).and_then(|value| texts(&value)).unwrap_or_default();
    let public = Public { cookies: names("cookies"), claims: names("claims") };
    table.finish();
    public
}

/// `requests`, at least so many.
fn requests(table: &mut Table<'_>, least: usize) -> Option<Vec<super::Request>> {
    let hint = || "write requests = [\"/a\", { url = \"/a\", fields = { x = \"1\" } }]".to_owned();
    let Some(value) = table.take("requests") else {
        table.missing("requests", hint());
        return None;
    };
    let elements = value.list(hint)?;
    if elements.len() < least {
        value.report(&format!("requests are fewer than {least}"), Some(hint()));
        return None;
    }
    // Every element is read before the first fault counts, so that all are reported.
    let requests: Vec<_> = elements.iter().map(request).collect();
    requests.into_iter().collect()
}

/// `request`, which has to be there.
fn one_request(table: &mut Table<'_>) -> Option<super::Request> {
    let Some(value) = table.take("request") else {
        table.missing("request", message::REQUEST);
        return None;
    };
    request(&value)
}

fn bypass(table: &mut Table<'_>) -> Option<Question> {
    let requests = requests(table, 1);
    let reason = table.take("reason").and_then(|value| value.text());
    Some(Question::Bypass { requests: requests?, reason })
}

fn key(table: &mut Table<'_>) -> Option<Question> {
    const SHAPE: &str = "write expect = { name = \"users/42?lang=de\" }, or parts = \
                         [\"path=/users/42\", \"lang=de\"] in its place";
    let request = one_request(table);
    let mut expect = expect(table, SHAPE)?;
    let name = expect.take("name").and_then(|value| value.text());
    let parts = expect.take("parts").and_then(|value| texts(&value));
    if name.is_none() && parts.is_none() {
        expect.missing("name", SHAPE);
    }
    expect.finish();
    Some(Question::Key { request: request?, name, parts })
}

fn storing(table: &mut Table<'_>) -> Option<Question> {
    const SHAPE: &str = "write expect = { store = true, max_age = \"5m\", tags = [\"users\"] }, or \
                         some of it";
    let request = one_request(table);
    let response = response(table);
    let mut expect = expect(table, SHAPE)?;
    let stored = Stored {
        store: expect.take("store").and_then(|value| value.boolean()),
        max_age: expect.take("max_age").and_then(|value| max_age(&value)),
        tags: expect.take("tags").and_then(|value| texts(&value)),
    };
    if stored.store.is_none() && stored.max_age.is_none() && stored.tags.is_none() {
        expect.missing("store", SHAPE);
    }
    expect.finish();
    Some(Question::Storing { request: request?, response: response?, expect: stored })
}

/// A duration, or `none`.
fn max_age(value: &Value<'_>) -> Option<MaxAge> {
    if matches!(value.content, DeValue::String(text) if text == "none") {
        return Some(MaxAge::None);
    }
    value.duration(Duration::ZERO..=Duration::from_secs(u32::MAX.into())).map(MaxAge::Bound)
}

fn invalidation(table: &mut Table<'_>) -> Option<Question> {
    const SHAPE: &str = "write expect = [{ tag = \"users\", soft = true }]; also `path`, `pattern`";
    let cause = cause(table);
    let Some(value) = table.take("expect") else {
        table.missing("expect", SHAPE);
        return None;
    };
    let DeValue::Array(elements) = value.content else {
        return value.not_a("an array", Some(SHAPE.to_owned()));
    };
    let covered: Vec<_> = elements
        .iter()
        .map(|element| {
            let element = value.element(element);
            element.table(&table.label, || SHAPE.to_owned()).and_then(|table| covered(table, SHAPE))
        })
        .collect();
    let covered: Option<Vec<_>> = covered.into_iter().collect();
    Some(Question::Invalidation(cause?, covered?))
}

fn cause(table: &mut Table<'_>) -> Option<Cause> {
    if let Some(value) = table.take("change") {
        let shape = "write change = { collection = \"users\", operation = \"update\" }";
        let inner = value.table(&table.label, || shape.to_owned())?;
        return Some(Cause::Change(Box::new(change(inner))));
    }
    let request = one_request(table);
    let response = response(table);
    Some(Cause::Write(Box::new((request?, response?))))
}

fn covered(mut table: Table<'_>, shape: &str) -> Option<Covered> {
    let soft = table.boolean("soft", false);
    let scopes = ["tag", "path", "pattern"]
        .map(|scope| table.take(scope).map(|value| (scope, value.text())));
    let mut scopes = scopes.into_iter().flatten();
    let scope = scopes.next();
    if scope.is_none() || scopes.next().is_some() {
        let message = "expect names one of `tag`, `path` and `pattern` at a time";
        table.report(table.place, message, Some(shape.to_owned()));
    }
    table.finish();
    let (scope, text) = scope?;
    Some(Covered { scope, text: text?, soft })
}

fn refused(table: &mut Table<'_>) -> Option<Question> {
    let Some(value) = table.take("error") else {
        table.missing("error", "write error = \"…\", a part of what the policy says");
        return None;
    };
    value.read(|text| match text {
        "" => Err(Wrong::new("is a part of every text")),
        text => Ok(Question::Refused(text.to_owned())),
    })
}

fn expect<'a>(table: &mut Table<'a>, shape: &str) -> Option<Table<'a>> {
    let Some(value) = table.take("expect") else {
        table.missing("expect", shape);
        return None;
    };
    value.table(&table.label, || shape.to_owned())
}
