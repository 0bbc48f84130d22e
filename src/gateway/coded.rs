//! Responses in a coding that the client prefers, on routes that say `compress`.
//!
//! Stored is the content as it is, one for all clients: such a route asks its upstream for no coding
//! (`Accept-Encoding: identity`), and what that has nevertheless coded is passed on and stored as it came.
//! A coded form is made when it is wanted first, once for all who want it meanwhile and afterwards: out of
//! what is stored, or of what is being fetched, in which case it goes to its readers as it comes, and is
//! kept when it is whole. It lies in L1 beside its original, found by way of that alone. What is for one
//! client only is coded for that client.
//!
//! Whether, and in which coding, is `semantics`' to say. `making` makes the forms that are read while they
//! are made.

mod making;

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, IF_NONE_MATCH, IF_RANGE, RANGE, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::body::{Body, Encoded};
use crate::collapse::{Collapse, Head, Seat, Turn};
use crate::config::{self, Config, Route};
use crate::encoder::{self, Encoder};
use crate::recent::{self, Recent};
use crate::semantics::compression;
use crate::semantics::{Coding, Compression, RequestDirectives};
use crate::stats::RouteStats;
use crate::store::Form;
use crate::stored::{CacheKey, StoredResponse};
use crate::upstream::Reply;

use self::making::Making;
use super::fetch::length;
use super::{Gateway, Lasting, respond};

/// A content that is not longer is coded at once, before the response begins: a millisecond's work.
const AT_ONCE: usize = 16 * 1024;

/// The encoders of contents that are coming in take so many KiB, all together. Further contents are sent
/// as they are.
const MOST_COMING: usize = 512 * 1024;

/// So many stored contents are coded at a time. Further ones wait.
const MOST_STORED: usize = 8;

