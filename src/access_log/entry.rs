//! One request, and the line that it becomes. What a client sent is escaped, so that no line is another's,
//! and `Authorization`, `Cookie` and contents are in none.

mod line;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::AccessLog;
use crate::clock;
use crate::config::LogFormat;
use crate::stats::Outcome;
use crate::traces::{self, Context, Kind, Span, Tracer, Value};

/// What whoever answers a request notes on the way.
#[derive(Debug, Default)]
pub struct Notes {
    key: OnceLock<String>,
    l2: AtomicU64,
    upstream: AtomicU64,
    trace: Option<Context>,
    steps: Mutex<Vec<Step>>,
}

/// So many steps of a request are told at most.
const MOST_STEPS: usize = 32;

/// A part of the work on a request, which is a span of its own.
#[derive(Debug)]
struct Step {
    name: String,
    kind: Kind,
    /// If that is known elsewhere.
    span: Option<u64>,
    end: Instant,
    took: Duration,
    is_error: bool,
}

impl Notes {
    /// By what name a response to it is found.
    pub fn key(&self, name: String) {
        // The first is the one that it is looked for by.
        drop(self.key.set(name));
    }

    /// So long L2 was waited for.
    pub fn l2(&self, time: Duration) {
        note(&self.l2, time);
        self.step(Kind::Client, time, None, false, || "l2".to_owned());
    }

    /// So long the head of a response was waited for.
    pub fn upstream(&self, name: &str, time: Duration, is_error: bool) {
        note(&self.upstream, time);
        let span = self.trace.as_ref().map(|trace| trace.forward);
        self.step(Kind::Client, time, span, is_error, || format!("upstream {name}"));
    }

    /// So long a policy was waited for.
    pub fn policy(&self, name: &str, time: Duration, is_error: bool) {
        self.step(Kind::Internal, time, None, is_error, || format!("policy {name}"));
    }

    /// Where the request stands in its trace, if traces are told.
    pub fn trace(&self) -> Option<&Context> {
        self.trace.as_ref()
    }

    fn step(
        &self,
        kind: Kind,
        took: Duration,
        span: Option<u64>,
        is_error: bool,
        name: impl FnOnce() -> String,
    ) {
        if self.trace.as_ref().is_none_or(|trace| !trace.is_sampled) {
            return;
        }
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() < MOST_STEPS {
            steps.push(Step { name: name(), kind, span, end: clock::instant(), took, is_error });
        }
    }
}

fn note(sum: &AtomicU64, time: Duration) {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    sum.fetch_add(nanoseconds.max(1), Ordering::Relaxed);
}

fn noted(sum: &AtomicU64) -> Option<f64> {
    let nanoseconds = sum.load(Ordering::Relaxed);
    (nanoseconds > 0).then(|| seconds(Duration::from_nanos(nanoseconds)))
}

/// To the microsecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The time of day.
    pub at: SystemTime,
    /// Times are counted from here.
    pub begun: Instant,
    /// Whoever the request is from, by the word of those who are believed.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// What it was answered with.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// What it came to.
    pub outcome: Outcome,
    /// This cache's item in `Cache-Status`, or what stands there.
    pub cache_status: Option<HeaderValue>,
    /// How long it took until the head was ready.
    pub head: Duration,
}

/// How its content ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it went out.
    Complete,
    /// The client went away.
    Client,
    /// It broke off on its way here.
    Upstream,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// A request that is to become a line.
pub struct Entry {
    log: Option<Arc<AccessLog>>,
    tracer: Option<Arc<Tracer>>,
    asked: Asked,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    referrer: Option<HeaderValue>,
    trace: Option<u128>,
    notes: Arc<Notes>,
    route: Box<str>,
    answered: Option<Answered>,
}

impl Entry {
    /// Of a request whose head was read.
    pub fn begin<B>(
        log: Option<&Arc<AccessLog>>,
        tracer: Option<&Arc<Tracer>>,
        request: &Request<B>,
        asked: Asked,
    ) -> Box<Self> {
        let fields: &HeaderMap = request.headers();
        let field = |name: http::HeaderName| fields.get(name).cloned();
        Box::new(Self {
            log: log.cloned(),
            tracer: tracer.cloned(),
            asked,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: field(HOST),
            agent: field(USER_AGENT),
            referrer: field(REFERER),
            trace: traces::trace_of(fields),
            notes: Arc::new(Notes {
                trace: tracer.map(|tracer| Context::of(fields, tracer.share())),
                ..Notes::default()
            }),
            route: Box::default(),
            answered: None,
        })
    }

    /// Where what is noted on the way ends up.
    pub fn notes(&self) -> Arc<Notes> {
        Arc::clone(&self.notes)
    }

    /// The route that has taken it.
    pub fn route(&mut self, name: &str) {
        self.route = name.into();
    }

    /// There is a response.
    pub fn answered(&mut self, answered: Answered) {
        self.answered = Some(answered);
    }

