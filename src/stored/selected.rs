//! Which variant a request selects (RFC 9111 §4.1), found by its fields as they came: to compare them
//! is much less work than to bring them into the form in which they count, and to hash that.

use std::cell::RefCell;
use std::convert::Infallible;

use http::{HeaderMap, HeaderName};

use super::CacheKey;
use crate::recent::Recent;
use crate::semantics;

thread_local! {
    /// Packing the fields allocates nothing.
    static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };

    static RECENT: RefCell<Recent<CacheKey>> = RefCell::default();
}

impl CacheKey {
    /// The key of the variant that a request with these `fields` selects: this key and what the request
    /// has in the nominated fields.
    #[must_use]
    pub fn selected_by(&self, nominated: &[HeaderName], fields: &HeaderMap) -> Self {
        PACKED.with_borrow_mut(|packed| {
            packed.clear();
            packed.extend_from_slice(&self.0);
            for name in nominated {
                put(packed, name.as_str().as_bytes());
                for line in fields.get_all(name) {
                    put(packed, line.as_bytes());
                }
                // No line has this length.
                packed.extend_from_slice(&u64::MAX.to_le_bytes());
            }
            let value = |name| (name, semantics::nominated_value(fields, name));
            let key = |_| Ok::<_, Infallible>(self.variant(nominated.iter().map(value)));
            let Ok(key) = RECENT.with_borrow_mut(|recent| recent.get_or(packed, key));
            // One extraordinary request must not hold memory for good.
            packed.shrink_to(4096);
            key
        })
    }
}

fn put(packed: &mut Vec<u8>, octets: &[u8]) {
    packed.extend_from_slice(&(octets.len() as u64).to_le_bytes());
    packed.extend_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{ACCEPT, ACCEPT_LANGUAGE, COOKIE};

    use super::*;

    #[test]
    fn each_request_selects_its_own_variant_however_often_it_comes() {
        let requests: [&[(HeaderName, &'static str)]; 8] = [
            &[],
            &[(ACCEPT, "")],
            &[(ACCEPT, "a/b")],
            &[(ACCEPT, "a/b, c/d")],
            &[(ACCEPT, "a/b"), (ACCEPT, "c/d")],
            &[(COOKIE, "a/b")],
            &[(ACCEPT, "a/b"), (COOKIE, "c/d")],
            &[(ACCEPT_LANGUAGE, "de;q=0.5, en")],
        ];
        let nominated: [&[HeaderName]; 4] =
            [&[ACCEPT], &[ACCEPT, COOKIE], &[COOKIE], &[ACCEPT_LANGUAGE]];
        for base in [CacheKey([1; 32]), CacheKey([2; 32])] {
            for (lines, nominated) in
                requests.iter().flat_map(|it| nominated.iter().map(move |names| (it, names)))
            {
                let mut fields = HeaderMap::new();
                for (name, value) in *lines {
                    fields.append(name, HeaderValue::from_static(value));
                }
                let value = |name| (name, semantics::nominated_value(&fields, name));
                let expected = base.variant(nominated.iter().map(value));
                // From the third time on it is found.
                for time in 0..4 {
                    let key = base.selected_by(nominated, &fields);
                    assert_eq!(key, expected, "{lines:?}, {nominated:?}, {time}");
                }
            }
        }
    }
}
