//! Heads of stored responses, ready to be sent.
//!
//! A stored response keeps its fields in little memory. To make a `HeaderMap` of them takes a third
//! of the work of a hit, to clone one a fifth of that; so each worker keeps the maps of some responses
//! that it has sent lately, which costs a map each and no response more memory than it needs. They
//! hold `Age` and `Cache-Status` too, which change once a second.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderMap;
use http::header::AGE;

use crate::semantics;
use crate::semantics::CacheStatus;
use crate::stored::{Fields, StoredResponse};

use super::coded::Shape;

/// How many maps a worker keeps: some 800 KiB of them.
const SLOTS: usize = 512;

thread_local! {
    static READY: RefCell<Vec<Slot>> = RefCell::new((0..SLOTS).map(|_| Slot::default()).collect());
}

/// Responses find their slot by their address.
#[derive(Default)]
struct Slot {
    /// Which response, in which shape, was asked for last. Twice in a row earns it the slot, so that a run of
    /// responses that are asked for once leaves the others in place.
    asked: usize,
    ready: Option<Ready>,
}

/// The head that answered a hit last.
struct Ready {
    /// A weak reference keeps the address from being used again, and none of the content.
    owner: Weak<StoredResponse>,
    /// Of what it was sent as.
    shape: usize,
    /// In memory of its own: to clone a value counts a reference, and workers that count those to the
    /// same memory wait for one another.
    fields: HeaderMap,
    /// In seconds, as `Age` and `Cache-Status` in `fields` say.
    age: u64,
    ttl: i64,
}

impl Ready {
    /// The same with another `Age` and `Cache-Status`.
    fn refresh(&mut self, age: u64, ttl: i64) {
        self.fields.insert(AGE, age.into());
        CacheStatus::hit(ttl).write_over(&mut self.fields);
        (self.age, self.ttl) = (age, ttl);
    }
}

/// All fields of a hit.
pub(super) fn head(
    stored: &Arc<StoredResponse>,
    age: Duration,
    ttl: i64,
    shape: &Shape<'_>,
) -> HeaderMap {
    let (address, number) = (Arc::as_ptr(stored).addr(), shape.number());
    let asked = address ^ number;
    let age = age.as_secs();
    READY.with_borrow_mut(|slots| {
        // The lowest bits are the same in all addresses.
        let Some(slot) = slots.get_mut(((address >> 6) ^ number) % SLOTS) else {
            return build(&stored.fields, age, &CacheStatus::hit(ttl), shape);
        };
        if let Some(ready) = &mut slot.ready
            && std::ptr::eq(ready.owner.as_ptr(), Arc::as_ptr(stored))
            && ready.shape == number
        {
            if (ready.age, ready.ttl) != (age, ttl) {
                ready.refresh(age, ttl);
            }
            return ready.fields.clone();
        }
        if slot.asked != asked {
            slot.asked = asked;
            return build(&stored.fields, age, &CacheStatus::hit(ttl), shape);
        }
        let own = stored.fields.copied();
        let fields = build(&own, age, &CacheStatus::hit(ttl), shape);
        let owner = Arc::downgrade(stored);
        slot.ready = Some(Ready { owner, shape: number, fields: fields.clone(), age, ttl });
        fields
    })
}

/// The same without keeping anything, and for any outcome.
pub(super) fn build(
    stored: &Fields,
    age: u64,
    status: &CacheStatus,
    shape: &Shape<'_>,
) -> HeaderMap {
    let mut fields = stored.to_map(2);
    // Stored, since a 304 need not repeat them; and not for clients.
    semantics::remove_surrogate_tags(&mut fields);
    shape.change(&mut fields);
    fields.insert(AGE, age.into());
    status.write_to(&mut fields);
    fields
}
