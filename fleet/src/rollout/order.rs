//! Which group starts before which, derived from the URLs in the configuration where `after` is not typed.
//!
//! A node needs another when a key that is used *at start* names the other's host and one of its ports. The keys and
//! the direction are WSO2's: Identity Server first, then control planes, then traffic managers, then gateways (a traffic
//! manager that starts before its control plane undeploys all policies: wso2/api-manager#1920). Keys that name peers for
//! other reasons say nothing about order and are left out: `[[apim.gateway.environment]]` (a control plane's list of
//! its gateways), `[[event_listener]]` notification endpoints (an Identity Server telling a control plane of revoked
//! tokens), and `event_duplicate_url` (the other one of a pair).
//! A load balancer's name matches no node and orders nothing; then `after` has to be typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use toml_edit::{Item, TableLike, Value};

use crate::ids::{GroupName, NodeName};

/// A node as far as its place in the order goes.
#[derive(Debug, Clone)]
pub struct OrderNode<'a> {
    /// Its name.
    pub node: &'a NodeName,
    /// Its group.
    pub group: &'a GroupName,
    /// The name or address that others reach it by.
    pub host: &'a str,
    /// Its ports, offset applied.
    pub ports: BTreeSet<u16>,
    /// Its composed deployment.toml. One that does not parse orders nothing; that it does not parse is told elsewhere.
    pub config: &'a str,
}

/// How much a key says about order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Asked at start, or waited for.
    Starts,
    /// Published to while running. Gives way where the opposite is needed at start: control planes publish to traffic
    /// managers, which need them to start.
    Publishes,
}

/// Why one group comes after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Who comes later.
    pub group: GroupName,
    /// Who comes before.
    pub after: GroupName,
    /// A node of `group` whose configuration says so.
    pub node: NodeName,
    /// By this key.
    pub key: String,
    /// Which names this peer.
    pub peer: NodeName,
    /// How much it says.
    pub need: Need,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {}: {} of {} names {}", self.group, self.after, self.key, self.node, self.peer)
    }
}

/// Groups that each come after the next, and the last after the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Cycle {
    /// In order.
    pub groups: Vec<GroupName>,
    /// Why, where that was derived.
    pub reasons: Vec<Reason>,
}

/// Which groups come after which, and why where that was not typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// For each group those that must be done before it begins.
    pub after: BTreeMap<GroupName, BTreeSet<GroupName>>,
    /// Why, for each part of `after` that was derived.
    pub reasons: Vec<Reason>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the order of the groups is a circle: ")?;
        for group in &self.groups {
            write!(f, "{group} after ")?;
        }
        write!(f, "{}", self.groups.first().map_or("", GroupName::as_str))?;
        self.reasons.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}

/// Keys whose URLs a server needs; a `[]` stands for the elements of an array of tables.
const KEYS: [(&str, Need); 7] = [
    ("apim.key_manager.service_url", Need::Starts),
    ("apim.event_hub.service_url", Need::Starts),
    ("apim.event_hub.event_listening_endpoints", Need::Starts),
    ("apim.throttling.service_url", Need::Publishes),
    ("apim.throttling.throttle_decision_endpoints", Need::Publishes),
    ("apim.throttling.url_group[].traffic_manager_urls", Need::Publishes),
    ("apim.throttling.url_group[].traffic_manager_auth_urls", Need::Publishes),
];