thread_local! {
    /// What `Accept-Encoding` comes to.
    static CHOSEN: RefCell<Recent<Option<Coding>>> = RefCell::default();

    static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What all routes have in common that compress.
#[derive(Clone)]
pub(super) struct Workshop {
    /// The forms that are being made, by the keys under which they will lie.
    making: Arc<Collapse>,
    /// Of the encoders of what is coming in, in KiB.
    room: Arc<Semaphore>,
    stored: Arc<Semaphore>,
}

impl Default for Workshop {
    fn default() -> Self {
        Self {
            making: Collapse::new(),
            room: Arc::new(Semaphore::new(MOST_COMING)),
            stored: Arc::new(Semaphore::new(MOST_STORED)),
        }
    }
}

/// How a route's responses are compressed.
pub(super) struct Compressing {
    rules: Compression,
    /// Tells the rules from others.
    number: u64,
    /// A form that is longer is not kept.
    max_body: usize,
    /// A reader who takes nothing for so long while others wait is given up. That is sooner than a form
    /// that waits for its readers would be, by those who read the content as it is.
    patience: Duration,
    stats: Arc<RouteStats>,
    lasting: Lasting,
}

/// What a request makes of it.
#[derive(Clone)]
pub(super) struct Coder {
    route: Arc<Compressing>,
    /// The one that its client prefers to the content as it is.
    coding: Option<Coding>,
    is_head: bool,
    /// What it asks about its own copy.
    conditions: HeaderMap,
}

/// As what a client is sent a stored response.
pub(super) enum Shape<'a> {
    /// As it is, whatever is accepted.
    Only,
    /// As it is, and who accepts something else may get another.
    Uncoded,
    /// In a coding. There are no octets if they are still to be made.
    Coded(&'a Coder, Coding, Option<Bytes>),
}

/// A response on its way in, in a coding.
pub(super) struct Coming {
    coding: Coding,
    permit: OwnedSemaphorePermit,
}

impl Gateway {
    /// What this request makes of its route's `compress`.
    ///
    /// A condition that holds for any form of a content is left out, with the `Range` that it is for:
    /// what the client holds may be a part of a coded form.
    pub(super) fn coder(
        &self,
        place: usize,
        head: &mut Parts,
        directives: &RequestDirectives,
    ) -> Option<Box<Coder>> {
        let route = self.plans.get(place)?.onward.compressing.as_ref()?;
        if compression::is_of_any_form(&head.headers) {
            head.headers.remove(IF_RANGE);
            head.headers.remove(RANGE);
        }
        let asked = head.headers.get_all(IF_NONE_MATCH).iter();
        Some(Box::new(Coder {
            route: Arc::clone(route),
            // RFC 9111 §5.2.1.6: "the client is asking for intermediaries to avoid transforming the
            // content".
            coding: (!directives.no_transform).then(|| route.chosen(head)).flatten(),
            is_head: head.method == Method::HEAD,
            conditions: asked.map(|line| (IF_NONE_MATCH, line.clone())).collect(),
        }))
    }
}

impl Compressing {
    pub(super) fn of(
        config: &Config,
        route: &Route,
        patience: Duration,
        lasting: &Lasting,
    ) -> Option<Arc<Self>> {
        let config::Compress { codings, types, min_length } = route.compress.as_ref()?;
        let rules = Compression {
            codings: codings.iter().copied().map(coding).collect(),
            types: types.iter().map(|it| it.as_str().into()).collect(),
            min_length: *min_length,
            targets: config.cache.targeted.clone(),
        };
        Some(Arc::new(Self {
            number: recent::hash(format!("{rules:?}").as_bytes()),
            rules,
            max_body: route.max_body,
            patience: patience / 2,
            stats: lasting.stats.route(&route.name),
            lasting: lasting.clone(),
        }))
    }

    /// What is set instead of what a client accepts, whatever else a route sets.
    pub(super) fn ask(fields: &mut HeaderMap) {
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }

    /// Whether what a client sends in this field makes no difference to the upstream.
    pub(super) fn hides(name: &HeaderName) -> bool {
        *name == ACCEPT_ENCODING
    }

    /// To look an answer up is less work than to read the field.
    fn chosen(&self, head: &Parts) -> Option<Coding> {
        let Parts { method, headers, .. } = head;
        let choose = || compression::chosen(&self.rules.codings, method, headers);
        let mut lines = headers.get_all(ACCEPT_ENCODING).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return choose() };
        if headers.contains_key(RANGE) {
            return choose();
        }
        PACKED.with_borrow_mut(|packed| {
            packed.clear();
            packed.extend_from_slice(&self.number.to_le_bytes());
            packed.extend_from_slice(line.as_bytes());
            let choose = |_| Ok::<_, Infallible>(choose());
            let Ok(chosen) = CHOSEN.with_borrow_mut(|recent| recent.get_or(packed, choose));
            // One extraordinary request must not hold memory for good.
            packed.shrink_to(4096);
            chosen
        })
    }

    fn form(&self, key: &CacheKey) -> Option<Form> {
        self.lasting.store.form(key, self.lasting.clock.now())
    }

    fn keep(&self, key: CacheKey, form: Form) {
        self.lasting.store.keep_form(key, form, self.lasting.clock.now());
    }

    /// The form of a short content, made here and now.
    fn made(&self, key: CacheKey, coding: Coding, content: &Bytes) -> Form {
        self.stats.compressed.count();
        let made = encoder::encode(coding, content).inspect_err(warn_of);
        let form = made.map_or(Form::NoShorter, |octets| Form::new(octets, content.len() as u64));
        self.keep(key, form.clone());
        form
    }

    /// A place among those who read a form that is being made, or is to be made from now on.
    fn read(self: &Arc<Self>, key: CacheKey, coding: Coding, make: impl FnOnce(Making)) -> Seat {
        match self.lasting.workshop.making.enter(key, 0) {
            Turn::Follower(seat) => seat,
            Turn::Leader(lead, seat) => {
                let route = Arc::clone(self);
                make(Making::new(route, coding, lead));
                seat
            }
        }
    }
}

fn coding(coding: config::Coding) -> Coding {
    match coding {
        config::Coding::Zstd => Coding::Zstd,
        config::Coding::Brotli => Coding::Brotli,
        config::Coding::Gzip => Coding::Gzip,
    }
}

impl<'a> Shape<'a> {
    /// That of this response, for the request with this coder.
    pub(super) fn of(coder: Option<&'a Coder>, stored: &StoredResponse) -> Self {
        coder.map_or(Self::Only, |coder| coder.shape(stored))
    }

    /// Tells it from the others, below 64.
    pub(super) fn number(&self) -> usize {
        match self {
            Self::Only => 0,
            Self::Uncoded => 1,
            Self::Coded(_, coding, _) => 2 + *coding as usize,
        }
    }

    /// Makes of a stored response's fields those that it is sent with so.
    pub(super) fn change(&self, fields: &mut HeaderMap) {
        if !matches!(self, Self::Only) {
            compression::vary_by_coding(fields);
        }
        if let Self::Coded(_, coding, _) = self {
            compression::code_fields(fields, *coding);
        }
    }
}

