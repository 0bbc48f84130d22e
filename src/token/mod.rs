//! JSON Web Tokens (RFC 7519): whose a request is, as far as somebody vouches for it.
//!
//! A [`Reader`] finds a request's token, checks its signature (RFC 7515), its time, its issuer and its
//! audience, and hands out its claims. What does not hold has none: nothing here refuses a request.
//! Tokens that hold are remembered, so that the next request verifies nothing: by all workers, and before
//! that by each worker for itself. What is kept of one is what it says and a hash of its signature: without
//! that it is nobody's credential.
//!
//! `jws` takes tokens apart, `keys` verifies signatures. Claims are for the policies of the route. Where keys are at a URL, a
//! reader learns them from whoever fetches them, and says when a token names one that it does not know.
//!
//! *Not supported:* encrypted tokens (RFC 7516), `ES512`, X.509 chains. Members of the
//! header that only name a key elsewhere (`jku`, `x5u`, `jwk`) are never followed: a token does not
//! choose who vouches for it.

mod jws;
mod keys;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::Value;
use tokio::sync::Notify;
use tracing::debug;

use crate::bounded::Shared;
use crate::config::{JwksUrl, Jwt, JwtKeys, TokenFrom};
use crate::message::{cookies, has_open_quote};
use crate::recent::Recent;

use self::jws::Parts;
use self::keys::Keys;

pub use self::keys::NotKeys;

/// A longer token is none.
const LONGEST: usize = 8 << 10;

/// How many octets of tokens are remembered.
const REMEMBERED: u64 = 16 << 20;

/// Above it a number's neighbours are not told apart (RFC 8259 §6).
const EXACT: f64 = 9_007_199_254_740_992.0;

thread_local! {
    /// Packing a token for a look-up allocates nothing.
    static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };

    /// Those of all readers.
    static RECENT: RefCell<Recent<Arc<Token>>> = RefCell::default();
}

/// Reads the tokens of routes with one `[jwt.NAME]`.
pub struct Reader {
    jwt: Jwt,
    known: ArcSwap<Known>,
    /// Told when a token may have been signed with a key that is not known.
    lacks: Notify,
    /// By which keys, by their number.
    lacking: AtomicU64,
    fetches: Mutex<Fetches>,
}

/// What came of fetching keys.
#[derive(Clone, Debug, Default)]
struct Fetches {
    last: Option<SystemTime>,
    failure: Option<(SystemTime, String)>,
}

/// What a fetch has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// So many keys, which are others than before.
    Keys(usize),
    /// What was known.
    Nothing,
}

/// How it is with keys that are fetched.
#[derive(Clone, Debug)]
pub struct KeysHealth {
    /// The name of their table.
    pub jwt: String,
    /// How many there are.
    pub keys: usize,
    /// When they were fetched last.
    pub fetched: Option<SystemTime>,
    /// Since when they cannot be, and why not.
    pub failure: Option<(SystemTime, String)>,
}

/// Keys, and what was read by them.
struct Known {
    /// Never given twice: it stands before what is packed, as one worker's recent tokens are those of
    /// several readers.
    number: u64,
    keys: Keys,
    /// The JWK Set that they were fetched as.
    set: Option<Bytes>,
    /// Those that held when they were read, their time apart: by the number, the BLAKE3 of the signature,
    /// and all that stands before it.
    read: Shared<Box<[u8]>, Arc<Token>>,
}

/// A token of which everything holds but its time, which passes.
#[derive(Debug)]
struct Token {
    claims: Arc<Value>,
    not_before: Option<f64>,
    expires: Option<f64>,
}

/// Why a token does not hold. Nothing of the token is in it: the log is no place for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unheld {
    #[error("it is longer than 8 KiB")]
    Long,
    #[error("it is not a signed JSON Web Token that is understood")]
    Form,
    #[error("no key verifies its signature by a listed algorithm")]
    Signature,
    #[error("its claims are no JSON object")]
    Claims,
    #[error("its `exp` or `nbf` is no number")]
    Date,
    #[error("its `iss` is not the `issuer`")]
    Issuer,
    #[error("none in its `aud` is in `audience`")]
    Audience,
    #[error("a number in its claims is beyond 64 bits")]
    Number,
    #[error("it has expired")]
    Expired,
    #[error("its `nbf` is still to come")]
    Early,
}

