//! Stories of hooks: a server that is taken out of service comes back into it, whatever happens in between.

use std::{sync::Arc, time::Duration};

use super::{
    EPOCH, assignment, bundle, content_of, process,
    transcript::{Story, target_of},
};
use crate::{
    bundle::{Bundle, RunState},
    call::{Call, CommandCall, HaproxyCall, HaproxyState, Hook, HookFailure, Hooks, Tries},
    drift::generated::Looked,
    node::{Command, Event, StagedFacts},
    observed::{RefusalReason, ServiceState, Verdict},
};

fn hook(program: &str, on_failure: HookFailure) -> Option<Hook> {
    Some(Hook {
        call: Call::Command(CommandCall { program: program.into(), args: Vec::new() }),
        tries: Tries { timeout: Duration::from_secs(10), most: 1, interval: Duration::from_secs(1) },
        settle: Duration::ZERO,
        on_failure,
    })
}

fn hooked(config: &str, on_failure: HookFailure) -> Arc<Bundle> {
    let hooks = Hooks { before_stop: hook("/drain", on_failure), after_ready: hook("/enable", on_failure) };
    Arc::new(Bundle { hooks, ..bundle(config, "x").as_ref().clone() })
}

fn over(run: u64, outcome: Result<&str, &str>) -> Event {
    Event::HookDone { run, outcome: outcome.map(str::to_owned).map_err(str::to_owned) }
}

/// Up, and its first `after_ready` is over.
fn up(first: &Arc<Bundle>) -> Story {
    let mut story = Story::up(first);
    story.at(31, "enabled", over(1, Ok("done")));
    assert_eq!(story.engine.observed().health, Verdict::Healthy);
    story.text.clear();
    story
}

/// An operator's restart, with the look at the home that comes before it.
fn restart(story: &mut Story) {
    let command = Command::Restart { why: "x".into() };
    story.at(100, "an operator says restart", Event::Commanded { id: 5, command });
    story.at(100, "nothing is missing", Event::Generated(Looked::default()));
}

fn exited(story: &mut Story, second: u64, pid: u32, started: i64) {
    let process = process(pid, started);
    story.at(second, "java ends", Event::Exited { process, how: "ended".into() });
}

#[test]
fn a_restart_drains_first_and_the_node_is_ready_when_it_is_enabled_again() {
    let (first, second) = (hooked("a = 1", HookFailure::Abort), hooked("a = 2", HookFailure::Abort));
    let mut story = up(&first);
    story.assigned(100, 2, &second).switched(101, 2, &second);
    assert!(matches!(story.engine.observed().health, Verdict::Unknown(_)), "it is being drained");
    story.at(105, "drained", over(2, Ok("done")));
    exited(&mut story, 110, 10, 3000);
    story.at(111, "java is there", Event::Launched(process(11, 111_000))).ready(140);
    let attempt = story.engine.observed().attempted.unwrap();
    assert!(!attempt.done, "it is ready only when it is back in service");
    story.at(141, "enabled", over(3, Ok("done")));
    insta::assert_snapshot!(story.text);
}

fn behind_haproxy(config: &str) -> Arc<Bundle> {
    let set = |state: HaproxyState| {
        let call = HaproxyCall {
            balancer: crate::balancer::Kind::Haproxy,
            socket: "/run/haproxy.sock".into(),
            backend: "wso2".into(),
            server: "is-1".into(),
            state,
            listens: None,
        };
        hook("", HookFailure::Abort).map(|hook| Hook { call: Call::Haproxy(call), ..hook })
    };
    let hooks = Hooks { before_stop: set(HaproxyState::Drain), after_ready: set(HaproxyState::Ready) };
    Arc::new(Bundle { hooks, ..bundle(config, "x").as_ref().clone() })
}

