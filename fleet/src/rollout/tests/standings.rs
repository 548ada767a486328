//! Where nodes stand: what is in force against what the newest revision wants, and what is in the way.

use super::*;

/// One node of a rollout to "new", from "old" of generation 1.
struct Scene {
    rollout: Rollout,
    desired: Option<Applied>,
    observed: Option<Observed>,
}

fn applied(generation: u64, bundle: &str) -> Applied {
    Applied { generation: Generation(generation), bundle: target(bundle).bundle }
}

impl Scene {
    /// The rollout has begun, and the node was given nothing yet.
    fn before() -> Self {
        let mut bench = Bench::new(&[("km", 1, policy("max=1"), &[])]);
        bench.apply("new", RestartClass::Restart);
        let old = applied(1, "old");
        Self { rollout: bench.rollout().clone(), desired: Some(old), observed: Some(healthy(old)) }
    }

    fn in_phase(phase: Phase) -> Self {
        let mut scene = Self::before();
        scene.rollout.phase = phase;
        scene
    }

    fn step(&mut self) -> &mut StepRecord {
        self.rollout.steps.get_mut(&name("km-1")).unwrap()
    }

    fn observed(&mut self) -> &mut Observed {
        self.observed.as_mut().unwrap()
    }

    /// The word and the reason.
    fn says(&self) -> String {
        self.says_of(Some(&self.rollout))
    }

    fn says_of(&self, rollout: Option<&Rollout>) -> String {
        let standing = standing(&Position {
            node: &name("km-1"),
            wanted: target("new").bundle,
            desired: self.desired,
            observed: self.observed.as_ref(),
            rollout,
        });
        format!("{} {standing}", standing.word())
    }
}

fn why() -> String {
    "because".to_owned()
}

#[test]
fn a_node_that_waits_for_its_turn_is_under_way_until_somebody_pauses() {
    let mut scene = Scene::before();
    assert_eq!(scene.says(), "under-way rollout 1 is under way");
    scene.rollout.paused = Some(Pause { why: why(), at: Timestamp(5) });
    assert_eq!(scene.says(), "behind rollout 1 is paused");
}

#[test]
fn a_rollout_that_ended_early_leaves_nodes_behind_and_is_named() {
    let by = RolloutId(2);
    for (phase, says) in [
        (Phase::Aborted { why: why() }, "behind rollout 1 was aborted"),
        (Phase::RolledBack { why: why() }, "behind rollout 1 was rolled back"),
        (Phase::Failed { why: why() }, "behind rollout 1 failed"),
        (Phase::Superseded { by }, "behind rollout 1 was superseded by rollout 2"),
        (Phase::RollingBack { why: why() }, "under-way rollout 1 is under way"),
        (Phase::Stopping { why: why(), aborted: true }, "under-way rollout 1 is under way"),
        (Phase::Done, "behind no rollout is bringing it there"),
    ] {
        assert_eq!(Scene::in_phase(phase.clone()).says(), says);
        // A pause that was left over says nothing of a rollout that has ended.
        let mut paused = Scene::in_phase(phase);
        paused.rollout.paused = paused.rollout.phase.is_end().then(|| Pause { why: why(), at: Timestamp(5) });
        assert_eq!(paused.says(), says);
    }
}

#[test]
fn a_node_that_has_it_is_on_the_newest_whatever_became_of_the_rollout() {
    for phase in [Phase::Running, Phase::Done, Phase::Aborted { why: why() }, Phase::Failed { why: why() }] {
        let mut scene = Scene::in_phase(phase);
        (scene.desired, scene.observed) = (Some(applied(2, "new")), Some(healthy(applied(2, "new"))));
        assert_eq!(scene.says(), "on-newest ");
        assert_eq!(
            scene.says_of(None),
            "on-newest ",
            "a revision that changed nothing of it has no step of it"
        );
    }
}

#[test]
fn a_node_that_was_left_out_says_why() {
    let mut scene = Scene::in_phase(Phase::Done);
    scene.step().state = StepState::Skipped { why: "it has left the fleet".to_owned() };
    assert_eq!(scene.says(), "behind rollout 1 left it out: it has left the fleet");
    assert_eq!(scene.says_of(None), "behind no rollout is bringing it there");
}

#[test]
fn files_on_disk_are_not_enough_while_the_server_runs_with_older_ones() {
    let mut scene = Scene::before();
    scene.desired = Some(applied(2, "new"));
    scene.observed().desired = scene.desired;
    scene.observed().written = scene.desired;
    assert_eq!(scene.says(), "under-way rollout 1 is under way");
    scene.rollout.phase = Phase::Aborted { why: why() };
    assert_eq!(scene.says(), "behind rollout 1 was aborted");
    scene.rollout.phase = Phase::Done;
    assert_eq!(scene.says(), "behind its server has not restarted with it");
    assert_eq!(scene.says_of(None), "behind its server has not restarted with it");
    // A server that is stopped reads them when it starts.
    scene.observed().running = None;
    assert_eq!(scene.says(), "on-newest ");
}

#[test]
fn an_agent_that_never_reported_is_unknown_not_behind() {
    let mut scene = Scene::in_phase(Phase::Done);
    scene.observed = None;
    assert_eq!(scene.says(), "not-reported its agent has not reported yet");
}

#[test]
fn an_agent_that_knows_more_than_the_store_betrays_a_restored_store() {
    let mut scene = Scene::in_phase(Phase::Done);
    scene.observed().desired = Some(applied(4, "lost"));
    let tail = "the store is older than its agents; apply again";
    let newer =
        format!("store-older its agent has accepted generation 4, and the store knows only 1: {tail}");
    assert_eq!(scene.says(), newer);
    // The number that the restored store gave again, for something else.
    scene.observed().desired = Some(applied(1, "lost"));
    let again =
        "store-older its agent has accepted another generation 1 than the store has: ".to_owned() + tail;
    assert_eq!(scene.says(), again);
    scene.desired = None;
    let none = format!("store-older its agent has accepted generation 1, and the store knows none: {tail}");
    assert_eq!(scene.says(), none);
    // An assignment that is on its way is no sign of it.
    (scene.desired, scene.observed) = (Some(applied(2, "new")), Some(healthy(applied(1, "old"))));
    assert!(!scene.says().starts_with("store-older"), "{}", scene.says());
}

#[test]
fn agents_that_know_more_than_a_restored_store_are_not_counted_as_down() {
    let (group, newer) = (GroupName::parse("km").unwrap(), healthy(applied(4, "lost")));
    let view = |desired| NodeView {
        group: &group,
        host: "h1",
        zone: None,
        connected: true,
        desired: Some(applied(desired, "old")),
        wish: RunWish::Running,
        observed: Some(&newer),
    };
    // Two such nodes would wait for each other for ever: each served, and both were taken for nodes that still change.
    assert!(view(1).is_available());
    assert!(!view(5).is_available(), "what was committed has not happened yet");
}
