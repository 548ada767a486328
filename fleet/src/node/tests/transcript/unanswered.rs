//! Starts that are held, and jobs that nobody answers.

use super::*;
use crate::observed::ConcernKind;

#[test]
fn no_server_is_started_on_a_file_that_the_product_refuses() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let target = target_of(1, &first);
    let broken = || {
        let texts = Some(("a = 1".to_owned(), "[server".to_owned()));
        differs(target, "deployment.toml", Found::Content { texts })
    };
    let pause = Command::PauseDrift { reason: "hands on".into(), until: Timestamp(10_000_000) };
    story
        .at(50, "enforcement is paused", Event::Commanded { id: 1, command: pause })
        .at(52, "half a table", broken())
        .at(54, "and again", broken())
        .at(60, "the server ends", Event::Exited { process: process(10, 3000), how: "killed".to_owned() })
        .at(90, "the timer", Event::Timer);
    assert!(!story.text.contains("launch"), "{}", story.text);
    let held =
        |story: &Story| story.engine.observed().concerns.iter().any(|it| it.kind == ConcernKind::StartHeld);
    assert!(held(&story), "{:?}", story.engine.observed());
    let next = story.engine.next_deadline();
    assert!(next.is_some_and(|next| Instant(90_000) < next), "nothing to do now: {next:?}");
    let looked = std::collections::BTreeSet::from([path("deployment.toml")]);
    story.at(95, "it is mended", Event::Scanned { target, looked, found: BTreeMap::new() });
    assert!(story.text.contains("    launch\n") && !held(&story), "{}", story.text);
}

#[test]
fn a_job_that_is_never_answered_is_asked_for_again() {
    let first = bundle("a = 1", "x");
    let target = target_of(1, &first);
    let obtained = || Event::Obtained { content: content_of(&first), bundle: first.clone() };
    let staged = || Event::Staged { target, facts: StagedFacts::default() };
    let steps: [(&str, Vec<Event>); 3] = [
        ("obtain 1", vec![]),
        ("stage 1, keeping all", vec![obtained()]),
        ("switch 1", vec![obtained(), Event::Found(Vec::new()), staged()]),
    ];
    for (job, events) in steps {
        let mut story = Story::begin(Memory::default(), &[]);
        story.assigned(1, 1, &first);
        for event in events {
            story.at(2, "then", event);
        }
        let asked = |story: &Story| story.text.matches(&format!("    {job}\n")).count();
        story.at(500, "the timer", Event::Timer);
        assert_eq!(asked(&story), 1, "{}", story.text);
        let due = story.engine.next_deadline();
        assert!(due.is_some_and(|due| due <= Instant(602_000)), "{job} wakes nobody: {due:?}");
        story.at(602, "the timer", Event::Timer);
        assert_eq!(asked(&story), 2, "{}", story.text);
    }
}

#[test]
fn a_look_and_a_launch_that_are_never_answered_are_made_again() {
    let first = bundle("a = 1", "x");
    let mut story = Story::begin(Memory::default(), &[]);
    story.assigned(1, 1, &first).switched(2, 1, &first);
    let looks = |story: &Story| story.text.matches("look for servers").count();
    let before = looks(&story);
    story.at(70, "the timer", Event::Timer);
    assert_eq!(looks(&story), before + 1, "{}", story.text);
    story.at(71, "nobody is there", Event::Found(Vec::new()));
    story.at(71, "switched", Event::Switched { target: target_of(1, &first) });
    assert!(story.text.contains("    launch\n"), "{}", story.text);
    story.at(200, "the timer", Event::Timer);
    assert_eq!(looks(&story), before + 1, "{}", story.text);
    story.at(252, "the timer", Event::Timer);
    assert_eq!(looks(&story), before + 2, "{}", story.text);
    let launches = |story: &Story| story.text.matches("    launch\n").count();
    story.at(261, "nobody is there", Event::Found(Vec::new()));
    assert_eq!(launches(&story), 2, "{}", story.text);
}
