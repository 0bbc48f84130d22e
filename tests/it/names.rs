//! Servers that are given by name: each address is one, and names are looked up again.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::names::Names;
use crate::support::origin::{Origin, ok, status};
use crate::support::program::Running;
use crate::support::{PATIENCE, free_port, until};

/// Origins on 127.0.0.2, 127.0.0.3 and so on, all on one port, each of which answers with its number.
async fn origins(count: u8) -> Vec<Origin> {
    let (port, mut origins) = (free_port(), Vec::new());
    for number in 2..2 + count {
        origins.push(Origin::listen(SocketAddr::from(([127, 0, 0, number], port))).await);
    }
    for (place, origin) in origins.iter().enumerate() {
        origin.on("/a").reply(ok((place + 2).to_string()).field("cache-control", "no-store"));
        origin.on("/healthz").reply(ok("fine"));
    }
    origins
}

/// A gateway before `api.test` on the port of these.
async fn before(origins: &[Origin], lines: &str, names: &Names) -> Running {
    let url = format!("http://api.test:{}", origins[0].address().port());
    let setup = Gateway::setup_before(&[url]).upstream(lines);
    Running::with_names(&setup.text(), names).await
}

async fn get(larder: &Running) -> Got {
    Ask::new(larder.address(), "GET", "/a").send().await
}

/// What the upstream's health is.
async fn health(larder: &Running) -> Value {
    let got = Ask::new(larder.admin(), "GET", "/health").send().await.code(200);
    serde_json::from_slice::<Value>(&got.body).unwrap()["upstreams"][0].take()
}

/// Waits until its health is so.
async fn becomes(larder: &Running, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let told = health(larder).await;
            if holds(&told) {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// The last number of each server's address.
fn numbers(told: &Value) -> Vec<u8> {
    let servers = told["servers"].as_array().unwrap().iter();
    let addresses = servers.filter_map(|it| it["address"].as_str()?.parse::<SocketAddr>().ok());
    let last = addresses.map(|address| match address {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    });
    last.collect()
}

/// Waits until these are the servers.
async fn are(larder: &Running, expected: &[u8]) -> Value {
    becomes(larder, &format!("{expected:?}"), |told| numbers(told) == expected).await
}

/// How often each was asked for this.
fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.count("/a")).collect()
}

#[tokio::test]
async fn each_address_of_a_name_is_a_server_as_long_as_it_is_one() {
    let origins = origins(3).await;
    let names = Names::new(&["127.0.0.2 api.test", "127.0.0.3 api.test"]);
    let lines = "resolve = \"1s\"\npreserve_host = false";
    let mut larder = before(&origins, lines, &names).await;
    let told = are(&larder, &[2, 3]).await;
    let name = format!("api.test:{}", origins[0].address().port());
    assert_eq!(told["servers"][0]["server"], format!("http://{name}"));
    let already = counts(&origins);
    for _ in 0..10 {
        get(&larder).await.code(200);
    }
    let seen: Vec<_> = counts(&origins).iter().zip(already).map(|(now, then)| now - then).collect();
    assert_eq!(seen, [5, 5, 0]);
    assert_eq!(origins[0].last("/a").field("host"), Some(name));

    let held = origins[0].on("/held").hold(ok("held"));
    origins[1].on("/held").reply(status(404).field("cache-control", "no-store"));
    let mut running = Vec::new();
    while origins[0].count("/held") == 0 {
        let asked = tokio::spawn(Ask::new(larder.address(), "GET", "/held").send());
        until("it is asked", || asked.is_finished() || origins[0].count("/held") == 1).await;
        running.push(asked);
    }
    // The admin listener makes a time of how long ago that is, each time anew.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let changed = Value::from(larder::clock::text(std::time::SystemTime::now()));
    names.are(&["127.0.0.3 api.test", "127.0.0.4 api.test"]);
    let told = are(&larder, &[3, 4]).await;
    let [kept, new] = [0, 1].map(|place| told["servers"][place]["since"].as_str());
    assert!(kept < changed.as_str(), "it keeps what is known of it: {told}");
    assert!(new > changed.as_str(), "nothing was known of it: {told}");
    let line = larder.logs("name has other addresses").await;
    assert!(line["former"].as_str().unwrap().starts_with("127.0.0.2"), "{line}");
    let already = origins[0].count("/a");
    for _ in 0..10 {
        get(&larder).await.code(200);
    }
    assert_eq!((origins[0].count("/a"), origins[2].count("/a")), (already, 5));
    held.release();
    running.pop().unwrap().await.unwrap().code(200).body("held");
}

