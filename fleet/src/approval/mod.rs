//! Four eyes: which changes somebody else has to approve, and who may approve one. Pure: `now` and what a change reaches
//! are arguments (ADR 0084).
//!
//! The rules of the revision in force count as well as those of the new one, so a change that removes a rule is held to
//! it.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{
    access::{Target, Targets},
    finding::names_at_most,
    ids::{GroupName, OperatorName, ProposalId, Revision},
    reason::Reason,
    time::Timestamp,
    words::ProposalWord,
};

/// Names that a sentence lists.
const NAMED_MAX: usize = 3;

/// How long a proposal waits, if fleet.toml says nothing else.
pub const EXPIRES: Duration = Duration::from_secs(24 * 3600);
/// The shortest and the longest that fleet.toml may say.
pub const EXPIRES_RANGE: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(30 * 24 * 3600));

/// `[approval]` of a fleet, and of its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRules {
    /// Every change of the fleet needs approval.
    pub fleet: bool,
    /// Changes that reach one of these groups do.
    pub groups: BTreeSet<GroupName>,
    /// How long a proposal waits.
    pub expires: Duration,
}

impl Default for ApprovalRules {
    fn default() -> Self {
        Self { fleet: false, groups: BTreeSet::new(), expires: EXPIRES }
    }
}

impl ApprovalRules {
    /// Nothing needs approval.
    pub fn is_none(&self) -> bool {
        !self.fleet && self.groups.is_empty()
    }

    /// What a change of these rules to `next` reaches.
    pub fn reached_by(&self, next: &Self) -> Targets {
        let groups = self.groups.symmetric_difference(&next.groups).cloned().map(Target::Group);
        let fleet = (self.fleet != next.fleet || self.expires != next.expires).then_some(Target::Fleet);
        groups.chain(fleet).collect()
    }

    /// Which of these rules hold for a change that reaches these targets.
    fn of(&self, reached: &Targets) -> Rules {
        let of_target = |target: &Target| -> BTreeSet<GroupName> {
            match target {
                Target::Group(group) | Target::ForeignSecret { secret: _, group } => {
                    self.groups.get(group).into_iter().cloned().collect()
                }
                // What is everybody's is also theirs.
                Target::Fleet | Target::NoGroup(_) | Target::Secret(_) => self.groups.clone(),
            }
        };
        Rules { fleet: self.fleet, groups: reached.iter().flat_map(of_target).collect() }
    }
}

/// Rules that hold for one change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rules {
    fleet: bool,
    groups: BTreeSet<GroupName>,
}

impl Rules {
    fn is_none(&self) -> bool {
        !self.fleet && self.groups.is_empty()
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fleet {
            return f.write_str("the fleet asks for approval");
        }
        let names = names_at_most(NAMED_MAX, self.groups.iter().map(GroupName::as_str));
        match self.groups.len() {
            1 => write!(f, "group {names} asks for approval"),
            _ => write!(f, "groups {names} ask for approval"),
        }
    }
}

/// Why a change needs approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    rules: Rules,
    /// Only the revision in force asks; the new one would not.
    ends: bool,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rules)?;
        if self.ends { f.write_str(", also for the change that ends this rule") } else { Ok(()) }
    }
}

