//! Stories of a load balancer: it is reloaded where a server would be restarted, and never stopped for its files.

use std::{sync::Arc, time::Duration};

use super::{
    EPOCH, assignment, bundle, process, round,
    transcript::{Story, target_of},
};
use crate::{
    balancer::Kind,
    bundle::{Bundle, RunState},
    health::Answer,
    node::{Command, Event, Failure, Memory, RELOAD_TIME},
    observed::{RefusalReason, ServiceState, Verdict},
    time::Instant,
};

fn balancer(config: &str) -> Arc<Bundle> {
    let mut bundle = bundle(config, "x").as_ref().clone();
    bundle.balancer = Some(Kind::Haproxy);
    bundle.service.ready_lines.clear();
    bundle.service.start_deadline = Duration::from_secs(30);
    Arc::new(bundle)
}

fn reloaded(run: u64, outcome: Result<&str, &str>) -> Event {
    Event::Reloaded { run, outcome: outcome.map(str::to_owned).map_err(str::to_owned) }
}

fn probed(answer: &Answer) -> Event {
    Event::Probed(round(answer))
}

/// Somebody runs it, and the first apply has reloaded it.
fn up(first: &Arc<Bundle>) -> Story {
    let mut story = Story::begin(Memory::default(), &[]);
    story.assigned(1, 1, first);
    story.switched(2, 1, first);
    story.at(2, "its master is there", Event::Found(vec![process(7, -1000)]));
    let target = target_of(1, first);
    story.at(2, "switched", Event::Switched { target });
    story.at(3, "reloaded", reloaded(1, Ok("worker 8 serves")));
    story.at(4, "its ports answer", probed(&Answer::Passed));
    assert_eq!(story.engine.observed().service, ServiceState::Running, "{}", story.text);
    assert_eq!(story.engine.memory().last_good.map(|placed| placed.applied), Some(target), "{}", story.text);
    story
}

fn never_stopped(story: &Story) {
    for word in ["TERM", "KILL", "launch"] {
        assert!(!story.text.contains(word), "{}", story.text);
    }
}

#[test]
fn a_balancer_that_somebody_runs_is_taken_over_and_reloaded() {
    let story = up(&balancer("a = 1"));
    never_stopped(&story);
    insta::assert_snapshot!(story.text);
}

#[test]
fn other_files_are_reloaded_and_the_same_ones_are_not() {
    let (first, second) = (balancer("a = 1"), balancer("a = 2"));
    let mut story = up(&first);
    story.text.clear();
    story.assigned(100, 2, &second).switched(101, 2, &second);
    assert!(story.text.contains("reload 2 7"), "{}", story.text);
    story.at(102, "reloaded", reloaded(2, Ok("worker 9 serves")));
    assert_eq!(
        story.engine.observed().service,
        ServiceState::Starting,
        "not ready on the signal's word alone"
    );
    story.at(103, "its ports answer", probed(&Answer::Passed));
    assert!(story.text.contains("tell: 2 Ready"), "{}", story.text);
    story.text.clear();
    story.assigned(200, 3, &second);
    story.at(201, "time passes", Event::Timer);
    assert!(!story.text.contains("reload"), "{}", story.text);
    never_stopped(&story);
}

#[test]
fn a_reload_that_fails_leads_back_and_is_done_again_with_the_files_before() {
    let (first, second) = (balancer("a = 1"), balancer("a = 2"));
    let mut story = up(&first);
    story.assigned(100, 2, &second).switched(101, 2, &second);
    story.text.clear();
    story.at(102, "it fails", reloaded(2, Err("no new worker")));
    assert!(story.text.contains("not Restarted"), "{}", story.text);
    assert!(story.text.contains("the reload failed: no new worker"), "{}", story.text);
    let target = target_of(1, &first);
    story.at(103, "staged", Event::Staged { target, facts: Default::default() });
    story.at(103, "switched", Event::Switched { target });
    assert!(story.text.contains("reload 3 7"), "{}", story.text);
    story.at(104, "reloaded", reloaded(3, Ok("worker 8 serves")));
    story.at(105, "its ports answer", probed(&Answer::Passed));
    assert_eq!(story.engine.memory().running.map(|placed| placed.applied), Some(target));
    assert_eq!(story.engine.observed().health, Verdict::Healthy);
    never_stopped(&story);
}

