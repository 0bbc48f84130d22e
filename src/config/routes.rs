//! The walk through `[[routes]]`, and what routes refer to.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, Method};
use toml::de::DeValue;

use super::fault::Wrong;
use super::pattern::Piece;
use super::reader::{Table, Value};
use super::{
    Collapsing, Forward, Grant, Jwt, MAX_QUERY_BODY, OnError, Origin, Place, Policy, Route,
    Upstream,
};
use super::{address, conditions, document, messages, nearest, pattern, shown, upgrade, value};

/// What a route with `purge` takes besides its own methods.
const PURGES: [&str; 2] = ["PURGE", "SOFTPURGE"];

/// The bounds of `ttl`, and from zero on of `stale_if_error`. RFC 9111 counts lifetimes in whole seconds.
const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(365 * 24);

/// All policies by name, and those that are right as well.
pub(super) struct Policies<'p> {
    pub(super) names: Vec<String>,
    pub(super) valid: &'p [Policy],
}

/// All tables `[jwt.NAME]` by name, and those that are right as well.
pub(super) struct Jwts<'p> {
    pub(super) names: Vec<String>,
    pub(super) valid: &'p [Jwt],
}

/// What routes are answered from.
pub(super) struct Origins<'a> {
    pub(super) upstreams: &'a [Upstream],
    pub(super) mongodbs: document::Known<'a>,
}

/// All routes whose name, host, path and methods are right; none if there is no route at all.
pub(super) fn read(
    value: Option<Value<'_>>,
    origins: &Origins<'_>,
    jwts: &Jwts<'_>,
    policies: &Policies<'_>,
    has_l2: bool,
    has_token: bool,
) -> Option<Vec<Route>> {
    let value = value?;
    let DeValue::Array(elements) = value.content else {
        value.not_a::<()>("an array of tables", Some("write `[[routes]]`".to_owned()));
        return Some(Vec::new());
    };
    if elements.is_empty() {
        return None;
    }
    let mut names = HashMap::new();
    let mut routes = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let label = format!("route {}", index + 1);
        let table = value.element(element).table(&label, || "write `[[routes]]`".to_owned());
        let Some(mut table) = table else { continue };
        let name = name(&mut table, &mut names);
        let name = name.unwrap_or_default();
        let route = route(name, &mut table, origins, jwts, policies, has_l2);
        let route = conditions::read(route, &mut table);
        let route = messages::read(route, &mut table, origins);
        let route = upgrade::read(route, &mut table);
        let purge = purge(&mut table, has_token);
        let route = route.map(|route| with_purge(route, purge.as_ref()));
        table.finish();
        routes.extend(route);
    }
    Some(routes)
}

/// The route's name, by which later faults call it.
fn name(table: &mut Table<'_>, names: &mut HashMap<String, Place>) -> Option<String> {
    let Some(value) = table.take("name") else {
        table.missing("name", "write name = \"…\": metrics and `larder explain` show it");
        return None;
    };
    let name = value.read(value::name)?;
    table.label = format!("route `{name}`").into();
    if let Some(first) = names.get(&name) {
        let first = table.source.told(*first, value.place);
        let message = format!("the name is taken by the route at {first}");
        table.report(value.place, &message, Some("give each route a name of its own".to_owned()));
        return Some(name);
    }
    names.insert(name.clone(), value.place);
    Some(name)
}

