//! From an uploaded fleet directory to a revision and its rollout.
//!
//! Everything that a revision names is stored before the revision; the revision, its rollout and the end of the
//! rollout before it are one transaction. So there is never half of an apply, and none is lost that was answered.

pub(crate) mod content;
mod draft;
mod told;

use std::{collections::BTreeMap, sync::Arc};

pub use draft::Selection;
pub(crate) use draft::{RevisionDraft, rules_of};
use fleet::{
    access::{Denied, Permit},
    approval::Asked,
    bundle::{Bundle, RestartClass},
    finding::{Finding, Severity},
    ids::{Digest, NodeName, OperatorName, Revision, RolloutId},
    origin::Origin,
    restart,
    rollout::{ControlError, NewRollout, NodeGoal, Rollout},
    spec::{Absent, Composition, Fleet, Secrets, Sources, compose_with},
    time::Timestamp,
    trace::TraceContext,
};
use proto::convert::bundle::decode_bundle;
use told::{applied_event, glass_event, sanction};
use tracing::info;

use crate::{
    coordinator::Coordinator,
    effects::GivenPacks,
    events::Draft,
    plan::{against_hosts, lost_apart, lost_unasked},
    proposals::{Approval, approval_asked, is_same},
    secrets::OpenError,
    signatures::unsigned,
    spans::Stages,
    store::{
        CommitError, Key, StoreError, Transaction, VALUE_MAX, blobs,
        records::{
            Assigned, ProposalRecord, ROLLOUT_STEPS_MAX, Record as _, RevisionRecord, RolloutRecord,
            Sanction, Target, Versioned,
        },
        rollouts,
    },
    view::Snapshot,
};

/// Tries when somebody else commits at the same moment.
const TRIES_MAX: usize = 8;

/// What an operator says with an apply or a rollback.
#[derive(Debug)]
pub struct Intent {
    /// Who, and that their role lets them; what is changed is judged when that is known.
    pub permit: Permit,
    /// Why, in their words.
    pub message: String,
    /// The revision that the change was made on; `None`: whatever is newest.
    pub parent: Option<Revision>,
    /// Ignore maintenance windows, for this reason.
    pub windows_overridden: Option<String>,
    /// Replace and remove what nobody declared, as the plan showed it ([`fleet::plan::digest_of_unmanaged`]).
    pub replace_unmanaged: Option<Digest>,
    /// Which nodes take part.
    pub only: Selection,
    /// The commit that the directory is at, by the word of their program.
    pub origin: Option<Origin>,
    /// Whether it has the approval that it may need.
    pub approval: Approval,
    /// Packs for products of whose hosts none is known.
    pub packs: GivenPacks,
    /// Its author's signature, as `ssh-keygen` or `minisign` wrote it; of what it is, is not known yet.
    pub signature: Option<String>,
    /// What it is a part of; nothing is decided by it.
    pub trace: Option<TraceContext>,
}

/// What became of an apply.
pub enum Applied {
    /// A revision was made.
    Done {
        /// Its number.
        revision: Revision,
        /// Its rollout; `None`: there was nothing to do and no revision was made.
        rollout: Option<RolloutId>,
        /// Warnings.
        findings: Vec<Finding>,
    },
    /// Nothing was changed; it waits for somebody else's approval.
    Proposed {
        /// What waits.
        proposal: Box<ProposalRecord>,
        /// Who may approve it.
        approvers: Vec<OperatorName>,
        /// Warnings.
        findings: Vec<Finding>,
    },
    /// Nothing was changed.
    Refused {
        /// With errors among them, if those are the reason.
        findings: Vec<Finding>,
        /// The reason, if it is another.
        why: String,
    },
}

/// What became of a draft.
pub(crate) enum Committed {
    /// A revision, and its rollout unless there was nothing to do.
    Revision(Revision, Option<RolloutId>),
    /// A proposal, and who may approve it.
    Proposed(Box<ProposalRecord>, Vec<OperatorName>),
    /// Nothing, for this reason.
    Refused(String),
}

impl Committed {
    pub(crate) fn with(self, findings: Vec<Finding>) -> Applied {
        match self {
            Self::Revision(revision, rollout) => Applied::Done { revision, rollout, findings },
            Self::Proposed(proposal, approvers) => Applied::Proposed { proposal, approvers, findings },
            Self::Refused(why) => Applied::Refused { findings, why },
        }
    }
}

