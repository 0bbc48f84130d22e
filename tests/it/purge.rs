//! `POST /purge`, the shorter calls, and `PURGE` on the clients' listener: what they cover, and what they
//! refuse.

use serde_json::{Value, json};

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::redis::Redis;
use crate::support::{secs, until};

const TWO_ROUTES: &str = "[[routes]]\nname = \"a\"\npath = \"/a/{*rest}\"\nupstream = \"origin\"\n\
                          [[routes]]\nname = \"rest\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n";

/// What is stored before each purge; each has its own path and query as a tag.
const STORED: [&str; 8] =
    ["/", "/a/1", "/a/2", "/a/1?page=2", "/b", "/b?x=1&y=%61", "/c*", "/c%2Fd"];

fn json_of(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

fn ask(gateway: &Gateway, query: &str, wanted: &Value) -> Ask {
    let ask = gateway.admin("POST", &format!("/purge{query}"));
    ask.field("content-type", "application/json").body(wanted.to_string())
}

#[track_caller]
fn is_problem(got: &Got, code: u16) -> Value {
    assert_eq!(got.status.as_u16(), code, "{got:?}");
    assert_eq!(got.field("content-type").as_deref(), Some("application/problem+json"), "{got:?}");
    json_of(got)
}

/// A gateway that has stored all of [`STORED`].
async fn filled(origin: &Origin) -> Gateway {
    let gateway = Gateway::setup(origin).routes(TWO_ROUTES).start().await;
    for target in STORED {
        let tag = format!("\"{target}\"");
        origin.on(target).reply(ok("1").max_age(60).etag("v1").field("cache-groups", &tag));
        gateway.get(target).await.status("fwd=uri-miss; stored");
    }
    gateway
}

#[tokio::test]
async fn a_purge_covers_what_it_names_and_nothing_else() {
    const HOST: &str = "{host}";
    for (wanted, gone) in [
        (json!({ "tags": ["/a/1", "/b"] }), &["/a/1", "/b"][..]),
        (json!({ "tags": ["nobody has it"] }), &[]),
        (json!({ "keys": ["a/1"] }), &["/a/1"]),
        (json!({ "keys": ["a/1?page=2", ""] }), &["/a/1?page=2", "/"]),
        (json!({ "keys": ["c*", "/b"] }), &["/c*"]),
        (json!({ "keys": ["*"] }), &[]),
        (json!({ "patterns": ["a/*"] }), &["/a/1", "/a/2", "/a/1?page=2"]),
        (json!({ "routes": ["a"] }), &["/a/1", "/a/2", "/a/1?page=2"]),
        (json!({ "routes": ["nothing"] }), &[]),
        (json!({ "urls": ["http://{host}/a/1"] }), &["/a/1"]),
        (json!({ "urls": ["HTTP://{host}/a/./x/../1?page=2#top"] }), &["/a/1?page=2"]),
        (
            json!({ "urls": ["https://{host}/b?x=%31&y=a", "http://{host}"] }),
            &["/b?x=1&y=%61", "/"],
        ),
        (json!({ "urls": ["http://{host}/c%2fd"] }), &["/c%2Fd"]),
        (json!({ "urls": ["http://other.example/b"] }), &[]),
        (
            json!({ "tags": ["/b"], "keys": ["c*"], "routes": ["a"], "patterns": ["c%*"] }),
            &["/a/1", "/a/2", "/a/1?page=2", "/b", "/c*", "/c%2Fd"],
        ),
        (json!({ "all": true }), &STORED),
    ] {
        let origin = Origin::start().await;
        let gateway = filled(&origin).await;
        let wanted = wanted.to_string().replace(HOST, &gateway.address().to_string());
        let wanted: Value = serde_json::from_str(&wanted).unwrap();
        let told = json_of(&ask(&gateway, "", &wanted).send().await.code(200));
        assert!(told["id"].is_string() && told["shared"] == true, "{told}");
        for target in STORED {
            let expected = if gone.contains(&target) { "fwd=uri-miss; stored" } else { "hit" };
            let got = gateway.get(target).await;
            assert_eq!(got.cache_status(), expected, "{target} after {wanted}");
            origin.saw(target, if gone.contains(&target) { 2 } else { 1 });
        }
    }
}

#[tokio::test]
async fn a_soft_purge_has_what_it_covers_validated() {
    for call in ["purge", "clear", "pattern", "tag"] {
        let origin = Origin::start().await;
        let gateway = filled(&origin).await;
        let call = match call {
            "purge" => ask(&gateway, "", &json!({ "keys": ["b"], "soft": true })),
            "clear" => gateway.admin("POST", "/clear?soft=true"),
            "pattern" => gateway.admin("DELETE", "/pattern/b?soft=true"),
            _ => gateway.admin("DELETE", "/tag//b?soft=true"),
        };
        call.send().await.code(200);
        origin.on("/b").with("if-none-match", "\"v1\"").reply(status(304));
        gateway.get("/b").await.body("1").status("fwd=stale; fwd-status=304; stored");
        gateway.get("/b").await.status("hit");
    }
}

#[tokio::test]
async fn a_url_goes_with_all_its_variants() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).field("vary", "x-kind"));
    for kind in ["one", "two"] {
        gateway.ask("GET", "/a").field("x-kind", kind).send().await.code(200);
        gateway.ask("GET", "/a").field("x-kind", kind).send().await.status("hit");
    }
    let url = format!("http://{}/a", gateway.address());
    ask(&gateway, "", &json!({ "urls": [url] })).send().await.code(200);
    for kind in ["one", "two"] {
        let got = gateway.ask("GET", "/a").field("x-kind", kind).send().await;
        assert!(got.cache_status().starts_with("fwd="), "{got:?}");
    }
    origin.saw("/a", 4);
}

