//! Servers that fail are left alone for a while, and told of.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::support::client::Ask;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, Reply, ok, pieces, status};
use crate::support::program::Running;
use crate::support::{PATIENCE, free_port, nobody, until};

fn fresh(reply: Reply) -> Reply {
    reply.field("cache-control", "no-store")
}

fn setup(origins: &[&Origin], eject: &str) -> Setup {
    let servers: Vec<_> = origins.iter().map(|origin| origin.url()).collect();
    Gateway::setup_before(&servers).upstream(&format!("eject = {eject}"))
}

async fn servers(gateway: &Gateway) -> Vec<Value> {
    let got = gateway.admin("GET", "/health").send().await.code(200);
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    let servers = told["upstreams"][0]["servers"].as_array().unwrap().clone();
    let is_up = servers.iter().all(|server| server["state"] == "up");
    assert_eq!(told["status"], if is_up { "pass" } else { "warn" }, "{told}");
    servers
}

#[tokio::test]
async fn server_that_fails_in_a_row_is_left_alone() {
    let (sick, well) = (Origin::start().await, Origin::start().await);
    sick.on("/a").reply(fresh(status(503)));
    well.on("/a").reply(fresh(ok("1")));
    let gateway = setup(&[&sick, &well], "{ failures = 3, for = \"1h\", at_most = \"1h\" }");
    let gateway = gateway.start().await;
    for _ in 0..20 {
        gateway.get("/a").await;
    }
    sick.saw("/a", 3);
    well.saw("/a", 17);
    let told = servers(&gateway).await;
    assert_eq!((&told[0]["state"], &told[1]["state"]), (&json!("ejected"), &json!("up")));
    assert_eq!(told[0]["last_failure"]["text"], "it answered 503");
    assert_eq!((&told[0]["server"], &told[0]["in_flight"]), (&json!(sick.url()), &json!(0)));
    assert_eq!(told[1]["last_failure"], Value::Null);
}

#[tokio::test]
async fn statuses_that_are_no_failures_and_answers_between_leave_a_server_in() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    for origin in [&one, &other] {
        origin.on("/error").reply(fresh(status(500)));
        origin.on("/busy").reply(fresh(status(503)));
        origin.on("/a").reply(fresh(ok("1")));
    }
    let gateway = setup(&[&one, &other], "{ failures = 2, for = \"1h\", at_most = \"1h\" }");
    let gateway = gateway.start().await;
    for target in ["/error", "/error", "/busy", "/a"].repeat(4) {
        // Both in turn.
        gateway.get(target).await;
        gateway.get(target).await;
    }
    assert!(servers(&gateway).await.iter().all(|server| server["state"] == "up"));
    let gateway = setup(&[&one, &other], "false").start().await;
    for _ in 0..20 {
        gateway.get("/busy").await.code(503);
    }
    assert!(servers(&gateway).await.iter().all(|server| server["state"] == "up"));
}

#[tokio::test]
async fn servers_that_are_all_left_alone_are_all_asked() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    for origin in [&one, &other] {
        origin.on("/a").reply(fresh(status(503)));
    }
    let gateway = setup(&[&one, &other], "{ failures = 1, for = \"1h\", at_most = \"1h\" }");
    let gateway = gateway.start().await;
    for _ in 0..10 {
        gateway.get("/a").await.code(503);
    }
    one.saw("/a", 5);
    other.saw("/a", 5);
    assert!(servers(&gateway).await.iter().all(|server| server["state"] == "ejected"));
    // An answer is enough.
    for origin in [&one, &other] {
        origin.on("/a").reply(fresh(ok("1")));
    }
    gateway.get("/a").await.code(200);
    gateway.get("/a").await.code(200);
    let told = servers(&gateway).await;
    assert!(told.iter().any(|server| server["state"] == "up"), "{told:?}");

    // There is no other.
    one.on("/a").reply(fresh(status(503)));
    let gateway = setup(&[&one], "{ failures = 1, for = \"1h\", at_most = \"1h\" }").start().await;
    gateway.get("/a").await.code(503);
    gateway.get("/a").await.code(503);
    assert_eq!(servers(&gateway).await[0]["state"], "up");
}

