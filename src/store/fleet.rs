//! The gateways that share the log, and the receipts of operators' purges.
//!
//! Each gateway says once a second in Redis that it is alive, and up to which place it has applied
//! every record: under the key `<namespace>:gateways`, a hash of name → place, time and process. It counts
//! as alive for [`ALIVE`](crate::store::beat::ALIVE) after its last word; later its line is removed. When
//! it applies the last record of a purge, it notes that, and the time, in the [`Ledger`]. So any gateway
//! can tell which of those that are alive have applied it, and when.
//!
//! Times are the Redis server's, in milliseconds: gateways need not agree on theirs. All that is written
//! here goes by the connection for commands, from a task of its own: the log's reader never waits for it,
//! and trouble costs receipts alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock;
use crate::store::advice::{advice, is_of_replica};
use crate::store::beat::Beat;
use crate::store::connection::Trouble;
use crate::store::ledger::Ledger;
use crate::store::names::{host_name, own, random_name, with_characters};
use crate::store::nodes::Nodes;
use crate::store::purges::{Later, Purges};
use crate::store::receipts::{Applied, NoReceipts, PurgeId, Receipts};
use crate::store::record;
use crate::stored::Position;

/// How often a gateway says that it is alive, and how soon it tries again if that went wrong.
const BEAT: Duration = Duration::from_secs(1);
const BEAT_AGAIN: Duration = Duration::from_millis(50);

/// After so long its line is removed.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// So far the server's clock may go its own way before it counts as set.
const CLOCK_STEP: Duration = Duration::from_millis(100);

/// More lines than this are not a fleet's: all are removed, and who is alive writes its own again.
const MOST_GATEWAYS: usize = 1000;

/// So many receipts are written before the next beat is due; those that are due within this, together.
const MOST_TOLD: usize = 100;
const TOGETHER: Duration = Duration::from_millis(5);

/// What one gateway knows of the fleet, itself included.
pub(super) struct Fleet {
    shared: Option<Shared>,
    /// Tells this process from another of the same name.
    pub(super) process: String,
    name: Mutex<Name>,
    pub(super) purges: Purges,
    seen: Mutex<Seen>,
    /// There are receipts to write.
    untold: Notify,
    announced: AtomicBool,
    /// Redis answered that it is read-only when it was last told of this gateway.
    is_read_only: AtomicBool,
}

struct Shared {
    nodes: Arc<Nodes>,
    namespace: String,
    timeout: Duration,
    ledger: Ledger,
}

struct Name {
    text: Arc<str>,
    /// The line under this name was this process's own a beat ago.
    is_written: bool,
}

/// What Redis said last.
#[derive(Default)]
struct Seen {
    /// The server's time, in milliseconds since 1970, and when it said so.
    clock: Option<(Instant, u64)>,
    gateways: BTreeMap<String, Beat>,
    /// When it was asked for them.
    asked: Option<Instant>,
    /// Those whose lines it has lost, and not got again.
    lost: BTreeSet<String>,
}

impl Fleet {
    /// A gateway without Redis is a fleet of its own.
    pub(super) fn new(
        name: Option<&str>,
        redis: Option<(&Arc<Nodes>, &str, Duration)>,
    ) -> Arc<Self> {
        let process = random_name();
        let name = name.map_or_else(|| host_name(&process), Arc::from);
        let shared = redis.map(|(nodes, namespace, timeout)| Shared {
            nodes: Arc::clone(nodes),
            namespace: namespace.to_owned(),
            timeout,
            ledger: Ledger::new(nodes, namespace, timeout),
        });
        Arc::new(Self {
            shared,
            process,
            name: Mutex::new(Name { text: name, is_written: false }),
            purges: Purges::default(),
            seen: Mutex::default(),
            untold: Notify::new(),
            announced: AtomicBool::new(false),
            is_read_only: AtomicBool::new(false),
        })
    }

