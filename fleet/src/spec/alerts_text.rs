//! `[alerts]` of fleet.toml: thresholds of rules, and which channels hear of what.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    reader::{Reader, Typed},
    report::{Report, suggest},
    tree::{At, Node},
};
use crate::{
    alert::{AlertPolicy, HOLD_MAX, Nature, Route, Rule, Severity, Tuning},
    finding::Place,
    ids::{ChannelName, GroupName},
    time::Human,
};

/// More routes are a mistake.
const ROUTES_MAX: usize = 100;

/// What is typed, and where it names channels: only a coordinator knows which there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetAlerts {
    /// What counts.
    pub policy: AlertPolicy,
    /// Every channel that a route names.
    pub named: Vec<(ChannelName, Place)>,
}

/// What was read, before the groups of the fleet are known.
#[derive(Default)]
pub(super) struct AlertsText {
    pub(super) alerts: FleetAlerts,
    /// Groups of routes, to be checked.
    groups: Vec<Typed<String>>,
}

impl AlertsText {
    /// Says which groups do not exist.
    pub(super) fn check<T>(&self, groups: &BTreeMap<GroupName, T>, report: &mut Report) {
        for group in &self.groups {
            if !groups.keys().any(|name| name.as_str() == group.value) {
                report.error(
                    "CV580",
                    Some(group.at.value_place()),
                    format!("a route of [alerts] names group {:?}, which does not exist", group.value),
                    suggest(&group.value, groups.keys().map(GroupName::as_str)),
                );
            }
        }
    }
}

/// Reads `[alerts]`.
pub(super) fn read(reader: &mut Reader<'_>, report: &mut Report) -> AlertsText {
    let mut text = AlertsText::default();
    let Some(mut table) = reader.table("alerts", report) else { return text };
    if let Some(rules) = table.table("rules", report) {
        for (name, node) in rules.entries() {
            let Some(at) = node.at().cloned() else { continue };
            let key = Typed { value: name.to_owned(), at: At { value: at.key, ..at } };
            let Node::Table(inner) = node else {
                let what = format!("rule {name:?} must be a table, not {}", node.kind());
                report.error("CV006", Some(key.at.key_place()), what, "write it as [alerts.rules.NAME]");
                continue;
            };
            let Some(rule) = rule(&key, report) else { continue };
            let tuning = tuning(rule, Reader::new(inner, format!("alerts.rules.{name}")), report);
            text.alerts.policy.tuned.insert(rule, tuning);
        }
    }
    for route in table.tables("routes", report) {
        if text.alerts.policy.routes.len() == ROUTES_MAX {
            let what = format!("[alerts] has more than {ROUTES_MAX} routes");
            report.error("CV013", Some(route.at().key_place()), what, "name several groups in one route");
            break;
        }
        let route = read_route(route, &mut text, report);
        text.alerts.policy.routes.extend(route);
    }
    table.finish(report);
    text
}

fn rule(name: &Typed<String>, report: &mut Report) -> Option<Rule> {
    let rule = Rule::parse(&name.value);
    if rule.is_none() {
        report.error(
            "CV580",
            Some(name.at.value_place()),
            format!("[alerts] names rule {:?}, which does not exist", name.value),
            suggest(&name.value, Rule::ALL.into_iter().map(Rule::as_str)),
        );
    }
    rule
}

fn severities() -> Vec<(Severity, &'static str)> {
    Severity::ALL.into_iter().map(|severity| (severity, severity.as_str())).collect()
}

fn tuning(rule: Rule, mut reader: Reader<'_>, report: &mut Report) -> Tuning {
    let at = reader.raw().get("for").and_then(|node| node.at().cloned());
    let hold = reader.duration("for", report).filter(|hold| fits(rule, *hold, at.as_ref(), report));
    let severity = reader.choice("severity", &severities(), report);
    reader.finish(report);
    Tuning { hold, severity }
}

fn fits(rule: Rule, hold: Duration, at: Option<&At>, report: &mut Report) -> bool {
    let (what, remedy) = if rule.nature() == Nature::Occurrence {
        (format!("{rule} happens and does not last, so it cannot have `for`"), "remove the key".to_owned())
    } else if HOLD_MAX < hold {
        let most = Human(HOLD_MAX);
        (format!("`for` of {rule} is {}, more than {most}", Human(hold)), format!("write at most \"{most}\""))
    } else {
        return true;
    };
    report.error("CV013", at.map(At::value_place), what, remedy);
    false
}

