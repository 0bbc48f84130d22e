//! The servers of an upstream, and whose turn it is.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::{self, Balance, Health};

use super::Failure;
use super::balance::{self, By, Candidate, Choice};
use super::probe::Probes;
use super::server::{Call, Server, ServerHealth};

/// The servers of an upstream.
pub(super) struct Group {
    servers: Box<[Arc<Server>]>,
    balance: Balance,
    /// One is chosen at a time, so that what is chosen by holds until it is.
    turns: Mutex<Box<[i64]>>,
    draws: AtomicU64,
    /// Told whenever a server could take another request.
    freed: Arc<Notify>,
    waiting: AtomicUsize,
    max_waiting: usize,
    max_wait: Duration,
}

/// Who is to be asked next.
pub(super) enum Next {
    /// This server.
    Call(Call),
    /// Every server that could be has as many requests as it may.
    Full,
    /// There is none left.
    Nobody,
}

/// A request that waits. Dropping it ends that.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Next {
    /// The server, if there is one now.
    pub(super) fn call(self) -> Option<Call> {
        match self {
            Self::Call(call) => Some(call),
            Self::Full | Self::Nobody => None,
        }
    }

    /// What a request comes to that is asked for the first time. None: it is to wait.
    fn found(self) -> Option<Result<Call, Failure>> {
        match self {
            Self::Call(call) => Some(Ok(call)),
            Self::Nobody => Some(Err(Failure::no_server())),
            Self::Full => None,
        }
    }
}

impl Group {
    /// Opens no connection.
    pub(super) fn new(config: &config::Upstream, tls: &rustls::ClientConfig) -> Self {
        let freed = Arc::new(Notify::new());
        let servers = config.servers.iter();
        let server = |it| Arc::new(Server::new(it, config, tls.clone(), Arc::clone(&freed)));
        let servers: Box<[_]> = servers.map(server).collect();
        Self {
            turns: Mutex::new(vec![0; servers.len()].into()),
            servers,
            balance: config.balance,
            draws: AtomicU64::new(0),
            freed,
            waiting: AtomicUsize::new(0),
            max_waiting: config.max_waiting,
            max_wait: config.max_wait,
        }
    }

    /// Whether it matters what a request has in common with others.
    pub(super) fn goes_by_hash(&self) -> bool {
        self.balance == Balance::Hash
    }

    /// The server that is to be asked first. If all have as many requests as they may, that is waited
    /// for, in line.
    ///
    /// # Errors
    /// [`Failure::Busy`]: too many wait already, or it took too long.
    pub(super) async fn first(&self, hash: u64) -> Result<Call, Failure> {
        // Who comes later does not pass those who wait.
        if self.waiting.load(Ordering::Relaxed) == 0
            && let Some(found) = self.next(hash, &[], true).found()
        {
            return found;
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.max_waiting {
            return Err(Failure::Busy);
        }
        let waited = async {
            loop {
                // One that was told and has gone meanwhile passes it on. What is told while nobody
                // waits is kept for the first who does.
                self.freed.notified().await;
                if let Some(found) = self.next(hash, &[], true).found() {
                    return found;
                }
            }
        };
        timeout(self.max_wait, waited).await.unwrap_or(Err(Failure::Busy))
    }

    /// The server that is to be asked next, of those that were not. `has_nothing_to_lose`: of those that
    /// are not usable as well.
    pub(super) fn next(&self, hash: u64, tried: &[Arc<Server>], has_nothing_to_lose: bool) -> Next {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let candidate = |server: &Arc<Server>| {
            let is_tried = tried.iter().any(|other| Arc::ptr_eq(server, other));
            Candidate { is_tried, ..server.candidate() }
        };
        let candidates: Vec<_> = self.servers.iter().map(candidate).collect();
        let by = match self.balance {
            Balance::RoundRobin => By::Turns(&mut turns),
            Balance::LeastRequests => {
                By::Load { random: self.draws.fetch_add(1, Ordering::Relaxed) }
            }
            Balance::Hash => By::Hash(hash),
        };
        match balance::choose(&candidates, by, has_nothing_to_lose) {
            Choice::Place(place) => match self.servers.get(place) {
                Some(server) => Next::Call(Call::begin(Arc::clone(server))),
                None => Next::Nobody,
            },
            Choice::Full => Next::Full,
            Choice::Nobody => Next::Nobody,
        }
    }

    /// How many requests wait for a server.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Has each server checked, on this runtime, as long as what this answers is kept.
    pub(super) fn probe(&self, health: &Health, runtime: &Handle) -> Probes {
        Probes::start(&self.servers, health, runtime)
    }

    /// How each server is.
    pub(super) fn told(&self) -> Vec<ServerHealth> {
        self.servers.iter().map(|server| server.told()).collect()
    }
}
