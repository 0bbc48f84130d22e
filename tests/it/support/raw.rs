//! A server that does to its connections what an HTTP library would not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is done to a connection, step by step. After the last one it is closed.
#[derive(Clone)]
pub(crate) enum Step {
    /// Reads a request head. Its content is left unread.
    Head,
    /// Sends these octets.
    Send(&'static str),
    /// Waits for the test, see [`RawOrigin::release`].
    Wait,
    /// Breaks the connection off, so that the other end gets an error instead of an end.
    Reset,
    /// Keeps it open for ever.
    Stay,
}

/// A server on a free port that takes the same steps on every connection.
pub(crate) struct RawOrigin {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    gate: watch::Sender<bool>,
    _serving: JoinSet<()>,
}

impl RawOrigin {
    pub(crate) async fn start(steps: &[Step]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let gate = watch::Sender::new(false);
        let mut serving = JoinSet::new();
        let (seen, steps, release) = (Arc::clone(&heads), steps.to_vec(), gate.subscribe());
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        serving.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                open.spawn(play(stream, steps.clone(), Arc::clone(&seen), release.clone()));
            }
        });
        Self { address, heads, connections, gate, _serving: serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The request heads that it has read.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Lets every connection go on that waits, and those that will.
    pub(crate) fn release(&self) {
        self.gate.send_replace(true);
    }
}

async fn play(
    mut stream: TcpStream,
    steps: Vec<Step>,
    heads: Arc<Mutex<Vec<String>>>,
    mut gate: watch::Receiver<bool>,
) {
    for step in steps {
        match step {
            Step::Head => match head(&mut stream).await {
                Some(head) => heads.lock().unwrap().push(head),
                None => return,
            },
            Step::Send(octets) => {
                let _gone = stream.write_all(octets.as_bytes()).await;
            }
            Step::Wait => {
                let _released = gate.wait_for(|released| *released).await;
            }
            Step::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Step::Stay => std::future::pending().await,
        }
    }
}

/// A request head, or nothing if the connection ends before.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
