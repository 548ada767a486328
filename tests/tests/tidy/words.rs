//! Every word that the programs say of a node, a rollout or an assignment is explained in docs/troubleshooting.md.

use std::fs;

use fleet::{
    alert::Rule,
    key_manager::seen::State,
    observed::{ConcernKind, DriftAction, DriftKind, RefusalReason},
};

use super::{root, verdict};

#[test]
fn every_word_of_a_status_is_explained() {
    let text = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let mut words: Vec<(&str, &str)> = Vec::new();
    words.extend(coordinator::NodeState::WORDS.map(|word| ("state of a node", word)));
    words.extend(RefusalReason::ALL.map(|(_, word)| ("reason of a refusal", word)));
    words.extend(DriftKind::ALL.map(|(_, word)| ("kind of drift", word)));
    words.extend(DriftAction::ALL.map(|(_, word)| ("what was done about drift", word)));
    words.extend(ConcernKind::ALL.map(|(_, word)| ("concern", word)));
    words.extend(State::ALL.map(|(_, word)| ("state of a Key Manager", word)));
    words.extend(Rule::ALL.map(|rule| ("alert", rule.as_str())));
    let said = from_sources();
    words.extend(said.iter().map(|(what, word)| (*what, word.as_str())));
    let missing = words.iter().filter(|(_, word)| !text.contains(&format!("| `{word}`")));
    let complaints: Vec<String> = missing.map(|(what, word)| format!("{what}: {word}")).collect();
    assert!(100 < words.len(), "only {} words: the rule checks nothing", words.len());
    verdict("docs/troubleshooting.md has no row for", &complaints);
}

/// Words without a list of them: those that `as_str` of an enum gives, as the source says them.
fn from_sources() -> Vec<(&'static str, String)> {
    let sources = [
        ("state of a rollout", "fleet/src/rollout/state.rs", "=> \""),
        ("standing", "fleet/src/rollout/standing.rs", "Standing::"),
        ("notice of an agent", "fleet/src/node", "notice(clock, \""),
    ];
    let mut words = Vec::new();
    for (what, path, mark) in sources {
        let text = read_all(path);
        let before = words.len();
        for line in text.lines().filter(|line| line.contains(mark)) {
            let word = line.split('"').nth(1).unwrap_or_default();
            let is_word = word.contains(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if is_word && !words.contains(&(what, word.to_owned())) {
                words.push((what, word.to_owned()));
            }
        }
        assert!(before < words.len(), "no {what} in {path}: the rule checks nothing");
    }
    words
}

/// The source of a file, or of those of a directory.
fn read_all(path: &str) -> String {
    let path = root().join(path);
    if path.is_file() {
        return fs::read_to_string(path).unwrap();
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect()
}
