//! What a route grants its key policy to share, and that nothing crosses users by it.

use std::io::Write as _;

use tempfile::NamedTempFile;

use crate::support::client::Ask;
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok, status};
use crate::support::plugin::fixture;
use crate::support::redis::Redis;

const STORED: &str = "fwd=uri-miss; stored";

/// For paths of four octets the key has `Authorization`, if the request does.
const BY_AUTHORIZATION: [(&str, &str); 2] = [
    (
        "more",
        "(data (i32.const 300) \"authorization\")
         (data (i32.const 64) \"\\2c\\01\\00\\00\\0d\\00\\00\\00\")",
    ),
    (
        "key",
        "(if (i32.load8_u (i32.load offset=56 (local.get $request)))
           (then
             (i32.store (i32.const 140) (i32.const 2))
             (i32.store (i32.const 176) (i32.const 300))
             (i32.store (i32.const 180) (i32.const 13))
             (i32.store (i32.const 184)
               (i32.load offset=4 (i32.load offset=56 (local.get $request))))
             (i32.store (i32.const 188)
               (i32.load offset=8 (i32.load offset=56 (local.get $request))))))",
    ),
];

/// A policy `users` that tells users apart by `Authorization`.
pub(crate) fn by_authorization() -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&fixture(&BY_AUTHORIZATION)).unwrap();
    let path = file.path().display();
    let policy = format!("[policies.users]\nplugin = \"{path}\"\ntime = \"10s\"\n");
    (file, policy)
}

/// A policy `users` that tells them apart by a cookie.
fn by_cookie() -> String {
    "[policies.users]\nplugin = \"bundled:variants\"\ntime = \"10s\"\n\
     config = { cookie = \"user\", cookie-values = [\"1\", \"2\"] }\n"
        .to_owned()
}

async fn start(origin: &Origin, policy: &str, lines: &str) -> Gateway {
    Gateway::setup(origin).routes(&tables(policy, lines)).start().await
}

fn tables(policy: &str, lines: &str) -> String {
    let route = "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
         key = \"users\"\n";
    format!("{policy}{route}{lines}\n")
}

fn ask(gateway: &Gateway, target: &str, field: &str, user: &str) -> Ask {
    let value = if field == "cookie" { format!("user={user}") } else { user.to_owned() };
    gateway.ask("GET", target).field(field, &value)
}

/// Says who asked.
fn user(asked: &Asked) -> Reply {
    let cookie =
        asked.field("cookie").and_then(|cookie| Some(cookie.strip_prefix("user=")?.into()));
    ok(asked.field("authorization").or(cookie).unwrap_or_default())
}

/// Path (of four octets, see above), `Cache-Control`, and whether there is a `Set-Cookie`.
const RESPONSES: [(&str, &str, bool); 7] = [
    ("/an0", "max-age=600", false),
    ("/an1", "public, max-age=600", false),
    ("/an2", "private, max-age=600", false),
    ("/an3", "max-age=600", true),
    ("/an4", "private, max-age=600", true),
    ("/an5", "no-store, max-age=600", false),
    ("/an6", "no-store, private, max-age=600", true),
];

