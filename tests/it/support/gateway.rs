//! A gateway in this process, on free ports, with a clock that can be advanced.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::clock::Clock;
use larder::config::{Draft, Faults};
use larder::server::Drained;
use larder::service::{Assembly, Listeners, NotStarted, Service, Source};
use larder::stats::ConnectionFigures;
use larder::store;
use larder::store::{ChangeFigures, NotOpened};
use larder::stored::Position;
use serde_json::Value;
use tokio::time::sleep;

use super::client::{Ask, Got};
use super::origin::Origin;
use super::redis::Redis;
use super::{PATIENCE, until};

/// What clients call the gateways of a fleet. The authority is part of the key, and gateways on
/// ports of their own would share nothing.
pub(crate) const FLEET: &str = "shop.example";

/// A running gateway.
pub struct Gateway {
    service: Option<Service>,
    address: SocketAddr,
    admin: SocketAddr,
    host: Option<&'static str>,
    clock: Clock,
}

/// A `gateway.toml` in the making.
pub struct Setup {
    server: String,
    admin: String,
    cache: String,
    upstreams: String,
    rest: String,
    host: Option<&'static str>,
    clock: Clock,
}

impl Gateway {
    /// One route for everything, with all defaults.
    pub async fn before(origin: &Origin) -> Self {
        Self::setup(origin).start().await
    }

    /// To be changed before it starts. The upstream's name is `origin`.
    pub fn setup(origin: &Origin) -> Setup {
        Self::setup_before(&[origin.url()]).clock(origin.clock())
    }

    /// Before servers by their URLs.
    pub(crate) fn setup_before(servers: &[String]) -> Setup {
        Setup {
            server: "workers = 1".to_owned(),
            admin: String::new(),
            cache: String::new(),
            upstreams: format!("[upstreams.origin]\nservers = {servers:?}\n"),
            rest: "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n"
                .to_owned(),
            host: None,
            clock: Clock::manual(),
        }
    }

    /// Before documents alone: `[mongodb.shop]` with this URI. Its routes are still to be said.
    #[cfg(feature = "mongodb")]
    pub(crate) fn setup_of_documents(uri: &str) -> Setup {
        let upstreams = format!("[mongodb.shop]\nuri = \"{uri}\"\n");
        Setup { upstreams, ..Self::setup_before(&[]) }
    }

    /// One of a fleet that shares this Redis, with one route for everything and all defaults.
    pub async fn of_fleet(origin: &Origin, redis: &Redis) -> Self {
        Self::setup(origin).redis(redis).start().await.in_step().await
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of a further listener.
    pub(crate) fn another(&self, place: usize) -> SocketAddr {
        self.service().addresses()[place]
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// GET, and the whole response.
    pub async fn get(&self, target: &str) -> Got {
        self.ask("GET", target).send().await
    }

    pub fn ask(&self, method: &str, target: &str) -> Ask {
        let ask = Ask::new(self.address, method, target);
        match self.host {
            Some(host) => ask.field("host", host),
            None => ask,
        }
    }

    /// A call to the admin listener.
    pub fn admin(&self, method: &str, target: &str) -> Ask {
        Ask::new(self.admin, method, target)
    }

    /// `GET /stats`.
    pub async fn stats(&self) -> Value {
        let got = self.admin("GET", "/stats").send().await.code(200);
        serde_json::from_slice(&got.body).unwrap()
    }

    /// A figure in all, straight from the counters.
    pub fn figure(&self, name: &str) -> u64 {
        let service = self.service.as_ref().unwrap();
        let snapshot = serde_json::to_value(service.gateway().stats().snapshot()).unwrap();
        snapshot[name].as_u64().unwrap_or_else(|| panic!("there is no figure `{name}`"))
    }

    /// Waits until a figure is at least so high.
    pub async fn reaches(&self, name: &str, value: u64) {
        until(&format!("`{name}` reaches {value}"), || self.figure(name) >= value).await;
    }

    /// The state of the tiers and the invalidation log.
    pub fn store(&self) -> store::Stats {
        self.service().gateway().store().stats()
    }

    /// Those of clients.
    pub(crate) fn connections(&self) -> ConnectionFigures {
        self.service().gateway().stats().snapshot().connections
    }

    /// The state of L2.
    pub fn l2(&self) -> store::L2Stats {
        self.store().l2.expect("there is an L2")
    }

    /// What has come of the first of `[[changes]]`.
    pub(crate) fn changes(&self) -> ChangeFigures {
        let gateway = self.service().gateway();
        gateway.changes().next().expect("there are changes").1
    }

    /// Waits until every change is applied that there was before.
    pub(crate) async fn watches(self) -> Self {
        until("changes are watched", || self.changes().watching && !self.changes().late).await;
        self
    }

    /// Waits until L2 is in use.
    pub async fn in_step(self) -> Self {
        self.is_in_step().await;
        self
    }

    /// As [`Gateway::in_step`].
    pub async fn is_in_step(&self) {
        until("L2 is in use", || self.l2().up && self.l2().log_in_step).await;
    }

    /// Waits until L2 has what was stored so far.
    pub async fn settled(&self) {
        until("L2 is written", || self.store().l2.is_none_or(|l2| l2.writing == 0)).await;
    }

    /// Waits until every record of the invalidation log up to here has been applied.
    pub async fn has_applied(&self, position: Position) {
        until("the invalidation is applied", || self.store().log_position >= position).await;
    }

    pub fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    /// Stops it as SIGTERM does.
    pub async fn drain(mut self) -> Drained {
        let (drained, rest) = self.service.take().unwrap().drain().await;
        rest.await;
        drained
    }
}

impl Setup {
    /// Lines for `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.server);
        self
    }

    /// `[[server.listeners]]`, behind what `[server]` says.
    pub(crate) fn listening(mut self, tables: &str) -> Self {
        self.server.extend(["\n", tables]);
        self
    }

    /// Lines for `[admin]`.
    pub(crate) fn admin(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.admin);
        self
    }

