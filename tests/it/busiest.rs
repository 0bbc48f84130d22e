//! The URLs that are hit most: which are counted, who is told, and that the next gateway is warmed by
//! them.

use serde_json::{Value, json};

use crate::support::gateway::{FLEET, Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::program::larder;
use crate::support::redis::Redis;
use crate::support::until;

const COUNTED: &str = "busiest = 2\nwhen = []";

/// What `GET /busiest` answers, each URL without its host.
async fn busiest(gateway: &Gateway) -> Vec<(String, u64)> {
    let got = gateway.admin("GET", "/busiest").send().await.code(200);
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    let host = format!("http://{FLEET}");
    let url = |it: &Value| it["url"].as_str().unwrap().strip_prefix(&host).unwrap().to_owned();
    let hits = |it: &Value| it["hits"].as_u64().unwrap();
    told["urls"].as_array().unwrap().iter().map(|it| (url(it), hits(it))).collect()
}

/// So many hits, and the miss before them.
async fn hit(gateway: &Gateway, target: &str, times: usize) {
    for _ in 0..=times {
        gateway.get(target).await.code(200);
    }
}

fn listed(all: &[(&str, u64)]) -> Vec<(String, u64)> {
    all.iter().map(|(target, hits)| ((*target).to_owned(), *hits)).collect()
}

/// Runs a gateway, and after it another one.
async fn over_a_restart(origin: &Origin, setup: impl Fn() -> Setup) {
    for target in ["/a?b=1", "/b", "/c"] {
        origin.on(target).reply(ok("1").max_age(600));
    }
    let first = setup().warm(COUNTED).start().await.in_step().await;
    hit(&first, "/a?b=1", 2).await;
    hit(&first, "/c", 1).await;
    first.ask("HEAD", "/c").send().await.code(200);
    assert_eq!(busiest(&first).await, listed(&[("/a?b=1", 2), ("/c", 1)]));
    hit(&first, "/b", 4).await;
    first.admin("POST", "/clear").send().await.code(200);
    first.drain().await;

    let second = setup().warm("busiest = 2").start().await;
    let warming = || {
        let stats = second.service().gateway().stats().snapshot();
        serde_json::to_value(stats.warming).unwrap()
    };
    until("it is warm", || warming()["runs"] == 1 && warming()["running"] == false).await;
    let expected = json!({ "running": false, "runs": 1, "stored": 2, "hits": 0, "not_warmed": 0 });
    assert_eq!(warming(), expected);
    second.get("/b").await.status("hit");
    second.get("/a?b=1").await.status("hit");
    origin.saw("/c", 1);
    // What was warmed has one hit more, and warming was none.
    assert_eq!(busiest(&second).await, listed(&[("/b", 5), ("/a?b=1", 3)]));
}

#[tokio::test]
async fn they_warm_the_next_gateway_by_way_of_redis() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    over_a_restart(&origin, || Gateway::setup(&origin).redis(&redis)).await;
    assert!(redis.ask("TTL larder:busiest").unwrap().starts_with(":604"), "it ends in a week");
}

#[tokio::test]
async fn they_warm_the_next_gateway_by_way_of_a_disk() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    over_a_restart(&origin, || Gateway::setup(&origin).disk(folder.path(), "")).await;
}

#[tokio::test]
async fn a_fleet_counts_together() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    origin.on("/a").reply(ok("1").max_age(600));
    let of_fleet = || Gateway::setup(&origin).redis(&redis).warm(COUNTED).start();
    let (first, second) = (of_fleet().await.in_step().await, of_fleet().await.in_step().await);
    hit(&first, "/a", 2).await;
    first.settled().await;
    assert_eq!(busiest(&first).await, listed(&[("/a", 2)]));
    // From L2, and then from L1.
    hit(&second, "/a", 1).await;
    assert_eq!(busiest(&second).await, listed(&[("/a", 4)]));
}

#[tokio::test]
async fn no_hit_is_lost_while_several_ask_for_them() {
    const HITS: u64 = 300;
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = Gateway::setup(&origin).redis(&redis).warm(COUNTED);
    let gateway = gateway.start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.code(200);
    let hits = async {
        for _ in 0..HITS {
            gateway.get("/a").await.status("hit");
        }
    };
    let asks = || async {
        for _ in 0..HITS {
            gateway.admin("GET", "/busiest").send().await.code(200);
        }
    };
    tokio::join!(hits, asks(), asks());
    assert_eq!(busiest(&gateway).await, listed(&[("/a", HITS)]));
}

