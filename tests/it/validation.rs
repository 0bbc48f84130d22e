//! Conditional requests, the gateway's own and its clients' (RFC 9111 §4.3).

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::{secs, until};

const MISS: &str = "fwd=uri-miss; stored";
const VALIDATED: &str = "fwd=stale; fwd-status=304; stored";
const ELEVEN: &str = "Sun, 06 Nov 1994 11:00:00 GMT";
const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
const ONE: &str = "Sun, 06 Nov 1994 13:00:00 GMT";

/// Stores this for `/a` and lets it become stale.
async fn stale(origin: &Origin, reply: Reply) -> Gateway {
    let gateway = Gateway::before(origin).await;
    origin.on("/a").reply(reply);
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(61));
    gateway
}

#[tokio::test]
async fn stale_response_is_validated_by_all_its_validators() {
    let origin = Origin::start().await;
    for (fields, etag, date) in [
        (vec![("etag", "\"1\""), ("last-modified", NOON)], Some("\"1\""), Some(NOON)),
        (vec![("etag", "W/\"1\"")], Some("W/\"1\""), None),
        (vec![("last-modified", NOON)], None, Some(NOON)),
        (vec![], None, None),
    ] {
        let reply = |reply: Reply| {
            fields.iter().fold(reply.max_age(60), |reply, (name, value)| reply.field(name, value))
        };
        let gateway = stale(&origin, reply(ok("1"))).await;
        let is_asked = !fields.is_empty();
        origin.on("/a").reply(if is_asked { reply(status(304)) } else { reply(ok("1")) });
        let got = gateway.get("/a").await.code(200).body("1");
        got.status(if is_asked { VALIDATED } else { "fwd=stale; stored" });
        let asked = origin.last("/a");
        assert_eq!(asked.field("if-none-match").as_deref(), etag);
        assert_eq!(asked.field("if-modified-since").as_deref(), date);
        gateway.get("/a").await.body("1").status("hit");
    }
    origin.saw("/a", 8);
}