    /// What the others know this gateway by.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&lock(&self.name).text)
    }

    /// A name that no other process has, whatever the others are called.
    pub(super) fn own_name(&self) -> Arc<str> {
        own(&self.name(), &self.process)
    }

    /// The fleet has been told of this gateway, or Redis refuses to take that: L2 may be used. Before,
    /// a purge could be complete without it.
    pub(super) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// Redis would not be told of this gateway, as a replica does.
    pub(super) fn is_refused_by_replica(&self) -> bool {
        self.is_read_only.load(Ordering::Acquire)
    }

    /// The purge that ends with this record has been applied here.
    pub(super) fn note(&self, id: Position) {
        if self.purges.note(id, clock::instant()) {
            self.untold.notify_one();
        }
    }

    /// As [`Purges::wait`].
    pub(super) fn wait(&self, place: Position, later: Option<Later>) -> PurgeId {
        let by = self.name();
        self.purges.wait(place, Arc::clone(&by), clock::instant(), later);
        PurgeId::Waiting { place, by }
    }

    /// As [`Purges::waiting`].
    pub(super) fn waiting(&self) -> Vec<Position> {
        self.purges.waiting()
    }

    /// As [`Purges::placed`].
    pub(super) fn placed(&self, places: &[Position], id: Position) {
        if self.purges.placed(places, id) {
            self.untold.notify_one();
        }
    }

    /// Says that this gateway is alive, and what it has applied, until `end`; then that it is gone.
    pub(super) async fn keep(
        self: Arc<Self>,
        reached: impl Fn() -> Position + Send,
        end: CancellationToken,
    ) {
        let Some(shared) = &self.shared else { return };
        let mut next = tokio::time::Instant::from_std(clock::instant());
        let (mut told, mut is_told) = (next, false);
        loop {
            // If something else comes first, that tells of them as well.
            let due = async {
                self.untold.notified().await;
                sleep_until(told + TOGETHER).await;
            };
            tokio::select! {
                () = end.cancelled() => break,
                () = due => {}
                () = sleep_until(next) => {
                    let beat = self.beat(shared, reached()).await;
                    let is_lost = beat.as_ref().is_err_and(is_out_of_reach);
                    if !is_lost {
                        let is_read_only = beat.as_ref().is_err_and(is_of_replica);
                        self.is_read_only.store(is_read_only, Ordering::Release);
                        self.announced.store(true, Ordering::Release);
                    }
                    is_told &= beat.is_err();
                    if let Err(trouble) = beat && !is_lost && !is_told {
                        let hint = advice(&trouble);
                        warn!(error = %trouble, hint, "cannot tell the fleet of this gateway");
                        is_told = true;
                    }
                    // What Redis refuses now it will refuse for a while.
                    let pause = if is_lost { BEAT_AGAIN } else { BEAT };
                    next = tokio::time::Instant::from_std(clock::instant() + pause);
                }
            }
            if let Err(error) = self.tell(shared).await {
                debug!(%error, "receipts wait to be written");
            }
            told = tokio::time::Instant::from_std(clock::instant());
        }
        let (gateways, mut leave) = (shared.gateways(), redis::pipe());
        leave.cmd("HDEL").arg(&gateways).arg(&*self.name()).ignore();
        let left: Result<(), _> = shared.query(&gateways, &leave).await;
        debug!(is_known = left.is_ok(), "left the fleet");
    }

    async fn beat(&self, shared: &Shared, reached: Position) -> Result<(), Trouble> {
        let now = self.look(shared).await?;
        let (gateways, mut telling) = (shared.gateways(), redis::pipe());
        {
            let mut seen = lock(&self.seen);
            let is_too_many = seen.gateways.len() > MOST_GATEWAYS;
            let is_gone = |beat: &Beat| now.abs_diff(beat.at) > millis(FORGOTTEN);
            let gone = seen.gateways.extract_if(.., |_, beat| is_too_many || is_gone(beat));
            let names: Vec<_> = gone.map(|(name, _)| name).collect();
            if is_too_many {
                telling.cmd("DEL").arg(&gateways).ignore();
            } else if !names.is_empty() {
                telling.cmd("HDEL").arg(&gateways).arg(names).ignore();
            }
        }
        let line = format!("{reached} {now} {}", self.process);
        telling.cmd("HSET").arg(&gateways).arg(&*self.name()).arg(line);
        let told: Result<(u64,), _> = shared.query(&gateways, &telling).await;
        let was_written = mem::replace(&mut lock(&self.name).is_written, told.is_ok());
        if told?.0 > 0 && was_written {
            // All were lost, perhaps since they were looked at.
            let mut seen = lock(&self.seen);
            seen.lost = seen.gateways.keys().cloned().collect();
        }
        Ok(())
    }

    /// What Redis knows of the fleet. Answers the server's time.
    async fn look(&self, shared: &Shared) -> Result<u64, Trouble> {
        let (asked, gateways, mut asking) = (clock::instant(), shared.gateways(), redis::pipe());
        asking.cmd("TIME").cmd("HGETALL").arg(&gateways);
        let ((seconds, micros), lines): ((u64, u64), HashMap<Vec<u8>, Vec<u8>>) =
            shared.query(&gateways, &asking).await?;
        let now = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        let gateways: BTreeMap<_, _> = lines
            .into_iter()
            .filter_map(|(name, line)| {
                Some((String::from_utf8(name).ok()?, Beat::parse(str::from_utf8(&line).ok()?)?))
            })
            .collect();
        self.keep_name_apart(&gateways);
        let mut seen = lock(&self.seen);
        // The way to Redis and back is not always the same, and a moment is to have one time.
        let instant = clock::instant();
        let is_off = |then: u64| then.abs_diff(now) > millis(CLOCK_STEP);
        if seen.server_time(instant).is_none_or(is_off) {
            seen.clock = Some((instant, now));
        }
        // Another answer, to a later question, may have come before.
        if seen.asked.is_none_or(|last| last <= asked) {
            seen.asked = Some(asked);
            seen.find(gateways, now, &self.process);
        }
        Ok(now)
    }

    /// Two gateways of one name would give receipts for each other.
    fn keep_name_apart(&self, gateways: &BTreeMap<String, Beat>) {
        let mut name = lock(&self.name);
        let line = gateways.get(&*name.text);
        if name.is_written && line.is_some_and(|line| line.process != self.process) {
            let own = with_characters(&name.text, &self.process);
            warn!(name = %name.text, %own, "another gateway has this name, taking one of its own");
            *name = Name { text: own, is_written: false };
        }
    }

    /// Writes the receipts of what was applied here.
    async fn tell(&self, shared: &Shared) -> Result<(), Trouble> {
        let Some(now) = self.server_time(clock::instant()) else { return Ok(()) };
        let mut untold = self.purges.untold();
        let are_more = untold.len() > MOST_TOLD;
        untold.truncate(MOST_TOLD);
        let receipts: Vec<_> = untold
            .iter()
            .filter(|purge| Ledger::takes(purge.id, now))
            .filter_map(|purge| Some((purge.id, self.server_time(purge.at)?)))
            .collect();
        match shared.ledger.write(&self.name(), &receipts, now).await {
            Err(trouble) if is_out_of_reach(&trouble) => return Err(trouble),
            // What Redis refuses, it will refuse the next time as well.
            Ok(()) | Err(_) => {}
        }
        for purge in untold {
            self.purges.told(purge.id);
        }
        // Not if that failed: it would fail again at once, and nothing else would have its turn.
        if are_more {
            self.untold.notify_one();
        }
        Ok(())
    }

    /// Which gateways have applied a purge; `now` is this machine's time of day, and `reached` how far
    /// this gateway has applied the log.
    pub(super) async fn receipts(
        &self,
        id: &PurgeId,
        reached: Position,
        now: SystemTime,
    ) -> Result<Receipts, NoReceipts> {
        let now = (clock::instant(), now);
        let name = self.name();
        let place = match id {
            PurgeId::Placed(place) => *place,
            PurgeId::Waiting { place, by } => match self.purges.waited(*place, by, &name)? {
                (_, Some(place)) => place,
                (at, None) => {
                    let at = Some(self.time(at, now));
                    let own = Applied { name, is_applied: true, at };
                    let gateways = self.all(own, |name, _| Applied::not_yet(name));
                    return Ok(Receipts { id: id.clone(), shared: false, gateways, known: true });
                }
            },
        };
        let applied = self.purges.applied(place);
        let own = Applied {
            name,
            is_applied: applied.is_some() || reached >= place,
            at: applied.map(|at| self.time(at, now)),
        };
        let id = PurgeId::Placed(place);
        let Some(shared) = &self.shared else {
            applied.ok_or(NoReceipts::Unknown)?;
            return Ok(Receipts { id, shared: true, gateways: vec![own], known: true });
        };
        let looked = self.look(shared).await;
        let (told, is_there) = match &looked {
            Ok(_) => tokio::join!(shared.ledger.read(place, self.names()), shared.has_purge(place)),
            // Nobody waits for it once more.
            Err(_) => (Ok(HashMap::new()), Ok(false)),
        };
        // Receipts that Redis will not show are times that are not known.
        let is_told = told.as_ref().err().is_none_or(|trouble| !is_out_of_reach(trouble));
        let known = looked.is_ok() && is_told && is_there.is_ok();
        let told = told.unwrap_or_default();
        if known && told.is_empty() && !is_there.unwrap_or(false) {
            return Err(NoReceipts::Unknown);
        }
        let at = |name: &str| told.get(name).map(|at| UNIX_EPOCH + Duration::from_millis(*at));
        // As others tell it.
        let own = Applied { at: at(&own.name).or(own.at), ..own };
        let gateways = self.all(own, |name, beat| {
            let at = at(name);
            Applied { name: name.into(), is_applied: at.is_some() || beat.reached >= place, at }
        });
        Ok(Receipts { id, shared: true, gateways, known })
    }

    /// This gateway, and what `judge` says of all others that are alive.
    fn all(&self, own: Applied, judge: impl Fn(&str, &Beat) -> Applied) -> Vec<Applied> {
        let now = self.server_time(clock::instant()).unwrap_or_default();
        let seen = lock(&self.seen);
        let alive = seen.gateways.iter().filter(|(name, beat)| {
            beat.is_alive(now) && ***name != *own.name && beat.process != self.process
        });
        let mut all: Vec<_> = alive.map(|(name, beat)| judge(name, beat)).collect();
        all.push(own);
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// All that are known of, this one among them.
    fn names(&self) -> Vec<String> {
        let own = self.name();
        let seen = lock(&self.seen);
        let others = seen.gateways.keys().filter(|name| **name != *own);
        others.cloned().chain([own.to_string()]).collect()
    }

    /// The server's time at a moment. `None` if it has not told yet.
    pub(super) fn server_time(&self, at: Instant) -> Option<u64> {
        lock(&self.seen).server_time(at)
    }

    /// The time at a moment: the server's, or if it has not told yet, this machine's.
    fn time(&self, at: Instant, (instant, now): (Instant, SystemTime)) -> SystemTime {
        match self.server_time(at) {
            Some(millis) => UNIX_EPOCH + Duration::from_millis(millis),
            None => now - instant.saturating_duration_since(at),
        }
    }
}

