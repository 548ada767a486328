use fleet::{ids::Generation, rollout::Target};

use super::*;
use crate::store::rollouts::tests::{node, rollout};

fn plan_of(rollout: Rollout, steps: Vec<Step>) -> Plan {
    Plan { rollout, changed: true, steps, asks: Vec::new(), due: None, waiting: Vec::new() }
}

#[test]
fn an_end_that_skips_ten_thousand_steps_takes_several_commits_and_the_phase_changes_with_the_last() {
    let mut before = rollout(3, 10_000);
    let mut ended = before.rollout.clone();
    ended.phase = Phase::Aborted { why: "wrong pool".to_owned() };
    for step in ended.steps.values_mut() {
        step.state = StepState::Skipped { why: "the rollout aborted before its turn".to_owned() };
    }
    let mut commits = 0;
    while before.rollout != ended {
        let open = Versioned { version: 1, record: before.clone() };
        let next = within_one_commit(&before, plan_of(ended.clone(), Vec::new())).rollout;
        assert_eq!(next.phase.is_end(), next == ended, "it has ended only if no step is left");
        let (record, commit) = rollouts::replace(&open, next);
        assert!(commit.writes.len() <= SHARDS_MAX + 1, "{} writes", commit.writes.len());
        (before, commits) = (record, commits + 1);
        assert!(commits < 20, "each commit takes some");
    }
    assert_eq!(commits, 7, "79 shards, 12 at once");
}

#[test]
fn steps_are_sent_to_as_many_nodes_as_one_commit_takes() {
    let before = rollout(3, 10_000);
    let target = Target { bundle: Digest::of(b"new"), content: Digest::of(b"new"), size: 1 };
    let mut next = before.rollout.clone();
    // One of each shard, and then some of the first.
    let names = (0..79).map(|shard| node(shard * 128)).chain((1..120).map(node));
    let step = |name: NodeName| Step {
        node: name,
        kind: StepKind::Update,
        target,
        generation: Generation(1),
        restarts: true,
        why: String::new(),
    };
    let steps: Vec<Step> = names.map(step).collect();
    for step in &steps {
        let state = StepState::Skipped { why: "stands for in flight".to_owned() };
        next.steps.get_mut(&step.node).unwrap().state = state;
    }
    let limited = within_one_commit(&before, plan_of(next, steps));
    let places = before.places();
    let shards: BTreeSet<u32> = limited.steps.iter().map(|step| places[&step.node]).collect();
    assert_eq!((limited.steps.len(), shards.len()), (STEPS_MAX, SHARDS_MAX));
    let changed =
        limited.rollout.steps.iter().filter(|(name, step)| before.rollout.steps.get(*name) != Some(*step));
    assert_eq!(changed.count(), STEPS_MAX, "those that were not sent are as they were");
}
