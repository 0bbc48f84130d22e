//! Which plugin is meant, and where its cases are.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::Plugin;

/// How a plugin in Rust is built.
pub(super) const BUILD: &str = "cargo build --release --target wasm32-unknown-unknown";

/// The file of cases beside a plugin.
const CASES: &str = "cases.toml";

/// The target folder of a crate or of its workspace, unless the variable names another.
const TARGET: &str = "target";
const VARIABLE: &str = "CARGO_TARGET_DIR";

/// Below it.
const BUILT: &str = "wasm32-unknown-unknown/release";

/// So many folders above a crate may be its workspace's.
const ANCESTORS: usize = 4;

/// So many files of a crate are looked at.
const MOST_FILES: usize = 10_000;

/// A plugin, and what is beside it.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) plugin: Plugin,
    /// How output calls it.
    pub(super) shown: String,
    /// Where its cases should be; none for a plugin that is bundled.
    pub(super) cases: Option<PathBuf>,
}

/// Finds what the argument names: `bundled:NAME`, a file, or the folder of a crate that was built.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn find(argument: &str) -> Result<Project, String> {
    if let Some(name) = argument.strip_prefix("bundled:") {
        let plugin = Plugin::Bundled(name.to_owned());
        return Ok(Project { plugin, shown: argument.to_owned(), cases: None });
    }
    let path = Path::new(argument);
    let (file, folder) = if path.is_dir() {
        (built(path)?, path)
    } else {
        (path.to_owned(), path.parent().unwrap_or(Path::new("")))
    };
    let shown = file.display().to_string();
    Ok(Project { plugin: Plugin::File(file), shown, cases: Some(beside(folder, CASES)) })
}

/// What is called so in a folder; `cases.toml` rather than `./cases.toml`.
pub(super) fn beside(folder: &Path, name: impl AsRef<Path>) -> PathBuf {
    if folder == Path::new(".") { name.as_ref().to_owned() } else { folder.join(name) }
}

/// The module of a crate, unless it is older than the crate.
fn built(folder: &Path) -> Result<PathBuf, String> {
    let manifest = beside(folder, "Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|error| {
        let manifest = manifest.display();
        format!(
            "`{manifest}` cannot be read: {error}\n  hint: name a file, or the folder of a crate"
        )
    })?;
    let name = package(&text)
        .ok_or_else(|| format!("`{}` has no package with a name", manifest.display()))?;
    let module = format!("{BUILT}/{}.wasm", name.replace('-', "_"));
    let named = env::var_os(VARIABLE).filter(|target| !target.is_empty());
    let target = named.as_ref().map_or(Path::new(TARGET), Path::new);
    let module = target.join(module);
    let mut candidates = Vec::new();
    if named.is_some() {
        candidates.push(module.clone());
    } else {
        let mut above = PathBuf::from(folder);
        for _ in 0..ANCESTORS {
            candidates.push(beside(&above, &module));
            above.push("..");
        }
    }
    let (hint, module) = (format!("\n  hint: {BUILD}"), module.display());
    let found = candidates.iter().find_map(|file| Some((file, modified(file).ok()?)));
    let Some((file, when)) = found else {
        return Err(format!("`{name}` is not built: there is no `{module}`{hint}"));
    };
    match newer_source(when, file, folder) {
        None => Ok(file.clone()),
        Some(newer) => {
            let (file, newer) = (file.display(), newer.display());
            Err(format!("`{file}` is older than `{newer}`{hint}"))
        }
    }
}

/// A source of a module that was changed after this time. Cargo writes beside a module what it was
/// built of, and builds it anew for nothing else: not for tests in a file of their own. Where that is
/// not there, or the crate was moved since, all that a crate may be made of is looked at.
fn newer_source(when: SystemTime, module: &Path, folder: &Path) -> Option<PathBuf> {
    let written = fs::read_to_string(module.with_extension("d")).unwrap_or_default();
    let mut found: Vec<_> = sources(&written).iter().map(|source| folder.join(source)).collect();
    found.retain(|source| source.exists());
    if found.is_empty() {
        found =
            ["src", "Cargo.toml", ".cargo", "larder-policy"].map(|it| beside(folder, it)).into();
    }
    let newer = found.iter().find_map(|source| {
        let mut left = MOST_FILES;
        newer_than(when, source, &mut left)
    })?;
    // Cargo's paths begin with `/`.
    let own = fs::canonicalize(folder).unwrap_or_default();
    Some(newer.strip_prefix(own).map_or_else(|_| newer.clone(), |it| beside(folder, it)))
}

/// The files in `MODULE: SOURCE SOURCE`. A space within a name has a `\` before it.
fn sources(written: &str) -> Vec<String> {
    let line = written.lines().next().unwrap_or_default();
    let (_, names) = line.split_once(": ").unwrap_or_default();
    let mut sources = Vec::new();
    let mut begun = String::new();
    for piece in names.split(' ') {
        begun.push_str(piece);
        if begun.ends_with('\\') {
            begun.pop();
            begun.push(' ');
        } else if !begun.is_empty() {
            sources.push(mem::take(&mut begun));
        }
    }
    sources
}

/// The name in `[package]`. The rest of a manifest is cargo's.
fn package(manifest: &str) -> Option<&str> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[package]").skip(1);
    let mut own = lines.take_while(|line| !line.starts_with('['));
    let value = own.find_map(|line| line.strip_prefix("name")?.trim_start().strip_prefix('='))?;
    value.split(['"', '\'']).nth(1)
}

/// A file that was changed after this time, if there is one.
fn newer_than(when: SystemTime, path: &Path, left: &mut usize) -> Option<PathBuf> {
    *left = left.checked_sub(1)?;
    if !path.is_dir() {
        return modified(path).ok().filter(|changed| *changed > when).map(|_| path.to_owned());
    }
    let entries = fs::read_dir(path).ok()?.map_while(Result::ok);
    let entries = entries.filter(|entry| !is_editors(&entry.file_name()));
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().find_map(|path| newer_than(when, path, left))
}

/// Whether a file is called as editors call their copies.
fn is_editors(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.ends_with(b"~")
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_a_module_are_found() {
        for (written, expected) in [
            ("", &[][..]),
            ("/a/b.wasm:\n", &[]),
            ("/a/b.wasm: /a/lib.rs\n", &["/a/lib.rs"]),
            ("/a\\ b/c.wasm: /a\\ b/lib.rs /d\\ \\ e.rs\n\nf: g\n", &["/a b/lib.rs", "/d  e.rs"]),
        ] {
            assert_eq!(sources(written), expected, "{written}");
        }
    }

    #[test]
    fn the_name_of_a_package_is_found() {
        for (manifest, name) in [
            ("[package]\nname = \"a-b\"\n", Some("a-b")),
            ("[lib]\nname = \"x\"\n[package]\nversion = \"1\"\nname='y'\n", Some("y")),
            ("[package]\nversion = \"1\"\n[lib]\nname = \"x\"\n", None),
            ("[workspace]\n", None),
        ] {
            assert_eq!(package(manifest), name, "{manifest}");
        }
    }
}
