//! Hooks of servers behind a real NGINX: the agent that looks after it takes members out and puts them back.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{LIMIT, until};

use crate::{
    balancer::CLIENT,
    managed_balancer::{Fronted, all_changed_under_load, words_of},
    small::{common, ensure_holds, pid},
};

/// Names of the files that say which members are out.
fn out_files(front: &Fronted) -> BTreeSet<String> {
    let listed = fs::read_dir(front.home.join("convoy.out"));
    let names = listed.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn second_upstream(front: &Fronted) -> String {
    fs::read_to_string(front.home.join("convoy.out/identity.upstream")).unwrap_or_default()
}

async fn state(front: &Fronted, node: &str, wanted: &str) -> Result<()> {
    let operator = front.small.site.operator();
    until(&format!("{node} to be {wanted}"), LIMIT, async || {
        let Ok(seen) = operator.node(node).await else { return Ok(None) };
        Ok((seen["state"] == wanted).then_some(()))
    })
    .await
}

/// What clients keep open, NGINX closes at a reload; like all HTTP clients they send such a request again.
#[tokio::test]
async fn with_hooks_a_rollout_behind_nginx_loses_no_request() -> Result<()> {
    let Some(front) = Fronted::open("nginx", true).await? else { return Ok(()) };
    let (answered, failed) = all_changed_under_load(&front, &CLIENT.resending()).await?;
    ensure!(failed == 0, "{failed} requests failed, {answered} were answered");
    let events = front.events().await?;
    ensure_holds(&events, &["before_stop: NGINX", "no old worker left", "after_ready: NGINX"])?;
    for word in ["hook-failed", "was edited"] {
        ensure!(!events.contains(word), "{word}: {events}");
    }
    ensure!(out_files(&front).is_empty(), "{:?}", out_files(&front));
    Ok(())
}

#[tokio::test]
async fn without_hooks_the_same_rollout_behind_nginx_loses_requests() -> Result<()> {
    let Some(front) = Fronted::open("nginx", false).await? else { return Ok(()) };
    let (answered, failed) = all_changed_under_load(&front, &CLIENT.resending()).await?;
    ensure!(0 < failed, "{answered} requests were answered and none failed: the other test proves nothing");
    Ok(())
}

#[tokio::test]
async fn a_member_that_is_out_stays_out_until_its_server_is_back_whoever_dies_or_reloads() -> Result<()> {
    let Some(mut front) = Fronted::open("nginx", true).await? else { return Ok(()) };
    front.first_apply().await?;
    front.small.ready("lb-1").await?;
    let operator = front.small.site.operator();
    operator.done(["node", "stop", "is-1", "--yes", "--reason", "disk"]).await?;
    state(&front, "is-1", "stopped").await?;
    ensure!(second_upstream(&front).contains(" down; # is-1\n"), "{}", second_upstream(&front));

    // Its file is not drift, and the next file of the balancer keeps it out.
    let fleet = front.small.fleet.read("fleet.toml")?;
    front.small.fleet.write("fleet.toml", fleet.replace("sticky = \"none\"", "sticky = \"address\""))?;
    let ran = operator.run(words_of(&front)).await?;
    ensure!(ran.code == 0, "{}{}", ran.out, ran.said);
    front.told("reloaded with the files of generation 2").await?;
    let second = second_upstream(&front);
    ensure_holds(&second, &["ip_hash;", " down; # is-1\n"])?;
    ensure!(!second.contains("down; # is-2"), "{second}");

    // Neither agent remembers it in vain.
    let (code, said) = front.small.site.agent_of("lb-1").doctor().await?;
    ensure!(code == 0, "{said}");
    ensure_holds(&said, &["hooks are answered; 1 members are out of service"])?;
    for node in ["lb-1", "is-1"] {
        let agent = front.small.site.agent_of(node);
        agent.kill().await?;
        agent.start()?;
    }
    front.small.ready("lb-1").await?;
    operator.done(["node", "start", "is-1", "--yes"]).await?;
    front.small.ready("is-1").await?;
    ensure!(out_files(&front).is_empty(), "{:?}", out_files(&front));
    let events = front.events().await?;
    for word in ["hook-failed", "was edited"] {
        ensure!(!events.contains(word), "{word}: {events}");
    }
    Ok(())
}

#[tokio::test]
async fn an_nginx_that_does_not_take_a_member_out_says_why_and_the_server_is_left_alone() -> Result<()> {
    let Some(front) = Fronted::open("nginx", true).await? else { return Ok(()) };
    front.first_apply().await?;
    front.small.ready("lb-1").await?;
    let before = pid(&front.small.ready("is-1").await?)?;
    let fleet = front.small.fleet.read("fleet.toml")?;
    let main = front.home.join("nginx.conf");
    let whole = fs::read_to_string(&main)?;
    let pid_file = front.home.join("nginx.pid");
    let master = fs::read_to_string(&pid_file)?;
    let refused = async |word: &str, told: &[&str]| -> Result<()> {
        front.small.fleet.write("config/common.toml", common(word))?;
        let ran = front.small.site.operator().run(words_of(&front)).await?;
        ensure!(ran.code != 0, "applied: {}", ran.out);
        for words in told {
            front.told(words).await?;
        }
        ensure!(out_files(&front).is_empty(), "{:?}", out_files(&front));
        // Nothing has changed, so nothing has to be put back.
        ensure!(pid(&front.small.ready("is-1").await?)? == before, "is-1 was restarted");
        front.served().await
    };

    // Somebody has broken what includes the file.
    fs::write(&main, whole.replace("access_log off;", "acces_log off;"))?;
    let line = format!("unknown directive \"acces_log\" in {}:7; nothing has changed", main.display());
    refused("second", &["before_stop failed", &line]).await?;
    fs::write(&main, &whole)?;

    // Nobody knows where its master process is.
    fs::write(&pid_file, "4194304\n")?;
    refused("third", &["NGINX does not run, so nobody was told; start it, or correct"]).await?;
    fs::write(&pid_file, &master)?;

    // Two names that are not there.
    let wrong = fleet.replace("upstream = \"identity\"", "upstream = \"identiy\"");
    front.small.fleet.write("fleet.toml", &wrong)?;
    refused("fourth", &["has no upstream identiy whose members can be taken out (it has: identity)"]).await?;
    let wrong = fleet.replace("upstream = \"identity\"", "upstream = \"identity\"\nserver = \"is-9\"");
    front.small.fleet.write("fleet.toml", &wrong)?;
    refused("fifth", &["has no member is-9 (it has: is-1, is-2)"]).await?;

    // And all is well again.
    front.small.fleet.write("fleet.toml", &fleet)?;
    front.small.apply().await?;
    let after = pid(&front.small.ready("is-1").await?)?;
    ensure!(after != before, "is-1 was not restarted");
    let alive = Command::new("kill").args(["-0", master.trim()]).status().context("kill")?;
    ensure!(alive.success(), "another master");
    Ok(())
}