#[tokio::test]
async fn name_that_is_not_found_any_more_keeps_its_addresses() {
    let origins = origins(2).await;
    let names = Names::new(&["127.0.0.2 api.test"]);
    let mut larder = before(&origins, "resolve = \"1s\"", &names).await;
    are(&larder, &[2]).await;
    names.are(&[]);
    let fails = |told: &Value| told["lookup_failures"].as_array().is_some_and(|it| !it.is_empty());
    let told = becomes(&larder, "it is not found", fails).await;
    assert_eq!(numbers(&told), [2]);
    assert_eq!(told["lookup_failures"][0]["server"], told["servers"][0]["server"]);
    get(&larder).await.code(200).body("2");
    larder.logs("name cannot be looked up").await;
    names.are(&["127.0.0.3 api.test"]);
    are(&larder, &[3]).await;
    larder.logs("name can be looked up again").await;
    assert_eq!(health(&larder).await["lookup_failures"], json!([]));
    get(&larder).await.code(200).body("3");
}

#[tokio::test]
async fn name_that_is_not_found_at_first_is_no_reason_not_to_start() {
    let origins = origins(1).await;
    let names = Names::new(&[]);
    let mut larder = before(&origins, "resolve = \"1h\"", &names).await;
    larder.logs("name cannot be looked up").await;
    get(&larder).await.code(502);
    assert_eq!(numbers(&health(&larder).await), [0; 0]);
    // Whatever `resolve` says, and without a request that fails.
    names.are(&["127.0.0.2 api.test"]);
    are(&larder, &[2]).await;
    get(&larder).await.code(200).body("2");
}

#[tokio::test]
async fn server_in_trouble_has_its_name_looked_up_at_once() {
    let mut origins = origins(2).await;
    let names = Names::new(&["127.0.0.2 api.test"]);
    let larder = before(&origins, "resolve = \"1h\"", &names).await;
    are(&larder, &[2]).await;
    get(&larder).await.code(200).body("2");
    names.are(&["127.0.0.3 api.test"]);
    drop(origins.remove(0));
    let begun = larder::clock::instant();
    while get(&larder).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "it is never looked up again");
    }
    assert_eq!(numbers(&health(&larder).await), [3]);
}

#[tokio::test]
async fn each_address_is_checked() {
    let origins = origins(3).await;
    let names = Names::new(&["127.0.0.2 api.test", "127.0.0.3 api.test"]);
    origins[1].on("/healthz").reply(status(503));
    let lines = "resolve = \"1s\"\n\
                 health = { path = \"/healthz\", interval = \"5ms\", timeout = \"5s\" }";
    let larder = before(&origins, lines, &names).await;
    let states = |told: &Value| {
        let servers = told["servers"].as_array().unwrap().iter();
        servers.map(|it| it["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    becomes(&larder, "one is out", |told| states(told) == ["up", "unhealthy"]).await;
    for _ in 0..6 {
        get(&larder).await.code(200).body("2");
    }
    names.are(&["127.0.0.2 api.test", "127.0.0.4 api.test"]);
    are(&larder, &[2, 4]).await;
    until("the new one is checked", || origins[2].count("/healthz") > 2).await;
    // A check may be on its way still.
    let mut begun = (origins[1].count("/healthz"), origins[2].count("/healthz"));
    until("the former one is checked no more, while the others are", || {
        let now = (origins[1].count("/healthz"), origins[2].count("/healthz"));
        if now.0 != begun.0 {
            begun = now;
        }
        now.1 > begun.1 + 20
    })
    .await;
}

#[tokio::test]
async fn addresses_of_both_families_are_one_server_that_is_reached_by_either() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1").field("cache-control", "no-store"));
    for order in [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]] {
        let lines = order.map(|address| format!("{address} api.test"));
        let names = Names::new(&lines.each_ref().map(String::as_str));
        let origins = std::slice::from_ref(&origin);
        let larder =
            before(origins, "eject = { failures = 1, for = \"1h\", at_most = \"1h\" }", &names)
                .await;
        let looked_up = |told: &Value| !told["servers"][0]["address"].is_null();
        becomes(&larder, "it is looked up", looked_up).await;
        for _ in 0..5 {
            get(&larder).await.code(200).body("1");
        }
        let told = health(&larder).await;
        let servers = told["servers"].as_array().unwrap();
        assert_eq!((servers.len(), &servers[0]["state"]), (1, &json!("up")), "{told}");
    }
}
