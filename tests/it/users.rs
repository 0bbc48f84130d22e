//! Who the gateway is to Redis: users, their passwords, and what they may do.

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::program::Running;
use crate::support::redis::Redis;
use crate::support::server::Server;
use crate::support::tiers::share_variants;
use crate::support::until;

/// What `docs/fleet.md` says that a user of the namespace `shop` needs.
fn rights() -> Vec<&'static str> {
    let docs = include_str!("../../docs/fleet.md");
    let line = docs.lines().find_map(|line| line.strip_prefix("ACL SETUSER larder "));
    line.expect("docs/fleet.md has the rights").split(' ').collect()
}

/// Makes the user, or makes it anew.
fn user(redis: &Redis, rights: &[&str]) {
    let rights = rights.join(" ").replace("PASSWORD", "secret");
    let answer = redis.ask(&format!("ACL SETUSER larder reset {rights}")).unwrap();
    assert_eq!(answer, "+OK\r\n");
}

fn setup(origin: &Origin, redis: &Redis, lines: &str) -> Setup {
    let lines = format!("timeout = \"10s\"\nusername = \"larder\"\n{lines}");
    Gateway::setup(origin).cache("[cache]\nnamespace = \"shop\"").l2(&redis.url(), &lines)
}

/// Everything that a fleet asks of Redis.
async fn use_it_all(origin: &Origin, redis: &Redis) {
    let of_fleet = || setup(origin, redis, "password = \"secret\"").start();
    let (first, second) = (of_fleet().await.in_step().await, of_fleet().await.in_step().await);
    origin.on("/a").reply(ok("1").max_age(600));
    share_variants(origin, &first, &second).await;
    first.get("/a").await.status("fwd=uri-miss; stored");
    first.settled().await;
    second.get("/a").await.body("1").status("hit");
    // What a `POST` leaves for a `GET` is stored if the log holds nothing else.
    let reply = ok("2").max_age(600).field("content-location", "/a");
    origin.on("/a").method("POST").reply(reply);
    first.ask("POST", "/a").send().await.status("fwd=method; stored");
    first.settled().await;
    until("the write is known", || second.store().log_position >= first.store().log_position).await;
    second.get("/a").await.body("2").status("hit");
    first.admin("POST", "/clear").send().await.code(200);
    until("it is cleared", || second.store().log_position >= first.store().log_position).await;
    origin.on("/a").method("GET").reply(ok("3").max_age(600));
    second.get("/a").await.body("3").status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn a_user_with_the_rights_that_are_needed_is_refused_nothing() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    user(&redis, &rights());
    use_it_all(&origin, &redis).await;
    assert_eq!(redis.ask("ACL LOG").unwrap(), "*0\r\n");
    let keys = redis.ask("KEYS *").unwrap();
    let keys: Vec<_> = keys.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
    assert!(keys.len() > 3 && keys.iter().all(|key| key.starts_with("shop:")), "{keys:?}");
}

#[tokio::test]
async fn each_of_the_rights_is_needed() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let rights = rights();
    // Nobody but a thousand gateways needs `DEL`.
    for right in rights.iter().filter(|right| right.starts_with('+') && **right != "+del") {
        let others: Vec<_> = rights.iter().copied().filter(|other| other != right).collect();
        user(&redis, &others);
        assert_eq!(redis.ask("ACL LOG RESET").unwrap(), "+OK\r\n");
        let gateway = setup(&origin, &redis, "password = \"secret\"").start().await;
        // What may be done is done; what may not be is refused at some point.
        let target = format!("/{}", right.trim_start_matches('+').replace('|', "-"));
        origin.on(&target).reply(ok("1").max_age(600));
        let reply = ok("2").max_age(600).field("content-location", &target);
        origin.on(&target).method("POST").reply(reply);
        until("it is refused", || {
            redis.ask("ACL LOG").unwrap() != "*0\r\n" || gateway.l2().log_in_step
        })
        .await;
        gateway.get(&target).await.code(200);
        gateway.settled().await;
        gateway.ask("POST", &target).send().await.code(200);
        gateway.admin("POST", "/clear").send().await;
        let position = gateway.store().log_position;
        gateway.admin("GET", &format!("/purge/{position}?wait=1ms")).send().await;
        gateway.drain().await;
        let word = right.trim_start_matches('+');
        let is_told = || redis.ask("ACL LOG").unwrap().contains(&format!("\r\n{word}\r\n"));
        until(&format!("{right} is refused"), is_told).await;
    }
}

