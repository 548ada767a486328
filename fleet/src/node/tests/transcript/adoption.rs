//! A server that somebody else started: adopted, or restarted because it read other files.

use super::*;

/// Up to the switch of the first generation, over a server that somebody else started at second 3.
pub(in crate::node::tests) fn over_a_running_server(bundle: &Arc<Bundle>, facts: StagedFacts) -> Story {
    let mut story = Story::begin(Memory::default(), &[]);
    let target = target_of(1, bundle);
    story
        .assigned(100, 1, bundle)
        .at(101, "content is there", Event::Obtained { content: content_of(bundle), bundle: bundle.clone() })
        .at(101, "one is there", Event::Found(vec![process(10, 3000)]))
        .at(102, "staged", Event::Staged { target, facts });
    story
}

pub(in crate::node::tests) fn differing() -> StagedFacts {
    StagedFacts { differing: vec![path("deployment.toml")], ..StagedFacts::default() }
}

/// Whether the server is asked to stop once the switch is over.
fn restarts(story: &mut Story, bundle: &Bundle) -> bool {
    story.at(103, "switched", Event::Switched { target: target_of(1, bundle) });
    story.text.contains("TERM 10")
}

#[test]
fn a_running_server_whose_files_mean_the_same_is_adopted_and_said_to_be() {
    let first = bundle("a = 1", "x");
    let mut story = over_a_running_server(&first, StagedFacts::default());
    assert!(!restarts(&mut story, &first), "{}", story.text);
    story.ready(110);
    let memory = story.engine.memory();
    let attempt = memory.attempted.as_ref().expect("one was made");
    assert!(attempt.done && attempt.kept_server && attempt.failure.is_none(), "{attempt:?}");
    let texts: Vec<&str> = memory.notices.iter().map(|notice| notice.text.as_str()).collect();
    assert!(
        texts.contains(&"adopted, no restart: the files of generation 1 mean the same to the server"),
        "{texts:?}"
    );
    assert_eq!(memory.starts_total, 0);
}

#[test]
fn a_running_server_that_read_other_files_is_restarted_even_by_the_next_agent() {
    let first = bundle("a = 1", "x");
    let mut story = over_a_running_server(&first, differing());
    assert!(restarts(&mut story, &first), "{}", story.text);

    let before = over_a_running_server(&first, StagedFacts::default());
    let memory = Memory { reads_other: true, ..before.engine.memory().clone() };
    assert!(memory.switching.is_some());
    let mut story = Story::begin(memory, &[&first]);
    let (target, state) = (target_of(1, &first), Recovery::New);
    story.at(104, "all new files are in force", Event::Recovered { target, state });
    story.at(105, "one is there", Event::Found(vec![process(10, 3000)]));
    assert!(story.text.contains("TERM 10"), "{}", story.text);
}

#[test]
fn a_running_server_is_restarted_for_an_edit_that_it_cannot_have_read() {
    let first = bundle("a = 1", "x");
    let edited =
        |second: i64| StagedFacts { config_unread: Some(Timestamp(second * 1000)), ..StagedFacts::default() };
    let mut after_its_start = over_a_running_server(&first, edited(50));
    assert!(restarts(&mut after_its_start, &first), "{}", after_its_start.text);
    let mut before_its_start = over_a_running_server(&first, edited(2));
    assert!(!restarts(&mut before_its_start, &first), "{}", before_its_start.text);
}

#[test]
fn what_an_earlier_staging_was_compared_with_does_not_count_for_the_next() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let staged = |generation, bundle: &Bundle, facts| {
        let target = target_of(generation, bundle);
        Event::Staged { target, facts }
    };
    let obtained =
        |bundle: &Arc<Bundle>| Event::Obtained { content: content_of(bundle), bundle: bundle.clone() };
    let mut story = Story::begin(Memory::default(), &[]);
    story
        .assigned(100, 1, &first)
        .at(101, "content is there", obtained(&first))
        .at(102, "staged", staged(1, &first, differing()))
        .assigned(110, 2, &second)
        .at(111, "content is there", obtained(&second))
        .at(111, "staged", staged(2, &second, StagedFacts::default()))
        .at(112, "one is there", Event::Found(vec![process(10, 3000)]))
        .at(113, "switched", Event::Switched { target: target_of(2, &second) });
    assert!(story.text.contains("switch 2") && !story.text.contains("TERM"), "{}", story.text);
}

/// Its start is worked out anew by each agent, from the process's age and the clock.
#[test]
fn the_age_of_a_server_does_not_go_back_because_the_agent_was_restarted() {
    let first = bundle("a = 1", "x");
    let memory = Story::up(&first).engine.memory().clone();
    let seen_after = |seen: i64| {
        let mut story = Story::begin(memory.clone(), &[&first]);
        story.at(1, "one is there", Event::Found(vec![process(10, seen)]));
        story.engine.observed().process.map(|process| process.started.0)
    };
    assert_eq!(seen_after(3007), Some(3000), "a moment later, by another look");
    assert_eq!(seen_after(2991), Some(3000));
    assert_eq!(seen_after(903_000), Some(903_000), "the clock was set");
}
