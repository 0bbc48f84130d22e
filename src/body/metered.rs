//! A content that is counted as it goes out, and told of when it has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};

use super::{Body, Cut};
use crate::access_log::{End, Entry};
use crate::stats::Outcomes;

/// A content, and where it is counted, unless it has been. Dropping it is the end of its request: what had not
/// gone out by then was not wanted any more.
pub struct Metered {
    body: Body,
    outcomes: Option<Arc<Outcomes>>,
    entry: Option<Box<Entry>>,
    /// How much it is, where that is known.
    length: Option<u64>,
    sent: u64,
    end: Option<End>,
}

impl Metered {
    /// Nothing of it has gone out yet.
    pub fn new(body: Body, outcomes: Option<Arc<Outcomes>>, entry: Option<Box<Entry>>) -> Self {
        let length = body.size_hint().exact();
        Self { body, outcomes, entry, length, sent: 0, end: None }
    }

    /// What has not gone out yet.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// See [`Body::take_whole`].
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        let octets = self.body.take_whole()?;
        self.count(&octets);
        Some(octets)
    }

    fn count(&mut self, octets: &Bytes) {
        self.sent += octets.len() as u64;
        if let Some(outcomes) = &self.outcomes {
            outcomes.sent(octets.len() as u64);
        }
    }

    /// See [`Body::remove_text`].
    pub(super) fn remove_text(&mut self) {
        self.body.remove_text();
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(octets) = frame.data_ref() {
                    self.count(octets);
                } else {
                    // Nothing comes behind trailers.
                    self.end = Some(End::Complete);
                }
            }
            Poll::Ready(Some(Err(_))) => self.end = Some(End::Upstream),
            Poll::Ready(None) => self.end = self.end.or(Some(End::Complete)),
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let Some(entry) = &mut self.entry else { return };
        // Who has as much as was announced does not ask for more.
        let is_whole =
            self.length == Some(self.sent) || self.body.is_end_stream() || entry.has_no_content();
        let end = if is_whole { End::Complete } else { End::Client };
        entry.end(self.sent, self.end.unwrap_or(end));
    }
}
