//! What a response is found by: the host's part of the key, and the route's policy's.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tracing::warn;

use crate::collapse::Variant;
use crate::config::{Forward, Jwt, JwtKeys, OnError, Route};
use crate::plugin::{KeyAnswer, KeySpace, Parts, Policy};
use crate::semantics::{CacheStatus, NoVarySearch};
use crate::store::Search;
use crate::stored::{self, CacheKey};

use super::{Answer, Gateway, Plan, Presented, query, respond};

/// A cache key and what operators call it.
pub(super) struct Key {
    /// Before `Vary`.
    pub(super) hash: CacheKey,
    /// What the policy's parts give; none for path and query as they are.
    name: Option<Arc<str>>,
    /// The policy's parts, where the route forwards nothing else.
    parts: Option<Parts>,
}

/// What the key policy came to.
pub(super) enum Keyed {
    /// Look here.
    Key(Key),
    /// Forward, store nothing; the reason is for `Cache-Status`.
    Bypass(Arc<str>),
    /// The policy failed, and the route says that its requests fail with it.
    Failed,
}

impl Keyed {
    /// A policy's answer, and what it has not seen of the request.
    pub(super) fn of(answer: KeyAnswer, plan: &Plan, presented: &Presented) -> Self {
        match answer {
            KeyAnswer::Key { key, name, parts } => {
                let hash = plan.with_forwarded(query::key(key, presented), presented);
                Self::Key(Key { hash, name: Some(name), parts })
            }
            KeyAnswer::Bypass(reason) => Self::Bypass(reason),
        }
    }
}

impl Key {
    /// The readable name.
    pub(super) fn name(&self, presented: &Presented) -> Box<str> {
        match &self.name {
            Some(name) => name.as_ref().into(),
            None => stored::readable_name(plain(presented)).into(),
        }
    }

    /// What the policy answered; none for path and query as they are.
    pub(super) fn parts(&self) -> Option<impl Iterator<Item = (&str, &str)>> {
        self.parts.as_ref().map(|parts| parts.iter().map(|(name, value)| (&**name, &**value)))
    }
}

/// The key of the variant that answers a request with these fields.
fn variant(key: CacheKey, nominated: &[HeaderName], fields: &HeaderMap) -> CacheKey {
    if nominated.is_empty() {
        return key;
    }
    key.selected_by(nominated, fields)
}

impl Gateway {
    /// Answers a request that RFC 9111 lets a cache answer, by its key.
    pub(super) fn answer_from_cache(self: &Arc<Self>, presented: Presented) -> Answer {
        if let Some(keyed) = self.known_key(&presented) {
            return self.answer_keyed(presented, keyed);
        }
        let gateway = Arc::clone(self);
        Answer::later(async move {
            let keyed = gateway.ask_key(&presented).await;
            gateway.answer_keyed(presented, keyed).await
        })
    }

    /// The key of a request, where no policy has to be asked: the route has none, or its answer is
    /// remembered.
    pub(super) fn known_key(&self, presented: &Presented) -> Option<Keyed> {
        let plan = self.plan(presented);
        let Some(ask) = &plan.key else {
            return Some(Keyed::Key(self.plain_key(presented)));
        };
        let captures = self.key_captures(&ask.policy, presented);
        let answer = ask.policy.remembered(self.space(presented), &presented.seen(&captures));
        answer.map(|answer| Keyed::of(answer, plan, presented))
    }

    /// The key of a request, by a call of the route's policy.
    pub(super) async fn ask_key(&self, presented: &Presented) -> Keyed {
        let plan = self.plan(presented);
        let Some(ask) = &plan.key else {
            return Keyed::Key(self.plain_key(presented));
        };
        let captures = self.key_captures(&ask.policy, presented);
        match ask.policy.key(self.space(presented), &presented.seen(&captures)).await {
            Ok(answer) => Keyed::of(answer, plan, presented),
            Err(failure) => {
                self.route_stats(presented).policy_failures.count();
                let path = presented.head.uri.path();
                warn!(policy = ask.policy.name(), ?path, error = %failure, "key policy failed");
                match ask.on_error {
                    OnError::Bypass => Keyed::Bypass("policy-failed".into()),
                    OnError::Fail => Keyed::Failed,
                    OnError::Default => Keyed::Key(self.plain_key(presented)),
                }
            }
        }
    }

    /// Answers a request as its key allows, and says which it is where that is wanted.
    pub(super) fn answer_keyed(self: &Arc<Self>, presented: Presented, keyed: Keyed) -> Answer {
        self.compare(&presented, &keyed);
        let key = match keyed {
            Keyed::Key(key) => key,
            Keyed::Bypass(reason) => {
                let gateway = Arc::clone(self);
                return Answer::later(async move { gateway.bypass(presented, reason).await });
            }
            Keyed::Failed => return Answer::now(respond::policy_failed()),
        };
        if !self.status_key {
            return self.answer_by(presented, key);
        }
        let name = key.name(&presented);
        let answer = self.answer_by(presented, key);
        Answer::later(async move {
            let mut response = answer.await;
            CacheStatus::add_key(response.headers_mut(), &name);
            response
        })
    }

