//! `QUERY` (RFC 10008): answered from the cache by its content.

use tokio::task::JoinSet;

use crate::support::client::{Ask, raw};
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, ok, status};
use crate::support::redis::Redis;
use crate::support::wire::{Line, Wire};
use crate::support::{secs, until};
use crate::tiers::log_end;

const MISS: &str = "fwd=uri-miss; stored";
const TOO_LARGE: &str = "fwd=bypass; detail=query-too-large";

fn query(gateway: &Gateway, content: &str) -> Ask {
    let ask = gateway.ask("QUERY", "/a").body(content.to_owned());
    ask.field("content-type", "application/sql")
}

/// Answers each QUERY of `/a` with its content.
fn echo(origin: &Origin) {
    let reply = |asked: &Asked| ok(asked.body.clone()).max_age(60);
    origin.on("/a").method("QUERY").answer(reply);
}

#[tokio::test]
async fn equal_queries_share_a_response_and_others_do_not() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    echo(&origin);
    let ask = |content: &str, fields: &[(&str, &str)]| {
        let ask = gateway.ask("QUERY", "/a").body(content.to_owned());
        fields.iter().fold(ask, |ask, (name, value)| ask.field(name, value)).send()
    };
    let sql = ("content-type", "application/sql");
    for (content, fields) in [
        ("select 1", vec![sql]),
        ("select 2", vec![sql]),
        ("select 1 ", vec![sql]),
        ("", vec![sql]),
        ("select 1", vec![("content-type", "text/plain")]),
        ("select 1", vec![("content-type", "application/sql; v=2")]),
        ("select 1", vec![sql, ("content-encoding", "br")]),
        ("select 1", vec![sql, ("content-encoding", "br, gzip")]),
        ("select 1", vec![sql, ("content-language", "de")]),
    ] {
        ask(content, &fields).await.code(200).body(content).status(MISS);
        ask(content, &fields).await.code(200).body(content).status("hit");
    }
    origin.saw("/a", 9);
}

#[tokio::test]
async fn content_counts_however_it_comes() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    echo(&origin);
    query(&gateway, "q").unannounced().send().await.body("q").status(MISS);
    let asked = origin.last("/a");
    assert_eq!((&*asked.body, asked.is_whole), (&b"q"[..], true));
    // It is at hand, so its length is known.
    assert_eq!(asked.field("content-length").as_deref(), Some("1"));
    assert_eq!(asked.field("transfer-encoding"), None);
    query(&gateway, "q").send().await.body("q").status("hit");
    query(&gateway, "q").http2().send().await.body("q").status("hit");
    query(&gateway, "q").http2().unannounced().send().await.body("q").status("hit");
    query(&gateway, "r").http2().unannounced().send().await.body("r").status(MISS);
}

#[tokio::test]
async fn get_and_query_answer_each_other_never() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    echo(&origin);
    origin.on("/a").method("GET").reply(ok("got").max_age(60));
    query(&gateway, "").send().await.body("").status(MISS);
    gateway.ask("HEAD", "/a").send().await.status("fwd=uri-miss");
    gateway.get("/a").await.body("got").status(MISS);
    query(&gateway, "").send().await.body("").status("hit");
    gateway.get("/a").await.body("got").status("hit");
    // A GET with content is no QUERY.
    gateway.ask("GET", "/a").body("q").send().await.body("got").status("fwd=bypass");
}

#[tokio::test]
async fn query_that_does_not_say_what_its_content_is_passes() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    echo(&origin);
    for times in 1..3 {
        let got = gateway.ask("QUERY", "/a").body("q").send().await;
        got.body("q").status("fwd=bypass");
        origin.saw("/a", times);
    }
}

#[tokio::test]
async fn larger_content_passes_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_query_body = \"1KiB\"").start().await;
    echo(&origin);
    let fits = "x".repeat(1024);
    query(&gateway, &fits).send().await.body(&fits).status(MISS);
    query(&gateway, &fits).unannounced().send().await.body(&fits).status("hit");
    for length in [1025, 1 << 20] {
        let large = "x".repeat(length);
        for ask in [
            query(&gateway, &large),
            query(&gateway, &large).unannounced(),
            query(&gateway, &large).http2(),
        ] {
            ask.send().await.code(200).body(&large).status(TOO_LARGE);
            let asked = origin.last("/a");
            assert!(asked.is_whole && asked.body == large);
        }
    }
    origin.saw("/a", 7);
}

