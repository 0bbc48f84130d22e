//! Patterns with `*`, as operators write them for names.

/// Patterns, any of which may match.
#[derive(Clone, Debug, PartialEq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// The first pattern that matches `text`.
    pub fn find(&self, text: &str) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|pattern| matches(pattern, text))
    }

    /// Whether any pattern matches `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.find(text).is_some()
    }

    /// The patterns as they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl From<Vec<String>> for Patterns {
    fn from(patterns: Vec<String>) -> Self {
        Self(patterns)
    }
}

crate::prepared!(Patterns { 0 });

/// Whether `pattern` matches the whole of `text`: `*` stands for any run of characters, none
/// included, and the rest for itself, case included.
pub fn matches(pattern: &str, text: &str) -> bool {
    // Octet by octet, which is right for UTF-8 and much less code than a search for text.
    let mut pieces = pattern.as_bytes().split(|octet| *octet == b'*');
    let (start, mut piece) = (pieces.next().unwrap_or_default(), pieces.next());
    let Some(mut text) = text.as_bytes().strip_prefix(start) else { return false };
    if piece.is_none() {
        return text.is_empty();
    }
    while let Some(sought) = piece {
        piece = pieces.next();
        if piece.is_none() {
            return text.ends_with(sought);
        }
        // Between two stars the first occurrence is as good as any later one.
        while !text.starts_with(sought) {
            let Some((_, rest)) = text.split_first() else { return false };
            text = rest;
        }
        text = text.get(sought.len()..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, expected) in [
            ("fbclid", "fbclid", true),
            ("fbclid", "FBCLID", false),
            ("fbclid", "fbclid2", false),
            ("utm_*", "utm_source", true),
            ("utm_*", "utm_", true),
            ("utm_*", "utm", false),
            ("*_id", "user_id", true),
            ("*_id", "_id_", false),
            ("*", "", true),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("*b*", "abc", true),
            ("*bc*bc", "bc", false),
            ("a**c", "abc", true),
            ("ü*", "über", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "`{pattern}` and `{text}`");
        }
    }
}
