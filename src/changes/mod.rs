//! Changes of documents in MongoDB, as invalidations.
//!
//! A [`Watching`] reads one stream of change events, of a collection, a database or a deployment. Events
//! that come together are invalidated together: the policy says by what, or each document's tags are.
//! Where it goes on reading is noted once the log has taken them (`store::Bookmark`), so whatever ends in
//! between, a connection, a server or this process, the same events come again and none is left out.
//!
//! Where events may have been missed, the stream begins anew, and then all that it could have been about
//! is invalidated: in that order, so that nothing falls between. So it is where nobody knows a place to
//! go on from, where the server does not know it any more, and after what no filter lets through: a
//! collection or a database that is gone.
//!
//! - `stream` opens a stream, and says what its errors mean;
//! - `event` reads events;
//! - `apply` makes records of the log out of them.
//!
//! Memory has bounds: one answer of the server is held at a time (16 MiB, or what one event has), and the
//! next one is read when it has been applied.
//!
//! An event that is larger with its documents than one answer may be is read without them, instead of in
//! parts (`$changeStreamSplitLargeEvent`, of MongoDB 6.0.9 and later): its documents would have to be held
//! whole, several times 16 MiB each, to be shown to a policy that may take 1 MiB. What it is about is known
//! without them, and a filter that looks at documents then leaves nothing out.

mod apply;
mod event;
mod stream;

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::RawDocumentBuf;
use mongodb::error::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::config;
use crate::config::OnError;
use crate::documents::Source;
use crate::gateway::Current;
use crate::plugin::Policy;
use crate::store::{Appended, Bookmark, Token};

use self::apply::{Applier, Budget};
use self::event::{Event, What};
use self::stream::{Stream, Trouble, Wanted};

/// Events that are invalidated together: so many at most, and so many octets.
const MOST_EVENTS: usize = 1000;
const MOST_OCTETS: usize = 8 << 20;

/// The pause before a stream is opened again: this at first, and twice the last one up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A server that has been silent for so long is taken for gone, at first; then for twice as long each
/// time, as one that has much to look through until the next event is silent, too.
const SILENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(10));

/// So long whoever ends a watch waits for what is being applied.
const ENDING: Duration = Duration::from_secs(2);

/// What is watched, and what comes of it.
pub struct Watched {
    /// As configured.
    pub watch: config::Watch,
    /// The name of `[mongodb.NAME]`.
    pub mongodb: String,
    /// What it is.
    pub source: Arc<Source>,
    /// Whom changes are told, and what its failure leads to.
    pub policy: Option<(Arc<Policy>, OnError)>,
    /// The names of its `routes`.
    pub routes: Vec<String>,
    /// Where it was.
    pub bookmark: Arc<Bookmark>,
}

/// A running watch. Dropping it leaves it running.
pub struct Watching {
    reading: CancellationToken,
    keeping: CancellationToken,
    /// What is being read and applied; and what keeps the place.
    reader: TaskTracker,
    keeper: TaskTracker,
}

impl Watching {
    /// Begins to watch on this runtime, once `former` has ended, which watched the same.
    pub fn start(
        watched: Watched,
        current: Arc<Current>,
        runtime: &Handle,
        former: Option<Self>,
    ) -> Self {
        let watching = Self {
            reading: CancellationToken::new(),
            keeping: CancellationToken::new(),
            reader: TaskTracker::new(),
            keeper: TaskTracker::new(),
        };
        let Self { reading, keeping, .. } = &watching;
        let bookmark = Arc::clone(&watched.bookmark);
        let reader = Watcher::new(watched, current, reading.clone());
        let (has_read, has_kept) = (watching.reader.token(), watching.keeper.token());
        let keeping = keeping.clone();
        runtime.spawn(async move {
            if let Some(former) = former {
                former.end().await;
            }
            TaskTracker::new().spawn(async move {
                reader.run().await;
                drop(has_read);
            });
            bookmark.keep(keeping).await;
            drop(has_kept);
        });
        watching.reader.close();
        watching.keeper.close();
        watching
    }

    /// Ends, once what is being applied has been, and keeps the place.
    pub async fn end(self) {
        self.reading.cancel();
        let is_applied = timeout(ENDING, self.reader.wait()).await.is_ok();
        self.keeping.cancel();
        let is_kept = timeout(ENDING, self.keeper.wait()).await.is_ok();
        debug!(is_applied, is_kept, "no longer watches changes");
    }
}

/// What reads the stream.
struct Watcher {
    applier: Applier,
    bookmark: Arc<Bookmark>,
    source: Arc<Source>,
    wanted: Wanted,
    end: CancellationToken,
    reads: watch::Receiver<bool>,
    /// So long the server may be silent.
    patience: Duration,
    pause: Duration,
    /// The log has been told that it goes wrong.
    is_told: bool,
}

