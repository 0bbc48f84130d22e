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
use std::time::Duration;

use tokio::net::TcpSocket;

/// How long anything awaited may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

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

/// The URL of a server that is not there. While the socket is kept, nobody else can be.
pub(crate) fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}
