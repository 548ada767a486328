//! Packs come from hosts, and a host may be anybody's. Whatever a pack holds, an evaluation ends, in a result or in an
//! error that names a limit: these would take years, or all memory, without one.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]
#![expect(clippy::disallowed_methods, reason = "the corpus is read from files; the library reads none")]

use crate::anything;

use std::path::Path;

use carbon::pack::RESOURCES;
use carbon::{Inputs, Pack, render};
use proptest::prelude::*;

fn pack(template: &str, infer: &str) -> Pack {
    let files = [
        ("key-mappings.json", "{}"),
        ("infer.json", infer),
        ("default.json", "{}"),
        ("unit-resolve.json", "{}"),
        ("validator.json", "{}"),
        ("templates/out.j2", template),
    ];
    let files = files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec()));
    Pack::load(files.into_iter()).unwrap()
}

/// Two nests of equal lists with 2^70 leaves each, and a text of 4 MiB.
fn prelude() -> String {
    let doubled = "{% set a = [a, a] %}{% set b = [b, b] %}".repeat(70);
    let long = "{% set t = t ~ t %}".repeat(20);
    let items = "{% set l = l + l %}".repeat(14);
    format!(
        "{{% set a = [1] %}}{{% set b = [1] %}}{{% set t = 'a,b;' %}}{{% set l = ['x'] %}}{doubled}{long}{items}"
    )
}

fn rounds(body: &str) -> String {
    format!("{{% for i in range(1000) %}}{{% for j in range(900) %}}{body}{{% endfor %}}{{% endfor %}}")
}

#[test]
fn what_would_take_years_ends_at_a_limit() {
    let expressions = [
        "a == b",
        "a != b",
        "[a] is containing b",
        "a in [b]",
        "[a].contains(b)",
        "[a].index(b)",
        "[a].count(b)",
        "[a].remove(b)",
        "{'k': a}.containsValue(b)",
        "{'k': a} == {'k': b}",
        "a.equals(b)",
        "[a, b]|unique",
        "[a, b]|sort",
        "a|join(',')",
        "a|tojson",
        "a ~ ''",
        "a",
        "[a]|map('tojson')",
    ];
    for expression in expressions {
        check(expression, &format!("{}{{{{ {expression} }}}}", prelude()));
    }
}

#[test]
fn what_is_cheap_once_is_not_repeated_without_end() {
    let repeated = [
        "t|replace('a', 'c')",
        "t.replace('a', 'c')",
        "t|length",
        "t.length()",
        "t|upper",
        "t.toUpperCase()",
        "t|trim",
        "t|escape",
        "t|tojson",
        "t|split(';')",
        "t.split(';')",
        "t.split('(a|b)+[,;]')",
        "t.split(i ~ '(a|b|,){20}' ~ j)",
        "t|list",
        "t[1:]",
        "t.substring(1)",
        "t.indexOf('x')",
        "t.contains('x')",
        "'x' in t",
        "t is containing 'x'",
        "t is lower",
        "t == (t ~ '')",
        "t < (t ~ 'x')",
        "t ~ i",
        "t.concat('x')",
        "t + 1",
        "t|int",
        "t|float",
        "t|default('x')|lower",
        "l|join(t)|length",
        "l + l",
        "l|list",
        "l|reverse",
        "l|sort",
        "l|first",
        "l|map('upper')",
        "l|sum",
        "l[1:]",
        "l.copy()",
        "l.contains('y')",
        "l.insert(0, 'x')",
        "l == l.copy()",
        "'y' in l",
        "{'a': l} == {'a': l.copy()}",
        "namespace(m).x",
        "m.update(m2)",
        "m.keys()",
        "m.items()",
        "range(1000)",
    ];
    let maps = "{% set m = {} %}{% set m2 = {} %}{% for i in l %}{% do m.put(loop.index, i) %}{% do m2.put(loop.index ~ 'b', i) %}{% endfor %}";
    for expression in repeated {
        check(
            expression,
            &format!("{}{maps}{}", prelude(), rounds(&format!("{{% set z = {expression} %}}"))),
        );
    }
    check("loops", &rounds(&rounds("x")));
    check("output", &format!("{}{}", prelude(), rounds("{{ t }}")));
    check(
        "loop over lists",
        &format!("{}{}", prelude(), rounds("{% for x in l %}{% if false %}{% endif %}{% endfor %}")),
    );
    let macros: String = (1..30)
        .map(|n| format!("{{% macro m{n}() %}}{{{{ m{}() }}}}{{{{ m{}() }}}}{{% endmacro %}}", n - 1, n - 1))
        .collect();
    check("macros", &format!("{{% macro m0() %}}x{{% endmacro %}}{macros}{{{{ m29() }}}}"));
    let names: String = (0..20_000).map(|n| format!("{{% set v{n} = v{} %}}", n + 1)).collect();
    check("names", &names);
}

fn check(what: &str, template: &str) {
    let outcome = render(&pack(template, "{}"), "", &Inputs::default());
    if let Err(error) = outcome {
        let text = error.to_string();
        let names_a_limit =
            ["units of work", "too large or nests too deep", "more than", "longer than", "Cannot"];
        assert!(names_a_limit.iter().any(|limit| text.contains(limit)), "{what}: {text}");
    }
}

#[test]
fn values_that_would_never_end_end_at_a_limit() {
    // Each key infers the next one twice.
    let mut infer = Vec::new();
    for n in 0..100 {
        infer.push(format!("\"k{n}\": {{\"x\": {{\"k{}\": \"x\", \"k{}\": \"x\"}}}}", n + 1, n + 2));
    }
    let error = render(&pack("", &format!("{{{}}}", infer.join(","))), "k0 = \"x\"\n", &Inputs::default())
        .unwrap_err();
    assert!(error.to_string().contains("units of work"), "{error}");
    // Thousands of keys that each take a long text.
    let long = "x".repeat(1 << 19);
    let keys: String = (0..20_000).map(|n| format!("k{n} = \"$ref{{long}}\"\n")).collect();
    let error =
        render(&pack("", "{}"), &format!("long = \"{long}\"\n{keys}"), &Inputs::default()).unwrap_err();
    assert!(error.to_string().contains("units of work"), "{error}");
    // A chain in which every link needs a round of its own.
    let chain: String = (0..20_000).map(|n| format!("k{n} = \"$ref{{k{}}}\"\n", n + 1)).collect();
    let outcome = render(&pack("", "{}"), &format!("{chain}k20000 = \"x\"\n"), &Inputs::default());
    assert!(outcome.is_err_and(|error| error.to_string().contains("units of work")));
}

fn corpus() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/render");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn the_corpus_evaluates() {
    let corpus = corpus();
    assert!(3 < corpus.len());
    for input in corpus {
        assert!(anything::evaluate(&input), "{input}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a fuzzer does first: pieces of good inputs cut out, doubled, swapped and disturbed.
    #[test]
    fn pieces_of_the_corpus_in_any_order_never_panic(
        pieces in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..40), 1..12),
        noise in prop::collection::vec("\\PC{0,3}|[{}%\\[\\]'\"=.\n$]{1,3}", 1..12),
        separators in 0_usize..3,
    ) {
        let corpus = corpus();
        let mut text = String::new();
        for (n, (file, at, length)) in pieces.iter().enumerate() {
            let chars: Vec<char> = file.get(&corpus).chars().collect();
            let start = at.index(chars.len());
            text.extend(chars.iter().skip(start).take(*length));
            text.push_str(&noise[n % noise.len()]);
            if n < separators {
                text.push_str("\n====\n");
            }
        }
        anything::evaluate(&text);
    }
}
