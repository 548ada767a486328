//! Every case that WSO2's own config-mapper was run on, byte for byte. Skips when the recordings are not at hand.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test reads files and reports; the library does neither"
)]

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::common::files;
use carbon::reference::Inputs;
use carbon::render;

fn inputs(golden: &Path) -> Inputs {
    let text = std::fs::read_to_string(golden.join("env.txt")).unwrap();
    let environment = text.lines().filter_map(|line| line.split_once('='));
    Inputs {
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        system_properties: BTreeMap::from([("carbon.home".into(), "/opt/wso2".into())]),
        ..Inputs::default()
    }
}

/// Line and both texts of the first difference.
fn first_difference(ours: &str, theirs: &str) -> String {
    let (mut a, mut b) = (ours.split('\n'), theirs.split('\n'));
    for line in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (x, y) if x != y => return format!("line {line}:\n      ours   {x:?}\n      theirs {y:?}"),
            _ => {}
        }
    }
    "none".into()
}

struct Tally {
    cases: usize,
    files: usize,
    errors: usize,
    failures: Vec<String>,
}

fn check_pack(shared: &Path, name: &str, inputs: &Inputs, tally: &mut Tally) {
    let home = shared.join("packs").join(name);
    let pack = common::pack(shared, name);
    let golden = shared.join("golden").join(name);
    let default: BTreeMap<String, Vec<u8>> = files(&golden.join("default")).into_iter().collect();
    let results = std::fs::read_to_string(golden.join("results.tsv")).unwrap();
    for line in results.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let (case, outcome) = (columns.next().unwrap(), columns.next().unwrap());
        let toml = match case {
            "default" => home.join("repository/conf/deployment.toml"),
            sample => shared.join("samples").join(format!("{sample}.toml")),
        };
        let toml = std::fs::read_to_string(toml).unwrap();
        tally.cases += 1;
        let rendered = render(&pack, &toml, inputs);
        let rendered = match (rendered, outcome) {
            (Ok(rendered), "ok") => rendered,
            (Err(error), "error") => {
                let ours = format!("{}: {error}", error.exception());
                let theirs = columns.next().unwrap_or_default();
                tally.errors += 1;
                if ours != theirs {
                    tally
                        .failures
                        .push(format!("{name} {case}: error\n      ours   {ours}\n      theirs {theirs}"));
                }
                continue;
            }
            (Ok(_), _) => {
                tally.failures.push(format!("{name} {case}: rendered, but the mapper refuses: {line}"));
                continue;
            }
            (Err(error), _) => {
                tally.failures.push(format!("{name} {case}: refused, but the mapper renders: {error}"));
                continue;
            }
        };
        let mut expected = default.clone();
        if case != "default" && golden.join(case).is_dir() {
            expected.extend(files(&golden.join(case)));
        }
        let ours: BTreeSet<&str> = rendered.files.keys().map(|path| &**path).collect();
        let theirs: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
        if ours != theirs {
            tally.failures.push(format!("{name} {case}: files {:?}", ours.symmetric_difference(&theirs)));
        }
        for (path, text) in &rendered.files {
            let Some(wanted) = expected.get(&**path) else { continue };
            tally.files += 1;
            if text.as_bytes() != wanted.as_slice() {
                let difference = first_difference(text, &String::from_utf8_lossy(wanted));
                tally.failures.push(format!("{name} {case}: {path}: {difference}"));
            }
        }
    }
}

#[test]
fn every_recorded_case_is_reproduced_byte_for_byte() {
    let Some(shared) = common::shared() else { return };
    let inputs = inputs(&shared.join("golden"));
    let mut tally = Tally { cases: 0, files: 0, errors: 0, failures: Vec::new() };
    for pack in ["is-6.0.0", "is-7.2.0", "apim-4.2.0", "apim-4.5.0"] {
        check_pack(&shared, pack, &inputs, &mut tally);
    }
    println!("{} cases: {} files compared, {} refusals compared", tally.cases, tally.files, tally.errors);
    let shown: Vec<&str> = tally.failures.iter().take(40).map(String::as_str).collect();
    assert!(tally.failures.is_empty(), "{} differences\n  {}", tally.failures.len(), shown.join("\n  "));
    assert!(80 < tally.cases && 4000 < tally.files, "the recordings are incomplete");
}

