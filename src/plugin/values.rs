//! Values out of JSON, by the queries that a policy declared (RFC 9535).
//!
//! The queries are a plugin's and the documents an upstream's: neither is trusted to be cheap. A
//! query's form is limited so that what it visits grows with the document and no faster; a document's
//! size, depth and number of values are limited; and what takes longer than a moment is done on
//! threads that serve no requests, a few documents at once.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use serde_json::Value;
use serde_json_path::JsonPath;
use tokio::sync::Semaphore;

use super::SeenResponse;
use super::failure::Failure;
use super::text::printable;
use crate::semantics::{self, JsonCoding};

/// How long a query may be, in octets.
const LONGEST_QUERY: usize = 256;

// What one query may have of what multiplies its work.
const MOST_DESCENTS: usize = 1;
const MOST_COMMAS: usize = 4;
const MOST_PARENTHESES: usize = 8;
const MOST_CURRENTS: usize = 8;

/// How many values a document may have: each takes far more memory than its text.
const MOST_IN_DOCUMENT: usize = 1 << 18;

/// How many values are shown, and how many octets of text.
const MOST_SHOWN: usize = 1024;
const LONGEST_SHOWN: usize = 64 << 10;

/// Content up to here is read where it was met, as a rule in a fraction of a millisecond; in all for up to four queries.
const LONGEST_AT_ONCE: usize = 64 << 10;

/// How many larger documents are in memory at once.
static LARGE: Semaphore = Semaphore::const_new(2);

/// For each query the values that it selects, as JSON.
pub(super) type Shown = Vec<Vec<String>>;

/// The queries of one list of `wants`.
#[derive(Clone)]
pub(super) struct Queries(Arc<[JsonPath]>);