#[tokio::test]
async fn what_is_not_understood_purges_nothing() {
    let origin = Origin::start().await;
    let gateway = filled(&origin).await;
    let wanted = json!({ "all": true }).to_string();
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut ask = gateway.admin("POST", "/purge").body(wanted.clone());
        if let Some(kind) = kind {
            ask = ask.field("content-type", kind);
        }
        is_problem(&ask.send().await, 415);
    }
    let large = format!("{wanted}{}", " ".repeat(1 << 20));
    let ask_with = |content: String| {
        let ask = gateway.admin("POST", "/purge").body(content);
        ask.field("content-type", "application/json")
    };
    is_problem(&ask_with(large).send().await, 413);
    is_problem(&ask_with("{".to_owned()).send().await, 400);
    for (wanted, fault) in [
        (json!({ "urls": ["/a/1"] }), "`urls[0]` is not an absolute URL with http or https"),
        (json!({ "urls": ["ftp://h/a"] }), "`urls[0]` is not an absolute URL with http or https"),
        (json!({ "urls": ["http:///a"] }), "`urls[0]` is not an absolute URL with http or https"),
        (
            json!({ "urls": ["http://u@h/a"] }),
            "`urls[0]` names no host that a request could be for",
        ),
        (
            json!({ "urls": ["http://h/", "http://h/gr\u{fc}n"] }),
            "`urls[1]` has characters that must be percent-encoded in a URL",
        ),
        (
            json!({ "tag": ["a"] }),
            "there is no member `tag`; there are `tags`, `keys`, `urls`, `patterns`, `routes`, \
             `all` and `soft`",
        ),
    ] {
        let told = is_problem(&ask(&gateway, "", &wanted).send().await, 422);
        assert_eq!(told["faults"], json!([fault]), "{wanted}");
        assert_eq!(told["detail"], "1 fault; nothing was purged");
    }
    for (method, target) in [
        ("POST", "/purge?soft=true"),
        ("POST", "/clear?sofd=true"),
        ("POST", "/clear?wait=1"),
        ("POST", "/clear?wait=31s"),
        ("DELETE", "/pattern/*?soft=yes"),
        ("DELETE", "/tag/a?wait=soon"),
        ("DELETE", "/tag/"),
        ("DELETE", "/tag/?soft=true"),
        ("GET", "/purge/0-1?soft=true"),
    ] {
        let ask = gateway.admin(method, target).body(wanted.clone());
        is_problem(&ask.field("content-type", "application/json").send().await, 400);
    }
    for target in STORED {
        gateway.get(target).await.status("hit");
    }
    is_problem(&gateway.admin("GET", "/purge").send().await, 405);
    is_problem(&gateway.admin("DELETE", "/purge/0-1").send().await, 405);
}

