//! Four eyes with the real programs: one operator proposes, another approves, and servers change only then.

use std::{ffi::OsStr, fs, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::Operator;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::small::{CONFIG, Small, common, ensure_holds};

/// Somebody with a context of their own, who has joined with a token.
pub async fn joined(small: &Small, name: &str, role: &str) -> Result<Operator> {
    let token = small.site.operator().done(["operator", "add", name, "--role", role]).await?;
    let convoy = small.site.programs().convoy.clone();
    let home = small.site.path(name);
    fs::create_dir_all(&home)?;
    let mut command = Command::new(&convoy);
    command.args(["join", "-"]).env("XDG_CONFIG_HOME", &home).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut joining = command.kill_on_drop(true).spawn()?;
    joining.stdin.take().context("no input")?.write_all(token.as_bytes()).await?;
    ensure!(joining.wait().await?.success(), "{name} cannot join");
    Ok(Operator::new(convoy, home.join("convoy/contexts/small.toml")))
}

#[tokio::test]
async fn servers_change_when_somebody_else_has_approved_it() -> Result<()> {
    let small = Small::open().await?;
    let (alice, bob) = (joined(&small, "alice", "operator").await?, joined(&small, "bob", "operator").await?);
    small.apply().await?;
    let asking = small.fleet.read("fleet.toml")? + "\n[groups.key-manager.approval]\nrequired = true\n";
    small.fleet.write("fleet.toml", &asking)?;
    small.fleet.write("config/common.toml", common("second"))?;
    let apply = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--reason".as_ref(), "more".as_ref()];

    let plan = alice.done(["plan".as_ref(), small.fleet.arg()]).await?;
    ensure_holds(&plan, &["Needs approval: group key-manager asks for approval."])?;
    let proposed = alice.run(apply).await?;
    ensure!(proposed.code == 4, "{proposed:?}");
    ensure_holds(
        &proposed.out,
        &["waits as proposal 1 until", "may approve: admin, bob", "approve: convoy approve 1"],
    )?;
    let before = small.config_text(0)?;
    ensure!(before.contains("first.example.org"), "{CONFIG} changed before anybody approved");

    let own = alice.run(["approve", "1", "--yes"]).await?;
    ensure!(own.code == 3, "{own:?}");
    ensure_holds(
        &own.said,
        &["proposal 1 is by alice, and nobody approves their own; somebody else has to"],
    )?;
    let shown = bob.done(["proposal", "show", "1"]).await?;
    ensure_holds(&shown, &["proposal 1 by alice", "why: more", "server.hostname", "2 servers restart"])?;
    bob.done(["approve", "1", "--yes", "--wait", "--timeout", "5m"]).await?;
    ensure!(small.config_text(0)?.contains("second.example.org"), "the approved change is not there");
    let revision = bob.done(["revision", "show", "2"]).await?;
    ensure_holds(&revision, &["revision 2 by alice", "approved: by bob as proposal 1"])?;

    // Going back waits as well; nobody decides, its author takes it back.
    let back = alice.run(["rollback", "1", "--yes", "--reason", "slow"]).await?;
    ensure!(back.code == 4, "{back:?}");
    ensure_holds(&alice.done(["proposal", "list"]).await?, &["back to revision 1: slow"])?;
    alice.done(["reject", "2", "--reason", "not needed"]).await?;
    let late = bob.run(["approve", "2", "--yes"]).await?;
    ensure!(late.code == 3, "{late:?}");
    ensure_holds(&late.said, &["proposal 2 was rejected by alice: not needed"])?;

    // An emergency.
    small.fleet.write("config/common.toml", common("third"))?;
    let glass: [&OsStr; 3] = ["--break-glass".as_ref(), "login is down".as_ref(), "--wait".as_ref()];
    alice.done([&apply[..], &glass[..]].concat()).await?;
    ensure!(small.config_text(0)?.contains("third.example.org"), "the emergency did not go out");
    let events = bob.done(["events", "--kind", "break-glass"]).await?;
    ensure_holds(&events, &["alice applied revision 3 without the approval that it needs: login is down"])?;
    let verified = bob.run(["audit", "verify"]).await?;
    ensure!(verified.code == 0, "{verified:?}");
    Ok(())
}
