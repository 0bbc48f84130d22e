//! The answer to one request: at hand, or on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;

use crate::body::Body;
use crate::octets;

use super::hit::Hit;
use super::measure::Pending;

/// A future response. Small, as each request's is moved about: what is no hit is on the heap.
pub struct Answer {
    state: State,
    /// The place of the route that answers.
    place: Option<usize>,
    /// What is to count the response once it is there. Dropped before that, it counts that there is none.
    count: Option<Box<Pending>>,
}

enum State {
    Hit(Hit),
    Now(Box<Response<Body>>),
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
    Taken,
}

impl Answer {
    fn new(state: State) -> Self {
        Self { state, place: None, count: None }
    }

    /// This response.
    pub fn now(response: Response<Body>) -> Self {
        Self::new(State::Now(Box::new(response)))
    }

    /// This stored response, out of L1.
    pub(super) fn hit(hit: Hit) -> Self {
        Self::new(State::Hit(hit))
    }

    /// What this comes to.
    pub fn later(response: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self::new(State::Later(Box::pin(response)))
    }

    /// The answer of the route at this place.
    pub(super) fn of(self, place: usize) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The place of the route that answers.
    pub(super) fn place(&self) -> Option<usize> {
        self.place
    }

    /// With the response counted, which is not at hand.
    pub(super) fn counted(self, count: Pending) -> Self {
        Self { count: Some(Box::new(count)), ..self }
    }

    /// The hit that it is, if nothing was changed of it.
    pub(super) fn as_hit(&mut self) -> Option<&mut Hit> {
        match &mut self.state {
            State::Hit(hit) => Some(hit),
            _ => None,
        }
    }

    /// The response that is at hand.
    pub(super) fn at_hand(&mut self) -> Option<&mut Response<Body>> {
        if let State::Hit(_) = self.state
            && let State::Hit(hit) = std::mem::replace(&mut self.state, State::Taken)
        {
            self.state = State::Now(Box::new(hit.render()));
        }
        match &mut self.state {
            State::Now(response) => Some(response),
            _ => None,
        }
    }

    /// Whether nothing is waited for.
    pub fn is_at_hand(&self) -> bool {
        matches!(self.state, State::Hit(_) | State::Now(_))
    }

    /// Writes the head of the response to a `GET`, if that is at hand with all of its content, and takes that. None:
    /// the response is to be taken instead; what has been written by then is of no use.
    pub fn write(&mut self, head: &mut Vec<u8>) -> Option<Bytes> {
        match &mut self.state {
            State::Hit(hit) => hit.write(head),
            State::Now(response) => {
                let length = response.body().whole()?.len();
                octets::head(head, response.status(), response.headers(), length)?;
                response.body_mut().take_whole()
            }
            State::Later(_) | State::Taken => None,
        }
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
}

impl Future for Answer {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        if let State::Later(response) = &mut self.state {
            let mut response = ready!(response.as_mut().poll(cx));
            if let Some(count) = self.count.take() {
                count.answered(&mut response);
            }
            return Poll::Ready(response);
        }
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Hit(hit) => Poll::Ready(hit.render()),
            State::Now(response) => Poll::Ready(*response),
            State::Later(_) | State::Taken => unreachable!("nothing is polled after its end"),
        }
    }
}
