//! Whether a server may be asked, by what became of earlier requests: a circuit breaker, as functions
//! of values.
//!
//! Times are counted from any moment, the same one for all.
//!
//! | state | asked | left |
//! |---|---|---|
//! | `Up` | as `balance` says | after so many failures in a row: `Ejected` |
//! | `Ejected` | only if no other can be | when its time is over, by a request: `Trial`; by an answer: `Up` |
//! | `Trial` | by one request | answered: `Up`; failed: `Ejected`, for twice as long |
//! | `Failing` | like `Up`: there is no other, or nobody is to be left alone | answered, or found well by a check: `Up` |

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Eject;

/// What is known of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    state: State,
    /// When it came to that.
    since: Duration,
    /// In a row.
    failures: u32,
    /// Answers whose content broke off, without one between them that came whole.
    breaks: u32,
    /// In a row, and how long the last one was.
    ejections: u32,
    lasted: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    New,
    Back,
    Ejected {
        until: Duration,
    },
    Trial {
        is_taken: bool,
    },
    /// It fails, and is asked all the same.
    Failing,
}

/// What a server's standing is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It is asked.
    Up,
    /// It failed, and is tried by one request.
    Trial,
    /// It failed, and is left alone.
    Ejected,
    /// It fails, and is asked all the same: there is no other, or nobody is to be left alone.
    Failing,
    /// Its checks say so, whatever became of requests.
    Unhealthy,
}

/// How a server is.
#[derive(Clone, Debug)]
pub struct ServerHealth {
    /// Its URL.
    pub name: String,
    /// Of a server that is given by name: the one of its addresses that this is, once there is one.
    pub address: Option<SocketAddr>,
    /// It is a backup.
    pub backup: bool,
    /// Whether it is asked.
    pub state: ServerState,
    /// For how long.
    pub lasts: Duration,
    /// How many requests it has.
    pub in_flight: usize,
    /// How long ago it failed last, and why.
    pub last_failure: Option<(Duration, String)>,
}

/// What has become of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is left alone for so long.
    Ejected { failures: u32, lasts: Duration },
    /// It has failed so often, and is asked all the same.
    Failing { failures: u32 },
    /// It is asked again, or answers again.
    Back,
}

impl Standing {
    /// Of one that comes to others: as after an ejection, it gets its whole weight slowly.
    pub(super) fn arriving() -> Self {
        Self { state: State::Back, ..Self::default() }
    }

    /// Whether it may be asked like any other.
    pub(super) fn is_usable(&self, now: Duration) -> bool {
        match self.state {
            State::New | State::Back | State::Failing => true,
            State::Ejected { until } => until <= now,
            State::Trial { is_taken } => !is_taken,
        }
    }

    /// When it may be asked again, if it is left alone.
    pub(super) fn returns(&self) -> Option<Duration> {
        match self.state {
            State::Ejected { until } => Some(until),
            _ => None,
        }
    }

    /// A request goes to it.
    pub(super) fn asked(&mut self, now: Duration) {
        match self.state {
            State::Ejected { until } if until <= now => {
                (self.state, self.since) = (State::Trial { is_taken: true }, now);
            }
            State::Trial { .. } => self.state = State::Trial { is_taken: true },
            _ => {}
        }
    }

    /// It has answered a request that began then.
    pub(super) fn answered(&mut self, began: Duration, now: Duration) -> Option<Change> {
        if began < self.since {
            return None;
        }
        self.failures = 0;
        if matches!(self.state, State::New | State::Back) {
            return None;
        }
        // One that was asked all the while gets nothing slowly.
        let state = if self.state == State::Failing { State::New } else { State::Back };
        (self.state, self.since) = (state, now);
        Some(Change::Back)
    }

    /// A check has found it well, and no request has failed of late.
    pub(super) fn found_well(&mut self, now: Duration) -> Option<Change> {
        if self.state == State::Failing { self.answered(now, now) } else { None }
    }

