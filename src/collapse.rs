//! Many equal misses, one forward request (RFC 9111 §4).
//!
//! The first request for a key becomes the leader: its fetch outlives it, and publishes what comes of it
//! in a [`Fetch`]. Everyone who waits for it, the leader's own client included, has a [`Seat`] there and
//! reads the content at their own pace. So a leader whose client goes away frees nobody's turn.
//!
//! Whether a response may be shared, and whether it answers a follower's request too, is for
//! `gateway` to decide.

mod outcome;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use tokio::time::Instant;

use crate::bounded::Shared;
use crate::stored::CacheKey;
use crate::upstream::Failure;

pub use self::outcome::{Apart, Broken, Elsewhere, Head, Outcome, Validated, Variant};

/// Once a body is too large to be stored, this many octets may wait for the slowest reader.
const WINDOW: usize = 256 * 1024;

/// So many keys are remembered as such.
const MOST_APART: u64 = 10_000;

/// How long a key is remembered as one whose response may not be shared.
const APART: Duration = Duration::from_secs(10);

/// A request that finds it so late says it again.
const RENEWED: Duration = Duration::from_secs(5);

/// The fetches that are under way, by key.
pub struct Collapse {
    fetches: Mutex<HashMap<CacheKey, Arc<Fetch>, foldhash::fast::RandomState>>,
    /// Keys whose last response could not be shared, and since when. Their requests would only wait in vain.
    apart: Shared<CacheKey, Instant>,
}

/// A place in a fetch that is under way: first to learn what comes of it, then to read the
/// content. Dropping it gives the place up; the fetch goes on if its response can be stored.
pub struct Seat {
    fetch: Arc<Fetch>,
    number: usize,
    is_late: bool,
}

/// The duty to finish a fetch. Dropping it before [`Lead::finish`] tells everyone who waits that the
/// fetch broke off.
pub struct Lead {
    collapse: Arc<Collapse>,
    /// Of the requests that may join.
    pub key: CacheKey,
    fetch: Arc<Fetch>,
}

/// What a request finds when it enters.
pub enum Turn {
    /// Nobody fetches this key: whoever entered must.
    Leader(Lead, Seat),
    /// Somebody does.
    Follower(Seat),
}

/// One fetch and everyone who waits for it.
struct Fetch {
    /// How many records the invalidation log had before the fetch began. Who comes after a later
    /// one may not be given what was fetched before it.
    records: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    /// It went forward after it had waited for another gateway's.
    waited: bool,
    /// The content so far, or what is left of it once it cannot be stored.
    chunks: VecDeque<Bytes>,
    /// How many chunks have gone from the front of `chunks`.
    gone: usize,
    /// How many octets `chunks` holds.
    held: usize,
    /// The content became too large: chunks go as soon as all have read them.
    passing: bool,
    /// What followed the content.
    trailers: Option<HeaderMap>,
    end: Option<End>,
    seats: Vec<Option<Place>>,
    /// The fetch waits for readers.
    fetcher: Option<Waker>,
}

/// Where a reader is.
#[derive(Default)]
struct Place {
    next: usize,
    /// The trailers have been handed out.
    has_trailers: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    Complete,
    Broken,
}

/// Nobody reads any more, and the content cannot be stored.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nobody waits for the content")]
pub struct Abandoned;

impl Collapse {
    /// No fetch is under way.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { fetches: Mutex::default(), apart: Shared::new(MOST_APART) })
    }

    /// Joins the fetch of this key, or becomes its leader. `records` is the log's count of records
    /// now: a fetch that began at an older one is not joined, but replaced.
    pub fn enter(self: &Arc<Self>, key: CacheKey, records: u64) -> Turn {
        let mut fetches = self.fetches();
        if let Some(fetch) = fetches.get(&key).filter(|fetch| fetch.records == records)
            && let Some(seat) = fetch.sit()
        {
            return Turn::Follower(seat);
        }
        let (lead, seat) = self.alone(key, records);
        fetches.insert(key, Arc::clone(&lead.fetch));
        Turn::Leader(lead, seat)
    }

    /// Joins the fetch of this key if there is one, for a request whose own fetch would be of no use
    /// to others; else as [`Collapse::alone`].
    pub fn join(self: &Arc<Self>, key: CacheKey, records: u64) -> Turn {
        let running = self.fetches().get(&key).filter(|fetch| fetch.records == records).cloned();
        if let Some(seat) = running.and_then(|fetch| fetch.sit()) {
            return Turn::Follower(seat);
        }
        let (lead, seat) = self.alone(key, records);
        Turn::Leader(lead, seat)
    }

    /// A fetch that nobody can join.
    pub fn alone(self: &Arc<Self>, key: CacheKey, records: u64) -> (Lead, Seat) {
        let state = State { seats: vec![Some(Place::default())], ..State::default() };
        let fetch = Arc::new(Fetch { records, state: Mutex::new(state) });
        let seat = Seat { fetch: Arc::clone(&fetch), number: 0, is_late: false };
        (Lead { collapse: Arc::clone(self), key, fetch }, seat)
    }

    /// Whether it is known now that the responses for this key cannot be shared.
    pub fn apart(&self, key: &CacheKey, now: Instant) -> Option<Apart> {
        let lasts = now.saturating_duration_since(self.apart.get(key.number(), key)?);
        let known = if lasts < RENEWED { Apart::Lately } else { Apart::Before };
        (lasts < APART).then_some(known)
    }

    fn leave(&self, key: &CacheKey, fetch: &Arc<Fetch>) {
        let mut fetches = self.fetches();
        if fetches.get(key).is_some_and(|current| Arc::ptr_eq(current, fetch)) {
            fetches.remove(key);
        }
    }

    fn fetches(
        &self,
    ) -> MutexGuard<'_, HashMap<CacheKey, Arc<Fetch>, foldhash::fast::RandomState>> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place from which the whole content can be read; none if some of it has gone.
    fn sit(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.state();
        if state.passing || state.end.is_some() {
            return None;
        }
        let number = state.seats.len();
        state.seats.push(Some(Place::default()));
        Some(Seat { fetch: Arc::clone(self), number, is_late: state.outcome.is_some() })
    }
}

