//! Warming: a running gateway is asked for URLs, so that what answers them is stored.
//!
//! It is asked as a client asks, by the listener for clients: what is stored then, under which key and
//! for which fields, is what a client's request would have stored. Nothing here knows the gateway from
//! inside.
//!
//! `page` is one of the URLs, `source` where they come from, `sitemap` one form of that, `asker` asks for
//! one and says what became of it, by `gateway`, which knows where; `pace` says when the next one may be
//! asked for.

mod asker;
mod gateway;
mod pace;
mod page;
mod sitemap;
mod source;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::clock;

pub use self::asker::{Answer, Asker, NO_GATEWAY, OutOfReach};
pub use self::gateway::{Gateway, Trust, Untrusted};
pub use self::page::{Page, field, has_asked};
pub use self::source::{Gathered, NotRead, Place, Sources, lines};

use self::pace::Pace;

/// How fast it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// So many requests a second, at most.
    pub rate: u32,
    /// So many at once, at most.
    pub concurrency: usize,
}

/// What has become of the pages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Fetched, and stored.
    pub stored: usize,
    /// Stored before.
    pub hits: usize,
    /// Neither.
    pub not_warmed: usize,
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, answer: &Answer) {
        match answer {
            Answer::Stored => self.stored += 1,
            Answer::Hit => self.hits += 1,
            Answer::NotWarmed(_) => self.not_warmed += 1,
        }
    }

    /// How many answer the next request from the cache.
    pub fn warmed(&self) -> usize {
        self.stored + self.hits
    }
}

/// Asks for each page, in their order, and tells `each` as they are done. Dropping it gives up the
/// requests that are under way.
///
/// # Errors
/// The gateway is out of reach: the rest is not asked for.
pub async fn warm(
    asker: &Asker,
    pages: impl IntoIterator<Item = Page>,
    speed: Speed,
    mut each: impl FnMut(&Page, &Answer),
) -> Result<(), OutOfReach> {
    let asker = Arc::new(asker.clone());
    let mut pages = pages.into_iter().peekable();
    let mut steps = Pace::new(speed.rate, clock::instant());
    let mut running = JoinSet::new();
    loop {
        let may_start = running.len() < speed.concurrency && pages.peek().is_some();
        if !may_start && running.is_empty() {
            return Ok(());
        }
        tokio::select! {
            Some(done) = running.join_next() => {
                // Nobody aborts them, and a panic is not hidden.
                let (page, answer): (Page, Result<Answer, OutOfReach>) = match done {
                    Ok(done) => done,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                };
                each(&page, &answer?);
            }
            () = sleep_until(Instant::from_std(steps.next())), if may_start => {
                steps.step(clock::instant());
                if let Some(page) = pages.next() {
                    let asker = Arc::clone(&asker);
                    running.spawn(async move {
                        let answer = asker.ask(&page).await;
                        (page, answer)
                    });
                }
            }
        }
    }
}
