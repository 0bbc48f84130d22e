//! A loaded policy: what the gateway asks.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde_json::Value;

use super::answers::{self, Invalidated, KeyAnswer, StoringAnswer};
use super::bindings::Configured;
use super::bindings::invalidation::{Cause, Write};
use super::bindings::key;
use super::counters::Snapshot;
use super::exports::{Exports, Prepared};
use super::failure::Failure;
use super::memo::Memo;
use super::sandbox::Sandbox;
use super::wants::{Wants, shown_by_key};
use super::{KeySpace, Seen, SeenChange, SeenResponse};
use crate::config;

/// The most that `configure` may hand on, in octets.
const LONGEST_PREPARED: usize = 64 << 10;

/// A plugin with its configuration. Dropping it lets calls under way end by themselves.
pub struct Policy {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) exports: Exports,
    pub(super) wants: Wants,
    pub(super) prepared: Prepared,
    pub(super) time: Duration,
    memo: Option<Memo>,
    /// What it was made of, its plugin aside.
    essence: config::Policy,
    digest: [u8; 32],
}

impl Policy {
    /// Checks what `configure` answered. `digest` is of the plugin and its settings.
    pub(super) fn new(
        sandbox: Arc<Sandbox>,
        exports: Exports,
        configured: Configured,
        essence: config::Policy,
        digest: [u8; 32],
    ) -> Result<Self, Failure> {
        if configured.prepared.len() > LONGEST_PREPARED {
            return Err(Failure::Nonsense(format!(
                "`prepared` has more than {LONGEST_PREPARED} octets"
            )));
        }
        let remembers = essence.remember > 0 && exports.key.is_some();
        Ok(Self {
            sandbox,
            exports,
            wants: Wants::new(configured.wants)?,
            prepared: configured.prepared.into(),
            time: essence.time,
            memo: remembers.then(|| Memo::new(essence.remember)),
            essence,
            digest,
        })
    }

    /// The policy's name in `gateway.toml`.
    pub fn name(&self) -> &str {
        &self.sandbox.policy
    }

    /// Which version it is: equal for an equal plugin with an equal configuration.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether it would be the same if it were loaded by this configuration.
    pub(super) fn is_of(&self, essence: &config::Policy, digest: &[u8; 32]) -> bool {
        self.essence == *essence && self.digest == *digest
    }

    /// Whether a route may name it for `key`.
    pub fn has_key(&self) -> bool {
        self.exports.key.is_some()
    }

    /// Whether a route may name it for `storing`.
    pub fn has_storing(&self) -> bool {
        self.exports.storing.is_some()
    }

    /// Whether a route may name it for `invalidation`.
    pub fn has_invalidation(&self) -> bool {
        self.exports.invalidation.is_some()
    }

    /// Whether `key` is shown what the route's path captured.
    pub fn wants_captures(&self) -> bool {
        self.wants.captures()
    }

    /// Whether it is shown the content of requests.
    pub fn wants_content(&self) -> bool {
        self.wants.content()
    }

    /// Whether it is shown values of the content of responses.
    pub fn wants_response_values(&self) -> bool {
        self.wants.response_values()
    }

    /// Whether it is shown values of documents that changed.
    pub fn wants_documents(&self) -> bool {
        self.wants.documents()
    }

    /// Whether it is shown claims of the request's token.
    pub fn wants_claims(&self) -> bool {
        self.wants.claims()
    }

    /// Whether one of the claims that it is shown is among these. `null` says nothing.
    pub fn is_shown_a_claim(&self, claims: &Value) -> bool {
        self.wants.finds_a_claim(claims)
    }

    /// The request fields that it is shown.
    pub fn wanted_fields(&self) -> &[HeaderName] {
        self.wants.fields()
    }

    /// The names of the cookies that it is shown.
    pub fn wanted_cookies(&self) -> &[String] {
        self.wants.cookies()
    }

    /// What its calls come to so far.
    pub fn snapshot(&self) -> Snapshot {
        self.sandbox.counters.snapshot()
    }

