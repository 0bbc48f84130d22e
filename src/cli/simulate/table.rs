//! A simulation's report for people.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::{Duration, UNIX_EPOCH};

use crate::cli::shown;
use crate::clock;
use crate::simulation::{Assumed, Memory, Place, Report, Route, Told};

/// A readable name is not shown longer, nor a route's.
const LONGEST_KEY: usize = 60;
const LONGEST_NAME: usize = 24;

/// A text in lines.
#[derive(Default)]
struct Text(String);

/// Columns of one width each; the first is aligned to the left, the others to the right.
struct Columns(Vec<Vec<String>>);

/// Why there is nothing to tell.
pub(super) fn nothing(told: &Told) -> String {
    let mut text = Text::default();
    text.line("there is no request in it");
    broken(&mut text, told);
    text.0
}

/// The whole report.
pub(super) fn table(told: &Told, reports: &[Report]) -> String {
    let mut text = Text::default();
    logs(&mut text, told);
    text.line("");
    text.add(&summary(reports));
    for report in reports {
        text.line("");
        if reports.len() > 1 {
            text.line(format_args!("== {}", shown(&report.configuration)));
            text.line("");
        }
        one(&mut text, report);
    }
    text.0
}

fn logs(text: &mut Text, told: &Told) {
    let at = |millis| clock::text(UNIX_EPOCH + Duration::from_millis(millis));
    let requests = number(told.exchanges);
    text.line(format_args!("{requests} requests, {} to {}", at(told.from), at(told.to)));
    if told.late > 0 {
        let late = number(told.late);
        text.line(format_args!(
            "{late} of them stand behind later ones, and count as of their time"
        ));
    }
    broken(text, told);
}

fn broken(text: &mut Text, told: &Told) {
    if told.broken == 0 {
        return;
    }
    let lines = if told.broken == 1 { "line tells" } else { "lines tell" };
    text.line(format_args!("{} {lines} of no request:", number(told.broken)));
    for line in &told.broken_lines {
        text.line(format_args!("  {}:{}  {}", shown(&line.log), line.line, line.why));
    }
}

/// What all routes come to; two configurations side by side.
fn summary(reports: &[Report]) -> Columns {
    let mut columns = Columns(Vec::new());
    let mut head = vec![String::new()];
    head.extend(reports.iter().map(|it| shown(&it.configuration)));
    if reports.len() > 1 {
        head.push("difference".to_owned());
    }
    columns.0.push(head);
    let mut row = |name: &str, value: &dyn Fn(&Report) -> Value| {
        let values: Vec<_> = reports.iter().map(value).collect();
        let mut row = vec![name.to_owned()];
        row.extend(values.iter().map(ToString::to_string));
        if let [one, other] = &values[..] {
            row.push(one.difference(other));
        }
        columns.0.push(row);
    };
    row("hit rate", &|it| Value::Share(it.all.hit_rate));
    row("requests", &|it| Value::Count(it.all.figures.requests));
    row("hits", &|it| Value::Count(it.all.figures.hits));
    row("requests to upstreams", &|it| Value::Count(it.all.figures.upstream_requests));
    row("sent from the cache", &|it| Value::Octets(it.all.figures.octets_from_cache));
    row("sent from upstreams", &|it| Value::Octets(it.all.figures.octets_from_upstream));
    row("hit rate by octets", &|it| Value::Share(it.all.octet_hit_rate));
    row("distinct keys", &|it| Value::Count(it.all.keys.distinct));
    row("asked for once", &|it| Value::Count(it.all.keys.once));
    row("stored at most", &|it| Value::Octets(it.memory.most_octets));
    row("evicted", &|it| Value::Count(it.memory.evicted));
    row("policy failures", &|it| Value::Count(it.all.figures.policy_failures));
    row("taken by no route", &|it| Value::Count(it.unrouted.values().sum()));
    columns
}

