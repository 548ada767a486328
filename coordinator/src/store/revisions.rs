//! Revisions in the store (ADR 0076): a head at the key of the revision, and parts by digest. The parts are stored before
//! the head, and nobody removes parts between the two.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet::ids::{Digest, Revision};

use super::{
    CommitError, Entry, Key, Range, Store, StoreError, TRANSACTION_BYTES_MAX, Transaction,
    records::{Record as _, RevisionHead, RevisionPart, RevisionRecord, Versioned},
};

/// Parts that are written or removed together.
const BATCH: usize = 64;

/// A revision, whole; `None` if it is not kept.
///
/// # Errors
/// The store failed, or the revision or one of its parts cannot be read.
pub async fn read(store: &dyn Store, number: Revision) -> Result<Option<RevisionRecord>, StoreError> {
    let Some(head) = store.get(&Key::revision(number)).await? else { return Ok(None) };
    whole(store, RevisionHead::read(&head)?).await.map(Some)
}

/// The revision of a head that was read.
///
/// # Errors
/// As [`read`].
pub async fn whole(store: &dyn Store, head: RevisionHead) -> Result<RevisionRecord, StoreError> {
    let mut parts = Vec::with_capacity(head.parts().len());
    for digest in head.parts() {
        parts.push(part(store, digest).await?);
    }
    Ok(head.with(parts))
}

/// Reads a stored head and its parts.
///
/// # Errors
/// As [`read`].
pub async fn whole_of(
    store: &dyn Store,
    entry: &Entry,
) -> Result<Arc<Versioned<RevisionRecord>>, StoreError> {
    let record = whole(store, RevisionHead::read(entry)?).await?;
    Ok(Arc::new(Versioned { version: entry.version, record }))
}

/// One part. One that is missing is an error: a smaller revision would mean that nothing is wanted of some nodes.
///
/// # Errors
/// As [`read`].
pub async fn part(store: &dyn Store, digest: &Digest) -> Result<RevisionPart, StoreError> {
    let found = store.get(&Key::part(digest)).await?;
    let found = found.filter(|entry| Digest::of(&entry.value) == *digest);
    RevisionPart::read(&found.ok_or_else(|| StoreError::missing("read a part of a revision"))?)
}

/// What of `parts` is not there yet.
///
/// # Errors
/// The store failed.
pub async fn missing_parts(
    store: &dyn Store,
    parts: BTreeMap<Digest, Vec<u8>>,
) -> Result<BTreeMap<Digest, Vec<u8>>, StoreError> {
    let mut missing = BTreeMap::new();
    for (digest, part) in parts {
        // One that is damaged is stored again.
        if store.get(&Key::part(&digest)).await?.is_none_or(|there| there.value != part) {
            missing.insert(digest, part);
        }
    }
    Ok(missing)
}

/// Stores parts; all of them are durable on return.
///
/// # Errors
/// The store failed; some of them may be there, which does no harm.
pub async fn put_parts(store: &dyn Store, parts: BTreeMap<Digest, Vec<u8>>) -> Result<(), CommitError> {
    let mut rest = parts.into_iter().peekable();
    while rest.peek().is_some() {
        let (mut batch, mut bytes) = (Transaction::default(), 0);
        while let Some((digest, part)) = rest.next_if(|(_, part)| {
            batch.writes.is_empty()
                || (bytes + part.len() <= TRANSACTION_BYTES_MAX && batch.writes.len() < BATCH)
        }) {
            bytes += part.len();
            batch = batch.put(Key::part(&digest), part);
        }
        store.commit(batch).await?;
    }
    Ok(())
}

/// Removes the parts that `keep` does not name. Whoever calls this must keep others from storing new ones meanwhile.
///
/// # Errors
/// The store failed; what is left is removed next time.
pub async fn remove_other_parts(store: &dyn Store, keep: &BTreeSet<Digest>) -> Result<(), CommitError> {
    let is_kept = |key: &Key| key.part_digest().is_some_and(|part| keep.contains(&part));
    super::remove_others(store, Range::first(Key::PARTS, BATCH), is_kept).await.map(drop)
}

#[cfg(test)]
pub(crate) mod tests;
