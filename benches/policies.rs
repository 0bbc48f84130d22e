//! What policies cost by themselves: keys that are remembered, calls in fresh instances, and loading.
//!
//! `policies ROUNDS FOLDER [NAME=FILE]...`: each bundled plugin is asked what it is for; a FILE is
//! another key plugin, or stands for the bundled one of that name. FOLDER is where compiled code is
//! kept. The result is one line of JSON, medians over the rounds by cost and plugin: calls in
//! nanoseconds, loading in milliseconds.
//!
//! In a round each call is timed by itself, and the median counts: what others do on the same
//! processor stops a few of them for milliseconds, and leaves the others alone.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder::config::{self, Plugin, Setting};
use larder::plugin::{
    Engine, KeySpace, Operation, Policy, Seen, SeenChange, SeenResponse, bundled_names,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// As the gateway does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// In a round.
const BATCHES: usize = 1000;
const CALLS: usize = 1000;
const LOADS: usize = 5;

/// Of a batch: one look-up is shorter than the clock can tell.
const AT_ONCE: u32 = 64;

/// Requests that are remembered and asked for in turn: more than a worker has at hand.
const MANY: usize = 5000;

/// Compiling takes the longest by far, and varies the least.
const MOST_COMPILED: usize = 3;

const SPACE: KeySpace<'_> =
    KeySpace { namespace: "shop", route: "catalogue/origin", forwards_keyed: false };

/// What a browser sends with each request, and what an API's clients add.
const FIELDS: [(&str, &str); 12] = [
    ("host", "shop.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json, text/plain, */*"),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example/catalogue?page=2"),
    ("cookie", "session=0123456789abcdef; theme=dark; currency=USD"),
    ("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJ0ZW5hbnQiOiJhY21lIn0.c2lnbmF0dXJl"),
    ("x-tenant", "acme"),
    ("sec-fetch-dest", "empty"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-origin"),
];

const QUERY: &str = "page=2&sort=price&utm_source=newsletter";

/// `query Users($n:Int){users(first:$n){__typename id name team{__typename name}}}`, 20 of them.
const GRAPHQL: &str = "query=query%20Users(%24n:Int)%7Busers(first:%24n)%7B__typename%20id%20name%20\
    team%7B__typename%20name%7D%7D%7D&variables=%7B%22n%22:20%7D";

const MUTATION: &[u8] = br#"{"query": "mutation { rename(id: 1) { __typename id } }"}"#;

fn main() -> Result<()> {
    const USAGE: &str = "usage: policies ROUNDS FOLDER [NAME=FILE]...";
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().ok_or(USAGE)?.parse()?;
    let folder = arguments.next().ok_or(USAGE)?;
    let mut plugins: Vec<_> =
        bundled_names().map(|name| (name.to_owned(), Plugin::Bundled(name.to_owned()))).collect();
    for argument in arguments {
        let (name, file) = argument.split_once('=').ok_or(USAGE)?;
        plugins.retain(|(bundled, _)| bundled != name);
        plugins.push((name.to_owned(), Plugin::File(file.into())));
    }
    let engines = Engines {
        compiling: Engine::new(1)?,
        keeping: Engine::with_compiled(1, Some(Path::new(&folder)))?,
    };
    let subjects: Vec<_> = plugins
        .into_iter()
        .map(|(name, plugin)| Subject::new(&engines, name, plugin))
        .collect::<Result<_>>()?;
    let mut costs = Costs::default();
    for round in 0..rounds.max(1) {
        for subject in &subjects {
            subject.measure(&engines, round, &mut costs)?;
        }
    }
    let medians = costs.0.into_iter().map(|(cost, plugins)| {
        let plugins = plugins.into_iter().map(|(plugin, spans)| (plugin, median(spans).into()));
        (cost.to_owned(), Value::Object(plugins.collect()))
    });
    writeln!(io::stdout(), "{}", Value::Object(medians.collect()))?;
    Ok(())
}

/// By what was measured and of which plugin, one a round.
#[derive(Default)]
struct Costs(BTreeMap<&'static str, BTreeMap<String, Vec<f64>>>);

impl Costs {
    fn add(&mut self, cost: &'static str, plugin: &str, span: f64) {
        self.0.entry(cost).or_default().entry(plugin.to_owned()).or_default().push(span);
    }
}

struct Engines {
    compiling: Arc<Engine>,
    keeping: Arc<Engine>,
}

/// A plugin, loaded twice, and what it is asked.
struct Subject {
    name: String,
    plugin: Plugin,
    runtime: Runtime,
    /// Remembers nothing.
    fresh: Policy,
    /// Remembers all of `paths`.
    remembering: Policy,
    fields: HeaderMap,
    claims: Value,
    query: &'static str,
    paths: Vec<String>,
}

impl Subject {
    /// Everything that is to be remembered has been asked when it returns.
    fn new(engines: &Engines, name: String, plugin: Plugin) -> Result<Self> {
        let load =
            |remember| Policy::load(&engines.keeping, &configuration(&name, &plugin, remember));
        let subject = Self {
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            fresh: load(0)?,
            remembering: load(2 * MANY as u64)?,
            fields: fields(&FIELDS),
            claims: json!({"sub": "ada", "tenant": "acme", "exp": 4_102_444_800_u64}),
            query: if name == "graphql" { GRAPHQL } else { QUERY },
            paths: (0..MANY).map(|number| format!("/catalogue/books/{number}")).collect(),
            plugin,
            name,
        };
        if subject.remembering.has_key() {
            subject.runtime.block_on(async {
                for path in &subject.paths {
                    subject.remembering.key(SPACE, &subject.seen(path)).await?;
                }
                Ok::<_, Box<dyn Error>>(())
            })?;
        }
        Ok(subject)
    }

    fn seen<'a>(&'a self, path: &'a str) -> Seen<'a> {
        Seen {
            method: &Method::GET,
            scheme: "https",
            authority: "shop.example",
            path,
            query: Some(self.query),
            captures: &[("rest", "books/42")],
            fields: &self.fields,
            claims: Some(&self.claims),
            content: None,
        }
    }

    fn measure(&self, engines: &Engines, round: usize, costs: &mut Costs) -> Result<()> {
        let mut add = |cost, span| costs.add(cost, &self.name, span);
        if self.fresh.has_key() {
            add("remembered", self.look_up(1)?);
            add("remembered, many", self.look_up(MANY)?);
            add("key", self.runtime.block_on(self.key())?);
        }
        if self.fresh.has_storing() {
            add("storing", self.runtime.block_on(self.storing())?);
        }
        if self.fresh.has_invalidation() {
            add("invalidation", self.runtime.block_on(self.invalidation())?);
        }
        for _ in 0..LOADS {
            add("loaded", self.load(&engines.keeping)?);
        }
        if round < MOST_COMPILED {
            add("compiled", self.load(&engines.compiling)?);
        }
        Ok(())
    }

    /// So many different requests in turn.
    fn look_up(&self, different: usize) -> Result<f64> {
        let mut paths = self.paths.iter().take(different).cycle();
        let mut spans = Vec::new();
        for _ in 0..BATCHES {
            let mut found = true;
            let start = Instant::now();
            for _ in 0..AT_ONCE {
                let path = paths.next().map_or("/", String::as_str);
                let seen = self.seen(black_box(path));
                found &= black_box(self.remembering.remembered(SPACE, &seen)).is_some();
            }
            spans.push(nanoseconds(start) / f64::from(AT_ONCE));
            if !found {
                return Err(format!("{}: a key was not remembered", self.name).into());
            }
        }
        Ok(median(spans))
    }

    async fn key(&self) -> Result<f64> {
        let mut spans = Vec::new();
        for path in self.paths.iter().take(CALLS) {
            let start = Instant::now();
            black_box(self.fresh.key(SPACE, &self.seen(path)).await?);
            spans.push(nanoseconds(start));
        }
        Ok(median(spans))
    }

    async fn storing(&self) -> Result<f64> {
        let (json, content) = (fields(&[("content-type", "application/json")]), self.response());
        let mut spans = Vec::new();
        for path in self.paths.iter().take(CALLS) {
            let content = Some(content.clone());
            let start = Instant::now();
            let answer = self.fresh.storing(&self.seen(path), &response(&json, content)).await?;
            spans.push(nanoseconds(start));
            if !answer.store || answer.tags.len() < 3 {
                return Err(format!("{}: {answer:?}", self.name).into());
            }
        }
        Ok(median(spans))
    }

    /// A change where it is about documents, and else a write.
    async fn invalidation(&self) -> Result<f64> {
        let json = fields(&[("content-type", "application/json")]);
        let done = Bytes::from_static(br#"{"data": {"rename": {"__typename": "Team", "id": 1}}}"#);
        let [before, after] =
            ["ada", "bob"].map(|author| Arc::new(json!({"_id": 42, "author": author})));
        let mut spans = Vec::new();
        for path in self.paths.iter().take(CALLS) {
            let write = Seen {
                method: &Method::POST,
                query: None,
                content: Some(MUTATION),
                ..self.seen(path)
            };
            let start = Instant::now();
            let answer = if self.name == "document-changes" {
                let change = SeenChange {
                    mongodb: "blog",
                    database: "app",
                    collection: "posts",
                    operation: Operation::Update,
                    id: "42",
                    after: Some(Arc::clone(&after)),
                    before: Some(Arc::clone(&before)),
                };
                self.fresh.change(&change).await?
            } else {
                self.fresh.invalidation(&write, &response(&json, Some(done.clone()))).await?
            };
            spans.push(nanoseconds(start));
            if answer.is_empty() {
                return Err(format!("{}: nothing was invalidated", self.name).into());
            }
        }
        Ok(median(spans))
    }

    /// In milliseconds.
    fn load(&self, engine: &Engine) -> Result<f64> {
        let configuration = configuration(&self.name, &self.plugin, 0);
        let start = Instant::now();
        black_box(Policy::load(engine, &configuration)?);
        Ok(nanoseconds(start) / 1e6)
    }

    /// 4 KiB that the plugin finds its tags in.
    fn response(&self) -> Bytes {
        let is_graphql = self.name == "graphql";
        let text = |count| {
            let users: Vec<_> = (0..count).map(|id| user(id, is_graphql)).collect();
            if is_graphql {
                json!({"data": {"users": users}}).to_string()
            } else {
                json!({"id": 42, "teams": [{"id": "red"}, {"id": "blue"}], "users": users})
                    .to_string()
            }
        };
        let texts = (1..).map(text);
        let filled = texts.take_while(|text| text.len() <= 4 << 10).last();
        filled.unwrap_or_default().into()
    }
}

fn user(id: u32, is_graphql: bool) -> Value {
    if is_graphql {
        let team = json!({"__typename": "Team", "name": "red"});
        json!({"__typename": "User", "id": id, "name": "Ada Lovelace", "team": team})
    } else {
        json!({"id": id, "name": "Ada Lovelace", "email": "ada@shop.example", "active": true})
    }
}

fn response(fields: &HeaderMap, content: Option<Bytes>) -> SeenResponse<'_> {
    SeenResponse { status: StatusCode::OK, fields, content, longest: 1 << 20 }
}

fn configuration(name: &str, plugin: &Plugin, remember: u64) -> config::Policy {
    let text = |text: &str| Setting::Text(text.to_owned());
    let texts = |texts: &[&str]| Setting::Texts(texts.iter().map(|&it| it.to_owned()).collect());
    let settings = match name {
        "variants" => vec![
            ("cookie", text("currency")),
            ("cookie-default", text("EUR")),
            ("cookie-values", texts(&["EUR", "USD"])),
            ("languages", texts(&["en", "de", "fr"])),
        ],
        "tenant" => vec![("claim", text("tenant"))],
        "content-tags" => vec![
            ("static", texts(&["users"])),
            ("values.team", text("$.teams[*].id")),
            ("values.user", text("$.id")),
        ],
        "document-changes" => vec![("tags", texts(&["{collection}:{id}", "author:{$.author}"]))],
        // Without settings it drops some 50 parameters.
        _ => Vec::new(),
    };
    config::Policy {
        name: name.to_owned(),
        plugin: plugin.clone(),
        config: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        on_error: config::OnError::default(),
        // What a busy machine does to a call is measured, and ends nothing.
        time: Duration::from_secs(10),
        // Twice the default: an engine of JavaScript may begin with 10 MiB.
        memory: 16 << 20,
        remember,
        plugin_place: config::Place::default(),
        config_place: config::Place::default(),
    }
}

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        Some((HeaderName::try_from(*name).ok()?, HeaderValue::try_from(*value).ok()?))
    };
    lines.iter().filter_map(line).collect()
}

fn nanoseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e9
}

fn median(mut spans: Vec<f64>) -> f64 {
    spans.sort_by(f64::total_cmp);
    spans.get(spans.len() / 2).copied().unwrap_or_default()
}
