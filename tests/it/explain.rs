//! Explanations: what is told of a request is what then happens to it, and telling changes nothing.

use serde_json::{Value, json};

use crate::support::client::Got;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::plugin::fixture;
use crate::support::redis::Redis;
use crate::support::secs;

type Fields<'a> = &'a [(&'a str, &'a str)];

/// `POST /explain` of a request to the clients' listener.
async fn explained(gateway: &Gateway, method: &str, target: &str, fields: Fields<'_>) -> Value {
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let host = fields.iter().find(|(name, _)| *name == "host").map(|(_, value)| *value);
    let host = host.map_or_else(|| gateway.address().to_string(), str::to_owned);
    let asked = json!({
        "url": format!("http://{host}{target}"), "method": method, "fields": lines,
    });
    let ask = gateway.admin("POST", "/explain").field("content-type", "application/json");
    let got = ask.body(asked.to_string()).send().await.code(200);
    serde_json::from_slice(&got.body).unwrap()
}

async fn asked(gateway: &Gateway, method: &str, target: &str, fields: Fields<'_>) -> Got {
    let ask = gateway.ask(method, target);
    let fields = fields.iter().filter(|(name, _)| *name != "host");
    fields.fold(ask, |ask, (name, value)| ask.field(name, value)).send().await
}

/// What does not change by itself.
async fn figures(gateway: &Gateway) -> Value {
    let mut stats = gateway.stats().await;
    for policy in stats["policies"].as_object_mut().into_iter().flatten() {
        // How long ago that was.
        policy.1["last_failure_seconds"].take();
    }
    let names = ["routes", "layers", "upstreams", "policies", "total_requests"];
    names.map(|name| stats[name].clone()).into_iter().collect()
}

