//! The default engine: one redb file in the data directory, one coordinator.
//!
//! One writer takes every waiting transaction into one durable commit (group commit), so ten thousand reports that
//! arrive together do not cost ten thousand disk flushes. Commits and reads run on the blocking pool; between two
//! commits no thread is held.
//!
//! After one failed write redb refuses everything that follows, also when the disk has room again. So the file is
//! closed and opened anew after a failure; if that fails too, the writer ends and with it the coordinator.

use std::{
    fs::File,
    io,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use fleet::time::Timestamp;
use futures::{FutureExt as _, future::BoxFuture};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{error, warn};

use super::{
    CommitError, Entry, Feed, Key, LeaseGrant, Order, Range, Read, Store, StoreError, Transaction, Version,
    Write, feed::Feeds, lease, memory, watchers::Watchers,
};
use crate::{rpc::chain, tasks::Tasks};

const ENTRIES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("entries");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const VERSION: &str = "version";

/// Bytes of the file that the engine keeps in memory; its own default is 1 GiB. The mirror has the records that are read
/// often, and the system keeps pages of the file besides: more only made the process grow with every apply.
const CACHE: usize = 32 * 1024 * 1024;
/// Reads at the same time. A look at thousands of nodes reads thousands of records; a thread for each would be 512 stacks
/// and heaps that last, and no faster.
const READS_MAX: usize = 8;
/// Transactions that wait while one commit is being made durable; more callers wait for room.
const WAITING_MAX: usize = 256;

/// Opens the database; called again after a failed write.
type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// A store in one file.
pub struct Embedded {
    engine: Arc<Engine>,
    writer: mpsc::Sender<Job>,
    readers: Arc<Readers>,
    /// See [`READS_MAX`].
    reading: Arc<Semaphore>,
}

/// Whoever wants to know of commits.
struct Readers {
    watchers: Watchers,
    feeds: Feeds,
}

struct Job {
    transaction: Transaction,
    answer: oneshot::Sender<Result<Version, CommitError>>,
}

/// The database, or nothing while it cannot be opened. Whoever reads or writes shares the lock, so opening anew waits
/// for them.
struct Engine {
    open: Opener,
    opened: RwLock<Opened>,
}

struct Opened {
    database: Option<Database>,
    /// How often it was opened: of several that saw the same failure only the first opens it anew.
    times: u64,
}

impl Engine {
    fn new(open: Opener) -> Result<Self, redb::Error> {
        let database = open()?;
        create_tables(&database)?;
        Ok(Self { open, opened: RwLock::new(Opened { database: Some(database), times: 1 }) })
    }

    /// Does `work`; if the engine fails at it, the database is opened anew, and `work` is tried again if `tries` says so.
    fn with<T>(
        &self,
        work: impl Fn(&Database) -> Result<T, redb::Error>,
        tries: Tries,
    ) -> Result<T, EngineError> {
        let mut left = tries;
        loop {
            let (outcome, times) = {
                let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
                (opened.database.as_ref().map(&work), opened.times)
            };
            match (outcome, left) {
                (Some(Ok(value)), _) => return Ok(value),
                (Some(Err(error)), Tries::One) => {
                    self.open_again(times)?;
                    return Err(EngineError::Failed(error));
                }
                (Some(Err(_)) | None, Tries::Two) => {
                    self.open_again(times)?;
                    left = Tries::One;
                }
                (None, Tries::One) => {
                    self.open_again(times)?;
                    return Err(EngineError::Failed(redb::Error::DatabaseClosed));
                }
            }
        }
    }

    fn open_again(&self, failed: u64) -> Result<(), EngineError> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.times != failed {
            return Ok(());
        }
        // The old one holds the file's lock.
        opened.database = None;
        let database = (self.open)().map_err(EngineError::CannotOpen)?;
        *opened = Opened { database: Some(database), times: failed + 1 };
        warn!("The store failed and was opened anew");
        Ok(())
    }
}

/// How often work is tried that meets a failing engine.
#[derive(Clone, Copy)]
enum Tries {
    /// It must not happen twice.
    One,
    /// It changes nothing.
    Two,
}

#[derive(Debug, thiserror::Error)]
enum EngineError {
    #[error(transparent)]
    Failed(redb::Error),
    #[error("its file cannot be opened again after a failure")]
    CannotOpen(#[source] redb::Error),
}

impl Embedded {
    /// Opens the store in the file that `open` opens for reading and writing, and creates its tables. `open` is called
    /// again after a failed write.
    ///
    /// # Errors
    /// The file is in use by another process, is not a store, or cannot be written.
    pub fn open(
        open: impl Fn() -> io::Result<File> + Send + Sync + 'static,
        tasks: &Tasks,
    ) -> Result<Self, StoreError> {
        let open = move || -> Result<Database, redb::Error> {
            let backend = redb::backends::FileBackend::new(open().map_err(redb::Error::Io)?)?;
            Ok(redb::Builder::new().set_cache_size(CACHE).create_with_backend(backend)?)
        };
        Self::open_with(Box::new(open), tasks)
    }

