//! Whether a request that failed is sent again.
//!
//! What may have reached a server is repeated only if that does no harm (RFC 9110 §9.2.2), never once a
//! response has begun to go to the client, and within a budget: retries must not be what keeps servers
//! in trouble.

use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use tokio::time::Instant;

use crate::config::Retries;

use super::Failure;

/// Retries are counted over so many seconds.
const SECONDS: usize = 10;

/// Who may be asked instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing was sent, or nothing done: whoever has not been asked.
    Unsent,
    /// Another server that is usable.
    Elsewhere,
    /// Another one; or where there is none, the same: what closed may have been idle.
    Anywhere,
}

/// What has become of a request so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tries {
    /// It can be sent again without harm.
    pub(super) may_repeat: bool,
    /// How often it was, other than for connections that were refused.
    pub(super) retries: u32,
    /// A server was silent.
    pub(super) was_silent: bool,
    /// Nothing of its content has left that cannot be sent again.
    pub(super) is_whole: bool,
}

/// Whether a request is sent again after this.
pub(super) fn again(
    came: Result<StatusCode, &Failure>,
    tries: Tries,
    rules: &Retries,
) -> Option<Again> {
    if matches!(came, Err(Failure::Connect(_)))
        || tries.is_whole && matches!(came, Err(failure) if failure.is_unprocessed())
    {
        return Some(Again::Unsent);
    }
    if !tries.may_repeat || tries.retries >= rules.most {
        return None;
    }
    match came {
        Err(Failure::Broken(cause)) if cause.is_close() && tries.retries == 0 => {
            Some(Again::Anywhere)
        }
        Err(Failure::Broken(_)) => Some(Again::Elsewhere),
        // The second silence is the request's own: what it asks for takes long.
        Err(Failure::Timeout) if !tries.was_silent => Some(Again::Elsewhere),
        Ok(status) if rules.statuses.has(status) => Some(Again::Elsewhere),
        Ok(_) | Err(_) => None,
    }
}

/// How many retries there may be. One for all requests to an upstream.
pub(super) struct Budget {
    window: Mutex<Window>,
    made: Instant,
}

/// The requests and retries of the last seconds.
#[derive(Default)]
struct Window {
    /// The last one that is counted.
    second: u64,
    counts: [(u32, u32); SECONDS],
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { window: Mutex::default(), made: Instant::now() }
    }

    /// Counts a request.
    pub(super) fn request(&self, now: Instant) {
        self.at(now, |window, second| window.of(second).0 += 1);
    }

    /// Counts a retry, if there may be one more.
    pub(super) fn allows(&self, rules: &Retries, now: Instant) -> bool {
        self.at(now, |window, second| window.allows(second, rules))
    }

    fn at<T>(&self, now: Instant, take: impl FnOnce(&mut Window, u64) -> T) -> T {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut window, now.saturating_duration_since(self.made).as_secs())
    }
}

impl Window {
    /// What is counted in a second. Of what is longer ago than the window nothing is left.
    fn of(&mut self, second: u64) -> &mut (u32, u32) {
        let passed = usize::try_from(second.saturating_sub(self.second)).unwrap_or(SECONDS);
        if passed > 0 {
            self.counts.rotate_right(passed.min(SECONDS));
            self.counts.iter_mut().take(passed).for_each(|count| *count = (0, 0));
            self.second = second;
        }
        let [last, ..] = &mut self.counts;
        last
    }

    fn allows(&mut self, second: u64, rules: &Retries) -> bool {
        self.of(second);
        let sum = |(a, b): (u32, u32), (c, d): &(u32, u32)| (a.saturating_add(*c), b + d);
        let (requests, retries) = self.counts.iter().fold((0, 0), sum);
        let allowed = f64::from(requests) * rules.budget;
        let is_allowed = retries < rules.at_least || f64::from(retries) + 1.0 <= allowed;
        if is_allowed {
            self.of(second).1 += 1;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::Statuses;

    fn rules() -> Retries {
        Retries { statuses: Statuses::default(), budget: 0.2, at_least: 3, most: 2 }
    }

    #[test]
    fn what_may_have_been_done_is_repeated_only_without_harm() {
        let closed = || Failure::broken(io::Error::from(io::ErrorKind::ConnectionReset));
        let cut = || Failure::broken(io::Error::from(io::ErrorKind::UnexpectedEof));
        let nonsense = || Failure::broken(io::Error::other("nonsense"));
        let safe = Tries { may_repeat: true, ..Tries::default() };
        let once = Tries { retries: 1, ..safe };
        let twice = Tries { retries: 2, ..safe };
        let silent = Tries { was_silent: true, ..once };
        let write = Tries::default();
        for (came, tries, expected, why) in [
            (Failure::no_server(), write, Some(Again::Unsent), "nothing was sent"),
            (Failure::no_server(), twice, Some(Again::Unsent), "each server once"),
            (closed(), write, None, "it may have been done"),
            (closed(), safe, Some(Again::Anywhere), "it may have been idle"),
            (closed(), once, Some(Again::Elsewhere), "that was no idle one"),
            (cut(), write, None, "it may have been done"),
            (cut(), safe, Some(Again::Anywhere), "TLS ended without saying so"),
            (closed(), twice, None, "often enough"),
            (nonsense(), safe, Some(Again::Elsewhere), "another may be right"),
            (Failure::Timeout, safe, Some(Again::Elsewhere), "another may be there"),
            (Failure::Timeout, once, Some(Again::Elsewhere), "another may be there"),
            (Failure::Timeout, silent, None, "it takes long"),
            (Failure::Timeout, write, None, "it may be done yet"),
        ] {
            assert_eq!(again(Err(&came), tries, &rules()), expected, "{came:?}: {why}");
        }
        let asked = Retries { statuses: Statuses::of(502..=504), ..rules() };
        for (status, tries, rules, expected) in [
            (StatusCode::OK, safe, &asked, None),
            (StatusCode::BAD_GATEWAY, safe, &asked, Some(Again::Elsewhere)),
            (StatusCode::BAD_GATEWAY, write, &asked, None),
            (StatusCode::BAD_GATEWAY, twice, &asked, None),
            (StatusCode::BAD_GATEWAY, safe, &rules(), None),
        ] {
            assert_eq!(again(Ok(status), tries, rules), expected, "{status}");
        }
    }

    #[test]
    fn retries_have_a_budget() {
        let mut window = Window::default();
        let mut granted = |second, requests: u32| {
            window.of(second).0 += requests;
            (0..1000).filter(|_| window.allows(second, &rules())).count()
        };
        assert_eq!(granted(0, 1), 3, "some are always allowed");
        assert_eq!(granted(1, 0), 0, "they are used up");
        assert_eq!(granted(2, 99), 17, "a fifth of a hundred");
        assert_eq!(granted(9, 0), 0, "nothing is forgotten yet");
        assert_eq!(granted(11, 0), 2, "17 of 99");
        assert_eq!(granted(100, 0), 3, "all is forgotten");
    }
}
