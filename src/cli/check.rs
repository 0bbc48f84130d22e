//! `larder check`: is this configuration good?

use std::io::Write;
use std::path::Path;

use crate::clock::Clock;
use crate::config::{Draft, Fault};
use crate::service::Assembly;

use super::{Exit, say};

/// Reads the file and loads what it names.
pub(super) fn check(file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    match Assembly::new(Draft::load(file), &file.display().to_string()) {
        Err(faults) => say(err, Exit::Faulty, &faults.to_string()),
        Ok(assembly) => {
            for aged in assembly.aged(Clock::System.now()) {
                let name = file.display().to_string();
                let warning = Fault::new(name, aged.place, format!("warning: {aged}"));
                say(err, Exit::Done, &warning.to_string());
            }
            let config = assembly.config();
            let mut found = vec![
                count(config.routes.len(), "route", "routes"),
                count(config.upstreams.len(), "upstream", "upstreams"),
                count(config.policies.len(), "policy", "policies"),
            ];
            if !config.mongodbs.is_empty() {
                found.push(count(
                    config.mongodbs.len(),
                    "MongoDB deployment",
                    "MongoDB deployments",
                ));
            }
            if !config.watches.is_empty() {
                found.push(count(config.watches.len(), "stream of changes", "streams of changes"));
            }
            let line = format!("{}: no faults ({})", file.display(), found.join(", "));
            say(out, Exit::Done, &line)
        }
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
