//! Changes of documents, as invalidations: by the rule, by a policy, over restarts, and where history is
//! lost.

use std::io::Write as _;

use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::support::client::Got;
use crate::support::gateway::{Gateway, Setup};
use crate::support::mongodb::MongoDb;
use crate::support::origin::{Origin, ok};
use crate::support::plugin::fixture;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, secs, until};

/// The users of the database `app`: one by one, and all.
pub(crate) const ROUTES: &str = r#"
[[routes]]
name = "user"
path = "/users/{id}"
document = { mongodb = "shop", database = "app", collection = "users", find = { _id = "{id}" }, missing_ttl = "1h" }
ttl = "1h"
[[routes]]
name = "users"
path = "/users"
document = { mongodb = "shop", database = "app", collection = "users", find = {}, many = true, sort = ["_id"] }
ttl = "1h"
"#;

pub(crate) const OF_USERS: &str =
    "[[changes]]\nmongodb = \"shop\"\ndatabase = \"app\"\ncollections = [\"users\"]\n";

pub(crate) fn setup(uri: &str, changes: &str) -> Setup {
    Gateway::setup_of_documents(uri).routes(&format!("{ROUTES}{changes}"))
}

pub(crate) async fn insert(mongodb: &MongoDb, documents: impl IntoIterator<Item = Document>) {
    mongodb.collection("users").insert_many(documents).await.unwrap();
}

pub(crate) async fn set(mongodb: &MongoDb, id: &str, n: i32) {
    let (find, set) = (doc! { "_id": id }, doc! { "$set": { "n": n } });
    mongodb.collection("users").update_one(find, set).await.unwrap();
}

pub(crate) fn user(id: &str, n: i32) -> Document {
    doc! { "_id": id, "n": n }
}

pub(crate) fn shown(id: &str, n: i32) -> String {
    format!("{{\"_id\":\"{id}\",\"n\":{n}}}")
}

/// Asks until this is the answer.
pub(crate) async fn shows(gateway: &Gateway, target: &str, body: &str) -> Got {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got = gateway.get(target).await;
        if got.body == body.as_bytes() {
            return got;
        }
        assert!(Instant::now() < deadline, "{target}: {got:?} instead of {body}");
        sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Asks until it is no hit.
async fn is_gone(gateway: &Gateway, target: &str) -> Got {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got = gateway.get(target).await;
        if !got.cache_status().contains("hit") {
            return got;
        }
        assert!(Instant::now() < deadline, "{target} is still a hit");
        sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(crate) async fn hits(gateway: &Gateway, target: &str) {
    gateway.get(target).await;
    gateway.get(target).await.status("hit");
}

#[tokio::test]
async fn a_change_is_seen_at_once_and_touches_nothing_else() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1), user("2", 1)]).await;
    let gateway = setup(&mongodb.uri(), OF_USERS).start().await.watches().await;
    for target in ["/users/1", "/users/2", "/users/3", "/users"] {
        hits(&gateway, target).await;
    }
    set(&mongodb, "1", 2).await;
    shows(&gateway, "/users/1", &shown("1", 2)).await;
    shows(&gateway, "/users", &format!("[{},{}]", shown("1", 2), shown("2", 1))).await;
    gateway.get("/users/2").await.status("hit");
    gateway.get("/users/3").await.status("hit").code(404);

    insert(&mongodb, [user("3", 1)]).await;
    shows(&gateway, "/users/3", &shown("3", 1)).await;
    mongodb.collection("users").delete_one(doc! { "_id": "2" }).await.unwrap();
    is_gone(&gateway, "/users/2").await.code(404);
    let all = format!("[{},{}]", shown("1", 2), shown("3", 1));
    shows(&gateway, "/users", &all).await;
    mongodb.collection("users").replace_one(doc! { "_id": "1" }, doc! { "n": 3 }).await.unwrap();
    shows(&gateway, "/users/1", &shown("1", 3)).await;

    let figures = gateway.changes();
    assert_eq!((figures.events, figures.lost, figures.policy_failures), (4, 0, 0));
    let stats = gateway.stats().await;
    assert_eq!(stats["changes"]["shop.app.users"]["watching"], true, "{stats}");
    // Another collection is none of its business.
    mongodb.collection("others").insert_one(user("1", 1)).await.unwrap();
    set(&mongodb, "3", 2).await;
    shows(&gateway, "/users/3", &shown("3", 2)).await;
    assert_eq!(gateway.changes().events, 5);
}

