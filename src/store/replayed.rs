//! A store for requests that are replayed out of a log: L1 alone, and the invalidation log. What a second is,
//! the log says.
//!
//! It is the L1 that serves, with what that admits and evicts. Only the end of what it keeps is seen to
//! here: moka goes by the machine's clock, by which a day of a log takes a minute.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::clock::{self, Clock};
use crate::config;
use crate::store::l1::L1;
use crate::store::{Store, Tasks};

/// How time passes.
pub(super) struct Replay {
    clock: Clock,
    /// Stands for the beginning of 1970.
    begun: Instant,
}

/// What L1 holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// How many responses, and what leads to them.
    pub responses: u64,
    /// What they weigh, in octets.
    pub octets: u64,
    /// How many have been evicted to make room, or were not let in for that.
    pub evicted: u64,
}

impl Store {
    /// Starts empty, and stays by itself. `clock` is that of the replay.
    pub fn replayed(cache: &config::Cache, tasks: Tasks, clock: Clock) -> Self {
        let alone = config::Cache { l2: None, disk: None, ..cache.clone() };
        let store = Self::new(&alone, Some("replay"), tasks);
        let l1 = L1::replayed(&cache.l1);
        Self { l1, replay: Some(Replay { clock, begun: clock::instant() }), ..store }
    }

    /// Lets go of what L1 would have let go of by this time of a replay.
    pub fn pass_to(&self, now: SystemTime) {
        if let Some(l1) = &self.l1 {
            l1.pass_to(now);
        }
    }

    /// What a replay has left in L1 at this moment.
    pub fn room(&self) -> Room {
        let Some(l1) = &self.l1 else { return Room::default() };
        let (responses, octets, evicted) = l1.room();
        Room { responses, octets, evicted }
    }
}

impl Replay {
    /// The moment that stands for the clock's time.
    pub(super) fn instant(&self) -> Instant {
        let since = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.begun.checked_add(since).unwrap_or(self.begun)
    }
}
