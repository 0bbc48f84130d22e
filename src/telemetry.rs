//! Setting up the log: to standard error, as text or as JSON; and errors as a line of text.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Writes the log to standard error from now on. `filter` is a list of directives as
/// `tracing-subscriber` has them (`info`, `larder::policy=debug`).
///
/// # Errors
/// The filter cannot be parsed; the text says why.
pub fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where a line cannot be written, to say so there panics, and whatever logs would end.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = if json { subscriber.json().try_init() } else { subscriber.compact().try_init() };
    // A second call in one process, as tests make it, leaves the first in place.
    drop(started);
    Ok(())
}

/// An error and what caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
