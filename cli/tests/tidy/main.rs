//! Rules of the project that no compiler checks. A rule that fails says what to do; nothing here is a matter of taste.

mod handbook;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use clap::CommandFactory as _;
use fleet::observed::RefusalReason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the project's root")
}

/// Files of the project with one of these endings: path below the root, and content.
fn files(endings: &[&str]) -> BTreeMap<String, String> {
    let walk = walkdir::WalkDir::new(root()).sort_by_file_name();
    let is_ours = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !(name == "target" || name.starts_with(".git"))
    };
    let mut files = BTreeMap::new();
    for entry in walk.into_iter().filter_entry(is_ours) {
        let entry = entry.expect("the project can be read");
        let path = entry.path().strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        if entry.file_type().is_file() && endings.iter().any(|ending| path.ends_with(ending)) {
            // Golden files may be binary; rules are about text.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                files.insert(path, text);
            }
        }
    }
    assert!(!files.is_empty(), "no file ends with {endings:?}: the rule checks nothing");
    files
}

/// Our own Rust files that are part of a product, without their tests.
fn production(packages: &[&str]) -> BTreeMap<String, String> {
    let mut found = files(&[".rs"]);
    found.retain(|path, _| {
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("/fake.rs");
        !is_test && packages.iter().any(|package| path.starts_with(&format!("{package}/src/")))
    });
    for text in found.values_mut() {
        if let Some(start) = text.find("#[cfg(test)]\nmod ") {
            text.truncate(start);
        }
    }
    found
}

fn manifest(package: &str) -> toml::Table {
    let path = root().join(package).join("Cargo.toml");
    fs::read_to_string(&path).expect("every member has a manifest").parse().expect("cargo reads it too")
}

fn members() -> Vec<String> {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"].as_array().expect("a list");
    members.iter().map(|member| member.as_str().expect("a path").to_owned()).collect()
}

/// Fails with all complaints at once.
fn verdict(rule: &str, complaints: &[String]) {
    let mut text = String::new();
    for complaint in complaints {
        writeln!(text, "  {complaint}").expect("a String takes any text");
    }
    assert!(complaints.is_empty(), "{rule}\n{text}");
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("carbon", &[][..]),
        ("fleet", &["carbon"]),
        ("proto", &["fleet"]),
        ("exporter", &[]),
        ("traces", &["fleet"]),
        ("coordinator", &["carbon", "fleet", "proto", "exporter", "traces"]),
        ("agent", &["carbon", "fleet", "proto", "exporter", "traces"]),
        ("cli", &["carbon", "fleet", "proto", "traces"]),
        ("simulation", &["fleet"]),
        ("tests", &["carbon", "fleet", "proto", "traces", "coordinator", "agent", "cli", "simulation"]),
        ("xtask", &[]),
    ]);
    let ours: BTreeSet<&str> = allowed.keys().copied().collect();
    let mut complaints = Vec::new();
    for member in members() {
        let Some(may) = allowed.get(member.as_str()) else {
            complaints.push(format!(
                "{member} is a new crate: it needs a decision record and a place in this table"
            ));
            continue;
        };
        let manifest = manifest(&member);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = manifest.get(section).and_then(toml::Value::as_table);
            for name in names.into_iter().flat_map(toml::Table::keys) {
                let name = name.strip_prefix("convoy-").unwrap_or(name);
                if ours.contains(name) && !may.contains(&name) {
                    complaints.push(format!("{member} [{section}] names {name}"));
                }
            }
        }
    }
    verdict(
        "carbon <- fleet <- proto <- {coordinator, agent, cli} <- tests; move the code or the type",
        &complaints,
    );
}

#[test]
fn decisions_have_no_effects() {
    let banned = [
        "std::fs",
        "std::env",
        "std::net",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "tokio",
        "tracing",
        "rand::",
        "println!",
        "eprintln!",
    ];
    let mut complaints = Vec::new();
    for (path, text) in production(&["fleet", "carbon"]) {
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            complaints.extend(
                banned
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{path}:{}: {word}", number + 1)),
            );
        }
    }
    verdict(
        "fleet and carbon decide; clocks, files, the environment and logs belong to their callers",
        &complaints,
    );
}

#[test]
fn the_wire_ends_at_its_edge() {
    let edges = [
        "coordinator/src/rpc",
        "coordinator/src/store",
        "agent/src/link",
        "agent/src/journal",
        "cli/src/client",
    ];
    let mut complaints = Vec::new();
    for (path, text) in production(&["fleet", "carbon", "coordinator", "agent", "cli", "xtask"]) {
        let is_edge = edges.iter().any(|edge| path.starts_with(edge));
        if !is_edge
            && (text.contains("proto::wire") || text.contains("proto::{wire") || text.contains("wire::"))
        {
            complaints.push(path);
        }
    }
    verdict("generated types are named only at the edges; convert with proto::convert", &complaints);
}

