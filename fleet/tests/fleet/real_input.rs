//! Real deployment.toml files and our own examples through composition. Reads files, unlike the crate itself.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the tests bring the input that the crate must not read itself, and say what they skip"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use fleet::{
    ids::NodeName,
    spec::{Absent, Composition, Fleet, Secrets, Sources, canonical, compose, compose_with},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder of real files, if this checkout has it beside it.
fn real(below: &str) -> Option<PathBuf> {
    let path = root().join("../shared/wso2").join(below);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

fn shown(composition: &Composition) -> String {
    composition.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn fleet_of(sources: &Sources) -> Fleet {
    let composition = compose(sources);
    let findings = shown(&composition);
    composition.fleet.unwrap_or_else(|| panic!("{findings}"))
}

/// A fleet where each file of `directory` is the layer of its node, and node name to the file's text.
fn fleet_directory(
    directory: &Path,
    product: impl Fn(&str) -> &'static str,
) -> (Sources, BTreeMap<String, String>) {
    let mut fleet = String::from("name = \"real\"\n");
    let mut sources = Sources::default();
    let mut texts = BTreeMap::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "toml")) {
        let node = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        fleet += &format!(
            "[groups.of-{node}]\nproduct = \"{}\"\n[nodes.{node}]\ngroup = \"of-{node}\"\nhost = \"{node}\"\n\
             home = \"/opt/wso2\"\n",
            product(&node)
        );
        sources.0.insert(format!("config/nodes/{node}.toml"), text.clone().into_bytes());
        texts.insert(node, text);
    }
    sources.0.insert("fleet.toml".to_owned(), fleet.into_bytes());
    (sources, texts)
}

type ProductOf = fn(&str) -> &'static str;

const FLEETS: [(&str, usize, ProductOf); 4] =
    [
        ("a-apim-4.2-tm-separated-ha", 6, |node| match &node[..2] {
            "cp" => "wso2am-4.2-control-plane",
            "gw" => "wso2am-4.2-gateway-worker",
            _ => "wso2am-4.2-traffic-manager",
        }),
        ("b-apim-3.2-active-active-is-5.10-km", 4, |node| {
            if node.starts_with("is") { "wso2is-5.10" } else { "wso2am-3.2" }
        }),
        ("c-apim-4.5-simple-scalable-is-7.1-km", 6, |node| match &node[..2] {
            "is" => "wso2is-7.1",
            "gw" => "wso2am-universal-gw-4.5",
            _ => "wso2am-4.5",
        }),
        ("d-apim-3.1-single-is-km-5.10", 3, |node| {
            if node.starts_with("is") { "wso2is-km-5.10" } else { "wso2am-3.1" }
        }),
    ];

#[test]
fn what_is_composed_of_a_real_fleet_means_what_its_files_mean() {
    for (name, count, product) in FLEETS {
        let Some(directory) = real(&format!("fleets/{name}")) else { return };
        let (sources, texts) = fleet_directory(&directory, product);
        assert_eq!(texts.len(), count, "{name}");
        let fleet = fleet_of(&sources);
        for (node, text) in texts {
            let composed = &fleet.nodes[&NodeName::parse(&node).unwrap()];
            assert_eq!(
                canonical::flatten(&composed.config_text).unwrap(),
                canonical::flatten(&text).unwrap(),
                "{name}/{node}"
            );
        }
    }
}

#[test]
fn every_real_file_survives_composition() {
    let Some(directory) = real("samples") else { return };
    let fleet = "name = \"one\"\n[groups.g]\nproduct = \"wso2am-4.5\"\n[nodes.n]\ngroup = \"g\"\nhost = \"h\"\n\
                 home = \"/opt/w\"\n";
    let mut seen = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let Ok(meant) = canonical::flatten(&text) else { continue };
        if text.contains("{{") || text.contains("{%") {
            continue;
        }
        let mut sources = Sources::default();
        sources.0.insert("fleet.toml".to_owned(), fleet.into());
        sources.0.insert("config/nodes/n.toml".to_owned(), text.clone().into_bytes());
        let composed = fleet_of(&sources);
        let node = &composed.nodes[&NodeName::parse("n").unwrap()];
        assert_eq!(canonical::flatten(&node.config_text).unwrap(), meant, "{}", path.display());
        // Every key can be traced, and composing the result once more changes nothing.
        assert!(meant.keys().all(|key| node.origins.get(key).is_some()), "{}", path.display());
        sources.0.insert("config/nodes/n.toml".to_owned(), node.config_text.as_bytes().to_vec());
        let again = fleet_of(&sources);
        let again = &again.nodes[&NodeName::parse("n").unwrap()];
        assert_eq!(canonical::meaning(&again.config_text), canonical::meaning(&text), "{}", path.display());
        seen += 1;
    }
    assert!(100 < seen, "only {seen} samples were read");
    println!("{seen} samples");
}

