//! A loaded policy: what the gateway asks.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::answers::{self, Invalidated, KeyAnswer, StoringAnswer};
use super::bindings::Configured;
use super::counters::Snapshot;
use super::exports::{Exports, Prepared};
use super::failure::Failure;
use super::memo::Memo;
use super::sandbox::Sandbox;
use super::wants::{Wants, shown_by_key};
use super::{KeySpace, Seen};

/// The most that `configure` may hand on, in octets.
const LONGEST_PREPARED: usize = 64 << 10;

/// A plugin with its configuration. Dropping it lets calls under way end by themselves.
pub struct Policy {
    sandbox: Arc<Sandbox>,
    exports: Exports,
    wants: Wants,
    prepared: Prepared,
    time: Duration,
    memo: Option<Memo>,
}

impl Policy {
    /// Checks what `configure` answered. `remember` is how many answers of `key` are kept.
    pub(super) fn new(
        sandbox: Arc<Sandbox>,
        exports: Exports,
        configured: Configured,
        time: Duration,
        remember: u64,
    ) -> Result<Self, Failure> {
        if configured.prepared.len() > LONGEST_PREPARED {
            return Err(Failure::Nonsense(format!(
                "`prepared` has more than {LONGEST_PREPARED} octets"
            )));
        }
        let remembers = remember > 0 && exports.key.is_some();
        Ok(Self {
            sandbox,
            exports,
            wants: Wants::new(configured.wants)?,
            prepared: configured.prepared.into(),
            time,
            memo: remembers.then(|| Memo::new(remember)),
        })
    }

    /// The policy's name in `gateway.toml`.
    pub fn name(&self) -> &str {
        &self.sandbox.policy
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

    /// What its calls come to so far.
    pub fn snapshot(&self) -> Snapshot {
        self.sandbox.counters.snapshot()
    }

    /// The answer of [`key`](Self::key), if it is remembered. It allocates nothing.
    pub fn remembered(&self, space: KeySpace<'_>, seen: &Seen<'_>) -> Option<KeyAnswer> {
        let answer = self.memo.as_ref()?.find(|packed| self.wants.pack(space, seen, packed))?;
        self.sandbox.counters.remembered();
        Some(answer)
    }

    /// Asks under which key the response is stored, and remembers the answer; a failure is never
    /// remembered. Ask [`remembered`](Self::remembered) first.
    pub async fn key(&self, space: KeySpace<'_>, seen: &Seen<'_>) -> Result<KeyAnswer, Failure> {
        let export = self.exports.key.ok_or_else(|| missing("key"))?;
        let request = self.wants.request(seen, shown_by_key(seen.method));
        let arguments = (Arc::clone(&self.prepared), request);
        let decision = self.sandbox.call(export, arguments, self.time, answers::check_key).await?;
        let answer = answers::key(space, seen, &decision);
        if let Some(memo) = &self.memo {
            memo.keep(|packed| self.wants.pack(space, seen, packed), answer.clone());
        }
        Ok(answer)
    }

    /// Asks how to store a response that may be stored.
    pub async fn storing(
        &self,
        seen: &Seen<'_>,
        status: StatusCode,
        fields: &HeaderMap,
    ) -> Result<StoringAnswer, Failure> {
        let export = self.exports.storing.ok_or_else(|| missing("storing"))?;
        let request = self.wants.request(seen, seen.method);
        let arguments = (Arc::clone(&self.prepared), request, self.wants.response(status, fields));
        let decision =
            self.sandbox.call(export, arguments, self.time, answers::check_storing).await?;
        Ok(answers::storing(&decision))
    }

    /// Asks what an unsafe request made wrong, after it got this status.
    pub async fn invalidation(
        &self,
        seen: &Seen<'_>,
        status: StatusCode,
    ) -> Result<Vec<Invalidated>, Failure> {
        let export = self.exports.invalidation.ok_or_else(|| missing("invalidation"))?;
        let request = self.wants.request(seen, seen.method);
        let arguments = (Arc::clone(&self.prepared), request, status.as_u16());
        let check = |answer: &Vec<_>| answers::check_invalidation(answer);
        let answer = self.sandbox.call(export, arguments, self.time, check).await?;
        Ok(answers::invalidation(answer))
    }
}

/// Routes are checked when they are loaded, so this is not met in a gateway.
fn missing(export: &str) -> Failure {
    Failure::Nonsense(format!("it does not export `{export}`"))
}
