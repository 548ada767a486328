//! Logs of a node from the desk, with the real programs.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::symlink,
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{LIMIT, until};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::small::{Small, ensure_holds};

fn log(small: &Small, name: &str) -> PathBuf {
    small.packs[0].home.join("repository/logs").join(name)
}

fn append(path: &PathBuf, text: &str) -> Result<()> {
    Ok(OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())?)
}

#[tokio::test]
async fn logs_are_read_from_the_desk_without_secrets_and_without_leaving_the_home() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    small.ready("is-1").await?;
    let operator = small.site.operator();
    let carbon = log(&small, "wso2carbon.log");
    // The password of this fleet, as a careless server would log it; and one that nobody declared.
    append(
        &carbon,
        "login of admin/hunter2-first failed\nurl=jdbc:mysql://u:4secret@db/x\n\u{1b}[2Jmarked\n",
    )?;
    let out = operator.done(["logs", "is-1"]).await?;
    ensure_holds(&out, &["login of admin/******** failed", "\\u001b[2Jmarked"])?;
    ensure!(!out.contains("hunter2") && !out.contains("4secret"), "{out}");
    let out = operator.done(["logs", "is-1", "--grep", "hunter2-first"]).await?;
    ensure!(out.is_empty(), "{out}");
    let out = operator.done(["logs", "is-1", "--grep", "marked", "--json"]).await?;
    ensure!(out.lines().count() == 1 && out.contains("\"line\""), "{out}");
    ensure!(!operator.done(["logs", "is-1", "--console"]).await?.is_empty(), "the server printed nothing");
    ensure_holds(&operator.done(["logs", "is-1", "--agent"]).await?, &["The agent is up"])?;

    let audit = log(&small, "audit.log");
    if audit.exists() {
        fs::remove_file(&audit)?;
    }
    symlink("/etc/shadow", &audit)?;
    let refused = operator.run(["logs", "is-1", "--audit"]).await?;
    ensure!(refused.code == 3 && refused.said.contains("link"), "{refused:?}");
    ensure!(!refused.out.contains("root:"), "{refused:?}");

    let sparse = OpenOptions::new().write(true).open(&carbon)?;
    sparse.set_len(2 << 30)?;
    append(&carbon, "\nafter the hole\n")?;
    let out = operator.done(["logs", "is-1", "--last", "1"]).await?;
    ensure!(out.trim() == "after the hole", "{out}");
    let out = operator.run(["logs", "is-1", "--since", "1h", "--grep", "the hole"]).await?;
    ensure!(out.code == 0 && out.out.contains("after the hole"), "{out:?}");
    ensure_holds(&out.said, &["only the last 64 MiB"])?;

    let entries = operator.done(["audit", "list", "--action", "read-logs"]).await?;
    ensure_holds(&entries, &["reads the audit log of is-1", "reads the agent log of is-1"])?;
    Ok(())
}

#[tokio::test]
async fn a_log_is_followed_over_a_rotation_and_over_the_end_of_its_agent() -> Result<()> {
    let mut small = Small::open().await?;
    small.apply().await?;
    small.ready("is-1").await?;
    let operator = small.site.operator();
    let audit = log(&small, "audit.log");
    append(&audit, "zero\n")?;
    let mut command = operator.command(["logs", "is-1", "--audit", "--follow", "--last", "1"]);
    let mut following = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(following.stdout.take().context("its output")?).lines();
    let mut next = async || -> Result<String> {
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await.context("no line came")??;
        line.context("the command has ended")
    };
    ensure!(next().await? == "zero");
    append(&audit, "one\n")?;
    ensure!(next().await? == "one");
    append(&audit, "two\n")?;
    fs::rename(&audit, log(&small, "audit-11-29-2026.log"))?;
    append(&audit, "three\n")?;
    ensure!(next().await? == "two" && next().await? == "three", "a rotation loses nothing");

    small.site.agents[0].kill().await?;
    let away = operator.run(["logs", "is-1"]).await?;
    ensure!(away.code == 3 && away.said.contains("not connected"), "{away:?}");
    append(&audit, "four\n")?;
    small.site.agents[0].start()?;
    ensure!(next().await? == "four", "an agent that comes back goes on where it was");
    following.start_kill()?;
    until("its place to be free", LIMIT, async || {
        Ok((operator.run(["logs", "is-1", "--audit"]).await?.code == 0).then_some(()))
    })
    .await
}
