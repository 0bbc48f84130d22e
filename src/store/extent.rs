//! How far the shared log's stream reaches, as Redis tells it (`XINFO STREAM`).

use std::collections::HashMap;

use redis::{FromRedisValue, Value};

use crate::store::record;
use crate::stored::Position;

/// What Redis says of the stream.
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
