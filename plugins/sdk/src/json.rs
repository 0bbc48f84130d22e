//! Strings in JSON, which is how claims and values come.

use std::borrow::Cow;

/// The text of a JSON string (RFC 8259 §7), without quotes and escapes. `None` if `json` is any
/// other value, or if the string has one half of a surrogate pair, which is no text.
pub fn text(json: &str) -> Option<Cow<'_, str>> {
    let quoted = json.strip_prefix('"')?.strip_suffix('"')?;
    let mut pieces = quoted.split('\\');
    let plain = pieces.next().filter(|piece| !piece.contains('"'))?;
    if plain.len() == quoted.len() {
        return Some(Cow::Borrowed(plain));
    }
    let mut text = String::with_capacity(quoted.len());
    text.push_str(plain);
    let mut rest = quoted.get(plain.len()..)?;
    while let Some(escaped) = rest.strip_prefix('\\') {
        let (character, after) = unescaped(escaped)?;
        text.push(character);
        let (plain, _) = after.split_at(after.find('\\').unwrap_or(after.len()));
        text.push_str(Some(plain).filter(|plain| !plain.contains('"'))?);
        rest = after.get(plain.len()..)?;
    }
    Some(Cow::Owned(text))
}

/// The character that an escape stands for, and what follows it.
fn unescaped(escaped: &str) -> Option<(char, &str)> {
    let mut characters = escaped.chars();
    let character = match characters.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return unicode(characters.as_str()),
        same @ ('"' | '\\' | '/') => same,
        _ => return None,
    };
    Some((character, characters.as_str()))
}

/// Four digits; or four, and an escape of four more, where they are a pair of surrogates.
fn unicode(digits: &str) -> Option<(char, &str)> {
    let (first, rest) = four(digits)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, rest));
    }
    let (second, rest) = four(rest.strip_prefix("\\u")?)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, rest))
}

fn four(digits: &str) -> Option<(u16, &str)> {
    let (four, rest) = digits.split_at_checked(4)?;
    // `from_str_radix` would take a sign.
    let is_hex = four.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u16::from_str_radix(four, 16).ok().filter(|_| is_hex)?;
    Some((number, rest))
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
