//! The fleet's turn to fetch: of all gateways that miss the same response, one goes forward, and the
//! others wait until it says that the response lies in L2.
//!
//! Under a key of Redis lies a sign, `WORD POSITION NONCE`, which ends by itself:
//!
//! - `fetching`: whoever put it fetches, and puts it again before it ends. Once that gateway has died,
//!   another finds nothing there, and has the turn.
//! - `done`: the fetch has ended, and what may be used of it lies in L2. Who finds nothing there has
//!   the turn in the place of this sign.
//! - `apart`: what came was for one request. Each goes forward by itself.
//! - `apiece`: what came is of no use to other gateways, or nothing came. Each gateway goes forward by
//!   itself.
//!
//! `POSITION` is the log's, from before the fetch began. A fetch that an invalidation has overtaken
//! loses its turn to whoever knows of that.
//!
//! The turn spares the upstream requests, and that is all: a response is judged by its own position,
//! whoever had the turn when it came. So what goes wrong here ends with one more request, and never
//! with a wrong response.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::clock;
use crate::store::Store;
use crate::store::connection::Trouble;
use crate::store::log::Lease;
use crate::store::names::random_name;
use crate::store::nodes::Nodes;
use crate::store::second::Second;
use crate::stored::{CacheKey, Mark, Position};

/// How long after its last word a gateway counts as dead. It gives a word three times as often.
const LEASE: Duration = Duration::from_secs(1);

/// How long it is known that a fetch has ended: longer than a request takes from its look-up in L2
/// to its turn.
const DONE: Duration = Duration::from_secs(5);

/// How long it is known that a response is of no use to others, as one gateway remembers it.
const UNSHARED: Duration = Duration::from_secs(10);

/// How long it is known that a fetch came to nothing: enough for those who wait to hear of it.
const FAILED: Duration = Duration::from_secs(1);

/// Puts a sign where none lies, or a certain one, for so many milliseconds; or answers what lies there.
const PUT: &str = "local lies = redis.call('GET', KEYS[1]) \
                   if lies and lies ~= ARGV[3] then return lies end \
                   redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
                   return false";

/// The signs in Redis.
pub(super) struct Turns {
    nodes: Arc<Nodes>,
    prefix: String,
    timeout: Duration,
}

/// The turn, which is this gateway's. It stays so until it is given back, by [`Turn::end`] or
/// [`Turn::end_after`], of which the first counts. Dropping it says that nothing came.
pub struct Turn(Mutex<Option<oneshot::Sender<End>>>);

/// What the fleet is told about a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is under way.
    Fetching,
    /// It has ended: look into L2, and fetch if nothing is there.
    Done,
    /// What came is for one request.
    Apart,
    /// What came is for one gateway.
    Apiece,
}

/// What somebody has put.
#[derive(Clone, Debug)]
pub struct Sign {
    word: Word,
    position: Position,
    text: String,
}

/// Whose turn it is.
pub enum Turned {
    /// This gateway's.
    Ours(Turn),
    /// Another's, which still fetches.
    Theirs(Sign),
    /// Nobody's: a fetch has just ended.
    Done(Sign),
    /// Each request's.
    Apart,
    /// Each gateway's. So it is while Redis is of no help.
    Apiece,
}

enum End {
    Word(Word),
    /// It is done once these have been written.
    After(Vec<JoinHandle<bool>>),
    Nothing,
}

impl Store {
    /// Takes the turn to fetch what has this key, if it is nobody's, or if `over` is what lies there.
    /// Costs one round trip, within the tier's timeout.
    pub async fn turn(&self, key: &CacheKey, lease: &Lease, over: Option<&Sign>) -> Turned {
        // What cannot be written to L2 is not waited for in vain.
        let Some(Second::Redis(redis)) = self.l2_for(lease) else { return Turned::Apiece };
        let turns = &redis.turns;
        let (name, text) = (turns.name(key), Word::Fetching.sign(lease.position));
        let over = over.map_or("", |sign| &sign.text);
        let lies = match turns.put(&name, &text, LEASE, over).await {
            Ok(None) => return Turned::Ours(self.hold(turns, name, text, lease.position)),
            Ok(Some(lies)) => lies,
            Err(error) => {
                debug!(%error, "no turn to be had, fetching without it");
                return Turned::Apiece;
            }
        };
        match Sign::parse(lies) {
            Some(sign) if sign.word == Word::Fetching => Turned::Theirs(sign),
            // L2 does not answer with what was fetched at a place that this log has not reached.
            Some(sign) if sign.word == Word::Done && sign.position > self.log.head() => {
                Turned::Theirs(sign)
            }
            Some(sign) if sign.word == Word::Done => Turned::Done(sign),
            Some(sign) if sign.word == Word::Apart => Turned::Apart,
            // A word of a newer version is no reason to wait.
            Some(_) | None => Turned::Apiece,
        }
    }

    /// Whether what such a sign speaks of was invalidated after its fetch began, as far as that can
    /// be told by marks that a response will have, and its name.
    pub fn is_overtaken(&self, sign: &Sign, marks: &[Mark], name: &str) -> bool {
        self.log.covers(marks, name, sign.position)
    }

    /// Whether a response with so much content is for the fleet, and not for this gateway alone.
    pub fn fits_l2(&self, octets: u64) -> bool {
        self.redis.as_ref().is_some_and(|redis| redis.l2.fits(octets))
    }

    fn hold(&self, turns: &Arc<Turns>, name: String, text: String, position: Position) -> Turn {
        let (end, ended) = oneshot::channel();
        let turns = Arc::clone(turns);
        self.tasks.spawn(async move { turns.keep(name, text, position, ended).await });
        Turn(Mutex::new(Some(end)))
    }
}

