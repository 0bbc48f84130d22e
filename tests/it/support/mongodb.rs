//! A server of MongoDB's protocol, with its data in a temporary directory of its own, killed when it
//! is dropped.
//!
//! `mongod`, where it is on the path or named by `LARDER_TEST_MONGODB`; else a server that speaks the
//! same protocol, which `tests/run` installs.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection, Database};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use tempfile::TempDir;

use super::pki::authority;
use super::program::stands_still;
use super::{PATIENCE, free_port, tool};

/// A server that can be killed, started again with what was in it, and held still.
pub(crate) struct MongoDb {
    directory: TempDir,
    port: u16,
    server: Option<Child>,
    asked: Asked,
    client: Client,
}

/// What a server is to be besides.
#[derive(Clone, Default)]
struct Asked {
    /// More options of the compatible server.
    options: &'static [&'static str],
    /// It knows whom it answers.
    auth: bool,
    /// The folder of its certificate, and its clients'.
    tls: Option<PathBuf>,
}

impl MongoDb {
    /// A server that answers.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`MongoDb::start`]; the compatible server knows more `options`.
    pub(crate) async fn start_with(options: &'static [&'static str]) -> Self {
        let asked = Asked { options, ..Asked::default() };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (server, port) = serve(directory.path(), None, &asked);
        let client = client(port, &asked).await;
        let mongodb = Self { directory, port, server: Some(server), asked, client };
        mongodb.answers().await;
        mongodb
    }

    /// A server that answers only whom it knows: its client here, and whoever is made a user. With the
    /// folder of [`certificates`], it speaks TLS and wants a certificate as well.
    pub(crate) async fn start_with_users(tls: Option<&Path>) -> Self {
        let mut mongodb = Self::start().await;
        mongodb.make_user("admin", "root", "root", "root", "admin").await;
        mongodb.end();
        mongodb.asked = Asked { auth: true, tls: tls.map(Path::to_owned), ..Asked::default() };
        mongodb.client = client(mongodb.port, &mongodb.asked).await;
        mongodb.restart().await;
        mongodb
    }

    /// Makes a user of `database` with a role in another one.
    pub(crate) async fn make_user(
        &self,
        database: &str,
        name: &str,
        password: &str,
        role: &str,
        of: &str,
    ) {
        let mut command =
            doc! { "createUser": name, "roles": [{ "role": role, "db": of }], "pwd": password };
        if database == "$external" {
            command.remove("pwd");
            if mongod().is_none() {
                command.insert("mechanisms", ["MONGODB-X509"].as_slice());
            }
        }
        self.client.database(database).run_command(command).await.expect("the user is made");
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

    /// Ends the server in order: what it has been told of users it may not have written yet.
    pub(crate) fn end(&mut self) {
        self.signal("-TERM");
        if let Some(mut server) = self.server.take() {
            server.wait().expect("the server is our child");
        }
    }

    /// Starts a server in the place of the last one, on the same port and with the same data.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let (server, _) = serve(self.directory.path(), Some(self.port), &self.asked);
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

async fn client(port: u16, asked: &Asked) -> Client {
    let user = if asked.auth { "root:root@" } else { "" };
    let tls = asked.tls.as_ref().map(|folder| {
        let folder = folder.display();
        format!(
            "&tls=true&tlsCAFile={folder}/ca.pem&tlsCertificateKeyFile={folder}/client.both.pem"
        )
    });
    let uri = format!(
        "mongodb://{user}127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=5000&journal=true{}",
        tls.unwrap_or_default()
    );
    let options = ClientOptions::parse(uri).await.expect("the URI is one");
    Client::with_options(options).expect("the options are right")
}

/// In this folder: an authority, `ca.pem`, and another, `other.pem`; and of the first one a server's
/// certificate and key, and those of a client that is `CN=larder`, in a file each and in one.
pub(crate) fn certificates(folder: &Path) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let ca = authority("ours");
    write("ca.pem", &ca.pem());
    write("other.pem", &authority("other").pem());
    for (file, name) in [("server", "mongodb"), ("client", "larder")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let (certificate, key) = (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem());
        write(&format!("{file}.both.pem"), &format!("{certificate}{key}"));
        write(&format!("{file}.pem"), &certificate);
        write(&format!("{file}.key"), &key);
    }
}

/// Starts a server, and tells its port.
fn serve(directory: &Path, port: Option<u16>, asked: &Asked) -> (Child, u16) {
    match mongod() {
        Some(program) => serve_mongod(&program, directory, port, asked),
        None => serve_compatible(directory, port, asked),
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

fn serve_mongod(
    program: &Path,
    directory: &Path,
    port: Option<u16>,
    asked: &Asked,
) -> (Child, u16) {
    let port = port.unwrap_or_else(free_port);
    let mut command = Command::new(program);
    if asked.auth {
        // What the members of a replica set know each other by.
        let key = directory.join("key");
        std::fs::write(&key, "larder".repeat(4)).expect("the directory is ours");
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("it is ours");
        command.arg("--keyFile").arg(key);
    }
    if let Some(folder) = &asked.tls {
        command.args(["--tlsMode", "requireTLS"]);
        command.arg("--tlsCertificateKeyFile").arg(folder.join("server.both.pem"));
        command.arg("--tlsCAFile").arg(folder.join("ca.pem"));
    }
    let server = command
        .args(["--replSet", "larder", "--bind_ip", "127.0.0.1", "--port", &port.to_string()])
        .arg("--dbpath")
        .arg(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("`LARDER_TEST_MONGODB` must name a mongod");
    (server, port)
}

fn serve_compatible(directory: &Path, port: Option<u16>, asked: &Asked) -> (Child, u16) {
    let log = directory.join("log");
    let mut command = Command::new(tool("mongodb/bin/secantusd-py"));
    if asked.auth {
        command.arg("--auth");
    }
    if let Some(folder) = &asked.tls {
        command.arg("--tls-require-client-cert");
        for (option, file) in [
            ("--tls-cert-file", "server.pem"),
            ("--tls-key-file", "server.key"),
            ("--tls-ca-file", "ca.pem"),
        ] {
            command.arg(option).arg(folder.join(file));
        }
    }
    let server = command
        .args(["--host", "127.0.0.1", "--port", &port.unwrap_or(0).to_string()])
        .arg("--storage-path")
        .arg(directory.join("data"))
        .args(asked.options)
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
