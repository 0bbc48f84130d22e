//! `[warm]`: what a gateway has stored before anybody asks, at its start, after purges and reloads.

use std::fs;
use std::future::ready;
use std::pin::pin;

use larder::server::Drained;
use serde_json::{Value, json};

use crate::support::client::Ask;
use crate::support::gateway::{FLEET, Gateway};
use crate::support::origin::{Origin, ok};
use crate::support::pki::Pki;
use crate::support::program::larder;
use crate::support::redis::Redis;
use crate::support::until;

/// What warming came to, by `GET /stats`.
fn figures(gateway: &Gateway) -> Value {
    let stats = gateway.service().gateway().stats().snapshot();
    serde_json::to_value(stats.warming).unwrap()
}

/// Waits until it has ended for so many times.
async fn has_run(gateway: &Gateway, times: u64) {
    until(&format!("it has run {times} times"), || {
        let figures = figures(gateway);
        figures["runs"] == times && figures["running"] == false
    })
    .await;
}

/// `urls`, for these targets of the host of the fleet.
fn urls(targets: &[&str]) -> String {
    let urls: Vec<_> = targets.iter().map(|target| format!("http://{FLEET}{target}")).collect();
    format!("urls = {urls:?}\n")
}

async fn status(gateway: &Gateway, target: &str) -> String {
    gateway.ask("GET", target).field("host", FLEET).send().await.code(200).cache_status()
}

#[tokio::test]
async fn what_it_names_is_stored_when_the_gateway_has_begun() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    for target in ["/a", "/b", "/c", "/d"] {
        origin.on(target).reply(ok("1").max_age(60).field("vary", "accept-encoding"));
    }
    origin.on("/mine").reply(ok("1").field("cache-control", "private"));
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("list.txt"), format!("http://{FLEET}/b\n\nhttp://{FLEET}/a\n/nowhere\n")).unwrap();
    let page = |target| format!("<url><loc>http://{FLEET}{target}</loc></url>");
    let sitemap = format!("<urlset>{}{}</urlset>", page("/c"), page("/b"));
    origin.on("/sitemap.xml").reply(ok(sitemap));
    let lines = format!(
        "{}list = {:?}\nsitemap = \"https://{FLEET}/sitemap.xml\"\nheaders = [\"Accept-Encoding: gzip\"]\n",
        urls(&["/a", "/mine"]),
        at("list.txt")
    );
    let gateway = Gateway::setup(&origin).warm(&lines).start().await;
    has_run(&gateway, 1).await;
    let expected = json!({ "running": false, "runs": 1, "stored": 3, "hits": 0, "not_warmed": 2 });
    assert_eq!(figures(&gateway), expected);
    assert_eq!(gateway.stats().await["warming"], expected);
    for target in ["/a", "/b", "/c"] {
        origin.saw(target, 1);
        let ask = gateway.ask("GET", target).field("host", FLEET);
        ask.field("accept-encoding", "gzip").send().await.body("1").status("hit");
    }
    // They are the routes' requests as well.
    assert_eq!(gateway.figure("stored"), 3);
    assert!(origin.last("/a").field("user-agent").unwrap().starts_with("larder-warm/"));
}

#[tokio::test]
async fn what_is_for_tls_is_asked_for_with_tls() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("shop", &["shop.example"], "shop");
    for target in ["/a", "/b"] {
        origin.on(target).reply(ok("1").max_age(60));
    }
    let tls = pki.tls("shop");
    let plain = "[[server.listeners]]\nlisten = \"127.0.0.1:0\"";
    let curl = async |gateway: &Gateway, target: &str| {
        // Without the port, which the configuration does not know.
        let told = ["--write-out", " %header{cache-status}", "--header", "host: shop.example"];
        pki.curl(gateway.address(), "shop.example", target, &told).await
    };
    // The second listener is in cleartext; and where there is none, one is enough for both.
    for (more, is_told_by_http) in [(plain, true), ("", false)] {
        let setup = Gateway::setup(&origin).server(&format!("workers = 1\n{tls}")).listening(more);
        let urls = "urls = [\"https://shop.example/a\", \"http://shop.example/b\"]\n";
        let gateway = setup.warm(urls).start().await;
        has_run(&gateway, 1).await;
        assert_eq!((figures(&gateway)["stored"].as_u64(), gateway.figure("stored")), (Some(2), 2));
        assert!(curl(&gateway, "/a").await.starts_with("1 larder; hit"));
        let by_tls = curl(&gateway, "/b").await;
        assert_eq!(by_tls.starts_with("1 larder; hit"), !is_told_by_http, "{by_tls}");
        if is_told_by_http {
            let ask =
                |target| Ask::new(gateway.another(1), "GET", target).field("host", "shop.example");
            ask("/b").send().await.body("1").status("hit");
            ask("/a").send().await.body("1").status("fwd=uri-miss; stored");
        }
    }
}

#[tokio::test]
async fn behind_a_proxy_it_asks_where_others_are_accepted() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let proxy = "workers = 1\nproxy_protocol = { from = [\"10.0.0.0/8\"], others = \"accept\" }";
    let gateway = Gateway::setup(&origin).server(proxy).warm(&urls(&["/a"])).start().await;
    has_run(&gateway, 1).await;
    assert_eq!(status(&gateway, "/a").await, "hit");
}

