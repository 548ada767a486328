//! A coordinator with a store in which all nodes have joined already: enrolling thousands takes longer than what is
//! measured.

use std::{
    collections::BTreeMap, fmt::Write as _, fs::OpenOptions, path::PathBuf, process::Stdio, time::Duration,
};

use coordinator::{
    authority::Authority,
    store::{
        Embedded, Key, Store as _, Transaction,
        records::{Enrolment, NodeRecord, Record as _},
    },
    tasks::Tasks,
    wall_clock,
};
use fleet::ids::{FleetName, NodeName};
use proto::wire::operator::{
    FileChunk, ListRolloutsRequest, Upload, UploadHeader, operator_client::OperatorClient, upload::Part,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::process::Process;

const POLL: Duration = Duration::from_millis(50);
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of a file in one message of an upload.
const CHUNK: usize = 32 * 1024;
/// Of the deployment.toml: some 6 kB.
const TABLES: usize = 10;
const KEYS: usize = 10;
/// Bytes of a file that all nodes have.
const KEYSTORE: usize = 20_000;
/// Node records of one transaction.
const BATCH: usize = 100;

pub struct Site {
    dir: TempDir,
    child: Child,
    pub nodes: Vec<Node>,
}

/// A node that has joined.
pub struct Node {
    pub name: NodeName,
    pub certificate_pem: String,
    pub key_pem: String,
}

#[derive(serde::Deserialize)]
struct Context {
    address: String,
    authority_pem: String,
    certificate_pem: String,
    key_pem: String,
}

impl Site {
    pub async fn make(program: PathBuf, nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let config = format!(
            "fleet = \"acme\"\ndata_dir = {data:?}\nlisten = \"127.0.0.1:0\"\n\
             [limits]\nconnections = 20000\n[heartbeat]\nmissed_max = 200\n[log]\nlevel = \"warn\"\n"
        );
        std::fs::write(dir.path().join("coordinator.toml"), config).unwrap();
        // The first start makes the store and the authority.
        let mut first = start(&program, &dir).await;
        let pid = rustix::process::Pid::from_raw(i32::try_from(first.id().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        first.wait().await.unwrap();
        let nodes = join_all(&data, nodes).await;
        let child = start(&program, &dir).await;
        Self { dir, child, nodes }
    }

    pub fn process(&self) -> Process {
        Process(self.child.id().unwrap())
    }

    fn context(&self) -> Context {
        let path = self.dir.path().join("data/operator/context.toml");
        toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    pub async fn channel(&self, certificate_pem: &str, key_pem: &str) -> Channel {
        let context = self.context();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&context.authority_pem));
        let tls = tls.identity(Identity::from_pem(certificate_pem, key_pem));
        let uri = format!("https://{}", context.address);
        Channel::from_shared(uri).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
    }

    pub async fn operator(&self) -> OperatorClient<Channel> {
        let context = self.context();
        let channel = self.channel(&context.certificate_pem, &context.key_pem).await;
        OperatorClient::new(channel).max_decoding_message_size(usize::MAX)
    }

    /// Applies a fleet of the first `nodes` nodes; answers with the revision.
    pub async fn apply(&self, nodes: usize, hostname: &str) -> u64 {
        let header = UploadHeader { message: "a change".into(), ..UploadHeader::default() };
        let header = Upload { part: Some(Part::Header(header)) };
        let mut upload = vec![header];
        for (path, text) in self.files(nodes, hostname) {
            let chunks = text.as_bytes().chunks(CHUNK);
            let last = chunks.len() - 1;
            upload.extend(chunks.enumerate().map(|(index, data)| {
                let chunk = FileChunk { path: path.clone(), data: data.to_vec(), last: index == last };
                Upload { part: Some(Part::File(chunk)) }
            }));
        }
        let reply = self.operator().await.apply(tokio_stream::iter(upload)).await.unwrap().into_inner();
        assert!(!reply.refused && reply.rollout != 0, "{reply:?}");
        reply.revision
    }

    fn files(&self, nodes: usize, hostname: &str) -> BTreeMap<String, String> {
        let mut manifest = "name = \"acme\"\n[groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
             [groups.km.rollout]\nsoak = \"1ms\"\nmin_healthy_time = \"1ms\"\nmax_unavailable = \"100%\"\n"
            .to_owned();
        for node in &self.nodes[..nodes] {
            let name = &node.name;
            write!(manifest, "[nodes.{name}]\ngroup = \"km\"\nhost = \"{name}.acme\"\nhome = \"/opt/is\"\n")
                .unwrap();
        }
        let keystore = "not a keystore, but as large as one\n".repeat(KEYSTORE / 36);
        BTreeMap::from([
            ("fleet.toml".to_owned(), manifest),
            ("config/common.toml".to_owned(), common(hostname)),
            ("files/km/repository/resources/security/client-truststore.p12".to_owned(), keystore),
        ])
    }

    pub async fn until_no_rollout(&self) {
        let mut operator = self.operator().await;
        let request = ListRolloutsRequest { most: 1 };
        loop {
            let reply = operator.list_rollouts(request).await.unwrap().into_inner();
            if reply.rollouts.iter().all(|rollout| rollout.state == "done") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// A deployment.toml of the size that sites have: 2 to 9 kB, and each node's is another.
fn common(hostname: &str) -> String {
    let mut text = format!(
        "[server]\nhostname = \"{hostname}\"\nnode_ip = \"${{ node.host }}\"\n[database.shared_db]\ntype = \"mysql\"\n\
         url = \"jdbc:mysql://db.example.org:3306/shared\"\nusername = \"wso2\"\npassword = \"$secret{{db}}\"\n"
    );
    for store in 0..TABLES {
        writeln!(text, "[custom.connection_{store}]").unwrap();
        for key in 0..KEYS {
            writeln!(text, "property_{key} = \"what connection {store} has as its number {key}\"").unwrap();
        }
    }
    text
}

async fn start(program: &PathBuf, dir: &TempDir) -> Child {
    let address = dir.path().join("data/address");
    drop(std::fs::remove_file(&address));
    let mut command = Command::new(program);
    // As its unit does (ADR 51).
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    command.arg("--config").arg(dir.path().join("coordinator.toml")).kill_on_drop(true);
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    while !address.exists() {
        assert_eq!(child.try_wait().unwrap(), None, "the coordinator ended at its start");
        tokio::time::sleep(POLL).await;
    }
    child
}

/// Gives every node a certificate, and the store a record that accepts it.
async fn join_all(data: &std::path::Path, nodes: usize) -> Vec<Node> {
    let (fleet, now) = (FleetName::parse("acme").unwrap(), wall_clock());
    let authority = Authority::open(&data.join("ca"), &fleet, now).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let path = data.join("store.redb");
    let open = move || OpenOptions::new().read(true).write(true).open(&path);
    let store = Embedded::open(open, &tasks).unwrap();
    let mut joined = Vec::new();
    let mut commit = Transaction::default();
    for number in 0..nodes {
        let name = NodeName::parse(&format!("is-{number:05}")).unwrap();
        let issued = authority.sign_node(&name, &request, (now, LIFETIME)).unwrap();
        let enrolment = Enrolment {
            enrolled: now,
            serial: issued.serial,
            previous_serial: None,
            expires: issued.not_after,
        };
        let record = NodeRecord { enrolment: Some(enrolment), ..NodeRecord::new(name.clone()) };
        commit = commit.put(Key::node(&name), record.encode());
        joined.push(Node { name, certificate_pem: issued.pem, key_pem: key.serialize_pem() });
        if joined.len() % BATCH == 0 {
            store.commit(std::mem::take(&mut commit)).await.unwrap();
        }
    }
    store.commit(commit).await.unwrap();
    drop(store);
    tasks.ended().await;
    joined
}
