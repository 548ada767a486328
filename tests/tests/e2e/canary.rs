//! Canaries: secrets of every kind go through an apply, drift and a failure while every daemon logs all it can, and are
//! then looked for wherever people, backups or other users of the host could read them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{Agent, LIMIT, Site, until};

use crate::small::{Small, common, ensure_holds, pid};

/// Every canary begins like this; nothing else does.
pub const CANARY: &str = "C4NARY";
const TRACE: &str = "\n[log]\nlevel = \"trace\"\n";
/// The most that a coordinator can log.
const DEBUG: &str = "\n[log]\nlevel = \"debug\"\n";

/// Two Identity Servers whose deployment.toml, environment, hooks and gates hold canaries.
pub async fn open() -> Result<Small> {
    let mut site = Site::open("small").await?;
    site.coordinator.kill().await?;
    site.coordinator.add_settings(DEBUG)?;
    site.coordinator.restart().await?;
    let mut small = Small::open_on(site).await?;
    for agent in &mut small.site.agents {
        agent.kill().await?;
        agent.add_setting(TRACE)?;
        agent.start()?;
    }
    let file = small.site.path("secrets.toml");
    let secrets = "\"db.main\" = \"C4NARY-secret-db\"\n\
                   \"hook.main\" = \"Bearer C4NARY-secret-hook\"\n\"gate.main\" = \"C4NARY-secret-gate\"\n\
                   \"vault.main\" = \"C4NARY-vault\"\n";
    fs::write(&file, secrets)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let operator = small.site.operator();
    operator.done(["secret".as_ref(), "set".as_ref(), "--from".as_ref(), file.as_os_str()]).await?;
    fs::remove_file(file)?;

    let base = "https://localhost:{{ node.port('https') }}";
    let calls = format!(
        "\n[groups.key-manager.vault]\nkeystore_password = \"vault.main\"\n\
         [groups.key-manager.env]\nDB_PASS = \"C4NARY-typed-pass\"\nTICKET_PIN = \"C4NARY-typed-env\"\n\
         [groups.key-manager.hooks.before_stop]\nkind = \"http\"\nmethod = \"POST\"\nurl = \"{base}/none?pin=C4NARY-url\"\n\
         body = \"pin=C4NARY-hook-body\"\non_failure = \"continue\"\n\
         [groups.key-manager.hooks.after_ready]\nkind = \"http\"\nurl = \
         \"{base}/oauth2/token/.well-known/openid-configuration\"\nauthorization = \"{{{{ secret('hook.main') }}}}\"\n\
         [[groups.key-manager.rollout.gates]]\nname = \"token\"\nkind = \"token\"\ntoken_url = \"{base}/oauth2/token\"\n\
         client_id = \"gate\"\nclient_secret = \"{{{{ secret('gate.main') }}}}\"\nurl = \"{base}/standin/api\"\n\
         body = \"pin=C4NARY-gate-body\"\n"
    );
    let plain = small.fleet.read("fleet.toml")?;
    small.fleet.write("fleet.toml", plain + &calls)?;
    small.fleet.write("config/common.toml", layer("first"))?;
    Ok(small)
}

fn layer(word: &str) -> String {
    common(word).replace("hunter2-", "C4NARY-typed-")
        + "\n[database.shared_db]\ntype = \"mysql\"\nusername = \"u\"\npassword = \"{{ secret('db.main') }}\"\n\
           [secrets]\nmail = \"aW4gdGhlIHZhdWx0\"\n[output_adapter.email]\npassword = \"$secret{mail}\"\n"
}

/// A third host joins with everything logged, and its token is the canary.
async fn join(small: &Small) -> Result<String> {
    let site = &small.site;
    let (home, java) = (&small.packs[0].home, &small.packs[0].java_home);
    let agent = Agent::configure(site.programs(), &site.path("joins"), "is-3", home, java)?;
    agent.add_setting(TRACE)?;
    let token = site.operator().json(["token", "create", "--node", "is-3"]).await?;
    let token = token["token"].as_str().context("a token")?.to_owned();
    let (code, said) = agent.enrol_with(&token).await?;
    ensure!(code == 0, "{said}");
    ensure!(!said.contains(&token), "the token is shown:\n{said}");
    Ok(token)
}