/// None if it cannot be said which requests the route is for.
fn route(
    name: String,
    table: &mut Table<'_>,
    origins: &Origins<'_>,
    jwts: &Jwts<'_>,
    policies: &Policies<'_>,
    has_l2: bool,
) -> Option<Route> {
    let path = table.take("path");
    if path.is_none() {
        table.missing("path", "write path = \"/{*rest}\" for all paths");
    }
    let place = path.as_ref().map_or(table.place, |value| value.place);
    let path =
        path.and_then(|value| value.read(|text| pattern::of_route(text).map(|_| text.to_owned())));
    let hosts = table.take("host").map_or(Some(Vec::new()), |value| hosts(&value));
    let method: fn(&str) -> Result<Method, Wrong> =
        if table.has("document") { document::method } else { value::method };
    let methods = table.take("methods").map_or(Some(Vec::new()), |value| {
        all(&value, "write methods = [\"GET\"], or leave it out", method)
    });
    let methods = methods.map(with_head);
    let captures = path.as_deref().map_or_else(Vec::new, captures);
    let origin = origin(table, origins, &captures);
    let names_key = table.has("key");
    let keys = keys(table, policies);
    let key: Vec<usize> = keys.iter().filter_map(|(it, _)| *it).collect();
    let (storing, storing_place) = policy("storing", table, policies);
    let (invalidation, invalidation_place) = policy("invalidation", table, policies);
    let (shadow, shadow_place) = shadow(table, policies, &keys);
    let default = Route::new(name, String::new(), origin.unwrap_or(Origin::Upstream(0)));
    let (forward, forward_fields) = forward(table, &default);
    let key_policies = key.iter().filter_map(|place| policies.valid.get(*place));
    let (grants, grants_place) = grants(table, key_policies, names_key);
    let route = Route {
        key,
        storing,
        invalidation,
        shadow,
        shadow_share: table.share("shadow_share", default.shadow_share),
        ttl: table.take("ttl").and_then(|value| value.duration(LIFETIMES)),
        stale_if_error: table
            .take("stale_if_error")
            .and_then(|value| value.duration(Duration::ZERO..=*LIFETIMES.end())),
        on_lag: table.read("on_lag", default.on_lag, value::on_lag),
        on_l2_error: table.read("on_l2_error", default.on_l2_error, value::on_l2_error),
        max_body: table.memory("max_body", default.max_body, 0..=1 << 30),
        max_query_body: table.memory("max_query_body", default.max_query_body, 0..=MAX_QUERY_BODY),
        max_policy_body: table.memory("max_policy_body", default.max_policy_body, 0..=64 << 20),
        variants: table.count("variants", default.variants, 1..=1000),
        collapse: collapsing(table, has_l2).unwrap_or(default.collapse),
        forward,
        forward_fields,
        jwt: table.take("jwt").and_then(|value| {
            let name = jwts.names.get(refer(&value, "jwt", &jwts.names)?)?;
            jwts.valid.iter().position(|it| it.name == *name)
        }),
        grants,
        place,
        key_places: keys.iter().filter(|(it, _)| it.is_some()).map(|(_, place)| *place).collect(),
        storing_place,
        invalidation_place,
        shadow_place,
        grants_place,
        ..default
    };
    Some(Route { path: path?, hosts: hosts?, methods: methods?, ..route })
}

/// The policy that is asked beside the route's own, and where it is named.
fn shadow(
    table: &mut Table<'_>,
    policies: &Policies<'_>,
    keys: &[(Option<usize>, Place)],
) -> (Option<usize>, Place) {
    if let Some(place) = table.place_of("shadow_share").filter(|_| !table.has("shadow")) {
        let hint = "add shadow = \"NAME\", or leave it out".to_owned();
        table.report(place, "shadow_share means nothing where no policy is compared", Some(hint));
    }
    let (shadow, shadow_place) = policy("shadow", table, policies);
    let is_key = |shadow: &usize| matches!(keys, [(Some(key), _)] if key == shadow);
    if let Some(same) = shadow.filter(is_key).and_then(|it| policies.valid.get(it)) {
        let message = format!("shadow `{}` is the route's own key policy", same.name);
        let hint = "name another policy, to be compared with that one, or leave it out".to_owned();
        table.report(shadow_place, &message, Some(hint));
    }
    (shadow, shadow_place)
}

/// Among whom equal misses are sent forward together.
fn collapsing(table: &mut Table<'_>, has_l2: bool) -> Option<Collapsing> {
    let value = table.take("collapse")?;
    let collapsing = match value.content {
        DeValue::String(text) if !matches!(&**text, "true" | "false") => {
            value.read(value::collapsing)?
        }
        _ if value.boolean()? => Collapsing::Gateway,
        _ => Collapsing::Off,
    };
    if collapsing == Collapsing::Fleet && !has_l2 {
        let hint = "add `[cache.l2]` with `redis`, or write collapse = true".to_owned();
        value.report("collapse `fleet` needs a Redis that the fleet shares", Some(hint));
    }
    Some(collapsing)
}

