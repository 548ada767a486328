//! Where a change came from: what Git says of the fleet directory is in the plan, the revision and the record.

use std::path::Path;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::small::{Small, common, ensure_holds};

async fn git(dir: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ann", "-c", "user.email=ann@acme.example", "-c", "commit.gpgsign=false"]);
    let output = command.args(words).current_dir(dir).output().await?;
    ensure!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[tokio::test]
async fn a_revision_says_which_commit_it_came_from() -> Result<()> {
    let small = Small::open().await?;
    let operator = small.site.operator();
    // Before there is a repository nothing is recorded, and nothing is said about it.
    small.apply().await?;
    let first = operator.json(["revision", "show", "1"]).await?;
    ensure!(first["origin"].is_null(), "{first:#}");

    let dir = Path::new(small.fleet.arg());
    git(dir, &["init", "--quiet", "--initial-branch=prod"]).await?;
    git(dir, &["add", "."]).await?;
    git(dir, &["commit", "--quiet", "--message=first"]).await?;
    let commit = git(dir, &["rev-parse", "HEAD"]).await?;
    small.fleet.write("config/common.toml", common("second"))?;
    let plan = operator.json(["plan".as_ref(), small.fleet.arg()]).await?;
    ensure!(plan["origin"]["commit"] == commit.as_str() && plan["origin"]["changed"] == 1, "{plan:#}");
    let applied = small.apply().await?;
    ensure_holds(&applied, &["on prod by Ann <ann@acme.example>, with 1 file that is not as committed"])?;

    git(dir, &["commit", "--quiet", "--all", "--message=second"]).await?;
    small.fleet.write("config/common.toml", common("third"))?;
    git(dir, &["commit", "--quiet", "--all", "--message=third"]).await?;
    let third = git(dir, &["rev-parse", "HEAD"]).await?;
    ensure_holds(&small.apply().await?, &["on prod by Ann <ann@acme.example>, clean"])?;

    let revisions = operator.json(["revision", "list"]).await?;
    let of = |index: usize| revisions[index]["origin"].clone();
    ensure!(of(0)["commit"] == third.as_str() && of(0)["changed"] == 0, "{revisions:#}");
    ensure!(of(1)["commit"] == commit.as_str() && of(1)["changed"] == 1, "{revisions:#}");
    let shown = operator.done(["revision", "show", "3"]).await?;
    ensure_holds(&shown, &[&third, "changed: is-1, is-2: server.hostname"])?;
    let audit = operator.done(["audit", "list"]).await?;
    ensure_holds(&audit, &[&format!("applied revision 3 (commit {third} on prod by Ann")])?;

    // What is repeated came from where it came from.
    operator.done(["rollback", "2", "--yes", "--wait"]).await?;
    let back = operator.json(["revision", "show", "4"]).await?;
    ensure!(back["origin"] == of(1) && back["rolls_back_to"] == 2, "{back:#}");
    Ok(())
}