#[test]
fn ports_that_do_not_answer_in_time_lead_back() {
    let (first, second) = (balancer("a = 1"), balancer("a = 2"));
    let mut story = up(&first);
    story.assigned(100, 2, &second).switched(101, 2, &second);
    story.at(102, "reloaded", reloaded(2, Ok("worker 9 serves")));
    story.text.clear();
    story.at(120, "a port is dead", probed(&Answer::Failed("refused".to_owned())));
    story.at(133, "time passes", Event::Timer);
    assert!(story.text.contains("stage 1"), "{}", story.text);
    assert!(story.text.contains("not ready within the start deadline"), "{}", story.text);
    never_stopped(&story);
}

#[test]
fn an_outcome_that_never_comes_is_a_failure_and_one_that_comes_late_counts_no_more() {
    let (first, second) = (balancer("a = 1"), balancer("a = 2"));
    let mut story = up(&first);
    story.assigned(100, 2, &second).switched(101, 2, &second);
    story.text.clear();
    let late = 101 + RELOAD_TIME.as_secs() + 16;
    story.at(late, "time passes", Event::Timer);
    assert!(story.text.contains("nobody knows how it ended"), "{}", story.text);
    let before = story.engine.memory().running;
    story.at(late + 1, "late", reloaded(2, Ok("worker 9 serves")));
    assert_eq!(story.engine.memory().running, before);
}

#[test]
fn an_operators_restart_is_a_reload_and_is_promised_over_a_crash() {
    let first = balancer("a = 1");
    let mut story = up(&first);
    story.text.clear();
    let command = Command::Restart { why: "certificates".into() };
    story.at(100, "an operator says restart", Event::Commanded { id: 5, command });
    assert!(story.text.contains("the load balancer is reloaded"), "{}", story.text);
    assert!(story.text.contains("reload 2 7"), "{}", story.text);
    assert!(story.engine.memory().restart.is_some(), "durable until it is done");
    story.at(101, "reloaded", reloaded(2, Ok("worker 9 serves")));
    assert_eq!(story.engine.memory().restart, None);
    never_stopped(&story);
}

#[test]
fn one_that_does_not_run_is_started_by_whoever_runs_it_and_a_first_apply_goes_back() {
    let first = balancer("a = 1");
    let mut story = Story::begin(Memory::default(), &[]);
    story.assigned(1, 1, &first).switched(2, 1, &first);
    story.at(2, "nobody is there", Event::Found(Vec::new()));
    story.at(3, "switched", Event::Switched { target: target_of(1, &first) });
    assert!(story.text.contains("launch"), "{}", story.text);
    let failure = || Failure { reason: RefusalReason::StartFailed, detail: "HAProxy does not run".into() };
    story.at(4, "not started", Event::LaunchFailed(failure()));
    story.at(20, "time passes", Event::Timer);
    story.at(21, "not started", Event::LaunchFailed(failure()));
    assert!(story.text.contains("HAProxy does not run"), "{}", story.text);
    assert!(story.text.contains("not Restarted"), "{}", story.text);
}

#[test]
fn a_reload_that_ends_behind_a_stop_starts_nothing_and_leaves_no_deadline() {
    let first = balancer("a = 1");
    let mut story = up(&first);
    let command = Command::Restart { why: "certificates".into() };
    story.at(100, "an operator says restart", Event::Commanded { id: 5, command });
    let mut stop = assignment(1, &first, RunState::Stopped);
    stop.why = "by hand".into();
    story.at(101, "and stop", Event::Assigned { epoch: EPOCH, assignment: stop });
    assert_eq!(story.engine.observed().service, ServiceState::Stopping, "{}", story.text);
    story.at(102, "reloaded", reloaded(2, Ok("worker 9 serves")));
    assert_eq!(story.engine.observed().service, ServiceState::Stopping, "{}", story.text);
    story.at(103, "it ends", Event::Exited { process: process(7, -1000), how: "ended".into() });
    assert_eq!(story.engine.observed().service, ServiceState::Stopped);
    let late = Instant(300_000);
    story.at(300, "time passes", Event::Timer);
    assert!(story.engine.next_deadline().is_none_or(|due| late < due), "a deadline that is over stays");
}
