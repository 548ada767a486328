use std::collections::BTreeMap;

use fleet::{
    bundle::Applied,
    ids::{Digest, GroupName, NodeName, Revision},
    observed::{RefusalReason, Vitals},
    words::NoticeWord,
};

use super::*;
use crate::store::records::{Assigned, Target};

const NOW: Timestamp = Timestamp(1_000);

fn assigned(generation: u64) -> Assigned {
    let target = Target {
        bundle: Digest::of(&generation.to_be_bytes()),
        content: Digest::of(b"encoding"),
        content_size: 8,
        group: GroupName::parse("km").unwrap(),
        host: "h1".to_owned(),
        zone: None,
        product: "wso2is-7.2".to_owned(),
    };
    Assigned {
        generation: Generation(generation),
        revision: Revision(1),
        target,
        why: "test".to_owned(),
        trace: None,
    }
}

fn record(generations: u64) -> NodeRecord {
    let mut record = NodeRecord::new(NodeName::parse("is-1").unwrap());
    (1..=generations).for_each(|generation| record.assign(assigned(generation)));
    record
}

fn observed(last_good: Option<Applied>) -> Observed {
    Observed {
        desired: last_good,
        attempted: None,
        written: last_good,
        running: last_good,
        last_good,
        service: ServiceState::Running,
        service_since: NOW,
        service_reason: String::new(),
        health: Verdict::Healthy,
        health_since: NOW,
        process: None,
        drift: Vec::new(),
        drift_total: 0,
        starts_total: 1,
        vitals: Vitals::default(),
        pack: None,
        drift_pause: None,
        concerns: Vec::new(),
        key_managers: Vec::new(),
        last_output: Vec::new(),
        original: None,
    }
}

fn notice(seq: u64) -> Notice {
    let (kind, text) = (NoticeWord::ServiceState.into(), format!("notice {seq}"));
    Notice { seq, at: NOW, kind, text, fields: BTreeMap::new() }
}

fn conversation(generations: u64) -> Conversation {
    Conversation::new(record(generations), SeenRecord::default())
}

#[test]
fn an_assignment_is_told_once_per_stream_and_again_when_it_changes() {
    let mut talk = conversation(1);
    let nonces = |talk: &mut Conversation, record: NodeRecord| match talk.on_record(record) {
        Some(ToAgent::Assign { nonce, assignment }) => Some((nonce, assignment.applied.generation.0)),
        _ => None,
    };
    assert_eq!(nonces(&mut talk, record(1)), Some((1, 1)));
    assert_eq!(nonces(&mut talk, record(1)), None);
    assert_eq!(nonces(&mut talk, record(2)), Some((2, 2)));
    let stopped = NodeRecord { run: fleet::bundle::RunState::Stopped, ..record(2) };
    assert_eq!(nonces(&mut talk, stopped), Some((3, 2)));
    assert_eq!(nonces(&mut conversation(0), record(0)), None);
}

#[test]
fn measurements_alone_are_not_stored() {
    let mut talk = conversation(1);
    talk.on_report(NOW, observed(None), || true);
    assert!(talk.has_unsaved());
    talk.save();
    talk.on_saved();
    let vitals = Vitals { rss: 1 << 30, ..Vitals::default() };
    talk.on_report(NOW, Observed { vitals, ..observed(None) }, || true);
    assert!(!talk.has_unsaved());
    talk.on_report(NOW, Observed { health: Verdict::Unknown("late".to_owned()), ..observed(None) }, || true);
    assert!(talk.has_unsaved());
}

#[test]
fn the_last_good_bundle_is_kept_with_its_content_even_when_history_is_cut() {
    let good = assigned(1).applied();
    let mut talk = conversation(1);
    talk.on_report(NOW, observed(Some(good)), || true);
    assert_eq!(talk.save().seen.last_good, Some(assigned(1)));
    // Generation 1 has long left the node's history, and the node still says that it was its last good one.
    talk.on_record(record(20));
    talk.on_report(NOW, Observed { starts_total: 2, ..observed(Some(good)) }, || true);
    assert_eq!(talk.save().seen.last_good, Some(assigned(1)));
    // A generation that nobody here ever gave out is no place to go back to.
    let foreign = Applied { generation: Generation(99), bundle: Digest::of(b"foreign") };
    talk.on_report(NOW, observed(Some(foreign)), || true);
    assert_eq!(talk.save().seen.last_good, None);
}

fn hear(talk: &mut Conversation, numbers: impl IntoIterator<Item = u64>) {
    talk.on_notices(NOW, numbers.into_iter().map(notice).collect(), || true);
}

