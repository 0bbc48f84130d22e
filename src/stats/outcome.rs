//! What requests came to, and how long that took.
//!
//! A hit takes a few microseconds, and several workers count hits of one route all the time. So each
//! thread counts in a part of its own; whoever reads adds the parts up.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Counter;
use super::spread::{Spread, Times};

/// How a request was answered. A small closed set, as metrics have a line for each: the words of RFC 9211
/// where it has words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// From L1.
    HitL1,
    /// From L2.
    HitL2,
    /// With what was stale, as the response or the route allows it.
    ServedStale,
    /// By another request's forward request.
    Collapsed,
    /// Forwarded: nothing was stored for the target.
    UriMiss,
    /// Forwarded: nothing was stored for its fields.
    VaryMiss,
    /// Forwarded: nothing was stored, in one of the two ways.
    Miss,
    /// Forwarded: what was stored was stale.
    Stale,
    /// Forwarded: only parts were stored.
    Partial,
    /// Forwarded: its directives did not allow what was stored.
    Request,
    /// Forwarded: its method wants that.
    Method,
    /// Forwarded: the cache was not to handle it.
    Bypass,
    /// By a text of Larder's own, without going forward, or as its own content broke off.
    Refused,
    /// Gone forward in vain otherwise.
    Failed,
    /// Its client went away before there was a response.
    Abandoned,
}

/// In their order.
const OUTCOMES: [Outcome; 15] = [
    Outcome::HitL1,
    Outcome::HitL2,
    Outcome::ServedStale,
    Outcome::Collapsed,
    Outcome::UriMiss,
    Outcome::VaryMiss,
    Outcome::Miss,
    Outcome::Stale,
    Outcome::Partial,
    Outcome::Request,
    Outcome::Method,
    Outcome::Bypass,
    Outcome::Refused,
    Outcome::Failed,
    Outcome::Abandoned,
];

impl Outcome {
    /// Its name in metrics, logs and figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HitL1 => "hit-l1",
            Self::HitL2 => "hit-l2",
            Self::ServedStale => "served-stale",
            Self::Collapsed => "collapsed",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Partial => "partial",
            Self::Request => "request",
            Self::Method => "method",
            Self::Bypass => "bypass",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The statuses that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// There was no response.
    None,
    /// 1xx.
    Informational,
    /// 2xx.
    Successful,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
}

const CLASSES: [Class; 6] = [
    Class::None,
    Class::Informational,
    Class::Successful,
    Class::Redirection,
    Class::ClientError,
    Class::ServerError,
];

impl Class {
    /// Of a status code.
    pub fn of(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Successful,
            3 => Self::Redirection,
            4 => Self::ClientError,
            5 => Self::ServerError,
            _ => Self::None,
        }
    }

    /// Its name in metrics and figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Informational => "1xx",
            Self::Successful => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// So many parts there are; threads beyond share them.
const PARTS: usize = 8;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which part this thread counts in. Not yet known is more than there are.
    static PART: Cell<usize> = const { Cell::new(PARTS) };
}

/// What the requests of one route came to.
#[derive(Debug, Default)]
pub struct Outcomes {
    parts: [OnceLock<Box<Part>>; PARTS],
}

/// What some of the threads have counted. Aligned so that two never share a processor's cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part {
    requests: Counter,
    l1_hits: Counter,
    sent: Counter,
    /// By outcome and class. Of most there are none.
    times: [[OnceLock<Box<Times>>; CLASSES.len()]; OUTCOMES.len()],
}

impl Outcomes {
    /// A request came.
    pub fn request(&self) {
        self.part().requests.count();
    }

    /// One was answered from L1.
    pub fn l1_hit(&self) {
        self.part().l1_hits.count();
    }

    /// A response head was there after so long.
    pub fn count(&self, outcome: Outcome, class: Class, time: Duration) {
        let times = &self.part().times;
        let times = times.get(outcome as usize).and_then(|it| it.get(class as usize));
        if let Some(times) = times {
            times.get_or_init(Box::default).count(time);
        }
    }

    /// So many octets of content went to clients.
    pub fn sent(&self, octets: u64) {
        self.part().sent.add(octets);
    }

    fn part(&self) -> &Part {
        let mut place = PART.get();
        if place == PARTS {
            place = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
            PART.set(place);
        }
        let [first, ..] = &self.parts;
        self.parts.get(place).unwrap_or(first).get_or_init(Box::default)
    }

    /// What has been counted.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for part in self.parts.iter().filter_map(OnceLock::get) {
            tally.requests += part.requests.value();
            tally.l1_hits += part.l1_hits.value();
            tally.sent += part.sent.value();
            for (outcome, by_class) in OUTCOMES.into_iter().zip(&part.times) {
                for (class, times) in CLASSES.into_iter().zip(by_class) {
                    if let Some(times) = times.get() {
                        tally.by.entry((outcome, class)).or_default().add(&times.spread());
                    }
                }
            }
        }
        tally
    }
}

/// What requests came to at one moment.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that came, answered or not.
    pub requests: u64,
    /// Those that were answered from L1.
    pub l1_hits: u64,
    /// Octets of content that went to clients.
    pub sent: u64,
    /// Those that there were.
    pub by: BTreeMap<(Outcome, Class), Spread>,
}

