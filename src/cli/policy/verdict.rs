//! What comes of one case.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::Serialize;

use super::ask::{Answer, Ask, Asked, Most};
use crate::config::cases::{Case, Cause, Covered, MaxAge, Question, Request, Stored};
use crate::message;
use crate::plugin::{Failure, Invalidated, KeyTrial, Line, Scope, StoringAnswer};
use crate::terminal;

/// What came of a case.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// The line where the case begins.
    pub(super) line: usize,
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) is_ok: bool,
    /// Why it is not.
    pub(super) problems: Vec<Problem>,
    /// What the plugin wrote to the log.
    pub(super) log: Vec<Line>,
}

/// Something that is not as it must be.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) expected: String,
    /// A line or more.
    pub(super) came: String,
}

/// A case under way.
pub(super) struct Trial<'a> {
    most: &'a mut Most,
    problems: Vec<Problem>,
    log: Vec<Line>,
}

impl Verdict {
    /// Of a case that was tried with a policy, or with a configuration that was refused.
    pub(super) fn of(case: &Case, policy: Result<&Asked, &str>, most: &mut Most) -> Self {
        let mut trial = Trial { most, problems: Vec::new(), log: Vec::new() };
        match (policy, &case.question) {
            (Ok(_), Question::Refused(error)) => {
                trial.problem(format!("`config` is refused: `{error}`"), "it is accepted");
            }
            (Err(text), Question::Refused(error)) => {
                if !text.contains(error) {
                    trial.problem(format!("`config` is refused: `{error}`"), text);
                }
            }
            (Err(text), _) => trial.problem("`config` is accepted", text),
            (Ok(policy), question) => trial.put(question, policy),
        }
        let Trial { problems, log, .. } = trial;
        Self {
            line: case.place.line,
            kind: case.kind,
            name: title(case),
            is_ok: problems.is_empty(),
            problems,
            log,
        }
    }
}

/// The case's name; without one, what it is asked with.
fn title(case: &Case) -> String {
    if !case.name.is_empty() {
        return case.name.clone();
    }
    match &case.question {
        Question::Refused(error) => error.clone(),
        question => asks(question).first().map(Ask::to_string).unwrap_or_default(),
    }
}

/// What a case asks, in order.
pub(super) fn asks(question: &Question) -> Vec<Ask> {
    match question {
        Question::Equal(requests)
        | Question::Different(requests)
        | Question::Bypass { requests, .. } => requests.iter().cloned().map(Ask::Key).collect(),
        Question::Key { request, .. } => vec![Ask::Key(request.clone())],
        Question::Storing { request, response, .. } => {
            vec![Ask::Storing(request.clone(), response.clone())]
        }
        Question::Invalidation(cause, _) => vec![Ask::Invalidation(cause.clone())],
        Question::Refused(_) => Vec::new(),
    }
}

