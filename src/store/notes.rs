//! Notes: octets under a name that a gateway keeps beside responses, for the one that comes after it,
//! where the second tier is.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::store::connection::Trouble;
use crate::store::nodes::Nodes;
use crate::store::{Redis, Store};

/// What is kept may be larger than a response, and nobody waits for it.
const ANSWER: Duration = Duration::from_millis(400);

/// What was kept cannot be had, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// There is no second tier.
    #[error("there is no `[cache.l2]`")]
    Nowhere,
    /// Redis did not do it.
    #[error("{0}")]
    Redis(String),
    /// The disk did not.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl Store {
    /// What was kept under a name; none if nothing was, or not for so long.
    ///
    /// # Errors
    /// The second tier is out of reach, or there is none.
    pub async fn read_note(&self, name: &str) -> Result<Option<Vec<u8>>, NotKept> {
        if let Some(path) = self.path(name) {
            return on_disk(move || match fs::read(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                read => read.map(Some),
            })
            .await;
        }
        let (nodes, key, deadline) = self.place(name)?;
        let mut asking = redis::pipe();
        asking.cmd("GET").arg(&key);
        let (kept,) = nodes.query(&key, &asking, deadline).await?;
        Ok(kept)
    }

    /// Keeps octets under a name, in the place of what was there. In Redis no longer than this.
    ///
    /// # Errors
    /// As for [`Store::read_note`].
    pub async fn write_note(
        &self,
        name: &str,
        octets: Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), NotKept> {
        if let Some(path) = self.path(name) {
            return on_disk(move || {
                let unfinished = path.with_extension("unfinished");
                fs::write(&unfinished, octets)?;
                fs::rename(unfinished, path)
            })
            .await;
        }
        let (nodes, key, deadline) = self.place(name)?;
        let mut telling = redis::pipe();
        telling.cmd("SET").arg(&key).arg(octets).arg("EX").arg(lifetime.as_secs()).ignore();
        Ok(nodes.query(&key, &telling, deadline).await?)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.disk.as_ref()?.folder().join(name))
    }

    fn place(&self, name: &str) -> Result<(&Arc<Nodes>, String, Instant), NotKept> {
        let Redis { nodes, namespace, .. } = self.redis.as_ref().ok_or(NotKept::Nowhere)?;
        let deadline = Instant::from_std(clock::instant() + ANSWER);
        Ok((nodes, format!("{namespace}:{name}"), deadline))
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NotKept> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(NotKept::Disk(io::Error::other(error))),
    }
}

impl From<Trouble> for NotKept {
    fn from(trouble: Trouble) -> Self {
        Self::Redis(trouble.to_string())
    }
}
