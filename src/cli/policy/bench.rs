//! `larder policy bench`: what the calls of a policy cost, over the questions of its cases.
//!
//! The calls are those that the gateway makes: a fresh instance each. What the host does before
//! and after, besides looking an answer up, is not in it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::ask::{Ask, Asked, Most, see};
use super::inspect::grouped;
use super::subject::Subject;
use super::verdict;
use crate::cli::{Exit, say};
use crate::clock;
use crate::config::cases::Question;
use crate::plugin::KeySpace;

/// The functions of the contract, in the order of the table.
const FUNCTIONS: [&str; 3] = ["key", "storing", "invalidation"];

/// Times kept of one function; the table is about these.
const MOST_TIMES: usize = 1 << 20;

/// Between two looks at the clock for the end.
const AT_ONCE: usize = 64;

const SPACE: KeySpace<'_> = KeySpace { namespace: "bench", route: "bench", forwards_keyed: false };

/// A line of the table.
struct Row {
    name: String,
    /// Sorted.
    times: Vec<Duration>,
    /// In octets.
    memory: usize,
}

/// Measures for so long in all.
pub(super) fn bench(
    path: &str,
    cases: Option<PathBuf>,
    seconds: u64,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let subject = match Subject::new(path, cases) {
        Ok(subject) => subject,
        Err(text) => return say(err, Exit::Faulty, &text),
    };
    // Cases with settings of their own are exceptions as a rule.
    let usual = subject.cases.cases.iter().filter(|case| case.config.is_none());
    let questions = usual.map(|case| &case.question);
    let asks: Vec<_> = questions.filter(|it| !is_refused(it)).flat_map(verdict::asks).collect();
    if asks.is_empty() {
        let text = format!("{}: there is nothing to ask\n  hint: write `[[equal]]`", subject.file);
        return say(err, Exit::Faulty, &text);
    }
    let asked = match subject.configured(&subject.cases.config) {
        Ok(asked) => asked,
        Err(text) => return say(err, Exit::Faulty, &format!("{}: {text}", subject.project.shown)),
    };
    match measure(&asks, &asked, Duration::from_secs(seconds)) {
        Err(text) => say(err, Exit::Failed, &text),
        Ok(rows) => {
            // What cannot be written is told in the end.
            let _told = write(&rows, out);
            Exit::Done
        }
    }
}

fn is_refused(question: &Question) -> bool {
    matches!(question, Question::Refused(_))
}

fn measure(asks: &[Ask], asked: &Asked, time: Duration) -> Result<Vec<Row>, String> {
    let groups = FUNCTIONS.map(|function| {
        let group = asks.iter().filter(|ask| ask.function() == function);
        (function, group.collect::<Vec<_>>())
    });
    let groups: Vec<_> = groups.into_iter().filter(|(_, group)| !group.is_empty()).collect();
    let share = time / u32::try_from(groups.len() + 1).unwrap_or(1);
    let mut rows = Vec::new();
    for (function, group) in groups {
        rows.push(fresh(function, &group, asked, share)?);
        if function == "key" {
            rows.extend(remembered(&group, asked, share)?);
        }
    }
    Ok(rows)
}

/// Each call in an instance of its own.
fn fresh(function: &str, asks: &[&Ask], asked: &Asked, share: Duration) -> Result<Row, String> {
    let mut most = Most::default();
    let mut times = Vec::new();
    let end = clock::instant() + share;
    for (at, ask) in asks.iter().cycle().enumerate() {
        if is_over(at, times.len(), asks.len(), end) {
            break;
        }
        let call = asked.put(ask);
        if let Err(failure) = &call.answer {
            return Err(format!("{ask}: {}", verdict::of_failure(failure)));
        }
        most.count(&call);
        times.push(call.spent);
    }
    times.sort_unstable();
    Ok(Row { name: function.to_owned(), times, memory: most.memory })
}

/// Answers of `key` that were given before.
fn remembered(asks: &[&Ask], asked: &Asked, share: Duration) -> Result<Option<Row>, String> {
    let requests = asks.iter().filter_map(|ask| match ask {
        Ask::Key(request) => Some(request),
        Ask::Storing(..) | Ask::Invalidation(_) => None,
    });
    let requests: Vec<_> = requests.collect();
    let policy = &asked.policy;
    for request in &requests {
        let answer = see(request, |seen| asked.runtime.block_on(policy.key(SPACE, seen)));
        answer.map_err(|failure| format!("{request}: {}", verdict::of_failure(&failure)))?;
    }
    let mut times = Vec::new();
    let end = clock::instant() + share;
    for (at, request) in requests.iter().cycle().enumerate() {
        if is_over(at, times.len(), requests.len(), end) {
            break;
        }
        let spent = see(request, |seen| {
            let started = clock::instant();
            let mut found = true;
            for _ in 0..AT_ONCE {
                found &= policy.remembered(SPACE, seen).is_some();
            }
            // One look-up is shorter than the clock can tell.
            found.then(|| started.elapsed() / u32::try_from(AT_ONCE).unwrap_or(1))
        });
        let Some(spent) = spent else { return Ok(None) };
        times.push(spent);
    }
    times.sort_unstable();
    Ok(Some(Row { name: "key, remembered".to_owned(), times, memory: 0 }))
}

/// Every question was put once, and the time is over.
fn is_over(at: usize, times: usize, asks: usize, end: Instant) -> bool {
    let is_late = || at.is_multiple_of(AT_ONCE.min(asks)) && clock::instant() >= end;
    at >= asks && (times >= MOST_TIMES || is_late())
}

fn write(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let head = ["call", "p50 µs", "p99 µs", "calls/s", "memory KiB"];
    let [name, p50, p99, rate, memory] = head;
    writeln!(out, "{name:<16} {p50:>9} {p99:>9} {rate:>11} {memory:>11}")?;
    for Row { name, times, memory } in rows {
        let micros = |share: usize| {
            let at = (times.len() * share / 100).min(times.len().saturating_sub(1));
            times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        let (p50, p99) = (micros(50), micros(99));
        let all: Duration = times.iter().sum();
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        let mean = (all / count.max(1)).max(Duration::from_nanos(1));
        let rate = usize::try_from(1_000_000_000 / mean.as_nanos()).unwrap_or(usize::MAX);
        let memory = if *memory == 0 { String::new() } else { grouped(memory.div_ceil(1024)) };
        writeln!(out, "{name:<16} {p50:>9.2} {p99:>9.2} {:>11} {memory:>11}", grouped(rate))?;
    }
    Ok(())
}
