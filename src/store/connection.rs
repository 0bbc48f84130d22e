//! A connection to Redis that heals itself and that nobody waits for.
//!
//! While there is none, every command fails at once. Each command has a deadline. A connection is
//! given up on a transport error, or after some timeouts in a row: one to a server that hangs, or
//! that a firewall has forgotten, would otherwise never recover. One task connects again.
//!
//! A command that timed out may still be carried out later, so nothing may rest on its not being.

use std::collections::HashSet;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{FromRedisValue, Pipeline, RedisError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{debug, info, warn};

use crate::clock;
use crate::stats::Counter;
use crate::store::nodes::{Link, Peer};

/// How often an idle connection is asked whether it still works.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How long such an answer may take.
const ANSWER: Duration = Duration::from_millis(400);

/// The pause before connecting again: this at first, and twice the last one up to the second.
pub(super) const PAUSES: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(500));

/// So many reasons why there is no connection are told before there is one again.
const MOST_REASONS: usize = 8;

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("Redis is not connected")]
    Down,
    #[error("Redis did not answer in time")]
    Timeout,
    /// It does not know this user or password, or lets this user do too little.
    #[error("Redis refuses the user or the password")]
    Refused(#[source] RedisError),
    #[error("no sentinel tells which server is the master")]
    NoMaster,
    #[error("the server that sentinels name is no master yet")]
    NotMaster,
    #[error("no node of the cluster knows who has its slots")]
    NoSlots,
    /// An error as the answer, or the connection broke.
    #[error(transparent)]
    Failed(#[from] RedisError),
    /// The answer makes no sense for the command.
    #[error("Redis answered nonsense")]
    Nonsense,
    /// Redis holds another log than it did.
    #[error("Redis lost the invalidation log")]
    LogLost,
}

/// The handle. Dropping it closes the connection once running commands are done.
pub(super) struct Connection {
    peer: Peer,
    current: ArcSwapOption<Current>,
    lost: Notify,
    pub(super) timeouts: Counter,
    pub(super) errors: Counter,
}

struct Current {
    link: Link,
    timeouts: AtomicU32,
}

impl Connection {
    /// Not connected yet; [`Connection::keep`] does that.
    pub(super) fn new(peer: Peer) -> Self {
        Self {
            peer,
            current: ArcSwapOption::empty(),
            lost: Notify::new(),
            timeouts: Counter::default(),
            errors: Counter::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.current.load().is_some()
    }

    /// The answer to all commands of `pipeline`. May be called on any runtime, and cancelled.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        deadline: Instant,
    ) -> Result<T, Trouble> {
        let current = self.current.load_full().ok_or(Trouble::Down)?;
        let mut commands = current.link.commands();
        match timeout_at(deadline, pipeline.query_async(&mut commands)).await {
            Ok(Ok(answer)) => {
                current.timeouts.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.errors.count();
                let is_broken = error.is_io_error() || error.is_unrecoverable_error();
                if is_broken || self.peer.is_elsewhere(&error) {
                    self.give_up(&current);
                }
                Err(error.into())
            }
            Err(_) => {
                self.timeouts.count();
                if current.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= self.peer.patience() {
                    self.give_up(&current);
                }
                Err(Trouble::Timeout)
            }
        }
    }

    /// Gives a connection up, unless somebody did and it is another one by now.
    fn give_up(&self, current: &Arc<Current>) {
        let before = self.current.compare_and_swap(current, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, current)) {
            self.lost.notify_one();
        }
    }

    /// Returns when the connection is lost. One that nobody uses would not show it, so it is asked
    /// for a sign of life.
    async fn watch(&self) {
        let mut ping = redis::pipe();
        ping.cmd("PING").ignore();
        while timeout(SIGN_OF_LIFE, self.lost.notified()).await.is_err() {
            let deadline = Instant::from_std(clock::instant() + ANSWER);
            if let Err(error) = self.query::<()>(&ping, deadline).await {
                debug!(%error, "no sign of life from Redis");
            }
        }
    }

    /// Connects, and again whenever the connection is lost, until `end`. The connection is driven
    /// by the runtime that this runs on.
    pub(super) async fn keep(self: Arc<Self>, end: CancellationToken) {
        let mut pause = PAUSES.0;
        let mut is_down = false;
        let mut told = HashSet::new();
        while let Some(connected) = end.run_until_cancelled(self.peer.connect()).await {
            match connected {
                Ok(link) => {
                    let current = Current { link, timeouts: AtomicU32::new(0) };
                    self.current.store(Some(Arc::new(current)));
                    pause = PAUSES.0;
                    told.clear();
                    if is_down {
                        info!(redis = %self.peer, "L2 is back");
                    }
                    if end.run_until_cancelled(self.watch()).await.is_none() {
                        return;
                    }
                    is_down = true;
                    warn!(redis = %self.peer, "L2 connection lost, serving without it");
                }
                Err(error) => {
                    is_down = true;
                    // Each reason once.
                    if told.len() < MOST_REASONS && told.insert(error.to_string()) {
                        let cause = error.source().map(display);
                        warn!(redis = %self.peer, %error, cause, "L2 unreachable, serving without it");
                    }
                    if end.run_until_cancelled(sleep(pause)).await.is_none() {
                        return;
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }
}

/// What `command` answers, if it does so within `limit`.
pub(super) async fn bounded<T>(
    limit: Duration,
    command: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, Trouble> {
    match timeout(limit, command).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Trouble::Timeout),
    }
}
