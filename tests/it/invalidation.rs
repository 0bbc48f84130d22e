//! What a write makes wrong (RFC 9111 §4.4): gone before the writer hears of its success.

use tokio::task::JoinSet;

use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::wire::{Line, Wire};
use crate::support::{secs, until};

const MISS: &str = "fwd=uri-miss; stored";

/// Stores a response for this target.
async fn store(origin: &Origin, gateway: &Gateway, target: &str) {
    origin.on(target).method("GET").reply(ok("1").max_age(60));
    gateway.get(target).await.body("1").status(MISS);
    gateway.get(target).await.body("1").status("hit");
}

/// How far the invalidation log is.
fn position(gateway: &Gateway) -> impl PartialEq + use<> {
    gateway.service().gateway().store().stats().log_position
}

#[tokio::test]
async fn successful_write_invalidates_its_target() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let mut times = 0;
    for method in ["POST", "PUT", "PATCH", "DELETE", "FROBNICATE", "get"] {
        for code in [200, 201, 204, 302, 303] {
            store(&origin, &gateway, "/a?b=c").await;
            origin.on("/a?b=c").method(method).reply(status(code));
            let ask = gateway.ask(method, "/a?b=c").body("new");
            ask.send().await.code(code).status("fwd=method");
            gateway.get("/a?b=c").await.body("1").status(MISS);
            // For the next row.
            origin.on("/a?b=c").method("DELETE").reply(status(204));
            gateway.ask("DELETE", "/a?b=c").send().await.code(204);
            times += 4;
            origin.saw("/a?b=c", times);
        }
    }
}

#[tokio::test]
async fn failed_write_and_safe_methods_invalidate_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    store(&origin, &gateway, "/a").await;
    for (method, codes) in [
        ("POST", [400, 403, 404, 409, 412, 500, 503]),
        ("DELETE", [400, 403, 404, 409, 412, 500, 503]),
        ("OPTIONS", [200, 201, 204, 302, 303, 400, 500]),
        ("TRACE", [200, 201, 204, 302, 303, 400, 500]),
    ] {
        for code in codes {
            origin.on("/a").method(method).reply(status(code));
            gateway.ask(method, "/a").send().await.code(code).status("fwd=method");
            gateway.get("/a").await.body("1").status("hit");
        }
    }
    origin.saw("/a", 1 + 4 * 7);
}

#[tokio::test]
async fn other_targets_and_authorities_stay() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for target in ["/a", "/a?x=1", "/a/", "/ab", "/A"] {
        store(&origin, &gateway, target).await;
    }
    let other = || gateway.ask("GET", "/a").field("host", "other.test").send();
    other().await.status(MISS);
    origin.on("/a").method("PUT").reply(status(204));
    gateway.ask("PUT", "/a").send().await.code(204);
    for target in ["/a?x=1", "/a/", "/ab", "/A"] {
        gateway.get(target).await.status("hit");
    }
    other().await.status("hit");
    gateway.get("/a").await.status(MISS);
    origin.saw("/a", 4);
}

#[tokio::test]
async fn all_variants_of_the_target_go() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).field("vary", "accept-language"));
    let get = |language| gateway.ask("GET", "/a").field("accept-language", language).send();
    for language in ["de", "en"] {
        get(language).await.body("1");
        get(language).await.status("hit");
    }
    origin.on("/a").method("PUT").reply(status(204));
    gateway.ask("PUT", "/a").send().await.code(204);
    for language in ["de", "en"] {
        get(language).await.status(MISS);
    }
    origin.saw("/a", 5);
}

