//! Who did what is recorded with its effect, and whatever is done to the record shows.

use std::{fs, path::Path};

use coordinator::{
    store::{
        Embedded, Entry as Stored, Key, Range, Store as _, Transaction,
        records::{AuditHeadRecord, AuditRecord, Record as _},
    },
    tasks::Tasks,
};
use fleet::{
    audit::{Broken, Entry, Head, Link, Verifier},
    ids::FleetEpoch,
};
use proto::{
    convert::audit::{entry_from_wire, head_from_wire},
    wire::operator::{self as wire, audit_client::AuditClient, operators_client::OperatorsClient},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::support::{ScriptedAgent, TestCoordinator, small_fleet};

async fn channel(coordinator: &TestCoordinator) -> Channel {
    let context = coordinator.context();
    coordinator.channel(Some((&context.certificate_pem, &context.key_pem))).await.unwrap()
}

async fn head(coordinator: &TestCoordinator) -> (Head, FleetEpoch) {
    let mut client = AuditClient::new(channel(coordinator).await);
    let reply = client.head(wire::AuditHeadRequest {}).await.unwrap().into_inner();
    (head_from_wire(&reply).unwrap(), FleetEpoch(reply.fleet_epoch.try_into().unwrap()))
}

pub(crate) async fn entries(coordinator: &TestCoordinator) -> Result<Vec<(Entry, Link)>, Status> {
    filtered(coordinator, wire::ListAuditRequest::default()).await
}

async fn filtered(
    coordinator: &TestCoordinator,
    request: wire::ListAuditRequest,
) -> Result<Vec<(Entry, Link)>, Status> {
    let mut client = AuditClient::new(channel(coordinator).await);
    let mut stream = client.list(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(entry) = stream.message().await? {
        found.push(entry_from_wire(entry).unwrap());
    }
    Ok(found)
}

/// Goes through the record as `convoy audit verify` does, for somebody who has seen it up to `seen`.
async fn verify(coordinator: &TestCoordinator, seen: Head) -> Result<(), Broken> {
    let (_, epoch) = head(coordinator).await;
    let mut verifier = Verifier::new(epoch, Head::NONE, Some(seen));
    for (entry, link) in entries(coordinator).await.unwrap() {
        verifier.take(&entry, &link)?;
    }
    verifier.reaches()
}

/// Changes the store as somebody does who has the coordinator's host.
async fn tamper(store: &Path, change: impl FnOnce(Vec<Stored>) -> Transaction) {
    let path = store.to_owned();
    let open = move || fs::OpenOptions::new().read(true).write(true).open(&path);
    let tasks = Tasks::new(CancellationToken::new());
    let engine = Embedded::open(open, &tasks).unwrap();
    let found = engine.range(Range::first(Key::AUDIT, 1000)).await.unwrap();
    engine.commit(change(found)).await.unwrap();
    drop(engine);
    tasks.ended().await;
}

#[tokio::test]
async fn every_act_is_recorded_with_who_did_it_and_what_became_of_it() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let agent = ScriptedAgent::start(&coordinator, &node).await;
    let second = coordinator.join("is-2").await;
    let second = ScriptedAgent::start(&coordinator, &second).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    coordinator
        .until("both are ready", |status| {
            status.nodes.len() == 2 && status.nodes.iter().all(|node| node.state == "ready")
        })
        .await;
    let mut operator = coordinator.operator().await;
    let restart = |now| wire::RestartNodeRequest { node: "is-1".to_owned(), why: "disk".to_owned(), now };
    assert!(operator.restart_node(restart(true)).await.unwrap().into_inner().ok);
    agent.manner.send_replace(crate::support::Manner::Refuses);
    assert!(!operator.restart_node(restart(true)).await.unwrap().into_inner().ok);
    // A budget, and a stale parent.
    second.kill().await;
    coordinator.until("is-2 is gone", |status| status.nodes.iter().any(|node| !node.connected)).await;
    assert!(operator.restart_node(restart(false)).await.unwrap().into_inner().guard);
    assert!(coordinator.apply(&small_fleet("two.example.org"), Some(0)).await.refused);
    // An order for a node that is away reaches nobody, and nothing was done: no event, but an entry.
    let away = wire::RestartNodeRequest { node: "is-2".to_owned(), why: "disk".to_owned(), now: true };
    assert!(!operator.restart_node(away).await.unwrap().into_inner().ok);
    let found = entries(&coordinator).await.unwrap();
    let told: Vec<String> = found
        .iter()
        .map(|(entry, _)| {
            let node = entry.node.as_ref().map_or("-".to_owned(), ToString::to_string);
            format!("{} {} {} {node} {}", entry.seq, entry.actor, entry.act, entry.outcome.as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            "1 admin make-token is-1 done",
            "2 admin make-token is-2 done",
            "3 admin apply - done",
            "4 admin restart is-1 ordered",
            "5 admin restart is-1 was-done",
            "6 admin restart is-1 ordered",
            "7 admin restart is-1 not-done",
            "8 admin restart is-1 refused",
            "9 admin apply - refused",
            "10 admin restart is-2 refused",
        ]
    );
    assert_eq!(found[4].0.outcome.order(), Some(4));
    assert!(found[3].0.text.ends_with("restarts is-1, whatever else is down: disk"), "{:?}", found[3].0);
    assert!(found[7].0.outcome.why().unwrap().contains("budget"), "{:?}", found[7].0);
    assert!(found[9].0.outcome.why().unwrap().contains("not connected"), "{:?}", found[9].0);
    assert!(found.iter().all(|(entry, _)| !entry.serial.is_empty()), "by which certificate");
    let here = std::net::IpAddr::from([127, 0, 0, 1]);
    assert!(found.iter().all(|(entry, _)| entry.from == Some(here)), "from where: {found:?}");
    verify(&coordinator, head(&coordinator).await.0).await.unwrap();

    let asked = |act: &str, node: &str, most| wire::ListAuditRequest {
        act: act.to_owned(),
        node: node.to_owned(),
        most,
        ..wire::ListAuditRequest::default()
    };
    let count = async |request| filtered(&coordinator, request).await.unwrap().len();
    assert_eq!(count(asked("restart", "", 0)).await, 6);
    assert_eq!(count(asked("", "is-1", 2)).await, 2);
    assert_eq!(count(asked("apply", "is-1", 0)).await, 0);
    let late = wire::ListAuditRequest { since_ms: Some(i64::MAX), ..wire::ListAuditRequest::default() };
    assert_eq!(count(late).await, 0);
    assert!(filtered(&coordinator, asked("shout", "", 0)).await.is_err());
    coordinator.stop().await;
}

#[tokio::test]
async fn every_answer_to_an_operator_says_how_far_the_record_goes() {
    let coordinator = TestCoordinator::start().await;
    coordinator.token("is-1", 60).await;
    let (head, _) = head(&coordinator).await;
    let said = coordinator.operator().await.status(wire::StatusRequest {}).await.unwrap();
    let said = said.metadata().get("convoy-audit-head").unwrap().to_str().unwrap().to_owned();
    assert_eq!(said, format!("1 {}", head.link));
    let anonymous = coordinator.channel(None).await.unwrap();
    let refused = OperatorsClient::new(anonymous).list(wire::ListOperatorsRequest {}).await.unwrap_err();
    assert!(refused.metadata().get("convoy-audit-head").is_none(), "strangers are told nothing");
    coordinator.stop().await;
}

#[tokio::test]
async fn whatever_is_done_to_the_stored_record_shows() {
    let coordinator = TestCoordinator::start().await;
    for number in 0..9 {
        coordinator.token(&format!("is-{number}"), 60).await;
    }
    let (seen, _) = head(&coordinator).await;
    verify(&coordinator, seen).await.unwrap();
    let (store, witness) = (coordinator.data("store.redb"), coordinator.data("witness.toml"));
    let mut dir = coordinator.stop().await;
    let (whole, known) = (fs::read(&store).unwrap(), fs::read(&witness).unwrap());
    let changed = |entry: &Stored, change: &dyn Fn(&mut AuditRecord)| {
        let mut record = AuditRecord::read(entry).unwrap();
        change(&mut record);
        Transaction::default().put(entry.key.clone(), record.encode())
    };
    let cut = |all: Vec<Stored>| {
        let last = AuditRecord::read(&all[6]).unwrap();
        let head = AuditHeadRecord(Head { seq: last.entry.seq, link: last.link });
        let removal = Transaction::default().delete(all[7].key.clone()).delete(all[8].key.clone());
        removal.put(Key::audit_head(), head.encode())
    };
    type Change<'a> = Box<dyn FnOnce(Vec<Stored>) -> Transaction + 'a>;
    let cases: [(&str, Change<'_>, Broken); 4] = [
        (
            "a flipped byte",
            Box::new(|all| {
                changed(&all[3], &|record| record.entry.actor = record.entry.actor.replace('a', "c"))
            }),
            Broken::Changed { seq: 4 },
        ),
        (
            "a missing middle",
            Box::new(|all| Transaction::default().delete(all[4].key.clone())),
            Broken::Order { after: 4, found: 6 },
        ),
        (
            "a swap",
            Box::new(|all| {
                let swapped = Transaction::default().put(all[1].key.clone(), all[5].value.clone());
                swapped.put(all[5].key.clone(), all[1].value.clone())
            }),
            Broken::Order { after: 1, found: 6 },
        ),
        ("a lost tail", Box::new(cut), Broken::Cut { last: 7, seen: 9 }),
    ];
    for (what, change, broken) in cases {
        // The counter of commits is its own business.
        fs::write(&store, &whole).unwrap();
        fs::write(&witness, &known).unwrap();
        tamper(&store, change).await;
        let coordinator = TestCoordinator::start_in(dir, "").await;
        assert_eq!(verify(&coordinator, seen).await, Err(broken), "{what}");
        dir = coordinator.stop().await;
    }
}