impl Trial<'_> {
    fn problem(&mut self, expected: impl Into<String>, came: impl Into<String>) {
        self.problems.push(Problem { expected: expected.into(), came: came.into() });
    }

    fn put(&mut self, question: &Question, policy: &Asked) {
        let answers: Vec<_> =
            asks(question).into_iter().filter_map(|ask| self.ask(&ask, policy)).collect();
        let keys = answers.iter().filter_map(|answer| match answer {
            Answer::Key(key) => Some(key),
            Answer::Storing(_) | Answer::Invalidation(_) => None,
        });
        let keys: Vec<_> = keys.collect();
        // What failed has been told; the answers that are left would be taken for others'.
        if answers.len() < asks(question).len() {
            return;
        }
        match question {
            Question::Equal(requests) => self.equal(requests, &keys),
            Question::Different(requests) => self.different(requests, &keys),
            Question::Bypass { requests, reason } => {
                for (request, key) in requests.iter().zip(keys) {
                    self.bypass(request, key, reason.as_deref());
                }
            }
            Question::Key { name, parts, .. } => {
                for key in keys {
                    self.key(key, name.as_deref(), parts.as_deref());
                }
            }
            Question::Storing { expect, .. } => {
                if let Some(Answer::Storing(stored)) = answers.first() {
                    self.storing(stored, expect);
                }
            }
            Question::Invalidation(_, expect) => {
                if let Some(Answer::Invalidation(invalidated)) = answers.first() {
                    self.invalidation(invalidated, expect);
                }
            }
            Question::Refused(_) => (),
        }
    }

    /// Asks in two instances. They must agree; a failure is a problem.
    fn ask(&mut self, ask: &Ask, policy: &Asked) -> Option<Answer> {
        let (first, second) = (policy.put(ask), policy.put(ask));
        self.most.count(&first);
        self.most.count(&second);
        if first.answer != second.answer && !is_timeout(&first.answer, &second.answer) {
            let came = format!("{}\n{}", text(&first.answer), text(&second.answer));
            self.problem(format!("{ask}: one answer, whenever it is asked"), came);
        }
        self.log.extend(first.lines);
        match first.answer {
            Ok(answer) => Some(answer),
            Err(failure) => {
                self.problem(format!("{ask}: an answer"), of_failure(&failure));
                None
            }
        }
    }

    fn equal(&mut self, requests: &[Request], keys: &[&KeyTrial]) {
        let Some(first) = keys.first() else { return };
        let is_bypass = keys.iter().any(|key| matches!(key, KeyTrial::Bypass(_)));
        if is_bypass || keys.iter().any(|key| key != first) {
            self.problem("one key for all", listed(requests, keys));
            return;
        }
        let origins: HashSet<_> = requests.iter().map(origin).collect();
        if origins.len() > 1 {
            let expected = "one scheme and authority, which are part of every key";
            self.problem(expected, listed(requests, keys));
        }
    }

    fn different(&mut self, requests: &[Request], keys: &[&KeyTrial]) {
        let own = requests.iter().zip(keys).filter_map(|(request, key)| match key {
            KeyTrial::Parts { exact, .. } => Some((origin(request), exact)),
            KeyTrial::Bypass(_) => None,
        });
        let own: HashSet<_> = own.collect();
        if own.len() != keys.len() {
            self.problem("a key for each", listed(requests, keys));
        }
    }

    fn bypass(&mut self, request: &Request, key: &KeyTrial, reason: Option<&str>) {
        let is_so = matches!(key, KeyTrial::Bypass(said) if reason.is_none_or(|it| it == said));
        if !is_so {
            let reason = reason.map(|reason| format!(": `{reason}`")).unwrap_or_default();
            self.problem(format!("{request}: bypass{reason}"), of_key(key));
        }
    }

    fn key(&mut self, key: &KeyTrial, name: Option<&str>, parts: Option<&[String]>) {
        let KeyTrial::Parts { name: came, shown, .. } = key else {
            self.problem("a key", of_key(key));
            return;
        };
        if let Some(name) = name.filter(|name| name != came) {
            self.problem(format!("the name `{name}`"), format!("`{came}`"));
        }
        if let Some(parts) = parts.filter(|parts| parts != shown) {
            self.problem(format!("parts {}", quoted(parts)), quoted(shown));
        }
    }

    fn storing(&mut self, stored: &StoringAnswer, expect: &Stored) {
        if let Some(store) = expect.store.filter(|store| *store != stored.store) {
            self.problem(format!("store = {store}"), format!("store = {}", stored.store));
        }
        let came = stored.max_age.map_or(MaxAge::None, MaxAge::Bound);
        if let Some(most) = expect.max_age.filter(|most| *most != came) {
            self.problem(of_max_age(most), of_max_age(came));
        }
        if let Some(tags) = &expect.tags {
            let (tags, came) = (sorted(tags), sorted(&stored.tags));
            if tags != came {
                self.problem(format!("tags {}", quoted(&tags)), quoted(&came));
            }
        }
    }

    fn invalidation(&mut self, invalidated: &[Invalidated], expect: &[Covered]) {
        let expected = sorted(expect.iter().map(|it| covered(it.scope, &it.text, it.soft)));
        let came = sorted(invalidated.iter().map(of_invalidated));
        if expected != came {
            self.problem(expected.join("\n"), came.join("\n"));
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(request) | Self::Storing(request, _) => request.fmt(f),
            Self::Invalidation(Cause::Write(write)) => write.0.fmt(f),
            Self::Invalidation(Cause::Change(change)) => {
                write!(f, "change of `{}`", change.collection)
            }
        }
    }
}

