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

use crate::octets;
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
    /// The head as it is sent, once it has been. None: it is to be made anew.
    octets: Option<Box<[u8]>>,
}

impl Ready {
    /// The same with another `Age` and `Cache-Status`.
    fn refresh(&mut self, age: u64, ttl: i64) {
        self.fields.insert(AGE, age.into());
        CacheStatus::hit(ttl).write_over(&mut self.fields);
        (self.age, self.ttl, self.octets) = (age, ttl, None);
    }
}

/// All fields of a hit.
pub(super) fn head(
    stored: &Arc<StoredResponse>,
    age: Duration,
    ttl: i64,
    shape: &Shape<'_>,
) -> HeaderMap {
    find(stored, age, ttl, shape, |found| match found {
        Found::Kept(ready) => ready.fields.clone(),
        Found::Built(fields) => fields,
    })
}

/// Writes the head of a hit that is sent as it is stored; see [`octets::head`].
pub(super) fn write(
    stored: &Arc<StoredResponse>,
    age: Duration,
    ttl: i64,
    head: &mut Vec<u8>,
) -> Option<()> {
    let (status, length) = (stored.status, stored.body.len());
    find(stored, age, ttl, &Shape::Only, |found| match found {
        Found::Kept(Ready { octets: Some(octets), .. }) => {
            head.extend_from_slice(octets);
            Some(())
        }
        Found::Kept(ready) => {
            octets::head(head, status, &ready.fields, length)?;
            ready.octets = Some(head.as_slice().into());
            Some(())
        }
        Found::Built(fields) => octets::head(head, status, &fields, length),
    })
}

/// The fields of a hit.
enum Found<'a> {
    Kept(&'a mut Ready),
    Built(HeaderMap),
}

fn find<T>(
    stored: &Arc<StoredResponse>,
    age: Duration,
    ttl: i64,
    shape: &Shape<'_>,
    then: impl FnOnce(Found<'_>) -> T,
) -> T {
    let (address, number) = (Arc::as_ptr(stored).addr(), shape.number());
    let asked = address ^ number;
    let age = age.as_secs();
    let status = CacheStatus::hit(ttl);
    READY.with_borrow_mut(|slots| {
        // The lowest bits are the same in all addresses.
        let Some(slot) = slots.get_mut(((address >> 6) ^ number) % SLOTS) else {
            return then(Found::Built(build(&stored.fields, age, &status, shape)));
        };
        if let Some(ready) = &mut slot.ready
            && std::ptr::eq(ready.owner.as_ptr(), Arc::as_ptr(stored))
            && ready.shape == number
        {
            if (ready.age, ready.ttl) != (age, ttl) {
                ready.refresh(age, ttl);
            }
            return then(Found::Kept(ready));
        }
        if slot.asked != asked {
            slot.asked = asked;
            return then(Found::Built(build(&stored.fields, age, &status, shape)));
        }
        let fields = build(&stored.fields.copied(), age, &status, shape);
        let owner = Arc::downgrade(stored);
        let ready = Ready { owner, shape: number, fields, age, ttl, octets: None };
        then(Found::Kept(slot.ready.insert(ready)))
    })
}

/// All fields of a response with this outcome, without keeping anything.
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
