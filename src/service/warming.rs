//! Warming itself: the gateway asks its own listener for what `[warm]` names, as a client would; when it
//! has begun, and after purges by operators.
//!
//! What a client's write invalidates is not warmed: that would make each write as many fetches as it
//! covers. Nor is what a soft purge made stale, as its first request only validates it.

use std::convert::Infallible;
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::clock;
use crate::config::{self, Config, Fault, Occasion, Sitemap, Warm, shown};
use crate::gateway::Current;
use crate::stats::Stats;
use crate::store::Store;
use crate::warm::{self, Answer, Asker, Page, Place, Sources, Speed, Tally, Trust};

/// Purges often come in a row. So long none must have come, and no longer is waited for that.
const QUIET: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(10);

/// The gateways of a fleet hear of a purge at the same moment. Each begins at another one within this
/// span, so that those behind find in L2 what the first has fetched.
const SPREAD: Duration = Duration::from_secs(1);

/// So long L2 is waited for, in which much of it may lie already.
const PATIENCE_WITH_L2: Duration = Duration::from_secs(5);
const LOOK_FOR_L2: Duration = Duration::from_millis(20);

/// What `[warm]` comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    sources: Sources,
    fields: Vec<(HeaderName, HeaderValue)>,
    speed: Speed,
    at_start: bool,
    after_purge: bool,
    has_busiest: bool,
}

/// The running task. Dropping it leaves the task to its runtime.
pub(super) struct Warming {
    plan: watch::Sender<Option<Arc<Plan>>>,
    task: JoinHandle<()>,
}

/// Has a task follow other plans.
pub(super) struct Plans(watch::Sender<Option<Arc<Plan>>>);

/// Which of its own listeners a gateway asks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// In cleartext.
    pub(super) plain: Option<SocketAddr>,
    /// With TLS.
    pub(super) secure: Option<SocketAddr>,
}

/// What the task works with.
struct Warmer {
    asked: Asked,
    current: Arc<Current>,
    store: Arc<Store>,
    stats: Arc<Stats>,
}

impl Plan {
    /// What a configuration comes to, or what is wrong with the texts in it.
    pub(super) fn of(config: &Config, file: &str, faults: &mut Vec<Fault>) -> Option<Arc<Self>> {
        let warm = config.warm.as_ref()?;
        let Warm { urls, list, sitemap, busiest, headers, rate, concurrency, when } = warm;
        let mut fault = |place, message: String| faults.push(Fault::new(file, place, message));
        for (url, place) in urls {
            if let Err(why) = Page::of(url) {
                fault(*place, format!("[warm]: urls `{}` {why}", shown::plain(url)));
            }
        }
        let sitemap = sitemap.as_ref().and_then(|(sitemap, place)| match sitemap {
            Sitemap::File(path) => Some(Place::File(path.clone())),
            Sitemap::Url(url) => match Page::of(url) {
                Ok(page) => Some(Place::Page(page)),
                Err(why) => {
                    fault(*place, format!("[warm]: sitemap `{}` {why}", shown::plain(url)));
                    None
                }
            },
        });
        let fields = headers.iter().filter_map(|(text, place)| {
            // It is not shown: it may be a secret.
            warm::field(text).map_err(|why| fault(*place, format!("[warm]: a header {why}"))).ok()
        });
        Some(Arc::new(Self {
            fields: fields.collect(),
            sources: Sources {
                urls: urls.iter().map(|(url, _)| url.clone()).collect(),
                lists: list.iter().cloned().collect(),
                sitemaps: sitemap.into_iter().collect(),
            },
            speed: Speed { rate: *rate, concurrency: *concurrency },
            at_start: when.contains(&Occasion::Start),
            after_purge: when.contains(&Occasion::Purge),
            has_busiest: *busiest > 0,
        }))
    }
}

impl Warming {
    /// Warms by this plan what answers there, once it `opens`, until [`Warming::stop`].
    pub(super) fn start(
        plan: Option<Arc<Plan>>,
        asked: Asked,
        current: Arc<Current>,
        opens: CancellationToken,
    ) -> Self {
        let gateway = current.gateway();
        let (store, stats) = (Arc::clone(gateway.store()), Arc::clone(gateway.stats()));
        let warmer = Warmer { asked, current, store, stats };
        let (plan, plans) = watch::channel(plan);
        let warming = async move {
            opens.cancelled().await;
            warmer.run(plans).await;
        };
        Self { plan, task: TaskTracker::new().spawn(warming) }
    }

    /// What has it follow another plan.
    pub(super) fn plans(&self) -> Plans {
        Plans(self.plan.clone())
    }

    /// Ends it, at once.
    pub(super) fn stop(self) {
        self.task.abort();
    }
}

