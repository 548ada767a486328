//! What the coordinator shows Prometheus, load balancers and orchestrators: nothing secret, since a listener of plain HTTP
//! asks nobody who they are. docs/metrics.md lists every metric.

mod figures;
mod meters;

use std::sync::Arc;

use exporter::Exposed;
use futures::{FutureExt as _, future::BoxFuture};

pub use meters::{CountCalls, Metered, Meters};

use crate::{coordinator::Coordinator, disk::StoreTrouble};

/// A coordinator as its metrics show it.
pub struct Shown {
    /// Whose.
    pub coordinator: Arc<Coordinator>,
    /// Every node has series of its own.
    pub node_labels: bool,
}

impl Exposed for Shown {
    fn metrics(&self) -> BoxFuture<'_, Result<String, String>> {
        async {
            let snapshot = self.coordinator.snapshot().await.map_err(|error| error.to_string())?;
            let now = figures::registry(&self.coordinator, &snapshot, self.node_labels);
            Ok(exporter::open_metrics(&[self.coordinator.meters.registry(), &now]))
        }
        .boxed()
    }

    /// It answers, so it lives: the end of any task that others rest on ends the process.
    fn not_alive(&self) -> BoxFuture<'_, Option<String>> {
        async { None }.boxed()
    }

    fn not_ready(&self) -> BoxFuture<'_, Option<String>> {
        not_ready(&self.coordinator).boxed()
    }
}

/// Why agents and operators are not served as they should be.
async fn not_ready(coordinator: &Coordinator) -> Option<String> {
    if coordinator.stop.is_cancelled() {
        return Some("the coordinator is stopping".to_owned());
    }
    if let Some(trouble) = &*coordinator.trouble.borrow() {
        return match trouble {
            StoreTrouble::CannotCommit { why } => Some(format!("the store does not commit: {why}")),
            // It serves; applies are refused, and status says so.
            StoreTrouble::LowRoom { .. } => None,
        };
    }
    coordinator.snapshot().await.err().map(|error| format!("the records cannot be read: {error}"))
}
