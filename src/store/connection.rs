//! A connection to Redis that heals itself and that nobody waits for.
//!
//! While there is none, every command fails at once. Each command has a deadline. A connection is
//! given up on a transport error, or after some timeouts in a row: one to a server that hangs, or
//! that a firewall has forgotten, would otherwise never recover. So it is after too many timeouts among
//! others that were answered (`lateness`). One task connects again.
//!
//! So it is a circuit breaker. While it is open, no request waits. It closes when a new connection has
//! done what requests want of it, a look-up and a write, and has done so within their timeout: a
//! server may be quick to say `PONG`, and slow all the same. If it is given up for that soon after,
//! a longer and longer pause follows. Only answers within the timeout end a row of timeouts: writes
//! have more time, and would hide that each look-up waits in vain.
//!
//! A command that timed out may still be carried out later, so nothing may rest on its not being.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline, RedisError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock;
use crate::stats::Counter;
use crate::store::advice::{Told, advice, forbids_writes, is_answer};
use crate::store::condition::{Condition, State};
use crate::store::health::ServerHealth;
use crate::store::lateness::Lateness;
use crate::store::nodes::{Link, Peer};
use crate::store::rest::Rest;

/// How often an idle connection is asked whether it still works.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How long such an answer may take.
const ANSWER: Duration = Duration::from_millis(400);

/// The pause before connecting again: this at first, and twice the last one up to the second.
pub(super) const PAUSES: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(500));

/// The pause after a connection that answered too late again, soon after it was made.
const TRIALS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// One that lasted so long was good.
const PROVEN: Duration = Duration::from_secs(10);

/// However long requests would wait, a trial has to come to an end.
const LONGEST_TRIAL: Duration = Duration::from_secs(1);

/// What a trial writes is gone after so long.
const TRIAL_KEPT: Duration = Duration::from_mins(1);

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
    /// This process did not run, and records may have been trimmed meanwhile.
    #[error("this process stood still for a while")]
    StoodStill,
    #[error("Redis became a replica, or the master")]
    OtherRole,
}

/// The handle. Dropping it closes the connection once running commands are done.
pub(super) struct Connection {
    peer: Peer,
    trial: Trial,
    current: ArcSwapOption<Current>,
    lost: Notify,
    condition: Condition,
    writes: Rest,
    pub(super) timeouts: Counter,
    pub(super) errors: Counter,
}

/// What a connection has to do before requests use it.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// What is looked up and written.
    pub(super) key: String,
    /// How long a look-up may take.
    pub(super) timeout: Duration,
}

struct Current {
    link: Link,
    lateness: Lateness,
    /// It was given up because it answered too late.
    is_late: AtomicBool,
}

impl Connection {
    /// Not connected yet; [`Connection::keep`] does that.
    pub(super) fn new(peer: Peer, trial: Trial) -> Self {
        Self {
            peer,
            trial,
            current: ArcSwapOption::empty(),
            lost: Notify::new(),
            condition: Condition::default(),
            writes: Rest::default(),
            timeouts: Counter::default(),
            errors: Counter::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.current.load().is_some()
    }

    /// What it is like, by the name of its server.
    pub(super) fn health(&self) -> ServerHealth {
        let takes_writes = !self.writes.is_on();
        ServerHealth { name: self.peer.to_string(), takes_writes, ..self.condition.told() }
    }

    /// Whether a response may be written: not while Redis refuses that.
    pub(super) fn may_write(&self) -> bool {
        self.is_up() && self.writes.may_write(clock::instant())
    }

    /// Notes what became of such a write.
    pub(super) fn wrote<T>(&self, answer: &Result<T, Trouble>) {
        match answer {
            Ok(_) if self.writes.end() => {
                info!(redis = %self.peer, "Redis takes responses again");
            }
            Err(error) if forbids_writes(error) && self.writes.begin(clock::instant()) => {
                let hint = advice(error);
                warn!(redis = %self.peer, %error, hint, "Redis takes no responses, it is only read");
            }
            _ => {}
        }
    }

    /// The answer to all commands of `pipeline`. May be called on any runtime, and cancelled.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        deadline: Instant,
    ) -> Result<T, Trouble> {
        let ask = |mut commands| async move { pipeline.query_async(&mut commands).await };
        self.answer(ask, deadline).await
    }

