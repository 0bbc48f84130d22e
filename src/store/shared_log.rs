//! The invalidation log that a fleet shares: a Redis stream which every gateway reads, on a
//! connection of its own, from where it was, and appends to.
//!
//! After each connect the gateway finds out whether it missed records that it can no longer read:
//!
//! | seen | means | done |
//! |---|---|---|
//! | the log's identity is missing or another, there is no stream, or its newest id is below the last one read | Redis lost data | what was stored before is gone, for the whole fleet |
//! | records were trimmed that were not read | cut off for too long | the same |
//! | another `run_id` or `master_replid` | a restart or fail-over, which may have lost the newest records | what was stored before is stale, for the whole fleet |
//! | none of these | a mere cut | reads on |
//!
//! The identity is a random name beside the stream. Ids alone do not tell: another gateway may have
//! appended to a log made anew before this one looks. Until the log has been read to its end again,
//! nothing is taken from L2.
//!
//! Whether records can be appended makes no difference to reading (`sharing`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamRangeReply, StreamReadReply};
use redis::{Pipeline, Value};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::store::advice::{Told, advice, is_answer};
use crate::store::connection::{PAUSES, Trouble, bounded};
use crate::store::extent::{Extent, Server, is_replica, server};
use crate::store::fleet::Fleet;
use crate::store::l1::L1;
use crate::store::lag::Lag;
use crate::store::log::{Invalidation, Log, Scope};
use crate::store::names::random_name;
use crate::store::nodes::Nodes;
use crate::store::record;
use crate::store::waiting::Waiting;
use crate::stored::{Moment, Position};

/// How long a read waits for a record at most, and how long the gateway waits for that read.
const BLOCK: Duration = Duration::from_secs(1);
const BLOCKED_ANSWER: Duration = Duration::from_millis(2500);
/// How long the gateway waits for any other answer on the log's connection.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

/// Records in one command.
pub(super) const BATCH: usize = 500;

/// The stream holds some more records than this at most. A gateway that was cut off for longer
/// than they reach back drops all it has.
const MAX_RECORDS: usize = 250_000;

/// What became of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where the log was when it was applied here. A gateway whose [`Stats::log_position`] is at
    /// least this has applied it too.
    ///
    /// [`Stats::log_position`]: crate::store::Stats::log_position
    pub position: Position,
    /// The whole fleet will read it. False while Redis is out of reach: it is applied here and
    /// waits to be appended.
    pub shared: bool,
}

/// The stream, and this gateway's place in it.
pub(super) struct SharedLog {
    /// For appending; reading blocks a connection, and has one of its own.
    pub(super) nodes: Arc<Nodes>,
    pub(super) log: Arc<Log>,
    lag: Arc<Lag>,
    /// How long a read waits for a record.
    block: Duration,
    l1: Option<L1>,
    pub(super) stream: String,
    identity: String,
    /// Who reads it, too.
    pub(super) fleet: Arc<Fleet>,
    timeout: Duration,
    /// Records older than this can be trimmed: no stored response is as old.
    lifetime: Duration,
    in_step: AtomicBool,
    /// Every record up to here has been applied. The log's own position can be further on, by a
    /// record that this gateway appended and has not met in its place yet.
    reached: Mutex<Position>,
    /// Its server has a master, and may be any time behind it.
    is_replica: AtomicBool,
    pub(super) waiting: Waiting,
}

/// What the reader has seen of the log. It outlives connections.
#[derive(Default)]
struct Seen {
    last: Position,
    /// The log was read to its end once: what comes is new, and not from before this gateway began.
    is_at_home: bool,
    identity: Option<String>,
    server: Option<Server>,
    /// Redis lost the log, and the fleet has yet to be told: with a record at this place.
    distrusted: Option<Position>,
}

impl SharedLog {
    pub(super) fn new(
        nodes: Arc<Nodes>,
        (log, lag): (Arc<Log>, Arc<Lag>),
        l1: Option<L1>,
        fleet: Arc<Fleet>,
        namespace: &str,
        timeout: Duration,
    ) -> Self {
        Self {
            lifetime: log.lifetime(),
            nodes,
            log,
            // Contact is lost only after some such silences.
            block: BLOCK.min(lag.bound() / 4),
            lag,
            l1,
            stream: format!("{namespace}:log"),
            // In a cluster, the braces put it into the same slot as the stream.
            identity: format!("{namespace}:{{{namespace}:log}}:id"),
            fleet,
            timeout,
            in_step: AtomicBool::new(false),
            reached: Mutex::default(),
            is_replica: AtomicBool::new(false),
            waiting: Waiting::default(),
        }
    }

