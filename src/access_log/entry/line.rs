//! The forms of a line.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderValue, Method, Request, Version};

use super::values::Form;
use super::{Asked, Ended, Entry, host, noted};
use crate::access_log::AccessLog;
use crate::config::LogFormat;
use crate::semantics::Said;
use crate::traces::{self, TRACEPARENT};

/// A common line has room in so many octets.
const COMMON: usize = 768;

/// What the times of a request are called, in the order of [`Entry::times`].
const TIMES: [&str; 4] = ["duration_seconds", "head_seconds", "l2_seconds", "upstream_seconds"];

/// What a request's head tells.
pub(super) struct Came<'a, B> {
    asked: &'a Asked,
    request: &'a Request<B>,
    trace: Option<u128>,
    shows_queries: bool,
    host: Option<&'a HeaderValue>,
    agent: Option<&'a HeaderValue>,
    referrer: Option<&'a HeaderValue>,
}

/// A line of which everything is written that does not depend on the answer.
pub(super) struct Line {
    pub(super) octets: Vec<u8>,
    /// So many of them stand before what the answer adds.
    before: usize,
}

/// A worker keeps the memory of so many lines for those to come.
const KEPT: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Line {
    /// One of which nothing is written.
    pub(super) fn empty() -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self { octets: spare.unwrap_or_else(|| Vec::with_capacity(COMMON)), before: 0 }
    }

    pub(super) fn begin<B>(format: LogFormat, came: &Came<'_, B>) -> Self {
        let mut line = Self::empty();
        match format {
            LogFormat::Json => line.begin_json(came),
            LogFormat::Combined => line.begin_combined(came),
            LogFormat::Text => line.begin_text(came),
        }
        line
    }

    /// Puts it into the log, with what the answer adds.
    pub(super) fn end(mut self, entry: &Entry, log: &AccessLog, ended: &Ended<'_>) {
        let behind = self.octets.len();
        let status = entry.answered.as_ref().map(|it| it.status.as_u16());
        match log.format {
            LogFormat::Json => self.end_json(entry, ended, log.query),
            LogFormat::Combined | LogFormat::Text => {
                self.octets.push(b' ');
                // 499 is what others write for a client that has gone.
                self.digits::<3>(status.unwrap_or(499).into());
                self.octets.push(b' ');
                self.number(ended.sent);
            }
        }
        let answered = self.octets.len();
        if log.format == LogFormat::Text {
            self.end_text(entry, ended, log.query);
        }
        self.octets.push(b'\n');
        let (known, added) = self.octets.split_at(behind);
        let (front, back) = known.split_at(self.before);
        let (middle, rest) = added.split_at(answered - behind);
        log.put(&[front, middle, back, rest]);
        self.octets.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT && self.octets.capacity() <= 2 * COMMON {
                spare.push(self.octets);
            }
        });
    }

    fn begin_json<B>(&mut self, came: &Came<'_, B>) {
        let Came { asked, request, .. } = came;
        self.raw("{\"time\":\"");
        self.time(asked.at, Form::Rfc3339);
        self.raw("Z\",\"client\":\"");
        self.address(asked.client);
        // A token (RFC 9110 §9.1) has nothing that is escaped.
        self.raw("\",\"method\":\"");
        self.raw(request.method().as_str());
        self.raw("\",\"scheme\":\"");
        self.raw(asked.scheme);
        self.raw("\",\"host\":");
        self.json(came.host());
        self.raw(",\"target\":");
        self.json(Some(came.target().as_bytes()));
        self.raw(",\"protocol\":\"");
        self.raw(came.protocol());
        self.octets.push(b'"');
        self.before = self.octets.len();
        self.raw(",\"trace_id\":");
        self.json(came.trace_id().as_deref().map(str::as_bytes));
        self.raw(",\"user_agent\":");
        self.json(came.agent());
        self.raw(",\"referrer\":");
        self.json(came.referrer());
        self.octets.push(b'}');
    }

    fn end_json(&mut self, entry: &Entry, ended: &Ended<'_>, shows_queries: bool) {
        let answered = entry.answered.as_ref();
        self.raw(",\"status\":");
        match answered {
            Some(answered) => self.digits::<3>(answered.status.as_u16().into()),
            None => self.raw("null"),
        }
        self.raw(",\"bytes\":");
        self.number(ended.sent);
        for (name, time) in TIMES.into_iter().zip(entry.times()) {
            self.raw(",\"");
            self.raw(name);
            self.raw("\":");
            match time {
                Some(time) => self.seconds(time),
                None => self.raw("null"),
            }
        }
        self.raw(",\"end\":\"");
        self.raw(ended.end.as_str());
        self.raw("\",\"outcome\":\"");
        self.raw(entry.outcome().as_str());
        self.raw("\",\"cache_status\":");
        match entry.cache_status() {
            None => self.raw("null"),
            Some(Said::Field(item)) => self.json(Some(item.as_bytes())),
            // Nothing of that is escaped.
            Some(hit @ Said::Hit(_)) => {
                self.octets.push(b'"');
                hit.write(&mut self.octets);
                self.octets.push(b'"');
            }
        }
        self.raw(",\"route\":");
        match entry.route.as_deref() {
            None => self.raw("null"),
            // Letters, digits and the like.
            Some(name) => {
                self.octets.push(b'"');
                self.raw(name);
                self.octets.push(b'"');
            }
        }
        self.raw(",\"key\":");
        self.json(entry.key(ended, shows_queries));
    }

    /// As Apache's `combined` has it.
    fn begin_combined<B>(&mut self, came: &Came<'_, B>) {
        self.address(came.asked.client);
        self.raw(" - - [");
        self.time(came.asked.at, Form::Apache);
        self.raw(" +0000] \"");
        self.raw(came.request.method().as_str());
        self.octets.push(b' ');
        self.quoted(came.target().as_bytes());
        self.octets.push(b' ');
        self.raw(came.protocol());
        self.octets.push(b'"');
        self.before = self.octets.len();
        for text in [came.referrer(), came.agent()] {
            self.raw(" \"");
            self.quoted(text.unwrap_or(b"-"));
            self.octets.push(b'"');
        }
    }

    /// That, and what it does not have behind it, each with the name that it has in JSON: who reads
    /// `combined` reads this.
    fn begin_text<B>(&mut self, came: &Came<'_, B>) {
        self.begin_combined(came);
        self.named("scheme", Some(came.asked.scheme.as_bytes()));
        self.named("host", came.host());
        self.named("trace_id", came.trace_id().as_deref().map(str::as_bytes));
    }

    fn end_text(&mut self, entry: &Entry, ended: &Ended<'_>, shows_queries: bool) {
        if let Some(said) = entry.cache_status() {
            self.raw(" cache_status=\"");
            match said {
                Said::Field(item) => self.quoted(item.as_bytes()),
                hit @ Said::Hit(_) => hit.write(&mut self.octets),
            }
            self.octets.push(b'"');
        }
        self.named("route", entry.route.as_deref().map(str::as_bytes));
        self.named("key", entry.key(ended, shows_queries));
        self.named("outcome", Some(entry.outcome().as_str().as_bytes()));
        self.named("end", Some(ended.end.as_str().as_bytes()));
        for (name, time) in TIMES.into_iter().zip(entry.times()) {
            if let Some(time) = time {
                self.octets.push(b' ');
                self.raw(name);
                self.octets.push(b'=');
                self.seconds(time);
            }
        }
    }
}

