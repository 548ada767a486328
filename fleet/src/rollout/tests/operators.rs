//! What operators say while a rollout runs.

use super::*;

#[test]
fn pausing_stops_what_is_new_and_resuming_goes_on() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.second();
    bench.rollout = Some(bench.rollout().pause("lunch", bench.now).unwrap());
    assert!(bench.rollout().pause("again", bench.now).is_err());
    bench.run(200);
    assert_eq!(bench.waiting(), ["paused: lunch"]);
    assert_eq!(bench.rollout().progress(), (1, 2));
    bench.rollout = Some(bench.rollout().resume(bench.now).unwrap());
    check(
        &bench.run(100),
        "203s km-2 generation 2
         263s done",
    );
    let refused = bench.rollout().abort(Abort::Leave, "late").unwrap_err();
    assert_eq!(refused.to_string(), "rollout 1 has ended: done; apply again to start another");
}

#[test]
fn an_abort_leaves_or_returns_by_choice() {
    let abort = |how| {
        let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
        bench.apply("new", RestartClass::Restart);
        bench.run(61);
        bench.log.clear();
        bench.rollout = Some(bench.rollout().abort(how, "wrong file").unwrap());
        bench.run(900)
    };
    check(&abort(Abort::Leave), "121s aborted: wrong file");
    check(
        &abort(Abort::Return),
        "62s km-2 back generation 3
         63s km-1 back generation 3
         123s rolled-back: wrong file",
    );
}

#[test]
fn a_manual_canary_waits_for_its_promotion() {
    let mut bench = Bench::new(&[("km", 2, policy("canary=1 promotion=manual soak=30s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    assert!(bench.rollout().promote().is_err());
    bench.run(200);
    assert_eq!(bench.waiting(), ["km: the canary is ready; go on with `convoy rollout promote`"]);
    bench.rollout = Some(bench.rollout().promote().unwrap());
    check(&bench.run(1), "202s km-2 generation 2");
}
