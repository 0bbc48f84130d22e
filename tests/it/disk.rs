//! L2 on a disk: what a gateway that starts again finds, and what it must not find, however the one
//! before it ended.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::client::{Ask, Got};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok, status};
use crate::support::program::{self, Running};
use crate::support::tiers::NO_L1;
use crate::support::{PATIENCE, secs, until};

/// With nothing but L2.
fn alone(origin: &Origin, folder: &Path, lines: &str) -> Setup {
    Gateway::setup(origin).cache(NO_L1).disk(folder, lines)
}

/// Files below a folder, by size.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        match entry.metadata().unwrap() {
            it if it.is_dir() => found.extend(files(&entry.path())),
            it => found.push((entry.path(), it.len())),
        }
    }
    found
}

/// The files that large responses lie in.
fn large(folder: &Path) -> Vec<PathBuf> {
    files(&folder.join("large")).into_iter().map(|(path, _)| path).collect()
}

fn octets(gateway: &Gateway) -> u64 {
    gateway.l2().octets.unwrap()
}

#[tokio::test]
async fn gateway_that_starts_again_finds_what_it_stored() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let start = || Gateway::setup(&origin).disk(folder.path(), "").start();
    let gateway = start().await;
    let contents = [("/small", 100), ("/middling", 30_000), ("/large", 200_000)];
    for (target, octets) in contents {
        let content = target.repeat(octets / target.len());
        origin.on(target).reply(ok(content.clone()).max_age(600).etag("v1"));
        gateway.get(target).await.body(&content).status("fwd=uri-miss; stored");
        gateway.get(target).await.body(&content).status("hit");
    }
    assert_eq!((gateway.figure("l1_hits"), gateway.figure("l2_hits")), (3, 0));
    gateway.drain().await;
    assert_eq!(large(folder.path()).len(), 1);

    origin.clock().advance(secs(100));
    let gateway = start().await;
    for (target, octets) in contents {
        let content = target.repeat(octets / target.len());
        gateway.get(target).await.body(&content).status("hit").has("age", "100");
        // It moved up.
        gateway.get(target).await.body(&content).status("hit");
        origin.saw(target, 1);
    }
    assert_eq!((gateway.figure("l2_hits"), gateway.figure("l1_hits")), (3, 3));
    // Both tiers keep it no longer than it is of use.
    origin.clock().advance(secs(501));
    origin.on("/small").with("if-none-match", "\"v1\"").reply(status(304).max_age(600));
    gateway.get("/small").await.code(200).status("fwd=stale; fwd-status=304; stored");
}

