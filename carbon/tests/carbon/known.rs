//! The derived set of known keys against lists that were made independently of this code.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test reads files and reports; the library does neither"
)]

use crate::common;

use std::collections::BTreeSet;

use carbon::known::{KnownKeys, Shape};

#[test]
fn the_derived_keys_are_those_of_the_lists() {
    let Some(shared) = common::shared() else { return };
    for name in ["is-6.0.0", "is-7.2.0", "apim-4.2.0", "apim-4.5.0"] {
        let known = KnownKeys::of(&common::pack(&shared, name));
        let list = std::fs::read_to_string(shared.join(format!("known-keys/{name}.tsv"))).unwrap();
        let listed: BTreeSet<&str> = list
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split('\t').next().unwrap())
            .filter(|key| !key.is_empty())
            .collect();
        let missing: Vec<&&str> = listed.iter().filter(|key| !known.contains(key)).collect();
        let ours: BTreeSet<&str> = known.iter().map(|(key, _)| &**key).collect();
        // Tables and arrays that a template tests as a whole are no leaves, so the lists leave them out.
        let extra: Vec<&&str> = ours
            .iter()
            .filter(|key| !listed.contains(**key))
            .filter(|key| known.shape(key) == Shape::default() && !key.is_empty())
            .collect();
        println!(
            "{name}: {} listed, {} derived, missing {missing:?}, extra {extra:?}",
            listed.len(),
            ours.len()
        );
        // A part of a text that was split: no key that anybody can write.
        assert!(missing.iter().all(|key| **key == "clustering.members[][]"), "{name}: {missing:?}");
        assert!(extra.len() * 100 < ours.len() * 2, "{name}: {} extra", extra.len());
    }
}

#[test]
fn official_files_use_hardly_any_unknown_key() {
    let Some(shared) = common::shared() else { return };
    for (name, prefixes) in [
        ("is-7.2.0", ["product-is@v7.3.0", "docker-is@7"]),
        ("apim-4.5.0", ["product-apim@v4.5.0", "product-apim@v4.7.0"]),
        ("apim-4.2.0", ["product-apim@v4.2.0", "docker-apim@4.2"]),
    ] {
        let pack = common::pack(&shared, name);
        let known = KnownKeys::of(&pack);
        let (mut used, mut unknown) = (0, BTreeSet::new());
        let mut uses = 0;
        for (sample, text) in common::files(&shared.join("samples")) {
            if !prefixes.iter().any(|prefix| sample.starts_with(prefix)) {
                continue;
            }
            let Ok(flat) = carbon::flatten::flatten(&String::from_utf8_lossy(&text)) else { continue };
            for key in carbon::flatten::written(&flat.positions)
                .into_keys()
                .filter(|key| !key.starts_with("secrets."))
            {
                used += 1;
                let shape = known.shape(&key);
                if !known.contains(&key) && !shape.list && !shape.table {
                    uses += 1;
                    unknown.insert(key);
                }
            }
        }
        println!("{name}: {used} keys used, {uses} unknown ({} distinct): {unknown:?}", unknown.len());
        assert!(used > 500 && uses * 100 < used * 3, "{name}: {unknown:?}");
    }
}
