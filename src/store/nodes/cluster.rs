//! A cluster: which node each key lies on, and a connection to each node that has slots.
//!
//! One task asks for the map of slots once a second, and at once when a node says that a slot has
//! moved. Callers use the map as it is and never wait for a connection: what lies on a node that
//! cannot be reached is a miss, and what lies on the others is as quick as ever.
//!
//! *Not supported:* `ASK`: while a slot is being moved, the keys that have gone already are misses.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use redis::{FromRedisValue, Pipeline, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::dial::{Dial, Link, Place};
use super::slots::Slots;
use super::{Lies, Peer, looking, nothing};
use crate::clock;
use crate::config::Node;
use crate::store::Tasks;
use crate::store::condition::{Condition, State};
use crate::store::connection::{Connection, Trial, Trouble, bounded};
use crate::store::health::ServerHealth;

/// How often the map is asked for while every node can be reached, and while one cannot.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Never more often than this, however much moves.
const LEAST: Duration = Duration::from_millis(50);

/// How long one node may take to answer with its map.
const ANSWER: Duration = Duration::from_millis(400);

/// The cluster.
pub(in crate::store) struct Cluster {
    seeds: Vec<Node>,
    dial: Dial,
    trial: Trial,
    tasks: Tasks,
    map: ArcSwap<Map>,
    outdated: Notify,
    /// What it is like before any node is known.
    unknown: Condition,
    /// What was counted for nodes that have left.
    errors: AtomicU64,
    timeouts: AtomicU64,
}

#[derive(Default)]
struct Map {
    slots: Slots,
    members: HashMap<Node, Member>,
}

#[derive(Clone)]
struct Member {
    connection: Arc<Connection>,
    /// Ends its task.
    end: CancellationToken,
}

impl Cluster {
    /// Knows nothing yet; its task finds out.
    pub(super) fn start(seeds: Vec<Node>, dial: Dial, trial: Trial, tasks: &Tasks) -> Arc<Self> {
        let cluster = Arc::new(Self {
            seeds,
            dial,
            trial,
            tasks: tasks.clone(),
            map: ArcSwap::default(),
            outdated: Notify::new(),
            unknown: Condition::default(),
            errors: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
        });
        tasks.spawn(Arc::clone(&cluster).keep());
        cluster
    }

    /// Whether every node that has slots can be asked.
    pub(super) fn is_whole(&self) -> bool {
        self.map.load().is_whole()
    }

    /// Whether the node that has this key can be written to.
    pub(super) fn may_write(&self, key: &str) -> bool {
        self.map.load().of(key).is_some_and(|(_, connection)| connection.may_write())
    }

    /// Notes what became of a write.
    pub(super) fn wrote<T>(&self, key: &str, answer: &Result<T, Trouble>) {
        if let Some((_, connection)) = self.map.load().of(key) {
            connection.wrote(answer);
        }
    }

