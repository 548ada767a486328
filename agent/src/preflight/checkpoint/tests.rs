use std::fs;

use fleet::{
    ids::NodeName,
    spec::{ComposedNode, Sources, compose},
};

use super::*;

const CONFIG: &str = "repository/conf/deployment.toml";

/// A node that leaves `cache` to its host, as its directory says it with this layer.
fn node(home: &std::path::Path, layer: &str) -> ComposedNode {
    let fleet = format!(
        "name = \"one\"\n[drift.keys]\ncache = \"ignore\"\n[groups.km]\nproduct = \"wso2is-7.2\"\n\
         layers = [\"common\"]\n[nodes.is-1]\ngroup = \"km\"\nhost = \"h1\"\nhome = {:?}\n",
        home.to_str().unwrap()
    );
    let mut sources = Sources::default();
    sources.0.insert("fleet.toml".into(), fleet.into_bytes());
    sources.0.insert("config/common.toml".into(), layer.as_bytes().into());
    let composition = compose(&sources);
    let mut fleet = composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings));
    fleet.nodes.remove(&NodeName::parse("is-1").unwrap()).unwrap()
}

#[tokio::test]
async fn keys_that_the_host_keeps_are_no_reason_for_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir_all(home.join("repository/conf")).unwrap();
    let cache = Cache::open(&dir.path().join("data")).unwrap();
    let old = node(&home, "[server]\nhostname = \"a\"\n[cache]\nsize = 1\n");
    let coming = |node: &ComposedNode, in_force: Option<&ComposedNode>| {
        for node in [Some(node), in_force].into_iter().flatten() {
            for (digest, content) in &node.contents {
                cache.write(digest, content).unwrap();
            }
        }
        Coming {
            bundle: Arc::new(node.bundle.clone()),
            in_force: in_force.map(|node| Arc::new(node.bundle.clone())),
            cache: cache.clone(),
        }
    };
    let on_disk = |text: &str| fs::write(home.join(CONFIG), text).unwrap();

    // Edited on the host: the edit stays, so nothing changes for the server.
    on_disk(&old.config_text.replace("size = 1", "size = 9"));
    assert!(!coming(&old, Some(&old)).restarts().await);
    assert!(
        !coming(&old, None).restarts().await,
        "in a home that nobody managed, what lies there is the host's"
    );
    // Another key changes.
    let other = node(&home, "[server]\nhostname = \"b\"\n[cache]\nsize = 1\n");
    assert!(coming(&other, Some(&old)).restarts().await);
    // Left alone on the host: the new value comes, and the server has to read it.
    on_disk(&old.config_text);
    let larger = node(&home, "[server]\nhostname = \"a\"\n[cache]\nsize = 2\n");
    assert!(coming(&larger, Some(&old)).restarts().await);
    assert!(!coming(&old, Some(&old)).restarts().await);
}
