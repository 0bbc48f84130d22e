//! What happens, step by step, and what must hold.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use larder::clock;
use larder::stored::Position;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::chance::Chance;
use crate::fault::Fault;
use crate::origin::{RESOURCES, TAGS, target};
use crate::stage::{Answer, GATEWAYS, Stage, ask, name};
use crate::truth::{Floor, Purge, Truth};

/// `max_lag`, and how late timers may go off on a busy machine.
const BOUND: Duration = Duration::from_secs(3);

/// A response that takes longer is checked later.
const AT_ONCE: Duration = Duration::from_millis(30);

/// Requests that have no response yet.
const MOST_OPEN: usize = 40;

/// The steps that a failure tells.
const TOLD: usize = 50;

/// A request that was sent, and what its response may be.
struct Sent {
    step: u64,
    gateway: usize,
    life: u32,
    resource: usize,
    floor: u64,
    answer: Option<Answer>,
}

pub(crate) struct Play {
    seed: u64,
    step: u64,
    chance: Chance,
    stage: Stage,
    truth: Truth,
    open: JoinSet<Sent>,
    /// Slow responses, and the steps at which they come.
    held: Vec<(u64, watch::Sender<bool>)>,
    /// What is wrong, and until which step.
    faults: Vec<(u64, Fault)>,
    told: VecDeque<String>,
    /// How often each thing happened.
    counts: BTreeMap<&'static str, u64>,
}