#[tokio::test]
async fn location_goes_where_it_is_of_the_same_origin() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let own = gateway.address().to_string();
    for name in ["location", "content-location"] {
        for (reference, goes) in [
            ("/list/b", true),
            ("b", true),
            ("./x/../b", true),
            (&*format!("http://{own}/list/b"), true),
            (&format!("HTTP://{own}/list/b#part"), true),
            (&format!("//{own}/list/b"), true),
            ("http://other.test/list/b", false),
            ("//other.test/list/b", false),
            (&format!("https://{own}/list/b"), false),
            ("/list/c", false),
            ("?b", false),
            ("urn:list:b", false),
        ] {
            store(&origin, &gateway, "/list/b").await;
            origin.on("/list/a").reply(status(201).field(name, reference));
            let got = gateway.ask("POST", "/list/a").send().await.code(201).status("fwd=method");
            got.has(name, reference);
            let expected = if goes { MISS } else { "hit" };
            let got = gateway.get("/list/b").await;
            assert_eq!(got.cache_status(), expected, "{name}: {reference}");
            // For the next row.
            origin.on("/list/b").method("DELETE").reply(status(204));
            gateway.ask("DELETE", "/list/b").send().await.code(204);
        }
    }
    // An error says nothing about other targets either.
    store(&origin, &gateway, "/list/b").await;
    origin.on("/list/a").reply(status(409).field("location", "/list/b"));
    gateway.ask("POST", "/list/a").send().await.code(409);
    gateway.get("/list/b").await.status("hit");
}

#[tokio::test]
async fn write_invalidates_though_its_client_has_left() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    store(&origin, &gateway, "/a").await;
    origin.on("/other").reply(ok("1"));
    let held = origin.on("/a").method("PUT").hold(status(204));
    let mut client = Line::to(gateway.address()).await;
    let put =
        format!("PUT /a HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", gateway.address());
    client.send(put).await;
    until("the origin has the write", || origin.count("/a") == 2).await;
    drop(client);
    // The worker's next request comes after the end of that connection.
    gateway.get("/other").await;
    gateway.get("/a").await.status("hit");
    let before = position(&gateway);
    held.release();
    until("the write invalidates", || position(&gateway) != before).await;
    gateway.get("/a").await.status(MISS);
    origin.saw("/a", 3);
}

#[tokio::test]
async fn write_invalidates_though_its_client_left_within_the_content() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let mut server = stored_over(&gateway, &wire).await;
    let mut client = Line::to(gateway.address()).await;
    let head = format!("PUT /a HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n", gateway.address());
    client.send(format!("{head}\r\nnew")).await;
    server.until("\r\n\r\nnew").await;
    gateway.get("/a").await.body("1").status("hit");
    let before = position(&gateway);
    drop(client);
    until("the write invalidates", || position(&gateway) != before).await;
    let got = gateway.ask("GET", "/a").field("cache-control", "only-if-cached").send().await;
    got.code(504).status("fwd=uri-miss; detail=only-if-cached");
}

#[tokio::test]
async fn slow_get_from_before_a_write_is_not_served_after_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").method("GET").hold(ok("old").max_age(60));
    origin.on("/a").method("PUT").reply(status(204));
    let slow = gateway.get("/a");
    let write = async {
        until("the origin has the slow request", || origin.count("/a") == 1).await;
        origin.on("/a").method("GET").reply(ok("new").max_age(60));
        gateway.ask("PUT", "/a").send().await.code(204);
        // Whoever comes after the write does not wait for what began before it.
        gateway.get("/a").await.body("new").status(MISS);
        gateway.get("/a").await.body("new").status("hit");
        held.release();
    };
    let (slow, ()) = tokio::join!(slow, write);
    slow.code(200).body("old");
    gateway.get("/a").await.body("new").status("hit");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn slow_get_alone_is_not_stored_after_a_write() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").method("GET").hold(ok("old").max_age(60));
    origin.on("/a").method("PUT").reply(status(204));
    let write = async {
        until("the origin has the slow request", || origin.count("/a") == 1).await;
        gateway.ask("PUT", "/a").send().await.code(204);
        held.release();
    };
    let (slow, ()) = tokio::join!(gateway.get("/a"), write);
    slow.code(200).body("old");
    origin.on("/a").method("GET").reply(ok("new").max_age(60));
    gateway.get("/a").await.body("new").status(MISS);
    gateway.get("/a").await.body("new").status("hit");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn slow_validation_from_before_a_write_is_not_served_after_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("old").max_age(60).etag("1"));
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(61));
    origin.on("/a").method("GET").reply(ok("new").max_age(60));
    let validation = origin.on("/a").method("GET").with("if-none-match", "\"1\"");
    let held = validation.hold(status(304).max_age(60).etag("1"));
    origin.on("/a").method("PUT").reply(status(204));
    let write = async {
        until("the origin has the validation", || origin.count("/a") == 2).await;
        gateway.ask("PUT", "/a").send().await.code(204);
        held.release();
    };
    let (slow, ()) = tokio::join!(gateway.get("/a"), write);
    slow.code(200).body("new").status("fwd=stale; stored");
    gateway.get("/a").await.body("new").status("hit");
    origin.saw("/a", 4);
}

