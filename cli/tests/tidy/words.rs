//! Nobody judges by the words for states as text: they are types.

use fleet::words::{
    ChangeWord, FileWord, GroupWord, NodeWord, NoticeWord, ProposalWord, RestartWord, RolloutWord,
    ServiceWord, SourceWord, StandingWord, StepWord, VariantArray as _, VerdictWord,
};

use super::{BTreeSet, production, verdict};

/// Texts that are such a word and mean something else where they stand: file, word, what it is there.
const OTHERWISE: [(&str, &str, &str); 7] = [
    ("agent/src/balancer/socket.rs", "ready", "a command of HAProxy's socket"),
    ("agent/src/unit/bus.rs", "done", "how systemd says that a job went well"),
    ("agent/src/unit/bus.rs", "reload", "a job of systemd"),
    ("agent/src/unit/bus.rs", "restart", "a job of systemd"),
    ("coordinator/src/setup/mod.rs", "done", "what became of a step of `setup`"),
    ("proto/src/convert/peers.rs", "outdated", "a path of certificates"),
    ("proto/src/convert/peers.rs", "unknown", "a path of certificates"),
];

/// Texts that a line compares something with: `== "x"`, `!= "x"`, and patterns before `|` and `=>`.
fn judged(line: &str) -> impl Iterator<Item = &str> {
    let parts: Vec<&str> = line.split('"').collect();
    let texts = (1..parts.len()).step_by(2);
    let is_judged = move |index: &usize| {
        let before = parts[index - 1].trim_end();
        let after = parts.get(index + 1).map_or("", |after| after.trim_start());
        let is_pattern = after.starts_with("=>") || after.starts_with("| ") || after.starts_with("if ");
        before.ends_with("==")
            || before.ends_with("!=")
            || (before.ends_with('|') && !before.ends_with("||"))
            || is_pattern
    };
    let texts: Vec<usize> = texts.filter(is_judged).collect();
    let parts: Vec<&str> = line.split('"').collect();
    texts.into_iter().map(move |index| parts[index])
}

#[test]
fn nobody_judges_by_the_words_for_states_as_text() {
    let mut words: BTreeSet<&'static str> = BTreeSet::new();
    words.extend(NodeWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(ServiceWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(VerdictWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(RolloutWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(GroupWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(StepWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(NoticeWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(ProposalWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(RestartWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(ChangeWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(FileWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(SourceWord::VARIANTS.iter().map(|word| word.as_str()));
    words.extend(StandingWord::VARIANTS.iter().map(|word| word.as_str()));
    assert!(80 < words.len(), "only {} words: the rule checks nothing", words.len());
    let mut complaints = Vec::new();
    let mut unused: BTreeSet<(&str, &str)> = OTHERWISE.iter().map(|(path, word, _)| (*path, *word)).collect();
    let sources = production(&["proto", "coordinator", "agent", "cli"]);
    for (path, text) in &sources {
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for word in judged(line).filter(|text| words.contains(text)) {
                let is_known =
                    OTHERWISE.iter().any(|(known, other, _)| *known == path.as_str() && *other == word);
                if !is_known {
                    complaints.push(format!("{path}:{}: {word:?}", number + 1));
                }
                unused.remove(&(path.as_str(), word));
            }
        }
    }
    complaints.extend(
        unused.iter().map(|(path, word)| format!("{path} has no {word:?} any more; take it off the list")),
    );
    verdict(
        "use the types of fleet/src/words.rs; a text that means something else is named in this test with what it is",
        &complaints,
    );
}
