//! Contents that policies ask to see: of requests whole, of responses the values they name.

use std::io::Write as _;

use tempfile::NamedTempFile;

use crate::support::client::{Ask, raw};
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, ok, status};
use crate::support::plugin::fixture;
use crate::support::wire::Line;

const MISS: &str = "fwd=uri-miss; stored";

/// Wants the path and the content.
const WANTS_CONTENT: &str = "(i32.store8 (i32.const 1028) (i32.const 0x48))";

/// Names the content as the path that the write made wrong, if it is shown any.
const CONTENT_IS_A_PATH: &str = "(if (i32.load8_u offset=84 (local.get $cause)) (then
    (i32.store (i32.const 284) (i32.load offset=88 (local.get $cause)))
    (i32.store (i32.const 288) (i32.load offset=92 (local.get $cause)))
    (return (i32.const 260))))";

/// Bypasses with the content as the reason, if it is shown any.
const CONTENT_IS_A_REASON: &str = "(if (i32.load8_u offset=80 (local.get $request)) (then
    (i32.store8 (i32.const 132) (i32.const 1))
    (i32.store (i32.const 136) (i32.load offset=84 (local.get $request)))
    (i32.store (i32.const 140) (i32.load offset=88 (local.get $request)))))";

/// A plugin written as text, with something in its places, in each of these roles of a route.
async fn start(
    origin: &Origin,
    places: &[(&str, &str)],
    roles: &[&str],
    lines: &str,
) -> (NamedTempFile, Gateway) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&fixture(places)).unwrap();
    let roles = roles.iter().map(|role| format!("{role} = \"written\"\n"));
    let tables = format!(
        "[policies.written]\nplugin = \"{}\"\ntime = \"10s\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{}{lines}\n",
        file.path().display(),
        roles.collect::<String>()
    );
    let gateway = Gateway::setup(origin).routes(&tables).start().await;
    (file, gateway)
}

/// A gateway whose invalidation policy names what is written as the path that became stale.
async fn shows_writes(origin: &Origin, lines: &str) -> (NamedTempFile, Gateway) {
    let places = [("configure", WANTS_CONTENT), ("invalidation", CONTENT_IS_A_PATH)];
    let started = start(origin, &places, &["invalidation"], lines).await;
    origin.on("/a").method("POST").reply(status(204));
    origin.on("/b").reply(ok("b").max_age(600));
    started
}

// Requests.

#[tokio::test]
async fn invalidation_policy_sees_what_was_written() {
    let origin = Origin::start().await;
    let (_file, gateway) = shows_writes(&origin, "").await;
    let write = |content: &'static str| gateway.ask("POST", "/a").body(content);
    let ways: [fn(Ask) -> Ask; 4] =
        [|ask| ask, Ask::unannounced, Ask::http2, |ask| ask.http2().unannounced()];
    gateway.get("/b").await.status(MISS);
    for way in ways {
        gateway.get("/b").await.body("b").status("hit");
        way(write("/b")).send().await.code(204).status("fwd=method");
        let asked = origin.last("/a");
        assert_eq!((&*asked.body, asked.is_whole), (&b"/b"[..], true));
        gateway.get("/b").await.body("b").status("fwd=stale; stored");
    }
    for (content, why) in [("/c", "another path"), ("", "no content")] {
        write(content).send().await.code(204);
        gateway.get("/b").await.status("hit");
        assert_eq!(origin.last("/a").body, content, "{why}");
    }
}

#[tokio::test]
async fn longer_content_passes_unseen() {
    let origin = Origin::start().await;
    let (_file, gateway) = shows_writes(&origin, "max_policy_body = \"2B\"").await;
    gateway.get("/b").await.status(MISS);
    for way in [|ask| ask, Ask::unannounced, Ask::http2] {
        way(gateway.ask("POST", "/a").body("/b/")).send().await.code(204).status("fwd=method");
        let asked = origin.last("/a");
        assert_eq!((&*asked.body, asked.is_whole), (&b"/b/"[..], true));
    }
    let large = "x".repeat(1 << 20);
    gateway.ask("POST", "/a").body(large.clone()).unannounced().send().await.code(204);
    assert!(origin.last("/a").body == large);
    gateway.get("/b").await.status("hit");
    gateway.ask("POST", "/a").body("/b").send().await.code(204);
    gateway.get("/b").await.status("fwd=stale; stored");
}

#[tokio::test]
async fn write_whose_content_breaks_off_is_not_sent_on() {
    let origin = Origin::start().await;
    let (_file, gateway) = shows_writes(&origin, "").await;
    let host = gateway.address();
    let head = |framing: &str| format!("POST /a HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n");
    let chunked = format!("{}2\r\n/b\r\nnonsense\r\n", head("Transfer-Encoding: chunked"));
    gateway.get("/b").await.status(MISS);
    let got = raw(host, chunked.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 400 "), "{got}");
    assert!(got.contains("larder; fwd=method; detail=request-broken"), "{got}");
    let mut client = Line::to(host).await;
    client.send(format!("{}/b", head("Content-Length: 3"))).await;
    client.leave().await;
    gateway.get("/b").await.status("hit");
    origin.saw("/a", 0);
}

#[tokio::test]
async fn write_whose_content_does_not_come_is_given_up() {
    let origin = Origin::start().await;
    let places = [("configure", WANTS_CONTENT)];
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&fixture(&places)).unwrap();
    let tables = format!("[policies.written]\nplugin = \"{}\"\n", file.path().display());
    let route = "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                 invalidation = \"written\"\n";
    let setup = Gateway::setup(&origin).upstream("idle_timeout = \"50ms\"");
    let gateway = setup.routes(&format!("{tables}{route}")).start().await;
    let host = gateway.address();
    let head = format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n/");
    let got = raw(host, head.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 408 ") && got.contains("connection: close"), "{got}");
    assert!(got.contains("larder; fwd=method; detail=request-silent"), "{got}");
    origin.saw("/a", 0);
}

#[tokio::test]
async fn content_that_no_policy_asks_for_streams() {
    let origin = Origin::start().await;
    let (_file, gateway) = start(&origin, &[], &["invalidation"], "").await;
    origin.on("/a").reply(status(204));
    let host = gateway.address();
    let mut client = Line::to(host).await;
    let head = format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n/");
    client.send(head).await;
    // The head goes forward before the content is there.
    gateway.reaches("upstream_requests", 1).await;
    client.send("b".to_owned()).await;
    client.until("204").await;
}

#[tokio::test]
async fn key_policy_sees_what_a_query_asks() {
    let origin = Origin::start().await;
    let places = [("configure", WANTS_CONTENT), ("key", CONTENT_IS_A_REASON)];
    let (_file, gateway) = start(&origin, &places, &["key"], "").await;
    origin.on("/abc").answer(|asked: &Asked| ok(asked.body.clone()).max_age(60));
    let query = |content: &'static str| {
        gateway.ask("QUERY", "/abc").field("content-type", "a/b").body(content)
    };
    for content in ["one", "two", "one"] {
        let detail = format!("fwd=bypass; detail={content}");
        query(content).send().await.body(content).status(&detail);
    }
    query("").send().await.status(MISS);
    gateway.get("/abc").await.status(MISS);
    gateway.get("/abc").await.status("hit");
}
