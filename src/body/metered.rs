//! A content that is counted as it goes out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};

use super::{Body, Cut};
use crate::stats::Outcomes;

/// A content, and where it is counted.
pub struct Metered {
    body: Body,
    outcomes: Arc<Outcomes>,
}

impl Metered {
    /// Nothing of it has gone out yet.
    pub fn new(body: Body, outcomes: Arc<Outcomes>) -> Self {
        Self { body, outcomes }
    }

    /// What has not gone out yet.
    pub fn body(&self) -> &Body {
        &self.body
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(octets) = frame.data_ref()
        {
            self.outcomes.sent(octets.len() as u64);
        }
        polled
    }
}
