//! The command line: arguments → a command → an exit code.
//!
//! Exit codes: 0 done, drained · 1 the work could not be done (an address is taken, say), a policy
//! is not what it must be · 2 wrong arguments or a faulty configuration · 3 stopped, and the drain's
//! time was over before every request had its answer.

mod admin;
mod check;
mod config;
pub mod demo;
mod explain;
mod health;
mod output;
mod policy;
mod purge;
mod routes;
mod run;
mod simulate;
mod stats;
mod table;
mod top;
mod warm;

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use http::Uri;
use tokio::runtime::{Builder, Runtime};

use crate::config::{Faults, SCHEMA};
use crate::telemetry;
use crate::terminal;
use crate::terminal::plain as shown;

use self::output::Output;

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; everything that ran was drained.
    Done,
    /// The work could not be done.
    Failed,
    /// Wrong arguments, or a faulty configuration.
    Faulty,
    /// Stopped before every request had its answer.
    Cut,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Faulty => 2,
            Exit::Cut => 3,
        })
    }
}

const EXAMPLES: &str = "\
Examples:
  larder demo
      See it work: a small API with a slow database, and Larder before it.
  larder run --upstream http://127.0.0.1:3000
      Cache one API by what its responses say (RFC 9111). No file needed.
  larder check gateway.toml
      Find every fault of a configuration, its plugins included.
  larder run gateway.toml
      Serve by a route table.
  larder purge --tag order-42 --wait 1s
      Have all gateways forget what bears a tag.
  larder explain http://shop.example/books/42
      Why it was, or was not, answered from the cache.
  larder warm --sitemap https://shop.example/sitemap.xml
      Have a gateway store what it will be asked for.
  larder simulate --ttl 1m /var/log/nginx/access.log
      See what gateway.toml would have made of what was asked for before.
  larder policy new by-tenant
      Begin a cache policy; `larder policy test` tries it.

Exit codes: 0 done · 1 failed · 2 wrong arguments or configuration · 3 stopped while
requests were still running.";

const SCHEMA_EXAMPLE: &str = "\
Example:
  larder schema > gateway.schema.json
      Then write `#:schema ./gateway.schema.json` at the top of gateway.toml.";

const RUN_EXAMPLES: &str = "\
Examples:
  larder run
      Serve by gateway.toml in this folder.
  larder run --upstream http://127.0.0.1:3000 --listen 127.0.0.1:8000 --admin 127.0.0.1:9080
      Cache one API, without a file; `larder stats` tells what comes of it.";

const CHECK_EXAMPLE: &str = "\
Example:
  larder check /etc/larder/gateway.toml && systemctl reload larder
      Reload what has no fault.";

const DEMO_EXAMPLE: &str = "\
Example:
  larder demo
      Then ask it, as it tells.";

const PURGE_EXAMPLES: &str = "\
Examples:
  larder purge --tag order-42 --wait 1s
      Have all gateways forget what bears a tag, and wait until they have.
  larder purge --pattern 'books*' --soft
      Have what has such a name validated before it is served again.";

const HEALTH_EXAMPLE: &str = "\
Example:
  larder health --admin http://127.0.0.1:9080
      As a container's health check.";

const WARM_EXAMPLES: &str = "\
Examples:
  larder warm --sitemap https://shop.example/sitemap.xml
      All that a sitemap names.
  larder warm --header 'Accept-Encoding: gzip' https://shop.example/
      One page, as browsers ask for it.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  larder completions bash > /etc/bash_completion.d/larder
      For all who use bash on this machine.
  larder completions fish > ~/.config/fish/completions/larder.fish
      For one who uses fish.";

/// What `--version` tells. `LARDER_COMMIT` is set by whoever builds from a repository; a tarball has none.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    use std::env::consts::{ARCH, OS};

    let commit = option_env!("LARDER_COMMIT").filter(|commit| !commit.is_empty());
    let commit = commit.map(|commit| format!(" ({commit})")).unwrap_or_default();
    let features = if cfg!(feature = "mongodb") { "mongodb" } else { "none" };
    let libc = if cfg!(target_env = "musl") { ", musl" } else { "" };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let version = env!("CARGO_PKG_VERSION");
    format!("{version}{commit}\nfeatures: {features}\ntarget: {ARCH} {OS}{libc}\nbuild: {build}")
});

