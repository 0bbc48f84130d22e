//! `HEAD` that goes forward, and what it does to a stored response to `GET` (RFC 9111 §4.3.5).

use crate::support::client::Ask;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::redis::Redis;
use crate::support::{secs, until};
use crate::tiers::log_end;

const MISS: &str = "fwd=uri-miss; stored";
const UPDATED: &str = "fwd=stale; stored";
const VALIDATED: &str = "fwd=stale; fwd-status=304; stored";
const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
const ONE: &str = "Sun, 06 Nov 1994 13:00:00 GMT";

/// Stores this for GET of `/a`.
async fn stored(origin: &Origin, reply: Reply) -> Gateway {
    let gateway = Gateway::before(origin).await;
    origin.on("/a").reply(reply.max_age(60));
    gateway.get("/a").await.status(MISS);
    gateway
}

/// To be asked for although it is fresh.
fn head(gateway: &Gateway) -> Ask {
    gateway.ask("HEAD", "/a").field("cache-control", "no-cache")
}

#[tokio::test]
async fn head_that_agrees_freshens_a_stale_get() {
    let origin = Origin::start().await;
    for (get, fields) in [
        (ok("12345"), vec![]),
        (ok("12345").etag("1"), vec![("etag", "\"1\"")]),
        (ok("12345").field("last-modified", NOON), vec![("last-modified", NOON)]),
    ] {
        let gateway = stored(&origin, get.field("x-a", "old").field("x-b", "kept")).await;
        gateway.clock().advance(secs(61));
        let reply = ok("12345").max_age(100).field("x-a", "new");
        // The origin says the length by itself.
        let reply = fields.iter().fold(reply, |reply, (name, value)| reply.field(name, value));
        origin.on("/a").method("HEAD").reply(reply);
        let got = gateway.ask("HEAD", "/a").send().await.code(200).body("").status(UPDATED);
        got.has("x-a", "new").has("content-length", "5");
        gateway.clock().advance(secs(99));
        let got = gateway.get("/a").await.code(200).body("12345").status("hit");
        got.has("x-a", "new").has("x-b", "kept").has("age", "99").has("content-length", "5");
        gateway.ask("HEAD", "/a").send().await.status("hit");
    }
    origin.saw("/a", 6);
}

#[tokio::test]
async fn head_is_conditional_where_there_are_validators() {
    let origin = Origin::start().await;
    let get = ok("12345").etag("1").field("last-modified", NOON);
    let gateway = stored(&origin, get).await;
    gateway.clock().advance(secs(61));
    origin.on("/a").method("HEAD").reply(status(304).etag("1").max_age(100));
    let ask = gateway.ask("HEAD", "/a").field("if-none-match", "\"mine\"");
    let got = ask.send().await.code(200).body("").status(VALIDATED);
    got.has("content-length", "5").has("cache-control", "max-age=100");
    let asked = origin.last("/a");
    assert_eq!(asked.method, "HEAD");
    assert_eq!(asked.field("if-none-match").as_deref(), Some("\"1\""));
    assert_eq!(asked.field("if-modified-since").as_deref(), Some(NOON));
    gateway.get("/a").await.body("12345").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn a_304_about_another_response_freshens_nothing() {
    let origin = Origin::start().await;
    let gateway = stored(&origin, ok("1").etag("1")).await;
    gateway.clock().advance(secs(61));
    origin.on("/a").reply(ok("2").max_age(60).etag("2"));
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("2").max_age(60));
    gateway.ask("HEAD", "/a").send().await.code(200).status("fwd=stale").has("etag", "\"2\"");
    assert_eq!(origin.last("/a").field("if-none-match"), None);
    gateway.get("/a").await.body("2").status("fwd=stale; stored");
}

#[tokio::test]
async fn head_that_differs_makes_a_fresh_get_stale() {
    let origin = Origin::start().await;
    for (get, reply) in [
        (ok("12345").etag("1"), ok("12345").etag("2")),
        (ok("12345"), ok("12345").etag("2")),
        (ok("12345"), ok("123456")),
        (ok("12345").field("last-modified", NOON), ok("12345").field("last-modified", ONE)),
        // The same, but not to be kept.
        (ok("12345").etag("1"), ok("12345").etag("1").field("cache-control", "no-store")),
    ] {
        let gateway = stored(&origin, get).await;
        gateway.get("/a").await.status("hit");
        origin.on("/a").method("HEAD").reply(reply.max_age(60));
        head(&gateway).send().await.code(200).status("fwd=request");
        gateway.get("/a").await.body("12345").status("fwd=stale; stored");
    }
    origin.saw("/a", 3 * 5);
}

