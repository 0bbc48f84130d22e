//! The process that runs, as the new one sees it.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store::Store;

use super::link::{Mouth, hear, listen};
use super::wire::{Message, not_understood, receive_socket};
use super::{PATIENCE, Trouble, is_believed};

/// A process whose listeners this one has, too. Dropping it leaves it to go on.
pub(crate) struct Former {
    path: PathBuf,
    sockets: Vec<TcpListener>,
    from: OwnedReadHalf,
    mouth: Mouth,
    /// What it has invalidated since.
    records: Vec<Vec<u8>>,
}

impl Former {
    /// Asks for its listeners, if there is one.
    pub(crate) async fn find(path: &Path) -> Result<Option<Self>, Trouble> {
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
            let mut sockets = Vec::new();
            while let Some(socket) = receive_socket(&stream).await? {
                sockets.push(TcpListener::from(socket));
            }
            Ok(sockets)
        };
        let sockets = in_time(taking).await;
        let sockets = sockets.map_err(Trouble::at(path, "does not hand its listeners over"))?;
        let (from, to) = stream.into_split();
        let (path, mouth) = (path.to_owned(), Mouth::on(to));
        Ok(Some(Self { path, sockets, from, mouth, records: Vec::new() }))
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
    /// applied here.
    pub(crate) async fn ready(
        mut self,
        store: &Arc<Store>,
        opens: &CancellationToken,
    ) -> Result<(), Trouble> {
        let ready = self.ask(Message::Ready, &Message::Yours).await;
        ready.map_err(Trouble::at(&self.path, "does not let go"))?;
        for records in std::mem::take(&mut self.records) {
            store.invalidate_as_told(&records).await;
        }
        self.mouth.tell_of(store);
        opens.cancel();
        let going = async {
            loop {
                match Message::read(&mut self.from).await? {
                    Message::Gone => return Ok(()),
                    message => hear(message, &self.mouth, store).await?,
                }
            }
        };
        match in_time(going).await {
            Ok(()) => listen(self.from, self.mouth, Arc::clone(store)),
            Err(error) => {
                store.untie();
                warn!(%error, "the process before this one has not said that it takes no more");
            }
        }
        Ok(())
    }

    async fn ask(&mut self, question: Message, answer: &Message) -> io::Result<()> {
        self.mouth.say(question)?;
        let waiting = async {
            loop {
                match Message::read(&mut self.from).await? {
                    // Nothing is answered from what is stored here before they are applied.
                    Message::Records(records) => {
                        self.records.push(records);
                        self.mouth.say(Message::Applied)?;
                    }
                    message if message == *answer => return Ok(()),
                    _ => return Err(not_understood()),
                }
            }
        };
        in_time(waiting).await
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
