//! One story per test, as text that a reviewer can read: what happened, and what was asked for.

pub(super) mod adoption;
mod editors;
mod orders;
mod unanswered;

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use super::{EPOCH, HOME, assignment, bundle, content_of, limits, original::kept, path, process, round};
use crate::{
    bundle::{Applied, Bundle, RunState},
    drift::{
        Found,
        generated::{Looked, Recorded},
    },
    health::Answer,
    node::{Action, Command, Engine, Event, Failure, LogSign, Memory, Recovery, StagedFacts},
    observed::{DriftAction, RefusalReason, ServiceState},
    time::{Instant, Timestamp},
};

pub(super) struct Story {
    pub(super) engine: Engine,
    pub(super) text: String,
    second: u64,
}

/// What generation `generation` of a bundle is called.
pub(super) fn target_of(generation: u64, bundle: &Bundle) -> Applied {
    assignment(generation, bundle, RunState::Running).applied
}

impl Story {
    pub(super) fn begin(memory: Memory, bundles: &[&Arc<Bundle>]) -> Self {
        let known: BTreeMap<_, _> =
            bundles.iter().map(|bundle| (content_of(bundle), Arc::clone(bundle))).collect();
        let engine = Engine::new(limits(), memory, known, 1, Timestamp(0));
        let mut story = Self { engine, text: String::new(), second: 0 };
        let actions = story.engine.start(Instant(0), Timestamp(0));
        story.tell("the agent starts", &actions);
        story
    }

    fn tell(&mut self, what: &str, actions: &[Action]) {
        writeln!(self.text, "{}s {what}", self.second).unwrap();
        for action in actions {
            if let Some(line) = line(action) {
                writeln!(self.text, "    {line}").unwrap();
            }
        }
    }

    pub(super) fn at(&mut self, second: u64, what: &str, event: Event) -> &mut Self {
        self.second = second;
        let wall = Timestamp(i64::try_from(second).unwrap() * 1000);
        let actions = self.engine.handle(Instant(second * 1000), wall, event);
        self.tell(what, &actions);
        self
    }

    pub(super) fn assigned(&mut self, second: u64, generation: u64, bundle: &Bundle) -> &mut Self {
        let assignment = assignment(generation, bundle, RunState::Running);
        self.at(
            second,
            &format!("generation {generation} is assigned"),
            Event::Assigned { epoch: EPOCH, assignment },
        )
    }

    pub(super) fn switched(&mut self, second: u64, generation: u64, new: &Arc<Bundle>) -> &mut Self {
        let target = assignment(generation, new, RunState::Running).applied;
        self.at(second, "content is there", Event::Obtained { content: content_of(new), bundle: new.clone() })
            .at(second, "staged", Event::Staged { target, facts: StagedFacts::default() })
            .at(second, "switched", Event::Switched { target })
    }

    pub(super) fn ready(&mut self, second: u64) -> &mut Self {
        self.at(second, "a line says started", Event::Logged(LogSign::Ready)).at(
            second,
            "all probes pass",
            Event::Probed(round(&Answer::Passed)),
        )
    }

    /// From nothing to generation 1 ready; its transcript is that of the first test, so it is left out elsewhere.
    pub(super) fn up(first: &Arc<Bundle>) -> Self {
        let mut story = Self::begin(Memory::default(), &[]);
        story.assigned(1, 1, first).switched(2, 1, first);
        story.at(2, "nobody is there", Event::Found(Vec::new()));
        let target = assignment(1, first, RunState::Running).applied;
        story.at(2, "switched", Event::Switched { target });
        story.at(3, "java is there", Event::Launched(process(10, 3000))).ready(30);
        assert_eq!(story.engine.observed().service, ServiceState::Running, "{}", story.text);
        story.text.clear();
        story
    }
}

