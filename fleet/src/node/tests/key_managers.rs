//! Stories of Key Managers: registered once the server is ready, looked at from time to time, deleted only when the
//! fleet has them no more and the files that say so are good.

use std::{sync::Arc, time::Duration};

use super::{
    bundle,
    transcript::{Story, target_of},
};
use crate::{
    bundle::{Bundle, DriftPolicy},
    key_manager::{
        Account, AdminApi, Connector, Elsewhere, KeyManagers, Registration,
        body::Difference,
        work::{Outcome, Task, Trouble},
    },
    node::{Command, Engine, Event},
    spec::Secret,
    time::Timestamp,
};

fn registration(server: &str, drift: DriftPolicy) -> Registration {
    let account = |password| Account { user: "admin".into(), password: Secret::new(password) };
    Registration {
        name: "IS7".into(),
        connector: Connector::Is7,
        server: server.into(),
        display_name: "IS7".into(),
        grant_types: vec!["client_credentials".into()],
        role_creation: None,
        account: account("is"),
        drift,
        check_interval: Duration::from_secs(600),
        admin: AdminApi { url: "https://localhost:9443".into(), account: account("am"), certificate: None },
    }
}

fn keeping(kept: Vec<Registration>) -> Arc<Bundle> {
    let key_managers = KeyManagers { kept, elsewhere: Vec::new() };
    Arc::new(Bundle { key_managers, ..bundle("a = 1", "x").as_ref().clone() })
}

fn enforced() -> Arc<Bundle> {
    keeping(vec![registration("https://km", DriftPolicy::Enforce)])
}

fn over(run: u64, outcome: Result<Outcome, Trouble>) -> Event {
    Event::KeyManagerDone { run, outcome }
}

fn changed() -> Vec<Difference> {
    vec![Difference { field: "enabled".into(), wanted: "true".into(), found: "false".into() }]
}

/// Registered by run 1, its first look due some ten minutes later.
fn registered(bundle: &Arc<Bundle>) -> Story {
    let mut story = Story::up(bundle);
    story.at(31, "registered", over(1, Ok(Outcome::Registered)));
    assert!(story.engine.memory().registered["IS7"].is_written);
    story.text.clear();
    story
}

fn concerns(engine: &Engine) -> String {
    let concerns = engine.observed().concerns;
    concerns.iter().map(|concern| format!("{}: {}\n", concern.kind, concern.detail)).collect()
}

fn notices(engine: &Engine) -> String {
    let notices =
        engine.memory().notices.iter().filter(|notice| notice.kind.as_str().starts_with("key-manager"));
    notices.map(|notice| format!("{}: {}\n", notice.kind, notice.text)).collect()
}

#[test]
fn it_is_registered_once_the_server_is_ready_and_looked_at_later() {
    let mut story = Story::begin(crate::node::Memory::default(), &[]);
    let first = enforced();
    story.assigned(1, 1, &first).switched(2, 1, &first);
    story.at(2, "nobody is there", Event::Found(Vec::new()));
    story.at(2, "switched", Event::Switched { target: target_of(1, &first) });
    assert!(concerns(&story.engine).contains("IS7 is not registered yet: the server is not ready"));
    let mut story = Story::up(&first);
    let begun = story.engine.memory().registered["IS7"];
    assert!(!begun.is_written && !begun.is_ours, "what was begun is known before the first request");
    story.at(31, "registered", over(1, Ok(Outcome::Registered)));
    assert_eq!(concerns(&story.engine), "");
    assert!(notices(&story.engine).contains("registered Key Manager IS7: WSO2-IS-7 at https://km"));
    let due = story.engine.next_deadline();
    assert!(due.is_some(), "the next look is due some time");
    story.text.clear();
    story.at(400, "not yet", Event::Timer);
    assert!(!story.text.contains("key manager"), "{}", story.text);
    story.at(800, "time for a look", Event::Timer);
    assert!(story.text.contains("key manager 2 IS7: Check { correct: true }"), "{}", story.text);
    story.at(801, "put back", over(2, Ok(Outcome::Written(changed()))));
    assert!(
        notices(&story.engine)
            .contains("somebody changed Key Manager IS7, and it is put back: enabled is false, not true")
    );
}

