//! `GET /health`: a word for load balancers, and what is wrong for operators.

use serde_json::{Value, json};

use crate::support::client::Ask;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::plugin::{SPIN, fixture};
use crate::support::program::Running;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, until};

async fn health(gateway: &Gateway, code: u16) -> Value {
    let got = gateway.admin("GET", "/health").send().await.code(code);
    let got = got.has("content-type", "application/health+json").has("cache-control", "no-store");
    serde_json::from_slice(&got.body).unwrap()
}

/// Asks until it has this status.
async fn becomes(gateway: &Gateway, status: &str) -> Value {
    let begun = larder::clock::instant();
    loop {
        let told = health(gateway, 200).await;
        if told["status"] == status {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "never `{status}`: {told}");
    }
}

fn setup(origin: &Origin, url: &str) -> Setup {
    let setup = Gateway::setup(origin).cache("[cache]\nmax_lag = \"1h\"");
    setup.l2(url, "timeout = \"10s\"")
}

#[tokio::test]
async fn all_is_well_without_helpers() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let told = health(&gateway, 200).await;
    let expected = json!({
        "status": "pass", "draining": false, "l2": null, "log": null,
        "mongodb": [], "changes": [], "token_keys": [],
        "failing_policies": [], "reload_error": null,
        "upstreams": [{ "name": "origin", "waiting": 0, "lookup_failures": [], "servers": [{
            "server": origin.url(), "address": null, "backup": false, "state": "up", "in_flight": 0,
            "since": told["upstreams"][0]["servers"][0]["since"], "last_failure": null,
        }] }],
    });
    assert_eq!(told, expected);
}

#[tokio::test]
async fn status_is_for_everyone_and_the_rest_for_operators() {
    let origin = Origin::start().await;
    let redis = Redis::start();
    let setup = setup(&origin, &redis.url()).admin("token = \"s3cret-token\"");
    let gateway = setup.start().await.in_step().await;
    let ask = |authorization: &str| {
        gateway.admin("GET", "/health").field("authorization", authorization).send()
    };
    for wrong in ["", "Bearer wrong", "Basic s3cret-token"] {
        ask(wrong).await.code(200).body("{\"status\":\"pass\"}");
    }
    let head = gateway.admin("HEAD", "/health").send().await.code(200);
    assert!(head.body.is_empty());
    gateway.admin("POST", "/health").send().await.code(405);
    let right = ask("Bearer s3cret-token").await.code(200);
    let told: Value = serde_json::from_slice(&right.body).unwrap();
    assert_eq!(told["l2"]["state"], "up", "{told}");
    gateway.admin("GET", "/stats").send().await.code(401);

    // Without a token it is a web page, or a name that is not loopback, that is told no more.
    let open = Gateway::before(&origin).await;
    for (name, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let got = open.admin("GET", "/health").field(name, value).send().await.code(200);
        got.body("{\"status\":\"pass\"}");
    }
}

#[tokio::test]
async fn redis_that_fails_is_told_of_with_its_reason() {
    let (origin, mut redis) = (Origin::start().await, Redis::start());
    let url = format!("{}?pass=s3cret", redis.url());
    assert_eq!(redis.ask("ACL SETUSER default on >s3cret").unwrap(), "+OK\r\n");
    let gateway = setup(&origin, &url).start().await.in_step().await;
    let told = becomes(&gateway, "pass").await;
    assert_eq!(told["l2"]["state"], "up");
    assert_eq!(told["l2"]["last_error"], Value::Null);
    assert_eq!((&told["log"]["in_contact"], &told["log"]["waiting"]), (&json!(true), &json!(0)));
    assert_eq!(told["log"]["position"], gateway.store().log_position.to_string());
    let up_since = told["l2"]["since"].as_str().unwrap().to_owned();

    redis.kill();
    until("it is noticed", || !gateway.l2().up && !gateway.l2().log_in_step).await;
    gateway.admin("DELETE", "/pattern/a").send().await.code(202);
    let told = health(&gateway, 200).await;
    assert_eq!(told["status"], "warn");
    assert!(["open", "half-open"].contains(&told["l2"]["state"].as_str().unwrap()), "{told}");
    assert!(told["l2"]["since"].as_str().unwrap() >= &*up_since, "{told}");
    assert!(!told["l2"]["last_error"]["text"].as_str().unwrap().is_empty(), "{told}");
    assert_eq!((&told["log"]["in_contact"], &told["log"]["waiting"]), (&json!(false), &json!(1)));
    assert!(!told["log"]["error"].as_str().unwrap().is_empty(), "{told}");
    assert!(!told.to_string().contains("s3cret"), "{told}");

    redis.restart();
    assert_eq!(redis.ask("ACL SETUSER default on >s3cret").unwrap(), "+OK\r\n");
    let told = becomes(&gateway, "pass").await;
    assert_eq!(told["log"]["error"], Value::Null);
    // What was wrong is still there to be read.
    assert!(!told["l2"]["last_error"]["text"].as_str().unwrap().is_empty(), "{told}");

    assert_eq!(redis.ask("AUTH s3cret\r\nREPLICAOF 127.0.0.1 1").unwrap(), "+OK\r\n+OK\r\n");
    until("it is noticed", || gateway.l2().log_of_replica && gateway.l2().log_in_step).await;
    let told = health(&gateway, 200).await;
    let log = &told["log"];
    assert_eq!((&told["status"], &log["of_replica"]), (&json!("warn"), &json!(true)), "{told}");
    assert_eq!((&log["in_contact"], &log["error"]), (&json!(false), &Value::Null), "{told}");
}

