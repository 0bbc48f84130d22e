//! What operators are told of stored responses: which there are, what of each, and never what is for one
//! user.

use serde_json::Value;

use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::redis::Redis;
use crate::support::secs;

const TWO_ROUTES: &str = "[[routes]]\nname = \"a\"\npath = \"/a/{*rest}\"\nupstream = \"origin\"\n\
                          [[routes]]\nname = \"b\"\npath = \"/b/{*rest}\"\nupstream = \"origin\"\n";

fn json(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

async fn listed(gateway: &Gateway, query: &str) -> Value {
    let got = gateway.admin("GET", &format!("/stored{query}")).send().await.code(200);
    json(&got.has("cache-control", "no-store"))
}

fn names(page: &Value) -> Vec<String> {
    let names = page["responses"].as_array().unwrap().iter();
    names.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

/// All that is told of the one response of this name.
async fn told(gateway: &Gateway, name: &str) -> Value {
    let page = listed(gateway, &format!("?name={name}")).await;
    assert_eq!(page["matched"], 1, "{page}");
    let id = page["responses"][0]["id"].as_str().unwrap();
    json(&gateway.admin("GET", &format!("/stored/{id}")).send().await.code(200))
}

#[tokio::test]
async fn they_are_found_by_route_name_and_tag_and_come_in_order() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(TWO_ROUTES).start().await;
    for (target, size, tags) in
        [("/a/1", 10, "x y"), ("/a/2?q=%20", 3000, "x"), ("/b/1", 200, "y"), ("/b/2", 1, "")]
    {
        let reply = ok("-".repeat(size)).max_age(60).field("content-type", "text/plain");
        origin.on(target).reply(reply.field("surrogate-key", tags));
        gateway.get(target).await.status("fwd=uri-miss; stored");
        gateway.clock().advance(secs(1));
    }
    for (query, expected) in [
        ("", &["a/1", "a/2?q=%20", "b/1", "b/2"][..]),
        ("?sort=-name", &["b/2", "b/1", "a/2?q=%20", "a/1"]),
        ("?sort=size", &["b/2", "a/1", "b/1", "a/2?q=%20"]),
        ("?sort=-size&limit=2", &["a/2?q=%20", "b/1"]),
        ("?sort=age", &["b/2", "b/1", "a/2?q=%20", "a/1"]),
        ("?sort=-age&route=a", &["a/1", "a/2?q=%20"]),
        ("?route=b", &["b/1", "b/2"]),
        ("?route=c", &[]),
        ("?name=*/1", &["a/1", "b/1"]),
        ("?name=a/2%3Fq=%2520", &["a/2?q=%20"]),
        ("?tag=x", &["a/1", "a/2?q=%20"]),
        ("?tag=y&route=b", &["b/1"]),
        ("?tag=z", &[]),
    ] {
        let page = listed(&gateway, query).await;
        assert_eq!(names(&page), expected, "{query}");
        if !query.contains("limit") {
            assert_eq!(page["matched"], expected.len(), "{query}: {page}");
        }
    }
    let first = &listed(&gateway, "?name=a/1").await["responses"][0];
    for (member, expected) in [
        ("route", Value::from("a")),
        ("status", 200.into()),
        ("content_type", "text/plain".into()),
        ("state", "fresh".into()),
        ("content_octets", 10.into()),
    ] {
        assert_eq!(first[member], expected, "{first}");
    }
    // Of something that is told in whole seconds.
    assert!(first["age_seconds"].as_u64().is_some_and(|age| (4..60).contains(&age)), "{first}");
    assert_eq!(told(&gateway, "a/1").await["tags"], serde_json::json!(["x", "y"]));
    assert_eq!(origin.asked().len(), 4, "to look changes nothing");
}

#[tokio::test]
async fn pages_have_each_response_once() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for number in 0..23 {
        let target = format!("/{number}");
        // Some of the same size, so that the key decides.
        origin.on(&target).reply(ok("-".repeat(number % 3)).max_age(60));
        gateway.get(&target).await.status("fwd=uri-miss; stored");
    }
    for sort in ["name", "-name", "size", "-size", "age", "-age"] {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = listed(&gateway, &format!("?sort={sort}&limit=5{cursor}")).await;
            assert_eq!(page["matched"], 23, "{page}");
            all.extend(names(&page));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let whole = names(&listed(&gateway, &format!("?sort={sort}")).await);
        assert_eq!(all, whole, "{sort}");
        assert_eq!(all.len(), 23, "{sort}");
    }
}

