use std::collections::BTreeMap;

use super::*;
use crate::spec::{Sources, compose};

/// A distributed fleet that is as it should be: two of everything, each on a host of its own.
const FLEET: &str = r#"
name = "f"
[groups.is]
product = "wso2is-6.0"
layers = ["is"]
[groups.cp]
product = "wso2am-acp-4.5"
layers = ["am", "cp"]
[groups.tm]
product = "wso2am-tm-4.5"
layers = ["am", "tm"]
[groups.gw]
product = "wso2am-universal-gw-4.5"
layers = ["am", "gw"]
[nodes.is-1]
group = "is"
host = "is1"
home = "/opt/is"
[nodes.is-2]
group = "is"
host = "is2"
home = "/opt/is"
[nodes.cp-1]
group = "cp"
host = "cp1"
home = "/opt/am"
[nodes.cp-2]
group = "cp"
host = "cp2"
home = "/opt/am"
[nodes.tm-1]
group = "tm"
host = "tm1"
home = "/opt/am"
[nodes.tm-2]
group = "tm"
host = "tm2"
home = "/opt/am"
offset = 1
[nodes.gw-1]
group = "gw"
host = "gw1"
home = "/opt/am"
"#;

const IS: &str = r#"
[server]
hostname = "km.lb"
node_ip = "{{ node.host }}"
[user_store]
type = "database_unique_id"
[database.identity_db]
type = "mysql"
hostname = "db"
name = "identity"
[database.shared_db]
type = "mysql"
hostname = "db"
name = "is_shared"
[encryption]
key = "{{ secret('key') }}"
[clustering]
membership_scheme = "wka"
local_member_host = "{{ node.host }}"
members = ["is1:4000", "is2:4000"]
[[event_listener]]
id = "token_revocation"
type = "org.wso2.carbon.identity.core.handler.AbstractIdentityHandler"
name = "org.wso2.is.notification.ApimOauthEventInterceptor"
[event_listener.properties]
notification_endpoint = "https://cp1:9443/internal/data/v1/notify"
'header.X-WSO2-KEY-MANAGER' = "WSO2-IS"
"#;

const AM: &str = r#"
[user_store]
type = "database_unique_id"
[super_admin]
username = "admin"
password = "letters"
[database.shared_db]
type = "mysql"
hostname = "db"
name = "shared"
[apim.key_manager]
service_url = "https://is1:9443/services/"
[apim.throttling]
username = "$ref{super_admin.username}"
"#;

const CP: &str = r#"
[server]
hostname = "cp.lb"
server_role = "control-plane"
[database.apim_db]
type = "mysql"
hostname = "db"
name = "apim"
[[apim.gateway.environment]]
name = "Default"
[apim.event_hub]
event_duplicate_url = ["{{ 'tcp://cp2:5672' if node.name == 'cp-1' else 'tcp://cp1:5672' }}"]
"#;

const TM: &str = r#"
[server]
hostname = "tm.lb"
[apim.event_hub]
event_listening_endpoints = ["tcp://cp1:5672", "tcp://cp2:5672"]
[apim.throttling]
event_duplicate_url = ["{{ 'tcp://tm2:5673' if node.name == 'tm-1' else 'tcp://tm1:5672' }}"]
"#;

const GW: &str = r#"
[server]
hostname = "gw.lb"
[apim.event_hub]
event_listening_endpoints = ["tcp://cp1:5672", "tcp://cp2:5672"]
[apim.sync_runtime_artifacts.gateway]
gateway_labels = ["Default"]
[[apim.throttling.url_group]]
traffic_manager_urls = ["tcp://tm1:9611"]
traffic_manager_auth_urls = ["ssl://tm1:9711"]
[[apim.throttling.url_group]]
traffic_manager_urls = ["tcp://tm2:9612"]
traffic_manager_auth_urls = ["ssl://tm2:9712"]
"#;

