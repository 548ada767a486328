//! What the programs are made of: a CycloneDX bill of materials and the licences, from cargo's own metadata.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::cargo::cargo;

/// The package of each program.
const PROGRAMS: [(&str, &str); 3] = [
    ("convoy", "convoy-cli"),
    ("convoy-agent", "convoy-agent"),
    ("convoy-coordinator", "convoy-coordinator"),
];

/// Writes `<program>.sbom.json` and `<program>.licences.txt` into `out` for programs of one processor.
///
/// # Errors
/// cargo does not tell, or the files cannot be written.
pub fn write(out: &Path, processor: &str) -> Result<()> {
    let platform = format!("{processor}-unknown-linux-gnu");
    let mut asked = cargo();
    asked.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &platform]);
    let output = asked.output().context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    for (program, package) in PROGRAMS {
        let parts = parts(&metadata, &packages, package)?;
        let bill = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": { "type": "application", "name": program, "version": env!("CARGO_PKG_VERSION") } },
            "components": parts.iter().map(|part| component(part)).collect::<Vec<_>>(),
        });
        let text = serde_json::to_string_pretty(&bill)?;
        fs::write(out.join(format!("{program}.sbom.json")), text + "\n")?;
        let lines: Vec<_> = parts
            .iter()
            .map(|part| {
                format!("{} {}: {}", word(part, "name"), word(part, "version"), word(part, "license"))
            })
            .collect();
        let head = format!(
            "{program} is under Apache-2.0. It contains these libraries, each under its own licence:\n\n"
        );
        fs::write(out.join(format!("{program}.licences.txt")), head + &lines.join("\n") + "\n")?;
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or("unknown")
}

/// Everything that is linked into a package's program: what it depends on by more than its tests and build scripts.
fn parts<'a>(
    metadata: &'a Value,
    packages: &BTreeMap<&'a str, &'a Value>,
    program: &str,
) -> Result<Vec<&'a Value>> {
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let root = packages.iter().find(|(_, package)| word(package, "name") == program).map(|(id, _)| *id);
    let root = root.with_context(|| format!("cargo knows no package {program}"))?;
    let (mut seen, mut next) = (BTreeSet::from([root]), vec![root]);
    while let Some(id) = next.pop() {
        let Some(node) = nodes.get(id) else { continue };
        for dependency in list(&node["deps"]) {
            // A kind of null is an ordinary dependency.
            let is_linked = list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            if let Some(id) = dependency["pkg"].as_str().filter(|_| is_linked)
                && seen.insert(id)
            {
                next.push(id);
            }
        }
    }
    seen.remove(root);
    let mut parts: Vec<_> = seen.iter().filter_map(|id| packages.get(id).copied()).collect();
    parts.sort_by_key(|part| (word(part, "name"), word(part, "version")));
    Ok(parts)
}

fn component(package: &Value) -> Value {
    let (name, version) = (word(package, "name"), word(package, "version"));
    let mut component = json!({
        "type": "library",
        "name": name,
        "version": version,
        "licenses": [{ "expression": word(package, "license") }],
    });
    // Ours come from no registry.
    if package["source"].is_string() {
        component["purl"] = json!(format!("pkg:cargo/{name}@{version}"));
    }
    component
}