/// Why a plan or an apply could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More nodes change than the record of a rollout can hold to its end.
    #[error(
        "{nodes} nodes change, and a rollout can hold {ROLLOUT_STEPS_MAX}: apply in parts, for example by first changing what only \
         some groups read"
    )]
    TooManyNodes {
        /// How many.
        nodes: usize,
    },
    /// What a revision says of its groups would be more than one record of the store takes.
    #[error(
        "the order, limits and gates of {groups} groups take {bytes} bytes, and one record of the store holds {VALUE_MAX}: \
         put nodes into fewer groups, or shorten the lists `after` and `gates`"
    )]
    RulesTooLarge {
        /// How many.
        groups: usize,
        /// Of the record.
        bytes: usize,
    },
    /// The store, while writing. Nothing was applied unless it says that this is not known.
    #[error("the revision could not be stored")]
    Commit(#[source] CommitError),
    /// It reaches more than its author may change.
    #[error(transparent)]
    Denied(#[from] Box<Denied>),
    /// Its author was removed meanwhile.
    #[error("{name} was removed while this was under way; nothing was applied")]
    Removed {
        /// Who.
        name: OperatorName,
    },
    /// The values of secrets.
    #[error(transparent)]
    Secrets(#[from] OpenError),
    /// Composition ended in a panic.
    #[error("the fleet directory could not be composed; this is a defect of Convoy")]
    Compose(#[source] tokio::task::JoinError),
}

/// Composition takes a while for a large fleet, so it leaves the runtime's threads alone.
pub(crate) async fn compose_apart(
    sources: Sources,
    secrets: Secrets,
) -> Result<(Sources, Composition), ApplyError> {
    let composing = crate::tasks::blocking(move || {
        let composition = compose_with(&sources, &secrets);
        (sources, composition)
    });
    composing.await.map_err(ApplyError::Compose)
}

pub(crate) fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

impl Coordinator {
    /// Makes a revision of `sources` and starts its rollout.
    ///
    /// # Errors
    /// The store failed; see [`ApplyError`].
    pub async fn apply(self: &Arc<Self>, sources: Sources, intent: &Intent) -> Result<Applied, ApplyError> {
        let mut stages = Stages::begin(self, intent.trace);
        let secrets = self.secrets(Absent::Refuse).await?;
        let (sources, composition) = compose_apart(sources, secrets).await?;
        stages.end("compose");
        let mut findings = composition.findings;
        let Some(fleet) = composition.fleet.filter(|_| !has_errors(&findings)) else {
            return Ok(Applied::Refused { findings, why: String::new() });
        };
        if let Some(why) = self.other_fleet(&fleet) {
            return Ok(Applied::Refused { findings, why });
        }
        let snapshot = self.snapshot().await?;
        let newest = snapshot.meta.record.newest_revision;
        if let Some(parent) = intent.parent.filter(|parent| *parent != newest) {
            return Ok(Applied::Refused { findings, why: self.stale(parent, newest).await? });
        }
        let signed = match self.signed(&snapshot, &fleet.signatures, (&sources, intent)) {
            Ok(signed) => signed,
            Err(why) => return Ok(Applied::Refused { findings, why }),
        };
        let draft = match RevisionDraft::of(&fleet, &sources).limited(&fleet, &intent.only, &snapshot) {
            Ok(draft) => RevisionDraft { origin: intent.origin.clone(), signed, ..draft },
            Err(why) => return Ok(Applied::Refused { findings, why }),
        };
        // Before anything is stored, and again when it is committed: who may sign can change until then.
        if let Some(why) = unsigned(&snapshot, &draft).filter(|_| !is_same(&snapshot, &draft)) {
            return Ok(Applied::Refused { findings, why });
        }
        let subjects = self.subjects_of(&snapshot, &fleet, &draft).await?;
        let packs = self.node_packs(&snapshot, &fleet, (&subjects, &intent.packs)).await?;
        let (fleet, doubts) = self.doubts(fleet, packs).await?;
        findings.extend(doubts);
        findings.extend(against_hosts(&subjects, &fleet));
        findings.extend(self.unknown_channels(&fleet));
        if has_errors(&findings) {
            return Ok(Applied::Refused { findings, why: String::new() });
        }
        let (fleet, lost) = lost_apart(fleet, subjects).await?;
        if let Some(why) = lost_unasked(&lost, intent) {
            return Ok(Applied::Refused { findings, why });
        }
        stages.end("plan");
        // Nobody may remove content as garbage between its being stored and its revision.
        let _applying = self.applying.lock().await;
        match self.keep_revision_content((&fleet, &sources), &draft).await {
            Ok(()) => {}
            Err(CommitError::NoRoom(why)) => {
                return Ok(Applied::Refused { findings, why: why.to_string() });
            }
            Err(error) => return Err(ApplyError::Commit(error)),
        }
        stages.end("store content");
        let committed = self.commit_revision(&draft, Some(&fleet), intent).await?;
        stages.end("commit");
        Ok(committed.with(findings))
    }

    pub(crate) async fn commit_revision(
        &self,
        draft: &RevisionDraft,
        fleet: Option<&Fleet>,
        intent: &Intent,
    ) -> Result<Committed, ApplyError> {
        for _ in 0..TRIES_MAX {
            let snapshot = self.snapshot().await?;
            let newest = snapshot.meta.record.newest_revision;
            if let Some(parent) = intent.parent.filter(|parent| *parent != newest) {
                return Ok(Committed::Refused(self.stale(parent, newest).await?));
            }
            let overridden = intent.windows_overridden.clone();
            let rollout = self.new_rollout(&snapshot, fleet, draft, (newest.next(), overridden)).await?;
            if is_same(&snapshot, draft) && rollout.steps.is_empty() {
                return Ok(Committed::Revision(newest, None));
            }
            if let Some(why) = unsigned(&snapshot, draft) {
                return Ok(Committed::Refused(why));
            }
            let permit = self.permit_revision(&snapshot, &intent.permit, (draft, &rollout)).await?;
            let asked = approval_asked(&snapshot, draft, permit.targets());
            let committed = match (&intent.approval, &asked) {
                (Approval::Ask, Some(asked)) => {
                    self.propose(&snapshot, draft, (intent, &permit, &rollout), asked).await
                }
                (Approval::Given(approved), _) => {
                    let same = approved.differs(draft).map_or(Ok(()), Err);
                    match same.and_then(|()| Self::author_may(&snapshot, approved, permit.targets())) {
                        Ok(()) => self.commit_once(&snapshot, draft, (intent, &permit, &rollout), None).await,
                        Err(why) => return Ok(Committed::Refused(why)),
                    }
                }
                (Approval::Ask | Approval::BreakGlass(_), _) => {
                    self.commit_once(&snapshot, draft, (intent, &permit, &rollout), asked.as_ref()).await
                }
            };
            match committed {
                Err(ApplyError::Commit(CommitError::Conflict { key })) => {
                    if let Approval::Given(approved) = &intent.approval
                        && key == Key::proposal(approved.id())
                    {
                        let id = approved.id();
                        let why = format!("somebody else decided over proposal {id} at the same moment");
                        return Ok(Committed::Refused(why));
                    }
                }
                other => return other,
            }
        }
        Ok(Committed::Refused(
            "others keep changing the fleet at the same moment; nothing was applied, try again".to_owned(),
        ))
    }

    /// Stores a revision and its rollout. `unapproved`: why it needed an approval that it has not.
    async fn commit_once(
        &self,
        snapshot: &Snapshot,
        draft: &RevisionDraft,
        (intent, permit, rollout): (&Intent, &Permit, &Rollout),
        unapproved: Option<&Asked>,
    ) -> Result<Committed, ApplyError> {
        let sanction = sanction(intent, permit, unapproved);
        let commit = self.revision_commit(snapshot, (draft, &sanction), intent, rollout).await?;
        let event = applied_event(draft, (intent, &sanction), rollout);
        let glass = glass_event(&sanction, permit, unapproved, rollout);
        let events: Vec<Draft> = [event.clone()].into_iter().chain(glass).collect();
        self.act_on_many(permit, event, events, commit).await.map_err(ApplyError::Commit)?;
        for (old, next) in superseded(snapshot, rollout.id, rollout.started) {
            self.trace_rollout(snapshot, old, &next);
        }
        info!(
            revision = rollout.revision.0,
            rollout = rollout.id.0,
            by = %permit.operator(),
            "Applied a revision"
        );
        Ok(Committed::Revision(rollout.revision, Some(rollout.id)))
    }

    /// The rollout that brings every node to its target.
    pub(crate) async fn new_rollout(
        &self,
        snapshot: &Snapshot,
        fleet: Option<&Fleet>,
        draft: &RevisionDraft,
        (revision, windows_overridden): (Revision, Option<String>),
    ) -> Result<Rollout, ApplyError> {
        let mut nodes = BTreeMap::new();
        for (name, target) in draft.nodes.iter().filter(|(name, _)| !draft.stays.contains(*name)) {
            let composed = fleet.and_then(|fleet| fleet.nodes.get(name)).map(|node| &node.bundle);
            // What was composed just now need not be stored to be compared; what is rolled back to is.
            let composed = composed.filter(|bundle| bundle.digest() == target.bundle);
            nodes.insert(name.clone(), self.goal(snapshot, name, (target, composed)).await?);
        }
        let new = NewRollout {
            id: snapshot.meta.record.newest_rollout.next(),
            revision,
            at: (self.clock)(),
            rules: draft.rules.clone(),
            nodes,
            windows_overridden,
        };
        let rollout = new.create(&snapshot.view_of(&draft.nodes));
        match rollout.steps.len() {
            nodes if ROLLOUT_STEPS_MAX < nodes => Err(ApplyError::TooManyNodes { nodes }),
            _ => Ok(rollout),
        }
    }

    async fn goal(
        &self,
        snapshot: &Snapshot,
        name: &NodeName,
        (target, composed): (&Target, Option<&Bundle>),
    ) -> Result<NodeGoal, ApplyError> {
        let record = snapshot.nodes.get(name).map(|node| &node.record);
        let running = snapshot.seen.get(name).and_then(|seen| seen.observed.as_ref());
        let running = running.and_then(|observed| observed.running);
        let assigned = running.and_then(|running| record?.assigned(running.generation));
        let assigned: Option<&Assigned> = assigned.filter(|assigned| {
            Some(assigned.applied()) == running && assigned.target.bundle != target.bundle
        });
        let (old, new) = match (assigned, composed) {
            (Some(assigned), Some(new)) => (self.bundle(&assigned.target.content).await?, Some(new.clone())),
            (Some(assigned), None) => {
                (self.bundle(&assigned.target.content).await?, self.bundle(&target.content).await?)
            }
            (None, _) => (None, None),
        };
        let compared = old.zip(new).map(|(old, new)| restart::decide(&old, &new).class);
        let last_good = snapshot.seen.get(name).and_then(|seen| seen.last_good.as_ref());
        Ok(NodeGoal {
            group: target.group.clone(),
            target: target.for_rollout(),
            restart: compared.unwrap_or(RestartClass::Restart),
            compared_with: compared.and(assigned).map(|assigned| assigned.target.bundle),
            last_good: last_good.map(|good| good.target.for_rollout()),
        })
    }

    /// A stored bundle; `None` if it is not kept (a plan stores nothing, so its new bundles are not).
    pub(crate) async fn bundle(&self, content: &Digest) -> Result<Option<Bundle>, StoreError> {
        let bytes = blobs::get(&*self.store, content).await?;
        Ok(bytes.and_then(|bytes| decode_bundle(&bytes).ok()))
    }
}

impl Coordinator {
    /// Revision, rollout, counters, the end of the rollout before and that of a proposal, in one transaction; what is too
    /// large for it is stored already.
    async fn revision_commit(
        &self,
        snapshot: &Snapshot,
        (draft, sanction): (&RevisionDraft, &Sanction),
        intent: &Intent,
        rollout: &Rollout,
    ) -> Result<Transaction, ApplyError> {
        let mut meta = snapshot.meta.record.clone();
        let by = intent.permit.operator();
        let author = match &intent.approval {
            Approval::Given(approved) => approved.author(),
            Approval::Ask | Approval::BreakGlass(_) => by,
        };
        let numbers = (rollout.revision, meta.newest_revision);
        let revision = draft.record(numbers, (author.as_str(), &intent.message), rollout.started);
        let revision = RevisionRecord { sanction: sanction.clone(), ..revision };
        (meta.newest_revision, meta.newest_rollout) = (rollout.revision, rollout.id);
        let words = (author.to_string(), intent.message.clone());
        let record = RolloutRecord::new(rollout.clone(), words, draft.rolls_back_to);
        let record = RolloutRecord { trace: intent.trace, ..record };
        let (head, parts) = revision.split();
        let encoded = head.encode();
        if VALUE_MAX < encoded.len() {
            return Err(ApplyError::RulesTooLarge { groups: draft.rules.groups.len(), bytes: encoded.len() });
        }
        self.keep_parts(parts).await.map_err(ApplyError::Commit)?;
        let begin = rollouts::begin(&*self.store, &record).await.map_err(ApplyError::Commit)?;
        let commit = Transaction::default()
            .replace(Key::meta(), snapshot.meta.version, meta.encode())
            .replace(Key::revision(revision.number), 0, encoded)
            .and(begin);
        let commit = match &intent.approval {
            Approval::Given(approved) => approved.conclude(snapshot, commit, (&revision, by)),
            Approval::Ask | Approval::BreakGlass(_) => commit,
        };
        Ok(supersede(commit, snapshot, rollout.id, rollout.started))
    }
}

fn supersede(commit: Transaction, snapshot: &Snapshot, by: RolloutId, at: Timestamp) -> Transaction {
    superseded(snapshot, by, at)
        .fold(commit, |commit, (old, next)| commit.and(rollouts::replace(old, next).1))
}

/// The rollouts that end because `by` begins, as they are and as they will be.
fn superseded(
    snapshot: &Snapshot,
    by: RolloutId,
    at: Timestamp,
) -> impl Iterator<Item = (&Versioned<RolloutRecord>, Rollout)> {
    snapshot.rollouts.iter().filter_map(move |old| {
        let next: Result<Rollout, ControlError> = old.record.rollout.supersede(by, at);
        // One that has ended is not superseded.
        next.ok().map(|next| (&**old, next))
    })
}

#[cfg(test)]
mod tests;
