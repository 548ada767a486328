//! Waiting for a state.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};

/// Longer than anything takes on a busy machine with two cores.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(40);

/// Looks until there is something to see.
///
/// # Errors
/// The look failed, or nothing was there within the limit: says what was waited for.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await.with_context(|| format!("while waiting for {what}"))? {
            return Ok(found);
        }
        if deadline < Instant::now() {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        sleep(PERIOD).await;
    }
}