#[test]
fn a_server_that_an_administrator_took_out_of_the_load_balancer_does_not_count_as_one_that_serves() {
    let mut story = up(&behind_haproxy("a = 1"));
    let asked = |story: &Story| story.text.matches("ask HAProxy about wso2/is-1").count();
    // It was asked when nothing was owed any more, and is asked again.
    story.at(40, "it serves", Event::Rotation(Some(HaproxyState::Ready)));
    assert_eq!(story.engine.observed().health, Verdict::Healthy);
    story.at(62, "the timer", Event::Timer);
    assert_eq!(asked(&story), 1, "{}", story.text);
    for (state, word) in [(HaproxyState::Maint, "has in maintenance"), (HaproxyState::Drain, "drains")] {
        story.at(63, "an administrator", Event::Rotation(Some(state)));
        let Verdict::Unknown(why) = story.engine.observed().health else { panic!("it counts as healthy") };
        assert_eq!(why, format!("HAProxy {word} wso2/is-1, which no hook of this agent asked for"));
    }
    // What cannot be asked says nothing.
    story.at(64, "HAProxy is away", Event::Rotation(None));
    assert_eq!(story.engine.observed().health, Verdict::Healthy);

    // What this agent's own hooks do is not told as somebody else's doing, not even by an answer that comes late.
    restart(&mut story);
    story.at(101, "a late answer", Event::Rotation(Some(HaproxyState::Drain)));
    let Verdict::Unknown(why) = story.engine.observed().health else { panic!("it is being drained") };
    assert_eq!(why, "before_stop takes it out of service");
    story.at(105, "drained", over(2, Ok("done")));
    exited(&mut story, 110, 10, 3000);
    story.at(111, "java is there", Event::Launched(process(11, 111_000))).ready(140);
    story.at(141, "enabled", over(3, Ok("done")));
    assert_eq!(story.engine.observed().health, Verdict::Healthy);
}

