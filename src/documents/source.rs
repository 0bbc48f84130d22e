//! A MongoDB deployment: its client, what a query may cost, and what went wrong.
//!
//! Operations run in tasks of their own on the runtime that the client was made on, and are waited
//! for with a limit: the driver has none of its own for a server that hangs, and its futures must
//! not be dropped half-way. How many there are at once is bounded, those that nobody waits for
//! included.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, ConnectionString, Credential, FindOneOptions, FindOptions};
use mongodb::{Client, Collection};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::{self, Mongodb, Password};
use crate::upstream::Failure;

use super::Found;
use super::filter::Query;

/// All documents of a response together have at most so many octets.
const LARGEST: usize = 64 << 20;

/// How long a server that is looked for is asked whether it is there, unless the URI says.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A deployment that documents are read from. It connects when it is first asked.
pub struct Source {
    name: Box<str>,
    config: Mongodb,
    options: Options,
    client: OnceCell<Client>,
    was_looked_at: AtomicBool,
    /// As many operations as there may be.
    permits: Arc<Semaphore>,
    is_out_of_reach: AtomicBool,
}

/// What the client is made of.
struct Options {
    uri: ConnectionString,
    username: Option<String>,
    password: Option<String>,
    timeout: Duration,
    max_connections: u32,
}

