//! `larder simulate`: that it says of requests what a gateway has made of them, from whatever log.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::Ask;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::plugin::fixture;
use crate::support::program::{Ran, larder};
use crate::support::{free_port, until};

/// Some routes with and without policies and lifetimes. A call may take long where the machine is busy, and a
/// log does not tell of one that took too long.
const ROUTES: &str = r#"
[policies.no-tracking]
plugin = "bundled:normalise-query"
config = { drop = ["utm_*"] }
time   = "1s"

[policies.writes]
plugin = "bundled:rest-writes"
time   = "1s"

[[routes]]
name         = "books"
path         = "/books/{id}"
upstream     = "origin"
key          = "no-tracking"
invalidation = "writes"
ttl          = "30s"

[[routes]]
name     = "pages"
path     = "/pages/{*rest}"
upstream = "origin"
"#;

/// Runs it in a folder, and reads what it prints.
fn simulate(folder: &Path, arguments: &[&str]) -> Value {
    let ran = ran(folder, &[&["--json"][..], arguments].concat());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
    serde_json::from_str(&ran.out).unwrap()
}

fn ran(folder: &Path, arguments: &[&str]) -> Ran {
    larder(folder, &[&["simulate"][..], arguments].concat())
}

/// What has become of requests, by route.
#[derive(Debug, Default, PartialEq, Eq)]
struct Truth {
    requests: u64,
    hits: u64,
    stored: u64,
    upstream: u64,
}

impl Truth {
    fn count(&mut self, told: &str) {
        let is_hit = told.starts_with("hit");
        self.requests += 1;
        self.hits += u64::from(is_hit);
        self.stored += u64::from(told.contains("; stored"));
        self.upstream += u64::from(!is_hit);
    }

    fn told(report: &Value, route: &str) -> Self {
        let routes = report["configurations"][0]["routes"].as_array().unwrap();
        let route = routes.iter().find(|it| it["name"] == route).unwrap();
        let figure = |name: &str| route[name].as_u64().unwrap();
        Self {
            requests: figure("requests"),
            hits: figure("hits"),
            stored: figure("stored"),
            upstream: figure("upstream_requests"),
        }
    }
}

/// Numbers without order, the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn script(origin: &Origin) {
    for id in 0..8 {
        for query in ["", "?utm_source=a", "?page=2", "?page=2&utm_source=b"] {
            let body = format!("book {id} {}", query.contains("page"));
            origin.on(&format!("/books/{id}{query}")).method("GET").reply(ok(body));
        }
        origin.on(&format!("/books/{id}")).method("PUT").reply(status(204));
        let page = || ok(format!("page {id}")).max_age(60);
        origin.on(&format!("/pages/{id}")).reply(match id {
            0 => ok("for you").field("cache-control", "private"),
            1 => status(404).max_age(20),
            2 => page().field("vary", "accept-language"),
            3 => page().field("cache-control", "no-store"),
            _ => page(),
        });
    }
}

/// One request of all kinds.
fn drawn(draw: &mut Draw) -> (&'static str, String, &'static str) {
    // Few are asked for often.
    let id = draw.below(8).min(draw.below(8));
    let language = ["de", "en"][usize::try_from(draw.below(2)).unwrap()];
    match draw.below(20) {
        0 => ("PUT", format!("/books/{id}"), language),
        1..=4 => ("GET", format!("/books/{id}?utm_source=a"), language),
        5..=7 => ("GET", format!("/books/{id}?page=2"), language),
        8 => ("GET", format!("/books/{id}?page=2&utm_source=b"), language),
        9..=11 => ("GET", format!("/books/{id}"), language),
        12 => ("HEAD", format!("/pages/{id}"), language),
        _ => ("GET", format!("/pages/{id}"), language),
    }
}