impl<'a, B> Came<'a, B> {
    pub(super) fn of(
        request: &'a Request<B>,
        asked: &'a Asked,
        trace: Option<u128>,
        shows_queries: bool,
    ) -> Self {
        let (mut host, mut agent, mut referrer, mut parent) = (None, None, None, None);
        for (name, value) in request.headers() {
            let place = match *name {
                HOST => &mut host,
                USER_AGENT => &mut agent,
                REFERER => &mut referrer,
                _ if *name == TRACEPARENT => &mut parent,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        let trace = trace.or_else(|| parent.and_then(|_| traces::trace_of(request.headers())));
        Self { asked, request, trace, shows_queries, host, agent, referrer }
    }

    fn host(&self) -> Option<&[u8]> {
        host(self.host, self.request.uri())
    }

    fn agent(&self) -> Option<&[u8]> {
        self.agent.map(HeaderValue::as_bytes)
    }

    /// The path, and the query where lines have them. No authority: it may have a password.
    fn target(&self) -> Cow<'_, str> {
        let uri = self.request.uri();
        let path = match uri.path() {
            "" if self.request.method() == Method::OPTIONS => "*",
            path => path,
        };
        let whole = uri.path_and_query().map_or(path, |it| it.as_str());
        match uri.query().filter(|_| self.shows_queries) {
            None => path.into(),
            Some(_) if whole.starts_with(path) => whole.into(),
            Some(query) => format!("{path}?{query}").into(),
        }
    }

    fn referrer(&self) -> Option<&[u8]> {
        let referrer = self.referrer?.as_bytes();
        Some(if self.shows_queries { referrer } else { before(referrer, b"?#") })
    }

    fn protocol(&self) -> &'static str {
        match self.request.version() {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }

    fn trace_id(&self) -> Option<String> {
        self.trace.map(|trace| format!("{trace:032x}"))
    }
}

impl Entry {
    /// How long it took in all, until its head was ready, and of that in L2 and upstream.
    fn times(&self) -> [Option<Duration>; 4] {
        [
            Some(self.took.unwrap_or_else(|| self.begun.elapsed())),
            self.answered.as_ref().map(|it| it.head),
            noted(&self.notes.l2),
            noted(&self.notes.upstream),
        ]
    }

    pub(super) fn cache_status(&self) -> Option<&Said> {
        self.answered.as_ref()?.cache_status.as_ref()
    }

    fn key<'a>(&'a self, ended: &Ended<'a>, shows_queries: bool) -> Option<&'a [u8]> {
        let key = self.notes.key.get().map(String::as_str).or(ended.key)?.as_bytes();
        Some(if shows_queries { key } else { before(key, b"?") })
    }
}

/// What comes before the first of these.
fn before<'a>(octets: &'a [u8], ends: &[u8]) -> &'a [u8] {
    octets.split(|octet| ends.contains(octet)).next().unwrap_or_default()
}
