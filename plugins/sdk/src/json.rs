//! Strings in JSON, which is how claims and values come.

use std::borrow::Cow;

/// The text of a JSON string (RFC 8259 §7), without quotes and escapes. `None` if `json` is any
/// other value, or if the string has one half of a surrogate pair, which is no text.
pub fn text(json: &str) -> Option<Cow<'_, str>> {
    let [b'"', .., b'"'] = json.as_bytes() else { return None };
    let mut rest = json.get(1..json.len() - 1)?;
    let mut text = String::new();
    loop {
        let special = rest.bytes().position(|octet| matches!(octet, b'"' | b'\\'));
        let Some(at) = special else { break };
        if rest.as_bytes().get(at) == Some(&b'"') {
            return None;
        }
        text.push_str(rest.get(..at)?);
        let (character, length) = unescaped(rest.as_bytes().get(at + 1..)?)?;
        text.push(character);
        rest = rest.get(at + 1 + length..)?;
    }
    if rest.len() == json.len() - 2 {
        return Some(Cow::Borrowed(rest));
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// The character that an escape stands for, and how many octets it takes after the `\`.
fn unescaped(escape: &[u8]) -> Option<(char, usize)> {
    let character = match escape.first()? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(escape),
        same @ (b'"' | b'\\' | b'/') => char::from(*same),
        _ => return None,
    };
    Some((character, 1))
}

/// Four digits after a `u`; or four, and an escape of four more, where they are a pair of surrogates.
fn unicode(escape: &[u8]) -> Option<(char, usize)> {
    let first = four(escape.get(1..5)?)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 5));
    }
    let [b'\\', b'u', second @ ..] = escape.get(5..11)? else { return None };
    let second = four(second)?;
    let is_pair = first < 0xdc00 && (0xdc00..0xe000).contains(&second);
    let code = 0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
    char::from_u32(code).filter(|_| is_pair).map(|character| (character, 11))
}

/// `from_str_radix` would take a sign.
fn four(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strings_have_a_text() {
        for (json, expected) in [
            (r#""""#, Some("")),
            (r#""plain""#, Some("plain")),
            (r#""grün""#, Some("grün")),
            (r#""a\"b\\c\/d""#, Some("a\"b\\c/d")),
            (r#""\b\f\n\r\t""#, Some("\u{8}\u{c}\n\r\t")),
            (r#""\u0041\u00fC""#, Some("Aü")),
            (r#""\u0022""#, Some("\"")),
            (r#""\ud83d\ude00!""#, Some("😀!")),
            (r#""\\u0041""#, Some("\\u0041")),
            (r#""\ud83d""#, None),
            (r#""\ude00\ud83d""#, None),
            (r#""\ud83d\u0041""#, None),
            (r#""\u+041""#, None),
            (r#""\u004""#, None),
            (r#""\x""#, None),
            (r#""\""#, None),
            (r#""a","b""#, None),
            (r#""\n","b""#, None),
            ("\"", None),
            ("1", None),
            ("null", None),
            (r#"["a"]"#, None),
            ("", None),
        ] {
            assert_eq!(text(json).as_deref(), expected, "{json}");
        }
    }
}
