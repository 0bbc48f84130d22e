//! What a route does to messages on their way: `rewrite`, `fields`, `max_request_body`, `compress`.

use http::{HeaderName, HeaderValue};

use super::fault::Wrong;
use super::pattern::{self, Piece};
use super::reader::{Table, Value};
use super::routes::{self, Origins};
use super::{Origin, Route, address, compress, nearest, shown};

/// `rewrite`: what the upstream is asked for instead of what the client asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// `path`: a path with what the route's own has captured, `/v2/{rest}`. The query stays.
    pub path: Option<String>,
    /// `host`: in `Host`.
    pub host: Option<String>,
    /// `location`, default false: `Location` and `Content-Location` are put back into what the client
    /// would ask for.
    pub location: bool,
}

/// `fields`: what is changed in messages that pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFields {
    /// Of requests, before they go forward.
    pub request: FieldChanges,
    /// Of responses, as they come in.
    pub response: FieldChanges,
}

/// Changes of fields. A value's `Debug` is hidden: it may be a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// `remove`: all lines of these. Done first.
    pub remove: Vec<HeaderName>,
    /// `set`: one line, instead of those that there are.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// `add`: a line more.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl FieldChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Whether what there was of a field is gone.
    pub fn hides(&self, name: &HeaderName) -> bool {
        self.remove.contains(name) || self.set.iter().any(|(set, _)| set == name)
    }
}

/// What the gateway sees to itself in a request.
const OWN_OF_REQUESTS: [&str; 9] = [
    "cdn-loop",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];

/// The same in a response: what says how old it is, and what of which content it has.
const OWN_OF_RESPONSES: [&str; 4] = ["age", "cache-status", "content-range", "date"];

/// The same in both: what is of one connection, what frames, and who passed it on.
const OWN_OF_BOTH: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The route with what its table says of messages.
pub(super) fn read(
    route: Option<Route>,
    table: &mut Table<'_>,
    origins: &Origins<'_>,
) -> Option<Route> {
    let rewrite = table.take("rewrite");
    let is_document = matches!(route, Some(Route { origin: Origin::Document(_), .. }));
    let label = format!("{}, fields", table.label);
    let fields = table.take("fields").map(|value| fields(&value, &label, is_document));
    let max_request_body = table.size("max_request_body", u64::MAX, 0..=1 << 40);
    let compress = table.take("compress").and_then(|value| compress::read(&value));
    let route = route?;
    let rewrite = rewrite.and_then(|value| self::rewrite(&value, &route, origins));
    let fields = fields.unwrap_or_default();
    Some(Route { max_request_body, rewrite, fields, compress, ..route })
}

fn rewrite(value: &Value<'_>, route: &Route, origins: &Origins<'_>) -> Option<Rewrite> {
    const SHAPE: &str = "write rewrite = { path = \"/v2/{rest}\", host = \"api.internal\" }";

    let upstream = match &route.origin {
        Origin::Upstream(place) => origins.upstreams.get(*place),
        Origin::Document(_) => {
            value.report("rewrite is for an upstream, and documents have none", None);
            return None;
        }
    };
    let label = format!("route `{}`, rewrite", route.name);
    let mut table = value.table(&label, || SHAPE.to_owned())?;
    let (path, host) = (table.take("path"), table.take("host"));
    let location = table.take("location");
    if let Some(host) = &host
        && upstream.is_some_and(|upstream| !upstream.preserve_host)
    {
        let hint = "leave it out, or preserve_host of the upstream".to_owned();
        host.report("host would not be sent, as the upstream sends its servers' own", Some(hint));
    }
    if path.is_none() && host.is_none() {
        table.missing("path", SHAPE);
    }
    let template = path.as_ref().and_then(|value| value.read(|text| template(text, route)));
    let rewrite = Rewrite {
        location: location.as_ref().and_then(Value::boolean).unwrap_or_default(),
        host: host.and_then(|value| value.read(address::authority)),
        path: template,
    };
    if let Some(location) = location.filter(|_| rewrite.location)
        && let Some(template) = &rewrite.path
        && !is_reversible(template, route)
    {
        let message = format!("location cannot be put back by path `{}`", shown::plain(template));
        let hint =
            "write each capture of the route's path once, and the rest of the path at the end";
        location.report(&message, Some(hint.to_owned()));
    }
    table.finish();
    Some(rewrite)
}

/// A path in which captures of the route's own stand in braces.
fn template(text: &str, route: &Route) -> Result<String, Wrong> {
    if let Some(found) = text.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(Wrong::new(format!("holds `{found}`, which no path does"))
            .with_hint("write the path alone: the query that was asked for stays"));
    }
    let known = routes::captures(&route.path);
    for piece in pattern::pieces(text)? {
        match piece {
            Piece::Text(_) => {}
            Piece::Rest(name) => {
                return Err(Wrong::new(format!("has `{{*{name}}}`"))
                    .with_hint(format!("write `{{{name}}}` for all that was captured")));
            }
            Piece::Capture(name) if known.iter().any(|known| known == name) => {}
            Piece::Capture(name) => {
                let hint = nearest::hint(name, "captured are", known.iter().map(String::as_str));
                let complaint =
                    format!("has `{{{name}}}`, which the route's path does not capture");
                return Err(Wrong { complaint, hint });
            }
        }
    }
    Ok(text.to_owned())
}

