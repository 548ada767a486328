use proptest::prelude::*;

use super::*;
use crate::spec::{Absent, Secrets, compose_with};

mod groups;
mod places;

fn node(toml: &str) -> ImportNode {
    ImportNode {
        file: "deployment.toml".to_owned(),
        toml: toml.to_owned(),
        product: None,
        version: None,
        host: None,
        home: Some("/opt/wso2/home".to_owned()),
    }
}

fn imported(nodes: &[(&str, ImportNode)]) -> Imported {
    run(nodes).unwrap_or_else(|refused| panic!("{}", shown(&refused.findings)))
}

fn run(nodes: &[(&str, ImportNode)]) -> Result<Imported, Refused> {
    let nodes: BTreeMap<NodeName, ImportNode> =
        nodes.iter().map(|(name, node)| (NodeName::parse(name).unwrap(), node.clone())).collect();
    let imported = import(&nodes, &FleetName::parse("small").unwrap())?;
    // The promise, checked apart from the code that makes it.
    let secrets = Secrets::new(imported.secrets.clone(), Absent::Refuse);
    let fleet = compose_with(&imported.sources, &secrets).fleet.unwrap();
    for (name, node) in &nodes {
        let composed = canonical::flatten(&fleet.nodes[name].config_text).unwrap();
        assert_eq!(composed, canonical::flatten(&node.toml).unwrap(), "{name}");
    }
    Ok(imported)
}

fn shown(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn file<'a>(imported: &'a Imported, path: &str) -> &'a str {
    std::str::from_utf8(&imported.sources.0[path]).unwrap()
}

const PLANE_1: &str = r#"
[server]
hostname = "api.example.org"
node_ip = "10.0.2.1"
server_role = "control-plane"
offset = 1
[super_admin]
password = "s3cret-of-all"
# password = "an-old-one"
[apim.event_hub]
event_listening_endpoints = ["tcp://localhost:5673"]
event_duplicate_url = ["tcp://plane-2.example.org:5674"] # the other one
"#;
const PLANE_2: &str = r#"
[server]
hostname = "api.example.org"
node_ip = "10.0.2.2"
server_role = "control-plane"
offset = 2
[super_admin]
password = "s3cret-of-all"
[apim.event_hub]
event_listening_endpoints = ["tcp://localhost:5674"]
event_duplicate_url = ["tcp://plane-1.example.org:5673"]
"#;
const GATEWAY: &str = r#"
[server]
hostname = "gw.example.org"
server_role = "gateway-worker"
[super_admin]
password = "s3cret-of-all"
[apim.event_hub]
event_listening_endpoints = ["tcp://plane-1.example.org:5673", "tcp://plane-2.example.org:5674"]
[[apim.throttling.url_group]]
traffic_manager_urls = ["tcp://plane-1.example.org:9612"]
"#;

#[test]
fn peers_offsets_and_own_addresses_become_expressions() {
    let imported = imported(&[
        ("cp-1", node(PLANE_1)),
        ("cp-2", node(PLANE_2)),
        ("gw", ImportNode { product: Some("4.2".to_owned()), ..node(GATEWAY) }),
    ]);
    assert_eq!(
        file(&imported, "config/control-plane.toml"),
        r#"[server]
hostname = "api.example.org"
node_ip = "{{ values.node_ip }}"
server_role = "control-plane"

# password = "********"
[apim.event_hub]
event_listening_endpoints = ["tcp://localhost:{{ node.port('amqp') }}"]
event_duplicate_url = "{{ peers | urls('tcp', 'amqp') }}" # the other one
"#
    );
    let gateway = file(&imported, "config/gateway.toml");
    assert!(gateway.contains("{{ nodes('control-plane') | urls('tcp', 'amqp') }}"), "{gateway}");
    assert!(gateway.contains("[\"{{ nodes('control-plane')[0].url('tcp', 'binary') }}\"]"), "{gateway}");
    assert!(!imported.sources.0.keys().any(|path| path.starts_with("config/nodes/")));
    let fleet = file(&imported, "fleet.toml");
    let second = "[nodes.cp-2]\ngroup = \"control-plane\"\nhost = \"plane-2.example.org\"\nhome = \"/opt/wso2/home\"\n\
                  offset = 2\nvalues = { node_ip = \"10.0.2.2\" }\n";
    assert!(fleet.contains(second), "{fleet}");
    assert!(fleet.contains("product = \"wso2am-4.2-gateway-worker\"\nlayers = [\"common\", \"gateway\"]\nafter = [\"control-plane\"]"), "{fleet}");
    let guesses: Vec<&str> = imported.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(guesses, ["CV702"], "{}", shown(&imported.findings));
}

