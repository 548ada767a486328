//! What a fleet says of its alerts, `[alerts]` of fleet.toml: how long something must last, how urgent it is, and which
//! channels hear of it. Destinations are the coordinator's own ([ADR 57]); here they are names.
//!
//! [ADR 57]: ../../../docs/decisions/0057-channels-of-alerts.md

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::{
    rule::{Rule, Severity},
    subject::Place,
};
use crate::{
    ids::{ChannelName, GroupName},
    time::Human,
};

/// The longest that something may have to last before it counts.
pub const HOLD_MAX: Duration = Duration::from_secs(24 * 3600);

/// `[alerts]` of a fleet. The default changes nothing: every channel hears of every rule, as each rule has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertPolicy {
    /// Rules that are not as they are by themselves.
    pub tuned: BTreeMap<Rule, Tuning>,
    /// Who hears of what. A channel that no route names hears of everything.
    pub routes: Vec<Route>,
}

/// `[alerts.rules.NAME]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tuning {
    /// How long it must last before it counts, at most [`HOLD_MAX`]; `None`: as the rule has it.
    pub hold: Option<Duration>,
    /// How urgent it is; `None`: as the rule has it.
    pub severity: Option<Severity>,
}

/// `[[alerts.routes]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whom.
    pub channels: BTreeSet<ChannelName>,
    /// Of these groups; empty: of every group, and of what belongs to none.
    pub groups: BTreeSet<GroupName>,
    /// Of these rules; empty: of every rule.
    pub rules: BTreeSet<Rule>,
    /// Of nothing less urgent.
    pub least: Severity,
}

impl Route {
    fn matches(&self, place: &Place, rule: Rule, severity: Severity) -> bool {
        let group = match place {
            Place::Group(group) => self.groups.is_empty() || self.groups.contains(group),
            Place::Fleet => self.groups.is_empty(),
        };
        group && (self.rules.is_empty() || self.rules.contains(&rule)) && self.least <= severity
    }
}

impl AlertPolicy {
    /// How long it must last before it counts.
    pub fn hold(&self, rule: Rule) -> Duration {
        self.tuned.get(&rule).and_then(|tuning| tuning.hold).unwrap_or_else(|| rule.hold())
    }

    /// How urgent it is.
    pub fn severity(&self, rule: Rule) -> Severity {
        self.tuned.get(&rule).and_then(|tuning| tuning.severity).unwrap_or_else(|| rule.severity())
    }

    /// Whether a channel hears of a rule in a place. How little urgent things a channel takes at all is its own.
    pub fn reaches(&self, channel: &ChannelName, place: &Place, rule: Rule) -> bool {
        let mut routes = self.routes.iter().filter(|route| route.channels.contains(channel)).peekable();
        let severity = self.severity(rule);
        routes.peek().is_none() || routes.any(|route| route.matches(place, rule, severity))
    }
}

/// For people, as one line.
impl fmt::Display for AlertPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.routes.len() {
            0 => f.write_str("no routes")?,
            1 => f.write_str("1 route")?,
            more => write!(f, "{more} routes")?,
        }
        for (rule, tuning) in &self.tuned {
            write!(f, ", {rule}")?;
            if let Some(severity) = tuning.severity {
                write!(f, " {severity}")?;
            }
            if let Some(hold) = tuning.hold {
                write!(f, " after {}", Human(hold))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(channel: &str, groups: &[&str], rules: &[Rule], least: Severity) -> Route {
        Route {
            channels: [ChannelName::parse(channel).unwrap()].into(),
            groups: groups.iter().map(|group| GroupName::parse(group).unwrap()).collect(),
            rules: rules.iter().copied().collect(),
            least,
        }
    }

    #[test]
    fn a_channel_hears_of_what_one_of_its_routes_names_and_of_all_if_none_names_it() {
        let gateway = || Place::Group(GroupName::parse("gateway").unwrap());
        let portal = || Place::Group(GroupName::parse("portal").unwrap());
        let policy = AlertPolicy {
            tuned: [(Rule::DiskLow, Tuning { hold: None, severity: Some(Severity::Critical) })].into(),
            routes: vec![
                route("pager", &["gateway"], &[], Severity::Critical),
                route("pager", &[], &[Rule::StoreTrouble], Severity::Info),
                route("keys", &[], &[Rule::KeyManager], Severity::Info),
            ],
        };
        for (channel, place, rule, hears) in [
            ("pager", gateway(), Rule::ServerDown, true),
            ("pager", gateway(), Rule::DriftFound, false),
            // More urgent than it is by itself.
            ("pager", gateway(), Rule::DiskLow, true),
            ("pager", portal(), Rule::ServerDown, false),
            ("pager", Place::Fleet, Rule::StoreTrouble, true),
            ("pager", Place::Fleet, Rule::RolledBack, false),
            ("keys", portal(), Rule::KeyManager, true),
            ("keys", portal(), Rule::ServerDown, false),
            ("log", portal(), Rule::DriftRestored, true),
            ("log", Place::Fleet, Rule::RolledBack, true),
        ] {
            let channel_name = ChannelName::parse(channel).unwrap();
            assert_eq!(policy.reaches(&channel_name, &place, rule), hears, "{channel} {place:?} {rule}");
        }
    }

    #[test]
    fn it_reads_as_one_line() {
        let tuning = Tuning { hold: Some(Duration::from_secs(120)), severity: Some(Severity::Warning) };
        let policy = AlertPolicy {
            tuned: [(Rule::ServerDown, tuning)].into(),
            routes: vec![route("pager", &[], &[], Severity::Info)],
        };
        assert_eq!(policy.to_string(), "1 route, server-down warning after 2m");
        assert_eq!(AlertPolicy::default().to_string(), "no routes");
    }
}