/// The fleet with one text replaced by another, and whether it really was there.
fn changed(from: &str, to: &str) -> Vec<Finding> {
    let files =
        [("fleet.toml", FLEET), ("config/is.toml", IS), ("config/am.toml", AM), ("config/cp.toml", CP)]
            .into_iter()
            .chain([("config/tm.toml", TM), ("config/gw.toml", GW)]);
    let mut found = from.is_empty();
    let sources: BTreeMap<String, Vec<u8>> = files
        .map(|(path, text)| {
            found |= text.contains(from);
            (path.to_owned(), text.replacen(from, to, 1).replace("{{ secret('key') }}", "k1").into_bytes())
        })
        .collect();
    assert!(found, "{from:?} is in no file");
    let composition = compose(&Sources(sources));
    check(composition.fleet.as_ref().unwrap_or_else(|| panic!("{from} -> {to}: {:?}", composition.findings)))
}

/// Code, node, file and line of each.
fn told(findings: &[Finding]) -> Vec<String> {
    let words = |finding: &Finding| {
        let node = finding.node.as_ref().map_or("-", |node| node.as_str());
        let place = finding.place.as_ref();
        let file = place.map_or("-", |at| at.file.trim_start_matches("config/"));
        format!("{} {node} {file} {}", finding.code, place.map_or("", |at| at.line_text.as_str()))
    };
    findings.iter().map(words).collect()
}

/// Whether a line says the code, node and file expected, and its text begins or ends with the words after them.
fn is_told(line: &str, expected: &str) -> bool {
    let parts = |text: &str| {
        let mut parts = text.splitn(4, ' ').map(str::to_owned);
        let head: Vec<String> = parts.by_ref().take(3).collect();
        (head.join(" "), parts.next().unwrap_or_default())
    };
    let ((head, text), (wanted, words)) = (parts(line), parts(expected));
    head == wanted && text.contains(&words)
}

#[track_caller]
fn one(from: &str, to: &str, expected: &str) {
    let findings = changed(from, to);
    let codes = told(&findings);
    assert!(codes.iter().any(|it| is_told(it, expected)), "{from} -> {to}: {codes:#?}");
    let code = expected.split(' ').next().unwrap_or_default();
    assert!(codes.iter().all(|it| it.starts_with(code)), "{from} -> {to} tells more: {codes:#?}");
    for finding in findings {
        assert!(!finding.message.is_empty() && !finding.remedy.is_empty());
        assert!(!finding.to_string().contains("letters"), "a secret is told: {finding}");
    }
}

#[track_caller]
fn none(from: &str, to: &str) {
    assert_eq!(told(&changed(from, to)), Vec::<String>::new(), "{from} -> {to}");
}

#[test]
fn a_consistent_fleet_has_no_finding() {
    none("", "");
}

#[test]
fn a_revocation_listener_is_right_to_the_letter() {
    one("\"WSO2-IS\"\n", "\"WSO2 Identity Server\"\n", "CV521 is-1 is.toml header");
    one("AbstractIdentityHandler", "AbstractEventHandler", "CV522 is-1 is.toml type =");
    one("ApimOauthEventInterceptor", "ApimOauthInterceptor", "CV522 is-1 is.toml name =");
    one("notification_endpoint = ", "endpoint = ", "CV522 is-1 is.toml ");
    one("/internal/data/v1/notify", "/notify", "CV523 is-1 is.toml notification_endpoint");
    one("https://cp1:9443/internal", "https://gw.lb/internal", "CV523 is-1 is.toml notification_endpoint");
    one("https://cp1:9443/internal", "https://cp1:9763/internal", "CV523 is-1 is.toml notification_endpoint");
    none("https://cp1:9443/internal", "https://cp.lb/internal");
    none("https://cp1:9443/internal", "https://elsewhere:1234/internal");
}

#[test]
fn key_manager_urls_reach_a_key_manager() {
    one("is1:9443/services/", "is1:9443/services", "CV524 cp-1 am.toml service_url");
    one("https://is1:9443/services/", "https://gw1:9443/services/", "CV524 cp-1 am.toml service_url");
    let local = told(&changed("https://is1:9443/services/", "https://localhost:9443/services/"));
    assert!(local.iter().any(|it| is_told(it, "CV524 gw-1 am.toml service_url")), "{local:?}");
    none("https://is1:9443/services/", "https://km.lb/services/");
    none("https://is1:9443/services/", "https://km.elsewhere/services/");
    let without = told(&changed("[apim.key_manager]\nservice_url = \"https://is1:9443/services/\"\n", ""));
    assert_eq!(without, ["CV524 gw-1 - "]);
    one("product = \"wso2is-6.0\"", "product = \"wso2is-7.2\"", "CV542 cp-1 am.toml service_url");
}

