//! Revisions in the store (ADR 0076): a head at the key of the revision, and parts that are contents, kept by digest. The
//! parts are stored before the head, and nobody removes content between the two.

use std::sync::Arc;

use fleet::ids::{Digest, Revision};

use super::{
    Entry, Key, Store, StoreError, blobs,
    records::{Record as _, RevisionHead, RevisionPart, RevisionRecord, Versioned},
};

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
    let content = blobs::get(store, digest).await?;
    let content = content.ok_or_else(|| StoreError::missing("read a part of a revision"))?;
    RevisionPart::decode(&content).map_err(|why| StoreError::new("read a part of a revision", why))
}

#[cfg(test)]
pub(crate) mod tests;