/// Serves one GET that is stored.
async fn stored_over(gateway: &Gateway, wire: &Wire) -> Line {
    let serving = async {
        let mut line = wire.accept().await;
        line.until("\r\n\r\n").await;
        line.send("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 1\r\n\r\n1")
            .await;
        line
    };
    let (got, line) = tokio::join!(gateway.get("/a"), serving);
    got.body("1").status(MISS);
    gateway.get("/a").await.body("1").status("hit");
    line
}

/// Serves one GET that is stored, then leaves a PUT to the test.
async fn until_the_write(gateway: &Gateway, wire: &Wire) -> (Line, JoinSet<Got>) {
    let mut line = stored_over(gateway, wire).await;
    let mut write = JoinSet::new();
    write.spawn(gateway.ask("PUT", "/a").body("new").send());
    line.until("\r\n\r\nnew").await;
    gateway.get("/a").await.body("1").status("hit");
    (line, write)
}

#[tokio::test]
async fn write_invalidates_though_its_upstream_broke_off() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    for answer in ["", "HTTP/1.1 2", "nonsense\r\n\r\n"] {
        let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
        let (mut line, mut write) = until_the_write(&gateway, &wire).await;
        line.send(answer).await;
        drop(line);
        let got = write.join_next().await.unwrap().unwrap();
        got.code(502).status("fwd=method; detail=upstream-broken");
        let got = gateway.ask("GET", "/a").field("cache-control", "only-if-cached").send().await;
        got.code(504).status("fwd=uri-miss; detail=only-if-cached");
    }
}

#[tokio::test]
async fn write_invalidates_though_its_upstream_never_answered() {
    let wire = Wire::start().await;
    let origin = Origin::start().await;
    let routes = wire.routes().replace("[upstreams.wire]", "[upstreams.wire]\ntimeout = \"300ms\"");
    let gateway = Gateway::setup(&origin).routes(&routes).start().await;
    let (_line, mut write) = until_the_write(&gateway, &wire).await;
    let got = write.join_next().await.unwrap().unwrap();
    got.code(504).status("fwd=method; detail=upstream-timeout");
    let got = gateway.ask("GET", "/a").field("cache-control", "only-if-cached").send().await;
    got.code(504).status("fwd=uri-miss; detail=only-if-cached");
}

#[tokio::test]
async fn write_whose_target_becomes_too_long_invalidates_nothing() {
    let origin = Origin::start().await;
    let long = "x".repeat(1000);
    let tables = format!(
        "[policies.writes]\nplugin = \"bundled:rest-writes\"\n\
         [[routes]]\nname = \"api\"\npath = \"/api/{{*rest}}\"\nupstream = \"origin\"\n\
         invalidation = \"writes\"\nrewrite = {{ path = \"/{long}/{{rest}}\" }}\n"
    );
    let gateway = Gateway::setup(&origin).routes(&tables).start().await;
    origin.on(&format!("/{long}/a")).reply(ok("1").max_age(60));
    gateway.get("/api/a").await.body("1").status(MISS);
    let target = format!("/api/{}", "b".repeat(65_000));
    let got = gateway.ask("POST", &target).send().await.code(414);
    got.status("fwd=method; detail=target-too-long");
    assert_eq!(origin.asked().len(), 1);
    gateway.get("/api/a").await.body("1").status("hit");
}

#[tokio::test]
async fn write_that_no_server_took_invalidates_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    store(&origin, &gateway, "/a").await;
    drop(origin);
    let got = gateway.ask("PUT", "/a").send().await.code(502);
    got.status("fwd=method; detail=upstream-refused");
    gateway.get("/a").await.body("1").status("hit");
}
