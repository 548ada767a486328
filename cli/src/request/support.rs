//! `support-bundle`, meant.

use std::path::PathBuf;

use super::{Moment, Only, moment};
use crate::{args, exit::Failure};

/// `support-bundle`.
#[derive(Debug)]
pub struct SupportBundle {
    /// `None`: a name is made.
    pub out: Option<PathBuf>,
    /// Events and audit.
    pub since: Moment,
    /// Of which nodes there is more than their status.
    pub only: Only,
    pub logs: bool,
}

pub(super) fn support_bundle(typed: args::SupportBundle) -> Result<SupportBundle, Failure> {
    let args::SupportBundle { out, since, node, group, no_logs } = typed;
    let since = moment("--since", &since)?;
    Ok(SupportBundle { out, since, only: Only::of(&node, &group)?, logs: !no_logs })
}
