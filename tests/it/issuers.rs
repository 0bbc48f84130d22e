//! Keys of tokens at a URL: when they are fetched, and what becomes of tokens when they change, or cannot be had.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok, status};
use crate::support::plugin::fixture;
use crate::tokens::CLAIM_IN_KEY;

const STORED: &str = "fwd=uri-miss; stored";

/// A key that an issuer signs tokens with.
struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let (signing, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
        Self { id, pair: EcdsaKeyPair::from_pkcs8(signing, made.as_ref(), &random).unwrap() }
    }

    /// RFC 7518 §6.2.
    fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "x": x, "y": y })
    }

    /// What a client shows.
    fn bearer(&self, claims: &str) -> String {
        let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.id);
        let [header, claims] = [&header, claims].map(|text| URL_SAFE_NO_PAD.encode(text));
        let text = format!("{header}.{claims}");
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("Bearer {text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// An API whose responses are for one user, and whoever issues its tokens.
struct Shop {
    api: Origin,
    issuer: Origin,
    folder: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let (api, issuer) = (Origin::start().await, Origin::start().await);
        api.on("/abc").answer(mine);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("users.wasm"), fixture(&CLAIM_IN_KEY)).unwrap();
        Self { api, issuer, folder }
    }

    /// These are the issuer's keys from now on.
    fn signs_with(&self, keys: &[&Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.issuer.on("/keys").reply(ok(json!({ "keys": keys }).to_string()));
    }

    /// A gateway of a file, with these lines about tokens.
    async fn gateway(&self, lines: &str) -> Gateway {
        let tables = format!(
            "[policies.users]\nplugin = \"users.wasm\"\ntime = \"10s\"\n\
             [jwt.users]\njwks = \"{}/keys\"\nalgorithms = [\"ES256\"]\n{lines}\n\
             [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
             key = \"users\"\njwt = \"users\"\ngrants = [\"authorization\", \"private\"]\n",
            self.issuer.url()
        );
        let setup = Gateway::setup(&self.api).server("workers = 1\nwatch = false").routes(&tables);
        setup.start_from(&self.file()).await
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }
}

/// Says what it was asked with.
fn mine(asked: &Asked) -> Reply {
    ok(asked.field("authorization").unwrap_or_default())
        .field("cache-control", "private, max-age=600")
}

/// What becomes of a request with this token.
async fn ask(gateway: &Gateway, token: &str) -> String {
    let got = gateway.ask("GET", "/abc").field("authorization", token).send().await.code(200);
    got.cache_status()
}

