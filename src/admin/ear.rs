//! The admin listener's socket: since when it accepts connections, until when, how many, and how long one
//! may ask for nothing.
//!
//! Whoever reaches it may connect, without the token. The descriptors are those of the clients' listener, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::stall::Patient;

/// So many connections there may be at once, those of 256 viewers among them. Further ones wait in the
/// kernel's queue.
const MOST_CONNECTIONS: usize = 1024;

/// So long a client may take nothing of what is sent to it.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// For a whole request head. hyper waits for one from the beginning of a connection on, and then from the
/// end of each answer: one that stays idle ends after as long. While a request is answered, no time runs.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts between two moments. Connections are served on after the second.
pub(super) struct Ear {
    listener: TcpListener,
    opens: CancellationToken,
    leave: CancellationToken,
    /// Each connection has one until it is closed.
    places: Arc<Semaphore>,
    send_timeout: Duration,
    /// Cancels its token when the socket is closed: fields are dropped in their order.
    _has_left: DropGuard,
}

impl Ear {
    /// Accepts once it `opens`, and until it is to `leave`. Once the socket is closed, it `has_left`.
    pub(super) fn new(
        listener: TcpListener,
        opens: CancellationToken,
        leave: CancellationToken,
        has_left: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        Self {
            listener,
            opens,
            leave,
            places,
            send_timeout: SEND_TIMEOUT,
            _has_left: has_left.drop_guard(),
        }
    }

    /// Serves who connects, in HTTP/1.1. Once it is to `stop`, which has it leave, each connection ends
    /// with what runs on it.
    pub(super) async fn serve(self, router: Router, stop: CancellationToken) {
        let (connections, tasks) = (GracefulShutdown::new(), TaskTracker::new());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        while let Some(accepted) = self.leave.run_until_cancelled(self.accept()).await {
            let (stream, peer, place) = accepted;
            let service = TowerToHyperService::new(router.clone());
            // One whose client takes nothing would keep its place.
            let stream = TokioIo::new(Patient::new(stream, self.send_timeout));
            let connection = http.serve_connection(stream, service);
            let connection = connections.watch(connection);
            tasks.spawn(async move {
                // It is the operator's doing, or that of somebody who asked for nothing.
                if let Err(error) = connection.await {
                    debug!(%error, %peer, "connection to the admin listener ended early");
                }
                // Not before the stream is closed.
                drop(place);
            });
        }
        drop(self);
        stop.cancelled().await;
        connections.shutdown().await;
    }

    /// The next connection, with its place.
    async fn accept(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        self.opens.cancelled().await;
        // Before one is accepted, as one that waits for a place is to need no descriptor.
        let place = Arc::clone(&self.places).acquire_owned().await.expect("nobody closes them");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, place),
                Err(error) => {
                    // Out of descriptors, most likely: they come back as connections close.
                    warn!(%error, "connection to the admin listener not accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// With so many places, and where it is.
    async fn ear(places: usize, stop: &CancellationToken) -> (Ear, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let opens = CancellationToken::new();
        opens.cancel();
        let mut ear = Ear::new(listener, opens, stop.child_token(), CancellationToken::new());
        ear.places = Arc::new(Semaphore::new(places));
        (ear, address)
    }

    #[tokio::test]
    async fn who_takes_no_answer_loses_its_place() {
        let stop = CancellationToken::new();
        let (mut ear, address) = ear(1, &stop).await;
        ear.send_timeout = Duration::from_millis(300);
        let router = Router::new().route("/", get(|| async { vec![b'a'; 64 << 10] }));
        TaskTracker::new().spawn(ear.serve(router, stop.clone()));

        // More than the kernel holds for it.
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(&REQUEST.repeat(1000)).await.unwrap();
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(REQUEST).await.unwrap();
        let mut answer = [0; 12];
        let patience = Duration::from_secs(10);
        timeout(patience, other.read_exact(&mut answer)).await.expect("no place").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        stop.cancel();
    }

    #[tokio::test]
    async fn further_connections_wait_until_one_closes() {
        let stop = CancellationToken::new();
        let (ear, address) = ear(2, &stop).await;
        let router = Router::new().route("/", get(|| async { "a" }));
        let serving = TaskTracker::new().spawn(ear.serve(router, stop.clone()));

        let first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(REQUEST).await.unwrap();
        let mut answer = [0; 12];
        let waiting = timeout(Duration::from_millis(200), third.read_exact(&mut answer)).await;
        assert!(waiting.is_err(), "there was a third place");
        drop(first);
        let patience = Duration::from_secs(5);
        timeout(patience, third.read_exact(&mut answer)).await.expect("no place").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");

        // Nobody asks for anything now.
        stop.cancel();
        timeout(patience, serving).await.expect("it does not end").unwrap();
    }
}
