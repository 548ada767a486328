//! What every part of the coordinator shares: the store, the authority, who is connected, and the event log.
//!
//! There is no other shared state. Decisions are taken from what the store holds and from [`Live`]; whoever changes
//! something commits it and lets the store's watch tell the others.

use std::{sync::Arc, time::Duration};

use fleet::{
    ids::{FleetEpoch, FleetName, Revision, RolloutId},
    time::Timestamp,
};
use tokio_util::sync::CancellationToken;

use crate::{
    authority::Authority,
    config::{Heartbeat, History, Limits},
    events::Events,
    hosts::Hosts,
    packs::Packs,
    rates::Rates,
    secrets::Vault,
    sessions::Live,
    store::{
        CommitError, Key, Store, StoreError, Transaction,
        records::{Meta, Record as _},
    },
    tasks::Tasks,
};

/// Shared by all tasks and calls.
pub struct Coordinator {
    /// Whose nodes these are.
    pub fleet: FleetName,
    /// Of the store; agents do not obey another.
    pub epoch: FleetEpoch,
    /// All records.
    pub store: Arc<dyn Store>,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Seals and opens the values of secrets.
    pub vault: Vault,
    /// Who is connected, and what they say now.
    pub live: Live,
    /// Packs of hosts, loaded.
    pub packs: Packs,
    /// Questions about hosts that wait for their answers.
    pub hosts: Hosts,
    /// What happened.
    pub events: Events,
    /// How much of one source becomes events.
    pub rates: Rates,
    /// The wall clock, for what people read and for certificates.
    pub clock: fn() -> Timestamp,
    /// Held while content is stored for a revision that is not committed yet, and while garbage is removed.
    pub applying: tokio::sync::Mutex<()>,
    /// Held from the look at what is down to the order that takes a node down, so that two never rely on each other.
    pub taking_down: tokio::sync::Mutex<()>,
    /// What others dial.
    pub address: String,
    /// Liveness.
    pub heartbeat: Heartbeat,
    /// Bounds.
    pub limits: Limits,
    /// How much of the past is kept.
    pub history: History,
    /// Lifetime of a node's certificate.
    pub node_certificate: Duration,
    /// Set when the coordinator is to end: sessions and streams say goodbye.
    pub stop: CancellationToken,
    /// Every task; the coordinator ends when all have, or when a vital one fails.
    pub tasks: Tasks,
}

/// Why a store is not this fleet's.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its identity could not be recorded.
    #[error("the store's identity could not be recorded")]
    Commit(#[source] CommitError),
    /// It is another fleet's.
    #[error(
        "this data directory belongs to fleet {stored:?}, and the configuration says {configured:?}; correct `fleet` or `data_dir`"
    )]
    OtherFleet {
        /// In the store.
        stored: FleetName,
        /// In the configuration.
        configured: FleetName,
    },
}

/// Reads the store's identity, or gives it one: `epoch` is random and used only then.
///
/// # Errors
/// The store fails, or belongs to another fleet.
pub async fn open_meta(
    store: &dyn Store,
    fleet: &FleetName,
    epoch: FleetEpoch,
) -> Result<FleetEpoch, OpenError> {
    loop {
        if let Some(entry) = store.get(&Key::meta()).await? {
            let meta = Meta::read(&entry)?;
            if meta.fleet != *fleet {
                return Err(OpenError::OtherFleet { stored: meta.fleet, configured: fleet.clone() });
            }
            return Ok(meta.epoch);
        }
        let meta =
            Meta { epoch, fleet: fleet.clone(), newest_revision: Revision(0), newest_rollout: RolloutId(0) };
        match store.commit(Transaction::default().replace(Key::meta(), 0, meta.encode())).await {
            // Another coordinator was faster: its epoch counts.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(OpenError::Commit(error)),
        }
    }
}
