//! What the database servers of a fleet allow, for a plan that adds up all pools (ADR 80): one connected node of each
//! server logs in with what is in force there, if its fleet has agents do so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet::{
    host::{AskDatabases, HostQuestion},
    ids::NodeName,
    preflight::{
        databases::{DatabaseLimits, SaidLimit},
        needs::{self, Address},
    },
    spec::Fleet,
};

use crate::{apply::ApplyError, coordinator::Coordinator, view::Snapshot};

impl Coordinator {
    /// What each database server says it allows. Hosts that do not answer say nothing; nothing is kept.
    ///
    /// # Errors
    /// The work was cut off.
    pub(crate) async fn database_limits(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        fleet: Fleet,
    ) -> Result<(Fleet, DatabaseLimits), ApplyError> {
        let connected: BTreeSet<NodeName> = snapshot.live.keys().cloned().collect();
        let choosing = crate::tasks::blocking(move || {
            let chosen = to_ask(&fleet, &connected);
            (fleet, chosen)
        });
        let (fleet, chosen) = choosing.await.map_err(ApplyError::Compose)?;
        let asking = chosen.into_iter().map(|(node, host)| async move {
            let databases = AskDatabases::Yes;
            let question = HostQuestion { databases, ..HostQuestion::facts(Vec::new()) };
            let facts = self.ask_host(&node, question).await.ok()?;
            Some((node, host, facts.databases))
        });
        let mut limits = DatabaseLimits::new();
        for (node, host, said) in futures::future::join_all(asking).await.into_iter().flatten() {
            for limit in said {
                let place = Address::place(limit.addresses, &host);
                let said = SaidLimit { connections_max: limit.connections_max, to: node.clone() };
                limits.entry(place).or_insert(said);
            }
        }
        Ok((fleet, limits))
    }
}

/// Who is asked, with its host: of each database server the first connected node that uses it and may log in.
fn to_ask(fleet: &Fleet, connected: &BTreeSet<NodeName>) -> BTreeMap<NodeName, String> {
    let mut known: BTreeSet<Vec<Address>> = BTreeSet::new();
    let mut chosen = BTreeMap::new();
    for (name, node) in &fleet.nodes {
        let service = &node.bundle.service;
        if !service.check_databases || !connected.contains(name) {
            continue;
        }
        let Ok(needs) = needs::read(&node.config_text, &service.product, &service.env) else { continue };
        let logins = needs.databases.into_iter().filter_map(|database| database.login.ok());
        let before = known.len();
        known.extend(logins.map(|login| Address::place(login.addresses, &node.host)));
        if before < known.len() {
            chosen.insert(name.clone(), node.host.clone());
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use fleet::spec::{Sources, compose};

    use super::*;

    #[test]
    fn one_connected_node_of_each_database_server_is_asked() {
        let source = |url: &str| {
            format!("[database.identity_db]\nurl = 'jdbc:{url}/x'\nusername = 'u'\npassword = 'p'\n")
                .into_bytes()
        };
        let mut text =
            "name = 'f'\nservice.check_databases = true\n[groups.is]\nproduct = 'wso2is-7.2'\nlayers = []\n\
                        [groups.quiet]\nproduct = 'wso2is-7.2'\nlayers = []\n\
                        [groups.quiet.service]\ncheck_databases = false\n"
                .to_owned();
        let mut files = BTreeMap::new();
        let nodes = [
            ("a", "quiet", "mysql://db-3"),
            ("b", "is", "mysql://db-1"),
            ("c", "is", "mysql://DB-1"),
            ("d", "is", "mysql://db-1"),
            ("e", "is", "mariadb://localhost"),
            ("f", "is", "mariadb://localhost"),
            ("g", "is", "mysql://E"),
            ("h", "is", "oracle:thin:@db-4:1521"),
        ];
        for (name, group, url) in nodes {
            text += &format!("[nodes.{name}]\ngroup = '{group}'\nhost = '{name}'\nhome = '/opt/{name}'\n");
            files.insert(format!("config/nodes/{name}.toml"), source(url));
        }
        files.insert("fleet.toml".to_owned(), text.into_bytes());
        let composition = compose(&Sources(files));
        let fleet = composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings));
        let connected = ["a", "c", "d", "e", "f", "is", "h"].map(|name| name.parse().unwrap());
        let asked = to_ask(&fleet, &BTreeSet::from(connected));
        assert_eq!(asked.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["c", "e", "f"]);
    }
}