impl State {
    fn wake_readers(&mut self) {
        for place in self.seats.iter_mut().flatten() {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

    /// Lets go of what everybody has read.
    fn forget_read(&mut self) {
        if !self.passing {
            return;
        }
        let slowest = self.slowest().unwrap_or(self.gone + self.chunks.len());
        while self.gone < slowest
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.gone += 1;
            self.held -= chunk.len();
        }
        if let Some(waker) = self.fetcher.take() {
            waker.wake();
        }
    }

    /// How many pieces those have read who have read least.
    fn slowest(&self) -> Option<usize> {
        self.seats.iter().flatten().map(|place| place.next).min()
    }

    /// Ends the places of those who have read least, unless nobody would be left or they have read on.
    fn drop_slowest(&mut self, before: Option<usize>) {
        let slowest = self.slowest();
        let fastest = self.seats.iter().flatten().map(|place| place.next).max();
        if slowest == fastest || slowest != before {
            return;
        }
        for seat in &mut self.seats {
            if seat.as_ref().map(|place| place.next) == slowest
                && let Some(waker) = seat.take().and_then(|place| place.waker)
            {
                waker.wake();
            }
        }
        self.forget_read();
    }
}

impl Lead {
    /// The response is for the leader alone; followers must go forward themselves. So will the
    /// requests of the next seconds, without waiting for one another. `known`: what was known of that before.
    pub fn apart(self, known: Option<Apart>) {
        // Not for each of the requests that find the key there anyway.
        if known != Some(Apart::Lately) {
            self.collapse.apart.insert(self.key.number(), self.key, Instant::now(), 1);
        }
        self.publish(Outcome::Apart);
    }

    /// The response is for the leader alone, because the upstream is in trouble, or what the leader sent is. That
    /// says nothing about the next one, for which followers may wait.
    pub fn in_trouble(self, status: StatusCode) {
        // They enter by the same key, and must not find this one again.
        self.collapse.leave(&self.key, &self.fetch);
        self.publish(Outcome::Trouble(status));
    }

    /// A stored response was validated.
    pub fn validated(self, validated: Validated) {
        self.publish(Outcome::Validated(Arc::new(validated)));
    }

    /// Another gateway's fetch answers.
    pub fn elsewhere(self, elsewhere: Elsewhere) {
        self.publish(Outcome::Elsewhere(Arc::new(elsewhere)));
    }

    /// Everyone who waits is to go forward.
    pub fn unsent(self) {
        self.publish(Outcome::Unsent);
    }

    /// Notes that the fetch has waited for another gateway's, before anything comes of it.
    pub fn wait(&self) {
        self.fetch.state().waited = true;
    }

    /// There is no response.
    pub fn failed(self, failure: Failure) {
        self.publish(Outcome::Failed(failure));
    }

    /// A response begins that may be shared. Its content is to follow.
    pub fn begin(&self, head: Arc<Head>) {
        self.publish(Outcome::Shared(head));
    }

    /// Adds a piece of content, if there is one.
    pub fn push(&self, chunk: impl Into<Option<Bytes>>) {
        let Some(chunk) = chunk.into() else { return };
        let mut state = self.fetch.state();
        state.held += chunk.len();
        state.chunks.push_back(chunk);
        state.wake_readers();
    }

    /// Whether nobody reads any more.
    pub fn is_left(&self) -> bool {
        self.fetch.state().seats.iter().all(Option::is_none)
    }

    /// Too large to be stored: from now on nobody can join, and content is held until it is read.
    pub fn pass_through(&self) {
        self.collapse.leave(&self.key, &self.fetch);
        let mut state = self.fetch.state();
        state.passing = true;
        state.forget_read();
    }