    /// What the route's path captured, if this policy is to see it.
    pub(super) fn key_captures<'a>(
        &'a self,
        policy: &Policy,
        presented: &'a Presented,
    ) -> Vec<(&'a str, &'a str)> {
        if policy.wants_captures() { self.captures(presented) } else { Vec::new() }
    }

    fn plain_key(&self, presented: &Presented) -> Key {
        let KeySpace { namespace, route, .. } = self.space(presented);
        let hash = CacheKey::new(namespace, route, &presented.authority, plain(presented));
        let hash = query::key(hash, presented);
        let hash = self.plan(presented).with_forwarded(hash, presented);
        Key { hash, name: None, parts: None }
    }

    /// Where responses lie that answer other queries than their own. None on a route with a key
    /// policy, which decides by itself what of the query counts; nor for a request with content, which
    /// asks for more than its URI tells.
    pub(super) fn search<'a>(&self, presented: &'a Presented) -> Option<Search<'a>> {
        let plan = self.plan(presented);
        if plan.key.is_some() || presented.content.is_some() {
            return None;
        }
        let KeySpace { namespace, route, .. } = self.space(presented);
        // No key has these parts: where no policy is asked they are `path` and `query`.
        let parts = [("path", presented.head.uri.path()), ("no-vary-search", "")];
        let key = CacheKey::new(namespace, route, &presented.authority, parts);
        let key = plan.with_forwarded(key, presented);
        Some(Search { key, query: presented.head.uri.query() })
    }

    /// What the forward requests of a key are told apart by: one for all the queries that the newest
    /// rule of the path holds equivalent.
    pub(super) fn collapsed(&self, presented: &Presented, key: &Key) -> CacheKey {
        let known = |search: Search<'_>| {
            let rules = self.store.rules_in_l1(&search, presented.now)?;
            rules.iter().next().map(|rule| search.under(rule))
        };
        self.search(presented).and_then(known).unwrap_or(key.hash)
    }

    /// The key of the variant that a request selects of a response with these fields: of its own query,
    /// or of all that the response's `No-Vary-Search` holds equivalent to it.
    pub(super) fn variant_by(
        &self,
        presented: &Presented,
        key: &Key,
        nominated: &[HeaderName],
        fields: &HeaderMap,
    ) -> CacheKey {
        let rule = |search: Search<'_>| Some(search.under(&NoVarySearch::of(fields)?));
        let key = self.search(presented).and_then(rule).unwrap_or(key.hash);
        variant(key, nominated, &presented.head.headers)
    }

    /// Whether the query of this request is that of the one that fetched the response, or equivalent by
    /// these fields of it; and, by RFC 9111 §4.1, its nominated fields.
    pub(super) fn answers(
        &self,
        variant: &Variant,
        fields: &HeaderMap,
        presented: &Presented,
        key: &Key,
    ) -> bool {
        self.variant_by(presented, key, &variant.nominated, fields) == variant.key
    }

    pub(super) fn space(&self, presented: &Presented) -> KeySpace<'_> {
        let plan = self.plan(presented);
        KeySpace {
            namespace: &self.namespace,
            route: &plan.space,
            forwards_keyed: plan.kept.is_some(),
        }
    }
}

/// What stands for a route in its cache keys: its name and its upstream's, and which version of
/// which policies decides what its responses are found and invalidated by. So what was stored under
/// one version never answers under another, nor what one upstream sent for another, whose tags are
/// not its own.
///
/// Names have no `/`.
pub(super) fn space(route: &str, upstream: &str, deciding: [Option<&Policy>; 2]) -> String {
    let mut space = format!("{route}/{upstream}");
    if deciding.iter().any(Option::is_some) {
        let mut hasher = blake3::Hasher::new();
        for policy in deciding {
            hasher.update(policy.map_or(&[0; 32], |policy| policy.digest()));
        }
        // 128 bits, as a mark has.
        let digest = hasher.finalize().to_hex();
        space.push('/');
        space.push_str(digest.get(..32).unwrap_or_default());
    }
    space
}

/// Adds what a route lets be shared or leaves behind, and whose word it takes for who a user is. What was
/// stored by another word does not answer by this one, nor once a grant has ended.
///
/// Where keys lie is left out: it may be another place in each gateway of a fleet.
pub(super) fn with_sharing(mut space: String, route: &Route, jwt: Option<&Jwt>) -> String {
    let is_plain = route.grants.is_empty() && route.forward == Forward::All && jwt.is_none();
    if is_plain {
        return space;
    }
    let word = jwt.map(|jwt| {
        let is_trusted = matches!(jwt.keys, JwtKeys::Trusted);
        (is_trusted, &jwt.algorithms, &jwt.issuer, &jwt.audience, &jwt.from)
    });
    let sharing = format!("{:?}", (&route.grants, route.forward, word));
    let digest = blake3::hash(sharing.as_bytes()).to_hex();
    space.push_str("/shares-");
    space.push_str(digest.get(..32).unwrap_or_default());
    space
}

/// The parts of a key where no policy is asked.
fn plain(presented: &Presented) -> impl Iterator<Item = (&str, &str)> {
    stored::default_parts(presented.head.uri.path(), presented.head.uri.query())
}
