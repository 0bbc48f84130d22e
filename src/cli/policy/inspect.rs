//! `larder policy inspect`: what a plugin's file is, and what it asks to see.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::project;
use crate::cli::{Exit, say};
use crate::config::cases::Cases;
use crate::config::{Place, Policy};
use crate::plugin::{About, Compiled, Declared, Engine};

/// The contract's package. What a plugin imports and exports of it is told without it.
const PACKAGE: &str = "larder:policy/";

/// What was found out.
#[derive(Debug, Serialize)]
struct Report {
    plugin: String,
    #[serde(flatten)]
    about: About,
    /// Of the contract; none if it exports nothing of it.
    version: Option<String>,
    /// The world of the contract that has just its exports.
    world: Option<&'static str>,
    /// What it asks to see with these settings.
    asks_for: Option<Declared>,
    /// Why it is no policy, or does not take these settings.
    refused: Option<String>,
}

/// Looks into a plugin.
pub(super) fn inspect(
    path: &str,
    cases: Option<PathBuf>,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let report = match Report::of(path, cases) {
        Ok(report) => report,
        Err(text) => return say(err, Exit::Faulty, &text),
    };
    // What cannot be written is no fault of the plugin, and is told in the end.
    let _told = if json {
        let written = serde_json::to_writer_pretty(&mut *out, &report).map_err(io::Error::from);
        written.and_then(|()| writeln!(out))
    } else {
        report.write(out)
    };
    if report.refused.is_none() { Exit::Done } else { Exit::Failed }
}

impl Report {
    fn of(path: &str, cases: Option<PathBuf>) -> Result<Self, String> {
        let project = project::find(path)?;
        let beside = project.cases.filter(|file| file.is_file());
        let cases = match cases.or(beside) {
            Some(file) => Cases::load(&file).map_err(|faults| faults.to_string())?,
            None => Cases::none(),
        };
        let engine = Engine::new(1).map_err(|error| error.to_string())?;
        let inspected = Compiled::inspect(&engine, &project.plugin);
        let (about, compiled) = inspected.map_err(|error| error.to_string())?;
        let policy = Policy {
            config: cases.config,
            time: cases.time,
            memory: cases.memory,
            ..Policy::new("inspected".to_owned(), project.plugin, Place::default())
        };
        let policy = compiled.and_then(|compiled| compiled.configure(&engine, &policy));
        let (asks_for, refused) = match policy {
            Ok(policy) => (Some(policy.declared()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let exports = about.exports.iter();
        let mut of_contract =
            exports.filter_map(|name| name.strip_prefix(PACKAGE)?.split_once('@'));
        let version = of_contract.next().map(|(_, version)| version.to_owned());
        let world = world(&about.exports);
        Ok(Self { plugin: project.shown, about, version, world, asks_for, refused })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let About { form, size, blake3, imports, exports } = &self.about;
        writeln!(out, "{}", self.plugin)?;
        let form = match form {
            Some("module") => "a core module, of which the gateway makes a component",
            Some(_) => "a component",
            None => "neither a module nor a component",
        };
        let mut line = |name: &str, value: &str| {
            if value.is_empty() { Ok(()) } else { writeln!(out, "  {name:<10} {value}") }
        };
        line("form", form)?;
        line("size", &format!("{} octets", grouped(*size)))?;
        line("BLAKE3", blake3)?;
        if let Some(version) = &self.version {
            line("contract", &format!("larder:policy@{version}"))?;
        }
        line("world", self.world.unwrap_or_default())?;
        line("exports", &short(exports))?;
        match imports.as_slice() {
            [] if self.version.is_some() => line("imports", "nothing")?,
            imports => line("imports", &short(imports))?,
        }
        if let Some(asks_for) = &self.asks_for {
            line("asks for", &asked(asks_for))?;
        }
        line("refused", self.refused.as_deref().unwrap_or_default())
    }
}

/// The world of `wit/policy.wit` that exports just these.
fn world(exports: &[String]) -> Option<&'static str> {
    let has = |name: &str| {
        let start = format!("{PACKAGE}{name}@");
        exports.iter().any(|export| export.starts_with(&start))
    };
    match (has("key"), has("storing"), has("invalidation")) {
        (true, false, false) => Some("key-policy"),
        (false, true, false) => Some("storing-policy"),
        (false, false, true) => Some("invalidation-policy"),
        (true, true, true) => Some("policy"),
        _ => None,
    }
}

/// Interfaces of the contract by their names; others whole.
fn short(names: &[String]) -> String {
    let short = names.iter().map(|name| match name.strip_prefix(PACKAGE) {
        Some(own) => own.split_once('@').map_or(own, |(own, _)| own),
        None => name,
    });
    short.collect::<Vec<_>>().join(", ")
}

fn asked(asks_for: &Declared) -> String {
    let mut all: Vec<String> = asks_for.inputs.iter().map(|&input| input.to_owned()).collect();
    for (kind, names) in asks_for.names() {
        all.extend(names.iter().map(|name| format!("{kind} `{name}`")));
    }
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

/// `70,213`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
