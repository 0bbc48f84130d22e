//! Checks of the source itself: modules use only what lies below them, outside crates come in by
//! their doors, and each file says what it is and stays readable.
//!
//! The checks read `src/` as text, without comments and test modules. They want one
//! `use crate::module::Item;` a line, not braces right after `crate::`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use of the crate, itself aside. A module without a row is a find.
const MAY_USE: &[(&str, &[&str])] = &[
    ("access_log", &["clock", "config", "message", "semantics", "stats", "traces"]),
    ("bounded", &[]),
    ("busiest", &[]),
    ("clock", &[]),
    ("config", &["target"]),
    ("encoder", &["semantics"]),
    ("forwarded", &["config"]),
    ("framing", &[]),
    ("handshake", &[]),
    ("heard", &[]),
    ("semantics", &["message"]),
    ("interim", &["message", "octets"]),
    ("message", &[]),
    ("octets", &[]),
    ("recent", &[]),
    ("stall", &[]),
    ("stats", &[]),
    ("streams", &[]),
    ("target", &[]),
    ("telemetry", &[]),
    ("terminal", &[]),
    ("traces", &["config", "stats"]),
    ("tunnel", &["heard"]),
    ("upgrade", &[]),
    ("token", &["bounded", "config", "message", "recent"]),
    ("stored", &["semantics", "recent"]),
    ("store", &["stored", "semantics", "config", "clock", "handshake", "stats"]),
    (
        "plugin",
        &["stored", "semantics", "bounded", "config", "clock", "message", "recent", "terminal"],
    ),
    (
        "upstream",
        &[
            "clock",
            "config",
            "handshake",
            "heard",
            "interim",
            "message",
            "octets",
            "stats",
            "streams",
            "upgrade",
        ],
    ),
    ("warm", &["clock", "handshake", "message", "octets", "semantics", "target", "telemetry"]),
    ("comparison", &["bounded", "stored", "stats"]),
    ("documents", &["semantics", "clock", "config", "message", "upstream"]),
    ("collapse", &["bounded", "stored", "semantics", "upstream"]),
    ("rewriting", &["config", "message"]),
    ("routes", &["config"]),
    ("body", &["access_log", "collapse", "encoder", "semantics", "stats", "upstream"]),
    (
        "gateway",
        &[
            "access_log",
            "body",
            "bounded",
            "busiest",
            "clock",
            "collapse",
            "comparison",
            "config",
            "documents",
            "encoder",
            "forwarded",
            "interim",
            "message",
            "octets",
            "plugin",
            "rewriting",
            "recent",
            "routes",
            "semantics",
            "stats",
            "store",
            "stored",
            "target",
            "token",
            "traces",
            "tunnel",
            "upgrade",
            "upstream",
            "warm",
        ],
    ),
    ("changes", &["clock", "config", "documents", "gateway", "plugin", "store"]),
    (
        "server",
        &[
            "body",
            "clock",
            "config",
            "framing",
            "gateway",
            "heard",
            "interim",
            "message",
            "octets",
            "recent",
            "semantics",
            "stall",
            "stats",
            "streams",
            "tunnel",
            "upgrade",
            "upstream",
        ],
    ),
    ("simulation", &["clock", "gateway", "semantics", "store", "stored"]),
    (
        "admin",
        &[
            "config", "routes", "busiest", "clock", "gateway", "message", "octets", "plugin",
            "stall", "stats", "store", "stored", "upstream", "warm",
        ],
    ),
    (
        "service",
        &[
            "access_log",
            "admin",
            "changes",
            "clock",
            "config",
            "documents",
            "gateway",
            "plugin",
            "routes",
            "server",
            "simulation",
            "stats",
            "store",
            "token",
            "traces",
            "upstream",
            "warm",
        ],
    ),
    (
        "cli",
        &[
            "clock",
            "config",
            "message",
            "octets",
            "plugin",
            "server",
            "service",
            "simulation",
            "telemetry",
            "terminal",
            "stats",
            "warm",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Where each outside crate may be named.
const DOORS: &[(&str, &[&str])] = &[
    ("hyper", &["server", "admin", "upstream", "gateway", "traces", "warm", "cli"]),
    ("h2", &["server", "streams", "upstream"]),
    ("httparse", &["octets"]),
    ("redis", &["store"]),
    ("redb", &["store"]),
    ("mongodb", &["documents", "changes"]),
    ("moka", &["store"]),
    ("wasmtime", &["plugin"]),
    ("wit_component", &["plugin"]),
    ("serde_json_path", &["plugin"]),
    ("flate2", &["plugin", "encoder", "simulation"]),
    ("brotli", &["encoder"]),
    ("zstd", &["encoder"]),
    ("listenfd", &["service"]),
    ("rustix", &["admin", "cli", "clock", "plugin", "service", "store"]),
    ("wasmparser", &["plugin"]),
    ("matchit", &["routes"]),
    ("toml", &["config"]),
    ("axum", &["admin", "cli"]),
    ("quick_xml", &["warm"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("postcard", &["store"]),
    ("lz4_flex", &["store"]),
    ("ring", &["token", "upgrade"]),
    ("rustls", &["upstream", "store", "server", "warm", "handshake"]),
    ("webpki", &["server"]),
];

/// A file may have this many lines before its tests.
const LENGTH: usize = 450;

/// Files that are better whole.
const LONGER: &[(&str, usize, &str)] = &[
    ("store/shared_log.rs", 610, "one protocol: append, read, notice what was lost"),
    ("store/fleet.rs", 460, "one protocol: say who is there, and what each has applied"),
];

#[test]
fn modules_use_only_what_lies_below_them() {
    let mut finds = String::new();
    for file in sources() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(module, _)| *module == file.module) else {
            writeln!(finds, "{}: module `{}` has no row in MAY_USE", file.name, file.module)
                .unwrap();
            continue;
        };
        // The library goes by its name in `main`; elsewhere `larder` is the contract's package.
        let prefix = if file.module == "main" { "larder::" } else { "crate::" };
        for used in file.names_after(prefix) {
            let own = used == file.module || file.module == "lib";
            if !own && !allowed.contains(&used.as_str()) {
                writeln!(finds, "{}: `{}` may not use `{used}`", file.name, file.module).unwrap();
            }
        }
    }
    assert!(finds.is_empty(), "\n{finds}one `use crate::module::Item;` a line is wanted");
}

#[test]
fn outside_crates_come_in_by_their_doors() {
    let mut finds = String::new();
    for file in sources() {
        for (name, doors) in DOORS {
            let named = file.code.contains(&format!("{name}::")) && !file.code_names_own(name);
            if named && !doors.contains(&file.module.as_str()) {
                writeln!(finds, "{}: `{name}` enters in {doors:?} only", file.name).unwrap();
            }
        }
    }
    assert!(finds.is_empty(), "\n{finds}");
}

#[test]
fn files_are_introduced_and_of_a_readable_length() {
    let mut finds = String::new();
    for file in sources() {
        if !file.text.starts_with("//!") {
            writeln!(finds, "{}: does not begin with `//!`", file.name).unwrap();
        }
        let longer = LONGER.iter().find(|(name, _, _)| *name == file.name);
        if file.is_tests {
            continue;
        }
        let limit = longer.map_or(LENGTH, |(_, lines, _)| *lines);
        let lines = file.text.split("#[cfg(test)]\nmod ").next().unwrap().lines().count();
        if lines > limit {
            writeln!(finds, "{}: {lines} lines, {limit} are readable", file.name).unwrap();
        }
    }
    assert!(finds.is_empty(), "\n{finds}");
}

struct Source {
    /// From `src/`.
    name: String,
    /// The top module it belongs to.
    module: String,
    text: String,
    /// A file of tests only.
    is_tests: bool,
    /// Without comments and test modules.
    code: String,
}

impl Source {
    /// The identifiers that follow `prefix`.
    fn names_after<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = String> + 'a {
        self.code.match_indices(prefix).filter_map(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            let whole = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
            let rest = &self.code[at + prefix.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            whole.then(|| rest[..end].to_owned())
        })
    }

    /// Whether every mention of `name::` belongs to a longer path or word (`crate::store::redis::`).
    fn code_names_own(&self, name: &str) -> bool {
        let pattern = format!("{name}::");
        self.code.match_indices(&pattern).all(|(at, _)| {
            self.code[..at]
                .chars()
                .next_back()
                .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "src/ is not where it should be");
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let module = name.split(['/', '.']).next().unwrap().to_owned();
            // Whole files of tests have no code that counts.
            let is_tests = name.ends_with("tests.rs") || name.contains("/tests/");
            let code = if is_tests { String::new() } else { code(&text) };
            Source { name, module, text, is_tests, code }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}