/// Whether all that was told of `Cache-Status` is in what came, and a hit is a hit.
fn is_begun(told: &str, came: &str) -> bool {
    let parts = |text: &str| {
        let parts = text.split("; ").filter(|part| *part != "larder" && !part.starts_with("ttl="));
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let (told, came) = (parts(told), parts(came));
    told.iter().all(|part| came.contains(part))
        && came.contains(&"hit".to_owned()) == told.contains(&"hit".to_owned())
}

/// Asks what would happen, has it happen, and compares. Answers what was told.
async fn comes_true(
    (gateway, origin): (&Gateway, &Origin),
    method: &str,
    target: &str,
    fields: Fields<'_>,
) -> Value {
    let (before, seen) = (figures(gateway).await, origin.asked().len());
    let told = explained(gateway, method, target, fields).await;
    assert_eq!(origin.asked().len(), seen, "nothing is sent to explain {target}");
    assert_eq!(figures(gateway).await, before, "nothing is counted to explain {target}");
    let got = asked(gateway, method, target, fields).await;
    let item = told["outcome"]["cache_status"].as_str().unwrap_or_default();
    assert!(is_begun(item, &got.cache_status()), "{target}: told {item}, came {got:?}\n{told:#}");
    let is_sent = origin.asked().len() > seen;
    let does = told["outcome"]["does"].as_str().unwrap();
    match does {
        "hit" | "answer" => assert!(!is_sent, "{target}: {told:#}"),
        "forward" => {
            assert!(is_sent, "{target}: {told:#}");
            let sent = origin.asked().pop().unwrap();
            for condition in told["forward"]["conditions"].as_array().unwrap() {
                let name = condition["name"].as_str().unwrap();
                assert_eq!(sent.field(name).as_deref(), condition["value"].as_str(), "{target}");
            }
            assert_eq!(told["forward"]["target"], sent.target);
        }
        _ => {}
    }
    if does == "answer" {
        assert_eq!(told["outcome"]["status"], got.status.as_u16(), "{target}");
    }
    told
}

#[tokio::test]
async fn what_is_told_is_what_then_happens() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"1KiB\"").start().await;
    let pair = (&gateway, &origin);

    // Nothing is stored, then it is, and then it is stale.
    origin.on("/a").reply(ok("1").max_age(60).etag("1"));
    let told = comes_true(pair, "GET", "/a", &[]).await;
    assert_eq!((&told["l1"]["state"], &told["stored"]), (&json!("nothing"), &Value::Null));
    assert_eq!((&told["key"]["name"], &told["route"]["name"]), (&json!("a"), &json!("all")));
    assert_eq!((&told["storing"]["may"], &told["l2"]["state"]), (&json!(true), &json!("off")));
    let told = comes_true(pair, "GET", "/a", &[]).await;
    assert_eq!(told["outcome"]["does"], "hit");
    assert_eq!(
        (&told["stored"]["lifetime_by"], &told["stored"]["tier"]),
        (&json!("max-age"), &json!("l1"))
    );
    let told = comes_true(pair, "HEAD", "/a", &[]).await;
    assert_eq!(told["outcome"]["does"], "hit");
    let told = comes_true(pair, "GET", "/a", &[("cache-control", "max-age=0")]).await;
    assert_eq!(told["outcome"]["cache_status"], "larder; fwd=request");
    assert_eq!(told["request"]["directives"], json!(["max-age=0"]));
    let told = comes_true(pair, "GET", "/a", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(told["outcome"]["does"], "hit");
    gateway.clock().advance(secs(100));
    let told = comes_true(pair, "GET", "/a", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(
        (&told["outcome"]["does"], &told["outcome"]["status"]),
        (&json!("answer"), &json!(504))
    );
    let told = comes_true(pair, "GET", "/a", &[]).await;
    assert_eq!(told["outcome"]["cache_status"], "larder; fwd=stale");
    assert_eq!(
        told["forward"]["conditions"],
        json!([{ "name": "if-none-match", "value": "\"1\"" }])
    );

    // What is not for the cache.
    for (method, target, fields, item) in [
        ("POST", "/a", &[][..], "larder; fwd=method"),
        ("GET", "/a", &[("if-match", "\"1\"")], "larder; fwd=bypass"),
        ("HEAD", "/nothing", &[], "larder; fwd=uri-miss"),
    ] {
        let told = comes_true(pair, method, target, fields).await;
        assert_eq!(
            (&told["outcome"]["cache_status"], &told["storing"]["may"]),
            (&json!(item), &json!(false))
        );
    }

    // Served stale, and validated meanwhile.
    origin
        .on("/swr")
        .reply(ok("1").field("cache-control", "max-age=60, stale-while-revalidate=60"));
    asked(&gateway, "GET", "/swr", &[]).await.code(200);
    gateway.clock().advance(secs(100));
    let told = comes_true(pair, "GET", "/swr", &[]).await;
    assert_eq!(told["outcome"]["does"], "hit-stale");
    assert_eq!(told["forward"]["method"], "GET");
}

#[tokio::test]
async fn what_does_not_go_forward_is_told() {
    let origin = Origin::start().await;
    let routes = "[[routes]]\nname = \"users\"\npath = \"/u-{id}/{*rest}\"\nupstream = \"origin\"\n\
                  rewrite = { path = \"/users/{id}/{rest}\" }\n";
    let gateway = Gateway::setup(&origin).routes(routes).start().await;
    let pair = (&gateway, &origin);
    let rows: [(&str, Fields<'_>, &str); 4] = [
        ("GET", &[], "larder; fwd=uri-miss; detail=dot-segments"),
        ("HEAD", &[], "larder; fwd=uri-miss; detail=dot-segments"),
        ("POST", &[], "larder; fwd=method; detail=dot-segments"),
        ("GET", &[("if-match", "\"1\"")], "larder; fwd=bypass; detail=dot-segments"),
    ];
    for (method, fields, item) in rows {
        let told = comes_true(pair, method, "/u-../admin", fields).await;
        let outcome = &told["outcome"];
        assert_eq!((&outcome["does"], &outcome["status"]), (&json!("answer"), &json!(400)));
        assert_eq!((&outcome["cache_status"], &told["forward"]), (&json!(item), &Value::Null));
    }
    origin.on("/users/1/a").reply(ok("1"));
    let fields = [("x_tenant", "1"), ("x-tenant", "2")];
    let told = comes_true(pair, "GET", "/u-1/a", &fields).await;
    let names = told["request"]["fields"].as_array().unwrap();
    assert!(names.contains(&json!("x-tenant")) && !names.contains(&json!("x_tenant")), "{told:#}");
    assert_eq!(told["request"]["dropped"], json!(["x_tenant"]));
}

#[tokio::test]
async fn why_the_last_response_was_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("max_body = \"1KiB\"").start().await;
    let with = |field: &str, value: &str| ok("1").max_age(60).field(field, value);
    let rows: [(&str, Reply, Fields<'_>); 9] = [
        ("no-freshness", ok("1"), &[]),
        ("no-store", ok("1").field("cache-control", "no-store"), &[]),
        ("private", ok("1").field("cache-control", "private, max-age=60"), &[]),
        ("set-cookie", with("set-cookie", "session=s3cret"), &[]),
        ("vary-any", with("vary", "*"), &[]),
        ("vary-client", with("vary", "Accept, Forwarded"), &[]),
        ("authorization", ok("1").max_age(60), &[("authorization", "Bearer s3cret")]),
        ("too-large", ok("x".repeat(2000)).max_age(60), &[]),
        ("request-no-store", ok("1").max_age(60), &[("cache-control", "no-store")]),
    ];
    for (reason, reply, fields) in rows {
        let target = format!("/{reason}");
        origin.on(&target).reply(reply);
        let told = comes_true((&gateway, &origin), "GET", &target, fields).await;
        assert_eq!(told["last_refusal"], Value::Null, "{reason}");
        let told = comes_true((&gateway, &origin), "GET", &target, fields).await;
        assert_eq!(told["last_refusal"]["reason"], reason, "{told:#}");
        assert_eq!(told["last_refusal"]["status"], 200);
        assert!(!told.to_string().contains("s3cret"), "{told:#}");
        if reason != "too-large" {
            let status = asked(&gateway, "GET", &target, fields).await.cache_status();
            assert!(status.contains(&format!("detail={reason}")), "{status}");
        }
        // Once it is stored, that is over.
        origin.on(&target).reply(ok("2").field("cache-control", "public, max-age=60"));
        asked(&gateway, "GET", &target, &[]).await.code(200);
        let told = comes_true((&gateway, &origin), "GET", &target, &[]).await;
        assert_eq!(
            (&told["last_refusal"], &told["outcome"]["does"]),
            (&Value::Null, &json!("hit"))
        );
    }
    let refused = explained(&gateway, "GET", "/gone", &[]).await;
    assert_eq!(refused["last_refusal"], Value::Null);
}

#[tokio::test]
async fn the_bound_that_content_is_beyond_is_named() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("x".repeat(3000)).max_age(60));
    let small = "[cache.l1]\ncapacity = \"2KiB\"";
    for (cache, rule) in [
        ("", "no more than 1024 octets of content (`max_body`)"),
        (small, "no more than 1024 octets of content (`max_body`)"),
        (
            "[cache.l1]\ncapacity = \"1000B\"",
            "no more than 1000 octets of content (`capacity` of L1, or `max_size` of L2)",
        ),
    ] {
        let setup = Gateway::setup(&origin).cache(cache).route("max_body = \"1KiB\"");
        let gateway = setup.start().await;
        asked(&gateway, "GET", "/a", &[]).await.code(200);
        let told = explained(&gateway, "GET", "/a", &[]).await;
        let rules = told["storing"]["rules"].as_array().unwrap();
        assert!(rules.contains(&json!(rule)), "{told:#}");
        let why = told["last_refusal"]["why"].as_str().unwrap();
        for bound in ["`max_body`", "`capacity`", "`max_size`"] {
            assert!(why.contains(bound), "{why}");
        }
    }
}

