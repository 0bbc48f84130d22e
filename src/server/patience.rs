//! The limit on the time for a request head, by one timer for all heads of a connection.
//!
//! hyper asks for a timer when it begins to wait for a head and drops it when the head has come. To
//! register one with the runtime for each request and to take it back is work that nearly always
//! comes to nothing. So what hyper gets is a deadline, and the connection's one timer goes off at
//! that of some earlier head: only then is it set anew. On its way it tells when a head has been waited for
//! so long that the connection is idle.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt;
use tokio::time::Sleep;

use crate::clock;

use super::idle::Idle;

/// For one connection, which one task drives.
pub(super) struct Patience {
    limit: Duration,
    timer: Arc<Mutex<Pin<Box<Sleep>>>>,
    idle: Idle,
}

/// Ends at its moment, or with the connection's next head.
struct Deadline {
    at: Instant,
    limit: Duration,
    /// For which end of the time the connection has been said to be idle.
    told: Option<Instant>,
    timer: Arc<Mutex<Pin<Box<Sleep>>>>,
    idle: Idle,
}

impl Patience {
    /// For heads that may take so long. Must be called on the runtime that drives the connection.
    pub(super) fn of(limit: Duration, idle: Idle) -> Self {
        Self { limit, timer: Arc::new(Mutex::new(Box::pin(tokio::time::sleep(limit)))), idle }
    }
}

impl rt::Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        let (timer, idle) = (Arc::clone(&self.timer), self.idle.clone());
        idle.set_awaiting(true);
        Box::pin(Deadline { at: deadline, limit: self.limit, told: None, timer, idle })
    }
}

impl rt::Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Whoever drives the connection polls this again when the answer has gone.
        if self.idle.is_answering() {
            return Poll::Pending;
        }
        let answered = self.idle.answered_at().map(|answered| answered + self.limit);
        let at = answered.map_or(self.at, |at| at.max(self.at));
        let rest = self.limit.checked_sub(self.idle.moment());
        if self.told != Some(at)
            && let Some(idle_at) = rest.and_then(|rest| at.checked_sub(rest))
        {
            ready!(self.poll_until(idle_at, cx));
            self.told = Some(at);
            self.idle.set_waited(true);
        }
        self.poll_until(at, cx)
    }
}

impl Deadline {
    fn poll_until(&self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        clock::poll_until(&mut timer, at.into(), cx)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.idle.set_waited(false);
        self.idle.set_awaiting(false);
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer as _;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_deadline_that_passed_does_not_end_a_later_one() {
        let patience = Patience::of(Duration::ZERO, Idle::default());
        for _ in 0..2 {
            patience.sleep_until(patience.now()).await;
            let later = patience.sleep_until(patience.now() + HOUR);
            assert!(tokio::time::timeout(Duration::ZERO, later).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_deadline_before_that_of_the_timer_is_kept() {
        let patience = Patience::of(HOUR, Idle::default());
        let later = patience.sleep_until(patience.now() + HOUR);
        assert!(tokio::time::timeout(Duration::ZERO, later).await.is_err());
        patience.sleep_until(patience.now()).await;
    }
    #[tokio::test]
    async fn it_stands_still_while_a_request_is_being_answered() {
        let idle = Idle::after(Duration::ZERO);
        idle.set_quiet(true);
        let patience = Patience::of(Duration::ZERO, idle.clone());
        let mut deadline = patience.sleep_until(patience.now());
        idle.set_answering(true);
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut deadline).await.is_err());
        assert!(!idle.is_idle());
        idle.answered(patience.now());
        idle.set_answering(false);
        deadline.as_mut().await;
        assert!(idle.is_idle());
    }
}
