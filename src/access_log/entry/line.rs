//! The forms of a line.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderName, Method, Request, Version};

use super::{Asked, End, Entry, noted};
use crate::access_log::AccessLog;
use crate::clock;
use crate::config::LogFormat;

/// A common line has room in so many octets.
const COMMON: usize = 768;

/// What a request's head tells.
pub(super) struct Came<'a, B> {
    pub(super) asked: &'a Asked,
    pub(super) request: &'a Request<B>,
    pub(super) trace: Option<u128>,
    pub(super) shows_queries: bool,
}

/// A line of which everything is written that does not depend on the answer.
pub(super) struct Line {
    octets: Vec<u8>,
    /// So many of them stand before what the answer adds.
    before: usize,
}

impl Line {
    pub(super) fn begin<B>(format: LogFormat, came: &Came<'_, B>) -> Self {
        let mut line = Self { octets: Vec::with_capacity(COMMON), before: 0 };
        match format {
            LogFormat::Json => line.begin_json(came),
            LogFormat::Combined => line.begin_combined(came),
            LogFormat::Text => line.begin_text(came),
        }
        line
    }

    /// Puts it into the log, with what the answer adds.
    pub(super) fn end(mut self, entry: &Entry, log: &AccessLog, sent: u64, end: End) {
        let behind = self.octets.len();
        let status = entry.answered.as_ref().map(|it| it.status.as_u16());
        match log.format {
            LogFormat::Json => self.end_json(entry, sent, end, log.query),
            LogFormat::Combined | LogFormat::Text => {
                self.octets.push(b' ');
                // 499 is what others write for a client that has gone.
                self.number(status.unwrap_or(499).into());
                self.octets.push(b' ');
                self.number(sent);
            }
        }
        let answered = self.octets.len();
        if log.format == LogFormat::Text {
            self.end_text(entry, end, log.query);
        }
        self.octets.push(b'\n');
        let (known, added) = self.octets.split_at(behind);
        let (front, back) = known.split_at(self.before);
        let (middle, rest) = added.split_at(answered - behind);
        log.put(&[front, middle, back, rest]);
    }

    fn begin_json<B>(&mut self, came: &Came<'_, B>) {
        let Came { asked, request, .. } = came;
        self.raw("{\"time\":\"");
        self.time(asked.at, true);
        self.octets.push(b'.');
        let millis = asked.at.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_millis();
        self.digits(millis.into(), 3);
        self.raw("Z\",\"client\":\"");
        self.address(asked.client);
        self.raw("\",\"method\":");
        self.json(Some(request.method().as_str().as_bytes()));
        self.raw(",\"scheme\":");
        self.json(Some(asked.scheme.as_bytes()));
        self.raw(",\"host\":");
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
        self.json(came.field(USER_AGENT));
        self.raw(",\"referrer\":");
        self.json(came.referrer());
        self.octets.push(b'}');
    }

    fn end_json(&mut self, entry: &Entry, sent: u64, end: End, shows_queries: bool) {
        let answered = entry.answered.as_ref();
        self.raw(",\"status\":");
        match answered {
            Some(answered) => self.number(answered.status.as_u16().into()),
            None => self.raw("null"),
        }
        self.raw(",\"bytes\":");
        self.number(sent);
        for (name, time) in entry.times() {
            self.raw(",\"");
            self.raw(name);
            self.raw("\":");
            match time {
                Some(time) => self.seconds(time),
                None => self.raw("null"),
            }
        }
        for (name, word) in [("end", end.as_str()), ("outcome", entry.outcome().as_str())] {
            self.raw(",\"");
            self.raw(name);
            self.raw("\":\"");
            self.raw(word);
            self.octets.push(b'"');
        }
        self.raw(",\"cache_status\":");
        self.json(entry.cache_status());
        self.raw(",\"route\":");
        self.json(entry.route.as_deref().map(str::as_bytes));
        self.raw(",\"key\":");
        self.json(entry.key(shows_queries));
    }