#[tokio::test]
async fn databases_and_deployments_are_watched_as_collections_are() {
    for changes in [
        "[[changes]]\nmongodb = \"shop\"\n",
        "[[changes]]\nmongodb = \"shop\"\ndatabase = \"app\"\n",
        "[[changes]]\nmongodb = \"shop\"\ndatabase = \"app\"\ncollections = [\"others\", \"users\"]\n",
    ] {
        let mongodb = MongoDb::start().await;
        insert(&mongodb, [user("1", 1)]).await;
        let gateway = setup(&mongodb.uri(), changes).start().await.watches().await;
        hits(&gateway, "/users/1").await;
        set(&mongodb, "1", 2).await;
        shows(&gateway, "/users/1", &shown("1", 2)).await;
        mongodb.collection("users").drop().await.unwrap();
        is_gone(&gateway, "/users/1").await.code(404);
        insert(&mongodb, [user("1", 3)]).await;
        shows(&gateway, "/users/1", &shown("1", 3)).await;
        assert_eq!(gateway.changes().lost, 0, "{changes}");
    }
}

#[tokio::test]
async fn a_filter_leaves_changes_out_but_none_of_a_whole_collection() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1), user("2", 1)]).await;
    let filter = "match = { operationType = { \"$in\" = [\"insert\", \"update\"] }, \"documentKey._id\" = \"1\" }\n";
    let changes = format!("{OF_USERS}{filter}");
    let gateway = setup(&mongodb.uri(), &changes).start().await.watches().await;
    hits(&gateway, "/users/1").await;
    hits(&gateway, "/users/2").await;
    set(&mongodb, "2", 2).await;
    set(&mongodb, "1", 2).await;
    shows(&gateway, "/users/1", &shown("1", 2)).await;
    gateway.get("/users/2").await.status("hit").body(&shown("2", 1));
    mongodb.collection("users").drop().await.unwrap();
    is_gone(&gateway, "/users/2").await.code(404);
}

#[tokio::test]
async fn what_is_dropped_or_renamed_is_invalidated_and_watched_on() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1)]).await;
    let gateway = setup(&mongodb.uri(), OF_USERS).start().await.watches().await;
    let rename = |from: &str, to: &str| {
        let (from, to) = (format!("app.{from}"), format!("app.{to}"));
        doc! { "renameCollection": from, "to": to }
    };
    let admin = mongodb.client().database("admin");
    hits(&gateway, "/users/1").await;
    hits(&gateway, "/users").await;
    admin.run_command(rename("users", "former")).await.unwrap();
    is_gone(&gateway, "/users/1").await.code(404);
    shows(&gateway, "/users", "[]").await;
    // It is made anew, and watched all the same.
    insert(&mongodb, [user("1", 2)]).await;
    shows(&gateway, "/users/1", &shown("1", 2)).await;
    set(&mongodb, "1", 3).await;
    shows(&gateway, "/users/1", &shown("1", 3)).await;
    mongodb.database().drop().await.unwrap();
    is_gone(&gateway, "/users/1").await.code(404);
    insert(&mongodb, [user("1", 4)]).await;
    shows(&gateway, "/users/1", &shown("1", 4)).await;
    assert_eq!(gateway.changes().lost, 0);
}

#[tokio::test]
async fn a_policy_says_what_changes_invalidate() {
    let (mongodb, origin) = (MongoDb::start().await, Origin::start().await);
    let posts = mongodb.collection("posts");
    let images = doc! { "collMod": "posts", "changeStreamPreAndPostImages": { "enabled": true } };
    posts.insert_one(doc! { "_id": 7, "author": "ada" }).await.unwrap();
    mongodb.database().run_command(images).await.unwrap();
    for (target, tags) in [
        ("/posts/7", "posts posts:7"),
        ("/posts/8", "posts posts:8"),
        ("/authors/ada", "posts author:ada"),
        ("/authors/bob", "posts author:bob"),
    ] {
        origin.on(target).reply(ok(target).max_age(3600).field("surrogate-key", tags));
    }
    let readme = include_str!("../../plugins/document-changes/README.md");
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let gateway = Gateway::setup(&origin)
        .upstream(&format!("[mongodb.blog]\nuri = \"{}\"", mongodb.uri()))
        .route(&example.replace("\nconfig =", "\ntime = \"10s\"\nconfig ="))
        .start()
        .await
        .watches()
        .await;
    let targets = ["/posts/7", "/posts/8", "/authors/ada", "/authors/bob"];
    let expect = async |gone: [bool; 4]| {
        for (target, gone) in targets.iter().zip(gone) {
            if gone {
                is_gone(&gateway, target).await;
            } else {
                gateway.get(target).await.status("hit");
            }
        }
    };
    for target in targets {
        hits(&gateway, target).await;
    }
    let change = doc! { "$set": { "author": "bob" } };
    posts.update_one(doc! { "_id": 7 }, change).await.unwrap();
    expect([true, false, true, true]).await;
    posts.delete_one(doc! { "_id": 7 }).await.unwrap();
    expect([true, false, false, true]).await;
    posts.insert_one(doc! { "_id": 8, "author": "ada" }).await.unwrap();
    expect([false, true, true, false]).await;
    posts.drop().await.unwrap();
    expect([true, true, true, true]).await;
    let figures = gateway.changes();
    assert_eq!((figures.policy_failures, figures.lost), (0, 0));
}

