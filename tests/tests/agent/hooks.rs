//! A server behind a load balancer: taken out before a planned stop, put back when it is ready, whatever happens in
//! between. The load balancer is a runtime socket of our own; what is sent through it is a connection to the server.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use convoy_tests::{
    harness::{ByHand, Haproxy, LIMIT, Programs, haproxy::BACKEND, until},
    pack::{self, OffsetLease, PackSpec},
};
use fleet::{
    bundle::RunState,
    call::{Call, HaproxyCall, HaproxyState, Hook, HookFailure, Hooks, Tries},
    observed::{RefusalReason, Verdict},
};
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};

use crate::rig::{Rig, Wanted};

fn hook(haproxy: &Haproxy, state: HaproxyState, settle: Duration) -> Option<Hook> {
    Some(Hook {
        call: Call::Haproxy(HaproxyCall {
            balancer: fleet::balancer::Kind::Haproxy,
            socket: haproxy.socket(),
            backend: BACKEND.into(),
            server: "is-1".into(),
            state,
            listens: None,
        }),
        tries: Tries { timeout: Duration::from_secs(5), most: 1, interval: Duration::from_millis(100) },
        settle,
        on_failure: HookFailure::Abort,
    })
}

/// A rig whose agent may speak to a load balancer, and what is wanted of it.
async fn behind(settle: Duration) -> Result<(Rig, Arc<Haproxy>, Wanted, tempfile::TempDir)> {
    let directory = tempfile::Builder::new().prefix("convoy-lb-").tempdir()?;
    let haproxy = Arc::new(Haproxy::start(directory.path(), &["is-1"])?);
    let rig = Rig::open_with("wso2is-7.2", &format!("[allow]\nsockets = [{:?}]\n", haproxy.socket())).await?;
    let mut wanted = rig.wanted();
    wanted.hooks = Hooks {
        before_stop: hook(&haproxy, HaproxyState::Drain, settle),
        after_ready: hook(&haproxy, HaproxyState::Ready, Duration::ZERO),
    };
    Ok((rig, haproxy, wanted, directory))
}

