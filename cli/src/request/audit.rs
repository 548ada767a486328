//! `audit`, meant.

use std::path::PathBuf;

use fleet::{audit::Act, ids::NodeName, time::Timestamp};

use super::{Moment, moment, node};
use crate::{args, exit::Failure};

/// `audit`.
#[derive(Debug)]
pub enum AuditAct {
    List {
        filter: AuditFilter,
        last: Option<u32>,
    },
    Export {
        filter: AuditFilter,
    },
    /// Also against the checkpoints in these files.
    Verify {
        checkpoints: Vec<PathBuf>,
    },
}

/// Which entries are wanted.
#[derive(Debug, Default)]
pub struct AuditFilter {
    pub since: Option<Moment>,
    pub until: Option<Moment>,
    pub actor: Option<String>,
    pub act: Option<Act>,
    pub node: Option<NodeName>,
}

impl AuditFilter {
    /// Since when, and until when, by the wall clock.
    pub fn times(&self, now: Timestamp) -> (Option<i64>, Option<i64>) {
        let at = |moment: Option<Moment>| moment.map(|moment| moment.at(now).0);
        (at(self.since), at(self.until))
    }
}

pub(super) fn audit(typed: args::Audit) -> Result<AuditAct, Failure> {
    Ok(match typed {
        args::Audit::List { filter: typed, last } => AuditAct::List { filter: filter(typed)?, last },
        args::Audit::Export { filter: typed } => AuditAct::Export { filter: filter(typed)? },
        args::Audit::Verify { checkpoint } => AuditAct::Verify { checkpoints: checkpoint },
    })
}

fn filter(typed: args::AuditFilter) -> Result<AuditFilter, Failure> {
    let act = |word: &String| {
        Act::parse(word).ok_or_else(|| {
            Failure::usage(
                format!("{word:?} is no action"),
                "for example apply or restart; docs/operators.md has all",
            )
        })
    };
    Ok(AuditFilter {
        since: typed.since.as_deref().map(|text| moment("--since", text)).transpose()?,
        until: typed.until.as_deref().map(|text| moment("--until", text)).transpose()?,
        actor: typed.actor,
        act: typed.action.as_ref().map(act).transpose()?,
        node: typed.node.as_deref().map(node).transpose()?,
    })
}
