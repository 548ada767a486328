use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use redb::StorageBackend;
use tokio_util::sync::CancellationToken;

use super::*;

const BLOCK: usize = 4096;

/// A disk in memory with a bounded number of blocks. As on a real one a file may be extended for nothing, and what was
/// written once can be written again.
#[derive(Debug, Clone)]
struct Disk(Arc<DiskState>);

#[derive(Debug)]
struct DiskState {
    bytes: Mutex<Vec<u8>>,
    blocks: Mutex<BTreeSet<usize>>,
    blocks_max: AtomicUsize,
    is_gone: AtomicBool,
}

impl Disk {
    fn new() -> Self {
        let blocks_max = AtomicUsize::new(usize::MAX);
        let (bytes, blocks) = (Mutex::default(), Mutex::default());
        Self(Arc::new(DiskState { bytes, blocks, blocks_max, is_gone: AtomicBool::new(false) }))
    }

    /// So many more blocks can be written.
    fn leave_room(&self, blocks: usize) {
        let used = self.0.blocks.lock().unwrap().len();
        self.0.blocks_max.store(used.saturating_add(blocks), SeqCst);
    }

    fn open(&self, tasks: &Tasks) -> Result<Embedded, StoreError> {
        let disk = self.clone();
        let open = move || -> Result<Database, redb::Error> {
            if disk.0.is_gone.load(SeqCst) {
                return Err(redb::Error::Io(io::ErrorKind::NotFound.into()));
            }
            Ok(redb::Builder::new().create_with_backend(disk.clone())?)
        };
        Embedded::open_with(Box::new(open), tasks)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.bytes.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).unwrap();
        let mut blocks = self.0.blocks.lock().unwrap();
        for block in offset / BLOCK..(offset + data.len()).div_ceil(BLOCK) {
            if !blocks.contains(&block) && self.0.blocks_max.load(SeqCst) <= blocks.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            blocks.insert(block);
        }
        self.0.bytes.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn large(key: Key) -> Transaction {
    Transaction::default().put(key, vec![7; 700 * 1024])
}

#[tokio::test]
async fn a_full_disk_costs_the_commits_that_do_not_fit_and_no_other() {
    let (disk, tasks) = (Disk::new(), Tasks::new(CancellationToken::new()));
    let store = disk.open(&tasks).unwrap();
    let before = store.commit(Transaction::default().put(Key::meta(), "kept")).await.unwrap();
    disk.leave_room(20);
    for attempt in 1..=3 {
        let refused = store.commit(large(Key::event(attempt))).await.unwrap_err();
        // It is known that nothing was written, because the file was opened anew.
        assert!(matches!(refused, CommitError::Refused(_)), "{refused:?}");
        assert_eq!(store.get(&Key::event(attempt)).await.unwrap(), None);
        assert_eq!(store.get(&Key::meta()).await.unwrap().unwrap().value, "kept");
    }
    disk.leave_room(usize::MAX);
    let after = store.commit(large(Key::event(1))).await.unwrap();
    assert!(before < after);
    store.health().await.unwrap();
    let seen = futures::FutureExt::now_or_never(tasks.failed());
    assert_eq!(seen, None, "the coordinator goes on");
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_again_ends_the_coordinator() {
    let (disk, tasks) = (Disk::new(), Tasks::new(CancellationToken::new()));
    let store = disk.open(&tasks).unwrap();
    disk.leave_room(0);
    disk.0.is_gone.store(true, SeqCst);
    let refused = store.commit(large(Key::meta())).await.unwrap_err();
    assert!(matches!(refused, CommitError::Unknown(_)), "{refused:?}");
    let failure = tasks.failed().await;
    assert_eq!(failure.task, "store writer");
    assert!(failure.why.contains("cannot be opened again"), "{}", failure.why);
}