#[tokio::test]
async fn variants_and_freshened_responses_are_there_after_a_restart() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let start = || alone(&origin, folder.path(), "compression = \"lz4\"").start();
    let gateway = start().await;
    for language in ["de", "en"] {
        let reply = ok(language.repeat(2000)).max_age(60).etag(language);
        let reply = reply.field("vary", "accept-language");
        origin.on("/a").with("accept-language", language).reply(reply);
    }
    let ask = |gateway: &Gateway, language: &str| {
        gateway.ask("GET", "/a").field("accept-language", language).send()
    };
    ask(&gateway, "de").await.body(&"de".repeat(2000)).status("fwd=uri-miss; stored");
    gateway.settled().await;
    ask(&gateway, "en").await.body(&"en".repeat(2000)).status("fwd=vary-miss; stored");
    gateway.drain().await;

    let gateway = start().await;
    ask(&gateway, "de").await.body(&"de".repeat(2000)).status("hit");
    ask(&gateway, "en").await.body(&"en".repeat(2000)).status("hit");
    origin.saw("/a", 2);
    origin.clock().advance(secs(61));
    let freshened = status(304).max_age(60).etag("de");
    origin.on("/a").with("if-none-match", "\"de\", \"en\"").reply(freshened);
    ask(&gateway, "de").await.body(&"de".repeat(2000)).status("fwd=stale; fwd-status=304; stored");
    gateway.drain().await;

    let gateway = start().await;
    ask(&gateway, "de").await.body(&"de".repeat(2000)).status("hit").has("age", "0");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn what_was_invalidated_stays_so_after_a_restart() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let start = || Gateway::setup(&origin).disk(folder.path(), "").start();
    let gateway = start().await;
    for target in ["/written", "/purged", "/soft", "/kept"] {
        origin.on(target).reply(ok("1").etag("v1").max_age(600));
        gateway.get(target).await.status("fwd=uri-miss; stored");
    }
    origin.on("/written").method("PUT").reply(status(204));
    gateway.ask("PUT", "/written").send().await.code(204);
    for call in ["/pattern/*purged?wait=10s", "/pattern/*soft?soft=true&wait=10s"] {
        let purge = told(&gateway.admin("DELETE", call).send().await.code(200));
        assert_eq!((&purge["shared"], &purge["complete"]), (&true.into(), &true.into()));
    }
    let place = gateway.store().log_position;
    gateway.drain().await;

    // Twice: the log itself outlives a restart, too.
    for _ in 0..2 {
        let gateway = start().await;
        assert_eq!(gateway.store().log_position, place);
        gateway.get("/kept").await.body("1").status("hit");
        for target in ["/written", "/purged", "/soft"] {
            let ask = gateway.ask("GET", target).field("cache-control", "only-if-cached");
            ask.send().await.code(504);
        }
        gateway.drain().await;
    }
    let gateway = start().await;
    origin.on("/soft").with("if-none-match", "\"v1\"").reply(status(304).etag("v1").max_age(600));
    gateway.get("/soft").await.body("1").status("fwd=stale; fwd-status=304; stored");
    // Places go on from where they were.
    gateway.admin("POST", "/clear").send().await.code(200);
    assert!(gateway.store().log_position > place);
    gateway.get("/kept").await.status("fwd=uri-miss; stored");
    gateway.drain().await;

    let gateway = start().await;
    gateway.get("/kept").await.status("hit");
    gateway.get("/soft").await.status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn response_whose_fetch_began_before_a_write_is_not_served() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let gateway = alone(&origin, folder.path(), "").start().await;
    let held = origin.on("/a").hold(ok("old").max_age(600));
    let fetching = tokio::spawn(gateway.ask("GET", "/a").send());
    until("the origin is asked", || origin.count("/a") == 1).await;
    gateway.admin("POST", "/clear").send().await.code(200);
    held.release();
    fetching.await.unwrap().body("old");
    gateway.settled().await;
    origin.on("/a").reply(ok("new").max_age(600));
    gateway.get("/a").await.body("new").status("fwd=uri-miss; stored");
    gateway.settled().await;
    gateway.get("/a").await.body("new").status("hit");
}

#[tokio::test]
async fn room_is_kept_by_removing_what_ends_first() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let lines = "capacity = \"16MiB\"";
    let gateway = alone(&origin, folder.path(), lines).start().await;
    let content = |number: u32| {
        // 20,000 octets take a page of 32 KiB; every fourth is a file.
        number.to_string().repeat(if number.is_multiple_of(4) { 30_000 } else { 5_000 })
    };
    for number in 1000..1600_u32 {
        let target = format!("/{number}");
        origin.on(&target).reply(ok(content(number)).max_age(600 + u64::from(number)));
        gateway.get(&target).await.status("fwd=uri-miss; stored");
        gateway.settled().await;
    }
    until("room is made", || octets(&gateway) <= 16 << 20).await;
    assert!(gateway.l2().evicted > 100, "{:?}", gateway.l2());
    assert!(octets(&gateway) > 12 << 20, "{:?}", gateway.l2());
    gateway.get("/1599").await.body(&content(1599)).status("hit");
    gateway.get("/1000").await.body(&content(1000)).status("fwd=uri-miss; stored");
    gateway.drain().await;
    let there: u64 = files(folder.path()).iter().map(|(_, octets)| octets).sum();
    // What was overwritten is free again after a second, so the file is somewhat larger than its content.
    assert!(there < 32 << 20, "{there}");

    // What was counted is known after a restart.
    let gateway = alone(&origin, folder.path(), lines).start().await;
    assert!(octets(&gateway) > 12 << 20 && octets(&gateway) <= 16 << 20, "{:?}", gateway.l2());
    // All of it ends, and goes without being asked for.
    origin.clock().advance(secs(3601));
    // However much is invalidated in the meantime.
    let sweeping = async {
        while octets(&gateway) != 0 {
            gateway.admin("DELETE", "/pattern/nothing").send().await.code(200);
        }
    };
    tokio::time::timeout(PATIENCE, sweeping).await.expect("what has ended is swept");
    assert!(large(folder.path()).is_empty());
}