/// What one configuration comes to.
fn one(text: &mut Text, report: &Report) {
    text.add(&routes(report));
    text.line("");
    let figures = &report.all.figures;
    reasons(text, "missed", &figures.misses);
    reasons(text, "not stored", &figures.not_stored);
    reasons(text, "past the cache, by policies", &figures.bypassed);
    reasons(text, "past the cache", &figures.passed);
    reasons(text, "taken by no route", &report.unrouted);
    if figures.writes > 0 {
        let (writes, records) = (number(figures.writes), number(figures.invalidations));
        text.line(format_args!("writes: {writes}, with {records} records in the invalidation log"));
    }
    let Memory { capacity, most_octets, responses, evicted } = report.memory;
    let (most, of) = (octets(most_octets), octets(capacity));
    let responses = number(responses);
    text.line(format_args!(
        "memory: {most} at most, of {of}, by {responses} responses; evicted: {}",
        number(evicted)
    ));
    parts(text, report);
    worst(text, report);
    if !report.warnings.is_empty() {
        text.line("\nwarnings:");
        for warning in &report.warnings {
            text.line(format_args!("  {} times  {}", number(warning.count), shown(&warning.text)));
        }
    }
    assumed(text, report);
}

fn routes(report: &Report) -> Columns {
    let head = [
        "route", "requests", "hits", "hit rate", "upstream", "cached", "keys", "per key", "once",
        "failures",
    ];
    let mut columns = Columns(vec![head.map(str::to_owned).to_vec()]);
    let all = (report.routes.len() > 1).then_some(&report.all);
    for route in report.routes.iter().chain(all) {
        let Route { name, hit_rate, figures, keys, .. } = route;
        let estimated = if keys.is_estimated { "~" } else { "" };
        let per_key = keys.requests_per_key.map(|count| format!("{count:.1}"));
        columns.0.push(vec![
            cut(name, LONGEST_NAME),
            number(figures.requests),
            number(figures.hits),
            Value::Share(*hit_rate).to_string(),
            number(figures.upstream_requests),
            octets(figures.octets_from_cache),
            format!("{estimated}{}", number(keys.distinct)),
            per_key.unwrap_or_else(|| "-".to_owned()),
            number(keys.once),
            number(figures.policy_failures + figures.failed),
        ]);
    }
    columns
}

fn reasons<K: Display>(text: &mut Text, what: &str, reasons: &BTreeMap<K, u64>) {
    if reasons.is_empty() {
        return;
    }
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let told = sorted
        .iter()
        .map(|(reason, count)| format!("{} {}", shown(&reason.to_string()), number(**count)));
    text.line(format_args!("{what}: {}", told.collect::<Vec<_>>().join(", ")));
}

fn parts(text: &mut Text, report: &Report) {
    let routes = report.routes.iter().filter(|route| !route.parts.is_empty());
    let mut is_first = true;
    for route in routes {
        if std::mem::take(&mut is_first) {
            text.line("\nparts of keys with most values:");
        }
        let told = route.parts.iter().map(|part| {
            let name = cut(&part.name, LONGEST_NAME);
            let name = if part.place == Place::Path { format!("{{{name}}}") } else { name };
            let estimated = if part.is_estimated { "~" } else { "" };
            format!("{name} {estimated}{}", number(part.values))
        });
        let told = told.collect::<Vec<_>>().join(", ");
        text.line(format_args!("  {}: {told}", cut(&route.name, LONGEST_NAME)));
    }
}

fn worst(text: &mut Text, report: &Report) {
    if report.worst.is_empty() {
        return;
    }
    text.line("\nkeys that missed most:");
    let mut columns =
        Columns(vec![["  key", "route", "requests", "misses"].map(str::to_owned).to_vec()]);
    for worst in &report.worst {
        columns.0.push(vec![
            format!("  {}", cut(&worst.key, LONGEST_KEY)),
            cut(&worst.route, LONGEST_NAME),
            number(worst.requests.into()),
            number(worst.misses.into()),
        ]);
    }
    text.add(&columns);
}

