//! Responses that answer other queries than their own (draft-ietf-httpbis-no-vary-search).

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::redis::Redis;
use crate::support::tiers::Tiers;
use crate::support::{secs, until};

const MISS: &str = "fwd=uri-miss; stored";

/// A response with this rule.
fn under(rule: &str, body: &str) -> Reply {
    ok(body.to_owned()).max_age(60).field("no-vary-search", rule)
}

#[tokio::test]
async fn equivalent_queries_are_answered_by_one_response() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for (path, rule, stored, equivalent, others) in [
        (
            "/order",
            "key-order",
            "a=1&b=2",
            vec!["b=2&a=1", "&a=%31&&b=2", "a=1&b=2"],
            vec!["a=1", "a=2&b=2"],
        ),
        (
            "/but",
            "params=(\"utm\" \"id\")",
            "a=1&utm=x",
            vec!["a=1", "utm=y&a=1&id", "%61=1"],
            vec!["", "a=2", "a=1&b"],
        ),
        ("/none", "params", "a=1", vec!["", "b=2"], vec![]),
        ("/only", "params, except=(\"a\")", "a=1", vec!["b=2&a=1"], vec!["b=2", "a=2"]),
        ("/default", "params=()", "a=1", vec!["a=1"], vec!["a=%31", "a=1&"]),
        ("/fault", "params, except=?1", "a=1", vec!["a=1"], vec!["a=2"]),
    ] {
        for gateway in tiers.gateways(&origin).await {
            let target = |query: &str| format!("{path}?{query}");
            origin.on(&target(stored)).reply(under(rule, "1"));
            gateway.get(&target(stored)).await.body("1").status(MISS);
            gateway.settled().await;
            for query in [&*equivalent, &[stored]].concat() {
                let got = gateway.get(&target(query)).await.body("1").status("hit");
                got.has("no-vary-search", rule);
                gateway.ask("HEAD", &target(query)).send().await.body("").status("hit");
            }
            for query in others.clone() {
                origin.on(&target(query)).reply(ok("2").max_age(60));
                gateway.get(&target(query)).await.body("2").status(MISS);
            }
            // Another path is another resource.
            origin.on("/other?a=1").reply(ok("3").field("cache-control", "no-store"));
            gateway.get("/other?a=1").await.body("3").status("fwd=uri-miss; detail=no-store");
        }
    }
}

#[tokio::test]
async fn gateway_finds_what_another_one_stored_for_another_query() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a?x=1&utm=1").reply(under("params=(\"utm\")", "1"));
    first.get("/a?x=1&utm=1").await.status(MISS);
    first.settled().await;
    for utm in ["2", "3"] {
        second.get(&format!("/a?utm={utm}&x=1")).await.body("1").status("hit");
    }
    assert_eq!((second.figure("l2_hits"), second.figure("l1_hits")), (1, 1));
}

#[tokio::test]
async fn write_to_any_equivalent_uri_invalidates() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    origin.on("/a?x=1&utm=1").reply(under("params=(\"utm\")", "1"));
    origin.on("/a?x=1").reply(under("params=(\"utm\")", "1"));
    origin.on("/a?x=1&utm=2").reply(under("params=(\"utm\")", "1"));
    for gateway in tiers.gateways(&origin).await {
        for written in ["/a?x=1&utm=1", "/a?x=1", "/a?x=1&utm=2"] {
            gateway.get("/a?x=1&utm=1").await.status(MISS);
            gateway.settled().await;
            gateway.get("/a?x=1").await.status("hit");
            origin.on(written).method("POST").reply(status(204));
            gateway.ask("POST", written).send().await.code(204);
            let count = origin.asked().len();
            gateway.get("/a?x=1&utm=2").await.body("1").status(MISS);
            assert_eq!(origin.asked().len(), count + 1);
            // For the next turn.
            gateway.ask("POST", written).send().await.code(204);
        }
    }
}

#[tokio::test]
async fn write_leaves_other_queries_alone_where_they_are_not_equivalent() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for target in ["/a?x=1", "/a?x=2"] {
        origin.on(target).reply(ok("1").max_age(60));
        gateway.get(target).await.status(MISS);
    }
    origin.on("/a?x=1").method("POST").reply(status(204));
    gateway.ask("POST", "/a?x=1").send().await.code(204);
    gateway.get("/a?x=1").await.status(MISS);
    gateway.get("/a?x=2").await.status("hit");
}

#[tokio::test]
async fn stale_response_is_validated_for_an_equivalent_query() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in tiers.gateways(&origin).await {
        origin.on("/a?x=1&utm=1").reply(under("params=(\"utm\")", "1").etag("1"));
        gateway.get("/a?x=1&utm=1").await.status(MISS);
        gateway.settled().await;
        gateway.clock().advance(secs(61));
        let reply = status(304).max_age(60).etag("1");
        origin.on("/a?x=1&utm=2").with("if-none-match", "\"1\"").reply(reply);
        let got = gateway.get("/a?x=1&utm=2").await.body("1");
        got.status("fwd=stale; fwd-status=304; stored");
        gateway.settled().await;
        for utm in 1..4 {
            gateway.get(&format!("/a?x=1&utm={utm}")).await.body("1").status("hit");
        }
    }
}

