//! The invalidation log that a fleet shares: a Redis stream which every gateway reads, on a
//! connection of its own, from where it was, and appends to.
//!
//! After each connect the gateway finds out whether it missed records that it can no longer read:
//!
//! | seen | means | done |
//! |---|---|---|
//! | the log's identity is missing or another, there is no stream, or its newest id is below the last one read | Redis lost data | what was stored before is gone, for the whole fleet |
//! | records were trimmed that were not read | cut off for too long, or the process stood still | the same |
//! | another `run_id` or `master_replid` than seen last, or than noted beside the stream | a restart or fail-over, which may have lost the newest records | what was stored before is stale, for the whole fleet |
//! | none of these | a mere cut | reads on |
//!
//! The identity is a random name beside the stream. Ids alone do not tell: another gateway may have
//! appended to a log made anew before this one looks. So a log that is gone is made by a reader, with
//! a record of everything at its beginning, and never by an append: that waits for it. Until the log
//! has been read to its end again, nothing is taken from L2.
//!
//! Whether records can be appended makes no difference to reading (`sharing`).

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{mem, slice};

use redis::Pipeline;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamRangeReply, StreamReadReply};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::store::advice::{Told, advice, is_answer};
use crate::store::connection::{PAUSES, Trouble, bounded};
use crate::store::extent::{exists, extent, is_replica, server};
use crate::store::fleet::Fleet;
use crate::store::l1::L1;
use crate::store::lag::Lag;
use crate::store::log::{Invalidation, Log, Scope};
use crate::store::names::random_name;
use crate::store::nodes::Nodes;
use crate::store::record;
use crate::store::record::Cause;
use crate::store::seen::{Found, Seen, Since};
use crate::store::waiting::Waiting;
use crate::stored::{Moment, Position};

/// How long a read waits for a record at most, and how long the gateway waits for that read.
const BLOCK: Duration = Duration::from_secs(1);
const BLOCKED_ANSWER: Duration = Duration::from_millis(2500);
/// How long the gateway waits for any other answer on the log's connection.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

/// Between two reads there are never so many records that some are trimmed which the second one should
/// have brought, unless this process stood still for longer. So it is once the log has been read to its
/// end; before, each read looks for itself.
const STOOD_STILL: Duration = Duration::from_secs(3);