fn texts(save: &Save) -> Vec<&str> {
    save.events.iter().map(|event| event.text.as_str()).collect()
}

#[test]
fn each_notice_becomes_one_event_however_often_it_is_sent() {
    let mut talk = conversation(1);
    hear(&mut talk, [1, 2]);
    hear(&mut talk, [1, 2, 3]);
    let save = talk.save();
    assert_eq!(texts(&save), ["notice 1", "notice 2", "notice 3"]);
    assert_eq!(save.seen.notices_up_to, 3);
    hear(&mut talk, [2, 3]);
    talk.on_saved();
    hear(&mut talk, [2, 3]);
    assert!(!talk.has_unsaved());
}

#[test]
fn an_agent_that_comes_back_with_many_notices_loses_none() {
    let mut talk = conversation(1);
    for first in (1..=100).step_by(16) {
        hear(&mut talk, first..(first + 16).min(101));
    }
    let mut told = Vec::new();
    let mut received = 0;
    while talk.has_unsaved() {
        let save = talk.save();
        assert!(save.events.len() <= APPEND_MAX);
        talk.on_saved();
        told.extend(save.events.into_iter().map(|event| event.text));
        // What the agent is told never goes beyond what is stored, and it forgets up to there.
        received = talk.notices_up_to();
        assert_eq!(received, told.len() as u64);
    }
    assert_eq!(received, 100);
    assert_eq!(told, (1..=100).map(|seq| format!("notice {seq}")).collect::<Vec<_>>());
}

#[test]
fn no_more_is_read_than_can_wait() {
    let mut talk = conversation(1);
    hear(&mut talk, 1..=256);
    assert!(!talk.has_room());
    talk.save();
    assert!(!talk.has_room(), "what is being stored is not stored");
    talk.on_saved();
    assert!(talk.has_room());
}

#[test]
fn what_an_agent_had_to_let_go_of_is_told_with_its_count() {
    let mut talk = conversation(1);
    hear(&mut talk, [1, 2, 45]);
    let save = talk.save();
    assert_eq!(save.events[2].kind, "notices-lost");
    assert_eq!(save.events[2].fields["count"], "42");
    assert_eq!((save.events.len(), save.seen.notices_up_to), (4, 45));
}

#[test]
fn notices_beyond_what_is_kept_of_one_node_are_received_and_make_no_event() {
    let mut talk = conversation(1);
    let admitted = std::cell::Cell::new(0);
    let admit = || admitted.replace(admitted.get() + 1) < 2;
    talk.on_notices(NOW, (1..=1000).map(notice).collect(), admit);
    let save = talk.save();
    assert_eq!(texts(&save), ["notice 1", "notice 2"]);
    assert_eq!(save.seen.notices_up_to, 1000);
}

#[test]
fn notices_of_a_save_that_was_lost_are_saved_again() {
    let mut talk = conversation(1);
    hear(&mut talk, [1]);
    talk.save();
    talk.on_save_failed(None);
    assert_eq!(talk.notices_up_to(), 0);
    // An agent sends a notice once on each connection: it need not come again.
    hear(&mut talk, [2]);
    assert_eq!(texts(&talk.save()), ["notice 1", "notice 2"]);
    // Had the first been stored after all, the store says so and it is not told twice.
    talk.on_save_failed(Some(&SeenRecord { notices_up_to: 1, ..SeenRecord::default() }));
    assert_eq!(texts(&talk.save()), ["notice 2"]);
}

#[test]
fn a_refusal_of_a_save_that_was_lost_is_saved_again() {
    let mut talk = conversation(2);
    let refusal = Refusal { reason: RefusalReason::DiskFull, detail: "full".to_owned(), still_running: None };
    talk.on_ack(NOW, (Generation(2), Stage::Staged, Some(refusal)), || true);
    assert_eq!(talk.save().events.len(), 1);
    talk.on_save_failed(None);
    assert_eq!(talk.save().events.len(), 1);
    talk.on_saved();
    assert!(!talk.has_unsaved());
}

#[test]
fn a_refusal_is_an_event_and_an_ended_attempt() {
    let mut talk = conversation(2);
    talk.on_report(NOW, observed(Some(assigned(1).applied())), || true);
    let refusal = Refusal {
        reason: RefusalReason::DiskFull,
        detail: "1 GB missing".to_owned(),
        still_running: Some(assigned(1).applied()),
    };
    talk.on_ack(NOW, (Generation(2), Stage::Staged, Some(refusal)), || true);
    let save = talk.save();
    let refused = save.events.iter().find(|event| event.kind == "assignment-refused").unwrap();
    assert_eq!(refused.fields["reason"], "disk-full");
    let attempt = save.seen.observed.unwrap().attempted.unwrap();
    assert_eq!((attempt.target.generation, attempt.done), (Generation(2), true));
    talk.on_saved();
    // A late acknowledgement of an earlier stage does not undo it.
    talk.on_ack(NOW, (Generation(2), Stage::Received, None), || true);
    assert!(!talk.has_unsaved());
}

