//! Policies on routes: the bundled ones, written ones that answer, and ones that fail.

use std::io::Write as _;

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use wit_component::ComponentEncoder;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::plugin::{SPIN, fixture};
use crate::support::{secs, until};

/// `[policies.NAME]`. A busy machine is given time: only what never ends takes it.
fn policy(name: &str, plugin: &str, lines: &str) -> String {
    format!("[policies.{name}]\nplugin = \"{plugin}\"\ntime = \"10s\"\n{lines}\n")
}

/// A route for all that is below a path.
fn route(path: &str, lines: &str) -> String {
    let name = path.trim_matches('/').replace('/', "-");
    format!("[[routes]]\nname = \"all{name}\"\npath = \"{path}{{*rest}}\"\n{lines}\n")
}

/// Policies, and one route for everything.
async fn start(origin: &Origin, policies: &str, lines: &str) -> Gateway {
    let route = route("/", &format!("upstream = \"origin\"\n{lines}"));
    Gateway::setup(origin).routes(&format!("{policies}\n{route}")).start().await
}

/// A plugin in a file that lasts as long as this.
fn file(plugin: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(plugin).unwrap();
    file
}

/// A policy whose plugin is written as text, with something in its places.
fn written(places: &[(&str, &str)], lines: &str) -> (NamedTempFile, String) {
    let file = file(&fixture(places));
    let policy = policy("written", &file.path().display().to_string(), lines);
    (file, policy)
}

/// A policy's figure in `GET /stats`.
async fn counted(gateway: &Gateway, policy: &str, figure: &str) -> u64 {
    let stats = gateway.stats().await;
    stats["policies"][policy][figure].as_u64().unwrap_or_else(|| panic!("{stats}"))
}

// The bundled policies.

#[tokio::test]
async fn order_and_tracking_parameters_share_a_response() {
    let origin = Origin::start().await;
    let policy = policy("plain", "bundled:normalise-query", "");
    let gateway = start(&origin, &policy, "key = \"plain\"").await;
    let first = "/shoes?size=42&utm_source=mail&colour=red";
    origin.on(first).reply(ok("red 42").max_age(600));
    gateway.get(first).await.body("red 42").status("fwd=uri-miss; stored");
    for same in [
        "/shoes?size=42&colour=red",
        "/shoes?colour=red&size=42",
        "/shoes?fbclid=x&colour=red&gclid=y&size=42",
        "/shoes?&colour=red&&size=42&",
    ] {
        gateway.get(same).await.body("red 42").status("hit");
        origin.saw(same, 0);
    }
    // The upstream gets the query as it was sent.
    origin.saw(first, 1);

    for other in [
        "/shoes",
        "/shoes?size=42",
        "/shoes?size=43&colour=red",
        "/shoes?size=42&colour=red&page=2",
        "/shoes?size=42&size=41&colour=red",
        "/shoes?SIZE=42&colour=red",
        "/boots?size=42&colour=red",
    ] {
        origin.on(other).reply(ok(other).max_age(600));
        gateway.get(other).await.body(other).status("fwd=uri-miss; stored");
        gateway.get(other).await.body(other).status("hit");
        origin.saw(other, 1);
    }
    gateway.get(first).await.body("red 42").status("hit");
}

#[tokio::test]
async fn what_is_dropped_and_kept_is_configured() {
    let origin = Origin::start().await;
    let drop = policy("drop", "bundled:normalise-query", "config = { drop = [\"session*\"] }");
    let keep = policy("keep", "bundled:normalise-query", "config = { keep = [\"page\"] }");
    let routes = [
        route("/drop/", "upstream = \"origin\"\nkey = \"drop\""),
        route("/keep/", "upstream = \"origin\"\nkey = \"keep\""),
    ];
    let tables = format!("{drop}{keep}{}", routes.join("\n"));
    let gateway = Gateway::setup(&origin).routes(&tables).start().await;
    for (first, same, other) in [
        ("/drop/a?x=1", "/drop/a?session-id=7&x=1", "/drop/a?x=1&utm_source=mail"),
        ("/keep/a?page=1", "/keep/a?x=7&page=1", "/keep/a?page=2"),
    ] {
        for target in [first, other] {
            origin.on(target).reply(ok(target).max_age(600));
            gateway.get(target).await.body(target).status("fwd=uri-miss; stored");
        }
        gateway.get(same).await.body(first).status("hit");
        origin.saw(same, 0);
    }
}

