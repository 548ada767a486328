//! Ports: where the server opens them, by its configuration and the defaults of its pack, and where the fleet takes
//! them to be. Peers' URLs, probes and preflight go by the fleet's.

use super::server::Server;
use crate::{product::built_in, spec::report::Report};

/// The name of a port in the product's profile, and the key that moves it.
const KEYS: [(&str, &str); 14] = [
    ("https", "transport.https.properties.port"),
    ("http", "transport.http.properties.port"),
    ("gateway-https", "transport.passthru_https.listener.parameters.port"),
    ("gateway-http", "transport.passthru_http.listener.parameters.port"),
    ("amqp", "broker.transport.amqp.default_connection.port"),
    ("binary", "transport.binary.receiver.tcpPort"),
    ("binary-ssl", "transport.binary.receiver.sslPort"),
    ("ws", "apim.ws.port"),
    ("wss", "apim.wss.port"),
    ("websub", "apim.webhooks.http.port"),
    ("websub-https", "apim.webhooks.https.port"),
    ("jmx-registry", "monitoring.jmx.rmi_registry_port"),
    ("jmx-server", "monitoring.jmx.rmi_server_port"),
    ("hazelcast", "clustering.local_member_port"),
];

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    for server in servers {
        for (name, key) in KEYS {
            // Without typed value and without pack nothing says that the profile is wrong.
            if server.has(key) || server.has_pack() {
                one(server, name, key, report);
            }
        }
    }
}

fn one(server: &Server<'_>, name: &str, key: &str, report: &mut Report) {
    let Some(taken) = server.port(name) else { return };
    let Some(base) = server.text(key).known().and_then(|text| text.trim().parse::<u16>().ok()) else {
        return;
    };
    let service = &server.node.bundle.service;
    let profile = built_in().get(&service.product);
    let moves = profile.and_then(|product| product.ports.iter().find(|port| port.name == name));
    let offset = if moves.is_some_and(|port| port.offset) { service.offset } else { 0 };
    let Some(opened) = base.checked_add(offset).filter(|opened| *opened != taken) else { return };
    let what = format!(
        "the server opens its port {name} at {opened} ({key}), and the fleet takes it to be at {taken}: probes and URLs \
         of peers go there"
    );
    let remedy = format!("say ports = {{ {name} = {opened} }} for its group in fleet.toml, or correct {key}");
    server.warn(report, ("CV560", key), (what, remedy));
}