/// What the key policy may share, and where that stands. Without a policy whose answer counts there is
/// nobody to say who is who.
fn grants<'p>(
    table: &mut Table<'_>,
    keys: impl Iterator<Item = &'p Policy>,
    names_key: bool,
) -> (Vec<Grant>, Place) {
    const HINT: &str = "write grants = [\"private\"], or leave it out";

    let Some(value) = table.take("grants") else { return (Vec::new(), table.place) };
    let grants = all(&value, HINT, value::grant).unwrap_or_default();
    if !names_key {
        let hint = "name the policy that makes the key, as in key = \"NAME\"".to_owned();
        value.report("grants are for a key policy, and there is none", Some(hint));
    }
    for policy in keys.filter(|policy| policy.on_error == OnError::Default) {
        let message = format!(
            "grants are for the answers of policy `{}`, and its on_error goes on without one",
            policy.name
        );
        let hint = "write on_error = \"bypass\" or \"fail\" for the policy".to_owned();
        value.report(&message, Some(hint));
    }
    (grants, value.place)
}

/// What goes forward, and what is in every key for it.
fn forward(table: &mut Table<'_>, default: &Route) -> (Forward, Vec<HeaderName>) {
    const HINT: &str = "write forward_fields = [\"accept-encoding\"], or [] for none";
    const MOST: usize = 16;

    let forward = table.read("forward", default.forward, value::forward);
    let Some(value) = table.take("forward_fields") else {
        return (forward, default.forward_fields.clone());
    };
    if forward != Forward::Keyed {
        let hint = Some("write forward = \"keyed\", or leave it out".to_owned());
        value.report("forward_fields means nothing where all fields go forward", hint);
    }
    if let DeValue::Array(elements) = value.content
        && elements.is_empty()
    {
        return (forward, Vec::new());
    }
    let source = table.source;
    let field = |text: &str| value::forward_field(text).and_then(|name| source.kept(name));
    let fields = all(&value, HINT, field).unwrap_or_default();
    if fields.len() > MOST {
        value.report(&format!("forward_fields names more than {MOST} fields"), None);
    }
    (forward, fields)
}

/// The place of a policy among those that are right, and where it is named.
pub(super) fn policy(
    role: &'static str,
    table: &mut Table<'_>,
    policies: &Policies<'_>,
) -> (Option<usize>, Place) {
    let Some(value) = table.take(role) else { return (None, table.place) };
    (valid(&value, policies), value.place)
}

fn valid(value: &Value<'_>, policies: &Policies<'_>) -> Option<usize> {
    let name = policies.names.get(refer(value, "policy", &policies.names)?)?;
    policies.valid.iter().position(|it| it.name == *name)
}

/// `key`: one policy or several, each as [`policy`] has it.
fn keys(table: &mut Table<'_>, policies: &Policies<'_>) -> Vec<(Option<usize>, Place)> {
    const HINT: &str = "write key = [\"FIRST\", \"SECOND\"], or leave it out";
    const MOST: usize = 8;

    let Some(value) = table.take("key") else { return Vec::new() };
    if !matches!(value.content, DeValue::Array(_)) {
        return vec![(valid(&value, policies), value.place)];
    }
    let elements = value.list(|| HINT.to_owned()).unwrap_or_default();
    if elements.len() > MOST {
        let hint = "make one policy of several of them".to_owned();
        value.report(&format!("key names more than {MOST} policies"), Some(hint));
        return Vec::new();
    }
    let mut keys: Vec<(Option<usize>, Place)> = Vec::new();
    for element in elements {
        let named = valid(&element, policies);
        if named.is_some() && keys.iter().any(|(it, _)| *it == named) {
            // It would answer the same again.
            let wrong = Wrong::new("is named twice").with_hint("leave one of them out");
            element.wrong(&element.text().unwrap_or_default(), wrong);
            continue;
        }
        keys.push((named, element.place));
    }
    keys
}

