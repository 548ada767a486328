//! Why a rollout does nothing right now. The CLI, the page, the log and the tests print this and nothing else.

use std::{fmt, time::Duration};

use super::{
    policy::Share,
    state::{FlightStage, StepKind},
};
use crate::{
    ids::{GroupName, NodeName, ZoneName},
    reason::Reason,
    time::{Human, Timestamp},
};

/// One reason. A rollout that has not ended and begins nothing has at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// An operator paused it.
    Paused {
        /// The operator's words.
        why: String,
        /// Failed steps whose consequence follows on resume.
        failed: usize,
    },
    /// Another group goes first.
    Order {
        /// Who waits.
        group: GroupName,
        /// For whom.
        after: GroupName,
        /// Its nodes that are not ready.
        open: usize,
    },
    /// The group's budget is used up.
    Budget {
        /// Which group.
        group: GroupName,
        /// Nodes that are down, at most [`NAMES_MAX`].
        down: Vec<NodeName>,
        /// How many are down.
        count: usize,
        /// How many may be.
        max: usize,
        /// As it was typed.
        share: Share,
    },
    /// The fleet's budget is used up.
    FleetBudget {
        /// Who waits.
        group: GroupName,
        /// How many are down.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// The budget of a zone is used up.
    ZoneBudget(ZoneBudget),
    /// Another zone is being changed, or has a node of the group down.
    OtherZone(OtherZone),
    /// Steps have begun and have not ended.
    InFlight {
        /// Which node.
        node: NodeName,
        /// Which way.
        kind: StepKind,
        /// How far.
        stage: FlightStage,
        /// For how long.
        elapsed: Duration,
        /// Not connected: nothing is known beyond this.
        connected: bool,
    },
    /// A wave is ready and is watched.
    Soak {
        /// Which group.
        group: GroupName,
        /// Which wave, from 1.
        wave: u32,
        /// How much longer.
        left: Duration,
    },
    /// A wave is ready, and its gates have not been answered.
    Gate {
        /// Which group.
        group: GroupName,
        /// Which wave, from 1.
        wave: u32,
        /// Which gate, of the first node.
        gate: String,
        /// Who has not answered, at most [`NAMES_MAX`].
        nodes: Vec<NodeName>,
        /// How many.
        count: usize,
        /// For how long.
        elapsed: Duration,
        /// They are being asked; if not, nobody can.
        connected: bool,
    },
    /// The canary is ready; an operator decides.
    Promotion {
        /// Which group.
        group: GroupName,
    },
    /// Nodes whose turn it is, and who are not connected.
    Unreachable {
        /// Which group.
        group: GroupName,
        /// At most [`NAMES_MAX`].
        nodes: Vec<NodeName>,
        /// How many.
        count: usize,
    },
    /// A wave cannot be watched, because nobody knows whether one of its nodes serves.
    SoakBlind {
        /// Which group.
        group: GroupName,
        /// The first such node.
        node: NodeName,
        /// Why its agent cannot say; `None`: it is not connected.
        why: Option<String>,
        /// Until it counts as failed.
        left: Duration,
    },
    /// Outside the maintenance windows.
    Window {
        /// Which group.
        group: GroupName,
        /// When one opens; `None` if none ever does.
        opens: Option<Timestamp>,
    },
    /// Inside a maintenance window, whose rest is too short for a restart that must fit in it.
    WindowTooShort {
        /// Which group.
        group: GroupName,
        /// The first node that waits.
        node: NodeName,
        /// How long its restart is taken to last.
        takes: Duration,
        /// It took so long before; if not, this is the group's `healthy_deadline`.
        is_known: bool,
        /// Until the window closes.
        left: Duration,
        /// When the next one opens; `None` if none ever does.
        opens: Option<Timestamp>,
    },
    /// A node of the same machine is in flight.
    Host {
        /// Who waits.
        node: NodeName,
        /// The machine.
        host: String,
    },
    /// Dependent groups return first.
    ReturnOrder {
        /// Who waits.
        group: GroupName,
        /// For whom.
        before: GroupName,
    },
}

/// How many names a reason lists.
pub const NAMES_MAX: usize = 5;

/// At most [`NAMES_MAX`] of `nodes`.
pub(super) fn first_names<'a>(nodes: impl Iterator<Item = &'a NodeName>) -> Vec<NodeName> {
    nodes.take(NAMES_MAX).cloned().collect()
}

/// Names for a sentence: the first few, and how many more there are.
pub(super) struct Names<'a>(pub &'a [NodeName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(f, &self.0[..NAMES_MAX.min(self.0.len())], self.0.len())
    }
}

fn write_names(f: &mut fmt::Formatter<'_>, names: &[NodeName], count: usize) -> fmt::Result {
    for (index, name) in names.iter().enumerate() {
        write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
    }
    if names.len() < count { write!(f, " and {} more", count - names.len()) } else { Ok(()) }
}

/// The nodes of one zone that may be down are down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneBudget {
    /// Whose budget; `None`: the fleet's.
    pub group: Option<GroupName>,
    /// Which zone.
    pub zone: ZoneName,
    /// Nodes that are down, at most [`NAMES_MAX`].
    pub down: Vec<NodeName>,
    /// How many are down.
    pub count: usize,
    /// How many may be.
    pub max: usize,
    /// As it was typed.
    pub share: Share,
}

