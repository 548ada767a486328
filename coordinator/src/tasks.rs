//! Starts tasks so that no end of one goes unnoticed. [`Tasks`] is the only way to start a task in the coordinator.
//!
//! A task is either vital (the coordinator is not one without it: rollouts, events, the store's writer) or works for
//! one caller. An unexpected end of a vital task ends the process with an error, so that a service manager starts it
//! again; a coordinator that lives on without its rollouts would look healthy. A panic in a caller's task costs that
//! caller and is logged.

use std::{future::Future, panic::AssertUnwindSafe};

use fleet::panics;
use futures::FutureExt as _;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// Why a vital task has ended although it should go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task \"{task}\" has ended, and the coordinator cannot go on without it: {why}")]
pub struct TaskFailure {
    /// Which.
    pub task: &'static str,
    /// The text of its panic, or what it reported.
    pub why: String,
}

/// Every task of one coordinator, and the signal that asks them to end.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failure: watch::Sender<Option<TaskFailure>>,
}

impl Tasks {
    /// None yet. Tasks end once `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stop, failure: watch::Sender::new(None) }
    }

    /// Cancelled when the coordinator is to end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task that runs until `stop`. If it ends before that, the coordinator has failed.
    pub fn vital(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.until_unused(task, async move {
            work.await;
            if stop.is_cancelled() { Ok(()) } else { Err("it returned".to_owned()) }
        });
    }

    /// Starts a vital task that may return `Ok` at any time, because it ends when nobody uses it any more. If it panics
    /// or returns `Err`, the coordinator has failed.
    pub fn until_unused(
        &self,
        task: &'static str,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        let failure = self.failure.clone();
        self.track(async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            let ended = ended.unwrap_or_else(|panic| Err(format!("it panicked: {}", panics::shown(&*panic))));
            if let Err(why) = ended {
                error!(task, why, "A task has ended that the coordinator cannot go on without");
                // The first failure is the cause; later ones may follow from it.
                failure.send_if_modified(|known| {
                    let first = known.is_none();
                    if first {
                        *known = Some(TaskFailure { task, why });
                    }
                    first
                });
            }
        });
    }

    /// Starts work for one caller or peer. Its panic is logged, and whoever awaits the handle learns of it.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        // Not an async block, which would keep room for `work` twice: there is a task for each connected agent.
        self.track(AssertUnwindSafe(work).catch_unwind().map(move |ended| {
            ended.unwrap_or_else(|panic| {
                error!(task, panic = panics::shown(&*panic), "A task panicked; this is a defect of Convoy");
                panics::raise(&*panic)
            })
        }))
    }

    /// Returns when a vital task has failed, and never otherwise.
    pub async fn failed(&self) -> TaskFailure {
        let mut failure = self.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until every task has ended; no new ones are expected.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place; every caller above looks at how the task ends"
    )]
    fn track<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tracker.spawn(work)
    }
}

/// Starts work that blocks, on a thread of its own. Whoever awaits the handle learns of a panic.
#[expect(clippy::disallowed_methods, reason = "the one place; what a panic may not show is taken out of it")]
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(move || panics::tamed(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Tasks {
        Tasks::new(CancellationToken::new())
    }

    #[tokio::test]
    async fn a_vital_task_that_panics_or_returns_early_is_a_failure() {
        let panicking = tasks();
        panicking.vital("rollouts", async { panic!("out of {}", "luck") });
        let failure = panicking.failed().await;
        assert_eq!((failure.task, failure.why.as_str()), ("rollouts", "it panicked: out of luck"));

        let returning = tasks();
        returning.vital("garbage", async {});
        assert_eq!(returning.failed().await.why, "it returned");

        let refused = tasks();
        refused.until_unused("writer", async { Err("the disk is gone".to_owned()) });
        assert_eq!(refused.failed().await.why, "the disk is gone");
    }

    #[tokio::test]
    async fn an_end_that_was_asked_for_and_a_callers_panic_are_no_failures() {
        let tasks = tasks();
        let stop = tasks.stop().clone();
        tasks.vital("rollouts", async move { stop.cancelled().await });
        tasks.until_unused("events", async { Ok(()) });
        let call = tasks.spawn("a call", async { panic!("of this call only") });
        assert!(call.await.unwrap_err().is_panic());
        tasks.stop().cancel();
        tasks.ended().await;
        assert_eq!(tasks.failed().now_or_never(), None);
    }
}