/// What answers the route: an upstream or documents.
fn origin(table: &mut Table<'_>, origins: &Origins<'_>, captures: &[String]) -> Option<Origin> {
    let Some(value) = table.take("document") else {
        return upstream(table, origins).map(Origin::Upstream);
    };
    if let Some(upstream) = table.take("upstream") {
        let hint = "leave one of them out".to_owned();
        upstream.report("there is a document as well as an upstream", Some(hint));
    }
    if let Some(place) = table.place_of("invalidation") {
        let hint = "leave it out: what a change invalidates is said by `policy` of `[[changes]]`";
        let message = "invalidation is for writes, and documents are only read";
        table.report(place, message, Some(hint.to_owned()));
    }
    let document = document::read(&value, &table.label, captures, &origins.mongodbs)?;
    Some(Origin::Document(Box::new(document)))
}

/// The names that a path captures.
pub(super) fn captures(path: &str) -> Vec<String> {
    let pieces = pattern::pieces(path).unwrap_or_default().into_iter();
    pieces
        .filter_map(|piece| match piece {
            Piece::Capture(name) | Piece::Rest(name) => Some(name.to_owned()),
            Piece::Text(_) => None,
        })
        .collect()
}

fn upstream(table: &mut Table<'_>, origins: &Origins<'_>) -> Option<usize> {
    let upstreams = origins.upstreams.iter();
    let names: Vec<String> = upstreams.map(|upstream| upstream.name.clone()).collect();
    if let Some(value) = table.take("upstream") {
        return refer(&value, "upstream", &names);
    }
    let example = names.first().map_or("NAME", |name| name);
    table.missing("upstream", format!("write upstream = \"{example}\""));
    None
}

/// The place of a name among those that are known.
fn refer(value: &Value<'_>, kind: &str, names: &[String]) -> Option<usize> {
    let name = value.text()?;
    let found = names.iter().position(|known| *known == name);
    if found.is_none() {
        let table = match kind {
            "policy" => "policies",
            "jwt" => "jwt",
            _ => "upstreams",
        };
        let hint =
            nearest::hint(&name, &format!("known {table}"), names.iter().map(String::as_str))
                .unwrap_or_else(|| format!("add a table `[{table}.NAME]`"));
        value.report(&format!("unknown {kind} `{}`", shown::plain(&name)), Some(hint));
    }
    found
}

/// `host`: one or several.
fn hosts(value: &Value<'_>) -> Option<Vec<String>> {
    match value.content {
        DeValue::String(_) => value.read(address::host).map(|host| vec![host]),
        _ => all(value, "write host = \"shop.example\", or leave it out", address::host),
    }
}

/// Every element of an array, once; none if one is wrong.
pub(super) fn all<T: PartialEq>(
    value: &Value<'_>,
    hint: &str,
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Option<Vec<T>> {
    let elements = value.list(|| hint.to_owned())?;
    // Every element is read before the first fault counts, so that all are reported.
    let read: Vec<Option<T>> = elements.iter().map(|element| element.read(&parse)).collect();
    let mut once = Vec::new();
    for element in read {
        let element = element?;
        if !once.contains(&element) {
            once.push(element);
        }
    }
    Some(once)
}

/// Where a route is told to take `PURGE` and `SOFTPURGE`.
fn purge<'a>(table: &mut Table<'a>, has_token: bool) -> Option<Value<'a>> {
    let value = table.take("purge")?;
    let is_wanted = value.boolean()?;
    if is_wanted && !has_token {
        let hint = "set `token` in `[admin]`, as in \"${LARDER_ADMIN_TOKEN}\"".to_owned();
        value.report("purge is for who bears the token of [admin], and there is none", Some(hint));
    }
    is_wanted.then_some(value)
}

/// The route that takes them, if it is told to.
fn with_purge(route: Route, purge: Option<&Value<'_>>) -> Route {
    let Some(value) = purge else { return route };
    let mut methods = route.methods;
    if !methods.is_empty() {
        if !methods.contains(&Method::GET) {
            let hint = "leave it out here, and write it for the route that takes GET".to_owned();
            value.report("purge is about what answers GET, which methods lacks", Some(hint));
        }
        for name in PURGES {
            let method = Method::from_bytes(name.as_bytes()).expect("letters make a method");
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
    }
    Route { methods, purge: true, ..route }
}

/// Whoever takes `GET` takes `HEAD` (RFC 9110 §9.3.2 has it as `GET` without content).
fn with_head(mut methods: Vec<Method>) -> Vec<Method> {
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        methods.push(Method::HEAD);
    }
    methods
}
