//! The tables `[jwt.NAME]`: where tokens are, and who vouches for them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use toml::de::DeValue;

use super::fault::Wrong;
use super::reader::{Table, Value};
use super::routes::all;
use super::source::Source;
use super::{JwksUrl, Place, jwks, nearest};

/// `[jwt.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// The table's name.
    pub name: String,
    /// `secret`, `keys`, `jwks` or `trust`.
    pub keys: JwtKeys,
    /// `algorithms`: which ones a token may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// `issuer`: the `iss` that a token must have.
    pub issuer: Option<String>,
    /// `audience`: of these a token must have one in `aud`. Empty is any, or none.
    pub audience: Vec<String>,
    /// `leeway`, default 30 s, at most 1 h: how far clocks may differ.
    pub leeway: Duration,
    /// `from`: where a request has its token.
    pub from: TokenFrom,
    /// Where the keys' value stands.
    pub place: Place,
}

/// Who vouches for a token. Its `Debug` hides the secret.
#[derive(Clone, PartialEq)]
pub enum JwtKeys {
    /// `secret`, shared with the issuer; at least as long as the hash.
    Secret(String),
    /// `keys`: a PEM file with public keys.
    Pem(PathBuf),
    /// `jwks`: a file with a JWK Set.
    Jwks(PathBuf),
    /// `jwks`: where there is one.
    Url(Box<JwksUrl>),
    /// `trust`: something before this gateway has verified it.
    Trusted,
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret([hidden])"),
            Self::Pem(file) => f.debug_tuple("Pem").field(file).finish(),
            Self::Jwks(file) => f.debug_tuple("Jwks").field(file).finish(),
            Self::Url(url) => f.debug_tuple("Url").field(url).finish(),
            Self::Trusted => f.write_str("Trusted"),
        }
    }
}

/// Where a request has its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFrom {
    /// `Authorization: Bearer TOKEN` (RFC 6750).
    Authorization,
    /// The value of a cookie.
    Cookie(String),
    /// The value of a field.
    Field(HeaderName),
}

/// How a token is signed (RFC 7518 §3.1, RFC 8037). `none` is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// All that are known.
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// As `alg` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one of this name, which is case-sensitive.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether its keys are RSA keys.
    pub fn is_rsa(self) -> bool {
        use Algorithm::{Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        matches!(self, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
    }

    /// How long a secret for it must be; none if it takes none.
    pub fn secret_octets(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
            _ => None,
        }
    }
}

/// None if it cannot be said who vouches.
pub(super) fn read(name: String, mut table: Table<'_>, folder: &Path) -> Option<Jwt> {
    let (place, source) = (table.place, table.source);
    let keys = keys(&name, &mut table, folder);
    let algorithms = table.take("algorithms");
    let algorithms = match (&keys, algorithms) {
        (Some((JwtKeys::Trusted, _)), Some(value)) => {
            let hint = "leave it out: with `trust` no signature is looked at";
            value.report("algorithms are for keys", Some(hint.to_owned()));
            None
        }
        (Some((JwtKeys::Trusted, _)) | None, None) => Some(Vec::new()),
        (_, Some(value)) => all(&value, "write algorithms = [\"ES256\"]", algorithm),
        (Some((keys, _)), None) => {
            let hint = match keys {
                JwtKeys::Secret(_) => "write those that your issuer uses: algorithms = [\"HS256\"]",
                _ => "write those that your issuer uses: algorithms = [\"ES256\"]",
            };
            table.missing("algorithms", hint);
            None
        }
    };
    let jwt = Jwt {
        name,
        issuer: table.take("issuer").and_then(|value| value.read(text)),
        audience: table
            .take("audience")
            .map_or(Some(Vec::new()), |value| audience(&value))
            .unwrap_or_default(),
        leeway: table.duration(
            "leeway",
            Duration::from_secs(30),
            Duration::ZERO..=Duration::from_hours(1),
        ),
        from: table.read("from", TokenFrom::Authorization, |text| from(text, source)),
        place: keys.as_ref().map_or(place, |(_, place)| *place),
        algorithms: algorithms.clone().unwrap_or_default(),
        keys: keys.as_ref().map_or(JwtKeys::Trusted, |(keys, _)| keys.clone()),
    };
    if let (JwtKeys::Secret(secret), Some(algorithms)) = (&jwt.keys, &algorithms) {
        let longest = algorithms.iter().filter_map(|it| it.secret_octets()).max().unwrap_or(0);
        if secret.len() < longest {
            // RFC 7518 §3.2: "A key of the same size as the hash output … or larger MUST be used".
            let message = format!("secret has fewer than {longest} octets");
            let hint = "make one as long as the hash, as with `openssl rand -base64 48`";
            table.report(jwt.place, &message, Some(hint.to_owned()));
        }
    }
    table.finish();
    (keys.is_some() && algorithms.is_some()).then_some(jwt)
}

