//! One configuration, tried by what logs tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{HOST, HeaderValue};
use http::{Method, StatusCode};

use super::exchange::Exchange;
use super::figures::{Figures, is_whole};
use super::keys::{Keys, Place, parameters};
use super::report::{Assumed, Memory, Report};
use super::warnings::Warnings;
use crate::clock::Clock;
use crate::gateway::{Considered, Gateway, Way};

/// After so many requests L1 is looked at.
const BETWEEN_LOOKS: u64 = 1024;

/// What is tried.
#[derive(Clone)]
pub struct Trial {
    /// What it is called.
    pub name: String,
    /// Answers by it; its store is one for replays.
    pub gateway: Arc<Gateway>,
    /// The gateway's.
    pub clock: Clock,
    /// The names of its routes, in the order of the configuration.
    pub routes: Vec<String>,
    /// Of L1, in octets.
    pub capacity: u64,
    /// What of the configuration takes no part.
    pub left_out: Vec<&'static str>,
}

/// How logs are read where they say too little, and how much is remembered.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `Host` of requests of which the log tells none.
    pub host: HeaderValue,
    /// The scheme of those of which it does not tell that.
    pub scheme: &'static str,
    /// So many keys are told apart.
    pub keys: usize,
    /// So many of the worst are told.
    pub worst: usize,
}

/// A configuration, and what it has come to so far.
pub struct Subject {
    trial: Trial,
    settings: Settings,
    figures: Vec<Figures>,
    /// What no route takes, by the reason.
    unrouted: BTreeMap<String, u64>,
    keys: Keys,
    memory: Memory,
    assumed: Assumed,
    taken: u64,
    second: u64,
}

impl Subject {
    /// Nothing is stored.
    pub fn new(trial: Trial, settings: Settings) -> Self {
        let routes = trial.routes.len();
        Self {
            figures: vec![Figures::default(); routes],
            unrouted: BTreeMap::new(),
            keys: Keys::new(routes, settings.keys),
            memory: Memory { capacity: trial.capacity, ..Memory::default() },
            assumed: Assumed { left_out: trial.left_out.clone(), ..Assumed::default() },
            taken: 0,
            second: 0,
            trial,
            settings,
        }
    }

    /// Has the configuration answer one request more. Times must not go backwards.
    pub async fn take(&mut self, exchange: &Exchange) {
        self.pass_to(exchange.at);
        let mut head = exchange.head.clone();
        if !head.headers.contains_key(HOST) {
            head.headers.insert(HOST, self.settings.host.clone());
            self.assumed.hosts += 1;
        }
        let scheme = exchange.scheme.unwrap_or(self.settings.scheme);
        let considered = self.trial.gateway.consider(head, scheme).await;
        match considered.route() {
            Some(route) => self.take_routed(exchange, considered, route).await,
            None => self.take_unrouted(considered.way()),
        }
        self.taken += 1;
        if self.taken.is_multiple_of(BETWEEN_LOOKS) {
            self.look_at_memory();
        }
    }

    async fn take_routed(&mut self, exchange: &Exchange, considered: Considered, route: usize) {
        let Exchange { head, status, fields, octets, .. } = exchange;
        let way = considered.way().clone();
        let mut status = *status;
        let mut length = octets.unwrap_or_default();
        if octets.is_none() && head.method == Method::GET {
            self.assumed.lengths += 1;
        }
        let missed = matches!(way, Way::Miss(_));
        if status == StatusCode::NOT_MODIFIED && (missed || way == (Way::Hit { is_stale: true })) {
            // The client asked about its own copy. Larder would have asked for the whole.
            status = StatusCode::OK;
            let known = considered.key().and_then(|key| self.keys.length(key));
            length = known.unwrap_or_default();
            self.assumed.not_modified += 1;
            self.assumed.lengths += u64::from(known.is_none());
        }
        self.note_key(&considered, route, missed);
        if is_whole(&head.method, exchange.status, &way)
            && let (Some(key), Some(octets)) = (considered.key(), octets)
        {
            self.keys.note_length(key, *octets);
        }
        let Some(figures) = self.figures.get_mut(route) else { return };
        figures.count(&way, if missed { length } else { octets.unwrap_or_default() });
        let settled = usize::try_from(length).unwrap_or(usize::MAX);
        let replayed = self.trial.gateway.settle(considered, status, fields.clone(), settled).await;
        figures.settle(&replayed);
    }

    fn note_key(&mut self, considered: &Considered, route: usize, missed: bool) {
        let Some(key) = considered.key() else { return };
        if !self.keys.count(key, route, missed, || considered.name()) {
            return;
        }
        let name = considered.name().unwrap_or_default();
        self.keys.note_parts(route, Place::Query, parameters(&name));
        let captured = self.trial.gateway.captured(considered);
        self.keys.note_parts(route, Place::Path, captured.into_iter());
    }

    fn take_unrouted(&mut self, way: &Way) {
        let why = match way {
            Way::Unrouted(StatusCode::NOT_FOUND) => "no route".to_owned(),
            Way::Unrouted(status) => status.to_string(),
            Way::Malformed(why) => (*why).to_owned(),
            _ => return,
        };
        *self.unrouted.entry(why).or_default() += 1;
    }

    fn pass_to(&mut self, millis: u64) {
        self.trial.clock.set(millis);
        // What ends within a second is not used before it is over: its end is looked at, too.
        if millis / 1000 != self.second {
            self.second = millis / 1000;
            let now = UNIX_EPOCH + Duration::from_millis(millis);
            self.trial.gateway.store().pass_to(now);
        }
    }

    fn look_at_memory(&mut self) {
        self.memory.see(self.trial.gateway.store().room());
    }

    /// What it has come to, these warnings included.
    pub fn report(mut self, warnings: &Warnings) -> Report {
        self.look_at_memory();
        let stats = self.trial.gateway.stats();
        for (figures, route) in self.figures.iter_mut().zip(&self.trial.routes) {
            figures.policy_failures = stats.route(route).policy_failures.value();
        }
        let Self { trial, settings, figures, unrouted, keys, memory, assumed, .. } = self;
        let report = Report::new(trial, figures, unrouted, &keys, memory, assumed, settings.worst);
        Report { warnings: warnings.told(), ..report }
    }
}
