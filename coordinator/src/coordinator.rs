//! What every part of the coordinator shares: the store, the authority, who is connected, and the event log.
//!
//! There is no other shared state. Decisions are taken from what the store holds and from [`Live`]; whoever changes
//! something commits it and lets the store's watch tell the others.

use std::{sync::Arc, time::Duration};

use fleet::{
    ids::{FleetEpoch, FleetName, Revision, RolloutId},
    time::Timestamp,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use traces::Tracer;

use crate::{
    alerts::Board,
    audit::Audit,
    authority::Authority,
    config::{Heartbeat, History, Limits},
    disk::{Disk, StoreTrouble},
    enrolment::host::HostAuthorities,
    events::{Events, index::NodeIndex},
    hosts::Hosts,
    in_force::OlderBundles,
    logs::Logs,
    metrics::Meters,
    mirror::Mirror,
    packs::Packs,
    rates::Rates,
    rpc::Turns,
    secrets::Vault,
    sessions::Live,
    store::{
        CommitError, Key, Store, StoreError, Transaction,
        records::{Meta, Record as _},
    },
    tasks::Tasks,
    witness::{Doubt, Witness},
};

/// Shared by all tasks and calls.
pub struct Coordinator {
    /// Whose nodes these are.
    pub fleet: FleetName,
    /// Of the store; agents do not obey another.
    pub epoch: FleetEpoch,
    /// Room for records.
    pub disk: Disk,
    /// Why records cannot be kept, or soon cannot, as last found out.
    pub trouble: watch::Sender<Option<StoreTrouble>>,
    /// All records.
    pub store: Arc<dyn Store>,
    /// The records that many look at, decoded.
    pub mirror: Mirror,
    /// What revisions before the newest wanted.
    pub older_bundles: OlderBundles,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Seals and opens the values of secrets.
    pub vault: Arc<Vault>,
    /// Who is connected, and what they say now.
    pub live: Live,
    /// Packs of hosts, loaded.
    pub packs: Packs,
    /// Large fleet directories under work.
    pub turns: Turns,
    /// Questions about hosts that wait for their answers.
    pub hosts: Hosts,
    /// Questions about logs that wait for their answers, and who reads.
    pub logs: Logs,
    /// Who did what.
    pub audit: Audit,
    /// What happened.
    pub events: Events,
    /// Which events are about which node.
    pub event_index: NodeIndex,
    /// Remembers beside the store what a restore must not undo.
    pub witness: Arc<Witness>,
    /// How much of one source becomes events.
    pub rates: Rates,
    /// What is counted for Prometheus.
    pub meters: Arc<Meters>,
    /// Sends spans.
    pub tracer: Tracer,
    /// What is wrong, who was told, and where alerts go.
    pub alerts: Board,
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
    /// Whose certificates let hosts in, beside tokens and operators; nobody's if absent.
    pub host_authorities: Option<HostAuthorities>,
    /// Lifetime of a node's certificate.
    pub node_certificate: Duration,
    /// Lifetime of an operator's certificate.
    pub operator_certificate: Duration,
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
    /// Its content and secrets are sealed under another key.
    #[error(
        "secrets.key of the data directory is not the key that the store's content is sealed under; restore the right one, or move \
         it away and run `convoy-coordinator --config FILE recover new-key`"
    )]
    OtherKey,
    /// Its nodes trust another authority.
    #[error(
        "the store's nodes trust the authority with the SHA-256 {stored}, and ca/authority.pem has {found}; restore the right \
         one, or move it away and run `convoy-coordinator --config FILE recover new-authority`"
    )]
    OtherAuthority {
        /// In the store, hexadecimal.
        stored: String,
        /// In the data directory, hexadecimal.
        found: String,
    },
    /// It is not the store that was here.
    #[error(transparent)]
    Doubt(#[from] Doubt),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the store's identity, or gives it one: `epoch` is random and used only then. A store of 0.1 is bound to
/// `authority`, the digest of the authority's certificate.
///
/// # Errors
/// The store fails, or belongs to another fleet or authority.
pub async fn open_meta(
    store: &dyn Store,
    fleet: &FleetName,
    epoch: FleetEpoch,
    authority: [u8; 32],
) -> Result<FleetEpoch, OpenError> {
    loop {
        let entry = store.get(&Key::meta()).await?;
        let known = entry.as_ref().map(Meta::read).transpose()?;
        let version = entry.as_ref().map_or(0, |entry| entry.version);
        let meta = match known {
            Some(meta) if meta.fleet != *fleet => {
                return Err(OpenError::OtherFleet { stored: meta.fleet, configured: fleet.clone() });
            }
            Some(meta) => match meta.authority {
                Some(stored) if stored == authority => return Ok(meta.epoch),
                Some(stored) => {
                    let (stored, found) = (hex(&stored), hex(&authority));
                    return Err(OpenError::OtherAuthority { stored, found });
                }
                None => Meta { authority: Some(authority), ..meta },
            },
            None => Meta {
                epoch,
                fleet: fleet.clone(),
                newest_revision: Revision(0),
                newest_rollout: RolloutId(0),
                authority: Some(authority),
                key_check: None,
            },
        };
        match store.commit(Transaction::default().replace(Key::meta(), version, meta.encode())).await {
            // Another coordinator was faster: its epoch counts.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(OpenError::Commit(error)),
        }
    }
}
