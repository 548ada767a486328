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
    lint::{ClearText, Packs},
    spec::{Absent, Fleet, Secrets, canonical, compose_with},
};

/// Directory, groups that are made, nodes, versions of API Manager and Identity Server.
const FLEETS: [(&str, &str, usize, [&str; 2]); 4] = [
    ("a-apim-4.2-tm-separated-ha", "control-plane,gateway,traffic-manager", 6, ["4.2", ""]),
    ("b-apim-3.2-active-active-is-5.10-km", "api-manager,key-manager", 4, ["3.2", "5.10"]),
    ("c-apim-4.5-simple-scalable-is-7.1-km", "api-manager,gateway,key-manager", 6, ["4.5", "7.1"]),
    ("d-apim-3.1-single-is-km-5.10", "api-manager,key-manager", 3, ["3.1", "5.10"]),
];

fn nodes(directory: &Path) -> BTreeMap<NodeName, ImportNode> {
    nodes_of(directory).into_iter().map(|(name, node)| (NodeName::parse(&name).unwrap(), node)).collect()
}

fn nodes_of(directory: &Path) -> BTreeMap<String, ImportNode> {
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
        nodes.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), node);
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
    for (name, groups, count, [apim, is]) in FLEETS {
        let mut nodes = nodes(&fleets.join(name));
        assert_eq!(nodes.len(), count, "{name}");
        let brought = |nodes: &BTreeMap<NodeName, ImportNode>| {
            let imported = import(nodes, &FleetName::parse("real").unwrap());
            imported.unwrap_or_else(|refused| panic!("{name}: {:?}", refused.findings))
        };
        let imported = brought(&nodes);
        come_back(name, &nodes, &imported);
        for (node, source) in &mut nodes {
            let is_identity = node.as_str().starts_with("is-");
            source.product = Some(if is_identity { is } else { apim }.to_owned());
        }
        // Findings that depend on the version are only as good as a guess, so here it is said.
        consistent(name, &come_back(name, &nodes, &brought(&nodes)));
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

fn come_back(name: &str, nodes: &BTreeMap<NodeName, ImportNode>, imported: &Imported) -> Fleet {
    let secrets = Secrets::new(imported.secrets.clone(), Absent::Refuse);
    let composition = compose_with(&imported.sources, &secrets);
    let fleet = composition.fleet.unwrap_or_else(|| panic!("{name}: {:?}", composition.findings));
    for (node, source) in nodes {
        let composed = canonical::flatten(&fleet.nodes[node].config_text).unwrap();
        assert_eq!(composed, canonical::flatten(&source.toml).unwrap(), "{name}/{node}");
    }
    fleet
}

/// These fleets are consistent: nothing that is said of nodes together is true of them. They are samples, with the
/// credentials that every download has (CV557), and nobody said how many connections their database allows (CV561).
fn consistent(name: &str, fleet: &Fleet) {
    let findings = fleet::lint::fleet(fleet, &Packs::new(), ClearText::Tell);
    let told = findings.iter().filter(|finding| !["CV557", "CV561"].contains(&finding.code));
    let told: Vec<String> = told.map(ToString::to_string).collect();
    assert_eq!(told, Vec::<String>::new(), "{name}");
}

/// WSO2's own samples, each as a fleet of one.
#[test]
fn official_samples_alone_have_no_errors_across_nodes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let samples = root.join("../shared/wso2/samples");
    if !samples.is_dir() {
        println!("skipped: {} is not there", samples.display());
        return;
    }
    let (mut count, mut tally) = (0, BTreeMap::<&str, usize>::new());
    for (name, source) in nodes_of(&samples) {
        let one = BTreeMap::from([(NodeName::parse("one").unwrap(), source)]);
        let Ok(imported) = import(&one, &FleetName::parse("real").unwrap()) else { continue };
        let secrets = Secrets::new(imported.secrets.clone(), Absent::Refuse);
        let Some(fleet) = compose_with(&imported.sources, &secrets).fleet else { continue };
        count += 1;
        for finding in fleet::lint::fleet(&fleet, &Packs::new(), ClearText::Tell) {
            *tally.entry(finding.code).or_default() += 1;
            assert_ne!(finding.severity, Severity::Error, "{name}: {finding}");
            if std::env::var_os("LINT_SHOW").is_some() {
                println!("{name} {finding}");
            }
        }
    }
    println!("{count} samples, findings by code: {tally:?}");
    assert!(200 < count, "{count}");
}

/// The line that a sample's name says, and the version.
fn truth(name: &str) -> Option<(&'static str, String)> {
    let (repository, rest) = name.split_once('@')?;
    let line = match repository {
        "docker-apim" | "product-apim" | "kubernetes-apim" => "wso2am",
        "docker-is" | "product-is" => "wso2is",
        _ => return None,
    };
    let mut numbers = rest.trim_start_matches('v').split(['.', '_']);
    let version =
        format!("{}.{}", numbers.next()?.parse::<u32>().ok()?, numbers.next()?.parse::<u32>().ok()?);
    // Key managers beside an API Manager are named by the API Manager's version.
    let is_key_manager =
        ["is-as-km", "is-km"].iter().any(|end| name.ends_with(end)) || name.contains("__is-as-km__");
    (!is_key_manager).then_some((line, version))
}

/// WSO2's own samples, each alone: what import says they are, against what they are.
#[test]
fn the_version_of_official_samples_is_mostly_the_first_or_second_guess() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let samples = root.join("../shared/wso2/samples");
    if !samples.is_dir() {
        println!("skipped: {} is not there", samples.display());
        return;
    }
    let (mut count, mut lines, mut firsts, mut seconds, mut listed) = (0, 0, 0, 0, 0);
    for (name, source) in nodes_of(&samples) {
        let Some((line, version)) = truth(&name) else { continue };
        let source = ImportNode { file: "deployment.toml".to_owned(), ..source };
        let one = BTreeMap::from([(NodeName::parse("one").unwrap(), source)]);
        let Ok(imported) = import(&one, &FleetName::parse("real").unwrap()) else { continue };
        let guess = imported.findings.iter().find(|finding| finding.code == "CV702").unwrap();
        let (_, others) = guess.message.rsplit_once("; then ").unwrap();
        let ids: Vec<&str> =
            std::iter::once(imported.summary.groups[0].product.as_str()).chain(others.split(", ")).collect();
        let is_true = |id: &str| id.split('-').any(|part| part == version);
        count += 1;
        lines += usize::from(ids[0].starts_with(line));
        firsts += usize::from(is_true(ids[0]));
        seconds += usize::from(ids.iter().take(2).any(|id| is_true(id)));
        listed += usize::from(ids.iter().any(|id| is_true(id)));
        if !ids.iter().take(2).any(|id| is_true(id)) {
            println!("{name}: {}", guess.message);
        }
    }
    println!("{count} samples: line {lines}, first {firsts}, first or second {seconds}, listed {listed}");
    assert!(200 < count, "{count}");
    assert_eq!(lines, count);
    assert!(count * 80 <= seconds * 100, "{seconds} of {count}");
}
