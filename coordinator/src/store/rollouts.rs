//! Rollouts in the store (ADR 0065): a head, and shards with the steps. A shard is written only together with its head, so
//! the version of the head is the version of the whole; only the shards of a rollout that has no head yet come before it.

use std::sync::Arc;

use fleet::{
    ids::RolloutId,
    rollout::{Phase, Rollout},
};

use super::{
    Check, CommitError, Entry, Key, Range, Store, StoreError, TRANSACTION_BYTES_MAX, Transaction, Version,
    for_each,
    records::{Meta, Record as _, RolloutRecord, ShardRecord, Versioned},
};

/// Shards that one transaction changes, besides nodes and events.
pub const SHARDS_MAX: usize = 12;
/// A rollout of so many shards begins in one transaction; those of a larger one are stored before it.
const SHARDS_AT_ONCE: usize = 2;
/// Shards that are in memory at once, beside what is made of them.
const PAGE: usize = 32;
/// Reads of a rollout that changes all the time.
const READS_MAX: usize = 8;

/// A rollout with its steps.
///
/// # Errors
/// The store failed, or a record cannot be read.
pub async fn read(
    store: &dyn Store,
    id: RolloutId,
) -> Result<Option<Arc<Versioned<RolloutRecord>>>, StoreError> {
    let Some(mut head) = store.get(&Key::rollout(id)).await? else { return Ok(None) };
    for _ in 0..READS_MAX {
        let mut record = RolloutRecord::read(&head)?;
        if record.shards == 0 {
            return Ok(Some(Arc::new(Versioned { version: head.version, record })));
        }
        let mut found = 0;
        let shards = record.shards;
        for_each(store, &Key::steps_prefix(id), PAGE, |entry| {
            if entry.key.shard().is_some_and(|(_, shard)| shard < shards) {
                record.rollout.steps.extend(ShardRecord::read(entry)?.0);
                found += 1;
            }
            Ok(())
        })
        .await?;
        // Shards are read after their head, so they are of its moment only if it is the same afterwards.
        let Some(now) = store.get(&Key::rollout(id)).await? else { return Ok(None) };
        if now.version == head.version {
            if found != shards {
                return Err(StoreError::missing("read the steps of a rollout"));
            }
            record.rollout.leave_open_steps();
            return Ok(Some(Arc::new(Versioned { version: head.version, record })));
        }
        head = now;
    }
    Err(StoreError::new("read a rollout", "it changes faster than it can be read; try again"))
}

/// The newest rollouts, newest first, at most `most`.
///
/// # Errors
/// As [`read`].
pub async fn newest(
    store: &dyn Store,
    most: usize,
) -> Result<Vec<Arc<Versioned<RolloutRecord>>>, StoreError> {
    let mut found = Vec::new();
    for head in store.range(Range::last(Key::ROLLOUTS, most)).await? {
        // One that was removed meanwhile is left out.
        found.extend(read(store, id_of(&head)?).await?);
    }
    Ok(found)
}

fn id_of(head: &Entry) -> Result<RolloutId, StoreError> {
    head.key.rollout_id().ok_or_else(|| StoreError::missing("read the number of a rollout"))
}

/// The rollout `next` in place of `before`, with the transaction that makes it so: the head and the shards that differ.
pub fn replace(before: &Versioned<RolloutRecord>, next: Rollout) -> (RolloutRecord, Transaction) {
    let RolloutRecord { author, message, rolls_back_to, .. } = &before.record;
    let record = RolloutRecord::new(next, (author.clone(), message.clone()), *rolls_back_to);
    let record = RolloutRecord { trace: before.record.trace, ..record };
    let key = Key::rollout(record.rollout.id);
    let mut commit = Transaction::default().replace(key, before.version, record.encode());
    // The steps of a rollout that was taken over follow from its phase, and those that did not change are there.
    let is_in_shards = before.shards == record.shards;
    if is_in_shards && matches!(record.rollout.phase, Phase::Superseded { .. }) {
        return (record, commit);
    }
    let was = &before.record.rollout.steps;
    for (shard, number) in record.shards().into_iter().zip(0..) {
        if !is_in_shards || shard.iter().any(|(name, step)| was.get(*name) != Some(*step)) {
            commit = commit.put(Key::steps(record.rollout.id, number), ShardRecord::encoded(&shard));
        }
    }
    (record, commit)
}

/// The transaction that begins a rollout. The shards of a large one are stored at once: they do not count before the
/// transaction, and it fails if anybody replaced them.
///
/// # Errors
/// The store failed; a conflict means that somebody else began the rollout of this number.
pub async fn begin(store: &dyn Store, record: &RolloutRecord) -> Result<Transaction, CommitError> {
    let id = record.rollout.id;
    let head = Transaction::default().replace(Key::rollout(id), 0, record.encode());
    let shards: Vec<(Key, Vec<u8>)> = record
        .shards()
        .iter()
        .zip(0..)
        .map(|(shard, number)| (Key::steps(id, number), ShardRecord::encoded(shard)))
        .collect();
    if shards.len() <= SHARDS_AT_ONCE {
        return Ok(shards.into_iter().fold(head, |all, (key, value)| all.put(key, value)));
    }
    let mut checks: Vec<Check> = Vec::new();
    let mut rest = shards.into_iter().peekable();
    while rest.peek().is_some() {
        // Nobody may touch the steps of a rollout that has begun.
        let mut batch = Transaction::default().check(Key::rollout(id), 0);
        let (mut bytes, mut keys) = (0, Vec::new());
        while let Some((key, value)) = rest.next_if(|(_, value)| bytes + value.len() <= TRANSACTION_BYTES_MAX)
        {
            bytes += value.len();
            keys.push(key.clone());
            batch = batch.put(key, value);
        }
        let version: Version = store.commit(batch).await?;
        checks.extend(keys.into_iter().map(|key| Check { key, version }));
    }
    Ok(Transaction { checks, writes: Vec::new() }.and(head))
}

/// Gives shards to the rollout that a version without shards left open, so that it goes on in this one. Others are read as
/// they are.
///
/// # Errors
/// The store failed.
pub async fn carry_over(store: &dyn Store) -> Result<(), StoreError> {
    let Some(newest) = newest(store, 1).await?.pop() else { return Ok(()) };
    if newest.shards != 0 || newest.rollout.steps.is_empty() || newest.rollout.phase.is_end() {
        return Ok(());
    }
    let meta = store.get(&Key::meta()).await?.ok_or_else(|| StoreError::missing("read its identity"))?;
    // With the format that keeps earlier versions from taking it for a rollout without steps.
    let format = Meta::read(&meta)?.encode();
    let (_, commit) = replace(&newest, newest.record.rollout.clone());
    let commit = commit.replace(Key::meta(), meta.version, format);
    match store.commit(commit).await {
        // Whoever was faster has done the same.
        Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(StoreError::not_committed(error)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
