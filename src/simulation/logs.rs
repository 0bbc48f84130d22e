//! Several logs as one: by time, and with what could not be read of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Serialize;

use super::exchange::{Broken, Exchange};
use super::json::Fields;
use super::source::{Format, Next, NotRead, Source};

/// So many broken lines are shown.
const MOST_SHOWN: usize = 3;

/// Logs that are being read, each from its beginning. What is next is the oldest of what each has next: so
/// the logs of several servers are one, and those of several days in their order.
pub struct Logs {
    open: Vec<(Source, Box<Exchange>)>,
    /// What has been read so far.
    pub told: Told,
}

/// What has been read of logs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Told {
    /// Exchanges.
    pub exchanges: u64,
    /// Lines that tell of none.
    pub broken: u64,
    /// The first of them.
    pub broken_lines: Vec<BrokenLine>,
    /// How many exchanges are told later than one that came after them: they count as of its time.
    pub late: u64,
    /// When the first was, in milliseconds since 1970.
    pub from: u64,
    /// When the last was.
    pub to: u64,
}

/// A line that tells of no exchange.
#[derive(Clone, Debug, Serialize)]
pub struct BrokenLine {
    /// The log's name.
    pub log: String,
    /// From 1; of a HAR, the entry by its time.
    pub line: u64,
    /// Why.
    pub why: &'static str,
}

impl Logs {
    /// Opens all of them. Counts in `octets` what is read.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn open(
        paths: &[PathBuf],
        format: Option<Format>,
        fields: &Fields,
        octets: &Arc<AtomicU64>,
    ) -> Result<Self, NotRead> {
        let mut logs = Self { open: Vec::new(), told: Told::default() };
        for path in paths {
            let mut source = Source::open(path, format, fields, octets)?;
            if let Some(first) = logs.told.advance(&mut source)? {
                logs.open.push((source, first));
            }
        }
        Ok(logs)
    }

    /// The next exchange. Its time is never before that of the one before.
    ///
    /// # Errors
    /// A log breaks off.
    pub fn take(&mut self) -> Result<Option<Box<Exchange>>, NotRead> {
        let next = self.open.iter_mut().enumerate().min_by_key(|(_, (_, next))| next.at);
        let Some((place, (source, next))) = next else { return Ok(None) };
        let mut exchange = match self.told.advance(source)? {
            Some(after) => std::mem::replace(next, after),
            None => self.open.swap_remove(place).1,
        };
        self.told.count(&mut exchange);
        Ok(Some(exchange))
    }
}

impl Told {
    /// The next exchange of a log, past what is broken.
    fn advance(&mut self, source: &mut Source) -> Result<Option<Box<Exchange>>, NotRead> {
        loop {
            match source.next()? {
                Next::Exchange(exchange) => return Ok(Some(exchange)),
                Next::End => return Ok(None),
                Next::Broken(line, Broken(why)) => {
                    self.broken += 1;
                    if self.broken_lines.len() < MOST_SHOWN {
                        let log = source.name().to_owned();
                        self.broken_lines.push(BrokenLine { log, line, why });
                    }
                }
            }
        }
    }

    fn count(&mut self, exchange: &mut Exchange) {
        if self.exchanges == 0 {
            self.from = exchange.at;
        } else if exchange.at < self.to {
            // Servers write a line when a request ends, and some seconds have many.
            self.late += 1;
            exchange.at = self.to;
        }
        self.exchanges += 1;
        self.to = exchange.at;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn several_logs_are_one_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let line = |second: u32, path: &str| {
            format!(
                "1.2.3.4 - - [10/Oct/2000:13:55:{second:02} +0000] \"GET {path} HTTP/1.1\" 200 1\n"
            )
        };
        let logs = [
            ("today", [line(30, "/4"), line(31, "/5")].concat()),
            (
                "yesterday",
                [line(10, "/1"), "x\n".into(), line(12, "/3"), "y\nz\n\nz\n".into()].concat(),
            ),
            ("beside", [line(11, "/2"), line(40, "/6"), line(32, "/7")].concat()),
            ("empty", String::new()),
        ];
        let paths: Vec<_> = logs.iter().map(|(name, _)| folder.path().join(name)).collect();
        for (path, (_, text)) in paths.iter().zip(&logs) {
            fs::write(path, text).unwrap();
        }
        let mut logs = Logs::open(&paths, None, &Fields::default(), &Arc::default()).unwrap();
        let mut seen = String::new();
        while let Some(exchange) = logs.take().unwrap() {
            seen.push_str(exchange.head.uri.path());
        }
        assert_eq!(seen, "/1/2/3/4/5/6/7");
        let Told { exchanges, broken, broken_lines, late, from, to } = logs.told;
        assert_eq!((exchanges, broken, late, to - from), (7, 4, 1, 30_000));
        let lines: Vec<_> = broken_lines.iter().map(|it| (it.line, it.why)).collect();
        let why = "there is no time in brackets";
        assert_eq!(lines, [(2, why), (4, why), (5, why)]);

        let gone =
            Logs::open(&[folder.path().join("gone")], None, &Fields::default(), &Arc::default());
        let told = gone.err().unwrap().to_string();
        assert!(
            told.ends_with("gone`: cannot be read: No such file or directory (os error 2)"),
            "{told}"
        );
    }
}
