//! `agents upgrade`: the operator's command for one node after the other, and the proof of each.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use fleet::foreign::printable;
use tokio::{process::Command, time::Instant};

use super::{confirm, style};
use crate::{
    Session,
    exit::{Exit, Failure},
    render,
    request::Upgrade,
    upgrade::{Proof, held_back, order, proof, unknown},
    view,
};

/// Between two looks at the fleet.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Lines of a command that failed.
const LINES_MAX: usize = 8;

pub(super) async fn upgrade(session: &mut Session, request: &Upgrade) -> Result<Exit, Failure> {
    let status = session.client.status().await?;
    let strangers = unknown(&status, &request.only);
    if !strangers.is_empty() {
        let what = format!("the fleet has no {}", strangers.join(", no "));
        return Err(Failure::failed(what, "`convoy agents list` shows nodes and groups"));
    }
    let newest = session.client.rollouts(1).await?.into_iter().next();
    let nodes: Vec<view::Node> =
        order(&status, newest.as_ref(), &request.only, &request.to).into_iter().cloned().collect();
    let mut outcome = view::Upgraded::new(&request.to, &nodes);
    if nodes.is_empty() {
        session.screen.programs(&outcome);
        session.screen.people(&format!("Every agent is of version {} already.\n", request.to));
        return Ok(Exit::Done);
    }
    session.screen.people(&render::upgrade_order(&nodes, &request.to, style(session)));
    let agents = crate::text::count(nodes.len(), "agent");
    confirm(session, request.confirm, &format!("Upgrade {agents}, one after the other?"))?;
    let mut stopped = None;
    for node in &nodes {
        let begun = Instant::now();
        match one(session, request, node).await {
            Ok(()) => {
                let done = outcome.take(node, begun.elapsed());
                let line = render::agent_upgraded(done, style(session));
                session.screen.people(&line);
            }
            Err(why) => {
                stopped = Some((node, why));
                break;
            }
        }
    }
    let Some((node, why)) = stopped else {
        session.screen.programs(&outcome);
        session.screen.people(&format!("{agents} upgraded to {}.\n", request.to));
        return Ok(Exit::Done);
    };
    outcome.stop(node, &why);
    session.screen.programs(&outcome);
    session.screen.people(&render::upgrade_stopped(&outcome, style(session)));
    Ok(Exit::Failed)
}

/// Upgrades the agent of one node, or says why nothing more is done.
async fn one(session: &mut Session, request: &Upgrade, planned: &view::Node) -> Result<(), String> {
    let before = until_free(session, request, planned).await?;
    if before.agent_version == request.to {
        // Somebody else was faster.
        return Ok(());
    }
    ran("--runner", &request.runner, (request, &before)).await?;
    until_proved(session, request, &before).await?;
    match &request.check {
        Some(check) => ran("--check", check, (request, &before)).await,
        None => Ok(()),
    }
}

/// The node as it is when nothing speaks against it any more.
async fn until_free(
    session: &mut Session,
    request: &Upgrade,
    planned: &view::Node,
) -> Result<view::Node, String> {
    let end = Instant::now() + request.timeout;
    loop {
        let held = match session.client.status().await {
            Ok(status) => match status.nodes.iter().find(|node| node.name == planned.name) {
                None => return Err("the fleet has it no more".to_owned()),
                Some(node) => match held_back(&status, node) {
                    None => return Ok(node.clone()),
                    Some(why) => why,
                },
            },
            Err(failure) => failure.what,
        };
        if end <= Instant::now() {
            return Err(format!("not begun: {held}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn until_proved(session: &mut Session, request: &Upgrade, before: &view::Node) -> Result<(), String> {
    let end = Instant::now() + request.timeout;
    loop {
        let missing = match session.client.status().await {
            Ok(status) => {
                let now = status.nodes.iter().find(|node| node.name == before.name);
                match proof(before, now, &request.to) {
                    Proof::Upgraded => return Ok(()),
                    Proof::Harmed(why) => return Err(why),
                    Proof::NotYet(why) => why,
                }
            }
            Err(failure) => failure.what,
        };
        if end <= Instant::now() {
            return Err(format!("{missing}, {} after --runner ended", fleet::time::Human(request.timeout)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Runs the operator's command for one node. Its end is waited for at most as long as the request says.
async fn ran(option: &str, line: &str, (request, node): (&Upgrade, &view::Node)) -> Result<(), String> {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut command = Command::new(shell);
    command.args([flag, line]).stdin(Stdio::null()).kill_on_drop(true);
    command.env("CONVOY_NODE", &node.name).env("CONVOY_HOST", &node.host);
    command.env("CONVOY_GROUP", &node.group).env("CONVOY_VERSION", &request.to);
    let ended = tokio::time::timeout(request.timeout, command.output()).await;
    match ended {
        Err(_) => {
            let limit = fleet::time::Human(request.timeout);
            Err(format!("{option} did not end within {limit} and was given up; look at the host"))
        }
        Ok(Err(error)) => Err(format!("{option}: {shell} cannot be run: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(format!("{option} ended with {}{}", output.status, last_lines(&output))),
    }
}

fn last_lines(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let lines: Vec<&str> =
        text.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES_MAX)..];
    last.iter().map(|line| format!("\n    {}", printable(line))).collect()
}