/// A gateway that comes back finds what is stored, and every change that there was meanwhile.
async fn comes_back(mongodb: &MongoDb, setup: impl Fn() -> Setup) {
    insert(mongodb, (0..10).map(|id| user(&id.to_string(), 1))).await;
    let gateway = setup().start().await;
    if gateway.store().l2.is_some() {
        gateway.is_in_step().await;
    }
    let gateway = gateway.watches().await;
    for id in 0..10 {
        hits(&gateway, &format!("/users/{id}")).await;
    }
    gateway.settled().await;
    let kept = gateway.changes().events;
    gateway.drain().await;
    for id in 0..5 {
        set(mongodb, &id.to_string(), 2).await;
    }
    let gateway = setup().start().await;
    gateway.is_in_step().await;
    let gateway = gateway.watches().await;
    until("it has heard of each change", || gateway.changes().events == 5).await;
    for id in 0..10 {
        let (target, n) = (format!("/users/{id}"), if id < 5 { 2 } else { 1 });
        let got = gateway.get(&target).await.body(&shown(&id.to_string(), n));
        assert_eq!(got.cache_status().contains("hit"), id >= 5, "{target}: {got:?}");
    }
    let figures = gateway.changes();
    assert_eq!((kept, figures.events, figures.lost), (0, 5, 0));
    gateway.drain().await;
}

#[tokio::test]
async fn changes_from_while_nobody_watched_are_caught_up_with_in_redis() {
    let (mongodb, redis) = (MongoDb::start().await, Redis::start());
    comes_back(&mongodb, || setup(&mongodb.uri(), OF_USERS).redis(&redis)).await;
}

#[tokio::test]
async fn changes_from_while_nobody_watched_are_caught_up_with_on_a_disk() {
    let (mongodb, folder) = (MongoDb::start().await, tempfile::tempdir().unwrap());
    comes_back(&mongodb, || setup(&mongodb.uri(), OF_USERS).disk(folder.path(), "")).await;
}

#[tokio::test]
async fn the_place_is_kept_on_the_disk_also_where_no_change_invalidates_anything() {
    let mongodb = MongoDb::start().await;
    let folder = tempfile::tempdir().unwrap();
    let start = || setup(&mongodb.uri(), OF_USERS).disk(folder.path(), "").start();
    let place = || {
        let mut places = std::fs::read_dir(folder.path().join("changes")).ok()?;
        std::fs::read(places.next()?.ok()?.path()).ok()
    };
    let gateway = start().await.watches().await;
    until("the place is kept", || place().is_some()).await;
    gateway.drain().await;

    let gateway = start().await.watches().await;
    let before = place();
    mongodb.collection("others").insert_one(user("1", 1)).await.unwrap();
    until("the next place is kept", || place() != before).await;
    assert_eq!(gateway.changes().invalidations, 0);
}

#[tokio::test]
async fn history_that_is_lost_invalidates_the_source_once() {
    for (on_lost, status) in [("soft", "fwd=stale"), ("hard", "fwd=uri-miss")] {
        let mongodb = MongoDb::start_with(&["--oplog-max-entries", "200"]).await;
        let redis = Redis::start();
        insert(&mongodb, [user("1", 1), user("2", 1)]).await;
        let changes = format!("{OF_USERS}on_lost = \"{on_lost}\"\n");
        let setup = || setup(&mongodb.uri(), &changes).redis(&redis);
        let gateway = setup().start().await.in_step().await.watches().await;
        hits(&gateway, "/users/1").await;
        hits(&gateway, "/users/2").await;
        gateway.settled().await;
        gateway.drain().await;
        set(&mongodb, "1", 2).await;
        let others = (0..1000).map(|id| user(&id.to_string(), 0));
        mongodb.collection("others").insert_many(others).await.unwrap();
        let gateway = setup().start().await.in_step().await.watches().await;
        until("it knows what it has missed", || gateway.changes().lost == 1).await;
        for (id, n) in [("1", 2), ("2", 1)] {
            let got = gateway.get(&format!("/users/{id}")).await.body(&shown(id, n));
            assert!(got.cache_status().contains(status), "{got:?}");
        }
        // And then it goes on as ever.
        gateway.get("/users/2").await.status("hit");
        set(&mongodb, "2", 2).await;
        shows(&gateway, "/users/2", &shown("2", 2)).await;
        assert_eq!(gateway.changes().lost, 1, "{on_lost}");
        gateway.drain().await;
    }
}