/// The one key among `secret`, `keys`, `jwks` and `trust`, and where it stands.
fn keys(name: &str, table: &mut Table<'_>, folder: &Path) -> Option<(JwtKeys, Place)> {
    const ONE: &str = "write one of `secret`, `keys`, `jwks`, and `trust = true`";

    let secret = table.take("secret").map(|value| value.secret(|_| "[hidden]".to_owned()));
    let pem = table.take("keys");
    let jwks = table.take("jwks");
    let trust = table.take("trust");
    let beside = jwks::Beside::take(table);
    let given = [&secret, &pem, &jwks, &trust];
    let mut places = given.iter().filter_map(|value| value.as_ref().map(|value| value.place));
    let Some(first) = places.next() else {
        table.missing("secret", ONE);
        return None;
    };
    if let Some(second) = places.next() {
        let message = "signatures are verified in one way";
        table.report(first.max(second), message, Some(ONE.to_owned()));
        return None;
    }
    if jwks.is_none() {
        beside.refuse();
    }
    let keys = if let Some(value) = secret {
        JwtKeys::Secret(value.read(text)?)
    } else if let Some(value) = pem {
        JwtKeys::Pem(value.read(|text| jwks::path(text, folder))?)
    } else if let Some(value) = jwks {
        jwks::read(name, &value, &beside, folder)?
    } else if trust.as_ref().is_some_and(|value| matches!(value.content, DeValue::Boolean(true))) {
        JwtKeys::Trusted
    } else {
        let hint = "write trust = true where something before Larder has verified the token";
        trust?.report("trust is not `true`", Some(hint.to_owned()));
        return None;
    };
    Some((keys, first))
}

fn text(text: &str) -> Result<String, Wrong> {
    if text.is_empty() { Err(Wrong::new("is empty")) } else { Ok(text.to_owned()) }
}

/// One or several.
fn audience(value: &Value<'_>) -> Option<Vec<String>> {
    match value.content {
        DeValue::String(_) => value.read(text).map(|name| vec![name]),
        _ => all(value, "write audience = \"shop\", or leave it out", text),
    }
}

fn algorithm(text: &str) -> Result<Algorithm, Wrong> {
    Algorithm::of(text).ok_or_else(|| {
        // The nearest one may be one that the issuer does not use.
        let hint = nearest::hint("", "write some of", Algorithm::ALL.map(Algorithm::name));
        Wrong { complaint: "is no algorithm that is verified here".to_owned(), hint }
    })
}

fn from(text: &str, source: &Source<'_>) -> Result<TokenFrom, Wrong> {
    let wrong = || {
        Wrong::new("names no place in a request")
            .with_hint("write \"authorization\", \"cookie:NAME\" or \"field:NAME\"")
    };
    match text.split_once(':') {
        None if text == "authorization" => Ok(TokenFrom::Authorization),
        Some(("cookie", name)) if is_cookie_name(name) => Ok(TokenFrom::Cookie(name.to_owned())),
        Some(("field", name)) => {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            source.kept(name).map(TokenFrom::Field)
        }
        _ => Err(wrong()),
    }
}

/// RFC 6265 §4.1.1: a token; a field name is one, in lower case.
fn is_cookie_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}
