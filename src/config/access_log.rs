//! `[access_log]`: a line for each request.

use std::path::{Path, PathBuf};

use super::fault::Wrong;
use super::nearest;
use super::reader::Table;

/// `[access_log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `format`, default `json`.
    pub format: LogFormat,
    /// `file`: where lines are appended. None is standard output.
    pub file: Option<PathBuf>,
    /// `query`: lines have the queries of requests and referrers; default true.
    pub query: bool,
    /// `buffer`: so many octets of lines wait to be written, default 4 MiB, 64 KiB to 1 GiB. What does not
    /// fit is dropped.
    pub buffer: usize,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `json`: an object with everything.
    Json,
    /// `combined`: as other servers write it.
    Combined,
    /// `text`: that, and everything else behind it.
    Text,
}

/// No line needs more.
const LEAST: u64 = 64 << 10;

pub(super) fn read(mut table: Table<'_>, folder: &Path) -> AccessLog {
    let log = AccessLog {
        format: table.read("format", LogFormat::Json, format),
        file: table.read("file", None, |text| file(text, folder).map(Some)),
        query: table.boolean("query", true),
        buffer: table.memory("buffer", 4 << 20, LEAST..=1 << 30),
    };
    table.finish();
    log
}

fn format(text: &str) -> Result<LogFormat, Wrong> {
    match text {
        "json" => Ok(LogFormat::Json),
        "combined" => Ok(LogFormat::Combined),
        "text" => Ok(LogFormat::Text),
        _ => {
            let hint = nearest::hint(text, "write one of", ["json", "combined", "text"]);
            Err(Wrong { complaint: "is none of `json`, `combined` and `text`".to_owned(), hint })
        }
    }
}

fn file(text: &str, folder: &Path) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains('\0') || text.ends_with('/') {
        let hint = "write the path of a file, or leave it out for standard output";
        return Err(Wrong::new("is not the path of a file").with_hint(hint));
    }
    Ok(folder.join(text))
}
