//! One forward request that asks about several stored responses, and which of them a 304 speaks of
//! (RFC 9111 §4.3.1, §4.3.4).

use http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};

use super::validation::{Validators, is_entity_tag, is_weak, opaque, same_representation};

/// How many entity tags a forward request names at most.
const MOST_TAGS: usize = 16;

/// What is asked about: a stale response that the request selects, and variants that others do.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    stale: Option<Validators>,
    /// Of the variants, each once, and none that the stale response has.
    tags: Vec<HeaderValue>,
}

/// What a 304 speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// The stale response.
    Stale,
    /// The variant with this entity tag.
    Variant(&'a HeaderValue),
}

impl Candidates {
    /// The validators of a stale response that the request selects, and the entity tags of
    /// variants, those to prefer first; sixteen tags in all.
    ///
    /// A stale response that has a date alone is asked about alone: "A recipient MUST ignore
    /// If-Modified-Since if the request contains an If-None-Match header field" (RFC 9110 §13.1.3).
    pub fn new(stale: Option<Validators>, variants: impl IntoIterator<Item = HeaderValue>) -> Self {
        let own = stale.as_ref().and_then(|stale| stale.etag.as_ref());
        let is_listable = match &stale {
            Some(Validators { etag: Some(tag), .. }) => is_entity_tag(tag),
            Some(stale) => stale.is_empty(),
            None => true,
        };
        let most = MOST_TAGS - usize::from(own.is_some());
        let mut tags: Vec<HeaderValue> = Vec::new();
        for tag in variants.into_iter().filter(|_| is_listable) {
            let is_new = own != Some(&tag) && !tags.contains(&tag);
            if is_new && is_entity_tag(&tag) && tags.len() < most {
                tags.push(tag);
            }
        }
        Self { stale, tags }
    }

    /// Whether a 304 would be an answer to what was asked.
    pub fn is_empty(&self) -> bool {
        self.stale.is_none() && self.tags.is_empty()
    }

    /// The fields that make our request conditional. The client's own conditions are to be removed
    /// before. §4.3.1 wants "the relevant entity tags", and the date where "a single stored response
    /// is being validated".
    pub fn conditions(&self) -> Vec<(HeaderName, HeaderValue)> {
        let own = self.stale.as_ref().and_then(|stale| stale.etag.as_ref());
        if self.tags.is_empty() {
            return self.stale.iter().flat_map(Validators::conditions).collect();
        }
        let tags: Vec<_> = own.into_iter().chain(&self.tags).map(HeaderValue::as_bytes).collect();
        let list = HeaderValue::from_bytes(&tags.join(&b", "[..]));
        list.into_iter().map(|list| (IF_NONE_MATCH, list)).collect()
    }

