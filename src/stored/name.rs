//! The readable name of a stored response: what operators see and match with patterns.
//!
//! Names are for people; responses are told apart by the cache key alone.

/// Ends a name that was too long. A pattern may or may not match what was cut off.
pub const CUT: char = '…';

/// The longest name in octets, [`CUT`] included.
const LONGEST: usize = 512;

/// Most have room in so many octets.
const USUAL: usize = 128;

/// The parts of a key where a route has no key policy.
pub fn default_parts<'a>(
    path: &'a str,
    query: Option<&'a str>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    std::iter::once(("path", path)).chain(query.map(|query| ("query", query)))
}

/// `users/42?page=2`: the first part named `path` without its leading `/`, then `?` and the others as
/// `name=value`, joined with `&`; the value of a part named `query` stands alone. Control characters
/// are replaced; at most 512 octets.
pub fn readable_name<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut whole = String::with_capacity(USUAL);
    let (mut has_path, mut has_others) = (false, false);
    for (name, value) in parts {
        if name == "path" && !has_path {
            // As a rule it comes first.
            whole.insert_str(0, value.strip_prefix('/').unwrap_or(value));
            has_path = true;
            continue;
        }
        whole.push(if has_others { '&' } else { '?' });
        has_others = true;
        if name != "query" {
            whole.push_str(name);
            whole.push('=');
        }
        whole.push_str(value);
    }
    if !is_printable(&whole) {
        let shown = |it: char| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it };
        whole = whole.chars().map(shown).collect();
    }
    cut_name(whole)
}

/// Whether a name is that of a path and a query as they are: most names are. One that is cut or has a character
/// replaced is none.
pub fn is_plain_name(name: &str, path: &str, query: Option<&str>) -> bool {
    let rest = name.strip_prefix(path.strip_prefix('/').unwrap_or(path));
    match query {
        None => rest == Some(""),
        Some(query) => rest.and_then(|rest| rest.strip_prefix('?')) == Some(query),
    }
}

/// Whether it has no control characters for sure: ASCII alone is looked for, many octets at a time.
fn is_printable(text: &str) -> bool {
    text.bytes().fold(true, |all, octet| all & matches!(octet, b' '..=b'~'))
}

/// What is left of a name that was cut off. None: it is whole, though its last character may be that one.
pub fn left_of(name: &str) -> Option<&str> {
    // Where it was cut a character may have had to go.
    name.strip_suffix(CUT)
        .filter(|left| left.len() > LONGEST - CUT.len_utf8() - char::MAX.len_utf8())
}

/// A name as long as names may be.
pub fn cut_name(mut whole: String) -> String {
    if whole.len() > LONGEST {
        whole.truncate(whole.floor_char_boundary(LONGEST - CUT.len_utf8()));
        whole.push(CUT);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_like_a_path_and_a_query() {
        for (parts, expected) in [
            (&[("path", "/users/42")][..], "users/42"),
            (&[("path", "/")], ""),
            (&[("path", "/a"), ("query", "x=1&y")], "a?x=1&y"),
            (&[("query", "x=1"), ("path", "/a"), ("language", "de")], "a?x=1&language=de"),
            (&[("id", "42")], "?id=42"),
            (&[("path", "/a"), ("path", "/b")], "a?path=/b"),
            (&[("path", "/a\n\x1b")], "a\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(readable_name(parts.iter().copied()), expected);
        }
        assert_eq!(readable_name(default_parts("/a", Some(""))), "a?");
    }

    #[test]
    fn a_plain_name_is_the_one_that_would_be_made() {
        let long = format!("/{}", "a".repeat(LONGEST + 1));
        let targets = ["/", "/a", "/a?", "/a?b=1&c", "//a", "*", "/a\x7f", long.as_str()];
        for target in targets {
            let (path, query) =
                target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            let name = readable_name(default_parts(path, query));
            let is_as_it_is = !matches!(target, "/a\x7f") && target.len() <= LONGEST;
            assert_eq!(is_plain_name(&name, path, query), is_as_it_is, "{target}");
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let name = readable_name([("path", "\u{20ac}".repeat(200).as_str())]);
        assert!(name.len() <= LONGEST && name.ends_with(CUT), "{name}");
    }
}
