//! `Vary` and the request fields that it nominates (RFC 9111 §4.1).
//!
//! How a key is made of their values is others' work.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, COOKIE, FORWARDED, HeaderMap, HeaderName, VARY,
};

use super::negotiation;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How many fields a response may nominate. Nobody means more.
const MOST_NOMINATED: usize = 16;

/// What the selection of a response depended on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// On things beyond the request's fields (`*`): it matches no other request. So does a `Vary`
    /// that cannot be read, or nominates more than 16 fields.
    Any,
    /// On these request fields, sorted by name, each once. Empty where there is no `Vary`.
    Fields(Vec<HeaderName>),
}

impl Vary {
    /// Whether it nominates fields in which the gateway itself says where a client comes from (RFC 7239), whatever
    /// the client says in them.
    pub fn nominates_client(&self) -> bool {
        let is_of_client = |name: &HeaderName| *name == FORWARDED || *name == X_FORWARDED_FOR;
        matches!(self, Self::Fields(names) if names.iter().any(is_of_client))
    }

    /// As [`Vary::of`], and `Accept-Encoding` if the response is in a coding: a server that chose one by that field has
    /// to say so (RFC 9110 §12.5.5), and many do not. Who cannot decode it would get it.
    pub fn nominated_by(fields: &HeaderMap) -> Self {
        let vary = Self::of(fields);
        let is_coded = fields.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity");
        match vary {
            Self::Fields(mut names) if is_coded => {
                let place = names.binary_search_by(|name| name.as_str().cmp("accept-encoding"));
                if let Err(place) = place {
                    names.insert(place, ACCEPT_ENCODING);
                }
                Self::Fields(names)
            }
            _ => vary,
        }
    }

    /// Reads all lines.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut names = Vec::new();
        let lines = fields.get_all(VARY).iter();
        let members = lines.flat_map(|line| line.as_bytes().split(|&octet| octet == b','));
        for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
            // `*` is a token and would pass for a field name.
            match HeaderName::from_bytes(member) {
                Ok(name) if name != "*" && names.len() < MOST_NOMINATED => names.push(name),
                _ => return Self::Any,
            }
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Self::Fields(names)
    }
}

/// What a request has in a nominated field, such that equal values are certain to select the same
/// response; none where it does not have the field.
///
/// Lines are joined. Of `Accept`, `Accept-Charset`, `Accept-Encoding` and `Accept-Language` the
/// canonical form is compared ([`negotiation`]), unless they cannot be read; everything else as it
/// came.
pub fn nominated_value(request: &HeaderMap, name: &HeaderName) -> Option<Bytes> {
    let joined = joined(request, name)?;
    Some(negotiation::canonical(name, &joined).unwrap_or(joined).into())
}

/// All lines of a field as one; none where there is no line.
pub(super) fn joined(fields: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut lines = fields.get_all(name).iter();
    let mut joined = lines.next()?.as_bytes().to_vec();
    // RFC 9113 §8.2.3: HTTP/2 may split a cookie field at its semicolons.
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b", " };
    for line in lines {
        joined.extend_from_slice(separator);
        joined.extend_from_slice(line.as_bytes());
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::ACCEPT;
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    #[test]
    fn nominated_fields() {
        for (lines, expected, why) in [
            (vec![], Some(vec![]), "no Vary"),
            (vec![""], Some(vec![]), "an empty list"),
            (vec!["Accept-Encoding"], Some(vec!["accept-encoding"]), "lower case"),
            (vec!["cookie, accept"], Some(vec!["accept", "cookie"]), "sorted"),
            (vec!["cookie", "accept"], Some(vec!["accept", "cookie"]), "several lines"),
            (vec!["Accept,, accept ,"], Some(vec!["accept"]), "each once, no empty members"),
            (vec!["*"], None, "always fails to match"),
            (vec!["accept, *"], None, "a list with a member `*`"),
            (vec!["accept", "*"], None, "`*` in another line"),
            (vec!["accept encoding"], None, "not a field name: the safe side"),
            (vec!["\"accept\""], None, "not a field name: the safe side"),
        ] {
            let lines = lines.iter().map(|line| ("vary", *line)).collect::<Vec<_>>();
            let expected = expected.map_or(Vary::Any, |names| {
                Vary::Fields(names.into_iter().map(HeaderName::from_static).collect())
            });
            assert_eq!(Vary::of(&fields(&lines)), expected, "{lines:?}: {why}");
        }
        let many = (0..=MOST_NOMINATED).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(Vary::of(&fields(&[("vary", &many)])), Vary::Any, "bounded");
    }

    #[test]
    fn a_response_in_a_coding_depends_on_what_its_client_can_decode() {
        for (vary, coding, expected, why) in [
            ("cookie, accept", "gzip", "accept, accept-encoding, cookie", "it is among them"),
            ("", "br", "accept-encoding", "it is the only one"),
            ("accept-encoding", "gzip", "accept-encoding", "it says so"),
            ("accept", "identity", "accept", "no coding"),
            ("accept", "", "accept, accept-encoding", "who knows which"),
        ] {
            let response = fields(&[("vary", vary), ("content-encoding", coding)]);
            let expected = Vary::of(&fields(&[("vary", expected)]));
            assert_eq!(Vary::nominated_by(&response), expected, "{why}");
        }
        assert_eq!(
            Vary::nominated_by(&fields(&[("vary", "cookie")])),
            Vary::of(&fields(&[("vary", "cookie")]))
        );
        let any = fields(&[("vary", "*"), ("content-encoding", "gzip")]);
        assert_eq!(Vary::nominated_by(&any), Vary::Any);
    }

    #[test]
    fn values() {
        for (name, lines, expected, why) in [
            ("accept-encoding", vec![], None, "absent"),
            ("accept-encoding", vec![""], Some(""), "empty is not absent (RFC 9110 §12.5.3)"),
            ("accept-encoding", vec!["gzip;q=0.5 , ,BR"], Some("br,gzip;q=0.5"), "canonical"),
            ("accept-encoding", vec!["gzip", "br"], Some("br,gzip"), "several lines are one list"),
            (
                "accept-encoding",
                vec!["gzip;q=2,  br"],
                Some("gzip;q=2,  br"),
                "garbage: as it came",
            ),
            ("accept", vec!["a/b;c=\"d", "e\""], Some("a/b;c=\"d, e\""), "joined, then read"),
            ("user-agent", vec!["a,  b"], Some("a,  b"), "no list: as it came"),
            ("x-a", vec!["a", "b"], Some("a, b"), "all lines, combined"),
            ("cookie", vec!["a=b", "c=d"], Some("a=b; c=d"), "split by HTTP/2"),
        ] {
            let name = HeaderName::from_static(name);
            let request = lines.iter().map(|line| (name.as_str(), *line)).collect::<Vec<_>>();
            let found = nominated_value(&fields(&request), &name);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{request:?}: {why}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                Vary::of(&HeaderMap::from_iter([(VARY, line.clone())]));
                let request = HeaderMap::from_iter([(ACCEPT, line)]);
                prop_assert!(nominated_value(&request, &ACCEPT).is_some());
            }
        }
    }
}