impl Reader {
    /// Reads the keys that it names, once. There are none yet of those that are at a URL.
    ///
    /// # Errors
    /// A file cannot be read, or holds no key of the named algorithms.
    pub fn new(jwt: &Jwt) -> Result<Self, NotKeys> {
        let known = ArcSwap::from_pointee(Known::of(Keys::new(jwt)?, None));
        let (lacks, lacking) = (Notify::new(), u64::MAX.into());
        Ok(Self { jwt: jwt.clone(), known, lacks, lacking, fetches: Mutex::default() })
    }

    /// Where its keys are fetched from, if they are.
    pub fn url(&self) -> Option<&JwksUrl> {
        if let JwtKeys::Url(url) = &self.jwt.keys { Some(url) } else { None }
    }

    /// The name of its table.
    pub fn name(&self) -> &str {
        &self.jwt.name
    }

    /// Takes note of what came of fetching its keys at `now`: a JWK Set, by whose keys it verifies from then on, and by no
    /// others; or why there is none. What was read by others is forgotten.
    ///
    /// # Errors
    /// There is no set, or none of its keys can be used. Those of before stay.
    pub fn learn(&self, set: Result<Bytes, String>, now: SystemTime) -> Result<Learned, String> {
        let learned = set.and_then(|set| self.take(&set).map_err(|error| error.to_string()));
        let mut fetches = self.fetches();
        match &learned {
            Ok(_) => *fetches = Fetches { last: Some(now), failure: None },
            Err(why) => {
                let since = fetches.failure.as_ref().map_or(now, |(since, _)| *since);
                fetches.failure = Some((since, why.clone()));
            }
        }
        learned
    }

    fn take(&self, set: &Bytes) -> Result<Learned, NotKeys> {
        let Some(url) = self.url().filter(|_| self.known.load().set.as_ref() != Some(set)) else {
            return Ok(Learned::Nothing);
        };
        let keys = Keys::fetched(&self.jwt, set, url)?;
        let count = keys.count();
        self.known.store(Arc::new(Known::of(keys, Some(set.clone()))));
        Ok(Learned::Keys(count))
    }

    /// Knows the keys that another has learned from the same URL.
    pub fn learn_of(&self, other: &Self) {
        let (Some(url), Some(others)) = (self.url(), other.url()) else { return };
        if let Some(set) = other.known.load().set.as_ref().filter(|_| url.is_at(others)) {
            // They could be used there.
            drop(self.take(set));
            self.fetches().clone_from(&other.fetches());
        }
    }

    /// How it is with its keys, if they are fetched.
    pub fn health(&self) -> Option<KeysHealth> {
        self.url()?;
        let Fetches { last, failure } = self.fetches().clone();
        let keys = self.known.load().keys.count();
        Some(KeysHealth { jwt: self.jwt.name.clone(), keys, fetched: last, failure })
    }

    fn fetches(&self) -> MutexGuard<'_, Fetches> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a token may have been signed with a key that is not known.
    pub async fn lacks(&self) {
        loop {
            self.lacks.notified().await;
            // Else others have been learned since.
            if self.lacking.load(Ordering::Relaxed) == self.known.load().number {
                return;
            }
        }
    }

    /// The claims of the request with these fields, if it has a token that holds at `now`. Of one that
    /// does not the log tells why, for whoever wonders why a policy sees no claims.
    pub fn claims(&self, fields: &HeaderMap, now: SystemTime) -> Option<Arc<Value>> {
        let token = self.token(fields)?;
        match self.held(token, now) {
            Ok(claims) => Some(claims),
            Err(why) => {
                debug!(jwt = self.jwt.name, %why, "token does not hold");
                None
            }
        }
    }

    fn held(&self, token: &[u8], now: SystemTime) -> Result<Arc<Value>, Unheld> {
        if token.len() > LONGEST {
            return Err(Unheld::Long);
        }
        let dot = token.iter().rposition(|octet| *octet == b'.').ok_or(Unheld::Form)?;
        let (signed, signature) = token.split_at(dot);
        let known = self.known.load();
        PACKED.with_borrow_mut(|packed| {
            packed.clear();
            packed.extend(known.number.to_le_bytes());
            // As few octets as may be are hashed by what takes long.
            packed.extend_from_slice(blake3::hash(signature).as_bytes());
            packed.extend_from_slice(signed);
            let look = |hash| self.look(&known, hash, packed, token, now);
            let read = RECENT.with_borrow_mut(|recent| recent.get_or(packed, look))?;
            self.in_time(&read, now).map(|()| Arc::clone(&read.claims))
        })
    }

