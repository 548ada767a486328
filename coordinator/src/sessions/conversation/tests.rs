use std::collections::BTreeMap;

use fleet::{
    bundle::Applied,
    ids::{Digest, GroupName, NodeName, Revision},
    observed::{RefusalReason, Vitals},
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
        product: "wso2is-7.2".to_owned(),
    };
    Assigned { generation: Generation(generation), revision: Revision(1), target, why: "test".to_owned() }
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
    }
}

fn notice(seq: u64) -> Notice {
    let (kind, text) = ("service-state".to_owned(), format!("notice {seq}"));
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
    talk.on_report(NOW, observed(None));
    assert!(talk.has_unsaved());
    talk.save();
    let vitals = Vitals { rss: 1 << 30, ..Vitals::default() };
    talk.on_report(NOW, Observed { vitals, ..observed(None) });
    assert!(!talk.has_unsaved());
    talk.on_report(NOW, Observed { health: Verdict::Unknown("late".to_owned()), ..observed(None) });
    assert!(talk.has_unsaved());
}

#[test]
fn the_last_good_bundle_is_kept_with_its_content_even_when_history_is_cut() {
    let good = assigned(1).applied();
    let mut talk = conversation(1);
    talk.on_report(NOW, observed(Some(good)));
    assert_eq!(talk.save().seen.last_good, Some(assigned(1)));
    // Generation 1 has long left the node's history, and the node still says that it was its last good one.
    talk.on_record(record(20));
    talk.on_report(NOW, Observed { starts_total: 2, ..observed(Some(good)) });
    assert_eq!(talk.save().seen.last_good, Some(assigned(1)));
    // A generation that nobody here ever gave out is no place to go back to.
    let foreign = Applied { generation: Generation(99), bundle: Digest::of(b"foreign") };
    talk.on_report(NOW, observed(Some(foreign)));
    assert_eq!(talk.save().seen.last_good, None);
}

#[test]
fn each_notice_becomes_one_event_however_often_it_is_sent() {
    let mut talk = conversation(1);
    talk.on_notices(vec![notice(1), notice(2)]);
    talk.on_notices(vec![notice(1), notice(2), notice(3)]);
    let save = talk.save();
    let texts: Vec<&str> = save.events.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts, ["notice 1", "notice 2", "notice 3"]);
    assert_eq!(save.seen.notices_up_to, 3);
    talk.on_notices(vec![notice(2), notice(3)]);
    assert!(!talk.has_unsaved());
}

#[test]
fn notices_of_a_save_that_was_lost_are_taken_again() {
    let mut talk = conversation(1);
    talk.on_notices(vec![notice(1)]);
    talk.save();
    talk.on_save_failed(None);
    assert_eq!(talk.notices_up_to(), 0);
    talk.on_notices(vec![notice(1)]);
    assert_eq!(talk.save().events.len(), 1);
    // Had it been stored after all, the store says so and the notice is not told twice.
    talk.on_save_failed(Some(&SeenRecord { notices_up_to: 1, ..SeenRecord::default() }));
    talk.on_notices(vec![notice(1)]);
    assert!(talk.save().events.is_empty());
}

#[test]
fn a_refusal_is_an_event_and_an_ended_attempt() {
    let mut talk = conversation(2);
    talk.on_report(NOW, observed(Some(assigned(1).applied())));
    let refusal = Refusal {
        reason: RefusalReason::DiskFull,
        detail: "1 GB missing".to_owned(),
        still_running: Some(assigned(1).applied()),
    };
    talk.on_ack(NOW, (Generation(2), Stage::Staged, Some(refusal)));
    let save = talk.save();
    assert_eq!(save.events[0].fields["reason"], "disk-full");
    let attempt = save.seen.observed.unwrap().attempted.unwrap();
    assert_eq!((attempt.target.generation, attempt.done), (Generation(2), true));
    // A late acknowledgement of an earlier stage does not undo it.
    talk.on_ack(NOW, (Generation(2), Stage::Received, None));
    assert!(!talk.has_unsaved());
}