/// Reports and measurements say nothing new in a story.
fn line(action: &Action) -> Option<String> {
    Some(match action {
        Action::Journal(_) => "journal".into(),
        Action::Ack { generation, stage, refusal: None } => format!("tell: {generation} {stage:?}"),
        Action::Ack { generation, stage, refusal: Some(refusal) } => {
            format!("tell: {generation} not {stage:?}: {} ({})", refusal.reason, refusal.detail)
        }
        Action::CommandDone { id, done, detail } => format!("tell: command {id} {done}: {detail}"),
        Action::Obtain { target, .. } => format!("obtain {}", target.applied.generation),
        Action::Stage { target, keep, .. } => format!("stage {}{}", target.generation, kept(keep)),
        Action::Switch { target, .. } => format!("switch {}", target.generation),
        Action::Recover { target, way } => format!("recover {} {way:?}", target.generation),
        Action::Watch { target, .. } => format!("watch {}", target.generation),
        Action::Restore { path, .. } => format!("restore {path}"),
        Action::Mend { paths, .. } => format!("mend {}", paths[0]),
        Action::Scan(extent) => format!("scan {extent:?}"),
        Action::Look { home } => format!("look for servers of {home}"),
        Action::Launch(_) => "launch".into(),
        Action::ClearLaunchFiles(_) => "clear launch files".into(),
        Action::Adopt { process, .. } => format!("adopt {}", process.pid),
        Action::Reload { run, process, .. } => format!("reload {run} {}", process.pid),
        Action::Stop(process) => format!("TERM {}", process.pid),
        Action::Dump(process) => format!("QUIT {}", process.pid),
        Action::Kill(process) => format!("KILL {}", process.pid),
        Action::Hook { run, point, hook } => format!("hook {run} {point}: {}", hook.call),
        Action::AskRotation(call) => format!("ask HAProxy about {}/{}", call.backend, call.server),
        Action::KeyManager { run, work } => {
            format!("key manager {run} {}: {:?}", work.registration.name, work.task)
        }
        Action::Check { id, check } => format!("check {id} {}: {}", check.name, check.call),
        Action::Report(_)
        | Action::Tell(_)
        | Action::Keep(_)
        | Action::Probe { .. }
        | Action::Measure { .. } => return None,
    })
}

