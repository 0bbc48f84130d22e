//! Texts made of texts, in few octets: `format!` adds some two thousand to a plugin.

/// Texts one after the other.
///
/// ```
/// assert_eq!(larder_policy::concat(&["user:", "42"]), "user:42");
/// ```
pub fn concat(pieces: &[&str]) -> String {
    let mut text = String::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        text.push_str(piece);
    }
    text
}
