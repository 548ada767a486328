//! A coordinator inside the test, on a free port and its own directory, and clients that speak real TLS to it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use coordinator::config::Config;
use fleet::token::JoinToken;
use proto::wire::{
    agent::{
        EnrollReply, EnrollRequest, FromAgent, Hello, RenewRequest, agent_link_client::AgentLinkClient,
        enrolment_client::EnrolmentClient, from_agent, to_agent,
    },
    operator::{CreateTokenRequest, operator_client::OperatorClient},
};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

/// Far longer than anything takes; reached only when something never happens.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct TestCoordinator {
    pub dir: Arc<TempDir>,
    pub stop: CancellationToken,
    pub task: JoinHandle<Result<(), coordinator::RunError>>,
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
        let text = format!(
            "fleet = \"acme\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\n{more}",
            dir.path().join("data")
        );
        let config = Config::parse(&text).unwrap();
        let stop = CancellationToken::new();
        let mut task = tokio::spawn(coordinator::run(config, stop.clone()));
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
        Self { dir, stop, task }
    }

    /// Stops it as SIGTERM would, and hands back its directory.
    pub async fn stop(self) -> Arc<TempDir> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
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

    pub async fn operator(&self) -> OperatorClient<Channel> {
        let context = self.context();
        let channel = self.channel(Some((&context.certificate_pem, &context.key_pem))).await.unwrap();
        OperatorClient::new(channel)
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
        let csr_pem = "not a request".to_owned();
        let request = EnrollRequest { node: node.to_owned(), token_secret: secret.to_owned(), csr_pem };
        let mut client = EnrolmentClient::new(self.channel(None).await.unwrap());
        client.enroll(request).await.unwrap_err()
    }

    pub async fn renew(&self, node: &TestNode) -> Result<TestNode, Status> {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let mut client = EnrolmentClient::new(node.channel(self).await);
        let reply = client.renew(RenewRequest { csr_pem: csr.pem().unwrap() }).await?.into_inner();
        Ok(TestNode { name: node.name.clone(), reply, key_pem: key.serialize_pem() })
    }

    /// Token and enrolment in one.
    pub async fn join(&self, node: &str) -> TestNode {
        let token = self.token(node, 60).await;
        self.enroll(node, &token.secret.to_hex()).await.unwrap()
    }
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

    /// Opens a session and says Hello.
    pub async fn session(&self, coordinator: &TestCoordinator) -> Result<TestSession, Status> {
        let mut client = AgentLinkClient::new(self.channel(coordinator).await);
        let (sender, receiver) = mpsc::channel(16);
        let hello =
            Hello { agent_version: "test".into(), platform: "linux-x86_64".into(), ..Hello::default() };
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