    /// Which response a 304 speaks of, by the first rule of §4.3.4 that applies. `None` if it is
    /// none of those asked about, or nobody can tell which.
    ///
    /// - "one or more strong validators": the response with the same one.
    /// - "no strong validators but does contain one or more weak validators": the one that
    ///   corresponds, the first of several; rather one with the very same tag.
    /// - No validator: the only response that was asked about.
    ///
    /// Beyond the letter, a strong tag names a stale response that has the same as a weak one, if
    /// that alone was sent: the origin compared it weakly. Servers that compress what they send make
    /// a tag weak behind the place where they answer with a 304.
    pub fn named_by(&self, not_modified: &HeaderMap) -> Option<Named<'_>> {
        let is_stale =
            || self.stale.as_ref().is_some_and(|stale| same_representation(stale, not_modified));
        if self.tags.is_empty() {
            let is_named = is_stale() || self.is_named_as_strong(not_modified);
            return is_named.then_some(Named::Stale);
        }
        let Some(named) = Validators::of(not_modified).etag else {
            let [only] = &*self.tags else { return None };
            let is_only = self.stale.is_none() && !not_modified.contains_key(ETAG);
            return is_only.then_some(Named::Variant(only));
        };
        if is_stale() {
            return Some(Named::Stale);
        }
        let same = self.tags.iter().find(|tag| **tag == named);
        let alike = || self.tags.iter().find(|tag| opaque(tag) == opaque(&named));
        same.or_else(|| is_weak(&named).then(alike)?).map(Named::Variant)
    }

    fn is_named_as_strong(&self, not_modified: &HeaderMap) -> bool {
        let named = Validators::of(not_modified).etag;
        named.zip(self.stale.as_ref()).is_some_and(|(tag, stale)| stale.has_as_weak(&tag))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fields;
    use super::*;

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";

    fn candidates(stale: Option<[&str; 2]>, tags: &[&'static str]) -> Candidates {
        let stale = stale.map(|[etag, date]| {
            Validators::of(&fields(&[("etag", etag), ("last-modified", date)]))
        });
        Candidates::new(stale, tags.iter().map(|tag| HeaderValue::from_static(tag)))
    }

    #[test]
    fn conditions() {
        for (stale, tags, expected, why) in [
            (None, vec![], vec![], "nothing is stored"),
            (None, vec!["\"1\""], vec![("if-none-match", "\"1\"")], "one variant"),
            (
                None,
                vec!["\"1\"", "W/\"2\"", "\"1\""],
                vec![("if-none-match", "\"1\", W/\"2\"")],
                "\"One or more entity tags, indicating one or more stored responses\"",
            ),
            (
                Some(["\"0\"", NOON]),
                vec![],
                vec![("if-none-match", "\"0\""), ("if-modified-since", NOON)],
                "the stale one alone",
            ),
            (
                Some(["\"0\"", NOON]),
                vec!["\"1\"", "\"0\""],
                vec![("if-none-match", "\"0\", \"1\"")],
                "a date would be about the stale one alone",
            ),
            (
                Some(["", NOON]),
                vec!["\"1\""],
                vec![("if-modified-since", NOON)],
                "the tag would hide the date",
            ),
            (
                Some(["", ""]),
                vec!["\"1\""],
                vec![("if-none-match", "\"1\"")],
                "it has no validator",
            ),
            (
                None,
                vec!["1", "\"1", "\"1\"2"],
                vec![],
                "no entity tags: in a list nobody could read them",
            ),
            (Some(["1,2", ""]), vec!["\"1\""], vec![("if-none-match", "1,2")], "no list with it"),
        ] {
            let found: HeaderMap = candidates(stale, &tags).conditions().into_iter().collect();
            assert_eq!(found, fields(&expected), "{stale:?} {tags:?}: {why}");
        }
        let many: Vec<_> =
            (0..99).map(|n| HeaderValue::try_from(format!("\"{n}\"")).unwrap()).collect();
        assert_eq!(Candidates::new(None, many).tags.len(), MOST_TAGS, "bounded");
    }

    /// Rows of: the stale response's tag and date, the variants' tags, the 304, what it names.
    type Row = (
        Option<[&'static str; 2]>,
        Vec<&'static str>,
        Vec<(&'static str, &'static str)>,
        Option<&'static str>,
        &'static str,
    );

    fn check(rows: Vec<Row>) {
        for (stale, tags, not_modified, expected, why) in rows {
            let asked = candidates(stale, &tags);
            let not_modified = fields(&not_modified);
            let found = asked.named_by(&not_modified).map(|named| match named {
                Named::Stale => "stale",
                Named::Variant(tag) => tag.to_str().unwrap(),
            });
            assert_eq!(found, expected, "{stale:?} {tags:?} {not_modified:?}: {why}");
        }
    }

    #[test]
    fn which_variant_a_304_speaks_of() {
        check(vec![
            (
                None,
                vec!["\"1\"", "\"2\""],
                vec![("etag", "\"2\"")],
                Some("\"2\""),
                "the same strong validator",
            ),
            (None, vec!["W/\"1\""], vec![("etag", "\"1\"")], None, "the stored one is not strong"),
            (
                None,
                vec!["\"1\"", "W/\"1\""],
                vec![("etag", "W/\"1\"")],
                Some("W/\"1\""),
                "the very same",
            ),
            (
                None,
                vec!["\"2\"", "\"1\""],
                vec![("etag", "W/\"1\"")],
                Some("\"1\""),
                "a weak one corresponds",
            ),
            (None, vec!["\"1\""], vec![("etag", "\"3\"")], None, "none of them"),
            (None, vec!["\"1\""], vec![], Some("\"1\""), "no validator: the only one asked about"),
            (None, vec!["\"1\"", "\"2\""], vec![], None, "no validator: which of them?"),
            (
                None,
                vec!["\"1\""],
                vec![("etag", "\"1\""), ("etag", "\"2\"")],
                None,
                "which of them?",
            ),
        ]);
    }

    #[test]
    fn a_strong_tag_may_name_a_weak_one_that_was_sent_alone() {
        let strong = || vec![("etag", "\"0\"")];
        check(vec![
            (Some(["W/\"0\"", NOON]), vec![], strong(), Some("stale"), "compared weakly"),
            (Some(["W/\"1\"", NOON]), vec![], strong(), None, "another"),
            (Some(["W/\"0\"", ""]), vec!["\"1\""], strong(), None, "two were sent"),
            (None, vec!["W/\"0\""], strong(), None, "a variant that the request does not select"),
            (
                Some(["W/0", ""]),
                vec![],
                vec![("etag", "0")],
                None,
                "who knows what `W/` means here?",
            ),
        ]);
    }

    #[test]
    fn whether_a_304_speaks_of_the_stale_response() {
        const STALE: Option<&str> = Some("stale");

        check(vec![
            (
                Some(["\"0\"", ""]),
                vec!["\"1\""],
                vec![("etag", "\"0\"")],
                STALE,
                "the same strong validator",
            ),
            (
                Some(["\"0\"", ""]),
                vec!["\"1\""],
                vec![("etag", "\"1\"")],
                Some("\"1\""),
                "a variant",
            ),
            (Some(["\"0\"", NOON]), vec!["\"1\""], vec![], None, "no validator: which of them?"),
            (
                Some(["\"0\"", NOON]),
                vec!["\"1\""],
                vec![("last-modified", NOON)],
                None,
                "which of them?",
            ),
            (
                Some(["\"0\"", NOON]),
                vec![],
                vec![],
                STALE,
                "no validator: the only one asked about",
            ),
            (
                Some(["", NOON]),
                vec!["\"1\""],
                vec![("last-modified", NOON)],
                STALE,
                "the only one asked about",
            ),
            (
                Some(["", NOON]),
                vec!["\"1\""],
                vec![("etag", "\"1\"")],
                None,
                "it was not asked about",
            ),
        ]);
    }
}
