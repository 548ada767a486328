//! The rules of the dialect, one table per group. Expectations were reasoned from jinjava's source and confirmed by
//! the recordings where those reach.

use std::sync::Arc;

use super::*;
use crate::dialect::Version;
use crate::json;

const NEW: Dialect = Dialect::NEWEST;
const JINJAVA_26: Dialect = Dialect { mapper: Version::new(1, 0, 20), jinjava: Version::new(2, 6, 0) };
const JINJAVA_272: Dialect = Dialect { mapper: Version::new(1, 0, 23), jinjava: Version::new(2, 7, 2) };

fn render(template: &str, values: &str, dialect: Dialect) -> String {
    let table = json::object(values.as_bytes()).unwrap();
    let tree: Ordered<Val> =
        table.into_entries().into_iter().map(|(k, v)| (k, Val::from_value(&v))).collect();
    match Template::parse(template, dialect).render(&tree, &Work::default()) {
        Ok(text) => text.strip_suffix('\n').unwrap_or(&text).to_owned(),
        Err(fault) => format!("line {}: {}", fault.line, fault.message),
    }
}

const VALUES: &str = r#"{
    "yes": true, "no": false, "text_yes": "true", "text_no": "FALSE", "blank": "", "nothing": null,
    "n": 5, "half": 0.5, "name": "ann", "list": ["a", "b"], "map": {"x": 1, "y": {"z": "deep"}},
    "rows": [{"id": "r1", "tags": ["t"]}, {"id": "r2"}], "cycle": "{{ cycle }}", "inner": "<{{ name }}>",
    "long": "a:b:c"
}"#;

#[track_caller]
fn check(table: &[(&str, &str)]) {
    for (template, expected) in table {
        assert_eq!(render(template, VALUES, NEW), *expected, "{template}");
    }
}

#[test]
fn unknown_names_are_null_all_the_way() {
    check(&[
        ("[{{ missing }}]", "[]"),
        ("[{{ missing.a.b }}]", "[]"),
        ("[{% for x in missing %}x{% endfor %}]", "[]"),
        ("[{% for k, v in missing.items() %}x{% endfor %}]", "[]"),
        ("{{ nothing is defined }} {{ missing is not defined }} {{ blank is defined }}", "false true true"),
        ("[{{ name.anything }}]", "[]"),
        ("[{{ list.anything }}]", "[]"),
    ]);
}

#[test]
fn the_text_false_is_false_and_identity_is_not_equality() {
    check(&[
        ("{% if text_no %}t{% else %}f{% endif %}", "f"),
        ("{% if text_yes %}t{% else %}f{% endif %}", "t"),
        ("{% if blank %}t{% else %}f{% endif %}", "f"),
        ("{{ yes is sameas true }} {{ text_yes is sameas true }}", "true false"),
        ("{{ no is sameas false }} {{ missing is sameas false }}", "true false"),
        ("{{ text_yes is not sameas true }}", "true"),
        ("{{ yes == 'anything' }} {{ text_yes == true }} {{ yes == 'false' }}", "true true false"),
    ]);
}

#[test]
fn and_gives_a_boolean_and_or_an_operand() {
    check(&[
        ("{{ missing && name }}", "false"),
        ("{{ name and n }}", "true"),
        ("{{ missing or name }}", "ann"),
        ("{{ missing || '' }}", ""),
        ("{{ !name }} {{ not missing }}", "false true"),
        ("{% if name is defined && n is sameas true %}x{% else %}y{% endif %}", "y"),
    ]);
}

