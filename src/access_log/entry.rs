//! One request, and the line that it becomes. What a client sent is escaped, so that no line is another's,
//! and `Authorization`, `Cookie` and contents are in none, but for what a policy makes keys of.
//!
//! What its head says is written at once: it is read anyway, and is on its way to others then.

mod line;
mod spans;
mod values;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, Request, StatusCode, Uri};

use self::line::{Came, Line};
use self::spans::Told;
use super::AccessLog;
use crate::clock;
use crate::semantics::Said;
use crate::stats::Outcome;
use crate::traces::{self, Context, Kind, Tracer};

/// What whoever answers a request notes on the way.
#[derive(Debug)]
pub struct Notes {
    at: SystemTime,
    key: OnceLock<String>,
    l2: AtomicU64,
    upstream: AtomicU64,
    trace: Option<Context>,
    /// The span of what is sent forward next, if traces are told.
    forward: AtomicU64,
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
    fn of(at: SystemTime, trace: Option<Context>) -> Self {
        let (key, steps) = (OnceLock::new(), Mutex::default());
        let forward = AtomicU64::new(trace.as_ref().map_or(0, |_| traces::random()));
        Self { at, key, l2: AtomicU64::new(0), upstream: AtomicU64::new(0), trace, forward, steps }
    }

    /// When the request came.
    pub fn at(&self) -> SystemTime {
        self.at
    }

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

    /// So long the head of a response was waited for. What is sent forward after that has a span of its own.
    pub fn upstream(&self, name: &str, time: Duration, is_error: bool) {
        note(&self.upstream, time);
        let next = self.trace.as_ref().map(|_| traces::random());
        let span = next.map(|next| self.forward.swap(next, Ordering::Relaxed));
        self.step(Kind::Client, time, span, is_error, || format!("upstream {name}"));
    }

    /// So long a policy was waited for.
    pub fn policy(&self, name: &str, time: Duration, is_error: bool) {
        self.step(Kind::Internal, time, None, is_error, || format!("policy {name}"));
    }

    /// Where the request stands in its trace, and the span of what is sent forward next, if traces are told.
    pub fn trace(&self) -> Option<(&Context, u64)> {
        let context = self.trace.as_ref()?;
        Some((context, self.forward.load(Ordering::Relaxed)))
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

/// Which host a request is for: by its `Host`, or else its authority, which may be all that HTTP/2 says.
/// Without what stands before an `@`: it may have a password.
fn host<'a>(field: Option<&'a HeaderValue>, uri: &'a Uri) -> Option<&'a [u8]> {
    if let Some(host) = field {
        return Some(host.as_bytes());
    }
    let authority = uri.authority()?.as_str();
    Some(authority.rsplit('@').next().unwrap_or_default().as_bytes())
}

fn note(sum: &AtomicU64, time: Duration) {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    sum.fetch_add(nanoseconds.max(1), Ordering::Relaxed);
}

fn noted(sum: &AtomicU64) -> Option<Duration> {
    let nanoseconds = sum.load(Ordering::Relaxed);
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
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
    pub cache_status: Option<Said>,
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

/// What is known of a request when it has ended.
struct Ended<'a> {
    sent: u64,
    end: End,
    /// Its readable name, if that was not noted.
    key: Option<&'a str>,
}

/// A request that is to become a line, and spans. It is passed from hand to hand, by its place on the heap.
pub struct Entry {
    line: Option<(Arc<AccessLog>, Line)>,
    told: Option<Box<Told>>,
    begun: Instant,
    is_head: bool,
    notes: Arc<Notes>,
    route: Option<Arc<str>>,
    answered: Option<Answered>,
    /// How long it took, if that is known.
    took: Option<Duration>,
}

impl Entry {
    /// Of a request whose head was read.
    pub fn begin<B>(
        log: Option<&Arc<AccessLog>>,
        tracer: Option<&Arc<Tracer>>,
        request: &Request<B>,
        asked: Asked,
    ) -> Box<Self> {
        let context = tracer.map(|tracer| Context::of(request.headers(), tracer.share()));
        let line = log.map(|log| {
            let trace = context.as_ref().map(|context| context.trace);
            let came = Came::of(request, &asked, trace, log.query);
            (Arc::clone(log), Line::begin(log.format, &came))
        });
        let told = tracer.filter(|_| context.as_ref().is_some_and(|it| it.is_sampled));
        Box::new(Self {
            line,
            told: told.map(|tracer| Box::new(Told::begin(tracer, request, asked))),
            begun: asked.begun,
            is_head: request.method() == Method::HEAD,
            notes: Arc::new(Notes::of(asked.at, context)),
            route: None,
            answered: None,
            took: None,
        })
    }

    /// Where what is noted on the way ends up.
    pub fn notes(&self) -> Arc<Notes> {
        Arc::clone(&self.notes)
    }

    /// The route that has taken it.
    pub fn route(&mut self, name: &Arc<str>) {
        self.route = Some(Arc::clone(name));
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
        self.is_head || status.is_some_and(|status| none.contains(&status))
    }

    /// It has ended with its head: all of its content was at hand.
    ///
    /// `key`: its readable name, unless that was noted.
    pub fn end_at_once(&mut self, sent: u64, key: &str) {
        self.took = self.answered.as_ref().map(|it| it.head);
        self.tell(&Ended { sent, end: End::Complete, key: Some(key) });
    }

    /// It has ended, and is put into the log, and told.
    pub fn end(&mut self, sent: u64, end: End) {
        self.tell(&Ended { sent, end, key: None });
    }

    fn tell(&mut self, ended: &Ended<'_>) {
        if let Some(told) = self.told.take() {
            told.end(self, ended.end);
        }
        if let Some((log, line)) = self.line.take() {
            line.end(self, &log, ended);
        }
    }

    fn outcome(&self) -> Outcome {
        self.answered.as_ref().map_or(Outcome::Abandoned, |it| it.outcome)
    }
}
