//! `larder simulate`: what a configuration, or one of two, would have made of the requests in logs.
//!
//! One thread reads the logs, and one for each configuration has it answer.

mod table;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum, value_parser};
use http::HeaderValue;
use serde_json::json;

use crate::clock;
use crate::config::{self, Faults};
use crate::service;
use crate::simulation::{
    self, Exchange, Fields, Format, Logs, Report, Role, Settings, Subject, Told,
};
use crate::terminal;

use super::output::columns;
use super::{Exit, runtime, say, shown};

/// So many exchanges go from thread to thread at once, and so many of those wait.
const BATCH: usize = 1024;
const WAITING: usize = 4;

/// The line on a terminal is written anew no more often.
const BETWEEN_LINES: Duration = Duration::from_millis(100);

/// Goes back to the line's beginning, and wipes it.
const WIPED: &str = "\r\u{1b}[K";

const EXAMPLES: &str = "\
Examples:
  larder simulate /var/log/nginx/access.log*
      What gateway.toml in this folder would have made of what nginx has answered.
  larder simulate --config gateway.toml --config next.toml --ttl 1m access.log.gz
      Two configurations side by side, where responses were fresh for a minute.
  zcat app.json.gz | larder simulate --field time=when --json -
      Lines of JSON with a name of their own, and a report for programs.";

