//! `[upstreams.NAME]`: the servers that requests are forwarded to, and how they are dealt with.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use toml::de::DeValue;

use super::fault::Wrong;
use super::reader::{Table, Value};
use super::sections::{DAY, HOUR, MILLISECOND};
use super::{Certificate, Place, address, nearest, shown, upstream_tls};

const SHAPE: &str = "write servers = [\"http://127.0.0.1:3000\"]";

/// `[upstreams.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The table's name.
    pub name: String,
    /// `servers`, at least one that is no backup.
    pub servers: Vec<UpstreamServer>,
    /// `balance`, default `round-robin`.
    pub balance: Balance,
    /// `eject`; none for `false`.
    pub eject: Option<Eject>,
    /// `slow_start`, default none, at most 1 h: over so long a server that was ejected comes back to
    /// its whole weight.
    pub slow_start: Duration,
    /// `health`; without it, nobody is asked unless there is a request.
    pub health: Option<Health>,
    /// `resolve`, default 10 s, 1 s to 1 day: names of servers are looked up again after so long. None
    /// for `false`: for each connection.
    pub resolve: Option<Duration>,
    /// `retries`; none for `false`.
    pub retries: Retries,
    /// `max_requests` in flight at each server, 1 to 1000000; no bound by default.
    pub max_requests: Option<usize>,
    /// `max_waiting`, default 100, at most 100000: so many requests wait while all servers have as many
    /// as they may.
    pub max_waiting: usize,
    /// `max_wait`, default 1 s, at most 1 h: and for so long.
    pub max_wait: Duration,
    /// `connect_timeout`, default 2 s, 1 ms to 1 h, the TLS handshake included.
    pub connect_timeout: Duration,
    /// `timeout` from the end of the connect to the response head, default 30 s, 1 ms to 1 day.
    pub timeout: Duration,
    /// `idle_timeout`: silence between two pieces of a body, default 30 s, 1 ms to 1 day.
    pub idle_timeout: Duration,
    /// `http`, default `auto`: which version of HTTP its servers speak.
    pub http: Http,
    /// `preserve_host`, default true: send the client's `Host`; false sends the server's own.
    pub preserve_host: bool,
    /// `total_timeout` of an exchange from its beginning to the end of the response; none by default, 1 ms
    /// to 1 day.
    pub total_timeout: Option<Duration>,
    /// `ca`, or `tls.ca`: a PEM file with the authorities to believe instead of the system's; relative ones are
    /// found from the folder of `gateway.toml`.
    pub ca: Option<PathBuf>,
    /// `tls.certificate` and `tls.key`: who Larder is to servers that ask.
    pub identity: Option<Certificate>,
    /// `tls.server_name`: the host that servers are asked for and that their certificates must be for,
    /// instead of that of their URL.
    pub server_name: Option<String>,
    /// Where `ca`'s value stands, or the table's name if there is none.
    pub place: Place,
}

/// One of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// `url`: `http://host[:port]` or `https://host[:port]`, and nothing after it but a `/`.
    pub url: http::Uri,
    /// `weight`, default 1, 1 to 1000: its share of the requests, in proportion to the others'.
    pub weight: u32,
    /// `backup`, default false: it is asked only when no other server can be.
    pub backup: bool,
}

/// Which version of HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http {
    /// What the TLS handshake says (RFC 7301), HTTP/2 rather than HTTP/1.1; in cleartext HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    V1,
    /// HTTP/2; in cleartext it is known of (RFC 9113 §3.3).
    V2,
}

/// Which server gets a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn, by its weight.
    #[default]
    RoundRobin,
    /// Of two that are drawn, the one with fewer requests in flight.
    LeastRequests,
    /// The one that the cache key falls to; without a key, the target.
    Hash,
}

/// `eject`: when a server is left alone, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eject {
    /// `failures` in a row, default 5, 1 to 1000.
    pub failures: u32,
    /// `for`, default 10 s, 1 ms to 1 day; twice as long each time it fails again.
    pub period: Duration,
    /// `at_most`, default 5 min, 1 ms to 1 day.
    pub at_most: Duration,
    /// `statuses` that are failures, default 502 to 504.
    pub statuses: Statuses,
}

