//! L2: stored responses in Redis, shared by a fleet. Trouble here is a miss.
//!
//! Each key of Redis holds one frame (`codec`): a response, or which variants there are. Nothing
//! is ever deleted: what the log makes invalid stays until its time to live ends.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::debug;

use crate::clock;
use crate::config;
use crate::config::Compression;
use crate::semantics::NoVarySearch;
use crate::stats::Counter;
use crate::store::Tasks;
use crate::store::advice::is_answer;
use crate::store::codec::{self, Frame};
use crate::store::connection::Trouble;
use crate::store::l1::Held;
use crate::store::nodes::Nodes;
use crate::store::search::SearchRules;
use crate::store::second::{Entry, Found, NoAnswer, Said, end, millis, only, useful};
use crate::store::variants::Variants;
use crate::stored::{CacheKey, StoredResponse};

/// Writes on their way to Redis hold at most so many octets, each counted as one piece at least:
/// so it also bounds their number.
const WRITING: usize = 64 << 20;
const PIECE: usize = 16 << 10;

/// A write may take longer than a look-up, for which a client waits.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Content of so many octets is packed where the write runs: that takes less than 0.1 ms.
const AT_ONCE: usize = 64 << 10;

/// The tier. Its connections are kept up by tasks of the store's.
pub(super) struct L2 {
    nodes: Arc<Nodes>,
    prefix: String,
    ttl: Duration,
    timeout: Duration,
    max_size: usize,
    compression: Compression,
    writing: Arc<Semaphore>,
    /// Responses that were not written because too many were being written, or Redis was down or had
    /// just refused another.
    pub(super) dropped: Counter,
    /// Writes that Redis refused.
    pub(super) refused: Counter,
    /// Responses that were not written, or not unpacked, because they are larger than `max_size`.
    pub(super) too_large: Counter,
    /// Values under our keys that are not what was written there.
    pub(super) damaged: Counter,
}

impl L2 {
    pub(super) fn new(nodes: Arc<Nodes>, namespace: &str, config: &config::L2) -> Self {
        Self {
            nodes,
            prefix: format!("{namespace}:r:"),
            ttl: config.ttl,
            timeout: config.timeout,
            max_size: config.max_size,
            compression: config.compression,
            writing: Arc::new(Semaphore::new(WRITING / PIECE)),
            dropped: Counter::default(),
            refused: Counter::default(),
            too_large: Counter::default(),
            damaged: Counter::default(),
        }
    }

    /// How long the look-ups of one request may take, however many round trips they need.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What is larger is never put.
    pub(super) fn max_size(&self) -> usize {
        self.max_size
    }

    /// What lies under each of `keys`, in one round trip.
    pub(super) async fn look(
        &self,
        keys: &[CacheKey],
        now: SystemTime,
        deadline: Instant,
    ) -> Vec<Said> {
        let names: Vec<_> = keys.iter().map(|key| self.name(key)).collect();
        let answers = self.nodes.look(&names, deadline).await;
        let said = keys.iter().zip(answers).map(|(key, lies)| {
            let frame = lies.ok_or(NoAnswer)?;
            Ok(self.read(key, frame, now))
        });
        said.collect()
    }

    fn read(&self, key: &CacheKey, frame: Option<Bytes>, now: SystemTime) -> Option<Found> {
        let Some(decoded) = codec::decode(key, &frame?, self.max_size) else {
            self.damaged.count();
            return None;
        };
        match decoded {
            Frame::Response(stored, end) => {
                // Redis, by its own clock, decides whether it is there. To ask how long it still will
                // be took a third of Redis' time and a tenth of ours. More than this nothing can have
                // left: another gateway's clock is ahead.
                let left = Duration::from_millis(end.saturating_sub(millis(now))).min(self.ttl);
                Some((Held::Response(Arc::new(stored)), left))
            }
            Frame::Variants(variants) => Some((Held::Variants(Arc::new(variants)), self.ttl)),
            Frame::Rules(rules) => Some((Held::Rules(Arc::new(rules)), self.ttl)),
            // Of a gateway with another limit.
            Frame::TooLarge => {
                self.too_large.count();
                None
            }
        }
    }

    /// Whether a response with so much content may be written.
    pub(super) fn fits(&self, octets: u64) -> bool {
        octets <= self.max_size as u64
    }

    /// Writes a response in the background: under `key`, or as a variant of what lies there. What is
    /// answered becomes whether it was written. `None`, and counted, if it is too large, if Redis is
    /// down or refused another a moment ago, or if too much is being written.
    pub(super) fn put(
        self: &Arc<Self>,
        tasks: &Tasks,
        key: CacheKey,
        entry: Entry,
        now: SystemTime,
    ) -> Option<JoinHandle<bool>> {
        let Entry { stored, variant, .. } = &entry;
        let octets = stored.body.len() + stored.fields.as_bytes().len();
        if octets > self.max_size {
            self.too_large.count();
            return None;
        }
        let lies_under = variant.as_ref().map_or(&key, |(variant, _)| &variant.known.key);
        let Some(permit) = self.permit(lies_under, octets) else {
            self.dropped.count();
            return None;
        };
        let l2 = Arc::clone(self);
        Some(tasks.spawn(async move {
            // The connection has counted it, and what lay there before is judged by itself.
            let written = l2.write(key, entry, now).await.unwrap_or_else(|error| {
                debug!(%error, "response not written to L2");
                false
            });
            drop(permit);
            written
        }))
    }

