//! What stands for [`changes`](self) in a build without the feature `mongodb`: nothing that can be
//! watched, as there is no source.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config;
use crate::config::OnError;
use crate::documents::Source;
use crate::gateway::Current;
use crate::plugin::Policy;
use crate::store::Bookmark;

/// There is none.
pub struct Watched {
    /// As configured.
    pub watch: config::Watch,
    /// The name of `[mongodb.NAME]`.
    pub mongodb: String,
    /// Never made.
    pub source: Arc<Source>,
    /// Whom changes are told, and what its failure leads to.
    pub policy: Option<(Arc<Policy>, OnError)>,
    /// The names of its `routes`.
    pub routes: Vec<String>,
    /// Where it was.
    pub bookmark: Arc<Bookmark>,
}

/// There is none.
pub struct Watching(());

impl Watching {
    /// Never called, as there is no source.
    pub fn start(_: Watched, _: Arc<Current>, _: &Handle, _: Option<Self>) -> Self {
        Self(())
    }

    /// Never called.
    #[expect(clippy::unused_async, reason = "as it is where there are changes")]
    pub async fn end(self) {
        let Self(()) = self;
    }
}
