//! Which way a request goes, decided before anything is done with it.

use http::{Method, Response};
use hyper::body::Body as _;

use crate::body::Body;
use crate::semantics::{self, Forward};
use crate::upstream::Arriving;

use super::{Gateway, Presented};

/// What is known of a request's content before any of it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// It has so many octets or more.
    pub(super) at_least: u64,
    /// There is none.
    pub(super) is_none: bool,
}

impl Announced {
    pub(super) fn of(content: &Arriving) -> Self {
        Self { at_least: content.size_hint().lower(), is_none: content.is_end_stream() }
    }
}

/// Which way a request goes.
pub(super) enum Course {
    /// No stored response is looked for: this is the answer.
    Refuse(Box<Response<Body>>),
    /// To the upstream, which is asked for this protocol.
    Switch(Box<str>),
    /// It is a `POST` that may be a read: the route's policy says so when it has seen the content.
    AskByPost,
    /// It purges its target, softly or not.
    Purge(bool),
    /// To the upstream, past the cache.
    Pass(Forward),
    /// To the cache, once its content has been read.
    Query,
    /// To the cache.
    Cache,
}

impl Gateway {
    /// Which way a request goes that its route takes.
    pub(super) fn course(&self, presented: &Presented, content: Announced) -> Course {
        if let Some(refusal) = self.refusal(presented, content) {
            return Course::Refuse(Box::new(refusal));
        }
        if let Some(protocol) = self.asked_protocol(presented, content) {
            return Course::Switch(protocol);
        }
        if self.may_ask_by_post(presented) {
            return Course::AskByPost;
        }
        if let Err(why) = self.may_answer(presented, content) {
            return self.is_purge(presented).map_or(Course::Pass(why), Course::Purge);
        }
        if presented.head.method == Method::QUERY { Course::Query } else { Course::Cache }
    }

    /// Whether a stored response may answer at all.
    fn may_answer(&self, presented: &Presented, content: Announced) -> Result<(), Forward> {
        let Presented { head, notable, .. } = presented;
        let is_plain = matches!(head.method, Method::GET | Method::HEAD) && !notable.bypassing;
        if !is_plain {
            semantics::may_answer(&head.method, &head.headers)?;
        }
        let is_plain_proxy = !self.store.has_l1() && !self.store.has_l2();
        // HTTP/2 may bring content that no field has announced.
        let has_content = !content.is_none && head.method != Method::QUERY;
        if is_plain_proxy || has_content { Err(Forward::Bypass) } else { Ok(()) }
    }
}
