//! Whether every worker gets on: none is caught in something that never yields.

use tokio::runtime::Handle;

/// The workers of a server.
#[derive(Clone, Debug)]
pub struct Pulse(pub(super) Vec<Handle>);

impl Pulse {
    /// Waits until each has had a turn since this was called. One that has ended is not waited for.
    pub async fn beat(&self) {
        let turns: Vec<_> = self.0.iter().map(|worker| worker.spawn(async {})).collect();
        for turn in turns {
            // It is cancelled where the worker has ended.
            drop(turn.await);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;

    use tokio::runtime::Builder;

    use super::*;

    #[tokio::test]
    async fn one_that_is_caught_holds_it() {
        let worker = || Builder::new_current_thread().build().unwrap();
        let (ended, caught) = (worker(), worker());
        let mut pulse = Pulse(vec![ended.handle().clone(), caught.handle().clone()]);
        ended.shutdown_background();
        let (free, held) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            caught.block_on(async {
                // As long as nobody frees it.
                held.recv().unwrap();
                tokio::task::yield_now().await;
            });
        });
        {
            let mut beat = pin!(pulse.beat());
            let polled =
                std::future::poll_fn(|cx| std::task::Poll::Ready(beat.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            free.send(()).unwrap();
            beat.await;
        }
        thread.join().unwrap();
        pulse.0.clear();
        pulse.beat().await;
    }
}
