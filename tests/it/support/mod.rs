//! The stage: a scripted origin, a gateway in this process, and clients; real servers beside them.

pub mod client;
pub mod gateway;
pub mod load;
pub mod origin;
pub mod plugin;
pub mod program;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod server;
pub mod tiers;
pub mod wire;

use std::time::Duration;

/// How long anything awaited may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

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