#[tokio::test]
async fn which_rule_gives_a_lifetime() {
    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const LATER: &str = "Sat, 06 Nov 2094 12:01:00 GMT";
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).cache("[cache]\ntargeted = [\"CDN-Cache-Control\"]");
    let routes = "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
                  [[routes]]\nname = \"ttl\"\npath = \"/ttl\"\nupstream = \"origin\"\nttl = \"5m\"\n";
    let gateway = setup.routes(routes).start().await;
    for (target, reply, rule) in [
        ("/1", ok("1").field("cache-control", "max-age=1, s-maxage=60"), "s-maxage"),
        ("/2", ok("1").max_age(60), "max-age"),
        ("/3", ok("1").max_age(1).field("cdn-cache-control", "max-age=60"), "targeted"),
        ("/4", ok("1").field("expires", LATER), "expires"),
        ("/5", ok("1").field("last-modified", NOON), "heuristic"),
        ("/ttl", ok("1"), "route-ttl"),
    ] {
        origin.on(target).reply(reply);
        asked(&gateway, "GET", target, &[]).await.code(200);
        let told = comes_true((&gateway, &origin), "GET", target, &[]).await;
        assert_eq!(told["stored"]["lifetime_by"], rule, "{target}: {told:#}");
        assert_eq!(told["outcome"]["does"], "hit", "{target}");
    }
    let told = explained(&gateway, "GET", "/ttl", &[]).await;
    assert_eq!(told["route"]["runners_up"][0]["name"], "all");
    assert_eq!(told["route"]["runners_up"][0]["lost_by"], "path");
}

