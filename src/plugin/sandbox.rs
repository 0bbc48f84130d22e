//! One call of a plugin: a fresh instance, with limits on time, memory, and what is copied out of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentNamedList, ComponentType, InstancePre, Lift, Lower};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use super::bindings::{log, types};
use super::counters::Counters;
use super::exports::{Export, Exports};
use super::failure::Failure;
use super::lane::{Lane, Share};
use super::text;
use super::trial::{Line, Watched};
use crate::clock;

// What one plugin may be made of. JavaScript plugins have 13 core instances and 3 memories.
pub(super) const MOST_INSTANCES: usize = 32;
pub(super) const MOST_MEMORIES: usize = 4;
pub(super) const MOST_TABLES: usize = 4;
pub(super) const MOST_TABLE_ELEMENTS: usize = 20_000;
/// Of one memory, in octets: the most that a policy's `memory` may be.
pub(super) const MOST_MEMORY: usize = 64 << 20;

/// The epoch ticks that a guest may run before it first gives its thread back: between one and two
/// milliseconds, so that a short call is never moved.
const TICKS_AT_ONCE: u64 = 2;

/// The octets copied out of a guest by one call. Answers are far smaller, but a list may repeat the
/// same octets a thousand times.
const MOST_COPIED: usize = 256 << 10;

/// The log lines kept of one call, and the length of each in octets.
const MOST_LINES: u32 = 16;
const LONGEST_LINE: usize = 1024;

/// A plugin ready to be instantiated, and what every call of it is given.
#[derive(Clone)]
pub(super) struct Sandbox {
    pub(super) policy: Arc<str>,
    pub(super) instance: InstancePre<State>,
    pub(super) memory: usize,
    pub(super) lane: Arc<Lane>,
    pub(super) share: Share,
    pub(super) counters: Arc<Counters>,
}

impl Sandbox {
    /// Asks the plugin. `check` holds the bounds of the contract.
    pub(super) async fn call<Arguments, Answer>(
        self: &Arc<Self>,
        export: Export<Arguments, Answer>,
        arguments: Arguments,
        time: Duration,
        check: fn(&Answer) -> Result<(), Failure>,
    ) -> Result<Answer, Failure>
    where
        Arguments: ComponentNamedList + Lower + Send + 'static,
        Answer: ComponentType + Lift + Send + 'static,
    {
        let sandbox = Arc::clone(self);
        let call = async move {
            let started = clock::instant();
            let (result, state) = sandbox.run(export, arguments, started + time).await;
            let result = result.and_then(|answer| check(&answer).map(|()| answer));
            sandbox.counters.call(started.elapsed(), result.is_err(), state.dropped_lines);
            result
        };
        self.lane.run(&self.share, Box::pin(call)).await.unwrap_or_else(|| {
            self.counters.call(Duration::ZERO, true, 0);
            Err(Failure::Busy)
        })
    }

    /// One whose calls are not counted, for an operator who asks what the plugin would say.
    pub(super) fn uncounted(&self) -> Arc<Self> {
        Arc::new(Self { counters: Arc::default(), ..self.clone() })
    }

    /// The call itself, and what it left behind.
    pub(super) async fn run<Arguments, Answer>(
        &self,
        export: Export<Arguments, Answer>,
        arguments: Arguments,
        deadline: Instant,
    ) -> (Result<Answer, Failure>, State)
    where
        Arguments: ComponentNamedList + Lower + Send + 'static,
        Answer: ComponentType + Lift + Send + 'static,
    {
        self.run_in(self.store(deadline, None), export, arguments).await
    }

    /// A call to its end on this thread, watched.
    pub(super) fn watch<Arguments, Answer>(
        &self,
        export: Export<Arguments, Answer>,
        arguments: Arguments,
        time: Duration,
        check: fn(&Answer) -> Result<(), Failure>,
    ) -> Watched<Answer>
    where
        Arguments: ComponentNamedList + Lower + Send + 'static,
        Answer: ComponentType + Lift + Send + 'static,
    {
        let started = clock::instant();
        let store = self.store(started + time, Some(Vec::new()));
        let (result, state) = self.lane.finish(self.run_in(store, export, arguments));
        Watched {
            spent: started.elapsed(),
            answer: result.and_then(|answer| check(&answer).map(|()| answer)),
            memory: self.memory.saturating_sub(state.memory),
            lines: state.kept.unwrap_or_default(),
            dropped_lines: state.dropped_lines,
        }
    }