#[tokio::test]
async fn disk_keeps_a_response_no_longer_than_its_ttl() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let start = |lines: &'static str| alone(&origin, folder.path(), lines).start();
    origin.on("/a").reply(ok("1").max_age(36_000));
    let gateway = start("ttl = \"1h\"").await;
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.drain().await;
    // More is left than anything put now would have: so it is after the clock was set back.
    let gateway = start("ttl = \"30m\"").await;
    gateway.ask("GET", "/a").field("cache-control", "only-if-cached").send().await.code(504);
    gateway.drain().await;

    let gateway = start("ttl = \"1h\"").await;
    gateway.get("/a").await.body("1").status("hit");
    origin.clock().advance(secs(3599));
    gateway.get("/a").await.status("hit").has("age", "3599");
    origin.clock().advance(secs(1));
    gateway.get("/a").await.status("fwd=uri-miss; stored").lacks("age");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn response_above_the_limit_stays_off_the_disk() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let gateway = Gateway::setup(&origin).disk(folder.path(), "max_size = \"1KiB\"").start().await;
    origin.on("/large").reply(ok("x".repeat(1024)).max_age(600));
    gateway.get("/large").await.status("fwd=uri-miss; stored");
    gateway.get("/large").await.status("hit");
    assert_eq!((gateway.figure("l1_hits"), gateway.l2().too_large, octets(&gateway)), (1, 1, 0));
}

#[tokio::test]
async fn large_response_that_is_not_whole_makes_a_miss() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let gateway = alone(&origin, folder.path(), "").start().await;
    let content = "0123456789".repeat(10_000);
    origin.on("/a").reply(ok(content.clone()).max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.settled().await;
    let [file] = &*large(folder.path()) else { panic!("{:?}", large(folder.path())) };
    let whole = fs::read(file).unwrap();
    let mut changed = whole.clone();
    changed[90_000] ^= 1;
    for (what, octets, damaged) in [
        ("one octet is not as it was", changed, 1),
        ("it is cut", whole[..50_000].to_vec(), 2),
        ("it is empty", Vec::new(), 3),
    ] {
        gateway.get("/a").await.body(&content).status("hit");
        fs::write(file, octets).unwrap();
        gateway.get("/a").await.body(&content).status("fwd=uri-miss; stored");
        gateway.settled().await;
        assert_eq!(gateway.l2().damaged_frames, damaged, "{what}");
    }
    gateway.get("/a").await.body(&content).status("hit");
    fs::remove_file(file).unwrap();
    gateway.get("/a").await.body(&content).status("fwd=uri-miss; stored");
    gateway.settled().await;
    assert_eq!((gateway.l2().damaged_frames, gateway.l2().errors), (3, 0));
    // A small one takes its place.
    origin.clock().advance(secs(601));
    origin.on("/a").reply(ok("small").max_age(600));
    gateway.get("/a").await.body("small");
    gateway.settled().await;
    until("the file is gone", || large(folder.path()).is_empty()).await;
    gateway.get("/a").await.body("small").status("hit");
}