/// Scheme and authority, the authority as the gateway has it in a key: no policy can make two of them
/// share.
fn origin(request: &Request) -> (&str, String) {
    let (scheme, authority) = (request.scheme.as_str(), &request.authority);
    // The gateway would refuse one that has no normal form.
    let normal = message::normal_authority(scheme, authority);
    (scheme, normal.unwrap_or_else(|_| authority.clone()))
}

/// A machine can be too busy for one of two calls; that is told as the failure that it is.
fn is_timeout(one: &Result<Answer, Failure>, other: &Result<Answer, Failure>) -> bool {
    [one, other].iter().any(|answer| matches!(answer, Err(Failure::TimedOut)))
}

fn text(answer: &Result<Answer, Failure>) -> String {
    match answer {
        Err(failure) => of_failure(failure),
        Ok(Answer::Key(key)) => of_key(key),
        Ok(Answer::Storing(stored)) => {
            let StoringAnswer { store, max_age, tags } = stored;
            let max_age = of_max_age(max_age.map_or(MaxAge::None, MaxAge::Bound));
            format!("store = {store}, {max_age}, tags {}", quoted(tags))
        }
        Ok(Answer::Invalidation(invalidated)) => {
            let all: Vec<_> = invalidated.iter().map(of_invalidated).collect();
            all.join(", ")
        }
    }
}

/// A trap's frames have a line each.
pub(super) fn of_failure(failure: &Failure) -> String {
    match failure {
        Failure::Trapped(_) => failure.to_string().replace("; ", "\n"),
        _ => failure.to_string(),
    }
}

fn of_key(key: &KeyTrial) -> String {
    match key {
        KeyTrial::Bypass(reason) => format!("bypass: `{reason}`"),
        KeyTrial::Parts { name, .. } => format!("the key `{name}`"),
    }
}

/// Each request and what came of it. Names do not always differ where keys do; then parts are told.
fn listed(requests: &[Request], keys: &[&KeyTrial]) -> String {
    let mut lines = String::new();
    for (request, key) in requests.iter().zip(keys) {
        let key = match key {
            KeyTrial::Parts { shown, .. } => quoted(shown),
            KeyTrial::Bypass(_) => of_key(key),
        };
        writeln!(lines, "{request}: {key}").expect("a string takes everything");
    }
    lines.trim_end().to_owned()
}

fn of_max_age(most: MaxAge) -> String {
    match most {
        MaxAge::None => "max_age = none".to_owned(),
        MaxAge::Bound(most) => format!("max_age = {}s", most.as_secs()),
    }
}

fn of_invalidated(invalidated: &Invalidated) -> String {
    let (scope, text) = match &invalidated.scope {
        Scope::Tag(text) => ("tag", text),
        Scope::Path(text) => ("path", text),
        Scope::Pattern(text) => ("pattern", text),
    };
    covered(scope, text, invalidated.soft)
}

fn covered(scope: &str, text: &str, soft: bool) -> String {
    format!("{scope} `{text}`{}", if soft { ", soft" } else { "" })
}

fn sorted<T: Ord + Clone + Into<String>>(texts: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut texts: Vec<String> = texts.into_iter().map(Into::into).collect();
    texts.sort();
    texts
}

fn quoted(texts: &[String]) -> String {
    // They are an HTTP message's, for a terminal.
    let plain = |text: &String| text.replace(terminal::controls, "\u{fffd}");
    let quoted: Vec<_> = texts.iter().map(|text| format!("`{}`", plain(text))).collect();
    if quoted.is_empty() { "nothing".to_owned() } else { quoted.join(", ") }
}