#[test]
fn from_nothing_to_ready() {
    let first = bundle("a = 1", "x");
    let mut story = Story::begin(Memory::default(), &[]);
    story.assigned(1, 1, &first);
    let target = assignment(1, &first, RunState::Running).applied;
    story
        .at(2, "content is there", Event::Obtained { content: content_of(&first), bundle: first.clone() })
        .at(2, "nobody is there", Event::Found(Vec::new()))
        .at(3, "staged", Event::Staged { target, facts: StagedFacts::default() })
        .at(3, "switched", Event::Switched { target })
        .at(4, "java is there", Event::Launched(process(10, 4000)))
        .at(20, "a probe fails", Event::Probed(round(&Answer::Failed("refused".into()))))
        .ready(30);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_changed_meaning_restarts_and_a_hot_file_does_not() {
    let (first, hot) = (bundle("a = 1", "x"), bundle("a = 1", "y"));
    let cold = bundle("a = 2", "y");
    let mut story = Story::up(&first);
    story.assigned(100, 2, &hot).switched(101, 2, &hot);
    story.assigned(200, 3, &cold).switched(201, 3, &cold);
    story
        .at(210, "java ends", Event::Exited { process: process(10, 3000), how: "ended".into() })
        .at(211, "java is there", Event::Launched(process(11, 211_000)))
        .ready(240);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_bad_configuration_goes_back_once() {
    let (first, bad) = (bundle("a = 1", "x"), bundle("a = bad", "x"));
    let mut story = Story::up(&first);
    story.assigned(100, 2, &bad).switched(101, 2, &bad);
    let target = assignment(1, &first, RunState::Running).applied;
    story
        .at(110, "java ends", Event::Exited { process: process(10, 3000), how: "ended".into() })
        .at(111, "java is there", Event::Launched(process(11, 111_000)))
        .at(112, "a line says why not", Event::Logged(LogSign::ConfigError("line 1: bad".into())))
        .at(113, "java ends", Event::Exited { process: process(11, 111_000), how: "ended".into() })
        .at(114, "staged", Event::Staged { target, facts: StagedFacts::default() })
        .at(114, "switched", Event::Switched { target })
        .at(115, "java is there", Event::Launched(process(12, 115_000)))
        .ready(140)
        .at(150, "the timer", Event::Timer);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_start_that_is_reading_its_files_is_stopped_before_they_change() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut story = Story::up(&first);
    story
        .at(100, "java crashes", Event::Exited { process: process(10, 3000), how: "ended".into() })
        .at(107, "the timer", Event::Timer)
        .at(108, "java is there", Event::Launched(process(11, 108_000)))
        .assigned(109, 2, &second)
        .switched(110, 2, &second)
        .at(111, "java ends", Event::Exited { process: process(11, 108_000), how: "ended".into() });
    let target = assignment(2, &second, RunState::Running).applied;
    story.at(112, "switched", Event::Switched { target });
    insta::assert_snapshot!(story.text);
}

#[test]
fn crashes_back_off_and_then_nothing_is_tried_until_somebody_says_so() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    for (round, second) in [(10, 1000), (11, 1030), (12, 1060), (13, 1090)] {
        let last = process(round, if round == 10 { 3000 } else { i64::from(round) });
        story.at(second, "java crashes", Event::Exited { process: last, how: "ended".into() });
        story.at(second + 25, "the timer", Event::Timer);
        if round < 13 {
            let next = round + 1;
            story.at(second + 26, "java is there", Event::Launched(process(next, i64::from(next))));
        }
    }
    let command = Command::Restart { why: "fixed it".into() };
    story.at(2000, "an operator says restart", Event::Commanded { id: 5, command: command.clone() });
    story.at(2001, "the same command comes again", Event::Commanded { id: 5, command });
    insta::assert_snapshot!(story.text);
}

#[test]
fn older_generations_and_other_stores_are_refused() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut story = Story::up(&first);
    let old = assignment(0, &second, RunState::Stopped);
    story.at(50, "generation 0 is assigned", Event::Assigned { epoch: EPOCH, assignment: old });
    let other = crate::ids::FleetEpoch([8; 16]);
    let newer = assignment(9, &second, RunState::Stopped);
    story.at(51, "another store assigns 9", Event::Assigned { epoch: other, assignment: newer });
    story.assigned(52, 1, &second);
    story.assigned(53, 1, &first);
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_agent_that_crashed_in_a_switch_finishes_it_and_adopts_the_server() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut before = Story::up(&first);
    before.assigned(100, 2, &second);
    let target = assignment(2, &second, RunState::Running).applied;
    before
        .at(101, "content is there", Event::Obtained { content: content_of(&second), bundle: second.clone() })
        .at(101, "staged", Event::Staged { target, facts: StagedFacts::default() });
    let memory = before.engine.memory().clone();
    assert!(memory.switching.is_some());
    let mut story = Story::begin(memory, &[&first, &second]);
    story.at(1, "one is there", Event::Found(vec![process(10, 3000)])).at(
        2,
        "all new files are in force",
        Event::Recovered { target, state: Recovery::New },
    );
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_interrupted_switch_is_taken_up_before_anything_is_staged_and_until_it_is_over() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut before = Story::up(&first);
    before.assigned(100, 2, &second);
    let target = assignment(2, &second, RunState::Running).applied;
    before
        .at(101, "content is there", Event::Obtained { content: content_of(&second), bundle: second.clone() })
        .at(101, "staged", Event::Staged { target, facts: StagedFacts::default() });
    let memory = before.engine.memory().clone();
    let full = || {
        Recovery::Stuck(Failure { reason: RefusalReason::IoFailed, detail: "the home is read-only".into() })
    };
    let mut story = Story::begin(memory, &[&first, &second]);
    story
        .at(1, "nobody is there", Event::Found(Vec::new()))
        .at(2, "the file system refuses", Event::Recovered { target, state: full() })
        .at(32, "the timer", Event::Timer)
        .at(33, "it refuses again", Event::Recovered { target, state: full() })
        .at(63, "the timer", Event::Timer)
        .at(64, "all old files are in force", Event::Recovered { target, state: Recovery::Old });
    let told: Vec<&str> = story.engine.memory().notices.iter().map(|notice| notice.kind.as_str()).collect();
    assert_eq!(told.iter().filter(|kind| **kind == "switch-stuck").count(), 1, "{told:?}");
    insta::assert_snapshot!(story.text);
}

