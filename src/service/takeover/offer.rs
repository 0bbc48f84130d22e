//! The process that runs: it waits for a new one, and hands over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::store::Store;

use super::link::{Ear, Mouth, listen};
use super::place::Place;
use super::wire::{Message, not_understood, send_socket};
use super::{PATIENCE, Trouble, in_time, is_believed};

/// A new process that is not ready by then is not waited for.
const MOST: Duration = Duration::from_mins(2);

/// Where a new process finds this one. Dropping it takes the place back.
pub(crate) struct Offer {
    place: Place,
    sockets: Vec<OwnedFd>,
    /// Hears the process that this one has taken over from; none: there is none.
    ear: Option<Ear>,
    /// A new process has asked for them, and what comes of it is not known yet.
    is_asked: watch::Sender<bool>,
}

/// A new process that is ready.
pub struct Next {
    from: OwnedReadHalf,
    mouth: Mouth,
}

/// Ends what the other process hears when it is dropped.
struct Tied<'a>(Option<&'a Store>);

impl Drop for Tied<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.0 {
            store.untie();
        }
    }
}

impl Offer {
    /// Still beside the path, and without anything to hand over.
    pub(crate) fn beside(path: &Path) -> Result<Self, Trouble> {
        let place = Place::beside(path)?;
        let is_asked = watch::Sender::new(false);
        Ok(Self { place, sockets: Vec::new(), ear: None, is_asked })
    }

    /// Whoever comes to the path from now on comes here, and gets these sockets, once the process before
    /// this one is gone.
    pub(crate) fn open(&mut self, sockets: Vec<OwnedFd>, ear: Option<Ear>) -> io::Result<()> {
        self.sockets = sockets;
        self.ear = ear;
        self.place.take()
    }

    /// Waits until a new process has them, and is ready.
    pub(crate) async fn taken(&self, store: &Arc<Store>) -> Next {
        loop {
            let error = match self.place.listener.accept().await {
                Ok((stream, _)) => match self.begin(stream, store).await {
                    Ok(next) => return next,
                    Err(error) => error,
                },
                Err(error) => {
                    // Out of descriptors, most likely.
                    sleep(Duration::from_millis(50)).await;
                    error
                }
            };
            store.have_disk_again().await;
            self.is_asked.send_replace(false);
            warn!(%error, "a new process has not taken over, this one goes on");
        }
    }

    /// Waits as long as a new process has asked, and is not ready. This one is to end: whom the new one waits for is not
    /// waited for any more, as nobody would serve once this one has gone.
    pub(crate) async fn decided(&self) {
        let mut is_asked = self.is_asked.subscribe();
        if *is_asked.borrow() {
            info!("told to stop: waiting for the new process that takes over");
            if let Some(ear) = self.ear.as_ref().filter(|it| !it.is_closed()) {
                warn!("what the process before this one invalidates from now on is told to nobody");
                ear.close();
            }
        }
        // It cannot fail, as the other end is here.
        drop(is_asked.wait_for(|is_asked| !is_asked).await);
    }

    async fn begin(&self, mut stream: UnixStream, store: &Arc<Store>) -> io::Result<Next> {
        in_time(MOST, self.is_taking(&mut stream)).await?;
        self.wait_for_former(&mut stream).await?;
        in_time(MOST, self.hand_over(stream, store)).await
    }

    async fn is_taking(&self, stream: &mut UnixStream) -> io::Result<()> {
        let user = stream.peer_cred()?.uid();
        if !is_believed(user) {
            return Err(io::Error::other(format!("it is of another user, {user}")));
        }
        if Message::read(stream).await? != Message::Take {
            return Err(not_understood());
        }
        info!("a new process begins to take over");
        self.is_asked.send_replace(true);
        Ok(())
    }

    /// Waits as long as the process before this one still answers. The new one hears that it is to wait.
    async fn wait_for_former(&self, stream: &mut UnixStream) -> io::Result<()> {
        let Some(ear) = self.ear.as_ref().filter(|it| !it.is_closed()) else {
            return Ok(());
        };
        info!("a new process waits until the one before this has ended");
        loop {
            stream.write_all(&Message::Wait.octets()).await?;
            tokio::select! {
                () = ear.closed() => return Ok(()),
                // It has nothing to say before it has the sockets.
                said = Message::read(stream) => {
                    return Err(said.err().unwrap_or_else(not_understood));
                }
                () = sleep(PATIENCE / 2) => {}
            }
        }
    }

    async fn hand_over(&self, mut stream: UnixStream, store: &Arc<Store>) -> io::Result<Next> {
        for socket in &self.sockets {
            send_socket(&stream, socket.as_fd()).await?;
        }
        stream.write_all(&Message::NoMore.octets()).await?;
        let (mut from, to) = stream.into_split();
        let mouth = Mouth::on(to);
        let mut tied = Tied(Some(store));
        mouth.tell_of(store);
        loop {
            match Message::read(&mut from).await? {
                Message::Applied => mouth.is_applied(),
                Message::LeaveDisk => {
                    store.leave_disk().await;
                    mouth.say(Message::DiskLeft)?;
                }
                Message::Ready => {
                    tied.0 = None;
                    return Ok(Next { from, mouth });
                }
                _ => return Err(not_understood()),
            }
        }
    }
}

impl Next {
    /// It accepts from now on. Answers what it is to be told when this process does not any more.
    pub(super) fn begin(self, store: &Arc<Store>) -> Mouth {
        // If it has gone in this moment, that is as if it had gone in the next.
        drop(self.mouth.say(Message::Yours));
        listen(self.from, self.mouth.clone(), Arc::clone(store));
        self.mouth
    }
}
