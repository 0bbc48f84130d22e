//! Redis as a cluster: keys on several nodes, of which some hang, die or change places.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sentinel::serves_again;
use crate::support::gateway::{Gateway, Setup};
use crate::support::load::Load;
use crate::support::origin::{Origin, ok, status};
use crate::support::server::Server;
use crate::support::tiers::share_variants;
use crate::support::until;

/// Long for a server that answers.
const TIMEOUT: &str = "timeout = \"200ms\"";

/// Nodes that soon find another one down, and go on without it.
const LINES: &str = "cluster-node-timeout 500\ncluster-require-full-coverage no\n\
                     cluster-replica-validity-factor 0\n";

/// Three masters that have all slots, and perhaps a replica.
struct Stage(Vec<Server>);

impl Stage {
    async fn start() -> Self {
        let stage = Self((0..3).map(|_| Server::cluster(LINES)).collect());
        for (node, slots) in stage.0.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            assert_eq!(node.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}")), "+OK\r\n");
        }
        stage.meet(3).await;
        stage
    }

    /// Makes each node know all, of which so many have slots.
    async fn meet(&self, masters: usize) {
        for node in &self.0[1..] {
            let port = node.port();
            assert_eq!(self.0[0].ask(&format!("CLUSTER MEET 127.0.0.1 {port}")), "+OK\r\n");
        }
        for node in &self.0 {
            until("the nodes know each other", || {
                let (all, info) = (node.ask("CLUSTER NODES"), node.ask("CLUSTER INFO"));
                all.matches(" connected").count() == self.0.len()
                    && !all.contains("handshake")
                    && info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_ok:16384")
                    && info.contains(&format!("cluster_size:{masters}"))
            })
            .await;
        }
    }

    /// The node that has a key, by its place.
    fn owner(&self, key: &str) -> usize {
        let is_owner = |node: &Server| node.ask(&format!("EXISTS {key}")).starts_with(':');
        self.0.iter().position(is_owner).unwrap()
    }

    fn url(&self) -> String {
        // Two of three: the rest is found.
        format!("redis+cluster://{},{}", self.0[0].address(), self.0[1].address())
    }

    fn setup(&self, origin: &Origin) -> Setup {
        Gateway::setup(origin).l2(&self.url(), TIMEOUT)
    }

    /// A gateway that looks into L2 each time.
    async fn without_l1(&self, origin: &Origin) -> Gateway {
        let setup = Gateway::setup(origin).cache("[cache.l1]\ncapacity = \"0\"");
        setup.l2(&self.url(), TIMEOUT).start().await.in_step().await
    }
}

fn id(node: &Server) -> String {
    node.ask("CLUSTER MYID").lines().nth(1).unwrap().to_owned()
}

fn frames(node: &Server) -> u64 {
    let keys = node.ask("KEYS larder:r:*");
    keys.strip_prefix('*').and_then(|keys| keys.lines().next()).unwrap().parse().unwrap()
}

/// Responses that are stored in L2 by now, so many on each node.
async fn store(stage: &Stage, origin: &Origin, gateway: &Gateway) -> (Vec<String>, Vec<u64>) {
    let targets: Vec<_> = (0..24).map(|number| format!("/{number}")).collect();
    for target in &targets {
        origin.on(target).reply(ok(target.clone()).max_age(600));
        gateway.get(target).await.body(target).status("fwd=uri-miss; stored");
    }
    gateway.settled().await;
    let counts: Vec<_> = stage.0.iter().map(frames).collect();
    assert_eq!(counts.iter().sum::<u64>(), 24);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    (targets, counts)
}

#[tokio::test]
async fn keys_are_found_on_their_nodes_and_one_that_hangs_takes_its_own_alone() {
    let (origin, stage) = (Origin::start().await, Stage::start().await);
    let (first, second) =
        (stage.setup(&origin).start().await.in_step().await, stage.without_l1(&origin).await);
    let (targets, counts) = store(&stage, &origin, &first).await;
    for target in &targets {
        second.get(target).await.body(target).status("hit");
    }
    assert_eq!(second.figure("l2_hits"), 24);
    // Variants lie where they lie, and are looked for together.
    share_variants(&origin, &first, &second).await;

    let log = stage.owner("larder:log");
    let held = (log + 1) % 3;
    stage.0[held].hold();
    for target in &targets {
        second.get(target).await.code(200).body(target);
    }
    // Nobody waits for it after some timeouts in a row.
    until("it is given up", || !second.l2().up).await;
    let (hits, mut found) = (second.figure("l2_hits"), 0);
    for target in &targets {
        let got = second.get(target).await.code(200).body(target);
        found += u64::from(got.cache_status().starts_with("hit"));
    }
    assert_eq!(found, 24 - counts[held]);
    assert_eq!(second.figure("l2_hits"), hits + found);
    assert!(!second.l2().up && second.l2().log_in_step);

    stage.0[held].release();
    for target in &targets {
        until_hit(&second, target).await;
    }
}

