//! The listener as Prometheus meets it: a port, a Unix socket, TLS.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test, a step that fails is the finding")]
#![allow(clippy::disallowed_methods, reason = "a panic of a task fails the test that awaits it")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use exporter::{Bound, Exposed, Listen, Settings, TlsFiles};
use futures::{FutureExt as _, future::BoxFuture};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

/// Panics when asked whether it lives.
struct Program;

impl Exposed for Program {
    fn metrics(&self) -> BoxFuture<'_, Result<String, String>> {
        async { Ok("# HELP up Up.\n# TYPE up gauge\nup 1\n# EOF\n".to_owned()) }.boxed()
    }

    fn not_alive(&self) -> BoxFuture<'_, Option<String>> {
        async { panic!("a planted defect") }.boxed()
    }

    fn not_ready(&self) -> BoxFuture<'_, Option<String>> {
        async { Some("the disk\nis gone".to_owned()) }.boxed()
    }
}

async fn start(listen: Listen, tls: Option<TlsFiles>) -> (Listen, CancellationToken) {
    let bound = Bound::open(&Settings { listen, tls }).await.unwrap();
    let (listen, stop) = (bound.listen().clone(), CancellationToken::new());
    tokio::spawn(exporter::serve(bound, Arc::new(Program), stop.clone()));
    (listen, stop)
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap()?;
    Ok(answer)
}

fn port(listen: &Listen) -> u16 {
    match listen {
        Listen::Tcp(address) => address.port(),
        Listen::Unix(path) => panic!("{} is no port", path.display()),
    }
}

async fn dial(listen: &Listen) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port(listen))).await.unwrap()
}

#[tokio::test]
async fn a_port_answers_whatever_one_connection_comes_to() {
    let (listen, stop) = start(Listen::loopback(0), None).await;
    assert_ne!(port(&listen), 0);
    // The defect costs that connection and no other.
    assert_eq!(ask(dial(&listen).await, "/livez").await.unwrap_or_default(), "");
    let answer = ask(dial(&listen).await, "/metrics").await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK")
            && answer.ends_with("\r\n\r\n# HELP up Up.\n# TYPE up gauge\nup 1\n"),
        "{answer}"
    );
    let answer = ask(dial(&listen).await, "/readyz").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("the disk is gone\n"), "{answer}");
    stop.cancel();
}

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_replaces_only_what_nobody_uses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics");
    let listen = Listen::Unix(path.clone());
    let (_, stop) = start(listen.clone(), None).await;
    let answer = ask(UnixStream::connect(&path).await.unwrap(), "/metrics").await.unwrap();
    assert!(answer.contains("up 1"), "{answer}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let refused = |listen: Listen| async move {
        match Bound::open(&Settings { listen, tls: None }).await {
            Ok(_) => panic!("it listens"),
            Err(error) => error.to_string(),
        }
    };
    let busy = refused(listen.clone()).await;
    assert!(busy.contains("another process listens there") && busy.contains("unix:"), "{busy}");
    stop.cancel();
    // What a killed process leaves.
    let left = dir.path().join("left");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    assert!(left.exists());
    let (_, stop) = start(Listen::Unix(left.clone()), None).await;
    assert!(UnixStream::connect(&left).await.is_ok());
    stop.cancel();
    let file = dir.path().join("notes");
    fs::write(&file, "mine").unwrap();
    let no_socket = refused(Listen::Unix(file.clone())).await;
    assert!(no_socket.contains("something that is no socket"), "{no_socket}");
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    let nowhere = refused(Listen::Unix(dir.path().join("no/where"))).await;
    assert!(nowhere.contains("its directory does not exist"), "{nowhere}");
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key, PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn client(&self, with: Option<(String, String)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        TlsConnector::from(Arc::new(match with {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        }))
    }
}

fn write(dir: &Path, (certificate, key): &(String, String)) {
    fs::write(dir.join("metrics.pem"), certificate).unwrap();
    fs::write(dir.join("metrics.key"), key).unwrap();
    fs::set_permissions(dir.join("metrics.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

fn files(dir: &Path, client_authorities: Option<&str>) -> TlsFiles {
    let client_authorities = client_authorities.map(|name| dir.join(name));
    TlsFiles { certificate: dir.join("metrics.pem"), key: dir.join("metrics.key"), client_authorities }
}

/// The answer, or why there is none.
async fn over_tls(listen: &Listen, client: &TlsConnector) -> std::io::Result<String> {
    let name = "metrics.acme.internal".try_into().unwrap();
    ask(client.connect(name, dial(listen).await).await?, "/metrics").await
}

#[tokio::test]
async fn a_renewed_certificate_counts_for_the_next_connection_and_a_broken_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    write(dir.path(), &old.issue("metrics.acme.internal"));
    let (listen, stop) = start(Listen::loopback(0), Some(files(dir.path(), None))).await;
    assert!(over_tls(&listen, &old.client(None)).await.unwrap().contains("up 1"));
    // Plain HTTP is not answered.
    assert!(!ask(dial(&listen).await, "/metrics").await.unwrap_or_default().contains("up 1"));
    fs::write(dir.path().join("metrics.pem"), "half of it").unwrap();
    assert!(over_tls(&listen, &old.client(None)).await.unwrap().contains("up 1"));
    write(dir.path(), &new.issue("metrics.acme.internal"));
    assert!(over_tls(&listen, &new.client(None)).await.unwrap().contains("up 1"));
    over_tls(&listen, &old.client(None)).await.unwrap_err();
    stop.cancel();
}

#[tokio::test]
async fn with_client_authorities_only_their_clients_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(), Authority::new());
    write(dir.path(), &ours.issue("metrics.acme.internal"));
    fs::write(dir.path().join("clients.pem"), ours.0.pem()).unwrap();
    let (listen, stop) = start(Listen::loopback(0), Some(files(dir.path(), Some("clients.pem")))).await;
    let known = ours.client(Some(ours.issue("prometheus")));
    assert!(over_tls(&listen, &known).await.unwrap().contains("up 1"));
    for stranger in [ours.client(None), ours.client(Some(others.issue("prometheus")))] {
        // TLS 1.3 tells a client of its refusal after its own handshake.
        let answer = over_tls(&listen, &stranger).await.unwrap_or_default();
        assert!(!answer.contains("up 1"), "{answer}");
    }
    stop.cancel();
}

#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Authority::new().issue("metrics.acme.internal");
    let check = || {
        let settings = Settings { listen: Listen::loopback(0), tls: Some(files(dir.path(), None)) };
        settings.check().map_err(|error| error.to_string())
    };
    assert!(check().unwrap_err().contains("metrics.pem"));
    write(dir.path(), &pair);
    check().unwrap();
    fs::set_permissions(dir.path().join("metrics.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let refused = check().unwrap_err();
    assert!(
        refused.contains("others may read this key (mode 0640)") && refused.contains("chmod 600"),
        "{refused}"
    );
    write(dir.path(), &(pair.0.clone(), "s3cret words".to_owned()));
    let refused = check().unwrap_err();
    assert!(refused.contains("metrics.key") && !refused.contains("s3cret"), "{refused}");
    write(dir.path(), &("no PEM".to_owned(), pair.1));
    assert!(check().unwrap_err().contains("there is no certificate in it"));
}
