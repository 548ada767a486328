//! Servers that somebody ran before, edits that somebody let stand, and nodes that an apply leaves out: nothing is
//! replaced unless that is said.

use std::{fs, process::Stdio};

use anyhow::{Result, ensure};
use convoy_tests::{
    harness::{FleetDir, LIMIT, Ran, Site, Standing, until},
    pack::Pack,
    standin::Misbehaviour,
};
use tokio::process::{Child, Command};

use crate::small::{CONFIG, Small, common, ensure_holds, is_alive, pid};

/// A running Identity Server with a configuration of its own, an agent beside it, and a directory that declares less.
struct Owned {
    site: Site,
    fleet: FleetDir,
    pack: Pack,
    own: String,
    _server: Child,
}

impl Owned {
    async fn open(more: &str) -> Result<Self> {
        let mut site = Site::open("small").await?;
        let (pack, offset) = (site.pack("is-1", "wso2is-7.2".parse()?)?, site.offset(0));
        let own = common("own").replacen("[server]\n", &format!("[server]\noffset = {offset}\n"), 1) + more;
        fs::write(pack.home.join(CONFIG), &own)?;
        let server = start_by_hand(&pack).await?;
        site.agent("is-1", &pack).await?;
        let fleet = FleetDir::create(&site.path("fleet"))?;
        fleet.write(
            "fleet.toml",
            format!(
                "name = \"small\"\n[service]\nprobe_period = \"1s\"\nprobe_grace = \"30s\"\n[groups.key-manager]\n\
                 product = \"wso2is-7.2\"\nlayers = [\"common\"]\n[groups.key-manager.rollout]\nsoak = \"1s\"\n\
                 min_healthy_time = \"1s\"\n[nodes.is-1]\ngroup = \"key-manager\"\nhost = \"127.0.0.1\"\nhome = {:?}\n\
                 offset = {offset}\n",
                pack.home
            ),
        )?;
        fleet.write("config/common.toml", common("own"))?;
        let owned = Self { site, fleet, pack, own, _server: server };
        let operator = owned.site.operator();
        until("the agent to be connected", LIMIT, async || {
            let status = operator.json(["status"]).await?;
            Ok((status["nodes"][0]["connected"] == true).then_some(()))
        })
        .await?;
        Ok(owned)
    }

    async fn run(&self, words: &[&str]) -> Result<Ran> {
        let all = [words[0].as_ref(), self.fleet.arg()];
        self.site.operator().run(all.into_iter().chain(words[1..].iter().map(|word| word.as_ref()))).await
    }

    fn config_text(&self) -> Result<String> {
        Ok(fs::read_to_string(self.pack.home.join(CONFIG))?)
    }

    fn starts(&self) -> Result<usize> {
        Ok(fs::read_to_string(self.pack.carbon_log())?.matches("WSO2 Carbon started in").count())
    }
}

async fn start_by_hand(pack: &Pack) -> Result<Child> {
    let mut script = Command::new("sh");
    script.arg(pack.script()).env_clear().env("PATH", "/usr/bin:/bin").env("JAVA_HOME", &pack.java_home);
    script.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let child = script.spawn()?;
    until("the server to be up", LIMIT, async || {
        let log = fs::read_to_string(pack.carbon_log()).unwrap_or_default();
        Ok(log.contains("WSO2 Carbon started in").then_some(()))
    })
    .await?;
    Ok(child)
}

fn ensure_ended(ran: &Ran, code: i32, wanted: &[&str]) -> Result<()> {
    let all = format!("{}{}", ran.out, ran.said);
    ensure!(ran.code == code, "it ended with {}, not {code}:\n{all}", ran.code);
    ensure_holds(&all, wanted)
}

