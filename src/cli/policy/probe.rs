//! What nobody wrote a case for: inputs that a policy asks to see although no answer depends on them,
//! and secrets that come out where operators read.
//!
//! Each question of the cases is put again with one input changed. What the policy then answers
//! tells whether it looks at that input; and where the input's new value turns up, it leaks.

use std::collections::{BTreeMap, BTreeSet};

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde_json::{Map, Value};

use super::ask::{Answer, Ask, Asked};
use crate::config::cases::{Public, Request};
use crate::plugin::{Declared, Invalidated, KeyTrial, Scope, Watched};

/// Stands where a secret was. Nothing but the secret's own way out can bring it out again.
const MARK: &str = "larder-probe-5eC7e7";

/// Values of other cases that an input is tried with.
const MOST_VALUES: usize = 16;

/// Something that a policy asks to see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    /// A part of the request, by its name in the contract.
    Part(&'static str),
    Field(String),
    Cookie(String),
    Claim(String),
    ResponseField(String),
    /// All queries into the content of responses.
    ResponseValues,
    /// All queries into documents.
    DocumentValues,
}

/// A secret that came out.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Leak {
    /// The line of the case.
    pub(super) line: usize,
    /// Whose value it is.
    pub(super) secret: String,
    /// Where it can be read.
    pub(super) place: &'static str,
    /// What to do.
    pub(super) hint: String,
}

/// What is found out about one policy, over all its configurations.
#[derive(Default)]
pub(super) struct Probe {
    declared: BTreeSet<Input>,
    used: BTreeSet<Input>,
    leaked: BTreeSet<(Input, &'static str)>,
    leaks: Vec<Leak>,
    /// Patterns that begin with a `/`.
    rooted: BTreeSet<String>,
    /// Values that the cases have for an input.
    values: BTreeMap<Input, BTreeSet<String>>,
}

impl Probe {
    /// Takes note of the values in a question, to try them in others.
    pub(super) fn learn(&mut self, ask: &Ask) {
        let mut ask = ask.clone();
        let mut learn = |input, value: &str| {
            let values = self.values.entry(input).or_default();
            if values.len() < MOST_VALUES {
                values.insert(value.to_owned());
            }
        };
        if let Some(request) = ask.request_mut() {
            for (name, value) in &request.fields {
                learn(Input::Field(name.to_string()), value.to_str().unwrap_or_default());
            }
            for (name, value) in &request.cookies {
                learn(Input::Cookie(name.clone()), value);
            }
            for (name, value) in request.claims.iter().flatten() {
                learn(Input::Claim(name.clone()), &value.to_string());
            }
            learn(Input::Part("path"), &request.path);
            learn(Input::Part("query"), request.query.as_deref().unwrap_or_default());
        }
        if let Some(response) = ask.response_mut() {
            for (name, value) in &response.fields {
                learn(Input::ResponseField(name.to_string()), value.to_str().unwrap_or_default());
            }
        }
    }

    /// Puts a question again in many ways. `line` is where its case begins.
    pub(super) fn try_out(&mut self, line: usize, ask: &Ask, asked: &Asked, public: &Public) {
        let declared = inputs(&asked.policy.declared());
        let usual = asked.put(ask);
        if let Ok(Answer::Invalidation(invalidated)) = &usual.answer {
            self.rooted.extend(invalidated.iter().filter_map(rooted));
        }
        for input in declared {
            if !self.used.contains(&input) {
                let differs = |changed: &Ask| asked.put(changed).answer != usual.answer;
                if self.changed(ask, &input).iter().any(differs) {
                    self.used.insert(input.clone());
                }
            }
            if let Some(secret) = secret(&input, public) {
                self.look_for_leak(line, ask, asked, &input, secret);
            }
            self.declared.insert(input);
        }
    }

    /// What is asked for or answered in vain, in words, and all leaks.
    pub(super) fn finish(self) -> (Vec<String>, Vec<Leak>) {
        let unused = self.declared.difference(&self.used);
        let notes = unused.map(|input| {
            format!("it asks to see {}, but no answer in these cases depends on it", input.text())
        });
        let rooted = self.rooted.iter().map(|pattern| {
            let without = pattern.strip_prefix('/').unwrap_or(pattern);
            format!("the pattern `{pattern}` begins with `/`, which readable names leave out: `{without}`")
        });
        (notes.chain(rooted).collect(), self.leaks)
    }

