//! Splits a GraphQL document into its tokens (GraphQL specification, October 2021, §2.1).
//!
//! What the specification does not know as a token is not understood, and then neither is the
//! document: a server may be more tolerant, in ways that are not known here.

/// More than any operation has; it bounds what a call needs of memory and time.
const MOST_TOKENS: usize = 20_000;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Punctuator,
    Name,
    Number,
    Text,
}

/// A token, as it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
}

/// The tokens of a document, without white space, commas and comments. None if there is anything
/// else in it.
pub(crate) fn tokens(document: &str) -> Option<Vec<Token<'_>>> {
    // Octet by octet: what is not ASCII stands in texts and comments alone.
    let octets = document.as_bytes();
    let mut tokens = Vec::new();
    let mut at = skip_ignored(octets, 0)?;
    while at < octets.len() {
        if tokens.len() == MOST_TOKENS {
            return None;
        }
        let (kind, end) = token(octets, at)?;
        tokens.push(Token { kind, text: document.get(at..end)? });
        at = skip_ignored(octets, end)?;
    }
    Some(tokens)
}

/// The tokens in one form: two documents have the same form only if they have the same tokens.
pub(crate) fn joined(tokens: &[Token<'_>]) -> String {
    let mut text = String::new();
    let mut before = Kind::Punctuator;
    for token in tokens {
        // `a b` is not `ab`, and `"" "a"` is not `"""a"`. A number before `...` would seem to go on.
        let would_join = before != Kind::Punctuator && token.kind != Kind::Punctuator
            || before == Kind::Number && token.text.starts_with('.');
        if would_join {
            text.push(' ');
        }
        text.push_str(token.text);
        before = token.kind;
    }
    text
}

/// What follows the octets from `at` on that belong to it.
fn past(octets: &[u8], at: usize, belongs: fn(u8) -> bool) -> usize {
    let rest = octets.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|octet| belongs(**octet)).count()
}

/// §2.1.7: byte order mark, white space, line terminators, comments and commas.
fn skip_ignored(octets: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at = past(octets, at, |octet| matches!(octet, b'\t' | b' ' | b'\n' | b'\r' | b','));
        match octets.get(at..) {
            Some([0xef, 0xbb, 0xbf, ..]) => at += 3,
            Some([b'#', ..]) => at = comment(octets, at)?,
            _ => return Some(at),
        }
    }
}

/// §2.1.4: to the end of the line. For some servers a line ends at U+2028 and U+2029, too, and what
/// follows counts: then nobody knows what the document says.
fn comment(octets: &[u8], start: usize) -> Option<usize> {
    let end = past(octets, start, |octet| !matches!(octet, b'\n' | b'\r'));
    let is_separator = |three: &[u8]| matches!(three, [0xe2, 0x80, 0xa8 | 0xa9]);
    let has_separator = octets.get(start..end)?.windows(3).any(is_separator);
    (!has_separator).then_some(end)
}

/// What begins there, and where it ends.
fn token(octets: &[u8], at: usize) -> Option<(Kind, usize)> {
    let rest = octets.get(at..)?;
    match rest.first()? {
        b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|'
        | b'}' => Some((Kind::Punctuator, at + 1)),
        b'.' => rest.starts_with(b"...").then_some((Kind::Punctuator, at + 3)),
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => Some((Kind::Name, past(octets, at, is_name_octet))),
        b'-' | b'0'..=b'9' => Some((Kind::Number, number(octets, at)?)),
        b'"' if rest.starts_with(b"\"\"\"") => Some((Kind::Text, block(octets, at + 3)?)),
        b'"' => Some((Kind::Text, string(octets, at + 1)?)),
        _ => None,
    }
}

/// §2.1.9.
pub(crate) fn is_name_octet(octet: u8) -> bool {
    octet == b'_' || octet.is_ascii_alphanumeric()
}

/// §2.9.1 and §2.9.2. A number is not followed by a name or a point.
fn number(octets: &[u8], start: usize) -> Option<usize> {
    let has = |at: usize, sought: &[u8]| octets.get(at).is_some_and(|it| sought.contains(it));
    let mut at = start + usize::from(has(start, b"-"));
    at = if has(at, b"0") { at + 1 } else { digits(octets, at)? };
    if has(at, b".") && !has(at + 1, b".") {
        at = digits(octets, at + 1)?;
    }
    if has(at, b"eE") {
        at = digits(octets, at + 1 + usize::from(has(at + 1, b"+-")))?;
    }
    let rest = octets.get(at..)?;
    let goes_on = match rest.first() {
        Some(b'.') => !rest.starts_with(b"..."),
        Some(octet) => is_name_octet(*octet),
        None => false,
    };
    (!goes_on).then_some(at)
}

