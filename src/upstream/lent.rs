//! A connection to one server for the time of one exchange, and that exchange on it.

use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use tokio::time::Instant;

use super::coming::Coming;
use super::connections::Inner;
use super::content::Progress;
use super::direct::{self, Came};
use super::http2::Stream;
use super::outgoing::Message;
use super::wire::{Wire, speak};
use super::{Content, Failure};

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
    Closed(hyper::Error),
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
        let (wire, came) = match message.octets() {
            None => (wire, None),
            Some(octets) => {
                let is_head = message.outgoing.method == Method::HEAD;
                let exchange = direct::exchange(wire, &octets, is_head, end);
                match exchange.await.map_err(|lost| Unanswered::Failed(lost.into()))? {
                    Came::Response(response) => return Ok(response.map(Coming::Direct)),
                    Came::Otherwise(wire, came) => (wire, Some(came)),
                }
            }
        };
        // As above.
        Box::pin(async {
            let spoken = speak(wire, came).await;
            let failed = |error| Unanswered::Failed(Failure::of(error, &message.outgoing.content));
            self.send_by(spoken.map_err(failed)?, message, silence, end).await
        })
        .await
    }

    async fn send_on(
        &mut self,
        stream: Stream,
        message: Message<'_, '_>,
        silence: Duration,
        end: Instant,
    ) -> Result<Response<Coming>, Unanswered> {
        let mut sender = stream.sender();
        self.line = Some(Line::Http2(stream));
        let response = sender.try_send_request(message.request(Version::HTTP_2));
        in_time(pin!(response), &message.outgoing.content, silence, end).await
    }

    async fn send_by(
        &mut self,
        mut sender: Sender,
        message: Message<'_, '_>,
        silence: Duration,
        end: Instant,
    ) -> Result<Response<Coming>, Unanswered> {
        let response = sender.try_send_request(message.request(Version::HTTP_11));
        let result = in_time(pin!(response), &message.outgoing.content, silence, end).await;
        self.line = Some(Line::Http1(Http1::Spoken(sender)));
        result
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
            (Some(Line::Http2(_)), _) => None,
        };
        if let (Some(line), Some(home), true) = (line, self.home.upgrade(), is_over) {
            home.keep(line, now.unwrap_or_else(Instant::now));
        }
    }
}

/// Waits for a response head until `end`; or for so long, from the last piece of content that left.
async fn in_time(
    mut response: Pin<
        &mut impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Content>>>>,
    >,
    content: &Content,
    patience: Duration,
    end: Instant,
) -> Result<Response<Coming>, Unanswered> {
    let mut silence = pin!(tokio::time::sleep_until(end));
    loop {
        tokio::select! {
            biased;
            result = &mut response => {
                let response = result.map_err(|error| unanswered(error, content));
                return response.map(|response| response.map(Coming::Framed));
            }
            () = content.held_too_long(UNASKED.min(patience / 2)) => content.go_on(),
            () = content.moved() => silence.as_mut().reset(Instant::now() + patience),
            () = &mut silence => return Err(Unanswered::Failed(Failure::Timeout)),
        }
    }
}

fn unanswered(mut error: TrySendError<Request<Content>>, content: &Content) -> Unanswered {
    let is_unsent = error.take_message().is_some();
    let error = error.into_error();
    if is_unsent {
        Unanswered::Closed(error)
    } else {
        Unanswered::Failed(Failure::of(error, content))
    }
}
