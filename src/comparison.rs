//! What one key policy would do in another's place, by the requests that both were asked about.
//!
//! Both are judged by one model: a cache without lifetimes of its own that keeps a response under
//! each key for [`WINDOW`], [`MOST_KEYS`] at most, those that are asked for rather than others. So its two hit ratios are to be
//! compared with each other; those of the gateway depend on what responses say as well.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::bounded::Bounded;
use crate::stored::{self, CacheKey};

/// How long a key counts as stored.
pub const WINDOW: Duration = Duration::from_mins(10);

/// How many keys of each policy are known at a time: some 20 MB of both.
pub const MOST_KEYS: u64 = 65_536;

/// How many disagreements are shown: the last ones.
const MOST_SHOWN: usize = 64;

/// What a policy made of a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// A key, and what operators call it; none for path and query as they are.
    Key(CacheKey, Option<Arc<str>>),
    /// Not to be stored, for this reason.
    Bypass(Arc<str>),
    /// It failed.
    Failed,
}

/// The running comparison of two policies.
#[derive(Default)]
pub struct Comparison {
    skipped: AtomicU64,
    counts: Mutex<Counts>,
}

/// One of the two.
struct Side {
    /// What was made of the first request under each key.
    keys: Bounded<CacheKey, Arc<First>>,
    figures: Figures,
}

/// The first request that came under a key, and the key that the other policy gave it.
struct First {
    came: SystemTime,
    request: Box<str>,
    other: Option<CacheKey>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    active: Side,
    shadow: Side,
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

    fn shown(&self, request: &str) -> Box<str> {
        match self {
            Self::Key(_, Some(name)) => name.as_ref().into(),
            Self::Key(_, None) => {
                let (path, query) = match request.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (request, None),
                };
                stored::readable_name(stored::default_parts(path, query)).into()
            }
            Self::Bypass(reason) => format!("bypass: {reason}").into(),
            Self::Failed => "failed".into(),
        }
    }
}

impl Comparison {
    /// Takes in what both made of a request to this target.
    pub fn add(&self, request: &str, active: &Verdict, shadow: &Verdict, now: SystemTime) {
        // Found and entered under one lock: two requests at once are still one after the other.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests += 1;
        let shared = counts.active.find(request, active, shadow.key(), now);
        let would_share = counts.shadow.find(request, shadow, active.key(), now);

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
            active: active.shown(request),
            shadow: shadow.shown(request),
            contents_differ: None,
            keys,
        });
    }

    /// Notes a request that the shadow could not be asked about.
    pub fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything so far.
    pub fn report(&self, now: SystemTime) -> Report {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = |side: &Side| Figures {
            keys: side.count(now),
            hit_rate: crate::stats::percent(side.figures.hits, counts.requests),
            ..side.figures.clone()
        };
        Report {
            requests: counts.requests,
            skipped: self.skipped.load(Ordering::Relaxed),
            active: figures(&counts.active),
            shadow: figures(&counts.shadow),
            split: counts.split,
            merged: counts.merged,
            disagreements: counts.disagreements.iter().cloned().collect(),
        }
    }
}

impl Default for Side {
    fn default() -> Self {
        Self { keys: Bounded::new(MOST_KEYS), figures: Figures::default() }
    }
}

impl Side {
    /// The first request under the key, if this is not it.
    fn find(
        &mut self,
        request: &str,
        verdict: &Verdict,
        other: Option<CacheKey>,
        now: SystemTime,
    ) -> Option<Arc<First>> {
        let figures = &mut self.figures;
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
        let first = self.keys.get(hash(key), key).filter(|first| first.counts(now));
        if let Some(first) = first {
            figures.hits += 1;
            return Some(Arc::clone(first));
        }
        figures.misses += 1;
        let first = First { came: now, request: request.into(), other };
        self.keys.insert(hash(key), *key, Arc::new(first), 1);
        None
    }

    fn count(&self, now: SystemTime) -> u64 {
        self.keys.values().filter(|first| first.counts(now)).count() as u64
    }
}

/// Of so many even bits some are enough.
fn hash(key: &CacheKey) -> u64 {
    key.0.first_chunk().copied().map(u64::from_le_bytes).unwrap_or_default()
}

impl First {
    /// Whether a cache would still have the response.
    fn counts(&self, now: SystemTime) -> bool {
        // Where the clock went back, no time has passed.
        now.duration_since(self.came).unwrap_or_default() < WINDOW
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
        Verdict::Key(CacheKey::new("n", "r", "a", [("path", text)]), Some(text.into()))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn compared(requests: &[(&str, Verdict, Verdict)]) -> Report {
        let comparison = Comparison::default();
        for (request, active, shadow) in requests {
            comparison.add(request, active, shadow, at(0));
        }
        comparison.report(at(0))
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
    fn a_key_counts_for_its_window() {
        let comparison = Comparison::default();
        let counted = |now| {
            comparison.add("/a", &key("/a"), &key("/a"), at(now));
            let Figures { hits, misses, keys, .. } = comparison.report(at(now)).active;
            (hits, misses, keys)
        };
        assert_eq!(counted(1000), (0, 1, 1));
        assert_eq!(counted(1599), (1, 1, 1));
        assert_eq!(counted(1600), (1, 2, 1), "as long as it counts, and no longer");
        assert_eq!(counted(1000), (2, 2, 1), "the clock went back");
        let Report { active, shadow, .. } = comparison.report(at(2200));
        assert_eq!((active.keys, shadow.keys), (0, 0));
    }

    #[test]
    fn path_and_query_as_they_are_have_their_name() {
        let plain = |target| match key(target) {
            Verdict::Key(key, _) => Verdict::Key(key, None),
            other => other,
        };
        let targets = ["/a/b?x=1&y", "/a", "/"];
        let report = compared(&targets.map(|it| (it, plain(it), Verdict::Failed)));
        let names: Vec<_> = report.disagreements.iter().map(|it| &*it.active).collect();
        assert_eq!(names, ["a/b?x=1&y", "a", ""]);
    }

    #[test]
    fn the_last_disagreements_are_kept() {
        let comparison = Comparison::default();
        for number in 0..MOST_SHOWN + 3 {
            let target = format!("/{number}");
            comparison.add(&target, &key(&target), &Verdict::Failed, at(0));
        }
        let report = comparison.report(at(0));
        assert_eq!(report.disagreements.len(), MOST_SHOWN);
        assert_eq!(&*report.disagreements[0].request, "/3");
    }
}
