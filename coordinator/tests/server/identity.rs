//! Who gets a certificate, and what it opens: over real TLS against the whole coordinator.

use crate::support::{TestCoordinator, small_fleet};
use proto::wire::{
    agent::{
        FetchRequest, Heartbeat, RenewRequest, agent_link_client::AgentLinkClient,
        enrolment_client::EnrolmentClient, from_agent, to_agent,
    },
    operator::{CreateTokenRequest, operator_client::OperatorClient},
};
use tonic::Code;

#[tokio::test]
async fn a_token_lets_its_node_join_once() {
    let coordinator = TestCoordinator::start().await;
    let token = coordinator.token("is-1", 60).await;
    let node = coordinator.enroll("is-1", &token.secret.to_hex()).await.unwrap();
    assert_eq!(node.reply.fleet, "acme");
    assert_eq!(node.reply.authority_pem, coordinator.context().authority_pem);
    let mut session = node.session(&coordinator).await.unwrap();
    let welcome = session.until(|message| match message {
        to_agent::Message::Welcome(welcome) => Some(welcome),
        _ => None,
    });
    let welcome = welcome.await;
    assert_eq!((welcome.fleet.as_str(), welcome.fleet_epoch.len()), ("acme", 16));
    session.say(from_agent::Message::Heartbeat(Heartbeat { seq: 7, ..Heartbeat::default() })).await;
    let reply = session.until(|message| match message {
        to_agent::Message::Heartbeat(reply) => Some(reply),
        _ => None,
    });
    assert_eq!(reply.await.seq, 7);

    let again = coordinator.enroll("is-1", &token.secret.to_hex()).await.err().unwrap();
    assert_eq!(again.code(), Code::PermissionDenied);
    assert!(again.message().contains("was used"), "{again}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_wrong_expired_or_foreign_token_is_refused_in_its_own_words() {
    let coordinator = TestCoordinator::start().await;
    let token = coordinator.token("is-1", 60).await;
    let expired = coordinator.token("is-2", 1).await;
    let refusal = async |node: &str, secret: &str| {
        let status = coordinator.enroll(node, secret).await.err().unwrap();
        assert_eq!(status.code(), Code::PermissionDenied);
        status.message().to_owned()
    };
    assert!(refusal("is-1", &"0".repeat(64)).await.contains("not known"));
    assert!(refusal("is-1", "nonsense").await.contains("not known"));
    assert!(refusal("is-2", &token.secret.to_hex()).await.contains("another node"));
    let told = loop {
        // The token's second has to pass; until then its only fault is that we try the wrong request.
        let status = coordinator.enroll_badly("is-2", &expired.secret.to_hex()).await;
        if status.code() == Code::PermissionDenied {
            break status.message().to_owned();
        }
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(told.contains("expired"), "{told}");
    // None of these used the good token up.
    coordinator.enroll("is-1", &token.secret.to_hex()).await.unwrap();
    coordinator.stop().await;
}

#[tokio::test]
async fn a_doubtful_token_is_told_about_and_one_that_lasts_too_long_is_refused() {
    let coordinator = TestCoordinator::start().await;
    let mut operator = coordinator.operator().await;
    let request =
        |node: &str, days: u64| CreateTokenRequest { node: node.into(), valid_seconds: days * 86_400 };
    let before = operator.create_token(request("is-9", 30)).await.unwrap().into_inner();
    assert_eq!(before.warnings, Vec::<String>::new(), "nothing was applied yet");
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    let known = operator.create_token(request("is-2", 1)).await.unwrap().into_inner();
    assert_eq!(known.warnings, Vec::<String>::new());
    let unknown = operator.create_token(request("is-22", 1)).await.unwrap().into_inner();
    assert!(
        unknown.warnings[0].starts_with("revision 1 has no node is-22; did you mean \"is-2\""),
        "{unknown:?}"
    );

    let refused = operator.create_token(request("is-1", 90)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("at most 30 days, not for 90 days;"), "{refused}");
    coordinator.stop().await;
}

#[tokio::test]
async fn each_certificate_opens_its_own_doors_only() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let request = || CreateTokenRequest { node: "is-9".into(), valid_seconds: 0 };

    let mut as_node = OperatorClient::new(node.channel(&coordinator).await);
    assert_eq!(as_node.create_token(request()).await.unwrap_err().code(), Code::PermissionDenied);
    let anonymous = coordinator.channel(None).await.unwrap();
    let mut as_nobody = OperatorClient::new(anonymous.clone());
    assert_eq!(as_nobody.create_token(request()).await.unwrap_err().code(), Code::Unauthenticated);
    let fetch = || FetchRequest { digests: vec![vec![0; 32]] };
    let mut as_nobody = AgentLinkClient::new(anonymous.clone());
    assert_eq!(as_nobody.fetch(fetch()).await.unwrap_err().code(), Code::Unauthenticated);
    let renew = || RenewRequest { csr_pem: String::new() };
    let mut as_nobody = EnrolmentClient::new(anonymous);
    assert_eq!(as_nobody.renew(renew()).await.unwrap_err().code(), Code::Unauthenticated);

    let context = coordinator.context();
    let identity = Some((context.certificate_pem.as_str(), context.key_pem.as_str()));
    let mut as_operator = AgentLinkClient::new(coordinator.channel(identity).await.unwrap());
    assert_eq!(as_operator.fetch(fetch()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut as_node = AgentLinkClient::new(node.channel(&coordinator).await);
    let other = as_node.fetch(fetch()).await.unwrap_err();
    assert!(other.code() == Code::PermissionDenied && other.message().contains("not part of"), "{other}");
    coordinator.stop().await;
}

#[tokio::test]
async fn joining_again_replaces_the_old_certificate_and_ends_its_session() {
    let coordinator = TestCoordinator::start().await;
    let old = coordinator.join("is-1").await;
    let mut session = old.session(&coordinator).await.unwrap();
    session.until(|message| matches!(message, to_agent::Message::Welcome(_)).then_some(())).await;
    let new = coordinator.join("is-1").await;
    // It is told either by the enrolment or by the changed record, whichever its session sees first.
    let told = loop {
        match session.next().await {
            Ok(Some(to_agent::Message::Leave(leave))) => break leave.why,
            Ok(message) => assert!(message.is_some(), "the stream ended without a word"),
            Err(status) => break status.message().to_owned(),
        }
    };
    assert!(told.contains("enrolled again") || told.contains("replaced by a later enrolment"), "{told}");
    let mut refused = old.session(&coordinator).await.unwrap();
    let status = refused.next().await.unwrap_err();
    assert!(status.message().contains("replaced by a later enrolment"), "{status}");
    // What `convoy-agent doctor` asks: whether somebody with this certificate may ask for anything.
    let nothing = FetchRequest::default();
    let refused =
        AgentLinkClient::new(old.channel(&coordinator).await).fetch(nothing.clone()).await.err().unwrap();
    assert!(refused.message().contains("replaced by a later enrolment"), "{refused}");
    AgentLinkClient::new(new.channel(&coordinator).await).fetch(nothing).await.unwrap();
    let mut session = new.session(&coordinator).await.unwrap();
    session.until(|message| matches!(message, to_agent::Message::Welcome(_)).then_some(())).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_works_and_so_does_the_one_before() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let renewed = coordinator.renew(&node).await.unwrap();
    for certificate in [&node, &renewed] {
        let mut session = certificate.session(&coordinator).await.unwrap();
        session.until(|message| matches!(message, to_agent::Message::Welcome(_)).then_some(())).await;
    }
    // Two renewals later the first one is gone.
    coordinator.renew(&renewed).await.unwrap();
    let gone = coordinator.renew(&node).await.err().unwrap();
    assert!(gone.message().contains("replaced"), "{gone}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_identity_and_the_first_operator() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let (before, epoch) = (coordinator.context(), node.epoch(&coordinator).await);
    let dir = coordinator.stop().await;
    let coordinator = TestCoordinator::start_in(dir, "").await;
    let after = coordinator.context();
    assert_eq!((before.key_pem, before.authority_pem), (after.key_pem, after.authority_pem));
    assert_eq!(node.epoch(&coordinator).await, epoch);
    coordinator.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn what_holds_secrets_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let coordinator = TestCoordinator::start().await;
    for file in ["ca/authority.pem", "operator/context.toml", "store.redb"] {
        let mode = std::fs::metadata(coordinator.data(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mode = std::fs::metadata(coordinator.data("")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_its_certificate() {
    let coordinator =
        TestCoordinator::start_in(tempfile::tempdir().unwrap().into(), "[certificates]\nnode = \"2s\"\n")
            .await;
    let node = coordinator.join("is-1").await;
    let mut session = node.session(&coordinator).await.unwrap();
    let told = session.until(|message| match message {
        to_agent::Message::Leave(leave) => Some(leave.why),
        _ => None,
    });
    assert!(told.await.contains("certificate has expired"));
    assert!(coordinator.renew(&node).await.is_err(), "an expired certificate opens a connection");
    coordinator.stop().await;
}

#[tokio::test]
async fn the_server_certificate_is_renewed_without_a_restart() {
    let coordinator =
        TestCoordinator::start_in(tempfile::tempdir().unwrap().into(), "[certificates]\nserver = \"2s\"\n")
            .await;
    let node = coordinator.join("is-1").await;
    let mut session = node.session(&coordinator).await.unwrap();
    session.until(|message| matches!(message, to_agent::Message::Welcome(_)).then_some(())).await;
    // Beyond the end of the certificate that the coordinator started with.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    coordinator.join("is-2").await;
    session.say(from_agent::Message::Heartbeat(Heartbeat { seq: 1, ..Heartbeat::default() })).await;
    session.until(|message| matches!(message, to_agent::Message::Heartbeat(_)).then_some(())).await;
    coordinator.stop().await;
}
