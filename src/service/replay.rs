//! A configuration for requests of a log: its routes, policies and L1, and nothing that is beyond them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Draft, Faults};
use crate::gateway::{Gateway, Lasting};
use crate::simulation::Trial;
use crate::store::{self, Store};

use super::assemble;

/// A call of a policy may take so long at least: by its own `time` it would fail where this machine, which is
/// not a server, has something else to do.
const LEAST_TIME: Duration = Duration::from_millis(100);

/// Has a file's configuration answer by the time of a log. `ttl` is how long responses are fresh of which
/// neither the log nor the route says it. Must be called on a runtime.
///
/// No listener is opened, no upstream, Redis or MongoDB is connected to.
///
/// # Errors
/// All that is wrong with the file, and with what it names.
pub fn replayed(file: &Path, ttl: Option<Duration>) -> Result<Trial, Faults> {
    let mut draft = Draft::load(file);
    let mut left_out = Vec::new();
    let cache = &mut draft.config.cache;
    if cache.l2.take().is_some() | cache.disk.take().is_some() {
        left_out.push("[cache.l2]");
    }
    // Nobody would hear of changes, and what depends on them be confirmed by nobody.
    if !draft.config.watches.is_empty() {
        draft.config.watches.clear();
        left_out.push("[[changes]]");
    }
    // What a coding makes of a content, no log tells.
    if draft.config.routes.iter().any(|route| route.compress.is_some()) {
        left_out.push("compress");
    }
    draft.config.warm = None;
    for route in &mut draft.config.routes {
        route.assumed_ttl = ttl;
    }
    for policy in &mut draft.config.policies {
        policy.time = policy.time.max(LEAST_TIME);
    }
    let name = file.display().to_string();
    let (parts, routes, _) = assemble(draft, &name, None)?;
    let clock = Clock::replayed();
    let tasks = store::Tasks {
        runtime: Handle::current(),
        tracker: TaskTracker::new(),
        end: CancellationToken::new(),
    };
    let store = Arc::new(Store::replayed(&parts.config.cache, tasks, clock.clone()));
    let lasting = Lasting::new(store, TaskTracker::new(), clock.clone());
    let gateway = Gateway::new(&parts.config, parts.equipment(routes, &lasting));
    let config = &parts.config;
    Ok(Trial {
        name,
        gateway,
        clock,
        routes: config.routes.iter().map(|route| route.name.clone()).collect(),
        capacity: config.cache.l1.capacity,
        left_out,
    })
}
