//! When to look again: never too late, and not for what makes no difference. That no moment is too late is held against
//! every look of every transcript of these tests.

use super::*;
use crate::observed::{Concern, ConcernKind, ProcessIdentity};

/// Without anything due, a day later is as good as the next moment.
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Bench {
    /// Nothing changes before the moment that a look named.
    pub(super) fn check_due(&self, made: &Plan) {
        if made.changed {
            return;
        }
        let last = made.due.map_or_else(|| self.now.after(DAY), |due| Timestamp(due.0 - 1));
        let later = plan(&made.rollout, &self.view(), last);
        assert!(!later.changed, "a look at {last:?}, before {:?}, changes {:#?}", made.due, later.rollout);
        assert_eq!(later.asks, made.asks);
    }

    /// Lets the present settle, and answers in how many milliseconds somebody has to look again.
    fn due_in(&mut self) -> Option<i64> {
        let view = self.view();
        let mut made = plan(self.rollout(), &view, self.now);
        while made.changed {
            let steps: BTreeMap<NodeName, Applied> = made
                .steps
                .iter()
                .map(|step| {
                    (step.node.clone(), Applied { generation: step.generation, bundle: step.target.bundle })
                })
                .collect();
            self.rollout = Some(made.rollout);
            for (name, desired) in steps {
                let node = self.nodes.get_mut(&name).unwrap();
                (node.desired, node.committed) = (Some(desired), self.now);
            }
            made = plan(self.rollout(), &self.view(), self.now);
        }
        self.check_due(&made);
        made.due.map(|due| due.0 - self.now.0)
    }

    fn goes_on(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| drop(self.second()));
    }
}

#[test]
fn a_node_that_says_nothing_is_looked_at_when_its_progress_is_overdue() {
    let mut bench = Bench::new(&[("km", 1, policy("max=1 progress=10m healthy=20m"), &[])]);
    bench.node("km-1").stuck = true;
    bench.apply("new", RestartClass::Restart);
    bench.goes_on(31);
    assert_eq!(bench.due_in(), Some(600_001 - 30_000), "the deadline counts from its commit");
}

#[test]
fn a_soak_ends_at_its_end() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=90s min=0s wave=1"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.goes_on(61);
    assert_eq!(bench.due_in(), Some(90_000));
    bench.goes_on(60);
    assert_eq!(bench.due_in(), Some(30_000));
}

#[test]
fn a_rollout_that_waits_for_its_window_is_looked_at_when_it_opens() {
    let mut bench = Bench::new(&[("km", 1, policy("max=1"), &[])]);
    let group = bench.groups.values_mut().next().unwrap();
    group.policy.windows.push(window(20, WindowUse::Any, Overrun::Finish));
    bench.apply("new", RestartClass::Restart);
    bench.goes_on(5);
    assert_eq!(bench.due_in(), Some(20 * 60_000 - 5_000));
}

#[test]
fn nothing_is_due_while_an_operator_has_paused_and_while_a_promotion_is_waited_for() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.rollout = Some(bench.rollout().pause("lunch", bench.now).unwrap());
    bench.goes_on(5);
    assert_eq!(bench.due_in(), None);

    let mut bench = Bench::new(&[("km", 2, policy("max=1 canary=1 soak=10s min=0s promotion=manual"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.goes_on(80);
    assert_eq!(bench.due_in(), None);
}

#[test]
fn what_a_rollout_does_not_look_at_does_not_make_another_node() {
    let applied = Applied { generation: Generation(1), bundle: target("old").bundle };
    let bench = Bench::new(&[("km", 1, policy("max=1"), &[])]);
    let node = &bench.nodes[&name("km-1")];
    let differs = |change: &dyn Fn(&mut Observed)| {
        let mut observed = healthy(applied);
        change(&mut observed);
        !NodeView { observed: Some(&observed), ..node.view() }.is_as(&node.view())
    };
    let concern = || Concern {
        kind: ConcernKind::JournalUnwritable,
        detail: "1 GB is free".to_owned(),
        remedy: String::new(),
    };
    let process = || ProcessIdentity { pid: 7, start_id: "1".to_owned(), started: Timestamp(1) };
    let of_no_matter: [&dyn Fn(&mut Observed); 8] = [
        &|it| it.concerns.push(concern()),
        &|it| it.process = Some(process()),
        &|it| it.vitals.threads = 100,
        &|it| it.drift_total = 1,
        &|it| it.starts_total = 2,
        &|it| it.health_since = Timestamp(5),
        &|it| it.pack = Some(Digest::of(b"pack")),
        &|it| it.last_output.push("a line".to_owned()),
    ];
    for (index, change) in of_no_matter.iter().enumerate() {
        assert!(!differs(change), "{index}");
    }
    let next = Applied { generation: Generation(2), ..applied };
    let refusal = || Refusal {
        reason: RefusalReason::StartDeadline,
        detail: "not ready in time".to_owned(),
        still_running: None,
    };
    let original = || Original {
        taken: Timestamp(0),
        digest: Digest::of(b"original"),
        before: Generation(1),
        files: 1,
        bytes: 1,
    };
    let of_matter: [&dyn Fn(&mut Observed); 10] = [
        &|it| it.health = Verdict::Unhealthy("ports closed".to_owned()),
        &|it| it.health = Verdict::Unknown(String::new()),
        &|it| it.service = ServiceState::Starting,
        &|it| it.desired = Some(next),
        &|it| it.written = Some(next),
        &|it| it.running = None,
        &|it| it.last_good = Some(next),
        &|it| it.attempted.as_mut().unwrap().done = false,
        &|it| it.attempted.as_mut().unwrap().failure = Some(refusal()),
        &|it| it.original = Some(original()),
    ];
    for (index, change) in of_matter.iter().enumerate() {
        assert!(differs(change), "{index}");
    }
    assert!(!NodeView { connected: false, ..node.view() }.is_as(&node.view()));
    assert!(!NodeView { desired: Some(next), ..node.view() }.is_as(&node.view()));
    assert!(!NodeView { wish: RunWish::Stopped, ..node.view() }.is_as(&node.view()));
    assert!(!NodeView { observed: None, ..node.view() }.is_as(&node.view()));
}
