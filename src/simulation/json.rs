//! Logs of JSON, an object a line. Which member says what is guessed by the names that nginx's users, Caddy,
//! Traefik, Envoy, load balancers and Larder itself give them; or said by the user.

use http::header::{HOST, HeaderMap, HeaderName, REFERER, USER_AGENT};
use serde_json::{Map, Value};

use super::exchange::{self, Asked, Broken, Exchange, is_there};
use super::time::{self, Times};

/// What a member can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// When it was.
    Time,
    /// The request's method.
    Method,
    /// The target, or the whole URL.
    Uri,
    /// The query, where `Uri` has none.
    Query,
    /// The request line.
    Line,
    /// The authority.
    Host,
    /// `http` or `https`.
    Scheme,
    /// Who has sent it, by credentials.
    User,
    /// The status of the answer.
    Status,
    /// How many octets were sent.
    Bytes,
}

/// Each role with the names that are tried, in this order. A dot leads into an object.
const NAMES: [(Role, &str, &[&str]); 10] = [
    (
        Role::Time,
        "time",
        &[
            "time",
            "timestamp",
            "@timestamp",
            "ts",
            "time_iso8601",
            "time_local",
            "msec",
            "StartUTC",
            "StartLocal",
            "start_time",
            "startTime",
            "date",
            "datetime",
        ],
    ),
    (
        Role::Method,
        "method",
        &[
            "method",
            "request_method",
            "RequestMethod",
            "request.method",
            "httpRequest.requestMethod",
            "http.request.method",
            "requestMethod",
            "verb",
            "cs-method",
            ":method",
        ],
    ),
    (
        Role::Uri,
        "uri",
        &[
            "request_uri",
            "uri",
            "url",
            "path",
            "RequestPath",
            "request.uri",
            "request.url",
            "httpRequest.requestUrl",
            "requestUrl",
            "target",
            "x-envoy-original-path",
            ":path",
            "url.original",
            "cs-uri-stem",
        ],
    ),
    (Role::Query, "query", &["args", "query_string", "query", "url.query", "cs-uri-query"]),
    (Role::Line, "request", &["request", "request_line"]),
    (
        Role::Host,
        "host",
        &[
            "host",
            "http_host",
            "request_host",
            "authority",
            ":authority",
            "RequestHost",
            "request.host",
            "server_name",
            "vhost",
            "url.domain",
            "cs-host",
        ],
    ),
    (
        Role::Scheme,
        "scheme",
        &["scheme", "RequestScheme", "request.scheme", "url.scheme", "x_forwarded_proto"],
    ),
    (
        Role::User,
        "user",
        &["remote_user", "user", "ClientUsername", "user_id", "user.name", "cs-username"],
    ),
    (
        Role::Status,
        "status",
        &[
            "status",
            "response_code",
            "DownstreamStatus",
            "OriginStatus",
            "status_code",
            "response.status",
            "httpRequest.status",
            "http.response.status_code",
            "responseStatus",
            "sc-status",
            "code",
        ],
    ),
    (
        Role::Bytes,
        "bytes",
        &[
            "body_bytes_sent",
            "bytes_sent",
            "bytes",
            "size",
            "DownstreamContentSize",
            "response_size",
            "httpRequest.responseSize",
            "responseSize",
            "response.bytes",
            "http.response.body.bytes",
            "content_length",
            "sc-bytes",
        ],
    ),
];

/// Objects whose members are fields of requests, and of responses.
const OF_REQUESTS: [&str; 4] = ["headers", "request_headers", "request.headers", "req_headers"];
const OF_RESPONSES: [&str; 4] =
    ["resp_headers", "response_headers", "response.headers", "res_headers"];

/// What names of members begin with that hold one field each.
const REQUEST_FIELD: [&str; 2] = ["http_", "request_"];
const RESPONSE_FIELD: [&str; 4] = ["sent_http_", "upstream_http_", "downstream_", "origin_"];

/// Which member says what, as the user says.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(Role, String)>);

/// Reads the lines of one log.
#[derive(Debug)]
pub(super) struct Json {
    told: Fields,
    /// Which name was found last for a role.
    found: [Option<&'static str>; NAMES.len()],
    times: Times,
}

impl Fields {
    /// Adds one: `time=when`, or `bytes=answer.length`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<(Role, String), String> {
        let (role, name) = text.split_once('=').unwrap_or((text, ""));
        let known = NAMES.iter().find(|(_, known, _)| *known == role);
        match known {
            Some((role, _, _)) if !name.is_empty() => Ok((*role, name.to_owned())),
            _ => {
                let known: Vec<_> = NAMES.iter().map(|(_, known, _)| *known).collect();
                Err(format!("write `ROLE=NAME`, where ROLE is one of {}", known.join(", ")))
            }
        }
    }

