//! What an explanation does not show: the values of a request's credentials, wherever a policy has put
//! them.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};

use crate::store::MAX_LABEL;
use crate::stored::CUT;

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

    /// A text without them, and without what is left of one in which it was cut.
    pub(super) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = self.hide_begun(text);
        for secret in &self.0 {
            if shown.contains(secret.as_str()) {
                shown = Cow::Owned(without(&shown, secret));
            }
        }
        shown
    }

    /// A name is cut before its mark, which in one of several names is not its end. The label of a record
    /// has no mark, so any text may be cut that has its length.
    fn hide_begun<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let is_long = text.chars().nth(MAX_LABEL - 1).is_some();
        let may_be_cut = is_long || text.contains(CUT);
        if !may_be_cut || self.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut shown = String::with_capacity(text.len());
        let mut pieces = text.split(CUT).peekable();
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none();
            match self.before_begun(piece).filter(|_| is_long || !is_last) {
                Some(before) => shown.extend([before, HIDDEN]),
                None => shown.push_str(piece),
            }
            if !is_last {
                shown.push(CUT);
            }
        }
        Cow::Owned(shown)
    }

    /// What stands before the longest beginning of one of them with which a text ends, if any does.
    fn before_begun<'a>(&self, text: &'a str) -> Option<&'a str> {
        let before = |secret: &String| {
            let ends = secret.char_indices().rev().map(|(at, last)| at + last.len_utf8());
            let mut ends = ends.take_while(|end| *end >= LONG);
            ends.find_map(|end| {
                let (begun, rest) = secret.split_at_checked(end)?;
                // One that has the mark in itself is not cut there, and is looked for as a whole.
                text.strip_suffix(begun).filter(|_| !rest.starts_with(CUT))
            })
        };
        self.0.iter().filter_map(before).min_by_key(|before| before.len())
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

    #[test]
    fn what_cutting_leaves_of_them_is_hidden_too() {
        let mut fields = HeaderMap::new();
        fields.append(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret.token"));
        fields.append(COOKIE, HeaderValue::from_static("user=77; session=77.abcdef"));
        let marked = HeaderValue::from_bytes("a=abcd\u{2026}efgh".as_bytes()).unwrap();
        fields.append(COOKIE, marked);
        let secrets = Secrets::of(&fields);
        let (short, long) = ("x".repeat(MAX_LABEL - 10), "x".repeat(MAX_LABEL - 9));
        for (text, expected) in [
            ("a?token=s3cret.t…", "a?token=***…"),
            ("a?token=s3cret.token…", "a?token=***…"),
            ("a?token=Bearer s3cre…", "a?token=***…"),
            ("a?token=s3cret.t…&b=2", "a?token=***…&b=2"),
            ("a?b=s3cret.token&token=s3cret.t…", "a?b=***&token=***…"),
            ("a?token=s3c…", "a?token=s3c…"),
            ("a?token=s3cret.t", "a?token=s3cret.t"),
            ("a?session=77.abc…", "a?session=***…"),
            ("a?b=abcd…efgh", "a?b=***"),
            ("a…", "a…"),
            (&format!("{long}s3cret.to"), &format!("{long}***")),
            (&format!("{short}s3cret.to"), &format!("{short}s3cret.to")),
        ] {
            assert_eq!(secrets.hide(text), expected, "{text}");
        }
        assert_eq!(Secrets::default().hide("abcd…"), "abcd…");
    }
}
