//! Writes rest while Redis refuses them: a full one would be sent every response in vain.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After so long one write is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Until when the writes to one server rest, if they do.
#[derive(Debug, Default)]
pub(super) struct Rest(Mutex<Option<Instant>>);

impl Rest {
    /// Whether a write may be sent at `now`. While writes rest that is one for each pause.
    pub(super) fn may_write(&self, now: Instant) -> bool {
        match &mut *self.until() {
            None => true,
            Some(until) if *until <= now => {
                *until = now + PAUSE;
                true
            }
            Some(_) => false,
        }
    }

    /// Whether they rest.
    pub(super) fn is_on(&self) -> bool {
        self.until().is_some()
    }

    /// Redis refused one. Answers whether that is news.
    pub(super) fn begin(&self, now: Instant) -> bool {
        self.until().replace(now + PAUSE).is_none()
    }

    /// Redis took one. Answers whether that is news.
    pub(super) fn end(&self) -> bool {
        self.until().take().is_some()
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn one_write_is_tried_after_each_pause() {
        let (rest, start) = (Rest::default(), clock::instant());
        assert!(rest.may_write(start) && rest.may_write(start));
        assert!(!rest.end(), "nothing was refused");
        assert!(!rest.is_on() && rest.begin(start) && !rest.begin(start) && rest.is_on());
        let later = start + PAUSE;
        assert!(!rest.may_write(start + PAUSE / 2));
        assert!(rest.may_write(later));
        assert!(!rest.may_write(later), "one, until it is answered");
        assert!(!rest.begin(later));
        assert!(!rest.may_write(later) && rest.may_write(later + PAUSE));
        assert!(rest.end() && rest.may_write(later));
    }
}