    /// All that the user says.
    pub fn of(all: &[(Role, String)]) -> Self {
        Self(all.to_vec())
    }
}

impl Json {
    pub(super) fn new(told: Fields) -> Self {
        Self { told, found: [None; NAMES.len()], times: Times::default() }
    }

    /// What a line tells.
    pub(super) fn read(&mut self, line: &[u8]) -> Result<Exchange, Broken> {
        let line: Map<String, Value> =
            serde_json::from_slice(line).map_err(|_| Broken("it is no JSON object"))?;
        let at = match self.find(&line, Role::Time) {
            Some(Value::Number(number)) => number.as_f64().and_then(time::since),
            Some(Value::String(text)) => self.times.any(text.as_bytes()),
            _ => return Err(Broken("there is no time: name it by `--field time=NAME`")),
        };
        let at = at.ok_or(Broken("the time cannot be read"))?;
        let asked = self.asked(&line)?;
        let status = self.text(&line, Role::Status).ok_or(Broken("there is no status"))?;
        let status = exchange::status(&status)?;
        let octets = self.text(&line, Role::Bytes).and_then(|bytes| bytes.parse().ok());
        let host = self.text(&line, Role::Host);
        let mut exchange = asked.answered(at, host.as_deref(), status, octets);
        let scheme = self.text(&line, Role::Scheme);
        exchange.scheme = exchange.scheme.or(scheme.and_then(|it| exchange::scheme(&it)));
        let Exchange { head, fields, .. } = &mut exchange;
        read_fields(&line, &mut head.headers, fields);
        if let Some(user) = self.text(&line, Role::User) {
            exchange::authorize(&mut exchange.head.headers, user.as_bytes());
        }
        Ok(exchange)
    }

    fn asked(&mut self, line: &Map<String, Value>) -> Result<Asked, Broken> {
        let method = self.text(line, Role::Method);
        let uri = self.text(line, Role::Uri);
        let (Some(method), Some(mut uri)) = (method, uri) else {
            let request = self.text(line, Role::Line);
            let request = request.ok_or(Broken("there is no method and target"))?;
            return Asked::of_line(&request);
        };
        if !uri.contains('?')
            && let Some(query) = self.text(line, Role::Query)
        {
            uri.push('?');
            uri.push_str(query.strip_prefix('?').unwrap_or(&query));
        }
        Asked::of(method.as_bytes(), &uri)
    }

    /// What a role's member has, as a text.
    fn text(&mut self, line: &Map<String, Value>, role: Role) -> Option<String> {
        match self.find(line, role)? {
            Value::String(text) => {
                Some(text.as_str()).filter(|text| is_there(text)).map(str::to_owned)
            }
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn find<'l>(&mut self, line: &'l Map<String, Value>, role: Role) -> Option<&'l Value> {
        if let Some((_, name)) = self.told.0.iter().find(|(told, _)| *told == role) {
            return member(line, name);
        }
        let place = NAMES.iter().position(|(known, _, _)| *known == role)?;
        let found = self.found.get_mut(place)?;
        if let Some(value) = found.and_then(|name| scalar(line, name)) {
            return Some(value);
        }
        let (_, _, names) = NAMES.get(place)?;
        let (name, value) = names.iter().find_map(|name| Some((*name, scalar(line, name)?)))?;
        *found = Some(name);
        Some(value)
    }
}

/// A member that may say something by itself.
fn scalar<'l>(line: &'l Map<String, Value>, name: &str) -> Option<&'l Value> {
    member(line, name).filter(|value| matches!(value, Value::String(_) | Value::Number(_)))
}

/// A member of this name, or one that dots lead to.
fn member<'l>(line: &'l Map<String, Value>, name: &str) -> Option<&'l Value> {
    if let Some(value) = line.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    member(line.get(first)?.as_object()?, rest)
}

/// Adds what a line has of fields.
fn read_fields(line: &Map<String, Value>, request: &mut HeaderMap, response: &mut HeaderMap) {
    for (name, value) in line {
        match value {
            Value::String(value) => one_field(name, value, request, response),
            Value::Object(inner) if name == "request" || name == "response" => {
                if let Some(Value::Object(inner)) = inner.get("headers") {
                    many_fields(inner, if name == "request" { request } else { response });
                }
            }
            Value::Object(inner) if OF_REQUESTS.contains(&name.as_str()) => {
                many_fields(inner, request);
            }
            Value::Object(inner) if OF_RESPONSES.contains(&name.as_str()) => {
                many_fields(inner, response);
            }
            _ => {}
        }
    }
}

