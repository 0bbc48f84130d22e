//! What a policy declared to be shown, and the two forms of it: the WIT record for a call, and packed
//! octets for remembering. Both must hold the same; so they stand side by side.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, Method};
use serde::Serialize;
use serde_json::Value;

use super::bindings::invalidation::{self, Change};
use super::bindings::types::{self, Inputs, Pair, Parameter, Request, Response};
use super::failure::Failure;
use super::memo;
use super::text::{self, from_octets};
use super::values::Queries;
use super::{KeySpace, Operation, Seen, SeenChange, SeenResponse};
use crate::message::cookie;

/// How many names each list of `wants` may have.
const MOST_NAMES: usize = 32;

/// Stands for the length of what is not there.
const ABSENT: u32 = u32::MAX;

/// A checked `wants`.
pub(super) struct Wants {
    inputs: Inputs,
    fields: Vec<HeaderName>,
    cookies: Vec<String>,
    claims: Vec<String>,
    response_fields: Vec<HeaderName>,
    response_values: Queries,
    document_values: Queries,
}

/// What a policy asked to see, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Declared {
    /// Parts of requests: `method`, `scheme`, `authority`, `path`, `captures`, `query`, `content`.
    pub inputs: Vec<&'static str>,
    /// Request fields, in lower case.
    pub fields: Vec<String>,
    /// Cookies.
    pub cookies: Vec<String>,
    /// Claims.
    pub claims: Vec<String>,
    /// Response fields, in lower case.
    pub response_fields: Vec<String>,
    /// Queries into the content of responses.
    pub response_values: Vec<String>,
    /// Queries into changed documents.
    pub document_values: Vec<String>,
}

impl Declared {
    /// All names by what they are names of.
    pub fn names(&self) -> [(&'static str, &[String]); 6] {
        [
            ("field", &self.fields),
            ("cookie", &self.cookies),
            ("claim", &self.claims),
            ("response field", &self.response_fields),
            ("response value", &self.response_values),
            ("document value", &self.document_values),
        ]
    }
}

impl Wants {
    /// Whether the query is among them.
    pub(super) fn wants_query(&self) -> bool {
        self.wants(Inputs::QUERY)
    }

    /// The same for people.
    pub(super) fn declared(&self) -> Declared {
        let inputs = [
            (Inputs::METHOD, "method"),
            (Inputs::SCHEME, "scheme"),
            (Inputs::AUTHORITY, "authority"),
            (Inputs::PATH, "path"),
            (Inputs::CAPTURES, "captures"),
            (Inputs::QUERY, "query"),
            (Inputs::CONTENT, "content"),
        ];
        let inputs = inputs.into_iter().filter(|(input, _)| self.wants(*input));
        let names = |fields: &[HeaderName]| fields.iter().map(ToString::to_string).collect();
        Declared {
            inputs: inputs.map(|(_, name)| name).collect(),
            fields: names(&self.fields),
            cookies: self.cookies.clone(),
            claims: self.claims.clone(),
            response_fields: names(&self.response_fields),
            response_values: self.response_values.texts(),
            document_values: self.document_values.texts(),
        }
    }

    /// Checks what `configure` answered.
    pub(super) fn new(wants: types::Wants) -> Result<Self, Failure> {
        for names in [
            &wants.fields,
            &wants.cookies,
            &wants.claims,
            &wants.response_fields,
            &wants.response_values,
            &wants.document_values,
        ] {
            if names.len() > MOST_NAMES {
                return Err(Failure::Nonsense(format!(
                    "a list of `wants` has more than {MOST_NAMES} names"
                )));
            }
        }
        Ok(Self {
            inputs: wants.inputs,
            fields: field_names(&wants.fields)?,
            cookies: wants.cookies,
            claims: wants.claims,
            response_fields: field_names(&wants.response_fields)?,
            response_values: Queries::new("response-values", &wants.response_values)?,
            document_values: Queries::new("document-values", &wants.document_values)?,
        })
    }