#[test]
fn a_failed_drain_leaves_the_server_alone_and_the_files_go_back() {
    let (first, second) = (hooked("a = 1", HookFailure::Abort), hooked("a = 2", HookFailure::Abort));
    let mut story = up(&first);
    story.assigned(100, 2, &second).switched(101, 2, &second);
    story
        .at(105, "the drain fails", over(2, Err("no such server")))
        .at(106, "staged", Event::Staged { target: target_of(1, &first), facts: StagedFacts::default() })
        .at(107, "switched", Event::Switched { target: target_of(1, &first) })
        .at(108, "enabled", over(3, Ok("done")));
    let observed = story.engine.observed();
    assert_eq!(observed.process, Some(process(10, 3000)), "the server was not touched");
    assert_eq!(observed.health, Verdict::Healthy);
    let failure = observed.attempted.and_then(|attempt| attempt.failure).unwrap();
    assert_eq!(failure.reason, RefusalReason::HookFailed);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_failed_drain_that_may_fail_does_not_stop_the_restart() {
    let (first, second) = (hooked("a = 1", HookFailure::Continue), hooked("a = 2", HookFailure::Continue));
    let mut story = up(&first);
    story.assigned(100, 2, &second).switched(101, 2, &second);
    story.at(105, "the drain fails", over(2, Err("no such server")));
    assert_eq!(story.engine.observed().service, ServiceState::Stopping);
    exited(&mut story, 110, 10, 3000);
    story.at(111, "java is there", Event::Launched(process(11, 111_000))).ready(140);
    story.at(141, "enabling fails", over(3, Err("no such server")));
    let observed = story.engine.observed();
    assert_eq!(observed.health, Verdict::Healthy, "it counts as ready all the same");
    assert!(observed.attempted.is_some_and(|attempt| attempt.done && attempt.failure.is_none()));
    story.at(172, "the timer", Event::Timer);
    assert!(
        story.text.contains("hook 4 after_ready: /enable\n"),
        "what is owed is tried again: {}",
        story.text
    );
}

#[test]
fn a_node_that_cannot_be_enabled_is_not_ready_and_is_tried_again() {
    let (first, second) = (hooked("a = 1", HookFailure::Abort), hooked("a = 2", HookFailure::Abort));
    let mut story = up(&first);
    story.assigned(100, 2, &second).switched(101, 2, &second).at(105, "drained", over(2, Ok("done")));
    exited(&mut story, 110, 10, 3000);
    story.at(111, "java is there", Event::Launched(process(11, 111_000))).ready(140);
    story.at(141, "enabling fails", over(3, Err("refused")));
    let observed = story.engine.observed();
    assert!(matches!(&observed.health, Verdict::Unknown(why) if why.contains("refused")));
    let failure = observed.attempted.and_then(|attempt| attempt.failure).unwrap();
    assert_eq!(failure.reason, RefusalReason::HookFailed);
    story.at(172, "the timer", Event::Timer).at(173, "enabled", over(4, Ok("done")));
    assert_eq!(story.engine.observed().health, Verdict::Healthy);
    assert_eq!(story.engine.memory().owed, None);
}

#[test]
fn an_agent_that_crashed_after_the_drain_enables_the_server_again() {
    let (first, second) = (hooked("a = 1", HookFailure::Abort), hooked("a = 2", HookFailure::Abort));
    let mut before = up(&first);
    restart(&mut before);
    assert!(before.text.contains("journal\n"), "{}", before.text);
    assert!(before.text.ends_with("    hook 2 before_stop: /drain\n"), "{}", before.text);
    let memory = before.engine.memory().clone();
    assert!(memory.owed.is_some());
    // It was restarted by somebody meanwhile: what was promised is done.
    let mut story = Story::begin(memory, &[&first, &second]);
    story.at(1, "another is there", Event::Found(vec![process(11, 4000)]));
    story.ready(2);
    assert!(story.text.contains("hook 1 after_ready: /enable\n"), "{}", story.text);
    story.at(3, "enabled", over(1, Ok("done")));
    assert_eq!(story.engine.observed().health, Verdict::Healthy);
}

#[test]
fn a_promised_restart_is_kept_by_an_agent_that_comes_after() {
    let first = hooked("a = 1", HookFailure::Abort);
    let mut before = up(&first);
    restart(&mut before);
    let memory = before.engine.memory().clone();
    let mut story = Story::begin(memory, &[&first]);
    story.at(1, "it is there", Event::Found(vec![process(10, 3000)]));
    story.ready(2);
    assert!(!story.text.contains("hook"), "nothing is begun before the look: {}", story.text);
    assert!(matches!(story.engine.observed().health, Verdict::Unknown(_)), "it is about to go");
    story.at(3, "nothing is missing", Event::Generated(Looked::default()));
    assert!(story.text.ends_with("    hook 1 before_stop: /drain\n"), "{}", story.text);
    story.at(4, "drained", over(1, Ok("done")));
    assert_eq!(story.engine.observed().service, ServiceState::Stopping, "{}", story.text);
    assert_eq!(story.engine.memory().restart, None);
}

#[test]
fn what_new_hooks_drained_is_enabled_by_them_although_older_files_are_back() {
    let (first, second) = (bundle("a = 1", "x"), hooked("a = 2", HookFailure::Abort));
    let mut story = Story::up(&first);
    story.assigned(100, 2, &second).switched(101, 2, &second).at(105, "drained", over(1, Ok("done")));
    exited(&mut story, 110, 10, 3000);
    story.at(111, "java is there", Event::Launched(process(11, 111_000))).at(
        112,
        "a line says why not",
        Event::Logged(crate::node::LogSign::ConfigError("bad".into())),
    );
    exited(&mut story, 113, 11, 111_000);
    story
        .at(114, "staged", Event::Staged { target: target_of(1, &first), facts: StagedFacts::default() })
        .at(115, "switched", Event::Switched { target: target_of(1, &first) })
        .at(116, "java is there", Event::Launched(process(12, 116_000)))
        .ready(140);
    assert!(story.text.contains("hook 2 after_ready: /enable\n"), "{}", story.text);
}

#[test]
fn a_crash_drains_nothing_and_a_stop_that_was_refused_is_tried_again() {
    let first = hooked("a = 1", HookFailure::Abort);
    let mut story = up(&first);
    exited(&mut story, 100, 10, 3000);
    story.at(107, "the timer", Event::Timer).at(108, "java is there", Event::Launched(process(11, 108_000)));
    story.ready(130);
    assert!(!story.text.contains("hook"), "{}", story.text);
    assert_eq!(story.engine.observed().health, Verdict::Healthy);
    let stopped = assignment(1, &first, RunState::Stopped);
    story.at(200, "it is wanted stopped", Event::Assigned { epoch: EPOCH, assignment: stopped }).at(
        201,
        "the drain fails",
        over(2, Err("refused")),
    );
    assert_eq!(story.engine.observed().service, ServiceState::Running);
    story.at(202, "enabled", over(3, Ok("done"))).at(262, "the timer", Event::Timer);
    story.at(263, "drained", over(4, Ok("done")));
    assert_eq!(story.engine.observed().service, ServiceState::Stopping);
}

#[test]
fn an_outcome_that_never_comes_counts_as_a_failure() {
    let first = hooked("a = 1", HookFailure::Abort);
    let mut story = up(&first);
    restart(&mut story);
    story.at(130, "the timer", Event::Timer);
    let observed = story.engine.observed();
    assert_eq!(observed.service, ServiceState::Running);
    assert!(story.text.contains("hook 3 after_ready: /enable\n"), "{}", story.text);
}

#[test]
fn a_hook_that_the_host_does_not_allow_is_refused_on_arrival() {
    let first = bundle("a = 1", "x");
    let hooks = Hooks { before_stop: hook("/bin/rm", HookFailure::Abort), after_ready: None };
    let second = Arc::new(Bundle { hooks, ..bundle("a = 2", "x").as_ref().clone() });
    let mut story = Story::up(&first);
    story.assigned(100, 2, &second).at(
        101,
        "content is there",
        Event::Obtained { content: super::content_of(&second), bundle: second.clone() },
    );
    let failure = story.engine.observed().attempted.and_then(|attempt| attempt.failure).unwrap();
    assert_eq!(failure.reason, RefusalReason::CommandNotAllowed);
    assert!(
        failure.detail.starts_with("hook before_stop: /bin/rm is not among `commands`"),
        "{}",
        failure.detail
    );
    assert!(!story.text.contains("stage"), "{}", story.text);
}

/// A host that goes down while its server is up: drained as for any stop, stopped, and not started again.
#[test]
fn a_host_that_shuts_down_has_its_server_drained_and_stopped() {
    let first = hooked("a = 1", HookFailure::Abort);
    let mut story = up(&first);
    assert_eq!(story.engine.ends_with_host(), None);
    story.at(100, "the host shuts down", Event::HostEnds).at(101, "drained", over(2, Ok("done"))).at(
        102,
        "said twice",
        Event::HostEnds,
    );
    assert_eq!(story.engine.ends_with_host(), Some(first.service.home.as_str()));
    assert_eq!(story.engine.observed().service, ServiceState::Stopping);
    exited(&mut story, 110, 10, 3000);
    story.at(200, "the timer", Event::Timer);
    let observed = story.engine.observed();
    assert_eq!(observed.service, ServiceState::Stopped);
    assert_eq!(observed.health, Verdict::Unknown("the host shuts down".into()));
    let told = |kind: &str| {
        story.engine.memory().notices.iter().filter(|notice| notice.kind.as_str() == kind).count()
    };
    assert_eq!(told("host-shutdown"), 1, "{:?}", story.engine.memory().notices);
    assert!(!story.text.contains("launch"), "{}", story.text);
}

/// A drain that fails keeps a server up under `abort`, but not while everything below it is going away.
#[test]
fn a_drain_that_fails_does_not_keep_a_server_up_whose_host_shuts_down() {
    let first = hooked("a = 1", HookFailure::Abort);
    let mut story = up(&first);
    story.at(100, "the host shuts down", Event::HostEnds).at(101, "the drain fails", over(2, Err("refused")));
    assert_eq!(story.engine.observed().service, ServiceState::Stopping);
}

/// Otherwise a rollout would go on to the next node while this one is down.
#[test]
fn an_apply_is_not_done_because_the_host_shuts_down() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut story = Story::up(&first);
    story
        .assigned(100, 2, &second)
        .at(101, "content is there", Event::Obtained { content: content_of(&second), bundle: second.clone() })
        .at(102, "staged", Event::Staged { target: target_of(2, &second), facts: StagedFacts::default() })
        .at(103, "switched", Event::Switched { target: target_of(2, &second) })
        .at(104, "the host shuts down", Event::HostEnds);
    exited(&mut story, 110, 10, 3000);
    story.at(111, "the timer", Event::Timer);
    let observed = story.engine.observed();
    assert_eq!(observed.service, ServiceState::Stopped);
    assert!(observed.attempted.is_some_and(|attempt| !attempt.done), "{}", story.text);
}
