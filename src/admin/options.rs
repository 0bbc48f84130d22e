//! The parameters of calls that purge: `?soft=true&wait=1s`.

use std::time::Duration;

use crate::config;

use super::content::cut;

/// Nobody waits longer.
const LONGEST: Duration = Duration::from_secs(30);

/// How a purge is wished for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// What is covered becomes stale, and is not gone.
    pub(super) soft: bool,
    /// So long all gateways' receipts are waited for. None: there is nothing to tell of them.
    pub(super) wait: Option<Duration>,
}

impl Options {
    /// Those of a query, of which only these names are known.
    pub(super) fn of(query: Option<&str>, known: &[&str]) -> Result<Self, String> {
        let parameters = query.into_iter().flat_map(|query| query.split('&'));
        let parameters: Vec<_> = parameters.filter(|parameter| !parameter.is_empty()).collect();
        if let Some(unknown) = parameters.iter().map(name).find(|name| !known.contains(name)) {
            let unknown = cut(unknown);
            let known = known.join("` and `");
            return Err(format!("there is no parameter `{unknown}` here; there is `{known}`"));
        }
        Self::read(&parameters)
    }

    fn read(parameters: &[&str]) -> Result<Self, String> {
        let (mut soft, mut wait) = (None, None);
        for parameter in parameters {
            let value = parameter.split_once('=').map_or("", |(_, value)| value);
            let is_first = match name(parameter) {
                "soft" => soft.replace(truth(value)?).is_none(),
                _ => wait.replace(span(value)?).is_none(),
            };
            if !is_first {
                return Err(format!("the parameter `{}` stands twice", name(parameter)));
            }
        }
        Ok(Self { soft: soft.unwrap_or_default(), wait })
    }
}

/// A text without the parameters at its end, and these. The query before them is the text's own.
pub(super) fn without_options(text: &str) -> Result<(String, Options), String> {
    let Some((path, query)) = text.split_once('?') else {
        return Ok((text.to_owned(), Options::default()));
    };
    let all: Vec<_> = query.split('&').collect();
    let is_own = |parameter: &&&str| matches!(name(parameter), "soft" | "wait");
    let count = all.iter().rev().take_while(is_own).count();
    let (rest, own) = all.split_at(all.len() - count);
    let text = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    Ok((text, Options::read(own)?))
}

fn name<'a>(parameter: &&'a str) -> &'a str {
    parameter.split('=').next().unwrap_or_default()
}

fn truth(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("`soft` is `true` or `false`".to_owned()),
    }
}

fn span(value: &str) -> Result<Duration, String> {
    let span = config::span(value, Duration::ZERO..=LONGEST);
    span.ok_or_else(|| "`wait` is a time such as `1s` or `500ms`, at most `30s`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(soft: bool, wait: Option<u64>) -> Options {
        Options { soft, wait: wait.map(Duration::from_millis) }
    }

    #[test]
    fn parameters_are_read_strictly() {
        for (query, expected) in [
            ("", Ok(options(false, None))),
            ("soft=true", Ok(options(true, None))),
            ("soft=false&wait=1s", Ok(options(false, Some(1000)))),
            ("wait=30s", Ok(options(false, Some(30_000)))),
            ("wait=250ms&soft=true&", Ok(options(true, Some(250)))),
            ("wait=0s", Ok(options(false, Some(0)))),
            ("wait=31s", Err("`30s`")),
            ("wait=99999999999999999999s", Err("`30s`")),
            ("wait=1", Err("`1s`")),
            ("wait=s", Err("`1s`")),
            ("wait=+1s", Err("`1s`")),
            ("wait=1m", Err("`1s`")),
            ("wait", Err("`1s`")),
            ("soft", Err("`true`")),
            ("soft=1", Err("`true`")),
            ("soft=true&soft=true", Err("twice")),
            ("sofd=true", Err("there is no parameter `sofd` here; there is `soft` and `wait`")),
        ] {
            let read = Options::of(Some(query), &["soft", "wait"]);
            match expected {
                Ok(expected) => assert_eq!(read, Ok(expected), "{query}"),
                Err(part) => {
                    assert!(read.as_ref().unwrap_err().contains(part), "{query}: {read:?}");
                }
            }
        }
        assert!(Options::of(Some("soft=true"), &["wait"]).is_err());
        assert_eq!(Options::of(None, &[]), Ok(Options::default()));
    }

    #[test]
    fn parameters_at_the_end_of_a_pattern_are_the_calls() {
        for (text, expected, of_call) in [
            ("users/*", "users/*", options(false, None)),
            ("users/*?soft=true", "users/*", options(true, None)),
            ("users/*?wait=1s&soft=true", "users/*", options(true, Some(1000))),
            ("users/42?lang=de&soft=true", "users/42?lang=de", options(true, None)),
            ("users/42?soft=true&lang=de", "users/42?soft=true&lang=de", options(false, None)),
            ("users/42?", "users/42?", options(false, None)),
            ("?*", "?*", options(false, None)),
            ("a&soft=true", "a&soft=true", options(false, None)),
            ("a%3Fsoft=true", "a%3Fsoft=true", options(false, None)),
        ] {
            assert_eq!(without_options(text), Ok((expected.to_owned(), of_call)), "{text}");
        }
        assert!(without_options("users/*?wait=soon").is_err());
    }
}
