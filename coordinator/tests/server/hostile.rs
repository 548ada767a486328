//! A node whose certificate is in the wrong hands: what it says is bounded, and hurts nobody else.

use proto::wire::{
    agent::{
        Ack, Applied, Attempt, CommandResult, Concern, Drift, DriftPause, Editor, Heartbeat, Hello, Notice,
        Notices, Process, Refusal, Report, Stage, Vitals, from_agent::Message, to_agent,
    },
    operator::{Event, EventFilter, EventsRequest, NodeRequest, StatusReply},
};

use crate::support::{TestCoordinator, bad_enrolment, report};

pub(crate) const UNSIGNED: [u64; 4] = [0, 1, u64::MAX - 1, u64::MAX];
pub(crate) const SIGNED: [i64; 5] = [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX];
const FLOATS: [f32; 4] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];

pub(crate) fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn applied(generation: u64) -> Option<Applied> {
    Some(Applied { generation, bundle: vec![7; 32] })
}

/// Every report in which numbers are at their extremes: generations one by one, and the others all together.
pub(crate) fn extremes() -> Vec<Report> {
    let refusal =
        |n| Refusal { reason: "disk-full".into(), detail: String::new(), still_running: applied(n) };
    let attempt = |target, still| Attempt {
        target: applied(target),
        stage: Stage::Ready.into(),
        failure: Some(refusal(still)),
        done: true,
        kept_server: false,
    };
    let mut reports = Vec::new();
    for n in UNSIGNED {
        let base = || report(None, None);
        reports.push(Report { desired: applied(n), ..base() });
        reports.push(Report { written: applied(n), ..base() });
        reports.push(Report { running: applied(n), ..base() });
        reports.push(Report { last_good: applied(n), ..base() });
        reports.push(Report { attempted: Some(attempt(n, 1)), ..base() });
        reports.push(Report { attempted: Some(attempt(1, n)), ..base() });
    }
    for (index, at) in SIGNED.into_iter().enumerate() {
        let n = UNSIGNED[index % UNSIGNED.len()];
        let mut extreme = report(None, None);
        let service = extreme.service.as_mut().unwrap();
        (service.state, service.since_ms, service.until_ms) = ("backing-off".into(), at, at);
        service.exits = narrow(n);
        extreme.health.as_mut().unwrap().since_ms = at;
        extreme.process = Some(Process { pid: narrow(n), start_id: "x".into(), started_ms: at });
        extreme.drift = vec![Drift {
            path: "repository/conf/deployment.toml".into(),
            kind: "edited".into(),
            action: "restored".into(),
            keys: Vec::new(),
            at_ms: at,
            restored_after_us: n,
            detail: String::new(),
            editors: vec![Editor { pid: narrow(n), ..Editor::default() }; 5],
        }];
        (extreme.drift_total, extreme.starts_total) = (narrow(n), n);
        extreme.drift_pause = Some(DriftPause { paused: true, reason: "x".into(), until_ms: at });
        extreme.vitals = Some(Vitals {
            rss_bytes: n,
            cpu_percent: FLOATS[index % FLOATS.len()],
            threads: narrow(n),
            open_files: narrow(n),
            disk_free_bytes: n,
            logs_bytes: n,
        });
        reports.push(extreme);
    }
    reports
}

/// What operators look at answers, whatever was said before.
async fn operators_are_served(coordinator: &TestCoordinator) {
    let status = coordinator.status().await;
    assert_eq!(status.nodes.len(), 2);
    let mut operator = coordinator.operator().await;
    operator.show_node(NodeRequest { node: "is-1".into() }).await.unwrap();
}