impl Queries {
    /// Parses the queries of the list `list`.
    pub(super) fn new(list: &str, queries: &[String]) -> Result<Self, Failure> {
        let parsed = queries.iter().map(|query| {
            parse(query).map_err(|why| {
                let shown = printable(query, LONGEST_QUERY);
                Failure::Nonsense(format!("`{list}` has `{shown}`: {why}"))
            })
        });
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The queries as they were written, more or less.
    pub(super) fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// What the queries select in a response's content.
    pub(super) async fn read(&self, response: &SeenResponse<'_>) -> Option<Shown> {
        if self.is_empty() {
            return None;
        }
        let content = response.content.clone()?;
        let coding = semantics::json_coding(response.fields)?;
        let longest = response.longest;
        let is_short =
            content.len() <= LONGEST_AT_ONCE && content.len() * self.0.len() <= 4 * LONGEST_AT_ONCE;
        if coding == JsonCoding::None && is_short {
            return self.select(&content, coding, longest);
        }
        let queries = self.clone();
        apart(move || queries.select(&content, coding, longest)).await
    }

    /// What the queries select in a document.
    pub(super) async fn read_document(&self, document: Option<Arc<Value>>) -> Option<Shown> {
        let document = document.filter(|_| !self.is_empty())?;
        let queries = self.clone();
        apart(move || queries.shown(&document)).await
    }

    fn select(&self, content: &Bytes, coding: JsonCoding, longest: usize) -> Option<Shown> {
        let decoded = match coding {
            JsonCoding::None => content.clone(),
            JsonCoding::Gzip => gunzip(content, longest)?,
        };
        if !has_few_values(&decoded) {
            return None;
        }
        self.shown(&serde_json::from_slice(&decoded).ok()?)
    }

    fn shown(&self, document: &Value) -> Option<Shown> {
        let (mut count, mut octets) = (0, 0);
        let mut all = Vec::with_capacity(self.0.len());
        for query in &*self.0 {
            let selected = query.query(document);
            count += selected.len();
            if count > MOST_SHOWN {
                return None;
            }
            let mut texts = Vec::with_capacity(selected.len());
            for value in selected {
                let text = short_text(value, LONGEST_SHOWN - octets)?;
                octets += text.len();
                texts.push(text);
            }
            all.push(texts);
        }
        Some(all)
    }
}

/// Runs it on a thread that serves no requests.
async fn apart(work: impl FnOnce() -> Option<Shown> + Send + 'static) -> Option<Shown> {
    let permit = LARGE.acquire().await.ok()?;
    let shown = tokio::task::spawn_blocking(move || {
        let shown = work();
        drop(permit);
        shown
    });
    shown.await.ok().flatten()
}

fn parse(query: &str) -> Result<JsonPath, String> {
    if query.len() > LONGEST_QUERY {
        return Err(format!("it has more than {LONGEST_QUERY} octets"));
    }
    check_form(query)?;
    JsonPath::parse(query).map_err(|error| error.to_string())
}

/// What a query may not do, so that its work grows with the document, times how deep that is, and no
/// faster: descend within what it has descended into, multiply what it selects, or begin from the root at
/// each value.
fn check_form(query: &str) -> Result<(), String> {
    let (mut descents, mut commas, mut parentheses, mut currents) = (0, 0, 0, 0);
    let mut quote = None;
    let mut octets = query.bytes().enumerate().peekable();
    while let Some((at, octet)) = octets.next() {
        match (quote, octet) {
            (Some(_), b'\\') => {
                octets.next();
            }
            (Some(open), _) => quote = quote.filter(|_| open != octet),
            (None, b'\'' | b'"') => quote = Some(octet),
            (None, b'.') => {
                if octets.next_if(|(_, next)| *next == b'.').is_some() {
                    descents += 1;
                }
            }
            (None, b',') => commas += 1,
            (None, b'(') => parentheses += 1,
            (None, b'@') => currents += 1,
            (None, b'$') if at > 0 => return Err("`$` may stand at the beginning alone".to_owned()),
            (None, _) => {}
        }
    }
    for (what, count, most) in [
        ("..", descents, MOST_DESCENTS),
        (",", commas, MOST_COMMAS),
        ("(", parentheses, MOST_PARENTHESES),
        ("@", currents, MOST_CURRENTS),
    ] {
        if count > most {
            return Err(format!("it has more than {most} `{what}`"));
        }
    }
    Ok(())
}

/// The content, unless it is damaged or longer than so many octets.
fn gunzip(content: &[u8], longest: usize) -> Option<Bytes> {
    let mut decoded = Vec::new();
    let limit = longest as u64 + 1;
    MultiGzDecoder::new(content).take(limit).read_to_end(&mut decoded).ok()?;
    (decoded.len() <= longest).then(|| decoded.into())
}

/// Whether JSON has so few values that it can be held in memory; more exactly, whether what begins
/// a value or follows one is as rare. Of what is no JSON it may say anything.
fn has_few_values(json: &[u8]) -> bool {
    let mut count = 1;
    let mut octets = json.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'"' => {
                while let Some(octet) = octets.next() {
                    match octet {
                        b'\\' => {
                            octets.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'[' | b'{' | b',' => count += 1,
            _ => {}
        }
    }
    count <= MOST_IN_DOCUMENT
}

/// A value's text, if it has at most so many octets.
fn short_text(value: &Value, longest: usize) -> Option<String> {
    let mut text = Short { text: Vec::new(), longest };
    serde_json::to_writer(&mut text, value).ok()?;
    String::from_utf8(text.text).ok()
}

/// Takes a text up to its limit, so that a large one is not made whole only to be refused.
struct Short {
    text: Vec<u8>,
    longest: usize,
}

impl std::io::Write for Short {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + octets.len() > self.longest {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;

    fn queries(queries: &[&str]) -> Queries {
        let queries: Vec<_> = queries.iter().map(|query| (*query).to_owned()).collect();
        Queries::new("response-values", &queries).unwrap()
    }

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    async fn read(
        query: &str,
        fields: &HeaderMap,
        content: &[u8],
        longest: usize,
    ) -> Option<Shown> {
        let content = Some(Bytes::copy_from_slice(content));
        let response = SeenResponse { status: StatusCode::OK, fields, content, longest };
        queries(&[query]).read(&response).await
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn values_keep_their_type() {
        let document = r#" { "a" : [ 1, 1.0, "1", null, true, {"b": [1, 2], "a": "\u0061\n"} ] } "#;
        let document = serde_json::from_str(document).unwrap();
        for (query, expected) in [
            ("$.a[0]", &["1"][..]),
            ("$.a[1]", &["1.0"]),
            ("$.a[2]", &["\"1\""]),
            ("$.a[3,4]", &["null", "true"]),
            ("$.a[5]", &[r#"{"a":"a\n","b":[1,2]}"#]),
            ("$..b[*]", &["1", "2"]),
            ("$.a[?@.b].a", &[r#""a\n""#]),
            ("$.c", &[]),
        ] {
            assert_eq!(queries(&[query]).shown(&document).unwrap(), [expected], "{query}");
        }
        let both = queries(&["$.c", "$.a[0]"]).shown(&document);
        assert_eq!(both, Some(vec![vec![], vec!["1".to_owned()]]), "one list for each");
    }

    #[test]
    fn numbers_of_64_bits_stay_different() {
        for text in [
            "18446744073709551615",
            "18446744073709551614",
            "-9223372036854775808",
            "9007199254740993",
            "0.1",
            "0.10000000000000002",
            "1.7976931348623157e+308",
        ] {
            let document = serde_json::from_str(text).unwrap();
            assert_eq!(queries(&["$"]).shown(&document).unwrap(), [[text]]);
        }
    }

    #[test]
    fn a_query_that_could_be_costly_is_refused() {
        let long = format!("$.{}", "a".repeat(255));
        for (query, why) in [
            ("$..a..b", "it has more than 1 `..`"),
            ("$[*,*,*,*,*,*]", "it has more than 4 `,`"),
            ("$[?(((((((((@.a)))))))))]", "it has more than 8 `(`"),
            ("$..[?@==@&&@==@&&@==@&&@==@&&@!=@]", "it has more than 8 `@`"),
            ("$[?@.a == $.b]", "`$` may stand at the beginning alone"),
            ("$[?match(@.a, 'b')]", "at position"),
            ("a", "at position"),
            ("", "at position"),
            (&long, "it has more than 256 octets"),
        ] {
            let text = Queries::new("response-values", &[query.to_owned()]).err().unwrap();
            let text = text.to_string();
            let named = format!("`response-values` has `{}`: ", printable(query, LONGEST_QUERY));
            assert!(text.contains(&named) && text.contains(why), "{text}");
        }
        for query in ["$['..', '$,,,,,((((((((((', \"'..$\", 'a\\'..']..b", "$[?count(@.*) > 1]"] {
            parse(query).unwrap();
        }
    }

    #[tokio::test]
    async fn only_json_that_can_be_read_has_values() {
        let json = ("content-type", "application/json");
        let gzipped = ("content-encoding", "gzip");
        let deep = |levels: usize| [b"[".repeat(levels), b"]".repeat(levels)].concat();
        let many = |count: usize| [b"[0", &b",0".repeat(count - 2)[..], b"]"].concat();
        let zeroes = many(1 << 12);
        for (lines, content, holds, why) in [
            (&[json][..], &b"{}"[..], true, "an object"),
            (
                &[("content-type", "application/problem+json; charset=utf-8")],
                b"1",
                true,
                "a scalar",
            ),
            (&[("content-type", "text/html")], b"{}", false, "no JSON by its type"),
            (&[], b"{}", false, "no type"),
            (&[json], b"{", false, "damaged"),
            (&[json], b"", false, "nothing"),
            (&[json], b"\"\xff\"", false, "no UTF-8"),
            (&[json], &deep(127), true, "deep"),
            (&[json], &deep(128), false, "too deep"),
            (&[json], &many(1 << 18), true, "many values"),
            (&[json], &many((1 << 18) + 1), false, "too many values"),
            (&[json, gzipped], &gzip(b"{}"), true, "in gzip"),
            (&[json, gzipped], &gzip(b"{}")[..8], false, "damaged gzip"),
            (&[json, gzipped], b"{}", false, "no gzip"),
            (&[json, gzipped], &gzip(&zeroes), true, "as long as may be"),
            (&[json, gzipped], &gzip(&many((1 << 12) + 1)), false, "longer, once it is decoded"),
            (&[json, ("content-encoding", "br")], b"{}", false, "another coding"),
        ] {
            let longest = zeroes.len();
            let shown = read("$[0]", &fields(lines), content, longest).await;
            assert_eq!(shown.is_some(), holds, "{why}");
        }
    }

    #[tokio::test]
    async fn what_is_shown_has_bounds() {
        let json = fields(&[("content-type", "application/json")]);
        for (query, content, holds, why) in [
            ("$[*]", format!("[0{}]", ",0".repeat(1023)), true, "1024 values"),
            ("$[*]", format!("[0{}]", ",0".repeat(1024)), false, "one more"),
            ("$", format!("\"{}\"", "a".repeat((64 << 10) - 2)), true, "64 KiB of text"),
            ("$", format!("\"{}\"", "a".repeat((64 << 10) - 1)), false, "one octet more"),
            (
                "$[*]",
                format!("[{0},{0}]", format_args!("\"{}\"", "a".repeat(32 << 10))),
                false,
                "together",
            ),
        ] {
            let shown = read(query, &json, content.as_bytes(), 1 << 20).await;
            assert_eq!(shown.is_some(), holds, "{why}");
        }
    }
}