#[test]
fn no_password_stays_in_the_directory_not_even_in_a_comment() {
    let url = "[database.x]\nurl = \"jdbc:sqlserver://db;user=u;password=in-the-url;x=1\"\n";
    let imported = imported(&[("cp-1", node(&format!("{PLANE_1}{url}")))]);
    for (path, content) in &imported.sources.0 {
        let text = std::str::from_utf8(content).unwrap();
        for password in ["s3cret-of-all", "an-old-one", "in-the-url"] {
            assert!(!text.contains(password), "{path}:\n{text}");
        }
    }
    let names: Vec<&str> = imported.secrets.keys().map(SecretName::as_str).collect();
    assert_eq!(names, ["database.x.url.password", "super_admin.password"]);
}

#[test]
fn secrets_that_differ_are_named_by_whose_they_are() {
    let of = |password: &str| node(&format!("[oauth]\nx = 1\n[super_admin]\npassword = \"{password}\"\n"));
    let imported = imported(&[("is-1", of("a")), ("is-2", of("b"))]);
    let values: Vec<_> =
        imported.secrets.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(values, [("super_admin.password.is-1", "a"), ("super_admin.password.is-2", "b")]);
    let codes: Vec<_> = imported.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["CV704", "CV702", "CV707"], "{}", shown(&imported.findings));
}

#[test]
fn what_wso2_resolves_itself_is_no_secret() {
    let imported =
        imported(&[("is-1", node("[a]\npassword = \"$secret{db}\"\nkey = \"$ref{b}\"\ntoken = \"\"\n"))]);
    assert_eq!(imported.secrets.len(), 0);
}

#[test]
fn what_every_download_has_stays_in_sight() {
    let toml = "[super_admin]\npassword = \"admin\"\n[account_recovery.endpoint.auth]\nhash = \
                \"66cd9688a2ae068244ea01e70f0e230f5623b7fa4cdecb65070a09ec06452262\"\n[oauth]\nclient_secret = \"own\"\n";
    let imported = imported(&[("is-1", node(toml))]);
    let names: Vec<&str> = imported.secrets.keys().map(SecretName::as_str).collect();
    assert_eq!(names, ["oauth.client_secret"]);
    assert!(file(&imported, "config/common.toml").contains("password = \"admin\""));
}

#[test]
fn braces_and_marks_of_merging_come_back_as_they_were() {
    imported(&[(
        "is-1",
        node(
            "t = '{{ x }}{%}{#'\nl = ['{{', 'tcp://localhost:1']\n\"+a\" = [1]\n\"=b\" = 1\n[c.\"+d\"]\nkey = '{{ p'\n[[\"+e\"]]\n\"+f\" = 1\n",
        ),
    )]);
}

#[test]
fn versions_are_known_from_version_txt_or_told_as_guesses() {
    let of_home =
        ImportNode { version: Some("WSO2 Identity Server v7.1.0".to_owned()), ..node("[oauth]\na = 1\n") };
    let imported = imported(&[("is-1", of_home)]);
    assert_eq!(imported.summary.groups[0].product, "wso2is-7.1");
    assert!(imported.findings.iter().all(|finding| finding.code != "CV702"));
}

