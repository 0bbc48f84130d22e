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
    let mut tokens = Vec::new();
    let mut rest = skip_ignored(document);
    while !rest.is_empty() {
        if tokens.len() == MOST_TOKENS {
            return None;
        }
        let (kind, length) = token(rest)?;
        let (text, after) = rest.split_at_checked(length)?;
        tokens.push(Token { kind, text });
        rest = skip_ignored(after);
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

/// §2.1.7: byte order mark, white space, line terminators, comments and commas.
fn skip_ignored(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(['\u{feff}', '\t', ' ', '\n', '\r', ',']);
        let Some(comment) = rest.strip_prefix('#') else { return rest };
        rest = comment.trim_start_matches(|c| c != '\n' && c != '\r');
    }
}

/// What the text begins with, and its length.
fn token(text: &str) -> Option<(Kind, usize)> {
    let first = *text.as_bytes().first()?;
    match first {
        b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|'
        | b'}' => Some((Kind::Punctuator, 1)),
        b'.' => text.starts_with("...").then_some((Kind::Punctuator, 3)),
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => Some((Kind::Name, name(text))),
        b'-' | b'0'..=b'9' => number(text).map(|length| (Kind::Number, length)),
        b'"' => {
            let length = if text.starts_with("\"\"\"") { block(text) } else { string(text) };
            length.map(|length| (Kind::Text, length))
        }
        _ => None,
    }
}

fn name(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// §2.9.1 and §2.9.2. A number is not followed by a name or a point.
fn number(text: &str) -> Option<usize> {
    let mut rest = text.strip_prefix('-').unwrap_or(text);
    rest = match rest.strip_prefix('0') {
        Some(after) => after,
        None => digits(rest)?,
    };
    if let Some(fraction) = rest.strip_prefix('.')
        && !fraction.starts_with('.')
    {
        rest = digits(fraction)?;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        rest = digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))?;
    }
    let goes_on = rest.starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric())
        || rest.starts_with('.') && !rest.starts_with("...");
    (!goes_on).then_some(text.len() - rest.len())
}

/// What follows at least one digit.
fn digits(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

/// §2.9.4: to the next quote that is not escaped, on one line.
fn string(text: &str) -> Option<usize> {
    let mut octets = text.bytes().enumerate().skip(1);
    loop {
        match octets.next()? {
            (at, b'"') => return Some(at + 1),
            (_, b'\\') => {
                let (_, escaped) = octets.next()?;
                if !b"\"\\/bfnrtu".contains(&escaped) {
                    return None;
                }
            }
            (_, b'\t') => {}
            (_, ..b' ') => return None,
            _ => {}
        }
    }
}

/// §2.9.4: to the next three quotes that are not escaped, over any number of lines.
fn block(text: &str) -> Option<usize> {
    let mut at = 3;
    loop {
        let rest = text.get(at..)?;
        let found = rest.find("\"\"\"")?;
        let is_escaped = rest.get(..found)?.ends_with('\\');
        at += found + 3;
        if !is_escaped {
            return Some(at);
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
