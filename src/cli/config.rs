//! `larder config show`: what is in force, of a file or of a running gateway.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use clap::{Arg, Args, Subcommand};
use http::StatusCode;
use serde_json::Value;

use crate::config::Draft;

use super::admin::Admin;
use super::{Exit, Table, raw, say};

pub(super) const EXAMPLES: &str = "\
Examples:
  larder config show
      What gateway.toml in this folder comes to, defaults and all.
  larder config show --running --json
      What the gateway on this machine goes by.";

/// Arguments of `larder config`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a configuration with everything that it leaves to defaults.
    ///
    /// A comment behind each key says where its value comes from: a file and a line, the environment, or
    /// the default. Secrets are hidden. What is printed is a configuration itself.
    ///
    /// Exit codes: 0 printed · 1 no answer of the gateway · 2 a faulty configuration.
    #[command(after_help = EXAMPLES)]
    Show(Show),
}

#[derive(Debug, Args)]
#[command(mut_args(of_running))]
struct Show {
    #[command(flatten)]
    table: Table,

    /// What the gateway at `--admin` goes by, instead of a file.
    #[arg(long, conflicts_with_all = ["file", "config"])]
    running: bool,

    #[command(flatten)]
    admin: Admin,

    /// Print JSON: the configuration, and the sources of its values by JSON Pointers.
    #[arg(long)]
    json: bool,
}

/// How to reach a gateway says nothing about a file.
fn of_running(argument: Arg) -> Arg {
    match argument.get_id().as_str() {
        "admin" | "token_file" => {
            argument.requires("running").conflicts_with_all(["file", "config"])
        }
        _ => argument,
    }
}

/// Shows it.
pub(super) fn config(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let Command::Show(show) = &arguments.command;
    if show.running {
        return match running(show) {
            Ok(content) => raw(out, Exit::Done, content.trim_ascii_end()),
            Err((exit, why)) => say(err, exit, &why),
        };
    }
    match Draft::load(show.table.file()).finish() {
        Err(faults) => say(err, Exit::Faulty, &faults.to_string()),
        Ok(config) if show.json => say(out, Exit::Done, &config.in_force.to_json().to_string()),
        Ok(config) => say(out, Exit::Done, config.in_force.to_toml().trim()),
    }
}

/// The configuration of a gateway, or what to end with and why there is none.
fn running(show: &Show) -> Result<Bytes, (Exit, String)> {
    let get = |call| show.admin.get(call, Duration::ZERO);
    let json = get("/config")?;
    // Any text may be TOML, so this tells whether a gateway says it.
    let told: Option<Value> = serde_json::from_slice(&json).ok();
    if !told.is_some_and(|told| told.get("config").is_some_and(Value::is_object)) {
        return Err((Exit::Failed, show.admin.refused(StatusCode::OK, &json)));
    }
    if show.json { Ok(json) } else { get("/config?format=toml") }
}
