//! Setting up the log: to standard error, as text or as JSON; and errors as a line of text.

use std::env::var_os;
use std::ffi::OsStr;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Writes the log to standard error from now on. `filter` is a list of directives as
/// `tracing-subscriber` has them (`warn`, `info,larder::policy=debug`).
///
/// # Errors
/// The filter cannot be parsed; the text says why.
pub fn start(filter: &str, json: bool) -> Result<(), String> {
    if let Some(word) = filter.split(',').map(str::trim).find(|word| is_no_directive(word)) {
        return Err(format!(
            "`{word}` is no level; write off, error, warn, info, debug, trace, or TARGET=LEVEL"
        ));
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let is_coloured = is_coloured(
        std::io::stderr().is_terminal(),
        var_os("NO_COLOR").as_deref(),
        var_os("TERM").as_deref(),
    );
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where a line cannot be written, to say so there panics, and whatever logs would end.
        .log_internal_errors(false)
        .with_ansi(is_coloured);
    let started = if json { subscriber.json().try_init() } else { subscriber.compact().try_init() };
    // A second call in one process, as tests make it, leaves the first in place.
    drop(started);
    Ok(())
}

/// Whether it would be taken for all of a target that is not Larder's, as a level that is spelt wrongly: of Larder nothing
/// would be logged then.
fn is_no_directive(word: &str) -> bool {
    let is_target = word.contains(['=', '[']) || word.starts_with("larder");
    !is_target && word.parse::<LevelFilter>().is_err()
}

/// Whether lines have colours: on a terminal that knows any, unless its user wants none.
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty) && term != Some(OsStr::new("dumb"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_directives() {
        for word in ["off", "WARN", "5", "larder", "larder::policy", "hyper=info", "[request]"] {
            assert!(!is_no_directive(word), "{word}");
        }
        for word in ["warning", "inof", "hyper", "6"] {
            assert!(is_no_directive(word), "{word}");
        }
    }

    #[test]
    fn lines_have_colours_where_they_are_wanted() {
        for (is_terminal, no_color, term, expected) in [
            (true, None, None, true),
            (true, None, Some("xterm"), true),
            (true, Some(""), Some("xterm"), true),
            (true, Some("1"), Some("xterm"), false),
            (true, None, Some("dumb"), false),
            (false, None, Some("xterm"), false),
        ] {
            let told = is_coloured(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new));
            assert_eq!(told, expected, "{no_color:?} {term:?}");
        }
    }
}