    /// It has failed a request that began then.
    pub(super) fn failed(
        &mut self,
        began: Duration,
        now: Duration,
        rules: &Eject,
    ) -> Option<Change> {
        // What began before says nothing about now.
        if began < self.since {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Ejected { .. } => None,
            State::Trial { .. } => Some(self.eject(now, rules)),
            _ if self.failures < rules.failures => None,
            _ => Some(self.eject_again(now, rules)),
        }
    }

    /// The same where that leads to nothing: there is no other to be asked, or nobody is to be left alone.
    pub(super) fn failed_alone(
        &mut self,
        began: Duration,
        now: Duration,
        rules: Option<&Eject>,
    ) -> Option<Change> {
        // Others may come, and then it is to be tried again.
        self.given_up(began);
        if began < self.since {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let most = rules.map_or_else(|| Eject::default().failures, |rules| rules.failures);
        if !matches!(self.state, State::New | State::Back) || self.failures < most {
            return None;
        }
        (self.state, self.since) = (State::Failing, now);
        Some(Change::Failing { failures: self.failures })
    }

    /// The content of its answer to a request that began then has broken off. The head was an answer all
    /// the same, so that this counts by itself.
    pub(super) fn broke(
        &mut self,
        began: Duration,
        now: Duration,
        rules: &Eject,
    ) -> Option<Change> {
        if began < self.since || !matches!(self.state, State::New | State::Back) {
            return None;
        }
        self.breaks = self.breaks.saturating_add(1);
        if self.breaks < rules.failures {
            return None;
        }
        self.failures = self.breaks;
        // Once it is back, one that still breaks is enough.
        self.breaks = rules.failures.saturating_sub(1);
        Some(self.eject_again(now, rules))
    }

    /// The content of an answer has come whole.
    pub(super) fn came_whole(&mut self) {
        self.breaks = 0;
    }

    /// From being asked like any other.
    fn eject_again(&mut self, now: Duration, rules: &Eject) -> Change {
        // One that comes and goes is not forgiven by a short stay.
        if now.saturating_sub(self.since) >= self.lasted {
            self.ejections = 0;
        }
        self.eject(now, rules)
    }

    fn eject(&mut self, now: Duration, rules: &Eject) -> Change {
        let doubled = 1_u32.checked_shl(self.ejections).unwrap_or(u32::MAX);
        let lasts = rules.period.saturating_mul(doubled).min(rules.at_most);
        self.ejections = self.ejections.saturating_add(1);
        (self.lasted, self.since) = (lasts, now);
        self.state = State::Ejected { until: now.saturating_add(lasts) };
        Change::Ejected { failures: self.failures, lasts }
    }

    /// A request that began then has come to nothing by no fault of its own.
    pub(super) fn given_up(&mut self, began: Duration) {
        if matches!(self.state, State::Trial { .. }) && began >= self.since {
            self.state = State::Trial { is_taken: false };
        }
    }

    /// A weight as it counts now, a hundred times: after an ejection, or beside others that were there
    /// before, it rises to the whole over `slow_start`.
    pub(super) fn weight(&self, whole: u32, slow_start: Duration, now: Duration) -> u32 {
        let whole = whole.saturating_mul(100);
        let here = now.saturating_sub(self.since);
        if self.state != State::Back || here >= slow_start {
            return whole;
        }
        let millis = |span: Duration| span.as_millis().max(1);
        let risen = u128::from(whole) * millis(here) / millis(slow_start);
        u32::try_from(risen).unwrap_or(whole).max(1)
    }

    /// What it is called, and since when.
    pub(super) fn told(&self) -> (ServerState, Duration) {
        let state = match self.state {
            State::New | State::Back => ServerState::Up,
            State::Trial { .. } => ServerState::Trial,
            State::Ejected { .. } => ServerState::Ejected,
            State::Failing => ServerState::Failing,
        };
        (state, self.since)
    }
}

impl ServerState {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Trial => "trial",
            Self::Ejected => "ejected",
            Self::Failing => "failing",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Statuses;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules() -> Eject {
        let statuses = Statuses::default();
        Eject { failures: 3, period: secs(10), at_most: secs(25), statuses }
    }

