//! fleet.toml (with overrides.toml merged over it) as typed: names parsed, references checked, nothing composed yet.

use std::{collections::BTreeMap, time::Duration};

use super::{
    DefaultCredentials,
    alerts_text::{self, AlertsText},
    approval_text::{self, FleetApproval},
    balancer_nodes,
    balancers_text::{self, BalancerText},
    call_text::HooksText,
    databases_text::{self, DatabaseServer},
    drift_text::{self, DriftText},
    gate_text::GateText,
    key_manager_text::KeyManagerText,
    reader::{Reader, Typed},
    report::{Report, suggest},
    signature_text,
    tree::{At, Node, Table},
    vault::VaultText,
};
use crate::{
    bundle::{RestartPolicy, Thresholds},
    ids::{FleetName, GroupName, NameError, NodeName, ZoneName},
    product::{FileRuleText, file_rule},
    rollout::policy::{FleetPolicy, RolloutPolicy},
    signature::SignatureRules,
};

/// The largest offset: with it the highest known port, 11111, still is a port.
pub const OFFSET_MAX: u16 = 54_424;

pub(super) struct Manifest<'a> {
    pub(super) name: FleetName,
    pub(super) default_credentials: DefaultCredentials,
    pub(super) databases: Vec<DatabaseServer>,
    pub(super) balancers: Vec<BalancerText>,
    pub(super) rollout: FleetPolicy,
    pub(super) approval: FleetApproval,
    pub(super) alerts: AlertsText,
    pub(super) signatures: SignatureRules,
    pub(super) values: Option<&'a Table>,
    pub(super) service: ServiceText,
    pub(super) files: Vec<FileRuleText>,
    pub(super) drift: DriftText,
    pub(super) groups: BTreeMap<GroupName, GroupText<'a>>,
    pub(super) nodes: BTreeMap<NodeName, NodeText<'a>>,
}

pub(super) struct GroupText<'a> {
    pub(super) at: At,
    /// That of a balancer's group is its kind.
    pub(super) product: Typed<String>,
    /// Name of the balancer whose nodes they are.
    pub(super) balancer: Option<Typed<String>>,
    pub(super) layers: Vec<Typed<String>>,
    /// Absent: derived.
    pub(super) after: Option<Vec<Typed<String>>>,
    pub(super) rollout: RolloutPolicy,
    /// `approval.required`.
    pub(super) needs_approval: bool,
    pub(super) gates: Vec<GateText>,
    pub(super) values: Option<&'a Table>,
    pub(super) ports: Ports,
    pub(super) run: RunText,
    pub(super) service: ServiceText,
    pub(super) files: Vec<FileRuleText>,
    pub(super) hooks: HooksText,
    pub(super) key_managers: Vec<KeyManagerText>,
    pub(super) drift: DriftText,
}

pub(super) struct NodeText<'a> {
    pub(super) at: At,
    pub(super) group: GroupName,
    pub(super) host: Typed<String>,
    pub(super) zone: Option<ZoneName>,
    pub(super) home: Typed<String>,
    pub(super) offset: Option<Typed<u16>>,
    pub(super) layers: Vec<Typed<String>>,
    pub(super) values: Option<&'a Table>,
    pub(super) ports: Ports,
    pub(super) run: RunText,
    pub(super) service: ServiceText,
    pub(super) files: Vec<FileRuleText>,
    pub(super) drift: DriftText,
}

/// Ports that the configuration moves elsewhere, by the product's names; the offset is not added.
pub(super) type Ports = BTreeMap<String, Typed<u16>>;

/// How the server is launched; strings may hold expressions.
#[derive(Default)]
pub(super) struct RunText {
    pub(super) java_home: Option<Typed<String>>,
    pub(super) run_user: Option<Typed<String>>,
    pub(super) args: Option<Typed<Vec<String>>>,
    pub(super) env: BTreeMap<String, Typed<String>>,
    pub(super) vault: VaultText,
}

impl RunText {
    /// Whether anything of it is.
    pub(super) fn is_typed(&self) -> bool {
        let is_bare = self.java_home.is_none() && self.run_user.is_none() && self.args.is_none();
        !is_bare || !self.env.is_empty() || self.vault.is_typed()
    }
}

/// `[service]` at one of its three places; what is absent comes from the wider one.
#[derive(Default, Clone)]
pub(super) struct ServiceText {
    pub(super) start_deadline: Option<Duration>,
    pub(super) stop_deadline: Option<Duration>,
    pub(super) unhealthy_restarts: Option<bool>,
    pub(super) check_databases: Option<bool>,
    pub(super) probe_period: Option<Duration>,
    pub(super) probe_failures: Option<u32>,
    pub(super) probe_successes: Option<u32>,
    pub(super) probe_grace: Option<Duration>,
    pub(super) exits_max: Option<u32>,
    pub(super) exits_window: Option<Duration>,
    pub(super) restart_delay: Option<Duration>,
    pub(super) restart_delay_max: Option<Duration>,
}

