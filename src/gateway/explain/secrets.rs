//! What an explanation does not show: the values of a request's credentials, wherever a policy has put
//! them.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};

/// Stands for what is not shown.
const HIDDEN: &str = "***";

/// A value of so many octets is not met by chance within others.
const LONG: usize = 4;

/// The values of a request's credentials, the longest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let mut values = Vec::new();
        for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
            for line in fields.get_all(&name) {
                let line = String::from_utf8_lossy(line.as_bytes());
                if name == COOKIE {
                    let crumbs = line.split(';').filter_map(|crumb| crumb.split_once('='));
                    values.extend(crumbs.map(|(_, value)| value.trim().to_owned()));
                } else {
                    // Behind the scheme (RFC 9110 §11.4).
                    values.extend(line.split_once(' ').map(|(_, rest)| rest.trim().to_owned()));
                }
                values.push(line.into_owned());
            }
        }
        values.retain(|value| !value.is_empty());
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// A text without them.
    pub(super) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(text);
        for secret in &self.0 {
            if shown.contains(secret.as_str()) {
                shown = Cow::Owned(without(&shown, secret));
            }
        }
        shown
    }
}

/// A short one is one only where it stands for itself.
fn without(text: &str, secret: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(secret) {
        let begins = |text: &str| text.chars().next().is_some_and(char::is_alphanumeric);
        let ends = |text: &str| text.chars().next_back().is_some_and(char::is_alphanumeric);
        let is_within = ends(before) || begins(after);
        shown.push_str(before);
        shown.push_str(if is_within && secret.len() < LONG { secret } else { HIDDEN });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn values_of_credentials_are_hidden_wherever_they_stand() {
        let mut fields = HeaderMap::new();
        fields.append(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret.token"));
        fields.append(COOKIE, HeaderValue::from_static("session=abcdef; lang=de"));
        fields.append(COOKIE, HeaderValue::from_static("empty="));
        let secrets = Secrets::of(&fields);
        for (text, expected) in [
            ("users/42?lang=de", "users/42?lang=***"),
            ("users/42?order=desc", "users/42?order=desc"),
            ("s3cret.token", "***"),
            ("Bearer s3cret.token", "***"),
            ("xs3cret.tokenx", "x***x"),
            ("a?session=abcdef&b=1", "a?session=***&b=1"),
            ("nothing", "nothing"),
            ("", ""),
        ] {
            assert_eq!(secrets.hide(text), expected, "{text}");
        }
        assert_eq!(Secrets::default().hide("de"), "de");
    }
}
