//! How far this gateway may be behind the shared log, and what that means for a stored response.
//!
//! The gateway is *in contact* at a moment if it has applied every record that was appended before.
//! Its lag is the time since it last was: a second at most while all is well, as the reader then
//! waits no longer for a record. Once the lag exceeds the bound, `max_lag`, the rule is:
//!
//! > A stored response is confirmed while no more than `max_lag` has passed since the last contact,
//! > or since its own fetch began, whichever was later.
//!
//! So an invalidation holds here `max_lag` after it was appended at the latest, for all that is
//! confirmed. One from before the last contact has been applied. One that came later, and more than
//! `max_lag` ago, covers nothing whose fetch began after it, and nothing older is confirmed. What to
//! do with the rest is its route's to say (`on_lag`).
//!
//! A replica confirms nothing: its log may be any time behind its master's, and tells no difference
//! between that and a log at its end. While the gateway reads one it is out of contact.
//!
//! Moments are this process's own. What another gateway fetched came by way of L2, and when that
//! was is told by another clock: it counts as fetched before everything.
//!
//! The same rule counts for changes of documents, where it is about the stream of changes instead of the
//! log (see `bookmark`): there the gateway begins without contact, as what L2 holds may have been changed
//! before.
//!
//! Requests read one flag, that a task raises when the bound is passed; they read the clock only
//! while it is up. So the bound is kept as exactly as a timer of the store's runtime goes off.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::stored::{Moment, StoredResponse};

/// The first moment of this process. Whatever was fetched elsewhere was long before.
const FIRST: u64 = 1 << 40;

/// After so many spans they are counted anew: a lease has 16 bits for one, and 0 is none. No fetch takes that
/// long.
const SPANS: u64 = 0xffff;

/// Where the moments of this process are counted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start(Instant);

impl Start {
    /// The first moment is this one.
    pub(super) fn new() -> Self {
        Self(clock::instant())
    }

    /// Rounded down, which makes what was fetched then older and not younger than it is.
    pub(super) fn at(self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.0);
        Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(FIRST))
    }
}

/// How far one gateway is behind.
#[derive(Debug)]
pub(super) struct Lag {
    start: Start,
    bound: Duration,
    /// Whose changes it is about. None: it is about the log.
    changes: Option<Box<str>>,
    contact: AtomicU64,
    /// There was some, other than by having begun.
    is_made: AtomicBool,
    /// It is longer ago than the bound. Changes under `changing` only.
    is_passed: AtomicBool,
    changing: Mutex<()>,
    changed: Notify,
    /// From the last change of a document to its being applied, in milliseconds.
    delay: AtomicU64,
}

impl Lag {
    /// Behind the log. Nothing was stored before, and L2 is not used until the log has been read, so the
    /// gateway begins in contact.
    pub(super) fn new(start: Start, bound: Duration) -> Self {
        Self {
            start,
            bound,
            changes: None,
            contact: AtomicU64::new(FIRST),
            is_made: AtomicBool::new(false),
            is_passed: AtomicBool::new(false),
            changing: Mutex::default(),
            changed: Notify::new(),
            delay: AtomicU64::new(0),
        }
    }

    /// Behind changes, which nobody has read yet.
    pub(super) fn of_changes(start: Start, bound: Duration, label: &str) -> Self {
        Self {
            changes: Some(label.into()),
            contact: AtomicU64::new(Moment::BEFORE_ALL.0),
            is_passed: AtomicBool::new(true),
            ..Self::new(start, bound)
        }
    }

    /// How far the gateway may be behind before that counts.
    pub(super) fn bound(&self) -> Duration {
        self.bound
    }

    /// This moment.
    pub(super) fn now(&self) -> Moment {
        self.at(clock::instant())
    }

    /// See [`Start::at`].
    pub(super) fn at(&self, instant: Instant) -> Moment {
        self.start.at(instant)
    }