#[test]
fn what_cannot_be_finished_nor_undone_is_staged_anew() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut before = Story::up(&first);
    before.assigned(100, 2, &second);
    let target = assignment(2, &second, RunState::Running).applied;
    before
        .at(101, "content is there", Event::Obtained { content: content_of(&second), bundle: second.clone() })
        .at(101, "staged", Event::Staged { target, facts: StagedFacts::default() });
    let memory = before.engine.memory().clone();
    let mut story = Story::begin(memory, &[&first, &second]);
    story
        .at(1, "nobody is there", Event::Found(Vec::new()))
        .at(2, "what lay beside the files is gone", Event::Recovered { target, state: Recovery::Lost })
        .at(3, "staged", Event::Staged { target, facts: StagedFacts::default() })
        .at(3, "switched", Event::Switched { target });
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_home_that_is_gone_is_a_finding_until_it_is_back() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let target = assignment(1, &first, RunState::Running).applied;
    let gone = || Failure { reason: RefusalReason::PackMissing, detail: "cannot open /opt/is".into() };
    story.at(50, "the home is gone", Event::ScanFailed { target, failure: gone() });
    let drift: Vec<_> = story.engine.observed().drift;
    assert_eq!(drift.len(), 1);
    assert!(drift[0].detail.contains("cannot open /opt/is"), "{drift:?}");
    story
        .at(80, "the timer", Event::Timer)
        .at(81, "it is still gone", Event::ScanFailed { target, failure: gone() })
        .at(111, "the timer", Event::Timer);
    let notices = |story: &Story| story.engine.memory().notices.iter().map(|n| n.kind.to_string()).collect();
    let told: Vec<String> = notices(&story);
    assert_eq!(told.iter().filter(|kind| *kind == "files-unseen").count(), 1, "{told:?}");
    let looked = first.files.keys().cloned().collect();
    story.at(112, "it is back", Event::Scanned { target, looked, found: BTreeMap::new() });
    assert!(story.engine.observed().drift.is_empty());
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_edit_is_undone_unless_enforcement_is_paused() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let target = assignment(1, &first, RunState::Running).applied;
    let logging = path("log4j2.properties");
    let edited = |content: Found| Event::Scanned {
        target,
        looked: std::collections::BTreeSet::from([path("log4j2.properties")]),
        found: BTreeMap::from([(path("log4j2.properties"), content)]),
    };
    let took = std::time::Duration::from_millis(7);
    story
        .at(50, "a hint", Event::FileHint)
        .at(50, "an edit is seen", edited(Found::Content { texts: None }))
        .at(51, "restored", Event::Restored { path: logging.clone(), took });
    let until = Timestamp(100_000);
    let pause = Command::PauseDrift { reason: "hands off".into(), until };
    story
        .at(60, "enforcement is paused", Event::Commanded { id: 1, command: pause })
        .at(61, "half of a write is seen", edited(Found::Missing))
        .at(62, "the timer", Event::Timer)
        .at(62, "the other half is there", edited(Found::Content { texts: None }))
        .at(63, "the timer", Event::Timer)
        .at(63, "it is seen again", edited(Found::Content { texts: None }))
        .at(101, "the timer", Event::Timer)
        .at(101, "the edit is seen", edited(Found::Content { texts: None }))
        .at(102, "restored", Event::Restored { path: logging, took });
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_operator_restores_every_file_that_differs_even_in_a_pause() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let target = assignment(1, &first, RunState::Running).applied;
    let logging = path("log4j2.properties");
    let gone = Event::Scanned {
        target,
        looked: std::collections::BTreeSet::from([logging.clone()]),
        found: BTreeMap::from([(logging.clone(), Found::Missing)]),
    };
    let pause = Command::PauseDrift { reason: "hands off".into(), until: Timestamp(100_000) };
    let everything = |id| Event::Commanded { id, command: Command::RestoreDrift { path: None } };
    story
        .at(60, "enforcement is paused", Event::Commanded { id: 1, command: pause })
        .at(61, "nothing differs yet", everything(2))
        .at(62, "a file is gone", gone)
        .at(63, "restore everything", everything(3));
    let told = |line: &str| story.text.lines().any(|told| told.trim() == line);
    assert!(told("tell: command 2 true: no file differs; there is nothing to restore"), "{}", story.text);
    assert!(told("tell: command 3 true: log4j2.properties is being restored"), "{}", story.text);
    assert!(told("restore log4j2.properties"), "{}", story.text);
}