    /// What the plugin is shown of a request. `method` is the one to show.
    pub(super) fn request(&self, seen: &Seen<'_>, method: &Method) -> Request {
        let shown = |input, part: &str| {
            if self.wants(input) { from_octets(part.as_bytes()) } else { String::new() }
        };
        Request {
            method: shown(Inputs::METHOD, method.as_str()),
            scheme: shown(Inputs::SCHEME, seen.scheme),
            authority: shown(Inputs::AUTHORITY, seen.authority),
            path: shown(Inputs::PATH, seen.path),
            captures: if self.wants(Inputs::CAPTURES) { captures(seen) } else { Vec::new() },
            query: if self.wants(Inputs::QUERY) { parameters(seen.query) } else { Vec::new() },
            fields: self.fields.iter().map(|name| value(seen.fields, name)).collect(),
            cookies: self
                .cookies
                .iter()
                .map(|name| cookie(seen.fields, name).map(from_octets))
                .collect(),
            claims: self
                .claims
                .iter()
                .map(|name| claim(seen.claims, name).map(Value::to_string))
                .collect(),
            content: seen.content.filter(|_| self.content()).map(<[u8]>::to_vec),
        }
    }

    /// What the plugin is shown of a response.
    pub(super) async fn response(&self, response: &SeenResponse<'_>) -> Response {
        let value = |name| value(response.fields, name);
        Response {
            status: response.status.as_u16(),
            fields: self.response_fields.iter().map(value).collect(),
            values: self.response_values.read(response).await,
        }
    }

    /// What the plugin is shown of a change.
    pub(super) async fn change(&self, change: &SeenChange<'_>) -> Change {
        Change {
            mongodb: change.mongodb.to_owned(),
            database: change.database.to_owned(),
            collection: change.collection.to_owned(),
            operation: match change.operation {
                Operation::Insert => invalidation::Operation::Insert,
                Operation::Update => invalidation::Operation::Update,
                Operation::Replace => invalidation::Operation::Replace,
                Operation::Delete => invalidation::Operation::Delete,
                Operation::Drop => invalidation::Operation::Drop,
            },
            id: change.id.to_owned(),
            after: self.document_values.read_document(change.after.clone()).await,
            before: self.document_values.read_document(change.before.clone()).await,
        }
    }

    /// Appends everything that the answer of `key` depends on: the host's own parts, then all that
    /// [`request`](Self::request) shows. Each part follows its length, so different inputs never
    /// run into the same octets.
    pub(super) fn pack(&self, space: KeySpace<'_>, seen: &Seen<'_>, packed: &mut Vec<u8>) {
        for own in [space.namespace, space.route, seen.authority] {
            put(packed, own.as_bytes());
        }
        if space.forwards_keyed {
            put(packed, seen.path.as_bytes());
        }
        for (input, part) in [
            (Inputs::METHOD, shown_by_key(seen.method).as_str()),
            (Inputs::SCHEME, seen.scheme),
            (Inputs::PATH, seen.path),
        ] {
            if self.wants(input) {
                put(packed, part.as_bytes());
            }
        }
        if self.wants(Inputs::CAPTURES) {
            packed.extend(u32::try_from(seen.captures.len()).unwrap_or(ABSENT).to_le_bytes());
            for (name, value) in seen.captures {
                put(packed, name.as_bytes());
                put(packed, value.as_bytes());
            }
        }
        if self.wants(Inputs::QUERY) {
            put_optional(packed, seen.query.map(str::as_bytes));
        }
        for name in &self.fields {
            put_field(packed, seen.fields, name);
        }
        for name in &self.cookies {
            put_optional(packed, cookie(seen.fields, name));
        }
        for name in &self.claims {
            put_claim(packed, claim(seen.claims, name));
        }
        if self.content() {
            // What is too long to be remembered need not be copied to be found out.
            let content = seen.content.map(|octets| octets.get(..=memo::LONGEST).unwrap_or(octets));
            put_optional(packed, content);
        }
    }

    /// The names of the request fields.
    pub(super) fn fields(&self) -> &[HeaderName] {
        &self.fields
    }

    /// The names of the cookies.
    pub(super) fn cookies(&self) -> &[String] {
        &self.cookies
    }

