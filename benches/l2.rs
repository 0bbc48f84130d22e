//! What a look-up in L2 costs beside a bare `GET` of the same octets from the same Redis.
//!
//! `l2 PORT ROUNDS COUNT`: COUNT look-ups of the store, in turn with as many `GET`s that the same client
//! library sends by a connection of the same kind, driven as the store's is, on another thread than
//! those who ask (`get`), and on the same one (`get-here`), which a gateway of many workers cannot have.
//! Each by one who asks at a time, and by 64. The result is one line of JSON: for each round the wall
//! time and the processor time of this process, and of Redis, in microseconds for one.

#![expect(clippy::disallowed_methods, reason = "measures real time, and ends with its tasks")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder::config;
use larder::semantics::{self, Asked, RequestDirectives, Rules, Times};
use larder::store::{LookUp, Purpose, Slot, Store, Tasks};
use larder::stored::{
    CacheKey, Fields, Mark, Moment, Original, Position, StoredResponse, default_parts,
};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::runtime::{Builder, Handle};
use tokio::task::LocalSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// So many different responses are asked for in turn.
const DISTINCT: usize = 1000;

/// Those who ask at the same time, and how a result calls it.
const CROWDS: [(&str, usize); 2] = [("one", 1), ("many", 64)];

/// Without Redis for so long, there is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// As `constant` answers.
const RESPONSE: [(&str, &str); 8] = [
    ("cache-control", "max-age=3600"),
    ("content-length", "1024"),
    ("content-type", "application/json"),
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("etag", "\"5f3c-61a2b7e0\""),
    ("last-modified", "Sat, 02 Nov 2024 08:30:00 GMT"),
    ("x-content-type-options", "nosniff"),
    ("x-request-id", "01JBQ7M3W8K5T2Y9"),
];

fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "usage: l2 PORT ROUNDS COUNT";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, rounds, count] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (port, rounds, count) = (port.parse()?, rounds.parse()?, count.parse()?);
    // As in a gateway: Redis' connections are driven by one thread, and requests by others.
    let control = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let worker = Builder::new_current_thread().enable_all().build()?;
    let outcome = worker.block_on(measure(control.handle(), port, rounds, count))?;
    control.shutdown_background();
    writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    Ok(())
}

/// For each crowd and each way, the rounds' figures.
type Outcome = BTreeMap<&'static str, BTreeMap<&'static str, Vec<[f64; 3]>>>;

async fn measure(
    control: &Handle,
    port: u16,
    rounds: usize,
    count: usize,
) -> Result<Outcome, Box<dyn Error>> {
    let store = Arc::new(filled(control, port).await?);
    let names: Vec<_> = (0..DISTINCT).map(|number| format!("bench:r:{}", key(number))).collect();
    let apart = connect(port, control).await?;
    let here = connect(port, &Handle::current()).await?;
    let ways = [
        ("look-up", Way::LookUp(store, (0..DISTINCT).map(key).collect())),
        ("get", Way::Get(apart, names.clone().into())),
        ("get-here", Way::Get(here, names.into())),
    ];
    let mut outcome = Outcome::new();
    for _ in 0..rounds {
        for (crowd, size) in CROWDS {
            for (name, way) in &ways {
                let before = Cost::so_far(port).await?;
                ask(way, size, count).await?;
                let figures = Cost::so_far(port).await?.since(&before, count);
                outcome.entry(crowd).or_default().entry(name).or_default().push(figures);
            }
        }
    }
    Ok(outcome)
}