impl ServiceText {
    /// This, with what it does not say taken from `wider`.
    pub(super) fn over(&self, wider: &Self) -> Self {
        Self {
            start_deadline: self.start_deadline.or(wider.start_deadline),
            stop_deadline: self.stop_deadline.or(wider.stop_deadline),
            unhealthy_restarts: self.unhealthy_restarts.or(wider.unhealthy_restarts),
            check_databases: self.check_databases.or(wider.check_databases),
            probe_period: self.probe_period.or(wider.probe_period),
            probe_failures: self.probe_failures.or(wider.probe_failures),
            probe_successes: self.probe_successes.or(wider.probe_successes),
            probe_grace: self.probe_grace.or(wider.probe_grace),
            exits_max: self.exits_max.or(wider.exits_max),
            exits_window: self.exits_window.or(wider.exits_window),
            restart_delay: self.restart_delay.or(wider.restart_delay),
            restart_delay_max: self.restart_delay_max.or(wider.restart_delay_max),
        }
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        Thresholds {
            period: self.probe_period.unwrap_or(Duration::from_secs(10)),
            failure: self.probe_failures.unwrap_or(3),
            success: self.probe_successes.unwrap_or(1),
            grace: self.probe_grace.unwrap_or(Duration::from_secs(60)),
        }
    }

    pub(super) fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy {
            exits_max: self.exits_max.unwrap_or(5),
            window: self.exits_window.unwrap_or(Duration::from_secs(600)),
            delay: self.restart_delay.unwrap_or(Duration::from_secs(5)),
            delay_max: self.restart_delay_max.unwrap_or(Duration::from_secs(300)),
        }
    }
}

/// Reads the whole of fleet.toml. `None` only if there is no usable fleet name.
pub(super) fn read<'a>(root: &'a Table, report: &mut Report) -> Option<Manifest<'a>> {
    let mut reader = Reader::new(root, "");
    let name = reader.text("name", report);
    let name = reader.required("name", name, "\"acme-prod\"", report);
    let name = name.and_then(|name| parse_name(&name.value, &name.at, FleetName::parse, report));
    let choices = [(DefaultCredentials::Told, "told"), (DefaultCredentials::Accepted, "accepted")];
    let default_credentials = reader.choice("default_credentials", &choices, report).unwrap_or_default();
    let databases = databases_text::read(&mut reader, report);
    let balancers = balancers_text::read(&mut reader, report);
    let values = read_values(&mut reader, report);
    let service = read_service(&mut reader, report);
    let rollout = match reader.table("rollout", report) {
        Some(table) => super::rollout_text::read_fleet(table, report),
        None => FleetPolicy::default(),
    };
    let approval = approval_text::read_fleet(&mut reader, report);
    let alerts = alerts_text::read(&mut reader, report);
    let signatures = signature_text::read(&mut reader, report);
    let files = read_files(&mut reader, report);
    let drift = drift_text::read(&mut reader, report);
    let mut groups = BTreeMap::new();
    if let Some(table) = reader.table("groups", report) {
        for (name, at, group) in named(&table, "group", GroupName::parse, report) {
            if let Some(group) = read_group(at, group, &balancers, report) {
                groups.insert(name, group);
            }
        }
    }
    alerts.check(&groups, report);
    let mut nodes = BTreeMap::new();
    if let Some(table) = reader.table("nodes", report) {
        for (name, at, node) in named(&table, "node", NodeName::parse, report) {
            if let Some(node) = read_node(&name, (at, node), &groups, report) {
                nodes.insert(name, node);
            }
        }
    }
    reader.finish(report);
    Some(Manifest {
        name: name?,
        default_credentials,
        databases,
        balancers,
        rollout,
        approval,
        alerts,
        signatures,
        values,
        service,
        files,
        drift,
        groups,
        nodes,
    })
}

pub(super) fn parse_name<T>(
    text: &str,
    at: &At,
    parse: impl Fn(&str) -> Result<T, NameError>,
    report: &mut Report,
) -> Option<T> {
    match parse(text) {
        Ok(name) => Some(name),
        Err(error) => {
            report.error(
                "CV007",
                Some(at.value_place()),
                error.to_string(),
                "rename it; the name is part of certificates and host names, which have no other characters",
            );
            None
        }
    }
}

