//! Responses in a coding that the client prefers: made once, streamed, true in all their fields, and never
//! of what was there before.

use std::io::Read;

use crate::support::client::{Got, Open, answers, sent};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, Reply, flood, is_of_flood, ok, pieces, status};
use crate::support::pki;
use crate::support::{secs, until};

const ALL: [&str; 3] = ["zstd", "br", "gzip"];

/// What a compressing route's client prefers, and what it gets.
const COMPRESS: &str = "compress = [\"zstd\", \"br\", \"gzip\"]";

fn compressing(origin: &Origin) -> Setup {
    Gateway::setup(origin).route(COMPRESS)
}

/// JSON of about so many octets.
fn json(octets: usize) -> String {
    let members = (0..octets / 20).map(|n| format!("\"member {n:05}\": {n:3}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

fn json_reply(octets: usize) -> Reply {
    ok(json(octets)).field("content-type", "application/json").etag("1").max_age(60)
}

/// As much as can be decoded of what may have more to come.
fn decoded(coding: &str, octets: &[u8]) -> Vec<u8> {
    let mut decoder: Box<dyn Read> = match coding {
        "zstd" => Box::new(zstd::stream::read::Decoder::new(octets).unwrap()),
        "br" => Box::new(brotli::Decompressor::new(octets, 4096)),
        "gzip" => Box::new(flate2::read::GzDecoder::new(octets)),
        _ => Box::new(octets),
    };
    let (mut content, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(count @ 1..) = decoder.read(&mut piece) {
        content.extend_from_slice(&piece[..count]);
    }
    content
}

/// What is in a response, which is in this coding.
#[track_caller]
fn is_coded(got: &Got, coding: &str, content: &str) {
    assert_eq!(got.field("content-encoding").as_deref(), Some(coding), "{:?}", got.headers);
    let vary = got.field("vary").unwrap_or_default();
    assert!(vary.contains("accept-encoding"), "{:?}", got.headers);
    let decoded = decoded(coding, &got.body);
    assert!(decoded == content.as_bytes(), "{} octets, {:?}", decoded.len(), got.headers);
    assert!(got.body.len() < content.len(), "{:?}", got.headers);
}

async fn get(gateway: &Gateway, target: &str, accepted: &str) -> Got {
    gateway.ask("GET", target).field("accept-encoding", accepted).send().await
}

/// Reads until so much can be decoded.
async fn reads(open: &mut Open, coding: &str, expected: &str) {
    let mut octets = Vec::new();
    while decoded(coding, &octets) != expected.as_bytes() {
        octets.extend_from_slice(&open.piece().await.expect("it ended").expect("it broke off"));
    }
}

#[tokio::test]
async fn a_response_is_compressed_once_for_each_coding_and_kept() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    for (target, octets) in [("/short", 3000), ("/long", 300_000)] {
        let before = gateway.figure("compressed");
        origin.on(target).reply(json_reply(octets));
        let content = json(octets);
        for (made, coding) in (1..).zip(ALL) {
            let first = get(&gateway, target, coding).await;
            is_coded(&first, coding, &content);
            let expected = if made == 1 { "fwd=uri-miss; stored" } else { "hit" };
            let first = first.status(expected).has("etag", "W/\"1\"").lacks("accept-ranges");
            // Once it is kept, its length is known.
            let again = get(&gateway, target, coding).await.status("hit").has("etag", "W/\"1\"");
            is_coded(&again, coding, &content);
            assert_eq!(again.body, first.body, "{coding}");
            again.has("content-length", &first.body.len().to_string());
            assert_eq!(gateway.figure("compressed"), before + made, "{target} {coding}");
        }
        let plain = gateway.get(target).await.status("hit").has("etag", "\"1\"").body(&content);
        plain.has("vary", "accept-encoding").lacks("content-encoding");
        origin.saw(target, 1);
        assert_eq!(origin.last(target).field("accept-encoding").as_deref(), Some("identity"));
    }
    assert_eq!(gateway.figure("stored"), 2);
}

#[tokio::test]
async fn curl_decodes_each() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    origin.on("/a").reply(json_reply(100_000));
    let url = format!("http://{}/a", gateway.address());
    for coding in ALL {
        let field = format!("Accept-Encoding: {coding}");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let arguments = ["--silent", "--compressed", version, "--header", &field, &url];
            let said = pki::run("curl", &arguments).await;
            assert!(said == json(100_000), "{coding} {version}: {}", said.len());
            let coded = [&arguments[..], &["--raw", "--head"]].concat();
            let said = pki::run("curl", &coded).await.to_ascii_lowercase();
            assert!(said.contains(&format!("content-encoding: {coding}")), "{said}");
        }
    }
    origin.saw("/a", 1);
    assert_eq!(gateway.figure("compressed"), 3);
}

#[tokio::test]
async fn many_who_want_a_stored_response_in_a_coding_read_the_one_that_is_made() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    let content = json(4 << 20);
    origin.on("/a").reply(json_reply(4 << 20));
    gateway.get("/a").await.status("fwd=uri-miss; stored");

    let asks = (0..8).map(|n| gateway.ask("GET", "/a").field("accept-encoding", ALL[n % 2]));
    for (n, got) in answers(sent(asks)).await.into_iter().enumerate() {
        is_coded(&got.clone().status("hit"), ALL[n % 2], &content);
    }
    assert_eq!(gateway.figure("compressed"), 2);
    origin.saw("/a", 1);
}

