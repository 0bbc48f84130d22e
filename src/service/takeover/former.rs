//! The process that runs, as the new one sees it.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::{Heard, Store};

use super::super::supervised::Notifier;
use super::link::{Ear, Mouth, listen};
use super::wire::{Handed, Message, not_understood, receive_socket};
use super::{PATIENCE, Trouble, in_time, is_believed};

/// A process whose listeners this one has, too. Dropping it leaves it to go on.
pub(crate) struct Former {
    path: PathBuf,
    sockets: Vec<TcpListener>,
    from: OwnedReadHalf,
    mouth: Mouth,
    /// What it has invalidated since.
    heard: Heard,
}

impl Former {
    /// Asks for its listeners, if there is one. While they are waited for, who has started this process is told.
    pub(super) async fn find(path: &Path, notifier: &Notifier) -> Result<Option<Self>, Trouble> {
        const WAITS: &str = "waiting until the process before the one that runs has ended";

        let mut stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(Trouble::at(path, "cannot be connected to")(error)),
        };
        let taking = async {
            let user = stream.peer_cred()?.uid();
            if !is_believed(user) {
                return Err(io::Error::other(format!("who listens there is another user, {user}")));
            }
            stream.write_all(&Message::Take.octets()).await?;
            let (mut sockets, mut has_to_wait) = (Vec::new(), false);
            loop {
                match in_time(PATIENCE, receive_socket(&stream)).await? {
                    Handed::Socket(socket) => sockets.push(TcpListener::from(socket)),
                    Handed::NoMore => return Ok(sockets),
                    Handed::Wait => {
                        notifier.waiting(2 * PATIENCE, WAITS);
                        if !std::mem::replace(&mut has_to_wait, true) {
                            info!("{WAITS}");
                        }
                    }
                }
            }
        };
        let sockets = taking.await;
        let sockets = sockets.map_err(Trouble::at(path, "does not hand its listeners over"))?;
        Ok(Some(Self::on(stream, path, sockets)))
    }

    /// On this connection it has handed its listeners over.
    pub(super) fn on(stream: UnixStream, path: &Path, sockets: Vec<TcpListener>) -> Self {
        let (from, to) = stream.into_split();
        let (path, mouth) = (path.to_owned(), Mouth::on(to));
        Self { path, sockets, from, mouth, heard: Heard::default() }
    }

    /// Its listeners. What is not used of them is closed here, and is still the other's.
    pub(crate) fn sockets(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.sockets)
    }

    /// Has it leave the disk to this one.
    pub(crate) async fn leave_disk(&mut self) -> Result<(), Trouble> {
        let left = self.ask(Message::LeaveDisk, &Message::DiskLeft).await;
        left.map_err(Trouble::at(&self.path, "does not leave the disk"))
    }

    /// Nothing can fail any more: `opens` when the other knows, and when all that it has invalidated is
    /// applied here. What comes back hears the other; none: nothing is heard of it.
    pub(crate) async fn ready(
        mut self,
        store: &Arc<Store>,
        opens: &CancellationToken,
    ) -> Result<Option<Ear>, Trouble> {
        let ready = self.ask(Message::Ready, &Message::Yours).await;
        ready.map_err(Trouble::at(&self.path, "does not let go"))?;
        let Self { from, mouth, heard, .. } = self;
        mouth.tell_of(store);
        // What is said from now on is applied beside it; whoever invalidates there waits for that.
        let ear = listen(from, mouth, Arc::clone(store));
        store.invalidate_as_told(heard).await;
        opens.cancel();
        match in_time(PATIENCE, ear.left()).await {
            Ok(()) => Ok(Some(ear)),
            Err(error) => {
                store.untie();
                ear.close();
                warn!(%error, "the process before this one has not said that it takes no more");
                Ok(None)
            }
        }
    }

    async fn ask(&mut self, question: Message, answer: &Message) -> io::Result<()> {
        self.mouth.say(question)?;
        let waiting = async {
            loop {
                match Message::read(&mut self.from).await? {
                    // Nothing is answered from what is stored here before they are applied.
                    Message::Records(records) => {
                        self.heard.add(&records);
                        self.mouth.say(Message::Applied)?;
                    }
                    message if message == *answer => return Ok(()),
                    _ => return Err(not_understood()),
                }
            }
        };
        in_time(PATIENCE, waiting).await
    }
}
