//! What is told while hours pass: the coordinator's clock runs faster than the machine's.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use fleet::time::Timestamp;
use proto::wire::{
    agent::{FromAgent, Heartbeat, from_agent},
    operator::{
        AddSilenceRequest, AlertState, ControlRolloutRequest, EventsRequest, ListAlertsRequest,
        RemoveSilenceRequest, StatusReply,
    },
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    alerts::{Arrived, Receiver, Reporting, alerts, channel, until_told},
    support::{Manner, ScriptedAgent, TestCoordinator, TestNode, small_fleet},
};

/// Seconds of the coordinator's clock in one of the machine's.
const SPEED: u32 = 30;

/// A clock that runs so many times as fast as the machine's.
pub fn faster<const TIMES: u32>() -> Timestamp {
    static START: OnceLock<(Instant, Timestamp)> = OnceLock::new();
    let (begun, at) = START.get_or_init(|| (Instant::now(), coordinator::wall_clock()));
    at.after(begun.elapsed() * TIMES)
}

/// The coordinator's clock.
fn swift() -> Timestamp {
    faster::<SPEED>()
}

/// Lets this much time pass on the coordinator's clock.
async fn pass(time: Duration) {
    tokio::time::sleep(time / SPEED).await;
}

const MINUTE: Duration = Duration::from_secs(60);

/// Agents that beat are there, and whoever does not come back after a start is missed within a few seconds.
const HASTY: &str = "[heartbeat]\ninterval = \"100ms\"\ninterval_max = \"100ms\"\nmissed_max = 40\n";

async fn start(receiver: &Receiver) -> TestCoordinator {
    start_in(Arc::new(tempfile::tempdir().unwrap()), receiver).await
}

async fn start_in(dir: Arc<tempfile::TempDir>, receiver: &Receiver) -> TestCoordinator {
    let text = channel(receiver.address, HASTY);
    TestCoordinator::start_by(dir, &text, swift, |store| store).await
}

