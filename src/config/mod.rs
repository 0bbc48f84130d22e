//! `gateway.toml`: what it may say, with every default and bound, and what is wrong with it.
//!
//! [`load()`] reads a file, [`parse`] a text; both answer a [`Config`] in which everything is valid,
//! or all the [`Fault`]s at once. Whether a plugin loads, and whether two routes contradict each
//! other, is found out later, by whoever assembles the gateway, who reports it at the [`Place`] that
//! is kept here; [`Draft`] lets those faults be shown together with the ones of the file.
//!
//! - `load` opens the file, `sections`, `upstreams`, `servers`, `disk`, `mongodbs`, `jwt`, `jwks`,
//!   `listeners`, `routes`, `conditions`, `messages`, `compress`, `document`, `filter`, `watch`, `warm`,
//!   `access_log` and `tracing` walk through it, with the help of `reader`, which replaces what is wrong by
//!   its default, reports it to `source`, and goes on; `include` has found the files that it includes before
//!   that, and `merge` made one of all;
//! - `address`, `amount`, `network`, `pattern`, `server_url`, `setting`, `value` and `env` each know one kind of
//!   value;
//! - `changes` tells two configurations apart, when one takes the place of the other;
//! - `fault`, `nearest` and `shown` say what is wrong, what may have been meant, and no secrets.
//!
//! `${NAME}` and `${NAME:-default}` in any string come from the environment. A number or a boolean
//! may be written as a string if a variable is in it.

mod access_log;
mod address;
mod amount;
pub mod cases;
mod changes;
mod compress;
mod conditions;
mod defaults;
mod disk;
mod document;
mod env;
mod fault;
mod filter;
mod in_force;
mod include;
mod jwks;
mod jwt;
mod listeners;
mod load;
mod merge;
mod messages;
mod mongodbs;
mod nearest;
mod network;
pub(crate) mod pattern;
mod reader;
mod routes;
mod schema;
mod sections;
mod server_url;
mod servers;
mod setting;
pub(crate) mod shown;
mod source;
mod supervisor;
mod syntax;
mod tracing;
mod upgrade;
mod upstream_tls;
mod upstreams;
mod value;
mod warm;
mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::tracing::Tracing;
pub use access_log::{AccessLog, LogFormat};
pub use amount::{show_size, span};
pub use changes::{Changes, Differences};
pub use compress::{Coding, Compress};
pub use conditions::FieldCondition;
pub use disk::Disk;
pub use document::{Document, Json, MOST_SKIPPED};
pub use fault::{Fault, Faults};
pub use filter::{From, Kind, Operand, Slot};
pub use in_force::InForce;
pub use include::Listing;
pub use jwks::JwksUrl;
pub use jwt::{Algorithm, Jwt, JwtKeys, TokenFrom};
pub use listeners::{Certificate, Clients, Listener, ListenerTls, ProxyProtocol, own_address};
pub use load::{Draft, Look, admin_token, load, parse};
pub use messages::{FieldChanges, Rewrite, RouteFields};
pub use mongodbs::Mongodb;
pub use network::{Network, TrustedField};
pub use schema::SCHEMA;
pub use servers::{Login, Node, Password, Redis, Servers, Tls};
pub use supervisor::Supervisor;
pub use upstreams::{Balance, Eject, Health, Http, Retries, Statuses, Upstream, UpstreamServer};
pub use warm::{Occasion, Sitemap, Warm};
pub use watch::Watch;

