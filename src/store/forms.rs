//! Coded forms of contents, kept in L1 beside what they are forms of.
//!
//! Each lies under a key that no other content's form has ([`Original`]). So it is found only by way of
//! the response that it is a form of, and never when that was invalidated, evicted, or replaced; what it
//! takes comes back by its lifetime, and counts until then as all that L1 has.
//!
//! [`Original`]: crate::stored::Original

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::store::Store;
use crate::store::l1::Held;
use crate::stored::CacheKey;

/// What a content is in a coding.
#[derive(Clone, Debug)]
pub enum Form {
    /// These octets.
    Shorter(Bytes),
    /// No shorter than it is, so that it is not worth sending.
    NoShorter,
}

impl Form {
    /// Of a content of so many octets.
    pub fn new(octets: Bytes, length: u64) -> Self {
        if (octets.len() as u64) < length { Self::Shorter(octets) } else { Self::NoShorter }
    }

    /// In memory, besides what each entry takes.
    pub(super) fn octets(&self) -> usize {
        match self {
            Self::Shorter(octets) => octets.len(),
            Self::NoShorter => 0,
        }
    }
}

impl Store {
    /// The form that lies under this key.
    pub fn form(&self, key: &CacheKey, now: SystemTime) -> Option<Form> {
        match self.l1.as_ref()?.look(key, now)? {
            Held::Form(form) => Some(form),
            Held::Response(_) | Held::Variants(_) | Held::Rules(_) => None,
        }
    }

    /// Keeps a form, if there is an L1 and it has room for it. The octets should be a buffer of their
    /// own.
    pub fn keep_form(&self, key: CacheKey, form: Form, now: SystemTime) {
        if let Some(l1) = &self.l1 {
            l1.insert(key, Held::Form(form), now, Duration::MAX);
        }
    }
}
