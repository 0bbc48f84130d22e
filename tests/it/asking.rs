//! `POST` that asks (GraphQL): a read where the route grants it and the key policy makes a key of it.

use std::io::Write as _;

use tempfile::NamedTempFile;

use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::plugin::fixture;
use crate::support::secs;

const STORED: &str = "fwd=uri-miss; stored";

/// Wants the path and the content.
const WANTS: (&str, &str) = ("configure", "(i32.store8 (i32.const 1028) (i32.const 0x48))");

/// For paths of four octets: content that begins with `q` is in the key, without its last octet; other
/// content bypasses, for the reason `path`.
const KEY: (&str, &str) = (
    "key",
    "(if (i32.load8_u offset=80 (local.get $request))
       (then
         (if (i32.eq (i32.load8_u (i32.load offset=84 (local.get $request))) (i32.const 113))
           (then
             (i32.store (i32.const 140) (i32.const 2))
             (i32.store (i32.const 176) (i32.const 300))
             (i32.store (i32.const 180) (i32.const 5))
             (i32.store (i32.const 184) (i32.load offset=84 (local.get $request)))
             (i32.store (i32.const 188)
               (i32.sub (i32.load offset=88 (local.get $request)) (i32.const 1))))
           (else
             (i32.store (i32.const 132) (i32.const 1))
             (i32.store (i32.const 136) (i32.const 80))
             (i32.store (i32.const 140) (i32.const 4))))))",
);

const NAME: (&str, &str) = ("more", "(data (i32.const 300) \"asked\")");

/// Names nothing.
const NOTHING: (&str, &str) = ("invalidation", "(i32.store (i32.const 268) (i32.const 0))");
const FAILS: (&str, &str) = ("invalidation", "unreachable");

async fn start(
    origin: &Origin,
    invalidation: (&str, &str),
    lines: &str,
) -> (NamedTempFile, Gateway) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&fixture(&[WANTS, KEY, NAME, invalidation])).unwrap();
    let tables = format!(
        "[policies.asks]\nplugin = \"{}\"\ntime = \"10s\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
         key = \"asks\"\n{lines}\n",
        file.path().display()
    );
    (file, Gateway::setup(origin).routes(&tables).start().await)
}

async fn post(gateway: &Gateway, content: &'static str) -> Got {
    let ask = gateway.ask("POST", "/ask").field("content-type", "a/b");
    ask.body(content).send().await
}

/// Answers with what it is asked.
fn echo(origin: &Origin) {
    origin.on("/ask").method("POST").answer(|asked| ok(asked.body.clone()).max_age(600));
    origin.on("/ask").method("GET").reply(ok("get").max_age(600));
}

const GRANT: &str = "grants = [\"post\"]";

#[tokio::test]
async fn equal_questions_share_a_response() {
    let origin = Origin::start().await;
    echo(&origin);
    for forward in ["all", "keyed"] {
        let lines = format!("{GRANT}\nforward = \"{forward}\"");
        let (_file, gateway) = start(&origin, NOTHING, &lines).await;
        let before = origin.count("/ask");
        post(&gateway, "q1.").await.body("q1.").status(STORED);
        let asked = origin.last("/ask");
        assert_eq!((asked.method.as_str(), &asked.body[..]), ("POST", &b"q1."[..]));
        assert_eq!(asked.field("content-type").as_deref(), Some("a/b"));
        post(&gateway, "q1.").await.body("q1.").status("hit");
        // Of the content that counts which the policy takes.
        post(&gateway, "q1!").await.body("q1.").status("hit");
        post(&gateway, "q2.").await.body("q2.").status(STORED);
        // Content of another kind is another question, and a GET is none.
        let other = gateway.ask("POST", "/ask").field("content-type", "c/d").body("q1.");
        other.send().await.body("q1.").status(STORED);
        gateway.get("/ask").await.body("get").status(STORED);
        gateway.get("/ask").await.body("get").status("hit");
        post(&gateway, "q1.").await.body("q1.").status("hit");
        assert_eq!(origin.count("/ask") - before, 4);
    }
}

#[tokio::test]
async fn equal_questions_collapse() {
    let origin = Origin::start().await;
    let (_file, gateway) = start(&origin, NOTHING, GRANT).await;
    let held = origin.on("/ask").hold(ok("1").max_age(600));
    let ask = || gateway.ask("POST", "/ask").field("content-type", "a/b").body("q1.").send();
    let leader = tokio::spawn(ask());
    gateway.reaches("upstream_requests", 1).await;
    let follower = tokio::spawn(ask());
    gateway.reaches("followers", 1).await;
    held.release();
    leader.await.unwrap().body("1").status(STORED);
    follower.await.unwrap().body("1").status("fwd=uri-miss; collapsed");
    origin.saw("/ask", 1);
}

#[tokio::test]
async fn post_is_a_write_where_nothing_says_otherwise() {
    let origin = Origin::start().await;
    echo(&origin);
    for (lines, content, field, expected) in [
        ("", "q1.", None, "fwd=method"),
        (GRANT, "m1.", None, "fwd=method; detail=path"),
        (
            "max_query_body = \"4B\"\ngrants = [\"post\"]",
            "q1234",
            None,
            "fwd=method; detail=query-too-large",
        ),
        (GRANT, "q1.", Some(("if-none-match", "\"1\"")), "fwd=method"),
        (GRANT, "q1.", Some(("x-http-method-override", "PUT")), "fwd=method"),
    ] {
        let (_file, gateway) = start(&origin, NOTHING, lines).await;
        gateway.get("/ask").await.status(STORED);
        for _ in 0..2 {
            let ask = gateway.ask("POST", "/ask").field("content-type", "a/b").body(content);
            let ask = field.into_iter().fold(ask, |ask, (name, value)| ask.field(name, value));
            ask.send().await.body(content).status(expected);
            assert_eq!(origin.last("/ask").body, content, "it goes on whole");
        }
        // RFC 9111 §4.4.
        gateway.get("/ask").await.status(STORED);
    }
}

#[tokio::test]
async fn mutation_invalidates_what_its_policy_says_and_all_without_one() {
    let with_policy = format!("{GRANT}\ninvalidation = \"asks\"");
    let by_path = ("invalidation", "");
    for (what, invalidation, lines, expected) in [
        ("no policy", NOTHING, GRANT, STORED),
        ("names nothing", NOTHING, with_policy.as_str(), "hit"),
        ("names the path, softly", by_path, &with_policy, "fwd=stale; stored"),
        ("fails", FAILS, &with_policy, STORED),
    ] {
        let origin = Origin::start().await;
        echo(&origin);
        let (_file, gateway) = start(&origin, invalidation, lines).await;
        post(&gateway, "q1.").await.status(STORED);
        post(&gateway, "m1.").await.code(200).status("fwd=method; detail=path");
        let got = post(&gateway, "q1.").await.body("q1.");
        assert_eq!(got.cache_status(), expected, "{what}");
    }
}

#[tokio::test]
async fn stale_answer_is_asked_for_again_without_conditions() {
    let origin = Origin::start().await;
    let (_file, gateway) = start(&origin, NOTHING, GRANT).await;
    origin.on("/ask").reply(ok("1").etag("1").max_age(60));
    // RFC 9110 §13.1.2: what did not change would be an error.
    origin.on("/ask").with("if-none-match", "\"1\"").reply(status(412));
    post(&gateway, "q1.").await.body("1").status(STORED);
    gateway.clock().advance(secs(61));
    post(&gateway, "q1.").await.body("1").status("fwd=stale; stored");
    post(&gateway, "q1.").await.body("1").status("hit");
}
