//! One server: its connections, and one exchange with it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, Uri};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::{self, Eject, Health};

use super::balance::Candidate;
use super::beside::Beside;
use super::coming::Coming;
use super::connect::Connector;
use super::connections::Connections;
use super::content::Progress;
use super::lent::Lent;
use super::names::Whereto;
use super::outgoing::{self, Message};
use super::probe::Checks;
use super::standing::{Change, ServerHealth, ServerState, Standing};
use super::understood::understood;
use super::{Content, Failure, Outgoing, Reply};

/// One server. Dropping it closes the connections that are idle; others close when they become so.
pub(super) struct Server {
    url: Uri,
    /// What it is called in `Host`.
    host: Option<HeaderValue>,
    /// The upstream's name, and the URL, as logs have them.
    upstream: Box<str>,
    name: Box<str>,
    /// Which of those that are configured it is, or belongs to.
    place: usize,
    whereto: Whereto,
    weight: u32,
    is_backup: bool,
    /// Stands for it, the same in every gateway.
    hash: AtomicU64,
    in_flight: AtomicUsize,
    max_requests: Option<usize>,
    beside: Arc<Beside>,
    /// None: it is not left alone, whatever it does.
    eject: Option<Eject>,
    slow_start: Duration,
    record: Mutex<Record>,
    /// A response broke off since the last one that came whole.
    has_broken: AtomicBool,
    /// Times are counted from here.
    made: Instant,
    connections: Connections,
    timeout: Duration,
    idle_timeout: Duration,
    preserve_host: bool,
}

/// What became of requests to a server.
#[derive(Default)]
struct Record {
    standing: Standing,
    checks: Checks,
    /// When the checks last changed what they say.
    checked: Duration,
    last_failure: Option<(Duration, String)>,
}

/// A request that a server has. Dropping it ends that.
pub(super) struct Call {
    server: Arc<Server>,
    begun: Instant,
    /// The same, as the server counts times.
    began: Duration,
    /// What became of it is known to the server.
    is_told: bool,
    /// When it ends, if the server is to have answered by then.
    due: Option<Box<Due>>,
    /// What the server has answered without.
    unwanted: Option<Box<Content>>,
}

/// When a request ends, whatever it waits for.
struct Due {
    end: Instant,
    /// Of the request's content.
    progress: Option<Arc<Progress>>,
}

impl Due {
    /// That was so long, and the server has had all that it could answer.
    fn is_over(&self, now: Instant) -> bool {
        self.end <= now && self.progress.as_ref().is_none_or(|progress| progress.is_over())
    }
}

impl Server {
    /// Opens no connection.
    pub(super) fn new(
        server: &config::UpstreamServer,
        place: usize,
        whereto: Whereto,
        config: &config::Upstream,
        tls: &rustls::ClientConfig,
        beside: &Arc<Beside>,
    ) -> Self {
        Self {
            url: server.url.clone(),
            host: outgoing::host(&server.url),
            upstream: config.name.as_str().into(),
            name: name(&server.url),
            place,
            whereto: whereto.clone(),
            weight: server.weight,
            is_backup: server.backup,
            hash: hash(server.url.to_string().as_bytes()).into(),
            in_flight: AtomicUsize::new(0),
            max_requests: config.max_requests,
            beside: Arc::clone(beside),
            eject: config.eject.clone(),
            slow_start: config.slow_start,
            record: Mutex::default(),
            has_broken: AtomicBool::new(false),
            made: Instant::now(),
            connections: Connections::new(Connector::new(&server.url, whereto, config, tls)),
            timeout: config.timeout,
            idle_timeout: config.idle_timeout,
            preserve_host: config.preserve_host,
        }
    }

    /// Opens connections with this from now on. Whatever is known of it stays.
    pub(super) fn secure(&self, config: &config::Upstream, tls: &rustls::ClientConfig) {
        self.connections.renew(Connector::new(&self.url, self.whereto.clone(), config, tls));
    }

