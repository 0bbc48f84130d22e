//! What a configuration has come to, as it is told.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::Figures;
use super::keys::{Counted, Keys, Place};
use super::subject::Trial;
use super::warnings::Warning;
use crate::store::Room;

/// So many parts of a route's keys are told.
const MOST_PARTS: usize = 5;

/// What a configuration has come to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the configuration is called.
    pub configuration: String,
    /// All routes together.
    pub all: Route,
    /// Each by itself, in the order of the configuration.
    pub routes: Vec<Route>,
    /// What no route takes, by the reason.
    pub unrouted: BTreeMap<String, u64>,
    /// What L1 took.
    pub memory: Memory,
    /// The keys that missed most.
    pub worst: Vec<Worst>,
    /// What the gateway would have warned of.
    pub warnings: Vec<Warning>,
    /// What the log did not say.
    pub assumed: Assumed,
}

/// What a route has come to.
#[derive(Clone, Debug, Serialize)]
pub struct Route {
    /// Its name; `all` for all of them.
    pub name: String,
    /// Hits by requests; none without requests.
    pub hit_rate: Option<f64>,
    /// Octets from the cache by all octets; none without octets.
    pub octet_hit_rate: Option<f64>,
    /// What was counted.
    #[serde(flatten)]
    pub figures: Figures,
    /// How its requests spread over keys.
    pub keys: Cardinality,
    /// The parts of keys that have most values.
    pub parts: Vec<Part>,
}

/// How requests spread over keys.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cardinality {
    /// How many there are.
    pub distinct: u64,
    /// There are more than were told apart: `distinct` is estimated, and `once` is about those that were.
    pub is_estimated: bool,
    /// Requests by key; none without keys.
    pub requests_per_key: Option<f64>,
    /// Those that were asked for once.
    pub once: u64,
}

/// A part of keys.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Where it stands.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// How many values it has.
    pub values: u64,
    /// That is so many as a rule, and not counted.
    pub is_estimated: bool,
}

/// What L1 took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// What it may take, in octets.
    pub capacity: u64,
    /// What it took at most.
    pub most_octets: u64,
    /// How many responses that were.
    pub responses: u64,
    /// How many had to make room, or were not let in.
    pub evicted: u64,
}

/// A key that missed often.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// Its route's name.
    pub route: String,
    /// Its readable name.
    pub key: String,
    /// All requests.
    pub requests: u32,
    /// Those that missed.
    pub misses: u32,
}

/// What the log did not say, and what was taken for it, each with how often.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Assumed {
    /// The host.
    pub hosts: u64,
    /// The length of an answer: it counted as empty.
    pub lengths: u64,
    /// Answers of 304: they counted as the whole of the length that was seen last.
    pub not_modified: u64,
    /// Requests whose keys were too many to be told apart.
    pub beyond: u64,
    /// What of the configuration took no part.
    pub left_out: Vec<&'static str>,
}

impl Report {
    pub(super) fn new(
        trial: Trial,
        figures: Vec<Figures>,
        unrouted: BTreeMap<String, u64>,
        keys: &Keys,
        memory: Memory,
        assumed: Assumed,
        worst: usize,
    ) -> Self {
        let mut all = Figures::default();
        for figures in &figures {
            all.add(figures);
        }
        let counted = keys.routes();
        let sum = Counted {
            distinct: counted.iter().map(|it| it.distinct).sum(),
            is_exact: counted.iter().all(|it| it.is_exact),
            once: counted.iter().map(|it| it.once).sum(),
        };
        let worst = keys.worst(worst).into_iter().map(|known| Worst {
            route: trial.routes.get(known.route as usize).cloned().unwrap_or_default(),
            key: known.name.as_deref().unwrap_or_default().to_owned(),
            requests: known.requests,
            misses: known.misses,
        });
        let worst = worst.collect();
        let routes = trial.routes.into_iter().zip(figures).zip(&counted).enumerate();
        let routes = routes.map(|(place, ((name, figures), counted))| {
            Route::new(name, figures, counted, parts(keys, place))
        });
        Self {
            configuration: trial.name,
            all: Route::new("all".to_owned(), all, &sum, Vec::new()),
            routes: routes.collect(),
            unrouted,
            memory,
            worst,
            warnings: Vec::new(),
            assumed: Assumed { beyond: keys.beyond(), ..assumed },
        }
    }
}

impl Route {
    fn new(name: String, figures: Figures, counted: &Counted, parts: Vec<Part>) -> Self {
        let Counted { distinct, is_exact, once } = *counted;
        let keyed = figures.hits + figures.misses.values().sum::<u64>();
        let octets = figures.octets_from_cache + figures.octets_from_upstream;
        Self {
            name,
            hit_rate: share(figures.hits, figures.requests),
            octet_hit_rate: share(figures.octets_from_cache, octets),
            figures,
            keys: Cardinality {
                distinct,
                is_estimated: !is_exact,
                requests_per_key: share(keyed, distinct),
                once,
            },
            parts,
        }
    }
}

impl Memory {
    pub(super) fn see(&mut self, room: Room) {
        if room.octets > self.most_octets {
            self.most_octets = room.octets;
            self.responses = room.responses;
        }
        self.evicted = room.evicted;
    }
}

fn parts(keys: &Keys, route: usize) -> Vec<Part> {
    let parts = keys.parts(route).into_iter().take(MOST_PARTS);
    let told = parts.map(|part| Part {
        place: part.place,
        name: part.name.to_string(),
        values: part.values.count(),
        is_estimated: !part.values.is_exact(),
    });
    told.collect()
}

/// `part` of `whole`; none of nothing.
fn share(part: u64, whole: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a share is told in per cent")]
    (whole > 0).then(|| part as f64 / whole as f64)
}
