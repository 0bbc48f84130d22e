//! What policies and their tests do with requests and parts.

use std::borrow::Cow;

use crate::Pair;
use crate::Parameter;
use crate::Request;
use crate::json_text;

impl Request {
    /// The value of the field that stands at `index` in `wants.fields`, if the request has it.
    pub fn field(&self, index: usize) -> Option<&str> {
        self.fields.get(index)?.as_deref()
    }

    /// The value of the cookie that stands at `index` in `wants.cookies`, if the request has it.
    pub fn cookie(&self, index: usize) -> Option<&str> {
        self.cookies.get(index)?.as_deref()
    }

    /// The claim that stands at `index` in `wants.claims`, as JSON, if the request has a token that
    /// holds, and that has the claim. Two claims that differ are two texts, whatever their types.
    pub fn claim(&self, index: usize) -> Option<&str> {
        self.claims.get(index)?.as_deref()
    }

    /// The claim that stands at `index`, if it is a string, without quotes and escapes.
    pub fn claim_text(&self, index: usize) -> Option<Cow<'_, str>> {
        json_text(self.claim(index)?)
    }

    /// The content, if `wants` has [`Inputs::CONTENT`](crate::Inputs::CONTENT) and the gateway can show it.
    pub fn content(&self) -> Option<&[u8]> {
        self.content.as_deref()
    }

    /// What the route's path pattern captured under `name`.
    pub fn capture(&self, name: &str) -> Option<&str> {
        self.captures.iter().find(|capture| capture.name == name).map(|found| found.value.as_str())
    }
}

impl Pair {
    /// A part of a key: two different lists of parts are two keys.
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned() }
    }
}

impl Parameter {
    /// Splits a query as the gateway does, for tests.
    pub fn split(query: &str) -> Vec<Self> {
        query
            .split('&')
            .map(|piece| match piece.split_once('=') {
                Some((name, value)) => {
                    Self { name: name.to_owned(), value: Some(value.to_owned()) }
                }
                None => Self { name: piece.to_owned(), value: None },
            })
            .collect()
    }

    /// Whether a `;` is in it: to servers that separate parameters there, too, it is several. A key
    /// that leaves it out because of its name may leave out what the response depends on.
    pub fn has_semicolon(&self) -> bool {
        self.name.contains(';') || self.value.as_ref().is_some_and(|value| value.contains(';'))
    }

    /// Puts parameters together again as they were sent. Two different lists give two different
    /// texts, save for the empty list and the one empty piece.
    pub fn join<'a>(parameters: impl IntoIterator<Item = &'a Self>) -> String {
        let mut query = String::new();
        for (index, Self { name, value }) in parameters.into_iter().enumerate() {
            if index > 0 {
                query.push('&');
            }
            query.push_str(name);
            if let Some(value) = value {
                query.push('=');
                query.push_str(value);
            }
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_a_text_only_if_it_is_a_string() {
        let claims = [Some(r#""a\u0062""#), Some("1"), Some(r#"["a"]"#), None];
        let claims = claims.map(|claim| claim.map(str::to_owned)).into();
        let request = Request { claims, ..Request::default() };
        let texts = [0, 1, 2, 3, 4].map(|index| request.claim_text(index));
        assert_eq!(texts, [Some("ab".into()), None, None, None, None]);
        assert_eq!((request.claim(1), request.claim(3)), (Some("1"), None));
    }

    #[test]
    fn a_semicolon_may_be_in_the_name_or_in_the_value() {
        for (query, expected) in
            [("a=1", false), ("a", false), ("a=%3B", false), ("a;b", true), ("a=1;b=2", true)]
        {
            assert_eq!(Parameter::split(query)[0].has_semicolon(), expected, "{query}");
        }
    }

    #[test]
    fn a_query_is_put_together_as_it_was() {
        for query in ["a", "a=", "a&a=", "=", "a=b=c&&d", "b=%26&a"] {
            assert_eq!(Parameter::join(&Parameter::split(query)), query);
        }
    }
}
