//! A connection to one server for the time of one exchange, and that exchange on it.

use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::client::conn::{TrySendError, http1};
use tokio::time::Instant;

use crate::streams;
use crate::streams::Received;

use super::coming::Coming;
use super::connections::Inner;
use super::content::Progress;
use super::direct::{self, Came};
use super::http2;
use super::http2::Stream;
use super::outgoing::Message;
use super::wire::{Wire, speak};
use super::{Cause, Content, Failure};

/// So long a server may take to ask for content that its client keeps back. Many never do.
const UNASKED: Duration = Duration::from_secs(1);

type Sender = http1::SendRequest<Content>;

/// A connection for the time of one exchange. Dropping it before the end gives the exchange up.
pub(super) struct Lent {
    home: Weak<Inner>,
    /// None: it is with the content that comes on it.
    line: Option<Line>,
    /// Something was answered on the connection before.
    pub(super) is_reused: bool,
    /// Of the request's content.
    progress: Option<Arc<Progress>>,
}

/// What an exchange goes over.
pub(super) enum Line {
    Http1(Http1),
    Http2(Stream),
}

/// A connection of HTTP/1.1.
pub(super) enum Http1 {
    Wire(Wire),
    /// Hyper has it.
    Spoken(Sender),
}

/// Why there is no response.
pub(super) enum Unanswered {
    /// The connection had closed, and nothing has left.
    Closed(Cause),
    Failed(Failure),
}

impl Lent {
    /// For one exchange. Nobody has used it if it is not `is_reused`, and it comes `home` with the end of that.
    pub(super) fn new(home: Weak<Inner>, is_reused: bool, progress: Option<Arc<Progress>>) -> Self {
        Self { home, line: None, is_reused, progress }
    }

    /// Sends a request and waits for the response head: as long as `silence`, from the last piece of content that left.
    /// `now`: it begins.
    pub(super) async fn send(
        &mut self,
        line: Line,
        message: Message<'_, '_>,
        silence: Duration,
        now: Instant,
    ) -> Result<Response<Coming>, Unanswered> {
        // Others have been waited for.
        let at_once = self.is_reused && matches!(line, Line::Http1(_));
        let end = if at_once { now } else { Instant::now() } + silence;
        let result = match line {
            Line::Http1(Http1::Wire(wire)) => self.send_directly(wire, message, silence, end).await,
            // Both are large, and on the heap so that what goes without hyper has no room for them.
            Line::Http1(Http1::Spoken(sender)) => {
                Box::pin(self.send_by(sender, message, silence, end)).await
            }
            Line::Http2(stream) => Box::pin(self.send_on(stream, message, silence, end)).await,
        };
        if matches!(result, Err(Unanswered::Failed(Failure::Timeout))) {
            self.was_silent(silence);
        }
        result
    }

    /// Without hyper, unless that is to read the answer, or the request is not for it.
    async fn send_directly(
        &mut self,
        wire: Wire,
        message: Message<'_, '_>,
        silence: Duration,
        end: Instant,
    ) -> Result<Response<Coming>, Unanswered> {
        let (wire, begun) = match message.octets() {
            None => (wire, None),
            Some(octets) => {
                let is_head = message.outgoing.method == Method::HEAD;
                let exchange = direct::exchange(wire, &octets, is_head, end);
                match exchange.await.map_err(|lost| Unanswered::Failed(lost.into()))? {
                    Came::Response(response) => return Ok(response.map(Coming::Direct)),
                    Came::Otherwise(wire, begun) => {
                        // The server may never read on: nobody is to wait behind the rest.
                        if !begun.unsent.is_empty() {
                            self.home = Weak::new();
                        }
                        (wire, Some(begun))
                    }
                }
            }
        };
        // As above.
        Box::pin(async {
            let spoken = speak(wire, begun).await;
            let failed = |error| Failure::of(Cause::of(error), &message.outgoing.content);
            let sender = spoken.map_err(|error| Unanswered::Failed(failed(error)))?;
            self.send_by(sender, message, silence, end).await
        })
        .await
    }

