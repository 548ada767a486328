//! What a plan says besides what changes on nodes: how the rollout will go differently from the last one, and what will
//! hold it up. One wording for everything that prints it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    bundle::RestartClass,
    ids::{GroupName, NodeName, Revision},
    rollout::{
        FleetPolicy, Gates, GroupGoal, OnFailure, Promotion, Rollout, RolloutPolicy, RolloutRules, Share,
        Window, WindowUse, utc,
    },
    time::{Human, Timestamp},
};

/// One of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A setting of a group's rollouts, or of all.
    Policy {
        /// Of this group; `None`: of the fleet.
        group: Option<GroupName>,
        /// As in fleet.toml.
        setting: &'static str,
        /// Before, as people read it.
        old: String,
        /// After.
        new: String,
    },
    /// The nodes of a group are in a group of another name.
    GroupRenamed {
        /// Before.
        from: GroupName,
        /// After.
        to: GroupName,
    },
    /// No maintenance window of a group that takes part is open.
    WindowClosed {
        /// Which group.
        group: GroupName,
        /// Which steps have to wait.
        steps: WindowUse,
        /// When the next one opens, if one ever does.
        opens: Option<Timestamp>,
    },
    /// Drift enforcement is paused on a node that takes part.
    NodePaused {
        /// Which node.
        node: NodeName,
        /// In the words of who paused.
        reason: String,
        /// The end.
        until: Timestamp,
    },
    /// A node that takes part is not connected.
    NodeUnreachable {
        /// Which node.
        node: NodeName,
        /// How that is known.
        why: String,
    },
    /// A node is not on what the newest revision wants of it.
    NodeBehind {
        /// Which node.
        node: NodeName,
        /// On which it is; `None`: on none.
        on: Option<Revision>,
    },
    /// A node takes no part in this apply, and stays on what an earlier revision gave it.
    NodeStays {
        /// Which node.
        node: NodeName,
        /// On which; `None`: nothing was applied to it.
        on: Option<Revision>,
    },
}

impl Note {
    /// The stable word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Note::Policy { .. } => "policy",
            Note::GroupRenamed { .. } => "group-renamed",
            Note::WindowClosed { .. } => "window-closed",
            Note::NodePaused { .. } => "node-paused",
            Note::NodeUnreachable { .. } => "node-unreachable",
            Note::NodeBehind { .. } => "node-behind",
            Note::NodeStays { .. } => "node-stays",
        }
    }

    /// It says that the rollouts of the fleet go differently from now on, which is a change although no node changes.
    pub const fn is_change(&self) -> bool {
        match self {
            Note::Policy { .. } | Note::GroupRenamed { .. } => true,
            Note::WindowClosed { .. }
            | Note::NodePaused { .. }
            | Note::NodeUnreachable { .. }
            | Note::NodeBehind { .. }
            | Note::NodeStays { .. } => false,
        }
    }

    /// The node that it is about.
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Note::NodePaused { node, .. }
            | Note::NodeUnreachable { node, .. }
            | Note::NodeBehind { node, .. }
            | Note::NodeStays { node, .. } => Some(node),
            Note::Policy { .. } | Note::GroupRenamed { .. } | Note::WindowClosed { .. } => None,
        }
    }

    /// The group that it is about.
    pub const fn group(&self) -> Option<&GroupName> {
        match self {
            Note::Policy { group, .. } => group.as_ref(),
            Note::GroupRenamed { to, .. } => Some(to),
            Note::WindowClosed { group, .. } => Some(group),
            Note::NodePaused { .. }
            | Note::NodeUnreachable { .. }
            | Note::NodeBehind { .. }
            | Note::NodeStays { .. } => None,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Policy { group, setting, old, new } => {
                match group {
                    Some(group) => write!(f, "group {group}: ")?,
                    None => f.write_str("the fleet: ")?,
                }
                write!(f, "{setting} {old} → {new}")
            }
            Note::GroupRenamed { from, to } => write!(f, "group {from} is now called {to}"),
            Note::WindowClosed { group, steps, opens } => {
                let what = match steps {
                    WindowUse::Any => "begins",
                    WindowUse::Restart => "begins to restart servers",
                    WindowUse::Write => "begins to write files",
                };
                match opens {
                    Some(at) => {
                        write!(f, "group {group} {what} at {}: its maintenance window is closed", utc(*at))
                    }
                    None => {
                        write!(f, "group {group} never begins: none of its maintenance windows ever opens")
                    }
                }
            }
            Note::NodePaused { node, reason, until } => {
                let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                write!(f, "{node}: drift enforcement is paused until {}{because}", utc(*until))
            }
            Note::NodeUnreachable { node, why } => {
                write!(f, "{node}: {why}; its step waits until it is connected")
            }
            Note::NodeBehind { node, on: Some(on) } => {
                write!(f, "{node} is behind: it is on revision {on}")
            }
            Note::NodeBehind { node, on: None } => {
                write!(f, "{node} is behind: nothing was written to it yet")
            }
            Note::NodeStays { node, on: Some(on) } => {
                write!(f, "{node} takes no part and stays on revision {on}")
            }
            Note::NodeStays { node, on: None } => write!(f, "{node} takes no part and stays as it is"),
        }
    }
}

