//! Sentinels: which server is the master, and when it is another one.
//!
//! All sentinels are asked at once, and the answer of the latest fail-over counts. A server is
//! taken for the master only if it says so itself. What was connected before is ended as soon as
//! any sentinel tells of another master: by its message, or by its answer when it is asked for a
//! sign of life. A former master that is cut off from them would take writes that are lost later.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{FromRedisValue, PushInfo, PushKind, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::dial::{Dial, Link, Place};
use crate::clock;
use crate::config::Node;
use crate::store::Tasks;
use crate::store::connection::{Trouble, bounded};

/// How long all sentinels are waited for. Those that run answer in a millisecond.
const ANSWERS: Duration = Duration::from_millis(300);

/// How often each is asked who the master is.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The channel on which they tell of another master.
const CHANNEL: &str = "+switch-master";

/// The sentinels, and what they said last.
pub(in crate::store) struct Sentinels {
    nodes: Vec<Node>,
    master: String,
    /// To the sentinels, and to the master.
    asking: Dial,
    serving: Dial,
    reign: Mutex<Reign>,
}

/// The time for which one server is the master.
struct Reign {
    of: Option<Said>,
    /// Ends the connections to it.
    end: CancellationToken,
}

/// What a sentinel says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    /// Which fail-over made it the master: a later one has a higher number.
    epoch: u64,
    node: Node,
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by its sentinels", self.master)
    }
}

impl Sentinels {
    pub(super) fn new(nodes: Vec<Node>, master: String, asking: Dial, serving: Dial) -> Self {
        let reign = Mutex::new(Reign { of: None, end: CancellationToken::new() });
        Self { nodes, master, asking, serving, reign }
    }

    /// Listens to each sentinel until the store ends.
    pub(super) fn start(self: &Arc<Self>, tasks: &Tasks) {
        for node in &self.nodes {
            let (sentinels, node, end) = (Arc::clone(self), node.clone(), tasks.end.clone());
            tasks.spawn(async move { end.run_until_cancelled(sentinels.listen(node)).await });
        }
    }

    /// A connection to the master.
    pub(super) async fn connect(&self) -> Result<Link, Trouble> {
        let said = self.ask_all().await.ok_or(Trouble::NoMaster)?;
        let end = {
            let mut reign = self.reign();
            reign.begin(&said);
            reign.end.clone()
        };
        let link = self.serving.open(&Place::Node(said.node), &end).await?;
        let role = async { redis::cmd("ROLE").query_async(&mut link.commands()).await };
        let role: Vec<Value> = bounded(ANSWERS, role).await?;
        let is_master = role.first().and_then(|role| String::from_redis_value_ref(role).ok());
        if is_master.as_deref() == Some("master") { Ok(link) } else { Err(Trouble::NotMaster) }
    }

    /// The answer of the latest fail-over, out of those that come in time.
    async fn ask_all(&self) -> Option<Said> {
        let mut asking = JoinSet::new();
        for node in &self.nodes {
            let (dial, node, master) = (self.asking.clone(), node.clone(), self.master.clone());
            let runtime = dial.runtime.clone();
            asking.spawn_on(
                async move {
                    let link = dial.open(&Place::Node(node), &CancellationToken::new()).await?;
                    ask(&link, &master).await
                },
                &runtime,
            );
        }
        let deadline = Instant::from_std(clock::instant() + ANSWERS);
        let mut latest = None;
        while let Ok(Some(said)) = timeout_at(deadline, asking.join_next()).await {
            match said {
                Ok(Ok(said)) => latest = latest.max(Some(said)),
                Ok(Err(error)) => debug!(%error, "a sentinel does not tell the master"),
                Err(error) => debug!(%error, "a sentinel was not asked"),
            }
        }
        latest
    }

    async fn listen(self: Arc<Self>, node: Node) {
        let place = Place::Node(node);
        loop {
            if let Err(error) = self.listen_to(&place).await {
                debug!(%error, sentinel = %place, "a sentinel is not heard");
            }
            sleep(SIGN_OF_LIFE).await;
        }
    }

