//! A client that asks one gateway for pages, and reads from the answers whether they are stored.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use crate::semantics::Told;
use crate::telemetry::with_causes;

use super::gateway::{Connector, Gateway, NotConnected};
use super::page::{Page, user_agent};

/// A whole answer takes no longer. The gateway has time limits of its own, which are shorter as a rule.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The longest problem (RFC 9457) that is read.
const MAX_PROBLEM: usize = 4 << 10;

/// Asks one gateway. Clones share its connections.
#[derive(Clone)]
pub struct Asker {
    client: Client<Connector, Empty<Bytes>>,
    gateway: Gateway,
    fields: HeaderMap,
}

/// What is told of an answer that says neither what a cache did nor what is wrong.
pub const NO_GATEWAY: &str = "no `Cache-Status` of a gateway";

/// What has become of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was fetched, and is stored.
    Stored,
    /// It was stored.
    Hit,
    /// It is not, and why.
    NotWarmed(String),
}

/// No connection to the gateway was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer of `{listener}`: {why}")]
pub struct OutOfReach {
    listener: String,
    why: String,
}

/// Why there was no whole answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nor will there be one to the next request.
    #[error(transparent)]
    OutOfReach(OutOfReach),
    #[error("{0}")]
    Broken(String),
}

impl Asker {
    /// Asks this gateway. Each request has these fields.
    pub fn new(
        gateway: Gateway,
        fields: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
    ) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.pool_timer(TokioTimer::new()).build(Connector(gateway.clone()));
        let mut asker = Self { client, gateway, fields: HeaderMap::new() };
        for (name, value) in fields {
            asker.fields.append(name, value);
        }
        let (name, value) = user_agent();
        asker.fields.entry(name).or_insert(value);
        asker
    }

    /// Asks for a page, takes the whole answer, and says what it tells.
    ///
    /// # Errors
    /// The gateway is out of reach.
    pub async fn ask(&self, page: &Page) -> Result<Answer, OutOfReach> {
        let exchange = async {
            let response = self.send(page, &self.fields).await?;
            let (head, mut body) = response.into_parts();
            let mut problem = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| broken(&error))?;
                // Whatever it is, it is taken: only what has come whole is stored.
                if let Some(data) = frame.data_ref().filter(|_| is_problem(&head.headers))
                    && problem.len() + data.len() <= MAX_PROBLEM
                {
                    problem.extend_from_slice(data);
                }
            }
            Ok(judge(head.status, &head.headers, &problem))
        };
        match within(exchange).await {
            Ok(answer) => Ok(answer),
            Err(Failure::OutOfReach(error)) => Err(error),
            Err(Failure::Broken(why)) => Ok(Answer::NotWarmed(why)),
        }
    }

    /// The content of a page, as it is and at most so long.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn content(&self, page: &Page, most: usize) -> Result<Bytes, Failure> {
        let exchange = async {
            let mut fields = self.fields.clone();
            fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let response = self.send(page, &fields).await?;
            if response.status() != StatusCode::OK {
                return Err(Failure::Broken(response.status().as_str().to_owned()));
            }
            let mut body = response.into_body();
            let mut content = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| broken(&error))?;
                content.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
                if content.len() > most {
                    return Err(Failure::Broken(format!("it has more than {most} octets")));
                }
            }
            Ok(content.freeze())
        };
        within(exchange).await
    }

    async fn send(&self, page: &Page, fields: &HeaderMap) -> Result<Response<Incoming>, Failure> {
        let uri = self.gateway.uri(page).map_err(|error| Failure::Broken(error.to_string()))?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        request.headers_mut().clone_from(fields);
        request.headers_mut().insert(HOST, page.host.clone());
        self.client.request(request).await.map_err(|error| {
            let why = with_causes(&error);
            if error.is_connect() && !is_of_host(&error) {
                Failure::OutOfReach(OutOfReach { listener: self.gateway.listener(&uri), why })
            } else {
                Failure::Broken(why)
            }
        })
    }
}

/// Whether another page may fare better.
fn is_of_host(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(|it| matches!(it.downcast_ref(), Some(NotConnected::Handshake(_))))
}

async fn within<T>(exchange: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let none = || Failure::Broken(format!("no whole answer within {} s", TIMEOUT.as_secs()));
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(none()))
}

fn broken(error: &hyper::Error) -> Failure {
    Failure::Broken(format!("the answer broke off: {}", with_causes(error)))
}

fn is_problem(fields: &HeaderMap) -> bool {
    fields.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json")
}

/// What an answer tells. That an error is stored warms nothing that anybody wants.
fn judge(status: StatusCode, fields: &HeaderMap, problem: &[u8]) -> Answer {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let told = Told::of(fields);
    let is_error = status.is_client_error() || status.is_server_error();
    match &told {
        Some(told) if !is_error && told.is_hit() => return Answer::Hit,
        Some(told) if !is_error && told.is_stored() => return Answer::Stored,
        _ => {}
    }
    let problem: Option<Problem> = serde_json::from_slice(problem).ok();
    let why = match (problem, told) {
        (Some(Problem { detail }), _) => detail,
        (None, Some(told)) => told.to_string(),
        (None, None) => NO_GATEWAY.to_owned(),
    };
    Answer::NotWarmed(if is_error { format!("{}: {why}", status.as_u16()) } else { why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_tells() {
        let not = |why: &str| Answer::NotWarmed(why.to_owned());
        for (status, told, problem, expected) in [
            (200, Some("larder; fwd=uri-miss; stored"), "", Answer::Stored),
            (301, Some("larder; fwd=uri-miss; stored"), "", Answer::Stored),
            (200, Some("larder; fwd=stale; fwd-status=304; stored"), "", Answer::Stored),
            (200, Some("larder; fwd=uri-miss; collapsed"), "", Answer::Stored),
            (200, Some("larder; hit; ttl=42"), "", Answer::Hit),
            (
                200,
                Some("larder; fwd=uri-miss; detail=private"),
                "",
                not("fwd=uri-miss; detail=private"),
            ),
            (404, Some("larder; fwd=uri-miss; stored"), "", not("404: fwd=uri-miss; stored")),
            (404, Some("larder; hit; ttl=42"), "", not("404: hit; ttl=42")),
            (404, None, r#"{"detail":"no route"}"#, not("404: no route")),
            (
                502,
                Some("larder; fwd=uri-miss"),
                r#"{"detail":"it refused"}"#,
                not("502: it refused"),
            ),
            (502, Some("larder; fwd=uri-miss"), "{", not("502: fwd=uri-miss")),
            (200, None, "", not("no `Cache-Status` of a gateway")),
            (200, Some("other; hit"), "", not("no `Cache-Status` of a gateway")),
        ] {
            let mut fields = HeaderMap::new();
            if let Some(told) = told {
                fields.insert("cache-status", HeaderValue::from_static(told));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, &fields, problem.as_bytes()), expected, "{status} {told:?}");
        }
    }
}