/// A cache gateway: put it before an API, and it answers what it can from memory or Redis.
#[derive(Debug, Parser)]
#[command(name = "larder", version, long_version = LONG_VERSION.as_str(), after_help = EXAMPLES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// What to log, as directives: `warn`, `info`, `info,larder::policy=debug`.
    #[arg(long, global = true, default_value = "info", value_name = "FILTER")]
    log: String,

    /// Log as JSON, a line each.
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer requests until SIGTERM or Ctrl-C, then drain.
    ///
    /// By a route table, or with `--upstream` for one API without any file. On SIGTERM no more
    /// connections are taken and running requests end within `[server] drain`; a second signal ends at
    /// once.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Read a configuration and load its plugins; say all that is wrong, or that there are no faults.
    ///
    /// Each fault is printed with its line, column, value and what to write instead, and the exit
    /// code is 2.
    #[command(after_help = CHECK_EXAMPLE)]
    Check(Table),
    /// Show a configuration as it is in force.
    #[command(after_help = config::EXAMPLES)]
    Config(config::Arguments),
    /// Print a JSON Schema of `gateway.toml`, for editors.
    ///
    /// Draft 2020-12: every key with its type, default, bounds and meaning. Editors with Taplo or "Even
    /// Better TOML" complete and check a file whose first line names it.
    #[command(after_help = SCHEMA_EXAMPLE)]
    Schema,
    /// A small API with a slow database, Larder before it, and what to try.
    ///
    /// Nothing else has to be installed. The API and both listeners are on this machine's loopback
    /// addresses only, and end with the program.
    #[command(after_help = DEMO_EXAMPLE)]
    Demo {
        /// Make the tour and end, without waiting for Ctrl-C.
        #[arg(long)]
        once: bool,
    },
    /// Purge what is stored: by tags, names, URLs, patterns or routes, or all of it.
    ///
    /// A call to the gateway's admin listener. The token comes from a file or the environment, never
    /// from the command line, which others on the machine can read.
    ///
    /// Exit codes: 0 accepted, with --wait applied by all gateways that are alive · 1 refused, no
    /// answer, or not applied by all in time · 2 wrong arguments.
    #[command(after_help = PURGE_EXAMPLES)]
    Purge(purge::Arguments),
    /// Ask the gateway on this machine whether it answers: `pass`, `warn` or `fail`.
    ///
    /// For containers and whoever looks after them. `GET /health` tells more.
    ///
    /// Exit codes: 0 it answers requests, if not all is well (`warn`) · 1 it does not, or is not there ·
    /// 2 wrong arguments.
    #[command(after_help = HEALTH_EXAMPLE)]
    Health(health::Arguments),
    /// Have a running gateway store what it will be asked for: URLs, lists of them, sitemaps.
    ///
    /// Each URL is asked of the gateway as a client would, with the URL's host, so that it is stored as for
    /// a client. What was not warmed is told, with its reason. On a terminal a line shows how far it is.
    ///
    /// Exit codes: 0 all warmed · 1 some were not, or the gateway is out of reach · 2 wrong arguments.
    #[command(after_help = WARM_EXAMPLES)]
    Warm(warm::Arguments),
    /// The route table of a running gateway, the most specific route first.
    ///
    /// Of two routes that match a request the upper one answers it. One with several hosts stands where
    /// the most specific of them belongs, whichever a request is for.
    #[command(after_help = routes::EXAMPLES)]
    Routes(admin::Asked),
    /// The figures of a running gateway, as tables.
    #[command(after_help = stats::EXAMPLES)]
    Stats(admin::Asked),
    /// Watch a running gateway: rates, hit rates, the busiest routes and URLs, the upstreams.
    ///
    /// On a terminal, written anew each second; q ends it. With `--once` plain text, for scripts.
    #[command(after_help = top::EXAMPLES)]
    Top(top::Arguments),
    /// Print a script with which a shell completes the arguments of this program.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Whose script.
        shell: Shell,
    },
    /// Say why a request is answered as it is: route, policies, key, what is stored, what would be done.
    ///
    /// The running gateway is asked, by the `[admin]` of its file, and does nothing of what it tells. Values
    /// of `Authorization` and `Cookie` are never shown.
    ///
    /// Exit codes: 0 explained · 1 refused, or no answer · 2 wrong arguments or configuration.
    Explain(explain::Arguments),
    /// Try a configuration, or two, by the requests in access logs: what would have been a hit?
    ///
    /// Routes, policies and rules decide as they do in a gateway, at the times of the log, and nobody is
    /// asked: no upstream, no Redis. A log says little of responses, so what was assumed is told. Logs may
    /// be combined or common ones of Apache and nginx, lines of JSON, or HAR.
    ///
    /// Exit codes: 0 done · 1 a log cannot be read, or has no request · 2 wrong arguments or configuration.
    Simulate(simulate::Arguments),
    /// Write a policy: begin one, try its cases, look into it, measure it.
    #[command(after_help = policy::EXAMPLES)]
    Policy(policy::Arguments),
}

/// Which configuration.
#[derive(Clone, Debug, Args)]
struct Table {
    /// The route table.
    #[arg(default_value = "gateway.toml")]
    file: PathBuf,

    /// The same, by name.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
}

impl Table {
    fn file(&self) -> &Path {
        self.config.as_ref().unwrap_or(&self.file)
    }
}

#[derive(Clone, Debug, Args)]
struct Run {
    #[command(flatten)]
    table: Table,