/// A deployment cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The driver does not take the URI.
    #[error("the uri cannot be used: {0}")]
    Uri(String),
    /// The `password_file` cannot be read.
    #[error("no password can be read from `{path}`")]
    Password {
        /// As configured.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("as many operations as may be are under way")]
    Busy,
    #[error("it did not answer in time")]
    Silent,
    #[error("the documents have more than 64MiB")]
    TooLarge,
    #[error(transparent)]
    Driver(#[from] Error),
}

impl Source {
    /// A deployment as configured. Opens no connection.
    ///
    /// # Errors
    /// The driver does not take the URI, or a file cannot be read.
    pub fn new(config: &Mongodb) -> Result<Self, Unusable> {
        let uri = ConnectionString::parse(&config.uri).map_err(|error| unusable(&error))?;
        let password = match &config.password {
            None => None,
            Some(Password::Text(text)) => Some(text.clone()),
            Some(Password::File(path)) => {
                let text = fs::read_to_string(path).map_err(|source| Unusable::Password {
                    path: path.display().to_string(),
                    source,
                })?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        };
        let options = Options {
            uri,
            username: config.username.clone(),
            password,
            timeout: config.timeout,
            max_connections: config.max_connections,
        };
        Ok(Self {
            name: config.name.as_str().into(),
            config: config.essence(),
            permits: Arc::new(Semaphore::new(config.max_connections as usize * 2)),
            options,
            client: OnceCell::new(),
            was_looked_at: AtomicBool::new(false),
            is_out_of_reach: AtomicBool::new(false),
        })
    }

    /// Whether both are the same deployment, reached the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        self.config == other.config && self.options.password == other.options.password
    }

    /// Looks whether it can be reached, once, so that the log says at the start what is wrong.
    pub fn look(self: &Arc<Self>, runtime: &Handle) {
        if self.was_looked_at.swap(true, Ordering::Relaxed) {
            return;
        }
        let source = Arc::clone(self);
        runtime.spawn(async move {
            let answer = match source.client().await {
                Ok(client) => client.database("admin").run_command(doc! { "ping": 1 }).await,
                Err(error) => Err(error),
            };
            source.note(answer.as_ref().err());
        });
    }

    /// Reads what a route wants.
    ///
    /// # Errors
    /// See [`super::Documents::answer`].
    pub(super) async fn find(
        self: &Arc<Self>,
        wanted: &config::Document,
        query: Query,
        runtime: &Handle,
    ) -> Result<Found, Failure> {
        let patience = self.options.timeout;
        let permits = Arc::clone(&self.permits);
        let Ok(Ok(permit)) = timeout(patience, permits.acquire_owned()).await else {
            return Err(Failure::unavailable(Trouble::Busy));
        };
        let source = Arc::clone(self);
        let reading = Reading::new(wanted);
        let operation = runtime.spawn(async move {
            let _permit = permit;
            reading.run(&source, query).await
        });
        // To find a server, to connect, and to be answered.
        let limit = patience.saturating_mul(2).saturating_add(wanted.max_time);
        let outcome = match timeout(limit, operation).await {
            Ok(Ok(outcome)) => outcome,
            // The runtime ends.
            Ok(Err(_)) => return Err(Failure::unavailable(Trouble::Silent)),
            Err(_) => Err(Trouble::Silent),
        };
        match &outcome {
            Ok(_) => self.note(None),
            Err(Trouble::Driver(error)) => self.note(Some(error)),
            Err(Trouble::Busy | Trouble::Silent | Trouble::TooLarge) => {}
        }
        outcome.map_err(|trouble| self.failure(trouble))
    }

    /// The client, made when it is first needed: a URI may name its servers by DNS.
    async fn client(&self) -> Result<&Client, Error> {
        self.client.get_or_try_init(|| self.options.connect()).await
    }

    /// A client of its own for a stream of changes, which waits as long as drivers do: a stream that takes
    /// its time finds its way back by itself.
    ///
    /// # Errors
    /// The servers that the URI names cannot be found out.
    pub async fn client_for_changes(&self) -> Result<Client, Error> {
        let options = ClientOptions::parse(self.options.uri.clone()).await?;
        self.options.client(options)
    }

    /// Says once that it is out of reach, and once that it is back.
    fn note(&self, error: Option<&Error>) {
        let Some(error) = error else {
            if self.is_out_of_reach.swap(false, Ordering::Relaxed) {
                info!(mongodb = &*self.name, "MongoDB is back");
            }
            return;
        };
        if is_out_of_reach(error) && !self.is_out_of_reach.swap(true, Ordering::Relaxed) {
            let name = &*self.name;
            let error = &error.kind;
            warn!(mongodb = name, %error, "MongoDB is out of reach, its routes have what is stored");
        }
    }

    /// What a failed operation is to the gateway. The client is told nothing of the driver's words.
    fn failure(&self, trouble: Trouble) -> Failure {
        let mongodb = &*self.name;
        match trouble {
            Trouble::Silent => Failure::Timeout,
            Trouble::Driver(error) if is_out_of_reach(&error) => Failure::unavailable(error),
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

impl Options {
    async fn connect(&self) -> Result<Client, Error> {
        let mut options = ClientOptions::parse(self.uri.clone()).await?;
        options.server_selection_timeout.get_or_insert(self.timeout);
        options.connect_timeout.get_or_insert(self.timeout);
        options.heartbeat_freq.get_or_insert(HEARTBEAT);
        options.max_pool_size.get_or_insert(self.max_connections);
        self.client(options)
    }

    fn client(&self, mut options: ClientOptions) -> Result<Client, Error> {
        options.app_name.get_or_insert_with(|| "larder".to_owned());
        if self.username.is_some() || self.password.is_some() {
            let credential = options.credential.get_or_insert_with(Credential::default);
            if let Some(username) = &self.username {
                credential.username = Some(username.clone());
            }
            if let Some(password) = &self.password {
                credential.password = Some(password.clone());
            }
        }
        Client::with_options(options)
    }
}

/// `MaxTimeMSExpired`.
const MAX_TIME_EXPIRED: i32 = 50;

/// What a server says that ends, or that is not the one to ask: `HostUnreachable`, `HostNotFound`,
/// `NetworkTimeout`, `ShutdownInProgress`, `PrimarySteppedDown`, `ExceededTimeLimit`,
/// `SocketException`, `NotWritablePrimary`, `InterruptedAtShutdown`,
/// `InterruptedDueToReplStateChange`, `NotPrimaryNoSecondaryOk`, `NotPrimaryOrSecondary`.
const OUT_OF_REACH: [i32; 12] = [6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436];

fn is_out_of_reach(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. } => true,
        _ => code(error).is_some_and(|code| OUT_OF_REACH.contains(&code)),
    }
}

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}

/// Without what the URI may hold of secrets.
fn unusable(error: &Error) -> Unusable {
    match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } => Unusable::Uri(message.clone()),
        kind => Unusable::Uri(kind.to_string()),
    }
}
