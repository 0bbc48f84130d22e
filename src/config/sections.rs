//! The walk through `gateway.toml`: every table but `[[routes]]`, its keys and their bounds.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Wrong;
use super::load::Look;
use super::reader::{Table, Value};
use super::servers::{Redis, Servers};
use super::source::Source;
use super::{
    Admin, Cache, Config, Draft, InForce, Jwt, L1, L2, Mongodb, Network, Plugin, Policy, Server,
    Upstream,
};
use super::{
    access_log, address, disk, document, env, include, jwt, listeners, merge, mongodbs, network,
    routes, servers, setting, shown, syntax, tracing, upstreams, value, warm, watch,
};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// The bounds of a policy's `time` and `memory`.
pub(super) const POLICY_TIME: RangeInclusive<Duration> = MILLISECOND..=Duration::from_secs(10);
pub(super) const POLICY_MEMORY: RangeInclusive<u64> = 64 << 10..=64 << 20;

/// The bounds of `max_size` in L2. The upper one is well below what may be on its way to Redis at
/// once (`store::l2`).
pub(super) const L2_SIZE: RangeInclusive<u64> = 1 << 10..=32 << 20;

/// Reads a text. `file` is what faults call it, `folder` where relative paths begin.
pub(super) fn read(
    text: &str,
    file: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    look: &mut dyn FnMut(Look<'_>),
) -> Draft {
    let text = plain(text);
    let (included, mut faults) = include::find(text, file, folder, env, look);
    let included = included.iter().map(|it| (it.name.as_str(), plain(&it.text)));
    let texts: Vec<(&str, &str)> = std::iter::once((file, text)).chain(included).collect();
    let sources = texts.iter().map(|(file, _)| (*file).to_owned()).collect();
    let source = Source::of(texts.iter().copied(), env);
    let parsed: Vec<_> =
        texts.iter().enumerate().map(|(file, (_, text))| parsed(text, file, &source)).collect();
    let Some(parsed) = parsed.into_iter().collect::<Option<Vec<_>>>() else {
        // What an included file would have named is not there, which would be told as faults.
        faults.extend(source.into_faults());
        return Draft { config: Config { sources, ..Config::empty() }, faults };
    };
    let document = merge::merged(parsed, &source);
    let root = Table::new(&source, "", source.place(0), document.get_ref());
    let mut config = Config { sources, ..config(root, folder) };
    faults.extend(source.take_faults());
    if faults.is_empty() {
        config.in_force = InForce::of(document.get_ref(), &source);
        if let Some(folder) = &config.server.compiled_cache {
            config.in_force.fill("server", "compiled_cache", folder.display().to_string());
        }
    }
    Draft { config, faults }
}

fn plain(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The text as TOML; none, and its faults reported, if it is not.
pub(super) fn document<'a>(text: &'a str, source: &Source<'_>) -> Option<Spanned<DeTable<'a>>> {
    parsed(text, 0, source)
}

/// The text of one of the source's files.
fn parsed<'a>(text: &'a str, file: usize, source: &Source<'_>) -> Option<Spanned<DeTable<'a>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let is_toml = errors.is_empty();
    // Recovery leaves made-up values behind, so what is not TOML is not read any further.
    syntax::report(errors, source.start(file), source);
    is_toml.then_some(document)
}

fn config(mut root: Table<'_>, folder: &Path) -> Config {
    let source = root.source;
    // Those files are here already, and what is wrong with the patterns was told.
    let _include = root.take("include");
    let compiled_cache = env::cache_folder(source.env);
    let server = match root.table("server", "[server]") {
        Some(table) => server(table, folder, compiled_cache),
        None => Server { compiled_cache, ..Server::default() },
    };
    let admin = root.table("admin", "[admin]").map(|table| admin(table, &server));
    let (admin, has_token) = admin.unzip();
    let faults = source.count();
    let cache =
        root.table("cache", "[cache]").map(|table| cache(table, folder)).unwrap_or_default();
    // One that is wrong is a fault already; that there is none would be a second.
    let has_l2 = cache.l2.is_some() || source.count() > faults;
    let upstreams = named(&mut root, "upstreams", "upstream");
    let (policies, names) = policies(&mut root, folder);
    let mongodbs = mongodbs(&mut root, folder);
    if upstreams.is_none() && mongodbs.is_none() {
        let hint = "add a table `[upstreams.NAME]` with `servers`".to_owned();
        source.report(None, "no upstreams", Some(hint));
    }
    let upstreams: Vec<Upstream> = upstreams
        .unwrap_or_default()
        .into_iter()
        .map(|(name, table)| upstreams::read(name, table, folder))
        .collect();
    let (mongodbs, mongodb_names) = mongodbs.unwrap_or_default();
    let (jwts, jwt_names) = jwts(&mut root, folder);
    let valid: Vec<_> = mongodbs.iter().map(|mongodb| mongodb.name.as_str()).collect();
    let routes = routes::read(
        root.take("routes"),
        &routes::Origins {
            upstreams: &upstreams,
            mongodbs: document::Known { names: mongodb_names.clone(), valid: valid.clone() },
        },
        &routes::Jwts { names: jwt_names, valid: &jwts },
        &routes::Policies { names: names.clone(), valid: &policies },
        has_l2,
        has_token.unwrap_or_default(),
    );
    if routes.is_none() {
        let hint = "add `[[routes]]` with `name`, `path` and `upstream`".to_owned();
        source.report(None, "no routes", Some(hint));
    }
    let warm = root.table("warm", "[warm]").map(|table| {
        // What is wrong with it is a fault already.
        let has_l2 = has_l2 || cache.disk.is_some();
        warm::read(table, folder, has_l2, &server)
    });
    let access_log =
        root.table("access_log", "[access_log]").map(|table| access_log::read(table, folder));
    let tracing = root.table("tracing", "[tracing]").and_then(tracing::read);
    let routes = routes.unwrap_or_default();
    let known = watch::Known {
        mongodbs: document::Known { names: mongodb_names, valid },
        policies: routes::Policies { names, valid: &policies },
        routes: &routes,
    };
    let watches = watch::read(root.take("changes"), &known);
    root.finish();
    let rest = Config { warm, access_log, tracing, ..Config::empty() };
    Config { server, admin, cache, upstreams, mongodbs, policies, jwts, routes, watches, ..rest }
}

/// The tables `[policies.NAME]` that are right, and the names of all: a policy without a plugin is no policy,
/// but its name may be referred to all the same.
fn policies(root: &mut Table<'_>, folder: &Path) -> (Vec<Policy>, Vec<String>) {
    let tables = named(root, "policies", "policy").unwrap_or_default();
    let names = tables.iter().map(|(name, _)| name.clone()).collect();
    let read = tables.into_iter().filter_map(|(name, table)| policy(name, table, folder));
    (read.collect(), names)
}

/// The tables `[mongodb.NAME]` that are right, and the names of all; none if there are none.
fn mongodbs(root: &mut Table<'_>, folder: &Path) -> Option<(Vec<Mongodb>, Vec<String>)> {
    let tables = named(root, "mongodb", "mongodb")?;
    let names = tables.iter().map(|(name, _)| name.clone()).collect();
    let read = tables.into_iter().filter_map(|(name, table)| mongodbs::read(name, table, folder));
    Some((read.collect(), names))
}

/// The tables `[jwt.NAME]` that are right, and the names of all.
fn jwts(root: &mut Table<'_>, folder: &Path) -> (Vec<Jwt>, Vec<String>) {
    let tables = named(root, "jwt", "jwt").unwrap_or_default();
    let names = tables.iter().map(|(name, _)| name.clone()).collect();
    let read = tables.into_iter().filter_map(|(name, table)| jwt::read(name, table, folder));
    (read.collect(), names)
}

/// The tables `[key.NAME]`; none if there is no `key`, or nothing in it.
fn named<'a>(
    root: &mut Table<'a>,
    key: &'static str,
    kind: &str,
) -> Option<Vec<(String, Table<'a>)>> {
    let value = root.take(key)?;
    let hint = || format!("write `[{key}.NAME]`");
    // A value of the wrong type is a fault of its own; that nothing is in it would be a second.
    let Some(mut table) = value.table(&format!("[{key}]"), hint) else { return Some(Vec::new()) };
    let entries = table.take_all();
    if entries.is_empty() {
        return None;
    }
    let mut tables = Vec::new();
    for (name, place, value) in entries {
        let label = format!("{kind} `{}`", shown::plain(name));
        if let Err(Wrong { complaint, hint }) = value::name(name) {
            table.report(place, &format!("`{}` {complaint}", shown::plain(name)), hint);
        }
        if let Some(mut inner) = value.table(&label, hint) {
            inner.place = place;
            tables.push((name.to_owned(), inner));
        }
    }
    Some(tables)
}

