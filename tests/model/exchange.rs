//! One cache and its client and origin, as a text. Larder's decisions about it are compared with those
//! of the reference model.
//!
//! ```text
//! Authorization: Bearer x        fields of the first request
//! = 200 1                        a response, which took a second
//! Cache-Control: max-age=60
//! Last-Modified: @-3600          a date, an hour before
//! ? 10                           ten seconds later, another request
//! Cache-Control: max-stale
//! ! 5                            and one after a soft invalidation
//! = 304                          the origin validates what is stored
//! x                              the origin does not answer
//! ```
//!
//! Every text is an exchange: what is no line of it is left out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder::semantics::{
    self, Asked, Freshness, NotStored, RequestDirectives, Reuse, Rules, Times, Trouble, Validators,
    Vary, nominated_value,
};

use crate::rfc::{self, Config, Lines, Storing};

/// In the year 2026, where two digits of a year are no riddle.
const START: i64 = 1_795_000_000;

/// As many steps and fields as tell anything.
const MOST_STEPS: usize = 24;
const MOST_FIELDS: usize = 24;

/// The fields that an exchange may have.
const VOCABULARY: [&str; 19] = [
    "accept-encoding",
    "accept-language",
    "age",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expires",
    "if-modified-since",
    "if-none-match",
    "last-modified",
    "pragma",
    "set-cookie",
    "vary",
    "x-a",
    "x-b",
];

enum Step {
    Request { after: i64, is_invalidated: bool },
    Response { status: u16, delay: i64 },
    Disconnected,
}

/// What both hold of the stored response.
struct Stored {
    original: Lines,
    status: StatusCode,
    fields: HeaderMap,
    freshness: Freshness,
    model: rfc::Stored,
    lines: Lines,
}

struct Cache {
    config: Config,
    rules: Rules,
    now: i64,
    request: Lines,
    stored: Option<Stored>,
}

/// Plays an exchange. `Err` tells where Larder does what the model knows to be wrong.
pub(crate) fn play(text: &[u8]) -> Result<(), String> {
    let mut lines = text.split(|octet| *octet == b'\n').peekable();
    let mut cache = Cache::new();
    let mut step = Step::Request { after: 0, is_invalidated: false };
    let mut steps = 0;
    loop {
        // A step ends where the next one begins.
        let mut fields = Lines::new();
        let mut next = None;
        for line in lines.by_ref() {
            next = read_step(line, &mut cache.config);
            if next.is_some() {
                break;
            }
            if fields.len() < MOST_FIELDS {
                fields.extend(read_field(line, cache.now));
            }
        }
        cache.take(&step, fields).map_err(|find| format!("step {steps}: {find}"))?;
        steps += 1;
        match next {
            Some(next) if steps < MOST_STEPS => step = next,
            _ => return Ok(()),
        }
    }
}

fn read_step(line: &[u8], config: &mut Config) -> Option<Step> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_ascii_whitespace();
    let word = words.next()?;
    let mut number = || words.next().and_then(|word| word.parse::<i64>().ok()).unwrap_or(0);
    let span = |seconds: i64| seconds.clamp(-(1 << 33), 1 << 33);
    match word {
        "?" => Some(Step::Request { after: span(number()), is_invalidated: false }),
        "!" => Some(Step::Request { after: span(number()), is_invalidated: true }),
        "=" => {
            let status = u16::try_from(number().clamp(100, 999)).unwrap_or(200);
            Some(Step::Response { status, delay: span(number()) })
        }
        "x" => Some(Step::Disconnected),
        // What the configuration says, from here on.
        "ttl" => {
            config.ttl = Some(i128::from(number().clamp(1, 1 << 40)));
            None
        }
        "stale_if_error" => {
            config.stale_if_error = Some(i128::from(number().clamp(1, 1 << 31)));
            None
        }
        _ => None,
    }
}

fn read_field(line: &[u8], now: i64) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|octet| *octet == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    // As HTTP/1.1 would: without the space around it.
    let value = value.get(1..)?.trim_ascii();
    let value = match value.strip_prefix(b"@").map(String::from_utf8_lossy) {
        Some(offset) => {
            let offset = offset.parse::<i64>().ok()?.clamp(-(1 << 40), 1 << 40);
            // The year 9999 ends there.
            let time = i128::from(now + offset).clamp(0, 253_402_300_799);
            rfc::imf_fixdate(time).into_bytes()
        }
        None => value.to_vec(),
    };
    let is_field = VOCABULARY.contains(&&*name) && HeaderValue::from_bytes(&value).is_ok();
    is_field.then_some((name, value))
}

