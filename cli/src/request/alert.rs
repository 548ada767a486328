//! `alert`, meant.

use std::time::Duration;

use super::duration;
use crate::{args, exit::Failure};

/// `alert`.
#[derive(Debug)]
pub enum AlertAct {
    List {
        /// Also what does not count yet, and what is over.
        all: bool,
    },
    Show {
        /// A node, a rule or a subject.
        what: String,
    },
    Test {
        channel: String,
    },
}

impl From<args::Alert> for AlertAct {
    fn from(typed: args::Alert) -> Self {
        match typed {
            args::Alert::List { all } => AlertAct::List { all },
            args::Alert::Show { what } => AlertAct::Show { what },
            args::Alert::Test { channel } => AlertAct::Test { channel },
        }
    }
}

/// `silence` and `maintenance`.
#[derive(Debug)]
pub enum SilenceAct {
    Add {
        /// A node or a group; empty: the whole fleet.
        target: String,
        /// Empty: every rule.
        rule: String,
        lasts: Duration,
        reason: String,
    },
    List,
    Remove {
        id: u64,
    },
}

pub(super) fn silence(typed: args::Silence) -> Result<SilenceAct, Failure> {
    Ok(match typed {
        // Without a target there is --fleet.
        args::Silence::Add { target, fleet: _, rule, lasts, reason } => SilenceAct::Add {
            target: target.unwrap_or_default(),
            rule: rule.unwrap_or_default(),
            lasts: duration("--for", &lasts)?,
            reason,
        },
        args::Silence::List => SilenceAct::List,
        args::Silence::Remove { id } => SilenceAct::Remove { id },
    })
}

pub(super) fn maintenance(target: String, lasts: &str, reason: String) -> Result<SilenceAct, Failure> {
    Ok(SilenceAct::Add { target, rule: String::new(), lasts: duration("--for", lasts)?, reason })
}
