//! `[balancers.NAME]` of fleet.toml as typed, checked against the groups and their nodes.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    ComposedNode,
    reader::{Reader, Typed},
    report::{Report, suggest},
    tree::{At, Node},
};
use crate::{
    balancer::{self, Balancer, Kind, Member, Service, Stickiness, Transport},
    bundle::{ProbeKind, ProbeRole},
    ids::{GroupName, NodeName},
};

const KINDS: [(Kind, &str); 2] = [(Kind::Haproxy, "haproxy"), (Kind::Nginx, "nginx")];
/// As WSO2's guides set it for NGINX.
const TIMEOUT: Duration = Duration::from_secs(300);
/// No answer of a server takes longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// A balancer that is not yet checked against the nodes.
pub(super) struct BalancerText {
    pub(super) name: String,
    pub(super) kind: Kind,
    certificate: Option<Typed<String>>,
    certificate_key: Option<Typed<String>>,
    server_ca: Option<Typed<String>>,
    socket: Option<Typed<String>>,
    address: Option<IpAddr>,
    /// Path in the fleet directory.
    pub(super) template: Option<Typed<String>>,
    services: Vec<ServiceText>,
}

impl BalancerText {
    /// The groups that it is in front of.
    pub(super) fn groups(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|service| service.group.value.as_str())
    }
}

struct ServiceText {
    at: At,
    name: Typed<String>,
    group: Typed<String>,
    port: Typed<String>,
    listen: Typed<u16>,
    hosts: Vec<Typed<String>>,
    sticky: Option<Stickiness>,
    health: Option<Typed<String>>,
    timeout: Duration,
}

pub(super) fn read(reader: &mut Reader<'_>, report: &mut Report) -> Vec<BalancerText> {
    let Some(table) = reader.table("balancers", report) else { return Vec::new() };
    let mut found = Vec::new();
    for (name, node) in table.entries() {
        let Node::Table(inner) = node else {
            report.error(
                "CV006",
                node.at().map(At::key_place),
                format!("balancer {name:?} must be a table, not {}", node.kind()),
                "write it as [balancers.NAME]",
            );
            continue;
        };
        let place = node.at().map(At::key_place);
        if GroupName::parse(name).is_err() {
            report.error(
                "CV007",
                place,
                format!("{name:?} is no name for a balancer"),
                "use lower-case letters, digits and '-', at most 63",
            );
            continue;
        }
        found.extend(balancer(name, Reader::new(inner, format!("{}.{name}", table.path())), report));
    }
    found
}

fn balancer(name: &str, mut reader: Reader<'_>, report: &mut Report) -> Option<BalancerText> {
    let kind = reader.choice("kind", &KINDS, report);
    let kind = reader.required("kind", kind, "\"haproxy\"", report);
    let text = BalancerText {
        name: name.to_owned(),
        kind: kind.unwrap_or(Kind::Haproxy),
        certificate: path("certificate", &mut reader, report),
        certificate_key: path("certificate_key", &mut reader, report),
        server_ca: path("server_ca", &mut reader, report),
        socket: path("socket", &mut reader, report),
        address: address(&mut reader, report),
        template: reader.text("template", report),
        services: reader
            .tables("services", report)
            .into_iter()
            .filter_map(|table| service(table, report))
            .collect(),
    };
    if text.services.is_empty() && !report.has_errors() {
        report.error(
            "CV008",
            Some(reader.at().key_place()),
            format!("balancer {name} has no services"),
            format!("add [[balancers.{name}.services]] with name, group, port and listen"),
        );
    }
    reader.finish(report);
    kind.map(|_| text)
}

/// Where clients connect.
fn address(reader: &mut Reader<'_>, report: &mut Report) -> Option<IpAddr> {
    let typed = reader.text("address", report)?;
    let parsed = typed.value.parse().ok();
    if parsed.is_none() {
        report.error(
            "CV564",
            Some(typed.at.value_place()),
            format!("address {:?} is no IP address", typed.value),
            "write the address that clients connect to, or remove the line to listen on all",
        );
    }
    parsed
}

/// An absolute path on the host of the balancer, in characters that need no quotes in either language.
fn path(key: &'static str, reader: &mut Reader<'_>, report: &mut Report) -> Option<Typed<String>> {
    let typed = reader.text(key, report)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if typed.value.starts_with('/') && typed.value.chars().all(is_plain) {
        return Some(typed);
    }
    report.error(
        "CV564",
        Some(typed.at.value_place()),
        format!("{key} {:?} is no plain absolute path", typed.value),
        "name a file on the host of the balancer, in letters, digits and `/._-+`",
    );
    None
}