#[test]
fn a_port_that_nobody_listens_on_is_told() {
    one("ssl://tm2:9712", "ssl://tm2:9711", "CV525 gw-1 gw.toml auth_urls");
    one("https://is1:9443/services/", "https://is1:9444/services/", "CV525 cp-1 am.toml service_url");
    none("ssl://tm2:9712", "ssl://tm2:4711");
}

#[test]
fn what_one_encrypts_the_others_can_read() {
    one(
        "[database.identity_db]",
        "[keystore.tls]\npassword = \"own\"\n[database.identity_db]",
        "CV526 is-1 is.toml password",
    );
    none(
        "[database.identity_db]",
        "[keystore.tls]\npassword = \"own\"\n[keystore.primary]\npassword = \"own\"\n[database.identity_db]",
    );
    one(
        "[database.identity_db]",
        "[keystore.primary]\nalias = \"{{ node.name }}\"\n[database.identity_db]",
        "CV527 is-2 is.toml alias",
    );
    one("key = \"{{ secret('key') }}\"", "key = \"{{ node.name }}\"", "CV527 is-2 is.toml key");
    let newer = told(&changed("product = \"wso2am-acp-4.5\"", "product = \"wso2am-acp-4.7\""));
    assert_eq!(newer, ["CV541 cp-1 - ", "CV541 cp-2 - "]);
}

#[test]
fn a_password_survives_the_broker_and_xml() {
    one("\"letters\"", "\"let@ters\"", "CV528 cp-1 am.toml password");
    one("\"letters\"", "\"let&ters\"", "CV528 cp-1 am.toml password");
    let jms = "\n[apim.throttling.jms]\npassword = ";
    none("\"letters\"", &format!("\"let@ters\"{jms}\"let%40ters\""));
    none("\"letters\"", &format!("\"<![CDATA[let&ters]]>\"{jms}\"let%26ters\""));
    one("\"letters\"", &format!("\"let@ters\"{jms}\"let@ters\""), "CV528 cp-1 am.toml password");
    none("\"letters\"", "\"$secret{admin}\"");
}

#[test]
fn users_and_databases_are_the_same_everywhere() {
    one(
        "type = \"database_unique_id\"\n[super_admin]",
        "type = \"{{ 'database_unique_id' if node.group == 'gw' else 'read_only_ldap_unique_id' }}\"\n[super_admin]",
        "CV529 gw-1 am.toml type",
    );
    one("type = \"database_unique_id\"\n[super", "type = \"database\"\n[super", "CV529 cp-1 am.toml type");
    one("[database.apim_db]\ntype = \"mysql\"\nhostname = \"db\"\nname = \"apim\"\n", "", "CV530 - - ");
    one(
        "[database.identity_db]\ntype = \"mysql\"\nhostname = \"db\"\nname = \"identity\"\n",
        "[database.identity_db]\nurl = \"jdbc:h2:./x\"\n",
        "CV530 - is.toml url",
    );
    one(
        "name = \"shared\"",
        "name = \"{{ 'x' if node.name == 'gw-1' else 'shared' }}\"",
        "CV531 gw-1 am.toml name",
    );
    one(
        "password = \"letters\"",
        "password = \"{{ 'x' if node.name == 'gw-1' else 'letters' }}\"",
        "CV536 gw-1 am.toml password",
    );
    none("username = \"admin\"", "username = \"{{ node.name }}\"");
}

