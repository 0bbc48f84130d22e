//! The store as its callers see it, on a real Redis. Two stores with one namespace are two
//! gateways of a fleet.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::semantics::Freshness;
use crate::stored::{Fields, Mark, Moment, Original, Position};

#[path = "../../tests/it/support/redis.rs"]
mod redis_server;

use redis_server::Redis as Server;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// A store, and the end of its tasks when it is dropped.
struct Gateway {
    store: Arc<Store>,
    end: CancellationToken,
    now: SystemTime,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

struct Settings {
    namespace: &'static str,
    l1: u64,
    l2_ttl: Duration,
    timeout: Duration,
}

/// A busy machine does not fail a test: only where Redis hangs does the timeout pass.
const SETTINGS: Settings =
    Settings { namespace: "test", l1: 1 << 20, l2_ttl: HOUR, timeout: Duration::from_secs(5) };

impl Gateway {
    /// Not connected yet.
    fn start(url: Option<&str>, settings: &Settings) -> Self {
        let end = CancellationToken::new();
        let tasks =
            Tasks { runtime: Handle::current(), tracker: TaskTracker::new(), end: end.clone() };
        let cache = config::Cache {
            namespace: settings.namespace.to_owned(),
            l1: config::L1 { capacity: settings.l1, ttl: 5 * MINUTE },
            l2: url.map(|url| config::L2 {
                ttl: settings.l2_ttl,
                timeout: settings.timeout,
                ..config::L2::new(config::redis_url(url).unwrap())
            }),
            ..config::Cache::default()
        };
        let store = Arc::new(Store::new(&cache, None, tasks));
        Self { store, end, now: Clock::System.now() }
    }

    async fn on(redis: &Server) -> Self {
        Self::with(redis, &SETTINGS).await
    }

    async fn with(redis: &Server, settings: &Settings) -> Self {
        let gateway = Self::start(Some(&redis.url()), settings);
        gateway.is_in_step().await;
        gateway
    }

    async fn is_in_step(&self) {
        until("the log is read and L2 is up", || async { self.l2().log_in_step && self.l2().up })
            .await;
    }

    fn l2(&self) -> L2Stats {
        self.store.stats().l2.unwrap()
    }

    fn put(&self, path: &str, body: &'static str) -> Put {
        self.put_under(&self.store.lease(), path, body)
    }

    fn put_under(&self, lease: &Lease, path: &str, body: &'static str) -> Put {
        let fields = HeaderMap::new();
        let slot = Slot {
            key: &key(path),
            nominated: &[],
            fields: &fields,
            variants: 8,
            also: None,
            renews: None,
            stale: Duration::ZERO,
            rule: None,
        };
        self.store.put(lease, &slot, response(path, body, self.now), self.now)
    }

    fn put_variant(&self, path: &str, language: &'static str, body: &'static str) -> Put {
        let fields = accepting(language);
        let nominated = [ACCEPT_LANGUAGE];
        let slot = Slot {
            key: &key(path),
            nominated: &nominated,
            fields: &fields,
            variants: 8,
            also: None,
            renews: None,
            stale: Duration::ZERO,
            rule: None,
        };
        let vary = HeaderMap::from_iter([(VARY, HeaderValue::from_static("accept-language"))]);
        let fields = Fields::encode(&vary).unwrap();
        let response = StoredResponse { fields, ..response(path, body, self.now) };
        self.store.put(&self.store.lease(), &slot, response, self.now)
    }

    /// Puts a response and waits until L2 has it.
    async fn put_in_l2(&self, redis: &Server, path: &str, body: &'static str) {
        assert!(self.put(path, body).kept);
        let name = format!("{}:r:{}", SETTINGS.namespace, key(path));
        until("the response is written", || async { exists(redis, &name) }).await;
    }

    fn in_l1(&self, path: &str) -> String {
        let found = self.store.look_in_l1(&key(path), &HeaderMap::new(), self.now);
        told(&found)
    }

    async fn in_l2(&self, path: &str) -> String {
        self.in_l2_for(path, &HeaderMap::new()).await
    }

    async fn in_l2_for(&self, path: &str, fields: &HeaderMap) -> String {
        let deadline = self.store.deadline();
        told(&self.store.look_in_l2(&key(path), fields, self.now, deadline, Purpose::Answer).await)
    }

    async fn invalidate(&self, path: &str) -> Receipt {
        self.store.invalidate(vec![on_path(path, false)]).await
    }

