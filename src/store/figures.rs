//! What the store can tell of itself.

use serde::{Serialize, Serializer};

use crate::store::Store;
use crate::store::l1::L1;
use crate::stored::Position;

impl Store {
    /// The state of both tiers and of the log. L1's sizes are as of a moment ago.
    pub fn stats(&self) -> Stats {
        let (l1_entries, l1_octets) = self.l1.as_ref().map_or((0, 0), L1::sizes);
        let (marks, patterns) = self.log.sizes();
        Stats {
            l1_entries,
            l1_octets,
            l2: self.disk.as_ref().map(|disk| disk.stats()).or(self.redis.as_ref().map(|redis| {
                L2Stats {
                    up: redis.nodes.is_whole(),
                    half_open: redis.nodes.is_tried(),
                    errors: redis.nodes.errors(),
                    timeouts: redis.nodes.timeouts(),
                    writing: redis.l2.writing(),
                    dropped_writes: redis.l2.dropped.value(),
                    refused_writes: redis.l2.refused.value(),
                    too_large: redis.l2.too_large.value(),
                    damaged_frames: redis.l2.damaged.value(),
                    log_in_step: redis.log.is_in_step(),
                    log_lag_seconds: redis.lag.value().as_secs_f64(),
                    log_lag_passed: redis.lag.is_passed(),
                    invalidation_lag_seconds: redis.lag.delay().as_secs_f64(),
                    log_waiting: redis.log.waiting(),
                    log_of_replica: redis.log.is_of_replica(),
                    octets: None,
                    evicted: 0,
                }
            })),
            log_position: match &self.redis {
                Some(redis) => redis.log.reached(),
                None => self.log.position(),
            },
            log_marks: marks,
            log_patterns: patterns,
        }
    }
}

/// The store's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Responses and lists of variants in L1.
    pub l1_entries: u64,
    /// What they weigh.
    pub l1_octets: u64,
    /// None without L2.
    pub l2: Option<L2Stats>,
    /// Every record up to here has been applied here; shown as in a purge's receipt.
    #[serde(serialize_with = "as_text")]
    pub log_position: Position,
    /// Marks that the log's table holds.
    pub log_marks: usize,
    /// Patterns that it holds.
    pub log_patterns: usize,
}

fn as_text<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(position)
}

/// L2's figures.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is shown, and none decides")]
pub struct L2Stats {
    /// Redis is connected; of a cluster, every node that has slots.
    pub up: bool,
    /// It is not, and a server is being tried.
    pub half_open: bool,
    /// Commands that Redis answered with an error, or that a connection broke under.
    pub errors: u64,
    /// Commands that it did not answer in time.
    pub timeouts: u64,
    /// Pieces of responses, 16 KiB each, that are on their way to Redis.
    pub writing: usize,
    /// Responses that were not written, because Redis was down or had just refused another, or too many
    /// were being written.
    pub dropped_writes: u64,
    /// Writes of responses that Redis refused, because it is full or a replica.
    pub refused_writes: u64,
    /// Responses that were not written, or not unpacked, because they are larger than `max_size`.
    pub too_large: u64,
    /// Values under the store's keys that it did not write, or that were damaged.
    pub damaged_frames: u64,
    /// The log is being read; if not, L2 is not used.
    pub log_in_step: bool,
    /// The time since every record of the shared log was known to be applied here: about a second
    /// at most while all is well.
    pub log_lag_seconds: f64,
    /// It is longer than `max_lag`, so that routes do as their `on_lag` says.
    pub log_lag_passed: bool,
    /// The time from the last change of a document that any gateway of the fleet heard of to its being
    /// applied here, by MongoDB's clock and Redis'.
    pub invalidation_lag_seconds: f64,
    /// Invalidations that wait to be appended to the shared log.
    pub log_waiting: usize,
    /// It is a replica's, which confirms nothing.
    pub log_of_replica: bool,
    /// The room that everything takes on the disk. None where that is Redis' to say.
    pub octets: Option<u64>,
    /// Responses that had to go from the disk before their end.
    pub evicted: u64,
}

/// The figures of one of `[[changes]]`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ChangeFigures {
    /// This gateway reads the stream, which is open.
    pub watching: bool,
    /// How long ago every change was known to be in the log. None: never so far.
    pub position_age_seconds: Option<f64>,
    /// That is longer than `max_lag`, so that routes do as their `on_lag` says.
    pub late: bool,
    /// The time from the last change that this gateway applied to its being in the log, by MongoDB's
    /// clock and this one's.
    pub invalidation_lag_seconds: f64,
    /// Changes that this gateway has applied.
    pub events: u64,
    /// Records of the log that they made.
    pub invalidations: u64,
    /// How often changes may have been missed.
    pub lost: u64,
    /// Changes about which the policy failed.
    pub policy_failures: u64,
}