#[tokio::test]
async fn what_has_invalidated_a_response_and_who() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("name = \"shop-1\"\nworkers = 1").start().await;
    let pair = (&gateway, &origin);
    for target in ["/tag", "/soft", "/written", "/pattern"] {
        origin.on(target).reply(ok("1").max_age(600).etag("1").field("cache-tag", "books"));
        asked(&gateway, "GET", target, &[]).await.code(200);
    }
    asked(&gateway, "POST", "/written", &[]).await;
    let told = comes_true(pair, "GET", "/written", &[]).await;
    assert_eq!(told["l1"]["verdict"], "gone");
    assert_eq!(told["outcome"]["cache_status"], "larder; fwd=uri-miss");
    let by = |told: &Value| {
        let by = &told["stored"]["invalidated"];
        json!([by["covers"], by["label"], by["cause"], by["by"], by["soft"]])
    };
    assert_eq!(by(&told), json!(["target", "/written", "write", "shop-1", false]));

    gateway.admin("DELETE", "/pattern/patt*").send().await.code(200);
    let told = comes_true(pair, "GET", "/pattern", &[]).await;
    assert_eq!(by(&told), json!(["pattern", "patt*", "purge", "shop-1", false]));

    let soft = gateway.admin("DELETE", "/tag/books?soft=true").send().await;
    soft.code(200);
    origin.on("/soft").with("if-none-match", "\"1\"").reply(status(304));
    let told = comes_true(pair, "GET", "/soft", &[]).await;
    assert_eq!(
        (&told["l1"]["verdict"], &told["outcome"]["cache_status"]),
        (&json!("stale"), &json!("larder; fwd=stale"))
    );
    assert_eq!(by(&told), json!(["tag", "books", "purge", "shop-1", true]));
    assert_eq!(told["stored"]["tags"], json!([{ "tag": "books", "by": "response" }]));

    gateway.admin("DELETE", "/tag/books").send().await.code(200);
    let told = comes_true(pair, "GET", "/tag", &[]).await;
    assert_eq!(told["l1"]["verdict"], "gone");
    assert_eq!(by(&told), json!(["tag", "books", "purge", "shop-1", false]));
    // What came after it is valid, and what was there before is still told.
    let told = comes_true(pair, "GET", "/tag", &[]).await;
    assert_eq!(
        (&told["l1"]["verdict"], &told["stored"]["invalidated"]),
        (&json!("valid"), &Value::Null)
    );
    assert_eq!(told["last_invalidation"]["covers"], "tag");
}

