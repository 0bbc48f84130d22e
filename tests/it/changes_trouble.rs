//! Changes of documents while everything fails that can: servers, ways, gateways; and what is served
//! meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::changes::{OF_USERS, ROUTES, set, setup, shows};
use crate::support::client::Http2;
use crate::support::gateway::{FLEET, Gateway};
use crate::support::mongodb::MongoDb;
use crate::support::origin::{Origin, ok};
use crate::support::program::Running;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::{nobody, secs, until};

const DOCUMENTS: usize = 10_000;
/// Documents that nobody writes, in another collection that is watched, too.
const QUIET: usize = 50;
/// What is asked at once.
const CROWD: usize = 64;

/// The value that each response shows, all asked for at once in crowds.
async fn values(gateway: &Running, targets: &[String]) -> Vec<Option<(i64, String)>> {
    let client = Http2::to(gateway.address()).await.naming(FLEET);
    let mut values = Vec::new();
    for crowd in targets.chunks(CROWD) {
        let asked: Vec<_> = crowd.iter().map(|target| client.get(target)).collect();
        for got in asked {
            let got = got.await;
            let shown = serde_json::from_slice::<Value>(&got.body).unwrap_or_default();
            values.push(shown["n"].as_i64().map(|n| (n, got.cache_status())));
        }
    }
    values
}

