//! Work that outlives the request which began it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::runtime::Handle;
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
    /// Waits for what the work tells on its way.
    pub(super) async fn until<O>(&mut self, told: impl Future<Output = O>) -> O {
        let mut told = pin!(told);
        poll_fn(|cx| {
            if let Some(work) = &mut self.work
                && work.as_mut().poll(cx).is_ready()
            {
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
