//! Which files the server's TOML library takes, and what it says of the others.

use crate::error::MapperError;
use crate::flatten::flatten;

/// Flat keys with values, sorted; or the errors.
fn read(text: &str) -> String {
    match flatten(text) {
        Ok(flat) => {
            let mut lines: Vec<String> =
                flat.data.iter().map(|(key, value)| format!("{key}={}", value.to_java_string())).collect();
            lines.sort();
            lines.join(" ")
        }
        Err(MapperError::Toml { errors }) => {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
        Err(other) => format!("{}: {other}", other.exception()),
    }
}

#[track_caller]
fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(read(text), *expected, "{text}");
    }
}

#[test]
fn leaves_become_flat_keys() {
    check(&[
        ("a = 1\n[b]\nc = 'x'\nd.e = true", "a=1 b.c=x b.d.e=true"),
        ("[a]\n[b]\nc = {d = 1, e = {f = 2}}", "b.c.d=1 b.c.e.f=2"),
        ("[[l]]\nx = 1\n[l.sub]\ny = 2\n[[l]]\nz.w = 3", "l=[{sub.y=2, x=1}, {z.w=3}]"),
        ("a = [[1, 2], [3]]\nb = []", "a=[[1, 2], [3]] b=[]"),
        ("'a.b'.c = 1\n\"x y\" = 2", "'a.b'.c=1 'x y'=2"),
        ("[[l]]\n'header.X' = 'v'", "l=[{'header.X'=v}]"),
        ("", ""),
    ]);
}

#[test]
fn scalars_are_those_of_toml_05() {
    check(&[
        ("a = +1_000\nb = 0x1F\nc = 0o17\nd = 0b11", "a=1000 b=31 c=15 d=3"),
        ("a = 1.0\nb = 1e3\nc = -inf\nd = nan", "a=1.0 b=1000.0 c=-Infinity d=NaN"),
        (
            "a = 1979-05-27\nb = 1979-05-27T07:32:00Z\nc = 07:32:00.5\nd = 1979-05-27 07:32:00+01:00",
            "a=1979-05-27 b=1979-05-27T07:32Z c=07:32:00.500 d=1979-05-27T07:32+01:00",
        ),
        ("a = \"q\\\"\\u00e9\\n\"\nb = '''\nx\r\ny'''", "a=q\"é\n b=x\ny"),
        ("a = \"\"\"one \\\n  two\"\"\"", "a=one \n  two"),
        ("a = 99999999999999999999", "Integer is too large (line 1, column 5)"),
        ("a = 1e999", "Float is too large (line 1, column 5)"),
        ("a = 1979-13-01", "Invalid date (line 1, column 5)"),
    ]);
}

#[test]
fn a_table_that_is_opened_after_its_child_loops() {
    let died = "StackOverflowError: null";
    check(&[
        ("[a]\nb.x = 1\n[a.b]\ny = 2", died),
        ("[a.b]\nx = 1\n[a]\ny = 2", died),
        ("[a.b.c]\n[x]\n[a.b]", died),
        ("[[a.b]]\nx = 1\n[a]", died),
        ("[[a]]\n[a.b.c]\nx = 1\n[a.b]", died),
        ("['a.b'.c]\n['a.b']", died),
        // Everything that the library itself still finds out about such a file, it says first.
        ("[a.b]\n[a]\na = 1", "a previously defined at line 2, column 1 (line 3, column 1)"),
        ("[a.b]\n[a]\n[a]", "a previously defined at line 1, column 1 (line 3, column 1)"),
        ("[a.b]\n[a]\n[a.a]", "a.a previously defined at line 2, column 1 (line 3, column 1)"),
        (
            "[a.b]\n[a]\n[[a.a]]",
            "a.a is not an array (previously defined at line 2, column 1) (line 3, column 1)",
        ),
        ("[a.b]\n[a]\na.c = 1\nc = 2", "c previously defined at line 3, column 1 (line 4, column 1)"),
        ("[a]\n[a.b]\nx = 1\n[a.c]\ny = 2", "a.b.x=1 a.c.y=2"),
        ("[a.b]\nx = 1\n[a.c]\ny = 2", "a.b.x=1 a.c.y=2"),
        ("[[a]]\n[a.b]\nx = 1\n[[a]]\n[a.b]\nx = 2", "a=[{b.x=1}, {b.x=2}]"),
    ]);
    let error = flatten("[x]\n[a.b]\ny = 1\n\n[a]\n").err().unwrap();
    let MapperError::Reopened(reopened) = &error else { panic!("{error:?}") };
    assert_eq!((reopened.table.as_str(), reopened.child.line, reopened.header.line), ("a", 2, 5));
    assert_eq!(error.position(), Some(reopened.header));
}

