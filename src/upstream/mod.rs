//! Sending a request to the servers behind Larder: connections, time limits, what failed.
//!
//! [`Upstream::send`] is the path of one forward request. `outgoing` is the request and `content` what it
//! carries, `group` the servers, of which `balance` chooses one by how each is `standing`, `beside` what those have
//! in common, `server` an exchange with one. `connections` are those to one server, `connect` opens them, and one is
//! `lent` to an exchange: most of HTTP/1.1 are `direct`, others hyper has with its `wire`, several share one of
//! `http2`. `tls` says whom they believe. A response that is `understood` has its content `coming`, in a `reply` on its
//! way back, `failure` is why there is none, and `retry` whether it is asked for again. `probe` asks servers how they
//! are, and `names` which they are.
//!
//! What may be sent, and what a failure becomes for the client, is `gateway`'s business.

mod arriving;
mod balance;
mod beside;
mod coming;
mod connect;
mod connections;
mod content;
mod direct;
mod failure;
mod figures;
mod group;
mod http2;
mod lent;
mod names;
mod outgoing;
mod probe;
mod reply;
mod retry;
mod server;
mod standing;
mod tls;
mod understood;
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::config::{self, Health, Retries};

pub use self::arriving::{Arriving, Unfinished};
pub use self::content::Content;
pub use self::failure::{Cause, Failure};
pub use self::figures::Snapshot;
pub use self::outgoing::{Fields, Outgoing};
pub use self::reply::{Incomplete, Reply};
pub use self::standing::{ServerHealth, ServerState};
pub use self::tls::Unusable;

use self::figures::Figures;
use self::group::Group;
use self::names::Lookups;
use self::retry::{Again, Budget, Tries};

/// A group of servers that answer the same requests.
pub struct Upstream {
    name: Box<str>,
    group: Arc<Group>,
    /// Of one request, to the end of its response.
    total_timeout: Option<Duration>,
    retries: Retries,
    budget: Budget,
    figures: Figures,
    health: Option<Health>,
    resolve: Option<Duration>,
    lookups: OnceLock<Lookups>,
}

/// What the connections of an upstream are secured with.
#[derive(Clone)]
pub struct Security(rustls::ClientConfig);

/// A server's name cannot be looked up.
#[derive(Clone, Debug)]
pub struct LookupFailure {
    /// The server's URL.
    pub name: String,
    /// For how long.
    pub lasts: Duration,
    /// What the system said last.
    pub why: String,
}

impl Security {
    /// Reads the files that an upstream names.
    ///
    /// # Errors
    /// One cannot be used.
    pub fn load(config: &config::Upstream) -> Result<Self, Unusable> {
        tls::client(config).map(Self)
    }
}

/// The scheme of each server of an upstream, and what it is called in `Host`, where that is not what its clients
/// asked for. `told` is what all are called instead of that.
pub fn own_hosts(config: &config::Upstream, told: Option<&str>) -> Vec<(String, String)> {
    let named = |server: &config::UpstreamServer| {
        let host = if config.preserve_host {
            told?.to_owned()
        } else {
            outgoing::host(&server.url)?.to_str().ok()?.to_owned()
        };
        Some((server.url.scheme_str()?.to_owned(), host))
    };
    config.servers.iter().filter_map(named).collect()
}

impl Upstream {
    /// An upstream as configured. Opens no connection.
    pub fn new(config: &config::Upstream) -> Result<Self, Unusable> {
        let tls = tls::client(config)?;
        Ok(Self {
            name: config.name.as_str().into(),
            group: Arc::new(Group::new(config, tls)),
            total_timeout: config.total_timeout,
            retries: config.retries.clone(),
            budget: Budget::new(),
            figures: Figures::default(),
            health: config.health.clone(),
            resolve: config.resolve,
            lookups: OnceLock::new(),
        })
    }

    /// Opens connections with this from now on. What is known of its servers stays, and so does what runs;
    /// connections that are idle are closed.
    pub fn secure(&self, security: Security) {
        self.group.secure(security.0);
    }