#[test]
fn every_crate_inherits_the_lints_and_forbids_unsafe() {
    let mut complaints = Vec::new();
    for member in members() {
        let inherits = manifest(&member).get("lints").and_then(|lints| lints.get("workspace")).is_some();
        if !inherits {
            complaints.push(format!("{member}/Cargo.toml lacks [lints] workspace = true"));
        }
    }
    let workspace = manifest(".");
    let unsafe_code = workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str();
    if unsafe_code != Some("forbid") {
        complaints.push("the workspace does not forbid unsafe_code".to_owned());
    }
    verdict("lints hold for all", &complaints);
}

#[test]
fn files_stay_short_and_say_what_they_own() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let lines = text.lines().count();
        if 700 < lines {
            complaints.push(format!("{path} has {lines} lines: split it by what it owns"));
        }
        let is_test = path.contains("/tests/") || path.ends_with("tests.rs");
        let is_generated_entry = path.ends_with("build.rs");
        let head = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        if !is_test && !is_generated_entry && !head.starts_with("//!") {
            complaints.push(format!("{path} does not begin with what it is for (//!)"));
        }
        if head.contains("header to be written") {
            complaints.push(format!("{path} still has no header"));
        }
    }
    verdict("at most 700 lines, and a header", &complaints);
}

#[test]
fn nothing_is_left_open() {
    // Put together here, so that this file does not hold them.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X:"].concat()];
    let checkout = root().display().to_string();
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs", ".md", ".toml", ".proto", ".service", ".sh", ".conf", "run"]) {
        for (number, line) in text.lines().enumerate() {
            let found = marks.iter().find(|mark| line.contains(mark.as_str()));
            complaints.extend(found.map(|mark| format!("{path}:{}: {mark}", number + 1)));
            if line.contains(&checkout) {
                complaints.push(format!("{path}:{}: names the directory of this checkout", number + 1));
            }
        }
    }
    verdict("what is open is an issue, and no file knows where it was written", &complaints);
}

#[test]
fn no_test_is_switched_off() {
    let mark = ["#[ig", "nore"].concat();
    let sleep = ["std::thread::", "sleep"].concat();
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        for word in [&mark, &sleep] {
            if text.contains(word.as_str()) {
                complaints.push(format!("{path} holds {word}"));
            }
        }
    }
    verdict("a test runs or is removed; it waits for a state, not for a time", &complaints);
}

#[test]
fn decision_records_have_each_a_number_of_its_own() {
    let directory = root().join("docs/decisions");
    let mut names: Vec<String> = fs::read_dir(&directory)
        .expect("docs/decisions holds the decision records")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md") && name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    names.sort();
    let mut complaints = Vec::new();
    let mut before = String::new();
    for name in &names {
        // Records are numbered when they are begun, so one that was dropped leaves a gap.
        let number = name.split('-').next().unwrap_or_default().to_owned();
        if number.len() != 4 || number == before {
            complaints.push(format!("{name} should begin with four digits that no other record has"));
        }
        before = number;
        let text = fs::read_to_string(directory.join(name)).expect("readable");
        let head: Vec<&str> = text.lines().take(3).collect();
        let title = head.first().and_then(|line| line.strip_prefix(&format!("# {before}: ")));
        if title.is_none_or(|title| !title.starts_with(|c: char| c.is_uppercase())) {
            complaints.push(format!("{name} should begin with `# {before}: Title`"));
        }
        let dated = head.get(2).and_then(|line| line.strip_prefix("Date: 20")?.split_once(". Status: "));
        if dated.is_none_or(|(_, status)| {
            !["accepted.", "superseded", "proposed"].iter().any(|known| status.starts_with(known))
                || !status.ends_with('.')
        }) {
            complaints
                .push(format!("{name} should say `Date: YYYY-MM-DD. Status: accepted.` (or superseded, or proposed) in its third line"));
        }
        for word in ["Context", "Decision", "Consequences"] {
            if !text.contains(word) {
                complaints.push(format!("{name} lacks {word}"));
            }
        }
    }
    if names.len() < 3 {
        complaints.push(format!("only {} records", names.len()));
    }
    verdict("decision records are complete, each under its own number", &complaints);
}