fn map(lines: &Lines) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
    map
}

fn at(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn seconds(span: Duration) -> i128 {
    i128::from(span.as_secs())
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
}

/// Larder does something that must not be, or does not do what must be.
fn check(holds: bool, find: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(find()) }
}

impl Cache {
    fn new() -> Self {
        Self {
            config: Config::default(),
            rules: Rules::default(),
            now: START,
            request: Lines::new(),
            stored: None,
        }
    }

    fn take(&mut self, step: &Step, fields: Lines) -> Result<(), String> {
        let span = |seconds: i128| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.rules = Rules {
            ttl: self.config.ttl.map(span),
            targets: vec![HeaderName::from_static(rfc::TARGET)],
            stale_if_error: self.config.stale_if_error.map(span),
            ..Rules::default()
        };
        match *step {
            Step::Request { after, is_invalidated } => {
                self.now = (self.now + after).max(0);
                self.request = fields;
                self.look_up(is_invalidated)
            }
            Step::Response { status, delay } => {
                let requested = (self.now - delay).max(0);
                let times = Times { requested: at(requested), received: at(self.now) };
                let response = rfc::Response {
                    status,
                    lines: fields,
                    requested: i128::from(requested),
                    received: i128::from(self.now),
                };
                self.in_trouble(Some(status))?;
                if status == 304 && self.stored.is_some() {
                    self.freshen(&response, &times)
                } else {
                    let fields = map(&response.lines);
                    self.store(response, &fields, &times)
                }
            }
            Step::Disconnected => self.in_trouble(None),
        }
    }

