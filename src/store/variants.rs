//! Which variants of a response there are (RFC 9111 §4.1): what lies under a cache key whose
//! responses had `Vary`. The variants themselves lie under keys of their own.
//!
//! What decides whether a variant answers a request with other fields, or may be asked about in a
//! request for another variant, is noted here: no variant has to be fetched to tell.

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::semantics::{Chosen, Preferred, Validators, vary};
use crate::stored::{CacheKey, Fields};

/// So many different `Vary` fields are remembered under one key; an upstream has one or two.
pub(super) const MAX_LISTS: usize = 4;

/// A response that nominates more fields than this is not stored.
pub(super) const MAX_NOMINATED: usize = 16;

/// So many variants fit under one key, whatever a route says.
pub(super) const MAX_VARIANTS: usize = 1024;

/// A longer entity tag is not noted.
const LONGEST_TAG: usize = 128;

/// Fields whose meaning is known: with other values they may select the same response.
const NEGOTIATED: [HeaderName; 2] = [ACCEPT_ENCODING, ACCEPT_LANGUAGE];

/// Half of a hash: enough to tell values apart.
type Digest = [u8; 16];

/// The nominated field names that were seen, and the variants, both with the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variants {
    /// Each sorted and without repetitions, so that the order in `Vary` does not matter.
    pub(super) lists: Vec<Box<[HeaderName]>>,
    pub(super) known: Vec<Known>,
}

/// What is known of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) key: CacheKey,
    /// Which fields are nominated, and the values of all but the negotiated ones.
    rest: Digest,
    /// The value of each negotiated field.
    negotiated: [Digest; 2],
    chosen: Chosen,
    /// Empty if there is none that can be asked about.
    tag: Box<[u8]>,
}

/// One variant, and the fields that told it from the others.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) known: Known,
    nominated: Box<[HeaderName]>,
}

impl Variant {
    /// The variant under `key` that the request with these `fields` selects, and what its response's
    /// own fields say. `None` if too many fields are nominated.
    pub(super) fn of(
        key: &CacheKey,
        nominated: &[HeaderName],
        fields: &HeaderMap,
        response: &Fields,
    ) -> Option<Self> {
        let mut nominated: Box<[HeaderName]> = nominated.into();
        nominated.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut nominated = nominated.into_vec();
        nominated.dedup();
        if nominated.len() > MAX_NOMINATED {
            return None;
        }
        let response = response.to_map(0);
        let tag = Validators::of(&response).etag.filter(|tag| tag.len() <= LONGEST_TAG);
        let known = Known {
            key: selected(key, &nominated, fields),
            rest: rest(key, &nominated, fields),
            negotiated: negotiated(fields),
            chosen: Chosen::of(&response),
            tag: tag.map_or_else(Box::default, |tag| tag.as_bytes().into()),
        };
        Some(Self { known, nominated: nominated.into() })
    }
}

fn selected(key: &CacheKey, nominated: &[HeaderName], fields: &HeaderMap) -> CacheKey {
    key.selected_by(nominated, fields)
}

/// All that a request must have in common with a variant's own.
fn rest(key: &CacheKey, nominated: &[HeaderName], fields: &HeaderMap) -> Digest {
    half(key.variant(nominated.iter().map(|name| {
        let is_negotiated = NEGOTIATED.contains(name);
        (name, vary::nominated_value(fields, name).filter(|_| !is_negotiated))
    })))
}

/// In the order of [`NEGOTIATED`].
fn negotiated(fields: &HeaderMap) -> [Digest; 2] {
    let nothing = CacheKey([0; 32]);
    NEGOTIATED.each_ref().map(|name| half(selected(&nothing, std::slice::from_ref(name), fields)))
}

fn half(CacheKey(hash): CacheKey) -> Digest {
    let (half, _) = hash.as_chunks();
    half.first().copied().unwrap_or_default()
}