    /// A change was applied so long after it was made.
    pub(super) fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay.store(millis, Ordering::Relaxed);
    }

    /// The last one of [`Lag::set_delay`].
    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay.load(Ordering::Relaxed))
    }

    /// How long ago the last contact was; a long time, if there was none.
    pub(super) fn value(&self) -> Duration {
        since(self.contact(), self.now())
    }

    /// Whether that is longer than the bound.
    pub(super) fn is_passed(&self) -> bool {
        self.is_passed.load(Ordering::Acquire)
    }

    /// Whether there has been contact. Before, nothing that others stored is confirmed.
    pub(super) fn has_contact(&self) -> bool {
        self.is_made.load(Ordering::Acquire)
    }

    /// Whether `stored` may be used without asking anyone.
    pub(super) fn confirms(&self, stored: &StoredResponse) -> bool {
        !self.is_passed() || is_confirmed(self.contact(), stored.begun, self.now(), self.bound)
    }

    /// Tells the spans of `max_lag` apart that pass without contact, from 1; 0 while there is some.
    /// Of two moments in the same span, one is less than `max_lag` after the other.
    pub(super) fn span(&self) -> u64 {
        if self.is_passed() { span(self.now(), self.bound) } else { 0 }
    }

    /// Every record from before this moment has been applied.
    pub(super) fn confirm(&self, moment: Moment) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_made.store(true, Ordering::Release);
        let before = Moment(self.contact.fetch_max(moment.0, Ordering::AcqRel));
        let is_over = self.is_passed() && since(moment, self.now()) <= self.bound;
        if is_over {
            self.is_passed.store(false, Ordering::Release);
            let seconds = since(before, moment).as_secs();
            match &self.changes {
                None => info!(
                    seconds,
                    "in contact with the invalidation log again, `on_lag` no longer counts"
                ),
                Some(changes) if before > Moment::BEFORE_ALL => {
                    info!(changes, seconds, "changes are in time again, `on_lag` no longer counts");
                }
                Some(_) => {}
            }
        }
        self.changed.notify_one();
    }

    /// Raises the flag when the bound is passed, until `end`.
    pub(super) async fn watch(&self, end: CancellationToken) {
        while end.run_until_cancelled(self.next()).await.is_some() {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let lag = self.value();
            if lag > self.bound && !self.is_passed.swap(true, Ordering::AcqRel) {
                let (seconds, max_lag) = (lag.as_secs(), self.bound);
                if let Some(changes) = &self.changes {
                    warn!(changes, seconds, ?max_lag, "changes are late, `on_lag` counts");
                } else {
                    warn!(
                        seconds,
                        ?max_lag,
                        "no contact with the invalidation log, `on_lag` counts"
                    );
                }
            }
        }
    }

    /// Waits until the bound may have been passed, or there was contact again.
    async fn next(&self) {
        if self.is_passed() {
            return self.changed.notified().await;
        }
        let left = (self.bound + Duration::from_millis(1)).saturating_sub(self.value());
        sleep(left).await;
    }

    fn contact(&self) -> Moment {
        Moment(self.contact.load(Ordering::Acquire))
    }
}

/// Whether a response whose fetch began at one moment may be used at another, as far as the log goes.
fn is_confirmed(contact: Moment, begun: Moment, now: Moment, bound: Duration) -> bool {
    since(contact.max(begun), now) <= bound
}

/// Counted from the first moment and not from the last contact: what began in an earlier silence is in none
/// of a later one's spans, and all that is late is in the same one.
fn span(now: Moment, bound: Duration) -> u64 {
    let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1);
    1 + now.0.saturating_sub(FIRST) / bound % SPANS
}

