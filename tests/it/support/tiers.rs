//! Gateways with one tier each, for what must hold in every one of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::gateway::{Gateway, Setup};
use super::origin::{Origin, ok};
use super::redis::Redis;

/// `[cache.l1]` for a gateway that has L2 alone.
pub const NO_L1: &str = "[cache.l1]\ncapacity = \"0\"\n";

/// The server and the disk that L2 lies on. They go with this.
pub struct Tiers {
    redis: Redis,
    disk: TempDir,
    folders: AtomicUsize,
}

impl Tiers {
    pub fn start() -> Self {
        let disk = tempfile::tempdir().unwrap();
        Self { redis: Redis::start(), disk, folders: AtomicUsize::new(0) }
    }

    /// One with L1 alone, and those of [`Tiers::in_l2`].
    pub async fn gateways(&self, origin: &Origin) -> [Gateway; 3] {
        let [redis, disk] = self.in_l2(origin).await;
        [Gateway::before(origin).await, redis, disk]
    }

    /// One with Redis alone, and one with a folder alone. All share the server; a folder is one's own.
    pub async fn in_l2(&self, origin: &Origin) -> [Gateway; 2] {
        let [redis, disk] = self.setups(|| Gateway::setup(origin).cache(NO_L1), "");
        [redis.start().await.in_step().await, disk.start().await.in_step().await]
    }

    /// With either L2, and more lines for its table.
    pub fn setups(&self, setup: impl Fn() -> Setup, lines: &str) -> [Setup; 2] {
        let folder = self.folders.fetch_add(1, Ordering::Relaxed).to_string();
        let redis = setup().l2(&self.redis.url(), &format!("timeout = \"10s\"\n{lines}"));
        [redis, setup().disk(&self.disk.path().join(folder), lines)]
    }
}

/// Two gateways of a fleet share both variants of `/v`, each stored by the first.
pub async fn share_variants(origin: &Origin, first: &Gateway, second: &Gateway) {
    for (language, stored) in [("de", "fwd=uri-miss; stored"), ("en", "fwd=vary-miss; stored")] {
        let reply = ok(language).max_age(600).field("vary", "accept-language");
        origin.on("/v").with("accept-language", language).reply(reply);
        let ask =
            |gateway: &Gateway| gateway.ask("GET", "/v").field("accept-language", language).send();
        ask(first).await.body(language).status(stored);
        first.settled().await;
        ask(second).await.body(language).status("hit");
    }
}
