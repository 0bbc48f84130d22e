//! `${NAME}` and `${NAME:-default}` in string values.
//!
//! Expansion follows the parsing of TOML, so that no variable can add a key, and what it brings is
//! not expanded again. `$${` stands for `${`; any other `$` for itself. And the folder that the system
//! has for what may be lost.

use std::path::PathBuf;

use super::fault::Wrong;

/// An expanded value has at most this many octets.
const LONGEST: usize = 64 << 10;

/// The value with all variables replaced.
///
/// As in a shell, `${NAME:-default}` takes the default where the variable is empty, too. An error
/// never repeats the value: it may be a secret.
pub(super) fn expand(
    value: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Vec<Wrong>> {
    let mut expanded = String::with_capacity(value.len());
    let mut wrong = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = from.get(2..).unwrap_or_default();
            continue;
        }
        expanded.push_str(before);
        let Some((inner, after)) = from.get(2..).and_then(|inner| inner.split_once('}')) else {
            // What only looks like a name may be the end of a secret.
            let is_variable = |name: &&str| is_name(name) && env(name).is_some();
            let name = from.get(2..).filter(is_variable).unwrap_or("NAME");
            wrong.push(
                Wrong::new("has `${` without `}`").with_hint(format!(
                    "close it: `${{{name}}}`, or write `$${{` for a plain `${{`"
                )),
            );
            return Err(wrong);
        };
        match variable(inner, env) {
            Ok(text) => expanded.push_str(&text),
            Err(fault) => wrong.push(fault),
        }
        if expanded.len() > LONGEST {
            wrong.push(Wrong::new("is longer than 64 KiB with its variables replaced"));
            return Err(wrong);
        }
        rest = after;
    }
    expanded.push_str(rest);
    if wrong.is_empty() { Ok(expanded) } else { Err(wrong) }
}

/// The names of the variables in a value that [`expand`] takes, each with whether it says something.
pub(super) fn variables(value: &str, env: &dyn Fn(&str) -> Option<String>) -> Vec<(String, bool)> {
    let mut names = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        rest = from.get(2..).unwrap_or_default();
        if before.ends_with('$') {
            continue;
        }
        let Some((inner, after)) = rest.split_once('}') else { break };
        let (name, has_default) =
            inner.split_once(":-").map_or((inner, false), |(name, _)| (name, true));
        let is_set = env(name).is_some_and(|text| !has_default || !text.is_empty());
        names.push((name.to_owned(), is_set));
        rest = after;
    }
    names
}

/// Where compiled plugins are kept unless the file says so: the folder that systemd has made for us,
/// or the user's own. What is not an absolute path is passed over, as the XDG specification wants it.
pub(super) fn cache_folder(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd.exec(5): several folders are separated by colons.
    let made = env("CACHE_DIRECTORY").and_then(|all| all.split(':').next().map(PathBuf::from));
    made.filter(|path| path.is_absolute())
        .or_else(|| absolute("XDG_CACHE_HOME").map(|path| path.join("larder")))
        .or_else(|| absolute("HOME").map(|path| path.join(".cache/larder")))
}

fn variable(inner: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        return Err(Wrong::new("has `${…}` without the name of a variable in it").with_hint(
            "write `${NAME}` or `${NAME:-default}`, with letters, digits and `_` in the name, \
             and `$${` for a plain `${`",
        ));
    }
    match (env(name), default) {
        (Some(text), None) => Ok(text),
        (Some(text), Some(_)) if !text.is_empty() => Ok(text),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(Wrong::new(format!("wants the environment variable `{name}`, which is not set"))
                .with_hint(format!("set it, or write `${{{name}:-default}}`")))
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("cache".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            "BIG" => Some("x".repeat(LONGEST / 2)),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        for (value, expanded) in [
            ("plain", "plain"),
            ("redis://${HOST}:${PORT:-6379}", "redis://cache:6379"),
            ("${HOST}${HOST}", "cachecache"),
            ("${EMPTY}", ""),
            ("${EMPTY:-default}", "default"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NESTED}", "${HOST}"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("5 $ and $HOST", "5 $ and $HOST"),
        ] {
            assert_eq!(expand(value, &env).unwrap(), expanded, "{value}");
        }
    }

    #[test]
    fn faulty_variables_are_named_without_the_value() {
        for (value, complaint) in [
            ("secret${NONE}", "wants the environment variable `NONE`, which is not set"),
            ("secret${HOST", "has `${` without `}`"),
            ("${}", "has `${…}` without the name of a variable in it"),
            ("${my secret}", "has `${…}` without the name of a variable in it"),
            ("${1A}", "has `${…}` without the name of a variable in it"),
            ("${BIG}${BIG}${BIG}", "is longer than 64 KiB with its variables replaced"),
        ] {
            assert_eq!(expand(value, &env).unwrap_err()[0].complaint, complaint, "{value}");
        }
        assert_eq!(expand("${A} ${B}", &env).unwrap_err().len(), 2);
        for (value, name) in [("secret${HOST", "HOST"), ("${secret", "NAME"), ("${", "NAME")] {
            let hint = expand(value, &env).unwrap_err()[0].hint.clone().unwrap();
            let expected = format!("close it: `${{{name}}}`, or write `$${{` for a plain `${{`");
            assert_eq!(hint, expected, "{value}");
        }
    }

    #[test]
    fn the_cache_folder_is_the_first_that_there_is() {
        for (set, folder) in [
            (&[][..], None),
            (&[("HOME", "/home/u")], Some("/home/u/.cache/larder")),
            (&[("HOME", "/home/u"), ("XDG_CACHE_HOME", "/x")], Some("/x/larder")),
            (&[("HOME", "/home/u"), ("XDG_CACHE_HOME", "x")], Some("/home/u/.cache/larder")),
            (&[("HOME", "/home/u"), ("CACHE_DIRECTORY", "/var/cache/a:/b")], Some("/var/cache/a")),
            (&[("HOME", ""), ("CACHE_DIRECTORY", "")], None),
        ] {
            let env = |name: &str| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(cache_folder(&env), folder.map(PathBuf::from), "{set:?}");
        }
    }
}
