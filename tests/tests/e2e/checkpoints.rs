//! The coordinator's log tells that the end of the record was cut off, also to a machine that had never seen it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{Operator, Site};
use tokio::process::Command;

use crate::small::ensure_holds;

/// `convoy audit verify --checkpoint LOG` on a machine that remembers nothing.
async fn verify(site: &Site, machine: &str, more: &[&str]) -> Result<convoy_tests::harness::Ran> {
    let home = site.path(machine);
    fs::create_dir_all(&home)?;
    let context = home.join("context.toml");
    fs::copy(site.coordinator.context(), &context)?;
    let operator = Operator::new(site.programs().convoy.clone(), context);
    let log = site.coordinator.data_dir().with_file_name("coordinator.log");
    let log = log.to_str().context("a path that is text")?.to_owned();
    operator.run([&["audit", "verify", "--checkpoint", &log], more].concat()).await
}

async fn tokens(site: &Site, count: usize) -> Result<()> {
    for number in 0..count {
        site.operator().done(["token", "create", "--node", &format!("is-{number}")]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_record_without_its_end_does_not_agree_with_the_log() -> Result<()> {
    let mut site = Site::open("small").await?;
    tokens(&site, 3).await?;
    // An hour is not over, so only the start signs how far it goes.
    site.coordinator.daemon.as_mut().context("it runs")?.terminate().await?;
    let store = site.coordinator.data_dir().join("store.redb");
    let older = fs::read(&store)?;
    site.coordinator.restart().await?;
    tokens(&site, 2).await?;
    let now = site.operator().json(["audit", "verify"]).await?;
    ensure!(now["entries"] == 5 && now["checkpoints"] == 0 && now["removed"] == 0, "{now:#}");
    site.coordinator.daemon.as_mut().context("it runs")?.terminate().await?;
    site.coordinator.restart().await?;
    tokens(&site, 1).await?;
    let whole = verify(&site, "first", &[]).await?;
    ensure!(whole.code == 0, "{whole:?}");
    ensure_holds(&whole.out, &["The record is whole: 6 entries", "up to entry 5; the newest is of"])?;
    // A checkpoint is good wherever it is kept.
    let kept = site.path("kept");
    fs::write(
        &kept,
        format!("2026-11-30 kept by hand: {}\n", now["checkpoint"].as_str().context("no checkpoint")?),
    )?;
    let both = verify(&site, "second", &["--checkpoint", kept.to_str().context("text")?]).await?;
    ensure!(both.code == 0, "{both:?}");

    // Somebody puts an older store back, and accepts it.
    site.coordinator.daemon.as_mut().context("it runs")?.terminate().await?;
    fs::write(&store, older)?;
    let config = site.coordinator.data_dir().with_file_name("coordinator.toml");
    let mut recover = Command::new(&site.programs().coordinator);
    recover.arg("--config").arg(config).args(["recover", "restored-store"]);
    ensure!(recover.status().await?.success(), "the older store is not accepted");
    site.coordinator.restart().await?;
    let cut = verify(&site, "third", &[]).await?;
    ensure!(cut.code == 1, "{cut:?}");
    ensure_holds(&cut.said, &["the audit record is not whole", "entry 5 was seen before: what came after"])?;
    // And goes on as if nothing had been.
    tokens(&site, 4).await?;
    let other = verify(&site, "fourth", &[]).await?;
    ensure!(other.code == 1, "{other:?}");
    ensure_holds(&other.said, &["entry 5 is another one than was seen before: the record was written anew"])?;

    let nothing = site.path("nothing");
    fs::write(&nothing, "no checkpoint\n")?;
    let nothing = nothing.to_str().context("text")?;
    let none = site.operator().run(["audit", "verify", "--checkpoint", nothing]).await?;
    ensure!(none.code == 1, "{none:?}");
    ensure_holds(&none.said, &["no checkpoint of this coordinator's record was found"])?;
    Ok(())
}
