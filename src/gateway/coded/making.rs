//! Coded forms in the making: read by many, kept when they are whole.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tracing::debug;

use crate::body::Encoded;
use crate::collapse::Lead;
use crate::encoder::Encoder;
use crate::semantics::Coding;
use crate::store::Form;

use super::{Compressing, warn_of};

/// A stored content is coded in pieces of this size.
const PIECE: usize = 64 * 1024;

/// A form in the making. Dropping it tells its readers that it broke off.
pub(super) struct Making {
    route: Arc<Compressing>,
    coding: Coding,
    lead: Lead,
    /// What came so far, unless it is too long to be kept.
    form: Option<BytesMut>,
}

impl Making {
    pub(super) fn new(route: Arc<Compressing>, coding: Coding, lead: Lead) -> Self {
        Self { route, coding, lead, form: Some(BytesMut::new()) }
    }

    /// Makes the form of a content that is at hand.
    pub(super) async fn of_stored(self, content: Bytes) {
        let Some(making) = self.unless_made() else { return };
        let Ok(permit) = Arc::clone(&making.route.lasting.workshop.stored).acquire_owned().await
        else {
            return;
        };
        let tasks = making.route.lasting.tasks.clone();
        let made = tasks.spawn_blocking(move || {
            if let Err(error) = making.code(&content) {
                warn_of(&error);
            }
        });
        // It panics no more than it fails, and its readers would see that it broke off.
        drop(made.await);
        drop(permit);
    }

    /// Hands out what was made between the look-up and this turn.
    fn unless_made(self) -> Option<Self> {
        let Some(Form::Shorter(octets)) = self.route.form(&self.lead.key) else {
            return Some(self);
        };
        self.lead.push(octets);
        self.lead.finish(None);
        None
    }

    fn code(mut self, content: &Bytes) -> io::Result<()> {
        self.route.stats.compressed.count();
        let mut encoder = Encoder::new(self.coding, Some(content.len() as u64))?;
        for piece in content.chunks(PIECE) {
            encoder.write(piece)?;
            self.push(encoder.take());
        }
        self.push(encoder.finish()?);
        self.finish(content.len() as u64, None);
        Ok(())
    }

    /// Makes the form of a content that is coming in.
    pub(super) async fn of_stream(self, mut content: Encoded) {
        let Some(mut making) = self.unless_made() else { return };
        making.route.stats.compressed.count();
        let mut trailers = None;
        while let Some(frame) = poll_fn(|cx| content.poll_frame(cx)).await {
            tokio::task::consume_budget().await;
            match frame.map(Frame::into_data) {
                Ok(Ok(octets)) => making.push(octets),
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                Err(error) => return debug!(%error, "no form made of what broke off"),
            }
            // What is too long to be stored has no form that is found; what may never end is left with its readers.
            let is_too_long = content.taken() > making.route.max_body as u64;
            if is_too_long || content.is_endless() && making.lead.is_left() {
                making.pass_through();
            }
            if making.form.is_none() && making.lead.room(making.route.patience).await.is_err() {
                return;
            }
        }
        making.finish(content.taken(), trailers);
    }

    fn push(&mut self, octets: Bytes) {
        if octets.is_empty() {
            return;
        }
        let max_body = self.route.max_body;
        let fits = |form: &BytesMut| form.len() + octets.len() <= max_body;
        if self.form.as_ref().is_some_and(|form| !fits(form)) {
            self.pass_through();
        }
        if let Some(form) = &mut self.form {
            form.extend_from_slice(&octets);
        }
        self.lead.push(octets);
    }

    /// Keeps nothing of it from now on.
    fn pass_through(&mut self) {
        if self.form.take().is_some() {
            self.lead.pass_through();
        }
    }

    /// Keeps what was made of a content of so many octets, before anybody knows that it is whole: who
    /// comes then finds it.
    fn finish(self, length: u64, trailers: Option<HeaderMap>) {
        if let Some(form) = self.form {
            // A buffer of the right size: what is kept is kept with all its spare room.
            let form = Form::new(Bytes::copy_from_slice(&form), length);
            self.route.keep(self.lead.key, form);
        }
        self.lead.finish(trailers);
    }
}