impl Tally {
    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.l1_hits += other.l1_hits;
        self.sent += other.sent;
        for (kind, spread) in &other.by {
            self.by.entry(*kind).or_default().add(spread);
        }
    }

    /// All that have come to an outcome, or to any.
    pub fn spread(&self, outcome: Option<Outcome>) -> Spread {
        let is_wanted = |it: Outcome| outcome.is_none_or(|wanted| wanted == it);
        let mut sum = Spread::default();
        for (_, spread) in self.by.iter().filter(|((it, _), _)| is_wanted(*it)) {
            sum.add(spread);
        }
        sum
    }

    /// The outcomes that there were.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        OUTCOMES.into_iter().filter(|it| self.by.keys().any(|(outcome, _)| outcome == it))
    }
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Of one outcome.
        #[derive(Serialize)]
        struct Of {
            requests: u64,
            statuses: BTreeMap<&'static str, u64>,
            #[serde(flatten)]
            latency: Latency,
        }
        let mut outcomes = BTreeMap::new();
        for outcome in self.outcomes() {
            let spread = self.spread(Some(outcome));
            let of = self.by.iter().filter(|((it, _), _)| *it == outcome);
            let statuses = of.map(|((_, class), spread)| (class.as_str(), spread.count()));
            let latency = Latency::of(&spread);
            let (requests, statuses) = (spread.count(), statuses.collect());
            outcomes.insert(outcome.as_str(), Of { requests, statuses, latency });
        }
        let mut statuses: BTreeMap<&str, u64> = BTreeMap::new();
        for ((_, class), spread) in &self.by {
            *statuses.entry(class.as_str()).or_default() += spread.count();
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sent_octets", &self.sent)?;
        map.serialize_entry("statuses", &statuses)?;
        map.serialize_entry("latency", &Latency::of(&self.spread(None)))?;
        map.serialize_entry("outcomes", &outcomes)?;
        map.end()
    }
}

/// Percentiles, in seconds. None where nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// All of them together by their number.
    pub mean_seconds: Option<f64>,
    /// Half of them took no longer.
    pub p50_seconds: Option<f64>,
    /// Nine in ten.
    pub p90_seconds: Option<f64>,
    /// 99 in a hundred.
    pub p99_seconds: Option<f64>,
    /// 999 in a thousand.
    #[serde(rename = "p99_9_seconds")]
    pub p999_seconds: Option<f64>,
}

impl Latency {
    /// Of times that were counted.
    pub fn of(spread: &Spread) -> Self {
        // To the microsecond: the steps are no finer.
        let seconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e6;
        let at = |share| spread.quantile(share).map(seconds);
        Self {
            mean_seconds: spread.mean().map(seconds),
            p50_seconds: at(0.5),
            p90_seconds: at(0.9),
            p99_seconds: at(0.99),
            p999_seconds: at(0.999),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_and_its_name() {
        let mut names = std::collections::HashSet::new();
        for (place, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(outcome as usize, place, "{outcome:?}");
            assert!(names.insert(outcome.as_str()), "{outcome:?}");
        }
        for (place, class) in CLASSES.into_iter().enumerate() {
            assert_eq!(class as usize, place, "{class:?}");
        }
        for (status, class) in [(200, "2xx"), (304, "3xx"), (599, "5xx"), (101, "1xx"), (0, "none")]
        {
            assert_eq!(Class::of(status).as_str(), class);
        }
    }

    #[test]
    fn what_threads_count_adds_up() {
        let outcomes = Outcomes::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * PARTS {
                scope.spawn(|| {
                    let time = Duration::from_millis(2);
                    outcomes.count(Outcome::HitL1, Class::Successful, time);
                    outcomes.count(Outcome::HitL1, Class::Redirection, time);
                    outcomes.count(Outcome::UriMiss, Class::Successful, 2 * time);
                    outcomes.sent(10);
                });
            }
        });
        let count = 2 * PARTS as u64;
        let mut tally = outcomes.tally();
        tally.add(&Tally::default());
        assert_eq!(tally.sent, 10 * count);
        assert_eq!(tally.spread(None).count(), 3 * count);
        assert_eq!(tally.spread(Some(Outcome::HitL1)).count(), 2 * count);
        assert_eq!(tally.spread(Some(Outcome::Bypass)).count(), 0);
        let shown = serde_json::to_value(&tally).unwrap();
        assert_eq!(shown["statuses"]["2xx"], 2 * count, "{shown}");
        assert_eq!(shown["outcomes"]["hit-l1"]["statuses"]["3xx"], count, "{shown}");
        assert_eq!(shown["outcomes"]["uri-miss"]["requests"], count, "{shown}");
        let median = shown["outcomes"]["uri-miss"]["p50_seconds"].as_f64().unwrap();
        assert!((0.0035..=0.004).contains(&median), "{shown}");
        assert_eq!(
            serde_json::to_value(Tally::default()).unwrap()["latency"]["p50_seconds"],
            serde_json::Value::Null
        );
    }
}
