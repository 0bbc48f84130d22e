//! Receipts in a fleet: which gateways have applied a purge, and when.

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::program::Running;
use crate::support::redis::Redis;
use crate::support::until;

fn json_of(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

/// A gateway of this name, which the fleet knows.
async fn named(origin: &Origin, redis: &Redis, name: &str) -> Gateway {
    let setup = Gateway::setup(origin).server(&format!("workers = 1\nname = \"{name}\""));
    setup.redis(redis).start().await.in_step().await
}

async fn fleet(origin: &Origin, redis: &Redis) -> [Gateway; 3] {
    [
        named(origin, redis, "one").await,
        named(origin, redis, "two").await,
        named(origin, redis, "three").await,
    ]
}

async fn receipts(gateway: &Gateway, id: &str, query: &str) -> Value {
    let asked = gateway.admin("GET", &format!("/purge/{id}{query}")).send().await;
    json_of(&asked.code(200))
}

/// Each gateway's name, and whether it has applied.
fn applied(told: &Value) -> Vec<(&str, bool)> {
    let gateways = told["gateways"].as_array().unwrap().iter();
    let applied = |told: &Value| told["applied"].as_bool().unwrap();
    gateways.map(|told| (told["name"].as_str().unwrap(), applied(told))).collect()
}

#[tokio::test]
async fn a_purge_that_is_complete_holds_everywhere() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let gateways = fleet(&origin, &redis).await;
    let all = [("one", true), ("three", true), ("two", true)];
    for round in 0..20 {
        origin.on("/a").reply(ok("a").max_age(60));
        for gateway in &gateways {
            gateway.get("/a").await.code(200);
        }
        let wanted = json!({ "keys": ["a"] }).to_string();
        let at = &gateways[round % 3];
        let ask = at.admin("POST", "/purge?wait=10s").field("content-type", "application/json");
        let told = json_of(&ask.body(wanted).send().await.code(200));
        assert_eq!((&told["complete"], applied(&told).as_slice()), (&json!(true), &all[..]));
        // The purge in Redis, the log's clock, is before any receipt of another gateway.
        for gateway in told["gateways"].as_array().unwrap() {
            assert!(gateway["at"].is_string(), "{told}");
        }
        let first = gateways[(round + 1) % 3].get("/a").await;
        assert_eq!(first.cache_status(), "fwd=uri-miss; stored", "round {round}");
        let id = told["id"].as_str().unwrap();
        for gateway in &gateways {
            assert_eq!(receipts(gateway, id, "").await["gateways"], told["gateways"]);
        }
    }
    let log = redis.ask("XREVRANGE larder:log + - COUNT 3").unwrap();
    assert!(["one", "two", "three"].iter().all(|name| log.contains(name)), "{log}");
}

#[tokio::test]
async fn however_many_purges_there_are_their_receipts_are_bounded() {
    const MOST: usize = 50_000;
    let redis = Redis::start();
    let origin = Origin::start().await;
    let gateways = fleet(&origin, &redis).await;
    let purge = async || json_of(&gateways[0].admin("POST", "/clear?wait=10s").send().await);
    let noted = |id: &str| {
        let noted = |name: &&str| {
            redis.ask(&format!("ZSCORE larder:receipts \"{id} {name}\"")).unwrap() != "$-1\r\n"
        };
        ["one", "two", "three"].into_iter().filter(noted).count()
    };
    let first = purge().await;
    let first = first["id"].as_str().unwrap();
    until("all have noted the first", || noted(first) == 3).await;

    // Some from hours ago, and as many as there may be, all later than the first.
    redis.ask("ZADD larder:receipts 1 \"1-0 one\" 2 \"2-0 one\"").unwrap();
    let newest = "redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]";
    let add = "redis.call('ZADD', KEYS[1], last + 0.5, n .. '-0 gone')";
    let script = format!("local last = {newest} for n = 1, {MOST} do {add} end");
    redis.ask(&format!("EVAL \"{script}\" 1 larder:receipts")).unwrap();
    let second = purge().await;
    assert_eq!(second["complete"], true, "{second}");
    let second = second["id"].as_str().unwrap();
    until("all have noted the second", || noted(second) == 3).await;
    until("the oldest are gone", || {
        redis.ask("ZCARD larder:receipts").unwrap() == format!(":{MOST}\r\n")
    })
    .await;
    assert_eq!((noted(first), noted("1-0"), noted("2-0")), (0, 0, 0));
    let keys = redis.ask("KEYS larder:*receipt*").unwrap();
    assert_eq!(keys, "*1\r\n$15\r\nlarder:receipts\r\n");
    let left = redis.ask("TTL larder:receipts").unwrap();
    assert!((3500..=3600).contains(&left[1..].trim_end().parse().unwrap()), "{left}");

    // Who has applied the first one is known all the same, and each knows when it did itself.
    let told = receipts(&gateways[1], first, "?wait=10s").await;
    let all = [("one", true), ("three", true), ("two", true)];
    assert_eq!((&told["complete"], applied(&told).as_slice()), (&json!(true), &all[..]));
    let gateways = told["gateways"].as_array().unwrap();
    assert!(gateways.iter().all(|told| told["at"].is_string() == (told["name"] == "two")));
}

