//! A MongoDB deployment: its client, what a query may cost, and what went wrong.
//!
//! Operations run in tasks of their own on the runtime that the client was made on, and are waited
//! for with a limit: the driver has none of its own for a server that hangs, and its futures must
//! not be dropped half-way. How many there are at once is bounded, those that nobody waits for
//! included.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, FindOneOptions, FindOptions, ReadConcern};
use mongodb::{Client, Collection};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::{self, Mongodb};
use crate::upstream::Failure;

use super::Found;
use super::condition::{Condition, Health, State};
use super::filter::Query;
use super::login::{Login, Unusable};

/// All documents of a response together have at most so many octets.
const LARGEST: usize = 64 << 20;

/// How long a server that is looked for is asked whether it is there, unless the URI says.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// One that cannot be used is asked again after this time at first, and after twice the last one up to the
/// second.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// A deployment that documents are read from. It connects when it is first asked.
pub struct Source {
    name: Box<str>,
    config: Mongodb,
    /// `[[changes]]` has streams of it.
    is_watched: bool,
    login: Login,
    client: OnceCell<Client>,
    was_looked_at: AtomicBool,
    /// Somebody looks whether it is back.
    is_looked_for: AtomicBool,
    /// As many operations as there may be.
    permits: Arc<Semaphore>,
    condition: Condition,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("as many operations as may be are under way")]
    Busy,
    #[error("its servers are not known")]
    Unknown,
    #[error("it did not answer in time")]
    Silent,
    #[error("the documents have more than 64MiB")]
    TooLarge,
    #[error(transparent)]
    Driver(#[from] Error),
}

impl Source {
    /// A deployment as configured. `is_watched`: some of `[[changes]]` names it. Opens no connection.
    ///
    /// # Errors
    /// The driver does not take the URI, or a file cannot be read.
    pub fn new(config: &Mongodb, is_watched: bool) -> Result<Self, Unusable> {
        Ok(Self {
            name: config.name.as_str().into(),
            config: config.essence(),
            is_watched,
            login: Login::new(config)?,
            client: OnceCell::new(),
            was_looked_at: AtomicBool::new(false),
            is_looked_for: AtomicBool::new(false),
            permits: Arc::new(Semaphore::new(config.max_connections as usize * 2)),
            condition: Condition::new(),
        })
    }

