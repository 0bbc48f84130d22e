//! The end of a service: what it still does, for whom, and how long.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::clock;
use crate::server::Drained;

use super::Service;

/// So long a Redis that hangs is waited for once every request has ended.
const PATIENCE_WITH_REDIS: Duration = Duration::from_secs(1);

/// So long connections of operators stay behind a process that has taken over.
const PATIENCE_WITH_OPERATORS: Duration = Duration::from_secs(1);

/// So long changes that are being applied are waited for.
const PATIENCE_WITH_CHANGES: Duration = Duration::from_secs(2);

impl Service {
    /// Takes no more connections, of clients or of operators, and reads no configuration any more.
    pub(super) async fn leave(&mut self) {
        self.current.leave();
        if let Some(reloading) = self.reloading.take() {
            reloading.stop();
        }
        self.server.leave().await;
        if let Some(admin) = &self.admin {
            admin.leave().await;
        }
    }

    /// Takes no more connections, lets running requests end, and says whether they all did.
    ///
    /// What is left then is on its way to Redis, and no request waits for it. The future brings it
    /// there, within what is left of `drain` and never for long; dropping it breaks that off.
    pub async fn drain(self) -> (Drained, impl Future<Output = ()>) {
        let Self { server, admin, reloading, watches, warming, ranking, offer, ease, .. } = self;
        let (store_tasks, recording) = (self.store_tasks, self.recording);
        self.notifier.stopping(self.drain);
        // It holds the listeners, too.
        drop(offer);
        self.current.leave();
        let end = Instant::from_std(clock::instant() + self.drain);
        if let Some(reloading) = reloading {
            reloading.stop();
        }
        warming.stop();
        let mut admin = admin;
        let first = async {
            // Operators are to reach who has taken over, and those who were accepted just before that have
            // their first call still to make.
            if let Some(admin) = admin.take_if(|_| !ease.is_zero()) {
                sleep(ease.min(PATIENCE_WITH_OPERATORS)).await;
                admin.stop().await;
            }
        };
        let (drained, ()) = tokio::join!(server.drain(ease), first);
        if let Some(admin) = admin {
            admin.stop().await;
        }
        let rest = async move {
            // Every request has ended, and has its line.
            recording.end(end).await;
            drop(timeout_at(end, ranking.stop()).await);
            let patience = Instant::from_std(clock::instant() + PATIENCE_WITH_CHANGES);
            drop(timeout_at(end.min(patience), watches.end()).await);
            store_tasks.end.cancel();
            store_tasks.tracker.close();
            let patience = Instant::from_std(clock::instant() + PATIENCE_WITH_REDIS);
            let ended = timeout_at(end.min(patience), store_tasks.tracker.wait()).await;
            if ended.is_err() {
                debug!("writes to Redis were broken off");
            }
        };
        (drained, rest)
    }
}