#[test]
fn an_agent_that_died_in_between_goes_on_where_it_was() {
    let first = enforced();
    let story = Story::up(&first);
    for (memory, task) in [
        (story.engine.memory().clone(), Task::Apply),
        (registered(&first).engine.memory().clone(), Task::Check { correct: true }),
    ] {
        let mut story = Story::begin(memory, &[&first]);
        story.at(100, "one is there", Event::Found(vec![super::process(10, 3000)])).ready(130);
        assert!(story.text.contains(&format!("key manager 1 IS7: {task:?}")), "{}", story.text);
    }
}

#[test]
fn drift_that_is_only_told_stands_until_it_is_over() {
    let first = keeping(vec![registration("https://km", DriftPolicy::Report)]);
    let mut story = registered(&first);
    story.at(800, "a look", Event::Timer);
    assert!(story.text.contains("Check { correct: false }"), "{}", story.text);
    story.at(801, "changed", over(2, Ok(Outcome::Differs(changed()))));
    assert!(
        concerns(&story.engine)
            .contains("key-manager-drift: somebody changed Key Manager IS7: enabled is false")
    );
    story.at(1600, "a look", Event::Timer).at(1601, "still", over(3, Ok(Outcome::Differs(changed()))));
    assert_eq!(notices(&story.engine).matches("somebody changed").count(), 1, "told once");
    story.at(2400, "a look", Event::Timer).at(2401, "undone", over(4, Ok(Outcome::AsDeclared)));
    assert_eq!(concerns(&story.engine), "");
    assert!(notices(&story.engine).contains("is as declared again"));
}

#[test]
fn a_pause_of_enforcement_holds_for_key_managers() {
    let mut story = registered(&enforced());
    let pause = Command::PauseDrift { reason: "x".into(), until: Timestamp(5_000_000) };
    story.at(700, "paused", Event::Commanded { id: 4, command: pause }).at(800, "a look", Event::Timer);
    assert!(story.text.contains("Check { correct: false }"), "{}", story.text);
}

#[test]
fn what_is_refused_is_told_once_and_tried_again_seldom() {
    let mut story = Story::up(&enforced());
    let denied = || Err(Trouble::Denied("status 401".into()));
    story.at(31, "refused", over(1, denied()));
    assert!(
        concerns(&story.engine).contains("IS7 is not registered as declared: the Admin API does not let the")
    );
    story.text.clear();
    story.at(300, "not yet: it would lock the account", Event::Timer);
    assert!(!story.text.contains("key manager"), "{}", story.text);
    story.at(332, "again", Event::Timer).at(333, "refused", over(2, denied()));
    assert_eq!(notices(&story.engine).matches("key-manager-failed").count(), 1);
    // Another password is another definition, and tried at once.
    let mut other = registration("https://km", DriftPolicy::Enforce);
    other.admin.account.password = Secret::new("right");
    let second = keeping(vec![other]);
    story.assigned(340, 2, &second).switched(341, 2, &second);
    assert!(story.text.contains("key manager 3 IS7: Apply"), "{}", story.text);
    story.at(342, "registered", over(3, Ok(Outcome::Registered)));
    assert_eq!(concerns(&story.engine), "");
}

#[test]
fn a_portal_that_is_away_is_waited_for() {
    let mut story = Story::up(&enforced());
    story.at(31, "away", over(1, Err(Trouble::Away("localhost:9443: connection refused".into()))));
    assert!(
        concerns(&story.engine).contains("the Admin API does not answer: localhost:9443: connection refused")
    );
    story.at(38, "again", Event::Timer);
    assert!(story.text.contains("key manager 2 IS7: Apply"), "{}", story.text);
    // Its outcome is lost; then it is tried again.
    story.at(400, "long after", Event::Timer).at(500, "again", Event::Timer);
    assert!(story.text.contains("key manager 3 IS7: Apply"), "{}", story.text);
}