#[tokio::test]
async fn what_sentinels_and_a_cluster_want_besides_is_enough() {
    let origin = Origin::start().await;
    let with = |server: &Server, more: &str| {
        let rights = rights().join(" ").replace("PASSWORD", "secret");
        assert_eq!(server.ask(&format!("ACL SETUSER larder reset {rights} {more}")), "+OK\r\n");
    };
    let start = |url: String, lines: &str| {
        let lines =
            format!("timeout = \"10s\"\nusername = \"larder\"\npassword = \"secret\"\n{lines}");
        Gateway::setup(&origin).cache("[cache]\nnamespace = \"shop\"").l2(&url, &lines).start()
    };
    let master = Server::start("");
    let monitor = format!("sentinel monitor main 127.0.0.1 {} 1\n", master.port());
    let sentinel = Server::sentinel(&monitor);
    with(&master, "+role +select +hello");
    let watch =
        "on >word resetchannels &+switch-master -@all +ping +hello +subscribe +sentinel|master";
    assert_eq!(sentinel.ask(&format!("ACL SETUSER watch reset {watch}")), "+OK\r\n");
    let url = format!("redis+sentinel://{}/main/2?protocol=resp3", sentinel.address());
    let login = "sentinel_username = \"watch\"\nsentinel_password = \"word\"";
    let behind = start(url, login).await.in_step().await;
    until("it listens", || {
        let clients = sentinel.ask("CLIENT LIST");
        clients.lines().any(|line| line.contains(" sub=1 ") && line.contains(" user=watch "))
    })
    .await;

    let node = Server::cluster("");
    assert_eq!(node.ask("CLUSTER ADDSLOTSRANGE 0 16383"), "+OK\r\n");
    with(&node, "+cluster|slots");
    let beside = start(format!("redis+cluster://{}", node.address()), "").await.in_step().await;

    for (gateway, servers) in [(&behind, vec![&master, &sentinel]), (&beside, vec![&node])] {
        origin.on("/a").reply(ok("1").max_age(600));
        gateway.get("/a").await.status("fwd=uri-miss; stored");
        gateway.settled().await;
        gateway.admin("POST", "/clear").send().await.code(200);
        for server in servers {
            assert_eq!(server.ask("ACL LOG"), "*0\r\n");
        }
    }
}

#[tokio::test]
async fn a_password_in_a_file_can_be_changed() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    user(&redis, &rights());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let lines = format!("password_file = {file:?}");
    let gateway = setup(&origin, &redis, &lines).start().await.in_step().await;
    origin.on("/a").reply(ok("1").etag("1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");

    assert_eq!(redis.ask("ACL SETUSER larder resetpass >other").unwrap(), "+OK\r\n");
    redis.ask("CLIENT KILL USER larder").unwrap();
    until("it is refused", || !gateway.l2().up && !gateway.l2().log_in_step).await;
    gateway.get("/a").await.body("1").status("hit");
    std::fs::write(&file, "other").unwrap();
    gateway.is_in_step().await;
    // The same server, which has lost nothing.
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn a_wrong_password_is_told_once() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    user(&redis, &rights());
    let gateway = setup(&origin, &redis, "password = \"wr0ng\"");
    user(&redis, &["on", ">wr0ng", "~*", "&*", "+@all"]);
    let mut gateway = Running::with(&gateway.text()).await;
    gateway.is_in_step().await;

    assert_eq!(redis.ask("ACL SETUSER larder resetpass >right").unwrap(), "+OK\r\n");
    redis.ask("CLIENT KILL USER larder").unwrap();
    let told = gateway.says("L2 unreachable").await;
    assert_eq!(told["error"], "Redis refuses the user or the password", "{told}");
    assert!(told["cause"].as_str().unwrap().contains("AuthenticationFailed"), "{told}");

    // Many tries later.
    until("it is tried again", || {
        let log = redis.ask("ACL LOG 1").unwrap();
        let count = log.lines().skip_while(|line| *line != "count").nth(1).unwrap_or_default();
        count.trim_start_matches(':').parse::<u32>().is_ok_and(|count| count >= 6)
    })
    .await;
    assert_eq!(redis.ask("ACL SETUSER larder >wr0ng").unwrap(), "+OK\r\n");
    let lines = gateway.until_it_says("L2 is back").await;
    let count = |message: &str| lines.iter().filter(|line| line.contains(message)).count();
    assert_eq!((count("L2 unreachable"), count("wr0ng")), (0, 0), "{lines:#?}");
    assert!(lines.len() < 4, "{lines:#?}");
}

#[tokio::test]
async fn no_password_where_one_is_wanted_is_told() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let mut gateway = Running::with(&Gateway::setup(&origin).redis(&redis).text()).await;
    gateway.is_in_step().await;
    assert_eq!(redis.ask("CONFIG SET requirepass right").unwrap(), "+OK\r\n");
    redis.ask("AUTH right\r\nCLIENT KILL TYPE normal").unwrap();
    let told = gateway.says("L2 unreachable").await;
    assert_eq!(told["error"], "Redis refuses the user or the password", "{told}");
    assert!(told["cause"].as_str().unwrap().contains("NOAUTH"), "{told}");
}
