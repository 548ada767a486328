//! An apply over an open rollout, with many nodes and no agents.

use std::{collections::BTreeSet, time::Duration};

use fleet::{
    access::{Action, FIRST_OPERATOR, Grant, Principal, Targets, may},
    approval::{ApprovalRules, ProposalState},
    audit::Act,
    ids::GroupName,
    rollout::{GroupGoal, RolloutRules},
    signature::SignatureRules,
};

use super::*;
use crate::{
    authority::Authority,
    config::Config,
    store::{
        Memory, Range, Store,
        records::{AuditRecord, EventRecord},
        revisions,
        rollouts::tests::{ENTRY_MAX, node},
    },
    tasks::Tasks,
    wall_clock,
};

fn draft(nodes: u32, content: &str) -> RevisionDraft {
    let group = GroupName::parse("gateway-frankfurt").unwrap();
    let target = |number: u32| Target {
        bundle: Digest::of(content.as_bytes()),
        content: Digest::of(content.as_bytes()),
        content_size: 40_000,
        group: group.clone(),
        host: format!("gateway-{number:05}.frankfurt.acme.internal"),
        zone: None,
        product: "wso2am-4.5".to_owned(),
    };
    RevisionDraft {
        sources: BTreeMap::new(),
        nodes: (0..nodes).map(|number| (node(number), target(number))).collect(),
        rules: RolloutRules {
            groups: [(group.clone(), GroupGoal::default())].into(),
            ..RolloutRules::default()
        },
        rolls_back_to: None,
        stays: BTreeSet::new(),
        left_out: BTreeSet::new(),
        secrets: None,
        origin: None,
        approval: ApprovalRules::default(),
        alerts: fleet::alert::AlertPolicy::default(),
        source_bytes: 0,
        signatures: SignatureRules::default(),
        signed: None,
    }
}

fn intent() -> Intent {
    let name = OperatorName::parse(FIRST_OPERATOR).unwrap();
    let who = Principal { name, grant: Grant::first(), version: 0, serial: String::new(), from: None };
    Intent {
        permit: may(&who, Action::Apply, &Targets::new()).unwrap(),
        message: "A larger pool".to_owned(),
        parent: None,
        windows_overridden: None,
        replace_unmanaged: None,
        only: Selection::default(),
        origin: None,
        approval: Approval::Ask,
        packs: GivenPacks::default(),
        signature: None,
        trace: None,
    }
}

