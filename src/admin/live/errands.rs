//! What of the feed has to be asked for, of Redis at times: receipts of purges, and the busiest URLs. It
//! is asked for once, however many watch, and not at all while nobody does.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::Live;
use super::frames::event;
use crate::admin::{busiest, purge};

const PERIOD: Duration = Duration::from_secs(1);

/// The busiest URLs are asked for once in so many periods, and so many of them are told.
const BUSIEST: u32 = 10;
const MOST_BUSIEST: usize = 20;

/// Receipts are asked for so long after a purge, and of so many purges. Whoever has not applied it by then
/// may be asked about with `GET /purge/{id}`.
const LATE: Duration = Duration::from_mins(1);
const MOST_PURGES: usize = 8;

/// So many are told of.
const MOST_RECEIPTS: usize = 50;

impl Live {
    pub(super) async fn run_errands(&self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut period = 0;
        loop {
            ticks.tick().await;
            if !self.is_watched() {
                period = 0;
                continue;
            }
            self.ask_for_receipts().await;
            if period == 0 {
                self.ask_for_busiest().await;
            }
            period = (period + 1) % BUSIEST;
        }
    }

    async fn ask_for_receipts(&self) {
        let gateway = self.current.gateway();
        let mut news = Vec::new();
        for id in gateway.store().late_purges(LATE, MOST_PURGES) {
            let name = id.to_string();
            let is_over =
                |known: &&Value| known["id"] == name.as_str() && known["complete"] == true;
            if self.frames().receipts.iter().any(|known| is_over(&known)) {
                continue;
            }
            // One that is not known any more is of no news.
            if let Ok(receipts) = gateway.receipts(&id, Duration::ZERO).await {
                news.push(purge::told(&receipts));
            }
        }
        let mut frames = self.frames();
        news.retain(|one| !frames.receipts.contains(one));
        if news.is_empty() {
            return;
        }
        frames.receipts.retain(|known| news.iter().all(|one| one["id"] != known["id"]));
        frames.receipts.extend_from_slice(&news);
        let excess = frames.receipts.len().saturating_sub(MOST_RECEIPTS);
        frames.receipts.drain(..excess);
        frames.changed();
        self.send(event("receipts", &json!({ "receipts": news })));
    }

    async fn ask_for_busiest(&self) {
        let told = match self.current.gateway().busiest().await {
            Ok(ranking) => {
                json!({ "urls": busiest::told(&ranking, MOST_BUSIEST), "why_not": null })
            }
            Err(why) => json!({ "urls": [], "why_not": why.to_string() }),
        };
        let mut frames = self.frames();
        frames.busiest.clone_from(&told);
        frames.changed();
        self.send(event("busiest", &told));
    }
}
