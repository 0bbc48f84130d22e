//! Checks of `docs/http-caching.md`: each of its rows has a test that is there, or a reason.
//!
//! A name with `::` in a row's last cell is a test: of `tests/it/`, or of `src/` where its path goes
//! through a module `tests`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[test]
fn each_sentence_has_its_test_or_a_reason() {
    let text = fs::read_to_string(root().join("docs/http-caching.md")).unwrap();
    let mut finds = String::new();
    let mut rows = 0;
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        // Prose names tests, too.
        for name in code(line).filter(|name| name.contains("::") && !name.ends_with('…')) {
            if !is_there(name) {
                writeln!(finds, "line {number}: there is no test `{name}`").unwrap();
            }
        }
        let Some(cell) = line.strip_prefix("| ").and_then(last_cell) else { continue };
        rows += 1;
        if cell.trim_matches(['…', '—', ' ']).is_empty() {
            writeln!(finds, "line {number}: neither a test nor a reason").unwrap();
        }
    }
    assert!(finds.is_empty(), "\n{finds}");
    assert!(rows > 100, "{rows} rows only");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backquotes.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The last cell of a row, none for a table's head.
fn last_cell(row: &str) -> Option<&str> {
    let (_, cell) = row.trim_end().strip_suffix('|')?.rsplit_once('|')?;
    Some(cell.trim()).filter(|cell| *cell != "test")
}

/// Whether there is a test of this path.
fn is_there(path: &str) -> bool {
    let (module, name) = path.rsplit_once("::").unwrap();
    let files = match module.strip_suffix("::tests").map(|module| module.replace("::", "/")) {
        None => vec![format!("tests/it/{module}.rs")],
        Some(module) => ["", "/mod", "/tests"].map(|file| format!("src/{module}{file}.rs")).into(),
    };
    files.iter().any(|file| {
        fs::read_to_string(root().join(file)).is_ok_and(|text| {
            let lines: Vec<_> = text.lines().map(str::trim).collect();
            lines.iter().enumerate().any(|(at, line)| {
                let is_named = line.split_once("fn ").is_some_and(|(_, rest)| {
                    rest.split_once('(').is_some_and(|(found, _)| found == name)
                });
                let above = lines.iter().take(at).rev().find(|line| !line.is_empty());
                is_named && above.is_some_and(|line| line.starts_with("#["))
            })
        })
    })
}