/// Waits until the token holds: the response is stored then.
async fn holds(gateway: &Gateway, token: &str) {
    let asking = async {
        while !matches!(ask(gateway, token).await.as_str(), STORED | "hit") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the token never holds");
    assert_eq!(ask(gateway, token).await, "hit");
}

async fn health(gateway: &Gateway) -> Value {
    let told = gateway.admin("GET", "/health").send().await.code(200);
    serde_json::from_slice(&told.body).unwrap()
}

/// Waits until the issuer has been asked so often.
async fn asked(shop: &Shop, times: usize) {
    crate::support::until("it is asked", || shop.issuer.count("/keys") >= times).await;
}

#[tokio::test]
async fn keys_are_fetched_and_fetched_again_for_one_that_is_not_known() {
    let (shop, [one, two, three]) = (Shop::open().await, ["1", "2", "3"].map(Key::new));
    shop.signs_with(&[&one]);
    let gateway = shop.gateway("refresh = \"1h\"").await;
    let user = r#"{"sub":"1"}"#;
    holds(&gateway, &one.bearer(user)).await;
    shop.issuer.saw("/keys", 1);
    let fields = shop.issuer.asked().remove(0);
    assert_eq!(fields.field("user-agent").as_deref(), Some("larder-keys"));
    assert_eq!(fields.field("host").as_deref(), shop.issuer.url().strip_prefix("http://"));

    // The next key is there beside the one before, then alone.
    shop.signs_with(&[&two]);
    let renewed = two.bearer(user);
    holds(&gateway, &renewed).await;
    assert_eq!(ask(&gateway, &renewed).await, "hit", "it is the same user");
    // What was remembered does not count without its key.
    let status = ask(&gateway, &one.bearer(user)).await;
    assert!(status != "hit" && !status.contains("stored"), "{status}");
    // Nobody can have the issuer asked by making tokens.
    for key in [&one, &three] {
        for _ in 0..3 {
            let status = ask(&gateway, &key.bearer(user)).await;
            assert!(status != "hit" && !status.contains("stored"), "{status}");
        }
    }
    shop.issuer.saw("/keys", 2);
}

#[tokio::test]
async fn keys_stay_while_there_are_no_others() {
    let (shop, [one, two]) = (Shop::open().await, ["1", "2"].map(Key::new));
    shop.signs_with(&[&one]);
    let gateway = shop.gateway("refresh = \"1s\"").await;
    let token = one.bearer(r#"{"sub":"1"}"#);
    holds(&gateway, &token).await;
    let told = health(&gateway).await;
    assert_eq!((&told["status"], &told["token_keys"][0]["keys"]), (&json!("pass"), &json!(1)));
    for (reply, why) in [
        (status(500), "it answered 500"),
        (status(302), "it answered 302"),
        (ok("no keys"), "is no JWK Set"),
        (ok(r#"{"keys":[]}"#), "has no RSA, P-256, P-384 or Ed25519 key"),
        (ok("a".repeat(300 << 10)), "longer than 256 KiB"),
    ] {
        shop.issuer.on("/keys").reply(reply);
        asked(&shop, shop.issuer.count("/keys") + 2).await;
        assert_eq!(ask(&gateway, &token).await, "hit");
        let told = health(&gateway).await;
        let text = told["token_keys"][0]["failure"]["text"].as_str().unwrap();
        assert!(told["status"] == "warn" && text.contains(why), "{told}");
    }
    let metrics = gateway.admin("GET", "/metrics").send().await.code(200).body;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    for line in ["larder_token_keys{jwt=\"users\"} 1", "larder_token_keys_failing{jwt=\"users\"} 1"]
    {
        assert!(metrics.lines().any(|it| it == line), "{line}");
    }
    // They are taken when they are there again.
    shop.signs_with(&[&two]);
    holds(&gateway, &two.bearer(r#"{"sub":"2"}"#)).await;
    let told = health(&gateway).await;
    assert_eq!(
        (&told["status"], &told["token_keys"][0]["failure"]),
        (&json!("pass"), &Value::Null)
    );
}

#[tokio::test]
async fn a_reload_keeps_what_was_fetched() {
    let (shop, one) = (Shop::open().await, Key::new("1"));
    shop.signs_with(&[&one]);
    let gateway = shop.gateway("refresh = \"1h\"").await;
    let token = one.bearer(r#"{"sub":"1"}"#);
    holds(&gateway, &token).await;
    shop.issuer.on("/keys").reply(status(503));
    for (from, to) in [("\"1h\"", "\"2h\""), ("leeway", "leeway")] {
        let text = fs::read_to_string(shop.file()).unwrap();
        fs::write(shop.file(), text.replace(from, to)).unwrap();
        gateway.admin("POST", "/reload").send().await.code(200);
        assert_eq!(ask(&gateway, &token).await, "hit");
    }
    asked(&shop, 3).await;
    assert_eq!(ask(&gateway, &token).await, "hit");
}

/// A gateway starts whether the issuer is there or not; without keys nothing is anybody's.
#[tokio::test]
async fn tokens_hold_once_there_are_keys() {
    let (shop, one) = (Shop::open().await, Key::new("1"));
    shop.issuer.on("/keys").reply(status(503));
    let gateway = shop.gateway("").await;
    let token = one.bearer(r#"{"sub":"1"}"#);
    asked(&shop, 1).await;
    let status = ask(&gateway, &token).await;
    assert!(status != "hit" && !status.contains("stored"), "{status}");
    shop.signs_with(&[&one]);
    holds(&gateway, &token).await;
}
