//! A gateway that has many responses stored when it starts, more than could be fetched in reasonable time;
//! and what memory costs where the processor's caches do not help.
//!
//! `full FILE COUNT` serves by the `gateway.toml` of that name, whose only route is to have no policy, until it
//! is killed. L1 has COUNT responses to `GET /small/{n}?…` of its own address, as `constant` would give them
//! (16 octets, few fields, a tag), with the query that `run` sends; it listens once they are there.
//!
//! `full walk OCTETS` reads so much memory here and there, each place as the one before says, and prints
//! how many nanoseconds of processor time a read takes.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use larder::clock::Clock;
use larder::config::{self, Config};
use larder::gateway::{Current, Equipment, Gateway, Lasting};
use larder::routes::Routes;
use larder::semantics::Freshness;
use larder::server::{Listening, Server};
use larder::store::{Slot, Store, Tasks};
use larder::stored::{
    CacheKey, Fields, Mark, Moment, Original, Position, StoredResponse, default_parts,
};
use larder::upstream::Upstream;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// As the gateway does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// `measure.QUERY`.
const QUERY: &str = "page=2&sort=price&utm_source=newsletter";

/// As `constant` answers.
const RESPONSE: [(&str, &str); 4] = [
    ("cache-control", "max-age=3600"),
    ("cache-tag", "small"),
    ("content-length", "16"),
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
];

/// Reads of a walk.
const STEPS: u32 = 5_000_000;

fn main() -> Result<()> {
    const USAGE: &str = "usage: full FILE COUNT, or full walk OCTETS";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [word, octets] if word == "walk" => {
            writeln!(io::stdout(), "{:.2}", walk(octets.parse()?)?)?;
            Ok(())
        }
        [file, count] => {
            let config = config::load(Path::new(file))?;
            let control = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            control.block_on(serve(&config, count.parse()?))
        }
        _ => Err(USAGE.into()),
    }
}

async fn serve(config: &Config, count: usize) -> Result<()> {
    let tracker = TaskTracker::new();
    let end = CancellationToken::new();
    let tasks = Tasks { runtime: Handle::current(), tracker: tracker.clone(), end };
    let store = Store::new(&config.cache, None, tasks);
    fill(&store, config, count)?;
    let upstreams = config.upstreams.iter().map(|upstream| Upstream::new(upstream).map(Arc::new));
    let gateway = Gateway::new(
        config,
        Equipment {
            upstreams: upstreams.collect::<std::result::Result<_, _>>()?,
            sources: Vec::new(),
            policies: Vec::new(),
            tokens: Vec::new(),
            bookmarks: Vec::new(),
            routes: Routes::new(&config.routes)
                .map_err(|_| "routes that are in each other's way")?,
            lasting: Lasting::new(Arc::new(store), tracker.clone(), Clock::System),
        },
    );
    let listener = TcpListener::bind(config.server.listener.listen).await?;
    let listening = vec![Listening { listener, secured: None }];
    let opens = CancellationToken::new();
    opens.cancel();
    let _server = Server::start(&config.server, listening, Current::new(gateway), tracker, opens)?;
    std::future::pending().await
}

fn fill(store: &Store, config: &Config, count: usize) -> Result<()> {
    let (route, upstream) =
        config.routes.first().zip(config.upstreams.first()).ok_or("no route")?;
    let (route, upstream) = (&*route.name, &*upstream.name);
    let authority = config.server.listener.listen.to_string();
    let line = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let head = HeaderMap::from_iter(RESPONSE.map(line));
    let space = format!("{route}/{upstream}");
    let now = Clock::System.now();
    for number in 0..count {
        let path = format!("/small/{number}");
        let key = CacheKey::new(
            &config.cache.namespace,
            &space,
            &authority,
            default_parts(&path, Some(QUERY)),
        );
        let target = format!("{path}?{QUERY}");
        let stored = StoredResponse {
            name: target[1..].into(),
            status: StatusCode::OK,
            fields: Fields::encode(&head)?,
            body: Bytes::copy_from_slice(b"abcdefghijklmnop"),
            part: None,
            freshness: Freshness::fresh_for(Duration::from_hours(1), now),
            marks: [
                Mark::route(route),
                Mark::key(&key),
                Mark::path(&authority, &path),
                Mark::target(&authority, &target),
                Mark::tag(upstream, "small"),
            ]
            .into(),
            position: Position::ZERO,
            begun: Moment::BEFORE_ALL,
            checked: AtomicU64::new(0),
            original: Original::default(),
        };
        // What the first hit has to allocate to share them, the second has not.
        drop((stored.body.clone(), stored.fields.clone()));
        let slot = Slot {
            key: &key,
            nominated: &[],
            fields: &HeaderMap::new(),
            variants: 1,
            also: None,
            renews: None,
            stale: Duration::ZERO,
            rule: None,
        };
        if !store.put(&store.lease(), &slot, stored, now).kept {
            return Err("a response was not kept".into());
        }
    }
    let kept = store.stats().l1_entries;
    if kept < count as u64 { Err(format!("{kept} were kept").into()) } else { Ok(()) }
}

/// In nanoseconds a read.
fn walk(octets: usize) -> Result<f64> {
    // One number a cache line is read, as another response's would be.
    const LINE: usize = 64 / size_of::<u64>();
    let lines = (octets / 64).max(2).next_power_of_two();
    let mut memory = vec![0_u64; lines * LINE];
    // A generator of full period (Hull and Dobell) visits every line, and no neighbour after another.
    let following =
        |line: usize| line.wrapping_mul(0x5851_f42d).wrapping_add(0x3c6e_f35f) & (lines - 1);
    for line in 0..lines {
        if let Some(place) = memory.get_mut(line * LINE) {
            *place = following(line) as u64;
        }
    }
    let (before, mut line) = (processor_time()?, 0);
    for _ in 0..STEPS {
        let next = memory.get(line * LINE).copied().unwrap_or_default();
        line = usize::try_from(next).unwrap_or_default();
    }
    black_box(line);
    Ok((processor_time()? - before) / f64::from(STEPS))
}

/// Of this thread so far, in nanoseconds: what others do on the same core takes none of it.
fn processor_time() -> Result<f64> {
    let told = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(told.split(' ').next().ok_or("no such figure")?.parse()?)
}