impl Turns {
    pub(super) fn new(nodes: Arc<Nodes>, namespace: &str, timeout: Duration) -> Self {
        Self { nodes, prefix: format!("{namespace}:turn:"), timeout }
    }

    /// Puts the sign again and again, so that it does not end before the fetch does, and then another.
    /// Should a different one lie there meanwhile, it stays.
    async fn keep(
        &self,
        name: String,
        fetching: String,
        position: Position,
        ended: oneshot::Receiver<End>,
    ) {
        let mut ended = std::pin::pin!(last_sign(ended, position));
        let (sign, life) = loop {
            match timeout(LEASE / 3, &mut ended).await {
                Ok(last) => break last,
                Err(_) => self.try_put(&name, &fetching, LEASE, &fetching).await,
            }
        };
        self.try_put(&name, &sign, life, &fetching).await;
    }

    async fn try_put(&self, name: &str, sign: &str, life: Duration, over: &str) {
        if let Err(error) = self.put(name, sign, life, over).await {
            debug!(%error, "the fleet is not told of a fetch");
        }
    }

    /// `None`: it lies there now.
    async fn put(
        &self,
        name: &str,
        sign: &str,
        life: Duration,
        over: &str,
    ) -> Result<Option<String>, Trouble> {
        let deadline = Instant::from_std(clock::instant() + self.timeout);
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let mut pipeline = redis::pipe();
        pipeline.cmd("EVAL").arg(PUT).arg(1).arg(name).arg(sign).arg(millis).arg(over);
        let (lies,) = self.nodes.query(name, &pipeline, deadline).await?;
        Ok(lies)
    }

    fn name(&self, key: &CacheKey) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// What to put when the fetch has ended, and for how long.
async fn last_sign(ended: oneshot::Receiver<End>, position: Position) -> (String, Duration) {
    let (word, life) = match ended.await.unwrap_or(End::Nothing) {
        End::Word(word) => (word, word.life()),
        End::After(writes) => {
            let mut written = true;
            for write in writes {
                written &= write.await.unwrap_or(false);
            }
            if written { (Word::Done, DONE) } else { (Word::Apiece, FAILED) }
        }
        End::Nothing => (Word::Apiece, FAILED),
    };
    (word.sign(position), life)
}

impl Turn {
    /// Gives it back with this word.
    pub fn end(&self, word: Word) {
        self.give_back(End::Word(word));
    }

    /// Gives it back when these have been written to L2: then the fetch is done.
    pub fn end_after(&self, writes: Vec<JoinHandle<bool>>) {
        self.give_back(End::After(writes));
    }

    fn give_back(&self, end: End) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Nobody is there to tell the fleet once the store's runtime has ended.
            drop(sender.send(end));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back(End::Nothing);
    }
}

impl Word {
    const ALL: [Self; 4] = [Self::Fetching, Self::Done, Self::Apart, Self::Apiece];

    fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Done => "done",
            Self::Apart => "apart",
            Self::Apiece => "apiece",
        }
    }

    fn life(self) -> Duration {
        match self {
            Self::Fetching => LEASE,
            Self::Done => DONE,
            Self::Apart | Self::Apiece => UNSHARED,
        }
    }

    /// One that is like no other.
    fn sign(self, position: Position) -> String {
        format!("{} {position} {}", self.as_str(), random_name())
    }
}

impl Sign {
    fn parse(text: String) -> Option<Self> {
        let mut parts = text.split(' ');
        let said = parts.next()?;
        let word = Word::ALL.into_iter().find(|word| word.as_str() == said)?;
        let position = parts.next()?.parse().ok()?;
        Some(Self { word, position, text })
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    #[test]
    fn a_sign_is_read_as_it_was_put() {
        let position = Position { millis: 17, sequence: 4 };
        for word in Word::ALL {
            let text = word.sign(position);
            let sign = Sign::parse(text.clone()).unwrap();
            assert_eq!((sign.word, sign.position), (word, position));
            assert_eq!(sign.text, text, "it is compared as it lies there");
            assert_ne!(text, word.sign(position), "no two are equal");
        }
    }

    #[test]
    fn what_nobody_here_puts_is_no_sign() {
        for text in ["", "fetching", "fetching x n", "resting 1-0 n", "done  1-0 n", "\u{e9} 1-0"] {
            assert!(Sign::parse(text.to_owned()).is_none(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn the_fleet_is_told_what_came() {
        let tasks = TaskTracker::new();
        let write = |succeeds: bool| tasks.spawn(async move { succeeds });
        let told = |turn: fn(&Turn, Vec<JoinHandle<bool>>), writes| async move {
            let (end, ended) = oneshot::channel();
            let held = Turn(Mutex::new(Some(end)));
            turn(&held, writes);
            drop(held);
            let (sign, life) = last_sign(ended, Position::ZERO).await;
            (Sign::parse(sign).unwrap().word, life)
        };
        let after = |turn: &Turn, writes| turn.end_after(writes);
        let nothing = |_: &Turn, _| ();
        let apart = |turn: &Turn, writes| {
            turn.end(Word::Apart);
            turn.end_after(writes);
        };
        for (turn, writes, expected, why) in [
            (after as fn(&Turn, _), vec![write(true), write(true)], (Word::Done, DONE), "written"),
            (after, vec![write(true), write(false)], (Word::Apiece, FAILED), "not written"),
            (nothing, vec![], (Word::Apiece, FAILED), "dropped"),
            (apart, vec![write(true)], (Word::Apart, UNSHARED), "the first word counts"),
        ] {
            assert_eq!(told(turn, writes).await, expected, "{why}");
        }
    }
}
