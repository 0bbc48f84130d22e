//! A token in its parts: the compact serialization of RFC 7515 §7.1.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::config::Algorithm;

/// A token, decoded and not verified.
pub(super) struct Parts<'a> {
    /// None: no algorithm that is known here, `none` among them.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) key: Option<String>,
    /// What is signed.
    pub(super) signed: &'a [u8],
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Also where it is `null`.
    #[serde(default, deserialize_with = "whatever")]
    crit: Option<IgnoredAny>,
}

fn whatever<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IgnoredAny>, D::Error> {
    IgnoredAny::deserialize(from).map(Some)
}

impl<'a> Parts<'a> {
    /// `None`: it is no such token.
    pub(super) fn of(token: &'a [u8]) -> Option<Self> {
        let mut parts = token.split(|octet| *octet == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let signed = token.get(..header.len() + 1 + payload.len())?;
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        // RFC 7515 §4.1.11: "the JWS is invalid" if an extension there is not understood, and none is.
        if header.crit.is_some() {
            return None;
        }
        Some(Self {
            algorithm: Algorithm::of(&header.alg),
            key: header.kid,
            signed,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}
