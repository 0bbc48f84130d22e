//! Who may do what only operators may.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Whether a request bears this token (RFC 6750 §2.1). Takes a time that does not depend on where the
/// first difference is.
pub fn bears(fields: &HeaderMap, token: &str) -> bool {
    let Some((scheme, given)) = fields
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    // Hashes of equal length, compared whole by a function that does not stop early.
    scheme.eq_ignore_ascii_case("bearer")
        && blake3::hash(given.trim().as_bytes()) == blake3::hash(token.as_bytes())
}
