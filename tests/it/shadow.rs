//! A second policy beside the route's own: what `GET /shadow` says it would change, and that nothing
//! changes.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::plugin::{SPIN, fixture};
use crate::support::until;

const NORMALISED: &str = "[policies.plain]\nplugin = \"bundled:normalise-query\"\ntime = \"10s\"\n";

/// One route, with these policies and lines.
async fn start(origin: &Origin, policies: &str, lines: &str) -> Gateway {
    let route = format!(
        "[[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{lines}\n"
    );
    Gateway::setup(origin).routes(&format!("{policies}\n{route}")).start().await
}

async fn shadows(gateway: &Gateway) -> Value {
    let got = gateway.admin("GET", "/shadow").send().await.code(200);
    serde_json::from_slice(&got.body).unwrap()
}

/// The comparison on the route, once so many requests have been compared.
async fn compared(gateway: &Gateway, requests: u64) -> Value {
    until("the shadow has answered", || {
        let answering = gateway.service().gateway();
        let mut shadows = answering.shadows();
        shadows.next().is_some_and(|(_, it)| json!(it)["requests"] == requests)
    })
    .await;
    shadows(gateway).await["all"].take()
}

fn fields<'a>(value: &'a Value, names: &[&str]) -> Vec<&'a Value> {
    names.iter().map(|name| &value[*name]).collect()
}

#[tokio::test]
async fn a_shadow_tells_what_it_would_share_and_changes_nothing() {
    let origin = Origin::start().await;
    let gateway = start(&origin, NORMALISED, "shadow = \"plain\"").await;
    // The order of parameters does not matter to this API; `utm_source` does, whoever believes it.
    for (target, body) in [
        ("/a?x=1&y=2", "a"),
        ("/a?y=2&x=1", "a"),
        ("/b?utm_source=mail", "from a mail"),
        ("/b", "plain"),
    ] {
        origin.on(target).reply(ok(body).max_age(600));
        gateway.get(target).await.body(body).status("fwd=uri-miss; stored");
    }
    gateway.get("/b").await.body("plain").status("hit");

    let told = compared(&gateway, 5).await;
    assert_eq!(
        fields(&told, &["policy", "share", "merged", "split"]),
        [&json!("plain"), &json!(1.0), &json!(3), &json!(0)]
    );
    let figures = ["hits", "misses", "keys", "bypasses", "failures", "hit_rate"];
    let active = fields(&told["active"], &figures);
    assert_eq!(json!(active), json!([1, 4, 4, 0, 0, 20.0]), "{told}");
    let shadow = fields(&told["shadow"], &figures);
    assert_eq!(json!(shadow), json!([3, 2, 2, 0, 0, 60.0]), "{told}");
    // The first merge would have been right, the second would have answered wrongly.
    let expected = json!([
        { "kind": "merged", "request": "/a?y=2&x=1", "with": "/a?x=1&y=2",
          "active": "a?y=2&x=1", "shadow": "a?x=1&y=2", "contents_differ": false },
        { "kind": "merged", "request": "/b", "with": "/b?utm_source=mail",
          "active": "b", "shadow": "b", "contents_differ": true },
    ]);
    assert_eq!(told["disagreements"], expected, "{told}");
    assert_eq!(gateway.figure("policy_failures"), 0);
}

#[tokio::test]
async fn a_shadow_that_would_share_less_is_told_by_its_splits() {
    let origin = Origin::start().await;
    let policies = format!(
        "{NORMALISED}[policies.all]\nplugin = \"bundled:normalise-query\"\ntime = \"10s\"\n\
         config = {{ drop = [\"nothing\"] }}\n"
    );
    let gateway = start(&origin, &policies, "key = \"plain\"\nshadow = \"all\"").await;
    origin.on("/a?utm_source=1").reply(ok("a").max_age(600));
    gateway.get("/a?utm_source=1").await.status("fwd=uri-miss; stored");
    gateway.get("/a?utm_source=2").await.body("a").status("hit");

    let told = compared(&gateway, 2).await;
    assert_eq!(json!(fields(&told, &["merged", "split"])), json!([0, 1]), "{told}");
    let expected = json!([
        { "kind": "split", "request": "/a?utm_source=2", "with": "/a?utm_source=1",
          "active": "a", "shadow": "a?utm_source=2", "contents_differ": null },
    ]);
    assert_eq!(told["disagreements"], expected, "{told}");
}

#[tokio::test]
async fn a_shadow_that_fails_or_never_ends_holds_up_nobody() {
    for (what, key) in [("loops", SPIN), ("traps", "unreachable")] {
        let origin = Origin::start().await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), fixture(&[("key", key)])).unwrap();
        let policies =
            format!("[policies.bad]\nplugin = \"{}\"\ntime = \"50ms\"\n", file.path().display());
        let gateway = start(&origin, &policies, "shadow = \"bad\"").await;
        origin.on("/bad").reply(ok("bad").max_age(600));
        gateway.get("/bad").await.body("bad").status("fwd=uri-miss; stored");
        gateway.get("/bad").await.body("bad").status("hit");

        let told = compared(&gateway, 2).await;
        assert_eq!(told["shadow"]["failures"], 2, "it {what}: {told}");
        assert_eq!(told["disagreements"][0]["kind"], "failed", "it {what}: {told}");
        // It is not the route's policy that failed.
        assert_eq!(gateway.figure("policy_failures"), 0, "it {what}");
    }
}

#[tokio::test]
async fn a_shadow_is_asked_about_a_share_of_all_paths() {
    let origin = Origin::start().await;
    for (share, least, most) in [("0", 0, 0), ("0.5", 20, 80), ("1", 100, 100)] {
        let lines = format!("shadow = \"plain\"\nshadow_share = {share}");
        let gateway = start(&origin, NORMALISED, &lines).await;
        for number in 0..100 {
            let target = format!("/{number}");
            origin.on(&target).reply(ok("").max_age(600));
            gateway.get(&target).await.code(200);
        }
        // A shadow that has not been asked yet by now is waited for.
        let asked = || {
            json!(gateway.service().gateway().shadows().next().unwrap().1)["requests"]
                .as_u64()
                .unwrap()
        };
        until("the shadow was asked", || asked() >= least).await;
        assert!(asked() <= most, "a share of {share} is {}", asked());
    }
}

#[tokio::test]
async fn without_a_shadow_there_is_nothing_to_tell() {
    let origin = Origin::start().await;
    let gateway = start(&origin, "", "").await;
    gateway.get("/a").await;
    assert_eq!(shadows(&gateway).await, json!({}));
}