/// The entries of [groups] or [nodes]: parsed name and the table behind it.
fn named<'a, T>(
    table: &Reader<'a>,
    what: &str,
    parse: impl Fn(&str) -> Result<T, NameError>,
    report: &mut Report,
) -> Vec<(T, At, Reader<'a>)> {
    let mut entries = Vec::new();
    for (key, node) in table.entries() {
        let Some(at) = node.at().cloned() else { continue };
        let Node::Table(inner) = node else {
            report.error(
                "CV006",
                Some(at.key_place()),
                format!("{what} {key:?} must be a table, not {}", node.kind()),
                format!("write it as [{what}s.NAME]"),
            );
            continue;
        };
        let key_at = At { value: at.key, ..at };
        if let Some(name) = parse_name(key, &key_at, &parse, report) {
            entries.push((name, key_at, Reader::new(inner, format!("{}.{key}", table.path()))));
        }
    }
    entries
}

/// What the nodes of a group are: a product of WSO2's, or the load balancer that it names.
fn read_product(
    reader: &mut Reader<'_>,
    balancers: &[BalancerText],
    report: &mut Report,
) -> (Option<Typed<String>>, Option<Typed<String>>) {
    let product = reader.text("product", report);
    let Some(balancer) = reader.text("balancer", report) else {
        return (reader.required("product", product, "\"wso2is-7.2\"", report), None);
    };
    if let Some(product) = product {
        report.error(
            "CV565",
            Some(product.at.key_place()),
            "a group has a `product` or a `balancer`, and this one has both",
            "remove one of the two; servers and the load balancer in front of them are groups of their own",
        );
    }
    let kind = balancer_nodes::kind_of(&balancer.value, balancers).as_str().to_owned();
    (Some(Typed { value: kind, at: balancer.at.clone() }), Some(balancer))
}

fn read_group<'a>(
    at: At,
    mut reader: Reader<'a>,
    balancers: &[BalancerText],
    report: &mut Report,
) -> Option<GroupText<'a>> {
    let (product, balancer) = read_product(&mut reader, balancers, report);
    let layers = read_list(&mut reader, "layers", report);
    let after = reader.raw().get("after").is_some().then(|| read_list(&mut reader, "after", report));
    let (rollout, gates) = match reader.table("rollout", report) {
        Some(table) => super::rollout_text::read_group(table, report),
        None => (RolloutPolicy::default(), Vec::new()),
    };
    let needs_approval = approval_text::read_group(&mut reader, report);
    let values = read_values(&mut reader, report);
    let ports = read_ports(&mut reader, report);
    let run = read_run(&mut reader, report);
    let service = read_service(&mut reader, report);
    let files = read_files(&mut reader, report);
    let hooks = HooksText::read(&mut reader, report);
    let key_managers = KeyManagerText::read_all(&mut reader, report);
    let drift = drift_text::read(&mut reader, report);
    reader.finish(report);
    Some(GroupText {
        at,
        product: product?,
        balancer,
        layers,
        after,
        rollout,
        needs_approval,
        gates,
        values,
        ports,
        run,
        service,
        files,
        hooks,
        key_managers,
        drift,
    })
}

fn read_node<'a>(
    name: &NodeName,
    (at, mut reader): (At, Reader<'a>),
    groups: &BTreeMap<GroupName, GroupText<'a>>,
    report: &mut Report,
) -> Option<NodeText<'a>> {
    let group = reader.text("group", report);
    let group = reader.required("group", group, "\"key-manager\"", report);
    let group = group.and_then(|group| {
        let found = groups.keys().find(|known| known.as_str() == group.value).cloned();
        if found.is_none() {
            report.error(
                "CV101",
                Some(group.at.value_place()),
                format!("node {name} is in group {:?}, which does not exist", group.value),
                suggest(&group.value, groups.keys().map(GroupName::as_str)),
            );
        }
        found
    });
    let host = reader.text("host", report);
    let host = reader.required("host", host, "\"is-1.example.org\"", report);
    let zone = reader.text("zone", report);
    let zone = zone.and_then(|zone| parse_name(&zone.value, &zone.at, ZoneName::parse, report));
    let home = reader.text("home", report);
    let home = reader.required("home", home, "\"/opt/wso2/wso2is-7.2.0\"", report);
    let offset = reader.number("offset", (0, i64::from(OFFSET_MAX)), report);
    let offset =
        offset.and_then(|offset| Some(Typed { value: u16::try_from(offset.value).ok()?, at: offset.at }));
    let layers = read_list(&mut reader, "layers", report);
    let values = read_values(&mut reader, report);
    let ports = read_ports(&mut reader, report);
    let run = read_run(&mut reader, report);
    let service = read_service(&mut reader, report);
    let files = read_files(&mut reader, report);
    let drift = drift_text::read(&mut reader, report);
    reader.finish(report);
    Some(NodeText {
        at,
        group: group?,
        host: host?,
        zone,
        home: home?,
        offset,
        layers,
        values,
        ports,
        run,
        service,
        files,
        drift,
    })
}