#[tokio::test]
async fn numbers_at_their_extremes_hurt_nobody() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&crate::support::small_fleet("a.example"), None).await;
    let node = coordinator.join("is-1").await;
    let mut messages: Vec<Message> = extremes().into_iter().map(Message::Report).collect();
    for n in UNSIGNED {
        messages.push(Message::Heartbeat(Heartbeat { seq: n, journal_error: format!("disk {n}") }));
        messages.push(Message::Result(CommandResult { id: n, ok: true, detail: "x".into() }));
        messages.push(Message::Ack(Ack {
            nonce: n,
            generation: n,
            stage: Stage::Ready.into(),
            ..Ack::default()
        }));
        for at_ms in SIGNED {
            let notice = Notice { seq: n, at_ms, kind: "x".into(), text: "x".into(), ..Notice::default() };
            messages.push(Message::Notices(Notices { notices: vec![notice] }));
        }
    }
    for message in messages {
        // A session of its own: some of these end it, which is a good answer.
        let mut session = node.session(&coordinator).await.unwrap();
        let seq = 4711;
        session.say(message).await;
        drop(
            session
                .sender
                .send(proto::wire::agent::FromAgent {
                    message: Some(Message::Heartbeat(Heartbeat { seq, ..Heartbeat::default() })),
                })
                .await,
        );
        // Until it was read: it is answered after it, or the session has ended.
        loop {
            match session.next().await {
                Ok(Some(to_agent::Message::Heartbeat(reply))) if reply.seq == seq => break,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        operators_are_served(&coordinator).await;
    }
    for (index, wall_clock_ms) in SIGNED.into_iter().enumerate() {
        let n = UNSIGNED[index % UNSIGNED.len()];
        let hello = Hello { boot_nonce: n, wall_clock_ms, protocol: narrow(n), ..Hello::default() };
        let mut session = node.session_with(&coordinator, hello).await.unwrap();
        // Welcomed, or turned away with words.
        drop(session.next().await);
        operators_are_served(&coordinator).await;
    }
    // A generation that leaves room for the next one is given to it after all that.
    let applied = coordinator.apply(&crate::support::small_fleet("b.example"), None).await;
    assert!(!applied.refused, "{applied:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn what_a_node_writes_is_printable_for_operators() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&crate::support::small_fleet("a.example"), None).await;
    let session = coordinator.join("is-1").await.session(&coordinator).await.unwrap();
    let hostile = "x\u{1b}]0;owned\u{7}\nlast\u{9b}31m\u{202e}";
    let mut said = report(None, None);
    said.service.as_mut().unwrap().reason = hostile.into();
    said.health.as_mut().unwrap().reason = hostile.into();
    said.concerns = vec![Concern { kind: hostile.into(), detail: hostile.into(), remedy: hostile.into() }];
    session.say(Message::Report(said)).await;
    let seen = coordinator.until("a report", |status| status.nodes[0].report.is_some()).await;
    let shown = format!("{seen:?}");
    // Debug spells control characters out with one backslash of its own; ours are two.
    assert!(shown.contains("u001b]0;owned") && !shown.contains("\\u{1b}"), "{shown}");
    assert!(!shown.contains("\\u{9b}") && !shown.contains("\\u{202e}"), "{shown}");
    coordinator.stop().await;
}

fn claim(seq: u64) -> Notice {
    let text = "revision 99 was applied by admin".into();
    Notice { seq, at_ms: 1, kind: "applied".into(), text, ..Notice::default() }
}

#[tokio::test]
async fn one_node_can_neither_wipe_nor_forge_history() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&crate::support::small_fleet("a.example"), None).await;
    let mut session = coordinator.join("is-1").await.session(&coordinator).await.unwrap();
    for first in (1..=20_000_u64).step_by(1_000) {
        let notices = (first..first + 1_000).map(claim).collect();
        session.say(Message::Notices(Notices { notices })).await;
    }
    let received = |message| match message {
        to_agent::Message::NoticesReceived(received) if received.up_to == 20_000 => Some(()),
        _ => None,
    };
    session.until(received).await;
    let dir = coordinator.stop().await;

    let coordinator = TestCoordinator::start_in(dir, "").await;
    let events = coordinator.events(EventsRequest::default()).await;
    let of_kind = |kind: &str| events.iter().filter(|event| event.kind == kind).collect::<Vec<_>>();
    assert_eq!(of_kind("applied").len(), 1, "only the operator's own");
    let claimed = of_kind("node-claimed");
    // One more is earned every 10 s.
    assert!((512..540).contains(&claimed.len()), "{}", claimed.len());
    // Ordered and dated by receipt; the host's time is kept beside it.
    assert!(claimed.iter().all(|event| event.host_at_ms == Some(1) && 1 < event.at_ms));
    let withheld = of_kind("events-withheld");
    let counts: u64 = withheld.iter().map(|event| event.fields["count"].parse::<u64>().unwrap()).sum();
    assert_eq!(counts, 20_000 - claimed.len() as u64);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_reader_is_told_what_is_not_kept_any_more() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let coordinator = TestCoordinator::start_in(dir, "[history]\nevents = 100\n").await;
    coordinator.apply(&crate::support::small_fleet("a.example"), None).await;
    let mut session = coordinator.join("is-1").await.session(&coordinator).await.unwrap();
    let notice = |seq| Notice { kind: "hook".into(), ..claim(seq) };
    session.say(Message::Notices(Notices { notices: (1..=400).map(notice).collect() })).await;
    let received = |message| match message {
        to_agent::Message::NoticesReceived(received) if received.up_to == 400 => Some(()),
        _ => None,
    };
    session.until(received).await;
    let kept = coordinator.events(EventsRequest { after: 3, ..EventsRequest::default() }).await;
    let (first, rest) = kept.split_first().unwrap();
    assert_eq!(first.missing, first.seq - 4, "the numbers between are the ones that are gone");
    assert!(0 < first.missing && rest.iter().all(|event| event.missing == 0));
    // Who asks only for the last ones misses nothing.
    let last = coordinator.events(EventsRequest { most: 3, ..EventsRequest::default() }).await;
    assert!(last.len() == 3 && last.iter().all(|event| event.missing == 0));
    coordinator.stop().await;
}