#[test]
fn every_official_file_is_toml_for_the_mapper() {
    let Some(shared) = common::shared() else { return };
    let (mut read, mut refused) = (0, BTreeMap::new());
    for (name, text) in files(&shared.join("samples")) {
        match carbon::flatten::flatten(&String::from_utf8_lossy(&text)) {
            Ok(_) => read += 1,
            Err(error) => {
                let detail = match &error {
                    carbon::MapperError::Toml { errors } => errors[0].to_string(),
                    other => other.to_string(),
                };
                refused.insert(name, detail);
            }
        }
    }
    println!("{read} files read, {} refused: {refused:#?}", refused.len());
    assert!(200 < read && refused.len() * 50 < read, "{refused:#?}");
}

/// Values that no template expects: where one decides something, the output changes with it.
fn another(value: &carbon::Value) -> Option<carbon::Value> {
    use carbon::Value;
    match value {
        Value::Text(text) if matches!(&**text, "true" | "false") => Some(Value::Bool(&**text != "true")),
        Value::Text(text) => Some(Value::text(&format!("{text}0"))),
        Value::Bool(flag) => Some(Value::Bool(!flag)),
        Value::Long(number) => Some(Value::Long(number.wrapping_add(1))),
        Value::List(items) => Some(Value::List(items.iter().rev().skip(1).cloned().collect())),
        Value::Null | Value::Integer(_) | Value::Double(_) | Value::Time(_) | Value::Map(_) => None,
    }
}

/// With each typed key changed in turn, what is rendered beside a base is what is rendered alone.
fn check_alike(shared: &Path, name: &str, inputs: &Inputs) -> (usize, usize) {
    let pack = common::pack(shared, name);
    let readers = carbon::alike::Readers::of(&pack);
    let (mut taken, mut rendered) = (0, 0);
    let mut samples = files(&shared.join("samples"));
    samples.retain(|(path, _)| path.ends_with(".toml"));
    samples.sort();
    // Some of them: all take minutes and show no more.
    for (path, toml) in samples.iter().step_by(60) {
        let Ok(typed) = carbon::flatten::flatten(&String::from_utf8_lossy(toml)) else { continue };
        let Ok(alone) = carbon::render_typed(&pack, typed.clone(), inputs) else { continue };
        let base = carbon::alike::Base::new(alone);
        let changed: Vec<_> =
            typed.data.iter().filter_map(|(key, value)| Some((key.clone(), another(value)?))).collect();
        for (key, value) in changed {
            let mut typed = typed.clone();
            typed.data.put(key.clone(), value);
            let Ok(alone) = carbon::render_typed(&pack, typed.clone(), inputs) else { continue };
            let alike = base.render((&pack, &readers), typed, inputs).unwrap();
            for (file, text) in &alone.files {
                assert!(alike.rendered.files[file] == *text, "{path} in {name}: {file} depends on {key}");
            }
            taken += alike.taken.len();
            rendered += alone.files.len() - alike.taken.len();
        }
    }
    (taken, rendered)
}

#[test]
fn files_that_are_taken_from_an_alike_one_are_what_a_render_gives() {
    let Some(shared) = common::shared() else { return };
    let inputs = inputs(&shared.join("golden"));
    for name in ["is-7.2.0", "apim-4.5.0", "is-6.0.0", "apim-4.2.0"] {
        let (taken, rendered) = check_alike(&shared, name, &inputs);
        println!("{name}: {taken} files taken, {rendered} rendered");
        assert!(rendered < taken, "{name}: hardly anything is left out");
    }
}