    /// Until the connection breaks, or no answer comes.
    async fn listen_to(self: &Arc<Self>, place: &Place) -> Result<(), Trouble> {
        let sentinels = Arc::downgrade(self);
        let pushed = move |push: PushInfo| {
            let sentinels = sentinels.upgrade().ok_or(())?;
            if push.kind == PushKind::Message
                && let [_channel, message] = &*push.data
                && let Ok(message) = String::from_redis_value_ref(message)
            {
                sentinels.told(&message);
            }
            Ok::<(), ()>(())
        };
        // Subscribing on a connection that also takes commands needs RESP3.
        let dial = Dial { resp3: true, ..self.asking.clone() };
        let link = dial.open_listening(place, &CancellationToken::new(), pushed).await?;
        let mut commands = link.commands();
        bounded(ANSWERS, commands.subscribe(CHANNEL)).await?;
        loop {
            let said = match timeout(ANSWERS, ask(&link, &self.master)).await {
                Ok(said) => said?,
                Err(_) => return Err(Trouble::Timeout),
            };
            self.reign().learn(&said);
            sleep(SIGN_OF_LIFE).await;
        }
    }

    /// `NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT`.
    fn told(&self, message: &str) {
        let mut words = message.split(' ');
        if words.next() != Some(&self.master) {
            return;
        }
        let mut words = words.skip(2);
        let (Some(host), Some(port)) = (words.next(), words.next()) else { return };
        let mut reign = self.reign();
        let is_known = reign
            .of
            .as_ref()
            .is_some_and(|it| it.node.host == host && it.node.port.to_string() == port);
        if !is_known {
            reign.end();
        }
    }

    fn reign(&self) -> MutexGuard<'_, Reign> {
        self.reign.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reign {
    /// What is connected from now on is connected to this one.
    fn begin(&mut self, said: &Said) {
        self.learn(said);
        self.of = Some(said.clone());
    }

    /// Ends it, if a later fail-over made another server the master.
    fn learn(&mut self, said: &Said) {
        if self.of.as_ref().is_some_and(|of| said.epoch > of.epoch && said.node != of.node) {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(of) = self.of.take() {
            info!(former = %of.node, "sentinels name another master");
        }
        std::mem::take(&mut self.end).cancel();
    }
}

/// `SENTINEL MASTER` answers pairs of names and values.
async fn ask(link: &Link, master: &str) -> Result<Said, Trouble> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("MASTER").arg(master);
    let said: HashMap<String, String> = command.query_async(&mut link.commands()).await?;
    let number = |name: &str| said.get(name)?.parse().ok();
    let node =
        said.get("ip").cloned().zip(number("port").and_then(|port: u64| port.try_into().ok()));
    match (node, number("config-epoch")) {
        (Some((host, port)), Some(epoch)) => Ok(Said { epoch, node: Node { host, port } }),
        _ => Err(Trouble::Nonsense),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(epoch: u64, port: u16) -> Said {
        Said { epoch, node: Node { host: "h".to_owned(), port } }
    }

    #[test]
    fn a_reign_ends_with_a_later_fail_over() {
        for (first, then, ends) in [
            (said(1, 1), said(1, 1), false),
            // The others have not heard of it yet, or disagree.
            (said(2, 2), said(1, 1), false),
            (said(1, 1), said(1, 2), false),
            // A fail-over that was undone.
            (said(1, 1), said(2, 1), false),
            (said(1, 1), said(2, 2), true),
        ] {
            let mut reign = Reign { of: None, end: CancellationToken::new() };
            reign.begin(&first);
            let end = reign.end.clone();
            reign.learn(&then);
            assert_eq!(end.is_cancelled(), ends, "{first:?}, then {then:?}");
            assert!(!reign.end.is_cancelled());
        }
    }
}
