use std::collections::BTreeMap;

use crate::{
    ids::NodeName,
    key_manager::{Connector, KeyManagers},
    spec::{Absent, Composition, Secret, SecretName, Secrets, Sources, compose_with},
};

const FLEET: &str = r#"
name = "small"
[values]
km = "km.example.org"
[groups.is]
product = "wso2is-7.2"
[groups.am]
product = "wso2am-4.5"
[[groups.am.key_managers]]
BEHIND
name = "IS7"
type = "WSO2-IS-7"
username = "admin"
password = "{{ secret('is.admin') }}"
admin_user = "boss"
admin_password = "{{ secret('am.admin') }}"
[nodes.is-1]
group = "is"
host = "h1"
home = "/opt/is"
[nodes.is-2]
group = "is"
host = "h2"
home = "/opt/is"
[nodes.am-1]
group = "am"
host = "h3"
home = "/opt/am"
offset = 2
[nodes.am-2]
group = "am"
host = "h4"
home = "/opt/am"
"#;

const GOOD: &str = "group = \"is\"\nhost_name = \"{{ values.km }}\"";

fn composed(text: &str) -> Composition {
    let value = |name: &str, value: &str| (SecretName::parse(name).unwrap(), Secret::new(value));
    let secrets = BTreeMap::from([value("is.admin", "one"), value("am.admin", "two")]);
    let sources = Sources(BTreeMap::from([("fleet.toml".to_owned(), text.as_bytes().to_vec())]));
    compose_with(&sources, &Secrets::new(secrets, Absent::Refuse))
}

fn of(composition: &Composition, node: &str) -> KeyManagers {
    let fleet = composition.fleet.as_ref().unwrap_or_else(|| panic!("{:?}", composition.findings));
    fleet.nodes[&NodeName::parse(node).unwrap()].bundle.key_managers.clone()
}

#[test]
fn the_first_node_by_name_registers_and_the_others_know_who_does() {
    let composition = composed(&FLEET.replace("BEHIND", GOOD));
    let first = of(&composition, "am-1");
    let [one] = first.kept.as_slice() else { panic!("{first:?}") };
    assert_eq!((one.server.as_str(), one.connector), ("https://km.example.org", Connector::Is7));
    assert_eq!(one.admin.url, "https://localhost:9445", "its own portal, with the offset applied");
    assert_eq!((one.account.password.expose(), one.admin.account.password.expose()), ("one", "two"));
    assert_eq!((one.account.user.as_str(), one.admin.account.user.as_str()), ("admin", "boss"));
    assert_eq!(one.grant_types, ["authorization_code", "client_credentials", "password", "refresh_token"]);
    let second = of(&composition, "am-2");
    assert!(second.kept.is_empty());
    assert_eq!(second.elsewhere[0].keeper.as_str(), "am-1");
    assert!(of(&composition, "is-1").is_empty());
    let asked = &composition.fleet.as_ref().unwrap().nodes[&NodeName::parse("am-2").unwrap()].secrets;
    assert!(asked.is_empty(), "a host gets no secret that it does not need: {asked:?}");
}

#[test]
fn an_address_is_derived_or_typed() {
    let table = [
        (GOOD, "https://km.example.org"),
        ("group = \"is\"\nhost_name = \"km\"\nport = 9443", "https://km:9443"),
        ("url = \"https://{{ values.km }}:9444/\"", "https://km.example.org:9444"),
    ];
    for (behind, expected) in table {
        let composition = composed(&FLEET.replace("BEHIND", behind));
        assert_eq!(of(&composition, "am-1").kept[0].server, expected);
    }
    let single = FLEET
        .replace("BEHIND", "group = \"is\"")
        .replace("[nodes.is-2]\ngroup = \"is\"", "[nodes.is-2]\ngroup = \"am\"");
    assert_eq!(of(&composed(&single), "am-1").kept[0].server, "https://h1:9443", "of its only node");
}

#[test]
fn what_cannot_be_meant_is_said_with_place_and_remedy() {
    let good = FLEET.replace("BEHIND", GOOD);
    let again = "[[groups.am.key_managers]]\nname = \"IS7\"\ntype = \"WSO2-IS-7\"\nurl = \"https://x\"\nusername = \"a\"\npassword = \"{{ secret('is.admin') }}\"\nadmin_user = \"b\"\nadmin_password = \"{{ secret('am.admin') }}\"\n[nodes.is-1]";
    let table = [
        (FLEET.replace("BEHIND", ""), "CV572", "needs `group` or `url`"),
        (FLEET.replace("BEHIND", "group = \"is\""), "CV572", "which has 2 nodes"),
        (FLEET.replace("BEHIND", "group = \"iss\"\nhost_name = \"x\""), "CV572", "does not exist"),
        (FLEET.replace("BEHIND", "group = \"is\"\nurl = \"https://x\""), "CV572", "both `url` and `group`"),
        (FLEET.replace("BEHIND", "url = \"https://x\"\nport = 9443"), "CV572", "belong to `group`"),
        (FLEET.replace("BEHIND", "url = \"http://x\""), "CV573", "is not https://host"),
        (good.replace("wso2is-7.2", "wso2is-6.0"), "CV571", "does not speak to wso2is-6.0"),
        (good.replace("wso2am-4.5", "wso2am-universal-gw-4.5"), "CV571", "the control plane"),
        (good.replace("wso2am-4.5", "wso2am-4.2"), "CV571", "from API Manager 4.3 on"),
        (good.replace("type = \"WSO2-IS-7\"", "type = \"Keycloak\""), "CV010", "Keycloak"),
        (good.replace("\"{{ secret('is.admin') }}\"", "\"plain\""), "CV307", "names a secret"),
        (good.replace("[nodes.is-1]", again), "CV570", "two Key Managers \"IS7\""),
    ];
    for (text, code, expected) in table {
        let composition = composed(&text);
        let found = composition.findings.iter().find(|finding| finding.code == code);
        let found = found.unwrap_or_else(|| panic!("{code} {expected}: {:?}", composition.findings));
        assert!(found.message.contains(expected), "{found}");
        assert!(found.place.is_some() && !found.remedy.is_empty(), "{found}");
        assert!(composition.fleet.is_none());
    }
}
