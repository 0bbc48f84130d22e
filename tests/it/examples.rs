//! The worked examples of RFC 9111, RFC 9211, RFC 9213 and RFC 9875, each through a running gateway.
//! Those of RFC 5861 are in `stale`.

use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::{secs, until};

const MISS: &str = "fwd=uri-miss; stored";
/// L1 keeps for an hour what is fresh for longer than five minutes.
const KEEPING: &str = "[cache.l1]\nttl = \"1h\"";

/// A response with these fields.
fn with(fields: &[(&str, &str)]) -> Reply {
    fields.iter().fold(ok("1"), |reply, (name, value)| reply.field(name, value))
}

/// Whether `ttl` is so many seconds, or fewer by those that the test itself took.
fn is_about(got: &Got, ttl: i64) -> bool {
    let field = got.field("cache-status").unwrap();
    let found = field.rsplit_once("; ttl=").unwrap().1.split(';').next().unwrap();
    (ttl - 5..=ttl).contains(&found.parse().unwrap())
}

/// RFC 9111 §5.2.3: "A cache that does not recognize the community cache directive would ignore it
/// and adhere to the private directive."
#[tokio::test]
async fn an_unknown_directive_widens_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(with(&[("cache-control", "private, community=\"UCI\"")]));
    for times in 1..3 {
        let got = gateway.get("/a").await.status("fwd=uri-miss; detail=private");
        got.has("cache-control", "private, community=\"UCI\"");
        origin.saw("/a", times);
    }
}

/// RFC 9111 §5.3: `Expires: Thu, 01 Dec 1994 16:00:00 GMT`, in each of the forms of a date.
#[tokio::test]
async fn expires_is_a_date() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (number, expires) in [
        "Thu, 01 Dec 1994 16:00:00 GMT",
        "Thursday, 01-Dec-94 16:00:00 GMT",
        "Thu Dec  1 16:00:00 1994",
        "thu, 01 dec 1994 16:00:00 gmt",
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        // An hour after it was made; which was long ago, whatever it says.
        let date = ("date", "Thu, 01 Dec 1994 15:00:00 GMT");
        origin.on(&target).reply(with(&[date, ("expires", expires), ("etag", "\"1\"")]));
        gateway.get(&target).await.status(MISS);
        let got = gateway.ask("GET", &target).field("cache-control", "max-stale").send().await;
        let age: i64 = got.age().try_into().unwrap();
        assert!(is_about(&got, 3600 - age), "{expires}: {got:?}");
        got.status("hit").has("expires", expires);
        origin.saw(&target, 1);
    }
}

/// RFC 9111 §5.2: "recipients ought to accept both forms", `max-age=5` and `max-age="5"`.
#[tokio::test]
async fn both_forms_of_an_argument_are_read() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (number, (response, request, expected)) in [
        ("max-age=60", "max-age=5", "fwd=request; stored"),
        ("max-age=\"60\"", "max-age=\"5\"", "fwd=request; stored"),
        ("s-maxage=60", "max-age=\"15\"", "hit"),
        ("s-maxage=\"60\"", "min-fresh=20", "hit"),
        ("max-age=60", "min-fresh=\"20\"", "hit"),
        ("max-age=60", "min-fresh=\"55\"", "fwd=request; stored"),
        ("max-age=5", "max-stale=10", "hit"),
        ("max-age=5", "max-stale=\"10\"", "hit"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        origin.on(&target).reply(with(&[("cache-control", response)]));
        gateway.get(&target).await.status(MISS);
        gateway.clock().advance(secs(10));
        let got = gateway.ask("GET", &target).field("cache-control", request).send().await;
        assert_eq!(got.cache_status(), expected, "{response} | {request}");
    }
}