/// A list of names, each with its own place.
pub(super) fn read_list(
    reader: &mut Reader<'_>,
    key: &'static str,
    report: &mut Report,
) -> Vec<Typed<String>> {
    let Some(list) = reader.texts(key, report) else { return Vec::new() };
    let array = reader.raw().leaf(key).and_then(|leaf| leaf.value.as_array());
    let spans = array.into_iter().flatten().map(|item| item.span().map(|span| span.start));
    let at = |start: Option<usize>| At { value: start.unwrap_or(list.at.value), ..list.at.clone() };
    list.value.iter().zip(spans).map(|(text, start)| Typed { value: text.clone(), at: at(start) }).collect()
}

fn read_values<'a>(reader: &mut Reader<'a>, report: &mut Report) -> Option<&'a Table> {
    reader.table("values", report).map(|table| table.raw())
}

fn read_files(reader: &mut Reader<'_>, report: &mut Report) -> Vec<FileRuleText> {
    let rules = reader.tables("files", report);
    rules.into_iter().filter_map(|mut rule| file_rule(&mut rule, report)).collect()
}

fn read_ports(reader: &mut Reader<'_>, report: &mut Report) -> Ports {
    let Some(table) = reader.table("ports", report) else { return Ports::new() };
    let mut ports = Ports::new();
    for (name, node) in table.entries() {
        let Some(at) = node.at().cloned() else { continue };
        let number = super::reader::as_leaf(node).and_then(|leaf| leaf.value.as_integer());
        match number.and_then(|number| u16::try_from(number).ok()).filter(|number| 0 < *number) {
            Some(value) => {
                ports.insert(name.to_owned(), Typed { value, at });
            }
            None => report.error(
                "CV013",
                Some(at.value_place()),
                format!("port {name} must be a whole number from 1 to 65535"),
                format!("write for example {name} = 4001"),
            ),
        }
    }
    ports
}

fn read_run(reader: &mut Reader<'_>, report: &mut Report) -> RunText {
    let mut env = BTreeMap::new();
    if let Some(table) = reader.table("env", report) {
        for (name, node) in table.entries() {
            let Some(at) = node.at().cloned() else { continue };
            let text = super::reader::as_leaf(node).and_then(|leaf| leaf.value.as_str());
            match text {
                Some(text) if is_env_name(name) => {
                    env.insert(name.to_owned(), Typed { value: text.to_owned(), at });
                }
                Some(_) => report.error(
                    "CV112",
                    Some(at.key_place()),
                    format!("{name:?} is not the name of an environment variable"),
                    "use letters, digits and '_', not starting with a digit",
                ),
                None => report.error(
                    "CV006",
                    Some(at.key_place()),
                    format!("environment variable {name} must be a string, not {}", node.kind()),
                    "put the value in quotes",
                ),
            }
        }
    }
    RunText {
        java_home: reader.text("java_home", report),
        run_user: reader.text("run_user", report),
        args: reader.texts("args", report),
        env,
        vault: VaultText::read(reader, report),
    }
}

fn is_env_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn read_service(reader: &mut Reader<'_>, report: &mut Report) -> ServiceText {
    let Some(mut table) = reader.table("service", report) else { return ServiceText::default() };
    let count = |table: &mut Reader<'_>, key, report: &mut Report| {
        table.number(key, (1, 1000), report).and_then(|typed| u32::try_from(typed.value).ok())
    };
    let service = ServiceText {
        start_deadline: table.duration("start_deadline", report),
        stop_deadline: table.duration("stop_deadline", report),
        unhealthy_restarts: table.flag("unhealthy_restarts", report),
        check_databases: table.flag("check_databases", report),
        probe_period: table.duration("probe_period", report),
        probe_failures: count(&mut table, "probe_failures", report),
        probe_successes: count(&mut table, "probe_successes", report),
        probe_grace: table.duration("probe_grace", report),
        exits_max: count(&mut table, "exits_max", report),
        exits_window: table.duration("exits_window", report),
        restart_delay: table.duration("restart_delay", report),
        restart_delay_max: table.duration("restart_delay_max", report),
    };
    table.finish(report);
    service
}
