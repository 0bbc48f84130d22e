//! The ticks of the epoch by which guests are interrupted. They come while guests run, and rest
//! while none does: a thousand wake-ups a second would cost a hit one part in a hundred.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// The unit of guest time.
const TICK: Duration = Duration::from_millis(1);

/// After so many ticks in which no guest was seen, the thread rests.
const QUIET: u32 = 50;

/// The thread that ticks. It ends when this is dropped.
pub(super) struct Ticks {
    shared: Arc<Shared>,
    thread: Thread,
}

/// A guest runs. Until this is dropped there are ticks.
pub(super) struct Running(Arc<Ticks>);

#[derive(Default)]
struct Shared {
    guests: AtomicUsize,
    is_resting: AtomicBool,
    is_over: AtomicBool,
}

impl Ticks {
    /// Begins to tick.
    pub(super) fn start(engines: Vec<wasmtime::Engine>) -> io::Result<Arc<Self>> {
        let shared = Arc::<Shared>::default();
        let ticking = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("larder-ticks".to_owned())
            .spawn(move || ticking.tick(&engines))?;
        Ok(Arc::new(Self { shared, thread: thread.thread().clone() }))
    }

    /// A guest is about to run.
    pub(super) fn enter(self: &Arc<Self>) -> Running {
        // The thread says that it rests before it looks for guests, and guests are counted before
        // it is looked at: one of the two sees the other.
        self.shared.guests.fetch_add(1, Ordering::SeqCst);
        if self.shared.is_resting.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(Arc::clone(self))
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.shared.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn tick(&self, engines: &[wasmtime::Engine]) {
        let mut quiet = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            for engine in engines {
                engine.increment_epoch();
            }
            quiet = if self.is_idle() { quiet + 1 } else { 0 };
            if quiet < QUIET {
                continue;
            }
            self.is_resting.store(true, Ordering::SeqCst);
            while self.is_idle() && !self.is_over.load(Ordering::SeqCst) {
                thread::park();
            }
            self.is_resting.store(false, Ordering::SeqCst);
            quiet = 0;
        }
    }

    fn is_idle(&self) -> bool {
        self.guests.load(Ordering::SeqCst) == 0
    }
}
