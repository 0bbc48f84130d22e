//! Whether a stored variant is what the origin would choose for another request, too.
//!
//! RFC 9111 §4.1 compares nominated fields: one that differs is a miss, though "a known mechanism
//! for ranking preference (e.g., qvalues on Accept and similar request header fields)" may choose
//! among several that match. Here that mechanism goes one step further: where nothing but
//! `Accept-Language` or `Accept-Encoding` differs, and the stored response says that it has the
//! language that is wanted most, or a coding that none is preferred to, the origin could not have
//! chosen better.

use std::cmp::Reverse;

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE};
use serde::{Deserialize, Serialize};

use super::negotiation::{self, Member, coding_name, is_language_tag, is_token};
use super::vary::joined;

/// The longest coding or language that is remembered.
const LONGEST: usize = 32;

/// Stands for what is not one short name. No name equals it.
const OTHER: &[u8] = b",";

/// The coding and the language that the origin chose for a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Empty where there is no `Content-Encoding`.
    coding: Box<[u8]>,
    /// Empty where there is no `Content-Language`.
    language: Box<[u8]>,
}

/// What a request prefers of codings and languages.
#[derive(Clone, Debug)]
pub struct Preferred {
    codings: Codings,
    /// Ranges with their weights, the one that is preferred to all others, or stands before those that
    /// weigh as much, first. Empty where there are none, or they cannot be read.
    languages: Vec<(Box<[u8]>, u16)>,
}

#[derive(Clone, Debug)]
enum Codings {
    /// There is no `Accept-Encoding`.
    Unsaid,
    /// With their weights.
    Listed(Vec<(Box<[u8]>, u16)>),
    /// It cannot be read.
    Unknown,
}

impl Chosen {
    /// What the fields of a response say.
    pub fn of(fields: &HeaderMap) -> Self {
        let coding = joined(fields, &CONTENT_ENCODING).map_or_else(Box::default, |value| {
            let is_one = is_token(&value) && value.len() <= LONGEST;
            if is_one { coding_name(&value).into() } else { OTHER.into() }
        });
        let language = joined(fields, &CONTENT_LANGUAGE).map_or_else(Box::default, |value| {
            let is_one = is_language_tag(&value) && value.len() <= LONGEST;
            if is_one { value.to_ascii_lowercase().into() } else { OTHER.into() }
        });
        Self { coding, language }
    }

    /// How many octets it holds.
    pub fn octets(&self) -> usize {
        self.coding.len() + self.language.len()
    }
}

impl Preferred {
    /// What the fields of a request say.
    pub fn of(fields: &HeaderMap) -> Self {
        let codings = joined(fields, &ACCEPT_ENCODING).map_or(Codings::Unsaid, |list| {
            negotiation::members(&ACCEPT_ENCODING, &list)
                .map_or(Codings::Unknown, |members| Codings::Listed(weights(&members)))
        });
        let languages = joined(fields, &ACCEPT_LANGUAGE).and_then(|list| {
            let mut members = negotiation::members(&ACCEPT_LANGUAGE, &list)?;
            members.sort_by_key(|member| Reverse(member.weight));
            Some(weights(&members))
        });
        Self { codings, languages: languages.unwrap_or_default() }
    }

    /// Whether no coding is preferred to the one that was chosen (RFC 9110 §12.5.3). No coding at
    /// all is `identity`, and best where nothing else is acceptable.
    pub fn prefers_coding(&self, chosen: &Chosen) -> bool {
        let listed = match &self.codings {
            // Any would be acceptable, and few origins take this for a wish.
            Codings::Unsaid => return chosen.coding.is_empty(),
            Codings::Unknown => return false,
            Codings::Listed(listed) => listed,
        };
        let weight = |name: &[u8]| weight(listed, name);
        let best = listed.iter().map(|(_, weight)| *weight).max().unwrap_or_default();
        match (best, &*chosen.coding) {
            (0, b"") => weight(b"identity").is_none() && weight(b"*").is_none(),
            (0, _) => false,
            (best, b"") => weight(b"identity") == Some(best),
            (best, coding) => weight(coding) == Some(best),
        }
    }