#[test]
fn a_server_that_does_not_stop_is_dumped_and_killed() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let stopped = assignment(1, &first, RunState::Stopped);
    story
        .at(100, "it is wanted stopped", Event::Assigned { epoch: EPOCH, assignment: stopped })
        .at(221, "the timer", Event::Timer)
        .at(227, "the timer", Event::Timer)
        .at(228, "java ends", Event::Exited { process: process(10, 3000), how: "killed".into() })
        .at(300, "the timer", Event::Timer);
    assert_eq!(story.engine.observed().service, ServiceState::Stopped);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_switch_and_no_promise_leaves() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut story = Story::up(&first);
    let target = assignment(2, &second, RunState::Running).applied;
    story
        .assigned(100, 2, &second)
        .at(101, "content is there", Event::Obtained { content: content_of(&second), bundle: second.clone() })
        .at(101, "staged", Event::Staged { target, facts: StagedFacts::default() })
        .at(
            102,
            "the journal fails",
            Event::JournalFailed { detail: "no space".into(), switch_dropped: true, launch_dropped: false },
        )
        .at(108, "the timer", Event::Timer);
    let failure = story.engine.observed().attempted.and_then(|attempt| attempt.failure);
    assert_eq!(failure.map(|failure| failure.reason), Some(RefusalReason::IoFailed));
    insta::assert_snapshot!(story.text);
}

#[test]
fn content_that_cannot_be_had_changes_nothing_and_is_asked_for_again() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut story = Story::up(&first);
    let failure = || Failure { reason: RefusalReason::ContentUnavailable, detail: "not found".into() };
    let failed = || Event::ObtainFailed { content: content_of(&second), failure: failure() };
    story
        .assigned(100, 2, &second)
        .at(101, "it is not there", failed())
        .at(131, "the timer", Event::Timer)
        .at(132, "it is not there", failed());
    assert_eq!(story.engine.observed().service, ServiceState::Running);
    insta::assert_snapshot!(story.text);
}

