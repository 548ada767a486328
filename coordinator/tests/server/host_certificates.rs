//! Hosts that join by a certificate of another authority, over real TLS: who gets in, and who does not.

use std::{collections::BTreeMap, fs, sync::Arc, time::Instant};

use fleet::{admission::host_statement, ids::NodeName};
use proto::wire::{
    agent::{
        ChallengeRequest, EnrollHostRequest, EnrollReply, agent_link_client::AgentLinkClient,
        enrolment_client::EnrolmentClient,
    },
    operator::{
        EventsRequest, ListAuditRequest, NodeRequest, StatusRequest, audit_client::AuditClient,
        operator_client::OperatorClient,
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, transport::Channel};

use crate::support::{TestCoordinator, TestNode};

/// The authority of a company, beside the fleet's own.
struct Corp {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

impl Corp {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key).unwrap();
        Self { pem: certificate.pem(), issuer }
    }

    /// A certificate as Puppet's and AD CS's authorities make them, with something else about it.
    fn host(&self, names: &[&str], other: impl FnOnce(&mut CertificateParams)) -> Host {
        self.host_with(KeyPair::generate().unwrap(), names, other)
    }

    fn host_with(&self, key: KeyPair, names: &[&str], other: impl FnOnce(&mut CertificateParams)) -> Host {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = common_name("h1.test");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.use_authority_key_identifier_extension = true;
        other(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Host { chain: vec![certificate.der().to_vec()], pem: certificate.pem(), key }
    }

    /// A revocation list that ends so many days from now.
    fn list(&self, revoked: &[u64], days: i64) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::days(20),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now - Duration::days(30),
            next_update: now + Duration::days(days),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// What a host has.
struct Host {
    chain: Vec<Vec<u8>>,
    pem: String,
    key: KeyPair,
}

impl Host {
    /// The call that an agent makes with this, for a key of its own.
    fn request(&self, nonce: Vec<u8>, authority: &[u8; 32], node: &str) -> (EnrollHostRequest, KeyPair) {
        let own = KeyPair::generate().unwrap();
        let csr_pem = CertificateParams::default().serialize_request(&own).unwrap().pem().unwrap();
        let statement = host_statement(authority, &nonce, &self.chain[0], (&csr_pem, node));
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&der).unwrap();
        let signer = key.choose_scheme(&[
            rustls::SignatureScheme::ECDSA_NISTP256_SHA256,
            rustls::SignatureScheme::ECDSA_NISTP384_SHA384,
            rustls::SignatureScheme::RSA_PSS_SHA256,
        ]);
        let signer = signer.unwrap();
        let request = EnrollHostRequest {
            nonce,
            chain: self.chain.clone(),
            scheme: u32::from(u16::from(signer.scheme())),
            signature: signer.sign(&statement).unwrap(),
            csr_pem,
            node: node.to_owned(),
        };
        (request, own)
    }
}

/// A coordinator that takes certificates of a company, and what is beside it.
struct Place {
    coordinator: TestCoordinator,
    corp: Corp,
    files: TempDir,
}

/// `is-1` on `h1.test`, `is-2` on `h2.test`, and so on.
fn fleet_of(count: usize) -> BTreeMap<String, String> {
    let mut fleet =
        "name = \"acme\"\n[groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n".to_owned();
    for n in 1..=count {
        fleet
            .push_str(&format!("[nodes.is-{n}]\ngroup = \"km\"\nhost = \"h{n}.test\"\nhome = \"/opt/is\"\n"));
    }
    let common = "[server]\nhostname = \"a.test\"\n".to_owned();
    [("fleet.toml", fleet), ("config/common.toml", common)].map(|(path, text)| (path.to_owned(), text)).into()
}

impl Place {
    async fn open(more: &str, nodes: usize) -> Self {
        let (corp, files) = (Corp::new("Corp CA"), tempfile::tempdir().unwrap());
        fs::write(files.path().join("ca.pem"), &corp.pem).unwrap();
        fs::write(files.path().join("crl.pem"), corp.list(&[7777], 1)).unwrap();
        let (ca, crl) = (files.path().join("ca.pem"), files.path().join("crl.pem"));
        let more = format!("[join.pki]\nauthorities = {ca:?}\ncrl = {crl:?}\n{more}");
        let coordinator = TestCoordinator::start_in(Arc::new(tempfile::tempdir().unwrap()), &more).await;
        let applied = coordinator.apply(&fleet_of(nodes), None).await;
        assert!(!applied.refused, "{applied:?}");
        Self { coordinator, corp, files }
    }

    fn authority(&self) -> [u8; 32] {
        let pem = self.coordinator.context().authority_pem;
        Sha256::digest(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).into()
    }

    async fn enroll(&self, host: &Host, node: &str) -> Result<TestNode, Status> {
        self.enroll_on(&mut self.coordinator.stranger().await, host, node).await
    }

    async fn enroll_on(
        &self,
        client: &mut EnrolmentClient<Channel>,
        host: &Host,
        node: &str,
    ) -> Result<TestNode, Status> {
        let nonce = client.challenge(ChallengeRequest {}).await?.into_inner().nonce;
        let (request, key) = host.request(nonce, &self.authority(), node);
        let reply: EnrollReply = client.enroll_host(request).await?.into_inner();
        Ok(TestNode { name: node.to_owned(), reply, key_pem: key.serialize_pem() })
    }

    async fn refused(&self, host: &Host, node: &str) -> String {
        let status = self.enroll(host, node).await.err().expect("it is refused");
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        status.message().to_owned()
    }

    fn put_list(&self, list: &str) {
        fs::write(self.files.path().join("crl.pem"), list).unwrap();
    }
}

/// The name in a node's certificate.
fn is_node(node: &TestNode, name: &str) -> bool {
    let der = CertificateDer::from_pem_slice(node.reply.certificate_pem.as_bytes()).unwrap();
    let uri = format!("convoy://acme/node/{name}");
    der.windows(uri.len()).any(|bytes| bytes == uri.as_bytes())
}

#[tokio::test]
async fn hosts_with_each_kind_of_key_are_the_nodes_that_their_certificates_name() {
    let place = Place::open("", 3).await;
    let rsa = KeyPair::from_pem(include_str!("host-rsa.pem")).unwrap();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p256 = KeyPair::generate().unwrap();
    for (n, key) in [(1, rsa), (2, p384), (3, p256)] {
        let host = place.corp.host_with(key, &[&format!("H{n}.test"), "alias.test"], |_| ());
        let node = place.enroll(&host, "").await.unwrap();
        assert!(is_node(&node, &format!("is-{n}")));
        node.session(&place.coordinator).await.unwrap();
        place.coordinator.renew(&node).await.unwrap();
    }
    // Told, and recorded with subject, serial and issuer.
    let events = place.coordinator.events(EventsRequest::default()).await;
    assert_eq!(events.iter().filter(|event| event.kind == "node-enrolled").count(), 3);
    let context = place.coordinator.context();
    let identity = Some((context.certificate_pem.as_str(), context.key_pem.as_str()));
    let mut audit = AuditClient::new(place.coordinator.channel(identity).await.unwrap());
    let entries =
        audit.list(ListAuditRequest { most: 100, ..Default::default() }).await.unwrap().into_inner();
    let entries: Vec<_> = entries.collect::<Result<Vec<_>, _>>().await.unwrap();
    let joined: Vec<_> = entries.iter().filter(|entry| entry.act == "join").collect();
    assert_eq!(joined.len(), 3);
    for entry in joined {
        assert_eq!(entry.actor, "coordinator");
        assert!(
            entry.text.contains("\"CN=h1.test\", serial ") && entry.text.contains("by \"CN=Corp CA\""),
            "{entry:?}"
        );
    }
    place.coordinator.stop().await;
}

/// What is wrong, with whom, which node is asked for, and what the host hears.
type Refused = (&'static str, Host, &'static str, &'static str);

/// Those whose names, times or authority are not right.
fn of_others(corp: &Corp) -> Vec<Refused> {
    let (foreign, stranger) = (Corp::new("Corp CA"), Corp::new("Stranger"));
    let now = OffsetDateTime::now_utc();
    let operator = |params: &mut CertificateParams| {
        let uri = "convoy://acme/operator/admin".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
    };
    vec![
        ("foreign", foreign.host(&["h1.test"], |_| ()), "", "by no authority of"),
        ("of nobody known", stranger.host(&["h1.test"], |_| ()), "", "by no authority of"),
        (
            "wrong host",
            corp.host(&["h9.test"], |_| ()),
            "",
            "names h9.test, and no node of the fleet has that `host`; did you mean",
        ),
        (
            "another's",
            corp.host(&["h1.test"], |_| ()),
            "is-2",
            "names h1.test, and not h2.test, the `host` of is-2",
        ),
        (
            "revoked",
            corp.host(&["h1.test"], |it| it.serial_number = Some(SerialNumber::from(7777_u64))),
            "",
            "was revoked by its authority",
        ),
        (
            "ended",
            corp.host(&["h1.test"], |it| {
                (it.not_before, it.not_after) = (now - Duration::days(9), now - Duration::days(2));
            }),
            "",
            "it ended 48h ago",
        ),
        (
            "not yet",
            corp.host(&["h1.test"], |it| it.not_before = now + Duration::days(1)),
            "",
            "it is not taken",
        ),
        ("wildcard", corp.host(&["*.test"], |_| ()), "", "a wildcard names no host"),
        ("common name", corp.host(&[], |_| ()), "", "a common name does not count"),
        ("an operator's name", corp.host(&[], operator), "", "a common name does not count"),
    ]
}

/// Those whose certificates are for something else, or not theirs.
fn unfit(corp: &Corp) -> Vec<Refused> {
    let other_key = |names: &[&str]| Host { key: KeyPair::generate().unwrap(), ..corp.host(names, |_| ()) };
    vec![
        (
            "for servers",
            corp.host(&["h1.test"], |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "",
            "is not taken",
        ),
        (
            "for anything",
            corp.host(&["h1.test"], |it| it.extended_key_usages = Vec::new()),
            "",
            "lacks clientAuth",
        ),
        (
            "for encryption",
            corp.host(&["h1.test"], |it| it.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            "",
            "lacks digitalSignature",
        ),
        (
            "an authority's",
            corp.host(&["h1.test"], |it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
            "",
            "is not taken",
        ),
        ("stolen without its key", other_key(&["h1.test"]), "", "not by the key of the host's certificate"),
        (
            "no certificate",
            Host { chain: vec![vec![1, 2, 3]], ..corp.host(&["h1.test"], |_| ()) },
            "",
            "cannot be read",
        ),
    ]
}

#[tokio::test]
async fn who_has_no_right_to_a_name_does_not_get_in_and_is_told_why() {
    let place = Place::open("", 3).await;
    for (what, host, node, said) in of_others(&place.corp).into_iter().chain(unfit(&place.corp)) {
        let refused = place.refused(&host, node).await;
        assert!(refused.contains(said), "{what}: {refused}");
    }
    let status = place.coordinator.status().await;
    assert!(status.nodes.iter().all(|node| node.certificate_expires_ms == 0), "{status:?}");
    // What only operators can mend is told to them, and what strangers can make up is not.
    let events = place.coordinator.events(EventsRequest::default()).await;
    let told: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == "enrolment-refused")
        .map(|event| event.text.as_str())
        .collect();
    assert!(told.iter().any(|text| text.contains("h9.test") && text.contains("did you mean")), "{told:?}");
    assert!(
        told.iter().all(|text| !["by no authority", "not by the key", "it ended"]
            .iter()
            .any(|word| text.contains(word))),
        "{told:?}"
    );
    place.coordinator.stop().await;
}

#[tokio::test]
async fn a_signature_is_good_for_one_request_at_one_coordinator() {
    let place = Place::open("", 1).await;
    let other = Place::open("", 1).await;
    let host = place.corp.host(&["h1.test"], |_| ());
    let mut client = place.coordinator.stranger().await;
    let nonce = client.challenge(ChallengeRequest {}).await.unwrap().into_inner().nonce;
    let (good, _) = host.request(nonce.clone(), &place.authority(), "");
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let elsewhere =
        other.coordinator.stranger().await.challenge(ChallengeRequest {}).await.unwrap().into_inner().nonce;
    let (foreign_nonce, _) = host.request(elsewhere, &place.authority(), "");
    let (foreign_authority, _) = host.request(nonce, &other.authority(), "");
    for (what, request, said) in [
        ("another key", EnrollHostRequest { csr_pem: csr, ..good.clone() }, "not by the key"),
        ("another node", EnrollHostRequest { node: "is-1".into(), ..good.clone() }, "not by the key"),
        ("another scheme", EnrollHostRequest { scheme: 0x0401, ..good.clone() }, "not by the key"),
        ("an unknown scheme", EnrollHostRequest { scheme: 70_000, ..good.clone() }, "not by the key"),
        ("another's challenge", foreign_nonce, "not this coordinator's"),
        ("signed for another coordinator", foreign_authority, "not by the key"),
        (
            "without challenge",
            EnrollHostRequest { nonce: Vec::new(), ..good.clone() },
            "not this coordinator's",
        ),
        ("without certificate", EnrollHostRequest { chain: Vec::new(), ..good.clone() }, "at most 8"),
        (
            "too many",
            EnrollHostRequest { chain: vec![host.chain[0].clone(); 9], ..good.clone() },
            "at most 8",
        ),
    ] {
        let refused = client.enroll_host(request).await.unwrap_err();
        assert!(refused.message().contains(said), "{what}: {refused}");
    }
    client.enroll_host(good.clone()).await.unwrap();
    let again = client.enroll_host(good).await.unwrap_err();
    assert!(again.message().contains("its certificate lives for"), "{again}");
    place.coordinator.stop().await;
    other.coordinator.stop().await;
}

#[tokio::test]
async fn a_host_certificate_opens_nothing_but_this_one_door() {
    let place = Place::open("", 1).await;
    let uri = |params: &mut CertificateParams| {
        for name in ["convoy://acme/operator/admin", "convoy://acme/node/is-1"] {
            params.subject_alt_names.push(SanType::URI(name.try_into().unwrap()));
        }
    };
    let host = place.corp.host(&["h1.test"], uri);
    let identity = (host.pem.clone(), host.key.serialize_pem());
    // With TLS 1.3 a refused certificate shows up at the first answer.
    let channel = || async { place.coordinator.channel(Some((&identity.0, &identity.1))).await };
    if let Ok(channel) = channel().await {
        let status = OperatorClient::new(channel).status(StatusRequest {}).await;
        assert!(status.is_err(), "an operator's call was answered");
    }
    if let Ok(channel) = channel().await {
        let session = AgentLinkClient::new(channel).session(tokio_stream::empty()).await;
        assert!(session.is_err(), "a session was opened");
    }
    if let Ok(channel) = channel().await {
        assert!(EnrolmentClient::new(channel).challenge(ChallengeRequest {}).await.is_err());
    }
    // By the door it is what its DNS name says, and no operator.
    let node = place.enroll(&host, "").await.unwrap();
    assert!(is_node(&node, "is-1"));
    let mut as_node = OperatorClient::new(node.channel(&place.coordinator).await);
    assert_eq!(as_node.status(StatusRequest {}).await.unwrap_err().code(), Code::PermissionDenied);
    place.coordinator.stop().await;
}

#[tokio::test]
async fn a_node_has_one_enrolment_and_who_was_revoked_needs_an_operator() {
    let place = Place::open("", 2).await;
    let host = place.corp.host(&["h1.test"], |_| ());
    let first = place.enroll(&host, "").await.unwrap();
    let refused = place.refused(&host, "").await;
    assert!(
        refused.contains("its certificate lives for") && refused.contains("convoy token create --node is-1"),
        "{refused}"
    );
    place.coordinator.renew(&first).await.unwrap();

    let node = || NodeRequest { node: "is-1".to_owned() };
    place.coordinator.operator().await.revoke_node(node()).await.unwrap();
    let refused = place.refused(&host, "").await;
    assert!(refused.contains("an operator revoked is-1"), "{refused}");
    // Not forgotten over a restart either.
    let dir = place.coordinator.stop().await;
    let (ca, crl) = (place.files.path().join("ca.pem"), place.files.path().join("crl.pem"));
    let more = format!("[join.pki]\nauthorities = {ca:?}\ncrl = {crl:?}\n");
    let place = Place { coordinator: TestCoordinator::start_in(dir, &more).await, ..place };
    let refused = place.refused(&host, "").await;
    assert!(refused.contains("an operator revoked is-1"), "{refused}");
    // A token is an operator's yes.
    place.coordinator.join("is-1").await;
    let refused = place.refused(&host, "").await;
    assert!(refused.contains("its certificate lives for"), "{refused}");
    place.coordinator.stop().await;
}

#[tokio::test]
async fn a_node_whose_certificate_ended_comes_back_by_the_same_way() {
    let place = Place::open("[certificates]\nnode = \"2s\"\n", 1).await;
    let host = place.corp.host(&["h1.test"], |_| ());
    place.enroll(&host, "").await.unwrap();
    let begin = Instant::now();
    let again = loop {
        match place.enroll(&host, "").await {
            Ok(node) => break node,
            Err(status) => assert!(status.message().contains("its certificate lives for"), "{status}"),
        }
        assert!(begin.elapsed() < crate::support::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    again.session(&place.coordinator).await.unwrap();
    place.coordinator.stop().await;
}

#[tokio::test]
async fn a_revocation_list_is_read_anew_and_an_old_one_lets_nobody_in() {
    let place = Place::open("", 2).await;
    let host = place.corp.host(&["h1.test"], |_| ());
    let other = Corp::new("Other CA");
    for (list, said) in [
        (place.corp.list(&[], -3), "the revocation list of \"CN=Corp CA\""),
        (place.corp.list(&[], -3), "ended 72h ago"),
        (other.list(&[], 1), "has no revocation list of \"CN=Corp CA\""),
        (String::new(), "it holds no revocation list"),
    ] {
        place.put_list(&list);
        let refused = place.refused(&host, "").await;
        assert!(refused.contains(said) && refused.contains("crl.pem"), "{refused}");
    }
    // One that another authority signed under the same name.
    place.put_list(&Corp::new("Corp CA").list(&[], 1));
    place.refused(&host, "").await;
    fs::remove_file(place.files.path().join("crl.pem")).unwrap();
    assert!(place.refused(&host, "").await.contains("cannot read"));
    // A coordinator that begins without its list looks after its fleet, and lets nobody join.
    let dir = place.coordinator.stop().await;
    let (ca, crl) = (place.files.path().join("ca.pem"), place.files.path().join("crl.pem"));
    let more = format!("[join.pki]\nauthorities = {ca:?}\ncrl = {crl:?}\n");
    let place = Place { coordinator: TestCoordinator::start_in(dir, &more).await, ..place };
    assert!(place.refused(&host, "").await.contains("cannot read"));
    place.put_list(&place.corp.list(&[], 1));
    place.enroll(&host, "").await.unwrap();
    place.coordinator.stop().await;
}

#[tokio::test]
async fn without_the_table_nobody_gets_in() {
    let coordinator = TestCoordinator::start().await;
    let refused = coordinator.stranger().await.challenge(ChallengeRequest {}).await.unwrap_err();
    assert!(refused.message().contains("has no [join.pki]"), "{refused}");
    coordinator.stop().await;
}

#[tokio::test]
async fn four_hundred_hosts_join_by_their_certificates() {
    let place = Place::open("", 400).await;
    let hosts: Vec<Host> = (1..=400).map(|n| place.corp.host(&[&format!("h{n}.test")], |_| ())).collect();
    let mut client = place.coordinator.stranger().await;
    let begin = Instant::now();
    for (index, host) in hosts.iter().enumerate() {
        if index % 100 == 0 {
            // A stranger's connection is for a minute at most.
            client = place.coordinator.stranger().await;
        }
        let node = place.enroll_on(&mut client, host, "").await.unwrap();
        assert!(is_node(&node, &format!("is-{}", index + 1)));
    }
    println!("400 hosts joined by their certificates in {:?}", begin.elapsed());
    let status = place.coordinator.status().await;
    assert!(status.nodes.iter().all(|node| node.certificate_expires_ms != 0));
    assert_eq!(status.nodes.len(), 400);
    assert!(NodeName::parse(&status.nodes[0].name).is_ok());
    place.coordinator.stop().await;
}
