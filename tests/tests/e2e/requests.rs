//! A host that cannot take a secret: it asks by a file, and the operator's answer comes back by another.

use std::fs;

use anyhow::{Result, ensure};
use convoy_tests::harness::{LIMIT, until};

use crate::small::{NODES, Small, ensure_holds};

/// The line of a text that is a fingerprint.
fn fingerprint(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| line.starts_with("sha256:"))
}

#[tokio::test]
async fn a_host_joins_by_a_request_and_comes_back_by_one_after_its_certificate_ended() -> Result<()> {
    let mut small = Small::open().await?;
    small.apply().await?;
    let node = NODES[0];
    small.site.agent_of(node).kill().await?;
    let operator = small.site.operator();
    let (request, answer) = (small.site.path("request"), small.site.path("answer"));
    let (request, answer) = (request.display().to_string(), answer.display().to_string());
    let agent = small.site.agent_of(node);
    let identity = agent.data_dir().join("identity/node.pem");
    let before = fs::read(&identity)?;

    let (code, asked) = agent.enrol_by(&["--request", &request, "--node", node]).await?;
    ensure!(code == 0, "{code}: {asked}");
    ensure!(!fs::read_to_string(&request)?.contains("PRIVATE"), "a secret is in the request");
    // This host has joined, so nobody takes its place by mistake.
    let refused = operator.run(["node", "admit", &request, "--yes", "--out", &answer]).await?;
    ensure!(refused.code == 3, "{refused:?}");
    ensure_holds(&refused.said, &["its certificate lives for", "--replace"])?;
    let line = ["node", "admit", &request, "--yes", "--replace", "--out", &answer];
    let admitted = operator.run(line).await?;
    ensure!(admitted.code == 0, "{admitted:?}");
    ensure!(
        fingerprint(&asked).is_some() && fingerprint(&asked) == fingerprint(&admitted.said),
        "{asked}{admitted:?}"
    );
    ensure!(fs::read(&identity)? == before, "it is in force before its answer came");

    // Cut on its way: an error, and nothing else.
    let whole = fs::read_to_string(&answer)?;
    let cut = small.site.path("cut").display().to_string();
    fs::write(&cut, &whole[..whole.len() / 2])?;
    let agent = small.site.agent_of(node);
    let (code, said) = agent.enrol_by(&["--answer", &cut]).await?;
    ensure!(code == 1, "{code}: {said}");
    ensure_holds(&said, &["the answer is not whole", "nothing was changed", &cut])?;
    let (code, said) = agent.enrol_by(&["--answer", &request]).await?;
    ensure!(code == 1 && said.contains("this is the request"), "{code}: {said}");
    ensure!(fs::read(&identity)? == before);

    let (code, said) = agent.enrol_by(&["--answer", &answer]).await?;
    ensure!(code == 0, "{code}: {said}");
    ensure_holds(&said, &["enrolled as is-1 at 127.0.0.1:", "This host trusts the authority"])?;
    let authority = fingerprint(&said).unwrap_or("none").to_owned();
    ensure_holds(&admitted.said, &[&authority])?;
    ensure!(fs::read(&identity)? != before);
    let (code, said) = agent.enrol_by(&["--answer", &answer, "--ca-pin", &authority]).await?;
    ensure!(code == 0 && said.contains("enrolled already"), "{code}: {said}");

    agent.start()?;
    small.ready(node).await?;
    let shown = operator.done(["audit", "list", "--action", "admit-node"]).await?;
    ensure_holds(&shown, &["admin", "is-1", "sha256:"])?;

    // An answer to another host's request, and one of a fleet that this host does not know.
    let other = small.site.agent_of(NODES[1]);
    let (code, said) = other.enrol_by(&["--answer", &answer]).await?;
    ensure!(code == 1 && said.contains("no request of this host waits"), "{code}: {said}");
    let (code, _) = other.enrol_by(&["--request", "-"]).await?;
    ensure!(code == 0);
    let (code, said) = other.enrol_by(&["--answer", &answer]).await?;
    ensure!(code == 1 && said.contains("it is another host's, or older"), "{code}: {said}");
    small.ready(NODES[1]).await?;
    Ok(())
}

/// The agent goes on running, and takes what was brought back at its next try.
#[tokio::test]
async fn an_agent_whose_certificate_ended_while_it_was_away_comes_back_by_a_request() -> Result<()> {
    let mut site = convoy_tests::harness::Site::open("small").await?;
    site.coordinator.kill().await?;
    site.coordinator.add_settings("\n[certificates]\nnode = \"10s\"\n")?;
    site.coordinator.restart().await?;
    let mut small = Small::open_on(site).await?;
    small.apply().await?;
    let node = NODES[0];
    small.ready(node).await?;
    small.site.coordinator.kill().await?;
    until("the certificate to end", LIMIT, async || {
        Ok(small.site.agent_of(node).log().contains("expired").then_some(()))
    })
    .await?;
    // The next one lives for longer than the agent may wait between two tries.
    let config = small.site.path("coordinator/coordinator.toml");
    fs::write(&config, fs::read_to_string(&config)?.replace("\"10s\"", "\"1h\""))?;
    small.site.coordinator.restart().await?;

    let operator = small.site.operator();
    let (request, answer) = (small.site.path("request"), small.site.path("answer"));
    let (request, answer) = (request.display().to_string(), answer.display().to_string());
    let agent = small.site.agent_of(node);
    let (code, said) = agent.enrol_by(&["--request", &request]).await?;
    ensure!(code == 0, "{code}: {said}");
    // Its certificate has ended and it is not connected, so nobody's place is taken.
    operator.done(["node", "admit", &request, "--node", node, "--yes", "--out", &answer]).await?;
    let (code, said) = agent.enrol_by(&["--answer", &answer]).await?;
    ensure!(code == 0, "{code}: {said}");
    small.ready(node).await?;
    Ok(())
}
