//! A lease as an ordinary entry with an end, for engines that have nothing better. Clocks of the coordinators that
//! share a store must agree to well below the term; nothing that must be exactly-once hangs on a lease alone.

use std::time::Duration;

use fleet::time::Timestamp;

use super::{
    CommitError, Key, Store, StoreError, Transaction,
    records::{LeaseRecord, Record as _},
};

/// The answer to asking for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseGrant {
    /// The asker holds it until then.
    Held {
        /// When it ends unless renewed.
        until: Timestamp,
    },
    /// Another holds it.
    Taken {
        /// Who.
        holder: String,
        /// When it ends unless renewed.
        until: Timestamp,
    },
}

pub(super) async fn take(
    store: &dyn Store,
    name: String,
    holder: String,
    (now, term): (Timestamp, Duration),
) -> Result<LeaseGrant, StoreError> {
    let key = Key::lease(&name);
    loop {
        let entry = store.get(&key).await?;
        let version = entry.as_ref().map_or(0, |entry| entry.version);
        if let Some(entry) = entry {
            let held = LeaseRecord::read(&entry)?;
            if held.holder != holder && now < held.until {
                return Ok(LeaseGrant::Taken { holder: held.holder, until: held.until });
            }
        }
        let until = now.after(term);
        let record = LeaseRecord { holder: holder.clone(), until };
        match store.commit(Transaction::default().replace(key.clone(), version, record.encode())).await {
            Ok(_) => return Ok(LeaseGrant::Held { until }),
            // Somebody was faster: look at what they wrote.
            Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Refused(error) | CommitError::Unknown(error)) => return Err(error),
            Err(error @ (CommitError::TooLarge { .. } | CommitError::NoRoom(_))) => {
                return Err(StoreError::new("record a lease", error.to_string()));
            }
        }
    }
}
