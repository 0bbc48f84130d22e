//! Clients that go on asking while something fails. Any answer but the one that is due is a failed test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::gateway::Gateway;
use super::origin::{Origin, ok, status};
use super::until;

/// Ends when it is dropped.
#[derive(Default)]
pub struct Load {
    clients: JoinSet<()>,
    answers: Arc<AtomicU64>,
}

impl Load {
    /// One more client, which counts its answers.
    pub fn add<C>(&mut self, client: impl FnOnce(Arc<AtomicU64>) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        self.clients.spawn(client(Arc::clone(&self.answers)));
    }

    /// So many clients at each of the gateways, each with a target of its own, to which it writes a new
    /// version now and then.
    pub fn start(origin: &Arc<Origin>, gateways: &[Arc<Gateway>], clients: usize) -> Self {
        let mut load = Self::default();
        for number in 0..clients * gateways.len() {
            let gateway = Arc::clone(&gateways[number % gateways.len()]);
            let origin = Arc::clone(origin);
            load.add(|answers| async move {
                let target = format!("/load/{number}");
                origin.on(&target).method("PUT").reply(status(204));
                for round in 0.. {
                    let version = format!("{number}: version {}", round / 8);
                    if round % 8 == 0 {
                        let reply = ok(version.clone()).etag(&version.replace(' ', ""));
                        origin.on(&target).method("GET").reply(reply.max_age(600));
                        gateway.ask("PUT", &target).send().await.code(204);
                    }
                    gateway.get(&target).await.code(200).body(&version);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// Waits for so many more answers.
    pub async fn goes_on(&mut self, count: u64) {
        let goal = self.answers.load(Ordering::Relaxed) + count;
        until("clients are answered", || {
            // One that failed has ended, and says so here.
            while let Some(ended) = self.clients.try_join_next() {
                ended.unwrap();
            }
            self.answers.load(Ordering::Relaxed) >= goal
        })
        .await;
    }
}
