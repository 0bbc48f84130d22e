//! What one key policy would do in another's place, by the requests that both were asked about.
//!
//! Both are judged by one model: a cache without lifetimes of its own that keeps a response under
//! each key for [`WINDOW`], the [`MOST_KEYS`] last used ones at most. So its two hit ratios are to be
//! compared with each other; those of the gateway depend on what responses say as well.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use moka::sync::Cache;
use serde::Serialize;

use crate::stored::CacheKey;

/// How long a key counts as stored.
pub const WINDOW: Duration = Duration::from_mins(10);

/// How many keys of each policy are known at a time: some 20 MB of both.
pub const MOST_KEYS: u64 = 65_536;

/// How many disagreements are shown: the last ones.
const MOST_SHOWN: usize = 64;

/// What a policy made of a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// A key, and what operators call it.
    Key(CacheKey, Arc<str>),
    /// Not to be stored, for this reason.
    Bypass(Arc<str>),
    /// It failed.
    Failed,
}

/// The running comparison of two policies.
pub struct Comparison {
    active: Side,
    shadow: Side,
    skipped: AtomicU64,
    counts: Mutex<Counts>,
}

/// One of the two.
struct Side {
    /// What was made of the first request under each key.
    keys: Cache<CacheKey, Arc<First>, RandomState>,
}

/// The first request that came under a key, and the key that the other policy gave it.
struct First {
    request: Box<str>,
    other: Option<CacheKey>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    active: Figures,
    shadow: Figures,
    split: u64,
    merged: u64,
    disagreements: VecDeque<Disagreement>,
}

/// What one of the two policies came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Requests whose key had been there within the window.
    pub hits: u64,
    /// Requests whose key had not: how many responses would be stored.
    pub misses: u64,
    /// Requests that it would not have stored.
    pub bypasses: u64,
    /// Calls that failed.
    pub failures: u64,
    /// `hits` in percent of the requests compared.
    pub hit_rate: f64,
    /// The keys within the window, at most [`MOST_KEYS`]: the cardinality.
    pub keys: u64,
}

/// How the two disagree about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The route's policy shares a response that the shadow would keep twice.
    Split,
    /// The shadow would share a response where the route's policy has two. If the two differ, it
    /// would answer wrongly.
    Merged,
    /// One of them would store nothing.
    Bypass,
    /// The shadow failed.
    Failed,
}

/// A request about which the two disagree.
#[derive(Clone, Debug, Serialize)]
pub struct Disagreement {
    /// How.
    pub kind: Kind,
    /// Its target.
    pub request: Box<str>,
    /// The target of an earlier request that it would share a response with, or does.
    pub with: Option<Box<str>>,
    /// What the route's policy made of it: a name, or why not.
    pub active: Box<str>,
    /// What the shadow made of it.
    pub shadow: Box<str>,
    /// Whether the two responses that the shadow would merge have different content, if that is
    /// known: whoever has the responses can tell.
    pub contents_differ: Option<bool>,
    /// The keys under which the route's policy has those two.
    #[serde(skip)]
    pub keys: Option<[CacheKey; 2]>,
}

/// What a comparison came to so far.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Requests that both were asked about.
    pub requests: u64,
    /// Requests that the shadow was not asked about, as too many calls were under way.
    pub skipped: u64,
    /// The route's policy.
    pub active: Figures,
    /// The other.
    pub shadow: Figures,
    /// Requests of kind [`Kind::Split`].
    pub split: u64,
    /// Requests of kind [`Kind::Merged`].
    pub merged: u64,
    /// The last ones, each request once.
    pub disagreements: Vec<Disagreement>,
}

impl Verdict {
    fn key(&self) -> Option<CacheKey> {
        match self {
            Self::Key(key, _) => Some(*key),
            Self::Bypass(_) | Self::Failed => None,
        }
    }

    fn shown(&self) -> Box<str> {
        match self {
            Self::Key(_, name) => name.as_ref().into(),
            Self::Bypass(reason) => format!("bypass: {reason}").into(),
            Self::Failed => "failed".into(),
        }
    }
}

