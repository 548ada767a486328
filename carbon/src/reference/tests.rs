//! Which references are resolved where, in which order, and what is said when they cannot be.

use super::*;
use crate::dialect::Version;
use crate::value::Table;

const CM_102: Dialect = Dialect { mapper: Version::new(1, 0, 2), jinjava: Version::new(2, 4, 14) };
const CM_123: Dialect = Dialect { mapper: Version::new(1, 0, 23), jinjava: Version::new(2, 7, 2) };

fn inputs() -> Inputs {
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Inputs {
        environment: pairs(&[
            ("HOST", "h"),
            ("EMPTY", ""),
            ("REF", "$ref{a}"),
            ("SYS", "$sys{p}"),
            ("MONEY", "pa$word"),
            ("SLASH", "a\\\\b"),
        ]),
        system_properties: pairs(&[("p", "prop"), ("empty", ""), ("env", "$env{HOST}")]),
        ..Inputs::default()
    }
}

fn table(entries: &[(&str, Value)]) -> Table {
    entries.iter().map(|(key, value)| (Arc::from(*key), value.clone())).collect()
}

fn run(data: &[(&str, Value)], secrets: &[(&str, &str)], dialect: Dialect) -> String {
    let mut flat = Flat::default();
    flat.put_all(table(data).into_entries());
    let secrets: Vec<String> = secrets.iter().map(|(alias, text)| format!("{alias} = '{text}'\n")).collect();
    let file = crate::flatten::flatten(&format!("[secrets]\n{}", secrets.concat())).unwrap();
    match resolve(&mut flat, &Aliases::of(&file, dialect), &inputs(), (dialect, &Work::default())) {
        Ok(_) => {
            let mut lines: Vec<String> =
                flat.iter().map(|(k, v)| format!("{k}={}", v.to_java_string())).collect();
            lines.sort();
            lines.join(" ")
        }
        Err(error) => format!("{}: {error}", error.exception()),
    }
}

#[track_caller]
fn check(data: &[(&str, &str)], expected: &str) {
    let data: Vec<(&str, Value)> = data.iter().map(|(key, text)| (*key, Value::text(text))).collect();
    assert_eq!(run(&data, &[], Dialect::NEWEST), expected);
}

#[test]
fn variables_and_references_resolve_in_order() {
    check(&[("a", "$env{HOST}:$sys{p}$env{EMPTY}")], "a=h:prop");
    check(&[("a", "x"), ("b", "$env{REF}")], "a=x b=x");
    check(&[("b", "$env{SYS}")], "b=$sys{p}");
    // Values of system properties are never quoted for the regex, so a `$` in one breaks the start.
    check(&[("b", "$sys{env}")], "IllegalArgumentException: Illegal group reference");
    check(&[("a", "1"), ("b", "$ref{a}$ref{c}"), ("c", "<$ref{a}>")], "a=1 b=1<1> c=<1>");
    check(&[("b", "${carbon.home} $ref{a"), ("a", "1")], "a=1 b=${carbon.home} $ref{a");
}

#[test]
fn what_is_missing_is_named() {
    check(&[("a", "$env{NOPE}")], "ConfigParserException: Environment variable NOPE not defined in system");
    check(&[("a", "$sys{nope}")], "ConfigParserException: Error while retrieving nope system property");
    check(&[("a", "$sys{empty}")], "ConfigParserException: Error while retrieving empty system property");
    check(&[("a", "$ref{b.c}")], "ConfigParserException: Configuration with key b.c doesn't exist");
    check(
        &[("a", "$ref{b}"), ("b", "$ref{a}")],
        "ConfigParserException: References can't be resolved for a,b",
    );
    check(&[("a", "$ref{a}")], "ConfigParserException: References can't be resolved for a");
}

#[test]
fn lists_and_booleans_replace_the_whole_value() {
    let list = Value::List(vec![Value::text("x"), Value::text("y")]);
    let data = [
        ("l", list),
        ("b", Value::Bool(true)),
        ("a", Value::text("pre $ref{l}")),
        ("c", Value::text("$ref{b}!")),
    ];
    assert_eq!(run(&data, &[], Dialect::NEWEST), "a=[x, y] b=true c=true l=[x, y]");
    let data = [
        ("n", Value::Double(600.0)),
        ("l", Value::List(vec![Value::text("$ref{n}s"), Value::text("$env{HOST}")])),
    ];
    assert_eq!(run(&data, &[], Dialect::NEWEST), "l=[600.0s, h] n=600.0");
}

#[test]
fn tables_of_arrays_get_variables_since_105_and_references_never() {
    let row = Value::Map(table(&[("h", Value::text("$env{HOST}")), ("r", Value::text("$ref{a}"))]));
    let data = [("a", Value::text("1")), ("rows", Value::List(vec![row]))];
    assert_eq!(run(&data, &[], Dialect::NEWEST), "a=1 rows=[{h=h, r=$ref{a}}]");
    assert_eq!(run(&data, &[], CM_102), "a=1 rows=[{h=$env{HOST}, r=$ref{a}}]");
}

#[test]
fn values_with_dollar_or_backslash_break_mappers_before_125() {
    let money = [("a", Value::text("$env{MONEY}"))];
    assert_eq!(run(&money, &[], Dialect::NEWEST), "a=pa$word");
    assert_eq!(run(&money, &[], CM_123), "IllegalArgumentException: Illegal group reference");
    let slash = [("a", Value::text("$env{SLASH}"))];
    assert_eq!(run(&slash, &[], Dialect::NEWEST), "a=a\\\\b");
    assert_eq!(run(&slash, &[], CM_123), "a=a\\b");
}

#[test]
fn secrets_are_checked_and_never_replaced() {
    let data = [("a", Value::text("$secret{s}"))];
    assert_eq!(run(&data, &[("s", "encrypted==")], Dialect::NEWEST), "a=$secret{s}");
    assert_eq!(
        run(&data, &[], Dialect::NEWEST),
        "ConfigParserException: Secret references can't be resolved for s"
    );
    assert_eq!(
        run(&data, &[("s", "[plain]")], Dialect::NEWEST),
        "ConfigParserException: Secret references can't be plain text for s"
    );
    assert_eq!(run(&data, &[("enable", "TRUE")], Dialect::NEWEST), "a=$secret{s}");
}

#[test]
fn doubling_references_end_in_a_bound() {
    let mut data = vec![("k0".to_owned(), Value::text("0123456789abcdef"))];
    for n in 0..40 {
        data.push((format!("k{}", n + 1), Value::text(&format!("$ref{{k{n}}}$ref{{k{n}}}"))));
    }
    let data: Vec<(&str, Value)> = data.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    assert!(run(&data, &[], Dialect::NEWEST).starts_with("Limit: references of k"));
}