#[test]
fn events_reach_every_traffic_manager_and_control_plane() {
    one(
        "[\"tcp://tm1:9611\"]",
        "[\"tcp://tm1:9611\", \"tcp://tm2:9612\"]",
        "CV532 gw-1 gw.toml traffic_manager_urls",
    );
    one("\"ssl://tm1:9711\"", "\"ssl:/tm1:9711\"", "CV532 gw-1 gw.toml auth_urls");
    one(
        "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm2:9612\"]\ntraffic_manager_auth_urls = [\"ssl://tm2:9712\"]\n",
        "",
        "CV532 gw-1 gw.toml ",
    );
    one("'tcp://cp2:5672' if", "'tcp://cp1:5672' if", "CV533 cp-1 cp.toml event_duplicate_url");
    one("[apim.throttling]\nevent_duplicate_url", "[apim.throttling.old]\nevent_duplicate_url", "CV533 - - ");
    one(
        "[\"tcp://cp1:5672\", \"tcp://cp2:5672\"]\n[apim.sync",
        "[\"tcp://cp.lb:5672\"]\n[apim.sync",
        "CV534 gw-1 gw.toml event_listening_endpoints",
    );
    one(
        "[\"tcp://cp1:5672\", \"tcp://cp2:5672\"]\n[apim.sync",
        "[\"tcp://cp1:5672\"]\n[apim.sync",
        "CV534 gw-1 gw.toml event_listening_endpoints",
    );
    one(
        "event_listening_endpoints = [\"tcp://cp1:5672\", \"tcp://cp2:5672\"]\n[apim.sync",
        "enable = false\n[apim.sync",
        "CV534 gw-1 gw.toml enable",
    );
    one(
        "gateway_labels = [\"Default\"]",
        "gateway_labels = [\"Defualt\"]",
        "CV535 gw-1 gw.toml gateway_labels",
    );
}

#[test]
fn a_cluster_knows_its_members() {
    one(
        "members = [\"is1:4000\", \"is2:4000\"]",
        "members = [\"is1:4000\", \"is3:4000\"]",
        "CV537 is-2 is.toml members",
    );
    one("\"is2:4000\"", "\"127.0.0.1:4000\"", "CV537 is-1 is.toml members");
    one("membership_scheme = \"wka\"\n", "", "CV537 is-1 is.toml members");
    one("\"is1:4000\", \"is2:4000\"", "\"{{ node.host }}:4000\"", "CV537 - is.toml members");
    let twins = told(&changed("local_member_host = \"{{ node.host }}\"", "local_member_host = \"is1\""));
    assert!(twins.iter().any(|it| is_told(it, "CV544 - is.toml local_member_host")), "{twins:?}");
}

#[test]
fn a_node_has_what_its_start_needs() {
    one("name = \"identity\"", "name = \"$env{SCHEMA}\"", "CV538 is-1 is.toml name");
    none("name = \"identity\"", "name = \"$env{USER}\"");
    let env = "[groups.is]\nenv = { SCHEMA = \"a$b\" }";
    let files =
        told(&changed_twice(("[groups.is]", env), ("name = \"identity\"", "name = \"$env{SCHEMA}\"")));
    assert!(files.iter().all(|it| it.starts_with("CV539 ")) && !files.is_empty(), "{files:?}");
    one("[server]\nhostname = \"gw.lb\"\n", "", "CV545 gw-1 - ");
}

fn changed_twice(first: (&str, &str), second: (&str, &str)) -> Vec<Finding> {
    let sources = [
        ("fleet.toml", FLEET),
        ("config/is.toml", IS),
        ("config/am.toml", AM),
        ("config/cp.toml", CP),
        ("config/tm.toml", TM),
        ("config/gw.toml", GW),
    ]
    .map(|(path, text)| {
        let text = text.replacen(first.0, first.1, 1).replacen(second.0, second.1, 1);
        (path.to_owned(), text.replace("{{ secret('key') }}", "k1").into_bytes())
    });
    let composition = compose(&Sources(sources.into_iter().collect()));
    check(composition.fleet.as_ref().unwrap_or_else(|| panic!("{:?}", composition.findings)))
}

#[test]
fn a_profile_and_a_role_are_one_word() {
    let args = "[groups.cp]\nargs = [\"-Dprofile=gateway-worker\"]";
    let with = changed_twice(("[groups.cp]", args), ("wso2am-acp-4.5", "wso2am-acp-4.5"));
    assert!(told(&with).iter().any(|it| is_told(it, "CV540 cp-1 cp.toml server_role")), "{:?}", told(&with));
}

#[test]
fn names_are_shared_or_own_as_they_must_be() {
    one(
        "hostname = \"cp.lb\"",
        "hostname = \"{{ node.host }}\"\nbase_path = \"x\"\n[transport.https.properties]\nproxyPort = 443\n[server.x]",
        "CV543 cp-2 cp.toml hostname",
    );
    none("hostname = \"cp.lb\"", "hostname = \"{{ node.host }}\"");
    one("node_ip = \"{{ node.host }}\"", "node_ip = \"10.0.0.1\"", "CV544 is-2 is.toml node_ip");
}
