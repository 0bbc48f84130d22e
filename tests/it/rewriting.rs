//! What routes change in messages: targets, `Host`, fields.

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok, status};
use crate::support::secs;

const MISS: &str = "fwd=uri-miss; stored";

/// A route for `/api/` with these lines.
fn setup(origin: &Origin, lines: &str) -> Setup {
    Gateway::setup(origin).routes(&format!(
        "[[routes]]\nname = \"api\"\npath = \"/api/{{*rest}}\"\nupstream = \"origin\"\n{lines}\n"
    ))
}

#[tokio::test]
async fn path_and_host_are_rewritten_and_keys_are_the_clients() {
    let origin = Origin::start().await;
    let lines = "rewrite = { path = \"/v2/{rest}\", host = \"inner.test:81\" }";
    let gateway = setup(&origin, lines).start().await;
    origin.on("/v2/a/b?c=/d").reply(ok("1").max_age(60).field("location", "/v2/x"));
    for expected in [MISS, "hit"] {
        let got = gateway.ask("GET", "/api/a/b?c=/d").field("host", "shop.test").send().await;
        // Not put back unless that is said.
        got.body("1").status(expected).has("location", "/v2/x");
    }
    let asked = origin.last("/v2/a/b?c=/d");
    assert_eq!(asked.field("host").as_deref(), Some("inner.test:81"));
    assert_eq!(asked.field("x-forwarded-host").as_deref(), Some("shop.test"));
    let other = gateway.ask("GET", "/api/a/b?c=/d").field("host", "other.test").send().await;
    other.status(MISS);

    // A write invalidates what its client calls by that name.
    origin.on("/v2/a/b?c=/d").method("PUT").reply(status(204));
    let put = gateway.ask("PUT", "/api/a/b?c=/d").field("host", "shop.test").body("x");
    put.send().await.code(204);
    let again = gateway.ask("GET", "/api/a/b?c=/d").field("host", "shop.test").send().await;
    again.status(MISS);
    let other = gateway.ask("GET", "/api/a/b?c=/d").field("host", "other.test").send().await;
    other.status("hit");
    origin.on("/v2/").reply(ok("2"));
    gateway.get("/api").await.body("2");
}

#[tokio::test]
async fn locations_are_put_back_where_that_is_said() {
    let origin = Origin::start().await;
    let lines = "rewrite = { path = \"/v2/{rest}\", host = \"inner.test\", location = true }";
    let gateway = setup(&origin, lines).start().await;
    let redirect = |location: &str| status(301).field("location", location).max_age(60);
    origin.on("/v2/a").reply(redirect("http://inner.test/v2/b?c#d"));
    origin.on("/v2/e").reply(redirect("http://other.test/v2/b"));
    origin.on("/v2/f").reply(redirect("https://inner.test/v2/b"));
    for expected in [MISS, "hit"] {
        let got = gateway.ask("GET", "/api/a").field("host", "shop.test").send().await;
        got.code(301).status(expected).has("location", "http://shop.test/api/b?c#d");
        let got = gateway.ask("GET", "/api/e").field("host", "shop.test").send().await;
        got.status(expected).has("location", "http://other.test/v2/b");
        // It is asked without TLS, and wants clients to have it.
        let got = gateway.ask("GET", "/api/f").field("host", "shop.test").send().await;
        got.status(expected).has("location", "https://shop.test/api/b");
    }
    // What a write names there is invalidated by the client's name for it.
    origin.on("/v2/b").reply(ok("1").max_age(60));
    gateway.get("/api/b").await.status(MISS);
    origin.on("/v2/c").reply(status(201).field("location", "/v2/b"));
    gateway.ask("POST", "/api/c").send().await.code(201).has("location", "/api/b");
    gateway.get("/api/b").await.status(MISS);
}

/// Neither out of the path that the route names, nor past the route of another path.
#[tokio::test]
async fn no_target_climbs_out_of_its_path() {
    let origin = Origin::start().await;
    let rewrite = "rewrite = { path = \"/v2/public/{rest}\" }";
    for lines in [rewrite, ""] {
        let gateway = setup(&origin, lines).start().await;
        let targets = ["/api/../admin", "/api/%2e%2e/admin", "/api/%2E./admin", "/api/a/./b"];
        for target in targets.into_iter().chain(["/api/..", "/api/..%2fadmin", "/api/..;a/admin"]) {
            for http2 in [false, true] {
                let ask = gateway.ask("GET", target);
                let got = if http2 { ask.http2().send().await } else { ask.send().await };
                let got = got.code(400).has("content-type", "application/problem+json");
                let text = String::from_utf8_lossy(&got.body);
                assert!(text.contains("dot segments in the target"), "{target}: {text}");
            }
        }
    }
    assert!(origin.asked().is_empty(), "{:?}", origin.asked());

    let gateway = setup(&origin, rewrite).start().await;
    for rest in [".well-known/x", "a..b/", "...", "a?b=/../c"] {
        origin.on(&format!("/v2/public/{rest}")).reply(ok("1"));
        gateway.get(&format!("/api/{rest}")).await.code(200).body("1");
    }
}