    async fn reaches(&self, position: Position) {
        until("the record is read", || async { self.store.stats().log_position >= position }).await;
    }
}

/// Asks until it is so, for ten seconds at most.
async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    for _ in 0..2000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

fn exists(redis: &Server, name: &str) -> bool {
    redis.ask(&format!("EXISTS {name}")).unwrap() == ":1\r\n"
}

fn key(path: &str) -> CacheKey {
    CacheKey::new("test", "route", "example.org", [("path", path)])
}

fn accepting(language: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_static(language))])
}

fn on_path(path: &str, soft: bool) -> Invalidation {
    let scope = Scope::Mark { mark: Mark::path("example.org", path), label: path.to_owned() };
    Invalidation { scope, soft }
}

fn response(path: &str, body: &'static str, now: SystemTime) -> StoredResponse {
    let fields: [(HeaderName, HeaderValue); 1] =
        [(CONTENT_TYPE, HeaderValue::from_static("text/plain"))];
    StoredResponse {
        name: path.into(),
        status: StatusCode::OK,
        fields: Fields::encode(&HeaderMap::from_iter(fields)).unwrap(),
        body: Bytes::from_static(body.as_bytes()),
        part: None,
        freshness: Freshness::fresh_for(10 * MINUTE, now),
        marks: [Mark::path("example.org", path), Mark::route("route")].into(),
        position: Position::ZERO,
        begun: Moment::BEFORE_ALL,
        checked: AtomicU64::new(0),
        original: Original::default(),
    }
}

/// What was found: its content, with a word before it if it is stale; or the kind of miss.
fn told(found: &LookUp) -> String {
    match found {
        LookUp::Found(Hit { stored, soft, .. }) => {
            let body = std::str::from_utf8(&stored.body).unwrap();
            format!("{}{body}", if *soft { "stale " } else { "" })
        }
        // Most routes make no difference.
        LookUp::UriMiss | LookUp::NoAnswer => "uri-miss".to_owned(),
        LookUp::VaryMiss(_) => "vary-miss".to_owned(),
    }
}

// Without Redis.

#[tokio::test]
async fn a_response_is_found_until_its_end_in_l1() {
    let mut gateway = Gateway::start(None, &SETTINGS);
    assert!(gateway.store.has_l1() && !gateway.store.has_l2());
    assert_eq!(gateway.in_l1("/a"), "uri-miss");
    assert!(gateway.put("/a", "1").kept);
    assert_eq!(gateway.in_l1("/a"), "1");
    assert_eq!(gateway.in_l2("/a").await, "uri-miss");
    gateway.now += 5 * MINUTE;
    assert_eq!(gateway.in_l1("/a"), "uri-miss");
}

#[tokio::test]
async fn an_invalidation_is_applied_before_it_returns() {
    let gateway = Gateway::start(None, &SETTINGS);
    gateway.put("/a", "1");
    gateway.put("/b", "2");
    let before = gateway.store.stats().log_position;
    let receipt = gateway.invalidate("/a").await;
    assert!(receipt.shared && receipt.position > before);
    assert_eq!((gateway.in_l1("/a"), gateway.in_l1("/b")), ("uri-miss".into(), "2".into()));

    gateway.store.invalidate(vec![on_path("/b", true)]).await;
    assert_eq!(gateway.in_l1("/b"), "stale 2");
    gateway.put("/b", "3");
    assert_eq!(gateway.in_l1("/b"), "3");

    let pattern = Invalidation { scope: Scope::Pattern("/b*".to_owned()), soft: false };
    gateway.store.invalidate(vec![pattern]).await;
    assert_eq!(gateway.in_l1("/b"), "uri-miss");
}

#[tokio::test]
async fn an_invalidation_that_overtakes_a_fetch_voids_its_lease() {
    let gateway = Gateway::start(None, &SETTINGS);
    let (lease, other) = (gateway.store.lease(), gateway.store.lease());
    gateway.invalidate("/a").await;
    assert!(!gateway.put_under(&lease, "/a", "old").kept);
    assert_eq!(gateway.in_l1("/a"), "uri-miss");
    assert!(gateway.put_under(&other, "/b", "2").kept, "the invalidation was not about it");
    assert!(gateway.store.lease().records() > lease.records());
}