#[cfg(test)]
pub(crate) use server_url::url as redis_url;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener for clients.
    pub server: Server,
    /// The listener for operators; none without `[admin]`.
    pub admin: Option<Admin>,
    /// What is shared and how much is kept.
    pub cache: Cache,
    /// By name, in the order of the file.
    pub upstreams: Vec<Upstream>,
    /// By name, in the order of the file.
    pub mongodbs: Vec<Mongodb>,
    /// By name, in the order of the file.
    pub policies: Vec<Policy>,
    /// By name, in the order of the file.
    pub jwts: Vec<Jwt>,
    /// In the order of the file, which does not decide anything: the most specific wins.
    pub routes: Vec<Route>,
    /// `[[changes]]`, in the order of the file.
    pub watches: Vec<Watch>,
    /// `[warm]`; none without the table.
    pub warm: Option<Warm>,
    /// `[access_log]`; none without the table.
    pub access_log: Option<AccessLog>,
    /// `[tracing]`; none without the table.
    pub tracing: Option<Tracing>,
    /// `gateway.toml`, and then the files that it includes, as faults call them.
    pub sources: Vec<String>,
    /// What of all this stands where; nothing if something is wrong with it.
    pub in_force: InForce,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// `listen`, and the keys that go with it.
    pub listener: Listener,
    /// `[[server.listeners]]`: further ones. Without any of the keys above the first of them is `listener`.
    pub more: Vec<Listener>,
    /// `name`: what the fleet knows this gateway by: letters, digits, `-`, `_`, `.`; at most 64. None:
    /// the host's name and some random characters.
    pub name: Option<String>,
    /// `workers`: threads that serve connections. 0, the default, is one per processor; at most 1024.
    pub workers: usize,
    /// `max_connections` at once, default 10000, 1 to a million; further ones wait in the
    /// listener's queue.
    pub max_connections: usize,
    /// `max_streams`: requests at once on a connection of HTTP/2, default 128, 1 to 10000.
    pub max_streams: u32,
    /// `max_resets`: requests that a connection of HTTP/2 may take back, beyond half of all; default 200,
    /// at most a million.
    pub max_resets: u64,
    /// `header_timeout` for a whole request head, default 10 s, 1 ms to 1 h. It also ends
    /// HTTP/1 connections that stay idle.
    pub header_timeout: Duration,
    /// `drain`: how long running requests may take after SIGTERM, default 30 s, at most 1 h.
    pub drain: Duration,
    /// `send_timeout`, default 1 min, 1 ms to 1 h: a client that takes nothing of what is sent to it for so
    /// long is given up.
    pub send_timeout: Duration,
    /// `takeover`: the socket by which a new process takes the listeners over from the one that runs, found
    /// from the folder of `gateway.toml`; none: it cannot.
    pub takeover: Option<PathBuf>,
    /// `watch`, default true: reload when this file changes, or one that it names.
    pub watch: bool,
    /// `trusted_proxies`, default none: of these it is believed on whose behalf a request comes.
    pub trusted_proxies: Vec<Network>,
    /// `trusted_field`, default `X-Forwarded-For`: where they tell it.
    pub trusted_field: TrustedField,
    /// `underscores_in_fields`, default false: fields of requests with `_` in their names count as any other.
    /// Without it they are dropped.
    pub underscores_in_fields: bool,
    /// `compiled_cache`: the folder for compiled plugins, found from the folder of `gateway.toml`;
    /// none for `off`. Default: `$CACHE_DIRECTORY`, else `$XDG_CACHE_HOME/larder`, else
    /// `$HOME/.cache/larder`; none if no such variable names an absolute path.
    pub compiled_cache: Option<PathBuf>,
}

/// `[admin]`. Its `Debug` hides the token.
#[derive(Clone)]
pub struct Admin {
    /// `listen`, default `127.0.0.1:9080`; another address than the server's.
    pub listen: SocketAddr,
    /// `token`: what a caller must send as a bearer token, at most 1024 visible ASCII characters.
    /// Empty is none, and is refused unless the listener is a loopback address.
    pub token: Option<String>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "[hidden]");
        f.debug_struct("Admin").field("listen", &self.listen).field("token", &token).finish()
    }
}

/// `[cache]`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `namespace`, default `larder`: letters, digits, `-`, `_`, `.`; at most 64.
    pub namespace: String,
    /// `status_key`, default false: `Cache-Status` tells the readable name of what was looked for.
    pub status_key: bool,
    /// `targeted`: the response fields that count before `Cache-Control`, the first valid one
    /// alone (RFC 9213); default `Larder-Cache-Control`, `CDN-Cache-Control`; at most 8.
    pub targeted: Vec<http::HeaderName>,
    /// `max_lag`, default 5 s, 1 s to 1 day: so long the invalidation log may be out of reach before
    /// routes do as their `on_lag` says.
    pub max_lag: Duration,
    /// `[cache.l1]`.
    pub l1: L1,
    /// `[cache.l2]` with Redis; none without the table, or when `redis` is empty.
    pub l2: Option<L2>,
    /// `[cache.l2]` with `disk`, which excludes the other.
    pub disk: Option<Disk>,
}

/// No route reads more octets of a request's content before it looks for a response: 16 MiB.
pub const MAX_QUERY_BODY: u64 = 16 << 20;