#[tokio::test]
async fn write_to_a_resource_invalidates_it_and_its_collection() {
    let origin = Origin::start().await;
    let writes = policy("writes", "bundled:rest-writes", "");
    let gateway = start(&origin, &writes, "invalidation = \"writes\"").await;
    let covered = ["/users/42", "/users/42?fields=name", "/users", "/users?page=2", "/users/"];
    let others = ["/users/7", "/users/42/orders", "/teams", "/"];
    let fill = async || {
        for target in covered.into_iter().chain(others) {
            origin.on(target).method("GET").reply(ok(target).max_age(600));
            gateway.get(target).await.body(target);
            gateway.get(target).await.status("hit");
        }
    };
    for method in ["PUT", "PATCH", "DELETE"] {
        fill().await;
        origin.on("/users/42").method(method).reply(status(204));
        gateway.ask(method, "/users/42").send().await.code(204).status("fwd=method");
        for target in covered {
            gateway.get(target).await.body(target).status("fwd=uri-miss; stored");
        }
        for target in others {
            gateway.get(target).await.body(target).status("hit");
        }
    }

    // A new member is a change of the collection.
    origin.on("/users").method("POST").reply(status(201).field("location", "/users/8"));
    gateway.ask("POST", "/users").body("{}").send().await.code(201).status("fwd=method");
    for target in ["/users", "/users?page=2", "/users/"] {
        gateway.get(target).await.body(target).status("fwd=uri-miss; stored");
    }
    gateway.get("/users/42").await.status("hit");

    // What failed changed nothing.
    origin.on("/users/42").method("PUT").reply(status(409));
    gateway.ask("PUT", "/users/42").send().await.code(409).status("fwd=method");
    gateway.get("/users/42").await.status("hit");
    assert_eq!(gateway.figure("policy_failures"), 0);
    assert_eq!(counted(&gateway, "writes", "calls").await, 4);
}