fn server(mut table: Table<'_>, folder: &Path, compiled_cache: Option<PathBuf>) -> Server {
    let default = Server::default();
    let (listener, more) = listeners::read(&mut table, folder, default.listener.listen);
    let server = Server {
        listener,
        more,
        name: table.read("name", default.name, |text| value::name(text).map(Some)),
        workers: table.count("workers", default.workers, 0..=1024),
        max_connections: table.count("max_connections", default.max_connections, 1..=1_000_000),
        max_streams: table.count("max_streams", default.max_streams, 1..=10_000),
        max_resets: table.count("max_resets", default.max_resets, 0..=1_000_000),
        header_timeout: table.duration(
            "header_timeout",
            default.header_timeout,
            MILLISECOND..=HOUR,
        ),
        drain: table.duration("drain", default.drain, Duration::ZERO..=HOUR),
        send_timeout: table.duration("send_timeout", default.send_timeout, MILLISECOND..=HOUR),
        takeover: table.read("takeover", None, |text| socket(text, folder).map(Some)),
        watch: table.boolean("watch", default.watch),
        trusted_proxies: trusted_proxies(&mut table),
        trusted_field: table.read("trusted_field", default.trusted_field, network::trusted_field),
        underscores_in_fields: table
            .boolean("underscores_in_fields", default.underscores_in_fields),
        compiled_cache: table.read("compiled_cache", compiled_cache, |text| match text {
            "off" => Ok(None),
            path => self::folder(path).map(|()| Some(folder.join(path))),
        }),
    };
    table.source.keep_underscores(server.underscores_in_fields);
    table.finish();
    server
}

