//! What watches changes, from one configuration to the next.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;

use crate::changes::{Watched, Watching};
use crate::config::{Config, Fault, OnError, Watch};
use crate::documents::Source;
use crate::gateway::{Current, Lasting};
use crate::plugin::Policy;
use crate::store::{Bookmark, Store};

use super::Parts;

/// What runs, in the order of its configuration.
#[derive(Default)]
pub(super) struct Watches(Mutex<Vec<Running>>);

struct Running {
    /// What it was started with.
    watch: Watch,
    source: Arc<Source>,
    /// And what its failure leads to.
    policy: Option<(Arc<Policy>, OnError)>,
    routes: Vec<String>,
    bookmark: Arc<Bookmark>,
    watching: Watching,
}

impl Watches {
    /// Watches what this configuration says, and nothing else. What watches the same as before goes on.
    pub(super) fn change(&self, parts: &Parts, current: &Arc<Current>, lasting: &Lasting) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut former = mem::take(&mut *running);
        for (watch, bookmark) in parts.config.watches.iter().zip(&parts.bookmarks) {
            let Some(source) = parts.sources.get(watch.mongodb) else { continue };
            let policy = watch.policy.and_then(|place| {
                let policy = Arc::clone(parts.policies.get(place)?);
                Some((policy, parts.config.policies.get(place)?.on_error))
            });
            let place = former.iter().position(|it| it.bookmark.id() == bookmark.id());
            let before = place.map(|place| former.swap_remove(place));
            let (routes, watch_as_such) = (routes(&parts.config, watch), watch.essence());
            let is_same = |before: &Running| {
                before.watch == watch_as_such
                    && Arc::ptr_eq(&before.source, source)
                    && of_policy(before.policy.as_ref()) == of_policy(policy.as_ref())
                    && before.routes == routes
            };
            let before = match before {
                Some(before) if is_same(&before) => {
                    running.push(before);
                    continue;
                }
                before => before.map(|before| before.watching),
            };
            let watched = Watched {
                watch: watch.clone(),
                mongodb: parts
                    .config
                    .mongodbs
                    .get(watch.mongodb)
                    .map(|it| it.name.clone())
                    .unwrap_or_default(),
                source: Arc::clone(source),
                policy: policy.clone(),
                routes: routes.clone(),
                bookmark: Arc::clone(bookmark),
            };
            let watching = Watching::start(watched, Arc::clone(current), lasting.runtime(), before);
            running.push(Running {
                watch: watch_as_such,
                source: Arc::clone(source),
                policy,
                routes,
                bookmark: Arc::clone(bookmark),
                watching,
            });
        }
        for over in former {
            lasting.runtime().spawn(over.watching.end());
        }
    }

    /// Ends all.
    pub(super) async fn end(&self) {
        let running = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        // Together, as each may take a moment.
        let ending = TaskTracker::new();
        for it in running {
            ending.spawn(it.watching.end());
        }
        ending.close();
        ending.wait().await;
    }
}

/// The bookmark of each of `[[changes]]`: of `former`, if that watched the same.
pub(super) fn bookmarks(
    config: &Config,
    store: &Store,
    former: &[Arc<Bookmark>],
) -> Vec<Arc<Bookmark>> {
    let bookmark = |watch: &Watch| {
        let id = id(config, watch);
        let known = former.iter().find(|bookmark| *bookmark.id() == *id);
        known.map_or_else(|| store.bookmark(&config.cache, &id, &watch.label), Arc::clone)
    };
    config.watches.iter().map(bookmark).collect()
}

/// What tells a stream from others: another filter leaves out other changes, and so has a place of its
/// own. So have other servers, which may take the place and know nothing of what is stored.
fn id(config: &Config, watch: &Watch) -> String {
    let mongodb = config.mongodbs.get(watch.mongodb).map(|it| (&it.name, it.servers()));
    let policy = watch.policy.and_then(|place| config.policies.get(place)).map(|it| &it.name);
    let Watch { database, collections, matching, .. } = watch;
    let told = format!("{:?}", (mongodb, database, collections, matching, policy));
    let digest = blake3::hash(told.as_bytes()).to_hex();
    digest.get(..32).unwrap_or_default().to_owned()
}

/// What tells a policy from another, or from the same that fails otherwise.
fn of_policy(policy: Option<&(Arc<Policy>, OnError)>) -> Option<(*const Policy, OnError)> {
    policy.map(|(policy, on_error)| (Arc::as_ptr(policy), *on_error))
}

fn routes(config: &Config, watch: &Watch) -> Vec<String> {
    let routes = watch.routes.iter().filter_map(|place| config.routes.get(*place));
    routes.map(|route| route.name.clone()).collect()
}

/// Checks that each policy that is told of changes answers what they invalidate.
pub(super) fn check(
    config: &Config,
    policies: &[Option<Arc<Policy>>],
    file: &str,
    faults: &mut Vec<Fault>,
) {
    for watch in &config.watches {
        let policy = watch.policy.and_then(|place| policies.get(place)).and_then(Option::as_ref);
        if let Some(policy) = policy.filter(|policy| !policy.has_invalidation()) {
            let name = policy.name();
            let message =
                format!("changes: the plugin of policy `{name}` does not export `invalidation`");
            faults.push(Fault::new(file, watch.policy_place, message));
        }
    }
}
