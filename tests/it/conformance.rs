//! Larder before a test suite that nobody here wrote: the npm package `http-cache-tests`, which is behind
//! <https://cache-tests.fyi>.
//!
//! What does not pass stands in `docs/http-caching.md`, with its reason. The list is read from
//! there, so that what users read is what is checked.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use crate::support::program::Running;
use crate::support::tool;

/// The section of the document that lists what does not pass.
const SECTION: &str = "\n## The suite of cache-tests.fyi\n";

/// How often a test is run again that came to something else than is listed, and how many of them.
const AGAIN: usize = 2;
const MOST_AGAIN: usize = 20;

/// What a test of the suite came to.
#[derive(Deserialize)]
struct Judged {
    id: String,
    kind: String,
    fault: Option<String>,
}

/// The suite's origin, until this is dropped.
struct Origin {
    node: Child,
    port: u16,
}

impl Origin {
    fn start() -> Self {
        let mut command = node(&["serve"]);
        let mut node = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { node, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.node.kill());
        drop(self.node.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_listed_with_its_reason() {
    let origin = Origin::start();
    let lines = [
        "server = { listen = \"127.0.0.1:0\" }",
        "admin = { listen = \"127.0.0.1:0\" }",
        "cache = { targeted = [\"Surrogate-Control\"] }",
        &format!(
            "upstreams = {{ suite = {{ servers = [\"http://127.0.0.1:{}\"] }} }}",
            origin.port
        ),
        "routes = [{ name = \"suite\", path = \"/{*rest}\", upstream = \"suite\" }]",
    ];
    let gateway = Running::with(&lines.join("\n")).await;
    let base = format!("http://{}", gateway.address());
    let mut results = run(&base, &[]).await;

    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http-caching.md");
    let document = std::fs::read_to_string(document).unwrap();
    let section = document.split_once(SECTION).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let listed = listed(section);
    // Many tests count seconds, and all run at once: those that a busy machine has spoilt are run
    // again, alone.
    for _ in 0..AGAIN {
        let is_other = |it: &&mut Judged| it.fault.is_some() != listed.contains_key(it.id.as_str());
        let mut others: Vec<_> = results.iter_mut().filter(is_other).collect();
        for other in others.iter_mut().take(MOST_AGAIN) {
            let again = run(&base, &[&other.id]).await;
            **other = again.into_iter().next().unwrap();
        }
    }
    let finds = compare(&results, &listed) + &compare_counts(&results, section);
    assert!(finds.is_empty(), "\n{finds}");
}

/// Runs the tests of these names, or all.
async fn run(base: &str, names: &[&str]) -> Vec<Judged> {
    let arguments = [&["run", base], names].concat();
    let mut command = node(&arguments);
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let complaints = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "the suite did not end well: {complaints}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// Node with the runner, the package and these arguments.
fn node(arguments: &[&str]) -> Command {
    let package = tool("http-cache-tests/node_modules/http-cache-tests");
    let is_there = Command::new("node").arg("--version").output().is_ok();
    assert!(is_there, "`node` is missing: run tests/run, or install Node.js 18 or newer");
    let mut command = Command::new("node");
    let runner = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance.mjs");
    command.args([OsStr::new("--no-warnings"), runner.as_ref(), package.as_ref()]).args(arguments);
    command
}

/// The kind under which each test is listed, by its name.
fn listed(section: &str) -> HashMap<&str, &str> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter_map(|row| {
        let (kind, rest) = row.split_once(" | ")?;
        Some((kind, rest.split_once(" | ")?.0))
    });
    let names = rows
        .flat_map(|(kind, cell)| cell.split('`').skip(1).step_by(2).map(move |name| (name, kind)));
    names.collect()
}

/// What differs between what did not pass and what is listed.
fn compare(results: &[Judged], listed: &HashMap<&str, &str>) -> String {
    let mut finds = String::new();
    for Judged { id, kind, fault } in results {
        let found = match (listed.get(id.as_str()), fault) {
            (Some(place), _) if place != kind => format!("is {kind}, and not {place}"),
            (Some(_), Some(_)) | (None, None) => continue,
            (Some(_), None) => "passes, and is listed".to_owned(),
            (None, Some(fault)) => format!("is {kind}, does not pass, and is not listed: {fault}"),
        };
        writeln!(finds, "`{id}` {found}").unwrap();
    }
    for id in listed.keys().filter(|id| results.iter().all(|result| result.id != **id)) {
        writeln!(finds, "`{id}` is listed, and no test of the suite").unwrap();
    }
    finds
}

/// How many there are of each kind, if the section says otherwise.
fn compare_counts(results: &[Judged], section: &str) -> String {
    let mut counts = BTreeMap::<_, (usize, usize)>::new();
    for Judged { kind, fault, .. } in results {
        let (passed, all) = counts.entry(kind.as_str()).or_default();
        *passed += usize::from(fault.is_none());
        *all += 1;
    }
    let mut finds = String::new();
    for (kind, (passed, all)) in counts {
        let count = format!("{passed} of {all} {kind}");
        if !section.contains(&count) {
            writeln!(finds, "the section does not say `{count}`").unwrap();
        }
    }
    finds
}
