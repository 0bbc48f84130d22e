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

/// Applies what the other process invalidates, until it has gone: then what comes back is cancelled.
pub(super) fn listen(
    mut from: OwnedReadHalf,
    mouth: Mouth,
    store: Arc<Store>,
) -> CancellationToken {
    let is_gone = CancellationToken::new();
    let until_gone = is_gone.clone().drop_guard();
    TaskTracker::new().spawn(async move {
        let listening = async {
            loop {
                hear(Message::read(&mut from).await?, &mouth, &store).await?;
            }
        };
        let ended: io::Result<()> = listening.await;
        drop(ended);
        store.untie();
        mouth.waiting().clear();
        drop(until_gone);
    });
    is_gone
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
