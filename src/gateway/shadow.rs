//! A second key policy, asked beside the route's own: what it would change, without changing anything.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::quality::FixedState;
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::comparison::{Comparison, Report, Verdict};
use crate::config::Route;
use crate::plugin::Policy;
use crate::stored::CacheKey;

use super::key::{self, Keyed};
use super::{Gateway, Lasting, Presented};

/// Calls of a shadow that run at a time; a request beyond them is not compared.
const MOST_CALLS: usize = 64;

/// A route's second policy.
pub(super) struct Shadow {
    policy: Arc<Policy>,
    /// Of all paths, from 0 to 1.
    share: f64,
    comparison: Arc<Comparison>,
    calls: Arc<Semaphore>,
}

/// The comparison on one route.
#[derive(Serialize)]
pub struct Shadowed {
    /// The shadow's name in `gateway.toml`.
    policy: String,
    /// The share of paths that it is asked about.
    share: f64,
    #[serde(flatten)]
    report: Report,
}

impl Shadow {
    /// That of a route, if it has one. It compares with what `space`, which stands for the route in its
    /// cache keys, tells of the active policies.
    pub(super) fn of(
        route: &Route,
        space: &str,
        policies: &[Arc<Policy>],
        lasting: &Lasting,
    ) -> Option<Self> {
        let policy = Arc::clone(policies.get(route.shadow?)?);
        let calls = Arc::new(Semaphore::new(MOST_CALLS));
        let compared = key::space(space, policy.name(), &[&policy], None);
        let comparison = lasting.comparison(&route.name, compared);
        Some(Self { policy, share: route.shadow_share, comparison, calls })
    }

    /// All requests for a path are taken, or none: a key that merges some of them is only seen to
    /// when they are all there.
    fn takes(&self, presented: &Presented) -> bool {
        if self.share >= 1.0 {
            return true;
        }
        let path = (presented.authority.as_str(), presented.head.uri.path());
        let hash = FixedState::default().hash_one(path) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let place = hash as f64 / (1_u64 << 53) as f64;
        place < self.share
    }
}

impl Gateway {
    /// Asks the route's shadow about a request, too. The answer does not wait for it.
    pub(super) fn compare(self: &Arc<Self>, presented: &Presented, keyed: &Keyed) {
        let plan = self.plan(presented);
        let Some(shadow) = &plan.shadow else { return };
        if !shadow.takes(presented) {
            return;
        }
        let active = keyed.verdict();
        let captures = self.key_captures(&shadow.policy, presented);
        let remembered =
            shadow.policy.remembered(self.space(presented), &presented.seen(&captures));
        if let Some(answer) = remembered {
            let answer = Keyed::of(answer, plan, presented).verdict();
            return shadow.comparison.add(target(presented), &active, &answer, presented.now);
        }
        let Ok(permit) = Arc::clone(&shadow.calls).try_acquire_owned() else {
            return shadow.comparison.skip();
        };
        let (gateway, presented) = (Arc::clone(self), presented.clone());
        self.tasks.spawn(async move {
            gateway.ask_shadow(&presented, &active).await;
            drop(permit);
        });
    }

    async fn ask_shadow(&self, presented: &Presented, active: &Verdict) {
        let plan = self.plan(presented);
        let Some(shadow) = &plan.shadow else { return };
        let captures = self.key_captures(&shadow.policy, presented);
        let answer =
            match shadow.policy.key(self.space(presented), &presented.seen(&captures)).await {
                Ok(answer) => Keyed::of(answer, plan, presented).verdict(),
                Err(failure) => {
                    debug!(policy = shadow.policy.name(), error = %failure, "shadow failed");
                    Verdict::Failed
                }
            };
        shadow.comparison.add(target(presented), active, &answer, presented.now);
    }

    /// What the shadows came to so far, by route.
    pub fn shadows(&self) -> impl Iterator<Item = (&str, Shadowed)> {
        self.plans.iter().filter_map(|plan| {
            let Shadow { policy, share, comparison, .. } = plan.shadow.as_ref()?;
            let mut report = comparison.report(self.clock.now());
            for it in &mut report.disagreements {
                it.contents_differ = it.keys.and_then(|keys| self.contents_differ(keys));
            }
            let policy = policy.name().to_owned();
            Some((&*plan.name, Shadowed { policy, share: *share, report }))
        })
    }

    /// `None`: they are not both in L1.
    fn contents_differ(&self, keys: [CacheKey; 2]) -> Option<bool> {
        let now = self.clock.now();
        let [one, other] = keys.map(|key| self.store.peek(&key, now));
        Some(one?.body != other?.body)
    }
}

fn target(presented: &Presented) -> &str {
    presented.head.uri.path_and_query().map_or("/", |target| target.as_str())
}
