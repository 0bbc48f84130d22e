//! One client's request must not choose what others are answered with: the known shapes of cache
//! poisoning, before an origin that reflects all that it is sent.

use std::io::Write as _;

use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok};
use crate::support::plugin::fixture;

const MISS: &str = "fwd=uri-miss; stored";

/// It names a trace, and can be nothing else.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What the attacker sends, and the victim asks for.
struct Shape {
    name: &'static str,
    method: &'static str,
    target: &'static str,
    fields: Vec<(&'static str, String)>,
    content: &'static str,
    victim: &'static str,
    /// Whether it succeeds where a route forwards everything: with the key policy, and without.
    poisons: (bool, bool),
}

fn shape(name: &'static str, fields: &[(&'static str, &str)], poisons: bool) -> Shape {
    Shape {
        name,
        method: "GET",
        target: "/p?a=1",
        fields: fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        content: "",
        victim: "/p?a=1",
        poisons: (poisons, poisons),
    }
}

/// A query that the key policy of these tests makes `victim` of.
fn query(name: &'static str, target: &'static str, poisons: bool) -> Shape {
    Shape { target, poisons: (poisons, false), ..shape(name, &[], false) }
}

fn shapes() -> Vec<Shape> {
    vec![
        shape("another host", &[("x-forwarded-host", "evil")], false),
        shape("another scheme", &[("x-forwarded-proto", "evil")], false),
        shape("another scheme, by its other name", &[("x-forwarded-scheme", "evil")], false),
        shape("another host, spelt otherwise", &[("x_forwarded_host", "evil")], false),
        shape("several of these", &[("x-forwarded-host", "evil"), ("x-host", "evil")], false),
        shape("another target", &[("x-original-url", "/evil"), ("x-rewrite-url", "/evil")], false),
        shape("another method", &[("x-http-method-override", "evil")], false),
        shape("another method, spelt otherwise", &[("x_http_method_override", "evil")], false),
        shape("a port in Host", &[("host", "shop.example:666")], false),
        shape("Connection takes a field away", &[("connection", "x-a"), ("x-a", "evil")], false),
        shape("a field nobody knows", &[("x-evil", "evil")], true),
        shape("User-Agent", &[("user-agent", "evil")], true),
        shape("Referer", &[("referer", "https://evil/")], true),
        shape("Origin", &[("origin", "https://evil")], true),
        shape("Accept", &[("accept", "text/evil")], true),
        shape("Accept-Encoding without Vary", &[("accept-encoding", "evil")], true),
        shape("Accept-Encoding that cannot be read", &[("accept-encoding", "\"evil")], true),
        shape("Accept-Language without Vary", &[("accept-language", "evil")], true),
        shape("an unkeyed cookie", &[("cookie", "theme=evil")], true),
        shape("Via", &[("via", "1.1 evil")], true),
        shape("CDN-Loop", &[("cdn-loop", "evil")], true),
        shape("a directive", &[("cache-control", "evil")], true),
        shape("Pragma", &[("pragma", "evil")], true),
        shape("Range", &[("range", "evil=0-1")], true),
        shape("a condition", &[("if-none-match", "\"evil\"")], false),
        shape("a trace", &[("traceparent", PARENT), ("tracestate", "a=<evil>")], true),
        shape("no trace", &[("traceparent", "evil")], true),
        shape("Forwarded", &[("forwarded", "host=evil")], false),
        shape("a user whose response is public", &[("authorization", "evil")], true),
        Shape {
            fields: vec![("x-evil", "evil".repeat(2048))],
            ..shape("a field too long for the origin", &[], true)
        },
        Shape { content: "a=evil", ..shape("content of a GET", &[], false) },
        Shape { method: "POST", content: "evil", ..shape("a POST that answers GET", &[], true) },
        Shape { method: "HEAD", ..shape("HEAD", &[("x-evil", "evil")], false) },
        query("a parameter that is not in the key", "/p?a=1&utm_source=evil", true),
        query("a parameter behind `;`", "/p?a=1&utm_source=1;a=evil", false),
        query("a parameter behind `;`, first", "/p?utm_source=1;a=evil&a=1", false),
        query("the parameter twice", "/p?a=1&a=evil", false),
        query("another order", "/p?utm_source=evil&a=1", true),
        query("in other letters", "/p?a=1&A=evil", false),
    ]
}

