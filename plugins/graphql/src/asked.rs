//! Reads what a request asks: GraphQL over HTTP by `GET`, `POST` and `QUERY`, and persisted documents.
//!
//! A server may read a request in more ways than one, and which it prefers differs. Whatever could be
//! meant otherwise is not understood: a reason is returned, and nothing is taken from the cache.

use larder_policy::Json;
use larder_policy::Parameter;
use larder_policy::Request;

/// Why a request has no key, as `Cache-Status` shows it.
pub(crate) type Why = &'static str;

/// It is none of `GET`, `POST` and `QUERY`.
pub(crate) const METHOD: Why = "method";
/// It has no content, or the gateway cannot show it.
pub(crate) const NO_CONTENT: Why = "no-content";
/// The content is not said to be JSON.
pub(crate) const CONTENT_TYPE: Why = "content-type";
/// It asks for several operations at once.
pub(crate) const BATCH: Why = "batch";
/// It names no operation, or not one alone.
pub(crate) const NO_OPERATION: Why = "no-operation";
/// It is no GraphQL, or such as is not known here.
pub(crate) const NOT_UNDERSTOOD: Why = "not-understood";

const MEMBERS: [&str; 4] = ["extensions", "operationName", "query", "variables"];

/// What one request asks.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Asked {
    /// The document; none if it is asked for by its hash.
    pub(crate) document: Option<String>,
    pub(crate) operation: Option<String>,
    /// In one form; none if there are none.
    pub(crate) variables: Option<String>,
    /// In one form, the hash of a persisted document included; none if there are none.
    pub(crate) extensions: Option<String>,
    /// The parameters of the URL that say nothing of the above.
    pub(crate) rest: Vec<Parameter>,
}

impl Asked {
    /// What a request asks, if it is one operation.
    pub(crate) fn read(request: &Request) -> Result<Self, Why> {
        let in_url = || request.query.iter().any(|parameter| is_member(&parameter.name));
        match request.method.as_str() {
            "GET" => Self::from_query(&request.query),
            // Servers differ in whether the URL or the content wins.
            "POST" | "QUERY" if in_url() => Err(NOT_UNDERSTOOD),
            "POST" | "QUERY" => {
                let asked = match content(request)? {
                    Json::Array(_) => return Err(BATCH),
                    value => Self::from_json(&value)?,
                };
                Ok(Self { rest: request.query.clone(), ..asked })
            }
            _ => Err(METHOD),
        }
    }

    /// What a request asks, if that is one operation or several.
    pub(crate) fn read_all(request: &Request) -> Result<Vec<Self>, Why> {
        match Self::read(request) {
            Ok(asked) => Ok(vec![asked]),
            Err(BATCH) => match content(request)? {
                Json::Array(values) => {
                    let mut all = Vec::new();
                    for value in &values {
                        all.push(Self::from_json(value)?);
                    }
                    Ok(all)
                }
                _ => Err(NOT_UNDERSTOOD),
            },
            Err(why) => Err(why),
        }
    }

    fn from_json(value: &Json<'_>) -> Result<Self, Why> {
        let Json::Object(members) = value else { return Err(NOT_UNDERSTOOD) };
        // A member that is not known may be another way to ask.
        if members.iter().any(|(name, _)| !MEMBERS.contains(&name.as_str())) {
            return Err(NOT_UNDERSTOOD);
        }
        let text = |name| match value.member(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(NOT_UNDERSTOOD),
        };
        let object = |name| value.member(name).map_or(Ok(None), form);
        let extensions = object("extensions")?;
        let variables = object("variables")?;
        let persisted = value.member("extensions");
        let asked = Self::of(text("query")?, text("operationName")?, variables, persisted)?;
        Ok(Self { extensions, ..asked })
    }