    /// As Apache's `combined` has it.
    fn begin_combined<B>(&mut self, came: &Came<'_, B>) {
        self.address(came.asked.client);
        self.raw(" - - [");
        self.time(came.asked.at, false);
        self.raw(" +0000] \"");
        self.raw(came.request.method().as_str());
        self.octets.push(b' ');
        self.quoted(came.target().as_bytes());
        self.octets.push(b' ');
        self.raw(came.protocol());
        self.octets.push(b'"');
        self.before = self.octets.len();
        for text in [came.referrer(), came.field(USER_AGENT)] {
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

    fn end_text(&mut self, entry: &Entry, end: End, shows_queries: bool) {
        self.named("cache_status", entry.cache_status());
        self.named("route", entry.route.as_deref().map(str::as_bytes));
        self.named("key", entry.key(shows_queries));
        self.named("outcome", Some(entry.outcome().as_str().as_bytes()));
        self.named("end", Some(end.as_str().as_bytes()));
        for (name, time) in entry.times() {
            if let Some(time) = time {
                self.octets.push(b' ');
                self.raw(name);
                self.octets.push(b'=');
                self.seconds(time);
            }
        }
    }

    fn raw(&mut self, text: &str) {
        self.octets.extend_from_slice(text.as_bytes());
    }

    /// A value in JSON.
    fn json(&mut self, text: Option<&[u8]>) {
        match text {
            None => self.raw("null"),
            Some(plain) if is_plain(plain) => {
                self.octets.push(b'"');
                self.octets.extend_from_slice(plain);
                self.octets.push(b'"');
            }
            // A text always has a form, and there is no end to a line.
            Some(text) => {
                drop(serde_json::to_writer(&mut self.octets, &String::from_utf8_lossy(text)));
            }
        }
    }

    fn named(&mut self, name: &str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.octets.push(b' ');
        self.raw(name);
        self.raw("=\"");
        self.quoted(value);
        self.octets.push(b'"');
    }

    /// What is not printable ASCII, and quotes, as `\xHH`.
    fn quoted(&mut self, text: &[u8]) {
        if is_plain(text) {
            self.octets.extend_from_slice(text);
            return;
        }
        for octet in String::from_utf8_lossy(text).bytes() {
            if is_plain(&[octet]) {
                self.octets.push(octet);
            } else {
                write!(self.octets, "\\x{octet:02X}").expect("there is no end to a line");
            }
        }
    }

    fn number(&mut self, number: u64) {
        self.digits(number, 1);
    }

    /// With zeros before it where it has fewer digits.
    fn digits(&mut self, mut number: u64, least: usize) {
        let mut digits = [b'0'; 20];
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            if number == 0 && count >= least {
                break;
            }
            *digit = b'0' + (number % 10) as u8;
            (number, count) = (number / 10, count + 1);
        }
        let (_, digits) = digits.split_at(digits.len() - count);
        self.octets.extend_from_slice(digits);
    }

    /// To the microsecond.
    fn seconds(&mut self, time: Duration) {
        let time = time.saturating_add(Duration::from_nanos(500));
        self.number(time.as_secs());
        self.octets.push(b'.');
        self.digits(time.subsec_micros().into(), 6);
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                for (place, number) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        self.octets.push(b'.');
                    }
                    self.number(number.into());
                }
            }
            IpAddr::V6(address) => self.raw(&address.to_string()),
        }
    }

    /// The second of a time, whose form is made once for all lines of a worker in that second.
    fn time(&mut self, time: SystemTime, is_json: bool) {
        thread_local! {
            static LAST: RefCell<(u64, bool, String)> = const { RefCell::new((0, false, String::new())) };
        }
        let second = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        LAST.with_borrow_mut(|last| {
            if (last.0, last.1) != (second, is_json) {
                *last = (second, is_json, if is_json { rfc_3339(time) } else { apache(time) });
            }
            self.raw(&last.2);
        });
    }
}

/// `2026-11-26T18:25:00`
fn rfc_3339(time: SystemTime) -> String {
    let mut text = clock::text(time);
    text.truncate("2026-11-26T18:25:00".len());
    text
}

/// `26/Nov/2026:18:25:00`
fn apache(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    // `Thu, 26 Nov 2026 18:25:00 GMT`
    let part = |from, to| date.get(from..to).unwrap_or_default();
    let (day, month, year, time) = (part(5, 7), part(8, 11), part(12, 16), part(17, 25));
    format!("{day}/{month}/{year}:{time}")
}

