//! Content is sealed before it reaches an engine (ADR 0005): what is composed for a node holds the values of secrets, so
//! a copy of the store alone must not show it.
//!
//! Only values below [`Key::BLOBS`] are sealed; records are not. Content that an earlier version stored in the clear is
//! read as it is, and sealed once in the background.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

use super::{CommitError, Entry, Key, Range, Read, Store, StoreError, Transaction, Version, Write};
use crate::secrets::Vault;

/// Begins every sealed value.
const MAGIC: &[u8] = b"convoy sealed 1\0";
/// Values looked at together when old ones are sealed; each may have half a MiB.
const BATCH: usize = 8;

/// Seals content on its way into `inner`, and opens it on its way out.
pub struct Sealed {
    inner: Arc<dyn Store>,
    vault: Arc<Vault>,
}

impl Sealed {
    /// Seals under the key of `vault`.
    pub fn new(inner: Arc<dyn Store>, vault: Arc<Vault>) -> Self {
        Self { inner, vault }
    }

    /// Seals what an earlier version stored in the clear; answers how many pieces that were.
    ///
    /// # Errors
    /// The store failed; what is left is sealed after the next start.
    pub async fn seal_old(&self) -> Result<usize, CommitError> {
        let done = Key::content_sealed();
        if self.inner.get(&done).await.map_err(CommitError::Refused)?.is_some() {
            return Ok(0);
        }
        let mut count = 0;
        let mut range = Range::first(Key::BLOBS, BATCH);
        loop {
            let found = self.inner.range(range.clone()).await.map_err(CommitError::Refused)?;
            let Some(last) = found.last() else { break };
            range.after = Some(last.key.clone());
            for entry in found.into_iter().filter(|entry| !entry.value.starts_with(MAGIC)) {
                let sealed = self.seal(&entry.key, &entry.value).map_err(CommitError::Refused)?;
                let change = Transaction::default().replace(entry.key, entry.version, sealed);
                match self.inner.commit(change).await {
                    Ok(_) => count += 1,
                    // It was removed meanwhile, or written again and so sealed.
                    Err(CommitError::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.inner.commit(Transaction::default().put(done, "1")).await?;
        Ok(count)
    }

    fn seal(&self, key: &Key, value: &[u8]) -> Result<Bytes, StoreError> {
        let sealed = self.vault.seal_content(key.as_str(), value);
        let sealed = sealed.ok_or_else(|| StoreError::new("seal content", "it is too large"))?;
        Ok([MAGIC, &sealed].concat().into())
    }

    fn open(&self, entry: Entry) -> Result<Entry, StoreError> {
        let sealed = if entry.key.is_content() { entry.value.strip_prefix(MAGIC) } else { None };
        let Some(sealed) = sealed else { return Ok(entry) };
        let opened = self.vault.open_content(entry.key.as_str(), sealed);
        let value = opened.ok_or_else(|| {
            let why = "it was sealed under another key; bring back secrets.key of the data directory";
            StoreError::new("open its content", why)
        })?;
        Ok(Entry { value: value.into(), ..entry })
    }

    fn seal_all(&self, transaction: Transaction) -> Result<Transaction, StoreError> {
        let Transaction { checks, writes } = transaction;
        let seal = |write| match write {
            Write::Put(key, value) if key.is_content() => {
                let sealed = self.seal(&key, &value)?;
                Ok(Write::Put(key, sealed))
            }
            Write::Put(_, _) | Write::Delete(_) => Ok(write),
        };
        Ok(Transaction { checks, writes: writes.into_iter().map(seal).collect::<Result<_, _>>()? })
    }
}

impl super::Layer for Sealed {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn get(&self, key: &Key) -> Read<'_, Option<Entry>> {
        let reading = self.inner.get(key);
        async move { reading.await?.map(|entry| self.open(entry)).transpose() }.boxed()
    }

    fn range(&self, range: Range) -> Read<'_, Vec<Entry>> {
        let reading = self.inner.range(range);
        async move { reading.await?.into_iter().map(|entry| self.open(entry)).collect() }.boxed()
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        async move {
            let sealed = self.seal_all(transaction).map_err(CommitError::Refused)?;
            self.inner.commit(sealed).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fleet::ids::{Digest, FleetName};

    use super::*;
    use crate::store::{Memory, blobs};

    fn vault(dir: &tempfile::TempDir, file: &str) -> Arc<Vault> {
        Arc::new(Vault::open(&dir.path().join(file), &FleetName::parse("acme").unwrap()).unwrap())
    }

    async fn shown(store: &dyn Store) -> Vec<u8> {
        let all = store.range(Range::first("", usize::MAX)).await.unwrap();
        all.iter().flat_map(|entry| entry.value.to_vec()).collect()
    }

    fn has_canary(bytes: &[u8]) -> bool {
        bytes.windows(6).any(|window| window == b"canary")
    }

    #[tokio::test]
    async fn content_is_sealed_in_the_engine_also_that_of_earlier_versions() {
        let dir = tempfile::tempdir().unwrap();
        let inner: Arc<dyn Store> = Arc::new(Memory::new());
        let store = Sealed::new(inner.clone(), vault(&dir, "key"));
        let (old, new, large) = (b"an old canary".as_slice(), b"a new canary".as_slice(), vec![7; 1_300_000]);
        let digests = [old, new, &large].map(Digest::of);
        blobs::put_all(&*inner, &BTreeMap::from([(digests[0], old)])).await.unwrap();
        let rest = BTreeMap::from([(digests[1], new), (digests[2], large.as_slice())]);
        blobs::put_all(&store, &rest).await.unwrap();
        for (digest, content) in digests.iter().zip([old, new, &large]) {
            assert_eq!(blobs::get(&store, digest).await.unwrap().unwrap(), content);
        }
        assert!(has_canary(&shown(&*inner).await), "the old one is there until it is sealed");

        assert_eq!(store.seal_old().await.unwrap(), 1);
        assert!(!has_canary(&shown(&*inner).await));
        assert_eq!(store.seal_old().await.unwrap(), 0);
        assert_eq!(blobs::get(&store, &digests[0]).await.unwrap().unwrap(), old);
        let missing = blobs::missing(&store, &rest).await.unwrap();
        assert!(missing.is_empty());
    }

    #[tokio::test]
    async fn sealed_content_opens_only_with_its_key_and_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let inner: Arc<dyn Store> = Arc::new(Memory::new());
        let store = Sealed::new(inner.clone(), vault(&dir, "key"));
        let (here, there) = (Key::blob(&Digest::of(b"a"), 0), Key::blob(&Digest::of(b"b"), 0));
        store.commit(Transaction::default().put(here.clone(), "a")).await.unwrap();
        let moved = inner.get(&here).await.unwrap().unwrap().value;
        inner.commit(Transaction::default().put(there.clone(), moved)).await.unwrap();
        assert!(store.get(&there).await.is_err());
        let other = Sealed::new(inner, vault(&dir, "another key"));
        let error = other.get(&here).await.unwrap_err();
        assert!(crate::rpc::chain(&error).contains("secrets.key"), "{error:?}");
    }
}
