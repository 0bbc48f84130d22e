//! How many files the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config;
use crate::server::workers;

/// At least so many are not for clients: they are for upstreams, operators, Redis, MongoDB and files.
const LEAST: usize = 128;

/// What a worker has open to wait for others.
const PER_WORKER: usize = 4;

/// The same, with no more connections of clients than leave enough files for others. As many may be open from now
/// on as this process may allow itself.
pub(super) fn bounded(server: &config::Server) -> config::Server {
    let mut bounded = server.clone();
    let Some(limit) = raised() else { return bounded };
    let most = most(usize::try_from(limit).unwrap_or(usize::MAX), workers(server));
    if most < server.max_connections {
        bounded.max_connections = most;
        warn!(
            limit,
            connections = most,
            "fewer connections than `max_connections` at once: too few files may be open"
        );
    }
    bounded
}

/// So many clients may be connected. A quarter of all files is for others, as clients' requests need
/// connections to upstreams.
fn most(limit: usize, workers: usize) -> usize {
    let others = LEAST.max(limit / 4) + PER_WORKER * workers;
    limit.saturating_sub(others).max(1)
}

/// How many files may be open, raised as far as that goes; none: there is no limit.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        // Whoever started the process may have forbidden it.
        Err(_) => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_files_to_others() {
        for (limit, workers, expected) in [
            (20, 1, 1),
            (160, 1, 28),
            (1024, 2, 760),
            (65_536, 8, 49_120),
            (usize::MAX, 1, usize::MAX - usize::MAX / 4 - 4),
        ] {
            assert_eq!(most(limit, workers), expected, "{limit}");
        }
    }

    #[test]
    fn the_limit_is_raised() {
        let limit = raised();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((limit, current), (maximum, maximum));
    }
}