#[tokio::test]
async fn fields_are_freshened_by_a_304() {
    let origin = Origin::start().await;
    let reply = ok("1").max_age(60).etag("1").field("content-type", "text/plain");
    let gateway = stale(&origin, reply.field("x-a", "old").field("x-b", "kept")).await;
    let reply = status(304).max_age(100).etag("1").field("x-a", "new").field("x-c", "added");
    let reply = reply.field("via", "1.1 inner").field("content-encoding", "br");
    origin.on("/a").reply(reply);
    let first = gateway.get("/a").await.status(VALIDATED);
    gateway.clock().advance(secs(90));
    let second = gateway.get("/a").await.status("hit");
    for got in [first, second] {
        let got = got.code(200).body("1").has("x-a", "new").has("x-b", "kept").has("x-c", "added");
        let got = got.has("cache-control", "max-age=100").has("content-type", "text/plain");
        got.has("content-length", "1")
            .lacks("content-encoding")
            .has("via", "1.1 inner, 1.1 larder");
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn changed_response_replaces_the_stored_one() {
    let origin = Origin::start().await;
    let gateway = stale(&origin, ok("1").max_age(60).etag("1").field("x-a", "1")).await;
    origin.on("/a").reply(ok("2").max_age(60).etag("2"));
    gateway.get("/a").await.body("2").status("fwd=stale; stored").lacks("x-a");
    assert_eq!(origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
    gateway.get("/a").await.body("2").status("hit").has("etag", "\"2\"").lacks("x-a");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn a_304_about_another_response_is_not_believed() {
    let origin = Origin::start().await;
    let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
    origin.on("/a").reply(ok("2").max_age(60).etag("2"));
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("2").max_age(60));
    gateway.get("/a").await.code(200).body("2").status("fwd=stale; stored");
    assert_eq!(origin.last("/a").field("if-none-match"), None);
    origin.saw("/a", 3);
    gateway.get("/a").await.body("2").status("hit");
    origin.saw("/a", 3);
}

/// As servers do that compress, and so make a tag weak, behind the place where they answer with a 304.
#[tokio::test]
async fn a_304_may_name_the_weak_tag_that_was_sent_as_a_strong_one() {
    let origin = Origin::start().await;
    let gateway = stale(&origin, ok("1").max_age(60).field("etag", "W/\"1\"")).await;
    let reply = status(304).etag("1").max_age(60);
    origin.on("/a").with("if-none-match", "W/\"1\"").reply(reply);
    gateway.get("/a").await.code(200).body("1").status(VALIDATED).has("etag", "W/\"1\"");
    gateway.get("/a").await.body("1").status("hit").has("etag", "W/\"1\"");
    origin.saw("/a", 2);
    // And again: what is stored is still asked about by its own tag.
    gateway.clock().advance(secs(61));
    gateway.get("/a").await.body("1").status(VALIDATED).has("etag", "W/\"1\"");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn a_304_may_forbid_further_storing() {
    let origin = Origin::start().await;
    for (name, value, detail, is_gone) in [
        ("cache-control", "no-store", "no-store", true),
        ("cache-control", "private, max-age=60", "private", true),
        ("vary", "*", "vary-any", true),
        // A cookie is for one client, and no word about what is stored.
        ("set-cookie", "a=b", "set-cookie", false),
    ] {
        let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
        origin.on("/a").reply(status(304).etag("1").field(name, value));
        // The field is for the client that caused it to be sent.
        let got = gateway.get("/a").await.code(200).body("1").has(name, value);
        got.status(&format!("fwd=stale; fwd-status=304; detail={detail}"));
        // Not even a client that takes anything gets what it has spoilt.
        let ask = gateway.ask("GET", "/a").field("cache-control", "max-stale, only-if-cached");
        let got = ask.send().await;
        if is_gone {
            got.code(504).status("fwd=uri-miss; detail=only-if-cached");
            origin.on("/a").reply(ok("2").max_age(60));
            gateway.get("/a").await.body("2").status(MISS);
            assert_eq!(origin.last("/a").field("if-none-match"), None);
        } else {
            got.code(200).body("1").status("hit");
            origin.on("/a").reply(status(304).etag("1").max_age(60));
            let got = gateway.get("/a").await.code(200).body("1").status(VALIDATED);
            got.has("cache-control", "max-age=60").lacks("set-cookie");
        }
    }
    // Nor does a client with a copy of its own go without the cookie.
    let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
    origin.on("/a").reply(status(304).etag("1").field("set-cookie", "a=b"));
    let ask = gateway.ask("GET", "/a").field("if-none-match", "\"1\"");
    ask.send().await.code(304).body("").has("set-cookie", "a=b");
    // What one client's credentials bring about is no word for the others.
    let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
    origin.on("/a").reply(status(304).etag("1").field("cache-control", "private"));
    gateway.ask("GET", "/a").field("authorization", "Bearer x").send().await.body("1");
    let ask = gateway.ask("GET", "/a").field("cache-control", "max-stale");
    ask.send().await.body("1").status("hit");
}

/// RFC 9111 §4.3.3: a full response says that the stored one is not suitable, stored itself or not.
#[tokio::test]
async fn what_a_response_that_is_not_stored_supersedes_is_gone() {
    let origin = Origin::start().await;
    let news = [
        (ok("2").field("cache-control", "private, max-age=60"), true),
        (ok("2").field("cache-control", "no-store"), true),
        (ok("2").max_age(60).field("set-cookie", "a=b"), true),
        (status(404), true),
        (status(403), false),
        (status(429), false),
        (status(503), false),
    ];
    for (reply, is_news) in news {
        let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
        origin.on("/a").reply(reply.clone());
        let answered = gateway.get("/a").await.status;
        let ask = gateway.ask("GET", "/a").field("cache-control", "max-stale, only-if-cached");
        let got = ask.send().await;
        if is_news {
            got.code(504).status("fwd=uri-miss; detail=only-if-cached");
        } else {
            got.code(200).body("1").status("hit");
        }
        assert_eq!(answered.as_u16(), gateway.get("/a").await.status.as_u16());
    }
    // What one client's credentials bring about is no news for the others.
    let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
    origin.on("/a").reply(ok("2").field("cache-control", "private"));
    gateway.ask("GET", "/a").field("authorization", "Bearer x").send().await.body("2");
    let ask = gateway.ask("GET", "/a").field("cache-control", "max-stale");
    ask.send().await.body("1").status("hit");
}

#[tokio::test]
async fn failed_validation_is_the_clients_answer() {
    let origin = Origin::start().await;
    let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
    origin.on("/a").reply(status(500).body("sorry"));
    let got = gateway.get("/a").await.code(500).body("sorry");
    got.status("fwd=stale; detail=no-freshness").lacks("age");
    // What was stored is still there to be validated.
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(60));
    gateway.get("/a").await.code(200).body("1").status(VALIDATED);
    origin.saw("/a", 3);
}

#[tokio::test]
async fn validation_asks_about_the_stored_response_only() {
    let origin = Origin::start().await;
    let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
    let ask = || gateway.ask("GET", "/a").field("if-none-match", "\"mine\"");
    // Also after a response that could not be shared.
    for (times, reply) in [(2, status(500)), (3, status(304).max_age(60))] {
        origin.on("/a").reply(reply);
        let got = ask().field("if-modified-since", NOON).send().await;
        assert_eq!(origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
        assert_eq!(origin.last("/a").field("if-modified-since"), None);
        origin.saw("/a", times);
        if times == 3 {
            got.code(200).body("1").status(VALIDATED);
        }
    }
}

#[tokio::test]
async fn client_is_told_that_its_copy_is_good() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok("1").max_age(60).etag("1").field("last-modified", NOON);
    let reply = reply.field("vary", "accept").field("content-type", "text/plain");
    origin.on("/a").reply(reply.field("content-location", "/b"));
    gateway.get("/a").await.status(MISS);
    for (fields, code) in [
        (vec![("if-none-match", "\"1\"")], 304),
        (vec![("if-none-match", "W/\"1\"")], 304),
        (vec![("if-none-match", "\"0\", W/\"x,\\\", \"1\"")], 304),
        (vec![("if-none-match", "\"0\""), ("if-none-match", "\"1\"")], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", "\"2\"")], 200),
        (vec![("if-none-match", "\"0, \"1, \"2\"")], 200),
        (vec![("if-modified-since", NOON)], 304),
        (vec![("if-modified-since", ONE)], 304),
        (vec![("if-modified-since", ELEVEN)], 200),
        (vec![("if-modified-since", "noon")], 200),
        (vec![("if-none-match", "\"2\""), ("if-modified-since", ONE)], 200),
        (vec![("if-none-match", "\"1\""), ("if-modified-since", ELEVEN)], 304),
    ] {
        for method in ["GET", "HEAD"] {
            let ask = fields
                .iter()
                .fold(gateway.ask(method, "/a"), |ask, (name, value)| ask.field(name, value));
            let got = ask.send().await.status("hit").has("etag", "\"1\"").has("vary", "accept");
            assert_eq!(got.status, code, "{fields:?}: {got:?}");
            let got = got.has("cache-control", "max-age=60").has("content-location", "/b");
            assert!(got.headers.contains_key("date") && got.age() < 5, "{got:?}");
            if code == 304 {
                got.body("").lacks("content-type").lacks("content-length").lacks("last-modified");
            } else {
                got.body(if method == "GET" { "1" } else { "" }).has("content-length", "1");
            }
        }
    }
    origin.saw("/a", 1);
}

#[tokio::test]
async fn only_a_stored_200_is_compared_with_the_clients_copy() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(status(404).body("none").max_age(60).etag("1"));
    for expected in [MISS, "hit"] {
        let got = gateway.ask("GET", "/a").field("if-none-match", "\"1\"").send().await;
        got.code(404).body("none").status(expected);
    }
    origin.saw("/a", 1);
}