/// Arguments of `larder simulate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The logs, oldest first or not; what gzip has packed is unpacked, and `-` is standard input.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,

    /// The configuration to try; given twice, two are compared.
    #[arg(long = "config", value_name = "FILE", default_value = "gateway.toml")]
    configs: Vec<PathBuf>,

    /// How the logs are written.
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    format: Written,

    /// Which member of a line of JSON says what: `time=NAME`, and so for method, uri, query, request, host,
    /// scheme, user, status and bytes; a dot leads into an object. What is not named is guessed.
    #[arg(long = "field", value_name = "ROLE=NAME", value_parser = Fields::parse)]
    fields: Vec<(Role, String)>,

    /// How long responses were fresh of which neither the log nor the route says it: `30s`, `5m`.
    #[arg(long, value_name = "TIME", value_parser = span)]
    ttl: Option<Duration>,

    /// The host of requests of which the log tells none.
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: HeaderValue,

    /// The scheme of requests of which the log does not tell it.
    #[arg(long, value_name = "SCHEME", default_value = "http")]
    scheme: Scheme,

    /// So many keys are told apart; of more, their number is estimated. Each takes some 100 octets.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = value_parser!(u32).range(1..=100_000_000))]
    keys: u32,

    /// So many of the keys that missed most are shown.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = value_parser!(u16).range(0..=1000))]
    worst: u16,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Written {
    /// By their first octets.
    Auto,
    /// Common or combined, as Apache and nginx write them, also after a virtual host.
    Combined,
    /// A JSON object a line.
    Json,
    /// HTTP Archive, as browsers save it.
    Har,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scheme {
    Http,
    Https,
}

/// Exchanges on their way to all configurations.
type Batch = Arc<Vec<Exchange>>;

/// What there is to tell.
struct Outcome {
    told: Told,
    reports: Vec<Report>,
}

/// The line on a terminal.
struct Progress {
    total: u64,
    octets: Arc<AtomicU64>,
    begun: Instant,
    last: Option<Instant>,
}

/// Simulates, and tells what came of it.
pub(super) fn simulate(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    if arguments.configs.len() > 2 {
        return say(err, Exit::Faulty, "--config: two configurations are compared, and no more");
    }
    let octets = Arc::default();
    let logs = Logs::open(
        &arguments.logs,
        arguments.format.format(),
        &Fields::of(&arguments.fields),
        &octets,
    );
    let logs = match logs {
        Ok(logs) => logs,
        Err(error) => return say(err, Exit::Failed, &shown(&error.to_string())),
    };
    let outcome = match run(arguments, logs, octets, err) {
        Ok(outcome) => outcome,
        Err((exit, why)) => return say(err, exit, &why),
    };
    if outcome.told.exchanges == 0 {
        let text = table::nothing(&outcome.told);
        return say(err, Exit::Failed, text.trim_end());
    }
    let text = if arguments.json {
        let told = json!({ "logs": outcome.told, "configurations": outcome.reports });
        terminal::json(&told.to_string())
    } else {
        table::table(&outcome.told, &outcome.reports)
    };
    say(out, Exit::Done, text.trim_end())
}

/// Reads the logs, and has each configuration answer.
fn run(
    arguments: &Arguments,
    mut logs: Logs,
    octets: Arc<AtomicU64>,
    err: &mut dyn Write,
) -> Result<Outcome, (Exit, String)> {
    let progress = Progress {
        total: simulation::total(&arguments.logs),
        octets,
        begun: clock::instant(),
        last: None,
    };
    let mut progress = std::io::stderr().is_terminal().then_some(progress);
    let result = std::thread::scope(|scope| {
        let started = arguments.configs.iter().map(|file| Worker::start(scope, file, arguments));
        // All begin to load before one is waited for.
        let started: Vec<_> = started.collect();
        let mut workers = Vec::new();
        for worker in started {
            workers.push(worker?.ready()?);
        }
        let read = feed(&mut logs, &workers, |exchanges| {
            if let Some(progress) = &mut progress {
                progress.show(exchanges, err);
            }
        });
        let reports = workers.into_iter().map(Worker::end).collect();
        read.map(|()| reports).map_err(|error| (Exit::Failed, shown(&error.to_string())))
    });
    if progress.is_some() {
        // A terminal that is gone cannot be told so.
        let _gone = write!(err, "{WIPED}");
    }
    Ok(Outcome { reports: result?, told: logs.told })
}

/// Hands all exchanges on.
fn feed(
    logs: &mut Logs,
    workers: &[Worker<'_>],
    mut each: impl FnMut(u64),
) -> Result<(), simulation::NotRead> {
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Some(exchange) = logs.take()?
        {
            batch.push(*exchange);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let batch = Arc::new(batch);
        for worker in workers {
            // One that has ended says so when it is waited for.
            let _gone = worker.batches.send(Arc::clone(&batch));
        }
        each(logs.told.exchanges);
    }
}

/// The thread of a configuration.
struct Worker<'s> {
    batches: SyncSender<Batch>,
    loaded: Receiver<Result<(), (Exit, String)>>,
    thread: ScopedJoinHandle<'s, Option<Report>>,
}

impl<'s> Worker<'s> {
    fn start<'e>(
        scope: &'s Scope<'s, 'e>,
        file: &'e Path,
        arguments: &'e Arguments,
    ) -> Result<Self, (Exit, String)> {
        let (batches, coming) = sync_channel::<Batch>(WAITING);
        let (loads, loaded) = sync_channel(1);
        let run = move || {
            simulation::quietly(|warnings| {
                let runtime = match runtime() {
                    Ok(runtime) => runtime,
                    Err(why) => {
                        let _gone = loads.send(Err((Exit::Failed, why)));
                        return None;
                    }
                };
                runtime.block_on(async {
                    let trial = match service::replayed(file, arguments.ttl) {
                        Ok(trial) => trial,
                        Err(faults) => {
                            let _gone = loads.send(Err(faulty(&faults)));
                            return None;
                        }
                    };
                    let _gone = loads.send(Ok(()));
                    let mut subject = Subject::new(trial, arguments.settings());
                    for batch in coming {
                        for exchange in batch.iter() {
                            subject.take(exchange).await;
                        }
                    }
                    Some(subject.report(&warnings))
                })
            })
        };
        let thread = Builder::new().name("simulation".to_owned()).spawn_scoped(scope, run);
        let thread = thread.map_err(|error| (Exit::Failed, format!("no thread: {error}")))?;
        Ok(Self { batches, loaded, thread })
    }

    /// Waits until the configuration is loaded.
    fn ready(self) -> Result<Self, (Exit, String)> {
        let loaded = self.loaded.recv();
        loaded.unwrap_or_else(|_| Err((Exit::Failed, "the simulation has ended".to_owned())))?;
        Ok(self)
    }

    /// There are no more exchanges: what did it come to?
    fn end(self) -> Report {
        drop(self.batches);
        match self.thread.join() {
            Ok(report) => report.expect("what is loaded reports"),
            // A panic is not hidden.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn faulty(faults: &Faults) -> (Exit, String) {
    (Exit::Faulty, faults.to_string())
}

impl Arguments {
    fn settings(&self) -> Settings {
        Settings {
            host: self.host.clone(),
            scheme: match self.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            },
            keys: self.keys as usize,
            worst: usize::from(self.worst),
        }
    }
}

impl Written {
    fn format(self) -> Option<Format> {
        match self {
            Self::Auto => None,
            Self::Combined => Some(Format::Combined),
            Self::Json => Some(Format::Json),
            Self::Har => Some(Format::Har),
        }
    }
}

/// A time with its unit.
fn span(text: &str) -> Result<Duration, String> {
    let span = config::span(text, Duration::from_millis(1)..=Duration::from_hours(365 * 24));
    span.ok_or_else(|| "write a time such as `30s`, `5m` or `1h`, at most `365d`".to_owned())
}

impl Progress {
    fn show(&mut self, exchanges: u64, err: &mut dyn Write) {
        let now = clock::instant();
        if self.last.is_some_and(|last| now - last < BETWEEN_LINES) {
            return;
        }
        self.last = Some(now);
        let line = self.line(exchanges, now - self.begun);
        let line: String = line.chars().take(columns()).collect();
        // A terminal that is gone cannot be told so.
        let _gone = write!(err, "{WIPED}{line}").and_then(|()| err.flush());
    }

    /// What fits into a line of 80 characters.
    fn line(&self, exchanges: u64, elapsed: Duration) -> String {
        const WIDTH: u64 = 20;

        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = exchanges.saturating_mul(1000) / millis;
        let said = format!("{exchanges} requests, {rate}/s");
        // Standard input has no end that is known.
        let octets = self.octets.load(Ordering::Relaxed);
        if self.total == 0 || octets > self.total {
            return said;
        }
        let filled = usize::try_from(octets * WIDTH / self.total).unwrap_or_default();
        let bar = "#".repeat(filled) + &"-".repeat(20_usize.saturating_sub(filled));
        let left = (self.total - octets).saturating_mul(millis) / octets.max(1) / 1000;
        format!("[{bar}] {said}, {}:{:02} left", left / 60, left % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h", 3600), ("365d", 31_536_000)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "s", "0s", "366d", "5 m", "-5s", "99999999999999999999h"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_line_on_a_terminal() {
        let line = |total, octets: u64, exchanges, seconds| {
            let octets = Arc::new(AtomicU64::new(octets));
            let progress = Progress { total, octets, begun: clock::instant(), last: None };
            progress.line(exchanges, Duration::from_secs(seconds))
        };
        let expected = "[##########----------] 5000 requests, 500/s, 0:10 left";
        assert_eq!(line(100, 50, 5000, 10), expected);
        assert_eq!(line(0, 50, 5000, 10), "5000 requests, 500/s");
        assert_eq!(line(1, 1, 1, 0), "[####################] 1 requests, 1000/s, 0:00 left");
        assert!(line(u64::MAX / 20, 1 << 40, 10_000_000_000, 86_400).len() < 90);
    }
}