#[tokio::test]
async fn server_comes_back_by_one_request() {
    let (sick, well) = (Origin::start().await, Origin::start().await);
    sick.on("/a").reply(fresh(status(503)));
    well.on("/a").reply(fresh(ok("1")));
    let gateway = setup(&[&sick, &well], "{ failures = 1, for = \"1ms\" }").start().await;
    gateway.get("/a").await.code(503);
    let held = sick.on("/a").hold(fresh(ok("2")));
    let begun = larder::clock::instant();
    let trial = loop {
        let asked = tokio::spawn(gateway.ask("GET", "/a").field("range", "bytes=0-").send());
        until("it is asked", || asked.is_finished() || sick.count("/a") == 2).await;
        if sick.count("/a") == 2 {
            break asked;
        }
        assert!(begun.elapsed() < PATIENCE, "it is never tried again");
    };
    for _ in 0..10 {
        gateway.get("/a").await.code(200).body("1");
    }
    sick.saw("/a", 2);
    let told = servers(&gateway).await;
    assert_eq!((&told[0]["state"], &told[0]["in_flight"]), (&json!("trial"), &json!(1)));
    held.release();
    trial.await.unwrap().code(200).body("2");
    assert_eq!(servers(&gateway).await[0]["state"], "up");
    gateway.get("/a").await.code(200);
    gateway.get("/a").await.code(200);
    assert!(sick.count("/a") > 2, "it has its turns again");
}

#[tokio::test]
async fn server_whose_time_is_over_takes_those_who_wait() {
    let (sick, well) = (Origin::start().await, Origin::start().await);
    sick.on("/a").reply(fresh(status(503)));
    let held = well.on("/held").hold(fresh(ok("held")));
    let setup = setup(&[&sick, &well], "{ failures = 1, for = \"1s\" }");
    let gateway = setup.upstream("max_requests = 1\nmax_wait = \"1h\"").start().await;
    gateway.get("/a").await.code(503);
    sick.on("/a").reply(fresh(ok("1")));
    let running = tokio::spawn(gateway.ask("GET", "/held").send());
    until("the other has a request", || well.count("/held") == 1).await;
    let waiting = [(); 2].map(|()| tokio::spawn(gateway.ask("GET", "/a").send()));
    for waits in waiting {
        let got = timeout(PATIENCE, waits).await.expect("nobody takes it");
        got.unwrap().code(200).body("1");
    }
    held.release();
    running.await.unwrap().code(200).body("held");
}

#[tokio::test]
async fn server_that_is_silent_until_no_time_is_left_is_left_alone() {
    let (sick, well) = (Origin::start().await, Origin::start().await);
    let _held = sick.on("/a").hold(fresh(ok("0")));
    well.on("/a").reply(fresh(ok("1")));
    let setup = setup(&[&sick, &well], "{ failures = 1, for = \"1h\", at_most = \"1h\" }");
    let gateway = setup.upstream("total_timeout = \"3s\"").start().await;
    gateway.get("/a").await.code(504).status("fwd=uri-miss; detail=upstream-timeout");
    for _ in 0..4 {
        gateway.get("/a").await.code(200).body("1");
    }
    sick.saw("/a", 1);
    let told = servers(&gateway).await;
    assert_eq!((&told[0]["state"], &told[1]["state"]), (&json!("ejected"), &json!("up")));
    assert_eq!(told[0]["last_failure"]["text"], "upstream did not answer in time");
}

