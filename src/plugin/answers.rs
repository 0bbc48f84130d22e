//! What policies answer: the bounds of the contract, and the forms that the gateway works with.

use std::sync::Arc;
use std::time::Duration;

use super::bindings::types::Pair;
use super::bindings::{invalidation, key, storing};
use super::failure::Failure;
use super::text::{printable, rejoined};
use super::{KeySpace, Seen};
use crate::semantics::{self, Rewritten};
use crate::stored::{CacheKey, readable_name};

const MOST_PARTS: usize = 64;
/// All names and values of a key together, in octets.
const LONGEST_PARTS: usize = 16 << 10;
const LONGEST_REASON: usize = 128;
const MOST_TAGS: usize = 64;
const LONGEST_TAG: usize = 256;
const MOST_SCOPES: usize = 64;
const LONGEST_SCOPE: usize = 1024;

/// Names and values.
pub type Parts = Arc<[(Box<str>, Box<str>)]>;

/// Where the response to a request is stored. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAnswer {
    /// Under this key.
    Key {
        /// Made of the host's parts and the policy's.
        key: CacheKey,
        /// What operators call it.
        name: Arc<str>,
        /// The policy's parts that may hold parameters, where the route forwards nothing else.
        parts: Option<Parts>,
    },
    /// Nowhere: forward the request and store nothing. The reason is on one line, at most 128 octets.
    Bypass(Arc<str>),
}

impl KeyAnswer {
    /// What it takes in memory, about.
    pub(super) fn octets(&self) -> usize {
        match self {
            Self::Key { name, parts, .. } => {
                let of_part = |(name, value): &(Box<str>, Box<str>)| {
                    size_of::<(Box<str>, Box<str>)>() + name.len() + value.len()
                };
                name.len() + parts.iter().flat_map(|parts| parts.iter()).map(of_part).sum::<usize>()
            }
            Self::Bypass(reason) => reason.len(),
        }
    }
}

/// How a policy narrows the storing of one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoringAnswer {
    /// False: pass the response on and store nothing.
    pub store: bool,
    /// A bound on the freshness lifetime; none leaves it as it is.
    pub max_age: Option<Duration>,
    /// What the response can be invalidated by: at most 64, each 1 to 256 octets.
    pub tags: Vec<String>,
}

/// Something that a write made wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidated {
    /// What it covers.
    pub scope: Scope,
    /// Covered responses become stale; otherwise they are gone.
    pub soft: bool,
}

/// What an invalidation covers; texts have 1 to 1024 octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Responses of the same upstream with this tag.
    Tag(String),
    /// Responses of the same authority to requests for this path.
    Path(String),
    /// Responses whose readable name matches.
    Pattern(String),
}

/// The bounds of `key`.
pub(super) fn check_key(decision: &key::Decision) -> Result<(), Failure> {
    match decision {
        key::Decision::Bypass(reason) if reason.len() > LONGEST_REASON => {
            Err(broken(format!("a reason to bypass has more than {LONGEST_REASON} octets")))
        }
        key::Decision::Parts(parts) if parts.len() > MOST_PARTS => {
            Err(broken(format!("a key has more than {MOST_PARTS} parts")))
        }
        key::Decision::Parts(parts) if total(parts) > LONGEST_PARTS => {
            Err(broken(format!("the parts of a key have more than {LONGEST_PARTS} octets")))
        }
        key::Decision::Bypass(_) | key::Decision::Parts(_) => Ok(()),
    }
}

/// The bounds of `storing`.
pub(super) fn check_storing(decision: &storing::Decision) -> Result<(), Failure> {
    check_texts("tag", MOST_TAGS, LONGEST_TAG, decision.tags.iter())
}

