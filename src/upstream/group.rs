//! The servers of an upstream, and whose turn it is. Which servers there are changes where names stand
//! for other addresses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::info;

use crate::config::{self, Balance, Health};
use crate::stats::Times;

use super::balance::{self, By, Candidate, Choice};
use super::beside::Beside;
use super::names::{Whereto, host};
use super::probe::Probes;
use super::server::{Call, Server, name};
use super::standing::ServerHealth;
use super::{Failure, LookupFailure};

/// The servers of an upstream.
pub(super) struct Group {
    config: config::Upstream,
    /// One is chosen at a time, so that what is chosen by holds until it is.
    members: Mutex<Members>,
    draws: AtomicU64,
    beside: Arc<Beside>,
    /// Who waits. The first of them has it, and looks for a server.
    line: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    /// How long those took that are over.
    pub(super) waits: Times,
    probes: OnceLock<Probes>,
}

/// Who may be chosen.
struct Members {
    /// In the order of the configuration, and those of one name by address.
    servers: Vec<Arc<Server>>,
    /// Of each.
    turns: Vec<i64>,
    /// What is known of names, by their places in the configuration.
    names: Vec<Known>,
    /// What connections are secured with.
    tls: rustls::ClientConfig,
}

/// What is known of one that is configured.
#[derive(Default)]
struct Known {
    /// It has had addresses.
    is_found: bool,
    /// Since when the last looks have failed, and why the last one did.
    failure: Option<(Instant, String)>,
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
    /// Opens no connection. Until they are looked up, names are servers as well.
    pub(super) fn new(config: &config::Upstream, tls: rustls::ClientConfig) -> Self {
        let beside = Arc::new(Beside::new(config.servers.len()));
        let servers = config.servers.iter().enumerate();
        let servers = servers.map(|(place, it)| {
            Arc::new(Server::new(it, place, Whereto::default(), config, &tls, &beside))
        });
        let servers: Vec<_> = servers.collect();
        let members = Members {
            turns: vec![0; servers.len()],
            names: config.servers.iter().map(|_| Known::default()).collect(),
            servers,
            tls,
        };
        Self {
            config: config::Upstream::clone(config),
            members: Mutex::new(members),
            draws: AtomicU64::new(0),
            beside,
            line: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            waits: Times::default(),
            probes: OnceLock::new(),
        }
    }

    /// The upstream's name.
    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has connections secured with this from now on.
    pub(super) fn secure(&self, tls: rustls::ClientConfig) {
        let mut members = self.members();
        members.servers.iter().for_each(|server| server.secure(&self.config, &tls));
        members.tls = tls;
    }

    /// Whether it matters what a request has in common with others.
    pub(super) fn goes_by_hash(&self) -> bool {
        self.config.balance == Balance::Hash
    }