#[tokio::test]
async fn nothing_crosses_users_whatever_is_granted() {
    let origin = Origin::start().await;
    for (target, control, sets) in RESPONSES {
        origin.on(target).answer(move |asked| {
            let reply = user(asked).field("cache-control", control);
            let value = format!("for={}", asked.headers.len());
            if sets { reply.field("set-cookie", &value) } else { reply }
        });
    }
    let (_file, by_authorization) = by_authorization();
    for (field, policy) in [("authorization", by_authorization), ("cookie", by_cookie())] {
        for grants in [
            &[][..],
            &["authorization"],
            &["private"],
            &["set-cookie"],
            &["private", "set-cookie"],
            &["authorization", "private", "set-cookie"],
        ] {
            // A policy that does not see `Authorization` cannot be granted it.
            if field == "cookie" && grants.contains(&"authorization") {
                continue;
            }
            for forward in ["all", "keyed"] {
                let lines =
                    if grants.is_empty() { String::new() } else { format!("grants = {grants:?}") };
                let lines = format!("forward = \"{forward}\"\n{lines}");
                let gateway = start(&origin, &policy, &lines).await;
                for (target, control, sets) in RESPONSES {
                    let is_granted = |grant| grants.contains(&grant);
                    let says = |word| control.contains(word);
                    let is_stored = !says("no-store")
                        && (!says("private") || is_granted("private"))
                        && (!sets || is_granted("set-cookie"))
                        && (field == "cookie" || says("public") || is_granted("authorization"));
                    let what = format!("{target}, {control}, by {field}, {grants:?}");
                    for turn in 0..2 {
                        for user in ["1", "2"] {
                            let got = ask(&gateway, target, field, user).send().await.body(user);
                            let is_hit = got.cache_status() == "hit";
                            assert_eq!(is_hit, turn > 0 && is_stored, "{what}: {got:?}");
                            let has_cookie = got.field("set-cookie").is_some();
                            assert_eq!(has_cookie, sets && !is_hit, "{what}: {got:?}");
                        }
                    }
                    // And nobody in particular gets nothing of theirs.
                    gateway.get(target).await.code(200).body("");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_was_granted_ends_with_the_grant() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    origin.on("/a").answer(|asked| user(asked).field("cache-control", "private, max-age=600"));
    for (lines, expected) in [
        ("grants = [\"private\"]", STORED),
        ("grants = [\"private\"]", "hit"),
        ("", "fwd=uri-miss; detail=private"),
        ("grants = [\"set-cookie\"]", "fwd=uri-miss; detail=private"),
        ("grants = [\"private\"]\nforward = \"keyed\"", STORED),
    ] {
        let setup = Gateway::setup(&origin).redis(&redis).routes(&tables(&by_cookie(), lines));
        let gateway = setup.start().await.in_step().await;
        ask(&gateway, "/a", "cookie", "1").send().await.body("1").status(expected);
        gateway.settled().await;
    }
}

#[tokio::test]
async fn bypass_of_the_policy_is_never_stored() {
    let origin = Origin::start().await;
    origin.on("/a").answer(|asked| user(asked).field("cache-control", "private, max-age=600"));
    let gateway = start(&origin, &by_cookie(), "grants = [\"private\", \"set-cookie\"]").await;
    for _ in 0..2 {
        let got = ask(&gateway, "/a", "cookie", "3").send().await.body("3");
        got.status("fwd=bypass; detail=\"cookie value not listed\"");
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn cookie_in_a_304_is_for_its_client() {
    let origin = Origin::start().await;
    let gateway = start(&origin, &by_cookie(), "grants = [\"set-cookie\"]").await;
    origin.on("/a").reply(ok("1").etag("1").max_age(60).field("set-cookie", "a=1"));
    let get = || ask(&gateway, "/a", "cookie", "1").send();
    get().await.body("1").status(STORED).has("set-cookie", "a=1");
    get().await.body("1").status("hit").lacks("set-cookie");
    gateway.clock().advance(crate::support::secs(61));
    let unchanged = status(304).etag("1").max_age(60).field("set-cookie", "a=2");
    origin.on("/a").with("if-none-match", "\"1\"").reply(unchanged);
    for _ in 0..2 {
        let got = get().await.body("1").has("set-cookie", "a=2");
        got.status("fwd=stale; fwd-status=304; detail=set-cookie");
    }
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("1").max_age(60));
    get().await.body("1").status("fwd=stale; fwd-status=304; stored").lacks("set-cookie");
    get().await.body("1").status("hit").lacks("set-cookie");
}

#[tokio::test]
async fn cookie_reaches_the_leader_and_no_follower() {
    let origin = Origin::start().await;
    let gateway = start(&origin, &by_cookie(), "grants = [\"set-cookie\"]").await;
    let held = origin.on("/a").hold(ok("1").max_age(60).field("set-cookie", "a=1"));
    let leader = tokio::spawn(ask(&gateway, "/a", "cookie", "1").send());
    gateway.reaches("upstream_requests", 1).await;
    let follower = tokio::spawn(ask(&gateway, "/a", "cookie", "1").send());
    gateway.reaches("followers", 1).await;
    held.release();
    leader.await.unwrap().body("1").status(STORED).has("set-cookie", "a=1");
    let follower = follower.await.unwrap().body("1").lacks("set-cookie");
    follower.status("fwd=uri-miss; collapsed");
}