impl<B> Came<'_, B> {
    fn field(&self, name: HeaderName) -> Option<&[u8]> {
        Some(self.request.headers().get(name)?.as_bytes())
    }

    fn host(&self) -> Option<&[u8]> {
        let asked = || self.request.uri().authority();
        let asked = || Some(asked()?.as_str().rsplit('@').next().unwrap_or_default().as_bytes());
        self.field(HOST).or_else(asked)
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
        let referrer = self.field(REFERER)?;
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
    /// What took how long, by name.
    fn times(&self) -> [(&'static str, Option<Duration>); 4] {
        [
            ("duration_seconds", Some(self.begun.elapsed())),
            ("head_seconds", self.answered.as_ref().map(|it| it.head)),
            ("l2_seconds", noted(&self.notes.l2)),
            ("upstream_seconds", noted(&self.notes.upstream)),
        ]
    }

    fn cache_status(&self) -> Option<&[u8]> {
        Some(self.answered.as_ref()?.cache_status.as_ref()?.as_bytes())
    }

    fn key(&self, shows_queries: bool) -> Option<&[u8]> {
        let key = self.notes.key.get()?.as_bytes();
        Some(if shows_queries { key } else { before(key, b"?") })
    }
}

/// What comes before the first of these.
fn before<'a>(octets: &'a [u8], ends: &[u8]) -> &'a [u8] {
    octets.split(|octet| ends.contains(octet)).next().unwrap_or_default()
}

/// Whether each octet stands for itself, in JSON and in quotes. Without an early end, and with an octet to tell
/// it by, so that the processor looks at sixteen at once.
fn is_plain(octets: &[u8]) -> bool {
    let printable = b'~' - b' ';
    let found = octets.iter().fold(0, |found, octet| {
        let is_other = u8::from(octet.wrapping_sub(b' ') > printable);
        found | is_other | u8::from(*octet == b'"') | u8::from(*octet == b'\\')
    });
    found == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line { octets: Vec::new(), before: 0 };
        write(&mut line);
        String::from_utf8(line.octets).unwrap()
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 7, 10, 499, 1_000_000, u64::MAX] {
            assert_eq!(written(|line| line.number(number)), number.to_string());
        }
        assert_eq!(written(|line| line.digits(7, 3)), "007");
        assert_eq!(written(|line| line.digits(1234, 3)), "1234");
    }

    #[test]
    fn times_are_to_the_microsecond() {
        for (nanoseconds, expected) in [
            (0, "0.000000"),
            (499, "0.000000"),
            (500, "0.000001"),
            (71_000, "0.000071"),
            (999_999_500, "1.000000"),
            (61_000_001_000, "61.000001"),
        ] {
            let time = Duration::from_nanos(nanoseconds);
            assert_eq!(written(|line| line.seconds(time)), expected);
        }
        assert!(written(|line| line.seconds(Duration::MAX)).starts_with("18446744073709551615."));
    }

    #[test]
    fn addresses_are_as_others_write_them() {
        for text in ["127.0.0.1", "255.10.0.99", "::1", "2001:db8::7"] {
            let address = text.parse().unwrap();
            assert_eq!(written(|line| line.address(address)), text);
        }
    }

    /// Wherever it stands among plain ones, so many at once or fewer.
    #[test]
    fn what_is_escaped_is_found() {
        for octet in 0..=u8::MAX {
            let expected = matches!(octet, b' '..=b'~') && !matches!(octet, b'"' | b'\\');
            for length in 1..40 {
                for at in 0..length {
                    let mut octets = vec![b'a'; length];
                    octets[at] = octet;
                    assert_eq!(is_plain(&octets), expected, "{octet} at {at} of {length}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    /// Each form has a second of its own, and the next second another.
    #[test]
    fn a_second_is_written_in_its_form() {
        for (second, json, apache) in [
            (0, "1970-01-01T00:00:00", "01/Jan/1970:00:00:00"),
            (1_795_667_664, "2026-11-26T04:34:24", "26/Nov/2026:04:34:24"),
            (1_795_667_665, "2026-11-26T04:34:25", "26/Nov/2026:04:34:25"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(second * 1000 + 999);
            assert_eq!(written(|line| line.time(time, true)), json);
            assert_eq!(written(|line| line.time(time, false)), apache);
        }
    }
}
