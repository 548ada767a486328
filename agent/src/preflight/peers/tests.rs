//! Certificates made by rcgen against truststores, and real TLS listeners on the loopback.

use std::{fs, path::Path as FilePath, sync::Arc};

use fleet::preflight::{
    Password,
    needs::{Given, Keystore},
    peers::{Client, Path},
};
use p12_keystore::{Certificate as StoredCertificate, KeyStore, KeyStoreEntry};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use time::{Duration as Span, OffsetDateTime};
use tokio::net::TcpListener;

use super::*;
use crate::preflight::{Subject, keystore::Anchor, run};

const DAY: Span = Span::days(1);

/// A certificate with its key.
struct Made {
    certificate: Certificate,
    key: KeyPair,
    params: CertificateParams,
}

impl Made {
    fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![format!("{name}.acme"), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) =
        (OffsetDateTime::now_utc() - DAY, OffsetDateTime::now_utc() + DAY * 90);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn itself(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    Made { certificate: params.self_signed(&key).unwrap(), key, params }
}

fn signed(params: CertificateParams, by: &Made) -> Made {
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_params(&by.params, &by.key);
    Made { certificate: params.signed_by(&key, &issuer).unwrap(), key, params }
}

fn anchors(trusted: &[&Made]) -> Vec<Anchor> {
    let anchor = |(n, made): (usize, &&Made)| Anchor {
        alias: format!("a{n}"),
        der: made.der().to_vec(),
        is_trusted: true,
    };
    trusted.iter().enumerate().map(anchor).collect()
}

fn path_of(shown: &[&Made], anchors: &[Anchor]) -> Path {
    let chain: Vec<CertificateDer<'static>> = shown.iter().map(|made| made.der()).collect();
    let own = fact(&chain[0]).unwrap();
    path::path(&chain, &own, (anchors, crate::wall_clock()))
}

fn held(n: usize) -> Path {
    Path::Held { alias: format!("a{n}") }
}

#[test]
fn a_certificate_that_is_held_counts_whatever_it_is() {
    let plain = itself(params("is"));
    let other = itself(params("other"));
    assert_eq!(path_of(&[&plain], &anchors(&[&other, &plain])), held(1));
    assert_eq!(path_of(&[&plain], &anchors(&[&other])), Path::Unknown);
    assert_eq!(path_of(&[&plain], &[]), Path::Unknown);
    // openssl makes self-signed ones that call themselves authorities, and Java does not mind.
    let own_authority = itself(authority("is"));
    assert_eq!(path_of(&[&own_authority], &anchors(&[&own_authority])), held(0));
    assert_eq!(path_of(&[&own_authority], &anchors(&[&other])), Path::Unknown);
    let mut ended = params("is");
    ended.not_after = OffsetDateTime::now_utc() - DAY / 2;
    let ended = itself(ended);
    assert_eq!(path_of(&[&ended], &anchors(&[&ended])), held(0));
    // The same name and key, issued anew.
    let again = Made {
        certificate: params("is").self_signed(&plain.key).unwrap(),
        key: KeyPair::generate().unwrap(),
        params: params("is"),
    };
    assert_eq!(path_of(&[&again], &anchors(&[&plain])), held(0));
    // The same name with another key is somebody else.
    assert_eq!(path_of(&[&itself(params("is"))], &anchors(&[&plain])), Path::Unknown);
}

#[test]
fn signatures_are_followed_to_what_is_held() {
    let root = itself(authority("root"));
    let middle = signed(authority("middle"), &root);
    let leaf = signed(params("is"), &middle);
    for (shown, trusted, path) in [
        (vec![&leaf, &middle], vec![&root], Path::Signed),
        (vec![&leaf, &middle, &root], vec![&root], Path::Signed),
        (vec![&leaf, &middle], vec![&middle], Path::Signed),
        (vec![&leaf], vec![&middle], Path::Signed),
        (vec![&leaf], vec![&middle, &root], Path::Signed),
        // The other side does not send what is between: Java does not fetch it.
        (vec![&leaf], vec![&root], Path::Unknown),
        (vec![&leaf, &middle, &root], vec![], Path::Unknown),
        (vec![&leaf, &middle, &root], vec![&leaf], held(0)),
    ] {
        assert_eq!(path_of(&shown, &anchors(&trusted)), path);
    }
    let namesake = itself(authority("root"));
    let said = path_of(&[&leaf, &middle], &anchors(&[&namesake]));
    assert!(matches!(&said, Path::Broken(why) if why.contains("does not fit the key")), "{said:?}");
}

#[test]
fn dates_are_told_apart_from_trust() {
    let root = itself(authority("root"));
    let mut old = params("is");
    old.not_after = OffsetDateTime::now_utc() - DAY / 2;
    let old = signed(old, &root);
    // Its own end is in the fact, for the judgement; the path is as it is.
    assert_eq!(path_of(&[&old], &anchors(&[&root])), Path::Signed);
    assert_eq!(path_of(&[&old], &anchors(&[&itself(authority("x"))])), Path::Unknown);
    let mut ended = authority("middle");
    ended.not_after = OffsetDateTime::now_utc() - DAY / 2;
    let ended = signed(ended, &root);
    let leaf = signed(params("is"), &ended);
    assert_eq!(path_of(&[&leaf, &ended], &anchors(&[&root])), Path::Outdated);
    // Java does not look at the dates of what is held.
    assert_eq!(path_of(&[&leaf], &anchors(&[&ended])), Path::Signed);
}

#[test]
fn a_certificate_for_clients_only_is_refused() {
    let root = itself(authority("root"));
    let mut client = params("is");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let said = path_of(&[&signed(client, &root)], &anchors(&[&root]));
    assert!(matches!(&said, Path::Broken(why) if why.contains("not for servers")), "{said:?}");
}

#[test]
fn what_java_passes_over_in_a_store_is_said() {
    let plain = itself(params("is"));
    let mut unmarked = anchors(&[&plain]);
    unmarked[0].is_trusted = false;
    assert_eq!(path_of(&[&plain], &unmarked), Path::NotMarked { alias: "a0".to_owned() });
}

#[test]
fn a_certificate_is_read_with_its_names_and_dates() {
    let mut params = params("is");
    params.subject_alt_names.push(rcgen::SanType::IpAddress("2001:db8::1".parse().unwrap()));
    let made = itself(params);
    let read = fact(&made.der()).unwrap();
    assert_eq!((read.subject.as_str(), read.common_name.as_deref()), ("CN=is", Some("is")));
    let names: Vec<String> = read.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["is.acme", "127.0.0.1", "2001:db8::1"]);
    let days = read.not_after.since(read.not_before).as_secs() / 86_400;
    assert_eq!(days, 91);
    assert!(fact(b"no certificate").is_none());
}