    /// How each node is, by its name; one that is no node, while none is known.
    pub(super) fn health(&self) -> Vec<ServerHealth> {
        let map = self.map.load();
        let mut all: Vec<_> = map.members.values().map(|it| it.connection.health()).collect();
        if all.is_empty() {
            all.push(ServerHealth { name: "cluster".to_owned(), ..self.unknown.told() });
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    pub(super) fn errors(&self) -> u64 {
        let here = self.sum(|connection| connection.errors.value());
        here + self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn timeouts(&self) -> u64 {
        let here = self.sum(|connection| connection.timeouts.value());
        here + self.timeouts.load(Ordering::Relaxed)
    }

    fn sum(&self, count: impl Fn(&Connection) -> u64) -> u64 {
        self.map.load().members.values().map(|member| count(&member.connection)).sum()
    }

    /// The answer to all commands of `pipeline`, which are about `key`.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        key: &str,
        pipeline: &Pipeline,
        deadline: Instant,
    ) -> Result<T, Trouble> {
        let map = self.map.load_full();
        let (node, connection) = map.of(key).ok_or(Trouble::Down)?;
        match connection.query(pipeline, deadline).await {
            Err(trouble) => {
                let Some(moved) = moved(&trouble, node) else { return Err(trouble) };
                self.outdated.notify_one();
                // It has done nothing, so the other node may be asked as well. One that is not
                // connected is not waited for.
                let other = map.members.get(&moved).ok_or(trouble)?;
                other.connection.query(pipeline, deadline).await
            }
            answer => answer,
        }
    }

    /// What lies under each of `names`. Each is asked for by itself, all at once.
    pub(super) fn look<'a>(
        &'a self,
        names: &'a [String],
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = Vec<Lies>> + Send + 'a>> {
        Box::pin(async move {
            match names {
                [] => Vec::new(),
                [name] => {
                    let answer: Result<(Option<Bytes>,), _> =
                        self.query(name, &looking(names), deadline).await;
                    vec![answer.map_or_else(|trouble| nothing(&trouble), |(frame,)| Some(frame))]
                }
                _ => {
                    let (some, others) = names.split_at(names.len() / 2);
                    let (mut found, more) =
                        tokio::join!(self.look(some, deadline), self.look(others, deadline));
                    found.extend(more);
                    found
                }
            }
        })
    }

    /// A connection of the caller's own to the node that has `key`, by that node's own word.
    pub(super) async fn connect(&self, key: &str) -> Result<Link, Trouble> {
        let map = self.map.load_full();
        let (node, _) = map.of(key).ok_or(Trouble::Down)?;
        match self.connect_to(node, key).await {
            Err(trouble) => {
                let moved = moved(&trouble, node).ok_or(trouble)?;
                self.outdated.notify_one();
                self.connect_to(&moved, key).await
            }
            link => link,
        }
    }

    async fn connect_to(&self, node: &Node, key: &str) -> Result<Link, Trouble> {
        let link = self.dial.open(&Place::Node(node.clone()), &CancellationToken::new()).await?;
        let mut exists = redis::cmd("EXISTS");
        bounded(ANSWER, exists.arg(key).exec_async(&mut link.commands())).await?;
        Ok(link)
    }

    /// Keeps the map up to date, until the store ends.
    async fn keep(self: Arc<Self>) {
        let end = self.tasks.end.clone();
        let mut told = HashSet::new();
        let mut turn = 0;
        let keeping = async {
            loop {
                match self.ask_for_map(turn).await {
                    Ok(slots) => {
                        told.clear();
                        self.install(slots);
                    }
                    Err(error) => {
                        self.unknown.becomes(State::Open, Some(&error));
                        // Each reason once.
                        if told.insert(error.to_string()) {
                            warn!(%error, "cluster unreachable, serving without it");
                        }
                    }
                }
                turn += 1;
                sleep(LEAST).await;
                let pause = if self.is_whole() { LOOK } else { LOOK_AGAIN };
                // Either way it is time.
                drop(timeout(pause, self.outdated.notified()).await);
            }
        };
        end.run_until_cancelled(keeping).await;
    }

    /// The map, by the word of the first node that has one: of those that are connected, another one
    /// each time, and then of those that were named.
    async fn ask_for_map(&self, turn: usize) -> Result<Slots, Trouble> {
        let map = self.map.load_full();
        let mut members: Vec<_> =
            map.members.iter().filter(|(_, member)| member.connection.is_up()).collect();
        members.sort_by_key(|(node, _)| *node);
        let first = turn % members.len().max(1);
        members.rotate_left(first);
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let mut pipeline = redis::pipe();
        pipeline.add_command(command.clone());
        for (node, member) in members {
            let deadline = Instant::from_std(clock::instant() + ANSWER);
            match member.connection.query::<(Value,)>(&pipeline, deadline).await {
                Ok((answer,)) => match Slots::parse(&answer, node) {
                    Some(slots) if !slots.is_empty() => return Ok(slots),
                    _ => debug!(%node, "a node knows of no slots"),
                },
                Err(error) => debug!(%node, %error, "a node does not tell the map"),
            }
        }
        let mut trouble = Trouble::NoSlots;
        for node in &self.seeds {
            let asked = async {
                let place = Place::Node(node.clone());
                let link = self.dial.open(&place, &CancellationToken::new()).await?;
                bounded(ANSWER, command.query_async::<Value>(&mut link.commands())).await
            };
            match asked.await {
                Ok(answer) => match Slots::parse(&answer, node) {
                    Some(slots) if !slots.is_empty() => return Ok(slots),
                    _ => trouble = Trouble::NoSlots,
                },
                Err(error) => trouble = error,
            }
        }
        Err(trouble)
    }

    /// Connects to nodes that are new, and leaves those that have no slots any more.
    fn install(&self, slots: Slots) {
        let map = self.map.load_full();
        if map.slots == slots {
            return;
        }
        let mut members = HashMap::new();
        for node in slots.nodes() {
            if members.contains_key(node) {
                continue;
            }
            let member = map.members.get(node).cloned().unwrap_or_else(|| self.member(node));
            members.insert(node.clone(), member);
        }
        for (node, member) in &map.members {
            if !members.contains_key(node) {
                member.end.cancel();
                self.errors.fetch_add(member.connection.errors.value(), Ordering::Relaxed);
                self.timeouts.fetch_add(member.connection.timeouts.value(), Ordering::Relaxed);
            }
        }
        self.map.store(Arc::new(Map { slots, members }));
    }

    fn member(&self, node: &Node) -> Member {
        let peer = Peer::Server { dial: self.dial.clone(), place: Place::Node(node.clone()) };
        let member = Member {
            connection: Arc::new(Connection::new(peer, self.trial.clone())),
            end: self.tasks.end.child_token(),
        };
        self.tasks.spawn(Arc::clone(&member.connection).keep(member.end.clone()));
        member
    }
}

impl Map {
    /// The node that has a key.
    fn of(&self, key: &str) -> Option<(&Node, &Connection)> {
        let node = self.slots.node(key)?;
        Some((node, &*self.members.get(node)?.connection))
    }

    fn is_whole(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.connection.is_up())
    }
}

/// Where a key is, if the node that was asked says that it is elsewhere: `SLOT HOST:PORT`.
fn moved(trouble: &Trouble, asked: &Node) -> Option<Node> {
    let Trouble::Failed(error) = trouble else { return None };
    let errors = error.clone().into_server_errors()?;
    let moved = |error: &&(_, redis::ServerError)| error.1.kind() == Some(ServerErrorKind::Moved);
    let (_, error) = errors.iter().find(moved)?;
    let (host, port) = error.details()?.split(' ').nth(1)?.rsplit_once(':')?;
    // A node that does not know its name leaves it out: it is where the other one is.
    let host = if host.is_empty() { &asked.host } else { host };
    Some(Node { host: host.to_owned(), port: port.parse().ok()? })
}
