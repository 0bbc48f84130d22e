//! What documents are read from.

use std::sync::Arc;

use crate::config::{Config, Fault};
use crate::documents::Source;

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
