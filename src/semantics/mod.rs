//! RFC 9111 as functions of values: what a cache may store, what it may answer with, and why not.
//!
//! Nothing here does I/O, reads a clock, or fails: fields from the network are data, and whatever
//! they hold leads to a decision. Where a field is damaged, the decision is the one that shares
//! less. Keys, tiers and invalidation are others' work.
//!
//! In the order in which one request needs them: [`may_answer`], [`RequestDirectives`], [`Vary`],
//! [`reuse()`], [`Validators::conditions`], then [`same_representation`] and [`freshen`] for a
//! 304, [`storable`] and [`fields_to_store`], [`not_modified`] and [`keep_in_304`],
//! [`CacheStatus`]; and [`invalidates`] with [`invalidated_targets`] for a method that is not safe.
//!
//! # Not supported
//!
//! - Ranges: a request with `Range` or `If-Range` is forwarded, and a 206 is not stored (§3.3).
//! - `If-Match`, `If-Unmodified-Since`, `Upgrade`: forwarded; they are for the origin.
//! - `stale-while-revalidate`, `stale-if-error` (RFC 5861), targeted fields (RFC 9213), groups
//!   (RFC 9875), `No-Vary-Search`.
//! - Methods other than `GET` are not stored, and only `GET` and `HEAD` are answered.
//! - `must-understand` does not lift a `no-store` beside it (§5.2.2.3 says that it should): whoever
//!   writes `no-store` is taken at that word.
//! - A response with `Set-Cookie` is not stored, though RFC 9111 §7.3 would allow it.
//! - `no-transform` needs nothing: content is never transformed.

pub mod cache_control;
pub mod date;
pub mod freshness;
pub mod invalidation;
pub mod reuse;
pub mod status;
pub mod storing;
pub mod validation;
pub mod vary;

pub use cache_control::{RequestDirectives, ResponseDirectives};
pub use freshness::{Freshness, Times};
pub use invalidation::{invalidated_targets, invalidates};
pub use reuse::{Reuse, may_answer, reuse};
pub use status::{CacheStatus, Forward};
pub use storing::{Asked, NotStored, Rules, fields_to_store, storable};
pub use validation::{Validators, freshen, keep_in_304, not_modified, same_representation};
pub use vary::{Vary, nominated_value};

#[cfg(test)]
mod tests;
