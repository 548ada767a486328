//! Starts tasks so that a panic in one is noticed. [`spawn`] is the only way to start a task in the agent.

use std::future::Future;

use tokio::task::JoinHandle;
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
        work.await
    })
}
