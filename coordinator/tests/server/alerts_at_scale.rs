//! A large part of a fleet is gone at once: one message, and one end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proto::wire::agent::{FromAgent, Heartbeat, Report, from_agent};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

use crate::{
    alerts::{Receiver, Reporting},
    alerts_over_time::faster,
    support::{TestCoordinator, TestNode},
};

const NODES: usize = 400;
const GONE: usize = 100;
/// Seconds of the coordinator's clock in one of the machine's: whatever belongs together happens within a minute of it,
/// which is six seconds here.
const SPEED: u32 = 10;
/// Enrolments and connections at once.
const AT_ONCE: usize = 16;
/// What is told twice would be there by then. Whatever began or ended late is told later, and then fails the next count.
const QUIET: Duration = Duration::from_secs(3);
const BEAT: Duration = Duration::from_secs(2);
const SETTINGS: &str = "[heartbeat]\ninterval = \"4s\"\ninterval_max = \"4s\"\nmissed_max = 5\n";

fn settings(receivers: &[&Receiver]) -> String {
    let mut text = format!("{SETTINGS}[alerts]\nfirst_after = \"1m\"\n");
    for (number, receiver) in receivers.iter().enumerate() {
        let url = format!("http://{}/hook", receiver.address);
        text.push_str(&format!("[alerts.channels.ops-{number}]\nkind = \"webhook\"\nurl = \"{url}\"\n"));
    }
    text
}

fn name(number: usize) -> String {
    format!("gw-{number:03}")
}

fn fleet() -> BTreeMap<String, String> {
    let mut fleet = "name = \"acme\"\n[groups.gw]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
                     [groups.gw.rollout]\nsoak = \"1ms\"\nmin_healthy_time = \"1ms\"\nmax_unavailable = 400\n"
        .to_owned();
    for number in 0..NODES {
        let node = name(number);
        fleet.push_str(&format!("[nodes.{node}]\ngroup = \"gw\"\nhost = \"{node}\"\nhome = \"/opt/is\"\n"));
    }
    let common = "[server]\nhostname = \"a.example.org\"\n".to_owned();
    [("fleet.toml", fleet), ("config/common.toml", common)].map(|(path, text)| (path.to_owned(), text)).into()
}

/// An agent that reports what it has and beats.
struct Beating {
    node: Arc<TestNode>,
    reporting: Reporting,
    beats: JoinHandle<()>,
}

impl Beating {
    fn of(node: Arc<TestNode>, reporting: Reporting) -> Self {
        let beats = tokio::spawn(beat(reporting.sender()));
        Self { node, reporting, beats }
    }

    /// It dies; what it said last.
    fn dies(self) -> (Arc<TestNode>, Report) {
        self.beats.abort();
        (self.node, self.reporting.report)
    }
}

async fn beat(sender: mpsc::Sender<FromAgent>) {
    for seq in 1.. {
        let beat = from_agent::Message::Heartbeat(Heartbeat { seq, ..Heartbeat::default() });
        if sender.send(FromAgent { message: Some(beat) }).await.is_err() {
            return;
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// Does something with each, some at once; in no order.
async fn each<T: Send + 'static, U: Send + 'static, F: Future<Output = U> + Send + 'static>(
    all: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> F,
) -> Vec<U> {
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for one in all {
        if running.len() == AT_ONCE {
            done.push(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(work(one));
    }
    done.extend(running.join_all().await);
    done
}

/// Each receiver gets one message, about all that are gone and nothing else.
async fn one_message(receivers: &mut [Receiver], occasion: &str, count: &str) {
    for receiver in receivers.iter_mut() {
        let message = receiver.next().await.json();
        assert_eq!(message["occasion"], occasion, "{message:#}");
        let incidents = message["incidents"].as_array().unwrap();
        let told: Vec<_> = incidents.iter().map(|it| (it["rule"].as_str(), it[count].as_u64())).collect();
        assert_eq!(told, [(Some("node-silent"), Some(GONE as u64))], "{message:#}");
    }
    tokio::time::sleep(QUIET).await;
    for receiver in receivers {
        let more: Vec<_> = receiver.rest().iter().map(|message| message.json()["headline"].clone()).collect();
        assert!(more.is_empty(), "after {occasion}: {more:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_of_four_hundred_that_die_at_once_are_one_message_and_one_end() {
    let mut receivers = [Receiver::start(), Receiver::start()];
    let text = settings(&[&receivers[0], &receivers[1]]);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let coordinator = Arc::new(TestCoordinator::start_by(dir, &text, faster::<SPEED>, |store| store).await);
    let nodes = each(0..NODES, |number| {
        let coordinator = coordinator.clone();
        async move {
            let token = coordinator.token(&name(number), 3600).await;
            Arc::new(coordinator.enroll(&name(number), &token.secret.to_hex()).await.unwrap())
        }
    });
    let nodes = nodes.await;
    let applied = coordinator.apply(&fleet(), None).await;
    assert!(!applied.refused);
    let agents = each(nodes, |node| {
        let coordinator = coordinator.clone();
        async move {
            let reporting = Reporting::start(&coordinator, &node).await;
            Beating::of(node, reporting)
        }
    });
    let mut agents = agents.await;
    let ready = |status: &proto::wire::operator::StatusReply| {
        status.nodes.len() == NODES && status.nodes.iter().all(|node| node.state == "ready")
    };
    coordinator.until("all ready", ready).await;
    for receiver in &receivers {
        assert_eq!(receiver.rest().len(), 0, "nothing is wrong yet");
    }

    let gone: Vec<_> = agents.drain(..GONE).map(Beating::dies).collect();
    one_message(&mut receivers, "began", "begun_count").await;

    let back = each(gone, |(node, report)| {
        let coordinator = coordinator.clone();
        async move {
            let reporting = Reporting::resume(&coordinator, &node, report).await;
            Beating::of(node, reporting)
        }
    });
    agents.extend(back.await);
    one_message(&mut receivers, "over", "over_count").await;
    drop(agents);
    let Ok(coordinator) = Arc::try_unwrap(coordinator) else { panic!("somebody still has the coordinator") };
    coordinator.stop().await;
}
