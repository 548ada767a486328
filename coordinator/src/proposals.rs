//! Changes that wait for approval: made by an apply or a rollback that needs it, ended by approval, rejection or time
//! (ADR 0084). Who may decide is [`fleet::approval`]'s.
//!
//! An approved proposal is composed again and goes through all that an apply goes through. If that makes anything else
//! than what was proposed, it is refused: what somebody approved is what is rolled out.

mod expiry;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use expiry::run;
use fleet::{
    access::{Action, Permit, Principal, Target, Targets, may},
    approval::{Asked, ProposalState, Undecidable, asked},
    finding::names_at_most,
    ids::{NodeName, OperatorName, ProposalId, Revision},
    reason::Reason,
    rollout::Rollout,
    signature::Signature,
    spec::Sources,
};
use tracing::info;

use crate::{
    access::principals,
    apply::{Applied, ApplyError, Committed, Intent, RevisionDraft},
    coordinator::Coordinator,
    effects::GivenPacks,
    events::{Draft, Kind},
    plan::Planned,
    signatures::signed_by,
    store::{
        CommitError, Key, Range, StoreError, Transaction, VALUE_MAX, blobs,
        records::{ProposalRecord, Record as _, RevisionRecord, Versioned},
        revisions,
    },
    view::Snapshot,
};

/// Proposals that wait at once.
const OPEN_MAX: usize = 32;
/// Proposals that are kept, whatever became of them.
const KEPT_MAX: usize = 200;
/// Nodes and operators that a sentence names.
const NAMED_MAX: usize = 5;
/// Bytes of the reason of a rejection.
pub(crate) const REASON_MAX: usize = 4096;

/// Whether a change that needs approval has it.
#[derive(Debug)]
pub enum Approval {
    /// It becomes a proposal.
    Ask,
    /// It goes out without, for this reason.
    BreakGlass(String),
    /// Somebody who is not its author approves it.
    Given(Box<Approved>),
}

/// What somebody approves.
#[derive(Debug)]
pub struct Approved {
    record: Versioned<ProposalRecord>,
    whole: RevisionRecord,
}

impl Approved {
    pub(crate) fn id(&self) -> ProposalId {
        self.record.id
    }

    pub(crate) fn author(&self) -> &OperatorName {
        &self.record.author
    }

    /// The signature that it was proposed with.
    pub(crate) fn signed(&self) -> Option<Signature> {
        self.whole.signed.clone()
    }

    /// Stores together with a revision that it became that; only if the rights of its author are still those of the
    /// snapshot.
    pub(crate) fn conclude(
        &self,
        snapshot: &Snapshot,
        commit: Transaction,
        (revision, by): (&RevisionRecord, &OperatorName),
    ) -> Transaction {
        let author = principals(snapshot).find(|who| who.name == self.record.author);
        let commit = commit.check(Key::operator(&self.record.author), author.map_or(0, |who| who.version));
        let (by, at) = (by.clone(), revision.created);
        let state = ProposalState::Approved { by, at, revision: revision.number };
        let record = ProposalRecord { state, ..self.record.record.clone() };
        commit.replace(Key::proposal(record.id), self.record.version, record.encode())
    }

    /// Why this is not what was proposed.
    pub(crate) fn differs(&self, draft: &RevisionDraft) -> Option<String> {
        let (id, whole) = (self.id(), &self.whole);
        let again = "its author can propose it again";
        let names: BTreeSet<&NodeName> = whole.nodes.keys().chain(draft.nodes.keys()).collect();
        let differing = names.into_iter().filter(|name| whole.nodes.get(*name) != draft.nodes.get(*name));
        let differing: Vec<&str> = differing.map(NodeName::as_str).collect();
        if !differing.is_empty() {
            return Some(format!(
                "proposal {id} would now be something else on {}, most likely because a secret has changed since; {again}",
                names_at_most(NAMED_MAX, differing)
            ));
        }
        let same = whole.rules.as_ref() == Some(&draft.rules)
            && whole.left_out == draft.left_out
            && whole.approval == draft.approval
            && whole.signatures == draft.signatures
            && whole.sources == draft.sources
            && whole.rolls_back_to == draft.rolls_back_to;
        (!same).then(|| format!("proposal {id} would now be something else than was proposed; {again}"))
    }
}

