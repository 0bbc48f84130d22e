//! The forms of a line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;

use super::{End, Entry, noted, seconds, text};
use crate::clock;
use crate::stats::Outcome;

/// All that is told of a request, by the names of its members in JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    client: IpAddr,
    method: &'a str,
    scheme: &'a str,
    host: Option<Cow<'a, str>>,
    target: Cow<'a, str>,
    protocol: &'a str,
    status: Option<u16>,
    bytes: u64,
    duration_seconds: f64,
    head_seconds: Option<f64>,
    l2_seconds: Option<f64>,
    upstream_seconds: Option<f64>,
    end: &'a str,
    outcome: &'a str,
    cache_status: Option<Cow<'a, str>>,
    route: Option<&'a str>,
    key: Option<&'a str>,
    trace_id: Option<String>,
    user_agent: Option<Cow<'a, str>>,
    referrer: Option<Cow<'a, str>>,
}

impl Entry {
    pub(super) fn json(&self, line: &mut Vec<u8>, sent: u64, end: End) {
        // Texts and finite numbers always have a form.
        drop(serde_json::to_writer(line, &self.line(sent, end)));
    }

    /// As Apache's `combined` has it.
    pub(super) fn combined(&self, sent: u64) -> String {
        let date = httpdate::fmt_http_date(self.asked.at);
        // `Thu, 26 Nov 2026 18:25:00 GMT`
        let part = |from, to| date.get(from..to).unwrap_or_default();
        let (day, month, year, time) = (part(5, 7), part(8, 11), part(12, 16), part(17, 25));
        let (method, target, protocol) = (self.method.as_str(), self.target(), self.protocol());
        // 499 is what others write for a client that has gone.
        let status = self.answered.as_ref().map_or(499, |it| it.status.as_u16());
        format!(
            "{} - - [{day}/{month}/{year}:{time} +0000] \"{method} {} {protocol}\" {status} {sent} \
             \"{}\" \"{}\"",
            self.asked.client,
            quoted(&target),
            quoted(self.referrer().as_deref().unwrap_or("-")),
            quoted(text(self.agent.as_ref()).as_deref().unwrap_or("-")),
        )
    }

    /// That, and what it does not have behind it, each with the name that it has in JSON: who reads
    /// `combined` reads this.
    pub(super) fn text(&self, sent: u64, end: End) -> String {
        let line = self.line(sent, end);
        let mut text = self.combined(sent);
        for (name, value) in [
            ("scheme", Some(line.scheme)),
            ("host", line.host.as_deref()),
            ("cache_status", line.cache_status.as_deref()),
            ("route", line.route),
            ("key", line.key),
            ("outcome", Some(line.outcome)),
            ("end", Some(line.end)),
            ("trace_id", line.trace_id.as_deref()),
        ] {
            if let Some(value) = value {
                write!(text, " {name}=\"{}\"", quoted(value)).expect("there is no end to a text");
            }
        }
        for (name, seconds) in [
            ("duration_seconds", Some(line.duration_seconds)),
            ("head_seconds", line.head_seconds),
            ("l2_seconds", line.l2_seconds),
            ("upstream_seconds", line.upstream_seconds),
        ] {
            if let Some(seconds) = seconds {
                write!(text, " {name}={seconds}").expect("there is no end to a text");
            }
        }
        text
    }

    fn line(&self, sent: u64, end: End) -> Line<'_> {
        let answered = self.answered.as_ref();
        Line {
            time: clock::text(self.asked.at),
            client: self.asked.client,
            method: self.method.as_str(),
            scheme: self.asked.scheme,
            host: text(self.host.as_ref()).or(self
                .uri
                .authority()
                .map(|it| it.as_str().rsplit('@').next().unwrap_or_default().into())),
            target: self.target(),
            protocol: self.protocol(),
            status: answered.map(|it| it.status.as_u16()),
            bytes: sent,
            duration_seconds: seconds(self.asked.begun.elapsed()),
            head_seconds: answered.map(|it| seconds(it.head)),
            l2_seconds: noted(&self.notes.l2),
            upstream_seconds: noted(&self.notes.upstream),
            end: end.as_str(),
            outcome: answered.map_or(Outcome::Abandoned, |it| it.outcome).as_str(),
            cache_status: text(answered.and_then(|it| it.cache_status.as_ref())),
            route: Some(&*self.route).filter(|it| !it.is_empty()),
            key: self.notes.key.get().map(|key| match key.find('?') {
                Some(end) if !self.shows_queries() => key.get(..end).unwrap_or_default(),
                _ => key,
            }),
            trace_id: self.trace_id(),
            user_agent: text(self.agent.as_ref()),
            referrer: self.referrer(),
        }
    }
}

/// What is not printable ASCII, and quotes, as `\xHH`.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                write!(quoted, "\\x{octet:02X}").expect("there is no end to a text");
            }
            _ => quoted.push(char::from(octet)),
        }
    }
    quoted
}
