//! Carries out what was planned, one thing after the other, and stops at the first that fails. A second run goes on there.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use fleet::preflight::Outcome;
use tokio::{process::Command, time::Instant};

use super::{
    Asked, State, Teller,
    found::UNIT,
    plan::{ConfigStep, DropInStep, EnrolmentStep, Plan, UnitStep},
};
use crate::{config::Config, doctor, door, identity::Store, link, wall_clock};

/// What is enabled. The second one has the server stopped when the host shuts down.
pub(super) const UNITS: [&str; 2] = [UNIT, "convoy-server.service"];
/// For an agent that was just started to be connected.
const CONNECT_TIME: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// Where set-up says as whom the unit runs.
pub(super) fn drop_in_path(root: &Path) -> PathBuf {
    root.join("etc/systemd/system/convoy-agent.service.d/10-setup.conf")
}

/// Does everything that is not so already.
pub(super) async fn carry_out(plan: &Plan, asked: &Asked, teller: &mut Teller<'_>) -> io::Result<()> {
    let Some(config) = configure(plan, asked, teller)? else { return Ok(()) };
    if !enrol(plan, asked, teller).await? || !own(plan, asked, teller)? {
        return Ok(());
    }
    if !examine(&config, teller).await? {
        return Ok(());
    }
    if start(plan, teller).await? {
        wait(&config, asked, plan, teller).await?;
    }
    Ok(())
}

/// The configuration as it is in force afterwards; nothing if that failed.
fn configure(plan: &Plan, asked: &Asked, teller: &mut Teller<'_>) -> io::Result<Option<Config>> {
    let path = &asked.config;
    let shown = path.display();
    let (state, done) = match &plan.config {
        ConfigStep::Keep => (State::Kept, Ok(())),
        ConfigStep::Write(text) | ConfigStep::Complete(text) => (State::Done, replace(path, text)),
    };
    let read = done.map_err(|error| format!("cannot write {shown}: {error}"));
    let read = read.and_then(|()| Config::read(path).map_err(|error| crate::chain(&error)));
    match read {
        Ok(config) => {
            teller.tell(state, "config", shown.to_string())?;
            Ok(Some(config))
        }
        Err(why) => {
            teller.tell(State::Failed, "config", why)?;
            Ok(None)
        }
    }
}

/// A file that everybody may read, whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut staged = tempfile::Builder::new().prefix(".convoy-").tempfile_in(dir)?;
    staged.write_all(text.as_bytes())?;
    staged.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    staged.as_file().sync_all()?;
    staged.persist(path).map_err(|error| error.error)?;
    Ok(())
}

async fn enrol(plan: &Plan, asked: &Asked, teller: &mut Teller<'_>) -> io::Result<bool> {
    let (node, token) = match (&plan.enrolment, &asked.token) {
        (EnrolmentStep::Enrol { node }, Some(token)) => (node, token),
        (EnrolmentStep::Keep { node }, _) => {
            teller.tell(State::Kept, "enrolment", format!("joined as {node}"))?;
            return Ok(true);
        }
        // Refused before anything was done.
        (EnrolmentStep::Enrol { .. } | EnrolmentStep::NeedsToken { .. }, _) => return Ok(false),
    };
    let address = asked.coordinator.as_deref().unwrap_or(&token.address);
    let kept =
        make_data_dir(plan).map_err(|error| format!("cannot use {}: {error}", plan.data_dir.display()));
    let joined = match kept {
        Ok(()) => {
            // The file is written by now, and says so if there is a proxy.
            let proxy = Config::read(&asked.config).ok().and_then(|config| config.proxy);
            let way = (address, link::network(proxy.as_deref()));
            let joined = link::enroll(token, way, &Store::of(&plan.data_dir, wall_clock)).await;
            joined.map_err(|error| crate::chain(&error))
        }
        Err(why) => Err(why),
    };
    match joined {
        Ok(()) => teller.tell(State::Done, "enrolment", format!("joined as {node} at {address}"))?,
        Err(why) => teller.tell(State::Failed, "enrolment", why)?,
    }
    Ok(!teller.has_failed())
}

/// Of the agent's user from the beginning, so that what root writes into it is the agent's.
fn make_data_dir(plan: &Plan) -> io::Result<()> {
    if plan.data_dir.exists() {
        return Ok(());
    }
    crate::private::create_dir(&plan.data_dir)?;
    let owner = &plan.home.owner;
    if owner.user_id == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    chown(&plan.data_dir, Some(owner.user_id), Some(owner.group_id))
}

