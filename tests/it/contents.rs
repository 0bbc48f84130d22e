//! Contents that policies ask to see: of requests whole, of responses the values they name.

use std::io::Write as _;

use tempfile::NamedTempFile;

use crate::support::client::{Ask, raw};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Asked, Origin, Reply, ok, pieces, status};
use crate::support::plugin::fixture;
use crate::support::raw::{RawOrigin, Step};
use crate::support::secs;
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
    setup: Setup,
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
    let gateway = setup.routes(&tables).start().await;
    (file, gateway)
}

/// A gateway whose invalidation policy names what is written as the path that became stale.
async fn shows_writes(origin: &Origin, lines: &str) -> (NamedTempFile, Gateway) {
    let places = [("configure", WANTS_CONTENT), ("invalidation", CONTENT_IS_A_PATH)];
    let started = start(Gateway::setup(origin), &places, &["invalidation"], lines).await;
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
    let setup = Gateway::setup(&origin).upstream("idle_timeout = \"50ms\"");
    let places = [("configure", WANTS_CONTENT)];
    let (_file, gateway) = start(setup, &places, &["invalidation"], "").await;
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
    let (_file, gateway) = start(Gateway::setup(&origin), &[], &["invalidation"], "").await;
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
    let (_file, gateway) = start(Gateway::setup(&origin), &places, &["key"], "").await;
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

// Values of responses.

/// Wants `$.id` of responses.
const WANTS_VALUES: &str = "(i32.store (i32.const 1064) (i32.const 1216))
    (i32.store (i32.const 1068) (i32.const 1))";
const QUERY: &str = "(data (i32.const 1200) \"$.id\")
    (data (i32.const 1216) \"\\b0\\04\\00\\00\\04\\00\\00\\00\")";

/// Tags the response with the first value, if there is one, and else with `path`; stores nothing
/// where values cannot be said.
const VALUE_IS_A_TAG: &str = "(if (i32.eqz (i32.load8_u offset=104 (local.get $request))) (then
        (i32.store8 (i32.const 204) (i32.const 0))
        (return (i32.const 200))))
    (local.set $request (i32.load (i32.load offset=108 (local.get $request))))
    (i32.store (i32.const 240) (i32.load (local.get $request)))
    (i32.store (i32.const 244) (i32.load offset=4 (local.get $request)))";

/// Names the first value as a tag that became stale, and as a pattern everything where values cannot
/// be said.
const VALUE_IS_INVALID: &str = "(if (i32.eqz (i32.load8_u offset=108 (local.get $cause))) (then
        (i32.store8 (i32.const 280) (i32.const 2))
        (i32.store (i32.const 284) (i32.const 1232))
        (i32.store (i32.const 288) (i32.const 1))
        (return (i32.const 260))))
    (i32.store8 (i32.const 280) (i32.const 0))
    (local.set $cause (i32.load (i32.load offset=112 (local.get $cause))))
    (i32.store (i32.const 284) (i32.load (local.get $cause)))
    (i32.store (i32.const 288) (i32.load offset=4 (local.get $cause)))
    (return (i32.const 260))";

/// A gateway whose policies tag responses by their `id`, and invalidate what has that of the response
/// to a write.
async fn tags_by_id(setup: Setup, lines: &str) -> (NamedTempFile, Gateway) {
    let more = format!("{QUERY} (data (i32.const 1232) \"*\")");
    let places = [
        ("configure", WANTS_VALUES),
        ("more", &*more),
        ("storing", VALUE_IS_A_TAG),
        ("invalidation", VALUE_IS_INVALID),
    ];
    start(setup, &places, &["storing", "invalidation"], lines).await
}

