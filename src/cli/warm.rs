//! `larder warm`: asks a running gateway for URLs, and says which of them it has not stored, and why.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Arg, ArgGroup, Args, value_parser};
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use crate::clock;
use crate::terminal;
use crate::warm::{
    self, Answer, Asker, Gateway, Gathered, NO_GATEWAY, Page, Place, Sources, Speed, Tally, Trust,
};

use super::admin::Admin;
use super::output::columns;
use super::run::Signals;
use super::{Exit, front, runtime, say, shown};

/// The longest text that is read from standard input.
const LARGEST: u64 = 50 << 20;

/// The line on a terminal is written anew no more often.
const BETWEEN_LINES: Duration = Duration::from_millis(100);

/// Why the rest is not asked for after a signal.
const STOPPED: &str = "stopped";

/// What may be done where no gateway answers.
const ELSEWHERE: &str = "\n  hint: --gateway says where else";

/// Arguments of `larder warm`.
#[derive(Debug, Args)]
#[command(override_usage = "larder warm [OPTIONS] URL… | --list FILE | --sitemap URL-OR-FILE | …")]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["urls", "lists", "sitemaps", "busiest"]))]
#[command(mut_args(of_busiest))]
pub(super) struct Arguments {
    /// What to ask for: `https://shop.example/books/42`.
    #[arg(value_name = "URL", value_parser = url)]
    urls: Vec<String>,

    /// A file with a URL in each line; `-` is standard input.
    #[arg(long = "list", value_name = "FILE")]
    lists: Vec<PathBuf>,

    /// A sitemap, or an index of sitemaps. The gateway is asked for those that lie at a URL.
    #[arg(long = "sitemap", value_name = "URL-OR-FILE", value_parser = Place::of)]
    sitemaps: Vec<Place>,

    /// What clients ask for most, as the gateway at `--admin` tells.
    #[arg(long)]
    busiest: bool,

    #[command(flatten)]
    admin: Admin,

    /// Where the gateway listens for clients, whatever host the URLs name; with `https`, too.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = front)]
    gateway: Uri,

    /// Authorities that vouch for a gateway with `https`, in PEM form, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// A field of each request, such as `Accept-Encoding: gzip`: where responses differ by it, the
    /// one that is warmed is the one for this value.
    #[arg(long = "header", value_name = "FIELD", value_parser = warm::field)]
    fields: Vec<(HeaderName, HeaderValue)>,

    /// So many requests a second, at most.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = value_parser!(u32).range(1..=10_000))]
    rate: u32,

    /// So many requests at once, at most.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = value_parser!(u16).range(1..=1000))]
    concurrency: u16,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What it came to.
struct Outcome {
    urls: usize,
    tally: Tally,
    /// Each with its reason.
    not_warmed: Vec<(String, String)>,
    /// Why the rest was not asked for.
    ended: Option<String>,
}

/// The line on a terminal.
struct Progress {
    total: usize,
    begun: Instant,
    last: Option<Instant>,
}

/// The listener for operators is asked for nothing else.
fn of_busiest(argument: Arg) -> Arg {
    match argument.get_id().as_str() {
        "admin" | "token_file" => argument.requires("busiest"),
        _ => argument,
    }
}

/// Warms, and tells what came of it.
pub(super) fn warm(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    // Only operators are asked for it.
    let token = arguments.busiest.then(|| arguments.admin.token()).transpose();
    let token = match token {
        Ok(token) => token.flatten(),
        Err(faults) => return say(err, Exit::Faulty, &faults.to_string()),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => return say(err, Exit::Failed, &why),
    };
    let outcome = runtime.block_on(run(arguments, token, err));
    // Who types on standard input is not waited for.
    runtime.shutdown_background();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(why) => return say(err, Exit::Failed, &why),
    };
    let exit = if outcome.is_complete() { Exit::Done } else { Exit::Failed };
    if let Some(why) = &outcome.ended {
        let hint = if why == STOPPED { "" } else { ELSEWHERE };
        say(err, exit, &(shown(why) + hint));
    } else if outcome.is_of_others() {
        say(err, exit, &format!("what answers there is no gateway of Larder{ELSEWHERE}"));
    }
    say(out, exit, &if arguments.json { terminal::json(&outcome.json()) } else { outcome.text() })
}