#[test]
fn the_map_of_tasks_names_every_vital_one() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("readable");
    let mut names = BTreeSet::new();
    for text in production(&["coordinator", "agent"]).values() {
        let starts = ["vital(\"", "vital.spawn(\""].into_iter().flat_map(|start| text.split(start).skip(1));
        names.extend(starts.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    let missing = names.iter().filter(|name| !map.contains(&format!("| {name} ")));
    let complaints: Vec<String> =
        missing.map(|name| format!("ARCHITECTURE.md has no row for {name}")).collect();
    assert!(5 < names.len(), "only {names:?}: the rule checks nothing");
    verdict("the map of tasks in ARCHITECTURE.md is whole", &complaints);
}

#[test]
fn unit_files_are_well_formed() {
    let units: BTreeMap<String, String> = files(&[".service"]);
    let mut complaints = Vec::new();
    for (path, text) in &units {
        let mut section = "";
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') && line.ends_with(']') {
                section = line;
                if !["[Unit]", "[Service]", "[Install]"].contains(&line) {
                    complaints.push(format!("{path}:{}: no such section {line}", number + 1));
                }
            } else if section.is_empty() || line.split_once('=').is_none_or(|(key, _)| key.is_empty()) {
                complaints.push(format!("{path}:{}: not a setting", number + 1));
            }
        }
        // One that only does something when it is stopped has nothing to restart.
        let of_daemons = ["Restart=", "RestartPreventExitStatus=64"];
        let daemons = of_daemons.iter().filter(|_| !text.contains("\nType=oneshot\n"));
        for needed in ["ExecStart=", "WantedBy="].iter().chain(daemons) {
            if !text.contains(needed) {
                complaints.push(format!("{path} lacks {needed}"));
            }
        }
        if !text.contains("\nLimitCORE=0\n") {
            complaints.push(format!("{path}: a core file would hold every secret; say LimitCORE=0"));
        }
        if path.contains("agent") && !text.contains("KillMode=process") {
            complaints
                .push(format!("{path}: without KillMode=process a restarted agent takes its servers down"));
        }
    }
    verdict("systemd would take these units", &complaints);
}

/// How exposed systemd may call a unit. The agent's holds a JVM, which needs more than the agent does.
const EXPOSED_MOST: [(&str, f64); 3] =
    [("convoy-coordinator.service", 1.5), ("convoy-agent.service", 3.0), ("convoy-server.service", 2.5)];

#[test]
fn units_are_no_more_exposed_than_promised() {
    let analyze = |words: &[&str]| std::process::Command::new("systemd-analyze").args(words).output();
    let can =
        analyze(&["--help"]).is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--offline"));
    if !can {
        println!("NOT EXERCISED: there is no systemd-analyze that reads unit files by themselves");
        return;
    }
    let mut complaints = Vec::new();
    for (unit, most) in EXPOSED_MOST {
        let path = root().join("systemd").join(unit);
        let path = path.to_str().expect("the root is text");
        let said = analyze(&["security", "--offline=true", "--no-pager", path]).expect("it ran a moment ago");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let level = said.rsplit("exposure level for ").next().and_then(|rest| rest.split_whitespace().nth(1));
        let level = level.and_then(|level| level.parse::<f64>().ok());
        println!("{unit}: {level:?}, at most {most}");
        if level.is_none_or(|level| most < level) {
            complaints.push(format!("{unit} is exposed {level:?}, at most {most} is promised:\n{said}"));
        }
    }
    verdict("units are no more exposed than docs/agent.md and docs/coordinator.md promise", &complaints);
}

#[test]
fn every_finding_is_documented() {
    let documented = files(&[".md"]).into_iter().filter(|(path, _)| path.starts_with("docs/"));
    let documented: String = documented.map(|(_, text)| text).collect();
    let mut complaints = BTreeSet::new();
    for (path, text) in production(&["fleet", "carbon", "coordinator"]) {
        for code in codes(&text) {
            if !documented.contains(&code) {
                complaints.insert(format!("{code} ({path}) is in no file of docs/"));
            }
        }
    }
    verdict("a person who meets a finding can look it up", &complaints.into_iter().collect::<Vec<_>>());
}

/// Finding codes in quotes.
fn codes(text: &str) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for part in text.split("\"CV").skip(1) {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        if digits.len() == 3 && part[3..].starts_with('"') {
            codes.insert(format!("CV{digits}"));
        }
    }
    codes
}

#[test]
fn every_command_and_reason_is_documented() {
    let text = fs::read_to_string(root().join("docs/cli.md")).expect("docs/cli.md describes the command");
    let mut complaints = Vec::new();
    let mut commands = Vec::new();
    leaves(&cli::args::Typed::command(), "", &mut commands);
    assert!(20 < commands.len(), "{commands:?}");
    complaints.extend(commands.into_iter().filter(|name| !text.contains(&format!("`{name}"))));
    for (_, word) in RefusalReason::ALL {
        if !text.contains(&format!("`{word}`")) {
            complaints.push(format!("refusal reason {word}"));
        }
    }
    for exit in cli::exit::Exit::ALL {
        if !text.contains(&format!("| {} |", exit.code())) {
            complaints.push(format!("exit code {}", exit.code()));
        }
    }
    verdict("docs/cli.md says all that the command does", &complaints);
}

fn leaves(command: &clap::Command, above: &str, names: &mut Vec<String>) {
    let name = if above.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{above} {}", command.get_name())
    };
    let mut children = command.get_subcommands().peekable();
    if children.peek().is_none() {
        names.push(name);
        return;
    }
    for child in children {
        leaves(child, &name, names);
    }
}
