//! What a person had written before the first apply comes back after a failure, and when an operator asks.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    bundle, content_of, found, path, process,
    transcript::{
        Story,
        adoption::{differing, over_a_running_server},
        target_of,
    },
};
use crate::{
    bundle::Bundle,
    drift::Found,
    ids::Generation,
    node::{Command, Event, Keeping, LogSign, StagedFacts, TakenOriginal},
    observed::RefusalReason,
};

pub(super) fn kept(keep: &Keeping) -> &'static str {
    match keep {
        Keeping::Nothing => "",
        Keeping::All { .. } => ", keeping all",
        Keeping::Added { .. } => ", keeping what is new",
    }
}

/// Generation 1 is switched over a starting server's files, which are kept, once that server has ended.
fn over_a_kept_original(first: &Arc<Bundle>) -> (Story, Arc<Bundle>) {
    let original = found("by hand", Generation(1));
    let taken = TakenOriginal { content: content_of(&original), bundle: original.clone() };
    let mut story = over_a_running_server(first, StagedFacts { original: Some(taken), ..differing() });
    story
        .at(103, "java ends", Event::Exited { process: process(10, 3000), how: "ended".into() })
        .at(104, "switched", Event::Switched { target: target_of(1, first) })
        .at(105, "java is there", Event::Launched(process(11, 105_000)));
    (story, original)
}

#[test]
fn a_failed_first_apply_goes_back_to_the_original_and_its_server() {
    let first = bundle("a = bad", "x");
    let (mut story, original) = over_a_kept_original(&first);
    let back = target_of(0, &original);
    story.at(106, "a line says why not", Event::Logged(LogSign::ConfigError("line 1: bad".into()))).at(
        107,
        "java ends",
        Event::Exited { process: process(11, 105_000), how: "ended".into() },
    );
    let memory = story.engine.memory().clone();
    story
        .at(108, "staged", Event::Staged { target: back, facts: StagedFacts::default() })
        .at(109, "switched", Event::Switched { target: back })
        .at(110, "java is there", Event::Launched(process(12, 110_000)))
        .ready(120)
        .assigned(130, 1, &first)
        .at(2000, "the timer", Event::Timer);
    let observed = story.engine.observed();
    assert!(observed.is_on_original() && observed.last_good.is_none(), "{observed:?}\n{}", story.text);
    insta::assert_snapshot!(story.text);

    // An agent that dies on the way goes on with it.
    let mut next = Story::begin(memory, &[&first, &original]);
    next.at(200, "nobody is there", Event::Found(Vec::new()));
    assert!(next.text.contains("stage 0") && !next.text.contains("launch"), "{}", next.text);
}

#[test]
fn an_original_that_is_asked_for_ends_the_attempt_and_is_not_enforced() {
    let first = bundle("a = 1", "x");
    let (mut story, original) = over_a_kept_original(&first);
    story.ready(110);
    story.text.clear();
    let command = Command::RestoreOriginal { why: "it was better".into() };
    let back = target_of(0, &original);
    let edits = BTreeMap::from([(path("deployment.toml"), Found::Missing)]);
    let looked = edits.keys().cloned().collect();
    story
        .at(120, "the original is asked for", Event::Commanded { id: 1, command })
        .at(121, "staged", Event::Staged { target: back, facts: StagedFacts::default() })
        .at(122, "switched", Event::Switched { target: back })
        .at(123, "java ends", Event::Exited { process: process(11, 105_000), how: "ended".into() })
        .at(124, "java is there", Event::Launched(process(12, 124_000)))
        .ready(130)
        .at(131, "a file is gone", Event::Scanned { target: back, looked, found: edits });
    insta::assert_snapshot!(story.text);
    let attempt = story.engine.observed().attempted.expect("it was tried");
    assert_eq!(attempt.failure.map(|failure| failure.reason), Some(RefusalReason::Withdrawn));

    // A newer assignment keeps what lies there by then.
    let next = bundle("a = 2", "x");
    story.assigned(140, 2, &next);
    story.at(141, "content is there", Event::Obtained { content: content_of(&next), bundle: next.clone() });
    assert!(story.text.contains("stage 2, keeping all"), "{}", story.text);
}
