//! Starts tasks so that a panic in one is noticed. [`spawn`] and [`Vital::spawn`] are the only ways to start a task in
//! the agent, [`blocking`] the only one to start work that blocks.

use std::{future::Future, panic::AssertUnwindSafe};

use fleet::panics;
use futures::FutureExt as _;
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::error;

/// Logs when it is dropped by a panic.
struct Watched(&'static str);

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(task = self.0, "A task panicked; this is a defect of Convoy");
        }
    }
}

/// Starts `work`. If it panics, the log says which task it was, and whoever awaits the handle learns of it.
#[expect(clippy::disallowed_methods, reason = "the one place; a panic is logged by `Watched`")]
pub fn spawn<T: Send + 'static>(
    task: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(async move {
        let _watched = Watched(task);
        AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| panics::raise(&*panic))
    })
}

/// Starts work that blocks, on a thread of its own. Whoever awaits the handle learns of a panic.
#[expect(clippy::disallowed_methods, reason = "the one place; what a panic may not show is taken out of it")]
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(move || panics::tamed(work))
}

/// The end of a task that the agent cannot go on without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Which.
    pub task: &'static str,
    /// How it came to that.
    pub why: String,
}

/// Starts tasks that the agent cannot go on without: one that lived on without its hands would look well.
#[derive(Debug, Clone)]
pub struct Vital(mpsc::UnboundedSender<Death>);

impl Vital {
    /// With where their ends are told.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Death>) {
        let (deaths, told) = mpsc::unbounded_channel();
        (Self(deaths), told)
    }

    /// Starts `work`. If it panics or fails, that is told; its success is its end because nobody needs it any more.
    pub fn spawn(&self, task: &'static str, work: impl Future<Output = Result<(), String>> + Send + 'static) {
        let deaths = self.0.clone();
        let working = spawn(task, work);
        spawn(task, async move {
            let why = match working.await {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why,
                Err(error) if error.is_panic() => "it panicked".to_owned(),
                // The agent is ending.
                Err(_) => return,
            };
            error!(task, why, "A task has ended that the agent cannot go on without");
            // Nobody listens only when the agent is ending.
            drop(deaths.send(Death { task, why }));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Death, Vital};

    #[tokio::test]
    async fn a_vital_task_that_panics_or_fails_is_told_and_one_that_is_over_is_not() {
        let (vital, mut deaths) = Vital::channel();
        vital.spawn("over", async { Ok(()) });
        vital.spawn("panicking", async { panic!("a planted defect") });
        let first = deaths.recv().await;
        assert_eq!(first, Some(Death { task: "panicking", why: "it panicked".to_owned() }));
        let text = "C4NARY-of-a-file".to_owned();
        let told = super::blocking(move || assert_eq!(text, "")).await.unwrap_err().to_string();
        assert!(told.contains("panicked") && !told.contains("C4NARY"), "{told}");
        vital.spawn("failing", async { Err("the disk is gone".to_owned()) });
        drop(vital);
        let rest = [deaths.recv().await, deaths.recv().await];
        assert_eq!(rest, [Some(Death { task: "failing", why: "the disk is gone".to_owned() }), None]);
    }
}
