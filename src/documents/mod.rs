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

use crate::config;
use crate::config::{Json, Operand};
use crate::upstream::{Failure, Reply};

pub use self::condition::{Health, State};
pub use self::login::Unusable;
pub use self::response::{EVERYTHING, database_label, id_of, label};
pub use self::source::Source;

use self::filter::Given;

/// What answers a route with `document`.
pub struct Documents {
    source: Arc<Source>,
    wanted: config::Document,
    /// See [`label`].
    label: Box<str>,
    runtime: Handle,
}

/// The documents that a server sent, in its order.
enum Found {
    /// One, if there is one.
    One(Option<RawDocumentBuf>),
    /// Those that a list shows.
    Many(Vec<RawDocumentBuf>),
}

/// A filter in which nothing comes from a request.
pub fn fixed(filter: &[(String, Operand)]) -> Document {
    filter::table(filter, &Given { captures: &[], query: "" }).unwrap_or_default()
}

/// A value as relaxed Extended JSON; none if it is damaged.
pub fn relaxed(value: RawBsonRef<'_>) -> Option<String> {
    let mut out = String::new();
    json::value(&mut out, value, Json::Relaxed).ok()?;
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
        Self { source, wanted, label, runtime }
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
        let found = self.source.find(&self.wanted, query.clone(), &self.runtime).await?;
        response::of(&self.wanted, &self.label, &query, &found, method, fields)
    }
}
