//! Where guests run: a call is polled once where it was made, and if that was not enough it moves to
//! one thread that goes on with all slow calls in turn.
//!
//! The gateway has one thread for each processor, so a plugin that loops must not hold one. A guest
//! gives its thread back at every tick of the epoch; ordinary calls take microseconds and never
//! see one.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use super::ticks::Ticks;

/// A call under way. Pending means that its guest used up its ticks, so it can always go on.
pub(super) type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The thread for slow calls, and the ticks that interrupt guests. Both end after it was dropped, as
/// soon as no slow call is left.
pub(super) struct Lane {
    calls: Sender<Call<()>>,
    permits: Arc<Semaphore>,
    ticks: Arc<Ticks>,
}

impl Lane {
    /// Starts both. At most `slow` calls are slow at once.
    pub(super) fn start(engine: wasmtime::Engine, slow: usize) -> io::Result<Self> {
        let (calls, waiting) = channel();
        let ticks = Ticks::start(engine)?;
        thread::Builder::new().name("larder-slow".to_owned()).spawn(move || go_on(&waiting))?;
        Ok(Self { calls, permits: Arc::new(Semaphore::new(slow)), ticks })
    }

    /// The result of `call`; none if it was slow and too many were. When this future is dropped, a
    /// slow call runs on to its own end or limit.
    pub(super) async fn run<T: Send + 'static>(&self, mut call: Call<T>) -> Option<T> {
        let running = self.ticks.enter();
        if let Poll::Ready(result) = poll(call.as_mut()) {
            return Some(result);
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let (answer, answered) = oneshot::channel();
        let slow = Box::pin(async move {
            let result = call.await;
            drop((permit, running));
            // Whoever asked may have gone.
            drop(answer.send(result));
        });
        self.calls.send(slow).ok()?;
        answered.await.ok()
    }

    /// Runs a call to its end on this thread.
    pub(super) fn finish<T>(&self, call: impl Future<Output = T>) -> T {
        let _running = self.ticks.enter();
        let mut call = pin!(call);
        loop {
            if let Poll::Ready(result) = poll(call.as_mut()) {
                return result;
            }
        }
    }
}

/// The slow lane: each call gets a tick in turn.
fn go_on(waiting: &Receiver<Call<()>>) {
    let mut running = Vec::new();
    loop {
        if running.is_empty() {
            let Ok(call) = waiting.recv() else { return };
            running.push(call);
        }
        running.extend(waiting.try_iter());
        running.retain_mut(|call: &mut Call<()>| poll(call.as_mut()).is_pending());
    }
}

/// Nobody needs to be woken: a pending call only gave its thread back.
fn poll<T>(call: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    call.poll(&mut Context::from_waker(Waker::noop()))
}
