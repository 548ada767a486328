//! A small product with a table that lies over typed keys, and one that is printed only when a switch is on.

use super::*;
use crate::pack::RESOURCES;

fn pack() -> Pack {
    let files = [
        ("key-mappings.json", r#"{"old.name": "server.name"}"#),
        ("infer.json", r#"{"db.type": {"mysql": {"db.driver": "com.mysql"}}}"#),
        ("default.json", r#"{"tool": {"enabled": "true"}, "server.port": 1}"#),
        ("unit-resolve.json", "{}"),
        ("validator.json", "{}"),
        (
            "templates/a.xml.j2",
            "{{ server.name }} {{ db.driver }} {{ tool.enabled }}\n{% if mail.on %}{{ mail.host }}{% endif %}\n\
             {% for env in envs %}{{ env.name }}{% endfor %}\n",
        ),
        ("templates/b.xml.j2", "{% if mode == 'special' %}yes{% endif %}\n"),
    ];
    Pack::load(files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec())).into_iter())
        .unwrap()
}

fn matters(toml: &str, key: &str) -> bool {
    let (pack, inputs) = (pack(), Inputs::default());
    let readers = Readers::of(&pack);
    let typed = crate::flatten::flatten(toml).unwrap();
    let base = Base::new(crate::render(&pack, toml, &inputs).unwrap());
    Effects { pack: &pack, readers: &readers, inputs: &inputs, typed: &typed, base: &base }.matters(key)
}

#[test]
fn values_that_are_printed_mapped_or_inferred_from_matter() {
    let toml = "old.name = 'a'\ndb.type = 'mysql'\n[[envs]]\nname = 'x'\nother = 'y'\n";
    assert!(matters(toml, "old.name") && matters(toml, "db.type") && matters(toml, "envs[].name"));
    assert!(!matters(toml, "envs[].other"));
}

#[test]
fn a_value_behind_a_switch_that_is_off_does_not_matter() {
    assert!(matters("mail.on = true\nmail.host = 'h'\n", "mail.host"));
    assert!(!matters("mail.on = false\nmail.host = 'h'\n", "mail.host"));
    assert!(matters("mail.on = false\nmail.host = 'h'\n", "mail.on"));
}

#[test]
fn a_whole_table_by_default_lies_over_the_keys_in_it() {
    let pack = pack();
    assert_eq!(covering_default(&pack, "tool.enabled").map(|table| &**table), Some("tool"));
    assert_eq!(covering_default(&pack, "server.port"), None);
    // Whether it really does depends on the order of the mapper's map, so what is said is what a render gives.
    let toml = "tool.enabled = 'false'\n";
    let shown = crate::render(&pack, toml, &Inputs::default()).unwrap().files["a.xml"].contains("false");
    assert_eq!(matters(toml, "tool.enabled"), shown);
    let readers = Readers::of(&pack);
    assert_eq!(would_matter((&pack, &readers), "", &Inputs::default(), "tool.enabled"), shown);
    assert!(would_matter((&pack, &readers), "", &Inputs::default(), "server.name"));
}
