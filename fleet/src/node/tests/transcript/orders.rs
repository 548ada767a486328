//! What operators want restored.

use super::*;

#[test]
fn a_file_that_was_as_declared_is_not_called_restored() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let logging = || path("log4j2.properties");
    let order = |id| Event::Commanded { id, command: Command::RestoreDrift { path: Some(logging()) } };
    story.at(60, "an operator wants it restored", order(1)).at(
        61,
        "it was as declared",
        Event::AsDesired { path: logging() },
    );
    let said = "tell: command 1 true: log4j2.properties has no known difference; it is restored if it turns out to have one";
    assert!(story.text.contains(said), "{}", story.text);
    let told = |story: &Story| {
        story.engine.memory().notices.iter().filter(|notice| notice.kind.as_str() == "drift-restored").count()
    };
    assert_eq!(told(&story), 0, "nobody edited it");
    assert!(!story.engine.observed().drift.iter().any(|drift| drift.path == logging()));
    // Nothing is left of the order: an edit is answered like any other.
    story.at(62, "a file is gone", differs(target_of(1, &first), "log4j2.properties", Found::Missing));
    let took = std::time::Duration::from_millis(8);
    story.at(63, "restored", Event::Restored { path: logging(), took });
    assert_eq!(told(&story), 1);
    // One that differs is called what it is.
    let pause = Command::PauseDrift { reason: "hands on".into(), until: Timestamp(10_000_000) };
    story
        .at(70, "enforcement is paused", Event::Commanded { id: 2, command: pause })
        .at(71, "a file is gone", differs(target_of(1, &first), "log4j2.properties", Found::Missing))
        .at(72, "an operator wants it restored", order(3));
    assert!(story.text.contains("command 3 true: log4j2.properties is being restored"), "{}", story.text);
}