#[test]
fn default_replaces_only_null_and_makes_text() {
    check(&[
        ("[{{ blank | default('d') }}]", "[]"),
        ("{{ missing | default('d') }} {{ missing | d(7) }}", "d 7"),
        ("{% if missing | default(false) %}t{% else %}f{% endif %}", "f"),
        (
            "{{ missing | default(false) is string }}",
            "line 1: Error parsing 'missing | default(false) is string': syntax error at position 25, encountered 'is', expected }",
        ),
        ("{{ (missing | default(5)) is number }}", "false"),
        ("{{ blank | default('d', true) }}", "d"),
        ("{{ missing | default([1]) | length }}", "1"),
    ]);
    assert_eq!(render("[{{ missing | default(nothing) }}]", VALUES, NEW), "[]");
    assert_eq!(render("[{{ missing | default(nothing) }}]", VALUES, JINJAVA_26), "[null]");
}

#[test]
fn loops_take_lists_values_of_maps_and_single_values() {
    check(&[
        ("{% for x in list %}{{ loop.index }}{{ x }}{{ ',' if not loop.last }}{% endfor %}", "1a,2b"),
        ("{% for x in map %}{{ x }};{% endfor %}", "1.0;{z=deep};"),
        ("{% for x in name %}<{{ x }}>{% endfor %}", "<ann>"),
        ("{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}", "x=1.0;y={z=deep};"),
        ("{% for e in map.items() %}{{ e.key }};{% endfor %}", "x;y;"),
        ("{% for r in rows %}{{ r.id }}{% for t in r.tags %}{{ t }}{% endfor %}{% endfor %}", "r1tr2"),
        (
            "{% for x in list %}{{ loop.first }}{{ loop.revindex0 }}{{ loop.length }} {% endfor %}",
            "true12false02",
        ),
        ("{% for x in list.toList() %}{{ x }}{% endfor %}", "ab"),
        (
            "{% for x list %}{% endfor %}",
            "line 1: Syntax error in 'x list': Tag 'for' expects valid 'in' clause, got:  x list ",
        ),
    ]);
}