/// Nor by what stood beside other text in the client's path.
#[tokio::test]
async fn no_capture_becomes_a_dot_segment() {
    let origin = Origin::start().await;
    let routes = "[[routes]]\nname = \"users\"\npath = \"/u-{id}/{*rest}\"\nupstream = \"origin\"\n\
                  rewrite = { path = \"/users/{id}/{rest}\" }\n";
    let gateway = Gateway::setup(&origin).routes(routes).start().await;
    for target in ["/u-../admin/x", "/u-%2e%2e/admin", "/u-./x", "/u-..;a/x"] {
        for (method, http2) in [("GET", false), ("GET", true), ("POST", false), ("HEAD", false)] {
            let ask = gateway.ask(method, target);
            let got = if http2 { ask.http2().send().await } else { ask.send().await };
            let got = got.code(400).has("content-type", "application/problem+json");
            let told = got.cache_status();
            assert!(told.ends_with("; detail=dot-segments"), "{method} {target}: {told}");
            let text = String::from_utf8_lossy(&got.body);
            let is_told = method == "HEAD" || text.contains("dot segments in the target");
            assert!(is_told, "{method} {target}: {text}");
        }
    }
    assert!(origin.asked().is_empty(), "{:?}", origin.asked());
    assert_eq!(gateway.figure("upstream_requests"), 0);
    origin.on("/users/a../x").reply(ok("1"));
    gateway.get("/u-a../x").await.code(200).body("1");
}

/// That a target cannot be sent says nothing of others that have the same key, and is no trouble of the
/// upstream's.
#[tokio::test]
async fn target_that_is_too_long_is_told_to_its_client() {
    let origin = Origin::start().await;
    let long = "x".repeat(1000);
    let tables = format!(
        "[policies.plain]\nplugin = \"bundled:normalise-query\"\nconfig = {{ drop = [\"utm_*\"] }}\n\
         time = \"10s\"\n\
         [[routes]]\nname = \"api\"\npath = \"/api/{{*rest}}\"\nupstream = \"origin\"\nkey = \"plain\"\n\
         stale_if_error = \"1h\"\nrewrite = {{ path = \"/{long}/{{rest}}\" }}\n"
    );
    let gateway = Gateway::setup(&origin).routes(&tables).start().await;
    origin.on(&format!("/{long}/a")).reply(ok("1").max_age(60));
    gateway.get("/api/a").await.body("1").status(MISS);
    gateway.get("/api/a?utm_source=b").await.body("1").status("hit");
    gateway.clock().advance(secs(61));
    let target = format!("/api/a?utm_source={}", "b".repeat(65_000));
    gateway.get(&target).await.code(414).status("fwd=stale; detail=target-too-long");
    assert_eq!(gateway.figure("upstream_requests"), 1);
    gateway.get("/api/a").await.body("1").status("fwd=stale; stored");
}

/// A server that is told its own `Host` calls itself so.
#[tokio::test]
async fn locations_are_put_back_from_a_servers_own_host() {
    let origin = Origin::start().await;
    let lines = "rewrite = { path = \"/v2/{rest}\", location = true }";
    let own = format!("{}/v2/b?c", origin.url());
    // It has no TLS itself, but may want its clients to have it.
    let secure = own.replace("http:", "https:");
    let redirect = |own: &str| status(301).field("location", own).max_age(60);
    for (preserve, own, expected) in [
        (false, &own, "http://shop.test/api/b?c"),
        (false, &secure, "https://shop.test/api/b?c"),
        (true, &own, own.as_str()),
        (true, &secure, secure.as_str()),
    ] {
        let upstream = format!("preserve_host = {preserve}");
        let gateway = setup(&origin, lines).upstream(&upstream).start().await;
        origin.on("/v2/a").reply(redirect(own));
        for status in [MISS, "hit"] {
            let got = gateway.ask("GET", "/api/a").field("host", "shop.test").send().await;
            got.code(301).status(status).has("location", expected);
        }
    }
}

#[tokio::test]
async fn no_location_becomes_one_of_another_host() {
    let origin = Origin::start().await;
    let lines = "rewrite = { path = \"/v2/{rest}\", location = true }";
    let tables = format!(
        "[[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{lines}\n"
    );
    let gateway = Gateway::setup(&origin).routes(&tables).start().await;
    for (location, expected) in [
        ("/v2/b/", "/b/"),
        ("/v2//evil.test/", "http://shop.test//evil.test/"),
        ("/v2/\\evil.test/", "http://shop.test/\\evil.test/"),
    ] {
        origin.on("/v2/a").reply(status(301).field("location", location));
        let got = gateway.ask("GET", "/a").field("host", "shop.test").send().await;
        got.code(301).has("location", expected);
    }
}

