//! Another configuration, and other plugins, while requests run: what tells the gateway to reload,
//! what that changes, and what it leaves alone.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::client::{Ask, Got};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::plugin::fixture;
use crate::support::program::Running;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, until};

const MISS: &str = "fwd=uri-miss; stored";

/// Files of one test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The file that gateways of this test start from.
    fn toml(&self) -> PathBuf {
        self.at("gateway.toml")
    }

    fn write(&self, name: &str, octets: impl AsRef<[u8]>) {
        fs::write(self.at(name), octets).unwrap();
    }

    /// A policy of this plugin, the file of which is here.
    fn policy(&self, name: &str, plugin: &str) -> String {
        let plugin = self.at(plugin);
        format!("[policies.{name}]\nplugin = \"{}\"\ntime = \"10s\"\n", plugin.display())
    }
}

/// A route for all that is below a path.
fn route(name: &str, path: &str, lines: &str) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\npath = \"{path}{{*rest}}\"\nupstream = \"origin\"\n{lines}\n"
    )
}

/// A file that is not looked at by itself.
fn unwatched(origin: &Origin, tables: &str) -> crate::support::gateway::Setup {
    Gateway::setup(origin).server("workers = 1\nwatch = false").routes(tables)
}

/// A key policy's plugin, of which each version is another file that does the same.
fn plugin(version: u8) -> Vec<u8> {
    fixture(&[("more", &format!("(data (i32.const 4000) \"{version}\")"))])
}

async fn reload(gateway: &Gateway) -> Value {
    let got = gateway.admin("POST", "/reload").send().await.code(200);
    serde_json::from_slice(&got.body).unwrap()
}

/// What reloads came to, by `GET /stats`.
async fn reloads(gateway: &Gateway) -> (u64, u64, bool) {
    let stats = gateway.stats().await;
    let told = &stats["reloads"];
    let count = |name: &str| told[name].as_u64().unwrap();
    assert!(count("last_success_timestamp_seconds") > 1_700_000_000, "{told}");
    (count("success"), count("failure"), told["last_successful"].as_bool().unwrap())
}