#[tokio::test]
async fn what_is_invalidated_is_not_there() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for target in ["/a", "/b", "/c"] {
        origin.on(target).reply(ok("1").max_age(60));
        gateway.get(target).await.status("fwd=uri-miss; stored");
    }
    let id = told(&gateway, "a").await["id"].as_str().unwrap().to_owned();
    gateway.admin("DELETE", "/pattern/a").send().await.code(200);
    gateway.admin("DELETE", "/pattern/b?soft=true").send().await.code(200);
    let page = listed(&gateway, "").await;
    assert_eq!((names(&page), &page["invalidated"]), (vec!["b".into(), "c".into()], &1.into()));
    assert_eq!(page["responses"][0]["state"], "stale", "{page}");
    gateway.admin("GET", &format!("/stored/{id}")).send().await.code(404);
    gateway.clock().advance(secs(61));
    assert_eq!(told(&gateway, "c").await["state"], "stale");
}

#[tokio::test]
async fn a_content_is_shown_where_everybody_would_get_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let text = |kind| ok("<p>Hello</p>").field("content-type", kind).etag("v1");
    let page = || text("text/html");
    origin.on("/open").reply(page().max_age(60));
    gateway.ask("GET", "/open").field("cookie", "session=1").send().await.code(200);
    let shown = told(&gateway, "open").await;
    assert_eq!(shown["content"]["beginning"], "<p>Hello</p>", "{shown}");
    let fields = shown["fields"].as_array().unwrap();
    assert!(fields.contains(&serde_json::json!(["content-type", "text/html"])), "{shown}");

    let public = || page().field("cache-control", "public, max-age=60");
    origin.on("/user").reply(public());
    origin.on("/session").reply(page().max_age(60).field("vary", "cookie"));
    origin.on("/picture").reply(text("image/png").max_age(60));
    gateway.ask("GET", "/user").field("authorization", "Basic YTpi").send().await.code(200);
    gateway.ask("GET", "/session").field("cookie", "session=1").send().await.code(200);
    gateway.get("/picture").await.code(200);
    let for_one = "it may be for one user only";
    for (name, why) in [("user", for_one), ("session", for_one), ("picture", "it is no text")] {
        let told = told(&gateway, name).await;
        assert_eq!(told["content"]["not_shown"], why, "{told}");
        assert!(
            !told.to_string().contains("Hello") && !told.to_string().contains("YTpi"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn nothing_is_shown_that_a_grant_or_a_users_key_has_let_in() {
    let origin = Origin::start().await;
    let variants = "[policies.users]\nplugin = \"bundled:variants\"\ntime = \"10s\"\n\
                    config = { cookie = \"user\", cookie-values = [\"1\", \"2\"] }\n";
    let route = |name: &str, lines: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\npath = \"/{name}/{{*rest}}\"\nupstream = \"origin\"\n\
             key = \"users\"\n{lines}\n"
        )
    };
    let granted = "grants = [\"private\", \"set-cookie\"]";
    let tables = [variants.to_owned(), route("granted", granted), route("keyed", "")].concat();
    let gateway = Gateway::setup(&origin).routes(&tables).start().await;
    let secret = || ok("secret").field("content-type", "text/plain");
    origin.on("/granted/1").reply(secret().field("cache-control", "private, max-age=60"));
    origin.on("/granted/2").reply(secret().max_age(60).field("set-cookie", "session=hidden"));
    origin.on("/keyed/1").reply(secret().max_age(60));
    for target in ["/granted/1", "/granted/2", "/keyed/1"] {
        let ask = gateway.ask("GET", target).field("cookie", "user=1");
        ask.send().await.status("fwd=uri-miss; stored");
        let told = told(&gateway, &format!("{}*", &target[1..])).await;
        assert_eq!(told["content"]["not_shown"], "it may be for one user only", "{told}");
        assert!(!told.to_string().contains("secret") && !told.to_string().contains("hidden"));
    }
}

/// Two gateways, of which the first has stored `/a` in both tiers.
async fn stored_in_a_fleet() -> (Origin, Redis, [Gateway; 2]) {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(60).field("content-type", "text/plain"));
    first.get("/a").await.status("fwd=uri-miss; stored");
    first.settled().await;
    (origin, redis, [first, second])
}

#[tokio::test]
async fn what_everybody_gets_is_known_in_the_fleet() {
    let (_origin, _redis, [_first, second]) = stored_in_a_fleet().await;
    assert_eq!(listed(&second, "").await["matched"], 0, "L2 is not listed");
    second.get("/a").await.status("hit");
    assert_eq!(told(&second, "a").await["content"]["beginning"], "1");
}

