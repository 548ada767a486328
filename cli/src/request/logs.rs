//! `logs`, meant.

use fleet::{
    ids::NodeName,
    logs::{LAST_MAX, Log},
};

use super::{Moment, moment, node};
use crate::{args, exit::Failure};

/// `logs`.
#[derive(Debug)]
pub struct Logs {
    pub node: NodeName,
    pub log: Log,
    pub follow: bool,
    pub since: Option<Moment>,
    pub grep: Option<String>,
    /// `None`: as many as the coordinator thinks right.
    pub last: Option<u32>,
}

pub(super) fn logs(typed: args::Logs) -> Result<Logs, Failure> {
    let args::Logs { node: name, console, carbon: _, audit, agent, follow, since, grep, last } = typed;
    let log = match (console, audit, agent) {
        (true, _, _) => Log::Console,
        (_, true, _) => Log::Audit,
        (_, _, true) => Log::Agent,
        (false, false, false) => Log::Carbon,
    };
    let since = since.as_deref().map(|text| moment("--since", text)).transpose()?;
    // Whoever looks for something looks at all that there is to look at.
    let searched = (grep.is_some() && since.is_none()).then_some(LAST_MAX);
    Ok(Logs { node: node(&name)?, log, follow, since, grep, last: last.or(searched) })
}