/// The bounds of `invalidation`.
pub(super) fn check_invalidation(answer: &[invalidation::Invalidated]) -> Result<(), Failure> {
    let texts = answer.iter().map(|invalidated| match &invalidated.scope {
        invalidation::Scope::Tag(text)
        | invalidation::Scope::Path(text)
        | invalidation::Scope::Pattern(text) => text,
    });
    check_texts("scope", MOST_SCOPES, LONGEST_SCOPE, texts)
}

/// The cache key that checked parts lead to. Of a query that the policy does not see, no part holds
/// a parameter, whatever its name and value are.
pub(super) fn key(
    space: KeySpace<'_>,
    seen: &Seen<'_>,
    sees_query: bool,
    decision: &key::Decision,
) -> KeyAnswer {
    match decision {
        key::Decision::Bypass(reason) => {
            KeyAnswer::Bypass(printable(reason, LONGEST_REASON).into())
        }
        key::Decision::Parts(parts) => {
            let readable: Vec<_> =
                parts.iter().map(|part| (rejoined(&part.name), rejoined(&part.value))).collect();
            let pairs = || readable.iter().map(|(name, value)| (&**name, &**value));
            let held = || pairs().filter(|_| sees_query);
            let forwarded = space.forwards_keyed.then(|| forwarded_query(seen, held()));
            // Before all others, and whether or not they are among them: two lists stay two.
            let own = forwarded.iter().map(String::as_str);
            let own = own.flat_map(|query| [("path", seen.path), ("forwarded", query)]);
            let exact = parts.iter().map(|part| (part.name.as_str(), part.value.as_str()));
            let exact = own.chain(exact);
            let key = CacheKey::new(space.namespace, space.route, seen.authority, exact);
            let lacks_path = space.forwards_keyed && pairs().all(|(name, _)| name != "path");
            let path = lacks_path.then_some(("path", seen.path));
            let name = readable_name(path.into_iter().chain(pairs()));
            let parts = || held().map(|(name, value)| (name.into(), value.into())).collect();
            let parts = space.forwards_keyed.then(parts);
            KeyAnswer::Key { key, name: name.into(), parts }
        }
    }
}

/// What goes forward of the query where a key has these parts. Two requests can have the same parts and
/// not this: a part that was made of a field takes a parameter of its name and value along. A request
/// for which it cannot be told goes past the cache, and is to find nothing there: no query that goes
/// forward begins with `&`.
fn forwarded_query<'p>(seen: &Seen<'_>, held: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    match semantics::kept_query(seen.path, seen.query, held) {
        Ok(kept) => kept.unwrap_or_default(),
        Err(Rewritten) => format!("&{}", seen.query.unwrap_or_default()),
    }
}

/// What a checked decision of `storing` means.
pub(super) fn storing(decision: &storing::Decision) -> StoringAnswer {
    StoringAnswer {
        store: decision.store,
        max_age: decision.max_age.map(|seconds| Duration::from_secs(seconds.into())),
        tags: decision.tags.iter().map(|tag| rejoined(tag).into_owned()).collect(),
    }
}

/// What checked scopes mean.
pub(super) fn invalidation(answer: Vec<invalidation::Invalidated>) -> Vec<Invalidated> {
    let invalidated = |answered: invalidation::Invalidated| Invalidated {
        scope: match &answered.scope {
            invalidation::Scope::Tag(tag) => Scope::Tag(rejoined(tag).into_owned()),
            invalidation::Scope::Path(path) => Scope::Path(rejoined(path).into_owned()),
            invalidation::Scope::Pattern(text) => Scope::Pattern(rejoined(text).into_owned()),
        },
        soft: answered.soft,
    };
    answer.into_iter().map(invalidated).collect()
}

fn total(parts: &[Pair]) -> usize {
    parts.iter().map(|part| part.name.len() + part.value.len()).sum()
}

fn check_texts<'a>(
    what: &str,
    most: usize,
    longest: usize,
    texts: impl ExactSizeIterator<Item = &'a String>,
) -> Result<(), Failure> {
    if texts.len() > most {
        return Err(broken(format!("there are more than {most} {what}s")));
    }
    for text in texts {
        if text.is_empty() {
            return Err(broken(format!("a {what} is empty")));
        }
        if text.len() > longest {
            return Err(broken(format!("a {what} has more than {longest} octets")));
        }
    }
    Ok(())
}