/// All that an origin is sent, with one of those mistakes that origins make.
fn reflect(asked: &Asked) -> Reply {
    // The last of `CDN-Loop` is the gateway, which no client chooses.
    let gateway = asked.headers.get_all("cdn-loop").iter().next_back();
    let is_told = |value| value != PARENT && Some(value) != gateway;
    let lines = asked.headers.iter().filter(|(_, value)| is_told(value));
    let mut fields: Vec<_> = lines.map(|(name, value)| format!("{name}: {value:?}")).collect();
    fields.sort();
    let content = String::from_utf8_lossy(&asked.body);
    let body = format!("{} {}\n{}\n{content}", asked.method, asked.target, fields.join("\n"));
    let is_too_long = asked.headers.values().any(|value| value.len() > 4096);
    let reply = if is_too_long { ok(body).code(400) } else { ok(body) };
    // With a lifetime, and public: all that may be stored is.
    let reply = reply.field("cache-control", "public, max-age=600");
    if asked.method == "POST" { reply.field("content-location", &asked.target) } else { reply }
}

/// What has `_` in its name goes forward there as well.
async fn gateway(origin: &Origin, lines: &str) -> Gateway {
    let tables = format!(
        "[policies.plain]\nplugin = \"bundled:normalise-query\"\ntime = \"10s\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{lines}\n"
    );
    let server = "workers = 1\nunderscores_in_fields = true";
    Gateway::setup(origin).server(server).routes(&tables).start().await
}

async fn ask(gateway: &Gateway, shape: &Shape) -> Got {
    let mut ask = gateway.ask(shape.method, shape.target);
    if !shape.fields.iter().any(|(name, _)| *name == "host") {
        ask = ask.field("host", "shop.example");
    }
    for (name, value) in &shape.fields {
        ask = ask.field(name, value);
    }
    ask.body(shape.content).send().await
}

async fn ask_as_victim(gateway: &Gateway, shape: &Shape) -> Got {
    gateway.ask("GET", shape.victim).field("host", "shop.example").send().await
}

#[tokio::test]
async fn what_is_not_in_the_key_reaches_no_other_client() {
    let origin = Origin::start().await;
    let shapes = shapes();
    for shape in &shapes {
        for target in [shape.target, shape.victim] {
            origin.on(target).answer(reflect);
        }
    }
    for key in ["key = \"plain\"", ""] {
        let keyed = format!("forward = \"keyed\"\n{key}");
        let untouched = ask_as_victim(&gateway(&origin, &keyed).await, &shapes[0]).await;
        for shape in &shapes {
            let what = format!("{}, {key}", shape.name);
            let all = gateway(&origin, key).await;
            ask(&all, shape).await;
            let got = ask_as_victim(&all, shape).await;
            let is_poisoned = String::from_utf8_lossy(&got.body).contains("evil");
            let expected = if key.is_empty() { shape.poisons.1 } else { shape.poisons.0 };
            assert_eq!(is_poisoned, expected, "{what}: {got:?}");

            let narrow = gateway(&origin, &keyed).await;
            ask(&narrow, shape).await;
            let got = ask_as_victim(&narrow, shape).await;
            assert_eq!(got.body, untouched.body, "{what}: {got:?}");
            // It is a cache all the same.
            ask_as_victim(&narrow, shape).await.status("hit");
        }
    }
}

#[tokio::test]
async fn what_a_server_may_read_as_kept_is_in_the_key() {
    let origin = Origin::start().await;
    let targets = [
        "/p?%70age=evil",
        "/p?+page=evil",
        "/p?page[]=evil",
        "/p?PAGE=evil",
        "/p?cb=1;page=evil",
        "/p?utm_source=1;page=evil",
    ];
    for target in targets.into_iter().chain(["/p"]) {
        origin.on(target).answer(reflect);
    }
    let tables = "[policies.paged]\nplugin = \"bundled:normalise-query\"\ntime = \"10s\"\n\
         config = { keep = [\"page\"] }\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\nkey = \"paged\"\n";
    for forward in ["all", "keyed"] {
        let tables = format!("{tables}forward = \"{forward}\"\n");
        let gateway = Gateway::setup(&origin).routes(&tables).start().await;
        for target in targets {
            let got = gateway.get(target).await.status(MISS);
            assert!(String::from_utf8_lossy(&got.body).contains("evil"), "{target}: {got:?}");
        }
        let got = gateway.get("/p").await.status(MISS);
        assert!(!String::from_utf8_lossy(&got.body).contains("evil"), "{got:?}");
        gateway.get("/p?cb=1").await.status("hit");
    }
}

#[tokio::test]
async fn what_is_left_behind_makes_no_difference() {
    let origin = Origin::start().await;
    origin.on("/a?a=1&b=2").answer(|asked| reflect(asked).field("vary", "User-Agent, Cookie"));
    let gateway = gateway(&origin, "key = \"plain\"\nforward = \"keyed\"").await;
    let first = gateway.ask("GET", "/a?b=2&utm_source=x&a=1").field("user-agent", "1");
    let first = first.field("cookie", "a=1").send().await.code(200).status(MISS);
    // In the form that the key has.
    origin.saw("/a?a=1&b=2", 1);
    let second = gateway.ask("GET", "/a?a=1&b=2").field("user-agent", "2").send().await;
    assert_eq!(second.status("hit").body, first.body);
}

