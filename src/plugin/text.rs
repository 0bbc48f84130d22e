//! Texts between HTTP messages, plugins and people.
//!
//! The contract shows each octet of a message as the character with that number, U+0000 to U+00FF.

use std::borrow::Cow;

use crate::terminal;

/// The octets of a message as a plugin sees them.
pub(super) fn from_octets(octets: &[u8]) -> String {
    match str::from_utf8(octets) {
        Ok(ascii) if octets.is_ascii() => ascii.to_owned(),
        _ => octets.iter().copied().map(char::from).collect(),
    }
}

/// What a plugin answered, with UTF-8 of a message put together again: a tag that it took from a
/// field, or a path, then reads as everyone else reads it. All other text stays as it is.
pub(super) fn rejoined(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let octets: Option<Vec<u8>> = text.chars().map(|shown| u8::try_from(shown).ok()).collect();
    octets.and_then(|octets| String::from_utf8(octets).ok()).map_or(text.into(), Cow::Owned)
}

/// The beginning of a text, at most so many octets of it.
pub(super) fn cut(text: &str, octets: usize) -> &str {
    text.get(..text.floor_char_boundary(octets)).unwrap_or_default()
}

/// A plugin's text for a log or a terminal: on one line, cut, without characters that control either.
pub(super) fn printable(text: &str, octets: usize) -> String {
    terminal::plain(cut(text, octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_become_characters_and_back() {
        for (octets, shown, rejoined_as) in [
            (&b"plain"[..], "plain", "plain"),
            ("gr\u{fc}n".as_bytes(), "gr\u{c3}\u{bc}n", "gr\u{fc}n"),
            (b"\xff\x00", "\u{ff}\0", "\u{ff}\0"),
        ] {
            assert_eq!(from_octets(octets), shown);
            assert_eq!(rejoined(shown), rejoined_as);
        }
        assert_eq!(rejoined("\u{20ac}"), "\u{20ac}", "no octet, so it came from the plugin itself");
    }

    #[test]
    fn printable_text_has_one_line_and_whole_characters() {
        assert_eq!(printable("a\nb\x1b[31m", 100), "a b [31m");
        assert_eq!(printable("a\u{9b}b\u{2028}c\u{202e}d\u{2066}\u{e9}", 100), "a b c d \u{e9}");
        assert_eq!(printable("a\u{20ac}", 3), "a");
    }
}
