//! The spans of a request that is told of: its own, and one for each step.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};

use super::{Asked, End, Entry, Step, host};
use crate::clock;
use crate::semantics::Said;
use crate::traces::{self, Kind, Span, Tracer, Value};

/// So many octets at most of what a client chose.
const LONGEST: usize = 1024;

/// A longer `tracestate` is left out, as one that is cut is another. W3C Trace Context asks to propagate so
/// much at least.
const LONGEST_STATE: usize = 512;

/// What its span says of a request, and whom it is told.
pub(super) struct Told {
    tracer: Arc<Tracer>,
    asked: Asked,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    agent: Option<HeaderValue>,
}

impl Told {
    /// Of a request whose head was read.
    pub(super) fn begin<B>(tracer: &Arc<Tracer>, request: &Request<B>, asked: Asked) -> Self {
        let field = |name: http::HeaderName| request.headers().get(name).cloned();
        Self {
            tracer: Arc::clone(tracer),
            asked,
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: field(HOST),
            agent: field(USER_AGENT),
        }
    }

    /// It has ended.
    pub(super) fn end(&self, entry: &Entry, end: End) {
        let Some(trace) = &entry.notes.trace else { return };
        let state = trace.state.as_ref().filter(|state| state.len() <= LONGEST_STATE);
        // A copy of its own: what was received may be a part of a whole head, which would stay with it.
        let state = state.and_then(|state| HeaderValue::from_bytes(state.as_bytes()).ok());
        let span = |id, parent, name, kind, begin, end| Span {
            trace: trace.trace,
            span: id,
            parent,
            state: state.clone(),
            name,
            kind,
            begin,
            end,
            is_error: false,
            attributes: Vec::new(),
        };
        let at = |moment: Instant| self.asked.at + moment.duration_since(self.asked.begun);
        let mut steps = entry.notes.steps.lock().unwrap_or_else(PoisonError::into_inner);
        for Step { name, kind, span: id, end, took, is_error } in steps.drain(..) {
            let (id, end) = (id.unwrap_or_else(traces::random), at(end));
            let begin = end.checked_sub(took).unwrap_or(end);
            let step = span(id, Some(trace.span), name, kind, begin, end);
            self.tracer.tell(Span { is_error, ..step });
        }
        let route = entry.route.as_deref().unwrap_or("no route");
        let (name, now) = (format!("{} {route}", self.known_method()), at(clock::instant()));
        let own = span(trace.span, trace.parent, name, Kind::Server, self.asked.at, now);
        let answered = entry.answered.as_ref();
        let is_error =
            end == End::Upstream || answered.is_some_and(|it| it.status.is_server_error());
        self.tracer.tell(Span { is_error, attributes: self.attributes(entry, end), ..own });
    }

    /// A client may call a method anything.
    fn known_method(&self) -> &str {
        match self.method.as_str() {
            known
            @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "QUERY") => known,
            _ => "_OTHER",
        }
    }

    /// By the names that OpenTelemetry has, and by names of our own. No query: it may be secret.
    fn attributes(&self, entry: &Entry, end: End) -> Vec<(&'static str, Value)> {
        let answered = entry.answered.as_ref();
        let texts = [
            ("http.request.method", Some(self.known_method().into())),
            ("url.scheme", Some(self.asked.scheme.into())),
            ("url.path", Some(cut(self.uri.path().as_bytes()))),
            ("server.address", host(self.host.as_ref(), &self.uri).map(cut)),
            ("client.address", Some(self.asked.client.to_string().into())),
            ("user_agent.original", self.agent.as_ref().map(|agent| cut(agent.as_bytes()))),
            ("larder.route", entry.route.as_deref().map(Cow::Borrowed)),
            ("larder.outcome", Some(entry.outcome().as_str().into())),
            ("larder.cache_status", entry.cache_status().map(said)),
            ("larder.end", Some(end.as_str().into())),
        ];
        let texts = texts.into_iter().filter_map(|(name, it): (_, Option<Cow<'_, str>>)| {
            Some((name, Value::Text(it?.into_owned())))
        });
        let status = answered.map(|it| Value::Number(it.status.as_u16().into()));
        texts.chain(status.map(|it| ("http.response.status_code", it))).collect()
    }
}

fn said(item: &Said) -> Cow<'_, str> {
    let mut octets = Vec::new();
    item.write(&mut octets);
    String::from_utf8_lossy(&octets).into_owned().into()
}

/// What a client chose has a bound, as what waits to be exported is counted by spans.
fn cut(octets: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(octets.get(..LONGEST).unwrap_or(octets))
}