/// RFC 9211 §3, with this cache's name for `ExampleCache`.
#[tokio::test]
async fn cache_status_of_one_cache() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache(KEEPING).start().await;
    let reply = || with(&[("cache-control", "max-age=400"), ("etag", "\"1\"")]);
    origin.on("/a").reply(reply());
    // "a complete miss"
    gateway.get("/a").await.has("cache-status", "larder; fwd=uri-miss; stored");
    // "a polite cache will give some more information": `ExampleCache; hit; ttl=376`
    gateway.clock().advance(secs(24));
    let got = gateway.get("/a").await.status("hit");
    assert!(is_about(&got, 376), "{got:?}");
    // "A stale hit just has negative freshness": `ExampleCache; hit; ttl=-412`
    gateway.clock().advance(secs(788));
    let got = gateway.ask("GET", "/a").field("cache-control", "max-stale").send().await;
    assert!(is_about(&got.status("hit"), -412));
    // "a miss that successfully validated on the backend server"
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(400));
    let got = gateway.get("/a").await.code(200);
    got.has("cache-status", "larder; fwd=stale; fwd-status=304; stored");
    origin.saw("/a", 2);

    // "a miss that was collapsed with another request"
    let held = origin.on("/b").hold(reply());
    let follower = async {
        until("the leader is there", || origin.count("/b") == 1).await;
        gateway.get("/b").await
    };
    let release = async {
        gateway.reaches("followers", 1).await;
        held.release();
    };
    let (_leader, follower, ()) = tokio::join!(gateway.get("/b"), follower, release);
    follower.has("cache-status", "larder; fwd=uri-miss; collapsed");

    // "a miss that the cache attempted to collapse, but couldn't"
    let held = origin.on("/c").hold(with(&[("cache-control", "private")]));
    let follower = async {
        until("the leader is there", || origin.count("/c") == 1).await;
        gateway.get("/c").await
    };
    let release = async {
        gateway.reaches("followers", 2).await;
        held.release();
    };
    let (_leader, follower, ()) = tokio::join!(gateway.get("/c"), follower, release);
    follower.has("cache-status", "larder; fwd=uri-miss; collapsed=?0; detail=private");
    origin.saw("/c", 2);
}

/// RFC 9211 §3: "the cache closest to the origin responded to an earlier request with a stored
/// response, and a second cache stored that response and later reused it".
#[tokio::test]
async fn cache_status_of_several_caches() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache(KEEPING).start().await;
    let inner = ("cache-status", "OriginCache; hit; ttl=1100");
    origin.on("/a").reply(with(&[inner, ("cache-control", "max-age=600")]));
    gateway.get("/a").await.has("cache-status", &format!("{}, larder; {MISS}", inner.1));
    // Several times, as the heads of hits are used again.
    for (passed, ttl) in [(0, 600), (0, 600), (0, 600), (55, 545), (5, 540)] {
        gateway.clock().advance(secs(passed));
        let got = gateway.get("/a").await.status("hit");
        assert!(is_about(&got, ttl), "{got:?}");
        let list = got.field("cache-status").unwrap();
        assert!(list.starts_with("OriginCache; hit; ttl=1100, larder; hit; ttl="), "{list}");
        assert_eq!(list.matches("larder").count(), 1, "{list}");
    }
    origin.saw("/a", 1);

    // "going through a three-layer caching system": each cache has a line of its own.
    let lines = ["ReverseProxyCache; hit", "ForwardProxyCache; fwd=uri-miss; collapsed; stored"];
    let reply = with(&[("cache-status", lines[0]), ("cache-status", lines[1])]);
    origin.on("/b").reply(reply.max_age(600));
    for own in ["larder; fwd=uri-miss; stored", "larder; hit; ttl="] {
        let got = gateway.get("/b").await;
        let found: Vec<_> = got.headers.get_all("cache-status").iter().collect();
        assert_eq!(found[..2], lines, "{got:?}");
        assert!(found.len() == 3 && found[2].to_str().unwrap().starts_with(own), "{got:?}");
    }

    // What a 304 came through takes the place of what the stored response once came through.
    origin.on("/c").reply(with(&[inner, ("etag", "\"1\"")]).max_age(60));
    gateway.get("/c").await.status(MISS);
    gateway.clock().advance(secs(61));
    origin.on("/c").reply(status(304).max_age(60).field("cache-status", "OriginCache; fwd=miss"));
    let validated = gateway.get("/c").await.status("fwd=stale; fwd-status=304; stored");
    assert!(validated.field("cache-status").unwrap().starts_with("OriginCache; fwd=miss, larder;"));
}