    fn look_for_leak(
        &mut self,
        line: usize,
        ask: &Ask,
        asked: &Asked,
        input: &Input,
        (secret, hint): (String, String),
    ) {
        let mut marked = ask.clone();
        set(&mut marked, input, Some(&mark(input)));
        for place in shown_in(&asked.put(&marked)) {
            if self.leaked.insert((input.clone(), place)) {
                let (secret, hint) = (secret.clone(), hint.clone());
                self.leaks.push(Leak { line, secret, place, hint });
            }
        }
    }

    /// The question with other values in one input.
    fn changed(&self, ask: &Ask, input: &Input) -> Vec<Ask> {
        let of_cases = self.values.get(input).into_iter().flatten().map(String::as_str);
        let values = of_cases.map(Some).chain([Some(""), None]);
        let mut changed = Vec::new();
        for value in values.chain(others(ask, input).iter().map(|value| Some(value.as_str()))) {
            let mut other = ask.clone();
            set(&mut other, input, value);
            changed.push(other);
        }
        changed
    }
}

impl Input {
    fn text(&self) -> String {
        match self {
            Self::Part("captures") => "what the path captured (`captures`)".to_owned(),
            Self::Claim(name) => format!("the claim `{name}`"),
            Self::ResponseValues => "values of the content of responses".to_owned(),
            Self::DocumentValues => "values of documents".to_owned(),
            Self::Part(part) => format!("the {part}"),
            Self::Field(name) => format!("the field `{name}`"),
            Self::Cookie(name) => format!("the cookie `{name}`"),
            Self::ResponseField(name) => format!("the response field `{name}`"),
        }
    }
}

fn inputs(declared: &Declared) -> Vec<Input> {
    let parts = declared.inputs.iter().map(|part| Input::Part(part));
    let fields = declared.fields.iter().cloned().map(Input::Field);
    let cookies = declared.cookies.iter().cloned().map(Input::Cookie);
    let response_fields = declared.response_fields.iter().cloned().map(Input::ResponseField);
    let claims = declared.claims.iter().cloned().map(Input::Claim);
    let values = [
        (Input::ResponseValues, &declared.response_values),
        (Input::DocumentValues, &declared.document_values),
    ];
    let values = values.into_iter().filter(|(_, queries)| !queries.is_empty());
    let named = fields.chain(cookies).chain(claims).chain(response_fields);
    parts.chain(named).chain(values.map(|(input, _)| input)).collect()
}

/// How a secret is called, and what to do about it; none if the input is none.
fn secret(input: &Input, public: &Public) -> Option<(String, String)> {
    let listed = |list: &str, name: &str| {
        format!(
            "leave it out, or write public = {{ {list} = [\"{name}\"] }} if operators may read it"
        )
    };
    match input {
        Input::Field(name)
            if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].iter().any(|it| *it == **name) =>
        {
            Some((format!("field `{name}`"), "leave it out".to_owned()))
        }
        Input::Cookie(name) if !public.cookies.contains(name) => {
            Some((format!("cookie `{name}`"), listed("cookies", name)))
        }
        Input::Claim(name) if !public.claims.contains(name) => {
            Some((format!("claim `{name}`"), listed("claims", name)))
        }
        _ => None,
    }
}

/// A pattern with the `/` that paths have and readable names do not.
fn rooted(invalidated: &Invalidated) -> Option<String> {
    match &invalidated.scope {
        Scope::Pattern(pattern) if pattern.starts_with('/') => Some(pattern.clone()),
        _ => None,
    }
}

fn mark(input: &Input) -> String {
    match input {
        Input::Field(name) if COOKIE == **name => format!("larder={MARK}"),
        Input::Field(_) => format!("Bearer {MARK}"),
        _ => MARK.to_owned(),
    }
}

/// Where operators could read the mark.
fn shown_in(call: &Watched<Answer>) -> Vec<&'static str> {
    let mut places = Vec::new();
    match &call.answer {
        Ok(Answer::Key(KeyTrial::Parts { shown, .. })) if has(shown) => {
            places.push("the readable name");
        }
        Ok(Answer::Key(KeyTrial::Bypass(reason))) if reason.contains(MARK) => {
            places.push("the reason to bypass");
        }
        _ => (),
    }
    if call.lines.iter().any(|line| line.message.contains(MARK)) {
        places.push("the log");
    }
    places
}

