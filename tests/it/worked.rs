//! The worked example of `docs/mongodb.md`: its commands as they stand there, in one bash, on other ports;
//! and what prints its figures.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::client::Ask;
use crate::support::shell::{Bash, Ports, commands, copied, until};
use crate::support::tool;

const DOCS: &str = include_str!("../../docs/mongodb.md");
const HEADING: &str = "## A worked example";

/// The ports of the example: MongoDB, the API, and Larder's two.
const MONGODB: u16 = 27018;
const API: u16 = 3000;
const LARDER: (u16, u16) = (8080, 9080);

/// What is there already: the program is built, and a server and a driver are installed.
const INSTALL: [&str; 2] = [
    "cargo build --release && PATH=$PWD/target/release:$PATH && cd docs/users",
    "python3 -m venv venv && venv/bin/pip install -q SecantusDB==0.7.0b3 && PATH=$PWD/venv/bin:$PATH",
];
/// What prints the figures.
const FIGURES: &str = "../../benches/run --part mongodb";

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/users"))
}

/// Where programs are, those that `INSTALL` installs among them.
fn path() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    format!("{}:{}", tool("mongodb/bin").display(), path.to_string_lossy())
}

/// What Larder says of the changes.
async fn changes(ports: &Ports) -> Value {
    let got = Ask::new(ports.address(LARDER.1), "GET", "/stats").send().await.code(200);
    serde_json::from_slice::<Value>(&got.body).unwrap()["changes"]["app.app.users"].take()
}

/// Waits until what a command started can be used, as a reader would.
async fn ready(ports: &Ports, command: &str) {
    let mut listening = ports.named_by(command);
    if command.starts_with("larder") {
        listening = vec![ports.address(LARDER.0)];
        until(command, async || {
            TcpStream::connect(ports.address(LARDER.1)).await.is_ok()
                && changes(ports).await["position_age_seconds"].is_number()
        })
        .await;
    }
    assert!(!listening.is_empty(), "`{command}` does not say where it listens");
    for address in listening {
        until(command, async || TcpStream::connect(address).await.is_ok()).await;
    }
}

#[tokio::test]
async fn the_example_shows_a_write_in_the_next_read() {
    let ports = Ports::free([MONGODB, API, LARDER.0, LARDER.1]);
    let files = copied(folder(), &ports);
    let mut commands = commands(DOCS, HEADING);
    assert_eq!(commands.drain(..2).map(|(command, _)| command).collect::<Vec<_>>(), INSTALL);
    assert_eq!(commands.pop().unwrap().0, FIGURES);
    let mut bash = Bash::start(files.path(), &path());
    let mut written = 0;
    for (command, expected) in &commands {
        let (code, printed) = bash.run(&ports.put_into(command)).await;
        let log = || fs::read_to_string(files.path().join("bash.log")).unwrap();
        assert_eq!(code, "0", "{command}: {printed:?}\n{}", log());
        let [printed, expected] = [&printed, expected]
            .map(|lines| lines.iter().map(|line| ports.shown(line)).collect::<Vec<_>>());
        assert_eq!(printed, expected, "{command}\n{}", log());
        if command.ends_with('&') {
            ready(&ports, command).await;
        }
        // The machine may be busier than a reader is quick.
        if command.starts_with("python write.py ") {
            written += 1;
            until(command, async || changes(&ports).await["events"] == written).await;
        }
    }
    assert_eq!(written, 2);
    bash.run("wait").await;
}

/// The first cells of a table, without numbers.
fn rows(table: &str) -> Vec<String> {
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let texts = cells.map(|cell| {
        let between = cell.trim().split(|c: char| c.is_ascii_digit());
        between.filter(|text| !matches!(*text, "" | ",")).collect::<Vec<_>>().join("#")
    });
    texts.collect()
}

#[test]
fn the_command_for_the_figures_prints_those_of_the_readme() {
    let readme = include_str!("../../README.md");
    let table = readme.split("\nWhat MongoDB behind the cache costs").nth(1).unwrap();
    let table = table.split("\n\n").nth(1).unwrap();
    // It looks for what `cargo build --profile dist` builds.
    let target = tempfile::tempdir().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_larder")).parent().unwrap();
    symlink(built, target.path().join("dist")).unwrap();
    let ran = Command::new("bash")
        .args(["-c", &format!("{FIGURES} --quick --skip-build --no-install")])
        .current_dir(folder())
        .env("CARGO_TARGET_DIR", target.path())
        .output()
        .unwrap();
    let [printed, log] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(ran.status.success(), "{printed}\n{log}");
    let printed = printed.split("\n### MongoDB\n\n").nth(1).unwrap();
    assert_eq!(rows(printed), rows(table));
}