/// RFC 9211 §2: "a proxy generating a 400 response due to a malformed request will not add a
/// Cache-Status value, because that response was generated by the proxy".
#[tokio::test]
async fn a_response_of_the_gateways_own_has_no_cache_status() {
    let origin = Origin::start().await;
    let tables = "[[routes]]\nname = \"a\"\npath = \"/a\"\nmethods = [\"GET\"]\n\
                  upstream = \"origin\"\n";
    let gateway = Gateway::setup(&origin).routes(tables).start().await;
    let malformed = gateway.ask("GET", "/a").field("host", "a.test").field("host", "b.test");
    malformed.send().await.code(400).lacks("cache-status");
    gateway.get("/b").await.code(404).lacks("cache-status");
    gateway.ask("PUT", "/a").send().await.code(405).lacks("cache-status");
    assert!(origin.asked().is_empty());
}

/// RFC 9211 §2.7: "a representation of the cache key used for the response".
#[tokio::test]
async fn cache_status_tells_the_key_where_that_is_wanted() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache("[cache]\nstatus_key = true").start().await;
    origin.on("/a?b=%22").reply(ok("1").max_age(60).field("cache-status", "inner; fwd=miss"));
    for expected in ["fwd=uri-miss; stored; key=\"a?b=%22\"", "hit; key=\"a?b=%22\""] {
        let got = gateway.get("/a?b=%22").await.code(200).status(expected);
        let field = got.field("cache-status").unwrap();
        assert!(field.starts_with("inner; fwd=miss, larder; "), "{field}");
    }
    let got = gateway.ask("GET", "/a?b=%22").field("if-none-match", "*").send().await.code(304);
    got.status("hit; key=\"a?b=%22\"");
    gateway.ask("POST", "/a").send().await.status("fwd=method");
}

/// RFC 9213 §2.2: the target list `[ExampleCDN-Cache-Control, CDN-Cache-Control]`.
#[tokio::test]
async fn a_field_of_ones_own_overrides_that_of_all() {
    let origin = Origin::start().await;
    let list = "[cache]\ntargeted = [\"ExampleCDN-Cache-Control\", \"CDN-Cache-Control\"]";
    let gateway = Gateway::setup(&origin).cache(list).start().await;
    let example = |value: &'static str| ("examplecdn-cache-control", value);
    let general = ("cdn-cache-control", "max-age=20");
    let cache_control = ("cache-control", "max-age=10");
    for (number, (fields, lifetime)) in [
        (vec![example("max-age=30"), general, cache_control], 30),
        (vec![general, example("max-age=30")], 30),
        (vec![example(""), general, cache_control], 20),
        (vec![example("max-age=30,"), general, cache_control], 20),
        (vec![general, cache_control], 20),
        (vec![cache_control], 10),
        // "this suffix MUST NOT be used on its own to identify targeted fields" (§2.4)
        (vec![("othercdn-cache-control", "max-age=30"), cache_control], 10),
        (vec![("larder-cache-control", "no-store"), cache_control], 10),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        origin.on(&target).reply(with(&fields));
        gateway.get(&target).await.status(MISS);
        let got = gateway.get(&target).await.status("hit");
        assert!(is_about(&got, lifetime), "{fields:?}: {got:?}");
        // On the list or not, they "MUST be passed through".
        fields.iter().fold(got, |got, (name, value)| got.has(name, value));
        origin.saw(&target, 1);
    }
}

/// RFC 9213 §2.3: "this response is still fresh after being cached for 30 minutes, while from the
/// standpoint of other caches, this response is already stale".
#[tokio::test]
async fn a_longer_targeted_lifetime_shows_in_the_age() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache(KEEPING).start().await;
    let fields = [("cache-control", "max-age=600"), ("cdn-cache-control", "max-age=3600")];
    origin.on("/a").reply(with(&fields));
    gateway.get("/a").await.status(MISS);
    gateway.clock().advance(secs(1800));
    let got = gateway.get("/a").await.status("hit");
    assert!((1800..1805).contains(&got.age()) && is_about(&got, 1800), "{got:?}");
    fields.iter().fold(got, |got, (name, value)| got.has(name, value));
    origin.saw("/a", 1);
}

