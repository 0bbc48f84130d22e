//! What would be sent forward, and what may be stored of what comes back.

use std::sync::Arc;

use http::header::AUTHORIZATION;

use crate::clock;
use crate::message::CLIENT_CERT;
use crate::semantics::{Authorized, NotStored};
use crate::store::Variants;
use crate::stored::StoredResponse;

use super::shape;
use crate::gateway::key::Key;
use crate::gateway::look::Missing;
use crate::gateway::origin::Origin;
use crate::gateway::partial::Sought;
use crate::gateway::validate::conditions;
use crate::gateway::{Gateway, Presented};

/// A request on its way forward.
pub(super) struct Going {
    sought: Sought,
    /// Which variants there are.
    variants: Option<Arc<Variants>>,
    /// This is validated, and nobody waits for it.
    in_background: Option<Arc<StoredResponse>>,
}

impl Going {
    /// In the background, to validate this.
    pub(super) fn to_validate(stale: Arc<StoredResponse>) -> Self {
        let sought = Sought::whole(Some(Arc::clone(&stale)), None);
        Self { sought, variants: None, in_background: Some(stale) }
    }

    /// As this is missing.
    pub(super) fn for_want_of(presented: &Presented, missing: &Missing) -> Self {
        let (sought, variants) = (Sought::new(presented, missing), missing.variants.clone());
        Self { sought, variants, in_background: None }
    }
}

impl Gateway {
    /// A forward request whose response may be stored. `None`: nothing is sent, as nobody waits for it and
    /// there is no telling what to ask for.
    pub(super) fn tell_going(
        &self,
        mut presented: Presented,
        key: &Key,
        going: &Going,
    ) -> Option<shape::Forward> {
        // Where it goes forward at once, that has been seen to.
        if going.in_background.is_some() {
            self.narrow(&mut presented, key).ok()?;
            if self.unsendable(&presented).is_some() {
                return None;
            }
        }
        let common = match &going.in_background {
            Some(stale) => self.collapsed_with(&presented, key, stale),
            None => self.collapsed(&presented, key, going.variants.as_deref()),
        };
        let validation = self.validation(&presented, &going.sought);
        let is_apart = self.collapse.apart(&common, clock::instant().into()).is_some();
        let (_, added) = conditions(&going.sought, &validation, is_apart);
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let added = added
            .iter()
            .map(|(name, value)| shape::Part { name: name.to_string(), value: text(value) });
        Some(shape::Forward {
            conditions: added.collect(),
            collapses: !is_apart && !self.goes_alone(&presented),
            ..self.tell_origin(&presented, Some(key))
        })
    }

    /// A forward request that passes the cache by.
    pub(super) fn tell_passing(&self, presented: &Presented) -> shape::Forward {
        self.tell_origin(presented, None)
    }

    fn tell_origin(&self, presented: &Presented, key: Option<&Key>) -> shape::Forward {
        let target = self.rewritten(presented).ok().flatten();
        let told = shape::Forward {
            method: presented.head.method.to_string(),
            target: target.as_ref().map(ToString::to_string),
            ..shape::Forward::default()
        };
        match &self.plan(presented).origin {
            Origin::Upstream(upstream) => {
                let hashed = target.as_ref().map(|it| it.as_str().as_bytes()).unwrap_or_default();
                let server = upstream.foretell(key.map_or(hashed, |key| &key.hash.0));
                shape::Forward {
                    upstream: Some(upstream.name().to_owned()),
                    server: server.map(|server| server.name),
                    ..told
                }
            }
            Origin::Documents(documents) => {
                shape::Forward { documents: Some(documents.label().to_owned()), ..told }
            }
        }
    }

    /// What is known of storing before there is a response.
    pub(super) fn tell_storing(&self, presented: &Presented, is_passed: bool) -> shape::Storing {
        let plan = self.plan(presented);
        let (rules, fields) = (plan.rules(presented), &presented.head.headers);
        let is_strange = plan.has_strange_token(presented);
        let has_credentials = is_strange || fields.contains_key(AUTHORIZATION);
        let refusal = if presented.directives.no_store {
            Some(NotStored::RequestNoStore)
        } else if is_passed {
            Some(NotStored::Method)
        } else if has_credentials && rules.authorized == Authorized::Never {
            Some(NotStored::Authorization)
        } else {
            None
        };
        let mut told = Vec::new();
        if has_credentials && !rules.grants.authorization {
            let what = if is_strange { "a token that shows no claim" } else { "`Authorization`" };
            told.push(match rules.authorized {
                Authorized::Public => format!(
                    "the request has {what}: a response is stored only if it says `public`, \
                     `s-maxage` or `must-revalidate` (RFC 9111 §3.5)"
                ),
                Authorized::Never => format!(
                    "the request has {what}, and the key does not hold it: nothing is stored"
                ),
            });
        }
        if fields.contains_key(CLIENT_CERT) && !rules.certificate_in_key {
            told.push(NotStored::ClientCert.explained().to_owned());
        }
        told.push(match rules.ttl {
            Some(ttl) => format!(
                "a response that states no lifetime is fresh for {} s (the route's `ttl`)",
                ttl.as_secs()
            ),
            None => "a response must state its lifetime, or have `Last-Modified`: the route has no `ttl`"
                .to_owned(),
        });
        let bound = if plan.max_body < self.store.largest() {
            "`max_body`"
        } else {
            "`capacity` of L1, or `max_size` of L2"
        };
        told.push(format!("no more than {} octets of content ({bound})", plan.max_body));
        if let Some(ask) = &plan.storing {
            told.push(format!("the policy `{}` may narrow it", ask.policy.name()));
        }
        shape::Storing {
            may: refusal.is_none(),
            reason: refusal.map(NotStored::as_str),
            why: match refusal {
                Some(NotStored::Method) => "a response to HEAD has no content to store".to_owned(),
                Some(refusal) => refusal.explained().to_owned(),
                None => "nothing forbids it before there is a response".to_owned(),
            },
            rules: told,
        }
    }
}
