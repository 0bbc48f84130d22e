//! What a configuration alone says of a request: nothing is started, listened on or called.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::Cache;
use crate::gateway::{Extent, Gateway, Lasting, Question};
use crate::store::{self, Store};

use super::Assembly;

impl Assembly {
    /// Which route takes a request, what its policies say, and which key that gives. Must be called on a
    /// runtime.
    ///
    /// # Errors
    /// What is wrong with the URL: it …
    pub async fn explain(
        self,
        method: Method,
        url: String,
        fields: HeaderMap,
        content: Option<Bytes>,
    ) -> Result<Value, &'static str> {
        let Self { parts, routes, .. } = self;
        let tasks = store::Tasks {
            runtime: Handle::current(),
            tracker: TaskTracker::new(),
            end: CancellationToken::new(),
        };
        // Without a second tier nothing is connected to. A first one stands for it: a gateway has a cache.
        let own = &parts.config.cache;
        let mut cache = Cache { l2: None, disk: None, ..own.clone() };
        if own.l2.is_some() || own.disk.is_some() {
            cache.l1.capacity = u64::MAX;
        }
        let store = Arc::new(Store::new(&cache, parts.config.server.name.as_deref(), tasks));
        let lasting = Lasting::new(store, TaskTracker::new(), Clock::System);
        let gateway = Gateway::new(&parts.config, parts.equipment(routes, &lasting));
        let question = Question { method, url, fields, content };
        let told = gateway.explain(&question, Extent::Key).await?;
        Ok(serde_json::to_value(told).unwrap_or_default())
    }
}
