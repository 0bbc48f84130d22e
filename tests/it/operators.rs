//! The commands that look into a running gateway: `config show`, `routes`, `stats`, `top`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::client::Ask;
use crate::support::origin::{Origin, ok};
use crate::support::program::{Ran, Running, larder, larder_with};
use crate::support::until;

const TOKEN: [(&str, &str); 1] = [("LARDER_ADMIN_TOKEN", "s3cret")];

async fn gateway(origin: &Origin, token: &str) -> Running {
    Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nname = \"one\"\ncompiled_cache = \"off\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{token}\"\n\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [policies.no-tracking]\nplugin = \"bundled:normalise-query\"\n\
         [[routes]]\nname = \"rest\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
         [[routes]]\nname = \"books\"\npath = \"/books/{{id}}\"\nupstream = \"origin\"\nttl = \"5m\"\n\
         key = \"no-tracking\"\n\
         [[routes]]\nname = \"shop\"\nhost = \"shop.example\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        origin.url()
    ))
    .await
}

fn ask(gateway: &Running, arguments: &[&str]) -> Ran {
    let admin = format!("http://{}", gateway.admin());
    let arguments = [arguments, &["--admin", &admin]].concat();
    larder_with(gateway.folder(), &arguments, &TOKEN)
}

#[tokio::test]
async fn routes_are_told_in_their_order() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "s3cret").await;
    let ran = ask(&gateway, &["routes"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = ran.out.lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        words(lines[1]),
        ["shop", "shop.example", "/{*rest}", "any", "origin", "-", "-"],
        "{}",
        ran.out
    );
    assert_eq!(
        words(lines[2]),
        ["books", "any", "/books/{id}", "any", "origin", "key=no-tracking", "300s"]
    );
    assert_eq!(words(lines[3])[0], "rest");
    let told: Value = serde_json::from_str(&ask(&gateway, &["routes", "--json"]).out).unwrap();
    assert_eq!(told["routes"][1]["ttl_seconds"], 300);
    // Whoever has no token is told so.
    let admin = format!("http://{}", gateway.admin());
    let ran = larder(gateway.folder(), &["routes", "--admin", &admin]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("LARDER_ADMIN_TOKEN"), "{}", ran.err);
}