/// Sends connections through the load balancer without a pause, and tells of each that the server did not take.
fn traffic(haproxy: Arc<Haproxy>, port: u16) -> (JoinHandle<u64>, mpsc::UnboundedReceiver<String>) {
    let (lost, losses) = mpsc::unbounded_channel();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while !lost.is_closed() {
            if let Some(_request) = haproxy.route("is-1") {
                sent += 1;
                if let Err(error) = TcpStream::connect(("127.0.0.1", port)).await {
                    drop(lost.send(error.to_string()));
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sent
    });
    (sending, losses)
}

#[tokio::test]
async fn no_request_reaches_a_server_that_an_apply_restarts() -> Result<()> {
    let (mut rig, haproxy, wanted, _directory) = behind(Duration::from_secs(20)).await?;
    let first = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(first).await?;
    assert_eq!(haproxy.told(), ["is-1 ready"], "a first start is put into service");
    let (sending, mut losses) = traffic(haproxy.clone(), 9443 + rig.offset);

    let second = rig.assign(&wanted.with_config("\n[extra]\nkey = 1\n"), RunState::Running).await?;
    let after = rig.ready(second).await?;
    assert_ne!(after.process, before.process, "it was restarted");
    assert_eq!(haproxy.told(), ["is-1 ready", "is-1 drain", "is-1 ready"]);
    assert!(losses.try_recv().is_err(), "a request was sent to a server that was stopped");
    drop(losses);
    assert!(0 < sending.await?, "nothing was sent at all");
    Ok(())
}

/// What convoy-server.service does when it is stopped: nothing by day, and a drained, orderly stop when the host goes down.
/// The next start of the host starts the server again.
#[cfg(unix)]
#[tokio::test]
async fn a_host_that_shuts_down_has_its_server_drained_and_stopped_in_time() -> Result<()> {
    let (mut rig, haproxy, wanted, _directory) = behind(Duration::ZERO).await?;
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?;
    let (code, said) = rig.agent.stop_server("running").await?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the host does not shut down"), "{said}");
    assert_eq!(rig.observed().and_then(|observed| observed.process), before.process);
    // A load balancer that refuses does not keep a server up below which everything goes away.
    haproxy.refuse(Some("drain"));
    let (code, said) = rig.agent.stop_server("stopping").await?;
    assert_eq!(code, 0, "{said}");
    assert_eq!(rig.alive(), Vec::<u32>::new(), "it has ended when the command has");
    assert_eq!(haproxy.told(), ["is-1 ready"]);
    haproxy.refuse(None);
    let observed = rig.until("the stop to be told", |seen| seen.process.is_none()).await?;
    assert_eq!(observed.health, Verdict::Unknown("the host shuts down".to_owned()));
    rig.agent.kill().await?;
    let (code, said) = rig.agent.stop_server("stopping").await?;
    assert!(code == 1 && said.contains("is convoy-agent running?"), "{code}: {said}");
    // The next day.
    rig.agent.start()?;
    let after = rig.ready(generation).await?;
    assert_ne!(after.process, before.process);
    assert_eq!(haproxy.told(), ["is-1 ready", "is-1 ready"], "and is put into service again");
    let (code, said) = rig.agent.stop_server("stopping").await?;
    assert_eq!(code, 0, "{said}");
    assert_eq!(haproxy.told(), ["is-1 ready", "is-1 ready", "is-1 drain"]);
    Ok(())
}

/// The other server is somebody's who started it by hand; the host's end would wait for it until systemd gives up.
#[cfg(unix)]
#[tokio::test]
async fn a_host_that_shuts_down_does_not_wait_for_a_server_that_is_not_the_agents() -> Result<()> {
    let directory = tempfile::Builder::new().prefix("convoy-agent-").tempdir()?;
    let programs = Programs::locate()?;
    let lease = OffsetLease::take()?;
    let mut spec = PackSpec::new("wso2is-7.2".parse()?, &programs.standin);
    spec.offset = lease.offset(0);
    let other = ByHand::of(&pack::generate(&directory.path().join("other"), &spec)?);
    let mut rig =
        Rig::open_in(directory, &programs, "wso2is-7.2", |_, agent| agent.add_home(&other.home)).await?;
    let _script = other.start(LIMIT).await?;
    let generation = rig.assign(&rig.wanted(), RunState::Running).await?;
    let own = rig.ready(generation).await?.process.context("it runs")?;
    let stopped = tokio::time::timeout(LIMIT, rig.agent.stop_server("stopping")).await;
    let (code, said) = stopped.context("it waits for a server that nobody stops")??;
    assert_eq!(code, 0, "{said}");
    let alive = rig.alive();
    assert!(!alive.contains(&own.pid), "the agent's own server has ended when the command has");
    assert_eq!(alive.len(), 2, "the other one runs on, with its script");
    Ok(())
}

#[tokio::test]
async fn a_load_balancer_that_refuses_keeps_the_server_as_it_is() -> Result<()> {
    let (mut rig, haproxy, wanted, _directory) = behind(Duration::ZERO).await?;
    let first = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(first).await?;
    haproxy.refuse(Some("drain"));
    let second = rig.assign(&wanted.with_config("\n[extra]\nkey = 1\n"), RunState::Running).await?;
    let observed = rig
        .until("the second generation to fail and the files to be back", |observed| {
            let attempt = observed.attempted.as_ref();
            attempt.is_some_and(|attempt| attempt.done && attempt.target.generation == second)
                && observed.written.is_some_and(|written| written.generation == first)
                && observed.health == Verdict::Healthy
        })
        .await?;
    let failure = observed.attempted.and_then(|attempt| attempt.failure).context("a failure")?;
    assert_eq!(failure.reason, RefusalReason::HookFailed);
    assert!(failure.detail.contains("it said: No such server."), "{}", failure.detail);
    assert_eq!(observed.process, before.process, "the server was not touched");
    assert_eq!(haproxy.state_of("is-1"), "ready");
    Ok(())
}

#[tokio::test]
async fn a_server_that_an_administrator_took_out_is_not_called_ready() -> Result<()> {
    let (mut rig, haproxy, wanted, _directory) = behind(Duration::ZERO).await?;
    let first = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(first).await?;
    // The agent looks every 30 s, and at once when it starts.
    rig.agent.kill().await?;
    haproxy.set("is-1", "maint");
    rig.agent.start()?;
    rig.until("the node to say that it is in maintenance", |observed| {
        let Verdict::Unknown(why) = &observed.health else { return false };
        why == "HAProxy has in maintenance wso2/is-1, which no hook of this agent asked for"
    })
    .await?;
    rig.agent.kill().await?;
    haproxy.set("is-1", "ready");
    rig.agent.start()?;
    rig.until("the node to be healthy", |observed| observed.health == Verdict::Healthy).await?;
    assert_eq!(haproxy.told(), ["is-1 ready"], "the agent did not meddle with what the administrator did");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_dies_while_it_drains_goes_on_with_it_and_puts_the_server_back() -> Result<()> {
    let (mut rig, haproxy, wanted, _directory) = behind(Duration::from_secs(300)).await?;
    let first = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(first).await?;
    // A request that does not end keeps the drain from ending.
    let request = haproxy.route("is-1").context("it is in service")?;
    let second = rig.assign(&wanted.with_config("\n[extra]\nkey = 1\n"), RunState::Running).await?;
    until("the drain", LIMIT, async || Ok((haproxy.state_of("is-1") == "drain").then_some(()))).await?;
    rig.agent.kill().await?;
    drop(request);
    rig.agent.start()?;
    let after = rig.ready(second).await?;
    assert_ne!(after.process, before.process);
    assert_eq!(haproxy.told(), ["is-1 ready", "is-1 drain", "is-1 drain", "is-1 ready"]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_had_to_go_back_is_in_service_again() -> Result<()> {
    let (mut rig, haproxy, wanted, _directory) = behind(Duration::ZERO).await?;
    let misbehaviour = convoy_tests::standin::Misbehaviour {
        start_fails_if_toml_contains: Some("poison".to_owned()),
        ..Default::default()
    };
    rig.pack.misbehave(&misbehaviour)?;
    let first = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(first).await?;
    let second = rig.assign(&wanted.with_config("\n[poison]\nkey = 1\n"), RunState::Running).await?;
    rig.until("the node to be back on the first generation and in service", |observed| {
        let attempt = observed.attempted.as_ref();
        attempt.is_some_and(|attempt| attempt.done && attempt.target.generation == second)
            && observed.running.is_some_and(|running| running.generation == first)
            && observed.health == Verdict::Healthy
    })
    .await?;
    assert_eq!(haproxy.told(), ["is-1 ready", "is-1 drain", "is-1 ready"]);
    Ok(())
}