#[tokio::test]
async fn write_that_invalidates_softly_leaves_something_to_validate() {
    let origin = Origin::start().await;
    let writes = policy("writes", "bundled:rest-writes", "config = { soft = true }");
    let gateway = start(&origin, &writes, "invalidation = \"writes\"").await;
    for target in ["/users", "/users/42"] {
        origin.on(target).reply(ok(target).etag("v1").max_age(600));
        gateway.get(target).await.status("fwd=uri-miss; stored");
    }
    origin.on("/users/42").method("PUT").reply(status(204));
    gateway.ask("PUT", "/users/42").send().await.code(204);

    let unchanged = status(304).etag("v1").max_age(600);
    origin.on("/users").with("if-none-match", "\"v1\"").reply(unchanged);
    gateway.get("/users").await.body("/users").status("fwd=stale; fwd-status=304; stored");
    gateway.get("/users").await.body("/users").status("hit");
    // RFC 9111 §4.4 invalidates the target itself, whatever the policy says.
    origin.on("/users/42").method("GET").reply(ok("new").etag("v2").max_age(600));
    gateway.get("/users/42").await.body("new").status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn variants_never_cross() {
    let origin = Origin::start().await;
    let variants = policy(
        "shop",
        "bundled:variants",
        "config = { languages = [\"en\", \"de\"], cookie = \"currency\", cookie-values = [\"EUR\", \"USD\"] }",
    );
    let gateway = start(&origin, &variants, "key = \"shop\"").await;
    let ask = |language: &str, cookie: &str| {
        let ask = gateway.ask("GET", "/shoes").field("accept-language", language);
        if cookie.is_empty() { ask } else { ask.field("cookie", cookie) }
    };
    for (language, cookie, body) in [
        ("de", "currency=EUR", "de EUR"),
        ("de", "currency=USD", "de USD"),
        ("en", "currency=EUR", "en EUR"),
        ("en", "", "en"),
    ] {
        // The origin sets no `Vary`: it is the policy that tells them apart.
        let on = origin.on("/shoes").with("accept-language", language);
        let on = if cookie.is_empty() { on } else { on.with("cookie", cookie) };
        on.reply(ok(body).max_age(600));
    }
    // The origin answers with its last rule that fits, and this one fits all of "en".
    for (language, cookie, body) in
        [("de", "currency=EUR", "de EUR"), ("de", "currency=USD", "de USD"), ("en", "", "en")]
    {
        ask(language, cookie).send().await.body(body).status("fwd=uri-miss; stored");
    }
    for (language, cookie, body) in [
        ("de-AT, en;q=0.5", "currency=EUR", "de EUR"),
        ("fr, de;q=0.9", "theme=dark; currency=USD", "de USD"),
        ("en;q=0.1", "", "en"),
        ("fr", "theme=dark", "en"),
    ] {
        ask(language, cookie).send().await.body(body).status("hit");
    }
    origin.saw("/shoes", 3);

    // A value that the API does not know goes past the cache, both ways.
    origin.on("/shoes").with("cookie", "currency=XXX").reply(ok("de XXX").max_age(600));
    for _ in 0..2 {
        let got = ask("de", "currency=XXX").send().await.body("de XXX");
        got.status("fwd=bypass; detail=\"cookie value not listed\"");
    }
    ask("de", "currency=EUR").send().await.body("de EUR").status("hit");
    // Of two values the API may take the other one, and what is within quotes for none.
    for cookie in [
        "currency=EUR; currency=USD",
        "currency=USD; theme=dark; currency=EUR",
        "theme=\"dark; currency=EUR; a=\"",
        "a=1 theme=\"; currency=EUR; b=x\"",
    ] {
        origin.on("/shoes").with("cookie", cookie).reply(ok("either").max_age(600));
        let got = ask("de", cookie).send().await.body("either");
        got.status("fwd=bypass; detail=several-cookies");
    }
    ask("de", "currency=EUR; currency=EUR").send().await.body("de EUR").status("hit");
    origin.saw("/shoes", 9);
    assert_eq!(gateway.figure("policy_failures"), 0);
}

#[tokio::test]
async fn policy_does_not_widen_what_may_be_shared() {
    let origin = Origin::start().await;
    let policy = policy("plain", "bundled:normalise-query", "");
    let gateway = start(&origin, &policy, "key = \"plain\"").await;
    let private = |body: &'static str| ok(body).field("cache-control", "private, max-age=600");
    for user in ["1", "2"] {
        origin.on("/me?a=1").with("cookie", user).reply(private(user));
        origin.on("/me?utm_source=x&a=1").with("cookie", user).reply(private(user));
    }
    for (user, target) in [("1", "/me?a=1"), ("2", "/me?utm_source=x&a=1"), ("1", "/me?a=1")] {
        let got = gateway.ask("GET", target).field("cookie", user).send().await;
        got.body(user).status("fwd=uri-miss; detail=private");
    }
}

// Where plugins come from, what they are called by, what is remembered.

#[tokio::test]
async fn plugin_may_be_a_module_or_a_component_in_a_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/bundled/normalise-query.wasm");
    let module = std::fs::read(path).unwrap();
    let mut encoder = ComponentEncoder::default().module(&module).unwrap();
    let component = file(&encoder.encode().unwrap());
    // The first is found from the folder of `gateway.toml`.
    for plugin in
        ["plugins/bundled/normalise-query.wasm", path, &component.path().display().to_string()]
    {
        let origin = Origin::start().await;
        let policy = policy("plain", plugin, "config = { drop = [\"x\"] }");
        let gateway = start(&origin, &policy, "key = \"plain\"").await;
        origin.on("/a?b=2&a=1&x=0").reply(ok("1").max_age(600));
        gateway.get("/a?b=2&a=1&x=0").await.body("1").status("fwd=uri-miss; stored");
        gateway.get("/a?a=1&b=2").await.body("1").status("hit");
    }
}

