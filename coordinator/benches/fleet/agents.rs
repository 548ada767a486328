//! Simulated agents: each fetches what it is assigned and reports it as done at once, in memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use proto::{
    convert::bundle::decode_bundle,
    wire::agent::{
        Applied, Assign, Attempt, Concern, FetchRequest, FromAgent, Heartbeat, Hello, Process, Report,
        ServiceState, Stage, Verdict, Vitals, agent_link_client::AgentLinkClient, from_agent, to_agent,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::site::{Node, Site};

const POLL: Duration = Duration::from_millis(20);
/// Dialling at once: less than what one address may have in handshakes.
const DIALLING: usize = 64;

/// All agents of a site.
pub struct Agents {
    said: Arc<Said>,
    changes: Vec<mpsc::Sender<Change>>,
}

/// What an agent reports as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A concern comes or goes: nothing that a rollout looks at.
    Concern,
    /// Its server begins or ceases to be healthy: a rollout has to look.
    Health,
}

#[derive(Default)]
struct Said {
    welcomed: AtomicUsize,
    /// Nodes that have reported a revision as done.
    reached: Mutex<BTreeMap<u64, usize>>,
    first_is_silent: AtomicBool,
}

impl Agents {
    pub async fn connect(site: &Site) -> Self {
        let said = Arc::new(Said::default());
        let dial = |(index, node): (usize, &'static Node)| {
            let said = said.clone();
            async move {
                let (change, changes) = mpsc::channel(1);
                let agent = Agent::dial(site, node, (index == 0, said)).await;
                tokio::spawn(agent.run(changes));
                change
            }
        };
        // They live as long as the process.
        let nodes: Vec<&'static Node> = site
            .nodes
            .iter()
            .map(|node| {
                let (name, key_pem) = (node.name.clone(), node.key_pem.clone());
                &*Box::leak(Box::new(Node { name, certificate_pem: node.certificate_pem.clone(), key_pem }))
            })
            .collect();
        let changes =
            stream::iter(nodes.into_iter().enumerate()).map(dial).buffered(DIALLING).collect().await;
        let agents = Self { said, changes };
        while agents.said.welcomed.load(Ordering::Relaxed) < site.nodes.len() {
            tokio::time::sleep(POLL).await;
        }
        agents
    }

    pub async fn until_reached(&self, revision: u64, nodes: usize) {
        while self.said.reached.lock().unwrap().get(&revision).copied().unwrap_or(0) < nodes {
            tokio::time::sleep(POLL).await;
        }
    }

    /// The first agent does nothing of what it is assigned from now on.
    pub fn silence_first(&self) {
        self.said.first_is_silent.store(true, Ordering::Relaxed);
    }

    /// Lets one agent report something new.
    pub async fn change(&self, index: usize, change: Change) {
        self.changes[index % self.changes.len()].send(change).await.unwrap();
    }
}

struct Agent {
    said: Arc<Said>,
    is_first: bool,
    to: mpsc::Sender<FromAgent>,
    stream: Streaming<proto::wire::agent::ToAgent>,
    client: AgentLinkClient<Channel>,
    good: Option<Assign>,
    has_concern: bool,
    is_unhealthy: bool,
    beat: u64,
}

impl Agent {
    async fn dial(site: &Site, node: &Node, (is_first, said): (bool, Arc<Said>)) -> Self {
        let channel = site.channel(&node.certificate_pem, &node.key_pem).await;
        let mut client = AgentLinkClient::new(channel);
        let (to, receiver) = mpsc::channel(16);
        let hello = Hello {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            platform: "linux-x86_64".into(),
            ..Hello::default()
        };
        to.send(FromAgent { message: Some(from_agent::Message::Hello(hello)) }).await.unwrap();
        let stream = client.session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let agent = Self {
            said,
            is_first,
            to,
            stream,
            client,
            good: None,
            has_concern: false,
            is_unhealthy: false,
            beat: 0,
        };
        agent.report().await;
        agent
    }