/// Beats until the session ends.
fn beating(sender: mpsc::Sender<FromAgent>) -> JoinHandle<()> {
    tokio::spawn(async move {
        for seq in 1.. {
            let beat = from_agent::Message::Heartbeat(Heartbeat { seq, ..Heartbeat::default() });
            if sender.send(FromAgent { message: Some(beat) }).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

/// Each incident of a message: its rule, what began and what ended.
fn said(message: &Arrived) -> Vec<String> {
    let message = message.json();
    let names = |items: &serde_json::Value| {
        let names = items.as_array().unwrap().iter().map(|item| item["subject"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let incidents = message["incidents"].as_array().unwrap().iter();
    let said = incidents.map(|incident| {
        let rule = incident["rule"].as_str().unwrap();
        format!("{rule} began: {} over: {}", names(&incident["begun"]), names(&incident["over"]))
    });
    said.collect()
}

fn all_said(messages: &[Arrived]) -> Vec<String> {
    messages.iter().flat_map(said).collect()
}

fn all_ready(status: &StatusReply) -> bool {
    status.nodes.iter().all(|node| node.state == "ready")
}

/// Two nodes on what was applied, of which nothing is to be said; their agents beat.
struct Calm {
    first: TestNode,
    second: TestNode,
    node: Reporting,
    beats: JoinHandle<()>,
    other: (Reporting, JoinHandle<()>),
}

async fn calm(coordinator: &TestCoordinator) -> Calm {
    let [first, second] = [coordinator.join("is-1").await, coordinator.join("is-2").await];
    assert!(!coordinator.apply(&small_fleet("a.example.org"), None).await.refused);
    let node = Reporting::start(coordinator, &first).await;
    let beats = beating(node.sender());
    let other = Reporting::start(coordinator, &second).await;
    let other_beats = beating(other.sender());
    coordinator.until("all ready", all_ready).await;
    Calm { first, second, node, beats, other: (other, other_beats) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_while_its_server_is_down_is_silent_once_and_over_when_it_returns() {
    let mut receiver = Receiver::start();
    let coordinator = start(&receiver).await;
    let Calm { first, second: _, mut node, beats, other } = calm(&coordinator).await;

    node.serves("stopped", "unknown").await;
    assert_eq!(said(&receiver.next().await), ["server-down began: is-1 over: "]);
    until_told(&coordinator, "server-down").await;
    beats.abort();
    let last_words = node.report.clone();
    drop(node);
    assert_eq!(said(&receiver.next().await), ["node-silent began: is-1 over: "]);
    until_told(&coordinator, "node-silent").await;
    pass(5 * MINUTE).await;
    let shown = alerts(&coordinator).await.list(ListAlertsRequest {}).await.unwrap().into_inner();
    let states: BTreeMap<&str, AlertState> =
        shown.alerts.iter().map(|alert| (alert.rule.as_str(), alert.state())).collect();
    let expected = [("server-down", AlertState::Hidden), ("node-silent", AlertState::Firing)];
    assert_eq!(states, BTreeMap::from(expected), "{shown:?}");
    assert_eq!(all_said(&receiver.rest()), [""; 0]);

    let mut node = Reporting::resume(&coordinator, &first, last_words).await;
    let beats = beating(node.sender());
    node.serves("running", "healthy").await;
    let mut over: Vec<String> = Vec::new();
    while over.len() < 2 {
        over.extend(said(&receiver.next().await));
    }
    over.sort();
    assert_eq!(over, ["node-silent began:  over: is-1", "server-down began:  over: is-1"]);
    pass(MINUTE).await;
    assert_eq!(all_said(&receiver.rest()), [""; 0]);
    beats.abort();
    other.1.abort();
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_hides_until_it_ends_by_itself_and_is_in_the_audit() {
    let mut receiver = Receiver::start();
    let coordinator = start(&receiver).await;
    let Calm { first: _, second: _, mut node, beats, other } = calm(&coordinator).await;
    let mut client = alerts(&coordinator).await;
    let silence = |target: &str, reason: &str| AddSilenceRequest {
        target: target.into(),
        seconds: 600,
        reason: reason.into(),
        ..AddSilenceRequest::default()
    };
    let unknown = client.add_silence(silence("is-3", "disk swap")).await.unwrap_err();
    assert!(unknown.message().contains("did you mean \"is-"), "{unknown}");
    let unexplained = client.add_silence(silence("is-1", " ")).await.unwrap_err();
    assert!(unexplained.message().contains("needs a reason"), "{unexplained}");
    let added = client.add_silence(silence("is-1", "disk swap")).await.unwrap().into_inner();
    assert_eq!((added.id, added.node.as_str(), added.by.as_str()), (1, "is-1", "admin"));
    let shown = coordinator.until("shown", |status| !status.silences.is_empty()).await;
    assert_eq!(shown.silences, [added]);

    node.serves("stopped", "unknown").await;
    // On a busy machine the hold of the rule ends late.
    let hidden = loop {
        let shown = client.list(ListAlertsRequest {}).await.unwrap().into_inner();
        let down = shown.alerts.into_iter().find(|alert| alert.rule == "server-down");
        match down.filter(|alert| alert.state() != AlertState::Pending) {
            Some(alert) => break alert,
            None => pass(MINUTE / 4).await,
        }
    };
    assert_eq!(hidden.state(), AlertState::Hidden);
    pass(2 * MINUTE).await;
    assert!(hidden.hidden.starts_with("silence 1 until "), "{}", hidden.hidden);
    assert_eq!(all_said(&receiver.rest()), [""; 0]);
    assert_eq!(said(&receiver.next().await), ["server-down began: is-1 over: "]);
    let shown = client.list(ListAlertsRequest {}).await.unwrap().into_inner();
    assert_eq!(shown.silences, [], "it ended by itself");

    let again = client.add_silence(silence("km", "new switch")).await.unwrap().into_inner();
    assert_eq!((again.id, again.group.as_str()), (2, "km"), "numbers are not given twice");
    client.remove_silence(RemoveSilenceRequest { id: 2 }).await.unwrap();
    client.remove_silence(RemoveSilenceRequest { id: 2 }).await.unwrap_err();
    let events = coordinator.events(EventsRequest { most: 1000, ..EventsRequest::default() }).await;
    let of_silences = events.iter().filter(|event| event.kind.starts_with("silence-"));
    let told: Vec<&str> = of_silences.map(|event| event.text.as_str()).collect();
    let expected = [
        "silence 1 hides alerts of is-1 for 10m: disk swap",
        "silence 2 hides alerts of group km for 10m: new switch",
        "silence 2 of group km was ended: new switch",
    ];
    assert_eq!(told, expected);
    beats.abort();
    other.1.abort();
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_three_alerts_and_two_that_are_hidden_is_no_news_for_ten_minutes() {
    let mut receiver = Receiver::start();
    let coordinator = start(&receiver).await;
    let Calm { first, second, mut node, beats, other: (mut other, other_beats) } = calm(&coordinator).await;
    let mut client = alerts(&coordinator).await;
    let silence = AddSilenceRequest {
        target: "is-2".into(),
        seconds: 24 * 3600,
        reason: "disk swap".into(),
        ..AddSilenceRequest::default()
    };
    client.add_silence(silence).await.unwrap();
    for node in [&mut node, &mut other] {
        node.says_both("repository/conf/one", "repository/conf/two").await;
    }
    node.serves("stopped", "unknown").await;
    let states = async |client: &mut proto::wire::operator::alerts_client::AlertsClient<_>,
                        is: AlertState| {
        let shown = client.list(ListAlertsRequest {}).await.unwrap().into_inner();
        shown.alerts.iter().filter(|alert| alert.state() == is).count()
    };
    let both = async {
        while states(&mut client, AlertState::Firing).await < 3
            || states(&mut client, AlertState::Hidden).await < 2
        {
            pass(Duration::from_secs(5)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, both).await.expect("three fire and two are hidden");
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(said(&receiver.next().await));
    }
    until_told(&coordinator, "server-down").await;
    until_told(&coordinator, "tug-of-war").await;
    beats.abort();
    other_beats.abort();
    let last_words = [node.report.clone(), other.report.clone()];
    drop((node, other, client));

    let coordinator = start_in(coordinator.stop().await, &receiver).await;
    let [first_words, second_words] = last_words;
    let node = Reporting::resume(&coordinator, &first, first_words).await;
    let other = Reporting::resume(&coordinator, &second, second_words).await;
    let beats = [beating(node.sender()), beating(other.sender())];
    pass(10 * MINUTE).await;
    assert_eq!(all_said(&receiver.rest()), [""; 0], "after {told:?}");
    let mut client = alerts(&coordinator).await;
    assert_eq!(states(&mut client, AlertState::Firing).await, 3);
    assert_eq!(states(&mut client, AlertState::Hidden).await, 2);
    beats.iter().for_each(JoinHandle::abort);
    coordinator.stop().await;
}

/// The machine's time for which a scripted server is down: two minutes of the coordinator's clock.
const DOWN: Duration = Duration::from_secs(4);

fn forty(hostname: &str, rollout: &str) -> BTreeMap<String, String> {
    let mut fleet = format!(
        "name = \"acme\"\n[groups.gw]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
         [groups.gw.rollout]\nsoak = \"1ms\"\nmin_healthy_time = \"1ms\"\nmax_unavailable = 10\n{rollout}"
    );
    for number in 0..40 {
        let node =
            format!("[nodes.gw-{number:02}]\ngroup = \"gw\"\nhost = \"h{number}\"\nhome = \"/opt/is\"\n");
        fleet.push_str(&node);
    }
    let common = format!("[server]\nhostname = \"{hostname}\"\n");
    [("fleet.toml", fleet), ("config/common.toml", common)].map(|(path, text)| (path.to_owned(), text)).into()
}

fn rollout_is(state: &'static str, id: u64) -> impl Fn(&StatusReply) -> bool {
    move |status| status.rollouts.iter().any(|rollout| rollout.id == id && rollout.state == state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_forty_nodes_is_silent_and_its_canary_or_its_failure_is_one_message() {
    let mut receiver = Receiver::start();
    let text = channel(receiver.address, "");
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let coordinator = TestCoordinator::start_by(dir, &text, swift, |store| store).await;
    let mut agents = Vec::new();
    for number in 0..40 {
        let node = coordinator.join(&format!("gw-{number:02}")).await;
        agents.push(ScriptedAgent::start(&coordinator, &node).await);
    }
    coordinator.apply(&forty("one.example.org", ""), None).await;
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    for agent in &agents {
        agent.manner.send_replace(Manner::Restarts(DOWN));
    }
    coordinator.apply(&forty("two.example.org", ""), None).await;
    coordinator.until("rollout 2 done", rollout_is("done", 2)).await;
    pass(2 * MINUTE).await;
    assert_eq!(all_said(&receiver.rest()), [""; 0]);

    let canary = "canary = 1\npromotion = \"manual\"\n";
    coordinator.apply(&forty("three.example.org", canary), None).await;
    assert_eq!(said(&receiver.next().await), ["awaiting-promotion began: rollout 3 over: "]);
    pass(2 * MINUTE).await;
    assert_eq!(all_said(&receiver.rest()), [""; 0]);
    let promote = ControlRolloutRequest { rollout: 3, action: "promote".into(), why: String::new() };
    coordinator.operator().await.control_rollout(promote).await.unwrap();
    assert_eq!(said(&receiver.next().await), ["awaiting-promotion began:  over: rollout 3"]);
    coordinator.until("rollout 3 done", rollout_is("done", 3)).await;

    agents[3].manner.send_replace(Manner::Refuses);
    let mut assigned = agents[3].assigned.clone();
    let before = assigned.borrow_and_update().len();
    coordinator.apply(&forty("four.example.org", ""), None).await;
    assigned.wait_for(|all| before < all.len()).await.unwrap();
    agents[3].manner.send_replace(Manner::Restarts(DOWN));
    assert_eq!(said(&receiver.next().await), ["rolled-back began: rollout 4 over: "]);
    coordinator.until("rollout 4 rolled back", rollout_is("rolled-back", 4)).await;
    pass(2 * MINUTE).await;
    assert_eq!(all_said(&receiver.rest()), [""; 0]);
    coordinator.stop().await;
}