/// The reasons that the configurations give, one per pair of groups, the strongest.
pub fn reasons(nodes: &[OrderNode<'_>]) -> Vec<Reason> {
    let mut found: BTreeMap<(&GroupName, &GroupName), Reason> = BTreeMap::new();
    let endpoints = endpoints(nodes);
    for node in nodes {
        let Ok(config) = node.config.parse::<toml_edit::DocumentMut>() else { continue };
        for (key, need) in KEYS {
            let mut urls = Vec::new();
            collect(config.as_table(), key, &mut urls);
            let peers = urls.iter().filter_map(|url| endpoints.get(&endpoint(url)?));
            for peer in peers.filter(|peer| peer.group != node.group) {
                let reason = Reason {
                    group: node.group.clone(),
                    after: peer.group.clone(),
                    node: node.node.clone(),
                    key: key.to_owned(),
                    peer: peer.node.clone(),
                    need,
                };
                let known = found.entry((node.group, peer.group)).or_insert_with(|| reason.clone());
                if need < known.need {
                    *known = reason;
                }
            }
        }
    }
    found.into_values().collect()
}

/// The order of the groups: as `typed`, and for groups that are not in there, as their configurations and the reasons
/// that are `stated` beside them ask for. An empty set in `typed` says that the group comes after none, whatever its configuration names.
///
/// # Errors
/// If groups need each other at start, or what is typed says the opposite; the reasons say by which keys.
pub fn derive(
    typed: &BTreeMap<GroupName, BTreeSet<GroupName>>,
    nodes: &[OrderNode<'_>],
    stated: Vec<Reason>,
) -> Result<Order, Cycle> {
    let mut after = typed.clone();
    for node in nodes {
        after.entry(node.group.clone()).or_default();
    }
    let (starts, publishes): (Vec<_>, Vec<_>) = reasons(nodes)
        .into_iter()
        .chain(stated)
        .filter(|reason| !typed.contains_key(&reason.group))
        .partition(|reason| reason.need == Need::Starts);
    for reason in &starts {
        after.entry(reason.group.clone()).or_default().insert(reason.after.clone());
    }
    check(&after).map_err(|cycle| explain(cycle, &starts))?;
    let mut reasons = starts;
    for reason in publishes {
        after.entry(reason.group.clone()).or_default().insert(reason.after.clone());
        if check(&after).is_ok() {
            reasons.push(reason);
        } else {
            after.entry(reason.group).or_default().remove(&reason.after);
        }
    }
    reasons.sort_by(|a, b| (&a.group, &a.after).cmp(&(&b.group, &b.after)));
    Ok(Order { after, reasons })
}

/// Groups in an order in which they may go; one that waits for nothing comes first, then by name. What stands in a
/// circle comes last.
pub fn sorted<'a>(after: &BTreeMap<&'a GroupName, &BTreeSet<GroupName>>) -> Vec<&'a GroupName> {
    let mut order: Vec<&GroupName> = Vec::with_capacity(after.len());
    let mut left: Vec<&GroupName> = after.keys().copied().collect();
    while !left.is_empty() {
        let may_go = |name: &&&GroupName| {
            after[**name].iter().all(|before| !after.contains_key(before) || order.contains(&before))
        };
        let next: Vec<&GroupName> = left.iter().filter(may_go).copied().collect();
        if next.is_empty() {
            order.append(&mut left);
        }
        left.retain(|name| !next.contains(name));
        order.extend(next);
    }
    order
}

/// Whether an order, typed or derived, has an end.
///
/// # Errors
/// Names the circle.
pub fn check(after: &BTreeMap<GroupName, BTreeSet<GroupName>>) -> Result<(), Cycle> {
    let mut done: BTreeSet<&GroupName> = BTreeSet::new();
    for start in after.keys() {
        let mut path: Vec<(&GroupName, Vec<&GroupName>)> = vec![(start, befores(after, start))];
        while let Some((group, open)) = path.last_mut() {
            let group = *group;
            match open.pop() {
                None => {
                    done.insert(group);
                    path.pop();
                }
                Some(next) => {
                    if let Some(at) = path.iter().position(|(on_path, _)| *on_path == next) {
                        let groups = path[at..].iter().map(|(group, _)| (*group).clone()).collect();
                        return Err(Cycle { groups, reasons: Vec::new() });
                    }
                    if !done.contains(next) {
                        path.push((next, befores(after, next)));
                    }
                }
            }
        }
    }
    Ok(())
}

fn befores<'a>(after: &'a BTreeMap<GroupName, BTreeSet<GroupName>>, group: &GroupName) -> Vec<&'a GroupName> {
    after.get(group).into_iter().flatten().collect()
}

