//! Active health checks: each server is asked for a path now and then, whatever requests there are.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use http_body::Body as _;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::config::Health;

use super::coming::Coming;
use super::lent::Lent;
use super::server::Server;
use super::{Content, Failure, Outgoing};

/// So many octets of an answer are read, so that its connection is kept. A longer one ends with it.
const MOST: usize = 64 * 1024;

/// What came of asking.
type Answer = Result<(Response<Coming>, Lent), Failure>;

/// The checks of an upstream's servers. Dropping them ends them.
pub(super) struct Probes {
    health: Health,
    runtime: Handle,
    running: Mutex<Vec<(Arc<Server>, AbortHandle)>>,
}

impl Probes {
    /// Of nobody yet. They will run on this runtime.
    pub(super) fn new(health: Health, runtime: Handle) -> Self {
        Self { health, runtime, running: Mutex::default() }
    }

    /// Has these servers checked from now on, one task each, and no others.
    pub(super) fn follow(&self, servers: &[Arc<Server>]) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |it: &Arc<Server>| !servers.iter().any(|server| Arc::ptr_eq(server, it));
        running.extract_if(.., |(it, _)| is_gone(it)).for_each(|(_, task)| task.abort());
        for server in servers {
            if !running.iter().any(|(it, _)| Arc::ptr_eq(server, it)) {
                let task = probe(Arc::clone(server), self.health.clone());
                let task = self.runtime.spawn(task).abort_handle();
                running.push((Arc::clone(server), task));
            }
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.follow(&[]);
    }
}

async fn probe(server: Arc<Server>, health: Health) {
    let mut looks = interval(health.interval);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let end = Instant::now() + health.timeout;
        let asked = timeout_at(end, ask_again(&server, &health)).await;
        let answer = asked.unwrap_or(Err(Failure::Timeout));
        server.checked(&verdict(&answer, &health), &health);
        if let Ok((response, lent)) = answer {
            drop(timeout_at(end, finish(response.into_body(), lent)).await);
        }
    }
}

/// Asks a server; once more if a connection closed, as it may have been idle.
async fn ask_again(server: &Server, health: &Health) -> Answer {
    match ask(server, health).await {
        Err(Failure::Broken(cause)) if cause.is_close() => ask(server, health).await,
        answer => answer,
    }
}

async fn ask(server: &Server, health: &Health) -> Answer {
    let target = PathAndQuery::try_from(health.path.as_str()).ok();
    let agent = (USER_AGENT, HeaderValue::from_static("larder-health"));
    let fields = || HeaderMap::from_iter([agent.clone()]).into();
    let outgoing = Outgoing {
        method: &Method::GET,
        target: target.as_ref(),
        authority: health.host.as_deref().unwrap_or_default(),
        fields: &fields,
        content: Content::default(),
        interim: None,
        key: None,
        upgrade: None,
    };
    server.exchange(&outgoing, health.host.is_some(), Instant::now()).await
}

/// Why a server is not healthy.
fn verdict(answer: &Answer, health: &Health) -> Result<(), String> {
    match answer {
        Ok((response, _)) if health.statuses.has(response.status()) => Ok(()),
        Ok((response, _)) => Err(format!("it answered {}", response.status().as_u16())),
        Err(failure) => Err(failure.in_full()),
    }
}

/// Reads the rest of an answer, unless that is long or breaks off, so that its connection is kept.
async fn finish(mut content: Coming, lent: Lent) {
    let mut room = MOST;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut content).poll_frame(cx)).await {
        let length = frame.map(|frame| frame.data_ref().map_or(0, Bytes::len));
        let Some(rest) = length.ok().and_then(|length| room.checked_sub(length)) else { return };
        room = rest;
    }
    lent.end(None, content.wire());
}

/// What several checks have come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    /// None before the first.
    is_healthy: Option<bool>,
    /// How many in a row have said otherwise.
    against: u32,
}

impl Checks {
    /// Whether the server may be asked.
    pub(super) fn is_healthy(&self) -> bool {
        self.is_healthy != Some(false)
    }

    /// One more. Whether the server is healthy, if that has changed: the first decides alone.
    pub(super) fn add(&mut self, is_good: bool, health: &Health) -> Option<bool> {
        if self.is_healthy == Some(is_good) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let wanted = match self.is_healthy {
            None => 1,
            Some(true) => health.fall,
            Some(false) => health.rise,
        };
        if self.against < wanted {
            return None;
        }
        let was_healthy = self.is_healthy();
        (self.is_healthy, self.against) = (Some(is_good), 0);
        (was_healthy != is_good).then_some(is_good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_in_a_row_decide() {
        let health = Health { rise: 2, fall: 3, ..Health::new("/".to_owned()) };
        for (checks, healthy, changes, why) in [
            ("", true, 0, "nothing is known"),
            ("-", false, 1, "the first decides alone"),
            ("+", true, 0, "it was thought so"),
            ("+--", true, 0, "not often enough"),
            ("+--+--", true, 0, "not in a row"),
            ("+---", false, 1, "three in a row"),
            ("+---+", false, 1, "not often enough"),
            ("+---+-+", false, 1, "not in a row"),
            ("+---++", true, 2, "two in a row"),
        ] {
            let mut found = Checks::default();
            let changed = checks.chars().filter_map(|check| found.add(check == '+', &health));
            assert_eq!(changed.count(), changes, "{checks}: {why}");
            assert_eq!(found.is_healthy(), healthy, "{checks}: {why}");
        }
    }
}
