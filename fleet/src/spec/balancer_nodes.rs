//! Nodes of groups that are a load balancer's: the generated configuration is their one file, and a reload is all that a
//! change asks for (docs/decisions/0078-balancers-are-members-of-the-fleet.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    ComposedNode, Origins,
    balancer_template::Templates,
    balancers_text::BalancerText,
    compose::Draft,
    expression::Expressions,
    files,
    manifest::{GroupText, Manifest, ServiceText},
    report::{Report, suggest},
    tree::At,
};
use crate::{
    balancer::{Balancer, Kind},
    bundle::{
        Bundle, HomePath, Port, Probe, ProbeKind, ProbeRole, RestartClass, ServiceSettings, Thresholds,
    },
    call::{Call, Hooks, Listens},
    drift::keys::KeyRules,
    ids::{Digest, GroupName, NodeName},
    key_manager::KeyManagers,
    product::{FileRule, Product},
    rollout::order::{Need, Reason},
};

/// From a reload, or a start, to ports that answer.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// From TERM to KILL.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// After a reload, a port that does not answer yet does not count for this long.
const GRACE: Duration = Duration::from_secs(10);
/// For a connection to a port of its own host.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The kind of the balancer that a group names; HAProxy, if there is none of that name, which is told later.
pub(super) fn kind_of(name: &str, balancers: &[BalancerText]) -> Kind {
    balancers.iter().find(|text| text.name == name).map_or(Kind::Haproxy, |text| text.kind)
}

/// What stands for a product where a node has none of WSO2's: no ports, no probes, no files of its own.
pub(super) fn product(kind: Kind) -> Product {
    Product {
        id: kind.as_str().to_owned(),
        title: kind.title().to_owned(),
        script_unix: kind.file(),
        script_windows: kind.file(),
        config_path: config_path(),
        args: Vec::new(),
        jdk: (0, None),
        owned_keys: Vec::new(),
        merge_keys: BTreeMap::new(),
        ready_lines: Vec::new(),
        start_deadline: START_DEADLINE,
        stop_deadline: STOP_DEADLINE,
        ports: Vec::new(),
        probes: Vec::new(),
        files: Vec::new(),
    }
}

/// Where a server has its deployment.toml. A balancer has none there.
fn config_path() -> HomePath {
    HomePath::parse("repository/conf/deployment.toml").expect("a fixed path below home")
}

/// What a group of a balancer, or one of its nodes, cannot have.
pub(super) fn check(manifest: &Manifest<'_>, report: &mut Report) {
    for (name, group) in &manifest.groups {
        let Some(balancer) = &group.balancer else { continue };
        let known = manifest.balancers.iter().map(|text| text.name.as_str());
        if !known.clone().any(|known| known == balancer.value) {
            report.error(
                "CV565",
                Some(balancer.at.value_place()),
                format!("group {name} is of balancer {:?}, which does not exist", balancer.value),
                suggest(&balancer.value, known),
            );
        }
        let mut refuse = |what: &str, at: &At| {
            report.error(
                "CV565",
                Some(at.key_place()),
                format!("{what} of a server, and {name} is a group of a load balancer"),
                "remove it; a load balancer has its services in [balancers.NAME] and nothing else",
            );
        };
        for what in server_parts(group) {
            refuse(what, &group.at);
        }
        for node in manifest.nodes.values().filter(|node| node.group == *name) {
            if !node.layers.is_empty() {
                refuse("`layers` are those", &node.at);
            }
            if node.offset.is_some() || !node.ports.is_empty() {
                refuse("`offset` and `ports` are those", &node.at);
            }
            if node.run.is_typed() {
                refuse("`java_home`, `run_user`, `args`, `env` and the vault are those", &node.at);
            }
            if !node.drift.keys.is_empty() {
                refuse("`drift.keys` are those", &node.at);
            }
        }
    }
}

