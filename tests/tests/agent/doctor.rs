//! `convoy-agent doctor` as a program: what it says, with which exit code, of a good host and of bad ones.

use std::fs;

use anyhow::{Result, ensure};
use fleet::bundle::RunState;

use crate::rig::{CONFIG, Rig};

/// The line of a check, or the empty one.
fn line<'a>(said: &'a str, name: &str) -> &'a str {
    said.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap_or_default()
}

fn says(said: &str, name: &str, word: &str, what: &str) -> Result<()> {
    let line = line(said, name);
    ensure!(line.starts_with(word) && line.contains(what), "{name} should {word} with {what:?}:\n{said}");
    Ok(())
}

#[tokio::test]
async fn a_good_host_is_fit_beside_its_running_agent_which_is_not_disturbed() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let (code, said) = rig.agent.doctor().await?;
    ensure!(code == 0, "{code}:\n{said}");
    says(&said, "server", "skipped", "no bundle has come")?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    let (code, said) = rig.agent.doctor().await?;
    ensure!(code == 0, "{code}:\n{said}");
    for (name, what) in [
        ("data_dir", "state"),
        ("certificate", "of node is-1"),
        ("coordinator", "answers"),
        ("jdk", "JDK 21"),
        ("port", "held by this server"),
        ("clock", ""),
        ("disk", "free"),
    ] {
        says(&said, name, "pass", what)?;
    }
    ensure!(said.trim_end().ends_with("1 not checked") || said.contains(" 0 failed"), "{said}");
    let log = rig.agent.log();
    ensure!(log.matches("Connected to the coordinator").count() == 1, "its session went on: {log}");
    Ok(())
}

#[tokio::test]
async fn each_thing_that_is_wrong_fails_with_its_remedy_and_exit_code_1() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Stopped).await?;
    rig.until("the files to be in force", |observed| {
        observed.written.is_some_and(|written| written.generation == generation)
    })
    .await?;
    rig.agent.kill().await?;
    rig.close_coordinator();
    fs::write(rig.path("bin/version.txt"), "WSO2 API Manager v4.2.0\n")?;
    fs::remove_file(rig.pack.java_home.join("bin/java"))?;
    fs::remove_file(rig.pack.script())?;
    fs::write(rig.path(CONFIG), "[broken")?;
    let holder = std::net::TcpListener::bind(("0.0.0.0", 9443 + rig.offset))?;
    let (code, said) = rig.agent.doctor().await?;
    drop(holder);
    ensure!(code == 1, "{code}:\n{said}");
    for (name, what) in [
        ("coordinator", "127.0.0.1"),
        ("jdk", "does not run"),
        ("pack", "WSO2 API Manager v4.2.0"),
        ("script", "no start script"),
        ("port", "held by"),
        ("config", CONFIG),
    ] {
        says(&said, name, "fail", what)?;
    }
    says(&said, "clock", "skipped", "no coordinator was reached")?;
    let (failed, remedies) =
        (said.lines().filter(|line| line.starts_with("fail")), said.matches("-> ").count());
    ensure!(failed.count() <= remedies, "each has a remedy:\n{said}");
    ensure!(said.contains("this host is not fit"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_host_that_never_joined_and_a_configuration_that_cannot_be_used_are_told_apart() -> Result<()> {
    let rig = Rig::open("wso2is-7.2").await?;
    fs::remove_dir_all(rig.agent.data_dir().join("identity"))?;
    let (code, said) = rig.agent.doctor().await?;
    ensure!(code == 1, "{code}:\n{said}");
    says(&said, "certificate", "fail", "convoy-agent enroll --token-file")?;
    says(&said, "coordinator", "fail", "not enrolled")?;
    rig.agent.add_setting("homez = []")?;
    let (code, said) = rig.agent.doctor().await?;
    ensure!(code == 64 && said.contains("homez") && said.contains("line "), "{code}:\n{said}");
    Ok(())
}

#[tokio::test]
async fn after_an_upgrade_it_tells_whether_the_new_agent_came_up_and_left_the_server_alone() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    rig.agent.kill().await?;
    rig.agent.start()?;
    let (code, said) = rig.agent.doctor_with(&["--after-upgrade"]).await?;
    ensure!(code == 0, "{code}:\n{said}");
    for (name, what) in [
        ("agent", "process"),
        ("program", "is this one"),
        ("link", "as is-1"),
        ("restart", "older than the agent"),
        ("clock", ""),
    ] {
        says(&said, name, "pass", what)?;
    }

    // The package is installed, and nobody has restarted the agent.
    rig.agent.replace_program()?;
    let (code, said) = rig.agent.doctor_with(&["--after-upgrade"]).await?;
    ensure!(code == 1, "{code}:\n{said}");
    says(&said, "program", "fail", "another program")?;
    says(&said, "restart", "pass", "older than the agent")
}
