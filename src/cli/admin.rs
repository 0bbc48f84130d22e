//! Calls to a gateway's admin listener.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{self, Faults};
use crate::telemetry::with_causes;

use super::{Exit, listener, raw, runtime, say, shown};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// So long an answer may take, besides what it is to wait.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The answer has a line for each gateway, or for each URL.
const MAX_ANSWER: usize = 8 << 20;

/// Where one listens that runs with the defaults.
pub(super) const USUAL: &str = "http://127.0.0.1:9080";

/// Whom to call.
#[derive(Debug, Args)]
pub(super) struct Admin {
    /// Where the gateway listens for operators.
    #[arg(long, value_name = "URL", default_value = USUAL, value_parser = listener)]
    admin: Uri,

    /// A file with the token of `[admin]`, instead of the variable `LARDER_ADMIN_TOKEN`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Whom to ask for figures, and how to print them.
#[derive(Debug, Args)]
pub(super) struct Asked {
    #[command(flatten)]
    admin: Admin,

    /// Print the gateway's answer as it came.
    #[arg(long)]
    json: bool,
}

/// Why nothing became of a call (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    faults: Vec<String>,
}

impl Asked {
    /// Prints the answer to a `GET`: as it came, or by `text`, which knows none of an answer of another
    /// server.
    pub(super) fn print(
        &self,
        call: &str,
        text: fn(&Value) -> Option<String>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Exit {
        let content = match self.admin.get(call, Duration::ZERO) {
            Err((exit, why)) => return say(err, exit, &why),
            Ok(content) => content,
        };
        let told = serde_json::from_slice(&content).ok();
        match told.as_ref().and_then(text) {
            None => say(err, Exit::Failed, &self.admin.refused(StatusCode::OK, &content)),
            Some(_) if self.json => raw(out, Exit::Done, &content),
            Some(text) => say(out, Exit::Done, &text),
        }
    }
}

impl Admin {
    /// A listener whose token is at hand, or that needs none.
    pub(super) fn at(admin: Uri) -> Self {
        Self { admin, token_file: None }
    }

    /// The token to call with, if there is one.
    pub(super) fn token(&self) -> Result<Option<String>, Faults> {
        config::admin_token(self.token_file.as_deref())
    }

    /// The content of the answer to a `GET`, or what to end with and why there is none.
    pub(super) fn get(&self, call: &str, wait: Duration) -> Result<Bytes, (Exit, String)> {
        let token = self.token().map_err(|faults| (Exit::Faulty, faults.to_string()))?;
        let runtime = runtime().map_err(|why| (Exit::Failed, why))?;
        match runtime.block_on(self.call(token, call, None, wait)) {
            Ok((StatusCode::OK, content)) => Ok(content),
            Ok((status, content)) => Err((Exit::Failed, self.refused(status, &content))),
            Err(why) => Err((Exit::Failed, why)),
        }
    }

    /// The answer to a call, or why there is none. With content it is a `POST`, else a `GET`. `wait` is
    /// how long the gateway is told to wait.
    pub(super) async fn call(
        &self,
        token: Option<String>,
        call: &str,
        content: Option<Value>,
        wait: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let exchange = self.exchange(token, call, content);
        let why = match tokio::time::timeout(TIMEOUT + wait, exchange).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => {
                let hint = "\n  hint: a gateway listens there if its file has `[admin]`, or if it was started with \
                            --upstream and --admin; --admin says where else";
                let is_client = error.downcast_ref::<ClientError>();
                let is_absent = is_client.is_some_and(ClientError::is_connect);
                with_causes(error.as_ref()) + if is_absent { hint } else { "" }
            }
            Err(_) => format!("none within {} s", (TIMEOUT + wait).as_secs()),
        };
        Err(format!("no answer of `{}`: {why}", self.admin))
    }

    async fn exchange(
        &self,
        token: Option<String>,
        call: &str,
        content: Option<Value>,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let admin = self.admin.to_string();
        let mut request = Request::builder().uri(format!("{}{call}", admin.trim_end_matches('/')));
        if content.is_some() {
            request = request.method(Method::POST).header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let content = content.map(|content| Bytes::from(content.to_string()));
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let response =
            client.request(request.body(Full::new(content.unwrap_or_default()))?).await?;
        let (head, body) = response.into_parts();
        Ok((head.status, Limited::new(body, MAX_ANSWER).collect().await?.to_bytes()))
    }

    /// What an answer that is none of those wanted says.
    pub(super) fn refused(&self, status: StatusCode, content: &[u8]) -> String {
        match serde_json::from_slice::<Problem>(content) {
            Ok(problem) => problem.text(status),
            Err(_) => {
                format!("`{}` answers {status} as no admin listener of Larder does", self.admin)
            }
        }
    }
}

/// Whether an answer is a problem.
pub(super) fn is_problem(content: &[u8]) -> bool {
    serde_json::from_slice::<Problem>(content).is_ok()
}

impl Problem {
    fn text(&self, status: StatusCode) -> String {
        let mut text = format!("{}: {}", status.as_u16(), shown(&self.detail));
        for fault in &self.faults {
            text.push_str("\n  ");
            text.push_str(&shown(fault));
        }
        if status == StatusCode::UNAUTHORIZED {
            text.push_str("\n  hint: put it in LARDER_ADMIN_TOKEN, or in a file for --token-file");
        }
        text
    }
}