/// `health`: how servers are checked, whatever requests there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `path`, and a query if need be, that is asked for by `GET`.
    pub path: String,
    /// `statuses` that are healthy, default 200 to 399.
    pub statuses: Statuses,
    /// `interval`, default 5 s, 1 ms to 1 h.
    pub interval: Duration,
    /// `timeout` of one check, default 1 s, 1 ms to 1 h.
    pub timeout: Duration,
    /// `rise`: so many good checks in a row bring a server back, default 2, 1 to 100.
    pub rise: u32,
    /// `fall`: so many bad ones in a row take it out, default 3, 1 to 100.
    pub fall: u32,
    /// `host`, default the server's own.
    pub host: Option<String>,
}

/// `retries`: how often a request that failed is sent again, to another server.
#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// `most` for one request, default 2, 0 to 10. A connection that was refused does not count.
    pub most: u32,
    /// `budget`, default 0.2: what retries may be of the requests of the last ten seconds…
    pub budget: f64,
    /// `at_least`, default 100, at most 1000000: … unless they are fewer than this.
    pub at_least: u32,
    /// `statuses` for which another server is asked, default none.
    pub statuses: Statuses,
}

/// Some status codes: `200-299, 404`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// All of these.
    pub fn of(codes: RangeInclusive<u16>) -> Self {
        Self(vec![codes])
    }

    /// Whether it is one of them.
    pub fn has(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl Default for Eject {
    fn default() -> Self {
        Self {
            failures: 5,
            period: Duration::from_secs(10),
            at_most: Duration::from_mins(5),
            statuses: Statuses::of(502..=504),
        }
    }
}

impl Health {
    /// With every default but the path.
    pub fn new(path: String) -> Self {
        Self {
            path,
            statuses: Statuses::of(200..=399),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            host: None,
        }
    }
}

impl Retries {
    /// None at all.
    pub const NONE: Self =
        Self { most: 0, budget: 0.0, at_least: 0, statuses: Statuses(Vec::new()) };
}

impl Default for Retries {
    fn default() -> Self {
        Self { most: 2, budget: 0.2, at_least: 100, statuses: Statuses::default() }
    }
}

impl Upstream {
    /// With every default.
    pub fn new(name: String, servers: Vec<UpstreamServer>) -> Self {
        Self {
            name,
            servers,
            balance: Balance::default(),
            eject: Some(Eject::default()),
            slow_start: Duration::ZERO,
            health: None,
            resolve: Some(Duration::from_secs(10)),
            retries: Retries::default(),
            max_requests: None,
            max_waiting: 100,
            max_wait: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            http: Http::default(),
            preserve_host: true,
            total_timeout: None,
            ca: None,
            identity: None,
            server_name: None,
            place: Place::default(),
        }
    }
}

impl UpstreamServer {
    /// With every default.
    pub fn new(url: http::Uri) -> Self {
        Self { url, weight: 1, backup: false }
    }
}

/// A table `[upstreams.NAME]`. What is wrong with it is replaced by its default.
pub(super) fn read(name: String, mut table: Table<'_>, folder: &Path) -> Upstream {
    let [label, tls] = ["health", "tls"].map(|key| format!("upstream `{name}` {key}"));
    let (servers, urls): (Vec<_>, Vec<_>) = servers(&mut table).into_iter().unzip();
    let default = Upstream::new(name, servers);
    let secured = upstream_tls::read(&mut table, &tls, &default.servers, folder);
    secured.check_hosts(&default.servers, &urls);
    table.only_with("max_requests", &["max_waiting", "max_wait"]);
    let upstream = Upstream {
        balance: table.read("balance", default.balance, balance),
        eject: table.take("eject").map_or(default.eject, |value| eject(&value)),
        slow_start: table.duration("slow_start", default.slow_start, Duration::ZERO..=HOUR),
        max_requests: table
            .take("max_requests")
            .and_then(|value| value.count(1..=1_000_000))
            .and_then(|count| usize::try_from(count).ok()),
        max_waiting: table.count("max_waiting", default.max_waiting, 0..=100_000),
        max_wait: table.duration("max_wait", default.max_wait, Duration::ZERO..=HOUR),
        health: table.take("health").and_then(|value| health(&value, &label)),
        resolve: table.take("resolve").map_or(default.resolve, |value| resolve(&value)),
        retries: table.take("retries").map_or(default.retries, |value| retries(&value)),
        connect_timeout: table.duration(
            "connect_timeout",
            default.connect_timeout,
            MILLISECOND..=HOUR,
        ),
        timeout: table.duration("timeout", default.timeout, MILLISECOND..=DAY),
        idle_timeout: table.duration("idle_timeout", default.idle_timeout, MILLISECOND..=DAY),
        http: table.read("http", default.http, http),
        preserve_host: table.boolean("preserve_host", default.preserve_host),
        total_timeout: table
            .take("total_timeout")
            .and_then(|value| value.duration(MILLISECOND..=DAY)),
        place: secured.place.unwrap_or(table.place),
        ca: secured.ca,
        identity: secured.identity,
        server_name: secured.server_name,
        ..default
    };
    table.finish();
    upstream
}

/// Each with the value that is its URL.
fn servers<'a>(table: &mut Table<'a>) -> Vec<(UpstreamServer, Value<'a>)> {
    let Some(value) = table.take("servers") else {
        table.missing("servers", SHAPE);
        return Vec::new();
    };
    let elements = value.list(|| SHAPE.to_owned()).unwrap_or_default();
    let servers: Vec<_> = elements.into_iter().filter_map(server).collect();
    if !servers.is_empty() && servers.iter().all(|(server, _)| server.backup) {
        let hint = "leave `backup` out of one of them".to_owned();
        value.report("servers are backups of nothing", Some(hint));
    }
    servers
}