#[test]
fn it_is_deleted_when_the_fleet_has_it_no_more_and_the_files_are_good() {
    let first = enforced();
    let mut story = registered(&first);
    let second = keeping(Vec::new());
    story.assigned(100, 2, &second).switched(101, 2, &second).at(180, "later", Event::Timer);
    assert!(story.text.contains("Remove { confirmed: true }"), "{}", story.text);
    assert!(
        story.engine.memory().contents().contains(&super::content_of(&first)),
        "its credentials are kept"
    );
    story.at(181, "deleted", over(2, Ok(Outcome::Removed)));
    assert!(story.engine.memory().registered.is_empty());
    assert!(notices(&story.engine).contains("deleted Key Manager IS7: the fleet has it no more"));
}

#[test]
fn files_on_trial_delete_nothing() {
    let mut story = registered(&enforced());
    let second = {
        let key_managers = KeyManagers::default();
        Arc::new(Bundle { key_managers, ..bundle("a = 2", "x").as_ref().clone() })
    };
    story.assigned(100, 2, &second).switched(101, 2, &second);
    story.at(105, "java ends", Event::Exited { process: super::process(10, 3000), how: "ended".into() });
    story.at(111, "java is there", Event::Launched(super::process(11, 111_000)));
    assert!(!story.text.contains("key manager"), "it restarts and may go back: {}", story.text);
    story.ready(140).at(180, "later", Event::Timer);
    assert_eq!(story.engine.observed().last_good, Some(target_of(2, &second)), "{}", story.text);
    assert!(story.text.contains("Remove { confirmed: true }"), "{}", story.text);
}

#[test]
fn what_another_node_keeps_is_forgotten_and_not_deleted() {
    let mut story = registered(&enforced());
    let elsewhere = vec![Elsewhere { name: "IS7".into(), keeper: "am-0".parse().unwrap() }];
    let key_managers = KeyManagers { kept: Vec::new(), elsewhere };
    let second = Arc::new(Bundle { key_managers, ..bundle("a = 1", "x").as_ref().clone() });
    story.assigned(100, 2, &second).switched(101, 2, &second);
    assert!(story.engine.memory().registered.is_empty());
    assert!(!story.text.contains("Remove"), "{}", story.text);
    assert!(notices(&story.engine).contains("am-0 keeps Key Manager IS7 from now on"));
}

#[test]
fn another_type_is_refused_and_never_remembered_as_ours() {
    let mut story = Story::up(&enforced());
    story.at(31, "another type", over(1, Err(Trouble::OtherType("Keycloak".into()))));
    assert!(story.engine.memory().registered.is_empty(), "so nothing will ever delete it");
    assert!(concerns(&story.engine).contains("with the type Keycloak, which Convoy does not touch"));
}

#[test]
fn a_server_that_does_not_keep_a_field_is_not_written_at_every_look() {
    let mut story = Story::up(&enforced());
    story.at(31, "not kept", over(1, Ok(Outcome::NotKept(changed()))));
    assert!(concerns(&story.engine).contains("does not keep all of Key Manager IS7: enabled is false"));
    story.text.clear();
    story.at(800, "a look", Event::Timer);
    assert!(story.text.contains("Check { correct: false }"), "{}", story.text);
    story.at(801, "as before", over(2, Ok(Outcome::Differs(changed()))));
    assert!(!notices(&story.engine).contains("somebody"), "{}", notices(&story.engine));
    story.at(1600, "a look", Event::Timer);
    let more = vec![Difference { field: "issuer".into(), wanted: "a".into(), found: "b".into() }];
    story.at(1601, "somebody changes more", over(3, Ok(Outcome::Differs(more))));
    assert!(story.text.contains("key manager 4 IS7: Check { correct: true }"), "{}", story.text);
}
