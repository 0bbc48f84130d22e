//! What Redis tells of the shared log's stream (`XINFO STREAM`), and of itself (`INFO`).

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Value};

use crate::store::connection::{Trouble, bounded};
use crate::store::record;
use crate::store::shared_log::ANSWER;
use crate::stored::Position;

/// How far the stream reaches.
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

/// Which server this is, and since when: it changes with a restart and with a fail-over. `None` if
/// the server does not tell.
pub(super) async fn server(
    connection: &mut MultiplexedConnection,
) -> Result<Option<String>, Trouble> {
    let mut told = String::new();
    for (section, name) in [("server", "run_id:"), ("replication", "master_replid:")] {
        let mut command = redis::cmd("INFO");
        let info: String = match bounded(ANSWER, command.arg(section).query_async(connection)).await
        {
            Ok(info) => info,
            Err(Trouble::Failed(error)) if !error.is_io_error() => return Ok(None),
            Err(trouble) => return Err(trouble),
        };
        told.extend(info.lines().filter_map(|line| line.strip_prefix(name)));
    }
    Ok((!told.is_empty()).then_some(told))
}
