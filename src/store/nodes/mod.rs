//! The Redis servers, and which of them a key lies on.
//!
//! One connection to each server carries look-ups and writes. Two were tried, beside eight streams of
//! large values on loopback: a look-up of 1 KiB took 0.06 ms on a connection of its own and 0.23 ms on
//! that of look-ups of 100 KiB, but what a look-up will find is not known before it; and beside writes
//! of 64 KiB it took as long on either. What is kept out of L2 (`max_size`) bounds the wait instead.
//! Of small values, 64 `GET`s at a time by two connections took a sixth less processor time, one at a time no
//! less. That does not pay for twice the connections to look after.
//!
//! *Not supported:* reading from replicas.

mod cluster;
mod dial;
mod sentinel;
mod slots;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use redis::{FromRedisValue, Pipeline, RedisError, ServerErrorKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use self::dial::Link;
pub use self::dial::Unusable;

use self::cluster::Cluster;
use self::dial::{Dial, Place};
use self::sentinel::Sentinels;
use crate::config;
use crate::config::{Password, Redis, Servers};
use crate::store::Tasks;
use crate::store::advice::is_of_other_type;
use crate::store::connection::{Connection, Trial, Trouble};
use crate::store::health::{ServerHealth, State};

/// Whom a connection leads to.
#[derive(Clone)]
pub(super) enum Peer {
    /// Always the same server.
    Server { dial: Dial, place: Place },
    /// The one that is the master.
    Master(Arc<Sentinels>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { place, .. } => place.fmt(f),
            Self::Master(sentinels) => sentinels.fmt(f),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}

impl Peer {
    /// A connection that has answered once.
    pub(super) async fn connect(&self) -> Result<Link, Trouble> {
        match self {
            Self::Server { dial, place } => dial.open(place, &CancellationToken::new()).await,
            Self::Master(sentinels) => sentinels.connect().await,
        }
    }

    /// After so many timeouts with no answer between them a connection is given up.
    pub(super) fn patience(&self) -> u32 {
        match self {
            Self::Server { .. } => 5,
            // There may be another master by now.
            Self::Master(_) => 3,
        }
    }

    /// Whether this answer means that another server should be looked for.
    pub(super) fn is_elsewhere(&self, error: &RedisError) -> bool {
        use ServerErrorKind::{BusyLoading, MasterDown, ReadOnly};

        let redis::ErrorKind::Server(kind) = error.kind() else { return false };
        matches!(self, Self::Master(_)) && matches!(kind, ReadOnly | BusyLoading | MasterDown)
    }
}

/// What lies under a key. None if its server did not say.
type Lies = Option<Option<Bytes>>;

/// All servers.
pub(super) enum Nodes {
    /// One holds everything.
    One { peer: Peer, connection: Arc<Connection> },
    /// Each has its own part.
    Cluster(Arc<Cluster>),
}

impl Nodes {
    /// Not connected yet; tasks do that.
    pub(super) fn start(redis: &Redis, trial: Trial, tasks: &Tasks) -> Self {
        let dial = Dial {
            login: redis.login.clone(),
            tls: redis.tls.clone(),
            database: redis.database,
            resp3: redis.resp3,
            runtime: tasks.runtime.clone(),
        };
        let peer = match &redis.servers {
            Servers::Socket(path) => Peer::Server { dial, place: Place::Socket(path.clone()) },
            Servers::One(node) => Peer::Server { dial, place: Place::Node(node.clone()) },
            Servers::Sentinels { sentinels, master, login } => {
                let to_sentinels =
                    Dial { login: login.clone(), database: 0, resp3: false, ..dial.clone() };
                let sentinels =
                    Sentinels::new(sentinels.clone(), master.clone(), to_sentinels, dial);
                let sentinels = Arc::new(sentinels);
                sentinels.start(tasks);
                Peer::Master(sentinels)
            }
            Servers::Cluster(seeds) => {
                return Self::Cluster(Cluster::start(seeds.clone(), dial, trial, tasks));
            }
        };
        let connection = Arc::new(Connection::new(peer.clone(), trial));
        tasks.spawn(Arc::clone(&connection).keep(tasks.end.clone()));
        Self::One { peer, connection }
    }