#[tokio::test]
async fn patterns_match_the_names_that_policies_make() {
    let origin = Origin::start().await;
    let config = "config = { languages = [\"en\", \"de\"] }";
    let policy = policy("language", "bundled:variants", config);
    let gateway = start(&origin, &policy, "key = \"language\"").await;
    let names = [
        ("/users/1", "en", "users/1?language=en"),
        ("/users/1", "de", "users/1?language=de"),
        ("/users/2?page=2", "de", "users/2?page=2&language=de"),
        ("/teams/1", "de", "teams/1?language=de"),
        ("/a%20b", "en", "a%20b?language=en"),
    ];
    let ask = |target: &str, language: &str| {
        gateway.ask("GET", target).field("accept-language", language).send()
    };
    for (pattern, covered) in [
        ("users/*", &[0, 1, 2][..]),
        ("*language=de", &[1, 2, 3]),
        ("users/1?language=de", &[1]),
        ("users/1%3Flanguage=en", &[0]),
        // As the name has it, and encoded once more to stand in a URI.
        ("a%20b*", &[4]),
        ("a%2520b*", &[4]),
        ("users/*/1*", &[]),
        ("users/1", &[]),
        ("*", &[0, 1, 2, 3, 4]),
    ] {
        for (target, language, _) in names {
            origin.on(target).reply(ok(target).max_age(600));
            ask(target, language).await.body(target);
            ask(target, language).await.status("hit");
        }
        gateway.admin("DELETE", &format!("/pattern/{pattern}")).send().await.code(200);
        for (place, (target, language, name)) in names.into_iter().enumerate() {
            let is_covered = covered.contains(&place);
            let expected = if is_covered { "fwd=uri-miss; stored" } else { "hit" };
            let got = ask(target, language).await.body(target);
            assert_eq!(got.cache_status(), expected, "`{name}` after `{pattern}`");
        }
    }
}

#[tokio::test]
async fn answers_are_remembered_and_counted() {
    let origin = Origin::start().await;
    let plain = policy("plain", "bundled:normalise-query", "");
    let forgetful = policy("forgetful", "bundled:normalise-query", "remember = 0");
    let routes = [
        route("/plain/", "upstream = \"origin\"\nkey = \"plain\""),
        route("/forgetful/", "upstream = \"origin\"\nkey = \"forgetful\""),
    ];
    let tables = format!("{plain}{forgetful}{}", routes.join("\n"));
    let gateway = Gateway::setup(&origin).routes(&tables).start().await;
    for (name, calls) in [("plain", 2), ("forgetful", 6)] {
        for target in [format!("/{name}/a?x=1"), format!("/{name}/a?x=2")] {
            origin.on(&target).reply(ok("1").max_age(600));
            gateway.get(&target).await.status("fwd=uri-miss; stored");
            gateway.get(&target).await.status("hit");
            gateway.get(&target).await.status("hit");
        }
        assert_eq!(counted(&gateway, name, "calls").await, calls);
        assert_eq!(counted(&gateway, name, "remembered").await, 6 - calls);
        assert_eq!(counted(&gateway, name, "failures").await, 0);
    }
}

// Policies that fail.

/// How the key policy fails for paths of four octets.
const FAULTS: [(&str, &str); 4] = [
    ("traps", "unreachable"),
    ("loops", SPIN),
    ("points outside", "(i32.store (i32.const 168) (i32.const -16))"),
    ("answers err", "(i32.store8 (i32.const 128) (i32.const 1)) (return (i32.const 128))"),
];

