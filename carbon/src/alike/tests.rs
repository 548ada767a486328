//! A product of three templates: one reads one key, one a list, one a table of which it does not know the keys.

use super::*;
use crate::flatten::flatten;
use crate::pack::RESOURCES;
use crate::render::render;

const TOML: &str = "server.name = 'a'\nserver.port = 1\nother = 'o'\n[[envs]]\nname = 'x'\n";

fn pack(more: &str) -> Pack {
    let files = [
        ("key-mappings.json", "{}"),
        ("infer.json", "{}"),
        ("default.json", "{}"),
        ("unit-resolve.json", "{}"),
        ("validator.json", "{}"),
        ("templates/a.xml.j2", "{{ server.name }}\n"),
        (
            "templates/b.xml.j2",
            "{% set all = [] %}{% for env in envs %}{% do all.append(env.name) %}{% endfor %}{{ all }}\n",
        ),
        ("templates/c.xml.j2", "{% for key, value in server.items() %}{{ key }}={{ value }} {% endfor %}\n"),
        ("templates/d.xml.j2", more),
    ];
    Pack::load(files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec())).into_iter())
        .unwrap()
}

/// Names of the files that were rendered anew for `toml`, which come out as if rendered alone.
fn anew(more: &str, toml: &str) -> String {
    let (pack, inputs) = (pack(more), Inputs::default());
    let base = Base::new(render(&pack, TOML, &inputs).unwrap());
    let alike = base.render((&pack, &Readers::of(&pack)), flatten(toml).unwrap(), &inputs).unwrap();
    assert_eq!(alike.rendered.files, render(&pack, toml, &inputs).unwrap().files);
    let anew = alike.rendered.files.keys().filter(|file| !alike.taken.contains(*file));
    anew.map(|file| file.trim_end_matches(".xml")).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_readers_of_what_differs_are_rendered() {
    let plain = "{{ other }}\n";
    assert_eq!(anew(plain, TOML), "");
    assert_eq!(anew(plain, &TOML.replace("'a'", "'b'")), "a c");
    assert_eq!(anew(plain, &TOML.replace("port = 1", "port = 2")), "c");
    assert_eq!(anew(plain, &TOML.replace("'x'", "'y'")), "b");
    assert_eq!(anew(plain, &TOML.replace("'o'", "'p'")), "d");
}

#[test]
fn other_keys_or_another_order_of_them_render_everything() {
    assert_eq!(anew("", &format!("more = 1\n{TOML}")), "a b c d");
    assert_eq!(anew("", &TOML.replace("other = 'o'\n", "")), "a b c d");
}

#[test]
fn what_prints_a_value_that_is_a_template_may_read_anything() {
    let nested = TOML.replace("'o'", "'{{ server.port }}'");
    let (pack, inputs) = (pack("{{ other }}\n"), Inputs::default());
    let base = Base::new(render(&pack, &nested, &inputs).unwrap());
    let other = nested.replace("port = 1", "port = 2");
    let alike = base.render((&pack, &Readers::of(&pack)), flatten(&other).unwrap(), &inputs).unwrap();
    assert_eq!(alike.rendered.files["d.xml"], "2\n");
    assert_eq!(anew("{{ other }}\n", &nested), "d", "the value alone is a template now");
    assert_eq!(alike.taken.iter().map(|file| &**file).collect::<Vec<_>>(), ["a.xml", "b.xml"]);
}

#[test]
fn what_alters_a_value_that_is_not_there_alters_nothing() {
    assert_eq!(anew("# {% if list.append(1) %}{% endif %}\n", &TOML.replace("'o'", "'p'")), "");
}

#[test]
fn a_template_that_may_alter_what_others_see_leaves_nothing_out() {
    assert_eq!(anew("{% do envs.append(1) %}\n", &TOML.replace("'o'", "'p'")), "a b c d");
    let sometimes = "{% set l = [] %}{% if other %}{% set l = envs %}{% endif %}{% do l.append(1) %}\n";
    assert_eq!(anew(sometimes, &TOML.replace("'o'", "'p'")), "a b c d");
}

#[test]
fn a_name_that_only_one_branch_binds_is_a_key_in_the_other() {
    let shadowed = "{% if server.port == 7 %}{% set other = 'x' %}{% endif %}{{ other }}\n";
    assert_eq!(anew(shadowed, &TOML.replace("'o'", "'p'")), "d");
}