#[tokio::test]
async fn a_gateway_without_redis_gives_receipts_for_itself() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 1\nname = \"alone\"").start().await;
    let clear = gateway.admin("POST", "/clear?wait=20s").send().await.code(200);
    let told = json_of(&clear);
    assert_eq!(told["complete"], true, "{told}");
    let id = told["id"].as_str().unwrap();
    let asked = gateway.admin("GET", &format!("/purge/{id}")).send().await.code(200);
    assert_eq!(json_of(&asked)["gateways"], told["gateways"]);
    let [own] = told["gateways"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!((&own["name"], &own["applied"]), (&json!("alone"), &json!(true)));
    let at = own["at"].as_str().unwrap();
    assert!(at.len() == 24 && at.starts_with("20") && at.ends_with('Z'), "{at}");

    for (id, code) in [
        ("0-999", 404),
        ("99999999999999-0", 404),
        ("0-1@alone", 404),
        ("0-1@another", 404),
        ("0", 400),
        ("latest", 400),
        ("-1-1", 400),
        ("0-1@", 400),
        ("99999999999999999999999-0", 400),
    ] {
        is_problem(&gateway.admin("GET", &format!("/purge/{id}")).send().await, code);
    }
}

/// Two routes, of which one takes `PURGE`.
async fn with_purge(origin: &Origin) -> Gateway {
    let routes = TWO_ROUTES.replacen("upstream", "purge = true\nupstream", 1);
    Gateway::setup(origin).admin("token = \"s3cret\"").routes(&routes).start().await
}

#[tokio::test]
async fn a_route_that_takes_purge_purges_the_target_for_who_bears_the_token() {
    let origin = Origin::start().await;
    let gateway = with_purge(&origin).await;
    origin.on("/a/1").reply(ok("1").max_age(60).etag("v1").field("vary", "x-kind"));
    origin.on("/a/2").reply(ok("2").max_age(60));
    let get = |kind: &str| gateway.ask("GET", "/a/1").field("x-kind", kind).send();
    for kind in ["one", "two"] {
        get(kind).await.code(200);
        get(kind).await.status("hit");
    }
    gateway.get("/a/2").await.code(200);

    for wrong in [None, Some("Bearer s3cre"), Some("Bearer s3cret2"), Some("Basic s3cret")] {
        for method in ["PURGE", "SOFTPURGE"] {
            let mut ask = gateway.ask(method, "/a/1");
            if let Some(wrong) = wrong {
                ask = ask.field("authorization", wrong);
            }
            is_problem(&ask.send().await.has("www-authenticate", "Bearer"), 401);
        }
    }
    get("one").await.status("hit");
    origin.saw("/a/1", 2);

    for (round, http2) in [false, true].into_iter().enumerate() {
        let mut ask = gateway.ask("PURGE", "/a/1").field("authorization", "Bearer s3cret");
        // Content means nothing here.
        ask = if http2 { ask.http2() } else { ask.body("{\"all\":true}") };
        let got = ask.send().await.code(200).has("content-type", "application/json");
        let told = json_of(&got);
        assert_eq!(told["shared"], true, "{told}");
        let receipts = format!("/purge/{}", told["id"].as_str().unwrap());
        let receipts = gateway.admin("GET", &receipts).field("authorization", "Bearer s3cret");
        assert_eq!(json_of(&receipts.send().await.code(200))["complete"], true);
        for kind in ["one", "two"] {
            assert!(get(kind).await.cache_status().starts_with("fwd="), "{kind}");
            get(kind).await.status("hit");
        }
        // None of the purges went there.
        origin.saw("/a/1", 4 + 2 * round);
    }
    gateway.get("/a/2").await.status("hit");

    let soft = gateway.ask("SOFTPURGE", "/a/1").field("authorization", "bearer s3cret");
    soft.send().await.code(200);
    origin.on("/a/1").with("if-none-match", "\"v1\"").reply(status(304));
    get("one").await.body("1").status("fwd=stale; fwd-status=304; stored");
    origin.saw("/a/1", 7);
}

#[tokio::test]
async fn where_a_key_policy_answers_a_purge_covers_every_query_of_the_path() {
    let origin = Origin::start().await;
    let routes = "[policies.tidy]\nplugin = \"bundled:normalise-query\"\n\
                  [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                  key = \"tidy\"\npurge = true\n";
    let setup = Gateway::setup(&origin).admin("token = \"s3cret\"").routes(routes);
    let gateway = setup.start().await;
    for target in ["/a?x=1", "/a?y=1", "/b"] {
        origin.on(target).reply(ok("1").max_age(60));
        gateway.get(target).await.status("fwd=uri-miss; stored");
    }
    let ask = gateway.ask("PURGE", "/a?utm_source=x&x=1");
    ask.field("authorization", "Bearer s3cret").send().await.code(200);
    gateway.get("/a?x=1").await.status("fwd=uri-miss; stored");
    gateway.get("/a?y=1").await.status("fwd=uri-miss; stored");
    gateway.get("/b").await.status("hit");
}