impl Default for Comparison {
    fn default() -> Self {
        Self {
            active: Side::new(),
            shadow: Side::new(),
            skipped: AtomicU64::new(0),
            counts: Mutex::default(),
        }
    }
}

impl Comparison {
    /// Takes in what both made of a request to this target.
    pub fn add(&self, request: &str, active: &Verdict, shadow: &Verdict) {
        // Found and entered under one lock: two requests at once are still one after the other.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests += 1;
        let shared = self.active.find(request, active, shadow.key(), &mut counts.active);
        let would_share = self.shadow.find(request, shadow, active.key(), &mut counts.shadow);

        let (kind, first) = match (active, shadow) {
            (_, Verdict::Failed) => (Kind::Failed, None),
            (Verdict::Key(..), Verdict::Key(..)) => {
                let other = |first: &Option<Arc<First>>, key| {
                    first.clone().filter(|first| first.other.is_some() && first.other != key)
                };
                // To share what was apart weighs more than to part what was shared.
                if let Some(first) = other(&would_share, active.key()) {
                    counts.merged += 1;
                    (Kind::Merged, Some(first))
                } else if let Some(first) = other(&shared, shadow.key()) {
                    counts.split += 1;
                    (Kind::Split, Some(first))
                } else {
                    return;
                }
            }
            (Verdict::Key(..), Verdict::Bypass(_)) | (Verdict::Bypass(_), Verdict::Key(..)) => {
                (Kind::Bypass, None)
            }
            (Verdict::Bypass(_) | Verdict::Failed, _) => return,
        };
        let keys = match (kind, &first) {
            (Kind::Merged, Some(first)) => {
                first.other.zip(active.key()).map(|(one, other)| [one, other])
            }
            _ => None,
        };
        counts.show(Disagreement {
            kind,
            request: request.into(),
            with: first.map(|first| first.request.clone()),
            active: active.shown(),
            shadow: shadow.shown(),
            contents_differ: None,
            keys,
        });
    }

    /// Notes a request that the shadow could not be asked about.
    pub fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything so far.
    pub fn report(&self) -> Report {
        let keys = [&self.active, &self.shadow].map(Side::count);
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let [active, shadow] = [&counts.active, &counts.shadow];
        let figures = |figures: &Figures, keys| Figures {
            keys,
            hit_rate: crate::stats::percent(figures.hits, counts.requests),
            ..figures.clone()
        };
        let [of_active, of_shadow] = keys;
        Report {
            requests: counts.requests,
            skipped: self.skipped.load(Ordering::Relaxed),
            active: figures(active, of_active),
            shadow: figures(shadow, of_shadow),
            split: counts.split,
            merged: counts.merged,
            disagreements: counts.disagreements.iter().cloned().collect(),
        }
    }
}

impl Side {
    fn new() -> Self {
        let keys = Cache::builder().max_capacity(MOST_KEYS).time_to_live(WINDOW);
        Self { keys: keys.build_with_hasher(RandomState::default()) }
    }

    /// The first request under the key, if this is not it.
    fn find(
        &self,
        request: &str,
        verdict: &Verdict,
        other: Option<CacheKey>,
        figures: &mut Figures,
    ) -> Option<Arc<First>> {
        let key = match verdict {
            Verdict::Key(key, _) => key,
            Verdict::Bypass(_) => {
                figures.bypasses += 1;
                return None;
            }
            Verdict::Failed => {
                figures.failures += 1;
                return None;
            }
        };
        let first = self.keys.get(key);
        if first.is_some() {
            figures.hits += 1;
        } else {
            figures.misses += 1;
            let first = First { request: request.into(), other };
            self.keys.insert(*key, Arc::new(first));
        }
        first
    }

    fn count(&self) -> u64 {
        self.keys.run_pending_tasks();
        self.keys.entry_count()
    }
}