#[test]
fn a_file_without_the_key_of_a_started_4_7_is_guessed_older() {
    let guess = |toml: &str| imported(&[("am-1", node(toml))]).summary.groups[0].product.clone();
    let rest = "[apim.gateway_notification]\na = 1\n[apim.throttling]\nb = 1\n[server]\nserver_role = \"gateway-worker\"\n";
    assert_eq!(guess(rest), "wso2am-universal-gw-4.6");
    assert_eq!(guess(&format!("{rest}[encryption]\nkey = \"00ff\"\n")), "wso2am-universal-gw-4.7");
}

#[test]
fn wrong_input_names_file_line_and_remedy() {
    let refused = run(&[("is-1", node("[a]\nb = \n")), ("is-2", node("a = 1\na = 2\n"))]).unwrap_err();
    let places: Vec<_> = refused.findings.iter().map(|f| (f.code, f.place.as_ref().unwrap().line)).collect();
    assert_eq!(places, [("CV004", 2), ("CV004", 2)]);
    let wrong = ImportNode { product: Some("wso2is-9".to_owned()), ..node("") };
    let refused = run(&[("is-1", wrong)]).unwrap_err();
    assert!(shown(&refused.findings).contains("--product is-1=ID"), "{}", shown(&refused.findings));
    assert!(run(&[]).is_err());
}

fn text() -> impl Strategy<Value = toml::Value> {
    prop_oneof![
        Just("tcp://h-1:5672"),
        Just("tcp://h-2:5673"),
        Just("h-2:4000"),
        Just("https://localhost:9443/x"),
        Just("10.0.0.1"),
        Just("h-1"),
        Just("{{ x }}"),
        Just("jdbc:x://u:p@h/d?password=q&a=b"),
        Just("$ref{a.b}"),
        Just("it's \"x\"\\"),
        Just(""),
    ]
    .prop_map(|text| toml::Value::String(text.to_owned()))
}

fn value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        text(),
        any::<bool>().prop_map(toml::Value::Boolean),
        (0..3_i64).prop_map(toml::Value::Integer),
        proptest::collection::vec(text(), 0..3).prop_map(toml::Value::Array),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let table = proptest::collection::btree_map(key(), inner, 0..4)
            .prop_map(|entries| toml::Value::Table(entries.into_iter().collect()))
            .boxed();
        prop_oneof![table.clone(), proptest::collection::vec(table, 1..3).prop_map(toml::Value::Array)]
    })
}

fn key() -> impl Strategy<Value = String> {
    let keys = [
        "server",
        "node_ip",
        "offset",
        "password",
        "apim",
        "event_duplicate_url",
        "+x",
        "a b",
        "hostname",
        "id",
    ];
    proptest::sample::select(keys.to_vec()).prop_map(str::to_owned)
}

fn document() -> impl Strategy<Value = String> {
    proptest::collection::btree_map(key(), value(), 0..5).prop_map(|entries| {
        let table: toml::Table = entries.into_iter().collect();
        toml::to_string(&table).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// `run` asserts that every file comes back; a refusal must be one that the product itself would make.
    #[test]
    fn any_files_come_back_by_meaning(documents in proptest::collection::vec(document(), 1..4)) {
        let nodes: Vec<(String, ImportNode)> = documents
            .iter()
            .enumerate()
            .map(|(at, text)| {
                let home = Some(format!("/opt/wso2/n-{at}"));
                (format!("n-{at}"), ImportNode { home, host: Some(format!("h-{at}")), ..node(text) })
            })
            .collect();
        let nodes: Vec<(&str, ImportNode)> =
            nodes.iter().map(|(name, node)| (name.as_str(), node.clone())).collect();
        if let Err(refused) = run(&nodes) {
            let allowed = ["CV207", "CV208", "CV004"];
            prop_assert!(
                refused.findings.iter().any(|finding| allowed.contains(&finding.code)),
                "{}", shown(&refused.findings)
            );
        }
    }
}

#[test]
fn a_table_that_is_opened_after_its_child_is_repaired_and_told() {
    let toml = "[[apim.gateway.environment]]\nname = 'Default'\n[apim]\ngateway_type = 'Regular'\n\
                [database.apim_db]\ntype = 'h2'\n[server]\nhostname = 'a'\n";
    let name = NodeName::parse("n1").unwrap();
    let nodes = BTreeMap::from([(name.clone(), node(toml))]);
    let imported = import(&nodes, &FleetName::parse("small").unwrap()).unwrap();
    let told = imported.findings.iter().find(|finding| finding.code == "CV720").unwrap();
    assert_eq!(told.place.as_ref().unwrap().line, 3);
    let composition = compose_with(&imported.sources, &Secrets::new(imported.secrets, Absent::Refuse));
    let text = &composition.fleet.unwrap().nodes[&name].config_text;
    assert!(canonical::flatten(text).is_ok() && carbon::flatten::flatten(text).is_ok(), "{text}");
}

fn told<'a>(imported: &'a Imported, code: &str) -> Vec<&'a str> {
    imported.findings.iter().filter(|it| it.code == code).map(|it| it.message.as_str()).collect()
}

