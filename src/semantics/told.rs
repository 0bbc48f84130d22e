//! What a response says of itself in `Cache-Status` (RFC 9211), read by who has asked this cache for it.

use std::fmt;

use http::HeaderMap;
use sfv::{BareItem, List, ListEntry, Parameters, Parser};

use super::status::{CACHE_STATUS, NAME};

/// This cache's item of a response that it has sent. Displayed it is what the item says, without the
/// cache's name: `fwd=uri-miss; detail=private`.
#[derive(Clone, Debug, PartialEq)]
pub struct Told(Parameters);

impl Told {
    /// The last item, if it is this cache's. RFC 9211 §2: "The first member represents the cache closest
    /// to the origin server, and the last member represents the cache closest to the user".
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let last = fields.get_all(CACHE_STATUS).iter().next_back()?;
        match Parser::new(last.as_bytes()).parse::<List>().ok()?.pop()? {
            ListEntry::Item(item) => {
                let is_own = item.bare_item.as_token().is_some_and(|name| name.as_str() == NAME);
                is_own.then_some(Self(item.params))
            }
            ListEntry::InnerList(_) => None,
        }
    }

    /// It came from the cache.
    pub fn is_hit(&self) -> bool {
        self.is("hit")
    }

    /// The response that was fetched for it is in the cache now. RFC 9211 §2.6: one that is "collapsed" was
    /// answered by another request's, which only a response is that may be stored.
    pub fn is_stored(&self) -> bool {
        self.is("stored") || self.is("collapsed")
    }

    fn is(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value.as_boolean() == Some(true))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("; ")?;
            }
            f.write_str(name.as_str())?;
            match value {
                BareItem::Boolean(true) => {}
                BareItem::Boolean(false) => f.write_str("=?0")?,
                BareItem::Token(value) => write!(f, "={}", value.as_str())?,
                BareItem::String(value) => write!(f, "={:?}", value.as_str())?,
                BareItem::Integer(value) => write!(f, "={value}")?,
                // This cache writes no others.
                _ => f.write_str("=…")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::semantics::{CacheStatus, Forward};

    #[test]
    fn the_last_item_is_read_if_it_is_ours() {
        for (lines, expected) in [
            (&[][..], None),
            (&["other; hit"], None),
            (&["larder; hit; ttl=5", "other; fwd=miss"], None),
            (&["larder; hit, other; fwd=miss"], None),
            (&["\"larder\"; hit"], None),
            (&["larder; hit; ttl"], Some((true, false, "hit; ttl"))),
            (&["larder; hit=1; stored=?0"], Some((false, false, "hit=1; stored=?0"))),
            (&["(larder); hit"], None),
            (&["larder; ="], None),
            (&["larder; hit; ttl=42"], Some((true, false, "hit; ttl=42"))),
            (
                &["other; hit, larder; fwd=uri-miss; stored"],
                Some((false, true, "fwd=uri-miss; stored")),
            ),
            (
                &["other; hit", "larder; fwd=stale; collapsed"],
                Some((false, true, "fwd=stale; collapsed")),
            ),
            (&["larder; fwd=miss; collapsed=?0"], Some((false, false, "fwd=miss; collapsed=?0"))),
            (
                &["larder; fwd=bypass; detail=\"; stored\""],
                Some((false, false, "fwd=bypass; detail=\"; stored\"")),
            ),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(CACHE_STATUS, HeaderValue::from_static(line));
            }
            let told = Told::of(&fields);
            let told = told.map(|told| (told.is_hit(), told.is_stored(), told.to_string()));
            let told = told.as_ref().map(|(hit, stored, text)| (*hit, *stored, text.as_str()));
            assert_eq!(told, expected, "{lines:?}");
        }
    }

    #[test]
    fn what_this_cache_writes_is_read() {
        for status in [
            CacheStatus::hit(-5),
            CacheStatus { stored: true, ..CacheStatus::forward(Forward::UriMiss) },
            CacheStatus { collapsed: Some(false), ..CacheStatus::forward(Forward::Stale) },
            CacheStatus {
                detail: Some("two words".into()),
                ..CacheStatus::forward(Forward::Bypass)
            },
        ] {
            let mut fields = HeaderMap::new();
            status.write_to(&mut fields);
            CacheStatus::add_key(&mut fields, "books/42");
            let told = Told::of(&fields).unwrap();
            assert_eq!((told.is_hit(), told.is_stored()), (status.hit, status.stored));
            assert_eq!(format!("larder; {told}"), format!("{status}; key=\"books/42\""));
        }
    }
}
