//! Where guests run: a call is polled once where it was made, and if that was not enough it moves to
//! one thread that goes on with all slow calls in turn.
//!
//! The gateway has one thread for each processor, so a plugin that loops must not hold one. A guest
//! gives its thread back at every tick of the epoch; ordinary calls take microseconds and never
//! see one, save where the machine is busy and their thread had to wait.
//!
//! So any policy may come to need the slow lane, and one that loops must not hold that either: each
//! has only so many places in it, and each goes on in turn, however many calls it has there.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use super::ticks::Ticks;

/// A call under way. Pending means that its guest used up its ticks, so it can always go on.
pub(super) type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One policy may have this part of the places for slow calls.
const PART: usize = 4;

/// The thread for slow calls, and the ticks that interrupt guests. Both end after it was dropped, as
/// soon as no slow call is left.
pub(super) struct Lane {
    calls: Sender<(u64, Call<()>)>,
    places: Arc<Semaphore>,
    slow: usize,
    shares: AtomicU64,
    ticks: Arc<Ticks>,
}

/// What one policy may have of the lane.
#[derive(Clone)]
pub(super) struct Share {
    number: u64,
    places: Arc<Semaphore>,
}

impl Lane {
    /// Starts both. At most `slow` calls are slow at once.
    pub(super) fn start(engines: Vec<wasmtime::Engine>, slow: usize) -> io::Result<Self> {
        let (calls, waiting) = channel();
        let ticks = Ticks::start(engines)?;
        thread::Builder::new().name("larder-slow".to_owned()).spawn(move || go_on(&waiting))?;
        let places = Arc::new(Semaphore::new(slow));
        Ok(Self { calls, places, slow, shares: AtomicU64::new(0), ticks })
    }

    /// A share for one policy.
    pub(super) fn share(&self) -> Share {
        Share {
            number: self.shares.fetch_add(1, Ordering::Relaxed),
            places: Arc::new(Semaphore::new((self.slow / PART).max(1))),
        }
    }

    /// The result of `call`; none if it was slow and too many were, of this share or of all. When
    /// this future is dropped, a slow call runs on to its own end or limit.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        share: &Share,
        mut call: Call<T>,
    ) -> Option<T> {
        let running = self.ticks.enter();
        if let Poll::Ready(result) = poll(call.as_mut()) {
            return Some(result);
        }
        let of_share = Arc::clone(&share.places).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (answer, answered) = oneshot::channel();
        let slow = Box::pin(async move {
            let result = call.await;
            drop((of_share, of_all, running));
            // Whoever asked may have gone.
            drop(answer.send(result));
        });
        self.calls.send((share.number, slow)).ok()?;
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

/// The slow lane: each share gets a tick in turn, and its calls take turns at that.
fn go_on(waiting: &Receiver<(u64, Call<()>)>) {
    let mut running: Vec<(u64, VecDeque<Call<()>>)> = Vec::new();
    loop {
        // It waits for a call only where there is none.
        let first = if running.is_empty() { waiting.recv().map(Some) } else { Ok(None) };
        let Ok(first) = first else { return };
        for (share, call) in first.into_iter().chain(waiting.try_iter()) {
            match running.iter_mut().find(|(number, _)| *number == share) {
                Some((_, calls)) => calls.push_back(call),
                None => running.push((share, VecDeque::from([call]))),
            }
        }
        running.retain_mut(|(_, calls)| {
            let Some(mut call) = calls.pop_front() else { return false };
            // One that panics is over, and whoever asked hears no answer; the others go on.
            let polled = catch_unwind(AssertUnwindSafe(|| poll(call.as_mut())));
            match polled {
                Ok(Poll::Pending) => calls.push_back(call),
                Ok(Poll::Ready(())) => {}
                Err(_) => drop(catch_unwind(AssertUnwindSafe(|| drop(call)))),
            }
            !calls.is_empty()
        });
    }
}

/// Nobody needs to be woken: a pending call only gave its thread back.
fn poll<T>(call: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    call.poll(&mut Context::from_waker(Waker::noop()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// A call that counts its turns and goes on until it is told to end.
    fn endless(turns: &Arc<AtomicU64>, end: &Arc<AtomicBool>) -> Call<()> {
        let (turns, end) = (Arc::clone(turns), Arc::clone(end));
        Box::pin(std::future::poll_fn(move |_| {
            turns.fetch_add(1, Ordering::SeqCst);
            if end.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    #[tokio::test]
    async fn a_call_that_panics_ends_alone() {
        let lane = Lane::start(vec![wasmtime::Engine::default()], 4).unwrap();
        let share = lane.share();
        let slow = |panics: bool| -> Call<()> {
            let mut turns = 0;
            Box::pin(std::future::poll_fn(move |_| {
                turns += 1;
                assert!(turns == 1 || !panics, "as it is to");
                if turns == 1 { Poll::Pending } else { Poll::Ready(()) }
            }))
        };
        for _ in 0..3 {
            assert_eq!(lane.run(&share, slow(true)).await, None);
        }
        assert_eq!(lane.run(&share, slow(false)).await, Some(()), "its place is free again");
    }

    #[tokio::test]
    async fn shares_take_turns_however_many_calls_they_have() {
        let lane = Lane::start(vec![wasmtime::Engine::default()], 16).unwrap();
        let (many, one) = (lane.share(), lane.share());
        let (turns, end) = <(Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let mut others: Vec<_> =
            (0..4).map(|_| Box::pin(lane.run(&many, endless(&turns, &end)))).collect();
        for other in &mut others {
            assert!(poll(other.as_mut()).is_pending());
        }

        // This begins to look when it is in the lane, and counts ten turns from there.
        let (mut own, mut first, seen) = (0, 0, Arc::clone(&turns));
        let looks = std::future::poll_fn(move |_| {
            own += 1;
            let others = seen.load(Ordering::SeqCst);
            first = if own <= 2 { others } else { first };
            if own < 12 { Poll::Pending } else { Poll::Ready(others - first) }
        });
        assert_eq!(lane.run(&one, Box::pin(looks)).await, Some(10), "one of four for each of it");

        let fifth = lane.run(&many, endless(&turns, &end)).await;
        assert_eq!(fifth, None, "the share is used up");
        end.store(true, Ordering::SeqCst);
        for other in others {
            assert_eq!(other.await, Some(()));
        }
    }
}
