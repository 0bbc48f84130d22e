//! Redis behind sentinels: its master dies, hangs, is replaced, and no request fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::gateway::{Gateway, Setup};
use crate::support::load::Load;
use crate::support::origin::{Origin, ok, status};
use crate::support::server::Server;
use crate::support::until;

/// Long for a server that answers.
const TIMEOUT: &str = "timeout = \"100ms\"";

/// A master, its replica, and three sentinels that need half a second to find a master down.
struct Stage {
    master: Server,
    replica: Server,
    sentinels: Vec<Server>,
}

impl Stage {
    async fn start(lines: &str) -> Self {
        let master = Server::start(lines);
        let replica = Server::start(&format!("{lines}replicaof 127.0.0.1 {}\n", master.port()));
        let is_linked = || master.ask("INFO replication").contains("state=online");
        until("the replica is linked", is_linked).await;
        let sentinel = format!(
            "sentinel monitor main 127.0.0.1 {} 2\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 1000\n",
            master.port()
        );
        let sentinels: Vec<_> = (0..3).map(|_| Server::sentinel(&sentinel)).collect();
        let stage = Self { master, replica, sentinels };
        stage.is_complete().await;
        stage
    }

    /// Waits until each sentinel knows the others and a replica that it would choose.
    async fn is_complete(&self) {
        for sentinel in &self.sentinels {
            until("the sentinels know each other", || {
                let told = sentinel.ask("SENTINEL MASTER main");
                let value = |name: &str| {
                    let mut lines = told.lines().skip_while(|line| *line != name);
                    lines.nth(2).unwrap_or_default().to_owned()
                };
                value("num-other-sentinels") == "2"
                    && value("num-slaves") == "1"
                    && value("flags") == "master"
                    && sentinel.ask("SENTINEL REPLICAS main").contains("\r\nslave\r\n")
            })
            .await;
        }
    }

    fn url(&self) -> String {
        let sentinels: Vec<_> = self.sentinels.iter().map(Server::address).collect();
        format!("redis+sentinel://{}/main", sentinels.join(","))
    }

    fn setup(&self, origin: &Origin) -> Setup {
        Gateway::setup(origin).l2(&self.url(), TIMEOUT)
    }
}

/// Waits until what is stored is found in L2 again; in seconds.
pub(crate) async fn serves_again(
    gateway: &Gateway,
    origin: &Origin,
    target: &str,
    since: Instant,
) -> f64 {
    let hits = gateway.figure("l2_hits");
    origin.on(target).reply(ok(target.to_owned()).max_age(600));
    loop {
        gateway.get(target).await.code(200).body(target);
        if gateway.figure("l2_hits") > hits {
            return since.elapsed().as_secs_f64();
        }
        assert!(since.elapsed().as_secs() < 20, "L2 never serves again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn no_request_fails_while_the_master_dies_and_while_it_hangs() {
    let origin = Arc::new(Origin::start().await);
    let mut stage = Stage::start("").await;
    let cache = "[cache.l1]\ncapacity = \"0\"";
    let gateway = Gateway::setup(&origin).cache(cache).l2(&stage.url(), TIMEOUT).start();
    let gateway = Arc::new(gateway.await.in_step().await);
    let beside = Arc::new(stage.setup(&origin).start().await.in_step().await);
    serves_again(&gateway, &origin, "/before", Instant::now()).await;
    let mut load = Load::start(&origin, &[Arc::clone(&gateway), beside], 2);
    load.goes_on(50).await;

    let killed = Instant::now();
    stage.master.kill();
    load.goes_on(50).await;
    let seconds = serves_again(&gateway, &origin, "/killed", killed).await;
    println!("L2 serves {seconds:.1} s after its master was killed");
    load.goes_on(50).await;

    // The former master comes back as a replica, which takes the master's place in its turn.
    stage.master.restart();
    stage.is_complete().await;
    let held = Instant::now();
    stage.replica.hold();
    load.goes_on(50).await;
    let seconds = serves_again(&gateway, &origin, "/held", held).await;
    println!("L2 serves {seconds:.1} s after its master was stopped");
    stage.replica.release();
    load.goes_on(50).await;
    assert_eq!(gateway.figure("upstream_failures"), 0);
}

#[tokio::test]
async fn what_is_stored_is_stale_after_a_fail_over_and_the_former_master_is_left_at_once() {
    let origin = Origin::start().await;
    let stage = Stage::start("").await;
    let gateway = stage.setup(&origin).start().await.in_step().await;
    let other = stage.setup(&origin).start().await.in_step().await;
    origin.on("/a").reply(ok("1").etag("v1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.settled().await;
    other.get("/a").await.status("hit");

    // The former master lives on, and would take writes until it is told.
    assert_eq!(stage.sentinels[0].ask("SENTINEL FAILOVER main"), "+OK\r\n");
    until("the replica is the master", || stage.replica.ask("ROLE").contains("master")).await;
    until("both are connected to it", || {
        let clients = stage.replica.ask("CLIENT LIST TYPE normal");
        clients.matches("cmd=xread").count() == 2
    })
    .await;
    gateway.is_in_step().await;
    other.is_in_step().await;
    let log = stage.replica.ask("XREVRANGE larder:log + - COUNT 1");
    let end = log.lines().find(|line| line.contains('-')).unwrap().parse().unwrap();
    origin.on("/a").with("if-none-match", "\"v1\"").reply(status(304).etag("v1").max_age(600));
    for gateway in [&gateway, &other] {
        gateway.has_applied(end).await;
        gateway.get("/a").await.body("1").status("fwd=stale; fwd-status=304; stored");
    }
}

#[tokio::test]
async fn sentinels_and_servers_have_passwords_of_their_own() {
    let origin = Origin::start().await;
    let server = "requirepass data\nmasterauth data\n";
    let master = Server::start(server);
    let sentinel = format!(
        "requirepass watch\nsentinel monitor main 127.0.0.1 {} 1\nsentinel auth-pass main data\n",
        master.port()
    );
    let (first, second) = (Server::sentinel(&sentinel), Server::start(""));
    // The second is no sentinel, and the third is not there.
    let url = format!(
        "redis+sentinel://{},{},127.0.0.1:1/main/3?protocol=resp3",
        second.address(),
        first.address()
    );
    let with = |lines: &str| {
        let lines = format!("timeout = \"10s\"\n{lines}");
        Gateway::setup(&origin).l2(&url, &lines).start()
    };
    let gateway = with("password = \"data\"\nsentinel_password = \"watch\"").await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(600));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.settled().await;
    let other = with("password = \"data\"\nsentinel_password = \"watch\"").await.in_step().await;
    other.get("/a").await.body("1").status("hit");
    let keyspace = || master.ask("AUTH data\r\nINFO keyspace");
    until("it is database 3", || keyspace().contains("db3:")).await;
    assert!(!keyspace().contains("db0:"));
}
