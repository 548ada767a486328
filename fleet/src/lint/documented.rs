//! The keys that tie nodes together, with their documented defaults: what is known without a product's pack.
//!
//! Source: default.json of the products' releases. Used by `convoy explain --product` and by the checks across nodes.

use crate::product::Product;

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Both,
    /// API Manager, and the prepackaged key manager of its 3.0 and 3.1 generation.
    Apim,
    Identity,
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Documented {
    /// Flat; `*` stands for one name.
    pub key: &'static str,
    /// What may stand there.
    pub kind: &'static str,
    /// What the product takes otherwise; references as its resources write them.
    pub default: Option<&'static str>,
    /// One sentence without a full stop.
    pub meaning: &'static str,
    whose: Whose,
}

const fn key(
    whose: Whose,
    key: &'static str,
    (kind, default): (&'static str, Option<&'static str>),
    meaning: &'static str,
) -> Documented {
    Documented { key, kind, default, meaning, whose }
}

const TEXT: &str = "a text";
const FLAG: &str = "true or false";
const URLS: &str = "a list of texts";
const TABLES: &str = "a list of tables";
const LOCAL: &str = "https://localhost:${mgt.transport.https.port}${carbon.context}services/";

use Whose::{Apim, Both, Identity};

const KEYS: [Documented; 46] = [
    key(
        Both,
        "server.hostname",
        (TEXT, None),
        "the name that clients use, of the load balancer if there is one; it has no default, and nothing starts without it",
    ),
    key(Both, "server.node_ip", (TEXT, Some("127.0.0.1")), "the address of this node, for its cluster"),
    key(
        Both,
        "server.offset",
        ("a number", Some("0")),
        "added to every port, but not to ports inside of URLs",
    ),
    key(
        Both,
        "server.server_role",
        (TEXT, Some("default")),
        "what the server does; must agree with -Dprofile",
    ),
    key(
        Both,
        "super_admin.username",
        (TEXT, None),
        "the administrator, whose name nodes use among themselves",
    ),
    key(
        Both,
        "super_admin.password",
        (TEXT, None),
        "the administrator's password, equal on all nodes that talk to each other",
    ),
    key(
        Both,
        "user_store.type",
        (TEXT, Some("database")),
        "where users are kept; equal on all nodes that share them",
    ),
    key(
        Both,
        "encryption.key",
        (TEXT, None),
        "encrypts secrets in the database; equal on all nodes of a cluster",
    ),
    key(
        Both,
        "keystore.primary.file_name",
        (TEXT, Some("wso2carbon.jks")),
        "the store whose key decrypts the registry; the same on all nodes of a product",
    ),
    key(Both, "keystore.primary.password", (TEXT, Some("wso2carbon")), "opens the primary store"),
    key(Both, "keystore.primary.alias", (TEXT, Some("wso2carbon")), "the key within the primary store"),
    key(
        Both,
        "keystore.internal.file_name",
        (TEXT, Some("$ref{keystore.primary.file_name}")),
        "the store for internal data",
    ),
    key(
        Both,
        "keystore.internal.password",
        (TEXT, Some("$ref{keystore.primary.password}")),
        "opens the internal store",
    ),
    key(
        Both,
        "keystore.tls.file_name",
        (TEXT, Some("$ref{keystore.primary.file_name}")),
        "the store of the server's certificate",
    ),
    key(
        Both,
        "keystore.tls.password",
        (TEXT, Some("$ref{keystore.primary.password}")),
        "opens the store of the server's certificate",
    ),
    key(
        Both,
        "database.*.type",
        (TEXT, None),
        "mysql, mariadb, oracle, mssql, db2, postgre or h2: brings driver, URL and validation query along",
    ),
    key(Both, "database.*.url", (TEXT, None), "JDBC URL; & is written &amp;"),
    key(Both, "database.shared_db.hostname", (TEXT, None), "host of the database of users and registry"),
    key(
        Both,
        "clustering.membership_scheme",
        (TEXT, None),
        "wka, multicast, aws, kubernetes; clustering is on as soon as it is there",
    ),
    key(
        Both,
        "clustering.members",
        (URLS, Some("[127.0.0.1:4000]")),
        "host:port of every member, this node included; equal on all of them",
    ),
    key(
        Both,
        "clustering.local_member_host",
        (TEXT, Some("$ref{server.node_ip}")),
        "this node's own address in its cluster",
    ),
    key(
        Both,
        "clustering.local_member_port",
        (TEXT, Some("4000")),
        "this node's own port in its cluster; the offset does not move it",
    ),
    key(
        Both,
        "clustering.domain",
        (TEXT, Some("wso2.carbon.domain")),
        "the cluster's name, equal on all members",
    ),
    key(
        Both,
        "event_listener",
        (TABLES, None),
        "handlers of events; token_revocation tells API Manager of revoked tokens",
    ),
    key(Both, "transport.https.properties.proxyPort", ("a number", None), "the load balancer's port"),
    key(
        Identity,
        "database.identity_db.url",
        (TEXT, None),
        "JDBC URL of the database of applications, sessions and tokens; equal on all nodes of a cluster",
    ),
    key(
        Apim,
        "database.apim_db.url",
        (TEXT, Some("jdbc:h2:./repository/database/WSO2AM_DB")),
        "JDBC URL of the database of APIs; by default a file of this node alone",
    ),
    key(
        Apim,
        "apim.key_manager.service_url",
        (TEXT, Some(LOCAL)),
        "where tokens are validated; ends in /services/",
    ),
    key(
        Apim,
        "apim.key_manager.type",
        (TEXT, Some("default")),
        "default, or WSO2-IS for Identity Server before 7",
    ),
    key(
        Apim,
        "apim.event_hub.enable",
        (FLAG, Some("true")),
        "whether events of the control plane are listened to",
    ),
    key(
        Apim,
        "apim.event_hub.service_url",
        (TEXT, Some("$ref{apim.throttling.service_url}")),
        "services of the control plane",
    ),
    key(
        Apim,
        "apim.event_hub.username",
        (TEXT, Some("$ref{apim.throttling.username}")),
        "for the control plane's REST services and broker",
    ),
    key(
        Apim,
        "apim.event_hub.password",
        (TEXT, Some("$ref{apim.throttling.password}")),
        "for the control plane's REST services and broker",
    ),
    key(
        Apim,
        "apim.event_hub.event_listening_endpoints",
        (URLS, None),
        "the brokers of all control planes, one by one",
    ),
    key(
        Apim,
        "apim.event_hub.event_duplicate_url",
        (URLS, None),
        "the brokers of the other nodes of the tier",
    ),
    key(
        Apim,
        "apim.event_hub.publish.url_group",
        (TABLES, None),
        "receivers of events, one group for each node",
    ),
    key(Apim, "apim.throttling.username", (TEXT, Some("$ref{super_admin.username}")), "for traffic managers"),
    key(Apim, "apim.throttling.password", (TEXT, Some("$ref{super_admin.password}")), "for traffic managers"),
    key(Apim, "apim.throttling.service_url", (TEXT, Some(LOCAL)), "services of the traffic manager"),
    key(
        Apim,
        "apim.throttling.throttle_decision_endpoints",
        (URLS, None),
        "the brokers of all traffic managers, one by one",
    ),
    key(
        Apim,
        "apim.throttling.event_duplicate_url",
        (URLS, None),
        "the brokers of the other traffic managers",
    ),
    key(
        Apim,
        "apim.throttling.url_group",
        (TABLES, None),
        "receivers of usage data, one group for each traffic manager",
    ),
    key(
        Apim,
        "apim.gateway.environment",
        (TABLES, None),
        "the gateways that APIs can be deployed to; equal on all control planes",
    ),
    key(
        Apim,
        "apim.sync_runtime_artifacts.gateway.gateway_labels",
        (URLS, Some("[Default]")),
        "the environments that this gateway serves",
    ),
    key(
        Apim,
        "apim.oauth_config.revoke_endpoint",
        (TEXT, Some("https://localhost:${mgt.transport.https.port}/oauth2/revoke")),
        "where tokens are revoked",
    ),
    key(
        Apim,
        "apim.cache_invalidation.enabled",
        (FLAG, Some("false")),
        "whether nodes tell each other of stale cache entries",
    ),
];