    /// `[cache]` and its tables.
    pub fn cache(mut self, tables: &str) -> Self {
        self.cache = format!("{tables}\n");
        self
    }

    /// `[cache.l2]` with this server. Clients name one host for the whole fleet.
    ///
    /// The timeout is long: a busy machine does not make a hit a miss.
    pub fn redis(self, redis: &Redis) -> Self {
        self.l2(&redis.url(), "timeout = \"10s\"")
    }

    /// `[cache.l2]` with this URL and more lines. Clients name one host for the whole fleet.
    pub fn l2(mut self, url: &str, lines: &str) -> Self {
        self.cache.extend(["[cache.l2]\nredis = \"", url, "\"\n", lines, "\n"]);
        self.host = Some(FLEET);
        self
    }

    /// `[cache.l2]` in this folder, with more lines. Clients use a name that outlives the gateway.
    pub fn disk(mut self, folder: &Path, lines: &str) -> Self {
        let table =
            format!("[cache.l2]\ndisk = \"{}\"\ntimeout = \"10s\"\n{lines}\n", folder.display());
        self.cache.push_str(&table);
        self.host = Some(FLEET);
        self
    }

    /// More lines for `[upstreams.origin]`, or `[mongodb.shop]`.
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstreams.extend([lines, "\n"]);
        self
    }

    /// These upstreams instead.
    pub(crate) fn upstreams(mut self, tables: &str) -> Self {
        tables.clone_into(&mut self.upstreams);
        self
    }

    /// More lines for the one route.
    pub fn route(mut self, lines: &str) -> Self {
        self.rest.extend([lines, "\n"]);
        self
    }

    /// Everything below the upstreams: policies and routes instead of the one route.
    pub fn routes(mut self, tables: &str) -> Self {
        tables.clone_into(&mut self.rest);
        self
    }

    /// `[warm]`. Goes after all routes.
    pub(crate) fn warm(mut self, lines: &str) -> Self {
        self.rest.extend(["[warm]\n", lines, "\n"]);
        self
    }

    /// A clock that several gateways share.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// The file as it stands.
    pub fn text(&self) -> String {
        let Self { server, admin, cache, upstreams, rest, .. } = self;
        // What a test compiles is not kept in the home of whoever runs it.
        let has_folder = server.contains("compiled_cache");
        let off = if has_folder { "" } else { "compiled_cache = \"off\"" };
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{off}\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             {admin}\n{cache}\n{upstreams}\n{rest}"
        )
    }

    pub async fn start(self) -> Gateway {
        let (text, root) = (self.text(), Path::new(env!("CARGO_MANIFEST_DIR")));
        self.serve(|| Assembly::new(Draft::parse(&text, "test.toml", root, &|_| None), "test.toml"))
            .await
    }

    /// Writes it into this file, and starts from there.
    pub(crate) async fn start_from(self, file: &Path) -> Gateway {
        std::fs::write(file, self.text()).unwrap();
        self.serve(|| Assembly::read(Source { file: file.to_owned(), listen: None })).await
    }

    async fn serve(&self, made: impl Fn() -> Result<Assembly, Faults>) -> Gateway {
        let begun = Instant::now();
        let service = loop {
            let assembly = made().unwrap_or_else(|faults| panic!("{faults}\n{}", self.text()));
            let listeners = Listeners::bind(assembly.config()).unwrap();
            match assembly.start(listeners, self.clock.clone()) {
                // A program that another test has just begun to start has what was open in this process
                // until it really runs: the lock on a folder, too.
                Err(NotStarted::Disk(NotOpened::InUse(_))) if begun.elapsed() < PATIENCE => {
                    sleep(Duration::from_millis(5)).await;
                }
                started => break started.unwrap(),
            }
        };
        Gateway {
            address: service.address(),
            admin: service.admin_address().unwrap(),
            host: self.host,
            clock: self.clock.clone(),
            service: Some(service),
        }
    }
}
