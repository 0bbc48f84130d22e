//! Who may do what only operators may.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

/// Whether a request bears this token (RFC 6750 §2.1). Takes a time that does not depend on where the
/// first difference is.
pub fn bears(fields: &HeaderMap, token: &str) -> bool {
    fields.get(AUTHORIZATION).is_some_and(|value| is_bearer(value, token))
}

/// Whether a value is this token, in the same form.
pub(super) fn is_bearer(value: &HeaderValue, token: &str) -> bool {
    let Some((scheme, given)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return false;
    };
    // Hashes of equal length, compared whole by a function that does not stop early.
    scheme.eq_ignore_ascii_case("bearer")
        && blake3::hash(given.trim().as_bytes()) == blake3::hash(token.as_bytes())
}
