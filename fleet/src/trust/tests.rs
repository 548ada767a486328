use super::*;
use crate::spec::{Absent, Secrets, Sources, compose_with};

const FLEET: &str = r#"name = "acme"
[groups.km]
product = "wso2is-7.2"
layers = ["km"]
after = []
[groups.am]
product = "wso2am-4.5"
layers = ["am"]
[[groups.am.key_managers]]
name = "IS"
type = "WSO2-IS-7"
url = "https://km.acme"
username = "u"
password = "{{ secret('km.admin') }}"
admin_user = "a"
admin_password = "{{ secret('am.admin') }}"
[nodes.is-1]
group = "km"
host = "is1.acme"
home = "/opt/is"
[nodes.is-2]
group = "km"
host = "is2.acme"
home = "/opt/is"
[nodes.am-1]
group = "am"
host = "AM1.acme"
home = "/opt/am"
"#;

const BALANCER: &str = r#"[balancers.front]
kind = "haproxy"
certificate = "/etc/front.pem"
[[balancers.front.services]]
name = "identity"
group = "km"
listen = 443
hosts = ["km.acme"]
"#;

const KM: &str = r#"[server]
hostname = "km.acme"
[truststore]
file_name = "trust.p12"
password = "x"
[keystore.primary]
file_name = "is.p12"
password = "x"
[[event_listener]]
id = "token_revocation"
type = "a"
name = "b"
order = 1
[event_listener.properties]
notification_endpoint = "https://am1.acme:9443/internal/data/v1/notify"
"#;

const AM: &str = r#"[server]
hostname = "api.acme"
[apim.throttling]
service_url = "https://localhost:9443/services/"
[[apim.jwt.issuer]]
name = "x"
[apim.jwt.issuer.jwks]
url = "https://km.acme/oauth2/jwks"
[[apim.gateway.environment]]
name = "Default"
service_url = "https://gw.else.where:9443/services/"
[user_store]
type = "ldap"
connection_url = "ldaps://is2.acme:9443"
"#;

fn fleet(more: &str) -> Fleet {
    let files = [
        ("fleet.toml", format!("{FLEET}{more}")),
        ("config/km.toml", KM.to_owned()),
        ("config/am.toml", AM.to_owned()),
        ("files/km/repository/resources/security/trust.p12", "store".to_owned()),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes()));
    let secrets = Secrets::new(BTreeMap::new(), Absent::Placeholder);
    let composition = compose_with(&Sources(files.into()), &secrets);
    composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings))
}

fn said(more: &str) -> Vec<String> {
    let trusters = trusters(&fleet(more));
    let lines = trusters.iter().flat_map(|truster| {
        let line = move |connection: &Connection| {
            let Connection { whom, address, keys } = connection;
            format!("{} -> {whom} at {address} by {}", truster.node, keys.join(" "))
        };
        truster.connections.iter().map(line)
    });
    lines.collect()
}

#[test]
fn members_are_told_from_balancers_names_and_strangers() {
    let rest = [
        "is-1 -> am-1 at am1.acme:9443 by event_listener[0].properties.notification_endpoint",
        "is-2 -> am-1 at am1.acme:9443 by event_listener[0].properties.notification_endpoint",
    ];
    let first = [
        "am-1 -> itself at localhost:9443 by apim.throttling.service_url",
        "am-1 -> is-2 at is2.acme:9443 by user_store.connection_url",
    ];
    let km = "km.acme:443 by apim.jwt.issuer[0].jwks.url key_managers.IS";
    let outside = "am-1 -> outside at gw.else.where:9443 by apim.gateway.environment[0].service_url";
    let expected = |who: &str| {
        let front = format!("am-1 -> {who} at {km}");
        let mut lines: Vec<String> = first.iter().map(|line| (*line).to_owned()).collect();
        lines.extend([front, outside.to_owned()]);
        lines.extend(rest.iter().map(|line| (*line).to_owned()));
        lines
    };
    assert_eq!(said(""), expected("in front of is-1, is-2"));
    assert_eq!(said(BALANCER), expected("balancer front"));
}

#[test]
fn stores_are_named_with_where_they_come_from() {
    let fleet = fleet("");
    let trusters = trusters(&fleet);
    let of = |name: &str| trusters.iter().find(|one| one.node.as_str() == name).unwrap().truststore.clone();
    let below = |name: &str| Some(format!("repository/resources/security/{name}"));
    assert_eq!(of("is-1"), Store { file: below("trust.p12"), is_in_fleet: true });
    assert_eq!(of("am-1"), Store { file: None, is_in_fleet: false });
    let is_1 = &fleet.nodes[&NodeName::parse("is-1").unwrap()];
    assert_eq!(shown(is_1), Store { file: below("is.p12"), is_in_fleet: false });
}