    /// It comes to others, and gets its whole weight slowly.
    pub(super) fn arriving(mut self) -> Self {
        self.record = Mutex::new(Record { standing: Standing::arriving(), ..Record::default() });
        self
    }

    /// Which of those that are configured it is, or belongs to.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// The address that it is known by, if its name has been looked up.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.whereto.first()
    }

    /// Has these as its addresses from now on.
    pub(super) fn reach_by(&self, addresses: &[SocketAddr]) {
        self.whereto.change(addresses);
    }

    /// Its name stands for so many servers. What falls to the only one stays there whatever its address
    /// becomes.
    pub(super) fn is_one_of(&self, count: usize) {
        let url = self.url.to_string();
        let octets = match self.address() {
            Some(address) if count > 1 => format!("{url} {address}"),
            _ => url,
        };
        self.hash.store(hash(octets.as_bytes()), Ordering::Relaxed);
    }

    /// What failures lead to; nothing where there would be no other to ask.
    fn eject(&self) -> Option<&Eject> {
        self.eject.as_ref().filter(|_| self.beside.are_several())
    }

    fn now(&self) -> Duration {
        self.made.elapsed()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it may be chosen by.
    pub(super) fn candidate(&self, now: Instant) -> Candidate {
        let now = now.saturating_duration_since(self.made);
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let record = self.record();
        Candidate {
            weight: record.standing.weight(self.weight, self.slow_start, now),
            hash: self.hash.load(Ordering::Relaxed),
            is_backup: self.is_backup,
            is_usable: record.standing.is_usable(now) && record.checks.is_healthy(),
            is_tried: false,
            is_full: self.max_requests.is_some_and(|most| in_flight >= most),
            in_flight,
        }
    }

    /// When it may be asked again, if that is to come.
    pub(super) fn returns(&self, now: Instant) -> Option<Instant> {
        let returns = self.record().standing.returns()?;
        self.made.checked_add(returns).filter(|returns| *returns > now)
    }

    /// How it is.
    pub(super) fn told(&self) -> ServerHealth {
        let now = self.now();
        let record = self.record();
        let (state, since) = if record.checks.is_healthy() {
            record.standing.told()
        } else {
            (ServerState::Unhealthy, record.checked)
        };
        let last_failure = record.last_failure.clone();
        ServerHealth {
            name: self.name.to_string(),
            address: self.address(),
            backup: self.is_backup,
            state,
            lasts: now.saturating_sub(since),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            last_failure: last_failure.map(|(at, why)| (now.saturating_sub(at), why)),
        }
    }

    /// Takes note of what became of a request.
    fn learn(&self, began: Duration, now: Instant, result: Result<StatusCode, &Failure>) {
        let now = now.saturating_duration_since(self.made);
        let is_failure = |status| self.eject().is_some_and(|it| it.statuses.has(status));
        let why = match result {
            Ok(status) if is_failure(status) => format!("it answered {}", status.as_u16()),
            Ok(_) => {
                let change = self.record().standing.answered(began, now);
                return self.log(change, "");
            }
            Err(Failure::Request(_)) => return self.record().standing.given_up(began),
            Err(failure) => {
                if matches!(failure, Failure::Connect(_)) {
                    self.beside.in_trouble(self.place);
                }
                failure.in_full()
            }
        };
        let mut record = self.record();
        let change = if let Some(rules) = self.eject() {
            record.standing.failed(began, now, rules)
        } else {
            record.standing.failed_alone(began, now, self.eject.as_ref())
        };
        record.last_failure = Some((now, why.clone()));
        drop(record);
        self.log(change, &why);
    }

    /// Takes note of a response whose content broke off.
    fn broke(&self, began: Duration, why: &str) {
        let now = self.now();
        let mut record = self.record();
        let change = self.eject().and_then(|rules| record.standing.broke(began, now, rules));
        record.last_failure = Some((now, why.to_owned()));
        drop(record);
        self.has_broken.store(true, Ordering::Relaxed);
        self.log(change, why);
    }

    /// Takes note of one that has come whole.
    fn came_whole(&self) {
        // As a rule there is nothing to forget, and no lock to take.
        if self.has_broken.load(Ordering::Relaxed) && self.has_broken.swap(false, Ordering::Relaxed)
        {
            self.record().standing.came_whole();
        }
    }

    /// Takes note of a check.
    pub(super) fn checked(&self, result: &Result<(), String>, health: &Health) {
        let Self { upstream, name: server, .. } = self;
        let now = self.now();
        let mut record = self.record();
        let changed = record.checks.add(result.is_ok(), health);
        let mut back = None;
        if let Err(why) = result {
            record.last_failure = Some((now, why.clone()));
        } else if record.checks.is_healthy() {
            // Requests that fail beside good checks are believed, as long as there are any.
            let is_over = |at| now.saturating_sub(at) > health.interval;
            if record.last_failure.as_ref().is_none_or(|(at, _)| is_over(*at)) {
                back = record.standing.found_well(now);
            }
        }
        if changed.is_some() {
            record.checked = now;
        }
        drop(record);
        self.log(back, "");
        if changed.is_none() {
            return;
        }
        self.beside.free();
        let address = self.address().map(tracing::field::display);
        match result {
            Ok(()) => info!(%upstream, %server, address, "server is healthy again"),
            Err(error) => {
                self.beside.in_trouble(self.place);
                warn!(%upstream, %server, address, error, "server is not healthy");
            }
        }
    }

    /// Says once what has changed, also to those who wait for a server.
    fn log(&self, change: Option<Change>, error: &str) {
        if change.is_some() {
            self.beside.free();
        }
        let Self { upstream, name: server, .. } = self;
        let address = self.address().map(tracing::field::display);
        match change {
            Some(Change::Ejected { failures, lasts }) => {
                let seconds = lasts.as_secs_f64();
                self.beside.in_trouble(self.place);
                warn!(%upstream, %server, address, failures, seconds, error, "server left alone");
            }
            Some(Change::Failing { failures }) => {
                warn!(%upstream, %server, address, failures, error, "server fails, but is asked");
            }
            Some(Change::Back) => info!(%upstream, %server, address, "server is back"),
            None => {}
        }
    }

    /// Sends this and waits for the response head, whatever there is to be known of the server.
    /// `preserve_host`: with the authority that is asked for, else with the server's own. `now`: it begins.
    pub(super) async fn exchange(
        &self,
        outgoing: &Outgoing<'_, '_>,
        preserve_host: bool,
        now: Instant,
    ) -> Result<(Response<Coming>, Lent), Failure> {
        let own_host = self.host.as_ref().filter(|_| !preserve_host);
        let message = Message { outgoing, server: &self.url, own_host };
        let exchange = self.connections.exchange(message, self.timeout, now).await;
        let (response, lent) = exchange?;
        // A connection with an answer that is not understood is given up with it: what follows nobody can
        // tell from what was asked for.
        Ok((understood(response, outgoing.upgrade)?, lent))
    }
}