/// A TLS server on the loopback that takes every connection and closes it after the handshake.
struct Server {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(chain: &[&Made]) -> Server {
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(chain[0].key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.iter().map(|made| made.der()).collect(), key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = crate::task::spawn("listener of a test", async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    Server { port, task }
}

/// A truststore as keytool makes it.
fn pkcs12(trusted: &[&Made]) -> Vec<u8> {
    let mut store = KeyStore::new();
    for (n, made) in trusted.iter().enumerate() {
        let certificate = StoredCertificate::from_der(&made.der()).unwrap();
        store.add_entry(&format!("a{n}"), KeyStoreEntry::Certificate(certificate));
    }
    store.writer("store-secret").write().unwrap()
}

/// A home whose deployment.toml names each port as the service of a gateway.
struct Host {
    _dir: tempfile::TempDir,
    subject: Subject,
}

impl Host {
    fn new(truststore: &[u8], ports: &[u16]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let write = |path: &str, content: &[u8]| {
            let path = home.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let gateways = ports.iter().map(|port| {
            format!("[[apim.gateway.environment]]\nservice_url = \"https://127.0.0.1:{port}/services/\"\n")
        });
        let config =
            "[truststore]\nfile_name = \"trust.p12\"\ntype = \"PKCS12\"\npassword = \"store-secret\"\n";
        write(
            "repository/conf/deployment.toml",
            format!("{config}{}", gateways.collect::<String>()).as_bytes(),
        );
        write("repository/resources/security/trust.p12", truststore);
        let settings = crate::preflight::tests::settings(FilePath::new(home));
        Self { subject: Subject::on_disk(settings), _dir: dir }
    }

    async fn said(&self) -> Vec<String> {
        let checks = run(&self.subject).await;
        let of_peers = checks.iter().filter(|it| it.name == "trust" && it.subject.contains("gateway.env"));
        of_peers.map(|check| format!("{} {check}", check.outcome.as_str())).collect()
    }
}

#[tokio::test]
async fn each_connection_is_tried_with_the_servers_own_truststore() {
    let root = itself(authority("root"));
    let (known, stranger) = (signed(params("is"), &root), itself(params("is")));
    let (good, bad) = (serve(&[&known]).await, serve(&[&stranger]).await);
    let mut host = Host::new(&pkcs12(&[&root]), &[good.port, bad.port]);
    let said = host.said().await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("pass trust apim.gateway.environment[0].service_url: 127.0.0.1:"),
        "{said:?}"
    );
    let refused = format!(
        "warn trust apim.gateway.environment[1].service_url: this server will refuse 127.0.0.1:{} (`PKIX path building \
         failed`): repository/resources/security/trust.p12 holds neither its certificate (CN=is) nor its issuer (CN=is); \
         import the certificate of the other side into the truststore",
        bad.port
    );
    assert!(said[1].starts_with(&refused), "{said:?}");

    // The truststore of a bundle counts before it is in place.
    let staged = tempfile::NamedTempFile::new().unwrap();
    fs::write(staged.path(), pkcs12(&[&root, &stranger])).unwrap();
    let at = fleet::bundle::HomePath::parse("repository/resources/security/trust.p12").unwrap();
    host.subject.staged.insert(at, staged.path().to_owned());
    let said = host.said().await;
    assert!(said.iter().all(|line| line.starts_with("pass")), "{said:?}");
}

#[tokio::test]
async fn ends_and_silence_are_told_apart() {
    let mut soon = params("is");
    soon.not_after = OffsetDateTime::now_utc() + DAY * 3;
    let soon = itself(soon);
    let server = serve(&[&soon]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = silent.local_addr().unwrap().port();
    drop(silent);
    let said = Host::new(&pkcs12(&[&soon]), &[server.port, gone]).said().await;
    let told = format!("the certificate of 127.0.0.1:{} ends in 2 days", server.port);
    assert!(said[0].starts_with("warn") && said[0].contains(&told), "{said:?}");
    assert!(said[1].starts_with("skipped") && said[1].contains("shows no certificate now"), "{said:?}");
}

#[tokio::test]
async fn what_speaks_no_tls_is_no_peer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let address = Address { host: "127.0.0.1".to_owned(), port };
    let peer = Peer { key: "k".to_owned(), address, client: Client::Http };
    let tried = try_all(vec![peer], Duration::from_secs(4)).await;
    assert!(matches!(&tried[0].1, Err(why) if why.starts_with("no TLS")), "{tried:?}");
    answer.join().unwrap();
}

#[test]
fn a_truststore_that_does_not_open_is_the_reason() {
    let made = itself(params("is"));
    let store = Keystore {
        key: "truststore".to_owned(),
        file: "trust.p12".to_owned(),
        kind: None,
        password: Given::Plain(Password::new("wrong".to_owned())),
        alias: None,
        key_password: None,
    };
    let trust = crate::preflight::keystore::truststore(&pkcs12(&[&made]), &store);
    let peer = Peer {
        key: "k".to_owned(),
        address: Address { host: "is.acme".to_owned(), port: 9443 },
        client: Client::Http,
    };
    let facts = judge(vec![(peer, Ok(vec![made.der()]))], &trust, crate::wall_clock());
    assert!(
        matches!(&facts[0].1, PeerFact::NotTried(why) if why.contains("trust.p12 was not read")),
        "{facts:?}"
    );
}
