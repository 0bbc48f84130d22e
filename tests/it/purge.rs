//! `POST /purge` and the shorter calls: what they cover, and what they refuse.

use serde_json::{Value, json};

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};

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