    /// What lies under a key. As [`Connection::query`], for less.
    pub(super) async fn get(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Trouble> {
        let command = redis::Cmd::get(name);
        let ask = |mut commands| async move { command.query_async(&mut commands).await };
        self.answer(ask, deadline).await
    }

    async fn answer<T, A: Future<Output = Result<T, RedisError>>>(
        &self,
        ask: impl FnOnce(MultiplexedConnection) -> A,
        deadline: Instant,
    ) -> Result<T, Trouble> {
        let current = self.current.load_full().ok_or(Trouble::Down)?;
        let asked = clock::instant();
        let answer = timeout_at(deadline, ask(current.link.commands())).await;
        if answer.is_ok() && asked.elapsed() <= self.trial.timeout {
            current.lateness.in_time();
        }
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.errors.count();
                let is_broken = error.is_io_error() || error.is_unrecoverable_error();
                if is_broken || self.peer.is_elsewhere(&error) {
                    self.give_up(&current, &error);
                }
                Err(error.into())
            }
            Err(_) => {
                self.timeouts.count();
                self.missed(&current);
                Err(Trouble::Timeout)
            }
        }
    }

    /// An answer did not come in time.
    fn missed(&self, current: &Arc<Current>) {
        if current.lateness.missed(self.peer.patience()) {
            current.is_late.store(true, Ordering::Relaxed);
            self.give_up(current, &Trouble::Timeout);
        }
    }

    /// Gives a connection up, unless somebody did and it is another one by now.
    fn give_up(&self, current: &Arc<Current>, why: &dyn Error) {
        let before = self.current.compare_and_swap(current, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, current)) {
            self.condition.becomes(State::Open, Some(why));
            self.lost.notify_one();
        }
    }

    /// Returns when the connection is lost. One that nobody uses would not show it, so it is asked
    /// for a sign of life; which says nothing of how soon requests are answered.
    async fn watch(&self, current: &Arc<Current>) {
        let ping = redis::cmd("PING");
        while timeout(SIGN_OF_LIFE, self.lost.notified()).await.is_err() {
            let mut commands = current.link.commands();
            match bounded(ANSWER, ping.exec_async(&mut commands)).await {
                Ok(()) => {}
                Err(error) if is_answer(&error) => debug!(%error, "no sign of life from Redis"),
                Err(Trouble::Timeout) => self.missed(current),
                Err(error) => self.give_up(current, &error),
            }
        }
    }

    /// A connection that requests can use.
    async fn connect(&self) -> Result<Link, Trouble> {
        let link = self.peer.connect().await?;
        self.condition.becomes(State::HalfOpen, None);
        let Trial { key, timeout } = &self.trial;
        let mut work = redis::pipe();
        work.cmd("GET").arg(key);
        work.cmd("SET").arg(key).arg(1).arg("PX").arg(TRIAL_KEPT.as_millis());
        let mut commands = link.commands();
        match bounded((*timeout).min(LONGEST_TRIAL), work.exec_async(&mut commands)).await {
            // What it may not do, or cannot, it has said in time.
            Err(trouble) if !is_answer(&trouble) => Err(trouble),
            _ => Ok(link),
        }
    }

    /// Connects, and again whenever the connection is lost, until `end`. The connection is driven
    /// by the runtime that this runs on.
    pub(super) async fn keep(self: Arc<Self>, end: CancellationToken) {
        let (mut pause, mut trial) = (PAUSES.0, Duration::ZERO);
        let mut is_down = false;
        let mut told = Told::default();
        while let Some(connected) = end.run_until_cancelled(self.connect()).await {
            let rest = match connected {
                Ok(link) => {
                    let (lateness, is_late) = (Lateness::default(), AtomicBool::new(false));
                    let current = Arc::new(Current { link, lateness, is_late });
                    self.current.store(Some(Arc::clone(&current)));
                    self.condition.becomes(State::Up, None);
                    pause = PAUSES.0;
                    told.is_over();
                    if is_down {
                        info!(redis = %self.peer, "L2 is back");
                    }
                    let since = clock::instant();
                    if end.run_until_cancelled(self.watch(&current)).await.is_none() {
                        return;
                    }
                    is_down = true;
                    warn!(redis = %self.peer, "L2 connection lost, serving without it");
                    trial =
                        next_trial(trial, current.is_late.load(Ordering::Relaxed), since.elapsed());
                    trial
                }
                Err(error) => {
                    is_down = true;
                    self.condition.becomes(State::Open, Some(&error));
                    if told.is_news(&error) {
                        let text = error.to_string();
                        let cause = error.source().map(ToString::to_string);
                        let cause = cause.filter(|cause| *cause != text);
                        let hint = advice(&error);
                        warn!(redis = %self.peer, %error, cause, hint, "L2 unreachable, serving without it");
                    }
                    let rest = pause;
                    pause = (pause * 2).min(PAUSES.1);
                    rest
                }
            };
            if end.run_until_cancelled(sleep(rest)).await.is_none() {
                return;
            }
        }
    }
}

/// The pause after a connection was lost, which lasted so long; `before` was the last one.
fn next_trial(before: Duration, is_late: bool, lasted: Duration) -> Duration {
    match (is_late, lasted < PROVEN) {
        (true, true) => (before * 2).clamp(TRIALS.0, TRIALS.1),
        // It can be tried at once whether the server is still late: that costs no request anything.
        _ => Duration::ZERO,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_late_again_and_again_rests_longer_and_longer() {
        let secs = Duration::from_secs;
        for (before, is_late, lasted, expected, why) in [
            (0, true, 60, 0, "it was good before"),
            (0, true, 1, 500, "soon again"),
            (500, true, 1, 1000, "and again"),
            (6000, true, 1, 8000, "not for ever"),
            (8000, true, 10, 0, "good again"),
            (8000, false, 1, 0, "it broke, which is noticed at once"),
        ] {
            let pause = next_trial(Duration::from_millis(before), is_late, secs(lasted));
            assert_eq!(pause, Duration::from_millis(expected), "{why}");
        }
    }
}
