//! Claims of tokens in keys: one stored response for each user, however often the token is renewed.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tempfile::NamedTempFile;

use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok};
use crate::support::plugin::fixture;
use crate::support::secs;

const STORED: &str = "fwd=uri-miss; stored";

/// Has the claim `sub` in the key, if the request has one, for paths of four octets.
pub(crate) const CLAIM_IN_KEY: [(&str, &str); 3] = [
    (
        "more",
        "(data (i32.const 312) \"\\40\\01\\00\\00\\03\\00\\00\\00\") (data (i32.const 320) \"sub\")",
    ),
    (
        "configure",
        "(i32.store (i32.const 1048) (i32.const 312)) (i32.store (i32.const 1052) (i32.const 1))",
    ),
    (
        "key",
        "(if (i32.load8_u (i32.load offset=72 (local.get $request)))
           (then
             (i32.store (i32.const 140) (i32.const 2))
             (i32.store (i32.const 176) (i32.const 320))
             (i32.store (i32.const 180) (i32.const 3))
             (i32.store (i32.const 184)
               (i32.load offset=4 (i32.load offset=72 (local.get $request))))
             (i32.store (i32.const 188)
               (i32.load offset=8 (i32.load offset=72 (local.get $request))))))",
    ),
];

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn token(secret: &str, claims: &str) -> String {
    let [header, claims] = [r#"{"alg":"HS256"}"#, claims].map(|text| URL_SAFE_NO_PAD.encode(text));
    let text = format!("{header}.{claims}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
    format!("{text}.{signature}")
}

pub(crate) fn bearer(claims: &str) -> String {
    format!("Bearer {}", token(SECRET, claims))
}

/// A route whose key policy has the claim `sub` in the key, if there is one.
async fn start(origin: &Origin, jwt: &str, lines: &str) -> (NamedTempFile, Gateway) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&fixture(&CLAIM_IN_KEY)).unwrap();
    let tables = format!(
        "[policies.users]\nplugin = \"{}\"\ntime = \"10s\"\n\
         [jwt.users]\nleeway = \"0s\"\n{jwt}\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
         key = \"users\"\njwt = \"users\"\n{lines}\n",
        file.path().display()
    );
    (file, Gateway::setup(origin).routes(&tables).start().await)
}

pub(crate) fn by_secret() -> String {
    format!("secret = \"{SECRET}\"\nalgorithms = [\"HS256\"]")
}

/// Says what it was asked with.
fn mine(asked: &Asked) -> Reply {
    let user = asked.field("authorization").or(asked.field("cookie")).unwrap_or_default();
    ok(user).field("cache-control", "private, max-age=600")
}