#[tokio::test]
async fn each_reader_of_a_fetch_decodes_what_has_come_so_far() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.field("content-type", "text/html").etag("1").max_age(60));

    let mut readers = Vec::new();
    for coding in ["br", "gzip", "br", "zstd", "identity", "gzip"] {
        let open = gateway.ask("GET", "/a").field("accept-encoding", coding).open().await;
        let is_first = readers.is_empty();
        let expected = if is_first { "fwd=uri-miss; stored" } else { "fwd=uri-miss; collapsed" };
        open.head().status(expected).has("vary", "accept-encoding");
        readers.push((coding, open));
    }
    let (first, second) = ("one ".repeat(500), "two ".repeat(500));
    content.send(first.clone());
    for (coding, reader) in &mut readers {
        let said = reader.head().field("content-encoding");
        assert_eq!(said.as_deref().unwrap_or("identity"), *coding);
        reads(reader, coding, &first).await;
    }
    assert_eq!(gateway.figure("stored"), 0, "the second half is still held");
    content.send(second.clone());
    content.end();
    for (_, reader) in readers {
        reader.finish().await.unwrap();
    }
    let whole = first + &second;
    for coding in ALL {
        is_coded(&get(&gateway, "/a", coding).await.status("hit"), coding, &whole);
    }
    assert_eq!(gateway.figure("compressed"), 3, "what was streamed is kept");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn encoders_have_so_much_memory_and_what_comes_on_top_is_sent_as_it_is() {
    /// 512 MiB, of 4.6 MiB each.
    const MOST: usize = (512 << 10) / ((128 << 10) / 1024 + 18 * 256);

    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    let ask = async |target: &str, coding: &str| {
        let (reply, content) = pieces();
        origin.on(target).reply(reply.field("content-type", "text/html"));
        let ask = gateway.ask("POST", target).field("accept-encoding", coding);
        (ask.open().await, content)
    };
    let mut coming = Vec::new();
    for number in 0..MOST {
        let (open, content) = ask(&format!("/{number}"), "br").await;
        open.head().has("content-encoding", "br");
        coming.push((open, content));
    }
    let (open, _content) = ask("/more", "br").await;
    open.head().has("vary", "accept-encoding").lacks("content-encoding");
    assert_eq!(gateway.figure("compressed"), MOST as u64);
    // One that takes little finds room yet.
    let (open, _content) = ask("/less", "gzip").await;
    open.head().has("content-encoding", "gzip");

    let (mut open, content) = coming.pop().unwrap();
    content.send("one ");
    reads(&mut open, "br", "one ").await;
    content.end();
    open.finish().await.unwrap();
    let (open, _content) = ask("/again", "br").await;
    open.head().has("content-encoding", "br");
}

#[tokio::test]
async fn what_is_for_one_client_is_compressed_too_as_it_comes() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    for (coding, (target, method, control, expected)) in ALL.into_iter().cycle().zip([
        ("/private", "GET", "private", "fwd=uri-miss; detail=private"),
        ("/no-store", "GET", "no-store", "fwd=uri-miss; detail=no-store"),
        ("/post", "POST", "max-age=60", "fwd=method"),
        ("/again", "POST", "no-store", "fwd=method"),
    ]) {
        let (reply, content) = pieces();
        let reply = reply.field("content-type", "text/plain").field("cache-control", control);
        origin.on(target).reply(reply.etag("1").field("vary", "Origin"));
        let ask = gateway.ask(method, target).field("accept-encoding", coding);
        let mut client = ask.open().await;
        let head = client.head().code(200).status(expected).has("content-encoding", coding);
        head.has("etag", "W/\"1\"").has("vary", "Origin, accept-encoding").lacks("content-length");
        content.send("one ");
        reads(&mut client, coding, "one ").await;
        content.send("two");
        content.end();
        client.finish().await.unwrap();
        origin.saw(target, 1);
    }
    assert_eq!((gateway.figure("stored"), gateway.figure("compressed")), (0, 4));
    // Of a known length, and all at once.
    origin.on("/error").reply(json_reply(5000).code(500));
    let got = get(&gateway, "/error", "br").await.code(500);
    is_coded(&got, "br", &json(5000));
}