#[tokio::test]
async fn a_server_that_is_killed_or_hangs_is_gone_on_with() {
    let mut mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1)]).await;
    let gateway = setup(&mongodb.uri(), OF_USERS).start().await.watches().await;
    hits(&gateway, "/users/1").await;
    mongodb.kill();
    mongodb.restart().await;
    set(&mongodb, "1", 2).await;
    shows(&gateway, "/users/1", &shown("1", 2)).await;
    mongodb.hold().await;
    sleep(secs(1)).await;
    mongodb.release();
    set(&mongodb, "1", 3).await;
    shows(&gateway, "/users/1", &shown("1", 3)).await;
    assert_eq!(gateway.changes().lost, 0);
}

#[tokio::test]
async fn a_reload_begins_and_ends_watches() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let gateway = setup(&mongodb.uri(), "").start_from(&file).await;
    hits(&gateway, "/users/1").await;
    let reload = async |changes: &str| {
        std::fs::write(&file, setup(&mongodb.uri(), changes).text()).unwrap();
        gateway.admin("POST", "/reload").send().await.code(200);
    };
    set(&mongodb, "1", 2).await;
    reload(OF_USERS).await;
    // It cannot be known what changed before.
    shows(&gateway, "/users/1", &shown("1", 2)).await;
    until("changes are watched", || gateway.changes().watching).await;
    set(&mongodb, "1", 3).await;
    shows(&gateway, "/users/1", &shown("1", 3)).await;
    let events = gateway.changes().events;
    // What is the same goes on, and what has another rule goes on from there.
    reload(&format!("# moved\n{OF_USERS}")).await;
    assert_eq!(gateway.changes().events, events);
    reload(&format!("{OF_USERS}on_lost = \"hard\"\n")).await;
    set(&mongodb, "1", 4).await;
    shows(&gateway, "/users/1", &shown("1", 4)).await;
    assert_eq!((gateway.changes().events, gateway.changes().lost), (events + 1, 0));
    reload("").await;
    let stats = gateway.stats().await;
    assert_eq!(stats["changes"], json!({}));
}

/// Whatever place the former one had, another deployment is watched from now on.
#[tokio::test]
async fn another_deployment_invalidates_what_is_stored_of_the_former() {
    let (former, mongodb) = (MongoDb::start().await, MongoDb::start().await);
    insert(&former, [user("1", 1)]).await;
    insert(&mongodb, [user("1", 2)]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let gateway = setup(&former.uri(), OF_USERS).start_from(&file).await.watches().await;
    hits(&gateway, "/users/1").await;
    std::fs::write(&file, setup(&mongodb.uri(), OF_USERS).text()).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    shows(&gateway, "/users/1", &shown("1", 2)).await;
    until("changes are watched", || gateway.changes().watching).await;
    set(&mongodb, "1", 3).await;
    shows(&gateway, "/users/1", &shown("1", 3)).await;
    assert_eq!(gateway.changes().lost, 0);
}

#[tokio::test]
async fn a_trouble_ends_with_the_watch_that_had_it() {
    let mut mongodb = MongoDb::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let impatient = format!("{}&serverSelectionTimeoutMS=200", mongodb.uri());
    mongodb.kill();
    let gateway = setup(&impatient, OF_USERS).start_from(&file).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got = gateway.admin("GET", "/health").send().await.code(200);
        let told: Value = serde_json::from_slice(&got.body).unwrap();
        if told["changes"][0]["error"].is_string() {
            break;
        }
        assert!(Instant::now() < deadline, "{told}");
        sleep(std::time::Duration::from_millis(5)).await;
    }
    // The next one waits for the server instead, and has no trouble.
    std::fs::write(&file, setup(&mongodb.uri(), OF_USERS).text()).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    mongodb.restart().await;
    let gateway = gateway.watches().await;
    gateway.admin("GET", "/health/ready?needs=changes").send().await.code(200);
}

