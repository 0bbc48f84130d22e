//! A span, and the form in which OTLP has it as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use serde_json::{Value as Json, json};

/// What kind of span it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work within.
    Internal = 1,
    /// A request that came.
    Server = 2,
    /// A request that was sent.
    Client = 3,
}

/// What a span says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its trace.
    pub trace: u128,
    /// Itself.
    pub span: u64,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// `tracestate`.
    pub state: Option<HeaderValue>,
    /// What it is called: of few values.
    pub name: String,
    /// What kind of span it is.
    pub kind: Kind,
    /// When it began.
    pub begin: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// It is an error.
    pub is_error: bool,
    /// What else there is to say.
    pub attributes: Vec<(&'static str, Value)>,
}

/// What a collector is sent (OTLP 1, `ExportTraceServiceRequest`).
pub(super) fn document(service: &str, spans: &[Span]) -> String {
    let spans: Vec<Json> = spans.iter().map(Span::json).collect();
    let scope = json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
    let resource =
        json!({ "attributes": [attribute("service.name", &json!({ "stringValue": service }))] });
    let scoped = json!([{ "scope": scope, "spans": spans }]);
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": scoped }] }).to_string()
}

fn attribute(name: &str, value: &Json) -> Json {
    json!({ "key": name, "value": value })
}

impl Span {
    fn json(&self) -> Json {
        let attributes = self.attributes.iter().map(|(name, value)| {
            let value = match value {
                Value::Text(text) => json!({ "stringValue": text }),
                // 64 bits are a text in this form of JSON.
                Value::Number(number) => json!({ "intValue": number.to_string() }),
            };
            attribute(name, &value)
        });
        let state = self.state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default();
        json!({
            "traceId": format!("{:032x}", self.trace),
            "spanId": format!("{:016x}", self.span),
            "parentSpanId": self.parent.map(|it| format!("{it:016x}")).unwrap_or_default(),
            "traceState": state,
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": nanoseconds(self.begin),
            "endTimeUnixNano": nanoseconds(self.end),
            "attributes": attributes.collect::<Vec<_>>(),
            "status": if self.is_error { json!({ "code": 2 }) } else { json!({}) },
        })
    }
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_form_is_that_of_otlp() {
        let span = Span {
            trace: 1,
            span: 2,
            parent: None,
            state: Some(HeaderValue::from_static("a=b")),
            name: "GET all".to_owned(),
            kind: Kind::Server,
            begin: UNIX_EPOCH + Duration::from_nanos(5),
            end: UNIX_EPOCH + Duration::from_secs(1),
            is_error: true,
            attributes: vec![("a", Value::Text("b".to_owned())), ("c", Value::Number(7))],
        };
        let document: Json = serde_json::from_str(&document("shop", &[span])).unwrap();
        let of = &document["resourceSpans"][0];
        let name = json!([{ "key": "service.name", "value": { "stringValue": "shop" } }]);
        assert_eq!(of["resource"]["attributes"], name);
        assert_eq!(
            of["scopeSpans"][0]["spans"],
            json!([{
                "traceId": "00000000000000000000000000000001",
                "spanId": "0000000000000002",
                "parentSpanId": "",
                "traceState": "a=b",
                "name": "GET all",
                "kind": 2,
                "startTimeUnixNano": "5",
                "endTimeUnixNano": "1000000000",
                "attributes": [
                    { "key": "a", "value": { "stringValue": "b" } },
                    { "key": "c", "value": { "intValue": "7" } },
                ],
                "status": { "code": 2 },
            }])
        );
    }
}