/// Whether a change that reaches these targets needs approval. `running` are the rules of the revision in force; `None`:
/// nothing was applied yet.
pub fn asked(running: Option<&ApprovalRules>, next: &ApprovalRules, reached: &Targets) -> Option<Asked> {
    let after = next.of(reached);
    let before = running.map(|running| running.of(reached)).filter(|before| !before.is_none());
    match before {
        Some(before) => {
            let ends = after.is_none();
            let groups = before.groups.union(&after.groups).cloned().collect();
            Some(Asked { rules: Rules { fleet: before.fleet || after.fleet, groups }, ends })
        }
        None => (!after.is_none()).then_some(Asked { rules: after, ends: false }),
    }
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProposalState {
    /// Nobody has decided.
    Open,
    /// It was rolled out.
    Approved {
        /// Who did.
        by: OperatorName,
        /// When.
        at: Timestamp,
        /// The revision that it became.
        revision: Revision,
    },
    /// It is over.
    Rejected {
        /// Who did; the author, if they took it back.
        by: OperatorName,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// Nobody decided in time, and that is recorded.
    Expired,
}

/// What decides over a proposal.
#[derive(Debug, Clone, Copy)]
pub struct Proposed<'a> {
    /// Its number.
    pub id: ProposalId,
    /// Who made it.
    pub author: &'a OperatorName,
    /// The revision it was made on; 0: none was applied.
    pub base: Revision,
    /// When it ends if nobody decides.
    pub expires: Timestamp,
    /// What became of it.
    pub state: &'a ProposalState,
}

/// Why nobody, or not this operator, can decide over a proposal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecidable {
    /// It was approved.
    #[error("proposal {id} was approved by {by} already, and is revision {revision}")]
    Approved {
        /// Which.
        id: ProposalId,
        /// Who did.
        by: OperatorName,
        /// What it became.
        revision: Revision,
    },
    /// It was rejected.
    #[error("proposal {id} was rejected by {by}{}; its author can propose it again", Reason(.reason))]
    Rejected {
        /// Which.
        id: ProposalId,
        /// Who did.
        by: OperatorName,
        /// Why.
        reason: String,
    },
    /// Nobody decided in time.
    #[error("proposal {id} has expired; its author can propose it again")]
    Expired {
        /// Which.
        id: ProposalId,
    },
    /// The author wants to approve it.
    #[error("proposal {id} is by {author}, and nobody approves their own; somebody else has to")]
    Own {
        /// Which.
        id: ProposalId,
        /// Whose.
        author: OperatorName,
    },
    /// Something else was applied since.
    #[error("proposal {id} was made on revision {base}, and the newest is {newest}")]
    Outdated {
        /// Which.
        id: ProposalId,
        /// What it was made on.
        base: Revision,
        /// What is newest.
        newest: Revision,
    },
}

impl Proposed<'_> {
    /// Whether it has ended for nobody decided in time, and that is not recorded yet.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        *self.state == ProposalState::Open && self.expires <= now
    }

    /// How it stands.
    pub fn standing(&self, now: Timestamp, newest: Revision) -> ProposalWord {
        match self.state {
            ProposalState::Approved { .. } => ProposalWord::Approved,
            ProposalState::Rejected { .. } => ProposalWord::Rejected,
            ProposalState::Expired => ProposalWord::Expired,
            ProposalState::Open if self.expires <= now => ProposalWord::Expired,
            ProposalState::Open if self.base != newest => ProposalWord::Outdated,
            ProposalState::Open => ProposalWord::Open,
        }
    }

    /// Whether it waits for somebody to decide.
    ///
    /// # Errors
    /// Somebody did, or nobody did in time.
    pub fn may_reject(&self, now: Timestamp) -> Result<(), Undecidable> {
        let id = self.id;
        match self.state {
            ProposalState::Approved { by, at: _, revision } => {
                Err(Undecidable::Approved { id, by: by.clone(), revision: *revision })
            }
            ProposalState::Rejected { by, at: _, reason } => {
                Err(Undecidable::Rejected { id, by: by.clone(), reason: reason.clone() })
            }
            ProposalState::Expired => Err(Undecidable::Expired { id }),
            ProposalState::Open if self.expires <= now => Err(Undecidable::Expired { id }),
            ProposalState::Open => Ok(()),
        }
    }

    /// Whether `who` may approve it, as far as it is not about what it reaches. Whoever has the author's name is the
    /// author, whatever certificate they have by now.
    ///
    /// # Errors
    /// It does not wait any more, is their own, or something else was applied since.
    pub fn may_approve(
        &self,
        who: &OperatorName,
        now: Timestamp,
        newest: Revision,
    ) -> Result<(), Undecidable> {
        self.may_reject(now)?;
        let id = self.id;
        if who == self.author {
            return Err(Undecidable::Own { id, author: self.author.clone() });
        }
        if self.base != newest {
            return Err(Undecidable::Outdated { id, base: self.base, newest });
        }
        Ok(())
    }
}