#[test]
fn nothing_is_defined_twice() {
    check(&[
        ("[a]\n[a]", "a previously defined at line 1, column 1 (line 2, column 1)"),
        (
            "a = 1\na = 2\nb = 1\nb = 2",
            "a previously defined at line 1, column 1 (line 2, column 1); \
             b previously defined at line 3, column 1 (line 4, column 1)",
        ),
        ("a = 1\n[a.b]", "a is not a table (previously defined at line 1, column 1) (line 2, column 1)"),
        ("[a]\n[[a]]", "a is not an array (previously defined at line 1, column 1) (line 2, column 1)"),
        (
            "a = [{x = 1}]\n[[a]]",
            "a previously defined as a literal array at line 1, column 1 (line 2, column 1)",
        ),
    ]);
}

#[test]
fn refusals_of_the_lexers_modes() {
    check(&[
        ("a = {x = [], y = 1}", "Unexpected ',', expected } or a comma (line 1, column 12)"),
        ("a = [1979-05-27]", "Unexpected ']', expected ] or a comma (line 1, column 16)"),
        ("a = [1979-05-27 ]", "a=[1979-05-27]"),
        ("a = \"x\ty\"", "Unexpected '\\t', expected \" or a character (line 1, column 7)"),
        ("a = {\nx = 1}", "Unexpected end of line, expected a-z, A-Z, 0-9, ', \", or } (line 1, column 6)"),
        ("a = [\n1,\n2,\n]", "a=[1, 2]"),
        ("a = [1, 'x']", "Cannot add a string to an array containing integers (line 1, column 9)"),
        (
            "a = ",
            "Unexpected end of input, expected ', \", ''', \"\"\", a number, a boolean, a date/time, an array, or a table (line 1, column 5)",
        ),
        ("[a.b]]", "Unexpected ']]', expected . or ] (line 1, column 5)"),
        ("[]", "Empty table key (line 1, column 1)"),
        ("a = \"\\x\"", "Invalid escape sequence '\\x' (line 1, column 6)"),
        ("[\"\\x\"]", "TomlParseError: Invalid escape sequence '\\x' (line 1, column 3)"),
    ]);
}

#[test]
fn keys_are_looked_up_by_their_text() {
    check(&[
        ("\"é\" = 1", "'\\u00e9'=null"),
        ("\"a'b\" = 1", "IllegalArgumentException: Invalid key: Unexpected 'b', expected . or end-of-input"),
    ]);
}

#[test]
fn secrets_are_gathered_without_their_quotes() {
    let flat =
        flatten("[secrets]\n\"a.b\" = 'x'\nc = '[plain]'\n[runtime_secrets]\nenable = 'true'").unwrap();
    let secrets: Vec<String> = flat.secrets.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(secrets, ["a.b=x", "c=[plain]"]);
    assert_eq!(flat.runtime_secrets["enable"], "true");
    check(&[
        ("[secrets]\na = 1", "TomlInvalidTypeException: Value of 'a' is a integer"),
        ("secrets = 1", "TomlInvalidTypeException: Value of 'secrets' is a integer"),
    ]);
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&deep).contains("values nest deeper than 32"));
    let deep = format!("a = {}1{}", "{b = ".repeat(100_000), "}".repeat(100_000));
    assert!(read(&deep).contains("values nest deeper than 32"));
    let long = vec!["a"; 100_000].join(".");
    assert!(read(&format!("{long} = 1")).contains("segments"), "a long key ends in an error too");
}