#[tokio::test]
async fn what_may_tell_of_who_asks_is_not_counted() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let routes = "[policies.by-cookie]\nplugin = \"bundled:variants\"\ntime = \"10s\"\n\
        config = { cookie = \"group\", cookie-values = [\"a\", \"b\"] }\n\
        [policies.plain]\nplugin = \"bundled:normalise-query\"\ntime = \"10s\"\n\
        [[routes]]\nname = \"mine\"\npath = \"/mine/{*rest}\"\nupstream = \"origin\"\nkey = \"by-cookie\"\n\
        [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\nkey = \"plain\"\n";
    let setup = Gateway::setup(&origin).redis(&redis).routes(routes).warm("busiest = 9\nwhen = []");
    let gateway = setup.start().await.in_step().await;
    for target in ["/mine/1", "/public", "/counted"] {
        origin.on(target).reply(ok("1").field("cache-control", "public, max-age=600"));
    }
    hit(&gateway, "/mine/1", 2).await;
    gateway.get("/mine/1").await.status("hit");
    for _ in 0..3 {
        gateway.ask("GET", "/public").field("authorization", "Bearer a").send().await.code(200);
    }
    let ask = gateway.ask("GET", "/public").field("authorization", "Bearer a");
    ask.send().await.status("hit");
    hit(&gateway, "/counted", 1).await;
    assert_eq!(busiest(&gateway).await, listed(&[("/counted", 1)]));
}

#[tokio::test]
async fn without_them_it_is_said_why() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let gateway = Gateway::before(&origin).await;
    let got = gateway.admin("GET", "/busiest").send().await.code(404);
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    let why = "the busiest URLs are not counted: write `busiest = 1000` in `[warm]`";
    assert_eq!(told["detail"], why);

    let setup = Gateway::setup(&origin).redis(&redis).warm(COUNTED);
    let gateway = setup.start().await.in_step().await;
    // Octets that nobody here wrote are none; another type is not touched.
    assert_eq!(redis.ask("SET larder:busiest nonsense").unwrap(), "+OK\r\n");
    assert_eq!(busiest(&gateway).await, []);
    assert_eq!(redis.ask("DEL larder:busiest").unwrap(), ":1\r\n");
    assert_eq!(redis.ask("RPUSH larder:busiest 1").unwrap(), ":1\r\n");
    gateway.admin("GET", "/busiest").send().await.code(503);
    assert_eq!(redis.ask("DEL larder:busiest").unwrap(), ":1\r\n");

    origin.on("/a").reply(ok("1").max_age(600));
    hit(&gateway, "/a", 2).await;
    redis.kill();
    let got = gateway.admin("GET", "/busiest").send().await.code(503);
    assert!(String::from_utf8_lossy(&got.body).contains("are out of reach: "), "{got:?}");
    redis.restart();
    gateway.is_in_step().await;
    assert_eq!(busiest(&gateway).await, listed(&[("/a", 2)]), "nothing was lost");
}

#[tokio::test]
async fn the_command_warms_by_them() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let admin = "token = \"s3cret\"";
    let counting = Gateway::setup(&origin).redis(&redis).warm(COUNTED);
    let counting = counting.start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    hit(&counting, "/a", 1).await;
    assert_eq!(busiest(&counting).await.len(), 1);
    // Another one is warmed, by what the first tells.
    let cold = Gateway::setup(&origin).admin(admin).start().await;
    let warm = |admin: String| {
        let gateway = format!("--gateway=http://{}", cold.address());
        let run = move || {
            let folder = std::path::Path::new("/");
            larder(folder, &["warm", "--busiest", &gateway, &format!("--admin=http://{admin}")])
        };
        tokio::task::spawn_blocking(run)
    };
    let ran = warm(counting.admin_address().to_string()).await.unwrap();
    let told = "1 of 1 warmed: 1 fetched and stored, 0 stored before\n";
    assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(0), "", told));
    cold.ask("GET", "/a").field("host", FLEET).send().await.status("hit");

    let ran = warm(cold.admin_address().to_string()).await.unwrap();
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.starts_with("401: send the token as `Authorization: Bearer TOKEN`"), "{ran:?}");
    let ran = warm("127.0.0.1:1".to_owned()).await.unwrap();
    assert!(ran.err.starts_with("no answer of `http://127.0.0.1:1/`: "), "{ran:?}");
}
