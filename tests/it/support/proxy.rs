//! A way to a server that can be in trouble for one gateway while others have none.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::redis::Redis;

/// What the way is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections break, new ones too.
    Cut,
    /// Each answer comes so much later.
    Slow(Duration),
    /// Connections break after so many octets of answers, in the middle of one.
    Torn(usize),
    /// Nothing comes any more, and connections stay.
    Dry,
}

/// Where a server listens.
#[derive(Clone)]
enum Server {
    Socket(PathBuf),
    Port(u16),
}

/// Listens on a port of its own, and passes everything on to a server.
pub(crate) struct Proxy {
    port: u16,
    way: watch::Sender<Way>,
    calls: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// An open way.
    pub(crate) async fn before(redis: &Redis) -> Self {
        Self::to(Server::Socket(redis.socket())).await
    }

    /// An open way to what listens on this port.
    pub(crate) async fn before_port(port: u16) -> Self {
        Self::to(Server::Port(port)).await
    }

    async fn to(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (way, watched) = watch::channel(Way::Open);
        let calls = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, server, watched, Arc::clone(&calls)));
        Self { port, way, calls, _serving: serving }
    }

    /// For `redis` in `[cache.l2]`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections there have been, those that were broken at once among them.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Breaks all connections, and each new one at once.
    pub(crate) fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    /// Breaks each connection after so many octets of answers from now on.
    pub(crate) fn tear(&self, octets: usize) {
        self.way.send_replace(Way::Torn(octets));
    }

    /// Lets nothing through any more on connections that there are, and that come until it is mended.
    pub(crate) fn dry(&self) {
        self.way.send_replace(Way::Dry);
    }

    /// Lets each answer wait so long from now on.
    pub(crate) fn slow(&self, by: Duration) {
        self.way.send_replace(Way::Slow(by));
    }

    /// As it was in the beginning.
    pub(crate) fn mend(&self) {
        self.way.send_replace(Way::Open);
    }
}

async fn serve(
    listener: TcpListener,
    server: Server,
    way: watch::Receiver<Way>,
    calls: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        calls.fetch_add(1, Ordering::Relaxed);
        let (server, way) = (server.clone(), way.clone());
        connections.spawn(async move {
            let mut cut = way.clone();
            tokio::select! {
                _ = cut.wait_for(|way| *way == Way::Cut) => {}
                () = connect(client, server, way) => {}
            }
        });
    }
}

async fn connect(client: TcpStream, server: Server, way: watch::Receiver<Way>) {
    match server {
        Server::Socket(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                pass_both(client, server, way).await;
            }
        }
        Server::Port(port) => {
            if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                pass_both(client, server, way).await;
            }
        }
    }
}

async fn pass_both(
    client: TcpStream,
    server: impl AsyncRead + AsyncWrite,
    way: watch::Receiver<Way>,
) {
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let at_once = watch::channel(Way::Open).1;
    // Whichever ends first ends both.
    tokio::select! {
        () = pass(from_client, to_server, at_once) => {}
        () = pass(from_server, to_client, way) => {}
    }
}

/// Passes octets on, each as late as the way was slow when it came.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: watch::Receiver<Way>,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut octets = vec![0; 16 << 10];
        let (mut torn, mut is_torn, mut is_dry) = (0, false, false);
        while let Ok(mut count @ 1..) = from.read(&mut octets).await {
            let late = match *way.borrow() {
                Way::Slow(by) => by,
                Way::Open | Way::Cut => Duration::ZERO,
                Way::Torn(most) => {
                    let left = most.saturating_sub(torn);
                    is_torn = count >= left;
                    count = count.min(left);
                    torn += count;
                    Duration::ZERO
                }
                Way::Dry => {
                    is_dry = true;
                    Duration::ZERO
                }
            };
            if is_dry {
                // For good: what is lost makes no sense of what comes later.
                continue;
            }
            let piece = octets[..count].to_vec();
            if sender.send((Instant::now() + late, piece)).is_err() || is_torn {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
