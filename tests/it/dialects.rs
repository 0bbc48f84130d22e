//! What speaks Redis' protocol, and in which version of it.

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::server::Server;
use crate::support::until;

#[tokio::test]
async fn redis_and_valkey_serve_in_both_versions_of_the_protocol() {
    let origin = Origin::start().await;
    for (number, server) in [Server::start(""), Server::valkey("")].into_iter().enumerate() {
        for protocol in ["resp2", "resp3"] {
            let url = format!("redis://{}/?protocol={protocol}", server.address());
            let start = || Gateway::setup(&origin).l2(&url, "timeout = \"10s\"").start();
            let (first, second) = (start().await.in_step().await, start().await.in_step().await);
            let target = format!("/{number}/{protocol}");
            for (language, stored) in
                [("de", "fwd=uri-miss; stored"), ("en", "fwd=vary-miss; stored")]
            {
                let reply = ok(language).max_age(600).field("vary", "accept-language");
                origin.on(&target).with("accept-language", language).reply(reply);
                let ask = |gateway: &Gateway| {
                    gateway.ask("GET", &target).field("accept-language", language).send()
                };
                ask(&first).await.body(language).status(stored);
                first.settled().await;
                ask(&second).await.body(language).status("hit");
            }
            origin.on(&target).method("PUT").reply(status(204));
            first.ask("PUT", &target).send().await.code(204);
            until("the write is known", || {
                second.store().log_position >= first.store().log_position
            })
            .await;
            let ask = second.ask("GET", &target).field("accept-language", "de").send();
            ask.await.body("de").status("fwd=uri-miss; stored");
            let purged = first.admin("POST", "/clear?wait=5s").send().await.code(200);
            let purged: serde_json::Value = serde_json::from_slice(&purged.body).unwrap();
            assert_eq!(purged["complete"], true, "{purged}");
            assert_eq!(second.l2().errors + second.l2().damaged_frames, 0);
        }
    }
}