fn explain(mut cycle: Cycle, reasons: &[Reason]) -> Cycle {
    let next = cycle.groups.iter().cycle().skip(1);
    for (group, after) in cycle.groups.iter().zip(next) {
        cycle.reasons.extend(reasons.iter().find(|it| it.group == *group && it.after == *after).cloned());
    }
    cycle
}

/// Every string under `key`.
fn collect(table: &dyn TableLike, key: &str, urls: &mut Vec<String>) {
    let (name, rest) = key.split_once('.').map_or((key, None), |(name, rest)| (name, Some(rest)));
    let (name, each) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
    let Some(item) = table.get(name) else { return };
    match (rest, each) {
        (None, _) => strings(item, urls),
        (Some(rest), false) => {
            if let Some(table) = item.as_table_like() {
                collect(table, rest, urls);
            }
        }
        (Some(rest), true) => match item {
            Item::ArrayOfTables(tables) => tables.iter().for_each(|table| collect(table, rest, urls)),
            Item::Value(Value::Array(array)) => {
                array.iter().filter_map(Value::as_inline_table).for_each(|table| collect(table, rest, urls));
            }
            Item::None | Item::Value(_) | Item::Table(_) => {}
        },
    }
}

fn strings(item: &Item, urls: &mut Vec<String>) {
    match item {
        Item::Value(Value::String(text)) => urls.push(text.value().clone()),
        Item::Value(Value::Array(array)) => {
            urls.extend(array.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        Item::None | Item::Value(_) | Item::Table(_) | Item::ArrayOfTables(_) => {}
    }
}

/// Every node by the hosts and ports that name it; of two on one port the first.
fn endpoints<'n, 'a>(nodes: &'n [OrderNode<'a>]) -> BTreeMap<(String, u16), &'n OrderNode<'a>> {
    let mut endpoints = BTreeMap::new();
    for node in nodes {
        for port in &node.ports {
            endpoints.entry((node.host.to_ascii_lowercase(), *port)).or_insert(node);
        }
    }
    endpoints
}

/// The host and port that a URL names.
fn endpoint(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok()?),
        None if scheme == "https" => (authority, 443),
        None => (authority, 80),
    };
    Some((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fleet(Vec<(NodeName, GroupName, String, u16, String)>);

    impl Fleet {
        fn new(nodes: &[(&str, &str, u16, &str)]) -> Self {
            let node = |(group, host, offset, config): &(&str, &str, u16, &str)| {
                let name = NodeName::parse(&format!("{group}-{host}")).unwrap();
                (name, GroupName::parse(group).unwrap(), (*host).to_owned(), *offset, (*config).to_owned())
            };
            Self(nodes.iter().map(node).collect())
        }

        fn order(&self) -> Result<String, String> {
            self.order_with(&[])
        }

        fn order_with(&self, typed: &[(&str, &[&str])]) -> Result<String, String> {
            let name = |text: &&str| GroupName::parse(text).unwrap();
            let typed = typed.iter().map(|(group, after)| (name(group), after.iter().map(name).collect()));
            let typed: BTreeMap<GroupName, BTreeSet<GroupName>> = typed.collect();
            let nodes: Vec<OrderNode<'_>> = self
                .0
                .iter()
                .map(|(node, group, host, offset, config)| OrderNode {
                    node,
                    group,
                    host,
                    ports: [9443, 8243, 5672, 9611, 9711].map(|port| port + offset).into_iter().collect(),
                    config,
                })
                .collect();
            let line = |(group, after): (GroupName, BTreeSet<GroupName>)| {
                format!("{group}: {}", after.iter().map(GroupName::as_str).collect::<Vec<_>>().join(" "))
            };
            derive(&typed, &nodes, Vec::new())
                .map(|order| order.after.into_iter().map(line).collect::<Vec<_>>().join("\n"))
                .map_err(|cycle| cycle.to_string())
        }
    }

    const GATEWAY: &str = r#"
[apim.key_manager]
service_url = "https://is1:9444/services/"
[apim.event_hub]
service_url = "https://cp1:9443/services/"
event_listening_endpoints = ["tcp://cp1:5672", "tcp://cp2:5672"]
[apim.throttling]
throttle_decision_endpoints = ["tcp://tm1:5672"]
[[apim.throttling.url_group]]
traffic_manager_urls = ["tcp://tm1:9611"]
"#;
    const TRAFFIC: &str = "[apim.event_hub]\nevent_listening_endpoints = [\"tcp://cp1:5672\"]\n";
    const CONTROL: &str = r#"
[apim.key_manager]
service_url = "https://is1:9444/services/"
[apim.throttling]
url_group = [{ traffic_manager_urls = ["tcp://tm1:9611"] }]
[[apim.gateway.environment]]
service_url = "https://gw1:9443/services/"
"#;
    const IDENTITY: &str = r#"
[[event_listener]]
id = "token_revocation"
properties.notification_endpoint = "https://cp1:9443/internal/data/v1/notify"
"#;

    #[test]
    fn a_gateway_needs_control_plane_traffic_manager_and_key_manager() {
        let fleet = Fleet::new(&[
            ("cp", "cp1", 0, CONTROL),
            ("cp", "cp2", 0, CONTROL),
            ("gw", "gw1", 0, GATEWAY),
            ("km", "is1", 1, IDENTITY),
            ("tm", "tm1", 0, TRAFFIC),
        ]);
        assert_eq!(fleet.order().unwrap(), "cp: km\ngw: cp km tm\nkm: \ntm: cp");
    }

    #[test]
    fn a_wrong_port_or_a_load_balancer_orders_nothing() {
        let fleet =
            Fleet::new(&[("gw", "gw1", 0, GATEWAY), ("km", "is1", 0, ""), ("tm", "lb", 0, "not = [toml")]);
        assert_eq!(fleet.order().unwrap(), "gw: \nkm: \ntm: ");
    }

    #[test]
    fn a_circle_is_explained_by_its_keys() {
        let a = "[apim.key_manager]\nservice_url = \"https://b:9443/services/\"\n";
        let b = "[apim.event_hub]\nservice_url = \"https://a:9443/services/\"\n";
        let text = Fleet::new(&[("ga", "a", 0, a), ("gb", "b", 0, b)]).order().unwrap_err();
        assert_eq!(
            text,
            "the order of the groups is a circle: ga after gb after ga; \
             ga after gb: apim.key_manager.service_url of ga-a names gb-b; \
             gb after ga: apim.event_hub.service_url of gb-b names ga-a"
        );
    }

    #[test]
    fn what_is_typed_is_not_derived_and_nothing_typed_is_an_order_too() {
        let fleet = Fleet::new(&[
            ("cp", "cp1", 0, CONTROL),
            ("gw", "gw1", 0, GATEWAY),
            ("km", "is1", 1, IDENTITY),
            ("tm", "tm1", 0, TRAFFIC),
        ]);
        assert_eq!(
            fleet.order_with(&[("gw", &["tm"]), ("cp", &[])]).unwrap(),
            "cp: \ngw: tm\nkm: \ntm: cp",
            "gw only as typed, cp after none, tm still as derived"
        );
    }

    #[test]
    fn a_typed_order_against_a_derived_one_is_a_circle_that_names_the_key() {
        let fleet = Fleet::new(&[("gw", "gw1", 0, GATEWAY), ("km", "is1", 1, "")]);
        assert_eq!(
            fleet.order_with(&[("km", &["gw"])]).unwrap_err(),
            "the order of the groups is a circle: gw after km after gw; \
             gw after km: apim.key_manager.service_url of gw-gw1 names km-is1"
        );
    }

    #[test]
    fn groups_are_sorted_by_what_they_wait_for() {
        let name = |text: &str| GroupName::parse(text).unwrap();
        let (cp, gw, km) = (name("cp"), name("gw"), name("km"));
        let (none, after_km, after_cp) =
            (BTreeSet::new(), [km.clone()].into(), [cp.clone(), name("x")].into());
        let after = BTreeMap::from([(&cp, &after_km), (&gw, &after_cp), (&km, &none)]);
        assert_eq!(sorted(&after), [&km, &cp, &gw]);
    }
}
