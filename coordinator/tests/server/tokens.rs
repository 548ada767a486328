//! Join tokens for many nodes in one call.

use std::{collections::BTreeSet, time::Instant};

use fleet::token::JoinToken;
use proto::wire::operator::{CreateTokensRequest, ListAuditRequest, audit_client::AuditClient};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::support::TestCoordinator;

/// Tokens for these nodes of the tests' fleet.
pub fn request(nodes: &[String]) -> CreateTokensRequest {
    CreateTokensRequest { nodes: nodes.to_vec(), fleet: "acme".to_owned(), ..Default::default() }
}

#[tokio::test]
async fn those_without_a_certificate_get_a_token_each_that_lets_only_them_join_once() {
    let coordinator = TestCoordinator::start().await;
    coordinator.join("is-2").await;
    let mut operator = coordinator.operator().await;
    let nodes = ["is-1", "is-2", "is-3"].map(str::to_owned);
    let look = CreateTokensRequest { look_only: true, ..request(&nodes) };
    let seen = operator.create_tokens(look).await.unwrap().into_inner();
    assert_eq!(seen.tokens.iter().map(|it| it.node.as_str()).collect::<Vec<_>>(), ["is-1", "is-3"]);
    assert!(seen.tokens.iter().all(|it| it.token.is_empty()), "a look makes nothing");

    let made = operator.create_tokens(request(&nodes)).await.unwrap().into_inner();
    let tokens: Vec<JoinToken> = made.tokens.iter().map(|it| JoinToken::parse(&it.token).unwrap()).collect();
    let [one, three] = tokens.as_slice() else { panic!("{made:?}") };
    assert_eq!((one.node.as_str(), three.node.as_str()), ("is-1", "is-3"));
    let other = coordinator.enroll_badly("is-3", &one.secret.to_hex()).await;
    assert_eq!(other.code(), Code::PermissionDenied, "{other}");
    coordinator.enroll("is-1", &one.secret.to_hex()).await.unwrap();
    let again = coordinator.enroll_badly("is-1", &one.secret.to_hex()).await;
    assert!(again.message().contains("was used"), "{again}");

    let left = operator.create_tokens(request(&nodes)).await.unwrap().into_inner();
    assert_eq!(left.tokens.iter().map(|it| it.node.as_str()).collect::<Vec<_>>(), ["is-3"]);
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_makes_nothing() {
    let coordinator = TestCoordinator::start().await;
    let mut operator = coordinator.operator().await;
    let one = request(&["is-1".to_owned()]);
    for (wrong, code, said) in [
        (
            CreateTokensRequest { fleet: "other".into(), ..one.clone() },
            Code::FailedPrecondition,
            "keeps the fleet acme",
        ),
        (request(&[]), Code::InvalidArgument, "name 1 to 500"),
        (request(&vec!["is-1".to_owned(); 501]), Code::InvalidArgument, "501 nodes"),
        (request(&["../is".to_owned()]), Code::InvalidArgument, "letters"),
        (
            CreateTokensRequest { valid_seconds: 90 * 86_400, ..one.clone() },
            Code::InvalidArgument,
            "at most 30 days",
        ),
    ] {
        let refused = operator.create_tokens(wrong).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(said), "{refused}");
    }
    let mut anonymous =
        proto::wire::operator::operator_client::OperatorClient::new(coordinator.channel(None).await.unwrap());
    assert_eq!(anonymous.create_tokens(one).await.unwrap_err().code(), Code::Unauthenticated);
    coordinator.stop().await;
}

/// One call, a commit for each 25; and the record of who did what names everybody.
#[tokio::test]
async fn four_hundred_nodes_are_one_call() {
    let coordinator = TestCoordinator::start().await;
    let mut operator = coordinator.operator().await;
    let nodes: Vec<String> = (0..400).map(|n| format!("{}-{n}", "x".repeat(59))).collect();
    let begin = Instant::now();
    let made = operator.create_tokens(request(&nodes)).await.unwrap().into_inner();
    println!("400 tokens in {:?}", begin.elapsed());
    let asked: BTreeSet<&str> = nodes.iter().map(String::as_str).collect();
    let named: BTreeSet<&str> = made.tokens.iter().map(|it| it.node.as_str()).collect();
    assert_eq!(named, asked);
    let secrets: BTreeSet<&str> = made.tokens.iter().map(|it| it.token.as_str()).collect();
    assert_eq!(secrets.len(), 400);

    let context = coordinator.context();
    let identity = Some((context.certificate_pem.as_str(), context.key_pem.as_str()));
    let mut audit = AuditClient::new(coordinator.channel(identity).await.unwrap());
    let entries =
        audit.list(ListAuditRequest { most: 100, ..Default::default() }).await.unwrap().into_inner();
    let entries: Vec<_> = entries.collect::<Result<Vec<_>, _>>().await.unwrap();
    let told: String = entries.iter().map(|entry| format!("{entry:?}")).collect();
    assert_eq!(entries.len(), 16, "one for each commit");
    assert!(
        nodes.iter().all(|node| told.contains(&format!("{node}, ")) || told.contains(&format!("{node}\"")))
    );
    assert!(made.tokens.iter().all(|it| !told.contains(&it.token)), "secrets are recorded nowhere");
    coordinator.stop().await;
}