    fn open_with(open: Opener, tasks: &Tasks) -> Result<Self, StoreError> {
        let engine = Engine::new(open).map_err(|error| match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::new(
                "open its file, because another convoy-coordinator runs on this data directory; stop that one, or give \
                 this one a `data_dir` of its own",
                error,
            ),
            // The rest is said by its own words.
            other => StoreError::new("open its file", other),
        })?;
        let newest = engine.with(version, Tries::Two).map_err(|error| StoreError::new("read", error))?;
        let readers = Readers { watchers: Watchers::default(), feeds: Feeds::new(newest) };
        let (engine, readers) = (Arc::new(engine), Arc::new(readers));
        let (writer, jobs) = mpsc::channel(WAITING_MAX);
        // Ends by itself when the store is dropped and with it the only sender; the file is free only then.
        tasks.until_unused("store writer", write_all(engine.clone(), readers.clone(), jobs));
        Ok(Self { engine, writer, readers, reading: Arc::new(Semaphore::new(READS_MAX)) })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Read<'_, T> {
        let (engine, reading) = (self.engine.clone(), self.reading.clone());
        async move {
            let turn = reading.acquire_owned().await.map_err(|error| StoreError::new("read", error))?;
            let answer = crate::tasks::blocking(move || {
                let _turn = turn;
                engine.with(read, Tries::Two)
            });
            let answer = answer.await;
            let answer = answer.map_err(|error| StoreError::new("read", error))?;
            answer.map_err(|error| StoreError::new("read", error))
        }
        .boxed()
    }
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(ENTRIES)?;
    write.open_table(COUNTERS)?;
    write.commit()?;
    Ok(())
}

async fn write_all(
    engine: Arc<Engine>,
    readers: Arc<Readers>,
    mut jobs: mpsc::Receiver<Job>,
) -> Result<(), String> {
    while let Some(first) = jobs.recv().await {
        let mut batch = vec![first];
        while batch.len() < WAITING_MAX
            && let Ok(next) = jobs.try_recv()
        {
            batch.push(next);
        }
        let (engine, readers) = (engine.clone(), readers.clone());
        let writing = crate::tasks::blocking(move || write_and_answer(&engine, &readers, batch));
        // Callers learn it by their lost answers.
        writing.await.map_err(|error| error.to_string())??;
    }
    Ok(())
}

fn write_and_answer(engine: &Engine, readers: &Readers, batch: Vec<Job>) -> Result<(), String> {
    let before = engine.with(version, Tries::Two);
    let outcome = match before {
        Ok(before) => match engine.with(|database| write_batch(database, &batch), Tries::One) {
            Ok(verdicts) => Ok(verdicts),
            Err(error) => Err((error, Some(before))),
        },
        Err(error) => Err((error, None)),
    };
    match outcome {
        Ok(verdicts) => {
            for (job, verdict) in batch.iter().zip(&verdicts) {
                if let Ok(version) = verdict {
                    let writes = &job.transaction.writes;
                    readers.feeds.publish(writes, *version);
                    readers.watchers.changed(writes.iter().map(Write::key), *version);
                }
            }
            answer(batch, verdicts);
            Ok(())
        }
        Err((failure, before)) => {
            let text = chain(&failure);
            error!(error = text, "The store cannot commit");
            // What the file opened anew holds says whether the commit happened.
            let after = engine.with(version, Tries::Two).ok();
            let is_without = before.is_some() && before == after;
            if let (false, Some(after)) = (is_without, after) {
                readers.feeds.lose(after);
            }
            refuse(batch, &text, is_without || before.is_none());
            match failure {
                EngineError::Failed(_) => Ok(()),
                EngineError::CannotOpen(_) => Err(text),
            }
        }
    }
}

/// What each transaction of a batch came to: its version, or the key that did not match.
type Verdicts = Vec<Result<Version, Key>>;

fn answer(batch: Vec<Job>, verdicts: Verdicts) {
    for (job, verdict) in batch.into_iter().zip(verdicts) {
        // The caller may have gone away; its transaction stands all the same.
        drop(job.answer.send(verdict.map_err(|key| CommitError::Conflict { key })));
    }
}

