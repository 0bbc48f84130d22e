//! The readable name of a stored response: what operators see and match with patterns.
//!
//! Names are for people; responses are told apart by the cache key alone.

/// Ends a name that was too long. A pattern may or may not match what was cut off.
pub const CUT: char = '…';

/// The longest name in octets, [`CUT`] included.
const LONGEST: usize = 512;

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
    let mut path = None;
    let mut others = String::new();
    for (name, value) in parts {
        if name == "path" && path.is_none() {
            path = Some(value.strip_prefix('/').unwrap_or(value));
            continue;
        }
        others.push(if others.is_empty() { '?' } else { '&' });
        if name != "query" {
            others.push_str(name);
            others.push('=');
        }
        others.push_str(value);
    }
    let mut whole = String::with_capacity(path.map_or(0, str::len) + others.len());
    for shown in path.unwrap_or_default().chars().chain(others.chars()) {
        whole.push(if shown.is_control() { char::REPLACEMENT_CHARACTER } else { shown });
    }
    cut_name(whole)
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
    fn long_names_are_cut_at_a_character() {
        let name = readable_name([("path", "\u{20ac}".repeat(200).as_str())]);
        assert!(name.len() <= LONGEST && name.ends_with(CUT), "{name}");
    }
}