fn one_field(name: &str, value: &str, request: &mut HeaderMap, response: &mut HeaderMap) {
    match name {
        "user_agent" | "userAgent" => return exchange::add(request, USER_AGENT, value.as_bytes()),
        "referer" | "referrer" => return exchange::add(request, REFERER, value.as_bytes()),
        "cache_control" | "cache-control" => {
            return exchange::add(response, http::header::CACHE_CONTROL, value.as_bytes());
        }
        // They say other things.
        "http_host" | "http_method" | "http_version" | "request_method" | "request_uri"
        | "request_id" | "request_time" | "request_length" | "request_line" | "http_status" => {
            return;
        }
        _ => {}
    }
    let starts = |all: &[&str]| all.iter().find_map(|prefix| name.strip_prefix(prefix)).map(named);
    if let Some(Some(name)) = starts(&RESPONSE_FIELD) {
        exchange::add(response, name, value.as_bytes());
    } else if let Some(Some(name)) = starts(&REQUEST_FIELD)
        // There is one, and what has told it before is more to the point.
        && (name != HOST || !request.contains_key(HOST))
    {
        exchange::add(request, name, value.as_bytes());
    }
}

fn many_fields(all: &Map<String, Value>, fields: &mut HeaderMap) {
    for (name, value) in all {
        let Some(name) = named(name).filter(|name| *name != HOST) else { continue };
        match value {
            Value::String(value) => exchange::add(fields, name, value.as_bytes()),
            Value::Array(values) => {
                for value in values.iter().filter_map(Value::as_str) {
                    exchange::add(fields, name.clone(), value.as_bytes());
                }
            }
            _ => {}
        }
    }
}

