//! The default engine: one redb file in the data directory, one coordinator.
//!
//! One writer takes every waiting transaction into one durable commit (group commit), so ten thousand reports that
//! arrive together do not cost ten thousand disk flushes. Commits and reads run on the blocking pool; between two
//! commits no thread is held.

use std::{fs::File, ops::Bound, sync::Arc, time::Duration};

use bytes::Bytes;
use fleet::time::Timestamp;
use futures::{FutureExt as _, future::BoxFuture};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    CommitError, Entry, Key, LeaseGrant, Order, Range, Read, Store, StoreError, Transaction, Version, Write,
    lease, memory, watchers::Watchers,
};
use crate::tasks::Tasks;

const ENTRIES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("entries");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const VERSION: &str = "version";

/// Transactions that wait while one commit is being made durable; more callers wait for room.
const WAITING_MAX: usize = 256;

/// A store in one file.
pub struct Embedded {
    database: Arc<Database>,
    writer: mpsc::Sender<Job>,
    watchers: Arc<Watchers>,
}

struct Job {
    transaction: Transaction,
    answer: oneshot::Sender<Result<Version, CommitError>>,
}

impl Embedded {
    /// Opens the store in `file`, which was opened for reading and writing, and creates its tables.
    ///
    /// # Errors
    /// The file is in use by another process, is not a store, or cannot be written.
    pub fn open(file: File, tasks: &Tasks) -> Result<Self, StoreError> {
        let failed = |error: redb::Error| StoreError::new("open its file", error);
        let backend = redb::backends::FileBackend::new(file).map_err(|error| failed(error.into()))?;
        let database = redb::Builder::new().create_with_backend(backend);
        let database = database.map_err(|error| failed(error.into()))?;
        create_tables(&database).map_err(failed)?;
        let database = Arc::new(database);
        let watchers = Arc::new(Watchers::default());
        let (writer, jobs) = mpsc::channel(WAITING_MAX);
        let (database_of_writer, watchers_of_writer) = (database.clone(), watchers.clone());
        // Ends by itself when the store is dropped and with it the only sender; the file is free only then.
        tasks.until_unused("store writer", write_all(database_of_writer, watchers_of_writer, jobs));
        Ok(Self { database, writer, watchers })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Read<'_, T> {
        let database = self.database.clone();
        async move {
            let answer = tokio::task::spawn_blocking(move || read(&database)).await;
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
    database: Arc<Database>,
    watchers: Arc<Watchers>,
    mut jobs: mpsc::Receiver<Job>,
) -> Result<(), String> {
    while let Some(first) = jobs.recv().await {
        let mut batch = vec![first];
        while batch.len() < WAITING_MAX
            && let Ok(next) = jobs.try_recv()
        {
            batch.push(next);
        }
        let (database, watchers) = (database.clone(), watchers.clone());
        let writing = tokio::task::spawn_blocking(move || write_and_answer(&database, &watchers, batch));
        // Callers learn it by their lost answers.
        writing.await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn write_and_answer(database: &Database, watchers: &Watchers, batch: Vec<Job>) {
    let outcome = write_batch(database, &batch);
    if let Ok(verdicts) = &outcome {
        for (job, verdict) in batch.iter().zip(verdicts) {
            if let Ok(version) = verdict {
                watchers.changed(job.transaction.writes.iter().map(Write::key), *version);
            }
        }
    }
    answer(batch, outcome);
}

/// What each transaction of a batch came to: its version, or the key that did not match.
type Verdicts = Vec<Result<Version, Key>>;

fn answer(batch: Vec<Job>, outcome: Result<Verdicts, redb::Error>) {
    let send = |job: Job, answer| {
        // The caller may have gone away; its transaction stands all the same.
        drop(job.answer.send(answer));
    };
    match outcome {
        Ok(verdicts) => {
            for (job, verdict) in batch.into_iter().zip(verdicts) {
                send(job, verdict.map_err(|key| CommitError::Conflict { key }));
            }
        }
        Err(error) => {
            let text = error.to_string();
            for job in batch {
                send(job, Err(CommitError::Unknown(StoreError::new("commit", text.clone()))));
            }
        }
    }
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
                Entry { key, version, value: Bytes::copy_from_slice(value) }
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
        self.watchers.subscribe(prefix)
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