const ACTIVE: &str = "[database.apim_db]\ntype = 'mysql'\n[[apim.gateway.environment]]\nname = 'Default'\n\
    websub_event_receiver_http_endpoint = 'http://localhost:9021'\n[apim.throttling]\n";

#[test]
fn a_list_that_is_equal_on_all_nodes_stays_one() {
    let of = |offset: &str, other: &str| {
        node(&format!(
            "{ACTIVE}event_duplicate_url = ['tcp://{other}']\n[server]\nhostname = 'front'\n{offset}"
        ))
    };
    let second = of("offset = 2\n", "am-1:5672");
    let imported = imported(&[("am-1", of("", "am-2:5674")), ("am-2", second)]);
    assert_eq!(told(&imported, "CV707"), Vec::<&str>::new());
    let own: Vec<&String> =
        imported.sources.0.keys().filter(|path| path.starts_with("config/nodes/")).collect();
    assert_eq!(own, Vec::<&String>::new());
    assert!(file(&imported, "config/common.toml").contains("'http://localhost:9021'"));
}

#[test]
fn a_value_that_is_equal_on_all_nodes_is_rewritten_on_all_or_on_none() {
    let of = |ip: &str| node(&format!("[server]\nhostname = 'is-1'\nnode_ip = '{ip}'\n[oauth]\na = 1\n"));
    let imported = imported(&[("is-1", of("10.0.0.1")), ("is-2", of("10.0.0.2"))]);
    assert_eq!(told(&imported, "CV707"), Vec::<&str>::new());
    assert!(file(&imported, "config/common.toml").contains("hostname = 'is-1'"));
    assert!(!imported.sources.0.keys().any(|path| path.starts_with("config/nodes/")));
}

#[test]
fn only_what_differs_within_a_list_is_called_different() {
    let of = |url: &str| {
        node(&format!(
            "[database.apim_db]\ntype = 'h2'\n[[apim.gateway.environment]]\nname = 'Default'\nws_endpoint = '{url}'\n"
        ))
    };
    let imported = imported(&[("am-1", of("ws://a:1")), ("am-2", of("ws://b:1"))]);
    let keys = told(&imported, "CV707");
    assert!(keys.len() == 1 && keys[0].starts_with("apim.gateway.environment[0].ws_endpoint"), "{keys:?}");
}

#[test]
fn a_small_api_manager_is_one() {
    let small = "[server]\nhostname = 'a'\n[database.apim_db]\ntype = 'mysql'\n[apim.internal_apis]\nx = 1\n";
    let guess = |hint: Option<&str>| {
        let node = ImportNode { product: hint.map(str::to_owned), ..node(small) };
        imported(&[("n1", node)]).summary.groups[0].product.clone()
    };
    assert!(guess(None).starts_with("wso2am-"), "{}", guess(None));
    assert_eq!(guess(Some("4.3")), "wso2am-4.3");
    assert_eq!(guess(Some("7.1")), "wso2is-7.1");
    assert_eq!(guess(Some("wso2am-4.1")), "wso2am-4.1");
}

