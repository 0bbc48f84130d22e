//! What comes of a fetch, as those who wait for it are told.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, StatusCode};

use crate::semantics::Freshness;
use crate::stored::{CacheKey, Original, StoredResponse};
use crate::upstream::Failure;

/// What came of a fetch.
#[derive(Clone)]
pub enum Outcome {
    /// A response that may be shared with requests that match it; its content follows.
    Shared(Arc<Head>),
    /// A stored response was validated, and is good for requests that match it.
    Validated(Arc<Validated>),
    /// A response that another gateway has fetched, good for requests that match it.
    Elsewhere(Arc<Elsewhere>),
    /// The response is for the leader alone.
    Apart,
    /// The response is for the leader alone, and tells of an upstream in trouble, a status of 500 or
    /// above, or of what the leader sent.
    Trouble(StatusCode),
    /// Nothing was sent: each request is to go forward by itself.
    Unsent,
    /// There was no response.
    Failed(Failure),
    /// The fetch ended without a word: its task was lost.
    Lost,
}

/// The head of a response on its way into the store.
pub struct Head {
    /// Of the response.
    pub status: StatusCode,
    /// As received: 206 where the response is completed by what came.
    pub forward_status: StatusCode,
    /// End-to-end fields for the leader's client.
    pub fields: HeaderMap,
    /// End-to-end fields for everyone else: without those that the response keeps for one user.
    pub shared_fields: HeaderMap,
    /// Octets of content, where the upstream said it.
    pub length: Option<u64>,
    /// What coded forms of the content are found by.
    pub original: Original,
    /// Its age and lifetime.
    pub freshness: Freshness,
    /// Which requests it answers.
    pub variant: Variant,
}

/// A stored response that the upstream has just said is still good.
pub struct Validated {
    /// Freshened by the 304.
    pub stored: Arc<StoredResponse>,
    /// The store has taken it.
    pub kept: bool,
    /// Which requests it answers.
    pub variant: Variant,
}

/// A response that another gateway has fetched meanwhile, and that lies in L2.
pub struct Elsewhere {
    /// As it lies there.
    pub stored: Arc<StoredResponse>,
    /// False: it may have been invalidated, and its route serves what may.
    pub confirmed: bool,
    /// Which requests it answers.
    pub variant: Variant,
}

/// Which requests a response answers (RFC 9111 §4.1): those whose nominated fields give this key.
pub struct Variant {
    /// The fields that `Vary` names.
    pub nominated: Vec<HeaderName>,
    /// The key of the request that fetched it, with its values of these fields.
    pub key: CacheKey,
}

/// For how long it has been known that responses for a key cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// So short that it need not be said again.
    Lately,
    /// It will be forgotten soon.
    Before,
}

/// The content broke off, or this reader was too slow and held up the others.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the content broke off")]
pub struct Broken;
