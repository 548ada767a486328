//! How long things took, how long they will take, and what may begin before a window closes.

use super::*;
use crate::words::StepWord;

impl Bench {
    /// As the coordinator does: the rollout that has just ended is kept.
    fn remember(&mut self) {
        self.past.insert(0, self.rollout().steps.clone());
    }

    /// One more rollout, in which these nodes took so many seconds.
    fn took(&mut self, seconds: &[(&str, u64)]) {
        self.apply("before", RestartClass::Restart);
        let mut steps = self.rollout.take().unwrap().steps;
        steps.retain(|name, _| seconds.iter().any(|(known, _)| *known == name.as_str()));
        for (known, time) in seconds {
            let step = steps.get_mut(&name(known)).unwrap();
            step.state = StepState::Ready { generation: Generation(1), at: self.now, restarted: true };
            step.begun = Some(self.now);
            step.spent.restarting = Duration::from_secs(*time);
        }
        self.past.insert(0, steps);
    }

    fn estimate(&self) -> Option<Estimate> {
        estimate(self.rollout(), &self.view(), self.now)
    }
}

#[test]
fn the_time_in_each_state_adds_up_to_what_the_step_took() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=30s min=10s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.run(600);
    let record = &bench.rollout().steps[&name("km-2")];
    assert_eq!(record.begun, Some(Timestamp(101_000)), "until then it waited for km-1");
    let states: Vec<(StepWord, u64)> =
        record.spent.states().map(|(state, time)| (state, time.as_secs())).collect();
    assert_eq!(
        states,
        [(StepWord::Sent, 1), (StepWord::Written, 1), (StepWord::Restarting, 58), (StepWord::Soaking, 10)]
    );
    assert_eq!(record.took(), Some(Duration::from_secs(70)));

    // A way back has its own state, and a step that failed says nothing of how long a restart takes.
    bench.node("km-1").bad.insert(target("bad").bundle);
    bench.apply("bad", RestartClass::Restart);
    bench.run(600);
    let record = &bench.rollout().steps[&name("km-1")];
    assert_eq!((record.state.word().as_str(), record.took()), ("rolled-back", None));
    let returning = record.spent.states().find(|(state, _)| *state == StepWord::Returning);
    assert!(returning.is_some_and(|(_, time)| Duration::from_secs(1) <= time), "{:?}", record.spent);
}

