//! One question to a policy as a case puts it, and its answer in a form that can be compared.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::config::cases::{Cause, Change, Request, Response};
use crate::plugin::{Failure, Invalidated, KeyTrial, Policy, StoringAnswer, Watched};
use crate::plugin::{Seen, SeenChange, SeenResponse};

/// So often a call may take too long.
const TRIES: usize = 3;

/// How long content in a coding may be once it is decoded: a route's default.
const LONGEST_CONTENT: usize = 1 << 20;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// Under which key?
    Key(Request),
    /// How is this stored?
    Storing(Request, Response),
    /// What is wrong now?
    Invalidation(Cause),
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Key(KeyTrial),
    Storing(StoringAnswer),
    Invalidation(Vec<Invalidated>),
}

/// The most that one call took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Most {
    pub(super) spent: Duration,
    /// In octets.
    pub(super) memory: usize,
}

impl Most {
    /// A call took so much.
    pub(super) fn count<T>(&mut self, call: &Watched<T>) {
        self.spent = self.spent.max(call.spent);
        self.memory = self.memory.max(call.memory);
    }
}

impl Ask {
    /// The function that answers.
    pub(super) fn function(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Storing(..) => "storing",
            Self::Invalidation(_) => "invalidation",
        }
    }

    /// The request in it, to be changed.
    pub(super) fn request_mut(&mut self) -> Option<&mut Request> {
        match self {
            Self::Key(request) | Self::Storing(request, _) => Some(request),
            Self::Invalidation(Cause::Write(write)) => Some(&mut write.0),
            Self::Invalidation(Cause::Change(_)) => None,
        }
    }

    /// The response in it, to be changed.
    pub(super) fn response_mut(&mut self) -> Option<&mut Response> {
        match self {
            Self::Storing(_, response) => Some(response),
            Self::Invalidation(Cause::Write(write)) => Some(&mut write.1),
            Self::Key(_) | Self::Invalidation(Cause::Change(_)) => None,
        }
    }

    /// The change in it, to be changed.
    pub(super) fn change_mut(&mut self) -> Option<&mut Change> {
        match self {
            Self::Invalidation(Cause::Change(change)) => Some(change),
            Self::Key(_) | Self::Storing(..) | Self::Invalidation(Cause::Write(_)) => None,
        }
    }
}

/// A policy to be asked.
pub(super) struct Asked {
    pub(super) policy: Policy,
    pub(super) runtime: Rc<Runtime>,
}

impl Asked {
    /// Puts the question. Time is the clock's, and a machine can be too busy for a call that needs
    /// little of it: only what takes too long each time does.
    pub(super) fn put(&self, ask: &Ask) -> Watched<Answer> {
        let mut call = self.put_once(ask);
        for _ in 1..TRIES {
            if !matches!(call.answer, Err(Failure::TimedOut)) {
                break;
            }
            call = self.put_once(ask);
        }
        call
    }

    fn put_once(&self, ask: &Ask) -> Watched<Answer> {
        let policy = &self.policy;
        match ask {
            Ask::Key(request) => see(request, |seen| policy.try_key(seen)).map(Answer::Key),
            Ask::Storing(request, response) => {
                let response = shown(response);
                let ask =
                    |seen: &Seen<'_>| self.runtime.block_on(policy.try_storing(seen, &response));
                see(request, ask).map(Answer::Storing)
            }
            Ask::Invalidation(Cause::Write(write)) => {
                let (request, response) = &**write;
                let response = shown(response);
                let ask = |seen: &Seen<'_>| {
                    self.runtime.block_on(policy.try_invalidation(seen, &response))
                };
                see(request, ask).map(Answer::Invalidation)
            }
            Ask::Invalidation(Cause::Change(change)) => {
                let change = self.runtime.block_on(policy.try_change(&changed(change)));
                change.map(Answer::Invalidation)
            }
        }
    }
}

/// A response as the gateway would show it.
fn shown(response: &Response) -> SeenResponse<'_> {
    SeenResponse {
        status: response.status,
        fields: &response.fields,
        content: response.content.clone().map(Into::into),
        longest: LONGEST_CONTENT,
    }
}

/// A change as the gateway would show it.
fn changed(change: &Change) -> SeenChange<'_> {
    SeenChange {
        mongodb: &change.mongodb,
        database: &change.database,
        collection: &change.collection,
        operation: change.operation,
        id: &change.id,
        after: change.after.clone().map(Arc::new),
        before: change.before.clone().map(Arc::new),
    }
}

/// A request as the gateway would show it.
pub(super) fn see<T>(request: &Request, ask: impl FnOnce(&Seen<'_>) -> T) -> T {
    let fields = fields(request);
    let captures: Vec<_> =
        request.captures.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let claims = request.claims.clone().map(Value::Object);
    ask(&Seen {
        method: &request.method,
        scheme: &request.scheme,
        authority: &request.authority,
        path: &request.path,
        query: request.query.as_deref(),
        captures: &captures,
        fields: &fields,
        content: request.content.as_deref(),
        claims: claims.as_ref(),
    })
}

/// Its fields, and its cookies in one line, as browsers send them.
fn fields(request: &Request) -> HeaderMap {
    let mut fields = request.fields.clone();
    let pairs: Vec<_> =
        request.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let line = HeaderValue::from_bytes(pairs.join("; ").as_bytes());
    if let Ok(line) = line
        && !pairs.is_empty()
    {
        fields.insert(COOKIE, line);
    }
    fields
}
