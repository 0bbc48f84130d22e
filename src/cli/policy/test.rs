//! `larder policy test`: the cases of a policy, in the engine that serves requests.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::ask::Most;
use super::probe::{Leak, Probe};
use super::subject::Subject;
use super::verdict::{self, Verdict};
use crate::cli::{Exit, say};

/// What all cases came to.
#[derive(Debug, Serialize)]
struct Report {
    plugin: String,
    file: String,
    cases: Vec<Verdict>,
    leaks: Vec<Leak>,
    notes: Vec<String>,
    most: Shares,
}

/// The most of one call, and what it may take.
#[derive(Debug, Serialize)]
struct Shares {
    microseconds: u64,
    of_microseconds: u64,
    memory: usize,
    of_memory: usize,
}

/// Tries every case.
pub(super) fn test(
    path: &str,
    cases: Option<PathBuf>,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let subject = match Subject::new(path, cases) {
        Ok(subject) => subject,
        Err(text) => return say(err, Exit::Faulty, &text),
    };
    if subject.cases.cases.is_empty() {
        let text = format!("{}: there are no cases\n  hint: write `[[equal]]`", subject.file);
        return say(err, Exit::Faulty, &text);
    }
    let report = Report::of(&subject);
    // What cannot be written is no fault of the policy, and is told in the end.
    let _told = if json { report.write_json(out) } else { report.write(out) };
    if report.is_ok() { Exit::Done } else { Exit::Failed }
}

impl Report {
    /// Tries all cases.
    fn of(subject: &Subject) -> Self {
        let mut most = Most::default();
        let mut probe = Probe::default();
        let usual = subject.configured(&subject.cases.config);
        for ask in subject.cases.cases.iter().flat_map(|case| verdict::asks(&case.question)) {
            probe.learn(&ask);
        }
        let mut cases = Vec::new();
        for case in &subject.cases.cases {
            let own = case.config.as_ref().map(|config| subject.configured(config));
            let policy = own.as_ref().unwrap_or(&usual);
            let policy = policy.as_ref().map_err(String::as_str);
            cases.push(Verdict::of(case, policy, &mut most));
            let Ok(asked) = policy else { continue };
            for ask in verdict::asks(&case.question) {
                probe.try_out(case.place.line, &ask, asked, &subject.cases.public);
            }
        }
        let (notes, leaks) = probe.finish();
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let most = Shares {
            microseconds: microseconds(most.spent),
            of_microseconds: microseconds(subject.cases.time),
            memory: most.memory,
            of_memory: subject.cases.memory,
        };
        let (plugin, file) = (subject.project.shown.clone(), subject.file.clone());
        Report { plugin, file, cases, leaks, notes, most }
    }

    fn is_ok(&self) -> bool {
        self.leaks.is_empty() && self.cases.iter().all(|case| case.is_ok)
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for case in &self.cases {
            let Verdict { line, kind, name, .. } = case;
            let word = if case.is_ok { "ok    " } else { "FAILED" };
            writeln!(out, "{word} {}:{line}: {kind}: {name}", self.file)?;
            if case.is_ok {
                continue;
            }
            for problem in &case.problems {
                labelled(out, "expected", &problem.expected)?;
                labelled(out, "came", &problem.came)?;
            }
            for line in &case.log {
                labelled(out, "log", &format!("{}: {}", line.level, line.message))?;
            }
        }
        for Leak { line, secret, place, hint } in &self.leaks {
            writeln!(out, "FAILED {}:{line}: the value of the {secret} is in {place}", self.file)?;
            writeln!(out, "         hint: {hint}")?;
        }
        for note in &self.notes {
            writeln!(out, "note   {note}")?;
        }
        let ok = self.cases.iter().filter(|case| case.is_ok).count();
        let failed = self.cases.len() - ok;
        let leaked = match self.leaks.len() {
            0 => String::new(),
            1 => ", 1 secret came out".to_owned(),
            leaks => format!(", {leaks} secrets came out"),
        };
        writeln!(out, "{}: {ok} ok, {failed} failed{leaked}", self.plugin)?;
        let Shares { microseconds, of_microseconds, memory, of_memory } = self.most;
        writeln!(
            out,
            "the most of one call: {}.{:02} of {} ms, {} of {} KiB",
            microseconds / 1000,
            microseconds % 1000 / 10,
            of_microseconds / 1000,
            memory.div_ceil(1024),
            of_memory / 1024,
        )
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}

/// Something under a case, its further lines below the first.
fn labelled(out: &mut dyn Write, label: &str, text: &str) -> io::Result<()> {
    for (at, line) in text.lines().enumerate() {
        let label = if at == 0 { format!("{label}:") } else { String::new() };
        writeln!(out, "         {label:<10}{line}")?;
    }
    // To expect nothing, or to get it, is worth a line.
    if text.is_empty() {
        writeln!(out, "         {:<10}nothing", format!("{label}:"))
    } else {
        Ok(())
    }
}
