//! Content by digest, in pieces that every engine takes. Content never changes, so writing it again is harmless, and
//! what no revision names any more is garbage.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use fleet::ids::Digest;

use super::{CommitError, Key, Range, Store, StoreError, TRANSACTION_BYTES_MAX, Transaction};

/// Bytes of one piece; sealed, it is below 256 kB.
const PIECE: usize = 240 * 1024;
/// Bytes of one piece as versions before format 3 stored it. Such content is read like any other, and stays as it is.
const OLD_PIECE: usize = 512 * 1024;
/// Room in a transaction for what sealing adds to its pieces.
const SEALS: usize = 64 * 128;
/// Pieces of content: 128 MiB are more than any file or bundle encoding.
const PIECES_MAX: usize = 560;

/// Whether all of some content of `bytes` is there. The last piece is written last, so its presence says so.
///
/// # Errors
/// The store failed.
pub async fn is_there(store: &dyn Store, digest: &Digest, bytes: usize) -> Result<bool, StoreError> {
    for piece in [PIECE, OLD_PIECE] {
        let last = bytes.saturating_sub(1) / piece;
        // A piece of another length belongs to another way of cutting.
        let length = bytes - last * piece;
        let found = store.get(&Key::blob(digest, last)).await?;
        if found.is_some_and(|found| found.value.len() == length) {
            return Ok(true);
        }
        if bytes <= PIECE {
            break;
        }
    }
    Ok(false)
}

/// What of `contents` is not there yet.
///
/// # Errors
/// The store failed.
pub async fn missing<'a>(
    store: &dyn Store,
    contents: &BTreeMap<Digest, &'a [u8]>,
) -> Result<BTreeMap<Digest, &'a [u8]>, StoreError> {
    let mut missing = BTreeMap::new();
    for (digest, content) in contents {
        if !is_there(store, digest, content.len()).await? {
            missing.insert(*digest, *content);
        }
    }
    Ok(missing)
}

/// Stores content, see [`missing`]; all of it is durable on return.
///
/// # Errors
/// The store failed; some of it may be there, which does no harm.
pub async fn put_all(store: &dyn Store, contents: &BTreeMap<Digest, &[u8]>) -> Result<(), CommitError> {
    let mut batch = Transaction::default();
    let mut bytes = 0;
    for (digest, content) in contents {
        for (index, piece) in pieces(content).enumerate() {
            if TRANSACTION_BYTES_MAX - SEALS < bytes + piece.len() || 64 <= batch.writes.len() {
                store.commit(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += piece.len();
            batch = batch.put(Key::blob(digest, index), Bytes::copy_from_slice(piece));
        }
    }
    if !batch.writes.is_empty() {
        store.commit(batch).await?;
    }
    Ok(())
}

/// Empty content has one empty piece.
fn pieces(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = content.is_empty().then_some(content);
    empty.into_iter().chain(content.chunks(PIECE))
}

/// Reads content back; `None` if it is not there or does not match its digest.
///
/// # Errors
/// The store failed.
pub async fn get(store: &dyn Store, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
    let found = store.range(Range::first(&Key::blob_prefix(digest), PIECES_MAX)).await?;
    let content = match found.as_slice() {
        [] => return Ok(None),
        [only] => only.value.clone(),
        many => {
            let mut whole = BytesMut::with_capacity(many.iter().map(|entry| entry.value.len()).sum());
            many.iter().for_each(|entry| whole.extend_from_slice(&entry.value));
            whole.freeze()
        }
    };
    Ok(Some(content).filter(|content| Digest::of(content) == *digest))
}

/// Removes what `keep` does not name. Whoever calls this must keep others from storing new content meanwhile.
///
/// # Errors
/// The store failed; what is left is removed next time.
pub async fn remove_others(store: &dyn Store, keep: &BTreeSet<Digest>) -> Result<usize, CommitError> {
    // Backwards, so that the last piece goes first: whoever finds a last piece may rely on the others. What is no piece
    // stays.
    super::remove_others(store, Range::last(Key::BLOBS, 64), |key| {
        key.blob_digest().is_none_or(|digest| keep.contains(&digest))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    /// As versions before format 3 stored it.
    async fn put_old(store: &dyn Store, content: &[u8]) {
        let digest = Digest::of(content);
        for (index, piece) in content.chunks(OLD_PIECE).enumerate() {
            let piece = Bytes::copy_from_slice(piece);
            store.commit(Transaction::default().put(Key::blob(&digest, index), piece)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn content_in_pieces_of_an_earlier_version_is_there_and_half_of_it_is_not() {
        for length in [1, PIECE, PIECE + 1, OLD_PIECE, OLD_PIECE + 1, 3 * OLD_PIECE, 3 * OLD_PIECE + 5] {
            let store = Memory::new();
            let content: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let digest = Digest::of(&content);
            let contents = BTreeMap::from([(digest, content.as_slice())]);
            put_old(&store, &content).await;
            assert_eq!(missing(&store, &contents).await.unwrap().len(), 0, "{length} bytes");
            assert_eq!(get(&store, &digest).await.unwrap().unwrap(), content);
            let last = (length - 1) / OLD_PIECE;
            store.commit(Transaction::default().delete(Key::blob(&digest, last))).await.unwrap();
            assert_eq!(
                missing(&store, &contents).await.unwrap().len(),
                1,
                "{length} bytes without the last piece"
            );
            put_all(&store, &contents).await.unwrap();
            assert_eq!(missing(&store, &contents).await.unwrap().len(), 0, "{length} bytes, stored again");
            assert_eq!(get(&store, &digest).await.unwrap().unwrap(), content);
            let all = store.range(Range::first(Key::BLOBS, usize::MAX)).await.unwrap();
            assert!(all.iter().all(|entry| entry.value.len() <= PIECE), "{length} bytes");
        }
    }
}