#[tokio::test]
async fn the_variant_that_the_request_selects_is_found() {
    let gateway = Gateway::start(None, &SETTINGS);
    gateway.put_variant("/a", "de", "hallo");
    gateway.put_variant("/a", "fr", "salut");
    let look = |fields| told(&gateway.store.look_in_l1(&key("/a"), &fields, gateway.now));
    assert_eq!(look(accepting("de")), "hallo");
    assert_eq!(look(accepting("fr")), "salut");
    assert_eq!(look(accepting("en")), "vary-miss");
    assert_eq!(look(HeaderMap::new()), "vary-miss");
    gateway.put("/a", "for all");
    assert_eq!(look(accepting("de")), "hallo", "RFC 9111 §4.1: one with a valid Vary field value");
    assert_eq!(look(accepting("en")), "for all");
    assert_eq!(look(HeaderMap::new()), "for all");
    gateway.put_variant("/a", "en", "hello");
    assert_eq!(look(accepting("en")), "hello");
    assert_eq!(look(accepting("fr")), "salut");
}

#[tokio::test]
async fn what_is_larger_than_l1_or_has_no_tier_is_not_kept() {
    let gateway = Gateway::start(None, &Settings { l1: 1024, ..SETTINGS });
    assert!(gateway.put("/a", "1").kept);
    let large: &'static str = Box::leak("x".repeat(2000).into_boxed_str());
    assert!(!gateway.put("/b", large).kept);
    let none = Gateway::start(None, &Settings { l1: 0, ..SETTINGS });
    assert!(!none.store.has_l1());
    let put = none.put("/a", "1");
    assert_eq!((put.kept, &put.stored.body[..]), (false, &b"1"[..]));
}

// With Redis.

#[tokio::test]
async fn a_response_reaches_other_gateways_and_outlives_its_own() {
    let redis = Server::start();
    let (first, second) = (Gateway::on(&redis).await, Gateway::on(&redis).await);
    first.put_in_l2(&redis, "/a", "1").await;
    assert_eq!(second.in_l1("/a"), "uri-miss");
    assert_eq!(second.in_l2("/a").await, "1");
    assert_eq!(second.in_l1("/a"), "1", "it moved into L1");
    drop((first, second));
    let third = Gateway::on(&redis).await;
    assert_eq!(third.in_l2("/a").await, "1");
    assert_eq!(third.in_l2("/b").await, "uri-miss");
}

#[tokio::test]
async fn other_namespaces_have_their_own() {
    let redis = Server::start();
    let first = Gateway::on(&redis).await;
    let other = Gateway::with(&redis, &Settings { namespace: "other", ..SETTINGS }).await;
    first.put_in_l2(&redis, "/a", "1").await;
    assert_eq!(other.in_l2("/a").await, "uri-miss");
    let receipt = other.invalidate("/a").await;
    other.reaches(receipt.position).await;
    assert_eq!(first.in_l1("/a"), "1");
    assert_eq!(first.in_l2("/a").await, "1");
}

#[tokio::test]
async fn what_moves_into_l1_lives_no_longer_than_in_l2() {
    let redis = Server::start();
    let short = Settings { l2_ttl: 2 * MINUTE, ..SETTINGS };
    let (first, mut second) =
        (Gateway::with(&redis, &short).await, Gateway::with(&redis, &short).await);
    first.put_in_l2(&redis, "/a", "1").await;
    assert_eq!(second.in_l2("/a").await, "1");
    second.now += MINUTE;
    assert_eq!(second.in_l1("/a"), "1");
    second.now += MINUTE;
    assert_eq!(second.in_l1("/a"), "uri-miss", "L1 alone would have kept it for five minutes");
}

#[tokio::test]
async fn variants_are_found_through_l2() {
    let redis = Server::start();
    let (first, second) = (Gateway::on(&redis).await, Gateway::on(&redis).await);
    first.put_variant("/a", "de", "hallo");
    until("the variant is written", || async {
        second.in_l2_for("/a", &accepting("de")).await == "hallo"
    })
    .await;
    assert_eq!(second.in_l2_for("/a", &accepting("fr")).await, "vary-miss");
    let found = second.store.look_in_l1(&key("/a"), &accepting("de"), second.now);
    assert_eq!(told(&found), "hallo", "variant and list moved into L1");
    second.put_variant("/a", "fr", "salut");
    until("both are known", || async {
        first.in_l2_for("/a", &accepting("fr")).await == "salut"
            && first.in_l2_for("/a", &accepting("de")).await == "hallo"
    })
    .await;
}

