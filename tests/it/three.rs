//! The fleet of three that the README starts: its commands as they stand there, in one bash, on free
//! ports; and the files that they use.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::client::Ask;
use crate::support::{PATIENCE, secs};

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

/// The commands of the README's section, each with what it prints there.
fn commands() -> Vec<(String, Vec<String>)> {
    let readme = include_str!("../../README.md");
    let section = readme.split("\n## A fleet of three\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command.to_owned(), Vec::new())),
            None => commands.last_mut().expect("a command first").1.push(line.to_owned()),
        }
    }
    commands
}

/// Another port for each of the README's.
struct Ports(BTreeMap<u16, u16>);

impl Ports {
    /// They are below those that systems give away by themselves, as to other tests.
    fn free() -> Self {
        let mut candidates =
            (0..10_000).map(|more| 20_000 + (std::process::id() * 20 + more) % 10_000);
        let mut free = || {
            let ports = candidates.by_ref().map(|port| u16::try_from(port).unwrap());
            let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
            free.next().expect("a free port")
        };
        let gateways = GATEWAYS.into_iter().flat_map(|(clients, admin)| [clients, admin]);
        let all = [REDIS, API, BALANCER].into_iter().chain(gateways);
        Self(all.map(|port| (port, free())).collect())
    }

    fn put_into(&self, text: &str) -> String {
        // By way of names, as a free port may be one of the README's.
        let named = self.0.keys().fold(text.to_owned(), |text, port| {
            text.replace(&port.to_string(), &format!("<port {}>", letters(*port)))
        });
        self.0.iter().fold(named, |text, (port, free)| {
            text.replace(&format!("<port {}>", letters(*port)), &free.to_string())
        })
    }

    fn address(&self, port: u16) -> SocketAddr {
        ([127, 0, 0, 1], self.0[&port]).into()
    }

    /// Those that a command names.
    fn named_by(&self, command: &str) -> Vec<SocketAddr> {
        let named = self.0.keys().filter(|port| command.contains(&port.to_string()));
        named.map(|port| self.address(*port)).collect()
    }

    /// What was printed, with what differs from run to run as in the README's text: ports are
    /// the README's, and other numbers `#`, but for a gateway's.
    fn shown(&self, printed: &str) -> String {
        let mut text = printed.to_owned();
        for (port, free) in &self.0 {
            text = text.replace(&format!(":{free}"), &format!(":{}", letters(*port)));
            text = text.replace(&format!(":{port}"), &format!(":{}", letters(*port)));
        }
        let gateways = ('1'..='3').zip('a'..);
        for (number, letter) in gateways {
            text = text.replace(&format!("shop-{number}"), &format!("shop-{letter}"));
        }
        let mut shown = String::new();
        for c in text.chars() {
            match c.is_ascii_digit() {
                true if shown.ends_with('#') => {}
                true => shown.push('#'),
                false => shown.push(c),
            }
        }
        shown
    }
}

/// A port in letters, which are no number.
fn letters(port: u16) -> String {
    port.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

/// A bash that is given line by line. Dropping it kills all that it has started.
struct Bash {
    child: Child,
    to: ChildStdin,
    printed: UnboundedReceiver<String>,
}

impl Bash {
    fn start(folder: &Path) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_larder")).parent().unwrap();
        let path = format!("{}:{}", program.display(), path());
        let mut child = Command::new("bash")
            .current_dir(folder)
            .env("PATH", path)
            // What it starts stays in its group.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("bash.log")).unwrap())
            .spawn()
            .expect("`bash` must be installed");
        let (line, printed) = unbounded_channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|it| line.send(it))
        });
        let to = child.stdin.take().unwrap();
        Self { child, to, printed }
    }

    /// Its exit code, and what it prints.
    async fn run(&mut self, command: &str) -> (String, Vec<String>) {
        // `curl` ends no line.
        writeln!(self.to, "{command}\nprintf '\\n= %s\\n' $?").unwrap();
        let mut lines = Vec::new();
        while let Ok(Some(line)) = tokio::time::timeout(2 * PATIENCE, self.printed.recv()).await {
            if let Some(code) = line.strip_prefix("= ") {
                lines.retain(|line: &String| !line.is_empty());
                return (code.to_owned(), lines);
            }
            lines.push(line);
        }
        panic!("`{command}` does not end; it printed {lines:?}");
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        // All have ended, as a rule.
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.child.wait());
    }
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

/// As [`support::until`](crate::support::until), and looking takes a while.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(secs(1) / 100).await;
        }
    };
    assert!(tokio::time::timeout(2 * PATIENCE, looking).await.is_ok(), "never happened: {what}");
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

/// The folder of the files, with other ports in them.
fn copied(ports: &Ports) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder()).unwrap() {
        let file = file.unwrap();
        let text = ports.put_into(&fs::read_to_string(file.path()).unwrap());
        fs::write(copy.path().join(file.file_name()), text).unwrap();
    }
    copy
}

#[tokio::test]
async fn readme_starts_three_gateways_and_loses_one() {
    for program in ["nginx -v", "curl -V", "redis-server -v", "python3 -V"] {
        let ran = Command::new("sh").args(["-c", program]).env("PATH", path()).output().unwrap();
        assert!(ran.status.success(), "`{program}` fails: run tests/run");
    }
    let ports = Ports::free();
    let files = copied(&ports);
    let mut commands = commands();
    assert_eq!(commands.remove(0).0, BUILD);
    let mut bash = Bash::start(files.path());
    for (command, expected) in &commands {
        // The machine may be busy.
        let given = ports.put_into(&command.replace("wait=1s", "wait=10s"));
        let (code, printed) = bash.run(&given).await;
        let log = || fs::read_to_string(files.path().join("bash.log")).unwrap();
        assert_eq!(code, "0", "{command}: {printed:?}\n{}", log());
        let [printed, expected] = [&printed, expected]
            .map(|lines| lines.iter().map(|line| ports.shown(line)).collect::<Vec<_>>());
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
