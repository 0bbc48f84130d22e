//! `GET /explain` and `POST /explain`: why a request is answered as it is. `gateway::explain` has the
//! shape of the answer.
//!
//! Who asks is read strictly: a field that was mistyped would explain another request.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::gateway::{Extent, Question};
use crate::octets;

use super::content::{Faults, Refused, cut};
use super::{Context, content, faulty, problem};

/// The longest URL or field, in octets.
const LONGEST: usize = 8192;

/// So much may come besides the content that is asked about.
const BESIDES: usize = 256 << 10;

/// So many fields a request may have.
const MOST_FIELDS: usize = 100;

const SO: &str = "nothing was explained";

/// What is asked, as far as it was read.
#[derive(Default)]
struct Asked {
    url: Option<String>,
    method: Option<Method>,
    fields: HeaderMap,
    content: Option<Bytes>,
    faults: Faults,
}

/// `GET /explain?url=…&method=…&field=…`.
pub(super) async fn by_parameters(State(context): State<Context>, uri: Uri) -> Response {
    let mut asked = Asked::default();
    let mut count = 0;
    for parameter in uri.query().into_iter().flat_map(|query| query.split('&')) {
        if parameter.is_empty() {
            continue;
        }
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let Ok(value) = percent_decode_str(value).decode_utf8() else {
            asked.faults.push(format!("the parameter `{}` is not UTF-8", cut(name)));
            continue;
        };
        match name {
            "url" => asked.take_url(&value),
            "method" => asked.take_method(&value),
            "field" => {
                asked.take_field("field", count, &value);
                count += 1;
            }
            _ => asked.faults.push(format!(
                "there is no parameter `{}` here; there are `url`, `method` and `field`",
                cut(name)
            )),
        }
    }
    answer(&context, asked, "write `?url=http://HOST/PATH`, percent-encoded").await
}

/// `POST /explain`, with the same as an object, and with the request's content:
/// `{"url": "…", "method": "…", "fields": ["Name: value"], "content": "…"}`.
pub(super) async fn by_content(State(context): State<Context>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if head.uri.query().is_some_and(|query| !query.is_empty()) {
        return problem(StatusCode::BAD_REQUEST, "there are no parameters beside a content");
    }
    let asked = context.current.gateway().longest_asked();
    // In JSON a text without control characters, or base64, is no more than twice as long.
    let most = BESIDES + 2 * asked;
    let too_long = format!(
        "the call did not come whole, or has more than {most} octets: no route reads more than {asked} of a \
         request's content (`max_query_body`)"
    );
    let body = match content::read(&head.headers, body, most, &too_long).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    match Asked::of_content(&body) {
        Ok(asked) => answer(&context, asked, "write `{\"url\": \"http://HOST/PATH\"}`").await,
        Err(refused) => refused.into_response(SO),
    }
}

impl Asked {
    fn of_content(content: &[u8]) -> Result<Self, Refused> {
        let mut asked = Self::default();
        for (name, value) in content::members(content, &mut asked.faults)? {
            match (name.as_str(), value) {
                ("url", Value::String(url)) => asked.take_url(&url),
                ("method", Value::String(method)) => asked.take_method(&method),
                ("content", Value::String(text)) => asked.take_content(text.into()),
                ("content_base64", Value::String(text)) => match STANDARD.decode(text) {
                    Ok(octets) => asked.take_content(octets.into()),
                    Err(error) => {
                        let fault = format!("`content_base64` is not base64, padded: {error}");
                        asked.faults.push(fault);
                    }
                },
                ("url" | "method" | "content" | "content_base64", _) => {
                    asked.faults.push(format!("`{name}` is not a string"));
                }
                ("fields", Value::Array(lines)) => {
                    // One that is too many is told of, and none behind it.
                    for (at, line) in lines.iter().enumerate().take(MOST_FIELDS + 1) {
                        match line {
                            Value::String(line) => asked.take_field("fields", at, line),
                            _ => asked.faults.push(format!("`fields[{at}]` is not a string")),
                        }
                    }
                }
                ("fields", _) => {
                    asked.faults.push("`fields` is not an array of strings".to_owned());
                }
                _ => asked.faults.push(format!(
                    "there is no member `{}`; there are `url`, `method`, `fields`, `content` and \
                     `content_base64`",
                    cut(&name)
                )),
            }
        }
        Ok(asked)
    }

    fn take_url(&mut self, url: &str) {
        if url.len() > LONGEST {
            self.faults.push(format!("`url` has more than {LONGEST} octets"));
        } else if self.url.replace(url.to_owned()).is_some() {
            self.faults.push("the parameter `url` stands twice".to_owned());
        }
    }

    fn take_method(&mut self, method: &str) {
        match method.parse() {
            Ok(_) if self.method.is_some() => {
                self.faults.push("the parameter `method` stands twice".to_owned());
            }
            Ok(method) => self.method = Some(method),
            Err(_) => self.faults.push("`method` is no method: write one such as `GET`".to_owned()),
        }
    }

    fn take_content(&mut self, content: Bytes) {
        if self.content.replace(content).is_some() {
            let fault = "`content` and `content_base64` are two contents: write one of them";
            self.faults.push(fault.to_owned());
        }
    }

    /// Takes the field at this place of a list.
    fn take_field(&mut self, list: &str, at: usize, line: &str) {
        let place = format!("{list}[{at}]");
        if at >= MOST_FIELDS {
            if at == MOST_FIELDS {
                self.faults.push(format!("`{place}` is one too many: there may be {MOST_FIELDS}"));
            }
            return;
        }
        if line.len() > LONGEST {
            return self.faults.push(format!("`{place}` has more than {LONGEST} octets"));
        }
        match octets::read_field(line) {
            Some((name, value)) => {
                self.fields.append(name, value);
            }
            None => self.faults.push(format!("`{place}` is no field: write `Name: value`")),
        }
    }
}

async fn answer(context: &Context, asked: Asked, hint: &str) -> Response {
    let Asked { url, method, fields, content, mut faults } = asked;
    let Some(url) = url.filter(|_| faults.is_empty()) else {
        if faults.is_empty() {
            faults.push(format!("`url` is missing: {hint}"));
        }
        return faulty(&faults.into_texts(), SO);
    };
    let question = Question { method: method.unwrap_or_default(), url, fields, content };
    match context.current.gateway().explain(&question, Extent::Whole).await {
        // It says what somebody's request would come to, at this moment.
        Ok(told) => ([(CACHE_CONTROL, "no-store")], Json(told)).into_response(),
        Err(why) => faulty(&[format!("`url` {why}")], SO),
    }
}