/// Whether from a path of this form that of the client can be told.
fn is_reversible(template: &str, route: &Route) -> bool {
    let (Ok(pieces), Ok(own)) = (pattern::pieces(template), pattern::pieces(&route.path)) else {
        return true;
    };
    own.iter().all(|piece| match piece {
        Piece::Text(_) => true,
        Piece::Capture(name) => pieces.contains(&Piece::Capture(name)),
        Piece::Rest(name) => pieces.last() == Some(&Piece::Capture(name)),
    })
}

fn fields(value: &Value<'_>, label: &str, is_document: bool) -> RouteFields {
    const SHAPE: &str = "write fields = { request = { remove = [\"Cookie\"] } }";

    let Some(mut table) = value.table(label, || SHAPE.to_owned()) else {
        return RouteFields::default();
    };
    if let Some(place) = table.place_of("request").filter(|_| is_document) {
        let hint = Some("leave it out".to_owned());
        table.report(place, "request is for an upstream, and documents have none", hint);
    }
    let mut changes = |key: &'static str, own: &[&str]| {
        let label = format!("{label}.{key}");
        table.take(key).map(|value| changes(&value, key, &label, own)).unwrap_or_default()
    };
    let request = changes("request", &OWN_OF_REQUESTS);
    let response = changes("response", &OWN_OF_RESPONSES);
    table.finish();
    RouteFields { request, response }
}

fn changes(value: &Value<'_>, key: &str, label: &str, own: &[&str]) -> FieldChanges {
    const REMOVE: &str = "write remove = [\"X-Other\"], or leave it out";

    let shape =
        || format!("write {key} = {{ set = {{ X-Name = \"value\" }}, remove = [\"X-Other\"] }}");
    let Some(mut table) = value.table(label, shape) else {
        return FieldChanges::default();
    };
    let (set, add) = (lines(&mut table, "set", own), lines(&mut table, "add", own));
    let remove = table.take("remove");
    let removed = remove.as_ref().and_then(|value| routes::all(value, REMOVE, |it| name(it, own)));
    let changes = FieldChanges { set, add, remove: removed.unwrap_or_default() };
    if let Some(remove) = remove
        && let Some((twice, _)) = changes.set.iter().find(|(name, _)| changes.remove.contains(name))
    {
        let hint = "leave it out of remove: set replaces what there is".to_owned();
        remove.report(&format!("`{twice}` is set and removed"), Some(hint));
    }
    table.finish();
    changes
}

/// Names and values.
fn lines(table: &mut Table<'_>, key: &'static str, own: &[&str]) -> Vec<(HeaderName, HeaderValue)> {
    let shape = || format!("write {key} = {{ X-Name = \"value\" }}");
    let entries = table.take(key).and_then(|value| value.inner_table(shape));
    let mut lines = Vec::new();
    for (text, place, value) in entries.map(|mut entries| entries.take_all()).unwrap_or_default() {
        let name = match name(text, own) {
            Ok(name) => Some(name),
            Err(Wrong { complaint, hint }) => {
                table.report(place, &format!("{key} `{}` {complaint}", shown::plain(text)), hint);
                None
            }
        };
        // It may be a secret.
        let line = value.secret(|_| "[hidden]".to_owned()).read(self::value);
        lines.extend(name.zip(line));
    }
    lines
}

fn name(text: &str, own: &[&str]) -> Result<HeaderName, Wrong> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Wrong::new("is no field name").with_hint("write one as in \"X-Api-Key\""))?;
    let is_own = own.contains(&name.as_str()) || OWN_OF_BOTH.contains(&name.as_str());
    if is_own || name.as_str().starts_with("x-forwarded-") {
        return Err(
            Wrong::new("is a field that the gateway sees to itself").with_hint("leave it out")
        );
    }
    Ok(name)
}

/// The name of a field of requests that the gateway does not see to itself.
pub(super) fn name_in_request(text: &str) -> Result<HeaderName, Wrong> {
    name(text, &OWN_OF_REQUESTS)
}

fn value(text: &str) -> Result<HeaderValue, Wrong> {
    let line = HeaderValue::from_str(text).ok().filter(|_| !text.is_empty());
    let Some(mut line) = line.filter(|_| text.trim() == text) else {
        return Err(Wrong::new("is no value of a field")
            .with_hint("write ASCII characters in one line, without white space at either end"));
    };
    line.set_sensitive(true);
    Ok(line)
}