#[tokio::test]
async fn a_drain_ends_it() {
    let origin = Origin::start().await;
    let held = origin.on("/1").hold(ok("1").max_age(60));
    let lines = urls(&["/1", "/2", "/3"]) + "concurrency = 1\n";
    let gateway = Gateway::setup(&origin).warm(&lines).start().await;
    until("it has begun", || origin.count("/1") == 1).await;
    assert_eq!(figures(&gateway)["running"], true);
    let mut draining = pin!(gateway.drain());
    tokio::select! {
        biased;
        _ = &mut draining => panic!("it does not wait for what is under way"),
        () = ready(()) => held.release(),
    }
    assert_eq!(draining.await, Drained::All);
    origin.saw("/2", 0);
}

#[tokio::test]
async fn what_an_operator_purges_is_fetched_again_by_every_gateway() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    for target in ["/a", "/b"] {
        origin.on(target).reply(ok("1").max_age(60).etag("1"));
    }
    let lines = urls(&["/a", "/b"]) + "when = [\"purge\"]\n";
    let of_fleet = || Gateway::setup(&origin).redis(&redis).warm(&lines).start();
    let (first, second) = (of_fleet().await.in_step().await, of_fleet().await.in_step().await);
    first.get("/a").await.code(200);
    second.get("/b").await.code(200);

    first.admin("DELETE", "/tag/any").send().await.code(200);
    has_run(&first, 1).await;
    has_run(&second, 1).await;
    first.get("/b").await.status("hit");
    second.get("/a").await.status("hit");
    let sum = |name: &str| {
        let figure = |gateway| figures(gateway)[name].as_u64().unwrap();
        figure(&first) + figure(&second)
    };
    assert_eq!((sum("stored") + sum("hits"), sum("not_warmed")), (4, 0));

    // One that begins later reads of purges, and of none that is new.
    let third = of_fleet().await;
    let purges = third.service().gateway().store().purges();
    let third = third.in_step().await;
    assert!(!purges.has_changed().unwrap());
    first.admin("POST", "/clear").send().await.code(200);
    for (gateway, times) in [(&first, 2), (&second, 2), (&third, 1)] {
        has_run(gateway, times).await;
        gateway.get("/a").await.status("hit");
        gateway.get("/b").await.status("hit");
    }
}

#[tokio::test]
async fn writes_and_soft_purges_are_nothing_to_warm_after() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    first.admin("POST", "/clear").send().await.code(200);
    let second = Gateway::of_fleet(&origin, &redis).await;
    let purges = [&first, &second].map(|gateway| gateway.service().gateway().store().purges());
    origin.on("/a").reply(ok("1").max_age(60));
    origin.on("/a").method("POST").reply(ok("2"));
    first.admin("POST", "/clear?soft=true").send().await.code(200);
    first.ask("POST", "/a").send().await.code(200);
    second.has_applied(first.store().log_position).await;
    assert!(purges.iter().all(|purges| !purges.has_changed().unwrap()));
    first.admin("POST", "/clear").send().await.code(200);
    until("both have heard", || purges.iter().all(|it| it.has_changed().unwrap())).await;
}

#[tokio::test]
async fn a_reload_that_changes_it_begins_anew() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("gateway.toml");
    for target in ["/a", "/b"] {
        origin.on(target).reply(ok("1").max_age(60));
    }
    let setup = || Gateway::setup(&origin).server("workers = 1\nwatch = false");
    let gateway = setup().start_from(&toml).await;
    let reload = async |setup: crate::support::gateway::Setup| {
        fs::write(&toml, setup.text()).unwrap();
        gateway.admin("POST", "/reload").send().await.code(200);
    };
    assert_eq!(figures(&gateway)["runs"], 0);
    reload(setup().warm(&urls(&["/a"]))).await;
    has_run(&gateway, 1).await;
    assert_eq!(status(&gateway, "/a").await, "hit");
    // The same once more, and then another.
    reload(setup().route("stale_if_error = \"1m\"").warm(&urls(&["/a"]))).await;
    reload(setup().warm(&urls(&["/b"]))).await;
    has_run(&gateway, 2).await;
    assert_eq!(status(&gateway, "/b").await, "hit");
    reload(setup()).await;
    assert_eq!(figures(&gateway)["runs"], 2);
}

#[test]
fn what_is_no_url_and_no_field_is_told_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "[upstreams.a]\nservers = [\"http://127.0.0.1:1\"]\n\
        [[routes]]\nname = \"a\"\npath = \"/{*rest}\"\nupstream = \"a\"\n\
        [warm]\nurls = [\"http://h/\",\n        \"/a\", \"https://user:hunter2@h/a?hunter2\"]\n\
        sitemap = \"ftp://h/?hunter2\"\n\
        headers = [\"Accept: */*\", \"Authorization hunter2\"]\n";
    fs::write(folder.path().join("gateway.toml"), toml).unwrap();
    let ran = larder(folder.path(), &["check"]);
    let told = "gateway.toml:9:9: [warm]: urls `/a` is not an absolute URL with http or https\n\
        gateway.toml:9:15: [warm]: urls `https://…@h/a?…` names no host that a request could be for\n\
        gateway.toml:10:11: [warm]: sitemap `ftp://h/?…` is not an absolute URL with http or https\n\
        gateway.toml:11:27: [warm]: a header is not a field such as `Accept-Language: de`\n4 faults\n";
    assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(2), told, ""));
}
