//! The listener for operators: figures, purges, and who may call.

use serde_json::Value;

use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::raw::{RawOrigin, Step};
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::wire::Line;

fn json(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

#[track_caller]
fn is_problem(got: &Got, code: u16) {
    assert_eq!(got.status.as_u16(), code, "{got:?}");
    assert_eq!(got.field("content-type").as_deref(), Some("application/problem+json"), "{got:?}");
    let told = json(got);
    assert_eq!(told["status"], code, "{told}");
    assert_eq!(told["title"].as_str(), got.status.canonical_reason(), "{told}");
    assert!(told["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{told}");
}

#[track_caller]
fn are(stats: &Value, expected: &[(&str, f64)]) {
    for (path, expected) in expected {
        let figure = stats.pointer(path).unwrap_or_else(|| panic!("no `{path}` in {stats}"));
        assert_eq!(figure.as_f64(), Some(*expected), "`{path}` in {stats}");
    }
}

const TWO_ROUTES: &str = "[[routes]]\nname = \"a\"\npath = \"/a/{*rest}\"\nupstream = \"origin\"\n\
                          [[routes]]\nname = \"b\"\npath = \"/b\"\nupstream = \"origin\"\n";

#[tokio::test]
async fn figures_are_those_that_are_documented() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(TWO_ROUTES).start().await;
    let none = gateway.stats().await;
    are(&none, &[("/total_requests", 0.0), ("/hit_rate", 0.0), ("/layers/l1/hit_rate", 0.0)]);

    origin.on("/a/1").reply(ok("1").max_age(60).etag("v1"));
    origin.on("/b").reply(ok("b").field("cache-control", "no-store"));
    // Route a: a miss, three hits, a write, a miss. Route b: a miss that is not stored.
    for _ in 0..4 {
        gateway.get("/a/1").await.code(200);
    }
    origin.on("/a/1").method("PUT").reply(status(204));
    gateway.ask("PUT", "/a/1").send().await.code(204);
    gateway.get("/a/1").await.code(200);
    gateway.get("/b").await.code(200);
    // And one that no route takes.
    gateway.get("/c").await.code(404);

    let stats = gateway.stats().await;
    are(
        &stats,
        &[
            ("/total_requests", 8.0),
            ("/unrouted_requests", 1.0),
            ("/l1_hits", 3.0),
            ("/l1_misses", 3.0),
            ("/l2_hits", 0.0),
            ("/l2_misses", 0.0),
            ("/upstream_requests", 4.0),
            ("/collapsed", 0.0),
            ("/stored", 2.0),
            ("/upstream_failures", 0.0),
            ("/policy_failures", 0.0),
            // In percent: 3 of 8, and 3 of 6 look-ups.
            ("/hit_rate", 37.5),
            ("/layers/l1/hits", 3.0),
            ("/layers/l1/misses", 3.0),
            ("/layers/l1/hit_rate", 50.0),
            ("/layers/l2/hits", 0.0),
            ("/layers/l2/hit_rate", 0.0),
            ("/routes/a/total_requests", 6.0),
            ("/routes/a/l1_hits", 3.0),
            ("/routes/a/l1_misses", 2.0),
            ("/routes/a/upstream_requests", 3.0),
            ("/routes/a/stored", 2.0),
            ("/routes/a/hit_rate", 50.0),
            ("/routes/b/total_requests", 1.0),
            ("/routes/b/l1_misses", 1.0),
            ("/routes/b/upstream_requests", 1.0),
            ("/routes/b/hit_rate", 0.0),
        ],
    );
    assert_eq!(stats["store"]["l2"], Value::Null);
    assert_eq!(origin.asked().len(), 4, "what the upstream was spared is not counted");
}

#[tokio::test]
async fn figures_of_both_tiers_are_told_apart() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(ok("1").max_age(60));
    first.get("/a").await.status("fwd=uri-miss; stored");
    let is_written = || redis.ask("KEYS larder:r:*").unwrap().starts_with("*1");
    until("L2 has it", is_written).await;
    second.get("/a").await.body("1").status("hit");
    second.get("/a").await.body("1").status("hit");
    are(
        &second.stats().await,
        &[
            ("/total_requests", 2.0),
            ("/l1_hits", 1.0),
            ("/l1_misses", 1.0),
            ("/l2_hits", 1.0),
            ("/l2_misses", 0.0),
            ("/upstream_requests", 0.0),
            ("/hit_rate", 100.0),
            ("/layers/l1/hit_rate", 50.0),
            ("/layers/l2/hit_rate", 100.0),
        ],
    );
    are(
        &first.stats().await,
        &[("/l1_misses", 1.0), ("/l2_misses", 1.0), ("/layers/l2/hit_rate", 0.0)],
    );
    assert_eq!(second.stats().await["store"]["l2"]["up"], true);
    origin.saw("/a", 1);
}

