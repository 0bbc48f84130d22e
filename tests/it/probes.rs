//! Servers are checked, whatever requests there are.

use tokio::time::timeout;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::raw::{RawOrigin, Step};
use crate::support::{PATIENCE, until};

const HEALTH: &str = "health = { path = \"/healthz?deep\", interval = \"2ms\", timeout = \"5s\", \
                      fall = 2, host = \"shop.example\" }";

fn fresh(reply: Reply) -> Reply {
    reply.field("cache-control", "no-store")
}

fn states(gateway: &Gateway) -> Vec<&'static str> {
    let gateway = gateway.service().gateway();
    let servers = gateway.upstreams().flat_map(larder::upstream::Upstream::servers);
    servers.map(|server| server.state.as_str()).collect()
}

#[tokio::test]
async fn server_that_is_not_healthy_gets_no_requests_until_it_is() {
    let origins = [Origin::start().await, Origin::start().await];
    for (number, origin) in origins.iter().enumerate() {
        origin.on("/healthz?deep").reply(ok("fine"));
        origin.on("/a").reply(fresh(ok(number.to_string())));
    }
    let setup = Gateway::setup_before(&[origins[0].url(), origins[1].url()]).upstream(HEALTH);
    let gateway = setup.start().await;
    until("both are checked", || origins.iter().all(|it| it.count("/healthz?deep") > 2)).await;
    let asked = origins[0].last("/healthz?deep");
    assert_eq!(asked.field("host").as_deref(), Some("shop.example"));
    assert_eq!(asked.field("user-agent").as_deref(), Some("larder-health"));
    assert_eq!(states(&gateway), ["up", "up"]);

    origins[0].on("/healthz?deep").reply(status(503));
    until("it is out", || states(&gateway) == ["unhealthy", "up"]).await;
    for _ in 0..6 {
        gateway.get("/a").await.code(200).body("1");
    }
    origins[0].saw("/a", 0);
    // If nobody is healthy, all are asked.
    origins[1].on("/healthz?deep").reply(status(500));
    until("both are out", || states(&gateway) == ["unhealthy", "unhealthy"]).await;
    let mut answers = [gateway.get("/a").await.body, gateway.get("/a").await.body];
    answers.sort();
    assert_eq!(answers, ["0", "1"]);

    origins[0].on("/healthz?deep").reply(ok("fine"));
    until("it is back", || states(&gateway) == ["up", "unhealthy"]).await;
    gateway.get("/a").await.body("0");
    gateway.get("/a").await.body("0");
}

#[tokio::test]
async fn server_that_is_healthy_again_takes_those_who_wait() {
    let origins = [Origin::start().await, Origin::start().await];
    for (number, origin) in origins.iter().enumerate() {
        for target in ["/a", "/b"] {
            origin.on(target).reply(fresh(ok(number.to_string())));
        }
    }
    origins[0].on("/healthz?deep").reply(status(503));
    origins[1].on("/healthz?deep").reply(ok("fine"));
    let held = origins[1].on("/held").hold(fresh(ok("held")));
    let setup = Gateway::setup_before(&[origins[0].url(), origins[1].url()]);
    let bounds = "max_requests = 1\nmax_wait = \"1h\"";
    let gateway = setup.upstream(HEALTH).upstream(bounds).start().await;
    until("one is out", || states(&gateway) == ["unhealthy", "up"]).await;
    let running = tokio::spawn(gateway.ask("GET", "/held").send());
    until("the other has a request", || origins[1].count("/held") == 1).await;
    let waiting = ["/a", "/b"].map(|target| tokio::spawn(gateway.ask("GET", target).send()));
    until("two wait", || {
        gateway.service().gateway().upstreams().all(|upstream| upstream.waiting() == 2)
    })
    .await;
    origins[0].on("/healthz?deep").reply(ok("fine"));
    for waits in waiting {
        let got = timeout(PATIENCE, waits).await.expect("nobody takes it");
        got.unwrap().code(200).body("0");
    }
    held.release();
    running.await.unwrap().code(200).body("held");
}

#[tokio::test]
async fn checks_leave_their_connection_to_the_next() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n",
    ] {
        let mut steps =
            [Step::Head, Step::Send(answer)].into_iter().cycle().take(6).collect::<Vec<_>>();
        steps.extend([Step::Head, Step::Stay]);
        let origin = RawOrigin::start(&steps).await;
        let setup = Gateway::setup_before(&[origin.url()]).upstream(HEALTH);
        let _gateway = setup.start().await;
        // The last of these has no answer, and at its end a connection is made for the next.
        let mut connections = 0;
        let is_checked = || {
            connections = origin.connections();
            origin.heads().len() >= 4
        };
        until("it is checked", is_checked).await;
        assert_eq!(connections, 1, "{answer}");
    }
}

#[tokio::test]
async fn connection_that_closes_under_a_check_says_nothing_of_the_server() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let origin = RawOrigin::start(&[Step::Head, Step::Send(answer), Step::Head]).await;
    let setup = Gateway::setup_before(&[origin.url()]).upstream(HEALTH);
    let gateway = setup.start().await;
    until("it is checked", || origin.heads().len() > 20).await;
    assert_eq!(states(&gateway), ["up"]);
    let gateway = gateway.service().gateway();
    let mut servers = gateway.upstreams().flat_map(larder::upstream::Upstream::servers);
    assert!(servers.all(|server| server.last_failure.is_none()));
}

#[tokio::test]
async fn checks_end_with_their_upstream() {
    let (origin, other) = (Origin::start().await, Origin::start().await);
    origin.on("/healthz?deep").reply(ok("fine"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let setup = Gateway::setup(&origin).server("workers = 1\nwatch = false").upstream(HEALTH);
    let text = setup.text();
    let gateway = setup.start_from(&file).await;
    until("it is checked", || origin.count("/healthz?deep") > 2).await;
    // Nothing about it changes, and it goes on.
    gateway.admin("POST", "/reload").send().await.code(200);
    let before = origin.count("/healthz?deep");
    until("it is checked", || origin.count("/healthz?deep") > before + 2).await;

    other.on("/healthz?deep").reply(ok("fine"));
    std::fs::write(&file, text.replace(&origin.url(), &other.url())).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    until("the other is checked", || other.count("/healthz?deep") > 2).await;
    // The former gateway is let go of within seconds.
    let begun = larder::clock::instant();
    loop {
        let (seen, goal) = (origin.count("/healthz?deep"), other.count("/healthz?deep") + 50);
        until("the other is checked", || other.count("/healthz?deep") >= goal).await;
        if origin.count("/healthz?deep") == seen {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the checks never end");
    }
}