/// Records that come closer together than this are read, and applied, together, as reading is dearer than
/// applying. One that comes after a while is applied at once.
const TOGETHER: Duration = Duration::from_millis(1);

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
    /// waits to be appended. Without Redis it is false, too, while the other process of a takeover has
    /// not applied it.
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
    server: String,
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
    /// Why it is not being read, if it is not.
    trouble: Mutex<Option<String>>,
    pub(super) waiting: Waiting,
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
            server: format!("{namespace}:{{{namespace}:log}}:server"),
            fleet,
            timeout,
            in_step: AtomicBool::new(false),
            reached: Mutex::default(),
            is_replica: AtomicBool::new(false),
            trouble: Mutex::default(),
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

    /// Why it is not being read, if it is not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_trouble(&self, trouble: Option<&Trouble>) {
        let mut noted = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = trouble.map(ToString::to_string);
    }

    fn reach(&self, seen: &mut Seen, id: Position) {
        seen.last = id;
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Appends and applies. If Redis does not answer in time the records are applied at once, and
    /// appended when it is back: then perhaps for the second time, which is harmless.
    pub(super) async fn append(&self, records: Vec<Invalidation>, cause: Cause) -> Receipt {
        let mut receipt = Receipt { position: self.log.position(), shared: true };
        let mut batches = records.chunks(BATCH).peekable();
        while let Some(batch) = batches.next() {
            let before = self.log.head();
            let last = if batches.peek().is_none() { cause } else { Cause::Write };
            let appending = self.appending(batch, last, false);
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
                    receipt.position = self.apply(&ids, batch, cause);
                }
                _ => {
                    receipt.position = self.append_later(batch, cause).unwrap_or(receipt.position);
                    receipt.shared = false;
                }
            }
        }
        receipt
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
            self.note_trouble(Some(&trouble));
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
        let mut asked = clock::instant();
        let first = self.bridge(&mut connection, seen).await?;
        let mut from = Some(first.max(seen.last));
        let mut confirmed = clock::instant();
        loop {
            let together = Instant::from_std(clock::instant() + TOGETHER);
            let before = mem::replace(&mut asked, clock::instant());
            let (count, moment) = self.read(&mut connection, seen, before, from).await?;
            let is_at_end = count < BATCH;
            let is_new = is_at_end && !self.is_read();
            if is_new || confirmed.elapsed() >= self.block {
                self.check(&mut connection, seen).await?;
                confirmed = clock::instant();
                if is_at_end && !self.is_of_replica() {
                    self.lag.confirm(moment);
                }
            }
            if is_new {
                self.in_step.store(true, Ordering::Release);
                self.note_trouble(None);
                self.waiting.wake();
                seen.is_at_home = true;
                info!(position = %seen.last, "read the invalidation log to its end");
            }
            from = (!self.is_read()).then_some(seen.last);
            if is_at_end && count > 0 {
                sleep_until(together).await;
            }
        }
    }

    /// Finds out whether it is the log still, and the server, that the connection was made to.
    async fn check(
        &self,
        connection: &mut MultiplexedConnection,
        seen: &Seen,
    ) -> Result<(), Trouble> {
        // `FLUSHALL` takes the log away and leaves the connection; `DEL`, or an eviction, the stream
        // alone. Who makes that anew has removed the identity before, so it is looked at after.
        let is_there = exists(connection, &self.stream).await?;
        if !is_there || self.identity(connection).await? != seen.identity {
            return Err(Trouble::LogLost);
        }
        // And `REPLICAOF` makes another server of it.
        let is_replica = is_replica(connection).await?.unwrap_or(false);
        if is_replica != self.is_replica.load(Ordering::Acquire) {
            return Err(Trouble::OtherRole);
        }
        Ok(())
    }

    /// Reads the next records and applies them. Answers how many there were, and a moment before which
    /// no other had been appended, unless they are as many as one command reads. Waits for one only if
    /// there was none the last time, for which it asked at `before`. Records after `from` may have
    /// been trimmed meanwhile.
    async fn read(
        &self,
        connection: &mut MultiplexedConnection,
        seen: &mut Seen,
        before: std::time::Instant,
        from: Option<Position>,
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
        if before.elapsed() > STOOD_STILL {
            return Err(Trouble::StoodStill);
        }
        if let Some(from) = from {
            self.cover_trimmed(connection, from).await?;
        }
        let records: Vec<_> =
            reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect();
        for record in &records {
            let id = record.id.parse().map_err(|_| Trouble::Nonsense)?;
            let invalidation = record::parse(&record.map).unwrap_or_else(|| {
                // Perhaps of a newer version. Whatever it covers, everything covers that too.
                warn!(%id, "unreadable record in the invalidation log, taken for one of everything");
                Invalidation::EVERYTHING
            });
            let place = self.log.record(id, &invalidation, clock::instant());
            let (cause, by) = record::told(&record.map);
            self.log.journal.note_of(place, &invalidation, cause.as_deref(), by, clock::instant());
            self.reach(seen, id);
            if record::is_purge(&record.map) {
                self.fleet.note(id);
                if seen.is_at_home && !invalidation.soft {
                    self.log.tell_of_purge();
                }
            }
            let now = self.fleet.server_time(clock::instant());
            if let (Some(made), Some(now)) = (record::made(&record.map), now) {
                self.lag.set_delay(Duration::from_millis(now.saturating_sub(made)));
            }
        }
        // The server says that there is none when it has waited for one in vain.
        let waited = if waits && records.is_empty() { self.block } else { Duration::ZERO };
        Ok((records.len(), self.lag.at(asked + waited)))
    }

    /// Drops all from before the stream's beginning, if that is beyond this place: records that were
    /// there are gone, and perhaps were when they should have been read.
    async fn cover_trimmed(
        &self,
        connection: &mut MultiplexedConnection,
        from: Position,
    ) -> Result<(), Trouble> {
        let extent = extent(connection, &self.stream).await?.filter(|extent| extent.trimmed);
        let first = extent.and_then(|extent| extent.first);
        if let Some(first) = first.filter(|first| *first > from) {
            self.log.record(first, &Invalidation::EVERYTHING, clock::instant());
        }
        Ok(())
    }

    /// Finds out what was missed since the last connection, and sees to it. Answers where the stream began.
    async fn bridge(
        &self,
        connection: &mut MultiplexedConnection,
        seen: &mut Seen,
    ) -> Result<Position, Trouble> {
        let identity = self.identity(connection).await?;
        let extent = extent(connection, &self.stream).await?;
        let first = extent.and_then(|extent| extent.first).unwrap_or_default();
        let server = server(connection).await?;
        let is_replica = server.as_ref().is_some_and(|server| server.is_replica);
        self.tell_of_replica(is_replica);
        let noted = text(connection, &self.server).await?;
        let found = Found {
            identity,
            extent,
            server: server.map(|server| server.identity),
            // That is of its master.
            noted: noted.filter(|_| !is_replica),
        };
        match seen.since(&found) {
            Since::Begun { trimmed, is_doubtful } => {
                if let Some(first) = trimmed {
                    self.log.record(first, &Invalidation::EVERYTHING, clock::instant());
                }
                if is_doubtful {
                    self.doubt(connection, seen.last).await?;
                }
                seen.identity = found.identity;
            }
            Since::Same { is_doubtful: true } => self.doubt(connection, seen.last).await?,
            Since::Same { is_doubtful: false } => {}
            Since::Lost { newest } => self.start_anew(connection, seen, &found, newest).await?,
        }
        // Whoever told the fleet: the next loss is another one.
        seen.distrusted = None;
        if let Some(server) = found.server.as_ref().filter(|_| found.server != found.noted) {
            // Only now, as in `start_anew`.
            let mut note = redis::cmd("SET");
            match bounded(ANSWER, note.arg(&self.server).arg(server).exec_async(connection)).await {
                Err(trouble) if !is_answer(&trouble) => return Err(trouble),
                // If it takes none, what is stored becomes stale once too often.
                _ => {}
            }
        }
        seen.server = found.server;
        Ok(first)
    }

    /// Makes all that was stored before stale, here and in the fleet: also what was born at the places of
    /// records that are lost, above those that the server gives out now if its clock is behind.
    async fn doubt(
        &self,
        connection: &mut MultiplexedConnection,
        last: Position,
    ) -> Result<(), Trouble> {
        warn!("Redis restarted or failed over, everything stored becomes stale");
        let place = self.log.distrust(last, true);
        let stale = Invalidation { scope: Scope::All, soft: true };
        match self.append_above(connection, place, &stale, false).await {
            // It can be read all the same.
            Err(trouble) if is_answer(&trouble) => {
                let _place = self.append_later(&[stale], Cause::Trouble);
            }
            appended => drop(appended?),
        }
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

    /// Drops all that was stored before, here and in the fleet. Makes the log if there is none.
    async fn start_anew(
        &self,
        connection: &mut MultiplexedConnection,
        seen: &mut Seen,
        found: &Found,
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
            self.log.distrust(newest.max(seen.last), false)
        });
        if found.extent.is_none() && found.identity.is_some() {
            // The stream alone is gone. Others that read it are to see that it is another.
            let mut removing = redis::cmd("DEL");
            bounded(ANSWER, removing.arg(&self.identity).exec_async(connection)).await?;
        }
        let id = self.append_above(connection, place, &Invalidation::EVERYTHING, true).await?;
        // Only now, so that a gateway that dies before this line leaves the work to the next one.
        let mut name = redis::cmd("SET");
        name.arg(&self.identity).arg(random_name()).arg("NX");
        let _taken: Option<String> = bounded(ANSWER, name.query_async(connection)).await?;
        seen.identity = self.identity(connection).await?;
        // Whatever else came before it is covered by it.
        self.reach(seen, id);
        Ok(())
    }

    /// Appends a record whose id is this place or a later one.
    ///
    /// The server's clock gives it one, as a rule, which is above all that other gateways were ever
    /// given. On a server whose clock is behind it could be below positions that stored responses bear,
    /// and would not cover them.
    async fn append_above(
        &self,
        connection: &mut MultiplexedConnection,
        place: Position,
        record: &Invalidation,
        makes_log: bool,
    ) -> Result<Position, Trouble> {
        let (records, cause) = (slice::from_ref(record), Cause::Trouble);
        let id = self.append_on(connection, records, cause, makes_log).await?;
        if id >= place {
            return Ok(id);
        }
        // The record counts here from a place that the shared log has yet to reach.
        let place = self.log.position().next();
        let command = self.adding(&place.to_string(), record, cause, makes_log);
        match bounded(ANSWER, command.query_async::<Option<String>>(connection)).await {
            Ok(Some(_)) => {
                self.log.record(place, record, clock::instant());
                Ok(place)
            }
            Ok(None) => Err(Trouble::LogLost),
            // The log has gone beyond that place meanwhile.
            Err(Trouble::Failed(error)) if !error.is_io_error() => {
                self.append_on(connection, records, cause, makes_log).await
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Appends on a connection of the caller's own, and applies.
    pub(super) async fn append_on(
        &self,
        connection: &mut MultiplexedConnection,
        records: &[Invalidation],
        cause: Cause,
        makes_log: bool,
    ) -> Result<Position, Trouble> {
        let appending = self.appending(records, cause, makes_log);
        let ids: Vec<_> = bounded(ANSWER, appending.query_async(connection)).await?;
        let ids = positions(&ids, records.len())?;
        Ok(self.apply(&ids, records, cause))
    }

    /// Answers the last id.
    fn apply(&self, ids: &[Position], records: &[Invalidation], cause: Cause) -> Position {
        let (now, by) = (clock::instant(), self.fleet.name());
        for (id, record) in ids.iter().zip(records) {
            let place = self.log.record(*id, record, now);
            self.log.journal.note(place, record, cause, &by, now);
        }
        ids.last().copied().unwrap_or_default()
    }

    /// The last record tells the cause.
    fn appending(&self, records: &[Invalidation], cause: Cause, makes_log: bool) -> Pipeline {
        let mut pipeline = redis::pipe();
        for (at, record) in records.iter().enumerate() {
            let mut adding = self.adding("*", record, cause, makes_log);
            if at + 1 == records.len()
                && let Some((name, value)) = cause.field()
            {
                adding.arg(name).arg(value);
            }
            pipeline.add_command(adding);
        }
        // `XADD` trims by one rule only. By number matters only if there are very many.
        pipeline.cmd("XTRIM").arg(&self.stream).arg("MAXLEN").arg("~").arg(MAX_RECORDS).ignore();
        pipeline
    }

    /// Without a log, and unless it makes one, this is answered by nil.
    fn adding(&self, id: &str, record: &Invalidation, cause: Cause, makes_log: bool) -> redis::Cmd {
        // By the server's clock, as of the newest record: it trims a little late, never early.
        let lifetime = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.log.head().millis.saturating_sub(lifetime);
        let mut command = redis::cmd("XADD");
        command.arg(&self.stream);
        if !makes_log {
            command.arg("NOMKSTREAM");
        }
        command.arg("MINID").arg("~").arg(oldest).arg(id);
        command.arg(record::fields(record)).arg("by").arg(&*self.fleet.name());
        if let Some(cause) = cause.as_str() {
            command.arg("cause").arg(cause);
        }
        command
    }

    async fn identity(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<String>, Trouble> {
        text(connection, &self.identity).await
    }
}

async fn text(
    connection: &mut MultiplexedConnection,
    key: &str,
) -> Result<Option<String>, Trouble> {
    bounded(ANSWER, redis::cmd("GET").arg(key).query_async(connection)).await
}

fn positions(ids: &[Option<String>], expected: usize) -> Result<Vec<Position>, Trouble> {
    if ids.contains(&None) {
        return Err(Trouble::LogLost);
    }
    let positions: Vec<_> = ids.iter().flatten().filter_map(|id| id.parse().ok()).collect();
    if positions.len() == expected { Ok(positions) } else { Err(Trouble::Nonsense) }
}
