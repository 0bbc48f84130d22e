//! `larder purge`: what it purges, what it tells of that, and its exit codes.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::client::{Ask, Got};
use crate::support::origin::{Origin, ok, status};
use crate::support::program::{Ran, Running, larder, larder_with};
use crate::support::redis::Redis;

const TOKEN: [(&str, &str); 1] = [("LARDER_ADMIN_TOKEN", "s3cret")];

/// A gateway in a process of its own, with more tables.
async fn gateway(origin: &Origin, tables: &str) -> Running {
    Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nname = \"one\"\ncompiled_cache = \"off\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"s3cret\"\n{tables}\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"a\"\npath = \"/a/{{*rest}}\"\nupstream = \"origin\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        origin.url()
    ))
    .await
}

async fn get(gateway: &Running, target: &str) -> Got {
    Ask::new(gateway.address(), "GET", target).send().await
}

fn purge(gateway: &Running, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let admin = format!("http://{}", gateway.admin());
    let arguments = [&["purge", "--admin", &admin], arguments].concat();
    larder_with(gateway.folder(), &arguments, variables)
}

/// Waits until a figure of L2 is this.
async fn l2_is(gateway: &Running, figure: &str, expected: bool) {
    let looking = async {
        let ask = || Ask::new(gateway.admin(), "GET", "/stats");
        loop {
            let got = ask().field("authorization", "Bearer s3cret").send().await.code(200);
            let stats: Value = serde_json::from_slice(&got.body).unwrap();
            if stats["store"]["l2"][figure] == expected {
                return;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    assert!(found.is_ok(), "`{figure}` is never {expected}");
}

#[test]
fn its_help_teaches() {
    let ran = larder(Path::new("/"), &["purge", "--help"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for text in [
        "[default: http://127.0.0.1:9080]",
        "--token-file <FILE>",
        "LARDER_ADMIN_TOKEN",
        "--tag <TAG>",
        "--wait <TIME>",
        "0 accepted",
        "2 wrong arguments",
    ] {
        assert!(ran.out.contains(text), "no `{text}`:\n{}", ran.out);
    }
    assert_eq!(ran.out.lines().find(|line| line.chars().count() > 100), None);
}

#[tokio::test]
async fn it_purges_what_its_arguments_name() {
    const STORED: [&str; 6] = ["/a/1", "/b", "/b?x=1", "/c/1", "/c/2", "/d"];
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "").await;
    for target in STORED {
        origin
            .on(target)
            .reply(ok("1").max_age(60).field("cache-groups", &format!("\"{target}\"")));
    }
    let url = format!("http://{}/d", gateway.address());
    for (arguments, gone) in [
        (&["--tag", "/b", "--tag", "/c/1"][..], &["/b", "/c/1"][..]),
        (&["--key", "b?x=1"], &["/b?x=1"]),
        (&["--url", &url], &["/d"]),
        (&["--pattern", "c/*", "--route", "a"], &["/a/1", "/c/1", "/c/2"]),
        (&["--all"], &STORED),
        (&["--tag", "nothing bears it"], &[]),
    ] {
        for target in STORED {
            get(&gateway, target).await.code(200);
        }
        let ran = purge(&gateway, arguments, &TOKEN);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ran.out.ends_with(": accepted\n"), "{ran:?}");
        for target in STORED {
            let expected = if gone.contains(&target) { "fwd=uri-miss; stored" } else { "hit" };
            assert_eq!(
                get(&gateway, target).await.cache_status(),
                expected,
                "{target} {arguments:?}"
            );
        }
    }
}

#[tokio::test]
async fn it_doubts_names_with_the_first_slash_of_the_path() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "").await;
    for target in ["/b", "//b"] {
        origin.on(target).reply(ok("1").max_age(60));
        get(&gateway, target).await.code(200);
    }
    let note = |name| format!("note: names are without the first `/`: did you mean `{name}`?\n");
    let ran = purge(&gateway, &["--key", "/b"], &TOKEN);
    assert_eq!((ran.code, ran.err), (Some(0), note("b")));
    get(&gateway, "/b").await.status("hit");
    get(&gateway, "//b").await.status("fwd=uri-miss; stored");
    let ran = purge(&gateway, &["--pattern", "/b*", "--pattern", "b*", "--key", "/c"], &TOKEN);
    assert_eq!((ran.code, ran.err), (Some(0), note("c") + &note("b*")));
    get(&gateway, "/b").await.status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn what_it_purges_softly_is_validated() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "").await;
    origin.on("/b").reply(ok("1").max_age(60).etag("v1"));
    get(&gateway, "/b").await.code(200);
    assert_eq!(purge(&gateway, &["--key", "b", "--soft"], &TOKEN).code, Some(0));
    origin.on("/b").with("if-none-match", "\"v1\"").reply(status(304));
    get(&gateway, "/b").await.body("1").status("fwd=stale; fwd-status=304; stored");
}