#[tokio::test]
async fn what_a_running_server_has_and_nobody_declared_goes_only_if_that_is_said() -> Result<()> {
    let owned = Owned::open(
        "\n[user_store]\ntype = \"database_unique_id\"\n[database.shared_db]\npassword = \"s3cret\"\n",
    )
    .await?;
    let goes =
        ["- user_store.type", "- database.shared_db.password", "what lies on the host now", "keys that go"];
    let plan = owned.run(&["plan"]).await?;
    ensure_ended(&plan, 0, &goes)?;
    ensure!(!plan.out.contains("s3cret"), "the plan shows a secret:\n{}", plan.out);
    ensure_ended(&owned.run(&["plan", "--exit-code"]).await?, 5, &goes)?;

    // Neither a yes to the plan nor silence is a yes to losing them, and nothing was touched.
    ensure_ended(
        &owned.run(&["apply", "--yes", "--wait"]).await?,
        3,
        &["--replace-unmanaged was not given"],
    )?;
    ensure!(owned.config_text()? == owned.own && owned.starts()? == 1, "{}", owned.config_text()?);

    let applied = owned.run(&["apply", "--yes", "--replace-unmanaged", "--wait", "--timeout", "5m"]).await?;
    ensure_ended(&applied, 0, &["1 server restarts", "is done: 1 node ready"])?;
    ensure!(!owned.config_text()?.contains("user_store") && owned.starts()? == 2, "{}", owned.config_text()?);
    ensure_ended(&owned.run(&["plan", "--exit-code"]).await?, 0, &["Nothing changes"])
}

#[tokio::test]
async fn a_running_server_that_means_the_same_is_adopted_and_the_plan_says_so() -> Result<()> {
    let owned = Owned::open("\n# Written by hand, and nothing but this comment is not declared.\n").await?;
    ensure_ended(&owned.run(&["plan"]).await?, 0, &["adopted, no restart", "no server restarts"])?;
    let applied = owned.run(&["apply", "--yes", "--wait", "--timeout", "5m"]).await?;
    ensure_ended(&applied, 0, &["adopted, no restart", "is done"])?;
    ensure!(owned.starts()? == 1, "an adopted server was restarted");
    Ok(())
}

#[tokio::test]
async fn a_first_apply_that_fails_gives_the_server_its_own_files_back_and_says_so() -> Result<()> {
    let owned = Owned::open("\n[user_store]\ntype = \"database_unique_id\"\n").await?;
    let sick =
        Misbehaviour { start_fails_if_toml_contains: Some("poison".to_owned()), ..Misbehaviour::default() };
    owned.pack.misbehave(&sick)?;
    let config = owned.pack.home.join(CONFIG);
    let before = Standing::of(&config)?;
    owned.fleet.write("config/common.toml", common("poison"))?;
    let words = ["apply", "--yes", "--replace-unmanaged", "--wait", "--timeout", "5m"];
    ensure_ended(
        &owned.run(&words).await?,
        1,
        &["Rollout 1 ended as failed", "start-failed", "original files"],
    )?;
    let operator = owned.site.operator();
    let back = until("its server to be up again", LIMIT, async || {
        let node = operator.node("is-1").await?;
        let is_back = Standing::of(&config)? == before && node["report"]["health"]["verdict"] == "healthy";
        Ok(is_back.then_some(node))
    })
    .await?;
    ensure!(is_alive(pid(&back)?), "{back:#}");
    let events = operator.done(["events", "--node", "is-1", "--last", "100"]).await?;
    ensure_holds(&events, &["going back to the original files, and its server is started again"])?;

    // Repaired, it is applied; and what was there comes back whenever somebody wants it.
    owned.fleet.write("config/common.toml", common("better"))?;
    ensure_ended(&owned.run(&words).await?, 0, &["is done: 1 node ready"])?;
    ensure!(!owned.config_text()?.contains("user_store"), "{}", owned.config_text()?);
    let words = ["rollback", "--node", "is-1", "--to", "original", "--yes", "--reason", "as it was"];
    ensure_holds(&operator.done(words).await?, &["are in force again"])?;
    ensure!(Standing::of(&config)? == before, "{}", owned.config_text()?);
    Ok(())
}