/// A zone that is not whole, while a node of another one waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherZone {
    /// Who waits.
    pub node: NodeName,
    /// Its zone.
    pub zone: ZoneName,
    /// The one that is not whole.
    pub other: ZoneName,
    /// Nodes that are down there, at most [`NAMES_MAX`].
    pub down: Vec<NodeName>,
    /// How many are down.
    pub count: usize,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::Paused { why, failed: 0 } => write!(f, "paused{}", Reason(why)),
            WaitReason::Paused { why, failed } => {
                write!(f, "paused{}; {failed} failed, which is acted on when it is resumed", Reason(why))
            }
            WaitReason::Order { group, after, open } => write_order(f, group, after, *open),
            WaitReason::Budget { group, down, count, max, share } => {
                write!(f, "{group} has {count} down (")?;
                write_names(f, down, *count)?;
                write!(f, ") and max_unavailable = {share} allows {max}")
            }
            WaitReason::FleetBudget { group, count, max } => {
                write!(f, "{group} waits: {count} down in the whole fleet, which allows {max}")
            }
            WaitReason::ZoneBudget(budget) => budget.fmt(f),
            WaitReason::OtherZone(other) => other.fmt(f),
            WaitReason::InFlight { node, kind, stage, elapsed, connected } => {
                write!(f, "{node}: {} for {}", flight_words(*kind, *stage), Human(*elapsed))?;
                if *connected { Ok(()) } else { f.write_str(", not connected") }
            }
            WaitReason::Soak { group, wave, left } => {
                write!(f, "{group} wave {wave} is ready and soaks for another {}", Human(*left))
            }
            WaitReason::Gate { group, wave, gate, nodes, count, elapsed, connected } => {
                let asked = if *connected { "is being asked" } else { "cannot be asked" };
                write!(f, "{group} wave {wave} is ready; gate {gate} {asked} on ")?;
                write_names(f, nodes, *count)?;
                let away = if *connected { "" } else { ", not connected" };
                write!(f, "{away} for {}", Human(*elapsed))
            }
            WaitReason::Promotion { group } => {
                write!(f, "{group}: the canary is ready; go on with `convoy rollout promote`")
            }
            WaitReason::Unreachable { group, nodes, count } => {
                write!(f, "{group}: not connected: ")?;
                write_names(f, nodes, *count)
            }
            WaitReason::SoakBlind { group, node, why, left } => {
                write!(f, "{group} cannot soak: {node} ")?;
                match why {
                    None => f.write_str("is not connected")?,
                    Some(why) => write!(f, "cannot be judged{}", Reason(why))?,
                }
                write!(f, "; if that lasts, it has failed in {}", Human(*left))
            }
            WaitReason::WindowTooShort { group, node, takes, is_known, left, opens } => {
                write!(f, "{group}: the maintenance window closes in {}, and {node} ", Human(*left))?;
                write_takes(f, *takes, *is_known)?;
                match opens {
                    Some(opens) => write!(f, "; the next window opens at {}", utc(*opens)),
                    None => f.write_str("; no other window will open"),
                }
            }
            WaitReason::Window { group, opens: Some(opens) } => {
                write!(f, "{group} waits for its maintenance window, which opens at {}", utc(*opens))
            }
            WaitReason::Window { group, opens: None } => {
                write!(f, "{group} waits for a maintenance window, and none will open")
            }
            WaitReason::Host { node, host } => write!(f, "{node} waits for another node of host {host}"),
            WaitReason::ReturnOrder { group, before } => {
                write!(f, "{group} returns after {before}, which depends on it")
            }
        }
    }
}

impl fmt::Display for ZoneBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ZoneBudget { group, zone, down, count, max, share } = self;
        write!(f, "zone {zone}")?;
        if let Some(group) = group {
            write!(f, " of {group}")?;
        }
        write!(f, " has {count} down (")?;
        write_names(f, down, *count)?;
        write!(f, ") and max_unavailable_per_zone = {share} allows {max}")
    }
}

impl fmt::Display for OtherZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OtherZone { node, zone, other, down, count } = self;
        write!(f, "{node} of zone {zone} waits for zone {other}, which has {count} down (")?;
        write_names(f, down, *count)?;
        f.write_str("): zones go one after the other")
    }
}

fn write_order(f: &mut fmt::Formatter<'_>, group: &GroupName, after: &GroupName, open: usize) -> fmt::Result {
    match open {
        // All its nodes are ready, and its last wave still soaks or its gates run.
        0 => write!(f, "{group} comes after {after}, which is not done yet"),
        1 => write!(f, "{group} comes after {after}, where 1 node is not ready yet"),
        open => write!(f, "{group} comes after {after}, where {open} nodes are not ready yet"),
    }
}

fn flight_words(kind: StepKind, stage: FlightStage) -> String {
    let verb = match kind {
        StepKind::Update => "",
        StepKind::RollBack => "returning, ",
    };
    let stage = match stage {
        FlightStage::Sent => "sent",
        FlightStage::Written => "written",
        FlightStage::Restarted => "restarted, not healthy yet",
        FlightStage::Soaking => "healthy, being watched",
    };
    format!("{verb}{stage}")
}

fn write_takes(f: &mut fmt::Formatter<'_>, takes: Duration, is_known: bool) -> fmt::Result {
    let takes = Human(takes);
    match is_known {
        true => write!(f, "took up to {takes} to restart"),
        false => write!(f, "may take up to {takes} (healthy_deadline): no restart of it is on record"),
    }
}

pub(crate) fn utc(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .map_or_else(|_| format!("{} ms", at.0), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