    /// Whether a response to this has no content, whatever is said of its length.
    pub fn has_no_content(&self) -> bool {
        let status = self.answered.as_ref().map(|it| it.status);
        let none =
            [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::SWITCHING_PROTOCOLS];
        self.method == Method::HEAD || status.is_some_and(|status| none.contains(&status))
    }

    /// It has ended, and is put into the log, and told.
    pub fn end(&self, sent: u64, end: End) {
        if let (Some(tracer), Some(trace)) = (&self.tracer, &self.notes.trace)
            && trace.is_sampled
        {
            self.told(trace, end).into_iter().for_each(|span| tracer.tell(span));
        }
        let Some(log) = &self.log else { return };
        let mut line = Vec::with_capacity(512);
        match log.format {
            LogFormat::Json => self.json(&mut line, sent, end),
            LogFormat::Combined => line.extend(self.combined(sent).bytes()),
            LogFormat::Text => line.extend(self.text(sent, end).bytes()),
        }
        line.push(b'\n');
        log.put(&line);
    }

    /// Its span, and those of its steps.
    fn told(&self, trace: &Context, end: End) -> Vec<Span> {
        let span = |id, parent, name, kind, begin, end| Span {
            trace: trace.trace,
            span: id,
            parent,
            state: trace.state.clone(),
            name,
            kind,
            begin,
            end,
            is_error: false,
            attributes: Vec::new(),
        };
        let at = |moment: Instant| self.asked.at + moment.duration_since(self.asked.begun);
        let steps =
            std::mem::take(&mut *self.notes.steps.lock().unwrap_or_else(PoisonError::into_inner));
        let mut spans: Vec<_> = steps
            .into_iter()
            .map(|step| {
                let Step { name, kind, end, took, is_error, .. } = step;
                let (id, end) = (step.span.unwrap_or_else(traces::random), at(end));
                let begin = end.checked_sub(took).unwrap_or(end);
                Span { is_error, ..span(id, Some(trace.span), name, kind, begin, end) }
            })
            .collect();
        let route = if self.route.is_empty() { "no route" } else { &self.route };
        // A client may call a method anything.
        let method = match self.method.as_str() {
            known
            @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "QUERY") => known,
            _ => "_OTHER",
        };
        let own = span(
            trace.span,
            trace.parent,
            format!("{method} {route}"),
            Kind::Server,
            self.asked.at,
            at(clock::instant()),
        );
        let answered = self.answered.as_ref();
        let is_error =
            end == End::Upstream || answered.is_some_and(|it| it.status.is_server_error());
        spans.push(Span { is_error, attributes: self.attributes(end), ..own });
        spans
    }

    /// By the names that OpenTelemetry has, and by names of our own. No query: it may be secret.
    fn attributes(&self, end: End) -> Vec<(&'static str, Value)> {
        let host = text(self.host.as_ref());
        let answered = self.answered.as_ref();
        let outcome = answered.map_or(Outcome::Abandoned, |it| it.outcome);
        let texts = [
            ("http.request.method", Some(self.method.as_str().into())),
            ("url.scheme", Some(self.asked.scheme.into())),
            ("url.path", Some(self.uri.path().into())),
            ("server.address", host),
            ("client.address", Some(self.asked.client.to_string().into())),
            ("user_agent.original", text(self.agent.as_ref())),
            ("larder.route", Some(Cow::Borrowed(&*self.route)).filter(|it| !it.is_empty())),
            ("larder.outcome", Some(outcome.as_str().into())),
            ("larder.cache_status", text(answered.and_then(|it| it.cache_status.as_ref()))),
            ("larder.end", Some(end.as_str().into())),
        ];
        let texts = texts.into_iter().filter_map(|(name, it): (_, Option<Cow<'_, str>>)| {
            Some((name, Value::Text(it?.into_owned())))
        });
        let status = answered.map(|it| Value::Number(it.status.as_u16().into()));
        texts.chain(status.map(|it| ("http.response.status_code", it))).collect()
    }

    fn shows_queries(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.query)
    }

    /// The path, and the query where lines have them. No authority: it may have a password.
    fn target(&self) -> Cow<'_, str> {
        let path = match self.uri.path() {
            "" if self.method == Method::OPTIONS => "*",
            path => path,
        };
        match self.uri.query().filter(|_| self.shows_queries()) {
            Some(query) => format!("{path}?{query}").into(),
            None => path.into(),
        }
    }

    fn referrer(&self) -> Option<Cow<'_, str>> {
        let text = String::from_utf8_lossy(self.referrer.as_ref()?.as_bytes());
        let end = if self.shows_queries() { None } else { text.find(['?', '#']) };
        match end {
            Some(end) => Some(text.get(..end).unwrap_or_default().to_owned().into()),
            None => Some(text),
        }
    }

    fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }

    /// That of its trace, if it came with one, or if traces are told.
    fn trace_id(&self) -> Option<String> {
        let own = self.notes.trace.as_ref().map(|trace| trace.trace);
        let trace = own.or(self.trace);
        trace.map(|trace| format!("{trace:032x}"))
    }
}

fn text(value: Option<&HeaderValue>) -> Option<Cow<'_, str>> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()))
}
