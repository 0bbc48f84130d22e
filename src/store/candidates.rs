//! Variants that a request does not select, and that the origin may find to be right for it all the
//! same (RFC 9111 §4.3.1).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use crate::store::Purpose;
use crate::store::Store;
use crate::store::l1::Held;
use crate::store::log::{Lease, Verdict};
use crate::store::second::{Entry, only};
use crate::store::variants::Variants;
use crate::stored::{CacheKey, StoredResponse};

/// So many variants are asked about at most in a request for another one.
const MOST_TAGGED: usize = 16;

impl Store {
    /// The entity tags of variants that the origin may find to be right for a request with these
    /// fields, and where those lie. The newest come first. Does no I/O: what L1 does not hold may
    /// be gone from L2, too.
    pub fn tagged(
        &self,
        variants: &Variants,
        fields: &HeaderMap,
        now: SystemTime,
    ) -> Vec<(HeaderValue, CacheKey)> {
        let may_be_valid = |key: &CacheKey| match self.l1.as_ref().and_then(|l1| l1.look(key, now))
        {
            Some(Held::Response(stored)) => self.log.judge(&stored) != Verdict::Gone,
            Some(Held::Variants(_) | Held::Rules(_) | Held::Form(_)) => false,
            None => self.has_l2(),
        };
        variants.tagged(fields).filter(|(_, key)| may_be_valid(key)).take(MOST_TAGGED).collect()
    }

    /// The variant that lies under a key that [`Store::tagged`] named, from either tier. `None` if
    /// it is gone by now.
    pub async fn variant(&self, key: &CacheKey, now: SystemTime) -> Option<Arc<StoredResponse>> {
        if let Some(Held::Response(stored)) = self.l1.as_ref().and_then(|l1| l1.look(key, now)) {
            let verdict = self.log.judge(&stored);
            return self.hit(stored, verdict).map(|hit| hit.stored);
        }
        match only(self.l2()?.look(&[*key], now, self.deadline()).await).ok().flatten()? {
            (Held::Response(stored), left) => {
                self.promote(*key, stored, left, now, Purpose::Answer).map(|hit| hit.stored)
            }
            (Held::Variants(_) | Held::Rules(_) | Held::Form(_), _) => None,
        }
    }

    /// Puts a response in the place of a variant that is listed already.
    pub(super) fn replace(
        &self,
        lease: &Lease,
        key: CacheKey,
        stored: &Arc<StoredResponse>,
        stale: Duration,
        now: SystemTime,
    ) {
        if let Some(l1) = &self.l1 {
            l1.put(key, Arc::clone(stored), now, Duration::MAX);
        }
        if let Some(l2) = self.l2_for(lease) {
            let entry = Entry { stored: Arc::clone(stored), variant: None, stale };
            l2.put(&self.tasks, key, entry, now, &mut Vec::new());
        }
    }
}
