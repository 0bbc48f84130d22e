//! The stage: a scripted origin, a gateway in this process, and clients; real servers beside them.

#![cfg_attr(
    not(feature = "mongodb"),
    expect(dead_code, reason = "some is for MongoDB's tests alone")
)]

pub mod client;
pub mod frames;
pub mod gateway;
pub mod load;
#[cfg(feature = "mongodb")]
pub mod mongodb;
pub mod names;
pub mod origin;
pub mod pki;
pub mod plugin;
pub mod program;
pub mod proxy;
pub mod raw;
pub mod redis;
#[cfg(feature = "mongodb")]
pub mod scripted;
pub mod server;
pub mod shell;
pub mod streams;
pub mod tiers;
pub mod wire;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpSocket;

/// How long anything awaited may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Free ports are looked for from here on.
const FIRST: u32 = 11_000;
/// Among so many. Nodes of a cluster talk to each other at ten thousand more; Linux gives ports from 32,768.
const COUNT: u32 = 10_000;

/// Waits until `holds` does, looking again every few milliseconds.
///
/// # Panics
/// If it does not within [`PATIENCE`]; `what` says what was awaited.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "never happened: {what}");
}

/// Seconds, in short.
pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The path of something that `tests/run` installs for the tests.
pub fn tool(path: &str) -> PathBuf {
    let beside_tmp = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools");
    let tools = std::env::var_os("LARDER_TEST_TOOLS").map_or_else(beside_tmp, PathBuf::from);
    let tool = tools.join(path);
    assert!(tool.exists(), "`{}` is missing: run tests/run", tool.display());
    tool
}

/// A port of this machine that nobody has. It is below those that the system gives by itself, so that nobody else in
/// these tests is given it before it is used, nor while a server on it starts again.
pub(crate) fn free_port() -> u16 {
    /// How far this process has come.
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let candidates = (0..COUNT).map(|_| {
        let more = TRIED.fetch_add(1, Ordering::Relaxed);
        FIRST + (std::process::id() * 64 + more) % COUNT
    });
    let mut ports = candidates.filter_map(|port| u16::try_from(port).ok());
    // Nobody listens there, nor do we: a program that another test starts at this moment has all that is open, until it
    // is another program, and what listens would keep the port.
    let is_free = |port: &u16| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], *port).into()).is_ok()
    };
    ports.find(is_free).expect("one of many ports is free")
}

/// The URL of a server that is not there. While the socket is kept, nobody else can be.
pub(crate) fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}
