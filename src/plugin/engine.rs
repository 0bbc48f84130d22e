//! The engine that compiles and runs plugins: one for the process.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::{Component, HasSelf, InstancePre, Linker};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use super::amount;
use super::bindings;
use super::compiled::Compiled;
use super::counters::{self, Counters};
use super::lane::Lane;
use super::load::LoadError;
use super::sandbox::{
    MOST_INSTANCES, MOST_MEMORIES, MOST_MEMORY, MOST_TABLE_ELEMENTS, MOST_TABLES, State,
};

/// How many calls may be slow at once; a fourth of them of one policy.
const SLOW: usize = 64;

/// Instances for loading policies while requests are served.
const LOADING: usize = 8;

/// How deep a guest may call. 128 KiB was enough even for interpreters of JavaScript and Python.
const GUEST_STACK: usize = 256 << 10;

/// The stack that guest and host share during a call; the log function runs on what is left.
const STACK: usize = 1 << 20;

/// Memory and table octets that a pool slot keeps between calls. Up to here it is written over, which
/// costs less than to give it back and get it anew.
const KEPT: usize = 256 << 10;

/// The frames of a plugin's backtrace that a failure shows.
const FRAMES: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not zero");

/// Compiles and runs plugins. Its threads start with the first policy, and end when the engine and
/// all its policies were dropped.
pub struct Engine {
    /// For any plugin.
    large: Machine,
    /// For those that begin with so little memory that all of it is written over after a call in
    /// less time than the system takes to say which pages were written to.
    small: Option<Machine>,
    slow: usize,
    lane: Mutex<Option<Arc<Lane>>>,
    counters: counters::ByName,
    compiled: Option<Compiled>,
}

/// Instances, and what they import.
struct Machine {
    wasmtime: wasmtime::Engine,
    linker: Linker<State>,
}

impl Engine {
    /// An engine for so many threads that serve requests.
    ///
    /// # Errors
    /// [`LoadError::Machine`], if this processor or system cannot run plugins at all.
    pub fn new(workers: usize) -> Result<Arc<Self>, LoadError> {
        Self::with_compiled(workers, None)
    }

    /// An engine that keeps compiled code in this folder, unless others might write to it.
    ///
    /// # Errors
    /// As for [`Engine::new`].
    pub fn with_compiled(workers: usize, folder: Option<&Path>) -> Result<Arc<Self>, LoadError> {
        let at_once = SLOW + LOADING + workers;
        let engines = pools(at_once).or_else(|error| {
            tracing::warn!(error = %error, "no address space for a pool of instances, policy calls take longer");
            wasmtime::Engine::new(&on_demand()).map(|engine| (engine, None))
        });
        Self::build(engines, SLOW, folder.and_then(open))
    }

    /// An engine with so few slow calls, for tests.
    #[cfg(test)]
    pub(super) fn with_slow(slow: usize) -> Result<Arc<Self>, LoadError> {
        Self::build(pools(slow + LOADING), slow, None)
    }

