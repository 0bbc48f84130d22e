//! What stands for [`documents`](self) in a build without the feature `mongodb`: nothing that can be
//! made.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use tokio::runtime::Handle;

use crate::config;
use crate::config::Mongodb;
use crate::upstream::Failure;
use crate::upstream::Reply;

/// There is none.
pub struct Source(Never);

/// There are none.
pub struct Documents(Never);

enum Never {}

/// What a deployment is like, of which there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {}

/// How a deployment is, of which there is none.
#[derive(Clone, Debug)]
pub struct Health {
    /// The name of `[mongodb.NAME]`.
    pub name: String,
    /// What it is like now.
    pub state: State,
    /// For how long it can be used, or cannot.
    pub lasts: Duration,
    /// What was wrong last.
    pub error: Option<(Duration, String)>,
}

impl State {
    /// Never called.
    pub fn as_str(self) -> &'static str {
        match self {}
    }

    /// Never called.
    pub fn is_trouble(self) -> bool {
        match self {}
    }
}

/// This build reads no documents.
#[derive(Debug, thiserror::Error)]
#[error("this Larder was built without MongoDB; build it with the feature `mongodb`")]
pub struct Unusable;

impl Source {
    /// Always an error.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn new(_: &Mongodb, _is_watched: bool) -> Result<Self, Unusable> {
        Err(Unusable)
    }

    /// Never called.
    pub fn is_same(&self, _: &Self) -> bool {
        match self.0 {}
    }

    /// Never called.
    pub fn health(&self) -> Health {
        match self.0 {}
    }

    /// Never called.
    pub fn look(self: &Arc<Self>, _: &Handle) {
        match self.0 {}
    }
}

impl Documents {
    /// Never called.
    #[expect(clippy::needless_pass_by_value, reason = "as it is where there are documents")]
    pub fn new(source: Arc<Source>, _: config::Document, _: Handle) -> Self {
        match source.0 {}
    }

    /// Never called.
    pub fn label(&self) -> &str {
        match self.0 {}
    }

    /// Never called.
    #[expect(clippy::unused_async, reason = "as it is where there are documents")]
    pub async fn answer(
        &self,
        _: &Method,
        _: Option<&PathAndQuery>,
        _: &[(&str, &str)],
        _: &HeaderMap,
    ) -> Result<Response<Reply>, Failure> {
        match self.0 {}
    }
}