/// Waits until so many reloads have come to something.
async fn reloaded(gateway: &Gateway, success: u64, failure: u64) {
    let reached = async {
        while {
            let (succeeded, failed, _) = reloads(gateway).await;
            succeeded < success || failed < failure
        } {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{:?}", reloads(gateway).await);
    let (succeeded, failed, _) = reloads(gateway).await;
    assert_eq!((succeeded, failed), (success, failure));
}

#[tokio::test]
async fn a_call_reloads_and_tells_what_has_changed() {
    let (origin, files) = (Origin::start().await, Files::new());
    for target in ["/a/1", "/b/1", "/c/1"] {
        origin.on(target).reply(ok(target).max_age(600));
    }
    let first = [route("a", "/a/", ""), route("b", "/b/", ""), route("old", "/old/", "")].concat();
    let gateway = unwatched(&origin, &first).start_from(&files.toml()).await;
    gateway.get("/a/1").await.status(MISS);
    gateway.get("/b/1").await.status(MISS);
    gateway.get("/c/1").await.code(404);
    origin.on("/old/1").reply(ok("old").max_age(600));
    gateway.get("/old/1").await.status(MISS);

    let second =
        [route("a", "/a/", ""), route("b", "/b/", "ttl = \"5m\""), route("c", "/c/", "")].concat();
    files.write("gateway.toml", unwatched(&origin, &second).text());
    gateway.get("/c/1").await.code(404);
    let told = reload(&gateway).await;
    assert_eq!(
        told["routes"],
        json!({"added": ["c"], "removed": ["old"], "changed": ["b"]}),
        "{told}"
    );
    let none = json!({"added": [], "removed": [], "changed": []});
    assert_eq!((&told["upstreams"], &told["policies"]), (&none, &none));
    for list in ["policies_loaded", "routes_cold", "waiting_for_restart"] {
        assert_eq!(told[list], json!([]), "{list}");
    }
    assert!(told["seconds"].as_f64().unwrap() > 0.0);

    // The store lives on, and a route without policies finds its responses there.
    gateway.get("/a/1").await.body("/a/1").status("hit");
    gateway.get("/b/1").await.body("/b/1").status("hit");
    gateway.get("/c/1").await.body("/c/1").status(MISS);
    gateway.get("/old/1").await.code(404);

    // So do the counters, those of the removed route too.
    let stats = gateway.stats().await;
    for (route, requests) in [("a", 2), ("b", 2), ("c", 1), ("old", 1)] {
        assert_eq!(stats["routes"][route]["total_requests"], requests, "{route} in {stats}");
    }
    assert_eq!(stats["total_requests"], 9);
    assert_eq!(reloads(&gateway).await, (1, 0, true));

    files.write("gateway.toml", unwatched(&origin, &first).text());
    reload(&gateway).await;
    gateway.get("/old/1").await.body("old").status("hit");
    assert_eq!(gateway.stats().await["routes"]["old"]["total_requests"], 2);
    origin.saw("/old/1", 1);
}

#[tokio::test]
async fn what_does_not_load_changes_nothing_and_is_told_whole() {
    let (origin, files) = (Origin::start().await, Files::new());
    let tables = route("a", "/a/", "");
    let gateway = unwatched(&origin, &tables).start_from(&files.toml()).await;
    origin.on("/a/1").reply(ok("1").max_age(600));
    gateway.get("/a/1").await.status(MISS);

    let good = fs::read_to_string(files.toml()).unwrap();
    let faulty = format!(
        "{good}{}{}surprise = 1\n",
        files.policy("missing", "missing.wasm"),
        route("b", "/{*all}/", "")
    );
    for (text, faults) in [
        (
            faulty.as_str(),
            &["unknown key `surprise`", "missing.wasm` does not exist", "{*all}"][..],
        ),
        ("[[[", &["not TOML"]),
        ("", &["no upstreams", "no routes"]),
    ] {
        files.write("gateway.toml", text);
        let got = gateway.admin("POST", "/reload").send().await.code(422);
        let got = got.has("content-type", "application/problem+json");
        let told: Value = serde_json::from_slice(&got.body).unwrap();
        let told = told["faults"].as_array().unwrap();
        assert_eq!(told.len(), faults.len(), "{told:?}");
        for fault in faults {
            let is_told = |told: &Value| told.as_str().unwrap().contains(fault);
            assert!(told.iter().any(is_told), "`{fault}` in {told:?}");
        }
        gateway.get("/a/1").await.body("1").status("hit");
    }
    fs::remove_file(files.toml()).unwrap();
    gateway.admin("POST", "/reload").send().await.code(422);
    gateway.get("/a/1").await.status("hit");
    assert_eq!(reloads(&gateway).await, (0, 4, false));

    files.write("gateway.toml", good);
    reload(&gateway).await;
    assert_eq!(reloads(&gateway).await, (1, 4, true));
}

#[tokio::test]
async fn files_that_change_are_read_again() {
    let (origin, files) = (Origin::start().await, Files::new());
    let tables = |name: &str, plugin: &str| {
        let route = route("all", &format!("/{name}/"), "key = \"p\"");
        let tables = format!("{}{route}", files.policy("p", plugin));
        Gateway::setup(&origin).routes(&tables)
    };
    for name in ["1", "2", "3", "4"] {
        let target = format!("/{name}/x");
        origin.on(&target).reply(ok(target.clone()).max_age(600));
    }
    // As Kubernetes mounts a ConfigMap.
    fs::create_dir(files.at("v1")).unwrap();
    symlink("v1", files.at("data")).unwrap();
    symlink("data/gateway.toml", files.toml()).unwrap();
    files.write("p.wasm", plugin(1));
    let gateway = tables("1", "p.wasm").start_from(&files.toml()).await;
    gateway.get("/1/x").await.code(200);

    // Written over.
    files.write("v1/gateway.toml", tables("2", "p.wasm").text());
    reloaded(&gateway, 1, 0).await;
    gateway.get("/1/x").await.code(404);
    gateway.get("/2/x").await.status(MISS);

    // A link that points elsewhere.
    fs::create_dir(files.at("v2")).unwrap();
    files.write("v2/gateway.toml", tables("3", "p.wasm").text());
    symlink("v2", files.at("new")).unwrap();
    fs::rename(files.at("new"), files.at("data")).unwrap();
    reloaded(&gateway, 2, 0).await;
    gateway.get("/3/x").await.status(MISS);
    gateway.get("/3/x").await.status("hit");

    // A plugin, renamed into place.
    files.write("new.wasm", plugin(2));
    fs::rename(files.at("new.wasm"), files.at("p.wasm")).unwrap();
    reloaded(&gateway, 3, 0).await;
    gateway.get("/3/x").await.status(MISS);

    // One that is not there yet, and then is.
    files.write("v2/gateway.toml", tables("4", "later.wasm").text());
    reloaded(&gateway, 3, 1).await;
    gateway.get("/3/x").await.status("hit");
    files.write("later.wasm", plugin(3));
    reloaded(&gateway, 4, 1).await;
    gateway.get("/4/x").await.status(MISS);
}

#[tokio::test]
async fn sighup_reloads_and_the_log_says_so() {
    let origin = Origin::start().await;
    origin.on("/b/1").reply(ok("1"));
    let text = |path: &str| unwatched(&origin, &route("r", path, "")).text();
    let mut running = Running::with(&text("/a/")).await;
    let write = |text: &str| fs::write(running.folder().join("gateway.toml"), text).unwrap();
    let get = async |running: &Running| Ask::new(running.address(), "GET", "/b/1").send().await;
    get(&running).await.code(404);

    write("[server]\nlisten = 8080\n");
    running.signal("HUP");
    let told = running.says("not reloaded").await;
    assert_eq!(told["cause"], "signal");
    let faults = told["faults"].as_str().unwrap();
    assert!(faults.contains("gateway.toml:2:10: [server]: listen `8080`"), "{faults}");
    get(&running).await.code(404);

    let write = |text: &str| fs::write(running.folder().join("gateway.toml"), text).unwrap();
    write(&text("/b/").replace("workers = 1", "workers = 2"));
    running.signal("HUP");
    let told = running.says("reloaded").await;
    assert_eq!(told["routes_changed"], "[\"r\"]");
    assert_eq!(told["waiting_for_restart"], "[\"[server] workers\"]");
    get(&running).await.code(200).body("1");

    running.signal("TERM");
    assert_eq!(running.exit_code().await, Some(0));
}

#[tokio::test]
async fn without_a_file_there_is_nothing_to_reload() {
    let origin = Origin::start().await;
    let running = Running::upstream(&origin.url()).await;
    Ask::new(running.admin(), "POST", "/reload").send().await.code(409);
    let gateway = Gateway::before(&origin).await;
    gateway.admin("POST", "/reload").send().await.code(409);
    gateway.admin("GET", "/reload").send().await.code(405);
}

#[tokio::test]
async fn keys_that_wait_for_a_restart_are_named_and_the_rest_counts() {
    let (origin, files) = (Origin::start().await, Files::new());
    let tables = route("a", "/a/", "");
    let gateway = unwatched(&origin, &tables).start_from(&files.toml()).await;
    origin.on("/a/1").reply(ok("1").max_age(600));
    origin.on("/b/1").reply(ok("1").max_age(600));
    gateway.get("/a/1").await.status(MISS);

    let tables = [tables, route("b", "/b/", "")].concat();
    let cache =
        "[cache]\nnamespace = \"other\"\nstatus_key = true\n[cache.l1]\ncapacity = \"1MiB\"";
    let setup = unwatched(&origin, &tables).cache(cache).admin("token = \"secret\"");
    files.write("gateway.toml", setup.text().replace("127.0.0.1:0", "127.0.0.1:1"));
    // Both listeners would have one address.
    gateway.admin("POST", "/reload").send().await.code(422);
    let text = setup.text().replacen("127.0.0.1:0", "127.0.0.1:1", 1);
    files.write("gateway.toml", &text);
    let told = reload(&gateway).await;
    assert_eq!(
        told["waiting_for_restart"],
        json!(["[server] listen", "[admin] token", "[cache] namespace", "[cache.l1] capacity"])
    );
    // The namespace is as it was, or this would be a miss; `status_key` counts at once.
    gateway.get("/a/1").await.body("1").status("hit; key=\"a/1\"");
    gateway.get("/b/1").await.code(200);
    assert_eq!(reload(&gateway).await["waiting_for_restart"], told["waiting_for_restart"]);
}

#[tokio::test]
async fn a_route_takes_purge_at_once_and_its_token_with_a_restart() {
    let (origin, files) = (Origin::start().await, Files::new());
    let gateway = unwatched(&origin, &route("a", "/a/", "")).start_from(&files.toml()).await;
    origin.on("/a/1").reply(ok("1").max_age(600));
    gateway.get("/a/1").await.status(MISS);

    let tables = route("a", "/a/", "purge = true");
    let text = unwatched(&origin, &tables).admin("token = \"secret\"").text();
    files.write("gateway.toml", text);
    assert_eq!(reload(&gateway).await["waiting_for_restart"], json!(["[admin] token"]));
    let ask = gateway.ask("PURGE", "/a/1").field("authorization", "Bearer secret");
    ask.send().await.code(403);
    gateway.get("/a/1").await.status("hit");
    origin.saw("/a/1", 1);
}

#[tokio::test]
async fn requests_under_way_end_with_what_they_began_with() {
    let (origin, files) = (Origin::start().await, Files::new());
    files.write("p.wasm", plugin(1));
    let policy = files.policy("p", "p.wasm");
    let tables = [policy, route("a", "/a/", "key = \"p\"\nstoring = \"p\"")].concat();
    let gateway = unwatched(&origin, &tables).start_from(&files.toml()).await;
    let held = origin.on("/a/1").hold(ok("1").max_age(600));
    let asked = tokio::spawn(gateway.ask("GET", "/a/1").send());
    gateway.reaches("upstream_requests", 1).await;

    files.write("gateway.toml", unwatched(&origin, &route("b", "/b/", "")).text());
    let told = reload(&gateway).await;
    assert_eq!(told["policies"]["removed"], json!(["p"]));
    gateway.get("/a/1").await.code(404);
    held.release();
    asked.await.unwrap().body("1").status(MISS);

    // And with the same configuration, what it stored then is there.
    files.write("gateway.toml", unwatched(&origin, &tables).text());
    reload(&gateway).await;
    gateway.get("/a/1").await.body("1").status("hit");
    origin.saw("/a/1", 1);
    // One for the key and one to store; and as the policy was loaded anew, one for the key.
    assert_eq!(gateway.stats().await["policies"]["p"]["calls"], 3);
}

#[tokio::test]
async fn changed_policy_does_not_answer_from_what_the_old_one_stored() {
    let (origin, files) = (Origin::start().await, Files::new());
    let roles = ["key = \"p\"", "storing = \"p\"", "key = \"plain\"\nstoring = \"p\""];
    let routes = roles.iter().enumerate();
    let routes =
        routes.map(|(number, roles)| route(&format!("r{number}"), &format!("/{number}/"), roles));
    let bare = [route("bare", "/3/", ""), route("writes", "/4/", "invalidation = \"p\"")].concat();
    let tables = |config: &str| {
        let plain = format!("[policies.plain]\nplugin = \"bundled:normalise-query\"\n{config}\n");
        [files.policy("p", "p.wasm"), plain, routes.clone().collect(), bare.clone()].concat()
    };
    files.write("p.wasm", plugin(1));
    let gateway = unwatched(&origin, &tables("")).start_from(&files.toml()).await;
    let targets: Vec<String> = (0..5).map(|number| format!("/{number}/x")).collect();
    for target in &targets {
        origin.on(target).reply(ok(target.clone()).max_age(600));
        gateway.get(target).await.status(MISS);
        gateway.get(target).await.status("hit");
    }
    let statuses = async |gateway: &Gateway| {
        let mut statuses = Vec::new();
        for target in &targets {
            let got = gateway.get(target).await.body(target);
            statuses.push(if got.cache_status() == "hit" { "hit" } else { "miss" });
        }
        statuses
    };

    files.write("p.wasm", plugin(2));
    let told = reload(&gateway).await;
    assert_eq!(told["policies_loaded"], json!(["p"]));
    assert_eq!(told["routes_cold"], json!(["r0", "r1", "r2"]));
    assert_eq!(told["routes"]["changed"], json!([]));
    assert_eq!(statuses(&gateway).await, ["miss", "miss", "miss", "hit", "hit"]);

    // Another configuration of an equal plugin is another version, too.
    files.write("gateway.toml", unwatched(&origin, &tables("config = { drop = [\"x\"] }")).text());
    let told = reload(&gateway).await;
    assert_eq!(told["policies_loaded"], json!(["plain"]));
    assert_eq!(told["routes_cold"], json!(["r2"]));
    assert_eq!(statuses(&gateway).await, ["hit", "hit", "miss", "hit", "hit"]);

    // What it had before, the first version finds again.
    files.write("p.wasm", plugin(1));
    files.write("gateway.toml", unwatched(&origin, &tables("")).text());
    assert_eq!(reload(&gateway).await["policies_loaded"], json!(["p", "plain"]));
    assert_eq!(statuses(&gateway).await, ["hit"; 5]);

    // Nothing has changed, so nothing is loaded or cold; nor is it where only `on_error` has.
    assert_eq!(reload(&gateway).await["policies_loaded"], json!([]));
    let text = unwatched(&origin, &tables("on_error = \"fail\"")).text();
    files.write("gateway.toml", format!("# further down\n{text}"));
    let told = reload(&gateway).await;
    assert_eq!((&told["policies_loaded"], &told["routes_cold"]), (&json!([]), &json!([])));
    assert_eq!(told["policies"]["changed"], json!(["plain"]));
    assert_eq!(statuses(&gateway).await, ["hit"; 5]);
}

#[tokio::test]
async fn invalidation_reaches_what_another_version_has_stored() {
    let (origin, files) = (Origin::start().await, Files::new());
    files.write("p.wasm", plugin(1));
    let policy = files.policy("p", "p.wasm");
    let keyed =
        |policy: &str| [policy, &route("a", "/a/", "key = \"p\"\nstoring = \"p\"")].concat();
    let bare = route("a", "/a/", "");
    let gateway = unwatched(&origin, &keyed(&policy)).start_from(&files.toml()).await;
    let to = async |tables: &str| {
        files.write("gateway.toml", unwatched(&origin, tables).text());
        reload(&gateway).await
    };
    origin.on("/a/1?x=1").reply(ok("1").max_age(30));
    origin.on("/a/1").method("PUT").reply(status(204));
    let fill = async || {
        gateway.get("/a/1?x=1").await.body("1").status(MISS);
        gateway.get("/a/1?x=1").await.body("1").status("hit");
    };
    let call = async |method: &str, target: &str| {
        gateway.admin(method, target).send().await.code(200);
    };
    fill().await;
    to(&bare).await;
    call("DELETE", "/tag/path").await;
    to(&keyed(&policy)).await;
    fill().await;
    to(&bare).await;
    call("DELETE", "/pattern/*a/1").await;
    to(&keyed(&policy)).await;
    fill().await;

    // The key of this version answers the target for any query. The write finds no such policy.
    to(&bare).await;
    gateway.ask("PUT", "/a/1").send().await.code(204);
    to(&keyed(&policy)).await;
    fill().await;
    // Nor does it where there is another one.
    files.write("p.wasm", plugin(2));
    reload(&gateway).await;
    gateway.ask("PUT", "/a/1").send().await.code(204);
    files.write("p.wasm", plugin(1));
    reload(&gateway).await;
    fill().await;
}

#[tokio::test]
async fn route_with_another_upstream_begins_cold() {
    let (first, second, files) = (Origin::start().await, Origin::start().await, Files::new());
    let text = |upstream: &str| {
        let routes = route("a", "/a/", "").replace("\"origin\"", &format!("\"{upstream}\""));
        let other = format!("[upstreams.other]\nservers = [\"{}\"]\n", second.url());
        unwatched(&first, &[other, routes].concat())
    };
    for (origin, body) in [(&first, "first"), (&second, "second")] {
        origin.on("/a/1").reply(ok(body).max_age(600).field("surrogate-key", "t"));
    }
    let gateway = text("origin").start_from(&files.toml()).await;
    gateway.get("/a/1").await.body("first").status(MISS);
    files
        .write("gateway.toml", text("other").text().replace("[upstreams.origin]", "[upstreams.o]"));
    assert_eq!(reload(&gateway).await["routes_cold"], json!(["a"]));
    gateway.get("/a/1").await.body("second").status(MISS);

    // What the first has sent is not served now, and is gone all the same.
    gateway.admin("DELETE", "/tag/t").send().await.code(200);
    files.write("gateway.toml", text("origin").text());
    reload(&gateway).await;
    gateway.get("/a/1").await.body("first").status(MISS);
    first.saw("/a/1", 2);
}

#[tokio::test]
async fn comparison_lives_on_while_both_policies_are_the_same() {
    let (origin, files) = (Origin::start().await, Files::new());
    files.write("p.wasm", plugin(1));
    files.write("q.wasm", plugin(1));
    let policies = [files.policy("p", "p.wasm"), files.policy("q", "q.wasm")].concat();
    let tables = |more: &str| {
        let route = route("a", "/a/", &format!("key = \"p\"\nshadow = \"q\"\n{more}"));
        unwatched(&origin, &[policies.clone(), route].concat())
    };
    let gateway = tables("").start_from(&files.toml()).await;
    origin.on("/a/1").reply(ok("1").max_age(600));
    let compared = async |expected: u64| {
        gateway.get("/a/1").await.code(200);
        let answering = gateway.service().gateway();
        let requests = || json!(answering.shadows().next().unwrap().1)["requests"].as_u64();
        until("it is compared", || requests() == Some(expected)).await;
    };
    compared(1).await;
    files.write("gateway.toml", tables("ttl = \"5m\"").text());
    reload(&gateway).await;
    compared(2).await;
    for (number, changed) in ["p.wasm", "q.wasm"].into_iter().enumerate() {
        files.write(changed, plugin(2 + u8::try_from(number).unwrap()));
        reload(&gateway).await;
        compared(1).await;
    }
}

#[tokio::test]
async fn in_a_fleet_both_versions_keep_to_themselves() {
    let (origin, files, redis) = (Origin::start().await, Files::new(), Redis::start());
    files.write("p1.wasm", plugin(1));
    files.write("p2.wasm", plugin(2));
    let start = async |version: u8| {
        let policy = files.policy("p", &format!("p{version}.wasm"));
        let tables = [policy, route("a", "/a/", "key = \"p\"\nstoring = \"p\"")].concat();
        let setup = unwatched(&origin, &tables).redis(&redis);
        setup.start_from(&files.at(&format!("{version}.toml"))).await.in_step().await
    };
    let gateways = [start(1).await, start(2).await, start(1).await];
    origin.on("/a/1").reply(ok("1").max_age(30));
    let fill = async || {
        for (gateway, expected) in gateways.iter().zip([MISS, MISS, "hit"]) {
            gateway.get("/a/1").await.body("1").status(expected);
            gateway.settled().await;
        }
    };
    fill().await;
    // A purge reaches both.
    let got = gateways[1].admin("DELETE", "/tag/path").send().await.code(200);
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    let position = told["id"].as_str().unwrap().parse().unwrap();
    for gateway in &gateways {
        gateway.has_applied(position).await;
    }
    fill().await;
    origin.saw("/a/1", 4);
}

#[tokio::test]
async fn compiled_plugins_are_kept_for_the_next_start() {
    let (origin, files) = (Origin::start().await, Files::new());
    files.write("p.wasm", plugin(1));
    let tables = [files.policy("p", "p.wasm"), route("a", "/a/", "key = \"p\"")].concat();
    origin.on("/a/1").reply(ok("1").max_age(600));
    let start = async || {
        let setup = Gateway::setup(&origin)
            .server("workers = 1\nwatch = false\ncompiled_cache = \"compiled\"")
            .routes(&tables);
        let gateway = setup.start_from(&files.toml()).await;
        gateway.get("/a/1").await.body("1").status(MISS);
        gateway
    };
    let kept = || {
        let mut kept: Vec<_> = fs::read_dir(files.at("compiled"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap()))
            .collect();
        kept.sort();
        kept
    };
    let gateway = start().await;
    let first = kept();
    assert_eq!(first.len(), 1);
    // Nothing is compiled again: the file is still the same.
    start().await;
    assert_eq!(kept(), first);

    // Another version is another file, and the way back has its own still.
    files.write("p.wasm", plugin(2));
    reload(&gateway).await;
    let both = kept();
    assert_eq!(both.len(), 2);
    files.write("p.wasm", plugin(1));
    reload(&gateway).await;
    assert_eq!(kept(), both);

    // What is damaged is compiled anew.
    for entry in fs::read_dir(files.at("compiled")).unwrap() {
        let path = entry.unwrap().path();
        let mut octets = fs::read(&path).unwrap();
        let middle = octets.len() / 2;
        octets[middle] ^= 0x55;
        fs::write(path, octets).unwrap();
    }
    let damaged = kept();
    start().await;
    let renewed = kept();
    assert_ne!(renewed, damaged);
    start().await;
    assert_eq!(kept(), renewed, "it is loaded again");
}

#[tokio::test]
async fn compiled_plugins_are_not_loaded_from_where_others_may_write() {
    let (origin, files) = (Origin::start().await, Files::new());
    fs::create_dir(files.at("open")).unwrap();
    fs::set_permissions(files.at("open"), fs::Permissions::from_mode(0o777)).unwrap();
    origin.on("/a/1").reply(ok("1").max_age(600));
    let open = files.at("open");
    let server = format!("watch = false\ncompiled_cache = \"{}\"", open.display());
    let text = |tables: &str| Gateway::setup(&origin).server(&server).routes(tables).text();
    let mut running = Running::with(&text(&route("a", "/a/", ""))).await;
    // The folder is looked at with the first policy.
    files.write("p.wasm", plugin(1));
    let tables = [files.policy("p", "p.wasm"), route("a", "/a/", "key = \"p\"")].concat();
    fs::write(running.folder().join("gateway.toml"), text(&tables)).unwrap();
    running.signal("HUP");
    let told = running.says("compiled plugins are not kept").await;
    let open = open.canonicalize().unwrap();
    assert_eq!(told["why"], format!("others may write to `{}` (mode 777)", open.display()));
    running.says("reloaded").await;
    Ask::new(running.address(), "GET", "/a/1").send().await.body("1").status(MISS);
    assert_eq!(fs::read_dir(open).unwrap().count(), 0);
}

#[tokio::test]
async fn a_folder_that_takes_no_files_is_told_of_once() {
    let (origin, files) = (Origin::start().await, Files::new());
    origin.on("/c/1").reply(ok("1").max_age(600));
    let folder = files.at("compiled");
    let server = format!("watch = false\ncompiled_cache = \"{}\"", folder.display());
    let text = |names: &[&str]| {
        let tables = names.iter().zip(1..).flat_map(|(name, number)| {
            let file = format!("{name}.wasm");
            files.write(&file, plugin(number));
            let key = format!("key = \"{name}\"");
            [files.policy(name, &file), route(name, &format!("/{name}/"), &key)]
        });
        Gateway::setup(&origin).server(&server).routes(&tables.collect::<String>()).text()
    };
    let mut running = Running::with(&text(&["a"])).await;
    // Not even root can write to it now.
    fs::remove_dir_all(&folder).unwrap();
    fs::write(running.folder().join("gateway.toml"), text(&["a", "b", "c"])).unwrap();
    running.signal("HUP");
    let told = running.says("compiled plugins are not kept").await;
    assert!(told["folder"].as_str().unwrap().ends_with("/compiled"), "{told}");
    let next = running.says("").await;
    assert_eq!(next["cause"], "signal", "the second plugin says nothing: {next}");
    Ask::new(running.address(), "GET", "/c/1").send().await.body("1").status(MISS);
}

/// Asks again and again, over connections that stay and over new ones, until told to stop. How often
/// it asked.
async fn load(address: std::net::SocketAddr, stop: Arc<AtomicBool>, client: usize) -> usize {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let target = format!("/r{}/{}?x={}", asked % 10, client, asked % 7);
        let got: Got = Ask::new(address, "GET", &target).send().await;
        assert_eq!(got.status.as_u16(), 200, "{got:?}");
        assert_eq!(got.body, "content", "{got:?}");
        asked += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_plugins_and_routes_are_replaced() {
    const RELOADS: u8 = 50;
    let (origin, files) = (Origin::start().await, Files::new());
    let tables = |round: u8| {
        // One policy's plugin changes each time, routes come and go, the others stay.
        let mut tables = [files.policy("p", "p.wasm"), files.policy("q", "q.wasm")].concat();
        for number in 0..10 {
            let policy = if number % 2 == 0 { "p" } else { "q" };
            let lines = format!("key = \"{policy}\"\nstoring = \"{policy}\"");
            tables += &route(&format!("r{number}"), &format!("/r{number}/"), &lines);
        }
        tables + &route(&format!("extra{round}"), &format!("/extra{round}/"), "")
    };
    files.write("p.wasm", plugin(0));
    files.write("q.wasm", plugin(0));
    let gateway = unwatched(&origin, &tables(0)).start_from(&files.toml()).await;
    for (number, client) in (0..10).flat_map(|number| (0..4).map(move |it| (number, it))) {
        for query in 0..7 {
            let target = format!("/r{number}/{client}?x={query}");
            origin.on(&target).reply(ok("content").max_age(600));
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..4 {
        clients.spawn(load(gateway.address(), Arc::clone(&stop), client));
    }
    for round in 1..=RELOADS {
        files.write("p.wasm", plugin(round));
        files.write("gateway.toml", unwatched(&origin, &tables(round)).text());
        let told = reload(&gateway).await;
        assert_eq!(told["policies_loaded"], json!(["p"]));
        assert_eq!(told["routes"]["removed"], json!([format!("extra{}", round - 1)]));
        // It answers by the new configuration from now on.
        gateway.get(&format!("/extra{}/1", round - 1)).await.code(404);
    }
    stop.store(true, Ordering::Relaxed);
    let asked: usize = clients.join_all().await.into_iter().sum();
    assert!(asked > usize::from(RELOADS), "{asked} requests were no load");
    assert_eq!(gateway.figure("policy_failures"), 0);
    assert_eq!(gateway.figure("upstream_failures"), 0);
    assert_eq!(reloads(&gateway).await, (u64::from(RELOADS), 0, true));
}