#[tokio::test]
async fn head_that_agrees_updates_a_fresh_get() {
    let origin = Origin::start().await;
    let gateway = stored(&origin, ok("12345").etag("1")).await;
    origin.on("/a").method("HEAD").reply(ok("12345").etag("1").max_age(600).field("x-a", "new"));
    head(&gateway).send().await.code(200).status("fwd=request; stored");
    gateway.clock().advance(secs(61));
    gateway.get("/a").await.body("12345").status("hit").has("x-a", "new");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn head_that_agrees_and_is_for_one_client_leaves_the_get_as_it_is() {
    let origin = Origin::start().await;
    let gateway = stored(&origin, ok("1")).await;
    origin.on("/a").method("HEAD").reply(ok("1").max_age(60));
    let unstored = gateway.ask("HEAD", "/a").field("cache-control", "no-cache, no-store");
    let of_user = head(&gateway).field("authorization", "Bearer x");
    for ask in [unstored, of_user] {
        ask.send().await.code(200).has("content-length", "1").status("fwd=request");
        gateway.get("/a").await.body("1").status("hit");
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn head_that_is_no_200_leaves_the_get_as_it_is() {
    let origin = Origin::start().await;
    let gateway = stored(&origin, ok("1").etag("1")).await;
    for code in [404, 405, 500, 503, 301, 204] {
        origin.on("/a").method("HEAD").reply(status(code).max_age(60));
        head(&gateway).send().await.code(code).status("fwd=request");
        gateway.get("/a").await.body("1").status("hit");
    }
}

#[tokio::test]
async fn client_is_told_by_head_that_its_copy_is_good() {
    let origin = Origin::start().await;
    let gateway = stored(&origin, ok("1").etag("1")).await;
    gateway.clock().advance(secs(61));
    origin.on("/a").method("HEAD").reply(ok("2").etag("2").max_age(60));
    for (tag, code) in [("\"2\"", 304), ("\"1\"", 200)] {
        let ask = gateway.ask("HEAD", "/a").field("if-none-match", tag);
        ask.send().await.code(code).body("").status("fwd=stale").has("etag", "\"2\"");
        assert_eq!(origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
    }
}

#[tokio::test]
async fn heads_that_differ_from_a_stale_get_append_nothing_to_the_log() {
    let origin = Origin::start().await;
    let gateway = stored(&origin, ok("1").etag("1")).await;
    gateway.clock().advance(secs(61));
    let before = gateway.store().log_position;
    origin.on("/a").method("HEAD").reply(ok("2").etag("2").max_age(60));
    gateway.ask("HEAD", "/a").send().await.code(200).status("fwd=stale");
    assert_eq!(gateway.store().log_position, before);
}

#[tokio::test]
async fn heads_that_differ_from_what_is_stale_by_then_append_one_record() {
    let origin = Origin::start().await;
    let gateway = stored(&origin, ok("1").etag("1")).await;
    origin.on("/a").method("HEAD").reply(ok("2").etag("2").max_age(60));
    head(&gateway).send().await.code(200);
    let before = gateway.store().log_position;
    for _ in 0..3 {
        gateway.ask("HEAD", "/a").send().await.code(200).status("fwd=stale");
    }
    assert_eq!(gateway.store().log_position, before);
}

#[tokio::test]
async fn only_the_variant_that_was_asked_for_is_freshened() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = |text: &str| ok(text.to_owned()).max_age(60).field("vary", "accept-language");
    let ask = |method: &str, language: &str| {
        gateway.ask(method, "/a").field("accept-language", language).send()
    };
    for language in ["de", "en"] {
        origin.on("/a").with("accept-language", language).reply(reply(language));
        ask("GET", language).await.body(language);
    }
    gateway.clock().advance(secs(61));
    ask("HEAD", "de").await.code(200).status(UPDATED);
    ask("GET", "de").await.body("de").status("hit");
    ask("GET", "en").await.body("en").status("fwd=stale; stored");
}

#[tokio::test]
async fn head_makes_a_get_stale_in_the_whole_fleet() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(600).etag("1"));
    first.get("/a").await.status(MISS);
    until("L2 has it", || redis.ask("KEYS larder:r:*").unwrap().starts_with("*1")).await;
    second.get("/a").await.status("hit");

    origin.on("/a").reply(ok("2").max_age(600).etag("2"));
    head(&first).send().await.code(200).status("fwd=request");
    second.has_applied(log_end(&redis)).await;
    second.get("/a").await.body("2").status("fwd=stale; stored");
}

#[tokio::test]
async fn head_does_not_make_a_part_pass_for_the_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let part = |text: &str, range: &str| {
        let reply = status(206).body(text.to_owned()).max_age(60).etag("1");
        reply.field("content-range", range)
    };
    origin.on("/a").with("range", "bytes=0-1").reply(part("12", "bytes 0-1/5"));
    origin.on("/a").with("range", "bytes=2-4").reply(part("345", "bytes 2-4/5"));
    let ask = gateway.ask("GET", "/a").field("range", "bytes=0-1");
    ask.send().await.code(206).body("12");
    origin.on("/a").method("HEAD").reply(ok("12345").max_age(60).etag("1"));
    for ask in [gateway.ask("HEAD", "/a"), head(&gateway)] {
        ask.send().await.code(200).body("").has("content-length", "5");
        assert_eq!(origin.last("/a").method, "HEAD");
        assert_eq!(origin.last("/a").field("if-none-match"), None);
    }
    gateway.get("/a").await.code(200).body("12345");
    gateway.get("/a").await.code(200).body("12345").status("hit");
    gateway.ask("HEAD", "/a").send().await.status("hit").has("content-length", "5");
}
