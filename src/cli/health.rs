//! `larder health`: does the gateway on this machine answer? For whoever looks after it and has no other
//! program at hand, as in a container without a shell.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use http::Uri;
use serde::Deserialize;

use super::admin::{Admin, USUAL};
use super::{Exit, listener, runtime, say};

/// Arguments of `larder health`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    // Without a token: nobody needs one to be told that much.
    /// Where the gateway listens for operators.
    #[arg(long, value_name = "URL", default_value = USUAL, value_parser = listener)]
    admin: Uri,

    /// Ask whether the process answers, and no more, for whoever would start it again.
    #[arg(long)]
    live: bool,
}

/// What `GET /health` answers, as far as everybody is told.
#[derive(Deserialize)]
struct Told {
    status: Status,
}

/// The words of a gateway. Other servers have others there, which say nothing of one.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Pass,
    Warn,
    Fail,
}

impl Status {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Asks, and prints the status.
pub(super) fn health(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => return say(err, Exit::Failed, &why),
    };
    let admin = Admin::at(arguments.admin.clone());
    let path = if arguments.live { "/health/live" } else { "/health" };
    let answer = runtime.block_on(admin.call(None, path, None, Duration::ZERO));
    let (status, content) = match answer {
        Ok(answer) => answer,
        Err(why) => return say(err, Exit::Failed, &why),
    };
    match serde_json::from_slice::<Told>(&content) {
        Ok(told) => {
            let exit = if status.is_success() { Exit::Done } else { Exit::Failed };
            say(out, exit, told.status.as_str())
        }
        Err(_) => say(err, Exit::Failed, &admin.refused(status, &content)),
    }
}