impl Coder {
    /// Nothing of the response's fields is read again where it was judged by the same rules before.
    fn shape(&self, stored: &StoredResponse) -> Shape<'_> {
        let Self { route, coding, .. } = self;
        let Some(content) = stored.whole() else { return Shape::Only };
        let may_code = || {
            let (fields, length) = (stored.fields.to_map(0), content.len() as u64);
            compression::may_code(&route.rules, stored.status, &fields, Some(length)).is_ok()
        };
        if !stored.original.judged(route.number, may_code) {
            return Shape::Only;
        }
        let Some(coding) = *coding else { return Shape::Uncoded };
        let key = stored.original.form(coding);
        let form = match route.form(&key) {
            Some(form) => form,
            None if content.len() <= AT_ONCE => route.made(key, coding, content),
            None => return Shape::Coded(self, coding, None),
        };
        match form {
            Form::Shorter(octets) => Shape::Coded(self, coding, Some(octets)),
            Form::NoShorter => Shape::Uncoded,
        }
    }

    /// The content of a stored response in this coding.
    pub(super) fn content(
        &self,
        coding: Coding,
        form: Option<Bytes>,
        stored: &StoredResponse,
        fields: &mut HeaderMap,
    ) -> Body {
        let route = &self.route;
        if self.is_head {
            // RFC 9110 §8.6: it may be left out where it is not known yet.
            if let Some(form) = form {
                fields.insert(CONTENT_LENGTH, form.len().into());
            }
            return Body::empty();
        }
        if let Some(form) = form {
            return Body::Whole(form);
        }
        let (key, content) = (stored.original.form(coding), stored.body.clone());
        let tasks = &route.lasting.tasks;
        let seat = route.read(key, coding, |making| {
            tasks.spawn(making.of_stored(content));
        });
        Body::Shared { seat, length: None }
    }

    /// Makes of the fields of a response that is shared as it comes what this client is to get.
    pub(super) fn of_stream(&self, head: &Head, fields: &mut HeaderMap) -> Option<Coming> {
        let coming = self.coming(head.status, fields, head.length)?;
        compression::code_fields(fields, coming.coding);
        Some(coming)
    }

    /// The content of such a response in its coding.
    pub(super) fn shared(&self, coming: Coming, head: &Head, seat: Seat) -> Body {
        let Coming { coding, permit } = coming;
        let (length, tasks) = (head.length, &self.route.lasting.tasks);
        let source = Body::Shared { seat, length };
        let seat = self.route.read(head.original.form(coding), coding, |making| {
            match Encoder::new(coding, length) {
                Ok(encoder) => {
                    let content = Encoded::new(source, encoder, length, permit);
                    tasks.spawn(making.of_stream(content));
                }
                // Nobody is told anything but that it broke off.
                Err(error) => warn_of(&error),
            }
        });
        Body::Shared { seat, length: None }
    }

    /// A response for this client alone, in the coding that it prefers.
    pub(super) fn passing(
        &self,
        status: StatusCode,
        mut fields: HeaderMap,
        reply: Reply,
    ) -> Response<Body> {
        if status == StatusCode::NOT_MODIFIED {
            compression::match_tag_of_304(&self.conditions, &mut fields);
            // It takes the place of what the client holds, which has the coding among what it varies by.
            if fields.contains_key(VARY) {
                compression::vary_by_coding(&mut fields);
            }
            return respond::assemble(status, fields, Body::Passing(reply));
        }
        let exact = if self.is_head { None } else { reply.size_hint().exact() };
        let length = length(&fields).or(exact);
        let passing = Body::Passing(reply);
        let wanted = self.coming(status, &mut fields, length);
        let encoder = wanted.and_then(|Coming { coding, permit }| {
            Some((coding, Encoder::new(coding, length).inspect_err(warn_of).ok()?, permit))
        });
        let Some((coding, encoder, permit)) = encoder else {
            return respond::assemble(status, fields, passing);
        };
        compression::code_fields(&mut fields, coding);
        if self.is_head {
            return respond::assemble(status, fields, passing);
        }
        self.route.stats.compressed.count();
        let content = Encoded::new(passing, encoder, length, permit);
        respond::assemble(status, fields, Body::Encoded(Box::new(content)))
    }

    /// None: it stays as it is, if not for all clients, of which `Vary` tells.
    fn coming(
        &self,
        status: StatusCode,
        fields: &mut HeaderMap,
        length: Option<u64>,
    ) -> Option<Coming> {
        let Self { route, coding, .. } = self;
        compression::may_code(&route.rules, status, fields, length).ok()?;
        compression::vary_by_coding(fields);
        let coding = (*coding)?;
        let wanted = u32::try_from(Encoder::octets(coding, length) >> 10).unwrap_or(u32::MAX);
        let room = Arc::clone(&route.lasting.workshop.room);
        let permit = room.try_acquire_many_owned(wanted).ok()?;
        Some(Coming { coding, permit })
    }
}

fn warn_of(error: &std::io::Error) {
    warn!(%error, "content not compressed");
}
