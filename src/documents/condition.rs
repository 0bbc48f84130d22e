//! Whether a deployment can be used, since when, and what was wrong with it last.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// What a deployment is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has been asked of it.
    Untried,
    /// It answers.
    Reached,
    /// No server is found, or none that answers.
    OutOfReach,
    /// It does not believe who Larder is.
    Refused,
}

impl State {
    /// As operators read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Untried => "untried",
            Self::Reached => "reached",
            Self::OutOfReach => "out-of-reach",
            Self::Refused => "login-refused",
        }
    }

    /// Whether nothing can be read from it.
    pub fn is_trouble(self) -> bool {
        matches!(self, Self::OutOfReach | Self::Refused)
    }
}

/// How a deployment is, for whoever looks after it.
#[derive(Clone, Debug)]
pub struct Health {
    /// The name of `[mongodb.NAME]`.
    pub name: String,
    /// What it is like now.
    pub state: State,
    /// For how long it can be used, or cannot.
    pub lasts: Duration,
    /// What was wrong last, and how long ago, whatever has become of it.
    pub error: Option<(Duration, String)>,
}

/// The state as it changes.
pub(super) struct Condition(Mutex<Now>);

struct Now {
    state: State,
    since: Instant,
    error: Option<(Instant, String)>,
}

impl Condition {
    pub(super) fn new() -> Self {
        let now = Now { state: State::Untried, since: clock::instant(), error: None };
        Self(Mutex::new(now))
    }

    /// It answered. Whether it did not before.
    pub(super) fn works(&self) -> bool {
        let mut now = self.now();
        let is_back = now.state.is_trouble();
        if now.state != State::Reached {
            (now.state, now.since) = (State::Reached, clock::instant());
        }
        is_back
    }

    /// It cannot be used, for this reason. Whether that is news.
    pub(super) fn fails(&self, state: State, why: &impl Display) -> bool {
        let (instant, mut now) = (clock::instant(), self.now());
        // A server that has refused is not looked for any more for a while, which is no other trouble.
        let is_same = now.state == state || now.state == State::Refused;
        if !is_same {
            if !now.state.is_trouble() {
                now.since = instant;
            }
            now.state = state;
        }
        if now.state == state {
            now.error = Some((instant, why.to_string()));
        }
        !is_same
    }

    pub(super) fn is_trouble(&self) -> bool {
        self.now().state.is_trouble()
    }

    /// For operators; whoever asks knows the name.
    pub(super) fn told(&self, name: &str) -> Health {
        let now = self.now();
        Health {
            name: name.to_owned(),
            state: now.state,
            lasts: now.since.elapsed(),
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

    #[test]
    fn what_is_no_news_is_not_told() {
        let condition = Condition::new();
        let told = || condition.told("a");
        assert!(!condition.works(), "nobody heard that it did not");
        assert!(condition.fails(State::OutOfReach, &"gone"));
        assert!(!condition.fails(State::OutOfReach, &"still gone"));
        assert_eq!(told().error.unwrap().1, "still gone");
        assert!(condition.fails(State::Refused, &"who are you"), "it is there, and that is wrong");
        assert!(!condition.fails(State::OutOfReach, &"not looked for"));
        assert_eq!(
            (told().state, told().error.unwrap().1.as_str()),
            (State::Refused, "who are you")
        );
        assert!(condition.works());
        assert!(!condition.works());
        assert_eq!(told().error.unwrap().1, "who are you", "it can still be read");
    }
}
