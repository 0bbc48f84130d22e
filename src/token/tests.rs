//! Tokens that hold and that do not.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::COOKIE;
use proptest::prelude::*;
use ring::hmac;
use tempfile::NamedTempFile;

use super::vectors::{BY_NAME, JWKS, PEM, TOKENS};
use super::*;
use crate::config::{Algorithm, JwtKeys, Place};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn jwt(keys: JwtKeys, algorithms: &[Algorithm]) -> Jwt {
    Jwt {
        name: "users".to_owned(),
        keys,
        algorithms: algorithms.to_vec(),
        issuer: None,
        audience: Vec::new(),
        leeway: Duration::ZERO,
        from: TokenFrom::Authorization,
        place: Place::default(),
    }
}

fn by_secret() -> Jwt {
    jwt(JwtKeys::Secret(SECRET.to_owned()), &[Algorithm::Hs256])
}

fn signed(header: &str, claims: &str) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
    format!("{text}.{signature}")
}

fn hs256(claims: &str) -> String {
    signed(r#"{"alg":"HS256"}"#, claims)
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

fn holds(reader: &Reader, token: &str, now: u64) -> bool {
    reader.claims(&bearer(token), at(now)).is_some()
}

fn file(text: &str) -> (NamedTempFile, PathBuf) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_owned();
    (file, path)
}

#[test]
fn each_algorithm_verifies_its_own_tokens_and_no_others() {
    let ((_pem, pem), (_jwks, jwks)) = (file(PEM), file(JWKS));
    for (listed, _) in TOKENS {
        let algorithm = Algorithm::of(listed).unwrap();
        for keys in [JwtKeys::Pem(pem.clone()), JwtKeys::Jwks(jwks.clone())] {
            let reader = Reader::new(&jwt(keys, &[algorithm])).unwrap();
            for (signed_by, token) in TOKENS {
                assert_eq!(holds(&reader, token, 0), signed_by == listed, "{signed_by}, {listed}");
                let (rest, _) = token.rsplit_once('.').unwrap();
                let other = format!("{rest}.{}", TOKENS[8].1.rsplit_once('.').unwrap().1);
                assert!(signed_by == "EdDSA" || !holds(&reader, &other, 0), "{signed_by}");
            }
        }
    }
}

#[test]
fn example_of_the_rfc() {
    // RFC 7515 §A.1.
    let key =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog\
         Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let parts = Parts::of(token.as_bytes()).unwrap();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(key).unwrap());
    hmac::verify(&secret, parts.signed, &parts.signature).unwrap();
    // It has expired since.
    let reader = Reader::new(&jwt(JwtKeys::Trusted, &[])).unwrap();
    assert!(holds(&reader, token, 1_300_819_379) && !holds(&reader, token, 1_300_819_380));
}

#[test]
fn names_choose_among_keys() {
    let (_file, jwks) = file(JWKS);
    let reader = Reader::new(&jwt(JwtKeys::Jwks(jwks), &[Algorithm::Es256])).unwrap();
    for (token, expected, why) in [
        (BY_NAME[0], true, "its own"),
        (BY_NAME[1], false, "another key's"),
        (BY_NAME[2], false, "`crit` with what is not understood (RFC 7515 §4.1.11)"),
    ] {
        assert_eq!(holds(&reader, token, 0), expected, "{why}");
    }
}