/// Events that have not been applied yet.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    octets: usize,
}

/// Why a stream is read no further.
enum Stopped {
    /// The watch ends, or another gateway reads.
    Over,
    /// It has ended, in the place that is noted.
    Ended,
    Failed(Error),
    /// Nothing comes, and nothing says that nothing will.
    Silent,
    /// An event that cannot be gone on after.
    Nowhere,
}

impl Watcher {
    fn new(watched: Watched, current: Arc<Current>, end: CancellationToken) -> Self {
        let Watched { watch, mongodb, source, policy, routes, bookmark } = watched;
        let reads_documents = policy.as_ref().is_some_and(|(policy, _)| policy.wants_documents());
        Self {
            wanted: Wanted::new(&watch, reads_documents, bookmark.patience()),
            reads: bookmark.reads(),
            applier: Applier {
                current,
                bookmark: Arc::clone(&bookmark),
                watch,
                mongodb,
                policy,
                routes,
                budget: Budget::new(),
            },
            bookmark,
            source,
            end,
            patience: SILENCE.0,
            pause: PAUSES.0,
            is_told: false,
        }
    }

    async fn run(mut self) {
        let end = self.end.clone();
        while !end.is_cancelled() {
            let is_to_read = *self.reads.borrow_and_update();
            if is_to_read {
                self.watch().await;
                self.bookmark.set_open(false);
                // Whoever reads next finds out by itself what goes wrong.
                self.bookmark.set_trouble(None);
                self.is_told = false;
            } else if end.run_until_cancelled(self.reads.changed()).await.is_none() {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_cancelled() || !*self.reads.borrow()
    }

    /// Reads the stream, opening it again whenever it breaks, until it is over.
    async fn watch(&mut self) {
        // Where nobody knows a place, changes may have been missed.
        let mut token = self.bookmark.token().filter(|token| event::resume_token(token).is_some());
        let mut whole = true;
        let mut client = None;
        while !self.is_over() {
            let connected = match client.take() {
                Some(client) => Ok(client),
                None => self.source.client_for_changes().await,
            };
            let stopped = match connected {
                Err(error) => Stopped::Failed(error),
                Ok(connected) => {
                    let stopped = self.go_on(&connected, &mut token, &mut whole).await;
                    // Of one whose work was broken off the state is nobody's choice.
                    client = (!matches!(stopped, Stopped::Silent)).then_some(connected);
                    stopped
                }
            };
            match stopped {
                Stopped::Over => return,
                Stopped::Ended => self.rest().await,
                Stopped::Nowhere => self.lose(&mut token, "an event cannot be read").await,
                Stopped::Silent => {
                    self.failed("the server does not answer").await;
                    self.patience = (self.patience * 2).min(SILENCE.1);
                }
                Stopped::Failed(error) => match Trouble::of(&error, token.is_some()) {
                    Trouble::TooLarge if whole => {
                        debug!(changes = self.bookmark.label(), "too large with its documents");
                        whole = false;
                    }
                    Trouble::Lost | Trouble::TooLarge if token.is_some() => {
                        self.lose(&mut token, &error.kind.to_string()).await;
                    }
                    Trouble::Lost | Trouble::TooLarge | Trouble::Passing => {
                        self.failed(&error.kind.to_string()).await;
                    }
                },
            }
        }
    }

    /// Opens the stream after a place, or anew, and reads it. Whatever is under way is broken off where
    /// that is over, or where nothing comes; then the client is not used any more.
    async fn go_on(
        &mut self,
        client: &Client,
        token: &mut Option<Token>,
        whole: &mut bool,
    ) -> Stopped {
        let (mut end, mut reads) = (self.end.clone(), self.reads.clone());
        let opened = tokio::select! {
            opened = self.wanted.open(client, token.as_ref(), *whole) => opened,
            () = over(&mut end, &mut reads) => return Stopped::Over,
            // It also looks for the server.
            () = sleep(self.patience * 4) => return Stopped::Silent,
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return Stopped::Failed(error),
        };
        if token.is_none() {
            *token = stream.resume_token().as_ref().and_then(event::token);
            self.begin_anew(token.clone()).await;
        }
        self.bookmark.set_open(true);
        let stopped = self.read(&mut stream, token, whole).await;
        self.bookmark.set_open(false);
        stopped
    }

    /// Reads until the stream ends or fails. `token` is the place up to which events have been applied.
    async fn read(
        &mut self,
        stream: &mut Stream,
        token: &mut Option<Token>,
        whole: &mut bool,
    ) -> Stopped {
        let mut batch = Batch::default();
        loop {
            let asked = self.bookmark.now();
            let (mut end, mut reads) = (self.end.clone(), self.reads.clone());
            let outcome = {
                let mut next = pin!(stream.next_if_any());
                let mut silence = pin!(sleep(self.patience));
                loop {
                    tokio::select! {
                        biased;
                        outcome = &mut next => break outcome,
                        // What has come is applied while more is on its way.
                        () = ready(()), if !batch.events.is_empty() => {
                            self.apply(&mut batch, token).await;
                        }
                        () = over(&mut end, &mut reads) => return Stopped::Over,
                        () = &mut silence => return Stopped::Silent,
                    }
                }
            };
            match outcome {
                Ok(Some(raw)) => {
                    if let Some(stopped) = self.take(raw, &mut batch, token, whole).await {
                        return stopped;
                    }
                }
                Ok(None) => {
                    self.apply(&mut batch, token).await;
                    self.works();
                    if let Some(moved) = stream.resume_token().as_ref().and_then(event::token) {
                        *token = Some(moved);
                        self.bookmark.applied(token.clone(), None);
                    }
                    if !stream.is_alive() {
                        return Stopped::Ended;
                    }
                    self.bookmark.confirm(asked);
                }
                Err(error) => {
                    self.apply(&mut batch, token).await;
                    return Stopped::Failed(error);
                }
            }
        }
    }

    /// Takes one event, and has it applied with those before it if they are enough. Answers why the stream
    /// is read no further, if it is not.
    async fn take(
        &mut self,
        raw: RawDocumentBuf,
        batch: &mut Batch,
        token: &mut Option<Token>,
        whole: &mut bool,
    ) -> Option<Stopped> {
        let event = Event::new(raw);
        let has_ended = event.what == What::Invalidated;
        let is_lost = event.what == What::Unreadable || event.token.is_none();
        batch.octets += event.octets();
        batch.events.push(event);
        // The one that was too large has been read.
        let is_over = has_ended || is_lost || !std::mem::replace(whole, true);
        if is_over || batch.events.len() >= MOST_EVENTS || batch.octets >= MOST_OCTETS {
            self.apply(batch, token).await;
        }
        if is_lost {
            return Some(Stopped::Nowhere);
        }
        is_over.then_some(Stopped::Ended)
    }

    /// Has these events applied, and then notes where they end.
    async fn apply(&mut self, batch: &mut Batch, token: &mut Option<Token>) {
        let Batch { events, .. } = std::mem::take(batch);
        let Some(last) = events.last() else { return };
        let (place, made, cluster_time) = (last.token.clone(), last.made, last.cluster_time);
        let appended = self.applier.apply(&events).await;
        token.clone_from(&place);
        self.bookmark.applied(place, appended);
        self.works();
        let now = Clock::real();
        if let Some(made) = made {
            self.bookmark.set_delay(now.duration_since(made).unwrap_or_default());
        }
        // Events come in order, and their server's clock tells how far they have come.
        if let Some(made) = cluster_time {
            self.bookmark.confirm_since(now.duration_since(made).unwrap_or_default());
        }
    }

    /// Invalidates everything from before the stream began, and notes where that was.
    async fn begin_anew(&mut self, token: Option<Token>) {
        let appended: Option<Appended> = self.applier.apply_whole().await;
        self.bookmark.applied(token, appended);
        info!(changes = self.bookmark.label(), "watches changes from now on");
    }

    /// What came after a place is not to be had any more.
    async fn lose(&mut self, token: &mut Option<Token>, why: &str) {
        self.bookmark.lost.count();
        warn!(
            changes = self.bookmark.label(),
            why, "changes may have been missed, all that they could be about is invalidated"
        );
        *token = None;
        // One that is lost again at once is no reason to hurry.
        self.rest().await;
    }

    /// Tells once that it goes wrong, and pauses.
    async fn failed(&mut self, error: &str) {
        self.bookmark.set_trouble(Some(error));
        if !self.is_told {
            let changes = self.bookmark.label();
            warn!(changes, error, "cannot watch changes, trying again");
            self.is_told = true;
        }
        self.rest().await;
    }

    /// Pauses, for longer each time until something has come.
    async fn rest(&mut self) {
        let (mut end, mut reads) = (self.end.clone(), self.reads.clone());
        tokio::select! {
            () = sleep(self.pause) => {}
            () = over(&mut end, &mut reads) => {}
        }
        self.pause = (self.pause * 2).min(PAUSES.1);
    }

    /// Tells once that it goes well again.
    fn works(&mut self) {
        (self.pause, self.patience) = (PAUSES.0, SILENCE.0);
        if std::mem::take(&mut self.is_told) {
            self.bookmark.set_trouble(None);
            info!(changes = self.bookmark.label(), "watches changes again");
        }
    }
}

/// Waits until the watch is to end, or another gateway reads.
async fn over(end: &mut CancellationToken, reads: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = end.cancelled() => {}
        _ = reads.wait_for(|reads| !reads) => {}
    }
}
