//! The answer to one request: at hand, or on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use crate::body::Body;
use crate::stats::Outcome;

/// A future response. Small, as each request's is moved about: what is not at hand is on the heap.
pub struct Answer {
    state: State,
    /// The place of the route that answers.
    place: Option<usize>,
    /// What that came to, where the response does not say it.
    outcome: Option<Outcome>,
}

enum State {
    Now(Option<Response<Body>>),
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Answer {
    /// This response.
    pub(super) fn now(response: Response<Body>) -> Self {
        Self { state: State::Now(Some(response)), place: None, outcome: None }
    }

    /// This stored response, out of L1.
    pub(super) fn hit(response: Response<Body>) -> Self {
        Self { outcome: Some(Outcome::HitL1), ..Self::now(response) }
    }

    /// The answer of the route at this place.
    pub(super) fn of(self, place: usize) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The place of the route that answers.
    pub(super) fn place(&self) -> Option<usize> {
        self.place
    }

    /// What it came to, where the response does not say it; who takes that counts it.
    pub(super) fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// The response that is at hand.
    pub(super) fn at_hand(&mut self) -> Option<&mut Response<Body>> {
        match &mut self.state {
            State::Now(response) => response.as_mut(),
            State::Later(_) => None,
        }
    }

    /// Whether nothing is waited for.
    pub fn is_at_hand(&self) -> bool {
        matches!(self.state, State::Now(_))
    }

    /// With a change to the response: at once, if that is at hand.
    #[must_use]
    pub fn map(mut self, change: impl FnOnce(&mut Response<Body>) + Send + 'static) -> Self {
        if let Some(response) = self.at_hand() {
            change(response);
            return self;
        }
        let place = self.place;
        let changed = Self::later(async move {
            let mut response = self.await;
            change(&mut response);
            response
        });
        Self { place, ..changed }
    }

    /// What this comes to.
    pub fn later(response: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self { state: State::Later(Box::pin(response)), place: None, outcome: None }
    }
}

impl Future for Answer {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let outcome = self.outcome.take();
        match &mut self.state {
            State::Now(response) => {
                let mut response = response.take().expect("nothing is polled after its end");
                if let Some(outcome) = outcome {
                    response.extensions_mut().insert(outcome);
                }
                Poll::Ready(response)
            }
            State::Later(response) => response.as_mut().poll(cx),
        }
    }
}
