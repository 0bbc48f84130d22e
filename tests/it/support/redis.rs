//! A real Redis: on a Unix socket in a temporary directory of its own, without persistence, killed
//! when it is dropped.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A server that can be killed, started again with nothing in it, and held still.
pub(crate) struct Redis {
    directory: TempDir,
    server: Option<Child>,
}

impl Redis {
    /// A server that answers.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut redis = Self { directory, server: None };
        redis.restart();
        redis
    }

    /// For `redis` in `[cache.l2]`.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Ends the server at once (SIGKILL). Connections break, and new ones are refused.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("the server is our child");
            server.wait().expect("the server is our child");
        }
        // Without a listener behind it, it would refuse anyway; `restart` waits for a new one.
        drop(std::fs::remove_file(self.socket()));
    }

    /// Starts a server in the place of the last one. It holds what that one held at its last
    /// `SAVE`, and without one nothing.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--unixsocket", &self.socket().display().to_string()])
            .arg("--dir")
            .arg(self.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`redis-server` must be installed (Debian: apt-get install redis-server)");
        self.server = Some(server);
        let answers = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            self.ask("PING").is_ok_and(|answer| answer.starts_with("+PONG"))
        });
        assert!(answers, "redis-server does not answer");
    }

    /// Holds the server still (SIGSTOP): connections stay open and nothing answers.
    pub(crate) fn hold(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn release(&self) {
        self.signal("-CONT");
    }

    /// What the server answers to a command of words without spaces: the first 64 KiB, in the
    /// protocol's own form.
    pub(crate) fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = vec![0; 64 << 10];
        let length = stream.read(&mut answer)?;
        answer.truncate(length);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn signal(&self, signal: &str) {
        let server = self.server.as_ref().expect("the server runs");
        let sent = Command::new("kill").args([signal, &server.id().to_string()]).status();
        assert!(sent.expect("`kill` is installed").success());
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