#[tokio::test]
async fn stale_response_to_a_query_is_validated_with_its_content() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).etag("1"));
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).max_age(60).etag("1"));
    query(&gateway, "q").send().await.status(MISS);
    gateway.clock().advance(secs(61));
    query(&gateway, "q").send().await.body("1").status("fwd=stale; fwd-status=304; stored");
    let asked = origin.last("/a");
    assert_eq!((&*asked.method.to_string(), &*asked.body), ("QUERY", &b"q"[..]));
    assert_eq!(asked.field("content-type").as_deref(), Some("application/sql"));
    query(&gateway, "q").send().await.body("1").status("hit");
    // A conditional QUERY is about its result.
    let ask = query(&gateway, "q").field("if-none-match", "\"1\"");
    ask.send().await.code(304).body("").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn write_invalidates_the_queries_of_its_target() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    echo(&origin);
    origin.on("/a").method("PUT").reply(status(204));
    for content in ["q", "r"] {
        query(&gateway, content).send().await.status(MISS);
    }
    // A QUERY is safe, whatever its content.
    query(&gateway, "q").send().await.status("hit");
    gateway.ask("PUT", "/a").send().await.code(204);
    for content in ["q", "r"] {
        query(&gateway, content).send().await.status(MISS);
    }
    gateway.admin("DELETE", "/pattern/a").send().await.code(200);
    query(&gateway, "q").send().await.status(MISS);
}

#[tokio::test]
async fn equal_queries_at_once_go_forward_once() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("1").max_age(60));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        clients.spawn(query(&gateway, "q").send());
    }
    gateway.reaches("followers", 3).await;
    clients.spawn(query(&gateway, "r").send());
    until("the other has gone forward", || origin.count("/a") == 2).await;
    held.release();
    for got in clients.join_all().await {
        got.code(200).body("1");
    }
    assert_eq!(gateway.figure("collapsed"), 3);
    origin.saw("/a", 2);
}

#[tokio::test]
async fn usual_rules_say_what_is_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("ttl = \"1m\"").start().await;
    for (reply, expected) in [
        (ok("1"), MISS),
        (ok("1").field("cache-control", "no-store"), "fwd=uri-miss; detail=no-store"),
        (ok("1").field("cache-control", "private"), "fwd=uri-miss; detail=private"),
        (status(404), "fwd=uri-miss; detail=no-freshness"),
    ] {
        gateway.admin("POST", "/clear").send().await.code(200);
        origin.on("/a").reply(reply);
        query(&gateway, "q").send().await.status(expected);
    }
    origin.on("/b").reply(ok("1").max_age(60).field("vary", "accept"));
    let ask = |accept| {
        let ask = gateway.ask("QUERY", "/b").field("content-type", "a/b").body("q");
        ask.field("accept", accept).send()
    };
    ask("a/b").await.status(MISS);
    ask("a/b").await.status("hit");
    ask("c/d").await.status("fwd=vary-miss; stored");
}

#[tokio::test]
async fn content_is_in_the_key_beside_what_a_policy_answers() {
    let origin = Origin::start().await;
    let tables = "[policies.keys]\nplugin = \"bundled:normalise-query\"\n\
                  config = { drop = [\"utm_*\"] }\n\
                  [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                  methods = [\"GET\", \"QUERY\"]\nkey = \"keys\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    let ask = |target: &str, content: &str| {
        let ask = gateway.ask("QUERY", target).field("content-type", "a/b");
        ask.body(content.to_owned()).send()
    };
    for target in ["/a?utm_x=1", "/a"] {
        origin.on(target).answer(|asked| ok(asked.body.clone()).max_age(60));
    }
    ask("/a?utm_x=1", "q").await.body("q").status(MISS);
    ask("/a", "q").await.body("q").status("hit");
    ask("/a", "r").await.body("r").status(MISS);
    gateway.get("/a").await.body("").status(MISS);
}