    /// What compiles, for tests.
    #[cfg(test)]
    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.large.wasmtime
    }

    /// An engine without a pool, for tests.
    #[cfg(test)]
    pub(super) fn without_pool() -> Result<Arc<Self>, LoadError> {
        let engine = wasmtime::Engine::new(&on_demand());
        Self::build(engine.map(|engine| (engine, None)), SLOW, None)
    }

    fn build(
        engines: wasmtime::Result<(wasmtime::Engine, Option<wasmtime::Engine>)>,
        slow: usize,
        compiled: Option<Compiled>,
    ) -> Result<Arc<Self>, LoadError> {
        let unfit = |error: wasmtime::Error| LoadError::Machine(format!("{error:#}"));
        let (large, small) = engines.map_err(unfit)?;
        Ok(Arc::new(Self {
            large: Machine::new(large).map_err(unfit)?,
            small: small.map(Machine::new).transpose().map_err(unfit)?,
            slow,
            lane: Mutex::default(),
            counters: counters::ByName::default(),
            compiled,
        }))
    }

    /// The component of these octets, which nobody has checked yet.
    pub(super) fn component(&self, octets: &[u8]) -> wasmtime::Result<Component> {
        let small = self.small.as_ref().filter(|_| amount::is_small(octets));
        let machine = small.unwrap_or(&self.large);
        match &self.compiled {
            Some(compiled) => compiled.component(&machine.wasmtime, octets),
            None => Component::new(&machine.wasmtime, octets),
        }
    }

    /// A component with its imports, ready for calls.
    pub(super) fn instance(&self, component: &Component) -> wasmtime::Result<InstancePre<State>> {
        let is_of =
            |machine: &&Machine| wasmtime::Engine::same(component.engine(), &machine.wasmtime);
        let small = self.small.as_ref().filter(is_of);
        small.unwrap_or(&self.large).linker.instantiate_pre(component)
    }

    /// Where calls of the policy of this name are counted.
    pub(super) fn counters(&self, policy: &str) -> Arc<Counters> {
        self.counters.of(policy)
    }

    /// Where calls run; started when first asked for.
    pub(super) fn lane(&self) -> io::Result<Arc<Lane>> {
        let mut lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = &*lane {
            return Ok(Arc::clone(lane));
        }
        let machines = [&self.large].into_iter().chain(&self.small);
        let engines = machines.map(|machine| machine.wasmtime.clone()).collect();
        let started = Arc::new(Lane::start(engines, self.slow)?);
        Ok(Arc::clone(lane.insert(started)))
    }
}

impl Machine {
    fn new(wasmtime: wasmtime::Engine) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&wasmtime);
        bindings::Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
        Ok(Self { wasmtime, linker })
    }
}

/// The folder for compiled code, if it is safe.
fn open(folder: &Path) -> Option<Compiled> {
    let opened = Compiled::open(folder);
    if let Err(why) = &opened {
        tracing::warn!(
            folder = %folder.display(), %why,
            "compiled plugins are not kept, each start takes longer: make it a folder of this user's \
             that nobody else may write to, or set `[server] compiled_cache` to another, or to \"off\""
        );
    }
    opened.ok()
}

/// What any engine here has: answers that depend on the input alone, and ticks.
fn deterministic() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .concurrency_support(false)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(STACK)
        .wasm_backtrace_max_frames(Some(FRAMES))
        // A plugin's debug information would be read anew for each frame of each trap, outside of all
        // limits.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// For large plugins and for small ones. Where the address space has no room for both, one does for all.
fn pools(at_once: usize) -> wasmtime::Result<(wasmtime::Engine, Option<wasmtime::Engine>)> {
    let large = wasmtime::Engine::new(&pooled(at_once, MOST_MEMORIES, Enabled::Auto))?;
    let small = wasmtime::Engine::new(&pooled(at_once, 1, Enabled::No));
    Ok((large, small.ok()))
}

/// Instances in slots that were reserved beforehand: 5 µs for a fresh one instead of 50. `scans` says
/// whether the system is asked which pages were written to.
fn pooled(at_once: usize, memories: usize, scans: Enabled) -> Config {
    let calls = u32::try_from(at_once).unwrap_or(u32::MAX);
    let most = |of_each: usize| u32::try_from(of_each).unwrap_or(u32::MAX);
    let all = |of_each: usize| calls.saturating_mul(most(of_each));
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(calls)
        .total_core_instances(all(MOST_INSTANCES))
        .total_memories(all(memories))
        .total_tables(all(MOST_TABLES))
        .total_stacks(calls)
        .max_core_instances_per_component(most(MOST_INSTANCES))
        .max_memories_per_component(most(memories))
        .max_tables_per_component(most(MOST_TABLES))
        .max_memories_per_module(most(memories))
        .max_tables_per_module(most(MOST_TABLES))
        .max_memory_size(MOST_MEMORY)
        .table_elements(MOST_TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT)
        .table_keep_resident(KEPT)
        .pagemap_scan(scans);
    let mut config = deterministic();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Little address space: for processes with a limit on it (`ulimit -v`).
fn on_demand() -> Config {
    let mut config = deterministic();
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(16 << 20)
        .memory_reservation_for_growth(1 << 20)
        .memory_guard_size(64 << 10);
    config
}
