//! The program itself: `larder` with arguments, in a folder.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::PATIENCE;
use super::client::Ask;
use super::names::Names;
use super::wire::Line;

/// How long it may take until it listens, on a busy machine: it compiles its plugins, and repairs a
/// database after a kill. Nothing is asserted of how soon it does.
const START: Duration = Duration::from_mins(1);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `larder` to its end, with nothing in its environment.
pub(crate) fn larder(folder: &Path, arguments: &[&str]) -> Ran {
    larder_with(folder, arguments, &[])
}

/// As [`larder`], with these variables.
pub(crate) fn larder_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut child = start(folder, arguments, variables, Stdio::piped());
    let out = collect(child.stdout.take().unwrap());
    let err = collect(child.stderr.take().unwrap());
    let code = wait(&mut child).code();
    Ran { code, out: out.recv().unwrap(), err: err.recv().unwrap() }
}

/// A `larder run` that listens.
pub(crate) struct Running {
    child: Child,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    log: UnboundedReceiver<String>,
    folder: TempDir,
}

impl Running {
    /// With this `gateway.toml`. Its ports should be 0.
    pub(crate) async fn with(gateway_toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.toml"), gateway_toml).unwrap();
        Self::start(folder, &["run", "--log-json"]).await
    }

    /// As [`Running::with`], and names stand for what these say.
    pub(crate) async fn with_names(gateway_toml: &str, names: &Names) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.toml"), gateway_toml).unwrap();
        let variables = names.variables();
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let child = start(folder.path(), &["run", "--log-json"], &variables, Stdio::null());
        Self::listening(folder, child).await
    }

    /// As [`Running::with`], with these variables.
    pub(crate) async fn with_variables(gateway_toml: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.toml"), gateway_toml).unwrap();
        let child = start(folder.path(), &["run", "--log-json"], variables, Stdio::null());
        Self::listening(folder, child).await
    }

    /// As [`Running::with`], by a program of systemd that listens at these addresses, and starts it once this
    /// has been said to the first of them. Who has said it waits for the answer.
    pub(crate) async fn activated(
        gateway_toml: &str,
        addresses: &[SocketAddr],
        said: &str,
    ) -> (Self, Line) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.toml"), gateway_toml).unwrap();
        let child = Command::new("systemd-socket-activate")
            .args(addresses.iter().map(|address| format!("--listen={address}")))
            .args(["--fdname=clients:operators:nobody", env!("CARGO_BIN_EXE_larder")])
            .args(["run", "--log-json"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect(
                "`systemd-socket-activate` must be installed (Debian: apt-get install systemd)",
            );
        let listens = async {
            while TcpStream::connect(addresses[1]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("it never listens");
        let mut line = Line::to(addresses[0]).await;
        line.send(said).await;
        (Self::listening(folder, child).await, line)
    }

    /// Before this server, without a file.
    pub(crate) async fn upstream(url: &str) -> Self {
        let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let arguments = [&["run", "--log-json", "--upstream", url][..], &listen].concat();
        Self::start(tempfile::tempdir().unwrap(), &arguments).await
    }

    /// As [`Running::with`], but no file may grow beyond so many KiB: writing there fails then.
    pub(crate) async fn with_short_files(gateway_toml: &str, kib: u64) -> Self {
        // A write beyond the limit is a signal first, which would end the program.
        Self::after(&format!("trap '' XFSZ; ulimit -f {}", 2 * kib), gateway_toml).await
    }

    /// As [`Running::with`], by a shell that does this first.
    pub(crate) async fn after(commands: &str, gateway_toml: &str) -> Self {
        Self::by_shell(commands, gateway_toml, Stdio::null()).await
    }

    /// As [`Running::with`], with a socket that whoever passes it has, too, as systemd does.
    pub(crate) async fn with_socket(gateway_toml: &str, socket: &TcpListener) -> Self {
        let commands = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$";
        let socket = OwnedFd::from(socket.try_clone().unwrap());
        Self::by_shell(commands, gateway_toml, socket.into()).await
    }

    async fn by_shell(commands: &str, gateway_toml: &str, stdin: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.toml"), gateway_toml).unwrap();
        let script = format!("{commands}; exec \"$0\" run --log-json");
        let child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_larder")])
            .current_dir(folder.path())
            .env_clear()
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self::listening(folder, child).await
    }

    async fn start(folder: TempDir, arguments: &[&str]) -> Self {
        let child = start(folder.path(), arguments, &[], Stdio::null());
        Self::listening(folder, child).await
    }

    async fn listening(folder: TempDir, mut child: Child) -> Self {
        let (line, mut log) = unbounded_channel();
        let again = line.clone();
        let err = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            err.lines().map_while(Result::ok).try_for_each(|it| line.send(it))
        });
        let (listening, before) = said_after(&mut log, "listening", START).await;
        drop(before.into_iter().try_for_each(|it| again.send(it)));
        let address = |name: &str| listening[name].as_str()?.parse().ok();
        let (address, admin) = (address("address").unwrap(), address("admin"));
        Self { child, address, admin, log, folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.unwrap()
    }

    /// The folder that it was started in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Reads its log no more: the line after the next cannot be written.
    pub(crate) fn is_not_heard(&mut self) {
        self.log.close();
    }

    /// Waits until the log has a line with this message.
    pub(crate) async fn says(&mut self, message: &str) -> Value {
        said(&mut self.log, message).await
    }

    /// As [`Running::says`], and the fields of that line.
    pub(crate) async fn logs(&mut self, message: &str) -> Value {
        said(&mut self.log, message).await
    }

    /// Waits until the log has a line with this message; what it said before that.
    pub(crate) async fn until_it_says(&mut self, message: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(Some(line)) = tokio::time::timeout(PATIENCE, self.log.recv()).await {
            if line.contains(message) {
                return lines;
            }
            lines.push(line);
        }
        panic!("larder never said `{message}`, but:\n{}", lines.join("\n"));
    }

    /// Waits until the log has had a line with each of these messages, in whatever order; what it said
    /// until then.
    pub(crate) async fn until_it_has_said(&mut self, messages: &[&str]) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let has = |lines: &[String], message: &&str| lines.iter().any(|it| it.contains(message));
        while !messages.iter().all(|message| has(&lines, message)) {
            match tokio::time::timeout(PATIENCE, self.log.recv()).await {
                Ok(Some(line)) => lines.push(line),
                _ => panic!("larder has not said all of {messages:?}, but:\n{}", lines.join("\n")),
            }
        }
        lines
    }

    /// `GET /stats`.
    pub(crate) async fn stats(&self) -> Value {
        let got = Ask::new(self.admin(), "GET", "/stats").send().await.code(200);
        serde_json::from_slice(&got.body).unwrap()
    }

    /// Waits until it uses L2. Its log may have said so before it said that it listens.
    pub(crate) async fn is_in_step(&self) {
        let waiting = async {
            while self.stats().await["store"]["l2"]["log_in_step"] != true {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "L2 is never in use");
    }

    /// A figure of its memory in MiB, by its name in `/proc/PID/status`, as `VmRSS`.
    pub(crate) fn memory(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines().filter_map(|line| line.strip_prefix(figure));
        let line = lines.next().and_then(|line| line.split_whitespace().nth(1));
        line.unwrap().parse::<u64>().unwrap() >> 10
    }

    /// Sends a signal by its name, as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("`kill` must be installed").success());
    }

    /// Stops it where it is. It goes on with the signal `CONT`.
    pub(crate) async fn pause(&self) {
        self.signal("STOP");
        stands_still(self.child.id()).await;
    }

    /// Waits for its end.
    pub(crate) async fn exit_code(mut self) -> Option<i32> {
        let waiting = tokio::task::spawn_blocking(move || wait(&mut self.child).code());
        waiting.await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, as a rule; where a test fails, by a signal that may be why.
        let ended = self.child.try_wait().ok().flatten().and_then(|status| status.signal());
        if let (Some(signal), true) = (ended, std::thread::panicking()) {
            drop(writeln!(std::io::stderr(), "larder was ended by signal {signal}"));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until a process that was told to stop has: each thread does when it comes to it.
pub(crate) async fn stands_still(process: u32) {
    let tasks = format!("/proc/{process}/task");
    super::until("every thread stands still", || {
        let mut threads = std::fs::read_dir(&tasks).unwrap();
        threads.all(|thread| {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status"));
            status.is_ok_and(|status| status.contains("\nState:\tT"))
        })
    })
    .await;
}

fn start(folder: &Path, arguments: &[&str], variables: &[(&str, &str)], out: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The fields of the next log line that begins so.
async fn said(log: &mut UnboundedReceiver<String>, message: &str) -> Value {
    said_after(log, message, PATIENCE).await.0
}

/// As [`said`], and the lines before it.
async fn said_after(
    log: &mut UnboundedReceiver<String>,
    message: &str,
    patience: Duration,
) -> (Value, Vec<String>) {
    let mut lines = Vec::new();
    while let Ok(Some(line)) = tokio::time::timeout(patience, log.recv()).await {
        let mut line_fields = serde_json::from_str::<Value>(&line).unwrap_or_default();
        let fields = line_fields["fields"].take();
        if fields["message"].as_str().is_some_and(|said| said.starts_with(message)) {
            return (fields, lines);
        }
        lines.push(line);
    }
    panic!("larder never said `{message}`, but:\n{}", lines.join("\n"));
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, text) = mpsc::channel();
    std::thread::spawn(move || {
        let mut octets = Vec::new();
        let _broken = from.read_to_end(&mut octets);
        sender.send(String::from_utf8_lossy(&octets).into_owned())
    });
    text
}

fn wait(child: &mut Child) -> ExitStatus {
    const LOOKS: u32 = 12_000;
    for _ in 0..LOOKS {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(6 * PATIENCE / LOOKS);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("larder never ended");
}
