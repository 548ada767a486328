//! The handbook in `docs/`: every page is in its table of contents, and every link leads to a file and a heading.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use super::{files, root, verdict};

/// Pages below this directory are listed by `cargo xtask book`, which reads the directory.
const DECISIONS: &str = "docs/decisions/";
const CONTENTS: &str = "docs/SUMMARY.md";

#[test]
fn every_page_is_in_the_table_of_contents() {
    let contents = fs::read_to_string(root().join(CONTENTS)).expect("the handbook has a table of contents");
    let listed: Vec<String> =
        links(&contents).into_iter().map(|link| format!("docs/{}", link.path)).collect();
    let pages: BTreeSet<String> = files(&[".md"])
        .into_keys()
        .filter(|path| path.starts_with("docs/") && path != CONTENTS && !is_record(path))
        .collect();
    let mut complaints: Vec<String> = pages
        .iter()
        .filter(|page| !listed.contains(page))
        .map(|page| format!("{page} is not in {CONTENTS}: add a line under the chapter that it belongs to"))
        .collect();
    let twice = listed.iter().filter(|page| 1 < listed.iter().filter(|other| other == page).count());
    complaints.extend(twice.map(|page| format!("{page} is in {CONTENTS} twice")));
    assert!(20 < pages.len(), "only {pages:?}: the rule checks nothing");
    verdict("a reader finds every page of the handbook", &complaints);
}

fn is_record(path: &str) -> bool {
    path.strip_prefix(DECISIONS).is_some_and(|name| name.starts_with(|first: char| first.is_ascii_digit()))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let documents = files(&[".md"]);
    let headings: BTreeMap<&str, BTreeSet<String>> =
        documents.iter().map(|(path, text)| (path.as_str(), anchors(text))).collect();
    let mut complaints = Vec::new();
    for (path, text) in &documents {
        for link in links(text) {
            let target = if link.path.is_empty() {
                path.clone()
            } else {
                normal(&Path::new(path).parent().unwrap_or(Path::new("")).join(&link.path))
            };
            if !root().join(&target).exists() {
                complaints.push(format!("{path}:{}: there is no {target}", link.line));
                continue;
            }
            let known = headings.get(target.as_str());
            if let (Some(anchor), Some(known)) = (&link.anchor, known)
                && !known.contains(anchor)
            {
                complaints.push(format!("{path}:{}: {target} has no heading #{anchor}", link.line));
            }
        }
    }
    verdict("every link between documents leads somewhere", &complaints);
}

/// Where a link leads, from the file that it stands in.
struct Link {
    line: usize,
    /// Empty: the same file.
    path: String,
    anchor: Option<String>,
}

/// Links of a document to other files of the project.
fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, prose) in prose(text) {
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.contains(' ') {
                continue;
            }
            let (path, anchor) = target.split_once('#').map_or((target, None), |(path, to)| (path, Some(to)));
            links.push(Link { line, path: path.to_owned(), anchor: anchor.map(str::to_owned) });
        }
    }
    links
}

/// The lines outside of code blocks, by number, without code within them.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return None;
        }
        let without_code: String = line.split('`').step_by(2).collect();
        (!in_code).then_some((index + 1, without_code))
    })
}

/// What its headings are called in links: as code hosts and mdbook call them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let heading = line.trim_start_matches('#');
        if in_code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        // A link counts by its words.
        let mut words = String::new();
        for (index, part) in heading.trim().split("](").enumerate() {
            words.push_str(if index == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) });
        }
        let kept = words.to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let mut name = anchor.clone();
        for number in 1.. {
            if anchors.insert(name) {
                break;
            }
            name = format!("{anchor}-{number}");
        }
    }
    anchors
}

/// A path below the root, without `..`.
fn normal(path: &Path) -> String {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts.to_string_lossy().into_owned()
}

#[test]
fn headings_are_called_as_code_hosts_call_them() {
    let text = "# Rolling back\n## `[groups.NAME.hooks]`\n```\n# no heading\n```\n## What `status` says\n## Rolling back\n";
    let expected = ["groupsnamehooks", "rolling-back", "rolling-back-1", "what-status-says"];
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), expected);
}