/// Asks for everything. The error is why it could not even be said for what.
async fn run(
    arguments: &Arguments,
    token: Option<String>,
    err: &mut dyn Write,
) -> Result<Outcome, String> {
    let Arguments { gateway, fields, rate, concurrency, .. } = arguments;
    let mut signals = Signals::new().map_err(|error| format!("no signals: {error}"))?;
    let gateway = reached(gateway, arguments.ca.as_deref())?;
    let asker = Asker::new(gateway, fields.iter().cloned());
    let speed = Speed { rate: *rate, concurrency: usize::from(*concurrency) };
    let gathered = tokio::select! {
        gathered = gather(arguments, token, &asker, speed) => gathered?,
        () = signals.next() => return Err("stopped before it was known what to ask for".to_owned()),
    };
    let urls = gathered.pages.len() + gathered.refused.len();
    let mut outcome =
        Outcome { urls, tally: Tally::default(), not_warmed: gathered.refused, ended: None };
    outcome.tally.not_warmed = outcome.not_warmed.len();
    let mut progress = std::io::stderr().is_terminal().then(|| Progress::begin(urls));
    let each = |page: &Page, answer: &Answer| {
        outcome.tally.count(answer);
        if let Answer::NotWarmed(why) = answer {
            outcome.not_warmed.push((page.to_string(), why.clone()));
        }
        if let Some(progress) = &mut progress {
            progress.show(&outcome.tally, err);
        }
    };
    let ended = tokio::select! {
        done = warm::warm(&asker, gathered.pages, speed, each) => {
            done.err().map(|error| error.to_string())
        }
        () = signals.next() => Some(STOPPED.to_owned()),
    };
    if progress.is_some() {
        // A terminal that is gone cannot be told so.
        let _gone = write!(err, "{WIPED}");
    }
    outcome.ended = ended;
    Ok(outcome)
}

/// What is to be asked for.
async fn gather(
    arguments: &Arguments,
    token: Option<String>,
    asker: &Asker,
    speed: Speed,
) -> Result<Gathered, String> {
    let Arguments { urls, lists, sitemaps, admin, .. } = arguments;
    let is_stdin = |path: &PathBuf| path == Path::new("-");
    let mut sources = Sources {
        urls: urls.clone(),
        lists: lists.iter().filter(|path| !is_stdin(path)).cloned().collect(),
        sitemaps: sitemaps.clone(),
    };
    if lists.iter().any(is_stdin) {
        let reading = tokio::task::spawn_blocking(standard_input).await;
        let text = reading.map_err(|error| format!("standard input cannot be read: {error}"))??;
        sources.urls.extend(warm::lines(&text).map(str::to_owned));
    }
    if arguments.busiest {
        sources.urls.extend(busiest(admin, token).await?);
    }
    sources.gather(asker, speed).await.map_err(|error| {
        let hint = if error.is_out_of_reach() { ELSEWHERE } else { "" };
        shown(&error.to_string()) + hint
    })
}

/// The gateway that listens there.
fn reached(url: &Uri, ca: Option<&Path>) -> Result<Gateway, String> {
    let at = url.authority().cloned().ok_or("the gateway's URL has no host")?;
    if url.scheme_str() != Some("https") {
        return Ok(Gateway::new(Some(at)));
    }
    let trust = Trust::authorities(ca).map_err(|error| shown(&error.to_string()))?;
    Ok(Gateway::new(None).with_tls(at, trust))
}

/// The URLs that a gateway tells as the busiest.
async fn busiest(admin: &Admin, token: Option<String>) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Told {
        urls: Vec<Busy>,
    }
    #[derive(Deserialize)]
    struct Busy {
        url: String,
    }
    let (status, content) = admin.call(token, "/busiest", None, Duration::ZERO).await?;
    match serde_json::from_slice::<Told>(&content) {
        Ok(told) if status == StatusCode::OK => {
            Ok(told.urls.into_iter().map(|it| it.url).collect())
        }
        _ => Err(admin.refused(status, &content)),
    }
}

fn standard_input() -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin().take(LARGEST + 1).read_to_string(&mut text);
    match read {
        Ok(_) if text.len() as u64 <= LARGEST => Ok(text),
        Ok(_) => Err(format!("standard input has more than {LARGEST} octets")),
        Err(error) => Err(format!("standard input cannot be read: {error}")),
    }
}

fn url(text: &str) -> Result<String, &'static str> {
    Page::of(text).map(|_| text.to_owned())
}

impl Outcome {
    fn not_asked(&self) -> usize {
        self.urls.saturating_sub(self.tally.warmed() + self.tally.not_warmed)
    }

    /// Whether something answered each time, and never as a gateway does.
    fn is_of_others(&self) -> bool {
        let mut reasons = self.not_warmed.iter().map(|(_, why)| why);
        self.tally.warmed() == 0
            && !self.not_warmed.is_empty()
            && reasons.all(|why| why.ends_with(NO_GATEWAY))
    }

