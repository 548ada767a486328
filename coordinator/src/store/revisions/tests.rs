use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet::{
    alert::{AlertPolicy, Route, Rule, Severity, Tuning},
    approval::ApprovalRules,
    ids::{ChannelName, GroupName, NodeName, OperatorName, ProposalId, ZoneName},
    origin::Origin,
    signature::{Signature, SignatureRules, SigningKey},
    spec::SecretName,
    time::Timestamp,
};
use prost::Message as _;
use proto::wire::store as wire;

use super::*;
use crate::store::{
    Memory, Range, Transaction,
    records::{Sanction, SecretUses, Target},
    rollouts::tests::{ENTRY_MAX, node},
};

const LARGE: u32 = 10_000;

fn signing_key() -> SigningKey {
    SigningKey::parse("RWR0LHOTuYE0Fh1cnwTsACt+aQyFywqA78B1wxJJZpiknN27qy1diJG+ release").unwrap()
}

fn target(content: &str, number: u32) -> Target {
    Target {
        bundle: Digest::of(content.as_bytes()),
        content: Digest::of(content.as_bytes()),
        content_size: 40_000,
        group: GroupName::parse("gateway-frankfurt").unwrap(),
        host: format!("gateway-{number:05}.frankfurt.acme.internal"),
        zone: Some(ZoneName::parse("frankfurt").unwrap()),
        product: "wso2am-4.5".to_owned(),
    }
}

fn origin() -> Origin {
    Origin::new(&"1a".repeat(20), "main", "Ann <ann@acme.example>", 3).unwrap()
}

/// With a file and two secrets of its own for each node, and every tenth left out.
pub(crate) fn revision(number: u64, nodes: u32) -> RevisionRecord {
    let secrets = |number: u32| -> BTreeSet<SecretName> {
        let names = ["database".to_owned(), format!("keystore-{number}")];
        names.iter().map(|name| SecretName::parse(name).unwrap()).collect()
    };
    RevisionRecord {
        number: Revision(number),
        parent: Revision(number - 1),
        author: "ops@acme.example".to_owned(),
        message: "A larger pool for the shared database".to_owned(),
        created: Timestamp(1_800_000_000_000),
        sources: (0..nodes).map(|index| (format!("nodes/{index}.toml"), Digest::of(b"node"))).collect(),
        nodes: (0..nodes).map(|index| (node(index), target("new", index))).collect(),
        rolls_back_to: None,
        rules: None,
        left_out: (0..nodes).step_by(10).map(node).collect(),
        secrets: Some(SecretUses::new((0..nodes).map(|index| (node(index), secrets(index))))),
        origin: Some(origin()),
        approval: ApprovalRules {
            fleet: true,
            groups: [GroupName::parse("gateway-frankfurt").unwrap()].into(),
            ..ApprovalRules::default()
        },
        alerts: AlertPolicy {
            tuned: [(
                Rule::ServerDown,
                Tuning { hold: Some(Duration::from_secs(120)), severity: Some(Severity::Warning) },
            )]
            .into(),
            routes: vec![Route {
                channels: [ChannelName::parse("pager").unwrap()].into(),
                groups: [GroupName::parse("gateway-frankfurt").unwrap()].into(),
                rules: [Rule::ServerDown].into(),
                least: Severity::Critical,
            }],
        },
        sanction: Sanction::Approved { by: OperatorName::parse("bob").unwrap(), proposal: ProposalId(3) },
        signatures: SignatureRules { required: true, keys: vec![signing_key()] },
        signed: Some(Signature {
            key: signing_key(),
            statement: "convoy apply v1\n".to_owned(),
            text: "a signature\n".to_owned(),
        }),
    }
}

async fn keep(store: &dyn Store, revision: &RevisionRecord) {
    let (head, parts) = revision.split();
    let missing = missing_parts(store, parts).await.unwrap();
    put_parts(store, missing).await.unwrap();
    store.commit(Transaction::default().put(Key::revision(revision.number), head.encode())).await.unwrap();
}

/// Parts of `next` that `before` does not have, and the bytes that they and the head take.
fn written(before: &RevisionRecord, next: &RevisionRecord) -> (usize, usize) {
    let (before, (head, parts)) = (before.split().1, next.split());
    let new: BTreeMap<_, _> = parts.iter().filter(|(digest, _)| !before.contains_key(*digest)).collect();
    (new.len(), head.encode().len() + new.values().map(|part| part.len()).sum::<usize>())
}

