//! What is stored, for operators: which of it there is, and what may be told of it.

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::semantics::{Grants, OF_NOBODY, Tags};
use crate::store::{Cursor, Listed, Order, Page, Scope, Selection, Unknown};
use crate::stored::{CacheKey, Mark, StoredResponse};

use super::{Gateway, Plan};

/// So many octets of a content are shown.
const MOST_SHOWN: usize = 4096;

/// So many variants of a response are told of.
const MOST_VARIANTS: usize = 100;

/// Which responses are to be listed.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Their names match.
    pub pattern: Option<String>,
    /// Of this route.
    pub route: Option<String>,
    /// They bear this tag.
    pub tag: Option<String>,
    /// By what they are in order.
    pub order: Order,
    /// From the other end.
    pub reversed: bool,
    /// What the page before ended with.
    pub after: Option<Cursor>,
    /// So many at most.
    pub most: usize,
}

/// The beginning of a content.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// Of 4096 octets at most.
    pub text: &'a str,
    /// That is all.
    pub is_whole: bool,
}

/// Why a content is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unshown {
    /// Not everybody gets it.
    #[error("it may be for one user only")]
    Closed,
    /// Its beginning is not here.
    #[error("only a part of it is stored")]
    Partial,
    /// Nobody could read it.
    #[error("it is in a content coding")]
    Coded,
    /// Nobody could read it.
    #[error("it is no text")]
    NotText,
}

impl Plan {
    /// Whether its responses are told apart by nothing that says who asks, and stored by no grant.
    pub(super) fn may_be_shown(&self) -> bool {
        let is_of_nobody = |name| OF_NOBODY.contains(name);
        let keyed = self.kept.as_ref().map_or(&[][..], |kept| &kept.keyed);
        self.names_nobody
            && self.rules.grants == Grants::default()
            && keyed.iter().all(is_of_nobody)
    }
}

impl Gateway {
    /// Looks through L1; see [`Store::list`](crate::store::Store::list).
    pub fn list(&self, listing: &Listing) -> Page {
        let tag = listing.tag.as_ref().map(|tag| {
            let scopes = self.tagged(tag).into_iter();
            scopes
                .filter_map(
                    |scope| if let Scope::Mark { mark, .. } = scope { Some(mark) } else { None },
                )
                .collect::<Vec<_>>()
        });
        let route = listing.route.as_ref().map(|route| vec![Mark::route(route)]);
        let selection = Selection {
            pattern: listing.pattern.clone(),
            marks: route.into_iter().chain(tag).collect(),
            order: listing.order,
            reversed: listing.reversed,
            after: listing.after.clone(),
            most: listing.most,
        };
        self.store.list(&selection, self.now())
    }

    /// The responses in L1 that have the cache key of this one in common with it. Looks through all of it.
    pub fn variants_of(&self, listed: &Listed) -> Page {
        let marks = listed.stored.key_mark().into_iter().map(|mark| vec![mark]).collect();
        let selection = Selection { marks, most: MOST_VARIANTS, ..Selection::default() };
        self.store.list(&selection, self.now())
    }

    /// What one of the tiers has under a key; see [`Store::listed`](crate::store::Store::listed).
    ///
    /// # Errors
    /// L1 has nothing, and what L2 has is not known.
    pub async fn listed(&self, key: &CacheKey) -> Result<Option<Listed>, Unknown> {
        self.store.listed(key, self.now()).await
    }

    /// The response and its variants, wherever they are stored.
    pub fn with_variants(&self, listed: &Listed) -> Option<Scope> {
        let mark = listed.stored.key_mark()?;
        Some(Scope::Mark { mark, label: listed.stored.name.to_string() })
    }

    /// The names of all routes, in the order of the configuration.
    pub fn route_names(&self) -> impl Iterator<Item = &str> {
        self.plans.iter().map(|plan| &*plan.name)
    }

    /// The name of the route that a response is of, if there is such a route now.
    pub fn route_of(&self, stored: &StoredResponse) -> Option<&str> {
        let mark = stored.marks.first()?;
        let plan = self.plans.iter().find(|plan| Mark::route(&plan.name) == *mark)?;
        Some(&plan.name)
    }
}