#[tokio::test]
async fn invalidations_reach_the_other_gateway() {
    let redis = Server::start();
    let (first, second) = (Gateway::on(&redis).await, Gateway::on(&redis).await);
    for path in ["/a", "/b", "/c"] {
        first.put_in_l2(&redis, path, "1").await;
        assert_eq!(second.in_l2(path).await, "1");
    }
    let receipt = first
        .store
        .invalidate(vec![
            on_path("/a", false),
            on_path("/b", true),
            Invalidation { scope: Scope::Pattern("/c*".to_owned()), soft: false },
        ])
        .await;
    assert!(receipt.shared);
    second.reaches(receipt.position).await;
    for (path, expected) in [("/a", "uri-miss"), ("/b", "stale 1"), ("/c", "uri-miss")] {
        for gateway in [&first, &second] {
            assert_eq!(gateway.in_l1(path), expected, "{path} in L1");
            assert_eq!(gateway.in_l2(path).await, expected, "{path} in L2");
        }
    }
    drop((first, second));
    let third = Gateway::on(&redis).await;
    assert_eq!(third.in_l2("/a").await, "uri-miss", "who comes later reads the whole log");
    assert_eq!(third.in_l2("/b").await, "stale 1");
}

#[tokio::test]
async fn a_slow_fetch_loses_to_an_invalidation_of_another_gateway() {
    let redis = Server::start();
    let (first, second) = (Gateway::on(&redis).await, Gateway::on(&redis).await);
    let lease = first.store.lease();
    let receipt = second.invalidate("/a").await;
    // Whether the first has read the record by now or not:
    first.put_under(&lease, "/a", "old");
    first.reaches(receipt.position).await;
    assert_eq!(first.in_l1("/a"), "uri-miss");
    assert_eq!(second.in_l2("/a").await, "uri-miss");
    assert!(!first.put_under(&lease, "/a", "old").kept);
    first.put_in_l2(&redis, "/a", "new").await;
    until("the new one is served", || async { second.in_l2("/a").await == "new" }).await;
}

#[tokio::test]
async fn the_log_is_readable_and_names_its_records() {
    let redis = Server::start();
    let gateway = Gateway::on(&redis).await;
    gateway.store.invalidate(vec![on_path("/caf", true)]).await;
    let log = redis.ask("XRANGE test:log - +").unwrap();
    for word in ["\nk\r", "\nmark\r", "\nlabel\r", "\n/caf\r", "\nsoft\r", "\n1\r", "\nby\r"] {
        assert!(log.contains(word), "{word:?} in {log}");
    }
}

#[tokio::test]
async fn without_redis_everything_works_here_and_is_told_later() {
    let mut redis = Server::start();
    let (first, second) = (Gateway::on(&redis).await, Gateway::on(&redis).await);
    for gateway in [&first, &second] {
        gateway.put("/a", "1");
        gateway.put("/b", "2");
    }
    redis.kill();
    until("it is noticed", || async { !first.l2().up && !first.l2().log_in_step }).await;
    assert_eq!(first.in_l1("/a"), "1");
    assert_eq!(first.in_l2("/a").await, "uri-miss");
    let receipt = first.invalidate("/a").await;
    assert!(!receipt.shared);
    assert_eq!(first.l2().log_waiting, 1);
    assert_eq!((first.in_l1("/a"), first.in_l1("/b")), ("uri-miss".into(), "2".into()));
    assert_eq!(second.in_l1("/a"), "1", "it cannot know");
    assert!(first.put("/a", "new").kept);
    assert_eq!(first.in_l1("/a"), "new", "fetched after the invalidation");

    redis.restart();
    first.is_in_step().await;
    second.is_in_step().await;
    until("the record is told", || async { first.l2().log_waiting == 0 }).await;
    second.reaches(first.store.stats().log_position).await;
    assert_eq!(second.in_l1("/a"), "uri-miss");
    assert_eq!(second.in_l1("/b"), "uri-miss", "Redis came back empty: who knows what was lost");
    first.put_in_l2(&redis, "/a", "newer").await;
    until("L2 is used again", || async { second.in_l2("/a").await == "newer" }).await;
}