#[tokio::test]
async fn variants_lie_under_equivalent_queries_too() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in tiers.gateways(&origin).await {
        let ask = async |target: &str, tenant: &str| {
            gateway.ask("GET", target).field("x-tenant", tenant).send().await
        };
        for (target, tenant) in [("/a?utm=1", "1"), ("/a?utm=2", "2")] {
            let reply = under("params", tenant).field("vary", "x-tenant");
            origin.on(target).reply(reply);
        }
        ask("/a?utm=1", "1").await.body("1").status(MISS);
        gateway.settled().await;
        ask("/a?utm=2", "2").await.body("2").status("fwd=vary-miss; stored");
        gateway.settled().await;
        for tenant in ["1", "2"] {
            ask("/a?utm=3", tenant).await.body(tenant).status("hit");
        }
    }
}

#[tokio::test]
async fn origin_may_change_its_rule() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a?x=1").reply(under("params=(\"x\")", "1"));
    gateway.get("/a?x=1").await.status(MISS);
    gateway.get("/a?x=2").await.body("1").status("hit");
    gateway.clock().advance(secs(61));
    // Both matter now, in any order.
    origin.on("/a?x=2&y=1").reply(under("key-order", "2"));
    gateway.get("/a?x=2&y=1").await.body("2").status(MISS);
    gateway.get("/a?y=1&x=2").await.body("2").status("hit");
    // What has no rule any more is found by its own query alone.
    origin.on("/a?x=3").reply(ok("3").max_age(60));
    gateway.get("/a?x=3").await.body("3").status("fwd=stale; stored");
    gateway.get("/a?x=3").await.body("3").status("hit");
    origin.on("/a?x=4").reply(ok("4").max_age(60));
    gateway.get("/a?x=4").await.body("4").status("fwd=stale; stored");
}

#[tokio::test]
async fn response_with_a_rule_takes_the_place_of_a_stale_one_without() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a?x=1").reply(ok("old").max_age(60));
    gateway.get("/a?x=1").await.body("old").status(MISS);
    gateway.clock().advance(secs(61));
    origin.on("/a?x=1").reply(under("params", "new"));
    gateway.get("/a?x=1").await.body("new").status("fwd=stale; stored");
    for target in ["/a?x=1", "/a?x=2", "/a"] {
        gateway.get(target).await.body("new").status("hit");
    }
    origin.saw("/a?x=1", 2);
}

#[tokio::test]
async fn request_that_wants_the_origin_gets_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, body) in [("/a?x=1", "1"), ("/a?x=2", "2")] {
        origin.on(target).reply(under("params", body));
    }
    gateway.get("/a?x=1").await.status(MISS);
    let got = gateway.ask("GET", "/a?x=2").field("cache-control", "no-cache").send().await;
    got.body("2").status("fwd=request; stored");
    // It is the newest one for all of them.
    gateway.get("/a?x=1").await.body("2").status("hit");
}

#[tokio::test]
async fn queries_that_a_known_rule_holds_equivalent_share_a_fetch() {
    let origin = Origin::start().await;
    let rule = "params=(\"utm\")";
    let made = [
        // What the origin says while another waits, and what that one gets.
        (under(rule, "2"), under(rule, "2").etag("1"), "fwd=stale; collapsed"),
        (
            status(304).max_age(60).etag("1"),
            under(rule, "1").etag("1"),
            "fwd=stale; fwd-status=304; collapsed",
        ),
        (ok("2").max_age(60), under(rule, "1"), "fwd=stale; stored; collapsed=?0"),
    ];
    for (reply, first, expected) in made {
        let is_one = expected.ends_with("; collapsed");
        let gateway = Gateway::before(&origin).await;
        origin.on("/a?x=1&utm=1").reply(first);
        gateway.get("/a?x=1&utm=1").await.status(MISS);
        gateway.clock().advance(secs(61));
        let held = origin.on("/a?x=1&utm=2").hold(reply.clone());
        origin.on("/a?x=1&utm=3").reply(reply);
        let before = (origin.count("/a?x=1&utm=2"), origin.count("/a?x=1&utm=3"));
        let follower = async {
            until("the leader is there", || origin.count("/a?x=1&utm=2") > before.0).await;
            gateway.get("/a?x=1&utm=3").await
        };
        // Another query is another fetch, which nobody has to wait for.
        origin.on("/a?x=2&utm=2").reply(under(rule, "other"));
        let other = async {
            gateway.reaches("followers", 1).await;
            gateway.get("/a?x=2&utm=2").await.body("other").status(MISS);
            held.release();
        };
        let (leader, follower, ()) = tokio::join!(gateway.get("/a?x=1&utm=2"), follower, other);
        assert_eq!(leader.body, follower.body);
        follower.status(expected);
        assert_eq!(origin.count("/a?x=1&utm=3") == before.1, is_one);
    }
}

#[tokio::test]
async fn key_policy_decides_alone() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin)
        .routes(
            "[policies.q]\nplugin = \"bundled:normalise-query\"\n[[routes]]\nname = \"all\"\n\
             path = \"/{*rest}\"\nupstream = \"origin\"\nkey = \"q\"\n",
        )
        .start()
        .await;
    for (target, body) in [("/a?x=1", "1"), ("/a?x=2", "2")] {
        origin.on(target).reply(under("params", body));
        gateway.get(target).await.body(body).status(MISS);
    }
}

/// RFC 9111 §4: "a cache MUST use the most recent one".
#[tokio::test]
async fn response_with_a_rule_takes_the_place_of_an_older_one_without() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a?x=1").reply(ok("old").max_age(60));
    gateway.get("/a?x=1").await.body("old").status(MISS);
    gateway.clock().advance(secs(5));
    origin.on("/a?x=1").reply(under("params", "new"));
    let got = gateway.ask("GET", "/a?x=1").field("cache-control", "no-cache").send().await;
    got.body("new").status("fwd=request; stored");
    for target in ["/a?x=1", "/a?x=2"] {
        gateway.get(target).await.body("new").status("hit");
    }
}