#[tokio::test]
async fn it_says_exactly_what_a_gateway_has_done() {
    let origin = Origin::start().await;
    script(&origin);
    let setup = Gateway::setup(&origin).routes(ROUTES);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), setup.text()).unwrap();
    let gateway = setup.start().await;

    let mut log = String::new();
    let mut truth: BTreeMap<_, Truth> = BTreeMap::new();
    let mut draw = Draw(7);
    for _ in 0..800 {
        let (method, target, language) = drawn(&mut draw);
        // Never as long as a lifetime, not even several together.
        gateway.clock().advance(Duration::from_millis(7100) * u32::from(draw.below(3) == 0));
        let at = gateway.clock().now().duration_since(UNIX_EPOCH).unwrap();
        let ask = gateway.ask(method, &target).field("accept-language", language);
        let got = ask.field("host", "shop.example").send().await;
        let route = if target.starts_with("/books") { "books" } else { "pages" };
        truth.entry(route).or_default().count(&got.cache_status());
        let field = |name: &str| got.field(name).unwrap_or_default();
        let line = json!({
            "time": at.as_secs_f64(), "method": method, "uri": target, "host": "shop.example",
            "status": got.status.as_u16(), "bytes": got.body.len(), "http_accept_language": language,
            "sent_http_cache_control": field("cache-control"), "sent_http_vary": field("vary"),
        });
        writeln!(log, "{line}").unwrap();
    }
    let (books, pages) = (&truth["books"], &truth["pages"]);
    assert!(books.hits > 50 && pages.hits > 50 && books.upstream > 50, "{truth:?}");

    fs::write(folder.path().join("access.json"), log).unwrap();
    let report = simulate(folder.path(), &["access.json"]);
    assert_eq!(Truth::told(&report, "books"), *books);
    assert_eq!(Truth::told(&report, "pages"), *pages);
    let report = &report["configurations"][0];
    let books = &report["routes"][0];
    let keys = json!(books["keys"]["distinct"]);
    assert!(keys.as_u64().unwrap() <= 16, "{keys}");
    let writes = origin.asked().iter().filter(|it| it.method == "PUT").count();
    assert_eq!(books["writes"], json!(writes));
    let parts = json!([
        { "place": "path", "name": "id", "values": 8, "is_estimated": false },
        { "place": "query", "name": "page", "values": 1, "is_estimated": false },
    ]);
    assert_eq!(books["parts"], parts);
    let not_stored = &report["routes"][1]["not_stored"];
    assert!(not_stored["private"].as_u64() > Some(0) && not_stored["no-store"].as_u64() > Some(0));
    assert_eq!(report["memory"]["evicted"], json!(0));
    assert_eq!(report["warnings"], json!([]));
}

/// A real nginx before a gateway, which writes logs of several forms.
struct Nginx {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Nginx {
    fn before(gateway: SocketAddr) -> Self {
        // Another program may take the port before the server does.
        let started = (0..20).find_map(|_| Self::launch(gateway));
        started.expect("nginx must be installed: run tests/run")
    }

