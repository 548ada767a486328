//! What is shown of changes that wait for approval.

use fleet::words::{ProposalWord, Said};
use serde::Serialize;

use super::{Origin, Plan, When};

/// A change that waits for approval, or waited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposal {
    pub id: u64,
    /// The revision that it was made on; 0: nothing was applied yet.
    pub base: u64,
    pub author: String,
    pub message: String,
    pub created: When,
    /// It ends then if nobody decides.
    pub expires: When,
    pub state: Said<ProposalWord>,
    /// Why it needs approval.
    pub asked: String,
    /// Groups that it changes.
    pub groups: Vec<String>,
    /// It also changes what belongs to no single group.
    pub fleet: bool,
    /// The revision that it goes back to, if it is a rollback.
    pub rolls_back_to: Option<u64>,
    /// `null`: not known.
    pub origin: Option<Origin>,
    /// Who approved or rejected it.
    pub decided_by: Option<String>,
    pub decided: When,
    /// Of a rejection.
    pub reason: Option<String>,
    /// The revision that it became.
    pub revision: Option<u64>,
    /// Why maintenance windows are ignored, if they are.
    pub windows_overridden: Option<String>,
    /// The key that has signed it.
    pub signed_by: Option<String>,
}

/// Output of `proposal show`.
#[derive(Debug, Clone, Serialize)]
pub struct ShownProposal {
    pub proposal: Proposal,
    /// What it would change now; `null` if it does not wait for approval any more.
    pub plan: Option<Plan>,
    /// Who may approve it, at most five.
    pub approvers: Vec<String>,
}
