//! One pack in a directory of its own, processes that end with the test, and waiting for states.

use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_tests::pack::{self, OffsetLease, Pack, PackSpec, Teardown};
use convoy_tests::standin::{Misbehaviour, StateView};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Longest wait for anything; reached only by a failing test.
const DEADLINE: Duration = Duration::from_secs(30);

/// A pack under test. Fields are dropped in order: processes first, then their files.
pub struct Bench {
    teardown: Teardown,
    directory: tempfile::TempDir,
    lease: OffsetLease,
    pub pack: Pack,
}

/// How a command went.
pub struct Done {
    pub status: ExitStatus,
    pub output: String,
}

impl Bench {
    pub fn new(product: &str) -> Bench {
        Bench::with(product, |_| {})
    }

    pub fn misbehaving(product: &str, misbehaviour: Misbehaviour) -> Bench {
        Bench::with(product, |spec| spec.misbehaviour = misbehaviour)
    }

    pub fn with(product: &str, change: impl FnOnce(&mut PackSpec)) -> Bench {
        let directory = tempfile::tempdir().expect("a directory");
        let lease = OffsetLease::take().expect("port offsets");
        let product = product.parse().expect("a product");
        let mut spec = PackSpec::new(product, env!("CARGO_BIN_EXE_convoy-standin"));
        spec.offset = lease.offset(0);
        change(&mut spec);
        let pack = pack::generate(directory.path(), &spec).expect("a pack");
        Bench { teardown: Teardown::of(directory.path()), directory, lease, pack }
    }

    /// The port that this base port becomes with the pack's shipped offset.
    pub fn port(&self, base: u16) -> u16 {
        base + self.lease.offset(0)
    }

    /// Another offset of this test's own.
    pub fn other_offset(&self) -> u16 {
        self.lease.offset(1)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command with the environment that a supervisor would give, and no more.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg(self.pack.script()).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("JAVA_HOME", &self.pack.java_home);
        command.stdin(Stdio::null()).current_dir("/").kill_on_drop(true);
        command
    }

    /// Runs the script with these words to its end.
    pub async fn run(&self, arguments: &[&str]) -> Done {
        finish(self.command(arguments)).await
    }

    /// Starts the script in the foreground mode.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.spawn(self.command(arguments))
    }

    pub fn spawn(&self, mut command: Command) -> Child {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.output_path()).expect("a file");
        command.stdout(file.try_clone().expect("a handle")).stderr(file).process_group(0);
        command.spawn().expect("a script")
    }

    /// Starts and waits for `WSO2 Carbon started in`.
    pub async fn start_ready(&self) -> Child {
        let child = self.start(&[]);
        self.until_logged("WSO2 Carbon started in").await;
        child
    }

    fn output_path(&self) -> std::path::PathBuf {
        self.directory.path().join("console")
    }

    /// What foreground scripts printed.
    pub fn output(&self) -> String {
        fs::read_to_string(self.output_path()).unwrap_or_default()
    }

    /// The main log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.pack.carbon_log()).unwrap_or_default()
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.pack.home.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.pack.home.join(path), text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Adds lines to deployment.toml.
    pub fn append_toml(&self, text: &str) {
        let path = "repository/conf/deployment.toml";
        self.write(path, &format!("{}\n{text}\n", self.read(path)));
    }

    pub async fn until_logged(&self, text: &str) {
        self.until(&format!("`{text}` in the log"), || self.log().contains(text)).await;
    }

    pub async fn until_logged_times(&self, text: &str, times: usize) {
        self.until(&format!("`{text}` {times} times"), || times <= self.log().matches(text).count()).await;
    }

    /// Waits for a state; a panic shows what there was instead.
    pub async fn until(&self, what: &str, state: impl Fn() -> bool) {
        let waiting = async {
            while !state() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            panic!("waited for {what}\n--- console\n{}\n--- log\n{}", self.output(), self.log());
        }
    }

    /// Digits of the pid file.
    pub fn pid(&self) -> i32 {
        let bytes = fs::read(self.pack.home.join("wso2carbon.pid")).expect("a pid file");
        let digits: Vec<u8> = bytes.into_iter().take_while(u8::is_ascii_digit).collect();
        String::from_utf8(digits).expect("digits").parse().expect("a pid")
    }

    /// Waits for a pid file with another pid than this one.
    pub async fn until_pid_differs(&self, from: i32) -> i32 {
        self.until("another pid", || self.has_pid() && self.pid() != from).await;
        self.pid()
    }

    pub fn has_pid(&self) -> bool {
        fs::read(self.pack.home.join("wso2carbon.pid")).is_ok_and(|bytes| bytes.len() == 100)
    }

    pub fn signal(&self, pid: i32, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("a living process");
    }

    pub fn terminate(&self, pid: i32) {
        self.signal(pid, rustix::process::Signal::TERM);
    }

    /// Waits until nothing of this pack runs.
    pub async fn until_all_gone(&self) {
        self.until("the end of all processes", || self.teardown.alive().is_empty()).await;
    }

    pub fn alive(&self) -> Vec<u32> {
        self.teardown.alive()
    }

    /// GET over plain HTTP: status and body. `None` if nobody listens.
    pub async fn get(&self, port: u16, path: &str) -> Option<(u16, String)> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        Some(request(stream, path).await)
    }

    /// GET over TLS, trusting only the pack's own certificate.
    pub async fn get_tls(&self, port: u16, path: &str) -> Option<(u16, String)> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let pem = self.read("repository/resources/security/standin-tls.pem");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector.connect(name, stream).await.expect("a TLS handshake");
        Some(request(stream, path).await)
    }

    /// What the server says of itself.
    pub async fn state(&self) -> StateView {
        let (_, body) = self.get(self.port(9763), "/standin/state").await.expect("a listening server");
        serde_json::from_str(&body).expect("a state")
    }
}

/// Runs a command to its end, output and errors in one text.
pub async fn finish(mut command: Command) -> Done {
    let output = tokio::time::timeout(DEADLINE, command.output()).await.expect("an end").expect("a script");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Done { status: output.status, output: text }
}

/// The script's own exit status.
pub async fn status_of(mut child: Child) -> Option<i32> {
    tokio::time::timeout(DEADLINE, child.wait()).await.expect("an end").expect("a script").code()
}

async fn request(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, path: &str) -> (u16, String) {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let request =
        http::Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).expect("valid");
    let exchange = async {
        let response = sender.send_request(request).await.expect("a response");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => panic!("the connection ended before the answer: {ended:?}"),
    }
}