fn read_directory(directory: &Path, prefix: &str, sources: &mut Sources) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read_directory(&path, &format!("{name}/"), sources);
        } else if Sources::wants(&name) {
            sources.0.insert(name, fs::read(&path).unwrap());
        }
    }
}

fn example(name: &str) -> Sources {
    let mut sources = Sources::default();
    read_directory(&root().join("examples").join(name), "", &mut sources);
    sources
}

#[test]
fn the_examples_compose_without_a_doubt() {
    for name in ["is-as-key-manager", "is-as-key-manager-g2"] {
        let composition = compose(&example(name));
        let doubts: Vec<_> = composition.findings.iter().filter(|finding| finding.code != "CV202").collect();
        assert!(doubts.is_empty(), "{name}: {}", shown(&composition));
        assert_eq!(composition.fleet.unwrap().nodes.len(), 3);
    }
}

#[test]
fn the_example_derives_what_must_agree() {
    let fleet = fleet_of(&example("is-as-key-manager"));
    let flat =
        |node: &str| canonical::flatten(&fleet.nodes[&NodeName::parse(node).unwrap()].config_text).unwrap();
    let (first, second) = (flat("is-1"), flat("is-2"));
    assert_eq!(first["clustering.members"], r#"["127.0.0.1:4001", "127.0.0.1:4002"]"#);
    let differ = canonical::differing_keys(&first, &second, &[]);
    assert_eq!(differ, ["clustering.local_member_port", "server.offset"]);
    assert_eq!(
        first["event_listener[0].properties.notification_endpoint"],
        "\"https://127.0.0.1:9443/internal/data/v1/notify\""
    );
}

#[test]
fn overrides_move_the_example_elsewhere() {
    let mut sources = example("is-as-key-manager");
    let overrides = "[values]\ninstall_dir = \"/tmp/try\"\n[nodes.am-1]\nhome = \"/srv/am\"\n\
                     [groups.key-manager]\nlayers = [\"common\", \"key-manager\", \"key-manager-embedded\"]\n";
    sources.0.insert("overrides.toml".to_owned(), overrides.into());
    let fleet = fleet_of(&sources);
    let node = |name: &str| &fleet.nodes[&NodeName::parse(name).unwrap()];
    assert_eq!(node("is-1").bundle.service.home, "/tmp/try/is-1/wso2is-7.2.0");
    assert_eq!(node("am-1").bundle.service.home, "/srv/am");
    assert!(node("is-1").config_text.contains("WSO2IDENTITY_DB"));
}

/// The fleet of docs/quickstart.md as a reader would type it.
#[test]
fn the_quickstarts_fleet_composes_without_a_finding() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/quickstart.md")).unwrap();
    let block = |after: &str| {
        let rest = text.split(after).nth(1).unwrap_or_else(|| panic!("{after}"));
        rest.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
    };
    let mut sources = Sources::default();
    sources.0.insert("fleet.toml".to_owned(), block("\n`fleet.toml`:\n").into());
    sources.0.insert("config/common.toml".to_owned(), block("\n`config/common.toml` is what").into());
    let secrets = Secrets::new(BTreeMap::new(), Absent::Placeholder);
    let composition = compose_with(&sources, &secrets);
    let findings = shown(&composition);
    let fleet = composition.fleet.unwrap_or_else(|| panic!("{findings}"));
    let mut found = composition.findings;
    found.extend(fleet::lint::fleet(&fleet, &fleet::lint::Packs::new(), fleet::lint::ClearText::Tell));
    // That secrets have placeholders while nobody asked the coordinator is told each time.
    found.retain(|finding| finding.code != "CV309");
    assert!(found.is_empty(), "{found:#?}");
}