#[tokio::test]
async fn a_route_that_does_not_take_purge_passes_it_on() {
    let origin = Origin::start().await;
    let gateway = with_purge(&origin).await;
    origin.on("/b").reply(ok("1").max_age(60));
    gateway.get("/b").await.code(200);
    origin.on("/b").method("PURGE").reply(status(501));
    gateway.ask("PURGE", "/b").send().await.code(501).status("fwd=method");
    gateway.get("/b").await.status("hit");
    origin.saw("/b", 2);
}

#[tokio::test]
async fn a_route_of_certain_methods_takes_purge_besides_or_refuses_it() {
    for (lines, code, allow) in [
        ("methods = [\"GET\"]", 405, Some("GET, HEAD")),
        ("methods = [\"GET\"]\npurge = true", 401, None),
    ] {
        let origin = Origin::start().await;
        let setup = Gateway::setup(&origin).admin("token = \"s3cret\"").route(lines);
        let gateway = setup.start().await;
        let got = gateway.ask("PURGE", "/a").send().await;
        is_problem(&got, code);
        assert_eq!(got.field("allow").as_deref(), allow);
        origin.saw("/a", 0);
    }
    let origin = Origin::start().await;
    let lines = "methods = [\"GET\"]\npurge = true";
    let setup = Gateway::setup(&origin).admin("token = \"s3cret\"").route(lines);
    let refused = setup.start().await.ask("PUT", "/a").send().await.code(405);
    refused.has("allow", "GET, HEAD, PURGE, SOFTPURGE");
}

#[tokio::test]
async fn a_purge_by_method_is_accepted_while_redis_is_out_of_reach() {
    let mut redis = Redis::start();
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).server("workers = 1\nname = \"one\"").redis(&redis);
    let setup = setup.admin("token = \"s3cret\"").route("purge = true");
    let gateway = setup.start().await.in_step().await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.code(200);
    redis.kill();
    until("Redis is down", || !gateway.l2().up).await;
    let ask = gateway.ask("PURGE", "/a").field("authorization", "Bearer s3cret");
    let told = json_of(&ask.send().await.code(202));
    assert_eq!(told["shared"], false, "{told}");
    assert!(told["id"].as_str().unwrap().ends_with("@one"), "{told}");
    gateway.get("/a").await.status("fwd=uri-miss; stored");
}

async fn purge_all_of_a(gateway: &Gateway) {
    ask(gateway, "?wait=5s", &json!({ "keys": ["a"] })).send().await.code(200);
}

#[tokio::test]
async fn what_was_purged_while_a_request_waited_is_not_renewed() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).etag("1"));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.clock().advance(secs(61));

    let held = origin.on("/a").hold(ok("mine").field("cache-control", "private"));
    let leader = tokio::spawn(gateway.ask("GET", "/a").send());
    until("the origin is asked", || origin.count("/a") == 2).await;
    let follower = tokio::spawn(gateway.ask("GET", "/a").send());
    gateway.reaches("followers", 1).await;
    purge_all_of_a(&gateway).await;
    origin.on("/a").reply(ok("2").max_age(60).etag("2"));
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(60));
    held.release();
    leader.await.unwrap().body("mine");
    follower.await.unwrap().body("2");
    gateway.get("/a").await.body("2").status("hit");
}

#[tokio::test]
async fn what_was_purged_while_a_request_waited_stands_in_for_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").field("cache-control", "max-age=60, stale-if-error=600"));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.clock().advance(secs(61));
    for is_purged in [false, true] {
        let held = origin.on("/a").hold(status(503));
        let asked = tokio::spawn(gateway.ask("GET", "/a").send());
        let times = 2 + usize::from(is_purged);
        until("the origin is asked", || origin.count("/a") == times).await;
        if is_purged {
            purge_all_of_a(&gateway).await;
        }
        held.release();
        asked.await.unwrap().code(if is_purged { 503 } else { 200 });
    }
}