fn service(mut reader: Reader<'_>, report: &mut Report) -> Option<ServiceText> {
    let at = reader.at().clone();
    let name = reader.text("name", report);
    let name = reader.required("name", name, "\"identity\"", report);
    let group = reader.text("group", report);
    let group = reader.required("group", group, "\"key-manager\"", report);
    let port = reader.text("port", report);
    let port = port.unwrap_or_else(|| Typed { value: "https".to_owned(), at: at.clone() });
    let listen = reader.number("listen", (1, i64::from(u16::MAX)), report);
    let listen = reader.required("listen", listen, "443", report);
    let hosts = reader.texts("hosts", report);
    let hosts: Vec<Typed<String>> = hosts
        .into_iter()
        .flat_map(|list| {
            let at = list.at;
            list.value.into_iter().map(move |value| Typed { value, at: at.clone() })
        })
        .collect();
    let sticky = reader.choice("sticky", &Stickiness::ALL, report);
    let health = reader.text("health", report);
    let timeout = reader.duration("timeout", report).unwrap_or(TIMEOUT);
    reader.finish(report);
    let listen = listen?;
    Some(ServiceText {
        at,
        name: name?,
        group: group?,
        port,
        listen: Typed { value: u16::try_from(listen.value).ok()?, at: listen.at },
        hosts,
        sticky,
        health,
        timeout,
    })
}

/// What the balancers are, once the nodes are known. Whatever cannot be is told.
pub(super) fn resolve(
    texts: &[BalancerText],
    nodes: &BTreeMap<NodeName, ComposedNode>,
    report: &mut Report,
) -> BTreeMap<String, Balancer> {
    let mut found = BTreeMap::new();
    for text in texts {
        let services: Vec<Service> = text
            .services
            .iter()
            .filter_map(|one| resolve_service(text, one, (nodes, &mut *report)))
            .collect();
        if services.len() != text.services.len() {
            continue;
        }
        contradictions(text, &services, report);
        let value = |typed: &Option<Typed<String>>| typed.as_ref().map(|typed| typed.value.clone());
        found.insert(
            text.name.clone(),
            Balancer {
                name: text.name.clone(),
                kind: text.kind,
                certificate: value(&text.certificate),
                certificate_key: value(&text.certificate_key),
                server_ca: value(&text.server_ca),
                socket: value(&text.socket),
                address: text.address,
                written: None,
                services,
            },
        );
    }
    found
}

fn resolve_service(
    balancer: &BalancerText,
    text: &ServiceText,
    (nodes, report): (&BTreeMap<NodeName, ComposedNode>, &mut Report),
) -> Option<Service> {
    let members = match plain(text).and_then(|()| members(text, nodes)) {
        Ok(members) => members,
        Err(Bad { at, what, remedy }) => {
            report.error("CV564", Some(at.value_place()), what, remedy);
            return None;
        }
    };
    let transport = Transport::of(&text.port.value);
    let sticky = text.sticky.unwrap_or_else(|| transport.default_stickiness(balancer.kind, &text.port.value));
    if sticky == Stickiness::Cookie && balancer.kind == Kind::Nginx {
        report.error(
            "CV564",
            Some(text.at.key_place()),
            format!("service {} is sticky by a cookie, which the free NGINX cannot do", text.name.value),
            "write sticky = \"address\", or kind = \"haproxy\"",
        );
        return None;
    }
    Some(Service {
        name: text.name.value.clone(),
        members,
        transport,
        listen: text.listen.value,
        hosts: text.hosts.iter().map(|host| host.value.to_ascii_lowercase()).collect(),
        sticky,
        timeout: text.timeout.min(TIMEOUT_MAX),
    })
}

/// Something that cannot be.
struct Bad {
    at: At,
    what: String,
    remedy: String,
}

fn bad<T>(typed: &Typed<String>, what: String, remedy: impl Into<String>) -> Result<T, Bad> {
    Err(Bad { at: typed.at.clone(), what, remedy: remedy.into() })
}