#[test]
fn an_extension_is_not_understood_whatever_it_is() {
    let reader = Reader::new(&by_secret()).unwrap();
    for (header, expected) in [
        (r#"{"alg":"HS256","typ":"JWT"}"#, true),
        (r#"{"alg":"HS256","crit":["exp"]}"#, false),
        (r#"{"alg":"HS256","crit":null}"#, false),
    ] {
        assert_eq!(holds(&reader, &signed(header, "{}"), 0), expected, "{header}");
    }
}

#[test]
fn keys_of_a_set_that_cannot_be_used_are_passed_over() {
    let (_file, jwks) = file(JWKS);
    let set: Value = serde_json::from_slice(&std::fs::read(jwks).unwrap()).unwrap();
    let mut keys = set["keys"].as_array().unwrap().clone();
    for odd in [r#"{"kid":"1"}"#, r#"{"kty":"EC","kid":1}"#, r#""x""#, "null"] {
        keys.insert(0, serde_json::from_str(odd).unwrap());
    }
    let reader = |keys: &[Value]| {
        let (_file, jwks) = file(&serde_json::json!({ "keys": keys }).to_string());
        Reader::new(&jwt(JwtKeys::Jwks(jwks), &[Algorithm::Es256]))
    };
    assert!(holds(&reader(&keys).unwrap(), BY_NAME[0], 0));
    for (operations, expected) in [(&["verify"][..], true), (&["sign"], false), (&[], false)] {
        for key in &mut keys {
            if let Some(key) = key.as_object_mut() {
                key.insert("key_ops".to_owned(), operations.into());
            }
        }
        let holds = reader(&keys).is_ok_and(|reader| holds(&reader, BY_NAME[0], 0));
        assert_eq!(holds, expected, "{operations:?}");
    }
}

#[test]
fn claims_that_hold() {
    let jwt = Jwt {
        issuer: Some("shop".to_owned()),
        audience: vec!["api".to_owned(), "web".to_owned()],
        leeway: Duration::from_secs(5),
        ..by_secret()
    };
    let reader = Reader::new(&jwt).unwrap();
    for (claims, expected, why) in [
        (r#""aud":"api""#, true, "no time is stated"),
        (r#""aud":["x","web"]"#, true, "one of them"),
        (r#""aud":["x"]"#, false, "for others"),
        (r#""aud":1"#, false, "for nobody"),
        (r#""x":1"#, false, "for nobody in particular"),
        (r#""aud":"api","exp":96"#, true, "within the leeway"),
        (r#""aud":"api","exp":95"#, false, "RFC 7519 §4.1.4: on or after"),
        (r#""aud":"api","exp":101.5"#, true, "a NumericDate may have a fraction"),
        (r#""aud":"api","exp":"999""#, false, "no number"),
        (r#""aud":"api","exp":null"#, false, "no number"),
        (r#""aud":"api","nbf":105"#, true, "within the leeway"),
        (r#""aud":"api","nbf":106"#, false, "RFC 7519 §4.1.5: not before"),
        (r#""aud":"api","iss":"other""#, false, "the last of two counts"),
        (r#""aud":"api","id":18446744073709551615"#, true, "exact"),
        (r#""aud":"api","id":18446744073709551616"#, false, "told apart from no neighbour"),
        (r#""aud":"api","a":[{"b":1e300}]"#, false, "nor this"),
    ] {
        let token = hs256(&format!(r#"{{"iss":"shop",{claims}}}"#));
        // The second time it is remembered.
        for _ in 0..2 {
            assert_eq!(holds(&reader, &token, 100), expected, "{claims}: {why}");
        }
    }
    let found = reader.claims(&bearer(&hs256(r#"{"iss":"shop","aud":"api","sub":"1"}"#)), at(0));
    assert_eq!(found.unwrap()["sub"], "1");
}

#[test]
fn why_a_token_does_not_hold() {
    let jwt =
        Jwt { issuer: Some("shop".to_owned()), audience: vec!["api".to_owned()], ..by_secret() };
    let reader = Reader::new(&jwt).unwrap();
    let ours = |more: &str| hs256(&format!(r#"{{"iss":"shop","aud":"api"{more}}}"#));
    for (token, expected) in [
        (ours(""), None),
        ("x".repeat(LONGEST + 1), Some(Unheld::Long)),
        ("a.b".to_owned(), Some(Unheld::Form)),
        (format!("{}AAAA", ours("")), Some(Unheld::Signature)),
        (signed(r#"{"alg":"none"}"#, "{}"), Some(Unheld::Signature)),
        (hs256("[]"), Some(Unheld::Claims)),
        (ours(r#","exp":"9""#), Some(Unheld::Date)),
        (hs256(r#"{"iss":"x","aud":"api"}"#), Some(Unheld::Issuer)),
        (hs256(r#"{"iss":"shop"}"#), Some(Unheld::Audience)),
        (ours(r#","id":1e300"#), Some(Unheld::Number)),
        (ours(r#","exp":100"#), Some(Unheld::Expired)),
        (ours(r#","nbf":101"#), Some(Unheld::Early)),
    ] {
        assert_eq!(reader.held(token.as_bytes(), at(100)).err(), expected, "{token:.80}");
    }
}

#[test]
fn remembered_token_expires() {
    let reader = Reader::new(&by_secret()).unwrap();
    let token = hs256(r#"{"sub":"1","nbf":10,"exp":20}"#);
    for (now, expected) in [(9, false), (10, true), (19, true), (20, false), (15, true)] {
        assert_eq!(holds(&reader, &token, now), expected, "{now}");
    }
}

#[test]
fn a_remembered_token_vouches_for_nothing_but_itself() {
    let reader = Reader::new(&by_secret()).unwrap();
    let tokens = [r#"{"sub":"1"}"#, r#"{"sub":"2"}"#].map(hs256);
    for token in &tokens {
        assert!(holds(&reader, token, 0));
    }
    let [(one, ones), (other, others)] = tokens.each_ref().map(|it| it.rsplit_once('.').unwrap());
    for (text, signature) in [(one, others), (other, ones), (one, ""), ("", ones)] {
        assert!(!holds(&reader, &format!("{text}.{signature}"), 0), "{text}.{signature}");
    }
    for (token, sub) in tokens.iter().zip(["1", "2"]) {
        assert_eq!(reader.claims(&bearer(token), at(0)).unwrap()["sub"], sub);
    }
}

#[test]
fn what_is_no_token_has_no_claims() {
    let reader = Reader::new(&by_secret()).unwrap();
    let token = hs256(r#"{"sub":"1"}"#);
    assert!(holds(&reader, &token, 0));
    let (text, _) = token.rsplit_once('.').unwrap();
    for (token, why) in [
        (String::new(), "nothing"),
        ("a.b".to_owned(), "two parts"),
        (format!("{token}."), "four"),
        (format!("{token}="), "padding"),
        (format!("{text}."), "no signature"),
        (format!("{text}.AAAA"), "another"),
        (signed(r#"{"alg":"none"}"#, r#"{"sub":"1"}"#), "`none`"),
        (signed(r#"{"alg":"hs256"}"#, r#"{"sub":"1"}"#), "names are case-sensitive"),
        (signed(r#"{"alg":"HS512"}"#, r#"{"sub":"1"}"#), "not listed"),
        (signed("{}", r#"{"sub":"1"}"#), "no algorithm"),
        (hs256(r#"["sub"]"#), "claims are an object"),
        (hs256(r#"{"sub":"1""#), "broken off"),
        (hs256(&format!(r#"{{"sub":"{}"}}"#, "1".repeat(8 << 10))), "too long"),
    ] {
        assert!(!holds(&reader, &token, 0), "{why}");
    }
    let mut fields = bearer(&token);
    fields.append(AUTHORIZATION, fields[AUTHORIZATION].clone());
    assert!(reader.claims(&fields, at(0)).is_none(), "which of them?");
}

#[test]
fn public_key_is_no_secret() {
    let (_file, pem) = file(PEM);
    let algorithms = [Algorithm::Hs256, Algorithm::Rs256];
    let error = Reader::new(&jwt(JwtKeys::Pem(pem), &algorithms)).err().unwrap();
    assert_eq!(error.to_string(), "there is no key for `HS256`");
}

#[test]
fn where_tokens_are_found() {
    let token = hs256(r#"{"sub":"1"}"#);
    let from = |from| Reader::new(&Jwt { from, ..by_secret() }).unwrap();
    let field = http::HeaderName::from_static("x-token");
    let one = |name: &http::HeaderName, value: String| {
        HeaderMap::from_iter([(name.clone(), HeaderValue::try_from(value).unwrap())])
    };
    for (reader, fields, expected) in [
        (from(TokenFrom::Authorization), one(&AUTHORIZATION, format!("bearer  {token}")), true),
        (from(TokenFrom::Authorization), one(&AUTHORIZATION, format!("Basic {token}")), false),
        (from(TokenFrom::Authorization), one(&AUTHORIZATION, token.clone()), false),
        (from(TokenFrom::Cookie("t".to_owned())), one(&COOKIE, format!("a=1; t={token}")), true),
        (
            from(TokenFrom::Cookie("t".to_owned())),
            one(&COOKIE, format!("a=\"; t={token}; b=\"")),
            false,
        ),
        (from(TokenFrom::Cookie("t".to_owned())), one(&AUTHORIZATION, token.clone()), false),
        (from(TokenFrom::Field(field.clone())), one(&field, token.clone()), true),
    ] {
        assert_eq!(reader.claims(&fields, at(0)).is_some(), expected, "{fields:?}");
    }
}

#[test]
fn files_that_hold_no_keys() {
    for (is_pem, text, told) in [
        (true, "", "has no `PUBLIC KEY`"),
        (true, "-----BEGIN PUBLIC KEY-----\n?\n-----END PUBLIC KEY-----\n", "is not PEM"),
        (
            true,
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "has a key that is none of RSA, P-256, P-384 and Ed25519",
        ),
        (false, "{}", "is no JWK Set: `{\"keys\": [...]}`"),
        (
            false,
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            "has no RSA, P-256, P-384 or Ed25519 key for signatures",
        ),
    ] {
        let (_file, path) = file(text);
        let keys = if is_pem { JwtKeys::Pem(path.clone()) } else { JwtKeys::Jwks(path.clone()) };
        let error = Reader::new(&jwt(keys, &[Algorithm::Es256])).err().unwrap();
        assert_eq!(error.to_string(), format!("`{}` {told}", path.display()));
    }
}

proptest! {
    #[test]
    fn never_panics(
        token in prop::collection::vec(any::<u8>(), 0..64),
        claims in "[{}\"a-z:0-9,.e]{0,32}",
    ) {
        let reader = Reader::new(&by_secret()).unwrap();
        let known = &reader.known.load();
        prop_assert!(reader.read(known, &token).is_err());
        drop(reader.read(known, hs256(&claims).as_bytes()));
    }
}
