//! The members of an explanation; see the parent module for what they hold.

use std::collections::BTreeMap;

use serde::Serialize;

/// Why a request is answered as it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    pub(super) at: String,
    pub(super) gateway: Option<String>,
    pub(super) request: Request,
    pub(super) route: Option<Route>,
    pub(super) policies: Vec<Policy>,
    pub(super) key: Option<Key>,
    pub(super) l1: Tier,
    pub(super) l2: Tier,
    pub(super) stored: Option<Stored>,
    pub(super) last_invalidation: Option<Record>,
    pub(super) last_refusal: Option<Refusal>,
    pub(super) outcome: Outcome,
    pub(super) forward: Option<Forward>,
    pub(super) storing: Option<Storing>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) directives: Vec<String>,
    pub(super) fields: Vec<String>,
    pub(super) dropped: Vec<String>,
    pub(super) content_octets: Option<usize>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Route {
    pub(super) name: Option<String>,
    pub(super) path: Option<String>,
    pub(super) captures: BTreeMap<String, String>,
    pub(super) why: String,
    pub(super) runners_up: Vec<RunnerUp>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct RunnerUp {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) lost_by: &'static str,
    pub(super) why: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) remembered: bool,
    pub(super) answer: &'static str,
    pub(super) parts: Vec<Part>,
    pub(super) reason: Option<String>,
    pub(super) on_error: &'static str,
}

/// A part of a key, or a field.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) hash: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Tier {
    pub(super) state: &'static str,
    pub(super) verdict: Option<&'static str>,
    pub(super) kept_seconds: Option<u64>,
    pub(super) variants: Option<Variants>,
    pub(super) why: String,
}

impl Default for Tier {
    fn default() -> Self {
        Self {
            state: "not-asked",
            verdict: None,
            kept_seconds: None,
            variants: None,
            why: "the request is not answered from the cache".to_owned(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Variants {
    pub(super) known: usize,
    pub(super) vary: Vec<Vec<String>>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Stored {
    pub(super) tier: &'static str,
    pub(super) status: u16,
    pub(super) octets: usize,
    pub(super) whole: bool,
    pub(super) received: String,
    pub(super) age: u64,
    pub(super) lifetime: u64,
    pub(super) lifetime_by: &'static str,
    pub(super) lifetime_why: String,
    pub(super) ttl: i64,
    pub(super) restrictions: Vec<&'static str>,
    pub(super) stale_while_revalidate: u64,
    pub(super) stale_if_error: Option<u64>,
    pub(super) fields: BTreeMap<String, String>,
    pub(super) vary: Vec<String>,
    pub(super) tags: Vec<Tag>,
    pub(super) other_marks: usize,
    pub(super) position: String,
    pub(super) confirmed: bool,
    pub(super) invalidated: Option<Record>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Tag {
    pub(super) tag: String,
    pub(super) by: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    pub(super) position: String,
    pub(super) at: Option<String>,
    pub(super) seconds_ago: Option<u64>,
    pub(super) soft: bool,
    pub(super) covers: &'static str,
    pub(super) label: Option<String>,
    pub(super) cause: Option<String>,
    pub(super) by: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) at: String,
    pub(super) seconds_ago: u64,
    pub(super) status: Option<u16>,
    pub(super) reason: &'static str,
    pub(super) why: &'static str,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Outcome {
    pub(super) does: &'static str,
    pub(super) status: Option<u16>,
    pub(super) cache_status: Option<String>,
    pub(super) why: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Forward {
    pub(super) method: String,
    pub(super) target: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) server: Option<String>,
    pub(super) documents: Option<String>,
    pub(super) conditions: Vec<Part>,
    pub(super) collapses: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Storing {
    pub(super) may: bool,
    pub(super) reason: Option<&'static str>,
    pub(super) why: String,
    pub(super) rules: Vec<String>,
}