#[tokio::test]
async fn it_tells_who_has_applied_it_if_it_is_to_wait() {
    let mut redis = Redis::start();
    let origin = Origin::start().await;
    let l2 = format!("[cache.l2]\nredis = \"{}\"\ntimeout = \"10s\"\n", redis.url());
    let gateway = gateway(&origin, &l2).await;
    l2_is(&gateway, "log_in_step", true).await;

    let ran = purge(&gateway, &["--all", "--wait", "10s"], &TOKEN);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let [first, own] = ran.out.lines().collect::<Vec<_>>()[..] else { panic!("{ran:?}") };
    assert!(first.ends_with(": applied by all gateways that are alive"), "{ran:?}");
    assert!(own.starts_with("  one  20") && own.ends_with('Z'), "{ran:?}");

    let ran = purge(&gateway, &["--all", "--wait", "10s", "--json"], &TOKEN);
    assert_eq!(ran.code, Some(0));
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&told["complete"], &told["gateways"][0]["name"]), (&json!(true), &json!("one")));

    redis.kill();
    l2_is(&gateway, "up", false).await;
    let ran = purge(&gateway, &["--all"], &TOKEN);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "it is accepted");
    assert!(ran.out.contains("@one: applied by one gateway, which has it in memory"), "{ran:?}");
    let ran = purge(&gateway, &["--all", "--wait", "10ms"], &TOKEN);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "not by all in time");
    assert!(ran.out.contains("@one: applied by one gateway, which has it in memory"), "{ran:?}");
}

#[tokio::test]
async fn its_token_comes_from_a_file_or_the_environment() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "").await;
    let write = |name: &str, text: &str| fs::write(gateway.folder().join(name), text).unwrap();
    write("right", "s3cret\n");
    write("wrong", "s3cre");
    write("empty", "\n");
    write("two", "s3cret\nhunter2\n");
    let ran = |file, variables: &[(&str, &str)]| {
        let ran = purge(&gateway, &["--all", "--token-file", file], variables);
        assert!(!ran.err.contains("s3cre") && !ran.err.contains("hunter2"), "{ran:?}");
        (ran.code, ran.err)
    };
    assert_eq!(ran("right", &[]), (Some(0), String::new()));
    assert_eq!(ran("right", &[("LARDER_ADMIN_TOKEN", "other")]), (Some(0), String::new()));
    let hint = "as `Authorization: Bearer TOKEN`\n  hint: put it in LARDER_ADMIN_TOKEN, or in a file for \
                --token-file\n";
    let wrong = format!("401: that is not the token: send it {hint}");
    assert_eq!(ran("wrong", &TOKEN), (Some(1), wrong));
    let refused = format!("401: send the token {hint}");
    assert_eq!(
        ran("empty", &TOKEN),
        (Some(2), "empty: there is no token in it\n1 fault\n".to_owned())
    );
    let (code, told) = ran("two", &[]);
    assert_eq!(code, Some(2));
    assert!(told.starts_with("two: what is there cannot be sent as a bearer token\n"), "{told}");
    for none in [&[][..], &[("LARDER_ADMIN_TOKEN", "")]] {
        let ran = purge(&gateway, &["--all"], none);
        assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(1), refused.as_str(), ""));
    }
}

#[tokio::test]
async fn what_is_refused_is_told() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "").await;
    let ran = purge(&gateway, &["--url", "/a", "--tag", "", "--url", "ftp://h/"], &TOKEN);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        (ran.err.as_str(), ran.out.as_str()),
        ("422: 1 fault; nothing was purged\n  `tags[0]` is empty\n", "")
    );
    let ran = purge(&gateway, &["--url", "/a", "--json"], &TOKEN);
    assert_eq!(ran.code, Some(1));
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["faults"], json!(["`urls[0]` is not an absolute URL with http or https"]));

    // The clients' listener, and nobody at all.
    origin.on("/purge").method("POST").reply(ok("<html>"));
    let address = gateway.address().to_string();
    for (admin, told) in [
        (format!("http://{address}"), "answers 200 OK as no admin listener of Larder does\n"),
        (
            "http://127.0.0.1:1".to_owned(),
            "Connection refused (os error 111)\n  hint: a gateway listens there if its file has `[admin]`, \
             or if it was started with --upstream and --admin; --admin says where else\n",
        ),
    ] {
        let arguments = ["purge".to_owned(), "--all".to_owned(), format!("--admin={admin}")];
        // The origin answers on this thread.
        let running = tokio::task::spawn_blocking(move || {
            larder(Path::new("/"), &arguments.each_ref().map(String::as_str))
        });
        let ran = running.await.unwrap();
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.err.contains(&admin) && ran.err.ends_with(told), "{ran:?}");
    }
}