/// `/b` of the upstream is not what its clients call `/b`.
#[tokio::test]
async fn a_post_is_stored_under_no_name_of_the_upstreams() {
    let origin = Origin::start().await;
    let lines = "rewrite = { path = \"/api/x/{rest}\" }";
    let gateway = setup(&origin, lines).start().await;
    let reply = ok("1").max_age(60).field("content-location", "/api/b");
    origin.on("/api/x/b").method("POST").reply(reply);
    origin.on("/api/x/b").method("GET").reply(ok("2").max_age(60));
    gateway.ask("POST", "/api/b").send().await.body("1").status("fwd=method");
    gateway.get("/api/b").await.body("2").status(MISS);
}

#[tokio::test]
async fn fields_of_requests_are_changed_before_they_go_forward() {
    let origin = Origin::start().await;
    let lines = "fields = { request = { set = { X-Api-Key = \"secret\" }, \
                 add = { X-More = \"2\" }, remove = [\"Cookie\"] } }";
    let gateway = setup(&origin, lines).start().await;
    origin.on("/api/a").reply(ok("1").max_age(60).field("vary", "Cookie, X-Api-Key, X-More"));
    let ask = |method: &str, cookie: &str, more: &str| {
        let ask = gateway.ask(method, "/api/a").field("cookie", cookie).field("x-api-key", cookie);
        ask.field("x-more", more).send()
    };
    for (method, cookie, more, expected) in [
        ("GET", "a=1", "1", MISS),
        // The upstream saw no other cookie, nor another key.
        ("GET", "a=2", "1", "hit"),
        // But this it did see.
        ("GET", "a=2", "0", "fwd=vary-miss; stored"),
        ("POST", "a=3", "1", "fwd=method"),
    ] {
        ask(method, cookie, more).await.status(expected).lacks("x-api-key");
        let asked = origin.last("/api/a");
        assert_eq!(asked.field("x-api-key").as_deref(), Some("secret"));
        assert_eq!(asked.field("cookie"), None);
        let lines = asked.field("x-more").unwrap();
        assert!(lines.ends_with(", 2"), "{lines}");
    }
    origin.saw("/api/a", 3);
}

#[tokio::test]
async fn fields_of_responses_are_changed_before_anything_is_decided() {
    let origin = Origin::start().await;
    let lines = "fields = { response = { set = { Cache-Control = \"max-age=60\" }, \
                 add = { X-More = \"2\" }, remove = [\"Server\", \"Set-Cookie\"] } }";
    let gateway = setup(&origin, lines).start().await;
    let reply = ok("1").etag("v1").field("cache-control", "no-store").field("server", "x/1.0");
    origin.on("/api/a").reply(reply.field("set-cookie", "a=1").field("x-more", "1"));
    let same = |expected: &'static str| {
        let got = gateway.get("/api/a");
        async move {
            let got = got.await.body("1").status(expected).has("cache-control", "max-age=60");
            got.lacks("server").lacks("set-cookie").has("x-more", "1, 2");
        }
    };
    same(MISS).await;
    same("hit").await;
    // What a 304 brings takes the place of what was there, and is added to no second time.
    gateway.clock().advance(secs(61));
    origin.on("/api/a").with("if-none-match", "\"v1\"").reply(status(304).field("x-more", "1"));
    same("fwd=stale; fwd-status=304; stored").await;
    gateway.clock().advance(secs(61));
    origin
        .on("/api/a")
        .with("if-none-match", "\"v1\"")
        .reply(status(304).field("cache-control", "no-store"));
    same("fwd=stale; fwd-status=304; stored").await;
    same("hit").await;
    let write = gateway.ask("POST", "/api/b").send().await;
    write.has("x-more", "2").has("cache-control", "max-age=60");
}

#[tokio::test]
async fn methods_choose_an_upstream() {
    let (origin, writes) = (Origin::start().await, Origin::start().await);
    let tables = format!(
        "[upstreams.writes]\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"reads\"\npath = \"/{{*rest}}\"\nmethods = [\"GET\"]\n\
         upstream = \"origin\"\n\
         [[routes]]\nname = \"writes\"\npath = \"/{{*rest}}\"\nupstream = \"writes\"\n",
        writes.url()
    );
    let gateway = Gateway::setup(&origin).routes(&tables).start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    writes.on("/a").reply(status(204));
    gateway.get("/a").await.body("1").status(MISS);
    gateway.ask("HEAD", "/a").send().await.code(200).status("hit");
    // A write by one route makes wrong what is stored by the other.
    gateway.ask("PUT", "/a").send().await.code(204);
    gateway.get("/a").await.body("1").status(MISS);
    origin.saw("/a", 2);
    writes.saw("/a", 1);
}
