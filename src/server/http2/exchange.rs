//! One request of HTTP/2 and its answer, on their stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Error, Reason};
use http::Response;
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http_body::Body as _;
use tracing::debug;

use crate::body::{Body, Cut};
use crate::clock::Clock;
use crate::gateway::Answer;
use crate::interim::Interims;
use crate::message;
use crate::semantics::date;
use crate::streams;
use crate::streams::Sending;

use super::opened::Opening;

/// A request that has no answer yet. Dropped, it takes the stream back.
pub(super) struct Exchange {
    pub(super) respond: SendResponse<Bytes>,
    pub(super) is_head: bool,
    pub(super) interims: Interims,
    /// Of a request to go on in another protocol.
    pub(super) opening: Option<Opening>,
}

/// The content of an answer whose head has gone.
pub(super) struct Outgoing(Sending<Body>);

impl Exchange {
    /// Waits for the answer and sends it.
    pub(super) async fn run(mut self, mut answer: Answer) {
        match poll_fn(|cx| self.poll_response(&mut answer, cx)).await {
            Ok(response) => {
                drop(answer);
                if let Some(outgoing) = self.begin(response) {
                    outgoing.run().await;
                }
            }
            Err(error) => debug!(%error, "request was taken back"),
        }
    }

    /// Waits for the answer; interim responses go before it. The error: the client does not want it any more.
    fn poll_response(
        &mut self,
        answer: &mut Answer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Body>, Error>> {
        let response = Pin::new(answer).poll(cx);
        if response.is_pending() {
            self.interims.wake(cx);
        }
        while let Some((status, fields)) = self.interims.take() {
            let mut interim = Response::new(());
            *interim.status_mut() = status;
            *interim.headers_mut() = fields;
            self.respond.send_informational(interim)?;
        }
        if let Poll::Ready(response) = response {
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Err(ready!(self.respond.poll_reset(cx))?.into()))
    }

    /// Sends the head of the answer, and its content, if that is at hand. What is not, is answered.
    pub(super) fn begin(mut self, response: Response<Body>) -> Option<Outgoing> {
        self.send(response).unwrap_or_else(|error| {
            debug!(%error, "response cannot be sent");
            self.respond.send_reset(Reason::INTERNAL_ERROR);
            None
        })
    }

    fn send(&mut self, response: Response<Body>) -> Result<Option<Outgoing>, Error> {
        let (mut head, mut body) = response.into_parts();
        // There is a frame for what follows, and no field of a connection (RFC 9113 §8.2.2).
        message::remove_hop_by_hop(&mut head.headers);
        if !head.headers.contains_key(DATE) {
            head.headers.insert(DATE, date::format(Clock::real()));
        }
        if self.is_head {
            body.remove_text();
        }
        let opening = self.opening.take().filter(|_| head.status.is_success());
        let is_empty = body.is_end_stream();
        if opening.is_some() {
            head.headers.remove(CONTENT_LENGTH);
        } else if let Some(length) = body.size_hint().exact().filter(|_| !is_empty) {
            head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        let head = Response::from_parts(head, ());
        let mut stream = self.respond.send_response(head, is_empty && opening.is_none())?;
        if let Some(opening) = opening {
            opening.open(stream);
            return Ok(None);
        }
        if is_empty {
            return Ok(None);
        }
        if let Some(whole) = body.take_whole() {
            stream.send_data(whole, true)?;
            return Ok(None);
        }
        Ok(Some(Outgoing(Sending::new(body, stream))))
    }
}

impl Outgoing {
    /// Sends the content as it comes, and as the client takes it.
    pub(super) async fn run(self) {
        let reason = |error: &Cut| streams::reason(error).unwrap_or(Reason::INTERNAL_ERROR);
        self.0.run(reason).await;
    }
}