    /// Whether one that is not in use is being tried.
    pub(super) fn is_tried(&self) -> bool {
        self.health().iter().any(|server| server.state == State::HalfOpen)
    }

    /// How each is, by its name.
    pub(super) fn health(&self) -> Vec<ServerHealth> {
        match self {
            Self::One { connection, .. } => vec![connection.health()],
            Self::Cluster(cluster) => cluster.health(),
        }
    }

    /// Whether a response may be written under `key`: its server is there, and has not just refused
    /// another one.
    pub(super) fn may_write(&self, key: &str) -> bool {
        match self {
            Self::One { connection, .. } => connection.may_write(),
            Self::Cluster(cluster) => cluster.may_write(key),
        }
    }

    /// Writes a response.
    pub(super) async fn write(
        &self,
        key: &str,
        pipeline: &Pipeline,
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let written = self.query(key, pipeline, deadline).await;
        match self {
            Self::One { connection, .. } => connection.wrote(&written),
            Self::Cluster(cluster) => cluster.wrote(key, &written),
        }
        written
    }

    /// Whether all servers can be asked.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::One { connection, .. } => connection.is_up(),
            Self::Cluster(cluster) => cluster.is_whole(),
        }
    }

    /// The answer to all commands of `pipeline`, which are about `key`.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        key: &str,
        pipeline: &Pipeline,
        deadline: Instant,
    ) -> Result<T, Trouble> {
        match self {
            Self::One { connection, .. } => connection.query(pipeline, deadline).await,
            Self::Cluster(cluster) => cluster.query(key, pipeline, deadline).await,
        }
    }

    /// What lies under each of `names`.
    pub(super) async fn look(&self, names: &[String], deadline: Instant) -> Vec<Lies> {
        match self {
            Self::One { connection, .. } => match names {
                [name] => {
                    let answer = connection.get(name, deadline).await;
                    vec![answer.map_or_else(|trouble| nothing(&trouble), Some)]
                }
                _ => match connection.query::<Vec<_>>(&looking(names), deadline).await {
                    Ok(answers) => answers.into_iter().map(Some).collect(),
                    Err(trouble) => vec![nothing(&trouble); names.len()],
                },
            },
            Self::Cluster(cluster) => cluster.look(names, deadline).await,
        }
    }

    /// A connection of the caller's own to the server that has `key`.
    pub(super) async fn connect(&self, key: &str) -> Result<Link, Trouble> {
        match self {
            Self::One { peer, .. } => peer.connect().await,
            Self::Cluster(cluster) => cluster.connect(key).await,
        }
    }

    /// Commands that were answered with an error, or that a connection broke under.
    pub(super) fn errors(&self) -> u64 {
        match self {
            Self::One { connection, .. } => connection.errors.value(),
            Self::Cluster(cluster) => cluster.errors(),
        }
    }

    /// Commands that were not answered in time.
    pub(super) fn timeouts(&self) -> u64 {
        match self {
            Self::One { connection, .. } => connection.timeouts.value(),
            Self::Cluster(cluster) => cluster.timeouts(),
        }
    }
}

/// Asks what lies under each of `names`.
fn looking(names: &[String]) -> Pipeline {
    let mut pipeline = redis::pipe();
    for name in names {
        pipeline.get(name);
    }
    pipeline
}

/// What lies where a look-up came to this: what is not of our type is nothing.
fn nothing(trouble: &Trouble) -> Lies {
    is_of_other_type(trouble).then_some(None)
}

/// What a configuration's files say, read as they will be for each connection: the places of
/// those that cannot be used.
pub fn unusable_files(redis: &Redis) -> Vec<(config::Place, Unusable)> {
    let tls = redis.tls.as_ref().and_then(|tls| dial::client(tls).err());
    let password = match &redis.login.password {
        Some(Password::File(path)) => dial::check_password(path).err(),
        _ => None,
    };
    let tls = tls.map(|wrong| (redis.tls_place, wrong));
    tls.into_iter().chain(password.map(|wrong| (redis.password_place, wrong))).collect()
}
