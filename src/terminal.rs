//! Texts that others have chosen, such as a path, for whoever reads them on a terminal.

use std::fmt::Write as _;

/// Whether a character does something instead of being shown: ends a line, begins an escape sequence (ECMA-48, with
/// those of U+0080 to U+009F), or makes the rest of the line read backwards (Unicode Standard Annex #9).
pub fn controls(shown: char) -> bool {
    shown.is_control()
        || matches!(shown, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text in one line, with a space for each character that does something.
pub fn plain(text: &str) -> String {
    text.chars().map(|shown| if controls(shown) { ' ' } else { shown }).collect()
}

/// The same JSON, with such characters escaped. Outside of strings it has none but white space, and those below U+0020
/// are escaped in strings (RFC 8259 §7).
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for shown in text.chars() {
        if !controls(shown) || matches!(shown, '\n' | '\r' | '\t') {
            out.push(shown);
        } else {
            // Writing to a string cannot fail; none of them is beyond 16 bits.
            let _written = write!(out, "\\u{:04x}", u32::from(shown));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_not_shown() {
        assert_eq!(plain("a\u{1b}[2J\u{9b}b\u{202e}\n\u{e9}"), "a [2J b  \u{e9}");
        let told = json!({ "a\u{9b}": ["\u{202e}\u{1b}\u{7f}", "caf\u{e9} \u{1f600}\n"] });
        for text in [told.to_string(), serde_json::to_string_pretty(&told).unwrap()] {
            let shown = json(&text);
            assert!(!shown.chars().any(|it| controls(it) && it != '\n'), "{shown}");
            assert!(shown.contains("caf\u{e9} \u{1f600}"));
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), told);
        }
    }
}
