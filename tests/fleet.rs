//! The invalidation log under fault, with real processes: three gateways and one Redis, to all of which
//! anything happens that a seed makes up. No response may be older than what its gateway had applied
//! when the request was sent; nor, once the bound is over, than any purge that was acknowledged.
//!
//! `LARDER_SEED` is the seed, and `LARDER_STEPS` how many steps there are. `tests/run --long` has many of
//! both. In one process, with every interleaving, `src/store/log/tests/model.rs` does the same.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic, and tells its seed"
)]
#![expect(unreachable_pub, reason = "the stage is shared with `tests/it`")]
#![cfg_attr(feature = "mongodb", expect(dead_code, reason = "the stage is shared with `tests/it`"))]
#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

#[path = "fleet/chance.rs"]
mod chance;
#[path = "fleet/fault.rs"]
mod fault;
#[path = "fleet/origin.rs"]
mod origin;
#[path = "fleet/play.rs"]
mod play;
#[path = "fleet/stage.rs"]
mod stage;
#[path = "it/support/mod.rs"]
mod support;
#[path = "fleet/truth.rs"]
mod truth;

use self::play::Play;

/// Some half a minute, with two processors.
const STEPS: u64 = 5000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var_os(variable)?;
    Some(text.to_str().and_then(|text| text.parse().ok()).expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_that_an_applied_invalidation_covers() {
    let steps = number("LARDER_STEPS").unwrap_or(STEPS);
    let mut play = Play::begin(number("LARDER_SEED").unwrap_or(1)).await;
    play.go_on(steps).await;
    play.end().await;
}