/// nginx has `_` in the place of `-`.
fn named(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.replace('_', "-").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(line: &Value) -> Result<Exchange, &'static str> {
        Json::new(Fields::default()).read(line.to_string().as_bytes()).map_err(|Broken(why)| why)
    }

    fn told(exchange: &Exchange) -> String {
        let Exchange { head, status, fields, octets, scheme, .. } = exchange;
        let shown = |fields: &HeaderMap| {
            let mut all: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
                .collect();
            all.sort();
            all.join(",")
        };
        format!(
            "{} {} {} {:?} {:?} [{}] [{}]",
            head.method,
            head.uri,
            status.as_u16(),
            octets,
            scheme,
            shown(&head.headers),
            shown(fields)
        )
    }

    #[test]
    fn lines_are_read_as_servers_write_them() {
        for (line, expected) in [
            (
                // nginx, all values strings.
                json!({ "time_iso8601": "2026-11-26T04:34:24+00:00", "request_method": "GET",
                        "request_uri": "/a?b", "uri": "/a", "host": "h", "status": "200",
                        "body_bytes_sent": "12", "http_user_agent": "c/8", "http_accept_language": "de",
                        "http_referer": "-", "sent_http_cache_control": "max-age=60",
                        "request_time": "0.1", "scheme": "https" }),
                "GET /a?b 200 Some(12) Some(\"https\") [accept-language=de,host=h,user-agent=c/8] \
                 [cache-control=max-age=60]",
            ),
            (
                json!({ "msec": 1_795_667_664.12, "request": "GET /a HTTP/1.1", "status": 304 }),
                "GET /a 304 None None [] []",
            ),
            (
                // Caddy.
                json!({ "ts": 1_795_667_664.12, "request": { "method": "GET", "host": "h", "uri": "/a",
                        "headers": { "User-Agent": ["c/8"], "Host": ["x"] } }, "status": 200, "size": 5,
                        "resp_headers": { "Cache-Control": ["max-age=60"], "Vary": ["A", "B"] } }),
                "GET /a 200 Some(5) None [host=h,user-agent=c/8] [cache-control=max-age=60,vary=A,vary=B]",
            ),
            (
                // Traefik.
                json!({ "StartUTC": "2026-11-26T04:34:24.12Z", "RequestMethod": "GET", "RequestPath": "/a?b",
                        "RequestHost": "h", "DownstreamStatus": 200, "DownstreamContentSize": 7,
                        "request_User-Agent": "c/8", "downstream_Cache-Control": "no-store" }),
                "GET /a?b 200 Some(7) None [host=h,user-agent=c/8] [cache-control=no-store]",
            ),
            (
                // Larder.
                json!({ "time": "2026-11-26T04:34:24.120Z", "client": "192.0.2.1", "method": "GET",
                        "scheme": "https", "host": "h", "target": "/a?b", "protocol": "HTTP/1.1",
                        "status": 200, "bytes": 7, "duration_seconds": 0.1, "cache_status": "larder; hit",
                        "key": "a?b", "route": "r", "referrer": "http://r/", "trace_id": null }),
                "GET /a?b 200 Some(7) Some(\"https\") [host=h,referer=http://r/] []",
            ),
            (
                // Envoy.
                json!({ "start_time": "2026-11-26T04:34:24.120Z", "method": "GET", "path": "/a",
                        "authority": "h", "response_code": 200, "bytes_sent": 7, "user_agent": "c/8" }),
                "GET /a 200 Some(7) None [host=h,user-agent=c/8] []",
            ),
            (
                json!({ "timestamp": 1_795_667_664_120_u64, "method": "GET", "path": "/a", "query": "b=1",
                        "host": "h", "status": 200, "bytes": 7 }),
                "GET /a?b=1 200 Some(7) None [host=h] []",
            ),
        ] {
            let exchange = read(&line).unwrap_or_else(|why| panic!("{line}: {why}"));
            assert_eq!(told(&exchange), expected, "{line}");
            assert_eq!(exchange.at / 1000, 1_795_667_664, "{line}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        for (hosts, expected) in [
            (json!({ "host": "a", "request_host": "b", "http_host": "c" }), "a"),
            (json!({ "request_host": "b", "request_Host": "c" }), "b"),
            (json!({ "request_Host": "c", "http_Host": "c" }), "c"),
        ] {
            let mut line = hosts.clone();
            for (name, value) in [("time", json!(5)), ("uri", json!("/")), ("status", json!(200))] {
                line[name] = value;
            }
            line["method"] = json!("GET");
            let exchange = read(&line).unwrap();
            let found: Vec<_> = exchange.head.headers.get_all(HOST).iter().collect();
            assert_eq!(found, [expected], "{hosts}");
        }
    }

    #[test]
    fn a_user_has_credentials() {
        for (member, expected) in [
            (json!({ "remote_user": "bob" }), Some("Basic Ym9iOg==")),
            (json!({ "ClientUsername": "-" }), None),
            (json!({ "user_id": "" }), None),
            (json!({ "user": { "name": "bob" } }), Some("Basic Ym9iOg==")),
            (json!({ "remote_user": "bob", "http_authorization": "Bearer x" }), Some("Bearer x")),
        ] {
            let mut line = member.clone();
            line["time"] = json!(5);
            line["request"] = json!("GET / HTTP/1.1");
            line["status"] = json!(200);
            let exchange = read(&line).unwrap();
            let found: Vec<_> = exchange.head.headers.get_all("authorization").iter().collect();
            assert_eq!(found, expected.as_slice(), "{member}");
        }
    }

    #[test]
    fn members_are_what_the_user_says() {
        let fields = ["time=when.began", "status=s", "uri=u"];
        let fields: Vec<_> = fields.iter().map(|it| Fields::parse(it).unwrap()).collect();
        let mut json = Json::new(Fields::of(&fields));
        let line =
            json!({ "when": { "began": 5 }, "u": "/a", "path": "/b", "method": "GET", "s": 404 });
        let exchange = json.read(line.to_string().as_bytes()).unwrap();
        assert_eq!((exchange.at, &*told(&exchange)), (5000, "GET /a 404 None None [] []"));
        for wrong in ["", "time", "time=", "when=x"] {
            let told = Fields::parse(wrong).unwrap_err();
            assert!(
                told.starts_with("write `ROLE=NAME`, where ROLE is one of time, method"),
                "{told}"
            );
        }
    }

    #[test]
    fn broken_lines_are_told_by_their_reason() {
        for (line, expected) in [
            (json!([]), "it is no JSON object"),
            (json!({}), "there is no time: name it by `--field time=NAME`"),
            (json!({ "time": "soon" }), "the time cannot be read"),
            (json!({ "time": 5, "method": "GET" }), "there is no method and target"),
            (json!({ "time": 5, "method": "GET", "path": "/" }), "there is no status"),
            (
                json!({ "time": 5, "method": "GET", "path": "/", "status": "x" }),
                "there is no status",
            ),
        ] {
            assert_eq!(read(&line).unwrap_err(), expected, "{line}");
        }
    }
}
