//! The events of the feed, each written once.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::history::{Counts, History};
use super::latency::Delays;
use crate::admin::health;
use crate::gateway::{Current, Gateway};
use crate::plugin;
use crate::stats::{Latency, Spread};
use crate::store::Noted;

/// So many invalidations are told of at once: the newest.
const MOST_NOTED: usize = 100;

/// What one second came to, and all before it.
#[derive(Default)]
pub(super) struct Frames {
    /// How many seconds there were.
    number: u64,
    /// What had been counted until then.
    total: BTreeMap<String, Counts>,
    total_of_all: Counts,
    times: Spread,
    called: BTreeMap<String, plugin::Snapshot>,
    /// What the last second came to.
    last: Second,
    history: History,
    delays: Delays,
    /// The last invalidation that was told of.
    noticed: u64,
    /// What was told last of purges, and of the busiest URLs.
    pub(super) receipts: Vec<Value>,
    pub(super) busiest: Value,
    /// Of this second.
    begin: Option<Bytes>,
}

/// What was counted in one second.
#[derive(Default, Serialize)]
struct Second {
    all: Counts,
    /// Where there was anything.
    routes: BTreeMap<String, Counts>,
    policies: Vec<Policy>,
    /// Of the responses of this second.
    latency: Option<Latency>,
}

/// What was counted of a policy.
#[derive(Serialize)]
struct Policy {
    name: String,
    calls: u64,
    remembered: u64,
    failures: u64,
    spent_seconds: f64,
    /// Since the start.
    total: plugin::Snapshot,
}

impl Frames {
    pub(super) fn new(gateway: &Gateway) -> Self {
        let mut frames = Self::default();
        // What was counted before is no second's.
        frames.take(gateway);
        frames
    }

    /// A second is over.
    pub(super) fn second(&mut self, gateway: &Gateway) {
        let spread;
        (self.last, spread) = self.take(gateway);
        self.last.latency = Some(Latency::of(&spread));
        self.delays.second(spread);
        self.history.second(&self.last.all, &self.last.routes);
        self.number += 1;
        self.begin = None;
    }

    /// What has been counted since the last time, and how long responses took.
    fn take(&mut self, gateway: &Gateway) -> (Second, Spread) {
        let snapshot = gateway.stats().snapshot();
        let total_of_all = Counts::of(&snapshot.all);
        let all = total_of_all.since(&self.total_of_all);
        let total: BTreeMap<_, _> =
            snapshot.routes.into_iter().map(|(name, it)| (name, Counts::of(&it))).collect();
        let none = Counts::default();
        let routes = total.iter().filter_map(|(name, total)| {
            let counted = total.since(self.total.get(name).unwrap_or(&none));
            (!counted.is_nothing()).then(|| (name.clone(), counted))
        });
        let routes = routes.collect();
        (self.total, self.total_of_all) = (total, total_of_all);
        let called: BTreeMap<_, _> =
            gateway.policies().map(|it| (it.name().to_owned(), it.snapshot())).collect();
        let policies = called.iter().map(|(name, total)| {
            let before = self.called.get(name).copied().unwrap_or_default();
            Policy::between(name, &before, total)
        });
        let policies = policies.collect();
        self.called = called;
        let times = snapshot.all.tally.spread(None);
        let spread = times.since(&self.times);
        self.times = times;
        (Second { all, routes, policies, latency: None }, spread)
    }

    /// The last second, for those who watch.
    pub(super) fn written(&self, current: &Current) -> Bytes {
        event("second", &self.told(current))
    }

    fn told(&self, current: &Current) -> Value {
        let gateway = current.gateway();
        let snapshot = gateway.stats().snapshot();
        let upstreams = gateway.upstreams().map(|it| (it.name(), it.snapshot()));
        let changes: BTreeMap<_, _> = gateway.changes().collect();
        json!({
            "number": self.number,
            "at": millis(gateway.now()),
            "counted": self.last,
            "latency": self.delays.minute(),
            "total": snapshot.all,
            "unrouted_requests": snapshot.unrouted_requests,
            "warming": snapshot.warming,
            "store": gateway.store().stats(),
            "l1_capacity": gateway.store().l1_capacity(),
            "upstreams": upstreams.collect::<BTreeMap<_, _>>(),
            "changes": changes,
            "health": health::told(current, true).1,
        })
    }

    /// What one gets who begins to watch, after everybody else has been told of all invalidations.
    pub(super) fn begin(&mut self, current: &Current) -> Bytes {
        if let Some(written) = &self.begin {
            return written.clone();
        }
        let gateway = current.gateway();
        let last = gateway.store().noted_since(0, MOST_NOTED);
        let last: Vec<_> = last.iter().map(|noted| told(&gateway, noted)).collect();
        let begin = json!({
            "gateway": &*gateway.store().name(),
            "version": env!("CARGO_PKG_VERSION"),
            "routes": gateway.route_names().collect::<Vec<_>>(),
            "history": self.history.shown(),
            "latency": self.delays.shown(),
            "second": self.told(current),
            "invalidations": last,
            "receipts": self.receipts,
            "busiest": self.busiest,
        });
        let written = event("begin", &begin);
        self.begin = Some(written.clone());
        written
    }

    /// What has been invalidated since it was last looked, if anything was.
    pub(super) fn invalidations(&mut self, gateway: &Gateway) -> Option<Bytes> {
        let news = gateway.store().noted_since(self.noticed, MOST_NOTED);
        self.noticed = news.last()?.number;
        self.begin = None;
        let told: Vec<_> = news.iter().map(|noted| told(gateway, noted)).collect();
        Some(event("invalidations", &json!({ "invalidations": told })))
    }

    /// There is other news of what `begin` has, too.
    pub(super) fn changed(&mut self) {
        self.begin = None;
    }
}

impl Policy {
    fn between(name: &str, before: &plugin::Snapshot, total: &plugin::Snapshot) -> Self {
        Self {
            name: name.to_owned(),
            calls: total.calls.saturating_sub(before.calls),
            remembered: total.remembered.saturating_sub(before.remembered),
            failures: total.failures.saturating_sub(before.failures),
            spent_seconds: total.spent.saturating_sub(before.spent).as_secs_f64(),
            total: *total,
        }
    }
}

fn told(gateway: &Gateway, noted: &Noted) -> Value {
    // The shared log has the server's time, also of what was appended before this gateway began.
    let at = match noted.place.millis {
        0 => millis(gateway.now() - noted.applied.elapsed()),
        millis => millis,
    };
    json!({
        "number": noted.number,
        "at": at,
        "position": noted.place.to_string(),
        "kind": noted.kind,
        "covers": noted.label,
        "soft": noted.soft,
        "cause": noted.cause,
        "by": noted.by.as_deref(),
    })
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// One event. JSON has no line ends of its own.
pub(super) fn event(name: &str, told: &Value) -> Bytes {
    format!("event: {name}\ndata: {told}\n\n").into()
}