#[tokio::test]
async fn events_are_found_by_node_group_kind_actor_and_time() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&crate::support::small_fleet("a.example"), None).await;
    let node = coordinator.join("is-1").await;
    coordinator.join("is-9").await;
    let mut session = node.session(&coordinator).await.unwrap();
    session.say(Message::Report(report(None, None))).await;
    let notice = |seq| Notice { kind: "hook".into(), ..claim(seq) };
    session.say(Message::Notices(Notices { notices: (1..=300).map(notice).collect() })).await;
    let received = |message| match message {
        to_agent::Message::NoticesReceived(received) if received.up_to == 300 => Some(()),
        _ => None,
    };
    session.until(received).await;
    // Nothing else happens after that: its agent answers nothing.
    let is_sent = |status: &StatusReply| {
        status.nodes.iter().any(|node| node.name == "is-1" && node.desired_revision == 1)
    };
    coordinator.until("the step of is-1", is_sent).await;
    let all = coordinator.events(EventsRequest::default()).await;
    let filtered = async |filter: EventFilter| {
        let request = EventsRequest { filter: Some(filter), ..EventsRequest::default() };
        coordinator.events(request).await
    };
    let expected =
        |is: &dyn Fn(&Event) -> bool| all.iter().filter(|event| is(event)).cloned().collect::<Vec<_>>();

    let own = coordinator.events(EventsRequest { node: "is-1".into(), ..EventsRequest::default() }).await;
    assert_eq!(own, expected(&|event| event.node == "is-1"));
    assert!(300 < own.len());
    let last = EventsRequest { node: "is-1".into(), most: 2, ..EventsRequest::default() };
    assert_eq!(coordinator.events(last).await, own[own.len() - 2..]);
    // is-9 is not part of the fleet.
    let group = filtered(EventFilter { group: "km".into(), ..EventFilter::default() }).await;
    assert_eq!(group, expected(&|event| ["is-1", "is-2"].contains(&event.node.as_str())));
    let kinds = vec!["applied".to_owned(), "node-enrolled".to_owned()];
    let of_kind = filtered(EventFilter { kinds, ..EventFilter::default() }).await;
    assert_eq!(of_kind, expected(&|event| ["applied", "node-enrolled"].contains(&event.kind.as_str())));
    assert_eq!(of_kind.len(), 3);
    let by_admin = filtered(EventFilter { actor: "admin".into(), ..EventFilter::default() }).await;
    assert_eq!(by_admin, expected(&|event| event.actor == "admin"));
    assert_eq!(by_admin.len(), 3, "an apply and two tokens");
    let (since, until) = (all[1].at_ms, all[3].at_ms);
    let filter = EventFilter { since_ms: Some(since), until_ms: Some(until), ..EventFilter::default() };
    assert_eq!(filtered(filter).await, expected(&|event| since <= event.at_ms && event.at_ms <= until));
    let unknown = EventFilter { group: "gateway".into(), ..EventFilter::default() };
    let request = EventsRequest { filter: Some(unknown), ..EventsRequest::default() };
    let refused = coordinator.operator().await.events(request).await.unwrap_err();
    assert!(refused.message().contains("gateway"), "{refused}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_token_that_was_used_is_no_way_to_wipe_history() {
    let coordinator = TestCoordinator::start().await;
    let secret = coordinator.token("is-1", 60).await.secret.to_hex();
    coordinator.enroll("is-1", &secret).await.unwrap();
    let mut stranger = coordinator.stranger().await;
    for _ in 0..600 {
        bad_enrolment(&mut stranger, "is-1", &secret).await;
    }
    let events = coordinator.events(EventsRequest::default()).await;
    // One more is earned every 10 s.
    let refused = events.iter().filter(|event| event.kind == "enrolment-refused").count();
    assert!((512..560).contains(&refused), "{refused}");
    assert!(events.iter().any(|event| event.kind == "node-enrolled"));
    coordinator.stop().await;
}