    /// The log has been read to its end and is being read: what L2 holds can be judged. And the fleet
    /// knows that this gateway reads it; and if it is a replica's log, this gateway has been in contact
    /// with the fleet before.
    pub(super) fn is_in_step(&self) -> bool {
        self.is_read() && self.fleet.is_announced() && self.lag.has_contact()
    }

    /// The log has been read to its end and is being read.
    pub(super) fn is_read(&self) -> bool {
        self.in_step.load(Ordering::Acquire)
    }

    /// Its server is a replica, by its own word or because it takes no writes.
    pub(super) fn is_of_replica(&self) -> bool {
        self.is_replica.load(Ordering::Acquire) || self.fleet.is_refused_by_replica()
    }

    /// Up to where every record has been applied here.
    pub(super) fn reached(&self) -> Position {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, seen: &mut Seen, id: Position) {
        seen.last = id;
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// How many invalidations wait to be appended.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Appends and applies. If Redis does not answer in time the records are applied at once, and
    /// appended when it is back: then perhaps for the second time, which is harmless. The fleet gives
    /// receipts for a `purge`.
    pub(super) async fn append(&self, records: Vec<Invalidation>, purge: bool) -> Receipt {
        let mut receipt = Receipt { position: self.log.position(), shared: true };
        let mut batches = records.chunks(BATCH).peekable();
        while let Some(batch) = batches.next() {
            let before = self.log.head();
            let appending = self.appending(batch, purge && batches.peek().is_none());
            let deadline = Instant::from_std(clock::instant() + self.timeout);
            // What comes after records that wait does so, too.
            let answer = if receipt.shared {
                self.nodes.query(&self.stream, &appending, deadline).await
            } else {
                Err(Trouble::Down)
            };
            match answer.and_then(|ids: Vec<_>| positions(&ids, batch.len())) {
                // An id that is not above one that was there before comes from a log made anew;
                // gateways that have read the old one further than that will never see it.
                Ok(ids) if ids.iter().all(|id| *id > before) => {
                    receipt.position = self.apply(&ids, batch);
                }
                _ => {
                    receipt.position = self.append_later(batch).unwrap_or(receipt.position);
                    receipt.shared = false;
                }
            }
        }
        receipt
    }

    /// Applies records at once, and leaves it to [`SharedLog::share`] to append them. Answers the last
    /// one's place.
    fn append_later(&self, records: &[Invalidation]) -> Option<Position> {
        let now = clock::instant();
        let apply = || records.iter().map(|record| self.log.append_ahead(record, now)).last();
        self.waiting.add(records, apply)
    }

    /// Whether the shared log has just so many records after one place and up to another. One that
    /// this gateway has not read yet may lie there.
    pub(super) async fn holds_only(&self, count: usize, after: Position, to: Position) -> bool {
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.stream).arg(format!("({after}")).arg(to.to_string());
        command.arg("COUNT").arg(count + 1);
        let mut pipeline = redis::pipe();
        pipeline.add_command(command);
        let deadline = Instant::from_std(clock::instant() + self.timeout);
        let answer: Result<(StreamRangeReply,), _> =
            self.nodes.query(&self.stream, &pipeline, deadline).await;
        answer.is_ok_and(|(found,)| found.ids.len() == count)
    }