fn json(content: impl Into<bytes::Bytes>) -> Reply {
    ok(content).field("content-type", "application/json")
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn response_is_tagged_and_invalidated_by_what_it_holds() {
    let origin = Origin::start().await;
    let (_file, gateway) = tags_by_id(Gateway::setup(&origin), "").await;
    for (target, content) in
        [("/a", r#"{"id": 1}"#), ("/b", r#"{"id":"1"}"#), ("/c", r#"{"id":1.0}"#)]
    {
        origin.on(target).reply(json(content).max_age(50));
        gateway.get(target).await.body(content).status(MISS);
    }
    let packed = gzip(br#"{"id":1}"#);
    origin.on("/gz").reply(json(packed.clone()).field("content-encoding", "gzip").max_age(50));
    gateway.get("/gz").await.status(MISS);
    for (written, stale) in [
        (r#"{"id":2}"#, &[][..]),
        (r#"{"id":"1"}"#, &["/b"]),
        (r#"{"id":1.0}"#, &["/c"]),
        (r#"{"x":[0], "id" : 1}"#, &["/a", "/gz"]),
        ("{", &["/a", "/b", "/c", "/gz"]),
    ] {
        origin.on("/w").method("POST").reply(json(written));
        gateway.ask("POST", "/w").send().await.code(200).body(written).status("fwd=method");
        for target in ["/a", "/b", "/c", "/gz"] {
            let expected = if stale.contains(&target) { "fwd=stale; stored" } else { "hit" };
            let got = gateway.get(target).await;
            got.status(expected);
        }
    }
}

#[tokio::test]
async fn values_are_of_the_whole_content_or_none() {
    let origin = Origin::start().await;
    let (_file, gateway) = tags_by_id(Gateway::setup(&origin), "max_policy_body = \"16B\"").await;
    let refused = "fwd=uri-miss; detail=policy";
    for (target, reply, expected) in [
        ("/fits", json(r#"{"id":123456789}"#), MISS),
        ("/longer", json(r#"{"id":1234567890}"#), refused),
        ("/damaged", json("{"), refused),
        ("/untyped", ok(r#"{"id":1}"#), refused),
        ("/coded", json(gzip(br#"{"id":1}"#)).field("content-encoding", "gzip"), refused),
    ] {
        origin.on(target).reply(reply.max_age(50));
        let first = gateway.get(target).await.code(200).status(expected);
        let again = gateway.get(target).await.code(200);
        assert_eq!(first.body, again.body);
    }
}

#[tokio::test]
async fn response_that_is_too_long_to_be_shown_streams() {
    let origin = Origin::start().await;
    let (_file, gateway) = tags_by_id(Gateway::setup(&origin), "max_policy_body = \"16B\"").await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.field("content-type", "application/json").max_age(50));
    content.send(r#"{"id":"1234567890","#);
    let mut client = gateway.ask("GET", "/a").open().await;
    client.head().code(200).status("fwd=uri-miss; detail=policy");
    assert_eq!(client.piece().await.unwrap().unwrap(), r#"{"id":"1234567890","#);
    content.send(r#""a":1}"#);
    content.end();
    client.finish().await.unwrap().body(r#""a":1}"#);
}

#[tokio::test]
async fn response_to_be_shown_comes_whole_with_its_trailers() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n";
    let steps = [
        Step::Head,
        Step::Send(head),
        Step::Send("6\r\n{\"id\":\r\n2\r\n1}\r\n"),
        Step::Send("0\r\nx-t: 1\r\n\r\n"),
        Step::Stay,
    ];
    let upstream = RawOrigin::start(&steps).await;
    let (_file, gateway) = tags_by_id(Gateway::setup_before(&[upstream.url()]), "").await;
    let request = format!(
        "POST /w HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nConnection: close, TE\r\n\
         Content-Length: 0\r\n\r\n",
        gateway.address()
    );
    let got = raw(gateway.address(), request.as_bytes()).await;
    assert!(got.contains("{\"id\":") && got.contains("1}") && got.contains("x-t: 1"), "{got}");
}

#[tokio::test]
async fn response_that_breaks_off_before_it_is_shown_looks_whole_to_nobody() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                Cache-Control: max-age=60\r\nContent-Length: 8\r\n\r\n{\"id\":";
    let upstream = RawOrigin::start(&[Step::Head, Step::Send(head), Step::Reset]).await;
    let (_file, gateway) = tags_by_id(Gateway::setup_before(&[upstream.url()]), "").await;
    for method in ["GET", "POST"] {
        gateway.ask(method, "/a").attempt().await.unwrap_err();
    }
    assert_eq!(gateway.figure("stored"), 0);
}

#[tokio::test]
async fn validated_response_is_judged_by_what_is_stored() {
    let origin = Origin::start().await;
    let (_file, gateway) = tags_by_id(Gateway::setup(&origin), "").await;
    let content = r#"{"id":1}"#;
    origin.on("/a").reply(json(content).etag("1").max_age(50));
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(51));
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(50));
    let validated = "fwd=stale; fwd-status=304; stored";
    gateway.get("/a").await.body(content).status(validated);
    gateway.get("/a").await.body(content).status("hit");
    // And it has its tag still.
    origin.on("/w").method("POST").reply(json(content));
    gateway.ask("POST", "/w").send().await.code(200);
    gateway.get("/a").await.body(content).status(validated);
}
