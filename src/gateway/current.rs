//! What answers now. A configuration has a gateway of its own, and a reload puts another in its
//! place: requests under way end with the one that they began with.
//!
//! What must not begin anew with a configuration (the store, the fetches that requests share, the
//! figures) is [`Lasting`], which all of them have in common.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::Request;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::access_log::AccessLog;
use crate::busiest::Busiest;
use crate::clock::Clock;
use crate::collapse::Collapse;
use crate::comparison::Comparison;
use crate::documents::Source;
use crate::plugin::Policy;
use crate::routes::Routes;
use crate::stats::Stats;
use crate::store::{Bookmark, Store};
use crate::token::Reader;
use crate::traces::Tracer;
use crate::upstream::{Arriving, Upstream};

use super::coded::Workshop;
use super::refusals::Refusals;
use super::{Answer, Gateway, Peer, Plan};

/// So many names of upstreams that are no more are remembered.
const MOST_FORMER: usize = 1000;

/// The gateway that answers requests from now on. Shared by all workers.
pub struct Current {
    gateway: ArcSwap<Gateway>,
    /// The service is ending.
    is_leaving: AtomicBool,
}

impl Gateway {
    /// The routes that `former` had, too, and that find nothing of what they stored there.
    pub fn cold_after(&self, former: &Self) -> Vec<String> {
        let is_cold = |plan: &&Plan| {
            let mut before = former.plans.iter().filter(|other| other.name == plan.name);
            before.next().is_some_and(|before| before.space != plan.space)
        };
        self.plans.iter().filter(is_cold).map(|plan| plan.name.to_string()).collect()
    }
}

impl Current {
    /// Begins with this one.
    pub fn new(gateway: Arc<Gateway>) -> Arc<Self> {
        Arc::new(Self { gateway: ArcSwap::new(gateway), is_leaving: AtomicBool::new(false) })
    }

    /// Answers one request, which came at `begun`, by the configuration of this moment; see
    /// [`Gateway::answer`].
    pub fn answer(&self, request: Request<Arriving>, peer: Peer, begun: Instant) -> Answer {
        self.gateway.load().answer(request, peer, begun)
    }

    /// The gateway of this moment.
    pub fn gateway(&self) -> Arc<Gateway> {
        self.gateway.load_full()
    }

    /// Has requests answered by `next` from now on. Answers the one before, which requests under way
    /// still use.
    pub fn replace(&self, next: Arc<Gateway>) -> Arc<Gateway> {
        self.gateway.swap(next)
    }

    /// No more requests are taken, and those under way end.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// Whether [`Current::leave`] was called.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }
}

/// What a gateway works with, besides its configuration.
pub struct Equipment {
    /// In the order of the configuration.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What documents are read from, in the order of the configuration.
    pub sources: Vec<Arc<Source>>,
    /// In the order of the configuration.
    pub policies: Vec<Arc<Policy>>,
    /// In the order of the configuration.
    pub tokens: Vec<Arc<Reader>>,
    /// How far changes have been applied, in the order of the configuration.
    pub bookmarks: Vec<Arc<Bookmark>>,
    /// The route table of the same configuration.
    pub routes: Routes,
    /// What a former gateway worked with, too.
    pub lasting: Lasting,
}

/// What lives on from one configuration to the next. Cheap to clone.
#[derive(Clone)]
pub struct Lasting {
    /// The tiers and the invalidation log.
    pub(super) store: Arc<Store>,
    /// A fetch is shared across a reload, too: its key says all that its response depends on.
    pub(super) collapse: Arc<Collapse>,
    /// By route name.
    pub(super) stats: Arc<Stats>,
    /// Where fetches run, so that the drain waits for them.
    pub(super) tasks: TaskTracker,
    /// The time.
    pub(super) clock: Clock,
    /// Where documents are read.
    pub(super) runtime: Handle,
    /// A line for each request.
    pub(super) access_log: Option<Arc<AccessLog>>,
    /// Where spans of requests go.
    pub(super) tracer: Option<Arc<Tracer>>,
    /// The names of all upstreams there have been, lately used last: responses of a former one may
    /// come back with it, and a purge in between has to reach them.
    upstreams: Arc<Mutex<VecDeque<Box<str>>>>,
    /// The URLs that are hit most.
    pub(super) busiest: Arc<Busiest>,
    /// The turn to add them to the ranking that is kept.
    pub(super) ranking: Arc<tokio::sync::Mutex<()>>,
    /// What was not stored lately.
    pub(super) refusals: Arc<Refusals>,
    /// Coded forms in the making.
    pub(super) workshop: Workshop,
    /// By route name, with what is compared there.
    comparisons: Arc<Mutex<BTreeMap<Box<str>, Compared>>>,
}

/// Which policies are compared, and what that came to so far.
type Compared = (String, Weak<Comparison>);

impl Lasting {
    /// Nothing counted, and no fetch under way. Fetches run on `tasks`, for which the drain waits.
    /// Documents are read on the runtime that this is called on.
    pub fn new(store: Arc<Store>, tasks: TaskTracker, clock: Clock) -> Self {
        Self {
            store,
            collapse: Collapse::new(),
            stats: Arc::default(),
            tasks,
            clock,
            runtime: Handle::current(),
            access_log: None,
            tracer: None,
            upstreams: Arc::default(),
            busiest: Arc::default(),
            ranking: Arc::default(),
            refusals: Arc::default(),
            workshop: Workshop::default(),
            comparisons: Arc::default(),
        }
    }

    /// Has each request put into this log.
    #[must_use]
    pub fn with_access_log(self, access_log: Option<Arc<AccessLog>>) -> Self {
        Self { access_log, ..self }
    }

    /// Has the spans of each request told.
    #[must_use]
    pub fn with_tracer(self, tracer: Option<Arc<Tracer>>) -> Self {
        Self { tracer, ..self }
    }

    /// What has been counted.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where documents are read.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Has so many of the busiest URLs counted from now on; 0 is none.
    pub fn count_busiest(&self, most: usize) {
        self.busiest.want(most);
    }

    /// Remembers the upstreams of a configuration.
    pub(super) fn remember(&self, names: Vec<String>) {
        let mut known = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        let most = MOST_FORMER + names.len();
        for name in names {
            known.retain(|former| **former != *name);
            known.push_back(name.into());
        }
        let excess = known.len().saturating_sub(most);
        known.drain(..excess);
    }

    /// The comparison on a route: the one that was there, if the same policies were compared.
    pub(super) fn comparison(&self, route: &str, compared: String) -> Arc<Comparison> {
        let mut known = self.comparisons.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, comparison)| comparison.strong_count() > 0);
        let same = known.get(route).filter(|(before, _)| *before == compared);
        if let Some(comparison) = same.and_then(|(_, comparison)| comparison.upgrade()) {
            return comparison;
        }
        let comparison = Arc::new(Comparison::default());
        known.insert(route.into(), (compared, Arc::downgrade(&comparison)));
        comparison
    }

    /// The names of all upstreams that are remembered.
    pub(super) fn upstreams(&self) -> Vec<Box<str>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
