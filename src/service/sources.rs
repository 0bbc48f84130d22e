//! What routes are answered from: upstreams, and what documents are read from.

use std::sync::Arc;

use crate::config::{Config, Fault};
use crate::documents::Source;
use crate::upstream::Upstream;

use super::Parts;

/// The deployment of each `[mongodb.NAME]`. One of `former` keeps its connections, if nothing about it
/// has changed.
pub(super) fn sources(
    config: &Config,
    file: &str,
    former: &[Arc<Source>],
    faults: &mut Vec<Fault>,
) -> Vec<Arc<Source>> {
    let mut sources = Vec::with_capacity(config.mongodbs.len());
    for mongodb in &config.mongodbs {
        match Source::new(mongodb) {
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

/// An upstream of `former` keeps its connections, if nothing about it has changed.
pub(super) fn upstreams(
    config: &Config,
    file: &str,
    former: Option<&Parts>,
    faults: &mut Vec<Fault>,
) -> Vec<(blake3::Hash, Arc<Upstream>)> {
    let mut upstreams = Vec::with_capacity(config.upstreams.len());
    for upstream in &config.upstreams {
        // One that cannot be read is the upstream's to complain of.
        let mut files = blake3::Hasher::new();
        for octets in upstream.files().map(|file| std::fs::read(file).unwrap_or_default()) {
            files.update(blake3::hash(&octets).as_bytes());
        }
        let files = files.finalize();
        let known = former.and_then(|former| {
            let known = former.config.upstreams.iter().zip(&former.upstreams);
            let mut known = known
                .filter(|(other, (its, _))| *its == files && other.essence() == upstream.essence());
            known.next().map(|(_, known)| known.clone())
        });
        if let Some(known) = known {
            upstreams.push(known);
            continue;
        }
        match Upstream::new(upstream) {
            Ok(made) => upstreams.push((files, Arc::new(made))),
            Err(error) => {
                let message = format!("upstream `{}`: {error}", upstream.name);
                faults.push(Fault::new(file, error.place(), message));
            }
        }
    }
    upstreams
}
