//! Who made an edit: told with it, or after it, and never with another one.

use super::*;
use crate::editor::Editor;

fn by(process: &str) -> Vec<Editor> {
    vec![Editor {
        pid: 7,
        process: process.into(),
        user: "root".into(),
        login: "alice".into(),
        ..Editor::default()
    }]
}

fn edited(editors: Vec<Editor>, restored: bool) -> Event {
    Event::Edited { path: path("log4j2.properties"), editors, restored }
}

/// What the node says of the file, and the sentence that was told last.
fn said(story: &Story) -> (String, String) {
    let observed = story.engine.observed();
    let drift = observed.drift.iter().find(|drift| drift.path == path("log4j2.properties"));
    let who = drift
        .map_or("no difference".to_owned(), |drift| crate::editor::named(&drift.editors).unwrap_or_default());
    (who, story.engine.memory().notices.back().map_or_else(String::new, |notice| notice.text.clone()))
}

const SED: &str = "alice as root with sed (process 7)";

#[test]
fn an_editor_is_told_with_the_restore_or_after_it_and_once() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let seen = || differs(target_of(1, &first), "log4j2.properties", Found::Content { texts: None });
    let restored =
        || Event::Restored { path: path("log4j2.properties"), took: std::time::Duration::from_millis(8) };
    story.at(50, "an edit is seen", seen()).at(51, "its editor", edited(by("sed"), true));
    story.at(51, "restored", restored());
    assert_eq!(
        said(&story),
        (SED.to_owned(), format!("log4j2.properties: edited, restored after 8.0 ms, by {SED}"))
    );
    // The next edit is somebody else's: until it is known whose, it is nobody's.
    story.at(60, "an edit is seen", seen()).at(61, "restored", restored());
    assert_eq!(said(&story), (String::new(), "log4j2.properties: edited, restored after 8.0 ms".to_owned()));
    story.at(62, "its editor", edited(by("sed"), true)).at(63, "again", edited(by("sed"), true));
    assert_eq!(
        said(&story),
        (SED.to_owned(), format!("log4j2.properties: the edit that was restored was by {SED}"))
    );
    let told = story.engine.memory().notices.iter().filter(|notice| notice.kind.as_str() == "drift-editors");
    assert_eq!(told.count(), 1);
    // Somebody who writes again before a look is not who wrote what was restored.
    story.at(64, "another editor", edited(by("vim"), false));
    assert_eq!(said(&story).0, SED);
}

#[test]
fn an_editor_of_what_is_left_alone_is_told_with_it_and_goes_with_it() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let seen = || differs(target_of(1, &first), "log4j2.properties", Found::Content { texts: None });
    let pause = Command::PauseDrift { reason: "hands on".into(), until: Timestamp(10_000_000) };
    story
        .at(50, "enforcement is paused", Event::Commanded { id: 1, command: pause })
        .at(51, "its editor", edited(by("sed"), false))
        .at(51, "an edit is seen", seen())
        .at(52, "its editor", edited(by("sed"), false))
        .at(52, "it stands", seen());
    assert_eq!(said(&story), (SED.to_owned(), format!("log4j2.properties: edited, paused, by {SED}")));
    // Another one writes the same.
    story.at(60, "its editors", edited([by("vim"), by("sed")].concat(), false)).at(60, "it stands", seen());
    assert!(said(&story).0.starts_with("alice as root with vim"), "{:?}", said(&story));
    let looked = std::collections::BTreeSet::from([path("log4j2.properties")]);
    let target = target_of(1, &first);
    story.at(70, "undone", Event::Scanned { target, looked, found: BTreeMap::new() });
    assert_eq!(said(&story).0, "no difference");
    story.at(80, "an edit is seen", seen()).at(82, "it stands", seen());
    assert_eq!(said(&story), (String::new(), "log4j2.properties: edited, paused".to_owned()));
}
