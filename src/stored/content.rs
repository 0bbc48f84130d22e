//! Keys of requests that ask by their content (RFC 10008 §2.7).

use bytes::Bytes;
use http::{HeaderName, Method};

use super::CacheKey;

impl CacheKey {
    /// The key of a request by this method, with this content: this key, which holds all else, and
    /// what the request's fields say of the content. `None` is a field that it does not have.
    #[must_use]
    pub fn with_content<'a>(
        &self,
        method: &Method,
        metadata: impl IntoIterator<Item = (&'a HeaderName, Option<Bytes>)>,
        content: &[u8],
    ) -> Self {
        // A context of its own: nothing that is hashed for a variant comes to the same.
        let mut hasher = blake3::Hasher::new_derive_key("larder: key of a request with content");
        hasher.update(&self.0);
        let mut write = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        write(method.as_str().as_bytes());
        for (name, value) in metadata {
            write(name.as_str().as_bytes());
            // One more octet in what there is, so that an empty value is not an absent one.
            write(&value.map_or_else(Vec::new, |value| [b"=", value.as_ref()].concat()));
        }
        write(content);
        Self(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_content_has_a_key_of_its_own() {
        let base = CacheKey::new("larder", "all", "example.com", []);
        let name = HeaderName::from_static("content-type");
        let key = |method: &Method, value: Option<&'static str>, content: &str| {
            let value = value.map(|value| Bytes::from_static(value.as_bytes()));
            base.with_content(method, [(&name, value)], content.as_bytes())
        };
        let keys = [
            base,
            base.variant([(&name, Some(Bytes::from_static(b"a/b")))]),
            key(&Method::QUERY, Some("a/b"), "x"),
            key(&Method::QUERY, Some("a/b"), "y"),
            key(&Method::QUERY, Some("a/b"), ""),
            key(&Method::QUERY, Some("a/bx"), ""),
            key(&Method::QUERY, Some(""), "x"),
            key(&Method::QUERY, None, "x"),
            key(&Method::GET, Some("a/b"), "x"),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(one), "{at}");
        }
        assert_eq!(key(&Method::QUERY, Some("a/b"), "x"), keys[2]);
    }
}
