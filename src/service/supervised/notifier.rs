//! What is said to whoever has started the process: datagrams of lines, as `sd_notify(3)` has them.
//!
//! | when | what |
//! |---|---|
//! | the listeners are waited for | how long it may go on (`EXTEND_TIMEOUT_USEC`), again and again |
//! | the listeners answer | `READY=1` |
//! | the file is read again | `RELOADING=1` with `MONOTONIC_USEC`, then `READY=1`, whatever it came to |
//! | the drain begins | `STOPPING=1`, and how long it may take (`EXTEND_TIMEOUT_USEC`) |
//! | it wants to hear so | `WATCHDOG=1`, when every worker has had a turn |
//!
//! Each has a `STATUS`, which `systemctl status` shows. Whoever hears nothing changes nothing here.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::clock;
use crate::config::Supervisor;
use crate::server::Pulse;

/// One that does not read is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much longer than its requests a service may take to end.
const REST: Duration = Duration::from_secs(5);

/// Who is told. Clones tell the same. By default nobody is.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct Notifier(Option<Arc<Whom>>);

#[derive(Debug)]
struct Whom {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Who wants to be told. If that cannot be reached, nobody is told.
    pub(super) fn of(supervisor: &Supervisor) -> Self {
        let Some(at) = &supervisor.notify else { return Self::default() };
        let watchdog = supervisor.watchdog;
        match connect(at) {
            Ok(socket) => Self(Some(Arc::new(Whom { socket, watchdog }))),
            Err(error) => {
                warn!(%error, "nobody can be told at `NOTIFY_SOCKET` what becomes of this process");
                Self::default()
            }
        }
    }

    /// The start takes longer, and `status` says why. It is said again before so long is over.
    pub(in crate::service) fn waiting(&self, most: Duration, status: &str) {
        self.say(&format!("EXTEND_TIMEOUT_USEC={}", most.as_micros()), status);
    }

    /// Requests are answered. `status` says where.
    pub(in crate::service) fn ready(&self, status: &str) {
        self.say("READY=1", status);
    }

    /// The file is being read again; [`Notifier::ready`] says what it came to.
    pub(in crate::service) fn reloading(&self) {
        // systemd tells by it which of its calls this answers.
        let now = clock::monotonic().as_micros();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now}"), "reloading");
    }

    /// No more is accepted, and what runs may take so long.
    pub(in crate::service) fn stopping(&self, most: Duration) {
        let most = most.saturating_add(REST).as_micros();
        let lines = format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={most}");
        self.say(&lines, "stopping: running requests end");
    }

    /// Says as often as is wanted that all is well, as long as it is.
    pub(in crate::service) fn watch(&self, pulse: Pulse) {
        let Some(period) = self.0.as_ref().and_then(|whom| whom.watchdog) else { return };
        let notifier = self.clone();
        TaskTracker::new().spawn(async move {
            // sd_watchdog_enabled(3): "every half of the time returned here".
            let mut ticks = interval(period / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                pulse.beat().await;
                notifier.send("WATCHDOG=1");
            }
        });
    }

    fn say(&self, lines: &str, status: &str) {
        // A line more would be another message.
        let status = status.replace(char::is_control, " ");
        self.send(&format!("{lines}\nSTATUS={status}"));
    }

    fn send(&self, message: &str) {
        let Some(whom) = &self.0 else { return };
        if let Err(error) = whom.socket.send(message.as_bytes()) {
            debug!(%error, "not told at `NOTIFY_SOCKET`");
        }
    }
}

fn connect(at: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    match at.strip_prefix('@') {
        Some(name) => connect_to_name(&socket, name)?,
        None => socket.connect(at)?,
    }
    Ok(socket)
}

/// To a name that is in no folder.
#[cfg(target_os = "linux")]
fn connect_to_name(socket: &UnixDatagram, name: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;

    socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
}

#[cfg(not(target_os = "linux"))]
fn connect_to_name(_: &UnixDatagram, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