#[tokio::test]
async fn a_gateway_that_starts_without_redis_joins_later() {
    let mut redis = Server::start();
    redis.kill();
    let gateway = Gateway::start(Some(&redis.url()), &SETTINGS);
    gateway.put("/a", "1");
    assert!(!gateway.invalidate("/b").await.shared);
    assert_eq!(gateway.in_l1("/a"), "1");
    redis.restart();
    gateway.is_in_step().await;
    gateway.put_in_l2(&redis, "/c", "3").await;
    assert!(gateway.invalidate("/c").await.shared);
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_bounded_number_of_waits() {
    let redis = Server::start();
    let short = Settings { timeout: Duration::from_millis(20), ..SETTINGS };
    let gateway = Gateway::with(&redis, &short).await;
    gateway.put_in_l2(&redis, "/a", "1").await;
    redis.hold();
    until("the connection is given up", || async {
        assert_eq!(gateway.in_l2("/a").await, "uri-miss");
        !gateway.l2().up
    })
    .await;
    let timeouts = gateway.l2().timeouts;
    assert!(timeouts >= 5);
    for _ in 0..100 {
        assert_eq!(gateway.in_l2("/a").await, "uri-miss");
    }
    assert_eq!(gateway.l2().timeouts, timeouts, "nobody waits any more");
    let receipt = gateway.invalidate("/a").await;
    assert!(!receipt.shared);
    assert_eq!(gateway.in_l1("/a"), "uri-miss");
    let lease = gateway.store.lease();
    redis.release();
    gateway.is_in_step().await;
    until("the record is told", || async { gateway.l2().log_waiting == 0 }).await;
    let log = redis.ask("XRANGE test:log - +").unwrap();
    assert!(log.contains("\n/a\r"), "{log}");
    assert_eq!(gateway.in_l2("/a").await, "uri-miss");
    assert!(gateway.put_under(&lease, "/b", "2").kept);
    gateway.put_in_l2(&redis, "/c", "3").await;
    let name = format!("test:r:{}", key("/b"));
    assert!(!exists(&redis, &name), "to others, its place in the log means nothing");
}

#[tokio::test]
async fn a_mere_cut_drops_nothing() {
    let redis = Server::start();
    let gateway = Gateway::on(&redis).await;
    gateway.put_in_l2(&redis, "/a", "1").await;
    let position = gateway.store.stats().log_position;
    redis.ask("CLIENT KILL TYPE normal").unwrap();
    until("the cut is noticed", || async {
        // A command on the data connection finds out.
        gateway.in_l2("/a").await;
        gateway.l2().errors > 0 || !gateway.l2().log_in_step
    })
    .await;
    gateway.is_in_step().await;
    until("L2 answers again", || async { gateway.in_l2("/a").await == "1" }).await;
    assert_eq!(gateway.in_l1("/a"), "1");
    assert_eq!(gateway.store.stats().log_position, position);
}

#[tokio::test]
async fn a_restart_makes_what_was_stored_before_stale() {
    let mut redis = Server::start();
    let gateway = Gateway::on(&redis).await;
    gateway.put_in_l2(&redis, "/a", "1").await;
    redis.ask("SAVE").unwrap();
    redis.restart();
    until("the restart is noticed", || async { gateway.in_l1("/a") == "stale 1" }).await;
    until("L2 is used again", || async { gateway.in_l2("/a").await == "stale 1" }).await;
}

/// The records that the restart lost covered what L2 still has, and nobody is left who knows it.
#[tokio::test]
async fn a_restart_that_no_gateway_lived_through_makes_what_is_stored_stale() {
    let mut redis = Server::start();
    let gateway = Gateway::on(&redis).await;
    gateway.put_in_l2(&redis, "/a", "1").await;
    redis.ask("SAVE").unwrap();
    assert!(gateway.invalidate("/a").await.shared);
    drop(gateway);
    redis.restart();
    for _ in 0..2 {
        let next = Gateway::on(&redis).await;
        assert_eq!(next.in_l2("/a").await, "stale 1");
        let put = next.put("/b", "2");
        assert!(put.kept && next.in_l1("/b") == "2", "it is no reason to drop what comes later");
    }
}

#[tokio::test]
async fn flushed_data_drop_what_was_stored_before() {
    let redis = Server::start();
    let (first, second) = (Gateway::on(&redis).await, Gateway::on(&redis).await);
    first.put_in_l2(&redis, "/a", "1").await;
    assert_eq!(second.in_l2("/a").await, "1");
    redis.ask("FLUSHALL").unwrap();
    for gateway in [&first, &second] {
        until("L1 is dropped", || async { gateway.in_l1("/a") == "uri-miss" }).await;
        gateway.is_in_step().await;
    }
    // Each of them may tell the fleet once.
    until("both have read it all", || async {
        first.store.stats().log_position == second.store.stats().log_position
    })
    .await;
    first.put_in_l2(&redis, "/a", "2").await;
    until("L2 is used again", || async { second.in_l2("/a").await == "2" }).await;
}

#[tokio::test]
async fn a_log_that_is_lost_while_redis_takes_no_writes_drops_what_is_here() {
    let redis = Server::start();
    let gateway = Gateway::on(&redis).await;
    gateway.put_in_l2(&redis, "/a", "1").await;
    // One transaction, so that the gateway cannot make it anew in between.
    let lines = "MULTI\r\nDEL test:log\r\nCONFIG SET min-replicas-to-write 1\r\nEXEC";
    redis.ask(lines).unwrap();
    until("L1 is dropped", || async { gateway.in_l1("/a") == "uri-miss" }).await;
    redis.ask("CONFIG SET min-replicas-to-write 0").unwrap();
    gateway.is_in_step().await;
    assert_eq!(gateway.in_l2("/a").await, "uri-miss");
}

#[tokio::test]
async fn a_log_made_anew_on_a_clock_that_is_behind_still_counts() {
    let redis = Server::start();
    // A server whose clock was an hour ahead wrote the log so far.
    let ahead = Clock::System.now() + HOUR;
    let millis = ahead.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    redis.ask("SET test:{test:log}:id one").unwrap();
    redis.ask(&format!("XADD test:log {millis}-0 k pattern v nothing soft 0")).unwrap();
    let gateway = Gateway::on(&redis).await;
    gateway.put_in_l2(&redis, "/a", "1").await;
    let before = gateway.store.stats().log_position;
    assert_eq!(u128::from(before.millis), millis);

    redis.ask("FLUSHALL").unwrap();
    until("it is dropped", || async { gateway.in_l1("/a") == "uri-miss" }).await;
    gateway.is_in_step().await;
    gateway.put_in_l2(&redis, "/a", "2").await;
    let receipt = gateway.invalidate("/a").await;
    assert!(receipt.shared && receipt.position > before);
    assert_eq!(gateway.in_l1("/a"), "uri-miss");
    assert_eq!(gateway.in_l2("/a").await, "uri-miss");
}

#[tokio::test]
async fn records_trimmed_before_they_were_read_drop_what_was_stored_before() {
    let redis = Server::start();
    let gateway = Gateway::on(&redis).await;
    gateway.put_in_l2(&redis, "/a", "1").await;
    // One transaction, so that the gateway reads nothing in between.
    let lines = "MULTI\r\nXADD test:log * k pattern v x soft 0\r\nXADD test:log * k pattern v y \
                 soft 0\r\nXTRIM test:log MAXLEN 1\r\nCLIENT KILL TYPE normal SKIPME yes\r\nEXEC";
    redis.ask(lines).unwrap();
    until("L1 is dropped", || async { gateway.in_l1("/a") == "uri-miss" }).await;
    gateway.is_in_step().await;
    assert_eq!(gateway.in_l2("/a").await, "uri-miss");
    assert!(exists(&redis, &format!("test:r:{}", key("/a"))), "it is there, and not used");
}

#[tokio::test]
async fn who_starts_after_records_were_trimmed_uses_nothing_older() {
    let redis = Server::start();
    let first = Gateway::on(&redis).await;
    first.put_in_l2(&redis, "/a", "1").await;
    first.invalidate("/a").await;
    first.invalidate("/b").await;
    redis.ask("XTRIM test:log MAXLEN 1").unwrap();
    let second = Gateway::on(&redis).await;
    assert_eq!(second.in_l2("/a").await, "uri-miss");
    second.put_in_l2(&redis, "/c", "3").await;
    assert_eq!(second.in_l2("/c").await, "3");
}

/// A way to Redis, which is sent a command of its own just before the log is read for the second time.
struct Way {
    folder: TempDir,
    _serving: JoinSet<()>,
}

impl Way {
    fn to(redis: &Arc<Server>, command: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("way.sock")).unwrap();
        let (redis, reads) = (Arc::clone(redis), Arc::new(AtomicUsize::new(0)));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (redis, reads) = (Arc::clone(&redis), Arc::clone(&reads));
                connections.spawn(async move {
                    let server = UnixStream::connect(redis.socket()).await.unwrap();
                    let (from_client, mut to_client) = client.into_split();
                    let (mut from_server, to_server) = server.into_split();
                    let before_each = |octets: &[u8]| {
                        let is_read = octets.windows(5).any(|word| word == b"XREAD");
                        if is_read && reads.fetch_add(1, Ordering::Relaxed) == 1 {
                            redis.ask(command).unwrap();
                        }
                    };
                    tokio::select! {
                        () = pass(from_client, to_server, before_each) => {}
                        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                    }
                });
            }
        });
        Self { folder, _serving: serving }
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("way.sock").display())
    }
}

