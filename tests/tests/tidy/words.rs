//! Every word that the programs say of a node, a rollout or an assignment is explained in docs/troubleshooting.md.

use std::fs;

use fleet::{
    alert::Rule,
    key_manager::seen::State,
    observed::{ConcernKind, DriftAction, DriftKind, RefusalReason},
    words::{NodeWord, NoticeWord, RolloutWord, StandingWord, StepWord, VariantArray as _},
};

use super::{root, verdict};

#[test]
fn every_word_of_a_status_is_explained() {
    let text = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let mut words: Vec<(&str, &str)> = Vec::new();
    words.extend(NodeWord::VARIANTS.iter().map(|word| ("state of a node", word.as_str())));
    words.extend(RolloutWord::VARIANTS.iter().map(|word| ("state of a rollout", word.as_str())));
    words.extend(StepWord::VARIANTS.iter().map(|word| ("state of a step", word.as_str())));
    words.extend(NoticeWord::VARIANTS.iter().map(|word| ("notice of an agent", word.as_str())));
    words.extend(RefusalReason::ALL.map(|(_, word)| ("reason of a refusal", word)));
    words.extend(DriftKind::ALL.map(|(_, word)| ("kind of drift", word)));
    words.extend(DriftAction::ALL.map(|(_, word)| ("what was done about drift", word)));
    words.extend(ConcernKind::ALL.map(|(_, word)| ("concern", word)));
    words.extend(State::ALL.map(|(_, word)| ("state of a Key Manager", word)));
    words.extend(Rule::ALL.map(|rule| ("alert", rule.as_str())));
    words.extend(StandingWord::VARIANTS.iter().map(|word| ("standing", word.as_str())));
    let missing = words.iter().filter(|(_, word)| !text.contains(&format!("| `{word}`")));
    let complaints: Vec<String> = missing.map(|(what, word)| format!("{what}: {word}")).collect();
    assert!(100 < words.len(), "only {} words: the rule checks nothing", words.len());
    verdict("docs/troubleshooting.md has no row for", &complaints);
}
