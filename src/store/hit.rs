//! What a look-up finds, and which of several responses it is.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::VARY;

use crate::semantics::Freshness;
use crate::store::Store;
use crate::store::log::Verdict;
use crate::store::variants::Variants;
use crate::stored::StoredResponse;

/// A stored response that no hard invalidation covers.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The response.
    pub stored: Arc<StoredResponse>,
    /// A soft invalidation covers it: it counts as stale, however fresh it looks.
    pub soft: bool,
    /// False: an invalidation of which this gateway knows nothing yet may cover it, as it lags behind
    /// the shared log by more than `max_lag`.
    pub confirmed: bool,
    /// Which variants there are, where it is one of them.
    pub variants: Option<Arc<Variants>>,
}

impl Hit {
    /// Whether nothing but the request itself could forbid its use.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        let freshness = &self.stored.freshness;
        self.confirmed && !self.soft && !freshness.no_cache && freshness.is_fresh(now)
    }
}

impl Store {
    /// What was found before, as it is by now; none if it is gone.
    pub fn again(&self, stored: &Arc<StoredResponse>) -> Option<Hit> {
        let verdict = self.log.judge(stored);
        self.hit(Arc::clone(stored), verdict)
    }

    /// The freshness of what a soft invalidation covers, whose lifetime has ended with that. `None`: none covers it.
    pub fn softened(&self, stored: &StoredResponse, now: SystemTime) -> Option<Freshness> {
        let since = self.log.softened(stored)?;
        Some(stored.freshness.clone().stale_for(since.elapsed(), now))
    }

    pub(super) fn hit(&self, stored: Arc<StoredResponse>, verdict: Verdict) -> Option<Hit> {
        let soft = verdict == Verdict::Stale;
        let confirmed = self.redis.as_ref().is_none_or(|redis| redis.lag.confirms(&stored));
        (verdict != Verdict::Gone).then_some(Hit { stored, soft, confirmed, variants: None })
    }
}

/// Which of several responses that a request selects answers it.
///
/// RFC 9111 §4: "When more than one suitable response is stored, a cache MUST use the most recent
/// one". §4.1: where "one or more omits the Vary header field, the cache SHOULD choose the most recent
/// … stored response with a valid Vary field value".
pub(super) fn most_suitable(hits: impl Iterator<Item = Hit>, now: SystemTime) -> Option<Hit> {
    let rank = |hit: &Hit| {
        let varies = hit.stored.fields.value(&VARY).is_some();
        (hit.is_fresh(now), varies, Reverse(hit.stored.freshness.age(now)))
    };
    hits.reduce(|best, other| if rank(&other) > rank(&best) { other } else { best })
}