    /// Whether both are the same deployment, reached and read the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        self.config == other.config
            && self.is_watched == other.is_watched
            && self.login.is_same(&other.login)
    }

    /// Looks whether it can be reached, once, so that the log says at the start what is wrong.
    pub fn look(self: &Arc<Self>, runtime: &Handle) {
        if self.was_looked_at.swap(true, Ordering::Relaxed) {
            return;
        }
        let source = Arc::clone(self);
        runtime.spawn(async move { source.ask(&Handle::current()).await });
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.condition.told(&self.name)
    }

    /// Asks whether it is there.
    async fn ask(self: &Arc<Self>, runtime: &Handle) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return };
        let source = Arc::clone(self);
        let asking = runtime.spawn(async move {
            let _permit = permit;
            source.client().await?.database("admin").run_command(doc! { "ping": 1 }).await
        });
        if let Ok(Ok(answer)) = timeout(self.config.timeout.saturating_mul(3), asking).await {
            self.note(answer.as_ref().err(), runtime);
        }
    }

    /// Asks until it is there again, so that the log and whoever looks after it know. One does at a time,
    /// and none for a deployment that is not configured any more.
    fn look_for(self: &Arc<Self>, runtime: &Handle) {
        if self.is_looked_for.swap(true, Ordering::Relaxed) {
            return;
        }
        let (source, on) = (Arc::downgrade(self), runtime.clone());
        runtime.spawn(async move {
            let mut pause = LOOKS.0;
            loop {
                sleep(pause).await;
                pause = (pause * 2).min(LOOKS.1);
                let Some(source) = source.upgrade() else { return };
                source.ask(&on).await;
                if !source.condition.is_trouble() {
                    source.is_looked_for.store(false, Ordering::Relaxed);
                    return;
                }
            }
        });
    }

    /// Reads what a route wants. Whoever has the documents has the permit, too, to keep as long as they.
    ///
    /// # Errors
    /// See [`super::Documents::answer`].
    pub(super) async fn find(
        self: &Arc<Self>,
        wanted: &config::Document,
        query: Query,
        runtime: &Handle,
    ) -> Result<(Found, OwnedSemaphorePermit), Failure> {
        // Whose servers are not known is looked for by one, and not by each request in its turn.
        if self.client.get().is_none() && self.condition.is_trouble() {
            return Err(Failure::unavailable(Trouble::Unknown));
        }
        let patience = self.config.timeout;
        let permits = Arc::clone(&self.permits);
        let Ok(Ok(permit)) = timeout(patience, permits.acquire_owned()).await else {
            return Err(Failure::unavailable(Trouble::Busy));
        };
        let source = Arc::clone(self);
        let reading = Reading::new(wanted);
        let operation = runtime
            .spawn(async move { reading.run(&source, query).await.map(|found| (found, permit)) });
        // To find a server, to connect, and to be answered.
        let limit = patience.saturating_mul(2).saturating_add(wanted.max_time);
        let outcome = match timeout(limit, operation).await {
            Ok(Ok(outcome)) => outcome,
            // The runtime ends.
            Ok(Err(_)) => return Err(Failure::unavailable(Trouble::Silent)),
            Err(_) if self.client.get().is_none() => Err(Trouble::Unknown),
            Err(_) => Err(Trouble::Silent),
        };
        match &outcome {
            Ok(_) => self.note(None, runtime),
            Err(Trouble::Driver(error)) => self.note(Some(error), runtime),
            Err(_) => {}
        }
        outcome.map_err(|trouble| self.failure(trouble))
    }

    /// The client, made when it is first needed: a URI may name its servers by DNS.
    pub(super) async fn client(&self) -> Result<&Client, Error> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Client, Error> {
        let mut options = self.login.options().await?;
        options.server_selection_timeout.get_or_insert(self.config.timeout);
        options.connect_timeout.get_or_insert(self.config.timeout);
        options.max_pool_size.get_or_insert(self.config.max_connections);
        if self.is_watched {
            // What is rolled back was never a change: a stream tells only what a majority has, and so what is
            // read and stored has to be that. Without a stream nothing would tell when a majority has what a
            // write through this gateway made, and what was before it would be stored again.
            options.read_concern.get_or_insert_with(ReadConcern::majority);
        }
        client(options)
    }

    /// A client of its own for a stream of changes, which waits as long as drivers do: a stream that takes
    /// its time finds its way back by itself.
    ///
    /// # Errors
    /// The servers that the URI names cannot be found out.
    pub async fn client_for_changes(&self) -> Result<Client, Error> {
        let mut options = self.login.options().await?;
        // Where the driver (3.9) opens a stream again and tries that a second time, it has forgotten the
        // place, and begins now: whatever came between would be skipped. Whoever watches tries itself.
        options.retry_reads = Some(false);
        client(options)
    }

    /// Says once what is wrong, and once that it is back.
    fn note(self: &Arc<Self>, error: Option<&Error>, runtime: &Handle) {
        let mongodb = &*self.name;
        let Some(error) = error else {
            if self.condition.works() {
                info!(mongodb, "MongoDB is back");
            }
            return;
        };
        let Some(state) = state(error) else { return };
        let error = &error.kind;
        if self.condition.fails(state, error) {
            match state {
                State::Refused => {
                    warn!(mongodb, %error, "MongoDB refuses the login, its routes have what is stored");
                }
                _ => {
                    warn!(mongodb, %error, "MongoDB is out of reach, its routes have what is stored");
                }
            }
        }
        self.look_for(runtime);
    }

    /// What a failed operation is to the gateway. The client is told nothing of the driver's words.
    fn failure(&self, trouble: Trouble) -> Failure {
        let mongodb = &*self.name;
        match trouble {
            Trouble::Silent => Failure::Timeout,
            Trouble::Unknown => Failure::unavailable(trouble),
            Trouble::Driver(error) if state(&error).is_some() => Failure::unavailable(error),
            Trouble::Driver(error) if code(&error) == Some(MAX_TIME_EXPIRED) => Failure::Timeout,
            trouble => {
                warn!(mongodb, error = %trouble, "documents cannot be read");
                Failure::broken(trouble)
            }
        }
    }
}