#[tokio::test]
async fn variants_and_what_only_l2_has() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let host = ("host", crate::support::gateway::FLEET);
    let gateway = Gateway::of_fleet(&origin, &redis).await;
    let pair = (&gateway, &origin);
    origin.on("/v").reply(ok("1").max_age(600).field("vary", "accept-language"));
    asked(&gateway, "GET", "/v", &[("accept-language", "de")]).await.code(200);
    let told = comes_true(pair, "GET", "/v", &[host, ("accept-language", "fr")]).await;
    assert_eq!(told["outcome"]["cache_status"], "larder; fwd=vary-miss");
    assert_eq!(told["l1"]["variants"], json!({ "known": 1, "vary": [["accept-language"]] }));
    let told = comes_true(pair, "GET", "/v", &[host, ("accept-language", "de")]).await;
    assert_eq!(
        (&told["outcome"]["does"], &told["stored"]["vary"]),
        (&json!("hit"), &json!(["accept-language"]))
    );
    gateway.settled().await;

    let other = Gateway::of_fleet(&origin, &redis).await;
    for _ in 0..2 {
        // It does not move into L1.
        let told = explained(&other, "GET", "/v", &[host, ("accept-language", "de")]).await;
        assert_eq!(
            (&told["l1"]["state"], &told["l2"]["state"]),
            (&json!("nothing"), &json!("variants"))
        );
        assert_eq!(
            (&told["outcome"]["does"], &told["stored"]["tier"]),
            (&json!("hit"), &json!("l2"))
        );
    }
    let told = comes_true((&other, &origin), "GET", "/v", &[host, ("accept-language", "de")]).await;
    assert_eq!(told["l1"]["state"], "nothing");
    let told = told_of_l1(&other, host).await;
    assert_eq!(told["l1"]["state"], "variants");
}

async fn told_of_l1(gateway: &Gateway, host: (&str, &str)) -> Value {
    explained(gateway, "GET", "/v", &[host, ("accept-language", "de")]).await
}

#[tokio::test]
async fn a_purge_is_told_as_it_is_answered() {
    let origin = Origin::start().await;
    let setup = Gateway::setup(&origin).admin("token = \"s3cret\"").route("purge = true");
    let gateway = setup.start().await;
    let rows = [("s3cret", "purge", 200, Value::Null), ("wrong", "answer", 401, json!(401))];
    for (token, does, code, status) in rows {
        let bearer = format!("Bearer {token}");
        let asked = json!({
            "url": format!("http://{}/a", gateway.address()), "method": "PURGE",
            "fields": [format!("authorization: {bearer}")],
        });
        let ask = gateway.admin("POST", "/explain").field("content-type", "application/json");
        let ask = ask.field("authorization", "Bearer s3cret").body(asked.to_string());
        let got = ask.send().await.code(200);
        let told: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(told["outcome"]["does"], does, "{told:#}");
        assert_eq!(told["outcome"]["status"], status, "{told:#}");
        gateway.ask("PURGE", "/a").field("authorization", &bearer).send().await.code(code);
    }
}

#[tokio::test]
async fn who_of_a_fleet_has_purged() {
    let redis = Redis::start();
    let origin = Origin::start().await;
    let host = ("host", crate::support::gateway::FLEET);
    let start = async |name: &str| {
        let server = format!("workers = 1\nname = \"{name}\"");
        Gateway::setup(&origin).server(&server).redis(&redis).start().await.in_step().await
    };
    let (one, other) = (start("one").await, start("other").await);
    origin.on("/a").reply(ok("1").max_age(600).field("cache-tag", "books"));
    asked(&one, "GET", "/a", &[]).await.code(200);
    other.admin("DELETE", "/tag/books?wait=10s").send().await.code(200);
    let told = comes_true((&one, &origin), "GET", "/a", &[host]).await;
    let by = &told["stored"]["invalidated"];
    assert_eq!((&by["covers"], &by["label"]), (&json!("tag"), &json!("books")), "{told:#}");
    assert_eq!((&by["cause"], &by["by"]), (&json!("purge"), &json!("other")));
}

