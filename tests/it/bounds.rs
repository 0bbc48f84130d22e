//! How many requests a server has at once, and what becomes of the others.

use crate::support::client::{answers, sent};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, pieces, status};
use crate::support::{secs, until};

fn fresh(reply: Reply) -> Reply {
    reply.field("cache-control", "no-store")
}

fn waiting(gateway: &Gateway) -> usize {
    gateway.service().gateway().upstreams().next().unwrap().waiting()
}

#[tokio::test]
async fn requests_wait_in_line_for_a_server_that_has_as_many_as_it_may() {
    let origin = Origin::start().await;
    let held: Vec<_> =
        (0..6).map(|it| origin.on(&format!("/{it}")).hold(fresh(ok(it.to_string())))).collect();
    let lines = "max_requests = 2\nmax_waiting = 4\nmax_wait = \"1h\"";
    let gateway = Gateway::setup(&origin).upstream(lines).start().await;
    let mut asked = Vec::new();
    for number in 0..6 {
        asked.extend(sent([gateway.ask("GET", &format!("/{number}"))]));
        let under_way = || origin.asked().len() + waiting(&gateway) == number + 1;
        until("it is on its way", under_way).await;
    }
    assert_eq!((origin.asked().len(), waiting(&gateway)), (2, 4));
    let got = gateway.get("/more").await.code(503).has("retry-after", "1");
    got.status("fwd=uri-miss; detail=upstream-busy");
    // Who came first is served first.
    for (number, held) in held.iter().enumerate() {
        held.release();
        let count = (number + 3).min(6);
        until("the next one is asked for", || origin.asked().len() == count).await;
    }
    let order: Vec<_> = origin.asked().into_iter().map(|asked| asked.target).collect();
    assert_eq!(order, ["/0", "/1", "/2", "/3", "/4", "/5"]);
    for (number, got) in answers(asked).await.into_iter().enumerate() {
        got.code(200).body(&number.to_string());
    }
    origin.on("/w").reply(status(204));
    gateway.ask("POST", "/w").send().await.code(204);
}

#[tokio::test]
async fn stale_response_stands_in_where_nobody_may_wait() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let held = origin.on("/held").hold(fresh(ok("held")));
    let lines = "max_requests = 1\nmax_waiting = 0";
    let gateway = Gateway::setup(&origin).upstream(lines).start().await;
    gateway.get("/a").await.code(200).status("fwd=uri-miss; stored");
    gateway.clock().advance(secs(61));
    let asked = sent([gateway.ask("GET", "/held")]);
    until("it is asked for", || origin.count("/held") == 1).await;
    let got = gateway.get("/a").await.code(200).body("1");
    assert!(got.cache_status().ends_with("detail=stale-if-error"), "{got:?}");
    gateway.get("/b").await.code(503).has("retry-after", "1");
    // Nothing was sent, and nothing is invalidated.
    gateway.ask("POST", "/a").send().await.code(503).status("fwd=method; detail=upstream-busy");
    gateway.get("/a").await.code(200).body("1");
    origin.saw("/a", 1);
    held.release();
    answers(asked).await.remove(0).body("held");
}

#[tokio::test]
async fn response_counts_to_its_end() {
    let origin = Origin::start().await;
    let (reply, content) = pieces();
    origin.on("/long").reply(fresh(reply));
    origin.on("/a").reply(fresh(ok("1")));
    let lines = "max_requests = 1\nmax_wait = \"1h\"";
    let gateway = Gateway::setup(&origin).upstream(lines).start().await;
    let long = sent([gateway.ask("GET", "/long")]);
    until("it is asked for", || origin.count("/long") == 1).await;
    content.send("begun");
    let next = sent([gateway.ask("GET", "/a")]);
    until("it waits", || waiting(&gateway) == 1).await;
    origin.saw("/a", 0);
    content.end();
    answers(long).await.remove(0).code(200).body("begun");
    answers(next).await.remove(0).code(200).body("1");
    let servers = gateway.service().gateway().upstreams().next().unwrap().servers();
    assert_eq!((servers[0].in_flight, waiting(&gateway)), (0, 0));
}