    async fn run_in<Arguments, Answer>(
        &self,
        mut store: Store<State>,
        export: Export<Arguments, Answer>,
        arguments: Arguments,
    ) -> (Result<Answer, Failure>, State)
    where
        Arguments: ComponentNamedList + Lower + Send + 'static,
        Answer: ComponentType + Lift + Send + 'static,
    {
        let result = async {
            let instance = self.instance.instantiate_async(&mut store).await?;
            let function = export.function(&mut store, &instance)?;
            let (answer,) = function.call_async(&mut store, arguments).await?;
            wasmtime::Result::Ok(answer)
        }
        .await;
        let state = store.into_data();
        if state.dropped_lines > 0 {
            tracing::debug!(
                target: "larder::policy", policy = &*state.policy, lines = state.dropped_lines,
                "log lines dropped"
            );
        }
        let result = match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(text)) => Err(Failure::refused(&text)),
            Err(error) => Err(Failure::of(&error, state.starved)),
        };
        (result, state)
    }

    /// Whether an instance can be made, and its exports have the types of the contract. An error of
    /// the latter is the inner one.
    pub(super) async fn check(
        &self,
        exports: &Exports,
        deadline: Instant,
    ) -> Result<wasmtime::Result<()>, Failure> {
        let mut store = self.store(deadline, None);
        match self.instance.instantiate_async(&mut store).await {
            Ok(instance) => Ok(exports.check(&mut store, &instance)),
            Err(error) => Err(Failure::of(&error, store.data().starved)),
        }
    }

    /// A store for one call. Log lines are `kept`, or go to the gateway's log.
    fn store(&self, deadline: Instant, kept: Option<Vec<Line>>) -> Store<State> {
        let state = State {
            policy: Arc::clone(&self.policy),
            kept,
            memory: self.memory,
            starved: false,
            lines: 0,
            dropped_lines: 0,
        };
        let mut store = Store::new(self.instance.engine(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(MOST_COPIED);
        store.set_epoch_deadline(TICKS_AT_ONCE);
        store.epoch_deadline_callback(move |_| {
            let over = clock::instant() >= deadline;
            Ok(if over { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });
        store
    }
}

/// The host's side of one call.
pub(super) struct State {
    policy: Arc<str>,
    kept: Option<Vec<Line>>,
    /// What the guest may still have, in octets.
    memory: usize,
    /// It was denied some.
    starved: bool,
    lines: u32,
    dropped_lines: u64,
}

impl State {
    fn grant(&mut self, octets: usize) -> bool {
        match self.memory.checked_sub(octets) {
            Some(left) => self.memory = left,
            None => self.starved = true,
        }
        !self.starved
    }
}

/// All memories and tables of a plugin share the policy's `memory`.
impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grant(desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // An element is a pointer.
        Ok(self.grant(desired.saturating_sub(current).saturating_mul(size_of::<usize>())))
    }

    fn instances(&self) -> usize {
        MOST_INSTANCES
    }

    fn tables(&self) -> usize {
        MOST_TABLES
    }

    fn memories(&self) -> usize {
        MOST_MEMORIES
    }
}

impl types::Host for State {}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) {
        if self.lines == MOST_LINES {
            self.dropped_lines += 1;
            return;
        }
        self.lines += 1;
        let message = text::printable(&message, LONGEST_LINE);
        if let Some(kept) = &mut self.kept {
            kept.push(Line { level: word(level), message });
            return;
        }
        let policy = &*self.policy;
        match level {
            log::Level::Debug => tracing::debug!(target: "larder::policy", policy, "{message}"),
            log::Level::Info => tracing::info!(target: "larder::policy", policy, "{message}"),
            log::Level::Warn => tracing::warn!(target: "larder::policy", policy, "{message}"),
        }
    }
}

fn word(level: log::Level) -> &'static str {
    match level {
        log::Level::Debug => "debug",
        log::Level::Info => "info",
        log::Level::Warn => "warn",
    }
}
