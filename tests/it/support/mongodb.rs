//! A server of MongoDB's protocol, with its data in a temporary directory of its own, killed when it
//! is dropped.
//!
//! `mongod`, where it is on the path or named by `LARDER_TEST_MONGODB`; else a server that speaks the
//! same protocol, which `tests/run` installs.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection, Database};
use tempfile::TempDir;

use super::program::stands_still;
use super::{PATIENCE, tool};

/// A server that can be killed, started again with what was in it, and held still.
pub(crate) struct MongoDb {
    directory: TempDir,
    port: u16,
    server: Option<Child>,
    /// More options of the server.
    options: &'static [&'static str],
    client: Client,
}

impl MongoDb {
    /// A server that answers.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`MongoDb::start`]; the compatible server knows more `options`.
    pub(crate) async fn start_with(options: &'static [&'static str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (server, port) = serve(directory.path(), None, options);
        let client = client(port).await;
        let mongodb = Self { directory, port, server: Some(server), options, client };
        mongodb.answers().await;
        mongodb
    }

    /// For `uri` in `[mongodb.NAME]`.
    pub(crate) fn uri(&self) -> String {
        Self::uri_of(self.port)
    }

    /// The URI of what listens on this port.
    pub(crate) fn uri_of(port: u16) -> String {
        format!("mongodb://127.0.0.1:{port}/?directConnection=true")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn database(&self) -> Database {
        self.client.database("app")
    }

    /// A collection of the database `app`.
    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database().collection(name)
    }

    /// Ends the server at once (SIGKILL).
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("the server is our child");
            server.wait().expect("the server is our child");
        }
    }

    /// Starts a server in the place of the last one, on the same port and with the same data.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let (server, _) = serve(self.directory.path(), Some(self.port), self.options);
        self.server = Some(server);
        self.answers().await;
    }

    /// Holds the server still (SIGSTOP): connections stay open and nothing answers.
    pub(crate) async fn hold(&self) {
        self.signal("-STOP");
        // Each thread stops when it comes to it, and may answer until then.
        stands_still(self.server.as_ref().expect("the server runs").id()).await;
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn release(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let server = self.server.as_ref().expect("the server runs");
        let sent = Command::new("kill").args([signal, &server.id().to_string()]).status();
        assert!(sent.expect("`kill` is installed").success());
    }

    async fn answers(&self) {
        let database = self.client.database("admin");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match database.run_command(doc! { "hello": 1 }).await {
                Ok(hello) if hello.get_bool("isWritablePrimary").unwrap_or(false) => return,
                // A new `mongod` waits for its replica set to be made.
                Ok(_) => {
                    drop(database.run_command(doc! { "replSetInitiate": {} }).await);
                }
                Err(error) => {
                    assert!(tokio::time::Instant::now() < deadline, "no MongoDB: {error}");
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for MongoDb {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn client(port: u16) -> Client {
    let uri = format!(
        "mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=5000&journal=true"
    );
    let options = ClientOptions::parse(uri).await.expect("the URI is one");
    Client::with_options(options).expect("the options are right")
}

/// Starts a server, and tells its port.
fn serve(directory: &Path, port: Option<u16>, options: &[&str]) -> (Child, u16) {
    match mongod() {
        Some(program) => serve_mongod(&program, directory, port),
        None => serve_compatible(directory, port, options),
    }
}

/// The real one, if there is one.
fn mongod() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LARDER_TEST_MONGODB") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("mongod")).find(|file| file.is_file())
}

fn serve_mongod(program: &Path, directory: &Path, port: Option<u16>) -> (Child, u16) {
    let port = port.unwrap_or_else(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound").port()
    });
    let server = Command::new(program)
        .args(["--replSet", "larder", "--bind_ip", "127.0.0.1", "--port", &port.to_string()])
        .arg("--dbpath")
        .arg(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("`LARDER_TEST_MONGODB` must name a mongod");
    (server, port)
}

fn serve_compatible(directory: &Path, port: Option<u16>, options: &[&str]) -> (Child, u16) {
    let log = directory.join("log");
    let server = Command::new(tool("mongodb/bin/secantusd-py"))
        .args(["--host", "127.0.0.1", "--port", &port.unwrap_or(0).to_string()])
        .arg("--storage-path")
        .arg(directory.join("data"))
        .args(options)
        .stdout(Stdio::null())
        .stderr(File::create(&log).expect("the directory is ours"))
        .spawn()
        .expect("`tests/run` installs it, unless LARDER_TEST_MONGODB names a mongod");
    // It tells its port there.
    let listening = (0..1000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let printed = std::fs::read_to_string(&log).ok()?;
        let (_, address) = printed.rsplit_once("listening on ")?;
        address.lines().next()?.rsplit_once(':')?.1.trim().parse().ok()
    });
    (server, listening.expect("the server tells where it listens"))
}