/// Passes octets on, each piece after it was looked at.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, look: impl Fn(&[u8])) {
    let mut octets = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut octets).await {
        look(&octets[..count]);
        if to.write_all(&octets[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn records_trimmed_while_a_gateway_catches_up_drop_what_was_stored_before() {
    let redis = Arc::new(Server::start());
    let first = Gateway::on(&redis).await;
    first.put_in_l2(&redis, "/a", "1").await;
    // What one command reads does not reach the one in the middle.
    let others = || std::iter::repeat_n(on_path("/b", false), 600);
    let records = others().chain([on_path("/a", false)]).chain(others());
    assert!(first.store.invalidate(records.collect()).await.shared);

    let way = Way::to(&redis, "XTRIM test:log MAXLEN 100");
    let second = Gateway::start(Some(&way.url()), &SETTINGS);
    second.is_in_step().await;
    assert_eq!(redis.ask("XLEN test:log").unwrap(), ":100\r\n", "it was trimmed meanwhile");
    assert_eq!(second.in_l2("/a").await, "uri-miss");
    second.put_in_l2(&redis, "/c", "3").await;
    assert_eq!(second.in_l2("/c").await, "3");
}

#[tokio::test]
async fn garbage_under_our_keys_is_a_miss_and_counted() {
    let redis = Server::start();
    let gateway = Gateway::on(&redis).await;
    redis.ask(&format!("SET test:r:{} garbage", key("/a"))).unwrap();
    assert_eq!(gateway.in_l2("/a").await, "uri-miss");
    assert_eq!(gateway.l2().damaged_frames, 1);
    redis.ask(&format!("RPUSH test:r:{} a b", key("/b"))).unwrap();
    assert_eq!(gateway.in_l2("/b").await, "uri-miss");
    assert_eq!((gateway.l2().errors, gateway.l2().up), (1, true));
}

#[tokio::test]
async fn a_record_that_nobody_understands_covers_everything() {
    let redis = Server::start();
    let gateway = Gateway::on(&redis).await;
    gateway.put("/a", "1");
    redis.ask("XADD test:log * k moon v full soft 0").unwrap();
    until("L1 is dropped", || async { gateway.in_l1("/a") == "uri-miss" }).await;
}

/// On a thread of its own, as nothing else would have its turn there.
#[test]
fn receipts_that_cannot_be_written_hold_up_nothing() {
    let (end, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut redis = Server::start();
            let gateway = Gateway::on(&redis).await;
            let receipt = gateway.invalidate("/a").await;
            redis.kill();
            until("it is noticed", || async { !gateway.l2().up }).await;
            for number in 1..=1000 {
                gateway.store.fleet.note(Position { sequence: number, ..receipt.position });
            }
            redis.restart();
            gateway.is_in_step().await;
            let key = Position { sequence: 1000, ..receipt.position };
            let asked = format!("ZSCORE test:receipts \"{key} {}\"", gateway.store.fleet.name());
            let is_written = || async { redis.ask(&asked).unwrap() != "$-1\r\n" };
            until("the last is written", is_written).await;
        });
        end.send(()).unwrap();
    });
    ended.recv_timeout(MINUTE).expect("the other tasks have their turn");
}

#[test]
fn callers_may_be_on_other_runtimes() {
    let redis = Server::start();
    let control =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gateway = control.block_on(Gateway::on(&redis));
    let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    worker.block_on(async {
        gateway.put_in_l2(&redis, "/a", "1").await;
        assert_eq!(gateway.in_l2("/a").await, "1");
        assert!(gateway.invalidate("/a").await.shared);
        assert_eq!(gateway.in_l2("/a").await, "uri-miss");
    });
}
