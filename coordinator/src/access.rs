//! Who calls, what they may do, and that it is stored only while they still may (ADR 0053). Decisions are
//! [`fleet::access`]'s.

use std::time::Duration;

use fleet::{
    access::{Action, Denied, FIRST_OPERATOR, Grant, Permit, Principal, Target, Targets, may},
    audit::{Act, Outcome},
    ids::{NodeName, OperatorName, RolloutId},
};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::{
    audit::Note,
    coordinator::Coordinator,
    events::{Draft, Kind},
    identity::OperatorPeer,
    mirror::Records,
    rates::Source,
    rpc::chain,
    store::{CommitError, Key, StoreError, Transaction, records::RolloutRecord},
    view::Snapshot,
    witness::Revocable,
};

/// Between two looks whether somebody still counts; a busy fleet commits often.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// Why a certificate of our authority does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// Removed, or never added.
    #[error(
        "{name} is not an operator of this fleet, or was removed; an admin adds one with `convoy operator add {name}`"
    )]
    Unknown {
        /// Who.
        name: OperatorName,
    },
    /// Another certificate is theirs now.
    #[error(
        "this certificate of {name} was replaced by a later `convoy join` or revoked; an admin makes another token with \
         `convoy operator add {name} --again`"
    )]
    Replaced {
        /// Who.
        name: OperatorName,
    },
}

/// Whether this is the operator that a coordinator makes at its first start.
pub(crate) fn is_first(name: &OperatorName) -> bool {
    name.as_str() == FIRST_OPERATOR
}

/// Everybody who may do something.
pub(crate) fn principals(records: &Records) -> impl Iterator<Item = Principal> {
    let first = OperatorName::parse(FIRST_OPERATOR).ok();
    let first = first.map(|name| Principal {
        name,
        grant: Grant::first(),
        version: 0,
        serial: String::new(),
        from: None,
    });
    let others = records.operators.values().map(|operator| Principal {
        name: operator.record.name.clone(),
        grant: operator.record.grant.clone(),
        version: operator.version,
        serial: String::new(),
        from: None,
    });
    first.into_iter().chain(others)
}

impl Coordinator {
    /// What the holder of a certificate may do.
    ///
    /// # Errors
    /// They were removed, or have another certificate now.
    pub(crate) fn principal(&self, records: &Records, peer: &OperatorPeer) -> Result<Principal, Unwelcome> {
        let (name, serial) = (peer.name.clone(), peer.serial.clone());
        let is_revoked = || self.witness.is_revoked(&Revocable::Certificate(peer.serial.clone()));
        if is_first(&name) {
            return Ok(Principal { name, grant: Grant::first(), version: 0, serial, from: peer.from });
        }
        let Some(known) = records.operators.get(&name) else { return Err(Unwelcome::Unknown { name }) };
        let is_theirs = known.record.certificate.as_ref().is_some_and(|own| own.serial == peer.serial);
        if !is_theirs || is_revoked() {
            return Err(Unwelcome::Replaced { name });
        }
        let grant = known.record.grant.clone();
        Ok(Principal { name, grant, version: known.version, serial, from: peer.from })
    }