    fn look_up(&self, is_invalidated: bool) -> Result<(), String> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let presented = map(&self.request);
        let original = map(&stored.original);
        let Vary::Fields(names) = Vary::of(&stored.fields) else {
            return Err("stored in spite of a `Vary` that matches nothing".to_owned());
        };
        let is_match = names
            .iter()
            .all(|name| nominated_value(&presented, name) == nominated_value(&original, name));
        let certain = rfc::matches(&rfc::vary(&stored.lines), &stored.original, &self.request);
        check(certain.is_none_or(|certain| certain == is_match), || {
            format!("nominated fields match: {is_match}")
        })?;
        if is_match { self.reuse(stored, is_invalidated) } else { Ok(()) }
    }

    fn reuse(&self, stored: &Stored, is_invalidated: bool) -> Result<(), String> {
        let presented = map(&self.request);
        let now = i128::from(self.now);
        let directives = RequestDirectives::of(&presented);
        let found = semantics::reuse(&stored.freshness, is_invalidated, &directives, at(self.now));
        let allowed = stored.model.answer(&self.request, is_invalidated, now);
        let shown = || format!("{found:?}, but {allowed:?} for {:?}", stored.model);
        let times = match found {
            Reuse::Serve { age, ttl } => {
                check(allowed.serve, shown)?;
                Some((age, ttl))
            }
            Reuse::ServeStale { age, ttl } => {
                check(allowed.serve_stale, shown)?;
                Some((age, ttl))
            }
            Reuse::Forward(_) => {
                check(allowed.forward, shown)?;
                None
            }
        };
        if let Some((age, ttl)) = times {
            self.check_times(stored, age, ttl)?;
            let is_304 = semantics::not_modified(&presented, stored.status, &stored.fields);
            let certain = rfc::not_modified(&self.request, &stored.lines)
                .map(|is_304| is_304 && stored.status == StatusCode::OK);
            check(certain.is_none_or(|certain| certain == is_304), || format!("304: {is_304}"))?;
        }
        Ok(())
    }

    fn check_times(&self, stored: &Stored, age: Duration, ttl: i64) -> Result<(), String> {
        let now = i128::from(self.now);
        let certain = stored.model.age(now);
        check(certain.is_none_or(|certain| certain == seconds(age)), || {
            format!("age {age:?}, not {certain:?}")
        })?;
        let certain = stored.model.ttl(now);
        let ttl = i128::from(ttl);
        check(certain.is_none_or(|(least, most)| (least..=most).contains(&ttl)), || {
            format!("ttl {ttl}, not {certain:?}")
        })
    }

    fn in_trouble(&self, status: Option<u16>) -> Result<(), String> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let trouble = match status {
            None => Trouble::Disconnected,
            Some(status) => Trouble::Status(status_code(status)),
        };
        let directives = RequestDirectives::of(&map(&self.request));
        let found = semantics::reuse_in_trouble(
            &stored.freshness,
            &directives,
            trouble,
            &self.rules,
            at(self.now),
        );
        let now = i128::from(self.now);
        let (may, must) = stored.model.in_trouble(&self.request, status, &self.config, now);
        let shown = || format!("in trouble {found:?}, but may: {may}, must: {must}");
        match found {
            Some((age, ttl)) => {
                check(may, shown)?;
                self.check_times(stored, age, ttl)
            }
            None => check(!must, shown),
        }
    }

    fn freshen(&mut self, not_modified: &rfc::Response, times: &Times) -> Result<(), String> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let update = map(&not_modified.lines);
        let is_about = semantics::same_representation(&Validators::of(&stored.fields), &update);
        let certain = rfc::speaks_of(&stored.lines, &not_modified.lines);
        check(certain.is_none_or(|certain| certain == is_about), || {
            format!("the 304 speaks of what is stored: {is_about}")
        })?;
        if !is_about {
            return Ok(());
        }
        let merged = semantics::freshen(&stored.fields, &update);
        let lines = rfc::freshened(&stored.lines, &not_modified.lines);
        let status = stored.status.as_u16();
        // A 304 that ends storing ends it for good.
        self.stored = None;
        self.store(rfc::Response { status, lines, ..*not_modified }, &merged, times)
    }

    fn store(
        &mut self,
        response: rfc::Response,
        fields: &HeaderMap,
        times: &Times,
    ) -> Result<(), String> {
        let request = map(&self.request);
        let status = status_code(response.status);
        let asked = Asked {
            method: &Method::GET,
            fields: &request,
            directives: &RequestDirectives::of(&request),
            has_credentials: false,
        };
        let found = semantics::storable(&asked, status, fields, times, &self.rules);
        let certain = rfc::storing("GET", &self.request, &response, &self.config);
        let freshness = match (certain, found) {
            (Storing::Forbidden(why), Ok(_)) => return Err(format!("stored: {why}")),
            (Storing::Expected, Err(why)) => {
                return Err(format!("not stored ({}): {response:?}", why.as_str()));
            }
            (_, Err(why)) => {
                let of_others = matches!(
                    why,
                    NotStored::TooLarge | NotStored::Policy | NotStored::PolicyFailed
                );
                return check(!of_others, || format!("not stored: {}", why.as_str()));
            }
            (_, Ok(freshness)) => freshness,
        };
        let mut kept = fields.clone();
        semantics::fields_to_store(&mut kept, &self.rules, times.received);
        let model = rfc::stored(&response, &self.config);
        let withheld = model.withheld.clone();
        // What is validated each time anyway may keep all fields.
        let is_certain =
            |(_, unvalidated): &(_, Vec<_>)| unvalidated.is_empty() || !freshness.no_cache;
        let Some((private, unvalidated)) = withheld.filter(is_certain) else {
            // What was held back is uncertain, and with it all that a later 304 makes of the rest.
            // The response is judged by itself.
            self.judge(response, kept, freshness, model)?;
            self.stored = None;
            return Ok(());
        };
        let withheld: Vec<_> = private
            .iter()
            .chain(&unvalidated)
            .map(String::as_str)
            .chain(["age", "set-cookie"])
            .collect();
        for name in &withheld {
            let is_kept = kept.contains_key(*name) && *name != "date";
            check(!is_kept, || format!("`{name}` is kept"))?;
        }
        check(kept.contains_key("date"), || "no `Date`".to_owned())?;
        let is_withheld = |name: &str| withheld.contains(&name);
        let lines = response.lines.iter().filter(|line| !is_withheld(&line.0)).cloned().collect();
        self.judge(rfc::Response { lines, ..response }, kept, freshness, model)
    }

    /// Keeps it, and answers the request that caused it as if it had come a moment later.
    fn judge(
        &mut self,
        response: rfc::Response,
        fields: HeaderMap,
        freshness: Freshness,
        model: rfc::Stored,
    ) -> Result<(), String> {
        let stored = Stored {
            original: self.request.clone(),
            status: status_code(response.status),
            fields,
            freshness,
            model,
            lines: response.lines,
        };
        let answered = self.reuse(&stored, false);
        self.stored = Some(stored);
        answered
    }
}
