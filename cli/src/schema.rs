//! `convoy schema`: which scripts of the pack make the tables of a node's databases. Nothing is written and nobody asked.

use std::path::Path;

use fleet::{ids::NodeName, schema};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    render_config::{composed, node_of},
    screen::Screen,
};

/// Output of `schema`.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    node: &'a str,
    product: &'a str,
    /// On the node's host.
    home: &'a str,
    databases: Vec<Database<'a>>,
    others: Vec<Other<'a>>,
}

#[derive(Debug, Serialize)]
struct Database<'a> {
    /// As `type` in deployment.toml.
    kind: &'a str,
    host: &'a str,
    port: u16,
    name: &'a str,
    user: Option<&'a str>,
    /// The tables of deployment.toml that lead there.
    data_sources: &'a [String],
    /// In the order in which they are run.
    scripts: Vec<Script<'a>>,
}

#[derive(Debug, Serialize)]
struct Script<'a> {
    /// Below home.
    path: &'a str,
    /// With the vendor's own client, which asks for the password.
    command: Option<String>,
}

/// A data source without a script.
#[derive(Debug, Serialize)]
struct Other<'a> {
    data_source: &'a str,
    why: &'a str,
}

/// Prints the scripts of one node.
///
/// # Errors
/// The directory has errors, or no such node.
pub fn run(dir: &Path, name: &NodeName, screen: &mut Screen) -> Result<Exit, Failure> {
    let fleet = composed(dir)?;
    let node = node_of(&fleet, name)?;
    let service = &node.bundle.service;
    let schema = schema::read(&node.config_text, &service.product, &service.env).map_err(|error| {
        Failure::failed(format!("the deployment.toml of {name} is {error}"), "see `convoy lint`")
    })?;
    let databases = schema.databases.iter().map(|database| Database {
        kind: database.kind.as_str(),
        host: &database.address.host,
        port: database.address.port,
        name: &database.name,
        user: database.user.as_deref(),
        data_sources: &database.keys,
        scripts: database
            .scripts
            .iter()
            .map(|path| Script { path, command: database.command(&service.home, path) })
            .collect(),
    });
    let others = schema.others.iter().map(|(data_source, why)| Other { data_source, why });
    let outcome = Outcome {
        node: name.as_str(),
        product: &service.product,
        home: &service.home,
        databases: databases.collect(),
        others: others.collect(),
    };
    screen.people(&text(&outcome));
    screen.programs(&outcome);
    Ok(Exit::Done)
}

fn text(outcome: &Outcome<'_>) -> String {
    let mut lines = vec![format!("{} ({}), home {}", outcome.node, outcome.product, outcome.home)];
    for database in &outcome.databases {
        let Database { kind, host, port, name, data_sources, scripts, .. } = database;
        lines.push(String::new());
        lines.push(format!("{name} at {host}:{port} ({kind}), for {}", data_sources.join(" and ")));
        for (number, script) in scripts.iter().enumerate() {
            lines.push(format!("  {}. {}", number + 1, script.path));
            lines.extend(script.command.iter().map(|command| format!("     {command}")));
        }
    }
    if !outcome.others.is_empty() {
        lines.push(String::new());
    }
    lines.extend(outcome.others.iter().map(|other| format!("{}: {}", other.data_source, other.why)));
    lines.push(String::new());
    lines.push(if outcome.databases.is_empty() {
        "No database of this node needs a script.".to_owned()
    } else {
        "Run them once for each database, which has to exist, in this order; the clients ask for the password.\nNothing \
         was run: Convoy does not change databases."
            .to_owned()
    });
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_scripts_in_order_and_what_has_none() {
        let scripts = vec![
            Script { path: "dbscripts/mysql.sql", command: Some("mysql x".to_owned()) },
            Script { path: "dbscripts/identity/mysql.sql", command: None },
        ];
        let keys = ["database.shared_db".to_owned(), "database.identity_db".to_owned()];
        let database = Database {
            kind: "mysql",
            host: "db",
            port: 3306,
            name: "all",
            user: Some("u"),
            data_sources: &keys,
            scripts,
        };
        let others = vec![Other { data_source: "database.own", why: "nobody knows" }];
        let mut outcome = Outcome {
            node: "is-1",
            product: "wso2is-7.2",
            home: "/opt/is",
            databases: vec![database],
            others,
        };
        let said = text(&outcome);
        let expected = "is-1 (wso2is-7.2), home /opt/is\n\nall at db:3306 (mysql), for database.shared_db and \
                        database.identity_db\n  1. dbscripts/mysql.sql\n     mysql x\n  2. dbscripts/identity/mysql.sql\n\n\
                        database.own: nobody knows\n\nRun them once";
        assert!(said.starts_with(expected), "{said}");
        outcome.databases.clear();
        assert!(text(&outcome).ends_with("No database of this node needs a script.\n"));
    }
}
