//! Why a request got no response.

use std::error::Error;
use std::fmt;
use std::io;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
use std::sync::Arc;

use super::Content;
use super::content::NotWhole;
use super::direct::Lost;

/// Why a request got no response from its upstream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// No connection was made that can be used, so nothing was sent.
    #[error("no connection to the upstream")]
    Connect(#[source] Cause),
    /// Every server has as many requests as it may, and too many wait, or this one has for too long.
    #[error("upstream has as many requests as it may")]
    Busy,
    /// No response head within the upstream's `timeout`.
    #[error("upstream did not answer in time")]
    Timeout,
    /// The connection broke, or what came back is not HTTP.
    #[error("upstream broke off or answered nonsense")]
    Broken(#[source] Cause),
    /// What the documents are in cannot be reached: whoever asks later may be answered.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Cause),
    /// The route makes the target longer than one may be, so nothing was sent.
    #[error("the request's target is too long for this route")]
    TooLong,
    /// The route makes dot segments of what it has captured, so nothing was sent.
    #[error("dot segments in the target, as this route rewrites it")]
    Climbs,
    /// The client's content broke off or was malformed, when some of it had been sent on.
    #[error("the request's content did not come whole")]
    Request(#[source] Cause),
}

/// The cause of a failure that several requests share.
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The error itself is found among the causes.
impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// An error and what caused it, in turn.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

impl Cause {
    /// This.
    pub(super) fn of(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The connection closed before anything was answered.
    pub(super) fn is_close(&self) -> bool {
        causes(self.0.as_ref()).any(|error| {
            let closed = error.downcast_ref().is_some_and(hyper::Error::is_incomplete_message)
                || matches!(error.downcast_ref(), Some(Lost::Closed));
            let of_http2 = error.downcast_ref().and_then(h2::Error::get_io);
            let reset = error.downcast_ref().or(of_http2).map(io::Error::kind);
            // Many a server ends TLS without saying so.
            closed || matches!(reset, Some(ConnectionReset | BrokenPipe | UnexpectedEof))
        })
    }

    /// The server has refused the stream, or has said by a `GOAWAY` that it comes too late (RFC 9113 §8.7).
    fn is_refusal(&self) -> bool {
        let is_refusal = |error: &h2::Error| {
            let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            error.is_remote() && (is_refused || error.is_go_away())
        };
        causes(self.0.as_ref()).any(|error| error.downcast_ref().is_some_and(is_refusal))
    }
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Silent => Self::Timeout,
            Lost::Closed | Lost::Broken(_) => Self::broken(lost),
        }
    }
}

impl Failure {
    /// [`Failure::Unavailable`], because of this.
    pub fn unavailable(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Cause::of(cause))
    }

    /// [`Failure::Broken`], because of this.
    pub fn broken(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Broken(Cause::of(cause))
    }

    /// [`Failure::Request`], as the client waits no longer.
    pub fn given_up() -> Self {
        Self::Request(Cause::of(io::Error::other("the client waits no longer")))
    }

    /// The client's content is longer than it may be.
    pub fn is_of_length(&self) -> bool {
        let Self::Request(Cause(error)) = self else { return false };
        causes(error.as_ref()).any(|error| matches!(error.downcast_ref(), Some(NotWhole::TooLong)))
    }

    /// With its causes.
    pub fn in_full(&self) -> String {
        causes(self).map(ToString::to_string).fold(String::new(), |text, more| {
            // Some repeat what caused them.
            match text.as_str() {
                "" => more,
                _ if text.ends_with(&more) => text,
                _ => format!("{text}: {more}"),
            }
        })
    }

    /// There is nothing to connect to.
    pub(super) fn no_server() -> Self {
        Self::connect(io::Error::other("no server is configured"))
    }

    /// [`Failure::Connect`], because of this.
    pub(super) fn connect(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Connect(Cause::of(cause))
    }

    /// What an exchange came to without a response head.
    pub(super) fn of(cause: Cause, content: &Content) -> Self {
        if content.is_broken() { Self::Request(cause) } else { Self::Broken(cause) }
    }

    /// The server has said that it did nothing of it.
    pub(super) fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Broken(cause) if cause.is_refusal())
    }
}