    async fn say(&self, message: from_agent::Message) {
        self.to.send(FromAgent { message: Some(message) }).await.unwrap();
    }

    async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let mut interval = Duration::from_secs(5);
        loop {
            tokio::select! {
                message = self.stream.message() => match message.unwrap().and_then(|it| it.message) {
                    Some(to_agent::Message::Welcome(welcome)) => {
                        interval = Duration::from_millis(welcome.heartbeat_ms);
                        self.said.welcomed.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(to_agent::Message::Heartbeat(reply)) => {
                        interval = Duration::from_millis(reply.next_ms);
                    }
                    Some(to_agent::Message::Assign(assign)) => self.obey(assign).await,
                    Some(_) => {}
                    None => return,
                },
                Some(change) = changes.recv() => {
                    self.has_concern ^= change == Change::Concern;
                    self.is_unhealthy ^= change == Change::Health;
                    self.report().await;
                }
                () = tokio::time::sleep(interval) => {
                    self.beat += 1;
                    self.say(from_agent::Message::Heartbeat(Heartbeat { seq: self.beat, ..Heartbeat::default() })).await;
                }
            }
        }
    }

    async fn obey(&mut self, assign: Assign) {
        if self.is_first && self.said.first_is_silent.load(Ordering::Relaxed) {
            return;
        }
        if self.good.as_ref().is_some_and(|good| assign.generation <= good.generation) {
            return;
        }
        self.fetch_all(&assign).await;
        let revision = assign.revision;
        self.good = Some(assign);
        self.report().await;
        *self.said.reached.lock().unwrap().entry(revision).or_default() += 1;
    }

    async fn fetch_all(&mut self, assign: &Assign) {
        let found = self.fetch(vec![assign.bundle_content.clone()]).await;
        let bundle = decode_bundle(&found[&assign.bundle_content]).unwrap();
        self.fetch(bundle.files.values().map(|file| file.digest.0.to_vec()).collect()).await;
    }

    async fn fetch(&mut self, digests: Vec<Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut stream = self.client.fetch(FetchRequest { digests }).await.unwrap().into_inner();
        let (mut contents, mut digest, mut content) = (BTreeMap::new(), Vec::new(), Vec::new());
        while let Some(chunk) = stream.message().await.unwrap() {
            if !chunk.digest.is_empty() {
                digest = chunk.digest.to_vec();
            }
            content.extend_from_slice(&chunk.data);
            if chunk.last {
                contents.insert(std::mem::take(&mut digest), std::mem::take(&mut content));
            }
        }
        contents
    }

    async fn report(&self) {
        let good = self.good.as_ref();
        let applied =
            good.map(|assign| Applied { generation: assign.generation, bundle: assign.bundle.clone() });
        let attempted = good.map(|_| Attempt {
            target: applied.clone(),
            stage: Stage::Ready.into(),
            done: true,
            ..Attempt::default()
        });
        let health = if self.is_unhealthy { "unhealthy" } else { "healthy" };
        let concern = Concern {
            kind: "disk-low".into(),
            detail: "1.9 GB of 40 GB are free where /opt/is lies".into(),
            remedy: "make room there".into(),
        };
        let report = Report {
            desired: applied.clone(),
            attempted,
            written: applied.clone(),
            running: applied.clone(),
            last_good: applied,
            service: Some(ServiceState { state: "running".into(), ..ServiceState::default() }),
            health: Some(Verdict { verdict: health.into(), ..Verdict::default() }),
            process: Some(Process { pid: 4711, start_id: "123456789".into(), started_ms: 1_790_000_000_000 }),
            vitals: Some(Vitals { rss_bytes: 2_000_000_000, threads: 240, ..Vitals::default() }),
            concerns: if self.has_concern { vec![concern] } else { Vec::new() },
            starts_total: 1,
            ..Report::default()
        };
        self.say(from_agent::Message::Report(report)).await;
    }
}