/// Which group each node is in.
pub type Groups = BTreeMap<NodeName, GroupName>;

/// Groups whose nodes are all in one group of another name now, where neither name is used on the other side.
pub fn renamed(old: &Groups, new: &Groups) -> Vec<Note> {
    let names = |groups: &Groups| groups.values().cloned().collect::<BTreeSet<GroupName>>();
    let (before, after) = (names(old), names(new));
    let members = |groups: &Groups, name: &GroupName| {
        groups
            .iter()
            .filter(|(_, group)| *group == name)
            .map(|(node, _)| node.clone())
            .collect::<BTreeSet<_>>()
    };
    before
        .difference(&after)
        .filter_map(|from| {
            let nodes = members(old, from);
            let to: BTreeSet<&GroupName> = nodes.iter().filter_map(|node| new.get(node)).collect();
            let one = to.first().filter(|one| to.len() == 1 && !before.contains(**one))?;
            Some(Note::GroupRenamed { from: from.clone(), to: (*one).clone() })
        })
        .collect()
}

/// Settings that differ, of groups that were there before, by whatever name.
pub fn policy_changes(old: &RolloutRules, new: &RolloutRules, renamed: &[Note]) -> Vec<Note> {
    let mut notes = differing(None, &of_fleet(&old.policy), &of_fleet(&new.policy));
    for (name, goal) in &new.groups {
        let before = renamed.iter().find_map(|note| match note {
            Note::GroupRenamed { from, to } if to == name => Some(from),
            _ => None,
        });
        let Some(was) = old.groups.get(before.unwrap_or(name)) else { continue };
        notes.extend(differing(Some(name), &of_group(was), &of_group(goal)));
        notes.extend(asked_differently(name, was, goal));
    }
    notes
}

/// A setting, and how people read its value.
type Setting = (&'static str, String);

fn differing(group: Option<&GroupName>, old: &[Setting], new: &[Setting]) -> Vec<Note> {
    let pairs = old.iter().zip(new).filter(|(old, new)| old.1 != new.1);
    let note = |(old, new): (&Setting, &Setting)| Note::Policy {
        group: group.cloned(),
        setting: new.0,
        old: old.1.clone(),
        new: new.1.clone(),
    };
    pairs.map(note).collect()
}

/// The gates have the same names, and what they ask differs.
fn asked_differently(name: &GroupName, old: &GroupGoal, new: &GroupGoal) -> Option<Note> {
    let (was, is) = (old.gates.as_ref()?, new.gates.as_ref()?);
    let differs = gate_names(Some(was)) == gate_names(Some(is)) && was != is;
    differs.then(|| Note::Policy {
        group: Some(name.clone()),
        setting: "gates",
        old: gate_names(Some(was)),
        new: "the same, asking something else".to_owned(),
    })
}

fn or_none(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "none".to_owned())
}

fn share(share: Option<Share>) -> String {
    or_none(share.map(|share| share.to_string()))
}

fn gate_names(gates: Option<&Gates>) -> String {
    let names =
        gates.map(|gates| gates.list.iter().map(|gate| gate.name.as_str()).collect::<Vec<_>>().join(", "));
    or_none(names)
}

