//! Responses to `POST` that answer later `GET`s (RFC 9110 §9.3.3).

use tokio::task::JoinSet;

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, pieces, status};
use crate::support::redis::Redis;
use crate::support::tiers::Tiers;
use crate::support::until;
use crate::tiers::log_end;

const MISS: &str = "fwd=uri-miss; stored";
const KEPT: &str = "fwd=method; stored";

/// What a GET of `/a` would get.
fn representation(text: &str) -> Reply {
    ok(text.to_owned()).max_age(600).field("content-location", "/a")
}

fn post(gateway: &Gateway) -> Ask {
    gateway.ask("POST", "/a").field("content-type", "text/plain").body("question")
}

/// Sends a POST and waits until the origin has it.
async fn posting(origin: &Origin, gateway: &Gateway) -> JoinSet<Got> {
    let mut posts = JoinSet::new();
    posts.spawn(post(gateway).send());
    until("the origin is asked", || origin.count("/a") == 1).await;
    posts
}

#[tokio::test]
async fn post_that_brings_its_targets_representation_answers_later_gets() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for text in ["one", "other"] {
        origin.on("/a").method("POST").reply(representation(text));
        post(&gateway).send().await.code(200).body(text).status(KEPT);
        assert_eq!(origin.last("/a").body, "question");
        let got = gateway.get("/a").await.code(200).body(text).status("hit");
        got.has("content-location", "/a").has("age", "0");
        let head = gateway.ask("HEAD", "/a").send().await.code(200).body("").status("hit");
        head.has("content-length", &text.len().to_string());
    }
    // Each POST goes forward.
    origin.saw("/a", 2);
}

#[tokio::test]
async fn post_replaces_what_a_get_had_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").method("GET").reply(ok("old").max_age(600));
    gateway.get("/a").await.status(MISS);
    origin.on("/a").method("POST").reply(representation("new"));
    post(&gateway).send().await.body("new").status(KEPT);
    gateway.get("/a").await.body("new").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn other_responses_to_writes_are_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("ttl = \"5m\"").start().await;
    origin.on("/a").method("GET").reply(ok("got").max_age(600));
    let same = |reply: Reply| reply.field("content-location", "/a");
    for (method, reply, detail) in [
        ("POST", ok("1").max_age(60), ""),
        ("POST", same(ok("1")), ""),
        ("POST", ok("1").max_age(60).field("content-location", "/b"), ""),
        ("POST", same(status(201)).max_age(60), ""),
        ("POST", same(status(404)).max_age(60), ""),
        ("PUT", same(ok("1")).max_age(60), ""),
        ("POST", same(ok("1")).max_age(60).field("set-cookie", "a=b"), "; detail=set-cookie"),
        ("POST", same(ok("1")).field("cache-control", "private, max-age=60"), "; detail=private"),
    ] {
        origin.on("/a").method(method).reply(reply);
        let got = gateway.ask(method, "/a").body("new").send().await;
        assert_eq!(got.cache_status(), format!("fwd=method{detail}"), "{got:?}");
        let got = gateway.get("/a").await.body("got");
        // A failure invalidates nothing.
        assert!([MISS, "hit"].contains(&&*got.cache_status()), "{got:?}");
    }
    origin.on("/a").method("POST").reply(representation("1"));
    for (name, value) in [("if-none-match", "*"), ("if-match", "\"1\""), ("range", "bytes=0-0")] {
        post(&gateway).field(name, value).send().await.code(200).status("fwd=method");
        gateway.get("/a").await.body("got").status(MISS);
    }
}

#[tokio::test]
async fn a_write_after_it_makes_it_invalid() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").method("POST").reply(representation("1"));
    post(&gateway).send().await.status(KEPT);
    origin.on("/a").method("PUT").reply(status(204));
    gateway.ask("PUT", "/a").send().await.code(204);
    origin.on("/a").method("GET").reply(ok("2").max_age(60));
    gateway.get("/a").await.body("2").status(MISS);
}

#[tokio::test]
async fn a_write_beside_it_keeps_it_from_being_stored() {
    for target in ["/a", "/b"] {
        let origin = Origin::start().await;
        let gateway = Gateway::before(&origin).await;
        let held = origin.on("/a").method("POST").hold(representation("old"));
        let mut posts = posting(&origin, &gateway).await;
        origin.on(target).method("PUT").reply(status(204));
        gateway.ask("PUT", target).send().await.code(204);
        held.release();
        // Which of the two came first at the origin, nobody here knows.
        posts.join_next().await.unwrap().unwrap().body("old").status("fwd=method");
        origin.on("/a").method("GET").reply(ok("new").max_age(60));
        gateway.get("/a").await.body("new").status(MISS);
    }
}

#[tokio::test]
async fn a_write_while_its_content_comes_makes_it_invalid() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    let reply = reply.max_age(60).field("content-location", "/a");
    origin.on("/a").method("POST").reply(reply);
    let mut open = post(&gateway).open().await;
    content.send("old");
    assert_eq!(open.piece().await.unwrap().unwrap(), "old");
    origin.on("/a").method("PUT").reply(status(204));
    gateway.ask("PUT", "/a").send().await.code(204);
    content.end();
    open.finish().await.unwrap().code(200);
    origin.on("/a").method("GET").reply(ok("new").max_age(60));
    gateway.get("/a").await.body("new").status(MISS);
}

#[tokio::test]
async fn part_of_it_is_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    origin.on("/a").method("POST").reply(reply.max_age(60).field("content-location", "/a"));
    let mut open = post(&gateway).open().await;
    content.send("part");
    assert_eq!(open.piece().await.unwrap().unwrap(), "part");
    drop(content);
    assert!(open.finish().await.is_err(), "the part looked whole");
    origin.on("/a").method("GET").reply(ok("all").max_age(60));
    gateway.get("/a").await.body("all").status(MISS);
}

