use super::*;

fn sources(files: &[(&str, &str)]) -> Sources {
    Sources(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
}

fn composed(files: &[(&str, &str)]) -> Fleet {
    let composition = compose(&sources(files));
    let shown: Vec<String> = composition.findings.iter().map(ToString::to_string).collect();
    composition.fleet.unwrap_or_else(|| panic!("{}", shown.join("\n")))
}

fn node<'a>(fleet: &'a Fleet, name: &str) -> &'a ComposedNode {
    &fleet.nodes[&NodeName::parse(name).unwrap()]
}

const SMALL: &str = r#"
name = "small"
[groups.km]
product = "wso2is-7.2"
layers = ["common"]
[nodes.is-1]
group = "km"
host = "h1"
home = "/opt/is"
offset = 1
values = { node_ip = "10.0.0.1" }
[nodes.is-2]
group = "km"
host = "h2"
home = "/opt/is"
values = { node_ip = "10.0.0.2" }
"#;

const COMMON: &str = r#"# The name that clients see.
[server]
hostname = "iam.example.org" # behind the balancer
node_ip = "{{ values.node_ip }}"

[clustering]
members = "{{ group.nodes | addresses('hazelcast') }}"
"#;

#[test]
fn layers_expressions_and_offset_come_together() {
    let fleet = composed(&[("fleet.toml", SMALL), ("config/common.toml", COMMON)]);
    assert_eq!(
        node(&fleet, "is-1").config_text,
        r#"# Node is-1 of fleet small, composed by Convoy. Edits here are undone: change the fleet directory.

# The name that clients see.
[server]
hostname = "iam.example.org" # behind the balancer
node_ip = "10.0.0.1"
offset = 1

[clustering]
members = ["h1:4000", "h2:4000"]
"#
    );
    assert_eq!(node(&fleet, "is-2").bundle.service.offset, 0);
    let https = node(&fleet, "is-1").bundle.service.ports.iter().find(|port| port.name == "https").unwrap();
    assert_eq!(https.number, 9444);
    let place = &node(&fleet, "is-1").origins["server.node_ip"];
    assert_eq!((place.file.as_str(), place.line), ("config/common.toml", 4));
}
