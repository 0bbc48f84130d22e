//! How far a stream of changes has been applied, and who of the fleet reads it.
//!
//! A place in the stream may be kept once what came before it is in the log, never sooner: a process that
//! ends in between reads the same changes again, which is harmless, as an invalidation that is applied
//! twice is. Places are kept each second at most, and at the end.
//!
//! | with | the place lies | and reads |
//! |---|---|---|
//! | Redis | in the hash `<namespace>:changes:<id>` | the gateway that has `<namespace>:watcher:<id>`, which ends by itself |
//! | a disk | in a file of its folder | this gateway |
//! | neither | nowhere: what L1 holds ends with the process as well | this gateway |
//!
//! While Redis is out of reach each gateway reads for itself. The one that reads says in the hash until
//! when it has read every change; so the others know how late changes may be.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock;
use crate::config;
use crate::stats::Counter;
use crate::store::Store;
use crate::store::connection::Trouble;
use crate::store::figures::ChangeFigures;
use crate::store::health::WatchHealth;
use crate::store::invalidate::Appended;
use crate::store::lag::Lag;
use crate::store::nodes::Nodes;
use crate::store::shared_log::SharedLog;
use crate::stored::{Moment, StoredResponse};

/// How often the place is kept, and Redis is asked who reads, at most.
const BEAT: Duration = Duration::from_secs(1);

/// A gateway that has said nothing for so long reads no more.
const LEASE: Duration = Duration::from_secs(3);

/// A place in a stream of changes, in a form that is its server's business.
pub type Token = Arc<[u8]>;

/// One of `[[changes]]`, as far as it outlives a connection, a configuration, or this process.
pub struct Bookmark {
    id: Box<str>,
    label: Box<str>,
    lag: Lag,
    keeper: Keeper,
    place: Mutex<Place>,
    reads: watch::Sender<bool>,
    /// The stream is open.
    is_open: AtomicBool,
    /// Why it is not, if somebody knows.
    trouble: Mutex<Option<String>>,
    /// Changes that came.
    pub events: Counter,
    /// Records of the log that they made.
    pub invalidations: Counter,
    /// How often changes may have been missed.
    pub lost: Counter,
    /// Changes about which the policy failed.
    pub policy_failures: Counter,
}

/// Where the place lies.
enum Keeper {
    Redis(Shared),
    File(PathBuf),
    Nothing,
}

struct Shared {
    nodes: Arc<Nodes>,
    log: Arc<SharedLog>,
    /// The hash with the place, and the key of the gateway that reads.
    hash: String,
    lease: String,
    timeout: Duration,
    /// This process.
    own: String,
}

#[derive(Default)]
struct Place {
    /// Everything before it is in the log. None: nobody knows of any.
    token: Option<Token>,
    /// It is not kept yet.
    is_new: bool,
    /// What became of the last records that were made.
    last: Option<Appended>,
    /// Every change from before this moment is in the log.
    contact: Moment,
}

impl Store {
    /// The bookmark of a stream of changes that `id` tells from others in the whole fleet.
    pub fn bookmark(&self, cache: &config::Cache, id: &str, label: &str) -> Arc<Bookmark> {
        let keeper = match (&self.redis, &self.disk) {
            (Some(redis), _) => Keeper::Redis(Shared {
                nodes: Arc::clone(&redis.nodes),
                log: Arc::clone(&redis.log),
                hash: format!("{}:changes:{id}", cache.namespace),
                lease: format!("{}:watcher:{id}", cache.namespace),
                timeout: redis.l2.timeout(),
                own: self.fleet.process.clone(),
            }),
            (None, Some(disk)) => Keeper::File(disk.folder().join("changes").join(id)),
            (None, None) => Keeper::Nothing,
        };
        Arc::new(Bookmark {
            id: id.into(),
            label: label.into(),
            lag: Lag::of_changes(self.start, cache.max_lag, label),
            keeper,
            place: Mutex::default(),
            reads: watch::Sender::new(false),
            is_open: AtomicBool::new(false),
            trouble: Mutex::default(),
            events: Counter::default(),
            invalidations: Counter::default(),
            lost: Counter::default(),
            policy_failures: Counter::default(),
        })
    }
}

impl Bookmark {
    /// What tells the stream from others.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What logs and figures call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether this gateway is to read the stream.
    pub fn reads(&self) -> watch::Receiver<bool> {
        self.reads.subscribe()
    }

    /// Where to go on reading.
    pub fn token(&self) -> Option<Token> {
        self.place().token.clone()
    }

    /// What came before this place has been applied, and this became of it, if that took any record.
    pub fn applied(&self, token: Option<Token>, appended: Option<Appended>) {
        let mut place = self.place();
        if appended.is_some() {
            // Records go to the disk in their order: those before it are there if these are.
            place.last = appended;
        }
        place.is_new |= place.token != token;
        place.token = token;
    }