#[tokio::test]
async fn what_is_coded_small_or_not_to_be_transformed_stays_as_it_is() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    let text = json(5000);
    let html = || ok(text.clone()).field("content-type", "text/html").etag("1");
    for (target, reply) in [
        ("/small", ok(json(900)).field("content-type", "text/html").etag("1")),
        ("/image", ok(text.clone()).field("content-type", "image/png").etag("1")),
        ("/untyped", ok(text.clone()).etag("1")),
        ("/coded", html().field("content-encoding", "x-own").field("vary", "Accept-Encoding")),
        ("/no-transform", html().field("cache-control", "no-transform")),
        ("/events", ok(text.clone()).field("content-type", "text/event-stream").etag("1")),
        ("/part", html().code(206).field("content-range", "bytes 0-4/9")),
        ("/nothing", status(204).field("content-type", "text/html").etag("1")),
    ] {
        for control in ["max-age=60", "private"] {
            let target = format!("{target}?{control}");
            origin.on(&target).reply(reply.clone().field("cache-control", control));
            for _ in 0..2 {
                let got = get(&gateway, &target, "zstd, br, gzip").await.has("etag", "\"1\"");
                let own = if target.starts_with("/coded") { Some("x-own") } else { None };
                assert_eq!(got.field("content-encoding").as_deref(), own, "{target}");
                let own = own.map(|_| "Accept-Encoding");
                assert_eq!(got.field("vary").as_deref(), own, "{target}");
            }
        }
    }
    // The client may say so, too.
    origin.on("/a").reply(json_reply(5000));
    for expected in ["fwd=uri-miss; stored", "hit"] {
        let ask = gateway.ask("GET", "/a").field("accept-encoding", "br");
        let got = ask.field("cache-control", "no-transform").send().await.status(expected);
        got.body(&json(5000)).has("etag", "\"1\"").has("vary", "accept-encoding");
    }
    assert_eq!(gateway.figure("compressed"), 0);
}

#[tokio::test]
async fn the_client_chooses() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin)
        .route(
            "compress = { codings = [\"gzip\", \"br\"], types = [\"x/*\"], min_length = \"10B\" }",
        )
        .start()
        .await;
    origin.on("/a").reply(ok("a".repeat(200)).field("content-type", "X/Y; a=b").max_age(60));
    for (accepted, expected) in [
        ("br, gzip", Some("gzip")),
        ("br, gzip;q=0.9", Some("br")),
        ("zstd, *;q=0.1", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("zstd", None),
        ("identity, gzip;q=0.5", None),
        ("*;q=0", None),
        ("", None),
    ] {
        let got = get(&gateway, "/a", accepted).await.has("vary", "accept-encoding");
        assert_eq!(got.field("content-encoding").as_deref(), expected, "{accepted}");
        let coding = expected.unwrap_or_default();
        assert_eq!(decoded(coding, &got.body), "a".repeat(200).as_bytes(), "{accepted}");
    }
    origin.saw("/a", 1);
    assert_eq!(gateway.figure("compressed"), 2);
}

#[tokio::test]
async fn nothing_of_an_older_response_is_left() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    let mut version = 0;
    let mut next = || {
        version += 1;
        let content = format!("version {version}: {}", json(30_000));
        let reply = ok(content.clone()).field("content-type", "text/html").max_age(60);
        origin.on("/a").method("GET").reply(reply);
        content
    };
    let mut content = next();
    origin.on("/a").method("PUT").reply(status(204));
    for way in ["nothing", "purge", "write", "lifetime", "no-cache", "another"] {
        match way {
            "purge" => {
                let body = r#"{ "all": true }"#;
                let ask = gateway.admin("POST", "/purge").field("content-type", "application/json");
                content = next();
                ask.body(body).send().await.code(200);
            }
            "write" => {
                content = next();
                gateway.ask("PUT", "/a").send().await.code(204);
            }
            "lifetime" => {
                content = next();
                gateway.clock().advance(secs(61));
            }
            "no-cache" => {
                content = next();
                let ask = gateway.ask("GET", "/a").field("cache-control", "no-cache");
                ask.send().await.body(&content);
            }
            _ => {}
        }
        // Twice: as it comes, and as it is kept.
        for _ in 0..2 {
            for coding in ALL {
                is_coded(&get(&gateway, "/a", coding).await, coding, &content);
            }
        }
    }
    assert_eq!(gateway.figure("compressed"), 5 * 3);
}

