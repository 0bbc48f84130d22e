//! What Redis tells of the shared log's stream (`XINFO STREAM`), and of itself (`INFO`).

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Value};

use crate::store::connection::{Trouble, bounded};
use crate::store::record;
use crate::store::shared_log::ANSWER;
use crate::stored::Position;

/// How far the stream reaches.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Extent {
    /// The newest id ever given.
    pub(super) newest: Position,
    pub(super) first: Option<Position>,
    pub(super) trimmed: bool,
}

impl Extent {
    pub(super) fn parse(info: &HashMap<String, Value>) -> Option<Self> {
        let number = |name: &str| u64::from_redis_value_ref(info.get(name)?).ok();
        let newest = record::text(info, "last-generated-id")?.parse().ok()?;
        let first = info.get("first-entry").and_then(|entry| {
            let (id, _) = <(String, Value)>::from_redis_value_ref(entry).ok()?;
            id.parse().ok()
        });
        // Redis before 7 does not say how many records there were: then some may have gone.
        let trimmed = number("entries-added").is_none_or(|added| Some(added) > number("length"));
        Some(Self { newest, first, trimmed })
    }

    /// Whether records after `last` cannot be read any more.
    pub(super) fn misses(&self, last: Position) -> bool {
        let trimmed_past = self.trimmed && self.first.is_none_or(|first| first > last);
        self.newest < last || self.newest > last && trimmed_past
    }
}

/// How far this stream reaches. `None` if there is none.
pub(super) async fn extent(
    connection: &mut MultiplexedConnection,
    stream: &str,
) -> Result<Option<Extent>, Trouble> {
    if !exists(connection, stream).await? {
        return Ok(None);
    }
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(stream);
    let info: HashMap<String, Value> = bounded(ANSWER, command.query_async(connection)).await?;
    Extent::parse(&info).map(Some).ok_or(Trouble::Nonsense)
}

/// Whether anything lies under this key.
pub(super) async fn exists(
    connection: &mut MultiplexedConnection,
    key: &str,
) -> Result<bool, Trouble> {
    bounded(ANSWER, redis::cmd("EXISTS").arg(key).query_async(connection)).await
}

/// What a server tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Server {
    /// Which one it is, and since when: it changes with a restart and with a fail-over.
    pub(super) identity: String,
    pub(super) is_replica: bool,
}

/// `None` if it does not tell.
pub(super) async fn server(
    connection: &mut MultiplexedConnection,
) -> Result<Option<Server>, Trouble> {
    let Some(about) = info(connection, "server").await? else { return Ok(None) };
    let Some(replication) = info(connection, "replication").await? else { return Ok(None) };
    let of_it = |info: &str, name| {
        info.lines().filter_map(|line| line.strip_prefix(name)).collect::<String>()
    };
    let identity = of_it(&about, "run_id:") + &of_it(&replication, "master_replid:");
    let server = Server { identity, is_replica: tells_of_replica(&replication) };
    Ok((!server.identity.is_empty()).then_some(server))
}

/// Whether the server has a master. `None` if it does not tell.
pub(super) async fn is_replica(
    connection: &mut MultiplexedConnection,
) -> Result<Option<bool>, Trouble> {
    Ok(info(connection, "replication").await?.as_deref().map(tells_of_replica))
}

async fn info(
    connection: &mut MultiplexedConnection,
    section: &str,
) -> Result<Option<String>, Trouble> {
    match bounded(ANSWER, redis::cmd("INFO").arg(section).query_async(connection)).await {
        Ok(info) => Ok(Some(info)),
        Err(Trouble::Failed(error)) if !error.is_io_error() => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

fn tells_of_replica(replication: &str) -> bool {
    replication.lines().any(|line| line.trim_end() == "role:slave")
}