    /// What was read of the token with this hash, or is read now.
    fn look(
        &self,
        known: &Known,
        hash: u64,
        packed: &[u8],
        token: &[u8],
        now: SystemTime,
    ) -> Result<Arc<Token>, Unheld> {
        if let Some(read) = known.read.get(hash, packed) {
            return Ok(read);
        }
        let read = Arc::new(self.read(known, token)?);
        // What does not hold any more is not worth a place.
        self.in_time(&read, now)?;
        // Its claims take as much again.
        let octets = 2 * token.len() as u64;
        known.read.insert(hash, packed.into(), Arc::clone(&read), octets);
        Ok(read)
    }

    /// Whether a request with these fields has something where a token would be.
    pub fn is_in(&self, fields: &HeaderMap) -> bool {
        match &self.jwt.from {
            TokenFrom::Cookie(name) => cookies(fields, name).next().is_some(),
            TokenFrom::Field(name) => fields.contains_key(name),
            TokenFrom::Authorization => fields.contains_key(AUTHORIZATION),
        }
    }

    /// The one token of a request. Of two, each server would choose its own.
    fn token<'a>(&self, fields: &'a HeaderMap) -> Option<&'a [u8]> {
        match &self.jwt.from {
            TokenFrom::Cookie(name) => {
                let mut cookies = cookies(fields, name);
                cookies.next().filter(|_| cookies.next().is_none() && !has_open_quote(fields))
            }
            TokenFrom::Field(name) => only(fields, name).map(<[u8]>::trim_ascii),
            TokenFrom::Authorization => {
                let value = only(fields, &AUTHORIZATION)?;
                // RFC 9110 §11.1: the scheme is case-insensitive.
                let (scheme, token) = value.split_at_checked("Bearer ".len())?;
                scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
            }
        }
    }

    fn read(&self, known: &Known, token: &[u8]) -> Result<Token, Unheld> {
        let parts = Parts::of(token).ok_or(Unheld::Form)?;
        if !known.keys.verify(&parts) {
            if known.keys.lacks(&parts) {
                self.lacking.store(known.number, Ordering::Relaxed);
                self.lacks.notify_one();
            }
            return Err(Unheld::Signature);
        }
        let claims: Value = serde_json::from_slice(&parts.payload).map_err(|_| Unheld::Claims)?;
        let members = claims.as_object().ok_or(Unheld::Claims)?;
        // RFC 7519 §4.1.4: a NumericDate. What is there and none cannot be obeyed.
        let time = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(Unheld::Date),
        };
        let (not_before, expires) = (time("nbf")?, time("exp")?);
        let is_issuer = self.jwt.issuer.as_ref().is_none_or(|issuer| {
            members.get("iss").and_then(Value::as_str) == Some(issuer.as_str())
        });
        if !is_issuer {
            return Err(Unheld::Issuer);
        }
        if !self.is_audience(members.get("aud")) {
            return Err(Unheld::Audience);
        }
        if !is_exact(&claims) {
            return Err(Unheld::Number);
        }
        Ok(Token { claims: Arc::new(claims), not_before, expires })
    }

    /// RFC 7519 §4.1.3: a string, or an array of them.
    fn is_audience(&self, aud: Option<&Value>) -> bool {
        let is_ours = |name: &Value| {
            name.as_str().is_some_and(|name| self.jwt.audience.iter().any(|ours| ours == name))
        };
        self.jwt.audience.is_empty()
            || match aud {
                Some(Value::Array(names)) => names.iter().any(is_ours),
                Some(name) => is_ours(name),
                None => false,
            }
    }

    /// RFC 7519 §4.1.4: "on or after which the JWT MUST NOT be accepted", "a small leeway" apart.
    fn in_time(&self, token: &Token, now: SystemTime) -> Result<(), Unheld> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let leeway = self.jwt.leeway.as_secs_f64();
        if !token.expires.is_none_or(|expires| now < expires + leeway) {
            return Err(Unheld::Expired);
        }
        if !token.not_before.is_none_or(|from| now + leeway >= from) {
            return Err(Unheld::Early);
        }
        Ok(())
    }
}

impl Known {
    fn of(keys: Keys, set: Option<Bytes>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { number, keys, set, read: Shared::new(REMEMBERED) }
    }
}

/// The value of a field that has one line.
fn only<'a>(fields: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a [u8]> {
    let mut lines = fields.get_all(name).iter();
    let line = lines.next().filter(|_| lines.next().is_none());
    line.map(http::HeaderValue::as_bytes)
}

/// Whether two tokens with different numbers can be told apart by what was read of them.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|n| n.abs() < EXACT)
        }
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}
