//! `larder purge`: a call to `POST /purge`, and what became of it in words and an exit code.
//!
//! What may be purged, and how much at once, is the gateway's to say.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgGroup, Args};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::config;

use super::admin::{Admin, is_problem};
use super::{Exit, raw, runtime, say, shown};

/// Nobody waits longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Arguments of `larder purge`.
#[derive(Debug, Args)]
#[command(override_usage = "larder purge [OPTIONS] --tag TAG | --url URL | --all | …")]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["tags", "keys", "urls", "patterns", "routes", "all"]))]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: Admin,

    /// What has this tag, of all upstreams and hosts.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// What has exactly this readable name, without the first `/`: `books/42`.
    #[arg(long = "key", value_name = "NAME")]
    keys: Vec<String>,

    /// All that answers a GET of this URL.
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,

    /// What has a matching name, without the first `/`: `books*`.
    #[arg(long = "pattern", value_name = "PATTERN")]
    patterns: Vec<String>,

    /// What is stored of this route.
    #[arg(long = "route", value_name = "NAME")]
    routes: Vec<String>,

    /// Everything.
    #[arg(long)]
    all: bool,

    /// What is covered becomes stale; without this it is gone.
    #[arg(long)]
    soft: bool,

    /// Wait until all gateways have applied it, at most so long: `500ms`, `1s`, up to `30s`.
    #[arg(long, value_name = "TIME", value_parser = wait)]
    wait: Option<Duration>,

    /// Print the gateway's answer as it came.
    #[arg(long)]
    json: bool,
}

/// What became of a purge, as far as it is told.
#[derive(Debug, Deserialize)]
struct Told {
    id: String,
    shared: bool,
    #[serde(default)]
    gateways: Vec<Gateway>,
    complete: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Gateway {
    name: String,
    applied: bool,
    at: Option<String>,
}

/// Purges, and tells what became of it.
pub(super) fn purge(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let token = match arguments.admin.token() {
        Ok(token) => token,
        Err(faults) => return say(err, Exit::Faulty, &faults.to_string()),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => return say(err, Exit::Failed, &why),
    };
    let (status, content) = match runtime.block_on(call(arguments, token)) {
        Ok(answer) => answer,
        Err(why) => return say(err, Exit::Failed, &why),
    };
    if matches!(status, StatusCode::OK | StatusCode::ACCEPTED)
        && let Ok(told) = serde_json::from_slice::<Told>(&content)
    {
        let exit = if told.complete == Some(false) { Exit::Failed } else { Exit::Done };
        arguments.doubt(err);
        return if arguments.json {
            raw(out, exit, &content)
        } else {
            say(out, exit, &told.text())
        };
    }
    if arguments.json && is_problem(&content) {
        return raw(out, Exit::Failed, &content);
    }
    say(err, Exit::Failed, &arguments.admin.refused(status, &content))
}

/// The gateway's answer, or why there is none.
async fn call(arguments: &Arguments, token: Option<String>) -> Result<(StatusCode, Bytes), String> {
    let Arguments { admin, tags, keys, urls, patterns, routes, all, soft, wait, .. } = arguments;
    let wanted = json!({
        "tags": tags, "keys": keys, "urls": urls, "patterns": patterns, "routes": routes,
        "all": all, "soft": soft,
    });
    let option = wait.map(|wait| format!("?wait={}ms", wait.as_millis())).unwrap_or_default();
    let wait = wait.unwrap_or_default();
    admin.call(token, &format!("/purge{option}"), Some(wanted), wait).await
}

impl Arguments {
    /// Tells of names that are hardly meant so. A path with two of them has such a name, so it is no fault.
    fn doubt(&self, err: &mut dyn Write) {
        for name in self.keys.iter().chain(&self.patterns) {
            if let Some(rest) = name.strip_prefix('/') {
                let rest = shown(rest);
                let note = format!("note: names are without the first `/`: did you mean `{rest}`?");
                // It is purged, whether or not anybody reads this.
                let _said = say(err, Exit::Done, &note);
            }
        }
    }
}

impl Told {
    fn text(&self) -> String {
        let state = match (self.complete, self.shared) {
            (Some(true), _) => "applied by all gateways that are alive",
            (Some(false), true) => "not applied by all gateways yet",
            (None, true) => "accepted",
            // L2 may be in Redis or on a disk, or another process is taking over.
            (_, false) => "applied by one gateway, which has it in memory until others take it",
        };
        let mut text = format!("{}: {state}", shown(&self.id));
        let width = self.gateways.iter().map(|it| it.name.chars().count()).max().unwrap_or(0);
        for Gateway { name, applied, at } in &self.gateways {
            let name = shown(name);
            let when = match (applied, at) {
                (true, Some(at)) => shown(at),
                (true, None) => "applied".to_owned(),
                (false, _) => "not yet".to_owned(),
            };
            // Writing to a string cannot fail.
            let _written = write!(text, "\n  {name:<width$}  {when}");
        }
        text
    }
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = config::span(text, Duration::ZERO..=LONGEST_WAIT);
    wait.ok_or_else(|| "write a time such as `1s` or `500ms`, at most `30s`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_as_a_line_and_one_for_each_gateway() {
        for (answer, text) in [
            (r#"{"id":"5-1","shared":true}"#, "5-1: accepted"),
            (
                r#"{"id":"5-1@one","shared":false}"#,
                "5-1@one: applied by one gateway, which has it in memory until others take it",
            ),
            (
                r#"{"id":"5-1","shared":true,"complete":true,"gateways":[
                    {"name":"shop-1","applied":true,"at":"2026-11-26T04:34:24.120Z"},
                    {"name":"b","applied":true,"at":null}]}"#,
                "5-1: applied by all gateways that are alive\n  shop-1  2026-11-26T04:34:24.120Z\n  \
                 b       applied",
            ),
            (
                r#"{"id":"5-1","shared":true,"complete":false,"gateways":[
                    {"name":"\u001b[31m","applied":false,"at":null}]}"#,
                "5-1: not applied by all gateways yet\n   [31m  not yet",
            ),
        ] {
            assert_eq!(serde_json::from_str::<Told>(answer).unwrap().text(), text);
        }
    }
}