fn window_text(window: &Window) -> String {
    let steps = match window.for_steps {
        WindowUse::Any => "",
        WindowUse::Restart => " for restarts",
        WindowUse::Write => " for writing",
    };
    format!("{} {} for {}{steps}", window.opens, window.zone, Human(window.duration))
}

/// Destructured, so that no setting is forgotten.
fn of_fleet(policy: &FleetPolicy) -> Vec<Setting> {
    let FleetPolicy { max_unavailable, max_unavailable_per_zone, parallel_zones, failures_max, spread_hosts } =
        policy;
    vec![
        ("max_unavailable", share(*max_unavailable)),
        ("max_unavailable_per_zone", share(*max_unavailable_per_zone)),
        ("parallel_zones", parallel_zones.to_string()),
        ("failures_max", share(*failures_max)),
        ("spread_hosts", spread_hosts.to_string()),
    ]
}

fn of_group(goal: &GroupGoal) -> Vec<Setting> {
    let GroupGoal { policy, after, gates } = goal;
    let RolloutPolicy {
        canary,
        promotion,
        max_unavailable,
        max_unavailable_per_zone,
        wave,
        soak,
        min_healthy_time,
        healthy_deadline,
        progress_deadline,
        on_failure,
        windows,
    } = policy;
    let promotion = Promotion::ALL.iter().find(|(known, _)| known == promotion);
    let on_failure = OnFailure::ALL.iter().find(|(known, _)| known == on_failure);
    let after: Vec<&str> = after.iter().map(GroupName::as_str).collect();
    let windows: Vec<String> = windows.iter().map(window_text).collect();
    vec![
        ("canary", share(*canary)),
        ("promotion", or_none(promotion.map(|(_, word)| (*word).to_owned()))),
        ("max_unavailable", max_unavailable.to_string()),
        ("max_unavailable_per_zone", share(*max_unavailable_per_zone)),
        ("wave", share(*wave)),
        ("soak", Human(*soak).to_string()),
        ("min_healthy_time", Human(*min_healthy_time).to_string()),
        ("healthy_deadline", Human(*healthy_deadline).to_string()),
        ("progress_deadline", Human(*progress_deadline).to_string()),
        ("on_failure", or_none(on_failure.map(|(_, word)| (*word).to_owned()))),
        ("windows", or_none(Some(windows.join(", ")))),
        ("after", or_none(Some(after.join(", ")))),
        ("gates", gate_names(gates.as_ref())),
    ]
}

