//! Which servers go together, in which order, what they share, and which versions they have.

use super::*;

fn api_manager(role: &str, rest: &str) -> ImportNode {
    let toml = format!(
        "[server]\nserver_role = '{role}'\n[super_admin]\nusername = 'root'\n[apim.analytics]\nenable = false\n{rest}"
    );
    ImportNode { product: Some("4.5".to_owned()), ..node(&toml) }
}

fn identity_server() -> ImportNode {
    let toml = "[super_admin]\nusername = 'root'\n[database.identity_db]\ntype = 'mysql'\n";
    ImportNode { product: Some("7.1".to_owned()), ..node(toml) }
}

/// One of every role, and gateways of two kinds.
fn all_roles() -> Vec<(&'static str, ImportNode)> {
    let inside = "[apim.inside]\na = 1\nb = 2\nc = 3\nd = 4\n";
    let outside = "[apim.outside]\na = 1\nb = 2\nc = 3\nd = 4\n";
    vec![
        ("km-1", identity_server()),
        ("cp-1", api_manager("control-plane", "")),
        ("tm-1", api_manager("traffic-manager", "")),
        ("gw-1", api_manager("gateway-worker", outside)),
        ("gw-2", api_manager("gateway-worker", outside)),
        ("gw-int-1", api_manager("gateway-worker", inside)),
    ]
}

#[test]
fn servers_that_share_less_than_half_of_their_keys_are_two_groups() {
    let imported = imported(&all_roles());
    let groups: Vec<String> = imported
        .summary
        .groups
        .iter()
        .map(|group| {
            let nodes: Vec<&str> = group.nodes.iter().map(NodeName::as_str).collect();
            format!("{} {}", group.name, nodes.join(" "))
        })
        .collect();
    assert_eq!(
        groups,
        [
            "control-plane cp-1",
            "gateway gw-1 gw-2",
            "gateway-gw-int gw-int-1",
            "key-manager km-1",
            "traffic-manager tm-1"
        ]
    );
}

#[test]
fn groups_start_in_the_order_of_their_roles_and_product_lines_share_a_layer() {
    let of = |nodes: &[(&str, ImportNode)]| {
        let imported = imported(nodes);
        let fleet: toml::Table = file(&imported, "fleet.toml").parse().unwrap();
        let list = |group: &toml::Value, key: &str| {
            let list = group.get(key).and_then(toml::Value::as_array).into_iter().flatten();
            list.filter_map(toml::Value::as_str).collect::<Vec<_>>().join(" ")
        };
        let groups = fleet["groups"].as_table().unwrap().iter();
        let lines = groups.map(|(name, group)| {
            format!("{name} after [{}] of [{}]", list(group, "after"), list(group, "layers"))
        });
        (lines.collect::<Vec<_>>(), imported)
    };
    let (lines, all) = of(&all_roles());
    assert_eq!(
        lines,
        [
            "control-plane after [key-manager] of [common all-api-manager control-plane]",
            "gateway after [traffic-manager] of [common all-api-manager gateway]",
            "gateway-gw-int after [traffic-manager] of [common all-api-manager gateway-gw-int]",
            "key-manager after [] of [common key-manager]",
            "traffic-manager after [control-plane] of [common all-api-manager traffic-manager]",
        ]
    );
    assert_eq!(file(&all, "config/common.toml"), "[super_admin]\nusername = 'root'\n");
    assert_eq!(file(&all, "config/all-api-manager.toml"), "[apim.analytics]\nenable = false\n");

    // Without a traffic manager gateways come after the control plane; and a line of its own has no other to differ from.
    let (lines, _) = of(&[all_roles()[1].clone(), all_roles()[3].clone()]);
    assert_eq!(
        lines,
        [
            "control-plane after [] of [common control-plane]",
            "gateway after [control-plane] of [common gateway]"
        ]
    );
}

#[test]
fn secrets_that_differ_between_groups_have_the_group_in_their_name() {
    let with = |role: &str, password: &str| api_manager(role, &format!("[oauth]\npassword = '{password}'\n"));
    let imported = imported(&[
        ("cp-1", with("control-plane", "p")),
        ("gw-1", with("gateway-worker", "g")),
        ("gw-2", with("gateway-worker", "g")),
        ("tm-1", with("traffic-manager", "1")),
        ("tm-2", with("traffic-manager", "2")),
    ]);
    let secrets = imported.secrets.iter().map(|(name, value)| (name.as_str(), value.expose()));
    assert_eq!(
        secrets.collect::<Vec<_>>(),
        [
            ("oauth.password.control-plane", "p"),
            ("oauth.password.gateway", "g"),
            ("oauth.password.tm-1", "1"),
            ("oauth.password.tm-2", "2"),
        ]
    );
    assert!(file(&imported, "config/gateway.toml").contains("{{ secret('oauth.password.gateway') }}"));
}

#[test]
fn links_to_documentation_tell_the_version_and_what_was_said_comes_first() {
    let first = |node: ImportNode| imported(&[("n1", node)]).summary.groups[0].product.clone();
    let linked = |rest: &str, link: &str| node(&format!("# See https://{link}/install/\n{rest}"));
    let api_manager = |version: &str| {
        linked("[database.apim_db]\ntype = 'h2'\n", &format!("apim.docs.wso2.com/en/{version}"))
    };
    assert_eq!(first(api_manager("4.2.0")), "wso2am-4.2");
    assert_eq!(first(api_manager("4.4.0")), "wso2am-4.4");
    assert_eq!(
        first(api_manager("latest")),
        "wso2am-4.6",
        "a 4.7 would have the key that its start puts there"
    );
    assert_eq!(
        first(linked("[database.identity_db]\ntype = 'h2'\n", "is.docs.wso2.com/en/6.1.0")),
        "wso2is-6.1"
    );
    let known = |product: Option<&str>| ImportNode {
        version: Some("WSO2 API Manager 4.3.0".to_owned()),
        product: product.map(str::to_owned),
        ..api_manager("4.2.0")
    };
    assert_eq!(first(known(None)), "wso2am-4.3");
    assert_eq!(first(known(Some("4.1"))), "wso2am-4.1");
    assert_eq!(first(known(Some("wso2am-4.4"))), "wso2am-4.4");
    assert_eq!(first(known(Some("wso2am"))), "wso2am-4.3", "only the line was said");
}
