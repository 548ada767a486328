//! Findings as SARIF 2.1.0, which code hosts show beside the lines. <https://docs.oasis-open.org/sarif/sarif/v2.1.0/>

use std::collections::BTreeSet;

use fleet::words::{Said, Severity};
use serde_json::{Value, json};

use crate::{places::as_uri, reference, view::Finding};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// One log with one run. `prefix` is the fleet directory below its repository, with a `/` at its end, or empty.
pub fn log(findings: &[Finding], prefix: &str) -> Value {
    let codes: BTreeSet<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
    let rules: Vec<Value> = codes.iter().map(|code| rule(code)).collect();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, prefix)).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "convoy",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// What a code means, in the words of the reference.
fn rule(code: &str) -> Value {
    let Some(entry) = reference::find(code) else { return json!({ "id": code }) };
    json!({
        "id": code,
        "name": entry.name(),
        "shortDescription": { "text": entry.title },
        "fullDescription": { "text": entry.text },
        "help": { "text": entry.text, "markdown": entry.text },
        "defaultConfiguration": { "level": level(&entry.severity().into()) },
    })
}

fn level(severity: &Said<Severity>) -> &'static str {
    match severity.known() {
        Some(Severity::Error) => "error",
        Some(Severity::Warning) => "warning",
        Some(Severity::Info) | None => "note",
    }
}

fn result(finding: &Finding, prefix: &str) -> Value {
    let level = level(&finding.severity);
    let node = finding.node.as_ref().map_or_else(String::new, |node| format!(" (node {node})"));
    let text = format!("{}{node}. Help: {}.", finding.message, finding.remedy.trim_end_matches(['.', '?']));
    let mut result = json!({ "ruleId": finding.code, "level": level, "message": { "text": text } });
    // Code hosts refuse a result without a place. What is of the whole fleet stands in the file that describes it.
    let (file, line) = finding.file.as_deref().map_or(("fleet.toml", Some(1)), |file| (file, finding.line));
    // Without a path it is a file of a pack, which no repository holds.
    let is_below = finding.file.is_none() || finding.path.is_some();
    let uri = if is_below { as_uri(&format!("{prefix}{file}")) } else { as_uri(file) };
    let mut place = json!({ "artifactLocation": { "uri": uri, "uriBaseId": "%SRCROOT%" } });
    if let Some(line) = line {
        place["region"] = json!({ "startLine": line, "startColumn": finding.column.unwrap_or(1) });
    }
    result["locations"] = json!([{ "physicalLocation": place }]);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: &str, line: Option<u32>) -> Finding {
        Finding {
            code: "CV502".to_owned(),
            severity: Said::of(severity),
            file: line.map(|_| "config/common.toml".to_owned()),
            path: line.map(|_| "fleets/prod/config/common.toml".to_owned()),
            line,
            column: line,
            line_text: None,
            node: Some("is-1".to_owned()),
            message: "this product does not know server.hostnam".to_owned(),
            remedy: "did you mean server.hostname?".to_owned(),
        }
    }

    #[test]
    fn a_finding_becomes_a_result_with_its_place() {
        let log = log(&[finding("warning", Some(3)), finding("info", None)], "fleets/prod/");
        let run = &log["runs"][0];
        let rule = &run["tool"]["driver"]["rules"][0];
        assert_eq!((&rule["id"], &rule["name"]), (&json!("CV502"), &json!("UnknownKey")));
        assert_eq!(rule["shortDescription"]["text"], "unknown key");
        assert_eq!(rule["defaultConfiguration"]["level"], "warning");
        assert!(rule["help"]["text"].as_str().unwrap().contains("ignores keys that it does not know"));
        let place = &run["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "fleets/prod/config/common.toml");
        assert_eq!(place["region"], json!({ "startLine": 3, "startColumn": 3 }));
        assert_eq!(run["results"][0]["level"], "warning");
        let text = run["results"][0]["message"]["text"].as_str().unwrap();
        assert_eq!(
            text,
            "this product does not know server.hostnam (node is-1). Help: did you mean server.hostname."
        );
        assert_eq!(run["results"][1]["level"], "note");
        let whole = &run["results"][1]["locations"][0]["physicalLocation"];
        assert_eq!(whole["artifactLocation"]["uri"], "fleets/prod/fleet.toml", "code hosts want a place");
        assert_eq!(whole["region"]["startLine"], 1);
    }
}