#[tokio::test]
async fn date_stands_in_for_last_modified() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").date(NOON).field("cache-control", "max-age=2147483648"));
    gateway.get("/a").await.status(MISS);
    for (since, code) in [(ELEVEN, 200), (NOON, 304), (ONE, 304)] {
        let got = gateway.ask("GET", "/a").field("if-modified-since", since).send().await;
        got.code(code).status("hit").has("date", NOON);
    }
    origin.saw("/a", 1);
}

#[tokio::test]
async fn clients_conditions_do_not_reach_the_origin_on_a_miss() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, name, value, code) in [
        ("/1", "if-none-match", "\"1\"", 304),
        ("/2", "if-none-match", "\"2\"", 200),
        ("/3", "if-modified-since", NOON, 304),
        ("/4", "if-modified-since", ELEVEN, 200),
    ] {
        origin.on(target).reply(ok("all").max_age(60).etag("1").field("last-modified", NOON));
        let got = gateway.ask("GET", target).field(name, value).send().await;
        // RFC 9211 §2.3: without `fwd-status` it would be the 304 that the client got.
        let whole = "fwd=uri-miss; fwd-status=200; stored";
        let (body, expected) = if code == 304 { ("", whole) } else { ("all", MISS) };
        got.code(code).body(body).status(expected);
        assert_eq!(origin.last(target).field(name), None);
        // The whole is stored all the same.
        gateway.get(target).await.code(200).body("all").status("hit");
        origin.saw(target, 1);
    }
}