#[tokio::test]
async fn forwarded_fields_are_in_the_key_by_what_they_mean() {
    let origin = Origin::start().await;
    origin.on("/a").answer(|asked| ok(asked.field("accept").unwrap_or_default()).max_age(600));
    let lines = "forward = \"keyed\"\nforward_fields = [\"Accept\"]";
    let gateway = gateway(&origin, lines).await;
    for (accept, expected, status) in [
        ("text/html, a/b;q=0.5", "text/html,a/b;q=0.5", MISS),
        ("a/b;q=0.50,TEXT/html", "text/html,a/b;q=0.5", "hit"),
        ("a/b", "a/b", MISS),
        ("not read", "not read", MISS),
        ("not read", "not read", "hit"),
    ] {
        let ask = gateway.ask("GET", "/a").field("accept", accept).field("accept-language", "de");
        ask.send().await.body(expected).status(status);
    }
    gateway.get("/a").await.body("").status(MISS);
    assert_eq!(origin.last("/a").field("accept-language"), None, "no longer named");
}

#[tokio::test]
async fn fields_and_cookies_that_the_policy_looks_at_go_forward() {
    let origin = Origin::start().await;
    origin.on("/a?x=1").reply(ok("1").max_age(600));
    let tables = "[policies.shop]\nplugin = \"bundled:variants\"\ntime = \"10s\"\n\
         config = { languages = [\"en\", \"de\"], cookie = \"currency\" }\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\nkey = \"shop\"\n\
         forward = \"keyed\"\nforward_fields = []\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    let ask = |language: &str, cookie: &str| {
        let ask = gateway.ask("GET", "/a?x=1").field("accept-language", language);
        ask.field("cookie", cookie).field("accept-encoding", "br").send()
    };
    ask("de-AT, x", "a=1; currency=EUR; currency=USD").await.body("1").status(MISS);
    let asked = origin.last("/a?x=1");
    assert_eq!(asked.field("cookie").as_deref(), Some("currency=EUR"));
    assert_eq!(asked.field("accept-language").as_deref(), Some("de-AT, x"));
    assert_eq!(asked.field("accept-encoding"), None);
    ask("de", "currency=EUR").await.body("1").status("hit");
    ask("en", "currency=EUR").await.body("1").status(MISS);
}

#[tokio::test]
async fn users_the_policy_does_not_see_are_answered_and_not_stored() {
    let origin = Origin::start().await;
    origin.on("/a").answer(|asked| {
        let user = asked.field("authorization").unwrap_or_default();
        ok(user).field("cache-control", "public, max-age=600")
    });
    let gateway = gateway(&origin, "forward = \"keyed\"").await;
    for user in ["1", "2", "1"] {
        let got = gateway.ask("GET", "/a").field("authorization", user).send().await;
        got.body(user).status("fwd=uri-miss; detail=authorization");
    }
    gateway.get("/a").await.body("").status(MISS);
    origin.saw("/a", 4);
}

/// Many servers read `X_Tenant` as `X-Tenant`.
#[tokio::test]
async fn fields_with_underscores_do_not_pass_for_others() {
    let tables = "[policies.by-tenant]\nplugin = \"bundled:tenant\"\ntime = \"10s\"\n\
         config = { field = \"X-Tenant\" }\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\nkey = \"by-tenant\"\n";
    for (line, expected) in [("", None), ("underscores_in_fields = true", Some("evil"))] {
        let origin = Origin::start().await;
        let server = format!("workers = 1\n{line}");
        let gateway = Gateway::setup(&origin).server(&server).routes(tables).start().await;
        origin.on("/a").reply(ok("1").max_age(600).field("vary", "Accept-Language"));
        for (http2, asked) in [(false, 1), (true, 2)] {
            let ask = gateway.ask("GET", "/a").field("x-tenant", &asked.to_string());
            let ask = ask.field("x_tenant", "evil").field("accept_language", "evil");
            let ask = if http2 { ask.http2() } else { ask };
            ask.send().await.code(200).status(MISS);
            origin.saw("/a", asked);
            let seen = origin.last("/a");
            assert_eq!(seen.field("x-tenant"), Some(asked.to_string()));
            for name in ["x_tenant", "accept_language"] {
                assert_eq!(seen.field(name).as_deref(), expected, "{name} {line}");
            }
        }
        // Without what it goes by, the policy lets the request go past the cache.
        gateway.ask("GET", "/a").field("x_tenant", "1").send().await;
        assert_eq!(origin.last("/a").field("x_tenant").is_some(), expected.is_some(), "{line}");
    }
}

