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

const SECRET_LAYER: &str = r#"
[super_admin]
password = "{{ secret('super_admin.password') }}"
[database.shared_db]
url = "jdbc:sqlserver://db:1433;password={{ secret('db') }};encrypt=true"
"#;

fn secrets(values: &[(&str, &str)], absent: Absent) -> Secrets {
    let entry = |(name, value): &(&str, &str)| (SecretName::parse(name).unwrap(), Secret::new(*value));
    Secrets::new(values.iter().map(entry).collect(), absent)
}

fn with_layer(layer: &str) -> Sources {
    let template = ("files/km/conf/jaas.tmpl", "pass={{ secret('db') }}\n");
    sources(&[("fleet.toml", SMALL), ("config/common.toml", layer), template])
}

#[test]
fn secrets_come_by_name_and_their_files_are_for_the_owner_only() {
    let known = secrets(&[("super_admin.password", "s3cret \"x\""), ("db", "p;w")], Absent::Refuse);
    let composition = compose_with(&with_layer(SECRET_LAYER), &known);
    assert_eq!(composition.findings, []);
    let fleet = composition.fleet.unwrap();
    let node = node(&fleet, "is-1");
    let flat = canonical::flatten(&node.config_text).unwrap();
    let text = |key: &str| flat[key].parse::<toml_edit::Value>().unwrap().as_str().unwrap().to_owned();
    assert_eq!(text("super_admin.password"), "s3cret \"x\"");
    assert_eq!(text("database.shared_db.url"), "jdbc:sqlserver://db:1433;password=p;w;encrypt=true");
    let file = |path: &str| &node.bundle.files[&crate::bundle::HomePath::parse(path).unwrap()];
    assert_eq!((file("conf/jaas").secret, file("conf/jaas").mode), (true, 0o600));
    assert_eq!(file("repository/conf/deployment.toml").mode, 0o600);
}

#[test]
fn a_secret_without_a_value_is_refused_or_stands_as_a_placeholder_that_is_told() {
    let refused = compose(&with_layer(SECRET_LAYER));
    assert!(refused.fleet.is_none());
    let finding = refused.findings.iter().find(|finding| finding.code == "CV307").unwrap();
    assert!(finding.remedy.contains("convoy secret set"), "{finding}");
    let linted = compose_with(&with_layer(SECRET_LAYER), &secrets(&[], Absent::Placeholder));
    assert!(linted.fleet.is_some());
    let codes: Vec<_> = linted.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["CV309"]);
}

#[test]
fn a_secret_never_goes_where_it_would_be_shown() {
    let known = secrets(&[("db", "pw")], Absent::Refuse);
    let shown = with_layer("[server]\nhostname = \"{{ secret('db') }}.example\"\n");
    let codes = |composition: Composition| -> Vec<_> {
        composition.findings.iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes(compose_with(&shown, &known)), ["CV308"]);
    let manifest =
        SMALL.replace("values = { node_ip = \"10.0.0.2\" }", "args = [\"-Dx={{ secret('db') }}\"]");
    let typed = sources(&[("fleet.toml", &manifest), ("config/common.toml", "")]);
    assert_eq!(codes(compose_with(&typed, &known)), ["CV307"]);
    assert!(!format!("{known:?}").contains("pw"));
}
