//! `agents`, meant.

use std::time::Duration;

use super::{Confirm, Only, Remote, confirm, duration};
use crate::{args, exit::Failure};

/// `agents upgrade`.
#[derive(Debug)]
pub struct Upgrade {
    pub to: String,
    /// What installs the version on the host of one node.
    pub runner: String,
    /// What proves it there.
    pub check: Option<String>,
    pub only: Only,
    /// For each command, and for the agent to be back.
    pub timeout: Duration,
    pub confirm: Confirm,
}

pub(super) fn agents(typed: args::Agents) -> Result<Remote, Failure> {
    Ok(match typed {
        args::Agents::List { outdated } => Remote::Agents { outdated },
        args::Agents::Upgrade { to, runner, check, node, group, timeout, yes, wait: _ } => {
            if to.trim().is_empty() || runner.trim().is_empty() {
                let what = "--to and --runner must not be empty";
                return Err(Failure::usage(
                    what,
                    "for example --to 0.2.0 --runner 'ssh \"$CONVOY_HOST\" ...'",
                ));
            }
            let (only, timeout) = (Only::of(&node, &group)?, duration("--timeout", &timeout)?);
            Remote::Upgrade(Upgrade { to, runner, check, only, timeout, confirm: confirm(yes) })
        }
    })
}
