//! Checkpoints of the record go to the log, and what is too old goes with a signed word about where it ended (ADR 0094).

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use fleet::{
    audit::{
        Head, Verifier,
        checkpoint::{self, Checkpoint, Meaning, Signed},
    },
    time::Timestamp,
};
use tracing::{error, info, warn};

use crate::{
    authority::AuthorityError,
    coordinator::Coordinator,
    rpc::chain,
    store::{
        CommitError, Key, Range, StoreError, Transaction,
        records::{AuditRecord, AuditRemovedRecord, Record as _, Versioned},
    },
};

/// How often it is looked whether a checkpoint is due for its time.
const LOOK: Duration = Duration::from_secs(60);
/// How often it is looked for entries that are too old.
const REMOVE_EVERY: Duration = Duration::from_hours(1);
/// Entries that one commit removes.
const BATCH: usize = 100;

/// Why old entries stay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not commit.
    #[error("old entries of the audit record could not be removed")]
    Commit(#[source] CommitError),
    /// They are not what was written: they are evidence.
    #[error("the oldest entries of the audit record are not whole, and are kept: {0}")]
    Broken(fleet::audit::Broken),
    /// No word about them can be signed.
    #[error(transparent)]
    Sign(#[from] AuthorityError),
}

/// Runs until the coordinator stops.
pub(crate) async fn run(coordinator: Arc<Coordinator>) {
    let mut heads = coordinator.audit.watch();
    let (mut last, mut removed): (Option<(u64, Timestamp)>, Option<Timestamp>) = (None, None);
    loop {
        let now = (coordinator.clock)();
        let head = *heads.borrow_and_update();
        if checkpoint::is_due(last, head.seq, now) {
            match coordinator.checkpoint(Meaning::Reached, head) {
                Ok(signed) => {
                    info!(entries = head.seq, checkpoint = %signed, "Audit checkpoint");
                    last = Some((head.seq, now));
                }
                Err(error) => error!(error = chain(&error), "Cannot sign a checkpoint of the audit record"),
            }
        }
        if removed.is_none_or(|at| now < at || at.after(REMOVE_EVERY) <= now) {
            removed = Some(now);
            match coordinator.remove_old_entries().await {
                Ok(None) => {}
                Ok(Some(signed)) => {
                    let through = signed.checkpoint.head.seq;
                    info!(through, checkpoint = %signed, "Removed audit entries for their age");
                }
                Err(error) => warn!(error = chain(&error), "Old audit entries stay"),
            }
        }
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            _ = heads.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Coordinator {
    /// Signs how far the record goes, or where what was removed ended.
    ///
    /// # Errors
    /// Signing failed.
    pub(crate) fn checkpoint(&self, meaning: Meaning, head: Head) -> Result<Signed, AuthorityError> {
        let checkpoint = Checkpoint { meaning, epoch: self.epoch, head, at: (self.clock)() };
        let signature = self.authority.sign_text(&checkpoint.to_string())?;
        Ok(Signed { checkpoint, signature })
    }

    /// Where the entries ended that were removed for their age.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn removed_entries(&self) -> Result<Option<Versioned<AuditRemovedRecord>>, StoreError> {
        let entry = self.store.get(&Key::audit_removed()).await?;
        let read = |entry: crate::store::Entry| {
            Ok(Versioned { version: entry.version, record: AuditRemovedRecord::read(&entry)? })
        };
        entry.map(read).transpose()
    }

    /// Removes the entries that are too old, in commits of a bounded size; answers where they ended, if any went.
    ///
    /// # Errors
    /// The store failed, or they are not what was written.
    pub(crate) async fn remove_old_entries(&self) -> Result<Option<Signed>, RemoveError> {
        let mut signed = None;
        while let Some(more) = self.remove_some_entries().await? {
            signed = Some(more);
        }
        Ok(signed)
    }

    async fn remove_some_entries(&self) -> Result<Option<Signed>, RemoveError> {
        let before = self.removed_entries().await?;
        let newest = self.store.range(Range::last(Key::AUDIT, 1)).await?;
        let Some(newest) = newest.first().map(AuditRecord::read).transpose()? else { return Ok(None) };
        let oldest = self.store.range(Range::first(Key::AUDIT, BATCH)).await?;
        let oldest: Vec<AuditRecord> = oldest.iter().map(AuditRecord::read).collect::<Result<_, _>>()?;
        let times = oldest.iter().map(|record| (record.entry.seq, record.entry.at));
        let now = (self.clock)();
        let Some(through) = checkpoint::removable(times, newest.entry.at, now) else { return Ok(None) };
        // A word about what was not whole would make it look as if it had been.
        let from = before.as_ref().map_or(Head::NONE, |before| before.0.checkpoint.head);
        let mut verifier = Verifier::new(self.epoch, from, None);
        let going = oldest.iter().take_while(|record| record.entry.seq <= through);
        let mut commit = Transaction::default();
        for record in going {
            verifier.take(&record.entry, &record.link).map_err(RemoveError::Broken)?;
            commit = commit.delete(Key::audit(record.entry.seq));
        }
        let signed = self.checkpoint(Meaning::Removed, verifier.last())?;
        let version = before.map_or(0, |before| before.version);
        let record = AuditRemovedRecord(signed.clone());
        let commit = commit.replace(Key::audit_removed(), version, record.encode());
        self.store.commit(commit).await.map_err(RemoveError::Commit)?;
        Ok(Some(signed))
    }
}
