//! Path patterns: `/users/{id}`, `/images/{name}.png`, `/files/{*rest}`.
//!
//! Which pattern wins, and which two cannot stand side by side, is `routes`' work.

use crate::target::has_dot_segments;

use super::fault::Wrong;

/// A pattern has at most this many octets.
const LONGEST: usize = 1024;

/// One piece of a pattern, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Matches itself, octet for octet.
    Text(&'a str),
    /// `{name}`: within one segment, at least one octet.
    Capture(&'a str),
    /// `{*name}`: all that is left, the last segment of a pattern.
    Rest(&'a str),
}

/// The pieces of a pattern.
pub(crate) fn pieces(path: &str) -> Result<Vec<Piece<'_>>, Wrong> {
    check_characters(path)?;
    let mut pieces = Vec::new();
    let mut names = Vec::new();
    let mut rest = path;
    while let Some(open) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(open);
        let Some((inner, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}'))
        else {
            return Err(Wrong::new("has a brace without its other one")
                .with_hint("write `{name}` for one segment, `{*name}` for the rest of the path"));
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let (name, piece) = match inner.strip_prefix('*') {
            Some(name) => (name, Piece::Rest(name)),
            None => (inner, Piece::Capture(inner)),
        };
        check_name(name)?;
        if names.contains(&name) {
            return Err(Wrong::new(format!("captures `{name}` twice"))
                .with_hint("give each capture a name of its own"));
        }
        let shares_segment = !names.is_empty() && !before.contains('/');
        if shares_segment {
            return Err(Wrong::new("has two captures in one segment")
                .with_hint("capture the segment as a whole"));
        }
        if matches!(piece, Piece::Rest(_)) && !(before.ends_with('/') && after.is_empty()) {
            return Err(Wrong::new(format!(
                "has `{{*{name}}}` elsewhere than as its last segment"
            ))
            .with_hint(format!("end the path with `/{{*{name}}}`")));
        }
        names.push(name);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// The pieces of the path that a route matches.
pub(super) fn of_route(path: &str) -> Result<Vec<Piece<'_>>, Wrong> {
    let pieces = pieces(path)?;
    // As other routers name a segment. A `:` elsewhere, as in `/jobs/{id}:cancel`, is a part of the path.
    let mut names = path.split('/').filter_map(|segment| segment.strip_prefix(':'));
    if let Some(name) = names.find(|name| check_name(name).is_ok()) {
        return Err(Wrong::new(format!("has the segment `:{name}`, which captures nothing"))
            .with_hint(format!("write `{{{name}}}`")));
    }
    Ok(pieces)
}

fn check_characters(path: &str) -> Result<(), Wrong> {
    if !path.starts_with('/') {
        let hint = if path.starts_with('^') {
            "a path is no regular expression: write `{name}` for one segment, `{*rest}` for the rest of the path"
                .to_owned()
        } else if path.contains("://") {
            "write the path alone, and the name of the server as `host`".to_owned()
        } else {
            format!("write \"/{path}\"")
        };
        return Err(Wrong::new("does not begin with `/`").with_hint(hint));
    }
    if path.len() > LONGEST {
        return Err(Wrong::new(format!("is longer than {LONGEST} octets")));
    }
    if let Some(found) = path.chars().find(|c| *c == '?' || *c == '#') {
        return Err(Wrong::new(format!("holds `{found}`, which no path does"))
            .with_hint("a route matches the path alone; the query is the key policy's matter"));
    }
    // These three no parser of targets takes, `"` and the others it does.
    if path.chars().any(|c| !c.is_ascii_graphic() || matches!(c, '<' | '>' | '`')) {
        return Err(Wrong::new("holds characters that no path has as it is sent")
            .with_hint("write them percent-encoded, as in `%20`"));
    }
    if has_dot_segments(path) {
        return Err(Wrong::new("has a segment that is `.` or `..`")
            .with_hint("leave it out: what is asked for with such segments is refused"));
    }
    let star = path.split('/').find(|segment| matches!(*segment, "*" | "**"));
    if let Some(star) = star {
        return Err(Wrong::new(format!("has the segment `{star}`"))
            .with_hint("write `{name}` for one segment, `{*rest}` for the rest of the path"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Wrong> {
    let is_name = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name {
        return Ok(());
    }
    Err(Wrong::new("has a capture without a proper name")
        .with_hint("write letters, digits and `_` between the braces, a letter first, at most 64"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_have_pieces() {
        use Piece::{Capture, Rest, Text};
        for (path, expected) in [
            ("/", vec![Text("/")]),
            ("/users", vec![Text("/users")]),
            ("/users/{id}", vec![Text("/users/"), Capture("id")]),
            ("/a/{x}.png/{y}", vec![Text("/a/"), Capture("x"), Text(".png/"), Capture("y")]),
            ("/a:b/:/c", vec![Text("/a:b/:/c")]),
            ("/v1/:sync", vec![Text("/v1/:sync")]),
            ("/files/{*rest}", vec![Text("/files/"), Rest("rest")]),
            ("/.well-known/..{x}", vec![Text("/.well-known/.."), Capture("x")]),
        ] {
            assert_eq!(pieces(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn faulty_patterns_are_told_apart() {
        for (path, complaint) in [
            ("", "does not begin with `/`"),
            ("users", "does not begin with `/`"),
            ("http://host/users", "does not begin with `/`"),
            ("/a?b", "holds `?`, which no path does"),
            ("/a#b", "holds `#`, which no path does"),
            ("/a b", "holds characters that no path has as it is sent"),
            ("/é", "holds characters that no path has as it is sent"),
            ("/a<b", "holds characters that no path has as it is sent"),
            ("/a>b", "holds characters that no path has as it is sent"),
            ("/a`b", "holds characters that no path has as it is sent"),
            ("/a/*", "has the segment `*`"),
            ("^/a/.*$", "does not begin with `/`"),
            ("/a/../b", "has a segment that is `.` or `..`"),
            ("/%2e%2E/{x}", "has a segment that is `.` or `..`"),
            ("/{x}/.", "has a segment that is `.` or `..`"),
            ("/a/{id", "has a brace without its other one"),
            ("/a/id}", "has a brace without its other one"),
            ("/a/{}", "has a capture without a proper name"),
            ("/a/{1}", "has a capture without a proper name"),
            ("/a/{{x}}", "has a capture without a proper name"),
            ("/{x}/{x}", "captures `x` twice"),
            ("/{x}-{y}", "has two captures in one segment"),
            ("/{*x}/y", "has `{*x}` elsewhere than as its last segment"),
            ("/a{*x}", "has `{*x}` elsewhere than as its last segment"),
        ] {
            assert_eq!(pieces(path).unwrap_err().complaint, complaint, "{path}");
        }
        assert!(pieces(&format!("/{}", "a".repeat(LONGEST))).is_err());
        let hint = |path| pieces(path).unwrap_err().hint.unwrap();
        assert!(hint("^/a/.*$").starts_with("a path is no regular expression: "));
    }

    #[test]
    fn route_does_not_name_a_segment_as_other_routers_do() {
        let wrong = of_route("/a/:id/b").unwrap_err();
        assert_eq!(wrong.complaint, "has the segment `:id`, which captures nothing");
        assert_eq!(wrong.hint.unwrap(), "write `{id}`");
        for path in ["/a/{id}:cancel", "/a:b/:/c", "/a/:1"] {
            assert!(of_route(path).is_ok(), "{path}");
        }
        assert_eq!(of_route("/{x").unwrap_err().complaint, "has a brace without its other one");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(path in "(/|/[a-z{}*./]{0,12}|.*)") {
            if let Ok(pieces) = pieces(&path) {
                prop_assert!(matches!(pieces.first(), Some(Piece::Text(text)) if text.starts_with('/')));
            }
        }
    }
}