#[tokio::test]
async fn what_may_have_been_invalidated_unheard_of() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let route = |name: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"origin\"\n\
             on_lag = \"{name}\"\n"
        )
    };
    let setup = Gateway::setup(&origin).cache("[cache]\nmax_lag = \"2s\"");
    let setup = setup.l2(&redis.url(), "timeout = \"200ms\"");
    let names = ["serve", "validate", "bypass"];
    let gateway = setup.routes(&names.map(route).concat()).start().await.in_step().await;
    let host = ("host", crate::support::gateway::FLEET);
    for name in names {
        let target = format!("/{name}");
        origin.on(&target).reply(ok("1").max_age(600).etag("1"));
        asked(&gateway, "GET", &target, &[]).await.code(200);
    }
    crate::lag::has_contact(&gateway).await;
    redis.hold();
    crate::lag::lags(&gateway).await;
    for (name, does, conditions) in
        [("serve", "hit", 0), ("validate", "forward", 1), ("bypass", "forward", 0)]
    {
        let told = comes_true((&gateway, &origin), "GET", &format!("/{name}"), &[host]).await;
        assert_eq!(told["outcome"]["does"], does, "{told:#}");
        assert!(told["outcome"]["cache_status"].as_str().unwrap().contains("unconfirmed"));
        let told = told["forward"]["conditions"].as_array().map_or(0, Vec::len);
        assert_eq!(told, conditions, "{name}");
    }
}

#[cfg(feature = "mongodb")]
#[tokio::test]
async fn documents_are_explained_as_any_origin_is() {
    use crate::support::mongodb::MongoDb;

    let mongodb = MongoDb::start().await;
    let user = mongodb::bson::doc! { "_id": "1", "name": "a" };
    mongodb.collection("users").insert_many([user]).await.unwrap();
    let route = "[[routes]]\nname = \"users\"\npath = \"/users/{id}\"\nttl = \"5m\"\n\
                 document = { mongodb = \"shop\", database = \"app\", collection = \"users\", \
                 find = { _id = \"{id}\" } }\n";
    let gateway = Gateway::setup_of_documents(&mongodb.uri()).routes(route).start().await;
    let told = explained(&gateway, "GET", "/users/1", &[]).await;
    assert_eq!(told["forward"]["documents"], "mongodb:app.users");
    assert_eq!(
        (&told["forward"]["upstream"], &told["outcome"]["does"]),
        (&Value::Null, &json!("forward"))
    );
    assert_eq!(gateway.figure("upstream_requests"), 0);
    gateway.get("/users/1").await.code(200).status("fwd=uri-miss; stored");
    let told = explained(&gateway, "GET", "/users/1", &[]).await;
    assert_eq!(
        (&told["outcome"]["does"], &told["stored"]["lifetime_by"]),
        (&json!("hit"), &json!("route-ttl"))
    );
    let tags = told["stored"]["tags"].as_array().unwrap();
    assert!(tags.iter().any(|tag| tag["tag"] == "mongodb:app.users"), "{tags:?}");
    gateway.get("/users/1").await.code(200).status("hit");
}

/// Routes with policies: one drops parameters, one needs a field, and two trap, by paths of four octets.
fn with_policies(origin: &Origin, faulty: &str) -> Setup {
    let route = |name: &str, lines: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\npath = \"/{name}/{{*rest}}\"\nupstream = \"origin\"\n{lines}\n"
        )
    };
    Gateway::setup(origin).routes(&format!(
        "[policies.plain]\nplugin = \"bundled:normalise-query\"\ntime = \"10s\"\n\
         [policies.tenant]\nplugin = \"bundled:tenant\"\ntime = \"10s\"\nconfig = {{ field = \"x-tenant\" }}\n\
         [policies.faulty]\nplugin = \"{faulty}\"\ntime = \"10s\"\non_error = \"bypass\"\n\
         [policies.fatal]\nplugin = \"{faulty}\"\ntime = \"10s\"\non_error = \"fail\"\n{}{}{}{}{}",
        route("plain", "key = \"plain\""),
        route("tenant", "key = [\"tenant\", \"plain\"]"),
        route("b", "key = \"faulty\""),
        route("f", "key = \"fatal\""),
        route("none", ""),
    ))
}