#[tokio::test]
async fn a_user_who_may_not_keep_receipts_has_them_without_times() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let gateways = fleet(&origin, &redis).await;
    redis.ask("ACL SETUSER default -zadd -zmscore").unwrap();
    let told = json_of(&gateways[0].admin("POST", "/clear?wait=10s").send().await.code(200));
    let all = [("one", true), ("three", true), ("two", true)];
    assert_eq!((&told["complete"], applied(&told).as_slice()), (&json!(true), &all[..]));
    let gateways = told["gateways"].as_array().unwrap();
    assert!(gateways.iter().all(|told| told["at"].is_string() == (told["name"] == "one")));
}

#[tokio::test]
async fn ids_that_are_no_purge_have_no_receipts() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let gateway = named(&origin, &redis, "one").await;
    origin.on("/a").method("PUT").reply(ok("").max_age(60));
    gateway.ask("PUT", "/a").send().await.code(200);
    let written = gateway.store().log_position.to_string();
    for id in ["0-1", "99999999999999-0", "1-1@one", "1-1@two", &written] {
        let asked = gateway.admin("GET", &format!("/purge/{id}")).send().await.code(404);
        assert!(asked.field("content-type").as_deref() == Some("application/problem+json"));
    }
}

#[tokio::test]
async fn a_gateway_that_ends_is_not_waited_for() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let [one, two, three] = fleet(&origin, &redis).await;
    let told = json_of(&one.admin("POST", "/clear?wait=10s").send().await.code(200));
    assert_eq!(applied(&told), [("one", true), ("three", true), ("two", true)]);
    three.drain().await;
    // It would count as alive for longer than that.
    let told = json_of(&one.admin("POST", "/clear?wait=2s").send().await.code(200));
    assert_eq!(told["complete"], true, "{told}");
    assert_eq!(applied(&told), [("one", true), ("two", true)]);

    // One of its name begins anew: what was purged before it is nothing that it could serve.
    let _three = named(&origin, &redis, "three").await;
    let id = told["id"].as_str().unwrap();
    let told = receipts(&two, id, "?wait=10s").await;
    assert_eq!(told["complete"], true, "{told}");
    assert_eq!(applied(&told), [("one", true), ("three", true), ("two", true)]);
}

#[tokio::test]
async fn a_gateway_that_stands_still_is_missing_until_it_counts_as_gone() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let one = named(&origin, &redis, "one").await;
    let (origin_url, redis_url) = (origin.url(), redis.url());
    let paused = Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nname = \"paused\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [cache.l2]\nredis = \"{redis_url}\"\n[upstreams.origin]\nservers = [\"{origin_url}\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n"
    ))
    .await;
    until("the fleet knows it", || {
        redis.ask("HGETALL larder:gateways").unwrap().contains("paused")
    })
    .await;
    paused.pause().await;
    let told = json_of(&one.admin("POST", "/clear?wait=100ms").send().await.code(200));
    assert_eq!(told["complete"], false, "{told}");
    assert_eq!(applied(&told), [("one", true), ("paused", false)]);
    // It has not left, where Redis has lost all lines.
    redis.ask("DEL larder:gateways").unwrap();
    until("the other has said that it is alive", || {
        redis.ask("HGETALL larder:gateways").unwrap().contains("one")
    })
    .await;
    let missing = json_of(&one.admin("POST", "/clear").send().await.code(200));
    assert!(missing.get("complete").is_none(), "{missing}");
    let missing = missing["id"].as_str().unwrap();
    let told = receipts(&one, missing, "").await;
    assert_eq!(applied(&told), [("one", true), ("paused", false)]);
    let told = receipts(&one, missing, "?wait=9s").await;
    assert_eq!(
        (&told["complete"], applied(&told).as_slice()),
        (&json!(true), &[("one", true)][..])
    );

    paused.signal("CONT");
    let until_back = async {
        while receipts(&one, missing, "?wait=1s").await["gateways"].as_array().unwrap().len() < 2 {}
        receipts(&one, missing, "?wait=9s").await
    };
    let told = tokio::time::timeout(PATIENCE, until_back).await.unwrap();
    assert_eq!(applied(&told), [("one", true), ("paused", true)]);
    let at = told["gateways"].as_array().unwrap().iter().map(|told| told["at"].as_str().unwrap());
    assert!(at.is_sorted(), "{told}");
}

