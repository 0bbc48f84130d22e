//! The content of a call: one JSON object, of which each member is understood and stands there once.

use std::collections::HashSet;
use std::fmt;

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{faulty, problem};

/// So many faults are told.
const MOST_FAULTS: usize = 20;

/// What is wrong with a call: as much of it as can be read, and how much more there is.
#[derive(Default)]
pub(super) struct Faults {
    told: Vec<String>,
    more: usize,
}

impl Faults {
    pub(super) fn push(&mut self, fault: String) {
        if self.told.len() < MOST_FAULTS {
            self.told.push(fault);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// What is told of them.
    pub(super) fn into_texts(self) -> Vec<String> {
        let Self { mut told, more } = self;
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        told
    }
}

/// Why a content is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotJson(String),
    /// All that is wrong.
    Faulty(Vec<String>),
}

impl Refused {
    /// The same for who calls, and what it led to.
    pub(super) fn into_response(self, so: &str) -> Response {
        match self {
            Self::NotJson(why) => problem(StatusCode::BAD_REQUEST, &why),
            Self::Faulty(faults) => faulty(&faults, so),
        }
    }
}

/// Reads a content of at most so many octets. `too_long` tells of one that is longer, or broke off.
///
/// # Errors
/// The answer to who sent something else.
pub(super) async fn read(
    fields: &HeaderMap,
    body: Body,
    most: usize,
    too_long: &str,
) -> Result<Bytes, Box<Response>> {
    if !is_json(fields) {
        let detail = "the content is to be JSON: send it as application/json";
        return Err(Box::new(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)));
    }
    let read = to_bytes(body, most).await;
    read.map_err(|_| Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, too_long)))
}

/// The members of an object, the first of each name. The others are faults.
pub(super) fn members(
    content: &[u8],
    faults: &mut Faults,
) -> Result<Vec<(String, Value)>, Refused> {
    let Members(mut members) = serde_json::from_slice(content).map_err(|error| {
        if error.is_data() {
            return Refused::Faulty(vec!["the content is not a JSON object".to_owned()]);
        }
        Refused::NotJson(format!("not JSON: {error}"))
    })?;
    let mut known = HashSet::new();
    members.retain(|(name, _)| {
        let is_first = known.insert(name.clone());
        if !is_first {
            faults.push(format!("the member `{}` stands twice", cut(name)));
        }
        is_first
    });
    Ok(members)
}

/// As much of a name as is told again.
pub(super) fn cut(name: &str) -> String {
    name.chars().take(64).collect()
}

/// RFC 8259 has no parameters for it, and whoever sends some means UTF-8.
fn is_json(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// The members of an object, each as often as it stands there.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}
