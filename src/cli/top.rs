//! `larder top`: what a running gateway does at this moment, on a terminal, written anew each second.
//!
//! The figures are those of `GET /stats`, `GET /health` and, where there is a ranking, `GET /busiest`.

mod screen;
mod view;

use std::io::{IsTerminal as _, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use http::StatusCode;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::clock;
use crate::config;

use super::admin::Admin;
use super::run::Signals;
use super::{Exit, runtime, say};

use self::screen::Screen;
use self::view::Sample;

pub(super) const EXAMPLES: &str = "\
Examples:
  larder top
      Watch the gateway on this machine; q ends it.
  larder top --once --interval 5s
      What it did within five seconds, once and as plain text.";

/// Arguments of `larder top`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: Admin,

    /// So long between two looks: `500ms`, `1s`, up to `1m`.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,

    /// Look twice, print what happened between, and end. Needs no terminal.
    #[arg(long)]
    once: bool,
}

/// Watches until `q`, Ctrl-C or a signal.
pub(super) fn top(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let token = match arguments.admin.token() {
        Ok(token) => token,
        Err(faults) => return say(err, Exit::Faulty, &faults.to_string()),
    };
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !arguments.once && !is_terminal {
        let why = "this needs a terminal\n  hint: --once prints it as plain text";
        return say(err, Exit::Faulty, why);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => return say(err, Exit::Failed, &why),
    };
    let watched = runtime.block_on(async {
        let mut first = sample(&arguments.admin, token.clone()).await?;
        if arguments.once {
            tokio::time::sleep(arguments.interval).await;
            let second = sample(&arguments.admin, token).await?;
            return Ok(Some(view::lines(&first, &second, usize::MAX).join("\n")));
        }
        watch(arguments, token, &mut first, out).await.map(|()| None)
    });
    match watched {
        Ok(Some(text)) => say(out, Exit::Done, &text),
        Ok(None) => Exit::Done,
        Err(why) => say(err, Exit::Failed, &why),
    }
}

/// Draws until it is to end. The terminal is as it was before when this returns, or panics.
async fn watch(
    arguments: &Arguments,
    token: Option<String>,
    former: &mut Sample,
    out: &mut dyn Write,
) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("no signals: {error}"))?;
    let mut screen = Screen::open(out).map_err(|error| format!("the terminal: {error}"))?;
    let mut keys = keys();
    let mut lines = vec!["looking".to_owned()];
    let mut next = clock::instant() + arguments.interval;
    loop {
        let mut looking = pin!(look(arguments, token.clone(), next));
        let looked = loop {
            screen.draw(&lines).map_err(|error| format!("the terminal: {error}"))?;
            // A gateway that is slow to answer keeps nobody here.
            tokio::select! {
                () = signals.next() => return Ok(()),
                key = keys.recv() => match key {
                    // Ctrl-C and Ctrl-D come as keys here; none at all: the terminal is gone.
                    None | Some(b'q' | b'Q' | 3 | 4) => return Ok(()),
                    Some(_) => {}
                },
                (begun, looked) = &mut looking => {
                    next = begun + arguments.interval;
                    break looked;
                }
            }
        };
        match looked {
            Ok(sample) => {
                lines = view::lines(former, &sample, screen::size().0);
                if let Some(first) = lines.first_mut() {
                    first.push_str("    q quits");
                }
                *former = sample;
            }
            Err(why) => lines = vec![why, "looking again".to_owned()],
        }
    }
}

/// One look, at this time, and when it has begun.
async fn look(
    arguments: &Arguments,
    token: Option<String>,
    at: Instant,
) -> (Instant, Result<Sample, String>) {
    tokio::time::sleep_until(at.into()).await;
    let begun = clock::instant();
    (begun, sample(&arguments.admin, token).await)
}

/// One look.
async fn sample(admin: &Admin, token: Option<String>) -> Result<Sample, String> {
    let call = async |call: &'static str| {
        let (code, content) = admin.call(token.clone(), call, None, Duration::ZERO).await?;
        let told: Value = serde_json::from_slice(&content).unwrap_or_default();
        Ok::<_, String>((code, told, content))
    };
    let (code, stats, content) = call("/stats").await?;
    if code != StatusCode::OK || !view::are_figures(&stats) {
        return Err(admin.refused(code, &content));
    }
    let (_, health, _) = call("/health").await?;
    let (_, busiest, _) = call("/busiest").await?;
    Ok(Sample { at: clock::instant(), stats, health, busiest })
}

/// What is typed. The thread ends with the process: nothing can take it from its reading.
fn keys() -> mpsc::Receiver<u8> {
    let (typed, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        use std::io::Read as _;

        for key in std::io::stdin().lock().bytes().map_while(Result::ok) {
            if typed.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = config::span(text, Duration::from_millis(50)..=Duration::from_mins(1));
    interval.ok_or_else(|| "write a time such as `1s`, from `50ms` to `1m`".to_owned())
}