/// Apply, a hand edit, the death of an agent, and a gate that fails.
async fn live(small: &mut Small) -> Result<()> {
    small.apply().await?;
    small.fleet.write("config/common.toml", layer("second"))?;
    small.apply().await?;
    let text = small.config_text(0)?;
    ensure_holds(&text, &["C4NARY-secret-db", "C4NARY-typed-second"])?;
    let server = pid(&small.ready("is-1").await?)?;
    let environment = String::from_utf8_lossy(&fs::read(format!("/proc/{server}/environ"))?).into_owned();
    ensure_holds(&environment, &["C4NARY-typed-pass", "C4NARY-typed-env"])?;

    fs::write(
        small.config(0),
        text.clone() + "\n[database.other_db]\npassword = \"C4NARY-edit\"\nbroken = \"C4NARY-line\n",
    )?;
    until("the edit to be undone", LIMIT, async || Ok((small.config_text(0)? == text).then_some(()))).await?;
    // An agent that dies between the deed and the word of it has nothing to tell.
    let operator = small.site.operator();
    until("that to be told", LIMIT, async || {
        let events = operator.done(["events", "--last", "1000"]).await?;
        Ok(events.contains("restored").then_some(()))
    })
    .await?;
    small.site.agents[0].kill().await?;
    small.site.agents[0].start()?;
    small.ready("is-1").await?;

    let good = small.fleet.read("fleet.toml")?;
    small.fleet.write("fleet.toml", good + "contains = \"C4NARY-contains\"\ntries = 1\n")?;
    small.fleet.write("config/common.toml", layer("third"))?;
    let words = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
    let ran = small.site.operator().run(words).await?;
    ensure!(ran.code == 1, "{ran:?}");
    ensure!(!ran.said.contains(CANARY), "{ran:?}");
    small.ready("is-1").await?;
    vault_is_cleared(small)
}

/// The password of the vault went through a file of the home at every launch.
fn vault_is_cleared(small: &Small) -> Result<()> {
    for pack in &small.packs {
        for entry in fs::read_dir(&pack.home)? {
            let path = entry?.path();
            let holds = path.is_file() && finds(&fs::read(&path)?, b"C4NARY-vault").is_some();
            ensure!(!holds, "{} still holds the password of the vault", path.display());
        }
    }
    Ok(())
}

/// Everything that could show a secret, by what it is.
async fn seen(small: &Small) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut seen = BTreeMap::new();
    let operator = small.site.operator();
    let events = operator.done(["events", "--last", "1000"]).await?;
    let wanted =
        ["gate token passed", "gate token failed", "does not hold the text of `contains`", "restored"];
    ensure_holds(&events, &wanted)?;
    seen.insert("events".to_owned(), events.into_bytes());
    for words in [
        &["events", "--last", "1000", "--json"] as &[&str],
        &["status"],
        &["status", "--json"],
        &["node", "show", "is-1"],
        &["node", "show", "is-1", "--json"],
        &["rollout", "show"],
        &["drift", "list"],
        &["secret", "list"],
    ] {
        seen.insert(words.join(" "), operator.run(words).await?.said.into_bytes());
    }
    let plan = ["plan".as_ref(), small.fleet.arg(), "--diff".as_ref()];
    seen.insert("plan".to_owned(), operator.run(plan).await?.said.into_bytes());
    seen.insert("coordinator.log".to_owned(), fs::read(small.site.path("coordinator/coordinator.log"))?);
    below(&small.site.coordinator.data_dir(), &mut seen)?;
    for agent in &small.site.agents {
        seen.insert(format!("log of {}", agent.node), agent.log().into_bytes());
    }
    Ok(seen)
}

/// Every file of a directory: what a backup of it holds.
fn below(folder: &Path, seen: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                seen.insert(path.display().to_string(), fs::read(path)?);
            }
        }
    }
    Ok(())
}

fn finds(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[tokio::test]
async fn no_canary_is_found_anywhere() -> Result<()> {
    let mut small = open().await?;
    let token = join(&small).await?;
    live(&mut small).await?;

    let seen = seen(&small).await?;
    for (log, level) in [("coordinator.log", "INFO"), ("log of is-1", "TRACE"), ("log of is-2", "TRACE")] {
        ensure!(finds(&seen[log], level.as_bytes()).is_some(), "{log} has no lines of {level}");
    }
    for (what, text) in &seen {
        for canary in [CANARY, &token] {
            if let Some(at) = finds(text, canary.as_bytes()) {
                let around = &text[at.saturating_sub(300)..text.len().min(at + 100)];
                anyhow::bail!("{what} shows a secret: {}", String::from_utf8_lossy(around));
            }
        }
    }
    println!(
        "canaries found: 0, in {} places of {} bytes",
        seen.len(),
        seen.values().map(Vec::len).sum::<usize>()
    );

    let daemons = small.site.agents.iter().map(|agent| agent.daemon.as_ref());
    for daemon in daemons.chain([small.site.coordinator.daemon.as_ref()]) {
        let pid = daemon.and_then(|daemon| daemon.pid()).context("it runs")?;
        for file in ["environ", "cmdline"] {
            let text = fs::read(format!("/proc/{pid}/{file}"))?;
            ensure!(finds(&text, CANARY.as_bytes()).is_none(), "{}", String::from_utf8_lossy(&text));
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("a limit")?;
        ensure!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    }
    Ok(())
}
