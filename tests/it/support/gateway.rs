//! A gateway in this process, on free ports, with a clock that can be advanced.

use std::net::SocketAddr;
use std::path::Path;

use larder::clock::Clock;
use larder::config::Draft;
use larder::server::Drained;
use larder::service::{Assembly, Listeners, Service};
use serde_json::Value;

use super::client::{Ask, Got};
use super::origin::Origin;
use super::until;

/// A running gateway.
pub struct Gateway {
    service: Option<Service>,
    address: SocketAddr,
    admin: SocketAddr,
    clock: Clock,
}

/// A `gateway.toml` in the making.
pub struct Setup {
    server: String,
    cache: String,
    upstreams: String,
    rest: String,
    clock: Clock,
}

impl Gateway {
    /// One route for everything, with all defaults.
    pub async fn before(origin: &Origin) -> Self {
        Self::setup(origin).start().await
    }

    /// To be changed before it starts. The upstream's name is `origin`.
    pub fn setup(origin: &Origin) -> Setup {
        Setup {
            server: "workers = 1".to_owned(),
            cache: String::new(),
            upstreams: format!("[upstreams.origin]\nservers = [\"{}\"]\n", origin.url()),
            rest: "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n"
                .to_owned(),
            clock: origin.clock().clone(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
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
        Ask::new(self.address, method, target)
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

    pub fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    /// Stops it as SIGTERM does.
    pub async fn drain(mut self) -> Drained {
        self.service.take().unwrap().drain().await
    }
}

impl Setup {
    /// Lines for `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server = lines.to_owned();
        self
    }

    /// `[cache]` and its tables.
    pub fn cache(mut self, tables: &str) -> Self {
        self.cache = format!("{tables}\n");
        self
    }

    /// More lines for `[upstreams.origin]`.
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstreams.push_str(&format!("{lines}\n"));
        self
    }

    /// More lines for the one route.
    pub fn route(mut self, lines: &str) -> Self {
        self.rest.push_str(&format!("{lines}\n"));
        self
    }

    /// Everything below the upstreams: policies and routes instead of the one route.
    pub fn routes(mut self, tables: &str) -> Self {
        self.rest = tables.to_owned();
        self
    }

    /// A clock that several gateways share.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// The file as it stands.
    pub fn text(&self) -> String {
        let Self { server, cache, upstreams, rest, .. } = self;
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             {cache}\n{upstreams}\n{rest}"
        )
    }

    pub async fn start(self) -> Gateway {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let draft = Draft::parse(&self.text(), "test.toml", root, &|_| None);
        let assembly = Assembly::new(draft, "test.toml");
        let assembly = assembly.unwrap_or_else(|faults| panic!("{faults}\n{}", self.text()));
        let listeners = Listeners::bind(assembly.config()).await.unwrap();
        let service = assembly.start(listeners, self.clock.clone()).unwrap();
        Gateway {
            address: service.address(),
            admin: service.admin_address().unwrap(),
            clock: self.clock,
            service: Some(service),
        }
    }
}
