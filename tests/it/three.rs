//! The fleet of three that the README starts: its commands as they stand there, in one bash, on free
//! ports; and the files that they use.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::client::Ask;
use crate::support::shell::{Bash, Ports, commands, copied, until};

/// The ports of the README: Redis, the API, the load balancer, and those of each gateway.
const REDIS: u16 = 6400;
const API: u16 = 3000;
const BALANCER: u16 = 8080;
const GATEWAYS: [(u16, u16); 3] = [(8081, 9081), (8082, 9082), (8083, 9083)];

/// What is there already: the program is built.
const BUILD: &str =
    "cargo build --release && PATH=$PWD/target/release:$PATH:/usr/sbin && cd docs/fleet";

/// Where programs are; with that of Debian's `nginx`, as the README's.
fn path() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    format!("{}:/usr/sbin", path.to_string_lossy())
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet"))
}

/// Each of the example's ports, and another one.
fn free_ports() -> Ports {
    let gateways = GATEWAYS.into_iter().flat_map(|(clients, admin)| [clients, admin]);
    Ports::free([REDIS, API, BALANCER].into_iter().chain(gateways))
}

/// As in the README's text; a gateway's number is one that counts.
fn shown(ports: &Ports, printed: &str) -> String {
    let gateways = ('1'..='3').zip('a'..);
    let named = gateways.fold(printed.to_owned(), |text, (number, letter)| {
        text.replace(&format!("shop-{number}"), &format!("shop-{letter}"))
    });
    ports.shown(&named)
}

/// What a gateway says of its store.
async fn store(admin: SocketAddr) -> Value {
    let got = Ask::new(admin, "GET", "/stats").send().await.code(200);
    serde_json::from_slice::<Value>(&got.body).unwrap()["store"].take()
}

/// Waits until what a command started can be used, as a reader would.
async fn ready(ports: &Ports, command: &str) {
    let mut listening = ports.named_by(command);
    if command.starts_with("nginx") {
        listening.push(ports.address(BALANCER));
    }
    assert!(!listening.is_empty(), "`{command}` does not say where it listens");
    for address in listening {
        until(command, async || TcpStream::connect(address).await.is_ok()).await;
    }
    let started = GATEWAYS.iter().find(|(clients, _)| command.contains(&clients.to_string()));
    if let Some((_, admin)) = started {
        let admin = ports.address(*admin);
        until(command, async || store(admin).await["l2"]["log_in_step"] == true).await;
    }
}

/// Waits until what was fetched lies in Redis.
async fn settled(ports: &Ports) {
    for (_, admin) in GATEWAYS {
        let admin = ports.address(admin);
        if TcpStream::connect(admin).await.is_ok() {
            until("nothing is being written", async || store(admin).await["l2"]["writing"] == 0)
                .await;
        }
    }
}

#[tokio::test]
async fn readme_starts_three_gateways_and_loses_one() {
    for program in ["nginx -v", "curl -V", "redis-server -v", "python3 -V"] {
        let ran = Command::new("sh").args(["-c", program]).env("PATH", path()).output().unwrap();
        assert!(ran.status.success(), "`{program}` fails: run tests/run");
    }
    let ports = free_ports();
    let files = copied(folder(), &ports);
    let mut commands = commands(include_str!("../../README.md"), "## A fleet of three");
    assert_eq!(commands.remove(0).0, BUILD);
    let mut bash = Bash::start(files.path(), &path());
    for (command, expected) in &commands {
        // The machine may be busy.
        let given = ports.put_into(&command.replace("wait=1s", "wait=10s"));
        let (code, printed) = bash.run(&given).await;
        let log = || fs::read_to_string(files.path().join("bash.log")).unwrap();
        assert_eq!(code, "0", "{command}: {printed:?}\n{}", log());
        let [printed, expected] = [&printed, expected]
            .map(|lines| lines.iter().map(|line| shown(&ports, line)).collect::<Vec<_>>());
        assert_eq!(printed, expected, "{command}\n{}", log());
        if command.ends_with('&') {
            ready(&ports, command).await;
        }
        if command.starts_with("ask ") {
            settled(&ports).await;
        }
    }
    bash.run("wait").await;
}

#[test]
fn compose_file_has_the_same_load_balancer() {
    let read = |file: &str| fs::read_to_string(folder().join(file)).unwrap();
    let compose = read("compose.yaml");
    let inside = compose.split("    content: |\n").nth(1).unwrap();
    let inside: String = inside
        .lines()
        .map(|line| line.strip_prefix("      ").unwrap_or(line).replace("$$", "$") + "\n")
        .collect();
    let mut nginx = read("nginx.conf").replace("listen 127.0.0.1:8080", "listen 8080");
    for number in 1..=3 {
        let (here, there) = (format!("127.0.0.1:808{number}"), format!("gateway-{number}:8080"));
        nginx = nginx.replace(&here, &there);
        assert!(compose.contains(&format!("\n  gateway-{number}: {{ <<: *gateway")));
    }
    // What its first lines say is about that file.
    assert_eq!(nginx.split_once("\n\n").unwrap().1, inside);
}