#[tokio::test]
async fn clear_makes_everything_count_as_gone() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for target in ["/a", "/b?c=d"] {
        origin.on(target).reply(ok("1").max_age(60));
        gateway.get(target).await.status("fwd=uri-miss; stored");
        gateway.get(target).await.status("hit");
    }
    let cleared = gateway.admin("POST", "/clear").send().await.code(200);
    let cleared = json(&cleared.has("content-type", "application/json"));
    assert!(cleared["shared"] == true && cleared["id"].is_string(), "{cleared}");
    for target in ["/a", "/b?c=d"] {
        gateway.get(target).await.status("fwd=uri-miss; stored");
        gateway.get(target).await.status("hit");
        origin.saw(target, 2);
    }
}

#[tokio::test]
async fn a_pattern_makes_what_it_names_count_as_gone() {
    const STORED: [&str; 9] = [
        "/",
        "/?page=2",
        "/users",
        "/users/42",
        "/users/42/orders",
        "/users/42?lang=de",
        "/a%2Fb",
        "/gr%C3%BCn",
        "/%ff",
    ];
    let all_but = |gone: &[&str]| -> Vec<_> {
        STORED.into_iter().filter(|target| !gone.contains(target)).collect()
    };
    for (call, gone) in [
        ("/pattern/users/42", &["/users/42"][..]),
        ("/pattern/users/*", &["/users/42", "/users/42/orders", "/users/42?lang=de"]),
        ("/pattern/users*", &["/users", "/users/42", "/users/42/orders", "/users/42?lang=de"]),
        ("/pattern/*/orders", &["/users/42/orders"]),
        ("/pattern/*", &STORED),
        ("/pattern/%2A", &STORED),
        ("/pattern/users%2F42", &["/users/42"]),
        // The query of the call is part of the pattern, as it is of names.
        ("/pattern/users/42?lang=de", &["/users/42?lang=de"]),
        ("/pattern/users/42%3Flang=de", &["/users/42?lang=de"]),
        ("/pattern/users/*?lang=*", &["/users/42?lang=de"]),
        ("/pattern/users/42?lang=%64e", &["/users/42?lang=de"]),
        ("/pattern/users/42?", &[]),
        // Names have paths as they were sent, and a pattern may be written either way.
        ("/pattern/a%2Fb", &["/a%2Fb"]),
        ("/pattern/a%252Fb", &["/a%2Fb"]),
        ("/pattern/a/b", &[]),
        ("/pattern/gr%C3%BCn", &["/gr%C3%BCn"]),
        ("/pattern/%ff", &["/%ff"]),
        ("/pattern/", &["/"]),
        ("/pattern/?page=2", &["/?page=2"]),
        ("/pattern/?*", &["/?page=2"]),
        ("/pattern//users/42", &[]),
        ("/pattern/100%", &[]),
        ("/pattern/%zz%4", &[]),
        ("/pattern/nothing", &[]),
    ] {
        let origin = Origin::start().await;
        let gateway = Gateway::before(&origin).await;
        for target in STORED {
            origin.on(target).reply(ok("1").max_age(60));
            gateway.get(target).await.status("fwd=uri-miss; stored");
        }
        let told = gateway.admin("DELETE", call).send().await;
        assert_eq!(told.status, 200, "{call}: {told:?}");
        assert_eq!(json(&told)["shared"], true, "{call}");
        for target in STORED {
            let expected = if gone.contains(&target) { "fwd=uri-miss; stored" } else { "hit" };
            let got = gateway.get(target).await;
            assert_eq!(got.cache_status(), expected, "{target} after {call}");
        }
        for target in all_but(gone) {
            origin.saw(target, 1);
        }
    }
}

#[tokio::test]
async fn a_purge_reaches_what_is_being_fetched() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, method, call) in [("/a", "POST", "/clear"), ("/b", "DELETE", "/pattern/b*")] {
        let held = origin.on(target).hold(ok("old").max_age(60));
        let early = tokio::spawn(gateway.ask("GET", target).send());
        until("the origin is asked", || origin.count(target) == 1).await;
        gateway.admin(method, call).send().await.code(200);
        held.release();
        early.await.unwrap().body("old");
        origin.on(target).reply(ok("new").max_age(60));
        gateway.get(target).await.body("new").status("fwd=uri-miss; stored");
    }
}

#[tokio::test]
async fn what_is_not_a_call_is_a_problem() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (method, target, code, allow) in [
        ("GET", "/stat", 404, None),
        ("GET", "/stats/", 404, None),
        ("POST", "/clear/all", 404, None),
        ("DELETE", "/pattern", 404, None),
        ("POST", "/stats", 405, Some("GET,HEAD")),
        ("GET", "/clear", 405, Some("POST")),
        ("DELETE", "/clear", 405, Some("POST")),
        ("GET", "/pattern/users/*", 405, Some("DELETE")),
    ] {
        let got = gateway.admin(method, target).send().await;
        is_problem(&got, code);
        assert_eq!(got.field("allow").as_deref(), allow, "{method} {target}");
    }
    let long = format!("/pattern/{}", "a".repeat(1025));
    is_problem(&gateway.admin("DELETE", &long).send().await, 400);
    gateway.admin("DELETE", &long[..long.len() - 1]).send().await.code(200);
}