/// Groups that take part and have to wait for a maintenance window.
pub fn closed_windows(rollout: &Rollout, now: Timestamp) -> Vec<Note> {
    if rollout.windows_overridden.is_some() {
        return Vec::new();
    }
    let mut notes = Vec::new();
    for (name, group) in &rollout.groups {
        let mut kinds: BTreeSet<WindowUse> = BTreeSet::new();
        for step in rollout.steps.values().filter(|step| step.group == *name) {
            let restarts = RestartClass::Restart <= step.restart;
            kinds.insert(if restarts { WindowUse::Restart } else { WindowUse::Write });
        }
        let closed = |steps: &WindowUse| {
            let applies =
                |window: &&Window| matches!(window.for_steps, WindowUse::Any) || window.for_steps == *steps;
            let windows: Vec<&Window> = group.policy.windows.iter().filter(applies).collect();
            let is_open = windows.iter().any(|window| window.open_until(now).is_some());
            let opens = windows.iter().filter_map(|window| window.opens_next(now)).min();
            (!windows.is_empty() && !is_open).then_some((*steps, opens))
        };
        let closed: Vec<(WindowUse, Option<Timestamp>)> = kinds.iter().filter_map(closed).collect();
        for (steps, opens) in closed {
            // Where all steps of the group are of one kind, there is nothing to tell apart.
            let steps = if kinds.len() == 1 { WindowUse::Any } else { steps };
            notes.push(Note::WindowClosed { group: name.clone(), steps, opens });
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{Digest, RolloutId},
        rollout::{Cron, FleetView, Gate, GateOn, NewRollout, NodeGoal, Overrun, Target},
    };
    use std::time::Duration;

    fn group(name: &str) -> GroupName {
        GroupName::parse(name).unwrap()
    }

    fn groups(of: &[(&str, &str)]) -> Groups {
        of.iter().map(|(node, name)| (NodeName::parse(node).unwrap(), group(name))).collect()
    }

    fn rules(of: &[(&str, GroupGoal)]) -> RolloutRules {
        let groups = of.iter().map(|(name, goal)| (group(name), goal.clone())).collect();
        RolloutRules { policy: FleetPolicy::default(), groups }
    }

    fn told(notes: &[Note]) -> Vec<String> {
        notes.iter().map(ToString::to_string).collect()
    }

    fn gates(content: &str) -> Option<Gates> {
        let login = Gate { name: "login".to_owned(), on: GateOn::Both, on_failure: None };
        Some(Gates { list: vec![login], content: Digest::of(content.as_bytes()) })
    }

    #[test]
    fn a_group_is_renamed_only_if_all_its_nodes_are_in_one_new_group() {
        let old = groups(&[("is-1", "km"), ("is-2", "km"), ("gw-1", "gw")]);
        let table = [
            (
                groups(&[("is-1", "keys"), ("is-2", "keys"), ("gw-1", "gw")]),
                &["group km is now called keys"][..],
            ),
            // Split, merged into one that was there, or gone.
            (groups(&[("is-1", "keys"), ("is-2", "other"), ("gw-1", "gw")]), &[]),
            (groups(&[("is-1", "gw"), ("is-2", "gw"), ("gw-1", "gw")]), &[]),
            (groups(&[("gw-1", "gw")]), &[]),
            (old.clone(), &[]),
        ];
        for (new, expected) in table {
            assert_eq!(told(&renamed(&old, &new)), expected);
        }
    }

    #[test]
    fn settings_that_differ_are_named_with_both_values_also_across_a_rename() {
        let before = GroupGoal { gates: gates("one"), ..GroupGoal::default() };
        let mut after = GroupGoal { gates: gates("two"), ..GroupGoal::default() };
        after.policy.soak = Duration::from_secs(60);
        after.policy.max_unavailable = Share::Percent(25);
        let from = Note::GroupRenamed { from: group("km"), to: group("keys") };
        let mut new = rules(&[("keys", after), ("fresh", GroupGoal::default())]);
        new.policy.spread_hosts = true;
        let old = rules(&[("km", before)]);
        assert_eq!(
            told(&policy_changes(&old, &new, &[from])),
            [
                "the fleet: spread_hosts false → true",
                "group keys: max_unavailable 1 → 25%",
                "group keys: soak 30s → 1m",
                "group keys: gates login → the same, asking something else",
            ]
        );
        assert_eq!(policy_changes(&new, &new, &[]), []);
    }

    #[test]
    fn a_closed_window_says_when_the_group_begins() {
        let opens = Cron::parse("0 2 * * *").unwrap();
        let window = Window::new(WindowUse::Any, opens, Duration::from_secs(7200), "UTC", Overrun::Finish);
        let mut goal = GroupGoal::default();
        goal.policy.windows = vec![window.unwrap()];
        let target = Target { bundle: Digest::of(b"b"), content: Digest::of(b"c"), size: 1 };
        let node = NodeGoal {
            group: group("km"),
            target,
            restart: RestartClass::Restart,
            compared_with: None,
            last_good: None,
        };
        let rollout = NewRollout {
            id: RolloutId(1),
            revision: Revision(1),
            at: Timestamp(0),
            rules: rules(&[("km", goal)]),
            nodes: [(NodeName::parse("is-1").unwrap(), node)].into(),
            windows_overridden: None,
        };
        let mut rollout = rollout.create(&FleetView::default());
        let hour = 3_600_000;
        let closed = "group km begins at 1970-01-02 02:00 UTC: its maintenance window is closed";
        assert_eq!(told(&closed_windows(&rollout, Timestamp(5 * hour))), [closed]);
        assert_eq!(closed_windows(&rollout, Timestamp(3 * hour)), []);
        rollout.windows_overridden = Some("an incident".to_owned());
        assert_eq!(closed_windows(&rollout, Timestamp(5 * hour)), []);
    }
}