impl Shared {
    fn gateways(&self) -> String {
        format!("{}:gateways", self.namespace)
    }

    /// Whether the log has the last record of a purge at this place.
    async fn has_purge(&self, id: Position) -> Result<bool, Trouble> {
        let mut asking = redis::pipe();
        let id = id.to_string();
        let log = format!("{}:log", self.namespace);
        asking.cmd("XRANGE").arg(&log).arg(&id).arg(&id);
        let (found,): (redis::streams::StreamRangeReply,) = self.query(&log, &asking).await?;
        Ok(found.ids.iter().any(|found| record::is_purge(&found.map)))
    }

    async fn query<T: redis::FromRedisValue>(
        &self,
        key: &str,
        asking: &redis::Pipeline,
    ) -> Result<T, Trouble> {
        let deadline = tokio::time::Instant::from_std(clock::instant() + self.timeout);
        self.nodes.query(key, asking, deadline).await
    }
}

impl Seen {
    fn server_time(&self, at: Instant) -> Option<u64> {
        let (asked, then) = self.clock?;
        let later = millis(at.saturating_duration_since(asked));
        Some((then + later).saturating_sub(millis(asked.saturating_duration_since(at))))
    }

    /// Redis has these lines now. Without that of the `own` process, all were lost, and who is alive will
    /// write its own again; else one whose line is missing has left.
    fn find(&mut self, found: BTreeMap<String, Beat>, now: u64, own: &str) {
        let are_lost = found.values().all(|beat| beat.process != own);
        let mut before = mem::replace(&mut self.gateways, found);
        before.retain(|name, beat| {
            let is_lost = are_lost || self.lost.contains(name);
            is_lost && beat.is_alive(now) && !self.gateways.contains_key(name)
        });
        self.lost = before.keys().cloned().collect();
        self.gateways.append(&mut before);
    }
}

/// Whether Redis has answered nothing, not even an error.
fn is_out_of_reach(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Failed(error) => error.is_io_error(),
        Trouble::Nonsense | Trouble::LogLost | Trouble::StoodStill => false,
        _ => true,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_line_is_missing_has_left_unless_all_are() {
        let mut seen = Seen::default();
        let mut find = |names: &[&str], now| {
            let beat = |name: &str| {
                let beat = Beat { reached: Position::ZERO, at: 1000, process: name.to_owned() };
                (name.to_owned(), beat)
            };
            seen.find(names.iter().map(|name| beat(name)).collect(), now, "own");
            seen.gateways.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(find(&["one", "own", "two"], 1000), "one own two");
        assert_eq!(find(&["own", "two"], 1000), "own two", "it has left");
        assert_eq!(find(&[], 2000), "own two", "lost");
        assert_eq!(find(&["own"], 2000), "own two", "not written again as yet");
        assert_eq!(find(&["own", "two"], 2000), "own two");
        assert_eq!(find(&["own"], 2000), "own", "it has left");
        assert_eq!(find(&["own", "two"], 2000), "own two");
        assert_eq!(find(&[], 2000), "own two", "lost");
        assert_eq!(find(&["own"], 9000), "own", "not alive");
    }
}