    /// Whether it wants claims of a token.
    pub(super) fn claims(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Whether one that it wants is among these.
    pub(super) fn finds_a_claim(&self, claims: &Value) -> bool {
        let mut found = self.claims.iter().filter_map(|name| claim(Some(claims), name));
        found.any(|value| !value.is_null())
    }

    /// Whether it wants what the path captured.
    pub(super) fn captures(&self) -> bool {
        self.wants(Inputs::CAPTURES)
    }

    /// Whether it wants the request's content.
    pub(super) fn content(&self) -> bool {
        self.wants(Inputs::CONTENT)
    }

    /// Whether it wants values of a response's content.
    pub(super) fn response_values(&self) -> bool {
        !self.response_values.is_empty()
    }

    /// Whether it wants values of documents that changed.
    pub(super) fn documents(&self) -> bool {
        !self.document_values.is_empty()
    }

    fn wants(&self, input: Inputs) -> bool {
        self.inputs & input == input
    }
}

/// A member of a token's claims, or what a JSON Pointer finds.
fn claim<'a>(claims: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { claims?.pointer(name) } else { claims?.get(name) }
}

/// `HEAD` is answered from what `GET` stored.
pub(super) fn shown_by_key(method: &Method) -> &Method {
    if method == Method::HEAD { &Method::GET } else { method }
}

fn field_names(names: &[String]) -> Result<Vec<HeaderName>, Failure> {
    let parsed = names.iter().map(|name| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            Failure::Nonsense(format!("no field name: `{}`", text::printable(name, 64)))
        })
    });
    parsed.collect()
}

fn captures(seen: &Seen<'_>) -> Vec<Pair> {
    let pair = |&(name, value): &(&str, &str)| Pair {
        name: name.to_owned(),
        value: from_octets(value.as_bytes()),
    };
    seen.captures.iter().map(pair).collect()
}

/// Split at `&` and nowhere else: joined again, it is the query.
fn parameters(query: Option<&str>) -> Vec<Parameter> {
    let parameter = |raw: &str| match raw.split_once('=') {
        None => Parameter { name: from_octets(raw.as_bytes()), value: None },
        Some((name, value)) => Parameter {
            name: from_octets(name.as_bytes()),
            value: Some(from_octets(value.as_bytes())),
        },
    };
    query.into_iter().flat_map(|query| query.split('&')).map(parameter).collect()
}

/// What stands between the lines of a field that are joined (RFC 9110 §5.3). Those of `Cookie` are
/// pieces of one list, as HTTP/2 and HTTP/3 may send it (RFC 9113 §8.2.3): so the upstream gets it, too.
fn separator(name: &HeaderName) -> &'static str {
    if *name == COOKIE { "; " } else { ", " }
}

/// The lines of a field, joined.
fn value(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = fields.get_all(name).iter();
    let mut joined = from_octets(lines.next()?.as_bytes());
    for line in lines {
        joined.push_str(separator(name));
        joined.push_str(&from_octets(line.as_bytes()));
    }
    Some(joined)
}

fn put(packed: &mut Vec<u8>, part: &[u8]) {
    packed.extend_from_slice(&length(part.len()));
    packed.extend_from_slice(part);
}

fn put_optional(packed: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => packed.extend_from_slice(&ABSENT.to_le_bytes()),
        Some(part) => put(packed, part),
    }
}

/// As it is shown, without a string of its own.
fn put_claim(packed: &mut Vec<u8>, claim: Option<&Value>) {
    let Some(claim) = claim else { return put_optional(packed, None) };
    let place = packed.len();
    put(packed, b"");
    let start = packed.len();
    serde_json::to_writer(&mut *packed, claim).expect("memory takes it, and its keys are strings");
    let whole = length(packed.len() - start);
    packed.splice(place..start, whole);
}

/// As [`value`], without a string.
fn put_field(packed: &mut Vec<u8>, fields: &HeaderMap, name: &HeaderName) {
    let mut lines = fields.get_all(name).iter();
    let Some(first) = lines.next() else { return put_optional(packed, None) };
    let place = packed.len();
    put(packed, first.as_bytes());
    let mut more = 0;
    for line in lines {
        let separator = separator(name);
        packed.extend_from_slice(separator.as_bytes());
        packed.extend_from_slice(line.as_bytes());
        more += separator.len() + line.len();
    }
    if more > 0 {
        let whole = length(first.len() + more);
        packed.splice(place..place + whole.len(), whole);
    }
}

