//! `[databases.NAME]` of fleet.toml: what the fleet's owner knows of its database servers and no deployment.toml says.

use super::{
    reader::Reader,
    report::Report,
    tree::{At, Node},
};
use crate::{finding::Place, preflight::needs::Address};

/// No database server takes more.
const CONNECTIONS_MAX: i64 = 1_000_000;

/// A database server and how many connections it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseServer {
    /// As the data sources reach it.
    pub address: Address,
    /// `max_connections` of MySQL, MariaDB and PostgreSQL, `processes` of Oracle; at least 1.
    pub max_connections: u32,
    /// Where the fleet says so.
    pub place: Place,
}

pub(super) fn read(reader: &mut Reader<'_>, report: &mut Report) -> Vec<DatabaseServer> {
    let Some(table) = reader.table("databases", report) else { return Vec::new() };
    let mut servers = Vec::new();
    for (name, node) in table.entries() {
        if let Node::Table(inner) = node {
            let path = format!("{}.{name}", table.path());
            servers.extend(server(Reader::new(inner, path), report));
        } else {
            report.error(
                "CV006",
                node.at().map(At::key_place),
                format!("database server {name:?} must be a table, not {}", node.kind()),
                "write it as [databases.NAME]",
            );
        }
    }
    servers
}

fn server(mut reader: Reader<'_>, report: &mut Report) -> Option<DatabaseServer> {
    let host = reader.text("host", report);
    let host = reader.required("host", host, "\"db.example.org\"", report);
    let port = reader.number("port", (1, i64::from(u16::MAX)), report);
    let port = reader.required("port", port, "3306", report);
    let most = reader.number("max_connections", (1, CONNECTIONS_MAX), report);
    let most = reader.required("max_connections", most, "500", report);
    reader.finish(report);
    let host = host?;
    if host.value.is_empty() || host.value.contains([':', '/', '@', ' ']) {
        report.error(
            "CV010",
            Some(host.at.value_place()),
            format!("{:?} is no host name", host.value),
            "write the host alone, as the data sources name it; its port goes to `port`",
        );
        return None;
    }
    Some(DatabaseServer {
        address: Address { host: host.value, port: u16::try_from(port?.value).ok()? },
        max_connections: u32::try_from(most?.value).ok()?,
        place: reader.at().key_place(),
    })
}