impl Play {
    pub(crate) async fn begin(seed: u64) -> Self {
        println!("LARDER_SEED={seed}");
        Self {
            seed,
            step: 0,
            chance: Chance(seed),
            stage: Stage::set().await,
            truth: Truth::default(),
            open: JoinSet::new(),
            held: Vec::new(),
            faults: Vec::new(),
            told: VecDeque::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(crate) async fn go_on(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step += 1;
            let step = self.step;
            self.held.retain(|(until, _)| *until > step);
            let over: Vec<_> = self.faults.extract_if(.., |(until, _)| *until <= step).collect();
            for (_, fault) in over {
                self.mend(fault).await;
            }
            self.take_step().await;
            while let Some(sent) = self.open.try_join_next() {
                self.check(sent.unwrap());
            }
            while self.open.len() > MOST_OPEN {
                let sent = self.open.join_next().await.unwrap();
                self.check(sent.unwrap());
            }
        }
    }

    /// Mends everything, and sees that all is well then.
    pub(crate) async fn end(&mut self) {
        for (_, fault) in std::mem::take(&mut self.faults) {
            self.mend(fault).await;
        }
        self.held.clear();
        while let Some(sent) = self.open.join_next().await {
            self.check(sent.unwrap());
        }
        let begun = clock::instant();
        // A gateway that was cut off for long may not count as alive yet.
        let is_heard_by_all = |told: &Value| {
            told["complete"] == true
                && told["gateways"].as_array().is_some_and(|all| all.len() == GATEWAYS)
        };
        while !is_heard_by_all(&self.call(0, "POST", "/clear?wait=1s", "").await.1) {
            assert!(begun.elapsed() < 10 * BOUND, "{}", self.failure("the fleet never recovered"));
        }
        for gateway in 0..GATEWAYS {
            for resource in 0..RESOURCES {
                let floor = self.stage.origin.version(resource);
                let sent = self.get(gateway, resource, floor).await;
                self.check(sent);
            }
        }
        println!("{} steps: {:?}", self.step, self.counts);
        for what in ["hit", "at its floor", "purge", "purge without Redis", "write"] {
            assert!(self.counts.contains_key(what), "it never came to a {what}");
        }
    }

    async fn take_step(&mut self) {
        let awake = self.stage.awake();
        let gateway = self.chance.of(&awake);
        let elsewhere = self.elsewhere(gateway, &awake);
        let resource = self.chance.below(RESOURCES);
        match self.chance.below(1000) {
            0..680 => self.ask(gateway, resource).await,
            680..740 => {
                // The next response at the origin is slow, whoever asks for it.
                let release = self.stage.origin.hold(resource);
                self.held.push((self.step + self.chance.while_steps() / 5, release));
                self.ask(gateway, resource).await;
            }
            740..800 => self.write(elsewhere, resource).await,
            800..890 => self.purge(elsewhere, resource).await,
            890..940 => self.read_receipts(gateway).await,
            940..985 => self.read_position(gateway).await,
            _ => self.break_something(gateway).await,
        }
    }

    /// A gateway to invalidate at. One that is cut off is let be for the most part: what it applied itself
    /// would leave it nothing that is old.
    fn elsewhere(&mut self, gateway: usize, awake: &[usize]) -> usize {
        let is_cut = |at: usize| self.faults.iter().any(|(_, fault)| *fault == Fault::CutWay(at));
        let others: Vec<_> = awake.iter().copied().filter(|at| !is_cut(*at)).collect();
        if !is_cut(gateway) || others.is_empty() || self.chance.is(5) {
            return gateway;
        }
        self.chance.of(&others)
    }

    async fn ask(&mut self, gateway: usize, resource: usize) {
        let now = clock::instant();
        let floor = self.truth.floor(gateway, resource, now, BOUND);
        self.tell(&format!("GET {resource} at {gateway}, not below {floor}"));
        let sending = self.get(gateway, resource, floor);
        let task = self.open.spawn(sending);
        let begun = clock::instant();
        while !task.is_finished() && begun.elapsed() < AT_ONCE {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    fn get(
        &self,
        gateway: usize,
        resource: usize,
        floor: u64,
    ) -> impl Future<Output = Sent> + Send + use<> {
        let (slot, step) = (&self.stage.gateways[gateway], self.step);
        let (address, life) = (slot.address(), slot.life);
        async move {
            let answer = ask(address, "GET", &target(resource), "").await;
            Sent { step, gateway, life, resource, floor, answer }
        }
    }

    /// What must hold for every response.
    fn check(&mut self, sent: Sent) {
        let Sent { step, gateway, life, resource, floor, answer } = sent;
        let what = format!("GET {resource} at {gateway} in step {step}");
        let Some(Answer { status, cache_status, body }) = answer else {
            let slot = &self.stage.gateways[gateway];
            let has_ended = slot.life != life || !slot.is_awake();
            assert!(has_ended, "{}", self.failure(&format!("{what} broke off")));
            return;
        };
        let text = String::from_utf8_lossy(&body);
        assert!(status == 200, "{}", self.failure(&format!("{what} got {status}: {text}")));
        let version = text.parse::<u64>().unwrap();
        if version < floor {
            let why = format!("{what} got version {version}, not {floor}: {cache_status}");
            panic!("{}", self.failure(&why));
        }
        if cache_status.contains("hit") {
            self.count("hit");
            if version == floor {
                self.count("at its floor");
            }
        }
    }

    async fn write(&mut self, gateway: usize, resource: usize) {
        self.tell(&format!("PUT {resource} at {gateway}"));
        self.count("write");
        let address = self.stage.gateways[gateway].address();
        let answer = ask(address, "PUT", &target(resource), "").await;
        let status = answer.map(|answer| answer.status);
        assert!(status == Some(204), "{}", self.failure(&format!("a write got {status:?}")));
        let mut floor = Floor::default();
        floor[resource] = self.stage.origin.version(resource);
        self.truth.wrote(gateway, &floor);
    }

    async fn purge(&mut self, gateway: usize, resource: usize) {
        let tag = resource % TAGS;
        let soft = self.chance.is(40);
        let wanted =
            |member: &str, text: String| json!({ member: [text], "soft": soft }).to_string();
        let url = format!("http://{}{}", crate::support::gateway::FLEET, target(resource));
        let query = if soft { "?soft=true" } else { "" };
        let kind = self.chance.of(&["tag", "key", "url", "pattern", "route", "clear", "DELETE"]);
        let (method, call, body) = match kind {
            "tag" => ("POST", "/purge".to_owned(), wanted("tags", format!("t{tag}"))),
            "key" => ("POST", "/purge".to_owned(), wanted("keys", format!("p/{resource}"))),
            "url" => ("POST", "/purge".to_owned(), wanted("urls", url)),
            "pattern" => ("POST", "/purge".to_owned(), wanted("patterns", format!("*/{resource}"))),
            "route" => ("POST", "/purge".to_owned(), wanted("routes", "all".to_owned())),
            "clear" => ("POST", format!("/clear{query}"), String::new()),
            _ => ("DELETE", format!("/tag/t{tag}{query}"), String::new()),
        };
        let mut floor = Floor::default();
        for (other, floor) in floor.iter_mut().enumerate() {
            let is_covered = match kind {
                "tag" | "DELETE" => other % TAGS == tag,
                "route" | "clear" => true,
                _ => other == resource,
            };
            if is_covered {
                if self.chance.is(70) {
                    self.stage.origin.change(other);
                }
                *floor = self.stage.origin.version(other);
            }
        }
        self.tell(&format!("purge at {gateway}: {method} {call} {body}, from now on {floor:?}"));
        let (status, told) = self.call(gateway, method, &call, &body).await;
        let shared = told["shared"] == true;
        let expected = if shared { 200 } else { 202 };
        assert!(status == expected, "{}", self.failure(&format!("a purge got {status}: {told}")));
        self.tell(&format!("  {told}"));
        self.count(if shared { "purge" } else { "purge without Redis" });
        let id = told["id"].as_str().unwrap().to_owned();
        self.truth.purged(gateway, Purge { id, floor }, shared, clock::instant());
    }

    /// Calls the admin listener, which answers whatever is wrong elsewhere.
    async fn call(&self, gateway: usize, method: &str, call: &str, body: &str) -> (u16, Value) {
        let answer = self.stage.gateways[gateway].admin(method, call, body).await;
        answer.unwrap_or_else(|| panic!("{}", self.failure(&format!("no answer to {call}"))))
    }

    async fn read_receipts(&mut self, gateway: usize) {
        let count = self.truth.purges.len();
        if count == 0 {
            return;
        }
        let id = self.truth.purges[self.chance.below(count)].id.clone();
        let (_, told) = self.call(gateway, "GET", &format!("/purge/{id}"), "").await;
        self.tell(&format!("receipts of {id} at {gateway}: {}", told["gateways"]));
        let gateways = told["gateways"].as_array().into_iter().flatten();
        let applied: Vec<_> = gateways.filter(|told| told["applied"] == true).collect();
        for other in
            (0..GATEWAYS).filter(|other| applied.iter().any(|it| it["name"] == name(*other)))
        {
            self.truth.applied(other, &id);
            self.count("receipt");
        }
    }

    async fn read_position(&mut self, gateway: usize) {
        let (_, stats) = self.call(gateway, "GET", "/stats", "").await;
        let position = &stats["store"]["log_position"];
        self.tell(&format!("{gateway} has reached {position}: {}", stats["store"]["l2"]));
        let position: Position = position.as_str().unwrap().parse().unwrap();
        self.truth.reached(gateway, position);
    }

    async fn break_something(&mut self, gateway: usize) {
        let fault = self.chance.of(&Fault::all(gateway));
        let may_be = match fault {
            // For the most part, the others can still purge for all.
            Fault::CutWay(_) => {
                let is_cut = |cut: &Fault| matches!(cut, Fault::CutWay(_));
                let cut = self.faults.iter().filter(|(_, other)| is_cut(other)).count();
                let is_new = self.faults.iter().all(|(_, other)| *other != fault);
                is_new && (cut == 0 || self.chance.is(10))
            }
            _ if fault.is_of_gateway() => self.stage.awake().len() > 1,
            _ => !self.faults.iter().any(|(_, other)| other.takes_redis_away()),
        };
        if !may_be {
            return;
        }
        let share = match fault {
            // No purge reaches anyone.
            _ if fault.takes_redis_away() => 5,
            // Its clients wait.
            Fault::PauseGateway(_) => 3,
            // Nobody asks it anything.
            Fault::KillGateway(_) | Fault::EndGateway(_) => 10,
            _ => 1,
        };
        let until = self.step + self.chance.while_steps() / share;
        self.tell(&format!("{} until {until}", fault.name()));
        self.count(fault.name());
        self.stage.strike(fault).await;
        if let Fault::KillGateway(gateway) | Fault::EndGateway(gateway) = fault {
            self.truth.ended(gateway);
        }
        self.faults.push((until, fault));
    }

    async fn mend(&mut self, fault: Fault) {
        self.tell(&format!("{} is over", fault.name()));
        self.stage.mend(fault).await;
    }

    fn tell(&mut self, what: &str) {
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        self.told.push_back(format!("{}: {what}", self.step));
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn failure(&self, why: &str) -> String {
        let mut text = format!("LARDER_SEED={} step {}: {why}", self.seed, self.step);
        for line in &self.told {
            write!(text, "\n  {line}").unwrap();
        }
        text
    }
}
