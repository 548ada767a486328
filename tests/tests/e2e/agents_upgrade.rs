//! `convoy agents upgrade` with two programs of the agent that call themselves by different versions. The newer one is
//! the same build with its version written over: nobody has two releases yet.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{LIMIT, until};
use fleet::admission::Fingerprint;

use crate::small::{NODES, Small, ensure_holds};

const OLD: &str = env!("CARGO_PKG_VERSION");

/// A version of as many bytes that nothing else in the program is called by.
fn newer() -> String {
    format!("{}9", OLD.strip_suffix(char::is_numeric).unwrap_or(OLD))
}

/// A copy of the agent that says everywhere that it is another version.
fn other_build(agent: &Path, path: &Path) -> Result<()> {
    let mut bytes = fs::read(agent)?;
    let (old, new) = (OLD.as_bytes(), newer().into_bytes());
    let found: Vec<usize> =
        bytes.windows(old.len()).enumerate().filter(|(_, part)| *part == old).map(|(at, _)| at).collect();
    ensure!(!found.is_empty() && old.len() == new.len(), "the agent does not know its version");
    for at in found {
        bytes.splice(at..at + old.len(), new.iter().copied());
    }
    fs::write(path, bytes)?;
    Ok(fs::set_permissions(path, fs::metadata(agent)?.permissions())?)
}

#[tokio::test]
async fn agents_of_another_version_come_one_after_the_other_and_their_servers_do_not_notice() -> Result<()> {
    let mut small = Small::open().await?;
    small.apply().await?;
    let program = small.site.path("convoy-agent-newer");
    other_build(&small.site.programs().agent, &program)?;
    let sums =
        [&small.site.programs().agent, &program].map(|path| fs::read(path).map(|it| Fingerprint::of(&it)));
    let [old_sum, new_sum] = sums.map(|sum| sum.map(|sum| sum.to_string().replace("sha256:", "")));
    let (old_sum, new_sum) = (old_sum?, new_sum?);
    let operator = small.site.operator();
    let agents = async |version: &str, sum: &str| {
        let listed = operator.json(["agents", "list"]).await?;
        let all = listed["agents"].as_array().context("agents")?;
        let is_so = |agent: &serde_json::Value| agent["version"] == version && agent["program"] == sum;
        Ok((all.len() == NODES.len() && all.iter().all(is_so)).then_some(()))
    };
    until("both agents to have told their program", LIMIT, async || agents(OLD, &old_sum).await).await?;
    let mut servers = Vec::new();
    for node in NODES {
        servers.push(small.ready(node).await?["report"]["process"].clone());
    }

    // The command of a site that asks somebody else and waits until they say that it is done.
    let (asked, done) = (small.site.path("asked"), small.site.path("done"));
    let runner = format!(
        "echo \"$CONVOY_NODE $CONVOY_VERSION\" > {asked:?} && while [ -e {asked:?} ]; do sleep 0.05; done && echo $CONVOY_NODE >> {done:?}"
    );
    let to = newer();
    let words = ["agents", "upgrade", "--to", &to, "--runner", &runner, "--yes"];
    let upgrade = operator.run(words);
    let agents_of_site = &mut small.site.agents;
    let installing = async {
        for (agent, node) in agents_of_site.iter_mut().zip(NODES) {
            until("the command to be run", LIMIT, async || {
                let said = fs::read_to_string(&asked).unwrap_or_default();
                Ok((said.trim() == format!("{node} {to}")).then_some(()))
            })
            .await?;
            agent.kill().await?;
            agent.set_program(&program);
            agent.start()?;
            fs::remove_file(&asked)?;
        }
        anyhow::Ok(())
    };
    let (ran, installed) = tokio::join!(upgrade, installing);
    installed?;
    let ran = ran?;
    ensure_holds(&format!("{ran:?}"), &[&format!("2 agents upgraded to {to}")])?;
    assert_eq!(fs::read_to_string(&done)?, "is-1\nis-2\n");
    until("both agents to have told their new program", LIMIT, async || agents(&to, &new_sum).await).await?;
    for (node, server) in NODES.into_iter().zip(servers) {
        assert_eq!(small.ready(node).await?["report"]["process"], server, "{node}");
    }
    Ok(())
}