#[tokio::test]
async fn parameters_that_only_look_like_a_part_stay_behind() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1").max_age(600));
    let tables = "[policies.by-tenant]\nplugin = \"bundled:tenant\"\ntime = \"10s\"\n\
         config = { field = \"X-Tenant\", query = false }\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
         key = \"by-tenant\"\nforward = \"keyed\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    let ask = |target: &str| gateway.ask("GET", target).field("x-tenant", "acme").send();
    ask("/a?tenant=acme").await.body("1").status(MISS);
    assert_eq!(origin.last("/a").field("x-tenant").as_deref(), Some("acme"));
    ask("/a").await.body("1").status("hit");
}

#[tokio::test]
async fn parameters_that_are_a_part_of_other_origin_make_another_key() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1").max_age(600));
    origin.on("/a?tenant=acme").reply(ok("2").max_age(600));
    let tables = "[policies.by-tenant]\nplugin = \"bundled:tenant\"\ntime = \"10s\"\n\
         config = { field = \"X-Tenant\", drop = [\"*\"] }\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
         key = \"by-tenant\"\nforward = \"keyed\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    let ask = |target: &str| gateway.ask("GET", target).field("x-tenant", "acme").send();
    // The part `tenant` is the field's; and the parameter has its name and value.
    ask("/a?tenant=acme").await.body("2").status(MISS);
    ask("/a").await.body("1").status(MISS);
    ask("/a?x=1").await.body("1").status("hit");
    ask("/a?tenant=acme").await.body("2").status("hit");
    origin.saw("/a", 1);
    origin.saw("/a?tenant=acme", 1);
    // Of this one it cannot be told what goes forward, whatever is stored.
    origin.on("/a?tenant=other").reply(ok("3").max_age(600));
    for _ in 0..2 {
        ask("/a?tenant=other").await.body("3").status("fwd=bypass; detail=query-rewritten");
    }
    ask("/a").await.body("1").status("hit");
}

#[tokio::test]
async fn query_that_the_policy_has_rewritten_goes_past_the_cache() {
    let origin = Origin::start().await;
    // The only part is named `query`, and has the path as its value.
    let place = ("more", "(data (i32.const 300) \"query\")");
    let named =
        "(i32.store (i32.const 160) (i32.const 300)) (i32.store (i32.const 164) (i32.const 5))";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&fixture(&[place, ("key", named)])).unwrap();
    let tables = format!(
        "[policies.written]\nplugin = \"{}\"\ntime = \"10s\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
         key = \"written\"\nforward = \"keyed\"\n",
        file.path().display()
    );
    let gateway = Gateway::setup(&origin).routes(&tables).start().await;
    for (target, asked, status) in [
        ("/abc?x=1", "/abc?x=1", "fwd=bypass; detail=query-rewritten"),
        ("/abc?/abc&x=1", "/abc?/abc", MISS),
        ("/abc?x=1", "/abc?x=1", "fwd=bypass; detail=query-rewritten"),
    ] {
        origin.on(asked).reply(ok(asked).max_age(600));
        gateway.get(target).await.status(status);
    }
    origin.saw("/abc?/abc", 1);
}

#[tokio::test]
async fn part_of_the_content_is_asked_for_and_conditions_are_answered_here() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "forward = \"keyed\"").await;
    origin.on("/a").reply(ok("0123456789").max_age(600).etag("1"));
    let part = ok("01").code(206).max_age(600).etag("1").field("content-range", "bytes 0-1/10");
    origin.on("/a").with("range", "bytes=0-1").reply(part);
    let ask = || gateway.ask("GET", "/a").field("range", "bytes=0-1");
    ask().send().await.code(206).body("01").status("fwd=uri-miss; stored");
    ask().send().await.code(206).body("01").status("hit");
    gateway.admin("POST", "/clear").send().await.code(200);

    // What `If-Range` asks for is known when the whole is there.
    ask().field("if-range", "\"0\"").send().await.code(200).body("0123456789").status(MISS);
    assert_eq!(origin.last("/a").field("range"), None);
    assert_eq!(origin.last("/a").field("if-range"), None);
    ask().field("if-range", "\"1\"").send().await.code(206).body("01").status("hit");
    let got = gateway.ask("GET", "/a").field("if-none-match", "\"1\"").send().await;
    got.code(304).status("hit");
    gateway.ask("HEAD", "/a").send().await.code(200).body("").status("hit");
}
