//! One decoded copy of the records that many look at (ADR 0052): the newest revision, what each node should be and last
//! said, the newest rollouts, who may do what, and the changes that wait for approval. One task keeps it current from the store's feed; planner, guards, plans and status
//! read it.
//!
//! A reader sees every commit that was answered before it asked. What is decided on it is committed with the versions
//! that it holds, so a copy that is behind can wake or show, but never authorise.

mod records;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub use records::Records;
use tokio::{sync::watch, time::Instant};
use tracing::{error, warn};

use crate::{
    rpc::chain,
    store::{Entry, Feed, Key, Newest, News, Store, StoreError, for_each},
    tasks::Tasks,
};

/// What is copied.
const PREFIXES: &[&str] = &[
    Key::META,
    Key::REVISIONS,
    Key::NODES,
    Key::SEEN,
    Key::ROLLOUTS,
    Key::STEPS,
    Key::OPERATORS,
    Key::PROPOSALS,
];
/// Records that are read together when everything is read.
const PAGE: usize = 500;
/// After a failed read.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Between two comparisons with the store.
const COMPARE_EVERY: Duration = Duration::from_secs(600);

/// The copy, for readers.
pub struct Mirror {
    state: watch::Receiver<State>,
    newest: Newest,
}

#[derive(Clone)]
enum State {
    Holds(Arc<Records>),
    /// The store cannot be read, and why; what was held may be wrong.
    Failed(String),
}

impl Mirror {
    /// Reads everything, then keeps it current until nobody uses it any more.
    ///
    /// # Errors
    /// The store failed, or holds no identity.
    pub async fn start(store: Arc<dyn Store>, tasks: &Tasks) -> Result<Self, StoreError> {
        let mut feed = store.feed(PREFIXES);
        let newest = feed.newest();
        let records = read_all(&*store, &mut feed).await?;
        let (sender, state) = watch::channel(State::Holds(Arc::new(records)));
        tasks.until_unused("mirror", Keeper { store, feed, state: sender, suspects: BTreeSet::new() }.run());
        Ok(Self { state, newest })
    }

    /// The records, with every commit that was answered until now.
    ///
    /// # Errors
    /// The store cannot be read, or holds a record that cannot be.
    pub async fn records(&self) -> Result<Arc<Records>, StoreError> {
        let wanted = self.newest.get();
        let mut state = self.state.clone();
        let current = state.wait_for(|state| match state {
            State::Holds(records) => wanted <= records.version,
            State::Failed(_) => true,
        });
        match &*current.await.map_err(|_| StoreError::ended("read"))? {
            State::Holds(records) => records.clone().all_readable(),
            State::Failed(why) => Err(StoreError::unreadable(why.clone())),
        }
    }

    /// The records as they are held, which may be behind: to show, or to find out that somebody has to go.
    pub fn held(&self) -> Option<Arc<Records>> {
        match &*self.state.borrow() {
            State::Holds(records) => Some(records.clone()),
            State::Failed(_) => None,
        }
    }

    /// Changes with every commit that was taken in.
    pub fn changes(&self) -> Changes {
        Changes(self.state.clone())
    }
}

/// Tells that the copy has changed.
pub struct Changes(watch::Receiver<State>);

impl Changes {
    /// Only changes from now on count.
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Returns once there was one since the last call.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The coordinator is stopping.
            std::future::pending::<()>().await;
        }
    }
}

/// Everything that is copied, as of one moment; what the feed says next comes after it.
async fn read_all(store: &dyn Store, feed: &mut Feed) -> Result<Records, StoreError> {
    loop {
        let begun = feed.newest().get();
        let (mut records, newest) = Records::read(store, begun).await?;
        // Pages are read one after the other: they are of one moment once the feed has passed the newest of them.
        loop {
            if newest <= records.version {
                return Ok(records);
            }
            match feed.next().await {
                News::Commits(commits) => records.take_in(records::read_commits(store, &commits).await),
                News::Resync => break,
            }
        }
    }
}

/// The task.
struct Keeper {
    store: Arc<dyn Store>,
    feed: Feed,
    state: watch::Sender<State>,
    /// Differed at the last comparison. A commit may be in the store a moment before it is in the feed, so only what
    /// differs twice is wrong.
    suspects: BTreeSet<Key>,
}

impl Keeper {
    async fn run(mut self) -> Result<(), String> {
        let mut compare_at = Instant::now() + COMPARE_EVERY;
        loop {
            let news = tokio::select! {
                news = self.feed.next() => Some(news),
                () = tokio::time::sleep_until(compare_at) => None,
                () = self.state.closed() => return Ok(()),
            };
            match news {
                Some(News::Commits(commits)) => {
                    // Decoded before the copy is locked: readers do not wait for it.
                    let commits = records::read_commits(&*self.store, &commits).await;
                    let lacks_revision = commits.iter().any(records::ReadCommit::lacks_revision);
                    self.state.send_modify(|state| match state {
                        State::Holds(records) => Arc::make_mut(records).take_in(commits),
                        State::Failed(_) => {}
                    });
                    if lacks_revision {
                        self.read_again().await;
                    }
                }
                Some(News::Resync) => self.read_again().await,
                None => {
                    self.compare().await;
                    let pause = if self.suspects.is_empty() { COMPARE_EVERY } else { RETRY_DELAY };
                    compare_at = Instant::now() + pause;
                }
            }
        }
    }

    async fn read_again(&mut self) {
        loop {
            match read_all(&*self.store, &mut self.feed).await {
                Ok(records) => {
                    self.state.send_replace(State::Holds(Arc::new(records)));
                    return;
                }
                Err(error) => {
                    let why = chain(&error);
                    warn!(error = why, "Cannot read the records; trying again");
                    self.state.send_replace(State::Failed(why));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_DELAY) => {}
                () = self.state.closed() => return,
            }
        }
    }

    /// A copy that differs from the store would be a defect: it is logged, and everything is read again.
    async fn compare(&mut self) {
        let differing = match self.differing().await {
            Ok(differing) => differing,
            Err(error) => {
                warn!(error = chain(&error), "Cannot compare the copy of the records with the store");
                return;
            }
        };
        let before = std::mem::replace(&mut self.suspects, differing);
        if let Some(key) = before.intersection(&self.suspects).next() {
            error!(%key, "The copy of a record is not what the store holds; this is a defect of Convoy");
            self.suspects = BTreeSet::new();
            self.read_again().await;
        }
    }

    async fn differing(&self) -> Result<BTreeSet<Key>, StoreError> {
        let held = match &*self.state.borrow() {
            State::Holds(records) => records.clone(),
            State::Failed(_) => return Ok(BTreeSet::new()),
        };
        let mut differing = BTreeSet::new();
        for prefix in [Key::NODES, Key::SEEN, Key::OPERATORS] {
            let mut copied = held.versions(prefix);
            let compare = |entry: &Entry| {
                let version = copied.remove(&entry.key).unwrap_or(0);
                // What was committed since is in the feed, and not in what was held.
                if entry.version <= held.version && entry.version != version {
                    differing.insert(entry.key.clone());
                }
                Ok(())
            };
            for_each(&*self.store, prefix, PAGE, compare).await?;
            differing.extend(copied.into_keys());
        }
        Ok(differing)
    }
}

#[cfg(test)]
mod tests;