#[tokio::test]
async fn failed_key_policy_leads_to_what_its_on_error_says() {
    for (what, fault) in FAULTS {
        let file = file(&fixture(&[("key", fault)]));
        let plugin = file.path().display().to_string();
        // Calls that loop fail by this; others have it to spare on a busy machine.
        let time = if what == "loops" { "50ms" } else { "10s" };
        let tables = ["bypass", "fail", "default"].map(|on_error| {
            let names = format!("upstream = \"origin\"\nkey = \"{on_error}\"");
            let route = route("/", &format!("host = \"{on_error}.example\"\n{names}"));
            format!(
                "[policies.{on_error}]\nplugin = \"{plugin}\"\ntime = \"{time}\"\n\
                 on_error = \"{on_error}\"\n{}",
                route.replace("\"all\"", &format!("\"{on_error}\""))
            )
        });
        let origin = Origin::start().await;
        let gateway = Gateway::setup(&origin).routes(&tables.concat()).start().await;
        let ask = |on_error: &str, target: &str| {
            gateway.ask("GET", target).field("host", &format!("{on_error}.example")).send()
        };
        origin.on("/bad").reply(ok("bad").max_age(600));
        origin.on("/fine").reply(ok("fine").max_age(600));

        for _ in 0..2 {
            let got = ask("bypass", "/bad").await.code(200).body("bad");
            got.status("fwd=bypass; detail=policy-failed");
        }
        origin.saw("/bad", 2);
        for _ in 0..2 {
            let got = ask("fail", "/bad").await.code(502);
            let got = got.status("fwd=bypass; detail=policy-failed");
            let problem: Value = serde_json::from_slice(&got.body).unwrap();
            assert_eq!(problem["detail"], "the policy of this route failed", "no internals");
        }
        origin.saw("/bad", 2);
        ask("default", "/bad").await.body("bad").status("fwd=uri-miss; stored");
        ask("default", "/bad").await.body("bad").status("hit");
        origin.saw("/bad", 3);
        assert_eq!(gateway.figure("policy_failures"), 6, "it {what}");

        for on_error in ["bypass", "fail", "default"] {
            assert_eq!(counted(&gateway, on_error, "failures").await, 2, "it {what}");
            if what != "loops" {
                ask(on_error, "/fine").await.body("fine").status("fwd=uri-miss; stored");
                ask(on_error, "/fine").await.body("fine").status("hit");
            }
        }
    }
}

#[tokio::test]
async fn plugin_that_loops_holds_up_no_other_request() {
    let origin = Origin::start().await;
    let file = file(&fixture(&[("key", SPIN)]));
    let plugin = file.path().display().to_string();
    let tables = [
        format!("[policies.loops]\nplugin = \"{plugin}\"\ntime = \"3s\"\n"),
        policy("plain", "bundled:normalise-query", ""),
        route("/", "upstream = \"origin\"\nkey = \"loops\""),
        route("/plain/", "upstream = \"origin\"\nkey = \"plain\""),
        route("/bare/", "upstream = \"origin\""),
    ];
    let setup = Gateway::setup(&origin).server("workers = 1").routes(&tables.join("\n"));
    let gateway = setup.start().await;
    origin.on("/bad").reply(ok("bad").max_age(600));
    let mut looping = JoinSet::new();
    for _ in 0..4 {
        looping.spawn(gateway.ask("GET", "/bad").send());
    }
    gateway.reaches("total_requests", 4).await;

    for number in 0..20 {
        for target in [format!("/plain/{number}?b=2&a=1"), format!("/bare/{number}")] {
            origin.on(&target).reply(ok("fine").max_age(600));
            gateway.get(&target).await.body("fine").status("fwd=uri-miss; stored");
            gateway.get(&target).await.body("fine").status("hit");
        }
    }
    origin.saw("/bad", 0);
    assert!(looping.try_join_next().is_none(), "they came first, and were answered first");
    for got in looping.join_all().await {
        got.code(200).body("bad").status("fwd=bypass; detail=policy-failed");
    }
    assert_eq!(gateway.figure("policy_failures"), 4);
}

#[tokio::test]
async fn failed_invalidation_policy_invalidates_its_whole_route() {
    for (on_error, others) in
        [("bypass", "fwd=uri-miss; stored"), ("fail", "fwd=uri-miss; stored"), ("default", "hit")]
    {
        let origin = Origin::start().await;
        let line = format!("on_error = \"{on_error}\"");
        let (_file, policy) = written(&[("invalidation", "unreachable")], &line);
        let tables = [
            policy,
            route("/", "upstream = \"origin\"\ninvalidation = \"written\""),
            route("/apart/", "upstream = \"origin\""),
        ];
        let gateway = Gateway::setup(&origin).routes(&tables.join("\n")).start().await;
        for target in ["/a", "/a?x=1", "/b", "/apart/a"] {
            origin.on(target).method("GET").reply(ok(target).max_age(600));
            gateway.get(target).await.status("fwd=uri-miss; stored");
        }
        origin.on("/a").method("PUT").reply(status(204));
        // The write itself went well, and its client is told so.
        gateway.ask("PUT", "/a").send().await.code(204).status("fwd=method");
        gateway.get("/a").await.body("/a").status("fwd=uri-miss; stored");
        gateway.get("/a?x=1").await.body("/a?x=1").status(others);
        gateway.get("/b").await.body("/b").status(others);
        gateway.get("/apart/a").await.status("hit");
        assert_eq!(gateway.figure("policy_failures"), 1);
        assert_eq!(counted(&gateway, "written", "failures").await, 1);
    }
}