    /// This moment.
    pub fn now(&self) -> Moment {
        self.lag.now()
    }

    /// How long a read may wait for a change: contact is lost only after some such silences.
    pub fn patience(&self) -> Duration {
        BEAT.min(self.lag.bound() / 4)
    }

    /// Every change from before this moment has been applied.
    pub fn confirm(&self, moment: Moment) {
        {
            let mut place = self.place();
            place.contact = place.contact.max(moment);
        }
        self.lag.confirm(moment);
    }

    /// As [`Bookmark::confirm`], for a moment that was so long ago.
    pub fn confirm_since(&self, age: Duration) {
        self.confirm(Moment(self.now().0.saturating_sub(millis(age))));
    }

    /// Whether `stored` may be used without asking anyone, as far as these changes go.
    pub fn confirms(&self, stored: &StoredResponse) -> bool {
        self.lag.confirms(stored)
    }

    /// As [`Lease::records`](crate::store::Lease::records) tells spans of silence apart.
    pub fn span(&self) -> u64 {
        self.lag.span()
    }

    /// The stream is open, or not.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// The stream cannot be read, for this reason; or it can.
    pub fn set_trouble(&self, why: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
    }

    /// A change was applied so long after it was made.
    pub fn set_delay(&self, delay: Duration) {
        self.lag.set_delay(delay);
    }