struct Started {
    coordinator: Arc<Coordinator>,
    store: Arc<dyn Store>,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

async fn started() -> Started {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("fleet = \"acme\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\n", dir.path());
    let config = Config::parse(&text).unwrap();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let authority = Arc::new(Authority::open(&dir.path().join("ca"), &config.fleet, wall_clock()).unwrap());
    let tasks = Tasks::new(tokio_util::sync::CancellationToken::new());
    let parts = (store.clone(), authority, wall_clock as crate::Clock);
    let bound = "127.0.0.1:9".parse().unwrap();
    let coordinator = crate::start(&config, bound, parts, tasks.clone()).await.unwrap();
    Started { coordinator, store, tasks, _dir: dir }
}

async fn commit(coordinator: &Coordinator, draft: &RevisionDraft) -> (Revision, Option<RolloutId>) {
    match coordinator.commit_revision(draft, None, &intent()).await.unwrap() {
        Committed::Revision(revision, rollout) => (revision, rollout),
        Committed::Proposed(..) => panic!("it was only proposed"),
        Committed::Refused(why) => panic!("{why}"),
    }
}

async fn applies_over_an_open_rollout(nodes: u32) {
    let Started { coordinator, store, tasks, _dir } = started().await;
    for (number, content) in (1..).zip(["first", "second", "third"]) {
        let outcome = commit(&coordinator, &draft(nodes, content)).await;
        assert_eq!(outcome, (Revision(number), Some(RolloutId(number))));
    }
    let snapshot = coordinator.snapshot().await.unwrap();
    let steps = |rollout: &Rollout| (rollout.phase.word().as_str(), rollout.steps.len());
    let found: Vec<_> = snapshot.rollouts.iter().map(|record| steps(&record.rollout)).collect();
    let (nodes, superseded) = (nodes as usize, "superseded");
    assert_eq!(found, [("running", nodes), (superseded, nodes), (superseded, nodes)]);
    for held in &snapshot.rollouts {
        let stored = rollouts::read(&*coordinator.store, held.rollout.id).await.unwrap().unwrap();
        assert_eq!(*held, stored, "the mirror holds what the store does");
    }
    let entries = store.range(crate::store::Range::first("", usize::MAX)).await.unwrap();
    let largest = entries.iter().max_by_key(|entry| entry.value.len()).unwrap();
    println!("{nodes} nodes: the largest value is {} with {} bytes", largest.key, largest.value.len());
    assert!(largest.value.len() <= ENTRY_MAX, "{} is {} bytes", largest.key, largest.value.len());
    tasks.stop().cancel();
}

#[tokio::test]
async fn fifteen_hundred_nodes_are_applied_over_an_open_rollout() {
    applies_over_an_open_rollout(1_500).await;
}

#[tokio::test]
async fn groups_whose_rules_are_too_large_are_refused_in_words_and_nothing_is_stored() {
    let Started { coordinator, store, tasks, _dir } = started().await;
    let mut draft = draft(1, "first");
    let name = |number: u32| GroupName::parse(&format!("gateway-frankfurt-{number:05}")).unwrap();
    let goal = GroupGoal { after: (0..100).map(name).collect(), ..GroupGoal::default() };
    draft.rules.groups.extend((0..500).map(|number| (name(number), goal.clone())));
    let Err(error) = coordinator.commit_revision(&draft, None, &intent()).await else {
        panic!("a record of more than a megabyte was stored")
    };
    let says = error.to_string();
    assert!(says.contains("gates of 501 groups take 1") && says.contains("into fewer groups"), "{says}");
    for prefix in [Key::REVISIONS, Key::ROLLOUTS, Key::STEPS, Key::PARTS] {
        assert!(store.range(crate::store::Range::first(prefix, 1)).await.unwrap().is_empty(), "{prefix}");
    }
    tasks.stop().cancel();
}

#[tokio::test]
async fn parts_of_revisions_that_are_kept_are_no_garbage_and_those_of_others_are() {
    let Started { coordinator, store, tasks, _dir } = started().await;
    let kept = coordinator.history.revisions as u64;
    // Two more than are kept; the first two share no part with the others.
    for number in 1..=kept + 2 {
        let content = if number <= 2 { format!("old {number}") } else { format!("new {}", number % 2) };
        commit(&coordinator, &draft(3, &content)).await;
    }
    let revision = |number| revisions::read(&*store, Revision(number));
    let (old, new) = (revision(1).await.unwrap().unwrap(), revision(kept + 2).await.unwrap().unwrap());
    coordinator.collect_garbage().await.unwrap();
    assert!(revision(2).await.unwrap().is_none());
    for number in 3..=kept + 2 {
        assert_eq!(revision(number).await.unwrap().unwrap().nodes.len(), 3, "revision {number}");
    }
    let is_there = async |digest: &Digest| store.get(&Key::part(digest)).await.unwrap().is_some();
    for (record, expected) in [(old, false), (new, true)] {
        for digest in record.split().0.parts() {
            assert_eq!(is_there(digest).await, expected, "revision {}", record.number);
        }
    }
    tasks.stop().cancel();
}

#[tokio::test]
async fn parts_of_proposals_that_wait_are_no_garbage_and_those_of_others_are() {
    let Started { coordinator, store, tasks, _dir } = started().await;
    let approval = ApprovalRules { fleet: true, ..ApprovalRules::default() };
    let draft = RevisionDraft { approval, ..draft(300, "first") };
    let committed = coordinator.commit_revision(&draft, None, &intent()).await.unwrap();
    let Committed::Proposed(record, approvers) = committed else { panic!("it was not proposed") };
    assert_eq!(approvers, [], "nobody but its author is there");
    let whole = async || revisions::whole(&*store, record.head.clone()).await;
    coordinator.collect_garbage().await.unwrap();
    assert_eq!(whole().await.unwrap().nodes.len(), 300);
    let who = intent();
    let by = may(who.permit.principal(), Action::Reject, &Targets::new()).unwrap();
    coordinator.reject(record.id, "no", &by).await.unwrap();
    coordinator.collect_garbage().await.unwrap();
    assert!(whole().await.is_err(), "what is over keeps its parts");
    tasks.stop().cancel();
}

/// A pack of empty rules and one template.
fn pack() -> (Digest, Vec<u8>) {
    let rules = ["key-mappings.json", "infer.json", "default.json", "unit-resolve.json", "validator.json"];
    let rules = rules.map(|file| (format!("repository/resources/conf/{file}"), b"{}".to_vec()));
    let template = ("repository/resources/conf/templates/conf/a.xml.j2".to_owned(), b"<a/>".to_vec());
    let files = rules.into_iter().chain([template]);
    proto::convert::pack::named_pack(&fleet::pack::Resources::new(files).unwrap())
}

#[tokio::test]
async fn the_packs_of_proposals_that_wait_are_kept_and_an_end_in_time_is_told_once() {
    let Started { coordinator, store, tasks, _dir } = started().await;
    let (digest, encoded) = pack();
    let facts = Arc::new(crate::packs::load(&encoded).unwrap());
    let propose = async |expires: Duration| {
        let mut intent = intent();
        intent.packs.put("wso2am-4.5".to_owned(), digest, facts.clone());
        intent.packs.encode(digest, encoded.clone());
        let approval = ApprovalRules { fleet: true, expires, ..ApprovalRules::default() };
        let draft = RevisionDraft { approval, ..draft(3, "first") };
        match coordinator.commit_revision(&draft, None, &intent).await.unwrap() {
            Committed::Proposed(record, _) => record,
            Committed::Revision(..) | Committed::Refused(_) => panic!("it was not proposed"),
        }
    };
    let events = async || {
        let all = store.range(Range::first(Key::EVENTS, usize::MAX)).await.unwrap();
        let all = all.iter().map(|entry| EventRecord::read(entry).unwrap());
        all.filter(|event| event.kind == "proposal-expired").map(|event| event.text).collect::<Vec<_>>()
    };
    let waits = propose(Duration::from_secs(3600)).await;
    coordinator.collect_garbage().await.unwrap();
    assert_eq!(waits.packs, [("wso2am-4.5".to_owned(), digest)].into());
    assert!(
        blobs::get(&*coordinator.store, &digest).await.unwrap().is_some(),
        "the pack of a proposal is garbage"
    );
    assert_eq!(coordinator.end_overdue().await.unwrap(), Some(waits.expires));
    let who = intent();
    let by = may(who.permit.principal(), Action::Reject, &Targets::new()).unwrap();
    coordinator.reject(waits.id, "no", &by).await.unwrap();
    coordinator.collect_garbage().await.unwrap();
    assert!(blobs::get(&*coordinator.store, &digest).await.unwrap().is_none(), "what is over keeps its pack");

    let overdue = propose(Duration::ZERO).await;
    for _ in 0..2 {
        assert_eq!(coordinator.end_overdue().await.unwrap(), None);
        assert_eq!(
            events().await,
            ["proposal 2 of admin has expired: nobody decided in 0ms: A larger pool"],
            "told once"
        );
    }
    assert_eq!(coordinator.proposal(overdue.id).await.unwrap().state, ProposalState::Expired);
    assert!(coordinator.snapshot().await.unwrap().proposals.is_empty());
    let entry = store.get(&Key::audit(coordinator.audit.head().seq)).await.unwrap().unwrap();
    let AuditRecord { entry, .. } = AuditRecord::read(&entry).unwrap();
    assert_eq!((entry.actor.as_str(), entry.act, entry.serial.as_str()), ("coordinator", Act::Expire, ""));
    tasks.stop().cancel();
}

#[tokio::test]
async fn ten_thousand_nodes_are_applied_over_an_open_rollout() {
    applies_over_an_open_rollout(10_000).await;
}

#[tokio::test]
async fn twenty_five_hundred_nodes_are_applied_over_an_open_rollout() {
    applies_over_an_open_rollout(2_500).await;
}