#[tokio::test]
async fn one_is_found_in_l2_stays_there_and_can_be_purged() {
    let (_origin, _redis, [first, second]) = stored_in_a_fleet().await;
    let id = listed(&first, "").await["responses"][0]["id"].as_str().unwrap().to_owned();
    let target = format!("/stored/{id}");

    assert_eq!(told(&first, "a").await["tier"], "l1");
    let one = json(&second.admin("GET", &target).send().await.code(200));
    assert_eq!((&one["tier"], &one["name"]), (&"l2".into(), &"a".into()), "{one}");
    assert_eq!((&one["content"]["beginning"], &one["state"]), (&"1".into(), &"fresh".into()));
    assert_eq!(listed(&second, "").await["matched"], 0, "to look moves nothing");

    second.admin("DELETE", &format!("{target}?wait=5s")).send().await.code(200);
    for gateway in [&first, &second] {
        gateway.admin("GET", &target).send().await.code(404);
    }
    first.get("/a").await.status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn what_l2_may_have_is_not_said_to_be_missing_while_it_is_down() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let gateway = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    let id = listed(&gateway, "").await["responses"][0]["id"].as_str().unwrap().to_owned();
    redis.kill();
    for method in ["GET", "DELETE"] {
        let unknown = format!("/stored/{}", "0".repeat(64));
        let got = gateway.admin(method, &unknown).send().await.code(503);
        let detail = json(&got)["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with("L1 has no such response, and L2 does not answer"), "{detail}");
    }
    gateway.admin("GET", &format!("/stored/{id}")).send().await.code(200);
}

#[tokio::test]
async fn one_goes_with_its_variants_and_with_no_other() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for target in ["/a", "/ab"] {
        origin.on(target).reply(ok("1").max_age(60).field("vary", "accept-language"));
        for language in ["de", "en"] {
            let ask = gateway.ask("GET", target).field("accept-language", language);
            ask.send().await.code(200);
        }
    }
    let page = listed(&gateway, "?name=a").await;
    assert_eq!(page["matched"], 2, "{page}");
    let id = page["responses"][0]["id"].as_str().unwrap();
    let one = json(&gateway.admin("GET", &format!("/stored/{id}")).send().await.code(200));
    let variants = one["variants"].as_array().unwrap();
    assert!(variants.len() == 1 && variants[0]["id"] != one["id"], "{one}");

    let receipt = gateway.admin("DELETE", &format!("/stored/{id}?wait=5s")).send().await.code(200);
    let receipt = json(&receipt);
    assert!(receipt["id"].is_string() && receipt["complete"] == true, "{receipt}");
    assert_eq!(names(&listed(&gateway, "").await), ["ab", "ab"]);
    gateway.admin("DELETE", &format!("/stored/{id}")).send().await.code(404);
    let ask = gateway.ask("GET", "/a").field("accept-language", "en");
    ask.send().await.status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let id = "0".repeat(64);
    let long = format!("/stored?name={}", "a".repeat(1025));
    for (method, target, code, detail) in [
        ("GET", "/stored?limit=0", 400, "`limit` is a number from 1 to 500"),
        ("GET", "/stored?limit=501", 400, "`limit` is a number from 1 to 500"),
        ("GET", "/stored?limit=99999999999999999999", 400, "`limit` is a number from 1 to 500"),
        ("GET", "/stored?sort=date", 400, "`sort` is `name`, `age` or `size`"),
        ("GET", "/stored?cursor=x", 400, "`cursor`: not a cursor"),
        ("GET", &format!("/stored?sort=size&cursor={id}61n"), 400, "in another order"),
        ("GET", "/stored?nmae=a", 400, "there is no parameter `nmae` here"),
        ("GET", "/stored?tag=a&tag=b", 400, "the parameter `tag` stands twice"),
        ("GET", "/stored?name=%ff", 400, "`name` is not UTF-8"),
        ("GET", &long, 400, "`name` has more than 1024 octets"),
        ("GET", "/stored/1", 400, "not the id of a stored response"),
        ("GET", &format!("/stored/{}", "A".repeat(64)), 400, "not the id of a stored response"),
        ("GET", &format!("/stored/{id}"), 404, "there is no such response"),
        ("DELETE", &format!("/stored/{id}"), 404, "there is no such response"),
        ("DELETE", &format!("/stored/{id}?sofd=true"), 400, "there is no parameter `sofd` here"),
        ("POST", "/stored", 405, "another method"),
    ] {
        let got = gateway.admin(method, target).send().await.code(code);
        let told = json(&got.clone().has("content-type", "application/problem+json"));
        let said = told["detail"].as_str().unwrap();
        assert!(said.contains(detail), "{method} {target:.80}: {said}");
    }
}