impl Call {
    pub(super) fn begin(server: Arc<Server>, now: Instant) -> Self {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        let began = now.saturating_duration_since(server.made);
        server.record().standing.asked(began);
        Self { server, begun: now, began, is_told: false, due: None, unwanted: None }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// When it began.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// The content of the response has broken off.
    pub(super) fn broke(self, why: &str) {
        self.server.broke(self.began, why);
    }

    /// The response has come whole.
    pub(super) fn end(self) {
        self.server.came_whole();
    }

    /// Sends the request and waits for the response head, or for what it fails by; and says when that was.
    /// Dropping the future gives the request up. From `due` on that is the server's silence.
    pub(super) async fn ask(
        mut self,
        outgoing: &Outgoing<'_, '_>,
        due: Option<Instant>,
    ) -> (Result<Response<Reply>, Failure>, Instant) {
        self.due = due.map(|end| Box::new(Due { end, progress: outgoing.content.progress() }));
        let server = &*self.server;
        let result = server.exchange(outgoing, server.preserve_host, self.begun()).await;
        let now = Instant::now();
        server.learn(self.began, now, result.as_ref().map(|(response, _)| response.status()));
        self.is_told = true;
        (result.map(|(response, lent)| self.reply(outgoing, response, lent, now)), now)
    }

    /// The response, which has this request until its end.
    fn reply(
        mut self,
        outgoing: &Outgoing<'_, '_>,
        response: Response<Coming>,
        lent: Lent,
        now: Instant,
    ) -> Response<Reply> {
        let idle_timeout = self.server.idle_timeout;
        self.unwanted = outgoing.content.is_held().then(|| Box::new(outgoing.content.clone()));
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            response.map(|_| Reply::of_switch(lent, self))
        } else {
            response.map(|incoming| Reply::new(incoming, lent, idle_timeout, self, now))
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // It would keep the connection for ever.
        self.unwanted.iter().for_each(|content| content.give_up());
        if !self.is_told {
            let now = Instant::now();
            if self.due.as_ref().is_some_and(|due| due.is_over(now)) {
                self.server.learn(self.began, now, Err(&Failure::Timeout));
            } else {
                self.server.record().standing.given_up(self.began);
            }
        }
        self.server.in_flight.fetch_sub(1, Ordering::Relaxed);
        // Whoever waits finds all of that.
        if self.server.max_requests.is_some() {
            self.server.beside.free();
        }
    }
}

/// A server's URL as logs have it.
pub(super) fn name(url: &Uri) -> Box<str> {
    let text = url.to_string();
    text.strip_suffix('/').unwrap_or(&text).into()
}

/// A number for some octets, the same in every gateway.
pub(super) fn hash(octets: &[u8]) -> u64 {
    let hash = blake3::hash(octets);
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 octets"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamServer;
    use crate::upstream::tls;

    /// A server that is left alone for no time after each failure.
    fn server(beside: &Arc<Beside>) -> Arc<Server> {
        let eject = Eject {
            failures: 1,
            period: Duration::ZERO,
            at_most: Duration::ZERO,
            ..Eject::default()
        };
        let config = config::Upstream {
            eject: Some(eject),
            ..config::Upstream::new("a".to_owned(), Vec::new())
        };
        let tls = tls::client(&config).unwrap();
        let server = UpstreamServer::new(Uri::from_static("http://127.0.0.1:1"));
        Arc::new(Server::new(&server, 0, Whereto::default(), &config, &tls, beside))
    }

    #[test]
    fn a_trial_that_fails_where_there_is_no_other_is_over() {
        let beside = Arc::new(Beside::new(2));
        let server = server(&beside);
        let fail = || {
            let mut call = Call::begin(Arc::clone(&server), Instant::now());
            server.learn(call.began, Instant::now(), Err(&Failure::Timeout));
            call.is_told = true;
        };
        fail();
        assert_eq!(server.told().state, ServerState::Ejected);
        beside.are(1);
        fail();
        assert_eq!(server.told().state, ServerState::Trial);
        beside.are(2);
        assert!(server.candidate(Instant::now()).is_usable, "it can be tried again");
    }

    #[test]
    fn a_request_that_ends_unanswered_is_a_failure_once_it_was_due() {
        let beside = Arc::new(Beside::new(2));
        for (due, expected) in [
            (None, ServerState::Up),
            (Some(Duration::from_hours(1)), ServerState::Up),
            (Some(Duration::ZERO), ServerState::Ejected),
        ] {
            let server = server(&beside);
            let now = Instant::now();
            let mut call = Call::begin(Arc::clone(&server), now);
            call.due = due.map(|due| Box::new(Due { end: now + due, progress: None }));
            drop(call);
            assert_eq!(server.told().state, expected, "{due:?}");
        }
    }
}