impl Plans {
    /// Has another plan followed. If it is the same, what is under way goes on.
    pub(super) fn follow(&self, plan: Option<Arc<Plan>>) {
        self.0.send_if_modified(|current| {
            let is_other = *current != plan;
            *current = plan;
            is_other
        });
    }
}

impl Warmer {
    async fn run(self, mut plans: watch::Receiver<Option<Arc<Plan>>>) {
        loop {
            let plan = plans.borrow_and_update().clone();
            tokio::select! {
                changed = plans.changed() => if changed.is_err() { return },
                never = self.keep_to(plan.as_deref()) => match never {},
            }
        }
    }

    /// Does what a plan says, for ever.
    async fn keep_to(&self, plan: Option<&Plan>) -> Infallible {
        let Some(plan) = plan else { return pending().await };
        // Before anything is stored: what a purge takes away meanwhile is fetched again.
        let mut purges = self.store.purges();
        if plan.at_start {
            self.l2_is_in_use().await;
            self.warm(plan, "start").await;
        }
        if !plan.after_purge {
            return pending().await;
        }
        loop {
            // The store is there as long as this task.
            let _closed = purges.changed().await;
            let quiet = async { while timeout(QUIET, purges.changed()).await.is_ok() {} };
            // It has waited long enough.
            let _passed = timeout(MOST_PATIENCE, quiet).await;
            if self.store.is_shared() {
                sleep(SPREAD.mul_f64(share())).await;
            }
            purges.mark_unchanged();
            self.warm(plan, "purge").await;
        }
    }

    /// Waits until L2 can be used, if that is soon.
    async fn l2_is_in_use(&self) {
        let is_in_use = || self.store.stats().l2.is_none_or(|l2| l2.up && l2.log_in_step);
        let waiting = async {
            while !is_in_use() {
                sleep(LOOK_FOR_L2).await;
            }
        };
        // It may be out of reach for long.
        let _passed = timeout(PATIENCE_WITH_L2, waiting).await;
    }

    async fn warm(&self, plan: &Plan, cause: &'static str) {
        let begun = clock::instant();
        let asker = Asker::new(self.asked.gateway(), plan.fields.iter().cloned());
        let mut sources = plan.sources.clone();
        if plan.has_busiest {
            match self.current.gateway().busiest().await {
                Ok(ranking) => sources.urls.extend(ranking.iter().map(|(url, _)| url.to_owned())),
                Err(error) => warn!(cause, %error, "warmed without them"),
            }
        }
        let gathered = match sources.gather(&asker, plan.speed).await {
            Ok(gathered) => gathered,
            Err(error) => return warn!(cause, %error, "not warmed, as it cannot be read for what"),
        };
        let figures = &self.stats.warming;
        let running = figures.begin();
        let mut tally = Tally { not_warmed: gathered.refused.len(), ..Tally::default() };
        for (url, why) in gathered.refused {
            figures.not_warmed.count();
            debug!(?url, why, "not warmed");
        }
        info!(cause, urls = gathered.pages.len() + tally.not_warmed, "warming");
        let each = |page: &Page, answer: &Answer| {
            tally.count(answer);
            match answer {
                Answer::Stored => figures.stored.count(),
                Answer::Hit => figures.hits.count(),
                Answer::NotWarmed(why) => {
                    figures.not_warmed.count();
                    debug!(url = %page, why, "not warmed");
                }
            }
        };
        let done = warm::warm(&asker, gathered.pages, plan.speed, each).await;
        drop(running);
        let Tally { stored, hits, not_warmed } = tally;
        let seconds = begun.elapsed().as_secs_f64();
        match done {
            Ok(()) => info!(cause, stored, hits, not_warmed, seconds, "warmed"),
            Err(error) => warn!(cause, %error, stored, hits, not_warmed, "warmed in part"),
        }
    }
}

impl Asked {
    /// The gateway as it asks itself, if there is such a listener.
    pub(super) fn reachable(self) -> Option<warm::Gateway> {
        self.plain.or(self.secure).map(|_| self.gateway())
    }

    fn gateway(self) -> warm::Gateway {
        let gateway = warm::Gateway::new(self.plain.map(authority));
        match self.secure {
            Some(secure) => gateway.with_tls(authority(secure), Trust::own()),
            None => gateway,
        }
    }
}

fn authority(address: SocketAddr) -> Authority {
    let address = reachable(address).to_string();
    Authority::try_from(address).expect("an address with a port is an authority")
}

/// Where a listener is reached from its own machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(config::own_address(address.ip()), address.port())
}

/// A part of the whole that is another each time. The standard library's hash maps are seeded by the
/// system's random numbers, which is enough for that.
fn share() -> f64 {
    const PARTS: u64 = 1 << 20;

    let part = RandomState::new().hash_one(std::process::id()) % PARTS;
    #[expect(clippy::cast_precision_loss, reason = "both are small")]
    let share = part as f64 / PARTS as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_loopback() {
        for (listens, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), expected);
        }
    }
}