fn has(texts: &[String]) -> bool {
    texts.iter().any(|text| text.contains(MARK))
}

/// Values that are in no case.
fn others(ask: &Ask, input: &Input) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    match input {
        Input::Part("method") => match ask {
            Ask::Key(_) | Ask::Storing(..) => texts(&["GET", "QUERY", "POST"]),
            Ask::Invalidation(_) => texts(&["POST", "PUT", "PATCH", "DELETE"]),
        },
        Input::Part("scheme") => texts(&["http", "https"]),
        Input::Part("query") => queries(ask),
        _ => texts(&["probe", "1", "probe, 1"]),
    }
}

/// The query with each of its parameters changed, left out, and another one added.
fn queries(ask: &Ask) -> Vec<String> {
    let mut ask = ask.clone();
    let query = ask.request_mut().and_then(|request| request.query.clone()).unwrap_or_default();
    let pieces: Vec<&str> = query.split('&').collect();
    let mut queries = vec!["probe=1".to_owned(), format!("{query}&probe=1")];
    for at in 0..pieces.len() {
        let mut fewer = pieces.clone();
        let piece = fewer.remove(at);
        let name = piece.split_once('=').map_or(piece, |(name, _)| name);
        queries.push(fewer.join("&"));
        fewer.push("");
        queries.push(format!("{}{name}=probe", fewer.join("&")));
    }
    queries
}

/// Puts a value in the place of an input; none takes it away where that can be.
fn set(ask: &mut Ask, input: &Input, value: Option<&str>) {
    if let Some(response) = ask.response_mut() {
        match input {
            Input::ResponseField(name) => set_field(&mut response.fields, name, value),
            Input::ResponseValues => response.content = value.map(json_octets),
            _ => (),
        }
    }
    if let Some(change) = ask.change_mut()
        && *input == Input::DocumentValues
    {
        change.after = value.map(json);
        change.before.clone_from(&change.after);
    }
    let Some(request) = ask.request_mut() else { return };
    match input {
        Input::Claim(name) => set_claim(request.claims.get_or_insert_default(), name, value),
        Input::Part(part) => set_part(request, part, value),
        Input::Field(name) => {
            if COOKIE == **name {
                // They would take its place.
                request.cookies.clear();
            }
            set_field(&mut request.fields, name, value);
        }
        Input::Cookie(name) => {
            request.cookies.retain(|(other, _)| other != name);
            request.cookies.extend(value.map(|value| (name.clone(), value.to_owned())));
        }
        Input::ResponseField(_) | Input::ResponseValues | Input::DocumentValues => (),
    }
}

/// The text as JSON: as it is, or as a string.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn json_octets(text: &str) -> Vec<u8> {
    json(text).to_string().into_bytes()
}

/// By the name of a member, or by a JSON Pointer to what is there.
fn set_claim(claims: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if !name.starts_with('/') {
        claims.remove(name);
        claims.extend(value.map(|value| (name.to_owned(), json(value))));
        return;
    }
    let mut whole = Value::Object(std::mem::take(claims));
    if let Some(claim) = whole.pointer_mut(name) {
        *claim = value.map_or(Value::Null, json);
    }
    if let Value::Object(changed) = whole {
        *claims = changed;
    }
}

fn set_part(request: &mut Request, part: &str, value: Option<&str>) {
    let text = value.unwrap_or_default().to_owned();
    match part {
        "method" => request.method = text.parse().unwrap_or(Method::GET),
        "scheme" if value.is_some_and(|value| !value.is_empty()) => request.scheme = text,
        "authority" => request.authority = text,
        "path" if text.starts_with('/') => request.path = text,
        "path" => request.path = format!("/{text}"),
        "captures" => request.captures.iter_mut().for_each(|(_, value)| value.clone_from(&text)),
        "query" => request.query = value.map(str::to_owned),
        "content" => request.content = value.map(|text| text.as_bytes().to_vec()),
        _ => (),
    }
}

fn set_field(fields: &mut http::HeaderMap, name: &str, value: Option<&str>) {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return };
    fields.remove(&name);
    if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
        fields.insert(name, value);
    }
}
