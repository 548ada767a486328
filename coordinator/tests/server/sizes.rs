//! What the store holds for a revision and for a step: printed, and bounded where a limit rests on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use coordinator::store::{
    VALUE_MAX,
    records::{
        Assigned, NodeRecord, Record as _, RevisionRecord, RolloutRecord, Sanction, ShardRecord, Target,
    },
};
use fleet::{
    approval::ApprovalRules,
    bundle::RestartClass,
    ids::{Digest, Generation, GroupName, NodeName, Revision, RolloutId, ZoneName},
    rollout::{
        FleetPolicy, FleetView, GroupGoal, NewRollout, NodeGoal, RolloutRules, Spent, StepState,
        Target as StepTarget,
    },
    signature::SignatureRules,
    time::Timestamp,
};

const NODES: u32 = 2_500;

fn node(index: u32) -> NodeName {
    NodeName::parse(&format!("gateway-frankfurt-{index:05}")).unwrap()
}

fn step_target(text: &str) -> StepTarget {
    StepTarget { bundle: Digest::of(text.as_bytes()), content: Digest::of(text.as_bytes()), size: 40_000 }
}

fn target(text: &str, index: u32) -> Target {
    Target {
        bundle: Digest::of(text.as_bytes()),
        content: Digest::of(text.as_bytes()),
        content_size: 40_000,
        group: GroupName::parse("gateway-frankfurt").unwrap(),
        host: format!("gateway-{index:05}.frankfurt.acme.internal"),
        zone: Some(ZoneName::parse("frankfurt").unwrap()),
        product: "wso2am-4.5".to_owned(),
    }
}

fn revision(nodes: u32) -> RevisionRecord {
    RevisionRecord {
        number: Revision(7),
        parent: Revision(6),
        author: "ops@acme.example".to_owned(),
        message: "A larger pool for the shared database".to_owned(),
        created: Timestamp(1_800_000_000_000),
        sources: (0..20).map(|index| (format!("config/layer-{index}.toml"), Digest::of(b"layer"))).collect(),
        nodes: (0..nodes).map(|index| (node(index), target("new", index))).collect(),
        rolls_back_to: None,
        rules: None,
        left_out: BTreeSet::new(),
        secrets: None,
        origin: None,
        approval: ApprovalRules::default(),
        alerts: fleet::alert::AlertPolicy::default(),
        sanction: Sanction::None,
        signatures: SignatureRules::default(),
        signed: None,
    }
}

/// Every step ended, with all that a step keeps.
fn rollout(nodes: u32) -> RolloutRecord {
    let group = GroupName::parse("gateway-frankfurt").unwrap();
    let goal = NodeGoal {
        group: group.clone(),
        target: step_target("new"),
        restart: RestartClass::Restart,
        compared_with: Some(Digest::of(b"old")),
        last_good: Some(step_target("old")),
    };
    let new = NewRollout {
        id: RolloutId(12),
        revision: Revision(7),
        at: Timestamp(1_800_000_000_000),
        rules: RolloutRules {
            policy: FleetPolicy::default(),
            groups: BTreeMap::from([(group, GroupGoal::default())]),
        },
        nodes: (0..nodes).map(|index| (node(index), goal.clone())).collect(),
        windows_overridden: None,
    };
    let mut rollout = new.create(&FleetView::default());
    for step in rollout.steps.values_mut() {
        let at = Timestamp(1_800_000_090_000);
        step.state = StepState::Ready { generation: Generation(300), at, restarted: true };
        step.begun = Some(Timestamp(1_800_000_000_000));
        let time = Duration::from_millis(45_678);
        step.spent = Spent { sent: time, written: time, restarting: time, soaking: time, returning: time };
    }
    let (author, message) = ("ops@acme.example".to_owned(), "A larger pool".to_owned());
    RolloutRecord::new(rollout, (author, message), None)
}

#[test]
fn a_shard_of_a_rollout_has_room_to_its_end() {
    let per_node = |whole: usize| whole / NODES as usize;
    let (head, parts) = revision(NODES).split();
    let parts: Vec<usize> = parts.values().map(Vec::len).collect();
    println!(
        "revision: {} bytes, and {} parts of up to {} bytes, {} per node",
        head.encode().len(),
        parts.len(),
        parts.iter().max().unwrap(),
        per_node(parts.iter().sum())
    );
    let rollout = rollout(NODES);
    let shards: Vec<usize> = rollout.shards().iter().map(|shard| ShardRecord::encoded(shard).len()).collect();
    let steps: usize = shards.iter().sum();
    let largest = shards.iter().copied().max().unwrap();
    println!(
        "rollout: {} bytes, and {} shards of up to {largest} bytes, {} per step",
        rollout.encode().len(),
        shards.len(),
        per_node(steps)
    );
    let mut record = NodeRecord::new(node(1));
    let mut sizes = Vec::new();
    for number in 1..=20 {
        record.assign(Assigned {
            generation: Generation(number),
            revision: Revision(number),
            target: target(&format!("bundle {number}"), 1),
            why: "revision 7, rollout 12".to_owned(),
            trace: None,
        });
        sizes.push(record.encode().len());
    }
    println!("node: {} bytes after its first step, {} after twenty", sizes[0], sizes[19]);
    // The rest of what fits is for why steps failed.
    assert!(2 * largest <= VALUE_MAX / 3, "a shard takes {largest} bytes");
    // What a node keeps of its past is bounded.
    assert_eq!(sizes[18], sizes[19]);
}