fn server_parts(group: &GroupText<'_>) -> Vec<&'static str> {
    let parts = [
        (!group.layers.is_empty(), "`layers` are those"),
        (!group.ports.is_empty(), "`ports` are those"),
        (group.run.is_typed(), "`java_home`, `run_user`, `args`, `env` and the vault are those"),
        (group.hooks.is_typed(), "`hooks` are those"),
        (!group.key_managers.is_empty(), "`key_managers` are those"),
        (!group.drift.keys.is_empty(), "`drift.keys` are those"),
        (!group.gates.is_empty(), "`gates` are those"),
    ];
    parts.into_iter().filter(|(is_typed, _)| *is_typed).map(|(_, what)| what).collect()
}

/// What the texts of balancers are made of.
pub(super) struct Texts<'a> {
    pub(super) balancers: &'a BTreeMap<String, Balancer>,
    pub(super) templates: &'a Templates,
    pub(super) expressions: &'a Expressions,
}

/// A node whose balancer was resolved; `None` if it was not, which has been told.
pub(super) fn compose(
    draft: &Draft<'_>,
    manifest: &Manifest<'_>,
    texts: &Texts<'_>,
    fleet_rules: &[FileRule],
    report: &mut Report,
) -> Option<ComposedNode> {
    let balancer = texts.balancers.get(&draft.group.balancer.as_ref()?.value)?;
    // It stands in the generated text, where nothing is quoted.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !draft.facts.home.chars().all(is_plain) {
        report.error(
            "CV565",
            Some(draft.text.home.at.value_place()),
            format!("the home {:?} of a load balancer is no plain absolute path", draft.facts.home),
            "name a directory in letters, digits and `/._-+`",
        );
        return None;
    }
    let fleet = manifest.name.as_str();
    let text = match texts.templates.get(&balancer.name) {
        Some(template) => template.on_node((balancer, fleet), draft, texts.expressions, report)?,
        // One that cannot be had has been told.
        None => balancer.generated(fleet, Some(&draft.facts.home)),
    };
    let content: Arc<[u8]> = text.into_bytes().into();
    let digest = Digest::of(&content);
    let path = balancer.kind.file();
    let own: Vec<FileRule> =
        draft.group.files.iter().chain(&draft.text.files).filter_map(|rule| rule.literal(report)).collect();
    let rules: Vec<&FileRule> = fleet_rules.iter().chain(&own).collect();
    let mut entry = files::settings(&path, &rules);
    (entry.digest, entry.meaning, entry.size) = (digest, digest, content.len() as u64);
    entry.restart = RestartClass::Restart;
    let limits = draft.text.service.over(&draft.group.service).over(&manifest.service);
    Some(ComposedNode {
        group: draft.text.group.clone(),
        host: draft.facts.host.clone(),
        zone: draft.text.zone.clone(),
        bundle: Bundle {
            files: BTreeMap::from([(path, entry)]),
            service: settings(draft, balancer, &limits),
            hooks: Hooks::default(),
            origin: None,
            drift_keys: KeyRules::default(),
            unnamed_editors: [&draft.text.drift, &draft.group.drift, &manifest.drift]
                .into_iter()
                .find_map(|drift| drift.name_editors)
                == Some(false),
            key_managers: KeyManagers::default(),
            balancer: Some(balancer.kind),
        },
        gates: Vec::new(),
        contents: BTreeMap::from([(digest, content)]),
        config_text: "".into(),
        origins: Origins::default(),
        secret_keys: BTreeSet::new(),
        secrets: BTreeSet::new(),
    })
}

/// Tells hooks that put a server back into a balancer of the fleet where that server listens.
pub(super) fn tell_hooks(
    manifest: &Manifest<'_>,
    balancers: &BTreeMap<String, Balancer>,
    nodes: &mut BTreeMap<NodeName, ComposedNode>,
) {
    let groups = manifest.groups.values().filter_map(|group| group.balancer.as_ref());
    let kept: BTreeSet<&str> = groups.map(|balancer| balancer.value.as_str()).collect();
    let kept = balancers.values().filter(|it| it.kind == Kind::Haproxy && kept.contains(it.name.as_str()));
    for service in kept.flat_map(|balancer| &balancer.services) {
        for member in &service.members {
            let hook = nodes.get_mut(&member.name).and_then(|node| node.bundle.hooks.after_ready.as_mut());
            if let Some(Call::Haproxy(call)) = hook.map(|hook| &mut hook.call)
                && call.backend == service.name
                && call.server == member.name.as_str()
            {
                let check = member.health.as_ref().map(|health| health.port);
                call.listens =
                    Some(Listens { port: member.port, check: check.filter(|of| *of != member.port) });
            }
        }
    }
}