    fn launch(gateway: SocketAddr) -> Option<Self> {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nginx.conf");
        let text = NGINX.replace("PORT", &port.to_string());
        fs::write(&file, text.replace("GATEWAY", &gateway.to_string())).unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut command = Command::new("nginx");
        command.env("PATH", format!("{}:/usr/sbin", path.to_string_lossy()));
        command.arg("-e").arg("stderr").arg("-p").arg(folder.path()).arg("-c").arg(file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("nginx must be installed: run tests/run");
        let mut nginx = Self { child, port, folder };
        let is_up = (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            let runs = nginx.child.try_wait().unwrap().is_none();
            runs && TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        is_up.then_some(nginx)
    }

    /// The lines of a log, once there are so many.
    async fn log(&self, name: &str, lines: usize) -> String {
        let read = || fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        until("nginx has written its log", || read().lines().count() >= lines).await;
        read()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const NGINX: &str = r#"
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {}
http {
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    log_format vhost '$host:$server_port $remote_addr - $remote_user [$time_local] "$request" '
                     '$status $body_bytes_sent "$http_referer" "$http_user_agent" $request_time';
    log_format lines escape=json '{"msec":"$msec","request":"$request","host":"$host",'
                     '"status":"$status","body_bytes_sent":"$body_bytes_sent",'
                     '"http_user_agent":"$http_user_agent",'
                     '"sent_http_cache_control":"$sent_http_cache_control"}';
    access_log combined.log combined;
    access_log vhost.log vhost;
    access_log lines.log lines;
    server {
        listen 127.0.0.1:PORT;
        location / {
            proxy_pass http://GATEWAY;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
        }
    }
}
"#;

#[tokio::test]
async fn the_logs_of_a_real_nginx_are_read() {
    let origin = Origin::start().await;
    script(&origin);
    // One lifetime for all: two of its forms of logs tell of none.
    let routes = ROUTES.replace("\"/pages/{*rest}\"", "\"/pages/{*rest}\"\nttl = \"1h\"");
    let setup = Gateway::setup(&origin).routes(&routes);
    let config = setup.text();
    let gateway = setup.start().await;
    let nginx = Nginx::before(gateway.address());
    let address = SocketAddr::from(([127, 0, 0, 1], nginx.port));

    let mut draw = Draw(11);
    let mut truth = Truth::default();
    let targets = [4_u64, 5, 6, 7].map(|id| format!("/pages/{id}"));
    for number in 0..60 {
        let target = match draw.below(3) {
            0 => &targets[usize::try_from(draw.below(4)).unwrap()],
            1 => &format!("/books/{}?utm_source=a", draw.below(4)),
            _ => &format!("/books/{}?page=2", draw.below(4)),
        };
        let (method, target) = match number % 20 {
            7 => ("PUT", "/books/1"),
            _ => ("GET", target.as_str()),
        };
        let ask = Ask::new(address, method, target).field("host", "shop.example");
        let got = ask.field("user-agent", "a \"quoted\" \\ agent").send().await;
        truth.count(&got.cache_status());
    }
    assert!(truth.hits > 10 && truth.upstream > 10, "{truth:?}");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), config).unwrap();
    for name in ["combined.log", "vhost.log", "lines.log"] {
        let log = nginx.log(name, 60).await;
        fs::write(folder.path().join(name), &log).unwrap();
        let report = simulate(folder.path(), &[name]);
        assert_eq!(
            (&report["logs"]["exchanges"], &report["logs"]["broken"]),
            (&json!(60), &json!(0))
        );
        let all = &report["configurations"][0]["all"];
        let told = (all["hits"].as_u64(), all["upstream_requests"].as_u64());
        assert_eq!(told, (Some(truth.hits), Some(truth.upstream)), "{name}");
        let hosts = report["configurations"][0]["assumed"]["hosts"].as_u64();
        assert_eq!(hosts, Some(if name == "combined.log" { 60 } else { 0 }));
    }

    // The same in two files, one packed, in the wrong order.
    let log = nginx.log("combined.log", 60).await;
    let half = log.match_indices('\n').nth(29).unwrap().0 + 1;
    fs::write(folder.path().join("today.log"), &log[half..]).unwrap();
    fs::write(folder.path().join("yesterday.log"), &log[..half]).unwrap();
    let packed = Command::new("gzip").arg("yesterday.log").current_dir(folder.path()).status();
    assert!(packed.expect("gzip must be installed").success());
    let report = simulate(folder.path(), &["yesterday.log.gz", "today.log"]);
    assert_eq!(report["configurations"][0]["all"]["hits"], json!(truth.hits));
}

#[test]
fn a_page_that_a_browser_has_written_down_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let har = include_bytes!("logs/page.har");
    fs::write(folder.path().join("page.har"), har).unwrap();
    fs::write(folder.path().join("gateway.toml"), GATEWAY).unwrap();
    let report = simulate(folder.path(), &["page.har"]);
    // Written by Chromium 156 by way of Playwright: a page with a style sheet, a script, something private
    // and something that is never stored; and once more by its button for reloading (`max-age=0`).
    let all = &report["configurations"][0]["all"];
    assert_eq!((&all["requests"], &all["hits"]), (&json!(10), &json!(2)), "{report:#}");
    assert_eq!(all["not_stored"], json!({ "no-store": 2, "private": 2 }));
}

const GATEWAY: &str = r#"
[upstreams.api]
servers = ["http://127.0.0.1:1"]
[[routes]]
name = "all"
path = "/{*rest}"
upstream = "api"
"#;

/// So many seconds after midnight.
fn line(second: u32, request: &str, status: u16, octets: u32) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!(
        "192.0.2.1 - - [10/Oct/2000:00:{minute:02}:{second:02} +0000] \"{request} HTTP/1.1\" {status} {octets}\n"
    )
}

#[test]
fn two_configurations_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let with = |ttl: &str| {
        GATEWAY.replace("upstream = \"api\"", &format!("upstream = \"api\"\nttl = \"{ttl}\""))
    };
    fs::write(folder.path().join("now.toml"), with("30s")).unwrap();
    fs::write(folder.path().join("next.toml"), with("10m").replace("/{*rest}", "/a/{*rest}"))
        .unwrap();
    let pair = |number: u32| {
        let other = format!("GET /{}/{number}", ["a", "b"][number as usize % 2]);
        let at = number * 10;
        [line(at, &other, 200, 1000), line(at + 5, "GET /a/x?y=1", 200, 2048)]
    };
    let log: String = (0..100).flat_map(pair).collect();
    fs::write(folder.path().join("access.log"), log + "nonsense\n").unwrap();
    let arguments = ["--config", "now.toml", "--config", "next.toml", "--worst", "1", "access.log"];
    let ran = ran(folder.path(), &arguments);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out, include_str!("logs/compared.txt"));

    let report = simulate(folder.path(), &arguments);
    let hits = |place: usize| report["configurations"][place]["all"]["hits"].as_u64();
    // Each third one misses, and one in five minutes: L1 keeps nothing longer.
    assert_eq!((hits(0), hits(1)), (Some(66), Some(96)));
    assert_eq!(report["configurations"][1]["unrouted"], json!({ "no route": 50 }));
}