    /// The server that is to be asked first. If all have as many requests as they may, that is waited
    /// for, in line. `now`: the request begins.
    ///
    /// # Errors
    /// [`Failure::Busy`]: too many wait already, or it took too long.
    pub(super) async fn first(&self, hash: u64, now: Instant) -> Result<Call, Failure> {
        // Who comes later does not pass those who wait.
        if self.waiting.load(Ordering::Relaxed) == 0
            && let Some(found) = self.next(hash, &[], true, now).found()
        {
            return found;
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.config.max_waiting {
            return Err(Failure::Busy);
        }
        // On the heap: few wait, and the others have no room for it.
        let waited = Box::pin(timeout(self.config.max_wait, self.in_line(hash)));
        let found = waited.await.unwrap_or(Err(Failure::Busy));
        self.waits.count(now.elapsed());
        found
    }

    /// The same for one that waits. Who comes to be the first in line looks at once, so that several get a
    /// server where there is room for several; and nobody but the first is woken.
    async fn in_line(&self, hash: u64) -> Result<Call, Failure> {
        let _first = self.line.lock().await;
        loop {
            let now = Instant::now();
            if let Some(found) = self.next(hash, &[], true, now).found() {
                return found;
            }
            match self.returns(now) {
                // Nobody tells of that.
                Some(at) => drop(timeout_at(at, self.beside.freed()).await),
                None => self.beside.freed().await,
            }
        }
    }

    /// When the next of the servers that are left alone may be asked again.
    fn returns(&self, now: Instant) -> Option<Instant> {
        let members = self.members();
        members.servers.iter().filter_map(|server| server.returns(now)).min()
    }

    /// The server that is to be asked next, of those that were not. `has_nothing_to_lose`: of those that
    /// are not usable as well.
    pub(super) fn next(
        &self,
        hash: u64,
        tried: &[Arc<Server>],
        has_nothing_to_lose: bool,
        now: Instant,
    ) -> Next {
        let mut members = self.members();
        let Members { servers, turns, .. } = &mut *members;
        let candidate = |server: &Arc<Server>| {
            let is_tried = tried.iter().any(|other| Arc::ptr_eq(server, other));
            Candidate { is_tried, ..server.candidate(now) }
        };
        let (only, several);
        let candidates: &[Candidate] = if let [server] = &**servers {
            only = [candidate(server)];
            &only
        } else {
            several = servers.iter().map(candidate).collect::<Vec<_>>();
            &several
        };
        let by = match self.config.balance {
            Balance::RoundRobin => By::Turns(turns),
            Balance::LeastRequests => {
                By::Load { random: self.draws.fetch_add(1, Ordering::Relaxed) }
            }
            Balance::Hash => By::Hash(hash),
        };
        match balance::choose(candidates, by, has_nothing_to_lose) {
            Choice::Place(place) => match servers.get(place) {
                Some(server) => Next::Call(Call::begin(Arc::clone(server), now)),
                None => Next::Nobody,
            },
            Choice::Full => Next::Full,
            Choice::Nobody => Next::Nobody,
        }
    }

    /// The server that would be asked first, if one may have a request now: nobody's turn is taken.
    pub(super) fn foretell(&self, hash: u64) -> Option<ServerHealth> {
        let (members, now) = (self.members(), Instant::now());
        let candidates: Vec<_> = members.servers.iter().map(|it| it.candidate(now)).collect();
        let mut turns = members.turns.clone();
        let by = match self.config.balance {
            Balance::RoundRobin => By::Turns(&mut turns),
            Balance::LeastRequests => By::Load { random: self.draws.load(Ordering::Relaxed) },
            Balance::Hash => By::Hash(hash),
        };
        let Choice::Place(place) = balance::choose(&candidates, by, true) else { return None };
        members.servers.get(place).map(|server| server.told())
    }

    /// How many requests wait for a server.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Has each server checked, on this runtime, as long as the group is kept.
    pub(super) fn probe(&self, health: &Health, runtime: &Handle) {
        let probes = self.probes.get_or_init(|| Probes::new(health.clone(), runtime.clone()));
        probes.follow(&self.members().servers);
    }

    /// Those that are given by name, by their places in the configuration.
    pub(super) fn named(&self) -> impl Iterator<Item = usize> {
        let servers = self.config.servers.iter().enumerate();
        servers.filter(|(_, it)| host(&it.url).is_some()).map(|(place, _)| place)
    }

    /// Waits until a server of a name is in trouble.
    pub(super) async fn trouble(&self, place: usize) {
        self.beside.trouble(place).await;
    }

    /// What is configured at a place.
    pub(super) fn configured(&self, place: usize) -> Option<&config::UpstreamServer> {
        self.config.servers.get(place)
    }

    /// What has changed of a name's servers when it was looked up: each with all of its addresses. Those
    /// that stay keep what is known of them, those that go get no more requests. Whether looks fail,
    /// if that is new.
    ///
    /// Where nothing was found, all stay.
    pub(super) fn looked_up(
        &self,
        place: usize,
        found: Result<&[Vec<SocketAddr>], String>,
    ) -> Option<bool> {
        let mut members = self.members();
        let known = members.names.get_mut(place)?;
        let had_failed = known.failure.is_some();
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                let since = known.failure.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                known.failure = Some((since, why));
                return (!had_failed).then_some(true);
            }
        };
        known.failure = None;
        let was_found = std::mem::replace(&mut known.is_found, true);
        if let Some(server) = self.config.servers.get(place) {
            self.replace(&mut members, place, server, found, was_found);
        }
        had_failed.then_some(false)
    }

    /// Has these as the servers at a place. `has_others`: whoever is new there is so beside others.
    fn replace(
        &self,
        members: &mut Members,
        place: usize,
        server: &config::UpstreamServer,
        found: &[Vec<SocketAddr>],
        has_others: bool,
    ) {
        let Members { servers, turns, tls, .. } = members;
        let begin = servers.partition_point(|it| it.place() < place);
        let end = servers.partition_point(|it| it.place() <= place);
        let before: Vec<_> = servers.drain(begin..end).zip(turns.drain(begin..end)).collect();
        let is_known = |addresses: &Vec<SocketAddr>| {
            let kept = before.iter().find(|(it, _)| it.address() == addresses.first().copied());
            kept.inspect(|(it, _)| it.reach_by(addresses)).cloned()
        };
        let new = |addresses: &Vec<SocketAddr>| {
            let whereto = Whereto::these(addresses);
            let made = Server::new(server, place, whereto, &self.config, tls, &self.beside);
            (Arc::new(if has_others { made.arriving() } else { made }), 0)
        };
        let now: Vec<(Arc<Server>, i64)> =
            found.iter().map(|it| is_known(it).unwrap_or_else(|| new(it))).collect();
        for (server, _) in &now {
            server.is_one_of(now.len());
        }
        let shown = |of: &[(Arc<Server>, i64)]| {
            let addresses = of.iter().filter_map(|(it, _)| it.address());
            addresses.map(|it| it.to_string()).collect::<Vec<_>>().join(", ")
        };
        let (former, addresses) = (shown(&before), shown(&now));
        if has_others && former != addresses {
            let (upstream, server) = (self.name(), &server.url);
            info!(%upstream, %server, addresses, former, "name has other addresses");
        }
        for (offset, (server, turn)) in now.into_iter().enumerate() {
            servers.insert(begin + offset, server);
            turns.insert(begin + offset, turn);
        }
        self.beside.are(servers.len());
        if let Some(probes) = self.probes.get() {
            probes.follow(servers);
        }
    }

    /// How each server is.
    pub(super) fn told(&self) -> Vec<ServerHealth> {
        self.members().servers.iter().map(|server| server.told()).collect()
    }

    /// The names that cannot be looked up.
    pub(super) fn lookup_failures(&self) -> Vec<LookupFailure> {
        let members = self.members();
        let known = self.config.servers.iter().zip(&members.names);
        let failures = known.filter_map(|(server, known)| {
            let (since, why) = known.failure.as_ref()?;
            let name = name(&server.url).into();
            Some(LookupFailure { name, lasts: since.elapsed(), why: why.clone() })
        });
        failures.collect()
    }
}
