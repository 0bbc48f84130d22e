//! A line for each request, when it has ended.
//!
//! Whoever answers requests puts lines into a buffer, and a thread of its own writes them, ten times a
//! second or as soon as they are many: a slow disk never delays a request. What does not fit is dropped,
//! counted, and told. `entry` says what stands in a line.

mod entry;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use tracing::{info, warn};

use crate::config;
use crate::stats::Stats;

pub use self::entry::{Answered, Asked, End, Entry, Notes};

/// Lines wait no longer than this.
const PERIOD: Duration = Duration::from_millis(100);
/// So many octets of them are written at once.
const MUCH: usize = 256 << 10;

/// Where lines go. Cheap to clone by its `Arc`.
pub struct AccessLog {
    format: config::LogFormat,
    query: bool,
    shared: Arc<Shared>,
    writer: Thread,
}

/// The thread that writes.
pub struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    lines: Mutex<Lines>,
    most: usize,
    reopen: AtomicBool,
    ending: AtomicBool,
    stats: Arc<Stats>,
}

/// What waits to be written.
struct Lines {
    octets: Vec<u8>,
    count: u64,
}

impl Lines {
    /// None, and room for those that wait while others are written, so that nothing is moved about later.
    fn none(most: usize) -> Self {
        Self { octets: Vec::with_capacity(2 * much(most)), count: 0 }
    }
}

/// So many octets are written at once, where there is room for `most`.
fn much(most: usize) -> usize {
    MUCH.min(most / 4)
}

impl AccessLog {
    /// Opens the file and begins to write.
    ///
    /// # Errors
    /// The file cannot be opened, or there can be no thread.
    pub fn start(config: &config::AccessLog, stats: Arc<Stats>) -> io::Result<(Arc<Self>, Writer)> {
        let target = Target::open(config.file.as_deref())?;
        let shared = Arc::new(Shared {
            lines: Mutex::new(Lines::none(config.buffer)),
            most: config.buffer,
            reopen: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            stats,
        });
        let (writing, file) = (Arc::clone(&shared), config.file.clone());
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writing.write(target, file.as_deref()))?;
        let log = Arc::new(Self {
            format: config.format,
            query: config.query,
            shared: Arc::clone(&shared),
            writer: thread.thread().clone(),
        });
        Ok((log, Writer { shared, thread }))
    }

    /// Writes to the file of this name from now on, whatever has become of the one before.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// Puts a line, which is in pieces.
    fn put(&self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut lines = self.shared.lines();
        if lines.octets.len() + length > self.shared.most {
            self.shared.stats.access_log.dropped.count();
            return;
        }
        let before = lines.octets.len();
        for piece in pieces {
            lines.octets.extend_from_slice(piece);
        }
        lines.count += 1;
        // Once, while they are in the processor's caches, and long before there is no room.
        let much = much(self.shared.most);
        if before < much && lines.octets.len() >= much {
            self.writer.unpark();
        }
    }
}

impl Writer {
    /// Writes what is left. It may take as long as the disk does.
    pub fn end(self) {
        self.shared.ending.store(true, Ordering::Release);
        self.thread.thread().unpark();
        drop(self.thread.join());
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, mut target: Target, file: Option<&Path>) {
        let mut lines = Lines::none(self.most);
        let (mut is_failing, mut is_torn, mut told) = (false, false, 0);
        loop {
            // Before the lines are taken: those of requests that have ended are there by then.
            let is_ending = self.ending.load(Ordering::Acquire);
            if self.reopen.swap(false, Ordering::AcqRel) {
                match Target::open(file) {
                    Ok(opened) => (target, is_torn) = (opened, false),
                    Err(error) => {
                        warn!(%error, "access log cannot be opened anew, the old one stays");
                    }
                }
            }
            lines.octets.clear();
            lines.count = 0;
            std::mem::swap(&mut lines, &mut *self.lines());
            let count = lines.count;
            // What is left of a line that a full disk has cut off is none of the next.
            if is_torn && count > 0 {
                lines.octets.insert(0, b'\n');
            }
            let (done, ended) = target.write(&lines.octets);
            let (done, rest) = lines.octets.split_at(done);
            is_torn = done.last().map_or(is_torn, |last| *last != b'\n');
            // Where nothing was written, the end that mends is among them.
            let lost = ends(rest).min(count);
            let counts = &self.stats.access_log;
            counts.written.add(count - lost);
            counts.dropped.add(lost);
            match ended {
                Ok(()) => {
                    if is_failing && count > 0 {
                        info!("access log is written again");
                        is_failing = false;
                    }
                }
                Err(error) => {
                    if !is_failing {
                        warn!(%error, "access log cannot be written, lines are lost");
                        is_failing = true;
                    }
                }
            }
            let dropped = counts.dropped.value();
            if dropped > told && !is_failing {
                warn!(lines = dropped - told, "access log had no room for all lines");
            }
            told = dropped;
            if is_ending {
                return;
            }
            std::thread::park_timeout(PERIOD);
        }
    }
}

/// How many lines have their end.
fn ends(lines: &[u8]) -> u64 {
    lines.iter().map(|octet| u64::from(*octet == b'\n')).sum()
}

/// What is written to.
enum Target {
    File(File),
    Standard(io::Stdout),
}

impl Target {
    fn open(file: Option<&Path>) -> io::Result<Self> {
        let Some(file) = file else { return Ok(Self::Standard(io::stdout())) };
        // Whoever makes it empty after a copy finds the next line at its beginning.
        Ok(Self::File(OpenOptions::new().create(true).append(true).open(file)?))
    }

    /// How many octets were written, and why not all.
    fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let to: &mut dyn Write = match self {
            Self::File(file) => file,
            Self::Standard(standard) => standard,
        };
        let mut done = 0;
        while let Some(rest) = lines.get(done..).filter(|rest| !rest.is_empty()) {
            match to.write(rest) {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (done, Err(error)),
            }
        }
        (done, to.flush())
    }
}
