//! A new process takes the place of the one that runs: no connection is refused or reset, what runs is
//! answered, and what comes to nothing changes nothing.

use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::process::Command;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::support::client::{Ask, Got, Http2};
use crate::support::origin::{Held, Origin, ok, pieces, status};
use crate::support::pki::Pki;
use crate::support::program::{Running, larder};
use crate::support::wire::Line;
use crate::support::{PATIENCE, secs, until};

const LEAVING: &str = "stopping: another process has taken over";
const GOES_ON: &str = "a new process has not taken over, this one goes on";
const WAITS: &str = "a new process waits until the one before this has ended";

/// What all the processes of a test have in common.
struct Stage {
    origin: Origin,
    /// For the socket.
    folder: TempDir,
    drain: &'static str,
    server: String,
    tables: String,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Stage {
    async fn new(server: &str, tables: &str) -> Self {
        let (folder, free) = (tempfile::tempdir().unwrap(), "127.0.0.1:0".parse().unwrap());
        let (server, tables) = (server.to_owned(), tables.to_owned());
        let (origin, drain) = (Origin::start().await, "10s");
        Self { origin, folder, drain, server, tables, listen: free, admin: free }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("takeover")
    }

    /// The configuration, with more lines for `[server]`.
    fn toml(&self, lines: &str) -> String {
        let Self { origin, drain, server, tables, listen, admin, .. } = self;
        format!(
            "[server]\nlisten = \"{listen}\"\ntakeover = \"{}\"\nworkers = 2\ndrain = \"{drain}\"\n\
             {server}\n{lines}\n[admin]\nlisten = \"{admin}\"\n{tables}\n\
             [upstreams.origin]\nservers = [\"{}\"]\n\
             [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
            self.socket().display(),
            origin.url()
        )
    }

    /// The first process. Those that follow have its addresses.
    async fn first(&mut self) -> Running {
        let larder = Running::with(&self.toml("")).await;
        (self.listen, self.admin) = (larder.address(), larder.admin());
        larder
    }

    async fn next(&self) -> Running {
        let larder = Running::with(&self.toml("")).await;
        assert_eq!((larder.address(), larder.admin()), (self.listen, self.admin));
        larder
    }

    fn get(&self, target: &str) -> Ask {
        Ask::new(self.listen, "GET", target).field("host", "shop.example")
    }

    /// A write to `/a` that the origin has and does not answer yet.
    async fn held_write(&self) -> (Held, JoinHandle<Got>) {
        let asked = self.origin.count("/a");
        let gate = self.origin.on("/a").method("PUT").hold(status(204));
        let put = Ask::new(self.listen, "PUT", "/a").field("host", "shop.example");
        let write = tokio::spawn(put.send());
        until("the origin is asked", || self.origin.count("/a") == asked + 1).await;
        (gate, write)
    }
}

/// Clients that connect all the time, until they are told to stop.
struct Clients {
    goes_on: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    running: JoinSet<()>,
}

impl Clients {
    fn new() -> Self {
        let (goes_on, count) = (Arc::new(AtomicBool::new(true)), Arc::default());
        Self { goes_on, count, running: JoinSet::new() }
    }