fn since(then: Moment, now: Moment) -> Duration {
    Duration::from_millis(now.0.saturating_sub(then.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND: Duration = Duration::from_secs(5);

    #[test]
    fn what_is_confirmed() {
        for (contact, begun, now, expected, why) in [
            (0, 0, 5000, true, "the bound is reached, and not passed"),
            (0, 0, 5001, false, "no contact for longer, and fetched before"),
            (1, 0, 5001, true, "what came before the contact has been applied"),
            (0, 1, 5001, true, "what came before the fetch does not cover it"),
            (9000, 0, 5000, true, "a contact that this thread hears of before its time"),
        ] {
            let found = is_confirmed(Moment(contact), Moment(begun), Moment(now), BOUND);
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn the_gateway_begins_in_contact() {
        let lag = Lag::new(Start::new(), BOUND);
        assert!(lag.value() < BOUND && !lag.is_passed());
        assert_eq!(lag.span(), 0);
    }

    #[test]
    fn changes_begin_without_contact() {
        let lag = Lag::of_changes(Start::new(), BOUND, "shop");
        assert!(lag.value() > BOUND && lag.is_passed() && !lag.has_contact());
        lag.confirm(lag.now());
        assert!(!lag.is_passed() && lag.has_contact());
    }

    #[test]
    fn contact_does_not_begin_the_spans_anew() {
        let start = Start(clock::instant().checked_sub(4 * BOUND).unwrap());
        let lag = Lag::new(start, BOUND);
        lag.is_passed.store(true, Ordering::Release);
        assert_eq!(lag.span(), 5);
        lag.confirm(lag.now());
        assert_eq!(lag.span(), 0);
        lag.is_passed.store(true, Ordering::Release);
        assert_eq!(lag.span(), 5);
        // So it is for whatever else is late, since whenever.
        assert_eq!(Lag::of_changes(start, BOUND, "shop").span(), 5);
    }

    #[test]
    fn a_lease_has_room_for_every_span() {
        for (passed, expected) in [(0, 1), (4999, 1), (5000, 2), (5000 * 0xfffe, 0xffff)] {
            assert_eq!(span(Moment(FIRST + passed), BOUND), expected);
        }
        assert_eq!(span(Moment(FIRST + 5000 * 0xffff), BOUND), 1);
        assert_eq!(span(Moment(FIRST + 1), Duration::ZERO), 2);
    }

    #[test]
    fn contact_takes_the_flag_down() {
        let lag = Lag::new(Start::new(), Duration::ZERO);
        assert!(!lag.has_contact());
        lag.is_passed.store(true, Ordering::Release);
        // Older than the bound.
        lag.confirm(Moment::BEFORE_ALL);
        let is_old = lag.now() > Moment::BEFORE_ALL;
        assert_eq!(lag.is_passed(), is_old);
        lag.confirm(Moment(u64::MAX));
        assert!(!lag.is_passed() && lag.has_contact());
        assert_eq!(lag.value(), Duration::ZERO);
    }

    proptest! {
        /// The promise: nothing is served that an invalidation covers which was appended longer than
        /// the bound ago, whether this gateway has heard of it or not.
        #[test]
        fn nothing_confirmed_is_beyond_the_bound(
            contact in 0..20_000_u64,
            begun in 0..20_000_u64,
            appended in 0..20_000_u64,
            now in 0..20_000_u64,
        ) {
            let confirmed = is_confirmed(Moment(contact), Moment(begun), Moment(now), BOUND);
            let is_applied = appended <= contact;
            let covers = begun < appended;
            let is_beyond = since(Moment(appended), Moment(now)) > BOUND;
            prop_assert!(!(confirmed && covers && !is_applied && is_beyond));
        }

        /// And what nothing of the kind can cover is not withheld.
        #[test]
        fn nothing_within_the_bound_is_withheld(
            contact in 0..20_000_u64,
            begun in 0..20_000_u64,
            now in 0..20_000_u64,
        ) {
            let may_be_covered = (contact.max(begun) + 1..=now)
                .any(|appended| since(Moment(appended), Moment(now)) >= BOUND);
            let confirmed = is_confirmed(Moment(contact), Moment(begun), Moment(now), BOUND);
            prop_assert_eq!(confirmed, !may_be_covered);
        }
    }
}
