//! Nothing that anybody writes makes the library panic, and equal input gives equal output.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;

use carbon::known::KnownKeys;
use carbon::pack::RESOURCES;
use carbon::{Inputs, Pack, render};
use proptest::prelude::*;

fn load(template: &str, default: &str, infer: &str) -> Option<Pack> {
    let files = [
        ("key-mappings.json", r#"{"old.key": "a.b", "list:x": "list:y", "many": ["m.one", "m.two"]}"#),
        ("infer.json", infer),
        ("default.json", default),
        ("unit-resolve.json", r#"{"time": {"a.timeout": "s", "a.b": "m"}}"#),
        ("validator.json", r#"{"a.kind": [{"regex": "\\Ax\\Z|", "if": {"a.b": true}}]}"#),
        ("templates/conf/out.xml.j2", template),
    ];
    Pack::load(files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec())).into_iter())
        .ok()
}

fn inputs() -> Inputs {
    Inputs {
        environment: BTreeMap::from([("E".into(), "v$1\\".into())]),
        system_properties: BTreeMap::from([("s".into(), "x".into())]),
        ..Inputs::default()
    }
}

const DEFAULT: &str = r#"{"a.c": "$ref{a.b}", "a.n": 5, "rows": [{"id": 1}]}"#;
const INFER: &str = r#"{"a.kind": {"x": {"a.b": "inferred"}}, "db.$1.type": {"x": {"db.$1.url": "u"}}}"#;

/// Pieces that TOML is made of, so that random files get past the first line.
fn toml_piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[a]\n".to_owned()),
        Just("[[rows]]\n".to_owned()),
        Just("[a.b]\n".to_owned()),
        "[a-c'\"\\.]{1,6} = ".prop_map(|key| key),
        "(\"[^\"\\\\\n]{0,6}\"|'[^'\n]{0,6}'|[0-9_+-]{1,5}|true|\\[|\\]|\\{|\\}|,|\n){1,4}\n"
            .prop_map(|value| value),
        Just("b = '$ref{a.c}$env{E}$sys{s}'\n".to_owned()),
        Just("kind = \"x\"\ntimeout = '5m'\n".to_owned()),
        "\\PC{0,8}\n".prop_map(|text| text),
    ]
}

/// Pieces that templates are made of.
fn template_piece() -> impl Strategy<Value = String> {
    let expression = prop_oneof![
        "[a-c](\\.[a-c]){0,2}".prop_map(|name| name),
        "[a-c] (and|or|==|<|\\+|~|in|is|//|%) [a-c0-9'\\[\\]]{1,3}".prop_map(|text| text),
        "[a-c] \\| (default\\('x'\\)|join|length|tojson|list|map\\('lower'\\)|replace\\('', 'y'\\))"
            .prop_map(|text| text),
        "rows\\.(append\\(rows\\)|pop\\(\\)|index\\(1\\)|get\\(9\\)|toList\\(\\))".prop_map(|text| text),
        "range\\([0-9]{1,5}\\)".prop_map(|text| text),
        "\\PC{0,10}".prop_map(|text| text),
    ];
    prop_oneof![
        expression.clone().prop_map(|e| format!("{{{{ {e} }}}}")),
        expression.clone().prop_map(|e| format!("{{% if {e} -%}}")),
        expression.clone().prop_map(|e| format!("{{%- for x, y in {e} %}}")),
        expression.prop_map(|e| format!("{{% set a = {e} %}}")),
        "\\{% ?(endif|endfor|else|elif a|macro m\\(b=1\\)|endmacro|raw|endraw|do|set z|endset) ?-?%\\}"
            .prop_map(|t| t),
        "[\\{\\}%# \n'\"-]{1,8}".prop_map(|text| text),
        "\\PC{0,8}".prop_map(|text| text),
    ]
}

fn text(pieces: impl Strategy<Value = String>, most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(pieces, 0..most).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_toml_gives_files_or_a_refusal_and_the_same_again(toml in text(toml_piece(), 12)) {
        let pack = load("{{ a }}{% for r in rows %}{{ r }}{% endfor %}{{ m.one }}", DEFAULT, INFER).unwrap();
        let first = render(&pack, &toml, &inputs());
        let second = render(&pack, &toml, &inputs());
        match (first, second) {
            (Ok(first), Ok(second)) => {
                prop_assert_eq!(first.files, second.files);
                prop_assert!(first.resolved.values().eq(second.resolved.values()));
            }
            (Err(first), Err(second)) => {
                prop_assert_eq!(&first, &second);
                prop_assert!(!first.to_string().is_empty() && !first.exception().is_empty());
            }
            (first, second) => prop_assert!(false, "{:?} and then {:?}", first.is_ok(), second.is_ok()),
        }
    }

    #[test]
    fn any_template_renders_or_fails_with_words(template in text(template_piece(), 14)) {
        let pack = load(&template, DEFAULT, INFER).unwrap();
        let toml = "[a]\nb = 'x'\nc = [1, 2]\n[[rows]]\nid = 2\n";
        let first = render(&pack, toml, &inputs()).map(|rendered| rendered.files);
        let second = render(&pack, toml, &inputs()).map(|rendered| rendered.files);
        prop_assert_eq!(first, second);
        let known = KnownKeys::of(&pack);
        prop_assert!(known.get("a.b").is_some());
    }

    #[test]
    fn any_json_is_a_pack_or_refused(default in "\\PC{0,60}", infer in "[{}\"a.$1:x, \\[\\]]{0,60}") {
        if let Some(pack) = load("{{ a }}", &default, &infer) {
            let _outcome = render(&pack, "[a]\nkind = 'x'\n", &inputs()).is_ok();
            prop_assert!(!pack.digest().is_empty());
        }
    }

    #[test]
    fn a_rendered_scalar_is_what_was_written(value in "[ -!#-&(-~]{1,30}") {
        // Without quotes, braces of templates and references a text arrives as it is.
        prop_assume!(!value.contains("{{") && !value.contains("{%") && !value.contains('\\') && !value.contains("${"));
        prop_assume!(!["$ref{", "$env{", "$sys{", "$secret{"].iter().any(|open| value.contains(open)));
        let pack = load("<{{ z.text }}>", "{}", "{}").unwrap();
        let rendered = render(&pack, &format!("[z]\ntext = '{value}'\n"), &inputs()).unwrap();
        prop_assert_eq!(&rendered.files["conf/out.xml"], &format!("<{value}>\n"));
    }
}
