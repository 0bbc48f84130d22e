//! What a gateway uses, for those who tell operators how it is.

use std::sync::Arc;

use crate::documents;
use crate::plugin::Policy;
use crate::stats::Stats;
use crate::store::{ChangeFigures, Store, WatchHealth};
use crate::token::KeysHealth;
use crate::upstream::Upstream;

use super::Gateway;

impl Gateway {
    /// What has been counted.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The tiers and the invalidation log.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The upstreams, in the order of the configuration.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter().map(Arc::as_ref)
    }

    /// The policies that routes use, by name, with what has been counted of each.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(Arc::as_ref)
    }

    /// How it is with each `[jwt.NAME]` whose keys are fetched.
    pub fn fetched_keys(&self) -> impl Iterator<Item = KeysHealth> {
        self.tokens.iter().filter_map(|reader| reader.health())
    }

    /// How the deployments are that documents are read from.
    pub fn mongodbs(&self) -> impl Iterator<Item = documents::Health> {
        self.sources.iter().map(|source| source.health())
    }

    /// How the changes are that are watched.
    pub fn watches(&self) -> impl Iterator<Item = WatchHealth> {
        self.bookmarks.iter().map(|bookmark| bookmark.health())
    }

    /// The figures of the changes that are watched, by what they are called.
    pub fn changes(&self) -> impl Iterator<Item = (&str, ChangeFigures)> {
        self.bookmarks.iter().map(|bookmark| (bookmark.label(), bookmark.figures()))
    }
}