/// The tags that the fields of a stored response name. Those that a policy gave it are not kept as text.
pub fn tags_of(stored: &StoredResponse) -> Vec<String> {
    let Tags { mut groups, others } = Tags::of(&stored.fields.to_map(0)).unwrap_or_default();
    groups.extend(others);
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The beginning of a content, if everybody would get it, and it is text.
///
/// # Errors
/// Why it is not shown.
pub fn beginning(stored: &StoredResponse) -> Result<Shown<'_>, Unshown> {
    if !stored.freshness.open {
        return Err(Unshown::Closed);
    }
    let content = stored.whole().ok_or(Unshown::Partial)?;
    if stored.fields.value(&CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Unshown::Coded);
    }
    let kind = stored.fields.value(&CONTENT_TYPE);
    let kind = kind.as_ref().map_or(Cow::Borrowed(""), |it| String::from_utf8_lossy(it.as_bytes()));
    if !is_text(&kind) {
        return Err(Unshown::NotText);
    }
    let begin = content.get(..MOST_SHOWN).unwrap_or(content);
    // What is cut in two at the end is left out; anything else that is not UTF-8 is no text.
    let text = match str::from_utf8(begin) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && begin.len() < content.len() => {
            str::from_utf8(begin.get(..error.valid_up_to()).unwrap_or_default())
                .map_err(|_| Unshown::NotText)?
        }
        Err(_) => return Err(Unshown::NotText),
    };
    Ok(Shown { text, is_whole: text.len() == content.len() })
}

/// Whether content of this media type is for people to read.
fn is_text(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((major, minor)) = kind.split_once('/') else { return false };
    let is_application = || {
        let known = ["json", "javascript", "xml", "yaml", "toml", "graphql", "sql", "x-ndjson"];
        known.contains(&minor) || minor.ends_with("+json") || minor.ends_with("+xml")
    };
    match major {
        "text" => true,
        "application" => is_application(),
        _ => kind == "image/svg+xml",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::*;
    use crate::semantics::{Freshness, Spans};
    use crate::stored::{Fields, Moment, Original, Position};

    fn stored(kind: &'static str, coding: Option<&'static str>, body: &[u8]) -> StoredResponse {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(coding) = coding {
            fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        let freshness = Freshness::fresh_for(Duration::ZERO, SystemTime::UNIX_EPOCH);
        StoredResponse {
            name: "a".into(),
            status: StatusCode::OK,
            fields: Fields::encode(&fields).unwrap(),
            body: body.to_vec().into(),
            part: None,
            freshness: Freshness { open: true, ..freshness },
            marks: Box::default(),
            position: Position::ZERO,
            begun: Moment::BEFORE_ALL,
            checked: AtomicU64::new(0),
            original: Original::default(),
        }
    }

    #[test]
    fn only_text_that_everybody_gets_is_shown() {
        let json = "application/json; charset=utf-8";
        for (stored, expected, why) in [
            (stored(json, None, b"{}"), Ok("{}"), "JSON"),
            (stored("TEXT/HTML", None, b"<p>"), Ok("<p>"), "whatever its case"),
            (stored("application/vnd.a+json", Some("identity"), b"1"), Ok("1"), "no coding"),
            (stored("text/plain", None, b""), Ok(""), "nothing"),
            (stored(json, Some("gzip"), b"{}"), Err(Unshown::Coded), "coded"),
            (stored("image/png", None, b"{}"), Err(Unshown::NotText), "a picture"),
            (stored("nonsense", None, b"{}"), Err(Unshown::NotText), "no type"),
            (stored("text/plain", None, b"a\xff"), Err(Unshown::NotText), "another charset"),
            (stored("text/plain", None, b"a\xc3"), Err(Unshown::NotText), "half a character"),
        ] {
            let shown = beginning(&stored);
            let expected = expected.map(|text| Shown { text, is_whole: true });
            assert_eq!(shown, expected, "{why}");
        }
        let mut closed = stored(json, None, b"{}");
        closed.freshness.open = false;
        assert_eq!(beginning(&closed), Err(Unshown::Closed));
        let mut part = stored(json, None, b"{}");
        part.part = Spans::new([(0, 2)], Some(9)).map(Box::new);
        assert_eq!(beginning(&part), Err(Unshown::Partial));
    }

    #[test]
    fn a_long_text_ends_with_a_whole_character() {
        let long = "\u{20ac}".repeat(2000);
        let stored = stored("text/plain", None, long.as_bytes());
        let shown = beginning(&stored).unwrap();
        assert_eq!((shown.text.len(), shown.is_whole), (4095, false));
    }

    #[test]
    fn tags_are_those_that_the_fields_name() {
        let lines = [("cache-tag", "b, a"), ("surrogate-key", "a c"), ("cache-groups", "\"d\"")];
        let fields = lines
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let fields = Fields::encode(&HeaderMap::from_iter(fields)).unwrap();
        let stored = StoredResponse { fields, ..stored("a/b", None, b"") };
        assert_eq!(tags_of(&stored), ["a", "b", "c", "d"]);
    }
}
