//! What whoever has started this process says in its environment, as systemd does: where it wants to hear what
//! becomes of it (`sd_notify(3)`), how often (`sd_watchdog_enabled(3)`), and what the sockets are called that it
//! has opened (`sd_listen_fds(3)`).
//!
//! *Not supported:* to be heard over `vsock`, as from a virtual machine.

use std::time::Duration;

use super::load;

/// What is said there. By default nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supervisor {
    /// `NOTIFY_SOCKET`: the path of a socket, or `@` and its name.
    pub notify: Option<String>,
    /// `WATCHDOG_USEC`: it wants to hear at least so often that all is well.
    pub watchdog: Option<Duration>,
    /// `LISTEN_FDNAMES`.
    pub sockets: Vec<String>,
}

impl Supervisor {
    /// What is said to this process.
    pub fn of_environment() -> Self {
        Self::of(&load::variable, std::process::id())
    }

    fn of(env: &dyn Fn(&str) -> Option<String>, process: u32) -> Self {
        // What a parent was told is not for its children.
        let is_ours = |name| env(name).is_none_or(|id| id.parse() == Ok(process));
        let watchdog = env("WATCHDOG_USEC").filter(|_| is_ours("WATCHDOG_PID"));
        let watchdog = watchdog.and_then(|text| text.parse().ok()).map(Duration::from_micros);
        let names = env("LISTEN_FDNAMES").filter(|_| is_ours("LISTEN_PID")).unwrap_or_default();
        Self {
            notify: env("NOTIFY_SOCKET").filter(|at| at.starts_with(['/', '@'])),
            watchdog: watchdog.filter(|period| !period.is_zero()),
            sockets: names.split(':').map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_another_process_is_not_for_this_one() {
        let second = Some(Duration::from_secs(1));
        for (lines, notify, watchdog, sockets) in [
            ("", None, None, ""),
            ("NOTIFY_SOCKET=/run/n", Some("/run/n"), None, ""),
            ("NOTIFY_SOCKET=@n", Some("@n"), None, ""),
            ("NOTIFY_SOCKET=vsock:2:1", None, None, ""),
            ("WATCHDOG_USEC=1000000", None, second, ""),
            ("WATCHDOG_USEC=1000000 WATCHDOG_PID=7", None, second, ""),
            ("WATCHDOG_USEC=1000000 WATCHDOG_PID=8", None, None, ""),
            ("WATCHDOG_USEC=0", None, None, ""),
            ("WATCHDOG_USEC=often", None, None, ""),
            ("LISTEN_FDNAMES=a:b LISTEN_PID=7", None, None, "a:b"),
            ("LISTEN_FDNAMES=a:b LISTEN_PID=8", None, None, ""),
        ] {
            let env = |name: &str| {
                let mut lines = lines.split_whitespace();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
            };
            let said = Supervisor::of(&env, 7);
            assert_eq!((said.notify.as_deref(), said.watchdog), (notify, watchdog), "{lines}");
            assert_eq!(said.sockets.join(":"), sockets, "{lines}");
        }
    }
}
