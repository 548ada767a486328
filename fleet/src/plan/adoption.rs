//! What becomes of the server: the restart that a change asks for, and, on the first apply of a node, whether the server
//! that it finds goes on running. The agent decides by the same rule: it adopts a server whose files mean the same.

use super::{Base, Desired, Was};
use crate::{
    bundle::RestartClass,
    host::{ConfigRead, FoundServer},
    restart::{self, RestartDecision},
};

/// What the first apply does with the server that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It runs, and its files mean the same: it goes on running.
    Adopted,
    /// It runs, and has to restart.
    Restarted,
    /// None runs: one is started.
    Started,
}

impl Adoption {
    /// The word used in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Adoption::Adopted => "adopted",
            Adoption::Restarted => "restarted",
            Adoption::Started => "started",
        }
    }
}

/// The restart, and the adoption behind it.
pub(super) struct Judged {
    pub(super) restart: RestartDecision,
    pub(super) adoption: Option<Adoption>,
}

pub(super) fn judge(base: &Base, desired: &Desired<'_>) -> Judged {
    if let Some(assigned) = &base.assigned {
        let restart = restart::decide(&assigned.bundle, &desired.node.bundle);
        return Judged { restart, adoption: None };
    }
    let restarts = |why: &str| RestartDecision { class: RestartClass::Restart, why: vec![why.to_owned()] };
    let Some(facts) = base.facts() else {
        return Judged { restart: restarts("nothing was assigned to this node before"), adoption: None };
    };
    match facts.server {
        FoundServer::Stopped => {
            Judged { restart: restarts("no server runs; it is started"), adoption: Some(Adoption::Started) }
        }
        FoundServer::Unknown => Judged {
            restart: restarts(
                "nothing was assigned to this node before, and whether a server runs is not known",
            ),
            adoption: None,
        },
        FoundServer::Running { config: ConfigRead::Earlier, .. } => Judged {
            restart: restarts(
                "deployment.toml was changed after the server had started, so it read another one",
            ),
            adoption: Some(Adoption::Restarted),
        },
        FoundServer::Running { config: ConfigRead::OnDisk, .. } => adopt(base, desired),
    }
}

fn adopt(base: &Base, desired: &Desired<'_>) -> Judged {
    let mut class = RestartClass::None;
    let mut why = Vec::new();
    for (path, entry) in desired.lasting() {
        let what = match base.was(path) {
            Was::File(was) if desired.means_the_same(&was, path, entry) => continue,
            Was::File(_) => "is not what the running server has",
            Was::Absent | Was::Unusable { .. } => "is added",
        };
        class = class.max(entry.restart);
        if RestartClass::Restart <= entry.restart {
            why.push(format!("{path} {what}"));
        }
    }
    if class < RestartClass::Restart {
        why = vec!["its files mean the same".to_owned()];
        return Judged { restart: RestartDecision { class, why }, adoption: Some(Adoption::Adopted) };
    }
    Judged { restart: RestartDecision { class, why }, adoption: Some(Adoption::Restarted) }
}
