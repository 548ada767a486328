//! Fleets that ask for signatures, and callers that have none: what is refused, and that it is recorded. Real signatures
//! are for the end-to-end tests.

use std::collections::BTreeMap;

use fleet::{access::Role, audit::Outcome};
use proto::wire::operator::{self as wire, operator_client::OperatorClient, upload::Part};
use tonic::{Code, Status};

use crate::{
    audit::entries,
    operators::{Person, added, hostname, two_groups},
    support::{TestCoordinator, upload},
};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE/mSM43XW2wqo7RNF0Kcf6SMDl1gkX2NwT1EL/pvXK ann";

/// Two groups of a fleet that lists a key.
fn signing(km: &str, required: bool) -> BTreeMap<String, String> {
    let mut files = two_groups(&hostname(km), &hostname("b"));
    let rules = format!("[signatures]\nrequired = {required}\nkeys = [{KEY:?}]\n");
    files.get_mut("fleet.toml").unwrap().push_str(&rules);
    files
}

async fn send(
    coordinator: &TestCoordinator,
    who: &Person,
    files: &BTreeMap<String, String>,
    change: impl FnOnce(&mut wire::UploadHeader),
) -> Result<wire::ApplyReply, Status> {
    let mut messages = upload(files, None);
    if let Some(Part::Header(header)) = &mut messages[0].part {
        change(header);
    }
    let mut operator = OperatorClient::new(who.channel(coordinator).await);
    Ok(operator.apply(tokio_stream::iter(messages)).await?.into_inner())
}

#[tokio::test]
async fn what_has_no_signature_is_refused_whatever_else_is_said_and_recorded() {
    let coordinator = TestCoordinator::start().await;
    let alice = added(&coordinator, "alice", Role::Operator, &[]).await;
    let first = send(&coordinator, &alice, &signing("one", true), |_| ()).await.unwrap();
    assert_eq!((first.revision, first.refused), (1, false), "the first list needs no signature: {first:?}");

    let asks = "the fleet asks for a signature by the SSH key ann";
    let sent = async |files: BTreeMap<String, String>, change: fn(&mut wire::UploadHeader)| {
        let reply = send(&coordinator, &alice, &files, change).await.unwrap();
        assert!(reply.refused && reply.revision == 0 && reply.rollout == 0, "{reply:?}");
        reply.refusal
    };
    assert!(sent(signing("two", true), |_| ()).await.contains(asks));
    assert!(sent(signing("two", true), |it| "fire".clone_into(&mut it.break_glass)).await.contains(asks));
    // Nor does the rule end without one.
    assert!(sent(signing("one", false), |_| ()).await.contains(asks));
    assert!(sent(two_groups(&hostname("one"), &hostname("b")), |_| ()).await.contains(asks));
    let unnamed = sent(signing("two", true), |it| "x".clone_into(&mut it.signature)).await;
    assert!(unnamed.contains("a signature is for one revision"), "{unnamed}");
    let nonsense = sent(signing("two", true), |it| {
        it.parent = Some(1);
        "x".clone_into(&mut it.signature);
    });
    assert!(nonsense.await.contains("neither an SSH nor a minisign signature"));
    let large = |it: &mut wire::UploadHeader| it.signature = "x".repeat(5000);
    let large = send(&coordinator, &alice, &signing("two", true), large).await.unwrap_err();
    assert_eq!(large.code(), Code::InvalidArgument, "{large:?}");

    assert_eq!(coordinator.status().await.revision, 1);
    let refused = entries(&coordinator).await.unwrap().into_iter().map(|(entry, _)| entry.outcome);
    let refused = refused.filter(|outcome| matches!(outcome, Outcome::Refused { why } if why.contains(asks)));
    assert_eq!(refused.count(), 4);
}

#[tokio::test]
async fn a_signature_where_nobody_may_sign_is_no_ornament() {
    let coordinator = TestCoordinator::start().await;
    let alice = added(&coordinator, "alice", Role::Operator, &[]).await;
    let files = two_groups(&hostname("one"), &hostname("b"));
    let signed = |it: &mut wire::UploadHeader| {
        it.parent = Some(0);
        "x".clone_into(&mut it.signature);
    };
    let reply = send(&coordinator, &alice, &files, signed).await.unwrap();
    assert!(reply.refusal.contains("the fleet lists no key that may sign"), "{reply:?}");
}

#[tokio::test]
async fn the_list_of_keys_is_the_whole_fleets() {
    let coordinator = TestCoordinator::start().await;
    let alice = added(&coordinator, "alice", Role::Operator, &[]).await;
    let carol = added(&coordinator, "carol", Role::Operator, &["km"]).await;
    let first = send(&coordinator, &alice, &two_groups(&hostname("one"), &hostname("b")), |_| ()).await;
    assert_eq!(first.unwrap().revision, 1);
    let denied = send(&coordinator, &carol, &signing("one", false), |_| ()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    let brought = send(&coordinator, &alice, &signing("one", false), |_| ()).await.unwrap();
    assert_eq!((brought.revision, brought.refused), (2, false), "{brought:?}");
}