/// RFC 9213 §3.1, all four.
#[tokio::test]
async fn a_cdn_is_told_apart_from_other_caches() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache(KEEPING).start().await;
    let cdn = ("cdn-cache-control", "max-age=600");
    let no_store = ("cache-control", "no-store");
    let old = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    for (target, fields, lifetime) in [
        // "consider the response fresh for 600 seconds, other shared caches … 120 seconds"
        ("/1", vec![("cache-control", "max-age=60, s-maxage=120"), cdn], Some(600)),
        // "while all other caches would be prevented from storing it"
        ("/2", vec![cdn, no_store], Some(600)),
        // "would prevent all caches from storing the response"
        ("/3", vec![no_store, old], None),
        // "all caches except for CDN caches": without a lifetime, one is guessed.
        ("/4", vec![no_store, ("cdn-cache-control", "none"), old], Some(24 * 60 * 60)),
    ] {
        origin.on(target).reply(with(&fields));
        let Some(lifetime) = lifetime else {
            for _ in 0..2 {
                gateway.get(target).await.status("fwd=uri-miss; detail=no-store");
            }
            origin.saw(target, 2);
            continue;
        };
        gateway.get(target).await.status(MISS);
        let got = gateway.get(target).await.status("hit");
        assert!(is_about(&got, lifetime), "{fields:?}: {got:?}");
        origin.saw(target, 1);
    }
}

/// RFC 9213 §2.2: "Caches that use a targeted field MUST implement the semantics of the following
/// cache directives", and "SHOULD implement other cache directives".
#[tokio::test]
async fn targeted_directives_mean_what_they_mean_in_cache_control() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache(KEEPING).start().await;
    for (number, (value, first, later)) in [
        ("max-age=60", MISS, "hit"),
        ("max-age=60, must-revalidate", MISS, "fwd=stale; stored"),
        ("max-age=60, proxy-revalidate", MISS, "fwd=stale; stored"),
        ("max-age=5, s-maxage=60", MISS, "fwd=stale; stored"),
        ("max-age=60, no-cache", MISS, "fwd=stale; stored"),
        ("no-store, max-age=60", "fwd=uri-miss; detail=no-store", "fwd=uri-miss; detail=no-store"),
        ("private, max-age=60", "fwd=uri-miss; detail=private", "fwd=uri-miss; detail=private"),
        ("max-age=60, unknown=5", MISS, "hit"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        let fields = [("cdn-cache-control", value), ("cache-control", "max-age=9")];
        origin.on(&target).reply(with(&fields).etag("1"));
        gateway.get(&target).await.status(first);
        gateway.clock().advance(secs(61));
        let got = gateway.ask("GET", &target).field("cache-control", "max-stale").send().await;
        assert_eq!(got.cache_status(), later, "{value}");
    }
    // The fields of a qualified form are withheld.
    let fields = [("cdn-cache-control", "max-age=60, private=\"x-user\", no-cache=\"x-once\"")];
    let reply = with(&fields).field("x-user", "1").field("x-once", "2");
    origin.on("/qualified").reply(reply);
    gateway.get("/qualified").await.status(MISS).has("x-user", "1").has("x-once", "2");
    gateway.get("/qualified").await.status("hit").lacks("x-user").lacks("x-once");
}

/// RFC 9875 §2 and §3: a response in the group "scripts", and a POST "that has side effects on two
/// cache groups".
#[tokio::test]
async fn a_write_names_the_groups_that_it_has_side_effects_on() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).cache(KEEPING).start().await;
    for (target, groups) in [
        ("/app.js", "\"scripts\""),
        ("/results", "\"eurovision-results\""),
        ("/sydney", "\"cities\", \"australia\""),
    ] {
        let fields = [("content-type", "application/javascript"), ("cache-groups", groups)];
        origin.on(target).reply(with(&fields).max_age(3600));
        gateway.get(target).await.status(MISS).has("cache-groups", groups);
    }
    let groups = "\"eurovision-results\", \"australia\"";
    let reply = with(&[("content-type", "text/html"), ("cache-group-invalidation", groups)]);
    origin.on("/vote").reply(reply);
    // "MUST be ignored on responses to requests that have a safe method"
    for (method, after) in [("GET", "hit"), ("POST", MISS)] {
        let got = gateway.ask(method, "/vote").send().await.code(200);
        got.has("cache-group-invalidation", groups);
        gateway.get("/app.js").await.status("hit");
        gateway.get("/results").await.status(after);
        gateway.get("/sydney").await.status(after);
    }
}
