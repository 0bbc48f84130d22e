//! What routes share between users: who tells them apart, by what, and by which keys tokens are verified.

use std::error::Error;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};

use crate::config::{Config, Fault, Grant};
use crate::plugin::Policy;
use crate::token::Reader;

use super::issuers::Issuer;

/// What reads the tokens of each `[jwt.NAME]`, and whose keys are fetched for that. Keys that one of `former` has fetched
/// are known from the beginning.
pub(super) fn tokens(
    config: &Config,
    file: &str,
    former: &[Arc<Reader>],
    faults: &mut Vec<Fault>,
) -> (Vec<Arc<Reader>>, Vec<Issuer>) {
    let (mut readers, mut issuers) = (Vec::with_capacity(config.jwts.len()), Vec::new());
    for jwt in &config.jwts {
        let mut fault = |place, error: &dyn Error| {
            faults.push(Fault::new(file, place, format!("jwt `{}`: {error}", jwt.name)));
        };
        let reader = match Reader::new(jwt) {
            Ok(reader) => Arc::new(reader),
            Err(error) => {
                fault(Some(jwt.place), &error);
                continue;
            }
        };
        for former in former {
            reader.learn_of(former);
        }
        match Issuer::of(&reader) {
            Ok(issuer) => issuers.extend(issuer),
            Err(error) => fault(error.place(), &error),
        }
        readers.push(reader);
    }
    (readers, issuers)
}

/// Checks that policies are shown what they ask for, and ask for what they must know.
pub(super) fn check(
    config: &Config,
    policies: &[Option<Arc<Policy>>],
    file: &str,
    faults: &mut Vec<Fault>,
) {
    check_claims(config, policies, file, faults);
    check_grants(config, policies, file, faults);
    check_fields(config, policies, file, faults);
}

/// Checks that each policy that asks for claims is shown some.
fn check_claims(
    config: &Config,
    policies: &[Option<Arc<Policy>>],
    file: &str,
    faults: &mut Vec<Fault>,
) {
    for route in config.routes.iter().filter(|route| route.jwt.is_none()) {
        let keys = route.key.iter().map(|key| Some(*key)).zip(route.key_places.iter().copied());
        for (policy, place) in keys.chain([
            (route.shadow, route.shadow_place),
            (route.storing, route.storing_place),
            (route.invalidation, route.invalidation_place),
        ]) {
            let policy = policy.and_then(|policy| policies.get(policy)).and_then(Option::as_ref);
            let Some(policy) = policy.filter(|policy| policy.wants_claims()) else { continue };
            let message = format!(
                "route `{}`: policy `{}` asks for claims, and the route reads no token",
                route.name,
                policy.name()
            );
            let hint = "write jwt = \"NAME\", and a table `[jwt.NAME]`".to_owned();
            faults.push(Fault::new(file, place, message).with_hint(hint));
        }
    }
}

/// Checks that no policy asks for a field that is dropped from requests.
fn check_fields(
    config: &Config,
    policies: &[Option<Arc<Policy>>],
    file: &str,
    faults: &mut Vec<Fault>,
) {
    if config.server.underscores_in_fields {
        return;
    }
    for (policy, loaded) in config.policies.iter().zip(policies) {
        let Some(loaded) = loaded else { continue };
        for name in loaded.wanted_fields().iter().filter(|name| name.as_str().contains('_')) {
            let message = format!(
                "policy `{}`: it asks for the field `{name}`, which is dropped from requests, as servers read `_` \
                 as `-`",
                policy.name
            );
            let hint = "write `-`, or underscores_in_fields = true in [server]".to_owned();
            faults.push(Fault::new(file, policy.config_place, message).with_hint(hint));
        }
    }
}

/// Checks that one of a route's key policies looks at what it must know to answer for what the route
/// grants.
fn check_grants(
    config: &Config,
    policies: &[Option<Arc<Policy>>],
    file: &str,
    faults: &mut Vec<Fault>,
) {
    for route in &config.routes {
        // What does not load has a fault of its own.
        let named = route.key.iter().map(|key| policies.get(*key).and_then(Option::as_ref));
        let Some(named) = named.collect::<Option<Vec<_>>>() else { continue };
        let Some((last, others)) = named.split_last() else { continue };
        let is_told_apart = |grant: &Grant| named.iter().any(|policy| tells_apart(policy, *grant));
        for grant in route.grants.iter().filter(|grant| !is_told_apart(grant)) {
            let others = others.iter().map(|policy| format!("`{}`, ", policy.name()));
            let message = format!(
                "route `{}`: grant `{}` is for a policy that tells apart what it shares, and {}`{}` looks at {}",
                route.name,
                grant.name(),
                others.collect::<String>(),
                last.name(),
                match grant {
                    Grant::Authorization => "neither a claim nor `authorization`",
                    Grant::Post => "no content",
                    Grant::Private | Grant::SetCookie =>
                        "no claim, no `authorization` and no cookie",
                }
            );
            let hint = "leave the grant out, or name a key policy whose `configure` wants it";
            faults.push(Fault::new(file, route.grants_place, message).with_hint(hint.to_owned()));
        }
    }
}

/// Whether a policy looks at what it must know to answer for this.
fn tells_apart(policy: &Policy, grant: Grant) -> bool {
    let sees_authorization = policy.wanted_fields().contains(&AUTHORIZATION);
    let sees_cookie =
        !policy.wanted_cookies().is_empty() || policy.wanted_fields().contains(&COOKIE);
    match grant {
        Grant::Authorization => sees_authorization || policy.wants_claims(),
        Grant::Private => sees_authorization || sees_cookie || policy.wants_claims(),
        // What is stored has no cookie.
        Grant::SetCookie => true,
        Grant::Post => policy.wants_content(),
    }
}