    /// How many pieces are on their way to Redis.
    pub(super) fn writing(&self) -> usize {
        WRITING / PIECE - self.writing.available_permits()
    }

    /// Notes a rule under `key` in the background.
    pub(super) fn add_rule(
        self: &Arc<Self>,
        tasks: &Tasks,
        key: CacheKey,
        rule: &NoVarySearch,
        now: SystemTime,
    ) -> Option<JoinHandle<bool>> {
        // Without the note there are misses, nothing worse.
        let permit = self.permit(&key, 0)?;
        let (l2, rule) = (Arc::clone(self), rule.clone());
        Some(tasks.spawn(async move {
            let written = l2.write_rule(&key, rule, now).await;
            if let Err(error) = &written {
                debug!(%error, "rule not written to L2");
            }
            drop(permit);
            written.is_ok()
        }))
    }

    async fn write_rule(
        &self,
        key: &CacheKey,
        rule: NoVarySearch,
        now: SystemTime,
    ) -> Result<(), Trouble> {
        let deadline = Instant::from_std(clock::instant() + WRITE_TIMEOUT.max(self.timeout));
        // As with variants: of two gateways that write at once, one wins.
        let mut rules = match only(self.look(&[*key], now, deadline).await).ok().flatten() {
            Some((Held::Rules(rules), _)) => Arc::unwrap_or_clone(rules),
            _ => SearchRules::default(),
        };
        rules.add(rule);
        let Some(frame) = codec::encode_rules(key, &rules) else { return Ok(()) };
        // As long as any response that it leads to.
        self.set(key, frame, self.ttl, deadline).await
    }

    fn permit(&self, key: &CacheKey, octets: usize) -> Option<OwnedSemaphorePermit> {
        let pieces = u32::try_from(octets / PIECE + 1).ok()?;
        let permit = Arc::clone(&self.writing).try_acquire_many_owned(pieces).ok()?;
        self.nodes.may_write(&self.name(key)).then_some(permit)
    }

    /// Whether it was written; if not, it is too large after all.
    async fn write(
        &self,
        key: CacheKey,
        Entry { stored, variant, stale }: Entry,
        now: SystemTime,
    ) -> Result<bool, Trouble> {
        let deadline = Instant::from_std(clock::instant() + WRITE_TIMEOUT.max(self.timeout));
        let lies_under = variant.as_ref().map_or(key, |(variant, _)| variant.known.key);
        // What lay there before stays, and is judged by itself.
        let left = useful(&stored.freshness, stale, now, self.ttl);
        let end = end(now, left);
        let Some(frame) = self.encode(lies_under, stored, end).await else { return Ok(false) };
        self.set(&lies_under, frame, left, deadline).await?;
        let Some((variant, bound)) = variant else { return Ok(true) };
        // Two gateways may read the same list and each add its own variant; the last to write
        // wins, and the other's is a miss.
        let mut variants = match only(self.look(&[key], now, deadline).await).ok().flatten() {
            Some((Held::Variants(variants), _)) => Arc::unwrap_or_clone(variants),
            _ => Variants::default(),
        };
        variants.add(variant, bound);
        let Some(frame) = codec::encode_variants(&key, &variants) else { return Ok(false) };
        self.set(&key, frame, self.ttl, deadline).await.map(|()| true)
    }

    /// The frame of a response. Packing what is large takes milliseconds, which is not for the thread
    /// that Redis' answers come in on.
    async fn encode(&self, key: CacheKey, stored: Arc<StoredResponse>, end: u64) -> Option<Bytes> {
        let compression = self.compression;
        if compression == Compression::None || stored.body.len() <= AT_ONCE {
            return codec::encode(&key, &stored, end, compression);
        }
        spawn_blocking(move || codec::encode(&key, &stored, end, compression)).await.ok().flatten()
    }

    async fn set(
        &self,
        key: &CacheKey,
        frame: Bytes,
        left: Duration,
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let name = self.name(key);
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(&name).arg(&*frame).arg("PX").arg(millis).ignore();
        let written = self.nodes.write(&name, &pipeline, deadline).await;
        if written.as_ref().is_err_and(is_answer) {
            self.refused.count();
        }
        written
    }

    /// No braces: a hash tag would put every key into one slot of a cluster.
    fn name(&self, key: &CacheKey) -> String {
        let mut name = String::with_capacity(self.prefix.len() + 64);
        name.push_str(&self.prefix);
        // A `String` takes all that is written to it.
        let _always = write!(name, "{key}");
        name
    }
}