    /// Another one, which does this again and again.
    fn add<Turn: Future<Output = ()> + Send>(
        &mut self,
        mut turn: impl FnMut() -> Turn + Send + 'static,
    ) {
        let (goes_on, count) = (Arc::clone(&self.goes_on), Arc::clone(&self.count));
        self.running.spawn(async move {
            while goes_on.load(Ordering::Relaxed) {
                turn().await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Waits for so many more turns.
    async fn turn(&self, more: usize) {
        let before = self.count.load(Ordering::Relaxed);
        let reached = || self.count.load(Ordering::Relaxed) >= before + more;
        until("clients go on", reached).await;
    }

    async fn end(mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
    }
}

/// A client that uses its connection as long as it may.
async fn stay(address: SocketAddr) {
    let mut line = Line::to(address).await;
    for _ in 0..50 {
        line.send("GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
        let answer = line.until("\r\n\r\n1").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        if answer.contains("connection: close") {
            assert_eq!(line.rest().await, "");
            return;
        }
    }
}

/// A client that shakes hands for one request.
async fn ask_securely(pki: Arc<Pki>, address: SocketAddr, protocol: &'static str) {
    let stream = pki.connect(address, "shop.example", protocol).await;
    let mut stream = stream.expect("a handshake was refused");
    if protocol == "h2" {
        let client = Http2::over(stream, "https://shop.example").await;
        client.get("/a").await.code(200).body("1");
        return;
    }
    let ask = b"GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n1"), "{answer}");
}

#[tokio::test]
async fn processes_take_over_under_load_and_no_connection_is_refused() {
    let pki = Arc::new(Pki::new());
    pki.certify("shop", &["shop.example"], "shop");
    let at = |file: &str| pki.at(file).display().to_string();
    let tls = |listen: SocketAddr| {
        let (certificate, key) = (at("shop.pem"), at("shop.key"));
        format!(
            "[[server.listeners]]\nlisten = \"{listen}\"\n\
             tls = {{ certificate = \"{certificate}\", key = \"{key}\" }}"
        )
    };
    let mut stage = Stage::new(&tls("127.0.0.1:0".parse().unwrap()), "").await;
    stage.origin.on("/a").reply(ok("1").max_age(600));
    let mut larder = stage.first().await;
    let secure = larder.logs("listening here, too").await["address"].as_str().unwrap().to_owned();
    let secure: SocketAddr = secure.parse().unwrap();
    stage.server = tls(secure);

    let (address, admin) = (stage.listen, stage.admin);
    let mut clients = Clients::new();
    for http2 in [false, false, true] {
        clients.add(move || async move {
            let ask = Ask::new(address, "GET", "/a");
            let ask = if http2 { ask.http2() } else { ask };
            ask.send().await.code(200).body("1");
        });
    }
    clients.add(move || stay(address));
    for protocol in ["h2", "http/1.1"] {
        let pki = Arc::clone(&pki);
        clients.add(move || ask_securely(Arc::clone(&pki), secure, protocol));
    }
    clients.add(move || async move {
        let _told = Ask::new(admin, "GET", "/health").send().await;
    });

    for turn in 0..3 {
        let target = format!("/body/{turn}");
        let (reply, content) = pieces();
        stage.origin.on(&target).reply(reply.max_age(60));
        let mut body = stage.get(&target).open().await;
        content.send("one ");
        assert_eq!(body.piece().await.unwrap().unwrap(), "one ");
        clients.turn(50).await;
        let next = stage.next().await;
        larder.says(LEAVING).await;
        clients.turn(50).await;
        content.send("two");
        content.end();
        body.finish().await.unwrap().body("two");
        assert_eq!(larder.exit_code().await, Some(0));
        larder = next;
    }
    clients.end().await;
    assert!(stage.socket().exists());
    larder.signal("TERM");
    assert_eq!(larder.exit_code().await, Some(0));
    assert!(!stage.socket().exists());
}

#[tokio::test]
async fn what_does_not_start_changes_nothing() {
    let disk = tempfile::tempdir().unwrap();
    let l2 = format!("[cache.l2]\ndisk = \"{}\"\ntimeout = \"10s\"\n", disk.path().display());
    let mut stage = Stage::new("", &l2).await;
    stage.origin.on("/a").reply(ok("1").max_age(600));
    let mut larder = stage.first().await;
    stage.get("/a").send().await.status("fwd=uri-miss; stored");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = tempfile::tempdir().unwrap();
    let is_open = PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(open.path(), is_open).unwrap();
    let more = |address| format!("[[server.listeners]]\nlisten = \"{address}\"");
    let policy = "[policies.p]\nplugin = \"none.wasm\"\n";
    let elsewhere = open.path().join("takeover").display().to_string();
    let here = stage.socket().display().to_string();
    for (toml, code, told) in [
        (stage.toml("workerz = 1"), 2, "unknown key `workerz`"),
        (format!("{policy}{}", stage.toml("")), 2, "plugin `none.wasm`"),
        (stage.toml(&more(taken.local_addr().unwrap())), 1, "cannot be listened on: Address"),
        (stage.toml("").replace(&here, &elsewhere), 1, "in a folder where others may write"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.toml"), &toml).unwrap();
        let path = folder.path().to_owned();
        let ran = tokio::task::spawn_blocking(move || larder_run(&path)).await.unwrap();
        assert_eq!(ran.0, Some(code), "{}", ran.1);
        assert!(ran.1.contains(told), "{told}: {}", ran.1);
        stage.get("/a").send().await.body("1").status("hit");
    }
    larder.says(GOES_ON).await;

    // Those that go, each after some more steps, and one that says what nobody understands.
    for steps in [&["T"][..], &["T", "D"], &["T", "D", "X"], &["X"], &["D"], &[]] {
        let mut other = UnixStream::connect(stage.socket()).await.unwrap();
        for step in steps {
            other.write_all(step.as_bytes()).await.unwrap();
            let expected = match *step {
                "T" => "SSN",
                "D" if steps.len() > 1 => "d",
                _ => "",
            };
            // Octet by octet: what is read at once ends where a socket comes with it.
            for octet in expected.bytes() {
                assert_eq!(other.read_u8().await.unwrap(), octet);
            }
        }
        if steps.last() == Some(&"D") && steps.len() > 1 {
            // Meanwhile the disk is the other's, and what is invalidated here does not come back.
            stage.get("/b").send().await.code(404);
            let clear = Ask::new(stage.admin, "POST", "/clear").send().await;
            clear.code(202);
        }
        drop(other);
        larder.says(GOES_ON).await;
        larder.is_in_step().await;
    }
    stage.get("/a").send().await.body("1").status("fwd=uri-miss; stored");

    let next = stage.next().await;
    larder.says(LEAVING).await;
    assert_eq!(larder.exit_code().await, Some(0));
    stage.get("/a").send().await.body("1").status("hit");
    assert_eq!(next.stats().await["l2_hits"], 1);
}

/// The test is the process that runs, and hears what the new one says.
#[tokio::test]
async fn one_that_is_told_to_stop_before_it_is_ready_leaves_all_to_the_other() {
    // What it waits for at the signal. Until somebody reads its access log it cannot be ready.
    for awaited in ["the listeners", "the disk", "a reader"] {
        let folder = tempfile::tempdir().unwrap();
        let (disk, log) = (folder.path().join("disk"), folder.path().join("access.log"));
        assert!(Command::new("mkfifo").arg(&log).status().await.unwrap().success());
        let l2 = format!("[cache.l2]\ndisk = \"{}\"\n", disk.display());
        let recording = format!("[access_log]\nfile = \"{}\"\n", log.display());
        let stage = Stage::new("", &(l2 + &recording)).await;
        std::fs::write(folder.path().join("gateway.toml"), stage.toml("")).unwrap();
        let listens = UnixListener::bind(stage.socket()).unwrap();
        let new = Command::new(env!("CARGO_BIN_EXE_larder"))
            .arg("run")
            .current_dir(folder.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let accepted = timeout(PATIENCE, listens.accept()).await.expect("it never comes");
        let (mut line, _) = accepted.unwrap();
        assert_eq!(line.read_u8().await.unwrap(), b'T');
        if awaited != "the listeners" {
            line.write_all(b"N").await.unwrap();
            assert_eq!(line.read_u8().await.unwrap(), b'D');
        }
        if awaited == "a reader" {
            line.write_all(b"d").await.unwrap();
            until("it has the disk", || disk.join("larder.redb").exists()).await;
        }
        let process = new.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &process]).status().await.unwrap();
        assert!(sent.success());
        // For writing, too: otherwise it would be waited for who writes.
        let reader = File::options().read(true).write(true).open(&log).unwrap();
        assert_eq!(line.read(&mut [0]).await.unwrap(), 0, "{awaited}: it says more");
        let ended = timeout(PATIENCE, new.wait_with_output()).await.expect("it never ends");
        let ended = ended.unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{awaited}: {told}");
        assert!(told.contains("stopped before it began"), "{awaited}: {told}");
        let left = std::fs::read_dir(stage.folder.path()).unwrap().count();
        assert_eq!(left, 1, "{awaited}: its own socket is there still");
        drop(reader);
    }
}

/// The test is the new process.
#[tokio::test]
async fn one_that_is_told_to_stop_while_another_takes_over_waits_for_what_comes_of_it() {
    const WAITS: &str = "told to stop: waiting for the new process";
    const STOPPING: &str = "stopping: no more connections";

    for comes in ["ready", "nothing", "a second signal"] {
        let mut stage = Stage::new("", "").await;
        stage.origin.on("/a").reply(ok("1").max_age(600));
        let mut old = stage.first().await;
        let mut line = UnixStream::connect(stage.socket()).await.unwrap();
        line.write_all(b"T").await.unwrap();
        for octet in *b"SSN" {
            assert_eq!(line.read_u8().await.unwrap(), octet);
        }
        old.signal("TERM");
        old.says(WAITS).await;
        stage.get("/a").send().await.body("1");
        match comes {
            "ready" => {
                line.write_all(b"R").await.unwrap();
                for octet in *b"YG" {
                    assert_eq!(line.read_u8().await.unwrap(), octet);
                }
                old.says(LEAVING).await;
            }
            "nothing" => {
                drop(line);
                old.says(GOES_ON).await;
                old.says(STOPPING).await;
            }
            _ => {
                old.signal("TERM");
                old.says(STOPPING).await;
                assert_eq!(line.read(&mut [0]).await.unwrap(), 0);
            }
        }
        assert_eq!(old.exit_code().await, Some(0), "{comes}");
        assert!(!stage.socket().exists());
    }
}

/// The test is the new process, and applies nothing at first.
#[tokio::test]
async fn a_purge_is_not_shared_before_the_new_process_has_applied_it() {
    const LATE: &str = "the other process has not applied in time";

    let mut stage = Stage::new("", "").await;
    let mut old = stage.first().await;
    let mut line = UnixStream::connect(stage.socket()).await.unwrap();
    // When it answers about the disk it has begun to tell.
    for (said, answer) in [("T", "SSN"), ("D", "d")] {
        line.write_all(said.as_bytes()).await.unwrap();
        for octet in answer.bytes() {
            assert_eq!(line.read_u8().await.unwrap(), octet);
        }
    }
    let purge = Ask::new(stage.admin, "DELETE", "/tag/x").send().await.code(202);
    let purged: Value = serde_json::from_slice(&purge.body).unwrap();
    assert_eq!(purged["shared"], false, "{purged}");
    old.says(LATE).await;
    let receipts = async |query: &str| {
        let target = format!("/purge/{}{query}", purged["id"].as_str().unwrap());
        let asked = Ask::new(stage.admin, "GET", &target).send().await.code(200);
        serde_json::from_slice::<Value>(&asked.body).unwrap()
    };
    let told = receipts("").await;
    assert_eq!(told["shared"], false, "{told}");

    assert_eq!(line.read_u8().await.unwrap(), b'I');
    let length = line.read_u64().await.unwrap();
    let mut records = vec![0; usize::try_from(length).unwrap()];
    line.read_exact(&mut records).await.unwrap();
    line.write_all(b"i").await.unwrap();
    let told = receipts("?wait=20s").await;
    assert_eq!((&told["shared"], &told["complete"]), (&json!(true), &json!(true)), "{told}");
}

fn larder_run(folder: &Path) -> (Option<i32>, String) {
    let ran = larder(folder, &["run"]);
    (ran.code, ran.err)
}

#[tokio::test]
async fn listeners_come_and_go_with_the_configuration_and_operators_reach_the_new_process() {
    let more = |addresses: &[SocketAddr]| {
        let mut tables = String::new();
        for listen in addresses {
            write!(tables, "[[server.listeners]]\nlisten = \"{listen}\"\n").unwrap();
        }
        tables
    };
    let mut stage = Stage::new(&more(&["127.0.0.1:0".parse().unwrap()]), "").await;
    stage.origin.on("/a").reply(ok("1").max_age(600));
    let mut old = stage.first().await;
    let removed = old.logs("listening here, too").await["address"].as_str().unwrap().to_owned();
    let removed: SocketAddr = removed.parse().unwrap();
    let ask = |address| Ask::new(address, "GET", "/a").field("host", "shop.example");
    ask(removed).send().await.status("fwd=uri-miss; stored");
    ask(stage.listen).send().await.status("hit");
    assert_eq!(old.stats().await["total_requests"], 2);

    stage.server = more(&["127.0.0.1:0".parse().unwrap()]);
    let mut new = stage.next().await;
    let added = new.logs("listening here, too").await["address"].as_str().unwrap().to_owned();
    let added: SocketAddr = added.parse().unwrap();
    // From the moment on that it says so.
    assert_eq!(new.stats().await["total_requests"], 0);
    for address in [stage.listen, added] {
        ask(address).send().await.code(200);
    }
    assert_eq!(new.stats().await["total_requests"], 2);
    old.says(LEAVING).await;
    assert!(TcpStream::connect(removed).await.is_err(), "nobody listens there any more");
    assert_eq!(old.exit_code().await, Some(0));
}

#[tokio::test]
async fn what_one_process_invalidates_neither_serves() {
    let mut stage = Stage::new("", "").await;
    for target in ["/a", "/b"] {
        stage.origin.on(target).reply(ok("old").max_age(600));
    }
    let mut first = stage.first().await;
    let mut stays = Line::to(stage.listen).await;
    stays.send("GET /b HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
    stays.until("\r\n\r\nold").await;
    let put = |target| Ask::new(stage.listen, "PUT", target).field("host", "shop.example");
    let (gate, write) = stage.held_write().await;

    let second = stage.next().await;
    first.says(LEAVING).await;
    stage.get("/a").send().await.body("old").status("fwd=uri-miss; stored");
    stage.get("/a").send().await.body("old").status("hit");
    // A write in the old process is about what the new one has stored …
    for target in ["/a", "/b"] {
        stage.origin.on(target).reply(ok("new").max_age(600));
    }
    gate.release();
    write.await.unwrap().code(204);
    stage.get("/a").send().await.body("new").status("fwd=uri-miss; stored");
    // … and the other way round.
    stage.origin.on("/b").method("PUT").reply(status(204));
    put("/b").send().await.code(204);
    stays.send("GET /b HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
    let answer = stays.until("\r\n\r\nnew").await;
    assert!(answer.contains("fwd=uri-miss") && answer.contains("connection: close"), "{answer}");
    assert_eq!(first.exit_code().await, Some(0));
    assert_eq!(second.stats().await["total_requests"], 4);
}

/// Each process tells one other what it invalidates, and no third.
#[tokio::test]
async fn a_third_process_waits_until_the_first_has_ended() {
    let mut stage = Stage::new("", "").await;
    stage.drain = "30s";
    stage.origin.on("/a").reply(ok("old").max_age(600));
    let mut first = stage.first().await;
    let (gate, write) = stage.held_write().await;
    let mut second = stage.next().await;
    first.says(LEAVING).await;
    stage.get("/a").send().await.body("old").status("fwd=uri-miss; stored");

    // One that goes before its turn comes is missed by nobody.
    let mut other = UnixStream::connect(stage.socket()).await.unwrap();
    other.write_all(b"T").await.unwrap();
    second.says(WAITS).await;
    let said = timeout(secs(5), other.read_u8()).await;
    assert_eq!(said.expect("it is not told to wait").unwrap(), b'W');
    drop(other);
    second.says(GOES_ON).await;
    let first_ends = async {
        second.says(WAITS).await;
        // What the first invalidates now is still about what the second has stored.
        stage.get("/a").send().await.body("old").status("hit");
        stage.origin.on("/a").reply(ok("new").max_age(600));
        gate.release();
        write.await.unwrap().code(204);
        stage.get("/a").send().await.body("new").status("fwd=uri-miss; stored");
        assert_eq!(first.exit_code().await, Some(0));
    };
    let (third, ()) = tokio::join!(stage.next(), first_ends);
    second.says(LEAVING).await;
    stage.get("/a").send().await.body("new");
    assert_eq!(second.exit_code().await, Some(0));
    drop(third);
}

/// Otherwise nobody would serve: the third cannot start once the second has gone.
#[tokio::test]
async fn a_third_process_does_not_wait_any_longer_when_the_second_is_told_to_stop() {
    let mut stage = Stage::new("", "").await;
    stage.drain = "5m";
    stage.origin.on("/a").reply(ok("1").max_age(600));
    let mut first = stage.first().await;
    let (gate, write) = stage.held_write().await;
    let mut second = stage.next().await;
    first.says(LEAVING).await;
    let stopping = async {
        second.says(WAITS).await;
        second.signal("TERM");
        second.says(LEAVING).await;
    };
    let (third, ()) = tokio::join!(stage.next(), stopping);
    assert_eq!(second.exit_code().await, Some(0));
    stage.get("/a").send().await.body("1");
    // It waits for nobody who does not hear it.
    stage.origin.on("/b").method("PUT").reply(status(204));
    let put = Ask::new(stage.listen, "PUT", "/b").field("host", "shop.example");
    put.send().await.code(204);
    gate.release();
    write.await.unwrap().code(204);
    assert_eq!(first.exit_code().await, Some(0));
    drop(third);
}

#[tokio::test]
async fn the_disk_goes_with_the_listeners() {
    let disk = tempfile::tempdir().unwrap();
    let l2 = format!(
        "[cache.l1]\ncapacity = 0\n[cache.l2]\ndisk = \"{}\"\ntimeout = \"10s\"\n",
        disk.path().display()
    );
    let mut stage = Stage::new("", &l2).await;
    for target in ["/a", "/b"] {
        stage.origin.on(target).reply(ok("old").max_age(600));
    }
    let mut old = stage.first().await;
    for target in ["/a", "/b"] {
        stage.get(target).send().await.status("fwd=uri-miss; stored");
    }
    let (gate, write) = stage.held_write().await;
    let mut new = stage.next().await;
    old.says(LEAVING).await;
    for target in ["/a", "/b"] {
        stage.get(target).send().await.body("old").status("hit");
    }
    gate.release();
    write.await.unwrap().code(204);
    stage.get("/a").send().await.status("fwd=uri-miss; stored");
    stage.get("/b").send().await.body("old").status("hit");
    assert_eq!(old.exit_code().await, Some(0));
    // It was the new process that wrote both down.
    let last = stage.next().await;
    new.says(LEAVING).await;
    for target in ["/a", "/b"] {
        stage.get(target).send().await.body("old").status("hit");
    }
    stage.origin.saw("/b", 1);
    drop(last);
}

/// Says `T` at a socket as another user, or listens as one: the argument says which. Tells what comes of it.
const ANOTHER_USER: &str = "
import os, socket, sys
path, does = sys.argv[1:]
there = socket.socket(socket.AF_UNIX)
if does == 'listens':
    there.bind(path)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
if does == 'listens':
    there.listen()
    print('listening', flush=True)
    client, _ = there.accept()
    print(client.recv(1))
else:
    there.connect(path)
    try:
        there.send(b'T')
        data, passed, _, _ = there.recvmsg(64, socket.CMSG_SPACE(64))
        print(data, len(passed))
    except ConnectionError:
        print(b'', 0)
";

fn another_user(path: &Path, does: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", ANOTHER_USER]).arg(path).arg(does);
    command
}

/// The socket's mode keeps others away; and where it was opened to them, who they are.
#[tokio::test]
async fn another_user_gets_no_listeners_and_is_not_believed() {
    let mut stage = Stage::new("", "").await;
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    // Others may get there, and see the socket.
    std::fs::set_permissions(stage.folder.path(), mode(0o755)).unwrap();
    let mut larder = stage.first().await;
    let socket = stage.socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    if !rustix::process::geteuid().is_root() {
        // Nobody else can become another user.
        return;
    }
    let ran = another_user(&socket, "connects").output().await.unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success() && told.contains("PermissionError"), "{told}");

    std::fs::set_permissions(&socket, mode(0o666)).unwrap();
    let ran = another_user(&socket, "connects").output().await.unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{told}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "b'' 0\n", "no word, and no socket");
    let why = larder.logs(GOES_ON).await["error"].to_string();
    assert!(why.contains("it is of another user, 65534"), "{why}");

    // The other way round: somebody else has taken the place, and gets no connection of ours.
    larder.signal("TERM");
    assert_eq!(larder.exit_code().await, Some(0));
    let mut listens = another_user(&socket, "listens");
    let mut listens = listens.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut said = BufReader::new(listens.stdout.take().unwrap()).lines();
    assert_eq!(said.next_line().await.unwrap().as_deref(), Some("listening"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.toml"), stage.toml("")).unwrap();
    let path = folder.path().to_owned();
    let ran = tokio::task::spawn_blocking(move || larder_run(&path)).await.unwrap();
    assert_eq!(ran.0, Some(1), "{}", ran.1);
    assert!(ran.1.contains("who listens there is another user, 65534"), "{}", ran.1);
    assert_eq!(said.next_line().await.unwrap().as_deref(), Some("b''"), "it is told nothing");
}
