//! What both processes invalidate as long as both answer, each for the other.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::{Store, Told};

use super::wire::{Message, not_understood};

/// Who waits until the other process has applied what it was told.
type Waiting = Arc<Mutex<VecDeque<oneshot::Sender<()>>>>;

/// What is said to the other process. Clones say it on the same connection.
#[derive(Clone)]
pub(super) struct Mouth {
    said: mpsc::UnboundedSender<Message>,
    waiting: Waiting,
}

/// What is heard of the other process.
pub(crate) struct Ear {
    close: CancellationToken,
    is_closed: CancellationToken,
}

impl Ear {
    /// Hears nothing more of it, and tells it nothing more. It is no sooner done than [`Ear::closed`] says so.
    pub(super) fn close(&self) {
        self.close.cancel();
    }

    /// Whether the other process has gone, or is not heard any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.is_cancelled()
    }

    /// Waits until it is.
    pub(super) async fn closed(&self) {
        self.is_closed.cancelled().await;
    }
}

impl Mouth {
    /// Says what is said on this connection, from a task of its own that ends with the connection.
    pub(super) fn on(mut connection: OwnedWriteHalf) -> Self {
        let (said, mut saying) = mpsc::unbounded_channel::<Message>();
        TaskTracker::new().spawn(async move {
            while let Some(message) = saying.recv().await {
                if connection.write_all(&message.octets()).await.is_err() {
                    return;
                }
            }
        });
        Self { said, waiting: Waiting::default() }
    }

    /// An error if the other process has gone.
    pub(super) fn say(&self, message: Message) -> io::Result<()> {
        self.said.send(message).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Has the other process told of what is invalidated here, as long as both are there.
    pub(super) fn tell_of(&self, store: &Store) {
        let (mut told, mouth) = (store.tie(), self.clone());
        TaskTracker::new().spawn(async move {
            // Those who wait for the other process at its end wait no more.
            let ended = mouth.said.clone();
            loop {
                let Told { records, applied } = tokio::select! {
                    told = told.recv() => match told {
                        Some(told) => told,
                        None => return,
                    },
                    () = ended.closed() => return,
                };
                mouth.waiting().push_back(applied);
                if mouth.say(Message::Records(records)).is_err() {
                    return;
                }
            }
        });
    }

    /// The other process has applied what it was told first.
    pub(super) fn is_applied(&self) {
        let first = self.waiting().pop_front();
        if let Some(first) = first {
            // Who waited may have given up.
            let _waits = first.send(());
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies what the other process invalidates, until it has gone.
pub(super) fn listen(mut from: OwnedReadHalf, mouth: Mouth, store: Arc<Store>) -> Ear {
    let (close, is_closed) = (CancellationToken::new(), CancellationToken::new());
    let ear = Ear { close: close.clone(), is_closed: is_closed.clone() };
    let until_closed = is_closed.drop_guard();
    TaskTracker::new().spawn(async move {
        let listening = async {
            loop {
                // What has come is applied to its end.
                let read = close.run_until_cancelled(Message::read(&mut from)).await;
                let Some(message) = read else { return Ok(()) };
                hear(message?, &mouth, &store).await?;
            }
        };
        let ended: io::Result<()> = listening.await;
        drop(ended);
        store.untie();
        mouth.waiting().clear();
        drop(until_closed);
    });
    ear
}

/// What may be said at any time.
pub(super) async fn hear(message: Message, mouth: &Mouth, store: &Store) -> io::Result<()> {
    match message {
        Message::Applied => mouth.is_applied(),
        Message::Records(records) => {
            store.invalidate_as_told(&records).await;
            mouth.say(Message::Applied)?;
        }
        // It is for whoever waits for the end of the other.
        Message::Gone => {}
        _ => return Err(not_understood()),
    }
    Ok(())
}