#[tokio::test]
async fn coded_forms_count_in_l1() {
    let origin = Origin::start().await;
    let cache = "[cache.l1]\ncapacity = \"512KiB\"";
    let gateway = compressing(&origin).cache(cache).start().await;
    origin.on("/a").reply(json_reply(200_000));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    let weighs = |octets: u64| move |store: larder::store::Stats| store.l1_octets >= octets;
    let mut expected = 200_000;
    until("the content counts", || weighs(expected)(gateway.store())).await;
    for coding in ALL {
        expected += get(&gateway, "/a", coding).await.body.len() as u64;
        until("its form counts", || weighs(expected)(gateway.store())).await;
    }
    // More than there is room for.
    for n in 0..20 {
        let target = format!("/{n}");
        origin.on(&target).reply(json_reply(200_000));
        get(&gateway, &target, "gzip").await;
    }
    until("there is a bound", || gateway.store().l1_octets <= 512 << 10).await;
    let got = get(&gateway, "/19", "gzip").await;
    is_coded(&got, "gzip", &json(200_000));
}

#[tokio::test]
async fn conditions_hold_for_what_the_client_has() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    origin.on("/a").reply(json_reply(5000));
    get(&gateway, "/a", "br").await.status("fwd=uri-miss; stored");
    for (accepted, condition, tag) in [
        ("br", "W/\"1\"", "W/\"1\""),
        ("zstd, br", "\"0\", W/\"1\"", "W/\"1\""),
        ("identity", "\"1\"", "\"1\""),
    ] {
        let ask = gateway.ask("GET", "/a").field("accept-encoding", accepted);
        let got = ask.field("if-none-match", condition).send().await.code(304).body("");
        let got = got.status("hit").has("etag", tag).has("vary", "accept-encoding");
        got.lacks("content-encoding");
    }
    let ask = gateway.ask("GET", "/a").field("accept-encoding", "br");
    let got = ask.field("if-none-match", "W/\"0\"").send().await.code(200);
    is_coded(&got, "br", &json(5000));
    origin.saw("/a", 1);

    // An origin's own 304, about what the client holds.
    let private = || json_reply(5000).field("cache-control", "private");
    origin.on("/b").reply(private());
    get(&gateway, "/b", "br").await.has("etag", "W/\"1\"");
    origin.on("/b").with("if-none-match", "W/\"1\"").reply(status(304).etag("1"));
    origin.on("/b").with("if-none-match", "\"1\"").reply(status(304).etag("1"));
    for tag in ["W/\"1\"", "\"1\""] {
        let ask = gateway.ask("GET", "/b").field("accept-encoding", "br");
        ask.field("if-none-match", tag).send().await.code(304).has("etag", tag).lacks("vary");
    }
    // Its `Vary` takes the place of that of the 200.
    let not_modified = status(304).etag("1").field("vary", "Origin");
    origin.on("/b").with("if-none-match", "\"1\"").reply(not_modified);
    let ask = gateway.ask("GET", "/b").field("accept-encoding", "br");
    let got = ask.field("if-none-match", "\"1\"").send().await.code(304);
    got.has("vary", "Origin, accept-encoding");
}

