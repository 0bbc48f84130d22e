//! Larder as a program of its own, with a `gateway.toml` of six lines, before an HTTP API that
//! nobody here wrote: httpbin. What it answers must come through as if there were no gateway.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::{Ask, Got};
use crate::support::{tool, until};

/// What a gateway may add to a request, and a cache to a response; and what belongs to a connection.
const FORWARDED: [&str; 6] =
    ["Cdn-Loop", "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"];
const OF_A_CACHE: [&str; 6] =
    ["age", "cache-status", "connection", "date", "transfer-encoding", "via"];

/// A program that runs until this is dropped, and what it has written to standard error.
struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let written = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in written.lines().map_while(Result::ok) {
                read.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    /// The address that it says it listens on, which stands after this text.
    async fn address(&self, after: &str) -> SocketAddr {
        let find = || {
            let lines = self.lines.lock().unwrap();
            let mut places = lines.iter().filter_map(|line| Some(line.split_once(after)?.1));
            let text = places.next()?;
            let end = |c: char| !(c.is_ascii_digit() || c == '.' || c == ':');
            text.split(end).next()?.parse().ok()
        };
        until("the program listens", || find().is_some()).await;
        find().unwrap()
    }

    /// In how many lines a text stands.
    fn count(&self, text: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// httpbin, and the gateway before it.
struct Stage {
    api: Program,
    api_address: SocketAddr,
    _gateway: Program,
    gateway_address: SocketAddr,
    _folder: TempDir,
    /// What the gateway adds to each request.
    forwarded: Vec<(String, String)>,
}

/// Python with httpbin.
fn python() -> PathBuf {
    tool("httpbin/bin/python")
}

impl Stage {
    async fn set() -> Self {
        let api =
            Program::start(Command::new(python()).args(["-m", "httpbin.core", "--port", "0"]));
        let api_address = api.address("Running on http://").await;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        let lines = [
            "[upstreams.api]",
            &format!("servers = [\"http://{api_address}\"]"),
            "[[routes]]",
            "name = \"api\"",
            "path = \"/{*rest}\"",
            "upstream = \"api\"",
        ];
        std::fs::write(&file, lines.join("\n")).unwrap();
        // On a free port, as tests run side by side.
        let gateway = Program::start(
            Command::new(env!("CARGO_BIN_EXE_larder"))
                .args(["run", "--listen", "127.0.0.1:0", "--config"])
                .arg(&file),
        );
        let gateway_address = gateway.address("address=").await;

        let mut stage = Self {
            api,
            api_address,
            _gateway: gateway,
            gateway_address,
            _folder: folder,
            forwarded: Vec::new(),
        };
        // httpbin echoes what it got, so the same must come to it on both ways.
        let told = json(&stage.through("GET", "/headers?of=the-stage").send().await.code(200));
        for (name, value) in told["headers"].as_object().unwrap() {
            if FORWARDED.contains(&name.as_str()) {
                stage.forwarded.push((name.clone(), value.as_str().unwrap().to_owned()));
            } else {
                assert_eq!(
                    (&**name, value),
                    ("Host", &Value::from("api.example")),
                    "added: {told}"
                );
            }
        }
        stage
    }

    /// By way of the gateway.
    fn through(&self, method: &str, target: &str) -> Ask {
        Ask::new(self.gateway_address, method, target).field("host", "api.example")
    }

    /// Past the gateway, but with all that it adds to a request.
    fn past(&self, method: &str, target: &str) -> Ask {
        let ask = Ask::new(self.api_address, method, target).field("host", "api.example");
        self.forwarded.iter().fold(ask, |ask, (name, value)| ask.field(name, value))
    }

    /// Asks both ways. The answers must be alike, and the gateway says this.
    async fn same(&self, method: &str, target: &str, status: &str) -> Got {
        self.same_with(method, target, &[], "", status).await
    }

    async fn same_with(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &'static str,
        status: &str,
    ) -> Got {
        let with = |ask: Ask| {
            let ask = fields.iter().fold(ask, |ask, (name, value)| ask.field(name, value));
            if body.is_empty() { ask.send() } else { ask.body(body).send() }
        };
        let past = with(self.past(method, target)).await;
        let through = with(self.through(method, target)).await.status(status);
        assert_eq!(through.status, past.status, "{method} {target}");
        assert_eq!(own(&through.headers), own(&past.headers), "{method} {target}");
        assert!(alike(&through, &past), "{method} {target}:\n{through:?}\n{past:?}");
        through
    }

    /// How often httpbin was asked so; it notes that when it has answered.
    async fn saw(&self, request: &str, times: usize) {
        // Without its quotes: httpbin puts colours between.
        let request = format!("{request} HTTP/1.1");
        until(&format!("httpbin notes {request}"), || self.api.count(&request) >= times).await;
        assert_eq!(self.api.count(&request), times, "{request}");
    }
}

/// The fields that are not a cache's, in order.
fn own(fields: &HeaderMap) -> Vec<(HeaderName, Vec<u8>)> {
    let own = fields.iter().filter(|(name, _)| !OF_A_CACHE.contains(&name.as_str()));
    let mut own: Vec<_> =
        own.map(|(name, value)| (name.clone(), value.as_bytes().to_vec())).collect();
    own.sort_by(|one, other| (one.0.as_str(), &one.1).cmp(&(other.0.as_str(), &other.1)));
    own
}

/// Whether two contents are octet by octet the same. The order in which the fields of a request came
/// does not count where it is told in JSON, nor does gzip's note of the time.
fn alike(one: &Got, other: &Got) -> bool {
    const GZIP: &[u8] = &[0x1f, 0x8b];
    let lines = |got: &Got| -> Option<Vec<Value>> {
        let mut values = serde_json::Deserializer::from_slice(&got.body).into_iter();
        values.by_ref().collect::<Result<_, _>>().ok()
    };
    let timeless = |got: &Got| {
        let mut body = got.body.to_vec();
        if body.starts_with(GZIP) {
            body[4..8].fill(0);
        }
        body
    };
    one.body.len() == other.body.len()
        && (timeless(one) == timeless(other)
            || lines(one).is_some_and(|its| Some(its) == lines(other)))
}

fn json(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

/// The content without its coding, as another program reads it.
fn gunzip(content: &[u8]) -> String {
    let mut program = Command::new(python())
        .args([
            "-c",
            "import gzip, sys; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(content).unwrap();
    let mut text = String::new();
    program.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(program.wait().unwrap().success());
    text
}

#[tokio::test]
async fn what_says_that_it_may_be_stored_is_stored() {
    let stage = Stage::set().await;
    let first = stage.same("GET", "/cache/60", "fwd=uri-miss; stored").await;
    let second = stage.same("GET", "/cache/60", "hit").await;
    assert_eq!(first.body, second.body);
    stage.saw("GET /cache/60", 3).await;
    stage.same("GET", "/cache/60?page=2", "fwd=uri-miss; stored").await;
    stage.same("HEAD", "/cache/60", "hit").await;
    stage.saw("HEAD /cache/60", 1).await;
}

#[tokio::test]
async fn everything_else_comes_as_it_is() {
    let stage = Stage::set().await;
    for target in [
        "/get?a=1&b=%20&a=2",
        "/headers",
        "/user-agent",
        "/ip",
        "/encoding/utf8",
        "/html",
        "/image/png",
        "/stream-bytes/20000?seed=7&chunk_size=700",
        "/stream/5",
        "/response-headers?X-Own=1&X-Own=2",
        "/base64/TGFyZGVy",
        "/anything/a//b/c?x",
    ] {
        for _ in 0..2 {
            stage.same("GET", target, "fwd=uri-miss; detail=no-freshness").await;
        }
        stage.saw(&format!("GET {target}"), 4).await;
    }
    assert_eq!(
        stage.through("GET", "/stream/5").send().await.body.split(|b| *b == b'\n').count(),
        6
    );

    // With some versions of its server httpbin announces these octets and sends none. Then a client
    // of the gateway must be able to tell, too; it may not get the head either.
    let past = stage.past("GET", "/bytes/1000?seed=7").attempt().await;
    let through = stage.through("GET", "/bytes/1000?seed=7").attempt().await;
    assert_eq!(past.is_ok(), through.is_ok(), "{past:?}\n{through:?}");
    if let (Ok(past), Ok(through)) = (past, through) {
        assert_eq!(past.body, through.body);
    }

    // Content codings are the API's own business.
    let gzip = stage.same("GET", "/gzip", "fwd=uri-miss; detail=no-freshness").await;
    let gzip = gzip.has("content-encoding", "gzip");
    let told: Value = serde_json::from_str(&gunzip(&gzip.body)).unwrap();
    assert_eq!(told["gzipped"], true);
    stage.same("GET", "/deflate", "fwd=uri-miss; detail=no-freshness").await;
}

#[tokio::test]
async fn status_codes_come_with_what_belongs_to_them() {
    let stage = Stage::set().await;
    for (target, code) in [
        ("/status/503", 503),
        ("/status/404", 404),
        ("/status/418", 418),
        ("/redirect/1", 302),
        ("/redirect-to?url=/elsewhere&status_code=307", 307),
        ("/basic-auth/user/passwd", 401),
        ("/cookies/set?flavour=oatmeal", 302),
    ] {
        for _ in 0..2 {
            let got = stage.through("GET", target).send().await.code(code);
            assert!(!got.cache_status().contains("stored"), "{target}: {got:?}");
            let status = got.cache_status();
            stage.same("GET", target, &status).await;
        }
        stage.saw(&format!("GET {target}"), 6).await;
    }
    let set = stage.through("GET", "/cookies/set?flavour=oatmeal").send().await;
    assert_eq!(set.field("set-cookie").as_deref(), Some("flavour=oatmeal; Path=/"));
    let cookies = [("cookie", "flavour=oatmeal")];
    let got = stage.same_with("GET", "/cookies", &cookies, "", "fwd=uri-miss; detail=no-freshness");
    assert_eq!(json(&got.await)["cookies"]["flavour"], "oatmeal");
    let login = [("authorization", "Basic dXNlcjpwYXNzd2Q=")];
    let got = stage.same_with(
        "GET",
        "/basic-auth/user/passwd",
        &login,
        "",
        "fwd=uri-miss; detail=authorization",
    );
    got.await.code(200);
}

#[tokio::test]
async fn writes_arrive_with_their_content() {
    let stage = Stage::set().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let got = stage.same_with("POST", "/post", &form, "a=1&b=2", "fwd=method").await.code(200);
    assert_eq!(json(&got)["form"]["b"], "2");
    let typed = [("content-type", "application/json")];
    let got = stage.same_with("PUT", "/put", &typed, "{\"a\":[1,2]}", "fwd=method").await.code(200);
    assert_eq!(json(&got)["json"]["a"][1], 2);
    stage.same_with("PATCH", "/patch", &typed, "{}", "fwd=method").await.code(200);
    stage.same("DELETE", "/delete", "fwd=method").await.code(200);
    stage.same("OPTIONS", "/get", "fwd=method").await.code(200);
    stage.same("POST", "/get", "fwd=method").await.code(405);
}

#[tokio::test]
async fn conditions_of_a_request_arrive() {
    let stage = Stage::set().await;
    let none = "fwd=uri-miss; detail=no-freshness";
    stage.same("GET", "/etag/x", none).await.code(200);
    for (fields, code, status) in [
        (&[("if-none-match", "\"x\"")][..], 304, "fwd=uri-miss; detail=status"),
        (&[("if-none-match", "\"y\", \"x\"")], 304, "fwd=uri-miss; detail=status"),
        (&[("if-none-match", "*")], 304, "fwd=uri-miss; detail=status"),
        (&[("if-none-match", "\"y\"")], 200, none),
        (&[("if-match", "\"x\"")], 200, "fwd=bypass"),
        (&[("if-match", "\"y\"")], 412, "fwd=bypass"),
    ] {
        stage.same_with("GET", "/etag/x", fields, "", status).await.code(code);
    }
}