#[tokio::test]
async fn policies_that_fail_and_files_that_cannot_be_read_are_told_of() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("spin.wasm"), fixture(&[("key", SPIN)])).unwrap();
    let file = folder.path().join("gateway.toml");
    let tables = format!(
        "[policies.spins]\nplugin = {:?}\ntime = \"10ms\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\nkey = \"spins\"\n",
        folder.path().join("spin.wasm")
    );
    let setup = Gateway::setup(&origin).server("workers = 1\nwatch = false").routes(&tables);
    let right = setup.text();
    let gateway = setup.start_from(&file).await;
    assert_eq!(health(&gateway, 200).await["status"], "pass");

    // It loops for paths of four octets.
    origin.on("/bad").reply(ok("1").max_age(60));
    gateway.get("/bad").await.code(200).body("1").status("fwd=bypass; detail=policy-failed");
    // A call is counted when it has ended, which its request does not wait for.
    let told = becomes(&gateway, "warn").await;
    let failing = &told["failing_policies"];
    assert_eq!((&failing[0]["name"], &failing[0]["failures"]), (&json!("spins"), &json!(1)));
    assert!(failing[0]["last_failure"].as_str().unwrap().ends_with('Z'), "{told}");
    let ago = gateway.stats().await["policies"]["spins"]["last_failure_seconds"].as_f64().unwrap();
    assert!(ago >= 0.0);

    std::fs::write(&file, right.replace("[[routes]]", "[[rotes]]")).unwrap();
    gateway.admin("POST", "/reload").send().await.code(422);
    let told = health(&gateway, 200).await;
    assert!(told["reload_error"]["text"].as_str().unwrap().contains("rotes"), "{told}");
    std::fs::write(&file, &right).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    assert_eq!(health(&gateway, 200).await["reload_error"], Value::Null);
}

#[tokio::test]
async fn gateway_that_is_about_to_end_wants_no_more_requests() {
    let origin = Origin::start().await;
    let mut larder = Running::with(&Gateway::setup(&origin).text()).await;
    let gate = origin.on("/a").hold(ok("1").max_age(60));
    let asked = tokio::spawn(Ask::new(larder.address(), "GET", "/a").send());
    until("the origin is asked", || origin.count("/a") > 0).await;
    Ask::new(larder.admin(), "GET", "/health").send().await.code(200);
    larder.signal("TERM");
    larder.says("stopping").await;
    // It says so as the first thing, and is about to end right after that.
    let leaving = async {
        loop {
            let got = Ask::new(larder.admin(), "GET", "/health").send().await;
            if got.status == 503 {
                return got;
            }
        }
    };
    let got = tokio::time::timeout(PATIENCE, leaving).await.expect("it tells that it ends");
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!((&told["status"], &told["draining"]), (&json!("fail"), &json!(true)));
    gate.release();
    asked.await.unwrap().code(200).body("1");
    assert_eq!(larder.exit_code().await, Some(0));
}
