//! Requests that another server gets when the first has failed, and those that none may get.

use crate::support::client::{answers, sent};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::raw::{RawOrigin, Step};

fn fresh(reply: Reply) -> Reply {
    reply.field("cache-control", "no-store")
}

const NO_EJECTION: &str = "eject = false\n";

#[tokio::test]
async fn safe_request_that_broke_off_goes_to_another_server() {
    let broken = RawOrigin::start(&[Step::Head]).await;
    let origin = Origin::start().await;
    origin.on("/a").reply(fresh(ok("1")));
    origin.on("/a").method("PUT").reply(status(201));
    let setup = Gateway::setup_before(&[broken.url(), origin.url()]).upstream(NO_EJECTION);
    let gateway = setup.start().await;
    for _ in 0..10 {
        gateway.get("/a").await.code(200).body("1").status("fwd=uri-miss; detail=no-store");
    }
    assert_eq!(broken.heads().len(), 5, "each second one went there first");
    let figures = &gateway.stats().await["upstreams"]["origin"];
    let expected = [
        ("requests", 10),
        ("passed_over", 0),
        ("retries", 5),
        ("retries_denied", 0),
        ("failures", 0),
    ];
    for (name, count) in expected {
        assert_eq!(figures[name], count, "{figures}");
    }
    assert_eq!(gateway.figure("upstream_failures"), 0);
    // What a write has done is not known.
    let codes = [gateway.ask("PUT", "/a").send().await, gateway.ask("PUT", "/a").send().await];
    assert_eq!(codes.map(|got| got.status.as_u16()), [502, 201]);
}

#[tokio::test]
async fn silent_server_is_replaced_once() {
    let hung = [RawOrigin::start(&[Step::Head, Step::Stay]).await, {
        RawOrigin::start(&[Step::Head, Step::Stay]).await
    }];
    let origin = Origin::start().await;
    origin.on("/a").reply(fresh(ok("1")));
    let lines = format!("{NO_EJECTION}timeout = \"100ms\"");
    let servers = [hung[0].url(), origin.url()];
    let gateway = Gateway::setup_before(&servers).upstream(&lines).start().await;
    gateway.get("/a").await.code(200).body("1");
    // A write may be done yet.
    let writes =
        [gateway.ask("DELETE", "/w").send().await, gateway.ask("DELETE", "/w").send().await];
    let mut codes = writes.map(|got| got.status.as_u16());
    codes.sort_unstable();
    assert_eq!(codes, [404, 504]);
    let servers = [hung[0].url(), hung[1].url(), origin.url()];
    let gateway = Gateway::setup_before(&servers).upstream(&lines).start().await;
    // What two are silent about takes long, and a third would be, too.
    gateway.get("/a").await.code(504).status("fwd=uri-miss; detail=upstream-timeout");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn answers_that_are_asked_for_again_go_to_another_server() {
    let (sick, well) = (Origin::start().await, Origin::start().await);
    for code in [500, 503] {
        sick.on(&format!("/{code}")).reply(fresh(status(code).body("sick")));
        well.on(&format!("/{code}")).reply(fresh(ok("well")));
    }
    let servers = [sick.url(), well.url()];
    let lines = format!("{NO_EJECTION}retries = {{ statuses = \"502-504\" }}");
    let gateway = Gateway::setup_before(&servers).upstream(&lines).start().await;
    for _ in 0..4 {
        gateway.get("/503").await.code(200).body("well");
    }
    sick.saw("/503", 2);
    gateway.get("/500").await.code(500);
    gateway.get("/500").await.code(200);
    gateway.ask("POST", "/503").send().await.code(503);

    // Where there is no better one, the last is passed on.
    let servers = [sick.url(), sick.url()];
    let gateway = Gateway::setup_before(&servers).upstream(&lines).start().await;
    let before = sick.count("/503");
    gateway.get("/503").await.code(503).body("sick");
    assert_eq!(sick.count("/503") - before, 2);

    // Nobody has asked for it.
    let servers = [sick.url(), well.url()];
    let gateway = Gateway::setup_before(&servers).upstream(NO_EJECTION).start().await;
    gateway.get("/503").await.code(503).body("sick");
}

#[tokio::test]
async fn retries_end_with_their_budget() {
    let broken = RawOrigin::start(&[Step::Head]).await;
    let origin = Origin::start().await;
    origin.on("/a").reply(fresh(ok("1")));
    for (retries, expected) in
        [("{ budget = 0, at_least = 2 }", 2), ("false", 0), ("{ most = 0 }", 0)]
    {
        let setup = Gateway::setup_before(&[broken.url(), origin.url()]);
        let setup = setup.upstream(&format!("{NO_EJECTION}retries = {retries}"));
        let gateway = setup.start().await;
        let mut failed = 0;
        for _ in 0..20 {
            failed += u32::from(gateway.get("/a").await.status == 502);
        }
        assert_eq!(failed, 10 - expected, "{retries}");
    }
}

/// Under load: each of three servers is killed, hung and started again in turn.
#[tokio::test]
async fn no_safe_request_fails_while_servers_fail_in_turn() {
    let mut origins = Vec::new();
    for _ in 0..3 {
        origins.push(Some(told(Origin::start().await)));
    }
    let addresses: Vec<_> = origins.iter().flatten().map(Origin::address).collect();
    let servers: Vec<_> = origins.iter().flatten().map(Origin::url).collect();
    let setup = Gateway::setup_before(&servers);
    let gateway = setup.upstream("timeout = \"300ms\"\neject = { for = \"20ms\" }").start().await;
    let load = async || {
        for _ in 0..5 {
            let asks = (0..30).map(|number| gateway.ask("GET", &format!("/{number}")));
            for got in answers(sent(asks)).await {
                got.code(200).body("1");
            }
        }
    };
    for place in 0..3 {
        load().await;
        // Killed, with what it has in flight.
        let asks = (0..30).map(|number| gateway.ask("GET", &format!("/{number}")));
        let waiting = sent(asks);
        drop(origins[place].take());
        for got in answers(waiting).await {
            got.code(200).body("1");
        }
        load().await;
        // Hung: it takes connections, and nothing else.
        let hung = tokio::net::TcpListener::bind(addresses[place]).await.unwrap();
        load().await;
        drop(hung);
        // Started again.
        let origin = told(Origin::listen(addresses[place]).await);
        load().await;
        origins[place] = Some(origin);
    }
    assert_eq!(gateway.figure("upstream_failures"), 0);
}

fn told(origin: Origin) -> Origin {
    for number in 0..30 {
        origin.on(&format!("/{number}")).reply(fresh(ok("1")));
    }
    origin
}