#[tokio::test]
async fn routes_are_told_without_what_came_from_variables() {
    let gateway = Running::with(
        "[server]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"s3cret\"\n\
         [upstreams.origin]\nservers = [\"http://127.0.0.1:1\"]\n\
         [[routes]]\nname = \"any\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
         [[routes]]\nname = \"some\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
         headers = { X-Version = [\"1\", \"2\"], X-Origin-Verify = \"${NOTHING_SET:-hunter2}\" }\n",
    )
    .await;
    let ran = ask(&gateway, &["routes", "--json"]);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["routes"][0]["name"], "some", "{told:#}");
    assert_eq!(
        told["routes"][0]["headers"],
        serde_json::json!({ "x-version": ["1", "2"], "x-origin-verify": ["[hidden]"] })
    );
    assert_eq!(told["routes"][1]["headers"], serde_json::json!({}));
}

#[tokio::test]
async fn figures_are_tables() {
    let origin = Origin::start().await;
    origin.on("/books/1").reply(ok("1").max_age(60));
    let gateway = gateway(&origin, "s3cret").await;
    for _ in 0..4 {
        Ask::new(gateway.address(), "GET", "/books/1").send().await.code(200);
    }
    let ran = ask(&gateway, &["stats"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(
        ran.out
            .starts_with("4 requests, 75.0 % from the cache, 1 to upstreams, 0 without a route\n"),
        "{}",
        ran.out
    );
    let books = ran.out.lines().find(|line| line.starts_with("books ")).unwrap();
    let figures: Vec<&str> = books.split_whitespace().collect();
    assert_eq!(figures[..3], ["books", "4", "75.0"], "{}", ran.out);
    assert!(figures[3].parse::<f64>().unwrap() > 0.0, "{}", ran.out);
    assert_eq!(figures[4..8], ["3", "0", "1", "0"], "{}", ran.out);
    let told: Value = serde_json::from_str(&ask(&gateway, &["stats", "--json"]).out).unwrap();
    assert_eq!(told["routes"]["books"]["total_requests"], 4);

    let ran = ask(&gateway, &["top", "--once", "--interval", "50ms"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for text in ["larder: pass", "4 requests since the start, 75.0 % from the cache", " up "] {
        assert!(ran.out.contains(text), "no `{text}`:\n{}", ran.out);
    }
    assert!(!ran.out.contains("quits"), "{}", ran.out);
    let ran = ask(&gateway, &["top"]);
    assert_eq!(ran.code, Some(2), "there is no terminal");
    assert!(ran.err.contains("--once"), "{}", ran.err);
}

#[tokio::test]
async fn a_terminal_is_drawn_on_and_given_back() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "").await;
    let admin = format!("http://{}", gateway.admin());
    for end in ["q", "ctrl-c", "sigterm", "sigint", "panic"] {
        let ran = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/top/terminal.py"))
            .args([env!("CARGO_BIN_EXE_larder"), &admin, end])
            .output()
            .unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && out.is_empty(), "{end}: {out}\n{err}");
    }
}

#[tokio::test]
async fn a_key_ends_it_while_it_waits_for_an_answer() {
    let admin = Origin::start().await;
    admin.on("/stats").reply(ok(r#"{"total_requests":1}"#));
    for call in ["/health", "/busiest"] {
        admin.on(call).reply(ok("{}"));
    }
    let mut terminal = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/top/terminal.py"))
        .args([env!("CARGO_BIN_EXE_larder"), &admin.url(), "slow"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it has looked twice", || admin.count("/stats") >= 2).await;
    let _held = admin.on("/stats").hold(ok("{}"));
    let before = admin.count("/stats");
    until("it waits", || admin.count("/stats") > before).await;
    terminal.stdin.take().unwrap().write_all(b"\n").unwrap();
    let ran = tokio::task::spawn_blocking(move || terminal.wait_with_output());
    let ran = ran.await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.is_empty(), "{out}\n{err}");
}

#[tokio::test]
async fn what_is_in_force_is_shown_of_a_file_and_of_a_gateway() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "s3cret").await;
    let of_file = larder(gateway.folder(), &["config", "show"]);
    assert_eq!((of_file.code, of_file.err.as_str()), (Some(0), ""));
    for line in [
        "token = \"[hidden]\"",
        "listen = \"127.0.0.1:0\"",
        "[[routes]]\nname = \"rest\"",
        "max_lag = \"5s\"",
        "# default",
        "# gateway.toml:2",
    ] {
        assert!(of_file.out.contains(line), "no `{line}`:\n{}", of_file.out);
    }
    // It is a file like any other.
    let again = gateway.folder().join("again.toml");
    fs::write(&again, of_file.out.replace("[hidden]", "s3cret")).unwrap();
    let checked = larder(gateway.folder(), &["check", "again.toml"]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    let running = ask(&gateway, &["config", "show", "--running"]);
    assert_eq!((running.code, &running.out), (Some(0), &of_file.out), "{}", running.err);

    let json = ask(&gateway, &["config", "show", "--running", "--json"]);
    let told: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told["config"]["routes"][1]["ttl"], "5m");
    assert_eq!(told["sources"]["/admin/token"]["line"], 7);
    assert_eq!(told["config"]["admin"]["token"], "[hidden]");

    // What waits for a restart is not in force.
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("name = \"one\"", "name = \"one\"\nworkers = 3")).unwrap();
    let reload = Ask::new(gateway.admin(), "POST", "/reload");
    reload.field("authorization", "Bearer s3cret").send().await.code(200);
    let json = ask(&gateway, &["config", "show", "--running", "--json"]);
    let told: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told["config"]["server"]["workers"], 0);

    fs::write(&file, "[server]\nlisen = 1\n").unwrap();
    let faulty = larder(gateway.folder(), &["config", "show"]);
    assert_eq!(faulty.code, Some(2));
    assert!(
        faulty.err.contains("gateway.toml:2:1: [server]: unknown key `lisen`"),
        "{}",
        faulty.err
    );
}

#[test]
fn what_is_shown_of_urls_to_warm_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[server]\nlisten = \"127.0.0.1:0\"\ncompiled_cache = \"off\"\n\
                [upstreams.a]\nservers = [\"http://127.0.0.1:1\"]\n\
                [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"a\"\n\
                [warm]\nsitemap = \"http://${DOMAIN}/map?key=hunter2\"\n\
                urls = [\"http://${DOMAIN}/\", \"http://a/?page=1\", \"http://a/?key=${TOKEN}\"]\n";
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let set = [("DOMAIN", "shop.example"), ("TOKEN", "hunter2")];
    let shown = larder_with(folder.path(), &["config", "show"], &set);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    for line in [
        "sitemap = \"http://shop.example/map?[hidden]\"",
        "urls = [\"http://shop.example/\", \"http://a/?page=1\", \"http://a/?[hidden]\"]",
    ] {
        assert!(shown.out.contains(line), "no `{line}`:\n{}", shown.out);
    }
    fs::write(folder.path().join("again.toml"), &shown.out).unwrap();
    let checked = larder(folder.path(), &["check", "again.toml"]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
}

#[test]
fn without_a_gateway_they_fail() {
    for command in ["routes", "stats", "top --once", "health", "config show --running"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let arguments = [&arguments[..], &["--admin", "http://127.0.0.1:1"]].concat();
        let ran = larder(Path::new("/"), &arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{command}");
        assert!(
            ran.err.starts_with("no answer of `http://127.0.0.1:1/`"),
            "{command}: {}",
            ran.err
        );
        assert!(ran.err.contains("\n  hint: a gateway listens there if"), "{command}: {}", ran.err);
    }
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let (admin, token) = (["--admin", "http://127.0.0.1:1"], ["--token-file", "token"]);
    for (command, arguments, told) in [
        ("config show", admin, "not provided:\n  --running"),
        ("config show", token, "not provided:\n  --running"),
        ("config show gateway.toml", admin, "cannot be used with"),
        ("config show --config gateway.toml", token, "cannot be used with"),
        ("warm http://h/", admin, "not provided:\n  --busiest"),
        ("warm --list -", token, "not provided:\n  --busiest"),
        ("health", token, "unexpected argument '--token-file'"),
        ("health --live", token, "unexpected argument '--token-file'"),
    ] {
        let command: Vec<&str> = command.split(' ').collect();
        let ran = larder(Path::new("/"), &[&command[..], &arguments].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{command:?}: {}", ran.err);
        assert!(ran.err.contains(told), "{command:?} lacks `{told}`:\n{}", ran.err);
    }
}

/// Another server may be there, with pages or with JSON of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_no_gateways_are_errors() {
    let calls = ["/stats", "/routes", "/health", "/health/live", "/config", "/busiest"];
    let explain = "explain http://shop.example/a";
    let commands = [
        "stats",
        "stats --json",
        "routes",
        "routes --json",
        "top --once",
        "health",
        "config show --running",
        "config show --running --json",
        explain,
        "purge --all",
    ];
    for content in ["<!doctype html><p>Hello", "[]", "{}", "null", "{\"status\":\"UP\"}", ""] {
        let other = Origin::start().await;
        for call in calls {
            other.on(call).reply(ok(content));
        }
        for call in ["/explain", "/purge"] {
            other.on(call).method("POST").reply(ok(content));
        }
        for command in commands {
            let arguments: Vec<&str> = command.split(' ').collect();
            let url = other.url();
            let arguments = [&arguments[..], &["--admin", &url]].concat();
            let ran = larder(Path::new("/"), &arguments);
            assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{command}: {content}");
            let expected = "answers 200 OK as no admin listener of Larder does";
            assert!(ran.err.contains(expected), "{command}: {content}: {}", ran.err);
        }
    }
}