/// `[cache.l1]`.
#[derive(Clone, Debug)]
pub struct L1 {
    /// `capacity` in octets, default 256 MiB, at most 1024 GiB. 0 switches L1 off.
    pub capacity: u64,
    /// `ttl`, default 5 min, 1 ms to 365 days: L1 keeps a response no longer than this.
    pub ttl: Duration,
}

/// `[cache.l2]`.
#[derive(Clone, Debug)]
pub struct L2 {
    /// `redis`, and the keys that go with it.
    pub redis: Redis,
    /// `ttl`, default 1 h, 1 ms to 365 days: Redis keeps a response no longer than this.
    pub ttl: Duration,
    /// `timeout` of one command, default 50 ms, 1 ms to 10 s.
    pub timeout: Duration,
    /// `max_size` of a response's fields and content in octets, default 1 MiB, 1 KiB to 32 MiB: a
    /// larger one is not written.
    pub max_size: usize,
    /// `compression`, default `none`.
    pub compression: Compression,
}

/// How content lies in L2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// As an LZ4 block, where that saves something.
    Lz4,
}

/// `[policies.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The table's name.
    pub name: String,
    /// `plugin`.
    pub plugin: Plugin,
    /// `config`, with nested tables flattened (`a.b`), sorted by name; at most 256 settings.
    pub config: Vec<(String, Setting)>,
    /// `on_error`, default `bypass`.
    pub on_error: OnError,
    /// `time` of one call, default 20 ms, 1 ms to 10 s.
    pub time: Duration,
    /// `memory` of one call in octets, default 8 MiB, 64 KiB to 64 MiB.
    pub memory: usize,
    /// `remember`: how many answers of `key` are kept, default 10000, at most ten million; 0 keeps
    /// none. Of those that take more than 1 KiB they are fewer.
    pub remember: u64,
    /// Where `plugin`'s value stands.
    pub plugin_place: Place,
    /// Where `config` stands, or the table's name if there is none.
    pub config_place: Place,
}

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// `bundled:NAME`: inside the binary.
    Bundled(String),
    /// A file; relative ones are found from the folder of `gateway.toml`.
    File(PathBuf),
}

/// A value in a policy's `config`.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// A string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
}

/// Among which requests equal misses share one forward request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collapsing {
    /// `false`: each goes forward.
    Off,
    /// `true`: those of one gateway.
    #[default]
    Gateway,
    /// `"fleet"`: those of all gateways with the same namespace and Redis.
    Fleet,
}

/// What a failed policy leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Forward, store nothing.
    #[default]
    Bypass,
    /// Answer 502.
    Fail,
    /// Go on as if the route had no such policy.
    Default,
}

/// What becomes of a stored response that may have been invalidated without this gateway's knowing, as
/// the invalidation log has been out of reach for longer than `max_lag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLag {
    /// It is used as ever.
    Serve,
    /// The upstream is asked whether it is still good.
    #[default]
    Validate,
    /// Another is fetched, as if it were not there.
    Bypass,
}

/// What becomes of a request that L1 does not answer while L2 is out of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnL2Error {
    /// It goes forward, as if L2 held nothing.
    #[default]
    Miss,
    /// A stale response in L1 answers it, where there is one that may.
    Stale,
    /// It is answered 503, to spare the upstream.
    Fail,
}

/// What of a request that may be answered from the cache goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forward {
    /// Everything but what is for one connection, and what names another host or client.
    #[default]
    All,
    /// What the key was made of.
    Keyed,
}

/// Something that a key policy may share by a route's word, though RFC 9111 does not let it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Responses to requests with `Authorization` that do not say that they may be shared.
    Authorization,
    /// Responses that are `private`.
    Private,
    /// Responses with `Set-Cookie`, without it.
    SetCookie,
    /// Responses to `POST` where the policy makes a key of it.
    Post,
}

impl Grant {
    /// Its name in `grants`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Post => "post",
        }
    }
}

/// Where a route's responses come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// `upstream`: its place in [`Config::upstreams`].
    Upstream(usize),
    /// `document`.
    Document(Box<Document>),
}