    /// The answer of [`key`](Self::key), if it is remembered. It allocates nothing.
    pub fn remembered(&self, space: KeySpace<'_>, seen: &Seen<'_>) -> Option<KeyAnswer> {
        let answer = self.known(space, seen)?;
        self.counts_as_remembered();
        Some(answer)
    }

    /// As [`remembered`](Self::remembered), without counting it: it may not be needed.
    pub fn known(&self, space: KeySpace<'_>, seen: &Seen<'_>) -> Option<KeyAnswer> {
        self.memo.as_ref()?.find(|packed| self.wants.pack(space, seen, packed))
    }

    /// Counts an answer that was [known](Self::known), and needed.
    pub fn counts_as_remembered(&self) {
        self.sandbox.counters.remembered();
    }

    /// Asks under which key the response is stored, and remembers the answer; a failure is never
    /// remembered. Ask [`remembered`](Self::remembered) first.
    pub async fn key(&self, space: KeySpace<'_>, seen: &Seen<'_>) -> Result<KeyAnswer, Failure> {
        let decision = self.decide_key(&self.sandbox, seen).await?;
        let answer = answers::key(space, seen, self.wants.wants_query(), &decision);
        if let Some(memo) = &self.memo {
            memo.keep(|packed| self.wants.pack(space, seen, packed), answer.clone());
        }
        Ok(answer)
    }

    /// Has the plugin called for a key.
    pub(super) async fn decide_key(
        &self,
        sandbox: &Arc<Sandbox>,
        seen: &Seen<'_>,
    ) -> Result<key::Decision, Failure> {
        let export = self.exports.key.ok_or_else(|| missing("key"))?;
        let request = self.wants.request(seen, shown_by_key(seen.method));
        let arguments = (Arc::clone(&self.prepared), request);
        sandbox.call(export, arguments, self.time, answers::check_key).await
    }

    /// Asks how to store a response that may be stored.
    pub async fn storing(
        &self,
        seen: &Seen<'_>,
        response: &SeenResponse<'_>,
    ) -> Result<StoringAnswer, Failure> {
        self.decide_storing(&self.sandbox, seen, response).await
    }

    /// Has the plugin called for how to store a response.
    pub(super) async fn decide_storing(
        &self,
        sandbox: &Arc<Sandbox>,
        seen: &Seen<'_>,
        response: &SeenResponse<'_>,
    ) -> Result<StoringAnswer, Failure> {
        let export = self.exports.storing.ok_or_else(|| missing("storing"))?;
        let request = self.wants.request(seen, seen.method);
        let response = self.wants.response(response).await;
        let arguments = (Arc::clone(&self.prepared), request, response);
        let decision = sandbox.call(export, arguments, self.time, answers::check_storing).await?;
        Ok(answers::storing(&decision))
    }

    /// Asks what an unsafe request made wrong, after it got this response.
    pub async fn invalidation(
        &self,
        seen: &Seen<'_>,
        response: &SeenResponse<'_>,
    ) -> Result<Vec<Invalidated>, Failure> {
        let request = self.wants.request(seen, seen.method);
        let response = self.wants.response(response).await;
        self.affected(Cause::Write(Write { request, response })).await
    }

    /// Asks what a change of a document made wrong. Tags are those of any upstream, paths those of any
    /// authority.
    pub async fn change(&self, change: &SeenChange<'_>) -> Result<Vec<Invalidated>, Failure> {
        self.affected(Cause::Change(self.wants.change(change).await)).await
    }

    async fn affected(&self, cause: Cause) -> Result<Vec<Invalidated>, Failure> {
        let export = self.exports.invalidation.ok_or_else(|| missing("invalidation"))?;
        let arguments = (Arc::clone(&self.prepared), cause);
        let check = |answer: &Vec<_>| answers::check_invalidation(answer);
        let answer = self.sandbox.call(export, arguments, self.time, check).await?;
        Ok(answers::invalidation(answer))
    }
}

/// Routes are checked when they are loaded, so this is not met in a gateway.
pub(super) fn missing(export: &str) -> Failure {
    Failure::Nonsense(format!("it does not export `{export}`"))
}
