//! Requests of hosts that join without a token.

use fleet::admission::Fingerprint;
use proto::wire::operator::{
    AdmitNodeReply, AdmitNodeRequest, EventsRequest, ListAuditRequest, NodeRequest,
    audit_client::AuditClient, operator_client::OperatorClient,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, transport::Channel};

use crate::support::{TestCoordinator, TestNode, small_fleet};

/// A request for that name, and its key.
pub fn request(name: &str) -> (AdmitNodeRequest, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let csr_pem = params.serialize_request(&key).unwrap().pem().unwrap();
    (AdmitNodeRequest { csr_pem, ..Default::default() }, key)
}

/// For the table of roles.
pub async fn call(mut operator: OperatorClient<Channel>) -> Result<(), Status> {
    let request = AdmitNodeRequest { replace: true, ..request("km-1").0 };
    operator.admit_node(request).await.map(drop)
}

async fn admit(coordinator: &TestCoordinator, request: AdmitNodeRequest) -> Result<AdmitNodeReply, Status> {
    coordinator.operator().await.admit_node(request).await.map(tonic::Response::into_inner)
}

fn joined(node: &str, reply: AdmitNodeReply, key: &KeyPair) -> TestNode {
    let reply = proto::wire::agent::EnrollReply {
        certificate_pem: reply.certificate_pem,
        authority_pem: reply.authority_pem,
        fleet: reply.fleet,
    };
    TestNode { name: node.to_owned(), reply, key_pem: key.serialize_pem() }
}

#[tokio::test]
async fn an_admitted_host_is_its_node_and_the_record_says_who_said_yes_to_which_key() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&small_fleet("a.example"), None).await;
    let (asked, key) = request("is-1");
    let look = AdmitNodeRequest { look_only: true, ..asked.clone() };
    let looked = admit(&coordinator, look).await.unwrap();
    let fingerprint = Fingerprint::of(&key.subject_public_key_info());
    assert_eq!((looked.node.as_str(), looked.key_sha256.as_slice()), ("is-1", &fingerprint.0[..]));
    assert_eq!((looked.certificate_pem.as_str(), looked.expires_ms), ("", 0), "a look signs nothing");
    let node = coordinator.operator().await.show_node(NodeRequest { node: "is-1".to_owned() }).await.unwrap();
    assert_eq!(node.get_ref().node.as_ref().unwrap().certificate_expires_ms, 0);

    let reply = admit(&coordinator, asked).await.unwrap();
    assert_eq!(reply.address, coordinator.context().address);
    let node = joined("is-1", reply, &key);
    node.session(&coordinator).await.unwrap();
    coordinator.renew(&node).await.unwrap();

    let events = coordinator.events(EventsRequest::default()).await;
    let told = events.iter().find(|event| event.kind == "node-enrolled").unwrap();
    assert_eq!((told.actor.as_str(), told.node.as_str()), ("admin", "is-1"));
    assert!(told.text.contains(&fingerprint.to_string()), "{}", told.text);
    let context = coordinator.context();
    let identity = Some((context.certificate_pem.as_str(), context.key_pem.as_str()));
    let mut audit = AuditClient::new(coordinator.channel(identity).await.unwrap());
    let entries =
        audit.list(ListAuditRequest { most: 100, ..Default::default() }).await.unwrap().into_inner();
    let entries: Vec<_> = entries.collect::<Result<Vec<_>, _>>().await.unwrap();
    let entry = entries.iter().find(|entry| entry.act == "admit-node").unwrap();
    assert!(entry.text.contains(&fingerprint.to_string()) && entry.node == "is-1", "{entry:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_place_that_is_taken_is_given_only_to_who_says_so_and_the_one_before_ends() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&small_fleet("a.example"), None).await;
    let first = coordinator.join("is-1").await;
    let (asked, key) = request("is-1");
    let refused = admit(&coordinator, asked.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("its certificate lives for") && refused.message().contains("--replace"),
        "{refused}"
    );
    coordinator.renew(&first).await.unwrap();

    let mut session = first.session(&coordinator).await.unwrap();
    let look = AdmitNodeRequest { look_only: true, replace: true, ..asked.clone() };
    // Welcomed first, so that it is connected.
    session.next().await.unwrap();
    let looked = admit(&coordinator, look).await.unwrap();
    assert!(looked.replaces.contains("its agent is connected"), "{looked:?}");
    let reply = admit(&coordinator, AdmitNodeRequest { replace: true, ..asked }).await.unwrap();
    while let Ok(Some(_)) = session.next().await {}
    let lost = coordinator.renew(&first).await.err().unwrap();
    assert!(lost.message().contains("replaced by a later enrolment"), "{lost}");
    coordinator.renew(&joined("is-1", reply, &key)).await.unwrap();
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_signs_nothing() {
    let coordinator = TestCoordinator::start().await;
    let (asked, _) = request("is-1");
    let early = admit(&coordinator, asked.clone()).await.unwrap_err();
    assert!(early.message().contains("nothing was applied yet"), "{early}");
    coordinator.apply(&small_fleet("a.example"), None).await;
    let csr = |name: &str| request(name).0;
    for (wrong, code, said) in [
        (csr("is-3"), Code::FailedPrecondition, "is-3 is not declared"),
        (csr("is-3"), Code::FailedPrecondition, "did you mean \"is-1\""),
        (
            AdmitNodeRequest { node: "is-2".into(), ..asked.clone() },
            Code::InvalidArgument,
            "is of is-1, and --node says is-2",
        ),
        (AdmitNodeRequest { node: "../is".into(), ..asked.clone() }, Code::InvalidArgument, "letters"),
        (csr("not a name"), Code::InvalidArgument, "which no node can have"),
        (AdmitNodeRequest { csr_pem: "rubbish".into(), ..asked.clone() }, Code::InvalidArgument, "not valid"),
        (AdmitNodeRequest { csr_pem: "x".repeat(17_000), ..asked.clone() }, Code::InvalidArgument, "at most"),
    ] {
        let refused = admit(&coordinator, wrong).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(said), "{refused}");
    }
    // Neither strangers nor nodes sign, their own request either.
    let node = coordinator.join("is-2").await;
    for (channel, code) in [
        (coordinator.channel(None).await.unwrap(), Code::Unauthenticated),
        (node.channel(&coordinator).await, Code::PermissionDenied),
    ] {
        let refused = OperatorClient::new(channel).admit_node(asked.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let events = coordinator.events(EventsRequest::default()).await;
    assert!(events.iter().all(|event| event.kind != "node-enrolled" || event.node == "is-2"), "{events:?}");
    coordinator.stop().await;
}
