//! The access log: one line for each request, when it has ended, and no line that a client makes up.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::client::{Ask, raw};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok, pieces, status};
use crate::support::program::Running;
use crate::support::raw::{RawOrigin, Step};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, secs, until};

struct Log {
    folder: TempDir,
}

impl Log {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    /// Has a pipe in its place, which nobody reads until the file that is handed out is read.
    fn pipe(&self) -> File {
        let pipe = self.file();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // For writing, too: otherwise it would be waited for who writes.
        File::options().read(true).write(true).open(&pipe).unwrap()
    }

    /// A gateway that writes it, with more lines for `[access_log]`.
    async fn of(&self, setup: Setup, lines: &str) -> Gateway {
        let table = format!("[access_log]\nfile = {:?}\n{lines}", self.file().display());
        setup.route(&table).start().await
    }

    /// So many lines, once there are no fewer.
    async fn lines(&self, count: usize) -> Vec<String> {
        let file = self.file();
        until("there are lines", || lines(&file).len() >= count).await;
        let lines = lines(&file);
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }

    async fn objects(&self, count: usize) -> Vec<Value> {
        let lines = self.lines(count).await;
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// These members of an object.
fn of(line: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| line[*name].clone()).collect()
}

#[tokio::test]
async fn a_line_tells_what_became_of_a_request() {
    let (origin, log) = (Origin::start().await, Log::new());
    let gateway = log.of(Gateway::setup(&origin), "").await;
    origin.on("/a?b=c").reply(ok("12345").max_age(60));
    let ask =
        gateway.ask("GET", "/a?b=c").field("user-agent", "test/1").field("host", "shop.example");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ask = ask.field("referer", "http://r.example/?q=1").field("traceparent", trace);
    ask.send().await.status("fwd=uri-miss; stored");
    gateway.ask("GET", "/a?b=c").field("host", "shop.example").send().await.status("hit");
    gateway.ask("HEAD", "/a?b=c").field("host", "shop.example").send().await.status("hit");
    gateway.ask("PUT", "/none").send().await.code(404);
    let all = log.objects(4).await;
    let names = ["method", "target", "status", "bytes", "outcome", "end", "route", "key"];
    assert_eq!(
        all.iter().map(|line| of(line, &names)).collect::<Vec<_>>(),
        [
            json!(["GET", "/a?b=c", 200, 5, "uri-miss", "complete", "all", "a?b=c"]),
            json!(["GET", "/a?b=c", 200, 5, "hit-l1", "complete", "all", "a?b=c"]),
            json!(["HEAD", "/a?b=c", 200, 0, "hit-l1", "complete", "all", "a?b=c"]),
            json!(["PUT", "/none", 404, all[3]["bytes"], "method", "complete", "all", null]),
        ]
    );
    let names = [
        "client",
        "scheme",
        "host",
        "protocol",
        "user_agent",
        "referrer",
        "trace_id",
        "cache_status",
    ];
    let cache_status = "larder; fwd=uri-miss; stored";
    let trace = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(
        of(&all[0], &names),
        json!([
            "127.0.0.1",
            "http",
            "shop.example",
            "HTTP/1.1",
            "test/1",
            "http://r.example/?q=1",
            trace,
            cache_status
        ])
    );
    assert!(all[0]["upstream_seconds"].as_f64().unwrap() > 0.0, "{}", all[0]);
    assert_eq!(of(&all[1], &["upstream_seconds", "l2_seconds"]), json!([null, null]));
    for line in &all {
        let seconds = |name: &str| line[name].as_f64().unwrap();
        assert!(seconds("head_seconds") <= seconds("duration_seconds"), "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
}

/// Also where the response was stored for another query, and where a hit is told more, or read by hyper.
#[tokio::test]
async fn a_line_has_the_name_of_what_was_asked_for() {
    let told_more = "[cache]\nstatus_key = true";
    for (cache, closes) in [("", false), ("", true), (told_more, false), (told_more, true)] {
        let (origin, log) = (Origin::start().await, Log::new());
        let gateway = log.of(Gateway::setup(&origin).cache(cache), "").await;
        let rule = "params=(\"x\")";
        origin.on("/a?x=1").reply(ok("12345").max_age(60).field("no-vary-search", rule));
        for target in ["/a?x=1", "/a?x=1", "/a?x=2"] {
            let mut ask = gateway.ask("GET", target);
            if closes {
                ask = ask.field("connection", "close");
            }
            ask.send().await.body("12345");
        }
        let all = log.objects(3).await;
        assert_eq!(
            all.iter().map(|line| of(line, &["outcome", "key", "bytes"])).collect::<Vec<_>>(),
            [
                json!(["uri-miss", "a?x=1", 5]),
                json!(["hit-l1", "a?x=1", 5]),
                json!(["hit-l1", "a?x=2", 5])
            ],
            "{cache} {closes}"
        );
    }
}

/// What `text` has behind `combined`.
#[tokio::test]
async fn a_line_of_text_tells_as_much_and_is_read_back_as_json_is() {
    let origin = Origin::start().await;
    for target in ["/a?b=c", "/d"] {
        origin.on(target).reply(ok("12345").max_age(60));
    }
    let mut reports = Vec::new();
    for format in ["json", "text"] {
        let log = Log::new();
        let gateway = log.of(Gateway::setup(&origin), &format!("format = {format:?}")).await;
        for target in ["/a?b=c", "/a?b=c", "/d", "/none"] {
            let ask = gateway.ask("GET", target).field("host", "[::1]:80");
            ask.field("user-agent", "x host=\"evil\"").send().await;
        }
        let lines = log.lines(4).await;
        if format == "text" {
            let begin = "\" 200 5 \"-\" \"x host=\\x22evil\\x22\" scheme=\"http\" host=\"[::1]:80\" \
                         cache_status=\"larder; fwd=uri-miss; stored\" route=\"all\" key=\"a?b=c\" \
                         outcome=\"uri-miss\" end=\"complete\" duration_seconds=0.";
            assert!(lines[0].contains(begin), "{}", lines[0]);
            assert!(lines[0].contains(" upstream_seconds=0."), "{}", lines[0]);
            assert!(!lines[1].contains("upstream_seconds"), "{}", lines[1]);
            assert!(!lines[1].contains("l2_seconds"), "{}", lines[1]);
        }
        let text = "[upstreams.a]\nservers = [\"http://127.0.0.1:9\"]\n[[routes]]\nname = \"all\"\n\
                    path = \"/{*rest}\"\nhost = \"[::1]\"\nttl = \"1m\"\nupstream = \"a\"\n";
        let folder = log.folder.path();
        std::fs::write(folder.join("gateway.toml"), text).unwrap();
        let ran = crate::support::program::larder(folder, &["simulate", "--json", "access.log"]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{format}");
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let told = &report["configurations"][0];
        assert_eq!(told["assumed"]["hosts"], 0, "{format}: {told:#}");
        assert_eq!(told["all"]["requests"], 4, "{format}: {told:#}");
        reports.push((told["all"].clone(), told["routes"].clone()));
    }
    assert_eq!(reports[0], reports[1]);
}

#[tokio::test]
async fn nothing_secret_is_in_a_line_and_queries_can_be_left_out() {
    for (format, status_key) in
        [("combined", false), ("text", false), ("json", false), ("text", true), ("json", true)]
    {
        let (origin, log) = (Origin::start().await, Log::new());
        let lines = format!("query = false\nformat = {format:?}");
        let setup = Gateway::setup(&origin).cache(&format!("[cache]\nstatus_key = {status_key}"));
        let gateway = log.of(setup, &lines).await;
        origin.on("/a?token=secret").reply(ok("secret").field("set-cookie", "secret"));
        let ask = gateway.ask("GET", "/a?token=secret").field("authorization", "Bearer secret");
        ask.field("cookie", "a=secret").field("referer", "http://r.example/p?secret").send().await;
        let line = &log.lines(1).await[0];
        assert!(line.contains("http://r.example/p") && !line.contains("secret"), "{line}");
        if format == "json" {
            let line: Value = serde_json::from_str(line).unwrap();
            let expected = json!(["/a", "a", "http://r.example/p"]);
            assert_eq!(of(&line, &["target", "key", "referrer"]), expected);
        }
    }
}

/// As the name of a response has it, which a policy may have made of a cookie.
#[tokio::test]
async fn what_policies_make_keys_of_is_told_where_queries_are() {
    for (query, expected) in [(true, "a?currency=EUR"), (false, "a")] {
        let (origin, log) = (Origin::start().await, Log::new());
        let setup = Gateway::setup(&origin).routes(
            "[policies.shop]\nplugin = \"bundled:variants\"\ntime = \"10s\"\n\
             config = { cookie = \"currency\" }\n\
             [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
             key = \"shop\"\n",
        );
        let gateway = log.of(setup, &format!("query = {query}")).await;
        origin.on("/a").reply(ok("1").max_age(60));
        gateway.ask("GET", "/a").field("cookie", "currency=EUR").send().await.code(200);
        let line = &log.objects(1).await[0];
        assert_eq!(line["key"], expected);
        assert_eq!(line.to_string().contains("EUR"), query, "{line}");
    }
}

#[tokio::test]
async fn no_client_makes_up_a_line() {
    for (format, expected) in [
        ("json", r#""user_agent":"a\"b\\�\tc""#),
        ("combined", r#""GET /a HTTP/1.1" 404 "#),
        ("text", r#" "-" "a\x22b\x5C\xEF\xBF\xBD\x09c" scheme="http" host="a" "#),
    ] {
        let (origin, log) = (Origin::start().await, Log::new());
        let gateway = log.of(Gateway::setup(&origin), &format!("format = {format:?}")).await;
        origin.on("/a").reply(status(404));
        let octets =
            b"GET /a HTTP/1.1\r\nhost: a\r\nuser-agent: a\"b\\\xff\tc\r\nconnection: close\r\n\r\n";
        raw(gateway.address(), octets).await;
        let line = &log.lines(1).await[0];
        assert!(line.contains(expected), "{line}");
        if format == "combined" {
            let (begin, end) = line.split_once(" [").unwrap();
            assert_eq!(begin, "127.0.0.1 - -");
            assert!(end.ends_with(r#" "-" "a\x22b\x5C\xEF\xBF\xBD\x09c""#), "{line}");
        }
    }
}

#[tokio::test]
async fn what_broke_off_is_told() {
    let (origin, log) = (Origin::start().await, Log::new());
    let broken = RawOrigin::start(&[
        Step::Head,
        Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123"),
    ])
    .await;
    let more = format!(
        "[upstreams.broken]\nservers = [{:?}]\n[[routes]]\nname = \"broken\"\npath = \"/broken\"\n\
         upstream = \"broken\"\n",
        broken.url()
    );
    let gateway = log.of(Gateway::setup(&origin).route(&more), "").await;
    assert!(gateway.ask("GET", "/broken").attempt().await.is_err());
    let (reply, sender) = pieces();
    origin.on("/slow").reply(reply);
    let mut open = gateway.ask("GET", "/slow").open().await;
    sender.send("123");
    open.piece().await.unwrap().unwrap();
    drop(open);
    until("the first two are told", || lines(&log.file()).len() == 2).await;
    let held = origin.on("/held").hold(ok("1"));
    let left = tokio::spawn(gateway.ask("GET", "/held").send());
    until("the origin is asked", || origin.count("/held") == 1).await;
    left.abort();
    let all = log.objects(3).await;
    held.release();
    let all = all.iter().map(|line| of(line, &["target", "status", "end", "outcome"]));
    assert_eq!(
        all.collect::<Vec<_>>(),
        [
            json!(["/broken", 200, "upstream", "uri-miss"]),
            json!(["/slow", 200, "client", "uri-miss"]),
            json!(["/held", null, "client", "abandoned"]),
        ]
    );
}

#[tokio::test]
async fn waiting_for_l2_is_told() {
    let (origin, redis, log) = (Origin::start().await, Redis::start(), Log::new());
    let gateway = log.of(Gateway::setup(&origin).redis(&redis), "").await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    let line = &log.objects(1).await[0];
    assert!(line["l2_seconds"].as_f64().unwrap() > 0.0, "{line}");
}

#[tokio::test]
async fn the_client_is_whom_trusted_proxies_name() {
    let (origin, log) = (Origin::start().await, Log::new());
    let setup = Gateway::setup(&origin).server("workers = 1\ntrusted_proxies = [\"127.0.0.1\"]");
    let gateway = log.of(setup, "").await;
    let ask = gateway.ask("GET", "/a").field("x-forwarded-for", "192.0.2.1");
    ask.field("x-forwarded-proto", "https").send().await;
    let line = &log.objects(1).await[0];
    assert_eq!(of(line, &["client", "scheme"]), json!(["192.0.2.1", "https"]));
}

#[tokio::test]
async fn a_drain_leaves_no_line_behind() {
    let (origin, log) = (Origin::start().await, Log::new());
    let gateway = log.of(Gateway::setup(&origin), "").await;
    for _ in 0..100 {
        gateway.get("/a").await;
    }
    gateway.drain().await;
    assert_eq!(lines(&log.file()).len(), 100);
}

#[tokio::test]
async fn a_drain_waits_for_who_reads_lines_late() {
    let (origin, log) = (Origin::start().await, Log::new());
    let reader = log.pipe();
    let running = Running::with(&written_to(&log.file(), &origin, "30s")).await;
    let target = format!("/{}", "a".repeat(4096));
    for _ in 0..50 {
        Ask::new(running.address(), "GET", &target).send().await;
    }
    let (sender, reading) = oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(secs(3));
        let (mut reader, mut octets) = (BufReader::new(reader), Vec::new());
        for _ in 0..50 {
            reader.read_until(b'\n', &mut octets).unwrap();
        }
        sender.send(octets.len())
    });
    running.signal("TERM");
    assert_eq!(running.exit_code().await, Some(0));
    let read = timeout(PATIENCE, reading).await.expect("lines are missing").unwrap();
    assert!(read > 50 * target.len());
}

/// Whoever stops the program is not kept waiting by whoever reads nothing, and is told what was lost.
#[tokio::test]
async fn a_drain_ends_without_who_reads_no_lines() {
    let (origin, log) = (Origin::start().await, Log::new());
    let _reader = log.pipe();
    let mut running = Running::with(&written_to(&log.file(), &origin, "1s")).await;
    let target = format!("/{}", "a".repeat(4096));
    for _ in 0..50 {
        Ask::new(running.address(), "GET", &target).send().await;
    }
    running.signal("TERM");
    running.until_it_says("the end of the access log is lost").await;
    assert_eq!(running.exit_code().await, Some(0));
}

/// A configuration.
fn written_to(file: &Path, origin: &Origin, drain: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ncompiled_cache = \"off\"\ndrain = {drain:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstreams.origin]\nservers = [{:?}]\n[[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\n\
         upstream = \"origin\"\n[access_log]\nfile = {:?}\nformat = \"combined\"\n",
        origin.url(),
        file.display(),
    )
}

#[tokio::test]
async fn lines_without_room_are_counted() {
    let (origin, log) = (Origin::start().await, Log::new());
    let folder = log.folder.path().join("full");
    std::os::unix::fs::symlink("/dev/full", &folder).unwrap();
    let table = format!("[access_log]\nfile = {:?}", folder.display());
    let gateway = Gateway::setup(&origin).route(&table).start().await;
    gateway.get("/a").await.code(404);
    let dropped = || gateway.service().gateway().stats().snapshot().access_log.dropped;
    until("it is counted", || dropped() == 1).await;
    assert_eq!(gateway.stats().await["access_log"], json!({ "written": 0, "dropped": 1 }));
}

/// A disk that is full takes a part of a line. What follows once there is room is not the rest of it.
#[tokio::test]
async fn a_line_that_was_cut_off_spoils_none_after_it() {
    let origin = Origin::start().await;
    let toml = written_to(Path::new("access.log"), &origin, "30s");
    let mut running = Running::with_short_files(&toml, 4).await;
    let file = running.folder().join("access.log");
    let get = async || {
        raw(running.address(), b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await
    };
    for _ in 0..100 {
        get().await;
    }
    let counted = async || running.stats().await["access_log"].clone();
    let whole = loop {
        let told = counted().await;
        let [written, dropped] = ["written", "dropped"].map(|it| told[it].as_u64().unwrap());
        if written + dropped == 100 {
            break written;
        }
    };
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.len() == 4096 && !text.ends_with('\n'), "the last one is cut off: {text}");
    assert_eq!(lines(&file).len() as u64, whole + 1);
    // There is room for more.
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(3000).unwrap();
    let kept = lines(&file).len();
    get().await;
    until("there is another line", || lines(&file).len() == kept + 1).await;
    let last = lines(&file).pop().unwrap();
    assert!(last.starts_with("127.0.0.1 - - [") && last.ends_with(r#" "-" "-""#), "{last}");
    running.says("access log is written again").await;
    let told = running.stats().await["access_log"].clone();
    assert_eq!(told, json!({ "written": whole + 1, "dropped": 100 - whole }));
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew_by_a_signal() {
    let origin = Origin::start().await;
    let running = Running::with(&written_to(Path::new("access.log"), &origin, "30s")).await;
    let (file, moved) =
        (running.folder().join("access.log"), running.folder().join("access.log.1"));
    let get = async || {
        raw(running.address(), b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await
    };
    get().await;
    until("there is a line", || lines(&file).len() == 1).await;
    // As `copytruncate` does it.
    File::create(&file).unwrap();
    get().await;
    until("there is another", || lines(&file).len() == 1).await;
    std::fs::rename(&file, &moved).unwrap();
    running.signal("HUP");
    until("there is a new file", || file.exists()).await;
    get().await;
    until("the line is in it", || lines(&file).len() == 1).await;
    assert_eq!(lines(&moved).len(), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[upstreams.a]\nservers = [\"http://127.0.0.1:9\"]\n[server]\nlisten = \"127.0.0.1:0\"\n\
                [[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"a\"\n\
                [access_log]\nfile = \"none/access.log\"\n";
    std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let ran = crate::support::program::larder(folder.path(), &["run"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("[access_log] file") && ran.err.contains("none/access.log"),
        "{ran:?}"
    );
}
