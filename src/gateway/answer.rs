//! The answer to one request: at hand, or on its way.

use std::future::{self, Future};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use crate::body::Body;

/// A future response. Small, as each request's is moved about: what is not at hand is on the heap.
pub struct Answer(State);

enum State {
    Now(future::Ready<Response<Body>>),
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Answer {
    /// This response.
    pub(super) fn now(response: Response<Body>) -> Self {
        Self(State::Now(future::ready(response)))
    }

    /// Whether nothing is waited for.
    pub fn is_at_hand(&self) -> bool {
        matches!(self.0, State::Now(_))
    }

    /// With a change to the response.
    pub(super) fn map(
        self,
        change: impl FnOnce(Response<Body>) -> Response<Body> + Send + 'static,
    ) -> Self {
        match self.0 {
            State::Now(response) => Self::now(change(response.into_inner())),
            State::Later(response) => Self::later(async move { change(response.await) }),
        }
    }

    /// What this comes to.
    pub(super) fn later(response: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self(State::Later(Box::pin(response)))
    }
}

impl Future for Answer {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        match &mut self.0 {
            State::Now(response) => Pin::new(response).poll(cx),
            State::Later(response) => response.as_mut().poll(cx),
        }
    }
}
