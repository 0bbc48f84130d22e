//! How L2 and the log are, for whoever looks after them. `figures` has the numbers.

use std::time::Duration;

use crate::store::Store;
pub use crate::store::condition::State;
use crate::stored::Position;

/// How L2 and the log are.
#[derive(Clone, Debug)]
pub struct Health {
    /// The servers of L2, or the disk; empty without L2.
    pub servers: Vec<ServerHealth>,
    /// None without a log that is shared.
    pub log: Option<LogHealth>,
}

/// How one server of L2 is.
#[derive(Clone, Debug)]
pub struct ServerHealth {
    /// Its address, without a password.
    pub name: String,
    /// Whether requests use it.
    pub state: State,
    /// For how long they do, or do not; None where that is not known.
    pub lasts: Option<Duration>,
    /// It has not just refused a response.
    pub takes_writes: bool,
    /// What was wrong last, and how long ago, whatever has become of it.
    pub error: Option<(Duration, String)>,
}

/// How this gateway stands to the shared log.
#[derive(Clone, Debug)]
pub struct LogHealth {
    /// Up to here every record has been applied.
    pub position: Position,
    /// The time since the last contact.
    pub lag: Duration,
    /// It is read at its end, it is a master's, and the last contact is no longer ago than `max_lag`.
    pub in_contact: bool,
    /// It is a replica's.
    pub of_replica: bool,
    /// Invalidations that wait to be appended.
    pub waiting: usize,
    /// Why it is not being read, if it is not.
    pub error: Option<String>,
}

/// How a stream of changes is.
#[derive(Clone, Debug)]
pub struct WatchHealth {
    /// What logs and figures call it.
    pub name: String,
    /// This gateway is the one that reads it.
    pub is_own: bool,
    /// It is open here.
    pub is_open: bool,
    /// How long ago every change was known to be in the log. None: never so far.
    pub lag: Option<Duration>,
    /// That is longer than `max_lag`.
    pub is_late: bool,
    /// Why it cannot be read here, if it cannot.
    pub error: Option<String>,
}

impl Store {
    /// How L2 and the log are.
    pub fn health(&self) -> Health {
        let disk = self.disk.as_ref().map(|disk| disk.health());
        let Some(redis) = &self.redis else {
            return Health { servers: disk.into_iter().collect(), log: None };
        };
        let of_replica = redis.log.is_of_replica();
        let log = LogHealth {
            position: redis.log.reached(),
            lag: redis.lag.value(),
            in_contact: redis.log.is_in_step() && !of_replica && !redis.lag.is_passed(),
            of_replica,
            waiting: redis.log.waiting(),
            error: redis.log.trouble(),
        };
        Health { servers: redis.nodes.health(), log: Some(log) }
    }
}