#[tokio::test]
async fn what_policies_say() {
    let origin = Origin::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), fixture(&[("key", "unreachable")])).unwrap();
    let setup = with_policies(&origin, &file.path().display().to_string());
    let gateway = setup.start().await;
    let pair = (&gateway, &origin);
    for target in ["/plain/a?b=2&a=1&utm_source=x", "/tenant/a", "/b/a"] {
        origin.on(target).reply(ok("1").max_age(60));
    }
    let target = "/plain/a?b=2&a=1&utm_source=x";
    let told = comes_true(pair, "GET", target, &[]).await;
    let policy = &told["policies"][0];
    assert_eq!((&policy["answer"], &policy["remembered"]), (&json!("key"), &json!(false)));
    assert_eq!(policy["digest"].as_str().map(str::len), Some(64));
    assert!(
        policy["parts"]
            .as_array()
            .unwrap()
            .contains(&json!({ "name": "path", "value": "/plain/a" })),
        "{policy}"
    );
    let told = comes_true(pair, "GET", target, &[]).await;
    assert_eq!(
        (&told["policies"][0]["remembered"], &told["outcome"]["does"]),
        (&json!(true), &json!("hit"))
    );

    let told = comes_true(pair, "GET", "/tenant/a", &[]).await;
    assert_eq!(told["outcome"]["cache_status"], "larder; fwd=bypass; detail=no-tenant");
    assert_eq!(
        (&told["policies"][0]["answer"], &told["policies"][1]["answer"]),
        (&json!("bypass"), &json!("not-asked"))
    );
    let told = comes_true(pair, "GET", "/tenant/a", &[("x-tenant", "acme")]).await;
    assert_eq!(
        (&told["policies"][1]["answer"], &told["outcome"]["does"]),
        (&json!("key"), &json!("forward"))
    );

    // A credential is not shown, nor what is left of it in a name that was cut.
    let token = "s3cret-".repeat(100);
    let bearer = format!("Bearer {token}");
    let fields = [("x-tenant", token.as_str()), ("authorization", bearer.as_str())];
    let told = explained(&gateway, "GET", "/tenant/a", &fields).await;
    assert_eq!(told["key"]["name"], "tenant/a?tenant=***…", "{told:#}");
    assert!(!told.to_string().contains("s3cret"), "{told:#}");

    let told = comes_true(pair, "GET", "/b/a", &[]).await;
    assert_eq!(told["outcome"]["cache_status"], "larder; fwd=bypass; detail=policy-failed");
    assert_eq!(told["policies"][0]["answer"], "failed");
    let told = comes_true(pair, "GET", "/f/a", &[]).await;
    assert_eq!(
        (&told["outcome"]["does"], &told["outcome"]["status"]),
        (&json!("answer"), &json!(502))
    );
    let told = comes_true(pair, "GET", "/nowhere", &[]).await;
    assert_eq!((&told["outcome"]["status"], &told["route"]["name"]), (&json!(404), &Value::Null));
}

#[tokio::test]
async fn a_request_is_explained_by_a_field_of_its_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).admin("token = \"s3cret\"").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let ask = |token: &'static str| gateway.ask("GET", "/a").field("larder-explain", token);
    let got = ask("Bearer s3cret").send().await.body("1").status("fwd=uri-miss; stored");
    let got = got.has("cache-control", "no-store");
    let text = got.field("larder-explanation").unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["outcome"]["cache_status"], "larder; fwd=uri-miss");
    assert!(!text.contains("s3cret") && !text.contains("larder-explain\""), "{text}");
    assert_eq!(origin.last("/a").field("larder-explain"), None);

    let got = ask("Bearer s3cret").send().await.body("1").status("hit");
    let told: Value = serde_json::from_str(&got.field("larder-explanation").unwrap()).unwrap();
    assert_eq!(told["outcome"]["does"], "hit");
    for token in ["Bearer s3cre", "s3cret", "Basic s3cret", ""] {
        let got = ask(token).send().await.body("1").status("hit");
        got.lacks("larder-explanation").has("cache-control", "max-age=60");
    }
    // It is no part of what is stored, and tells nothing apart.
    gateway.get("/a").await.status("hit").lacks("larder-explanation");
    origin.on("/v").reply(ok("1").max_age(60).field("vary", "larder-explain"));
    let ask = |token: &'static str| gateway.ask("GET", "/v").field("larder-explain", token);
    ask("one").send().await.status("fwd=uri-miss; stored");
    ask("other").send().await.status("hit");
    assert_eq!(origin.last("/v").field("larder-explain"), None);

    let without = Gateway::before(&origin).await;
    let ask = without.ask("GET", "/a").field("larder-explain", "Bearer ");
    ask.send().await.code(200).lacks("larder-explanation");
}

