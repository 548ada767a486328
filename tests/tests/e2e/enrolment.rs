//! Who may join, and what those hear who may not.

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{Agent, LIMIT, Site, until};

use crate::small::{NODES, Small, common, ensure_holds, pid};

async fn token(site: &Site, node: &str, valid: &str) -> Result<String> {
    let reply = site.operator().json(["token", "create", "--node", node, "--valid", valid]).await?;
    Ok(reply["token"].as_str().context("a token")?.to_owned())
}

fn agent(site: &Site, name: &str) -> Result<Agent> {
    let home = site.path("home");
    Agent::configure(site.programs(), &site.path("agents").join(name), name, &home, &home)
}

#[tokio::test]
async fn a_token_is_for_one_use_and_for_a_while() -> Result<()> {
    let site = Site::open("joins").await?;

    let once = token(&site, "is-1", "1h").await?;
    let (code, said) = agent(&site, "first")?.enrol_with(&once).await?;
    ensure!(code == 0, "{said}");
    let (code, said) = agent(&site, "second")?.enrol_with(&once).await?;
    ensure!(code == 1, "{code}: {said}");
    ensure_holds(&said, &["used"])?;

    let short = token(&site, "is-2", "1s").await?;
    let late = agent(&site, "late")?;
    let said = until("the token to expire", LIMIT, async || {
        // Each try before the end would use the token up, so the clock is what is waited for.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let (code, said) = late.enrol_with(&short).await?;
        ensure!(code != 0, "an expired token was taken");
        Ok(Some(said))
    })
    .await?;
    ensure_holds(&said, &["expired"])?;
    Ok(())
}

#[tokio::test]
async fn a_host_that_cannot_keep_an_identity_leaves_its_token_unused() -> Result<()> {
    let site = Site::open("joins").await?;
    let (once, host) = (token(&site, "is-1", "1h").await?, agent(&site, "first")?);
    let identity = host.data_dir().join("identity");
    std::fs::create_dir_all(host.data_dir())?;
    std::fs::write(&identity, "in the way")?;
    let (code, said) = host.enrol_with(&once).await?;
    ensure!(code == 1, "{said}");
    std::fs::remove_file(identity)?;
    let (code, said) = host.enrol_with(&once).await?;
    ensure!(code == 0, "the token was used up: {said}");
    Ok(())
}

#[tokio::test]
async fn a_token_nobody_made_or_of_another_fleet_is_refused() -> Result<()> {
    let (site, other) = (Site::open("one").await?, Site::open("other").await?);

    let (code, said) = agent(&site, "nonsense")?.enrol_with("convoy-join.v1.rubbish").await?;
    ensure!(code == 1 && said.contains("token"), "{code}: {said}");

    // The secret's last digit changed: well-formed, and never made.
    let real = token(&site, "is-1", "1h").await?;
    let last = if real.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", &real[..real.len() - 1]);
    let (code, said) = agent(&site, "forged")?.enrol_with(&forged).await?;
    ensure!(code == 1 && !said.contains(&forged), "{code}: {said}");

    // A token of one fleet presented to another's coordinator: the authority that it pins is not there.
    let parts: Vec<String> = token(&site, "is-2", "1h").await?.split('.').map(str::to_owned).collect();
    let elsewhere: Vec<String> = token(&other, "is-2", "1h").await?.split('.').map(str::to_owned).collect();
    let mut mixed = parts;
    mixed[3].clone_from(&elsewhere[3]);
    let (code, said) = agent(&site, "mixed")?.enrol_with(&mixed.join(".")).await?;
    ensure!(code == 1, "{code}: {said}");
    ensure_holds(&said, &["authority"])?;
    Ok(())
}

#[tokio::test]
async fn certificates_are_renewed_and_end_without_harm_to_the_server_or_the_work() -> Result<()> {
    let mut site = Site::open("small").await?;
    site.coordinator.kill().await?;
    site.coordinator.add_settings("\n[certificates]\nnode = \"10s\"\n")?;
    site.coordinator.restart().await?;
    let mut small = Small::open_on(site).await?;
    small.apply().await?;
    let mut before = Vec::new();
    for node in NODES {
        let seen = small.ready(node).await?;
        before.push((pid(&seen)?, seen["certificate_expires"].clone()));
    }

    // Three renewals take longer than the first certificate, and the one after it, were valid for.
    let renewals = |small: &mut Small, node: &str| {
        small.site.agent_of(node).log().matches("Renewed the certificate").count()
    };
    for node in NODES {
        until("three renewals", LIMIT, async || Ok((3 <= renewals(&mut small, node)).then_some(()))).await?;
    }
    for (node, (server, expires)) in NODES.into_iter().zip(&before) {
        let seen = small.ready(node).await?;
        ensure!(pid(&seen)? == *server, "{node} was restarted: {seen:#}");
        ensure!(seen["certificate_expires"] != *expires, "{node} still has its first certificate: {seen:#}");
    }

    // And the nodes still take orders, with certificates that are short of their end all the while.
    small.fleet.write("config/common.toml", common("renewed"))?;
    small.apply().await?;
    for index in 0..NODES.len() {
        ensure_holds(&small.config_text(index)?, &["renewed.example.org"])?;
    }
    Ok(())
}
