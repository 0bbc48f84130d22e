//! A hit of which nothing is changed: all of a stored response, as it is.
//!
//! Most hits are. Whoever sends one makes a response of it, or writes its octets, for which there need be no
//! response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::access_log::{Entry, Notes};
use crate::body::Body;
use crate::semantics::Said;
use crate::stats::{Outcome, Outcomes};
use crate::stored::StoredResponse;

use super::coded::Shape;
use super::key::Key;
use super::measure::mark;
use super::{Answer, Presented, ready, respond};

/// A stored response on its way out.
pub(super) struct Hit {
    stored: Arc<StoredResponse>,
    age: Duration,
    ttl: i64,
    is_counted: bool,
    /// Where its name is to be noted, as that of the request's key, unless the log is given it at once.
    unnamed: Option<Arc<Notes>>,
    /// What is told of it when it has gone out.
    entry: Option<Box<Entry>>,
}

/// The answer out of L1, by a stored response that may be served.
pub(super) fn answer(
    presented: &mut Presented,
    key: &Key,
    stored: Arc<StoredResponse>,
    age: Duration,
    ttl: i64,
) -> Answer {
    let is_as_stored = presented.head.method == Method::GET
        && !presented.notable.conditions
        && !presented.notable.range
        && presented.coder.is_none()
        && stored.part.is_none();
    if !is_as_stored {
        key.note(presented);
        return Answer::now(mark(respond::hit(presented, &stored, age, ttl), Outcome::HitL1));
    }
    let unnamed = match presented.peer.notes.take() {
        Some(notes) if !key.is_named(&stored.name, presented) => {
            notes.key(key.name(presented).into());
            None
        }
        notes => notes,
    };
    Answer::hit(Hit { stored, age, ttl, is_counted: false, unnamed, entry: None })
}

impl Hit {
    pub(super) fn status(&self) -> StatusCode {
        self.stored.status
    }

    /// How long its content is.
    fn length(&self) -> u64 {
        self.stored.body.len() as u64
    }

    /// This cache's item in its `Cache-Status`.
    pub(super) fn cache_status(&self) -> Said {
        Said::Hit(self.ttl)
    }

    /// It has been counted, with its content, which is at hand. The entry for the access log ends when that goes out.
    pub(super) fn counted(&mut self, outcomes: &Outcomes, entry: Option<Box<Entry>>) {
        outcomes.sent(self.length());
        (self.is_counted, self.entry) = (true, entry);
    }

    /// The response, which says what it came to, if that has not been counted.
    pub(super) fn render(self) -> Response<Body> {
        if let Some(notes) = self.unnamed {
            notes.key(self.stored.name.to_string());
        }
        let fields = ready::head(&self.stored, self.age, self.ttl, &Shape::Only);
        let content = Body::Whole(self.stored.body.clone());
        let mut response = respond::assemble(self.stored.status, fields, content);
        if !self.is_counted {
            response = mark(response, Outcome::HitL1);
        }
        if let Some(entry) = self.entry {
            response.body_mut().count_with(None, Some(entry));
        }
        response
    }

    /// Writes its head, and answers its content, which is on its way out then. None: it is to be rendered.
    pub(super) fn write(&mut self, head: &mut Vec<u8>) -> Option<Bytes> {
        ready::write(&self.stored, self.age, self.ttl, head)?;
        if let Some(mut entry) = self.entry.take() {
            entry.end_at_once(self.length(), &self.stored.name);
        }
        Some(self.stored.body.clone())
    }
}