/// A revision in which one node gets something else.
fn changed(revision: &RevisionRecord, name: &NodeName) -> RevisionRecord {
    let mut next = revision.clone();
    next.nodes.insert(name.clone(), target("other", 7));
    next
}

#[tokio::test]
async fn a_revision_of_any_size_comes_back_whole_and_no_value_is_large() {
    for nodes in [0, 1, 128, 129, LARGE] {
        let (store, revision) = (Memory::new(), revision(7, nodes));
        keep(&store, &revision).await;
        assert_eq!(read(&store, Revision(7)).await.unwrap().unwrap(), revision, "{nodes} nodes");
        let all = store.range(Range::first("", usize::MAX)).await.unwrap();
        let largest = all.iter().map(|entry| entry.value.len()).max().unwrap();
        println!("{nodes} nodes: {} values of up to {largest} bytes", all.len());
        assert!(largest < ENTRY_MAX / 4, "{nodes} nodes: {largest} bytes");
    }
    assert!(read(&Memory::new(), Revision(7)).await.unwrap().is_none());
}

#[test]
fn a_revision_without_known_secrets_is_not_one_without_secrets() {
    let unknown = RevisionRecord { secrets: None, ..revision(7, 3) };
    let none = RevisionRecord { secrets: Some(SecretUses::default()), ..revision(7, 3) };
    for revision in [unknown, none] {
        let (head, parts) = revision.split();
        let parts = parts.values().map(|part| {
            RevisionPart::from_wire(wire::RevisionPart::decode(part.as_slice()).unwrap()).unwrap()
        });
        assert_eq!(head.with(parts), revision);
    }
}

#[test]
fn what_did_not_change_is_stored_once() {
    let (small, large) = (revision(7, 100), revision(7, LARGE));
    let (_, at_small) = written(&small, &changed(&small, &node(50)));
    let (parts, at_large) = written(&large, &changed(&large, &node(5_000)));
    println!("one change writes {at_small} bytes at 100 nodes and {at_large} at {LARGE}");
    assert_eq!(parts, 1);
    assert!(at_large <= 2 * at_small, "{at_small} and {at_large}");
    // A new node moves no other one.
    let mut grown = large.clone();
    grown.nodes.insert(NodeName::parse("a-new-one").unwrap(), target("new", 1));
    assert_eq!(written(&large, &grown).0, 1);
    let again = RevisionRecord { number: Revision(8), message: "Again".to_owned(), ..large.clone() };
    assert_eq!(written(&large, &again).0, 0);
}

#[tokio::test]
async fn a_part_that_is_missing_or_damaged_is_an_error_and_never_a_smaller_revision() {
    let (store, revision) = (Memory::new(), revision(7, 300));
    keep(&store, &revision).await;
    let lost = *revision.split().0.parts().first().unwrap();
    store.commit(Transaction::default().put(Key::part(&lost), "something else")).await.unwrap();
    read(&store, Revision(7)).await.unwrap_err();
    store.commit(Transaction::default().delete(Key::part(&lost))).await.unwrap();
    read(&store, Revision(7)).await.unwrap_err();
    // Whoever applies the same again mends it.
    keep(&store, &revision).await;
    assert_eq!(read(&store, Revision(7)).await.unwrap().unwrap(), revision);
}

#[tokio::test]
async fn a_revision_of_a_version_without_parts_is_read() {
    let (store, revision) = (Memory::new(), revision(7, 300));
    let (head, parts) = revision.split();
    let mut old = head.to_wire();
    old.parts.clear();
    old.left_out = revision.left_out.iter().map(ToString::to_string).collect();
    for part in parts.values() {
        let part = wire::RevisionPart::decode(part.as_slice()).unwrap();
        old.nodes.extend(part.nodes);
        old.sources.extend(part.sources);
        old.secrets.as_mut().unwrap().uses.extend(part.secrets.unwrap().uses);
    }
    store.commit(Transaction::default().put(Key::revision(Revision(7)), old.encode_to_vec())).await.unwrap();
    assert_eq!(read(&store, Revision(7)).await.unwrap().unwrap(), revision);
}
