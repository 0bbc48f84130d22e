//! The listener for clients: connections, their limits, and the graceful drain.
//!
//! One thread accepts and hands each connection to the worker that has the fewest. A worker is a
//! thread with a runtime of its own (measured: a runtime of one thread answers a hit in a seventh
//! less processor time than a shared one of two), so a connection stays on one processor.
//! `door` says what is spoken on a listener, `tls` with which certificates, `connection` is what happens
//! on one, `http2` on one of HTTP/2, `shortcut` answers a request of HTTP/1.1 without hyper, if that can be, `patience` its limit on the time for
//! a request head, `stall` that for taking what is sent, `guarded` reads along on it: `strict` says what ends
//! one of HTTP/1, `flood` one of HTTP/2, `switch` where HTTP may end on one. `proxy` tells whose a connection is
//! behind a proxy.

mod connection;
mod door;
mod flood;
mod guarded;
mod http2;
mod idle;
mod parting;
mod patience;
mod proxy;
mod pulse;
mod shortcut;
mod strict;
mod switch;
mod tls;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::warn;

use crate::config;
use crate::gateway::Current;
use crate::stats::Stats;

pub use self::door::Doors;
pub use self::pulse::Pulse;
pub use self::tls::{Secured, Unusable};

use self::door::Door;

/// So long before the drain is over, tunnels end: both sides of one are to hear of it.
const FAREWELL: Duration = Duration::from_secs(1);

/// A listener that is bound.
pub struct Listening {
    /// What it listens by.
    pub listener: TcpListener,
    /// What handshakes are answered with; none: cleartext is spoken.
    pub secured: Option<Secured>,
}

/// The running listeners.
pub struct Server {
    addresses: Vec<SocketAddr>,
    doors: Doors,
    leave: CancellationToken,
    stop: CancellationToken,
    workers: Vec<JoinHandle<Drained>>,
    pulse: Pulse,
    accepting: TaskTracker,
}

/// Whether everything that ran came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request was answered.
    All,
    /// The time was over; what still ran was broken off.
    Cut,
}

/// One worker, as the accepting thread sees it.
struct Worker {
    connections: mpsc::UnboundedSender<Connection>,
    open: Arc<AtomicUsize>,
}

/// What those who accept need.
#[derive(Clone)]
struct Accepting {
    workers: Arc<[Worker]>,
    stats: Arc<Stats>,
    limit: Arc<Semaphore>,
    /// Nothing is accepted before this.
    opens: CancellationToken,
    /// Nothing is accepted any more.
    leave: CancellationToken,
}

/// A connection on its way to a worker.
struct Connection {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    door: Arc<Door>,
    /// Counts against the worker's `open` until it closes.
    open: Open,
}

struct Open {
    count: Arc<AtomicUsize>,
    stats: Arc<Stats>,
    /// None of one that was accepted when no place was left, and then no more were.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.stats.connections.ended.count();
    }
}

/// What every worker needs.
#[derive(Clone)]
struct Setting {
    current: Arc<Current>,
    /// No connection comes any more, and clients of HTTP/2 are told so.
    leave: CancellationToken,
    /// Each connection ends with what runs on it.
    stop: CancellationToken,
    /// What has no end of its own is to end.
    closing: CancellationToken,
    /// Those of all workers.
    connections: TaskTracker,
    /// The gateways' own tasks: fetches that outlive the requests that began them.
    tasks: TaskTracker,
    header_timeout: Duration,
    send_timeout: Duration,
    max_streams: u32,
    max_resets: u64,
    drain: Duration,
}