/// Whose word is taken for whose request it is.
fn trusted_proxies(table: &mut Table<'_>) -> Vec<Network> {
    const HINT: &str = "write trusted_proxies = [\"10.0.0.0/8\"], or leave it out";

    if let Some(place) = table.place_of("trusted_field").filter(|_| !table.has("trusted_proxies")) {
        let hint = "add trusted_proxies = [\"10.0.0.0/8\"], or leave it out".to_owned();
        table.report(place, "trusted_field means nothing where no proxy is trusted", Some(hint));
    }
    let proxies = table.take("trusted_proxies");
    let proxies = proxies.and_then(|value| routes::all(&value, HINT, network::network));
    proxies.unwrap_or_default()
}

/// And whether there is a token. One that is there and wrong is reported here alone.
fn admin(mut table: Table<'_>, server: &Server) -> (Admin, bool) {
    let listen_value = table.take("listen");
    let token_value = table.take("token").map(|value| value.secret(|_| "[hidden]".to_owned()));
    let place = listen_value.as_ref().map_or(table.place, |value| value.place);
    let listen = listen_value
        .and_then(|value| value.read(address::listen))
        .unwrap_or(Admin::default().listen);
    let token = token_value.map(|value| value.read(value::token));
    let has_token = matches!(token, Some(None | Some(Some(_))));
    let token = token.flatten().flatten();
    if !has_token && !listen.ip().is_loopback() {
        let Wrong { complaint, hint } = no_token();
        table.report(place, &format!("listen `{listen}` {complaint}"), hint);
    }
    let mut others = server.listeners().map(|it| it.listen);
    if let Some(other) = others.find(|it| listeners::collide(*it, listen)) {
        let hint = Some("give operators a port of their own".to_owned());
        let message = if other == listen {
            format!("listen `{listen}` is the address of [server]")
        } else {
            format!("listen `{listen}` is not free beside `{other}` of [server]")
        };
        table.report(place, &message, hint);
    }
    table.finish();
    (Admin { listen, token }, has_token)
}

fn no_token() -> Wrong {
    Wrong::new("is not a loopback address, and there is no token")
        .with_hint("set `token`, as in \"${LARDER_ADMIN_TOKEN}\", or listen on \"127.0.0.1:9080\"")
}

fn cache(mut table: Table<'_>, folder: &Path) -> Cache {
    let default = Cache::default();
    let (l2, disk) = match table.table("l2", "[cache.l2]").map(|table| disk::read(table, folder)) {
        None => (None, None),
        Some(ControlFlow::Break(disk)) => (None, disk),
        Some(ControlFlow::Continue(table)) => (l2(table, folder), None),
    };
    let cache = Cache {
        namespace: table.read("namespace", default.namespace, value::name),
        status_key: table.boolean("status_key", default.status_key),
        targeted: table
            .take("targeted")
            .and_then(|value| targeted(&value))
            .unwrap_or(default.targeted),
        max_lag: table.duration("max_lag", default.max_lag, SECOND..=DAY),
        l1: table.table("l1", "[cache.l1]").map(l1).unwrap_or_default(),
        l2,
        disk,
    };
    table.finish();
    cache
}