#[test]
fn a_step_that_an_older_rollout_began_does_not_say_how_long_it_takes() {
    let mut bench = Bench::new(&[("km", 1, policy("max=1 soak=0s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.run(40);
    bench.apply("new", RestartClass::Restart);
    bench.run(100);
    let record = &bench.rollout().steps[&name("km-1")];
    assert_eq!((record.state.word().as_str(), record.begun, record.took()), ("ready", None, None));
}

#[test]
fn the_longest_of_the_last_five_restarts_says_how_long_the_next_takes() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1"), &[])]);
    assert_eq!(bench.view().restart_time(&name("km-1")), None);
    bench.took(&[("km-1", 300)]);
    bench.took(&[("km-1", 50), ("km-2", 500)]);
    for seconds in [20, 30, 10] {
        bench.took(&[("km-1", seconds)]);
    }
    let time = |bench: &Bench| bench.view().restart_time(&name("km-1")).map(|time| time.as_secs());
    assert_eq!(time(&bench), Some(300));
    // Rollouts without it do not count, and the sixth is too long ago.
    bench.took(&[("km-2", 5)]);
    assert_eq!(time(&bench), Some(300));
    bench.took(&[("km-1", 40)]);
    assert_eq!(time(&bench), Some(50));
}

/// Groups, the fleet's limit; and the estimate is asked after so many seconds.
type Case<'a> = (&'a [(&'a str, usize, RolloutPolicy, &'a [&'a str])], Option<Share>, &'a [u64]);

#[test]
fn estimates_come_true_where_nothing_fails_or_waits() {
    let cases: [Case<'_>; 6] = [
        (&[("km", 3, policy("max=1 soak=30s min=10s"), &[])], None, &[0, 40, 75, 150]),
        (&[("km", 8, policy("max=3 soak=30s min=10s"), &[])], None, &[0, 100]),
        (&[("km", 8, policy("max=2 wave=4 canary=1 soak=30s min=0s"), &[])], None, &[0, 200]),
        (
            &[
                ("gw", 2, policy("max=1 soak=5s min=0s"), &["km"]),
                ("km", 2, policy("max=2 soak=20s min=0s"), &[]),
            ],
            None,
            &[0, 90],
        ),
        (
            &[("a", 4, policy("max=1 soak=0s min=0s"), &[]), ("b", 6, policy("max=2 soak=0s min=0s"), &[])],
            None,
            &[0, 100],
        ),
        (
            &[("a", 4, policy("max=4 soak=0s min=0s"), &[]), ("b", 4, policy("max=4 soak=0s min=0s"), &[])],
            Some(Share::Count(2)),
            &[0, 100],
        ),
    ];
    for (groups, limit, moments) in cases {
        let mut bench = Bench::new(groups);
        bench.fleet.max_unavailable = limit;
        bench.apply("first", RestartClass::Restart);
        bench.run(10_000);
        bench.remember();
        for seconds in moments {
            bench.apply(&format!("after {seconds}"), RestartClass::Restart);
            bench.run(*seconds);
            let Estimate { left, unknown } = bench.estimate().unwrap();
            assert_eq!(unknown, 0);
            let (left, asked) = (left.unwrap(), bench.now);
            bench.run(10_000);
            let took = bench.rollout().ended.unwrap().since(asked);
            // A look a second, and a look between one step and the next.
            let steps = bench.rollout().steps.len() as u64;
            assert!(
                left <= took + Duration::from_secs(1) && took <= left + Duration::from_secs(2 * steps),
                "{groups:?} after {seconds} s: {left:?} estimated, {took:?} true"
            );
        }
    }
}

#[test]
fn what_is_not_known_is_said_and_counts_like_the_slowest_that_is() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    assert_eq!(bench.estimate(), Some(Estimate { left: None, unknown: 3 }));
    bench.took(&[("km-2", 40)]);
    bench.apply("new", RestartClass::Restart);
    let left = Some(Duration::from_secs(120));
    assert_eq!(bench.estimate(), Some(Estimate { left, unknown: 2 }));
    // Nothing restarts: nothing takes time, and nothing is unknown.
    bench.past.clear();
    bench.apply("comments", RestartClass::None);
    assert_eq!(bench.estimate(), Some(Estimate { left: Some(Duration::ZERO), unknown: 0 }));
    assert_eq!(bench.estimate().unwrap().of_open(), None);
    // Time does not tell when somebody resumes.
    let paused = bench.rollout().pause("lunch", bench.now).unwrap();
    bench.rollout = Some(paused);
    assert_eq!(bench.estimate(), None);
}

#[test]
fn a_restart_that_must_fit_its_window_begins_only_if_it_does() {
    let window = |seconds| {
        let (cron, length) = (Cron::parse("2 * * * *").unwrap(), Duration::from_secs(seconds));
        Window::new(WindowUse::Any, cron, length, "UTC", Overrun::Fit).unwrap()
    };
    let bench = |seconds, expected: Option<u64>| {
        let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s healthy=5m"), &[])]);
        let group = GroupName::parse("km").unwrap();
        bench.groups.get_mut(&group).unwrap().policy.windows = vec![window(seconds)];
        if let Some(seconds) = expected {
            bench.took(&[("km-1", seconds), ("km-2", seconds)]);
        }
        bench.now = Timestamp(119_000);
        bench
    };
    // From 2:00 to 3:40: the first fits, the second would not be through before the end.
    let mut fits = bench(100, Some(60));
    fits.apply("new", RestartClass::Restart);
    check(&fits.run(80), "120s km-1 generation 2");
    assert_eq!(
        fits.waiting(),
        [
            "km: the maintenance window closes in 20s, and km-2 took up to 1m to restart; the next window opens at \
          1970-01-01 01:02 UTC"
        ]
    );
    // Nothing is known: its deadline must fit, so that it has ended one way or the other.
    let mut unknown = bench(100, None);
    unknown.apply("new", RestartClass::Restart);
    unknown.now = Timestamp(120_000);
    assert_eq!(
        unknown.waiting(),
        [
            "km: the maintenance window closes in 1m39s, and km-1 may take up to 5m (healthy_deadline): no restart of \
          it is on record; the next window opens at 1970-01-01 01:02 UTC"
        ]
    );
    let mut unknown = bench(301, None);
    unknown.apply("new", RestartClass::Restart);
    check(&unknown.run(2), "120s km-1 generation 2");
    // A write takes no time to speak of.
    let mut write = bench(60, None);
    write.apply("comments", RestartClass::None);
    check(&write.run(2), "120s km-1 generation 2\n120s km-2 generation 2");
}

#[test]
fn a_node_that_was_away_in_its_wave_soaks_and_is_asked_the_gates_when_it_is_back() {
    let mut bench = Bench::new(&[("km", 3, policy("max=2 wave=1 soak=10s min=0s"), &[])]);
    bench.gates("km", &[("login", GateOn::New, None)]);
    bench.apply("new", RestartClass::Restart);
    bench.node("km-1").connected = false;
    let log = bench.run(1000);
    assert!(!log.contains("km-1"), "{log}");
    // All the others are through, which was seen long ago.
    bench.node("km-1").connected = true;
    let back = bench.now.0 / 1000 + 1;
    check(
        &bench.run(1000),
        &format!(
            "{back}s km-1 generation 2
             {}s gate login km-1
             {}s done",
            back + 70,
            back + 71
        ),
    );
    // One that is bad is found out before its rollout is called done.
    bench.failing.insert("login km-1".to_owned());
    bench.apply("newer", RestartClass::Restart);
    bench.node("km-1").connected = false;
    bench.run(1000);
    bench.node("km-1").connected = true;
    bench.run(1000);
    assert_eq!(bench.rollout().word().as_str(), "rolled-back");
}

#[test]
fn a_rollout_that_waits_for_a_node_that_is_away_has_no_time_left_to_tell() {
    let mut bench = Bench::new(&[("km", 1, policy("max=1 soak=0s min=0s"), &[])]);
    bench.apply("first", RestartClass::Restart);
    bench.run(1_000);
    bench.remember();
    bench.apply("new", RestartClass::Restart);
    bench.run(5);
    let told = |bench: &Bench| bench.estimate().and_then(Estimate::of_open).and_then(|it| it.left);
    assert!(told(&bench).is_some_and(|left| Duration::from_secs(30) < left), "{:?}", bench.estimate());
    // It has not been heard of for longer than a restart ever took.
    bench.node("km-1").connected = false;
    bench.run(400);
    assert!(!bench.rollout().phase.is_end() && !bench.waiting().is_empty());
    assert_eq!(told(&bench), None, "{:?}", bench.estimate());
}
