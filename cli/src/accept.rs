//! `convoy drift accept`: where in the fleet directory the keys stand that an accepted edit changes.

use std::{collections::BTreeMap, path::Path};

use fleet::{
    ids::NodeName,
    spec::{Absent, Secrets},
};

use crate::{directory, exit::Failure};

/// One line per key of `answer` (the agent's lines `  KEY = VALUE` and `  KEY is removed`): the file and line that sets
/// it now, or the file that a new key belongs to.
///
/// # Errors
/// The directory cannot be read.
pub fn places(dir: &Path, node: &str, answer: &str) -> Result<Vec<String>, Failure> {
    let sources = directory::read(dir)?;
    let secrets = Secrets::new(BTreeMap::new(), Absent::Placeholder);
    let composition = fleet::spec::compose_with(&sources, &secrets);
    let composed = composition.fleet.as_ref().zip(NodeName::parse(node).ok());
    let Some(node_here) = composed.and_then(|(fleet, name)| fleet.nodes.get(&name)) else {
        return Ok(vec![format!("{} does not compose node {node}; see `convoy lint`", dir.display())]);
    };
    let keys = answer.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let place = |key: &str| match node_here.origins.get(key) {
        Some(place) => format!("{key}: {}:{}: {}", place.file, place.line, masked(&place.line_text)),
        None => format!("{key}: new; add it to config/nodes/{node}.toml, or to a layer of its group"),
    };
    Ok(keys.map(place).collect())
}

fn masked(line: &str) -> String {
    fleet::finding::mask_line(line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_where_it_is_set_and_a_new_one_gets_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        let fleet = "name = \"acme\"\n[groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
                     [nodes.is-1]\ngroup = \"km\"\nhost = \"h\"\nhome = \"/opt/is\"\n";
        std::fs::write(dir.path().join("fleet.toml"), fleet).unwrap();
        let layer = "[server]\nhostname = \"a\"\n[super_admin]\npassword = \"geheim\"\n";
        std::fs::write(dir.path().join("config/common.toml"), layer).unwrap();
        let answer = "told:\n  server.hostname = \"b\"\n  super_admin.password = ***\n  server.x is removed";
        let said = places(dir.path(), "is-1", answer).unwrap();
        assert_eq!(said[0], "server.hostname: config/common.toml:2: hostname = \"a\"");
        assert!(
            said[1].starts_with("super_admin.password: config/common.toml:4") && !said[1].contains("geheim")
        );
        assert!(said[2].contains("config/nodes/is-1.toml"), "{said:?}");
    }
}
