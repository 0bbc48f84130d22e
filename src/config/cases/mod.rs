//! `cases.toml`: what a policy's author expects of it, case by case, for `larder policy test`.
//!
//! - here is what a file says, everything in it valid;
//! - `read` walks through the file and its cases, `message` knows requests, responses and changes.
//!
//! It is read as `gateway.toml` is: variables, durations and sizes, and all faults at once.

mod message;
mod read;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use super::{Faults, Place, Setting, load};

/// A file of cases.
#[derive(Clone, Debug)]
pub struct Cases {
    /// `config`: what the policy is configured with where a case says nothing else.
    pub config: Vec<(String, Setting)>,
    /// Where `config` stands, or the beginning of the file.
    pub config_place: Place,
    /// `time` of one call, as in `[policies.NAME]`.
    pub time: Duration,
    /// `memory` of one call in octets, as in `[policies.NAME]`.
    pub memory: usize,
    /// `public`: what operators may read.
    pub public: Public,
    /// In the order of the file; at most 10000.
    pub cases: Vec<Case>,
}

/// Cookies and claims whose values may stand in readable names and in the log.
#[derive(Clone, Debug, Default)]
pub struct Public {
    /// Names of cookies.
    pub cookies: Vec<String>,
    /// Claims, as the policy asks for them.
    pub claims: Vec<String>,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it begins.
    pub place: Place,
    /// Its kind: the name of its table.
    pub kind: &'static str,
    /// `name`: what it is about; empty without one.
    pub name: String,
    /// `config` of its own.
    pub config: Option<Vec<(String, Setting)>>,
    /// What is asked, and what must come.
    pub question: Question,
}

/// What a case asks, and what must come.
#[derive(Clone, Debug)]
pub enum Question {
    /// `[[equal]]`: all requests have one key.
    Equal(Vec<Request>),
    /// `[[different]]`: each request has a key of its own.
    Different(Vec<Request>),
    /// `[[bypass]]`: no request has a key.
    Bypass {
        /// Who asks.
        requests: Vec<Request>,
        /// `reason`: what the policy says.
        reason: Option<String>,
    },
    /// `[[key]]`: the request has this key.
    Key {
        /// Who asks.
        request: Request,
        /// `expect.name`: the readable name.
        name: Option<String>,
        /// `expect.parts`: each as `name=value`.
        parts: Option<Vec<String>>,
    },
    /// `[[storing]]`: the response is stored so.
    Storing {
        /// Who asked.
        request: Request,
        /// What came.
        response: Response,
        /// What must come of it.
        expect: Stored,
    },
    /// `[[invalidation]]`: this is made wrong, in any order.
    Invalidation(Cause, Vec<Covered>),
    /// `[[refused]]`: the configuration is refused, with a text that holds `error`.
    Refused(String),
}

/// `expect` of `[[storing]]`; what is none is not compared.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// `store`.
    pub store: Option<bool>,
    /// `max_age`: the policy's bound on the lifetime.
    pub max_age: Option<MaxAge>,
    /// `tags`, in any order.
    pub tags: Option<Vec<String>>,
}

/// A bound on a lifetime that must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    /// `"none"`: the lifetime stays as it is.
    None,
    /// No longer than this.
    Bound(Duration),
}

/// What may have made stored responses wrong.
#[derive(Clone, Debug)]
pub enum Cause {
    /// A request, and what it got.
    Write(Box<(Request, Response)>),
    /// A document's change.
    Change(Box<Change>),
}

/// One member of an `[[invalidation]]`'s `expect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// `tag`, `path` or `pattern`.
    pub scope: &'static str,
    /// Its value.
    pub text: String,
    /// `soft`.
    pub soft: bool,
}

/// A request: a URL, or a table with `url` and more.
#[derive(Clone, Debug)]
pub struct Request {
    /// `method`, default `GET`.
    pub method: Method,
    /// Of `url`; `http` where that is a path alone.
    pub scheme: String,
    /// Of `url`, in lower case; `localhost` where that is a path alone.
    pub authority: String,
    /// Of `url`, percent-encoded.
    pub path: String,
    /// Of `url`; none if there is no `?`.
    pub query: Option<String>,
    /// `captures`: what the route's path captured, in the order of the file.
    pub captures: Vec<(String, String)>,
    /// `fields`, `Cookie` left out.
    pub fields: HeaderMap,
    /// `cookies`.
    pub cookies: Vec<(String, String)>,
    /// `claims` of the token that the route reads.
    pub claims: Option<serde_json::Map<String, serde_json::Value>>,
    /// `content`.
    pub content: Option<Vec<u8>>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// `status`, default 200.
    pub status: StatusCode,
    /// `fields`; with `json`, a `Content-Type` as well.
    pub fields: HeaderMap,
    /// `json` or `content`.
    pub content: Option<Vec<u8>>,
}

/// A document's change.
#[derive(Clone, Debug)]
pub struct Change {
    /// `mongodb`, default `db`.
    pub mongodb: String,
    /// `database`, default `test`.
    pub database: String,
    /// `collection`.
    pub collection: String,
    /// `operation`.
    pub operation: Operation,
    /// `id`, as JSON; empty for `drop`.
    pub id: String,
    /// `after`: the document as the change left it.
    pub after: Option<serde_json::Value>,
    /// `before`: the document as it was.
    pub before: Option<serde_json::Value>,
}

/// What happened to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Insert,
    /// Parts of it are new.
    Update,
    /// All of it but its `_id` is new.
    Replace,
    /// It is gone.
    Delete,
    /// The whole collection is gone, or has another name.
    Drop,
}

/// As a file would have it: the method unless it is `GET`, and the URL.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.method != Method::GET {
            write!(f, "{} ", self.method)?;
        }
        if self.scheme != "http" || self.authority != "localhost" {
            write!(f, "{}://{}", self.scheme, self.authority)?;
        }
        f.write_str(&self.path)?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

impl Cases {
    /// Reads a file; variables are the process's.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let file = path.display().to_string();
        let text = load::text(path).map_err(|message| {
            Faults::from(vec![super::Fault::new(file.clone(), None, message)])
        })?;
        read::read(&text, &file, &load::variable)
    }

    /// What a policy without cases is asked with: nothing, within the usual limits.
    pub fn none() -> Self {
        let usual = super::Policy::new(
            String::new(),
            super::Plugin::Bundled(String::new()),
            Place::default(),
        );
        Self {
            config: Vec::new(),
            config_place: Place::default(),
            time: usual.time,
            memory: usual.memory,
            public: Public::default(),
            cases: Vec::new(),
        }
    }
}
