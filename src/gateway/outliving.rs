//! Work that outlives the request which began it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio_util::task::TaskTracker;

/// Work that whoever waits for it does itself, as a task of its own would cost more than many a request.
/// Dropping it before it has ended is what happens when the client goes away: then it gets a task.
pub(super) struct Outliving<T: Send + 'static> {
    /// None once it has ended.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    tasks: TaskTracker,
}

impl<T: Send + 'static> Outliving<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static, tasks: &TaskTracker) -> Self {
        Self { work: Some(Box::pin(work)), tasks: tasks.clone() }
    }

    /// What it comes to.
    pub(super) async fn end(mut self) -> T {
        poll_fn(|cx| {
            let Some(work) = &mut self.work else { return Poll::Pending };
            let ended = work.as_mut().poll(cx);
            if ended.is_ready() {
                self.work = None;
            }
            ended
        })
        .await
    }
}

impl Outliving<()> {
    /// Waits for what the work tells on its way. Nobody else may be who tells it: it is looked at behind the work each
    /// time, and for that nobody need be woken once more.
    pub(super) async fn until<O>(&mut self, told: impl Future<Output = O>) -> O {
        // If it was not ready only because its task has done enough for now, nobody would look again.
        let mut told = pin!(unconstrained(told));
        poll_fn(|cx| {
            if let Some(work) = &mut self.work {
                if work.as_mut().poll(cx).is_pending() {
                    return told.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                }
                self.work = None;
            }
            told.as_mut().poll(cx)
        })
        .await
    }
}

impl<T: Send + 'static> Drop for Outliving<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        // Where there is no runtime any more, there is nothing to wait for either.
        if Handle::try_current().is_ok() {
            self.tasks.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::sync::oneshot;
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_the_work_tells_wakes_nobody() {
        let ((go, may), (tell, told)) = (oneshot::channel(), oneshot::channel());
        let tasks = TaskTracker::new();
        let mut work = Outliving::new(
            async move {
                may.await.unwrap();
                tell.send(7).unwrap();
                pending::<()>().await;
            },
            &tasks,
        );
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let cx = &mut Context::from_waker(&waker);
        let mut until = pin!(work.until(told));
        assert!(until.as_mut().poll(cx).is_pending());
        go.send(()).unwrap();
        assert_eq!(until.as_mut().poll(cx), Poll::Ready(Ok(7)));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_the_work_tells_is_seen_by_a_task_that_has_done_enough_for_now() {
        let (tell, told) = oneshot::channel();
        let tell = async move {
            tell.send(7).unwrap();
            pending::<()>().await;
        };
        let tasks = TaskTracker::new();
        let mut work = Outliving::new(tell, &tasks);
        let mut until = pin!(work.until(told));
        let polled = poll_fn(|cx| {
            while has_budget_remaining() {
                assert!(pin!(consume_budget()).poll(cx).is_ready());
            }
            Poll::Ready(until.as_mut().poll(cx))
        });
        assert_eq!(polled.await, Poll::Ready(Ok(7)));
    }
}
