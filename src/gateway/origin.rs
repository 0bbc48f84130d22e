//! What a route's requests go to.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Config};
use crate::documents::Documents;
use crate::store::Bookmark;
use crate::upstream::Upstream;

use super::Equipment;

/// With what the name begins that the tags of documents are scoped to.
const SCOPE: &str = "mongodb:";

/// What answers a forward request.
pub(super) enum Origin {
    /// Servers, by HTTP.
    Upstream(Arc<Upstream>),
    /// Documents of a MongoDB collection.
    Documents(Box<Documents>),
}

/// A route's origin, and what else of it counts.
pub(super) struct Named {
    pub(super) origin: Origin,
    /// What its tags are scoped to.
    pub(super) name: String,
    /// What besides the name its responses depend on.
    pub(super) space: String,
    /// It may take so long to bring a head.
    pub(super) patience: Duration,
    /// It may be silent for so long within content.
    pub(super) idle_timeout: Duration,
}

impl Origin {
    /// Whether both are the same servers.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Upstream(a), Self::Upstream(b)) if Arc::ptr_eq(a, b))
    }
}

/// The origin of a route of this configuration.
pub(super) fn of(config: &Config, route: &config::Route, equipment: &Equipment) -> Option<Named> {
    match &route.origin {
        config::Origin::Upstream(place) => {
            let upstream = config.upstreams.get(*place)?;
            Some(Named {
                origin: Origin::Upstream(Arc::clone(equipment.upstreams.get(*place)?)),
                name: upstream.name.clone(),
                space: upstream.name.clone(),
                patience: upstream.connect_timeout.saturating_add(upstream.timeout),
                idle_timeout: upstream.idle_timeout,
            })
        }
        config::Origin::Document(document) => {
            let mongodb = config.mongodbs.get(document.mongodb)?;
            let source = Arc::clone(equipment.sources.get(document.mongodb)?);
            let runtime = equipment.lasting.runtime.clone();
            let name = scope(&mongodb.name);
            // Another query is another response.
            let wanted = config::Document { mongodb: 0, ..(**document).clone() };
            let digest = blake3::hash(format!("{wanted:?}").as_bytes()).to_hex();
            Some(Named {
                origin: Origin::Documents(Box::new(Documents::new(source, wanted, runtime))),
                space: format!("{name}:{digest}"),
                name,
                patience: mongodb.timeout.saturating_mul(2).saturating_add(document.max_time),
                idle_timeout: document.max_time,
            })
        }
    }
}

/// The changes that a route's responses depend on: of their documents, and those that name the route.
pub(super) fn changes(
    config: &Config,
    route: &config::Route,
    equipment: &Equipment,
) -> Box<[Arc<Bookmark>]> {
    let document = match &route.origin {
        config::Origin::Document(document) => Some(document),
        config::Origin::Upstream(_) => None,
    };
    let is_this = |place: &usize| config.routes.get(*place).is_some_and(|it| it.name == route.name);
    let watches = config.watches.iter().zip(&equipment.bookmarks).filter(|(watch, _)| {
        let shows = |it: &config::Document| watch.covers(it.mongodb, &it.database, &it.collection);
        watch.routes.iter().any(is_this) || document.is_some_and(|document| shows(document))
    });
    watches.map(|(_, bookmark)| Arc::clone(bookmark)).collect()
}

/// What tags of this configuration are scoped to.
pub(super) fn names(config: &Config) -> Vec<String> {
    let upstreams = config.upstreams.iter().map(|upstream| upstream.name.clone());
    upstreams.chain(config.mongodbs.iter().map(|mongodb| scope(&mongodb.name))).collect()
}

/// The names of upstreams, and of this deployment alone.
pub(super) fn without_other_documents(
    names: Vec<Box<str>>,
    mongodb: &str,
) -> impl Iterator<Item = Box<str>> {
    let own = scope(mongodb);
    names.into_iter().filter(move |name| !name.starts_with(SCOPE) || **name == own)
}

/// What the tags of documents are scoped to: no upstream has such a name.
fn scope(mongodb: &str) -> String {
    format!("{SCOPE}{mongodb}")
}
