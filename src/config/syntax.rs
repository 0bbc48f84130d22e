//! How it is told that a text is no TOML.
//!
//! The parser goes on after a fault, so that one run tells all of them. Only within a `[` or `{` that is not
//! closed does it take every line of the rest for a part of that.

use toml::de::Error;

use super::source::Source;

/// What it says where one element or key ends, and no other begins.
const NEXT: [&str; 4] = [
    "missing comma between array elements",
    "missing comma between key-value pairs",
    "missing key for inline table element",
    "unexpected `=` in array",
];

/// What it says at the end of a text in which something is not closed.
const OPEN: [&str; 2] = ["unclosed array,", "unclosed inline table"];

/// Reports what is wrong with a text that begins there.
pub(super) fn report(mut errors: Vec<Error>, start: usize, source: &Source<'_>) {
    const UNREAD: &str =
        "put a comma before it, or close the `[` or `{` that it is in; what follows was not read";

    errors.sort_by_key(|error| error.span().map(|span| span.start));
    let begins = |error: &Error, any: &[&str]| any.iter().any(|it| error.message().starts_with(it));
    let is_open = errors.iter().any(|error| begins(error, &OPEN));
    let mut told = Vec::new();
    for error in errors {
        let place = error.span().map(|span| source.place(start + span.start));
        let is_last = is_open && begins(&error, &NEXT);
        let message = error.message();
        let message = message.strip_suffix(", expected nothing").unwrap_or(message);
        let hint = if is_last { Some(UNREAD) } else { hint(message) };
        // Once is enough.
        let hint = hint.filter(|hint| !told.contains(hint));
        told.extend(hint);
        source.report(place, format!("not TOML: {message}"), hint.map(str::to_owned));
        if is_last {
            break;
        }
    }
}

/// What the parser does not say. The text itself is not shown: it may be a secret without quotes.
fn hint(message: &str) -> Option<&'static str> {
    match message {
        "duplicate key" => {
            Some("each key and each `[table]` stands once; `[[routes]]` may be repeated")
        }
        _ if message.contains(" key") => None,
        _ if message.contains("quoted") || message.starts_with("invalid ") => {
            Some("a string stands in quotes, and so do addresses, durations and sizes")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    fn told(text: &str) -> Vec<String> {
        let env = |_: &str| None;
        let source = Source::new("a.toml", text, &env);
        let (_, errors) = DeTable::parse_recoverable(text);
        report(errors, 0, &source);
        source.into_faults().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_follows_something_that_is_not_closed_is_told_once() {
        const STRING: &str =
            "\n  hint: a string stands in quotes, and so do addresses, durations and sizes";
        const UNREAD: &str = "\n  hint: put a comma before it, or close the `[` or `{` that it is in; what \
                              follows was not read";
        let rest = "\n[[routes]]\nname = \"a\"\npath = \"/{*rest}\"\n\n[admin]\nlisten = \"a\"\n";
        let comma = "not TOML: missing comma between array elements, expected `,`";
        assert_eq!(told(&format!("a = [\"b\"{rest}")), [format!("a.toml:2:1: {comma}{UNREAD}")]);
        assert_eq!(
            told(&format!("a = [\"b]{rest}")),
            [
                format!("a.toml:1:9: not TOML: invalid basic string, expected `\"`{STRING}"),
                format!("a.toml:2:1: {comma}{UNREAD}"),
            ]
        );
        let key = "not TOML: missing key for inline table element, expected `,`";
        assert_eq!(told(&format!("a = {{ b = 1{rest}")), [format!("a.toml:2:1: {key}{UNREAD}")]);
        // What is closed says nothing of the rest.
        let all = told(&format!("a = [\"b\" \"c\"]\nd = x\ne = y{rest}"));
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].starts_with(&format!("a.toml:1:10: {comma}")), "{all:?}");
        assert!(all[1].ends_with(STRING) && !all[2].contains("hint"), "{all:?}");
    }

    #[test]
    fn keys_need_no_quotes() {
        for text in ["a b = 1\n", "$a = 1\n", "a.$ = 1\n", "ä = 1\n"] {
            let told = told(text);
            assert!(!told.is_empty() && !told.concat().contains("in quotes"), "{told:?}");
        }
    }
}