fn own(plan: &Plan, asked: &Asked, teller: &mut Teller<'_>) -> io::Result<bool> {
    let DropInStep::Write(text) = &plan.drop_in else { return Ok(true) };
    let path = drop_in_path(&asked.root);
    match replace(&path, text) {
        Ok(()) => {
            teller.tell(State::Done, "drop-in", format!("{}: as {}", path.display(), plan.home.owner))?;
        }
        Err(error) => {
            teller.tell(State::Failed, "drop-in", format!("cannot write {}: {error}", path.display()))?;
        }
    }
    Ok(!teller.has_failed())
}

/// What stands in the way of a server, before anything is started.
async fn examine(config: &Config, teller: &mut Teller<'_>) -> io::Result<bool> {
    let checks = doctor::look(config, doctor::Logins::AsDeclared).await;
    let (mut failed, mut warned) = (0, 0);
    for check in &checks {
        let subject = format!("{} {}", check.name, check.subject);
        match &check.outcome {
            Outcome::Pass(_) | Outcome::Skipped(_) => {}
            Outcome::Warn { why, remedy } => {
                warned += 1;
                teller.tell(State::Note, "doctor", format!("{}: {why} -> {remedy}", subject.trim_end()))?;
            }
            Outcome::Fail { why, remedy, .. } => {
                failed += 1;
                teller.tell(State::Failed, "doctor", format!("{}: {why} -> {remedy}", subject.trim_end()))?;
            }
        }
    }
    if failed == 0 {
        teller.tell(State::Kept, "doctor", format!("{} checks, {warned} warnings", checks.len()))?;
    }
    Ok(failed == 0)
}

/// Whether somebody runs the agent now.
async fn start(plan: &Plan, teller: &mut Teller<'_>) -> io::Result<bool> {
    let mut calls: Vec<Vec<&str>> = Vec::new();
    let told = match plan.unit {
        UnitStep::NoSystemd => return Ok(true),
        UnitStep::Keep => {
            teller.tell(State::Kept, "unit", "enabled, and the agent runs")?;
            return Ok(true);
        }
        UnitStep::Start => {
            calls.push([vec!["enable", "--now"], UNITS.to_vec()].concat());
            "enabled and started"
        }
        UnitStep::Restart => {
            calls.push([vec!["enable", "--now"], UNITS.to_vec()].concat());
            calls.push(vec!["restart", UNIT]);
            "enabled, and the agent restarted; its server goes on"
        }
    };
    if plan.drop_in != DropInStep::Keep {
        calls.insert(0, vec!["daemon-reload"]);
    }
    for call in calls {
        if let Err(why) = systemctl(&call).await {
            let hint = format!("journalctl --unit {UNIT} says more");
            teller.tell(State::Failed, "unit", format!("systemctl {}: {why}; {hint}", call.join(" ")))?;
            return Ok(false);
        }
    }
    teller.tell(State::Done, "unit", told)?;
    Ok(true)
}

async fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new("systemctl").args(arguments).output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("it failed").to_owned())
}

/// Until the agent says that it is connected. Without systemd nobody was started, so one look is enough.
async fn wait(config: &Config, asked: &Asked, plan: &Plan, teller: &mut Teller<'_>) -> io::Result<()> {
    let until = Instant::now() + CONNECT_TIME;
    let by_hand = plan.unit == UnitStep::NoSystemd;
    loop {
        let why = match door::link_state(config).await {
            Ok(door::Linked::Connected(told)) => {
                let state = if plan.is_empty() || by_hand { State::Kept } else { State::Done };
                return teller.tell(state, "link", told);
            }
            Ok(door::Linked::Not(why)) => why,
            Err(error) if by_hand => {
                let start = format!("convoy-agent --config {}", asked.config.display());
                let told = format!("no systemd here, and no agent runs; start it: {start}");
                tracing::debug!(error = %crate::chain(&error), "Nobody is at the door");
                return teller.tell(State::Skipped, "unit", told);
            }
            Err(error) => crate::chain(&error),
        };
        if until <= Instant::now() {
            let seconds = CONNECT_TIME.as_secs();
            let told = format!("not connected after {seconds} s: {why}; journalctl --unit {UNIT} says more");
            return teller.tell(State::Failed, "link", told);
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}