#[test]
fn what_does_not_fit_is_evicted_and_what_has_ended_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let small = "[cache.l1]\ncapacity = \"64KiB\"\nttl = \"1m\"\n";
    let config = format!("{small}{}ttl = \"1h\"\n", GATEWAY.trim_start());
    fs::write(folder.path().join("gateway.toml"), config).unwrap();
    let memory = |name: &str, log: String| {
        fs::write(folder.path().join(name), log).unwrap();
        simulate(folder.path(), &[name])["configurations"][0]["memory"].clone()
    };
    // At most twelve at a time, and never more than a minute.
    let calm =
        memory("calm", (0..300).map(|n| line(n * 5, &format!("GET /{n}"), 200, 1000)).collect());
    assert_eq!(calm["evicted"], json!(0));
    assert!(calm["most_octets"].as_u64().unwrap() < 30_000, "{calm}");
    // All within a minute.
    let busy =
        memory("busy", (0..300).map(|n| line(n / 5, &format!("GET /{n}"), 200, 1000)).collect());
    assert!(busy["evicted"].as_u64().unwrap() > 200, "{busy}");
    assert!(busy["most_octets"].as_u64().unwrap() <= 64 << 10, "{busy}");
}

#[test]
fn what_the_log_does_not_say_is_assumed_and_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), GATEWAY).unwrap();
    let requests =
        [("GET /a", 200, 10), ("GET /a", 200, 10), ("GET /a", 304, 0), ("GET /b", 304, 0)];
    let log: String = requests
        .iter()
        .map(|(request, status, octets)| line(0, request, *status, *octets))
        .collect();
    fs::write(folder.path().join("access.log"), log).unwrap();
    let ran = ran(folder.path(), &["access.log"]);
    for told in [
        "hit rate                      0.0 %",
        "not stored: no-freshness 4",
        "4 responses had no lifetime, by the log or by their route: `--ttl 1m` assumes one",
        "4 requests had no host in the log: `--host` says which",
        "2 responses were 304: each counted as the whole, of the length seen last",
        "1 responses had no length: they counted as empty",
    ] {
        assert!(ran.out.contains(told), "no `{told}`:\n{}", ran.out);
    }
    let report = simulate(folder.path(), &["--ttl", "1m", "--host", "shop.example", "access.log"]);
    let all = &report["configurations"][0]["all"];
    assert_eq!((&all["hits"], &all["octets_from_cache"]), (&json!(2), &json!(10)));
}