fn assumed(text: &mut Text, report: &Report) {
    let Assumed { hosts, lengths, not_modified, beyond, left_out } = &report.assumed;
    let no_freshness = report.all.figures.not_stored.get("no-freshness").copied();
    let told = [
        (
            no_freshness.unwrap_or_default(),
            "responses had no lifetime, by the log or by their route: `--ttl 1m` assumes one",
        ),
        (
            report.all.figures.unknown,
            "requests ask by their content, which no log has: they went forward",
        ),
        (*hosts, "requests had no host in the log: `--host` says which"),
        (*lengths, "responses had no length: they counted as empty"),
        (*not_modified, "responses were 304: each counted as the whole, of the length seen last"),
        (
            *beyond,
            "requests had keys that were too many to be told apart: `--keys` is how many are",
        ),
    ];
    let told = told.into_iter().filter(|(count, _)| *count > 0);
    let told: Vec<_> = told.map(|(count, what)| format!("{} {what}", number(count))).collect();
    if told.is_empty() && left_out.is_empty() {
        return;
    }
    text.line("\nassumed:");
    for line in told {
        text.line(format_args!("  {line}"));
    }
    for name in left_out {
        text.line(format_args!("  `{name}` takes no part"));
    }
}

/// What stands in a column.
enum Value {
    Count(u64),
    Octets(u64),
    Share(Option<f64>),
}

impl Value {
    /// What the other is more than this one.
    fn difference(&self, other: &Self) -> String {
        let signed = |one: u64, other: u64, show: fn(u64) -> String| match other.cmp(&one) {
            std::cmp::Ordering::Equal => "=".to_owned(),
            std::cmp::Ordering::Greater => format!("+{}", show(other - one)),
            std::cmp::Ordering::Less => format!("-{}", show(one - other)),
        };
        match (self, other) {
            (Self::Count(one), Self::Count(other)) => signed(*one, *other, number),
            (Self::Octets(one), Self::Octets(other)) => signed(*one, *other, octets),
            (Self::Share(Some(one)), Self::Share(Some(other))) => {
                format!("{:+.1} %", (other - one) * 100.0)
            }
            _ => "-".to_owned(),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => f.write_str(&number(*count)),
            Self::Octets(count) => f.write_str(&octets(*count)),
            Self::Share(None) => f.write_str("-"),
            Self::Share(Some(share)) => write!(f, "{:.1} %", share * 100.0),
        }
    }
}

impl Text {
    fn line(&mut self, line: impl Display) {
        // A `String` takes what is written.
        let _written = writeln!(self.0, "{line}");
    }

    fn add(&mut self, columns: &Columns) {
        let count = columns.0.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = columns.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..count).map(width).collect();
        for row in &columns.0 {
            let mut line = String::new();
            for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let width = *width;
                // A `String` takes what is written.
                let _written = match place {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            self.line(line.trim_end());
        }
    }
}

/// A number with marks between its thousands.
fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut told = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

/// So many octets.
fn octets(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let mut value = count as f64;
    let mut unit = "B";
    for name in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = name;
    }
    format!("{value:.1} {unit}")
}

/// A name of a request, for a terminal.
fn cut(name: &str, longest: usize) -> String {
    let name = shown(name);
    if name.chars().count() <= longest {
        return name;
    }
    name.chars().take(longest - 1).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_can_be_read() {
        for (count, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(number(count), expected);
        }
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (256 << 20, "256.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(octets(count), expected);
        }
        assert_eq!(cut("a\u{1b}[2J", 4), "a [\u{2026}");
    }

    #[test]
    fn differences_have_a_sign() {
        let count = |one, other| Value::Count(one).difference(&Value::Count(other));
        assert_eq!([count(1, 1001), count(5, 5), count(5, 1)], ["+1,000", "=", "-4"]);
        let share = |one, other| Value::Share(one).difference(&Value::Share(other));
        assert_eq!(share(Some(0.5), Some(0.625)), "+12.5 %");
        assert_eq!(share(Some(0.5), Some(0.25)), "-25.0 %");
        assert_eq!(share(None, Some(0.25)), "-");
    }
}