#[tokio::test]
async fn file_that_no_response_is_in_is_removed_at_the_start() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let gateway = alone(&origin, folder.path(), "").start().await;
    origin.on("/a").reply(ok("x".repeat(100_000)).max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.drain().await;
    let [file] = &*large(folder.path()) else { panic!("{:?}", large(folder.path())) };
    let name = file.file_name().unwrap().to_str().unwrap();
    let (head, last) = name.split_at(63);
    let orphan = file.with_file_name(format!("{head}{}", if last == "0" { "1" } else { "0" }));
    fs::copy(file, &orphan).unwrap();

    let gateway = alone(&origin, folder.path(), "").start().await;
    until("the orphan is removed", || !orphan.exists()).await;
    gateway.get("/a").await.status("hit");
}

#[tokio::test]
async fn damaged_database_is_put_aside_and_begun_anew() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let database = folder.path().join("larder.redb");
    origin.on("/a").reply(ok("1").max_age(6000));
    origin.on("/b").reply(ok("1").max_age(6000));
    alone(&origin, folder.path(), "").start().await.drain().await;
    let whole = fs::read(&database).unwrap();
    let mut changed = whole.clone();
    changed[..64].fill(0x5a);
    for (what, octets) in [
        ("another's", b"garbage".repeat(5000)),
        ("its beginning is not as it was", changed),
        ("cut", whole[..6000].to_vec()),
    ] {
        fs::write(&database, octets).unwrap();
        let gateway = alone(&origin, folder.path(), "").start().await;
        gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");
        gateway.settled().await;
        gateway.get("/a").await.body("1").status("hit");
        gateway.drain().await;
        assert!(folder.path().join("larder.redb.damaged").exists(), "{what}");
        fs::remove_file(folder.path().join("larder.redb.damaged")).unwrap();
    }
}

fn told(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

/// For a program of its own, which can be killed.
fn gateway_toml(origin: &Origin, folder: &Path, lines: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         {NO_L1}[cache.l2]\ndisk = \"{}\"\ntimeout = \"10s\"\n{lines}\n\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        folder.display(),
        origin.url()
    )
}

async fn get(larder: &Running, target: &str) -> Got {
    Ask::new(larder.address(), "GET", target).field("host", "shop.example").send().await
}

async fn admin(larder: &Running, method: &str, target: &str) -> Got {
    Ask::new(larder.admin(), method, target).send().await.code(200)
}

async fn l2(larder: &Running) -> Value {
    larder.stats().await["store"]["l2"].take()
}

async fn settled(larder: &Running) {
    let settling = async { while l2(larder).await["writing"] != 0 {} };
    tokio::time::timeout(PATIENCE, settling).await.expect("L2 is never written");
}

#[tokio::test]
async fn purge_that_was_answered_outlives_a_kill() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let toml = gateway_toml(&origin, folder.path(), "");
    origin.on("/kept").reply(ok("kept").max_age(600));
    let mut larder = Running::with(&toml).await;
    get(&larder, "/kept").await.status("fwd=uri-miss; stored");
    let mut places = Vec::new();
    for round in 0..5 {
        let (target, old) = (format!("/{round}"), format!("old {round}"));
        origin.on(&target).reply(ok(old.clone()).max_age(600));
        get(&larder, &target).await.body(&old).status("fwd=uri-miss; stored");
        settled(&larder).await;
        get(&larder, &target).await.body(&old).status("hit");
        let purge = admin(&larder, "DELETE", &format!("/pattern/{round}")).await;
        assert_eq!(told(&purge)["shared"], true);
        places.push(told(&purge)["id"].clone());
        // SIGKILL, right after the answer.
        drop(larder);

        larder = Running::with(&toml).await;
        let new = format!("new {round}");
        origin.on(&target).reply(ok(new.clone()).max_age(600));
        get(&larder, &target).await.body(&new).status("fwd=uri-miss; stored");
        // The record was made durable, and what was written before it with it.
        get(&larder, "/kept").await.body("kept").status("hit");
    }
    let ordered: Vec<u64> = places
        .iter()
        .map(|place| place.as_str().unwrap().trim_start_matches("0-").parse().unwrap())
        .collect();
    assert!(ordered.is_sorted_by(|a, b| a < b), "{ordered:?}");
    origin.saw("/kept", 1);
}

