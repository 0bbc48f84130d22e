//! A new process takes the listeners over from the one that runs, so that no connection is refused while
//! the program is replaced by another version of it, or starts with another configuration.
//!
//! The one that runs has a socket (`[server] takeover`), where the new one finds it:
//!
//! ```text
//! new ─ Take ──────────────────▶ runs      the same user, or root
//!     ◀── Wait … ───────────────           as long as the one before it still drains
//!     ◀── Socket … NoMore ──────           each listening socket (SCM_RIGHTS)
//!     ── LeaveDisk ────────────▶           only where the new one has a tier on a disk
//!     ◀────────────── DiskLeft ─
//!     ── Ready ────────────────▶           whatever can fail has not
//!     ◀───────────────── Yours ─           from now on the new one accepts …
//!     ◀────────────────── Gone ─           … and the old one does not any more; it drains
//! either ─ Records ──▶ other ─ Applied     what is invalidated, from `Take` until the old one has ended
//! ```
//!
//! Listening sockets are shared: what waits in their queues is accepted by whoever accepts. Until it
//! has said that it is `Ready` the new one may end at any time, as it does when it is told to stop; the
//! old one then goes on as if nothing had been. A configuration is read and its plugins are compiled
//! before the old one hears of it. If the old one is told to stop after `Take`, it waits for `Ready`.
//!
//! There are two at a time: one that still tells the process before it what it invalidates hands over when
//! that has ended. A third would have to be told of what the first invalidates by the second. Only if the second is
//! told to stop it hears the first no more, and hands over: otherwise nobody would serve.
//!
//! Rejected: to have the running process start the new one, with its listeners inherited, as nginx does.
//! It would have to know where the new program lies and with which arguments and rights it is to run,
//! which whatever starts programs on a machine knows already.

mod former;
mod link;
mod offer;
mod place;
mod wire;

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;

use super::supervised::{Sockets, Supervised};
use super::{Assembly, Listeners, NotStarted, Service};

pub use self::offer::Next;
pub(super) use self::offer::Offer;

use self::former::Former;
use self::wire::Message;

/// So long one process waits for the other's next word. A disk may have to be brought into order in that
/// time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing can be taken over.
#[derive(Debug, thiserror::Error)]
#[error("`{}` {what}", .path.display())]
pub struct Trouble {
    path: PathBuf,
    what: &'static str,
    #[source]
    source: Option<io::Error>,
}

impl Trouble {
    fn at(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { path: path.to_owned(), what, source: Some(error) }
    }
}

impl Assembly {
    /// Binds the listeners and starts, as [`Assembly::start`] does, with the sockets that were passed where
    /// they fit; and tells whoever wants to know. If another process runs at
    /// `[server] takeover`, its listeners are taken over, and it goes; if this one does not start, it stays.
    ///
    /// None if it was told to `stop` while the other could still stay. After that it starts, and where there
    /// is no other as well.
    ///
    /// # Errors
    /// A listener, a thread or a file cannot be used, or the other process does not let go.
    pub async fn start_in_place(
        mut self,
        supervised: Supervised,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Result<Option<Service>, NotStarted> {
        let (notifier, mut sockets) = supervised.parts();
        self.notifier = notifier;
        let Some(service) = self.start_among(&mut sockets, clock, stop).await? else {
            return Ok(None);
        };
        sockets.turn_away(&service.server.leaving());
        service.notifier.watch(service.server.pulse());
        service.notifier.ready(&format!("answering at {}", service.address()));
        Ok(Some(service))
    }

    async fn start_among(
        self,
        passed: &mut Sockets,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Result<Option<Service>, NotStarted> {
        let Some(path) = self.config().server.takeover.clone() else {
            let listeners = Listeners::bind_or_take(self.config(), Vec::new(), passed)?;
            return self.start(listeners, clock).map(Some);
        };
        let config = self.config();
        let mut offer = Offer::beside(&path)?;
        let finding = Former::find(&path, &self.notifier);
        let Some(found) = stop.run_until_cancelled(finding).await else {
            return Ok(None);
        };
        let mut former = found?;
        let sockets = former.as_mut().map(Former::sockets).unwrap_or_default();
        let mut listeners = Listeners::bind_or_take(config, sockets, passed)?;
        let own_sockets = listeners.sockets()?;
        if let Some(former) = former.as_mut().filter(|_| config.cache.disk.is_some()) {
            let Some(left) = stop.run_until_cancelled(former.leave_disk()).await else {
                return Ok(None);
            };
            left?;
        }
        if former.is_some() {
            listeners.opens = CancellationToken::new();
        }
        let opens = listeners.opens.clone();
        let mut service = self.start(listeners, clock)?;
        let mut ear = None;
        if let Some(former) = former {
            // The start has kept this thread: who says `stop` has a turn, while it is not too late.
            yield_now().await;
            if stop.is_cancelled() {
                // It goes on, and has the disk again as soon as that is free.
                drop(former);
                service.drain().await.1.await;
                return Ok(None);
            }
            let gateway = service.gateway();
            ear = match former.ready(gateway.store(), &opens).await {
                Ok(ear) => ear,
                Err(trouble) => {
                    // Nothing was accepted: only what lies on a disk has to be brought there.
                    service.drain().await.1.await;
                    return Err(trouble.into());
                }
            };
            info!("taken over from the process that ran before");
        }
        if let Err(error) = offer.open(own_sockets, ear) {
            let path = path.display();
            warn!(%error, "`{path}` cannot be put there, so no other process can take over");
        }
        service.offer = Some(offer);
        Ok(Some(service))
    }
}

impl Service {
    /// Waits until a new process has taken over, and is ready; without `[server] takeover` for ever.
    pub async fn taken(&self) -> Next {
        match &self.offer {
            Some(offer) => offer.taken(self.gateway().store()).await,
            None => pending().await,
        }
    }

    /// Waits as long as a new process is taking over, of which [`Service::taken`] knows if that is polled
    /// meanwhile; not at all if there is none.
    pub async fn decided(&self) {
        if let Some(offer) = &self.offer {
            offer.decided().await;
        }
    }

    /// Lets the new process accept, and accepts no more. What is left is to drain.
    pub async fn give_way(&mut self, next: Next) {
        let next = next.begin(self.gateway().store());
        self.offer = None;
        self.ease = self.drain / 2;
        self.leave().await;
        // It may have ended meanwhile, and somebody else has to see to that.
        drop(next.say(Message::Gone));
    }
}

/// Has something done within this time.
async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(patience, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Who may take over, and of whom it may be taken: ourselves, and who may do anything.
fn is_believed(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests;
