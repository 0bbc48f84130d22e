//! The listener for clients: connections, their limits, and the graceful drain.
//!
//! One thread accepts and hands each connection to the worker that has the fewest. A worker is a
//! thread with a runtime of its own (measured: a runtime of one thread answers a hit in a seventh
//! less processor time than a shared one of two), so a connection stays on one processor. HTTP/2
//! with prior knowledge (RFC 9113 §3.3) is told from HTTP/1.1 by its first octets.

mod patience;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use http::Method;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::body::Body;
use crate::config;
use crate::gateway::{Current, Peer};
use crate::interim::Interims;

use self::patience::Patience;

/// What a client with prior knowledge of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request head may have this many octets, in HTTP/1.1 with its line.
const MAX_HEAD: usize = 64 * 1024;

/// An HTTP/2 connection may have this many requests at once.
const MAX_STREAMS: u32 = 128;

/// The running listener.
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    workers: Vec<JoinHandle<Drained>>,
    accepting: tokio::task::JoinHandle<()>,
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

/// A connection on its way to a worker.
struct Connection {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    /// Counts against the worker's `open` until it closes.
    open: Open,
}

struct Open {
    count: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What every worker needs.
#[derive(Clone)]
struct Setting {
    current: Arc<Current>,
    stop: CancellationToken,
    /// The gateways' own tasks: fetches that outlive the requests that began them.
    tasks: TaskTracker,
    header_timeout: Duration,
    drain: Duration,
}

impl Server {
    /// Answers by the gateway of the moment until [`Server::drain`]. `tasks` are the gateways' own,
    /// which the drain waits for too.
    ///
    /// # Errors
    /// The listener has no address, or a thread cannot be started.
    pub fn start(
        config: &config::Server,
        listener: TcpListener,
        current: Arc<Current>,
        tasks: TaskTracker,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let setting = Setting {
            current,
            stop: stop.clone(),
            tasks,
            header_timeout: config.header_timeout,
            drain: config.drain,
        };
        let count = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        };
        let mut workers = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let (connections, incoming) = mpsc::unbounded_channel();
            workers.push(Worker { connections, open: Arc::default() });
            let setting = setting.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || runtime.block_on(work(incoming, setting)))?;
            threads.push(thread);
        }
        let limit = Arc::new(Semaphore::new(config.max_connections));
        let accepting = TaskTracker::new().spawn(accept(listener, workers, limit, stop.clone()));
        Ok(Self { address, stop, workers: threads, accepting })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets running requests end within the configured time, and waits
    /// for it.
    pub async fn drain(self) -> Drained {
        self.stop.cancel();
        // It ends at the token; its result holds nothing.
        drop(self.accepting.await);
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(move || {
            let ends = workers.into_iter().map(|worker| worker.join().unwrap_or(Drained::Cut));
            ends.fold(Drained::All, |all, end| if end == Drained::Cut { end } else { all })
        });
        joined.await.unwrap_or(Drained::Cut)
    }
}

/// Accepts until told to stop; each connection goes to the worker with the fewest.
async fn accept(
    listener: TcpListener,
    workers: Vec<Worker>,
    limit: Arc<Semaphore>,
    stop: CancellationToken,
) {
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&limit).acquire_owned() => permit,
            () = stop.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream.into_std(), peer),
            Err(error) => {
                // Out of descriptors, most likely: they come back as connections close.
                warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(stream) = stream else { continue };
        let Some(worker) = workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed))
        else {
            return;
        };
        worker.open.fetch_add(1, Ordering::Relaxed);
        let open = Open { count: Arc::clone(&worker.open), _permit: permit };
        if worker.connections.send(Connection { stream, peer, open }).is_err() {
            return;
        }
    }
}

/// A worker's life: serve what comes, then let it end.
async fn work(mut incoming: mpsc::UnboundedReceiver<Connection>, setting: Setting) -> Drained {
    let connections = TaskTracker::new();
    // The sender is dropped when the accepting task has stopped.
    while let Some(connection) = incoming.recv().await {
        connections.spawn(serve(connection, setting.clone()));
    }
    connections.close();
    setting.tasks.close();
    let everything = async {
        connections.wait().await;
        setting.tasks.wait().await;
    };
    match tokio::time::timeout(setting.drain, everything).await {
        Ok(()) => Drained::All,
        Err(_) => Drained::Cut,
    }
}

async fn serve(connection: Connection, setting: Setting) {
    let Connection { stream, peer, open } = connection;
    let served = async {
        let stream = TcpStream::from_std(stream)?;
        // Responses are written whole; waiting for more to send only adds delay.
        stream.set_nodelay(true)?;
        let first = tokio::time::timeout(setting.header_timeout, has_preface(&stream));
        let http2 = tokio::select! {
            first = first => first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
            () = setting.stop.cancelled() => return Ok(()),
        };
        if http2 {
            serve_http2(stream, peer, &setting).await;
        } else {
            serve_http1(stream, peer, &setting).await;
        }
        io::Result::Ok(())
    };
    if let Err(error) = served.await {
        debug!(%error, %peer, "connection ended before its first request");
    }
    drop(open);
}

/// Looks at the first octets without taking them.
async fn has_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        let seen = first.get(..count).unwrap_or_default();
        if count == 0 || !PREFACE.starts_with(seen) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // The rest of the preface is on its way; a peek is ready as long as anything is there.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn serve_http1(stream: TcpStream, peer: SocketAddr, setting: &Setting) {
    let interims = Interims::default();
    let io = TokioIo::new(interims.over(stream));
    let service = service(setting, peer, Some(interims));
    let connection = http1::Builder::new()
        .timer(Patience::of(setting.header_timeout))
        .header_read_timeout(setting.header_timeout)
        .max_buf_size(MAX_HEAD)
        // The buffer may overshoot by what comes in one read.
        .max_header_size(MAX_HEAD)
        // `max_headers` stays at hyper's 100, for which it has room on its stack. For any other
        // number it allocates twice 4 KiB for each request: up to a ninth of a hit.
        .serve_connection(io, service);
    drive(connection, peer, &setting.stop).await;
}

async fn serve_http2(stream: TcpStream, peer: SocketAddr, setting: &Setting) {
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(setting.header_timeout)
        .serve_connection(TokioIo::new(stream), service(setting, peer, None));
    drive(connection, peer, &setting.stop).await;
}

/// Serves a connection to its end; once the drain begins, to the end of what runs on it.
async fn drive(
    connection: impl GracefulConnection<Error = hyper::Error>,
    peer: SocketAddr,
    stop: &CancellationToken,
) {
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        // First, so that an answer which comes at the same time says `Connection: close`.
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    // It is the client's doing, or the price of an upstream that broke off.
    if let Err(error) = ended {
        debug!(%error, %peer, "connection ended early");
    }
}

fn service(
    setting: &Setting,
    peer: SocketAddr,
    interims: Option<Interims>,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = hyper::Response<Body>,
    Error = Infallible,
    Future: Send,
> + use<> {
    let current = Arc::clone(&setting.current);
    let peer = Peer { address: peer.ip(), scheme: "http", interims };
    service_fn(move |request| {
        let is_head = request.method() == Method::HEAD;
        let answer = current.answer(request, peer.clone());
        // Nothing comes before an answer that is at hand.
        let interims = if answer.is_at_hand() { None } else { peer.interims.clone() };
        async move {
            let response = match interims {
                Some(interims) => interims.before(answer).await,
                None => answer.await,
            };
            // Over HTTP/2 hyper would send what it is given, and the client would reset the stream.
            Ok(if is_head { response.map(Body::without_text) } else { response })
        }
    })
}
