//! One log: opened, unpacked, its format found out, and read as a stream.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, stdin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::combined::Combined;
use super::exchange::{Broken, Exchange};
use super::har;
use super::json::{Fields, Json};

/// So much of a log is looked at to find out its format, and read at a time.
const AHEAD: usize = 64 << 10;

/// A line of more octets tells of nothing.
const LONGEST: usize = 64 << 10;

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Common or combined, as Apache and nginx write them.
    Combined,
    /// A JSON object a line.
    Json,
    /// HTTP Archive, as browsers write it.
    Har,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{name}`: {why}")]
pub struct NotRead {
    name: String,
    why: String,
}

/// What comes next of a log.
pub(super) enum Next {
    /// An exchange.
    Exchange(Box<Exchange>),
    /// The line of this number tells of none.
    Broken(u64, Broken),
    /// No more.
    End,
}

/// A log that is being read.
pub(super) struct Source {
    name: String,
    content: Content,
}

enum Content {
    Lines {
        lines: Lines,
        reader: Reader,
    },
    /// Read as a whole: its exchanges are in no order.
    Har {
        told: VecDeque<Result<Exchange, Broken>>,
        number: u64,
    },
}

enum Reader {
    Combined(Combined),
    Json(Box<Json>),
}

/// The lines of a stream, each at most so long.
struct Lines {
    stream: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

/// Counts what is read of files.
struct Counted<R> {
    inner: R,
    octets: Arc<AtomicU64>,
}

impl Format {
    /// What these first octets are the beginning of.
    fn of(octets: &[u8]) -> Self {
        let text = octets.trim_ascii_start();
        let Some(rest) = text.strip_prefix(b"{") else { return Self::Combined };
        // A line may have a member `log`, too; that is no object.
        let rest = rest.trim_ascii_start().strip_prefix(b"\"log\"");
        let rest = rest.and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"));
        match rest {
            Some(rest) if rest.trim_ascii_start().starts_with(b"{") => Self::Har,
            _ => Self::Json,
        }
    }
}

impl Source {
    /// Opens a log; `-` is standard input. What is packed by gzip is unpacked. Counts in `octets` what is
    /// read.
    ///
    /// # Errors
    /// It cannot be read, or is none of the format.
    pub(super) fn open(
        path: &Path,
        format: Option<Format>,
        fields: &Fields,
        octets: &Arc<AtomicU64>,
    ) -> Result<Self, NotRead> {
        let name = path.display().to_string();
        let refused = |why: String| NotRead { name: name.clone(), why };
        let cannot = |error: io::Error| refused(format!("cannot be read: {error}"));
        let stream: Box<dyn Read> = if path == Path::new("-") {
            Box::new(stdin())
        } else {
            Box::new(File::open(path).map_err(cannot)?)
        };
        let counted = Counted { inner: stream, octets: Arc::clone(octets) };
        let mut stream: Box<dyn BufRead> = Box::new(BufReader::with_capacity(AHEAD, counted));
        let is_packed = stream.fill_buf().map_err(cannot)?.starts_with(&[0x1f, 0x8b]);
        if is_packed {
            stream = Box::new(BufReader::with_capacity(AHEAD, MultiGzDecoder::new(stream)));
        }
        let format = match format {
            Some(format) => format,
            None => Format::of(stream.fill_buf().map_err(cannot)?),
        };
        let lines = |stream, reader| {
            let lines = Lines { stream, line: Vec::new(), number: 0 };
            Content::Lines { lines, reader }
        };
        let content = match format {
            Format::Combined => lines(stream, Reader::Combined(Combined::default())),
            Format::Json => lines(stream, Reader::Json(Box::new(Json::new(fields.clone())))),
            Format::Har => {
                let told = har::read(&mut stream).map_err(|error| refused(format!("{error}")))?;
                Content::Har { told: told.into(), number: 0 }
            }
        };
        Ok(Self { name, content })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What comes next.
    ///
    /// # Errors
    /// It breaks off.
    pub(super) fn next(&mut self) -> Result<Next, NotRead> {
        match &mut self.content {
            Content::Har { told, number } => Ok(match told.pop_front() {
                None => Next::End,
                Some(next) => {
                    *number += 1;
                    match next {
                        Ok(exchange) => Next::Exchange(Box::new(exchange)),
                        Err(why) => Next::Broken(*number, why),
                    }
                }
            }),
            Content::Lines { lines, reader } => {
                let came = lines.advance().map_err(|error| NotRead {
                    name: self.name.clone(),
                    why: format!("breaks off after line {}: {error}", lines.number),
                })?;
                if !came {
                    return Ok(Next::End);
                }
                let line = match lines.line() {
                    Ok(line) => line,
                    Err(why) => return Ok(Next::Broken(lines.number, why)),
                };
                let read = match reader {
                    Reader::Combined(combined) => combined.read(line),
                    Reader::Json(json) => json.read(line),
                };
                Ok(match read {
                    Ok(exchange) => Next::Exchange(Box::new(exchange)),
                    Err(why) => Next::Broken(lines.number, why),
                })
            }
        }
    }
}

impl Lines {
    /// Goes on to the next one that is not empty; false: there is none.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            self.line.clear();
            let most = LONGEST as u64 + 1;
            let read = self.stream.by_ref().take(most).read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(false);
            }
            self.number += 1;
            if self.is_too_long() {
                self.stream.skip_until(b'\n')?;
                return Ok(true);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn is_too_long(&self) -> bool {
        self.line.len() > LONGEST && self.line.last() != Some(&b'\n')
    }

    /// The one that it is at, without its end.
    fn line(&self) -> Result<&[u8], Broken> {
        if self.is_too_long() {
            return Err(Broken("it is longer than 65536 octets"));
        }
        Ok(self.line.trim_ascii())
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.octets.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// How large all of these are; standard input counts as nothing.
pub fn total(logs: &[PathBuf]) -> u64 {
    let sizes = logs.iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.len());
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LINE: &str = "1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET /a HTTP/1.1\" 200 12\n";

    /// What a log of these octets comes to.
    fn read(octets: &[u8]) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all(octets).unwrap();
        let counted = Arc::default();
        let source = Source::open(file.path(), None, &Fields::default(), &counted);
        let mut source = source.map_err(|error| error.why)?;
        let mut told = Vec::new();
        loop {
            match source.next().map_err(|error| error.why)? {
                Next::Exchange(exchange) => told.push(exchange.head.uri.to_string()),
                Next::Broken(line, Broken(why)) => told.push(format!("{line}: {why}")),
                Next::End => break,
            }
        }
        assert_eq!(counted.load(Ordering::Relaxed), octets.len() as u64);
        Ok(told)
    }

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn formats_are_found_out() {
        for (octets, expected) in [
            ("", Format::Combined),
            (LINE, Format::Combined),
            ("\n {\"time\":1}", Format::Json),
            ("{\"log\":\"GET / \"}", Format::Json),
            ("{\n \"log\" : {", Format::Har),
        ] {
            assert_eq!(Format::of(octets.as_bytes()), expected, "{octets:?}");
        }
    }

    #[test]
    fn lines_come_one_by_one_however_they_are_packed() {
        let all = ["/a", "/a"].map(str::to_owned).to_vec();
        let two = format!("{LINE}\r\n{}", LINE.trim_end());
        assert_eq!(read(two.as_bytes()), Ok(all.clone()));
        assert_eq!(read(&packed(&two)), Ok(all.clone()));
        assert_eq!(read(&[packed(LINE), packed(LINE)].concat()), Ok(all));
        assert_eq!(read(b""), Ok(Vec::new()));
        let broken = packed(&two);
        let told = read(&broken[..broken.len() - 9]).unwrap_err();
        assert!(told.starts_with("breaks off after line "), "{told}");
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let long = format!("{}\n{LINE}", "a".repeat(LONGEST + 1));
        let expected = ["1: it is longer than 65536 octets", "/a"].map(str::to_owned).to_vec();
        assert_eq!(read(long.as_bytes()), Ok(expected));
        let just = format!("{}\n{LINE}", "a".repeat(LONGEST));
        let expected = ["1: there is no time in brackets", "/a"].map(str::to_owned).to_vec();
        assert_eq!(read(just.as_bytes()), Ok(expected));
    }
}
