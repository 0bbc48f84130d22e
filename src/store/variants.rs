//! Which variants of a response there are (RFC 9111 §4.1): what lies under a cache key whose
//! responses had `Vary`. The variants themselves lie under keys of their own.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use crate::semantics::vary;
use crate::stored::CacheKey;

/// So many different `Vary` fields are remembered under one key; an upstream has one or two.
pub(super) const MAX_LISTS: usize = 4;

/// A response that nominates more fields than this is not stored.
pub(super) const MAX_NOMINATED: usize = 16;

/// So many variants fit under one key, whatever a route says.
pub(super) const MAX_VARIANTS: usize = 1024;

/// The nominated field names that were seen, and the keys of the variants, both with the newest
/// first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Variants {
    /// Each sorted and without repetitions, so that the order in `Vary` does not matter.
    pub(super) lists: Vec<Box<[HeaderName]>>,
    pub(super) keys: Vec<CacheKey>,
}

/// The key of one variant, and the fields that told it from the others.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) key: CacheKey,
    nominated: Box<[HeaderName]>,
}

impl Variant {
    /// The variant under `key` that the request with these `fields` selects. `None` if too many
    /// fields are nominated.
    pub(super) fn of(key: &CacheKey, nominated: &[HeaderName], fields: &HeaderMap) -> Option<Self> {
        let mut nominated: Box<[HeaderName]> = nominated.into();
        nominated.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut nominated = nominated.into_vec();
        nominated.dedup();
        if nominated.len() > MAX_NOMINATED {
            return None;
        }
        Some(Self { key: selected(key, &nominated, fields), nominated: nominated.into() })
    }
}

fn selected(key: &CacheKey, nominated: &[HeaderName], fields: &HeaderMap) -> CacheKey {
    let values = nominated.iter().map(|name| {
        let value: Option<Bytes> = vary::nominated_value(fields, name);
        (name, value)
    });
    key.variant(values)
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
        keys.filter(|key| self.keys.contains(key))
    }

    /// Adds a variant or makes it the newest one. Answers the keys of those that had to go, so
    /// that at most `bound` are left.
    pub(super) fn add(&mut self, variant: Variant, bound: usize) -> Vec<CacheKey> {
        self.lists.retain(|nominated| *nominated != variant.nominated);
        self.lists.insert(0, variant.nominated);
        self.lists.truncate(MAX_LISTS);
        self.keys.retain(|key| *key != variant.key);
        self.keys.insert(0, variant.key);
        self.keys.split_off(self.keys.len().min(bound.clamp(1, MAX_VARIANTS)))
    }

    /// Adds what another gateway knows, as older than what is known here. No more variants are
    /// left than the one or the other had.
    pub(super) fn merge(&mut self, other: &Self) {
        let bound = self.keys.len().max(other.keys.len());
        for nominated in &other.lists {
            if !self.lists.contains(nominated) && self.lists.len() < MAX_LISTS {
                self.lists.push(nominated.clone());
            }
        }
        for key in &other.keys {
            if !self.keys.contains(key) && self.keys.len() < bound {
                self.keys.push(*key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE};

    use super::*;

    const KEY: CacheKey = CacheKey([7; 32]);

    fn request(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, v)| (name.clone(), HeaderValue::from_static(v))).collect()
    }

    fn variant(nominated: &[HeaderName], fields: &HeaderMap) -> Variant {
        Variant::of(&KEY, nominated, fields).unwrap()
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
        let expected = [variant(&[ACCEPT], &french).key, variant(&[ACCEPT_LANGUAGE], &german).key];
        assert!(variants.selected_by(&KEY, &both).eq(expected), "the newest list first");
    }

    #[test]
    fn order_and_repetition_in_vary_do_not_matter() {
        let fields = request(&[(ACCEPT, "a"), (ACCEPT_ENCODING, "br")]);
        let one = variant(&[ACCEPT, ACCEPT_ENCODING], &fields);
        let other = variant(&[ACCEPT_ENCODING, ACCEPT, ACCEPT_ENCODING], &fields);
        assert_eq!(one.key, other.key);
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
        assert_eq!(gone, [variant(&[ACCEPT_LANGUAGE], &of("b")).key]);
        assert_eq!(variants.lists.len(), 1);

        for n in 0..6 {
            let name = HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap();
            variants.add(variant(&[name], &HeaderMap::new()), 3);
        }
        assert_eq!((variants.lists.len(), variants.keys.len()), (MAX_LISTS, 3));
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
            [variant(&[ACCEPT_LANGUAGE], &of("a")).key, variant(&[ACCEPT], &of("c")).key];
        assert_eq!(here.keys, expected);
        assert_eq!(here.lists.len(), 2);
    }

    #[test]
    fn too_many_nominated_fields_are_refused() {
        let names: Vec<_> = (0..=MAX_NOMINATED)
            .map(|n| HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap())
            .collect();
        assert!(Variant::of(&KEY, &names, &HeaderMap::new()).is_none());
    }
}
