//! Which server of an upstream gets a request.

use std::collections::BTreeMap;

use crate::support::client::{answers, sent};
use crate::support::gateway::{Gateway, Setup};
use crate::support::nobody;
use crate::support::origin::{Held, Origin, ok};
use crate::support::until;

/// Origins that answer with their number to `/0` up to `/99`, and store nothing.
async fn numbered(count: usize) -> Vec<Origin> {
    let mut origins = Vec::new();
    for number in 0..count {
        let origin = Origin::start().await;
        for target in 0..100 {
            let reply = ok(number.to_string()).field("cache-control", "no-store");
            origin.on(&format!("/{target}")).reply(reply);
        }
        origins.push(origin);
    }
    origins
}

/// Before servers of which each has these settings.
fn setup(origins: &[Origin], settings: &[&str], lines: &str) -> Setup {
    let servers = origins
        .iter()
        .zip(settings)
        .map(|(origin, settings)| format!("{{ url = \"{}\"{settings} }}", origin.url()));
    let servers = servers.collect::<Vec<_>>().join(", ");
    Gateway::setup_before(&[])
        .upstreams(&format!("[upstreams.origin]\nservers = [{servers}]\n{lines}\n"))
}

/// Which server answers for each target.
async fn placed(gateway: &Gateway, targets: usize) -> BTreeMap<usize, String> {
    let mut placed = BTreeMap::new();
    for target in 0..targets {
        let got = gateway.get(&format!("/{target}")).await.code(200);
        placed.insert(target, String::from_utf8(got.body.to_vec()).unwrap());
    }
    placed
}

#[tokio::test]
async fn servers_get_their_share_by_weight() {
    let origins = numbered(3).await;
    let settings = [", weight = 5", ", weight = 1", ""];
    let gateway = setup(&origins, &settings, "balance = \"round-robin\"").start().await;
    placed(&gateway, 70).await;
    let seen: Vec<_> = origins.iter().map(|origin| origin.asked().len()).collect();
    assert_eq!(seen, [50, 10, 10]);
}

#[tokio::test]
async fn server_with_fewer_requests_in_flight_gets_the_next() {
    let origins = numbered(2).await;
    let gateway = setup(&origins, &["", ""], "balance = \"least-requests\"").start().await;
    let held = [0, 1].map(|place: usize| {
        let targets = (0..10).map(|number| format!("/held/{number}"));
        targets.map(|target| origins[place].on(&target).hold(ok("held"))).collect::<Vec<_>>()
    });
    let mut waiting = Vec::new();
    for number in 0..10 {
        let target = format!("/held/{number}");
        waiting.extend(sent([gateway.ask("GET", &target)]));
        let asked = || origins[0].count(&target) + origins[1].count(&target) == 1;
        until("it is asked for", asked).await;
    }
    let seen = [0, 1].map(|place: usize| origins[place].asked().len());
    assert_eq!(seen, [5, 5], "each goes where there are fewer");
    held.iter().flatten().for_each(Held::release);
    for got in answers(waiting).await {
        got.code(200).body("held");
    }
}

#[tokio::test]
async fn equal_keys_go_to_the_same_server_in_every_gateway() {
    let origins = numbered(3).await;
    let setup = || setup(&origins, &["", "", ""], "balance = \"hash\"");
    let (one, other) = (setup().start().await, setup().start().await);
    let first = placed(&one, 60).await;
    assert_eq!(placed(&one, 60).await, first);
    for number in ["0", "1", "2"] {
        let count = first.values().filter(|server| *server == number).count();
        assert!(count >= 5, "{number}: {first:?}");
    }
    // The authority is part of the key, and these have ports of their own.
    let ask = |gateway: &Gateway| gateway.ask("GET", "/7").field("host", "shop.example").send();
    let (a, b) = (ask(&one).await, ask(&other).await);
    assert_eq!(a.body, b.body);
    // Without a key, the target counts.
    let write = |target: &str| one.ask("POST", target).send();
    let server = write("/8").await.body;
    for _ in 0..5 {
        assert_eq!(write("/8").await.body, server);
    }
}

#[tokio::test]
async fn keys_of_a_server_that_is_gone_are_shared_by_the_others() {
    let mut origins = numbered(3).await;
    let gateway = setup(&origins, &["", "", ""], "balance = \"hash\"").start().await;
    let before = placed(&gateway, 40).await;
    drop(origins.remove(1));
    let after = placed(&gateway, 40).await;
    for (target, server) in &before {
        if server == "1" {
            assert_ne!(after[target], "1");
        } else {
            assert_eq!(after[target], *server, "/{target} has moved for nothing");
        }
    }
}

#[tokio::test]
async fn backups_are_asked_only_when_no_other_server_can_be() {
    let origins = numbered(2).await;
    let (reserved, absent) = nobody();
    let servers = format!(
        "[upstreams.origin]\nservers = [\"{absent}\", {{ url = \"{}\", backup = true }}]\n",
        origins[1].url()
    );
    let gateway = Gateway::setup_before(&[]).upstreams(&servers).start().await;
    gateway.get("/1").await.code(200).body("1");
    drop(reserved);

    let gateway = setup(&origins, &["", ", backup = true"], "").start().await;
    for (_, server) in placed(&gateway, 20).await {
        assert_eq!(server, "0");
    }
}