/// A request head is far below 4 GiB.
fn length(octets: usize) -> [u8; 4] {
    u32::try_from(octets).unwrap_or(ABSENT - 1).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let line = |&(name, value): &(&'static str, &'static [u8])| {
            (HeaderName::from_static(name), http::HeaderValue::from_bytes(value).unwrap())
        };
        lines.iter().map(line).fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    fn nothing() -> types::Wants {
        types::Wants {
            inputs: Inputs::empty(),
            fields: Vec::new(),
            cookies: Vec::new(),
            claims: Vec::new(),
            response_fields: Vec::new(),
            response_values: Vec::new(),
            document_values: Vec::new(),
        }
    }

    fn all() -> Wants {
        Wants::new(types::Wants {
            inputs: Inputs::all(),
            fields: vec!["Accept-Language".to_owned(), "x-a".to_owned()],
            cookies: vec!["id".to_owned()],
            claims: vec!["sub".to_owned()],
            ..nothing()
        })
        .unwrap()
    }

    fn seen<'a>(query: Option<&'a str>, fields: &'a HeaderMap) -> Seen<'a> {
        Seen {
            method: &Method::HEAD,
            scheme: "https",
            authority: "a.example",
            path: "/users/42",
            query,
            captures: &[("id", "42")],
            fields,
            claims: None,
            content: Some(b"\xff"),
        }
    }

    #[test]
    fn claims_are_json_and_two_that_differ_are_told_apart() {
        let claims = ["sub".to_owned(), "/a~1b/0".to_owned(), "a/b".to_owned()].into();
        let wants = Wants::new(types::Wants { claims, ..nothing() }).unwrap();
        let head = fields(&[]);
        let space = KeySpace { namespace: "n", route: "r", forwards_keyed: false };
        let mut known = Vec::new();
        for (token, expected) in [
            (r#"{"sub": "1"}"#, [Some("\"1\""), None, None]),
            (r#"{"sub": 1}"#, [Some("1"), None, None]),
            (r#"{"sub": null}"#, [Some("null"), None, None]),
            ("{}", [None, None, None]),
            (r#"{"a/b": [ 1, {"c" : 2} ]}"#, [None, Some("1"), Some(r#"[1,{"c":2}]"#)]),
            (r#"{"sub": "", "a/b": ["1"]}"#, [Some("\"\""), Some("\"1\""), Some(r#"["1"]"#)]),
        ] {
            let token: Value = serde_json::from_str(token).unwrap();
            let seen = Seen { claims: Some(&token), ..seen(None, &head) };
            let shown = wants.request(&seen, &Method::GET).claims;
            assert_eq!(shown, expected.map(|claim| claim.map(str::to_owned)), "{token}");
            let mut packed = Vec::new();
            wants.pack(space, &seen, &mut packed);
            assert!(!known.contains(&packed), "{token}");
            known.push(packed);
        }
    }

    #[test]
    fn a_request_is_shown_octet_by_octet() {
        let fields = fields(&[
            ("accept-language", b"de"),
            ("accept-language", b"\xe9"),
            ("cookie", b"sid=1; id=2;id=3"),
        ]);
        let seen = seen(Some("a&b=&c=1=2&&%C3"), &fields);
        let request = all().request(&seen, shown_by_key(seen.method));
        assert_eq!(request.method, "GET");
        assert_eq!(request.fields, [Some("de, \u{e9}".to_owned()), None]);
        assert_eq!(request.cookies, [Some("2".to_owned())]);
        assert_eq!(request.claims, [None]);
        assert_eq!(request.content.as_deref(), Some(&b"\xff"[..]));
        let query: Vec<_> =
            request.query.iter().map(|p| (p.name.as_str(), p.value.as_deref())).collect();
        assert_eq!(
            query,
            [("a", None), ("b", Some("")), ("c", Some("1=2")), ("", None), ("%C3", None)]
        );
    }

    #[test]
    fn what_is_not_wanted_is_not_shown() {
        let none = Wants::new(nothing()).unwrap();
        let fields = fields(&[("cookie", b"id=2")]);
        let request = none.request(&seen(Some("a"), &fields), &Method::GET);
        let texts = [request.method, request.scheme, request.authority, request.path];
        assert!(texts.iter().all(String::is_empty));
        assert!(request.query.is_empty() && request.captures.is_empty());
        assert!(request.fields.is_empty() && request.cookies.is_empty());
        assert!(request.claims.is_empty() && request.content.is_none());
    }

    #[test]
    fn different_inputs_pack_differently() {
        let heads = [
            fields(&[]),
            fields(&[("x-a", b"")]),
            fields(&[("x-a", b"1"), ("x-a", b"2")]),
            fields(&[("x-a", b"1,2")]),
            fields(&[("accept-language", b"1, 2")]),
            fields(&[("cookie", b"id=")]),
            fields(&[("cookie", b"id")]),
        ];
        let mut all_packed = Vec::new();
        for head in &heads {
            for query in [None, Some(""), Some("a"), Some("a=")] {
                let mut packed = Vec::new();
                let space = KeySpace { namespace: "n", route: "r", forwards_keyed: false };
                all().pack(space, &seen(query, head), &mut packed);
                all_packed.push(packed);
            }
        }
        let whole = all_packed.len();
        all_packed.sort();
        all_packed.dedup();
        // `id` without `=` is no cookie, so that head is the same as the first.
        assert_eq!(all_packed.len(), whole - 4);
    }

    #[test]
    fn joined_lines_pack_as_they_are_shown() {
        let space = KeySpace { namespace: "n", route: "r", forwards_keyed: false };
        let [mut lines, mut line] = [Vec::new(), Vec::new()];
        all().pack(space, &seen(None, &fields(&[("x-a", b"1"), ("x-a", b"2")])), &mut lines);
        all().pack(space, &seen(None, &fields(&[("x-a", b"1, 2")])), &mut line);
        assert_eq!(lines, line);
    }

    #[test]
    fn lines_of_cookies_are_one_list() {
        let names = vec!["cookie".to_owned()];
        let wants = Wants::new(types::Wants { fields: names, ..nothing() }).unwrap();
        let space = KeySpace { namespace: "n", route: "r", forwards_keyed: false };
        let of = |lines: &[(&'static str, &'static [u8])]| {
            let (head, mut packed) = (fields(lines), Vec::new());
            let seen = seen(None, &head);
            wants.pack(space, &seen, &mut packed);
            (wants.request(&seen, &Method::GET).fields, packed)
        };
        let (shown, crumbs) = of(&[("cookie", b"a=1"), ("cookie", b"b=2")]);
        assert_eq!(shown, [Some("a=1; b=2".to_owned())]);
        assert_eq!(crumbs, of(&[("cookie", b"a=1; b=2")]).1);
        assert_ne!(crumbs, of(&[("cookie", b"a=1, b=2")]).1);
    }

    #[test]
    fn content_packs_unless_it_is_too_long_to_be_remembered() {
        let space = KeySpace { namespace: "n", route: "r", forwards_keyed: false };
        let head = fields(&[]);
        let packed = |content: Option<&[u8]>| {
            let mut packed = Vec::new();
            all().pack(space, &Seen { content, ..seen(None, &head) }, &mut packed);
            packed
        };
        assert_ne!(packed(None), packed(Some(b"")));
        assert_ne!(packed(Some(b"a")), packed(Some(b"b")));
        let long = packed(Some(&[b'a'; 2 * memo::LONGEST])).len();
        assert!(long > memo::LONGEST && long < 2 * memo::LONGEST, "{long}");
    }

    #[test]
    fn names_are_checked() {
        let most = |name: &str, count| vec![name.to_owned(); count];
        for wants in [
            types::Wants { fields: most("a b", 1), ..nothing() },
            types::Wants { response_fields: most("a b", 1), ..nothing() },
            types::Wants { response_values: most("a b", 1), ..nothing() },
            types::Wants { document_values: most("a b", 1), ..nothing() },
        ] {
            assert!(Wants::new(wants).is_err());
        }
        for (count, holds) in [(32, true), (33, false)] {
            for wants in [
                types::Wants { fields: most("a", count), ..nothing() },
                types::Wants { cookies: most("a", count), ..nothing() },
                types::Wants { claims: most("a", count), ..nothing() },
                types::Wants { response_fields: most("a", count), ..nothing() },
                types::Wants { response_values: most("$.a", count), ..nothing() },
                types::Wants { document_values: most("$.a", count), ..nothing() },
            ] {
                assert_eq!(Wants::new(wants).is_ok(), holds, "{count} names");
            }
        }
    }
}
