//! How long `lint` takes over 400 nodes in four groups of 100, each group with the pack of its own product.
//!
//! Run with `cargo bench -p convoy-fleet --bench lint`. Goal: below 3 s with what `convoy lint` does besides. Needs the
//! real packs at `../shared/wso2/packs`; says so and does nothing where they are absent.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads a clock and files; the library does not"
)]

#[path = "../../carbon/benches/timing/mod.rs"]
mod timing;

use std::{collections::BTreeMap, fmt::Write as _, fs, hint::black_box, path::Path};

use fleet::{
    lint::{ClearText, PackFacts, Packs},
    spec::{Absent, Secrets, Sources, compose_with},
};
use timing::median;

const RUNS: usize = 3;
const NODES: usize = 100;

/// One group: its name, its product and the directory of its pack.
struct Group {
    name: &'static str,
    product: &'static str,
    pack: &'static str,
}

const GROUPS: [Group; 4] = [
    Group { name: "identity", product: "wso2is-7.2", pack: "is-7.2.0" },
    Group { name: "key-manager", product: "wso2is-6.0", pack: "is-6.0.0" },
    Group { name: "control-plane", product: "wso2am-4.5", pack: "apim-4.5.0" },
    Group { name: "gateway", product: "wso2am-4.2-gateway-worker", pack: "apim-4.2.0" },
];

fn pack(home: &Path) -> PackFacts {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(home).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let below = entry.path().strip_prefix(home).unwrap();
            files.push((below.to_str().unwrap().to_owned(), fs::read(entry.path()).unwrap()));
        }
    }
    PackFacts::new(carbon::Pack::load(files.into_iter()).unwrap())
}

/// Every node has an address of its own, and every gateway names every control plane.
fn sources(packs: &Path) -> Sources {
    let mut fleet = "name = \"large\"\n".to_owned();
    let mut sources = Sources::default();
    for (index, group) in GROUPS.iter().enumerate() {
        let Group { name, product, pack } = group;
        write!(fleet, "\n[groups.{name}]\nproduct = \"{product}\"\nlayers = [\"{name}\", \"own\"]\n")
            .unwrap();
        for node in 0..NODES {
            write!(
                fleet,
                "\n[nodes.{name}-{node}]\ngroup = \"{name}\"\nhost = \"{name}-{node}.example.org\"\n\
                 home = \"/opt/wso2/home\"\nvalues = {{ ip = \"10.0.{index}.{node}\" }}\n"
            )
            .unwrap();
        }
        let typed = fs::read(packs.join(pack).join("repository/conf/deployment.toml")).unwrap();
        sources.0.insert(format!("config/{name}.toml"), typed);
    }
    let own = "[server]\nnode_ip = \"{{ values.ip }}\"\n[apim.throttling]\nthrottle_decision_endpoints = \"{{ \
               nodes('control-plane') | urls('tcp', 'amqp') }}\"\n[clustering]\nmembership_scheme = \"wka\"\n\
               members = \"{{ group.nodes | addresses('hazelcast') }}\"\n";
    sources.0.insert("config/own.toml".to_owned(), own.as_bytes().to_vec());
    sources.0.insert("fleet.toml".to_owned(), fleet.into_bytes());
    sources
}

fn main() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/wso2/packs");
    if !shared.is_dir() {
        println!("skipped: no packs at {}", shared.display());
        return;
    }
    let sources = sources(&shared);
    let secrets = Secrets::new(BTreeMap::new(), Absent::Placeholder);
    let composing = median(RUNS, || drop(black_box(compose_with(&sources, &secrets))));
    let composition = compose_with(&sources, &secrets);
    let fleet = composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings));
    let packs: Packs =
        GROUPS.iter().map(|group| (group.product.to_owned(), pack(&shared.join(group.pack)))).collect();
    let reading = median(RUNS, || drop(black_box(pack(&shared.join(GROUPS[2].pack)))));
    let alone = median(RUNS, || drop(black_box(fleet::lint::fleet(&fleet, &Packs::new(), ClearText::Tell))));
    let judging = median(RUNS, || drop(black_box(fleet::lint::fleet(&fleet, &packs, ClearText::Tell))));
    let findings = fleet::lint::fleet(&fleet, &packs, ClearText::Tell);
    println!("one pack          {reading:?}");
    println!("composing         {composing:?}");
    println!("lint without pack {alone:?}");
    println!("lint              {judging:?}, {} findings", findings.len());
    if std::env::args().any(|argument| argument == "--findings") {
        findings.iter().for_each(|finding| println!("{finding}"));
    }
}
