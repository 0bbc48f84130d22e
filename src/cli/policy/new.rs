//! `larder policy new`: a crate to begin with, which builds, and passes its tests and its cases.
//!
//! The crate `larder-policy` is not published; so the files of `plugins/sdk` are inside the binary and
//! are written beside the policy.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::project;
use crate::cli::{Exit, say};

/// What stands for the policy's name in the templates.
const NAME: &str = "{{name}}";

/// What stands for the name of the file that it is built into.
const MODULE: &str = "{{module}}";

/// The policy itself.
const POLICY: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/manifest.toml")),
    (".cargo/config.toml", include_str!("template/cargo-config.toml")),
    (".gitignore", "/target\n"),
    ("README.md", include_str!("template/README.md")),
    ("cases.toml", include_str!("template/cases.toml")),
    ("src/lib.rs", include_str!("template/policy.rs")),
    ("Cargo.lock", include_str!("../../../plugins/Cargo.lock")),
];

/// `larder-policy`, its manifest aside.
const SDK: &[(&str, &str)] = &[
    ("src/abi.rs", include_str!("../../../plugins/sdk/src/abi.rs")),
    ("src/change.rs", include_str!("../../../plugins/sdk/src/change.rs")),
    ("src/contract.rs", include_str!("../../../plugins/sdk/src/contract.rs")),
    ("src/heap.rs", include_str!("../../../plugins/sdk/src/heap.rs")),
    ("src/json.rs", include_str!("../../../plugins/sdk/src/json.rs")),
    ("src/lib.rs", include_str!("../../../plugins/sdk/src/lib.rs")),
    ("src/log.rs", include_str!("../../../plugins/sdk/src/log.rs")),
    ("src/pattern.rs", include_str!("../../../plugins/sdk/src/pattern.rs")),
    ("src/prepared.rs", include_str!("../../../plugins/sdk/src/prepared.rs")),
    ("src/request.rs", include_str!("../../../plugins/sdk/src/request.rs")),
    ("src/response.rs", include_str!("../../../plugins/sdk/src/response.rs")),
    ("src/schema.rs", include_str!("../../../plugins/sdk/src/schema.rs")),
    ("src/settings.rs", include_str!("../../../plugins/sdk/src/settings.rs")),
    ("src/sort.rs", include_str!("../../../plugins/sdk/src/sort.rs")),
    ("src/template.rs", include_str!("../../../plugins/sdk/src/template.rs")),
    ("src/testing.rs", include_str!("../../../plugins/sdk/src/testing.rs")),
    ("src/text.rs", include_str!("../../../plugins/sdk/src/text.rs")),
    ("src/value.rs", include_str!("../../../plugins/sdk/src/value.rs")),
    ("src/worlds.rs", include_str!("../../../plugins/sdk/src/worlds.rs")),
    ("wit/policy.wit", include_str!("../../../wit/policy.wit")),
];

/// The SDK's manifest, and that of its workspace, which a crate on its own does not have.
const SDK_MANIFEST: &str = include_str!("../../../plugins/sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../plugins/Cargo.toml");

/// Names that mean something else to cargo or to Rust.
const TAKEN: &[&str] =
    &["alloc", "core", "larder-policy", "larder_policy", "proc_macro", "proc-macro", "std", "test"];

/// Makes the folder `name` in `parent`.
pub(super) fn new(name: &str, parent: &Path, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    if let Err(why) = check(name) {
        return say(err, Exit::Faulty, &format!("`{name}` {why}"));
    }
    let folder = project::beside(parent, name);
    if let Err(error) = fs::create_dir(&folder) {
        let folder = folder.display();
        return match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let hint = "take another name, or another folder with --dir";
                say(err, Exit::Failed, &format!("`{folder}` is there already\n  hint: {hint}"))
            }
            _ => say(err, Exit::Failed, &format!("`{folder}` cannot be made: {error}")),
        };
    }
    for (path, text) in files(name) {
        if let Err(error) = write(&folder.join(&path), &text) {
            let path = folder.join(path);
            return say(err, Exit::Failed, &format!("`{}`: {error}", path.display()));
        }
    }
    say(out, Exit::Done, &next(&folder))
}

/// What a crate may be called.
fn check(name: &str) -> Result<(), &'static str> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_word) {
        return Err(
            "is no name for a policy\n  hint: write lower-case letters, digits, `-` and `_`, \
                    at most 64",
        );
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("does not begin with a letter");
    }
    if TAKEN.contains(&name) {
        return Err("means something else to cargo\n  hint: name what the policy does, as in \
                    `by-tenant`");
    }
    Ok(())
}

/// All files, by their paths in the policy's folder.
fn files(name: &str) -> Vec<(PathBuf, String)> {
    let fill = |text: &str| text.replace(NAME, name).replace(MODULE, &name.replace('-', "_"));
    let policy = POLICY.iter().map(|(path, text)| (PathBuf::from(path), fill(text)));
    let sdk = Path::new("larder-policy");
    let sources = SDK.iter().map(|(path, text)| (sdk.join(path), (*text).to_owned()));
    let manifest = (sdk.join("Cargo.toml"), sdk_manifest());
    policy.chain(sources).chain([manifest]).collect()
}

/// The SDK's manifest with what it has from its workspace written out.
fn sdk_manifest() -> String {
    let inherited = |line: &str| {
        let (key, _) = line.split_once(".workspace = true")?;
        let own = WORKSPACE.lines().skip_while(|line| *line != "[workspace.package]").skip(1);
        own.take_while(|line| !line.starts_with('[')).find(|line| line.starts_with(key))
    };
    let own = SDK_MANIFEST.lines().take_while(|line| *line != "[lints]");
    let own: Vec<_> = own.map(|line| inherited(line).unwrap_or(line)).collect();
    let lints = WORKSPACE.find("[workspace.lints").and_then(|at| WORKSPACE.get(at..));
    let lints = lints.unwrap_or_default().replace("[workspace.", "[");
    format!("{}\n{lints}", own.join("\n"))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, text)
}

fn next(folder: &Path) -> String {
    format!(
        "made `{folder}`: a policy with tests and cases. What is next:\n  \
         cd {folder}\n  \
         cargo test\n  \
         cargo wasm             # {build}\n  \
         larder policy test",
        folder = folder.display(),
        build = project::BUILD,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_sdk_is_written() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/sdk/src");
        let there: BTreeSet<_> = fs::read_dir(sources)
            .unwrap()
            .map(|entry| format!("src/{}", entry.unwrap().file_name().display()))
            .collect();
        let written = SDK.iter().map(|(path, _)| (*path).to_owned());
        let written: BTreeSet<_> = written.filter(|path| path.starts_with("src/")).collect();
        assert_eq!(written, there);
    }

    #[test]
    fn nothing_points_out_of_the_folder() {
        for (path, text) in files("by-tenant") {
            assert!(!text.contains("../"), "{}", path.display());
            assert!(!text.contains(".workspace = true"), "{}", path.display());
            assert!(![NAME, MODULE].iter().any(|it| text.contains(it)), "{}", path.display());
        }
    }

    #[test]
    fn names_that_cargo_would_refuse_are_refused() {
        for name in ["a", "by-tenant", "by_tenant2"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let long = "a".repeat(65);
        for name in ["", "By-tenant", "2nd", "-a", "a/b", "..", "a b", "test", "ä", &long] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
