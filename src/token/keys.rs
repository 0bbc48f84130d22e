//! What signatures are verified with: a secret, public keys in a PEM file, or a JWK Set (RFC 7517) in a file or at a URL.
//!
//! A key is of one kind, and an algorithm wants one kind: a public key is never taken for a secret. A
//! token's `alg` only chooses among the algorithms that the configuration lists (RFC 8725 §3.1).

use std::fmt::Display;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{Algorithm, JwksUrl, Jwt, JwtKeys};

use super::jws::Parts;

/// Keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NotKeys {
    /// The file cannot be read.
    #[error("`{file}` cannot be read: {source}")]
    Unreadable {
        /// Its path.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// The file, or what is at the URL, is not of the form that is wanted.
    #[error("`{file}` {why}")]
    Unfit {
        /// Its path, or the URL.
        file: String,
        /// What it is not.
        why: &'static str,
    },
    /// An algorithm is listed that no key is for.
    #[error("there is no key for `{0}`")]
    NoKey(&'static str),
}

/// Keys, and the algorithms that they may be used with.
pub(super) struct Keys {
    algorithms: Vec<Algorithm>,
    /// None: another has verified the token.
    keys: Option<Vec<Named>>,
}

struct Named {
    id: Option<String>,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    key: Key,
}

enum Key {
    Secret(Vec<u8>),
    /// `RSAPublicKey` (RFC 8017 §A.1.1).
    Rsa(Vec<u8>),
    RsaNumbers(signature::RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Keys {
    pub(super) fn new(jwt: &Jwt) -> Result<Self, NotKeys> {
        let keys = match &jwt.keys {
            JwtKeys::Trusted => None,
            JwtKeys::Secret(secret) => Some(vec![Named {
                id: None,
                algorithm: None,
                key: Key::Secret(secret.clone().into_bytes()),
            }]),
            JwtKeys::Pem(file) => Some(pem(file)?),
            JwtKeys::Jwks(file) => Some(jwks(&read(file)?, &file.display())?),
            // There are none until they are fetched.
            JwtKeys::Url(_) => return Ok(Self::of(jwt, Vec::new())),
        };
        let keys = Self { algorithms: jwt.algorithms.clone(), keys };
        let lacks_key = |algorithm: &&Algorithm| {
            let mut named = keys.keys.iter().flatten();
            keys.keys.is_some() && !named.any(|named| named.is_for(**algorithm))
        };
        match keys.algorithms.iter().find(lacks_key) {
            Some(algorithm) => Err(NotKeys::NoKey(algorithm.name())),
            None => Ok(keys),
        }
    }

    /// Those of a JWK Set at a URL.
    pub(super) fn fetched(jwt: &Jwt, set: &[u8], url: &JwksUrl) -> Result<Self, NotKeys> {
        let keys = jwks(set, url)?;
        let is_of_use = |named: &Named| jwt.algorithms.iter().any(|it| named.is_for(*it));
        if !keys.iter().any(is_of_use) {
            let why = "has no key for one of the `algorithms`";
            return Err(NotKeys::Unfit { file: url.to_string(), why });
        }
        Ok(Self::of(jwt, keys))
    }

    fn of(jwt: &Jwt, keys: Vec<Named>) -> Self {
        Self { algorithms: jwt.algorithms.clone(), keys: Some(keys) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.keys.as_ref().map_or(0, Vec::len)
    }

    /// Whether the token may be signed with one that is not here: it names another, or there is none at all.
    pub(super) fn lacks(&self, parts: &Parts<'_>) -> bool {
        let Some(keys) = &self.keys else { return false };
        let is_allowed = parts.algorithm.is_some_and(|it| self.algorithms.contains(&it));
        let is_here = |id: &String| keys.iter().any(|named| named.id.as_ref() == Some(id));
        is_allowed && (keys.is_empty() || parts.key.as_ref().is_some_and(|id| !is_here(id)))
    }

    /// Whether the signature is one of these keys' by an algorithm that is allowed.
    pub(super) fn verify(&self, parts: &Parts<'_>) -> bool {
        let Some(keys) = &self.keys else { return true };
        let allowed = parts.algorithm.filter(|algorithm| self.algorithms.contains(algorithm));
        let Some(algorithm) = allowed else { return false };
        let is_named = |named: &&Named| match (&named.id, &parts.key) {
            (Some(one), Some(other)) => one == other,
            // A key without a name may be meant by any.
            (None, _) | (_, None) => true,
        };
        let mut keys = keys.iter().filter(is_named).filter(|named| named.is_for(algorithm));
        keys.any(|named| named.key.verify(algorithm, parts.signed, &parts.signature))
    }
}

impl Named {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512};
        let is_of_kind = match &self.key {
            Key::Secret(_) => matches!(algorithm, Hs256 | Hs384 | Hs512),
            Key::P256(_) => algorithm == Es256,
            Key::P384(_) => algorithm == Es384,
            Key::Ed25519(_) => algorithm == EdDsa,
            Key::Rsa(_) | Key::RsaNumbers(_) => algorithm.is_rsa(),
        };
        is_of_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

impl Key {
    /// False, too, where the algorithm is not for this kind of key.
    fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let public = |scheme: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(scheme, key).verify(signed, signature).is_ok()
        };
        match (self, algorithm) {
            (Self::Secret(secret), _) => hash(algorithm).is_some_and(|hash| {
                hmac::verify(&hmac::Key::new(hash, secret), signed, signature).is_ok()
            }),
            (Self::P256(point), Algorithm::Es256) => {
                public(&signature::ECDSA_P256_SHA256_FIXED, point)
            }
            (Self::P384(point), Algorithm::Es384) => {
                public(&signature::ECDSA_P384_SHA384_FIXED, point)
            }
            (Self::Ed25519(key), Algorithm::EdDsa) => public(&signature::ED25519, key),
            (Self::Rsa(key), _) => rsa(algorithm).is_some_and(|scheme| public(scheme, key)),
            (Self::RsaNumbers(numbers), _) => rsa(algorithm)
                .is_some_and(|scheme| numbers.verify(scheme, signed, signature).is_ok()),
            _ => false,
        }
    }
}

fn hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// RFC 7518 §3.3: "A key of size 2048 bits or larger MUST be used with these algorithms."
fn rsa(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn read(file: &Path) -> Result<Vec<u8>, NotKeys> {
    std::fs::read(file)
        .map_err(|source| NotKeys::Unreadable { file: file.display().to_string(), source })
}

fn pem(file: &Path) -> Result<Vec<Named>, NotKeys> {
    let unfit = |why| NotKeys::Unfit { file: file.display().to_string(), why };
    let octets = read(file)?;
    let mut keys = Vec::new();
    for key in SubjectPublicKeyInfoDer::pem_slice_iter(&octets) {
        let key = key.map_err(|_| unfit("is not PEM"))?;
        let key = public_key(&key);
        let key =
            key.ok_or_else(|| unfit("has a key that is none of RSA, P-256, P-384 and Ed25519"))?;
        keys.push(Named { id: None, algorithm: None, key });
    }
    if keys.is_empty() {
        return Err(unfit("has no `PUBLIC KEY`"));
    }
    Ok(keys)
}

/// `SubjectPublicKeyInfo` (RFC 5280 §4.1): the algorithm, and the key in a bit string.
fn public_key(der: &[u8]) -> Option<Key> {
    /// `rsaEncryption` with `NULL`, `id-ecPublicKey` with the two curves, `id-Ed25519`.
    const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    const P256: &[u8] =
        b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    const P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
    const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

    let (whole, rest) = element(0x30, der)?;
    let (algorithm, bits) = element(0x30, whole)?;
    let (bits, nothing) = element(0x03, bits)?;
    // The number of bits that are not used comes first.
    let key = bits.strip_prefix(b"\0")?.to_vec();
    if !rest.is_empty() || !nothing.is_empty() {
        return None;
    }
    match algorithm {
        RSA => Some(Key::Rsa(key)),
        P256 => Some(Key::P256(key)),
        P384 => Some(Key::P384(key)),
        ED25519 => Some(Key::Ed25519(key)),
        _ => None,
    }
}

/// The content of a DER element with this tag, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest
            .split_first_chunk()
            .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// RFC 7517 §4, RFC 7518 §6, RFC 8037 §2.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// "Implementations SHOULD ignore JWKs within a JWK Set that use "kty" … values that are not understood …, that
/// are missing required members, or for which values are out of the supported ranges" (RFC 7517 §5). Secrets
/// beside public keys are ignored as well.
fn jwks(set: &[u8], from: &impl Display) -> Result<Vec<Named>, NotKeys> {
    let unfit = |why| NotKeys::Unfit { file: from.to_string(), why };
    let set: Set =
        serde_json::from_slice(set).map_err(|_| unfit("is no JWK Set: `{\"keys\": [...]}`"))?;
    let jwks = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys: Vec<_> = jwks.filter_map(Jwk::into_key).collect();
    if keys.is_empty() {
        return Err(unfit("has no RSA, P-256, P-384 or Ed25519 key for signatures"));
    }
    Ok(keys)
}

impl Jwk {
    fn into_key(self) -> Option<Named> {
        // RFC 7517 §4.2, §4.3.
        let is_for_signatures = self.usage.is_none_or(|usage| usage == "sig")
            && self.key_ops.is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !is_for_signatures {
            return None;
        }
        let algorithm = match self.alg {
            None => None,
            Some(alg) => Some(Algorithm::of(&alg)?),
        };
        let octets = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let (x, y) = (octets(self.x), octets(self.y));
        let point = |length: usize| {
            let (x, y) = (x.as_ref()?, y.as_ref()?);
            let is_right = x.len() == length && y.len() == length;
            is_right.then(|| [&[4], x.as_slice(), y].concat())
        };
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Key::RsaNumbers(signature::RsaPublicKeyComponents {
                n: octets(self.n)?,
                e: octets(self.e)?,
            }),
            ("EC", Some("P-256")) => Key::P256(point(32)?),
            ("EC", Some("P-384")) => Key::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Key::Ed25519(x?),
            _ => return None,
        };
        Some(Named { id: self.kid, algorithm, key })
    }
}