/// A query on its way.
struct Reading {
    database: String,
    collection: String,
    projection: Option<Document>,
    sort: Option<Document>,
    many: Option<i64>,
    max_time: Duration,
}

impl Reading {
    fn new(wanted: &config::Document) -> Self {
        let signs = |fields: &[(String, bool)], yes: i32, no: i32| {
            let sign = |(name, is_so): &(String, bool)| {
                (name.clone(), Bson::Int32(if *is_so { yes } else { no }))
            };
            (!fields.is_empty()).then(|| fields.iter().map(sign).collect())
        };
        // It is always read, as the tags need it; `response` leaves it out.
        let mut shown = wanted.projection.clone();
        shown.retain(|(name, is_shown)| name != "_id" || *is_shown);
        Self {
            database: wanted.database.clone(),
            collection: wanted.collection.clone(),
            projection: signs(&shown, 1, 0),
            sort: signs(&wanted.sort, -1, 1),
            many: wanted.many.then_some(i64::from(wanted.limit)),
            max_time: wanted.max_time,
        }
    }

    async fn run(self, source: &Source, query: Query) -> Result<Found, Trouble> {
        let database = source.client().await?.database(&self.database);
        let collection: Collection<RawDocumentBuf> = database.collection(&self.collection);
        let Query { filter, skip } = query;
        let Some(limit) = self.many else {
            let mut options = FindOneOptions::default();
            options.max_time = Some(self.max_time);
            options.projection = self.projection;
            options.sort = self.sort;
            return Ok(Found::One(collection.find_one(filter).with_options(options).await?));
        };
        let mut options = FindOptions::default();
        options.max_time = Some(self.max_time);
        options.projection = self.projection;
        options.sort = self.sort;
        options.limit = Some(limit);
        options.skip = Some(skip);
        let mut cursor = collection.find(filter).with_options(options).await?;
        let (mut all, mut octets) = (Vec::new(), 0);
        while cursor.advance().await? {
            let document = cursor.current().to_owned();
            octets += document.as_bytes().len();
            if octets > LARGEST {
                return Err(Trouble::TooLarge);
            }
            all.push(document);
        }
        Ok(Found::Many(all))
    }
}

fn client(mut options: ClientOptions) -> Result<Client, Error> {
    // Another primary is found that soon also by streams, where servers do not tell by themselves.
    options.heartbeat_freq.get_or_insert(HEARTBEAT);
    options.app_name.get_or_insert_with(|| "larder".to_owned());
    Client::with_options(options)
}

/// `MaxTimeMSExpired`.
const MAX_TIME_EXPIRED: i32 = 50;

/// What a server says that ends, or that is not the one to ask: `HostUnreachable`, `HostNotFound`,
/// `NetworkTimeout`, `ShutdownInProgress`, `PrimarySteppedDown`, `ExceededTimeLimit`,
/// `SocketException`, `NotWritablePrimary`, `InterruptedAtShutdown`,
/// `InterruptedDueToReplStateChange`, `NotPrimaryNoSecondaryOk`, `NotPrimaryOrSecondary`.
const OUT_OF_REACH: [i32; 12] = [6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436];

/// `AuthenticationFailed`.
const REFUSED: i32 = 18;

/// What an error says of the whole deployment; none if it is about what was asked.
fn state(error: &Error) -> Option<State> {
    match &*error.kind {
        ErrorKind::Authentication { .. } => Some(State::Refused),
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::DnsResolve { .. } => Some(State::OutOfReach),
        _ => match code(error)? {
            REFUSED => Some(State::Refused),
            code => OUT_OF_REACH.contains(&code).then_some(State::OutOfReach),
        },
    }
}

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}