/// A URL, or a table with one.
fn server(element: Value<'_>) -> Option<(UpstreamServer, Value<'_>)> {
    if !matches!(element.content, DeValue::Table(_)) {
        let url = element.read(address::server)?;
        return Some((UpstreamServer::new(url), element));
    }
    let mut table = element.inner_table(|| SHAPE.to_owned())?;
    let value = table.take("url");
    if value.is_none() {
        table.missing("url", "write { url = \"http://127.0.0.1:3000\", weight = 2 }");
    }
    let weight = table.count("weight", 1, 1..=1000);
    let backup = table.boolean("backup", false);
    table.finish();
    let value = value?;
    let url = value.read(address::server)?;
    Some((UpstreamServer { url, weight, backup }, value))
}

fn resolve(value: &Value<'_>) -> Option<Duration> {
    match value.content {
        DeValue::Boolean(false) => None,
        _ => value.duration(Duration::from_secs(1)..=DAY),
    }
}

fn eject(value: &Value<'_>) -> Option<Eject> {
    let default = Eject::default();
    if matches!(value.content, DeValue::Boolean(false)) {
        return None;
    }
    let hint = || "write eject = { failures = 5, for = \"10s\" }, or false".to_owned();
    let Some(mut table) = value.inner_table(hint) else { return Some(default) };
    let eject = Eject {
        failures: table.count("failures", default.failures, 1..=1000),
        period: table.duration("for", default.period, MILLISECOND..=DAY),
        at_most: table.duration("at_most", default.at_most, MILLISECOND..=DAY),
        statuses: table.read("statuses", default.statuses, statuses),
    };
    if eject.at_most < eject.period {
        let hint = "let `at_most` be at least as long".to_owned();
        table.report(table.place, "`for` is longer than `at_most`", Some(hint));
    }
    table.finish();
    Some(eject)
}

/// None without a path.
fn health(value: &Value<'_>, label: &str) -> Option<Health> {
    const SHAPE: &str = "write health = { path = \"/healthz\" }";

    let mut table = value.table(label, || SHAPE.to_owned())?;
    let path = table.take("path");
    // Its query may be a secret.
    let path = path.map(|value| value.secret(|text| shown::plain(&shown::path(text))));
    if path.is_none() {
        table.missing("path", SHAPE);
    }
    let path = path.and_then(|value| value.read(path_and_query));
    let default = Health::new(path.clone().unwrap_or_default());
    let health = Health {
        statuses: table.read("statuses", default.statuses, healthy),
        interval: table.duration("interval", default.interval, MILLISECOND..=HOUR),
        timeout: table.duration("timeout", default.timeout, MILLISECOND..=HOUR),
        rise: table.count("rise", default.rise, 1..=100),
        fall: table.count("fall", default.fall, 1..=100),
        host: table.read("host", default.host, |text| authority(text).map(Some)),
        path: default.path,
    };
    table.finish();
    path.map(|_| health)
}