#[tokio::test]
async fn kill_at_any_moment_leaves_nothing_wrong() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let toml = gateway_toml(&origin, folder.path(), "capacity = \"16MiB\"");
    let content = |number: usize| {
        format!("{number},").repeat(if number.is_multiple_of(3) { 40_000 } else { 300 })
    };
    for number in 0..40 {
        origin.on(&format!("/{number}")).reply(ok(content(number)).max_age(600));
    }
    let mut hits = 0;
    for round in 0..6 {
        let larder = Running::with(&toml).await;
        for number in 0..40 {
            let got = get(&larder, &format!("/{number}")).await.body(&content(number));
            hits += u64::from(got.headers["cache-status"].to_str().unwrap().contains("hit"));
        }
        // The later the round, the longer something has been written when the kill comes.
        for _ in 0..round * 5 {
            get(&larder, "/0").await.body(&content(0));
        }
        if round == 3 {
            settled(&larder).await;
            admin(&larder, "DELETE", "/pattern/nothing").await;
        }
        let l2 = l2(&larder).await;
        assert_eq!((&l2["errors"], &l2["up"]), (&0.into(), &true.into()), "{l2}");
        drop(larder);
        assert!(!folder.path().join("larder.redb.damaged").exists());
    }
    // At the latest in the rounds after everything was made durable.
    assert!(hits >= 80, "{hits}");
}

#[tokio::test]
async fn disk_that_is_full_stops_no_request_and_brings_nothing_back() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let toml = gateway_toml(&origin, folder.path(), "");
    origin.on("/first").reply(ok("old").max_age(6000));
    let content = "x".repeat(50_000);
    for number in 0..100 {
        origin.on(&format!("/{number}")).reply(ok(content.clone()).max_age(600));
    }
    let mut larder = Running::with_short_files(&toml, 2048).await;
    get(&larder, "/first").await.body("old").status("fwd=uri-miss; stored");
    settled(&larder).await;
    admin(&larder, "DELETE", "/pattern/nothing").await;
    for number in 0..100 {
        get(&larder, &format!("/{number}")).await.body(&content);
    }
    larder.says("L2 cannot be read or written on the disk").await;
    assert_ne!(l2(&larder).await["errors"], 0);
    for number in 0..100 {
        get(&larder, &format!("/{number}")).await.body(&content);
    }
    // It may not fit, but then it is not needed either.
    let purge = Ask::new(larder.admin(), "DELETE", "/pattern/*first").send().await;
    assert_eq!(told(&purge)["shared"], true, "{purge:?}");
    origin.on("/first").reply(ok("new").max_age(6000));
    get(&larder, "/first").await.body("new");
    drop(larder);

    // With room again.
    let larder = Running::with(&toml).await;
    origin.on("/first").reply(ok("newer").max_age(6000));
    let got = get(&larder, "/first").await;
    assert!(got.body == "new" || got.body == "newer", "{got:?}");
    get(&larder, "/50").await.body(&content);
    settled(&larder).await;
    get(&larder, "/50").await.body(&content).status("hit");
}

#[tokio::test]
async fn folder_that_cannot_be_used_is_told_at_the_start() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let disk = folder.path().join("l2");
    let toml = gateway_toml(&origin, &disk, "");
    let first = Running::with(&toml).await;
    let failing = |toml: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("gateway.toml"), toml).unwrap();
        program::larder(folder.path(), &["run"])
    };
    let ran = failing(&toml);
    let message = format!(
        "`[cache.l2] disk` cannot be used: the folder `{}` is in use by another process",
        disk.display()
    );
    assert_eq!((ran.code, ran.err.trim_end().ends_with(&message)), (Some(1), true), "{}", ran.err);
    drop(first);

    fs::write(folder.path().join("file"), "").unwrap();
    let ran = failing(&gateway_toml(&origin, &folder.path().join("file/l2"), ""));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("cannot be used: Not a directory"), "{}", ran.err);
    Running::with(&toml).await;
}