fn read_route(mut reader: Reader<'_>, text: &mut AlertsText, report: &mut Report) -> Option<Route> {
    let channels = super::manifest::read_list(&mut reader, "channels", report);
    let is_typed = reader.raw().get("channels").map(|_| ());
    reader.required("channels", is_typed, "[\"pager\"]", report);
    let mut route = Route {
        channels: BTreeSet::new(),
        groups: BTreeSet::new(),
        rules: BTreeSet::new(),
        least: Severity::Info,
    };
    for channel in channels {
        let name = super::manifest::parse_name(&channel.value, &channel.at, ChannelName::parse, report);
        if let Some(name) = name {
            text.alerts.named.push((name.clone(), channel.at.value_place()));
            route.channels.insert(name);
        }
    }
    for group in super::manifest::read_list(&mut reader, "groups", report) {
        let name = super::manifest::parse_name(&group.value, &group.at, GroupName::parse, report);
        if let Some(name) = name {
            route.groups.insert(name);
            text.groups.push(group);
        }
    }
    for name in super::manifest::read_list(&mut reader, "rules", report) {
        route.rules.extend(rule(&name, report));
    }
    route.least = reader.choice("severity", &severities(), report).unwrap_or(Severity::Info);
    reader.finish(report);
    (!route.channels.is_empty()).then_some(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::Finding,
        spec::{Sources, compose},
    };

    const FLEET: &str = "name = 'f'\n[groups.gateway]\nproduct = 'wso2is-7.2'\nlayers = []\n\
                         [nodes.g]\ngroup = 'gateway'\nhost = 'g'\nhome = '/opt/g'\n";

    fn read(alerts: &str) -> (Option<FleetAlerts>, Vec<Finding>) {
        let text = format!("{FLEET}{alerts}");
        let composition = compose(&Sources(BTreeMap::from([("fleet.toml".to_owned(), text.into_bytes())])));
        (composition.fleet.map(|fleet| fleet.alerts), composition.findings)
    }

    #[test]
    fn thresholds_and_routes_are_read_with_their_places() {
        let (alerts, findings) = read(
            "[alerts.rules.server-down]\nfor = \"2m\"\nseverity = \"warning\"\n\
             [[alerts.routes]]\nchannels = [\"pager\"]\ngroups = [\"gateway\"]\nrules = [\"server-down\"]\n\
             [[alerts.routes]]\nchannels = [\"ops\", \"pager\"]\nseverity = \"critical\"\n",
        );
        let alerts = alerts.unwrap_or_else(|| panic!("{findings:#?}"));
        let policy = &alerts.policy;
        assert_eq!(policy.hold(Rule::ServerDown), Duration::from_secs(120));
        assert_eq!(policy.severity(Rule::ServerDown), Severity::Warning);
        assert_eq!(policy.hold(Rule::Unhealthy), Rule::Unhealthy.hold());
        assert_eq!(policy.routes.len(), 2);
        assert_eq!(policy.routes[1].least, Severity::Critical);
        let named: Vec<_> = alerts.named.iter().map(|(name, place)| (name.as_str(), place.line)).collect();
        assert_eq!(named, [("pager", 13), ("ops", 17), ("pager", 17)]);
        assert_eq!(read("").0.unwrap_or_default(), FleetAlerts::default());
    }

    #[test]
    fn what_cannot_be_is_told_with_its_remedy() {
        for (alerts, code, said) in [
            ("[alerts.rules.server-dwn]\nfor = \"2m\"\n", "CV580", "did you mean \"server-down\"?"),
            ("[alerts.rules.server-down]\nfor = \"2d\"\n", "CV013", "write at most \"24h\""),
            ("[alerts.rules.drift-restored]\nfor = \"2m\"\n", "CV013", "happens and does not last"),
            ("[alerts.rules.unhealthy]\nseverity = \"bad\"\n", "CV010", "info, warning, critical"),
            ("[alerts.rules.unhealthy]\nafter = \"1m\"\n", "CV005", "`after`"),
            ("[alerts]\nfirst_after = \"1m\"\n", "CV005", "`first_after`"),
            ("[[alerts.routes]]\ngroups = [\"gateway\"]\n", "CV008", "add channels"),
            (
                "[[alerts.routes]]\nchannels = [\"x\"]\ngroups = [\"gatewya\"]\n",
                "CV580",
                "did you mean \"gateway\"?",
            ),
            ("[[alerts.routes]]\nchannels = [\"x\"]\nrules = [\"down\"]\n", "CV580", "rule \"down\""),
            ("[[alerts.routes]]\nchannels = [\"Pa ger\"]\n", "CV007", "Pa ger"),
        ] {
            let (_, findings) = read(alerts);
            let found = findings.iter().find(|it| it.code == code);
            let text = found.map(ToString::to_string).unwrap_or_default();
            assert!(text.contains(said), "{alerts}: {findings:#?}");
        }
    }
}
