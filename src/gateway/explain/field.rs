//! An explanation beside the response that it is about: a request with `Larder-Explain: Bearer TOKEN`, the
//! operators' token, is told by `Larder-Explanation` why it was answered as it was.
//!
//! The field is taken off every request before anything else sees it. With another token, or where the
//! gateway has none, it does nothing.

use std::fmt::Write as _;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, EXPIRES};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use serde_json::{Value, json};

use super::{Contents, Explanation, Extent};
use crate::body::Body;
use crate::gateway::bearer::is_bearer;
use crate::gateway::course::Announced;
use crate::gateway::notable::Notable;
use crate::gateway::{Answer, Gateway, Peer};
use crate::semantics::targeted::SURROGATE_CONTROL;
use crate::upstream::Arriving;

/// Of a request.
pub(super) const EXPLAIN: HeaderName = HeaderName::from_static("larder-explain");

/// To compare with: a constant would be made and dropped for each comparison.
static IS_EXPLAIN: HeaderName = EXPLAIN;

/// Of its response.
const EXPLANATION: HeaderName = HeaderName::from_static("larder-explanation");

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What many take of a field.
const LONGEST: usize = 6000;

/// What is left out of a longer one, one after the other.
const DISPENSABLE: [&str; 10] = [
    "/storing",
    "/route/runners_up",
    "/stored/fields",
    "/stored/tags",
    "/request/fields",
    "/request/dropped",
    "/policies",
    "/forward",
    "/route",
    "/stored",
];

/// Whether a field of this name asks for an explanation.
pub(in crate::gateway) fn is_explain(name: &HeaderName) -> bool {
    *name == IS_EXPLAIN
}

impl Gateway {
    /// Whether a request is to be explained. The field that asks for it is gone then, in any case.
    pub(in crate::gateway) fn takes_explain(&self, fields: &mut HeaderMap) -> bool {
        let Some(given) = fields.remove(EXPLAIN) else { return false };
        self.token.as_deref().is_some_and(|token| is_bearer(&given, token))
    }

    /// Answers a request, and says why so.
    pub(in crate::gateway) fn answer_explained(
        self: &Arc<Self>,
        head: Parts,
        content: Arriving,
        peer: Peer,
    ) -> Answer {
        let gateway = Arc::clone(self);
        let (mut copy, mut whose) = (head.clone(), peer.clone());
        let notable = Notable::of(&head.headers);
        let received = self.received(&mut copy, &mut whose, notable);
        let place = received.ok().and_then(|it| self.place(&it.authority, &copy, &whose).ok());
        let answer = Answer::later(async move {
            let contents = Contents::unread(Announced::of(&content));
            let (copy, whose) = (head.clone(), peer.clone());
            // Before it is answered: that changes what is there.
            let told = gateway.explain_received(copy, whose, contents, Extent::Whole).await;
            let mut response: Response<Body> =
                gateway.answer_to(head, content, peer, notable).await;
            add(response.headers_mut(), &told);
            response
        });
        match place {
            Some(place) => answer.of(place),
            None => answer,
        }
    }
}

/// Nobody on the way to the operator is to keep what it says.
fn add(fields: &mut HeaderMap, told: &Explanation) {
    for name in [EXPIRES, SURROGATE_CONTROL, CDN_CACHE_CONTROL] {
        fields.remove(name);
    }
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let told = serde_json::to_value(told).unwrap_or_default();
    if let Ok(value) = HeaderValue::try_from(short(told)) {
        fields.insert(EXPLANATION, value);
    }
}

/// An explanation in ASCII, as much of it as a field takes.
fn short(mut told: Value) -> String {
    let mut left_out = DISPENSABLE.iter();
    loop {
        let text = ascii(&told.to_string());
        if text.len() <= LONGEST {
            return text;
        }
        let Some(pointer) = left_out.next() else { break };
        if let Some(member) = told.pointer_mut(pointer) {
            *member = Value::Null;
        }
    }
    let outcome = ascii(&json!({ "outcome": told.get("outcome") }).to_string());
    if outcome.len() <= LONGEST { outcome } else { "{}".to_owned() }
}

/// JSON has other characters in its strings alone, where they may be escaped (RFC 8259 §7).
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, ' '..='~') {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _written = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_is_ascii_and_bounded() {
        let told =
            json!({ "key": { "name": "caf\u{e9} \u{1f600}" }, "outcome": { "does": "hit" } });
        let text = short(told.clone());
        assert_eq!(text, r#"{"key":{"name":"caf\u00e9 \ud83d\ude00"},"outcome":{"does":"hit"}}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), told);

        let long = "x".repeat(LONGEST);
        let told = json!({ "storing": long, "outcome": { "does": "hit" } });
        assert_eq!(short(told), r#"{"outcome":{"does":"hit"},"storing":null}"#);
        let told = json!({ "request": { "url": long }, "outcome": { "does": "hit" } });
        assert_eq!(short(told), r#"{"outcome":{"does":"hit"}}"#);
        assert_eq!(short(json!({ "outcome": long })), "{}");
    }
}