fn path_and_query(text: &str) -> Result<String, Wrong> {
    let is_path = text.starts_with('/') && http::uri::PathAndQuery::try_from(text).is_ok();
    let wrong = || Wrong::new("is not a path").with_hint("write one as in \"/healthz\"");
    if is_path { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn authority(text: &str) -> Result<String, Wrong> {
    let wrong = || Wrong::new("is not a host").with_hint("write one as in \"shop.example\"");
    address::check_authority(text).map(|()| text.to_owned()).ok_or_else(wrong)
}

fn retries(value: &Value<'_>) -> Retries {
    let default = Retries::default();
    if matches!(value.content, DeValue::Boolean(false)) {
        return Retries::NONE;
    }
    let hint = || "write retries = { most = 2, budget = 0.2 }, or false".to_owned();
    let Some(mut table) = value.inner_table(hint) else { return default };
    let retries = Retries {
        most: table.count("most", default.most, 0..=10),
        budget: table.share("budget", default.budget),
        at_least: table.count("at_least", default.at_least, 0..=1_000_000),
        statuses: table.read("statuses", default.statuses, statuses),
    };
    table.finish();
    retries
}

/// Codes and ranges of them; none if the text is empty.
fn statuses(text: &str) -> Result<Statuses, Wrong> {
    let status = |text: &str| text.parse().ok().filter(|code| (100..600).contains(code));
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (status(first.trim())?, status(last.trim())?);
        (first <= last).then_some(first..=last)
    };
    if text.trim().is_empty() {
        return Ok(Statuses::default());
    }
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    ranges.map(Statuses).ok_or_else(|| {
        Wrong::new("is not a list of status codes").with_hint("write them as in \"200-299, 404\"")
    })
}

/// Without any, no server would ever be healthy.
fn healthy(text: &str) -> Result<Statuses, Wrong> {
    let wrong = || Wrong::new("names none").with_hint("write them as in \"200-399\"");
    statuses(text).and_then(|it| if it.0.is_empty() { Err(wrong()) } else { Ok(it) })
}

fn http(text: &str) -> Result<Http, Wrong> {
    match text {
        "auto" => Ok(Http::Auto),
        "1.1" => Ok(Http::V1),
        "2" => Ok(Http::V2),
        _ => Err(Wrong::new("is no version of HTTP that is spoken to servers")
            .with_hint("write \"auto\", \"1.1\" or \"2\"")),
    }
}

fn balance(text: &str) -> Result<Balance, Wrong> {
    match text {
        "round-robin" => Ok(Balance::RoundRobin),
        "least-requests" => Ok(Balance::LeastRequests),
        "hash" => Ok(Balance::Hash),
        _ => {
            let known = ["round-robin", "least-requests", "hash"];
            let hint = nearest::hint(text, "write one of", known);
            Err(Wrong { complaint: "is not one of the three ways to choose".to_owned(), hint })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes() {
        for (text, has, lacks) in [
            ("200-399", &[200, 399][..], &[199, 400][..]),
            ("404", &[404], &[403, 405]),
            ("200 - 204,404", &[200, 204, 404], &[205]),
            ("", &[], &[200]),
        ] {
            let statuses = statuses(text).unwrap();
            let is_one = |code: &u16| statuses.has(StatusCode::from_u16(*code).unwrap());
            assert!(has.iter().all(is_one), "{text}");
            assert!(!lacks.iter().any(is_one), "{text}");
        }
        for text in ["", " "] {
            assert_eq!(healthy(text).unwrap_err().complaint, "names none");
        }
        for text in ["all", "99", "600", "5xx", "300-200", "200-", "200,,201", "2 00"] {
            assert_eq!(statuses(text).unwrap_err().complaint, "is not a list of status codes");
        }
    }
}
