//! The whole program but for its command line: assembled from a configuration, started, drained.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{Config, Draft, Fault, Faults, Place};
use crate::gateway::{Equipment, Gateway};
use crate::plugin::{Engine, Policy};
use crate::routes::Routes;
use crate::server::{Drained, Server};
use crate::store::{self, NotRedis, Store};
use crate::upstream::Upstream;

/// Everything that a configuration names, found and loaded.
pub struct Assembly {
    config: Config,
    upstreams: Vec<Arc<Upstream>>,
    policies: Vec<Arc<Policy>>,
    routes: Routes,
}

/// Where the gateway listens, before it answers.
pub struct Listeners {
    /// For clients.
    pub clients: TcpListener,
    /// For operators, where `[admin]` is.
    pub operators: Option<TcpListener>,
}

/// A running gateway with its listeners.
pub struct Service {
    server: Server,
    admin: Option<Admin>,
    gateway: Arc<Gateway>,
    store_tasks: store::Tasks,
}

/// A service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// A listener's address is not to be had.
    #[error("`{address}` cannot be listened on")]
    Listening {
        /// As configured.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A listener or a thread cannot be used.
    #[error("the machine does not allow it")]
    Machine(#[from] io::Error),
    /// `[cache.l2] redis` is not understood.
    #[error("`[cache.l2] redis` cannot be used")]
    Redis(#[from] NotRedis),
}

impl Listeners {
    /// Listens on the addresses of a configuration.
    ///
    /// # Errors
    /// [`NotStarted::Listening`]: one is not to be had.
    pub async fn bind(config: &Config) -> Result<Self, NotStarted> {
        let clients = listen(config.server.listen).await?;
        let operators = match &config.admin {
            Some(admin) => Some(listen(admin.listen).await?),
            None => None,
        };
        Ok(Self { clients, operators })
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, NotStarted> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| NotStarted::Listening { address, source })
}

impl Assembly {
    /// Loads the plugins and builds the route table of a configuration that was read. `file` is its
    /// name in faults. Compiling plugins takes a while: not on a thread that serves requests.
    ///
    /// # Errors
    /// All that is wrong, with the file and with what it names, each at its line.
    pub fn new(draft: Draft, file: &str) -> Result<Self, Faults> {
        let Draft { config, mut faults } = draft;
        let routes = match Routes::new(&config.routes) {
            Ok(routes) => Some(routes),
            Err(conflicts) => {
                faults.extend(conflicts.iter().map(|conflict| conflict.fault(file)));
                None
            }
        };
        let upstreams = upstreams(&config, file, &mut faults);
        let policies = policies(&config, file, &mut faults);
        match routes {
            Some(routes) if faults.is_empty() => Ok(Self { config, upstreams, policies, routes }),
            _ => Err(faults.into()),
        }
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts the store and the workers, and answers on the listeners. Must be called on the
    /// control runtime: Redis connections and the admin listener stay on it.
    ///
    /// # Errors
    /// `redis` is not understood, or a listener or a thread cannot be used.
    pub fn start(self, listeners: Listeners, clock: Clock) -> Result<Service, NotStarted> {
        let Self { config, upstreams, policies, routes } = self;
        let tasks = TaskTracker::new();
        let store_tasks = store::Tasks {
            runtime: Handle::current(),
            tracker: TaskTracker::new(),
            end: CancellationToken::new(),
        };
        let store = Arc::new(Store::new(&config.cache, store_tasks.clone())?);
        let equipment =
            Equipment { upstreams, policies, routes, store, tasks: tasks.clone(), clock };
        let gateway = Gateway::new(&config, equipment);
        let Listeners { clients, operators } = listeners;
        let admin = match (&config.admin, operators) {
            (Some(admin), Some(listener)) => {
                let token = admin.token.as_deref();
                Some(Admin::start(listener, token, Arc::clone(&gateway))?)
            }
            _ => None,
        };
        let server = Server::start(&config.server, clients, Arc::clone(&gateway), tasks)?;
        Ok(Service { server, admin, gateway, store_tasks })
    }
}

impl Service {
    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where operators connect to.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// What answers.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Takes no more connections, lets running requests end, and says whether they all did.
    pub async fn drain(self) -> Drained {
        let drained = self.server.drain().await;
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
        // What is on its way to Redis may still arrive; a Redis that hangs is not waited for.
        self.store_tasks.end.cancel();
        self.store_tasks.tracker.close();
        let patience = Duration::from_secs(1);
        let ended = tokio::time::timeout(patience, self.store_tasks.tracker.wait()).await;
        if ended.is_err() {
            debug!("writes to Redis were broken off");
        }
        drained
    }
}

fn upstreams(config: &Config, file: &str, faults: &mut Vec<Fault>) -> Vec<Arc<Upstream>> {
    let mut upstreams = Vec::with_capacity(config.upstreams.len());
    for upstream in &config.upstreams {
        match Upstream::new(upstream) {
            Ok(made) => upstreams.push(Arc::new(made)),
            Err(error) => {
                let message = format!("upstream `{}`: {error}", upstream.name);
                faults.push(Fault::new(file, None, message));
            }
        }
    }
    upstreams
}

/// Loads the policies, and checks that each is asked only what it answers.
fn policies(config: &Config, file: &str, faults: &mut Vec<Fault>) -> Vec<Arc<Policy>> {
    if config.policies.is_empty() {
        return Vec::new();
    }
    let engine = match Engine::new(config.server.workers) {
        Ok(engine) => engine,
        Err(error) => {
            faults.push(Fault::new(file, None, error.to_string()));
            return Vec::new();
        }
    };
    let mut policies = Vec::with_capacity(config.policies.len());
    for policy in &config.policies {
        let loaded = Policy::load(&engine, policy);
        if let Err(error) = &loaded {
            let place =
                if error.is_about_config() { policy.config_place } else { policy.plugin_place };
            let message = format!("policy `{}`: {error}", policy.name);
            faults.push(Fault::new(file, place, message));
        }
        policies.push(loaded.ok().map(Arc::new));
    }
    for route in &config.routes {
        type Has = fn(&Policy) -> bool;
        let roles: [(&str, Option<usize>, Place, Has); 4] = [
            ("key", route.key, route.key_place, Policy::has_key),
            ("shadow", route.shadow, route.shadow_place, Policy::has_key),
            ("storing", route.storing, route.storing_place, Policy::has_storing),
            (
                "invalidation",
                route.invalidation,
                route.invalidation_place,
                Policy::has_invalidation,
            ),
        ];
        for (role, policy, place, has) in roles {
            let named = policy.and_then(|policy| policies.get(policy)).and_then(Option::as_ref);
            if let Some(policy) = named.filter(|policy| !has(policy)) {
                let message = format!(
                    "route `{}`: the plugin of policy `{}` does not export `{}`",
                    route.name,
                    policy.name(),
                    if role == "shadow" { "key" } else { role }
                );
                faults.push(Fault::new(file, place, message));
            }
        }
    }
    policies.into_iter().flatten().collect()
}
