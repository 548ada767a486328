//! Rules for single keys of deployment.toml, as operators meet them: what is left to a host stays, and is told.

use std::fs;

use anyhow::{Result, ensure};
use convoy_tests::harness::{LIMIT, until};

use crate::small::{CONFIG, Small, common, ensure_holds};

fn layer(size: u32) -> String {
    format!(
        "{}\n[cache.tuning]\nsize = {size}\n\n[later]\nword = \"declared\"\npassword = \"geheim-1\"\n",
        common("first")
    )
}

#[tokio::test]
async fn a_key_that_is_left_to_the_host_is_kept_and_told_with_both_values() -> Result<()> {
    let small = Small::open().await?;
    let operator = small.site.operator();
    let rules =
        "\n[drift.keys]\n\"later\" = \"report\"\n[groups.key-manager.drift.keys]\n\"cache.*\" = \"ignore\"\n";
    let plain = small.fleet.read("fleet.toml")?;
    small.fleet.write("fleet.toml", format!("{plain}{rules}"))?;
    small.fleet.write("config/common.toml", layer(10))?;
    small.apply().await?;
    small.ready("is-1").await?;

    // 1. Somebody tunes one host, and edits a key that is only reported.
    let edited = small.config_text(0)?.replace("size = 10", "size = 99").replace("\"declared\"", "\"found\"");
    let edited = edited.replace("geheim-1", "geheim-2");
    fs::write(small.config(0), edited)?;
    until("the reported key to be told", LIMIT, async || {
        let status = operator.done(["status"]).await?;
        Ok(status.contains(&format!("{CONFIG} edited")).then_some(()))
    })
    .await?;
    let shown = operator.json(["drift", "show", "is-1"]).await?;
    ensure!(shown["entries"][0]["keys"] == serde_json::json!(["later.password", "later.word"]), "{shown:#}");
    let differences = &shown["differences"];
    ensure!(differences["source"]["kind"] == "now", "{shown:#}");
    let later = serde_json::json!([
        { "key": "later.password", "desired": "********", "found": "********" },
        { "key": "later.word", "desired": "\"declared\"", "found": "\"found\"" },
    ]);
    ensure!(differences["keys"] == later, "{shown:#}");
    let left = serde_json::json!([{ "key": "cache.tuning.size", "desired": "10", "found": "99" }]);
    ensure!(differences["left_to_host"] == left, "{shown:#}");
    let people = operator.done(["drift", "show", "is-1"]).await?;
    ensure!(!format!("{people}{shown}").contains("geheim"), "a secret is shown:\n{people}");
    ensure_holds(&people, &["desired \"declared\"  found \"found\"", "Left to the host by [drift.keys]"])?;

    // 2. The directory declares another value: the plan says who keeps his own, and what needs a yes.
    small.fleet.write("config/common.toml", layer(20))?;
    let plan = operator.json(["plan".as_ref(), small.fleet.arg()]).await?;
    let of =
        |node: &str| plan["nodes"].as_array().into_iter().flatten().find(|it| it["node"] == node).cloned();
    let (first, second) = (of("is-1").unwrap_or_default(), of("is-2").unwrap_or_default());
    ensure!(first["kept"][0]["old"] == "99" && first["kept"][0]["new"] == "20", "{plan:#}");
    ensure!(first["unmanaged"][0]["kind"] == "reported-edit", "{plan:#}");
    ensure!(
        second["keys"][0]["key"] == "cache.tuning.size" && second["kept"] == serde_json::json!([]),
        "{plan:#}"
    );
    let words = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
    ensure!(operator.run(words).await?.code == 3, "a reported edit is replaced without a yes");
    let words = [
        "apply".as_ref(),
        small.fleet.arg(),
        "--yes".as_ref(),
        "--wait".as_ref(),
        "--replace-unmanaged".as_ref(),
    ];
    operator.done(words).await?;
    let (first, second) = (small.config_text(0)?, small.config_text(1)?);
    ensure!(first.contains("size = 99") && first.contains("\"declared\""), "{first}");
    ensure!(second.contains("size = 20"), "{second}");

    // 3. Without the rule the host's value is what nobody declared.
    small.fleet.write("fleet.toml", plain)?;
    let plan = operator.json(["plan".as_ref(), small.fleet.arg()]).await?;
    let lost = plan["nodes"].as_array().into_iter().flatten().find(|it| it["node"] == "is-1").cloned();
    let lost = lost.unwrap_or_default();
    ensure!(lost["unmanaged"][0]["keys"] == serde_json::json!(["cache.tuning.size"]), "{plan:#}");
    Ok(())
}