/// `[[routes]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `name`, unique: letters, digits, `-`, `_`, `.`; at most 64.
    pub name: String,
    /// `host`: names or `*.suffix`, in lower case, without a port. Empty is any.
    pub hosts: Vec<String>,
    /// `path`: `/users/{id}`, `/files/{*rest}`. A catch-all also matches what stands before it,
    /// with and without the last `/`.
    pub path: String,
    /// `methods`. Empty is any. `GET` brings `HEAD` along.
    pub methods: Vec<http::Method>,
    /// `headers`: what the request's fields must be, by name, at most 16. Empty is anything.
    pub headers: Vec<FieldCondition>,
    /// `upstream` or `document`.
    pub origin: Origin,
    /// `key`: policies' places in [`Config::policies`], in the order in which they are asked; at most 8.
    pub key: Vec<usize>,
    /// `storing`: a policy's place.
    pub storing: Option<usize>,
    /// `invalidation`: a policy's place.
    pub invalidation: Option<usize>,
    /// `shadow`: the place of a policy that is asked beside `key`, for comparison only.
    pub shadow: Option<usize>,
    /// `shadow_share`: the share of paths that it is asked about, 0 to 1, default 1.
    pub shadow_share: f64,
    /// `ttl`: the freshness lifetime of responses that bring none of their own, 1 s to 365 days.
    pub ttl: Option<Duration>,
    /// The same of those that have none by `ttl` nor by a guess: a simulation's `--ttl`. No file says it.
    pub assumed_ttl: Option<Duration>,
    /// `stale_if_error`: so long after it became stale a response is served where the upstream
    /// fails, at most 365 days. None: as the response or the request says; where no response came at
    /// all, 5 min.
    pub stale_if_error: Option<Duration>,
    /// `on_lag`, default `validate`.
    pub on_lag: OnLag,
    /// `on_l2_error`, default `miss`.
    pub on_l2_error: OnL2Error,
    /// `max_body`: a larger response is passed through unstored; default 8 MiB, at most 1 GiB.
    pub max_body: usize,
    /// `max_query_body`: a `QUERY` with larger content is passed through; default 64 KiB, at most
    /// [`MAX_QUERY_BODY`].
    pub max_query_body: usize,
    /// `max_request_body`: a request with more content is refused, at most 1024 GiB; none by default.
    pub max_request_body: u64,
    /// `max_policy_body`: the longest content, of a request or of a response, that a policy is shown
    /// or that values are read from; default 1 MiB, at most 64 MiB.
    pub max_policy_body: usize,
    /// `variants`: how many are kept under one key (`Vary`), default 32, 1 to 1000.
    pub variants: usize,
    /// `collapse`, default true: equal misses share one forward request.
    pub collapse: Collapsing,
    /// `purge`, default false: `PURGE` and `SOFTPURGE` are answered here, to who bears the token of
    /// `[admin]`, which there must be. `methods` has both then, if it has any.
    pub purge: bool,
    /// `forward`, default `all`.
    pub forward: Forward,
    /// `forward_fields`, default `accept-encoding` and `accept-language`; at most 16. With
    /// `forward = "keyed"` these go forward, and are in every key by what they mean.
    pub forward_fields: Vec<http::HeaderName>,
    /// `rewrite`: what the upstream is asked for instead of what the client asked for.
    pub rewrite: Option<Rewrite>,
    /// `fields`: what is changed in requests and responses.
    pub fields: RouteFields,
    /// `upgrade`, default none: protocols, in lower case, to which clients may switch their connections.
    pub upgrade: Vec<String>,
    /// `upgrade_idle_timeout`: a connection that was switched may be silent for so long, both ways; default
    /// 5 min, 1 ms to 24 h.
    pub upgrade_idle_timeout: Duration,
    /// `compress`: responses are sent in a coding; none without it.
    pub compress: Option<Compress>,
    /// `jwt`: a place in [`Config::jwts`].
    pub jwt: Option<usize>,
    /// `grants`: what `key`'s policy may share besides what RFC 9111 allows.
    pub grants: Vec<Grant>,
    /// Where `path`'s value stands.
    pub place: Place,
    /// Where the name of each of `key` stands.
    pub key_places: Vec<Place>,
    /// Where `storing`'s value stands.
    pub storing_place: Place,
    /// Where `invalidation`'s value stands.
    pub invalidation_place: Place,
    /// Where `shadow`'s value stands.
    pub shadow_place: Place,
    /// Where `grants`' value stands.
    pub grants_place: Place,
}

/// A place in a file, counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which of [`Config::sources`].
    pub file: usize,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}