// Storing policies.

#[tokio::test]
async fn storing_policy_shortens_freshness_and_never_lengthens_it() {
    let origin = Origin::start().await;
    let (_file, policy) = written(&[], "");
    let gateway = start(&origin, &policy, "storing = \"written\"").await;
    for (target, max_age, left) in [("/long", 600, "ttl=50"), ("/short", 20, "ttl=10")] {
        origin.on(target).reply(ok(target).max_age(max_age));
        gateway.get(target).await.status("fwd=uri-miss; stored");
        gateway.clock().advance(secs(10));
        let hit = gateway.get(target).await.body(target).status("hit");
        assert!(hit.field("cache-status").unwrap().ends_with(left), "{hit:?}");
    }
    gateway.clock().advance(secs(51));
    gateway.get("/long").await.status("fwd=stale; stored");
    gateway.get("/short").await.status("fwd=stale; stored");
}

#[tokio::test]
async fn tag_that_an_invalidation_policy_names_invalidates_what_bears_it() {
    let origin = Origin::start().await;
    let (_file, tags) = written(&[], "");
    let config = "config = { tags = [\"path\"], parents = 0 }";
    let tables = [
        tags,
        policy("writes", "bundled:rest-writes", config),
        route("/tagged/", "upstream = \"origin\"\nstoring = \"written\""),
        route("/plain/", "upstream = \"origin\""),
        route("/other/", "upstream = \"other\"\nstoring = \"written\""),
        route("/writes/", "upstream = \"origin\"\ninvalidation = \"writes\""),
    ];
    let other = format!("[upstreams.other]\nservers = [\"{}\"]", origin.url());
    let setup = Gateway::setup(&origin).upstream(&other).routes(&tables.join("\n"));
    let gateway = setup.start().await;
    let targets = ["/tagged/a", "/tagged/b?x=1", "/plain/a", "/other/a"];
    for target in targets {
        origin.on(target).reply(ok(target).max_age(50));
        gateway.get(target).await.status("fwd=uri-miss; stored");
    }
    origin.on("/writes/1").method("POST").reply(status(204));
    gateway.ask("POST", "/writes/1").send().await.code(204).status("fwd=method");
    // Equal tags of two upstreams stay apart.
    for (target, expected) in
        targets.into_iter().zip(["fwd=uri-miss; stored", "fwd=uri-miss; stored", "hit", "hit"])
    {
        gateway.get(target).await.body(target).status(expected);
    }
}

#[tokio::test]
async fn storing_policy_may_refuse_or_fail() {
    let refuses = "(i32.store8 (i32.const 204) (i32.const 0))";
    let no_tag = "(i32.store (i32.const 244) (i32.const 0))";
    for (what, storing, on_error, detail) in [
        ("refuses", refuses, "default", Some("policy")),
        ("refuses", refuses, "bypass", Some("policy")),
        ("fails", "unreachable", "bypass", Some("policy-failed")),
        ("fails", "unreachable", "fail", Some("policy-failed")),
        ("fails", no_tag, "bypass", Some("policy-failed")),
        ("fails", "unreachable", "default", None),
    ] {
        let origin = Origin::start().await;
        let line = format!("on_error = \"{on_error}\"");
        let (_file, policy) = written(&[("storing", storing)], &line);
        let gateway = start(&origin, &policy, "storing = \"written\"").await;
        origin.on("/a").reply(ok("1").max_age(600));
        // The response is there and correct: the client gets it.
        let not_stored = detail.map(|detail| format!("fwd=uri-miss; detail={detail}"));
        for otherwise in ["fwd=uri-miss; stored", "hit"] {
            let expected = not_stored.as_deref().unwrap_or(otherwise);
            gateway.get("/a").await.code(200).body("1").status(expected);
        }
        let failures = if what == "refuses" { 0 } else { origin.count("/a") as u64 };
        assert_eq!(gateway.figure("policy_failures"), failures, "it {what}, {on_error}");
        until("the figure settles", || gateway.figure("stored") == u64::from(detail.is_none()))
            .await;
    }
}