    /// Whether the coding that was chosen is acceptable. Content without one always counts as that;
    /// with one, only where the request says so.
    pub fn accepts_coding(&self, chosen: &Chosen) -> bool {
        match &self.codings {
            _ if chosen.coding.is_empty() => true,
            Codings::Unsaid | Codings::Unknown => false,
            Codings::Listed(listed) => weight(listed, &chosen.coding)
                .or_else(|| weight(listed, b"*").filter(|_| *chosen.coding != *OTHER))
                .is_some_and(|weight| weight > 0),
        }
    }

    /// Whether the language that was chosen is the one that is wanted most: the range itself, or
    /// one that it matches by basic filtering (RFC 4647 §3.3.1). Not so where a longer range that matches
    /// it, too, weighs less: that says of it that it is wanted less, or not at all.
    pub fn prefers_language(&self, chosen: &Chosen) -> bool {
        let Some((best, highest)) = self.languages.first() else { return false };
        if *highest == 0 || !is_in_range(&chosen.language, best) {
            return false;
        }
        let matching =
            self.languages.iter().filter(|(range, _)| is_in_range(&chosen.language, range));
        let longest = matching.max_by_key(|(range, _)| range.len());
        longest.is_some_and(|(_, weight)| weight == highest)
    }
}

/// Whether a range matches a language tag. `*`, which says nothing of any, is none here.
fn is_in_range(tag: &[u8], range: &[u8]) -> bool {
    let rest = tag.strip_prefix(range);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-"))
}

