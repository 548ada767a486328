//! docs/traps.md tells the truth: every trap has its row, every named test exists, and a row without a test says so.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail and speak like tests")]

use std::{fs, path::Path};

const TRAPS: usize = 30;

fn rows() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/traps.md")).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = text.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    // The first two are the heading.
    rows.into_iter().skip(2).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The `path::test` spans of a cell.
fn proofs(cell: &str) -> Vec<(&str, &str)> {
    cell.split('`').skip(1).step_by(2).filter_map(|span| span.split_once(".rs::")).collect()
}

#[test]
fn every_trap_has_its_row() {
    let numbers: Vec<usize> = rows().iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(numbers, (1..=TRAPS).collect::<Vec<_>>());
    for row in rows() {
        assert_eq!(row.len(), 4, "{row:?}");
    }
}

#[test]
fn every_named_test_exists_and_is_a_test() {
    for row in rows() {
        for (path, name) in proofs(&row[3]) {
            let file = root().join(format!("{path}.rs"));
            let text =
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let declared =
                |line: &&str| line.strip_prefix("async ").unwrap_or(line).starts_with(&format!("fn {name}("));
            let at = lines.iter().position(declared);
            let at = at.unwrap_or_else(|| panic!("trap {}: {path}.rs has no test {name}", row[0]));
            let attributes = &lines[at.saturating_sub(4)..at];
            let is_test =
                attributes.iter().any(|line| line.starts_with("#[test]") || line.contains("::test"));
            assert!(is_test, "trap {}: {path}.rs::{name} is no test", row[0]);
        }
    }
}

#[test]
fn a_trap_without_a_test_says_so() {
    for row in rows() {
        let proven = !proofs(&row[3]).is_empty();
        assert!(proven || row[3].to_lowercase().contains("not yet proven"), "{row:?}");
    }
}