#[tokio::test]
async fn route_names_query_among_its_methods() {
    let origin = Origin::start().await;
    let tables = "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                  methods = [\"GET\"]\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    query(&gateway, "q").send().await.code(405).has("allow", "GET, HEAD");
}

#[tokio::test]
async fn query_whose_content_breaks_off_is_not_sent_on() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    echo(&origin);
    let host = gateway.address();
    let head = |framing: &str| {
        format!("QUERY /a HTTP/1.1\r\nHost: {host}\r\nContent-Type: a/b\r\n{framing}\r\n\r\n")
    };
    let chunked = format!("{}1\r\nq\r\nnonsense\r\n", head("Transfer-Encoding: chunked"));
    let got = raw(gateway.address(), chunked.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 400 "), "{got}");
    let mut client = Line::to(gateway.address()).await;
    client.send(format!("{}q", head("Content-Length: 2"))).await;
    client.leave().await;
    query(&gateway, "q").send().await.body("q").status(MISS);
    origin.saw("/a", 1);
}

#[tokio::test]
async fn query_whose_content_does_not_come_is_given_up() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).upstream("idle_timeout = \"50ms\"").start().await;
    let host = gateway.address();
    let head = format!(
        "QUERY /a HTTP/1.1\r\nHost: {host}\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nq"
    );
    let got = raw(gateway.address(), head.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 408 ") && got.contains("connection: close"), "{got}");
    origin.saw("/a", 0);
}

#[tokio::test]
async fn query_is_repeated_where_its_connection_closed_without_an_answer() {
    let (origin, wire) = (Origin::start().await, Wire::start().await);
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let client = tokio::spawn(query(&gateway, "question").send());
    let mut first = wire.accept().await;
    first.until("question").await;
    drop(first);
    let mut second = wire.accept().await;
    second.until("question").await;
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await;
    client.await.unwrap().code(200).body("1");
}

#[tokio::test]
async fn queries_are_shared_with_the_fleet() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").method("QUERY").answer(|asked| ok(asked.body.clone()).max_age(600));
    query(&first, "q").send().await.body("q").status(MISS);
    until("L2 has it", || redis.ask("KEYS larder:r:*").unwrap().starts_with("*1")).await;
    query(&second, "q").send().await.body("q").status("hit");
    query(&second, "r").send().await.body("r").status(MISS);

    origin.on("/a").method("PUT").reply(status(204));
    first.ask("PUT", "/a").send().await.code(204);
    second.has_applied(log_end(&redis)).await;
    query(&second, "q").send().await.status(MISS);
}

#[tokio::test]
async fn stale_response_to_a_query_is_served_while_it_is_validated() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = |asked: &Asked| {
        ok(asked.body.clone()).field("cache-control", "max-age=60, stale-while-revalidate=60")
    };
    origin.on("/a").method("QUERY").answer(reply);
    query(&gateway, "q").send().await.status(MISS);
    gateway.clock().advance(secs(61));
    query(&gateway, "q").send().await.body("q").status("hit; detail=stale-while-revalidate");
    until("it is fetched again", || gateway.figure("stored") == 2).await;
    assert_eq!((origin.last("/a").method.as_str(), &*origin.last("/a").body), ("QUERY", &b"q"[..]));
    query(&gateway, "q").send().await.body("q").status("hit");
}

#[tokio::test]
async fn no_response_to_an_equivalent_query_component_answers_other_content() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for target in ["/a?x=1", "/a?x=2"] {
        let reply = |asked: &Asked| {
            ok(asked.body.clone()).max_age(60).field("no-vary-search", "params=(\"x\")")
        };
        origin.on(target).answer(reply);
    }
    let ask = |target: &str, content: &str| {
        let ask = gateway.ask("QUERY", target).field("content-type", "a/b");
        ask.body(content.to_owned()).send()
    };
    gateway.get("/a?x=1").await.body("").status(MISS);
    gateway.get("/a?x=2").await.body("").status("hit");
    for (target, content) in [("/a?x=1", "q"), ("/a?x=1", "r"), ("/a?x=2", "q")] {
        ask(target, content).await.body(content).status(MISS);
        ask(target, content).await.body(content).status("hit");
    }
    gateway.get("/a?x=2").await.body("").status("hit");
}