#[test]
fn two_servers_on_one_home_are_reported_and_not_joined_by_a_third() {
    let first = bundle("a = 1", "x");
    let memory = Story::up(&first).engine.memory().clone();
    let mut story = Story::begin(memory, &[&first]);
    story
        .at(1, "two are there", Event::Found(vec![process(20, 1), process(21, 2)]))
        .at(32, "the timer", Event::Timer)
        .at(32, "one is there", Event::Found(vec![process(21, 40_000)]));
    assert_eq!(HOME, "/opt/is");
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_server_that_somebody_else_started_after_a_crash_is_taken_over_and_the_dead_one_is_not() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let (dead, next) = (process(10, 3000), process(30, 1_001_000));
    story
        .at(1000, "one is seen while all is well", Event::Seen(vec![process(29, 999_000)]))
        .at(1001, "java crashes", Event::Exited { process: dead.clone(), how: "ended".into() })
        .at(1002, "a look that was under way still shows it", Event::Seen(vec![dead]))
        .at(1003, "systemd has started another", Event::Seen(vec![next.clone()]))
        .at(1004, "it crashes too", Event::Exited { process: next, how: "ended".into() });
    assert!(matches!(story.engine.observed().service, ServiceState::BackingOff { exits: 2, .. }));
    insta::assert_snapshot!(story.text);
}

/// What a look finds where the product recorded carbon.xml; `now` is its MD5 now.
fn looked(now: Option<&str>) -> Event {
    let xml = path("repository/conf/carbon.xml");
    Event::Generated(Looked {
        recorded: Recorded(BTreeMap::from([(xml.clone(), "aa".to_owned())])),
        now: BTreeMap::from([(xml, now.map(str::to_owned))]),
        residue: None,
    })
}

fn mended(trouble: Option<&str>) -> Event {
    Event::Mended { restored: Vec::new(), dropped: trouble.is_none(), trouble: trouble.map(str::to_owned) }
}

#[test]
fn a_restart_waits_for_a_look_and_for_what_it_would_fail_without() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let restart = || Command::Restart { why: "patch".into() };
    story
        .at(40, "a generated file is gone", looked(None))
        .at(41, "an operator restarts", Event::Commanded { id: 1, command: restart() })
        .at(42, "it is still gone", looked(None))
        .at(43, "it is back", mended(None))
        .at(43, "as recorded", looked(Some("aa")))
        .at(50, "java ends", Event::Exited { process: process(10, 3000), how: "ended".into() });
    assert_eq!(story.engine.observed().drift, []);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_restart_that_would_fail_is_not_begun_and_the_old_files_come_back() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 2", "x"));
    let mut story = Story::up(&first);
    story
        .at(40, "a generated file is gone", looked(None))
        .assigned(100, 2, &second)
        .switched(101, 2, &second)
        .at(102, "it cannot be had", mended(Some("backup/ is unreadable")))
        .at(102, "it is still gone", looked(None));
    let observed = story.engine.observed();
    assert_eq!(observed.service, ServiceState::Running);
    assert_eq!(observed.concerns.len(), 1, "{observed:?}");
    assert!(!story.text.contains("TERM"), "{}", story.text);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_crashed_server_is_started_once_the_deleted_file_is_back_or_known_to_be_lost() {
    let first = bundle("a = 1", "x");
    for (answer, then) in [(mended(None), Some("aa")), (mended(Some("read-only")), None)] {
        let mut story = Story::up(&first);
        story
            .at(40, "a generated file is gone", looked(None))
            .at(41, "java dies", Event::Exited { process: process(10, 3000), how: "killed".into() })
            .at(60, "the timer", Event::Timer);
        assert!(story.text.contains("mend repository/conf/carbon.xml") && !story.text.contains("launch"));
        assert!(story.engine.next_deadline().is_none_or(|due| Instant(60_000) < due), "no busy waiting");
        story.at(61, "answered", answer).at(61, "looked at", looked(then));
        assert!(story.text.contains("launch"), "{}", story.text);
    }
}