impl Variants {
    /// The variants that a request with these `fields` selects, the newest list of nominated
    /// fields first. Usually one or none.
    pub(super) fn selected_by<'a>(
        &'a self,
        key: &'a CacheKey,
        fields: &'a HeaderMap,
    ) -> impl Iterator<Item = CacheKey> + 'a {
        let keys = self.lists.iter().map(move |nominated| selected(key, nominated, fields));
        keys.filter(|key| self.known.iter().any(|known| known.key == *key))
    }

    /// The key of the variant that a request with these `fields` would select of a response like the
    /// newest. If there is none yet, but one that may do for it, too: that one's. `key` if all would select it.
    pub fn wanted(&self, key: &CacheKey, fields: &HeaderMap) -> Option<CacheKey> {
        let nominated = self.lists.first()?;
        if nominated.is_empty() {
            return Some(*key);
        }
        let own = selected(key, nominated, fields);
        if self.known.iter().any(|known| known.key == own) {
            return Some(own);
        }
        Some(self.understood_by(key, fields).next().unwrap_or(own))
    }

    /// Variants of which such a request differs in negotiated fields alone, and that the origin could
    /// not better, the newest first.
    pub(super) fn understood_by<'a>(
        &'a self,
        key: &'a CacheKey,
        fields: &'a HeaderMap,
    ) -> impl Iterator<Item = CacheKey> + 'a {
        let lists = self.lists.iter();
        let mut lists = lists.filter(|list| NEGOTIATED.iter().any(|n| list.contains(n))).peekable();
        let request = lists.peek().is_some().then(|| (Preferred::of(fields), negotiated(fields)));
        let rests: Vec<_> = lists.map(|list| (list, rest(key, list, fields))).collect();
        self.known.iter().filter_map(move |known| {
            let (wanted, [encoding, language]) = request.as_ref()?;
            let (list, _) = rests.iter().find(|(_, rest)| *rest == known.rest)?;
            let [its_encoding, its_language] = &known.negotiated;
            let is_best = (!list.contains(&ACCEPT_ENCODING)
                || encoding == its_encoding
                || wanted.prefers_coding(&known.chosen))
                && (!list.contains(&ACCEPT_LANGUAGE)
                    || language == its_language
                    || wanted.prefers_language(&known.chosen));
            is_best.then_some(known.key)
        })
    }

    /// The entity tags of variants that the origin may find to be right for such a request, the
    /// newest first. A tag does not tell of codings: some servers give one to all of them. So
    /// content is left out that the client could not decode.
    pub(super) fn tagged<'a>(
        &'a self,
        fields: &HeaderMap,
    ) -> impl Iterator<Item = (HeaderValue, CacheKey)> + 'a {
        let wanted = Preferred::of(fields);
        let tagged = self.known.iter().filter(|known| !known.tag.is_empty());
        tagged.filter(move |known| wanted.accepts_coding(&known.chosen)).filter_map(|known| {
            HeaderValue::from_bytes(&known.tag).ok().map(|tag| (tag, known.key))
        })
    }

    /// Adds a variant or makes it the newest one. Answers the keys of those that had to go, so
    /// that at most `bound` are left.
    pub(super) fn add(&mut self, variant: Variant, bound: usize) -> Vec<CacheKey> {
        self.lists.retain(|nominated| *nominated != variant.nominated);
        self.lists.insert(0, variant.nominated);
        self.lists.truncate(MAX_LISTS);
        self.known.retain(|known| known.key != variant.known.key);
        self.known.insert(0, variant.known);
        let gone = self.known.split_off(self.known.len().min(bound.clamp(1, MAX_VARIANTS)));
        gone.into_iter().map(|known| known.key).collect()
    }

    /// Adds what another gateway knows, as older than what is known here. No more variants are
    /// left than the one or the other had.
    pub(super) fn merge(&mut self, other: &Self) {
        let bound = self.known.len().max(other.known.len());
        for nominated in &other.lists {
            if !self.lists.contains(nominated) && self.lists.len() < MAX_LISTS {
                self.lists.push(nominated.clone());
            }
        }
        for known in &other.known {
            let is_new = self.known.iter().all(|here| here.key != known.key);
            if is_new && self.known.len() < bound {
                self.known.push(known.clone());
            }
        }
    }

    /// What it takes in memory.
    pub(super) fn octets(&self) -> usize {
        let names = self.lists.iter().map(|list| size_of_val(&**list)).sum::<usize>();
        let known = self.known.iter().map(Known::octets).sum::<usize>();
        names + known
    }
}

impl Known {
    fn octets(&self) -> usize {
        size_of::<Self>() + self.chosen.octets() + self.tag.len()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LANGUAGE, ETAG};

    use super::*;

    const KEY: CacheKey = CacheKey([7; 32]);

