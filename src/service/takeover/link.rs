//! What both processes invalidate as long as both answer, each for the other.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::{Heard, Store, Told};

use super::wire::Message;

/// So many calls of the other process are applied at once, and so many wait meanwhile.
const AT_ONCE: usize = 100;

/// What the other process was told, and has still to apply. The store tells no more than has a place with it.
type Waiting = Arc<Mutex<VecDeque<Told>>>;

/// What is said to the other process. Clones say it on the same connection.
#[derive(Clone)]
pub(super) struct Mouth {
    /// No records but those that wait, answers to what the other has told, and a few words.
    said: mpsc::UnboundedSender<Message>,
    waiting: Waiting,
}

/// What is heard of the other process.
#[derive(Clone)]
pub(crate) struct Ear {
    close: CancellationToken,
    is_closed: CancellationToken,
    has_left: CancellationToken,
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

    /// Waits until the other process has said that it takes no more.
    ///
    /// # Errors
    /// It has gone without, or is not heard any more.
    pub(super) async fn left(&self) -> io::Result<()> {
        tokio::select! {
            () = self.has_left.cancelled() => {}
            () = self.closed() => {}
        }
        // It may have gone right after it has said so.
        if self.has_left.is_cancelled() {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
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
                let mut told = tokio::select! {
                    told = told.recv() => match told {
                        Some(told) => told,
                        None => return,
                    },
                    () = ended.closed() => return,
                };
                let records = std::mem::take(&mut told.records);
                mouth.waiting().push_back(told);
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
            first.applied();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Told>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies what the other process invalidates, until it has gone.
pub(super) fn listen(from: OwnedReadHalf, mouth: Mouth, store: Arc<Store>) -> Ear {
    let ear = Ear {
        close: CancellationToken::new(),
        is_closed: CancellationToken::new(),
        has_left: CancellationToken::new(),
    };
    let (own, until_closed) = (ear.clone(), ear.is_closed.clone().drop_guard());
    TaskTracker::new().spawn(async move {
        let (heard, applying) = mpsc::channel(AT_ONCE);
        let hearing = async {
            hear(from, &mouth, heard, &own).await;
            store.untie();
            mouth.waiting().clear();
        };
        // What has come is applied to its end.
        tokio::join!(hearing, apply(applying, &mouth, &store));
        drop(until_closed);
    });
    ear
}

/// Hears what may be said at any time, until the other process has gone, says something else, or `ear` is
/// closed.
async fn hear(mut from: OwnedReadHalf, mouth: &Mouth, records: mpsc::Sender<Vec<u8>>, ear: &Ear) {
    loop {
        match ear.close.run_until_cancelled(Message::read(&mut from)).await {
            Some(Ok(Message::Applied)) => mouth.is_applied(),
            // They are applied until this ends.
            Some(Ok(Message::Records(told))) => drop(records.send(told).await),
            Some(Ok(Message::Gone)) => ear.has_left.cancel(),
            _ => return,
        }
    }
}

/// Applies what is heard, and answers in the same order. On a disk each time is one more change that is to be
/// durable: what has come meanwhile is applied together.
async fn apply(mut records: mpsc::Receiver<Vec<u8>>, mouth: &Mouth, store: &Store) {
    let mut calls = Vec::new();
    while records.recv_many(&mut calls, AT_ONCE).await > 0 {
        let mut heard = Heard::default();
        for told in &calls {
            heard.add(told);
        }
        store.invalidate_as_told(heard).await;
        for _ in calls.drain(..) {
            // It counts though the other has gone.
            drop(mouth.say(Message::Applied));
        }
    }
}