#[tokio::test]
async fn client_may_have_what_validation_brings() {
    let origin = Origin::start().await;
    let gateway = stale(&origin, ok("1").max_age(60).etag("1")).await;
    let ask = || gateway.ask("GET", "/a").field("if-none-match", "\"2\"").send();
    origin.on("/a").with("if-none-match", "\"1\"").reply(ok("2").max_age(60).etag("2"));
    let got = ask().await.code(304).body("").has("etag", "\"2\"");
    got.status("fwd=stale; fwd-status=200; stored");
    gateway.get("/a").await.code(200).body("2").status("hit");

    gateway.clock().advance(secs(61));
    origin.on("/a").with("if-none-match", "\"2\"").reply(status(304).etag("2").max_age(60));
    ask().await.code(304).body("").status(VALIDATED);
    origin.saw("/a", 3);
}

#[tokio::test]
async fn conditions_on_a_change_are_for_the_origin() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).etag("1"));
    gateway.get("/a").await.status(MISS);
    for (name, value) in [("if-match", "\"1\""), ("if-unmodified-since", NOON)] {
        origin.on("/a").with(name, value).reply(status(412));
        let got = gateway.ask("GET", "/a").field(name, value).send().await;
        got.code(412).status("fwd=bypass");
    }
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn follower_is_told_that_its_copy_is_good() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("1").max_age(60).etag("1"));
    let follower = async {
        until("the leader is there", || origin.count("/a") == 1).await;
        gateway.ask("GET", "/a").field("if-none-match", "\"1\"").send().await
    };
    let release = async {
        gateway.reaches("followers", 1).await;
        held.release();
    };
    let (leader, follower, ()) = tokio::join!(gateway.get("/a"), follower, release);
    leader.code(200).body("1").status(MISS);
    let got = follower.code(304).body("").has("etag", "\"1\"");
    got.status("fwd=uri-miss; fwd-status=200; collapsed");
    origin.saw("/a", 1);
}

/// RFC 9110 §15.4.5: a 304 says that there would be a 200.
#[tokio::test]
async fn what_is_no_200_is_not_validated() {
    let origin = Origin::start().await;
    for code in [404, 410, 301] {
        let gone = status(code).max_age(60).etag("1").field("last-modified", NOON);
        let gateway = stale(&origin, gone).await;
        origin.on("/a").reply(ok("there").max_age(60).field("last-modified", ELEVEN));
        origin.on("/a").with("if-modified-since", NOON).reply(status(304));
        gateway.get("/a").await.code(200).body("there").status("fwd=stale; stored");
    }
}

#[tokio::test]
async fn a_304_keeps_what_is_not_about_the_content() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok("1").etag("1").max_age(60).field("cache-groups", "\"a\"");
    let reply = reply.field("cdn-cache-control", "max-age=60").field("content-language", "de");
    origin.on("/a").reply(reply.field("access-control-allow-origin", "*"));
    gateway.get("/a").await.status(MISS);
    let got = gateway.ask("GET", "/a").field("if-none-match", "\"1\"").send().await.code(304);
    let got = got.has("cache-groups", "\"a\"").has("cdn-cache-control", "max-age=60");
    got.has("access-control-allow-origin", "*").lacks("content-language").lacks("content-length");
}
