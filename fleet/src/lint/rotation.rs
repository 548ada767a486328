//! Log files that are overwritten: a rollover by size needs a counter in the name of what it puts aside.

use std::{collections::BTreeMap, str};

use crate::spec::{Fleet, report::Report};

const FILE: &str = "log4j2.properties";

pub(super) fn check(fleet: &Fleet, report: &mut Report) {
    for (name, node) in &fleet.nodes {
        let files = node.bundle.files.iter().filter(|(path, _)| path.as_str().ends_with(FILE));
        for (path, file) in files {
            let content = node.contents.get(&file.digest).and_then(|content| str::from_utf8(content).ok());
            for appender in content.map(overwriting).unwrap_or_default() {
                report.node = Some(name.clone());
                report.warning(
                    "CV556",
                    None,
                    format!(
                        "{path}: {appender} rolls over by size, and its filePattern has no %i: each rollover of a \
                         day overwrites the one before"
                    ),
                    "add a counter to filePattern, as in wso2carbon-%d{MM-dd-yyyy}-%i.log",
                );
                report.node = None;
            }
        }
    }
}

/// The appenders of a log4j2.properties that lose what they put aside.
fn overwriting(text: &str) -> Vec<String> {
    // A file that Java does not read either is not judged.
    let Ok(properties) = carbon::metadata::properties(text) else { return Vec::new() };
    let mut by_appender: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (key, value) in &properties {
        if let Some((appender, rest)) = key.strip_prefix("appender.").and_then(|rest| rest.split_once('.')) {
            by_appender.entry(appender).or_default().push((rest, value.trim()));
        }
    }
    let loses = |settings: &[(&str, &str)]| {
        let by_size = settings
            .iter()
            .any(|(key, value)| key.ends_with(".type") && *value == "SizeBasedTriggeringPolicy");
        by_size && settings.iter().any(|(key, value)| *key == "filePattern" && !has_counter(value))
    };
    by_appender
        .into_iter()
        .filter(|(_, settings)| loses(settings))
        .map(|(appender, _)| format!("appender.{appender}"))
        .collect()
}

/// `%i`, also padded as in `%03i`.
fn has_counter(pattern: &str) -> bool {
    pattern.split('%').skip(1).any(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '.').starts_with('i')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollover_by_size_needs_a_counter() {
        let told = |pattern: &str, policy: &str| {
            let text = format!(
                "appender.A.type = RollingFile\nappender.A.filePattern = logs/a-%d{{MM-dd-yyyy}}{pattern}.log\n\
                 appender.A.policies.type = Policies\nappender.A.policies.size.type={policy}\n\
                 appender.B.type = Console\n"
            );
            overwriting(&text)
        };
        assert_eq!(told("", "SizeBasedTriggeringPolicy"), ["appender.A"]);
        assert_eq!(told("-i", "SizeBasedTriggeringPolicy"), ["appender.A"], "a letter is no counter");
        assert!(told("-%i", "SizeBasedTriggeringPolicy").is_empty());
        assert!(told("-%03i", "SizeBasedTriggeringPolicy").is_empty());
        assert!(told("", "TimeBasedTriggeringPolicy").is_empty());
        assert!(overwriting("appender.A.filePattern = \\u00\n").is_empty(), "Java reads no such file");
    }
}