/// Why nobody decided over a proposal.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is none of that number.
    #[error("there is no proposal {0}; `convoy proposal list` shows those that are kept")]
    Unknown(ProposalId),
    /// It cannot be decided, or not by this operator, or not this way.
    #[error("{0}")]
    Refused(String),
    /// As an apply.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl From<StoreError> for DecideError {
    fn from(error: StoreError) -> Self {
        Self::Apply(error.into())
    }
}

/// What a draft and the newest revision have in common decides whether there is anything to approve.
pub(crate) fn is_same(snapshot: &Snapshot, draft: &RevisionDraft) -> bool {
    snapshot.revision.as_ref().is_some_and(|revision| {
        // Guards and rollbacks go by the rules of a revision, so other rules make another one.
        revision.nodes == draft.nodes
            && revision.left_out == draft.left_out
            && revision.approval == draft.approval
            && revision.alerts == draft.alerts
            && revision.signatures == draft.signatures
            && revision.rules.as_ref().is_none_or(|rules| *rules == draft.rules)
    })
}

/// Why a revision that reaches these targets needs approval; `None`: it does not. What is in force already was approved
/// with the revision that brought it, so bringing it to nodes that are behind needs none.
pub(crate) fn approval_asked(snapshot: &Snapshot, draft: &RevisionDraft, reached: &Targets) -> Option<Asked> {
    let running = snapshot.revision.as_ref().map(|revision| &revision.approval);
    asked(running, &draft.approval, reached).filter(|_| !is_same(snapshot, draft))
}

/// Who may approve what somebody else proposed.
pub(crate) fn approvers(snapshot: &Snapshot, record: &ProposalRecord) -> Vec<OperatorName> {
    let targets = record.targets();
    let may_approve =
        |who: &Principal| who.name != record.author && may(who, Action::Approve, &targets).is_ok();
    principals(snapshot).filter(may_approve).map(|who| who.name).take(NAMED_MAX).collect()
}

impl ProposalRecord {
    /// Bytes of the directory that has to be composed to show or to approve it; `None`: not known. A rollback composes
    /// nothing.
    pub(crate) fn bytes_to_compose(&self) -> Option<u64> {
        match (self.told().rolls_back_to, self.source_bytes) {
            (Some(_), _) => Some(0),
            (None, 0) => None,
            (None, bytes) => Some(bytes),
        }
    }
}

