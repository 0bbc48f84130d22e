//! The whole program but for its command line: assembled from a configuration, started, assembled
//! anew while it runs, drained.

mod busiest;
mod certificates;
mod changes;
mod contents;
mod descriptors;
mod ending;
mod explaining;
mod issuers;
mod listeners;
mod recording;
mod reload;
mod replay;
mod sharing;
mod sources;
mod supervised;
mod takeover;
mod warming;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{self, Config, Draft, Fault, Faults, Look, Place};
use crate::documents::Source as DocumentSource;
use crate::gateway::{Current, Equipment, Gateway, Lasting};
use crate::plugin::{Engine, LoadError, Policy};
use crate::routes::Routes;
use crate::server::{Secured, Server};
use crate::store::{self, Bookmark, NotOpened, Store};
use crate::token::Reader;

pub use self::certificates::Aged;
pub use self::listeners::Listeners;
pub use self::replay::replayed;
pub use self::supervised::Supervised;
pub use self::takeover::{Next, Trouble};

use self::busiest::Ranking;
use self::changes::Watches;
use self::issuers::Issuer;
use self::recording::Recording;
use self::reload::{Followers, Reloader, Reloading};
use self::sources::Forward;
use self::supervised::Notifier;
use self::warming::{Plan, Warming};
use self::watch::Watched;

/// So many calls to reload wait in line; further ones wait for that.
const MOST_CALLS: usize = 16;

/// Everything that a configuration names, found and loaded.
pub struct Assembly {
    parts: Parts,
    routes: Routes,
    source: Option<(Source, Watched)>,
    notifier: Notifier,
}

/// The file that a configuration is read from, and is read from again.
#[derive(Clone, Debug)]
pub struct Source {
    /// `gateway.toml`.
    pub file: PathBuf,
    /// Where to listen, whatever the file says.
    pub listen: Option<SocketAddr>,
}

/// What of a configuration the next one may use again.
struct Parts {
    config: Config,
    upstreams: Vec<Forward>,
    sources: Vec<Arc<DocumentSource>>,
    /// Made when there is a store.
    bookmarks: Vec<Arc<Bookmark>>,
    policies: Vec<Arc<Policy>>,
    /// Keys are read anew each time.
    tokens: Vec<Arc<Reader>>,
    issuers: Vec<Issuer>,
    /// Of each listener for clients, in the order of the configuration; none: cleartext.
    secured: Vec<Option<Secured>>,
    /// None before the first policy. There is one for the process.
    engine: Option<Arc<Engine>>,
    warm: Option<Arc<Plan>>,
}

