//! The servers of an upstream, and whose turn it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Balance;

use super::balance::{self, By, Candidate};
use super::server::{Call, Server, ServerHealth};

/// The servers of an upstream.
pub(super) struct Group {
    servers: Box<[Arc<Server>]>,
    balance: Balance,
    /// One is chosen at a time, so that what is chosen by holds until it is.
    turns: Mutex<Box<[i64]>>,
    draws: AtomicU64,
}

impl Group {
    pub(super) fn new(servers: Vec<Arc<Server>>, balance: Balance) -> Self {
        let turns = vec![0; servers.len()].into();
        Self {
            servers: servers.into(),
            balance,
            turns: Mutex::new(turns),
            draws: AtomicU64::new(0),
        }
    }

    /// Whether it matters what a request has in common with others.
    pub(super) fn goes_by_hash(&self) -> bool {
        self.balance == Balance::Hash
    }

    /// The server that is to be asked next, of those that were not. `None`: there is none left.
    /// `has_nothing_to_lose`: of those that are not usable as well.
    pub(super) fn next(
        &self,
        hash: u64,
        tried: &[Arc<Server>],
        has_nothing_to_lose: bool,
    ) -> Option<Call> {
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
        let chosen = balance::choose(&candidates, by, has_nothing_to_lose)?;
        Some(Call::begin(Arc::clone(self.servers.get(chosen)?)))
    }

    /// How each server is.
    pub(super) fn told(&self) -> Vec<ServerHealth> {
        self.servers.iter().map(|server| server.told()).collect()
    }
}
