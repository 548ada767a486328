//! From an assignment to a server that is ready with it, and back when it is not.

use anyhow::Result;
use fleet::{
    bundle::{DriftPolicy, RestartClass, RunState},
    ids::Generation,
    observed::{RefusalReason, ServiceState, Stage},
};

use crate::rig::{CONFIG, LOGGING, Rig};

#[tokio::test]
async fn a_first_assignment_brings_the_server_up() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted().with_config("\n# first\n");
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let observed = rig.ready(generation).await?;
    assert_eq!(observed.starts_total, 1);
    assert_eq!(
        observed.attempted.as_ref().map(|attempt| (attempt.stage, attempt.done)),
        Some((Stage::Ready, true))
    );
    assert!(rig.read(CONFIG).ends_with("# first\n"));
    assert_eq!(rig.read(LOGGING), "rootLogger.level = INFO\n");
    assert!(observed.pack.is_some());
    Ok(())
}

#[tokio::test]
async fn only_a_change_of_meaning_restarts_the_server() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let first = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(first).await?;

    let comment = wanted.with_config("\n# a comment\n").with_file(LOGGING, "x = DEBUG\n", RestartClass::Hot);
    let second = rig.assign(&comment, RunState::Running).await?;
    let after = rig.ready(second).await?;
    assert_eq!(after.process, before.process, "comments and live logging restart nothing");
    assert!(rig.read(CONFIG).ends_with("# a comment\n"));

    let changed = comment.with_config("\n[extra]\nkey = \"value\"\n");
    let third = rig.assign(&changed, RunState::Running).await?;
    let restarted = rig.ready(third).await?;
    assert_ne!(restarted.process, before.process);
    assert_eq!(restarted.starts_total, 2);
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_does_not_start_goes_back_to_the_last_good_once() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let misbehaviour = convoy_tests::standin::Misbehaviour {
        start_fails_if_toml_contains: Some("poison".to_owned()),
        ..Default::default()
    };
    rig.pack.misbehave(&misbehaviour)?;
    let good = rig.wanted();
    let first = rig.assign(&good, RunState::Running).await?;
    rig.ready(first).await?;
    let bad = good.with_config("\n[poison]\nkey = 1\n");
    let second = rig.assign(&bad, RunState::Running).await?;
    let observed = rig
        .until("the node to be back on the first generation", |observed| {
            observed
                .attempted
                .as_ref()
                .is_some_and(|attempt| attempt.done && attempt.target.generation == second)
                && observed.running.is_some_and(|running| running.generation == first)
                && observed.service == ServiceState::Running
        })
        .await?;
    let attempt = observed.attempted.expect("it was tried");
    assert_eq!(attempt.failure.expect("it failed").reason, RefusalReason::StartFailed);
    assert_eq!(observed.desired.map(|desired| desired.generation), Some(second));
    assert_eq!(observed.written.map(|written| written.generation), Some(first));
    assert!(!rig.read(CONFIG).contains("poison"));
    Ok(())
}

#[tokio::test]
async fn what_the_host_cannot_carry_is_refused_and_changes_nothing() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let first = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(first).await?;
    let config = rig.read(CONFIG);

    type Spoil = Box<dyn Fn(&mut crate::rig::Wanted)>;
    let cases: [(&str, Spoil, RefusalReason); 5] = [
        (
            "a home that is not listed",
            Box::new(|w| w.service.home = "/tmp".into()),
            RefusalReason::HomeNotAllowed,
        ),
        (
            "a dangerous argument",
            Box::new(|w| w.service.args = vec!["-Dsetup".into()]),
            RefusalReason::CommandNotAllowed,
        ),
        ("another JDK", Box::new(|w| w.service.jdk = (30, None)), RefusalReason::JdkUnsuitable),
        (
            "a broken configuration",
            Box::new(|w| w.files.get_mut(CONFIG).expect("there").0.push_str("\noops = \n")),
            RefusalReason::ConfigInvalid,
        ),
        (
            "a target that is a directory",
            Box::new(|w| {
                let file = (String::new(), DriftPolicy::Enforce, RestartClass::Restart);
                w.files.insert("repository/logs".into(), file);
            }),
            RefusalReason::TargetUnsafe,
        ),
    ];
    for (what, change, reason) in cases {
        let mut bad = wanted.with_config("\n[changed]\nkey = 1\n");
        change(&mut bad);
        let generation = rig.assign(&bad, RunState::Running).await?;
        let observed = rig
            .until(what, |observed| {
                observed.attempted.as_ref().is_some_and(|a| a.done && a.target.generation == generation)
            })
            .await?;
        let failure = observed.attempted.and_then(|attempt| attempt.failure).expect("refused");
        assert_eq!(failure.reason, reason, "{what}: {}", failure.detail);
        assert_eq!(failure.still_running.map(|applied| applied.generation), Some(Generation(1)));
        assert_eq!(rig.read(CONFIG), config, "{what}");
        assert_eq!(observed.process, before.process, "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn stopped_and_running_are_what_operators_say() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let first = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(first).await?;
    rig.assign(&wanted, RunState::Stopped).await?;
    rig.until("the server to be stopped", |observed| observed.service == ServiceState::Stopped).await?;
    assert!(rig.alive().is_empty(), "script and java are both gone");
    let third = rig.assign(&wanted, RunState::Running).await?;
    let observed = rig.ready(third).await?;
    assert_eq!(observed.starts_total, 2);
    Ok(())
}