#[tokio::test]
async fn a_response_that_is_validated_keeps_its_forms() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    origin.on("/a").reply(json_reply(50_000));
    for coding in ALL {
        is_coded(&get(&gateway, "/a", coding).await, coding, &json(50_000));
    }
    gateway.clock().advance(secs(61));
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(60));
    let mut expected = "fwd=stale; fwd-status=304; stored";
    for coding in ALL {
        is_coded(&get(&gateway, "/a", coding).await.status(expected), coding, &json(50_000));
        expected = "hit";
    }
    assert_eq!(gateway.figure("compressed"), 3);

    // A 304 may say that it is to stay as it is from now on.
    gateway.clock().advance(secs(61));
    let not_modified = status(304).etag("1").field("cache-control", "no-transform, max-age=60");
    origin.on("/a").with("if-none-match", "\"1\"").reply(not_modified);
    for _ in 0..2 {
        get(&gateway, "/a", "br").await.body(&json(50_000)).has("etag", "\"1\"");
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn head_has_the_fields_of_get() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    for (target, octets, control) in
        [("/short", 5000, "max-age=60"), ("/long", 50_000, "max-age=60"), ("/own", 5000, "private")]
    {
        let reply = json_reply(octets).field("cache-control", control);
        origin.on(target).reply(reply.field("accept-ranges", "bytes"));
        for http2 in [false, true] {
            for coding in ["br", "identity"] {
                get(&gateway, target, coding).await;
                let got = get(&gateway, target, coding).await;
                let ask = gateway.ask("HEAD", target).field("accept-encoding", coding);
                let head = if http2 { ask.http2() } else { ask }.send().await.body("");
                for name in ["content-encoding", "etag", "vary", "content-length", "accept-ranges"]
                {
                    assert_eq!(head.field(name), got.field(name), "{target} {coding}: {name}");
                }
            }
        }
    }
    // Not made yet: nothing is made for it, and its length is not said.
    origin.on("/new").reply(json_reply(50_000));
    gateway.get("/new").await;
    let before = gateway.figure("compressed");
    let head = gateway.ask("HEAD", "/new").field("accept-encoding", "br").send().await;
    head.status("hit").has("content-encoding", "br").lacks("content-length");
    assert_eq!(gateway.figure("compressed"), before);
}

#[tokio::test]
async fn parts_are_of_the_content_as_it_is_and_never_of_two_forms() {
    const LAST_MODIFIED: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    let content = json(5000);
    for (target, tag) in [("/tag", true), ("/date", false)] {
        let reply = ok(content.clone()).field("content-type", "text/html").max_age(60);
        let reply = reply.field("last-modified", LAST_MODIFIED);
        origin.on(target).reply(if tag { reply.etag("1") } else { reply });
        get(&gateway, target, "gzip").await.has("content-encoding", "gzip");
    }
    for (target, condition, is_part) in [
        ("/tag", None, true),
        ("/tag", Some("\"1\""), true),
        ("/tag", Some("W/\"1\""), false),
        ("/tag", Some(LAST_MODIFIED), false),
        ("/date", None, true),
        ("/date", Some(LAST_MODIFIED), false),
    ] {
        let mut ask = gateway.ask("GET", target).field("accept-encoding", "gzip");
        ask = ask.field("range", "bytes=10-19");
        if let Some(condition) = condition {
            ask = ask.field("if-range", condition);
        }
        let got = ask.send().await.status("hit").has("vary", "accept-encoding");
        if is_part {
            let got = got.code(206).lacks("content-encoding").body(&content[10..20]);
            got.has("content-range", &format!("bytes 10-19/{}", content.len()));
        } else {
            let got = got.code(200);
            let coding = got.field("content-encoding").unwrap_or_default();
            assert_eq!(decoded(&coding, &got.body), content.as_bytes(), "{target} {condition:?}");
        }
    }
    // Nor does the origin get to judge by what all forms have in common.
    for (control, condition) in [
        ("max-age=60", LAST_MODIFIED),
        ("private", LAST_MODIFIED),
        ("max-age=61", "W/\"1\""),
        ("private,max-age=61", "W/\"1\""),
    ] {
        let target = format!("/new?{control}");
        let reply = ok(content.clone()).field("content-type", "text/html");
        origin.on(&target).reply(reply.field("cache-control", control));
        let ask = gateway.ask("GET", &target).field("accept-encoding", "gzip");
        let ask = ask.field("range", "bytes=10-19").field("if-range", condition);
        is_coded(&ask.send().await.code(200), "gzip", &content);
        let asked = origin.last(&target);
        assert_eq!((asked.field("range"), asked.field("if-range")), (None, None));
    }
}

#[tokio::test]
async fn a_form_of_what_broke_off_breaks_off_and_is_not_kept() {
    let origin = Origin::start().await;
    let gateway = compressing(&origin).start().await;
    for (target, control) in [("/a", "max-age=60"), ("/b", "private")] {
        for coding in ALL {
            let (reply, content) = pieces();
            let reply = reply.field("content-type", "text/html").field("cache-control", control);
            origin.on(target).reply(reply);
            let ask = gateway.ask("GET", target).field("accept-encoding", coding);
            let mut client = ask.open().await;
            content.send("one ");
            reads(&mut client, coding, "one ").await;
            drop(content);
            client.finish().await.unwrap_err();
        }
        let reply = ok(json(5000)).field("content-type", "text/html");
        origin.on(target).reply(reply.field("cache-control", control));
        for coding in ALL {
            is_coded(&get(&gateway, target, coding).await, coding, &json(5000));
        }
    }
}