    /// How it is, for whoever looks after it.
    pub fn health(&self) -> WatchHealth {
        WatchHealth {
            name: self.label.to_string(),
            is_own: *self.reads.borrow(),
            is_open: self.is_open.load(Ordering::Relaxed),
            lag: self.lag.has_contact().then(|| self.lag.value()),
            is_late: self.lag.is_passed(),
            error: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The figures of this moment.
    pub fn figures(&self) -> ChangeFigures {
        let age = self.lag.value().as_secs_f64();
        ChangeFigures {
            watching: self.is_open.load(Ordering::Relaxed),
            position_age_seconds: self.lag.has_contact().then_some(age),
            late: self.lag.is_passed(),
            invalidation_lag_seconds: self.lag.delay().as_secs_f64(),
            events: self.events.value(),
            invalidations: self.invalidations.value(),
            lost: self.lost.value(),
            policy_failures: self.policy_failures.value(),
        }
    }

    /// Keeps the place, and finds out who reads, until `end`; then for the last time, and lets another
    /// gateway read.
    pub async fn keep(&self, end: CancellationToken) {
        let watching = self.lag.watch(end.clone());
        let keeping = async {
            match &self.keeper {
                Keeper::Redis(shared) => self.keep_in_redis(shared, &end).await,
                Keeper::File(file) => self.keep_in_file(file, &end).await,
                Keeper::Nothing => self.read_from_now_on(),
            }
        };
        tokio::join!(watching, keeping);
    }

    fn read_from_now_on(&self) {
        self.reads.send_replace(true);
    }

    async fn keep_in_file(&self, file: &Path, end: &CancellationToken) {
        let path = file.to_owned();
        let lies = spawn_blocking(move || fs::read(path).ok()).await.ok().flatten();
        {
            let mut place = self.place();
            if place.token.is_none() {
                place.token = lies.filter(|token| !token.is_empty()).map(Into::into);
            }
        }
        self.read_from_now_on();
        let mut is_told = false;
        loop {
            let is_last = end.run_until_cancelled(sleep(self.patience())).await.is_none();
            let is_logged = |place: &mut Place| place.last.as_mut().is_none_or(Appended::is_kept);
            if let Some(token) = self.unkept(is_logged) {
                let (path, octets) = (file.to_owned(), token.clone());
                let written = spawn_blocking(move || write(&path, &octets)).await;
                let is_kept = matches!(&written, Ok(Ok(())));
                if !is_kept && !is_told {
                    let changes = &*self.label;
                    warn!(changes, ?written, "cannot keep the place in the changes on the disk");
                }
                is_told = !is_kept;
                if is_kept {
                    self.kept(&token);
                }
            }
            if is_last {
                return;
            }
        }
    }

    async fn keep_in_redis(&self, shared: &Shared, end: &CancellationToken) {
        let mut heard = clock::instant();
        loop {
            match self.round(shared).await {
                Ok(()) => heard = clock::instant(),
                // Where nobody can say who reads, everybody does.
                Err(trouble) if heard.elapsed() > LEASE => {
                    self.set_reads(true, &trouble.to_string());
                }
                Err(trouble) => debug!(error = %trouble, "not known who reads changes"),
            }
            if end.run_until_cancelled(sleep(self.patience())).await.is_none() {
                break;
            }
        }
        if *self.reads.borrow() && self.round(shared).await.is_ok() && *self.reads.borrow() {
            let mut leave = redis::pipe();
            leave.cmd("DEL").arg(&shared.lease).ignore();
            let left: Result<(), _> = shared.query(&shared.lease, &leave).await;
            debug!(is_known = left.is_ok(), "no longer reads changes");
        }
    }

    /// Asks who reads, and tells the others or hears from them.
    async fn round(&self, shared: &Shared) -> Result<(), Trouble> {
        let mut asking = redis::pipe();
        let lease = LEASE.as_millis();
        let taking = asking.cmd("SET").arg(&shared.lease).arg(&shared.own);
        taking.arg("NX").arg("PX").arg(lease).ignore();
        asking.cmd("GET").arg(&shared.lease);
        let (reader,): (Option<String>,) = shared.query(&shared.lease, &asking).await?;
        let is_own = reader.as_ref() == Some(&shared.own);
        if !is_own || !*self.reads.borrow() {
            // Also as the last word of the gateway that read before.
            self.hear(shared).await?;
        }
        if is_own {
            let mut renewing = redis::pipe();
            let renewal = renewing.cmd("SET").arg(&shared.lease).arg(&shared.own);
            renewal.arg("PX").arg(lease).ignore();
            let _: () = shared.query(&shared.lease, &renewing).await?;
        }
        self.set_reads(is_own, "its turn");
        if is_own { self.tell(shared).await } else { Ok(()) }
    }

    /// What the gateway that reads has told.
    async fn hear(&self, shared: &Shared) -> Result<(), Trouble> {
        let (now, asked, mut lies) = shared.look().await?;
        if *self.reads.borrow() {
            // It has read by itself, further than that.
            return Ok(());
        }
        let contact = lies.remove("contact").and_then(|text| String::from_utf8(text).ok());
        let token = lies.remove("token").filter(|token| !token.is_empty());
        self.place().token = token.map(Into::into);
        if let Some(contact) = contact.and_then(|text| text.parse::<u64>().ok()) {
            let age = Duration::from_millis(now.saturating_sub(contact));
            let moment = self.lag.at(asked).0.saturating_sub(millis(age));
            self.lag.confirm(Moment(moment));
        }
        Ok(())
    }

    /// Keeps the place, and until when every change is in the log.
    async fn tell(&self, shared: &Shared) -> Result<(), Trouble> {
        let contact = self.place().contact;
        let token = self.unkept(|_| true);
        // Looked at after the place, whose records had come before it.
        if shared.log.waiting() > 0 {
            return Ok(());
        }
        let (now, asked, _) = shared.look().await?;
        let age = self.lag.at(asked).0.saturating_sub(contact.0);
        let mut telling = redis::pipe();
        if contact > Moment::BEFORE_ALL {
            let contact = now.saturating_sub(age);
            telling.cmd("HSET").arg(&shared.hash).arg("contact").arg(contact).ignore();
        }
        if let Some(token) = &token {
            telling.cmd("HSET").arg(&shared.hash).arg("token").arg(&**token).ignore();
        }
        telling.cmd("HSET").arg(&shared.hash).arg("changes").arg(&*self.label).ignore();
        let _: () = shared.query(&shared.hash, &telling).await?;
        if let Some(token) = &token {
            self.kept(token);
        }
        Ok(())
    }

    fn set_reads(&self, reads: bool, why: &str) {
        if self.reads.send_replace(reads) != reads {
            let changes = &*self.label;
            if reads {
                info!(changes, why, "reads changes");
            } else {
                info!(changes, "another gateway reads changes");
            }
        }
    }

    /// The place, if it is to be kept: what came before it is in the log for good. No octets: there is none.
    fn unkept(&self, may_be: impl FnOnce(&mut Place) -> bool) -> Option<Token> {
        let mut place = self.place();
        (place.is_new && may_be(&mut place)).then(|| place.token.clone().unwrap_or_default())
    }

    fn kept(&self, token: &Token) {
        let mut place = self.place();
        place.is_new &= place.token.as_deref().unwrap_or_default() != &**token;
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The server's time, in milliseconds, when that was asked for, and what lies in the hash.
    async fn look(&self) -> Result<(u64, Instant, HashMap<String, Vec<u8>>), Trouble> {
        let mut asking = redis::pipe();
        asking.cmd("TIME").cmd("HGETALL").arg(&self.hash);
        let asked = clock::instant();
        let ((seconds, micros), lies): ((u64, u64), _) = self.query(&self.hash, &asking).await?;
        Ok((seconds.saturating_mul(1000).saturating_add(micros / 1000), asked, lies))
    }

    async fn query<T: redis::FromRedisValue>(
        &self,
        key: &str,
        pipeline: &redis::Pipeline,
    ) -> Result<T, Trouble> {
        let deadline = tokio::time::Instant::from_std(clock::instant() + self.timeout);
        self.nodes.query(key, pipeline, deadline).await
    }
}

/// Another name first: the file is whole, or as it was.
fn write(file: &Path, octets: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let unfinished = file.with_extension("unfinished");
    fs::write(&unfinished, octets)?;
    fs::rename(unfinished, file)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