fn broken(rule: String) -> Failure {
    Failure::Nonsense(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a request for this query, with a key of one part, where a route forwards no more.
    fn keyed(query: Option<&str>, sees_query: bool, part: [&str; 2]) -> KeyAnswer {
        let space = KeySpace { namespace: "n", route: "r", forwards_keyed: true };
        let fields = http::HeaderMap::new();
        let seen = Seen {
            method: &http::Method::GET,
            scheme: "http",
            authority: "a.example",
            path: "/a",
            query,
            captures: &[],
            fields: &fields,
            claims: None,
            content: None,
        };
        let [name, value] = part.map(str::to_owned);
        key(space, &seen, sees_query, &key::Decision::Parts(vec![Pair { name, value }]))
    }

    #[test]
    fn what_goes_forward_of_a_query_is_in_the_key_and_not_in_its_name() {
        let keys = |query, sees_query, part| match keyed(query, sees_query, part) {
            KeyAnswer::Key { key, name, .. } => (key, name),
            KeyAnswer::Bypass(reason) => panic!("{reason}"),
        };
        let (plain, name) = keys(None, true, ["tenant", "acme"]);
        assert_eq!(&*name, "a?tenant=acme");
        for (query, sees_query, is_plain, why) in [
            ("tenant=acme", true, false, "it goes forward"),
            ("tenant=acme", false, true, "it stays behind"),
            ("x=1", true, true, "so does this"),
            ("tenant=other", true, false, "what would go forward cannot be told"),
        ] {
            let (key, same) = keys(Some(query), sees_query, ["tenant", "acme"]);
            assert_eq!((key == plain, &same), (is_plain, &name), "{query}: {why}");
        }
    }

    fn parts(count: usize, octets: usize) -> key::Decision {
        let part = Pair { name: "a".to_owned(), value: "b".repeat(octets - 1) };
        key::Decision::Parts(vec![part; count])
    }

    fn tags(count: usize, octets: usize) -> storing::Decision {
        storing::Decision { store: true, max_age: None, tags: vec!["t".repeat(octets); count] }
    }

    fn scopes(count: usize, octets: usize) -> Vec<invalidation::Invalidated> {
        let scope = invalidation::Scope::Pattern("*".repeat(octets));
        vec![invalidation::Invalidated { scope, soft: false }; count]
    }

    #[test]
    fn answers_at_the_bounds_hold_and_beyond_them_do_not() {
        for (checked, holds, why) in [
            (check_key(&parts(64, 256)), true, "64 parts, 16 KiB"),
            (check_key(&parts(65, 1)), false, "too many parts"),
            (check_key(&parts(1, (16 << 10) + 1)), false, "a part too long"),
            (check_key(&key::Decision::Parts(Vec::new())), true, "one key for all requests"),
            (check_key(&key::Decision::Bypass("r".repeat(128))), true, "a long reason"),
            (check_key(&key::Decision::Bypass("r".repeat(129))), false, "a reason too long"),
            (check_storing(&tags(64, 256)), true, "64 long tags"),
            (check_storing(&tags(65, 1)), false, "too many tags"),
            (check_storing(&tags(1, 257)), false, "a tag too long"),
            (check_storing(&tags(1, 0)), false, "an empty tag"),
            (check_invalidation(&scopes(64, 1024)), true, "64 long scopes"),
            (check_invalidation(&scopes(65, 1)), false, "too many scopes"),
            (check_invalidation(&scopes(1, 1025)), false, "a scope too long"),
            (check_invalidation(&scopes(1, 0)), false, "an empty scope"),
        ] {
            assert_eq!(checked.is_ok(), holds, "{why}: {checked:?}");
        }
    }
}