/// A policy of the text in `places`, asked about posts, beside an API whose responses bear no tags.
async fn before_api(
    mongodb: &MongoDb,
    places: &[(&str, &str)],
    lines: &str,
) -> (Gateway, Origin, NamedTempFile) {
    let (setup, origin, file) = setup_before_api(mongodb, places, lines).await;
    (setup.start().await.watches().await, origin, file)
}

async fn setup_before_api(
    mongodb: &MongoDb,
    places: &[(&str, &str)],
    lines: &str,
) -> (Setup, Origin, NamedTempFile) {
    let origin = Origin::start().await;
    for target in ["/api/1", "/api/1?x=1", "/api/2"] {
        origin.on(target).reply(ok(target).max_age(3600));
    }
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&fixture(places)).unwrap();
    let tables = format!(
        "[policies.written]\nplugin = \"{}\"\n{lines}\n[[changes]]\nmongodb = \"blog\"\n\
         policy = \"written\"\nroutes = [\"all\"]\n",
        file.path().display()
    );
    let setup = Gateway::setup(&origin)
        .upstream(&format!("[mongodb.blog]\nuri = \"{}\"", mongodb.uri()))
        .route(&tables);
    (setup, origin, file)
}

#[tokio::test]
async fn a_path_that_a_policy_names_is_one_of_any_authority() {
    let mongodb = MongoDb::start().await;
    // Whatever changes, this path becomes stale.
    let answer = "(i32.store (i32.const 284) (i32.const 300)) (i32.store (i32.const 288) (i32.const 6)) \
                  (return (i32.const 260))";
    let places = [("more", "(data (i32.const 300) \"/api/1\")"), ("invalidation", answer)];
    let (gateway, _origin, _file) = before_api(&mongodb, &places, "").await;
    let ask = async |host: &str, target: &str| {
        gateway.ask("GET", target).field("host", host).send().await.code(200)
    };
    for host in ["one.example", "two.example"] {
        for target in ["/api/1", "/api/1?x=1", "/api/2"] {
            ask(host, target).await;
            ask(host, target).await.status("hit");
        }
    }
    let before = gateway.changes().invalidations;
    mongodb.collection("posts").insert_one(doc! { "_id": 1 }).await.unwrap();
    until("the change is applied", || gateway.changes().invalidations > before).await;
    for host in ["one.example", "two.example"] {
        ask(host, "/api/1").await.status("fwd=stale; stored");
        ask(host, "/api/1?x=1").await.status("fwd=stale; stored");
        ask(host, "/api/2").await.status("hit");
    }
}

#[tokio::test]
async fn a_policy_that_fails_on_a_change_invalidates_what_depends_on_it() {
    for (on_error, is_kept) in [("bypass", false), ("fail", false), ("default", true)] {
        let mongodb = MongoDb::start().await;
        let line = format!("on_error = \"{on_error}\"");
        let places = [("invalidation", "unreachable")];
        let (gateway, _origin, _file) = before_api(&mongodb, &places, &line).await;
        hits(&gateway, "/api/2").await;
        mongodb.collection("posts").insert_one(doc! { "_id": 1 }).await.unwrap();
        until("the policy has failed", || gateway.changes().policy_failures == 1).await;
        let before = gateway.changes().invalidations;
        mongodb.collection("posts").insert_one(doc! { "_id": 2 }).await.unwrap();
        until("the change is applied", || gateway.changes().invalidations > before).await;
        let got = gateway.get("/api/2").await;
        assert_eq!(got.cache_status().contains("hit"), is_kept, "{on_error}: {got:?}");
    }
}

#[tokio::test]
async fn what_a_failure_of_a_policy_leads_to_is_exchanged_by_a_reload() {
    let mongodb = MongoDb::start().await;
    let places = [("invalidation", "unreachable")];
    let line = "on_error = \"default\"";
    let (setup, _origin, _policy) = setup_before_api(&mongodb, &places, line).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let gateway = setup.start_from(&file).await.watches().await;
    hits(&gateway, "/api/2").await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(line), "{text}");
    std::fs::write(&file, text.replace(line, "on_error = \"fail\"")).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    let before = gateway.changes().invalidations;
    mongodb.collection("posts").insert_one(doc! { "_id": 1 }).await.unwrap();
    until("the change is applied", || gateway.changes().invalidations > before).await;
    assert!(!gateway.get("/api/2").await.cache_status().contains("hit"));
}
