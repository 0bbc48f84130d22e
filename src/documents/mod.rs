//! MongoDB as an origin: documents of a collection, as a server would answer with them.
//!
//! [`Documents::answer`] takes what a request says for a route's `document`, and gives a response as
//! an upstream does, with statuses of its own: 200, 304, 400, 404, 405. What of that is stored, and for
//! how long, is decided as for any response.
//!
//! - `filter` makes a typed filter of the request;
//! - `source` is the only file that talks to a server;
//! - `login` says who Larder is, `condition` whether that leads to anything;
//! - `json` writes what it sent, `response` makes a response of that.
//!
//! *Not supported:* writing; MongoDB's authentication by OIDC, AWS or Kerberos; client-side
//! encryption; documents larger than 64 MiB together.

mod condition;
mod filter;
mod json;
mod login;
mod response;
mod source;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use mongodb::bson::raw::{RawBsonRef, RawDocument};
use mongodb::bson::{Document, RawDocumentBuf};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use crate::config;
use crate::config::Operand;
use crate::upstream::{Failure, Reply};

pub use self::condition::{Health, State};
pub use self::login::Unusable;
pub use self::response::{EVERYTHING, database_label, id_of, label};
pub use self::source::Source;

use self::filter::{Given, Query};
use self::json::Form;

/// Documents with no more octets together are written by the worker that asks, as what a thread costs
/// is more than that takes.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// What answers a route with `document`.
pub struct Documents {
    source: Arc<Source>,
    wanted: Arc<config::Document>,
    /// See [`label`].
    label: Arc<str>,
    runtime: Handle,
}

/// The documents that a server sent, in its order.
enum Found {
    /// One, if there is one.
    One(Option<RawDocumentBuf>),
    /// Those that a list shows.
    Many(Vec<RawDocumentBuf>),
}

impl Found {
    fn all(&self) -> &[RawDocumentBuf] {
        match self {
            Self::One(document) => document.as_slice(),
            Self::Many(all) => all,
        }
    }

    fn octets(&self) -> usize {
        self.all().iter().map(|document| document.as_bytes().len()).sum()
    }
}

/// A filter in which nothing comes from a request.
pub fn fixed(filter: &[(String, Operand)]) -> Document {
    filter::table(filter, &Given { captures: &[], query: "" }).unwrap_or_default()
}

/// A value as relaxed Extended JSON, for policies: a UUID is `$uuid`. None if it is damaged.
pub fn relaxed(value: RawBsonRef<'_>) -> Option<String> {
    let mut out = String::new();
    json::value(&mut out, value, Form::ForPolicies).ok()?;
    Some(out)
}

/// A document in the same form, read; none if it is damaged.
pub fn value(document: &RawDocument) -> Option<Value> {
    serde_json::from_str(&relaxed(RawBsonRef::Document(document))?).ok()
}

impl Documents {
    /// The documents that a route wants, of a source that is asked on this runtime.
    pub fn new(source: Arc<Source>, wanted: config::Document, runtime: Handle) -> Self {
        let label = label(&wanted.database, &wanted.collection).into();
        Self { source, wanted: Arc::new(wanted), label, runtime }
    }

    /// What is read: `DATABASE.COLLECTION`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Answers a request for a target. `captures` are what its path captured; `fields` may make it
    /// conditional.
    ///
    /// # Errors
    /// MongoDB is not to be reached, takes longer than `max_time`, or refuses the query.
    pub async fn answer(
        &self,
        method: &Method,
        target: Option<&PathAndQuery>,
        captures: &[(&str, &str)],
        fields: &HeaderMap,
    ) -> Result<Response<Reply>, Failure> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Ok(response::method_not_allowed());
        }
        let query = target.and_then(PathAndQuery::query).unwrap_or_default();
        let query = match filter::query(&self.wanted, &Given { captures, query }) {
            Ok(query) => query,
            Err(refused) => return Ok(response::refused(&refused)),
        };
        let (found, permit) = self.source.find(&self.wanted, query.clone(), &self.runtime).await?;
        self.written(query, found, permit, method, fields).await
    }

    /// The response that documents become. Of large ones a worker would make it for so long that all its
    /// other connections wait. They have their permit until then, so that there are not too many in memory.
    async fn written(
        &self,
        query: Query,
        found: Found,
        permit: OwnedSemaphorePermit,
        method: &Method,
        fields: &HeaderMap,
    ) -> Result<Response<Reply>, Failure> {
        if found.octets() <= WRITTEN_AT_ONCE {
            return response::of(&self.wanted, &self.label, &query, &found, method, fields);
        }
        let (wanted, label) = (Arc::clone(&self.wanted), Arc::clone(&self.label));
        let (method, fields) = (method.clone(), fields.clone());
        let writing = self.runtime.spawn_blocking(move || {
            let response = response::of(&wanted, &label, &query, &found, &method, &fields);
            drop((found, permit));
            response
        });
        writing.await.map_err(Failure::broken)?
    }
}