/// A store without L1, whose L2 has all the responses.
async fn filled(control: &Handle, port: u16) -> Result<Store, Box<dyn Error>> {
    let text = format!(
        "[cache]\nnamespace = \"bench\"\n[cache.l1]\ncapacity = \"0\"\n\
         [cache.l2]\nredis = \"redis://127.0.0.1:{port}\"\ntimeout = \"1s\"\n\
         [upstreams.none]\nservers = [\"http://127.0.0.1:9\"]\n\
         [[routes]]\nname = \"none\"\npath = \"/\"\nupstream = \"none\"\n"
    );
    let config = config::parse(&text, "l2", Path::new(""), &|_| None)?;
    let tasks = Tasks {
        runtime: control.clone(),
        tracker: TaskTracker::new(),
        end: CancellationToken::new(),
    };
    let store = Store::new(&config.cache, Some("bench"), tasks);
    let begun = Instant::now();
    while !store.stats().l2.is_some_and(|l2| l2.log_in_step) {
        if begun.elapsed() > PATIENCE {
            return Err("Redis does not answer".into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    let now = SystemTime::now();
    for number in 0..DISTINCT {
        let key = key(number);
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
        for write in store.put(&store.lease(), &slot, stored(&key, now)?, now).writes {
            if !write.await? {
                return Err("a response was not written".into());
            }
        }
    }
    Ok(store)
}

/// A bare connection, driven by this runtime.
async fn connect(port: u16, runtime: &Handle) -> Result<MultiplexedConnection, Box<dyn Error>> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    // As barely as can be: each timeout would cost something.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None);
    let config = config.set_response_timeout(None);
    let opening = async move { client.get_multiplexed_async_connection_with_config(&config).await };
    Ok(runtime.spawn(opening).await??)
}

/// A way to what lies in Redis.
#[derive(Clone)]
enum Way {
    LookUp(Arc<Store>, Arc<[CacheKey]>),
    Get(MultiplexedConnection, Arc<[String]>),
}

impl Way {
    /// Asks for one response. It must be there.
    async fn ask(&mut self, number: usize, fields: &HeaderMap) -> Result<(), Box<dyn Error>> {
        let found = match self {
            Self::LookUp(store, keys) => {
                let key = keys.get(number).ok_or("no such response")?;
                let now = SystemTime::now();
                let found =
                    store.look_in_l2(key, fields, now, store.deadline(), Purpose::Answer).await;
                matches!(found, LookUp::Found(hit) if hit.stored.body.len() == 1024)
            }
            Self::Get(connection, names) => {
                let name = names.get(number).ok_or("no such response")?;
                let found: Option<Bytes> =
                    redis::cmd("GET").arg(name).query_async(connection).await?;
                found.is_some_and(|octets| octets.len() > 1024)
            }
        };
        if found { Ok(()) } else { Err("a response is not there".into()) }
    }
}

/// `count` questions by a crowd of `size`.
async fn ask(way: &Way, size: usize, count: usize) -> Result<(), Box<dyn Error>> {
    let crowd = LocalSet::new();
    let asking: Vec<_> = (0..size)
        .map(|first| {
            let mut way = way.clone();
            crowd.spawn_local(async move {
                let fields = HeaderMap::new();
                for number in (first..count).step_by(size) {
                    let asked = way.ask(number % DISTINCT, &fields).await;
                    asked.map_err(|error| error.to_string())?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    crowd.await;
    for asking in asking {
        asking.await??;
    }
    Ok(())
}

/// Time, and processor time of this process and of Redis.
struct Cost {
    now: Instant,
    own: Duration,
    redis: Duration,
}

impl Cost {
    async fn so_far(port: u16) -> Result<Self, Box<dyn Error>> {
        let mut own = 0;
        for thread in fs::read_dir("/proc/self/task")? {
            // Nanoseconds on a processor come first.
            let told = fs::read_to_string(thread?.path().join("schedstat"))?;
            own += told.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        let mut connection = connect(port, &Handle::current()).await?;
        let told: String = redis::cmd("INFO").arg("CPU").query_async(&mut connection).await?;
        let seconds = told.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            matches!(name, "used_cpu_sys" | "used_cpu_user").then(|| value.parse::<f64>().ok())?
        });
        let redis = Duration::try_from_secs_f64(seconds.sum())?;
        Ok(Self { now: Instant::now(), own: Duration::from_nanos(own), redis })
    }

    /// Microseconds for each of `count`.
    #[expect(clippy::cast_precision_loss, reason = "a count is far below 2^52")]
    fn since(&self, before: &Self, count: usize) -> [f64; 3] {
        let each = |span: Duration| span.as_secs_f64() * 1e6 / count as f64;
        let spans = [
            self.now.saturating_duration_since(before.now),
            self.own.saturating_sub(before.own),
            self.redis.saturating_sub(before.redis),
        ];
        spans.map(each)
    }
}

fn key(number: usize) -> CacheKey {
    let path = format!("/catalogue/books/{number}");
    let parts = default_parts(&path, Some("language=de&page=2"));
    CacheKey::new("bench", "catalogue", "shop.example", parts)
}

fn stored(key: &CacheKey, now: SystemTime) -> Result<StoredResponse, Box<dyn Error>> {
    let line = |(name, value): &(&str, &str)| {
        Some((HeaderName::try_from(*name).ok()?, HeaderValue::try_from(*value).ok()?))
    };
    let head: HeaderMap = RESPONSE.iter().filter_map(line).collect();
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
        freshness,
        marks: [Mark::route("catalogue"), Mark::key(key)].into(),
        position: Position::ZERO,
        begun: Moment::BEFORE_ALL,
        checked: AtomicU64::new(0),
        original: Original::default(),
    })
}