/// What is documented of a flat key of a product.
pub fn find(key: &str, product: &Product) -> Option<&'static Documented> {
    of(product).find(|documented| matches(documented.key, key))
}

/// The documented key of a product that is most like `key`, if one is close enough to be meant.
pub fn nearest(key: &str, product: &Product) -> Option<&'static str> {
    let hint = crate::spec::suggest(key, of(product).map(|documented| documented.key));
    of(product)
        .map(|documented| documented.key)
        .filter(|known| hint == format!("did you mean {known:?}?"))
        .max_by_key(|known| known.len())
}

/// The documented default of a key, whatever the product.
pub(super) fn default_of(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|documented| matches(documented.key, key)).and_then(|documented| documented.default)
}

fn of(product: &Product) -> impl Iterator<Item = &'static Documented> {
    let has_apim = product.id.starts_with("wso2am") || product.id.starts_with("wso2is-km");
    let is_identity = product.id.starts_with("wso2is");
    KEYS.iter().filter(move |documented| match documented.whose {
        Both => true,
        Apim => has_apim || !is_identity,
        Identity => is_identity,
    })
}

fn matches(pattern: &str, key: &str) -> bool {
    let (mut pattern, mut key) = (pattern.split('.'), key.trim_end_matches("[]").split('.'));
    loop {
        match (pattern.next(), key.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::built_in;

    #[test]
    fn keys_are_found_for_the_products_that_have_them() {
        let (is, am) = (&built_in()["wso2is-7.2"], &built_in()["wso2am-4.5"]);
        assert_eq!(find("server.offset", is).unwrap().default, Some("0"));
        assert_eq!(find("database.shared_db.type", am).unwrap().key, "database.*.type");
        assert!(find("apim.event_hub.enable", am).is_some() && find("apim.event_hub.enable", is).is_none());
        assert_eq!(nearest("server.offfset", is), Some("server.offset"));
        assert_eq!(nearest("something.else.entirely", is), None);
    }
}