    /// What happens to a server at a second: `+` answers and `-` fails a request that began then, `/`
    /// breaks off in the content and `=` brings all of it, `?` asks, `0` gives up, `!` fails where there
    /// is no other.
    fn after(events: &[(u64, char)]) -> (Standing, Vec<Option<Change>>) {
        let mut standing = Standing::default();
        let mut changes = Vec::new();
        for (at, event) in events {
            let now = secs(*at);
            match event {
                '?' => standing.asked(now),
                '+' => changes.push(standing.answered(now, now)),
                '-' => changes.push(standing.failed(now, now, &rules())),
                '/' => changes.push(standing.broke(now, now, &rules())),
                '!' => changes.push(standing.failed_alone(now, now, Some(&rules()))),
                '=' => standing.came_whole(),
                _ => standing.given_up(now),
            }
        }
        (standing, changes)
    }

    #[test]
    fn failures_in_a_row_eject() {
        use ServerState::{Ejected, Trial, Up};
        for (events, now, state, usable, why) in [
            (&[][..], 0, Up, true, "nothing is known"),
            (&[(1, '-'), (2, '-')], 2, Up, true, "not often enough"),
            (&[(1, '-'), (2, '-'), (3, '+'), (4, '-')], 4, Up, true, "not in a row"),
            (&[(1, '-'), (2, '-'), (3, '-')], 12, Ejected, false, "three in a row"),
            (&[(1, '-'), (2, '-'), (3, '-')], 13, Ejected, true, "its time is over"),
            (&[(1, '-'), (2, '-'), (3, '-'), (13, '?')], 20, Trial, false, "one request only"),
            (&[(1, '-'), (2, '-'), (3, '-'), (13, '?'), (14, '0')], 20, Trial, true, "given up"),
            (&[(1, '-'), (2, '-'), (3, '-'), (13, '?'), (14, '+')], 14, Up, true, "it answers"),
            (
                &[(1, '-'), (2, '-'), (3, '-'), (13, '?'), (14, '-')],
                33,
                Ejected,
                false,
                "one failure is enough, for twice as long",
            ),
            (
                &[(1, '-'), (2, '-'), (3, '-'), (4, '+')],
                4,
                Up,
                true,
                "it was asked for want of others",
            ),
        ] {
            let (standing, _) = after(events);
            assert_eq!(standing.told().0, state, "{why}");
            assert_eq!(standing.is_usable(secs(now)), usable, "{why}");
        }
    }

    #[test]
    fn contents_that_break_off_eject_whatever_their_heads_say() {
        let breaks = |at| [(at, '+'), (at, '/')];
        let whole = |at| [(at, '+'), (at, '=')];
        let is_out = |parts: &[[(u64, char); 2]]| {
            let (standing, _) = after(&parts.concat());
            standing.told().0 == ServerState::Ejected
        };
        assert!(is_out(&[breaks(1), breaks(2), breaks(3)]), "three without a whole one");
        assert!(!is_out(&[breaks(1), breaks(2), whole(3), breaks(4), breaks(5)]), "one between");
        let out = [breaks(1), breaks(2), breaks(3)];
        let again = [[(13, '?'), (13, '+')], breaks(14)];
        assert!(is_out(&[&out[..], &again].concat()), "it still breaks");
        let well = [[(13, '?'), (13, '+')], whole(13), breaks(14), breaks(15)];
        assert!(!is_out(&[&out[..], &well].concat()), "it is well");
    }