#[tokio::test]
async fn server_whose_contents_break_off_is_left_alone() {
    let (sick, well) = (Origin::start().await, Origin::start().await);
    well.on("/a").reply(fresh(ok("1")));
    let gateway = setup(&[&sick, &well], "{ failures = 2, for = \"1h\", at_most = \"1h\" }");
    let gateway = gateway.start().await;
    for _ in 0..2 {
        let (reply, sending) = pieces();
        sick.on("/a").reply(fresh(reply));
        let open = gateway.ask("GET", "/a").open().await;
        sending.send("12345");
        drop(sending);
        assert!(open.finish().await.is_err(), "it broke off");
        gateway.get("/a").await.code(200).body("1");
    }
    for _ in 0..4 {
        gateway.get("/a").await.code(200).body("1");
    }
    let told = servers(&gateway).await;
    assert_eq!((&told[0]["state"], &told[1]["state"]), (&json!("ejected"), &json!("up")));
    assert_eq!(told[0]["last_failure"]["text"], "it broke off within the content");
    sick.saw("/a", 2);
}

#[tokio::test]
async fn only_server_that_gives_no_answer_is_told_of_and_asked() {
    for eject in ["", "eject = { failures = 5, for = \"1h\", at_most = \"1h\" }", "eject = false"] {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let gateway = Gateway::setup_before(&[format!("http://{address}")]).upstream(eject);
        let gateway = gateway.start().await;
        for _ in 0..4 {
            gateway.get("/a").await.code(502);
        }
        assert_eq!(servers(&gateway).await[0]["state"], "up", "{eject}");
        gateway.get("/a").await.code(502).status("fwd=uri-miss; detail=upstream-refused");
        let told = servers(&gateway).await;
        assert_eq!(told[0]["state"], "failing", "{eject}");
        let text = told[0]["last_failure"]["text"].as_str().unwrap();
        assert!(text.starts_with("no connection to the upstream: "), "{text}");

        let origin = Origin::listen(address).await;
        origin.on("/a").reply(fresh(ok("1")));
        gateway.get("/a").await.code(200).body("1");
        assert_eq!(servers(&gateway).await[0]["state"], "up", "{eject}");
    }
}

#[tokio::test]
async fn only_server_that_checks_find_well_is_up_without_a_request() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let health = "health = { path = \"/healthz\", interval = \"20ms\", rise = 1, fall = 1 }";
    let gateway = Gateway::setup_before(&[format!("http://{address}")]).upstream(health);
    let gateway = gateway.start().await;
    for _ in 0..5 {
        gateway.get("/a").await.code(502);
    }
    assert_ne!(servers(&gateway).await[0]["state"], "up");
    let origin = Origin::listen(address).await;
    origin.on("/healthz").reply(ok("fine"));
    let back = async {
        while servers(&gateway).await[0]["state"] != "up" {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, back).await.expect("it is never up");
    origin.saw("/a", 0);
}

#[tokio::test]
async fn log_tells_once_that_the_only_server_fails_and_that_it_is_back() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut larder = Running::upstream(&format!("http://{address}")).await;
    for _ in 0..10 {
        Ask::new(larder.address(), "GET", "/a").send().await.code(502);
    }
    let origin = Origin::listen(address).await;
    origin.on("/a").reply(fresh(ok("1")));
    Ask::new(larder.address(), "GET", "/a").send().await.code(200).body("1");
    let lines = larder.until_it_says("server is back").await;
    let fails = lines.iter().filter(|line| line.contains("server fails, but is asked"));
    assert_eq!(fails.count(), 1, "{lines:?}");
}

#[tokio::test]
async fn log_tells_once_that_a_server_is_left_alone() {
    let origin = Origin::start().await;
    origin.on("/a").reply(fresh(ok("1")));
    let (_reserved, absent) = nobody();
    let setup = Gateway::setup_before(&[absent.clone(), origin.url()]);
    let setup = setup.upstream("eject = { failures = 2, for = \"1h\", at_most = \"1h\" }");
    let mut larder = Running::with(&setup.text()).await;
    for _ in 0..8 {
        Ask::new(larder.address(), "GET", "/a").send().await.code(200).body("1");
    }
    let line = larder.logs("server left alone").await;
    assert_eq!((&line["server"], &line["failures"]), (&json!(absent), &json!(2)), "{line}");
}
