//! Whether requests use a server, since when, and what was wrong with it last.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock;
use crate::store::health::ServerHealth;

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Requests use it.
    Up,
    /// It is being tried. No request uses it.
    HalfOpen,
    /// Nothing uses it.
    #[default]
    Open,
}

impl State {
    /// As operators read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// What one server is like.
#[derive(Debug)]
pub(super) struct Condition(Mutex<Now>);

#[derive(Debug)]
struct Now {
    state: State,
    /// Since when it is up, or is not.
    since: Instant,
    error: Option<(Instant, String)>,
}

impl Default for Condition {
    fn default() -> Self {
        let now = Now { state: State::Open, since: clock::instant(), error: None };
        Self(Mutex::new(now))
    }
}

impl Condition {
    /// It is in another state, for this reason if there is one.
    pub(super) fn becomes(&self, state: State, why: Option<&dyn Error>) {
        let instant = clock::instant();
        let mut now = self.now();
        if (now.state == State::Up) != (state == State::Up) {
            now.since = instant;
        }
        now.state = state;
        if let Some(why) = why {
            let mut text = why.to_string();
            // Some tell their cause themselves.
            if let Some(cause) = why.source().map(ToString::to_string).filter(|it| *it != text) {
                text = format!("{text}: {cause}");
            }
            now.error = Some((instant, text));
        }
    }

    /// The same for operators; whoever asks knows the name.
    pub(super) fn told(&self) -> ServerHealth {
        let now = self.now();
        ServerHealth {
            name: String::new(),
            state: now.state,
            lasts: Some(now.since.elapsed()),
            takes_writes: true,
            error: now.error.as_ref().map(|(at, why)| (at.elapsed(), why.clone())),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connection::Trouble;

    #[test]
    fn a_trial_is_no_change_and_the_last_error_stays() {
        let condition = Condition::default();
        let since = || condition.now().since;
        let begin = since();
        condition.becomes(State::HalfOpen, None);
        condition.becomes(State::Open, Some(&Trouble::Timeout));
        assert_eq!((condition.told().state, since()), (State::Open, begin));
        condition.becomes(State::HalfOpen, None);
        condition.becomes(State::Up, None);
        assert_eq!(condition.told().state, State::Up);
        let (_, why) = condition.told().error.unwrap();
        assert_eq!(why, "Redis did not answer in time");
        let up = since();
        condition.becomes(State::Open, Some(&Trouble::Down));
        assert!(since() >= up && up >= begin);
    }
}
