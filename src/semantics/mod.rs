//! RFC 9111 as functions of values: what a cache may store, what it may answer with, and why not.
//!
//! Nothing here does I/O, reads a clock, or fails: fields from the network are data, and whatever
//! they hold leads to a decision. Where a field is damaged, the decision is the one that shares
//! less. Keys, tiers and invalidation are others' work.
//!
//! In the order in which one request needs them: [`may_answer`], [`RequestDirectives`], [`Vary`],
//! [`NoVarySearch`], [`Preferred`], [`reuse()`], [`reuse_in_trouble`], [`stands_in`], [`kept_query`], [`joined_query`] and
//! [`kept_fields`],
//! [`Candidates`], then [`freshen`] for a 304, [`matches_head`] for a response to `HEAD`,
//! [`part_to_store`] and [`combine`] for a 206, [`whole_to_store`] and [`beginning_to_store`] for what
//! broke off,
//! [`storable`], [`Tags`] and [`fields_to_store`], [`not_modified`] and [`keep_in_304`], [`select`] and
//! [`multipart()`] for a request with `Range`, [`CacheStatus`]; [`lifetime`] and the reasons in words for who explains; and [`invalidates`] with
//! [`invalidated_targets`] and [`invalidated_groups`] for a method that is not safe, [`answers_get`] for
//! `POST`, [`json_coding`] where a policy wants values of a content; [`compression`] where a route has its
//! responses compressed. [`Told`] is for who asks a Larder: what
//! its `Cache-Status` says.
//!
//! # Not supported
//!
//! - A 206 of several parts is not stored (§3.3).
//! - Of a response that broke off nothing is kept where its length or a strong validator is missing.
//! - Range units other than `bytes`: the field is ignored, as RFC 9110 §14.2 wants it.
//! - `If-Match`, `If-Unmodified-Since`: forwarded; they are for the origin.
//! - `No-Vary-Search` from a response that is not stored, or of more than 64 names.
//! - A group is invalidated by what names it, and not because one of its responses is (RFC 9875
//!   §2.2.1 leaves that to the cache).
//! - Only `GET`, `HEAD` and `QUERY` are answered, the latter from responses to a `QUERY` with the same
//!   content, octet by octet: it is not normalised (RFC 10008 §2.7). `No-Vary-Search` does not reach
//!   them. Of other methods the response to a `POST` is stored for `GET` where it says that it may be
//!   (RFC 9110 §9.3.3), if it is a 200; and for the same `POST` where [`Grants`] say so.
//! - A response with `Set-Cookie` is not stored, though RFC 9111 §7.3 would allow it, unless [`Grants`]
//!   say so; and then without it.
//! - A coding is never taken off: content that comes in one is passed on in it. Parts are of the content
//!   as it is stored, and not of a coded form of it.
//! - A stream of events (`text/event-stream`) is not stored, whatever it says.

pub mod cache_control;
pub mod candidates;
pub mod compression;
pub mod content;
pub mod date;
pub mod forwarding;
pub mod freshness;
pub mod invalidation;
pub mod multipart;
mod negotiation;
pub mod no_vary_search;
pub mod open;
pub mod post;
pub mod ranges;
mod reasons;
pub mod reuse;
pub mod spans;
pub mod status;
pub mod storing;
pub mod tags;
pub mod targeted;
pub mod told;
pub mod understood;
pub mod validation;
pub mod vary;

pub use cache_control::{RequestDirectives, ResponseDirectives, is_directives};
pub use candidates::{Candidates, Named};
pub use compression::{Coding, Compression, Uncoded};
pub use content::{JsonCoding, json_coding};
pub use forwarding::{Kept, Rewritten, joined_query, kept_fields, kept_nominated, kept_query};
pub use freshness::{Freshness, Lifetime, LifetimeRule, Times};
pub use invalidation::{invalidated_targets, invalidates, normal_target};
pub use multipart::{Multipart, multipart};
pub use no_vary_search::NoVarySearch;
pub use open::OF_NOBODY;
pub use post::{Posted, answers_get};
pub use ranges::{Span, Wanted, asks_for_part, is_range, select};
pub use reuse::{
    Reuse, Trouble, bypassing, may_answer, may_ask_by_post, may_bypass, reuse, reuse_in_trouble,
    stands_in,
};
pub use spans::{
    Combined, Spans, beginning_to_store, combine, combined_fields, fields_of_part, may_combine,
    may_replace, part_to_store, whole_to_store,
};
pub use status::{CACHE_STATUS, CacheStatus, Forward, Said};
pub use storing::{
    Asked, Authorized, Grants, NotStored, Rules, fields_to_store, is_spoilt, lifetime, names_user,
    storable, supersedes,
};
pub use tags::{Tags, invalidated_groups, remove_surrogate_tags};
pub use told::Told;
pub use understood::{Chosen, Preferred};
pub use validation::{
    Validators, freshen, is_condition, keep_in_304, matches_head, not_modified, same_representation,
};
pub use vary::{Vary, nominated_value};

#[cfg(test)]
mod tests;