#[tokio::test]
async fn a_purge_without_redis_holds_here_and_has_its_receipts_later() {
    let mut redis = Redis::start();
    let origin = Origin::start().await;
    let [one, two, _three] = fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("a").max_age(60));
    one.get("/a").await.code(200);
    let earlier = json_of(&one.admin("POST", "/pattern/?wait=10s").send().await);
    assert_eq!(earlier["status"], 405, "{earlier}");
    let earlier = json_of(&one.admin("DELETE", "/pattern/b?wait=10s").send().await.code(200));
    redis.kill();
    until("Redis is down", || !one.l2().up && !two.l2().up).await;

    let told = json_of(&one.admin("POST", "/clear?wait=10ms").send().await.code(202));
    assert_eq!((&told["shared"], &told["complete"]), (&json!(false), &json!(false)), "{told}");
    let own = told["id"].as_str().unwrap();
    assert!(own.ends_with("@one"), "{told}");
    one.get("/a").await.status("fwd=uri-miss; stored");
    let of_another = two.admin("GET", &format!("/purge/{own}")).send().await.code(404);
    let detail = json_of(&of_another)["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("ask that one"), "{detail}");

    // Of an earlier one this gateway knows what it knew, and says that this is so.
    let id = earlier["id"].as_str().unwrap();
    let unknown = json_of(&two.admin("GET", &format!("/purge/{id}")).send().await.code(503));
    assert_eq!((&unknown["status"], &unknown["complete"]), (&json!(503), &json!(false)));
    let known = applied(&unknown);
    assert!(known.contains(&("two", true)), "{unknown}");

    redis.restart();
    let told = receipts(&one, own, "?wait=9s").await;
    assert_eq!((&told["shared"], &told["complete"]), (&json!(true), &json!(true)), "{told}");
    let id = told["id"].as_str().unwrap();
    assert_ne!(id, own);
    until("all have said that they are alive", || {
        let alive = redis.ask("HGETALL larder:gateways").unwrap();
        ["one", "two", "three"].iter().all(|name| alive.contains(name))
    })
    .await;
    let told = receipts(&two, id, "?wait=9s").await;
    assert_eq!(told["complete"], true, "{told}");
    assert_eq!(applied(&told), [("one", true), ("three", true), ("two", true)]);
}

/// The second purge comes while the first one is being appended, and nothing comes after it.
#[tokio::test]
async fn purges_that_wait_one_behind_the_other_have_their_receipts_later() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).server("workers = 1\nname = \"one\"");
    let one = setup.l2(&redis.url(), "timeout = \"100ms\"").start().await.in_step().await;
    let two = named(&origin, &redis, "two").await;
    assert_eq!(redis.ask("CLIENT PAUSE 600000 WRITE").unwrap(), "+OK\r\n");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let told = json_of(&one.admin("POST", "/clear").send().await.code(202));
        ids.push(told["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(redis.ask("CLIENT UNPAUSE").unwrap(), "+OK\r\n");
    for id in ids {
        let told = receipts(&one, &id, "?wait=9s").await;
        assert_eq!((&told["shared"], &told["complete"]), (&json!(true), &json!(true)), "{told}");
        let placed = told["id"].as_str().unwrap();
        let told = receipts(&two, placed, "?wait=9s").await;
        assert_eq!((&told["id"], &told["complete"]), (&json!(placed), &json!(true)), "{told}");
    }
}

#[tokio::test]
async fn of_gateways_of_one_name_one_takes_another() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let _twin = named(&origin, &redis, "twin").await;
    let other = named(&origin, &redis, "twin").await;
    let lines = || redis.ask("HKEYS larder:gateways").unwrap().matches("twin").count();
    until("each has a name of its own", || lines() == 2).await;
    let told = json_of(&other.admin("POST", "/clear?wait=9s").send().await.code(200));
    assert_eq!(told["complete"], true, "{told}");
    let [(first, true), (second, true)] = applied(&told)[..] else { panic!("{told}") };
    assert_eq!(first, "twin");
    assert!(second.strip_prefix("twin-").is_some_and(|own| own.len() == 6), "{told}");
}

#[tokio::test]
async fn what_others_write_at_the_fleets_keys_costs_receipts_alone() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    redis.ask("SET larder:gateways nonsense").unwrap();
    let one = named(&origin, &redis, "one").await;
    origin.on("/a").reply(ok("a").max_age(60));
    one.get("/a").await.status("fwd=uri-miss; stored");
    let told = json_of(&one.admin("POST", "/clear?wait=100ms").send().await.code(200));
    assert_eq!(told["complete"], false, "{told}");
    one.get("/a").await.status("fwd=uri-miss; stored");
    redis.ask("DEL larder:gateways").unwrap();
    redis.ask("HSET larder:gateways ghost nonsense").unwrap();
    let told = receipts(&one, told["id"].as_str().unwrap(), "?wait=9s").await;
    assert_eq!(
        (&told["complete"], applied(&told).as_slice()),
        (&json!(true), &[("one", true)][..])
    );
}
