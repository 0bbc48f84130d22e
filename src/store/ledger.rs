//! The receipts of purges in Redis: which gateway has applied which purge, and when.
//!
//! They lie under one key, `<namespace>:receipts`, a sorted set: the member is the purge's id and the
//! gateway's name, the score is the time. Whoever writes some removes the oldest beyond the bounds. Keys
//! that end by themselves, one for each purge, had no bound: a thousand purges a second made millions.
//!
//! Receipts say when, and seldom whether: a gateway whose receipt was removed is judged by its place in
//! the log (`fleet`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Pipeline};

use crate::clock;
use crate::store::connection::Trouble;
use crate::store::nodes::Nodes;
use crate::stored::Position;

/// Receipts are kept for so long,
pub(super) const KEPT: Duration = Duration::from_hours(1);

/// and so many of them: some 6 MB, which Redis removes within 13 ms where nobody purges for an hour.
const MOST: usize = 50_000;

/// Where they are.
pub(super) struct Ledger {
    nodes: Arc<Nodes>,
    key: String,
    timeout: Duration,
}

impl Ledger {
    pub(super) fn new(nodes: &Arc<Nodes>, namespace: &str, timeout: Duration) -> Self {
        Self { nodes: Arc::clone(nodes), key: format!("{namespace}:receipts"), timeout }
    }

    /// Whether the receipt of a purge is worth writing: one that begins reads of purges that nobody asks
    /// about any more. `now` is the server's time, in milliseconds.
    pub(super) fn takes(purge: Position, now: u64) -> bool {
        now.saturating_sub(purge.millis) < millis(KEPT)
    }

    /// A gateway has applied these purges, each at a time of the server's, which is now this one. What it
    /// said of one before counts.
    pub(super) async fn write(
        &self,
        name: &str,
        receipts: &[(Position, u64)],
        now: u64,
    ) -> Result<(), Trouble> {
        if receipts.is_empty() {
            return Ok(());
        }
        let mut telling = redis::pipe();
        let adding = telling.cmd("ZADD").arg(&self.key).arg("NX");
        for (id, at) in receipts {
            adding.arg(*at).arg(member(*id, name));
        }
        let too_old = now.saturating_sub(millis(KEPT));
        // Counted from the newest one, which is -1.
        let too_many = format!("-{}", MOST + 1);
        adding.ignore().cmd("ZREMRANGEBYRANK").arg(&self.key).arg(0).arg(too_many).ignore();
        telling.cmd("ZREMRANGEBYSCORE").arg(&self.key).arg("-inf").arg(too_old).ignore();
        telling.cmd("EXPIRE").arg(&self.key).arg(KEPT.as_secs()).ignore();
        self.query(&telling).await
    }

    /// Which of these gateways have said that they have applied a purge, and when.
    pub(super) async fn read(
        &self,
        id: Position,
        names: Vec<String>,
    ) -> Result<HashMap<String, u64>, Trouble> {
        let mut asking = redis::pipe();
        let members: Vec<_> = names.iter().map(|name| member(id, name)).collect();
        asking.cmd("ZMSCORE").arg(&self.key).arg(members);
        let (times,): (Vec<Option<f64>>,) = self.query(&asking).await?;
        let told = names.into_iter().zip(times);
        Ok(told.filter_map(|(name, at)| Some((name, whole(at?)))).collect())
    }

    async fn query<T: FromRedisValue>(&self, asking: &Pipeline) -> Result<T, Trouble> {
        let deadline = tokio::time::Instant::from_std(clock::instant() + self.timeout);
        self.nodes.query(&self.key, asking, deadline).await
    }
}

fn member(id: Position, name: &str) -> String {
    format!("{id} {name}")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds since 1970 fit; of anything else this makes a time, if a wrong one"
)]
fn whole(score: f64) -> u64 {
    score as u64
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
