//! What a response is found by: the host's part of the key, and that of the route's policies. How
//! several of these make one key is `several`'s.

use std::slice;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tracing::warn;

use crate::clock;
use crate::collapse::Variant;
use crate::comparison::Verdict;
use crate::config::{Forward, Jwt, JwtKeys, OnError, Route};
use crate::plugin::{KeyAnswer, KeySpace, Parts, Policy};
use crate::semantics::{self, CacheStatus, NoVarySearch, Rewritten};
use crate::store::Search;
use crate::stored::{self, CacheKey};

use super::measure::Unkeyed;
use super::{Answer, Ask, Gateway, Plan, Presented, query, respond};

/// The policies that make a route's keys.
pub(super) enum Keys {
    /// None: path and query make them, as they are.
    Plain,
    One(Ask),
    /// In the order in which they are asked.
    Several(Box<[Ask]>),
}

/// A cache key, and what it was made of.
#[derive(Clone)]
pub(super) struct Key {
    /// Before `Vary`.
    pub(super) hash: CacheKey,
    made: Made,
}

/// Who has made a key.
#[derive(Clone)]
pub(super) enum Made {
    /// Nobody: it is of path and query as they are.
    Plain,
    ByOne(Answered),
    BySeveral(Box<[Answered]>),
}

/// What one policy has answered.
#[derive(Clone)]
pub(super) struct Answered {
    /// What the parts give.
    pub(super) name: Arc<str>,
    /// The parts, where the route forwards nothing else. Without them the query goes as it is.
    pub(super) parts: Option<Parts>,
}

/// What the key policies came to.
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
                let made = Made::ByOne(Answered { name, parts });
                Self::Key(Key::new(key, made, plan, presented))
            }
            KeyAnswer::Bypass(reason) => Self::Bypass(reason),
        }
    }

    /// What a failure comes to, by the policy's `on_error`. `None`: what would be without the policy.
    pub(super) fn failed(on_error: OnError) -> Option<Self> {
        match on_error {
            OnError::Bypass => Some(Self::Bypass("policy-failed".into())),
            OnError::Fail => Some(Self::Failed),
            OnError::Default => None,
        }
    }

    /// The same for a comparison. It allocates nothing, unless several policies made the key.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Key(key) => Verdict::Key(key.hash, key.policies_name()),
            Self::Bypass(reason) => Verdict::Bypass(Arc::clone(reason)),
            Self::Failed => Verdict::Failed,
        }
    }
}

impl Keys {
    pub(super) fn of(asks: Vec<Ask>) -> Self {
        match <[Ask; 1]>::try_from(asks) {
            Ok([one]) => Self::One(one),
            Err(none) if none.is_empty() => Self::Plain,
            Err(several) => Self::Several(several.into()),
        }
    }

    /// Those that make them.
    pub(super) fn asks(&self) -> &[Ask] {
        match self {
            Self::Plain => &[],
            Self::One(ask) => slice::from_ref(ask),
            Self::Several(asks) => asks,
        }
    }

    /// Whether a policy makes them.
    pub(super) fn is_asked(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}

impl Key {
    /// The key that policies made, and what they have not seen of the request.
    pub(super) fn new(hash: CacheKey, made: Made, plan: &Plan, presented: &Presented) -> Self {
        let hash = plan.with_forwarded(query::key(hash, presented), presented);
        Self { hash, made }
    }

    /// The readable name.
    pub(super) fn name(&self, presented: &Presented) -> Box<str> {
        match &self.made {
            Made::Plain => stored::readable_name(plain(presented)).into(),
            Made::ByOne(answered) => answered.name.as_ref().into(),
            Made::BySeveral(all) => stored::joined_name(all.iter().map(|it| &*it.name)).into(),
        }
    }

    /// Whether this is the readable name for sure. To see that takes a fraction of making one.
    pub(super) fn is_named(&self, name: &str, presented: &Presented) -> bool {
        match &self.made {
            Made::Plain => {
                let uri = &presented.head.uri;
                stored::is_plain_name(name, uri.path(), uri.query())
            }
            Made::ByOne(answered) => *answered.name == *name,
            Made::BySeveral(_) => false,
        }
    }

    /// Notes the readable name for the access log.
    pub(super) fn note(&self, presented: &Presented) {
        if let Some(notes) = &presented.peer.notes {
            notes.key(self.name(presented).into());
        }
    }

    /// The readable name; none where path and query are the key, as they are.
    fn policies_name(&self) -> Option<Arc<str>> {
        match &self.made {
            Made::Plain => None,
            Made::ByOne(answered) => Some(Arc::clone(&answered.name)),
            Made::BySeveral(all) => {
                Some(stored::joined_name(all.iter().map(|it| &*it.name)).into())
            }
        }
    }