    /// Has its servers checked and their names looked up on this runtime, where that is wanted, until it
    /// is dropped. The second time that is said changes nothing.
    pub fn look_after(&self, runtime: &Handle) {
        if let Some(health) = &self.health {
            self.group.probe(health, runtime);
        }
        if let Some(period) = self.resolve {
            self.lookups.get_or_init(|| Lookups::start(&self.group, period, runtime));
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many requests wait as its servers have as many as they may.
    pub fn waiting(&self) -> usize {
        self.group.waiting()
    }

    /// How each of its servers is.
    pub fn servers(&self) -> Vec<ServerHealth> {
        self.group.told()
    }

    /// The server that would be asked first at this moment, if one may have a request; `key` is what the
    /// response is looked for by. Nothing is sent, and nobody's turn is taken.
    pub fn foretell(&self, key: &[u8]) -> Option<ServerHealth> {
        let hash = if self.group.goes_by_hash() { server::hash(key) } else { 0 };
        self.group.foretell(hash)
    }

    /// What its requests have come to.
    pub fn snapshot(&self) -> Snapshot {
        self.figures.snapshot(&self.group.waits)
    }

    /// The names of servers that cannot be looked up.
    pub fn lookup_failures(&self) -> Vec<LookupFailure> {
        self.group.lookup_failures()
    }

    /// Forwards a request and waits for the response head.
    ///
    /// The server gets it whose turn it is, once it may have one more. If that refuses the connection,
    /// another is tried, each server once: nothing was sent, so any method may be repeated (RFC 9110
    /// §9.2.2). If that fails otherwise, `retry` says whether another gets it, and the budget whether
    /// there may be one more.
    ///
    /// # Errors
    /// See [`Failure`]. Dropping the future gives the request up.
    pub async fn send(&self, outgoing: &Outgoing<'_, '_>) -> Result<Response<Reply>, Failure> {
        let sent = match self.total_timeout {
            None => self.send_at_leisure(outgoing, None).await,
            // On the heap: few upstreams have a limit, and a request has no room for both ways.
            Some(most) => Box::pin(self.send_in_time(outgoing, most)).await,
        };
        // A request that broke off is its client's doing.
        if matches!(&sent, Err(failure) if !matches!(failure, Failure::Request(_))) {
            self.figures.failures.count();
        }
        sent
    }

    async fn send_in_time(
        &self,
        outgoing: &Outgoing<'_, '_>,
        most: Duration,
    ) -> Result<Response<Reply>, Failure> {
        let end = Instant::now() + most;
        let sent = self.send_at_leisure(outgoing, Some(end));
        let sent = tokio::time::timeout_at(end, sent).await;
        let mut response = sent.unwrap_or(Err(Failure::Timeout))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.body_mut().end_by(end);
        }
        Ok(response)
    }

    /// As [`Upstream::send`], however long it takes in all. Where somebody drops it at its `end`, it is told to
    /// the server that was silent.
    async fn send_at_leisure(
        &self,
        outgoing: &Outgoing<'_, '_>,
        end: Option<Instant>,
    ) -> Result<Response<Reply>, Failure> {
        let hash = if self.group.goes_by_hash() { outgoing.hash() } else { 0 };
        let now = Instant::now();
        self.budget.request(now);
        self.figures.requests.count();
        let mut tries = Tries { may_repeat: outgoing.may_repeat(), ..Tries::default() };
        let mut asked = Vec::new();
        let mut last: Option<Response<Reply>> = None;
        let mut call = self.group.first(hash, now).await?;
        loop {
            let (server, begun) = (Arc::clone(call.server()), call.begun());
            // Who got the request late is not to blame.
            let is_due =
                |end: &Instant| self.total_timeout.is_some_and(|it| *end - begun >= it / 2);
            // A future is moved into each that waits for it. On the heap it is so once, and the others are small.
            let (result, now) = Box::pin(call.ask(outgoing, end.filter(is_due))).await;
            if result.is_ok() {
                self.figures.heads.count(now - begun);
            }
            // An answer that was not taken is better than none.
            let result = result.or_else(|failure| last.take().ok_or(failure));
            let came = result.as_ref().map(Response::status);
            tries.is_whole = outgoing.content.is_whole();
            let Some(again) = retry::again(came, tries, &self.retries) else { return result };
            asked.push(server);
            let next = match again {
                Again::Unsent => self.group.next(hash, &asked, true, now).call(),
                Again::Elsewhere => self.group.next(hash, &asked, false, now).call(),
                Again::Anywhere => {
                    let next = self.group.next(hash, &asked, false, now).call();
                    next.or_else(|| self.group.next(hash, &[], true, now).call())
                }
            };
            let Some(next) = next else { return result };
            if again == Again::Unsent {
                self.figures.passed_over.count();
            } else {
                if !self.budget.allows(&self.retries, now) {
                    self.figures.retries_denied.count();
                    return result;
                }
                self.figures.retries.count();
                tries.retries += 1;
                tries.was_silent |= matches!(result, Err(Failure::Timeout));
            }
            (call, last) = (next, result.ok());
        }
    }
}
