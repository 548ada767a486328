//! `node admit`.

use std::path::PathBuf;

use fleet::ids::NodeName;

use super::{Confirm, confirm, node};
use crate::{args, exit::Failure};

/// `node admit`.
#[derive(Debug, PartialEq, Eq)]
pub struct Admit {
    /// The host's request; `-` is standard input.
    pub file: PathBuf,
    /// Who it is to be, if the request does not say.
    pub node: Option<NodeName>,
    /// Also in the place of another host.
    pub replace: bool,
    /// Where the answer goes; `None`: to the output.
    pub out: Option<PathBuf>,
    /// Whether to ask.
    pub confirm: Confirm,
}

pub(super) fn admit(typed: args::Admit) -> Result<Admit, Failure> {
    let args::Admit { file, node: name, replace, out, yes } = typed;
    let name = name.as_deref().map(node).transpose()?;
    Ok(Admit { file, node: name, replace, out, confirm: confirm(yes) })
}