    #[test]
    fn one_that_is_not_to_be_left_alone_fails_and_is_asked() {
        let fails = [(1, '!'), (2, '!'), (3, '!'), (4, '!')];
        let (standing, changes) = after(&fails);
        assert_eq!(changes, [None, None, Some(Change::Failing { failures: 3 }), None], "once");
        assert_eq!(standing.told(), (ServerState::Failing, secs(3)));
        assert!(standing.is_usable(secs(4)));
        let (standing, changes) = after(&[&fails[..], &[(5, '+'), (6, '!'), (7, '!')]].concat());
        assert_eq!(changes[4..], [Some(Change::Back), None, None], "an answer is enough");
        assert_eq!(standing.told(), (ServerState::Up, secs(5)));
        assert_eq!(standing.weight(3, secs(30), secs(5)), 300, "nothing comes slowly");
        let (standing, _) = after(&[(1, '!'), (2, '!'), (3, '+'), (4, '!')]);
        assert_eq!(standing.told().0, ServerState::Up, "not in a row");
        let (standing, _) = after(&[&fails[..], &[(5, '-')]].concat());
        assert_eq!(standing.told().0, ServerState::Ejected, "others have come");
        let mut standing = Standing::default();
        let failed = (0..5).map(|at| standing.failed_alone(secs(at), secs(at), None));
        assert_eq!(failed.flatten().collect::<Vec<_>>(), [Change::Failing { failures: 5 }]);
    }

    #[test]
    fn ejections_grow_until_the_server_stays() {
        let eject = [(0, '-'), (0, '-'), (0, '-')];
        let ejected = |failures, lasts| Some(Change::Ejected { failures, lasts: secs(lasts) });
        let again = [(10, '?'), (10, '-'), (30, '?'), (30, '-')];
        let (_, changes) = after(&[&eject[..], &again].concat());
        assert_eq!(changes[2..], [ejected(3, 10), ejected(4, 20), ejected(5, 25)]);

        let back = [(10, '?'), (10, '+')];
        for (stays, expected, why) in
            [(9, 20, "shorter than it was out"), (10, 10, "as long as it was out")]
        {
            let fails = [(10 + stays, '-'); 3];
            let (_, changes) = after(&[&eject[..], &back, &fails].concat());
            assert_eq!(changes[3], Some(Change::Back));
            assert_eq!(*changes.last().unwrap(), ejected(3, expected), "{why}");
        }
    }

    #[test]
    fn what_began_before_says_nothing_about_now() {
        let (mut standing, _) = after(&[(1, '-'), (2, '-'), (3, '-'), (13, '?')]);
        assert_eq!(standing.failed(secs(2), secs(14), &rules()), None);
        assert_eq!(standing.answered(secs(2), secs(14)), None);
        assert_eq!(standing.told(), (ServerState::Trial, secs(13)));
    }

    #[test]
    fn check_brings_back_one_that_fails_and_is_asked() {
        let (mut failing, _) = after(&[(1, '!'), (2, '!'), (3, '!')]);
        assert_eq!(failing.told(), (ServerState::Failing, secs(3)));
        assert_eq!(failing.found_well(secs(4)), Some(Change::Back));
        assert_eq!(failing.told(), (ServerState::Up, secs(4)));
        assert_eq!(failing.found_well(secs(5)), None);
        let (mut ejected, _) = after(&[(1, '-'), (2, '-'), (3, '-')]);
        assert_eq!(ejected.found_well(secs(4)), None);
        assert_eq!(ejected.told(), (ServerState::Ejected, secs(3)));
    }

    #[test]
    fn weight_rises_slowly_after_an_ejection() {
        let (back, _) = after(&[(1, '-'), (2, '-'), (3, '-'), (13, '?'), (20, '+')]);
        let (new, _) = after(&[]);
        let arriving = Standing::arriving();
        for (standing, now, slow_start, expected) in [
            (&new, 0, 30, 300),
            (&back, 20, 30, 1),
            (&back, 35, 30, 150),
            (&back, 50, 30, 300),
            (&back, 20, 0, 300),
            (&arriving, 0, 30, 1),
            (&arriving, 30, 30, 300),
        ] {
            assert_eq!(standing.weight(3, secs(slow_start), secs(now)), expected, "at {now}");
        }
    }
}
