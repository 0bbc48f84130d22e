//! Calls that are watched: what `larder policy` asks of a plugin, with what the call took beside the
//! answer. They go the way of every call: a fresh instance, the same limits, the same bounds.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::answers::{self, Invalidated, StoringAnswer};
use super::bindings::invalidation::{Cause, Write};
use super::bindings::key;
use super::failure::Failure;
use super::policy::{Policy, missing};
use super::text::rejoined;
use super::wants::{Declared, shown_by_key};
use super::{Seen, SeenChange, SeenResponse};
use crate::stored::readable_name;

/// What one call came to.
#[derive(Clone, Debug)]
pub struct Watched<Answer> {
    /// The answer, its bounds checked.
    pub answer: Result<Answer, Failure>,
    /// From nothing to the answer, the fresh instance included.
    pub spent: Duration,
    /// What the instance had in the end, its memories and tables together, in octets.
    pub memory: usize,
    /// What it wrote to the log, which did not get there.
    pub lines: Vec<Line>,
    /// Lines beyond what one call may write.
    pub dropped_lines: u64,
}

/// A line of a plugin's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `debug`, `info` or `warn`.
    pub level: &'static str,
    /// On one line, cut after 1024 octets.
    pub message: String,
}

/// What `key` decided, with the policy's own parts rather than the whole key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyTrial {
    /// These parts. Two equal lists are one key, in one route and for one scheme and authority.
    Parts {
        /// Names and values as the plugin gave them, in order.
        exact: Vec<(String, String)>,
        /// The same for people, each as `name=value`.
        shown: Vec<String>,
        /// What operators call it.
        name: String,
    },
    /// No key, for this reason.
    Bypass(String),
}

impl Policy {
    /// What it asked to see.
    pub fn declared(&self) -> Declared {
        self.wants.declared()
    }

    /// Asks for a key, and watches the call. Nothing is remembered or counted.
    pub fn try_key(&self, seen: &Seen<'_>) -> Watched<KeyTrial> {
        let Some(export) = self.exports.key else { return Watched::missing("key") };
        let request = self.wants.request(seen, shown_by_key(seen.method));
        let arguments = (Arc::clone(&self.prepared), request);
        let call = self.sandbox.watch(export, arguments, self.time, answers::check_key);
        call.map(|decision| match decision {
            key::Decision::Bypass(reason) => KeyTrial::Bypass(reason),
            key::Decision::Parts(parts) => {
                let read: Vec<_> = parts
                    .iter()
                    .map(|part| (rejoined(&part.name), rejoined(&part.value)))
                    .collect();
                let pairs = read.iter().map(|(name, value)| (&**name, &**value));
                KeyTrial::Parts {
                    name: readable_name(pairs.clone()),
                    shown: pairs.map(|(name, value)| format!("{name}={value}")).collect(),
                    exact: parts.iter().map(|it| (it.name.clone(), it.value.clone())).collect(),
                }
            }
        })
    }

    /// Asks how to store a response, and watches the call.
    pub async fn try_storing(
        &self,
        seen: &Seen<'_>,
        response: &SeenResponse<'_>,
    ) -> Watched<StoringAnswer> {
        let Some(export) = self.exports.storing else { return Watched::missing("storing") };
        let request = self.wants.request(seen, seen.method);
        let response = self.wants.response(response).await;
        let arguments = (Arc::clone(&self.prepared), request, response);
        let call = self.sandbox.watch(export, arguments, self.time, answers::check_storing);
        call.map(|decision| answers::storing(&decision))
    }

    /// Asks what a write made wrong, and watches the call.
    pub async fn try_invalidation(
        &self,
        seen: &Seen<'_>,
        response: &SeenResponse<'_>,
    ) -> Watched<Vec<Invalidated>> {
        let request = self.wants.request(seen, seen.method);
        let response = self.wants.response(response).await;
        self.try_affected(Cause::Write(Write { request, response }))
    }

    /// Asks what a document's change made wrong, and watches the call.
    pub async fn try_change(&self, change: &SeenChange<'_>) -> Watched<Vec<Invalidated>> {
        self.try_affected(Cause::Change(self.wants.change(change).await))
    }

    fn try_affected(&self, cause: Cause) -> Watched<Vec<Invalidated>> {
        let Some(export) = self.exports.invalidation else {
            return Watched::missing("invalidation");
        };
        let arguments = (Arc::clone(&self.prepared), cause);
        let check = |answer: &Vec<_>| answers::check_invalidation(answer);
        self.sandbox.watch(export, arguments, self.time, check).map(answers::invalidation)
    }
}

impl<Answer> Watched<Answer> {
    fn missing(export: &str) -> Self {
        Self {
            answer: Err(missing(export)),
            spent: Duration::ZERO,
            memory: 0,
            lines: Vec::new(),
            dropped_lines: 0,
        }
    }

    /// The same call with its answer in another form.
    pub fn map<Other>(self, form: impl FnOnce(Answer) -> Other) -> Watched<Other> {
        let Self { answer, spent, memory, lines, dropped_lines } = self;
        Watched { answer: answer.map(form), spent, memory, lines, dropped_lines }
    }
}
