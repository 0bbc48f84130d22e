//! `larder schema`, by a validator that nobody here wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program::larder;
use crate::support::tool;

/// Faulty all the same, by what no schema of types and bounds can say.
const BEYOND_SCHEMAS: [&str; 13] = [
    "environment",
    "listeners_all",
    "nothing",
    "proxies_none",
    "redis_password",
    "redis_user",
    "secrets",
    "shadow",
    "takeover",
    "takeover_folder",
    "underscores",
    "warm_listeners",
    "warm_nothing",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The schema, as a file in this folder.
fn schema(folder: &Path) -> PathBuf {
    let schema = folder.join("gateway.schema.json");
    let ran = larder(folder, &["schema"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    fs::write(&schema, ran.out).unwrap();
    schema
}

/// What the validator says of each file, by its name.
fn validated(files: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let folder = tempfile::tempdir().unwrap();
    let schema = schema(folder.path());
    let ran = Command::new(tool("schemas/bin/python"))
        .arg(root().join("tests/schema/validate.py"))
        .arg(&schema)
        .args(files)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let told = String::from_utf8(ran.stdout).unwrap();
    let told = told.lines().zip(files).map(|(line, file)| {
        let said = line.strip_prefix(file.to_str().unwrap()).unwrap().trim();
        (file.clone(), said.to_owned())
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), files.len());
    told
}

/// What Taplo says of these files, which checks them as an editor does: nothing is good.
fn complaints(files: &[PathBuf]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(tool("taplo/bin/taplo"))
        .args(["check", "--no-auto-config", "--schema"])
        .arg(format!("file://{}", schema(folder.path()).display()))
        .args(files)
        .current_dir(folder.path())
        .env("RUST_LOG", "error")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.success(), told.is_empty(), "{told}");
    told
}

/// The files of a folder with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = root().join(folder).read_dir().unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|its| its == ending));
    files.sort();
    files
}

/// The pieces of TOML in a text that are pieces of `gateway.toml`, each a file.
fn examples(file: &Path, folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(file).unwrap();
    let pieces = text.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let tables = ["server", "admin", "cache", "upstreams", "mongodb", "policies", "jwt", "warm"];
    let lists = ["routes", "changes", "server.listeners"];
    let is_of_gateway = |piece: &str| {
        piece.lines().any(|line| {
            tables.iter().any(|it| line.starts_with(&format!("[{it}")))
                || lists.iter().any(|it| line.starts_with(&format!("[[{it}]]")))
        })
    };
    let pieces = pieces.map(|(piece, _)| piece).filter(|piece| is_of_gateway(piece));
    let name = file.file_stem().unwrap().to_str().unwrap();
    let write = |(index, piece): (usize, &str)| {
        let path = folder.join(format!("{name}-{index}.toml"));
        fs::write(&path, piece).unwrap();
        path
    };
    pieces.enumerate().map(write).collect()
}

#[test]
fn good_files_and_the_examples_of_the_documentation_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = vec![root().join("gateway.toml"), root().join("docs/fleet/gateway.toml")];
    all.push(root().join("docs/users/gateway.toml"));
    all.extend(files("tests/schema", "toml"));
    for text in [files("docs", "md"), vec![root().join("README.md")]].concat() {
        all.extend(examples(&text, folder.path()));
    }
    assert!(all.len() > 25, "{all:?}");
    let wrong: Vec<_> = validated(&all).into_iter().filter(|(_, said)| said != "valid").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let complaints = complaints(&all);
    assert!(complaints.is_empty(), "{complaints}");
}

#[test]
fn files_with_a_fault_of_their_form_are_not_valid() {
    for (file, said) in validated(&files("tests/bad_config", "toml")) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let is_beyond = BEYOND_SCHEMAS.contains(&name);
        assert_eq!(said == "valid", is_beyond, "{name}: {said}");
        let complaints = complaints(std::slice::from_ref(&file));
        assert_eq!(complaints.is_empty(), is_beyond, "{name}: {complaints}");
    }
}
