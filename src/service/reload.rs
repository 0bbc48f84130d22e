//! Another configuration while requests run.
//!
//! One task does all reloads, one after the other: when it is told to by a signal or by a call of
//! the admin listener, and when a file has changed. Reading and compiling happens on a thread of its
//! own; what comes of it takes the place of what was in service in one step. What is faulty changes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::Reloaded;
use crate::clock::{self, Clock};
use crate::config::{Changes, Fault, Faults};
use crate::gateway::{Current, Gateway, Lasting};
use crate::plugin::Policy;
use crate::server::Doors;

use super::certificates::{self, Aged};
use super::changes::{Watches, bookmarks};
use super::supervised::Notifier;
use super::warming::Plans;
use super::watch::Watched;
use super::{Parts, Source, assemble};

/// How often the files are looked at. What has changed is read at the next look, if it is at rest.
const LOOK: Duration = Duration::from_secs(1);

/// What a service can have read again.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) watched: Watched,
    pub(super) parts: Arc<Parts>,
    pub(super) current: Arc<Current>,
    pub(super) watches: Arc<Watches>,
    pub(super) lasting: Lasting,
    pub(super) followers: Followers,
    pub(super) clock: Clock,
}

/// Who is told of each reload.
pub(super) struct Followers {
    /// Of the listeners for clients.
    pub(super) doors: Doors,
    /// Of warming.
    pub(super) plans: Plans,
    /// Whoever has started the process.
    pub(super) notifier: Notifier,
}

/// The running task. Dropping it leaves the task to its runtime.
pub(super) struct Reloading {
    asked: Arc<Notify>,
    task: JoinHandle<()>,
}

/// What a reload has changed, as `POST /reload` tells it.
#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    changes: Changes,
    /// Policies that were not there before as they are now, those with another plugin among them.
    policies_loaded: Vec<String>,
    /// Routes that were there before and find nothing of what they stored.
    routes_cold: Vec<String>,
    /// Keys that have another value now, which counts after a restart.
    waiting_for_restart: Vec<&'static str>,
    seconds: f64,
}

impl Reloading {
    /// Has the file read again. Asked several times before that begins, it is read once.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Ends, at once: what is being read comes to nothing, and what was read is in service whole.
    pub(super) fn stop(self) {
        self.task.abort();
    }
}

impl Reloader {
    /// Reloads until [`Reloading::stop`].
    pub(super) fn start(self, calls: mpsc::Receiver<oneshot::Sender<Reloaded>>) -> Reloading {
        let asked = Arc::new(Notify::new());
        let running = self.run(calls, Arc::clone(&asked));
        Reloading { asked, task: TaskTracker::new().spawn(running) }
    }

