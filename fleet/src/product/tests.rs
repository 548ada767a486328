use super::*;
use crate::spec::{
    report::Report,
    tree::{self, Source},
};

#[test]
fn the_embedded_profiles_read_without_a_finding() {
    let findings = read::built_in_report().into_findings();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn every_version_of_the_guide_is_there() {
    for id in ["5.10", "5.11", "6.0", "6.1", "7.0", "7.1", "7.2", "7.3"] {
        assert!(built_in().contains_key(&format!("wso2is-{id}")), "IS {id}");
    }
    for id in ["3.0", "3.1", "3.2", "4.0", "4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "4.7"] {
        assert!(built_in().contains_key(&format!("wso2am-{id}")), "APIM {id}");
    }
    for id in ["4.5", "4.6", "4.7"] {
        for pack in ["acp", "universal-gw", "tm"] {
            assert!(built_in().contains_key(&format!("wso2am-{pack}-{id}")), "{pack} {id}");
        }
    }
}

#[test]
fn a_component_has_its_own_script_and_ports() {
    let gateway = &built_in()["wso2am-universal-gw-4.5"];
    assert_eq!(gateway.script_unix.as_str(), "bin/gateway.sh");
    assert!(gateway.ports.iter().any(|port| port.name == "gateway-https"));
    assert!(!gateway.ports.iter().any(|port| port.name == "amqp"));
    let worker = &built_in()["wso2am-4.2-gateway-worker"];
    assert_eq!(worker.args, ["-Dprofile=gateway-worker"]);
    assert_eq!(built_in()["wso2am-3.2"].script_unix.as_str(), "bin/wso2server.sh");
    assert_eq!(built_in()["wso2is-7.3"].jdk, (21, None));
}

#[test]
fn every_probe_names_a_port_of_its_product_and_the_cluster_port_never_moves() {
    for product in built_in().values() {
        for probe in &product.probes {
            assert!(product.ports.iter().any(|port| port.name == probe.port), "{}: {probe:?}", product.id);
        }
        for port in &product.ports {
            assert_eq!(port.offset, port.name != "hazelcast", "{}: {port:?}", product.id);
        }
        assert!(product.ports.iter().any(|port| port.required), "{}", product.id);
    }
}

#[test]
fn a_list_that_is_typed_and_empty_clears_what_is_inherited() {
    let read = |text: &str| {
        let text = format!("[[product]]\nid = 'ours'\nextends = 'wso2am-4.5'\n{text}");
        let parsed = tree::parse(&Source::new("products/ours.toml", &text)).unwrap();
        let mut report = Report::default();
        let product = read::read_products(&[&parsed.root], &mut report).remove("ours");
        assert_eq!(report.into_findings(), []);
        product.unwrap()
    };
    let (whole, bare) = (read(""), read("probes = []\nports = []\nargs = []\nready_lines = []\nfiles = []"));
    assert!(!whole.probes.is_empty() && !whole.ports.is_empty() && !whole.ready_lines.is_empty());
    assert!(!whole.files.is_empty());
    assert_eq!((bare.probes.len(), bare.ports.len(), bare.ready_lines.len(), bare.files.len()), (0, 0, 0, 0));
    let text = "[[product]]\nid = 'ours'\nextends = 'wso2am-4.5'\nfiles = []\n[[product]]\nid = 'heir'\nextends = 'ours'\n[[product.files]]\npath = 'a'";
    let parsed = tree::parse(&Source::new("products/ours.toml", text)).unwrap();
    let heir = read::read_products(&[&parsed.root], &mut Report::default()).remove("heir").unwrap();
    assert_eq!(heir.files.iter().map(|rule| rule.path.as_str()).collect::<Vec<_>>(), ["a"]);
}