#[test]
fn assignments_last_for_the_loop_and_leave_it_only_through_namespaces_and_lists() {
    check(&[
        ("{% set a = 1 %}{% for x in list %}{% set a = x %}{% endfor %}{{ a }}", "1"),
        ("{% for x in list %}{{ seen }}{% set seen = x %}{% endfor %}", "a"),
        (
            "{% set ns = namespace(n=0) %}{% for x in list %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        ),
        ("{% set c = [] %}{% for x in list %}{% if c.append(1) %}{% endif %}{% endfor %}{{ c|length }}", "2"),
        ("{% set a, b = 1, 2 %}{{ a }}{{ b }}", "12"),
        ("{% if yes %}{% set a = 3 %}{% endif %}{{ a }}", "3"),
        ("{% set name = missing %}[{{ name }}]", "[]"),
        ("{% for x in list %}{% set name = missing %}{{ name }}{% endfor %}", "annann"),
        ("{% set block %}<{{ name }}>{% endset %}{{ block }}", "<ann>"),
    ]);
}

#[test]
fn values_print_as_in_java() {
    check(&[
        ("{{ n }} {{ half }} {{ yes }}", "5.0 0.5 true"),
        ("{{ list }} {{ map }}", "[a, b] {x=1.0, y={z=deep}}"),
        ("{{ [1, 'x', none] }}", "[1, x, null]"),
        ("{{ map | tojson }}", r#"{"x":1.0,"y":{"z":"deep"}}"#),
        ("{{ '<&>' }}", "<&>"),
        ("{{ list | join(', ') }} {{ rows | map(attribute='id') | join }}", "a, b r1r2"),
        (
            "{{ 1 + 2 }} {{ 1 + '2' }} {{ 7 / 2 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 3 }} {{ 'a' ~ missing }}",
            "3 12 3.5 3 3 8 a",
        ),
        ("{{ missing + 'a' }}", "nulla"),
        ("{{ -n }} {{ - n }}", "5.0 5.0"),
    ]);
}

#[test]
fn operators_convert_as_in_java() {
    check(&[
        ("{{ n == 5 }} {{ n == '5' }} {{ name == 'ann' }} {{ name != 'bob' }}", "true true true true"),
        ("{{ n > 4 }} {{ n >= 5 }} {{ 'a' < 'b' }} {{ missing < 5 }}", "true true true false"),
        (
            "{{ 5 == 'x' }}",
            "line 1: Cannot coerce 'x' of class java.lang.String to class java.lang.Long (incompatible value)",
        ),
        (
            "{{ 'a' in list }} {{ 'c' not in list }} {{ 'nn' in name }} {{ 'x' in map }} {{ 'a' in missing }}",
            "true true true true false",
        ),
        ("{{ yes ? 'a' : 'b' }} {{ 'a' if no else 'b' }} [{{ 'a' if no }}]", "a b []"),
        ("{{ not name is defined }} {{ 1 + list|length }}", "false 3"),
        ("{{ list[0] }} {{ list[-1] }} [{{ list[9] }}] {{ map['y'].z }} {{ list[0:1] }}", "a b [] deep [a]"),
    ]);
}

#[test]
fn methods_are_those_of_java_and_python() {
    check(&[
        ("{{ long.split(':')[1] }} {{ long.split(':')|length }}", "b 3"),
        ("{{ list.contains('a') }} {{ list.index('b') }} {{ list.index('c') }}", "true 1 -1"),
        ("{{ name.toUpperCase() }} {{ name.length() }}", "ANN 3"),
        (
            "{{ name.toList() }}",
            "line 1: Cannot find method toList with 0 parameters in class java.lang.String",
        ),
        ("{% do list.append('z') %}{{ list }}", "[a, b, z]"),
        ("{{ name | unknown_filter }}|{{ name is unknown_test }}", "|"),
        ("{{ unknown_function() }}", "line 1: Could not resolve function 'unknown_function'"),
    ]);
}

#[test]
fn blanks_before_tags_and_one_line_end_after_them_vanish() {
    check(&[
        ("a {% if yes %} b {% endif %} c", "a b c"),
        ("a\n  {% if yes %}\n  b\n  {% endif %}\nc", "a\n  b\nc"),
        ("a {{ name }} b", "a ann b"),
        ("a\t{%- if yes -%}  b  {%- endif -%}  c", "abc"),
        ("a {{- name -}} b", "a ann b"),
    ]);
}

#[test]
fn versions_differ_in_trimming() {
    let after_else = "{% if no %}x{% else -%}\n  y{% endif %}|{% set a = 1 -%}\n  z";
    assert_eq!(render(after_else, VALUES, JINJAVA_26), "  y|  z");
    assert_eq!(render(after_else, VALUES, JINJAVA_272), "y|z");
    let comment = "a  {# c #}\nb";
    assert_eq!(render(comment, VALUES, JINJAVA_272), "a  \nb");
    assert_eq!(render(comment, VALUES, NEW), "ab");
}

#[test]
fn broken_templates_are_forgiven_where_jinjava_forgives() {
    check(&[
        ("% if yes %}a{% endif %}b", "% if yes %}ab"),
        ("{% endfor %}a", "a"),
        ("{% else %}a{% elif x %}b", "ab"),
        ("a {{ name", "a {{ name"),
        (
            "{% if yes %}a",
            "line 1: Syntax error in '{% if yes %}': Missing end tag: endif for tag defined as: {% if yes %}",
        ),
        (
            "{% if yes %}{% endfor %}",
            "line 1: Syntax error in '{% endfor %}': Mismatched end tag, expected: endif",
        ),
        ("{% nonsense %}", "line 1: Syntax error in '{% nonsense %}': Unknown tag: nonsense"),
        ("{% if name == '%}' %}a{% else %}b{% endif %}", "b"),
        ("{% raw %}{{ name }}{% endraw %}", "{{ name }}"),
    ]);
    assert_eq!(
        render("a\n\n{{ x y }}", VALUES, NEW),
        "line 3: Error parsing 'x y': syntax error at position 2, encountered 'y', expected }"
    );
    assert_eq!(
        render("{% if no %}{{ x y }}{% endif %}ok", VALUES, NEW),
        "ok",
        "errors count only when reached"
    );
}

#[test]
fn a_printed_template_is_rendered_once_more() {
    check(&[("{{ inner }}", "<ann>"), ("{{ cycle }}", "{{ cycle }}")]);
}

#[test]
fn macros_take_defaults_and_names_and_do_not_recurse() {
    check(&[
        (
            "{% macro m(a, b='x') %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}",
            "[1x][12][43]",
        ),
        ("{% macro m(a) %}{{ a }}{{ m(a) }}{% endmacro %}{{ m('q') }}", "q"),
    ]);
}

#[test]
fn every_bound_ends_in_a_clear_error() {
    let table = [
        (format!("{}x{}", "{% if yes %}".repeat(500), "{% endif %}".repeat(500)), "tags nest deeper"),
        (format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), "nests deeper"),
        (format!("{{{{ {}1 }}}}", "- - ".repeat(5000)), "nests deeper"),
        (format!("{{{{ 1{} }}}}", " + 1".repeat(5000)), "more than 500 parts"),
        (format!("{{{{ x{} }}}}", ".a".repeat(5000)), "more than 500 parts"),
        ("{% set l = range(1000) %}{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}".to_owned(),
            "more than 1000000 rounds"),
        ("{% set s = 'x' %}{% for a in range(100) %}{% set s = s + s %}{% endfor %}".to_owned(), "too large"),
        ("{% for a in range(1000) %}{% for b in range(900) %}{{ '0123456789012345678901234567890123456789' }}{% endfor %}{% endfor %}".to_owned(),
            "output is longer"),
        ("{% set a = [] %}{% set b = [a] %}{% do a.append(b) %}{{ a }}".to_owned(), "nests too deep"),
    ];
    for (template, message) in table {
        let outcome = render(&template, VALUES, NEW);
        assert!(
            outcome.contains(message),
            "{}: {}",
            &template[..40.min(template.len())],
            &outcome[..200.min(outcome.len())]
        );
    }
}

#[test]
fn deep_containers_are_freed_without_recursion() {
    let template = "{% set l = [] %}{% for a in range(1000) %}{% for b in range(500) %}{% set ns = 0 %}{% endfor %}{% endfor %}\
                    {% set x = [] %}{% for a in range(1000) %}{% set x = [x] %}{% endfor %}done";
    assert_eq!(render(template, VALUES, NEW), "done");
    let mut deep = Val::list(Vec::new());
    for _ in 0..200_000 {
        deep = Val::list(vec![deep]);
    }
    drop(deep);
}

#[test]
fn reads_follow_names_through_loops_and_assignments() {
    let template = Template::parse(
        "{% for e in a.b %}{{ e.c | default('x') }}{% for k, v in e.d.items() %}{{ k }}{{ v.w }}{% endfor %}{% endfor %}\n\
         {% set s = t.u %}{% if s.v is sameas true %}{{ loop }}{% endif %}{{ j | tojson }}",
        NEW,
    );
    let reads: Vec<String> =
        template.reads().iter().map(|r| format!("{} {:?} {}", r.path, r.kind, r.line)).collect();
    assert_eq!(
        reads,
        [
            "a.b Looped 1",
            "a.b[].c Printed 1",
            "a.b[].d Items 1",
            "a.b[].d.*.w Printed 1",
            "t.u Tested 2",
            "t.u.v Identity 2",
            "loop Printed 2",
            "j Whole 2",
        ]
    );
}

#[test]
fn key_paths_read_back_as_written() {
    for text in ["a.b[].c", "x.*", "a.'b.c'.d", "l[][]", "a.$1.b"] {
        assert_eq!(KeyPath::parse(text).to_string(), text);
    }
    assert_eq!(KeyPath::parse("a..b"), KeyPath(vec![Step::Key(Arc::from("a")), Step::Key(Arc::from("b"))]));
}
