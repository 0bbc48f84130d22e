//! Heads of stored responses, ready to be sent.
//!
//! A stored response keeps its fields in little memory. To make a `HeaderMap` of them takes a third
//! of the work of a hit, to clone one a fifth of that; so each worker keeps the maps of some responses
//! that it has sent lately, which costs a map each and no response more memory than it needs.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use http::header::AGE;
use http::{HeaderMap, HeaderValue};

use crate::semantics::status::CACHE_STATUS;
use crate::stored::StoredResponse;

/// How many maps a worker keeps: some 600 KiB of them.
const SLOTS: usize = 512;

thread_local! {
    static READY: RefCell<Vec<Slot>> = RefCell::new((0..SLOTS).map(|_| Slot::default()).collect());
}

/// Responses find their slot by their address.
#[derive(Default)]
struct Slot {
    /// Which response was asked for last. Twice in a row earns it the slot, so that a run of
    /// responses that are asked for once leaves the others in place.
    asked: usize,
    /// A weak reference keeps the address from being used again, and none of the content.
    ready: Option<(Weak<StoredResponse>, HeaderMap)>,
}

/// The response's fields, with places for `Age` and `Cache-Status`.
pub(super) fn head(stored: &Arc<StoredResponse>) -> HeaderMap {
    let address = Arc::as_ptr(stored).addr();
    READY.with_borrow_mut(|slots| {
        // The lowest bits are the same in all addresses.
        let Some(slot) = slots.get_mut((address >> 6) % SLOTS) else { return build(stored) };
        if let Some((owner, fields)) = &slot.ready
            && std::ptr::eq(owner.as_ptr(), Arc::as_ptr(stored))
        {
            return fields.clone();
        }
        let fields = build(stored);
        if slot.asked == address {
            slot.ready = Some((Arc::downgrade(stored), fields.clone()));
        }
        slot.asked = address;
        fields
    })
}

/// The same without keeping anything.
pub(super) fn build(stored: &StoredResponse) -> HeaderMap {
    let mut fields = stored.fields.to_map(2);
    fields.insert(AGE, HeaderValue::from_static("0"));
    if !fields.contains_key(CACHE_STATUS) {
        fields.insert(CACHE_STATUS, HeaderValue::from_static(""));
    }
    fields
}