/// The target list; an empty one is one, too.
fn targeted(value: &Value<'_>) -> Option<Vec<HeaderName>> {
    const MOST: usize = 8;
    const HINT: &str = "write targeted = [\"CDN-Cache-Control\"], or [] for none";

    if let DeValue::Array(elements) = value.content
        && elements.is_empty()
    {
        return Some(Vec::new());
    }
    let names = routes::all(value, HINT, value::targeted_field)?;
    if names.len() > MOST {
        value.report(&format!("targeted names more than {MOST} fields"), Some(HINT.to_owned()));
        return None;
    }
    Some(names)
}

fn l1(mut table: Table<'_>) -> L1 {
    let default = L1::default();
    let l1 = L1 {
        capacity: table.size("capacity", default.capacity, 0..=1 << 40),
        ttl: table.duration("ttl", default.ttl, MILLISECOND..=365 * DAY),
    };
    table.finish();
    l1
}

/// None without `redis`, or if it is empty or wrong.
fn l2(mut table: Table<'_>, folder: &Path) -> Option<L2> {
    let redis = servers::read(&mut table, folder);
    let is_there = redis.is_some();
    // Without servers, what is wrong with the rest is told all the same.
    let redis = redis.unwrap_or_else(|| Redis::on(Servers::Socket(PathBuf::new())));
    let default = L2::new(redis);
    let l2 = L2 {
        ttl: table.duration("ttl", default.ttl, MILLISECOND..=365 * DAY),
        timeout: table.duration("timeout", default.timeout, MILLISECOND..=10 * SECOND),
        max_size: table.memory("max_size", default.max_size, L2_SIZE),
        compression: table.read("compression", default.compression, value::compression),
        redis: default.redis,
    };
    table.finish();
    is_there.then_some(l2)
}

fn folder(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("is not a path").with_hint("write the path of a folder, or \"off\""));
    }
    Ok(())
}

/// The path of a socket.
fn socket(text: &str, folder: &Path) -> Result<PathBuf, Wrong> {
    // The system takes 107 octets; until it is ready, a socket has a number behind its name.
    const LONGEST: usize = 96;

    let path = folder.join(text);
    if text.is_empty() || text.contains('\0') || text.ends_with('/') {
        let hint = "write the path of a socket, as \"/run/larder/takeover\"";
        return Err(Wrong::new("is not a path").with_hint(hint));
    }
    if path.as_os_str().len() > LONGEST {
        let hint = "write a path of at most 96 octets, as \"/run/larder/takeover\"";
        return Err(Wrong::new("is longer than the path of a socket may be").with_hint(hint));
    }
    Ok(path)
}

pub(super) fn file(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("is not a path").with_hint("write the path of a PEM file"));
    }
    Ok(())
}

/// None if there is no plugin to ask.
fn policy(name: String, mut table: Table<'_>, folder: &Path) -> Option<Policy> {
    let plugin = table.take("plugin");
    if plugin.is_none() {
        table.missing(
            "plugin",
            "write plugin = \"bundled:NAME\", or the path of a file as in \"plugins/keys.wasm\"",
        );
    }
    let plugin_place = plugin.as_ref().map_or(table.place, |value| value.place);
    let plugin: Option<Plugin> =
        plugin.and_then(|value| value.read(|text| value::plugin(text, folder)));
    let config = table.take("config");
    let config_place = config.as_ref().map_or(table.place, |value: &Value<'_>| value.place);
    let config = config.map_or(Some(Vec::new()), |value| {
        let hint = || "write config = { name = \"value\" }".to_owned();
        value.table(&table.label, hint).and_then(setting::flatten)
    });
    let default =
        Policy::new(name, plugin.clone().unwrap_or(Plugin::Bundled(String::new())), plugin_place);
    let policy = Policy {
        on_error: table.read("on_error", default.on_error, value::on_error),
        time: table.duration("time", default.time, POLICY_TIME),
        memory: table.memory("memory", default.memory, POLICY_MEMORY),
        remember: table.count("remember", default.remember, 0..=10_000_000),
        config_place,
        ..default
    };
    table.finish();
    // Its plugin would complain of a `config` that is not the one that was written.
    plugin.and(config).map(|config| Policy { config, ..policy })
}
