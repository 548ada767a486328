//! `convoy rollback`: to what it goes without a number, and what it says when it leaves a node down.

use anyhow::{Result, ensure};
use convoy_tests::{
    harness::{LIMIT, until},
    standin::Misbehaviour,
};

use crate::small::{NODES, Small, common, ensure_holds};

/// A server that does not start with a configuration that has this word in it.
fn refusing(word: &str) -> Misbehaviour {
    Misbehaviour { start_fails_if_toml_contains: Some(word.to_owned()), ..Misbehaviour::default() }
}

/// `convoy apply` of a layer with this word: how it ended.
async fn apply(small: &Small, word: &str) -> Result<i32> {
    small.fleet.write("config/common.toml", common(word))?;
    let words = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
    Ok(small.site.operator().run(words).await?.code)
}

#[tokio::test]
async fn going_back_skips_what_never_was_healthy_and_says_when_it_leaves_a_node_down() -> Result<()> {
    let small = Small::open().await?;
    let operator = small.site.operator();
    for pack in &small.packs {
        pack.misbehave(&refusing("poison"))?;
    }
    for (word, code) in [("first", 0), ("second", 0), ("poison", 1), ("fourth", 0)] {
        let ended = apply(&small, word).await?;
        ensure!(ended == code, "the apply of {word} ended with {ended}");
    }

    // The revision before failed on is-1, so the one before that is meant.
    let back = ["rollback", "--yes", "--wait", "--timeout", "5m", "--reason", "the fourth is slow"];
    let said = operator.done(back).await?;
    ensure_holds(&said, &["is done"])?;
    for index in 0..NODES.len() {
        ensure_holds(&small.config_text(index)?, &["second.example.org"])?;
    }

    // What was healthy once does not start any more.
    small.packs[0].misbehave(&refusing("first"))?;
    let words = ["rollback", "1", "--yes", "--wait", "--timeout", "5m", "--reason", "further back"];
    let ran = operator.run(words).await?;
    let said = format!("{}{}", ran.out, ran.said);
    ensure!(ran.code == 1, "it ended with {}, although is-1 does not start:\n{said}", ran.code);
    ensure_holds(&said, &["is-1"])?;
    ensure!(!said.contains("is done"), "{said}");
    // One node at a time: the other was not touched.
    ensure_holds(&small.config_text(1)?, &["second.example.org"])?;
    until("the status to name is-1", LIMIT, async || {
        let status = operator.done(["status"]).await?;
        Ok((!status.contains("all 2 nodes ready") && status.contains("is-1")).then_some(()))
    })
    .await
}