impl Server {
    /// Answers by the gateway of the moment, once it `opens`, until [`Server::drain`]. `tasks` are the
    /// gateways' own, which the drain waits for too.
    ///
    /// # Errors
    /// A listener has no address, or a thread cannot be started.
    pub fn start(
        config: &config::Server,
        listening: Vec<Listening>,
        current: Arc<Current>,
        tasks: TaskTracker,
        opens: CancellationToken,
    ) -> io::Result<Self> {
        let addresses = listening.iter().map(|it| it.listener.local_addr());
        let addresses = addresses.collect::<io::Result<Vec<_>>>()?;
        let (leave, stop) = (CancellationToken::new(), CancellationToken::new());
        let stats = Arc::clone(current.gateway().stats());
        let setting = Setting {
            current,
            leave: leave.clone(),
            stop: stop.clone(),
            closing: CancellationToken::new(),
            connections: TaskTracker::new(),
            tasks,
            header_timeout: config.header_timeout,
            send_timeout: config.send_timeout,
            max_streams: config.max_streams,
            max_resets: config.max_resets,
            drain: config.drain,
        };
        let count = workers(config);
        let mut workers = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        let mut handles = Vec::with_capacity(count);
        for number in 0..count {
            let (connections, incoming) = mpsc::unbounded_channel();
            workers.push(Worker { connections, open: Arc::default() });
            let more = setting.connections.token();
            // Each connection asks them whenever it is woken, and workers that ask the same ones wait
            // for one another.
            let (leave, stop) = (leave.child_token(), stop.child_token());
            let setting = Setting { leave, stop, ..setting.clone() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let thread =
                std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                    let drained = runtime.block_on(work(incoming, more, setting));
                    // To drop it would wait for look-ups of names, however long they hang.
                    runtime.shutdown_background();
                    drained
                })?;
            threads.push(thread);
        }
        let limit = Arc::new(Semaphore::new(config.max_connections));
        let accepting = TaskTracker::new();
        let with = Accepting { workers: workers.into(), stats, limit, opens, leave: leave.clone() };
        let mut doors = Vec::with_capacity(listening.len());
        for (own, Listening { listener, secured }) in config.listeners().zip(listening) {
            let door = Arc::new(Door::new(own, secured));
            doors.push(Arc::clone(&door));
            accepting.spawn(accept(listener, door, with.clone()));
        }
        accepting.close();
        let (doors, workers, pulse) = (Doors(doors.into()), threads, Pulse(handles));
        Ok(Self { addresses, doors, leave, stop, workers, pulse, accepting })
    }

    /// Where clients connect to: the first listener.
    pub fn address(&self) -> SocketAddr {
        let nowhere = || SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        self.addresses.first().copied().unwrap_or_else(nowhere)
    }

    /// The addresses of all listeners, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Of all listeners.
    pub fn doors(&self) -> Doors {
        self.doors.clone()
    }

    /// Whether its workers get on.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Cancelled when no more connections are taken.
    pub fn leaving(&self) -> CancellationToken {
        self.leave.clone()
    }

    /// Takes no more connections. Those that were accepted are served on, and clients of HTTP/2 are told
    /// to make another.
    pub async fn leave(&self) {
        self.leave.cancel();
        self.accepting.wait().await;
    }

    /// Takes no more connections, lets running requests end within the configured time, and waits
    /// for it. Where others take the connections by now, those that stay idle are not closed for so
    /// long as `ease`: each may just have been used again.
    pub async fn drain(self, ease: Duration) -> Drained {
        self.leave.cancel();
        if ease.is_zero() {
            self.stop.cancel();
        }
        self.accepting.wait().await;
        let workers = self.workers;
        let mut joined = tokio::task::spawn_blocking(move || {
            let ends = workers.into_iter().map(|worker| worker.join().unwrap_or(Drained::Cut));
            ends.fold(Drained::All, |all, end| if end == Drained::Cut { end } else { all })
        });
        let ended = if let Ok(ended) = tokio::time::timeout(ease, &mut joined).await {
            ended
        } else {
            self.stop.cancel();
            joined.await
        };
        ended.unwrap_or(Drained::Cut)
    }
}

/// How many threads serve connections.
pub fn workers(config: &config::Server) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}

/// Accepts until told to leave; each connection goes to the worker with the fewest.
async fn accept(listener: TcpListener, door: Arc<Door>, with: Accepting) {
    let Accepting { workers, stats, limit, opens, leave } = with;
    tokio::select! {
        () = opens.cancelled() => {}
        () = leave.cancelled() => return,
    }
    // It is said once, until a connection is accepted again.
    let mut has_failed = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = leave.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream.into_std(), peer),
            Err(error) => {
                // Out of descriptors, most likely: they come back as connections close.
                if !std::mem::replace(&mut has_failed, true) {
                    warn!(%error, "connection not accepted");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        has_failed = false;
        let Ok(stream) = stream else { continue };
        // Not before one is there: what waits at one listener must not keep a place from another.
        let permit = tokio::select! {
            permit = Arc::clone(&limit).acquire_owned() => permit.ok(),
            // Nobody else can accept it.
            () = leave.cancelled() => None,
        };
        let Some(worker) = workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed))
        else {
            return;
        };
        worker.open.fetch_add(1, Ordering::Relaxed);
        let door = Arc::clone(&door);
        stats.connections.accepted.count();
        let (count, stats) = (Arc::clone(&worker.open), Arc::clone(&stats));
        let open = Open { count, stats, _permit: permit };
        if worker.connections.send(Connection { stream, peer, door, open }).is_err() {
            return;
        }
    }
}

/// A worker's life: serve what comes, then let it end, and what the others serve.
///
/// The connections to upstreams are shared, and each lives on the worker that has opened it: whoever left
/// before the others would break off what they wait for. `more` says that connections may still come.
async fn work(
    mut incoming: mpsc::UnboundedReceiver<Connection>,
    more: TaskTrackerToken,
    setting: Setting,
) -> Drained {
    // The sender is dropped when the accepting task has stopped.
    while let Some(connection) = incoming.recv().await {
        setting.connections.spawn(connection::serve(connection, setting.clone()));
    }
    drop(more);
    setting.connections.close();
    setting.tasks.close();
    let everything = async {
        setting.connections.wait().await;
        setting.tasks.wait().await;
    };
    let tunnels = setting.drain.saturating_sub(FAREWELL.min(setting.drain / 4));
    let everything = async {
        tokio::pin!(everything);
        if tokio::time::timeout(tunnels, &mut everything).await.is_err() {
            setting.closing.cancel();
            everything.await;
        }
    };
    match tokio::time::timeout(setting.drain, everything).await {
        Ok(()) => Drained::All,
        Err(_) => Drained::Cut,
    }
}