#[test]
fn an_assumed_lifetime_is_for_what_would_have_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), GATEWAY).unwrap();
    let config = format!("{GATEWAY}ttl = \"1m\"\n");
    fs::write(folder.path().join("own.toml"), config).unwrap();
    // The gateway guesses a day for the one that has not changed for years.
    let request = |second: u64, uri: &str, modified: &str| {
        let line = json!({
            "time": 1_000_000_000 + second, "method": "GET", "uri": uri, "host": "h", "status": 200,
            "bytes": 1, "sent_http_last_modified": modified,
        });
        format!("{line}\n")
    };
    let pair = |second| {
        request(second, "/old", "Sun, 06 Nov 1994 08:49:37 GMT") + &request(second, "/silent", "")
    };
    fs::write(folder.path().join("access.json"), [0, 30, 120].map(pair).concat()).unwrap();
    let told = |arguments: &[&str]| {
        let report = simulate(folder.path(), &[arguments, &["access.json"]].concat());
        let all = &report["configurations"][0]["all"];
        (all["hits"].as_u64().unwrap(), all["not_stored"].clone())
    };
    assert_eq!(told(&[]), (2, json!({ "no-freshness": 3 })));
    assert_eq!(told(&["--ttl", "1m"]), (3, json!({})), "the guess holds, as in the gateway");
    assert_eq!(told(&["--config", "own.toml", "--ttl", "1h"]), (2, json!({})), "the route's");
}

#[test]
fn responses_to_users_are_shared_where_they_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("{GATEWAY}ttl = \"1m\"\n");
    fs::write(folder.path().join("gateway.toml"), config).unwrap();
    let all = |name: &str, log: String| {
        fs::write(folder.path().join(name), log).unwrap();
        simulate(folder.path(), &[name])["configurations"][0]["all"].clone()
    };
    let line = |user: &str| line(0, "GET /a", 200, 1).replace("- - [", &format!("- {user} ["));
    let combined = all("access.log", ["bob", "eve", "bob"].map(line).concat());
    assert_eq!(combined["hits"], json!(0));
    assert_eq!(combined["not_stored"], json!({ "authorization": 3 }));

    let request = |user: &str, control: &str| {
        let line = json!({
            "time": 1_000_000_000, "method": "GET", "uri": "/a", "host": "h", "status": 200,
            "bytes": 1, "remote_user": user, "sent_http_cache_control": control,
        });
        format!("{line}\n")
    };
    let log = request("bob", "max-age=60") + &request("", "max-age=60") + &request("eve", "");
    let lines = all("access.json", log);
    assert_eq!(lines["hits"], json!(1), "what nobody in particular was sent is for everybody");
    assert_eq!(lines["not_stored"], json!({ "authorization": 1 }));
    let log = request("bob", "public, max-age=60") + &request("eve", "");
    assert_eq!(all("public.json", log)["hits"], json!(1));
}

#[test]
fn what_takes_no_part_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let l2 = "[cache.l2]\nredis = \"redis://127.0.0.1:1\"\n";
    let config = format!("{l2}{}compress = [\"gzip\"]\n", GATEWAY.trim_start());
    fs::write(folder.path().join("gateway.toml"), config).unwrap();
    fs::write(folder.path().join("access.log"), line(0, "GET /a", 200, 1)).unwrap();
    let ran = ran(folder.path(), &["access.log"]);
    for told in ["`[cache.l2]` takes no part", "`compress` takes no part"] {
        assert!(ran.out.contains(told), "no `{told}`:\n{}", ran.out);
    }
}

