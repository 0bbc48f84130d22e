//! `larder check`: is this configuration good?

use std::io::Write;
use std::path::Path;

use crate::config::Draft;
use crate::service::Assembly;

use super::{Exit, say};

/// Reads the file and loads what it names.
pub(super) fn check(file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    match Assembly::new(Draft::load(file), &file.display().to_string()) {
        Err(faults) => say(err, Exit::Faulty, &faults.to_string()),
        Ok(assembly) => {
            let config = assembly.config();
            let line = format!(
                "{}: no faults ({} routes, {} upstreams, {} policies)",
                file.display(),
                config.routes.len(),
                config.upstreams.len(),
                config.policies.len()
            );
            say(out, Exit::Done, &line)
        }
    }
}