/// A running gateway with its listeners.
pub struct Service {
    server: Server,
    admin: Option<Admin>,
    /// Where a new process can take over.
    offer: Option<takeover::Offer>,
    current: Arc<Current>,
    reloading: Option<Reloading>,
    watches: Arc<Watches>,
    warming: Warming,
    ranking: Ranking,
    store_tasks: store::Tasks,
    notifier: Notifier,
    recording: Recording,
    /// How long running requests may take to end.
    drain: Duration,
    /// How long of that connections may stay idle.
    ease: Duration,
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
    /// The folder of the embedded tier is not to be had.
    #[error("`[cache.l2] disk` cannot be used")]
    Disk(#[from] NotOpened),
    /// The file of the access log is not to be had.
    #[error("`[access_log] file` `{file}` cannot be opened")]
    AccessLog {
        /// As configured.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// Nothing can be taken over.
    #[error("`[server] takeover` cannot be used")]
    Takeover(#[from] Trouble),
}

impl Assembly {
    /// Loads the plugins and builds the route table of a configuration that was read. `file` is its
    /// name in faults. Compiling plugins takes a while: not on a thread that serves requests.
    ///
    /// # Errors
    /// All that is wrong, with the file and with what it names, each at its line.
    pub fn new(draft: Draft, file: &str) -> Result<Self, Faults> {
        let (parts, routes, _) = assemble(draft, file, None)?;
        Ok(Self { parts, routes, source: None, notifier: Notifier::default() })
    }

    /// The assembly of a file. What it starts reads the file again when it is told to, or when a file
    /// has changed.
    ///
    /// # Errors
    /// As for [`Assembly::new`].
    pub fn read(source: Source) -> Result<Self, Faults> {
        let (watched, draft) = source.read();
        let (parts, routes, _) = assemble(draft, &source.name(), None)?;
        let source = Some((source, watched));
        Ok(Self { parts, routes, source, notifier: Notifier::default() })
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// The certificates of Larder's own that are to be renewed.
    pub fn aged(&self, now: SystemTime) -> Vec<Aged> {
        certificates::aged(&self.parts.config, now)
    }

    /// Starts the store and the workers, and answers on the listeners. Must be called on the
    /// control runtime: Redis connections and the admin listener stay on it.
    ///
    /// # Errors
    /// A listener or a thread cannot be used.
    pub fn start(self, listeners: Listeners, clock: Clock) -> Result<Service, NotStarted> {
        self.aged(clock.now()).iter().for_each(Aged::log);
        let Self { mut parts, routes, source, notifier } = self;
        let config = &parts.config;
        let tasks = TaskTracker::new();
        let (tracker, end) = (TaskTracker::new(), CancellationToken::new());
        let store_tasks = store::Tasks { runtime: Handle::current(), tracker, end };
        let store = Store::new(&config.cache, config.server.name.as_deref(), store_tasks.clone());
        let store = Arc::new(store.with_disk(&config.cache, clock.clone())?);
        parts.bookmarks = changes::bookmarks(config, &store, &[]);
        let config = &parts.config;
        let lasting = Lasting::new(store, tasks.clone(), clock.clone());
        let (recording, lasting) = Recording::start(config, lasting)?;
        let gateway = parts.gateway(routes, &lasting);
        gateway.stats().reloads.begin(clock.now());
        let current = Current::new(gateway);
        let Listeners { clients, operators, opens } = listeners;
        let (reloads, calls) = mpsc::channel(MOST_CALLS);
        let reloads = source.is_some().then_some(reloads);
        let admin = match (&config.admin, operators) {
            (Some(admin), Some(listener)) => {
                let token = admin.token.as_deref();
                Some(Admin::start(listener, token, Arc::clone(&current), reloads, opens.clone())?)
            }
            _ => None,
        };
        let listening = listeners::listening(clients, &parts.secured);
        let server = descriptors::bounded(&config.server);
        let server = Server::start(&server, listening, Arc::clone(&current), tasks, opens.clone())?;
        let drain = config.server.drain;
        let ranking = Ranking::start(Arc::clone(&current));
        let asked = listeners::asked(&parts.config, &server);
        if let (Some(admin), Some(gateway)) = (&admin, asked.reachable()) {
            admin.asks(gateway);
        }
        let warming = Warming::start(parts.warm.clone(), asked, Arc::clone(&current), opens);
        let watches = Arc::new(Watches::default());
        watches.change(&parts, &current, &lasting);
        let reloading = source.map(|(source, watched)| {
            let parts = Arc::new(parts);
            let (current, watches) = (Arc::clone(&current), Arc::clone(&watches));
            let (doors, plans, notifier) = (server.doors(), warming.plans(), notifier.clone());
            let followers = Followers { doors, plans, notifier };
            Reloader { source, watched, parts, current, watches, lasting, followers, clock }
                .start(calls)
        });
        Ok(Service {
            server,
            admin,
            offer: None,
            current,
            reloading,
            watches,
            warming,
            ranking,
            store_tasks,
            notifier,
            recording,
            drain,
            ease: Duration::ZERO,
        })
    }
}

impl Service {
    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The addresses of all listeners for clients, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Where operators connect to.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// What answers at this moment.
    pub fn gateway(&self) -> Arc<Gateway> {
        self.current.gateway()
    }

    /// Has the file read again, if there is one, and the access log's opened anew. Its log says what comes
    /// of it.
    pub fn reload(&self) {
        self.recording.reopen();
        if let Some(reloading) = &self.reloading {
            reloading.ask();
        }
    }
}

impl Source {
    /// What faults call it.
    fn name(&self) -> String {
        self.file.display().to_string()
    }

    /// The file, and a watch on it and on those that it names.
    fn read(&self) -> (Watched, Draft) {
        let mut watched = Watched::default();
        let mut draft = Draft::load_watched(&self.file, &mut |look| match look {
            Look::File(file) => watched.add(file),
            Look::Listing(listing) => watched.add_listing(listing),
        });
        if let Some(listen) = self.listen {
            draft.listen_on(listen);
        }
        for file in draft.config.files() {
            watched.add(file);
        }
        (watched, draft)
    }
}

impl Parts {
    /// What answers by them.
    fn gateway(&self, routes: Routes, lasting: &Lasting) -> Arc<Gateway> {
        for source in &self.sources {
            source.look(lasting.runtime());
        }
        for forward in &self.upstreams {
            forward.begin(lasting.runtime());
        }
        for issuer in &self.issuers {
            issuer.begin(lasting.runtime(), lasting.clock().clone());
        }
        lasting.count_busiest(self.config.warm.as_ref().map_or(0, |warm| warm.busiest));
        Gateway::new(&self.config, self.equipment(routes, lasting))
    }

    fn equipment(&self, routes: Routes, lasting: &Lasting) -> Equipment {
        Equipment {
            upstreams: self.upstreams.iter().map(|it| Arc::clone(&it.upstream)).collect(),
            sources: self.sources.clone(),
            bookmarks: self.bookmarks.clone(),
            policies: self.policies.clone(),
            tokens: self.tokens.clone(),
            routes,
            lasting: lasting.clone(),
        }
    }
}

/// What is made of a configuration, and the keys of it that wait for a restart.
type Assembled = (Parts, Routes, Vec<&'static str>);

/// Makes everything that a configuration names, but for what `former` has already.
fn assemble(draft: Draft, file: &str, former: Option<&Parts>) -> Result<Assembled, Faults> {
    let Draft { mut config, mut faults } = draft;
    // A restart would want the files of what waits for it; those of what runs until then may be gone.
    let files = config.cache.l2.iter().flat_map(|l2| store::unusable_files(&l2.redis));
    faults.extend(
        files.map(|(place, wrong)| Fault::new(file, place, format!("[cache.l2]: {wrong}"))),
    );
    let loaded = listeners::load(&config, file, &mut faults);
    let waiting = former.map(|former| config.keep_until_restart(&former.config));
    let secured = listeners::secured(&config, &loaded, former);
    let routes = match Routes::new(&config.routes) {
        Ok(routes) => Some(routes),
        Err(conflicts) => {
            faults.extend(conflicts.iter().map(|conflict| conflict.fault(file, &config)));
            None
        }
    };
    let upstreams = sources::upstreams(&config, file, former, &mut faults);
    let sources = former.map_or(&[][..], |former| &former.sources);
    let sources = sources::sources(&config, file, sources, &mut faults);
    let mut engine = former.and_then(|former| former.engine.clone());
    let policies = policies(&config, file, former, &mut engine, &mut faults);
    let tokens = former.map_or(&[][..], |former| &former.tokens);
    let (tokens, issuers) = sharing::tokens(&config, file, tokens, &mut faults);
    let warm = Plan::of(&config, file, &mut faults);
    match routes {
        Some(routes) if faults.is_empty() => {
            let bookmarks = Vec::new();
            let parts = Parts {
                config,
                upstreams,
                sources,
                bookmarks,
                policies,
                tokens,
                issuers,
                secured,
                engine,
                warm,
            };
            Ok((parts, routes, waiting.unwrap_or_default()))
        }
        _ => Err(config.faults(faults)),
    }
}

fn new_engine(server: &config::Server) -> Result<Arc<Engine>, LoadError> {
    Engine::with_compiled(server.workers, server.compiled_cache.as_deref())
}

/// Loads the policies, and checks that each is asked only what it answers.
fn policies(
    config: &Config,
    file: &str,
    former: Option<&Parts>,
    engine: &mut Option<Arc<Engine>>,
    faults: &mut Vec<Fault>,
) -> Vec<Arc<Policy>> {
    if config.policies.is_empty() {
        return Vec::new();
    }
    let engine = match engine.take().map_or_else(|| new_engine(&config.server), Ok) {
        Ok(made) => Arc::clone(engine.insert(made)),
        Err(error) => {
            faults.push(Fault::new(file, None, error.to_string()));
            return Vec::new();
        }
    };
    let former = former.map_or(&[][..], |former| &former.policies);
    let mut policies = Vec::with_capacity(config.policies.len());
    for policy in &config.policies {
        let loaded = Policy::load_or_keep(&engine, policy, former);
        if let Err(error) = &loaded {
            let place =
                if error.is_about_config() { policy.config_place } else { policy.plugin_place };
            let message = format!("policy `{}`: {error}", policy.name);
            faults.push(Fault::new(file, place, message));
        }
        policies.push(loaded.ok());
    }
    for route in &config.routes {
        type Has = fn(&Policy) -> bool;
        let keys = route.key.iter().zip(&route.key_places);
        let keys = keys.map(|(key, place)| ("key", Some(*key), *place, Policy::has_key as Has));
        let others: [(&str, Option<usize>, Place, Has); 3] = [
            ("shadow", route.shadow, route.shadow_place, Policy::has_key),
            ("storing", route.storing, route.storing_place, Policy::has_storing),
            (
                "invalidation",
                route.invalidation,
                route.invalidation_place,
                Policy::has_invalidation,
            ),
        ];
        for (role, policy, place, has) in keys.chain(others) {
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
    sharing::check(config, &policies, file, faults);
    contents::check(config, &policies, file, faults);
    changes::check(config, &policies, file, faults);
    policies.into_iter().flatten().collect()
}
