//! A plugin with its cases, ready to be asked.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::ask::Asked;
use super::project::{self, Project};
use super::verdict;
use crate::cli::runtime;
use crate::config::cases::Cases;
use crate::config::{Place, Policy, Setting};
use crate::plugin::{Compiled, Engine, LoadError};

/// A plugin that can be configured, with its cases.
pub(super) struct Subject {
    pub(super) project: Project,
    pub(super) engine: Arc<Engine>,
    pub(super) compiled: Compiled,
    pub(super) cases: Cases,
    /// What faults and verdicts call the file of cases.
    pub(super) file: String,
    runtime: Rc<Runtime>,
}

impl Subject {
    /// Finds, reads and compiles.
    ///
    /// # Errors
    /// What is wrong, to be shown as it is.
    pub(super) fn new(path: &str, cases: Option<PathBuf>) -> Result<Self, String> {
        let project = project::find(path)?;
        let unfit = |error: LoadError| format!("{}: {error}", project.shown);
        let engine = Engine::new(1).map_err(unfit)?;
        let Some(cases) = cases.or_else(|| project.cases.clone()) else {
            // There may be no such plugin either.
            let _there = Compiled::read(&engine, &project.plugin).map_err(unfit)?;
            return Err(format!(
                "`{path}` has no cases beside it\n  hint: name a file with --cases"
            ));
        };
        let file = cases.display().to_string();
        let cases = Cases::load(&cases).map_err(|faults| faults.to_string())?;
        let compiled = Compiled::read(&engine, &project.plugin).map_err(unfit)?;
        let runtime = Rc::new(runtime()?);
        Ok(Self { project, engine, compiled, cases, file, runtime })
    }

    /// The plugin with these settings.
    ///
    /// # Errors
    /// Why not: its own words, if it refused them.
    pub(super) fn configured(&self, config: &[(String, Setting)]) -> Result<Asked, String> {
        let plugin = self.project.plugin.clone();
        let policy = Policy {
            config: config.to_vec(),
            time: self.cases.time,
            memory: self.cases.memory,
            ..Policy::new("tested".to_owned(), plugin, Place::default())
        };
        let policy = self.compiled.configure(&self.engine, &policy);
        let policy = policy.map_err(|error| match error {
            LoadError::Failed(failure) => {
                format!("`configure` failed: {}", verdict::of_failure(&failure))
            }
            error => error.to_string(),
        })?;
        Ok(Asked { policy, runtime: Rc::clone(&self.runtime) })
    }
}