#[tokio::test]
async fn users_are_told_apart_by_claims_and_not_by_tokens() {
    let origin = Origin::start().await;
    origin.on("/abc").answer(mine);
    let grants = "grants = [\"authorization\", \"private\"]";
    let (_file, gateway) = start(&origin, &by_secret(), grants).await;
    let ask = |token: &str| gateway.ask("GET", "/abc").field("authorization", token).send();
    let [one, two] = [r#"{"sub":"1"}"#, r#"{"sub":"2"}"#].map(bearer);
    for user in [&one, &two] {
        ask(user).await.body(user).status(STORED);
    }
    for user in [&one, &two] {
        ask(user).await.body(user).status("hit");
        ask(&user.replace("Bearer", "bearer")).await.body(user).status("hit");
    }
    // A new token of the same user.
    ask(&bearer(r#"{"sub":"1","iat":7}"#)).await.body(&one).status("hit");
    // A number is another claim than a string.
    let number = bearer(r#"{"sub":1}"#);
    ask(&number).await.body(&number).status(STORED);
    origin.saw("/abc", 3);
}

#[tokio::test]
async fn token_that_does_not_hold_shares_nothing() {
    let origin = Origin::start().await;
    origin.on("/abc").answer(mine);
    for forward in ["all", "keyed"] {
        let lines = format!("grants = [\"authorization\", \"private\"]\nforward = \"{forward}\"");
        let (_file, gateway) = start(&origin, &by_secret(), &lines).await;
        let now = gateway.clock().now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let ask = |token: &str| gateway.ask("GET", "/abc").field("authorization", token).send();
        let brief = bearer(&format!(r#"{{"sub":"1","exp":{}}}"#, now + 60));
        ask(&brief).await.body(&brief).status(STORED);
        ask(&brief).await.body(&brief).status("hit");
        gateway.clock().advance(secs(61));
        for wrong in [
            brief,
            bearer(&format!(r#"{{"sub":"1","nbf":{}}}"#, now + 600)),
            format!("Bearer {}", token(&SECRET.replace('0', "1"), r#"{"sub":"1"}"#)),
            "Bearer x".to_owned(),
            "Basic dTpw".to_owned(),
        ] {
            for _ in 0..2 {
                let got = ask(&wrong).await.code(200).body(&wrong);
                assert_ne!(got.cache_status(), "hit", "{wrong}");
                assert!(!got.cache_status().contains("stored"), "{wrong}: {got:?}");
            }
        }
        // Nor do those without one get anything of theirs.
        let got = gateway.get("/abc").await.body("");
        got.status("fwd=uri-miss; detail=private");
    }
}

/// Says what it was asked with, and not for whom.
fn thoughtless(asked: &Asked) -> Reply {
    let user =
        asked.field("x-token").or(asked.field("cookie")).unwrap_or_else(|| "nobody".to_owned());
    ok(user).max_age(600)
}

#[tokio::test]
async fn what_a_token_that_does_not_hold_has_brought_is_for_nobody_else() {
    let origin = Origin::start().await;
    origin.on("/abc").answer(thoughtless);
    let forged = token(&SECRET.replace('0', "1"), r#"{"sub":"1"}"#);
    let nameless = token(SECRET, r#"{"iat":1}"#);
    let good = token(SECRET, r#"{"sub":"1"}"#);
    let cookies = ["x", &forged, &nameless].map(|token| format!("session={token}"));
    let two = format!("session={good}; session={forged}");
    let fields = ["x", &forged, &nameless].map(|token| ("x-token", token.to_owned()));
    let cookies = cookies.into_iter().chain([two]).map(|cookie| ("cookie", cookie));
    let cases = [
        ("cookie:session", cookies.collect::<Vec<_>>()),
        ("field:x-token", fields.into_iter().collect()),
    ];
    for (from, tokens) in cases {
        for forward in ["all", "keyed"] {
            let jwt = format!("{}\nfrom = \"{from}\"", by_secret());
            let lines = format!("grants = [\"private\"]\nforward = \"{forward}\"");
            let (_file, gateway) = start(&origin, &jwt, &lines).await;
            for (name, value) in &tokens {
                let ask = || gateway.ask("GET", "/abc").field(name, value).send();
                for _ in 0..2 {
                    // Of several cookies with one name the first goes forward.
                    let (first, _) = value
                        .split_once("; ")
                        .filter(|_| forward == "keyed")
                        .unwrap_or((value, ""));
                    ask().await.body(first).status("fwd=uri-miss; detail=authorization");
                }
            }
            gateway.get("/abc").await.body("nobody").status(STORED);
            for (name, value) in &tokens {
                // The policy has made the same key for them.
                let ask = gateway.ask("GET", "/abc").field(name, value);
                ask.send().await.body("nobody").status("hit");
            }
        }
    }
}

#[tokio::test]
async fn what_says_that_it_is_for_all_is_stored_unless_the_token_may_be_in_it() {
    let origin = Origin::start().await;
    origin.on("/abc").reply(ok("1").field("cache-control", "public, max-age=600"));
    let jwt = format!("{}\nfrom = \"cookie:session\"", by_secret());
    for (forward, status) in [("all", STORED), ("keyed", "fwd=uri-miss; detail=authorization")] {
        let (_file, gateway) = start(&origin, &jwt, &format!("forward = \"{forward}\"")).await;
        gateway.ask("GET", "/abc").field("cookie", "session=x").send().await.status(status);
    }
}

#[tokio::test]
async fn a_token_without_the_claim_is_granted_nothing() {
    let origin = Origin::start().await;
    origin.on("/abc").answer(mine);
    let grants = "grants = [\"authorization\", \"private\"]";
    let (_file, gateway) = start(&origin, &by_secret(), grants).await;
    for claims in [r#"{"iat":1}"#, r#"{"sub":null}"#] {
        let token = bearer(claims);
        let ask = || gateway.ask("GET", "/abc").field("authorization", &token).send();
        for _ in 0..2 {
            ask().await.body(&token).status("fwd=uri-miss; detail=private");
        }
    }
    gateway.get("/abc").await.body("").status("fwd=uri-miss; detail=private");
}

#[tokio::test]
async fn token_in_a_cookie_goes_forward_alone() {
    let origin = Origin::start().await;
    origin.on("/abc").answer(mine);
    let jwt = format!("{}\nfrom = \"cookie:session\"", by_secret());
    let lines = "grants = [\"private\"]\nforward = \"keyed\"";
    let (_file, gateway) = start(&origin, &jwt, lines).await;
    let cookie = format!("session={}", token(SECRET, r#"{"sub":"1"}"#));
    let sent = format!("theme=dark; {cookie}");
    let ask = || gateway.ask("GET", "/abc").field("cookie", &sent).send();
    ask().await.body(&cookie).status(STORED);
    ask().await.body(&cookie).status("hit");
    origin.saw("/abc", 1);
}

#[tokio::test]
async fn trusted_token_is_read_without_its_signature() {
    let origin = Origin::start().await;
    origin.on("/abc").answer(mine);
    let jwt = "trust = true\nfrom = \"field:x-token\"\nissuer = \"shop\"";
    let (_file, gateway) = start(&origin, jwt, "grants = [\"private\"]").await;
    let ask = |claims: &str| {
        let token = token("anything at all", claims);
        gateway.ask("GET", "/abc").field("x-token", &token).send()
    };
    ask(r#"{"sub":"1","iss":"shop"}"#).await.status(STORED);
    ask(r#"{"sub":"1","iss":"shop","exp":32503680000}"#).await.status("hit");
    ask(r#"{"sub":"1","iss":"other"}"#).await.status("fwd=uri-miss; detail=private");
    ask(r#"{"sub":"1","iss":"shop","exp":1}"#).await.status("fwd=uri-miss; detail=private");
}
