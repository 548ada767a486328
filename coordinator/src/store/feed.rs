//! Committed changes in their order, for whoever keeps a copy of some records ([`crate::mirror`]). Shared by the
//! engines.
//!
//! An engine publishes a commit before it answers its caller. So what a caller was told is in every feed already, and a
//! copy that has taken in everything up to [`Feed::newest`] holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Key, Version, Write};

/// Changes that wait for a slow reader; beyond, all of them become one [`News::Resync`].
const WAITING_MAX: usize = 8_192;
/// The same, in bytes of values.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What one commit made of one entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// Which entry.
    pub key: Key,
    /// Its value now; `None`: it was removed.
    pub value: Option<Bytes>,
}

/// The changes of one commit.
#[derive(Clone, PartialEq, Eq)]
pub struct Commit {
    /// The version that its entries have now.
    pub version: Version,
    /// In the order of the transaction; only those that the feed was asked for.
    pub changes: Vec<Change>,
}

/// What a feed says next.
pub enum News {
    /// Commits, in their order. None is left out.
    Commits(Vec<Commit>),
    /// Changes were lost: read everything again.
    Resync,
}

/// All commits to some keys from the moment on at which it was made.
pub struct Feed {
    queue: Arc<Queue>,
}

/// How far the engine is, as far as one feed is concerned.
#[derive(Clone)]
pub struct Newest(Arc<Queue>);

struct Queue {
    prefixes: &'static [&'static str],
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    newest: Version,
    commits: Vec<Commit>,
    changes: usize,
    bytes: usize,
    is_lost: bool,
}

impl Feed {
    /// Waits for the next commits. It loses nothing if it is dropped while it waits.
    pub async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.queue.take() {
                return news;
            }
            self.queue.arrived.notified().await;
        }
    }

    /// How far the engine is; for readers of a copy, which is behind until it has taken that in.
    pub fn newest(&self) -> Newest {
        Newest(self.queue.clone())
    }
}

impl Newest {
    /// The newest commit to one of the feed's keys.
    pub fn get(&self) -> Version {
        self.0.lock().newest
    }
}

impl Queue {
    fn take(&self) -> Option<News> {
        let mut waiting = self.lock();
        (waiting.changes, waiting.bytes) = (0, 0);
        if std::mem::take(&mut waiting.is_lost) {
            return Some(News::Resync);
        }
        let commits = std::mem::take(&mut waiting.commits);
        (!commits.is_empty()).then_some(News::Commits(commits))
    }

    fn push(&self, writes: &[Write], version: Version) {
        let changes: Vec<Change> = writes.iter().filter_map(|write| self.change(write)).collect();
        if changes.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        waiting.newest = version;
        if waiting.is_lost {
            return;
        }
        waiting.changes += changes.len();
        waiting.bytes +=
            changes.iter().filter_map(|change| change.value.as_ref()).map(Bytes::len).sum::<usize>();
        if WAITING_MAX < waiting.changes || WAITING_BYTES_MAX < waiting.bytes {
            waiting.is_lost = true;
            waiting.commits = Vec::new();
        } else {
            waiting.commits.push(Commit { version, changes });
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    fn lose(&self, version: Version) {
        let mut waiting = self.lock();
        waiting.newest = version;
        waiting.is_lost = true;
        waiting.commits = Vec::new();
        drop(waiting);
        self.arrived.notify_one();
    }

    fn change(&self, write: &Write) -> Option<Change> {
        let (key, value) = match write {
            Write::Put(key, value) => (key, Some(value.clone())),
            Write::Delete(key) => (key, None),
        };
        let text = key.as_str();
        let is_wanted = |prefix: &&str| text == *prefix || prefix.ends_with('/') && text.starts_with(*prefix);
        self.prefixes.iter().any(is_wanted).then(|| Change { key: key.clone(), value })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All feeds of one engine.
pub(super) struct Feeds {
    open: Mutex<Open>,
}

struct Open {
    newest: Version,
    queues: Vec<Weak<Queue>>,
}

impl Feeds {
    /// Of an engine whose newest commit is `newest`.
    pub(super) fn new(newest: Version) -> Self {
        Self { open: Mutex::new(Open { newest, queues: Vec::new() }) }
    }

    /// A feed of the keys that equal one of `prefixes`, or start with it where it ends in '/'.
    pub(super) fn open(&self, prefixes: &'static [&'static str]) -> Feed {
        let mut open = self.lock();
        let queue = Arc::new(Queue {
            prefixes,
            waiting: Mutex::new(Waiting { newest: open.newest, ..Waiting::default() }),
            arrived: Notify::new(),
        });
        open.queues.retain(|feed| feed.strong_count() != 0);
        open.queues.push(Arc::downgrade(&queue));
        Feed { queue }
    }

    /// To be called for each commit, in their order, once it is durable and before anybody is told.
    pub(super) fn publish(&self, writes: &[Write], version: Version) {
        let mut open = self.lock();
        open.newest = version;
        for queue in open.queues.iter().filter_map(Weak::upgrade) {
            queue.push(writes, version);
        }
    }

    /// To be called if commits up to `version` may have happened that were not published.
    pub(super) fn lose(&self, version: Version) {
        let mut open = self.lock();
        open.newest = version;
        for queue in open.queues.iter().filter_map(Weak::upgrade) {
            queue.lose(version);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