    fn from_query(query: &[Parameter]) -> Result<Self, Why> {
        let mut found: [Option<String>; 4] = [const { None }; 4];
        let mut rest = Vec::new();
        for parameter in query {
            let Some(index) = MEMBERS.iter().position(|name| *name == parameter.name) else {
                // Written otherwise, it may be read by the server all the same.
                if is_member(&parameter.name) {
                    return Err(NOT_UNDERSTOOD);
                }
                rest.push(parameter.clone());
                continue;
            };
            let value = parameter.value.as_deref().unwrap_or("");
            let value = decoded(value).ok_or(NOT_UNDERSTOOD)?;
            match found.get_mut(index) {
                Some(place @ None) => *place = Some(value),
                _ => return Err(NOT_UNDERSTOOD),
            }
        }
        let [extensions, operation, document, variables] = found;
        let read = |text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => Json::read(text).ok_or(NOT_UNDERSTOOD).and_then(|value| form(&value)),
        };
        let (variables, form) = (read(&variables)?, read(&extensions)?);
        let extensions = extensions.as_deref().and_then(Json::read);
        let asked = Self::of(document, operation, variables, extensions.as_ref())?;
        Ok(Self { extensions: form, rest, ..asked })
    }

    fn of(
        document: Option<String>,
        operation: Option<String>,
        variables: Option<String>,
        extensions: Option<&Json<'_>>,
    ) -> Result<Self, Why> {
        let hash = extensions
            .and_then(|extensions| extensions.member("persistedQuery"))
            .and_then(|persisted| persisted.member("sha256Hash"))
            .and_then(Json::text);
        if document.is_none() && hash.is_none_or(str::is_empty) {
            return Err(NO_OPERATION);
        }
        Ok(Self { document, operation, variables, ..Self::default() })
    }
}

/// An object in one form; none if it is `null` or empty, which mean the same.
fn form(value: &Json<'_>) -> Result<Option<String>, Why> {
    match value {
        Json::Null => Ok(None),
        Json::Object(members) if members.is_empty() => Ok(None),
        Json::Object(_) => Ok(Some(value.canonical())),
        _ => Err(NOT_UNDERSTOOD),
    }
}

/// Reads the content. Its type is the first of the fields that the policy asks for.
fn content(request: &Request) -> Result<Json<'_>, Why> {
    let content = request.content().ok_or(NO_CONTENT)?;
    if !request.field(0).is_some_and(is_json) {
        return Err(CONTENT_TYPE);
    }
    let text = str::from_utf8(content).map_err(|_| NOT_UNDERSTOOD)?;
    Json::read(text).ok_or(NOT_UNDERSTOOD)
}

/// `application/json`, in UTF-8.
fn is_json(content_type: &str) -> bool {
    let mut pieces = content_type.as_bytes().splitn(2, |octet| *octet == b';');
    let mut is_next = |known: &[&[u8]]| {
        let piece = pieces.next().unwrap_or_default().trim_ascii();
        known.iter().any(|known| piece.eq_ignore_ascii_case(known))
    };
    is_next(&[b"application/json"]) && is_next(&[b"", b"charset=utf-8", b"charset=\"utf-8\""])
}

/// Whether a server may read this parameter as one of GraphQL's, however it is written.
fn is_member(name: &str) -> bool {
    // What is not decoded here may be there.
    let Some(name) = decoded(name) else { return true };
    let mut name = name.as_bytes();
    // Some trim white space; that which is not ASCII as well.
    while let Some((..=b' ' | 0x7f.., rest)) = name.split_first() {
        name = rest;
    }
    while let Some((..=b' ' | 0x7f.., rest)) = name.split_last() {
        name = rest;
    }
    MEMBERS.iter().any(|member| member.as_bytes().eq_ignore_ascii_case(name))
}