fn weights(members: &[Member<'_>]) -> Vec<(Box<[u8]>, u16)> {
    members.iter().map(|member| ((*member.name).into(), member.weight)).collect()
}

fn weight(listed: &[(Box<[u8]>, u16)], name: &[u8]) -> Option<u16> {
    listed.iter().find(|(listed, _)| **listed == *name).map(|(_, weight)| *weight)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    #[test]
    fn codings() {
        for (accepted, chosen, best, acceptable, why) in [
            (Some("gzip, br"), "gzip", true, true, "none is preferred to it"),
            (Some("gzip, br"), "br", true, true, "none is preferred to it"),
            (Some("gzip, br"), "BR", true, true, "coding names ignore case"),
            (Some("gzip"), "x-gzip", true, true, "\"equivalent to gzip\""),
            (Some("gzip;q=0.5, br"), "gzip", false, true, "the origin may have `br`"),
            (Some("gzip;q=0.5, br"), "br", true, true, "the highest weight"),
            (Some("gzip;q=0.5, *"), "gzip", false, true, "another may be wanted more"),
            (Some("*"), "gzip", false, true, "it is not listed"),
            (Some("*, gzip;q=0"), "gzip", false, false, "not acceptable"),
            (Some("br"), "gzip", false, false, "not listed"),
            (Some("gzip, br"), "", false, true, "the origin may have encoded it since"),
            (Some("identity, gzip"), "", true, true, "`identity` has the highest weight"),
            (Some("identity"), "", true, true, "nothing else is acceptable"),
            (Some("identity;q=0.5, gzip"), "", false, true, "`gzip` is wanted more"),
            (Some(""), "", true, true, "\"does not want any content coding\""),
            (Some("gzip;q=0"), "", true, true, "nothing else is acceptable"),
            (Some("*;q=0"), "", false, true, "not acceptable, either"),
            (Some("identity;q=0"), "", false, true, "not acceptable, either"),
            (None, "", true, true, "nothing is asked for"),
            (None, "gzip", false, false, "not asked for"),
            (Some("gzip;q=2"), "gzip", false, false, "cannot be read"),
            (Some("gzip;q=2"), "", false, true, "cannot be read"),
            (Some("gzip, br"), "gzip, br", false, false, "two codings"),
            (Some("*"), "gzip, br", false, false, "two codings"),
        ] {
            let request: Vec<_> = accepted.iter().map(|list| ("accept-encoding", *list)).collect();
            let response: Vec<_> =
                [("content-encoding", chosen)].into_iter().filter(|_| !chosen.is_empty()).collect();
            let (wanted, chosen) =
                (Preferred::of(&fields(&request)), Chosen::of(&fields(&response)));
            assert_eq!(wanted.prefers_coding(&chosen), best, "{request:?} {response:?}: {why}");
            assert_eq!(
                wanted.accepts_coding(&chosen),
                acceptable,
                "{request:?} {response:?}: {why}"
            );
        }
    }

    #[test]
    fn languages() {
        for (accepted, chosen, expected, why) in [
            ("de", vec!["de"], true, "the range itself"),
            ("DE", vec!["De"], true, "compared without regard to case"),
            ("de", vec!["de-AT"], true, "a prefix followed by `-` (RFC 4647 §3.3.1)"),
            ("de", vec!["den"], false, "a prefix not followed by `-`"),
            ("de-AT", vec!["de"], false, "the range is longer than the tag"),
            ("de, en;q=0.5", vec!["de"], true, "the highest weight"),
            ("en;q=0.5, de", vec!["de"], true, "the highest weight"),
            ("de, en;q=0.5", vec!["en"], false, "the origin may have `de`"),
            ("de, en", vec!["de"], true, "the first of equal weights"),
            ("de, en", vec!["en"], false, "not the first of equal weights"),
            ("de;q=0", vec!["de"], false, "not acceptable"),
            ("en, en-GB;q=0", vec!["en-GB"], false, "not acceptable"),
            ("en, en-GB;q=0", vec!["en-GB-oxendict"], false, "nor is what is within that"),
            ("en, en-GB;q=0", vec!["en-US"], true, "of which nothing else is said"),
            ("en, en-GB;q=0", vec!["en"], true, "the range itself"),
            ("de, de-AT;q=0.5", vec!["de-AT"], false, "wanted less"),
            ("de-AT, de;q=0.5", vec!["de-AT"], true, "the longer range has the highest weight"),
            ("de, de-AT", vec!["de-AT"], true, "wanted as much"),
            ("de, *;q=0.5", vec!["de-AT"], true, "`*` is about the others"),
            ("*", vec!["de"], false, "any is as good: the origin chooses"),
            ("*, de", vec!["de"], false, "any is as good: the origin chooses"),
            ("", vec!["de"], false, "none is preferred"),
            ("de_DE", vec!["de"], false, "cannot be read"),
            ("de", vec![], false, "its language is not known"),
            ("de", vec!["de, en"], false, "two languages"),
            ("de", vec!["de", "en"], false, "two languages"),
        ] {
            let response: Vec<_> = chosen.iter().map(|tag| ("content-language", *tag)).collect();
            let wanted = Preferred::of(&fields(&[("accept-language", accepted)]));
            let chosen = Chosen::of(&fields(&response));
            assert_eq!(
                wanted.prefers_language(&chosen),
                expected,
                "{accepted} {response:?}: {why}"
            );
        }
        let silent = Preferred::of(&HeaderMap::new());
        let german = Chosen::of(&fields(&[("content-language", "de")]));
        assert!(!silent.prefers_language(&german), "nothing is asked for");
    }

    proptest! {
        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                let names = [ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE];
                let fields: HeaderMap = names.map(|name| (name, line.clone())).into_iter().collect();
                let (wanted, chosen) = (Preferred::of(&fields), Chosen::of(&fields));
                prop_assert!(chosen.octets() <= 2 * LONGEST);
                prop_assert!(!wanted.prefers_coding(&chosen) || wanted.accepts_coding(&chosen));
                wanted.prefers_language(&chosen);
            }
        }
    }
}