    async fn send_on(
        &mut self,
        mut stream: Stream,
        message: Message<'_, '_>,
        silence: Duration,
        end: Instant,
    ) -> Result<Response<Coming>, Unanswered> {
        let outgoing = message.outgoing;
        let failed = |error| Unanswered::Failed(Failure::of(Cause::of(error), &outgoing.content));
        let head = message.head();
        let listener = message.listener(head.version(), head.headers());
        let sent = stream.send(head, &outgoing.content).map_err(|error| {
            if stream.is_closed() { Unanswered::Closed(Cause::of(error)) } else { failed(error) }
        });
        self.line = Some(Line::Http2(stream));
        let sent = sent?;
        let response = async {
            let response = http2::response(sent, |interim| {
                if let Some(listener) = &listener {
                    listener(interim.status(), interim.headers());
                }
            });
            let response = response.await.map_err(failed)?;
            // RFC 9110 §6.4.1: these have none, whatever they say.
            let has_none = *outgoing.method == Method::HEAD
                || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            let length = streams::length(response.headers());
            Ok(response.map(|content| {
                let received = if has_none {
                    Received::nothing(content)
                } else {
                    Received::of(content, length)
                };
                Coming::Stream(received)
            }))
        };
        in_time(pin!(response), &outgoing.content, silence, end).await
    }

    async fn send_by(
        &mut self,
        mut sender: Sender,
        message: Message<'_, '_>,
        silence: Duration,
        end: Instant,
    ) -> Result<Response<Coming>, Unanswered> {
        let content = &message.outgoing.content;
        let response = sender.try_send_request(message.request());
        let response = async {
            let response = response.await.map_err(|error| unanswered(error, content))?;
            Ok(response.map(Coming::Framed))
        };
        let result = in_time(pin!(response), content, silence, end).await;
        self.line = Some(Line::Http1(Http1::Spoken(sender)));
        result
    }

    /// No more of the request's content is sent, nor taken from its client.
    pub(super) async fn stop(&mut self) {
        if let Some(Line::Http2(stream)) = &mut self.line {
            stream.stop().await;
        }
    }

    /// Nothing came for this exchange for so long.
    pub(super) fn was_silent(&self, patience: Duration) {
        if let Some(Line::Http2(stream)) = &self.line {
            stream.was_silent(patience);
        }
    }

    /// Of the request's content; none if all of it was at hand.
    pub(super) fn progress(&self) -> Option<&Progress> {
        self.progress.as_deref()
    }

    /// The response has come whole; at this moment, if that is known, and on this connection, if it is not here.
    pub(super) fn end(self, now: Option<Instant>, wire: Option<Wire>) {
        // Where the request has not ended, the next response could be the answer to the rest of it.
        let is_over = self.progress.is_none_or(|progress| progress.is_over());
        let line = match (self.line, wire) {
            (Some(Line::Http1(spoken)), _) => Some(spoken),
            (None, wire) => wire.map(Http1::Wire),
            (Some(Line::Http2(stream)), _) => {
                stream.end();
                None
            }
        };
        if let (Some(line), Some(home), true) = (line, self.home.upgrade(), is_over) {
            home.keep(line, now.unwrap_or_else(Instant::now));
        }
    }
}

/// Waits for a response head until `end`; or for so long, from the last piece of content that left.
async fn in_time(
    mut response: Pin<&mut impl Future<Output = Result<Response<Coming>, Unanswered>>>,
    content: &Content,
    patience: Duration,
    end: Instant,
) -> Result<Response<Coming>, Unanswered> {
    let mut silence = pin!(tokio::time::sleep_until(end));
    loop {
        tokio::select! {
            biased;
            result = &mut response => return result,
            () = content.held_too_long(UNASKED.min(patience / 2)) => content.go_on(),
            () = content.moved() => silence.as_mut().reset(Instant::now() + patience),
            () = &mut silence => return Err(Unanswered::Failed(Failure::Timeout)),
        }
    }
}

fn unanswered(mut error: TrySendError<Request<Content>>, content: &Content) -> Unanswered {
    let is_unsent = error.take_message().is_some();
    let cause = Cause::of(error.into_error());
    if is_unsent {
        Unanswered::Closed(cause)
    } else {
        Unanswered::Failed(Failure::of(cause, content))
    }
}