/// Edits is-1 by hand and waits until its agent says that the edit stands.
async fn edit(small: &Small, action: &str) -> Result<String> {
    let operator = small.site.operator();
    let edited = small.config_text(0)?.replace("first.example.org", "edited.example.org");
    fs::write(small.config(0), &edited)?;
    if action == "accepted" {
        until("the edit to be accepted", LIMIT, async || {
            Ok((operator.run(["drift", "accept", "is-1", CONFIG]).await?.code == 0).then_some(()))
        })
        .await?;
    }
    until("the edit to be told", LIMIT, async || {
        let node = operator.node("is-1").await?;
        let drift = node["report"]["drift"].as_array().cloned().unwrap_or_default();
        Ok(drift.iter().any(|entry| entry["action"] == action).then_some(()))
    })
    .await?;
    Ok(edited)
}

async fn apply(small: &Small, more: &[&str]) -> Result<Ran> {
    let words = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
    small.site.operator().run(words.into_iter().chain(more.iter().map(|word| word.as_ref()))).await
}

#[tokio::test]
async fn an_edit_that_somebody_lets_stand_is_named_and_replaced_only_if_that_is_said() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    small.ready("is-1").await?;
    let operator = small.site.operator();
    operator.done(["drift", "pause", "is-1", "--reason", "a trial", "--for", "1h"]).await?;
    let edited = edit(&small, "paused").await?;
    small.fleet.write("config/common.toml", common("second"))?;
    let named = [
        "an edit under a pause by admin until",
        "(a trial): server.hostname",
        "is-1: drift enforcement is paused",
    ];
    ensure_ended(&apply(&small, &[]).await?, 3, &named)?;
    ensure!(small.config_text(0)? == edited, "the edit was replaced");
    ensure_ended(&apply(&small, &["--replace-unmanaged"]).await?, 0, &["is done: 2 nodes ready"])?;
    ensure_holds(&small.config_text(0)?, &["second.example.org"])?;
    operator.done(["drift", "resume", "is-1"]).await?;
    Ok(())
}

#[tokio::test]
async fn an_accepted_edit_is_named_and_replaced_only_if_that_is_said() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    small.ready("is-1").await?;
    let operator = small.site.operator();
    // The edit has to stay until it is accepted.
    operator.done(["drift", "pause", "is-1", "--reason", "a trial", "--for", "1h"]).await?;
    let edited = edit(&small, "accepted").await?;
    operator.done(["drift", "resume", "is-1"]).await?;
    small.fleet.write("config/common.toml", common("second"))?;
    ensure_ended(&apply(&small, &[]).await?, 3, &["an edit that was accepted by admin: server.hostname"])?;
    ensure!(small.config_text(0)? == edited, "the edit was replaced");
    ensure_ended(&apply(&small, &["--replace-unmanaged"]).await?, 0, &["is done: 2 nodes ready"])?;
    ensure_holds(&small.config_text(0)?, &["second.example.org"])
}

#[tokio::test]
async fn an_apply_of_one_node_restarts_that_one_and_says_that_the_other_stays() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    let other = pid(&small.ready("is-2").await?)?;
    small.fleet.write("config/common.toml", common("second"))?;
    let applied = apply(&small, &["--node", "is-1"]).await?;
    ensure_ended(&applied, 0, &["is-2 takes no part and stays on revision 1", "is done: 1 node ready"])?;
    ensure_holds(&small.config_text(0)?, &["second.example.org"])?;
    ensure_holds(&small.config_text(1)?, &["first.example.org"])?;
    ensure!(pid(&small.ready("is-2").await?)? == other, "the server of the other node was restarted");
    let status = small.site.operator().done(["status"]).await?;
    ensure_holds(&status, &["is-2", "the apply left it out"])?;

    let refused = apply(&small, &["--node", "is-9"]).await?;
    ensure_ended(&refused, 3, &["the fleet directory has no node is-9"])?;

    // The whole directory brings the rest along.
    ensure_ended(&apply(&small, &[]).await?, 0, &["1 server restarts"])?;
    ensure_holds(&small.config_text(1)?, &["second.example.org"])
}
