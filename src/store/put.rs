//! Responses on their way into the tiers, each under the key where look-ups will find it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};
use tokio::task::JoinHandle;

use crate::semantics::NoVarySearch;
use crate::store::Store;
use crate::store::l1::Held;
use crate::store::log::{Lease, Verdict};
use crate::store::second::Entry;
use crate::store::variants::Variant;
use crate::stored::{CacheKey, StoredResponse};

/// What became of a response that was put.
#[derive(Debug)]
pub struct Put {
    /// The response, to answer with.
    pub stored: Arc<StoredResponse>,
    /// At least one tier took it.
    pub kept: bool,
    /// An invalidation overtook the lease.
    pub overtaken: bool,
    /// What is written to L2 of it, each with whether it was. Nothing if L2 does not take it.
    pub writes: Vec<JoinHandle<bool>>,
}

/// Where a response is put.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// The cache key.
    pub key: &'a CacheKey,
    /// The fields that the response's `Vary` names; none if it has no `Vary`.
    pub nominated: &'a [HeaderName],
    /// The fields of the request that caused the response.
    pub fields: &'a HeaderMap,
    /// How many variants the route keeps under one key.
    pub variants: usize,
    /// Another variant under this key that the response is in the place of, too.
    pub also: Option<CacheKey>,
    /// The stored response that it is made of: its content is older than the lease.
    pub renews: Option<&'a StoredResponse>,
    /// So long after it became stale the response may stand in for an upstream in trouble: L2 keeps it
    /// for that time.
    pub stale: Duration,
    /// The rule by which the cache key was made, and the [`Search::key`](crate::store::Search::key) to note it under.
    pub rule: Option<(CacheKey, &'a NoVarySearch)>,
}

impl Store {
    /// Stores a response: in L1 at once, in L2 in the background. Its position is the lease's, and so is
    /// the moment when its fetch began. What renews another is born no later than what this gateway has read of
    /// the log: a record that it has yet to read may cover that content.
    ///
    /// It is not kept if an invalidation overtook the lease, or has made what it renews gone, or if no tier takes
    /// it: it is too large, or names too many fields in `Vary`.
    ///
    /// What is put keeps all the memory that its octets are part of, so the content should be a
    /// buffer of its own.
    pub fn put(
        &self,
        lease: &Lease,
        slot: &Slot<'_>,
        stored: StoredResponse,
        now: SystemTime,
    ) -> Put {
        let Lease { mut position, begun, .. } = *lease;
        let mut overtaken = false;
        if let Some(renewed) = slot.renews {
            if let Some(redis) = self.redis.as_ref().filter(|_| lease.shared) {
                position = position.min(redis.log.reached());
            }
            // What was applied after that was read covers the position, too.
            overtaken = self.log.judge(renewed) == Verdict::Gone;
        }
        let stored = Arc::new(StoredResponse { position, begun, ..stored });
        overtaken |= self.log.judge(&stored) != Verdict::Valid;
        let mut writes = Vec::new();
        let kept = !overtaken && self.keep(lease, slot, &stored, now, &mut writes).unwrap_or(false);
        Put { stored, kept, overtaken, writes }
    }

    /// `None` if the response names too many fields in `Vary`.
    fn keep(
        &self,
        lease: &Lease,
        slot: &Slot<'_>,
        stored: &Arc<StoredResponse>,
        now: SystemTime,
        writes: &mut Vec<JoinHandle<bool>>,
    ) -> Option<bool> {
        // A response without `Vary` takes nothing from those that have it: see `most_suitable`.
        let is_beside_variants = || {
            let held = self.l1.as_ref().and_then(|l1| l1.look(slot.key, now));
            matches!(held, Some(Held::Variants(_)))
        };
        let variant = match slot.nominated {
            [] if !is_beside_variants() => None,
            nominated => Some(Variant::of(slot.key, nominated, slot.fields, &stored.fields)?),
        };
        let key = variant.as_ref().map_or(*slot.key, |variant| variant.known.key);
        if let Some(also) = slot.also.filter(|also| *also != key) {
            self.replace(lease, also, stored, slot.stale, now);
        }
        if let Some((search, rule)) = slot.rule {
            writes.extend(self.remember(lease, search, rule, now));
        }
        let in_l1 = self.l1.as_ref().is_some_and(|l1| {
            let put = l1.put(key, Arc::clone(stored), now, Duration::MAX);
            if let Some(variant) = variant.as_ref().filter(|_| put) {
                l1.add_variant(*slot.key, variant, slot.variants, now);
            }
            put
        });
        let in_l2 = self.l2_for(lease).is_some_and(|l2| {
            let variant = variant.map(|variant| (variant, slot.variants));
            let entry = Entry { stored: Arc::clone(stored), variant, stale: slot.stale };
            l2.put(&self.tasks, *slot.key, entry, now, writes)
        });
        if !in_l2 {
            // A rule that leads to nothing.
            writes.clear();
        }
        Some(in_l1 || in_l2)
    }
}
