//! What the answers of several policies come to: one key, one readable name.

use super::CacheKey;
use super::name::cut_name;

impl CacheKey {
    /// The key of a request for which several policies have answered: of the keys that the answers make
    /// each by itself, in their order. Those are of one length, so different lists stay different.
    #[must_use]
    pub fn joined(keys: &[Self]) -> Self {
        // A context of its own: no single policy's parts, and no variant, come to the same.
        let mut hasher = blake3::Hasher::new_derive_key("larder: key of several policies");
        hasher.update(&(keys.len() as u64).to_le_bytes());
        for key in keys {
            hasher.update(&key.0);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

/// The name of what several policies have named: `users/42?tenant=red&page=2` of
/// `users/42?tenant=red` and `users/42?page=2`. A path that is not the first one's stands as `path=`.
pub fn joined_name<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut first = None;
    let mut others = Vec::new();
    for name in names {
        let (path, parts) = name.split_once('?').unwrap_or((name, ""));
        match first {
            None if !path.is_empty() => first = Some(path),
            Some(first) if first != path && !path.is_empty() => {
                others.push(format!("path=/{path}"));
            }
            _ => {}
        }
        if !parts.is_empty() {
            others.push(parts.to_owned());
        }
    }
    let mark = if others.is_empty() { "" } else { "?" };
    cut_name(format!("{}{mark}{}", first.unwrap_or_default(), others.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_answers_have_one_key() {
        let of = |parts: &[(&'static str, &'static str)]| {
            CacheKey::new("larder", "all", "example.com", parts.iter().copied())
        };
        let (a, b) = (("a", "1"), ("b", "2"));
        let lists: [&[&[(&str, &str)]]; 11] = [
            &[&[a], &[b]],
            &[&[b], &[a]],
            &[&[a, b], &[]],
            &[&[], &[a, b]],
            &[&[a], &[a]],
            &[&[], &[]],
            &[&[], &[], &[]],
            &[&[a], &[b], &[]],
            &[&[a], &[], &[b]],
            &[&[a, b], &[a, b]],
            &[&[("a", "1b2")], &[]],
        ];
        let mut keys: Vec<_> = lists
            .iter()
            .map(|list| CacheKey::joined(&list.iter().map(|parts| of(parts)).collect::<Vec<_>>()))
            .collect();
        // Nor the key of one policy.
        keys.extend([of(&[]), of(&[a]), of(&[a, b])]);
        for (at, one) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(one), "{at}");
        }
    }

    #[test]
    fn names_are_joined_behind_one_path() {
        for (names, expected) in [
            (&["users?tenant=red", "users?page=2"][..], "users?tenant=red&page=2"),
            (&["users?page=2", "users"], "users?page=2"),
            (&["users", "users"], "users"),
            (&["users?a=1", "teams?b=2"], "users?a=1&path=/teams&b=2"),
            (&["?tenant=red", "users?page=2"], "users?tenant=red&page=2"),
            (&["users?page=2", "?tenant=red"], "users?page=2&tenant=red"),
            (&["", "?a=1"], "?a=1"),
            (&["users?q=a?b", "users?c", "users?d"], "users?q=a?b&c&d"),
        ] {
            assert_eq!(joined_name(names.iter().copied()), expected, "{names:?}");
        }
        let long = format!("users?a={}", "x".repeat(500));
        let name = joined_name([long.as_str(), long.as_str()]);
        assert!(name.len() <= 512 && super::super::left_of(&name).is_some(), "{name}");
    }
}