    /// Returns once the certificate of an operator counts no longer, and why.
    pub(crate) async fn unwelcome(&self, peer: &OperatorPeer) -> Unwelcome {
        let mut changes = self.mirror.changes();
        loop {
            changes.mark_seen();
            // What cannot be read now is read again with the next change.
            if let Some(records) = self.mirror.held()
                && let Err(why) = self.principal(&records, peer)
            {
                return why;
            }
            changes.changed().await;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Records that somebody was refused, as far as they have not been refused too often.
    pub(crate) async fn note_refusal(&self, who: &Principal, act: Act, why: &str) {
        let name = &who.name;
        warn!(operator = %name, act = act.as_str(), why, "Refused a call");
        if self.rates.admit(&Source::Refused(name.clone()), Instant::now()) {
            let event = Draft::new((self.clock)(), Kind::Denied, why).by(name.as_str()).with("action", &act);
            let note = Note::of(who, act, &event).with(Outcome::Denied { why: why.to_owned() });
            if let Err(error) = self.audit.record(&note, vec![event], Transaction::default()).await {
                // Nothing was done, so nothing has to be taken back.
                error!(error = chain(&error), operator = %name, "Cannot record a refusal");
            }
        }
    }

    /// Lets somebody do something, or records that they were refused.
    ///
    /// # Errors
    /// They may not; the refusal names who could.
    pub(crate) async fn permit(
        &self,
        records: &Records,
        who: &Principal,
        wanted: (Action, &Targets),
    ) -> Result<Permit, Box<Denied>> {
        let (action, targets) = wanted;
        match may(who, action, targets) {
            Ok(permit) => Ok(permit),
            Err(denied) => {
                let others: Vec<Principal> = principals(records).collect();
                let denied = denied.with_able(others.iter());
                self.note_refusal(who, Act::Of(action), &denied.to_string()).await;
                Err(denied)
            }
        }
    }

    /// Stores what somebody does together with the event and the record of it: everything, or nothing if they may not do
    /// it any more. Answers with the number of the record's entry.
    ///
    /// # Errors
    /// As the store's commit. A conflict at the operator's own record means that their rights have changed.
    pub(crate) async fn act(
        &self,
        permit: &Permit,
        event: Draft,
        with: Transaction,
    ) -> Result<u64, CommitError> {
        self.act_with(permit, Outcome::Done, event, with).await
    }

    /// The same with an event for each of the nodes that it is about; `told` is what the record keeps.
    ///
    /// # Errors
    /// As [`Coordinator::act`].
    pub(crate) async fn act_on_many(
        &self,
        permit: &Permit,
        told: Draft,
        events: Vec<Draft>,
        with: Transaction,
    ) -> Result<u64, CommitError> {
        let who = permit.principal();
        let with = with.check(Key::operator(&who.name), who.version);
        let events = events.into_iter().map(|event| event.by(who.name.as_str())).collect();
        self.audit.record(&Note::of(who, Act::Of(permit.action()), &told), events, with).await
    }

    /// Stores that somebody orders what an agent will do; [`Coordinator::record_answer`] says what became of it.
    ///
    /// # Errors
    /// As [`Coordinator::act`]; nothing may be ordered then.
    pub(crate) async fn order(&self, permit: &Permit, event: Draft) -> Result<u64, CommitError> {
        self.act_with(permit, Outcome::Ordered, event, Transaction::default()).await
    }

    async fn act_with(
        &self,
        permit: &Permit,
        outcome: Outcome,
        event: Draft,
        with: Transaction,
    ) -> Result<u64, CommitError> {
        let who = permit.principal();
        let with = with.check(Key::operator(&who.name), who.version);
        let event = event.by(who.name.as_str());
        let note = Note::of(who, Act::Of(permit.action()), &event).with(outcome);
        self.audit.record(&note, vec![event], with).await
    }
}

/// What an act on a node reaches: its group, by the newest revision.
pub(crate) fn targets_of_node(snapshot: &Snapshot, node: &NodeName) -> Targets {
    let group = snapshot.wanted(node).map(|wanted| Target::Group(wanted.group.clone()));
    [group.unwrap_or_else(|| Target::NoGroup(node.clone()))].into()
}

/// What an act on a rollout reaches: the groups that it goes through.
pub(crate) fn targets_of_rollout(record: &RolloutRecord) -> Targets {
    record.rollout.groups.keys().cloned().map(Target::Group).collect()
}

impl Coordinator {
    /// What an act on a stored rollout reaches; nothing if there is none.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn targets_of(&self, rollout: RolloutId) -> Result<Targets, StoreError> {
        use crate::store::records::Record as _;
        let entry = self.store.get(&Key::rollout(rollout)).await?;
        // Its head names the groups.
        let record = entry.as_ref().map(RolloutRecord::read).transpose()?;
        Ok(record.as_ref().map(targets_of_rollout).unwrap_or_default())
    }
}
