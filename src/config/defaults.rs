//! What a configuration holds where nothing is written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{
    Admin, Cache, Collapsing, Compression, Config, Forward, InForce, L1, L2, Listener, OnError,
    OnL2Error, OnLag, Origin, Place, Plugin, Policy, Redis, Route, RouteFields, Server,
    TrustedField,
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Config {
    /// Every default, no upstream and no route: where reading begins.
    pub(super) fn empty() -> Self {
        Self {
            server: Server::default(),
            admin: None,
            cache: Cache::default(),
            upstreams: Vec::new(),
            mongodbs: Vec::new(),
            policies: Vec::new(),
            jwts: Vec::new(),
            routes: Vec::new(),
            watches: Vec::new(),
            warm: None,
            sources: Vec::new(),
            in_force: InForce::default(),
            access_log: None,
            tracing: None,
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listener: Listener::on(SocketAddr::new(LOOPBACK, 8080)),
            more: Vec::new(),
            name: None,
            workers: 0,
            max_connections: 10_000,
            max_streams: 128,
            max_resets: 200,
            header_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_mins(1),
            takeover: None,
            drain: Duration::from_secs(30),
            watch: true,
            trusted_proxies: Vec::new(),
            trusted_field: TrustedField::default(),
            underscores_in_fields: false,
            compiled_cache: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::new(LOOPBACK, 9080), token: None }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            namespace: "larder".to_owned(),
            status_key: false,
            targeted: ["larder-cache-control", "cdn-cache-control"]
                .map(http::HeaderName::from_static)
                .into(),
            max_lag: Duration::from_secs(5),
            l1: L1::default(),
            l2: None,
            disk: None,
        }
    }
}

impl Default for L1 {
    fn default() -> Self {
        Self { capacity: 256 << 20, ttl: Duration::from_mins(5) }
    }
}

impl L2 {
    /// With every default but the servers.
    pub fn new(redis: Redis) -> Self {
        Self {
            redis,
            ttl: Duration::from_hours(1),
            timeout: Duration::from_millis(50),
            max_size: 1 << 20,
            compression: Compression::default(),
        }
    }
}

impl Policy {
    /// With every default. `place` is where the name stands.
    pub fn new(name: String, plugin: Plugin, place: Place) -> Self {
        Self {
            name,
            plugin,
            config: Vec::new(),
            on_error: OnError::default(),
            time: Duration::from_millis(20),
            memory: 8 << 20,
            remember: 10_000,
            plugin_place: place,
            config_place: place,
        }
    }
}

impl Route {
    /// With every default.
    pub fn new(name: String, path: String, origin: Origin) -> Self {
        Self {
            name,
            hosts: Vec::new(),
            path,
            methods: Vec::new(),
            headers: Vec::new(),
            origin,
            key: Vec::new(),
            storing: None,
            invalidation: None,
            shadow: None,
            shadow_share: 1.0,
            ttl: None,
            assumed_ttl: None,
            stale_if_error: None,
            on_lag: OnLag::default(),
            on_l2_error: OnL2Error::default(),
            max_body: 8 << 20,
            max_query_body: 64 << 10,
            max_request_body: u64::MAX,
            max_policy_body: 1 << 20,
            variants: 32,
            collapse: Collapsing::default(),
            purge: false,
            forward: Forward::default(),
            forward_fields: vec![http::header::ACCEPT_ENCODING, http::header::ACCEPT_LANGUAGE],
            rewrite: None,
            fields: RouteFields::default(),
            upgrade: Vec::new(),
            upgrade_idle_timeout: Duration::from_mins(5),
            compress: None,
            jwt: None,
            grants: Vec::new(),
            place: Place::default(),
            key_places: Vec::new(),
            storing_place: Place::default(),
            invalidation_place: Place::default(),
            shadow_place: Place::default(),
            grants_place: Place::default(),
        }
    }
}