impl Coordinator {
    /// The newest proposals, newest first.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn proposals(&self, most: usize) -> Result<Vec<Versioned<ProposalRecord>>, StoreError> {
        let entries = self.store.range(Range::last(Key::PROPOSALS, most.min(KEPT_MAX))).await?;
        let read = |entry: &crate::store::Entry| {
            Ok(Versioned { version: entry.version, record: ProposalRecord::read(entry)? })
        };
        entries.iter().map(read).collect()
    }

    /// One proposal.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub(crate) async fn proposal(&self, id: ProposalId) -> Result<Versioned<ProposalRecord>, DecideError> {
        let entry = self.store.get(&Key::proposal(id)).await?.ok_or(DecideError::Unknown(id))?;
        Ok(Versioned { version: entry.version, record: ProposalRecord::read(&entry)? })
    }

    /// Stores what an apply or a rollback would do, instead of doing it.
    ///
    /// # Errors
    /// The store failed. A conflict means that somebody else was faster: look again.
    pub(crate) async fn propose(
        &self,
        snapshot: &Snapshot,
        draft: &RevisionDraft,
        (intent, permit, rollout): (&Intent, &Permit, &Rollout),
        asked: &Asked,
    ) -> Result<Committed, ApplyError> {
        let kept = self.proposals(usize::MAX).await?;
        let (now, newest) = (rollout.started, snapshot.meta.record.newest_revision);
        let standing = |record: &ProposalRecord| record.proposed().standing(now, newest);
        let waiting = kept.iter().filter(|it| standing(it).waits());
        if OPEN_MAX <= waiting.count() {
            return Ok(Committed::Refused(format!(
                "{OPEN_MAX} proposals wait for a decision; approve or reject some: `convoy proposal list`"
            )));
        }
        let id = ProposalId(kept.first().map_or(0, |newest| newest.id.0) + 1);
        let author = permit.operator().clone();
        let revision = draft.record((Revision(0), newest), (author.as_str(), &intent.message), now);
        let (head, parts) = revision.split();
        let is_group = |target: &Target| match target {
            Target::Group(group) => Some(group.clone()),
            Target::ForeignSecret { .. } | Target::NoGroup(_) | Target::Fleet | Target::Secret(_) => None,
        };
        let reached = permit.targets();
        let record = ProposalRecord {
            id,
            author,
            head,
            expires: now.after(draft.approval.expires),
            windows_overridden: intent.windows_overridden.clone(),
            replace_unmanaged: intent.replace_unmanaged,
            only: intent.only.clone(),
            asked: asked.to_string(),
            groups: reached.iter().filter_map(is_group).collect(),
            reaches_fleet: reached.iter().any(|target| is_group(target).is_none()),
            packs: intent.packs.digests(),
            source_bytes: draft.source_bytes,
            state: ProposalState::Open,
        };
        let encoded = record.encode();
        if VALUE_MAX < encoded.len() {
            return Err(ApplyError::RulesTooLarge { groups: draft.rules.groups.len(), bytes: encoded.len() });
        }
        match self.keep_content(&intent.packs.contents()).await {
            Ok(()) => {}
            Err(CommitError::NoRoom(why)) => return Ok(Committed::Refused(why.to_string())),
            Err(error) => return Err(ApplyError::Commit(error)),
        }
        self.keep_parts(parts).await.map_err(ApplyError::Commit)?;
        let old = kept.iter().skip(KEPT_MAX - 1).map(|record| Key::proposal(record.id));
        let commit = Transaction::default().check(Key::meta(), snapshot.meta.version).replace(
            Key::proposal(id),
            0,
            encoded,
        );
        let commit = old.fold(commit, Transaction::delete);
        let event = proposed_event(&record, rollout);
        self.act(permit, event, commit).await.map_err(ApplyError::Commit)?;
        info!(proposal = id.0, author = %record.author, "Stored a proposal");
        let approvers = approvers(snapshot, &record);
        Ok(Committed::Proposed(Box::new(record), approvers))
    }

    /// Rolls out what somebody else proposed.
    ///
    /// # Errors
    /// It cannot be approved by this operator, or the store failed; see [`DecideError`].
    pub async fn approve(self: &Arc<Self>, id: ProposalId, permit: Permit) -> Result<Applied, DecideError> {
        let record = self.proposal(id).await?;
        if let Some(why) = self.unapprovable(&record, permit.operator()).await? {
            self.record_refusal(&permit, None, &why).await;
            return Err(DecideError::Refused(why));
        }
        let whole = revisions::whole(&*self.store, record.head.clone()).await?;
        let to = whole.rolls_back_to;
        let sources = if to.is_some() { Sources::default() } else { self.stored_sources(&whole).await? };
        let packs = self.kept_packs(&record).await?;
        let intent = Intent {
            permit,
            message: whole.message.clone(),
            parent: Some(record.base()),
            windows_overridden: record.windows_overridden.clone(),
            replace_unmanaged: record.replace_unmanaged,
            only: record.only.clone(),
            origin: whole.origin.clone(),
            approval: Approval::Given(Box::new(Approved { record, whole })),
            packs,
            signature: None,
            trace: None,
        };
        let applied = match to {
            Some(to) => self.roll_back(Some(to), &intent).await?,
            None => self.apply(sources, &intent).await?,
        };
        self.record_refused_change(&intent.permit, &applied).await;
        Ok(applied)
    }

    /// Why somebody cannot approve a proposal, as far as it is not about what it reaches.
    async fn unapprovable(
        &self,
        record: &ProposalRecord,
        who: &OperatorName,
    ) -> Result<Option<String>, ApplyError> {
        let newest = self.snapshot().await?.meta.record.newest_revision;
        let why = match record.proposed().may_approve(who, (self.clock)(), newest) {
            Ok(()) => return Ok(None),
            Err(why) => why,
        };
        Ok(Some(match &why {
            Undecidable::Outdated { id, base, newest } => {
                let changed = self.stale(*base, *newest).await?;
                format!("proposal {id} cannot be approved any more: {changed}, and propose it again")
            }
            Undecidable::Approved { .. }
            | Undecidable::Rejected { .. }
            | Undecidable::Expired { .. }
            | Undecidable::Own { .. } => why.to_string(),
        }))
    }

    /// A change that was refused is recorded, whatever the reason.
    pub(crate) async fn record_refused_change(&self, permit: &Permit, applied: &Applied) {
        if let Applied::Refused { findings, why } = applied {
            let why = if why.is_empty() { format!("{} findings", findings.len()) } else { why.clone() };
            self.record_refusal(permit, None, &why).await;
        }
    }

    /// What a proposal would change now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn plan_proposal(self: &Arc<Self>, record: &ProposalRecord) -> Result<Planned, ApplyError> {
        if let Some(to) = record.told().rolls_back_to {
            return Ok(self.plan_rollback(Some(to)).await?.1);
        }
        let whole = revisions::whole(&*self.store, record.head.clone()).await?;
        let sources = self.stored_sources(&whole).await?;
        let packs = self.kept_packs(record).await?;
        let planned = self.plan(sources, &packs, &record.only).await?;
        Ok(Planned { signed: whole.signed, signers: None, ..planned })
    }

    /// The packs that its author gave.
    async fn kept_packs(&self, record: &ProposalRecord) -> Result<GivenPacks, StoreError> {
        let mut packs = GivenPacks::default();
        for (product, digest) in &record.packs {
            let facts = self.pack(digest).await?;
            let facts = facts.map_err(|_| StoreError::missing("read the pack of a proposal"))?;
            packs.put(product.clone(), *digest, facts);
        }
        Ok(packs)
    }

    /// Ends a proposal. Its author takes it back, whatever it reaches.
    ///
    /// # Errors
    /// Somebody decided already, or the store failed; see [`DecideError`].
    pub async fn reject(&self, id: ProposalId, reason: &str, permit: &Permit) -> Result<String, DecideError> {
        let found = self.proposal(id).await?;
        let now = (self.clock)();
        found.proposed().may_reject(now).map_err(|why| DecideError::Refused(why.to_string()))?;
        let by = permit.operator().clone();
        let why = Reason(reason);
        let text = if by == found.author {
            format!("{by} takes back proposal {id}{why}")
        } else {
            format!("{by} rejects proposal {id} of {}{why}", found.author)
        };
        let state = ProposalState::Rejected { by, at: now, reason: reason.to_owned() };
        let record = ProposalRecord { state, ..found.record.clone() };
        let commit = Transaction::default().replace(Key::proposal(id), found.version, record.encode());
        let event = Draft::new(now, Kind::ProposalRejected, text.clone()).with("proposal", &id);
        match self.act(permit, event, commit).await {
            Ok(_) => Ok(text),
            Err(CommitError::Conflict { .. }) => Err(DecideError::Refused(format!(
                "somebody else decided over proposal {id} at the same moment: `convoy proposal show {id}`"
            ))),
            Err(error) => Err(ApplyError::Commit(error).into()),
        }
    }

    /// Whether the author of what is approved may still do it themselves.
    pub(crate) fn author_may(
        snapshot: &Snapshot,
        approved: &Approved,
        reached: &Targets,
    ) -> Result<(), String> {
        let (id, author) = (approved.id(), approved.author());
        let action = if approved.whole.rolls_back_to.is_some() { Action::RollBack } else { Action::Apply };
        let Some(who) = principals(snapshot).find(|who| who.name == *author) else {
            return Err(format!("{author}, who made proposal {id}, is no operator any more"));
        };
        may(&who, action, reached)
            .map(drop)
            .map_err(|denied| format!("proposal {id} is by {author}: {denied}"))
    }

    /// The fleet directory of a revision, as it was uploaded.
    pub(crate) async fn stored_sources(&self, revision: &RevisionRecord) -> Result<Sources, StoreError> {
        let mut sources = BTreeMap::new();
        for (path, digest) in &revision.sources {
            let content = blobs::get(&*self.store, digest).await?;
            let content = content.ok_or_else(|| StoreError::missing("read a revision's content"))?;
            sources.insert(path.clone(), content.to_vec());
        }
        Ok(Sources(sources))
    }
}

fn proposed_event(record: &ProposalRecord, rollout: &Rollout) -> Draft {
    let told = record.told();
    let what = match told.rolls_back_to {
        Some(to) => format!("proposes as {} to go back to revision {to}", record.id),
        None => format!("proposes a change as {}", record.id),
    };
    let origin = told.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
    let text = format!(
        "{} {what}{origin}{}{}; nodes that change: {}; {}",
        record.author,
        signed_by(told.signed.as_ref()),
        Reason(&told.message),
        rollout.steps.len(),
        record.asked
    );
    let event = Draft::new(rollout.started, Kind::Proposed, text);
    let event = event.with("proposal", &record.id).with("base", &record.base());
    match &told.origin {
        Some(origin) => event.with("commit", &origin.commit()).with("files_changed", &origin.changed()),
        None => event,
    }
}
