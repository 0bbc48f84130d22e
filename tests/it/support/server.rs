//! Real Redis servers on ports of their own, of which several make a whole: a master with its
//! replica and sentinels, or a cluster. Each is killed when it is dropped.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{free_port, tool};

/// A server that can be killed, started again, and held still.
pub struct Server {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    kind: &'static str,
    child: Option<Child>,
}

impl Server {
    /// A server with these lines in its configuration.
    pub fn start(lines: &str) -> Self {
        Self::of_kind("redis-server", "", lines)
    }

    /// The same of another make.
    pub fn valkey(lines: &str) -> Self {
        Self::of_kind(tool("valkey/bin/valkey-server"), "", lines)
    }

    /// A sentinel with these lines in its configuration.
    pub fn sentinel(lines: &str) -> Self {
        Self::of_kind("redis-server", "--sentinel", lines)
    }

    /// A node of a cluster, with these lines in its configuration.
    pub fn cluster(lines: &str) -> Self {
        Self::of_kind("redis-server", "", &format!("cluster-enabled yes\n{lines}"))
    }

    fn of_kind(program: impl Into<PathBuf>, kind: &'static str, lines: &str) -> Self {
        let program = program.into();
        // Another program may take the port before the server does.
        for _ in 0..20 {
            let port = free_port();
            let folder = tempfile::tempdir().unwrap();
            let mut text = format!("bind 127.0.0.1\ndir {}\n", folder.path().display());
            // A server with TLS has its port in its own lines.
            let lines = lines.replace("PORT", &port.to_string());
            if !lines.contains("tls-port") {
                writeln!(text, "port {port}").unwrap();
            }
            if kind.is_empty() {
                text += "save \"\"\n";
            }
            std::fs::write(folder.path().join("redis.conf"), text + &lines).unwrap();
            let program = program.clone();
            let mut server = Self { program, folder, port, kind, child: None };
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server does not start with\n{lines}");
    }

    /// Whether it takes connections.
    fn launch(&mut self) -> bool {
        let mut command = Command::new(&self.program);
        command.arg(self.folder.path().join("redis.conf"));
        command.args(Some(self.kind).filter(|kind| !kind.is_empty()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(
            child.expect("`redis-server` must be installed (Debian: apt-get install redis-server)"),
        );
        (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.is_running()
        })
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again, with the configuration as it stands.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "redis-server does not start again");
    }

    /// Holds it still (SIGSTOP): connections stay open and nothing answers.
    pub fn hold(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn release(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// What it answers to commands of words without spaces, in the protocol's own form. Empty if it
    /// does not.
    pub fn ask(&self, command: &str) -> String {
        self.try_to_ask(command).unwrap_or_default()
    }

    fn try_to_ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut octets = [0; 4096];
        while let Ok(length) = stream.read(&mut octets) {
            answer.extend_from_slice(&octets[..length]);
            if length == 0 {
                break;
            }
            // The rest is on its way, if there is one.
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