/// Asks until it is a hit: what was not there is written in the background.
async fn until_hit(gateway: &Gateway, target: &str) {
    for _ in 0..1000 {
        let got = gateway.get(target).await.code(200).body(target);
        if got.cache_status().starts_with("hit") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{target} is never a hit");
}

#[tokio::test]
async fn node_that_dies_takes_its_own_keys_alone_and_the_logs_node_takes_l2() {
    let origin = Arc::new(Origin::start().await);
    let mut stage = Stage::start().await;
    let first = stage.setup(&origin).start().await.in_step().await;
    let second = Arc::new(stage.without_l1(&origin).await);
    let (targets, counts) = store(&stage, &origin, &first).await;
    let mut load = Load::start(&origin, &[Arc::clone(&second)], 4);
    load.goes_on(20).await;
    let log = stage.owner("larder:log");
    let dead = (log + 1) % 3;
    stage.0[dead].kill();
    load.goes_on(50).await;
    let mut found = 0;
    for target in &targets {
        let got = second.get(target).await.code(200).body(target);
        found += u64::from(got.cache_status().starts_with("hit"));
    }
    assert_eq!(found, 24 - counts[dead]);
    assert!(second.l2().log_in_step);

    stage.0[log].kill();
    load.goes_on(50).await;
    until("the log is out of reach", || !second.l2().log_in_step).await;
    for target in &targets {
        second.get(target).await.code(200).body(target);
    }
    load.goes_on(50).await;
}

#[tokio::test]
async fn log_is_followed_where_its_slot_goes_and_to_the_replica_of_its_node() {
    let origin = Arc::new(Origin::start().await);
    let mut stage = Stage::start().await;
    let first = stage.setup(&origin).start().await.in_step().await;
    let second = stage.setup(&origin).start().await.in_step().await;
    origin.on("/a").reply(ok("1").etag("v1").max_age(600));
    first.get("/a").await.status("fwd=uri-miss; stored");
    first.settled().await;
    second.get("/a").await.body("1").status("hit");

    // Its slot, with the log and what lies beside it, moves to another node.
    let from = stage.owner("larder:log");
    let to = (from + 1) % 3;
    let slot = stage.0[from].ask("CLUSTER KEYSLOT larder:log");
    let slot = slot.trim().trim_start_matches(':').to_owned();
    let set = |node: &Server, what: &str| {
        assert_eq!(node.ask(&format!("CLUSTER SETSLOT {slot} {what}")), "+OK\r\n");
    };
    set(&stage.0[to], &format!("IMPORTING {}", id(&stage.0[from])));
    set(&stage.0[from], &format!("MIGRATING {}", id(&stage.0[to])));
    let keys = stage.0[from].ask(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
    let keys: Vec<_> = keys.lines().filter(|line| line.starts_with("larder:")).collect();
    assert_eq!(keys.len(), 3, "the log, its name and its server lie together: {keys:?}");
    let port = stage.0[to].port();
    let migrate = format!("MIGRATE 127.0.0.1 {port} \"\" 0 5000 KEYS {}", keys.join(" "));
    assert_eq!(stage.0[from].ask(&migrate), "+OK\r\n");
    for node in [to, from] {
        set(&stage.0[node], &format!("NODE {}", id(&stage.0[to])));
    }
    until("both read it there", || {
        stage.0[to].ask("CLIENT LIST").matches("cmd=xread").count() == 2
    })
    .await;
    first.is_in_step().await;
    second.is_in_step().await;
    origin.on("/a").method("PUT").reply(status(204));
    first.ask("PUT", "/a").send().await.code(204);
    origin.on("/a").method("GET").reply(ok("2").etag("v2").max_age(600));
    first.get("/a").await.body("2");
    until("the write is known", || second.store().log_position >= first.store().log_position).await;
    second.get("/a").await.body("2");

    // A replica of that node, which then dies.
    stage.0.push(Server::cluster(LINES));
    stage.meet(3).await;
    let master = id(&stage.0[to]);
    assert_eq!(stage.0[3].ask(&format!("CLUSTER REPLICATE {master}")), "+OK\r\n");
    until("it is linked", || stage.0[to].ask("INFO replication").contains("state=online")).await;
    let gateway = Arc::new(stage.without_l1(&origin).await);
    let mut load = Load::start(&origin, &[Arc::clone(&gateway)], 4);
    load.goes_on(20).await;
    let killed = Instant::now();
    stage.0[to].kill();
    load.goes_on(50).await;
    until("the replica has its slots", || stage.0[3].ask("ROLE").contains("master")).await;
    until("all read the log there", || {
        stage.0[3].ask("CLIENT LIST").matches("cmd=xread").count() == 3
    })
    .await;
    gateway.is_in_step().await;
    let seconds = serves_again(&gateway, &origin, "/killed", killed).await;
    println!("L2 serves {seconds:.1} s after the node of the log was killed");
    load.goes_on(50).await;
}