async fn watches(gateway: &Running, label: &str) {
    let deadline = Instant::now() + secs(30);
    loop {
        let changes = gateway.stats().await["changes"][label].clone();
        if changes["watching"] == true && changes["late"] == false {
            return;
        }
        assert!(Instant::now() < deadline, "{changes}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Asks without end for what is being written, so that responses are stored all the time.
fn read_on(gateway: &Running, is_over: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    for first in 0..4 {
        let (address, is_over) = (gateway.address(), Arc::clone(is_over));
        readers.spawn(async move {
            let client = Http2::to(address).await.naming(FLEET);
            let mut id = first;
            while !is_over.load(Ordering::Relaxed) {
                id = (id + 4999) % DOCUMENTS;
                if client.attempt(&format!("/users/{id}")).await.is_err() {
                    return;
                }
            }
        });
    }
    readers
}

/// All are written, a hundred at a time, and again if that fails.
async fn write_all(client: Client) {
    let users = client.database("app").collection::<Document>("users");
    for first in (0..DOCUMENTS).step_by(100) {
        let ids: Vec<_> = (first..first + 100).map(|id| id.to_string()).collect();
        let find = doc! { "_id": { "$in": ids } };
        while users.update_many(find.clone(), doc! { "$set": { "n": 1 } }).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Breaks connections within one answer or another: an event has some hundred octets.
async fn tear(way: &Proxy) {
    for octets in [20_000, 7_777, 1_234] {
        way.tear(octets);
        sleep(Duration::from_millis(100)).await;
    }
    way.mend();
}

/// How often changes were lost, as this gateway knows.
async fn lost(gateway: &Running) -> u64 {
    let stats = gateway.stats().await;
    let changes = stats["changes"].as_object().unwrap().values().next().unwrap();
    changes["lost"].as_u64().unwrap()
}

/// A gateway of users and of what is quiet, to which MongoDB is this way.
fn of_two_collections(way: &Proxy, redis: &Redis) -> String {
    let quiet = ROUTES.replace("users", "quiet").replace("\"user\"", "\"one\"");
    let quiet = quiet.replace("\"quiet\"\npath", "\"all\"\npath");
    let changes = OF_USERS.replace("[\"users\"]", "[\"users\", \"quiet\"]");
    let setup = Gateway::setup_of_documents(&MongoDb::uri_of(way.port()));
    setup.routes(&format!("{ROUTES}{quiet}{changes}")).redis(redis).text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_documents_are_right_after_everything_has_failed() {
    let (mut mongodb, redis) = (MongoDb::start().await, Redis::start());
    let user = |id: usize| doc! { "_id": id.to_string(), "n": 0 };
    mongodb.collection("users").insert_many((0..DOCUMENTS).map(user)).await.unwrap();
    mongodb.collection("quiet").insert_many((0..QUIET).map(user)).await.unwrap();
    let way = Proxy::before_port(mongodb.port()).await;
    let file = of_two_collections(&way, &redis);
    let mut gateway = Running::with(&file).await;
    watches(&gateway, "shop.app.users,quiet").await;
    let targets: Vec<_> = (0..DOCUMENTS).map(|id| format!("/users/{id}")).collect();
    let unchanged: Vec<_> = (0..QUIET).map(|id| format!("/quiet/{id}")).collect();
    assert!(values(&gateway, &targets).await.iter().all(|value| matches!(value, Some((0, _)))));
    values(&gateway, &unchanged).await;

    let writes = tokio::spawn(write_all(mongodb.client().clone()));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut readers = read_on(&gateway, &is_over);
    let mut round: usize = 0;
    while !writes.is_finished() || round < 4 {
        match round % 4 {
            0 => tear(&way).await,
            1 => {
                assert_eq!(lost(&gateway).await, 0);
                drop(gateway);
                gateway = Running::with(&file).await;
                readers = read_on(&gateway, &is_over);
            }
            2 => {
                mongodb.kill();
                mongodb.restart().await;
            }
            _ => {
                way.cut();
                sleep(Duration::from_millis(200)).await;
                way.mend();
            }
        }
        sleep(Duration::from_millis(100)).await;
        round += 1;
    }
    writes.await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    readers.join_all().await;

    // Events come in order: when this one has been applied, all have.
    let users = mongodb.collection("users");
    users.update_one(doc! { "_id": "0" }, doc! { "$set": { "n": 2 } }).await.unwrap();
    let first = ["/users/0".to_owned()];
    let seen = async { while !matches!(values(&gateway, &first).await[0], Some((2, _))) {} };
    timeout(secs(30), seen).await.expect("the last change is seen");
    watches(&gateway, "shop.app.users,quiet").await;
    for (target, value) in targets.iter().zip(values(&gateway, &targets).await).skip(1) {
        assert!(matches!(value, Some((1, _))), "{target}: {value:?}");
    }
    // Nothing was made good by dropping everything.
    assert_eq!(lost(&gateway).await, 0);
    for (target, value) in unchanged.iter().zip(values(&gateway, &unchanged).await) {
        let is_hit = matches!(&value, Some((0, status)) if status.contains("hit"));
        assert!(is_hit, "{target}: {value:?}");
    }
}

#[tokio::test]
async fn a_way_on_which_nothing_comes_any_more_is_left() {
    let mongodb = MongoDb::start().await;
    mongodb.collection("users").insert_one(doc! { "_id": "1", "n": 1 }).await.unwrap();
    let way = Proxy::before_port(mongodb.port()).await;
    let gateway = setup(&MongoDb::uri_of(way.port()), OF_USERS).start().await.watches().await;
    gateway.get("/users/1").await;
    gateway.get("/users/1").await.status("hit");
    // The answer that was waited for is lost, and nobody says so.
    way.dry();
    set(&mongodb, "1", 2).await;
    sleep(secs(2)).await;
    way.mend();
    let events = || gateway.changes().events;
    let seen = async {
        while events() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(secs(60), seen).await.expect("the change is seen");
    shows(&gateway, "/users/1", "{\"_id\":\"1\",\"n\":2}").await;
    assert_eq!(gateway.changes().lost, 0);
}

#[tokio::test]
async fn one_gateway_of_a_fleet_watches_and_another_takes_over() {
    let (mongodb, redis) = (MongoDb::start().await, Redis::start());
    let users = (0..3).map(|id| doc! { "_id": id.to_string(), "n": 1 });
    mongodb.collection("users").insert_many(users).await.unwrap();
    let setup = || setup(&mongodb.uri(), OF_USERS).redis(&redis);
    let paused = Running::with(&setup().text()).await;
    watches(&paused, "shop.app.users").await;
    let one = setup().start().await.in_step().await;
    let other = setup().start().await.in_step().await;
    let all = [&one, &other];
    let watching = || all.iter().filter(|gateway| gateway.changes().watching).count();
    until("they hear of changes", || all.iter().all(|gateway| !gateway.changes().late)).await;
    assert_eq!(watching(), 0);
    let mut n = 1;
    let mut change = async || {
        n += 1;
        set(&mongodb, "1", n).await;
        for gateway in all {
            shows(gateway, "/users/1", &format!("{{\"_id\":\"1\",\"n\":{n}}}")).await;
        }
    };
    for gateway in all {
        gateway.get("/users/0").await;
        gateway.get("/users/0").await.status("hit");
    }
    change().await;
    paused.pause().await;
    until("another watches", || watching() == 1).await;
    change().await;
    paused.signal("CONT");
    change().await;
    let heard = async || {
        while paused.stats().await["changes"]["shop.app.users"]["watching"] == true {}
    };
    timeout(secs(60), heard()).await.expect("the one that stood still hears of it");
    // Whoever ends lets another watch at once, from where it was.
    drop(paused);
    change().await;
    for gateway in all {
        stays(gateway, "/users/0").await;
        assert_eq!(gateway.changes().lost, 0);
    }
    assert_eq!(watching(), 1);
    let (watcher, follower) = if one.changes().watching { (one, other) } else { (other, one) };
    watcher.drain().await;
    until("the last one watches", || follower.changes().watching).await;
    set(&mongodb, "1", 100).await;
    shows(&follower, "/users/1", "{\"_id\":\"1\",\"n\":100}").await;
    stays(&follower, "/users/0").await;
}

/// Nothing has made it wrong. On a busy machine another may watch so late that it is asked whether it still holds.
async fn stays(gateway: &Gateway, target: &str) {
    let got = gateway.get(target).await.code(200);
    let confirmed = "fwd=stale; fwd-status=304; stored; detail=unconfirmed";
    assert!(["hit", confirmed].contains(&&*got.cache_status()), "{got:?}");
}

#[tokio::test]
async fn without_redis_each_gateway_watches_for_itself() {
    let (mongodb, mut redis) = (MongoDb::start().await, Redis::start());
    mongodb.collection("users").insert_one(doc! { "_id": "1", "n": 1 }).await.unwrap();
    let setup = || setup(&mongodb.uri(), OF_USERS).l2(&redis.url(), "timeout = \"1s\"");
    let one = setup().start().await.in_step().await.watches().await;
    let other = setup().start().await.in_step().await;
    let all = [&one, &other];
    until("it hears of changes", || !other.changes().late).await;
    redis.kill();
    until("both watch", || all.iter().all(|gateway| gateway.changes().watching)).await;
    set(&mongodb, "1", 2).await;
    for gateway in all {
        shows(gateway, "/users/1", "{\"_id\":\"1\",\"n\":2}").await;
    }
    redis.restart();
    until("one watches again", || {
        all.iter().filter(|gateway| gateway.changes().watching).count() == 1
    })
    .await;
    set(&mongodb, "1", 3).await;
    for gateway in all {
        gateway.is_in_step().await;
        shows(gateway, "/users/1", "{\"_id\":\"1\",\"n\":3}").await;
        assert_eq!(gateway.changes().lost, 0);
    }
}

#[tokio::test]
async fn what_may_have_changed_unseen_is_what_its_route_says() {
    let mongodb = MongoDb::start().await;
    mongodb.collection("users").insert_one(doc! { "_id": "1", "n": 1 }).await.unwrap();
    let way = Proxy::before_port(mongodb.port()).await;
    let route = |name: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\npath = \"/{name}/{{id}}\"\non_lag = \"{name}\"\nttl = \"1h\"\n\
             document = {{ mongodb = \"shop\", database = \"app\", collection = \"users\", find = {{ _id = \"{{id}}\" }} }}\n"
        )
    };
    let names = ["serve", "validate", "bypass"];
    let other = route("serve")
        .replace("name = \"serve\"\npath = \"/serve/", "name = \"other\"\npath = \"/other/");
    let routes: String = names.map(route).concat() + &other;
    // Reads go another way than changes, which so are named for routes of another deployment.
    let changes = format!(
        "[mongodb.way]\nuri = \"{}\"\n[[changes]]\nmongodb = \"way\"\nroutes = [\"serve\", \"validate\", \"bypass\"]\n",
        MongoDb::uri_of(way.port())
    );
    let gateway = Gateway::setup_of_documents(&mongodb.uri())
        .cache("[cache]\nmax_lag = \"1s\"")
        .routes(&format!("{routes}{changes}"))
        .start()
        .await
        .watches()
        .await;
    for name in names.into_iter().chain(["other"]) {
        let target = format!("/{name}/1");
        gateway.get(&target).await;
        gateway.get(&target).await.status("hit");
    }
    way.cut();
    until("changes are late", || gateway.changes().late).await;
    // Each was fetched longer ago than that.
    sleep(secs(1)).await;
    gateway.get("/serve/1").await.status("hit; detail=unconfirmed");
    gateway
        .get("/validate/1")
        .await
        .status("fwd=stale; fwd-status=304; stored; detail=unconfirmed");
    gateway.get("/bypass/1").await.status("fwd=stale; stored; detail=unconfirmed");
    gateway.get("/other/1").await.status("hit");
    // What has just been asked for is good for as long again.
    gateway.get("/validate/1").await.status("hit");
    way.mend();
    until("changes are in time", || !gateway.changes().late).await;
    sleep(secs(1)).await;
    for name in names {
        gateway.get(&format!("/{name}/1")).await.status("hit");
    }
    assert_eq!(gateway.changes().lost, 0);
}

/// Two streams on which one route depends, of a MongoDB that is not there. So both are late all the time.
fn two_that_are_late(url: &str) -> String {
    let uri = url.replacen("http", "mongodb", 1);
    let changes = ["one", "other"].map(|database| {
        format!(
            "[[changes]]\nmongodb = \"absent\"\ndatabase = \"{database}\"\nroutes = [\"all\"]\n"
        )
    });
    format!("[mongodb.absent]\nuri = \"{uri}\"\n{}", changes.concat())
}

#[tokio::test]
async fn a_fetch_is_not_joined_max_lag_later_while_two_streams_are_late() {
    let origin = Origin::start().await;
    let (_absent, url) = nobody();
    let setup = Gateway::setup(&origin).cache("[cache]\nmax_lag = \"1s\"");
    let gateway = setup.route(&two_that_are_late(&url)).start().await;
    let held = origin.on("/a").hold(ok("1").max_age(60));
    let first = tokio::spawn(gateway.ask("GET", "/a").send());
    until("the origin is asked", || origin.count("/a") == 1).await;
    sleep(secs(2)).await;
    let second = tokio::spawn(gateway.ask("GET", "/a").send());
    until("the origin is asked again", || origin.count("/a") == 2).await;
    held.release();
    for got in [first, second] {
        got.await.unwrap().code(200).body("1");
    }
    assert_eq!(gateway.figure("followers"), 0);
}

#[tokio::test]
async fn what_another_gateway_has_fetched_is_unconfirmed_while_changes_are_late() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let (_absent, url) = nobody();
    let lines = format!("collapse = \"fleet\"\non_lag = \"serve\"\n{}", two_that_are_late(&url));
    let setup = || Gateway::setup(&origin).redis(&redis).route(&lines);
    let one = setup().start().await.in_step().await;
    let other = setup().start().await.in_step().await;
    let held = origin.on("/a").hold(ok("1").max_age(60));
    let leader = tokio::spawn(one.ask("GET", "/a").send());
    until("the origin is asked", || origin.count("/a") == 1).await;
    let follower = tokio::spawn(other.ask("GET", "/a").send());
    other.reaches("fleet_waits", 1).await;
    held.release();
    leader.await.unwrap().body("1").status("fwd=uri-miss; stored");
    follower.await.unwrap().body("1").status("fwd=uri-miss; collapsed; detail=unconfirmed");
    assert_eq!((one.figure("unconfirmed"), other.figure("unconfirmed")), (0, 1));
    origin.saw("/a", 1);
}