#[tokio::test]
async fn it_answers_the_requests_that_its_vary_selects() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(representation("de").field("vary", "accept-language"));
    post(&gateway).field("accept-language", "de").send().await.status(KEPT);
    let get = |language| gateway.ask("GET", "/a").field("accept-language", language).send();
    get("de").await.body("de").status("hit");
    get("en").await.status("fwd=vary-miss; stored");
}

#[tokio::test]
async fn it_is_found_by_the_key_of_a_get() {
    let origin = Origin::start().await;
    let tables = "[policies.keys]\nplugin = \"bundled:normalise-query\"\n\
                  config = { drop = [\"utm_*\"] }\n\
                  [[routes]]\nname = \"reads\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                  methods = [\"GET\"]\nkey = \"keys\"\n\
                  [[routes]]\nname = \"writes\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    let reply = ok("1").max_age(60).field("content-location", "/a?utm_x=1");
    origin.on("/a?utm_x=1").method("POST").reply(reply);
    gateway.ask("POST", "/a?utm_x=1").body("x").send().await.body("1").status(KEPT);
    gateway.get("/a").await.body("1").status("hit");
}

#[tokio::test]
async fn it_answers_no_get_of_another_upstream() {
    let origin = Origin::start().await;
    let other = format!("[upstreams.other]\nservers = [\"{}\"]", origin.url());
    let tables = "[[routes]]\nname = \"reads\"\npath = \"/{*rest}\"\nupstream = \"other\"\n\
                  methods = [\"GET\"]\n\
                  [[routes]]\nname = \"writes\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).upstream(&other).routes(tables).start().await;
    origin.on("/a").reply(representation("1"));
    post(&gateway).send().await.status("fwd=method");
    gateway.get("/a").await.status(MISS);
}

/// The route of the GETs would take for everybody's what its upstream has made of a cookie that it hides.
#[tokio::test]
async fn it_answers_no_get_that_would_have_gone_forward_otherwise() {
    let hides = "fields = { request = { remove = [\"Cookie\"] } }";
    for (reads, writes, is_kept) in [
        (hides, "", false),
        ("", hides, false),
        (hides, hides, true),
        ("rewrite = { host = \"inner.test\" }", "", false),
        ("compress = [\"gzip\"]", "", false),
        ("", "", true),
    ] {
        let origin = Origin::start().await;
        let tables = format!(
            "[[routes]]\nname = \"reads\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
             methods = [\"GET\"]\n{reads}\n\
             [[routes]]\nname = \"writes\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{writes}\n"
        );
        let gateway = Gateway::setup(&origin).routes(&tables).start().await;
        let vary = |text| representation(text).field("vary", "cookie");
        origin.on("/a").method("POST").reply(vary("alice"));
        origin.on("/a").method("GET").reply(vary("all"));
        let posted = post(&gateway).field("cookie", "user=alice").send().await.body("alice");
        posted.status(if is_kept { KEPT } else { "fwd=method" });
        let got = gateway.ask("GET", "/a").field("cookie", "user=alice").send().await;
        let (text, status) = if is_kept { ("alice", "hit") } else { ("all", MISS) };
        got.body(text).status(status);
    }
}

#[tokio::test]
async fn it_is_stored_in_each_tier() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for (times, gateway) in (1..).zip(tiers.gateways(&origin).await) {
        origin.on("/a").method("POST").reply(representation("1"));
        post(&gateway).send().await.body("1").status(KEPT);
        gateway.settled().await;
        gateway.get("/a").await.body("1").status("hit");
        origin.saw("/a", times);
    }
}

#[tokio::test]
async fn it_is_shared_with_the_fleet() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").method("GET").reply(ok("old").max_age(600));
    second.get("/a").await.status(MISS);
    origin.on("/a").method("POST").reply(representation("new"));
    post(&first).send().await.body("new").status(KEPT);
    let written = log_end(&redis);
    first.get("/a").await.body("new").status("hit");
    until("L2 has it", || first.l2().dropped_writes == 0 && has_new(&redis)).await;
    second.has_applied(written).await;
    second.get("/a").await.body("new").status("hit");
    origin.saw("/a", 2);
}

fn has_new(redis: &Redis) -> bool {
    let keys = redis.ask("KEYS larder:r:*").unwrap();
    let key = keys.lines().nth(2).unwrap_or_default();
    redis.ask(&format!("GET {key}")).unwrap().contains("new")
}

#[tokio::test]
async fn a_write_beside_it_at_another_gateway_keeps_it_from_being_stored() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    let held = origin.on("/a").method("POST").hold(representation("old"));
    let mut posts = posting(&origin, &first).await;
    origin.on("/a").method("PUT").reply(status(204));
    second.ask("PUT", "/a").send().await.code(204);
    // Whether or not the first gateway has read of it yet.
    held.release();
    posts.join_next().await.unwrap().unwrap().body("old").status("fwd=method");
    origin.on("/a").method("GET").reply(ok("new").max_age(600));
    first.get("/a").await.body("new").status(MISS);
}

#[tokio::test]
async fn it_is_not_stored_while_the_fleet_cannot_hear_of_it() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let gateway = Gateway::of_fleet(&origin, &redis).await;
    redis.kill();
    origin.on("/a").reply(representation("1"));
    post(&gateway).send().await.body("1").status("fwd=method");
    gateway.get("/a").await.body("1").status(MISS);
}