impl Counts {
    fn show(&mut self, disagreement: Disagreement) {
        let is_known = |shown: &Disagreement| {
            shown.kind == disagreement.kind && shown.request == disagreement.request
        };
        if self.disagreements.iter().any(is_known) {
            return;
        }
        if self.disagreements.len() == MOST_SHOWN {
            self.disagreements.pop_front();
        }
        self.disagreements.push_back(disagreement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Verdict {
        Verdict::Key(CacheKey::new("n", "r", "a", [("path", text)]), text.into())
    }

    fn compared(requests: &[(&str, Verdict, Verdict)]) -> Report {
        let comparison = Comparison::default();
        for (request, active, shadow) in requests {
            comparison.add(request, active, shadow);
        }
        comparison.report()
    }

    fn kinds(report: &Report) -> Vec<(Kind, &str, Option<&str>)> {
        let shown = report.disagreements.iter();
        shown.map(|it| (it.kind, &*it.request, it.with.as_deref())).collect()
    }

    #[test]
    fn two_that_agree_have_equal_figures() {
        // Equal in what they share, whatever they call it.
        let requests = ["/a", "/b", "/a", "/a"].map(|it| (it, key(it), key(&format!("{it}!"))));
        let report = compared(&requests);
        for figures in [&report.active, &report.shadow] {
            assert_eq!((figures.hits, figures.misses, figures.keys), (2, 2, 2));
            assert!((figures.hit_rate - 50.0).abs() < 0.001);
        }
        assert_eq!((report.requests, report.split, report.merged), (4, 0, 0));
        assert!(report.disagreements.is_empty());
    }

    #[test]
    fn a_shadow_that_shares_more_merges() {
        let report = compared(&[
            ("/a?x=1", key("/a?x=1"), key("/a")),
            ("/a?x=2", key("/a?x=2"), key("/a")),
            ("/a?x=1", key("/a?x=1"), key("/a")),
        ]);
        assert_eq!(kinds(&report), [(Kind::Merged, "/a?x=2", Some("/a?x=1"))]);
        assert_eq!((report.merged, report.split), (1, 0));
        assert_eq!((report.active.hits, report.shadow.hits), (1, 2));
        let keys = ["/a?x=1", "/a?x=2"].map(|it| key(it).key().unwrap());
        assert_eq!(report.disagreements[0].keys, Some(keys));
    }

    #[test]
    fn a_shadow_that_shares_less_splits() {
        let report = compared(&[
            ("/a?utm=1", key("/a"), key("/a?utm=1")),
            ("/a?utm=2", key("/a"), key("/a?utm=2")),
            ("/a?utm=2", key("/a"), key("/a?utm=2")),
        ]);
        assert_eq!(kinds(&report), [(Kind::Split, "/a?utm=2", Some("/a?utm=1"))]);
        assert_eq!((report.merged, report.split), (0, 2), "each request counts, one is shown");
    }

    #[test]
    fn what_only_one_would_store_is_told() {
        let bypass = || Verdict::Bypass("no tenant".into());
        let report = compared(&[
            ("/a", key("/a"), bypass()),
            ("/b", bypass(), key("/b")),
            ("/c", bypass(), bypass()),
            ("/d", key("/d"), Verdict::Failed),
            ("/e", Verdict::Failed, key("/e")),
        ]);
        let expected =
            [(Kind::Bypass, "/a", None), (Kind::Bypass, "/b", None), (Kind::Failed, "/d", None)];
        assert_eq!(kinds(&report), expected);
        assert_eq!(&*report.disagreements[0].shadow, "bypass: no tenant");
        assert_eq!((report.shadow.bypasses, report.shadow.failures), (2, 1));
        assert_eq!((report.active.bypasses, report.active.failures), (2, 1));
    }

    #[test]
    fn the_last_disagreements_are_kept() {
        let comparison = Comparison::default();
        for number in 0..MOST_SHOWN + 3 {
            let target = format!("/{number}");
            comparison.add(&target, &key(&target), &Verdict::Failed);
        }
        let report = comparison.report();
        assert_eq!(report.disagreements.len(), MOST_SHOWN);
        assert_eq!(&*report.disagreements[0].request, "/3");
    }
}