#[tokio::test]
async fn what_is_too_large_to_be_stored_streams_through() {
    const OCTETS: usize = 4 << 20;
    let origin = Origin::start().await;
    let gateway = compressing(&origin).route("max_body = \"64KiB\"").start().await;
    for (target, says_length, expected) in [
        ("/known", true, "fwd=uri-miss; detail=too-large"),
        ("/unknown", false, "fwd=uri-miss; stored"),
    ] {
        for coding in ALL {
            let (reply, _) = flood(OCTETS, says_length);
            origin.on(target).reply(reply.field("content-type", "text/html").max_age(60));
            let got = get(&gateway, target, coding).await.status(expected);
            let content = decoded(coding, &got.has("content-encoding", coding).body);
            assert!(content.len() == OCTETS && is_of_flood(&content, 0), "{target} {coding}");
        }
    }
    assert_eq!(gateway.figure("stored"), 0);
}

#[tokio::test]
async fn one_stored_response_serves_all_codings_whatever_decides_about_keys() {
    let origin = Origin::start().await;
    for lines in ["forward = \"keyed\"", "collapse = false", "variants = 1"] {
        let gateway = compressing(&origin).route(lines).start().await;
        let reply = json_reply(5000).field("vary", "Accept-Encoding, X-Own");
        origin.on("/a").reply(reply.clone());
        let before = origin.count("/a");
        for accepted in ["br", "gzip", "zstd;q=0.5", "identity", "br, gzip"] {
            let got = get(&gateway, "/a", accepted).await.has("vary", "Accept-Encoding, X-Own");
            got.code(200);
        }
        assert_eq!(origin.count("/a"), before + 1, "{lines}");
    }
}

#[tokio::test]
async fn without_l1_each_is_made_as_it_is_asked_for() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let setup = compressing(&origin).cache("[cache.l1]\ncapacity = \"0\"");
    let gateway = setup.disk(folder.path(), "").start().await;
    for (target, octets) in [("/short", 5000), ("/long", 50_000)] {
        origin.on(target).reply(json_reply(octets));
        get(&gateway, target, "br").await.status("fwd=uri-miss; stored");
        gateway.settled().await;
        for coding in ALL {
            is_coded(&get(&gateway, target, coding).await.status("hit"), coding, &json(octets));
        }
        origin.saw(target, 1);
    }
}

#[tokio::test]
async fn a_reload_counts_at_once_and_keeps_what_is_stored() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let with =
        |lines: &str| Gateway::setup(&origin).server("workers = 1\nwatch = false").route(lines);
    origin.on("/a").reply(json_reply(5000));
    let gateway = with("compress = [\"gzip\"]").start_from(&file).await;
    let first = get(&gateway, "/a", "br, gzip").await.status("fwd=uri-miss; stored");
    is_coded(&first, "gzip", &json(5000));
    for (lines, expected, coding) in [
        ("compress = [\"br\", \"gzip\"]", "hit", Some("br")),
        ("compress = { types = [\"text/*\"] }", "hit", None),
        ("compress = { min_length = \"5MiB\" }", "hit", None),
        ("compress = [\"gzip\"]", "hit", Some("gzip")),
        ("", "fwd=uri-miss; stored", None),
    ] {
        std::fs::write(&file, with(lines).text()).unwrap();
        gateway.admin("POST", "/reload").send().await.code(200);
        let got = get(&gateway, "/a", "br, gzip").await.status(expected);
        assert_eq!(got.field("content-encoding").as_deref(), coding, "{lines}");
        assert_eq!(got.field("vary").is_some(), coding.is_some(), "{lines}");
    }
    assert_eq!(gateway.figure("compressed"), 2, "the form in gzip was still there");
}

#[tokio::test]
async fn a_route_without_it_is_left_alone() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(json_reply(5000));
    for _ in 0..2 {
        let got = get(&gateway, "/a", "br").await.body(&json(5000));
        got.lacks("vary").has("etag", "\"1\"");
    }
    assert_eq!(origin.last("/a").field("accept-encoding").as_deref(), Some("br"));
    assert_eq!(gateway.figure("compressed"), 0);
}