    /// Cache this API instead: `http://HOST:PORT`, all defaults, no policies.
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "config"])]
    upstream: Option<String>,

    /// Where clients connect to, instead of `[server] listen`; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,

    /// With `--upstream`: where operators connect to; a loopback address.
    #[arg(
        long, value_name = "ADDRESS", value_parser = address, requires = "upstream",
        conflicts_with_all = ["file", "config"]
    )]
    admin: Option<SocketAddr>,
}

/// Runs the program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut out = Output::new();
    let mut err = std::io::stderr();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            let _gone = error.print();
            return Exit::Faulty.into();
        }
        // Help and version are no errors; clap knows where each belongs.
        Err(error) => {
            let _kept = out.keep(error.print());
            return out.close(Exit::Done, &mut err).into();
        }
    };
    if let Err(why) = telemetry::start(&arguments.log, arguments.log_json) {
        return say(&mut err, Exit::Faulty, &format!("--log `{}`: {why}", arguments.log)).into();
    }
    let exit = match arguments.command {
        Command::Run(run) => run::run(&run, &mut out, &mut err),
        Command::Check(table) => check::check(table.file(), &mut out, &mut err),
        Command::Config(arguments) => config::config(&arguments, &mut out, &mut err),
        Command::Routes(asked) => routes::routes(&asked, &mut out, &mut err),
        Command::Stats(asked) => stats::stats(&asked, &mut out, &mut err),
        Command::Top(arguments) => top::top(&arguments, &mut out, &mut err),
        Command::Completions { shell } => completions(shell, &mut out),
        Command::Schema => say(&mut out, Exit::Done, SCHEMA.trim_end()),
        Command::Demo { once } => demo::demo(once, &mut out, &mut err),
        Command::Purge(arguments) => purge::purge(&arguments, &mut out, &mut err),
        Command::Health(arguments) => health::health(&arguments, &mut out, &mut err),
        Command::Warm(arguments) => warm::warm(&arguments, &mut out, &mut err),
        Command::Explain(arguments) => explain::explain(&arguments, &mut out, &mut err),
        Command::Simulate(arguments) => simulate::simulate(&arguments, &mut out, &mut err),
        Command::Policy(arguments) => policy::policy(arguments, &mut out, &mut err),
    };
    out.close(exit, &mut err).into()
}

/// What a shell reads to complete arguments.
fn completions(shell: Shell, out: &mut dyn Write) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "larder", &mut script);
    say(out, Exit::Done, String::from_utf8_lossy(&script).trim_end())
}

/// What is wrong with a configuration; where its file is not there, also what can be done without one.
fn with_hint(faults: Faults, file: &Path, hint: &str) -> Faults {
    if !matches!(file.try_exists(), Ok(false)) {
        return faults;
    }
    let faults = faults.into_iter().map(|fault| fault.with_hint(hint.to_owned()));
    faults.collect::<Vec<_>>().into()
}

/// Where to listen.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an address and a port, such as `127.0.0.1:8080`".to_owned())
}

/// What a command waits on, by its own thread.
fn runtime() -> Result<Runtime, String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("no runtime: {error}"))
}

/// Prints a line. If it cannot be written, that changes nothing of what was done: [`Output`] tells it in the
/// end, and an error stream that is gone cannot be told so.
fn say(to: &mut dyn Write, exit: Exit, line: &str) -> Exit {
    let _gone = writeln!(to, "{line}");
    exit
}

/// What a gateway has answered, in JSON. As with [`say`], it may not be possible to write it.
fn raw(out: &mut dyn Write, exit: Exit, content: &[u8]) -> Exit {
    let content = match str::from_utf8(content) {
        Ok(text) => terminal::json(text).into_bytes(),
        Err(_) => content.escape_ascii().to_string().into_bytes(),
    };
    let _gone = out.write_all(&content).and_then(|()| writeln!(out));
    exit
}

/// Where a listener of a gateway may be: it speaks HTTP, and is named by its root.
fn listener(text: &str) -> Result<Uri, String> {
    root(text, &["http"]).ok_or_else(|| "write `http://HOST:PORT`".to_owned())
}

/// As [`listener`], one for clients.
fn front(text: &str) -> Result<Uri, String> {
    root(text, &["http", "https"])
        .ok_or_else(|| "write `http://HOST:PORT` or `https://HOST:PORT`".to_owned())
}

fn root(text: &str, schemes: &[&str]) -> Option<Uri> {
    let uri: Option<Uri> = text.parse().ok();
    uri.filter(|uri| {
        uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
            && uri.authority().is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_named_by_their_root() {
        for good in ["http://127.0.0.1:9080", "http://larder.internal/", "http://[::1]:9080"] {
            assert!(listener(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:9080",
            "localhost",
            "https://h",
            "http://",
            "http://:9080",
            "http://user:secret@h",
            "http://h/purge",
            "http://h/?a",
        ] {
            assert!(listener(bad).is_err(), "{bad}");
            assert!(front(bad).is_err() || bad == "https://h", "{bad}");
        }
    }
}