#[tokio::test]
async fn what_cannot_be_explained_is_told() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (query, told) in [
        ("", "`url` is missing: write `?url=http://HOST/PATH`, percent-encoded"),
        ("?url=", "`url` is not an absolute URL with http or https"),
        ("?url=/a", "`url` is not an absolute URL with http or https"),
        ("?url=ftp://h/", "`url` is not an absolute URL with http or https"),
        ("?url=http://h/&url=http://h/", "the parameter `url` stands twice"),
        ("?url=http://h/&method=G%20T", "`method` is no method: write one such as `GET`"),
        ("?url=http://h/&method=GET&method=GET", "the parameter `method` stands twice"),
        ("?url=http://h/&field=accept", "`field[0]` is no field: write `Name: value`"),
        ("?url=http://h/&field=a%20b:%20c", "`field[0]` is no field: write `Name: value`"),
        (
            "?url=http://h/&fields=a",
            "there is no parameter `fields` here; there are `url`, `method` and `field`",
        ),
        ("?url=%ff", "the parameter `url` is not UTF-8"),
    ] {
        let got = gateway.admin("GET", &format!("/explain{query}")).send().await.code(422);
        let problem: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(problem["faults"], json!([told]), "{query}");
        got.has("content-type", "application/problem+json");
    }
    for (content, code, told) in [
        ("{", 400, "not JSON"),
        ("[]", 422, "the content is not a JSON object"),
        ("{\"url\":1}", 422, "`url` is not a string"),
        ("{\"url\":\"http://h/\",\"url\":\"http://h/\"}", 422, "the member `url` stands twice"),
        ("{\"url\":\"http://h/\",\"fields\":{}}", 422, "`fields` is not an array of strings"),
        ("{\"url\":\"http://h/\",\"fields\":[1]}", 422, "`fields[0]` is not a string"),
        (
            "{\"uri\":\"http://h/\"}",
            422,
            "there is no member `uri`; there are `url`, `method`, `fields`, `content` and `content_base64`",
        ),
    ] {
        let ask = gateway.admin("POST", "/explain").field("content-type", "application/json");
        let got = ask.body(content).send().await.code(code);
        assert!(String::from_utf8_lossy(&got.body).contains(told), "{content}: {got:?}");
    }
    let ask = gateway.admin("POST", "/explain").body("url=http://h/");
    ask.send().await.code(415);
    let got = gateway
        .admin("GET", "/explain?url=http://h/a&method=HEAD&field=Accept:%20*/*")
        .send()
        .await;
    let told: Value =
        serde_json::from_slice(&got.code(200).has("cache-control", "no-store").body).unwrap();
    assert_eq!(
        (&told["request"]["method"], &told["request"]["url"]),
        (&json!("HEAD"), &json!("http://h/a"))
    );
}

#[tokio::test]
async fn no_more_is_told_of_what_cannot_be_explained_than_can_be_read() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let one_too_many = "`fields[100]` is one too many: there may be 100";
    for (content, count, last) in [
        (format!("{{\"fields\":[{}1]}}", "1,".repeat(999)), 21, "and 81 more"),
        (format!("{{\"url\":\"http://h/\"{}}}", ",\"uri\":1".repeat(100)), 21, "and 80 more"),
        (format!("{{\"fields\":[{}\"a: b\"]}}", "\"a: b\",".repeat(999)), 1, one_too_many),
    ] {
        let ask = gateway.admin("POST", "/explain").field("content-type", "application/json");
        let got = ask.body(content).send().await.code(422);
        let problem: Value = serde_json::from_slice(&got.body).unwrap();
        let faults = problem["faults"].as_array().unwrap();
        assert_eq!((faults.len(), faults.last()), (count, Some(&json!(last))), "{problem:#}");
    }
    let query = format!("url=http://h/{}", "&field=a:%20b".repeat(102));
    let got = gateway.admin("GET", &format!("/explain?{query}")).send().await.code(422);
    let problem: Value = serde_json::from_slice(&got.body).unwrap();
    let told = "`field[100]` is one too many: there may be 100";
    assert_eq!(problem["faults"], json!([told]));
}
