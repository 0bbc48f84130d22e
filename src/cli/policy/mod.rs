//! `larder policy`: the commands of someone who writes a policy.

mod ask;
mod bench;
mod inspect;
mod new;
mod probe;
mod project;
mod subject;
mod test;
mod verdict;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Exit;

pub(super) const EXAMPLES: &str = "\
Examples:
  larder policy new by-tenant
      Begin a policy. Then, in its folder:
  larder policy test
      Try its cases.";

const NEW_EXAMPLE: &str = "\
Example:
  larder policy new by-tenant --dir policies
      Makes the folder policies/by-tenant.";

const TEST_EXAMPLE: &str = "\
Example:
  larder policy test bundled:normalise-query --cases cases.toml
      Try a plugin that ships with Larder.";

const INSPECT_EXAMPLE: &str = "\
Example:
  larder policy inspect plugins/by-tenant.wasm
      Say what a file is.";

const BENCH_EXAMPLE: &str = "\
Example:
  larder policy bench --seconds 5
      Measure the policy in this folder.";

/// Arguments of `larder policy`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a policy: a crate that builds, with unit tests and cases.
    ///
    /// The crate that policies are written with is put beside it, so nothing but Rust with the target
    /// wasm32-unknown-unknown is needed.
    #[command(after_help = NEW_EXAMPLE)]
    New {
        /// The name of the crate and of its folder.
        name: String,

        /// Where the folder is made.
        #[arg(long, value_name = "PATH", default_value = ".")]
        dir: PathBuf,
    },
    /// Try a policy's cases in the engine that serves requests.
    ///
    /// Prints a line for each case, and what came instead where one failed. It also fails if equal
    /// questions get different answers, or if the value of `Authorization`, of a cookie or of a claim
    /// gets into a readable name or the log; and it notes what the policy asks to see in vain.
    ///
    /// Exit codes: 0 all hold · 1 some do not · 2 a faulty file, or no plugin.
    #[command(after_help = TEST_EXAMPLE)]
    Test {
        /// A plugin's file, the folder of a crate that was built, or `bundled:NAME`.
        #[arg(default_value = ".")]
        path: String,

        /// The cases. Default: `cases.toml` beside the plugin.
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,

        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what a plugin is: its form, size and digest, its exports, and what it asks to see.
    ///
    /// Exit codes: 0 it is a policy · 1 it is none, or refuses its settings · 2 no such file.
    #[command(after_help = INSPECT_EXAMPLE)]
    Inspect {
        /// A plugin's file, the folder of a crate that was built, or `bundled:NAME`.
        #[arg(default_value = ".")]
        path: String,

        /// A file with the settings as `config = { … }`. Default: `cases.toml` beside the plugin,
        /// if it is there.
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,

        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure the calls of a policy, over the questions of its cases.
    #[command(after_help = BENCH_EXAMPLE)]
    Bench {
        /// A plugin's file, the folder of a crate that was built, or `bundled:NAME`.
        #[arg(default_value = ".")]
        path: String,

        /// The cases. Default: `cases.toml` beside the plugin.
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,

        /// For how long.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
    },
}

/// Runs one of them.
pub(super) fn policy(arguments: Arguments, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    match arguments.command {
        Command::New { name, dir } => new::new(&name, &dir, out, err),
        Command::Inspect { path, cases, json } => inspect::inspect(&path, cases, json, out, err),
        Command::Bench { path, cases, seconds } => bench::bench(&path, cases, seconds, out, err),
        Command::Test { path, cases, json } => test::test(&path, cases, json, out, err),
    }
}