fn refuse(batch: Vec<Job>, why: &str, is_without: bool) {
    for job in batch {
        let error = StoreError::new("commit", why.to_owned());
        let refused = if is_without { CommitError::Refused(error) } else { CommitError::Unknown(error) };
        drop(job.answer.send(Err(refused)));
    }
}

/// Commits so far.
fn version(database: &Database) -> Result<Version, redb::Error> {
    let counters = database.begin_read()?.open_table(COUNTERS)?;
    Ok(counters.get(VERSION)?.map_or(0, |value| value.value()))
}

/// Applies a batch in order inside one write transaction: each sees the effects of those before it, and a conflict of
/// one leaves no trace.
fn write_batch(database: &Database, batch: &[Job]) -> Result<Verdicts, redb::Error> {
    let write = database.begin_write()?;
    let mut verdicts = Vec::with_capacity(batch.len());
    {
        let mut entries = write.open_table(ENTRIES)?;
        let mut counters = write.open_table(COUNTERS)?;
        let mut version = counters.get(VERSION)?.map_or(0, |value| value.value());
        for job in batch {
            if let Some(key) = first_conflict(&entries, &job.transaction)? {
                verdicts.push(Err(key));
                continue;
            }
            version += 1;
            for change in &job.transaction.writes {
                match change {
                    Write::Put(key, value) => drop(entries.insert(key.as_str(), (version, value.as_ref()))?),
                    Write::Delete(key) => drop(entries.remove(key.as_str())?),
                }
            }
            verdicts.push(Ok(version));
        }
        counters.insert(VERSION, version)?;
    }
    write.commit()?;
    Ok(verdicts)
}

fn first_conflict(
    entries: &redb::Table<'_, &str, (u64, &[u8])>,
    transaction: &Transaction,
) -> Result<Option<Key>, redb::Error> {
    for check in &transaction.checks {
        let version = entries.get(check.key.as_str())?.map_or(0, |entry| entry.value().0);
        if version != check.version {
            return Ok(Some(check.key.clone()));
        }
    }
    Ok(None)
}

fn read_range(database: &Database, range: &Range) -> Result<Vec<Entry>, redb::Error> {
    let Some((start, end)) = memory::bounds(range) else { return Ok(Vec::new()) };
    let bounds: (Bound<&str>, Bound<&str>) =
        (start.as_ref().map(String::as_str), end.as_ref().map(String::as_str));
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let mut rows = table.range::<&str>(bounds)?;
    let mut found = Vec::new();
    while found.len() < range.most {
        let row = match range.order {
            Order::Ascending => rows.next(),
            Order::Descending => rows.next_back(),
        };
        let Some(row) = row else { break };
        let (key, entry) = row?;
        let (version, value) = entry.value();
        found.push(Entry { key: Key::stored(key.value()), version, value: Bytes::copy_from_slice(value) });
    }
    Ok(found)
}

impl Store for Embedded {
    fn get(&self, key: &Key) -> Read<'_, Option<Entry>> {
        let key = key.clone();
        self.read(move |database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let found = table.get(key.as_str())?;
            Ok(found.map(|entry| {
                let (version, value) = entry.value();
                Entry { key: key.clone(), version, value: Bytes::copy_from_slice(value) }
            }))
        })
    }

    fn range(&self, range: Range) -> Read<'_, Vec<Entry>> {
        self.read(move |database| read_range(database, &range))
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        async move {
            transaction.check_bounds()?;
            let (answer, verdict) = oneshot::channel();
            let ended = |_| CommitError::Refused(StoreError::new("commit", "its writer has ended"));
            self.writer.send(Job { transaction, answer }).await.map_err(|_| ended(()))?;
            let lost = |_| CommitError::Unknown(StoreError::new("commit", "its writer ended meanwhile"));
            verdict.await.map_err(lost)?
        }
        .boxed()
    }

    fn watch(&self, prefix: &str) -> watch::Receiver<Version> {
        self.readers.watchers.subscribe(prefix)
    }

    fn feed(&self, prefixes: &'static [&'static str]) -> Feed {
        self.readers.feeds.open(prefixes)
    }

    fn lease(&self, name: &str, holder: &str, term: (Timestamp, Duration)) -> Read<'_, LeaseGrant> {
        lease::take(self, name.to_owned(), holder.to_owned(), term).boxed()
    }

    fn health(&self) -> Read<'_, ()> {
        async move {
            // An empty transaction is a real durable commit: the only honest proof that the disk still takes one.
            match self.commit(Transaction::default()).await {
                Ok(_) => Ok(()),
                Err(CommitError::Refused(error) | CommitError::Unknown(error)) => Err(error),
                Err(error) => Err(StoreError::new("commit", error.to_string())),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
