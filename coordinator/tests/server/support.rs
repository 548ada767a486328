//! A coordinator inside the test, on a free port and its own directory, and clients that speak real TLS to it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use coordinator::{config::Config, store::Store};
use fleet::{ids::Digest, token::JoinToken};
use proto::convert::bundle::decode_bundle;
use proto::wire::{
    agent::{
        Applied, Assign, Attempt, CommandResult, EnrollReply, EnrollRequest, FetchRequest, FromAgent, Hello,
        Refusal, RenewRequest, Report, ServiceState, Stage, Verdict, agent_link_client::AgentLinkClient,
        enrolment_client::EnrolmentClient, from_agent, to_agent,
    },
    operator::{
        ApplyReply, CreateTokenRequest, Event, EventsRequest, FileChunk, NodeRequest, StatusReply,
        StatusRequest, Upload, UploadHeader, operator_client::OperatorClient, secrets_client::SecretsClient,
        upload::Part,
    },
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

/// Far longer than anything takes; reached only when something never happens.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Scripted agents say nothing by themselves, and a slow machine must not take them for gone.
const PATIENT: &str = "[heartbeat]\nmissed_max = 200\n";

pub fn config_text(dir: &TempDir, more: &str) -> String {
    let data = dir.path().join("data");
    let patience = if more.contains("[heartbeat]") { "" } else { PATIENT };
    format!("fleet = \"acme\"\ndata_dir = {data:?}\nlisten = \"127.0.0.1:0\"\n{more}\n{patience}")
}

pub struct TestCoordinator {
    pub dir: Arc<TempDir>,
    program: Program,
}

enum Program {
    Task { stop: CancellationToken, task: JoinHandle<Result<(), coordinator::RunError>> },
    Process(Child),
}

#[derive(serde::Deserialize)]
pub struct Context {
    pub address: String,
    pub authority_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
}

impl TestCoordinator {
    pub async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), "").await
    }

    pub async fn start_in(dir: Arc<TempDir>, more: &str) -> Self {
        Self::start_on(dir, more, |store| store).await
    }

    /// With something around its store.
    pub async fn start_on(
        dir: Arc<TempDir>,
        more: &str,
        layer: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send + 'static,
    ) -> Self {
        Self::start_by(dir, more, coordinator::wall_clock, layer).await
    }

    /// With another clock.
    pub async fn start_by(
        dir: Arc<TempDir>,
        more: &str,
        clock: coordinator::Clock,
        layer: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send + 'static,
    ) -> Self {
        let config = Config::parse(&config_text(&dir, more)).unwrap();
        let stop = CancellationToken::new();
        let mut task = tokio::spawn(coordinator::run_by(config, stop.clone(), clock, layer));
        let address = dir.path().join("data/address");
        let ready = async {
            while !address.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = ready => {}
            ended = &mut task => panic!("the coordinator ended at its start: {ended:?}"),
        }
        Self { dir, program: Program::Task { stop, task } }
    }

    /// The real program, as a process of its own.
    pub async fn spawn_in(dir: Arc<TempDir>) -> Self {
        Self::spawn_with(dir, "").await
    }

    /// The same with more of a configuration.
    pub async fn spawn_with(dir: Arc<TempDir>, more: &str) -> Self {
        Self::spawn_file(dir, env!("CARGO_BIN_EXE_convoy-coordinator").as_ref(), &[], more).await
    }

    /// The same with another build of it. What it logs is in `coordinator.log`.
    pub async fn spawn(dir: Arc<TempDir>, program: &std::path::Path, variables: &[(String, String)]) -> Self {
        Self::spawn_file(dir, program, variables, "").await
    }

    async fn spawn_file(
        dir: Arc<TempDir>,
        program: &std::path::Path,
        variables: &[(String, String)],
        more: &str,
    ) -> Self {
        let config = dir.path().join("coordinator.toml");
        std::fs::write(&config, config_text(&dir, &format!("[log]\nlevel = \"warn\"\n{more}"))).unwrap();
        // What a killed one left behind would name a port where nobody listens.
        drop(std::fs::remove_file(dir.path().join("data/address")));
        let mut log = std::fs::File::options();
        log.create(true).append(true);
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&config)
            .envs(variables.iter().cloned())
            .stderr(log.open(dir.path().join("coordinator.log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        while !dir.path().join("data/address").exists() {
            assert_eq!(child.try_wait().unwrap(), None, "the coordinator ended at its start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { dir, program: Program::Process(child) }
    }

    /// SIGKILL, at once.
    pub async fn kill(self) -> Arc<TempDir> {
        let Program::Process(mut child) = self.program else { panic!("only a process can be killed") };
        child.kill().await.unwrap();
        self.dir
    }

    /// Of the process.
    pub fn pid(&self) -> u32 {
        let Program::Process(child) = &self.program else { panic!("a task has no process of its own") };
        child.id().unwrap()
    }

    /// Until the process has ended by itself; its exit status.
    pub async fn wait(self) -> Option<i32> {
        let Program::Process(mut child) = self.program else { panic!("a task has no exit status") };
        tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code()
    }

    /// Stops it as SIGTERM would, and hands back its directory.
    pub async fn stop(self) -> Arc<TempDir> {
        let Program::Task { stop, task } = self.program else { panic!("only a task can be stopped so") };
        stop.cancel();
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
        self.dir
    }

    pub fn data(&self, path: &str) -> PathBuf {
        self.dir.path().join("data").join(path)
    }

    pub fn context(&self) -> Context {
        toml::from_str(&std::fs::read_to_string(self.data("operator/context.toml")).unwrap()).unwrap()
    }

    /// A connection that trusts the coordinator's authority and shows the given certificate and key.
    pub async fn channel(&self, identity: Option<(&str, &str)>) -> Result<Channel, tonic::transport::Error> {
        let context = self.context();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&context.authority_pem));
        let tls = match identity {
            Some((certificate, key)) => tls.identity(Identity::from_pem(certificate, key)),
            None => tls,
        };
        let uri = format!("https://{}", context.address);
        Channel::from_shared(uri).unwrap().tls_config(tls)?.connect().await
    }

    /// A TLS connection on which nothing is said, with or without a certificate and its key.
    pub async fn raw(&self, identity: Option<(&str, &str)>) -> TlsStream<TcpStream> {
        let context = self.context();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(context.authority_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let socket = TcpStream::connect(&context.address).await.unwrap();
        let name = socket.peer_addr().unwrap().ip().into();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }

    pub async fn operator(&self) -> OperatorClient<Channel> {
        let context = self.context();
        let channel = self.channel(Some((&context.certificate_pem, &context.key_pem))).await.unwrap();
        OperatorClient::new(channel)
    }

    pub async fn secrets(&self) -> SecretsClient<Channel> {
        let context = self.context();
        let channel = self.channel(Some((&context.certificate_pem, &context.key_pem))).await.unwrap();
        SecretsClient::new(channel)
    }

    pub async fn token(&self, node: &str, valid_seconds: u64) -> JoinToken {
        let request = CreateTokenRequest { node: node.to_owned(), valid_seconds };
        let reply = self.operator().await.create_token(request).await.unwrap();
        JoinToken::parse(&reply.into_inner().token).unwrap()
    }

    pub async fn enroll(&self, node: &str, secret: &str) -> Result<TestNode, Status> {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let request = EnrollRequest {
            node: node.to_owned(),
            token_secret: secret.to_owned(),
            csr_pem: csr.pem().unwrap(),
        };
        let mut client = EnrolmentClient::new(self.channel(None).await.unwrap());
        let reply = client.enroll(request).await?.into_inner();
        Ok(TestNode { name: node.to_owned(), reply, key_pem: key.serialize_pem() })
    }

    /// A request that is refused even with a good token, which it does not use up.
    pub async fn enroll_badly(&self, node: &str, secret: &str) -> Status {
        bad_enrolment(&mut self.stranger().await, node, secret).await
    }

    /// Somebody without a certificate, who wants to enrol.
    pub async fn stranger(&self) -> EnrolmentClient<Channel> {
        EnrolmentClient::new(self.channel(None).await.unwrap())
    }

    /// Forgets a node.
    pub async fn forget(&self, node: &str) {
        let reply = self.operator().await.forget_node(NodeRequest { node: node.to_owned() }).await.unwrap();
        assert!(reply.get_ref().ok, "{reply:?}");
    }

    /// All events that are kept, in order.
    pub async fn events(&self, request: EventsRequest) -> Vec<Event> {
        let mut stream = self.operator().await.events(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(event) = stream.message().await.unwrap() {
            events.push(event);
        }
        events
    }

    /// With TLS 1.3 a refused certificate shows up at the first read, so a whole call is tried.
    pub async fn renew(&self, node: &TestNode) -> Result<TestNode, Status> {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let channel = self.channel(Some((&node.reply.certificate_pem, &node.key_pem))).await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = EnrolmentClient::new(channel);
        let reply = client.renew(RenewRequest { csr_pem: csr.pem().unwrap() }).await?.into_inner();
        Ok(TestNode { name: node.name.clone(), reply, key_pem: key.serialize_pem() })
    }

    /// Token and enrolment in one.
    pub async fn join(&self, node: &str) -> TestNode {
        let token = self.token(node, 60).await;
        self.enroll(node, &token.secret.to_hex()).await.unwrap()
    }
}

/// A request that is refused even with a good token, which it does not use up.
pub async fn bad_enrolment(client: &mut EnrolmentClient<Channel>, node: &str, secret: &str) -> Status {
    let csr_pem = "not a request".to_owned();
    let request = EnrollRequest { node: node.to_owned(), token_secret: secret.to_owned(), csr_pem };
    client.enroll(request).await.unwrap_err()
}

pub struct TestNode {
    pub name: String,
    pub reply: EnrollReply,
    pub key_pem: String,
}

impl TestNode {
    pub async fn channel(&self, coordinator: &TestCoordinator) -> Channel {
        coordinator.channel(Some((&self.reply.certificate_pem, &self.key_pem))).await.unwrap()
    }

    /// The epoch that the coordinator welcomes it with.
    pub async fn epoch(&self, coordinator: &TestCoordinator) -> Vec<u8> {
        let mut session = self.session(coordinator).await.unwrap();
        let welcome = session.until(|message| match message {
            to_agent::Message::Welcome(welcome) => Some(welcome.fleet_epoch),
            _ => None,
        });
        welcome.await
    }

    /// Opens a session and says Hello, as an agent of 0.1 does.
    pub async fn session(&self, coordinator: &TestCoordinator) -> Result<TestSession, Status> {
        self.session_of(coordinator, 0).await
    }

    /// Opens a session and says Hello, as an agent of that protocol does.
    pub async fn session_of(
        &self,
        coordinator: &TestCoordinator,
        protocol: u32,
    ) -> Result<TestSession, Status> {
        let hello = Hello {
            agent_version: "test".into(),
            platform: "linux-x86_64".into(),
            protocol,
            ..Hello::default()
        };
        self.session_with(coordinator, hello).await
    }

    /// Opens a session with these first words.
    pub async fn session_with(
        &self,
        coordinator: &TestCoordinator,
        hello: Hello,
    ) -> Result<TestSession, Status> {
        let mut client = AgentLinkClient::new(self.channel(coordinator).await);
        let (sender, receiver) = mpsc::channel(16);
        say(&sender, from_agent::Message::Hello(hello)).await;
        let stream = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(TestSession { sender, stream })
    }
}

async fn say(sender: &mpsc::Sender<FromAgent>, message: from_agent::Message) {
    sender.send(FromAgent { message: Some(message) }).await.unwrap();
}

pub struct TestSession {
    pub sender: mpsc::Sender<FromAgent>,
    pub stream: Streaming<proto::wire::agent::ToAgent>,
}

impl TestSession {
    pub async fn say(&self, message: from_agent::Message) {
        say(&self.sender, message).await;
    }

    /// The next message, whatever it is; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<to_agent::Message>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        Ok(message.expect("a message within patience")?.and_then(|message| message.message))
    }

    /// The next message, however long nothing is said; `None` when the session is over. For scripted agents: a test that
    /// waits for something that they do has the patience.
    pub async fn listen(&mut self) -> Option<to_agent::Message> {
        loop {
            let message = self.stream.message().await.ok()??;
            if let Some(message) = message.message {
                return Some(message);
            }
        }
    }

    /// The next message that `pick` picks; others are passed over.
    pub async fn until<T>(&mut self, pick: impl Fn(to_agent::Message) -> Option<T>) -> T {
        loop {
            let message = self.next().await.unwrap().expect("the stream goes on");
            if let Some(found) = pick(message) {
                return found;
            }
        }
    }
}

/// A fleet of two servers in one group, with a value that tests change.
pub fn small_fleet(hostname: &str) -> BTreeMap<String, String> {
    let fleet = "name = \"acme\"\n\
        [groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
        [groups.km.rollout]\nsoak = \"1ms\"\nmin_healthy_time = \"1ms\"\n\
        [nodes.is-1]\ngroup = \"km\"\nhost = \"h1\"\nhome = \"/opt/is\"\n\
        [nodes.is-2]\ngroup = \"km\"\nhost = \"h2\"\nhome = \"/opt/is\"\n";
    let common = format!("[server]\nhostname = \"{hostname}\"\n");
    [("fleet.toml", fleet.to_owned()), ("config/common.toml", common)]
        .map(|(path, text)| (path.to_owned(), text))
        .into()
}

/// The messages of an upload.
pub fn upload(files: &BTreeMap<String, String>, parent: Option<u64>) -> Vec<Upload> {
    let header = UploadHeader { message: "a change".into(), parent, ..UploadHeader::default() };
    let file = |(path, text): (&String, &String)| {
        let chunk = FileChunk { path: path.clone(), data: text.clone().into_bytes(), last: true };
        Upload { part: Some(Part::File(chunk)) }
    };
    let header = Upload { part: Some(Part::Header(header)) };
    std::iter::once(header).chain(files.iter().map(file)).collect()
}

impl TestCoordinator {
    pub async fn apply(&self, files: &BTreeMap<String, String>, parent: Option<u64>) -> ApplyReply {
        let upload = tokio_stream::iter(upload(files, parent));
        self.operator().await.apply(upload).await.unwrap().into_inner()
    }

    pub async fn status(&self) -> StatusReply {
        self.operator().await.status(StatusRequest {}).await.unwrap().into_inner()
    }

    /// Waits until the status is as `is` says, following the stream that people follow.
    pub async fn until(&self, what: &str, is: impl Fn(&StatusReply) -> bool) -> StatusReply {
        let mut operator = self.operator().await;
        let mut stream = operator.watch_status(StatusRequest {}).await.unwrap().into_inner();
        let wait = async {
            loop {
                let status = stream.message().await.unwrap().expect("the stream goes on");
                if is(&status) {
                    return status;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(status) => status,
            Err(_) => panic!("it never came to this: {what}; it is {:#?}", self.status().await),
        }
    }
}

/// How a scripted agent takes an assignment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It works.
    Obeys,
    /// It works after the server was down for a while.
    Restarts(Duration),
    /// It tries and refuses.
    Refuses,
}

/// What a scripted agent has applied last.
pub type Memory = Arc<std::sync::Mutex<Option<Assign>>>;

/// An agent that does what agents do, at once and in memory: fetches, reports, becomes healthy or refuses.
pub struct ScriptedAgent {
    pub task: JoinHandle<()>,
    pub assigned: watch::Receiver<Vec<u64>>,
    pub manner: watch::Sender<Manner>,
}

impl ScriptedAgent {
    /// Starts with nothing applied.
    pub async fn start(coordinator: &TestCoordinator, node: &TestNode) -> Self {
        Self::resume(coordinator, node, Memory::default()).await
    }

    /// Starts with what an earlier one has put into `memory`, as an agent does with its journal.
    pub async fn resume(coordinator: &TestCoordinator, node: &TestNode, memory: Memory) -> Self {
        let mut session = node.session(coordinator).await.unwrap();
        let mut client = AgentLinkClient::new(node.channel(coordinator).await);
        let (assignments, assigned) = watch::channel(Vec::new());
        let (manner, ways) = watch::channel(Manner::Obeys);
        let mut good = memory.lock().unwrap().clone();
        session.say(from_agent::Message::Report(report(good.as_ref(), None))).await;
        let task = tokio::spawn(async move {
            while let Some(message) = session.listen().await {
                match message {
                    // As a real agent does: what it has obeyed does not go backwards.
                    to_agent::Message::Assign(assign) if is_older(&assign, good.as_ref()) => {
                        session.say(from_agent::Message::Report(report(good.as_ref(), None))).await;
                    }
                    to_agent::Message::Assign(assign) => {
                        fetch_all(&mut client, &assign).await;
                        let manner = *ways.borrow();
                        assignments.send_modify(|all: &mut Vec<u64>| all.push(assign.generation));
                        if let Manner::Restarts(down) = manner {
                            session.say(from_agent::Message::Report(between(good.as_ref(), &assign))).await;
                            tokio::time::sleep(down).await;
                        }
                        let obeys = manner != Manner::Refuses;
                        let failed = (!obeys).then(|| assign.clone());
                        good = if obeys { Some(assign) } else { good };
                        memory.lock().unwrap().clone_from(&good);
                        let report = report(good.as_ref(), failed.as_ref());
                        session.say(from_agent::Message::Report(report)).await;
                    }
                    to_agent::Message::Command(command) => {
                        let ok = *ways.borrow() != Manner::Refuses;
                        let detail = if ok { "done" } else { "scripted refusal" }.into();
                        let result = CommandResult { id: command.id, ok, detail };
                        session.say(from_agent::Message::Result(result)).await;
                    }
                    _ => {}
                }
            }
        });
        Self { task, assigned, manner }
    }

    /// It goes away without a word.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

fn is_older(assign: &Assign, obeyed: Option<&Assign>) -> bool {
    obeyed.is_some_and(|obeyed| assign.generation < obeyed.generation)
}

async fn fetch(client: &mut AgentLinkClient<Channel>, digests: Vec<Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut stream = client.fetch(FetchRequest { digests }).await.unwrap().into_inner();
    let (mut contents, mut digest, mut content) = (BTreeMap::new(), Vec::new(), Vec::new());
    while let Some(chunk) = stream.message().await.unwrap() {
        if !chunk.digest.is_empty() {
            digest = chunk.digest.to_vec();
        }
        content.extend_from_slice(&chunk.data);
        if chunk.last {
            assert_eq!(Digest::of(&content).0.to_vec(), digest);
            contents.insert(std::mem::take(&mut digest), std::mem::take(&mut content));
        }
    }
    contents
}

/// Fetches the bundle and every file it names.
async fn fetch_all(client: &mut AgentLinkClient<Channel>, assign: &Assign) {
    let found = fetch(client, vec![assign.bundle_content.clone()]).await;
    let bundle = decode_bundle(&found[&assign.bundle_content]).unwrap();
    assert_eq!(bundle.digest().0.to_vec(), assign.bundle);
    let digests: Vec<Vec<u8>> = bundle.files.values().map(|file| file.digest.0.to_vec()).collect();
    let files = fetch(client, digests.clone()).await;
    assert!(digests.iter().all(|digest| files.contains_key(digest)));
}

/// While the server is down for `new`.
fn between(good: Option<&Assign>, new: &Assign) -> Report {
    let target = Some(Applied { generation: new.generation, bundle: new.bundle.clone() });
    let attempt = Attempt { target: target.clone(), stage: Stage::Written.into(), ..Attempt::default() };
    Report {
        desired: target.clone(),
        attempted: Some(attempt),
        written: target,
        running: None,
        service: Some(ServiceState { state: "stopped".into(), ..ServiceState::default() }),
        health: Some(Verdict { verdict: "unknown".into(), ..Verdict::default() }),
        ..report(good, None)
    }
}

pub fn report(good: Option<&Assign>, failed: Option<&Assign>) -> Report {
    let applied = |assign: &Assign| Applied { generation: assign.generation, bundle: assign.bundle.clone() };
    let refusal = Refusal {
        reason: "start-failed".into(),
        detail: "scripted".into(),
        still_running: good.map(applied),
    };
    let attempted = failed.or(good).map(|assign| Attempt {
        target: Some(applied(assign)),
        stage: if failed.is_some() { Stage::Staged } else { Stage::Ready }.into(),
        failure: failed.map(|_| refusal),
        done: true,
        kept_server: false,
    });
    let state = if good.is_some() { "running" } else { "stopped" };
    let health = if good.is_some() { "healthy" } else { "unknown" };
    Report {
        desired: failed.or(good).map(applied),
        attempted,
        written: good.map(applied),
        running: good.map(applied),
        last_good: good.map(applied),
        service: Some(ServiceState { state: state.into(), ..ServiceState::default() }),
        health: Some(Verdict { verdict: health.into(), ..Verdict::default() }),
        ..Report::default()
    }
}
