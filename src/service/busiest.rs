//! The ranking of the busiest URLs, brought to where the next gateway finds it: each minute, and when
//! this one ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::gateway::{Current, NoRanking};

const PERIOD: Duration = Duration::from_mins(1);

/// The running task. Dropping it leaves the task to its runtime.
pub(super) struct Ranking {
    current: Arc<Current>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Ranking {
    /// Adds what was counted, until [`Ranking::stop`].
    pub(super) fn start(current: Arc<Current>) -> Self {
        let (adding, end) = (Arc::clone(&current), CancellationToken::new());
        let ended = end.clone();
        let task = TaskTracker::new().spawn(async move {
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while ended.run_until_cancelled(ticks.tick()).await.is_some() {
                add(&adding).await;
            }
        });
        Self { current, end, task }
    }

    /// Ends it, and adds what was counted last.
    pub(super) async fn stop(self) {
        self.end.cancel();
        // What it is adding has been added then.
        drop(self.task.await);
        add(&self.current).await;
    }
}

async fn add(current: &Current) {
    match current.gateway().busiest().await {
        Ok(_) | Err(NoRanking::NotWanted) => {}
        // The tier has said itself that it is out of reach.
        Err(error) => debug!(%error, "what was counted is added later"),
    }
}
