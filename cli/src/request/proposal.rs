//! `proposal`, `approve` and `reject`, meant.

use super::{Confirm, Detail, Wait, confirm, detail, wait};
use crate::{args, exit::Failure};

/// What to do about changes that wait for approval.
#[derive(Debug)]
pub enum ProposalAct {
    List {
        /// Also what is over.
        all: bool,
    },
    Show {
        proposal: u64,
        diff: Detail,
    },
    Approve {
        proposal: u64,
        diff: Detail,
        confirm: Confirm,
        wait: Option<Wait>,
    },
    Reject {
        proposal: u64,
        reason: String,
    },
}

impl From<args::Proposal> for ProposalAct {
    fn from(typed: args::Proposal) -> Self {
        match typed {
            args::Proposal::List { all } => Self::List { all },
            args::Proposal::Show { proposal, diff } => Self::Show { proposal, diff: detail(diff) },
        }
    }
}

pub(super) fn approve(typed: args::Approve) -> Result<ProposalAct, Failure> {
    let args::Approve { proposal, yes, diff, wait: stays, timeout } = typed;
    let wait = wait(stays, timeout.as_deref())?;
    Ok(ProposalAct::Approve { proposal, diff: detail(diff), confirm: confirm(yes), wait })
}

pub(super) fn reject(typed: args::Reject) -> ProposalAct {
    ProposalAct::Reject { proposal: typed.proposal, reason: typed.reason }
}