#[test]
fn keys_values_and_directories_say_the_version() {
    let first = |toml: &str| imported(&[("n1", node(toml))]).summary.groups[0].product.clone();
    let pair = format!(
        "{ACTIVE}event_duplicate_url = ['tcp://am-2:5672']\n[oauth.grant_type.token_exchange]\nenable = true\n"
    );
    let of_pair = imported(&[("n1", node(&pair))]);
    let message = told(&of_pair, "CV702")[0];
    assert!(message.contains("oauth.grant_type.token_exchange came with 4.1"), "{message}");
    assert!(!of_pair.summary.groups[0].product.starts_with("wso2am-3"), "{message}");
    let stored = "[database.apim_db]\ntype = 'h2'\n[apim.x]\nfile = '/opt/wso2am-4.2.0/repository/x'\n";
    assert_eq!(first(stored), "wso2am-4.2");
    let shipped = "[keystore.primary]\nfile_name = 'wso2carbon.jks'\ntype = 'JKS'\n[truststore]\nfile_name = 'x.jks'\n\
                   [account_recovery.endpoint.auth]\nhash = 'x'\n";
    assert_eq!(first(shipped), "wso2is-7.0");
    let portal = "[server]\nserver_role = 'api-publisher'\n";
    assert_eq!(first(portal), "wso2am-3.2-api-publisher");
}

#[test]
fn neighbours_say_the_version() {
    let plane = ImportNode { product: Some("4.2".to_owned()), ..node(PLANE_1) };
    let keys = "[database.identity_db]\ntype = 'mysql'\n[[resource.access_control]]\n\
                context = '(.*)/keymanager-operations/dcr/register'\n";
    let imported = imported(&[("cp-1", plane), ("gw-1", node(GATEWAY)), ("km-1", node(keys))]);
    let of = |name: &str| {
        let found = imported.summary.groups.iter().find(|group| group.nodes[0].as_str() == name);
        found.unwrap().product.clone()
    };
    assert_eq!(of("gw-1"), "wso2am-4.2-gateway-worker");
    assert_eq!(of("km-1"), "wso2is-6.1");
}

#[test]
fn a_version_that_nobody_knows_yet_is_imported_by_its_line() {
    let new = |hint: Option<&str>| ImportNode {
        version: Some("WSO2 API Manager 4.99.0".to_owned()),
        product: hint.map(str::to_owned),
        ..node("[database.apim_db]\ntype = 'h2'\n")
    };
    let refused = run(&[("am-1", new(None))]).unwrap_err();
    assert!(refused.findings[0].remedy.contains("--product am-1=wso2am "), "{}", shown(&refused.findings));
    let imported = imported(&[("am-1", new(Some("wso2am")))]);
    assert_eq!(imported.summary.groups[0].product, "wso2am-4.7");
    assert!(
        told(&imported, "CV702")[0].contains("does not know version 4.99"),
        "{}",
        shown(&imported.findings)
    );
}

#[test]
fn templates_are_named_as_such() {
    for (name, text, kind) in [
        ("deployment.toml.j2", "[server]\nhostname = \"{{ hostname }}\"\n", "Ansible"),
        ("deployment.toml", "[server]\n{% if ha %}\nnode_ip = \"{{ ip }}\"\n{% endif %}\n", "Ansible"),
        ("x.erb", "[server]\n", "Puppet"),
        ("deployment.toml", "[server]\nhostname = \"<%= @hostname %>\"\n", "Puppet"),
        ("values.yaml", "apiVersion: v1\nkind: ConfigMap\ndata:\n", "Helm"),
        ("deployment.toml", "[server]\nhostname = \"{{ .Values.wso2.hostname }}\"\n", "Helm"),
    ] {
        let refused = run(&[("n1", ImportNode { file: name.to_owned(), ..node(text) })]).unwrap_err();
        let found = &refused.findings[0];
        assert!(found.code == "CV721" && found.message.contains(kind), "{text}: {found}");
        assert_eq!(refused.findings.len(), 1);
    }
}
