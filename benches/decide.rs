//! What it costs to decide that a stored response may be served, beside what it costs to find it.
//!
//! `decide [ROUNDS [CALLS]]`: for each kind of request, everything that `semantics` is asked on the way to a
//! hit, and in the same rounds the look-up: the cache key and what L1 has for it. The result is one
//! line of JSON, medians over the rounds in nanoseconds.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder::config;
use larder::semantics::{self, Asked, Freshness, RequestDirectives, Reuse, Rules, Times};
use larder::store::{LookUp, Slot, Store, Tasks};
use larder::stored::{
    CacheKey, Fields, Mark, Moment, Original, Position, StoredResponse, default_parts,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a browser sends with each request.
const USUAL: [(&str, &str); 7] = [
    ("host", "shop.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("accept", "application/json"),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example/"),
    ("cookie", "session=0123456789abcdef; theme=dark"),
];

/// The kinds of requests, and what tells them from the usual one.
const KINDS: [(&str, &[(&str, &str)]); 5] = [
    ("plain", &[]),
    ("directives", &[("cache-control", "max-age=600, min-fresh=5, max-stale=10")]),
    ("if-none-match", &[("if-none-match", "\"another\", W/\"33a64df5\"")]),
    ("if-modified-since", &[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]),
    ("range", &[("range", "bytes=0-99, 500-599"), ("if-range", "\"33a64df5\"")]),
];

const RESPONSE: [(&str, &str); 8] = [
    ("cache-control", "public, max-age=3600, stale-while-revalidate=60"),
    ("content-type", "application/json; charset=utf-8"),
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("etag", "\"33a64df5\""),
    ("last-modified", "Sun, 06 Nov 1994 07:49:37 GMT"),
    ("server", "api/1.0"),
    ("x-content-type-options", "nosniff"),
    ("x-request-id", "0123456789abcdef"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(9), |rounds| rounds.parse())?;
    let calls: u32 = arguments.next().map_or(Ok(100_000), |calls| calls.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let tasks = Tasks {
        runtime: runtime.handle().clone(),
        tracker: TaskTracker::new(),
        end: CancellationToken::new(),
    };
    let store = Store::new(&config::Cache::default(), None, tasks);
    let now = SystemTime::now();
    let stored = stored(now)?;
    let key = key();
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
    store.put(&store.lease(), &slot, stored, now);
    let kinds = KINDS.map(|(name, more)| (name, fields(USUAL.iter().chain(more))));
    let head = fields(&RESPONSE);

    let mut spans = vec![Vec::new(); kinds.len() + 1];
    for _ in 0..rounds.max(1) {
        let (look_up, decisions) = spans.split_last_mut().ok_or("nothing to measure")?;
        look_up.push(timed(calls, || {
            let key = self::key();
            let Some((_, request)) = kinds.first() else { return false };
            matches!(store.look_in_l1(&key, request, now), LookUp::Found(_))
        })?);
        for ((_, request), spans) in kinds.iter().zip(decisions) {
            let LookUp::Found(hit) = store.look_in_l1(&key, request, now) else {
                return Err("what was stored is gone".into());
            };
            spans.push(timed(calls, || {
                decide(black_box(request), &hit.stored.freshness, black_box(&head), now)
            })?);
        }
    }
    let names = kinds.iter().map(|(name, _)| *name).chain(["look-up"]);
    let medians = names.zip(spans).map(|(name, spans)| (name.to_owned(), median(spans).into()));
    writeln!(io::stdout(), "{}", serde_json::Value::Object(medians.collect()))?;
    Ok(())
}

/// Everything that is decided on the way to a hit. False would be none. `count` counts its instructions.
#[inline(never)]
fn decide(request: &HeaderMap, stored: &Freshness, head: &HeaderMap, now: SystemTime) -> bool {
    if semantics::may_answer(&Method::GET, request).is_err() {
        return false;
    }
    let directives = RequestDirectives::of(request);
    let Reuse::Serve { .. } = semantics::reuse(stored, false, &directives, now) else {
        return false;
    };
    if !semantics::not_modified(request, StatusCode::OK, head)
        && semantics::asks_for_part(&Method::GET, request)
    {
        black_box(semantics::select(request, StatusCode::OK, head, 1024).is_ok());
    }
    true
}

/// In nanoseconds a call.
fn timed(calls: u32, mut call: impl FnMut() -> bool) -> Result<f64, &'static str> {
    let start = Instant::now();
    for _ in 0..calls {
        if !black_box(call()) {
            return Err("it was no hit");
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(calls))
}

fn median(mut spans: Vec<f64>) -> f64 {
    spans.sort_by(f64::total_cmp);
    spans.get(spans.len() / 2).copied().unwrap_or_default()
}

fn key() -> CacheKey {
    let parts = default_parts(black_box("/catalogue/books/42"), Some("language=de&page=2"));
    CacheKey::new("shop", "catalogue", "shop.example", parts)
}

fn fields<'a>(lines: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        Some((HeaderName::try_from(*name).ok()?, HeaderValue::try_from(*value).ok()?))
    };
    lines.into_iter().filter_map(line).collect()
}

fn stored(now: SystemTime) -> Result<StoredResponse, Box<dyn Error>> {
    let head = fields(&RESPONSE);
    let asked = Asked {
        method: &Method::GET,
        fields: &HeaderMap::new(),
        directives: &RequestDirectives::default(),
        has_credentials: false,
    };
    // Stored a moment ago: `Date` says when it was made.
    let mut fresh = head.clone();
    fresh.remove("date");
    let times = Times { requested: now, received: now };
    let freshness = semantics::storable(&asked, StatusCode::OK, &fresh, &times, &Rules::default())
        .map_err(semantics::NotStored::as_str)?;
    Ok(StoredResponse {
        name: "catalogue/books/42".into(),
        status: StatusCode::OK,
        fields: Fields::encode(&head)?,
        body: Bytes::from_static(&[b'x'; 1024]),
        part: None,
        freshness: Freshness { lifetime: Duration::from_hours(1), ..freshness },
        marks: [Mark::route("catalogue"), Mark::key(&key())].into(),
        position: Position::ZERO,
        begun: Moment::BEFORE_ALL,
        checked: AtomicU64::new(0),
        original: Original::default(),
    })
}
