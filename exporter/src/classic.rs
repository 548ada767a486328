//! OpenMetrics as the text format 0.0.4, which `curl`, `promtool` and older scrapers read. Names of counters end in
//! `_total` there already where they are described, units have no line of their own, and nothing marks the end.

use std::fmt::Write as _;

/// The same metrics in the older format.
pub fn from_open_metrics(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    // The help comes before the type, and both need the name that the samples have.
    let mut help = None;
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if line.starts_with("# HELP ") {
            help = Some(line);
            continue;
        }
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap_or((described, "untyped"));
            let end = if kind == "counter" { "_total" } else { "" };
            let text = help.take().and_then(|help| help.strip_prefix("# HELP ")?.split_once(' '));
            if let Some((_, text)) = text {
                writeln!(written, "# HELP {name}{end} {text}").ok();
            }
            writeln!(written, "# TYPE {name}{end} {kind}").ok();
            continue;
        }
        written.push_str(line);
        written.push('\n');
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_the_name_that_they_have() {
        let open = "# HELP convoy_events Events stored.\n# TYPE convoy_events counter\n\
                    convoy_events_total{kind=\"health\"} 2\n# HELP process_start_time_seconds When.\n\
                    # TYPE process_start_time_seconds gauge\n# UNIT process_start_time_seconds seconds\n\
                    process_start_time_seconds 1.5\n# EOF\n";
        let classic = "# HELP convoy_events_total Events stored.\n# TYPE convoy_events_total counter\n\
                       convoy_events_total{kind=\"health\"} 2\n# HELP process_start_time_seconds When.\n\
                       # TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.5\n";
        assert_eq!(from_open_metrics(open), classic);
    }
}