    /// After [`Lead::pass_through`]: waits until the readers have taken in most of the content. One who
    /// takes nothing for `patience` while others wait is given up.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub async fn room(&self, patience: Duration) -> Result<(), Abandoned> {
        loop {
            let room = std::future::poll_fn(|cx| {
                if self.is_left() {
                    return Poll::Ready(Err(Abandoned));
                }
                let mut state = self.fetch.state();
                if state.held <= WINDOW {
                    return Poll::Ready(Ok(()));
                }
                state.fetcher = Some(cx.waker().clone());
                Poll::Pending
            });
            let before = self.fetch.state().slowest();
            match tokio::time::timeout(patience, room).await {
                Ok(result) => return result,
                Err(_) => self.fetch.state().drop_slowest(before),
            }
        }
    }

    /// The content is whole, and these trailers came behind it.
    pub fn finish(self, trailers: Option<HeaderMap>) {
        let mut state = self.fetch.state();
        state.trailers = trailers;
        state.end = Some(End::Complete);
        state.wake_readers();
    }

    fn publish(&self, outcome: Outcome) {
        let mut state = self.fetch.state();
        state.outcome = Some(outcome);
        state.wake_readers();
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.collapse.leave(&self.key, &self.fetch);
        let mut state = self.fetch.state();
        state.outcome.get_or_insert(Outcome::Lost);
        state.end.get_or_insert(End::Broken);
        state.wake_readers();
    }
}

impl Seat {
    /// Waits for what comes of the fetch.
    pub async fn outcome(&self) -> Outcome {
        std::future::poll_fn(|cx| {
            let mut state = self.fetch.state();
            if let Some(outcome) = &state.outcome {
                return Poll::Ready(outcome.clone());
            }
            if let Some(Some(place)) = state.seats.get_mut(self.number) {
                place.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Whether it was taken when the response had begun to come: that was generated before it was asked for here, as
    /// what is stored was.
    pub fn is_late(&self) -> bool {
        self.is_late
    }

    /// Whether the fetch has waited for another gateway's.
    pub fn has_waited(&self) -> bool {
        self.fetch.state().waited
    }

    /// The next piece of content, then the trailers if there are any; `None` after the last.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = self.fetch.state();
        let (gone, end) = (state.gone, state.end);
        let Some(Some(place)) = state.seats.get(self.number) else {
            return Poll::Ready(Some(Err(Broken)));
        };
        let next = place.next;
        let chunk = next.checked_sub(gone).and_then(|ahead| state.chunks.get(ahead)).cloned();
        let Some(Some(place)) = state.seats.get_mut(self.number) else {
            return Poll::Ready(Some(Err(Broken)));
        };
        match (chunk, end) {
            (Some(chunk), _) => {
                place.next += 1;
                state.forget_read();
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            (None, Some(End::Complete)) if place.has_trailers => Poll::Ready(None),
            (None, Some(End::Complete)) => {
                place.has_trailers = true;
                let trailers = state.trailers.clone().map(Frame::trailers);
                Poll::Ready(trailers.map(Ok))
            }
            (None, Some(End::Broken)) => Poll::Ready(Some(Err(Broken))),
            (None, None) => {
                place.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.fetch.state();
        if let Some(seat) = state.seats.get_mut(self.number) {
            *seat = None;
        }
        state.forget_read();
        if let Some(waker) = state.fetcher.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn who_reads_slowly_is_not_given_up_and_who_reads_nothing_is() {
        const PATIENCE: Duration = Duration::from_millis(10);

        let collapse = Collapse::new();
        let key = CacheKey([0; 32]);
        let (Turn::Leader(lead, mut fast), Turn::Follower(mut slow)) =
            (collapse.enter(key, 0), collapse.enter(key, 0))
        else {
            panic!("two leaders")
        };
        let pieces = 8;
        for _ in 0..pieces {
            lead.push(Bytes::from(vec![b'a'; WINDOW / 2]));
        }
        lead.pass_through();
        for _ in 0..pieces {
            assert!(poll_fn(|cx| fast.poll_frame(cx)).await.unwrap().is_ok());
        }
        let mut room = pin!(lead.room(PATIENCE));
        let mut is_room = async || {
            let is_ready = poll_fn(|cx| Poll::Ready(room.as_mut().poll(cx).is_ready())).await;
            sleep(2 * PATIENCE).await;
            is_ready
        };
        // Each time longer than that passes before it is looked at again.
        for _ in 0..pieces - 3 {
            assert!(!is_room().await);
            assert!(poll_fn(|cx| slow.poll_frame(cx)).await.unwrap().is_ok());
        }
        assert!(!is_room().await);
        assert!(is_room().await);
        assert!(poll_fn(|cx| slow.poll_frame(cx)).await.unwrap().is_err());
    }
}
