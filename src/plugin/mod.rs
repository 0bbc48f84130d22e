//! Policies: sandboxed WebAssembly plugins that decide keys, storing and invalidation.
//!
//! [`Policy::load`] makes a component of what `gateway.toml` names, checks it against
//! `wit/policy.wit` and asks it once what it wants to see. After that each question gets a fresh
//! instance with a limit on time and memory, so a policy is a pure function of what it declared, and
//! answers of `key` are remembered. What a [`Failure`] leads to is the gateway's work.
//!
//! Compiling takes tens of milliseconds, so compiled code is kept on disk (`compiled`).
//!
//! `larder policy` asks the same plugins in the same way, and watches the calls (`trial`).
//!
//! A guest never holds a worker for long: what does not answer within two milliseconds moves to a
//! thread of its own (`lane`), and other requests go on.

mod bindings;
mod bundled;
mod compiled;

mod amount;
mod counters;
mod failure;
mod nesting;
mod text;
mod ticks;
mod version;

mod engine;
mod exports;
mod lane;
mod load;
mod sandbox;

mod answers;
mod explained;
mod memo;
mod policy;
mod trial;
mod values;
mod wants;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

pub use crate::config::cases::Operation;
pub use answers::{Invalidated, KeyAnswer, Parts, Scope, StoringAnswer};
pub use bundled::names as bundled_names;
pub use counters::Snapshot;
pub use engine::Engine;
pub use explained::ExplainedKey;
pub use failure::Failure;
pub use load::{About, Compiled, LoadError};
pub use policy::Policy;
pub use trial::{KeyTrial, Line, Watched};
pub use wants::Declared;

/// A request as the gateway sees it. A policy is shown the parts of it that it declared.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// As sent; `key` shows `HEAD` as `GET`.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and port as the client named them, in lower case.
    pub authority: &'a str,
    /// Percent-encoded, beginning with `/`.
    pub path: &'a str,
    /// Without the `?`; none if there is no `?`.
    pub query: Option<&'a str>,
    /// What the route's path pattern captured: names and values, in the pattern's order.
    pub captures: &'a [(&'a str, &'a str)],
    /// The request's fields.
    pub fields: &'a HeaderMap,
    /// The claims of its token; none if it has none that holds.
    pub claims: Option<&'a Value>,
    /// All of its content; none if it has none to show, or more than a policy may read.
    pub content: Option<&'a [u8]>,
}

/// A response as the gateway sees it.
#[derive(Clone, Debug)]
pub struct SeenResponse<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// All of its content, as it came; none if it is not at hand, or longer than a policy may read.
    pub content: Option<Bytes>,
    /// How long the content may be once it is decoded.
    pub longest: usize,
}

/// A change of one document.
#[derive(Clone, Debug)]
pub struct SeenChange<'a> {
    /// The name of `[mongodb.NAME]`.
    pub mongodb: &'a str,
    /// The database's name.
    pub database: &'a str,
    /// The collection's name.
    pub collection: &'a str,
    /// What was done.
    pub operation: Operation,
    /// The document's `_id` as JSON; empty for [`Operation::Drop`].
    pub id: &'a str,
    /// The document as the change left it; none if there is none, or it cannot be had any more.
    pub after: Option<Arc<Value>>,
    /// The document as it was before; none if that is not kept.
    pub before: Option<Arc<Value>>,
}

/// What the host puts before a policy's parts, besides the authority.
#[derive(Clone, Copy, Debug)]
pub struct KeySpace<'a> {
    /// `[cache] namespace`.
    pub namespace: &'a str,
    /// What stands for the route.
    pub route: &'a str,
    /// The host holds the path and the query that goes forward itself, and wants to know the policy's
    /// parts: the route forwards nothing else.
    pub forwards_keyed: bool,
}