    /// What of a request's query the key was made of.
    ///
    /// # Errors
    /// A policy has written it otherwise than the request does.
    pub(super) fn kept_query(
        &self,
        path: &str,
        query: Option<&str>,
    ) -> Result<Option<String>, Rewritten> {
        let kept = |answered: &Answered| match &answered.parts {
            None => Ok(query.map(str::to_owned)),
            Some(parts) => {
                let parts = parts.iter().map(|(name, value)| (&**name, &**value));
                semantics::kept_query(path, query, parts)
            }
        };
        match &self.made {
            Made::Plain => Ok(query.map(str::to_owned)),
            Made::ByOne(answered) => kept(answered),
            Made::BySeveral(all) => {
                let all: Vec<_> = all.iter().map(kept).collect::<Result<_, _>>()?;
                Ok(semantics::joined_query(all.iter().flatten()))
            }
        }
    }
}

/// The key of the variant that answers a request with these fields.
pub(super) fn variant(key: CacheKey, nominated: &[HeaderName], fields: &HeaderMap) -> CacheKey {
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
        if let Some(doubtful) = plan.doubtful(presented) {
            return Some(doubtful);
        }
        let ask = match &plan.key {
            Keys::One(ask) => ask,
            Keys::Plain => return Some(Keyed::Key(self.plain_key(presented))),
            Keys::Several(asks) => return self.known_by_several(asks, presented),
        };
        let captures = self.key_captures(&ask.policy, presented);
        let answer = ask.policy.remembered(self.space(presented), &presented.seen(&captures));
        answer.map(|answer| Keyed::of(answer, plan, presented))
    }

    /// The key of a request, by a call of the route's policy.
    pub(super) async fn ask_key(&self, presented: &Presented) -> Keyed {
        let plan = self.plan(presented);
        let ask = match &plan.key {
            Keys::One(ask) => ask,
            Keys::Plain => return Keyed::Key(self.plain_key(presented)),
            Keys::Several(asks) => return self.ask_several(asks, presented).await,
        };
        self.keyed_by_one(self.ask(ask, presented).await, presented)
    }

    /// The key that the answer of a route's only policy comes to, or what its failure leads to.
    pub(super) fn keyed_by_one(
        &self,
        answer: Result<KeyAnswer, OnError>,
        presented: &Presented,
    ) -> Keyed {
        match answer {
            Ok(answer) => Keyed::of(answer, self.plan(presented), presented),
            Err(on_error) => {
                Keyed::failed(on_error).unwrap_or_else(|| Keyed::Key(self.plain_key(presented)))
            }
        }
    }

    /// A policy's answer, by a call. An error is what its failure leads to.
    pub(super) async fn ask(&self, ask: &Ask, presented: &Presented) -> Result<KeyAnswer, OnError> {
        let captures = self.key_captures(&ask.policy, presented);
        let begun = clock::instant();
        let answer = ask.policy.key(self.space(presented), &presented.seen(&captures)).await;
        if let Some(notes) = &presented.peer.notes {
            notes.policy(ask.policy.name(), begun.elapsed(), answer.is_err());
        }
        answer.map_err(|failure| {
            self.route_stats(presented).policy_failures.count();
            let path = presented.head.uri.path();
            warn!(policy = ask.policy.name(), ?path, error = %failure, "key policy failed");
            ask.on_error
        })
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
        answer.map(move |response| {
            Unkeyed::keep(response);
            CacheStatus::add_key(response.headers_mut(), &name);
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

    pub(super) fn plain_key(&self, presented: &Presented) -> Key {
        let hash = self.plain_hash(presented);
        Key::new(hash, Made::Plain, self.plan(presented), presented)
    }

    /// What path and query come to, as they are.
    pub(super) fn plain_hash(&self, presented: &Presented) -> CacheKey {
        let KeySpace { namespace, route, .. } = self.space(presented);
        CacheKey::new(namespace, route, &presented.authority, plain(presented))
    }

    /// Where responses lie that answer other queries than their own. None on a route with a key
    /// policy, which decides by itself what of the query counts; nor for a request with content, which
    /// asks for more than its URI tells.
    pub(super) fn search<'a>(&self, presented: &'a Presented) -> Option<Search<'a>> {
        let plan = self.plan(presented);
        if plan.key.is_asked() || presented.content.is_some() {
            return None;
        }
        let KeySpace { namespace, route, .. } = self.space(presented);
        // No key has these parts: where no policy is asked they are `path` and `query`.
        let parts = [("path", presented.head.uri.path()), ("no-vary-search", "")];
        let key = CacheKey::new(namespace, route, &presented.authority, parts);
        let key = plan.with_forwarded(key, presented);
        Some(Search { key, query: presented.head.uri.query() })
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
            route: match presented.peer.scheme {
                "https" => &plan.secure_space,
                _ => &plan.space,
            },
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
pub(super) fn space(
    route: &str,
    upstream: &str,
    keys: &[&Policy],
    storing: Option<&Policy>,
) -> String {
    const NONE: [u8; 32] = [0; 32];

    let mut space = format!("{route}/{upstream}");
    if !keys.is_empty() || storing.is_some() {
        let mut hasher = blake3::Hasher::new();
        // The last is the storing policy's, so their number tells how many make the keys.
        if keys.is_empty() {
            hasher.update(&NONE);
        }
        for policy in keys.iter().copied().map(Some).chain([storing]) {
            hasher.update(policy.map_or(&NONE[..], |policy| policy.digest()));
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

/// The same for requests for `https` URIs.
///
/// RFC 9111 §2: a key has the target URI, of which the scheme is a part. The upstream is told of it, too,
/// and may answer the one with a redirect to the other, which must not be stored for both.
pub(super) fn secure(space: &str) -> String {
    format!("{space}/https")
}

/// The parts of a key where no policy is asked.
pub(super) fn plain(presented: &Presented) -> impl Iterator<Item = (&str, &str)> {
    stored::default_parts(presented.head.uri.path(), presented.head.uri.query())
}