/// `application/x-www-form-urlencoded`, as queries are. None if it is damaged, or no UTF-8.
fn decoded(text: &str) -> Option<String> {
    // Each octet is shown as the character with that number.
    let mut rest = text.chars().map(u8::try_from);
    let mut octets = Vec::with_capacity(text.len());
    let mut escape = 0_u8;
    let mut missing = 0;
    loop {
        let octet = match rest.next() {
            Some(octet) => octet.ok()?,
            None if missing == 0 => break,
            None => return None,
        };
        if missing > 0 {
            escape = escape << 4 | u8::try_from(char::from(octet).to_digit(16)?).ok()?;
            missing -= 1;
            if missing == 0 {
                octets.push(escape);
            }
        } else {
            match octet {
                b'%' => missing = 2,
                b'+' => octets.push(b' '),
                octet => octets.push(octet),
            }
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = r#"{"persistedQuery":{"sha256Hash":"ab","version":1}}"#;

    fn get(query: &str) -> Request {
        let query = if query.is_empty() { Vec::new() } else { Parameter::split(query) };
        Request { method: "GET".to_owned(), query, ..Request::default() }
    }

    fn post(content: &str) -> Request {
        Request {
            method: "POST".to_owned(),
            fields: vec![Some("application/json".to_owned())],
            content: Some(content.as_bytes().to_vec()),
            ..Request::default()
        }
    }

    /// What is asked, in one text.
    fn shown(request: &Request) -> Result<String, Why> {
        let Asked { document, operation, variables, extensions, rest } = Asked::read(request)?;
        let parts = [document, operation, variables, extensions, Some(Parameter::join(&rest))];
        let parts = parts.map(|part| part.unwrap_or_else(|| "-".to_owned()));
        Ok(parts.join(" | "))
    }

    #[test]
    fn every_way_to_ask_is_read() {
        let persisted = format!(r#"{{"extensions":{HASH}}}"#);
        let escaped = HASH.replace('"', "%22");
        for (request, expected) in [
            (get("query={a}"), "{a} | - | - | - | "),
            (
                get("query=%7Ba+b%20c%7D&variables={%22b%22:1,%22a%22:2}&operationName=Q&v=1&w"),
                "{a b c} | Q | {\"a\":2,\"b\":1} | - | v=1&w",
            ),
            (get("query={a}&variables=&extensions="), "{a} | - | - | - | "),
            (get("query={a}&variables=null&extensions={}"), "{a} | - | - | - | "),
            (
                get(&format!("extensions={escaped}&operationName=")),
                &format!("- |  | - | {HASH} | "),
            ),
            (post(r#"{"query":"{a}"}"#), "{a} | - | - | - | "),
            (
                post(
                    r#"{"variables":{"b":[{"d":1.0,"c":"\u0061"}],"a":null},"query":"{a}","operationName":"Q"}"#,
                ),
                r#"{a} | Q | {"a":null,"b":[{"c":"a","d":1.0}]} | - | "#,
            ),
            (
                post(r#"{"query":"{a}","variables":null,"operationName":null,"extensions":{}}"#),
                "{a} | - | - | - | ",
            ),
            (post(&persisted), &format!("- | - | - | {HASH} | ")),
        ] {
            assert_eq!(shown(&request).as_deref(), Ok(expected), "{request:?}");
        }
        let query = Request {
            method: "QUERY".to_owned(),
            query: Parameter::split("v=1"),
            ..post(r#"{"query":"{a}"}"#)
        };
        assert_eq!(shown(&query).as_deref(), Ok("{a} | - | - | - | v=1"));
    }

    #[test]
    fn what_could_be_meant_otherwise_is_not_understood() {
        for query in [
            "query={a}&query={b}",
            "query={a}&%71uery={b}",
            "query={a}&Query={b}",
            "query={a}&+query={b}",
            "query={a}&qu%ery={b}",
            "query={a}&%c2%a0Query%e3%80%80={b}",
            "query=%",
            "query=%7",
            "query=%ff",
            "query={a}&variables=[1]",
            "query={a}&variables={",
            "query={a}&variables={}&variables={}",
            "query={a}&extensions=1",
            "query={a}&variables={%22a%22:1,%22a%22:2}",
        ] {
            assert_eq!(shown(&get(query)), Err(NOT_UNDERSTOOD), "{query}");
        }
        for content in [
            "",
            "{",
            "1",
            "null",
            "\"{a}\"",
            r#"{"query":1}"#,
            r#"{"query":"{a}","query":"{b}"}"#,
            r#"{"query":"{a}","qu\u0065ry":"{b}"}"#,
            r#"{"query":"{a}","id":"7"}"#,
            r#"{"query":"{a}","variables":"{}"}"#,
            r#"{"query":"{a}","operationName":1}"#,
            r#"{"query":"{a}","extensions":[]}"#,
            "\u{feff}{\"query\":\"{a}\"}",
        ] {
            assert_eq!(shown(&post(content)), Err(NOT_UNDERSTOOD), "{content}");
        }
        for (request, why) in [
            (get(""), NO_OPERATION),
            (get("variables={}"), NO_OPERATION),
            (post("{}"), NO_OPERATION),
            (post(r#"{"extensions":{"persistedQuery":{"sha256Hash":""}}}"#), NO_OPERATION),
            (post(r#"{"extensions":{"persistedQuery":{"sha256Hash":1}}}"#), NO_OPERATION),
            (post(r#"[{"query":"{a}"}]"#), BATCH),
            (Request { content: None, ..post("") }, NO_CONTENT),
            (Request { fields: vec![None], ..post(r#"{"query":"{a}"}"#) }, CONTENT_TYPE),
            (
                Request { content: Some(b"{\"query\":\"\xff\"}".to_vec()), ..post("") },
                NOT_UNDERSTOOD,
            ),
            (Request { method: "PUT".to_owned(), ..post(r#"{"query":"{a}"}"#) }, METHOD),
            (
                Request { query: Parameter::split("query={b}"), ..post(r#"{"query":"{a}"}"#) },
                NOT_UNDERSTOOD,
            ),
            (
                Request { query: Parameter::split("v&%51UERY"), ..post(r#"{"query":"{a}"}"#) },
                NOT_UNDERSTOOD,
            ),
        ] {
            assert_eq!(shown(&request), Err(why), "{request:?}");
        }
    }

    #[test]
    fn content_must_be_said_to_be_json() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON ; Charset=UTF-8", true),
            ("application/json; charset=\"utf-8\"", true),
            ("application/json; charset=utf-16", false),
            ("application/json; charset=utf-8; x=1", false),
            ("application/graphql", false),
            ("text/plain", false),
            ("application/json, text/plain", false),
            ("", false),
        ] {
            assert_eq!(is_json(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn a_batch_is_read_where_that_is_wanted() {
        let asked = Asked::read_all(&post(r#"[{"query":"{a}"},{"query":"{b}"}]"#)).unwrap();
        let documents: Vec<_> = asked.iter().map(|asked| asked.document.as_deref()).collect();
        assert_eq!(documents, [Some("{a}"), Some("{b}")]);
        assert_eq!(Asked::read_all(&post(r#"{"query":"{a}"}"#)).unwrap().len(), 1);
        assert_eq!(Asked::read_all(&post(r#"[{"query":"{a}"},1]"#)), Err(NOT_UNDERSTOOD));
        assert_eq!(Asked::read_all(&post("[[]]")), Err(NOT_UNDERSTOOD));
    }

    #[test]
    fn deep_and_huge_content_is_refused_or_read() {
        let deep = format!(r#"{{"query":"{{a}}","variables":{}"#, r#"{"a":"#.repeat(100_000));
        assert_eq!(shown(&post(&deep)), Err(NOT_UNDERSTOOD));
        let huge = format!(r#"{{"query":"{{a}}","variables":{{"a":"{}"}}}}"#, "x".repeat(1 << 20));
        assert!(shown(&post(&huge)).is_ok());
    }
}
