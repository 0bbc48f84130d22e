//! A deployment of MongoDB that is found by its SRV records, over DNS.
//!
//! The driver asks the machine's resolver, which asks port 53. So the test runs itself once more in
//! namespaces of its own, where `/etc/resolv.conf` and that port are the test's.

use std::env;
use std::io::Write as _;
use std::process::Command;

use mongodb::bson::doc;
use tokio::net::UdpSocket;

use crate::support::client::Ask;
use crate::support::mongodb::MongoDb;
use crate::support::program::Running;
use crate::support::shell::until;

/// Is set where the namespaces are.
const WITHIN: &str = "LARDER_TEST_WITHIN";

const CLUSTER: &str = "_mongodb._tcp.cluster.shop.example";
const SERVER: &str = "db1.shop.example";

const A: u16 = 1;
const SRV: u16 = 33;

/// Labels as DNS has them (RFC 1035 §3.1).
fn labels(name: &str) -> Vec<u8> {
    let mut labels = Vec::new();
    for label in name.split('.') {
        labels.push(u8::try_from(label.len()).unwrap());
        labels.extend(label.as_bytes());
    }
    labels.push(0);
    labels
}

/// What a record of this name and type says, if there is one.
fn record(name: &[u8], kind: u16, port: u16) -> Option<Vec<u8>> {
    let is = |other: &str| name.eq_ignore_ascii_case(&labels(other));
    match kind {
        SRV if is(CLUSTER) => {
            // Priority, weight, port, target (RFC 2782).
            let target = labels(SERVER);
            Some([&[0; 4], &port.to_be_bytes()[..], &target].concat())
        }
        A if is(SERVER) => Some(vec![127, 0, 0, 1]),
        _ => None,
    }
}

/// The answer to a question (RFC 1035 §4): its record, or that there is none.
fn answer(asked: &[u8], port: u16) -> Vec<u8> {
    let name = 12 + asked[12..].iter().position(|octet| *octet == 0).unwrap() + 1;
    let kind = u16::from_be_bytes([asked[name], asked[name + 1]]);
    let record = record(&asked[12..name], kind, port);
    let count = u8::from(record.is_some());
    // An answer, authoritative, and to who asked for recursion.
    let mut answer = [&asked[..2], &[0x85, 0x80, 0, 1, 0, count, 0, 0, 0, 0]].concat();
    answer.extend(&asked[12..name + 4]);
    if let Some(record) = record {
        // The question's name, its type, class IN, 5 seconds.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 5]);
        answer.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
        answer.extend(record);
    }
    answer
}

async fn name_server(port: u16) {
    let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
    tokio::spawn(async move {
        let mut asked = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut asked).await.unwrap();
            socket.send_to(&answer(&asked[..length], port), from).await.unwrap();
        }
    });
}

/// Runs this test again where it is root, alone on its network, and has its own name server.
fn within_namespaces() {
    let mut resolver = tempfile::NamedTempFile::new().unwrap();
    writeln!(resolver, "nameserver 127.0.0.1").unwrap();
    let script = r#"mount --bind "$1" /etc/resolv.conf && ip link set lo up &&
        exec "$0" --exact srv::a_deployment_is_found_by_its_srv_records --ignored --nocapture"#;
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", script])
        .arg(env::current_exe().unwrap())
        .arg(resolver.path())
        .env(WITHIN, "1")
        .output()
        .expect("unshare of util-linux: install util-linux and iproute2");
    let said = [&ran.stdout[..], &ran.stderr].map(String::from_utf8_lossy).join("\n");
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "asks the kernel for namespaces, which not every user may have: `tests/run --long`"]
async fn a_deployment_is_found_by_its_srv_records() {
    if env::var_os(WITHIN).is_none() {
        return within_namespaces();
    }
    let mongodb = MongoDb::start().await;
    let users = mongodb.collection("users");
    users.insert_one(doc! { "_id": 1, "name": "Ann" }).await.unwrap();
    name_server(mongodb.port()).await;
    let mut larder = Running::with(
        r#"
        server = { listen = "127.0.0.1:0" }
        admin = { listen = "127.0.0.1:0" }
        mongodb.shop = { uri = "mongodb+srv://cluster.shop.example/?tls=false" }
        [[routes]]
        name = "users"
        path = "/users/{id}"
        document = { mongodb = "shop", database = "app", collection = "users", find = { _id = "{id:int}" } }
        ttl = "5m"
        [[changes]]
        mongodb = "shop"
        database = "app"
        collections = ["users"]
        "#,
    )
    .await;
    larder.until_it_says("watches changes").await;
    let get = || Ask::new(larder.address(), "GET", "/users/1").send();
    get().await.code(200).body(r#"{"_id":1,"name":"Ann"}"#);
    get().await.code(200).status("hit");
    users.update_one(doc! { "_id": 1 }, doc! { "$set": { "name": "Bob" } }).await.unwrap();
    until("a fresh read", async || get().await.body == r#"{"_id":1,"name":"Bob"}"#.as_bytes())
        .await;
}
