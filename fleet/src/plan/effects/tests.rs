use std::fmt::Write as _;

use super::*;
use crate::{
    pack::Resources,
    spec::{Sources, compose},
};

const ROOT: &str = "repository/resources/conf/";

/// A pack with one of each way to a value: typed, inferred, by default, by reference.
fn pack(template: &str, default_mode: &str) -> PackFacts {
    let defaults = format!(
        r#"{{"feature.mode": "{default_mode}", "server.url": "https://$ref{{server.hostname}}:9443"}}"#
    );
    let files = [
        ("key-mappings.json", "{}"),
        (
            "infer.json",
            r#"{"database.$1.type": {"mysql": {"database.$1.driver": "com.mysql"}, "h2": {"database.$1.driver": "org.h2"}}}"#,
        ),
        ("default.json", &defaults),
        ("unit-resolve.json", "{}"),
        ("validator.json", r#"{"server.hostname": [{"regex": "[a-z.]+"}]}"#),
        ("templates/conf/a.xml.j2", template),
    ];
    let files = files.map(|(path, text)| (format!("{ROOT}{path}"), text.as_bytes().to_vec()));
    Resources::new(files).unwrap().facts().unwrap()
}

const TEMPLATE: &str = "<a>\n<h>{{ server.hostname }}</h>\n<u>{{ server.url }}</u>\n<d>{{ database.main.driver }}</d>\n\
                        <n>{{ super_admin.password }}</n>\n<mode>{{ feature.mode }}</mode>\n</a>";

fn node(layer: &str) -> ComposedNode {
    let fleet = "name = \"one\"\n[groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
                 [nodes.is-1]\ngroup = \"km\"\nhost = \"h1\"\nhome = \"/opt/is\"\n";
    let mut sources = Sources::default();
    sources.0.insert("fleet.toml".into(), fleet.into());
    sources.0.insert("config/common.toml".into(), layer.into());
    let composition = compose(&sources);
    let fleet = composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings));
    fleet.nodes.into_values().next().unwrap()
}

fn layer(host: &str, database: &str, password: &str) -> String {
    format!(
        "[server]\nhostname = \"{host}\"\n[database.main]\ntype = \"{database}\"\n[super_admin]\npassword = \"{password}\"\n"
    )
}

fn between(old: (&str, &PackFacts), new: (&str, &PackFacts)) -> Effects {
    let (before, after) = (node(old.0), node(new.0));
    let name = NodeName::parse("is-1").unwrap();
    let reading = Before { facts: old.1, service: &before.bundle.service, text: &before.config_text };
    effects(&name, Some(reading), (&after, new.1))
}

/// As a reviewer would read it.
fn show(effects: &Effects) -> String {
    let mut out = format!("{} rendered\n", effects.rendered);
    for change in &effects.files {
        writeln!(out, "{} {} +{} -{}", change.path, change.kind.as_str(), change.added, change.removed)
            .unwrap();
        let FileDiff::Lines { lines, .. } = &change.diff else { continue };
        for line in lines {
            let sign = match line.kind {
                diff::LineKind::Hunk | diff::LineKind::Same => continue,
                diff::LineKind::Removed => '-',
                diff::LineKind::Added => '+',
            };
            writeln!(out, "  {sign}{}", line.text).unwrap();
        }
    }
    for change in &effects.derived {
        writeln!(out, "{}: {:?} -> {:?}, {}", change.key, change.old, change.new, change.why).unwrap();
    }
    out.extend(effects.unrendered.iter().map(String::as_str));
    out
}

#[track_caller]
fn check(effects: &Effects, expected: &str) {
    let shown = show(effects);
    assert!(shown == expected, "expected:\n{expected}\ngot:\n{shown}");
}

#[test]
fn a_typed_change_shows_in_files_and_in_what_follows_from_it() {
    let pack = pack(TEMPLATE, "a");
    let effects =
        between((&layer("one", "h2", "hunter2"), &pack), (&layer("two", "mysql", "hunter2"), &pack));
    check(
        &effects,
        "1 rendered
conf/a.xml changed +3 -3
  -<h>one</h>
  -<u>https://one:9443</u>
  -<d>org.h2</d>
  +<h>two</h>
  +<u>https://two:9443</u>
  +<d>com.mysql</d>
database.main.driver: Some(\"\\\"org.h2\\\"\") -> Some(\"\\\"com.mysql\\\"\"), follows from database.main.type = \"mysql\"
server.url: Some(\"\\\"https://one:9443\\\"\") -> Some(\"\\\"https://two:9443\\\"\"), the product's default
",
    );
}

#[test]
fn a_secret_is_hidden_on_both_sides_under_whatever_name_a_template_prints_it() {
    let pack = pack(TEMPLATE, "a");
    let effects =
        between((&layer("one", "h2", "hunter2"), &pack), (&layer("one", "h2", "other-secret"), &pack));
    check(&effects, "1 rendered\nconf/a.xml changed +1 -1\n  -<n>********</n>\n  +<n>********</n>\n");
}

#[test]
fn a_template_that_changed_in_place_shows_with_the_same_deployment_toml() {
    let (old, new) = (pack(TEMPLATE, "a"), pack(&TEMPLATE.replace("<h>", "<host>"), "b"));
    let text = layer("one", "h2", "hunter2");
    check(
        &between((&text, &old), (&text, &new)),
        "1 rendered
conf/a.xml changed +2 -2
  -<h>one</h>
  +<host>one</h>
  -<mode>a</mode>
  +<mode>b</mode>
feature.mode: Some(\"\\\"a\\\"\") -> Some(\"\\\"b\\\"\"), the product's default
",
    );
    check(&between((&text, &old), (&text, &old)), "1 rendered\n");
}

#[test]
fn what_a_key_falls_back_to_is_told_when_it_is_no_longer_set() {
    let pack = pack(TEMPLATE, "a");
    let text = layer("one", "h2", "hunter2");
    let typed = format!("{text}[feature]\nmode = \"z\"\n");
    check(
        &between((&typed, &pack), (&text, &pack)),
        "1 rendered
conf/a.xml changed +1 -1
  -<mode>z</mode>
  +<mode>a</mode>
feature.mode: Some(\"\\\"z\\\"\") -> Some(\"\\\"a\\\"\"), no longer set; the product's default
",
    );
}

#[test]
fn a_refusal_of_either_side_is_told_and_compares_nothing() {
    let pack = pack(TEMPLATE, "a");
    let (good, bad) = (layer("one", "h2", "hunter2"), layer("ONE", "h2", "hunter2"));
    let effects = between((&good, &pack), (&bad, &pack));
    assert!(effects.files.is_empty() && effects.derived.is_empty());
    let why = effects.unrendered.unwrap();
    assert!(why.starts_with("the new deployment.toml does not render: the server would not start"), "{why}");
    let why = between((&bad, &pack), (&good, &pack)).unrendered.unwrap();
    assert!(why.starts_with("the old deployment.toml does not render"), "{why}");
}
