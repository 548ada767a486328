//! Real fleets become fleet directories without a hand edit, and come back. Reads files, unlike the crate itself.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail and speak like tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests bring the input that the crate must not read itself"
)]

use std::{collections::BTreeMap, fs, path::Path};

use fleet::{
    finding::Severity,
    ids::{FleetName, NodeName},
    import::{ImportNode, Imported, import},
    spec::{Absent, Secrets, canonical, compose_with},
};

const FLEETS: [(&str, &str, usize); 4] = [
    ("a-apim-4.2-tm-separated-ha", "control-plane,gateway,traffic-manager", 6),
    ("b-apim-3.2-active-active-is-5.10-km", "api-manager,key-manager", 4),
    ("c-apim-4.5-simple-scalable-is-7.1-km", "api-manager,gateway,key-manager", 6),
    ("d-apim-3.1-single-is-km-5.10", "api-manager,key-manager", 3),
];

fn nodes(directory: &Path) -> BTreeMap<NodeName, ImportNode> {
    let mut nodes = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let node = ImportNode {
            file: path.file_name().unwrap().to_str().unwrap().to_owned(),
            toml: fs::read_to_string(&path).unwrap(),
            product: None,
            version: None,
            host: None,
            home: None,
        };
        nodes.insert(NodeName::parse(path.file_stem().unwrap().to_str().unwrap()).unwrap(), node);
    }
    nodes
}

#[test]
fn real_fleets_import_without_a_hand_edit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let fleets = root.join("../shared/wso2/fleets");
    if !fleets.is_dir() {
        println!("skipped: {} is not there", fleets.display());
        return;
    }
    for (name, groups, count) in FLEETS {
        let nodes = nodes(&fleets.join(name));
        assert_eq!(nodes.len(), count, "{name}");
        let imported = import(&nodes, &FleetName::parse("real").unwrap());
        let imported = imported.unwrap_or_else(|refused| panic!("{name}: {:?}", refused.findings));
        come_back(name, &nodes, &imported);
        let made: Vec<&str> = imported.summary.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(made.join(","), groups, "{name}");
        let own: Vec<&String> = imported.sources.0.keys().filter(|path| path.contains("/nodes/")).collect();
        assert_eq!(
            own,
            Vec::<&String>::new(),
            "{name}: nodes of a group differ only in what expressions say"
        );
        for (path, content) in &imported.sources.0 {
            let text = String::from_utf8_lossy(content);
            println!("--- {name}/{path}\n{text}");
        }
        for finding in &imported.findings {
            println!("{finding}");
            assert_ne!(finding.severity, Severity::Error);
        }
    }
}

fn come_back(name: &str, nodes: &BTreeMap<NodeName, ImportNode>, imported: &Imported) {
    let secrets = Secrets::new(imported.secrets.clone(), Absent::Refuse);
    let composition = compose_with(&imported.sources, &secrets);
    let fleet = composition.fleet.unwrap_or_else(|| panic!("{name}: {:?}", composition.findings));
    // They are consistent by construction, so nothing may be doubted between their nodes.
    let doubts = fleet::lint::across::check(&fleet);
    assert!(
        doubts.is_empty(),
        "{name}: {}",
        doubts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    );
    for (node, source) in nodes {
        let composed = canonical::flatten(&fleet.nodes[node].config_text).unwrap();
        assert_eq!(composed, canonical::flatten(&source.toml).unwrap(), "{name}/{node}");
    }
}
