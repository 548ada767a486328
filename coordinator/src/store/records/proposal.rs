//! A change that waits for approval: a revision without a number, as a head whose parts are stored like those of
//! revisions, and what else its author said.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    access::{Target, Targets},
    approval::{ProposalState, Proposed},
    ids::{Digest, GroupName, OperatorName, ProposalId, Revision},
    time::Timestamp,
    words::{ProposalWord, Said},
};
use proto::wire::store as wire;

use super::{
    Record, RevisionHead, RevisionRecord, digest,
    revision::{names, operator},
};
use crate::apply::Selection;

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalRecord {
    /// From 1.
    pub id: ProposalId,
    /// Who made it. The head says the same, as text.
    pub author: OperatorName,
    /// What it would become; without a number. The parts are kept while it waits.
    pub head: RevisionHead,
    /// When it ends if nobody decides.
    pub expires: Timestamp,
    /// Ignore maintenance windows, for this reason.
    pub windows_overridden: Option<String>,
    /// What nobody declared and may be replaced.
    pub replace_unmanaged: Option<Digest>,
    /// Which nodes take part.
    pub only: Selection,
    /// Why it needs approval.
    pub asked: String,
    /// Groups that it changes.
    pub groups: BTreeSet<GroupName>,
    /// It also changes what belongs to no single group.
    pub reaches_fleet: bool,
    /// Packs that its author gave, by product: they are content, kept while it waits.
    pub packs: BTreeMap<String, Digest>,
    /// Bytes of its fleet directory; 0 in records of before this field, and of a rollback.
    pub source_bytes: u64,
    /// What became of it.
    pub state: ProposalState,
}

impl ProposalRecord {
    /// What is known without the parts.
    pub fn told(&self) -> &RevisionRecord {
        self.head.told()
    }

    /// The revision it was made on; 0: none was applied.
    pub fn base(&self) -> Revision {
        self.told().parent
    }

    /// What decides over it.
    pub fn proposed(&self) -> Proposed<'_> {
        let Self { id, author, expires, state, .. } = self;
        Proposed { id: *id, author, base: self.base(), expires: *expires, state }
    }

    /// What it reaches.
    pub fn targets(&self) -> Targets {
        let groups = self.groups.iter().cloned().map(Target::Group);
        groups.chain(self.reaches_fleet.then_some(Target::Fleet)).collect()
    }
}

impl Record for ProposalRecord {
    type Wire = wire::Proposal;
    const NAME: &'static str = "a proposal";

    fn to_wire(&self) -> wire::Proposal {
        let decided = |by: &OperatorName, at: &Timestamp| (by.to_string(), at.0);
        let (state, (decided_by, decided_ms), reason, became) = match &self.state {
            // Earlier versions know by the time that it has expired.
            ProposalState::Open | ProposalState::Expired => {
                (ProposalWord::Open, (String::new(), 0), String::new(), 0)
            }
            ProposalState::Approved { by, at, revision } => {
                (ProposalWord::Approved, decided(by, at), String::new(), revision.0)
            }
            ProposalState::Rejected { by, at, reason } => {
                (ProposalWord::Rejected, decided(by, at), reason.clone(), 0)
            }
        };
        wire::Proposal {
            id: self.id.0,
            revision: Some(self.head.to_wire()),
            expires_ms: self.expires.0,
            windows_overridden: self.windows_overridden.clone(),
            replace_unmanaged: self.replace_unmanaged.map(|digest| digest.0.to_vec()).unwrap_or_default(),
            nodes: self.only.nodes.iter().map(ToString::to_string).collect(),
            groups: self.only.groups.iter().map(ToString::to_string).collect(),
            asked: self.asked.clone(),
            reached: self.groups.iter().map(ToString::to_string).collect(),
            reaches_fleet: self.reaches_fleet,
            state: state.to_string(),
            decided_by,
            decided_ms,
            reason,
            became,
            expired: self.state == ProposalState::Expired,
            packs: self.packs.iter().map(|(product, pack)| (product.clone(), pack.0.to_vec())).collect(),
            source_bytes: self.source_bytes,
        }
    }

    fn from_wire(wire: wire::Proposal) -> Result<Self, String> {
        let by = || operator(&wire.decided_by);
        let at = Timestamp(wire.decided_ms);
        let state = match Said::of(&wire.state) {
            Said::Word(ProposalWord::Open) if wire.expired => ProposalState::Expired,
            Said::Word(ProposalWord::Open) => ProposalState::Open,
            Said::Word(ProposalWord::Approved) => {
                ProposalState::Approved { by: by()?, at, revision: Revision(wire.became) }
            }
            Said::Word(ProposalWord::Rejected) => {
                ProposalState::Rejected { by: by()?, at, reason: wire.reason }
            }
            other => return Err(format!("{:?} is no state of a proposal", other.as_str())),
        };
        let head = RevisionHead::from_wire(wire.revision.ok_or("a proposal has no revision")?)?;
        let packs = wire.packs.into_iter().map(|(product, pack)| {
            let pack = digest(&pack, "a pack of a proposal")?;
            Ok((product, pack))
        });
        let replace = Some(wire.replace_unmanaged).filter(|digest| !digest.is_empty());
        Ok(Self {
            id: ProposalId(wire.id),
            author: operator(&head.told().author)?,
            head,
            expires: Timestamp(wire.expires_ms),
            windows_overridden: wire.windows_overridden,
            replace_unmanaged: replace.map(|bytes| digest(&bytes, "what may be replaced")).transpose()?,
            only: Selection { nodes: names(&wire.nodes)?, groups: groups(&wire.groups)? },
            asked: wire.asked,
            groups: groups(&wire.reached)?,
            reaches_fleet: wire.reaches_fleet,
            packs: packs.collect::<Result<_, String>>()?,
            source_bytes: wire.source_bytes,
            state,
        })
    }
}

fn groups(wire: &[String]) -> Result<BTreeSet<GroupName>, String> {
    wire.iter().map(|group| GroupName::parse(group).map_err(|error| error.to_string())).collect()
}