/// Ports where a balancer and another node of its host both listen.
pub(super) fn ports(drafts: &[Draft<'_>], nodes: &BTreeMap<NodeName, ComposedNode>, report: &mut Report) {
    for draft in drafts {
        let Some(own) = nodes.get(draft.name) else { continue };
        // Of two balancers the later one is told.
        let is_before =
            |other: &ComposedNode, name: &NodeName| other.bundle.balancer.is_none() || name < draft.name;
        let others = nodes
            .iter()
            .filter(|(name, node)| *name != draft.name && node.host == own.host && is_before(node, name));
        let listens = |port: u16| own.bundle.service.ports.iter().any(|own| own.number == port);
        let clash = others
            .flat_map(|(name, node)| node.bundle.service.ports.iter().map(move |port| (name, port.number)))
            .find(|(_, port)| listens(*port));
        if let Some((other, port)) = clash {
            report.error(
                "CV106",
                Some(draft.text.at.key_place()),
                format!("nodes {other} and {} both open port {port} on {}", draft.name, own.host),
                "give the service of the load balancer another `listen`, or the server another `offset`",
            );
        }
    }
}

fn settings(draft: &Draft<'_>, balancer: &Balancer, limits: &ServiceText) -> ServiceSettings {
    let listens: BTreeSet<u16> = balancer.services.iter().map(|service| service.listen).collect();
    let name = |port: &u16| format!("clients-{port}");
    let product = &draft.facts.product;
    ServiceSettings {
        product: product.id.clone(),
        home: draft.facts.home.clone(),
        script_unix: product.script_unix.clone(),
        script_windows: product.script_windows.clone(),
        config_path: product.config_path.clone(),
        args: Vec::new(),
        env: BTreeMap::new(),
        java_home: None,
        run_user: None,
        offset: 0,
        ports: listens.iter().map(|port| Port { name: name(port), number: *port, required: true }).collect(),
        probes: listens
            .iter()
            .map(|port| Probe {
                name: name(port),
                role: ProbeRole::Readiness,
                kind: ProbeKind::Tcp(*port),
                timeout: PROBE_TIMEOUT,
            })
            .collect(),
        ready_lines: Vec::new(),
        start_deadline: limits.start_deadline.unwrap_or(product.start_deadline),
        stop_deadline: limits.stop_deadline.unwrap_or(product.stop_deadline),
        thresholds: Thresholds { grace: limits.probe_grace.unwrap_or(GRACE), ..limits.thresholds() },
        restart_policy: limits.restart_policy(),
        unhealthy_restarts: false,
        owned_keys: Vec::new(),
        jdk: product.jdk,
        check_databases: false,
    }
}

/// Why groups of balancers come after the groups that they are in front of: a new server is ready before clients are
/// sent there. One reason for each pair; those whose `after` is typed are left to the caller.
pub(super) fn reasons(manifest: &Manifest<'_>, nodes: &BTreeMap<NodeName, ComposedNode>) -> Vec<Reason> {
    let first = |group: &GroupName| nodes.iter().find(|(_, node)| node.group == *group).map(|(name, _)| name);
    let mut reasons = Vec::new();
    for (name, group) in manifest.groups.iter().filter(|(_, group)| group.after.is_none()) {
        let Some(balancer) = &group.balancer else { continue };
        let Some(text) = manifest.balancers.iter().find(|text| text.name == balancer.value) else { continue };
        let fronted: BTreeSet<&str> = text.groups().collect();
        let fronted = manifest.groups.keys().filter(|group| fronted.contains(group.as_str()));
        reasons.extend(fronted.filter_map(|after| {
            Some(Reason {
                group: name.clone(),
                after: after.clone(),
                node: first(name)?.clone(),
                key: format!("balancers.{}", balancer.value),
                peer: first(after)?.clone(),
                need: Need::Starts,
            })
        }));
    }
    reasons
}