    fn is_complete(&self) -> bool {
        self.tally.warmed() == self.urls && self.ended.is_none()
    }

    fn text(&self) -> String {
        let Self { urls, tally, not_warmed, .. } = self;
        let mut text = format!(
            "{} of {urls} warmed: {} fetched and stored, {} stored before",
            tally.warmed(),
            tally.stored,
            tally.hits
        );
        if self.not_asked() > 0 {
            text.extend(["; ", &self.not_asked().to_string(), " not asked for"]);
        }
        for (url, why) in not_warmed {
            text.extend(["\n  ", &shown(url), "  ", &shown(why)]);
        }
        text
    }

    fn json(&self) -> String {
        let not_warmed = self.not_warmed.iter().map(|(url, why)| json!({ "url": url, "why": why }));
        json!({
            "urls": self.urls,
            "warmed": self.tally.warmed(),
            "stored": self.tally.stored,
            "hits": self.tally.hits,
            "not_warmed": not_warmed.collect::<Vec<_>>(),
            "not_asked": self.not_asked(),
            "ended": self.ended,
        })
        .to_string()
    }
}

/// Goes back to the line's beginning, and wipes it.
const WIPED: &str = "\r\u{1b}[K";

impl Progress {
    fn begin(total: usize) -> Self {
        Self { total, begun: clock::instant(), last: None }
    }

    fn show(&mut self, tally: &Tally, err: &mut dyn Write) {
        let now = clock::instant();
        if self.last.is_some_and(|last| now - last < BETWEEN_LINES) {
            return;
        }
        self.last = Some(now);
        let line = self.line(tally, now - self.begun);
        let line: String = line.chars().take(columns()).collect();
        // A terminal that is gone cannot be told so.
        let _gone = write!(err, "{WIPED}{line}").and_then(|()| err.flush());
    }

    /// What fits into a line of 80 characters.
    fn line(&self, tally: &Tally, elapsed: Duration) -> String {
        const WIDTH: usize = 20;

        let done = tally.warmed() + tally.not_warmed;
        let filled = (done * WIDTH).checked_div(self.total).unwrap_or(WIDTH).min(WIDTH);
        let bar = "#".repeat(filled) + &"-".repeat(WIDTH - filled);
        let millis = usize::try_from(elapsed.as_millis()).unwrap_or(usize::MAX).max(1);
        let rate = done.saturating_mul(1000) / millis;
        let left = self.total.saturating_sub(done).saturating_mul(millis) / done.max(1) / 1000;
        let not = match tally.not_warmed {
            0 => String::new(),
            count => format!(", {count} not"),
        };
        let (minutes, seconds) = (left / 60, left % 60);
        format!("[{bar}] {done}/{}{not}, {rate}/s, {minutes}:{seconds:02} left", self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_came_to_in_words() {
        let mut outcome = Outcome {
            urls: 5,
            tally: Tally { stored: 2, hits: 1, not_warmed: 1 },
            not_warmed: vec![("http://h/\u{1b}[2J".into(), "404: no route".into())],
            ended: Some("stopped".into()),
        };
        assert_eq!(
            outcome.text(),
            "3 of 5 warmed: 2 fetched and stored, 1 stored before; 1 not asked for\n  \
             http://h/ [2J  404: no route"
        );
        assert!(!outcome.is_complete());
        outcome = Outcome {
            urls: 3,
            tally: Tally { stored: 2, hits: 1, not_warmed: 0 },
            not_warmed: Vec::new(),
            ended: None,
        };
        assert_eq!(outcome.text(), "3 of 3 warmed: 2 fetched and stored, 1 stored before");
        assert!(outcome.is_complete());
    }

    #[test]
    fn the_line_on_a_terminal() {
        let line = |total, stored, not_warmed, seconds| {
            let tally = Tally { stored, hits: 0, not_warmed };
            let progress = Progress::begin(total);
            progress.line(&tally, Duration::from_secs(seconds))
        };
        assert_eq!(line(100, 50, 0, 10), "[##########----------] 50/100, 5/s, 0:10 left");
        assert_eq!(line(500, 99, 1, 50), "[####----------------] 100/500, 1 not, 2/s, 3:20 left");
        assert_eq!(line(1, 1, 0, 0), "[####################] 1/1, 1000/s, 0:00 left");
        assert_eq!(line(0, 0, 0, 0), "[####################] 0/0, 0/s, 0:00 left");
        assert!(line(500_000, 0, 499_999, 86_400).len() < 80);
    }
}