#[test]
fn an_edit_of_a_generated_file_is_told_with_its_fate_and_restored_only_if_asked() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let xml = path("repository/conf/carbon.xml");
    story.at(40, "a generated file is edited", looked(Some("bb")));
    let drift = story.engine.observed().drift;
    assert_eq!(drift.len(), 1);
    assert!(drift[0].detail.contains("doomed at next start"), "{drift:?}");
    assert!(!story.text.contains("mend"), "{}", story.text);
    let restore = Command::RestoreDrift { path: Some(xml) };
    story.at(41, "an operator wants it back", Event::Commanded { id: 1, command: restore }).at(
        41,
        "a look while it starts says nothing",
        looked(Some("bb")),
    );
    assert!(story.text.contains("mend repository/conf/carbon.xml"), "{}", story.text);
}

/// A bundle whose server reads a password at its launch.
fn locked() -> Arc<Bundle> {
    let mut bundle = Bundle::clone(&bundle("a = 1", "x"));
    let mut file = bundle.files.values().next().unwrap().clone();
    (file.launch, file.restart) = (true, crate::bundle::RestartClass::None);
    bundle.files.insert(path("password-tmp"), file);
    Arc::new(bundle)
}

#[test]
fn a_password_is_gone_once_the_server_is_ready_late_or_ended() {
    let bundle = locked();
    let mut story = Story::up(&bundle);
    let cleared = |left: &[&str]| Event::LaunchFilesCleared(Ok(left.iter().map(|left| path(left)).collect()));
    story
        .at(31, "cleared", cleared(&[]))
        .at(40, "the server restarts itself", Event::Replaced(process(11, 40_000)))
        .at(50, "java dies", Event::Exited { process: process(11, 40_000), how: "killed".into() })
        .at(51, "that of the launch was left", cleared(&["password-tmp"]))
        .at(80, "launched again", Event::Timer)
        .at(81, "an answer that came too late", cleared(&[]))
        .at(700, "the deadline passes", Event::Launched(process(12, 81_000)))
        .at(701, "a directory that is read-only", Event::LaunchFilesCleared(Err("read-only".into())))
        .at(731, "the timer", Event::Timer);
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_agent_that_comes_back_clears_unless_a_server_is_starting() {
    let bundle = locked();
    for (found, clears) in [(Vec::new(), true), (vec![process(10, 3000)], false)] {
        let mut memory = Story::up(&bundle).engine.memory().clone();
        memory.last_good = None;
        if let Some(assignment) = &mut memory.assignment {
            assignment.run = RunState::Stopped;
        }
        if !found.is_empty()
            && let Some(assignment) = &mut memory.assignment
        {
            assignment.run = RunState::Running;
        }
        let mut story = Story::begin(memory, &[&bundle]);
        assert!(!story.text.contains("clear launch files"), "nobody has looked: {}", story.text);
        story.at(1, "looked", Event::Found(found));
        assert_eq!(story.text.contains("clear launch files"), clears, "{}", story.text);
    }
}

#[test]
fn an_accepted_edit_is_left_alone_until_the_next_apply_or_its_end() {
    let (first, second) = (bundle("a = 1", "x"), bundle("a = 1", "y"));
    let mut story = Story::up(&first);
    let target = assignment(1, &first, RunState::Running).applied;
    let logging = path("log4j2.properties");
    let edited = || Event::Scanned {
        target,
        looked: std::collections::BTreeSet::from([path("log4j2.properties")]),
        found: BTreeMap::from([(path("log4j2.properties"), Found::Content { texts: None })]),
    };
    let accept = |id, until| Event::Commanded {
        id,
        command: Command::AcceptDrift { path: path("log4j2.properties"), until },
    };
    story
        .at(50, "accept until 200 s", accept(1, Some(Timestamp(200_000))))
        .at(51, "an edit is seen", edited())
        .at(60, "and again", edited());
    assert!(story.text.contains("tell: command 1 true"), "{}", story.text);
    assert!(!story.text.contains("restore"), "{}", story.text);
    assert!(story.engine.memory().accepted.contains_key(&logging), "it outlives the agent");
    story.at(261, "its time is over", Event::Timer).at(262, "the edit is seen", edited());
    assert!(story.text.contains("restore log4j2.properties"), "{}", story.text);
    let took = std::time::Duration::from_millis(1);
    story.at(263, "restored", Event::Restored { path: logging, took });
    story.at(264, "accept", accept(2, None)).at(265, "an edit is seen", edited());
    story.assigned(300, 2, &second).switched(301, 2, &second);
    assert!(story.engine.memory().accepted.is_empty(), "the next apply decides anew");
}

/// A look at one file that differs.
fn differs(target: Applied, file: &str, found: Found) -> Event {
    let path = path(file);
    Event::Scanned {
        target,
        looked: std::collections::BTreeSet::from([path.clone()]),
        found: BTreeMap::from([(path, found)]),
    }
}

fn restores(story: &Story) -> usize {
    story.text.matches("    restore log4j2.properties").count()
}

#[test]
fn a_restore_is_reported_once_it_is_done_and_is_tried_until_it_is() {
    let first = bundle("a = 1", "x");
    let mut story = Story::up(&first);
    let target = target_of(1, &first);
    let logging = path("log4j2.properties");
    let edited = || differs(target, "log4j2.properties", Found::Content { texts: None });
    let failed = |reason| {
        let failure = Failure { reason, detail: format!("it is {reason}") };
        Event::RestoreFailed { path: path("log4j2.properties"), failure }
    };
    let reported = |story: &Story| -> Vec<(DriftAction, bool)> {
        let drift = story.engine.observed().drift;
        drift.into_iter().map(|drift| (drift.action, drift.restored_after.is_some())).collect()
    };
    story.at(50, "an edit is seen", edited());
    assert_eq!(reported(&story), [(DriftAction::Reported, false)], "ordered is not done");
    story.at(51, "the disk refuses", failed(RefusalReason::IoFailed));
    story.at(52, "a look before its time", edited());
    assert_eq!(restores(&story), 1, "{}", story.text);
    story.at(56, "the timer", Event::Timer).at(56, "it is seen again", edited());
    assert_eq!(restores(&story), 2, "{}", story.text);
    story.at(57, "its content is gone", failed(RefusalReason::ContentUnavailable));
    assert!(story.text.contains("57s its content is gone\n    obtain 1\n"), "{}", story.text);
    story
        .at(58, "content is there", Event::Obtained { content: content_of(&first), bundle: first.clone() })
        .at(58, "it is seen again", edited());
    assert_eq!(restores(&story), 3, "{}", story.text);
    let took = std::time::Duration::from_millis(8000);
    story.at(59, "restored", Event::Restored { path: logging, took });
    assert_eq!(reported(&story), [(DriftAction::Restored, true)]);
    assert_eq!(story.engine.observed().drift_total, 1, "one edit, however many tries");
    let told = |kind: &str| {
        story.engine.memory().notices.iter().filter(|notice| notice.kind.as_str() == kind).count()
    };
    assert_eq!((told("drift-restored"), told("drift-restore-failed"), told("drift-reported")), (1, 2, 0));
}

#[test]
fn a_start_waits_for_a_restore_but_not_for_ever() {
    for (restored, at) in [(true, 71), (false, 81)] {
        let first = bundle("a = 1", "x");
        let mut story = Story::up(&first);
        let edited = differs(target_of(1, &first), "log4j2.properties", Found::Missing);
        let how = "killed".to_owned();
        story
            .at(50, "a file is gone", edited)
            .at(51, "the server ends", Event::Exited { process: process(10, 3000), how })
            .at(70, "the timer", Event::Timer);
        assert!(!story.text.contains("launch"), "{}", story.text);
        let event = if restored {
            let took = std::time::Duration::from_millis(8);
            Event::Restored { path: path("log4j2.properties"), took }
        } else {
            Event::Timer
        };
        story.at(at, "it is back, or has taken too long", event);
        assert!(story.text.ends_with("    launch\n"), "{}", story.text);
    }
}