/// What follows at least one digit.
fn digits(octets: &[u8], at: usize) -> Option<usize> {
    let end = past(octets, at, |octet| octet.is_ascii_digit());
    (end > at).then_some(end)
}

/// §2.9.4: to the next quote that is not escaped, on one line.
fn string(octets: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match octets.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                if !b"\"\\/bfnrtu".contains(octets.get(at + 1)?) {
                    return None;
                }
                at += 1;
            }
            b'\t' => {}
            ..b' ' => return None,
            _ => {}
        }
        at += 1;
    }
}

/// §2.9.4: to the next three quotes that are not escaped, over any number of lines.
fn block(octets: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match octets.get(at..)? {
            [b'\\', b'"', b'"', b'"', ..] => at += 4,
            [b'"', b'"', b'"', ..] => return Some(at + 3),
            [] => return None,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(document: &str) -> Option<String> {
        tokens(document).map(|tokens| joined(&tokens))
    }

    #[test]
    fn what_is_ignored_does_not_count() {
        for (document, expected) in [
            ("", ""),
            ("\u{feff}{ a,b }\r\n", "{a b}"),
            ("{\n\ta # the a\n\tb# , { \"\n}", "{a b}"),
            ("{a,,b#", "{a b"),
            ("{a # \u{2027}\u{e4}\u{202a}\n}", "{a}"),
            (
                "query Q ( $a : Int = 1 ) { f ( x : $a ) @include ( if : true ) }",
                "query Q($a:Int=1){f(x:$a)@include(if:true)}",
            ),
            ("{ ... on User { id } ...F }", "{...on User{id}...F}"),
            ("{a(x:[1 -2.50,3e10 0.5E-3 ...])}", "{a(x:[1 -2.50 3e10 0.5E-3 ...])}"),
            (r#"{a(x:"b  # , c",y:"")}"#, r#"{a(x:"b  # , c" y:"")}"#),
            (r#"["" "a"]"#, r#"["" "a"]"#),
            ("{a(x:\"\"\"b\n \\\"\"\" # c\"\"\")}", "{a(x:\"\"\"b\n \\\"\"\" # c\"\"\")}"),
            (r#"{a(x:"\"\\\/\b\f\n\r\tü")}"#, r#"{a(x:"\"\\\/\b\f\n\r\tü")}"#),
        ] {
            assert_eq!(form(document).as_deref(), Some(expected), "{document}");
            assert_eq!(form(expected).as_deref(), Some(expected), "{document}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_understood() {
        for document in [
            "?",
            "{a;b}",
            "a.b",
            "..",
            "....",
            "'a'",
            "ü",
            "\0",
            "\u{a0}",
            "`",
            "{a-b}",
            "-",
            "01",
            "1.",
            "1.e3",
            "1e",
            "1a",
            "1_",
            "1.5.2",
            "0x1F",
            "-a",
            "\"",
            "\"a",
            "\"a\n\"",
            "\"\\x\"",
            "\"\\\"",
            "\"\"\"",
            "\"\"\"a\"\"",
            "\"\"\"a\\\"\"\"",
            "\"\u{0}\"",
            "+1",
            "a % b",
            "{a #\u{2028} b\n}",
            "{a #\u{2029} b\n}",
            "#\u{2028} mutation\n{a}",
            "{a} # b\u{2029}",
        ] {
            assert_eq!(form(document), None, "{document}");
        }
    }

    #[test]
    fn different_tokens_have_different_forms() {
        let documents = [
            "a b",
            "ab",
            "a \"b\"",
            "\"a\" b",
            "\"a b\"",
            "1 2",
            "12",
            "1 -2",
            "\"\" \"\"",
            "\"\"\"\"\"\"",
            "a...b",
            "a ..b",
            "a:b",
            "a 1",
            "a1",
            "{a}",
            "{a b}",
            "1 ...",
            "$a",
            "$ a b",
        ];
        let mut forms: Vec<_> = documents.iter().filter_map(|document| form(document)).collect();
        let count = forms.len();
        forms.sort();
        forms.dedup();
        assert_eq!(forms.len(), count);
        assert_eq!(count, documents.len() - 1, "all but `a ..b`");
    }

    #[test]
    fn the_number_of_tokens_has_a_bound() {
        assert!(form(&"{".repeat(MOST_TOKENS)).is_some());
        assert_eq!(form(&"{".repeat(MOST_TOKENS + 1)), None);
        assert!(form(&",".repeat(1 << 20)).is_some());
    }
}