    fn request(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, v)| (name.clone(), HeaderValue::from_static(v))).collect()
    }

    fn variant(nominated: &[HeaderName], fields: &HeaderMap) -> Variant {
        Variant::of(&KEY, nominated, fields, &Fields::default()).unwrap()
    }

    #[test]
    fn a_request_selects_the_variant_with_its_own_values() {
        let german = request(&[(ACCEPT_LANGUAGE, "de")]);
        let french = request(&[(ACCEPT_LANGUAGE, "fr"), (ACCEPT, "*/*")]);
        let mut variants = Variants::default();
        variants.add(variant(&[ACCEPT_LANGUAGE], &german), 8);
        assert_eq!(variants.selected_by(&KEY, &german).count(), 1);
        assert_eq!(variants.selected_by(&KEY, &french).count(), 0);
        assert_eq!(variants.selected_by(&KEY, &HeaderMap::new()).count(), 0, "absent is a value");

        variants.add(variant(&[ACCEPT], &french), 8);
        let both = request(&[(ACCEPT_LANGUAGE, "de"), (ACCEPT, "*/*")]);
        let expected =
            [variant(&[ACCEPT], &french).known.key, variant(&[ACCEPT_LANGUAGE], &german).known.key];
        assert!(variants.selected_by(&KEY, &both).eq(expected), "the newest list first");
    }

    #[test]
    fn order_and_repetition_in_vary_do_not_matter() {
        let fields = request(&[(ACCEPT, "a"), (ACCEPT_ENCODING, "br")]);
        let one = variant(&[ACCEPT, ACCEPT_ENCODING], &fields);
        let other = variant(&[ACCEPT_ENCODING, ACCEPT, ACCEPT_ENCODING], &fields);
        assert_eq!(one.known.key, other.known.key);
    }

    #[test]
    fn the_oldest_variants_and_lists_go() {
        let mut variants = Variants::default();
        let of = |language| request(&[(ACCEPT_LANGUAGE, language)]);
        for language in ["a", "b", "c"] {
            assert!(variants.add(variant(&[ACCEPT_LANGUAGE], &of(language)), 3).is_empty());
        }
        variants.add(variant(&[ACCEPT_LANGUAGE], &of("a")), 3);
        let gone = variants.add(variant(&[ACCEPT_LANGUAGE], &of("d")), 3);
        assert_eq!(gone, [variant(&[ACCEPT_LANGUAGE], &of("b")).known.key]);
        assert_eq!(variants.lists.len(), 1);

        for n in 0..6 {
            let name = HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap();
            variants.add(variant(&[name], &HeaderMap::new()), 3);
        }
        assert_eq!((variants.lists.len(), variants.known.len()), (MAX_LISTS, 3));
    }

    #[test]
    fn what_others_know_is_added_behind() {
        let of = |language| request(&[(ACCEPT_LANGUAGE, language)]);
        let (mut here, mut there) = (Variants::default(), Variants::default());
        here.add(variant(&[ACCEPT_LANGUAGE], &of("a")), 2);
        there.add(variant(&[ACCEPT_LANGUAGE], &of("b")), 2);
        there.add(variant(&[ACCEPT], &of("c")), 2);
        here.merge(&there);
        let expected =
            [variant(&[ACCEPT_LANGUAGE], &of("a")).known, variant(&[ACCEPT], &of("c")).known];
        assert_eq!(here.known, expected);
        assert_eq!(here.lists.len(), 2);
    }

    #[test]
    fn too_many_nominated_fields_are_refused() {
        let names: Vec<_> = (0..=MAX_NOMINATED)
            .map(|n| HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap())
            .collect();
        assert!(Variant::of(&KEY, &names, &HeaderMap::new(), &Fields::default()).is_none());
    }

    /// A variant for a request with these fields, of a response with those.
    fn stored(
        nominated: &[HeaderName],
        fields: &[(HeaderName, &'static str)],
        response: &[(HeaderName, &'static str)],
    ) -> Variant {
        let response = Fields::encode(&request(response)).unwrap();
        Variant::of(&KEY, nominated, &request(fields), &response).unwrap()
    }

    #[test]
    fn a_request_that_differs_in_negotiated_fields_alone() {
        let german = [(ACCEPT, "a/b"), (ACCEPT_LANGUAGE, "de, en;q=0.5"), (ACCEPT_ENCODING, "br")];
        let response = [(CONTENT_LANGUAGE, "de")];
        let mut variants = Variants::default();
        let nominated = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE];
        let variant = stored(&nominated, &german, &response);
        let expected = [variant.known.key];
        variants.add(variant, 8);
        for (accept, language, coding, is_understood, why) in [
            ("a/b", "de", "br", true, "the language is wanted most"),
            ("a/b", "de", "BR;q=1", true, "the same coding"),
            ("a/b", "en", "br", false, "another language is wanted"),
            ("a/b", "de", "gzip", false, "it may come encoded"),
            ("a/b", "de", "identity", true, "it is not encoded"),
            ("a/b", "en;q=0.5, de", "identity", true, "the same languages"),
            ("c/d", "de", "br", false, "another field differs"),
        ] {
            let fields = request(&[
                (ACCEPT, accept),
                (ACCEPT_LANGUAGE, language),
                (ACCEPT_ENCODING, coding),
            ]);
            let found: Vec<_> = variants.understood_by(&KEY, &fields).collect();
            assert_eq!(found == expected, is_understood, "{accept} {language} {coding}: {why}");
            assert!(is_understood || found.is_empty());
        }
    }

    #[test]
    fn other_fields_are_not_understood() {
        let mut variants = Variants::default();
        let response = [(CONTENT_LANGUAGE, "de")];
        variants.add(stored(&[ACCEPT], &[(ACCEPT, "a/b")], &response), 8);
        let fields = request(&[(ACCEPT, "a/b;q=0.5"), (ACCEPT_LANGUAGE, "de")]);
        assert_eq!(variants.understood_by(&KEY, &fields).count(), 0);
    }

    #[test]
    fn a_request_wants_its_own_variant_or_one_that_may_do() {
        let of = |language: &'static str| [(ACCEPT_LANGUAGE, language)];
        let own = |language| selected(&KEY, &[ACCEPT_LANGUAGE], &request(&of(language)));
        let german = [(CONTENT_LANGUAGE, "de")];
        let mut variants = Variants::default();
        assert_eq!(variants.wanted(&KEY, &request(&of("de"))), None);
        variants.add(stored(&[ACCEPT_LANGUAGE], &of("de, en"), &german), 8);
        for (language, expected, why) in [
            ("de, en", "de, en", "it is there"),
            ("de", "de, en", "the language is wanted most"),
            ("en", "en", "another language is wanted"),
        ] {
            let found = variants.wanted(&KEY, &request(&of(language)));
            assert_eq!(found, Some(own(expected)), "{language}: {why}");
        }
        variants.add(stored(&[ACCEPT_LANGUAGE], &of("de"), &german), 8);
        for language in ["de, en", "de"] {
            let found = variants.wanted(&KEY, &request(&of(language)));
            assert_eq!(found, Some(own(language)), "each has its own by now");
        }
        variants.add(stored(&[], &[], &[]), 8);
        assert_eq!(variants.wanted(&KEY, &request(&of("de"))), Some(KEY), "for all of them");
    }

    #[test]
    fn tags_of_what_the_client_could_decode() {
        let mut variants = Variants::default();
        for (language, response) in [
            ("a", vec![(ETAG, "\"1\"")]),
            ("b", vec![(ETAG, "W/\"2\""), (CONTENT_ENCODING, "gzip")]),
            ("c", vec![]),
        ] {
            let nominated = [ACCEPT_LANGUAGE];
            variants.add(stored(&nominated, &[(ACCEPT_LANGUAGE, language)], &response), 8);
        }
        let tags = |fields: &[(HeaderName, &'static str)]| {
            variants.tagged(&request(fields)).map(|(tag, _)| tag).collect::<Vec<_>>()
        };
        assert_eq!(tags(&[]), ["\"1\""]);
        assert_eq!(tags(&[(ACCEPT_ENCODING, "br, gzip;q=0.1")]), ["W/\"2\"", "\"1\""]);
    }

    #[test]
    fn long_tags_are_not_noted() {
        let long: &'static str = String::leak(format!("\"{}\"", "x".repeat(LONGEST_TAG)));
        let variant = stored(&[ACCEPT], &[], &[(ETAG, long)]);
        assert!(variant.known.tag.is_empty());
    }
}