#[tokio::test]
async fn a_token_is_asked_for_where_there_is_one() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).admin("token = \"s3cret-token\"").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await;
    for (method, target) in
        [("GET", "/stats"), ("POST", "/clear"), ("DELETE", "/pattern/*"), ("GET", "/nothing")]
    {
        for wrong in [
            None,
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer s3cret-tokem"),
            Some("Bearer s3cret-token2"),
            Some("Bearer s3cret"),
            Some("s3cret-token"),
            Some("Basic s3cret-token"),
        ] {
            let mut ask = gateway.admin(method, target);
            if let Some(wrong) = wrong {
                ask = ask.field("authorization", wrong);
            }
            let got = ask.send().await.has("www-authenticate", "Bearer");
            is_problem(&got, 401);
            assert!(!String::from_utf8_lossy(&got.body).contains("s3cret"));
        }
    }
    gateway.get("/a").await.status("hit");

    for right in ["Bearer s3cret-token", "bearer s3cret-token"] {
        let ask = gateway.admin("GET", "/stats").field("authorization", right);
        // With the token, a name that is not loopback and a web page's origin do not matter.
        let ask = ask.field("host", "larder.example").field("origin", "http://ops.example");
        assert_eq!(json(&ask.send().await.code(200))["total_requests"], 2);
    }
    let ask = gateway.admin("POST", "/clear").field("authorization", "Bearer s3cret-token");
    ask.send().await.code(200);
    gateway.get("/a").await.status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn without_a_token_only_this_machine_may_call_and_no_web_page() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let ask = |host: &str| gateway.admin("GET", "/stats").field("host", host);
    for host in ["localhost", "LOCALHOST:9080", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:9080"]
    {
        let got = ask(host).send().await;
        assert_eq!(got.status, 200, "{host}: {got:?}");
    }
    for host in [
        "attacker.example",
        "attacker.example:9080",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "10.0.0.1",
        "[::2]:9080",
        "",
    ] {
        is_problem(&ask(host).send().await, 403);
    }
    for page in ["http://attacker.example", "http://localhost:9080", "null"] {
        is_problem(&ask("localhost").field("origin", page).send().await, 403);
    }
    for (method, target) in [("POST", "/clear"), ("DELETE", "/pattern/*"), ("GET", "/nothing")] {
        let ask = gateway.admin(method, target).field("host", "attacker.example");
        is_problem(&ask.send().await, 403);
    }
    // Nor without any name, as HTTP/1.0 may be.
    let mut client = Line::to(gateway.admin_address()).await;
    client.send(b"GET /stats HTTP/1.0\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.0 403 Forbidden\r\n"));
}

#[tokio::test]
async fn who_asks_for_nothing_is_not_waited_for() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let mut feed = Line::to(gateway.admin_address()).await;
    feed.send("GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut lines = Vec::new();
    for (sent, status) in [
        ("", ""),
        ("GET /stats HTTP/1.1\r\nhost: local", ""),
        ("PRI * HT", ""),
        ("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
    ] {
        let mut line = Line::to(gateway.admin_address()).await;
        line.send(sent).await;
        lines.push((line, sent, status));
    }
    for (mut line, sent, status) in lines {
        let came = line.rest().await;
        assert!(came.starts_with(status), "{sent:?}: {came:?}");
        assert_eq!(came.is_empty(), status.is_empty(), "{sent:?}: {came:?}");
    }
    // What is being answered may take longer: there is an event a second.
    for _ in 0..12 {
        feed.until("event: second").await;
    }
}

#[tokio::test]
async fn clients_have_no_part_in_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (method, target) in [("GET", "/stats"), ("POST", "/clear"), ("DELETE", "/pattern/*")] {
        origin.on(target).reply(status(418).body("the origin's own"));
        gateway.ask(method, target).send().await.code(418).body("the origin's own");
        origin.saw(target, 1);
    }
    // And nothing of the origin is on the operators' listener.
    origin.on("/a").reply(ok("1"));
    is_problem(&gateway.admin("GET", "/a").send().await, 404);
    origin.saw("/a", 0);
}

#[tokio::test]
async fn failures_are_counted() {
    let origin = RawOrigin::start(&[Step::Head]).await;
    let gateway = Gateway::setup_before(&[origin.url()]).start().await;
    for method in ["GET", "POST"] {
        gateway.ask(method, "/a").send().await.code(502);
    }
    are(
        &gateway.stats().await,
        &[("/upstream_failures", 2.0), ("/upstream_requests", 2.0), ("/stored", 0.0)],
    );
}
