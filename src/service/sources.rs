//! What routes are answered from: upstreams, and what documents are read from.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::{Config, Fault};
use crate::documents::Source;
use crate::upstream::{Security, Unusable, Upstream};

use super::Parts;

/// An upstream of a configuration.
pub(super) struct Forward {
    /// Of the content of the files that it names.
    files: blake3::Hash,
    pub(super) upstream: Arc<Upstream>,
    /// What was read of other files than the upstream was made with.
    renewal: Option<Security>,
}

impl Forward {
    /// What is left to be done when the configuration counts.
    pub(super) fn begin(&self, runtime: &Handle) {
        if let Some(security) = &self.renewal {
            self.upstream.secure(security.clone());
        }
        self.upstream.look_after(runtime);
    }
}

/// The deployment of each `[mongodb.NAME]`. One of `former` keeps its connections, if nothing about it
/// has changed.
pub(super) fn sources(
    config: &Config,
    file: &str,
    former: &[Arc<Source>],
    faults: &mut Vec<Fault>,
) -> Vec<Arc<Source>> {
    let mut sources = Vec::with_capacity(config.mongodbs.len());
    for (place, mongodb) in config.mongodbs.iter().enumerate() {
        let is_watched = config.watches.iter().any(|watch| watch.mongodb == place);
        match Source::new(mongodb, is_watched) {
            Ok(made) => {
                let known = former.iter().find(|known| known.is_same(&made));
                sources.push(known.map_or_else(|| Arc::new(made), Arc::clone));
            }
            Err(error) => {
                let message = format!("mongodb `{}`: {error}", mongodb.name);
                faults.push(Fault::new(file, mongodb.place, message));
            }
        }
    }
    sources
}

/// An upstream of `former` keeps its connections if nothing about it has changed, and what it knows of its
/// servers if nothing but the files that it names has.
pub(super) fn upstreams(
    config: &Config,
    file: &str,
    former: Option<&Parts>,
    faults: &mut Vec<Fault>,
) -> Vec<Forward> {
    let mut upstreams = Vec::with_capacity(config.upstreams.len());
    for upstream in &config.upstreams {
        // One that cannot be read is the upstream's to complain of.
        let mut files = blake3::Hasher::new();
        for octets in upstream.files().map(|file| std::fs::read(file).unwrap_or_default()) {
            files.update(blake3::hash(&octets).as_bytes());
        }
        let files = files.finalize();
        let known = former.and_then(|former| {
            let mut known = former.config.upstreams.iter().zip(&former.upstreams);
            let (_, known) = known.find(|(it, _)| it.essence() == upstream.essence())?;
            Some(known)
        });
        let made = || -> Result<Forward, Unusable> {
            let Some(Forward { files: former, upstream: known, .. }) = known else {
                let upstream = Arc::new(Upstream::new(upstream)?);
                return Ok(Forward { files, upstream, renewal: None });
            };
            let has_changed = *former != files;
            let renewal = has_changed.then(|| Security::load(upstream)).transpose()?;
            Ok(Forward { files, upstream: Arc::clone(known), renewal })
        };
        match made() {
            Ok(made) => upstreams.push(made),
            Err(error) => {
                let message = format!("upstream `{}`: {error}", upstream.name);
                faults.push(Fault::new(file, error.place(), message));
            }
        }
    }
    upstreams
}