    async fn run(
        mut self,
        mut calls: mpsc::Receiver<oneshot::Sender<Reloaded>>,
        asked: Arc<Notify>,
    ) {
        // Those that requests under way began with. They are let go of here: to free what a policy
        // remembers, and its code, would hold up a thread that serves.
        let mut retired: Vec<Arc<Gateway>> = Vec::new();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (cause, answer) = tokio::select! {
                () = asked.notified() => ("signal", None),
                Some(answer) = calls.recv() => ("call", Some(answer)),
                _ = looks.tick() => {
                    retired.retain(|gateway| Arc::strong_count(gateway) > 1);
                    self.lasting.stats().tidy();
                    if !self.have_files_changed().await {
                        continue;
                    }
                    ("change of a file", None)
                }
            };
            self.followers.notifier.reloading();
            let done = self.reload(cause, &mut retired).await;
            self.followers.notifier.ready(match done {
                Reloaded::Done(_) => "answering by what was read last",
                Reloaded::Faulty(_) => "answering; what was read last is faulty, see the log",
            });
            if let Some(answer) = answer {
                // Whoever asked may have gone.
                drop(answer.send(done));
            }
        }
    }

    async fn have_files_changed(&mut self) -> bool {
        if !self.parts.config.server.watch {
            return false;
        }
        // A file system that hangs must not hold up the thread of signals and operators.
        let mut watched = std::mem::take(&mut self.watched);
        let look = tokio::task::spawn_blocking(move || (watched.have_changed(), watched));
        let Ok((have_changed, watched)) = look.await else { return false };
        self.watched = watched;
        have_changed
    }

    async fn reload(&mut self, cause: &str, retired: &mut Vec<Arc<Gateway>>) -> Reloaded {
        let began = clock::instant();
        let (source, former) = (self.source.clone(), Arc::clone(&self.parts));
        let now = self.clock.now();
        let reading = tokio::task::spawn_blocking(move || {
            let (mut watched, draft) = source.read();
            // What is in service counts as long as nothing better was read.
            for file in former.config.files() {
                watched.add(file);
            }
            let assembled = assemble(draft, &source.name(), Some(&former));
            let assembled = assembled.map(|assembled| {
                let aged = certificates::aged(&assembled.0.config, now);
                (assembled, aged)
            });
            (watched, assembled)
        });
        let stats = Arc::clone(self.lasting.stats());
        let assembled = match reading.await {
            Ok((watched, assembled)) => {
                self.watched = watched;
                assembled
            }
            Err(error) => {
                let fault = Fault::new(self.source.name(), None, error.to_string());
                Err(Faults::from(vec![fault]))
            }
        };
        let ((mut parts, routes, waiting), aged) = match assembled {
            Ok(assembled) => assembled,
            Err(faults) => {
                stats.reloads.failed(self.clock.now(), &faults.to_string());
                warn!(cause, %faults, "not reloaded, what was in service stays");
                return Reloaded::Faulty(faults.iter().map(ToString::to_string).collect());
            }
        };
        let store = Arc::clone(self.current.gateway().store());
        parts.bookmarks = bookmarks(&parts.config, &store, &self.parts.bookmarks);
        let gateway = parts.gateway(routes, &self.lasting);
        let former = self.current.replace(Arc::clone(&gateway));
        self.followers.doors.secure(&parts.secured);
        self.watches.change(&parts, &self.current, &self.lasting);
        stats.reloads.succeeded(self.clock.now());
        aged.iter().for_each(Aged::log);
        let done = Done {
            changes: parts.config.changes(&self.parts.config),
            policies_loaded: loaded(&parts.policies, &self.parts.policies),
            routes_cold: gateway.cold_after(&former),
            waiting_for_restart: waiting,
            seconds: began.elapsed().as_secs_f64(),
        };
        self.followers.plans.follow(parts.warm.clone());
        self.parts = Arc::new(parts);
        retired.push(former);
        done.log(cause);
        Reloaded::Done(serde_json::to_value(&done).unwrap_or_default())
    }
}

impl Done {
    fn log(&self, cause: &str) {
        let Self { changes, policies_loaded, routes_cold, waiting_for_restart, seconds } = self;
        let Changes { routes, upstreams, mongodb, changes, policies } = changes;
        info!(
            cause,
            routes_added = ?routes.added,
            routes_removed = ?routes.removed,
            routes_changed = ?routes.changed,
            ?routes_cold,
            upstreams_added = ?upstreams.added,
            upstreams_removed = ?upstreams.removed,
            upstreams_changed = ?upstreams.changed,
            mongodb_added = ?mongodb.added,
            mongodb_removed = ?mongodb.removed,
            mongodb_changed = ?mongodb.changed,
            changes_added = ?changes.added,
            changes_removed = ?changes.removed,
            changes_changed = ?changes.changed,
            policies_removed = ?policies.removed,
            ?policies_loaded,
            ?waiting_for_restart,
            seconds,
            "reloaded"
        );
    }
}

/// The names of policies that are not among the former ones.
fn loaded(policies: &[Arc<Policy>], former: &[Arc<Policy>]) -> Vec<String> {
    let is_kept = |policy: &Arc<Policy>| former.iter().any(|other| Arc::ptr_eq(policy, other));
    let loaded = policies.iter().filter(|policy| !is_kept(policy));
    loaded.map(|policy| policy.name().to_owned()).collect()
}