/// Only plain characters reach the file.
fn plain(text: &ServiceText) -> Result<(), Bad> {
    let ServiceText { name, health, hosts, .. } = text;
    if GroupName::parse(&name.value).is_err() {
        return bad(name, format!("{:?} is no name for a service", name.value), "use a DNS label");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-~%=&?+:".contains(c);
    if let Some(health) = health
        && !(health.value.starts_with('/') && health.value.chars().all(is_plain))
    {
        let remedy = "write for example health = \"/health\"";
        return bad(health, "`health` is no plain path".to_owned(), remedy);
    }
    match hosts.iter().find(|host| !balancer::is_host(&host.value)) {
        Some(host) => {
            bad(host, format!("{:?} is no host name", host.value), "write a name such as km.example.org")
        }
        None => Ok(()),
    }
}

fn members(text: &ServiceText, nodes: &BTreeMap<NodeName, ComposedNode>) -> Result<Vec<Member>, Bad> {
    let of_group = nodes.iter().filter(|(_, node)| node.group.as_str() == text.group.value);
    let mut members = Vec::new();
    for (name, node) in of_group {
        let ports = &node.bundle.service.ports;
        let Some(port) = ports.iter().find(|port| port.name == text.port.value) else {
            let known = ports.iter().map(|port| port.name.as_str());
            let what = format!("{name} has no port {:?}", text.port.value);
            return bad(&text.port, what, suggest(&text.port.value, known));
        };
        if !balancer::is_host(&node.host) && node.host.parse::<IpAddr>().is_err() {
            let what = format!("the host {:?} of {name} is no host name or address", node.host);
            return bad(&text.group, what, "correct `host` of the node");
        }
        members.push(Member {
            name: name.clone(),
            host: node.host.clone(),
            port: port.number,
            health: health(node, text.health.as_ref().map(|health| health.value.as_str())),
        });
    }
    if members.is_empty() {
        let groups = nodes.values().map(|node| node.group.as_str());
        let what = format!(
            "service {} is in front of group {:?}, which has no nodes",
            text.name.value, text.group.value
        );
        return bad(&text.group, what, suggest(&text.group.value, groups));
    }
    Ok(members)
}

/// What tells whether a server can serve: as typed at its own port, else its product's readiness probe.
fn health(node: &ComposedNode, typed: Option<&str>) -> Option<balancer::Health> {
    let https = node.bundle.service.ports.iter().find(|port| port.name == "https").map(|port| port.number);
    if let Some(path) = typed {
        return Some(balancer::Health { path: path.to_owned(), port: https?, tls: true, status: 200 });
    }
    let ready = node.bundle.service.probes.iter().filter(|probe| probe.role == ProbeRole::Readiness);
    ready
        .filter_map(|probe| match &probe.kind {
            ProbeKind::Http { tls, port, path, status, .. } => {
                Some(balancer::Health { path: path.clone(), port: *port, tls: *tls, status: *status })
            }
            ProbeKind::Tcp(_) => None,
        })
        .next()
}

/// What no program would take, or what would serve somebody the wrong server.
fn contradictions(text: &BalancerText, services: &[Service], report: &mut Report) {
    let mut bad =
        |at: &At, what: String, remedy: &str| report.error("CV564", Some(at.key_place()), what, remedy);
    for (n, (service, typed)) in services.iter().zip(&text.services).enumerate() {
        // A template may name its own.
        let is_generated = text.template.is_none();
        let needs_certificate = is_generated && service.transport.is_tls() && text.certificate.is_none();
        if needs_certificate {
            bad(
                &typed.at,
                format!("service {} speaks TLS, and balancer {} has no certificate", service.name, text.name),
                "add certificate = \"/path/of/front.pem\" (for HAProxy with its key in the same file)",
            );
        } else if is_generated
            && service.transport.is_tls()
            && text.kind == Kind::Nginx
            && text.certificate_key.is_none()
        {
            bad(
                &typed.at,
                format!("balancer {} has a certificate and no key for it", text.name),
                "add certificate_key = \"/path/of/front.key\"",
            );
        }
        for other in services.iter().take(n) {
            if other.name == service.name {
                bad(&typed.at, format!("two services are named {}", service.name), "rename one");
            }
            if other.listen != service.listen {
                continue;
            }
            if other.transport.is_tls() != service.transport.is_tls() {
                bad(
                    &typed.at,
                    format!(
                        "port {} is to speak TLS for one of {} and {}, and plain for the other",
                        service.listen, other.name, service.name
                    ),
                    "give one of them another port",
                );
            }
            let is_taken = (other.hosts.is_empty() && service.hosts.is_empty())
                || other.hosts.iter().any(|host| service.hosts.contains(host));
            if is_taken {
                bad(
                    &typed.at,
                    format!(
                        "{} and {} listen on port {} for the same names",
                        other.name, service.name, service.listen
                    ),
                    "tell them apart by `hosts`, or by the port",
                );
            }
        }
    }
}