    /// Reads the log until `end`, connecting again whenever that breaks.
    pub(super) async fn follow(self: Arc<Self>, end: CancellationToken) {
        let mut seen = Seen::default();
        let mut pause = PAUSES.0;
        let mut told = Told::default();
        while let Some(Err(trouble)) = end.run_until_cancelled(self.read_on(&mut seen)).await {
            if self.in_step.swap(false, Ordering::AcqRel) {
                pause = PAUSES.0;
                told.is_over();
            }
            if told.is_news(&trouble) {
                let (hint, keys) = (advice(&trouble), [&self.stream, &self.identity]);
                warn!(
                    error = %trouble,
                    hint,
                    ?keys,
                    "cut off from the invalidation log, L2 is not used"
                );
            }
            if end.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn read_on(&self, seen: &mut Seen) -> Result<Infallible, Trouble> {
        let link = self.nodes.connect(&self.stream).await?;
        let mut connection = link.commands();
        self.bridge(&mut connection, seen).await?;
        let mut confirmed = clock::instant();
        loop {
            let (count, moment) = self.read(&mut connection, seen).await?;
            let is_at_end = count < BATCH;
            // `FLUSHALL` takes the log away and leaves the connection.
            let is_new = is_at_end && !self.is_read();
            if is_new || confirmed.elapsed() >= self.block {
                if self.identity(&mut connection).await? != seen.identity {
                    return Err(Trouble::LogLost);
                }
                // And `REPLICAOF` makes another server of it.
                let is_replica = is_replica(&mut connection).await?.unwrap_or(false);
                if is_replica != self.is_replica.load(Ordering::Acquire) {
                    return Err(Trouble::OtherRole);
                }
                confirmed = clock::instant();
                if is_at_end && !self.is_of_replica() {
                    self.lag.confirm(moment);
                }
            }
            if is_new {
                self.in_step.store(true, Ordering::Release);
                self.waiting.wake();
                seen.is_at_home = true;
                info!(position = %seen.last, "read the invalidation log to its end");
            }
        }
    }

    /// Reads the next records and applies them. Answers how many there were, and a moment before which
    /// no other had been appended, unless they are as many as one command reads. Waits for one only if
    /// there was none the last time.
    async fn read(
        &self,
        connection: &mut MultiplexedConnection,
        seen: &mut Seen,
    ) -> Result<(usize, Moment), Trouble> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(BATCH);
        let waits = self.is_read();
        if waits {
            command.arg("BLOCK").arg(self.block.as_millis());
        }
        let asked = clock::instant();
        command.arg("STREAMS").arg(&self.stream).arg(seen.last.to_string());
        let reply: Option<StreamReadReply> =
            bounded(BLOCKED_ANSWER, command.query_async(connection)).await?;
        let records: Vec<_> =
            reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect();
        for record in &records {
            let id = record.id.parse().map_err(|_| Trouble::Nonsense)?;
            let invalidation = record::parse(&record.map).unwrap_or_else(|| {
                // Perhaps of a newer version. Whatever it covers, everything covers that too.
                warn!(%id, "unreadable record in the invalidation log, taken for one of everything");
                Invalidation::EVERYTHING
            });
            self.log.record(id, &invalidation, clock::instant());
            self.reach(seen, id);
            if record::is_purge(&record.map) {
                self.fleet.note(id);
                if seen.is_at_home && !invalidation.soft {
                    self.log.tell_of_purge();
                }
            }
        }
        // The server says that there is none when it has waited for one in vain.
        let waited = if waits && records.is_empty() { self.block } else { Duration::ZERO };
        Ok((records.len(), self.lag.at(asked + waited)))
    }

    /// Finds out what was missed since the last connection, and sees to it.
    async fn bridge(
        &self,
        connection: &mut MultiplexedConnection,
        seen: &mut Seen,
    ) -> Result<(), Trouble> {
        let identity = self.identity(connection).await?;
        let extent = self.extent(connection).await?;
        let server = server(connection).await?;
        self.tell_of_replica(server.as_ref().is_some_and(|server| server.is_replica));
        let is_another = |before: &Server| {
            server.as_ref().is_some_and(|server| server.identity != before.identity)
        };
        let has_read = seen.identity.is_some();
        match &extent {
            Some(extent) if identity.is_some() && !has_read => {
                if extent.trimmed {
                    // What the trimmed records covered is unknown.
                    let first = extent.first.unwrap_or(extent.newest);
                    self.log.record(first, &Invalidation::EVERYTHING, clock::instant());
                }
                seen.identity = identity;
            }
            Some(extent) if identity == seen.identity && has_read && !extent.misses(seen.last) => {
                if seen.server.as_ref().is_some_and(is_another) {
                    warn!("Redis restarted or failed over, everything stored becomes stale");
                    let stale = [Invalidation { scope: Scope::All, soft: true }];
                    match self.append_on(connection, &stale, false).await {
                        // It can be read all the same.
                        Err(trouble) if is_answer(&trouble) => drop(self.append_later(&stale)),
                        appended => drop(appended?),
                    }
                }
            }
            _ => {
                let newest = extent.map_or(Position::ZERO, |extent| extent.newest);
                self.start_anew(connection, seen, newest).await?;
            }
        }
        seen.server = server;
        Ok(())
    }

    fn tell_of_replica(&self, is_replica: bool) {
        match (self.is_replica.swap(is_replica, Ordering::AcqRel), is_replica) {
            (false, true) => warn!(
                hint = "name the master in `[cache.l2] redis`, or the sentinels",
                "the invalidation log is a replica's, which says nothing of the fleet"
            ),
            (true, false) => info!("the invalidation log is a master's again"),
            _ => {}
        }
    }

    /// Drops all that was stored before, here and in the fleet.
    async fn start_anew(
        &self,
        connection: &mut MultiplexedConnection,
        seen: &mut Seen,
        newest: Position,
    ) -> Result<(), Trouble> {
        // Once, however often Redis has to be told.
        let place = *seen.distrusted.get_or_insert_with(|| {
            if seen.identity.is_some() {
                warn!("Redis lost the invalidation log, everything stored is dropped");
            }
            if let Some(l1) = &self.l1 {
                l1.clear();
            }
            self.log.distrust(newest.max(seen.last))
        });
        let id = match self.drop_all_at(connection, place).await? {
            Some(id) => id,
            None => self.append_on(connection, &[Invalidation::EVERYTHING], false).await?,
        };
        // Only now, so that a gateway that dies before this line leaves the work to the next one.
        let mut name = redis::cmd("SET");
        name.arg(&self.identity).arg(random_name()).arg("NX");
        let _taken: Option<String> = bounded(ANSWER, name.query_async(connection)).await?;
        seen.identity = self.identity(connection).await?;
        seen.distrusted = None;
        // Whatever else came before it is covered by it.
        self.reach(seen, id);
        Ok(())
    }

    /// Appends a record of everything with an id of this gateway's choice. `None` if the log does
    /// not take it, because it is above that place already.
    ///
    /// On a server whose clock is behind, an id of the server's own making could be below positions
    /// that stored responses bear, and would cover nothing.
    async fn drop_all_at(
        &self,
        connection: &mut MultiplexedConnection,
        place: Position,
    ) -> Result<Option<Position>, Trouble> {
        if place.millis == 0 {
            // Nothing was ever read, so there is nothing to be above: the server's clock will do.
            return Ok(None);
        }
        let command = self.adding(&place.to_string(), &Invalidation::EVERYTHING, false);
        match bounded(ANSWER, command.exec_async(connection)).await {
            Ok(()) => {
                self.log.record(place, &Invalidation::EVERYTHING, clock::instant());
                Ok(Some(place))
            }
            Err(Trouble::Failed(error)) if !error.is_io_error() => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Appends on a connection of the caller's own, and applies.
    pub(super) async fn append_on(
        &self,
        connection: &mut MultiplexedConnection,
        records: &[Invalidation],
        purge: bool,
    ) -> Result<Position, Trouble> {
        let appending = self.appending(records, purge);
        let ids: Vec<_> = bounded(ANSWER, appending.query_async(connection)).await?;
        let ids = positions(&ids, records.len())?;
        Ok(self.apply(&ids, records))
    }

    /// Answers the last id.
    fn apply(&self, ids: &[Position], records: &[Invalidation]) -> Position {
        let now = clock::instant();
        for (id, record) in ids.iter().zip(records) {
            self.log.record(*id, record, now);
        }
        ids.last().copied().unwrap_or_default()
    }

    /// With `purge`, the last record is one that the fleet gives receipts for.
    fn appending(&self, records: &[Invalidation], purge: bool) -> Pipeline {
        let mut pipeline = redis::pipe();
        for (at, record) in records.iter().enumerate() {
            pipeline.add_command(self.adding("*", record, purge && at + 1 == records.len()));
        }
        // `XADD` trims by one rule only. By number matters only if there are very many.
        pipeline.cmd("XTRIM").arg(&self.stream).arg("MAXLEN").arg("~").arg(MAX_RECORDS).ignore();
        pipeline
    }

    fn adding(&self, id: &str, record: &Invalidation, purge: bool) -> redis::Cmd {
        // By the server's clock, as of the newest record: it trims a little late, never early.
        let lifetime = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.log.head().millis.saturating_sub(lifetime);
        let mut command = redis::cmd("XADD");
        command.arg(&self.stream).arg("MINID").arg("~").arg(oldest).arg(id);
        command.arg(record::fields(record)).arg("by").arg(&*self.fleet.name());
        if purge {
            command.arg("purge").arg(1);
        }
        command
    }

    async fn identity(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<String>, Trouble> {
        bounded(ANSWER, redis::cmd("GET").arg(&self.identity).query_async(connection)).await
    }

    async fn extent(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<Extent>, Trouble> {
        let mut exists = redis::cmd("EXISTS");
        if !bounded(ANSWER, exists.arg(&self.stream).query_async::<bool>(connection)).await? {
            return Ok(None);
        }
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(&self.stream);
        let info: HashMap<String, Value> = bounded(ANSWER, command.query_async(connection)).await?;
        Extent::parse(&info).map(Some).ok_or(Trouble::Nonsense)
    }
}

fn positions(ids: &[String], expected: usize) -> Result<Vec<Position>, Trouble> {
    let positions: Vec<_> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    if positions.len() == expected { Ok(positions) } else { Err(Trouble::Nonsense) }
}