fn hello() -> Hello {
    hello_of("0.1.0")
}

fn hello_of(version: &str) -> Hello {
    Hello {
        agent_version: version.to_owned(),
        platform: "linux-x86_64".to_owned(),
        epoch: None,
        wall_clock: NOW,
        protocol: 1,
    }
}

#[test]
fn hello_is_stored_with_the_report_that_follows_it_or_at_the_end() {
    let mut stored = conversation(1);
    stored.on_report(NOW, observed(None), || true);
    let seen = stored.save().seen;
    let later = NOW.after(std::time::Duration::from_secs(90));
    // Nothing but the session itself is new, before the report and in it.
    let mut reporting = Conversation::new(record(1), seen.clone());
    reporting.on_hello(later, hello(), || true);
    assert!(!reporting.has_unsaved());
    reporting.on_report(later, observed(None), || true);
    assert!(reporting.has_unsaved());
    let save = reporting.save();
    assert_eq!((save.seen.last_seen, save.seen.agent_version.as_str()), (later, "0.1.0"));
    reporting.on_report(later, observed(None), || true);
    assert!(!reporting.has_unsaved(), "once is enough");

    let mut silent = Conversation::new(record(1), seen);
    silent.on_hello(later, hello(), || true);
    silent.on_end(later, None, || true);
    assert_eq!(silent.save().seen.agent_version, "0.1.0");
}

#[test]
fn an_agent_that_is_lost_is_told_of_and_so_is_its_return() {
    let told = |save: Save| -> Vec<String> { save.events.into_iter().map(|event| event.text).collect() };
    let mut first = conversation(1);
    first.on_hello(NOW, hello(), || true);
    assert_eq!(told(first.save()), Vec::<String>::new());
    first.on_saved();
    first.on_end(NOW, Some("nothing was heard for 15 s"), || true);
    let lost = first.save();
    let seen = lost.seen.clone();
    assert_eq!(told(lost), ["its agent is not connected any more: nothing was heard for 15 s"]);

    let mut second = Conversation::new(record(1), seen);
    second.on_hello(NOW.after(std::time::Duration::from_secs(90)), hello(), || true);
    let back = second.save();
    assert_eq!(back.seen.lost, None);
    assert_eq!(told(back), ["its agent is connected again, after 1m30s"]);
}

#[test]
fn a_session_that_another_one_follows_is_no_loss() {
    let mut talk = conversation(1);
    talk.on_end(NOW, None, || true);
    let save = talk.save();
    assert_eq!((save.seen.lost, save.events.len()), (None, 0));
}

#[test]
fn an_agent_has_its_version_since_it_first_came_with_it() {
    let mut seen = SeenRecord::default();
    let mut since = Vec::new();
    for (minutes, version) in [(0, "0.1.0"), (1, "0.1.0"), (2, "0.2.0"), (3, "0.2.0"), (4, "0.1.0")] {
        let mut talk = Conversation::new(record(1), seen);
        talk.on_hello(NOW.after(std::time::Duration::from_secs(60 * minutes)), hello_of(version), || true);
        seen = talk.save().seen;
        since.push((seen.agent_since.0 - NOW.0) / 60_000);
    }
    assert_eq!(since, [0, 0, 2, 2, 4]);
}

#[test]
fn which_program_an_agent_runs_is_stored_when_it_differs_and_forgotten_with_its_version() {
    let program = Fingerprint([7; 32]);
    let mut first = Conversation::new(record(1), SeenRecord::default());
    first.on_hello(NOW, hello_of("0.2.0"), || true);
    first.on_program(program);
    assert!(first.has_unsaved());
    let seen = first.save().seen;
    assert_eq!(seen.program, Some(program));
    let mut again = Conversation::new(record(1), seen.clone());
    again.on_hello(NOW, hello_of("0.2.0"), || true);
    again.on_program(program);
    assert!(!again.has_unsaved(), "a reconnection writes nothing");
    let mut older = Conversation::new(record(1), seen);
    older.on_hello(NOW, hello_of("0.1.0"), || true);
    assert_eq!(older.save().seen.program, None, "it is of another version");
}