#[test]
fn what_a_route_cannot_send_on_asks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = "path = \"/u-{id}/{*rest}\"\nrewrite = { path = \"/users/{id}/{rest}\" }";
    let config = GATEWAY.replace("path = \"/{*rest}\"", path);
    fs::write(folder.path().join("gateway.toml"), config).unwrap();
    let log = [("GET /u-1/a", 200), ("GET /u-../a", 400), ("POST /u-../a", 400)];
    let log: String = log.iter().map(|(request, status)| line(0, request, *status, 1)).collect();
    fs::write(folder.path().join("access.log"), log).unwrap();
    let report = simulate(folder.path(), &["access.log"]);
    let all = &report["configurations"][0]["all"];
    assert_eq!((&all["requests"], &all["upstream_requests"]), (&json!(3), &json!(1)));
}

#[test]
fn failures_of_policies_are_told_with_their_reasons() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.wasm"), fixture(&[("key", "unreachable")])).unwrap();
    let bad = "[policies.bad]\nplugin = \"bad.wasm\"\n[[routes]]\nkey = \"bad\"";
    let config = GATEWAY.replace("[[routes]]", bad);
    fs::write(folder.path().join("gateway.toml"), config).unwrap();
    let log: String =
        (0..3).map(|number| line(number, &format!("GET /aa{number}"), 200, 1)).collect();
    fs::write(folder.path().join("access.log"), log).unwrap();
    let report = simulate(folder.path(), &["access.log"]);
    let report = &report["configurations"][0];
    assert_eq!(report["all"]["policy_failures"], json!(3));
    assert_eq!(report["all"]["bypassed"], json!({ "policy-failed": 3 }));
    let text = report["warnings"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("key policy failed; policy: bad; error: "), "{text}");
    assert_eq!(report["warnings"][0]["count"], json!(3));
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), GATEWAY).unwrap();
    fs::write(folder.path().join("bad.toml"), "[[routes]]\n").unwrap();
    fs::write(folder.path().join("good.log"), line(0, "GET /", 200, 1)).unwrap();
    fs::write(folder.path().join("empty.log"), "").unwrap();
    fs::write(folder.path().join("other.log"), "a\nb\nc\nd\n").unwrap();
    for (arguments, code, told) in [
        (&["gone.log"][..], 1, "`gone.log`: cannot be read: No such file or directory"),
        (&["empty.log"], 1, "there is no request in it\n"),
        (
            &["other.log"],
            1,
            "there is no request in it\n4 lines tell of no request:\n  \
             other.log:1  there is no time in brackets\n",
        ),
        (&["--config", "bad.toml", "good.log"], 2, "bad.toml"),
        (&["--config", "a", "--config", "b", "--config", "c", "good.log"], 2, "two configurations"),
        (&[], 2, "<LOG>"),
        (&["--ttl", "5", "good.log"], 2, "write a time such as `30s`"),
        (&["--field", "x=y", "good.log"], 2, "where ROLE is one of time, method"),
        (&["--format", "xml", "good.log"], 2, "auto, combined, json, har"),
        (&["--format", "har", "good.log"], 1, "`good.log`: "),
    ] {
        let ran = ran(folder.path(), arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{arguments:?}");
        assert!(ran.err.contains(told), "{arguments:?}: {}", ran.err);
    }
    let help = ran(folder.path(), &["--help"]);
    for text in [
        "--config <FILE>",
        "[default: gateway.toml]",
        "larder simulate --config",
        "Exit codes: 0 done",
    ] {
        assert!(help.out.contains(text), "no `{text}`:\n{}", help.out);
    }
    assert_eq!(help.out.lines().find(|line| line.chars().count() > 100), None);
}
